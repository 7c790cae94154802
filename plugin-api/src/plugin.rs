//! What a plugin author implements once per plugin.

use serde_json::Value;

use crate::data::Stage;
use crate::{ArchFrontend, Combiner, Compiler, Error, Quantizer, Result, Runtime, codes};

/// A plugin: its manifest, and how its components are made.
///
/// Each constructor is given the id of a component and its options, an object that suits the
/// manifest's schema with all defaults filled in.
pub trait Plugin: 'static {
    /// The manifest as JSON; see [`crate::data::Manifest`]. Usually
    /// `include_str!("../anemll-plugin.json")`.
    const MANIFEST: &'static str;

    /// Makes an arch frontend.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NO_SUCH_COMPONENT`] for an unknown id.
    fn arch_frontend(id: &str, options: &Value) -> Result<Box<dyn ArchFrontend>> {
        let _ = options;
        Err(no_such_component(Stage::Arch, id))
    }

    /// Makes a quantizer.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NO_SUCH_COMPONENT`] for an unknown id.
    fn quantizer(id: &str, options: &Value) -> Result<Box<dyn Quantizer>> {
        let _ = options;
        Err(no_such_component(Stage::Quantizer, id))
    }

    /// Makes a combiner.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NO_SUCH_COMPONENT`] for an unknown id.
    fn combiner(id: &str, options: &Value) -> Result<Box<dyn Combiner>> {
        let _ = options;
        Err(no_such_component(Stage::Combiner, id))
    }

    /// Makes a compiler backend.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NO_SUCH_COMPONENT`] for an unknown id.
    fn compiler(id: &str, options: &Value) -> Result<Box<dyn Compiler>> {
        let _ = options;
        Err(no_such_component(Stage::Compiler, id))
    }

    /// Makes a runtime.
    ///
    /// # Errors
    /// [`codes::PLUGIN_NO_SUCH_COMPONENT`] for an unknown id.
    fn runtime(id: &str, options: &Value) -> Result<Box<dyn Runtime>> {
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
