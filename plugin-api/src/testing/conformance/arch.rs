//! An arch frontend, tried out on a model directory.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::folder::read;
use super::{Component, Made, Trial, calm, must, refused};
use crate::data::{
    ComponentManifest, FunctionSpec, LayerRange, MatchRank, ModelInput, Purpose, TensorInfo,
    WEIGHT_REFERENCE_PREFIX, WeightReference,
};
use crate::{ArchFrontend, ArchModel, DType, Host, Result};

/// Tokens of the model's context and of its batches.
const SIZES: [u64; 2] = [64, 8];

/// In place of every key's value, in turn.
fn wrong_values() -> [Value; 8] {
    [
        Value::Null,
        json!(-1),
        json!(0),
        json!(1e300),
        json!(u64::MAX),
        json!("\u{0}"),
        json!([[]]),
        json!({"a": []}),
    ]
}

pub(super) struct Frontend<'a> {
    made: Component<'a>,
    component: &'a ComponentManifest,
    config: Value,
    tensors: BTreeMap<String, TensorInfo>,
}

impl<'a> Frontend<'a> {
    #[track_caller]
    pub(super) fn new(made: Component<'a>, component: &'a ComponentManifest, model: &Path) -> Self {
        let config = match serde_json::from_slice(&read(&model.join("config.json"))) {
            Ok(config) => config,
            Err(error) => panic!("{}: config.json: {error}", model.display()),
        };
        Self { made, component, config, tensors: tensors(model) }
    }

    #[track_caller]
    fn frontend(&self) -> Box<dyn ArchFrontend> {
        let Component { plugin, id, options } = self.made;
        must(id, plugin.arch_frontend(id, options))
    }

    fn input(&self, config: Value, tensors: BTreeMap<String, TensorInfo>) -> ModelInput {
        let [context, batch] = SIZES;
        ModelInput::new(config, context, batch).with_tensors(tensors)
    }

    fn open(&self, tensors: BTreeMap<String, TensorInfo>) -> Result<Box<dyn ArchModel>> {
        let input = self.input(self.config.clone(), tensors);
        self.frontend().open(&input, &Host::quiet())
    }

    /// The weights that the functions refer to.
    #[track_caller]
    fn references(&self) -> BTreeMap<String, WeightReference> {
        let made = must("the functions", self.work(&Host::quiet()));
        let found = made.iter().flat_map(|(_, bytes)| references(bytes));
        found.map(|reference| (reference.tensor.clone(), reference)).collect()
    }
}

