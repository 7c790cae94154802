//! The list of all plugins.

use super::fate::{Fate, component_fate, fate};
use anemll_plugin_api::data::{OptionSpec, Stage};
use anemll_plugin_store::{Entry, Found, Status};
use anemll_terminal::{BAD, Cell, Column, DOUBTFUL, GOOD, Table, plain};
use serde::Serialize;
use std::collections::BTreeMap;

/// A component of a plugin, or a library of which no component is known.
#[derive(Debug, Serialize)]
pub struct Row<'a> {
    /// The stage.
    pub stage: Option<&'static str>,
    /// The component's id.
    pub id: Option<&'a str>,
    /// The plugin's name.
    pub plugin: Option<&'a str>,
    /// The plugin's version.
    pub version: Option<&'a str>,
    /// The ABI epoch that it was built for.
    pub abi: Option<u32>,
    /// Where it comes from.
    pub origin: &'static str,
    /// The library, unless it is linked in.
    pub path: Option<String>,
    /// The SHA-256 of the library, where the lock file decides over it.
    pub sha256: Option<&'a str>,
    /// What becomes of it, and why.
    #[serde(flatten)]
    pub fate: Fate,
    /// One line that says what it does.
    pub summary: &'a str,
    /// The options that it takes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<&'a BTreeMap<String, OptionSpec>>,
}

/// All components of a stage, or of all: by stage, and within one in the order in which they are found.
/// A library of which no component is known is listed in any case, at the end: it may have one of that
/// stage. Plugins that may be loaded are loaded, to see whether they can be.
pub fn list(found: &Found, stage: Option<Stage>) -> Vec<Row<'_>> {
    found.open_all();
    let mut rows: Vec<Row<'_>> = found.entries().iter().flat_map(|it| rows(found, it)).collect();
    if let Some(stage) = stage {
        rows.retain(|row| row.stage.is_none_or(|of_row| of_row == stage.name()));
    }
    let order = |row: &Row<'_>| {
        let of_row = |stage: &Stage| row.stage == Some(stage.name());
        Stage::ALL.iter().position(of_row).unwrap_or(Stage::ALL.len())
    };
    rows.sort_by_key(order);
    rows
}

fn rows<'a>(found: &'a Found, entry: &'a Entry) -> Vec<Row<'a>> {
    let fate = fate(found, entry, true);
    let path = entry.path.as_ref().map(|path| path.display().to_string());
    let row = Row {
        stage: None,
        id: None,
        plugin: None,
        version: None,
        abi: None,
        origin: entry.origin.name(),
        path,
        sha256: entry.sha256.as_deref(),
        fate: fate.clone(),
        summary: "",
        options: None,
    };
    let Ok(manifest) = &entry.manifest else { return vec![row] };
    let components = manifest.components.iter().map(|component| Row {
        stage: Some(component.stage.name()),
        id: Some(&component.id),
        plugin: Some(&manifest.name),
        version: Some(&manifest.version),
        abi: Some(manifest.abi),
        path: row.path.clone(),
        fate: component_fate(found, entry, component, &fate),
        summary: &component.summary,
        options: Some(&component.options),
        ..row
    });
    components.collect()
}

/// The list as a table.
pub fn list_text(rows: &[Row<'_>], found: &Found, width: Option<usize>) -> String {
    if rows.is_empty() {
        return format!(
            "no plugins are found; name one with --plugin PATH\n{}\n",
            plain(&found.searched())
        );
    }
    let columns =
        [Column::Left, Column::Left, Column::Left, Column::Left, Column::Left, Column::Text];
    let head = ["STAGE", "ID", "VERSION", "ORIGIN", "STATUS", "SUMMARY"];
    let mut table = Table::new(&columns).with_head(&head).without_indent().leaving_out(&[3, 2]);
    for row in rows {
        let style = match row.fate.status {
            Status::Ok => GOOD,
            Status::Refused | Status::Ambiguous => BAD,
            _ => DOUBTFUL,
        };
        let summary = match row.fate.is_ok() {
            true => row.summary.to_owned(),
            false => {
                format!("{} {}", row.fate.told(), row.path.as_deref().unwrap_or_default())
            }
        };
        let [stage, id, version] =
            [row.stage, row.id, row.version].map(|text| Cell::from(text.unwrap_or("-")));
        let status = Cell::styled(row.fate.status.name(), style);
        table.row([stage, id, version, Cell::from(row.origin), status, Cell::from(summary)]);
    }
    table.render(width)
}
