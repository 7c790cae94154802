//! Which guessed parts of the text a model needs.

use coreml_proto::Model;

/// A part of a model's text that no output of Apple's compiler has shown yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// What is guessed, in one phrase.
    pub what: &'static str,
    /// Where the model needs it first: function, and value or input.
    pub place: String,
    /// What speaks for the guess.
    pub evidence: &'static str,
}

/// The guessed parts of the text that [`super::write`] makes of a model, each with its first place.
/// Empty where every form was seen in Apple's output. Parts that cannot be written are left out.
pub fn guesses(_model: &Model) -> Vec<Guess> {
    Vec::new()
}
