//! `calibrate`: its statistics are those that `transformers` has, and what cannot be used is one error.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_calibration::{Counting, Judge, Kind, Statistics};
use anemll_codes as codes;
use anemll_pipeline::calibrate::{CalibrateRequest, calibrate};
use anemll_pipeline::event::Event;
use anemll_pipeline::original::{Original, OriginalRequest};
use anemll_pipeline::plugins::Plugins;
use anemll_shipped as _;
use anemll_tests::{anemll, convert_command, model, refusal, run, succeed, workspace};
use safetensors::SafeTensors;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn text() -> PathBuf {
    workspace().join("tests/reference/calibration/text.txt")
}

fn command(model: &Path, output: &Path, arguments: &[&str]) -> Command {
    let mut command = anemll();
    command.arg("calibrate").arg(model).arg("-o").arg(output).args(arguments);
    command
}

fn stderr(command: &mut Command) -> String {
    String::from_utf8_lossy(&succeed(command).stderr).into_owned()
}

/// The error of a command: there is one, with this code.
fn refused(command: &mut Command, code: &str) -> String {
    let text = refusal(command);
    assert!(text.contains(&format!("error[{code}]")), "expected {code}:\n{text}");
    assert_eq!(text.matches("error[").count(), 1, "one error only:\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    text
}

/// Tensors of a safetensors file, and its metadata.
fn tensors(path: &Path) -> (BTreeMap<String, Vec<f32>>, BTreeMap<String, String>) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let floats = file.tensors().into_iter().map(|(name, tensor)| {
        let words = tensor.data().as_chunks::<4>().0;
        (name, words.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
    });
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().clone().unwrap_or_default();
    (floats.collect(), metadata.into_iter().collect())
}

/// A copy of a model's directory.
fn copy_of(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model(name)).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_file() {
            std::fs::copy(entry.path(), folder.path().join(entry.file_name())).unwrap();
        }
    }
    folder
}

#[test]
fn statistics_are_those_of_transformers() {
    let folder = tempfile::tempdir().unwrap();
    for (name, hessian) in [("tiny-llama", false), ("tiny-qwen3", false), ("tiny-llama", true)] {
        let path = folder.path().join(format!("{name}.safetensors"));
        let golden = format!("tests/reference/calibration/{name}.safetensors");
        let (golden, said) = tensors(&workspace().join(golden));
        let flags: &[&str] = if hessian { &["--hessian"] } else { &[] };
        let line = ["--context", "96", "--text"];
        succeed(command(&model(name), &path, &line).arg(text()).args(flags));

        let found = Statistics::open(&path).unwrap();
        let provenance = found.provenance().unwrap();
        assert_eq!(provenance.tokens.to_string(), said["tokens"]);
        let weights: BTreeSet<&str> = found.weights().collect();
        let squares: BTreeMap<&str, &Vec<f32>> = golden
            .iter()
            .filter(|(name, _)| !name.starts_with("products."))
            .map(|(name, values)| (name.as_str(), values))
            .collect();
        assert_eq!(weights, squares.keys().copied().collect(), "every matrix, under its name");
        let floats = |bytes: &[u8]| -> Vec<f32> {
            bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        };
        for (name, expected) in &squares {
            let tensor = found.squares(name, name).unwrap().unwrap();
            assert_eq!(tensor.shape, [expected.len() as u64], "{name}");
            // Weights are rounded to 16 bits, and sums are of other orders.
            for (at, (found, expected)) in floats(&tensor.bytes).iter().zip(*expected).enumerate() {
                let off = (found - expected).abs() / expected;
                assert!(off < 1e-2, "{name} {at}: {found} is not {expected}");
            }
        }
        for (name, expected) in golden.iter().filter(|_| hessian) {
            let Some(name) = name.strip_prefix("products.") else { continue };
            let tensor = found.tensor(name, name).unwrap().unwrap();
            let inputs = squares[name].len();
            assert_eq!(tensor.shape, [inputs as u64; 2], "{name}");
            let root = |at: usize| squares[name][at].sqrt();
            for (at, (found, expected)) in floats(&tensor.bytes).iter().zip(expected).enumerate() {
                let off = (found - expected).abs() / (root(at / inputs) * root(at % inputs));
                assert!(off < 1e-2, "{name} {at}: {found} is not {expected}");
            }
        }
        assert!(Judge::read(&found).unwrap().unwrap().tokens() > 100, "conversions can be judged");
    }
}

