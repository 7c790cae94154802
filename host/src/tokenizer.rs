//! The tokenizer beside a conversion: text to tokens, tokens to text, and the tokens that end an
//! answer.

use anemll_plugin_api::{Error, Result, codes};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Tokens that end a turn or a text in common vocabularies. They count only where the tokenizer
/// calls them special.
const END_TOKENS: [&str; 4] = ["<|im_end|>", "<|eot_id|>", "<|endoftext|>", "</s>"];

/// Tokens before an answer that are decoded with it, since a decoder may treat the first token of
/// a text differently.
const LEAD: usize = 4;

/// A conversion's tokenizer with the settings around it.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    directory: PathBuf,
    settings: Value,
    generation: Value,
    config: Value,
}

impl Tokenizer {
    /// Reads tokenizer.json in `directory`, and tokenizer_config.json, generation_config.json and
    /// config.json where they are there.
    ///
    /// # Errors
    /// tokenizer.json cannot be read, or one of the others is no JSON.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("tokenizer.json");
        let invalid = |source: tokenizers::Error| {
            Error::new(codes::TOKENIZER_INVALID, format!("the tokenizer cannot be read: {source}"))
                .with_at(path.display().to_string())
                .with_hint("the model directory must have a tokenizer.json when it is converted")
        };
        let mut inner = tokenizers::Tokenizer::from_file(&path).map_err(invalid)?;
        // Training settings that some models ship; they would silently cut a prompt.
        inner.with_truncation(None).map_err(invalid)?;
        inner.with_padding(None);
        Ok(Self {
            inner,
            directory: directory.to_owned(),
            settings: read_json(&directory.join("tokenizer_config.json"))?,
            generation: read_json(&directory.join("generation_config.json"))?,
            config: read_json(&directory.join("config.json"))?,
        })
    }

    /// The folder with the files.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// tokenizer_config.json; null where there is none.
    pub fn settings(&self) -> &Value {
        &self.settings
    }

    /// generation_config.json; null where there is none.
    pub fn generation(&self) -> &Value {
        &self.generation
    }

    /// Checks that the model has logits, `vocabulary` of them, for every token.
    ///
    /// # Errors
    /// The tokenizer has larger ids.
    pub fn check_vocabulary(&self, vocabulary: u64) -> Result<()> {
        let largest = self.inner.get_vocab(true).into_values().max();
        let needed = largest.map_or(0, |id| u64::from(id) + 1);
        if needed <= vocabulary {
            return Ok(());
        }
        Err(Error::new(
            codes::TOKENIZER_INVALID,
            format!("the tokenizer has {needed} tokens, but the model has logits for {vocabulary}"),
        )
        .with_at(self.directory.join("tokenizer.json").display().to_string())
        .with_hint("take the tokenizer.json of the model that was converted"))
    }

    /// Tokens of a text. `special` adds what the tokenizer puts around a text, such as a token at
    /// the beginning; a chat template writes these itself.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        let encoding = self.inner.encode(text, special).map_err(|source| {
            Error::new(codes::PROMPT_INVALID, format!("the prompt cannot be tokenized: {source}"))
        })?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Tokens of a text, and apart from them what the tokenizer puts before a text; what it puts
    /// behind is left out.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub fn encode_with_lead(&self, text: &str) -> Result<(Vec<u32>, Vec<u32>)> {
        let encoding = self.inner.encode(text, true).map_err(|source| {
            Error::new(codes::PROMPT_INVALID, format!("the text cannot be tokenized: {source}"))
        })?;
        let (ids, added) = (encoding.get_ids(), encoding.get_special_tokens_mask());
        let is_added = |index: &usize| added.get(*index) == Some(&1);
        let start = (0..ids.len()).take_while(is_added).count();
        let end = ids.len() - (start..ids.len()).rev().take_while(is_added).count();
        Ok((ids[..start].to_vec(), ids[start..end].to_vec()))
    }

    /// Text of tokens, without special ones.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner.decode(tokens, true).map_err(|source| {
            Error::new(codes::TOKENIZER_INVALID, format!("tokens cannot be decoded: {source}"))
        })
    }

    /// The text of a special token that tokenizer_config.json names, such as `bos_token`.
    pub fn named_token(&self, name: &str) -> Option<&str> {
        let value = self.settings.get(name)?;
        value.as_str().or_else(|| value.get("content")?.as_str())
    }

    /// The tokens after which an answer is complete: `eos_token_id` of generation_config.json and
    /// config.json (one id or several), `eos_token` of tokenizer_config.json, and usual ends of a
    /// turn that are special tokens of this tokenizer.
    pub fn stop_tokens(&self) -> BTreeSet<u32> {
        let mut ids = BTreeSet::new();
        for value in [&self.generation, &self.config] {
            let listed = match value.get("eos_token_id") {
                Some(Value::Array(values)) => values.as_slice(),
                Some(single) => std::slice::from_ref(single),
                None => &[],
            };
            ids.extend(
                listed.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()),
            );
        }
        ids.extend(self.named_token("eos_token").and_then(|token| self.inner.token_to_id(token)));
        let added = self.inner.get_added_tokens_decoder();
        ids.extend(END_TOKENS.iter().filter_map(|token| {
            let id = self.inner.token_to_id(token)?;
            added.get(&id).is_some_and(|token| token.special).then_some(id)
        }));
        ids
    }
}

