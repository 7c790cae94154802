//! Questions and answers, wherever they are typed.

use crate::summary::summary;
use anemll_generation::conversation::Conversation;
use anemll_generation::generation::{Answer, Generator};
use anemll_generation::shown::Shown;
use anemll_generation::transcript::Transcript;
use anemll_plugin_api::{Error, Result};
use anemll_terminal::{Wrap, stdout, tell, width, wrapped_lines};
use anemll_tokenizer::Tokenizer;
use serde_json::json;
use std::path::Path;

/// The part of the context that is kept free for an answer, as a divisor of the context.
const ROOM: usize = 4;

/// What a conversation needs of the program around it.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    /// Writes to standard output.
    pub print: fn(&str) -> Result<()>,
    /// Whether an error of `print` only means that nobody reads any more.
    pub is_reader_left: fn(&Error) -> bool,
    /// Shows an error after which the conversation goes on.
    pub show: fn(&Error),
}

/// How answers are given.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Largest number of tokens of an answer; none: what fits into the context.
    pub most: Option<u64>,
    /// Whether `<think></think>` at the beginning of an answer is left out.
    pub hide_thoughts: bool,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// Whether an answer is one JSON object on a line.
    pub json: bool,
}

/// Columns for what is read on a terminal; what goes to a file or a pipe is not broken.
fn columns() -> Option<usize> {
    stdout().is_terminal().then(width).flatten()
}

/// A conversation with a conversion.
pub struct Chat<'a> {
    conversation: Conversation<'a>,
    tokenizer: &'a Tokenizer,
    generator: &'a mut Generator,
    settings: Settings,
    transcript: Transcript,
    console: Console,
}

impl<'a> Chat<'a> {
    /// A conversation, with what it is written down in.
    pub fn new(
        conversation: Conversation<'a>,
        tokenizer: &'a Tokenizer,
        generator: &'a mut Generator,
        settings: Settings,
        transcript: Transcript,
        console: Console,
    ) -> Self {
        let mut chat = Self { conversation, tokenizer, generator, settings, transcript, console };
        if let Some(system) = chat.conversation.system() {
            chat.transcript.add("system", system);
        }
        chat
    }

    /// What the program around it gives.
    pub(crate) fn console(&self) -> Console {
        self.console
    }

    /// What answers.
    pub(crate) fn generator(&self) -> &Generator {
        self.generator
    }

    /// The system message, if there is one.
    pub(crate) fn system(&self) -> Option<&str> {
        self.conversation.system()
    }

    /// Has another system message from now on; none with an empty text.
    pub(crate) fn set_system(&mut self, text: &str) {
        self.conversation.set_system((!text.is_empty()).then_some(text));
        self.transcript.add("system", text);
    }

    /// Forgets all questions and answers; the system message stays. What is written down stays, too.
    pub(crate) fn reset(&mut self) {
        self.conversation.clear();
    }

    /// Writes down all that was said so far in a new file.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        self.transcript.copy_to(path)
    }

    /// One question and its answer. After an error the question is taken back, unless a part of
    /// the answer was shown.
    ///
    /// # Errors
    /// The question does not fit into the context, Ctrl-C, or the template's, the runtime's or the
    /// console's.
    pub fn turn(&mut self, text: &str) -> Result<()> {
        self.conversation.ask(text);
        let mut answer = String::new();
        let result = self.answer(&mut answer);
        if answer.is_empty() && result.is_err() {
            self.conversation.take_back();
        } else {
            self.conversation.answer(&answer);
            self.transcript.add("user", text);
            self.transcript.add("assistant", &answer);
            self.transcript.write()?;
        }
        let done = result?;
        if self.settings.json {
            let object = json!({
                "prompt": text,
                "answer": answer,
                "prompt_tokens": done.prompt_tokens,
                "tokens": done.tokens,
                "tokens_per_second": done.rate(),
                "guesses": done.guesses,
                "end": done.end.name(),
            });
            return (self.console.print)(&format!("{object}\n"));
        }
        tell(&wrapped_lines(&summary(&done), columns()));
        Ok(())
    }

    /// Shows the answer to what was asked, and puts its text into `whole`.
    fn answer(&mut self, whole: &mut String) -> Result<Answer> {
        let context = self.generator.context();
        let most = self.settings.most.unwrap_or(u64::MAX);
        let room = (context / ROOM).min(usize::try_from(most).unwrap_or(usize::MAX));
        let fitted = self.conversation.fit(context.saturating_sub(room), context)?;
        if fitted.dropped > 0 {
            let turns = if fitted.dropped == 1 { "turn" } else { "turns" };
            tell(&format!(
                "note: the context of {context} tokens is full; the oldest {} {turns} left out",
                fitted.dropped
            ));
            self.generator.reset()?;
        }
        self.generator.check_room(&fitted.tokens)?;
        if let Some(vocabulary) = self.generator.vocabulary() {
            self.tokenizer.check_vocabulary(&fitted.tokens, vocabulary)?;
        }
        let mut text = Shown::new(self.tokenizer, &fitted.tokens, &self.settings.stop)?
            .without_empty_thought(self.settings.hide_thoughts);
        let (silent, print) = (self.settings.json, self.console.print);
        let mut wrap = Wrap::new(columns());
        let mut shown = false;
        let mut write = |text: &str| {
            whole.push_str(text);
            if silent {
                return Ok(());
            }
            shown |= !text.is_empty();
            print(&wrap.push(&anemll_terminal::answer(text)))
        };
        let answer = self
            .generator
            .answer_until(&fitted.tokens, most, &mut |token| text.push(token, &mut write));
        // What is still held belongs to the answer, also to one that was interrupted.
        let reader_left = answer.as_ref().is_err_and(self.console.is_reader_left);
        if !reader_left {
            write(&text.finish()?)?;
        }
        if (answer.is_ok() || shown) && !reader_left && !silent {
            print(&format!("{}\n", wrap.finish()))?;
        }
        answer
    }
}
