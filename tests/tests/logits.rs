//! Conversions give the logits of `transformers` in float32, for every shipped model and every
//! variant of the configuration, in every layout, over every path.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says what it skips")]

use anemll_generation::engine::{Engine, Head};
use anemll_generation::evaluation::{Evaluation, Reference, read_tokens, summarize};
use anemll_host::cli::{Cli, Command};
use anemll_pipeline::plugins::Plugins;
use anemll_shipped as _;
use anemll_tests::measures::{Cell, check_row};
use anemll_tests::{converted, evaluate, golden, model, workspace};
use clap::Parser as _;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

const CHUNKED: &[&str] = &["--lut", "none", "--combiner", "chunked", "--chunk"];
const WHOLE: &[&str] = &["--lut", "none", "--combiner", "monolithic"];
const SIZES: &[&str] = &["--context", "256", "--batch", "32"];

/// How tokens go through a conversion.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// A batch at a time, with the logits of all.
    Evaluate,
    /// One at a time.
    Infer,
    /// So many in batches without logits, the others one at a time.
    Prefill(usize),
}

/// Converts in this process: a process of the program for each of these would take longer than the
/// conversion.
fn convert(model: &Path, output: &Path, arguments: &[&str]) {
    let line = ["anemll", "convert", "--no-tokenizer", "--model", model.to_str().unwrap()];
    let output = ["--output", output.to_str().unwrap()];
    let cli = Cli::try_parse_from([&line[..], &output, arguments].concat()).unwrap();
    let Command::Convert(arguments) = &cli.command else { panic!("convert was typed") };
    let plugins = Plugins::discover(&[]).unwrap();
    anemll_pipeline::run(&(&**arguments).into(), &plugins, "anemll convert", &|_| {})
        .unwrap_or_else(|error| panic!("{}", anemll_host::error::render(&error)));
}

/// A conversion, opened, with what its logits should be.
struct Conversion {
    engine: Engine,
    tokens: Vec<u32>,
    reference: Reference,
}

impl Conversion {
    fn open(output: &Path, ids: &Path, logits: &Path) -> Self {
        let runtime = Plugins::discover(&[]).unwrap().runtime("cpu").unwrap();
        let meta = output.join("meta.yaml");
        let engine = Engine::open(&meta, runtime.as_ref(), &anemll_services::host()).unwrap();
        let tokens = read_tokens(ids).unwrap();
        let vocabulary = engine.vocabulary().unwrap();
        let reference = Reference::read(logits, tokens.len() as u64, vocabulary).unwrap();
        Self { engine, tokens, reference }
    }

    fn measure(&mut self, way: Way) -> Evaluation {
        self.engine.reset().unwrap();
        let mut positions = Vec::new();
        let mut compare = |position: usize, head: &Head| {
            let Head::Logits(logits) = head else { panic!("the head gives logits") };
            positions.push(self.reference.compare(position, logits).unwrap());
        };
        let first = match way {
            Way::Evaluate => {
                let batch = self.engine.batch() as usize;
                for (number, tokens) in self.tokens.chunks(batch).enumerate() {
                    let start = number * batch;
                    let heads = self.engine.evaluate(tokens, start as u64).unwrap();
                    heads.iter().enumerate().for_each(|(row, head)| compare(start + row, head));
                }
                self.tokens.len()
            }
            Way::Infer => 0,
            Way::Prefill(count) => {
                self.engine.prefill(&self.tokens[..count], 0).unwrap();
                count
            }
        };
        for (position, token) in self.tokens.iter().enumerate().skip(first) {
            compare(position, &self.engine.infer(*token, position as u64).unwrap());
        }
        summarize(positions).unwrap()
    }
}

fn check(result: &Evaluation, what: &str) {
    assert!(result.cosine_min >= 0.9999, "{what}: smallest cosine {}", result.cosine_min);
    assert!(result.top1_agreement >= 0.99, "{what}: top-1 {}", result.top1_agreement);
    assert!(result.kl_mean < 1e-3, "{what}: KL {}", result.kl_mean);
}

/// Rules with findings in every model, as the page says.
const FOUND_IN_ALL: &[&str] = &["ANE-010", "ANE-016", "ANE-017", "ANE-025", "ANE-036", "ANE-096"];

/// The worst that was measured of a model, over layouts and paths, and what the lint says of its packages.
struct Worst {
    cosine: f64,
    relative_l2: f64,
    kl: f64,
    top1: f64,
    rules: BTreeSet<String>,
}

impl Default for Worst {
    fn default() -> Self {
        Self { cosine: 1.0, relative_l2: 0.0, kl: 0.0, top1: 1.0, rules: BTreeSet::new() }
    }
}

