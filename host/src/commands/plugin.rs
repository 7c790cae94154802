//! `plugin`: which plugins there are, which of them are trusted, and the start of one more.

use anemll_pipeline::plugins::{Origin, Search, Store};
use anemll_plugin_api::Result;
use anemll_plugin_api::data::Stage;
use anemll_report::plugins as report;
use anemll_terminal as terminal;
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use std::path::PathBuf;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll plugin list
  anemll plugin list --stage arch --json
  anemll plugin info lut
  anemll plugin add ./libuniform.so
  anemll plugin trust ./libuniform.so
  anemll plugin remove uniform
  anemll plugin doctor
  anemll plugin new starcoder2 --stage arch";

/// What can be typed.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List the plugins that were found, what they offer, and what becomes of them.
    List {
        /// Only components of this stage, and libraries whose components are not known.
        #[arg(long, value_name = "STAGE", value_parser = stage)]
        stage: Option<Stage>,
        /// Also list the options that each component takes.
        #[arg(long)]
        options: bool,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Show all that a plugin says of itself, without running it.
    Info {
        /// Name of a plugin, id of a component, or path of a library.
        #[arg(value_name = "NAME|FILE")]
        plugin: PathBuf,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Say for each folder and each library what becomes of it, and what to do.
    Doctor {
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
    },
    /// Copy a plugin into your own folder, and trust it: it can do all that you can do.
    Add {
        /// The library.
        file: PathBuf,
    },
    /// Trust plugins where they are, as they are now: they can do all that you can do.
    Trust {
        /// Names of plugins that were found, or paths of libraries.
        #[arg(value_name = "NAME|FILE", required = true)]
        plugins: Vec<PathBuf>,
    },
    /// Trust a plugin no more, and remove it from your own folder.
    Remove {
        /// Name of the plugin.
        name: String,
    },
    /// Start a plugin of your own: a workspace that builds, passes its tests, and works.
    New {
        /// Its name: lower-case letters, digits, `-` and `_`.
        name: String,
        /// What it does in a conversion.
        #[arg(long, value_parser = PossibleValuesParser::new(anemll_scaffold::stages()))]
        stage: String,
        /// Folder with the crates that plugins are built against (default: `sdk` beside the program).
        #[arg(long, value_name = "DIR")]
        sdk: Option<PathBuf>,
        /// The plugin's folder (default: its name).
        #[arg(short, long, value_name = "DIR")]
        output: Option<PathBuf>,
    },
}

fn stage(text: &str) -> std::result::Result<Stage, String> {
    let known = Stage::ALL.into_iter().find(|stage| stage.name() == text);
    known.ok_or_else(|| format!("one of {}", Stage::ALL.map(Stage::name).join(", ")))
}

/// Runs the command.
pub fn run(command: &PluginCommand, search: &Search) -> Result<()> {
    let width = terminal::width();
    match command {
        PluginCommand::List { stage, options, json } => {
            let found = search.run()?;
            for entry in found.entries().iter().filter(|it| it.origin == Origin::CommandLine) {
                // Who names a library is answered why it cannot be used.
                entry.open()?;
            }
            let rows = report::list(&found, *stage);
            if *json {
                return super::print_json(&rows);
            }
            let more =
                if *options { report::options_text(&found, *stage, width) } else { String::new() };
            super::print(&(report::list_text(&rows, &found, width) + &more))
        }
        PluginCommand::Info { plugin, json } => {
            let plugins = report::info(plugin, search)?;
            if *json {
                return super::print_json(&plugins);
            }
            super::print(&report::info_text(&plugins, width))
        }
        PluginCommand::Doctor { json } => {
            super::doctor::tell(&report::doctor(&search.run()?, search), *json)
        }
        PluginCommand::Add { file } => {
            let plugin = Store::new(search.data.clone())?.add(file)?;
            super::say(&format!(
                "added {} {}: {}",
                plugin.name,
                plugin.version,
                plugin.path.display()
            ));
            super::say(&format!(
                "its SHA-256 is {}; `anemll plugin info {}` shows what it offers",
                plugin.sha256, plugin.name
            ));
            let found = Search { named: Vec::new(), ..search.clone() }.run()?;
            if let Some(why) = found.unused(&plugin.path) {
                super::say(&why);
            }
            Ok(())
        }
        PluginCommand::Trust { plugins } => {
            let store = Store::new(search.data.clone())?;
            let found = Search { named: Vec::new(), ..search.clone() }.run()?;
            for named in plugins {
                let plugin = store.trust(named, &found)?;
                super::say(&format!(
                    "trusted {} {}: {}",
                    plugin.name,
                    plugin.version,
                    plugin.path.display()
                ));
            }
            Ok(())
        }
        PluginCommand::New { name, stage, sdk, output } => {
            let told = anemll_scaffold::start(name, stage, sdk.as_deref(), output.as_deref())?;
            super::print(&terminal::plain_lines(&told))
        }
        PluginCommand::Remove { name } => {
            let removed = Store::new(search.data.clone())?.remove(name)?;
            for file in &removed.files {
                super::say(&format!("removed {}", file.display()));
            }
            for file in &removed.left {
                super::say(&format!("not trusted any more, but still there: {}", file.display()));
            }
            Ok(())
        }
    }
}