impl Trial for Frontend<'_> {
    fn work(&self, host: &Host) -> Result<Made> {
        let input = self.input(self.config.clone(), self.tensors.clone());
        let model = self.frontend().open(&input, host)?;
        let description = model.describe();
        let layers = LayerRange::new(0, description.layers);
        let mut functions = vec![
            FunctionSpec::new("embedding", Purpose::Infer).with_embedding(true),
            FunctionSpec::new("head", Purpose::Infer).with_head(true),
            FunctionSpec::new("argmax", Purpose::Infer).with_head(true).with_argmax(true),
        ];
        for purpose in [Purpose::Infer, Purpose::Prefill, Purpose::Evaluate] {
            let whole = FunctionSpec::new(format!("{purpose:?}"), purpose).with_embedding(true);
            let head = purpose != Purpose::Prefill;
            functions.push(whole.with_layers(layers).with_head(head));
        }
        for layer in 0..description.layers {
            let range = LayerRange::new(layer, layer + 1);
            let name = format!("layer {layer}");
            functions.push(FunctionSpec::new(name, Purpose::Infer).with_layers(range));
        }
        let mut made = vec![("the description".to_owned(), super::json(&description))];
        for function in functions {
            let model = model.lower(&function, host)?;
            made.push((function.id, model));
        }
        Ok(made)
    }

    fn check_unknown(&self) {
        let frontend = self.frontend();
        let rank = |config: &Value| {
            calm("a configuration", frontend.accepts(&config.to_string()))
                .map_or(MatchRank::None, |verdict| verdict.rank)
        };
        let with = |changes: Value| {
            let mut config = self.config.clone();
            for (key, value) in changes.as_object().into_iter().flatten() {
                config[key] = value.clone();
            }
            config
        };
        assert_eq!(rank(&self.config), MatchRank::ModelType, "the reference model");
        for model_type in &self.component.model_types {
            let rank = rank(&with(json!({ "model_type": model_type })));
            assert_eq!(rank, MatchRank::ModelType, "{model_type}");
        }
        for architecture in &self.component.architectures {
            let untyped = with(json!({ "model_type": null, "architectures": [architecture] }));
            assert_eq!(rank(&untyped), MatchRank::Architecture, "{architecture}");
        }
        let stranger = json!({ "model_type": "no-such-model", "architectures": ["NoSuchModel"] });
        assert_eq!(rank(&with(stranger.clone())), MatchRank::None, "a model of another type");
        assert_eq!(rank(&stranger), MatchRank::None, "a model of which nothing is known");
        // Whatever a key holds: an answer, and no panic.
        for key in self.config.as_object().into_iter().flat_map(|config| config.keys()) {
            for value in wrong_values() {
                let what = format!("`{key}` = {value}");
                let config = with(json!({ key: value }));
                let _ = calm(&what, frontend.accepts(&config.to_string()));
                let input = self.input(config, BTreeMap::new());
                let _ = calm(&what, frontend.open(&input, &Host::quiet()).map(|it| it.describe()));
            }
        }
        // Functions that no model has.
        let model = must("the reference model", self.open(self.tensors.clone()));
        let layers = model.describe().layers;
        for (first, end) in [(0, 0), (1, 0), (0, layers + 1), (layers, u32::MAX)] {
            let range = LayerRange::new(first, end);
            let function = FunctionSpec::new("f", Purpose::Infer).with_layers(range);
            refused(&format!("layers {first} to {end}"), model.lower(&function, &Host::quiet()));
        }
        let nothing = FunctionSpec::new("f", Purpose::Evaluate);
        refused("a function of nothing", model.lower(&nothing, &Host::quiet()));
    }

    fn check_damaged(&self) {
        let references = self.references();
        assert!(!references.is_empty(), "the functions refer to no weights");
        for (name, reference) in &references {
            let Some(found) = self.tensors.get(name) else {
                panic!("the functions refer to `{name}`, which the reference model does not have")
            };
            assert_eq!(found.shape, reference.shape, "the shape of `{name}`");
            let mut without = self.tensors.clone();
            without.remove(name);
            refused(&format!("a model without `{name}`"), self.open(without));
            let mut short = self.tensors.clone();
            let mut shape = found.shape.clone();
            if let Some(rows) = shape.first_mut() {
                *rows -= 1;
            }
            short.insert(name.clone(), TensorInfo::new(found.dtype, shape));
            refused(&format!("a model in which a row of `{name}` is missing"), self.open(short));
        }
    }
}

/// The tensors of a model directory, from the heads of its files.
#[track_caller]
fn tensors(model: &Path) -> BTreeMap<String, TensorInfo> {
    let mut tensors = BTreeMap::new();
    for entry in fs::read_dir(model).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|extension| extension != "safetensors") {
            continue;
        }
        let bytes = read(&path);
        let length = bytes.first_chunk().map_or(0, |length| u64::from_le_bytes(*length));
        let end = usize::try_from(length).ok().and_then(|length| length.checked_add(8));
        let head = end.and_then(|end| bytes.get(8..end)).unwrap_or_default();
        let head: BTreeMap<String, Value> = match serde_json::from_slice(head) {
            Ok(head) => head,
            Err(error) => panic!("{}: {error}", path.display()),
        };
        for (name, entry) in head.into_iter().filter(|(name, _)| name != "__metadata__") {
            let dtype = match entry["dtype"].as_str() {
                Some("F32") => DType::FLOAT32,
                Some("BF16") => DType::BFLOAT16,
                Some("F16") => DType::FLOAT16,
                other => panic!("{}: `{name}` is {other:?}, not a float", path.display()),
            };
            let shape = entry["shape"].as_array().into_iter().flatten();
            let shape: Vec<u64> = shape.filter_map(Value::as_u64).collect();
            tensors.insert(name, TensorInfo::new(dtype, shape));
        }
    }
    assert!(!tensors.is_empty(), "{} has no .safetensors files", model.display());
    tensors
}

/// The references in a serialized model: each is a text of its own, which JSON ends.
fn references(model: &[u8]) -> Vec<WeightReference> {
    let prefix = WEIGHT_REFERENCE_PREFIX.as_bytes();
    let places = (0..model.len()).filter(|place| model[*place..].starts_with(prefix));
    let texts = places.map(|place| &model[place + prefix.len()..]);
    texts
        .filter_map(|text| serde_json::Deserializer::from_slice(text).into_iter().next()?.ok())
        .collect()
}
