//! The model that is served: its texts as tokens, and how it wants its tokens chosen.

use crate::about::About;
use crate::failure::Failure;
use crate::job::{Job, Outlet};
use crate::place::Place;
use crate::request::chat::ChatRequest;
use crate::request::completion::CompletionRequest;
use crate::request::prompt::Prompt;
use crate::request::settings::Settings;
use anemll_chat_template::{ChatTemplate, Message};
use anemll_codes as codes;
use anemll_generation::conversation::plain;
use anemll_generation::generation::{bounded, check_room};
use anemll_generation::sampling::Sampling;
use anemll_generation::settings::Suggestion;
use anemll_tokenizer::{TextStream, Tokenizer};
use hyper::StatusCode;
use serde_json::Value;

/// What templates call the functions that a model may call.
const TOOLS: &str = "tools";
/// Variables of a template that a request cannot set: they are what the request is.
const RESERVED: [&str; 2] = ["messages", TOOLS];

/// The model that is served.
pub(crate) struct Served {
    pub(crate) about: About,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: Option<ChatTemplate>,
    /// Tokens that the model has logits for, where that is known.
    pub(crate) vocabulary: Option<u64>,
    /// Whether it gives the largest logit alone.
    pub(crate) gives_largest: bool,
    /// What the model suggests for conversations.
    pub(crate) chat: Suggestion,
    /// What it suggests for texts.
    pub(crate) text: Suggestion,
}

impl Served {
    /// The tokens of a conversation up to the next answer, as a job.
    pub(crate) fn chat_job(
        &self,
        request: ChatRequest,
        outlet: Outlet,
        place: Place,
    ) -> Result<Job, Failure> {
        let ChatRequest { messages, tools, mut variables, settings } = request;
        let (text, special) = match &self.template {
            Some(template) => {
                if !tools.is_null() && !template.mentions(TOOLS) {
                    return Err(Failure::invalid(
                        TOOLS,
                        "cannot be used: the chat template of this model knows of none",
                    ));
                }
                if let Some(name) = RESERVED.iter().find(|name| variables.contains_key(**name)) {
                    let reason = format!("must not set `{name}`");
                    return Err(Failure::invalid("chat_template_kwargs", reason));
                }
                if !tools.is_null() {
                    variables.insert(TOOLS.to_owned(), tools);
                }
                let messages = self.known_roles(messages, template);
                // A template writes the special tokens itself.
                (template.render_values(&messages, &variables)?, false)
            }
            None => {
                let message = |message: &Value| {
                    let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
                    Message::new(text("role"), text("content"))
                };
                (plain(&messages.iter().map(message).collect::<Vec<_>>()), true)
            }
        };
        let prompt = self.tokens(&text, special).map_err(|it| it.with_parameter("messages"))?;
        self.job(prompt, settings, &self.chat, outlet, place)
    }

    /// The tokens of a text, as a job.
    pub(crate) fn completion_job(
        &self,
        request: CompletionRequest,
        outlet: Outlet,
        place: Place,
    ) -> Result<Job, Failure> {
        let prompt = match request.prompt {
            Prompt::Text(text) => self.tokens(&text, true),
            Prompt::Tokens(tokens) => Ok(tokens),
        };
        let prompt = prompt.map_err(|failure| failure.with_parameter("prompt"))?;
        self.job(prompt, request.settings, &self.text, outlet, place)
    }

    /// What newer clients call `developer` is `system` to templates that do not know it.
    fn known_roles(&self, mut messages: Vec<Value>, template: &ChatTemplate) -> Vec<Value> {
        if !template.mentions("developer") {
            for message in &mut messages {
                if message["role"] == "developer" {
                    message["role"] = Value::from("system");
                }
            }
        }
        messages
    }

    fn tokens(&self, text: &str, special: bool) -> Result<Vec<u32>, Failure> {
        let tokens = self.tokenizer.encode_bounded(text, special, self.about.context as u64)?;
        Ok(bounded(tokens, text.len(), self.about.context)?)
    }

    fn job(
        &self,
        prompt: Vec<u32>,
        settings: Settings,
        suggestion: &Suggestion,
        outlet: Outlet,
        place: Place,
    ) -> Result<Job, Failure> {
        check_room(&prompt, self.about.context)?;
        if let Some(vocabulary) = self.vocabulary {
            self.tokenizer.check_vocabulary(&prompt, vocabulary)?;
        }
        let mut sampling = settings.wanted.over(suggestion.sampling);
        if self.gives_largest {
            if settings.wanted.needs_logits() || settings.likely.is_some() {
                return Err(Failure::new(
                    StatusCode::BAD_REQUEST,
                    codes::REQUEST_INVALID,
                    "this conversion gives only the token with the largest logit: there is nothing to choose from",
                )
                .with_hint("leave temperature, filters, penalties and logprobs out"));
            }
            sampling = Sampling::GREEDY;
        }
        let room = (self.about.context - prompt.len()) as u64;
        let mut stop = settings.stop;
        stop.extend(suggestion.stop.iter().cloned());
        Ok(Job {
            most: settings.most.unwrap_or(room),
            prompt,
            sampling,
            seed: settings.seed,
            stop,
            likely: settings.likely,
            outlet,
            place,
        })
    }

    /// The text of one token, behind another one. Special tokens have their names.
    pub(crate) fn spelled(&self, token: u32) -> String {
        let text = TextStream::new(&self.tokenizer, &[]).and_then(|mut stream| {
            let text = stream.push(token)?;
            Ok(text + &stream.finish()?)
        });
        match text {
            Ok(text) if !text.is_empty() => text,
            _ => self.tokenizer.token_name(token).unwrap_or_default(),
        }
    }
}
