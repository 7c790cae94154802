//! What a lowered program needs of the weight file, and putting it there.
//!
//! A frontend's program names weights by references and holds tables as immediate values; a
//! package's program names records of its weight file. This is the way from one to the other.

use super::output_scale;
use super::stored_argument::ConstexprArgument;
use anemll_codes as codes;
use anemll_mil::{DataType, Literal, TensorType, literal};
use anemll_mlpackage::WEIGHT_FILE_NAME;
use anemll_plugin_api::data::WeightReference;
use anemll_plugin_api::{Error, Result};
use coreml_proto::{Model, mil, model};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Immediate tensors from this many elements on go to the weight file, as coremltools does it.
const TABLE_ELEMENTS: u64 = 10;

/// A distinct weight of one weight file.
pub(crate) struct Weight {
    pub(crate) id: String,
    pub(crate) reference: WeightReference,
    pub(crate) shape: Vec<u64>,
    pub(crate) functions: Vec<String>,
}

/// One thing to be written, in op order.
pub(crate) enum Item {
    Weight(Box<Weight>),
    Table { kind: TensorType, bytes: Vec<u8> },
}

/// What stands in a program in place of a reference, once the weight file is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Replacement {
    Record {
        offset: u64,
    },
    Constexpr {
        op: String,
        arguments: Vec<ConstexprArgument>,
        /// Whole numbers that stand in the program, by parameter name.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        settings: BTreeMap<String, i32>,
        /// Factors of output channels, `[out]`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output_scale: Option<ConstexprArgument>,
    },
}

/// The replacements of one weight file, by item key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Resolved(pub(crate) BTreeMap<String, Replacement>);

/// The distinct weights and tables of some functions, in op order, each with its key.
pub(crate) fn collect(functions: &[(&str, &Model)]) -> Result<Vec<(String, Item)>> {
    let mut items: Vec<(String, Item)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut ids: HashSet<String> = HashSet::new();
    for (id, model) in functions {
        for operation in operations(model) {
            let Some(value) = const_value(operation) else { continue };
            let Some(key) = item_key(value)? else { continue };
            if let Some(place) = places.get(&key) {
                if let Item::Weight(weight) = &mut items[*place].1
                    && !weight.functions.iter().any(|function| function == id)
                {
                    weight.functions.push((*id).to_owned());
                }
                continue;
            }
            let item = new_item(operation, value, id)?;
            if let Item::Weight(weight) = &item {
                refuse_equal_ids(&mut ids, weight)?;
            }
            places.insert(key.clone(), items.len());
            items.push((key, item));
        }
    }
    Ok(items)
}

/// A quantizer's plan names weights by id: one name for two weights would mix up their decisions.
fn refuse_equal_ids(ids: &mut HashSet<String>, weight: &Weight) -> Result<()> {
    if ids.insert(weight.id.clone()) {
        return Ok(());
    }
    Err(invalid(format!(
        "the value `{}` stands for different weights in different functions, one of them `{}`",
        weight.id, weight.reference.tensor
    )))
}

fn new_item(operation: &mil::Operation, value: &mil::Value, function: &str) -> Result<Item> {
    if let Some(reference) = blob_file_name(value).and_then(WeightReference::parse_file_name) {
        return Ok(Item::Weight(Box::new(Weight {
            id: operation.outputs.first().map(|output| output.name.clone()).unwrap_or_default(),
            reference: reference?,
            shape: fixed_shape(&literal::tensor_type(value).map_err(invalid)?)?,
            functions: vec![function.to_owned()],
        })));
    }
    let (kind, bytes) = literal::tensor_bytes(value).map_err(invalid)?;
    Ok(Item::Table { kind, bytes: bytes.into_owned() })
}

fn invalid(reason: String) -> Error {
    Error::new(codes::GRAPH_INVALID, reason)
        .with_hint("this is a bug in the arch plugin; please report it to its author")
}

fn fixed_shape(kind: &TensorType) -> Result<Vec<u64>> {
    kind.fixed_shape().ok_or_else(|| invalid("a weight has no fixed shape".to_owned()))
}

