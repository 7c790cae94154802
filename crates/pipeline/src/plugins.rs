//! Finding plugins, and finding a component among them.
//!
//! Plugins come from `--plugin` (consent for this run), from the folder `plugins` beside the
//! executable or else `../lib/anemll/plugins`, where package managers put them, and, in a build with
//! the feature `builtin`, from the program itself. An id that
//! `--plugin` brings takes the place of one found elsewhere.
//!
//! What a plugin offers is read from its file. The library is opened, and with that may run, only
//! when one of its components is used.

use anemll_codes as codes;
use anemll_plugin_api::data::{ComponentManifest, Manifest, MatchRank, Refusal, Stage};
use anemll_plugin_api::{
    ArchFrontend, Combiner, Compiler, ComponentOptions, Error, Quantizer, Result, Runtime,
};
use anemll_plugin_host::{LoadedPlugin, builtin_plugins, manifest_of_file, open};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The quantizer, the compiler or the runtime that leaves its stage out.
pub const NONE: &str = "none";

/// The compiler that means: the first of ours that can run here.
pub const AUTOMATIC: &str = "auto";

/// The compilers that are tried for [`AUTOMATIC`]: Apple's knows best, ours runs anywhere.
const COMPILERS: [&str; 2] = ["coremlcompiler", "mlmodelc"];

/// Where a plugin came from; later ones give way to earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `--plugin`.
    CommandLine,
    /// The folder of installed plugins.
    Installed,
    /// Linked into this program.
    Builtin,
}

impl Origin {
    /// For lists that users read.
    pub fn name(self) -> &'static str {
        match self {
            Self::CommandLine => "--plugin",
            Self::Installed => "installed",
            Self::Builtin => "builtin",
        }
    }
}

/// A plugin, or a file in the plugin folder that is none, and why.
pub struct Entry {
    /// Where it came from.
    pub origin: Origin,
    /// The library, unless it is built in.
    pub path: Option<PathBuf>,
    /// What it says of itself, or why it cannot be used.
    pub manifest: Result<Manifest>,
    plugin: OnceLock<Result<LoadedPlugin>>,
}

impl Entry {
    fn of_file(origin: Origin, path: PathBuf) -> Self {
        let manifest = manifest_of_file(&path);
        Self { origin, path: Some(path), manifest, plugin: OnceLock::new() }
    }

    /// The plugin; its library is opened by the first call.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn open(&self) -> Result<&LoadedPlugin> {
        let open = || match (&self.manifest, &self.path) {
            (Err(refusal), _) => Err(refusal.clone()),
            (Ok(_), Some(path)) => open(path),
            // Built-in plugins are open from the start.
            (Ok(_), None) => Err(Error::new(codes::INTERNAL, "a plugin has no file")),
        };
        self.plugin.get_or_init(open).as_ref().map_err(Clone::clone)
    }

    fn components(&self) -> &[ComponentManifest] {
        self.manifest.as_ref().map_or(&[], |manifest| &manifest.components)
    }

    /// Where the plugin is, for messages.
    fn place(&self) -> String {
        self.path.as_ref().map_or_else(|| "built in".to_owned(), |path| path.display().to_string())
    }
}

/// All plugins of this run.
pub struct Plugins {
    entries: Vec<Entry>,
    /// Where installed plugins were looked for, and what came of it.
    searched: String,
}

impl Plugins {
    /// Finds the plugins named on the command line, the installed ones, and the built-in ones.
    ///
    /// A library named by `--plugin` that is no plugin is an error; one in the plugin folder is
    /// listed with its reason, and matters only when something of it is asked for.
    pub fn discover(command_line: &[PathBuf]) -> Result<Self> {
        let mut entries = Vec::new();
        for path in command_line {
            let entry = Entry::of_file(Origin::CommandLine, absolute(path));
            if let Err(refusal) = &entry.manifest {
                return Err(refusal.clone());
            }
            entries.push(entry);
        }
        let (libraries, searched) = installed_libraries();
        for path in libraries {
            if entries.iter().any(|entry| entry.path.as_deref() == Some(&path)) {
                continue;
            }
            entries.push(Entry::of_file(Origin::Installed, path));
        }
        // inventory promises no order; lists must not change from build to build.
        let mut builtin: Vec<_> = builtin_plugins().collect();
        builtin.sort_by_key(|plugin| plugin.manifest());
        for plugin in builtin {
            let plugin = LoadedPlugin::builtin(plugin);
            let manifest = plugin.as_ref().map(|plugin| plugin.manifest().clone());
            let manifest = manifest.map_err(Clone::clone);
            let plugin = OnceLock::from(plugin);
            entries.push(Entry { origin: Origin::Builtin, path: None, manifest, plugin });
        }
        Ok(Self { entries, searched })
    }

