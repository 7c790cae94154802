//! Packages, good and bad.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use anemll_mlpackage::{ErrorKind, Manifest, Package, PackageError};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Folders below `../shared` (seen from the workspace) that hold packages of other tools.
fn shared(folder: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared").join(folder);
    if !path.exists() {
        println!("skipped: {} is absent", path.display());
        return None;
    }
    Some(path)
}

/// All packages and bare models below a folder.
fn packages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let ending = path.extension().and_then(|ending| ending.to_str());
        match ending {
            Some("mlpackage" | "mlmodel") => found.push(path),
            _ if path.is_dir() => packages(&path, found),
            _ => {}
        }
    }
}

#[test]
fn packages_of_other_tools() {
    let folders = ["reference", "mlmodelc-pairs"].map(shared);
    let mut found = Vec::new();
    folders.iter().flatten().for_each(|folder| packages(folder, &mut found));
    for path in &found {
        let package = Package::open(path).unwrap();
        package.check_records().unwrap();
        for file in package.weight_files().values() {
            let mut walked = 0;
            for record in file.records() {
                let record = record.unwrap();
                assert_eq!(file.read(&record).unwrap().len() as u64, record.size_in_bytes());
                assert!(record.elements() > 0);
                walked += 1;
            }
            assert_eq!(walked, file.count());
        }
        if let Some(manifest) = package.manifest() {
            // Ours has the same text, but for the identifiers.
            let text = fs::read_to_string(path.join("Manifest.json")).unwrap();
            assert_eq!(manifest.to_text(), text);
            assert_eq!(Manifest::standard(true, b"").to_text().len(), text.len());
        } else {
            assert_eq!(package.model_path(), path);
        }
    }
    assert!(folders.iter().flatten().count() == 0 || found.len() > 20);
}

/// A package of files given by their paths inside it.
fn package(files: &[(&str, &[u8])]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("P.mlpackage");
    fs::create_dir(&path).unwrap();
    for (inner, bytes) in files {
        let file = path.join(inner);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, bytes).unwrap();
    }
    (folder, path)
}

fn refused(path: &Path) -> PackageError {
    Package::open(path).unwrap_err()
}

/// Field 502, an ML Program, with nothing in it.
const EMPTY_PROGRAM: &[u8] = &[0xB2, 0x1F, 0x00];
const MODEL: &str = "Data/com.apple.CoreML/model.mlmodel";

/// A model that holds nothing but one weight reference: specificationVersion 9 and an ML Program
/// with the attribute `x` = blobFileValue { fileName, offset 64 }.
fn model_with_reference(file_name: &str) -> Vec<u8> {
    use coreml_proto::{Model, mil, model};
    let blob = mil::value::BlobFileValue { file_name: file_name.to_owned(), offset: 64 };
    let value =
        mil::Value { value: Some(mil::value::Value::BlobFileValue(blob)), ..Default::default() };
    let program = mil::Program {
        version: 1,
        attributes: [("x".to_owned(), value)].into(),
        ..Default::default()
    };
    coreml_proto::write(&Model {
        specification_version: 9,
        r#type: Some(model::Type::MlProgram(program)),
        ..Default::default()
    })
}

#[test]
fn what_is_no_package() {
    let folder = tempfile::tempdir().unwrap();
    let error = refused(&folder.path().join("absent.mlpackage"));
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(refused(folder.path()).kind(), ErrorKind::NotAPackage);
    fs::write(folder.path().join("coremldata.bin"), "x").unwrap();
    assert!(refused(folder.path()).hint().unwrap().contains("compiled from"));
    let text = folder.path().join("x.mlmodel");
    fs::write(&text, "not a model at all").unwrap();
    assert_eq!(refused(&text).kind(), ErrorKind::Model);
}

#[test]
fn manifests_that_lead_elsewhere() {
    let manifest = Manifest::standard(false, b"");
    let text = manifest.to_text();
    for (inner, kind) in [
        ("../com.apple.CoreML/model.mlmodel", ErrorKind::PathEscape),
        ("/etc/passwd", ErrorKind::PathEscape),
        ("..\\\\..\\\\x", ErrorKind::PathEscape),
        ("com.apple.CoreML/../../outside", ErrorKind::PathEscape),
        ("", ErrorKind::PathEscape),
        ("com.apple.CoreML/absent.mlmodel", ErrorKind::NotFound),
        ("com.apple.CoreML", ErrorKind::Manifest),
    ] {
        let text = text.replace("com.apple.CoreML/model.mlmodel", inner);
        let (_folder, path) =
            package(&[("Manifest.json", text.as_bytes()), (MODEL, b""), ("outside", b"")]);
        assert_eq!(refused(&path).kind(), kind, "{inner}");
    }
    let (_folder, path) = package(&[("Manifest.json", text.as_bytes())]);
    assert_eq!(refused(&path).kind(), ErrorKind::NotFound);
    let (_folder, path) = package(&[("Manifest.json", b"{"), (MODEL, b"")]);
    assert_eq!(refused(&path).kind(), ErrorKind::Manifest);

    #[cfg(unix)]
    {
        let (folder, path) = package(&[("Manifest.json", text.as_bytes()), (MODEL, EMPTY_PROGRAM)]);
        assert!(Package::open(&path).is_ok());
        fs::remove_file(path.join(MODEL)).unwrap();
        fs::write(folder.path().join("outside"), "").unwrap();
        std::os::unix::fs::symlink(folder.path().join("outside"), path.join(MODEL)).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), ErrorKind::PathEscape);
        assert!(error.hint().unwrap().contains("cp -RL"));
    }
}

