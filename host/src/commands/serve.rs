//! `serve`: a conversion over HTTP, as OpenAI's clients ask for answers.

use crate::arguments::{ConversionArguments, DraftArguments};
use anemll_generation::drafting::Draft;
use anemll_generation::embedder::{Embedder, gives_vectors};
use anemll_generation::engine::Engine;
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::Result;
use anemll_server::{Keys, Options, Server};
use anemll_services as services;
use anemll_tokenizer::Tokenizer;
use clap::Args;
use std::path::{Path, PathBuf};

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll serve out
  anemll serve out --port 8081 --slots 2 --name my-model
  anemll serve out --host 0.0.0.0 --api-key-file keys.txt";

/// What can be typed.
#[derive(Debug, Args)]
pub struct ServeArguments {
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub conversion: ConversionArguments,
    /// Port to serve at; 0: any that is free.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub port: u16,
    /// Interface to serve at; one that others can reach needs --api-key-file.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1")]
    pub host: String,
    /// File with keys, one in each line; clients must show one of them.
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    /// Name of the model for clients (default: that of the directory).
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Requests that are answered at once, each with a cache of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..))]
    pub slots: u8,
    /// Requests that may wait for a slot; further ones are told to come again.
    #[arg(long, value_name = "N", default_value_t = 32)]
    pub queue: u16,
    /// Directory with the tokenizer's files (default: that of meta.yaml).
    #[arg(long, value_name = "DIR")]
    pub tokenizer: Option<PathBuf>,
    #[expect(missing_docs, reason = "it would become help text")]
    #[command(flatten)]
    pub draft: DraftArguments,
    /// Runtime plugin.
    #[arg(long, value_name = "ID", default_value = "cpu")]
    pub runtime: String,
}

/// Runs the command.
pub fn run(arguments: &ServeArguments, plugins: &Plugins) -> Result<()> {
    let (meta, host) = (arguments.conversion.meta(), services::host());
    let beside = meta.parent().unwrap_or(Path::new(""));
    let mut options =
        Options::new(arguments.name.clone().unwrap_or_else(|| Options::name_of(&meta)));
    (options.host, options.port) = (arguments.host.clone(), arguments.port);
    options.queue = arguments.queue.into();
    options.keys = arguments.api_key_file.as_deref().map(Keys::read).transpose()?;
    let tokenizer = Tokenizer::open(arguments.tokenizer.as_deref().unwrap_or(beside))?;
    let runtime = plugins.runtime(&arguments.runtime)?;
    let (slots, draft) = (arguments.slots.into(), Draft::from(&arguments.draft));
    let server = match gives_vectors(&meta)? {
        true => Server::of_vectors(options, slots, tokenizer, || {
            Embedder::open(&meta, runtime.as_ref(), &host)
        }),
        false => {
            let open = || Engine::open(&meta, runtime.as_ref(), &host);
            Server::new(options, slots, tokenizer, open, |generator| {
                draft.apply(generator, runtime.as_ref(), &host)
            })
        }
    }?;
    for note in server.notes() {
        super::say(&format!("note: {note}"));
    }
    super::say(&server.greeting());
    services::end_gently();
    server.run(services::asked_to_end);
    Ok(())
}
