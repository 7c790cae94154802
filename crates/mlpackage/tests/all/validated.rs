//! From the builder over the validator to disk and back.

use anemll_mil::{
    DataType, DescriptionOptions, FunctionBuilder, TensorType, function_model, validate_resolved,
};
use anemll_mlpackage::{
    BlobFile, BlobType, BlobWriter, ErrorKind, Package, WEIGHT_FILE_NAME, WeightsPlacement,
    WeightsSource, WriteOptions, write_package,
};
use coreml_proto::mil::value::Value as Storage;

#[test]
fn a_built_model_is_written_and_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let weights = folder.path().join("shared.bin");
    let mut writer = BlobWriter::create(&weights).unwrap();
    writer.append(BlobType::UInt8, 16, &[3; 16]).unwrap();
    let bytes: Vec<u8> = [0x00_u8, 0x3C].repeat(64 * 16);
    let offset = writer.append(BlobType::Float16, 64 * 16, &bytes).unwrap().offset;
    writer.finish().unwrap();

    let mut builder = FunctionBuilder::new();
    let x = builder.input("x", TensorType::new(DataType::Float16, &[1, 16, 1, 4])).unwrap();
    let weight = builder.weight("w", WEIGHT_FILE_NAME, DataType::Float16, &[64, 16, 1, 1]).unwrap();
    let y = builder.conv1x1(x, weight, None).unwrap();
    builder.name_value(y, "y").unwrap();
    let function = builder.finish(&[y]).unwrap();
    let mut model = function_model(function, &DescriptionOptions::default()).unwrap();
    for value in anemll_mil::blob_references_mut(&mut model) {
        if let Some(Storage::BlobFileValue(blob)) = &mut value.value {
            blob.offset = offset;
        }
    }

    let file = BlobFile::open(&weights).unwrap();
    let checked = validate_resolved(model.clone(), &file).unwrap();
    let path = folder.path().join("P.mlpackage");
    let source = WeightsSource::HardLink(&weights);
    let written = write_package(&path, &checked, source, &WriteOptions::default()).unwrap();
    assert_eq!(written.weights, WeightsPlacement::HardLinked);
    let error = write_package(&path, &checked, source, &WriteOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Exists);

    let package = Package::open(&path).unwrap();
    assert_eq!(package.model(), &model);
    validate_resolved(package.model().clone(), &package).unwrap();

    // The same model over a record of another type, and over no record at all.
    for wrong in [64, 128] {
        let mut model = model.clone();
        for value in anemll_mil::blob_references_mut(&mut model) {
            if let Some(Storage::BlobFileValue(blob)) = &mut value.value {
                blob.offset = wrong;
            }
        }
        assert!(validate_resolved(model, &file).is_err());
    }
}
