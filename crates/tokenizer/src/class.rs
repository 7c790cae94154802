//! What the tokenizer classes of transformers 4 make of a tokenizer.json: their special tokens,
//! and for some a post-processor of their own.

use serde_json::Value;

/// How a class treats the space that a pre-tokenizer may put before a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PrefixSpace {
    /// As `add_prefix_space` says, and none where it says nothing.
    Setting,
    /// As tokenizer.json says. Where `add_prefix_space` is given, normalizer, pre-tokenizer and
    /// decoder are made anew, as from a sentencepiece model.
    Sentencepiece,
}

/// A tokenizer class.
#[derive(Debug)]
pub(crate) struct Class {
    /// Name without `Fast`.
    pub(crate) name: &'static str,
    /// Special tokens that count where no file names one.
    pub(crate) tokens: &'static [(&'static str, &'static str)],
    /// Additional special tokens.
    pub(crate) more: &'static [&'static str],
    /// Defaults of `add_bos_token` and `add_eos_token`, of a class that rebuilds the
    /// post-processor from them.
    pub(crate) around: Option<(bool, bool)>,
    /// Whether special tokens that are given as texts match the text before normalization.
    pub(crate) exact: bool,
    pub(crate) prefix_space: PrefixSpace,
}

const LLAMA: &[(&str, &str)] =
    &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")];
const END: &str = "<|endoftext|>";

/// tokenizer.json as it is, with the special tokens that the files name.
const BASE: Class = Class {
    name: "PreTrainedTokenizer",
    tokens: &[],
    more: &[],
    around: None,
    exact: false,
    prefix_space: PrefixSpace::Setting,
};

static PLAIN: Class = BASE;

static CLASSES: [Class; 7] = [
    Class {
        name: "LlamaTokenizer",
        tokens: LLAMA,
        around: Some((true, false)),
        prefix_space: PrefixSpace::Sentencepiece,
        ..BASE
    },
    Class {
        name: "CodeLlamaTokenizer",
        tokens: LLAMA,
        more: &["▁<PRE>", "▁<MID>", "▁<SUF>", "▁<EOT>"],
        around: Some((true, false)),
        ..BASE
    },
    Class {
        name: "GemmaTokenizer",
        tokens: &[
            ("bos_token", "<bos>"),
            ("eos_token", "<eos>"),
            ("unk_token", "<unk>"),
            ("pad_token", "<pad>"),
        ],
        around: Some((true, false)),
        ..BASE
    },
    Class {
        name: "CohereTokenizer",
        tokens: &[
            ("bos_token", "<BOS_TOKEN>"),
            ("eos_token", "<|END_OF_TURN_TOKEN|>"),
            ("unk_token", "<UNK>"),
        ],
        around: Some((true, false)),
        ..BASE
    },
    Class {
        name: "GPTNeoXTokenizer",
        tokens: &[("bos_token", END), ("eos_token", END), ("unk_token", END)],
        around: Some((false, false)),
        ..BASE
    },
    Class {
        name: "GPT2Tokenizer",
        tokens: &[("bos_token", END), ("eos_token", END), ("unk_token", END)],
        ..BASE
    },
    Class {
        name: "Qwen2Tokenizer",
        tokens: &[("eos_token", END), ("unk_token", END), ("pad_token", END)],
        exact: true,
        ..BASE
    },
];

/// The class that AutoTokenizer takes: `tokenizer_class` of tokenizer_config.json or config.json,
/// else that of the model's type. A class that is not known counts as one without defaults.
pub(crate) fn find(settings: &Value, config: &Value) -> &'static Class {
    let named =
        [settings, config].into_iter().find_map(|file| file.get("tokenizer_class")?.as_str());
    let name = named.or_else(|| match config.get("model_type")?.as_str()? {
        "llama" | "mistral" | "mixtral" | "phi3" | "arcee" => Some("LlamaTokenizer"),
        "code_llama" => Some("CodeLlamaTokenizer"),
        "qwen2" | "qwen2_moe" | "qwen3" | "qwen3_moe" => Some("Qwen2Tokenizer"),
        "gemma" | "gemma2" | "gemma3" | "gemma3_text" => Some("GemmaTokenizer"),
        "cohere" | "cohere2" => Some("CohereTokenizer"),
        "gpt_neox" | "olmo2" | "stablelm" => Some("GPTNeoXTokenizer"),
        "gpt2" | "olmo3" | "granite" => Some("GPT2Tokenizer"),
        _ => None,
    });
    let name = name.map(|name| name.strip_suffix("Fast").unwrap_or(name));
    CLASSES.iter().find(|class| Some(class.name) == name).unwrap_or(&PLAIN)
}

/// Whether Python takes a JSON value for true.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_class_comes_from_the_first_file_that_names_one() {
        let name = |settings: Value, config: Value| find(&settings, &config).name;
        let llama = json!({ "model_type": "llama" });
        assert_eq!(
            name(json!({ "tokenizer_class": "Qwen2TokenizerFast" }), llama.clone()),
            "Qwen2Tokenizer"
        );
        assert_eq!(name(Value::Null, llama.clone()), "LlamaTokenizer");
        assert_eq!(name(json!({ "tokenizer_class": null }), llama.clone()), "LlamaTokenizer");
        let named = json!({ "model_type": "llama", "tokenizer_class": "GPT2Tokenizer" });
        assert_eq!(name(json!({}), named), "GPT2Tokenizer");
        assert_eq!(name(json!({ "tokenizer_class": "TokenizersBackend" }), llama), PLAIN.name);
        assert_eq!(name(Value::Null, Value::Null), PLAIN.name);
        for (model_type, class) in [
            ("arcee", "LlamaTokenizer"),
            ("stablelm", "GPTNeoXTokenizer"),
            ("granite", "GPT2Tokenizer"),
        ] {
            assert_eq!(name(Value::Null, json!({ "model_type": model_type })), class);
        }
    }
}
