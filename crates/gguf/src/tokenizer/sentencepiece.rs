//! SentencePiece's byte-pair encoding: which pieces merge first is told by their scores.

use super::{NORMAL, OTHERWISE, Tokens};
use crate::error::{Error, Result};
use crate::value::{List, Value};
use serde_json::{Value as Json, json};
use std::collections::HashMap;

/// What stands for a space.
const SPACE: &str = "\u{2581}";
/// Longest piece in bytes: all ways to cut one are tried.
const LONGEST: usize = 2048;

/// tokenizer.json.
pub(super) fn tokenizer(tokens: &Tokens<'_>) -> Result<Json> {
    refuse_normalization(tokens)?;
    let prefix = tokens.flag("add_space_prefix", true)?;
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": SPACE });
    let normalizer = match prefix {
        true => json!({
            "type": "Sequence",
            "normalizers": [{ "type": "Prepend", "prepend": SPACE }, replace],
        }),
        false => replace,
    };
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": SPACE }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if prefix {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let begins = tokens.flag("add_bos_token", true)?;
    let post_processor = tokens.around(begins, tokens.flag("add_eos_token", false)?)?;
    let unknown = tokens.named("unknown")?.map(|(_, text)| text);
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": tokens.added(),
        "normalizer": normalizer,
        "pre_tokenizer": null,
        "post_processor": post_processor,
        "decoder": { "type": "Sequence", "decoders": decoders },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": unknown,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": true,
            "ignore_merges": false,
            "vocab": tokens.vocabulary(),
            "merges": merges(tokens)?,
        },
    }))
}

/// Rules of normalization are not rebuilt.
fn refuse_normalization(tokens: &Tokens<'_>) -> Result<()> {
    const RULES: &str = "tokenizer.ggml.precompiled_charsmap";
    const SPACES: &str = "tokenizer.ggml.remove_extra_whitespaces";
    let has_rules = match tokens.container.get(RULES) {
        Some(Value::List(list)) => !list.is_empty(),
        _ => false,
    };
    let key = if has_rules {
        RULES
    } else if tokens.flag("remove_extra_whitespaces", false)? {
        SPACES
    } else {
        return Ok(());
    };
    Err(Error::unsupported("a tokenizer that changes texts first cannot be rebuilt")
        .with_key(key)
        .with_hint(OTHERWISE))
}

/// All ways to make a piece of two others, the best piece first.
fn merges<'a>(tokens: &Tokens<'a>) -> Result<Vec<(&'a str, &'a str)>> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let scores: Vec<f64> = match tokens.container.get(SCORES) {
        Some(Value::List(list @ List::Plain(_))) if list.len() == tokens.texts.len() => {
            list.values().map(|score| score.number().unwrap_or(f64::NAN)).collect()
        }
        _ => {
            let reason = format!("not one score for each of the {} tokens", tokens.texts.len());
            return Err(Error::invalid(reason).with_key(SCORES));
        }
    };
    if scores.iter().any(|score| score.is_nan()) {
        return Err(Error::invalid("a score is not a number").with_key(SCORES));
    }
    let mut pieces: HashMap<&str, usize> = HashMap::new();
    for (id, text) in tokens.texts.iter().enumerate() {
        if tokens.kinds[id] == NORMAL {
            if text.len() > LONGEST {
                return Err(Error::invalid(format!("the token {id} has {} bytes", text.len()))
                    .with_key("tokenizer.ggml.tokens"));
            }
            pieces.entry(text).or_insert(id);
        }
    }
    let mut found = Vec::new();
    for (id, text) in tokens.texts.iter().enumerate() {
        if pieces.get(text.as_str()) != Some(&id) {
            continue;
        }
        let mut characters = 0;
        let mut ways = Vec::new();
        for (cut, _) in text.char_indices().skip(1) {
            characters += 1;
            let (left, right) = text.split_at(cut);
            if let Some(both) = pieces.get(left).zip(pieces.get(right)) {
                ways.push((both, (left, right), characters));
            }
        }
        // Of equal ones, those whose pieces come first in the vocabulary.
        ways.sort_by_key(|(both, ..)| *both);
        let all = text.chars().count();
        found
            .extend(ways.into_iter().map(|(_, parts, left)| (scores[id], left, all - left, parts)));
    }
    // The best score first; of equal scores, the longest parts. Sorting keeps the order of others.
    found.sort_by(|one, other| {
        let by_score = other.0.total_cmp(&one.0);
        by_score.then(other.1.cmp(&one.1)).then(other.2.cmp(&one.2))
    });
    Ok(found.into_iter().map(|(.., parts)| parts).collect())
}
