//! `generate`: continues a text.

use crate::arguments::{
    ConversionArguments, DraftArguments, PromptArguments, SamplingArguments, count,
};
use crate::commands::chat::open;
use anemll_generation::generation::bounded;
use anemll_generation::opening::{Files, Opened};
use anemll_generation::settings::Suggestion;
use anemll_generation::shown::Shown;
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::Result;
use clap::{ArgGroup, Args};
use serde_json::json;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll generate out --prompt \"Once upon a time\"
  anemll generate out --prompt-file prompt.txt
  anemll generate out -p \"1, 2, 3,\" --max-tokens 20 --temperature 0.8 --seed 7
  anemll generate out -p \"Once upon a time\" --max-tokens 20 --json";

/// What can be typed.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("given").required(true).args(["prompt", "prompt_file"]))]
pub struct GenerateArguments {
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub conversion: ConversionArguments,
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub prompt: PromptArguments,
    /// Largest number of tokens to generate.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = count)]
    pub max_tokens: u64,
    /// Runtime plugin.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
    /// Print one JSON object, at the end.
    #[arg(long)]
    pub json: bool,
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub draft: DraftArguments,
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub sampling: SamplingArguments,
}

/// Runs the command.
pub fn run(arguments: &GenerateArguments, plugins: &Plugins) -> Result<()> {
    let text = arguments.prompt.text()?.unwrap_or_default();
    let meta = arguments.conversion.meta();
    let files = Files { meta: &meta, tokenizer: None };
    let (how, draft) = (&arguments.sampling, (&arguments.draft).into());
    let opened =
        open(files, &arguments.runtime, plugins, (how, &draft), Suggestion::for_continuation)?;
    let Opened { tokenizer, mut generator, stop, .. } = opened;
    let context = generator.context();
    let prompt = tokenizer.encode_bounded(&text, true, context as u64)?;
    let prompt = bounded(prompt, text.len(), context)?;
    generator.check_room(&prompt)?;
    if let Some(vocabulary) = generator.vocabulary() {
        tokenizer.check_vocabulary(&prompt, vocabulary)?;
    }
    let mut shown = Shown::new(&tokenizer, &prompt, &stop)?;
    if arguments.json {
        let mut continued = String::new();
        let mut each = |part: &str| {
            continued += part;
            Ok(())
        };
        let most = arguments.max_tokens;
        let answer =
            generator.answer_until(&prompt, most, &mut |token| shown.push(token, &mut each))?;
        continued += &shown.finish()?;
        return super::print_json(&json!({
            "prompt": text,
            "text": continued,
            "prompt_tokens": answer.prompt_tokens,
            "tokens": answer.tokens,
            "tokens_per_second": answer.rate(),
            "guesses": answer.guesses,
            "end": answer.end.name(),
        }));
    }
    // The prompt is shown with the first token: an error before it leaves standard output empty.
    let mut begun = false;
    let mut each = |part: &str| {
        if !std::mem::replace(&mut begun, true) {
            super::print(&text)?;
        }
        super::print(&anemll_terminal::answer(part))
    };
    let answer = generator
        .answer_until(&prompt, arguments.max_tokens, &mut |token| shown.push(token, &mut each))?;
    each(&shown.finish()?)?;
    super::print("\n")?;
    super::say(&anemll_talk::summary(&answer));
    Ok(())
}
