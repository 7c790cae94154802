//! Caches of layers with a window that hold the last positions alone: they give what caches of the whole
//! context give, however often tokens go around, and refuse to go back where that is not so.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_generation::engine::{Engine, Head};
use anemll_generation::evaluation::{Reference, read_tokens, summarize};
use anemll_generation::generation::Generator;
use anemll_generation::sampling::{Sampler, Sampling};
use anemll_host::cli::{Cli, Command};
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::Result;
use anemll_shipped as _;
use anemll_tests::{golden, model};
use clap::Parser as _;
use std::collections::BTreeSet;
use std::path::Path;
use tempfile::TempDir;

/// A window of 24 tokens in some layers or in all; norms behind; bounds of scores; a window of 9.
const GEMMA3: &str = "variants/gemma3";
const MISTRAL: &str = "variants/mistral-short-window";
const OLMO3: &str = "variants/olmo3";
const GEMMA2: &str = "variants/gemma2";
const QWEN3: &str = "variants/qwen3-short-window-in-one-layer";

fn try_convert(name: &str, output: &Path, arguments: &[&str]) -> Result<()> {
    let model = model(name);
    let line = ["anemll", "convert", "--no-tokenizer", "--lut", "none", "--skip-quality"];
    let places = ["--model", model.to_str().unwrap(), "--output", output.to_str().unwrap()];
    let cli = Cli::try_parse_from([&line[..], &places, arguments].concat()).unwrap();
    let Command::Convert(arguments) = &cli.command else { panic!("convert was typed") };
    let plugins = Plugins::discover(&[]).unwrap();
    anemll_pipeline::run(&(&**arguments).into(), &plugins, "anemll convert", &|_| {})
}

/// Converts a model and opens it; the folder is there as long as it is held.
fn open(name: &str, arguments: &[&str]) -> (Engine, TempDir) {
    let output = tempfile::tempdir().unwrap();
    try_convert(name, output.path(), arguments)
        .unwrap_or_else(|error| panic!("{}", anemll_host::error::render(&error)));
    (open_in(output.path()), output)
}

fn open_in(output: &Path) -> Engine {
    let runtime = Plugins::discover(&[]).unwrap().runtime("cpu").unwrap();
    Engine::open(&output.join("meta.yaml"), runtime.as_ref(), &anemll_services::host()).unwrap()
}

fn tokens(name: &str) -> Vec<u32> {
    read_tokens(&golden(name).join("ids.npy")).unwrap()
}

fn logits(head: Head) -> Vec<f32> {
    head.into_logits().unwrap()
}

/// The relative error of logits.
fn error(found: &[f32], wanted: &[f32]) -> f32 {
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|x| x * x).sum::<f32>();
    let differences = squares(&mut found.iter().zip(wanted).map(|(left, right)| left - right));
    (differences / squares(&mut wanted.iter().copied())).sqrt()
}

/// Runs all tokens: single ones and batches in turn, as `schedule` has them (true: by evaluate), and gives
/// the logits of each that has any.
fn run(engine: &mut Engine, tokens: &[u32], schedule: &[(Way, usize)]) -> Vec<(usize, Vec<f32>)> {
    let mut found = Vec::new();
    let mut position = 0;
    for (way, count) in schedule.iter().cycle() {
        let end = tokens.len().min(position + count);
        let part = &tokens[position..end];
        let at = position as u64;
        match way {
            Way::Infer => {
                for (place, token) in part.iter().enumerate() {
                    let head = engine.infer(*token, at + place as u64).unwrap();
                    found.push((position + place, logits(head)));
                }
            }
            Way::Prefill => engine.prefill(part, at).unwrap(),
            Way::Evaluate => {
                for (place, head) in engine.evaluate(part, at).unwrap().into_iter().enumerate() {
                    found.push((position + place, logits(head)));
                }
            }
        }
        position = end;
        if position == tokens.len() {
            return found;
        }
    }
    unreachable!("the schedule is not empty")
}

