//! What a plugin author implements once per plugin.

use crate::data::Stage;
use crate::{
    ArchFrontend, Combiner, Compiler, ComponentOptions, Error, Quantizer, Result, Runtime, codes,
};

/// A plugin: its manifest, and how its components are made.
///
/// Each constructor is given the id of a component and its options, which suit the manifest's schema
/// and have all defaults filled in. This is the one way for options into a component.
pub trait Plugin: 'static {
    /// The manifest as JSON; see [`crate::data::Manifest`]. Usually
    /// `include_str!("../anemll-plugin.json")`.
    const MANIFEST: &'static str;

    /// Makes an arch frontend.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NO_SUCH_COMPONENT`] for an unknown id.
    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        let _ = options;
        Err(no_such_component(Stage::Arch, id))
    }

    /// Makes a quantizer.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NO_SUCH_COMPONENT`] for an unknown id.
    fn quantizer(id: &str, options: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        let _ = options;
        Err(no_such_component(Stage::Quantizer, id))
    }

    /// Makes a combiner.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NO_SUCH_COMPONENT`] for an unknown id.
    fn combiner(id: &str, options: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        let _ = options;
        Err(no_such_component(Stage::Combiner, id))
    }

    /// Makes a compiler backend.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NO_SUCH_COMPONENT`] for an unknown id.
    fn compiler(id: &str, options: &ComponentOptions) -> Result<Box<dyn Compiler>> {
        let _ = options;
        Err(no_such_component(Stage::Compiler, id))
    }

    /// Makes a runtime.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NO_SUCH_COMPONENT`] for an unknown id.
    fn runtime(id: &str, options: &ComponentOptions) -> Result<Box<dyn Runtime>> {
        let _ = options;
        Err(no_such_component(Stage::Runtime, id))
    }
}

/// The error of a constructor that does not know an id.
pub fn no_such_component(stage: Stage, id: &str) -> Error {
    Error::new(
        codes::PLUGIN_NO_SUCH_COMPONENT,
        format!("the plugin has no {stage} component with the id `{id}`"),
    )
}
