//! A combiner of which the host knows nothing goes through all that there is: converting, planning,
//! running, compiling, joining, exporting, restarting, comparing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{
    PLUGINS, anemll, convert, example, files, golden, json, library, model, program, refusal, run,
    succeed,
};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Batch and context of all conversions here.
const SIZES: [&str; 6] = ["--context", "512", "--batch", "32", "--lut", "none"];

/// The program with our plugins and this one.
fn with_pairs() -> Command {
    let mut command = anemll();
    command.arg("--plugin").arg(example("pairs"));
    command
}

fn convert_command(output: &Path, arguments: &[&str]) -> Command {
    let mut command = with_pairs();
    command.args(["convert", "--combiner", "pairs", "--compiler", "mlmodelc"]);
    command.arg("--model").arg(model("tiny-llama")).arg("--output").arg(output);
    command.args(SIZES).args(arguments);
    command
}

/// A conversion by pairs.
fn converted(folder: &Path) -> PathBuf {
    let output = folder.join("pairs");
    succeed(&mut convert_command(&output, &[]));
    output
}

fn generated(conversion: &Path) -> Value {
    let mut command = anemll();
    command.arg("generate").arg(conversion).args(["--json", "-p", "Once", "--max-tokens", "8"]);
    json(&mut command)["text"].clone()
}

/// Operations and weights are equal, whatever the packages say of themselves.
#[track_caller]
fn assert_same_programs(one: &Path, other: &Path, functions: &[&str]) {
    let text = String::from_utf8(run(anemll().arg("diff").arg(one).arg(other)).stdout).unwrap();
    let equal: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("function ")?.strip_suffix("operations, all equal"))
        .filter_map(|line| line.split(':').next())
        .collect();
    assert_eq!(equal.len(), functions.len(), "{text}");
    assert!(functions.iter().all(|function| equal.contains(function)), "{text}");
    assert!(text.contains(" 0 different, 0 only in A, 0 only in B"), "{text}");
}

#[test]
fn it_runs_as_the_model_does_in_chunks() {
    let folder = tempfile::tempdir().unwrap();
    let output = converted(folder.path());
    let chunked = folder.path().join("chunked");
    convert(&model("tiny-llama"), &chunked, &SIZES);
    let evaluated = |conversion: &Path, path: &[&str]| {
        let golden = golden("tiny-llama");
        let mut command = anemll();
        command.args(["eval", "--json"]).arg(conversion).args(path);
        command.arg("--tokens").arg(golden.join("ids.npy"));
        command.arg("--reference").arg(golden.join("logits.npy"));
        json(&mut command)
    };
    let prefill = ["--path", "prefill", "--prefill-tokens", "40"];
    for path in [&["--path", "infer"][..], &prefill, &["--path", "evaluate"]] {
        let result = evaluated(&output, path);
        assert!(result["cosine_min"].as_f64().unwrap() > 0.999, "{path:?} {result}");
        assert_eq!(result, evaluated(&chunked, path), "{path:?}");
    }
    let text = generated(&output);
    assert!(!text.as_str().unwrap().is_empty());
    assert_eq!(text, generated(&chunked));
    let mut chat = anemll();
    chat.arg("chat").arg(&output).args(["--prompt", "Once", "--no-template", "--max-tokens", "4"]);
    assert!(!succeed(&mut chat).stdout.is_empty());
}

