//! What a quantizer is asked and answers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{DType, TensorView};

/// What is known of a conversion before a function is lowered.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outline {
    /// How many parameters the model has.
    pub parameters: u64,
    /// How many layers the model has.
    pub layers: u32,
    /// Whether the embedding is in one function with layers, as it is where a model becomes one
    /// package.
    pub whole: bool,
    /// Whether a plan is to have [`Plan::choices`].
    #[serde(default)]
    pub choices: bool,
    /// How many tokens the statistics of the weights' inputs are of; zero where there are none, or
    /// where they do not say.
    #[serde(default)]
    pub tokens: u64,
}

impl Outline {
    /// A model with so many parameters and layers, in several functions.
    pub fn new(parameters: u64, layers: u32) -> Self {
        Self { parameters, layers, ..Self::default() }
    }
}

builders! {
    impl Outline {
        with_whole(whole: bool);
        with_choices(choices: bool);
        with_tokens(tokens: u64);
    }
}

/// What a quantizer is going to do, as far as it depends on no weight.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Scheme {
    /// Whether every weight stays float16, so that the conversion needs no quantizer.
    #[serde(default)]
    pub idle: bool,
    /// For names and metadata of packages: handed on to the combiner unread. Bits per weight are
    /// `bits.embeddings`, `bits.layers` and `bits.head`, whole numbers; output channels that share
    /// a table are `group.embeddings` and so on, 0 for all of a weight's channels. What is not there
    /// is stored in another way.
    #[serde(default)]
    pub labels: Map<String, Value>,
    /// What stands beside the options of the conversion in the metadata of packages, in the report,
    /// and in what a later run compares: under keys of the quantizer's own, all that it decided by
    /// itself where the user had left it open.
    #[serde(default)]
    pub record: Map<String, Value>,
    /// The seed of a rotation of the residual stream, which the host folds into all weights that read
    /// or write it, gains included, before they are encoded; rows whose order is free
    /// ([`crate::data::WeightReference::row_order`]) are sorted by their size, so that those that share a
    /// table are alike. Statistics for
    /// [`crate::Quantizer::encode`] are then those of the rotated and sorted inputs. Where there are only mean
    /// squares of them, which say nothing of rotated inputs, nothing is rotated.
    #[serde(default)]
    pub rotation: Option<u64>,
    /// For users, in one line, for example `layers 6 bits`; may be empty.
    #[serde(default)]
    pub summary: String,
    /// What it would like to know of the weights' inputs. It may be given none, or squares for
    /// products.
    #[serde(default)]
    pub statistics: Knowledge,
    /// Whether it cannot do without.
    #[serde(default)]
    pub needs_statistics: bool,
    /// Whether the host is to choose among [`Plan::choices`] by what they do to the model; where that
    /// cannot be measured, the plan's own decisions count.
    #[serde(default)]
    pub open: bool,
}

/// What is known of the inputs of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Knowledge {
    /// Nothing.
    #[default]
    Nothing,
    /// The mean square of each input: float32 `[inputs]`.
    Squares,
    /// The mean products of every two inputs: float32 `[inputs, inputs]`.
    Products,
    /// Something that this version does not know. Hosts give what they have.
    #[serde(other)]
    Unknown,
}

builders! {
    impl Scheme {
        with_idle(idle: bool);
        with_labels(labels: Map<String, Value>);
        with_record(record: Map<String, Value>);
        with_summary(summary: impl Into<String>);
        with_statistics(statistics: Knowledge);
        with_need_of_statistics(needs_statistics: bool);
        with_rotation(rotation: impl Into<Option<u64>>);
        with_open(open: bool);
    }
}

/// A distinct weight of the model's functions.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
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

impl WeightInfo {
    /// A weight that belongs to no layer and that no function uses yet.
    pub fn new(
        id: impl Into<String>,
        tensor: impl Into<String>,
        role: impl Into<String>,
        shape: impl Into<Vec<u64>>,
    ) -> Self {
        Self {
            id: id.into(),
            tensor: tensor.into(),
            role: role.into(),
            shape: shape.into(),
            ..Self::default()
        }
    }
}

builders! {
    impl WeightInfo {
        with_layer(layer: impl Into<Option<u32>>);
        with_functions(functions: Vec<String>);
        with_reads(reads: impl Into<Option<String>>);
        with_writes(writes: impl Into<Option<String>>);
        with_statistics(has_statistics: bool);
    }
}

/// What a quantizer plans for.
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct PlanRequest<'a> {
    /// The conversion.
    pub outline: Outline,
    /// The distinct weights.
    pub weights: Vec<WeightInfo>,
    /// The functions as serialized `CoreML.Specification.Model`s with weight references.
    pub programs: Vec<&'a [u8]>,
    /// The mean square of each input of the weights, each named by its weight's id: float32 of shape
    /// `[in]`, finite. They are those of the original model; neither transforms nor a
    /// rotation change them.
    pub statistics: Vec<TensorView<'a>>,
}

builders! {
    impl PlanRequest<'a> {
        with_outline(outline: Outline);
        with_weights(weights: Vec<WeightInfo>);
        with_programs(programs: Vec<&'a [u8]>);
        with_statistics(statistics: Vec<TensorView<'a>>);
    }
}

/// The type of an argument of the operation that takes a weight's place.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ArgumentType {
    /// The element type.
    pub dtype: DType,
    /// The shape.
    pub shape: Vec<u64>,
}

