//! `check`, `plan`, `doctor`, `completions`, `man`, and what `chat` can write down.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, convert, model, run, succeed};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Output;

/// A folder with nothing but a config.json: that of tiny-llama, changed.
fn config(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read_to_string(model("tiny-llama").join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&text).unwrap();
    change(&mut config);
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    folder
}

fn check(model: &Path, arguments: &[&str]) -> Output {
    run(anemll().arg("check").arg("--model").arg(model).args(arguments))
}

fn plan(model: &Path, arguments: &[&str]) -> Output {
    run(anemll().arg("plan").arg("--model").arg(model).args(arguments))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn check_needs_the_configuration_alone() {
    let folder = config(|_| {});
    for path in [folder.path().to_owned(), folder.path().join("config.json")] {
        let output = check(&path, &[]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        for expected in ["llama: accepts", "LlamaForCausalLM", "none here", "it can be converted"] {
            assert!(said.contains(expected), "{expected}:\n{said}");
        }
    }
    let output = check(&model("tiny-llama"), &["--json", "--context", "256"]);
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checked["convertible"], true);
    assert_eq!(checked["arch"], "llama");
    assert_eq!(checked["description"]["context"], 256);
    assert!(checked["weights"].as_str().unwrap().contains("tensors"));
}

#[test]
fn check_names_every_key_that_would_be_refused() {
    let folder = config(|config| {
        config["hidden_act"] = json!("mish");
        config["num_experts"] = json!(8);
        config["sliding_window"] = json!(0);
    });
    let output = check(folder.path(), &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checked["convertible"], false);
    let frontends = checked["frontends"].as_array().unwrap();
    let llama = frontends.iter().find(|frontend| frontend["id"] == "llama").unwrap();
    assert_eq!(llama["verdict"], "refuses");
    let said = llama["refusals"].to_string();
    assert!(said.contains("hidden_act") && said.contains("num_experts"), "{said}");
    assert!(said.contains("sliding_window"), "{said}");
    assert!(text(&output.stderr).contains("error[A0204]"), "{}", text(&output.stderr));
}

#[test]
fn check_says_what_is_wrong_with_models() {
    let unknown = config(|config| config["model_type"] = json!("mamba"));
    let output = check(unknown.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("Unknown architecture"), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("it cannot be converted"));

    let broken = config(|_| {});
    std::fs::write(broken.path().join("model.safetensors"), "no").unwrap();
    let output = check(broken.path(), &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("model.safetensors"), "{}", text(&output.stderr));

    let missing = Path::new("/does/not/exist");
    for output in [check(missing, &[]), plan(missing, &[])] {
        let said = text(&output.stderr);
        assert!(said.contains("Model directory does not exist"), "{said}");
        assert!(said.contains("hint: check the --model path"), "{said}");
    }
    let offline = run(anemll()
        .args(["check", "--model", "organization/name"])
        .env("HF_HUB_OFFLINE", "1")
        .env("HF_HUB_CACHE", broken.path()));
    assert_eq!(offline.status.code(), Some(1));
    assert!(text(&offline.stderr).contains("error[A0209]"), "{}", text(&offline.stderr));
}

#[test]
fn names_of_the_hub_are_found_in_the_cache() {
    let cache = tempfile::tempdir().unwrap();
    let folder = cache.path().join("models--org--tiny");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let snapshot = folder.join("snapshots").join(commit);
    std::fs::create_dir_all(&snapshot).unwrap();
    std::fs::create_dir_all(folder.join("refs")).unwrap();
    std::fs::write(folder.join("refs/main"), commit).unwrap();
    for file in std::fs::read_dir(model("tiny-llama")).unwrap().flatten() {
        if file.path().is_file() {
            std::fs::copy(file.path(), snapshot.join(file.file_name())).unwrap();
        }
    }
    let output = tempfile::tempdir().unwrap();
    let mut command = anemll();
    command
        .args(["convert", "--model", "org/tiny", "--combiner", "monolithic", "--lut", "none"])
        .args(["--runtime", "none"])
        .arg("--output")
        .arg(output.path())
        .env("HF_HUB_CACHE", cache.path())
        .env("HF_HUB_OFFLINE", "1");
    succeed(&mut command);
    let meta = std::fs::read_to_string(output.path().join("meta.yaml")).unwrap();
    assert!(meta.contains("name: anemll-tiny-ctx512"), "{meta}");
}

#[test]
fn plan_recommends_chunks() {
    let folder = config(|_| {});
    let output = plan(folder.path(), &[]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let said = text(&output.stdout);
    for expected in ["embeddings", "lm_head", "monolithic", "LUT4", "recommended --chunk"] {
        assert!(said.contains(expected), "{expected}:\n{said}");
    }
    let output = plan(folder.path(), &["--json", "--lut1", "8", "--lut2", "4,16", "--lut3", "6"]);
    let planned: Value = serde_json::from_slice(&output.stdout).unwrap();
    let options = planned["options"].as_array().unwrap();
    let names: Vec<&str> = options.iter().map(|option| option["name"].as_str().unwrap()).collect();
    let asked = "--lut1 8 --lut2 4,16 --lut3 6";
    assert_eq!(names, ["float16", "LUT8", "LUT6", "LUT4", asked]);
    let layers = |option: &Value| option["layers"][0].as_u64().unwrap();
    assert!(options.windows(2).all(|pair| layers(&pair[0]) > layers(&pair[1])), "{options:?}");
}

#[test]
fn plan_prints_a_number_for_scripts() {
    // Wide layers: about 12 MB each as float16.
    let folder = config(|config| {
        config["hidden_size"] = json!(1024);
        config["intermediate_size"] = json!(1024);
        config["num_hidden_layers"] = json!(8);
    });
    let chunks = |arguments: &[&str]| {
        let output = plan(folder.path(), &[&["--auto"], arguments].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout).trim().parse::<u32>().unwrap()
    };
    assert_eq!(chunks(&[]), 1);
    let small = chunks(&["--max-chunk-mb", "20", "--lut", "none"]);
    assert!(small > 2, "{small}");
    let palettized = chunks(&["--max-chunk-mb", "20", "--lut", "4"]);
    assert!(palettized < small, "{palettized}");
    assert!(chunks(&["--max-chunk-mb", "20", "--lut", "none", "--overhead", "1.9"]) > small);
    let output = plan(folder.path(), &["--auto", "--max-chunk-mb", "1"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("--max-chunk-mb"), "{}", text(&output.stderr));
    for bad in [["--max-chunk-mb", "0"], ["--overhead", "0.5"], ["--overhead", "nan"]] {
        assert_eq!(plan(folder.path(), &bad).status.code(), Some(2), "{bad:?}");
    }
    assert_eq!(plan(folder.path(), &["--lut", "5"]).status.code(), Some(1));
}

#[test]
fn doctor_says_what_there_is_and_no_token() {
    let mut command = anemll();
    command.arg("doctor").env("HF_TOKEN", "hf_secret");
    let said = text(&succeed(&mut command).stdout);
    for expected in ["system", "processor", "disk", "arch llama", "runtime", "hub cache"] {
        assert!(said.contains(expected), "{expected}:\n{said}");
    }
    assert!(!said.contains("hf_secret"));
    let mut command = anemll();
    command.args(["doctor", "--json"]);
    let lines: Value = serde_json::from_slice(&succeed(&mut command).stdout).unwrap();
    let lines = lines.as_array().unwrap();
    assert!(lines.iter().all(|line| line["status"].is_string() && line["topic"].is_string()));
}

#[test]
fn completions_and_manual_pages() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = text(&succeed(anemll().args(["completions", shell])).stdout);
        assert!(script.contains("convert") && script.contains("max-chunk-mb"), "{shell}");
    }
    assert_eq!(run(anemll().args(["completions", "cmd"])).status.code(), Some(2));
    let page = text(&succeed(anemll().arg("man")).stdout);
    assert!(page.contains(".TH anemll 1"), "{page}");
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man");
    succeed(anemll().arg("man").arg("--output").arg(&pages));
    for name in ["anemll.1", "anemll-convert.1", "anemll-plugin-list.1"] {
        assert!(pages.join(name).is_file(), "{name}");
    }
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = run(anemll().arg("man").arg("--output").arg(&file));
    assert!(text(&refused.stderr).contains("error[A0804]"), "{}", text(&refused.stderr));
}

#[test]
fn chat_saves_the_conversation_and_takes_another_tokenizer() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    convert(&model("tiny-llama"), &out, &["--combiner", "monolithic", "--lut", "none"]);
    let saved = folder.path().join("talk.json");
    let chat = |arguments: &[&str]| {
        let mut command = anemll();
        command.arg("chat").arg("--meta").arg(out.join("meta.yaml"));
        run(command
            .args(["--prompt", "Who are you? Who am I?", "--max-tokens", "4"])
            .args(arguments))
    };
    let first = chat(&["--system", "Be brief.", "--save", saved.to_str().unwrap()]);
    assert!(first.status.success(), "{}", text(&first.stderr));
    let messages: Value = serde_json::from_slice(&std::fs::read(&saved).unwrap()).unwrap();
    assert_eq!(messages[0], json!({"role": "system", "content": "Be brief."}));
    assert_eq!(messages[1]["content"], "Who are you? Who am I?");
    let answer = messages[2]["content"].as_str().unwrap();
    assert_eq!(text(&first.stdout).trim_end_matches('\n'), answer.trim_end_matches('\n'));
    let again = chat(&["--save", saved.to_str().unwrap()]);
    assert!(text(&again.stderr).contains("error[A0805]"), "{}", text(&again.stderr));

    // The same answer, whichever way the prompt goes in.
    let batches = chat(&[]);
    assert_eq!(chat(&["--st"]).stdout, batches.stdout);
    std::fs::rename(out.join("tokenizer.json"), folder.path().join("hidden.json")).unwrap();
    assert!(!chat(&[]).status.success());
    let elsewhere = chat(&["--tokenizer", model("tiny-llama").to_str().unwrap()]);
    assert_eq!(elsewhere.stdout, batches.stdout, "{}", text(&elsewhere.stderr));
}