#[test]
fn it_is_planned() {
    let folder = tempfile::tempdir().unwrap();
    let plan = json(convert_command(folder.path(), &["--dry-run", "--json"]).arg("--force"));
    let steps: Vec<&str> =
        plan["steps"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect();
    assert_eq!(
        steps,
        ["1 ends", "2 pairs", "3 join", "4 compile", "5 tokenizer and meta.yaml", "6 test"]
    );
    let ships: Vec<&str> = plan["packages"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|package| package["ships"] == true)
        .map(|package| package["path"].as_str().unwrap())
        .collect();
    let stems = ["start", "end", "pair0", "pair1"];
    assert_eq!(ships, stems.map(|name| format!("llama.{name}.mlpackage")));
    let plan = json(with_pairs().args(["plan", "--json"]).arg(model("tiny-llama")));
    let column = &plan["options"][0];
    let ids: Vec<&str> = column["combiners"]
        .as_array()
        .unwrap()
        .iter()
        .map(|combiner| combiner["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["monolithic", "chunked", "pairs"]);
    let largest = |combiner: usize, chunks: usize| {
        column["combiners"][combiner]["largest_files"][chunks - 1].as_u64().unwrap()
    };
    assert_eq!(largest(2, 1), largest(1, 2), "two of four layers");
}

/// It is one among those that `--combiner auto` tries; where it is alone, it is taken.
#[test]
fn it_takes_part_where_none_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let command = |others: bool| {
        let mut command = Command::new(program());
        for plugin in &*PLUGINS {
            if others || !["chunked", "monolithic"].contains(plugin) {
                command.arg("--plugin").arg(library(plugin));
            }
        }
        command.arg("--plugin").arg(example("pairs")).args(["convert", "--dry-run", "--json"]);
        command.arg("--model").arg(model("tiny-llama")).arg("--output").arg(folder.path());
        command
    };
    assert_eq!(json(&mut command(false))["combiner"], "pairs");
    assert_eq!(json(&mut command(true))["combiner"], "monolithic");
    let told = refusal(command(false).args(["--chunk", "2"]));
    assert!(told.contains("no combiner cuts the layers"), "{told}");
    let told = refusal(&mut convert_command(folder.path(), &["--chunk", "2"]));
    assert!(told.contains("option `chunks`, and `pairs` has none"), "{told}");
    let told = refusal(&mut convert_command(folder.path(), &["--argmax"]));
    assert!(told.contains("option `argmax`, and `pairs` has none"), "{told}");
    let told = refusal(&mut convert_command(folder.path(), &["-O", "pairs.size=3"]));
    assert!(told.contains("has no option \"size\""), "{told}");
}

#[test]
fn its_packages_are_compiled_and_joined_anew() {
    let folder = tempfile::tempdir().unwrap();
    let output = converted(folder.path());
    let stems = ["start", "end", "pair0", "pair1"].map(|name| format!("llama.{name}"));
    let compiled = folder.path().join("compiled");
    let mut compile = anemll();
    compile.args(["compile", "--compiler", "mlmodelc"]).arg(&output);
    succeed(compile.arg("--output-dir").arg(&compiled));
    for stem in &stems {
        let name = format!("{stem}.mlmodelc");
        assert!(files(&compiled.join(&name)) == files(&output.join(&name)), "{name}");
    }
    assert_eq!(std::fs::read_dir(&compiled).unwrap().count(), stems.len());

    let joined = folder.path().join("joined");
    succeed(anemll().arg("combine").arg(&output).arg("--output").arg(&joined));
    assert_eq!(std::fs::read_dir(&joined).unwrap().count(), 2);
    for stem in &stems[2..] {
        let name = format!("{stem}.mlpackage");
        assert_same_programs(&output.join(&name), &joined.join(&name), &["fill", "step"]);
    }
    let mut split = anemll();
    split.arg("split").arg(joined.join("llama.pair0.mlpackage"));
    let alone = folder.path().join("alone.mlpackage");
    succeed(split.args(["--function", "fill", "--output"]).arg(&alone));
    assert_same_programs(&output.join("llama.pair0-fill.mlpackage"), &alone, &["main"]);
    succeed(anemll().args(["inspect", "--lint"]).arg(&output));
}

#[test]
fn its_export_runs_from_what_apps_load() {
    let folder = tempfile::tempdir().unwrap();
    let output = converted(folder.path());
    let export = folder.path().join("export");
    succeed(anemll().arg("export").arg(&output).arg("--to").arg(&export));
    succeed(anemll().arg("verify").arg(&export));
    assert_eq!(generated(&export.join("ios")), generated(&output));
    let description = std::fs::read(export.join("ios/anemll-run.json")).unwrap();
    let description: Value = serde_json::from_slice(&description).unwrap();
    assert_eq!(description["evaluate"], Value::Array(Vec::new()));
    assert_eq!(description["packages"].as_array().unwrap().len(), 4);
}

#[test]
fn its_steps_are_restarted_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let output = converted(folder.path());
    let contents = || -> Vec<_> {
        let own = |name: &Path| name.starts_with(".anemll/conversion.json");
        files(&output).into_iter().filter(|(name, _)| !own(name)).collect()
    };
    let before = contents();
    succeed(&mut convert_command(&output, &["--restart", "2"]));
    assert!(contents() == before, "a restart changes nothing");
    let told = refusal(&mut convert_command(&output, &["--only", "7"]));
    assert!(told.contains("the combiner `pairs` has the steps 1 to 6"), "{told}");
    let twice = succeed(&mut convert_command(&output, &[]));
    let twice = String::from_utf8(twice.stderr).unwrap();
    assert!(twice.contains("step 3: join: is finished"), "{twice}");
}
