//! A quantizer of which the host knows nothing goes through all that there is: converting, planning,
//! running, measuring, compiling, restarting, comparing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, example, files, golden, json, model, refusal, run, succeed};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program with our plugins and this one.
fn with_uniform() -> Command {
    let mut command = anemll();
    command.arg("--plugin").arg(example("uniform"));
    command
}

/// Converts in chunks; later arguments may say more of the quantizer.
fn convert_command(output: &Path, arguments: &[&str]) -> Command {
    let mut command = with_uniform();
    command.args(["convert", "--quantizer", "uniform", "--compiler", "mlmodelc"]);
    command.args(["--combiner", "chunked"]);
    command.arg("--model").arg(model("tiny-llama")).arg("--output").arg(output).args(arguments);
    command
}

fn converted(folder: &Path, arguments: &[&str]) -> PathBuf {
    let output = folder.join("out");
    succeed(&mut convert_command(&output, arguments));
    output
}

fn cosine(conversion: &Path) -> f64 {
    let golden = golden("tiny-llama");
    let mut command = anemll();
    command.args(["eval", "--json"]).arg(conversion);
    command.arg("--tokens").arg(golden.join("ids.npy"));
    command.arg("--reference").arg(golden.join("logits.npy"));
    json(&mut command)["cosine_min"].as_f64().unwrap()
}

#[test]
fn it_runs_and_more_levels_are_nearer_to_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let output = converted(folder.path(), &[]);
    let names: Vec<String> = std::fs::read_dir(&output)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    // Its labels are in names and metadata.
    assert!(names.contains(&"llama_FFN_PF_lut4_chunk_01of02.mlmodelc".to_owned()), "{names:?}");
    let meta = std::fs::read_to_string(output.join("meta.yaml")).unwrap();
    assert!(meta.lines().any(|line| line.trim() == "lut_lmhead: 4"), "{meta}");

    let mut generate = anemll();
    generate.arg("generate").arg(&output).args(["--json", "-p", "Once", "--max-tokens", "8"]);
    assert!(!json(&mut generate)["text"].as_str().unwrap().is_empty());
    let mut chat = anemll();
    chat.arg("chat").arg(&output).args(["--prompt", "Once", "--no-template", "--max-tokens", "4"]);
    assert!(!succeed(&mut chat).stdout.is_empty());

    let finer = folder.path().join("finer");
    succeed(&mut convert_command(&finer, &["-O", "levels=256", "--option", "uniform.rows=1"]));
    let (coarse, fine) = (cosine(&output), cosine(&finer));
    assert!(fine > 0.999 && coarse < fine && coarse > 0.8, "{coarse} {fine}");
}

#[test]
fn its_sizes_are_known_before_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&[][..], &["-O", "levels=4", "-O", "rows=1"]] {
        let folder = tempfile::tempdir_in(folder.path()).unwrap();
        let mut dry = convert_command(&folder.path().join("out"), arguments);
        let told = json(dry.args(["--dry-run", "--json"]));
        let output = converted(folder.path(), arguments);
        let report = std::fs::read(output.join("anemll-report.json")).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        for file in report["weight_files"].as_array().unwrap() {
            let (id, bytes) = (file["id"].as_str().unwrap(), file["bytes"].as_u64().unwrap());
            // Equal records are stored once.
            let deduplicated = file["deduplicated_bytes"].as_u64().unwrap();
            let told = told["weight_files"][id].as_u64().unwrap();
            assert!(
                (bytes..bytes + deduplicated.max(1) + 64).contains(&told),
                "{id} {told} {file}"
            );
            for weight in file["weights"].as_array().unwrap() {
                let matrix = weight["shape"].as_array().unwrap().len() > 1;
                let expected = if matrix { "constexpr_lut_to_dense" } else { "const" };
                assert_eq!(weight["operation"], expected, "{weight}");
            }
        }
    }
    let mut plan = with_uniform();
    plan.args(["plan", "--json", "--quantizer", "uniform", "-O", "levels=4"]);
    let plan = json(plan.arg(model("tiny-llama")));
    let columns = plan["options"].as_array().unwrap();
    let names: Vec<&str> = columns.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["float16", "--quantizer uniform -O levels=4"]);
    let layer = |column: usize| columns[column]["layers"][0].as_u64().unwrap();
    assert!(layer(1) * 4 < layer(0), "2 bits and tables are less than a quarter of 16");
}