impl Worst {
    fn add(&mut self, result: &Evaluation) {
        self.cosine = self.cosine.min(result.cosine_min);
        self.relative_l2 = self.relative_l2.max(result.relative_l2_max);
        self.kl = self.kl.max(result.kl_mean);
        self.top1 = self.top1.min(result.top1_agreement);
    }

    /// Rules with findings that are more than notes, in the packages that apps load.
    fn add_rules(&mut self, output: &Path) {
        let report = std::fs::read_to_string(output.join("anemll-report.json")).unwrap();
        let report: Value = serde_json::from_str(&report).unwrap();
        for package in report["packages"].as_array().unwrap() {
            if package["path"].as_str().unwrap().starts_with('.') {
                continue;
            }
            let findings = package["lint"].as_array().unwrap().iter();
            let found = findings.filter(|finding| finding["severity"] != "note");
            self.rules.extend(found.map(|finding| finding["rule"].as_str().unwrap().to_owned()));
        }
    }

    /// Compares with docs/reference/families.md, or writes it.
    fn check(&self, name: &str) {
        let config = std::fs::read_to_string(model(name).join("config.json")).unwrap();
        let config: Value = serde_json::from_str(&config).unwrap();
        let kind = config["model_type"].as_str().unwrap();
        // As tests/reference/make_variants.py has it.
        let newer = ["ministral3", "qwen3_5_text"].contains(&kind);
        for rule in FOUND_IN_ALL {
            assert!(
                self.rules.contains(*rule),
                "{name} has no finding of {rule}, as the page says"
            );
        }
        let rules = self.rules.iter().map(String::as_str);
        let rules: Vec<&str> = rules.filter(|rule| !FOUND_IN_ALL.contains(rule)).collect();
        check_row(
            "## Logits",
            name.trim_start_matches("variants/"),
            &[
                Cell::Text(format!("`{kind}`")),
                Cell::Text(if newer { "5.24.0" } else { "4.57.1" }.to_owned()),
                Cell::Near(self.cosine),
                Cell::Error(self.relative_l2),
                Cell::Error(self.kl),
                Cell::Share(self.top1),
                Cell::Text(rules.join(", ")),
            ],
        );
    }
}

fn all_paths(name: &str, layout: &[&str], worst: &mut Worst) {
    let output = tempfile::tempdir().unwrap();
    convert(&model(name), output.path(), layout);
    let golden = golden(name);
    let (ids, logits) = (golden.join("ids.npy"), golden.join("logits.npy"));
    let mut conversion = Conversion::open(output.path(), &ids, &logits);
    let mut run = |way: Way| {
        let result = conversion.measure(way);
        check(&result, &format!("{name} {layout:?} {way:?}"));
        worst.add(&result);
        result.positions
    };
    let positions = run(Way::Evaluate);
    assert_eq!(run(Way::Infer), positions);
    for count in [32, 33, 61] {
        assert_eq!(run(Way::Prefill(count)), positions - count as u64);
    }
    worst.add_rules(output.path());
}

/// A model converted from `directory` in two chunks gives the logits of a variant.
pub(crate) fn converts_like(directory: &Path, name: &str) {
    let output = tempfile::tempdir().unwrap();
    convert(directory, output.path(), &[CHUNKED, &["2"], SIZES].concat());
    let golden = golden(&format!("variants/{name}"));
    let (ids, logits) = (golden.join("ids.npy"), golden.join("logits.npy"));
    let result = Conversion::open(output.path(), &ids, &logits).measure(Way::Evaluate);
    check(&result, name);
}

/// A trained model: one chunk, a chunk for each layer, and one package.
fn trained(name: &str) {
    let sizes = |context| ["--context", context, "--batch", "32"];
    let mut worst = Worst::default();
    all_paths(name, &[CHUNKED, &["1"], &sizes("320")].concat(), &mut worst);
    all_paths(name, &[CHUNKED, &["4"], &sizes("512")].concat(), &mut worst);
    all_paths(name, &[WHOLE, &sizes("320")].concat(), &mut worst);
    worst.check(name);
}

/// A variant in two chunks.
fn in_chunks(name: &str) {
    let name = format!("variants/{name}");
    let mut worst = Worst::default();
    all_paths(&name, &[CHUNKED, &["2"], SIZES].concat(), &mut worst);
    worst.check(&name);
}

/// A variant in two chunks and in one package.
fn every_way(name: &str) {
    let name = format!("variants/{name}");
    let mut worst = Worst::default();
    all_paths(&name, &[CHUNKED, &["2"], SIZES].concat(), &mut worst);
    all_paths(&name, &[WHOLE, SIZES].concat(), &mut worst);
    worst.check(&name);
}