    /// Every plugin, usable or not.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Where installed plugins were looked for, and what came of it.
    pub fn searched(&self) -> &str {
        &self.searched
    }

    /// Files in the plugin folder that are no plugins for this program, one sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let broken = |entry: &Entry| match (&entry.path, &entry.manifest) {
            (Some(path), Err(refusal)) => Some(format!(
                "the plugin {} cannot be used: {} [{}]",
                path.display(),
                refusal.message,
                refusal.code
            )),
            _ => None,
        };
        self.entries.iter().filter_map(broken).collect()
    }

    /// Components of a stage, the one that wins for each id.
    pub fn components(&self, stage: Stage) -> Vec<(&Entry, &ComponentManifest)> {
        let mut found: Vec<(&Entry, &ComponentManifest)> = Vec::new();
        for entry in &self.entries {
            for component in entry.components() {
                let new = !found.iter().any(|(_, other)| other.id == component.id);
                if component.stage == stage && new {
                    found.push((entry, component));
                }
            }
        }
        found
    }

    fn component(&self, stage: Stage, id: &str) -> Result<&Entry> {
        let is_it = |component: &ComponentManifest| component.stage == stage && component.id == id;
        let mut having = self.entries.iter().filter(|entry| entry.components().iter().any(is_it));
        if let Some(first) = having.next() {
            // Two plugins of one origin that offer the same id: nothing but the user can choose.
            return match having.next() {
                Some(second) if second.origin == first.origin => Err(Error::new(
                    codes::PLUGIN_AMBIGUOUS,
                    format!(
                        "two plugins offer the {} `{id}`: {} and {}",
                        stage.name(),
                        first.place(),
                        second.place(),
                    ),
                )
                .with_hint("name only one of them with --plugin, or remove one")),
                _ => Ok(first),
            };
        }
        Err(self.not_found(stage, &format!("the {} `{id}` was not found", stage.name())))
    }

    /// The error of a component that is not there: `what`, which are, and where plugins were looked
    /// for.
    pub fn not_found(&self, stage: Stage, what: &str) -> Error {
        let all = self.components(stage);
        let ids: Vec<&str> = all.iter().map(|(_, component)| component.id.as_str()).collect();
        let have = if ids.is_empty() {
            format!("no {} is installed", stage.name())
        } else {
            format!("installed: {}", ids.join(", "))
        };
        let error = Error::new(codes::PLUGIN_NOT_FOUND, format!("{what}; {have}"));
        self.say_where(error).with_hint(
            "name its library with --plugin PATH; `anemll plugin list` shows what is found",
        )
    }

    /// Adds where plugins were looked for, and which files there cannot be used.
    fn say_where(&self, mut error: Error) -> Error {
        error = error.with_cause(self.searched.clone());
        for entry in &self.entries {
            if let (Some(path), Err(refusal)) = (&entry.path, &entry.manifest) {
                error = error.with_cause(format!("{}: {}", path.display(), refusal.message));
            }
        }
        error
    }

    fn plugin(&self, stage: Stage, id: &str) -> Result<&LoadedPlugin> {
        self.component(stage, id)?.open()
    }

    /// Version of the plugin with a component.
    pub fn version(&self, stage: Stage, id: &str) -> Result<String> {
        Ok(self.component(stage, id)?.manifest.clone()?.version)
    }

    /// What tells a component's plugin from any other build of it: id, version, and the SHA-256 of
    /// its library unless it is linked in.
    pub fn identity(&self, stage: Stage, id: &str) -> Result<Value> {
        let entry = self.component(stage, id)?;
        let plugin = entry.open()?;
        let library = match &entry.path {
            Some(path) => Some(anemll_store::sha256(path).map_err(|source| {
                anemll_store::io_error(
                    codes::PLUGIN_UNREADABLE,
                    "cannot read a plugin",
                    path,
                    &source,
                )
            })?),
            None => None,
        };
        let version = &plugin.manifest().version;
        Ok(json!({ "stage": stage.name(), "id": id, "version": version, "library": library }))
    }

    /// The combiner `id`, made with options of its manifest.
    pub fn combiner(&self, id: &str, options: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        self.plugin(Stage::Combiner, id)?.combiner(id, options)
    }

    /// The quantizer `id`.
    pub fn quantizer(&self, id: &str, options: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        self.plugin(Stage::Quantizer, id)?.quantizer(id, options)
    }

    /// The compiler backend `id`.
    pub fn compiler(&self, id: &str) -> Result<Box<dyn Compiler>> {
        self.compiler_with(id, &ComponentOptions::new())
    }

    /// The compiler backend `id`, made with these options.
    pub fn compiler_with(&self, id: &str, options: &ComponentOptions) -> Result<Box<dyn Compiler>> {
        self.plugin(Stage::Compiler, id)?.compiler(id, options)
    }

    /// The ending of what a compiler makes of a package, without the point.
    pub fn compiled_ending(&self, id: &str) -> String {
        let known = self.components(Stage::Compiler);
        let component = known.into_iter().find(|(_, component)| component.id == id);
        component
            .and_then(|(_, component)| component.produces.clone())
            .unwrap_or_else(|| "mlmodelc".to_owned())
    }

    /// The id behind `requested`: itself, or, for [`AUTOMATIC`], the first of ours that is
    /// installed and can run here. Where none can, the last that is installed says why.
    ///
    /// # Errors
    /// Where none can run, and one of them, or a file that may hold one, is damaged: a conversion
    /// must not come out without compiled models unnoticed.
    pub fn compiler_id(&self, requested: &str) -> Result<String> {
        if requested != AUTOMATIC {
            return Ok(requested.to_owned());
        }
        let mut idle = None;
        let mut failure = None;
        for id in COMPILERS {
            let check = match self.component(Stage::Compiler, id) {
                Ok(_) => self.compiler(id).and_then(|compiler| compiler.check()),
                Err(missing) if missing.code == codes::PLUGIN_NOT_FOUND => {
                    if !self.warnings().is_empty() {
                        failure = Some(missing);
                    }
                    continue;
                }
                Err(ambiguous) => Err(ambiguous),
            };
            match check {
                Ok(answer) if answer.available => return Ok(id.to_owned()),
                Ok(_) => idle = Some(id),
                Err(error) => failure = Some(error),
            }
        }
        match (failure, idle) {
            (Some(failure), _) => Err(failure),
            (None, idle) => Ok(idle.unwrap_or(COMPILERS[COMPILERS.len() - 1]).to_owned()),
        }
    }

    /// The runtime `id`.
    pub fn runtime(&self, id: &str) -> Result<Box<dyn Runtime>> {
        self.runtime_with(id, &ComponentOptions::new())
    }

    /// The runtime `id`, made with options of its manifest.
    pub fn runtime_with(&self, id: &str, options: &ComponentOptions) -> Result<Box<dyn Runtime>> {
        self.plugin(Stage::Runtime, id)?.runtime(id, options)
    }

    /// The arch frontend for a config.json, made with these options: `requested`, or the one that
    /// accepts the configuration best.
    pub fn frontend(
        &self,
        config: &str,
        requested: Option<&str>,
        options: &ComponentOptions,
    ) -> Result<(String, Box<dyn ArchFrontend>)> {
        let id = self.frontend_id(config, requested)?;
        let frontend = self.plugin(Stage::Arch, &id)?.arch_frontend(&id, options)?;
        Ok((id, frontend))
    }

    /// The id of the arch frontend for a config.json: `requested`, or the one that accepts the
    /// configuration best.
    pub fn frontend_id(&self, config: &str, requested: Option<&str>) -> Result<String> {
        match requested {
            Some(id) => Ok(id.to_owned()),
            None => self.accepting(config),
        }
    }

    /// The arch frontend that accepts a config.json best.
    fn accepting(&self, config: &str) -> Result<String> {
        let parsed: Value = serde_json::from_str(config).unwrap_or_default();
        let model_type = parsed["model_type"].as_str().unwrap_or_default();
        // Those that name the model's type first: the libraries of the others stay closed.
        let components = self.components(Stage::Arch);
        let names_it = |(_, component): &(&Entry, &ComponentManifest)| {
            component.model_types.iter().any(|name| name == model_type)
        };
        let (naming, others): (Vec<_>, Vec<_>) = components.into_iter().partition(names_it);
        let mut best = Vec::new();
        for (entry, component) in naming {
            self.component(Stage::Arch, &component.id)?;
            consider(entry.open()?, &component.id, config, &mut best)?;
        }
        if best.is_empty() {
            for (entry, component) in others {
                // One that cannot be opened says nothing of models that it does not name.
                let Ok(plugin) = entry.open() else { continue };
                consider(plugin, &component.id, config, &mut best)?;
            }
        }
        let rank = best.iter().map(|candidate| candidate.rank).max();
        best.retain(|candidate| Some(candidate.rank) == rank);
        // One that takes the model as it is goes before those that know it and refuse it.
        if best.iter().any(|candidate| candidate.refused.is_none()) {
            best.retain(|candidate| candidate.refused.is_none());
        }
        if best.len() > 1 {
            let ids: Vec<&str> = best.iter().map(|candidate| candidate.id.as_str()).collect();
            return Err(Error::new(
                codes::MODEL_TYPE_AMBIGUOUS,
                format!("several arch frontends accept this model: {}", ids.join(", ")),
            )
            .with_hint("choose one with --arch ID"));
        }
        let best = best.pop().ok_or_else(|| self.unknown_architecture(&parsed))?;
        match best.refused {
            Some(refused) => Err(refused),
            None => Ok(best.id),
        }
    }

    fn unknown_architecture(&self, parsed: &Value) -> Error {
        let model_type = match parsed.get("model_type") {
            Some(Value::String(text)) => format!("model_type `{text}`"),
            Some(other) => format!("model_type {other}"),
            None => "a config.json without `model_type`".to_owned(),
        };
        let installed: Vec<String> = self
            .components(Stage::Arch)
            .iter()
            .map(|(_, component)| {
                format!("{} (model_type {})", component.id, component.model_types.join(", "))
            })
            .collect();
        let none = installed.is_empty();
        let installed = if none { "none".to_owned() } else { installed.join("; ") };
        let error = Error::new(
            codes::MODEL_TYPE_UNKNOWN,
            format!("Unknown architecture: no arch frontend accepts {model_type}"),
        )
        .with_at("config.json")
        .with_cause(format!("installed frontends: {installed}"))
        .with_hint("add one with --plugin PATH, or force one of these with --arch ID");
        if none || !self.warnings().is_empty() { self.say_where(error) } else { error }
    }
}