/// A JSON file; null where there is none.
fn read_json(path: &Path) -> Result<Value> {
    let invalid = |reason: String| {
        Error::new(codes::TOKENIZER_INVALID, reason).with_at(path.display().to_string())
    };
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text)
            .map_err(|source| invalid(format!("this file is not valid JSON: {source}"))),
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => Ok(Value::Null),
        Err(source) => Err(invalid(format!("this file cannot be read: {source}"))),
    }
}

/// Text of a growing token list: a character can need several tokens, and the text of a token can
/// depend on those before it.
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The tokens that matter for what comes next; the first `shown` of them are written.
    tokens: Vec<u32>,
    shown: usize,
}

impl<'a> TextStream<'a> {
    /// A stream of what follows `prompt`.
    pub fn new(tokenizer: &'a Tokenizer, prompt: &[u32]) -> Self {
        let tokens = prompt[prompt.len().saturating_sub(LEAD)..].to_vec();
        Self { tokenizer, shown: tokens.len(), tokens }
    }

    /// The text that `token` adds; nothing while a character is incomplete.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn push(&mut self, token: u32) -> Result<String> {
        self.tokens.push(token);
        let new = self.pending()?;
        if new.ends_with('\u{fffd}') {
            return Ok(String::new());
        }
        self.tokens.drain(..self.shown.saturating_sub(LEAD));
        self.shown = self.tokens.len();
        Ok(new)
    }

    /// What is left at the end: an incomplete character, as replacement characters.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn finish(mut self) -> Result<String> {
        let new = self.pending()?;
        self.shown = self.tokens.len();
        Ok(new)
    }

    fn pending(&self) -> Result<String> {
        let before = self.tokenizer.decode(&self.tokens[..self.shown])?;
        let text = self.tokenizer.decode(&self.tokens)?;
        Ok(text.strip_prefix(before.as_str()).unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Tokenizer {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/models/tiny-llama");
        Tokenizer::open(&directory).unwrap()
    }

    #[test]
    fn a_stream_gives_whole_characters_and_loses_nothing() {
        let tokenizer = tiny();
        for text in ["Naïve café: 日本語, 🙂🙃!", "  two  spaces\n\nand lines\n"] {
            let tokens = tokenizer.encode(text, false).unwrap();
            let mut stream = TextStream::new(&tokenizer, &tokenizer.encode("So", true).unwrap());
            let mut parts = Vec::new();
            for token in tokens {
                parts.push(stream.push(token).unwrap());
            }
            parts.push(stream.finish().unwrap());
            assert!(parts.iter().all(|part| !part.contains('\u{fffd}')), "{parts:?}");
            assert_eq!(parts.concat(), text);
        }
    }

    #[test]
    fn a_character_that_stays_incomplete_is_shown_at_the_end() {
        let tokenizer = tiny();
        let tokens = tokenizer.encode("🙂", false).unwrap();
        assert!(tokens.len() > 1, "the test needs a character of several tokens");
        let mut stream = TextStream::new(&tokenizer, &[]);
        assert_eq!(stream.push(tokens[0]).unwrap(), "");
        assert!(stream.finish().unwrap().contains('\u{fffd}'));
    }

    #[test]
    fn stop_tokens_come_from_every_place() {
        let mut tokenizer = tiny();
        assert_eq!(tokenizer.stop_tokens(), BTreeSet::from([1]));
        tokenizer.generation = serde_json::json!({ "eos_token_id": [7, 8, -1, "x"] });
        tokenizer.config = serde_json::json!({ "eos_token_id": 9 });
        tokenizer.settings = serde_json::json!({ "eos_token": { "content": "<|begin_of_text|>" } });
        assert_eq!(tokenizer.stop_tokens(), BTreeSet::from([0, 7, 8, 9]));
    }

    #[test]
    fn what_stands_before_a_text_is_told_apart() {
        let tokenizer = tiny();
        let text = "One day<|begin_of_text|>";
        let (lead, tokens) = tokenizer.encode_with_lead(text).unwrap();
        assert_eq!((&lead[..], tokens.last()), (&[0][..], Some(&0)));
        assert_eq!([lead, tokens].concat(), tokenizer.encode(text, true).unwrap());
        assert_eq!(tokenizer.encode_with_lead("").unwrap(), (vec![0], vec![]));
    }

    #[test]
    fn ids_beyond_the_logits_name_both_sizes() {
        let tokenizer = tiny();
        tokenizer.check_vocabulary(1024).unwrap();
        let error = tokenizer.check_vocabulary(1000).unwrap_err();
        assert!(error.message.contains("1024") && error.message.contains("1000"), "{error}");
    }
}
