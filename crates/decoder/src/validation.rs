//! Which values of a specification go together.

use anemll_plugin_api::{Error, Result, codes};

use crate::block::QueryKeyNorm;
use crate::config::{LARGEST_LAYERS, LARGEST_SIZE};
use crate::error::{key_invalid, shape_invalid};
use crate::rope::{Frequencies, LARGEST_TABLE};
use crate::spec::{
    DecoderSpec, LARGEST_CONTEXT, LARGEST_PARAMETERS, LONGEST_KERNEL, too_many_layers,
};

impl DecoderSpec {
    /// Checks that the values go together and fit the graph's int32 shapes.
    ///
    /// # Errors
    /// The first value that does not, by configuration key or option.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_attention_heads", self.attention_heads),
            ("num_key_value_heads", self.key_value_heads),
            ("head_dim", self.head_dimension),
            ("vocab_size", self.vocabulary_size),
            ("num_hidden_layers", u64::from(self.layers())),
        ];
        let inner =
            self.blocks.iter().map(|block| ("intermediate_size", block.mlp.intermediate_size));
        for (key, size) in sizes.into_iter().chain(inner) {
            if !(1..=LARGEST_SIZE).contains(&size) {
                return Err(key_invalid(key, format!("is {size}, not from 1 to {LARGEST_SIZE}")));
            }
        }
        // Twice these stand in shapes: the norm's [x, -x].
        let products = [
            (
                "num_attention_heads",
                self.attention_heads
                    .checked_mul(self.head_dimension)
                    .and_then(|width| width.checked_mul(2)),
            ),
            ("hidden_size", self.hidden_size.checked_mul(2)),
            ("head_dim", self.head_dimension.checked_mul(2)),
        ];
        for (key, product) in products {
            if product.is_none_or(|product| product > LARGEST_SIZE) {
                return Err(key_invalid(key, "is too large for the graph's int32 shapes"));
            }
        }
        if self.layers() > LARGEST_LAYERS {
            return Err(too_many_layers(u64::from(self.layers())));
        }
        if !self.attention_heads.is_multiple_of(self.key_value_heads) {
            return Err(key_invalid(
                "num_key_value_heads",
                format!(
                    "is {}, which does not divide `num_attention_heads` = {}",
                    self.key_value_heads, self.attention_heads
                ),
            ));
        }
        if !self.head_dimension.is_multiple_of(2) {
            return Err(key_invalid(
                "head_dim",
                format!("is {}, not an even number", self.head_dimension),
            ));
        }
        let suits = |rope: &Frequencies| {
            (1..=self.head_dimension / 2).contains(&(rope.inverse.len() as u64))
        };
        if !self.rotations.iter().all(suits) {
            return Err(key_invalid("head_dim", "does not suit the rotary frequencies"));
        }
        self.validate_mixers()?;
        self.validate_blocks()?;
        if !(self.norm_epsilon >= 0.0 && self.norm_epsilon <= 1.0) {
            return Err(key_invalid(
                "rms_norm_eps",
                format!("is {}, not from 0 to 1", self.norm_epsilon),
            ));
        }
        let rows = self.head_splits.iter().try_fold(0_u64, |sum, rows| sum.checked_add(*rows));
        if rows != Some(self.vocabulary_size) || self.head_splits.contains(&0) {
            return Err(key_invalid("vocab_size", "does not suit the pieces of the head"));
        }
        let parameters = self.parameters();
        if parameters > LARGEST_PARAMETERS {
            return Err(key_invalid(
                "hidden_size",
                format!(
                    "and the other sizes make {parameters} parameters, more than \
                     {LARGEST_PARAMETERS}"
                ),
            ));
        }
        self.validate_lengths()?;
        self.validate_embedder()
    }

    fn validate_blocks(&self) -> Result<()> {
        // Weights are multiplied by such factors in float32.
        let finite = |key: &str, value: f64| match (value as f32).is_finite() && value as f32 != 0.0
        {
            true => Ok(()),
            false => {
                let reason = format!(
                    "makes a factor of {value:e}, which 32-bit floats round to 0 or infinity"
                );
                Err(key_invalid(key, reason))
            }
        };
        let positive = |key: &str, value: Option<f64>| match value {
            Some(value) if !((value as f32).is_finite() && value as f32 > 0.0) => {
                let reason = format!(
                    "makes a factor of {value:e}, but must be above 0, and finite in 32-bit floats"
                );
                Err(key_invalid(key, reason))
            }
            _ => Ok(()),
        };
        finite("embedding_multiplier", self.embedding_scale)?;
        finite("logit_scale", self.logit_scale)?;
        positive("residual_scale", Some(self.stream_scale))?;
        self.validate_stream_scale()?;
        positive("final_logit_softcapping", self.logit_cap)?;
        for block in &self.blocks {
            finite("residual_multiplier", block.residual_scale)?;
            let Some(attention) = block.mixer.attention() else { continue };
            positive("query_pre_attn_scalar", Some(attention.score_scale))?;
            positive("attn_logit_softcapping", attention.score_cap)?;
            if attention.output_gate && attention.query_key_norm == Some(QueryKeyNorm::Width) {
                return Err(key_invalid(
                    "attn_output_gate",
                    "cannot stand beside norms of queries over the width",
                ));
            }
            if attention.window == Some(0) {
                return Err(key_invalid("sliding_window", "is 0: a token sees at least itself"));
            }
            if attention.rotation.is_some_and(|place| place >= self.rotations.len()) {
                return Err(key_invalid("layer_types", "asks for a rotation that is not there"));
            }
        }
        Ok(())
    }

    /// A scaled stream is only undone by a norm that reads it.
    fn validate_stream_scale(&self) -> Result<()> {
        let without = self.blocks.iter().position(|block| !block.placement.is_before());
        match without.filter(|_| self.stream_scale != 1.0) {
            None => Ok(()),
            Some(layer) => Err(Error::new(
                codes::PLUGIN_OPTION_INVALID,
                format!(
                    "option \"residual_scale\" cannot be {}: layer {layer} reads the residual stream \
                     without a norm, which would undo the factor, so the logits would be wrong",
                    self.stream_scale
                ),
            )
            .with_at("residual_scale")
            .with_hint("leave the option out, or give 1")),
        }
    }

    fn validate_lengths(&self) -> Result<()> {
        if !(1..=LARGEST_CONTEXT).contains(&self.context) {
            return Err(shape_invalid(
                "context",
                format!("is {}, not from 1 to {LARGEST_CONTEXT} tokens", self.context),
            ));
        }
        if !(1..=self.context).contains(&self.batch) {
            return Err(shape_invalid(
                "batch",
                format!("is {}, not from 1 to the context's {} tokens", self.batch, self.context),
            ));
        }
        let table = self.state_length().checked_mul(self.head_dimension);
        if table.is_none_or(|table| table > LARGEST_TABLE) {
            return Err(shape_invalid(
                "context",
                format!(
                    "of {} tokens makes tables of rotary positions too large for heads of {}",
                    self.context, self.head_dimension
                ),
            ));
        }
        let ring = self.ring_state_shape();
        if !is_state(&self.state_shape()) || ring.is_some_and(|shape| !is_state(&shape)) {
            return Err(shape_invalid(
                "context",
                format!("of {} makes the state too large", self.context),
            ));
        }
        Ok(())
    }

    /// What is mixed by which layers: the states are made for all of a kind at once.
    fn validate_mixers(&self) -> Result<()> {
        let mut attentions = self.blocks.iter().filter_map(|block| block.mixer.attention());
        if attentions.clone().next().is_none() {
            return Err(key_invalid("layer_types", "has no layer with attention"));
        }
        let ring = self.ring_window();
        if ring.is_some() && attentions.any(|it| it.window.is_some() && it.window != ring) {
            return Err(key_invalid(
                "sliding_window",
                "differs between layers, so no one ring holds what they see",
            ));
        }
        self.validate_delta_nets()?;
        let mut lengths = self.blocks.iter().filter_map(|block| block.mixer.short_convolution());
        let Some(first) = lengths.next() else { return Ok(()) };
        if !(2..=LONGEST_KERNEL).contains(&first.length) {
            return Err(key_invalid(
                "conv_L_cache",
                format!("is {}, not from 2 to {LONGEST_KERNEL} tokens", first.length),
            ));
        }
        match lengths.all(|other| other.length == first.length) {
            true => Ok(()),
            false => Err(key_invalid("conv_L_cache", "differs between layers")),
        }
    }

    /// One state holds what all layers with linear attention keep, so they are alike.
    fn validate_delta_nets(&self) -> Result<()> {
        let mut delta_nets = self.blocks.iter().filter_map(|block| block.mixer.delta_net());
        let Some(first) = delta_nets.next() else { return Ok(()) };
        let sizes = [
            ("linear_num_key_heads", first.key_heads),
            ("linear_num_value_heads", first.value_heads),
            ("linear_key_head_dim", first.key_width),
            ("linear_value_head_dim", first.value_width),
        ];
        for (key, size) in sizes {
            if !(1..=LARGEST_SIZE).contains(&size) {
                return Err(key_invalid(key, format!("is {size}, not from 1 to {LARGEST_SIZE}")));
            }
        }
        if first.channels().checked_mul(2).is_none_or(|channels| channels > LARGEST_SIZE) {
            return Err(key_invalid(
                "linear_value_head_dim",
                "and the other sizes of linear attention are too large for the graph's int32 shapes",
            ));
        }
        if !first.value_heads.is_multiple_of(first.key_heads) {
            return Err(key_invalid(
                "linear_num_value_heads",
                format!(
                    "is {}, not a multiple of `linear_num_key_heads` = {}",
                    first.value_heads, first.key_heads
                ),
            ));
        }
        if !(2..=LONGEST_KERNEL).contains(&first.taps) {
            return Err(key_invalid(
                "linear_conv_kernel_dim",
                format!("is {}, not from 2 to {LONGEST_KERNEL} tokens", first.taps),
            ));
        }
        if self.recurrent_state_shape().is_some_and(|shape| !is_state(&shape)) {
            return Err(key_invalid(
                "linear_key_head_dim",
                "and the other sizes of linear attention make its state too large",
            ));
        }
        match delta_nets.all(|other| other == first) {
            true => Ok(()),
            false => Err(key_invalid("layer_types", "has kinds of linear attention that differ")),
        }
    }
}

/// Whether the bytes of a float16 state of this shape can be counted.
fn is_state(shape: &[u64]) -> bool {
    let bytes = shape.iter().try_fold(2_u64, |bytes, size| bytes.checked_mul(*size));
    bytes.is_some_and(|bytes| i64::try_from(bytes).is_ok())
}
