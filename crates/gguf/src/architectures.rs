//! The architectures: what GGUF's keys and tensors are in transformers.

mod own;

use crate::container::{Container, Tensor};
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::order::{Change, Order, Tiles};
use crate::rope;
use crate::source::Source;
use crate::value::Value;
use serde_json::{Map, Value as Json, json};

const EMBEDDING: &str = "token_embd.weight";
const HEAD: &str = "output.weight";
/// The base of rotations where no key says one.
const BASE: f64 = 10_000.0;

/// An architecture of GGUF that transformers has, too.
#[derive(Debug)]
pub(crate) struct Architecture {
    /// GGUF's name.
    pub(crate) name: &'static str,
    /// transformers' `model_type`, and its class.
    model_type: &'static str,
    class: &'static str,
    /// Whether the rows of queries and keys are paired.
    paired: bool,
    /// Whether norms are stored with 1 added.
    shifted: bool,
    /// Key of the norms' epsilon in config.json.
    epsilon: &'static str,
    /// Key and value of the activation.
    activation: (&'static str, &'static str),
    /// Names of a layer's tensors.
    layer: &'static [(&'static str, &'static str)],
    /// Keys whose values go over as they are.
    keys: &'static [(&'static str, &'static str)],
    /// What else there is.
    more: fn(&Keys<'_>, &mut Map<String, Json>) -> Result<()>,
}

/// Names of most architectures' layers.
const USUAL: &[(&str, &str)] = &[
    ("attn_norm", "input_layernorm"),
    ("attn_q", "self_attn.q_proj"),
    ("attn_k", "self_attn.k_proj"),
    ("attn_v", "self_attn.v_proj"),
    ("attn_output", "self_attn.o_proj"),
    ("attn_q_norm", "self_attn.q_norm"),
    ("attn_k_norm", "self_attn.k_norm"),
    ("ffn_norm", "post_attention_layernorm"),
    ("ffn_gate", "mlp.gate_proj"),
    ("ffn_up", "mlp.up_proj"),
    ("ffn_down", "mlp.down_proj"),
];

/// Names where they differ, before the usual ones.
const GEMMA: &[(&str, &str)] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("ffn_norm", "pre_feedforward_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];
const OLMO: &[(&str, &str)] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("post_ffw_norm", "post_feedforward_layernorm"),
];
const LFM: &[(&str, &str)] = &[
    ("attn_norm", "operator_norm"),
    ("ffn_norm", "ffn_norm"),
    ("attn_output", "self_attn.out_proj"),
    ("attn_q_norm", "self_attn.q_layernorm"),
    ("attn_k_norm", "self_attn.k_layernorm"),
    ("shortconv.conv", "conv.conv"),
    ("shortconv.in_proj", "conv.in_proj"),
    ("shortconv.out_proj", "conv.out_proj"),
    ("ffn_gate", "feed_forward.w1"),
    ("ffn_up", "feed_forward.w3"),
    ("ffn_down", "feed_forward.w2"),
];
const QWEN35_LAYER: &[(&str, &str)] = &[
    ("post_attention_norm", "post_attention_layernorm"),
    ("attn_qkv", "linear_attn.in_proj_qkv"),
    ("attn_gate", "linear_attn.in_proj_z"),
    ("ssm_alpha", "linear_attn.in_proj_a"),
    ("ssm_beta", "linear_attn.in_proj_b"),
    ("ssm_conv1d", "linear_attn.conv1d"),
    ("ssm_norm", "linear_attn.norm"),
    ("ssm_out", "linear_attn.out_proj"),
];
const PHI: &[(&str, &str)] = &[("attn_qkv", "self_attn.qkv_proj"), ("ffn_up", "mlp.gate_up_proj")];

const RMS: &str = "rms_norm_eps";
const SILU: (&str, &str) = ("hidden_act", "silu");
const GELU: (&str, &str) = ("hidden_activation", "gelu_pytorch_tanh");

const LLAMA: Architecture = Architecture {
    name: "llama",
    model_type: "llama",
    class: "LlamaForCausalLM",
    paired: true,
    shifted: false,
    epsilon: RMS,
    activation: SILU,
    layer: &[],
    keys: &[],
    more: own::biases,
};

static ARCHITECTURES: [Architecture; 18] = [
    LLAMA,
    Architecture {
        name: "mistral3",
        model_type: "ministral3",
        class: "Ministral3ForCausalLM",
        more: own::mistral3,
        ..LLAMA
    },
    Architecture {
        name: "arcee",
        model_type: "arcee",
        class: "ArceeForCausalLM",
        activation: ("hidden_act", "relu2"),
        ..LLAMA
    },
    Architecture {
        name: "qwen2",
        model_type: "qwen2",
        class: "Qwen2ForCausalLM",
        paired: false,
        more: own::nothing,
        ..LLAMA
    },
    Architecture {
        name: "qwen3",
        model_type: "qwen3",
        class: "Qwen3ForCausalLM",
        paired: false,
        more: own::qwen3,
        ..LLAMA
    },
    Architecture {
        name: QWEN35,
        model_type: "qwen3_5_text",
        class: "Qwen3_5ForCausalLM",
        paired: false,
        shifted: true,
        layer: QWEN35_LAYER,
        keys: &[
            ("ssm.conv_kernel", "linear_conv_kernel_dim"),
            ("ssm.state_size", "linear_key_head_dim"),
            ("ssm.group_count", "linear_num_key_heads"),
            ("ssm.time_step_rank", "linear_num_value_heads"),
        ],
        more: own::qwen35,
        ..LLAMA
    },
    Architecture {
        name: "gemma2",
        model_type: "gemma2",
        class: "Gemma2ForCausalLM",
        paired: false,
        shifted: true,
        activation: GELU,
        layer: GEMMA,
        keys: &[("attention.sliding_window", "sliding_window")],
        more: own::gemma2,
        ..LLAMA
    },
    Architecture {
        name: "gemma3",
        model_type: "gemma3_text",
        class: "Gemma3ForCausalLM",
        paired: false,
        shifted: true,
        activation: GELU,
        layer: GEMMA,
        keys: &[
            ("attention.sliding_window", "sliding_window"),
            ("final_logit_softcapping", "final_logit_softcapping"),
        ],
        more: own::gemma3,
        ..LLAMA
    },
    Architecture {
        name: "phi3",
        model_type: "phi3",
        class: "Phi3ForCausalLM",
        paired: false,
        layer: PHI,
        keys: &[("rope.scaling.original_context_length", "original_max_position_embeddings")],
        more: own::phi3,
        ..LLAMA
    },
    Architecture {
        name: "smollm3",
        model_type: "smollm3",
        class: "SmolLM3ForCausalLM",
        more: own::smollm3,
        ..LLAMA
    },
    Architecture {
        name: "granite",
        model_type: "granite",
        class: "GraniteForCausalLM",
        keys: &[
            ("attention.scale", "attention_multiplier"),
            ("embedding_scale", "embedding_multiplier"),
            ("residual_scale", "residual_multiplier"),
            ("logit_scale", "logits_scaling"),
        ],
        more: own::granite,
        ..LLAMA
    },
    // Neighbours turn together in transformers, too.
    Architecture {
        name: "cohere2",
        model_type: "cohere2",
        class: "Cohere2ForCausalLM",
        paired: false,
        epsilon: "layer_norm_eps",
        keys: &[("logit_scale", "logit_scale"), ("attention.sliding_window", "sliding_window")],
        more: own::cohere2,
        ..LLAMA
    },
    Architecture {
        name: "command-r",
        model_type: "cohere",
        class: "CohereForCausalLM",
        paired: false,
        epsilon: "layer_norm_eps",
        keys: &[("logit_scale", "logit_scale")],
        more: own::cohere,
        ..LLAMA
    },
    Architecture {
        name: "olmo2",
        model_type: "olmo2",
        class: "Olmo2ForCausalLM",
        paired: false,
        layer: OLMO,
        more: own::olmo,
        ..LLAMA
    },
    Architecture {
        name: "exaone4",
        model_type: "exaone4",
        class: "Exaone4ForCausalLM",
        paired: false,
        layer: OLMO,
        more: own::exaone4,
        ..LLAMA
    },
    // Its rows are in the order of the file in transformers, too.
    Architecture {
        name: "ernie4_5",
        model_type: "ernie4_5",
        class: "Ernie4_5ForCausalLM",
        paired: false,
        more: own::ernie,
        ..LLAMA
    },
    Architecture {
        name: LFM2,
        model_type: "lfm2",
        class: "Lfm2ForCausalLM",
        paired: false,
        epsilon: "norm_eps",
        layer: LFM,
        keys: &[("shortconv.l_cache", "conv_L_cache")],
        more: own::lfm2,
        ..LLAMA
    },
    Architecture {
        name: "stablelm",
        model_type: "stablelm",
        class: "StableLmForCausalLM",
        paired: false,
        epsilon: "layer_norm_eps",
        keys: &[("use_parallel_residual", "use_parallel_residual")],
        more: own::stablelm,
        ..LLAMA
    },
];

/// Of the architectures the one in which layers without attention have no heads of keys.
const LFM2: &str = "lfm2";
/// The one with linear attention.
const QWEN35: &str = "qwen35";
/// Its norm that is a gain as it stands.
const GATED_NORM: &str = ".ssm_norm.weight";
/// Its rates of decay.
const DECAY: &str = ".ssm_a";
/// Layers behind the model's own that predict further tokens.
const FURTHER: &str = "nextn_predict_layers";

/// Ministral 3's factor by which `yarn` stretches less, and that of late queries.
const LOG_MULTIPLIER: &str = "rope.scaling.yarn_log_multiplier";
const QUERY_SCALE: &str = "attention.temperature_scale";
/// The width of the MLP in Granite models that might have experts, and have none.
const SHARED_WIDTH: &str = "expert_shared_feed_forward_length";
/// Whether Granite knows positions.
const ROTATES: &str = "rope.scaling.finetuned";

/// Keys that are read for every architecture, or say nothing about the arithmetic.
const COMMON: &[&str] = &[
    "context_length",
    "embedding_length",
    "block_count",
    "feed_forward_length",
    "vocab_size",
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.layer_norm_rms_epsilon",
    "attention.layer_norm_epsilon",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.finetuned",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "rope.scaling.yarn_attn_factor",
    "tensor_data_layout",
];

/// Keys of single architectures, beside [`Architecture::keys`].
const OWN: &[(&str, &[&str])] = &[
    (
        QWEN35,
        &[
            "ssm.inner_size",
            // Which layers attend fully is seen by their tensors.
            "full_attention_interval",
            // In a text the place in an image is the position.
            "rope.dimension_sections",
            FURTHER,
        ],
    ),
    ("mistral3", &[LOG_MULTIPLIER, QUERY_SCALE]),
    (
        "granite",
        &[
            SHARED_WIDTH,
            // Sizes of layers of Mamba, which a model of this architecture does not have.
            "ssm.conv_kernel",
            "ssm.state_size",
            "ssm.group_count",
            "ssm.inner_size",
            "ssm.time_step_rank",
        ],
    ),
    ("cohere2", &["attention.sliding_window_pattern"]),
    ("gemma2", &["attn_logit_softcapping", "final_logit_softcapping"]),
    ("gemma3", &["rope.freq_base_swa", "attention.sliding_window_pattern"]),
    ("phi3", &["attention.sliding_window"]),
    ("olmo2", &["attention.sliding_window", "attention.sliding_window_pattern"]),
    ("exaone4", &["attention.sliding_window", "attention.sliding_window_pattern"]),
];

impl Architecture {
    /// The architecture of a file.
    pub(crate) fn of(container: &Container) -> Result<&'static Self> {
        const KEY: &str = "general.architecture";
        let name = container.typed(KEY, "a text", Value::text)?;
        let name = name.ok_or_else(|| Error::invalid("the key is missing").with_key(KEY))?;
        ARCHITECTURES.iter().find(|known| known.name == name).ok_or_else(|| {
            let known: Vec<&str> = ARCHITECTURES.iter().map(|known| known.name).collect();
            Error::unsupported(format!("the architecture `{name}`")).with_key(KEY).with_hint(
                format!(
                    "GGUF files of these can be read: {}; of others, convert the original model",
                    known.join(", ")
                ),
            )
        })
    }

