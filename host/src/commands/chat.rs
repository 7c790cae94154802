//! `chat`: a conversation with a conversion, on a terminal, in a pipe, or of one question.

use crate::arguments::{
    ConversionArguments, DraftArguments, PromptArguments, SamplingArguments, count,
};
use anemll_generation::chat_template;
use anemll_generation::conversation::Conversation;
use anemll_generation::drafting::Draft;
use anemll_generation::opening::{self, Choice, Files, Opened};
use anemll_generation::settings::Suggestion;
use anemll_generation::transcript::Transcript;
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::Result;
use anemll_services as services;
use anemll_talk::{Chat, Console, Settings};
use clap::Args;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll chat out
  anemll chat out --prompt \"What is the capital of France?\"
  anemll chat out --prompt-file prompt.txt
  anemll chat out --system \"Answer in one word.\" < questions.txt
  anemll chat out --prompt \"Write a poem.\" --save poem.json";

/// What can be typed.
#[derive(Debug, Args)]
pub struct ChatArguments {
    /// Which conversion to talk with.
    #[command(flatten)]
    pub conversion: ConversionArguments,
    /// What to ask, before the end.
    #[command(flatten)]
    pub prompt: PromptArguments,
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
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub draft: DraftArguments,
    /// How tokens are chosen.
    #[command(flatten)]
    pub sampling: SamplingArguments,
}

/// What templates of models with a thinking mode call the switch.
const THINKING: &str = "enable_thinking";

/// Runs the command.
pub fn run(arguments: &ChatArguments, plugins: &Plugins) -> Result<()> {
    let prompt = arguments.prompt.text()?;
    let transcript =
        arguments.save.as_deref().map_or_else(|| Ok(Transcript::unsaved()), Transcript::new)?;
    let meta = arguments.conversion.meta();
    let files = Files { meta: &meta, tokenizer: arguments.tokenizer.as_deref() };
    let (how, draft) = (&arguments.sampling, (&arguments.draft).into());
    let opened = open(files, &arguments.runtime, plugins, (how, &draft), Suggestion::for_chat)?;
    let Opened { tokenizer, mut generator, stop, .. } = opened;
    generator.set_single_token(arguments.single_token);
    let name = generator.engine().conversion().name();
    let template = if arguments.no_template { None } else { chat_template::open(&tokenizer)? };
    if template.is_none() && !arguments.no_template {
        super::say("note: the model has no chat template; texts are run as they are");
    }
    let switch = template.as_ref().is_some_and(|template| template.mentions(THINKING));
    let variables = (arguments.no_think && switch).then_some((THINKING, false));
    let settings = Settings {
        most: arguments.max_tokens,
        hide_thoughts: arguments.no_think && !switch,
        stop,
        json: arguments.json,
    };
    let console = Console {
        print: super::print,
        is_reader_left: crate::error::is_reader_left,
        show: |error| anemll_terminal::tell_always(&crate::error::render(error)),
    };
    let system = arguments.system.as_deref();
    let variables: BTreeMap<_, _> = variables.into_iter().collect();
    let conversation = Conversation::new(&tokenizer, template, variables, system);
    let mut chat =
        Chat::new(conversation, &tokenizer, &mut generator, settings, transcript, console);
    match prompt {
        Some(text) => chat.turn(&text),
        None if !arguments.json && anemll_talk::is_possible() => {
            anemll_talk::converse(&mut chat, &name)
        }
        None => anemll_talk::answer_lines(&mut chat),
    }
}

/// Opens a conversion with its tokenizer, and says what of the model's suggestions does not count.
/// Texts that were asked for end an answer as those do that the model suggests.
pub(super) fn open(
    files: Files<'_>,
    runtime: &str,
    plugins: &Plugins,
    (sampling, draft): (&SamplingArguments, &Draft),
    suggest: fn(&serde_json::Value) -> Suggestion,
) -> Result<Opened> {
    let choice = Choice { wanted: &sampling.wanted(), seed: sampling.seed, suggest, draft };
    let runtime = plugins.runtime(runtime)?;
    let mut opened = opening::open(files, runtime.as_ref(), &services::host(), choice)?;
    for note in &opened.notes {
        super::say(&format!("note: {note}"));
    }
    tracing::info!("{:?}", opened.generator.sampler());
    opened.stop.extend(sampling.stop.iter().cloned());
    Ok(opened)
}
