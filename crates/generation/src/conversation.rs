//! A conversation: its messages as tokens, and what is left out when they no longer fit.

use crate::chat_template::{ChatTemplate, Message};
use crate::generation::bounded;
use anemll_plugin_api::Result;
use anemll_tokenizer::{Bounded, Tokenizer};
use std::collections::BTreeMap;

/// Bytes of a message that may be too long for any context.
const LONG: usize = 1 << 20;

/// The messages so far, and how they are written.
pub struct Conversation<'a> {
    tokenizer: &'a Tokenizer,
    template: Option<ChatTemplate>,
    variables: BTreeMap<&'static str, bool>,
    messages: Vec<Message>,
}

/// A conversation as tokens.
#[derive(Debug, PartialEq, Eq)]
pub struct Fitted {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// Turns (a question with its answer) that were left out.
    pub dropped: usize,
}

impl<'a> Conversation<'a> {
    /// An empty conversation; without a template the texts stand as they are, a line each.
    pub fn new(
        tokenizer: &'a Tokenizer,
        template: Option<ChatTemplate>,
        variables: BTreeMap<&'static str, bool>,
        system: Option<&str>,
    ) -> Self {
        let messages = system.map(|text| Message::new("system", text)).into_iter().collect();
        Self { tokenizer, template, variables, messages }
    }

    /// The system message, if there is one.
    pub fn system(&self) -> Option<&str> {
        let first = self.messages.first().filter(|message| message.role == "system")?;
        Some(&first.content)
    }

    /// Puts another system message in place of the one there is.
    pub fn set_system(&mut self, text: Option<&str>) {
        self.messages.retain(|message| message.role != "system");
        if let Some(text) = text {
            self.messages.insert(0, Message::new("system", text));
        }
    }

    /// Forgets everything but the system message.
    pub fn clear(&mut self) {
        self.messages.retain(|message| message.role == "system");
    }

    /// Adds the user's message.
    pub fn ask(&mut self, text: &str) {
        self.messages.push(Message::new("user", text));
    }

    /// Adds the model's answer.
    pub fn answer(&mut self, text: &str) {
        self.messages.push(Message::new("assistant", text));
    }

    /// Takes the last message back.
    pub fn take_back(&mut self) {
        self.messages.pop();
    }

    /// The conversation up to the next answer. While it has more than `most` tokens, the oldest
    /// turn is left out, for good; never the system message, never the newest turn.
    ///
    /// # Errors
    /// The template's or the tokenizer's, and a newest turn far beyond the `context`. The
    /// conversation is then as it was.
    pub fn fit(&mut self, most: usize, context: usize) -> Result<Fitted> {
        // A text far too long is refused before a template makes another one of it.
        if let Some(newest) = self.messages.last().filter(|newest| newest.content.len() > LONG) {
            let text = &newest.content;
            bounded(
                self.tokenizer.encode_bounded(text, false, context as u64)?,
                text.len(),
                context,
            )?;
        }
        let mut kept = self.messages.clone();
        let mut dropped = 0;
        loop {
            let (tokens, length) = self.tokens(&kept, most.max(context))?;
            let fits = matches!(&tokens, Bounded::All(tokens) if tokens.len() <= most);
            let Some(turn) = oldest_turn(&kept).filter(|_| !fits) else {
                let tokens = bounded(tokens, length, context)?;
                self.messages = kept;
                return Ok(Fitted { tokens, dropped });
            };
            kept.drain(turn);
            dropped += 1;
        }
    }

    /// Tokens, counted up to `most`, and the bytes of the text that they are of.
    fn tokens(&self, messages: &[Message], most: usize) -> Result<(Bounded, usize)> {
        // A template writes the special tokens itself.
        let (text, special) = match &self.template {
            Some(template) => (template.render(messages, &self.variables)?, false),
            None => (plain(messages), true),
        };
        Ok((self.tokenizer.encode_bounded(&text, special, most as u64)?, text.len()))
    }
}

/// The messages of the oldest turn, when it is not the newest one too.
fn oldest_turn(messages: &[Message]) -> Option<std::ops::Range<usize>> {
    let mut users = (0..messages.len()).filter(|index| messages[*index].role == "user");
    Some(users.next()?..users.next()?)
}

/// The text of messages without a template: an answer follows the question directly, and everything
/// else begins a line.
pub fn plain(messages: &[Message]) -> String {
    let mut text = String::new();
    for message in messages {
        if message.role == "user" && !text.is_empty() {
            text.push('\n');
        }
        text += &message.content;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn tokenizer() -> Tokenizer {
        Tokenizer::open(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/tiny-llama"),
        )
        .unwrap()
    }

    #[test]
    fn the_oldest_turns_go_first_and_the_system_message_stays() {
        let tokenizer = tokenizer();
        let mut conversation =
            Conversation::new(&tokenizer, None, BTreeMap::new(), Some("Be brief."));
        for turn in 0..3 {
            conversation.ask(&format!("question {turn}"));
            conversation.answer(&format!(" answer {turn}"));
        }
        conversation.ask("last");
        let whole = conversation.fit(usize::MAX, 512).unwrap();
        assert_eq!(whole.dropped, 0);
        let fitted = conversation.fit(whole.tokens.len() - 1, 512).unwrap();
        assert_eq!(fitted.dropped, 1);
        let text = tokenizer.decode(&fitted.tokens).unwrap();
        assert_eq!(text, "Be brief.\nquestion 1 answer 1\nquestion 2 answer 2\nlast");
        let fitted = conversation.fit(0, 512).unwrap();
        assert_eq!(fitted.dropped, 2);
        assert_eq!(tokenizer.decode(&fitted.tokens).unwrap(), "Be brief.\nlast");
    }

    #[test]
    fn the_system_message_can_be_another_one_and_the_rest_forgotten() {
        let tokenizer = tokenizer();
        let mut conversation = Conversation::new(&tokenizer, None, BTreeMap::new(), None);
        assert_eq!(conversation.system(), None);
        conversation.ask("a");
        conversation.set_system(Some("Be kind."));
        conversation.set_system(Some("Be brief."));
        let whole = conversation.fit(512, 512).unwrap();
        assert_eq!(tokenizer.decode(&whole.tokens).unwrap(), "Be brief.\na");
        conversation.clear();
        conversation.ask("b");
        let whole = conversation.fit(512, 512).unwrap();
        assert_eq!(tokenizer.decode(&whole.tokens).unwrap(), "Be brief.\nb");
        conversation.set_system(None);
        assert_eq!(conversation.system(), None);
    }

    #[test]
    fn a_failing_template_changes_nothing() {
        let tokenizer = tokenizer();
        let source = "{% if messages|length < 3 %}{{ raise_exception('few') }}{% endif %}x";
        let template = ChatTemplate::new(source, BTreeMap::new(), Path::new("x")).unwrap();
        let mut conversation = Conversation::new(&tokenizer, Some(template), BTreeMap::new(), None);
        conversation.ask("a");
        conversation.answer("b");
        conversation.ask("c");
        assert!(conversation.fit(0, 512).is_err());
        assert!(conversation.fit(10, 512).is_ok());
    }
}
