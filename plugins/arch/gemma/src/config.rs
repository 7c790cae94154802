//! What is Gemma's own in `config.json`.
//!
//! transformers' `Gemma2Config`, `Gemma3TextConfig` and their models decide what a key means.

use anemll_decoder::config::{Allowed, Config, Key, Windows, read_local_base, windows_by_pattern};
use anemll_decoder::frontend::{
    Component, Defaults, EmbeddingScale, Family, Form, LayerForm, LocalRotation, Positions,
};
use anemll_decoder::{Activation, Norm, NormPlacement, QueryKeyNorm, Refusals, key_unsupported};
use anemll_plugin_api::Result;

/// What all Gemma models take where nothing is given.
const DEFAULTS: Defaults = Defaults {
    max_position_embeddings: 131_072,
    num_attention_heads: Some(8),
    num_key_value_heads: Some(4),
    head_dim: Some(256),
    vocabulary_size: Some(262_208),
    rope_theta: 1_000_000.0,
    tie_word_embeddings: true,
    activation: Activation::GeluTanh,
    activation_key: "hidden_activation",
    ..Defaults::USUAL
};

/// The component `gemma`.
pub(crate) static GEMMA: Component = Component {
    id: "gemma",
    head_pieces: 16,
    families: &[
        Family {
            model_type: "gemma3_text",
            architecture: "Gemma3ForCausalLM",
            prefix: "gemma3",
            section: None,
            defaults: DEFAULTS,
            form: gemma3,
        },
        Family {
            model_type: "gemma3",
            architecture: "Gemma3ForConditionalGeneration",
            prefix: "gemma3",
            section: Some("text_config"),
            defaults: DEFAULTS,
            form: gemma3_of_images,
        },
        Family {
            model_type: "gemma2",
            architecture: "Gemma2ForCausalLM",
            prefix: "gemma2",
            section: None,
            defaults: Defaults {
                max_position_embeddings: 8192,
                vocabulary_size: Some(256_000),
                rope_theta: 10_000.0,
                ..DEFAULTS
            },
            form: gemma2,
        },
    ],
};

const SCALAR: &str = "query_pre_attn_scalar";
const SCORES: &str = "attn_logit_softcapping";
const LOGITS: &str = "final_logit_softcapping";
const LOCAL_BASE: &str = "rope_local_base_freq";
const BIDIRECTIONAL: &str = "use_bidirectional_attention";
const PATTERN: &str = "sliding_window_pattern";
/// `sliding_window` where none is given.
const WINDOW: u64 = 4096;

const KEYS: &[Key] = &[
    Key::used("attention_bias"),
    Key::used(SCALAR),
    Key::used(LOGITS),
    Key::ignored("hidden_act", "`hidden_activation` is read instead"),
    Key::ignored("cache_implementation", "the converted model keeps its keys and values itself"),
    Key::ignored(
        "_sliding_window_pattern",
        "`layer_types` or the pattern of the family is read instead",
    ),
];

const GEMMA3_KEYS: &[Key] = &[Key::used(LOCAL_BASE), Key::used(PATTERN), Key::used(BIDIRECTIONAL)];
const GEMMA2_KEYS: &[Key] = &[
    Key::used(SCORES),
    Key::refused(BIDIRECTIONAL, &[Allowed::False], "transformers has it in Gemma 3 alone"),
];

/// The residual stream of the larger models reaches several hundred thousand, far beyond float16; the
/// embedding's rows are near 1. This brings both well inside.
const STREAM_SCALE: f64 = 1.0 / 32.0;

/// What Gemma 2 and 3 share.
fn gemma(config: &Config<'_>, windows: Windows, refusals: &mut Refusals) -> Result<Form> {
    let bias = refusals.take(config.boolean("attention_bias"))?.flatten().unwrap_or(false);
    let scalar = refusals.take(config.positive(SCALAR))?.flatten().unwrap_or(256.0);
    Ok(Form {
        keys: vec![KEYS, windows.keys],
        layers: windows.layers,
        norm: Norm::RMS_ONE_PLUS,
        placement: NormPlacement::Both,
        query_key_value_bias: bias,
        output_bias: bias,
        score_scale: Some(scalar.sqrt().recip()),
        embedding_scale: EmbeddingScale::RootOfWidth,
        stream_scale: STREAM_SCALE,
        notes: windows.notes,
        ..Form::default()
    })
}

fn gemma3(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let full_every = refusals.take(config.size(PATTERN))?.flatten().unwrap_or(6);
    let both_ways = refusals.take(config.boolean(BIDIRECTIONAL))?.flatten().unwrap_or(false);
    // Half of a window lies on either side, as transformers has it, so it acts in a longer context.
    let within = if both_ways { context.saturating_mul(2) } else { context };
    let mut windows = windows_by_pattern(config, full_every, WINDOW, within, refusals)?;
    if both_ways {
        windows.layers = windows.layers.map(|_, own| {
            let half = own.window.map(|window| window / 2 + 1);
            LayerForm { window: half.filter(|half| *half < context), ..own }
        });
    }
    let mut form = gemma(config, windows.with_local_rotation(), refusals)?;
    form.bidirectional = both_ways;
    let layered = refusals.take(read_local_base(config))?.flatten();
    let base = refusals.take(config.positive(LOCAL_BASE))?.flatten().or(layered);
    if layered.is_some() && layered != base {
        refusals.push(key_unsupported(
            &config.path(LOCAL_BASE),
            format!("and `{}` differ", config.path("rope_parameters")),
        ))?;
    }
    form.keys.push(GEMMA3_KEYS);
    form.positions = Positions {
        local: Some(LocalRotation::Base(base.unwrap_or(10_000.0))),
        ..Positions::default()
    };
    form.query_key_norm = Some(QueryKeyNorm::Head);
    form.logit_cap = refusals.take(config.positive(LOGITS))?.flatten();
    Ok(form)
}

/// The language model within `Gemma3ForConditionalGeneration`, which gives the logits as they are.
fn gemma3_of_images(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let mut form = gemma3(config, context, refusals)?;
    if let Some(cap) = form.logit_cap.take() {
        refusals.push(
            key_unsupported(
                &config.path(LOGITS),
                format!("= {cap}: transformers does not bound the logits of this architecture"),
            )
            .with_hint("make it null, or convert the language model alone as `gemma3_text`"),
        )?;
    }
    Ok(form)
}

fn gemma2(config: &Config<'_>, context: u64, refusals: &mut Refusals) -> Result<Form> {
    let windows = windows_by_pattern(config, 2, WINDOW, context, refusals)?;
    let mut form = gemma(config, windows, refusals)?;
    form.keys.push(GEMMA2_KEYS);
    // Null switches a bound off; absent, it has the value of the first models.
    let mut cap = |key, usual| {
        let cap = refusals.take(config.positive(key))?.flatten();
        Ok::<_, anemll_plugin_api::Error>(match config.is_null(key) {
            true => None,
            false => cap.or(Some(usual)),
        })
    };
    form.score_cap = cap(SCORES, 50.0)?;
    form.logit_cap = cap(LOGITS, 30.0)?;
    Ok(form)
}
