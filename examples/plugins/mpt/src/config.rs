//! What MPT's `config.json` means; transformers' `MptConfig` and `MptForCausalLM` decide it.

use anemll_decoder::config::{Allowed, Config, GENERIC_KEYS, Key, LARGEST_LAYERS, check_keys};
use anemll_decoder::{Refusals, key_invalid, key_unsupported};
use anemll_plugin_api::data::ModelInput;
use anemll_plugin_api::{Error, Result, codes};

/// Pieces of the head, as the apps expect them.
pub(crate) const HEAD_PIECES: u64 = 8;

/// Positions up to here are whole numbers in float16, and so are the distances between them.
const LONGEST_CONTEXT: u64 = 2048;

/// Larger sizes would not fit the program's int32 shapes.
const LARGEST: u64 = 1 << 20;

const TRAINING: &str = "acts in training only";
const LOADING: &str = "says how the PyTorch module is made";

const KEYS: &[Key] = &[
    Key::used("architectures"),
    Key::used("model_type"),
    Key::used("attn_config"),
    Key::used("d_model"),
    Key::used("layer_norm_epsilon"),
    Key::used("max_seq_len"),
    Key::used("n_heads"),
    Key::used("n_layers"),
    Key::used("vocab_size"),
    Key::used("expansion_ratio"),
    Key::refused("no_bias", &[Allowed::True], "there are no biases here"),
    Key::refused("tie_word_embeddings", &[Allowed::True], "the head is the embedding here"),
    Key::refused("logit_scale", &[], "logits are not scaled here"),
    Key::ignored("embedding_fraction", TRAINING),
    Key::ignored("emb_pdrop", TRAINING),
    Key::ignored("learned_pos_emb", "is not read where ALiBi is"),
    Key::ignored("norm_type", "the norms are the same in another precision"),
    Key::ignored("init_device", LOADING),
    Key::ignored("init_config", LOADING),
    Key::ignored("verbose", LOADING),
];

const ATTENTION_KEYS: &[Key] = &[
    Key::used("alibi_bias_max"),
    Key::used("softmax_scale"),
    Key::refused("alibi", &[Allowed::True], "positions are read by ALiBi here"),
    Key::refused("attn_type", &[Allowed::Text("multihead_attention")], "keys are not shared here"),
    Key::refused("clip_qkv", &[], "queries, keys and values are not bounded here"),
    Key::refused("prefix_lm", &[Allowed::False], "attention is causal here"),
    Key::refused("qk_ln", &[Allowed::False], "queries and keys have no norms here"),
    Key::refused("attn_uses_sequence_id", &[Allowed::False], "there is one sequence here"),
    Key::ignored("attn_impl", LOADING),
    Key::ignored("attn_pdrop", TRAINING),
    Key::ignored("model_type", LOADING),
];

/// A model.
pub(crate) struct Mpt {
    pub(crate) layers: u32,
    pub(crate) heads: u64,
    /// Width of the residual stream.
    pub(crate) width: u64,
    pub(crate) vocabulary: u64,
    /// Tokens of the longest text in training.
    pub(crate) longest: u64,
    pub(crate) epsilon: f64,
    /// The steepest slope is 2 to the minus this.
    pub(crate) bias_max: f64,
    pub(crate) score_scale: f64,
    /// Tokens that attention looks back on.
    pub(crate) context: u64,
    /// Tokens of one prefill call.
    pub(crate) batch: u64,
}

