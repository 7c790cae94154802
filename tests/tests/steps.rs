//! Steps of a conversion: done once, one by one, or again, they make the same bytes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{convert, convert_command, files, model, run, succeed};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const CHUNKED: &[&str] = &["--combiner", "chunked", "--chunk", "3", "--context", "256"];
const MONOLITHIC: &[&str] =
    &["--combiner", "monolithic", "--context", "256", "--lut", "4", "--lut3", "6"];

/// A folder of its own for each run, with the same relative output, since meta.yaml says how it was
/// made.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn output(&self) -> PathBuf {
        self.0.path().join("out")
    }

    fn command(&self, layout: &[&str], flags: &[&str]) -> Command {
        let mut command =
            convert_command(&model("tiny-llama"), Path::new("out"), &[layout, flags].concat());
        command.current_dir(self.0.path());
        command
    }

    fn convert(&self, layout: &[&str], flags: &[&str]) -> String {
        stderr(&succeed(&mut self.command(layout, flags)))
    }

    fn refused(&self, layout: &[&str], flags: &[&str]) -> String {
        let output = run(&mut self.command(layout, flags));
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        stderr(&output)
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn assert_same(expected: &Place, other: &Place, what: &str) {
    let (expected, other) = (files(&expected.output()), files(&other.output()));
    let names = |files: &[(PathBuf, Vec<u8>)]| {
        files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&expected), names(&other), "{what}");
    for ((name, first), (_, second)) in expected.iter().zip(&other) {
        assert!(first == second, "{what}: {} differs", name.display());
    }
}

#[test]
fn one_by_one_and_from_any_step_on_the_bytes_are_the_same() {
    for (layout, steps) in [(CHUNKED, 8), (MONOLITHIC, 6)] {
        let whole = Place::new();
        whole.convert(layout, &[]);
        let single = Place::new();
        for step in 1..=steps {
            let number = step.to_string();
            let text = single.convert(layout, &["--only", &number]);
            let told = text.lines().filter(|line| line.starts_with("step ")).count();
            assert_eq!(told, 1, "only one step is done:\n{text}");
        }
        assert_same(&whole, &single, "one by one");
        for step in 1..=steps {
            let number = step.to_string();
            whole.convert(layout, &["--restart", &number]);
            assert_same(&single, &whole, &format!("--restart {step}"));
        }
    }
}

#[test]
fn what_is_finished_is_not_done_again() {
    let place = Place::new();
    place.convert(CHUNKED, &[]);
    let weights = || {
        let path = "llama_lm_head.mlpackage/Data/com.apple.CoreML/weights/weight.bin";
        place.output().join(path).metadata().unwrap().modified().unwrap()
    };
    let before = weights();
    let text = place.convert(CHUNKED, &[]);
    assert_eq!(text.matches("is finished").count(), 8, "every step:\n{text}");
    assert_eq!(weights(), before);
    place.convert(CHUNKED, &["--force"]);
    assert_ne!(weights(), before);
    // An output that is damaged is made again.
    let lm_head = place.output().join("llama_lm_head.mlpackage/Manifest.json");
    let manifest = std::fs::read(&lm_head).unwrap();
    std::fs::write(&lm_head, b"{}").unwrap();
    let text = place.convert(CHUNKED, &[]);
    assert!(text.contains("step 1: embeddings: is finished"), "{text}");
    assert!(!text.contains("step 2: lm_head: is finished"), "{text}");
    assert_eq!(std::fs::read(&lm_head).unwrap(), manifest);
}