/// Bytes of the one weight file of the monolithic layout, as `plan` tells them.
fn whole_file(planned: &Value) -> u64 {
    let mut combiners = planned["combiners"].as_array().unwrap().iter();
    let whole = combiners.find(|combiner| combiner["id"] == "monolithic").unwrap();
    whole["largest_files"][0].as_u64().unwrap()
}

#[test]
fn default_bits_are_the_same_in_plan_and_in_both_kinds_of_run() {
    let tiny = model("tiny-llama");
    let output = plan(&tiny, &["--json"]);
    let planned: Value = serde_json::from_slice(&output.stdout).unwrap();
    let planned = planned["options"].as_array().unwrap().last().unwrap();
    assert_eq!(planned["name"], "by default");
    for (combiner, scripts) in [("monolithic", "--lut 4"), ("chunked", "--lut2 4 --lut3 6")] {
        let folder = tempfile::tempdir().unwrap();
        let convert = |more: &[&str]| {
            let mut command = anemll();
            command.current_dir(&folder).arg("convert").arg(&tiny).args(["-o", "out"]);
            // What is measured is no longer the same everywhere.
            command.args(["--combiner", combiner, "--calibration", "none"]);
            succeed(command.args(more))
        };
        let dry = convert(&["--dry-run", "--json"]);
        let dry: Value = serde_json::from_slice(&dry.stdout).unwrap();
        let told = text(&convert(&[]).stderr);
        let note = format!(
            "note: weights: the fewest bits that keep the model close to the original (ANEMLL's bits: \
             {scripts}; 16-bit floats: --lut none)"
        );
        assert!(told.lines().any(|line| line == note), "{told}");
        let report = std::fs::read(folder.path().join("out/anemll-report.json")).unwrap();
        let report: Value = serde_json::from_slice(&report).unwrap();
        let bits = json!({"embeddings": "auto", "layers": "auto", "head": "auto"});
        assert_eq!(report["options"]["lut"], bits);
        let mut sum = 0;
        for file in report["weight_files"].as_array().unwrap() {
            assert_eq!(dry["weight_files"][file["id"].as_str().unwrap()], file["bytes"]);
            sum += file["bytes"].as_u64().unwrap();
        }
        let whole = whole_file(planned);
        if combiner == "monolithic" {
            assert!(whole.abs_diff(sum) < sum / 100, "{whole} and {sum}");
        }
    }
}

