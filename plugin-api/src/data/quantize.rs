//! What a quantizer is asked and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{DType, TensorView};

/// A distinct weight of the model's functions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct WeightInfo {
    /// Unique among the weights.
    pub id: String,
    /// The tensor's name in the weight files.
    pub tensor: String,
    /// Its role, for example `attention.q`; see [`super::WeightReference::role`].
    pub role: String,
    /// The layer, if it belongs to one.
    #[serde(default)]
    pub layer: Option<u32>,
    /// The shape in the program.
    pub shape: Vec<u64>,
    /// Ids of the functions that use it.
    pub functions: Vec<String>,
    /// The space that it reads: `residual`, or a name of its own.
    #[serde(default)]
    pub reads: Option<String>,
    /// The space that it writes.
    #[serde(default)]
    pub writes: Option<String>,
    /// Whether there are statistics of its input: [`PlanRequest::statistics`] has them, and
    /// [`crate::Quantizer::encode`] will be given them again.
    #[serde(default)]
    pub has_statistics: bool,
}

/// What a quantizer plans for.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PlanRequest<'a> {
    /// The distinct weights.
    pub weights: Vec<WeightInfo>,
    /// The functions as serialized `CoreML.Specification.Model`s with weight references.
    pub programs: Vec<&'a [u8]>,
    /// Statistics of the weights' inputs, each named by its weight's id: float32 of shape `[in]`
    /// (the mean square of each input) or `[in, in]` (the mean products of two), finite. They are
    /// those of the original model; transforms do not change them.
    pub statistics: Vec<TensorView<'a>>,
}

/// What is to happen to one weight.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Decision {
    /// Whether the weight is encoded; else it stays float16.
    pub encode: bool,
    /// What [`crate::Quantizer::encode`] is given.
    #[serde(default)]
    pub parameters: Value,
    /// A remark for the report, for example that a group size was changed.
    #[serde(default)]
    pub note: Option<String>,
}

/// An axis of a matrix of shape `[out, in]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Axis {
    /// One factor per output channel.
    Rows,
    /// One factor per input channel.
    Columns,
    /// One that this version does not know. Hosts refuse such a transform.
    #[serde(other)]
    Unknown,
}

/// Factors that a weight is multiplied by before it is encoded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transform {
    /// The weight's id.
    pub weight: String,
    /// What each factor multiplies.
    pub axis: Axis,
    /// The factors, finite.
    pub factors: Vec<f32>,
}

/// A quantizer's plan.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// By weight id; a weight without a decision stays float16.
    #[serde(default)]
    pub decisions: BTreeMap<String, Decision>,
    /// In the order in which they are applied; together they keep what the model computes.
    #[serde(default)]
    pub transforms: Vec<Transform>,
}

/// An argument of the operation that takes a weight's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EncodedArgument {
    /// The element type.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<u64>,
    /// The id that the sink gave for its bytes.
    pub blob: u64,
}

/// How far the encoded weight is from the original.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EncodingError {
    /// The mean squared difference.
    pub mean_squared: f64,
    /// The largest absolute difference.
    pub max_absolute: f64,
}

/// The operation that takes a weight's place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoded {
    /// The operation, for example `constexpr_lut_to_dense`.
    pub op: String,
    /// Its arguments by parameter name.
    pub arguments: BTreeMap<String, EncodedArgument>,
    /// How far it is off, if that was measured.
    #[serde(default)]
    pub error: Option<EncodingError>,
}
