//! A small stateful model of two functions with a palettized weight, as a package on disk. Every
//! byte of it is written out here, so that the expected files can be checked by hand.
// Each test program takes what it needs.
#![allow(dead_code, unreachable_pub)]

use anemll_mil::{DataType, TensorType, ValueType};
use coreml_proto::array_feature_type::ArrayDataType;
use coreml_proto::mil::argument::{Binding, binding};
use coreml_proto::mil::value::{BlobFileValue, ImmediateValue, Value as Storage, immediate_value};
use coreml_proto::{
    ArrayFeatureType, FeatureDescription, FeatureType, FunctionDescription, Metadata, Model,
    ModelDescription, StateFeatureType, feature_type, mil, model, state_feature_type,
};
use std::path::{Path, PathBuf};

/// Offset of the indices: 16 of 4 bits.
pub const INDICES: u64 = 64;
/// Offset of the table: 16 of float16.
pub const TABLE: u64 = 192;

pub fn half(shape: &[u64]) -> ValueType {
    ValueType::Tensor(TensorType::new(DataType::Float16, shape))
}

fn named(name: &str, kind: &ValueType) -> mil::NamedValueType {
    mil::NamedValueType { name: name.to_owned(), r#type: Some(kind.to_proto()) }
}

fn argument(binding: binding::Binding) -> mil::Argument {
    mil::Argument { arguments: vec![Binding { binding: Some(binding) }] }
}

pub fn in_file(kind: &ValueType, offset: u64) -> mil::Value {
    mil::Value {
        r#type: Some(kind.to_proto()),
        value: Some(Storage::BlobFileValue(BlobFileValue {
            file_name: "@model_path/weights/weight.bin".to_owned(),
            offset,
        })),
        ..Default::default()
    }
}

fn text(text: &str) -> mil::Value {
    let strings = mil::tensor_value::RepeatedStrings { values: vec![text.to_owned()] };
    let tensor = mil::TensorValue { value: Some(mil::tensor_value::Value::Strings(strings)) };
    mil::Value {
        r#type: Some(ValueType::Tensor(TensorType::scalar(DataType::String)).to_proto()),
        value: Some(Storage::ImmediateValue(ImmediateValue {
            value: Some(immediate_value::Value::Tensor(tensor)),
        })),
        ..Default::default()
    }
}

/// An operation named after its output; `inputs` are names of values.
pub fn operation(kind: &str, inputs: &[(&str, &str)], output: &str) -> mil::Operation {
    let inputs = inputs
        .iter()
        .map(|(key, name)| {
            ((*key).to_owned(), argument(binding::Binding::Name((*name).to_owned())))
        })
        .collect();
    mil::Operation {
        r#type: kind.to_owned(),
        inputs,
        outputs: vec![named(output, &half(&[1, 4]))],
        attributes: [("name".to_owned(), text(output))].into(),
        ..Default::default()
    }
}

fn function() -> mil::Function {
    let indices = ValueType::Tensor(TensorType::new(DataType::UInt4, &[4, 4]));
    let mut weight = operation("constexpr_lut_to_dense", &[], "w");
    weight.outputs = vec![named("w", &half(&[4, 4]))];
    let mut put = |key: &str, value: mil::Value| {
        weight.inputs.insert(key.to_owned(), argument(binding::Binding::Value(value)));
    };
    put("lut", in_file(&half(&[1, 1, 16, 1]), TABLE));
    put("indices", in_file(&indices, INDICES));
    let mut store = operation("write_state", &[("input", "kv"), ("data", "sum")], "store");
    store.outputs.clear();
    let block = mil::Block {
        outputs: vec!["sum".to_owned()],
        operations: vec![
            weight,
            operation("read_state", &[("input", "kv")], "old"),
            operation("linear", &[("x", "x"), ("weight", "w")], "y"),
            operation("add", &[("y", "y"), ("x", "old")], "sum"),
            store,
        ],
        ..Default::default()
    };
    mil::Function {
        inputs: vec![
            named("x", &half(&[1, 4])),
            named("kv", &ValueType::State(TensorType::new(DataType::Float16, &[1, 4]))),
        ],
        opset: "CoreML8".to_owned(),
        block_specializations: [("CoreML8".to_owned(), block)].into(),
        ..Default::default()
    }
}

fn feature(name: &str, state: bool) -> FeatureDescription {
    let array = ArrayFeatureType {
        shape: vec![1, 4],
        data_type: ArrayDataType::Float16.into(),
        ..Default::default()
    };
    let kind = match state {
        false => feature_type::Type::MultiArrayType(array),
        true => feature_type::Type::StateType(StateFeatureType {
            r#type: Some(state_feature_type::Type::ArrayType(array)),
        }),
    };
    FeatureDescription {
        name: name.to_owned(),
        r#type: Some(FeatureType { r#type: Some(kind), is_optional: false }),
        ..Default::default()
    }
}

/// Functions `infer` (default) and `prefill`, described in the other order.
pub fn two_functions() -> Model {
    let described = |name: &str| FunctionDescription {
        name: name.to_owned(),
        input: vec![feature("x", false)],
        output: vec![feature("sum", false)],
        state: vec![feature("kv", true)],
        ..Default::default()
    };
    let program = mil::Program {
        version: 1,
        functions: ["infer", "prefill"].map(|name| (name.to_owned(), function())).into(),
        ..Default::default()
    };
    Model {
        specification_version: 9,
        description: Some(ModelDescription {
            functions: vec![described("prefill"), described("infer")],
            default_function_name: "infer".to_owned(),
            metadata: Some(Metadata {
                short_description: "a/b".to_owned(),
                user_defined: [("key".to_owned(), "value".to_owned())].into(),
                ..Default::default()
            }),
            ..Default::default()
        }),
        r#type: Some(model::Type::MlProgram(program)),
        ..Default::default()
    }
}

/// The program of a model, to be spoilt.
pub fn program(model: &mut Model) -> &mut mil::Program {
    let Some(model::Type::MlProgram(program)) = &mut model.r#type else { panic!("no program") };
    program
}

/// The block of a function, to be spoilt.
pub fn block<'a>(model: &'a mut Model, function: &str) -> &'a mut mil::Block {
    let function = program(model).functions.get_mut(function).unwrap();
    function.block_specializations.get_mut("CoreML8").unwrap()
}