macro_rules! models {
    ($($test:ident = $name:literal $how:ident;)+) => {
        $(
            #[test]
            fn $test() {
                $how($name);
            }
        )+

        #[test]
        fn every_model_has_its_test() {
            let listed = [$($name),+];
            for folder in ["tests/models", "tests/models/variants"] {
                for entry in std::fs::read_dir(workspace().join(folder)).unwrap() {
                    let entry = entry.unwrap();
                    let name = entry.file_name().into_string().unwrap();
                    let is_model = entry.path().join("config.json").is_file();
                    assert!(!is_model || listed.contains(&name.as_str()), "{name} is in no test");
                }
            }
        }
    };
}

// One line for each model: what is done with it stands behind its folder's name.
models! {
    tiny_llama = "tiny-llama" trained;
    tiny_qwen2 = "tiny-qwen2" trained;
    tiny_qwen3 = "tiny-qwen3" trained;
    all_biases = "all-biases" every_way;
    arcee = "arcee" in_chunks;
    attention_bias = "attention-bias" in_chunks;
    cohere = "cohere" in_chunks;
    cohere2 = "cohere2" every_way;
    ernie4_5 = "ernie4_5" in_chunks;
    exaone4 = "exaone4" every_way;
    float32_weights = "float32-weights" in_chunks;
    gelu = "gelu" in_chunks;
    gemma2 = "gemma2" every_way;
    gemma3 = "gemma3" every_way;
    gemma3_large_stream = "gemma3-large-stream" every_way;
    glm = "glm" in_chunks;
    glm4 = "glm4" every_way;
    granite = "granite" every_way;
    granite_4 = "granite-4" in_chunks;
    head_dim_apart = "head-dim-apart" in_chunks;
    helium = "helium" in_chunks;
    large_eps = "large-eps" in_chunks;
    large_residual = "large-residual" in_chunks;
    lfm2 = "lfm2" every_way;
    lfm2_biases = "lfm2-biases" every_way;
    mha = "mha" in_chunks;
    ministral3 = "ministral3" every_way;
    mistral = "mistral" every_way;
    mistral_short_window = "mistral-short-window" every_way;
    mistral_window = "mistral-window" in_chunks;
    mlp_bias = "mlp-bias" in_chunks;
    mqa = "mqa" in_chunks;
    olmo2 = "olmo2" every_way;
    olmo3 = "olmo3" every_way;
    phi3_long_factors = "phi3-long-factors" every_way;
    phi3_short_factors = "phi3-short-factors" in_chunks;
    phi3_window = "phi3-window" every_way;
    qwen2_defaults_odd_vocab = "qwen2-defaults-odd-vocab" every_way;
    qwen2_head_dim_apart = "qwen2-head-dim-apart" in_chunks;
    qwen2_rope_parameters_llama3 = "qwen2-rope-parameters-llama3" in_chunks;
    qwen2_rope_yarn = "qwen2-rope-yarn" in_chunks;
    qwen2_tied = "qwen2-tied" in_chunks;
    qwen2_window_in_no_layer = "qwen2-window-in-no-layer" in_chunks;
    qwen3_attention_bias = "qwen3-attention-bias" every_way;
    qwen3_defaults_odd_vocab = "qwen3-defaults-odd-vocab" every_way;
    qwen3_rope_linear = "qwen3-rope-linear" in_chunks;
    qwen3_rope_yarn = "qwen3-rope-yarn" in_chunks;
    qwen3_short_window_in_one_layer = "qwen3-short-window-in-one-layer" in_chunks;
    qwen3_tied = "qwen3-tied" in_chunks;
    qwen3_window_in_one_layer = "qwen3-window-in-one-layer" in_chunks;
    qwen3_5 = "qwen3_5" every_way;
    qwen3_5_untied = "qwen3_5-untied" every_way;
    rope_dynamic = "rope-dynamic" in_chunks;
    rope_linear = "rope-linear" in_chunks;
    rope_llama3 = "rope-llama3" in_chunks;
    rope_parameters_default = "rope-parameters-default" in_chunks;
    rope_parameters_llama3 = "rope-parameters-llama3" in_chunks;
    rope_theta_500000 = "rope-theta-500000" in_chunks;
    rope_yarn = "rope-yarn" every_way;
    rope_yarn_betas = "rope-yarn-betas" in_chunks;
    rope_yarn_mscale = "rope-yarn-mscale" in_chunks;
    sharded = "sharded" in_chunks;
    smollm3 = "smollm3" every_way;
    smollm3_listed = "smollm3-listed" in_chunks;
    stablelm = "stablelm" every_way;
    stablelm_parallel = "stablelm-parallel" in_chunks;
    tied = "tied" in_chunks;
    untied_head_odd_vocab = "untied-head-odd-vocab" every_way;
}

