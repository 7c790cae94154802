//! Decoders of the tokenizers library as they work on a list of tokens that still grows.
//!
//! A decoder is a chain of stages, each of which turns a list of texts into another one. Here each
//! stage gives out what no later token can change and keeps the rest, so that all that comes out
//! together is what the library makes of the whole list. The work for a token does not depend on
//! how many there were before.

use std::collections::HashMap;
use std::sync::LazyLock;
use tokenizers::pre_tokenizers::metaspace::PrependScheme;
use tokenizers::{Decoder as _, DecoderWrapper};

/// A failure of the library, as a text.
type Outcome<T> = Result<T, String>;

/// What goes from stage to stage.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Item {
    /// An element of the list, complete.
    Element(String),
    /// What comes next of the only element, which ends with the list.
    Part(String),
}

/// The stages of a tokenizer's decoder. A clone goes on by itself.
#[derive(Debug, Clone)]
pub(crate) struct Chain(Vec<Stage>);

impl Chain {
    /// The stages of a decoder; without one, tokens are joined by spaces.
    pub(crate) fn new(decoder: Option<&DecoderWrapper>) -> Self {
        let mut stages = Vec::new();
        match decoder {
            Some(decoder) => add_stages(decoder, &mut stages),
            None => stages.push(Stage::new(Kind::Spaces, None)),
        }
        Self(stages)
    }

    /// The text that is certain now that `token` was added.
    pub(crate) fn push(&mut self, token: String) -> Outcome<String> {
        self.run(0, vec![Item::Element(token)])
    }

    /// The text that is certain when the list is complete.
    pub(crate) fn finish(&mut self) -> Outcome<String> {
        let mut text = String::new();
        for index in 0..self.0.len() {
            let mut items = Vec::new();
            self.0[index].finish(&mut items)?;
            text += &self.run(index + 1, items)?;
        }
        Ok(text)
    }

    /// Sends items through the stages from `first` on.
    fn run(&mut self, first: usize, mut items: Vec<Item>) -> Outcome<String> {
        for stage in &mut self.0[first..] {
            let mut out = Vec::new();
            for item in items {
                stage.push(item, &mut out)?;
            }
            items = out;
        }
        Ok(items
            .into_iter()
            .map(|item| match item {
                Item::Element(text) | Item::Part(text) => text,
            })
            .collect())
    }
}

fn add_stages(decoder: &DecoderWrapper, stages: &mut Vec<Stage>) {
    let kind = match decoder {
        DecoderWrapper::Sequence(sequence) => {
            for decoder in sequence.get_decoders() {
                add_stages(decoder, stages);
            }
            return;
        }
        DecoderWrapper::BPE(bpe) => Kind::Suffix(bpe.suffix.clone()),
        DecoderWrapper::ByteLevel(_) => Kind::Bytes(Vec::new()),
        DecoderWrapper::WordPiece(_) | DecoderWrapper::CTC(_) => Kind::Neighbour,
        DecoderWrapper::Metaspace(space) => {
            let drops = space.get_prepend_scheme() != PrependScheme::Never;
            Kind::Metaspace { replacement: space.get_replacement(), drops }
        }
        DecoderWrapper::Replace(replace) => Kind::Replace { pattern: plain_pattern(replace) },
        DecoderWrapper::Fuse(_) => Kind::Fuse,
        DecoderWrapper::Strip(strip) => {
            Kind::Strip { content: strip.content, start: strip.start, stop: strip.stop }
        }
        DecoderWrapper::ByteFallback(_) => Kind::ByteFallback(Vec::new()),
    };
    stages.push(Stage::new(kind, Some(decoder.clone())));
}

/// The pattern of a decoder that replaces a text; none for a regular expression or no text.
fn plain_pattern(replace: &tokenizers::normalizers::Replace) -> Option<(String, String)> {
    let value = serde_json::to_value(replace).ok()?;
    let pattern = value.get("pattern")?.get("String")?.as_str()?;
    (!pattern.is_empty()).then(|| (pattern.to_owned(), replace.content.clone()))
}

#[derive(Debug, Clone)]
struct Stage {
    kind: Kind,
    decoder: Option<DecoderWrapper>,
    /// Elements so far.
    count: usize,
    /// What is kept back.
    held: String,
}

