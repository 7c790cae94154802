//! Everything between text and token ids.
//!
//! [`Tokenizer`] reads a directory and gives the ids that `AutoTokenizer` of transformers 4 gives:
//! tokenizer.json, changed as the tokenizer's class and the files beside it say. [`TextStream`]
//! turns tokens to text one by one, and [`Pieces`] text to tokens piece by piece, each with what
//! the whole would give. Nothing here prints.

mod class;
mod decoder;
mod files;
mod guard;
mod pieces;
mod special;
mod stream;

pub use pieces::{Pieces, TextFile};
pub use stream::TextStream;

use anemll_codes as codes;
use anemll_files::Limit;
use anemll_plugin_api::{Error, Result};
use class::{Class, PrefixSpace, is_true};
use guard::guarded;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Tokens that end a turn or a text in common vocabularies. They count only where the tokenizer
/// calls them special.
const END_TOKENS: [&str; 4] = ["<|im_end|>", "<|eot_id|>", "<|endoftext|>", "</s>"];

/// Bytes of a text that are tokenized at once, without looking for a good place to cut.
const AT_ONCE: usize = 1 << 20;

/// How many times longer a normalizer may make a text; none that is in use comes close.
const MOST_GROWTH: f64 = 4096.0;

/// A model's tokenizer with the settings around it.
#[derive(Debug)]
pub struct Tokenizer {
    pub(crate) inner: tokenizers::Tokenizer,
    directory: PathBuf,
    settings: Value,
    generation: Value,
    config: Value,
    named: BTreeMap<&'static str, String>,
}

/// The tokens of a text that may be too long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bounded {
    /// All of them.
    All(Vec<u32>),
    /// There are too many to count; the text's beginning has `tokens`.
    TooMany {
        /// Tokens of the beginning, what is put around a text included.
        tokens: u64,
        /// Bytes of the beginning.
        bytes: u64,
    },
}

impl Tokenizer {
    /// Reads tokenizer.json in `directory`, and where they are there tokenizer_config.json,
    /// special_tokens_map.json, added_tokens.json, generation_config.json and config.json.
    ///
    /// # Errors
    /// tokenizer.json cannot be read, contradicts itself, or one of the others is no JSON.
    pub fn open(directory: &Path) -> Result<Self> {
        let json = |name: &str, limit| files::read_json(&directory.join(name), limit);
        let settings = json("tokenizer_config.json", Limit::TOKENIZER)?;
        let map = json("special_tokens_map.json", Limit::TOKENIZER)?;
        let added = json("added_tokens.json", Limit::TOKENIZER)?;
        let generation = json("generation_config.json", Limit::CONFIG)?;
        let config = json("config.json", Limit::CONFIG)?;
        let path = directory.join("tokenizer.json");
        let mut inner = read(&path)?;
        let class = class::find(&settings, &config);
        let failed = |reason: String| broken(&path, &reason);
        let named = guarded(|| {
            set_prefix_space(&mut inner, &settings, class, directory)?;
            let existing = inner.get_added_tokens_decoder().into_iter().collect();
            let sources = special::Sources { settings: &settings, map: &map, added: &added };
            let special = special::resolve(&sources, class, &existing);
            if !special.new.is_empty() {
                inner.add_tokens(&special.new);
            }
            let split = settings.get("split_special_tokens").is_some_and(is_true);
            inner.set_encode_special_tokens(split);
            set_around(&mut inner, &settings, class, &special.named)?;
            Ok(special.named)
        });
        let named = named.and_then(|result| result).map_err(failed)?;
        Ok(Self { inner, directory: directory.to_owned(), settings, generation, config, named })
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

    /// Checks that the model, which has logits for `vocabulary` tokens, knows all of `tokens`.
    /// Tokens of the tokenizer that do not occur may be any number.
    ///
    /// # Errors
    /// One of the ids is larger; the message has its text.
    pub fn check_vocabulary(&self, tokens: &[u32], vocabulary: u64) -> Result<()> {
        let Some(token) = tokens.iter().find(|token| u64::from(**token) >= vocabulary) else {
            return Ok(());
        };
        let text = self.inner.id_to_token(*token).unwrap_or_default();
        Err(Error::new(
            codes::TOKENIZER_INVALID,
            format!("the text has the token `{text}` with the id {token}, but the model has logits for {vocabulary} tokens"),
        )
        .with_at(self.directory.join("tokenizer.json").display().to_string())
        .with_hint("leave that token out, or take the tokenizer.json of the model that was converted"))
    }

    /// Tokens of a text. `special` adds what the tokenizer puts around a text, such as a token at
    /// the beginning; a chat template writes these itself.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub fn encode(&self, text: &str, special: bool) -> Result<Vec<u32>> {
        Ok(self.encoding(text, special)?.get_ids().to_vec())
    }