    fn keys<'a>(&'static self, container: &'a Container) -> Keys<'a> {
        Keys { container, prefix: self.name }
    }

    /// Heads of queries, and of keys and values.
    pub(crate) fn heads(&'static self, container: &Container) -> Result<[u64; 2]> {
        let keys = self.keys(container);
        let queries = keys.needed("attention.head_count")?;
        let key_heads = match self.name {
            LFM2 => keys.size_of_some("attention.head_count_kv")?,
            _ => keys.size("attention.head_count_kv")?,
        };
        Ok([queries, key_heads.unwrap_or(queries)])
    }

    /// The layers of the model, without those that predict further tokens, which come last.
    fn layers(&'static self, container: &Container) -> Result<u64> {
        let keys = self.keys(container);
        let all = keys.needed("block_count")?;
        let further = if self.name == QWEN35 { keys.size(FURTHER)?.unwrap_or(0) } else { 0 };
        all.checked_sub(further).filter(|layers| *layers > 0).ok_or_else(|| {
            Error::invalid(format!("= {further} leaves none of {all} layers"))
                .with_key(keys.full(FURTHER))
        })
    }

    /// What the places of elements and tensors follow from.
    ///
    /// # Errors
    /// Sizes that are missing, or do not suit one another.
    pub(crate) fn layout(&'static self, container: &Container) -> Result<Layout> {
        Ok(Layout {
            heads: self.heads(container)?,
            layers: self.layers(container)?,
            linear: match self.name {
                QWEN35 => Some(Linear::read(&self.keys(container))?),
                _ => None,
            },
        })
    }

