//! `bench`: how fast a conversion runs here.

use crate::arguments::{ConversionArguments, DraftArguments, count};
use anemll_generation::generation::Guesses;
use anemll_generation::speed::{self, Speed, Work};
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::Result;
use anemll_terminal::{Bar, Unit};
use clap::Args;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll bench out
  anemll bench out --threads 1 --prompt-tokens 20 --tokens 10 --rounds 3
  anemll bench out --exact --json";

/// What can be typed.
#[derive(Debug, Args)]
pub struct BenchArguments {
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub conversion: ConversionArguments,
    /// Tokens of the prompt [default: 256, or half of the context].
    #[arg(long, value_name = "N", value_parser = count)]
    pub prompt_tokens: Option<u64>,
    /// Tokens to generate [default: 64, or what the context has room for].
    #[arg(long, value_name = "N", value_parser = count)]
    pub tokens: Option<u64>,
    /// How often both are done; the median counts.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = count)]
    pub rounds: u64,
    /// Compute as eval does, in float32, and not in the fastest way.
    #[arg(long)]
    pub exact: bool,
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub draft: DraftArguments,
    /// Runtime plugin.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
    /// Print one JSON object.
    #[arg(long)]
    pub json: bool,
}

/// Runs the command.
pub fn run(arguments: &BenchArguments, plugins: &Plugins) -> Result<()> {
    let runtime = match arguments.exact {
        true => plugins.exact_runtime(&arguments.runtime)?,
        false => plugins.runtime(&arguments.runtime)?,
    };
    let (prompt, tokens, rounds) = (arguments.prompt_tokens, arguments.tokens, arguments.rounds);
    let work = Work { prompt, tokens, rounds, draft: (&arguments.draft).into() };
    let bar = Bar::new("running", rounds, Unit::Count("rounds"));
    let meta = arguments.conversion.meta();
    let host = anemll_services::host();
    let speed = speed::measure(&meta, runtime.as_ref(), &host, &work, &mut |done| bar.set(done))?;
    drop(bar);
    if arguments.json { super::print_json(&speed) } else { super::print(&text(&speed)) }
}

fn text(speed: &Speed) -> String {
    let Speed { prompt_tokens, tokens, context, threads, .. } = speed;
    let memory = |bytes| format!("memory       {} at most\n", anemll_terminal::size(bytes));
    let memory = speed.peak_memory.map(memory);
    let guesses = match speed.guesses {
        Guesses { made: 0, .. } => String::new(),
        Guesses { made, right } => format!("guesses      {right} of {made} were right\n"),
    };
    format!(
        "prompt       {:.1} tokens/s ({prompt_tokens} tokens)\n\
         generating   {:.1} tokens/s ({tokens} tokens)\n{guesses}\
         first token  {:.2} s after the start, opening {:.2} s of it\n{}\
         with         {threads} {}, a context of {context} tokens\n",
        speed.prompt_tokens_per_second,
        speed.tokens_per_second,
        speed.first_token_seconds,
        speed.open_seconds,
        memory.unwrap_or_default(),
        if *threads == 1 { "thread" } else { "threads" },
    )
}
