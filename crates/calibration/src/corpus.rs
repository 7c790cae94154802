//! The tokens that a model is calibrated with: texts cut into windows.

use anemll_codes as codes;
use anemll_files::Limit;
use anemll_generation::chat_template::{self, ChatTemplate, Message};
use anemll_plugin_api::{Error, Result};
use anemll_tokenizer::Tokenizer;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::path::Path;

/// Texts of several kinds, which were written for this purpose.
const BUILT_IN: [(&str, &str); 4] = [
    ("prose", include_str!("../text/prose.txt")),
    ("languages", include_str!("../text/languages.txt")),
    ("code", include_str!("../text/code.txt")),
    ("mathematics", include_str!("../text/mathematics.txt")),
];
/// Conversations: a list of lists of messages.
const DIALOGUES: &str = include_str!("../text/dialogues.json");
/// What no calibration uses.
const HELD_OUT: [&str; 2] =
    [include_str!("../text/held_out.txt"), include_str!("../text/held_out.json")];
/// Prompts. Calibrations run them up to where the answer begins, and where it is asked for, with answers
/// that the model writes itself.
const QUESTIONS: &str = include_str!("../text/questions.txt");
/// Tokens of the held-out text that conversions are judged by, and bits chosen.
const JUDGED: usize = 768;
/// Most tokens of a window of them.
const JUDGED_WINDOW: usize = 256;
/// Tokens that stay together where kinds of text alternate.
const PIECE: usize = 192;
/// The largest text that is read.
const LARGEST: Limit = Limit::new("a text", 1_000_000_000);

/// Some tokens of one kind of text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    tokens: Vec<u32>,
}

/// The tokens of a calibration: windows of at most as many tokens as the context has, each of which
/// begins anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corpus {
    windows: Vec<Vec<u32>>,
    /// Tokens that there would have been.
    available: usize,
}

/// Kinds of text, each a sequence of tokens.
#[derive(Debug, Default)]
struct Kinds(Vec<Vec<u32>>);