    /// Whether a tensor is none of the model's weights: it holds numbers that belong to the configuration,
    /// or is of a layer that predicts further tokens.
    pub(crate) fn is_no_weight(&self, tensor: &str, layout: &Layout) -> bool {
        let layer = tensor.strip_prefix("blk.").and_then(|rest| rest.split_once('.'));
        let further = self.name == QWEN35
            && layer
                .and_then(|(number, _)| number.parse::<u64>().ok())
                .is_some_and(|number| number >= layout.layers);
        further || [rope::FACTORS, rope::LONG, rope::SHORT].contains(&tensor)
    }

    /// transformers' name of a tensor.
    pub(crate) fn name_of(&self, tensor: &str) -> Option<String> {
        match tensor {
            EMBEDDING => return Some("model.embed_tokens.weight".to_owned()),
            HEAD => return Some("lm_head.weight".to_owned()),
            "output_norm.weight" => return Some("model.norm.weight".to_owned()),
            "output_norm.bias" => return Some("model.norm.bias".to_owned()),
            "token_embd_norm.weight" if self.name == LFM2 => {
                return Some("model.embedding_norm.weight".to_owned());
            }
            _ => {}
        }
        let (layer, rest) = tensor.strip_prefix("blk.")?.split_once('.')?;
        let number: u32 = layer.parse().ok()?;
        if number.to_string() != layer {
            return None;
        }
        match rest {
            "ssm_a" if self.name == QWEN35 => {
                return Some(format!("model.layers.{number}.linear_attn.A_log"));
            }
            "ssm_dt.bias" if self.name == QWEN35 => {
                return Some(format!("model.layers.{number}.linear_attn.dt_bias"));
            }
            _ => {}
        }
        let (part, ending) = rest.rsplit_once('.')?;
        if !["weight", "bias"].contains(&ending) {
            return None;
        }
        let mut names = self.layer.iter().chain(USUAL);
        let (_, name) = names.find(|(known, _)| *known == part)?;
        Some(format!("model.layers.{number}.{name}.{ending}"))
    }

