use super::*;
use anemll_mil::{DataType, TensorType, ValueType};
use coreml_proto::array_feature_type::{
    ArrayDataType, EnumeratedShapes, Shape, ShapeFlexibility, ShapeRange,
};
use coreml_proto::mil::value::{BlobFileValue, Value as Storage};
use coreml_proto::{
    ArrayFeatureType, FeatureType, Metadata, SizeRange, StateFeatureType, feature_type, model,
    state_feature_type,
};

fn named(name: &str, kind: &TensorType) -> mil::NamedValueType {
    mil::NamedValueType {
        name: name.to_owned(),
        r#type: Some(ValueType::Tensor(kind.clone()).to_proto()),
    }
}

fn reference(name: &str) -> mil::Argument {
    use mil::argument::{Binding, binding};
    let binding = Some(binding::Binding::Name(name.to_owned()));
    mil::Argument { arguments: vec![Binding { binding }] }
}

fn in_file(kind: &TensorType) -> mil::Value {
    mil::Value {
        r#type: Some(ValueType::Tensor(kind.clone()).to_proto()),
        value: Some(Storage::BlobFileValue(BlobFileValue {
            file_name: "@model_path/weights/weight.bin".to_owned(),
            offset: 64,
        })),
        ..Default::default()
    }
}

fn argument(value: mil::Value) -> mil::Argument {
    use mil::argument::{Binding, binding};
    mil::Argument { arguments: vec![Binding { binding: Some(binding::Binding::Value(value)) }] }
}

fn operation(kind: &str, inputs: &[&str], output: &str, of: &TensorType) -> mil::Operation {
    mil::Operation {
        r#type: kind.to_owned(),
        inputs: inputs.iter().map(|name| ((*name).to_owned(), reference(name))).collect(),
        outputs: vec![named(output, of)],
        ..Default::default()
    }
}

fn function(opset: &str, input: &TensorType, operations: Vec<mil::Operation>) -> mil::Function {
    let block = mil::Block { operations, ..Default::default() };
    mil::Function {
        inputs: vec![named("x", input)],
        opset: opset.to_owned(),
        block_specializations: [(opset.to_owned(), block)].into(),
        ..Default::default()
    }
}

fn array(shape: &[i64], flexibility: Option<ShapeFlexibility>) -> ArrayFeatureType {
    ArrayFeatureType {
        shape: shape.to_vec(),
        data_type: ArrayDataType::Float16.into(),
        shape_flexibility: flexibility,
        ..Default::default()
    }
}

fn feature(name: &str, kind: feature_type::Type) -> FeatureDescription {
    FeatureDescription {
        name: name.to_owned(),
        r#type: Some(FeatureType { r#type: Some(kind), is_optional: false }),
        ..Default::default()
    }
}

fn half(shape: &[u64]) -> TensorType {
    TensorType::new(DataType::Float16, shape)
}

/// Casts count by what they give, and not by what they take.
#[test]
fn computing_precision() {
    let single = TensorType::new(DataType::Float32, &[4]);
    let of = |operations| precision::compute(&function("CoreML7", &single, operations)).unwrap();
    let cast = operation("cast", &["x"], "y", &half(&[4]));
    assert_eq!(of(vec![cast.clone()]).as_deref(), Some("Float16"));
    let relu = operation("relu", &["x"], "z", &half(&[4]));
    assert_eq!(of(vec![cast, relu]).as_deref(), Some("Mixed (Float16, Float32)"));
    let less = operation("shape", &[], "b", &TensorType::new(DataType::Bool, &[4]));
    assert_eq!(of(vec![less]), None);
    let inner = mil::Block {
        operations: vec![operation("add", &[], "i", &TensorType::new(DataType::Int32, &[1]))],
        ..Default::default()
    };
    let mut cond = operation("cond", &[], "c", &half(&[1]));
    cond.blocks.push(inner);
    assert_eq!(of(vec![cond]).as_deref(), Some("Mixed (Float16, Int32)"));
}

