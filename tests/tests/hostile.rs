//! Packages and arrays that somebody made to take memory and time: each is one error at once.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_mil::{
    BlobCatalog, BlobInfo, DataType, DescriptionOptions, FunctionBuilder, TensorType,
    combine_functions, function_model, validate_resolved,
};
use anemll_mlpackage::{WeightsSource, WriteOptions, write_package};
use anemll_tests::{anemll, convert, evaluate, golden, model, run};
use coreml_proto::Model;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

/// A package without weights.
struct NoRecords;

impl BlobCatalog for NoRecords {
    fn blob(&self, _: &str, _: u64) -> anemll_mil::Result<BlobInfo> {
        Err(anemll_mil::Error::new("none"))
    }
}

/// A function that takes a mask of this shape, and gives a value of the same shape as logits.
fn function(mask: &[u64]) -> Model {
    let mut builder = FunctionBuilder::new();
    let mask = builder.input("causal_mask", TensorType::new(DataType::Float16, mask)).unwrap();
    let logits = builder.relu(mask).unwrap();
    builder.name_value(logits, "logits1").unwrap();
    let function = builder.finish(&[logits]).unwrap();
    function_model(function, &DescriptionOptions::default()).unwrap()
}

/// A conversion of one package, whose functions take masks of these shapes.
fn conversion(folder: &Path, infer: &[u64], prefill: &[u64]) {
    let functions = [("infer", function(infer)), ("prefill", function(prefill))];
    let both = combine_functions(&functions, "infer", "both", &BTreeMap::new()).unwrap();
    let checked = validate_resolved(both, &NoRecords).unwrap();
    let path = folder.join("m.mlpackage");
    let options = WriteOptions { replace: true };
    write_package(path, &checked, WeightsSource::None, &options).unwrap();
    let meta = "model_info:\n  parameters:\n    model_type: monolithic\n    \
                monolithic_model: m.mlpackage\n";
    std::fs::write(folder.join("meta.yaml"), meta).unwrap();
}

/// What `eval` of one token says.
fn told(folder: &Path) -> String {
    let ids = folder.join("ids.npy");
    let header = "{'descr': '<i4', 'fortran_order': False, 'shape': (2,), }\n";
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend([0; 8]);
    std::fs::write(&ids, bytes).unwrap();
    let mut command = anemll();
    command.arg("eval").arg(folder).arg("--tokens").arg(&ids).args(["--path", "infer"]);
    let output = run(&mut command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {text}", output.status);
    text
}

#[test]
fn masks_of_odd_or_huge_shapes_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let good: &[u64] = &[1, 1, 1, 64];
    conversion(folder.path(), good, &[1, 1, 8, 64]);
    let text = told(folder.path());
    assert!(!text.contains("A0708"), "{text}");
    let long = 1 << 20;
    for (infer, prefill) in [
        // Not of four sides, or not one mask.
        (&[1, 64][..], good),
        (&[2, 1, 1, 64], good),
        (&[1, 2, 1, 64], good),
        // Not of one token.
        (&[1, 1, 2, 64], good),
        // A context that no model has.
        (&[1, 1, 1, (1 << 22) + 1], good),
        (&[1, 1, 1, 1 << 30], good),
        // Another context, more tokens than that, and a mask of two gigabytes.
        (good, &[1, 1, 8, 128]),
        (good, &[1, 1, 65, 64]),
        (&[1, 1, 1, long], &[1, 1, 1 << 10, long]),
    ] {
        conversion(folder.path(), infer, prefill);
        let text = told(folder.path());
        assert!(text.contains("error[A0708]"), "{infer:?} {prefill:?}: {text}");
        assert!(text.contains("causal_mask") && text.contains("in m has the shape"), "{text}");
    }
}

/// The start of an array with this header, and how many zeros follow.
fn array(dtype: &str, shape: &str, bytes: u64) -> (Vec<u8>, u64) {
    let header = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n");
    let mut start = b"\x93NUMPY\x01\x00".to_vec();
    start.extend((header.len() as u16).to_le_bytes());
    start.extend(header.as_bytes());
    (start, bytes)
}

fn archive(path: &Path, members: &[(&str, (Vec<u8>, u64))]) {
    let mut zip = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .large_file(true);
    for (name, (start, zeros)) in members {
        zip.start_file(*name, options).unwrap();
        zip.write_all(start).unwrap();
        std::io::copy(&mut std::io::Read::take(std::io::repeat(0), *zeros), &mut zip).unwrap();
    }
    zip.finish().unwrap();
}

#[test]
fn archives_that_grow_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    convert(&model("tiny-llama"), folder.path(), &[]);
    let golden = golden("tiny-llama");
    let ids = std::fs::read(golden.join("ids.npy")).unwrap();
    let tokens = (ids.len() - 128) / 4;
    let path = folder.path().join("reference.npz");
    let rows = |columns: u64| format!("({tokens}, {columns})");
    let size = |columns: u64| tokens as u64 * columns * 4;
    let sums = || ("logsumexp.npy", array("<f4", &format!("({tokens},)"), size(1)));
    // As it should be, so that what follows is refused for its own fault.
    archive(
        &path,
        &[
            ("indices.npy", array("<i4", &rows(4), size(4))),
            ("logits.npy", array("<f4", &rows(4), size(4))),
            sums(),
        ],
    );
    let evaluation = evaluate(folder.path(), &golden, path.to_str().unwrap(), &[]);
    assert_eq!(evaluation["positions"], tokens);
    const MANY: u64 = 4 << 20;
    for (what, indices, logits, reason) in [
        // More than a header promises: what a bomb is made of.
        ("indices", (rows(4), MANY), (rows(4), size(4)), "and the archive has"),
        ("logits", (rows(4), size(4)), (rows(4), MANY), "and the archive has"),
        // A header that promises more than the file has, than there are tokens, than a file can hold.
        ("short", (rows(4), size(4) - 4), (rows(4), size(4)), "and the archive has"),
        ("wide", (rows(1 << 40), 16), (rows(4), size(4)), "reference"),
        ("long", ("(1099511627776, 4)".to_owned(), 16), (rows(4), size(4)), "reference"),
        ("product", ("(9999999999, 9999999999)".to_owned(), 16), (rows(4), size(4)), "reference"),
    ] {
        let indices = ("indices.npy", array("<i4", &indices.0, indices.1));
        let logits = ("logits.npy", array("<f4", &logits.0, logits.1));
        archive(&path, &[indices, logits, sums()]);
        let mut command = anemll();
        command.arg("eval").arg(folder.path()).arg("--tokens").arg(golden.join("ids.npy"));
        let output = run(command.arg("--reference").arg(&path));
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{what}: {text}");
        assert!(text.contains("error[A07") && text.contains(reason), "{what}: {text}");
    }
}
