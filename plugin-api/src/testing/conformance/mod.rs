//! Rules that hold for every plugin, as tests of its own.

mod arch;
mod combiner;
mod compiler;
mod folder;
mod quantizer;
mod runtime;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{TestHost, check_plugin};
use crate::data::{ComponentManifest, OptionSpec, OptionType, Stage};
use crate::{ComponentOptions, Error, Host, LoadedPlugin, Plugin, Result, codes};

/// Tests of the rules that hold for every plugin, in a module `conformance`:
///
/// ```ignore
/// anemll_plugin_api::testing::conformance!(anemll_arch_mine::MinePlugin, "model");
/// ```
///
/// The path, from the crate's folder, is what components need to be tried out on:
///
/// | stage | the path |
/// |---|---|
/// | arch | a model directory: `config.json` and `.safetensors` files |
/// | quantizer | none: weights are made up |
/// | combiner | a folder of single functions, `NAME.mlmodel` each, that may stand in one model; without it only layouts are tried |
/// | compiler, runtime | a package |
///
/// The components are made with their defaults, or with options that follow:
/// `conformance!(MinePlugin, options = {"bits": 4})`.
///
/// | test | the rule |
/// |---|---|
/// | `the_manifest_is_kept` | the manifest is valid and has the crate's version; its components can be made with their defaults and with every value that an option lists or is bounded by |
/// | `what_is_not_known_is_refused` | other models, ids, functions and inputs, and keys of wrong types, are refused, without a panic |
/// | `what_is_damaged_is_an_error` | weights that are missing, cut short or not finite, graphs and packages that are cut short, without a panic and with nothing left behind |
/// | `work_ends_when_the_user_stops_it` | a host that was asked to stop is obeyed within a second |
/// | `answers_are_the_same_every_time` | whatever the run, the component, the number of threads, and what goes on beside it |
#[doc(inline)]
pub use crate::__conformance as conformance;

/// What [`conformance!`] expands to.
#[doc(hidden)]
#[macro_export]
macro_rules! __conformance {
    ($plugin:ty $(, $reference:literal)? $(, options = $options:tt)? $(,)?) => {
        mod conformance {
            #[allow(unused_imports)]
            use super::*;

            fn subject() -> $crate::testing::Subject {
                let reference: &[&::core::primitive::str] = &[$($reference)?];
                let options: &[&::core::primitive::str] = &[$(::core::stringify!($options))?];
                $crate::testing::Subject::of::<$plugin>(
                    ::core::env!("CARGO_MANIFEST_DIR"),
                    reference.first().copied(),
                    options.first().copied(),
                )
            }

            #[test]
            fn the_manifest_is_kept() {
                subject().check_manifest(::core::env!("CARGO_PKG_VERSION"));
            }

            #[test]
            fn what_is_not_known_is_refused() {
                subject().check_unknown();
            }

            #[test]
            fn what_is_damaged_is_an_error() {
                subject().check_damaged();
            }

            #[test]
            fn work_ends_when_the_user_stops_it() {
                subject().check_stopping();
            }

            #[test]
            fn answers_are_the_same_every_time() {
                subject().check_repetition();
            }
        }
    };
}

/// How long a component may go on after the user has asked to stop.
const PATIENCE: Duration = Duration::from_secs(1);

/// Everything that a component made of its reference, by name.
type Made = Vec<(String, Vec<u8>)>;

/// A component, and what it is tried out on.
trait Trial: Sync {
    /// Does all that the component is for, with a component that was made anew.
    fn work(&self, host: &Host) -> Result<Made>;

    /// What the component does not know is refused.
    fn check_unknown(&self);

    /// What is damaged is an error.
    fn check_damaged(&self);

    /// Whether [`Self::work`] asks the host anything: else there is nothing to stop.
    fn can_be_stopped(&self) -> bool {
        true
    }
}

/// How a component of the plugin is made.
#[derive(Clone, Copy)]
struct Component<'a> {
    plugin: &'a LoadedPlugin,
    id: &'a str,
    options: &'a ComponentOptions,
}

/// A plugin under test; [`conformance!`] makes it.
///
/// Its functions are assertions: they panic where a test has to fail.
pub struct Subject {
    plugin: LoadedPlugin,
    reference: Option<PathBuf>,
    options: ComponentOptions,
}

impl Subject {
    /// A plugin; what its components are tried out on, as a path from a folder; and the options that
    /// they are given, a JSON object.
    ///
    /// # Panics
    /// Where the manifest or the options cannot be read.
    #[track_caller]
    pub fn of<P: Plugin>(folder: &str, reference: Option<&str>, options: Option<&str>) -> Self {
        let reference = reference.map(|path| Path::new(folder).join(path));
        let options = match serde_json::from_str::<Value>(options.unwrap_or("{}")) {
            Ok(options) => super::options(options),
            Err(error) => panic!("the options: {error}"),
        };
        Self { plugin: must("the manifest", LoadedPlugin::of::<P>()), reference, options }
    }

    /// The manifest is valid, has the `version` of the crate, and its components can be made with all
    /// that their options allow.
    ///
    /// # Panics
    /// Where that is not so.
    #[track_caller]
    pub fn check_manifest(&self, version: &str) {
        must("the rules for all plugins", check_plugin(&self.plugin));
        let manifest = self.plugin.manifest();
        assert_eq!(manifest.version, version, "the manifest's version is not that of the crate");
        for component in &manifest.components {
            for (name, option) in &component.options {
                for value in values(option) {
                    let options = ComponentOptions::new().with(name.clone(), value.clone());
                    let what = format!("{} with {name} = {value}", component.id);
                    must(&what, self.make(component, &options));
                }
            }
        }
    }

