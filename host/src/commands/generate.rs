//! `generate`: continues a text.

use crate::cli::GenerateArguments;
use crate::commands::chat::{Files, open, sampling, suggested_constant};
use crate::generation::bounded;
use crate::plugins::Plugins;
use crate::tokenizer::TextStream;
use anemll_plugin_api::Result;
use serde_json::json;

/// Runs the command.
pub fn run(arguments: &GenerateArguments, plugins: &Plugins) -> Result<()> {
    let meta = arguments.conversion.meta();
    let files = Files { meta: &meta, tokenizer: None };
    let (tokenizer, mut generator) =
        open(files, &arguments.runtime, plugins, &arguments.sampling, |tokenizer| {
            sampling(&arguments.sampling, suggested_constant(tokenizer))
        })?;
    let context = generator.context();
    let prompt = tokenizer.encode_bounded(&arguments.prompt, true, context as u64)?;
    let prompt = bounded(prompt, arguments.prompt.len(), context)?;
    generator.check_room(&prompt)?;
    if let Some(vocabulary) = generator.vocabulary() {
        tokenizer.check_vocabulary(&prompt, vocabulary)?;
    }
    let mut stream = TextStream::new(&tokenizer, &prompt)?;
    if arguments.json {
        let mut text = String::new();
        let answer = generator.answer(&prompt, arguments.max_tokens, &mut |token| {
            text += &stream.push(token)?;
            Ok(())
        })?;
        text += &stream.finish()?;
        return super::print_json(&json!({
            "prompt": arguments.prompt,
            "text": text,
            "prompt_tokens": answer.prompt_tokens,
            "tokens": answer.tokens,
            "tokens_per_second": answer.rate(),
            "end": answer.end.name(),
        }));
    }
    // The prompt is shown with the first token: an error before it leaves standard output empty.
    let mut shown = false;
    let answer = generator.answer(&prompt, arguments.max_tokens, &mut |token| {
        if !std::mem::replace(&mut shown, true) {
            super::print(&arguments.prompt)?;
        }
        super::print(&crate::terminal::answer(&stream.push(token)?))
    })?;
    if !shown {
        super::print(&arguments.prompt)?;
    }
    super::print(&format!("{}\n", crate::terminal::answer(&stream.finish()?)))?;
    tracing::info!(
        "prompt: {} tokens in {:.2} s; generated: {} tokens, {:.1} per second",
        answer.prompt_tokens,
        answer.prompt_seconds,
        answer.tokens,
        answer.rate()
    );
    Ok(())
}
