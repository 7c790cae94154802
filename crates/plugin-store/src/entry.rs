//! A plugin that was found, or a file that looks like one.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anemll_codes as codes;
use anemll_plugin_api::data::{ComponentManifest, Manifest};
use anemll_plugin_api::{Builtin, Error, LoadedPlugin, Result};
use anemll_plugin_host::{Candidate, Identity, LoadOptions, Snapshot};
use serde::Serialize;

use crate::lock::LockFile;
use crate::permissions::refuse_writable;
use crate::place::Origin;

/// What becomes of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is used.
    Ok,
    /// One of the same name or id goes before it.
    Shadowed,
    /// Another one beside it has the same name or id, so that neither is used.
    Ambiguous,
    /// It is not in the lock file, and not loaded.
    Untrusted,
    /// It is not what the lock file lists under its name, and not loaded.
    Stale,
    /// It cannot be loaded.
    Refused,
}

impl Status {
    /// For lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Shadowed => "shadowed",
            Self::Ambiguous => "ambiguous",
            Self::Untrusted => "untrusted",
            Self::Stale => "stale",
            Self::Refused => "refused",
        }
    }
}

/// A plugin, or a file in a folder with plugins that is none, and why.
#[derive(Debug)]
pub struct Entry {
    /// Where it came from.
    pub origin: Origin,
    /// The library, unless it is built in.
    pub path: Option<PathBuf>,
    /// What it says of itself, also of one that is not loaded; or why that cannot be read.
    pub manifest: Result<Manifest>,
    /// The SHA-256 of the library, where the lock file decides over it.
    pub sha256: Option<String>,
    /// Plugins of one place are equals.
    pub(crate) place: usize,
    /// Why it is not loaded, though its manifest can be read.
    refusal: Option<Error>,
    /// What was read of a library that needs no lock file.
    candidate: Option<Candidate>,
    plugin: OnceLock<Result<LoadedPlugin>>,
}

impl Entry {
    /// A library that needs no lock file.
    pub(crate) fn of_file(origin: Origin, place: usize, path: PathBuf) -> Self {
        let candidate = Candidate::of_file(&path);
        let manifest = candidate.as_ref().map(|it| it.manifest().clone()).map_err(Clone::clone);
        let mut entry = Self::new(origin, place, manifest);
        entry.path = Some(path);
        entry.candidate = candidate.ok();
        entry
    }

    /// A library that the lock file must list.
    pub(crate) fn locked(
        origin: Origin,
        place: usize,
        path: PathBuf,
        lock: &Result<LockFile>,
    ) -> Self {
        let Identity { manifest, sha256, .. } = match Identity::of_file(&path) {
            Ok(identity) => identity,
            Err(refusal) => {
                let mut entry = Self::new(origin, place, Err(refusal));
                entry.path = Some(path);
                return entry;
            }
        };
        let shown = path.display().to_string();
        let refusal = match lock {
            Err(unreadable) => Some(unreadable.clone()),
            Ok(lock) if lock.lists(&sha256) => None,
            Ok(lock) => Some(match lock.knows(&manifest.name, &path) {
                true => stale(&manifest.name),
                false => Error::new(
                    codes::PLUGIN_UNTRUSTED,
                    format!("the lock file does not list plugin `{}`", manifest.name),
                ),
            }),
        };
        let mut entry = Self::new(origin, place, Ok(manifest));
        entry.path = Some(path);
        entry.sha256 = Some(sha256);
        entry.refusal = refusal.map(|refusal| match refusal.code.as_str() {
            codes::PLUGIN_LOCK_INVALID => refusal,
            _ => refusal.with_at(shown.clone()).with_hint(trust_hint(origin, Path::new(&shown))),
        });
        entry
    }

    /// A library in a folder that only some may write to, while anyone may write to the library.
    pub(crate) fn refused_if_writable(mut self) -> Self {
        let refused = self.path.as_deref().map(refuse_writable);
        if let Some(Err(writable)) = refused {
            self.refusal = Some(writable);
        }
        self
    }

