//! Bad input: one clear error, and nothing written.
// Helpers of tests may unwrap as tests do; clippy knows only the latter.

use anemll_mil::{DataType, TensorType, ValueType};
use anemll_mlmodelc::{CompiledModel, Options, compile};
use anemll_mlpackage::{ErrorKind, PackageError};
use coreml_proto::Model;
use coreml_proto::mil::argument::binding::Binding;
use std::path::Path;

/// Spoils a good package, and gives the error of compiling it.
fn refused(spoil: impl FnOnce(&Path)) -> PackageError {
    let folder = tempfile::tempdir().unwrap();
    let package =
        crate::common::package(&folder.path().join("m.mlpackage"), &crate::common::two_functions());
    spoil(&package);
    let output = folder.path().join("output");
    std::fs::create_dir(&output).unwrap();
    let error = compile(&package, &output.join("m.mlmodelc"), &Options::default()).unwrap_err();
    assert_eq!(std::fs::read_dir(&output).unwrap().count(), 0, "nothing is left behind");
    error
}

/// Spoils the model.
fn refused_model(spoil: impl FnOnce(&mut Model)) -> PackageError {
    refused(|package| {
        let mut model = crate::common::two_functions();
        spoil(&mut model);
        crate::common::package(package, &model);
    })
}

/// Spoils one place of a file of the package.
fn refused_bytes(name: &str, spoil: impl FnOnce(&mut Vec<u8>)) -> PackageError {
    refused(|package| {
        let path = package.join(name);
        let mut bytes = std::fs::read(&path).unwrap();
        spoil(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
    })
}

const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";
const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

fn is(error: &PackageError, kind: ErrorKind, reason: &str) {
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.reason().contains(reason), "{error}");
}

#[test]
fn manifests() {
    let replaced = |from: &str, to: &str| {
        refused_bytes("Manifest.json", |bytes| {
            *bytes = String::from_utf8(bytes.clone()).unwrap().replace(from, to).into_bytes();
        })
    };
    let model = "com.apple.CoreML/model.mlmodel";
    is(&replaced(model, "../../m.mlmodel"), ErrorKind::PathEscape, "not a plain path");
    is(&replaced(model, "/etc/passwd"), ErrorKind::PathEscape, "not a plain path");
    is(&replaced(model, "com.apple.CoreML/none"), ErrorKind::NotFound, "does not exist");
    is(&replaced("rootModelIdentifier", "root"), ErrorKind::Manifest, "is missing");
    is(&replaced(model, "com.apple.CoreML"), ErrorKind::Manifest, "not a file");
    let missing = refused(|package| std::fs::remove_file(package.join(MODEL)).unwrap());
    is(&missing, ErrorKind::NotFound, "does not exist");
    let missing = refused(|package| std::fs::remove_file(package.join("Manifest.json")).unwrap());
    is(&missing, ErrorKind::NotAPackage, "Manifest.json is missing");
    let missing = refused(|package| std::fs::remove_dir_all(package).unwrap());
    is(&missing, ErrorKind::NotFound, "cannot open");
}

