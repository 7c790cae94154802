//! `chat`: a conversation with a conversion, on a terminal, in a pipe, or of one question.

use crate::arguments::{ConversionArguments, SamplingArguments, count};
use anemll_codes as codes;
use anemll_generation::chat_template;
use anemll_generation::conversation::Conversation;
use anemll_generation::engine::Engine;
use anemll_generation::generation::{Answer, End, Generator};
use anemll_generation::sampling::{Sampler, Sampling};
use anemll_generation::transcript::Transcript;
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::{Error, Result};
use anemll_services::{self as services, check_cancelled, take_interrupt};
use anemll_tokenizer::{TextStream, Tokenizer};
use clap::Args;
use reedline::{DefaultPrompt, DefaultPromptSegment, Reedline, Signal};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{BufRead, IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
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
    let (tokenizer, mut generator) =
        open(files, &arguments.runtime, plugins, &arguments.sampling, |tokenizer| {
            sampling(&arguments.sampling, suggested(tokenizer))
        })?;
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

/// What a conversion is read from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Files<'a> {
    pub(super) meta: &'a Path,
    /// Where the tokenizer is, when not beside meta.yaml.
    pub(super) tokenizer: Option<&'a Path>,
}

/// Opens a conversion with its tokenizer. `choose` says how tokens are chosen, from what the model
/// suggests.
pub(super) fn open(
    files: Files<'_>,
    runtime: &str,
    plugins: &Plugins,
    arguments: &SamplingArguments,
    choose: impl FnOnce(&Tokenizer) -> Sampling,
) -> Result<(Tokenizer, Generator)> {
    let host = services::host();
    let runtime = plugins.runtime(runtime)?;
    let meta = files.meta;
    let engine = Engine::open(meta, runtime.as_ref(), &host)?;
    let beside = meta.parent().unwrap_or(Path::new(""));
    let tokenizer = Tokenizer::open(files.tokenizer.unwrap_or(beside))?;
    let mut sampling = choose(&tokenizer);
    if engine.gives_largest() && (!sampling.is_greedy() || sampling.looks_back()) {
        if arguments.needs_logits() {
            return Err(Error::new(
                codes::USAGE,
                "this conversion gives only the token with the largest logit: there is nothing to choose from",
            )
            .with_at(meta.display().to_string())
            .with_hint("leave the sampling options out, or convert without --argmax"));
        }
        if sampling.looks_back() {
            super::say(
                "note: this conversion gives only the token with the largest logit, so the model's settings against repetition have no effect",
            );
        }
        sampling = Sampling::GREEDY;
    }
    let sampler = Sampler::new(sampling, arguments.seed);
    tracing::info!("{sampling:?}, seed {}", sampler.seed());
    let stop = tokenizer.stop_tokens();
    Ok((tokenizer, Generator::new(engine, sampler, stop)))
}

/// What the options say, and for the rest `default`. Options that filter mean that something is
/// drawn: they make the temperature 1 where it would be 0 and none is given.
pub(super) fn sampling(arguments: &SamplingArguments, default: Sampling) -> Sampling {
    let filters =
        arguments.top_k.is_some() || arguments.top_p.is_some() || arguments.min_p.is_some();
    let usual = if default.is_greedy() && filters { 1.0 } else { default.temperature };
    Sampling {
        temperature: arguments.temperature.unwrap_or(usual),
        top_k: arguments
            .top_k
            .map_or(default.top_k, |count| usize::try_from(count).unwrap_or(usize::MAX)),
        top_p: arguments.top_p.unwrap_or(default.top_p),
        min_p: arguments.min_p.unwrap_or(default.min_p),
        repetition_penalty: arguments.repetition_penalty.unwrap_or(default.repetition_penalty),
        no_repeat_ngram: default.no_repeat_ngram,
    }
}

/// What generation_config.json suggests: greedy, unless `do_sample` is true. Values that cannot be
/// are left out.
fn suggested(tokenizer: &Tokenizer) -> Sampling {
    let config = tokenizer.generation();
    let constant = suggested_constant(tokenizer);
    if config.get("do_sample").and_then(serde_json::Value::as_bool) != Some(true) {
        return constant;
    }
    Sampling {
        temperature: number(config, "temperature", 0.0, 1000.0).unwrap_or(1.0),
        top_k: number(config, "top_k", 0.0, 1e9).map_or(0, |value| value as usize),
        top_p: number(config, "top_p", 0.0, 1.0).unwrap_or(1.0),
        min_p: number(config, "min_p", 0.0, 1.0).unwrap_or(0.0),
        ..constant
    }
}

/// What generation_config.json suggests whether or not tokens are drawn.
pub(super) fn suggested_constant(tokenizer: &Tokenizer) -> Sampling {
    let config = tokenizer.generation();
    note_ignored(config);
    Sampling {
        repetition_penalty: number(config, "repetition_penalty", 1e-3, 1e3).unwrap_or(1.0),
        no_repeat_ngram: number(config, "no_repeat_ngram_size", 0.0, 1e6)
            .map_or(0, |value| value as usize),
        ..Sampling::GREEDY
    }
}

