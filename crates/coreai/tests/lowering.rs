//! Models lowered: what functions, states and weights become, and what is refused.
// Helpers of tests may unwrap as tests do; clippy knows only the latter.
#![allow(clippy::unwrap_used)]

use anemll_aicode::asset::Asset;
use anemll_aicode::{ElementType, TensorType as CoreTensor, Type, verify};
use anemll_mil::{
    DataType, DescriptionOptions, FunctionBuilder, Result, TensorType, Var, combine_functions,
    function_model,
};
use coreml_proto::Model;
use std::collections::BTreeMap;
use std::path::Path;

/// The model of one function.
fn model(build: impl FnOnce(&mut FunctionBuilder) -> Result<Var>) -> Model {
    let mut builder = FunctionBuilder::new();
    let output = build(&mut builder).unwrap();
    builder.name_value(output, "y").unwrap();
    let function = builder.finish(&[output]).unwrap();
    function_model(function, &DescriptionOptions::default()).unwrap()
}

fn half(shape: &[u64]) -> TensorType {
    TensorType::new(DataType::Float16, shape)
}

fn compiled(folder: &Path, model: &Model) -> anemll_plugin_api::Result<Asset> {
    let source = folder.join("x.mlmodel");
    std::fs::write(&source, coreml_proto::write(model)).unwrap();
    let path = folder.join("x.aimodel");
    anemll_coreai::compile(&source, &path, "a test", true)?;
    let asset = Asset::open(&path)?;
    verify(&asset.program).unwrap();
    Ok(asset)
}

fn names(asset: &Asset, function: &str) -> Vec<String> {
    let operations = &asset.program.function(function).unwrap().body.operations;
    let names = operations.iter().map(|operation| operation.name.clone());
    names.filter(|name| name != "primitive.constant_v1").collect()
}

/// A product with a table of constants that is large enough for a blob.
fn weighted(builder: &mut FunctionBuilder, tokens: u64) -> Result<Var> {
    let x = builder.input("x", half(&[1, tokens, 32]))?;
    let values: Vec<half::f16> =
        (0..1024_u16).map(|value| half::f16::from_f32(value.into())).collect();
    let weight = builder.table_f16("weight", &[32, 32], &values)?;
    builder.linear(x, weight, None)
}

#[test]
fn functions_share_weights_whatever_shape_they_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let infer = model(|builder| weighted(builder, 1));
    let prefill = model(|builder| weighted(builder, 4));
    let functions = [("infer", infer), ("prefill", prefill)];
    let both = combine_functions(&functions, "infer", "", &BTreeMap::new()).unwrap();
    let asset = compiled(folder.path(), &both).unwrap();
    let [blob] = asset.program.blobs.as_slice() else { panic!("{:?}", asset.program.blobs) };
    assert_eq!(blob.length, 2048);
    let mut bytes = [0; 4];
    asset.read_blob(blob, 2, &mut bytes).unwrap();
    assert_eq!(bytes, [0x00, 0x3c, 0x00, 0x40], "1 and 2, in the order of the package");
    assert!(names(&asset, "prefill").contains(&"primitive.conv2d_v1".to_owned()));
    let output = &asset.program.function("prefill").unwrap().outputs[0];
    let expected = CoreTensor::new(ElementType::Float16, &[1, 4, 32]);
    assert_eq!((output.name.as_deref(), &output.kind), (Some("y"), &Type::Tensor(expected)));
    let first = std::fs::read(folder.path().join("x.aimodel/main.mlirb")).unwrap();
    compiled(folder.path(), &both).unwrap();
    assert_eq!(first, std::fs::read(folder.path().join("x.aimodel/main.mlirb")).unwrap());
}

