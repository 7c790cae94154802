use super::*;
use crate::validate_referenced;
use crate::{DescriptionOptions, function_model};

fn f16_type(shape: &[u64]) -> TensorType {
    TensorType::new(DataType::Float16, shape)
}

fn types(function: &mil::Function) -> Vec<&str> {
    let block = &function.block_specializations["CoreML8"];
    block.operations.iter().map(|operation| operation.r#type.as_str()).collect()
}

#[test]
fn unknown_sizes_pass_through_gather() {
    let mut builder = FunctionBuilder::new();
    let length = builder.symbol();
    let shape = vec![Dimension::Fixed(1), length];
    let ids = builder.input("input_ids", TensorType::with_shape(DataType::Int32, shape)).unwrap();
    let reference = r#"anemll-weight:{"tensor":"model.embed_tokens.weight"}"#;
    let table = builder.weight("embed", reference, DataType::Float16, &[100, 16]).unwrap();
    let hidden = builder.gather(table, ids, 0).unwrap();
    assert_eq!(builder.shape_of(hidden), [Dimension::Fixed(1), length, Dimension::Fixed(16)]);
    // The same unknown size on both sides adds up without a new one.
    let twice = builder.add(hidden, hidden).unwrap();
    assert_eq!(builder.shape_of(twice), builder.shape_of(hidden));
    let flat = builder.reshape(twice, &[-1, 16]).unwrap();
    assert_eq!(builder.shape_of(flat), [length, Dimension::Fixed(16)]);
    builder.name_value(flat, "hidden_states").unwrap();
    let function = builder.finish(&[flat]).unwrap();
    let without = function_model(function.clone(), &DescriptionOptions::default());
    assert!(without.unwrap_err().message.contains("no shapes are given"));
    let enumerated_shapes = [("input_ids".to_owned(), vec![vec![1, 1], vec![1, 64]])].into();
    let options = DescriptionOptions { enumerated_shapes, ..DescriptionOptions::default() };
    let model = function_model(function, &options).unwrap();
    assert_eq!(model.specification_version, 9);
    let interface = crate::interface(&model).unwrap();
    assert_eq!(interface[0].inputs[0].shapes, [[1, 1], [1, 64]]);
    assert!(interface[0].outputs[0].shapes.is_empty());
    validate_referenced(model).unwrap();
}

#[test]
fn wrong_enumerated_shapes_are_refused() {
    let build = |shapes: Vec<Vec<u64>>, name: &str| {
        let mut builder = FunctionBuilder::new();
        let length = builder.symbol();
        let kind = TensorType::with_shape(DataType::Float16, vec![Dimension::Fixed(1), length]);
        let x = builder.input("x", kind).unwrap();
        let y = builder.relu(x).unwrap();
        let function = builder.finish(&[y]).unwrap();
        let enumerated_shapes = [(name.to_owned(), shapes)].into();
        function_model(function, &DescriptionOptions { enumerated_shapes, ..Default::default() })
    };
    assert!(build(vec![vec![1, 4]], "x").is_ok());
    assert!(build(vec![vec![2, 4]], "x").unwrap_err().message.contains("does not fit"));
    assert!(build(vec![vec![1]], "x").unwrap_err().message.contains("does not fit"));
    assert!(build(vec![], "x").unwrap_err().message.contains("empty list"));
    assert!(build(vec![vec![1, 4]], "z").unwrap_err().message.contains("no shapes are given"));
}

#[test]
fn equal_constants_are_one_and_unused_ones_go() {
    let mut builder = FunctionBuilder::new();
    let x = builder.input("x", f16_type(&[2, 3])).unwrap();
    builder.scalar_i32(12345).unwrap();
    let y = builder.transpose(x, &[1, 0]).unwrap();
    let z = builder.transpose(y, &[1, 0]).unwrap();
    let function = builder.finish(&[z]).unwrap();
    assert_eq!(types(&function), ["const", "transpose", "transpose"]);
    let mut builder = FunctionBuilder::new();
    let reference = r#"anemll-weight:{"tensor":"w"}"#;
    let first = builder.weight("w", reference, DataType::Float16, &[4, 8]).unwrap();
    let again = builder.weight("w", reference, DataType::Float16, &[4, 8]).unwrap();
    let reshaped = builder.weight("w", reference, DataType::Float16, &[8, 4]).unwrap();
    assert_eq!(first, again);
    assert_ne!(first, reshaped);
    assert_eq!([builder.name_of(first), builder.name_of(reshaped)], ["w", "w_1"]);
}

#[test]
fn zeros_of_either_sign_are_two_constants() {
    let mut builder = FunctionBuilder::new();
    let positive = builder.scalar_f16(0.0).unwrap();
    let negative = builder.scalar_f16(-0.0).unwrap();
    assert_ne!(positive, negative);
}

#[test]
fn scopes_name_values_and_names_are_unique() {
    let mut builder = FunctionBuilder::new();
    let x = builder.input("x", f16_type(&[4])).unwrap();
    builder.scope("layers.0");
    builder.scope("mlp");
    let a = builder.silu(x).unwrap();
    let b = builder.silu(x).unwrap();
    builder.end_scope();
    let c = builder.exp(x).unwrap();
    builder.end_scope();
    builder.end_scope();
    let d = builder.exp(c).unwrap();
    let names: Vec<_> = [a, b, c, d].iter().map(|var| builder.name_of(*var)).collect();
    assert_eq!(names, ["layers_0_mlp_silu", "layers_0_mlp_silu_1", "layers_0_exp", "exp"]);
}

#[test]
fn final_names_are_checked_and_reach_the_operation() {
    let mut builder = FunctionBuilder::new();
    let x = builder.input("x", f16_type(&[4])).unwrap();
    let y = builder.relu(x).unwrap();
    for bad in ["", "1x", "a.b", "tensor"] {
        assert!(
            builder.name_value(y, bad).unwrap_err().message.contains("not a legal name"),
            "{bad}"
        );
    }
    assert!(builder.name_value(y, "x").unwrap_err().message.contains("taken"));
    assert!(builder.name_value(x, "other").unwrap_err().message.contains("is an input"));
    assert!(builder.input("x", f16_type(&[4])).unwrap_err().message.contains("taken"));
    builder.name_value(y, "result").unwrap();
    // The old name is free again.
    let z = builder.relu(y).unwrap();
    assert_eq!(builder.name_of(z), "relu");
    let function = builder.finish(&[z, y]).unwrap();
    let block = &function.block_specializations["CoreML8"];
    assert_eq!(block.outputs, ["relu", "result"]);
    let name = Literal::from_value(&block.operations[0].attributes["name"]).unwrap();
    assert_eq!(name.text(), Some("result"));
}

#[test]
fn errors_name_operation_and_operands() {
    let mut builder = FunctionBuilder::new();
    let x = builder.input("x", f16_type(&[2, 3])).unwrap();
    let y = builder.input("y", f16_type(&[4])).unwrap();
    let error = builder.add(x, y).unwrap_err().to_string();
    assert_eq!(
        error,
        "operation `add` (add): shapes [2, 3] and [4] do not broadcast \
         (x = `x` tensor<fp16, [2, 3]>, y = `y` tensor<fp16, [4]>)"
    );
    let error = builder.op("frobnicate", vec![]).unwrap_err().to_string();
    assert!(error.contains("not an operation"), "{error}");
    let error = builder.op("relu", vec![("x", x.into()), ("z", y.into())]).unwrap_err();
    assert!(error.message.contains("there is no parameter `z`"), "{error}");
    let error = builder.op("add", vec![("x", x.into())]).unwrap_err();
    assert!(error.message.contains("parameter `y` is missing"), "{error}");
    let error = builder.op("transpose", vec![("x", x.into()), ("perm", x.into())]).unwrap_err();
    assert!(error.message.contains("parameter `perm` takes int32"), "{error}");
    let error = builder.op("relu", vec![("x", [x, y][..].into())]).unwrap_err();
    assert!(error.message.contains("bound to 2 values"), "{error}");
}

#[test]
fn constants_that_overflow_are_refused() {
    let mut builder = FunctionBuilder::new();
    assert!(builder.scalar_f16(1e6).unwrap_err().message.contains("overflows"));
    assert!(builder.vector_f16(&[1.0, -70000.0]).unwrap_err().message.contains("-70000"));
    assert!(builder.scalar_f16(f32::NEG_INFINITY).is_ok());
    let table = [half::f16::ONE; 3];
    assert!(
        builder.table_f16("t", &[2, 2], &table).unwrap_err().message.contains("8 bytes, not 6")
    );
}

#[test]
fn states_are_read_and_written() {
    let mut builder = FunctionBuilder::new();
    assert!(builder.state("s", TensorType::new(DataType::Float32, &[4])).is_err());
    assert!(builder.state("s", f16_type(&[])).is_err());
    let state = builder.state("s", f16_type(&[2, 8, 4])).unwrap();
    let x = builder.input("x", f16_type(&[1, 2, 4])).unwrap();
    let old = builder.read_state(state).unwrap();
    let begin = builder.vector_i32(&[0, 3, 0]).unwrap();
    let end = builder.vector_i32(&[1, 5, 0]).unwrap();
    let update = builder.slice_update(old, x, begin, end, &[], &[false, false, true]).unwrap();
    assert!(builder.write_state(state, x).unwrap_err().message.contains("but `data` is"));
    builder.write_state(state, update).unwrap();
    assert!(builder.relu(state).unwrap_err().message.contains("takes a tensor"));
    let new = builder.read_state(state).unwrap();
    let result = builder.relu(new).unwrap();
    let function = builder.finish(&[result]).unwrap();
    let model = function_model(function, &DescriptionOptions::default()).unwrap();
    assert_eq!(crate::interface(&model).unwrap()[0].states[0].shapes, [[2, 8, 4]]);
    validate_referenced(model).unwrap();
}

#[test]
fn the_outputs_are_checked() {
    let build = || {
        let mut builder = FunctionBuilder::new();
        let state = builder.state("s", f16_type(&[4])).unwrap();
        let x = builder.input("x", f16_type(&[4])).unwrap();
        let y = builder.relu(x).unwrap();
        builder.write_state(state, y).unwrap();
        (builder, state, x, y)
    };
    let fail = |pick: fn(Var, Var, Var) -> Vec<Var>| {
        let (builder, state, x, y) = build();
        builder.finish(&pick(state, x, y)).unwrap_err().message
    };
    assert!(fail(|_, _, _| vec![]).contains("at least one"));
    assert!(fail(|state, _, _| vec![state]).contains("is an input"));
    assert!(fail(|_, x, _| vec![x]).contains("is an input"));
    assert!(fail(|_, _, y| vec![y]).contains("written to a state"));
}

#[test]
fn constexpr_operations_take_values() {
    let mut builder = FunctionBuilder::new();
    let value = |kind, shape: &[u64]| {
        let kind = TensorType::new(kind, shape);
        literal::blob_value(&kind, "anemll-weight:{\"tensor\":\"w\"}", 0)
    };
    let weight = builder
        .op1(
            "constexpr_lut_to_dense",
            vec![
                ("indices", value(DataType::UInt4, &[16, 8, 1, 1]).into()),
                ("lut", value(DataType::Float16, &[2, 1, 1, 1, 16, 1]).into()),
            ],
        )
        .unwrap();
    assert_eq!(builder.type_of(weight).to_string(), "tensor<fp16, [16, 8, 1, 1]>");
    let x = builder.input("x", f16_type(&[1, 8, 1, 4])).unwrap();
    let y = builder.conv1x1(x, weight, None).unwrap();
    assert_eq!(builder.type_of(y).to_string(), "tensor<fp16, [1, 16, 1, 4]>");
    let function = builder.finish(&[y]).unwrap();
    validate_referenced(function_model(function, &DescriptionOptions::default()).unwrap()).unwrap();
    let mut old = FunctionBuilder::with_opset(Opset::CoreML7);
    let shape = value_u32(&[4, 2]);
    let indices = value(DataType::UInt8, &[4]);
    let lut = value(DataType::Float16, &[16]);
    let arguments = vec![("indices", indices.into()), ("lut", lut.into()), ("shape", shape.into())];
    let weight = old.op1("constexpr_lut_to_dense", arguments).unwrap();
    let x = old.input("x", f16_type(&[1, 2])).unwrap();
    let y = old.linear(x, weight, None).unwrap();
    let function = old.finish(&[y]).unwrap();
    let model = function_model(function, &DescriptionOptions::default()).unwrap();
    assert_eq!(model.specification_version, 8);
    validate_referenced(model).unwrap();
}

fn value_u32(values: &[u32]) -> mil::Value {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let kind = TensorType::new(DataType::UInt32, &[values.len() as u64]);
    literal::value_from_bytes(&kind, bytes).unwrap()
}
