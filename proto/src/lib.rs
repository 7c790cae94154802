//! Protobuf messages of Core ML models of the ML Program type, and strict reading of them.
//!
//! The schema text is in `schema/`. Reading refuses what the schema does not name: a field that
//! we would drop on writing is an error when the file is read, never a silent loss.

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, ReflectMessage as _, Value};
use std::sync::LazyLock;

/// Messages of package `coreml`: the model, its description and feature types.
#[allow(missing_docs, unreachable_pub, clippy::all)]
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
    Model::decode(bytes).map_err(|source| ReadError::Malformed { message: "coreml.Model", source })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_comes_back_as_it_was() {
        let model = Model { specification_version: 9, ..Model::default() };
        assert_eq!(read_model(&write(&model)).unwrap(), model);
    }

    #[test]
    fn an_unknown_field_is_named_with_its_place() {
        // Model.description (2) with the field 99 inside.
        let bytes = [0x12, 0x03, 0x98, 0x06, 0x01];
        let error = read_model(&bytes).unwrap_err().to_string();
        assert!(error.contains("99") && error.contains("coreml.Model.description"), "{error}");
    }

    #[test]
    fn another_model_type_is_named() {
        // Model.neuralNetwork (500), empty.
        let error = read_model(&[0xa2, 0x1f, 0x00]).unwrap_err().to_string();
        assert!(error.contains("500") && error.contains("neural network"), "{error}");
    }

    #[test]
    fn unknown_fields_inside_maps_are_found() {
        let mut program = mil::Program::default();
        program.functions.insert("main".to_owned(), mil::Function::default());
        let mut bytes = write(&program);
        // The map entry: key "main", and a function that is just the field 77.
        bytes.clear();
        bytes
            .extend([0x12, 0x0b, 0x0a, 0x04, b'm', b'a', b'i', b'n', 0x12, 0x03, 0xe8, 0x04, 0x01]);
        let error = read_program(&bytes).unwrap_err().to_string();
        assert!(error.contains("77") && error.contains("main"), "{error}");
    }

    #[test]
    fn garbage_and_deep_nesting_are_errors() {
        assert!(read_model(b"\xff\xff\xff\xff").is_err());
        // Blocks in operations in blocks, deeper than the decoder goes.
        let mut block = mil::Block::default();
        for _ in 0..200 {
            let operation = mil::Operation { blocks: vec![block], ..mil::Operation::default() };
            block = mil::Block { operations: vec![operation], ..mil::Block::default() };
        }
        let function = mil::Function {
            block_specializations: [("CoreML8".to_owned(), block)].into(),
            ..mil::Function::default()
        };
        let program = mil::Program {
            functions: [("main".to_owned(), function)].into(),
            ..Default::default()
        };
        assert!(read_program(&write(&program)).is_err());
    }
}
