//! Special and added tokens, from all files that may name them, in the order of precedence of
//! transformers 4.

use crate::class::{Class, is_true};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokenizers::AddedToken;

/// Where named tokens are listed, in this order.
const NAMES: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];
const MORE: &str = "additional_special_tokens";

/// What a file says about a token: its text alone, or with flags.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Named {
    Text(String),
    Token(AddedToken),
}

impl Named {
    /// A text, or an object with `content`; `special` marks objects.
    fn read(value: &Value, special: bool) -> Option<Self> {
        match value {
            Value::String(text) => Some(Self::Text(text.clone())),
            Value::Object(_) => added_token(value, special).map(Self::Token),
            _ => None,
        }
    }

    fn content(&self) -> &str {
        match self {
            Self::Text(text) => text,
            Self::Token(token) => &token.content,
        }
    }
}

/// The flags of a token as JSON files have them.
fn added_token(value: &Value, special: bool) -> Option<AddedToken> {
    let content = value.get("content")?.as_str()?;
    let flag = |name: &str| value.get(name).map(is_true);
    let special = special || flag("special").unwrap_or(false);
    Some(
        AddedToken::from(content, special)
            .single_word(flag("single_word").unwrap_or(false))
            .lstrip(flag("lstrip").unwrap_or(false))
            .rstrip(flag("rstrip").unwrap_or(false))
            .normalized(flag("normalized").unwrap_or(!special)),
    )
}

/// The files that name tokens; null where there is none.
pub(crate) struct Sources<'a> {
    /// tokenizer_config.json.
    pub(crate) settings: &'a Value,
    /// special_tokens_map.json.
    pub(crate) map: &'a Value,
    /// added_tokens.json.
    pub(crate) added: &'a Value,
}

/// The special tokens of a tokenizer, and what has to be added to tokenizer.json.
#[derive(Debug)]
pub(crate) struct Special {
    /// By name, such as `bos_token`.
    pub(crate) named: BTreeMap<&'static str, String>,
    /// To be added, in this order.
    pub(crate) new: Vec<AddedToken>,
}

/// Puts together what the files and the class say. `existing` are the added tokens of
/// tokenizer.json.
pub(crate) fn resolve(
    sources: &Sources<'_>,
    class: &Class,
    existing: &BTreeMap<u32, AddedToken>,
) -> Special {
    let mut given: BTreeMap<&'static str, Option<Named>> = BTreeMap::new();
    let mut more: Vec<Named> = Vec::new();
    read_names(sources.settings, false, &mut given, &mut more);
    let mut decoder: BTreeMap<u32, AddedToken> = BTreeMap::new();
    match sources.settings.get("added_tokens_decoder") {
        // The map and added_tokens.json are older ways, which then do not count.
        Some(listed) => {
            for (id, value) in listed.as_object().into_iter().flatten() {
                if let (Ok(id), Some(token)) = (id.parse(), added_token(value, false)) {
                    decoder.insert(id, token);
                }
            }
        }
        None => {
            read_names(sources.map, true, &mut given, &mut more);
            let names = given.values().flatten().chain(&more);
            let special: BTreeSet<&str> = names.map(Named::content).collect();
            for (content, id) in sources.added.as_object().into_iter().flatten() {
                if let Some(id) = id.as_u64().and_then(|id| u32::try_from(id).ok()) {
                    let token =
                        AddedToken::from(content.as_str(), special.contains(content.as_str()));
                    decoder.insert(id, token);
                }
            }
            decoder.extend(existing.iter().map(|(id, token)| (*id, token.clone())));
        }
    }
    // The flags of a token that is listed are those of the list.
    for named in given.values_mut().flatten() {
        let listed = decoder.values().rev().find(|token| token.content == named.content());
        if let Some(token) = listed {
            *named = Named::Token(token.clone());
        }
    }
    for (name, text) in class.tokens {
        given.entry(name).or_insert_with(|| Some(Named::Text((*text).to_owned())));
    }
    if class.exact {
        for named in given.values_mut().flatten() {
            if let Named::Text(text) = named {
                *named = Named::Token(AddedToken::from(text.as_str(), true));
            }
        }
    }
    more.extend(class.more.iter().map(|text| Named::Text((*text).to_owned())));
    let in_order = NAMES.iter().filter_map(|name| given.get(name)?.clone()).chain(more);
    let mut seen = BTreeSet::new();
    let all: Vec<Named> =
        in_order.filter(|named| seen.insert(named.content().to_owned())).collect();
    let named = given
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?.content().to_owned())))
        .filter(|(_, text)| !text.is_empty())
        .collect();
    Special { named, new: new_tokens(&all, decoder, existing, &seen) }
}

/// Adds what a file says about named tokens; `special` as in [`Named::read`].
fn read_names(
    file: &Value,
    special: bool,
    given: &mut BTreeMap<&'static str, Option<Named>>,
    more: &mut Vec<Named>,
) {
    for name in NAMES {
        if let Some(value) = file.get(name) {
            given.insert(name, Named::read(value, special));
        }
    }
    for value in file.get(MORE).and_then(Value::as_array).into_iter().flatten() {
        if let Some(named) = Named::read(value, special)
            && !more.contains(&named)
        {
            more.push(named);
        }
    }
}

fn new_tokens(
    all: &[Named],
    decoder: BTreeMap<u32, AddedToken>,
    existing: &BTreeMap<u32, AddedToken>,
    special: &BTreeSet<String>,
) -> Vec<AddedToken> {
    let is_new = |token: &AddedToken| !existing.values().any(|known| known == token);
    let mut new: Vec<Named> = decoder.into_values().filter(is_new).map(Named::Token).collect();
    let known: BTreeSet<String> = existing
        .values()
        .map(|token| token.content.clone())
        .chain(new.iter().map(|named| named.content().to_owned()))
        .collect();
    for named in all {
        // A text is told from the tokens that are there by its text, a token by its flags too.
        let missing = match named {
            Named::Text(text) => !known.contains(text),
            Named::Token(_) => !new.contains(named),
        };
        if missing {
            new.push(named.clone());
        }
    }
    new.into_iter()
        .map(|named| match named {
            Named::Text(text) => AddedToken::from(text, true),
            Named::Token(token) => {
                let is_special = token.special || special.contains(&token.content);
                token.special(is_special)
            }
        })
        .collect()
}