#[test]
fn weights() {
    let offset = |offset: u64| {
        refused_model(|model| {
            let weight = &mut crate::common::block(model, "prefill").operations[0];
            let table = &mut weight.inputs.get_mut("lut").unwrap().arguments[0].binding;
            *table = Some(Binding::Value(crate::common::in_file(
                &crate::common::half(&[1, 1, 16, 1]),
                offset,
            )));
        })
    };
    is(&offset(1 << 40), ErrorKind::Weights, "past the end");
    is(&offset(u64::MAX - 63), ErrorKind::Weights, "past the end");
    is(&offset(100), ErrorKind::Weights, "not a multiple of 64");
    is(&offset(0), ErrorKind::Weights, "header");
    is(&offset(128), ErrorKind::Weights, "no record starts here");
    is(&offset(crate::common::INDICES), ErrorKind::Reference, "not what the program declares");
    let sentinel = refused_bytes(WEIGHTS, |bytes| bytes[64] = 0xee);
    is(&sentinel, ErrorKind::Weights, "no record starts here");
    let short = refused_bytes(WEIGHTS, |bytes| bytes.truncate(280));
    is(&short, ErrorKind::Weights, "end past the file");
    let empty = refused_bytes(WEIGHTS, Vec::clear);
    assert_eq!(empty.kind(), ErrorKind::Weights, "{empty}");
    // 15 elements of 4 bits would leave 4 bits of padding.
    let shape = refused_model(|model| {
        let weight = &mut crate::common::block(model, "infer").operations[0];
        let kind = ValueType::Tensor(TensorType::new(DataType::UInt4, &[3, 7]));
        let indices = &mut weight.inputs.get_mut("indices").unwrap().arguments[0].binding;
        *indices = Some(Binding::Value(crate::common::in_file(&kind, crate::common::INDICES)));
    });
    is(&shape, ErrorKind::Reference, "11 bytes of uint4");
    let padding = refused_bytes(WEIGHTS, |bytes| bytes[64 + 24] = 3);
    is(&padding, ErrorKind::Weights, "no whole number");
    let outside = refused_model(|model| {
        let weight = &mut crate::common::block(model, "infer").operations[0];
        let mut value =
            crate::common::in_file(&crate::common::half(&[1, 1, 16, 1]), crate::common::TABLE);
        let Some(coreml_proto::mil::value::Value::BlobFileValue(blob)) = &mut value.value else {
            panic!("no blob");
        };
        blob.file_name = "@model_path/../weight.bin".to_owned();
        weight.inputs.get_mut("lut").unwrap().arguments[0].binding = Some(Binding::Value(value));
    });
    is(&outside, ErrorKind::PathEscape, "not a plain path");
}

#[cfg(unix)]
#[test]
fn links_out_of_the_package() {
    let error = refused(|package| {
        std::os::unix::fs::symlink("/etc/passwd", package.join(WEIGHTS).with_file_name("extra"))
            .unwrap();
    });
    is(&error, ErrorKind::PathEscape, "leads out");
}

#[test]
fn models() {
    for length in [1, 10, 100, 1000] {
        let error = refused_bytes(MODEL, |bytes| bytes.truncate(length));
        assert_eq!(error.kind(), ErrorKind::Model, "{length}: {error}");
    }
    is(&refused_bytes(MODEL, Vec::clear), ErrorKind::Model, "no ML Program");
    for (bytes, name) in [
        (&[0x08, 4, 0xa2, 0x1f, 0][..], "neuralNetwork"),
        (&[0x08, 4, 0xba, 0x19, 0], "a type newer"),
        (&[0x08, 4, 0xd2, 0x0c, 2, 0x0a, 0], "pipeline"),
        (&[0x08, 4, 0xf2, 0x12, 0], "treeEnsembleRegressor"),
        (&[0x08, 9, 0x82, 0x7d, 0], "textClassifier"),
    ] {
        let error = refused_bytes(MODEL, |model| *model = bytes.to_vec());
        assert_eq!(error.kind(), ErrorKind::ModelType, "{error}");
        assert!(error.reason().contains(name), "{error}");
    }
    for version in [0, 5, 10, i32::MIN] {
        let error = refused_model(|model| model.specification_version = version);
        assert_eq!(error.kind(), ErrorKind::Version, "{error}");
        assert!(error.reason().contains(&version.to_string()), "{error}");
    }
}

