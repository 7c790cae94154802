//! Recurrent layers over sequences (sequence, batch, features).

use super::arguments::{Arguments, one};
use super::{OpDefinition, Opset, Parameter, domains};
use crate::types::{Dimension, TensorType, ValueType};

const LSTM: &[Parameter] = &[
    Parameter::tensor("x", domains::FLOAT),
    Parameter::tensor("initial_h", domains::FLOAT),
    Parameter::tensor("initial_c", domains::FLOAT),
    Parameter::constant("weight_ih", domains::FLOAT),
    Parameter::constant("weight_hh", domains::FLOAT),
    Parameter::setting("bias", domains::FLOAT),
    Parameter::setting("peephole", domains::FLOAT),
    Parameter::setting("weight_ih_back", domains::FLOAT),
    Parameter::setting("weight_hh_back", domains::FLOAT),
    Parameter::setting("bias_back", domains::FLOAT),
    Parameter::setting("peephole_back", domains::FLOAT),
    Parameter::setting("direction", domains::STRING),
    Parameter::setting("output_sequence", domains::BOOL),
    Parameter::setting("recurrent_activation", domains::STRING),
    Parameter::setting("cell_activation", domains::STRING),
    Parameter::setting("activation", domains::STRING),
    Parameter::setting("clip", domains::FLOAT),
];
const GRU: &[Parameter] = &[
    Parameter::tensor("x", domains::FLOAT),
    Parameter::tensor("initial_h", domains::FLOAT),
    Parameter::constant("weight_ih", domains::FLOAT),
    Parameter::constant("weight_hh", domains::FLOAT),
    Parameter::setting("bias", domains::FLOAT),
    Parameter::setting("direction", domains::STRING),
    Parameter::setting("output_sequence", domains::BOOL),
    Parameter::setting("recurrent_activation", domains::STRING),
    Parameter::setting("activation", domains::STRING),
    Parameter::setting("reset_after", domains::BOOL).since(Opset::CoreML8),
    Parameter::setting("input_bias", domains::FLOAT).since(Opset::CoreML8),
];
const RNN: &[Parameter] = &[
    Parameter::tensor("x", domains::FLOAT),
    Parameter::tensor("initial_h", domains::FLOAT),
    Parameter::constant("weight_ih", domains::FLOAT),
    Parameter::constant("weight_hh", domains::FLOAT),
    Parameter::setting("bias", domains::FLOAT),
    Parameter::setting("direction", domains::STRING),
    Parameter::setting("output_sequence", domains::BOOL),
    Parameter::setting("activation", domains::STRING),
];

/// Hidden size of a pair of weights of `gates` gates: (gates H, I) and (gates H, H).
fn hidden_size(arguments: &Arguments<'_>, gates: u64, suffix: &str) -> Result<u64, String> {
    let names = [format!("weight_ih{suffix}"), format!("weight_hh{suffix}")];
    let (input, hidden) = (arguments.tensor(&names[0])?, arguments.tensor(&names[1])?);
    let x = arguments.tensor("x")?;
    match (&input.shape[..], &hidden.shape[..]) {
        ([input_rows, features], [Dimension::Fixed(rows), Dimension::Fixed(size)])
            if Some(*rows) == size.checked_mul(gates)
                && input_rows.fixed() == Some(*rows)
                && x.shape.get(2).is_some_and(|given| given.could_equal(*features)) =>
        {
            Ok(*size)
        }
        _ => Err(format!("{} ({input}) and {} ({hidden}) do not fit {x}", names[0], names[1])),
    }
}

/// Outputs: the sequence (or its last step), then one final state for each of `states`.
fn recurrent(
    arguments: &Arguments<'_>,
    gates: u64,
    states: &[&str],
    both_ways: bool,
) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let [sequence, batch, _] = x.shape[..] else {
        return Err(format!("x is {x}, but needs sequence, batch and features"));
    };
    let direction = arguments.text("direction", "forward")?;
    let directions = match direction.as_str() {
        "forward" | "reverse" => 1,
        "bidirectional" if both_ways => 2,
        _ => return Err(format!("{direction:?} is not a direction")),
    };
    for name in ["recurrent_activation", "cell_activation", "activation"] {
        let activation = arguments.text(name, "tanh")?.to_lowercase();
        let known = ["tanh", "scaled_tanh", "sigmoid", "hard_sigmoid", "relu", "linear"];
        if !known.contains(&activation.as_str()) {
            return Err(format!("`{name}` is {activation:?}, which is not an activation"));
        }
    }
    let size = hidden_size(arguments, gates, "")?;
    if directions == 2 && hidden_size(arguments, gates, "_back")? != size {
        return Err("the weights of both directions differ in size".to_owned());
    }
    let rows = size.checked_mul(gates);
    for name in ["bias", "bias_back"] {
        if let Some(bias) = arguments.optional_tensor(name)?
            && !matches!(bias.shape[..], [Dimension::Fixed(length)] if Some(length) == rows)
        {
            return Err(format!("`{name}` is {bias}, which does not fit the weights"));
        }
    }
    let width = size.checked_mul(directions).ok_or("the result is too large")?;
    let state = TensorType::with_shape(x.data_type, vec![batch, Dimension::Fixed(width)]);
    for name in states {
        let given = arguments.tensor(name)?;
        let fits = given.rank() == 2
            && given.shape.iter().zip(&state.shape).all(|(left, right)| left.could_equal(*right));
        if !fits {
            return Err(format!("`{name}` is {given}, but must be {state}"));
        }
    }
    let steps =
        if arguments.boolean("output_sequence", false)? { sequence } else { Dimension::Fixed(1) };
    let output = TensorType::with_shape(x.data_type, vec![steps, batch, Dimension::Fixed(width)]);
    let mut types = one(output)?;
    types.extend(states.iter().map(|_| ValueType::Tensor(state.clone())));
    Ok(types)
}

pub(super) const OPS: &[OpDefinition] = &[
    OpDefinition::new("gru", GRU, |a| recurrent(a, 3, &["initial_h"], false)).on_cpu(),
    OpDefinition::new("lstm", LSTM, |a| recurrent(a, 4, &["initial_h", "initial_c"], true))
        .on_cpu(),
    OpDefinition::new("rnn", RNN, |a| recurrent(a, 1, &["initial_h"], false)).on_cpu(),
];
