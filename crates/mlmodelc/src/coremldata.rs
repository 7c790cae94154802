//! `coremldata.bin`: specification version and description in a little-endian archive.

use crate::wire::{Reader, put_counted, put_field, put_u32};
use crate::{ModelType, SPECIFICATION_VERSIONS};
use coreml_proto::{Metadata, Model, ModelDescription};

/// The name that stands in the archive of every model that is no pipeline.
const NAME: &str = "generic";
/// Field number of the metadata in a description.
const METADATA_FIELD: u32 = 100;
/// Field number of the author's own entries in the metadata.
const USER_DEFINED_FIELD: u32 = 100;
/// Bytes of one trailer.
const TRAILER: usize = 16;

/// What `coremldata.bin` says.
#[derive(Debug, Clone, PartialEq)]
pub struct CoremlData {
    /// Version of the archive: major, minor, patch.
    pub container_version: [u32; 3],
    /// Core ML specification version of the source model.
    pub specification_version: i32,
    /// The source model's description.
    pub description: ModelDescription,
    /// Trailers at the end: one for each function of the description, and one where it names none.
    pub trailers: usize,
}

impl CoremlData {
    /// What is written for a model.
    ///
    /// # Errors
    /// A sentence, for specification versions that are not written.
    pub fn of_model(model: &Model) -> Result<Self, String> {
        let version = model.specification_version;
        if !SPECIFICATION_VERSIONS.contains(&version) {
            return Err(format!("specification version {version} is not written"));
        }
        // The archive's version follows the specification from 8 on.
        let major = if version < 8 { 5 } else { version.unsigned_abs() };
        let description = model.description.clone().unwrap_or_default();
        Ok(Self {
            container_version: [major, 0, 0],
            specification_version: version,
            trailers: description.functions.len().max(1),
            description,
        })
    }

    /// The bytes of the file. Entries of the metadata's map stand in the order of their keys.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_u32(&mut bytes, ModelType::ML_PROGRAM.number());
        self.container_version.iter().for_each(|number| put_u32(&mut bytes, *number));
        bytes.extend([0; 12]);
        put_counted(&mut bytes, NAME.as_bytes());
        bytes.extend_from_slice(&self.specification_version.to_le_bytes());
        bytes.extend([0; 28]);
        put_counted(&mut bytes, &description_bytes(&self.description));
        for _ in 0..self.trailers {
            put_u32(&mut bytes, ModelType::ML_PROGRAM.number());
            bytes.extend([0; TRAILER - 4]);
        }
        bytes
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// A sentence: truncated, no ML Program, or a description that cannot be read.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let parts = Parts::read(bytes)?;
        // A model that has nothing but this description, for the reader of models.
        let mut model = Vec::with_capacity(parts.description.len() + 8);
        put_field(&mut model, 2, parts.description);
        let model = coreml_proto::read_model(&model)
            .map_err(|error| format!("the description cannot be read: {error}"))?;
        Ok(Self {
            container_version: parts.container_version,
            specification_version: parts.specification_version,
            description: model.description.unwrap_or_default(),
            trailers: parts.trailers.len() / TRAILER,
        })
    }
}

/// The archive's parts, with the description as it stands.
pub(crate) struct Parts<'a> {
    pub(crate) container_version: [u32; 3],
    pub(crate) specification_version: i32,
    pub(crate) header: &'a [u8],
    pub(crate) description: &'a [u8],
    pub(crate) trailers: &'a [u8],
}

impl<'a> Parts<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        let kind = ModelType::from_number(reader.u32("the model type")?);
        if !kind.is_ml_program() {
            return Err(format!(
                "the compiled model is of the type `{kind}` ({}), not an ML Program",
                kind.number()
            ));
        }
        let mut container_version = [0; 3];
        for number in &mut container_version {
            *number = reader.u32("the archive's version")?;
        }
        reader.take(12, "the header")?;
        let name = reader.text("the archive's name")?;
        if name != NAME {
            return Err(format!("the archive is named {name:?}, expected {NAME:?}"));
        }
        let specification_version = reader.u32("the specification version")?;
        let specification_version = i32::try_from(specification_version)
            .map_err(|_| format!("specification version {specification_version}"))?;
        reader.take(28, "the header")?;
        let header = &bytes[..reader.offset()];
        let description = reader.counted("the description")?;
        let trailers = reader.take(reader.left() as u64, "the end")?;
        if !trailers.len().is_multiple_of(TRAILER) {
            return Err(format!("{} bytes stand after the description", trailers.len()));
        }
        Ok(Self { container_version, specification_version, header, description, trailers })
    }
}

