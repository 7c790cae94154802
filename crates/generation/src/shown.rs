//! What of a model's tokens is shown: their text, up to a text that ends the answer, without an empty
//! thought.

use crate::stop_texts::StopTexts;
use crate::thought::EmptyThought;
use anemll_plugin_api::Result;
use anemll_tokenizer::{TextStream, Tokenizer};
use std::ops::ControlFlow;

/// The text of an answer, token after token.
#[derive(Debug)]
pub struct Shown<'a> {
    stream: Option<TextStream<'a>>,
    thought: EmptyThought,
    stops: StopTexts,
}

impl<'a> Shown<'a> {
    /// The text that follows `prompt`, until one of `stop` would come.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn new(tokenizer: &'a Tokenizer, prompt: &[u32], stop: &[String]) -> Result<Self> {
        Ok(Self {
            stream: Some(TextStream::new(tokenizer, prompt)?),
            thought: EmptyThought::new(false),
            stops: StopTexts::new(stop),
        })
    }

    /// Leaves out `<think></think>` with nothing inside, at the beginning.
    #[must_use]
    pub fn without_empty_thought(mut self, wanted: bool) -> Self {
        self.thought = EmptyThought::new(wanted);
        self
    }

    /// The text that a token makes certain, for `each`; breaks where the answer ends with it. For
    /// [`crate::generation::Generator::answer_until`].
    ///
    /// # Errors
    /// The tokenizer's decoder or `each` fails.
    pub fn push(
        &mut self,
        token: u32,
        each: &mut dyn FnMut(&str) -> Result<()>,
    ) -> Result<ControlFlow<()>> {
        let Some(stream) = &mut self.stream else { return Ok(ControlFlow::Break(())) };
        let text = self.stops.push(&self.thought.push(&stream.push(token)?));
        each(&text)?;
        Ok(if self.stops.found() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }

    /// What is left at the end: text that was held back because it could have become another one.
    ///
    /// # Errors
    /// The tokenizer's decoder fails.
    pub fn finish(&mut self) -> Result<String> {
        let rest = self.stream.take().map(TextStream::finish).transpose()?.unwrap_or_default();
        let mut text = self.stops.push(&self.thought.push(&rest));
        text += &self.stops.push(&self.thought.finish());
        text += &self.stops.finish();
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_stop_text_of_several_tokens_ends_the_text_before_it() {
        let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny-llama");
        let tokenizer = Tokenizer::open(&models).unwrap();
        let tokens = tokenizer.encode("The king said to the queen", false).unwrap();
        let shown = |stop: &[&str]| {
            let stop: Vec<String> = stop.iter().map(|text| (*text).to_owned()).collect();
            let mut shown = Shown::new(&tokenizer, &[], &stop).unwrap();
            let (mut text, mut taken) = (String::new(), 0);
            for token in &tokens {
                taken += 1;
                let mut each = |part: &str| {
                    text += part;
                    Ok(())
                };
                if shown.push(*token, &mut each).unwrap().is_break() {
                    break;
                }
            }
            text += &shown.finish().unwrap();
            (text, taken)
        };
        assert_eq!(shown(&[]), ("The king said to the queen".to_owned(), tokens.len()));
        let (text, taken) = shown(&["id to t", "queen"]);
        assert_eq!(text, "The king sa");
        assert!(taken < tokens.len());
        // Held back to the end, since it could have become one.
        assert_eq!(shown(&["queens"]).0, "The king said to the queen");
    }
}
