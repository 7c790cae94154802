//! What `config.json` means. As it stands, the models are Llama's: change what differs.

use anemll_decoder::Refusals;
use anemll_decoder::config::{Config, Key};
use anemll_decoder::frontend::{Component, Defaults, Family, Form};
use anemll_plugin_api::Result;

/// The component of the manifest: a family for each `model_type`.
pub static COMPONENT: Component = Component {
    id: "my-plugin",
    head_pieces: 8,
    families: &[Family {
        model_type: "my-plugin",
        architecture: "MyPluginForCausalLM",
        prefix: "my_plugin",
        section: None,
        defaults: Defaults::USUAL,
        form,
    }],
};

/// The family's own keys. Those of all families are known; others are warned of.
const KEYS: &[Key] = &[Key::used("attention_bias"), Key::used("mlp_bias")];

/// What the configuration says beyond the sizes that all models have.
fn form(config: &Config<'_>, _context: u64, refusals: &mut Refusals) -> Result<Form> {
    let mut flag = |key| {
        let value = refusals.take(config.boolean(key))?.flatten();
        Ok::<_, anemll_plugin_api::Error>(value.unwrap_or(false))
    };
    let bias = flag("attention_bias")?;
    Ok(Form {
        keys: vec![KEYS],
        query_key_value_bias: bias,
        output_bias: bias,
        mlp_bias: flag("mlp_bias")?,
        ..Form::default()
    })
}
