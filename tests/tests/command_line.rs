//! Bad input: one clear error with its code, nothing half-written, the right exit code.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{
    anemll, assert_told, convert, convert_command, files, library, model, program, run,
};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a conversion that must fail with `code`, and leave nothing behind.
fn refused(model: &Path, arguments: &[&str], code: &str) -> String {
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("new/output");
    let output = run(&mut convert_command(model, &target, arguments));
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("error[{code}]")), "expected {code}:\n{text}");
    assert_eq!(text.matches("error[").count(), 1, "one error only:\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(files(parent.path()), [], "nothing is left behind");
    assert!(!parent.path().join("new").exists(), "made folders go away");
    told(&text);
    text
}

/// Each error as a user reads it, in the order of the test that calls this.
fn told(text: &str) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    // Tests run in processes of their own, or in threads of one, where counting would mix them up.
    if std::env::var_os("NEXTEST").is_some() {
        let thread = std::thread::current();
        let test = thread.name().and_then(|name| name.rsplit("::").next()).unwrap_or("test");
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        assert_told(&format!("{test}_{number}"), text);
    }
}

/// A copy of a model that a test may spoil.
fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model(name)).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    let path = folder.path().to_owned();
    (folder, path)
}

fn edit_config(model: &Path, edit: impl FnOnce(&mut serde_json::Map<String, serde_json::Value>)) {
    let path = model.join("config.json");
    let mut config: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    edit(config.as_object_mut().unwrap());
    std::fs::write(path, config.to_string()).unwrap();
}

/// Writes the weights again with one tensor changed.
fn edit_weights(model: &Path, edit: impl Fn(&str, &mut Vec<usize>, &mut Vec<u8>)) {
    use safetensors::tensor::{SafeTensors, TensorView};
    let path = model.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<_> = read
        .iter()
        .map(|(name, view)| {
            let (mut shape, mut data) = (view.shape().to_vec(), view.data().to_vec());
            edit(name, &mut shape, &mut data);
            (name.to_owned(), view.dtype(), shape, data)
        })
        .collect();
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

#[test]
fn a_model_directory_that_does_not_exist() {
    let text = refused(Path::new("/no/such/model"), &[], "A0201");
    assert!(text.contains("Model directory does not exist"), "{text}");
}

#[test]
fn a_directory_without_a_config() {
    let folder = tempfile::tempdir().unwrap();
    let text = refused(folder.path(), &[], "A0202");
    assert!(text.contains("config.json"), "{text}");
}

#[test]
fn an_unknown_model_type_lists_the_frontends() {
    let (_folder, model) = copy("tiny-llama");
    edit_config(&model, |config| {
        config.insert("model_type".into(), "mamba".into());
        config.insert("architectures".into(), serde_json::json!(["MambaForCausalLM"]));
    });
    let text = refused(&model, &[], "A0206");
    assert!(
        text.contains("mamba") && text.contains("llama") && text.contains("--plugin"),
        "{text}"
    );
}

/// As transformers has it: `architectures` does not override `model_type`.
#[test]
fn another_model_type_is_refused_whatever_the_architectures_say() {
    let (_folder, model) = copy("tiny-llama");
    edit_config(&model, |config| {
        config.insert("model_type".into(), "mamba".into());
    });
    refused(&model, &[], "A0206");
}

#[cfg(unix)]
#[test]
fn an_argument_that_is_no_text_is_no_reason_to_panic() {
    use std::os::unix::ffi::OsStrExt as _;
    let folder = tempfile::tempdir().unwrap();
    let model_copy = folder.path().join(std::ffi::OsStr::from_bytes(b"m\xff"));
    std::fs::create_dir(&model_copy).unwrap();
    for entry in std::fs::read_dir(model("variants/tied")).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), model_copy.join(entry.file_name())).unwrap();
        }
    }
    convert(&model_copy, &folder.path().join("output"), &[]);
}

#[test]
fn a_missing_key_is_named() {
    let (_folder, model) = copy("tiny-llama");
    edit_config(&model, |config| {
        config.remove("hidden_size");
    });
    assert!(refused(&model, &[], "A0203").contains("hidden_size"));
}

#[test]
fn a_key_that_cannot_be_honoured_is_named() {
    let (_folder, model) = copy("tiny-llama");
    edit_config(&model, |config| {
        config.insert("hidden_act".into(), "mish".into());
    });
    assert!(refused(&model, &[], "A0205").contains("hidden_act"));
}