#[test]
fn storage_precision() {
    let attribute = |kind: &str, parts: &[(&str, TensorType)]| {
        let mut made = operation(kind, &[], kind, &half(&[8]));
        made.attributes =
            parts.iter().map(|(name, part)| ((*name).to_owned(), in_file(part))).collect();
        made
    };
    let of = |operations: Vec<mil::Operation>| {
        let mut guesses = Guesses::default();
        let made = function("CoreML8", &half(&[1]), operations);
        (precision::storage(&[&made], &mut guesses).unwrap(), guesses.0.len())
    };
    let bytes = |count: u64| TensorType::new(DataType::UInt8, &[count]);
    let weight = attribute("const", &[("val", half(&[8]))]);
    assert_eq!(of(vec![]), (None, 0));
    assert_eq!(of(vec![weight.clone()]), (Some("Float16".to_owned()), 0));
    let lut = attribute("constexpr_lut_to_dense", &[("indices", bytes(2)), ("lut", half(&[4]))]);
    let sparse =
        attribute("constexpr_sparse_to_dense", &[("mask", bytes(1)), ("nonzero_data", half(&[3]))]);
    let affine = attribute(
        "constexpr_affine_dequantize",
        &[("quantized_data", TensorType::new(DataType::Int8, &[8])), ("scale", half(&[8]))],
    );
    let mixed = "Mixed (Float16, Int8, Palettized (2 bits), Sparse)";
    assert_eq!(of(vec![weight.clone(), lut, sparse, affine]), (Some(mixed.to_owned()), 0));

    // iOS 18: arguments, tables for groups of channels.
    let mut newer = operation("constexpr_lut_to_dense", &[], "w", &half(&[16, 4]));
    let indices = TensorType::new(DataType::UInt4, &[16, 4]);
    newer.inputs.insert("indices".to_owned(), argument(in_file(&indices)));
    newer.inputs.insert("lut".to_owned(), argument(in_file(&half(&[2, 1, 16, 1]))));
    let mixed = "Mixed (Float16, Palettized (5 bits), UInt4)";
    assert_eq!(of(vec![newer, weight]), (Some(mixed.to_owned()), 1));
    let mut blocks = operation("constexpr_blockwise_shift_scale", &[], "w", &half(&[16, 4]));
    let data = TensorType::new(DataType::Int4, &[16, 4]);
    blocks.inputs.insert("data".to_owned(), argument(in_file(&data)));
    blocks.inputs.insert("scale".to_owned(), argument(in_file(&half(&[16, 1]))));
    assert_eq!(of(vec![blocks]), (Some("Int4".to_owned()), 1));
}

#[test]
fn shapes_of_features() {
    let object = |kind: feature_type::Type| {
        let mut guesses = Guesses::default();
        let value = features::schema(&[feature("x", kind)], &mut guesses).unwrap();
        (value[0].clone(), guesses.0.len())
    };
    let range = |lower, upper| SizeRange { lower_bound: lower, upper_bound: upper };
    let multi = |shape: &[i64], flexibility| {
        object(feature_type::Type::MultiArrayType(array(shape, flexibility)))
    };
    let (plain, guesses) = multi(&[1, 128], None);
    assert_eq!(guesses, 0);
    assert_eq!(
        plain,
        json!({
            "type": "MultiArray", "dataType": "Float16", "shape": "[1, 128]", "name": "x",
            "formattedType": "MultiArray (Float16 1 × 128)", "hasShapeFlexibility": "0",
            "isOptional": "0", "shortDescription": "",
        })
    );
    let (empty, _) = multi(&[], None);
    assert_eq!(
        (&empty["formattedType"], &empty["shape"]),
        (&json!("MultiArray (Float16)"), &json!("[]"))
    );
    let ranges = ShapeRange { size_ranges: vec![range(1, 1), range(1, 2048), range(0, -1)] };
    let (ranged, guesses) = multi(&[1, 4, 2], Some(ShapeFlexibility::ShapeRange(ranges)));
    assert_eq!(ranged["shapeFlexibility"], "1 × 1...2048 × 0...");
    assert_eq!(ranged["shapeRange"], "[[1, 1], [1, 2048], [0, -1]]");
    assert_eq!(guesses, 1);
    let shapes = [[1, 1], [1, 64]].map(|shape| Shape { shape: shape.to_vec() }).to_vec();
    let list = ShapeFlexibility::EnumeratedShapes(EnumeratedShapes { shapes });
    let (listed, guesses) = multi(&[1, 1], Some(list));
    assert_eq!(listed["shapeFlexibility"], "1 × 1 | 1 × 64");
    assert_eq!(listed["enumeratedShapes"], "[[1, 1], [1, 64]]");
    assert_eq!((&listed["hasShapeFlexibility"], guesses), (&json!("1"), 0));
    let (state, _) = object(feature_type::Type::StateType(StateFeatureType {
        r#type: Some(state_feature_type::Type::ArrayType(array(&[2, 64], None))),
    }));
    assert_eq!(state["formattedType"], "State (Float16 2 × 64)");
    assert_eq!(state.get("hasShapeFlexibility"), None);
}

