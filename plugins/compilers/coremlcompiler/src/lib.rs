//! Compiler backend that calls Apple's coremlcompiler through xcrun.
//!
//! `xcrun coremlcompiler compile X.mlpackage DIRECTORY` makes `DIRECTORY/X.mlmodelc`. It comes with
//! Xcode, so it is there on macOS only; elsewhere [`Compiler::check`] says so.

mod child;
mod staging;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anemll_plugin_api::data::{Availability, Stage};
use anemll_plugin_api::{
    Compiler, ComponentOptions, Error, Host, Level, Plugin, Result, codes, no_such_component,
};

use child::Ended;
use staging::Staging;

/// The compiler's id.
pub const ID: &str = "coremlcompiler";

/// How long [`Compiler::check`] waits. xcrun answers at once, but for its first call after an
/// update of Xcode, when it fills its cache.
const CHECK_LIMIT: Duration = Duration::from_secs(60);

/// The compiler.
#[derive(Debug, Clone)]
pub struct CoremlCompiler {
    xcrun: PathBuf,
    force_mlprogram: bool,
}

impl CoremlCompiler {
    /// A compiler with these options, whose `xcrun` is the program to call, and whose
    /// `force_mlprogram` asks for an ML Program.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] for an `xcrun` that is no text, or empty, and for a
    /// `force_mlprogram` that is neither true nor false.
    pub fn new(options: &ComponentOptions) -> Result<Self> {
        let xcrun = options.string("xcrun")?.unwrap_or("xcrun");
        if xcrun.is_empty() {
            return Err(options.refuse("xcrun", "the name or the path of a program"));
        }
        let force_mlprogram = options.boolean("force_mlprogram")?.unwrap_or(false);
        Ok(Self { xcrun: PathBuf::from(xcrun), force_mlprogram })
    }
}

impl Compiler for CoremlCompiler {
    fn check(&self) -> Result<Availability> {
        let mut command = Command::new(&self.xcrun);
        command.args(["--find", "coremlcompiler"]);
        let no = |reason: String| Ok(Availability::no(reason));
        let shown = self.xcrun.display();
        match child::run_for(&mut command, CHECK_LIMIT) {
            Ok(Ended { success: true, .. }) => {
                Ok(Availability::yes(format!("`{shown}` finds coremlcompiler")))
            }
            Ok(Ended { message, .. }) => no(format!(
                "`{shown} --find coremlcompiler` failed: {}",
                last_line(&message).unwrap_or("it says nothing")
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => no(format!(
                "`{shown}` is not installed; coremlcompiler comes with Xcode, on macOS only"
            )),
            Err(error) => no(format!("`{shown}` cannot be run: {error}")),
        }
    }

    fn compile(&self, package: &Path, output_directory: &Path, host: &Host) -> Result<PathBuf> {
        host.check_cancelled()?;
        let shown = package.display().to_string();
        // Absolute, so that no path begins with `-`.
        let package = std::path::absolute(package).map_err(|error| unreadable(&shown, &error))?;
        let compiled = match (package.file_stem(), package.extension()) {
            (Some(stem), Some(extension)) if extension == "mlpackage" => {
                let mut name = stem.to_owned();
                name.push(".mlmodelc");
                name
            }
            _ => {
                return Err(Error::new(
                    codes::PACKAGE_UNREADABLE,
                    "what is to be compiled is not named .mlpackage",
                )
                .with_at(shown));
            }
        };
        std::fs::metadata(&package).map_err(|error| unreadable(&shown, &error))?;

        let staging = Staging::new(output_directory, &compiled)?;
        let mut command = Command::new(&self.xcrun);
        command.args(["coremlcompiler", "compile"]).arg(&package).arg(staging.path());
        if self.force_mlprogram {
            command.args(["--add-mlprogram-if-eligible", "force"]);
        }
        let ended =
            child::run(&mut command, &|| host.check_cancelled()).map_err(
                |failure| match failure {
                    child::Failure::Stopped(error) => error,
                    child::Failure::Io(error) => Error::new(
                        codes::COMPILER_UNAVAILABLE,
                        format!("`{}` cannot be run", self.xcrun.display()),
                    )
                    .with_hint("coremlcompiler comes with Xcode, on macOS only")
                    .with_source(&error),
                },
            )?;
        if !ended.success {
            let mut error = Error::new(
                codes::COMPILE_FAILED,
                format!("coremlcompiler refused the package ({})", ended.status),
            )
            .with_at(shown);
            if !ended.message.is_empty() {
                error = error.with_cause(ended.message);
            }
            return Err(error);
        }
        if let Some(line) = last_line(&ended.message) {
            host.log(Level::Warn, ID, &format!("{shown}: {line}"));
        }
        staging.publish()
    }
}

fn unreadable(package: &str, error: &std::io::Error) -> Error {
    Error::new(codes::PACKAGE_UNREADABLE, "the package cannot be read")
        .with_at(package)
        .with_source(error)
}

fn last_line(message: &str) -> Option<&str> {
    message.lines().map(str::trim).rfind(|line| !line.is_empty())
}

/// The plugin with this compiler.
#[derive(Debug, Clone, Copy, Default)]
pub struct CoremlCompilerPlugin;

impl Plugin for CoremlCompilerPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn compiler(id: &str, options: &ComponentOptions) -> Result<Box<dyn Compiler>> {
        match id {
            ID => Ok(Box::new(CoremlCompiler::new(options)?)),
            _ => Err(no_such_component(Stage::Compiler, id)),
        }
    }
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(CoremlCompilerPlugin);