    /// As [`Self::encode`], but counting ends soon after `most` tokens.
    ///
    /// # Errors
    /// The tokenizer refuses the text.
    pub fn encode_bounded(&self, text: &str, special: bool, most: u64) -> Result<Bounded> {
        if text.len() <= AT_ONCE {
            return self.encode(text, special).map(Bounded::All);
        }
        let around = if special { self.around()? } else { Around::default() };
        let mut ids = around.before;
        let mut pieces = Pieces::of_text(self, text);
        while let Some(more) = pieces.next()? {
            ids.extend(more);
            if ids.len() as u64 > most {
                let (tokens, bytes) = (ids.len() as u64, pieces.bytes());
                return Ok(Bounded::TooMany { tokens, bytes });
            }
        }
        ids.extend(around.behind);
        Ok(Bounded::All(ids))
    }

    /// What the tokenizer puts before a text, such as a token for its beginning.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn lead(&self) -> Result<Vec<u32>> {
        Ok(self.around()?.before)
    }

    /// Text of tokens, without special ones.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        let mut stream = TextStream::new(self, &[])?;
        let mut text = String::new();
        for token in tokens {
            text += &stream.push(*token)?;
        }
        text += &stream.finish()?;
        Ok(text)
    }

    /// The text of a special token by its name, such as `bos_token`: of tokenizer_config.json, else
    /// of special_tokens_map.json, else that of the tokenizer's class.
    pub fn named_token(&self, name: &str) -> Option<&str> {
        self.named.get(name).map(String::as_str)
    }

    /// The tokens after which an answer is complete: `eos_token_id` of generation_config.json and
    /// config.json (one id or several), the tokenizer's `eos_token`, and usual ends of a turn that
    /// are special tokens of this tokenizer.
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
        let vocabulary = self.inner.get_added_vocabulary();
        ids.extend(
            END_TOKENS
                .iter()
                .filter(|token| vocabulary.is_special_token(token))
                .filter_map(|token| self.inner.token_to_id(token)),
        );
        ids
    }

    /// The name of a token in its vocabulary, which special ones have too; none for unknown ids.
    pub fn token_name(&self, token: u32) -> Option<String> {
        self.inner.id_to_token(token)
    }

    /// A token as its vocabulary writes it; none for special ones and unknown ids.
    pub(crate) fn visible(&self, token: u32) -> Option<String> {
        let text = self.inner.id_to_token(token)?;
        (!self.inner.get_added_vocabulary().is_special_token(&text)).then_some(text)
    }

    pub(crate) fn encoding(&self, text: &str, special: bool) -> Result<tokenizers::Encoding> {
        let result =
            guarded(|| self.inner.encode(text, special).map_err(|error| error.to_string()));
        match result {
            Ok(Ok(encoding)) => Ok(encoding),
            Ok(Err(reason)) => Err(Error::new(
                codes::PROMPT_INVALID,
                format!("the text cannot be tokenized: {reason}"),
            )),
            Err(reason) => Err(broken(&self.directory.join("tokenizer.json"), &reason)),
        }
    }

    /// What the tokenizer puts before and behind a text.
    fn around(&self) -> Result<Around> {
        // Of a text that has tokens, what is not put around it is in the middle.
        let encoding = self.encoding("a", true)?;
        let (ids, added) = (encoding.get_ids(), encoding.get_special_tokens_mask());
        let is_added = |index: &usize| added.get(*index) == Some(&1);
        let start = (0..ids.len()).take_while(is_added).count();
        let end = ids.len() - (start..ids.len()).rev().take_while(is_added).count();
        Ok(Around { before: ids[..start].to_vec(), behind: ids[end..].to_vec() })
    }
}