/// Inputs that are shared are stored once, and the file is there for whoever may read others.
#[test]
fn weights_with_one_input_share_its_statistics() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.safetensors");
    succeed(&mut command(&model("tiny-llama"), &path, &["--context", "64", "--tokens", "64"]));
    let (tensors, metadata) = tensors(&path);
    assert_eq!(metadata.len(), 1, "several entries would be in any order");
    let said: serde_json::Value = serde_json::from_str(&metadata["anemll.statistics"]).unwrap();
    let own = |name: &str| format!("model.layers.0.self_attn.{name}_proj.weight");
    let first = own("k");
    assert!(tensors.contains_key(&first));
    assert_eq!(said["same"][own("v")], first.as_str());
    // Queries have the same input, whose tokens count otherwise.
    assert!(tensors.contains_key(&own("q")) && tensors[&own("q")] != tensors[&first]);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let other = folder.path().join("other");
        std::fs::write(&other, "").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode();
        assert_eq!(mode(&path), mode(&other));
    }
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().collect();
    assert!(left.iter().all(|entry| !entry.file_name().to_string_lossy().starts_with('.')));
}

fn request(output: PathBuf, kind: Kind) -> CalibrateRequest {
    CalibrateRequest {
        original: OriginalRequest {
            model: model("tiny-llama"),
            context: 64,
            arch: None,
            head: None,
            options: Vec::new(),
            source_sha256: None,
            runtime: "cpu".to_owned(),
            scratch: None,
        },
        texts: Vec::new(),
        chat: false,
        built_in: false,
        tokens: 400,
        kind,
        counting: Counting::ByEffect,
        own_answers: 0,
        memory: None,
        squares_where_products_are_too_large: false,
        checkpoint: Duration::ZERO,
        output,
    }
}

#[test]
fn a_calibration_that_was_stopped_goes_on_and_comes_to_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = Plugins::discover(&[]).unwrap();
    let host = anemll_services::host();
    for kind in [Kind::Squares, Kind::Products] {
        let place = |name: &str| folder.path().join(format!("{kind:?}-{name}.safetensors"));
        let whole = request(place("whole"), kind);
        calibrate(&whole, &plugins, &host, &|_| {}).unwrap();
        let parts = request(place("parts"), kind);
        let stopped = catch_unwind(AssertUnwindSafe(|| {
            calibrate(&parts, &plugins, &host, &|event| {
                if let Event::Measure { what: "calibrating", done, .. } = event {
                    assert!(*done < 250, "this test stops it here");
                }
            })
        }));
        assert!(stopped.is_err() && !parts.output.exists());
        let kept = parts.output.with_extension("safetensors.partial");
        assert!(kept.exists(), "three windows are done");
        let first = Cell::new(None);
        calibrate(&parts, &plugins, &host, &|event| {
            if let Event::Measure { what: "calibrating", done, .. } = event {
                first.set(first.get().or(Some(*done)));
            }
        })
        .unwrap();
        assert!(first.get().unwrap() > 192, "it begins behind what was done: {first:?}");
        assert!(!kept.exists());
        let bytes = [&whole, &parts].map(|request| std::fs::read(&request.output).unwrap());
        assert!(bytes[0] == bytes[1], "{kind:?}");
    }
}

