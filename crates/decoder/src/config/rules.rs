//! Rules for configuration keys: which are used, which are ignored and why, which are refused.

use anemll_plugin_api::{Result, Value};

use super::{Config, brief};
use crate::error::key_unsupported;
use crate::refusals::Refusals;

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rule {
    /// The frontend reads it.
    Used,
    /// It says nothing about the numbers that the model computes, for this reason.
    Ignored(&'static str),
    /// Refused for this reason, but for these values (and `null`), which change nothing.
    Refused(&'static [Allowed], &'static str),
}

/// A value that a refused key may have.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowed {
    /// `false`.
    False,
    /// `true`.
    True,
    /// The number 0.
    Zero,
    /// The number 1.
    One,
    /// An empty list, object or text.
    Empty,
    /// This text.
    Text(&'static str),
    /// A list that holds this text and nothing else.
    Only(&'static str),
}

impl Allowed {
    fn suits(self, value: &Value) -> bool {
        match self {
            Self::False => value == &Value::Bool(false),
            Self::True => value == &Value::Bool(true),
            Self::Zero => value.as_f64() == Some(0.0),
            Self::One => value.as_f64() == Some(1.0),
            Self::Empty => {
                value.as_array().is_some_and(Vec::is_empty)
                    || value.as_object().is_some_and(serde_json::Map::is_empty)
                    || value.as_str() == Some("")
            }
            Self::Text(text) => value.as_str() == Some(text),
            Self::Only(text) => value
                .as_array()
                .is_some_and(|list| list.iter().all(|item| item.as_str() == Some(text))),
        }
    }
}

/// A key and its rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Key {
    /// Name in `config.json`.
    pub name: &'static str,
    /// What becomes of it.
    pub rule: Rule,
}

impl Key {
    /// A key that the frontend reads.
    pub const fn used(name: &'static str) -> Self {
        Self { name, rule: Rule::Used }
    }

    /// A key that says nothing about the numbers, and why.
    pub const fn ignored(name: &'static str, reason: &'static str) -> Self {
        Self { name, rule: Rule::Ignored(reason) }
    }

    /// A key that is refused but for some values, and why.
    pub const fn refused(
        name: &'static str,
        allowed: &'static [Allowed],
        reason: &'static str,
    ) -> Self {
        Self { name, rule: Rule::Refused(allowed, reason) }
    }
}

/// Checks every key against the first table that names it, collects those that are refused, and
/// returns a remark for each key that no table names.
///
/// # Errors
/// None: every refusal is about a key.
pub fn check_keys(
    config: &Config<'_>,
    tables: &[&[Key]],
    refusals: &mut Refusals,
) -> Result<Vec<String>> {
    let mut notes = Vec::new();
    for (name, value) in config.entries() {
        match tables.iter().flat_map(|table| table.iter()).find(|key| key.name == name) {
            Some(Key { rule: Rule::Used | Rule::Ignored(_), .. }) => {}
            Some(Key { rule: Rule::Refused(allowed, reason), .. }) => {
                if !allowed.iter().any(|allowed| allowed.suits(value)) {
                    let reason = format!("= {}: {reason}", brief(value));
                    refusals.push(key_unsupported(&config.path(name), reason))?;
                }
            }
            None if is_of_experts(name) => {
                if !OFF.iter().any(|off| off.suits(value)) {
                    let reason = format!("= {}: {EXPERTS}", brief(value));
                    refusals.push(key_unsupported(&config.path(name), reason))?;
                }
            }
            None => notes.push(format!(
                "config.json: `{}` = {} is not known and was ignored",
                config.path(name),
                brief(value)
            )),
        }
    }
    Ok(notes)
}

/// Whether a key that no table names speaks of experts, of which there are many names: such a model has some.
fn is_of_experts(name: &str) -> bool {
    name.starts_with("moe_") || name.contains("_moe_") || name.contains("expert")
}

const GENERATION: &str = "sampling setting; conversion is about logits";
const BOOKKEEPING: &str = "says how the files were made or are to be loaded";
const TRAINING: &str = "acts in training only";
const OUTPUTS: &str = "says what the PyTorch module returns";
const CLASSIFIER: &str = "belongs to classifier heads";
const TOKENIZER: &str = "belongs to the tokenizer";

/// Keys that transformers writes into the configuration of any model.
pub const GENERIC_KEYS: &[Key] = &[
    Key::ignored("_attn_implementation", BOOKKEEPING),
    Key::ignored("_attn_implementation_autoset", BOOKKEEPING),
    Key::ignored("_attn_implementation_internal", BOOKKEEPING),
    Key::ignored("_commit_hash", BOOKKEEPING),
    Key::ignored("_flash_attn_2_enabled", BOOKKEEPING),
    Key::ignored("_name_or_path", BOOKKEEPING),
    Key::ignored("attn_implementation", BOOKKEEPING),
    Key::ignored("auto_map", "names Python code, which is never run"),
    Key::ignored("dtype", "weights say their own dtype"),
    Key::ignored("file_name", BOOKKEEPING),
    Key::ignored("name_or_path", BOOKKEEPING),
    Key::ignored("torch_dtype", "weights say their own dtype"),
    Key::ignored("torchscript", BOOKKEEPING),
    Key::ignored("transformers.js_config", BOOKKEEPING),
    Key::ignored("transformers_version", BOOKKEEPING),
    Key::ignored("unsloth_fixed", BOOKKEEPING),
    Key::ignored("unsloth_version", BOOKKEEPING),
    Key::ignored("use_bfloat16", BOOKKEEPING),
    Key::ignored("use_cache", "the converted model always keeps its keys and values"),
    Key::ignored("attention_dropout", TRAINING),
    Key::ignored("chunk_size_feed_forward", "gives the same numbers in smaller steps"),
    Key::ignored("embd_pdrop", TRAINING),
    Key::ignored("gradient_checkpointing", TRAINING),
    Key::ignored("hidden_dropout", TRAINING),
    Key::ignored("initializer_range", TRAINING),
    Key::ignored("resid_pdrop", TRAINING),
    Key::ignored("output_attentions", OUTPUTS),
    Key::ignored("output_hidden_states", OUTPUTS),
    Key::ignored("output_scores", OUTPUTS),
    Key::ignored("return_dict", OUTPUTS),
    Key::ignored("return_dict_in_generate", OUTPUTS),
    Key::ignored("use_return_dict", OUTPUTS),
    Key::ignored("classifier_dropout", CLASSIFIER),
    Key::ignored("finetuning_task", CLASSIFIER),
    Key::ignored("id2label", CLASSIFIER),
    Key::ignored("label2id", CLASSIFIER),
    Key::ignored("num_labels", CLASSIFIER),
    Key::ignored("problem_type", CLASSIFIER),
    Key::ignored("task_specific_params", CLASSIFIER),
    Key::ignored("tf_legacy_loss", CLASSIFIER),
    Key::ignored("bos_token_id", TOKENIZER),
    Key::ignored("decoder_start_token_id", TOKENIZER),
    Key::ignored("eos_token_id", TOKENIZER),
    Key::ignored("pad_token_id", TOKENIZER),
    Key::ignored("prefix", TOKENIZER),
    Key::ignored("sep_token_id", TOKENIZER),
    Key::ignored("tokenizer_class", TOKENIZER),
    Key::ignored("bad_words_ids", GENERATION),
    Key::ignored("begin_suppress_tokens", GENERATION),
    Key::ignored("diversity_penalty", GENERATION),
    Key::ignored("do_sample", GENERATION),
    Key::ignored("early_stopping", GENERATION),
    Key::ignored("encoder_no_repeat_ngram_size", GENERATION),
    Key::ignored("exponential_decay_length_penalty", GENERATION),
    Key::ignored("forced_bos_token_id", GENERATION),
    Key::ignored("forced_eos_token_id", GENERATION),
    Key::ignored("length_penalty", GENERATION),
    Key::ignored("max_length", GENERATION),
    Key::ignored("min_length", GENERATION),
    Key::ignored("no_repeat_ngram_size", GENERATION),
    Key::ignored("num_beam_groups", GENERATION),
    Key::ignored("num_beams", GENERATION),
    Key::ignored("num_return_sequences", GENERATION),
    Key::ignored("remove_invalid_values", GENERATION),
    Key::ignored("repetition_penalty", GENERATION),
    Key::ignored("suppress_tokens", GENERATION),
    Key::ignored("temperature", GENERATION),
    Key::ignored("top_k", GENERATION),
    Key::ignored("top_p", GENERATION),
    Key::ignored("typical_p", GENERATION),
    Key::refused("add_cross_attention", &[Allowed::False], "cross-attention cannot be expressed"),
    Key::ignored("cross_attention_hidden_size", "without add_cross_attention it has no effect"),
    Key::refused("is_encoder_decoder", &[Allowed::False], "only decoders can be expressed"),
    Key::ignored("is_decoder", "the model is one"),
    Key::refused("pruned_heads", &[Allowed::Empty], "pruned heads cannot be expressed"),
    Key::refused("tie_encoder_decoder", &[Allowed::False], "only decoders can be expressed"),
];

const SCALES: &str = "scales values by a factor that this graph does not have";
const CAPS: &str = "caps values in a way that this graph does not have";
const EXPERTS: &str = "mixtures of experts cannot be expressed";
const WINDOW: &str = "attention is over the whole context here";
const NORMS: &str = "asks for a norm that this graph does not have";
const BIASES: &str = "asks for a bias that this graph does not have";
const POSITIONS: &str = "asks for positions other than whole rotary ones";
const SHAPES: &str = "asks for layers that differ from one another";
const PARALLEL: &str = "asks for another order of the layer's parts";
const MODALITY: &str = "the model takes more than text";

const OFF: &[Allowed] = &[Allowed::False, Allowed::Zero, Allowed::Empty];
const UNIT: &[Allowed] = &[Allowed::One];

/// Keys by which other architectures change what is computed. Where such a key stands in a
/// configuration, the model is not what its `model_type` says, so it is refused.
pub const OTHER_ARCHITECTURES: &[Key] = &[
    Key::refused("embedding_multiplier", UNIT, SCALES),
    Key::refused("residual_multiplier", UNIT, SCALES),
    Key::refused("attention_multiplier", &[], SCALES),
    Key::refused("logits_scaling", UNIT, SCALES),
    Key::refused("logit_scale", UNIT, SCALES),
    Key::refused("scale_emb", UNIT, SCALES),
    Key::refused("scale_depth", &[], SCALES),
    Key::refused("dim_model_base", &[], SCALES),
    Key::refused("embedding_scale", UNIT, SCALES),
    Key::refused("query_pre_attn_scalar", &[], SCALES),
    Key::refused("mup_enabled", OFF, SCALES),
    Key::refused("attn_temperature_tuning", OFF, SCALES),
    Key::refused("attn_logit_softcapping", &[], CAPS),
    Key::refused("final_logit_softcapping", &[], CAPS),
    Key::refused("attn_logit_softcap", &[], CAPS),
    Key::refused("final_logit_softcap", &[], CAPS),
    Key::refused("clip_qkv", &[], CAPS),
    Key::refused("num_experts", OFF, EXPERTS),
    Key::refused("num_local_experts", OFF, EXPERTS),
    Key::refused("n_routed_experts", OFF, EXPERTS),
    Key::refused("num_experts_per_tok", OFF, EXPERTS),
    Key::refused("moe_intermediate_size", OFF, EXPERTS),
    Key::refused("moe_num_experts", OFF, EXPERTS),
    Key::refused("shared_expert_intermediate_size", OFF, EXPERTS),
    Key::refused("mlp_only_layers", &[Allowed::Empty], EXPERTS),
    Key::refused("sliding_window", &[], WINDOW),
    Key::refused("use_sliding_window", OFF, WINDOW),
    Key::refused("attention_chunk_size", &[], WINDOW),
    Key::refused("layer_types", &[Allowed::Only("full_attention")], WINDOW),
    Key::refused("use_qk_norm", OFF, NORMS),
    Key::refused("qk_norm", OFF, NORMS),
    Key::refused("qk_layernorm", OFF, NORMS),
    Key::refused("use_post_norm", OFF, NORMS),
    Key::refused("norm_head", OFF, NORMS),
    Key::refused("lm_head_bias", OFF, BIASES),
    Key::refused("qkv_bias", OFF, BIASES),
    Key::refused("add_bias_linear", OFF, BIASES),
    Key::refused("add_qkv_bias", OFF, BIASES),
    Key::refused("use_bias", OFF, BIASES),
    Key::refused("no_rope_layers", &[Allowed::Empty], POSITIONS),
    Key::refused("no_rope_layer_interval", OFF, POSITIONS),
    Key::refused("rope_interleaved", OFF, POSITIONS),
    Key::refused("rope_interleave", OFF, POSITIONS),
    Key::refused("rotary_pct", UNIT, POSITIONS),
    Key::refused("rotary_percent", UNIT, POSITIONS),
    Key::refused("rotary_dim", &[], POSITIONS),
    Key::refused("rotary_emb_base", &[], POSITIONS),
    Key::refused("rope_local_base_freq", &[], POSITIONS),
    Key::refused("mrope_section", &[], POSITIONS),
    Key::refused("use_mrope", OFF, POSITIONS),
    Key::refused("alibi", OFF, POSITIONS),
    Key::refused("use_alibi", OFF, POSITIONS),
    Key::refused("block_configs", &[], SHAPES),
    Key::refused("num_key_value_heads_per_layer", &[], SHAPES),
    Key::refused("intermediate_size_per_layer", &[], SHAPES),
    Key::refused("cross_attention_layers", &[Allowed::Empty], SHAPES),
    Key::refused("kv_lora_rank", OFF, SHAPES),
    Key::refused("use_parallel_residual", OFF, PARALLEL),
    Key::refused("parallel_attn", OFF, PARALLEL),
    Key::refused(
        "hidden_activation",
        &[Allowed::Text("silu")],
        "`hidden_act` names the activation here",
    ),
    Key::refused("text_config", &[], MODALITY),
    Key::refused("vision_config", &[], MODALITY),
    Key::refused("audio_config", &[], MODALITY),
];

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::codes;
    use serde_json::json;

    #[test]
    fn no_key_stands_twice() {
        let mut names: Vec<_> =
            GENERIC_KEYS.iter().chain(OTHER_ARCHITECTURES).map(|key| key.name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_refused_key_is_refused_and_every_allowed_value_is_not() {
        for key in GENERIC_KEYS.iter().chain(OTHER_ARCHITECTURES) {
            let Rule::Refused(allowed, _) = key.rule else { continue };
            let check = |value: Value| {
                let value = json!({ key.name: value });
                let config = Config::new(&value).unwrap();
                let mut refusals = Refusals::new();
                check_keys(&config, &[GENERIC_KEYS, OTHER_ARCHITECTURES], &mut refusals).unwrap();
                refusals.to_error()
            };
            let error = check(json!({"some": "thing"})).unwrap();
            assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED, "{}", key.name);
            assert_eq!(error.at.unwrap(), format!("config.json: {}", key.name));
            assert_eq!(check(Value::Null), None);
            for allowed in allowed {
                let value = match allowed {
                    Allowed::False => json!(false),
                    Allowed::True => json!(true),
                    Allowed::Zero => json!(0),
                    Allowed::One => json!(1.0),
                    Allowed::Empty => json!([]),
                    Allowed::Text(text) => json!(text),
                    Allowed::Only(text) => json!([text, text]),
                };
                assert_eq!(check(value), None, "{}", key.name);
            }
        }
    }

    #[test]
    fn experts_are_refused_by_whatever_name() {
        for (key, value) in [
            ("moe_num_experts", json!(4)),
            ("moe_some_thing", json!([2, 2])),
            ("first_moe_layer", json!(1)),
            ("num_shared_experts", json!(1)),
        ] {
            let refused = |value: &Value| {
                let config = json!({ key: value });
                let mut refusals = Refusals::new();
                let tables = [GENERIC_KEYS, OTHER_ARCHITECTURES];
                let config = Config::new(&config).unwrap();
                assert!(check_keys(&config, &tables, &mut refusals).unwrap().is_empty());
                refusals.to_error().map(|error| error.at.unwrap())
            };
            assert_eq!(refused(&value).unwrap(), format!("config.json: {key}"));
            for off in [json!(0), json!(null), json!(false), json!([])] {
                assert_eq!(refused(&off), None, "{key} = {off}");
            }
        }
    }

    #[test]
    fn unknown_keys_are_remarked_on_and_others_are_listed() {
        let value = json!({"new_thing": [1], "sliding_window": 4, "num_experts": 8, "top_p": 1});
        let config = Config::new(&value).unwrap();
        let mut refusals = Refusals::new();
        check_keys(&config, &[GENERIC_KEYS, OTHER_ARCHITECTURES], &mut refusals).unwrap();
        let error = refusals.to_error().unwrap();
        assert!(error.message.starts_with("`sliding_window` = 4:"), "{}", error.message);
        assert_eq!(error.hint.unwrap(), "refused too: `num_experts`");
        let own = [Key::used("sliding_window"), Key::used("num_experts")];
        let mut refusals = Refusals::new();
        let tables = [&own, GENERIC_KEYS, OTHER_ARCHITECTURES];
        let notes = check_keys(&config, &tables, &mut refusals).unwrap();
        assert!(refusals.is_empty());
        assert_eq!(notes, ["config.json: `new_thing` = [1] is not known and was ignored"]);
    }
}
