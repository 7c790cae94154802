//! The line after an answer.

use anemll_generation::generation::{Answer, End, Guesses};

/// How long an answer took, and why it ended where that is not the model's own end.
pub fn summary(answer: &Answer) -> String {
    let end = match answer.end {
        End::Stop => "",
        End::Count => "; ended by --max-tokens",
        End::Context => "; the context is full",
        End::Interrupted => "; interrupted",
    };
    let guesses = match answer.guesses {
        Guesses { made: 0, .. } => String::new(),
        Guesses { made, right } => format!("; {right} of {made} guesses right"),
    };
    format!(
        "[{} tokens, {:.1} per second{guesses}; prompt of {} tokens in {:.2} s{end}]",
        answer.tokens,
        answer.rate(),
        answer.prompt_tokens,
        answer.prompt_seconds
    )
}
