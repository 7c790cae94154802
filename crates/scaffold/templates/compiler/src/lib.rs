//! Compiler backend: a compiled model with a copy of the package's weights.

use std::path::{Path, PathBuf};

use anemll_mlmodelc::Options;
use anemll_plugin_api::data::{Availability, Stage};
use anemll_plugin_api::{
    Compiler, ComponentOptions, Error, Host, Level, Plugin, Result, codes, no_such_component,
};

struct MyPlugin;

impl Compiler for MyPlugin {
    fn check(&self) -> Result<Availability> {
        // A tool that has to be installed would be looked for here.
        Ok(Availability::yes("writes compiled models on any system"))
    }

    fn compile(&self, package: &Path, output_directory: &Path, host: &Host) -> Result<PathBuf> {
        host.check_cancelled()?;
        let shown = package.display().to_string();
        let is_package = package.extension().is_some_and(|extension| extension == "mlpackage");
        let (Some(stem), true) = (package.file_stem(), is_package) else {
            let text = "what is to be compiled is not named .mlpackage";
            return Err(Error::new(codes::PACKAGE_UNREADABLE, text).with_at(shown));
        };
        let mut name = stem.to_owned();
        name.push(".mlmodelc");
        let destination = output_directory.join(name);
        let options = Options { copy: true, replace: true, ..Options::default() };
        let compiled = anemll_mlmodelc::compile(package, &destination, &options)?;
        host.log(Level::Debug, "my-plugin", &format!("compiled {shown}"));
        Ok(compiled.path)
    }
}

/// The plugin `my-plugin`.
pub struct MyPluginPlugin;

impl Plugin for MyPluginPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn compiler(id: &str, _: &ComponentOptions) -> Result<Box<dyn Compiler>> {
        match id {
            "my-plugin" => Ok(Box::new(MyPlugin)),
            _ => Err(no_such_component(Stage::Compiler, id)),
        }
    }
}
