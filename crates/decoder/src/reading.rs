//! Reads a configuration into the specification of a graph, and collects what is refused.

use anemll_plugin_api::Result;
use anemll_plugin_api::data::{ModelInput, StoredHead};

use crate::block::{Activation, Attention, BlockSpec, Mixer, Mlp};
use crate::choices::{Choices, Head};
use crate::config::{
    Config, GENERIC_KEYS, Key, LARGEST_LAYERS, OTHER_ARCHITECTURES, Rope, RopeRules, check_keys,
    read_rope,
};
use crate::embedder::Embedder;
use crate::error::{key_invalid, key_missing, key_unsupported, renamed};
use crate::family::{Defaults, EmbeddingScale, Family, Form, LocalRotation};
use crate::keys::KeyNames;
use crate::layers::{LayerMixer, LayerRotation};
use crate::names::TensorNames;
use crate::quantized::QUANTIZATION_KEYS;
use crate::refusals::Refusals;
use crate::rope::{Frequencies, RopeScaling, frequencies};
use crate::spec::{DecoderSpec, split_head, too_many_layers};

const TIED: &str = "tie_word_embeddings";

/// The keys that every family reads. A key that no table names is remarked on.
const KEYS: &[Key] = &[
    Key::used("architectures"),
    Key::used("head_dim"),
    Key::used("hidden_size"),
    Key::used("intermediate_size"),
    Key::used("max_position_embeddings"),
    Key::used("model_type"),
    Key::used("num_attention_heads"),
    Key::used("num_hidden_layers"),
    Key::used("num_key_value_heads"),
    Key::used("original_max_position_embeddings"),
    Key::used("partial_rotary_factor"),
    Key::used("rope_parameters"),
    Key::used("rope_scaling"),
    Key::used("rope_theta"),
    Key::used(TIED),
    Key::used("vocab_size"),
];