    /// The order of a tensor's elements in the file.
    ///
    /// # Errors
    /// Rows that cannot be divided into the heads.
    pub(crate) fn order(&self, tensor: &Tensor, layout: &Layout) -> Result<Order> {
        let is = |part: &str| {
            ["weight", "bias"].iter().any(|end| tensor.name.ends_with(&format!(".{part}.{end}")))
        };
        if let Some(linear) = &layout.linear {
            return Ok(linear.order(&tensor.name));
        }
        let heads = match self.paired {
            true if is("attn_q") => layout.heads[0],
            true if is("attn_k") => layout.heads[1],
            _ => return Ok(Order::Same),
        };
        let all = tensor.shape[0];
        let head = all.checked_div(heads).unwrap_or(0);
        if head == 0 || head * heads != all || head % 2 != 0 {
            return Err(Error::invalid(format!(
                "its {all} rows cannot be divided into {heads} heads"
            ))
            .with_key(&tensor.name));
        }
        Ok(Order::Paired(head))
    }

    /// The shape that transformers has a tensor in: that of the file, but for kernels of convolutions, which
    /// have an axis of one more.
    pub(crate) fn shape_of(&self, tensor: &str, stored: &[u64]) -> Vec<u64> {
        match stored {
            [channels, taps]
                if [".shortconv.conv.weight", ".ssm_conv1d.weight"]
                    .iter()
                    .any(|end| tensor.ends_with(end)) =>
            {
                vec![*channels, 1, *taps]
            }
            _ => stored.to_vec(),
        }
    }

