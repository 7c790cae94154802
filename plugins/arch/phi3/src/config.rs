//! What is Phi-3's own in `config.json`; Phi-4 and Phi-4-mini have the same.
//!
//! transformers' `Phi3Config` and `Phi3ForCausalLM` decide what a key means.

use anemll_decoder::config::{Allowed, Config, Key, window_everywhere};
use anemll_decoder::frontend::{Component, Defaults, Family, Form, Positions};
use anemll_decoder::{Fusion, Refusals};
use anemll_plugin_api::Result;

/// The component `phi3`.
pub(crate) static PHI3: Component = Component {
    id: "phi3",
    head_pieces: 16,
    families: &[Family {
        model_type: "phi3",
        architecture: "Phi3ForCausalLM",
        prefix: "phi",
        section: None,
        defaults: Defaults { max_position_embeddings: 4096, norm_epsilon: 1e-5, ..Defaults::USUAL },
        form,
    }],
};

const NO_BIASES: &str = "the projections of this architecture have no biases";
const UNREAD: &str = "transformers does not read it for this architecture";

const KEYS: &[Key] = &[
    Key::refused("attention_bias", &[Allowed::False], NO_BIASES),
    Key::refused("mlp_bias", &[Allowed::False], NO_BIASES),
    Key::ignored("full_attn_mod", UNREAD),
    Key::ignored("interpolate_factor", UNREAD),
];

/// `original_max_position_embeddings` of `Phi3Config` where it is not given.
const ORIGINAL_CONTEXT: u64 = 4096;

fn form(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let window = window_everywhere(config, None, context, refusals)?;
    Ok(Form {
        keys: vec![KEYS, window.keys],
        layers: window.layers,
        positions: Positions {
            partial: Some(1.0),
            longrope: Some(ORIGINAL_CONTEXT),
            ..Positions::default()
        },
        fusion: Fusion::All,
        notes: window.notes,
        ..Form::default()
    })
}