/// A model: its specification, and what else the description says.
pub(crate) struct Reading {
    pub(crate) spec: DecoderSpec,
    pub(crate) architecture: &'static str,
    pub(crate) prefix: &'static str,
    pub(crate) model_type: String,
    pub(crate) max_position_embeddings: u64,
    pub(crate) stored_head: Option<StoredHead>,
    /// Whether tokens see those behind them too.
    pub(crate) bidirectional: bool,
    pub(crate) notes: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

/// Reads a configuration for a context and a batch; nothing where a key is refused.
///
/// # Errors
/// What is about no key of the configuration.
pub(crate) fn read(
    family: &Family,
    model: &ModelInput,
    choices: &Choices,
    refusals: &mut Refusals,
) -> Result<Option<Reading>> {
    let whole = Config::new(&model.config)?;
    let mut form_notes = Vec::new();
    let config = match family.section.map(|key| (key, whole.section(key))) {
        None => whole.clone(),
        Some((key, section)) => {
            let Some(section) = refusals.take(section)? else { return Ok(None) };
            let Some(section) = section else {
                refusals.push(key_missing(key))?;
                return Ok(None);
            };
            form_notes.push(format!(
                "config.json: only the language model, `{key}`, is converted; the rest of the \
                 model is left out"
            ));
            section
        }
    };
    let mut form = (family.form)(&config, model.context, refusals)?;
    let defaults = family.defaults;
    let key_names = KeyNames { section: family.section, own: form.key_names };
    let own = [Key::used(defaults.norm_epsilon_key), Key::used(defaults.activation_key)];
    let mut tables = form.keys.clone();
    tables.extend([&own, KEYS, QUANTIZATION_KEYS, GENERIC_KEYS, OTHER_ARCHITECTURES]);
    let mut warnings = check_keys(&config, &tables, refusals)?;
    let mut notes = form_notes;
    notes.append(&mut form.notes);

    let hidden_size = refusals.take(config.required_size("hidden_size"))?;
    let heads = size_or(&config, "num_attention_heads", defaults.num_attention_heads, &mut notes);
    let attention_heads = refusals.take(heads)?;
    let key_value_heads = match refusals.take(config.size("num_key_value_heads"))? {
        None => None,
        Some(given) => match (given, defaults.num_key_value_heads) {
            (Some(heads), _) => Some(heads),
            (None, Some(heads)) if !config.is_null("num_key_value_heads") => {
                notes.push(default_note(&config, "num_key_value_heads", heads));
                Some(heads)
            }
            (None, _) => attention_heads,
        },
    };
    let head_dimension = match refusals.take(config.size("head_dim"))? {
        None => None,
        Some(given) => match (given, defaults.head_dim) {
            (Some(width), _) => Some(width),
            (None, Some(_)) if config.is_null("head_dim") => {
                let reason = "is null, which transformers cannot load";
                refusals.push(key_invalid(&config.path("head_dim"), reason))?;
                None
            }
            (None, Some(width)) => {
                notes.push(default_note(&config, "head_dim", width));
                Some(width)
            }
            (None, None) => match hidden_size.zip(attention_heads) {
                Some((width, heads)) => refusals.take(head_width(&config, width, heads))?,
                None => None,
            },
        },
    };
    let vocabulary = size_or(&config, "vocab_size", defaults.vocabulary_size, &mut notes);
    let vocabulary_size = refusals.take(vocabulary)?;
    let activation = refusals.take(activation(&config, &defaults))?;

    let longest = refusals.take(config.size("max_position_embeddings"))?.map(|given| {
        given.unwrap_or_else(|| {
            notes.push(default_note(
                &config,
                "max_position_embeddings",
                defaults.max_position_embeddings,
            ));
            defaults.max_position_embeddings
        })
    });
    let epsilon = config.number(defaults.norm_epsilon_key).and_then(|given| match given {
        Some(epsilon) if !(0.0..=1.0).contains(&epsilon) => {
            let key = config.path(defaults.norm_epsilon_key);
            Err(key_invalid(&key, format!("is {epsilon}, not from 0 to 1")))
        }
        given => Ok(given),
    });
    let norm_epsilon = refusals.take(epsilon)?.map(|given| {
        given.unwrap_or_else(|| {
            notes.push(default_note(&config, defaults.norm_epsilon_key, defaults.norm_epsilon));
            defaults.norm_epsilon
        })
    });
    let positions = form.positions;
    let rope = match longest {
        Some(longest) => {
            let rules = RopeRules {
                base: defaults.rope_theta,
                partial: positions.partial,
                longrope: positions.longrope,
                layered: positions.local.is_some(),
                scales_queries: positions.scales_queries,
                sections: positions.sections,
                ..RopeRules::new(longest, model.context)
            };
            refusals.take(read_rope(&config, &rules))?
        }
        None => None,
    };
    notes.extend(rope.iter().flat_map(|rope| rope.notes.iter().cloned()));
    if let Some(longest) = longest.filter(|longest| model.context > *longest) {
        warnings.push(format!(
            "the context of {} goes beyond `{}` = {longest}; the model was not made for positions \
             after that",
            model.context,
            config.path("max_position_embeddings")
        ));
    }

    let pieces = choices.head_pieces;
    let head_splits = vocabulary_size.map(|rows| split_head(rows, pieces));
    if let (Some(splits), Some(rows)) = (&head_splits, vocabulary_size)
        && (splits.len() as u64) < pieces
    {
        notes.push(format!(
            "the head has {} pieces, not {pieces}: `{}` = {rows} is too small",
            splits.len(),
            config.path("vocab_size")
        ));
    }
    let names = TensorNames::find(&model.tensors);
    let tied = defaults.tie_word_embeddings;
    if family.section.is_some() && !defaults.outer_tie {
        refusals.take(check_outer_tie(&whole, &config, tied))?;
    } else if family.section.is_some() {
        notes.extend(inner_tie_note(&whole, &config, tied));
    }
    let tying = if defaults.outer_tie { &whole } else { &config };
    let head = refusals.take(head(tying, model, &names, (tied, choices.head), &mut notes))?;
    let layers = refusals.take(layers(&config))?;
    let intermediate_size = match form.intermediate_size {
        Some(size) => Some(size),
        None => refusals.take(config.required_size("intermediate_size"))?,
    };
    let rotations = match (&rope, head_dimension) {
        (Some(rope), Some(width)) => {
            refusals.take(rotations(&config, rope, positions.local, width))?
        }
        _ => None,
    };
    let embedder = model.embedding.as_ref().map(|head| Embedder::new(head, form.bidirectional));
    let batch = match embedder.as_ref().is_some_and(|embedder| embedder.bidirectional) {
        true => model.context,
        false => model.batch,
    };
    if batch != model.batch {
        notes.push(format!(
            "tokens see each other in both directions, so a text goes through in one call, of {batch} \
             tokens"
        ));
    }
    let stream_scale = choices.residual_scale.unwrap_or(form.stream_scale);
    if stream_scale != 1.0 {
        notes.push(format!(
            "the residual stream is scaled by {stream_scale} within the weights, which keeps it in \
             the range of float16 and changes logits only by rounding"
        ));
    }
    // What lacks is refused already.
    let specification = || {
        let (hidden_size, head_dimension) = (hidden_size?, head_dimension?);
        let rotations = rotations?;
        let sizes = BlockSizes {
            head_dimension,
            intermediate_size: intermediate_size?,
            rotations: rotations.len(),
        };
        let activation = activation?;
        let block = |layer| block(&form, layer, sizes, activation);
        Some(DecoderSpec {
            blocks: (0..layers?).map(block).collect(),
            hidden_size,
            attention_heads: attention_heads?,
            key_value_heads: key_value_heads?,
            head_dimension,
            vocabulary_size: vocabulary_size?,
            norm: form.norm,
            norm_epsilon: norm_epsilon?,
            embedding_scale: match form.embedding_scale {
                EmbeddingScale::Factor(factor) => factor,
                EmbeddingScale::RootOfWidth => (hidden_size as f64).sqrt(),
            },
            stream_scale,
            logit_scale: form.logit_scale,
            logit_cap: form.logit_cap,
            tied_embeddings: head.as_ref()?.0,
            rotations,
            interleaved_rotation: positions.interleaved,
            head_splits: head_splits?,
            context: model.context,
            batch,
            tensor_prefix: names.prefix,
            head_tensor: names.head,
            fusion: form.fusion,
            modules: form.modules,
            key_names,
            output_projection: form.output_projection,
            softmax: form.softmax,
            silu: form.silu,
            window_cache: choices.window_cache,
            embedder: embedder.clone(),
        })
    };
    let spec = specification();
    if let Some(spec) = &spec {
        let validated = spec.validate();
        refusals.take(validated.map_err(|error| renamed(error, |key| key_names.path(key))))?;
        notes.extend(spec.notes());
    }
    let is_embedder = model.embedding.is_some();
    if let Some(other) =
        refusals.take(other_architecture(&whole, family.architecture, is_embedder))?
    {
        notes.extend(other);
    }
    let model_type = refusals.take(whole.text("model_type"))?;
    let (Some(spec), Some(model_type), Some((_, stored_head)), Some(longest), true) =
        (spec, model_type, head, longest, refusals.is_empty())
    else {
        return Ok(None);
    };
    Ok(Some(Reading {
        spec,
        architecture: family.architecture,
        prefix: family.prefix,
        model_type: model_type.unwrap_or(family.model_type).to_owned(),
        max_position_embeddings: longest,
        stored_head,
        bidirectional: form.bidirectional,
        notes,
        warnings,
    }))
}

/// Whether the head is the embedding, and the head that is stored all the same and not asked for.
fn head(
    config: &Config<'_>,
    model: &ModelInput,
    names: &TensorNames,
    (default, asked): (bool, Option<Head>),
    notes: &mut Vec<String>,
) -> Result<(bool, Option<StoredHead>)> {
    if model.embedding.is_some() {
        // Nobody asks for logits.
        return Ok((true, None));
    }
    let tied = config.boolean(TIED)?.unwrap_or(default);
    let stored = model.tensors.contains_key(&names.head);
    match asked {
        Some(Head::Tied) => {
            if !tied || stored {
                notes
                    .push(format!("the head is the embedding, not `{}`, as asked for", names.head));
            }
            Ok((true, None))
        }
        Some(Head::Stored) => {
            if tied {
                notes
                    .push(format!("the head is `{}`, not the embedding, as asked for", names.head));
            }
            Ok((false, None))
        }
        None => {
            let stored = (tied && stored).then(|| {
                StoredHead::new(names.head.clone(), format!("{}embed_tokens.weight", names.prefix))
            });
            Ok((tied, stored))
        }
    }
}

/// Checks that the whole configuration says of the head what that of the language model does, which is
/// the one that transformers reads.
fn check_outer_tie(whole: &Config<'_>, config: &Config<'_>, default: bool) -> Result<()> {
    // What is wrong within is refused where it is read.
    let Ok(inner) = config.boolean(TIED) else { return Ok(()) };
    let taken = inner.unwrap_or(default);
    match whole.boolean(TIED)? {
        Some(outer) if outer != taken => {
            let key = config.path(TIED);
            Err(key_unsupported(
                TIED,
                format!("= {outer} contradicts `{key}`, which is {taken} and decides"),
            )
            .with_hint(format!("take it out, or give `{key}` what is meant")))
        }
        _ => Ok(()),
    }
}

/// Where the whole configuration decides whether the head is tied: a note if that of the language model
/// says otherwise.
fn inner_tie_note(whole: &Config<'_>, config: &Config<'_>, default: bool) -> Option<String> {
    // What is wrong is refused where it is read.
    let outer = whole.boolean(TIED).ok()?.unwrap_or(default);
    let inner = config.boolean(TIED).ok()?.filter(|inner| *inner != outer)?;
    let key = config.path(TIED);
    Some(format!(
        "config.json: `{key}` = {inner} is not read; `{TIED}` of the whole model decides, which is {outer}, as in \
         transformers"
    ))
}

fn default_note(config: &Config<'_>, key: &str, value: impl std::fmt::Display) -> String {
    let key = config.path(key);
    format!("config.json: `{key}` is not given; {value} is taken, as transformers does")
}

/// A size, or what transformers takes for it, with a note.
fn size_or(
    config: &Config<'_>,
    key: &str,
    default: Option<u64>,
    notes: &mut Vec<String>,
) -> Result<u64> {
    match (config.size(key)?, default) {
        (None, Some(default)) => {
            notes.push(default_note(config, key, default));
            Ok(default)
        }
        _ => config.required_size(key),
    }
}

fn layers(config: &Config<'_>) -> Result<u32> {
    let layers = config.required_size("num_hidden_layers")?;
    u32::try_from(layers)
        .ok()
        .filter(|layers| *layers <= LARGEST_LAYERS)
        .ok_or_else(|| renamed(too_many_layers(layers), |key| config.path(key)))
}

fn activation(config: &Config<'_>, defaults: &Defaults) -> Result<Activation> {
    let key = defaults.activation_key;
    match config.text(key)? {
        None => Ok(defaults.activation),
        Some(name) => Activation::named(name).ok_or_else(|| {
            key_unsupported(&config.path(key), format!("= \"{name}\" cannot be expressed"))
                .with_hint("known are silu, gelu, gelu_pytorch_tanh and relu2")
        }),
    }
}

/// Elements of a head where no key says it.
///
/// # Errors
/// Heads that cannot be rotated, by the key that cuts them so.
fn head_width(config: &Config<'_>, hidden_size: u64, heads: u64) -> Result<u64> {
    let width = hidden_size / heads;
    if width > 0 && width.is_multiple_of(2) {
        return Ok(width);
    }
    let whole = config.path("hidden_size");
    Err(key_invalid(
        &config.path("num_attention_heads"),
        format!(
            "is {heads}, which makes heads of {width} elements of `{whole}` = {hidden_size}: not a positive even \
             number"
        ),
    ))
}

/// The rotation that the configuration says, and that of local layers where there is one.
fn rotations(
    config: &Config<'_>,
    rope: &Rope,
    local: Option<LocalRotation>,
    width: u64,
) -> Result<Vec<Frequencies>> {
    // As transformers rounds it.
    let rotated = (width as f64 * rope.share) as u64;
    if rope.share != 1.0 && (rotated == 0 || !rotated.is_multiple_of(2)) {
        return Err(key_invalid(
            &config.path("partial_rotary_factor"),
            format!("= {} rotates {rotated} of {width} elements of a head", rope.share),
        ));
    }
    let named = |error| {
        renamed(error, |key| match key.strip_prefix("rope_scaling") {
            Some(rest) => format!("{}{rest}", rope.section),
            None if key == "rope_theta" => rope.base_key.clone(),
            None if key == "head_dim" => config.path(key),
            None => key.to_owned(),
        })
    };
    let mut rotations = vec![frequencies(rope.base, rotated, &rope.scaling).map_err(named)?];
    if let Some(local) = local {
        let base = match local {
            LocalRotation::Base(base) => base,
            LocalRotation::Unscaled => rope.base,
        };
        let local = frequencies(base, rotated, &RopeScaling::None)?;
        if local != rotations[0] {
            rotations.push(local);
        }
    }
    Ok(rotations)
}

/// Sizes that layers have.
#[derive(Clone, Copy)]
struct BlockSizes {
    head_dimension: u64,
    intermediate_size: u64,
    /// How many rotations there are: the last is the local one, which may be the only one.
    rotations: usize,
}

/// A layer as the family has it.
fn block(form: &Form, layer: u32, sizes: BlockSizes, activation: Activation) -> BlockSpec {
    let own = form.layers.of(layer);
    let plain_scale = 1.0 / (sizes.head_dimension as f64).sqrt();
    let mixer = match own.mixer {
        LayerMixer::ShortConvolution(convolution) => Mixer::ShortConvolution(convolution),
        LayerMixer::DeltaNet(delta_net) => Mixer::DeltaNet(delta_net),
        LayerMixer::Attention => Mixer::Attention(Attention {
            query_key_value_bias: form.query_key_value_bias,
            output_bias: form.output_bias,
            query_key_norm: form.query_key_norm,
            score_scale: form.score_scale.unwrap_or(plain_scale),
            score_cap: form.score_cap,
            rotation: match own.rotation {
                LayerRotation::Global => Some(0),
                LayerRotation::Local => Some(sizes.rotations - 1),
                LayerRotation::None => None,
            },
            window: own.window,
            output_gate: form.output_gate,
            sinks: form.sinks,
        }),
    };
    BlockSpec {
        placement: form.placement,
        mixer,
        mlp: Mlp {
            intermediate_size: sizes.intermediate_size,
            gated: form.gated,
            activation,
            bias: form.mlp_bias,
        },
        residual_scale: form.residual_scale,
    }
}

/// Ends of the names of models whose head gives no logits of tokens.
const OTHER_HEADS: [&str; 3] =
    ["ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering"];

/// A remark where `architectures` names something else.
///
/// # Errors
/// A model with another head than a language model's, where a head is needed.
fn other_architecture(
    config: &Config<'_>,
    name: &str,
    is_embedder: bool,
) -> Result<Option<String>> {
    const KEY: &str = "architectures";
    let given = config.texts(KEY)?;
    let has_other_head = |given: &&&str| OTHER_HEADS.iter().any(|end| given.ends_with(end));
    if !given.contains(&name)
        && !is_embedder
        && let Some(other) = given.iter().find(has_other_head)
    {
        let reason = format!("has \"{other}\", whose head gives no logits of tokens");
        return Err(key_unsupported(&config.path(KEY), reason));
    }
    let other = !given.is_empty() && !given.contains(&name);
    Ok(other.then(|| format!("config.json: `architectures` = {given:?} is read as {name}")))
}