#[derive(Debug, Clone)]
enum Kind {
    /// No decoder: a space before each element but the first.
    Spaces,
    /// An element depends on the one before it and on being the first; WordPiece, CTC.
    Neighbour,
    /// A word's end becomes a space, except in the last element.
    Suffix(String),
    /// Elements are bytes, and the text is all of them together: the bytes of a character that is
    /// not complete.
    Bytes(Vec<u8>),
    /// A run of elements that are a byte each is text as a whole or not at all: the bytes so far.
    ByteFallback(Vec<u8>),
    /// A character stands for the space; at the beginning of the list it may fall away.
    Metaspace { replacement: char, drops: bool },
    /// Each element by itself; of a text that is replaced, both texts.
    Replace { pattern: Option<(String, String)> },
    /// From here on there is one element.
    Fuse,
    /// Each element by itself.
    Strip { content: char, start: usize, stop: usize },
}

impl Stage {
    fn new(kind: Kind, decoder: Option<DecoderWrapper>) -> Self {
        Self { kind, decoder, count: 0, held: String::new() }
    }

    /// The library's own decoder for elements that do not depend on others.
    fn decode(&self, tokens: Vec<String>) -> Outcome<Vec<String>> {
        match &self.decoder {
            Some(decoder) => decoder.decode_chain(tokens).map_err(|error| error.to_string()),
            None => Ok(tokens),
        }
    }

    fn push(&mut self, item: Item, out: &mut Vec<Item>) -> Outcome<()> {
        match item {
            Item::Element(text) => self.push_element(text, out),
            Item::Part(text) if text.is_empty() => Ok(()),
            Item::Part(text) => self.push_part(text, out),
        }
    }

    fn push_element(&mut self, text: String, out: &mut Vec<Item>) -> Outcome<()> {
        let first = self.count == 0;
        self.count += 1;
        match &mut self.kind {
            Kind::Spaces => {
                out.push(Item::Element(if first { text } else { format!(" {text}") }));
            }
            Kind::Neighbour => {
                // Two elements: what is made of the second is what would be made of it further on.
                let before = std::mem::replace(&mut self.held, text.clone());
                if first {
                    out.extend(self.decode(vec![text])?.into_iter().map(Item::Element));
                    return Ok(());
                }
                let alone = self.decode(vec![before.clone()])?.len();
                let both = self.decode(vec![before, text])?;
                out.extend(both.into_iter().skip(alone).map(Item::Element));
            }
            Kind::Suffix(suffix) => {
                let before = std::mem::replace(&mut self.held, text);
                if !first {
                    out.push(Item::Element(before.replace(suffix.as_str(), " ")));
                }
            }
            Kind::Bytes(bytes) => {
                let known: Option<Vec<u8>> =
                    text.chars().map(|character| BYTES.get(&character).copied()).collect();
                bytes.extend(known.unwrap_or_else(|| text.into_bytes()));
                let complete = bytes.len() - incomplete_tail(bytes);
                if complete > 0 {
                    let rest = bytes.split_off(complete);
                    out.push(Item::Part(String::from_utf8_lossy(bytes).into_owned()));
                    *bytes = rest;
                }
            }
            Kind::ByteFallback(bytes) => match byte_of(&text) {
                Some(byte) => bytes.push(byte),
                None => {
                    give_bytes(bytes, out);
                    out.push(Item::Element(text));
                }
            },
            Kind::Metaspace { replacement, drops } => {
                out.push(Item::Element(with_spaces(&text, *replacement, *drops && first)));
            }
            Kind::Strip { content, start, stop } => {
                out.push(Item::Element(strip(&text, *content, *start, *stop)));
            }
            Kind::Replace { .. } => {
                out.extend(self.decode(vec![text])?.into_iter().map(Item::Element));
            }
            Kind::Fuse => out.push(Item::Part(text)),
        }
        Ok(())
    }

