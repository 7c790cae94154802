//! No key of config.json that changes what a model computes is read past: `tests/reference/make_config_keys.py` has
//! asked transformers which do, by its configuration classes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_codes as codes;
use anemll_huggingface::ModelDirectory;
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::data::{FunctionSpec, LayerRange, ModelInput, Purpose, TensorInfo};
use anemll_plugin_api::{ComponentOptions, DType, Error, Host};
use anemll_shipped as _;
use anemll_tests::{model, workspace};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

static PLUGINS: LazyLock<Plugins> = LazyLock::new(|| Plugins::discover(&[]).unwrap());

/// The model types whose language model stands in an object of the configuration.
const SECTIONS: &[(&str, &str)] =
    &[("gemma3_text", "gemma3"), ("ministral3", "mistral3"), ("qwen3_5_text", "qwen3_5")];

/// A model of a family, and what transformers shows of its keys.
struct Family {
    name: String,
    config: Map<String, Value>,
    /// Keys, those within objects with the object's before them, and values that change the model.
    acting: Map<String, Value>,
    /// Keys that the configuration does not have, and what is taken for them.
    defaults: Map<String, Value>,
}

/// What comes of a configuration.
struct Graph {
    bytes: Vec<u8>,
    warnings: Vec<String>,
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn stored(version: &str) -> Value {
    let path = workspace().join(format!("tests/reference/config_keys/{version}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn families() -> Vec<Family> {
    let versions = ["4.57.1", "5.24.0"].map(stored);
    let models = versions.iter().flat_map(|version| object(&version["models"]));
    let family = |(name, found): (String, Value)| {
        let path = model("variants").join(&name).join("config.json");
        let config: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let [acting, defaults] = ["acting", "defaults"].map(|key| object(&found[key]));
        Family { name, config: object(&config), acting, defaults }
    };
    models.map(family).collect()
}

/// The configuration with one key changed, `scaling.factor` within an object.
fn changed(config: &Map<String, Value>, path: &str, value: &Value) -> Value {
    let mut config = config.clone();
    match path.split_once('.') {
        None => drop(config.insert(path.to_owned(), value.clone())),
        Some((key, inner)) => {
            let section = config.get_mut(key).and_then(Value::as_object_mut).unwrap();
            section.insert(inner.to_owned(), value.clone());
        }
    }
    Value::Object(config)
}

fn read(config: Value, tensors: BTreeMap<String, TensorInfo>) -> Result<Graph, Error> {
    let options = ComponentOptions::new();
    let (_, frontend) = PLUGINS.frontend(&config.to_string(), None, &options)?;
    let input = ModelInput::new(config, 128, 32).with_tensors(tensors);
    let model = frontend.open(&input, &Host::quiet())?;
    let description = model.describe();
    let function = FunctionSpec::new("infer", Purpose::Infer)
        .with_embedding(true)
        .with_layers(LayerRange::new(0, description.layers))
        .with_head(true);
    let bytes = model.lower(&function, &Host::quiet())?;
    Ok(Graph { bytes, warnings: description.warnings })
}

/// Whether an error names a key: as its place, or in what it says.
fn names(error: &Error, key: &str) -> bool {
    let at = error.at.as_deref() == Some(&format!("config.json: {key}"));
    let quoted = format!("`{key}`");
    at || error.message.contains(&quoted)
        || error.hint.as_deref().is_some_and(|hint| hint.contains(&quoted))
}

/// Sizes that one place reads for every family: they are lowered for the first alone.
const SHARED: [&str; 6] = [
    "hidden_size",
    "intermediate_size",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "vocab_size",
];

#[test]
fn no_key_that_acts_is_read_past() {
    let mut wrong = Vec::new();
    for (number, family) in families().into_iter().enumerate() {
        let usual = read(Value::Object(family.config.clone()), BTreeMap::new()).unwrap();
        let own = |path: &&String| number == 0 || !SHARED.contains(&path.as_str());
        for (path, values) in family.acting.iter().filter(|(path, _)| own(path)) {
            for value in values.as_array().unwrap() {
                let what = format!("{}: {path} = {value}", family.name);
                match read(changed(&family.config, path, value), BTreeMap::new()) {
                    Ok(graph) if graph.bytes == usual.bytes => {
                        wrong.push(format!("{what} changes nothing"));
                    }
                    Err(error) if !names(&error, path) => wrong.push(format!("{what}: {error}")),
                    // Lowering takes the time here: one value that is honoured shows that the key is read.
                    Ok(_) => break,
                    Err(_) => {}
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Keys that the classes fill in from others, of their own sizes.
const DERIVED: [&str; 2] = ["head_dim", "layer_types"];

#[test]
fn what_is_taken_for_keys_that_are_absent_is_what_transformers_takes() {
    let generic = object(&stored("4.57.1")["generic"]);
    for family in families() {
        let usual = read(Value::Object(family.config.clone()), BTreeMap::new()).unwrap();
        let mut config = family.config.clone();
        for (key, value) in family.defaults.iter().chain(&generic) {
            if !DERIVED.contains(&key.as_str()) {
                config.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        let whole = read(Value::Object(config), BTreeMap::new());
        let whole = whole.unwrap_or_else(|error| panic!("{}: {error}", family.name));
        assert!(whole.bytes == usual.bytes, "{} is another model", family.name);
        let unknown = whole.warnings.iter().find(|text| text.contains("is not known"));
        assert_eq!(unknown, None, "{}", family.name);
    }
}

/// The configuration of a model that sees images, too, and the key of the language model's.
fn within(config: &Map<String, Value>) -> Option<(Value, &'static str)> {
    const KEY: &str = "text_config";
    let (_, outer) = SECTIONS.iter().find(|(inner, _)| config["model_type"] == *inner)?;
    let tied = config.get("tie_word_embeddings").cloned().unwrap_or_default();
    Some((json!({"model_type": outer, KEY: config, "tie_word_embeddings": tied}), KEY))
}

#[test]
fn a_value_of_a_wrong_kind_is_refused_by_its_key() {
    let mut wrong = Vec::new();
    let mut check = |what: &str, config: Value, path: &str| {
        let place = format!("config.json: {path}");
        match read(config, BTreeMap::new()) {
            Ok(_) => wrong.push(format!("{what}: {path} is accepted")),
            // Reading goes on, and the first refusal is of what was read first.
            Err(error) if error.at.as_deref() == Some(&place) || names(&error, path) => {}
            Err(error) => wrong.push(format!("{what}: {path}: {error}")),
        }
    };
    for family in families() {
        for path in family.acting.keys() {
            let config = changed(&family.config, path, &json!({"wrong": 1}));
            // Whether the head is tied is said outside, too.
            let within =
                within(config.as_object().unwrap()).filter(|_| path != "tie_word_embeddings");
            if let Some((whole, section)) = within {
                check(&format!("{} within", family.name), whole, &format!("{section}.{path}"));
            }
            check(&family.name, config, path);
        }
    }
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong.join("\n"));
}

/// Keys that only act through what another one gives, which is named.
const GIVEN_BY: [(&str, &str); 2] =
    [("num_attention_heads", "head_dim"), ("block_multiple_of", "block_ff_dim")];

#[test]
fn a_size_that_the_weights_do_not_have_is_named() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for family in families() {
        let directory = ModelDirectory::open(&model("variants").join(&family.name)).unwrap();
        let info = |shape: &Vec<u64>| TensorInfo::new(DType::BFLOAT16, shape.clone());
        let tensors = directory.tensors().iter();
        let tensors: BTreeMap<_, _> =
            tensors.map(|(name, found)| (name.clone(), info(&found.shape))).collect();
        for (path, values) in &family.acting {
            for value in values.as_array().unwrap().iter().filter(|value| value.is_u64()) {
                let config = changed(&family.config, path, value);
                let Err(error) = read(config, tensors.clone()) else { continue };
                if error.code == codes::WEIGHT_SHAPE {
                    seen += 1;
                    let other = GIVEN_BY.iter().find(|(key, _)| key == path);
                    let other = other.is_some_and(|(_, key)| error.message.contains(key));
                    if !other && !error.message.contains(path.as_str()) {
                        wrong.push(format!("{}: {path} = {value}: {error}", family.name));
                    }
                }
            }
        }
    }
    assert!(wrong.is_empty() && seen > 0, "{} of {seen}:\n{}", wrong.len(), wrong.join("\n"));
}