#[test]
fn a_truncated_weight_file() {
    let (_folder, model) = copy("tiny-llama");
    let path = model.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refused(&model, &[], "A0302").contains("model.safetensors"));
}

#[test]
fn a_missing_shard() {
    let (_folder, model) = copy("variants/sharded");
    let shard = std::fs::read_dir(&model)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .unwrap();
    std::fs::remove_file(&shard).unwrap();
    let name = shard.file_name().unwrap().to_str().unwrap().to_owned();
    let (parent, _) = copy("tiny-llama");
    let output = run(&mut convert_command(&model, &parent.path().join("x"), &[]));
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(text.contains("error[A03") || text.contains("error[A0201]"), "{text}");
    assert!(text.contains(&name), "{text}");
}

#[test]
fn an_index_that_leaves_the_directory() {
    let (_folder, model) = copy("variants/sharded");
    let path = model.join("model.safetensors.index.json");
    let mut index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let map = index["weight_map"].as_object_mut().unwrap();
    let name = map.keys().next().unwrap().clone();
    map.insert(name, "../secret.safetensors".into());
    std::fs::write(&path, index.to_string()).unwrap();
    assert!(refused(&model, &[], "A0303").contains("../secret.safetensors"));
}

#[test]
fn a_tensor_of_another_shape_names_the_key() {
    let (_folder, model) = copy("tiny-llama");
    edit_config(&model, |config| {
        let size = config["intermediate_size"].as_u64().unwrap();
        config.insert("intermediate_size".into(), (size + 8).into());
    });
    let text = refused(&model, &[], "A0305");
    assert!(text.contains("intermediate_size") && text.contains("mlp"), "{text}");
}

#[test]
fn a_nan_in_a_weight_is_named_with_its_position() {
    let (_folder, model) = copy("variants/tied");
    edit_weights(&model, |name, _, data| {
        if name.ends_with("layers.1.mlp.down_proj.weight") {
            data[6..8].copy_from_slice(&0x7fff_u16.to_le_bytes());
        }
    });
    let text = refused(&model, &[], "A0307");
    assert!(text.contains("layers.1.mlp.down_proj.weight") && text.contains("[0, 3]"), "{text}");
}

#[test]
fn a_finite_weight_beyond_float16_is_refused_or_clamped() {
    let (_folder, model) = copy("variants/float32-weights");
    edit_weights(&model, |name, _, data| {
        if name.ends_with("layers.0.mlp.up_proj.weight") {
            data[..4].copy_from_slice(&1e6_f32.to_le_bytes());
        }
    });
    assert!(refused(&model, &[], "A0308").contains("--clamp"));
    let output = tempfile::tempdir().unwrap();
    // Such a weight may well give infinite activations, which the test step would refuse.
    let text = stderr(&convert(&model, output.path(), &["--clamp", "--runtime", "none"]));
    assert!(text.contains("1 values") && text.contains("up_proj"), "{text}");
    let report = std::fs::read_to_string(output.path().join("anemll-report.json")).unwrap();
    assert!(report.contains("\"clamped\": 1"));
}

#[test]
fn bits_that_no_lut_has() {
    for lut in ["5", "16", "4,x", "four"] {
        let text = refused(&model("tiny-llama"), &["--lut", lut], "A0801");
        assert!(text.contains(&format!("--lut {lut}")) && text.contains("hint:"), "{text}");
    }
}

