//! Long texts to tokens by pieces.
//!
//! Pieces overlap. Where the tokens of two neighbours agree over the middle half of what they share,
//! in ids and places, what comes after is taken from the second piece: there both are far from their
//! ends, and what the tokenizer does at a place depends on its surroundings alone. Where they do not
//! agree, the piece is made longer until they do, so that also a text without any place to cut, such
//! as one word of many megabytes, gives the tokens of the whole.

use crate::Tokenizer;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// Bytes that are read for a piece.
const PIECE: usize = 512 << 10;
/// Bytes that neighbours share, at least.
const OVERLAP: usize = 16 << 10;
/// Bytes of the longest piece.
const LARGEST: usize = 24 << 20;
/// Fewer tokens in the middle of the overlap prove nothing.
const FEWEST: usize = 16;

/// A token with its place in the text, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Placed {
    id: u32,
    start: u64,
    end: u64,
}

/// Where text comes from, about as many bytes at a time as are asked for; none at the end.
trait Source {
    fn more(&mut self, bytes: usize) -> Result<Option<String>>;
}

impl Source for &str {
    fn more(&mut self, bytes: usize) -> Result<Option<String>> {
        if self.is_empty() {
            return Ok(None);
        }
        let (now, later) = self.split_at(boundary(self, bytes.min(self.len())));
        *self = later;
        Ok(Some(now.to_owned()))
    }
}

/// The next place from `at` on where a character begins.
fn boundary(text: &str, at: usize) -> usize {
    (at..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len())
}

/// The tokens of a long text, without what the tokenizer puts around it, piece after piece: together
/// those of the whole text at once.
pub struct Pieces<'a> {
    tokenizer: &'a Tokenizer,
    source: Box<dyn Source + 'a>,
    /// What is tokenized at once, and where it begins in the text.
    piece: String,
    begin: u64,
    /// Tokens of the piece, from `cut` on; what is before is given out.
    tokens: Vec<Placed>,
    cut: u64,
    ended: bool,
    /// Bytes of a piece that is new.
    size: usize,
}

impl<'a> Pieces<'a> {
    /// The tokens of a text in memory.
    pub fn of_text(tokenizer: &'a Tokenizer, text: &'a str) -> Self {
        Self::new(tokenizer, Box::new(text), PIECE)
    }

    /// The tokens of a text in a file.
    pub fn of_file(tokenizer: &'a Tokenizer, file: &'a mut TextFile) -> Self {
        Self::new(tokenizer, Box::new(file), PIECE)
    }

    fn new(tokenizer: &'a Tokenizer, source: Box<dyn Source + 'a>, size: usize) -> Self {
        Self {
            tokenizer,
            source,
            piece: String::new(),
            begin: 0,
            tokens: Vec::new(),
            cut: 0,
            ended: false,
            size,
        }
    }

    /// Bytes of the text whose tokens were given out.
    pub fn bytes(&self) -> u64 {
        self.cut
    }

    /// The next tokens; none at the end of the text.
    ///
    /// # Errors
    /// The text cannot be read or tokenized, or tokens depend on text that is megabytes away.
    #[expect(clippy::should_implement_trait, reason = "it can fail, and lends nothing")]
    pub fn next(&mut self) -> Result<Option<Vec<u32>>> {
        if self.ended {
            return Ok(None);
        }
        if self.begin == 0 && self.piece.is_empty() {
            self.read()?;
            self.tokens = self.tokenize(&self.piece, self.begin)?;
        }
        let mut overlap = OVERLAP.min(self.size / 2);
        loop {
            if self.ended {
                self.cut = self.begin + self.piece.len() as u64;
                return Ok(Some(
                    std::mem::take(&mut self.tokens).iter().map(|token| token.id).collect(),
                ));
            }
            let from = boundary(&self.piece, self.piece.len().saturating_sub(overlap));
            let (shared, end) = (self.begin + from as u64, self.begin + self.piece.len() as u64);
            let old = self.piece.len();
            self.read()?;
            if self.ended && self.piece.len() == old {
                continue;
            }
            let next = self.tokenize(&self.piece[from..], shared)?;
            if let Some((ours, theirs)) = seam(&self.tokens, &next, shared, end) {
                let rest = next[theirs..].to_vec();
                let given = std::mem::replace(&mut self.tokens, rest);
                self.cut = given[ours].start;
                self.piece.drain(..from);
                self.begin = shared;
                return Ok(Some(given[..ours].iter().map(|token| token.id).collect()));
            }
            // The piece as a whole, up to where the text is known now.
            if self.piece.len() > LARGEST {
                return Err(self.no_seam());
            }
            let whole = self.tokenize(&self.piece, self.begin)?;
            let after = whole.iter().position(|token| token.start >= self.cut);
            self.tokens = match after {
                _ if self.cut == self.begin => whole,
                Some(at) if whole[at].start == self.cut => whole[at..].to_vec(),
                _ => return Err(self.no_seam()),
            };
            overlap = (overlap * 4).min(self.piece.len() / 2);
        }
    }