#[derive(Debug, Clone, Copy)]
enum Way {
    Infer,
    Prefill,
    Evaluate,
}

/// Against transformers and against whole caches, over the last of several ways through the tokens.
fn is_as_ever(name: &str, arguments: &[&str], ways: usize) {
    let (mut whole, _whole) = open(name, arguments);
    let (mut ring, _ring) = open(name, &[arguments, &["--window-cache", "ring"]].concat());
    assert_eq!(ring.conversion().description.rings.len(), 1);
    let tokens = tokens(name);
    let vocabulary = ring.vocabulary().unwrap();
    let reference = golden(name).join("logits.npy");
    let reference = Reference::read(&reference, tokens.len() as u64, vocabulary).unwrap();
    let batch = ring.batch() as usize;
    let schedules: [&[(Way, usize)]; 4] = [
        &[(Way::Infer, 1)],
        &[(Way::Evaluate, batch)],
        // As a chat has it: a prompt, an answer, and again; batches begin anywhere and are padded.
        &[(Way::Prefill, 17), (Way::Infer, 5), (Way::Prefill, 2 * batch + 1), (Way::Infer, 9)],
        &[(Way::Evaluate, batch.div_ceil(3)), (Way::Evaluate, 1), (Way::Evaluate, batch)],
    ];
    for schedule in &schedules[schedules.len() - ways..] {
        whole.reset().unwrap();
        // Not emptied: what another text has left must not be seen.
        let found = run(&mut ring, &tokens, schedule);
        let wanted = run(&mut whole, &tokens, schedule);
        for ((position, found), (_, wanted)) in found.iter().zip(&wanted) {
            let error = error(found, wanted);
            assert!(error < 3e-3, "{name} {arguments:?} {schedule:?} {position}: {error}");
        }
        let compared = found.iter().map(|(at, row)| reference.compare(*at, row).unwrap());
        let result = summarize(compared.collect()).unwrap();
        let what = format!("{name} {arguments:?} {schedule:?}");
        assert!(result.cosine_min >= 0.9999, "{what}: smallest cosine {}", result.cosine_min);
        assert!(result.kl_mean < 1e-3, "{what}: KL {}", result.kl_mean);
    }
}

const CHUNKS: [&str; 4] = ["--combiner", "chunked", "--chunk", "2"];
const WHOLE: [&str; 2] = ["--combiner", "monolithic"];

/// A ring of 32 positions, which 120 tokens go around almost four times, in batches that do not divide it.
#[test]
fn some_layers_have_a_ring() {
    is_as_ever(GEMMA3, &[&CHUNKS[..], &["--context", "256", "--batch", "7"]].concat(), 4);
}

/// Batches longer than the window; a context that is no multiple of the ring's 64 positions.
#[test]
fn batches_may_be_longer_than_windows() {
    is_as_ever(GEMMA3, &[&WHOLE[..], &["--context", "150", "--batch", "32"]].concat(), 2);
    is_as_ever(QWEN3, &[&CHUNKS[..], &["--context", "121", "--batch", "20"]].concat(), 2);
}

/// There is no other state then.
#[test]
fn all_layers_have_a_ring() {
    let arguments = [&CHUNKS[..], &["--context", "256", "--batch", "8"]].concat();
    is_as_ever(MISTRAL, &arguments, 3);
    let (engine, _folder) = open(MISTRAL, &[&arguments[..], &["--window-cache", "ring"]].concat());
    assert_eq!(engine.conversion().description.states, ["model_model_kv_cache_local"]);
}

#[test]
fn norms_behind_and_bounded_scores_go_with_rings() {
    is_as_ever(OLMO3, &[&WHOLE[..], &["--context", "128", "--batch", "8"]].concat(), 2);
    is_as_ever(GEMMA2, &[&WHOLE[..], &["--context", "120", "--batch", "1"]].concat(), 1);
}