/// Products that memory cannot hold at once are added up in several runs of the text, which a run that
/// was stopped goes on with.
#[test]
fn products_that_do_not_fit_are_the_same_in_several_passes() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = Plugins::discover(&[]).unwrap();
    let host = anemll_services::host();
    let place = |name: &str| folder.path().join(name);
    let whole = request(place("whole.safetensors"), Kind::Products);
    let tokens = calibrate(&whole, &plugins, &host, &|_| {}).unwrap().provenance.tokens;
    // Four layers of float32 sums over 4 times 128 and once 352 inputs, and the head's.
    let parts = CalibrateRequest {
        memory: Some(1_000_000),
        ..request(place("parts.safetensors"), Kind::Products)
    };
    let (note, first) = (RefCell::new(String::new()), Cell::new(None));
    let run = |until: u64| {
        first.set(None);
        calibrate(&parts, &plugins, &host, &|event| match event {
            Event::Note { text } => *note.borrow_mut() = (*text).to_owned(),
            Event::Measure { what: "calibrating", done, total, .. } => {
                assert!(*done < until, "this test stops it here");
                assert_eq!(*total, 4 * tokens);
                first.set(first.get().or(Some(*done)));
            }
            _ => {}
        })
    };
    // In the second run of the text.
    assert!(catch_unwind(AssertUnwindSafe(|| run(650))).is_err());
    assert!(place("parts.safetensors.partial-2").exists() && !parts.output.exists());
    let told = note.borrow().clone();
    assert!(told.contains("take 3.10 MB, more than the 1.00 MB of memory"), "{told}");
    assert!(told.contains("the text is run 4 times"), "{told}");
    run(u64::MAX).unwrap();
    assert!(first.get().unwrap() > 400 + 192, "it begins behind what was done: {first:?}");
    let bytes = [&whole, &parts].map(|request| std::fs::read(&request.output).unwrap());
    assert!(bytes[0] == bytes[1]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");

    let small = CalibrateRequest { memory: Some(400_000), ..parts.clone() };
    let error = calibrate(&small, &plugins, &host, &|_| {}).unwrap_err();
    assert_eq!(error.code, codes::CALIBRATION_INPUT);
    assert!(error.message.contains("alone take 496 kB of memory"), "{error:?}");
    // Whoever did not ask for them by name gets what fits.
    let squares = CalibrateRequest { squares_where_products_are_too_large: true, ..small };
    let made = calibrate(&squares, &plugins, &host, &|event| {
        if let Event::Note { text } = event {
            *note.borrow_mut() = (*text).to_owned();
        }
    });
    assert_eq!(made.unwrap().provenance.kind, Kind::Squares);
    assert!(note.borrow().contains("only their squares are used"), "{note:?}");
}

/// A model judged by itself is as good as itself.
#[test]
fn the_original_is_no_distance_from_itself() {
    let folder = tempfile::tempdir().unwrap();
    let plugins = Plugins::discover(&[]).unwrap();
    let host = anemll_services::host();
    let asked = CalibrateRequest {
        tokens: 0,
        ..request(folder.path().join("judge.safetensors"), Kind::Squares)
    };
    calibrate(&asked, &plugins, &host, &|_| {}).unwrap();
    let file = Statistics::open(&asked.output).unwrap();
    assert_eq!(file.weights().count(), 0, "a judge and no more");
    let judge = Judge::read(&file).unwrap().unwrap();
    let mut original = Original::open(&asked.original, &plugins, &host, &|_| {}).unwrap();
    let quality = judge.judge(&mut original.engine, &|_| {}).unwrap();
    assert_eq!(quality.top1, 1.0);
    assert!(quality.kl.abs() < 1e-5, "{quality:?}");
    assert!((quality.perplexity / quality.original_perplexity - 1.0).abs() < 1e-5, "{quality:?}");
    assert!(quality.tokens > 100, "{quality:?}");
}

