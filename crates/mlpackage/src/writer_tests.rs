use super::*;
use crate::blob_type::BlobType;
use crate::blob_writer::BlobWriter;
use crate::package::Package;
use anemll_mil::{DataType, TensorType, ValueType};
use coreml_proto::{mil, model};
use std::fs;

/// A weight file of a float16 and an 8-bit record, and a model that refers to both.
fn weights_and_model(folder: &Path, file_name: &str) -> (PathBuf, Model) {
    let path = folder.join("source.bin");
    if !path.exists() {
        let mut writer = BlobWriter::create(&path).unwrap();
        writer.append(BlobType::Float16, 20, &[1; 40]).unwrap();
        writer.append(BlobType::UInt8, 10, &[2; 10]).unwrap();
        writer.finish().unwrap();
    }
    let constant = |name: &str, kind: DataType, count: u64, offset: u64| {
        let kind = ValueType::Tensor(TensorType::new(kind, &[count])).to_proto();
        let blob = mil::value::BlobFileValue { file_name: file_name.to_owned(), offset };
        let value = mil::Value {
            r#type: Some(kind.clone()),
            value: Some(mil::value::Value::BlobFileValue(blob)),
            ..Default::default()
        };
        mil::Operation {
            r#type: "const".to_owned(),
            outputs: vec![mil::NamedValueType { name: name.to_owned(), r#type: Some(kind) }],
            attributes: [("val".to_owned(), value)].into(),
            ..Default::default()
        }
    };
    let block = mil::Block {
        operations: vec![
            constant("a", DataType::Float16, 20, 64),
            constant("b", DataType::UInt8, 10, 192),
        ],
        ..Default::default()
    };
    let function = mil::Function {
        opset: "CoreML8".to_owned(),
        block_specializations: [("CoreML8".to_owned(), block)].into(),
        ..Default::default()
    };
    let program = mil::Program {
        version: 1,
        functions: [("main".to_owned(), function)].into(),
        ..Default::default()
    };
    let model = Model {
        specification_version: 9,
        r#type: Some(model::Type::MlProgram(program)),
        ..Default::default()
    };
    (path, model)
}

/// Names in a folder, hidden ones too.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

const OPTIONS: WriteOptions = WriteOptions { replace: false };
const WEIGHTS: &str = "Data/com.apple.CoreML/weights/weight.bin";

#[test]
fn write_then_open() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, model) = weights_and_model(folder.path(), WEIGHT_FILE_NAME);
    let first = folder.path().join("First.mlpackage");
    let written = write_model(&first, &model, WeightsSource::HardLink(&weights), &OPTIONS).unwrap();
    assert_eq!(written.weights, WeightsPlacement::HardLinked);
    assert_eq!(written.weight_bytes, fs::metadata(&weights).unwrap().len());
    assert_eq!(names(folder.path()), ["First.mlpackage", "source.bin"]);
    assert_eq!(names(&first), ["Data", "Manifest.json"]);

    let package = Package::open(&first).unwrap();
    assert_eq!(package.model(), &model);
    assert_eq!(package.model_size(), written.model_bytes);
    package.check_records().unwrap();
    let file = package.weights().unwrap();
    let records: Vec<_> = file.records().map(Result::unwrap).collect();
    assert_eq!(file.read(&records[0]).unwrap(), [1; 40]);
    assert_eq!(file.read(&records[1]).unwrap(), [2; 10]);

    let second = folder.path().join("Second.mlpackage");
    let written = write_model(&second, &model, WeightsSource::Copy(&weights), &OPTIONS).unwrap();
    assert_eq!(written.weights, WeightsPlacement::Copied { reason: None });
    for inner in ["Manifest.json", "Data/com.apple.CoreML/model.mlmodel", WEIGHTS] {
        assert_eq!(fs::read(first.join(inner)).unwrap(), fs::read(second.join(inner)).unwrap());
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let inode = |path: &Path| fs::metadata(path).unwrap().ino();
        assert_eq!(inode(&first.join(WEIGHTS)), inode(&weights));
        assert_ne!(inode(&second.join(WEIGHTS)), inode(&weights));
    }
}