#[test]
fn several_functions() {
    let weight = || {
        let mut made = operation("const", &[], "w", &half(&[8]));
        made.attributes.insert("val".to_owned(), in_file(&half(&[8])));
        made
    };
    let program = mil::Program {
        version: 1,
        functions: [
            ("infer".to_owned(), function("CoreML8", &half(&[1]), vec![weight()])),
            (
                "prefill".to_owned(),
                function("CoreML8", &half(&[1]), vec![operation("relu", &["x"], "y", &half(&[1]))]),
            ),
        ]
        .into(),
        ..Default::default()
    };
    let described = |name: &str, shape: &[i64]| FunctionDescription {
        name: name.to_owned(),
        input: vec![feature("x", feature_type::Type::MultiArrayType(array(shape, None)))],
        ..Default::default()
    };
    let model = Model {
        specification_version: 9,
        description: Some(ModelDescription {
            functions: vec![described("prefill", &[1, 64]), described("infer", &[1, 1])],
            default_function_name: "infer".to_owned(),
            metadata: Some(Metadata { author: "A".to_owned(), ..Default::default() }),
            ..Default::default()
        }),
        r#type: Some(model::Type::MlProgram(program)),
        ..Default::default()
    };
    let summary = super::summary(&model, "2-parts of 3").unwrap();
    let top = &summary.value[0];
    assert_eq!(top["generatedClassName"], "2_parts_of_3");
    assert_eq!(top["defaultFunctionName"], "infer");
    assert_eq!(top["author"], "A");
    assert_eq!(top.get("license"), None);
    assert_eq!(top["inputSchema"][0]["shape"], "[1, 1]");
    assert_eq!(top["storagePrecision"], "Float16");
    assert_eq!(top["mlProgramOperationTypeHistogram"], json!({}));
    assert_eq!(top["functions"][0]["name"], "prefill");
    assert_eq!(top["functions"][0]["mlProgramOperationTypeHistogram"], json!({ "Ios18.relu": 1 }));
    assert_eq!(top["functions"][0].get("storagePrecision"), None);
    assert_eq!(top["functions"][1]["storagePrecision"], "Float16");
    assert_eq!(top["availability"]["visionOS"], "2.0");

    let refused = |change: &dyn Fn(&mut ModelDescription)| {
        let mut model = model.clone();
        change(model.description.as_mut().unwrap());
        super::summary(&model, "x").unwrap_err()
    };
    assert!(refused(&|all| all.default_function_name = "other".to_owned()).contains("\"other\""));
    assert!(refused(&|all| all.functions[0].name = "other".to_owned()).contains("lacks"));
    assert!(refused(&|all| all.functions.clear()).contains("2 functions"));
    assert!(refused(&|all| all.functions[0].input[0].r#type = None).contains("no type"));
}