#[test]
fn its_packages_are_compiled_compared_and_restarted() {
    let folder = tempfile::tempdir().unwrap();
    let output = converted(folder.path(), &[]);
    let compiled = folder.path().join("compiled");
    let mut compile = anemll();
    compile.args(["compile", "--compiler", "mlmodelc"]).arg(&output);
    succeed(compile.arg("--output-dir").arg(&compiled));
    let name = "llama_lm_head_lut4.mlmodelc";
    assert!(files(&compiled.join(name)) == files(&output.join(name)));

    let finer = folder.path().join("finer");
    succeed(&mut convert_command(&finer, &["-O", "levels=256"]));
    let package =
        |folder: &Path, bits: u32| folder.join(format!("llama_lm_head_lut{bits}.mlpackage"));
    let mut diff = anemll();
    diff.args(["diff", "--json"]).args([package(&output, 4), package(&finer, 8)]);
    let told = run(&mut diff);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap();
    let weight = &told["weights"]["different"][0];
    for (form, bits) in [("first_form", "4-bit"), ("second_form", "8-bit")] {
        assert!(weight[form].as_str().unwrap().starts_with(bits), "{told}");
    }
    assert!(weight["error"]["cosine"].as_f64().unwrap() > 0.9, "{told}");

    let contents = || -> Vec<_> {
        let own = |name: &Path| name.starts_with(".anemll/conversion.json");
        files(&output).into_iter().filter(|(name, _)| !own(name)).collect()
    };
    let before = contents();
    succeed(&mut convert_command(&output, &["--restart", "2"]));
    assert!(contents() == before, "a restart changes nothing");
    let twice = succeed(&mut convert_command(&output, &[]));
    let twice = String::from_utf8(twice.stderr).unwrap();
    assert!(twice.contains("is finished"), "{twice}");
    // Other options are another conversion.
    let other = refusal(&mut convert_command(&output, &["-O", "levels=256"]));
    assert!(other.contains("--force"), "{other}");
}

#[test]
fn its_options_are_listed_and_checked() {
    let listed = succeed(with_uniform().args(["plugin", "list", "--options"])).stdout;
    let listed = String::from_utf8(listed).unwrap();
    for line in ["-O levels= ", "4|16|256 (default 16)", "-O cpu.activations= "] {
        assert!(listed.contains(line), "{line}: {listed}");
    }
    let folder = tempfile::tempdir().unwrap();
    let dry = |arguments: &[&str]| {
        let mut command = convert_command(folder.path(), arguments);
        command.arg("--dry-run");
        command
    };
    for (arguments, reason) in [
        (&["--lut2", "4"][..], "`layers`"),
        (&["-O", "levels=5"], "levels"),
        (&["-O", "level=4"], "no option \"level\""),
        (&["-O", "rows=many"], "rows"),
        (&["-O", "lut.layers=4"], "no component `lut`"),
        (&["-O", "cpu.activations=float64"], "activations"),
        (&["-O", "levels"], "NAME=VALUE"),
    ] {
        let told = refusal(&mut dry(arguments));
        assert!(told.contains(reason), "{arguments:?}: {told}");
    }
    // Options of other components reach them, each by its own way.
    let planned =
        json(dry(&["-O", "chunked.chunks=4", "-O", "cpu.activations=float32"]).arg("--json"));
    let files = planned["weight_files"].as_object().unwrap();
    assert!(files.contains_key("chunk_04"), "{planned}");
}
