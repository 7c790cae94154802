//! Where the tokens of a measure come from: a list, or a text that is read as far as it is needed.

use anemll_plugin_api::Result;
use anemll_services::check_cancelled;
use anemll_tokenizer::{Pieces, TextFile, Tokenizer};
use std::cell::Cell;

/// About, to say how far a text is read.
const BYTES_OF_A_TOKEN: f64 = 4.0;

/// Where the tokens of a text come from.
pub trait Source {
    /// What every window begins with, such as a token for the beginning of a text.
    fn lead(&self) -> &[u32];

    /// The next `count` tokens of the text; fewer at its end.
    ///
    /// # Errors
    /// The text cannot be read or tokenized.
    fn take(&mut self, count: usize) -> Result<Vec<u32>>;
}

/// Token ids that are all there.
#[derive(Debug, Clone, Default)]
pub struct List {
    lead: Vec<u32>,
    tokens: Vec<u32>,
    given: usize,
}

impl List {
    /// These tokens, in windows that begin with `lead`.
    pub fn new(lead: Vec<u32>, tokens: Vec<u32>) -> Self {
        Self { lead, tokens, given: 0 }
    }
}

impl Source for List {
    fn lead(&self) -> &[u32] {
        &self.lead
    }

    fn take(&mut self, count: usize) -> Result<Vec<u32>> {
        let rest = &self.tokens[self.given..];
        let part = rest[..count.min(rest.len())].to_vec();
        self.given += part.len();
        Ok(part)
    }
}

/// A text that is tokenized as far as it is needed.
pub struct Text<'a> {
    lead: Vec<u32>,
    pieces: Pieces<'a>,
    /// Tokens of the last pieces, of which `given` are given out.
    ready: Vec<u32>,
    given: usize,
    /// Tokens that are still asked for.
    left: u64,
    /// Bytes of the text that were given out as tokens.
    read: &'a Cell<f64>,
}

impl<'a> Text<'a> {
    /// At most `most` tokens of a file. `read` always has about the bytes of the text that were given
    /// out as tokens.
    ///
    /// # Errors
    /// The tokenizer's.
    pub fn new(
        tokenizer: &'a Tokenizer,
        file: &'a mut TextFile,
        most: u64,
        read: &'a Cell<f64>,
    ) -> Result<Self> {
        Ok(Self {
            lead: tokenizer.lead()?,
            pieces: Pieces::of_file(tokenizer, file),
            ready: Vec::new(),
            given: 0,
            left: most,
            read,
        })
    }
}

impl Source for Text<'_> {
    fn lead(&self) -> &[u32] {
        &self.lead
    }

    fn take(&mut self, count: usize) -> Result<Vec<u32>> {
        let count = count.min(usize::try_from(self.left).unwrap_or(usize::MAX));
        while self.ready.len() - self.given < count {
            check_cancelled()?;
            let Some(more) = self.pieces.next()? else { break };
            self.ready.drain(..self.given);
            self.given = 0;
            self.ready.extend(more);
        }
        let rest = &self.ready[self.given..];
        let part = rest[..count.min(rest.len())].to_vec();
        // Bytes by the share of tokens: a piece has many of both.
        let waiting = (rest.len() - part.len()) as f64 * BYTES_OF_A_TOKEN;
        self.read.set((self.pieces.bytes() as f64 - waiting).max(0.0));
        self.given += part.len();
        self.left -= part.len() as u64;
        Ok(part)
    }
}
