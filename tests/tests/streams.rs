//! The residual stream behind each layer, rounded to 16-bit floats, against that of `transformers` in
//! float32: relative L2, which sees what a cosine does not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_generation::engine::Engine;
use anemll_generation::evaluation::read_tokens;
use anemll_generation::streams::{LayerErrors, Rows, Streams, worst_layer};
use anemll_host::cli::{Cli, Command};
use anemll_pipeline::plugins::Plugins;
use anemll_shipped as _;
use anemll_tests::measures::{Cell, check_row};
use anemll_tests::{anemll, golden, json, model};
use clap::Parser as _;
use std::collections::BTreeMap;
use std::path::Path;

/// What Gemma's stream is multiplied with.
const GEMMA: f32 = 1.0 / 32.0;

/// Converts in this process.
fn convert(model: &Path, output: &Path) {
    let places = ["--model", model.to_str().unwrap(), "--output", output.to_str().unwrap()];
    let options = ["--lut", "none", "--combiner", "chunked", "--chunk", "2", "--context", "256"];
    let line = [&["anemll", "convert", "--no-tokenizer", "--batch", "32"], &places[..], &options];
    let cli = Cli::try_parse_from(line.concat()).unwrap();
    let Command::Convert(arguments) = &cli.command else { panic!("convert was typed") };
    let plugins = Plugins::discover(&[]).unwrap();
    anemll_pipeline::run(&(&**arguments).into(), &plugins, "anemll convert", &|_| {}).unwrap();
}

/// What transformers has behind each layer, for the first tokens.
fn expected(folder: &Path, scale: f32) -> (BTreeMap<u32, Rows>, usize) {
    let path = folder.join("streams.npy");
    let array = anemll_generation::arrays::open(&path).unwrap();
    let [layers, tokens, width] = array.shape()[..] else { panic!("three axes") };
    let values = array.floats(1 << 20).unwrap();
    let each = (tokens * width) as usize;
    let rows = (0..layers as usize).map(|layer| {
        let values = values[layer * each..(layer + 1) * each].iter();
        let values = values.map(|value| value * scale).collect();
        (layer as u32, Rows { width: width as usize, values })
    });
    (rows.collect(), tokens as usize)
}

/// The largest relative L2 of a family's layers stays below `bound`.
fn check(name: &str, scale: f32, bound: f64) {
    let name = format!("variants/{name}");
    let output = tempfile::tempdir().unwrap();
    convert(&model(&name), output.path());
    let golden = golden(&name);
    let (reference, count) = expected(&golden, scale);
    let runtime = Plugins::discover(&[]).unwrap().runtime("cpu").unwrap();
    let meta = output.path().join("meta.yaml");
    let mut engine = Engine::open(&meta, runtime.as_ref(), &anemll_services::host()).unwrap();
    let tokens = read_tokens(&golden.join("ids.npy")).unwrap();
    let mut streams = Streams::new(&engine.evaluation_functions()).unwrap();
    let own = streams.of_text(&mut engine, &tokens[..count]).unwrap();
    assert_eq!(own.keys().collect::<Vec<_>>(), reference.keys().collect::<Vec<_>>(), "{name}");
    let mut errors = LayerErrors::default();
    errors.add(&reference, &own);
    let layers = errors.finish();
    let worst = worst_layer(&layers).unwrap();
    assert!(worst.relative_l2 < bound, "{name}: {layers:?}");
    // And it is told, not left out: rounding is never exact.
    assert!(worst.relative_l2 > 1e-5, "{name}: {layers:?}");
    check_row("## Residual streams", &name["variants/".len()..], &[Cell::Error(worst.relative_l2)]);
    for layer in &layers {
        assert!((layer.norm_ratio - 1.0).abs() < bound, "{name}: {layers:?}");
        assert!(layer.token_max < 4.0 * bound, "{name}: {layers:?}");
    }
}

macro_rules! families {
    ($($test:ident = $name:literal $scale:expr, $bound:expr;)+) => {
        $(
            #[test]
            fn $test() {
                check($name, $scale, $bound);
            }
        )+
    };
}

families! {
    gemma2 = "gemma2" GEMMA, 1e-3;
    gemma3 = "gemma3" GEMMA, 1e-3;
    granite = "granite" 1.0, 1e-3;
    lfm2 = "lfm2" 1.0, 2.5e-3;
    llama = "tied" 1.0, 2.5e-3;
    mistral = "mistral-short-window" 1.0, 2.5e-3;
    olmo2 = "olmo2" 1.0, 2.5e-3;
    olmo3 = "olmo3" 1.0, 2.5e-3;
    phi3 = "phi3-window" 1.0, 2.5e-3;
    qwen2 = "qwen2-tied" 1.0, 2.5e-3;
    qwen3 = "qwen3-tied" 1.0, 2.5e-3;
    qwen3_5 = "qwen3_5" 1.0, 5e-3;
    smollm3 = "smollm3" 1.0, 4e-3;
    stablelm = "stablelm" 1.0, 2.5e-3;
}

#[test]
fn commands_tell_each_layer() {
    let name = "variants/qwen3_5";
    let ids = golden(name).join("ids.npy");
    let mut command = anemll();
    command.args(["preflight", "--context", "96", "--tokens"]).arg(&ids).arg(model(name));
    let text = String::from_utf8(anemll_tests::succeed(&mut command).stdout).unwrap();
    let line = text.lines().find(|line| line.starts_with("residual stream: ")).unwrap();
    assert!(line.contains("worst behind layer") && line.contains("of its length"), "{line}");
    let found = json(command.arg("--json"));
    let layers = found["stream"].as_array().unwrap();
    assert_eq!(layers.len(), 4);
    for (number, layer) in layers.iter().enumerate() {
        assert_eq!(layer["layer"], number);
        let off = layer["relative_l2"].as_f64().unwrap();
        assert!(off > 1e-5 && off < 5e-3, "{layer}");
    }
}