#[derive(Debug, Default)]
struct Around {
    before: Vec<u32>,
    behind: Vec<u32>,
}

/// tokenizer.json as the library reads it.
fn read(path: &Path) -> Result<tokenizers::Tokenizer> {
    let Some(bytes) = files::read(path, Limit::TOKENIZER)? else {
        return Err(files::invalid(path, "tokenizer.json is missing")
            .with_hint("the model directory must have a tokenizer.json when it is converted"));
    };
    let result = guarded(|| {
        let mut inner =
            tokenizers::Tokenizer::from_bytes(&bytes).map_err(|error| error.to_string())?;
        // Training settings that some models ship; they would silently cut a prompt.
        inner.with_truncation(None).map_err(|error| error.to_string())?;
        inner.with_padding(None);
        Ok(inner)
    });
    let inner = match result {
        Ok(Ok(inner)) => inner,
        Ok(Err(reason)) => {
            let reason: String = reason;
            return Err(files::invalid(path, format!("the tokenizer cannot be read: {reason}"))
                .with_hint("take the tokenizer.json of the model again; it is damaged or of a kind that is not known"));
        }
        Err(reason) => return Err(broken(path, &reason)),
    };
    let normalizer = inner.get_normalizer().and_then(|part| serde_json::to_value(part).ok());
    if normalizer.as_ref().is_some_and(|part| growth(part) > MOST_GROWTH) {
        return Err(files::invalid(path, "the normalizer makes a text thousands of times longer")
            .with_hint(
                "take the tokenizer.json of the model again; this one was made to do harm",
            ));
    }
    Ok(inner)
}

/// How many times longer a normalizer may make a text.
fn growth(normalizer: &Value) -> f64 {
    let length = |value: Option<&Value>| value.and_then(Value::as_str).map_or(0, str::len) as f64;
    match normalizer.get("type").and_then(Value::as_str) {
        Some("Sequence") => normalizer
            .get("normalizers")
            .and_then(Value::as_array)
            .map_or(1.0, |parts| parts.iter().map(growth).product()),
        Some("Replace") => {
            let pattern = normalizer.get("pattern").and_then(|pattern| pattern.get("String"));
            // A regular expression may find nothing between any two bytes.
            let content = length(normalizer.get("content"));
            match pattern {
                Some(pattern) if pattern != "" => (content / length(Some(pattern))).max(1.0),
                _ => content + 1.0,
            }
        }
        Some("Prepend") => 1.0 + length(normalizer.get("prepend")),
        _ => 1.0,
    }
}

fn broken(path: &Path, reason: &str) -> Error {
    Error::new(codes::TOKENIZER_FAILED, format!("the tokenizer fails: {reason}"))
        .with_at(path.display().to_string())
        .with_hint("tokenizer.json contradicts itself; take that of the model again")
}