/// 32 positions, of which tokens see 24: what is eight or more behind can be gone back to no more.
#[test]
fn going_back_ends_where_what_is_seen_was_overwritten() {
    let sizes = ["--context", "256", "--batch", "8", "--window-cache", "ring"];
    let (mut engine, _folder) = open(GEMMA3, &[&WHOLE[..], &sizes].concat());
    let tokens = tokens(GEMMA3);
    let fresh = run(&mut engine, &tokens, &[(Way::Infer, 1)]);
    for position in [119, 111] {
        let again = logits(engine.infer(tokens[position], position as u64).unwrap());
        assert_eq!(again, fresh[position].1);
    }
    let refused = engine.infer(tokens[110], 110).unwrap_err();
    assert_eq!(refused.code, anemll_codes::EVALUATION_INPUT);
    assert!(refused.message.ends_with("goes on from 111 on, or at 0"), "{}", refused.message);
    // Before the ring is gone around, all is there.
    engine.prefill(&tokens[..24], 0).unwrap();
    let early = logits(engine.infer(tokens[3], 3).unwrap());
    assert_eq!(early, fresh[3].1);
}

/// What two prompts share is used again only where the ring still has it.
#[test]
fn answers_are_those_of_a_fresh_start() {
    let sizes = ["--context", "256", "--batch", "8", "--window-cache", "ring"];
    let tokens = tokens(OLMO3);
    let start = |engine: Engine| {
        let sampler = Sampler::new(Sampling::GREEDY, None);
        let mut generator = Generator::new(engine, sampler, BTreeSet::new());
        generator.set_exact_reuse(true);
        generator
    };
    let answer = |generator: &mut Generator, prompt: &[u32], most: u64| {
        let mut found = Vec::new();
        let answer = generator.answer(prompt, most, &mut |token| {
            found.push(token);
            Ok(())
        });
        (found, answer.unwrap().prompt_tokens)
    };
    let (engine, folder) = open(OLMO3, &[&WHOLE[..], &sizes].concat());
    let mut kept = start(engine);
    let other = [&tokens[..20], &tokens[60..75]].concat();
    // Another end of what still fits into the ring; taken back far; another after a shared beginning; a
    // long one; taken back by less than a batch.
    for (prompt, most, run) in [
        (&tokens[..16], 12, 16),
        (&tokens[..60], 12, 52),
        (&tokens[..58], 12, 58),
        (&other[..], 12, 35),
        (&tokens[..100], 5, 100),
        (&tokens[..110], 5, 14),
    ] {
        let (found, count) = answer(&mut kept, prompt, most);
        let mut fresh = start(open_in(folder.path()));
        assert_eq!(found, answer(&mut fresh, prompt, most).0, "{} tokens", prompt.len());
        assert_eq!(count, run, "{} tokens", prompt.len());
    }
}

#[test]
fn models_without_a_window_that_acts_are_refused() {
    let output = tempfile::tempdir().unwrap();
    let refused = |name: &str, more: &[&str]| {
        let arguments = [&["--window-cache", "ring"], more].concat();
        try_convert(name, output.path(), &arguments).unwrap_err()
    };
    let none = refused("tiny-llama", &[]);
    assert_eq!(none.at.as_deref(), Some("window_cache"));
    assert!(none.message.contains("no layer has a window that acts"), "{}", none.message);
    let idle = refused("variants/mistral-window", &["--context", "256"]);
    assert!(idle.message.contains("no layer has a window that acts"), "{}", idle.message);
    let long = refused(GEMMA3, &["--context", "64", "--batch", "32"]);
    assert!(long.message.contains("a ring of 64 positions"), "{}", long.message);
    let unknown = refused("variants/granite", &[]);
    assert!(unknown.message.contains("has no option \"window_cache\""), "{}", unknown.message);
}
