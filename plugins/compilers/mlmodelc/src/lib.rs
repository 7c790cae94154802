//! Compiler backend that writes compiled models itself, on any system.
//!
//! For ML Programs a compiled model is the package's program as text, its description, and its
//! weight files; `anemll-mlmodelc` writes them. Other model types are refused by their names.

use std::path::{Path, PathBuf};

use anemll_mlmodelc::{Options, Weights};
use anemll_plugin_api::data::{Availability, Stage};
use anemll_plugin_api::{
    Compiler, ComponentOptions, Error, Host, Level, Plugin, Result, codes, no_such_component,
};

/// The compiler's id.
pub const ID: &str = "mlmodelc";

/// The compiler.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mlmodelc {
    copy: bool,
}

impl Mlmodelc {
    /// A compiler with these options, whose `copy` says that weights are to be copied.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] for a `copy` that is neither true nor false.
    pub fn new(options: &ComponentOptions) -> Result<Self> {
        Ok(Self { copy: options.boolean("copy")?.unwrap_or(false) })
    }
}

impl Compiler for Mlmodelc {
    fn check(&self) -> Result<Availability> {
        Ok(Availability::yes("writes compiled models on any system"))
    }

    fn compile(&self, package: &Path, output_directory: &Path, host: &Host) -> Result<PathBuf> {
        host.check_cancelled()?;
        let shown = package.display().to_string();
        let known =
            |extension: &std::ffi::OsStr| extension == "mlpackage" || extension == "mlmodel";
        let name = match (package.file_stem(), package.extension()) {
            (Some(stem), Some(extension)) if known(extension) => {
                let mut name = stem.to_owned();
                name.push(".mlmodelc");
                name
            }
            _ => {
                return Err(Error::new(
                    codes::PACKAGE_UNREADABLE,
                    "what is to be compiled is named neither .mlpackage nor .mlmodel",
                )
                .with_at(shown));
            }
        };
        std::fs::metadata(package).map_err(|error| {
            Error::new(codes::PACKAGE_UNREADABLE, "the package cannot be read")
                .with_at(shown.clone())
                .with_source(&error)
        })?;
        std::fs::create_dir_all(output_directory).map_err(|error| {
            Error::new(codes::OUTPUT_UNWRITABLE, "the output directory cannot be made")
                .with_at(output_directory.display().to_string())
                .with_source(&error)
        })?;
        let destination = output_directory.join(name);
        let options = Options { copy: self.copy, replace: true, ..Options::default() };
        let compiled = anemll_mlmodelc::compile(package, &destination, &options)?;
        if let Weights::Copied { reason: Some(reason) } = &compiled.weights {
            let text = format!("{shown}: the weights were copied, a hard link failed: {reason}");
            host.log(Level::Info, ID, &text);
        }
        if let Some(leftover) = &compiled.leftover {
            let text =
                format!("the model from before could not be removed: {}", leftover.display());
            host.log(Level::Warn, ID, &text);
        }
        for guess in &compiled.guesses {
            let text = format!("{shown}: guessed: {} ({})", guess.what, guess.place);
            host.log(Level::Info, ID, &text);
        }
        Ok(compiled.path)
    }
}

/// The plugin with this compiler.
#[derive(Debug, Clone, Copy, Default)]
pub struct MlmodelcPlugin;

impl Plugin for MlmodelcPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn compiler(id: &str, options: &ComponentOptions) -> Result<Box<dyn Compiler>> {
        match id {
            ID => Ok(Box::new(Mlmodelc::new(options)?)),
            _ => Err(no_such_component(Stage::Compiler, id)),
        }
    }
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(MlmodelcPlugin);
