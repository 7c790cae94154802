//! What the keys of an architecture become that are its own.

use super::{BASE, DECAY, LOG_MULTIPLIER, Linear, QUERY_SCALE, ROTATES, SHARED_WIDTH};
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::value::{List, Value};
use serde_json::{Map, Value as Json, json};

pub(super) fn nothing(_: &Keys<'_>, _: &mut Map<String, Json>) -> Result<()> {
    Ok(())
}

pub(super) fn biases(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    config.insert("attention_bias".to_owned(), json!(keys.has("attn_q.bias")));
    config.insert("mlp_bias".to_owned(), json!(keys.has("ffn_down.bias")));
    Ok(())
}

/// Without a scaling it is Mistral, as models have it that see images.
pub(super) fn mistral3(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    biases(keys, config)?;
    config.insert("head_dim".to_owned(), json!(keys.head_dimension()?));
    config.insert("sliding_window".to_owned(), Json::Null);
    let given = |key: &str| Ok::<_, Error>(keys.number(key)?.filter(|number| *number != 0.0));
    let (stretch, beta) = (given(LOG_MULTIPLIER)?, given(QUERY_SCALE)?);
    let scaling = config.get_mut("rope_scaling").and_then(Json::as_object_mut);
    let Some(scaling) = scaling.filter(|it| it.get("rope_type").is_some_and(|kind| kind == "yarn"))
    else {
        let without_yarn = [(LOG_MULTIPLIER, stretch), (QUERY_SCALE, beta)];
        if let Some((key, _)) = without_yarn.iter().find(|(_, number)| number.is_some()) {
            return Err(Error::unsupported("only models with `yarn` have it in transformers")
                .with_key(keys.full(key)));
        }
        config.insert("model_type".to_owned(), json!("mistral"));
        config.insert("architectures".to_owned(), json!(["MistralForCausalLM"]));
        return Ok(());
    };
    if let Some(stretch) = stretch {
        if scaling.contains_key("attention_factor") {
            return Err(Error::unsupported("stands beside a factor of attention")
                .with_key(keys.full(LOG_MULTIPLIER)));
        }
        scaling.insert("mscale".to_owned(), json!(1.0));
        scaling.insert("mscale_all_dim".to_owned(), json!(stretch));
    }
    if let Some(beta) = beta {
        scaling.insert("llama_4_scaling_beta".to_owned(), json!(beta));
    }
    Ok(())
}

pub(super) fn granite(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    if keys.truth(ROTATES)? == Some(false) {
        return Err(Error::unsupported("the model knows no positions").with_key(keys.full(ROTATES)));
    }
    if let Some(width) = keys.size(SHARED_WIDTH)?.filter(|width| *width > 0) {
        config.insert("intermediate_size".to_owned(), json!(width));
    }
    biases(keys, config)
}

pub(super) fn cohere(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    config.insert("attention_bias".to_owned(), json!(keys.has("attn_q.bias")));
    config.insert("use_qk_norm".to_owned(), json!(keys.has("attn_q_norm.weight")));
    Ok(())
}

/// Every fourth layer sees all and knows no positions, unless a key says which do.
pub(super) fn cohere2(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    cohere(keys, config)?;
    pattern(keys, config)
}

pub(super) fn qwen3(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    config.insert("head_dim".to_owned(), json!(keys.head_dimension()?));
    config.insert("attention_bias".to_owned(), json!(keys.has("attn_q.bias")));
    Ok(())
}

/// Layers with rates of decay have linear attention, the others full attention.
pub(super) fn qwen35(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    let linear = Linear::read(keys)?;
    let layers = config.get("num_hidden_layers").and_then(Json::as_u64).unwrap_or(0);
    let has = |tensor: &str| keys.container.tensor(tensor).is_some();
    // No more than there are tensors, however many are said to be.
    let layers = layers.min(keys.container.tensors().len() as u64);
    let kind = |layer: u64| match has(&format!("blk.{layer}{DECAY}")) {
        true => "linear_attention",
        false => "full_attention",
    };
    let kinds: Vec<&str> = (0..layers).map(kind).collect();
    let bias = keys.container.tensors().iter().any(|it| it.name.ends_with(".attn_q.bias"));
    let mut put = |key: &str, value: Json| config.insert(key.to_owned(), value);
    put("layer_types", json!(kinds));
    put("linear_value_head_dim", json!(linear.value_width));
    put("head_dim", json!(keys.head_dimension()?));
    put("attention_bias", json!(bias));
    // transformers' default is a quarter.
    config.entry("partial_rotary_factor").or_insert(json!(1.0));
    Ok(())
}

/// `query_pre_attn_scalar`, which stands in no key: the largest models have another one.
fn score_scalar(
    keys: &Keys<'_>,
    config: &mut Map<String, Json>,
    layers_of_the_largest: u64,
) -> Result<()> {
    let scalar = match keys.needed("block_count")? == layers_of_the_largest {
        true => keys.needed("embedding_length")? / keys.needed("attention.head_count")?,
        false => keys.head_dimension()?,
    };
    config.insert("query_pre_attn_scalar".to_owned(), json!(scalar));
    config.insert("attention_bias".to_owned(), json!(keys.has("attn_q.bias")));
    Ok(())
}