    pub(crate) fn builtin(place: usize, plugin: &Builtin) -> Self {
        let plugin = LoadedPlugin::builtin(plugin);
        let manifest = match &plugin {
            Ok(plugin) => Ok(plugin.manifest().clone()),
            Err(refusal) => Err(refusal.clone()),
        };
        let mut entry = Self::new(Origin::Builtin, place, manifest);
        entry.plugin = OnceLock::from(plugin);
        entry
    }

    fn new(origin: Origin, place: usize, manifest: Result<Manifest>) -> Self {
        Self {
            origin,
            path: None,
            manifest,
            sha256: None,
            place,
            refusal: None,
            candidate: None,
            plugin: OnceLock::new(),
        }
    }

    /// The plugin; its library is opened by the first call.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(&self) -> Result<&LoadedPlugin> {
        let open = || {
            let manifest = self.usable()?;
            if let Some(candidate) = &self.candidate {
                return candidate.open(&LoadOptions::default());
            }
            let (Some(path), Some(sha256)) = (&self.path, &self.sha256) else {
                // Built-in plugins are open from the start.
                return Err(Error::new(codes::INTERNAL, "a plugin has no file"));
            };
            let snapshot = Snapshot::of(path)?;
            if snapshot.identity().sha256 != *sha256 {
                return Err(stale(&manifest.name)
                    .with_at(path.display().to_string())
                    .with_hint(trust_hint(self.origin, path)));
            }
            snapshot.open()
        };
        self.plugin.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    /// The manifest of a plugin that may be loaded.
    ///
    /// # Errors
    /// Why it may not.
    pub fn usable(&self) -> Result<&Manifest> {
        match (&self.refusal, &self.manifest) {
            (Some(refusal), _) | (None, Err(refusal)) => Err(refusal.clone()),
            (None, Ok(manifest)) => Ok(manifest),
        }
    }

    /// What it offers, if it may be loaded.
    pub fn components(&self) -> &[ComponentManifest] {
        match (&self.refusal, &self.manifest) {
            (None, Ok(manifest)) => &manifest.components,
            _ => &[],
        }
    }

    /// The plugin's name, if it can be read.
    pub(crate) fn name(&self) -> Option<&str> {
        self.manifest.as_ref().ok().map(|manifest| manifest.name.as_str())
    }

    /// Whether it may be loaded and has this name.
    pub(crate) fn is_usable_as(&self, name: &str) -> bool {
        self.refusal.is_none() && self.manifest.as_ref().is_ok_and(|manifest| manifest.name == name)
    }

    /// Where the plugin is, for messages.
    pub fn location(&self) -> String {
        self.path.as_ref().map_or_else(|| "built in".to_owned(), |path| path.display().to_string())
    }

    /// Whether it would be loaded if the user trusted it, as it is now.
    pub(crate) fn needs_trust(&self) -> bool {
        matches!(self.own_status(), Status::Untrusted | Status::Stale)
    }

    /// The status by itself, whatever other plugins there are.
    pub(crate) fn own_status(&self) -> Status {
        match self.usable().err().as_ref().map(|refusal| refusal.code.as_str()) {
            None => Status::Ok,
            Some(codes::PLUGIN_UNTRUSTED) => Status::Untrusted,
            Some(codes::PLUGIN_STALE) => Status::Stale,
            Some(_) => Status::Refused,
        }
    }
}

fn stale(name: &str) -> Error {
    Error::new(codes::PLUGIN_STALE, format!("plugin `{name}` has changed since it was trusted"))
}

/// What to do about a plugin that is not trusted.
fn trust_hint(origin: Origin, path: &Path) -> String {
    let verb = if origin == Origin::CommandLine { "add" } else { "trust" };
    format!(
        "a plugin can do all that you can do; if you trust this one: anemll plugin {verb} {}",
        path.display()
    )
}
