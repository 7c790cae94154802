//! Protobuf messages of Core ML models of the ML Program type, and strict reading of them.
//!
//! The schema text is in `schema/`. Reading refuses what the schema does not name: a field that
//! we would drop on writing is an error when the file is read, never a silent loss.

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, ReflectMessage as _, Value};
use std::sync::LazyLock;

/// Messages of package `coreml`: the model, its description and feature types.
#[allow(missing_docs, clippy::all)]
mod generated {
    pub mod coreml {
        include!(concat!(env!("OUT_DIR"), "/coreml.rs"));
        pub mod mil {
            include!(concat!(env!("OUT_DIR"), "/coreml.mil.rs"));
        }
    }
}

pub use generated::coreml::*;
pub use prost;

/// Why bytes were refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The bytes are no protobuf message of this type.
    #[error("not a valid `{message}` message: {source}")]
    Malformed {
        /// Message name, such as `coreml.Model`.
        message: &'static str,
        /// What the decoder says.
        source: prost::DecodeError,
    },
    /// The message holds a field that the schema does not name.
    #[error("unknown field {number} at `{path}`{hint}")]
    UnknownField {
        /// Where, such as `coreml.Model.mlProgram.functions["main"]`.
        path: String,
        /// Field number.
        number: u32,
        /// Which model type the field stands for, if it is one; else empty.
        hint: String,
    },
}

static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    DescriptorPool::decode(include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin")).as_ref())
        .unwrap_or_default()
});

/// Decodes a `Model`; refuses malformed bytes and unknown fields.
pub fn read_model(bytes: &[u8]) -> Result<Model, ReadError> {
    check_known_fields("coreml.Model", bytes)?;
    Model::decode(bytes)
        .map_err(|source| ReadError::Malformed { message: "coreml.Model", source })
}

/// Decodes a MIL `Program`; refuses malformed bytes and unknown fields.
pub fn read_program(bytes: &[u8]) -> Result<mil::Program, ReadError> {
    check_known_fields("coreml.mil.Program", bytes)?;
    mil::Program::decode(bytes)
        .map_err(|source| ReadError::Malformed { message: "coreml.mil.Program", source })
}

/// Encodes any message. The same message always gives the same bytes.
pub fn write<M: prost::Message>(message: &M) -> Vec<u8> {
    message.encode_to_vec()
}

/// Model types of the published format by field number, to name what a refused file is.
fn model_type_name(number: u32) -> Option<&'static str> {
    Some(match number {
        200..=202 => "a pipeline",
        300 | 400 => "a generalized linear model",
        301 | 401 => "a support vector machine",
        302 | 402 => "a tree ensemble",
        303 | 403 | 500 => "a neural network",
        304 => "a Bayesian probit regressor",
        404 => "a nearest-neighbors classifier",
        501 => "an item similarity recommender",
        555 => "a custom model",
        556 => "a linked model",
        560 => "a class-confidence thresholding model",
        600..=610 => "a feature transformer",
        900 => "an identity model",
        2000..=2006 => "an Apple framework model",
        3000 => "a serialized model",
        _ => return None,
    })
}

fn check_known_fields(message: &'static str, bytes: &[u8]) -> Result<(), ReadError> {
    let Some(descriptor) = POOL.get_message_by_name(message) else {
        unreachable!("the descriptor set is compiled from the schema that declares {message}")
    };
    let dynamic = DynamicMessage::decode(descriptor, bytes)
        .map_err(|source| ReadError::Malformed { message, source })?;
    find_unknown(&dynamic, message.to_owned())
}

/// Depth is bounded by prost's own recursion limit, which the decoding above has enforced.
fn find_unknown(message: &DynamicMessage, path: String) -> Result<(), ReadError> {
    if let Some(field) = message.unknown_fields().next() {
        let number = field.number();
        let hint = match model_type_name(number) {
            Some(name) if message.descriptor().full_name() == "coreml.Model" => {
                format!(": this is {name}, not an ML Program")
            }
            _ => String::new(),
        };
        return Err(ReadError::UnknownField { path, number, hint });
    }
    for (field, value) in message.fields() {
        let holds_messages = match field.kind() {
            Kind::Message(entry) if field.is_map() => {
                matches!(entry.map_entry_value_field().kind(), Kind::Message(_))
            }
            Kind::Message(_) => true,
            _ => false,
        };
        if !holds_messages {
            continue;
        }
        let path = || format!("{path}.{}", field.name());
        match value {
            Value::Message(inner) => find_unknown(inner, path())?,
            Value::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    if let Value::Message(inner) = item {
                        find_unknown(inner, format!("{}[{index}]", path()))?;
                    }
                }
            }
            Value::Map(entries) => {
                for (key, item) in entries {
                    if let Value::Message(inner) = item {
                        find_unknown(inner, format!("{}[{key:?}]", path()))?;
                    }
                }
            }
            _ => {}
        }
    }
    Ok(())
}