    fn no_seam(&self) -> Error {
        Error::new(
            codes::PROMPT_INVALID,
            format!(
                "the text cannot be tokenized by pieces: from byte {} on, tokens depend on text that is megabytes away",
                self.cut
            ),
        )
        .with_hint("shorten the text, or break its long lines")
    }

    fn read(&mut self) -> Result<()> {
        match self.source.more(self.size)? {
            Some(text) => self.piece += &text,
            None => self.ended = true,
        }
        Ok(())
    }

    fn tokenize(&self, text: &str, begin: u64) -> Result<Vec<Placed>> {
        let encoding = self.tokenizer.encoding(text, false)?;
        let places = encoding.get_offsets().iter();
        let placed = |(id, (start, end)): (&u32, &(usize, usize))| Placed {
            id: *id,
            start: begin + *start as u64,
            end: begin + *end as u64,
        };
        Ok(encoding.get_ids().iter().zip(places).map(placed).collect())
    }
}

/// The token, by its index in both lists, from which on the second list counts: in the middle of
/// what the pieces share, if all tokens in the middle half are the same.
fn seam(first: &[Placed], second: &[Placed], from: u64, to: u64) -> Option<(usize, usize)> {
    let quarter = (to - from) / 4;
    let middle = |tokens: &[Placed]| {
        let begin = tokens.iter().position(|token| token.start >= from + quarter)?;
        let count = tokens[begin..].iter().take_while(|token| token.start < to - quarter).count();
        Some(begin..begin + count)
    };
    let (ours, theirs) = (middle(first)?, middle(second)?);
    if ours.len() < FEWEST || first[ours.clone()] != second[theirs.clone()] {
        return None;
    }
    // Several tokens may share a place, such as the bytes of a character: not between those.
    let begins = |index: &usize| first[*index - 1].end <= first[*index].start;
    let index = (ours.start + ours.len() / 2..ours.end).find(begins)?;
    Some((index, theirs.start + (index - ours.start)))
}

/// A text in UTF-8 that is read by pieces, with its line ends as `\n`.
#[derive(Debug)]
pub struct TextFile {
    path: PathBuf,
    file: File,
    size: u64,
    /// Bytes that were read.
    position: u64,
    /// Bytes that are no whole character yet, or a carriage return whose successor is not known.
    rest: Vec<u8>,
}

impl TextFile {
    /// Opens a regular file.
    ///
    /// # Errors
    /// It cannot be opened, or is no regular file.
    pub fn open(path: &Path) -> Result<Self> {
        let failed = |source: std::io::Error| unusable(path, &source.to_string());
        let file = anemll_files::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok(Self { path: path.to_owned(), file, size, position: 0, rest: Vec::new() })
    }

    /// Bytes of the file when it was opened.
    pub fn size(&self) -> u64 {
        self.size
    }
}

fn unusable(path: &Path, reason: &str) -> Error {
    Error::new(codes::EVALUATION_INPUT, format!("the text cannot be used: {reason}"))
        .with_at(path.display().to_string())
}

