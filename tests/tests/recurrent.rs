//! States that tokens replace: nothing of another text, of padding, or of what was taken back gets
//! into them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_generation::engine::{Engine, Head};
use anemll_generation::evaluation::read_tokens;
use anemll_generation::generation::Generator;
use anemll_generation::sampling::{Sampler, Sampling};
use anemll_host::cli::{Cli, Command};
use anemll_pipeline::plugins::Plugins;
use anemll_shipped as _;
use anemll_tests::{golden, model};
use clap::Parser as _;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::OnceLock;
use tempfile::TempDir;

/// Short convolutions; linear attention with matrices and columns in one state.
const NAMES: [&str; 2] = ["variants/lfm2", "variants/qwen3_5"];
const OPTIONS: &[&str] = &["--lut", "none", "--context", "256", "--batch", "32", "--no-tokenizer"];

/// The folder of a model's conversion, which is made once.
fn folder(name: &str) -> PathBuf {
    static FOLDERS: [OnceLock<TempDir>; NAMES.len()] = [const { OnceLock::new() }; NAMES.len()];
    let place = NAMES.iter().position(|known| *known == name).unwrap();
    let made = FOLDERS[place].get_or_init(|| {
        let output = tempfile::tempdir().unwrap();
        let model = model(name);
        let places = ["--model", model.to_str().unwrap(), "--output"];
        let line = [&["anemll", "convert"][..], &places, &[output.path().to_str().unwrap()]];
        let cli = Cli::try_parse_from([&line.concat()[..], OPTIONS].concat()).unwrap();
        let Command::Convert(arguments) = &cli.command else { panic!("convert was typed") };
        let plugins = Plugins::discover(&[]).unwrap();
        anemll_pipeline::run(&(&**arguments).into(), &plugins, "anemll convert", &|_| {}).unwrap();
        output
    });
    made.path().to_owned()
}

fn open(name: &str) -> Engine {
    let runtime = Plugins::discover(&[]).unwrap().runtime("cpu").unwrap();
    let meta = folder(name).join("meta.yaml");
    Engine::open(&meta, runtime.as_ref(), &anemll_services::host()).unwrap()
}

fn tokens(name: &str) -> Vec<u32> {
    read_tokens(&golden(name).join("ids.npy")).unwrap()
}

fn logits(head: &Head) -> Vec<f32> {
    let Head::Logits(logits) = head else { panic!("the head gives logits") };
    logits.clone()
}

/// The largest difference of logits.
fn difference(left: &[f32], right: &[f32]) -> f32 {
    let differences = left.iter().zip(right).map(|(left, right)| (left - right).abs());
    differences.fold(0.0, f32::max)
}

#[test]
fn the_description_names_them() {
    for (name, state) in NAMES.into_iter().zip(["conv", "linear"]) {
        let text = std::fs::read_to_string(folder(name).join("anemll-run.json")).unwrap();
        let description: serde_json::Value = serde_json::from_str(&text).unwrap();
        let state = format!("model_model_{state}_cache_0");
        assert_eq!(description["states"], serde_json::json!(["model_model_kv_cache_0", state]));
        assert_eq!(description["recurrent"], serde_json::json!([state]));
    }
}

#[test]
fn a_text_begins_anew_at_position_0_though_no_state_was_emptied() {
    for name in NAMES {
        let (mut engine, tokens) = (open(name), tokens(name));
        assert!(engine.is_recurrent());
        let run = |engine: &mut Engine| {
            let heads = (0..4).map(|at| engine.infer(tokens[at], at as u64).unwrap());
            heads.map(|head| logits(&head)).collect::<Vec<_>>()
        };
        let fresh = run(&mut engine);
        for position in 4..9 {
            engine.infer(tokens[position + 20], position as u64).unwrap();
        }
        assert_eq!(run(&mut engine), fresh);
        // In a batch, too.
        let evaluated = engine.evaluate(&tokens[..32], 0).unwrap();
        engine.reset().unwrap();
        let from_empty = engine.evaluate(&tokens[..32], 0).unwrap();
        for (again, fresh) in evaluated.iter().zip(&from_empty) {
            assert_eq!(logits(again), logits(fresh));
        }
    }
}

#[test]
fn a_batch_leaves_what_single_tokens_leave() {
    for name in NAMES {
        let (mut engine, tokens) = (open(name), tokens(name));
        let mut after = |batched: bool, count: usize| {
            engine.reset().unwrap();
            if batched {
                engine.prefill(&tokens[..count], 0).unwrap();
            } else {
                for (position, token) in tokens[..count].iter().enumerate() {
                    engine.infer(*token, position as u64).unwrap();
                }
            }
            logits(&engine.infer(tokens[count], count as u64).unwrap())
        };
        // Whole batches; one that is not full; one that is all there is.
        for count in [64, 75, 5] {
            let (batched, single) = (after(true, count), after(false, count));
            let difference = difference(&batched, &single);
            assert!(difference < 0.05, "{name}, {count} tokens: {difference}");
        }
    }
}

#[test]
fn tokens_that_cannot_go_on_are_refused() {
    for name in NAMES {
        let (mut engine, tokens) = (open(name), tokens(name));
        let refused = |engine: &mut Engine, position| {
            let error = engine.infer(tokens[0], position).unwrap_err();
            assert_eq!(error.code, anemll_codes::EVALUATION_INPUT);
            error.message
        };
        engine.prefill(&tokens[..40], 0).unwrap();
        assert!(refused(&mut engine, 30).contains("only at 40"));
        engine.infer(tokens[40], 40).unwrap();
        // Padding spoils the state.
        engine.evaluate(&tokens[..7], 0).unwrap();
        assert!(refused(&mut engine, 7).ends_with("goes on only at 0"));
        engine.infer(tokens[0], 0).unwrap();
    }
}

#[test]
fn an_answer_after_another_is_that_of_a_fresh_start() {
    for name in NAMES {
        let tokens = tokens(name);
        let answers = |prompts: &[&[u32]]| {
            let sampler = Sampler::new(Sampling::GREEDY, None);
            let mut generator = Generator::new(open(name), sampler, BTreeSet::new());
            let mut found = Vec::new();
            let mut run = Vec::new();
            for prompt in prompts {
                found.clear();
                let answer = generator.answer(prompt, 12, &mut |token| {
                    found.push(token);
                    Ok(())
                });
                run.push(answer.unwrap().prompt_tokens);
            }
            (found, run)
        };
        let (first, second) = (&tokens[..50], [&tokens[..35], &tokens[60..70]].concat());
        let (fresh, _) = answers(&[&second]);
        let (after, run) = answers(&[first, &second]);
        assert_eq!(after, fresh);
        // What both begin with is run again, since there is no going back.
        assert_eq!(run, [50, 45]);
        // What only goes on is not: the first answer's last token but one is in the state.
        let (answer, _) = answers(&[first]);
        let longer = [first, answer.as_slice(), &tokens[80..84]].concat();
        let (after, run) = answers(&[first, &longer]);
        assert_eq!(after, answers(&[&longer]).0);
        assert_eq!(run[1], 5);
    }
}