/// The directory of a model that sees images, as transformers 5 writes it: the language model of that name in
/// tests/models/variants with the names that it has there, and zeros for all that is not its.
fn with_images(name: &str, folder: &Path) {
    let stored = workspace().join(format!("tests/reference/multimodal/{name}.json"));
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(stored).unwrap()).unwrap();
    std::fs::write(folder.join("config.json"), stored["config"].to_string()).unwrap();
    let inner = model("variants").join(name).join("model.safetensors");
    let inner = std::fs::read(inner).unwrap();
    let inner = SafeTensors::deserialize(&inner).unwrap();
    let tensors = stored["tensors"].as_object().unwrap().iter();
    let tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = tensors
        .map(|(name, tensor)| match tensor["is"].as_str() {
            Some(own) => {
                let own = inner.tensor(own).unwrap();
                (name.clone(), own.dtype(), own.shape().to_vec(), own.data().to_vec())
            }
            None => {
                let shape: Vec<usize> = serde_json::from_value(tensor["shape"].clone()).unwrap();
                let zeros = vec![0; 2 * shape.iter().product::<usize>()];
                (name.clone(), Dtype::BF16, shape, zeros)
            }
        })
        .collect();
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(folder.join("model.safetensors"), bytes).unwrap();
}

#[test]
fn of_models_that_see_images_the_language_model_is_converted() {
    for name in ["gemma3", "ministral3", "qwen3_5"] {
        let (folder, output) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        with_images(name, folder.path());
        convert(folder.path(), output.path(), &[CHUNKED, &["2"], SIZES].concat());
        let golden = golden(&format!("variants/{name}"));
        let (ids, logits) = (golden.join("ids.npy"), golden.join("logits.npy"));
        let result = Conversion::open(output.path(), &ids, &logits).measure(Way::Evaluate);
        check(&result, name);
        let report = std::fs::read_to_string(output.path().join("anemll-report.json")).unwrap();
        for told in [
            "only the language model, `text_config`, is converted",
            "tensors that the model does not use",
        ] {
            assert!(report.contains(told), "{name}: {report}");
        }
    }
}

#[test]
fn a_context_that_the_batch_does_not_divide() {
    // The state is rounded up, so that a padded last batch stays inside.
    for name in ["variants/tied", "variants/qwen3-tied"] {
        let layout = [CHUNKED, &["2", "--context", "210", "--batch", "48"]].concat();
        all_paths(name, &layout, &mut Worst::default());
    }
}

#[test]
fn the_program_measures_the_same() {
    let arguments = [CHUNKED, &["2", "--context", "320", "--batch", "32"]].concat();
    let output = converted(&model("tiny-llama"), &arguments);
    let golden = golden("tiny-llama");
    let mut conversion =
        Conversion::open(&output, &golden.join("ids.npy"), &golden.join("logits.npy"));
    for (way, path) in [
        (Way::Evaluate, &["--path", "evaluate"][..]),
        (Way::Infer, &["--path", "infer"]),
        (Way::Prefill(33), &["--path", "prefill", "--prefill-tokens", "33"]),
    ] {
        let ours = conversion.measure(way);
        let told = evaluate(&output, &golden, "logits.npy", path);
        assert_eq!(told["positions"], ours.positions, "{way:?}");
        assert_eq!(told["cosine_min"], ours.cosine_min, "{way:?}");
        assert_eq!(told["kl_mean"], ours.kl_mean, "{way:?}");
    }
}

/// One of the reference models beside the repository, whose golden files have other names.
fn shared_reference(name: &str) {
    let folder = workspace().join("../shared/reference/models").join(name);
    if !folder.is_dir() {
        println!("skipped: {} is not there", folder.display());
        return;
    }
    for layout in [[CHUNKED, &["2"]].concat(), WHOLE.to_vec()] {
        let output = tempfile::tempdir().unwrap();
        convert(&folder, output.path(), &[&layout[..], &["--context", "256"]].concat());
        for prompt in ["prompt20", "prompt100"] {
            let golden = |what: &str| folder.join("golden").join(format!("{prompt}.{what}.npy"));
            let mut conversion = Conversion::open(output.path(), &golden("ids"), &golden("logits"));
            for way in [Way::Infer, Way::Evaluate, Way::Prefill(17)] {
                check(&conversion.measure(way), &format!("{name} {layout:?} {prompt} {way:?}"));
            }
        }
    }
}

#[test]
fn the_shared_llama() {
    shared_reference("tiny-llama-v2048");
}

#[test]
fn the_shared_qwen2() {
    shared_reference("tiny-qwen2-v2048");
}

#[test]
fn the_shared_qwen3() {
    shared_reference("tiny-qwen3-v2048");
}
