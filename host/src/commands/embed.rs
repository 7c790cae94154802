//! `embed`: the vectors of texts.

use anemll_generation::embedder::Embedder;
use anemll_generation::sources::lines;
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::Result;
use anemll_tokenizer::Tokenizer;
use clap::{ArgGroup, Args};
use std::path::PathBuf;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll embed --meta vectors \"a text\" \"another\"
  anemll embed --meta vectors --file questions.txt
  anemll embed --meta vectors --prompt-name query \"what is a vector?\"";

/// What can be typed.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("given").required(true).args(["texts", "file"]))]
pub struct EmbedArguments {
    /// The conversion: its directory, or the meta.yaml in it.
    #[arg(short, long, value_name = "OUT")]
    pub meta: PathBuf,
    /// Texts, each of which gives a line of JSON with its vector.
    #[arg(value_name = "TEXT")]
    pub texts: Vec<String>,
    /// File with a text in each line; - reads standard input.
    #[arg(long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Kind of the texts, such as query or document: the model's prompt for it goes before each.
    #[arg(long, value_name = "NAME")]
    pub prompt_name: Option<String>,
    /// Cut texts that are longer than the context, instead of refusing them.
    #[arg(long)]
    pub truncate: bool,
    /// Runtime plugin.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
}

/// Runs the command.
pub fn run(arguments: &EmbedArguments, plugins: &Plugins) -> Result<()> {
    let meta = anemll_conversion::locate(&arguments.meta);
    let runtime = plugins.runtime(&arguments.runtime)?;
    let mut embedder = Embedder::open(&meta, runtime.as_ref(), &anemll_services::host())?;
    let tokenizer = Tokenizer::open(meta.parent().unwrap_or(&meta))?;
    let kind = arguments.prompt_name.as_deref();
    let mut print = |text: &str| {
        super::print_json(&embedder.embed(&tokenizer, text, kind, arguments.truncate)?)
    };
    match &arguments.file {
        Some(file) => lines(file, &mut print),
        None => arguments.texts.iter().try_for_each(|text| print(text)),
    }
}