/// The weight file: a header for two records, 16 indices of 4 bits, a table of 16 float16.
pub fn weights() -> Vec<u8> {
    let mut bytes = vec![0; 288];
    let mut put =
        |offset: usize, part: &[u8]| bytes[offset..offset + part.len()].copy_from_slice(part);
    put(0, &[2, 0, 0, 0, 2]);
    put(64, &[0xef, 0xbe, 0xad, 0xde, 11, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 128]);
    put(128, &[0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe]);
    put(192, &[0xef, 0xbe, 0xad, 0xde, 1, 0, 0, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    put(256, &[0x3c; 32]);
    bytes
}

/// Writes a package.
pub fn write_package(path: &Path, model: &[u8], weights: &[u8]) -> PathBuf {
    let folder = path.join("Data/com.apple.CoreML");
    std::fs::create_dir_all(folder.join("weights")).unwrap();
    std::fs::write(folder.join("model.mlmodel"), model).unwrap();
    std::fs::write(folder.join("weights/weight.bin"), weights).unwrap();
    let manifest = anemll_mlpackage::Manifest::standard(true, b"seed").to_text();
    std::fs::write(path.join("Manifest.json"), manifest).unwrap();
    path.to_owned()
}

/// Writes the model with its own weights.
pub fn package(path: &Path, model: &Model) -> PathBuf {
    write_package(path, &coreml_proto::write(model), &weights())
}
