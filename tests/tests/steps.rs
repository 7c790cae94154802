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
        let text = succeed(&mut place.command(layout, &["--dry-run"])).stdout;
        assert!(String::from_utf8(text).unwrap().contains("Nothing was written."));
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

/// A model of one's own: tiny-llama with these small files beside it.
fn with_small_files(folder: &Path, small: &[(&str, &str)]) {
    std::fs::create_dir_all(folder).unwrap();
    for name in ["config.json", "model.safetensors", "tokenizer.json"] {
        std::fs::copy(model("tiny-llama").join(name), folder.join(name)).unwrap();
    }
    for (name, text) in small {
        std::fs::write(folder.join(name), text).unwrap();
    }
}

#[test]
fn small_files_that_changed_are_copied_again_from_whatever_directory() {
    let place = tempfile::tempdir().unwrap();
    let output = place.path().join("out");
    let first = [
        ("special_tokens_map.json", "{}"),
        ("added_tokens.json", "{}"),
        ("generation_config.json", r#"{"do_sample": true, "temperature": 0.5}"#),
    ];
    let convert_from = |name: &str| {
        let text = stderr(&convert(&place.path().join(name), &output, CHUNKED));
        let finished = text.lines().filter(|line| line.ends_with(": is finished"));
        finished
            .map(|line| line.split(':').next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let read = |name: &str| std::fs::read_to_string(output.join(name)).unwrap_or_default();
    with_small_files(&place.path().join("one"), &first);
    assert_eq!(convert_from("one"), [""; 0]);
    assert!(read("meta.yaml").contains("temperature: 0.5"), "{}", read("meta.yaml"));
    // The same model in another directory.
    with_small_files(&place.path().join("two"), &first);
    assert_eq!(convert_from("two").len(), 8);
    // One file has other content, one is gone, one is new.
    let second = [
        ("special_tokens_map.json", r#"{"eos_token": "</s>"}"#),
        ("generation_config.json", r#"{"do_sample": true, "temperature": 0.7}"#),
        ("chat_template.jinja", "{{ messages[0].content }}"),
    ];
    with_small_files(&place.path().join("three"), &second);
    let finished = convert_from("three");
    assert_eq!(finished.len(), 7, "{finished:?}");
    assert!(!finished.contains(&"step 7".to_owned()), "{finished:?}");
    assert!(read("meta.yaml").contains("temperature: 0.7"), "{}", read("meta.yaml"));
    assert_eq!(read("special_tokens_map.json"), second[0].1);
    assert_eq!(read("chat_template.jinja"), second[2].1);
    assert!(!output.join("added_tokens.json").exists());
    assert_eq!(convert_from("three").len(), 8);
}

/// Changes the record of a conversion by hand.
fn edit_record(output: &Path, edit: impl FnOnce(&mut Value)) {
    let path = output.join(".anemll/conversion.json");
    let mut record: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(&mut record);
    std::fs::write(&path, record.to_string()).unwrap();
}

#[test]
fn records_that_were_changed_by_hand_are_not_taken_at_their_word() {
    let whole = Place::new();
    whole.convert(MONOLITHIC, &[]);
    let place = Place::new();
    place.convert(MONOLITHIC, &[]);
    type Edit = fn(&mut Value);
    let edits: [(&str, Edit); 6] = [
        ("2", |step| step["outputs"] = serde_json::json!({})),
        ("3", |step| step["number"] = 1.into()),
        ("4", |step| step["by"] = "coremlcompiler".into()),
        ("4", |step| step["outputs"] = serde_json::json!({ "other.mlmodelc": [] })),
        ("1", |step| step["packages"] = serde_json::json!([])),
        ("5", |step| step["inputs"] = "".into()),
    ];
    for (number, edit) in edits {
        edit_record(&place.output(), |record| edit(&mut record["steps"][number]));
        let text = place.convert(MONOLITHIC, &[]);
        let line = text.lines().find(|line| line.starts_with(&format!("step {number}: ")));
        assert!(line.is_some_and(|line| !line.ends_with("is finished")), "step {number}:\n{text}");
        assert_same(&whole, &place, &format!("step {number} was edited"));
    }
}

#[test]
fn files_that_no_conversion_made_are_replaced_only_by_force() {
    let place = Place::new();
    std::fs::create_dir(place.output()).unwrap();
    for name in ["config.json", "anemll-report.json", "notes.txt"] {
        std::fs::write(place.output().join(name), "mine").unwrap();
    }
    let before = files(&place.output());
    let text = place.refused(CHUNKED, &[]);
    assert!(text.contains("error[A0810]"), "{text}");
    assert!(text.contains("config.json") && text.contains("anemll-report.json"), "{text}");
    assert!(!text.contains("notes.txt") && text.contains("--force"), "{text}");
    assert_eq!(files(&place.output()), before);
    place.convert(CHUNKED, &["--force"]);
    assert_eq!(std::fs::read_to_string(place.output().join("notes.txt")).unwrap(), "mine");
    // From now on they are known.
    place.convert(CHUNKED, &["--restart", "7"]);
}

#[test]
fn a_conversion_never_touches_its_model() {
    let place = tempfile::tempdir().unwrap();
    let source = place.path().join("model");
    with_small_files(&source, &[]);
    let before = files(&source);
    let refused = |output: &Path, flags: &[&str]| {
        let output = run(&mut convert_command(&source, output, &[CHUNKED, flags].concat()));
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert_eq!(files(&source), before);
        stderr(&output)
    };
    for flags in [&[][..], &["--force"]] {
        assert!(refused(&source, flags).contains("error[A0811]"));
        assert!(refused(&source.join("../model/."), flags).contains("error[A0811]"));
    }
    #[cfg(unix)]
    {
        let link = place.path().join("link");
        std::os::unix::fs::symlink(&source, &link).unwrap();
        assert!(refused(&link, &["--force"]).contains("error[A0811]"));
    }
    // Beside and around it there is room.
    convert(&source, place.path(), &[CHUNKED, &["--force"]].concat());
    assert_eq!(files(&source), before);
}

#[cfg(unix)]
#[test]
fn what_a_record_or_a_link_leads_to_outside_stays() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    place.convert(CHUNKED, &[]);
    let victim = place.0.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("text.json"), "text").unwrap();
    let before = files(&victim);
    for name in ["../victim/text.json", victim.join("text.json").to_str().unwrap(), "../victim"] {
        let path = place.output().join(".anemll/conversion.json");
        let good = std::fs::read(&path).unwrap();
        edit_record(&place.output(), |record| {
            record["steps"]["7"]["outputs"][name] = serde_json::json!([]);
        });
        for (layout, flags) in [(CHUNKED, &[][..]), (MONOLITHIC, &[])] {
            let text = place.refused(layout, flags);
            assert!(text.contains("error[A0812]") && text.contains(".anemll"), "{text}");
        }
        std::fs::write(&path, good).unwrap();
        assert_eq!(files(&victim), before);
    }
    let own = place.output().join(".anemll");
    std::fs::rename(&own, place.0.path().join("aside")).unwrap();
    symlink(&victim, &own).unwrap();
    for flags in [&[][..], &["--force"]] {
        let text = place.refused(CHUNKED, flags);
        assert!(text.contains("error[A0813]") && text.contains("symbolic link"), "{text}");
    }
    std::fs::remove_file(&own).unwrap();
    std::fs::create_dir(&own).unwrap();
    symlink(victim.join("text.json"), own.join("lock")).unwrap();
    let text = place.refused(CHUNKED, &["--force"]);
    assert!(text.contains("symbolic link") && text.contains("lock"), "{text}");
    assert_eq!(files(&victim), before);
}

#[cfg(unix)]
#[test]
fn the_report_has_the_mode_of_other_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    place.convert(MONOLITHIC, &["--only", "1"]);
    let other = place.output().join("other");
    std::fs::write(&other, "").unwrap();
    let mode = |path: PathBuf| path.metadata().unwrap().permissions().mode();
    for name in ["anemll-report.json", ".anemll/conversion.json"] {
        assert_eq!(mode(place.output().join(name)), mode(other.clone()), "{name}");
    }
}

/// The record is a pipe that never speaks, or endless: an error at once.
#[cfg(unix)]
#[test]
fn a_record_that_is_no_small_file_is_refused_at_once() {
    let place = Place::new();
    place.convert(MONOLITHIC, &["--only", "1"]);
    let record = place.output().join(".anemll/conversion.json");
    std::fs::remove_file(&record).unwrap();
    assert!(Command::new("mkfifo").arg(&record).status().unwrap().success());
    let text = place.refused(MONOLITHIC, &["--only", "1"]);
    assert!(text.contains("error[A0812]") && text.contains("a pipe"), "{text}");
    std::fs::remove_file(&record).unwrap();
    std::fs::File::create(&record).unwrap().set_len(1 << 35).unwrap();
    let text = place.refused(MONOLITHIC, &["--only", "1"]);
    assert!(text.contains("error[A0812]") && text.contains("too large"), "{text}");
}
