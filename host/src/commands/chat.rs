//! `chat`: a conversation with a conversion, on a terminal, in a pipe, or of one question.

use crate::arguments::{ConversionArguments, SamplingArguments, count};
use anemll_codes as codes;
use anemll_generation::chat_template;
use anemll_generation::conversation::Conversation;
use anemll_generation::generation::{Answer, End, Generator};
use anemll_generation::opening::{self, Choice, Files, Opened};
use anemll_generation::settings::Suggestion;
use anemll_generation::shown::Shown;
use anemll_generation::transcript::Transcript;
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::{Error, Result};
use anemll_services::{self as services, check_cancelled, take_interrupt};
use anemll_tokenizer::Tokenizer;
use clap::Args;
use reedline::{DefaultPrompt, DefaultPromptSegment, Reedline, Signal};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal as _, Read as _};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll chat out
  anemll chat out --prompt \"What is the capital of France?\"
  anemll chat out --system \"Answer in one word.\" < questions.txt
  anemll chat out --prompt \"Write a poem.\" --save poem.json";

/// What can be typed.
#[derive(Debug, Args)]
pub struct ChatArguments {
    /// Which conversion to talk with.
    #[command(flatten)]
    pub conversion: ConversionArguments,
    /// Ask this, and end after the answer.
    #[arg(short, long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// System message that the conversation begins with.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// Largest number of tokens of an answer (default: what fits into the context).
    #[arg(long, value_name = "N", value_parser = count)]
    pub max_tokens: Option<u64>,
    /// Write the conversation to this file as JSON, anew after each answer; it must not exist.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Directory with the tokenizer's files (default: that of meta.yaml).
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    /// Run the texts as they are, without the model's chat template.
    #[arg(long)]
    pub no_template: bool,
    /// Ask a model that can think for answers without thoughts.
    #[arg(long)]
    pub no_think: bool,
    /// Run prompts token by token through `infer`, to tell whether `prefill` is to blame.
    #[arg(long, visible_alias = "st")]
    pub single_token: bool,
    /// Runtime plugin.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
    /// Print one JSON object for each answer, a line each, instead of the answers.
    #[arg(long)]
    pub json: bool,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArguments,
}

/// The part of the context that is kept free for an answer, as a divisor of the context.
const ROOM: usize = 4;

/// What templates of models with a thinking mode call the switch.
const THINKING: &str = "enable_thinking";

/// Runs the command.
pub fn run(arguments: &ChatArguments, plugins: &Plugins) -> Result<()> {
    let transcript = arguments.save.as_deref().map(Transcript::new).transpose()?;
    let meta = arguments.conversion.meta();
    let files = Files { meta: &meta, tokenizer: arguments.tokenizer.as_deref() };
    let opened =
        open(files, &arguments.runtime, plugins, &arguments.sampling, Suggestion::for_chat)?;
    let Opened { tokenizer, mut generator, stop, .. } = opened;
    generator.set_single_token(arguments.single_token);
    let template = if arguments.no_template { None } else { chat_template::open(&tokenizer)? };
    if template.is_none() && !arguments.no_template {
        super::say("note: the model has no chat template; texts are run as they are");
    }
    let switch = template.as_ref().is_some_and(|template| template.mentions(THINKING));
    let mut variables = BTreeMap::new();
    if arguments.no_think && switch {
        variables.insert(THINKING, false);
    }
    let mut chat = Chat {
        conversation: Conversation::new(
            &tokenizer,
            template,
            variables,
            arguments.system.as_deref(),
        ),
        tokenizer: &tokenizer,
        generator: &mut generator,
        most: arguments.max_tokens.unwrap_or(u64::MAX),
        hide_thoughts: arguments.no_think && !switch,
        stop,
        json: arguments.json,
        transcript,
    };
    if let (Some(transcript), Some(system)) = (&mut chat.transcript, &arguments.system) {
        transcript.add("system", system);
    }
    match &arguments.prompt {
        Some(text) => chat.turn(text),
        None if !arguments.json
            && std::io::stdin().is_terminal()
            && anemll_terminal::stdout().is_terminal() =>
        {
            converse(&mut chat)
        }
        None => answer_lines(&mut chat),
    }
}

/// Opens a conversion with its tokenizer, and says what of the model's suggestions does not count.
/// Texts that were asked for end an answer before those that the model suggests.
pub(super) fn open(
    files: Files<'_>,
    runtime: &str,
    plugins: &Plugins,
    sampling: &SamplingArguments,
    suggest: fn(&serde_json::Value) -> Suggestion,
) -> Result<Opened> {
    let choice = Choice { wanted: &sampling.wanted(), seed: sampling.seed, suggest };
    let runtime = plugins.runtime(runtime)?;
    let mut opened = opening::open(files, runtime.as_ref(), &services::host(), choice)?;
    for note in &opened.notes {
        super::say(&format!("note: {note}"));
    }
    tracing::info!("{:?}", opened.generator.sampler());
    opened.stop.extend(sampling.stop.iter().cloned());
    Ok(opened)
}

struct Chat<'a> {
    conversation: Conversation<'a>,
    tokenizer: &'a Tokenizer,
    generator: &'a mut Generator,
    most: u64,
    hide_thoughts: bool,
    stop: Vec<String>,
    json: bool,
    transcript: Option<Transcript>,
}

