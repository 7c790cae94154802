//! What is Granite's own in `config.json`.
//!
//! transformers' `GraniteConfig`, `GraniteForCausalLM`, `GraniteMoeHybridConfig` and
//! `GraniteMoeHybridForCausalLM` decide what a key means.

use anemll_decoder::config::{Allowed, Config, Key, layer_kinds};
use anemll_decoder::frontend::{
    Component, Defaults, EmbeddingScale, Family, Form, LayerForm, LayerRotation, Layers,
};
use anemll_decoder::{Fusion, Refusals, key_unsupported};
use anemll_plugin_api::Result;

/// The component `granite`.
pub(crate) static GRANITE: Component = Component {
    id: "granite",
    head_pieces: 8,
    families: &[
        Family {
            model_type: "granite",
            architecture: "GraniteForCausalLM",
            prefix: "granite",
            section: None,
            defaults: Defaults::USUAL,
            form,
        },
        Family {
            model_type: "granitemoehybrid",
            architecture: "GraniteMoeHybridForCausalLM",
            prefix: "granite",
            section: None,
            defaults: Defaults {
                num_attention_heads: Some(32),
                vocabulary_size: Some(32_000),
                ..Defaults::USUAL
            },
            form: dense_hybrid,
        },
    ],
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

/// What Granite calls otherwise.
const NAMES: &[(&str, &str)] = &[("logit_scale", LOGITS), ("query_pre_attn_scalar", SCORES)];

const EXPERTS: &str = "num_local_experts";
const INNER: &str = "shared_intermediate_size";
/// What models call otherwise that may have experts.
const NAMES_OF_HYBRIDS: &[(&str, &str)] =
    &[("intermediate_size", INNER), ("logit_scale", LOGITS), ("query_pre_attn_scalar", SCORES)];
const POSITIONS: &str = "position_embedding_type";
const TYPES: &str = "layer_types";
/// `shared_intermediate_size` where none is given.
const USUAL_INNER: u64 = 1024;

const NO_MAMBA: &str = "no layer is of this kind";

/// Keys of models that may have experts and layers of Mamba, of those that have neither.
const HYBRID_KEYS: &[Key] = &[
    Key::used(INNER),
    Key::used(POSITIONS),
    Key::used(TYPES),
    Key::refused(EXPERTS, &[Allowed::Zero], "mixtures of experts cannot be expressed"),
    Key::refused("normalization_function", &[Allowed::Text("rmsnorm")], "all norms are RMSNorms"),
    Key::ignored("init_method", "says how weights were drawn before training"),
    Key::ignored("intermediate_size", "`shared_intermediate_size` is the width of the MLP"),
    Key::ignored("num_experts_per_tok", "a model without experts does not read it"),
    Key::ignored("output_router_logits", "a model without experts does not read it"),
    Key::ignored("router_aux_loss_coef", "a model without experts does not read it"),
    Key::ignored("mamba_chunk_size", NO_MAMBA),
    Key::ignored("mamba_conv_bias", NO_MAMBA),
    Key::ignored("mamba_d_conv", NO_MAMBA),
    Key::ignored("mamba_d_head", NO_MAMBA),
    Key::ignored("mamba_d_state", NO_MAMBA),
    Key::ignored("mamba_expand", NO_MAMBA),
    Key::ignored("mamba_n_groups", NO_MAMBA),
    Key::ignored("mamba_n_heads", NO_MAMBA),
    Key::ignored("mamba_proj_bias", NO_MAMBA),
];

/// What Llama calls otherwise: one tensor has the gate before the inner space.
const MODULES: &[(&str, &str)] = &[
    ("mlp.gate_up_proj", "shared_mlp.input_linear"),
    ("mlp.down_proj", "shared_mlp.output_linear"),
];

/// Granite 4 without experts, all of whose layers attend.
fn dense_hybrid(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    if config.get(EXPERTS).is_none() {
        let reason = "is not given, so there are 8 experts, which cannot be expressed";
        refusals.push(key_unsupported(&config.path(EXPERTS), reason))?;
    }
    if config.get(TYPES).is_some() {
        refusals.take(layer_kinds(config, TYPES, &["attention"]))?;
    } else {
        let reason = "is not given, so all layers are of Mamba, which cannot be expressed";
        refusals.push(key_unsupported(&config.path(TYPES), reason))?;
    }
    let inner = refusals.take(config.size(INNER))?.flatten().unwrap_or(USUAL_INNER);
    let rotation = match refusals.take(config.text(POSITIONS))?.flatten() {
        Some("rope") => LayerRotation::Global,
        None | Some("nope") => LayerRotation::None,
        Some(other) => {
            let reason = format!("= \"{other}\"; known here are \"rope\" and \"nope\"");
            refusals.push(key_unsupported(&config.path(POSITIONS), reason))?;
            LayerRotation::None
        }
    };
    let mut form = form(config, context, refusals)?;
    form.keys.insert(0, HYBRID_KEYS);
    form.layers = Layers::Same(LayerForm { rotation, ..LayerForm::default() });
    form.intermediate_size = Some(inner);
    form.fusion = Fusion::Mlp;
    form.key_names = NAMES_OF_HYBRIDS;
    form.modules = MODULES;
    Ok(form)
}

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
        key_names: NAMES,
        ..Form::default()
    })
}
