//! The compiler as the host calls it.
// Helpers of tests may unwrap as tests do; clippy knows only the latter.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use anemll_compiler_mlmodelc::{ID, Mlmodelc, MlmodelcPlugin};
use anemll_plugin_api::data::Manifest;
use anemll_plugin_api::{Compiler as _, ComponentOptions, Host, Plugin as _, Result, codes};
use coreml_proto::{Model, ModelDescription, mil, model};
use tempfile::TempDir;

/// A bare model whose program returns its input.
fn model(directory: &Path, name: &str, version: i32) -> PathBuf {
    let kind = mil::ValueType {
        r#type: Some(mil::value_type::Type::TensorType(mil::TensorType {
            data_type: mil::DataType::Float16.into(),
            ..Default::default()
        })),
    };
    let value =
        |name: &str| mil::NamedValueType { name: name.to_owned(), r#type: Some(kind.clone()) };
    let binding = mil::argument::binding::Binding::Name("x".to_owned());
    let argument =
        mil::Argument { arguments: vec![mil::argument::Binding { binding: Some(binding) }] };
    let operation = mil::Operation {
        r#type: "relu".to_owned(),
        inputs: [("x".to_owned(), argument)].into(),
        outputs: vec![value("y")],
        ..Default::default()
    };
    let block = mil::Block {
        outputs: vec!["y".to_owned()],
        operations: vec![operation],
        ..Default::default()
    };
    let function = mil::Function {
        inputs: vec![value("x")],
        opset: "CoreML7".to_owned(),
        block_specializations: [("CoreML7".to_owned(), block)].into(),
        ..Default::default()
    };
    let program = mil::Program {
        version: 1,
        functions: [("main".to_owned(), function)].into(),
        ..Default::default()
    };
    let model = Model {
        specification_version: version,
        description: Some(ModelDescription::default()),
        r#type: Some(model::Type::MlProgram(program)),
        ..Default::default()
    };
    let path = directory.join(name);
    fs::write(&path, coreml_proto::write(&model)).unwrap();
    path
}

fn compile(package: &Path, output: &Path) -> Result<PathBuf> {
    Mlmodelc::default().compile(package, output, &Host::quiet())
}

#[test]
fn a_compiled_model_replaces_the_one_before() {
    let directory = TempDir::new().unwrap();
    let output = directory.path().join("some/output");
    for version in [8, 9] {
        let model = model(directory.path(), "good.mlmodel", version);
        let made = compile(&model, &output).unwrap();
        assert_eq!(made, output.join("good.mlmodelc"));
        let first = if version == 9 { "program(1.3)" } else { "program(1.0)" };
        assert!(fs::read_to_string(made.join("model.mil")).unwrap().starts_with(first));
        assert_eq!(fs::read_dir(&output).unwrap().count(), 1);
    }
}

#[test]
fn errors_have_codes_and_leave_nothing() {
    let directory = TempDir::new().unwrap();
    let output = directory.path().join("output");
    let path = |name: &str| directory.path().join(name);
    fs::write(path("network.mlmodel"), [0x08, 4, 0xa2, 0x1f, 0]).unwrap();
    fs::write(path("broken.mlmodel"), [0xff; 9]).unwrap();
    fs::write(path("name.txt"), "").unwrap();
    model(directory.path(), "old.mlmodel", 5);
    fs::create_dir(path("empty.mlpackage")).unwrap();
    for (name, code) in [
        ("network.mlmodel", codes::COMPILE_NOT_A_PROGRAM),
        ("broken.mlmodel", codes::PACKAGE_INVALID),
        ("old.mlmodel", codes::COMPILE_FAILED),
        ("empty.mlpackage", codes::PACKAGE_UNREADABLE),
        ("missing.mlpackage", codes::PACKAGE_UNREADABLE),
        ("name.txt", codes::PACKAGE_UNREADABLE),
        ("..", codes::PACKAGE_UNREADABLE),
    ] {
        let error = compile(&path(name), &output).unwrap_err();
        assert_eq!(error.code, code, "{name}: {error:?}");
        assert!(error.at.is_some(), "{name}");
        let left = fs::read_dir(&output).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{name}");
    }
    let good = model(directory.path(), "good.mlmodel", 9);
    let error = compile(&good, &path("name.txt")).unwrap_err();
    assert_eq!(error.code, codes::OUTPUT_UNWRITABLE);
}

#[test]
fn the_plugin_is_what_its_manifest_says() {
    let manifest: Manifest = serde_json::from_str(MlmodelcPlugin::MANIFEST).unwrap();
    assert_eq!(manifest.components[0].id, ID);
    let compiler =
        MlmodelcPlugin::compiler(ID, &ComponentOptions::new().with("copy", true)).unwrap();
    assert!(compiler.check().unwrap().available);
    assert!(MlmodelcPlugin::compiler("other", &ComponentOptions::new()).is_err());
    let wrong = ComponentOptions::new().with("copy", 1);
    let error = MlmodelcPlugin::compiler(ID, &wrong).err().unwrap();
    assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
}
