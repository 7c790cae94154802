//! The chat template of a model: a Jinja template that writes a conversation as one text.
//!
//! Rendered as `apply_chat_template` of transformers renders it: blocks trimmed, values written as
//! Python writes them, Python's methods of texts, lists and dictionaries, the functions
//! `raise_exception` and `strftime_now`, and `{% generation %}`, which marks answers for training
//! and is left out here.
//!
//! A template comes with the model, from whoever made it, and may do anything that Jinja can do:
//! never come to an end, or take all memory. So it is rendered in a process of its own that has
//! limits ([`Sandbox`]): whatever it does, it gives a text or an error.
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! fn main() -> ExitCode {
//!     // First of all: in the process that renders, this is all that happens.
//!     if let Some(code) = anemll_chat_template::enter() {
//!         return code;
//!     }
//!     ExitCode::SUCCESS
//! }
//! ```

mod child;
mod failure;
mod limits;
mod looks;
mod protocol;
mod python;
mod renderer;
mod rewrite;
mod sandbox;
mod worker;

pub use sandbox::{Sandbox, enter};

use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use failure::Failure;
use protocol::Request;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use worker::Worker;

/// Bytes after which a template's output is taken to be endless; far beyond any context.
const LARGEST_TEXT: usize = 16 << 20;

/// Bytes of a template's source, at most; large ones have some ten thousand.
const LARGEST_SOURCE: usize = 1 << 20;

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: Cow<'static, str>,
    /// The text.
    pub content: String,
}

impl Message {
    /// A message.
    pub fn new(role: impl Into<Cow<'static, str>>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A compiled template.
pub struct ChatTemplate {
    source: String,
    tokens: BTreeMap<String, String>,
    at: String,
    sandbox: Sandbox,
    worker: Mutex<Worker>,
}

impl ChatTemplate {
    /// Compiles a template that knows `tokens`, such as `bos_token`, by name. `at` says in errors
    /// where it is from.
    ///
    /// # Errors
    /// The source is no template, does not compile, or needs more than it may have.
    pub fn new(source: &str, tokens: BTreeMap<String, String>, at: &Path) -> Result<Self> {
        Self::with_sandbox(source, tokens, at, Sandbox::default())
    }

    /// As [`Self::new`], in a sandbox of the caller's.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn with_sandbox(
        source: &str,
        tokens: BTreeMap<String, String>,
        at: &Path,
        sandbox: Sandbox,
    ) -> Result<Self> {
        let at = at.display().to_string();
        let error = |failure: Failure| failure.into_error(&at);
        looks::check(source).map_err(error)?;
        let worker = start(source, &tokens, &sandbox).map_err(error)?;
        Ok(Self { source: source.to_owned(), tokens, at, sandbox, worker: Mutex::new(worker) })
    }

    /// Whether the template's text has a name, such as `enable_thinking`.
    pub fn mentions(&self, name: &str) -> bool {
        self.source.contains(name)
    }

    /// The text of a conversation, up to where the next answer begins.
    ///
    /// # Errors
    /// The template refuses the conversation, fails, or needs more than it may have.
    pub fn render(&self, messages: &[Message], variables: &BTreeMap<&str, bool>) -> Result<String> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| json!({ "role": message.role, "content": message.content }))
            .collect();
        let variables =
            variables.iter().map(|(name, value)| ((*name).to_owned(), Value::Bool(*value)));
        self.render_values(&messages, &variables.collect())
    }

    /// As [`Self::render`], of messages with whatever keys the template knows, such as `tool_calls`,
    /// and with variables of any kind, such as `tools`.
    ///
    /// # Errors
    /// As [`Self::render`].
    pub fn render_values(
        &self,
        messages: &[Value],
        variables: &serde_json::Map<String, Value>,
    ) -> Result<String> {
        let request = Request::Render {
            messages: Cow::Borrowed(messages),
            variables: Cow::Borrowed(variables),
        };
        let mut worker = self.worker.lock().unwrap_or_else(PoisonError::into_inner);
        // A process that was killed between two conversations is no fault of the template.
        let restarted = if worker.is_alive() {
            Ok(())
        } else {
            start(&self.source, &self.tokens, &self.sandbox).map(|new| *worker = new)
        };
        restarted
            .and_then(|()| worker.ask(&request))
            .map_err(|failure| failure.into_error(&self.at))
    }
}

fn start(
    source: &str,
    tokens: &BTreeMap<String, String>,
    sandbox: &Sandbox,
) -> std::result::Result<Worker, Failure> {
    let request = Request::Compile {
        source: Cow::Borrowed(source),
        tokens: Cow::Borrowed(tokens),
        time: u64::try_from(sandbox.time().as_millis()).unwrap_or(u64::MAX),
        memory: sandbox.memory(),
    };
    Worker::start(sandbox, sandbox.program().as_deref(), &request)
}

/// Checks that a template can be used: that it is one, compiles, and renders a first question or
/// refuses it in its own words. `at` says in the error where it is from.
///
/// # Errors
/// As [`ChatTemplate::new`] and [`ChatTemplate::render`], but for a refusal.
pub fn check(source: &str, at: &Path) -> Result<()> {
    let template = ChatTemplate::new(source, BTreeMap::new(), at)?;
    match template.render(&[Message::new("user", "Hello")], &BTreeMap::new()) {
        Err(Error { code, .. }) if code == codes::PROMPT_INVALID => Ok(()),
        rendered => rendered.map(drop),
    }
}
