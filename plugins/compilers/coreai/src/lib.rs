//! Compiler backend that writes Core AI assets, on any system; and a runtime that has Apple's package for Python
//! run them.
//!
//! What it knows stands in `anemll-coreai`: every function of a package is lowered to the dialect of
//! Core AI, weights in their stored form, equal ones once for all functions.

mod runtime;

pub use runtime::PythonRuntime;

use anemll_coreai::Interface;
use anemll_files::Limit;
use anemll_plugin_api::data::{Availability, Joined, Stage};
use anemll_plugin_api::{
    Compiler, ComponentOptions, Error, Host, Level, Plugin, Result, Runtime, codes,
    no_such_component,
};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The compiler's id.
pub const ID: &str = "coreai";

/// What assets say of who wrote them.
const PRODUCER: &str = concat!("anemll ", env!("CARGO_PKG_VERSION"));

/// The compiler.
#[derive(Debug, Clone, Copy, Default)]
pub struct CoreAi;

impl Compiler for CoreAi {
    fn check(&self) -> Result<Availability> {
        Ok(Availability::yes("writes Core AI assets on any system"))
    }

    fn compile(&self, package: &Path, output_directory: &Path, host: &Host) -> Result<PathBuf> {
        host.check_cancelled()?;
        let is = |ending: &str| package.extension().is_some_and(|extension| extension == ending);
        let joined = if is("json") { Some(joined(package)?) } else { None };
        let name = match &joined {
            Some(joined) => Some(OsStr::new(&joined.name)),
            None => package.file_stem().filter(|_| is("mlpackage") || is("mlmodel")),
        };
        let Some(name) = name else {
            return Err(Error::new(
                codes::PACKAGE_UNREADABLE,
                "what is to be compiled is named neither .mlpackage nor .mlmodel",
            )
            .with_at(package.display().to_string()));
        };
        std::fs::create_dir_all(output_directory).map_err(|error| {
            Error::new(codes::OUTPUT_UNWRITABLE, "the output directory cannot be made")
                .with_at(output_directory.display().to_string())
                .with_source(&error)
        })?;
        let mut name = name.to_owned();
        name.push(".aimodel");
        let destination = output_directory.join(name);
        let compiled = match &joined {
            Some(joined) => anemll_coreai::compile_joined(joined, &destination, PRODUCER)?,
            None => anemll_coreai::compile(package, &destination, PRODUCER, Interface::Asked)?,
        };
        let text = format!(
            "{}: functions {}; {} weights, {} bytes",
            destination.display(),
            compiled.functions.join(", "),
            compiled.weights,
            compiled.bytes
        );
        host.log(Level::Info, ID, &text);
        Ok(destination)
    }
}

/// The list of functions of several packages, which become one asset.
fn joined(path: &Path) -> Result<Joined> {
    let unreadable = |error: &std::io::Error| {
        Error::new(codes::PACKAGE_UNREADABLE, "the list of packages cannot be read")
            .with_at(path.display().to_string())
            .with_source(error)
    };
    let text = anemll_files::read_text(path, Limit::RECORD).map_err(|error| unreadable(&error))?;
    let joined = Joined::parse(&text).map_err(|error| error.with_at(path.display().to_string()))?;
    let plain = Path::new(&joined.name).file_name() == Some(OsStr::new(&joined.name));
    match plain {
        true => Ok(joined),
        false => Err(Error::new(
            codes::PACKAGE_UNREADABLE,
            format!("{:?} cannot be the name of an asset", joined.name),
        )
        .with_at(path.display().to_string())),
    }
}

/// The plugin with this compiler and its runtime.
#[derive(Debug, Clone, Copy, Default)]
pub struct CoreAiPlugin;

impl Plugin for CoreAiPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn compiler(id: &str, _options: &ComponentOptions) -> Result<Box<dyn Compiler>> {
        match id {
            ID => Ok(Box::new(CoreAi)),
            _ => Err(no_such_component(Stage::Compiler, id)),
        }
    }

    fn runtime(id: &str, options: &ComponentOptions) -> Result<Box<dyn Runtime>> {
        match id {
            runtime::ID => Ok(Box::new(PythonRuntime::new(
                options.string("python")?,
                options.integer("timeout")?,
                options.string("unit")?,
            )?)),
            _ => Err(no_such_component(Stage::Runtime, id)),
        }
    }
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(CoreAiPlugin);
