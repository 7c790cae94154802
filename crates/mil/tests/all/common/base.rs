//! A small model with a state, weights and attention, which tests spoil in one way each.

use anemll_mil::{
    BlobCatalog, BlobInfo, DataType, DescriptionOptions, Error, FunctionBuilder, Result,
    TensorType, blob_references_mut, combine_functions, function_model,
};
use coreml_proto::{Model, mil, model};
use std::collections::BTreeMap;

pub const TOKENS: u64 = 4;
pub const WIDTH: u64 = 64;
pub const CONTEXT: u64 = 32;

/// One attention layer over a state of two rows, (1, tokens, 64) to (1, tokens, 64).
pub fn referenced(tokens: u64) -> Model {
    let mut builder = FunctionBuilder::new();
    let half = |shape: &[u64]| TensorType::new(DataType::Float16, shape);
    let x = builder.input("hidden_states", half(&[1, tokens, WIDTH])).unwrap();
    let position = builder.input("current_pos", TensorType::new(DataType::Int32, &[1])).unwrap();
    let state = builder.state("cache", half(&[2, 1, CONTEXT, WIDTH])).unwrap();
    let reference = r#"anemll-weight:{"tensor":"q_proj.weight"}"#;
    let weight =
        builder.weight("q_weight", reference, DataType::Float16, &[WIDTH, WIDTH, 1, 1]).unwrap();
    let columns = builder.transpose(x, &[0, 2, 1]).unwrap();
    let columns = builder.expand_dims(columns, &[2]).unwrap();
    let q = builder.conv1x1(columns, weight, None).unwrap();
    let q = builder.squeeze(q, &[2]).unwrap();
    let q = builder.transpose(q, &[0, 2, 1]).unwrap();
    let rows = builder.expand_dims(q, &[1]).unwrap();
    let tokens_scalar = builder.vector_i32(&[i32::try_from(tokens).unwrap()]).unwrap();
    let zero = builder.vector_i32(&[0]).unwrap();
    let one = builder.vector_i32(&[1]).unwrap();
    let end = builder.add(position, tokens_scalar).unwrap();
    let begin = builder.concat(&[zero, zero, position, zero], 0).unwrap();
    let end = builder.concat(&[one, one, end, zero], 0).unwrap();
    let old = builder.read_state(state).unwrap();
    let mask = [false, false, false, true];
    let updated = builder.slice_update(old, rows, begin, end, &[], &mask).unwrap();
    builder.write_state(state, updated).unwrap();
    let new = builder.read_state(state).unwrap();
    let keys =
        builder.slice_by_index(new, &[0, 0, 0, 0], &[1, 1, 0, 0], &[], &[false, false, true, true]);
    let keys = keys.unwrap();
    let scores = builder.matmul(rows, keys, false, true).unwrap();
    let weights = builder.softmax(scores, -1).unwrap();
    let mixed = builder.matmul(weights, keys, false, false).unwrap();
    let mixed = builder.squeeze(mixed, &[1]).unwrap();
    let result = builder.add(x, mixed).unwrap();
    builder.name_value(result, "output_hidden_states").unwrap();
    let function = builder.finish(&[result]).unwrap();
    function_model(function, &DescriptionOptions::default()).unwrap()
}

/// The same with its weight in a file, which [`Catalog`] knows.
pub fn resolved(tokens: u64) -> Model {
    let mut model = referenced(tokens);
    for value in blob_references_mut(&mut model) {
        let kind = anemll_mil::literal::tensor_type(value).unwrap();
        *value = anemll_mil::literal::blob_value(&kind, "weight.bin", 64);
    }
    model
}

/// Two functions of it.
pub fn combined() -> Model {
    let functions = [("infer", resolved(1)), ("prefill", resolved(TOKENS))];
    combine_functions(&functions, "infer", "both", &BTreeMap::new()).unwrap()
}

/// Knows one record: the weight at offset 64.
pub struct Catalog;

impl BlobCatalog for Catalog {
    fn blob(&self, file_name: &str, offset: u64) -> Result<BlobInfo> {
        match (file_name, offset) {
            ("weight.bin", 64) => {
                Ok(BlobInfo { data_type: DataType::Float16, size_in_bytes: WIDTH * WIDTH * 2 })
            }
            _ => Err(Error::new(format!("no record at {offset} of {file_name}"))),
        }
    }
}

pub fn program(model: &mut Model) -> &mut mil::Program {
    let Some(model::Type::MlProgram(program)) = &mut model.r#type else { panic!("no program") };
    program
}

pub fn function<'a>(model: &'a mut Model, name: &str) -> &'a mut mil::Function {
    program(model).functions.get_mut(name).unwrap()
}

pub fn block<'a>(model: &'a mut Model, name: &str) -> &'a mut mil::Block {
    function(model, name).block_specializations.get_mut("CoreML8").unwrap()
}

/// The first operation of a type in `main`.
pub fn operation<'a>(model: &'a mut Model, kind: &str) -> &'a mut mil::Operation {
    block(model, "main").operations.iter_mut().find(|op| op.r#type == kind).unwrap()
}

/// Binds a parameter to a value by name.
pub fn by_name(name: &str) -> mil::Argument {
    use mil::argument::{Binding, binding::Binding as Kind};
    mil::Argument { arguments: vec![Binding { binding: Some(Kind::Name(name.to_owned())) }] }
}

/// Binds a parameter to a value that stands in the operation.
pub fn by_value(value: mil::Value) -> mil::Argument {
    use mil::argument::{Binding, binding::Binding as Kind};
    mil::Argument { arguments: vec![Binding { binding: Some(Kind::Value(value)) }] }
}