#[cfg(unix)]
#[test]
fn a_killed_conversion_goes_on_where_it_was() {
    let whole = Place::new();
    whole.convert(CHUNKED, &[]);
    for killed_after in [1, 3, 5, 7] {
        let place = Place::new();
        let mut child = place
            .command(CHUNKED, &["--progress", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            if event["event"] == "step" && event["number"] == killed_after {
                child.kill().unwrap();
                break;
            }
        }
        child.wait().unwrap();
        let names = files(&place.output());
        let visible = names.iter().filter(|(name, _)| !name.starts_with(".anemll"));
        let visible = visible.count();
        assert!(visible == 0 || place.output().join("meta.yaml").exists(), "nothing half done");
        let text = place.convert(CHUNKED, &[]);
        // The step that was told last may not have been noted as finished yet.
        for step in 1..killed_after {
            let finished = text.lines().any(|line| {
                line.starts_with(&format!("step {step}:")) && line.ends_with("is finished")
            });
            assert!(finished, "step {step} was done twice:\n{text}");
        }
        assert_same(&whole, &place, &format!("killed after step {killed_after}"));
    }
}

#[test]
fn a_step_that_lacks_what_it_needs_is_refused() {
    let place = Place::new();
    let text = place.refused(MONOLITHIC, &["--only", "3"]);
    assert!(text.contains("error[A0807]") && text.contains("llama_monolithic.mlpackage"), "{text}");
    assert!(!place.output().exists(), "nothing is left behind");
    place.convert(MONOLITHIC, &["--only", "1"]);
    let text = place.refused(MONOLITHIC, &["--only", "3"]);
    assert!(text.contains("llama_monolithic_prefill.mlpackage"), "{text}");
    assert!(text.contains("--restart 2"), "{text}");
    assert!(place.refused(MONOLITHIC, &["--restart", "4"]).contains("error[A0807]"));
    assert!(place.refused(MONOLITHIC, &["--restart", "9"]).contains("1 to 6"));
    assert!(place.refused(CHUNKED, &["--only", "0", "--force"]).contains("error[A0801]"));
    let both = run(&mut place.command(MONOLITHIC, &["--only", "1", "--restart", "1"]));
    assert_eq!(both.status.code(), Some(2));
    // Apps need no parts: without them the later steps still run.
    place.convert(MONOLITHIC, &[]);
    for part in ["llama_monolithic.mlpackage", "llama_monolithic_prefill.mlpackage"] {
        std::fs::remove_dir_all(place.output().join(part)).unwrap();
    }
    place.convert(MONOLITHIC, &["--restart", "5"]);
}

#[test]
fn other_options_replace_a_conversion_only_with_force_and_leave_nothing_of_it() {
    let place = Place::new();
    place.convert(CHUNKED, &[]);
    let before = files(&place.output());
    let other = ["--combiner", "chunked", "--chunk", "2", "--context", "256", "--lut2", "4,16"];
    let text = place.refused(&other, &[]);
    assert!(text.contains("error[A0805]"), "{text}");
    assert!(text.contains("chunk 3 there, 2 now") && text.contains("--force"), "{text}");
    assert_eq!(files(&place.output()), before);
    place.convert(&other, &["--force"]);
    let fresh = Place::new();
    fresh.convert(&other, &[]);
    assert_same(&fresh, &place, "replaced");
}

#[test]
fn a_dry_run_touches_nothing_and_tells_the_sizes() {
    for (layout, flags) in [(CHUNKED, &["--lut2", "4", "--lut3", "6"][..]), (MONOLITHIC, &[])] {
        let place = Place::new();
        let json = [flags, &["--dry-run", "--progress", "json"]].concat();
        let printed = succeed(&mut place.command(layout, &json)).stdout;
        assert_eq!(files(place.0.path()), []);
        let plan: Value = serde_json::from_slice(&printed).unwrap();
        place.convert(layout, flags);
        for package in plan["packages"].as_array().unwrap() {
            let path = place.output().join(package["path"].as_str().unwrap());
            let weights = path.join("Data/com.apple.CoreML/weights/weight.bin");
            let planned = &plan["weight_files"][package["weight_file"].as_str().unwrap()];
            assert_eq!(weights.metadata().unwrap().len(), planned.as_u64().unwrap(), "{path:?}");
        }
        let before = files(place.0.path());
        let again = [flags, &["--dry-run"]].concat();
        let text = String::from_utf8(succeed(&mut place.command(layout, &again)).stdout).unwrap();
        assert!(text.contains("Nothing was written."), "{text}");
        assert_eq!(text.matches(": is finished").count(), plan["steps"].as_array().unwrap().len());
        assert_eq!(files(place.0.path()), before);
        // What is in the way of the conversion is in the way of its plan.
        let other = [flags, &["--context", "128", "--dry-run"]].concat();
        let layout: Vec<&str> =
            layout.iter().copied().filter(|word| !["--context", "256"].contains(word)).collect();
        assert!(place.refused(&layout, &other).contains("a conversion with other options"));
    }
}

#[test]
fn the_layout_is_chosen_by_size() {
    let dry = |flags: &[&str]| {
        let place = Place::new();
        let mut command = convert_command(&model("tiny-llama"), &place.output(), flags);
        command.arg("--dry-run");
        let output = run(&mut command);
        format!("{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output))
    };
    let text = dry(&["--combiner", "auto"]);
    assert!(text.contains("llama_monolithic_combined.mlpackage"), "{text}");
    assert!(text.contains("note: combiner monolithic"), "{text}");
    let text = dry(&["--combiner", "auto", "--max-chunk-mb", "1"]);
    assert!(text.contains("combiner chunked") && text.contains("_chunk_01of"), "{text}");
    assert!(text.contains("would pass --max-chunk-mb 1"), "{text}");
    let text = dry(&["--combiner", "auto", "--chunk", "2"]);
    assert!(text.contains("_chunk_01of02"), "{text}");
    let text = dry(&["--chunk", "auto"]);
    assert!(text.contains("1 chunk of at most") && text.contains("_chunk_01of01"), "{text}");
    assert!(dry(&["--chunk", "many"]).contains("auto"));
}

#[test]
fn missing_weights_are_refused_or_zero_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let source = model("tiny-llama");
    for name in ["config.json", "tokenizer.json"] {
        std::fs::copy(source.join(name), folder.path().join(name)).unwrap();
    }
    let missing = "model.layers.1.mlp.up_proj.weight";
    let bytes = std::fs::read(source.join("model.safetensors")).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let rest = read.iter().filter(|(name, _)| *name != missing);
    let file = folder.path().join("model.safetensors");
    std::fs::write(&file, safetensors::serialize(rest, None).unwrap()).unwrap();
    let output = tempfile::tempdir().unwrap();
    let target = output.path().join("out");
    let refused = stderr(&run(&mut convert_command(folder.path(), &target, &[])));
    assert!(refused.contains("error[A0304]") && refused.contains(missing), "{refused}");
    let made = convert(folder.path(), &target, &["--allow-missing-weights"]);
    let text = stderr(&made);
    assert!(text.contains(missing) && text.contains("all zeros"), "{text}");
    // What is there is still checked.
    let mut tensors: Vec<_> = read.iter().filter(|(name, _)| *name != missing).collect();
    let short = safetensors::tensor::TensorView::new(safetensors::Dtype::F16, vec![1], &[0, 0]);
    tensors[0].1 = short.unwrap();
    std::fs::write(&file, safetensors::serialize(tensors, None).unwrap()).unwrap();
    let command = &mut convert_command(folder.path(), &target, &["--allow-missing-weights"]);
    assert!(stderr(&run(command)).contains("error[A0305]"));
}

#[test]
fn a_model_without_a_tokenizer_needs_consent() {
    let place = Place::new();
    let mut command = anemll_tests::anemll();
    command.args(["convert", "--lut", "none", "--model"]).arg(model("variants/tied"));
    let text = stderr(&run(command.arg("--output").arg(place.output())));
    assert!(text.contains("error[A0904]") && text.contains("tokenizer.json"), "{text}");
    assert!(text.contains("--no-tokenizer"), "{text}");
    assert!(!place.output().exists());
}