#[test]
fn programs() {
    let is = |error: PackageError, reason: &str| {
        assert_eq!(error.kind(), ErrorKind::Program, "{error}");
        assert!(error.reason().contains(reason), "{error}");
    };
    let undefined = refused_model(|model| {
        crate::common::block(model, "infer").operations.remove(1);
    });
    is(undefined, "old");
    let cycle = refused_model(|model| crate::common::block(model, "infer").operations.swap(1, 3));
    is(cycle, "old");
    let twice = refused_model(|model| {
        let again = crate::common::operation("read_state", &[("input", "kv")], "old");
        crate::common::block(model, "infer").operations.push(again);
    });
    is(twice, "old");
    let name =
        refused_model(|model| crate::common::block(model, "infer").outputs.push("a b".to_owned()));
    is(name, "a b");
    let description = |spoil: fn(&mut coreml_proto::ModelDescription)| {
        refused_model(|model| spoil(model.description.as_mut().unwrap()))
    };
    is(description(|all| all.default_function_name.clear()), "default function");
    is(description(|all| all.functions[0].name = "other".to_owned()), "lacks");
    is(description(|all| all.functions.clear()), "2 functions");
    is(description(|all| all.functions[0].input[0].r#type = None), "no type");
}

#[test]
fn destinations() {
    let folder = tempfile::tempdir().unwrap();
    let package =
        crate::common::package(&folder.path().join("m.mlpackage"), &crate::common::two_functions());
    let to = |name: &str, replace: bool| {
        let options = Options { replace, ..Options::default() };
        compile(&package, &folder.path().join(name), &options)
    };
    is(&to("m", false).unwrap_err(), ErrorKind::Usage, "ends in .mlmodelc");
    is(&to("none/m.mlmodelc", false).unwrap_err(), ErrorKind::NotFound, "cannot create");
    to("m.mlmodelc", false).unwrap();
    is(&to("m.mlmodelc", false).unwrap_err(), ErrorKind::Exists, "exists already");
    // A failure keeps what was there.
    crate::common::write_package(&package, b"", &crate::common::weights());
    to("m.mlmodelc", true).unwrap_err();
    CompiledModel::open(folder.path().join("m.mlmodelc")).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
}

#[test]
fn compiled_models() {
    let folder = tempfile::tempdir().unwrap();
    let package =
        crate::common::package(&folder.path().join("m.mlpackage"), &crate::common::two_functions());
    let options = Options { copy: true, ..Options::default() };
    let made = compile(&package, &folder.path().join("m.mlmodelc"), &options).unwrap().path;
    let opened = |name: &str, spoil: &dyn Fn(&mut Vec<u8>)| {
        let path = made.join(name);
        let good = std::fs::read(&path).unwrap();
        let mut bad = good.clone();
        spoil(&mut bad);
        std::fs::write(&path, bad).unwrap();
        let result = CompiledModel::open(&made).and_then(|model| model.check_weights());
        std::fs::write(&path, good).unwrap();
        result.unwrap_err()
    };
    for name in ["coremldata.bin", "model.mil", "metadata.json", "analytics/coremldata.bin"] {
        let error = opened(name, &|bytes| bytes.truncate(bytes.len() / 2));
        assert_eq!(error.kind(), ErrorKind::Compiled, "{error}");
        assert!(error.path().ends_with(name), "{error}");
        let error = opened(name, &|bytes| *bytes = b"version https://git-lfs".to_vec());
        assert!(error.reason().contains("Git LFS"), "{error}");
    }
    let error =
        opened("coremldata.bin", &|bytes| bytes[..2].copy_from_slice(&500_u16.to_le_bytes()));
    assert!(error.reason().contains("neuralNetwork"), "{error}");
    let error = opened("weights/weight.bin", &|bytes| bytes.truncate(200));
    is(&error, ErrorKind::Weights, "past the end");
    let error = CompiledModel::open(folder.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compiled);
    is(&CompiledModel::open("/no/such").unwrap_err(), ErrorKind::NotFound, "cannot open");
}

/// Pipes, devices and sparse files under the names of a compiled model: each is refused at once.
#[cfg(unix)]
#[test]
fn files_that_are_none_or_far_too_large() {
    let folder = tempfile::tempdir().unwrap();
    let package =
        crate::common::package(&folder.path().join("m.mlpackage"), &crate::common::two_functions());
    let compiled = folder.path().join("m.mlmodelc");
    for name in ["model.mil", "coremldata.bin", "metadata.json", "analytics/coremldata.bin"] {
        let options = Options { replace: true, ..Options::default() };
        compile(&package, &compiled, &options).unwrap();
        let file = compiled.join(name);
        let refused = |reason: &str| {
            let error = CompiledModel::open(&compiled).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Compiled, "{name}: {error}");
            assert!(error.reason().contains(reason), "{name}: {error}");
            std::fs::remove_file(&file).unwrap();
        };
        std::fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        refused("it is a pipe");
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        refused("it is a device");
        std::fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
        refused("too large");
    }
}
