//! All plugins of a run, and which of them goes before which.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anemll_codes as codes;
use anemll_plugin_api::data::{ComponentManifest, Stage};
use anemll_plugin_api::{Error, Result};

use crate::entry::{Entry, Status};
use crate::folder::{Folder, FolderState};
use crate::lock::LockFile;
use crate::place::Origin;

/// What was found, in the order in which it is used.
#[derive(Debug)]
pub struct Found {
    entries: Vec<Entry>,
    folders: Vec<Folder>,
    lock: Result<LockFile>,
}

impl Found {
    pub(crate) fn new(entries: Vec<Entry>, folders: Vec<Folder>, lock: Result<LockFile>) -> Self {
        Self { entries, folders, lock }
    }

    /// Every plugin, usable or not.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The folders that were looked into.
    pub fn folders(&self) -> &[Folder] {
        &self.folders
    }

    /// The lock file as it was read.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn lock_file(&self) -> std::result::Result<&LockFile, &Error> {
        self.lock.as_ref()
    }

    /// Opens every plugin that may be loaded, several at once. What came of each, [`Entry::open`] says.
    pub fn open_all(&self) {
        let next = AtomicUsize::new(0);
        let work = || {
            while let Some(entry) = self.entries.get(next.fetch_add(1, Ordering::Relaxed)) {
                let _ = entry.open();
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 1..threads.min(self.entries.len()) {
                scope.spawn(work);
            }
            work();
        });
    }

    /// Where plugins were looked for and what came of it, in one sentence.
    pub fn searched(&self) -> String {
        let told: Vec<String> = self
            .folders
            .iter()
            .map(|folder| format!("in {}, {}", folder.path.display(), folder.outcome()))
            .collect();
        let text = match told.is_empty() {
            true => "no folder with plugins is known".to_owned(),
            false => format!("looked for plugins {}", told.join("; ")),
        };
        match self.has_program_folder() {
            true => text,
            false => format!("this program has no plugin folder; {text}"),
        }
    }

    /// Whether the program has its plugins, in a folder or linked in.
    pub fn has_program_folder(&self) -> bool {
        let shipped = self.folders.iter().filter(|folder| folder.origin == Origin::Installed);
        self.entries.iter().any(|entry| entry.origin == Origin::Builtin)
            || shipped.into_iter().any(|folder| folder.state != FolderState::Missing)
    }

    /// What users should know of plugins that are not loaded, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let writable = |folder: &Folder| {
            (folder.state == FolderState::Writable).then(|| {
                format!(
                    "plugins in {} are not loaded, as anyone may write to the folder",
                    folder.path.display()
                )
            })
        };
        let lock = self.lock.as_ref().err().map(|error| {
            let at = error.at.as_deref().unwrap_or_default();
            format!("{} ({at}) [{}]", error.message, error.code)
        });
        let of =
            |status: Status| self.entries.iter().filter(move |entry| entry.own_status() == status);
        let untrusted: Vec<&str> = of(Status::Untrusted).filter_map(Entry::name).collect();
        let untrusted = match untrusted.as_slice() {
            [] => None,
            [one] => {
                Some(format!("plugin `{one}` is not loaded, as the lock file does not list it"))
            }
            several => Some(format!(
                "{} plugins are not loaded, as the lock file does not list them: {}",
                several.len(),
                several.join(", ")
            )),
        };
        let doctor = |text: String, code: &str| {
            format!("{text} [{code}]; `anemll plugin doctor` says what to do")
        };
        let untrusted = untrusted.map(|text| doctor(text, codes::PLUGIN_UNTRUSTED));
        let stale = of(Status::Stale).filter_map(Entry::name).map(|name| {
            let text =
                format!("plugin `{name}` is not loaded, as it has changed since it was trusted");
            doctor(text, codes::PLUGIN_STALE)
        });
        // What is wrong with the lock file itself is said once.
        let broken = of(Status::Refused).filter_map(|entry| {
            let refusal = entry.usable().err()?;
            (refusal.code != codes::PLUGIN_LOCK_INVALID).then(|| {
                format!(
                    "the plugin {} cannot be used: {} [{}]",
                    entry.location(),
                    refusal.message,
                    refusal.code
                )
            })
        });
        let folders = self.folders.iter().filter_map(writable);
        folders.chain(lock).chain(untrusted).chain(stale).chain(broken).collect()
    }

    /// Which plugins take the place of some that came with the program, one sentence each.
    pub fn overrides(&self) -> Vec<String> {
        let mut told = Vec::new();
        for entry in self.entries.iter().filter(|entry| entry.origin.is_shipped()) {
            let Ok(old) = entry.usable() else { continue };
            let of_name = self.first_named(&old.name);
            let of_component =
                old.components.iter().filter_map(|one| self.winner(one.stage, &one.id));
            let Some(winner) = of_name
                .into_iter()
                .chain(of_component)
                .find(|first| first.place < entry.place && !first.origin.is_shipped())
            else {
                continue;
            };
            let Ok(new) = winner.usable() else { continue };
            told.push(format!(
                "plugin `{}` {} ({}, {}) takes the place of `{}` {} that came with the program",
                new.name,
                new.version,
                winner.origin.name(),
                winner.location(),
                old.name,
                old.version,
            ));
        }
        told
    }

    /// What becomes of a plugin as a whole.
    pub fn status(&self, entry: &Entry) -> Status {
        let own = entry.own_status();
        let (Status::Ok, Ok(manifest)) = (own, &entry.manifest) else { return own };
        let beside = |other: &Entry| {
            other.place == entry.place
                && !std::ptr::eq(other, entry)
                && other.is_usable_as(&manifest.name)
        };
        match self.first_named(&manifest.name) {
            Some(first) if first.place < entry.place => Status::Shadowed,
            _ if self.entries.iter().any(beside) => Status::Ambiguous,
            _ => Status::Ok,
        }
    }

    /// The plugin that goes before a shadowed one as a whole, or else before a component of it.
    pub fn before(&self, entry: &Entry, component: Option<&ComponentManifest>) -> Option<&Entry> {
        let name = &entry.usable().ok()?.name;
        let winner = || component.and_then(|one| self.winner(one.stage, &one.id));
        self.first_named(name)
            .filter(|first| first.place < entry.place)
            .or_else(|| winner().filter(|first| !std::ptr::eq(*first, entry)))
    }

    /// Why the plugin at a path is not used although it may be: which one goes before it.
    pub fn unused(&self, path: &Path) -> Option<String> {
        let entry = self.entries.iter().find(|entry| entry.path.as_deref() == Some(path))?;
        let first = self.before(entry, None)?;
        Some(format!(
            "it is not used while {} ({}) has the same name and goes before it; --plugin takes it for one run",
            first.location(),
            first.origin.name()
        ))
    }

    /// The first plugin of a name that may be loaded.
    fn first_named(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.is_usable_as(name))
    }

    /// What becomes of a component of a plugin.
    pub fn component_status(&self, entry: &Entry, component: &ComponentManifest) -> Status {
        match self.status(entry) {
            Status::Ok => match self.component(component.stage, &component.id) {
                Ok(Some(winner)) if std::ptr::eq(winner, entry) => Status::Ok,
                Ok(_) => Status::Shadowed,
                Err(_) => Status::Ambiguous,
            },
            other => other,
        }
    }

    /// Components of a stage, the one that goes first for each id.
    pub fn components(&self, stage: Stage) -> Vec<(&Entry, &ComponentManifest)> {
        let mut found: Vec<(&Entry, &ComponentManifest)> = Vec::new();
        for (entry, component) in self.usable_components() {
            let new = !found.iter().any(|(_, other)| other.id == component.id);
            if component.stage == stage && new {
                found.push((entry, component));
            }
        }
        found
    }

    /// The plugin with a component, if there is one.
    ///
    /// # Errors
    /// [`codes::PLUGIN_AMBIGUOUS`] when two of one place offer it, or are of the same name.
    pub fn component(&self, stage: Stage, id: &str) -> Result<Option<&Entry>> {
        let Some(first) = self.winner(stage, id) else { return Ok(None) };
        let refuse = |what: String, second: &Entry| {
            Err(Error::new(
                codes::PLUGIN_AMBIGUOUS,
                format!("two plugins {what}: {} and {}", first.location(), second.location()),
            )
            .with_hint("name only one of them with --plugin, or remove one"))
        };
        let is_it = |component: &ComponentManifest| component.stage == stage && component.id == id;
        let name =
            first.manifest.as_ref().map(|manifest| manifest.name.as_str()).unwrap_or_default();
        for second in self.entries.iter().filter(|other| other.place == first.place) {
            if std::ptr::eq(first, second) {
                continue;
            }
            if second.components().iter().any(is_it) {
                return refuse(format!("offer the {} `{id}`", stage.name()), second);
            }
            if second.is_usable_as(name) {
                return refuse(format!("have the name `{name}`"), second);
            }
        }
        Ok(Some(first))
    }

    fn winner(&self, stage: Stage, id: &str) -> Option<&Entry> {
        self.usable_components()
            .find(|(_, component)| component.stage == stage && component.id == id)
            .map(|(entry, _)| entry)
    }

    /// Components of plugins that are used: not those of a plugin whose name is taken.
    fn usable_components(&self) -> impl Iterator<Item = (&Entry, &ComponentManifest)> {
        self.entries
            .iter()
            .filter(|entry| self.status(entry) != Status::Shadowed)
            .flat_map(|entry| entry.components().iter().map(move |component| (entry, component)))
    }
}
