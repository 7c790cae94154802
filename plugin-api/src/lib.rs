//! All that an anemll plugin author needs: the five stage traits, the manifest, the exporting macro.
//!
//! A conversion passes five stages, and each is a trait that plugins implement:
//!
//! | stage | trait | what it does |
//! |---|---|---|
//! | `arch` | [`ArchFrontend`], [`ArchModel`] | turns a Hugging Face configuration into ML Program functions |
//! | `quantizer` | [`Quantizer`] | decides how each weight is stored, and stores it |
//! | `combiner` | [`Combiner`] | lays out packages, and joins functions into one |
//! | `compiler` | [`Compiler`] | compiles a package for deployment |
//! | `runtime` | [`Runtime`], [`Session`] | executes packages |
//!
//! # A plugin
//!
//! `anemll plugin new NAME --stage STAGE` makes a workspace with a plugin that works, which is the
//! quickest way to begin; this is what is in it.
//!
//! The logic is an ordinary library crate, which can be tested as such. It implements one or more of
//! the traits, and [`Plugin`], which holds the manifest and makes components by id:
//!
//! ```
//! use anemll_plugin_api::data::{
//!     FunctionSpec, MatchRank, ModelDescription, ModelInput, Refusal, Stage, Verdict,
//! };
//! use anemll_plugin_api::{
//!     ArchFrontend, ArchModel, ComponentOptions, Error, Host, LoadedPlugin, Plugin, Result, Value,
//!     codes, no_such_component, testing,
//! };
//!
//! struct Tiny;
//!
//! struct TinyModel {
//!     context: u64,
//!     batch: u64,
//! }
//!
//! /// Whatever cannot be honoured is refused by key, before a weight is touched.
//! fn refusals(config: &Value) -> Vec<Refusal> {
//!     match &config["sliding_window"] {
//!         Value::Null => Vec::new(),
//!         window => vec![Refusal::new(
//!             codes::CONFIG_KEY_UNSUPPORTED,
//!             "sliding_window",
//!             format!("`sliding_window` = {window}: attention is over the whole context here"),
//!         )],
//!     }
//! }
//!
//! impl ArchFrontend for Tiny {
//!     fn accepts(&self, config_json: &str) -> Result<Verdict> {
//!         let config: Value = serde_json::from_str(config_json)
//!             .map_err(|error| Error::new(codes::CONFIG_UNREADABLE, error.to_string()))?;
//!         if config["model_type"] != "tiny" {
//!             return Ok(Verdict::none("not a tiny model"));
//!         }
//!         let verdict = Verdict::new(MatchRank::ModelType, "model_type is tiny");
//!         Ok(verdict.with_refusals(refusals(&config)))
//!     }
//!
//!     fn open(&self, model: &ModelInput, _: &Host) -> Result<Box<dyn ArchModel>> {
//!         match Refusal::to_error(&refusals(&model.config)) {
//!             Some(refused) => Err(refused),
//!             None => Ok(Box::new(TinyModel { context: model.context, batch: model.batch })),
//!         }
//!     }
//! }
//!
//! impl ArchModel for TinyModel {
//!     fn describe(&self) -> ModelDescription {
//!         ModelDescription::default()
//!             .with_model_type("tiny")
//!             .with_context(self.context)
//!             .with_batch(self.batch)
//!     }
//!
//!     fn lower(&self, function: &FunctionSpec, host: &Host) -> Result<Vec<u8>> {
//!         host.progress(&function.id, 0, 1)?;
//!         // A serialized `CoreML.Specification.Model`, its weights by reference, would stand here.
//!         Err(Error::new(codes::NOT_YET_SUPPORTED, "the tiny frontend has no graph yet"))
//!     }
//! }
//!
//! pub struct TinyPlugin;
//!
//! impl Plugin for TinyPlugin {
//!     const MANIFEST: &'static str = r#"{
//!         "name": "tiny", "version": "0.1.0", "abi": 1, "license": "MIT",
//!         "components": [{
//!             "stage": "arch", "id": "tiny", "model_types": ["tiny"],
//!             "summary": "Models of the tiny family"
//!         }]
//!     }"#;
//!
//!     fn arch_frontend(id: &str, _: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
//!         match id {
//!             "tiny" => Ok(Box::new(Tiny)),
//!             _ => Err(no_such_component(Stage::Arch, id)),
//!         }
//!     }
//! }
//!
//! // In the crate's tests: through the whole boundary, without a library file.
//! let plugin = LoadedPlugin::of::<TinyPlugin>()?;
//! testing::check_plugin(&plugin)?;
//! let frontend = plugin.arch_frontend("tiny", &ComponentOptions::new())?;
//! let verdict = frontend.accepts(r#"{"model_type": "tiny"}"#)?;
//! assert_eq!(verdict.rank, MatchRank::ModelType);
//! # Ok::<(), Error>(())
//! ```
//!
//! The library that users load is a second crate of one line, `crate-type = ["cdylib"]`, whose
//! library name is the plugin's:
//!
//! ```ignore
//! anemll_plugin_api::export_plugin!(anemll_arch_tiny::TinyPlugin);
//! ```
//!
//! [`testing::conformance!`] makes the tests of the rules that hold for every plugin.
//!
//! # What a plugin may rely on, and what is asked of it
//!
//! - Components are called from several threads at once and start none of their own:
//!   [`Host::parallel`] has the host's. [`Host::progress`] and [`Host::check_cancelled`] fail when
//!   the user asked to stop; the error goes up with `?`.
//! - Tensors come as [views](TensorView) of the host's memory and are not copied on the way. Bytes
//!   go out through a [`Sink`]. Structured data is JSON on the way, and the structs of [`data`] on
//!   both sides; graphs are bytes.
//! - The structs of [`data`] can get more fields, and the enums more variants: structs are made with
//!   `new`, or `default`, and `with_…`; a `match` has an arm for what it does not know.
//! - A panic becomes an [`Error`] with the code [`codes::PLUGIN_PANICKED`], and is not printed. It is
//!   still a bug. What cannot be caught ends the program: an overflowing stack, a lack of memory,
//!   `abort`, a fault in unsafe code.
//! - Libraries do not print and do not exit. [`Host::log`] is for what the user should know.
//!
//! # Hosts
//!
//! Opening library files, and finding the crates that call [`register_builtin!`], is the crate
//! `anemll-plugin-host`. Both kinds pass the same boundary.