pub(super) fn gemma2(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    for key in ["attn_logit_softcapping", "final_logit_softcapping"] {
        config.insert(key.to_owned(), json!(keys.number(key)?));
    }
    score_scalar(keys, config, 46)
}

pub(super) fn gemma3(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    let local = keys.number("rope.freq_base_swa")?.unwrap_or(BASE);
    config.insert("rope_local_base_freq".to_owned(), json!(local));
    pattern(keys, config)?;
    score_scalar(keys, config, 62)
}

/// Which layers have a window, where the file says it.
fn pattern(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    let key = keys.full("attention.sliding_window_pattern");
    let wrong = |key: &str| Error::invalid("not a pattern of layers").with_key(key);
    match keys.container.get(&key) {
        None => {}
        Some(Value::List(list @ List::Plain(_))) => {
            // Truth values, or numbers in their place.
            let slides = |value: Value| {
                value.boolean().or_else(|| value.number().map(|number| number != 0.0))
            };
            let kinds: Option<Vec<&str>> = list
                .values()
                .map(|value| {
                    Some(if slides(value)? { "sliding_attention" } else { "full_attention" })
                })
                .collect();
            let kinds = kinds.ok_or_else(|| wrong(&key))?;
            config.insert("layer_types".to_owned(), json!(kinds));
        }
        Some(value) => {
            let every = value.size().ok_or_else(|| wrong(&key))?;
            config.insert("sliding_window_pattern".to_owned(), json!(every));
        }
    }
    Ok(())
}

pub(super) fn phi3(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    let window = keys.size("attention.sliding_window")?.filter(|window| *window > 0);
    config.insert("sliding_window".to_owned(), json!(window));
    Ok(())
}

/// Every fourth layer does not rotate, which stands in no key.
pub(super) fn smollm3(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    config.insert("no_rope_layer_interval".to_owned(), json!(4));
    biases(keys, config)
}

/// OLMo 3 is OLMo 2 with windows.
pub(super) fn olmo(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    config.insert("attention_bias".to_owned(), json!(keys.has("attn_q.bias")));
    let Some(window) = keys.size("attention.sliding_window")?.filter(|window| *window > 0) else {
        return Ok(());
    };
    config.insert("model_type".to_owned(), json!("olmo3"));
    config.insert("architectures".to_owned(), json!(["Olmo3ForCausalLM"]));
    config.insert("sliding_window".to_owned(), json!(window));
    pattern(keys, config)
}

/// Without a window, all layers see all and know their positions.
pub(super) fn exaone4(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    let window = keys.size("attention.sliding_window")?.filter(|window| *window > 0);
    config.insert("sliding_window".to_owned(), json!(window));
    match window {
        Some(_) => pattern(keys, config),
        None => {
            let layers = keys.needed("block_count")?.min(keys.container.tensors().len() as u64);
            let kinds: Vec<&str> = (0..layers).map(|_| "full_attention").collect();
            config.insert("layer_types".to_owned(), json!(kinds));
            Ok(())
        }
    }
}

/// One key says whether there are biases.
pub(super) fn ernie(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    config.insert("use_bias".to_owned(), json!(keys.has("attn_q.bias")));
    config.insert("head_dim".to_owned(), json!(keys.head_dimension()?));
    Ok(())
}

/// Layers with heads of keys have attention, the others a short convolution.
pub(super) fn lfm2(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    const HEADS: &str = "attention.head_count_kv";
    let key = keys.full(HEADS);
    if let Some(Value::List(list @ List::Plain(_))) = keys.container.get(&key) {
        let kind = |value: Value| match value.size() {
            Some(0) => Ok("conv"),
            Some(_) => Ok("full_attention"),
            None => Err(Error::invalid("not numbers of heads").with_key(&key)),
        };
        let kinds: Vec<&str> = list.values().map(kind).collect::<Result<_>>()?;
        config.insert("layer_types".to_owned(), json!(kinds));
    }
    let bias = keys.container.tensors().iter().any(|it| it.name.ends_with("shortconv.conv.bias"));
    config.insert("conv_bias".to_owned(), json!(bias));
    // The file has the width that transformers comes to.
    config.insert("block_auto_adjust_ff_dim".to_owned(), json!(false));
    Ok(())
}

pub(super) fn stablelm(keys: &Keys<'_>, config: &mut Map<String, Json>) -> Result<()> {
    config.insert("use_qkv_bias".to_owned(), json!(keys.has("attn_q.bias")));
    config.insert("qk_layernorm".to_owned(), json!(keys.has("attn_q_norm.weight")));
    // transformers' default is a quarter.
    config.entry("partial_rotary_factor").or_insert(json!(1.0));
    Ok(())
}
