//! The tokenizer, as transformers' files describe it.

mod byte_level;
mod sentencepiece;

use crate::container::Container;
use crate::error::{Error, Result};
use crate::value::{List, Value};
use serde_json::{Map, Value as Json, json};

/// Kinds of tokens, numbered as in the file.
const NORMAL: u64 = 1;
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;

/// The files of a tokenizer: name and contents.
pub type Files = Vec<(&'static str, Json)>;

/// What the file says of its tokens.
struct Tokens<'a> {
    container: &'a Container,
    texts: &'a [String],
    /// The kind of each; normal where the file has none.
    kinds: Vec<u64>,
}

/// tokenizer.json, tokenizer_config.json and generation_config.json, made from the metadata.
///
/// # Errors
/// A tokenizer that is not there, or of a kind that cannot be rebuilt, by name; tokens that contradict
/// themselves.
pub fn files(container: &Container) -> Result<Files> {
    let tokens = Tokens::read(container)?;
    let tokenizer = match container.get("tokenizer.huggingface.json").and_then(Value::text) {
        Some(text) => serde_json::from_str(text).map_err(|error| {
            Error::invalid(format!("not JSON: {error}")).with_key("tokenizer.huggingface.json")
        })?,
        None => tokens.tokenizer()?,
    };
    let mut files =
        vec![("tokenizer.json", tokenizer), ("tokenizer_config.json", tokens.settings()?)];
    files.push(("generation_config.json", generation(container)));
    Ok(files)
}

/// What ends a text, and what begins it.
fn generation(container: &Container) -> Json {
    let id = |name: &str| container.get(&format!("tokenizer.ggml.{name}_token_id"))?.size();
    let mut ends: Vec<u64> = Vec::new();
    for end in ["eos", "eot", "eom"].into_iter().filter_map(id) {
        if !ends.contains(&end) {
            ends.push(end);
        }
    }
    let mut generation = Map::new();
    if let Some(begin) = id("bos") {
        generation.insert("bos_token_id".to_owned(), json!(begin));
    }
    match ends.as_slice() {
        [] => {}
        [end] => {
            generation.insert("eos_token_id".to_owned(), json!(end));
        }
        _ => {
            generation.insert("eos_token_id".to_owned(), json!(ends));
        }
    }
    Json::Object(generation)
}

impl<'a> Tokens<'a> {
    fn read(container: &'a Container) -> Result<Self> {
        const LIST: &str = "tokenizer.ggml.tokens";
        const KINDS: &str = "tokenizer.ggml.token_type";
        let texts = container.typed(LIST, "a list of texts", Value::texts)?;
        let texts = texts.filter(|texts| !texts.is_empty()).ok_or_else(|| {
            Error::unsupported("the file has no tokenizer")
                .with_key(LIST)
                .with_hint("convert without one: --no-tokenizer")
        })?;
        let kinds = match container.get(KINDS) {
            None => vec![NORMAL; texts.len()],
            Some(Value::List(list @ List::Plain(_))) if list.len() == texts.len() => {
                let kinds: Option<Vec<u64>> = list.values().map(|kind| kind.size()).collect();
                let reason = "a token has a kind that is not a whole number";
                kinds.ok_or_else(|| Error::invalid(reason).with_key(KINDS))?
            }
            Some(_) => {
                let reason = format!("not one kind for each of the {} tokens", texts.len());
                return Err(Error::invalid(reason).with_key(KINDS));
            }
        };
        Ok(Self { container, texts, kinds })
    }

    fn tokenizer(&self) -> Result<Json> {
        const MODEL: &str = "tokenizer.ggml.model";
        match self.container.typed(MODEL, "a text", Value::text)? {
            Some("gpt2") => byte_level::tokenizer(self),
            Some("llama") => sentencepiece::tokenizer(self),
            other => Err(Error::unsupported(format!(
                "the tokenizer `{}` cannot be rebuilt",
                other.unwrap_or("without a name")
            ))
            .with_key(MODEL)
            .with_hint(OTHERWISE)),
        }
    }