    /// How the values of a tensor become those of transformers.
    pub(crate) fn change(&self, tensor: &str) -> Change {
        if self.shifted && tensor.ends_with("norm.weight") && !tensor.ends_with(GATED_NORM) {
            Change::LessOne
        } else if self.name == QWEN35 && tensor.ends_with(DECAY) {
            Change::LogOfMinus
        } else {
            Change::None
        }
    }

    /// Refuses keys that are not honoured, by name.
    fn refuse_others(&self, container: &Container) -> Result<()> {
        let own = OWN.iter().find(|(name, _)| *name == self.name).map_or(&[][..], |(_, own)| own);
        for (key, value) in container.metadata() {
            let prefix = key.strip_prefix(self.name).and_then(|rest| rest.strip_prefix('.'));
            let Some(rest) = prefix else { continue };
            let known = COMMON.contains(&rest)
                || own.contains(&rest)
                || self.keys.iter().any(|(known, _)| *known == rest);
            // Zero of something is nothing of it.
            if known || value.number() == Some(0.0) || value.boolean() == Some(false) {
                continue;
            }
            if rest == "attention.causal" && value.boolean() == Some(true) {
                continue;
            }
            return Err(Error::unsupported(format!(
                "the key is not known for the architecture `{}`, and may change the arithmetic",
                self.name
            ))
            .with_key(key));
        }
        Ok(())
    }
}

/// What the places of elements and tensors of a file follow from.
#[derive(Debug)]
pub(crate) struct Layout {
    /// Heads of queries, and of keys and values.
    heads: [u64; 2],
    /// Layers of the model.
    layers: u64,
    linear: Option<Linear>,
}

/// The heads of linear attention.
#[derive(Debug, Clone, Copy)]
struct Linear {
    key_heads: u64,
    key_width: u64,
    value_heads: u64,
    value_width: u64,
}

impl Linear {
    fn read(keys: &Keys<'_>) -> Result<Self> {
        let (key_heads, value_heads) =
            (keys.needed("ssm.group_count")?, keys.needed("ssm.time_step_rank")?);
        let all = keys.needed("ssm.inner_size")?;
        let uneven = |key: &str, size: u64, parts: u64| {
            Err(Error::invalid(format!("= {size} cannot be divided by {parts}"))
                .with_key(keys.full(key)))
        };
        if !value_heads.is_multiple_of(key_heads) {
            return uneven("ssm.time_step_rank", value_heads, key_heads);
        }
        if !all.is_multiple_of(value_heads) {
            return uneven("ssm.inner_size", all, value_heads);
        }
        let (key_width, value_width) = (keys.needed("ssm.state_size")?, all / value_heads);
        Ok(Self { key_heads, key_width, value_heads, value_width })
    }

    fn order(self, tensor: &str) -> Order {
        let tiles = |before, width| Tiles {
            before,
            key_heads: self.key_heads,
            sharing: self.value_heads / self.key_heads,
            width,
        };
        let keys = self.key_heads.saturating_mul(self.key_width).saturating_mul(2);
        match tensor.splitn(3, '.').nth(2) {
            Some("attn_qkv.weight" | "ssm_conv1d.weight") => {
                Order::TiledRows(tiles(keys, self.value_width))
            }
            Some("attn_gate.weight") => Order::TiledRows(tiles(0, self.value_width)),
            Some("ssm_alpha.weight" | "ssm_beta.weight" | "ssm_a" | "ssm_dt.bias") => {
                Order::TiledRows(tiles(0, 1))
            }
            Some("ssm_out.weight") => Order::TiledColumns(tiles(0, self.value_width)),
            _ => Order::Same,
        }
    }
}

