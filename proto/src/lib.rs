//! Protobuf messages of Core ML models of the ML Program type, and strict reading of them.
//!
//! The schema text is in `schema/`. Reading refuses what the schema does not name: a field that
//! we would drop on writing is an error when the file is read, never a silent loss.

mod fields;

use fields::{Message, Shape};
use prost::Message as _;

/// Messages of package `coreml`: the model, its description and feature types. Generated from the
/// schema; a test compares, and writes them anew when it is told to (`tests/generated.rs`).
#[allow(missing_docs, unreachable_pub, clippy::all)]
#[rustfmt::skip]
mod generated {
    pub mod coreml {
        include!("generated/coreml.rs");
        pub mod mil {
            include!("generated/coreml.mil.rs");
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
    let Some(fields) = fields::message(message) else {
        unreachable!("the table is made from the schema that declares {message}")
    };
    find_unknown(fields, bytes, 0).map_err(|unknown| {
        let mut path = message.to_owned();
        for step in unknown.steps.iter().rev() {
            path.push('.');
            path.push_str(step);
        }
        let hint = match model_type_name(unknown.number) {
            Some(name) if message == "coreml.Model" && unknown.steps.is_empty() => {
                format!(": this is {name}, not an ML Program")
            }
            _ => String::new(),
        };
        ReadError::UnknownField { path, number: unknown.number, hint }
    })
}

/// Deepest nesting of messages that is looked at; the decoder ends before that.
const DEEPEST: u32 = 150;

/// A field that the schema does not name.
struct Unknown {
    number: u32,
    /// The fields that lead to it, the innermost first.
    steps: Vec<String>,
}

/// Looks for unknown fields in the bytes themselves: decoding them into dynamic messages would take
/// several times the memory and time of the messages that are wanted.
///
/// Malformed messages are left to the decoder. What is malformed here must be so there too, or a
/// field could hide behind it.
fn find_unknown(message: &Message, bytes: &[u8], depth: u32) -> Result<(), Unknown> {
    if depth > DEEPEST {
        return Ok(());
    }
    // A whole message first, so that the outermost unknown field is the one that is named.
    let mut unknown = None;
    for field in Fields(bytes) {
        let Some((number, content)) = field else { return Ok(()) };
        if content.is_none() || message.field(number).is_none() {
            unknown.get_or_insert(number);
        }
    }
    if let Some(number) = unknown {
        return Err(Unknown { number, steps: Vec::new() });
    }
    for (index, (number, content)) in Fields(bytes).flatten().enumerate() {
        let (Some(field), Some(content)) = (message.field(number), content) else {
            continue;
        };
        let Some(inner) = field.inner() else { continue };
        find_unknown(inner, content, depth + 1).map_err(|mut unknown| {
            let step = match field.shape {
                Shape::Map => {
                    // Out of the entry, which is no field of its own.
                    unknown.steps.pop();
                    format!("{}[{:?}]", field.name, map_key(content))
                }
                Shape::List => {
                    let before = Fields(bytes).flatten().take(index);
                    format!("{}[{}]", field.name, before.filter(|field| field.0 == number).count())
                }
                Shape::One => field.name.to_owned(),
            };
            unknown.steps.push(step);
            unknown
        })?;
    }
    Ok(())
}

/// The key of a map entry, where it is text.
fn map_key(entry: &[u8]) -> String {
    let key = Fields(entry).flatten().find(|field| field.0 == 1).and_then(|field| field.1);
    String::from_utf8_lossy(key.unwrap_or_default()).into_owned()
}

/// The fields of a message: numbers, and what follows tag and length. The content of a group, which
/// the schema never has, is `None`. A malformed field ends the walk with `None`.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<(u32, Option<&'a [u8]>)>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_none() {
            self.0 = &[];
        }
        Some(field)
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Option<(u32, Option<&'a [u8]>)> {
        use prost::encoding::{WireType, decode_key, decode_varint};
        let (number, kind) = decode_key(&mut self.0).ok()?;
        let length = match kind {
            WireType::Varint => {
                let before = self.0;
                decode_varint(&mut self.0).ok()?;
                return Some((number, before.get(..before.len() - self.0.len())));
            }
            WireType::SixtyFourBit => 8,
            WireType::LengthDelimited => decode_varint(&mut self.0).ok()?,
            WireType::ThirtyTwoBit => 4,
            WireType::StartGroup | WireType::EndGroup => return Some((number, None)),
        };
        let (content, rest) = self.0.split_at_checked(usize::try_from(length).ok()?)?;
        self.0 = rest;
        Some((number, Some(content)))
    }
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
    fn unknown_fields_inside_lists_are_found() {
        // Model.description.input, twice; the second has the field 9.
        let bytes = [0x12, 0x09, 0x0a, 0x03, 0x0a, 0x01, b'x', 0x0a, 0x02, 0x48, 0x01];
        let error = read_model(&bytes).unwrap_err().to_string();
        assert_eq!(error, "unknown field 9 at `coreml.Model.description.input[1]`");
    }

    #[test]
    fn groups_are_unknown_fields() {
        // The group 77, empty: a decoder would skip it. Then the same inside the description.
        assert!(read_model(&[0xeb, 0x04, 0xec, 0x04]).unwrap_err().to_string().contains("77"));
        let inside = [0x12, 0x04, 0xeb, 0x04, 0xec, 0x04];
        assert!(read_model(&inside).unwrap_err().to_string().contains("description"));
    }

    #[test]
    fn malformed_bytes_are_left_to_the_decoder() {
        let malformed = |bytes: &[u8]| {
            matches!(read_model(bytes), Err(ReadError::Malformed { message: "coreml.Model", .. }))
        };
        // Truncated tag, number, length and content; a wrong wire type; an unknown field before.
        for bytes in [&[0x88][..], &[0x08], &[0x12], &[0x12, 2, 0x0a], &[0x0e], &[0xe8, 4, 1, 0x0f]]
        {
            assert!(malformed(bytes), "{bytes:?}");
        }
        assert!(malformed(&[0xff; 11]));
        assert!(malformed(&[0x00, 0x00]));
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
