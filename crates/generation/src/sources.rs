//! Where the tokens of a measure come from: a list, or a text that is read as far as it is needed.

use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;
use anemll_tokenizer::{Pieces, TextFile, Tokenizer};
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read as _};
use std::path::Path;

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

/// Bytes of the longest line.
const LONGEST_LINE: u64 = 16 << 20;

/// Gives each line of a file, `-` for standard input, that is more than white space.
///
/// # Errors
/// [`codes::EVALUATION_INPUT`] for a file that cannot be read, a line that is too long or no UTF-8; those
/// of `each`.
pub fn lines(path: &Path, each: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let failed = |what: String| {
        Error::new(codes::EVALUATION_INPUT, what).with_at(path.display().to_string())
    };
    let mut source: Box<dyn BufRead> = if path == Path::new("-") {
        Box::new(std::io::stdin().lock())
    } else {
        let file = anemll_files::open(path);
        Box::new(BufReader::new(file.map_err(|error| failed(format!("cannot be read: {error}")))?))
    };
    for number in 1_u64.. {
        check_cancelled()?;
        let mut line = Vec::new();
        let read = source.by_ref().take(LONGEST_LINE + 1).read_until(b'\n', &mut line);
        if read.map_err(|error| failed(format!("line {number} cannot be read: {error}")))? == 0 {
            break;
        }
        if line.len() as u64 > LONGEST_LINE {
            return Err(failed(format!("line {number} has more than {LONGEST_LINE} bytes")));
        }
        let text = std::str::from_utf8(&line);
        let text = text.map_err(|_| failed(format!("line {number} is not UTF-8 text")))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if !text.trim().is_empty() {
            each(text)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_texts_and_what_is_none_is_named() {
        let read = |bytes: &[u8]| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("texts");
            std::fs::write(&path, bytes).unwrap();
            let mut found = Vec::new();
            let result = lines(&path, &mut |text| {
                found.push(text.to_owned());
                Ok(())
            });
            result.map(|()| found)
        };
        assert_eq!(read(b"one\r\n\n  \n two").unwrap(), ["one", " two"]);
        assert_eq!(read(b"").unwrap(), [""; 0]);
        assert!(read(b"one\n\xff").unwrap_err().message.contains("line 2 is not UTF-8"));
    }
}
