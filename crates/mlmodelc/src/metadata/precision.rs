//! Which number types a program computes with, and which its weights are stored in.

use super::{Guesses, visit};
use anemll_mil::references::{blob_of, values};
use anemll_mil::{DataType, literal, model, ops};
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;
use coreml_proto::mil::value_type::Type;
use std::collections::{BTreeSet, HashMap};

/// Types of all outputs, and of the inputs of all operations but casts and constexpr ones. `None`
/// where there is no number at all.
pub(super) fn compute(function: &mil::Function) -> Result<Option<String>, String> {
    let block = model::block(function).map_err(|error| error.to_string())?;
    let mut known: HashMap<&str, DataType> = HashMap::new();
    let learn = |value: &mil::NamedValueType| value.r#type.as_ref().and_then(tensor_type);
    for input in function.inputs.iter() {
        if let Some(kind) = learn(input) {
            known.insert(&input.name, kind);
        }
    }
    let mut found = BTreeSet::new();
    let mut see = |kind: DataType| {
        if !matches!(kind, DataType::Bool | DataType::String) {
            found.insert(kind.summary_name());
        }
    };
    visit(block, &mut |operation| {
        for inner in operation.blocks.iter().flat_map(|block| &block.inputs) {
            if let Some(kind) = learn(inner) {
                known.insert(&inner.name, kind);
            }
        }
        if operation.r#type != "cast" && !ops::is_constexpr(&operation.r#type) {
            let bindings = operation.inputs.values().flat_map(|argument| &argument.arguments);
            for binding in bindings {
                let kind = match &binding.binding {
                    Some(Binding::Name(name)) => known.get(name.as_str()).copied(),
                    Some(Binding::Value(value)) => value.r#type.as_ref().and_then(tensor_type),
                    None => None,
                };
                kind.into_iter().for_each(&mut see);
            }
        }
        for output in &operation.outputs {
            if let Some(kind) = learn(output) {
                known.insert(&output.name, kind);
                see(kind);
            }
        }
    });
    Ok(joined(found.into_iter().map(str::to_owned).collect()))
}

/// How the weights in files are stored; `None` without such weights.
pub(super) fn storage(
    functions: &[&mil::Function],
    guesses: &mut Guesses,
) -> Result<Option<String>, String> {
    let mut found = BTreeSet::new();
    for function in functions {
        let block = model::block(function).map_err(|error| error.to_string())?;
        visit(block, &mut |operation| storage_of(operation, &mut found, guesses));
    }
    Ok(joined(found))
}

fn storage_of(operation: &mil::Operation, found: &mut BTreeSet<String>, guesses: &mut Guesses) {
    let stored = |parameter: &str| {
        let value = values(operation).find(|(name, _)| *name == parameter)?.1;
        blob_of(value).and(value.r#type.as_ref().and_then(tensor_type))
    };
    // The constexpr operations of iOS 16 keep everything in attributes, those of iOS 18 in inputs.
    let newer = !operation.inputs.is_empty();
    match operation.r#type.as_str() {
        "constexpr_lut_to_dense" | "constexpr_lut_to_sparse" => {
            let indices = ["indices", "indices_nonzero_data"].into_iter().find_map(stored);
            let Some(indices) = indices else { return };
            if let Some(entries) = table_entries(operation) {
                found.insert(format!("Palettized ({} bits)", entries.max(1).ilog2()));
            }
            if newer {
                guess_storage(operation, guesses);
                found.insert(indices.summary_name().to_owned());
            }
        }
        "constexpr_affine_dequantize" => {
            found.extend(stored("quantized_data").map(|kind| kind.summary_name().to_owned()));
        }
        "constexpr_blockwise_shift_scale" | "constexpr_sparse_blockwise_shift_scale" => {
            guess_storage(operation, guesses);
            let data = ["data", "nonzero_data"].into_iter().find_map(stored);
            found.extend(data.map(|kind| kind.summary_name().to_owned()));
        }
        "constexpr_sparse_to_dense" => {
            if newer {
                guess_storage(operation, guesses);
                // Another constexpr may give what is sparse; its own weights are in the file then.
                found.insert("Sparse".to_owned());
            } else if stored("nonzero_data").is_some() {
                found.insert("Sparse".to_owned());
            }
        }
        _ => {
            let blobs = values(operation).filter(|(_, value)| blob_of(value).is_some());
            let kinds = blobs.filter_map(|(_, value)| value.r#type.as_ref().and_then(tensor_type));
            found.extend(kinds.map(|kind| kind.summary_name().to_owned()));
        }
    }
}

fn guess_storage(operation: &mil::Operation, guesses: &mut Guesses) {
    let place = operation.outputs.first().map_or("", |output| output.name.as_str());
    guesses.add(
        "metadata.json: the storage precision of iOS 18 constexpr operations",
        place,
        "remembered summaries of compiled models name the logarithm of all table entries and the \
         type of the indices; no published pair has one",
    );
}

/// Entries of all lookup tables of an operation together.
fn table_entries(operation: &mil::Operation) -> Option<u64> {
    let value = values(operation).find(|(name, _)| *name == "lut")?.1;
    literal::tensor_type(value).ok()?.element_count()
}

/// `Float16`, or `Mixed (Float16, Int32)` in the order of the letters.
fn joined(found: BTreeSet<String>) -> Option<String> {
    let all: Vec<String> = found.into_iter().collect();
    match all.as_slice() {
        [] => None,
        [only] => Some(only.clone()),
        several => Some(format!("Mixed ({})", several.join(", "))),
    }
}

/// The element type of a tensor, or of the tensor behind a state.
fn tensor_type(kind: &mil::ValueType) -> Option<DataType> {
    match kind.r#type.as_ref()? {
        Type::TensorType(tensor) => DataType::from_proto(tensor.data_type).ok(),
        Type::StateType(state) => match state.wrapped_type.as_ref()?.r#type.as_ref()? {
            Type::TensorType(tensor) => DataType::from_proto(tensor.data_type).ok(),
            _ => None,
        },
        _ => None,
    }
}
