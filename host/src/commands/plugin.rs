//! `plugin list`: what is found, and what it offers.

use crate::plugins::{Entry, Origin, Plugins};
use crate::terminal::{self, BAD, Cell, Column, GOOD, Table, plain};
use anemll_plugin_api::Result;
use clap::Subcommand;
use serde::Serialize;

/// For `--help`.
pub const EXAMPLES: &str = "Examples:
  anemll plugin list
  anemll --plugin ./libllama.so plugin list --json";

/// What can be typed.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// List the plugins that are found, with what they offer.
    List {
        /// Print one JSON array.
        #[arg(long)]
        json: bool,
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
}

/// Runs the command.
pub fn run(command: &PluginCommand, plugins: &Plugins) -> Result<()> {
    let PluginCommand::List { json } = command;
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
    super::print(&table.render(terminal::width()))
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
        }],
    }
}
