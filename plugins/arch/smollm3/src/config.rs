//! What is SmolLM3's own in `config.json`.
//!
//! transformers' `SmolLM3Config` and `SmolLM3ForCausalLM` decide what a key means.

use anemll_decoder::Refusals;
use anemll_decoder::config::{
    Config, Key, WindowRules, check_length, layer_count, windows_of_these_layers,
};
use anemll_decoder::frontend::{
    Component, Defaults, Family, Form, LayerForm, LayerRotation, Layers,
};
use anemll_plugin_api::Result;

/// The component `smollm3`.
pub(crate) static SMOLLM3: Component = Component {
    id: "smollm3",
    head_pieces: 8,
    families: &[Family {
        model_type: "smollm3",
        architecture: "SmolLM3ForCausalLM",
        prefix: "smollm3",
        section: None,
        defaults: Defaults {
            max_position_embeddings: 32768,
            num_key_value_heads: Some(4),
            rope_theta: 2_000_000.0,
            tie_word_embeddings: true,
            ..Defaults::USUAL
        },
        form,
    }],
};

const ROTATED: &str = "no_rope_layers";
const INTERVAL: &str = "no_rope_layer_interval";

const KEYS: &[Key] = &[
    Key::used("attention_bias"),
    Key::used("mlp_bias"),
    Key::used(ROTATED),
    Key::used(INTERVAL),
    Key::ignored("max_window_layers", "transformers does not read it for this architecture"),
    Key::ignored("pretraining_tp", "only changes the order of sums"),
];

/// What `SmolLM3Config` takes where nothing is given.
const WINDOWS: WindowRules =
    WindowRules { on: false, window: None, first_layer: 0, honoured: true };

fn form(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let rotated = refusals.take(rotated(config))?.unwrap_or_default();
    // Where `layer_types` is absent, the layers that do not rotate have the window.
    let unlisted = rotated.iter().map(|rotated| !rotated).collect();
    let windows = windows_of_these_layers(config, WINDOWS, unlisted, context, refusals)?;
    let layers = rotated.iter().enumerate().map(|(layer, rotated)| LayerForm {
        rotation: if *rotated { LayerRotation::Global } else { LayerRotation::None },
        ..windows.layers.of(layer as u32)
    });
    let bias = refusals.take(config.boolean("attention_bias"))?.flatten().unwrap_or(false);
    let mlp_bias = refusals.take(config.boolean("mlp_bias"))?.flatten().unwrap_or(false);
    Ok(Form {
        keys: vec![KEYS, windows.keys],
        layers: Layers::Each(layers.collect()),
        query_key_value_bias: bias,
        output_bias: bias,
        mlp_bias,
        notes: windows.notes,
        ..Form::default()
    })
}

/// Which layers rotate queries and keys: `no_rope_layers` has 1 for those that do, and where it is
/// absent, all but every `no_rope_layer_interval`th do.
fn rotated(config: &Config<'_>) -> Result<Vec<bool>> {
    let interval = config.size(INTERVAL)?.unwrap_or(4);
    match config.numbers(ROTATED)? {
        Some(listed) => {
            check_length(config, ROTATED, listed.len())?;
            Ok(listed.iter().map(|rotated| *rotated != 0.0).collect())
        }
        None => Ok((1..=layer_count(config)).map(|layer| layer % interval != 0).collect()),
    }
}
