//! Finding a component among the plugins that [`anemll_plugin_store`] has found.
//!
//! What a plugin offers is read from its file. The library is opened, and with that may run, only
//! when one of its components is used.

use anemll_codes as codes;
use anemll_plugin_api::data::{ComponentManifest, MatchRank, Refusal, Stage};
use anemll_plugin_api::{
    ArchFrontend, Combiner, Compiler, ComponentOptions, Error, LoadedPlugin, Quantizer, Result,
    Runtime,
};
pub use anemll_plugin_store::{Entry, Found, Origin, Search, Status, Store};
use serde_json::{Value, json};
use std::path::PathBuf;

/// The quantizer, the compiler or the runtime that leaves its stage out.
pub const NONE: &str = "none";

/// The option of runtimes that compute faster than packages say, unless it is true.
const EXACT: &str = "exact";

/// The compiler that means: the first of ours that can run here.
pub const AUTOMATIC: &str = "auto";

/// The compilers that are tried for [`AUTOMATIC`]: Apple's knows best, ours runs anywhere.
const COMPILERS: [&str; 2] = ["coremlcompiler", "mlmodelc"];

/// All plugins of this run.
#[derive(Debug)]
pub struct Plugins {
    found: Found,
}

impl Plugins {
    /// Finds these libraries and all plugins of this environment; see [`Search::run`].
    pub fn discover(named: &[PathBuf]) -> Result<Self> {
        Self::search(&Search::of_environment(named, false))
    }

    /// Finds plugins.
    ///
    /// # Errors
    /// Those of [`Search::run`].
    pub fn search(search: &Search) -> Result<Self> {
        Ok(Self { found: search.run()? })
    }

    /// What was found.
    pub fn found(&self) -> &Found {
        &self.found
    }

    /// Every plugin, usable or not.
    pub fn entries(&self) -> &[Entry] {
        self.found.entries()
    }

    /// Components of a stage, the one that goes first for each id.
    pub fn components(&self, stage: Stage) -> Vec<(&Entry, &ComponentManifest)> {
        self.found.components(stage)
    }

    fn component(&self, stage: Stage, id: &str) -> Result<&Entry> {
        self.found.component(stage, id)?.ok_or_else(|| {
            self.not_found(stage, &format!("the {} `{id}` was not found", stage.name()))
        })
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
        error = error.with_cause(self.found.searched());
        for entry in self.entries() {
            if let (Some(path), Err(refusal)) = (&entry.path, entry.usable()) {
                let cause = format!("{}: {}", path.display(), refusal.message);
                error = error.with_cause(cause);
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
        let library = match (&entry.sha256, &entry.path) {
            (Some(sha256), _) => Some(sha256.clone()),
            (None, Some(path)) => Some(anemll_store::sha256(path).map_err(|source| {
                anemll_store::io_error(
                    codes::PLUGIN_UNREADABLE,
                    "cannot read a plugin",
                    path,
                    &source,
                )
            })?),
            (None, None) => None,
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

    /// Whether a compiler, made with these options, makes one model of all packages of a conversion.
    pub fn does_join(&self, id: &str, options: &ComponentOptions) -> bool {
        let known = self.components(Stage::Compiler);
        known.into_iter().any(|(_, one)| one.id == id && one.does_join(options))
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
                    if !self.found.warnings().is_empty() {
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

    /// The runtime `id`, which computes as the packages say rather than fast, where it has that choice:
    /// for measures of what is in them.
    ///
    /// # Errors
    /// There is no such runtime, or it cannot be made.
    pub fn exact_runtime(&self, id: &str) -> Result<Box<dyn Runtime>> {
        let components = self.components(Stage::Runtime);
        let own = components.iter().find(|(_, component)| component.id == id);
        let chooses = own.is_some_and(|(_, component)| component.options.contains_key(EXACT));
        let options = match chooses {
            true => ComponentOptions::new().with(EXACT, true),
            false => ComponentOptions::new(),
        };
        self.runtime_with(id, &options)
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
            .map(|(_, component)| match component.model_types.as_slice() {
                [only] if *only == component.id => component.id.clone(),
                types => format!("{} ({})", component.id, types.join(", ")),
            })
            .collect();
        let none = installed.is_empty();
        let installed = if none { "none".to_owned() } else { installed.join("; ") };
        let error = Error::new(
            codes::MODEL_TYPE_UNKNOWN,
            format!("Unknown architecture: no arch frontend accepts {model_type}"),
        )
        .with_at("config.json")
        .with_cause(format!("installed frontends, with their model types: {installed}"))
        .with_hint("add one with --plugin PATH, or force one of these with --arch ID");
        if none || !self.found.warnings().is_empty() { self.say_where(error) } else { error }
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