/// SHA-256 over the built-in texts, in lower-case hexadecimal: others make other statistics.
pub fn built_in_sha256() -> String {
    let mut hash = Sha256::new();
    let texts = BUILT_IN.iter().map(|(_, text)| *text);
    for text in texts.chain([DIALOGUES, QUESTIONS]).chain(HELD_OUT) {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    hex::encode(hash.finalize())
}

impl Corpus {
    /// At most `tokens` tokens of the built-in texts, all kinds alike: prose, code, mathematics,
    /// several languages, conversations as the model's chat template writes them, questions up to where
    /// their answers begin, and `more`.
    ///
    /// # Errors
    /// The tokenizer's. A chat template that refuses a conversation leaves it as plain text.
    pub fn built_in(
        tokenizer: &Tokenizer,
        more: &[Piece],
        tokens: usize,
        context: usize,
    ) -> Result<Self> {
        let mut kinds = Kinds::built_in(tokenizer)?;
        kinds.0.push(more.iter().flat_map(|piece| piece.tokens.clone()).collect());
        kinds.corpus(&tokenizer.lead()?, tokens, context)
    }

    /// At most `tokens` tokens of texts of the user's, and of `more` pieces, all texts alike.
    /// `chat`: a file is one message of a user's, or, as JSON, a list of conversations. `built_in`: the
    /// built-in texts are among them.
    ///
    /// # Errors
    /// A text cannot be read or tokenized, or all of them have fewer tokens than the context.
    pub fn of_files(
        tokenizer: &Tokenizer,
        paths: &[impl AsRef<Path>],
        chat: bool,
        built_in: bool,
        more: &[Piece],
        tokens: usize,
        context: usize,
    ) -> Result<Self> {
        let mut kinds = if built_in { Kinds::built_in(tokenizer)? } else { Kinds::default() };
        for path in paths {
            let path = path.as_ref();
            let at = |reason: String| {
                Error::new(codes::CALIBRATION_INPUT, reason).with_at(path.display().to_string())
            };
            let text = anemll_files::read_text(path, LARGEST)
                .map_err(|source| at(format!("the text cannot be read: {source}")))?;
            let found = match chat {
                false => tokenizer.encode(&text, false)?,
                true if text.trim_start().starts_with('[') => conversations(tokenizer, &text)
                    .map_err(|error| error.with_at(path.display().to_string()))?,
                true => {
                    let template = chat_template::open(tokenizer)?;
                    let message = vec![Message::new("user", text)];
                    conversation(tokenizer, template.as_ref(), &message)?
                }
            };
            kinds.0.push(found);
        }
        kinds.0.push(more.iter().flat_map(|piece| piece.tokens.clone()).collect());
        let whole: usize = kinds.0.iter().map(Vec::len).sum();
        if whole < context {
            return Err(Error::new(
                codes::CALIBRATION_INPUT,
                format!("the texts have {whole} tokens, fewer than the context of {context}"),
            )
            .with_hint("give a longer text with --text, or leave it out for the built-in one"));
        }
        kinds.corpus(&tokenizer.lead()?, tokens, context)
    }

    /// The beginning of the built-in text that no calibration uses: bits are chosen by it, and
    /// conversions judged.
    ///
    /// # Errors
    /// The tokenizer's, or a window has no room for a token.
    pub fn judged(tokenizer: &Tokenizer, context: usize) -> Result<Self> {
        Kinds::held_out(tokenizer)?.judged(&tokenizer.lead()?, context)
    }

    /// What of that text is behind [`Self::judged`], whatever the context, at most `tokens` of it: no
    /// conversion has seen it.
    ///
    /// # Errors
    /// The tokenizer's, or a window has no room for a token.
    pub fn unseen(tokenizer: &Tokenizer, tokens: usize, context: usize) -> Result<Self> {
        Kinds::held_out(tokenizer)?.unseen(&tokenizer.lead()?, tokens, context)
    }

    /// Windows of tokens that are given, each with `lead` before them.
    ///
    /// # Errors
    /// A window has no room for a token.
    pub fn of_tokens(lead: &[u32], tokens: &[u32], context: usize) -> Result<Self> {
        let windows = windows(lead, tokens, context)?;
        Ok(Self { windows, available: tokens.len() })
    }

    /// The first `count` of the built-in prompts, for answers that a model writes itself.
    pub fn questions(count: usize) -> impl Iterator<Item = &'static str> {
        QUESTIONS.lines().map(str::trim).filter(|line| !line.is_empty()).take(count)
    }

    /// The windows, each with what the tokenizer puts before a text.
    pub fn windows(&self) -> &[Vec<u32>] {
        &self.windows
    }

    /// Tokens of all windows.
    pub fn tokens(&self) -> u64 {
        self.windows.iter().map(|window| window.len() as u64).sum()
    }

    /// Tokens that the texts have.
    pub fn available(&self) -> usize {
        self.available
    }

    /// SHA-256 over the tokens of each window, in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        for window in &self.windows {
            hash.update((window.len() as u64).to_le_bytes());
            hash.update(bytemuck::cast_slice(window));
        }
        hex::encode(hash.finalize())
    }
}

impl Piece {
    /// A question, up to where the answer begins.
    ///
    /// # Errors
    /// The tokenizer's or the template's.
    pub fn asked(
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
        question: &str,
    ) -> Result<Self> {
        let messages = [Message::new("user", question)];
        Ok(Self { tokens: conversation(tokenizer, template, &messages)? })
    }

    /// Its tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// A question with the answer that a model gave, as its chat template writes them.
    ///
    /// # Errors
    /// The tokenizer's or the template's.
    pub fn answered(
        tokenizer: &Tokenizer,
        template: Option<&ChatTemplate>,
        question: &str,
        answer: &str,
    ) -> Result<Self> {
        let messages = [Message::new("user", question), Message::new("assistant", answer)];
        Ok(Self { tokens: conversation(tokenizer, template, &messages)? })
    }
}

