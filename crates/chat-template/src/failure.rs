//! What a template does wrong, in a form that goes from one process to another.

use anemll_codes as codes;
use anemll_plugin_api::Error;
use serde::{Deserialize, Serialize};

/// Characters of a reason that are kept.
const LONGEST_REASON: usize = 400;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Kind {
    /// The source is no template.
    Invalid,
    /// The source does not compile.
    Compile,
    /// Rendering fails.
    Render,
    /// The template refuses the conversation by `raise_exception`.
    Refused,
    /// The template needs more than it may have.
    Limit,
    /// The process or thread that renders does not do what it should.
    Process,
}

/// A failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) kind: Kind,
    pub(crate) line: Option<usize>,
    pub(crate) reason: String,
}

impl Failure {
    /// A failure; a long reason is cut, and what a terminal would obey is left out of it.
    pub(crate) fn new(kind: Kind, line: Option<usize>, reason: &str) -> Self {
        let mut reason: String = reason
            .chars()
            .map(|character| if character.is_control() { ' ' } else { character })
            .take(LONGEST_REASON + 1)
            .collect();
        if reason.chars().count() > LONGEST_REASON {
            reason.pop();
            reason.push('…');
        }
        Self { kind, line, reason }
    }

    /// The error for users; `at` says where the template is from.
    pub(crate) fn into_error(self, at: &str) -> Error {
        let Self { kind, line, reason } = self;
        let line = line.map_or_else(String::new, |line| format!(" at line {line}"));
        let (code, message) = match kind {
            Kind::Invalid => {
                (codes::TEMPLATE_INVALID, format!("the chat template cannot be used: {reason}"))
            }
            Kind::Compile => (
                codes::TEMPLATE_INVALID,
                format!("the chat template does not compile{line}: {reason}"),
            ),
            Kind::Render => {
                (codes::TEMPLATE_INVALID, format!("the chat template fails{line}: {reason}"))
            }
            Kind::Limit => {
                (codes::TEMPLATE_LIMIT, format!("the chat template is stopped{line}: {reason}"))
            }
            Kind::Refused => {
                let message =
                    format!("the model's chat template refuses the conversation: {reason}");
                return Error::new(codes::PROMPT_INVALID, message)
                    .with_at(at)
                    .with_hint("--no-template runs the text as it is");
            }
            Kind::Process => {
                (codes::TEMPLATE_PROCESS, format!("the chat template cannot be rendered: {reason}"))
            }
        };
        Error::new(code, message)
            .with_at(at)
            .with_hint("--no-template does without a chat template")
    }
}