#[test]
fn what_no_calibration_can_use_is_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let file = |name: &str, contents: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let calibrate = |arguments: &[&str]| command(&model("tiny-llama"), &output, arguments);
    let short = file("short.txt", "A few words.");
    let told = refused(&mut calibrate(&["--text", &short]), codes::CALIBRATION_INPUT);
    assert!(told.contains("tokens, fewer than the context of 512"), "{told}");
    let missing = folder.path().join("missing.txt");
    let told = refused(calibrate(&["--text"]).arg(&missing), codes::CALIBRATION_INPUT);
    assert!(told.contains("cannot be read") && told.contains("missing.txt"), "{told}");
    for (name, json) in [
        ("cut.json", r#"[[{"role": "user", "content": "#),
        ("flat.json", r#"[{"role": "user", "content": "a"}]"#),
        ("other.json", r#"[[{"role": 7}]]"#),
    ] {
        let path = file(name, json);
        let told = refused(&mut calibrate(&["--chat", "--text", &path]), codes::CALIBRATION_INPUT);
        assert!(told.contains("list of lists of messages") && told.contains(name), "{told}");
    }
    let told = refused(&mut calibrate(&["--context", "1"]), codes::CALIBRATION_INPUT);
    assert!(told.contains("has no room for a text"), "{told}");
    let bare = copy_of("tiny-llama");
    std::fs::remove_file(bare.path().join("tokenizer.json")).unwrap();
    refused(&mut command(bare.path(), &output, &[]), codes::TOKENIZER_MISSING);
    assert!(!output.exists(), "nothing is left behind");
    for nowhere in [folder.path().join("no such folder/out.safetensors"), folder.path().into()] {
        refused(&mut command(&model("tiny-llama"), &nowhere, &[]), codes::OUTPUT_UNWRITABLE);
    }
    // --chat is about --text.
    assert_eq!(run(&mut calibrate(&["--chat"])).status.code(), Some(2));
}

#[test]
fn conversations_and_own_answers_are_texts_too() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let chat = folder.path().join("chat.json");
    let line = |role: &str, text: &str| format!(r#"{{"role": "{role}", "content": "{text}"}}"#);
    let turn = [line("user", "Who are you?"), line("assistant", "I am the king.")].join(",");
    std::fs::write(&chat, format!("[{}]", vec![format!("[{turn}]"); 12].join(","))).unwrap();
    let base = ["--context", "64", "--chat", "--text", chat.to_str().unwrap()];
    let tokens = |arguments: &[&str]| {
        let told = stderr(&mut command(&model("tiny-llama"), &output, arguments));
        assert!(told.contains("fewer than the 16384 of --tokens"), "{told}");
        Statistics::open(&output).unwrap().provenance().unwrap().tokens
    };
    let written = tokens(&base);
    let answered = tokens(&[&base[..], &["--self", "2"]].concat());
    assert!(answered > written + 20, "{written} {answered}");
    let arguments = [&base[..], &["--built-in", "--tokens", "4096"]].concat();
    stderr(&mut command(&model("tiny-llama"), &output, &arguments));
    let with_built_in = Statistics::open(&output).unwrap().provenance().unwrap().tokens;
    assert!(with_built_in > written && with_built_in > 3000, "{written} {with_built_in}");
}

/// Weights that are no numbers stop a calibration, not only a conversion.
#[test]
fn weights_that_are_no_numbers_are_one_error() {
    let copy = copy_of("tiny-llama");
    let weights = copy.path().join("model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    let (length, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let info = header.info("model.layers.1.mlp.up_proj.weight").unwrap();
    let at = 8 + length + info.data_offsets.0;
    bytes[at..at + 2].copy_from_slice(&0x7fc0_u16.to_le_bytes());
    std::fs::write(&weights, bytes).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.safetensors");
    let told = refused(&mut command(copy.path(), &output, &[]), codes::WEIGHT_NOT_FINITE);
    assert!(told.contains("model.layers.1.mlp.up_proj.weight"), "{told}");
    let conversion = folder.path().join("out");
    let mut convert = anemll();
    convert.arg("convert").arg(copy.path()).arg("-o").arg(&conversion);
    refused(&mut convert, codes::WEIGHT_NOT_FINITE);
    assert!(!output.exists() && !conversion.exists());
}

/// A safetensors file with this header and so many zeros.
fn file(path: &Path, header: &str, zeros: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + zeros, 0);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn hostile_headers_of_statistics_are_one_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.safetensors");
    let name = "model.layers.0.mlp.down_proj.weight";
    let tensor = |shape: &str, end: &str| {
        format!(r#"{{"{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    let said = |key: &str, value: &str| format!(r#"{{"__metadata__":{{"{key}":"{value}"}}}}"#);
    let schema = r#"{\"schema\":9,\"source_sha256\":\"\",\"texts_sha256\":\"\",\"tokens\":1,\"kind\":\"squares\"}"#;
    let same = r#"{\"schema\":1,\"source_sha256\":\"\",\"texts_sha256\":\"\",\"tokens\":1,\"kind\":\"squares\",\"same\":{\"a\":\"b\"}}"#;
    let headers = [
        tensor("[18446744073709551615, 18446744073709551615]", "8"),
        tensor("[2]", "18446744073709551615"),
        tensor("[4294967296, 4294967296, 4294967296]", "8"),
        tensor("[-1]", "8"),
        tensor("[3]", "8"),
        tensor("[1000000000000]", "4000000000000"),
        format!(r#"{{"{name}":{{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}}}"#),
        said("anemll.statistics", "{}"),
        said("anemll.statistics", schema),
        said("anemll.statistics", same),
        "[".repeat(200_000),
        "{}}".to_owned(),
    ];
    for header in &headers {
        file(&path, header, 8);
        let output = folder.path().join("out");
        let mut convert = convert_command(
            &model("tiny-llama"),
            &output,
            &["--lut", "4", "--calibration", path.to_str().unwrap()],
        );
        let told = refused(&mut convert, codes::STATISTICS_INVALID);
        let shown: String = header.chars().take(90).collect();
        assert!(told.contains("statistics.safetensors"), "{shown}: {told}");
        assert!(!output.exists(), "{shown}: nothing is left behind");
    }
    // A header that says it is longer than the file, and longer than memory.
    for length in [9_u64, u64::MAX, 1 << 40] {
        std::fs::write(&path, length.to_le_bytes()).unwrap();
        assert!(Statistics::open(&path).is_err());
    }
}