#[test]
fn a_state_is_read_once_and_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let asset = compiled(
        folder.path(),
        &model(|builder| {
            let x = builder.input("x", half(&[4, 8]))?;
            let state = builder.state("kept", half(&[4, 8]))?;
            let mut value = x;
            for _ in 0..3 {
                let content = builder.read_state(state)?;
                let sum = builder.add(content, value)?;
                builder.write_state(state, sum)?;
                value = builder.read_state(state)?;
            }
            builder.mul(value, x)
        }),
    );
    let asset = asset.unwrap();
    let names = names(&asset, "main");
    let count = |wanted: &str| names.iter().filter(|name| name.contains(wanted)).count();
    assert_eq!((count("read_handle"), count("write_handle"), count(".add_v1")), (1, 1, 3));
    let function = asset.program.function("main").unwrap();
    assert_eq!(function.inputs[0].state.as_deref(), Some("kept"));
    assert_eq!(function.outputs[0].kind, Type::Token);
}

#[test]
fn bounds_and_masks_of_slices_are_worked_in() {
    let folder = tempfile::tempdir().unwrap();
    let asset = compiled(
        folder.path(),
        &model(|builder| {
            let x = builder.input("x", half(&[4, 8]))?;
            builder.slice_by_index(x, &[-2, 3], &[100, 0], &[], &[false, true])
        }),
    );
    let asset = asset.unwrap();
    let shown = format!("{:?}", asset.program.functions[0].body);
    // From (2, 3) to (4, 8).
    assert!(shown.contains("bytes: [2, 0, 0, 0, 3, 0, 0, 0]"), "{shown}");
    assert!(shown.contains("bytes: [4, 0, 0, 0, 8, 0, 0, 0]"), "{shown}");
}

#[test]
fn what_core_ai_lacks_is_refused_by_function_and_operation() {
    let folder = tempfile::tempdir().unwrap();
    let lacking = model(|builder| {
        let x = builder.input("x", half(&[4, 8]))?;
        builder.op1("floor", vec![("x", x.into())])
    });
    let error = compiled(folder.path(), &lacking).unwrap_err();
    assert_eq!(error.code, anemll_plugin_api::codes::COMPILE_FAILED);
    let expected = "function `main`, operation `y` (floor): \
                    Core AI has no operation for it that is known here";
    assert_eq!(error.message, expected);
    assert!(!folder.path().join("x.aimodel").exists());
}

#[test]
fn every_simple_operation_is_lowered_to_what_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let asset = compiled(
        folder.path(),
        &model(|builder| {
            let x = builder.input("x", half(&[2, 4, 8]))?;
            let mut value = builder.layer_norm(x, &[-1], 1e-5)?;
            for step in [
                FunctionBuilder::silu,
                FunctionBuilder::sigmoid,
                FunctionBuilder::relu,
                FunctionBuilder::tanh,
                FunctionBuilder::square,
                FunctionBuilder::identity,
            ] {
                value = step(builder, value)?;
            }
            value = builder.gelu(value, "TANH_APPROXIMATION")?;
            value = builder.rsqrt(value, 1e-3)?;
            value = builder.clip(value, -1.0, 1.0)?;
            value = builder.softmax(value, -1)?;
            let other = builder.tile(value, &[1, 2, 1])?;
            let product = builder.matmul(other, value, false, true)?;
            let best = builder.reduce_argmax(product, -1, false)?;
            let best = builder.cast(best, DataType::Float16)?;
            let above = builder.greater_equal(best, best)?;
            let chosen = builder.select(above, best, best)?;
            let pieces = builder.split(chosen, &[4, 4], 1)?;
            let stacked = builder.stack(&pieces, 0)?;
            let turned = builder.transpose(stacked, &[2, 0, 1])?;
            let summed = builder.reduce_sum(turned, &[0], false)?;
            let indices = builder.vector_i32(&[1, 0, 1])?;
            let gathered = builder.gather(summed, indices, 1)?;
            builder.concat(&[gathered, gathered], -1)
        }),
    );
    let output = &asset.unwrap().program.functions[0].outputs[0];
    assert_eq!(output.kind, Type::Tensor(CoreTensor::new(ElementType::Float16, &[2, 6])));
}