    /// The token that the file names for a purpose.
    fn named(&self, purpose: &str) -> Result<Option<(u64, &'a str)>> {
        let key = format!("tokenizer.ggml.{purpose}_token_id");
        let Some(id) = self.container.typed(&key, "a whole number", Value::size)? else {
            return Ok(None);
        };
        match usize::try_from(id).ok().and_then(|id| self.texts.get(id)) {
            Some(text) => Ok(Some((id, text))),
            // Some files say so that there is none.
            None if id >= u64::from(u32::MAX) => Ok(None),
            None => Err(Error::invalid(format!("there is no token {id}")).with_key(key)),
        }
    }

    fn flag(&self, name: &str, usual: bool) -> Result<bool> {
        let key = format!("tokenizer.ggml.{name}");
        Ok(self.container.typed(&key, "true or false", Value::boolean)?.unwrap_or(usual))
    }

    /// Each text with the number of its first token, without what only fills the vocabulary up.
    fn vocabulary(&self) -> Map<String, Json> {
        let mut vocabulary = Map::new();
        for (id, (text, kind)) in self.texts.iter().zip(&self.kinds).enumerate() {
            let fills = *kind == UNUSED && text.starts_with("[PAD") && text.ends_with(']');
            if !fills && !vocabulary.contains_key(text) {
                vocabulary.insert(text.clone(), json!(id));
            }
        }
        vocabulary
    }

    /// Tokens that are found in a text before anything else.
    fn added(&self) -> Vec<Json> {
        let tokens = self.texts.iter().zip(&self.kinds).enumerate();
        tokens
            .filter(|(_, (text, kind))| [CONTROL, USER_DEFINED].contains(kind) && !text.is_empty())
            .map(|(id, (text, kind))| {
                json!({
                    "id": id,
                    "content": text,
                    "single_word": false,
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": *kind == CONTROL,
                })
            })
            .collect()
    }

    /// Puts tokens around a text, if there are any to be put.
    fn around(&self, begins: bool, ends: bool) -> Result<Option<Json>> {
        let begin = if begins { self.named("bos")? } else { None };
        let end = if ends { self.named("eos")? } else { None };
        if begin.is_none() && end.is_none() {
            return Ok(None);
        }
        let special = |token: Option<(u64, &str)>, part: u32| {
            token.map(|(_, text)| json!({ "SpecialToken": { "id": text, "type_id": part } }))
        };
        let sequence =
            |name: &str, part: u32| json!({ "Sequence": { "id": name, "type_id": part } });
        let part = |name: &str, part: u32| -> Vec<Json> {
            let first = special(begin, part).into_iter();
            first.chain([sequence(name, part)]).chain(special(end, part)).collect()
        };
        let mut tokens = Map::new();
        for (id, text) in [begin, end].into_iter().flatten() {
            let token = json!({ "id": text, "ids": [id], "tokens": [text] });
            tokens.insert(text.to_owned(), token);
        }
        let pair: Vec<Json> = part("A", 0).into_iter().chain(part("B", 1)).collect();
        Ok(Some(json!({
            "type": "TemplateProcessing",
            "single": part("A", 0),
            "pair": pair,
            "special_tokens": tokens,
        })))
    }

    /// tokenizer_config.json.
    fn settings(&self) -> Result<Json> {
        let mut settings = Map::new();
        settings.insert("tokenizer_class".to_owned(), json!("PreTrainedTokenizerFast"));
        settings.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
        for (purpose, key) in [
            ("bos", "bos_token"),
            ("eos", "eos_token"),
            ("unknown", "unk_token"),
            ("padding", "pad_token"),
        ] {
            if let Some((_, text)) = self.named(purpose)? {
                settings.insert(key.to_owned(), json!(text));
            }
        }
        const TEMPLATE: &str = "tokenizer.chat_template";
        if let Some(template) = self.container.typed(TEMPLATE, "a text", Value::text)? {
            settings.insert("chat_template".to_owned(), json!(template));
        }
        Ok(Json::Object(settings))
    }
}

/// What to do where a tokenizer cannot be rebuilt.
const OTHERWISE: &str = "convert without the tokenizer (--no-tokenizer) and put the tokenizer.json of \
                         the original model into the output, or convert the original model";
