//! Matrix products.

use super::arguments::{Arguments, broadcast, one};
use super::{OpDefinition, Parameter, domains};
use crate::types::{Dimension, TensorType, ValueType};

const LINEAR: &[Parameter] = &[
    Parameter::tensor("x", domains::NUMBER),
    Parameter::constant("weight", domains::NUMBER),
    Parameter::setting("bias", domains::NUMBER),
];
const MATMUL: &[Parameter] = &[
    Parameter::tensor("x", domains::NUMBER),
    Parameter::tensor("y", domains::NUMBER),
    Parameter::setting("transpose_x", domains::BOOL),
    Parameter::setting("transpose_y", domains::BOOL),
];
const EINSUM: &[Parameter] =
    &[Parameter::tensors("values"), Parameter::constant("equation", domains::STRING)];

fn linear(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (x, weight) = (arguments.tensor("x")?, arguments.tensor("weight")?);
    let [outputs, inputs] = weight.shape[..] else {
        return Err(format!("weight is {weight}, but must have rank 2"));
    };
    let Some((last, batch)) = x.shape.split_last() else {
        return Err("x is a scalar".to_owned());
    };
    if !last.could_equal(inputs) {
        return Err(format!("the last axis of x ({x}) is not that of weight ({weight})"));
    }
    if let Some(bias) = arguments.optional_tensor("bias")?
        && !matches!(bias.shape[..], [size] if size.could_equal(outputs))
    {
        return Err(format!("bias is {bias}, but weight has {outputs} rows"));
    }
    let mut shape = batch.to_vec();
    shape.push(outputs);
    one(TensorType::with_shape(x.data_type, shape))
}

/// Batch axes, rows and columns of an operand.
fn matrix(tensor: &TensorType, transposed: bool) -> Option<(&[Dimension], Dimension, Dimension)> {
    let [batch @ .., rows, columns] = tensor.shape.as_slice() else { return None };
    Some(if transposed { (batch, *columns, *rows) } else { (batch, *rows, *columns) })
}

/// A vector counts as a row on the left, a column on the right, and its axis goes again.
fn matmul(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (x, y) = (arguments.tensor("x")?, arguments.tensor("y")?);
    let transpose_x = arguments.boolean("transpose_x", false)?;
    let transpose_y = arguments.boolean("transpose_y", false)?;
    let unit = Dimension::Fixed(1);
    let left = match x.shape[..] {
        [size] if !transpose_x => Some((&[][..], unit, size)),
        _ => matrix(x, transpose_x),
    };
    let right = match y.shape[..] {
        [size] if !transpose_y => Some((&[][..], size, unit)),
        _ => matrix(y, transpose_y),
    };
    let (Some((x_batch, rows, x_inner)), Some((y_batch, y_inner, columns))) = (left, right) else {
        return Err(format!("{x} and {y} are not matrices"));
    };
    if !x_inner.could_equal(y_inner) {
        return Err(format!("inner sizes {x_inner} and {y_inner} differ ({x} times {y})"));
    }
    let mut shape = broadcast(x_batch, y_batch, arguments)?;
    if x.rank() > 1 {
        shape.push(rows);
    }
    if y.rank() > 1 {
        shape.push(columns);
    }
    one(TensorType::with_shape(x.data_type, shape))
}

/// Two operands, one letter an axis. Letters of the result keep their sizes.
fn einsum(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let equation = arguments.text("equation", "")?;
    let compact: String = equation.chars().filter(|letter| *letter != ' ').collect();
    let malformed = || format!("{equation:?} is not an equation for two tensors");
    let (inputs, result) = compact.split_once("->").ok_or_else(malformed)?;
    let terms: Vec<&str> = inputs.split(',').collect();
    let operands = arguments.operands("values");
    if terms.len() != 2 || operands.len() != 2 {
        return Err(malformed());
    }
    let mut sizes: Vec<(char, Dimension)> = Vec::new();
    let mut data_type = None;
    for (term, operand) in terms.iter().zip(operands) {
        let tensor = operand.kind.tensor().ok_or_else(malformed)?;
        if *data_type.get_or_insert(tensor.data_type) != tensor.data_type {
            return Err("the operands have different element types".to_owned());
        }
        if term.chars().count() != tensor.rank() {
            return Err(format!("{term:?} does not name the axes of {tensor}"));
        }
        for (letter, size) in term.chars().zip(&tensor.shape) {
            match sizes.iter_mut().find(|(other, _)| *other == letter) {
                Some((_, known)) if !known.could_equal(*size) && known.fixed() != Some(1) => {
                    if size.fixed() != Some(1) {
                        return Err(format!("axis `{letter}` is both {known} and {size}"));
                    }
                }
                Some((_, known)) => {
                    if known.fixed().is_none_or(|known| known == 1) {
                        *known = *size;
                    }
                }
                None => sizes.push((letter, *size)),
            }
        }
    }
    let shape = result
        .chars()
        .map(|letter| sizes.iter().find(|(other, _)| *other == letter).map(|(_, size)| *size))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(malformed)?;
    one(TensorType::with_shape(data_type.ok_or_else(malformed)?, shape))
}

pub(super) const OPS: &[OpDefinition] = &[
    OpDefinition::new("einsum", EINSUM, einsum),
    OpDefinition::new("linear", LINEAR, linear),
    OpDefinition::new("matmul", MATMUL, matmul),
];