mod abi;
pub mod codes;
pub mod data;
mod dtype;
mod error;
mod host;
pub mod limits;
mod loaded;
mod macros;
mod options;
mod plugin;
mod sink;
mod stages;
mod tensor;
pub mod testing;

pub use dtype::DType;
pub use error::{Error, Result};
pub use host::{Host, HostServices, Level};
pub use loaded::{ABI_EPOCH, Builtin, LoadedPlugin};
pub use options::ComponentOptions;
pub use plugin::{Plugin, no_such_component};
pub use sink::{MemorySink, Sink};
pub use stages::{ArchFrontend, ArchModel, Combiner, Compiler, Quantizer, Runtime, Session};
pub use tensor::{Tensor, TensorView};

/// `serde_json`'s value: configurations, values of options, decisions of quantizers.
pub use serde_json::Value;

/// The version of this crate, with which a plugin must agree up to its major number.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What `anemll-plugin-host` builds on; no one else's business.
#[doc(hidden)]
pub mod __host {
    pub use crate::abi::header::{MANIFEST_HEADER, MANIFEST_MAGIC};
    pub use crate::abi::layout_sum::{LAYOUT_SYMBOL, LayoutSum};
    pub use crate::abi::load::{AbiHeaderRef, LIBRARY_HEADER, ModuleFailure, RootModule, layout};
    pub use crate::loaded::other_epoch;
}

/// What the macros expand to; no one else's business.
#[doc(hidden)]
pub mod __private {
    pub use inventory;

    pub use crate::abi::header::{LibHeader, MANIFEST_HEADER, library_header, manifest_symbol};
    pub use crate::abi::layout_sum::LayoutSum;
}
