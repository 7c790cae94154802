//! Fused attention (iOS 18).

use super::arguments::{Arguments, broadcast, one};
use super::{OpDefinition, Opset, Parameter, domains};
use crate::dtype::DataType;
use crate::types::{TensorType, ValueType};

const MASK: &[DataType] = &[DataType::Bool, DataType::Float16, DataType::Float32];
const ATTENTION: &[Parameter] = &[
    Parameter::tensor("query", domains::FLOAT),
    Parameter::tensor("key", domains::FLOAT),
    Parameter::tensor("value", domains::FLOAT),
    Parameter::optional("attn_mask", MASK),
];

/// (batch…, queries, width), (batch…, keys, width), (batch…, keys, depth) give
/// (batch…, queries, depth).
fn attention(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let [query, key, value] =
        [arguments.tensor("query")?, arguments.tensor("key")?, arguments.tensor("value")?];
    let wrong = || Err(format!("query {query}, key {key} and value {value} do not fit"));
    if query.rank() < 3
        || query.rank() != key.rank()
        || query.rank() != value.rank()
        || query.data_type != key.data_type
        || query.data_type != value.data_type
    {
        return wrong();
    }
    let rows = query.rank() - 2;
    let batches = (0..rows).all(|axis| {
        query.shape[axis].could_equal(key.shape[axis])
            && query.shape[axis].could_equal(value.shape[axis])
    });
    if !batches
        || !query.shape[rows + 1].could_equal(key.shape[rows + 1])
        || !key.shape[rows].could_equal(value.shape[rows])
    {
        return wrong();
    }
    if let Some(mask) = arguments.optional_tensor("attn_mask")? {
        let mut scores = query.shape[..=rows].to_vec();
        scores.push(key.shape[rows]);
        let joined = broadcast(&scores, &mask.shape, arguments)?;
        if joined.len() != scores.len()
            || !joined.iter().zip(&scores).all(|(left, right)| left.could_equal(*right))
        {
            return Err(format!("the mask {mask} does not fit the scores"));
        }
    }
    let mut shape = query.shape[..=rows].to_vec();
    shape.push(value.shape[rows + 1]);
    one(TensorType::with_shape(query.data_type, shape))
}

pub(super) const OPS: &[OpDefinition] =
    &[OpDefinition::new("scaled_dot_product_attention", ATTENTION, attention)
        .since(Opset::CoreML8)];
