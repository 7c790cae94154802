//! A frontend over changes of one small configuration.

use serde_json::{Value, json};

use crate::data::{
    ComponentManifest, FunctionSpec, LayerRange, Manifest, MatchRank, ModelDescription, ModelInput,
    Purpose,
};
use crate::{ArchFrontend, ArchModel, ComponentOptions, Host, Plugin, Result, codes};

/// Tokens of a model's context and of its batches.
const SIZES: [u64; 2] = [64, 8];
/// In place of a value: the key is not there.
const ABSENT: &str = "absent";

/// The first component of an arch plugin, and a small configuration that it accepts, as transformers
/// would save it. Every question is about that configuration with some keys changed: an object, in
/// which `"absent"` takes a key out.
///
/// Its functions are assertions: they panic where a test has to fail.
pub struct FrontendCase {
    version: String,
    component: ComponentManifest,
    frontend: Box<dyn ArchFrontend>,
    config: Value,
}

impl FrontendCase {
    /// The component with its defaults.
    ///
    /// # Panics
    /// Where the manifest cannot be read, or the component cannot be made.
    #[track_caller]
    pub fn of<P: Plugin>(config: Value) -> Self {
        Self::with_options::<P>(config, &ComponentOptions::new())
    }

    /// The component with these options.
    ///
    /// # Panics
    /// As [`Self::of`].
    #[track_caller]
    pub fn with_options<P: Plugin>(config: Value, options: &ComponentOptions) -> Self {
        let manifest = must(Manifest::parse(P::MANIFEST));
        let Some(component) = manifest.components.first().cloned() else {
            panic!("the plugin `{}` has no components", manifest.name)
        };
        let options = must(component.complete_options(options));
        let frontend = must(P::arch_frontend(&component.id, &options));
        Self { version: manifest.version, component, frontend, config }
    }

    /// The configuration with these changes.
    ///
    /// # Panics
    /// Where they are no object.
    #[track_caller]
    pub fn config(&self, changes: &Value) -> Value {
        let Value::Object(changes) = changes else { panic!("{changes} is not an object") };
        let mut config = self.config.clone();
        if let Value::Object(config) = &mut config {
            for (key, value) in changes {
                match value {
                    Value::String(text) if text == ABSENT => drop(config.remove(key)),
                    value => drop(config.insert(key.clone(), value.clone())),
                }
            }
        }
        config
    }

    /// How the frontend ranks a configuration with these changes.
    ///
    /// # Panics
    /// Where it gives an error.
    #[track_caller]
    pub fn rank(&self, changes: &Value) -> MatchRank {
        must(self.frontend.accepts(&self.config(changes).to_string())).rank
    }

    /// The model with these changes, opened for 64 tokens of context and batches of 8.
    ///
    /// # Errors
    /// Those of the frontend.
    ///
    /// # Panics
    /// Where the changes are no object.
    pub fn open(&self, changes: &Value) -> Result<Box<dyn ArchModel>> {
        self.frontend.open(&self.input(changes), &Host::quiet())
    }

    fn input(&self, changes: &Value) -> ModelInput {
        let [context, batch] = SIZES;
        ModelInput::new(self.config(changes), context, batch)
    }

    /// What the frontend says of the model with these changes.
    ///
    /// # Errors
    /// Those of the frontend.
    pub fn describe(&self, changes: &Value) -> Result<ModelDescription> {
        Ok(self.open(changes)?.describe())
    }

    /// What the frontend says of the unchanged model, on which it has no remarks.
    ///
    /// # Panics
    /// Where it has some, or gives an error.
    #[track_caller]
    pub fn plain(&self) -> ModelDescription {
        let description = must(self.describe(&json!({})));
        assert!(description.notes.is_empty(), "{:?}", description.notes);
        assert!(description.warnings.is_empty(), "{:?}", description.warnings);
        description
    }

    /// The weights and operations of layers `first` to `end` of the model with these changes, as text
    /// in which names can be looked for.
    ///
    /// # Panics
    /// Where the frontend gives an error.
    #[track_caller]
    pub fn lowered(&self, changes: &Value, first: u32, end: u32) -> String {
        let layers = LayerRange::new(first, end);
        let function = FunctionSpec::new("infer", Purpose::Infer).with_layers(layers);
        let model = must(self.open(changes));
        String::from_utf8_lossy(&must(model.lower(&function, &Host::quiet()))).into_owned()
    }

    /// The manifest agrees with the code: it has the `version` of the crate, its defaults make what
    /// `plain` is, and every `model_type` and every architecture is accepted, the latter without a
    /// `model_type`, and nothing else: another `model_type` decides against it.
    ///
    /// # Panics
    /// Where that is not so.
    #[track_caller]
    pub fn check_manifest(&self, version: &str, plain: &dyn ArchFrontend) {
        assert_eq!(self.version, version, "the version of the manifest is not that of the crate");
        let same = must(plain.open(&self.input(&json!({})), &Host::quiet())).describe();
        assert_eq!(must(self.describe(&json!({}))), same, "the defaults differ");
        let ComponentManifest { model_types, architectures, .. } = &self.component;
        assert!(!model_types.is_empty() && !architectures.is_empty(), "the manifest names nothing");
        for model_type in model_types {
            let rank = self.rank(&json!({ "model_type": model_type }));
            assert_eq!(rank, MatchRank::ModelType, "{model_type}");
        }
        for architecture in architectures {
            let untyped = json!({ "model_type": ABSENT, "architectures": [architecture] });
            assert_eq!(self.rank(&untyped), MatchRank::Architecture, "{architecture}");
        }
        let rank = self.rank(&json!({ "model_type": "no-such-model" }));
        assert_eq!(rank, MatchRank::None, "another model_type");
    }

    /// Each of these changes is refused as a key that is wrong or cannot be honoured, by its name.
    ///
    /// # Panics
    /// Where one is not.
    #[track_caller]
    pub fn check_refusals(&self, changes: &[(&str, Value)]) {
        for (key, value) in changes {
            let Err(error) = self.describe(&json!({ *key: value })) else {
                panic!("`{key}` = {value} is accepted")
            };
            let known = [codes::CONFIG_KEY_UNSUPPORTED, codes::CONFIG_KEY_INVALID];
            assert!(known.contains(&error.code.as_ref()), "{key} = {value}: {error}");
            let place = format!("config.json: {key}");
            assert_eq!(error.at.as_deref(), Some(place.as_str()), "{value}");
        }
    }
}

#[track_caller]
fn must<T>(result: Result<T>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{error}"),
    }
}
