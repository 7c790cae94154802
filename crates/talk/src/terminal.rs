//! A conversation on a terminal.

use crate::chat::Chat;
use crate::commands::{HELP, Typed};
use crate::editor::{Editor, Line};
use crate::summary::summary;
use anemll_codes as codes;
use anemll_plugin_api::Result;
use anemll_services::take_interrupt;
use anemll_terminal::{KeptKeys, plain, tell, width, wrapped_lines};
use std::io::IsTerminal as _;
use std::path::Path;

/// Whether standard input and standard output are a terminal.
pub fn is_possible() -> bool {
    std::io::stdin().is_terminal() && anemll_terminal::stdout().is_terminal()
}

/// Asks for messages and answers them, until the user ends it. `model` is what is talked to.
///
/// # Errors
/// The terminal cannot be read, or an answer fails by more than its question.
pub fn converse(chat: &mut Chat<'_>, model: &str) -> Result<()> {
    tell(&format!(
        "{} with a context of {} tokens.",
        plain(model),
        anemll_terminal::count(chat.generator().context() as u64)
    ));
    say("/help says what can be typed; Ctrl-C ends an answer, Ctrl-D the conversation.");
    let mut editor = Editor::new();
    let mut broken = false;
    loop {
        let line = editor.read()?;
        // One that came between an answer and the next line is meant for neither.
        take_interrupt();
        match line {
            Line::End => return Ok(()),
            Line::Break if broken => return Ok(()),
            Line::Break => {
                broken = true;
                say("Ctrl-C again ends the conversation.");
            }
            Line::Message(text) => {
                broken = false;
                if !text.trim().is_empty() && !take(chat, &text)? {
                    return Ok(());
                }
            }
        }
    }
}

fn say(text: &str) {
    tell(&wrapped_lines(text, width()));
}

/// Does what a line asks for; whether the conversation goes on.
fn take(chat: &mut Chat<'_>, line: &str) -> Result<bool> {
    match Typed::of(line) {
        Typed::Question(text) => ask(chat, text)?,
        Typed::Exit => return Ok(false),
        Typed::Help => say(HELP),
        Typed::Reset => {
            chat.reset();
            say("The conversation begins anew.");
        }
        Typed::System("") => match chat.system() {
            Some(text) => say(&format!("The system message: {}", plain(text))),
            None => say("No system message is set; the model may still bring its own."),
        },
        Typed::System(text) => {
            chat.set_system(if text == "none" { "" } else { text });
            say("The system message counts from the next message on.");
        }
        Typed::Save("") => say("Name a file: /save talk.json"),
        Typed::Save(path) => match chat.save(Path::new(path)) {
            Ok(()) => say(&format!("The conversation is in {}.", plain(path))),
            Err(error) => (chat.console().show)(&error),
        },
        Typed::Unknown(word) => say(&format!(
            "/{word} is not a command; /help lists them. To send it to the model, type a space first."
        )),
    }
    Ok(true)
}

/// A question. What is typed meanwhile waits for the next line.
fn ask(chat: &mut Chat<'_>, text: &str) -> Result<()> {
    let keys = KeptKeys::begin();
    let result = chat.turn(text);
    drop(keys);
    match result {
        Err(error) if error.is_cancelled() && take_interrupt() => {
            if let Some(answer) = chat.generator().interrupted() {
                say(&summary(&answer));
            }
            Ok(())
        }
        Err(error) if error.code == codes::PROMPT_INVALID => {
            (chat.console().show)(&error);
            Ok(())
        }
        result => result,
    }
}
