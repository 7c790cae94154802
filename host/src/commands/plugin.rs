//! `plugin list`: what is found, and what it offers; `plugin new`: the start of one more.

use anemll_pipeline::plugins::{Entry, Origin, Plugins};
use anemll_plugin_api::data::{OptionSpec, OptionType, Stage};
use anemll_plugin_api::{Result, Value};
use anemll_terminal::{self as terminal, BAD, Cell, Column, GOOD, Table, plain, plain_lines};
use clap::Subcommand;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll plugin list
  anemll --plugin ./libllama.so plugin list --json
  anemll plugin new starcoder2 --stage arch";

/// What can be typed.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List the plugins that were found, and what they offer.
    List {
        /// Also list the options that each component takes.
        #[arg(long)]
        options: bool,
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
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

#[derive(Serialize)]
struct Row<'a> {
    stage: &'a str,
    id: &'a str,
    plugin: &'a str,
    version: &'a str,
    abi: u32,
    origin: &'a str,
    path: Option<String>,
    status: String,
    summary: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    options: Option<&'a BTreeMap<String, OptionSpec>>,
}

/// Runs the command.
pub fn run(command: &PluginCommand, plugins: &Plugins) -> Result<()> {
    let (options, json) = match command {
        PluginCommand::List { options, json } => (options, json),
        PluginCommand::New { name, stage, sdk, output } => {
            let told = anemll_scaffold::start(name, stage, sdk.as_deref(), output.as_deref())?;
            return super::print(&plain_lines(&told));
        }
    };
    for entry in plugins.entries() {
        // Who names a library is answered why it cannot be used.
        if entry.origin == Origin::CommandLine {
            entry.open()?;
        }
    }
    let rows: Vec<Row<'_>> = plugins.entries().iter().flat_map(rows).collect();
    if *json {
        return super::print_json(&rows);
    }
    if rows.is_empty() {
        let searched = plain(plugins.searched());
        return super::print(&format!(
            "no plugins are found; name one with --plugin PATH\n{searched}\n"
        ));
    }
    let columns =
        [Column::Left, Column::Left, Column::Left, Column::Left, Column::Left, Column::Text];
    let head = ["STAGE", "ID", "VERSION", "ORIGIN", "STATUS", "SUMMARY"];
    let mut table = Table::new(&columns).with_head(&head).without_indent().leaving_out(&[3, 2]);
    for row in &rows {
        let (status, summary) = match row.status.as_str() {
            "ok" => (Cell::styled("ok", GOOD), row.summary),
            refusal => (Cell::styled("refused", BAD), refusal),
        };
        let [stage, id, version, origin] =
            [row.stage, row.id, row.version, row.origin].map(Cell::from);
        table.row([stage, id, version, origin, status, Cell::from(summary)]);
    }
    let width = terminal::width();
    let list = table.render(width);
    super::print(&if *options { list + &options_text(plugins, width) } else { list })
}

/// The options of all components that take any.
fn options_text(plugins: &Plugins, width: Option<usize>) -> String {
    let mut text = String::new();
    for stage in Stage::ALL {
        for (_, component) in plugins.components(stage) {
            if component.options.is_empty() {
                continue;
            }
            let mut table = Table::new(&[Column::Left, Column::Left, Column::Text]);
            for (name, option) in &component.options {
                let path = match stage {
                    Stage::Quantizer => name.clone(),
                    _ => format!("{}.{name}", component.id),
                };
                table.row([format!("-O {path}="), values(option), option.help.clone()]);
            }
            let head = format!("\n{} {}:\n", stage.name(), component.id);
            text += &(head + &table.render(width));
        }
    }
    text
}

/// What an option can be.
fn values(option: &OptionSpec) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let kind = match (&option.values, option.kind) {
        (Some(values), _) => values.iter().map(plain).collect::<Vec<_>>().join("|"),
        (None, OptionType::Integer) => "whole number".to_owned(),
        (None, OptionType::Number) => "number".to_owned(),
        (None, OptionType::Boolean) => "true|false".to_owned(),
        (None, OptionType::String) => "text".to_owned(),
        (None, _) => "value".to_owned(),
    };
    match &option.default {
        Some(default) => format!("{kind} (default {})", plain(default)),
        None => kind,
    }
}

fn rows(entry: &Entry) -> Vec<Row<'_>> {
    let path = entry.path.as_ref().map(|path| path.display().to_string());
    match entry.open() {
        Ok(plugin) => {
            let manifest = plugin.manifest();
            manifest
                .components
                .iter()
                .map(|component| Row {
                    stage: component.stage.name(),
                    id: &component.id,
                    plugin: &manifest.name,
                    version: &manifest.version,
                    abi: manifest.abi,
                    origin: entry.origin.name(),
                    path: path.clone(),
                    status: "ok".to_owned(),
                    summary: &component.summary,
                    options: Some(&component.options),
                })
                .collect()
        }
        Err(error) => vec![Row {
            stage: "-",
            id: "-",
            plugin: "-",
            version: "-",
            abi: 0,
            origin: entry.origin.name(),
            status: format!("{} [{}] {}", error.message, error.code, path.as_deref().unwrap_or("")),
            path,
            summary: "",
            options: None,
        }],
    }
}
