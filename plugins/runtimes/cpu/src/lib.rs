//! Runtime that executes ML Programs on any CPU, from packages and from compiled models.
//!
//! A model's functions are planned once (`plan`) and run step by step. Values of fp16 are
//! stored as fp16 and rounded to it after every operation, as the packages say; the arithmetic
//! inside an operation is f32, but for products of packed weights, which are computed in whole numbers
//! (`fixed`) unless the option `exact` is set. The option `activations` = `float32` leaves the rounding out:
//! float16 values, states and outputs are then f32, and inputs may be. Weights are read by position when a
//! function that uses them is first prepared. Palettized ones stay as they are stored, and are looked up in
//! registers (`packed`). Where the processor or the weight's form has no fast way to do so, they are decoded
//! a few rows at a time for the first runs; a function that is run more often has them rounded to whole
//! numbers, or decoded, once per blob. The states of a model are shared by its functions, by name.
//!
//! What a decoder repeats in every layer, as attention over its cache, runs as one step (`chains`); what
//! several layers compute alike runs once (`same`).
//!
//! To add an operation: one entry in the list of a family in `kernels`.

mod chains;
mod constant;
mod element;
mod failure;
mod fixed;
mod interface;
mod kernels;
mod layout;
mod lookup;
mod packed;
mod plan;
mod rounded;
mod same;
mod session;
mod shelf;
mod simd;
mod source;
mod storage;
mod tensor;
#[cfg(test)]
mod testing;
mod walk;
mod wide;
mod workers;

use anemll_plugin_api::data::{Availability, Stage};
use anemll_plugin_api::{
    ComponentOptions, Host, Plugin, Result, Runtime, Session, no_such_component,
};
use std::path::Path;
use std::sync::Arc;

/// The runtime's id.
pub const ID: &str = "cpu";

/// The option that says how values declared as float16 are kept.
const ACTIVATIONS: &str = "activations";

/// The option that says whether products of packed weights are computed in f32.
const EXACT: &str = "exact";

/// The runtime.
#[derive(Debug, Clone, Default)]
pub struct CpuRuntime {
    arithmetic: session::Arithmetic,
    /// Weights of all packages that it opened.
    shelf: Arc<shelf::Shelf>,
}

impl Runtime for CpuRuntime {
    fn check(&self) -> Result<Availability> {
        Ok(Availability::yes("runs on every processor"))
    }

    fn open(&self, package: &Path, host: &Host) -> Result<Box<dyn Session>> {
        Ok(Box::new(session::CpuSession::open(package, self.arithmetic, &self.shelf, host)?))
    }
}

/// The plugin with this runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct CpuPlugin;

impl Plugin for CpuPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn runtime(id: &str, options: &ComponentOptions) -> Result<Box<dyn Runtime>> {
        if id != ID {
            return Err(no_such_component(Stage::Runtime, id));
        }
        let wide = match options.string(ACTIVATIONS)? {
            None | Some("float16") => false,
            Some("float32") => true,
            Some(_) => return Err(options.refuse(ACTIVATIONS, "\"float16\" or \"float32\"")),
        };
        // Who keeps values unrounded wants to see them as they are.
        let exact = wide || options.boolean(EXACT)?.unwrap_or(false);
        let arithmetic = session::Arithmetic { wide, exact };
        Ok(Box::new(CpuRuntime { arithmetic, ..CpuRuntime::default() }))
    }
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(CpuPlugin);
