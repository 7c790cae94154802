//! All packages of a conversion compiled as one model.

use anemll_codes as codes;
use anemll_plugin_api::data::Joined;
use anemll_plugin_api::{Compiler, Error, Host, Result};
use std::path::{Path, PathBuf};

/// Has a compiler that joins make one model; gives its path. `locate` tells where a package is.
///
/// # Errors
/// [`codes::PACKAGE_UNREADABLE`] for a path that a file of JSON cannot hold; [`codes::SCRATCH_DIRECTORY`]; those of
/// the compiler.
pub fn compile(
    compiler: &dyn Compiler,
    joined: &Joined,
    locate: impl Fn(&str) -> PathBuf,
    output: &Path,
    host: &Host,
) -> Result<PathBuf> {
    let mut list = Joined::new(&joined.name);
    for function in &joined.functions {
        let path = locate(&function.package);
        let path = std::path::absolute(&path).unwrap_or(path);
        let Some(text) = path.to_str() else {
            let what = "the path of a package that is to be joined with others is not UTF-8";
            return Err(Error::new(codes::PACKAGE_UNREADABLE, what)
                .with_at(path.display().to_string())
                .with_hint("name its folder in UTF-8, or compile the packages one by one"));
        };
        list = list.with_function(&function.name, text, &function.function);
    }
    let written = |source: &std::io::Error, path: &Path| {
        let what = "the list of packages cannot be written";
        Error::new(codes::SCRATCH_DIRECTORY, what)
            .with_at(path.display().to_string())
            .with_source(source)
    };
    let scratch = host.scratch_directory()?;
    // It goes when the compiler is done.
    let folder = tempfile::Builder::new().prefix("joined-").tempdir_in(&scratch);
    let folder = folder.map_err(|error| written(&error, &scratch))?;
    let path = folder.path().join("packages.json");
    let json = serde_json::to_vec(&list).map_err(|error| written(&error.into(), &path))?;
    std::fs::write(&path, json).map_err(|error| written(&error, &path))?;
    compiler.compile(&path, output, host)
}
