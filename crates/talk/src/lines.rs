//! A conversation in a pipe.

use crate::chat::Chat;
use crate::prompt_file::{LARGEST, without_end};
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use anemll_services::check_cancelled;
use std::io::{BufRead, Read as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Every line of standard input that is not blank is a question.
///
/// # Errors
/// Standard input cannot be read or is no text, Ctrl-C, or those of [`Chat::turn`].
pub fn answer_lines(chat: &mut Chat<'_>) -> Result<()> {
    let lines = read_lines()?;
    loop {
        // A blocked read cannot be interrupted, so another thread reads.
        let line = match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => line?,
            Err(RecvTimeoutError::Timeout) => {
                check_cancelled()?;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        check_cancelled()?;
        if !line.trim().is_empty() {
            chat.turn(&line)?;
        }
    }
}

fn read_lines() -> Result<Receiver<Result<String>>> {
    let (sender, receiver) = sync_channel(1);
    let read = move || {
        let mut input = std::io::stdin().lock();
        loop {
            let line = read_line(&mut input);
            let last = line.is_err();
            let Some(line) = line.transpose() else { break };
            if sender.send(line).is_err() || last {
                break;
            }
        }
    };
    let thread = std::thread::Builder::new().spawn(read);
    thread.map(|_| receiver).map_err(|source| {
        Error::new(codes::THREADS, format!("no thread to read standard input: {source}"))
    })
}

/// A line without its end; none at the end of the input.
fn read_line(input: &mut impl BufRead) -> Result<Option<String>> {
    let invalid = |reason: &str| {
        Error::new(
            codes::PROMPT_INVALID,
            format!("a line of standard input cannot be used: {reason}"),
        )
    };
    let mut line = Vec::new();
    input
        .take(LARGEST)
        .read_until(b'\n', &mut line)
        .map_err(|source| invalid(&source.to_string()))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() as u64 == LARGEST && !line.ends_with(b"\n") {
        return Err(invalid(&format!("it has more than {} MB", LARGEST / 1_000_000)));
    }
    let line = String::from_utf8(line).map_err(|_| invalid("it is not UTF-8"))?;
    Ok(Some(without_end(&line).to_owned()))
}