impl Chat<'_> {
    /// One question and its answer. After an error the question is taken back, unless a part of
    /// the answer was shown.
    fn turn(&mut self, text: &str) -> Result<()> {
        self.conversation.ask(text);
        let mut answer = String::new();
        let result = self.answer(&mut answer);
        if answer.is_empty() && result.is_err() {
            self.conversation.take_back();
        } else {
            self.conversation.answer(&answer);
            if let Some(transcript) = &mut self.transcript {
                transcript.add("user", text);
                transcript.add("assistant", &answer);
                transcript.write()?;
            }
        }
        let done = result?;
        if self.json {
            return super::print_json(&json!({
                "prompt": text,
                "answer": answer,
                "prompt_tokens": done.prompt_tokens,
                "tokens": done.tokens,
                "tokens_per_second": done.rate(),
                "end": done.end.name(),
            }));
        }
        super::say(&summary(&done));
        Ok(())
    }

    /// Shows the answer to what was asked, and puts its text into `whole`.
    fn answer(&mut self, whole: &mut String) -> Result<Answer> {
        let context = self.generator.context();
        let room = (context / ROOM).min(usize::try_from(self.most).unwrap_or(usize::MAX));
        let fitted = self.conversation.fit(context.saturating_sub(room), context)?;
        if fitted.dropped > 0 {
            let turns = if fitted.dropped == 1 { "turn" } else { "turns" };
            super::say(&format!(
                "note: the context of {context} tokens is full; the oldest {} {turns} left out",
                fitted.dropped
            ));
            self.generator.reset()?;
        }
        self.generator.check_room(&fitted.tokens)?;
        if let Some(vocabulary) = self.generator.vocabulary() {
            self.tokenizer.check_vocabulary(&fitted.tokens, vocabulary)?;
        }
        let mut text = Shown::new(self.tokenizer, &fitted.tokens, &self.stop)?
            .without_empty_thought(self.hide_thoughts);
        let silent = self.json;
        let mut shown = false;
        let mut write = |text: &str| {
            whole.push_str(text);
            if silent {
                return Ok(());
            }
            shown |= !text.is_empty();
            super::print(&anemll_terminal::answer(text))
        };
        let answer = self
            .generator
            .answer_until(&fitted.tokens, self.most, &mut |token| text.push(token, &mut write));
        // What is still held belongs to the answer, also to one that was interrupted.
        let reader_left = answer.as_ref().is_err_and(crate::error::is_reader_left);
        if !reader_left {
            write(&text.finish()?)?;
        }
        if (answer.is_ok() || shown) && !reader_left && !silent {
            super::print("\n")?;
        }
        answer
    }
}

/// The line after an answer: how long it took.
pub(super) fn summary(answer: &Answer) -> String {
    let end = match answer.end {
        End::Stop => "",
        End::Count => "; ended by --max-tokens",
        End::Context => "; the context is full",
    };
    format!(
        "[{} tokens, {:.1} per second; prompt of {} tokens in {:.2} s{end}]",
        answer.tokens,
        answer.rate(),
        answer.prompt_tokens,
        answer.prompt_seconds
    )
}

/// A conversation on a terminal, with line editing. Ctrl-C ends an answer, Ctrl-D the conversation.
fn converse(chat: &mut Chat<'_>) -> Result<()> {
    // The history lives in memory: what was asked is nobody's business later.
    let mut editor = Reedline::create();
    let prompt = DefaultPrompt::new(DefaultPromptSegment::Empty, DefaultPromptSegment::Empty);
    super::say("Ctrl-C ends an answer, Ctrl-D the conversation.");
    loop {
        let line = match anemll_terminal::with_process_output(|| editor.read_line(&prompt)) {
            Ok(Signal::Success(line)) => line,
            Ok(Signal::CtrlD) => return Ok(()),
            Ok(_) => continue,
            Err(source) => {
                return Err(Error::new(
                    codes::PROMPT_INVALID,
                    format!("the terminal cannot be read: {source}"),
                ));
            }
        };
        check_cancelled()?;
        if line.trim().is_empty() {
            continue;
        }
        match chat.turn(&line) {
            Ok(()) => {}
            Err(error) if error.is_cancelled() && take_interrupt() => {}
            Err(error) if error.code == codes::PROMPT_INVALID => {
                anemll_terminal::tell_always(&crate::error::render(&error));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Every line of standard input is a question.
fn answer_lines(chat: &mut Chat<'_>) -> Result<()> {
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

/// Bytes of a line that are read; the context of no model holds as many.
const LONGEST_LINE: u64 = 64_000_000;

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
        .take(LONGEST_LINE)
        .read_until(b'\n', &mut line)
        .map_err(|source| invalid(&source.to_string()))?;
    if line.is_empty() {
        return Ok(None);
    }
    if line.len() as u64 == LONGEST_LINE && !line.ends_with(b"\n") {
        return Err(invalid(&format!("it has more than {} MB", LONGEST_LINE / 1_000_000)));
    }
    let line = String::from_utf8(line).map_err(|_| invalid("it is not UTF-8"))?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    Ok(Some(line.strip_suffix('\r').unwrap_or(line).to_owned()))
}
