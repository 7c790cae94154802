//! The option `activations` = `float32`: values declared as float16 are kept as they are computed.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::common::{find, floats, halves, integers, run};
use anemll_mil::{DataType, DescriptionOptions, FunctionBuilder, TensorType, function_model};
use anemll_plugin_api::{ComponentOptions, DType, Host, Plugin, Session, Tensor, codes};
use anemll_runtime_cpu::CpuPlugin;
use serde_json::{Value, json};

/// Options that keep values of float16 as this type.
fn keeping(dtype: impl Into<Value>) -> ComponentOptions {
    ComponentOptions::new().with("activations", dtype)
}

/// Row `row` of a table times `factor`, plus what was added before: (2). The table's row 1 is
/// (60000, 0.1).
fn open(options: &ComponentOptions) -> (tempfile::TempDir, Box<dyn Session>) {
    let half = |shape: &[u64]| TensorType::new(DataType::Float16, shape);
    let mut builder = FunctionBuilder::new();
    let row = builder.input("row", TensorType::new(DataType::Int32, &[1])).unwrap();
    let factor = builder.input("factor", half(&[1])).unwrap();
    let state = builder.state("memory", half(&[1, 2])).unwrap();
    let table = builder.vector_f16(&[0.0, 0.0, 60000.0, 0.1]).unwrap();
    let table = builder.reshape(table, &[2, 2]).unwrap();
    let picked = builder.gather(table, row, 0).unwrap();
    let scaled = builder.mul(picked, factor).unwrap();
    builder.name_value(scaled, "scaled").unwrap();
    let before = builder.read_state(state).unwrap();
    let sum = builder.add(before, scaled).unwrap();
    builder.write_state(state, sum).unwrap();
    let hundredth = builder.scalar_f16(0.01).unwrap();
    let small = builder.mul(sum, hundredth).unwrap();
    builder.name_value(small, "small").unwrap();
    let main = builder.finish(&[small]).unwrap();
    let model = function_model(main, &DescriptionOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.mlmodel");
    std::fs::write(&path, coreml_proto::write(&model)).unwrap();
    let runtime = CpuPlugin::runtime("cpu", options).unwrap();
    let session = runtime.open(&path, &Host::quiet()).unwrap();
    (folder, session)
}

/// Two runs with the factor 4: the first row of `scaled`, then `small` after each run.
fn twice(session: &mut dyn Session, factor: &Tensor) -> (Tensor, Vec<f32>, Vec<f32>) {
    let inputs = [integers("row", &[1], &[1]), factor.clone()];
    let first = run(session, "main", &inputs, &["scaled"]).unwrap();
    let second = run(session, "main", &inputs, &[]).unwrap();
    let small = |tensors: &[Tensor]| floats(find(tensors, "small"));
    (find(&first, "scaled").clone(), small(&first), small(&second))
}

#[test]
fn nothing_overflows_and_nothing_is_rounded() {
    let factor = halves("factor", &[1], &[4.0]);
    let (_folder, mut session) = open(&keeping("float16"));
    let (scaled, first, _) = twice(&mut *session, &factor);
    assert_eq!((scaled.dtype, floats(&scaled)[0]), (DType::FLOAT16, f32::INFINITY));
    assert_eq!(first[0], f32::INFINITY);

    // The constants are float16; what is computed from them is not rounded to it.
    let tenth = half::f16::from_f32(0.1).to_f32();
    let hundredth = half::f16::from_f32(0.01).to_f32();
    let (_folder, mut session) = open(&keeping("float32"));
    let (scaled, first, second) = twice(&mut *session, &factor);
    assert_eq!(scaled.dtype, DType::FLOAT32);
    let described = session.describe();
    let main = &described.functions[0];
    assert_eq!((main.outputs[0].dtype, main.states[0].dtype), (DType::FLOAT32, DType::FLOAT32));
    assert_eq!(floats(&scaled), [240_000.0, tenth * 4.0]);
    assert_eq!(first, [240_000.0 * hundredth, tenth * 4.0 * hundredth]);
    // The state holds what float16 cannot.
    assert_eq!(second[0], 480_000.0 * hundredth);
    session.reset().unwrap();
    assert_eq!(twice(&mut *session, &factor).1, first);
}

#[test]
fn inputs_may_be_wide_only_where_values_are() {
    let bytes = 100_000_f32.to_le_bytes().to_vec();
    let factor = Tensor::new("factor", DType::FLOAT32, [1], bytes).unwrap();
    let inputs = [integers("row", &[1], &[1]), factor];
    let (_folder, mut session) = open(&keeping("float32"));
    let outputs = run(&mut *session, "main", &inputs, &["scaled", "small"]).unwrap();
    assert_eq!(outputs.len(), 2);
    assert_eq!(floats(find(&outputs, "scaled"))[0], 6e9);
    let (_folder, mut session) = open(&ComponentOptions::new());
    let error = run(&mut *session, "main", &inputs, &[]).unwrap_err();
    assert_eq!(error.code, codes::INPUT_INVALID);
}

#[test]
fn other_values_of_the_option_are_refused() {
    for value in [json!("bfloat16"), json!(32), json!(true)] {
        let error = CpuPlugin::runtime("cpu", &keeping(value.clone())).err().unwrap();
        assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID, "{value}");
    }
}
