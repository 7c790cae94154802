//! `generate`: continues a text, the most likely token each time.

use crate::cli::GenerateArguments;
use crate::engine::Engine;
use crate::plugins::Plugins;
use crate::services::{self, check_cancelled};
use anemll_plugin_api::{Error, Result, codes};
use serde_json::Value;
use std::path::Path;
use std::time::Instant;
use tokenizers::Tokenizer;

/// Runs the command.
pub fn run(arguments: &GenerateArguments, plugins: &Plugins) -> Result<()> {
    let directory = arguments.meta.parent().unwrap_or(Path::new("."));
    let host = services::host();
    let runtime = plugins.runtime(&arguments.runtime)?;
    let mut engine = Engine::open(&arguments.meta, runtime.as_ref(), &host)?;
    let tokenizer = read_tokenizer(&directory.join("tokenizer.json"))?;
    let prompt = encode(&tokenizer, &arguments.prompt)?;
    if prompt.len() as u64 >= engine.context() {
        return Err(Error::new(
            codes::PROMPT_INVALID,
            format!(
                "the prompt has {} tokens, {} more than fit into the context of {} with room for an answer",
                prompt.len(),
                prompt.len() as u64 + 1 - engine.context(),
                engine.context()
            ),
        )
        .with_hint("shorten the prompt, or convert with a larger --context"));
    }
    let stop = stop_tokens(directory);
    let started = Instant::now();
    // As the apps do it: full batches through prefill, the rest and the last token through infer.
    let (last, before) = prompt.split_last().ok_or_else(empty_prompt)?;
    let batch = engine.batch() as usize;
    let full = before.len() / batch * batch;
    engine.prefill(&before[..full], 0)?;
    for (position, token) in before.iter().enumerate().skip(full) {
        check_cancelled()?;
        engine.infer(*token, position as u64)?;
    }
    let mut next = engine.infer(*last, before.len() as u64)?.best();
    let prompt_seconds = started.elapsed().as_secs_f64();
    let started = Instant::now();
    let mut text = TextStream::new(&tokenizer, &prompt)?;
    super::print(&arguments.prompt)?;
    let mut generated = 0_u64;
    let mut position = prompt.len() as u64;
    while generated < arguments.max_tokens && !stop.contains(&next) {
        check_cancelled()?;
        super::print(&text.push(next)?)?;
        generated += 1;
        if generated == arguments.max_tokens || position == engine.context() {
            break;
        }
        next = engine.infer(next, position)?.best();
        position += 1;
    }
    super::print("\n")?;
    let seconds = started.elapsed().as_secs_f64().max(f64::MIN_POSITIVE);
    tracing::info!(
        "prompt: {} tokens in {prompt_seconds:.2} s; generated: {generated} tokens, {:.1} per second",
        prompt.len(),
        generated as f64 / seconds
    );
    Ok(())
}

fn read_tokenizer(path: &Path) -> Result<Tokenizer> {
    Tokenizer::from_file(path).map_err(|source| {
        Error::new(codes::TOKENIZER_INVALID, format!("the tokenizer cannot be read: {source}"))
            .with_at(path.display().to_string())
            .with_hint("the model directory must have a tokenizer.json when it is converted")
    })
}

fn encode(tokenizer: &Tokenizer, prompt: &str) -> Result<Vec<u32>> {
    let encoding = tokenizer.encode(prompt, true).map_err(|source| {
        Error::new(codes::PROMPT_INVALID, format!("the prompt cannot be tokenized: {source}"))
    })?;
    if encoding.get_ids().is_empty() {
        return Err(empty_prompt());
    }
    Ok(encoding.get_ids().to_vec())
}

fn empty_prompt() -> Error {
    Error::new(codes::PROMPT_INVALID, "the prompt has no tokens")
        .with_hint("give a text with --prompt")
}

/// `eos_token_id` of generation_config.json and config.json: one id or several.
fn stop_tokens(directory: &Path) -> Vec<u32> {
    let mut ids = Vec::new();
    for file in ["generation_config.json", "config.json"] {
        let Ok(text) = std::fs::read_to_string(directory.join(file)) else { continue };
        let Ok(value) = serde_json::from_str::<Value>(&text) else { continue };
        let listed = match value.get("eos_token_id") {
            Some(Value::Array(values)) => values.clone(),
            Some(single) => vec![single.clone()],
            None => Vec::new(),
        };
        ids.extend(listed.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()));
    }
    ids
}

/// Text of a growing token list: a character can need several tokens, and the text of a token can
/// depend on those before it.
struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    tokens: Vec<u32>,
    shown: usize,
}

impl<'a> TextStream<'a> {
    fn new(tokenizer: &'a Tokenizer, prompt: &[u32]) -> Result<Self> {
        let mut stream = Self { tokenizer, tokens: prompt.to_vec(), shown: 0 };
        stream.shown = stream.text()?.len();
        Ok(stream)
    }

    fn text(&self) -> Result<String> {
        self.tokenizer.decode(&self.tokens, true).map_err(|source| {
            Error::new(codes::TOKENIZER_INVALID, format!("tokens cannot be decoded: {source}"))
        })
    }

    /// The text that `token` adds; nothing while a character is incomplete.
    fn push(&mut self, token: u32) -> Result<String> {
        self.tokens.push(token);
        let text = self.text()?;
        if text.ends_with('\u{fffd}') {
            return Ok(String::new());
        }
        let new = text.get(self.shown..).unwrap_or_default().to_owned();
        self.shown = text.len();
        Ok(new)
    }
}