fn number(config: &serde_json::Value, key: &str, least: f64, most: f64) -> Option<f32> {
    let value = config.get(key).filter(|value| !value.is_null())?;
    let number = value.as_f64().filter(|number| (least..=most).contains(number));
    if number.is_none() {
        super::say(&format!(
            "note: `{key}` in generation_config.json is {value}, which cannot be used"
        ));
    }
    number.map(|number| number as f32)
}

/// Names what generation_config.json says that changes which tokens are chosen, and does not here.
fn note_ignored(config: &serde_json::Value) {
    use serde_json::json;
    // Keys with the values that change nothing.
    let neutral = [
        ("num_beams", json!(1)),
        ("num_beam_groups", json!(1)),
        ("penalty_alpha", json!(0)),
        ("typical_p", json!(1)),
        ("epsilon_cutoff", json!(0)),
        ("eta_cutoff", json!(0)),
        ("encoder_repetition_penalty", json!(1)),
        ("encoder_no_repeat_ngram_size", json!(0)),
        ("min_length", json!(0)),
        ("min_new_tokens", json!(0)),
        ("guidance_scale", json!(1)),
        ("bad_words_ids", json!([])),
        ("suppress_tokens", json!([])),
        ("begin_suppress_tokens", json!([])),
        ("forced_bos_token_id", json!(null)),
        ("forced_eos_token_id", json!(null)),
        ("sequence_bias", json!({})),
        ("exponential_decay_length_penalty", json!(null)),
        ("stop_strings", json!([])),
    ];
    let counts = |key: &str, neutral: &serde_json::Value| {
        config.get(key).is_some_and(|value| {
            !value.is_null()
                && value != neutral
                && (value.as_f64().is_none() || value.as_f64() != neutral.as_f64())
        })
    };
    let ignored: Vec<&str> =
        neutral.iter().filter(|(key, value)| counts(key, value)).map(|(key, _)| *key).collect();
    if !ignored.is_empty() {
        super::say(&format!(
            "note: what generation_config.json says about {} has no effect here",
            ignored.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
        ));
    }
}

struct Chat<'a> {
    conversation: Conversation<'a>,
    tokenizer: &'a Tokenizer,
    generator: &'a mut Generator,
    most: u64,
    hide_thoughts: bool,
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
        let mut stream = TextStream::new(self.tokenizer, &fitted.tokens)?;
        let mut filter = EmptyThought { held: String::new(), active: self.hide_thoughts };
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
        let answer = self.generator.answer(&fitted.tokens, self.most, &mut |token| {
            write(&filter.push(&stream.push(token)?))
        });
        // What is still held belongs to the answer, also to one that was interrupted.
        let reader_left = answer.as_ref().is_err_and(crate::error::is_reader_left);
        if !reader_left {
            write(&filter.push(&stream.finish()?))?;
            write(&filter.finish())?;
        }
        if (answer.is_ok() || shown) && !reader_left && !silent {
            super::print("\n")?;
        }
        answer
    }
}

fn summary(answer: &Answer) -> String {
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

/// Takes `<think></think>`, with nothing but spaces inside, from the beginning of an answer.
struct EmptyThought {
    held: String,
    active: bool,
}

impl EmptyThought {
    fn push(&mut self, text: &str) -> String {
        if !self.active {
            return text.to_owned();
        }
        self.held += text;
        let mut rest = self.held.trim_start();
        for tag in ["<think>", "</think>"] {
            if tag.starts_with(rest) {
                return String::new();
            }
            match rest.strip_prefix(tag) {
                Some(after) => rest = after.trim_start(),
                None => return self.finish(),
            }
        }
        if rest.is_empty() {
            return String::new();
        }
        let answer = rest.to_owned();
        self.held.clear();
        self.active = false;
        answer
    }

    fn finish(&mut self) -> String {
        self.active = false;
        std::mem::take(&mut self.held)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn filtered(parts: &[&str]) -> String {
        let mut filter = EmptyThought { held: String::new(), active: true };
        let mut text: String = parts.iter().map(|part| filter.push(part)).collect();
        text += &filter.finish();
        text
    }

    #[test]
    fn only_an_empty_thought_at_the_beginning_goes() {
        assert_eq!(
            filtered(&["<th", "ink>\n\n</thi", "nk>\n", "\nYes <think></think>"]),
            "Yes <think></think>"
        );
        assert_eq!(filtered(&["<think>", "Hm", "</think>Yes"]), "<think>Hm</think>Yes");
        assert_eq!(filtered(&[" <", "b> plain"]), " <b> plain");
        assert_eq!(filtered(&["<thin"]), "<thin");
        assert_eq!(filtered(&[]), "");
    }

    #[test]
    fn options_go_before_the_models_suggestions() {
        let suggestion = Sampling { temperature: 0.6, top_k: 20, top_p: 0.95, ..Sampling::GREEDY };
        let none = SamplingArguments::default();
        assert_eq!(sampling(&none, suggestion), suggestion);
        assert_eq!(sampling(&none, Sampling::GREEDY), Sampling::GREEDY);
        let cold = SamplingArguments { temperature: Some(0.0), ..none.clone() };
        assert!(sampling(&cold, suggestion).is_greedy());
        let filter = SamplingArguments { top_k: Some(5), ..none };
        assert_eq!(sampling(&filter, suggestion).temperature, 0.6);
        assert_eq!(sampling(&filter, Sampling::GREEDY).temperature, 1.0);
    }
}
