//! What becomes of plugins and components, and why.

use anemll_plugin_api::Error;
use anemll_plugin_api::data::ComponentManifest;
use anemll_plugin_store::{Entry, Found, Status};
use serde::Serialize;

/// What becomes of a plugin or a component, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fate {
    /// In a word.
    pub status: Status,
    /// Why, unless it is `ok`.
    pub reason: Option<String>,
    /// The code of the error that asking for it gives, if it gives one.
    pub code: Option<String>,
    /// What to do, where that is known.
    #[serde(skip)]
    pub hint: Option<String>,
}

impl Fate {
    fn of(status: Status, reason: Option<String>) -> Self {
        Self { status, reason, code: None, hint: None }
    }

    fn refused(status: Status, error: &Error) -> Self {
        Self {
            status,
            reason: Some(error.message.clone()),
            code: Some(error.code.clone()),
            hint: error.hint.clone(),
        }
    }

    /// Whether it is used.
    pub fn is_ok(&self) -> bool {
        self.status == Status::Ok
    }

    /// The reason and the code, for a line.
    pub(super) fn told(&self) -> String {
        let reason = self.reason.clone().unwrap_or_default();
        match &self.code {
            Some(code) => format!("{reason} [{code}]"),
            None => reason,
        }
    }
}

/// What becomes of a plugin. None of it is run, unless `open` asks for it.
pub(super) fn fate(found: &Found, entry: &Entry, open: bool) -> Fate {
    match found.status(entry) {
        Status::Ok if open => match entry.open() {
            Ok(_) => Fate::of(Status::Ok, None),
            Err(error) => Fate::refused(Status::Refused, &error),
        },
        Status::Ok => Fate::of(Status::Ok, None),
        status => match entry.usable() {
            Err(error) => Fate::refused(status, &error),
            Ok(manifest) => {
                let name = &manifest.name;
                let reason = match found.before(entry, None) {
                    Some(first) => goes_before(first),
                    None => format!("another plugin beside it has the name `{name}`, too"),
                };
                Fate::of(status, Some(reason))
            }
        },
    }
}

/// What becomes of a component of a plugin whose own fate is known.
pub(super) fn component_fate(
    found: &Found,
    entry: &Entry,
    component: &ComponentManifest,
    plugin: &Fate,
) -> Fate {
    if !plugin.is_ok() {
        return plugin.clone();
    }
    match found.component_status(entry, component) {
        Status::Ok => Fate::of(Status::Ok, None),
        status => {
            let reason = match found.component(component.stage, &component.id) {
                Err(ambiguous) => return Fate::refused(status, &ambiguous),
                Ok(_) => found.before(entry, Some(component)).map(goes_before),
            };
            Fate::of(status, reason)
        }
    }
}

fn goes_before(first: &Entry) -> String {
    format!("the one from {} ({}) goes before it", first.origin.name(), first.location())
}
