//! The part of a combiner that all layouts have in common.

use crate::LayoutOptions;
use anemll_plugin_api::data::{
    CombineOptions, Layout, LayoutRequest, ModelDescription, NamedFunction, Stage,
};
use anemll_plugin_api::{Combiner, ComponentOptions, Host, Result, no_such_component};

/// Lays a model out.
pub type LayoutFunction = fn(&ModelDescription, &LayoutOptions) -> Result<Layout>;

/// A combiner that differs from others in its layout only.
#[derive(Debug, Clone)]
pub struct LayoutCombiner {
    layout: LayoutFunction,
    options: ComponentOptions,
}

impl LayoutCombiner {
    /// The combiner of a plugin that has just one, `own`, with the options that it was given.
    ///
    /// # Errors
    /// [`anemll_plugin_api::codes::PLUGIN_NO_SUCH_COMPONENT`] for another id.
    pub fn boxed(
        id: &str,
        own: &str,
        options: &ComponentOptions,
        layout: LayoutFunction,
    ) -> Result<Box<dyn Combiner>> {
        if id == own {
            Ok(Box::new(Self { layout, options: options.clone() }))
        } else {
            Err(no_such_component(Stage::Combiner, id))
        }
    }
}

impl Combiner for LayoutCombiner {
    fn layout(&self, model: &ModelDescription, request: &LayoutRequest) -> Result<Layout> {
        (self.layout)(model, &LayoutOptions::new(&self.options, request)?)
    }

    fn combine(
        &self,
        functions: &[NamedFunction<'_>],
        options: &CombineOptions,
        host: &Host,
    ) -> Result<Vec<u8>> {
        crate::combine(functions, options, host)
    }
}