#[test]
fn damaged_models() {
    let manifest = Manifest::standard(false, b"").to_text();
    let good = model_with_reference("@model_path/weights/weight.bin");
    for (bytes, reason) in [
        (&good[..good.len() - 1], "not a valid"),
        (&good[..good.len() / 2], "not a valid"),
        (&[], "no ML Program"),
        (&good[..2], "no ML Program"),
        (&[0xFF; 40][..], "not a valid"),
        // Field 500 with an empty message: a neural network.
        (&[0xA2, 0x1F, 0x00], "a neural network"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS"),
    ] {
        let (_folder, path) = package(&[("Manifest.json", manifest.as_bytes()), (MODEL, bytes)]);
        let error = refused(&path);
        assert_eq!(error.kind(), ErrorKind::Model);
        assert!(error.path().ends_with(MODEL));
        assert!(error.reason().contains(reason), "{error} for {reason}");
    }
}

#[test]
fn deeply_nested_blocks() {
    // Ten thousand blocks in one another, from the inside out: the lengths are right.
    let field = |number: u32, inner: &[u8]| {
        let mut bytes = Vec::with_capacity(inner.len() + 16);
        let varint = |mut value: u64, bytes: &mut Vec<u8>| {
            while value >= 0x80 {
                bytes.push(value as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        };
        varint(u64::from(number << 3 | 2), &mut bytes);
        varint(inner.len() as u64, &mut bytes);
        bytes.extend_from_slice(inner);
        bytes
    };
    let mut block = Vec::new();
    for _ in 0..10_000 {
        block = field(3, &field(4, &block));
    }
    let entry = [field(1, b"CoreML8"), field(2, &block)].concat();
    let function = [field(2, b"CoreML8"), field(3, &entry)].concat();
    let entry = [field(1, b"main"), field(2, &function)].concat();
    let model = [vec![8, 9], field(502, &field(2, &entry))].concat();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep.mlmodel");
    fs::write(&path, model).unwrap();
    assert_eq!(refused(&path).kind(), ErrorKind::Model);
}

#[test]
fn references_that_lead_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.mlmodel");
    fs::write(folder.path().join("beside"), "x").unwrap();
    for (file_name, kind) in [
        ("@model_path/weights/weight.bin", ErrorKind::NotFound),
        ("@model_path/../weight.bin", ErrorKind::PathEscape),
        ("@model_path//etc/passwd", ErrorKind::PathEscape),
        ("@model_path/", ErrorKind::PathEscape),
        ("@model_path/beside", ErrorKind::Weights),
        ("/etc/passwd", ErrorKind::Reference),
        ("weights/weight.bin", ErrorKind::Reference),
        ("", ErrorKind::Reference),
    ] {
        fs::write(&path, model_with_reference(file_name)).unwrap();
        let error = refused(&path);
        assert_eq!(error.kind(), kind, "{error}");
    }
    // The record is looked at when it is used.
    let mut header = vec![0, 0, 0, 0, 2, 0, 0, 0];
    header.resize(64, 0);
    fs::create_dir(folder.path().join("weights")).unwrap();
    fs::write(folder.path().join("weights/weight.bin"), header).unwrap();
    fs::write(&path, model_with_reference("@model_path/weights/weight.bin")).unwrap();
    let package = Package::open(&path).unwrap();
    assert!(package.weights().is_some());
    assert_eq!(package.check_records().unwrap_err().kind(), ErrorKind::Weights);
    assert_eq!(package.weight_file("other").unwrap_err().kind(), ErrorKind::Reference);
}

/// Pipes, devices and sparse files under the names of a package: each is refused at once.
#[cfg(unix)]
#[test]
fn files_that_are_none_or_far_too_large() {
    let manifest = Manifest::standard(true, b"").to_text();
    let model = model_with_reference("@model_path/weights/weight.bin");
    const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";
    for name in ["Manifest.json", MODEL, WEIGHTS] {
        let (folder, path) = package(&[
            ("Manifest.json", manifest.as_bytes()),
            (MODEL, &model),
            (WEIGHTS, &[0; 64]),
        ]);
        let file = path.join(name);
        fs::remove_file(&file).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
        let error = refused(&path);
        assert!(error.reason().contains("not a"), "{name}: {error}");
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        refused(&path);
        fs::remove_file(&file).unwrap();
        fs::File::create(&file).unwrap().set_len(1 << 40).unwrap();
        let error = refused(&path);
        let reason = if name == WEIGHTS { "blob storage version 0" } else { "too large" };
        assert!(error.reason().contains(reason), "{name}: {error}");
        // A bare model is opened by its own path.
        if name == MODEL {
            assert!(refused(&file).reason().contains("too large"));
            let pipe = folder.path().join("p.mlmodel");
            assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
            assert!(refused(&pipe).reason().contains("it is a pipe"));
        }
    }
}
