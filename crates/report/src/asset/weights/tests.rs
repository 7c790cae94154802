//! Assets made here, and what is said of them.

use crate::asset::{self, AssetInspection, Wanted, compare, faults};
use anemll_aicode::asset::{Asset, Metadata, write};
use anemll_aicode::{
    Blob, ElementType, Function, Port, Program, TensorType, Type, Window, block, needed_version,
};
use std::path::Path;

const HALF: ElementType = ElementType::Float16;

fn half(shape: &[i64]) -> TensorType {
    TensorType::new(HALF, shape)
}

/// A function with a palettized weight in blobs 0 and 1, one of integers in blobs 2 and 3, and a state.
fn function(name: &str, rows: i64, second: bool) -> Function {
    let (state, x) = (Type::State(half(&[4, 8])), half(&[1, 32, 1, rows]));
    let mut builder = block(vec![state.clone(), x.clone().into()]);
    let indices = builder.blob(&TensorType::new(ElementType::UInt4, &[32, 32, 1, 1]), 0);
    let table = builder.blob(&half(&[4, 1, 1, 1, 16, 1]), 1);
    let weight = builder.lut_to_dense(indices, table, None);
    let mut value = builder.conv2d(builder.argument(1), weight, Window::PLAIN);
    if second {
        let data = builder.blob(&TensorType::new(ElementType::Int8, &[32, 32, 1, 1]), 2);
        let scale = builder.blob(&half(&[32, 1, 1, 1]), 3);
        let weight = builder.blockwise(data, scale, None);
        value = builder.conv2d(value, weight, Window::PLAIN);
    }
    let (content, token) = builder.read_state(builder.argument(0));
    let token = builder.write_state(builder.argument(0), content, token);
    Function {
        name: name.to_owned(),
        inputs: vec![
            Port { name: Some("kept".to_owned()), kind: state, state: Some("kept".to_owned()) },
            Port::new("x", x.clone()),
        ],
        outputs: vec![Port::new("kept", Type::Token), Port::new("y", x)],
        body: builder.finish_function(&[token, value]),
        ..Function::default()
    }
}

fn asset(folder: &Path, name: &str, functions: Vec<Function>) -> Asset {
    let blob = |key: &str, length| Blob { key: key.to_owned(), length, offset: 0 };
    let blobs =
        vec![blob("indices", 512), blob("table", 128), blob("data", 1024), blob("scale", 64)];
    let program = Program { version: needed_version(&functions), functions, blobs };
    let path = folder.join(name);
    let metadata = Metadata { producer: "a test".to_owned(), ..Metadata::default() };
    write(&path, &program, &metadata, true, |index, output| {
        output.write_all(&vec![index as u8; program.blobs[index].length as usize])
    })
    .unwrap();
    Asset::open(&path).unwrap()
}

#[test]
fn weights_are_told_by_form_and_by_who_shares_them() {
    let folder = tempfile::tempdir().unwrap();
    let functions = vec![function("infer", 1, true), function("prefill", 4, false)];
    let asset = asset(folder.path(), "x.aimodel", functions);
    let found = AssetInspection::of(&asset, None);
    let told: Vec<_> = found
        .weights
        .iter()
        .map(|weight| {
            (weight.form.as_str(), weight.groups, weight.bytes, weight.functions.join("+"))
        })
        .collect();
    // 32 × 32 of 4 bits, 4 tables of 16 halves, the axis of two bytes; integers, 32 scales of two bytes, offsets of
    // a byte and of a half.
    assert_eq!(
        told,
        [
            ("4-bit palettized", 4, 512 + 128 + 2, "infer+prefill".to_owned()),
            ("int8 scaled", 32, 1024 + 64 + 1 + 2, "infer".to_owned()),
        ]
    );
    assert_eq!(found.weights[0].key, "indices");
    let shared: Vec<_> =
        found.sharing.iter().map(|one| (one.functions.len(), one.weights)).collect();
    assert_eq!(shared, [(2, 1), (1, 1)]);
    assert_eq!((found.weight_bytes, found.unused_bytes), (512 + 128 + 1024 + 64, 0));
    assert_eq!(found.functions[0].operations["conv2d"], 2);
    assert!(found.faults.is_empty(), "{:?}", found.faults);
    let one = AssetInspection::of(&asset, Some("prefill"));
    assert_eq!((one.functions.len(), one.weights.len()), (1, 1));
    let text = asset::inspection_text(&found, false, Some(80));
    assert!(text.contains("1 of 2 weights serve several functions"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn what_two_assets_differ_in_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let two = || vec![function("infer", 1, true), function("prefill", 4, false)];
    let first = asset(folder.path(), "a.aimodel", two());
    assert!(compare(&first, &first).is_equal());
    let mut changed = two();
    changed.remove(1);
    changed[0].inputs[1].name = Some("z".to_owned());
    let second = asset(folder.path(), "b.aimodel", changed);
    let found = compare(&first, &second);
    let text = found.to_text(Some(80));
    assert!(!found.is_equal());
    for expected in ["function prefill\n  only in A", "input x", "input z"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    let third = asset(folder.path(), "c.aimodel", vec![function("infer", 1, false)]);
    let text = compare(&second, &third).to_text(Some(80));
    assert!(text.contains("weights only in A (1; 1 are equal)"), "{text}");
}

#[test]
fn what_loaders_dislike_is_told_and_refused_where_asked() {
    let folder = tempfile::tempdir().unwrap();
    asset(folder.path(), "x.aimodel", vec![function("infer", 1, true)]);
    let path = folder.path().join("x.aimodel");
    std::fs::write(path.join("main.hash"), [0; 32]).unwrap();
    std::fs::write(path.join("metadata.json"), "{\"assetVersion\":\"2.0\"}").unwrap();
    let found = faults(&Asset::open(&path).unwrap());
    let files: Vec<&str> = found.iter().map(|fault| fault.file.as_str()).collect();
    assert_eq!(files, ["main.hash", "metadata.json"]);
    let wanted = Wanted { lint: true, strict: true, ..Wanted::default() };
    let shown = asset::show(&path, wanted, Some(80)).unwrap();
    assert_eq!(shown.verdict.unwrap_err().code, anemll_codes::LINT_FOUND);
    let wanted = Wanted { function: Some("none"), ..Wanted::default() };
    let error = asset::show(&path, wanted, None).unwrap_err();
    assert_eq!(error.code, anemll_codes::FUNCTION_UNKNOWN);
    std::fs::write(path.join("main.mlirb"), b"ML\xefR").unwrap();
    let error = asset::show(&path, Wanted::default(), None).unwrap_err();
    assert_eq!(error.code, anemll_codes::PACKAGE_INVALID);
}
