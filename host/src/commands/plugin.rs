//! `plugin list`: what is found, and what it offers.

use crate::cli::PluginCommand;
use crate::plugins::{Entry, Origin, Plugins};
use crate::terminal::plain;
use anemll_plugin_api::Result;
use serde::Serialize;

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
    let mut text = format!(
        "{:<10} {:<16} {:<9} {:<10} {:<8} {}\n",
        "STAGE", "ID", "VERSION", "ORIGIN", "STATUS", "SUMMARY"
    );
    for row in &rows {
        let summary = if row.status == "ok" { row.summary.to_owned() } else { row.status.clone() };
        let status = if row.status == "ok" { "ok" } else { "refused" };
        text += &format!(
            "{:<10} {:<16} {:<9} {:<10} {:<8} {}\n",
            row.stage,
            row.id,
            plain(row.version),
            row.origin,
            status,
            plain(&summary)
        );
    }
    if rows.is_empty() {
        let searched = plain(plugins.searched());
        text += &format!("no plugins are found; name one with --plugin PATH\n{searched}\n");
    }
    super::print(&text)
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