impl Mpt {
    /// Reads a configuration, with remarks; nothing where a key of it is refused.
    pub(crate) fn read(
        model: &ModelInput,
        refusals: &mut Refusals,
    ) -> Result<Option<(Self, Vec<String>)>> {
        let config = Config::new(&model.config)?;
        let mut notes = check_keys(&config, &[KEYS, GENERIC_KEYS], refusals)?;
        let mut size = |key: &str, default: u64| {
            let value = refusals.take(config.size(key).and_then(|value| match value {
                Some(0) => Err(key_invalid(key, "is 0")),
                Some(size) if size > LARGEST => Err(key_invalid(key, format!("is {size}"))),
                size => Ok(size.unwrap_or(default)),
            }))?;
            Ok::<_, Error>(value.unwrap_or(1))
        };
        let (width, heads) = (size("d_model", 2048)?, size("n_heads", 16)?);
        let (layers, vocabulary) = (size("n_layers", 24)?, size("vocab_size", 50368)?);
        let (longest, ratio) = (size("max_seq_len", 2048)?, size("expansion_ratio", 4)?);
        if !width.is_multiple_of(heads) {
            refusals.push(key_invalid(
                "n_heads",
                format!("is {heads}, which does not divide {width}"),
            ))?;
        }
        if layers > u64::from(LARGEST_LAYERS) {
            refusals.push(key_invalid(
                "n_layers",
                format!("is {layers}, more than {LARGEST_LAYERS}"),
            ))?;
        }
        if ratio != 4 {
            let reason =
                format!("= {ratio}: transformers makes the MLP 4 times as wide whatever it is");
            refusals.push(key_unsupported("expansion_ratio", reason))?;
        }
        let positive = |config: &Config<'_>, key: &str| config.positive(key);
        let epsilon = refusals.take(positive(&config, "layer_norm_epsilon"))?.flatten();
        let (mut bias_max, mut score_scale) = (None, None);
        if let Some(attention) = refusals.take(config.section("attn_config"))?.flatten() {
            notes.extend(check_keys(&attention, &[ATTENTION_KEYS], refusals)?);
            bias_max = refusals.take(positive(&attention, "alibi_bias_max"))?.flatten();
            score_scale = refusals.take(positive(&attention, "softmax_scale"))?.flatten();
        }
        if !refusals.is_empty() {
            return Ok(None);
        }
        let (context, batch) = (model.context, model.batch);
        let shape = |option: &str, why: String| {
            let at = format!("--{option}");
            Err(Error::new(codes::SHAPE_INVALID, format!("the {option} {why}")).with_at(at))
        };
        if context == 0 || context > LONGEST_CONTEXT {
            return shape("context", format!("is {context}, not from 1 to {LONGEST_CONTEXT}"));
        }
        if batch == 0 || batch > context {
            return shape("batch", format!("is {batch}, not from 1 to the context of {context}"));
        }
        let head_width = width as f64 / heads as f64;
        let mpt = Self {
            layers: layers as u32,
            heads,
            width,
            vocabulary,
            longest,
            epsilon: epsilon.unwrap_or(1e-5),
            bias_max: bias_max.unwrap_or(8.0),
            score_scale: score_scale.unwrap_or(head_width.sqrt().recip()),
            context,
            batch,
        };
        Ok(Some((mpt, notes)))
    }

    /// Elements of a head.
    pub(crate) fn head_width(&self) -> u64 {
        self.width / self.heads
    }

    /// Elements of the MLP's inner space.
    pub(crate) fn inner(&self) -> u64 {
        4 * self.width
    }

    /// Shape of the state, float16: (keys of all layers, then values; heads; positions; head width).
    /// Positions are a multiple of 32 and of the batch, so that a padded last batch stays inside.
    pub(crate) fn state_shape(&self) -> [u64; 4] {
        let mut step = 32_u64;
        while !step.is_multiple_of(self.batch) {
            step += 32;
        }
        let positions = self.context.div_ceil(step) * step;
        [2 * u64::from(self.layers), self.heads, positions, self.head_width()]
    }

    /// How much each head's attention falls off with each token of distance. As transformers has it:
    /// those of a power of two, and of other numbers of heads those of the next power, every second
    /// one first.
    pub(crate) fn slopes(&self) -> Vec<f64> {
        let power = self.heads.next_power_of_two();
        let slope = |place: u64| (-(place as f64) * self.bias_max / power as f64).exp2();
        let mut slopes: Vec<f64> = (1..=power).map(slope).collect();
        if power != self.heads {
            let second = slopes.iter().skip(1).step_by(2);
            slopes = second.chain(slopes.iter().step_by(2)).copied().collect();
            slopes.truncate(self.heads as usize);
        }
        slopes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: serde_json::Value) -> Mpt {
        let model = ModelInput::new(config, 64, 8);
        Mpt::read(&model, &mut Refusals::new()).unwrap().unwrap().0
    }

    #[test]
    fn slopes_are_those_of_the_paper_and_of_transformers() {
        let slopes = |heads: u64| read(json!({"d_model": 4 * heads, "n_heads": heads})).slopes();
        assert_eq!(slopes(4), [0.25, 0.0625, 0.015625, 0.00390625]);
        // build_mpt_alibi_tensor(6, 2)[:, 0, 0] * -1
        assert_eq!(slopes(6), [0.25, 0.0625, 0.015625, 0.00390625, 0.5, 0.125]);
    }

    #[test]
    fn the_state_takes_a_padded_batch() {
        let of = |context, batch| {
            let model = ModelInput::new(json!({}), context, batch);
            Mpt::read(&model, &mut Refusals::new()).unwrap().unwrap().0.state_shape()[2]
        };
        assert_eq!([of(512, 64), of(100, 32), of(96, 48), of(65, 3)], [512, 128, 96, 96]);
    }
}
