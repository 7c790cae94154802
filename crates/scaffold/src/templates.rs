//! The templates, as they are in the program.

use std::collections::{BTreeMap, BTreeSet};

use anemll_plugin_api::data::Stage;

use crate::name::Name;

/// A template of a stage.
#[derive(Debug)]
pub(crate) struct Template {
    /// The stage.
    pub(crate) stage: Stage,
    /// The folders whose files it has, the last one first where a file stands in several.
    folders: &'static [&'static str],
    /// What tries the plugin out, once it is built: a command line behind `--plugin LIBRARY`.
    trial: &'static str,
}

/// The templates: one for each stage, with the folder of its name.
pub(crate) const TEMPLATES: &[Template] = &[
    template(Stage::Arch, &["common", "model", "arch"], "convert model -o out --no-tokenizer"),
    template(
        Stage::Quantizer,
        &["common", "model", "quantizer"],
        "convert model -o out --no-tokenizer --quantizer my-plugin",
    ),
    template(
        Stage::Combiner,
        &["common", "model", "combiner"],
        "convert model -o out --no-tokenizer --combiner my-plugin",
    ),
    template(
        Stage::Compiler,
        &["common", "compiler"],
        "compile reference.mlpackage --compiler my-plugin --output-dir out",
    ),
    template(Stage::Runtime, &["common", "runtime"], "plugin list"),
];

/// All files of all templates, by path.
const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/files.rs"));

/// How the SDK is named in manifests.
const SDK: &str = "sdk/";

const fn template(stage: Stage, folders: &'static [&'static str], trial: &'static str) -> Template {
    Template { stage, folders, trial }
}

/// The template of a stage.
pub(crate) fn of(stage: Stage) -> Option<&'static Template> {
    TEMPLATES.iter().find(|template| template.stage == stage)
}

impl Template {
    /// Its files under a plugin's name, by path with forward slashes.
    pub(crate) fn files(&self, name: &Name) -> BTreeMap<&'static str, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in self.folders {
            for (path, bytes) in FILES {
                let inside = path.strip_prefix(folder).and_then(|path| path.strip_prefix('/'));
                if let Some(inside) = inside {
                    files.insert(inside, renamed(bytes, name));
                }
            }
        }
        files
    }

    /// The command line that tries out a plugin of this name.
    pub(crate) fn trial(&self, name: &Name) -> String {
        self.trial.replace("my-plugin", &name.plain)
    }
}

/// The bytes of a file, with the plugin's name where it is a text.
fn renamed(bytes: &[u8], name: &Name) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text
            .replace("my-plugin", &name.plain)
            .replace("my_plugin", &name.snake)
            .replace("MyPlugin", &name.camel)
            .into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

/// The crates of the SDK that manifests among these files name.
pub(crate) fn crates(files: &BTreeMap<&'static str, Vec<u8>>) -> BTreeSet<String> {
    let manifests = files.iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
    let texts = manifests.map(|(_, bytes)| String::from_utf8_lossy(bytes).into_owned());
    let mut names = BTreeSet::new();
    for text in texts {
        for path in text.split("path = \"").skip(1).filter_map(|rest| rest.split('"').next()) {
            let path = path.strip_prefix("../").unwrap_or(path);
            names.extend(path.strip_prefix(SDK).map(str::to_owned));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::data::Manifest;

    #[test]
    fn every_stage_has_a_template_under_the_new_name() {
        let name = Name::new("star-coder_2").unwrap();
        for stage in Stage::ALL {
            let template = of(stage).unwrap();
            assert!(template.folders.contains(&stage.name()), "{stage}");
            let files = template.files(&name);
            for path in ["Cargo.toml", "README.md", "plugin/src/lib.rs", "tests/conformance.rs"] {
                assert!(files.contains_key(path), "{stage} {path}");
            }
            for (path, bytes) in &files {
                let text = String::from_utf8_lossy(bytes);
                for old in ["my-plugin", "my_plugin", "MyPlugin"] {
                    assert!(!text.contains(old), "{stage} {path} has {old}");
                }
            }
            let text = String::from_utf8(files["anemll-plugin.json"].clone()).unwrap();
            let manifest = Manifest::parse(&text).unwrap();
            assert_eq!(manifest.name, "star-coder_2");
            assert_eq!(manifest.components.len(), 1);
            assert_eq!(manifest.components[0].stage, stage);
            assert!(crates(&files).contains("anemll-plugin-api"), "{stage}");
        }
        assert!(of(Stage::Unknown).is_none());
    }

    #[test]
    fn every_folder_of_files_belongs_to_a_template() {
        let known: BTreeSet<&str> =
            TEMPLATES.iter().flat_map(|template| template.folders).copied().collect();
        let folders: BTreeSet<&str> =
            FILES.iter().filter_map(|(path, _)| path.split('/').next()).collect();
        assert_eq!(folders, known);
    }
}