/// The key of a value that belongs into the weight file; none for small immediate values.
fn item_key(value: &mil::Value) -> Result<Option<String>> {
    // Values that are no tensors (strings in lists, dictionaries) never go there.
    let Ok(kind) = literal::tensor_type(value) else { return Ok(None) };
    if let Some(name) = blob_file_name(value) {
        if WeightReference::parse_file_name(name).is_none() {
            return Err(invalid(format!("a frontend's program refers to the file `{name}`")));
        }
        return Ok(Some(format!("{name} {:?}", fixed_shape(&kind)?)));
    }
    let stored = matches!(
        kind.data_type,
        DataType::Float16
            | DataType::Float32
            | DataType::Int8
            | DataType::UInt8
            | DataType::Int16
            | DataType::UInt16
            | DataType::Int32
            | DataType::UInt32
    );
    if !stored || kind.element_count().is_none_or(|elements| elements < TABLE_ELEMENTS) {
        return Ok(None);
    }
    let (_, bytes) = literal::tensor_bytes(value).map_err(invalid)?;
    let digest = Sha256::digest(&bytes);
    Ok(Some(format!("{} {:?} {digest:x?}", kind.data_type.name(), fixed_shape(&kind)?)))
}

fn blob_file_name(value: &mil::Value) -> Option<&str> {
    match &value.value {
        Some(mil::value::Value::BlobFileValue(blob)) => Some(&blob.file_name),
        _ => None,
    }
}

fn const_value(operation: &mil::Operation) -> Option<&mil::Value> {
    if operation.r#type == "const" { operation.attributes.get("val") } else { None }
}

fn operations(model: &Model) -> impl Iterator<Item = &mil::Operation> {
    model
        .r#type
        .iter()
        .map(|model::Type::MlProgram(program)| program)
        .flat_map(|program| program.functions.values())
        .flat_map(|function| function.block_specializations.values())
        .flat_map(|block| &block.operations)
}

fn operations_mut(model: &mut Model) -> impl Iterator<Item = &mut mil::Operation> {
    model
        .r#type
        .iter_mut()
        .map(|model::Type::MlProgram(program)| program)
        .flat_map(|program| program.functions.values_mut())
        .flat_map(|function| function.block_specializations.values_mut())
        .flat_map(|block| &mut block.operations)
}

/// Puts the records of the weight file in place of a program's references and large tables.
pub(crate) fn resolve(model: &mut Model, resolved: &Resolved) -> Result<()> {
    let mut scales = BTreeMap::new();
    for operation in operations_mut(model) {
        let Some(value) = const_value(operation) else { continue };
        let Some(key) = item_key(value)? else { continue };
        let Some(replacement) = resolved.0.get(&key) else {
            return Err(Error::new(
                codes::GRAPH_INVALID,
                format!("a weight of `{}` was not written", operation.r#type),
            ));
        };
        match replacement {
            Replacement::Record { offset } => {
                let kind = literal::tensor_type(value).map_err(invalid)?;
                operation.attributes.insert(
                    "val".to_owned(),
                    literal::blob_value(&kind, WEIGHT_FILE_NAME, *offset),
                );
            }
            Replacement::Constexpr { op, arguments, settings, output_scale } => {
                if let (Some(scale), Some(output)) = (output_scale, operation.outputs.first()) {
                    scales.insert(output.name.clone(), scale);
                }
                operation.r#type.clone_from(op);
                operation.attributes.remove("val");
                let stored = arguments.iter().map(|argument| {
                    let kind = argument.tensor_type()?;
                    let value = literal::blob_value(&kind, WEIGHT_FILE_NAME, argument.offset);
                    Ok((argument.name.clone(), immediate(value)))
                });
                let set = settings.iter().map(|(name, value)| {
                    let value = Literal::int32(*value).to_value().map_err(invalid)?;
                    Ok((name.clone(), immediate(value)))
                });
                operation.inputs = stored.chain(set).collect::<Result<_>>()?;
            }
        }
    }
    output_scale::insert(model, &scales)
}

/// A value as an argument.
fn immediate(value: mil::Value) -> mil::Argument {
    let binding = Some(mil::argument::binding::Binding::Value(value));
    mil::Argument { arguments: vec![mil::argument::Binding { binding }] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_for_two_weights_is_refused() {
        let weight = |tensor: &str| Weight {
            id: "gate".to_owned(),
            reference: WeightReference::new(tensor, [], ""),
            shape: vec![1],
            functions: Vec::new(),
        };
        let mut ids = HashSet::new();
        refuse_equal_ids(&mut ids, &weight("first")).unwrap();
        let error = refuse_equal_ids(&mut ids, &weight("second")).unwrap_err();
        assert_eq!(error.code, codes::GRAPH_INVALID);
        assert!(error.message.contains("gate") && error.message.contains("second"), "{error}");
    }
}