#[test]
fn quiet_says_nothing_and_json_says_all() {
    let output = tempfile::tempdir().unwrap();
    let made = convert(&model("variants/tied"), output.path(), &["--quiet"]);
    assert!(made.stdout.is_empty() && made.stderr.is_empty(), "{}", stderr(&made));
    let made = convert(&model("variants/tied"), output.path(), &["--progress", "json", "--force"]);
    assert!(made.stderr.is_empty(), "{}", stderr(&made));
    let events: Vec<serde_json::Value> = String::from_utf8(made.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let steps: Vec<u64> = events
        .iter()
        .filter(|event| event["event"] == "step")
        .map(|event| event["number"].as_u64().unwrap())
        .collect();
    assert_eq!(steps, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(events[0]["event"], "started");
    assert_eq!(events.last().unwrap()["event"], "done");
    assert!(
        events.iter().any(|event| event["event"] == "weights" && event["done"] == event["total"])
    );
}

#[test]
fn numbers_that_do_not_fit_together() {
    let tiny = model("tiny-llama");
    refused(&tiny, &["--chunk", "0"], "A0802");
    refused(&tiny, &["--chunk", "99"], "A0802");
    refused(&tiny, &["--context", "0"], "A0801");
    refused(&tiny, &["--batch", "600"], "A0801");
    refused(&tiny, &["--prefix", "../up"], "A0802");
}

#[cfg(unix)]
#[test]
fn an_output_that_cannot_be_written() {
    let text = refused_at(Path::new("/proc/anemll-output"));
    assert!(text.contains("error[A0804]"), "{text}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let text = refused_at(file.path());
    assert!(text.contains("error[A0804]"), "{text}");
}

#[cfg(unix)]
fn refused_at(target: &Path) -> String {
    let output = run(&mut convert_command(&model("tiny-llama"), target, &[]));
    assert_eq!(output.status.code(), Some(1));
    stderr(&output)
}

#[test]
fn the_conversion_of_another_model_is_not_replaced_unasked() {
    let output = tempfile::tempdir().unwrap();
    convert(&model("variants/tied"), output.path(), &[]);
    let before = files(output.path());
    let again = run(&mut convert_command(&model("variants/mqa"), output.path(), &[]));
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("error[A0805]"), "{}", stderr(&again));
    assert_eq!(files(output.path()), before);
    convert(&model("variants/mqa"), output.path(), &["--force"]);
    // The same model again needs no consent.
    convert(&model("variants/mqa"), output.path(), &[]);
}

#[test]
fn plugin_files_that_are_none() {
    let folder = tempfile::tempdir().unwrap();
    let text_file = folder.path().join("libtext.so");
    std::fs::write(&text_file, "no library").unwrap();
    let cases = [(folder.path().join("missing.so"), "A0101"), (text_file, "A0102")];
    for (path, code) in cases {
        let output =
            run(Command::new(program()).arg("--plugin").arg(&path).args(["plugin", "list"]));
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(&format!("error[{code}]")), "{text}");
        assert!(text.lines().count() <= 4, "a refusal is short:\n{text}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_plugin_for_another_processor_and_one_without_a_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(library("chunked")).unwrap();
    // e_machine of the ELF header: a processor that this machine is not.
    let other: u16 = if cfg!(target_arch = "x86_64") { 183 } else { 62 };
    bytes[18..20].copy_from_slice(&other.to_le_bytes());
    let foreign = folder.path().join("libforeign.so");
    std::fs::write(&foreign, bytes).unwrap();
    let refused = |path: &Path| {
        stderr(&run(Command::new(program()).arg("--plugin").arg(path).args(["plugin", "list"])))
    };
    assert!(refused(&foreign).contains("error[A0103]"), "{}", refused(&foreign));
    // The program itself is an ELF file, but no plugin.
    let text = refused(&program());
    assert!(text.contains("error[A0105]") || text.contains("error[A0102]"), "{text}");
}

#[test]
fn a_plugin_of_another_abi_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let mut bytes = std::fs::read(library("chunked")).unwrap();
    let places = |bytes: &[u8], text: &[u8]| -> Vec<usize> {
        let windows = bytes.windows(text.len()).enumerate();
        windows.filter_map(|(at, window)| (window == text).then_some(at)).collect()
    };
    // The manifest's header: mark, length, epoch; and the same number in its JSON.
    let json = b"\"abi\": 1";
    for at in places(&bytes, json) {
        bytes[at + json.len() - 1] = b'7';
    }
    for at in places(&bytes, b"ANEMLLPM") {
        bytes[at + 12..at + 16].copy_from_slice(&7_u32.to_le_bytes());
    }
    let future = folder.path().join("libfuture.so");
    std::fs::write(&future, bytes).unwrap();
    let output = run(Command::new(program()).arg("--plugin").arg(&future).args(["plugin", "list"]));
    let text = stderr(&output);
    assert!(text.contains("error[A0107]"), "{text}");
    assert!(text.contains('7') && text.contains('1'), "{text}");
}

/// A library whose calls panic, through the program: one error with plugin, entry and text; what is
/// long is in a file; nothing else is printed, and the exit code is that of a failure.
#[test]
fn a_panicking_plugin_is_one_error_of_the_program() {
    let (prefix, suffix) = (std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let file = format!("examples/{prefix}misbehaving{suffix}");
    let misbehaving = anemll_tests::build_folder().join(file);
    if !misbehaving.exists() {
        println!("skipped: {} is not built", misbehaving.display());
        return;
    }
    let (folder, model) = copy("variants/tied");
    edit_config(&model, |config| drop(config.insert("model_type".into(), "panic".into())));
    let target = folder.path().join("output");
    let logs = folder.path().join("logs");
    std::fs::create_dir(&logs).unwrap();
    for backtrace in ["0", "1"] {
        let mut command = anemll();
        command.arg("--plugin").arg(&misbehaving);
        command.args(["convert", "--lut", "none", "--combiner", "chunked"]);
        command.arg("--model").arg(&model).arg("--output").arg(&target);
        command.env("RUST_BACKTRACE", backtrace).env("TMPDIR", &logs).env("TEMP", &logs);
        let output = run(&mut command);
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("error[A0113]: plugin `misbehaving` panicked in `arch.accepts`"),
            "{text}"
        );
        assert!(text.contains("boom in a library") && text.contains("misbehaving.rs:"), "{text}");
        assert_eq!(text.matches("panicked in").count(), 1, "{text}");
        assert!(!text.contains("thread '"), "the hook must not print:\n{text}");
        assert!(!text.chars().any(|character| character.is_control() && character != '\n'));
        assert!(!target.exists());
        // With a call stack the text is long.
        let note = text.split("the whole text: ").nth(1);
        assert_eq!(note.is_some(), backtrace == "1", "{text}");
        if let Some(path) = note {
            let log = std::fs::read_to_string(path.trim()).unwrap();
            assert!(log.contains("call stack:") && log.lines().count() > 10, "{log}");
            assert!(text.lines().count() < 20, "{text}");
        }
    }
}

#[test]
fn usage_errors_exit_with_2() {
    for arguments in [&["convert"][..], &["--no-such-flag"], &["eval", "--path", "sideways"]] {
        let output = run(Command::new(program()).args(arguments));
        assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
        assert!(output.stdout.is_empty());
    }
    assert_eq!(run(Command::new(program()).arg("--help")).status.code(), Some(0));
}

#[test]
fn eval_refuses_what_does_not_match() {
    let output = tempfile::tempdir().unwrap();
    convert(&model("variants/tied"), output.path(), &["--context", "128"]);
    let golden = anemll_tests::golden("variants/tied");
    let eval = |meta: &Path, tokens: &Path, reference: &Path| {
        let output = run(anemll()
            .arg("eval")
            .arg("--meta")
            .arg(meta)
            .arg("--tokens")
            .arg(tokens)
            .arg("--reference")
            .arg(reference));
        assert_eq!(output.status.code(), Some(1));
        stderr(&output)
    };
    let meta = output.path().join("meta.yaml");
    let (ids, logits) = (golden.join("ids.npy"), golden.join("logits.npy"));
    assert!(eval(&output.path().join("none.yaml"), &ids, &logits).contains("error[A0901]"));
    assert!(eval(&meta, &logits, &logits).contains("error[A0707]"));
    assert!(eval(&meta, &ids, &ids).contains("error[A0707]"));
    let other = anemll_tests::golden("tiny-llama");
    assert!(eval(&meta, &ids, &other.join("logits.npy")).contains("error[A0707]"));
    // 160 tokens or more do not fit into a context of 128.
    assert!(eval(&meta, &ids, &logits).contains("--context"));
    let head = output.path().join("llama_lm_head.mlpackage/Data/com.apple.CoreML/model.mlmodel");
    std::fs::write(head, b"garbage").unwrap();
    assert!(eval(&meta, &ids, &logits).contains("error[A05"), "a damaged package is named");
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_quickly_and_leaves_nothing() {
    use std::time::{Duration, Instant};
    let parent = tempfile::tempdir().unwrap();
    let target = parent.path().join("output");
    let mut child = convert_command(&model("tiny-llama"), &target, &["--chunk", "4"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    // As soon as there is something to clean up.
    while !target.join(".anemll").exists() && started.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(1));
    }
    let interrupted = Instant::now();
    let _ = Command::new("kill").arg("-INT").arg(child.id().to_string()).status();
    let status = child.wait().unwrap();
    assert!(interrupted.elapsed() < Duration::from_secs(5), "{:?}", interrupted.elapsed());
    // A fast machine may have been done before the signal came.
    if status.code() == Some(130) {
        assert_eq!(files(parent.path()), []);
        assert!(!target.exists());
    } else {
        assert_eq!(status.code(), Some(0));
    }
}
