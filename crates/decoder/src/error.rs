//! The errors of this crate, made in one place so that they read alike.

use anemll_plugin_api::{Error, codes};

/// A key of `config.json` that has a wrong type or value.
pub fn key_invalid(key: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(codes::CONFIG_KEY_INVALID, format!("`{key}` {reason}"))
        .with_at(place(key))
        .with_hint("compare the key with config.json in the model's repository")
}

/// A key of `config.json` that the model cannot do without.
pub fn key_missing(key: &str) -> Error {
    Error::new(codes::CONFIG_KEY_MISSING, format!("the configuration lacks the key `{key}`"))
        .with_at(place(key))
        .with_hint("take config.json from the model's repository")
}

/// A key of `config.json` that asks for something which the graph cannot express.
pub fn key_unsupported(key: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(codes::CONFIG_KEY_UNSUPPORTED, format!("`{key}` {reason}")).with_at(place(key))
}

/// A context length or batch (`option`) that does not suit the model.
pub(crate) fn shape_invalid(option: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(codes::SHAPE_INVALID, format!("the {option} {reason}"))
        .with_at(format!("--{option}"))
}

/// A function whose pieces do not go together.
pub(crate) fn function_invalid(id: &str, reason: impl std::fmt::Display) -> Error {
    Error::new(codes::PLUGIN_BAD_REQUEST, reason.to_string()).with_at(format!("function `{id}`"))
}

/// An operation that the graph builder refused.
pub(crate) fn graph_invalid(id: &str, error: &anemll_mil::Error) -> Error {
    Error::new(codes::GRAPH_INVALID, format!("the graph cannot be built: {error}"))
        .with_at(format!("function `{id}`"))
}

/// The same error with another name for the key that it is about.
pub(crate) fn renamed(mut error: Error, name: impl Fn(&str) -> String) -> Error {
    let Some(key) = error.at.as_deref().and_then(|at| at.strip_prefix(FILE)) else { return error };
    let (old, new) = (format!("`{key}`"), name(key));
    let at = place(&new);
    error.message = error.message.replacen(&old, &format!("`{new}`"), 1);
    error.with_at(at)
}

/// What stands before a key in the place of an error.
const FILE: &str = "config.json: ";

fn place(key: &str) -> String {
    format!("{FILE}{key}")
}

/// A number in few digits, however large or small it is.
pub(crate) fn shown(number: f64) -> String {
    let size = number.abs();
    match number == 0.0 || (1e-6..1e15).contains(&size) {
        true => number.to_string(),
        false => format!("{number:e}"),
    }
}

/// So many entries, for a sentence.
pub(crate) fn entries(count: usize) -> String {
    format!("{count} entr{}", if count == 1 { "y" } else { "ies" })
}