/// What `add_prefix_space` changes.
fn set_prefix_space(
    inner: &mut tokenizers::Tokenizer,
    settings: &Value,
    class: &Class,
    directory: &Path,
) -> std::result::Result<(), String> {
    let wanted = settings.get("add_prefix_space").filter(|value| !value.is_null());
    if class.prefix_space == PrefixSpace::Sentencepiece {
        // Without the sentencepiece model, transformers refuses the directory.
        if let (Some(wanted), true) = (wanted, directory.join("tokenizer.model").exists()) {
            let legacy =
                settings.get("legacy").is_none_or(|value| value.is_null() || is_true(value));
            return from_sentencepiece(inner, is_true(wanted), legacy);
        }
        return Ok(());
    }
    let wanted = match wanted {
        None => settings.get("add_prefix_space").is_none().then_some(false),
        Some(value) => value.as_bool(),
    };
    if let (Some(wanted), Some(tokenizers::PreTokenizerWrapper::ByteLevel(level))) =
        (wanted, inner.get_pre_tokenizer())
    {
        let level = level.add_prefix_space(wanted);
        inner.with_pre_tokenizer(Some(level));
    }
    Ok(())
}

/// Normalizer, pre-tokenizer and decoder as transformers makes them of a sentencepiece model.
fn from_sentencepiece(
    inner: &mut tokenizers::Tokenizer,
    space: bool,
    legacy: bool,
) -> std::result::Result<(), String> {
    let text = |error: serde_json::Error| error.to_string();
    let replace = json!({ "type": "Replace", "pattern": { "String": " " }, "content": "▁" });
    let normalizer = match (legacy, space) {
        (true, true) => {
            json!({ "type": "Sequence", "normalizers": [{ "type": "Prepend", "prepend": "▁" }, replace] })
        }
        (true, false) => json!({ "type": "Sequence", "normalizers": [replace] }),
        (false, _) => Value::Null,
    };
    let scheme = if space { "first" } else { "never" };
    let pre_tokenizer = if legacy {
        Value::Null
    } else {
        json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": false })
    };
    let mut decoders = vec![
        json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
        json!({ "type": "ByteFallback" }),
        json!({ "type": "Fuse" }),
    ];
    if space {
        decoders.push(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }));
    }
    let decoder = json!({ "type": "Sequence", "decoders": decoders });
    let normalizer: Option<tokenizers::NormalizerWrapper> =
        serde_json::from_value(normalizer).map_err(text)?;
    let pre_tokenizer: Option<tokenizers::PreTokenizerWrapper> =
        serde_json::from_value(pre_tokenizer).map_err(text)?;
    let decoder: tokenizers::DecoderWrapper = serde_json::from_value(decoder).map_err(text)?;
    inner.with_normalizer(normalizer).with_pre_tokenizer(pre_tokenizer).with_decoder(Some(decoder));
    // Tokens that match normalized text are looked for in what the new normalizer makes of them.
    inner.add_tokens(&[]);
    Ok(())
}

