//! What the pieces of a function share: the specification, the builder, the number of tokens.

use anemll_mil::{DataType, Error, FunctionBuilder, Result, Var};
use anemll_plugin_api::data::CacheForm;

use crate::spec::DecoderSpec;
use crate::weights::{LayerWeight, Matrix, Weight};

/// A function that is being built.
pub(crate) struct Graph<'a> {
    pub(crate) spec: &'a DecoderSpec,
    pub(crate) builder: FunctionBuilder,
    /// Tokens that the function takes.
    pub(crate) tokens: u64,
    /// How it keeps keys and values.
    pub(crate) cache: CacheForm,
    /// Its context, where that is not the model's.
    pub(crate) own_context: Option<u64>,
    /// The model's context.
    pub(crate) longest: u64,
}

impl Graph<'_> {
    /// A weight by reference, float16, in the shape that the graph wants.
    pub(crate) fn weight(&mut self, weight: Weight) -> Result<Var> {
        let file_name = self.spec.reference(weight).to_file_name();
        let name = self.spec.graph_name(weight);
        let shape = self.spec.graph_shape(weight);
        self.builder.weight(&name, &file_name, DataType::Float16, &shape)
    }

    /// The bias of a projection, if it has one.
    pub(crate) fn bias(&mut self, layer: u32, matrix: Matrix) -> Result<Option<Var>> {
        if !self.spec.has_bias(layer, matrix) {
            return Ok(None);
        }
        self.weight(Weight::Layer(layer, LayerWeight::Bias(matrix))).map(Some)
    }

    /// A projection as 1x1 convolution: (1, in, 1, T) to (1, out, 1, T).
    pub(crate) fn convolve(&mut self, x: Var, layer: u32, matrix: Matrix) -> Result<Var> {
        let weight = self.weight(Weight::Layer(layer, LayerWeight::Matrix(matrix)))?;
        let bias = self.bias(layer, matrix)?;
        self.builder.conv1x1(x, weight, bias)
    }

    /// Rows to channels: (1, T, n) to (1, n, 1, T), as convolutions take them.
    pub(crate) fn channels_of(&mut self, x: Var) -> Result<Var> {
        let x = self.builder.transpose(x, &[0, 2, 1])?;
        self.builder.expand_dims(x, &[2])
    }

    /// Channels to rows: (1, n, 1, T) to (1, T, n).
    pub(crate) fn rows_of(&mut self, x: Var) -> Result<Var> {
        let x = self.builder.squeeze(x, &[2])?;
        self.builder.transpose(x, &[0, 2, 1])
    }

    /// Indices for a gather from `rows` rows: 16 bits where they suffice, which keeps the gather on
    /// the Neural Engine.
    pub(crate) fn indices(&mut self, positions: Var, rows: u64) -> Result<Var> {
        if rows > u64::from(u16::MAX) {
            return Ok(positions);
        }
        self.builder.cast(positions, DataType::UInt16)
    }
}

/// A size as the int32 that operations take.
pub(crate) fn int32(size: u64) -> Result<i32> {
    i32::try_from(size).map_err(|_| Error::new(format!("the size {size} is beyond int32")))
}

/// A size as `reshape` takes it.
pub(crate) fn int64(size: u64) -> Result<i64> {
    i64::try_from(size).map_err(|_| Error::new(format!("the size {size} is beyond int64")))
}
