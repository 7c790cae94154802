//! The text that a conversion is compared with its original on.

use anemll_calibration::Corpus;
use anemll_codes as codes;
use anemll_generation::perplexity::too_few;
use anemll_generation::sources::{Source as _, Text};
use anemll_plugin_api::{Error, Result};
use anemll_tokenizer::{TextFile, Tokenizer};
use std::cell::Cell;
use std::path::Path;

/// The name of the text that is built in.
pub const BUILT_IN: &str = "built-in";
/// Tokens that are read at once.
const STEP: usize = 1 << 16;

/// Some tokens of a text.
#[derive(Debug, Clone)]
pub struct Sample {
    name: String,
    lead: Vec<u32>,
    tokens: Vec<u32>,
    words: u64,
}

impl Sample {
    /// At most `most` tokens of a file; of the built-in text that no calibration uses where there is
    /// none.
    ///
    /// # Errors
    /// The text cannot be read or tokenized, or is too short.
    pub fn new(
        tokenizer: &Tokenizer,
        text: Option<&Path>,
        most: u64,
        context: usize,
    ) -> Result<Self> {
        let lead = tokenizer.lead()?;
        let (name, tokens) = match text {
            None => {
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                let corpus = Corpus::unseen(tokenizer, most, context)?;
                let own = corpus.windows().iter().flat_map(|window| &window[lead.len()..]);
                (BUILT_IN.to_owned(), own.copied().collect())
            }
            Some(path) => {
                let name = path.display().to_string();
                let mut file = TextFile::open(path)?;
                let read = Cell::new(0.0);
                let mut source = Text::new(tokenizer, &mut file, most, &read)?;
                let mut tokens: Vec<u32> = Vec::new();
                loop {
                    let part = source.take(STEP).map_err(|error| match error.at {
                        Some(_) => error,
                        None => error.with_at(name.clone()),
                    })?;
                    if part.is_empty() {
                        break;
                    }
                    tokens.extend(part);
                }
                (name, tokens)
            }
        };
        if lead.len() + tokens.len() < 2 {
            return Err(Error::new(codes::EVALUATION_INPUT, too_few(tokens.len() as u64))
                .with_at(name)
                .with_hint("give a longer text"));
        }
        // By pieces: a decoder may take more than linear time.
        let mut words = 0;
        for piece in tokens.chunks(STEP) {
            words += tokenizer.decode(piece)?.split_whitespace().count() as u64;
        }
        Ok(Self { name, lead, tokens, words })
    }

    /// The file, or [`BUILT_IN`].
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the tokenizer puts before a text.
    pub fn lead(&self) -> &[u32] {
        &self.lead
    }

    /// Its tokens.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Its words: what stands between white space.
    pub fn words(&self) -> u64 {
        self.words
    }

    /// How often each token of a vocabulary occurs.
    pub fn counts(&self, vocabulary: u64) -> Vec<f32> {
        let mut counts = vec![0.0; usize::try_from(vocabulary).unwrap_or(0)];
        for token in &self.tokens {
            if let Some(count) = counts.get_mut(*token as usize) {
                *count += 1.0;
            }
        }
        counts
    }

    /// Windows of it, as an evaluation cuts them.
    ///
    /// # Errors
    /// A window has no room for a token.
    pub fn corpus(&self, context: usize) -> Result<Corpus> {
        Corpus::of_tokens(&self.lead, &self.tokens, context)
    }
}
