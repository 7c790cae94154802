//! Finding plugins, and finding a component among them.
//!
//! Plugins come from `--plugin` (consent for this run), from the folder `plugins` beside the
//! executable, and, in a build with the feature `builtin`, from the program itself. An id that
//! `--plugin` brings takes the place of one found elsewhere.

use anemll_plugin_api::data::{ComponentManifest, MatchRank, Stage};
use anemll_plugin_api::{
    ArchFrontend, Combiner, Compiler, Error, LoadOptions, LoadedPlugin, Quantizer, Result, Runtime,
    builtin_plugins, codes,
};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

#[cfg(feature = "builtin")]
mod builtin {
    //! A crate that nothing names is not linked; these lines name each.
    use anemll_arch_llama as _;
    use anemll_arch_qwen2_5 as _;
    use anemll_arch_qwen3 as _;
    use anemll_combiner_chunked as _;
    use anemll_combiner_monolithic as _;
    use anemll_compiler_coremlcompiler as _;
    use anemll_compiler_mlmodelc as _;
    use anemll_quantizer_lut as _;
    use anemll_runtime_cpu as _;
}

/// The compiler that means: the first of [`COMPILERS`] that can run here.
pub const AUTOMATIC: &str = "auto";

/// The compilers that are tried for [`AUTOMATIC`]: Apple's knows best, ours runs anywhere.
const COMPILERS: [&str; 2] = ["coremlcompiler", "mlmodelc"];

/// Where a plugin came from; later ones give way to earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// `--plugin`.
    CommandLine,
    /// The folder `plugins` beside the executable.
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

/// A plugin that was loaded, or a file in the plugin folder that was not, and why.
pub struct Entry {
    /// Where it came from.
    pub origin: Origin,
    /// The library, unless it is built in.
    pub path: Option<PathBuf>,
    /// The plugin, or why it cannot be used.
    pub plugin: Result<LoadedPlugin>,
}

/// All plugins of this run.
pub struct Plugins {
    entries: Vec<Entry>,
}

impl Plugins {
    /// Loads the plugins named on the command line, the installed ones, and the built-in ones.
    ///
    /// A library named by `--plugin` that cannot be used is an error; one in the plugin folder is
    /// listed with its reason, and matters only when something of it is asked for.
    pub fn discover(command_line: &[PathBuf]) -> Result<Self> {
        let options = LoadOptions::default();
        let mut entries = Vec::new();
        for path in command_line {
            let path = absolute(path);
            let plugin = LoadedPlugin::open_with(&path, &options)?;
            entries.push(Entry {
                origin: Origin::CommandLine,
                path: Some(path),
                plugin: Ok(plugin),
            });
        }
        for path in installed_libraries() {
            if entries.iter().any(|entry| entry.path.as_deref() == Some(&path)) {
                continue;
            }
            let plugin = LoadedPlugin::open_with(&path, &options);
            entries.push(Entry { origin: Origin::Installed, path: Some(path), plugin });
        }
        // inventory promises no order; lists must not change from build to build.
        let mut builtin: Vec<_> = builtin_plugins().collect();
        builtin.sort_by_key(|plugin| plugin.manifest());
        for plugin in builtin {
            let plugin = LoadedPlugin::builtin(plugin);
            entries.push(Entry { origin: Origin::Builtin, path: None, plugin });
        }
        let plugins = Self { entries };
        plugins.refuse_duplicates()?;
        Ok(plugins)
    }