/// The post-processor of a class that makes its own from `add_bos_token` and `add_eos_token`.
fn set_around(
    inner: &mut tokenizers::Tokenizer,
    settings: &Value,
    class: &Class,
    named: &BTreeMap<&'static str, String>,
) -> std::result::Result<(), String> {
    let Some((bos, eos)) = class.around else { return Ok(()) };
    let adds = |key: &str, default: bool| settings.get(key).map_or(default, is_true);
    let token = |name: &str| {
        let text = named.get(name)?;
        Some((text.clone(), inner.token_to_id(text)?))
    };
    let (adds_bos, adds_eos) = (adds("add_bos_token", bos), adds("add_eos_token", eos));
    let (before, behind) = (token("bos_token"), token("eos_token"));
    // Where such a token is missing, transformers refuses the directory; tokenizer.json stays as it
    // is.
    if (adds_bos && before.is_none()) || (adds_eos && behind.is_none()) {
        return Ok(());
    }
    let (before, behind) = (before.filter(|_| adds_bos), behind.filter(|_| adds_eos));
    let special =
        |token: &(String, u32)| json!({ "SpecialToken": { "id": token.0, "type_id": 0 } });
    let text = |id: &str, kind: u32| json!({ "Sequence": { "id": id, "type_id": kind } });
    let single: Vec<Value> = before
        .iter()
        .map(special)
        .chain([text("A", 0)])
        .chain(behind.iter().map(special))
        .collect();
    let tokens: serde_json::Map<String, Value> = [before, behind]
        .into_iter()
        .flatten()
        .map(|(text, id)| (text.clone(), json!({ "id": text, "ids": [id], "tokens": [text] })))
        .collect();
    // Pairs are not used here, but a template must have both.
    let processor: tokenizers::PostProcessorWrapper = serde_json::from_value(json!({
        "type": "TemplateProcessing",
        "single": single,
        "pair": [text("A", 0), text("B", 1)],
        "special_tokens": tokens,
    }))
    .map_err(|error| error.to_string())?;
    inner.with_post_processor(Some(processor));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tiny() -> Tokenizer {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
        Tokenizer::open(&tests.join("models/tiny-llama")).unwrap()
    }

    /// The directory of tiny-llama's tokenizer.json with keys replaced.
    fn changed(edit: impl FnOnce(&mut Value)) -> Result<Tokenizer> {
        let folder = tempfile::tempdir().unwrap();
        let path = tiny().directory().join("tokenizer.json");
        let mut value: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        edit(&mut value);
        std::fs::write(folder.path().join("tokenizer.json"), value.to_string()).unwrap();
        Tokenizer::open(folder.path())
    }

    #[test]
    fn stop_tokens_come_from_every_place() {
        let mut tokenizer = tiny();
        assert_eq!(tokenizer.stop_tokens(), BTreeSet::from([1]));
        tokenizer.generation = json!({ "eos_token_id": [7, 8, -1, "x"] });
        tokenizer.config = json!({ "eos_token_id": 9 });
        tokenizer.named.insert("eos_token", "<|begin_of_text|>".to_owned());
        assert_eq!(tokenizer.stop_tokens(), BTreeSet::from([0, 7, 8, 9]));
    }

    #[test]
    fn the_lead_is_what_stands_before_a_text() {
        assert_eq!(tiny().lead().unwrap(), [0]);
    }

    #[test]
    fn only_tokens_that_occur_count_against_the_logits() {
        let tokenizer = tiny();
        tokenizer.check_vocabulary(&[0, 999], 1000).unwrap();
        let error = tokenizer.check_vocabulary(&[3, 1], 1).unwrap_err();
        assert!(
            error.message.contains("id 3") && error.message.contains("for 1 tokens"),
            "{error}"
        );
    }

    #[test]
    fn counting_ends_soon_after_the_limit() {
        let tokenizer = tiny();
        let text = "One day the old man went into the wood. ".repeat(27_000);
        assert!(text.len() > AT_ONCE);
        let whole = tokenizer.encode(&text, true).unwrap();
        assert_eq!(tokenizer.encode_bounded(&text, true, u64::MAX).unwrap(), Bounded::All(whole));
        match tokenizer.encode_bounded(&text, true, 1000).unwrap() {
            Bounded::TooMany { tokens, bytes } => {
                assert!(tokens > 1000 && bytes < text.len() as u64, "{tokens} {bytes}");
            }
            Bounded::All(_) => panic!("it is too long"),
        }
    }

    #[test]
    fn harmful_files_are_errors() {
        let double = json!({ "type": "Replace", "pattern": { "String": "a" }, "content": "aa" });
        let bomb = json!({ "type": "Sequence", "normalizers": vec![double; 60] });
        let error = changed(|file| file["normalizer"] = bomb).unwrap_err();
        assert_eq!(error.code, codes::TOKENIZER_INVALID, "{error}");
        for part in
            ["normalizer", "pre_tokenizer", "decoder", "post_processor", "model", "added_tokens"]
        {
            for value in [json!(7), json!([]), json!("x"), json!({ "type": "Nothing" }), json!([7])]
            {
                // Some of these are what the library has for an empty part; none may panic.
                if let Err(error) = changed(|file| file[part] = value.clone()) {
                    assert!(error.code.starts_with("A090"), "{part} {value}: {error}");
                }
            }
        }
    }
}
