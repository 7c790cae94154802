//! Which type a Core ML model is of, read without decoding it.
//!
//! The messages of other types are not in our schema, and a model of one of them may be large: only
//! the tags of its outermost fields are read.

use anemll_mlpackage::{ErrorKind, PackageError, Result};
use coreml_proto::prost::encoding::{WireType, decode_key, decode_varint};
use std::fmt;
use std::io::{BufRead, BufReader, Read as _, Seek, SeekFrom};
use std::path::Path;

/// Type of a Core ML model: which field of the message `Model` it fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelType {
    number: u32,
    name: &'static str,
}

/// Every type of the published format: field number in the message `Model`, and the field's name.
const TYPES: &[(u32, &str)] = &[
    (200, "pipelineClassifier"),
    (201, "pipelineRegressor"),
    (202, "pipeline"),
    (300, "glmRegressor"),
    (301, "supportVectorRegressor"),
    (302, "treeEnsembleRegressor"),
    (303, "neuralNetworkRegressor"),
    (304, "bayesianProbitRegressor"),
    (400, "glmClassifier"),
    (401, "supportVectorClassifier"),
    (402, "treeEnsembleClassifier"),
    (403, "neuralNetworkClassifier"),
    (404, "kNearestNeighborsClassifier"),
    (500, "neuralNetwork"),
    (501, "itemSimilarityRecommender"),
    (502, "mlProgram"),
    (555, "customModel"),
    (556, "linkedModel"),
    (560, "classConfidenceThresholding"),
    (600, "oneHotEncoder"),
    (601, "imputer"),
    (602, "featureVectorizer"),
    (603, "dictVectorizer"),
    (604, "scaler"),
    (606, "categoricalMapping"),
    (607, "normalizer"),
    (609, "arrayFeatureExtractor"),
    (610, "nonMaximumSuppression"),
    (900, "identity"),
    (2000, "textClassifier"),
    (2001, "wordTagger"),
    (2002, "visionFeaturePrint"),
    (2003, "soundAnalysisPreprocessing"),
    (2004, "gazetteer"),
    (2005, "wordEmbedding"),
    (2006, "audioFeaturePrint"),
    (3000, "serializedModel"),
];

/// Field number of ML Programs.
const ML_PROGRAM: u32 = 502;

/// Bytes of a field's tag and of the number behind it, at most.
const HEAD: u64 = 20;

/// Below this number stand the fields that every model has.
const FIRST_TYPE: u32 = 200;

impl ModelType {
    /// The type of ML Programs.
    pub const ML_PROGRAM: Self = Self { number: ML_PROGRAM, name: "mlProgram" };

    /// The type with this field number; unknown numbers get a name that says so.
    pub fn from_number(number: u32) -> Self {
        let known = TYPES.iter().find(|(known, _)| *known == number);
        Self { number, name: known.map_or("a type newer than this program", |(_, name)| name) }
    }

    /// Field number in the message `Model`.
    pub fn number(self) -> u32 {
        self.number
    }

    /// Name of the field, such as `neuralNetwork`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// Whether it is an ML Program.
    pub fn is_ml_program(self) -> bool {
        self.number == ML_PROGRAM
    }
}

impl fmt::Display for ModelType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

/// The type of the model in a file; `None` where the file is no model, truncated, or has no type.
///
/// # Errors
/// What the system says.
pub fn model_type(path: &Path) -> Result<Option<ModelType>> {
    let failed = |error: std::io::Error| PackageError::reading(path, "cannot read", &error);
    let file = anemll_files::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    scan(&mut BufReader::new(file), length).map_err(failed)
}

/// An error for a model of another type.
pub(crate) fn refuse_other(path: &Path) -> Result<()> {
    match model_type(path)? {
        Some(kind) if !kind.is_ml_program() => Err(PackageError::new(
            ErrorKind::ModelType,
            path,
            format!("the model is of the type `{kind}`, only ML Programs can be compiled here"),
        )
        .with_hint(
            "compile it on a Mac with --compiler coremlcompiler, or convert its source again as \
             an ML Program",
        )),
        _ => Ok(()),
    }
}

fn scan(file: &mut (impl BufRead + Seek), length: u64) -> std::io::Result<Option<ModelType>> {
    let mut found = None;
    let mut position = 0;
    let mut head = Vec::with_capacity(HEAD as usize);
    while position < length {
        head.clear();
        file.take(HEAD).read_to_end(&mut head)?;
        let Some((number, bytes)) = field(&head) else { return Ok(None) };
        let Some(next) = position.checked_add(bytes).filter(|next| *next <= length) else {
            return Ok(None);
        };
        if number >= FIRST_TYPE {
            let kind = ModelType::from_number(number);
            if !kind.is_ml_program() {
                return Ok(Some(kind));
            }
            found = Some(kind);
        }
        match i64::try_from(bytes) {
            Ok(bytes) => file.seek_relative(bytes - head.len() as i64)?,
            Err(_) => {
                file.seek(SeekFrom::Start(next))?;
            }
        }
        position = next;
    }
    Ok(found)
}

/// Number of the field that these bytes begin with, and how many bytes it takes with all that is in
/// it; of that, at most [`HEAD`] need to be given.
fn field(mut bytes: &[u8]) -> Option<(u32, u64)> {
    let given = bytes.len();
    let (number, wire_type) = decode_key(&mut bytes).ok()?;
    let content = match wire_type {
        WireType::Varint => decode_varint(&mut bytes).map(|_| 0),
        WireType::SixtyFourBit => Ok(8),
        WireType::LengthDelimited => decode_varint(&mut bytes),
        WireType::ThirtyTwoBit => Ok(4),
        WireType::StartGroup | WireType::EndGroup => return None,
    };
    let read = (given - bytes.len()) as u64;
    Some((number, content.ok()?.checked_add(read)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn of(bytes: &[u8]) -> Option<&'static str> {
        let length = bytes.len() as u64;
        scan(&mut Cursor::new(bytes), length).unwrap().map(ModelType::name)
    }

    #[test]
    fn types_are_found_by_their_tags() {
        // specificationVersion 4, a description of two bytes, neuralNetwork (500) of one byte.
        let network = [0x08, 4, 0x12, 2, 0xff, 0xff, 0xa2, 0x1f, 1, 0xff];
        assert_eq!(of(&network), Some("neuralNetwork"));
        // mlProgram (502), empty; treeEnsembleClassifier (402), pipeline (202) and an unknown one.
        assert_eq!(of(&[0xb2, 0x1f, 0]), Some("mlProgram"));
        assert_eq!(of(&[0x92, 0x19, 0]), Some("treeEnsembleClassifier"));
        assert_eq!(of(&[0xd2, 0x0c, 0]), Some("pipeline"));
        assert_eq!(of(&[0xe2, 0x2b, 0]), Some("a type newer than this program"));
        // Both: what is not an ML Program counts.
        assert_eq!(of(&[0xb2, 0x1f, 0, 0xa2, 0x1f, 0]), Some("neuralNetwork"));
    }

    #[test]
    fn what_is_no_model_has_no_type() {
        for bytes in [&[][..], &[0x08, 9], b"not a model", &[0xa2, 0x1f, 9, 0], &[0xff; 12]] {
            assert_eq!(of(bytes), None, "{bytes:?}");
        }
        let endless = [0xa2, 0x1f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(of(&endless), None);
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(TYPES.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(ModelType::from_number(502), ModelType::ML_PROGRAM);
    }
}
