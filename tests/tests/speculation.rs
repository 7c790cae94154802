//! Guessed tokens: whoever guesses, and however wrongly, the model's own choices come out.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_generation::drafting::{Draft, Drafter};
use anemll_generation::engine::Engine;
use anemll_generation::evaluation::read_tokens;
use anemll_generation::generation::{Generator, Guesses};
use anemll_generation::sampling::{Sampler, Sampling, probabilities};
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::Result;
use anemll_shipped as _;
use anemll_tests::{anemll, convert, golden, model, refusal, succeed};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// The layouts, with 16-bit floats and with palettized weights, which the runtime multiplies otherwise.
const LAYOUTS: [&[&str]; 2] = [
    &["--combiner", "monolithic", "--lut", "none", "--verify", "8"],
    &["--combiner", "chunked", "--lut", "4", "--calibration", "none", "--verify", "5"],
];

/// Where a layout of tiny-llama is, which is made once.
fn meta(layout: usize) -> PathBuf {
    static FOLDERS: [OnceLock<TempDir>; LAYOUTS.len()] = [const { OnceLock::new() }; LAYOUTS.len()];
    let made = FOLDERS[layout].get_or_init(|| {
        let output = tempfile::tempdir().unwrap();
        let flags = [LAYOUTS[layout], &["--skip-quality", "--compiler", "none"]].concat();
        convert(&model("tiny-llama"), output.path(), &flags);
        output
    });
    made.path().join("meta.yaml")
}

fn open(meta: &Path) -> Engine {
    let runtime = Plugins::discover(&[]).unwrap().runtime("cpu").unwrap();
    Engine::open(meta, runtime.as_ref(), &anemll_services::host()).unwrap()
}

fn generator(meta: &Path, sampling: Sampling) -> Generator {
    Generator::new(open(meta), Sampler::new(sampling, Some(7)), BTreeSet::new())
}

fn text() -> Vec<u32> {
    read_tokens(&golden("tiny-llama").join("ids.npy")).unwrap()
}

fn answer(generator: &mut Generator, prompt: &[u32], most: u64) -> (Vec<u32>, Guesses) {
    let mut tokens = Vec::new();
    let answer = generator.answer(prompt, most, &mut |token| {
        tokens.push(token);
        Ok(())
    });
    let guesses = answer.unwrap().guesses;
    (tokens, guesses)
}

/// Guesses wrongly, or rightly for some tokens and then wrongly.
struct Liar {
    truth: Vec<u32>,
    asked: usize,
}

impl Drafter for Liar {
    fn guess(&mut self, tokens: &[u32], most: usize) -> Result<Vec<u32>> {
        self.asked += 1;
        let right = self.asked % 4;
        let truth = self.truth.get(tokens.len()..).unwrap_or_default();
        let mut guessed: Vec<u32> = truth.iter().copied().take(right).collect();
        guessed.resize(most, 3);
        Ok(guessed)
    }
}

#[test]
fn greedy_answers_are_those_without_guesses() {
    let text = text();
    for layout in 0..LAYOUTS.len() {
        let meta = meta(layout);
        let mut plain = generator(&meta, Sampling::GREEDY);
        plain.set_drafter(None);
        let mut guessing = generator(&meta, Sampling::GREEDY);
        let (mut all, mut right) = (0, 0);
        for start in 0..2 {
            let prompt = &text[start * 7..][..9 + start];
            let (expected, none) = answer(&mut plain, prompt, 250);
            assert_eq!(none, Guesses::default());
            let (found, guesses) = answer(&mut guessing, prompt, 250);
            assert_eq!(found, expected, "{layout} {start}");
            right += guesses.right;
            all += found.len();
            if start == 0 {
                continue;
            }
            let truth = [prompt, &expected].concat();
            let mut lied_to = generator(&meta, Sampling::GREEDY);
            lied_to.set_drafter(Some(Box::new(Liar { truth, asked: 0 })));
            let (found, guesses) = answer(&mut lied_to, prompt, 250);
            assert_eq!(found, expected, "{layout} {start}, wrong guesses");
            assert!(guesses.right > 0 && guesses.right < guesses.made, "{guesses:?}");
        }
        assert!(all >= 400, "{all}");
        assert!(right > 30, "a small model repeats itself: {right}");
    }
}

#[test]
fn what_a_verification_left_is_not_used_where_digits_count() {
    let (meta, text) = (meta(0), text());
    for exact in [false, true] {
        let mut guessing = generator(&meta, Sampling::GREEDY);
        guessing.set_exact_reuse(exact);
        let (found, guesses) = answer(&mut guessing, &text[..12], 200);
        assert!(guesses.right > 0);
        let longer = [&text[..12], &found].concat();
        assert_eq!(guessing.reusable(&longer) == longer.len() - 1, !exact);
    }
}

