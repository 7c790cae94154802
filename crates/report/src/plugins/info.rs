//! All that a plugin says of itself, without running it.

use super::fate::{Fate, fate};
use super::options::option_rows;
use anemll_codes as codes;
use anemll_plugin_api::data::{ComponentManifest, is_legal_id};
use anemll_plugin_api::{Error, Result};
use anemll_plugin_host::Identity;
use anemll_plugin_store::{Entry, Found, Search};
use anemll_terminal::{Column, Table, plain};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// A plugin.
#[derive(Debug, Serialize)]
pub struct Info {
    /// Its name.
    pub plugin: String,
    /// Its version.
    pub version: String,
    /// The ABI epoch that it was built for.
    pub abi: u32,
    /// Its licence, an SPDX expression; may be empty.
    pub license: String,
    /// Where its authors are; may be empty.
    pub homepage: String,
    /// Where it comes from.
    pub origin: &'static str,
    /// The library, unless it is linked in.
    pub path: Option<String>,
    /// The SHA-256 of the library.
    pub sha256: Option<String>,
    /// What becomes of it, and why.
    #[serde(flatten)]
    pub fate: Fate,
    /// What it offers.
    pub components: Vec<ComponentManifest>,
}

/// All plugins with this name or with a component of this id, or the library at this path, be it
/// trusted or not.
///
/// # Errors
/// [`codes::PLUGIN_NOT_FOUND`], or why the library cannot be read.
pub fn info(named: &Path, search: &Search) -> Result<Vec<Info>> {
    let found = search.run()?;
    let Some(name) = named.to_str().filter(|text| is_legal_id(text)) else {
        // One that was found is told of as it is found.
        let path = named.canonicalize().ok();
        let is_it = |entry: &&Entry| {
            let own = entry.path.as_ref().and_then(|own| own.canonicalize().ok());
            own.is_some() && own == path
        };
        let looked_at;
        let entry = match found.entries().iter().find(is_it) {
            Some(entry) => entry,
            None => {
                looked_at = search.look_at(named);
                &looked_at
            }
        };
        entry.manifest.clone()?;
        return Ok(of_entry(&found, entry).into_iter().collect());
    };
    let has_it = |entry: &&Entry| {
        entry.manifest.as_ref().is_ok_and(|manifest| {
            manifest.name == name || manifest.components.iter().any(|it| it.id == name)
        })
    };
    let all: Vec<Info> =
        found.entries().iter().filter(has_it).filter_map(|entry| of_entry(&found, entry)).collect();
    if all.is_empty() {
        return Err(Error::new(
            codes::PLUGIN_NOT_FOUND,
            format!("no plugin and no component `{name}` was found"),
        )
        .with_cause(found.searched())
        .with_hint("`anemll plugin list` shows what is found; a library is named with its path"));
    }
    Ok(all)
}

fn of_entry(found: &Found, entry: &Entry) -> Option<Info> {
    let manifest = entry.manifest.as_ref().ok()?.clone();
    let summed = || Some(entry.path.as_deref().map(Identity::of_file)?.ok()?.sha256);
    Some(Info {
        fate: fate(found, entry, false),
        plugin: manifest.name,
        version: manifest.version,
        abi: manifest.abi,
        license: manifest.license,
        homepage: manifest.homepage,
        origin: entry.origin.name(),
        path: entry.path.as_ref().map(|path| path.display().to_string()),
        sha256: entry.sha256.clone().or_else(summed),
        components: manifest.components,
    })
}

/// The plugins as text.
pub fn info_text(plugins: &[Info], width: Option<usize>) -> String {
    plugins.iter().map(|plugin| one(plugin, width)).collect::<Vec<_>>().join("\n")
}

fn one(plugin: &Info, width: Option<usize>) -> String {
    let mut facts = Table::new(&[Column::Left, Column::Text]);
    let status = match plugin.fate.is_ok() {
        true => plugin.fate.status.name().to_owned(),
        false => format!("{}: {}", plugin.fate.status.name(), plugin.fate.told()),
    };
    facts.row(["status", &status]);
    for (name, value) in [
        ("", plugin.fate.hint.as_deref()),
        ("from", Some(plugin.origin)),
        ("library", plugin.path.as_deref()),
        ("sha256", plugin.sha256.as_deref()),
        ("licence", Some(plugin.license.as_str())),
        ("homepage", Some(plugin.homepage.as_str())),
    ] {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            facts.row([name, value]);
        }
    }
    let mut text = format!("{} {}, ABI {}\n", plugin.plugin, plain(&plugin.version), plugin.abi);
    text += &facts.render(width);
    for component in &plugin.components {
        let _ = writeln!(text, "\n{} {}: {}", component.stage, component.id, component.summary);
        let mut table = Table::new(&[Column::Left, Column::Left, Column::Text]);
        if !component.model_types.is_empty() {
            table.row(["model types", &*component.model_types.join(", "), ""]);
        }
        option_rows(component, &mut table);
        text += &table.render(width);
    }
    text
}