/// The description as Apple's compiler writes it: fields in order of their numbers, metadata always
/// there, and both sides of every map entry, also where they are empty.
fn description_bytes(description: &ModelDescription) -> Vec<u8> {
    let without = ModelDescription { metadata: None, ..description.clone() };
    let mut bytes = coreml_proto::write(&without);
    let metadata = description.metadata.clone().unwrap_or_default();
    let entries = metadata.user_defined;
    let mut metadata =
        coreml_proto::write(&Metadata { user_defined: Default::default(), ..metadata });
    for (key, value) in &entries {
        let mut entry = Vec::new();
        put_field(&mut entry, 1, key.as_bytes());
        put_field(&mut entry, 2, value.as_bytes());
        put_field(&mut metadata, USER_DEFINED_FIELD, &entry);
    }
    put_field(&mut bytes, METADATA_FIELD, &metadata);
    bytes
}

/// The file with the entries of the metadata's map in the order of their bytes, and all else as it
/// stands; `None` for bytes that are no such file.
pub(crate) fn with_sorted_entries(bytes: &[u8]) -> Option<Vec<u8>> {
    let parts = Parts::read(bytes).ok()?;
    let mut description = Vec::new();
    for field in crate::wire::fields(parts.description)? {
        if field.number != METADATA_FIELD {
            description.extend_from_slice(field.raw);
            continue;
        }
        let mut inner = crate::wire::fields(field.content)?;
        // Stable: all else keeps its order before the entries, which stand last in the message.
        inner.sort_by_key(|field| {
            let entry = (field.number == USER_DEFINED_FIELD).then_some(field.content)?;
            Some(crate::wire::fields(entry)?.iter().find(|side| side.number == 1)?.content)
        });
        let metadata: Vec<u8> = inner.iter().flat_map(|field| field.raw).copied().collect();
        put_field(&mut description, METADATA_FIELD, &metadata);
    }
    let mut sorted = parts.header.to_vec();
    put_counted(&mut sorted, &description);
    sorted.extend_from_slice(parts.trailers);
    Some(sorted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use coreml_proto::array_feature_type::ArrayDataType;
    use coreml_proto::{
        ArrayFeatureType, FeatureDescription, FeatureType, FunctionDescription, StateFeatureType,
        feature_type, state_feature_type,
    };

    fn feature(name: &str, shape: &[i64], state: bool) -> FeatureDescription {
        let array = ArrayFeatureType {
            shape: shape.to_vec(),
            data_type: ArrayDataType::Float16.into(),
            ..Default::default()
        };
        let kind = match state {
            false => feature_type::Type::MultiArrayType(array),
            true => feature_type::Type::StateType(StateFeatureType {
                r#type: Some(state_feature_type::Type::ArrayType(array)),
            }),
        };
        FeatureDescription {
            name: name.to_owned(),
            r#type: Some(FeatureType { r#type: Some(kind), ..Default::default() }),
            ..Default::default()
        }
    }

    /// The bytes of a published example, written out by hand from its description.
    #[test]
    fn the_published_example() {
        let entries =
            [("source", "torch==2.5.1"), ("source_dialect", "TorchScript"), ("version", "8.1")];
        let user_defined = entries
            .iter()
            .map(|(key, value)| {
                (format!("com.github.apple.coremltools.{key}"), (*value).to_owned())
            })
            .collect();
        let model = Model {
            specification_version: 7,
            description: Some(ModelDescription {
                input: vec![feature("x", &[1, 10], false), feature("y", &[1, 10], false)],
                output: vec![feature("var_3", &[1, 10], false)],
                metadata: Some(Metadata { user_defined, ..Default::default() }),
                ..Default::default()
            }),
            ..Default::default()
        };
        let bytes = CoremlData::of_model(&model).unwrap().to_bytes();
        let mut expected = b"\xf6\x01\0\0\x05\0\0\0".to_vec();
        expected.extend([0; 20]);
        expected.extend(b"\x07\0\0\0\0\0\0\0generic\x07\0\0\0");
        expected.extend([0; 28]);
        expected.extend(b"\xdc\0\0\0\0\0\0\0");
        expected.extend(b"\x0a\x0f\x0a\x01x\x1a\x0a\x2a\x08\x0a\x02\x01\x0a\x10\x90\x80\x04");
        expected.extend(b"\x0a\x0f\x0a\x01y\x1a\x0a\x2a\x08\x0a\x02\x01\x0a\x10\x90\x80\x04");
        expected.extend(b"\x52\x13\x0a\x05var_3\x1a\x0a\x2a\x08\x0a\x02\x01\x0a\x10\x90\x80\x04");
        expected.extend(b"\xa2\x06\xa1\x01");
        expected
            .extend(b"\xa2\x06\x33\x0a\x23com.github.apple.coremltools.source\x12\x0ctorch==2.5.1");
        expected.extend(
            b"\xa2\x06\x3a\x0a\x2bcom.github.apple.coremltools.source_dialect\x12\x0bTorchScript",
        );
        expected.extend(b"\xa2\x06\x2b\x0a\x24com.github.apple.coremltools.version\x12\x038.1");
        expected.extend(b"\xf6\x01\0\0");
        expected.extend([0; 12]);
        assert_eq!(bytes.len(), 319);
        assert_eq!(bytes, expected);
        assert_eq!(with_sorted_entries(&bytes).unwrap(), bytes);
        assert_eq!(CoremlData::from_bytes(&bytes).unwrap().description, model.description.unwrap());
    }

    #[test]
    fn functions_have_a_trailer_each_and_metadata_is_always_there() {
        let function = |name: &str| FunctionDescription {
            name: name.to_owned(),
            state: vec![feature("kv", &[2, 1, 256, 16], true)],
            ..Default::default()
        };
        let model = Model {
            specification_version: 9,
            description: Some(ModelDescription {
                functions: vec![function("infer"), function("prefill")],
                default_function_name: "infer".to_owned(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let bytes = CoremlData::of_model(&model).unwrap().to_bytes();
        assert_eq!(bytes[4..8], [9, 0, 0, 0]);
        let read = CoremlData::from_bytes(&bytes).unwrap();
        assert_eq!((read.trailers, read.specification_version), (2, 9));
        // Field 6 of a function; feature name, state type, array of packed shape and float16.
        let state =
            b"\x32\x15\x0a\x02kv\x1a\x0f\x42\x0d\x0a\x0b\x0a\x05\x02\x01\x80\x02\x10\x10\x90\x80\x04";
        assert!(bytes.windows(state.len()).any(|window| window == state));
        assert_eq!(bytes[bytes.len() - 35..bytes.len() - 32], [0xa2, 6, 0]);
    }

    #[test]
    fn entries_with_empty_sides_keep_both() {
        let metadata = Metadata {
            user_defined: [(String::new(), String::new())].into(),
            ..Default::default()
        };
        let description = ModelDescription { metadata: Some(metadata), ..Default::default() };
        assert_eq!(description_bytes(&description), b"\xa2\x06\x07\xa2\x06\x04\x0a\0\x12\0");
    }

    #[test]
    fn sorting_moves_entries_only() {
        let mut metadata = Vec::new();
        for (number, content) in [(1, &b"about"[..]), (100, b"\x0a\x01b"), (100, b"\x0a\x01a")] {
            put_field(&mut metadata, number, content);
        }
        let mut description = Vec::new();
        put_field(&mut description, 100, &metadata);
        let file = |description: &[u8]| {
            let mut data =
                CoremlData::of_model(&Model { specification_version: 6, ..Default::default() })
                    .unwrap()
                    .to_bytes();
            data.truncate(0x4b);
            put_counted(&mut data, description);
            data.extend(b"\xf6\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0");
            data
        };
        let sorted = with_sorted_entries(&file(&description)).unwrap();
        let swapped = b"\x0a\x05about\xa2\x06\x03\x0a\x01a\xa2\x06\x03\x0a\x01b";
        let mut expected = Vec::new();
        put_field(&mut expected, 100, swapped);
        assert_eq!(sorted, file(&expected));
    }

    #[test]
    fn damaged_files_are_refused() {
        let model = Model { specification_version: 8, ..Default::default() };
        let good = CoremlData::of_model(&model).unwrap().to_bytes();
        for length in 0..good.len() {
            if !(good.len() - length).is_multiple_of(TRAILER) {
                assert!(CoremlData::from_bytes(&good[..length]).is_err(), "{length}");
            }
        }
        let mut pipeline = good.clone();
        pipeline[0] = 202;
        pipeline[1] = 0;
        assert!(CoremlData::from_bytes(&pipeline).unwrap_err().contains("pipeline"));
        let mut long = good.clone();
        long[0x4b..0x53].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(CoremlData::from_bytes(&long).unwrap_err().contains("truncated"));
        let mut unknown = good;
        unknown[0x53] = 0xaa;
        assert!(CoremlData::from_bytes(&unknown).is_err());
        for version in [0, 5, 10, -9] {
            let model = Model { specification_version: version, ..Default::default() };
            assert!(CoremlData::of_model(&model).is_err());
        }
    }
}