#[test]
fn a_smaller_model_guesses() {
    let (meta, text) = (meta(1), text());
    let runtime = Plugins::discover(&[]).unwrap().runtime("cpu").unwrap();
    let mut guessing = generator(&meta, Sampling::GREEDY);
    let draft = Draft::SmallerModel(self::meta(0));
    draft.apply(&mut guessing, runtime.as_ref(), &anemll_services::host()).unwrap();
    let mut plain = generator(&meta, Sampling::GREEDY);
    plain.set_drafter(None);
    let (found, guesses) = answer(&mut guessing, &text[..20], 120);
    assert_eq!(found, answer(&mut plain, &text[..20], 120).0);
    assert!(guesses.made > 20 && guesses.right * 2 > guesses.made, "{guesses:?}");
}

/// Three drawn tokens against their probabilities, by Pearson's chi-squared test. The second is chosen beside
/// a guess, and the third too, where that was right.
#[test]
fn drawn_tokens_have_the_distribution_of_the_model() {
    const DRAWS: u64 = 400;
    let sampling = Sampling { temperature: 1.0, top_k: 3, ..Sampling::GREEDY };
    let (meta, prompt) = (meta(0), &text()[..9]);
    let runtime = Plugins::discover(&[]).unwrap().runtime("cpu").unwrap();
    let mut drawing = generator(&meta, sampling);
    let draft = Draft::SmallerModel(meta.clone());
    draft.apply(&mut drawing, runtime.as_ref(), &anemll_services::host()).unwrap();
    let mut found = BTreeMap::<Vec<u32>, u64>::new();
    let mut right = 0;
    for _ in 0..DRAWS {
        let (tokens, guesses) = answer(&mut drawing, prompt, 3);
        *found.entry(tokens).or_default() += 1;
        right += guesses.right;
    }
    assert!(right > 15, "{right} guesses were right");

    let mut engine = open(&meta);
    let mut next = |tokens: &[u32]| {
        let (last, before) = tokens.split_last().unwrap();
        engine.prefill(before, 0).unwrap();
        let head = engine.infer(*last, before.len() as u64).unwrap();
        let mut logits = head.into_logits().unwrap();
        sampling.filter(&mut logits);
        let likely = (0_u32..).zip(probabilities(&logits)).filter(|(_, share)| *share > 0.0);
        likely.collect::<Vec<_>>()
    };
    let mut expected = vec![(Vec::new(), 1.0)];
    for _ in 0..3 {
        let mut longer = Vec::new();
        for (tokens, share) in &expected {
            for (token, probability) in next(&[prompt, tokens].concat()) {
                longer.push(([&tokens[..], &[token]].concat(), share * probability));
            }
        }
        expected = longer;
    }
    // Rare ones are one bin.
    let (mut statistic, mut bins, mut rare) = (0.0, 0, (0.0, 0.0));
    let mut seen = 0;
    for (tokens, share) in expected {
        let (count, mean) = (found.get(&tokens).copied().unwrap_or(0), share * DRAWS as f64);
        seen += count;
        if mean < 5.0 {
            rare = (rare.0 + count as f64, rare.1 + mean);
        } else {
            statistic += (count as f64 - mean).powi(2) / mean;
            bins += 1;
        }
    }
    assert_eq!(seen, DRAWS, "tokens were drawn that the model leaves out");
    statistic += (rare.0 - rare.1).powi(2) / f64::max(rare.1, 1.0);
    // Beyond the mean by four deviations: the draws have a seed, so they are the same each time.
    let freedom = f64::from(bins);
    assert!(
        bins > 8 && statistic < freedom + 4.0 * (2.0 * freedom).sqrt(),
        "{statistic} of {bins}"
    );
}

#[test]
fn what_cannot_be_verified_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |name: &str, flags: &[&str]| {
        let mut command = anemll();
        command.args(["convert", "--model"]).arg(model(name));
        refusal(command.arg("--output").arg(folder.path()).args(flags))
    };
    let said = refused("tiny-llama", &["--verify", "65"]);
    assert!(said.contains("must be 2 to 64") && said.contains("--verify"), "{said}");
    let said = refused("tiny-llama", &["--verify", "8", "--argmax"]);
    assert!(said.contains("--argmax leaves them out"), "{said}");
    let said = refused("variants/lfm2", &["--verify", "8", "--no-tokenizer", "--context", "256"]);
    assert!(said.contains("cannot be taken back"), "{said}");
    let plain = folder.path().join("plain");
    convert(&model("tiny-llama"), &plain, &["--lut", "none", "--compiler", "none"]);
    let mut line = anemll();
    let said =
        refusal(line.arg("generate").arg(&plain).args(["-p", "a", "--draft-meta"]).arg(&plain));
    assert!(said.contains("--verify 8"), "{said}");
    // Without functions for it nothing is guessed, and nothing has to be said.
    succeed(anemll().arg("generate").arg(&plain).args([
        "-p",
        "a",
        "--max-tokens",
        "2",
        "--no-draft",
    ]));
}