impl Kinds {
    /// Those that are built in.
    fn built_in(tokenizer: &Tokenizer) -> Result<Self> {
        let mut kinds = Self::default();
        for (_, text) in BUILT_IN {
            kinds.0.push(tokenizer.encode(text, false)?);
        }
        kinds.0.push(conversations(tokenizer, DIALOGUES)?);
        kinds.0.push(questions(tokenizer)?);
        Ok(kinds)
    }

    /// What no calibration uses.
    fn held_out(tokenizer: &Tokenizer) -> Result<Self> {
        let [text, dialogues] = HELD_OUT;
        Ok(Self(vec![tokenizer.encode(text, false)?, conversations(tokenizer, dialogues)?]))
    }

    fn judged(&self, lead: &[u32], context: usize) -> Result<Corpus> {
        self.corpus(lead, JUDGED, context.min(JUDGED_WINDOW))
    }

    fn unseen(&self, lead: &[u32], tokens: usize, context: usize) -> Result<Corpus> {
        let rest: Vec<u32> = self.stream().skip(JUDGED).take(tokens).collect();
        Corpus::of_tokens(lead, &rest, context)
    }

    fn corpus(&self, lead: &[u32], tokens: usize, context: usize) -> Result<Corpus> {
        let available = self.0.iter().map(Vec::len).sum();
        let stream: Vec<u32> = self.stream().take(tokens).collect();
        Ok(Corpus { windows: windows(lead, &stream, context)?, available })
    }

    /// Pieces of all kinds in turn, those of a kind evenly over the whole, so that any number of
    /// tokens has each kind in its share.
    fn stream(&self) -> impl Iterator<Item = u32> {
        let mut pieces: Vec<(f64, usize, &[u32])> = Vec::new();
        for (kind, all) in self.0.iter().enumerate() {
            // With few tokens, a part of each piece: the beginnings of all, not all of the first.
            let count = all.len().div_ceil(PIECE);
            let cut = all.chunks(PIECE).enumerate();
            pieces.extend(cut.map(|(at, piece)| (spread(at, count), kind, piece)));
        }
        pieces.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        pieces.into_iter().flat_map(|(_, _, piece)| piece.iter().copied())
    }
}

/// Tokens cut into windows of the context, each with `lead` before them.
fn windows(lead: &[u32], tokens: &[u32], context: usize) -> Result<Vec<Vec<u32>>> {
    let room = context.saturating_sub(lead.len());
    if room == 0 {
        return Err(Error::new(
            codes::CALIBRATION_INPUT,
            format!("a context of {context} has no room for a text"),
        )
        .with_hint("take a larger --context"));
    }
    Ok(tokens.chunks(room).map(|window| [lead, window].concat()).collect())
}

/// Where the piece `at` of `count` stands in an order whose beginnings, of any length, have pieces
/// from everywhere: van der Corput's sequence, scaled so that kinds advance alike.
fn spread(at: usize, count: usize) -> f64 {
    let bits = usize::BITS - count.next_power_of_two().leading_zeros();
    let reversed = at.reverse_bits() >> (usize::BITS - bits.max(1));
    reversed as f64 / (1_usize << bits.max(1)) as f64
}

/// The tokens of the built-in questions as the template writes them, one after the other: how an answer
/// begins is the choice that is made most often, and the least certain one. None where a model has no
/// template, and is asked nothing.
fn questions(tokenizer: &Tokenizer) -> Result<Vec<u32>> {
    let Some(template) = chat_template::open(tokenizer)? else { return Ok(Vec::new()) };
    let mut tokens = Vec::new();
    for question in Corpus::questions(usize::MAX) {
        tokens.extend(Piece::asked(tokenizer, Some(&template), question)?.tokens);
    }
    Ok(tokens)
}