    fn push_part(&mut self, text: String, out: &mut Vec<Item>) -> Outcome<()> {
        match &mut self.kind {
            Kind::Spaces | Kind::Fuse => out.push(Item::Part(text)),
            Kind::Metaspace { replacement, drops } => {
                out.push(Item::Part(with_spaces(&text, *replacement, *drops)));
            }
            // The last element, whose end is no space.
            Kind::Suffix(suffix) if !suffix.is_empty() => {
                self.held += &text;
                let ready = replace_ready(&mut self.held, suffix, "");
                out.push(Item::Part(ready));
            }
            Kind::Replace { pattern: Some((pattern, content)) } => {
                self.held += &text;
                let ready = replace_ready(&mut self.held, pattern, content);
                out.push(Item::Part(ready));
            }
            Kind::Strip { content, start, stop } => {
                let (content, stop) = (*content, *stop);
                for character in text.chars() {
                    if *start > 0 && character == content {
                        *start -= 1;
                        continue;
                    }
                    *start = 0;
                    self.held.push(character);
                }
                let end = self.held.trim_end_matches(content).len();
                let kept = self.held[end..].chars().rev().take(stop).map(char::len_utf8);
                let kept = self.held.len() - kept.sum::<usize>();
                let rest = self.held.split_off(kept);
                out.push(Item::Part(std::mem::replace(&mut self.held, rest)));
            }
            // A byte token is six bytes long; anything longer is itself.
            Kind::ByteFallback(_) if self.held.len() + text.len() > 6 || self.count > 0 => {
                self.count = 1;
                out.push(Item::Part(std::mem::take(&mut self.held) + &text));
            }
            // What depends on all of the element waits for its end.
            Kind::ByteFallback(_)
            | Kind::Suffix(_)
            | Kind::Replace { pattern: None }
            | Kind::Neighbour
            | Kind::Bytes(_) => {
                self.count = 0;
                self.held += &text;
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Vec<Item>) -> Outcome<()> {
        let held = std::mem::take(&mut self.held);
        match &mut self.kind {
            Kind::Spaces | Kind::Metaspace { .. } | Kind::Fuse | Kind::Strip { .. } => {}
            Kind::Suffix(suffix) if self.count > 0 => {
                out.push(Item::Element(held.replace(suffix.as_str(), "")));
            }
            Kind::Suffix(suffix) if !suffix.is_empty() => out.push(Item::Part(held)),
            Kind::Replace { pattern: Some(_) } => out.push(Item::Part(held)),
            Kind::Bytes(bytes) if held.is_empty() => {
                if !bytes.is_empty() {
                    out.push(Item::Part(String::from_utf8_lossy(bytes).into_owned()));
                }
            }
            Kind::ByteFallback(bytes) if held.is_empty() => give_bytes(bytes, out),
            // Elements were given out at once.
            Kind::Neighbour if self.count > 0 => {}
            Kind::Suffix(_)
            | Kind::Replace { pattern: None }
            | Kind::Neighbour
            | Kind::Bytes(_)
            | Kind::ByteFallback(_) => {
                if !held.is_empty() {
                    out.extend(self.decode(vec![held])?.into_iter().map(Item::Part));
                }
            }
        }
        Ok(())
    }
}

/// The characters that stand for bytes in byte-level vocabularies: the byte itself where it is a
/// visible character of Latin-1, the others from U+0100 on (as GPT-2 has it).
static BYTES: LazyLock<HashMap<char, u8>> = LazyLock::new(|| {
    let mut others = 0x100..;
    (0..=u8::MAX)
        .filter_map(|byte| {
            let visible = matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..);
            let code = if visible { Some(u32::from(byte)) } else { others.next() };
            Some((char::from_u32(code?)?, byte))
        })
        .collect()
});

/// How many bytes at the end are the beginning of a character that may still become complete.
fn incomplete_tail(bytes: &[u8]) -> usize {
    let from = bytes.len().saturating_sub(3);
    let incomplete = |start: &usize| {
        let tail = &bytes[*start..];
        tail[0] >= 0xc0
            && std::str::from_utf8(tail)
                .is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    };
    (from..bytes.len()).find(incomplete).map_or(0, |start| bytes.len() - start)
}

/// The byte that a token such as `<0x0A>` stands for.
fn byte_of(token: &str) -> Option<u8> {
    let digits = token.strip_prefix("<0x")?.strip_suffix('>')?;
    // As the library reads them: a sign counts as a digit.
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}

/// Ends a run of bytes: their text, or a replacement character for each.
fn give_bytes(bytes: &mut Vec<u8>, out: &mut Vec<Item>) {
    if bytes.is_empty() {
        return;
    }
    match String::from_utf8(std::mem::take(bytes)) {
        Ok(text) => out.push(Item::Element(text)),
        Err(error) => {
            out.extend((0..error.as_bytes().len()).map(|_| Item::Element('\u{fffd}'.to_string())))
        }
    }
}

fn with_spaces(text: &str, replacement: char, drops: bool) -> String {
    let space = if drops { None } else { Some(' ') };
    text.chars()
        .filter_map(|character| if character == replacement { space } else { Some(character) })
        .collect()
}

/// Takes up to `start` and `stop` of a character away; the library panics where both meet.
fn strip(text: &str, content: char, start: usize, stop: usize) -> String {
    let mut rest = text;
    for _ in 0..start {
        let Some(after) = rest.strip_prefix(content) else { break };
        rest = after;
    }
    for _ in 0..stop {
        let Some(before) = rest.strip_suffix(content) else { break };
        rest = before;
    }
    rest.to_owned()
}

/// Replaces what is found, and leaves in `held` what may be the beginning of a find.
fn replace_ready(held: &mut String, pattern: &str, content: &str) -> String {
    let mut ready = String::new();
    let mut rest = held.as_str();
    while let Some(at) = rest.find(pattern) {
        ready += &rest[..at];
        ready += content;
        rest = &rest[at + pattern.len()..];
    }
    let possible = (0..rest.len())
        .filter(|at| rest.is_char_boundary(*at) && rest.len() - at < pattern.len())
        .find(|at| pattern.starts_with(&rest[*at..]));
    let (sure, unsure) = rest.split_at(possible.unwrap_or(rest.len()));
    ready += sure;
    let unsure = unsure.to_owned();
    *held = unsure;
    ready
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::guarded;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
    use serde_json::{Value, json};

    fn decoder(value: Value) -> DecoderWrapper {
        serde_json::from_value(value).unwrap()
    }

    fn streamed(decoder: Option<&DecoderWrapper>, tokens: &[&str]) -> String {
        let mut chain = Chain::new(decoder);
        let mut text: String =
            tokens.iter().map(|token| chain.push((*token).to_owned()).unwrap()).collect();
        text += &chain.finish().unwrap();
        text
    }

    /// Every chain of two or three stages, over lists of tokens drawn at random.
    #[test]
    fn any_chain_gives_what_the_library_gives() {
        let stages = [
            json!({ "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true }),
            json!({ "type": "ByteFallback" }),
            json!({ "type": "Fuse" }),
            json!({ "type": "Strip", "content": " ", "start": 1, "stop": 0 }),
            json!({ "type": "Replace", "pattern": { "String": "▁" }, "content": " " }),
            json!({ "type": "Replace", "pattern": { "String": "aba" }, "content": "<0x41>" }),
            json!({ "type": "Replace", "pattern": { "Regex": "a+b" }, "content": "Z" }),
            json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true }),
            json!({ "type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": true }),
            json!({ "type": "WordPiece", "prefix": "##", "cleanup": true }),
            json!({ "type": "BPEDecoder", "suffix": "</w>" }),
            json!({ "type": "CTC", "pad_token": "<pad>", "word_delimiter_token": "|", "cleanup": true }),
        ];
        let tokens = [
            "a", "b", "ab", "aba", "##a", "##", "▁", "▁a", " ", "a ", " .", ".", "</w>", "a</w>",
            "b</w>a", "<0x41>", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "<0x0A>", "<0xZZ>", "<0x",
            "Ġ", "Ċ", "Ã", "©", "ð", "Ł", "é", "🙂", "<pad>", "|", "n't", " do", " not", "",
            "\u{fffd}",
        ];
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let mut draw = |count: usize| random.next_u32() as usize % count;
        let mut compared = 0;
        for round in 0..6000 {
            let chosen: Vec<Value> =
                (0..1 + draw(3)).map(|_| stages[draw(stages.len())].clone()).collect();
            let list: Vec<&str> = (0..1 + draw(12)).map(|_| tokens[draw(tokens.len())]).collect();
            let decoder = decoder(json!({ "type": "Sequence", "decoders": chosen }));
            let owned = list.iter().map(|token| (*token).to_owned()).collect();
            // The library subtracts from zero where a stage leaves the list of a later one empty.
            let Ok(whole) = guarded(|| decoder.decode(owned).unwrap()) else { continue };
            assert_eq!(streamed(Some(&decoder), &list), whole, "{round}: {list:?} {chosen:?}");
            compared += 1;
        }
        assert!(compared > 4000, "{compared}");
    }

    #[test]
    fn spaces_at_both_ends_are_stripped_without_a_panic() {
        let fused = |stop: usize| {
            decoder(json!({ "type": "Sequence", "decoders": [
                { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": stop },
            ]}))
        };
        assert_eq!(streamed(Some(&fused(2)), &["  a ", " ", " b", " ", "  "]), " a   b ");
        assert_eq!(streamed(Some(&fused(9)), &[" ", " "]), "");
        let alone = decoder(json!({ "type": "Strip", "content": " ", "start": 1, "stop": 5 }));
        assert_eq!(streamed(Some(&alone), &["  ", " a "]), "a");
    }

    #[test]
    fn what_is_certain_comes_at_once() {
        let llama = decoder(json!({ "type": "Sequence", "decoders": [
            { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
            { "type": "ByteFallback" },
            { "type": "Fuse" },
            { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
        ]}));
        let mut chain = Chain::new(Some(&llama));
        let parts: Vec<String> = ["▁Hello", "<0x0A>", "<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "▁w"]
            .map(|token| chain.push(token.to_owned()).unwrap())
            .into();
        assert_eq!(parts, ["Hello", "", "", "", "", "", "\n🙂 w"]);
        assert_eq!(streamed(None, &["a", "b"]), "a b");
    }
}
