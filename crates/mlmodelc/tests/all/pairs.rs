//! Packages with what Apple's compiler made of them: every file must be equal, or equal but for what
//! two compilers may do differently. The pairs are not part of the repository; without them the
//! test says that it was skipped.
// Helpers of tests may unwrap as tests do; clippy knows only the latter.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use anemll_mil::text::{self, TextOptions};
use anemll_mlmodelc::{Comparison, CompiledModel, Options, compare, compile, metadata};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The shape ids of this pair come from a hash that nobody knows.
const OTHER_IDS: &str = "flexible-enumerated";

fn pairs() -> Vec<PathBuf> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = std::env::var_os("ANEMLL_MLMODELC_PAIRS")
        .map_or_else(|| manifest.join("../../../shared/mlmodelc-pairs"), PathBuf::from);
    let Ok(listing) = std::fs::read_dir(&folder) else {
        println!("skipped: {} is not there", folder.display());
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = listing
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("expected.mlmodelc").is_dir())
        .collect();
    found.sort();
    assert!(!found.is_empty(), "{} holds no pair", folder.display());
    found
}

/// The package of a pair, or its bare model.
fn source(pair: &Path) -> PathBuf {
    let mut all = std::fs::read_dir(pair).unwrap().map(|entry| entry.unwrap().path());
    all.find(|path| {
        path.extension().is_some_and(|ending| ending == "mlpackage" || ending == "mlmodel")
    })
    .unwrap()
}

/// Compiles the source of a pair under the versions that Apple's compiler wrote.
fn compiled(pair: &Path, folder: &Path) -> PathBuf {
    let expected = CompiledModel::open(pair.join("expected.mlmodelc")).unwrap();
    let build_info: BTreeMap<String, String> = expected
        .build_info()
        .iter()
        .filter(|(key, _)| key.starts_with("coremlc-"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    assert_eq!(build_info.len(), 2);
    let options = Options { text: TextOptions { build_info }, ..Options::default() };
    let destination = folder.join("made.mlmodelc");
    compile(&source(pair), &destination, &options).unwrap().path
}

#[test]
fn every_file_of_every_pair() {
    let mut wrong = Vec::new();
    let mut exact_metadata = 0;
    for pair in pairs() {
        let name = pair.file_name().unwrap().to_string_lossy().into_owned();
        let folder = tempfile::tempdir().unwrap();
        let made = compiled(&pair, folder.path());
        let expected = pair.join("expected.mlmodelc");
        print!("{name}:");
        for (file, comparison) in compare(&expected, &made).unwrap() {
            let file = file.to_string_lossy().replace('\\', "/");
            // Allowed differences are allowed where they were seen only.
            let allowed = match file.as_str() {
                "coremldata.bin" | "metadata.json" => true,
                "model.mil" => name == OTHER_IDS,
                _ => false,
            };
            let told = match &comparison {
                Comparison::Equal => "equal",
                Comparison::Equivalent => "equivalent",
                Comparison::Different(_) => "different",
            };
            print!(" {file} {told};");
            exact_metadata +=
                usize::from(file == "metadata.json" && comparison == Comparison::Equal);
            match comparison {
                Comparison::Equal => {}
                Comparison::Equivalent if allowed => {}
                other => wrong.push(format!("{name}/{file}: {other:?}")),
            }
        }
        println!();
    }
    println!("metadata.json byte for byte: {exact_metadata}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What was compiled reads as the model that was compiled, from either compiler.
#[test]
fn compiled_models_read_as_their_sources() {
    for pair in pairs() {
        let source = anemll_mlpackage::Package::open(source(&pair)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let expected = CompiledModel::open(pair.join("expected.mlmodelc")).unwrap();
        let made = CompiledModel::open(compiled(&pair, folder.path())).unwrap();
        for opened in [&expected, &made] {
            opened.check_weights().unwrap();
            assert_eq!(opened.weight_files().len(), source.weight_files().len());
            let hash = |model: &CompiledModel| {
                model.analytics().unwrap().value("modelHash").unwrap().to_owned()
            };
            assert_eq!(hash(opened), hash(&expected));
            let (read, of) = (opened.model(), source.model());
            assert_eq!(read.specification_version, of.specification_version);
            let description = |model: &coreml_proto::Model| {
                let mut description = model.description.clone().unwrap_or_default();
                description.metadata.get_or_insert_default();
                description
            };
            assert_eq!(description(read), description(of));
            let names = |model: &coreml_proto::Model| -> Vec<String> {
                let program = anemll_mil::model::program(model).unwrap();
                program.functions.keys().cloned().collect()
            };
            assert_eq!(names(read), names(of));
            // The summary of what was read is that of what was written.
            let class = opened.metadata().unwrap()[0]["generatedClassName"].as_str().unwrap();
            let summary = metadata::summary(read, class).unwrap();
            assert_eq!(Some(&summary.value), opened.metadata(), "{}", pair.display());
        }
        assert_eq!(text::guesses(made.model()).len(), text::guesses(source.model()).len());
    }
}
