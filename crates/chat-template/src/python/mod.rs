//! What templates take for granted because jinja2 runs in Python: how values are written, the
//! methods of texts, lists and dictionaries, and operators that Rust's Jinja has otherwise.

pub(crate) mod arguments;
mod characters;
pub(crate) mod collections;
pub(crate) mod filters;
pub(crate) mod json;
pub(crate) mod operators;
pub(crate) mod strings;
pub(crate) mod text;

use minijinja::value::{Rest, ValueKind, ValueOrKwargs};
use minijinja::{Error, ErrorKind, State, Value};

/// What a filter, function or method gives.
pub(crate) type Outcome<T = Value> = Result<T, Error>;

/// Arguments by position, and the named ones behind them.
pub(crate) type More = Rest<ValueOrKwargs>;

/// An error in the template.
pub(crate) fn refuse(reason: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason)
}

/// Methods of texts, bytes, lists, tuples and dictionaries.
pub(crate) fn call_method(
    _state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> Outcome {
    match value.kind() {
        ValueKind::String => strings::call(value, method, arguments),
        ValueKind::Bytes => strings::call_bytes(value, method, arguments),
        ValueKind::Seq | ValueKind::Iterable => {
            collections::call_sequence(value, method, arguments)
        }
        ValueKind::Map => collections::call_mapping(value, method, arguments),
        ValueKind::Number => operators::call_number(value, method, arguments),
        _ => Err(Error::from(ErrorKind::UnknownMethod)),
    }
}