#[test]
fn compiling_can_be_left_out_and_made_up_for() {
    let folder = tempfile::tempdir().unwrap();
    let convert = |more: &[&str]| {
        let mut command = anemll();
        command.current_dir(&folder).arg("convert").arg(model("tiny-llama"));
        command.args(["-o", "out", "--combiner", "monolithic", "--lut", "none"]);
        text(&succeed(command.args(more)).stderr)
    };
    let compiled = folder.path().join("out/llama_monolithic_combined.mlmodelc");
    let told = convert(&["--compiler", "none"]);
    assert!(told.contains("step 4: compile: left out (--compiler none)"), "{told}");
    assert!(told.contains("apps load    llama_monolithic_combined.mlpackage"), "{told}");
    assert!(!compiled.exists());
    let told = convert(&[]);
    assert!(told.contains("step 4: compile: 1 package by mlmodelc"), "{told}");
    assert!(compiled.is_dir());
    let told = convert(&["--compiler", "none"]);
    assert!(told.contains("step 4: compile: is finished"), "{told}");
    assert!(told.contains("talk to it   anemll chat out"), "{told}");
    assert!(compiled.is_dir());
}

#[test]
fn what_is_said_for_scripts_is_json() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    convert(&model("tiny-llama"), &out, &["--combiner", "monolithic", "--lut", "none"]);
    let meta = out.join("meta.yaml");
    for command in ["generate", "chat"] {
        let json = |json: bool| {
            let mut line = anemll();
            line.arg(command).arg("-m").arg(&meta).args([
                "-p",
                "Who are you?",
                "--max-tokens",
                "5",
            ]);
            let output = succeed(if json { line.arg("--json") } else { &mut line });
            text(&output.stdout)
        };
        let found: Value = serde_json::from_str(&json(true)).unwrap();
        assert_eq!(found["prompt"], "Who are you?");
        assert_eq!(found["tokens"], 5);
        assert_eq!(found["end"], "max_tokens");
        let key = if command == "chat" { "answer" } else { "text" };
        let said = json(false);
        let said = said.trim_end_matches('\n');
        assert!(said.ends_with(found[key].as_str().unwrap().trim_end_matches('\n')), "{said}");
    }
}
