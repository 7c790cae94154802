//! Byte-level byte-pair encoding: the vocabulary, the merges, and how a text is cut before.

use super::{OTHERWISE, Tokens};
use crate::error::{Error, Result};
use crate::value::Value;
use serde_json::{Value as Json, json};

/// How a text is cut into words.
enum Cut {
    /// As GPT-2 does.
    Gpt2,
    /// Digits first, each on its own; then as GPT-2 does.
    Digits,
    /// By a regular expression.
    Pattern(&'static str),
}

/// A way of cutting, under the names that files have for it.
struct Way {
    names: &'static [&'static str],
    cut: Cut,
    /// Whether the text is normalized to NFC first.
    nfc: bool,
    /// Whether a word that is a token is taken as it is, whatever the merges make of it.
    ignore_merges: bool,
    /// Whether a text begins with a token of its own where the file does not say.
    begins: bool,
}

const GPT2: Way =
    Way { names: &[], cut: Cut::Gpt2, nfc: false, ignore_merges: false, begins: false };

/// The words of GPT-4's first vocabulary: up to three digits together.
const THREE_DIGITS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with each digit on its own.
const ONE_DIGIT: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with marks as parts of words.
const MARKS: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The words of GPT-4o's vocabulary.
const CASES: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The words of Mistral's Tekken.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

static WAYS: [Way; 8] = [
    Way { names: &["gpt-2", "phi-2", "mpt", "olmo", "jais", "granite-docling"], ..GPT2 },
    Way {
        names: &["smollm", "starcoder", "refact", "command-r", "exaone", "codeshell", "minerva-7b"],
        cut: Cut::Digits,
        ..GPT2
    },
    Way {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"],
        cut: Cut::Pattern(THREE_DIGITS),
        ignore_merges: true,
        begins: true,
        ..GPT2
    },
    Way { names: &["dbrx", "smaug-bpe"], cut: Cut::Pattern(THREE_DIGITS), ..GPT2 },
    Way {
        names: &["qwen2", "deepseek-r1-qwen", "megrez"],
        cut: Cut::Pattern(ONE_DIGIT),
        nfc: true,
        ..GPT2
    },
    Way { names: &["qwen35"], cut: Cut::Pattern(MARKS), nfc: true, ..GPT2 },
    Way { names: &["gpt-4o", "llama4", "kanana2"], cut: Cut::Pattern(CASES), ..GPT2 },
    Way {
        names: &["tekken"],
        cut: Cut::Pattern(TEKKEN),
        ignore_merges: true,
        begins: true,
        ..GPT2
    },
];

/// tokenizer.json.
pub(super) fn tokenizer(tokens: &Tokens<'_>) -> Result<Json> {
    const PRE: &str = "tokenizer.ggml.pre";
    const MERGES: &str = "tokenizer.ggml.merges";
    let name = tokens.container.typed(PRE, "a text", Value::text)?.unwrap_or("default");
    let way = WAYS.iter().find(|way| way.names.contains(&name)).ok_or_else(|| {
        Error::unsupported(format!("how the tokenizer cuts texts (`{name}`) is not known"))
            .with_key(PRE)
            .with_hint(OTHERWISE)
    })?;
    let merges = tokens.container.typed(MERGES, "a list of texts", Value::texts)?;
    let merges = merges.ok_or_else(|| Error::invalid("the key is missing").with_key(MERGES))?;
    let merges: Option<Vec<_>> = merges.iter().map(|merge| merge.split_once(' ')).collect();
    let merges =
        merges.ok_or_else(|| Error::invalid("a merge does not have two parts").with_key(MERGES))?;
    let vocabulary = tokens.vocabulary();
    let known = |part: &str| vocabulary.contains_key(part);
    if let Some((left, right)) = merges
        .iter()
        .find(|(left, right)| !known(left) || !known(right) || !known(&format!("{left}{right}")))
    {
        return Err(Error::invalid(format!(
            "the merge of `{left}` and `{right}` needs a token that is not there"
        ))
        .with_key(MERGES));
    }
    let bytes = |use_regex: bool| {
        json!({
            "type": "ByteLevel",
            "add_prefix_space": false,
            "trim_offsets": true,
            "use_regex": use_regex,
        })
    };
    let pre_tokenizer = match way.cut {
        Cut::Gpt2 => bytes(true),
        Cut::Digits => json!({
            "type": "Sequence",
            "pretokenizers": [{ "type": "Digits", "individual_digits": true }, bytes(true)],
        }),
        Cut::Pattern(pattern) => json!({
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": { "Regex": pattern },
                    "behavior": "Isolated",
                    "invert": false,
                },
                bytes(false),
            ],
        }),
    };
    let begins = tokens.flag("add_bos_token", way.begins)?;
    let post_processor = tokens.around(begins, tokens.flag("add_eos_token", false)?)?;
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": if way.nfc { json!({ "type": "NFC" }) } else { Json::Null },
        "pre_tokenizer": pre_tokenizer,
        "post_processor": post_processor,
        "decoder": bytes(true),
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": way.ignore_merges,
            "vocab": vocabulary,
            "merges": merges,
        },
    }))
}