#[cfg(unix)]
#[test]
fn a_link_to_the_weights_is_followed() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, model) = weights_and_model(folder.path(), WEIGHT_FILE_NAME);
    let link = folder.path().join("link.bin");
    std::os::unix::fs::symlink(&weights, &link).unwrap();
    let path = folder.path().join("P.mlpackage");
    write_model(&path, &model, WeightsSource::HardLink(&link), &OPTIONS).unwrap();
    assert!(fs::symlink_metadata(path.join(WEIGHTS)).unwrap().is_file());
    Package::open(&path).unwrap();
}

#[test]
fn an_existing_package_is_replaced_only_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, model) = weights_and_model(folder.path(), WEIGHT_FILE_NAME);
    let path = folder.path().join("P.mlpackage");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("mine"), "x").unwrap();
    let source = WeightsSource::HardLink(&weights);
    let error = write_model(&path, &model, source, &OPTIONS).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);
    assert_eq!(names(&path), ["mine"]);
    let replace = WriteOptions { replace: true };
    let written = write_model(&path, &model, source, &replace).unwrap();
    assert_eq!(written.leftover, None);
    assert_eq!(names(folder.path()), ["P.mlpackage", "source.bin"]);
    Package::open(&path).unwrap();
    // The weights of the package that is being replaced can be the source of the new ones.
    let own = path.join(WEIGHTS);
    fs::remove_file(&weights).unwrap();
    write_model(&path, &model, WeightsSource::HardLink(&own), &replace).unwrap();
    Package::open(&path).unwrap().check_records().unwrap();
}

#[test]
fn a_model_without_weights() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("P.mlpackage");
    let program = mil::Program { version: 1, ..Default::default() };
    let model = Model {
        specification_version: 9,
        r#type: Some(model::Type::MlProgram(program)),
        ..Default::default()
    };
    let written = write_model(&path, &model, WeightsSource::None, &OPTIONS).unwrap();
    assert_eq!((written.weights, written.weight_bytes), (WeightsPlacement::None, 0));
    let package = Package::open(&path).unwrap();
    assert!(package.weights().is_none());
    assert_eq!(package.manifest().unwrap().items().len(), 1);
}

#[test]
fn what_does_not_fit_is_refused_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (weights, model) = weights_and_model(folder.path(), WEIGHT_FILE_NAME);
    let before = names(folder.path());
    let path = folder.path().join("P.mlpackage");
    let refused = |path: &Path, model: &Model, source| {
        let error = write_model(path, model, source, &OPTIONS).unwrap_err();
        assert_eq!(names(folder.path()), before);
        error
    };
    let source = WeightsSource::HardLink(&weights);
    assert_eq!(refused(&path, &model, WeightsSource::None).kind(), ErrorKind::Reference);
    let other = folder.path().join("P.package");
    assert_eq!(refused(&other, &model, source).kind(), ErrorKind::Usage);
    let absent = folder.path().join("absent");
    assert_eq!(refused(&path, &model, WeightsSource::Copy(&absent)).kind(), ErrorKind::NotFound);
    assert_eq!(refused(&absent.join("P.mlpackage"), &model, source).kind(), ErrorKind::NotFound);

    let (_, elsewhere) = weights_and_model(folder.path(), "@model_path/weights/other.bin");
    let error = refused(&path, &elsewhere, source);
    assert_eq!(error.kind(), ErrorKind::Reference);
    assert!(error.reason().contains("other.bin"), "{error}");

    // A file of the same layout but other types.
    let mut writer = BlobWriter::create(folder.path().join("x.bin")).unwrap();
    writer.append(BlobType::BFloat16, 20, &[1; 40]).unwrap();
    writer.append(BlobType::UInt8, 10, &[2; 10]).unwrap();
    writer.finish().unwrap();
    let wrong = folder.path().join("x.bin");
    let error = write_model(&path, &model, WeightsSource::Copy(&wrong), &OPTIONS).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Reference);
    assert!(error.reason().contains("at offset 64"), "{error}");
    assert!(!path.exists());
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (weights, model) = weights_and_model(folder.path(), WEIGHT_FILE_NAME);
    let closed = folder.path().join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(closed.join("probe"), "x").is_ok() {
        println!("skipped: this user may write everywhere");
        return;
    }
    let path = closed.join("P.mlpackage");
    let error =
        write_model(&path, &model, WeightsSource::HardLink(&weights), &OPTIONS).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WriteDenied);
}
