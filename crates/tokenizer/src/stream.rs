//! Text of a growing list of tokens.

use crate::Tokenizer;
use crate::decoder::Chain;
use crate::guard::guarded;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};

/// The text that an answer adds to its prompt, token after token.
///
/// All parts together are the text of prompt and answer, decoded at once, without the prompt's
/// beginning. A part comes as soon as no later token can change it: a character of several tokens
/// when it is complete. The work for a token does not grow with the answer.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    chain: Chain,
    /// What the prompt ends with, still to come out of the chain.
    known: String,
}

impl<'a> TextStream<'a> {
    /// A stream of what follows `prompt`.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn new(tokenizer: &'a Tokenizer, prompt: &[u32]) -> Result<Self> {
        let chain = Chain::new(tokenizer.inner.get_decoder());
        let mut stream = Self { tokenizer, chain, known: String::new() };
        for token in prompt {
            stream.advance(*token)?;
        }
        let mut end = stream.chain.clone();
        stream.known = checked(|| end.finish())?;
        Ok(stream)
    }

    /// The text that `token` makes certain; special tokens have none.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn push(&mut self, token: u32) -> Result<String> {
        let text = self.advance(token)?;
        Ok(self.without_known(text))
    }

    /// What is left at the end, such as a replacement character for one that is incomplete.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn finish(mut self) -> Result<String> {
        let text = checked(|| self.chain.finish())?;
        Ok(self.without_known(text))
    }

    fn advance(&mut self, token: u32) -> Result<String> {
        match self.tokenizer.visible(token) {
            Some(text) => checked(|| self.chain.push(text)),
            None => Ok(String::new()),
        }
    }

    fn without_known(&mut self, text: String) -> String {
        if self.known.is_empty() || text.is_empty() {
            return text;
        }
        let shared = shared_prefix(&self.known, &text);
        // Where the prompt's end became another text, all of what it became is shown.
        self.known =
            if shared == text.len() { self.known.split_off(shared) } else { String::new() };
        text[shared..].to_owned()
    }
}

/// Bytes that two texts have in common at their beginning, in whole characters.
fn shared_prefix(left: &str, right: &str) -> usize {
    let same = left.chars().zip(right.chars()).take_while(|(left, right)| left == right);
    same.map(|(character, _)| character.len_utf8()).sum()
}

fn checked(work: impl FnOnce() -> std::result::Result<String, String>) -> Result<String> {
    guarded(work).and_then(|result| result).map_err(|reason| {
        Error::new(codes::TOKENIZER_FAILED, format!("tokens cannot be decoded: {reason}"))
    })
}
