//! Throw-away arch frontends go through the whole pipeline: one counts what the host asks of it, one has what no
//! shipped family has.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_codes as codes;
use anemll_decoder::Refusals;
use anemll_decoder::config::{Config, Key};
use anemll_decoder::frontend::{Component, Defaults, Family, Form};
use anemll_generation::engine::{Engine, Head};
use anemll_generation::evaluation::{Reference, read_tokens, summarize};
use anemll_host::cli::{Cli, Command};
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::data::{
    FunctionSpec, MatchRank, ModelDescription, ModelInput, Refusal, Verdict,
};
use anemll_plugin_api::{ArchFrontend, ArchModel, ComponentOptions, Host, Plugin, Result};
use anemll_shipped as _;
use anemll_tests::{golden, model};
use clap::Parser as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Models that were opened, by whether their tensors came along; descriptions; functions.
static OPENED: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
static DESCRIBED: AtomicUsize = AtomicUsize::new(0);
static LOWERED: AtomicUsize = AtomicUsize::new(0);

fn count(counter: &AtomicUsize) -> usize {
    counter.load(Ordering::SeqCst)
}

/// The llama frontend, counted; it also knows the model type `fussy`, and refuses two keys of it.
struct Counting;

struct CountingModel(Box<dyn ArchModel>);

impl ArchFrontend for Counting {
    fn accepts(&self, config_json: &str) -> Result<Verdict> {
        if !config_json.contains("\"fussy\"") {
            return Ok(Verdict::none("it is not fussy"));
        }
        let refusal = |key: &str| {
            Refusal::new(codes::CONFIG_KEY_UNSUPPORTED, key, format!("`{key}` is not liked"))
        };
        Ok(Verdict::new(MatchRank::ModelType, "it is fussy")
            .with_refusals(vec![refusal("first"), refusal("second.inner")]))
    }

    fn open(&self, model: &ModelInput, host: &Host) -> Result<Box<dyn ArchModel>> {
        OPENED[usize::from(!model.tensors.is_empty())].fetch_add(1, Ordering::SeqCst);
        let plugins = Plugins::discover(&[])?;
        let options = ComponentOptions::new();
        let (_, llama) = plugins.frontend("", Some("llama"), &options)?;
        Ok(Box::new(CountingModel(llama.open(model, host)?)))
    }
}

impl ArchModel for CountingModel {
    fn describe(&self) -> ModelDescription {
        DESCRIBED.fetch_add(1, Ordering::SeqCst);
        self.0.describe()
    }

    fn lower(&self, function: &FunctionSpec, host: &Host) -> Result<Vec<u8>> {
        LOWERED.fetch_add(1, Ordering::SeqCst);
        self.0.lower(function, host)
    }
}

struct CountingPlugin;

impl Plugin for CountingPlugin {
    const MANIFEST: &'static str = r#"{
        "name": "counting", "version": "0.0.0", "abi": 1,
        "components": [{"stage": "arch", "id": "counting", "model_types": ["fussy"]}]}"#;

    fn arch_frontend(_: &str, _: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        Ok(Box::new(Counting))
    }
}

anemll_plugin_api::register_builtin!(CountingPlugin);

/// Llama with sinks, which of transformers' families only a mixture of experts has.
static SINKS: Component = Component {
    id: "sinks",
    head_pieces: 8,
    families: &[Family {
        model_type: "sinks",
        architecture: "SinksForCausalLM",
        prefix: "sinks",
        section: None,
        defaults: Defaults::USUAL,
        form: with_sinks,
    }],
};

const SINKS_KEYS: &[Key] = &[Key::used("attention_bias"), Key::used("mlp_bias")];

fn with_sinks(_: &Config<'_>, _: u64, _: &mut Refusals) -> Result<Form> {
    Ok(Form {
        keys: vec![SINKS_KEYS],
        query_key_value_bias: true,
        output_bias: true,
        sinks: true,
        ..Form::default()
    })
}

struct SinksPlugin;

impl Plugin for SinksPlugin {
    const MANIFEST: &'static str = r#"{
        "name": "sinks", "version": "0.0.0", "abi": 1,
        "components": [{"stage": "arch", "id": "sinks", "model_types": ["sinks"]}]}"#;

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        SINKS.frontend(id, options)
    }
}

anemll_plugin_api::register_builtin!(SinksPlugin);

/// Converts in this process, where the frontends are.
fn convert(model: &Path, output: &Path, options: &str) {
    let mut line = vec!["anemll", "convert"];
    line.extend(options.split_whitespace());
    line.extend(["--model", model.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    let cli = Cli::try_parse_from(line).unwrap();
    let Command::Convert(arguments) = &cli.command else { panic!("convert was typed") };
    let plugins = Plugins::discover(&[]).unwrap();
    anemll_pipeline::run(&(&**arguments).into(), &plugins, "anemll convert", &|_| {}).unwrap();
}

#[test]
fn sinks_are_those_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    let options = "--lut none --no-tokenizer --compiler none --combiner chunked --chunk 2 --context 128 --batch 16";
    convert(&model("parts/sinks"), folder.path(), options);
    let runtime = Plugins::discover(&[]).unwrap().runtime("cpu").unwrap();
    let meta = folder.path().join("meta.yaml");
    let mut engine = Engine::open(&meta, runtime.as_ref(), &anemll_services::host()).unwrap();
    let golden = golden("parts/sinks");
    let tokens = read_tokens(&golden.join("ids.npy")).unwrap();
    let vocabulary = engine.vocabulary().unwrap();
    let logits = golden.join("logits.npy");
    let reference = Reference::read(&logits, tokens.len() as u64, vocabulary).unwrap();
    for prefilled in [0, 33] {
        engine.reset().unwrap();
        if prefilled > 0 {
            engine.prefill(&tokens[..prefilled], 0).unwrap();
        }
        let mut positions = Vec::new();
        for (position, token) in tokens.iter().enumerate().skip(prefilled) {
            let Head::Logits(logits) = engine.infer(*token, position as u64).unwrap() else {
                panic!("the head gives logits")
            };
            positions.push(reference.compare(position, &logits).unwrap());
        }
        let result = summarize(positions).unwrap();
        assert!(result.cosine_min >= 0.9999, "{prefilled}: {}", result.cosine_min);
        assert!(result.kl_mean < 1e-3 && result.top1_agreement >= 0.99, "{}", result.kl_mean);
    }
}

#[test]
fn configuration_and_tensors_cross_once_whatever_is_lowered() {
    let output = tempfile::tempdir().unwrap();
    let (model, output) = (model("tiny-llama"), output.path().join("out"));
    let options = "--arch counting --combiner monolithic --lut none --compiler none --runtime none";
    convert(&model, &output, options);
    assert!(output.join("meta.yaml").is_file());
    assert_eq!(OPENED.each_ref().map(count), [0, 1]);
    assert_eq!(count(&DESCRIBED), 1);
    assert!(count(&LOWERED) >= 3, "infer, prefill and evaluation: {}", count(&LOWERED));
}

#[test]
fn a_refusal_is_an_error_with_the_place_of_the_first_key() {
    let plugins = Plugins::discover(&[]).unwrap();
    let options = ComponentOptions::new();
    let error = plugins.frontend(r#"{"model_type": "fussy"}"#, None, &options).err().unwrap();
    assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED);
    assert_eq!(error.message, "`first` is not liked");
    assert_eq!(error.at.unwrap(), "config.json: first");
    assert_eq!(error.hint.unwrap(), "refused too: `second.inner`");
    assert!(plugins.frontend("{}", Some("counting"), &options).is_ok(), "--arch decides");
}