/// The tokens of conversations in JSON, one after the other.
fn conversations(tokenizer: &Tokenizer, json: &str) -> Result<Vec<u32>> {
    let all: Vec<Vec<Message>> = serde_json::from_str(json).map_err(|source| {
        Error::new(
            codes::CALIBRATION_INPUT,
            format!("the conversations are not a JSON list of lists of messages: {source}"),
        )
        .with_hint(r#"a message is {"role": "user", "content": "…"}"#)
    })?;
    let template = chat_template::open(tokenizer)?;
    let mut tokens = Vec::new();
    for messages in &all {
        tokens.extend(conversation(tokenizer, template.as_ref(), messages)?);
    }
    Ok(tokens)
}

/// A conversation as the template writes it; without one, or where it refuses the roles, a line for
/// each message.
fn conversation(
    tokenizer: &Tokenizer,
    template: Option<&ChatTemplate>,
    messages: &[Message],
) -> Result<Vec<u32>> {
    let written = template.and_then(|template| template.render(messages, &BTreeMap::new()).ok());
    let text = written.unwrap_or_else(|| {
        messages.iter().map(|message| format!("{}\n", message.content)).collect()
    });
    tokenizer.encode(&text, false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_built_in_texts_are_what_they_should_be() {
        for json in [DIALOGUES, HELD_OUT[1]] {
            let all: Vec<Vec<Message>> = serde_json::from_str(json).unwrap();
            for messages in &all {
                assert!(messages.len() >= 2);
                assert_eq!(messages.last().unwrap().role, "assistant");
            }
        }
        assert!(Corpus::questions(usize::MAX).count() >= 32);
        let held_out: Vec<&str> = HELD_OUT[0].lines().filter(|line| line.len() > 40).collect();
        for line in held_out {
            assert!(BUILT_IN.iter().all(|(_, text)| !text.contains(line)), "{line}");
        }
    }

    #[test]
    fn any_number_of_tokens_has_all_kinds_in_their_shares() {
        let kinds = || Kinds(vec![vec![1; 40 * PIECE], vec![2; 20 * PIECE], vec![3; 9]]);
        let corpus = kinds().corpus(&[0], 12 * PIECE, 100).unwrap();
        let all: Vec<u32> = corpus.windows.concat();
        let count = |kind: u32| all.iter().filter(|token| **token == kind).count();
        assert!(count(1) >= 6 * PIECE && count(2) >= 3 * PIECE && count(3) == 9);
        assert_eq!(
            corpus.windows.iter().filter(|window| window[0] == 0).count(),
            corpus.windows.len()
        );
        assert!(corpus.windows.iter().all(|window| window.len() <= 100));
        assert_eq!(corpus.available(), 60 * PIECE + 9);
        let whole = kinds().corpus(&[], usize::MAX, 512).unwrap();
        assert_eq!(whole.tokens(), (60 * PIECE + 9) as u64);
        assert_ne!(whole.sha256(), corpus.sha256());
        assert!(kinds().corpus(&[0], 5, 1).is_err());
    }

    /// Whatever stands before a text, and however long windows are.
    #[test]
    fn what_is_unseen_is_not_what_conversions_are_judged_by() {
        let kinds = Kinds(vec![(1..1000).collect(), (1000..2000).collect()]);
        for lead in [&[][..], &[0]] {
            for context in [64, 256, 512] {
                let tokens = |corpus: &Corpus| -> BTreeSet<u32> {
                    let windows = corpus.windows().iter();
                    windows.flat_map(|window| window[lead.len()..].to_vec()).collect()
                };
                let judged = kinds.judged(lead, context).unwrap();
                assert!(judged.windows().iter().all(|window| window.len() <= context.min(256)));
                let (judged, unseen) =
                    (tokens(&judged), tokens(&kinds.unseen(lead, usize::MAX, context).unwrap()));
                assert_eq!(judged.len(), JUDGED);
                assert!(judged.is_disjoint(&unseen), "{lead:?} {context}");
                assert_eq!(judged.len() + unseen.len(), 1999);
                assert_eq!(tokens(&kinds.unseen(lead, 9, context).unwrap()).len(), 9);
            }
        }
    }

    #[test]
    fn beginnings_are_from_everywhere() {
        let mut order: Vec<usize> = (0..8).collect();
        order.sort_by(|a, b| spread(*a, 8).total_cmp(&spread(*b, 8)));
        assert_eq!(order, [0, 4, 2, 6, 1, 5, 3, 7]);
    }
}