/// config.json of the model in a file, as transformers would have it.
///
/// # Errors
/// An architecture or a key that cannot be honoured, by name; keys that are missing or of another
/// type; and those of reading.
pub fn config(container: &Container, source: &(impl Source + ?Sized)) -> Result<Json> {
    let architecture = Architecture::of(container)?;
    refuse_parts(container)?;
    architecture.refuse_others(container)?;
    let keys = architecture.keys(container);
    let embedding = container
        .tensor(EMBEDDING)
        .ok_or_else(|| Error::invalid("the tensor is missing").with_key(EMBEDDING))?;
    let width = keys.needed("embedding_length")?;
    let [heads, key_heads] = architecture.heads(container)?;
    let head = keys.head_dimension()?;
    if keys.size("attention.value_length")?.is_some_and(|length| length != head) {
        return Err(Error::unsupported("values are not as long as keys")
            .with_key(keys.full("attention.value_length")));
    }
    let base = keys.number("rope.freq_base")?.unwrap_or(BASE);
    let rotated = keys.size("rope.dimension_count")?.unwrap_or(head);
    let mut config = Map::new();
    let mut put = |key: &str, value: Json| {
        config.insert(key.to_owned(), value);
    };
    put("architectures", json!([architecture.class]));
    put("model_type", json!(architecture.model_type));
    put("hidden_size", json!(width));
    put("intermediate_size", json!(keys.needed("feed_forward_length")?));
    put("num_hidden_layers", json!(architecture.layers(container)?));
    put("num_attention_heads", json!(heads));
    put("num_key_value_heads", json!(key_heads));
    // Where it is the usual one, some architectures have no such key.
    if head * heads != width || architecture.model_type.starts_with("gemma") {
        put("head_dim", json!(head));
    }
    if let Some(context) = keys.size("context_length")? {
        put("max_position_embeddings", json!(context));
    }
    let epsilon = match keys.number("attention.layer_norm_rms_epsilon")? {
        None => keys.number("attention.layer_norm_epsilon")?,
        some => some,
    };
    let epsilon = epsilon.ok_or_else(|| keys.missing("attention.layer_norm_rms_epsilon"))?;
    put(architecture.epsilon, json!(epsilon));
    put("rope_theta", json!(base));
    if let Some(scaling) = rope::scaling(container, source, &keys, base, rotated)? {
        put("rope_scaling", scaling);
    }
    if rotated != head {
        put("partial_rotary_factor", json!(rotated as f64 / head as f64));
    }
    put(architecture.activation.0, json!(architecture.activation.1));
    put("vocab_size", json!(embedding.shape[0]));
    put("tie_word_embeddings", json!(container.tensor(HEAD).is_none()));
    for (key, name) in architecture.keys {
        if let Some(value) = container.typed(&keys.full(key), "a finite number", plain)? {
            put(name, value);
        }
    }
    for (key, name) in [
        ("tokenizer.ggml.bos_token_id", "bos_token_id"),
        ("tokenizer.ggml.eos_token_id", "eos_token_id"),
        ("tokenizer.ggml.padding_token_id", "pad_token_id"),
    ] {
        if let Some(id) = container.get(key).and_then(Value::size) {
            put(name, json!(id));
        }
    }
    (architecture.more)(&keys, &mut config)?;
    Ok(Json::Object(config))
}

/// A finite number or a truth value as JSON.
fn plain(value: &Value) -> Option<Json> {
    match value {
        Value::Integer(number) => i64::try_from(*number).ok().map(Json::from),
        Value::Float(number) if number.is_finite() => Some(json!(number)),
        Value::Bool(value) => Some(json!(value)),
        _ => None,
    }
}

/// A model in several files, of which this is one by itself; and adapters.
fn refuse_parts(container: &Container) -> Result<()> {
    let count = container.files()?;
    if count > 1 {
        return Err(Error::unsupported(format!("this is one of {count} files of the model"))
            .with_key("split.count"));
    }
    let kind = container.typed("general.type", "a text", Value::text)?;
    match kind {
        None | Some("model") => Ok(()),
        Some(other) => {
            Err(Error::unsupported(format!("the file is of type `{other}`, not a model"))
                .with_key("general.type")
                .with_hint("give the file of the whole model"))
        }
    }
}
