//! What a model that gives vectors has behind the last norm, and how its tokens see each other.

use anemll_plugin_api::data::{DenseActivation, DenseLayer, EmbeddingOutput};
use anemll_plugin_api::{Error, Result, codes};

use crate::config::LARGEST_SIZE;
use crate::error::key_invalid;
use crate::spec::DecoderSpec;

impl DecoderSpec {
    /// Whether tokens see those behind them too.
    pub(crate) fn is_bidirectional(&self) -> bool {
        self.embedder.as_ref().is_some_and(|embedder| embedder.bidirectional)
    }

    /// Whether keys and values are kept from one call to the next. A text that goes through in one call
    /// needs no state for them.
    pub(crate) fn keeps_keys(&self) -> bool {
        self.embedder.is_none() || self.batch != self.context
    }

    /// The layers behind the pooling.
    pub(crate) fn dense_layers(&self) -> &[DenseLayer] {
        self.embedder.as_ref().map_or(&[], |embedder| &embedder.dense)
    }

    /// What the model says of its vectors.
    pub(crate) fn embedding_output(&self) -> Option<EmbeddingOutput> {
        let embedder = self.embedder.as_ref()?;
        let dimension = embedder.dense.last().map_or(self.hidden_size, |layer| layer.outputs);
        Some(EmbeddingOutput::new(dimension).with_bidirectional(embedder.bidirectional))
    }

    /// Checks that what is behind the pooling goes together.
    pub(crate) fn validate_embedder(&self) -> Result<()> {
        let mut width = self.hidden_size;
        for (number, layer) in self.dense_layers().iter().enumerate() {
            if layer.inputs != width {
                return Err(key_invalid(
                    "hidden_size",
                    format!(
                        "and the layers behind the pooling do not go together: layer {number} takes \
                         {} elements and gets {width}",
                        layer.inputs
                    ),
                ));
            }
            if !(1..=LARGEST_SIZE / 2).contains(&layer.outputs) {
                return Err(dense_invalid(layer, &format!("gives {} elements", layer.outputs)));
            }
            if layer.activation == DenseActivation::Unknown {
                return Err(dense_invalid(layer, "has an activation that is not known here"));
            }
            width = layer.outputs;
        }
        match self.is_bidirectional() && self.batch != self.context {
            true => Err(Error::new(
                codes::SHAPE_INVALID,
                format!(
                    "tokens see each other, so a batch of {} in a context of {} is not enough",
                    self.batch, self.context
                ),
            )
            .with_at("--batch")),
            false => Ok(()),
        }
    }
}

fn dense_invalid(layer: &DenseLayer, what: &str) -> Error {
    Error::new(codes::CONFIG_KEY_INVALID, format!("the layer of `{}` {what}", layer.weight))
        .with_at(layer.weight.clone())
}
