//! Helpers for the tests of plugins.

mod conformance;
mod frontend;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::data::{Manifest, Stage};
pub use crate::sink::MemorySink;
use crate::{ComponentOptions, Error, Host, HostServices, Level, LoadedPlugin, Result, codes};
pub use conformance::{Subject, conformance};
pub use frontend::FrontendCase;

/// Checks that a plugin keeps the rules which hold for all plugins:
///
/// - its manifest is valid, and reads the same after it was written again;
/// - every component that it lists can be made with its defaults;
/// - ids that it does not list are refused with [`codes::PLUGIN_NO_SUCH_COMPONENT`], in every stage;
/// - arch frontends answer texts that are no configuration with an error or a refusal, not with a
///   panic.
///
/// # Errors
/// The first rule that is broken.
pub fn check_plugin(plugin: &LoadedPlugin) -> Result<()> {
    let manifest = plugin.manifest();
    let broken = |rule: String| {
        Error::new(codes::PLUGIN_BAD_ANSWER, format!("plugin `{}`: {rule}", manifest.name))
    };
    let written =
        serde_json::to_string(manifest).map_err(|error| broken(format!("manifest: {error}")))?;
    if Manifest::parse(&written)? != *manifest {
        return Err(broken("the manifest changes when it is written again".to_owned()));
    }
    for stage in Stage::ALL {
        for component in manifest.components_of(stage) {
            make(plugin, stage, &component.id, &ComponentOptions::new(), true)
                .map_err(|error| error.with_cause(format!("making {stage} `{}`", component.id)))?;
        }
        for id in ["no-such-component", "", "../x", "\u{0}"] {
            match make(plugin, stage, id, &ComponentOptions::new(), false) {
                Err(error) if error.code == codes::PLUGIN_NO_SUCH_COMPONENT => {}
                Err(error) => {
                    return Err(broken(format!(
                        "the unknown {stage} id {id:?} gives {} in place of {}",
                        error.code,
                        codes::PLUGIN_NO_SUCH_COMPONENT
                    ))
                    .with_cause(error.to_string()));
                }
                Ok(()) => {
                    return Err(broken(format!("the unknown {stage} id {id:?} gives a component")));
                }
            }
        }
    }
    for component in manifest.components_of(Stage::Arch) {
        let frontend = plugin.arch_frontend(&component.id, &ComponentOptions::new())?;
        for config in ["", "{", "null", "[]", "3", "{}", "{\"model_type\": 7}", "\u{0}"] {
            match frontend.accepts(config) {
                Err(error) if error.code == codes::PLUGIN_PANICKED => return Err(error),
                Ok(verdict) if verdict.rank > crate::data::MatchRank::None => {
                    return Err(broken(format!(
                        "the frontend `{}` accepts {config:?}",
                        component.id
                    )));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Makes a component and lets it go; `listed` says whether the manifest is asked first.
fn make(
    plugin: &LoadedPlugin,
    stage: Stage,
    id: &str,
    options: &ComponentOptions,
    listed: bool,
) -> Result<()> {
    let remote = plugin.remote();
    match (stage, listed) {
        (Stage::Arch, true) => plugin.arch_frontend(id, options).map(drop),
        (Stage::Arch, false) => remote.arch_frontend(id, options).map(drop),
        (Stage::Quantizer, true) => plugin.quantizer(id, options).map(drop),
        (Stage::Quantizer, false) => remote.quantizer(id, options).map(drop),
        (Stage::Combiner, true) => plugin.combiner(id, options).map(drop),
        (Stage::Combiner, false) => remote.combiner(id, options).map(drop),
        (Stage::Compiler, true) => plugin.compiler(id, options).map(drop),
        (Stage::Compiler, false) => remote.compiler(id, options).map(drop),
        (Stage::Runtime, true) => plugin.runtime(id, options).map(drop),
        (Stage::Runtime, false) => remote.runtime(id, options).map(drop),
        (Stage::Unknown, _) => Err(crate::no_such_component(stage, id)),
    }
}

/// Options written as `json!({…})`.
///
/// # Panics
/// Where the value is not an object.
#[track_caller]
pub fn options(value: Value) -> ComponentOptions {
    match ComponentOptions::try_from(value) {
        Ok(options) => options,
        Err(error) => panic!("{error}"),
    }
}

/// A host that remembers what it was told, and can be cancelled.
///
/// It runs parallel calls on threads of its own, in no particular order.
#[derive(Debug, Default)]
pub struct TestHost {
    cancelled: AtomicBool,
    lines: Mutex<Vec<(Level, String)>>,
}

impl TestHost {
    /// A host, and the handle that a component is given.
    pub fn new() -> (Arc<Self>, Host) {
        let host = Arc::new(Self::default());
        (host.clone(), Host::new(host))
    }

    /// From now on, the user has asked to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::SeqCst);
    }

    /// The log lines so far.
    pub fn lines(&self) -> Vec<(Level, String)> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl HostServices for TestHost {
    fn log(&self, level: Level, _: &str, message: &str) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push((level, message.to_owned()));
    }

    fn progress(&self, _: &str, _: u64, _: u64) -> bool {
        !self.cancelled()
    }

    fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::SeqCst)
    }

    fn threads(&self) -> usize {
        2
    }

    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        let middle = count / 2;
        std::thread::scope(|scope| {
            scope.spawn(|| (middle..count).for_each(task));
            (0..middle).for_each(task);
        });
    }

    fn scratch_directory(&self) -> Result<PathBuf> {
        Ok(std::env::temp_dir())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ArchFrontend, Plugin};

    /// Gives a component whatever the id.
    struct Careless;

    impl Plugin for Careless {
        const MANIFEST: &'static str = r#"{"name": "careless", "version": "0", "abi": 1,
            "components": [{"stage": "arch", "id": "a"}, {"stage": "runtime", "id": "b"}]}"#;

        fn arch_frontend(id: &str, _: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
            Err(Error::new(codes::INTERNAL, format!("made {id}")))
        }
    }

    #[test]
    fn plugins_that_break_the_rules_are_found_out() {
        let error = check_plugin(&LoadedPlugin::of::<Careless>().unwrap()).unwrap_err();
        assert_eq!(error.code, codes::INTERNAL);
        assert_eq!(error.causes, ["making arch `a`"]);
    }

    #[test]
    fn plugins_can_be_shared_between_threads() {
        fn shared<T: Send + Sync + 'static>() {}
        shared::<LoadedPlugin>();
        shared::<Host>();
    }
}