    /// Every plugin, usable or not.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    fn usable(&self) -> impl Iterator<Item = (Origin, &LoadedPlugin)> {
        self.entries.iter().filter_map(|entry| Some((entry.origin, entry.plugin.as_ref().ok()?)))
    }

    /// Components of a stage, the one that wins for each id.
    pub fn components(&self, stage: Stage) -> Vec<(&LoadedPlugin, &ComponentManifest)> {
        let mut found: Vec<(&LoadedPlugin, &ComponentManifest)> = Vec::new();
        for (_, plugin) in self.usable() {
            for component in &plugin.manifest().components {
                let new = !found.iter().any(|(_, other)| other.id == component.id);
                if component.stage == stage && new {
                    found.push((plugin, component));
                }
            }
        }
        found
    }

    /// Two plugins of one origin that offer the same id: nothing but the user can choose.
    fn refuse_duplicates(&self) -> Result<()> {
        let mut seen: Vec<(Origin, &ComponentManifest, &LoadedPlugin)> = Vec::new();
        for (origin, plugin) in self.usable() {
            for component in &plugin.manifest().components {
                let clash = seen.iter().find(|(other, known, _)| {
                    *other == origin && known.stage == component.stage && known.id == component.id
                });
                if let Some((_, _, first)) = clash {
                    return Err(Error::new(
                        codes::PLUGIN_AMBIGUOUS,
                        format!(
                            "two plugins offer the {} `{}`: {} and {}",
                            component.stage.name(),
                            component.id,
                            place(first),
                            place(plugin),
                        ),
                    )
                    .with_hint("name only one of them with --plugin, or remove one"));
                }
                seen.push((origin, component, plugin));
            }
        }
        Ok(())
    }

    fn component(&self, stage: Stage, id: &str) -> Result<&LoadedPlugin> {
        let all = self.components(stage);
        if let Some((plugin, _)) = all.iter().find(|(_, component)| component.id == id) {
            return Ok(plugin);
        }
        let ids: Vec<&str> = all.iter().map(|(_, component)| component.id.as_str()).collect();
        let have = if ids.is_empty() {
            format!("no {} is installed", stage.name())
        } else {
            format!("installed: {}", ids.join(", "))
        };
        let mut error = Error::new(
            codes::PLUGIN_NOT_FOUND,
            format!("there is no {} `{id}`; {have}", stage.name()),
        )
        .with_hint("name its library with --plugin PATH; `anemll plugin list` shows what is found");
        for entry in &self.entries {
            if let (Some(path), Err(refusal)) = (&entry.path, &entry.plugin) {
                error = error.with_cause(format!("{}: {}", path.display(), refusal.message));
            }
        }
        Err(error)
    }

    /// Version of the plugin with a component.
    pub fn version(&self, stage: Stage, id: &str) -> Result<String> {
        Ok(self.component(stage, id)?.manifest().version.clone())
    }

    /// What tells a component's plugin from any other build of it: id, version, and the SHA-256 of
    /// its library unless it is linked in.
    pub fn identity(&self, stage: Stage, id: &str) -> Result<Value> {
        let plugin = self.component(stage, id)?;
        let library = match plugin.path() {
            Some(path) => Some(crate::convert::file_sha256(path).map_err(|source| {
                crate::error::io(codes::PLUGIN_UNREADABLE, "cannot read a plugin", path, &source)
            })?),
            None => None,
        };
        let version = &plugin.manifest().version;
        Ok(json!({ "stage": stage.name(), "id": id, "version": version, "library": library }))
    }

    /// The combiner `id`.
    pub fn combiner(&self, id: &str) -> Result<Box<dyn Combiner>> {
        self.component(Stage::Combiner, id)?.combiner(id, &Value::Null)
    }

    /// The quantizer `id`.
    pub fn quantizer(&self, id: &str, options: &Value) -> Result<Box<dyn Quantizer>> {
        self.component(Stage::Quantizer, id)?.quantizer(id, options)
    }

    /// The compiler backend `id`.
    pub fn compiler(&self, id: &str) -> Result<Box<dyn Compiler>> {
        self.component(Stage::Compiler, id)?.compiler(id, &Value::Null)
    }

    /// The compiler backend `id`, made with these options.
    pub fn compiler_with(&self, id: &str, options: &Value) -> Result<Box<dyn Compiler>> {
        self.component(Stage::Compiler, id)?.compiler(id, options)
    }

    /// The id behind `requested`: itself, or, for [`AUTOMATIC`], the first of [`COMPILERS`] that is
    /// installed and can run here. Where none can, the last that is installed says why.
    pub fn compiler_id(&self, requested: &str) -> Result<String> {
        if requested != AUTOMATIC {
            return Ok(requested.to_owned());
        }
        let mut chosen = COMPILERS[COMPILERS.len() - 1];
        for id in COMPILERS {
            let Ok(compiler) = self.compiler(id) else { continue };
            chosen = id;
            if compiler.check().is_ok_and(|answer| answer.available) {
                break;
            }
        }
        Ok(chosen.to_owned())
    }

    /// The runtime `id`.
    pub fn runtime(&self, id: &str) -> Result<Box<dyn Runtime>> {
        self.component(Stage::Runtime, id)?.runtime(id, &Value::Null)
    }

    /// The runtime `id`, made with options of its manifest.
    pub fn runtime_with(&self, id: &str, options: &Value) -> Result<Box<dyn Runtime>> {
        self.component(Stage::Runtime, id)?.runtime(id, options)
    }

    /// The arch frontend for a config.json: `requested`, or the one that accepts it best.
    pub fn frontend(
        &self,
        config: &str,
        requested: Option<&str>,
    ) -> Result<(String, Box<dyn ArchFrontend>)> {
        if let Some(id) = requested {
            return Ok((
                id.to_owned(),
                self.component(Stage::Arch, id)?.arch_frontend(id, &Value::Null)?,
            ));
        }
        let mut best: Vec<(String, Box<dyn ArchFrontend>)> = Vec::new();
        let mut best_rank = MatchRank::None;
        for (plugin, component) in self.components(Stage::Arch) {
            let frontend = plugin.arch_frontend(&component.id, &Value::Null)?;
            let rank = frontend.accepts(config)?.rank;
            if rank > best_rank {
                best.clear();
                best_rank = rank;
            }
            if rank == best_rank && rank != MatchRank::None {
                best.push((component.id.clone(), frontend));
            }
        }
        if best.len() > 1 {
            let ids: Vec<&str> = best.iter().map(|(id, _)| id.as_str()).collect();
            return Err(Error::new(
                codes::MODEL_TYPE_AMBIGUOUS,
                format!("several arch frontends accept this model: {}", ids.join(", ")),
            )
            .with_hint("choose one with --arch ID"));
        }
        best.pop().ok_or_else(|| self.unknown_architecture(config))
    }

    fn unknown_architecture(&self, config: &str) -> Error {
        let parsed: Value = serde_json::from_str(config).unwrap_or_default();
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
        let installed = if installed.is_empty() { "none".to_owned() } else { installed.join("; ") };
        Error::new(
            codes::MODEL_TYPE_UNKNOWN,
            format!("Unknown architecture: no arch frontend accepts {model_type}"),
        )
        .with_at("config.json")
        .with_cause(format!("installed frontends: {installed}"))
        .with_hint("add one with --plugin PATH, or force one of these with --arch ID")
    }
}

/// A bare file name means a file here, never one of the system's library folders. A file that is
/// there gets its one true name, so that it is not loaded twice.
fn absolute(path: &Path) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(path)).unwrap_or_else(|_| path.to_owned())
}

/// Where a plugin is, for messages.
fn place(plugin: &LoadedPlugin) -> String {
    plugin.path().map_or_else(|| "built in".to_owned(), |path| path.display().to_string())
}

/// The folder `plugins` beside the program, whether it exists or not.
pub fn folder() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.canonicalize().ok()?;
    Some(program.parent()?.join("plugins"))
}

fn installed_libraries() -> Vec<PathBuf> {
    let Some(folder) = folder() else { return Vec::new() };
    let Ok(listing) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut libraries: Vec<PathBuf> = listing
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let extension = path.extension().and_then(|text| text.to_str()).unwrap_or_default();
            matches!(extension, "so" | "dylib" | "dll")
        })
        .collect();
    // The order of a directory listing is not the same on every file system.
    libraries.sort();
    libraries
}
