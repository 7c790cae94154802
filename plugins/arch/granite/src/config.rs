//! What is Granite's own in `config.json`.
//!
//! transformers' `GraniteConfig` and `GraniteForCausalLM` decide what a key means.

use anemll_decoder::Refusals;
use anemll_decoder::config::{Config, Key};
use anemll_decoder::frontend::{Component, Defaults, EmbeddingScale, Family, Form};
use anemll_plugin_api::Result;

/// The component `granite`.
pub(crate) static GRANITE: Component = Component {
    id: "granite",
    head_pieces: 8,
    families: &[Family {
        model_type: "granite",
        architecture: "GraniteForCausalLM",
        prefix: "granite",
        section: None,
        defaults: Defaults::USUAL,
        form,
    }],
};

const EMBEDDING: &str = "embedding_multiplier";
const SCORES: &str = "attention_multiplier";
const RESIDUAL: &str = "residual_multiplier";
const LOGITS: &str = "logits_scaling";

const KEYS: &[Key] = &[
    Key::used("attention_bias"),
    Key::used("mlp_bias"),
    Key::used(EMBEDDING),
    Key::used(SCORES),
    Key::used(RESIDUAL),
    Key::used(LOGITS),
];

fn form(config: &Config<'_>, _: u64, refusals: &mut Refusals) -> Result<Form> {
    let bias = refusals.take(config.boolean("attention_bias"))?.flatten().unwrap_or(false);
    let mlp_bias = refusals.take(config.boolean("mlp_bias"))?.flatten().unwrap_or(false);
    let mut factor = |key| {
        let factor = refusals.take(config.positive(key))?.flatten();
        Ok::<_, anemll_plugin_api::Error>(factor.unwrap_or(1.0))
    };
    Ok(Form {
        keys: vec![KEYS],
        query_key_value_bias: bias,
        output_bias: bias,
        mlp_bias,
        embedding_scale: EmbeddingScale::Factor(factor(EMBEDDING)?),
        score_scale: Some(factor(SCORES)?),
        residual_scale: factor(RESIDUAL)?,
        logit_scale: factor(LOGITS)?.recip(),
        ..Form::default()
    })
}