/// A frontend that knows a model.
struct Candidate {
    id: String,
    rank: MatchRank,
    /// Why it cannot take it all the same.
    refused: Option<Error>,
}

/// Asks a frontend whether it accepts a config.json.
fn consider(
    plugin: &LoadedPlugin,
    id: &str,
    config: &str,
    accepting: &mut Vec<Candidate>,
) -> Result<()> {
    // What is asked of the one that is chosen in the end is no matter of the others.
    let verdict = plugin.arch_frontend(id, &ComponentOptions::new())?.accepts(config)?;
    if verdict.rank != MatchRank::None {
        let refused = Refusal::to_error(&verdict.refusals);
        accepting.push(Candidate { id: id.to_owned(), rank: verdict.rank, refused });
    }
    Ok(())
}

/// A bare file name means a file here, never one of the system's library folders. A file that is
/// there gets its one true name, so that it is not loaded twice.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// Where installed plugins may be, from the folder of the program; the first that is there counts, so
/// that two installations do not mix.
const INSTALLED: [&str; 2] = ["plugins", "../lib/anemll/plugins"];

/// The libraries of the plugin folder, and a sentence about where they were looked for.
fn installed_libraries() -> (Vec<PathBuf>, String) {
    let program = std::env::current_exe().and_then(|path| path.canonicalize());
    let beside = match program {
        Ok(path) => path.parent().unwrap_or(Path::new("")).to_owned(),
        Err(source) => {
            let why = format!("no plugin folder: it is not known where the program is ({source})");
            return (Vec::new(), why);
        }
    };
    let place = INSTALLED.iter().find(|place| beside.join(place).is_dir());
    let place = place.unwrap_or(&INSTALLED[0]);
    let folder = beside.join(place);
    // Without the dots of the second place.
    let folder = folder.canonicalize().unwrap_or(folder);
    let shown = folder.display();
    let listing = match std::fs::read_dir(&folder) {
        Ok(listing) => listing,
        Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
            let why = format!("looked for plugins in {shown}, which does not exist");
            return (Vec::new(), why);
        }
        Err(source) => {
            return (Vec::new(), format!("looked for plugins in {shown}: {source}"));
        }
    };
    let mut libraries: Vec<PathBuf> = listing
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let extension = path.extension().and_then(|text| text.to_str()).unwrap_or_default();
            matches!(extension, "so" | "dylib" | "dll")
        })
        .collect();
    // The order of a directory listing is not the same on every file system.
    libraries.sort();
    let count = libraries.len();
    let plural = if count == 1 { "y" } else { "ies" };
    let searched = format!("looked for plugins in {shown}, which has {count} librar{plural}");
    (libraries, searched)
}
