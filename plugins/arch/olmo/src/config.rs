//! What is OLMo 2's and OLMo 3's own in `config.json`.
//!
//! transformers' `Olmo2Config`, `Olmo2ForCausalLM`, `Olmo3Config` and `Olmo3ForCausalLM` decide what
//! a key means.

use anemll_decoder::config::{Config, Key, read_local_base, windows_by_pattern};
use anemll_decoder::frontend::{Component, Defaults, Family, Form, LocalRotation, Positions};
use anemll_decoder::{NormPlacement, QueryKeyNorm, Refusals};
use anemll_plugin_api::Result;

const DEFAULTS: Defaults = Defaults { norm_epsilon: 1e-5, ..Defaults::USUAL };

/// The component `olmo`.
pub(crate) static OLMO: Component = Component {
    id: "olmo",
    head_pieces: 8,
    families: &[
        Family {
            model_type: "olmo2",
            architecture: "Olmo2ForCausalLM",
            prefix: "olmo",
            section: None,
            defaults: DEFAULTS,
            form: olmo2,
        },
        Family {
            model_type: "olmo3",
            architecture: "Olmo3ForCausalLM",
            prefix: "olmo",
            section: None,
            defaults: DEFAULTS,
            form: olmo3,
        },
    ],
};

const KEYS: &[Key] = &[Key::used("attention_bias")];

/// `sliding_window` of `Olmo3Config` where none is given, and the layers that have none of it.
const WINDOW: u64 = 4096;
const FULL_EVERY: u64 = 4;

fn olmo2(config: &Config<'_>, _: u64, refusals: &mut Refusals) -> Result<Form> {
    let bias = refusals.take(config.boolean("attention_bias"))?.flatten().unwrap_or(false);
    Ok(Form {
        keys: vec![KEYS],
        placement: NormPlacement::After,
        query_key_value_bias: bias,
        output_bias: bias,
        query_key_norm: Some(QueryKeyNorm::Width),
        ..Form::default()
    })
}

/// Layers with a window rotate without the scaling of `rope_scaling`.
fn olmo3(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let windows = windows_by_pattern(config, FULL_EVERY, WINDOW, context, refusals)?;
    let windows = windows.with_local_rotation();
    let mut form = olmo2(config, context, refusals)?;
    form.keys.push(windows.keys);
    form.layers = windows.layers;
    let local = match refusals.take(read_local_base(config))?.flatten() {
        Some(base) => LocalRotation::Base(base),
        None => LocalRotation::Unscaled,
    };
    form.positions = Positions { local: Some(local), ..Positions::default() };
    form.notes = windows.notes;
    Ok(form)
}