    /// What the components do not know is refused.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn check_unknown(&self) {
        for trial in self.trials() {
            trial.check_unknown();
        }
    }

    /// What is damaged is an error.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn check_damaged(&self) {
        for trial in self.trials() {
            trial.check_damaged();
        }
    }

    /// Work ends with [`codes::CANCELLED`] within a second, once the user has asked to stop.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn check_stopping(&self) {
        for trial in self.trials().iter().filter(|trial| trial.can_be_stopped()) {
            let attempt = || {
                let (services, host) = TestHost::new();
                services.cancel();
                let start = Instant::now();
                let error = match trial.work(&host) {
                    Ok(_) => panic!("the work went on although the user had stopped it"),
                    Err(error) => error,
                };
                assert_eq!(error.code, codes::CANCELLED, "{error}");
                start.elapsed()
            };
            // A machine that does other things at the same time may be slow once.
            let quickest = (0..3).map(|_| attempt()).min().unwrap_or_default();
            assert!(quickest < PATIENCE, "the work went on for {quickest:?} after it was stopped");
        }
    }

    /// Answers are the same on every run, on one thread and on several, and while others ask too.
    ///
    /// # Panics
    /// Where that is not so.
    pub fn check_repetition(&self) {
        for trial in self.trials() {
            let trial = &*trial;
            let expected = must("the work", trial.work(&Host::quiet()));
            let same = |how: &str, made: Result<Made>| {
                let made = must(how, made);
                let names =
                    |made: &Made| made.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
                assert_eq!(names(&made), names(&expected), "{how}");
                for ((name, one), (_, other)) in made.iter().zip(&expected) {
                    assert!(one == other, "`{name}` is another one {how}");
                }
            };
            same("in a second run", trial.work(&Host::quiet()));
            same("on several threads", trial.work(&TestHost::new().1));
            std::thread::scope(|scope| {
                let others: Vec<_> =
                    (0..2).map(|_| scope.spawn(|| trial.work(&TestHost::new().1))).collect();
                for other in others {
                    match other.join() {
                        Ok(made) => same("beside another run", made),
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                }
            });
        }
    }

    fn make(&self, component: &ComponentManifest, options: &ComponentOptions) -> Result<()> {
        super::make(&self.plugin, component.stage, &component.id, options, true)
    }

    /// A trial for each component of a known stage that can run here.
    fn trials(&self) -> Vec<Box<dyn Trial + '_>> {
        let manifest = self.plugin.manifest();
        let components = manifest.components.iter();
        components.filter_map(|component| self.trial(component)).collect()
    }

    fn trial<'a>(&'a self, component: &'a ComponentManifest) -> Option<Box<dyn Trial + 'a>> {
        let id = component.id.as_str();
        let made = Component { plugin: &self.plugin, id, options: &self.options };
        let reference = || match &self.reference {
            Some(path) => path.as_path(),
            None => panic!(
                "`{}` cannot be tried out: give conformance! the path of a reference, see its documentation",
                component.id
            ),
        };
        let available = |component: Result<bool>| must("whether it can run here", component);
        match component.stage {
            Stage::Arch => Some(Box::new(arch::Frontend::new(made, component, reference()))),
            Stage::Quantizer => Some(Box::new(quantizer::Weights::new(made))),
            Stage::Combiner => {
                let folder = self.reference.as_deref();
                Some(Box::new(combiner::Functions::new(made, folder)))
            }
            Stage::Compiler => {
                let trial = compiler::Package::new(made, reference());
                available(trial.is_available()).then(|| Box::new(trial) as Box<dyn Trial>)
            }
            Stage::Runtime => {
                let trial = runtime::Package::new(made, reference());
                available(trial.is_available()).then(|| Box::new(trial) as Box<dyn Trial>)
            }
            Stage::Unknown => None,
        }
    }
}

/// Values at which an option may take another way: those that it lists, else its bounds.
fn values(option: &OptionSpec) -> Vec<Value> {
    if let Some(values) = &option.values {
        return values.clone();
    }
    let number = |bound: Option<f64>| {
        bound.map(|bound| match option.kind {
            OptionType::Integer => Value::from(bound as i64),
            _ => Value::from(bound),
        })
    };
    match option.kind {
        OptionType::Boolean => vec![Value::from(false), Value::from(true)],
        _ => number(option.minimum).into_iter().chain(number(option.maximum)).collect(),
    }
}

/// The value, or the test fails.
#[track_caller]
fn must<T>(what: &str, result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error}"),
    }
}

/// An answer that may be an error, but not a panic.
#[track_caller]
fn calm<T>(what: &str, result: Result<T>) -> Result<T> {
    if let Err(error) = &result {
        assert_ne!(error.code, codes::PLUGIN_PANICKED, "{what}: {error}");
    }
    result
}

/// An error, which is no panic either.
#[track_caller]
fn refused<T>(what: &str, result: Result<T>) -> Error {
    match calm(what, result) {
        Err(error) => error,
        Ok(_) => panic!("{what}: there is no error"),
    }
}

/// What stands in `value` as JSON, which always can be.
fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