impl Source for &mut TextFile {
    fn more(&mut self, bytes: usize) -> Result<Option<String>> {
        let mut text = std::mem::take(&mut self.rest);
        let begin = self.position - text.len() as u64;
        let read = (&self.file)
            .take(bytes as u64)
            .read_to_end(&mut text)
            .map_err(|source| unusable(&self.path, &source.to_string()))?;
        self.position += read as u64;
        if text.is_empty() {
            return Ok(None);
        }
        let at_end = read == 0;
        let valid = match std::str::from_utf8(&text) {
            Ok(_) => text.len(),
            Err(error) if error.error_len().is_none() && !at_end => error.valid_up_to(),
            Err(error) => {
                let place = begin + error.valid_up_to() as u64;
                return Err(unusable(
                    &self.path,
                    &format!("it is not UTF-8, from byte {place} on"),
                ));
            }
        };
        let split_line = !at_end && text[..valid].ends_with(b"\r");
        self.rest = text.split_off(valid - usize::from(split_line));
        let text =
            String::from_utf8(text).map_err(|error| unusable(&self.path, &error.to_string()))?;
        Ok(Some(if text.contains('\r') { text.replace("\r\n", "\n") } else { text }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

    fn tokenizer(name: &str) -> Tokenizer {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests");
        if name != "spm" {
            return Tokenizer::open(&tests.join("models").join(name)).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let json = tests.join("reference/tokenizers/spm.json");
        std::fs::copy(json, folder.path().join("tokenizer.json")).unwrap();
        Tokenizer::open(folder.path()).unwrap()
    }

    fn by_pieces(tokenizer: &Tokenizer, text: &str, size: usize) -> (Vec<u32>, usize) {
        let mut pieces = Pieces::new(tokenizer, Box::new(text), size);
        let (mut ids, mut count) = (Vec::new(), 0);
        while let Some(more) = pieces.next().unwrap() {
            ids.extend(more);
            count += 1;
        }
        assert_eq!(pieces.bytes(), text.len() as u64);
        (ids, count)
    }

    fn texts() -> Vec<String> {
        let mut random = ChaCha8Rng::seed_from_u64(4);
        let words = [
            "the",
            "king",
            "don't",
            "日本語",
            "🙂",
            "a",
            "\n\n",
            "  ",
            "x1984",
            "<|end_of_text|>",
            "ü",
        ];
        let mut drawn = String::new();
        while drawn.len() < 40_000 {
            drawn += words[random.next_u32() as usize % words.len()];
            if random.next_u32() % 3 > 0 {
                drawn += " ";
            }
        }
        vec![
            drawn,
            "the".repeat(10_000),
            "a".repeat(30_000),
            " ".repeat(20_000) + "x",
            "日本語🙂".repeat(2_000),
            "One day the old man went into the wood. ".repeat(900),
            String::new(),
        ]
    }

    #[test]
    fn pieces_have_the_tokens_of_the_whole() {
        for name in ["tiny-llama", "tiny-qwen2", "spm"] {
            let tokenizer = tokenizer(name);
            for text in texts() {
                let whole = tokenizer.encode(&text, false).unwrap();
                let (ids, count) = by_pieces(&tokenizer, &text, 3000);
                let start: String = text.chars().take(20).collect();
                assert_eq!(ids, whole, "{name}: {start}");
                assert!(count > 2 || text.is_empty(), "{name}: {count} pieces of {start}");
            }
        }
    }

    #[test]
    fn files_are_read_with_one_kind_of_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        std::fs::write(&path, "é\r\n\r日\r\r\nx\r").unwrap();
        for size in 1..9 {
            let mut file = TextFile::open(&path).unwrap();
            let mut text = String::new();
            while let Some(more) = (&mut file).more(size).unwrap() {
                text += &more;
            }
            assert_eq!(text, "é\n\r日\r\nx\r", "{size}");
        }
        std::fs::write(&path, b"abc\xff").unwrap();
        for size in [1, 9] {
            let mut file = TextFile::open(&path).unwrap();
            let error = loop {
                match (&mut file).more(size) {
                    Ok(more) => assert!(more.is_some()),
                    Err(error) => break error,
                }
            };
            assert!(error.message.contains("not UTF-8, from byte 3 on"), "{error}");
        }
        assert!(TextFile::open(folder.path()).is_err());
    }
}
