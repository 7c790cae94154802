//! What is wrong with plugins, and what to do.

use super::fate::fate;
use crate::health::{Health, Line};
use anemll_plugin_api::data::Stage;
use anemll_plugin_store::{Entry, Folder, FolderState, Found, Origin, Search, Status};

/// Every folder, the lock file, every plugin, every stage.
pub fn doctor(found: &Found, search: &Search) -> Vec<Line> {
    let mut lines: Vec<Line> = found.folders().iter().map(folder_line).collect();
    lines.extend(lock_lines(found, search));
    lines.extend(plugin_lines(found));
    lines
}

fn folder_line(folder: &Folder) -> Line {
    let message =
        format!("{} ({}), {}", folder.path.display(), folder.origin.name(), folder.outcome());
    match &folder.state {
        FolderState::Writable => Line::new("folder", Health::Warn, message)
            .hint(format!("chmod o-w {}", folder.path.display())),
        FolderState::Unreadable(_) => Line::new("folder", Health::Warn, message)
            .hint("give yourself the right to read it, or leave it out"),
        FolderState::Missing if folder.origin == Origin::Path => {
            Line::new("folder", Health::Warn, message)
                .hint("make it, or take it out of ANEMLL_PLUGIN_PATH")
        }
        FolderState::Missing | FolderState::Searched(_) => Line::new("folder", Health::Ok, message),
    }
}

/// The lock file, and what it lists and is not there any more.
fn lock_lines(found: &Found, search: &Search) -> Vec<Line> {
    let Some(path) = search.lock_path() else {
        return vec![
            Line::new("lock file", Health::Ok, "none: it is not known where your folder is")
                .hint("set HOME or ANEMLL_DATA to trust plugins of others"),
        ];
    };
    let lock = match found.lock_file() {
        Ok(lock) => lock,
        Err(refusal) => {
            let message = format!("{}: {} [{}]", path.display(), refusal.message, refusal.code);
            let hint = refusal.hint.clone().unwrap_or_default();
            return vec![Line::new("lock file", Health::Warn, message).hint(hint)];
        }
    };
    let message = match lock.plugins().len() {
        0 => format!("{}: no plugin is listed", path.display()),
        1 => format!("{}: 1 plugin is listed", path.display()),
        count => format!("{}: {count} plugins are listed", path.display()),
    };
    let mut lines = vec![Line::new("lock file", Health::Ok, message)];
    for plugin in lock.plugins().iter().filter(|plugin| !plugin.path.exists()) {
        let message =
            format!("{} {} was at {}", plugin.name, plugin.version, plugin.path.display());
        lines.push(
            Line::new("lock file", Health::Warn, message)
                .hint(format!("it is gone: anemll plugin remove {}", plugin.name)),
        );
    }
    lines
}

/// Every plugin, and what is missing.
pub fn plugin_lines(found: &Found) -> Vec<Line> {
    if found.entries().is_empty() {
        // A program that was copied without its plugins can do nothing, and must say so.
        return vec![Line::new("plugins", Health::Fail, found.searched()).hint(
            "the folder belongs beside the program, with the plugins of the same version: take it \
             from where the program came from",
        )];
    }
    found.open_all();
    let plugins = found.entries().iter().map(|entry| plugin_line(found, entry));
    plugins.chain(stage_lines(found)).collect()
}

fn plugin_line(found: &Found, entry: &Entry) -> Line {
    let place = match &entry.path {
        Some(path) => format!("{} ({})", path.display(), entry.origin.name()),
        None => entry.origin.name().to_owned(),
    };
    let fate = fate(found, entry, true);
    let manifest = match &entry.manifest {
        Ok(manifest) if fate.is_ok() || fate.status == Status::Shadowed => manifest,
        _ => {
            let hint = fate.hint.clone().unwrap_or_else(|| {
                "remove the file, or replace it by a build for this version".to_owned()
            });
            return Line::new("plugin", Health::Warn, format!("{place}: {}", fate.told()))
                .hint(hint);
        }
    };
    let components: Vec<String> = manifest
        .components
        .iter()
        .map(|component| format!("{} {}", component.stage, component.id))
        .collect();
    let mut message =
        format!("{} {}: {}; {place}", manifest.name, manifest.version, components.join(", "));
    if !fate.is_ok() {
        message += &format!("; not used: {}", fate.told());
    }
    Line::new("plugin", Health::Ok, message)
}

/// Stages that a conversion cannot do without.
fn stage_lines(found: &Found) -> Vec<Line> {
    let missing = |(stage, status): (Stage, Health)| {
        found.components(stage).is_empty().then(|| {
            Line::new("plugins", status, format!("no {stage} found")).hint(
                "put its library into the folder `plugins` beside the program, or name it with \
                 --plugin",
            )
        })
    };
    [(Stage::Arch, Health::Fail), (Stage::Combiner, Health::Fail), (Stage::Quantizer, Health::Warn)]
        .into_iter()
        .filter_map(missing)
        .collect()
}