impl ArgumentType {
    /// An argument of this type and shape.
    pub fn new(dtype: DType, shape: impl Into<Vec<u64>>) -> Self {
        Self { dtype, shape: shape.into() }
    }
}

/// The operation that takes a weight's place: one of the `constexpr_` operations of iOS 18, which
/// gives back a float16 tensor of the weight's shape.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Encoding {
    /// The operation, for example `constexpr_lut_to_dense`.
    pub op: String,
    /// Its arguments by parameter name. They alone stand in the weight file, in the order of their
    /// names: how large it will be is known from here.
    pub arguments: BTreeMap<String, ArgumentType>,
    /// Its settings by parameter name: whole numbers that stand in the program itself, such as
    /// `vector_axis`.
    #[serde(default)]
    pub settings: BTreeMap<String, i32>,
}

impl Encoding {
    /// This operation, without arguments yet.
    pub fn new(op: impl Into<String>) -> Self {
        Self { op: op.into(), arguments: BTreeMap::new(), settings: BTreeMap::new() }
    }

    /// The same operation with a setting of this name.
    #[must_use]
    pub fn with_setting(mut self, name: impl Into<String>, value: i32) -> Self {
        self.settings.insert(name.into(), value);
        self
    }

    /// The same operation with an argument of this name, type and shape.
    #[must_use]
    pub fn with_argument(
        mut self,
        name: impl Into<String>,
        dtype: DType,
        shape: impl Into<Vec<u64>>,
    ) -> Self {
        self.arguments.insert(name.into(), ArgumentType::new(dtype, shape));
        self
    }
}

/// What is to happen to one weight.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Decision {
    /// The operation that takes its place; without one it stays float16.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// What [`crate::Quantizer::encode`] is given.
    #[serde(default)]
    pub parameters: Value,
    /// Whether the products of the weight are multiplied by a factor for each output channel, in an
    /// operation after the one that reads it: the encoding then stands for a weight whose rows are
    /// divided by these, and [`crate::Quantizer::encode`] writes them, too, as
    /// [`Self::OUTPUT_SCALE`]. Only for an encoded weight that `conv` and `linear` read.
    #[serde(default)]
    pub output_scale: bool,
    /// A remark for the report, for example that a group size was changed.
    #[serde(default)]
    pub note: Option<String>,
}

builders! {
    impl Decision {
        with_encoding(encoding: impl Into<Option<Encoding>>);
        with_parameters(parameters: impl Into<Value>);
        with_output_scale(output_scale: bool);
        with_note(note: impl Into<Option<String>>);
    }
}

impl Decision {
    /// Under this name the factors of output channels are written: float16 of shape `[out]`.
    pub const OUTPUT_SCALE: &'static str = "output_scale";
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
#[non_exhaustive]
pub struct Transform {
    /// The weight's id.
    pub weight: String,
    /// What each factor multiplies.
    pub axis: Axis,
    /// The factors, finite.
    pub factors: Vec<f32>,
}

impl Transform {
    /// A weight is multiplied by these factors.
    pub fn new(weight: impl Into<String>, axis: Axis, factors: Vec<f32>) -> Self {
        Self { weight: weight.into(), axis, factors }
    }
}

/// A quantizer's plan.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Plan {
    /// By weight id; a weight without a decision stays float16.
    #[serde(default)]
    pub decisions: BTreeMap<String, Decision>,
    /// In the order in which they are applied; together they keep what the model computes.
    #[serde(default)]
    pub transforms: Vec<Transform>,
    /// Where [`Outline::choices`] asks for them: all that could become of each weight, by id. The host
    /// measures what each does to the model, and takes one of them, or leaves the weight float16.
    #[serde(default)]
    pub choices: BTreeMap<String, Vec<Decision>>,
}

builders! {
    impl Plan {
        with_decisions(decisions: BTreeMap<String, Decision>);
        with_transforms(transforms: Vec<Transform>);
        with_choices(choices: BTreeMap<String, Vec<Decision>>);
    }
}

/// How far the encoded weight is from the original.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct EncodingError {
    /// The mean squared difference.
    pub mean_squared: f64,
    /// The largest absolute difference.
    pub max_absolute: f64,
    /// The mean squared difference of what the weight computes, as a share of the mean square of what
    /// it should: by the statistics of its inputs, or, without any, for inputs that are all alike.
    #[serde(default)]
    pub of_products: Option<f64>,
}

impl EncodingError {
    /// The mean squared and the largest absolute difference.
    pub fn new(mean_squared: f64, max_absolute: f64) -> Self {
        Self { mean_squared, max_absolute, of_products: None }
    }
}

builders! {
    impl EncodingError {
        with_error_of_products(of_products: impl Into<Option<f64>>);
    }
}

/// What is to be said of a weight that was encoded.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Encoded {
    /// How far it is off, if that was measured.
    #[serde(default)]
    pub error: Option<EncodingError>,
}

builders! {
    impl Encoded {
        with_error(error: impl Into<Option<EncodingError>>);
    }
}
