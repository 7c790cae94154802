//! A throw-away arch frontend goes through the whole pipeline, and counts what the host asks of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_codes as codes;
use anemll_host::cli::{Cli, Command};
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::data::{
    FunctionSpec, MatchRank, ModelDescription, ModelInput, Refusal, Verdict,
};
use anemll_plugin_api::{ArchFrontend, ArchModel, ComponentOptions, Host, Plugin, Result};
use anemll_shipped as _;
use anemll_tests::model;
use clap::Parser as _;
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

#[test]
fn configuration_and_tensors_cross_once_whatever_is_lowered() {
    let output = tempfile::tempdir().unwrap();
    let (model, output) = (model("tiny-llama"), output.path().join("out"));
    let line = "anemll convert --arch counting --combiner monolithic --lut none --compiler none \
                --runtime none --model";
    let mut line: Vec<&str> = line.split_whitespace().collect();
    line.extend([model.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    let cli = Cli::try_parse_from(line).unwrap();
    let Command::Convert(arguments) = &cli.command else { panic!("convert was typed") };
    let plugins = Plugins::discover(&[]).unwrap();
    anemll_pipeline::run(&(&**arguments).into(), &plugins, "anemll convert", &|_| {}).unwrap();
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
