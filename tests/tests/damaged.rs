//! A weight file that is damaged, in every command that runs a model, and weights that are odd.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, convert, model, run, succeed, workspace};
use safetensors::tensor::{SafeTensors, TensorView};
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

const SIZES: [&str; 6] = ["--context", "64", "--batch", "8", "--combiner", "chunked"];

/// The standard error of a command that fails with one error.
fn refused(command: &mut Command, what: &str) -> String {
    let output = run(command.stdin(Stdio::null()));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{what}, {command:?}:\n{text}");
    assert_eq!(text.matches("error[").count(), 1, "one error only:\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    assert_eq!(output.stdout, b"", "{what}, {command:?}");
    text
}

#[test]
fn a_damaged_weight_file_is_one_error_in_every_command_that_runs_it() {
    let folder = tempfile::tempdir().unwrap();
    convert(&model("tiny-llama"), folder.path(), &[&SIZES[..], &["--lut", "none"]].concat());
    let package = folder.path().join("llama_FFN_PF_chunk_01of02.mlpackage");
    let mut command = anemll();
    let inspection = succeed(command.args(["inspect", "--json"]).arg(&package)).stdout;
    let inspection: Value = serde_json::from_slice(&inspection).unwrap();
    let offset = inspection["records"][1]["offset"].as_u64().unwrap() as usize;
    let path = package.join("Data/com.apple.CoreML/weights/weight.bin");
    let whole = std::fs::read(&path).unwrap();
    let text = workspace().join("tests/reference/perplexity/text.txt");

    let edit = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    // A record: sentinel, type, size, place of the data.
    for (what, file) in [
        ("sentinel", edit(offset, b"beef")),
        ("type", edit(offset + 4, &77_u32.to_le_bytes())),
        ("size", edit(offset + 8, &u64::MAX.to_le_bytes())),
        ("smaller size", edit(offset + 8, &6_u64.to_le_bytes())),
        ("offset", edit(offset + 16, &(1_u64 << 60).to_le_bytes())),
        ("version", edit(4, &9_u32.to_le_bytes())),
        ("cut in a record", whole[..offset + 100].to_vec()),
        ("cut before it", whole[..offset].to_vec()),
        ("empty", Vec::new()),
    ] {
        // A file of its own: the other packages of the chunk share the old one.
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, file).unwrap();
        let meta = folder.path().join("meta.yaml");
        let commands: [&[&str]; 3] =
            [&["chat", "--prompt", "Hi"], &["generate", "--prompt", "Hi"], &["eval"]];
        for arguments in commands {
            // All open packages in the same way: the quickest is asked about every damage.
            let told = ["sentinel", "size", "offset"].contains(&what);
            if arguments[0] != "eval" && !told {
                continue;
            }
            let mut command = anemll();
            command.args(arguments);
            match arguments {
                ["eval"] => drop(command.arg("--meta").arg(&meta).arg("--text").arg(&text).args([
                    "--path",
                    "infer",
                    "--max-tokens",
                    "9",
                ])),
                _ => drop(command.arg("--meta").arg(&meta)),
            }
            let text = refused(&mut command, what);
            assert!(text.contains("error[A05") || text.contains("error[A04"), "{what}:\n{text}");
            assert!(text.contains("weight") && text.contains("chunk_01of02"), "{what}:\n{text}");
        }
    }
}

/// A copy of a model with one tensor's 16-bit values changed.
fn with_values(folder: &Path, tensor: &str, edit: impl Fn(&mut [u8])) {
    for entry in std::fs::read_dir(model("tiny-llama")).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), folder.join(entry.file_name())).unwrap();
    }
    let path = folder.join("model.safetensors");
    let bytes = std::fs::read(&path).unwrap();
    let read = SafeTensors::deserialize(&bytes).unwrap();
    let tensors: Vec<_> = read
        .tensors()
        .into_iter()
        .map(|(name, view)| {
            let mut data = view.data().to_vec();
            if name == tensor {
                edit(&mut data);
            }
            (name, view.dtype(), view.shape().to_vec(), data)
        })
        .collect();
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (name.as_str(), TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    std::fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
}

fn report(output: &Path) -> Value {
    let text = std::fs::read_to_string(output.join("anemll-report.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_weight_whose_values_are_all_equal_is_stored_exactly() {
    let source = tempfile::tempdir().unwrap();
    let tensor = "model.layers.2.mlp.up_proj.weight";
    with_values(source.path(), tensor, |data| {
        let first = [data[0], data[1]];
        data.as_chunks_mut::<2>().0.fill(first);
    });
    let output = tempfile::tempdir().unwrap();
    convert(source.path(), output.path(), &[&SIZES[..], &["--lut", "4"]].concat());
    let report = report(output.path());
    let files = report["weight_files"].as_array().unwrap();
    let weights = files.iter().flat_map(|file| file["weights"].as_array().unwrap());
    let found: Vec<&Value> = weights.filter(|weight| weight["tensor"] == tensor).collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0]["operation"], "constexpr_lut_to_dense");
    assert_eq!(found[0]["encoding_error"]["max_absolute"], 0.0);
}

#[test]
fn a_nan_in_a_weight_that_gets_tables_is_named_with_its_position() {
    let source = tempfile::tempdir().unwrap();
    with_values(source.path(), "model.layers.3.self_attn.q_proj.weight", |data| {
        let at = 2 * (5 * 128 + 7);
        data[at..at + 2].copy_from_slice(&0x7fff_u16.to_le_bytes());
    });
    let output = source.path().join("output");
    let mut command = anemll();
    command.arg("convert").arg("--model").arg(source.path()).arg("--output").arg(&output);
    let text = refused(command.args(SIZES).args(["--lut", "4"]), "NaN");
    assert!(text.contains("error[A0307]"), "{text}");
    assert!(text.contains("layers.3.self_attn.q_proj") && text.contains("[5, 7]"), "{text}");
    assert!(!output.exists());
}

#[test]
fn a_group_that_does_not_divide_is_replaced_and_named() {
    let output = tempfile::tempdir().unwrap();
    let arguments = [&SIZES[..], &["--lut", "4,7"]].concat();
    let printed = convert(&model("tiny-llama"), output.path(), &arguments);
    let text = String::from_utf8_lossy(&printed.stderr);
    let note = "groups of 4 output channels, not 7: 128 is not a multiple";
    assert!(
        text.lines().any(|line| line.starts_with("warning: ") && line.contains(note)),
        "{text}"
    );
    let report = report(output.path());
    let weights = report["weight_files"].as_array().unwrap().iter();
    let mut notes = weights.flat_map(|file| file["weights"].as_array().unwrap());
    assert!(notes.any(|weight| weight["note"] == note), "{report}");
}

#[test]
fn a_group_larger_than_every_weight_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("output");
    let mut command = anemll();
    command.arg("convert").arg("--model").arg(model("tiny-llama")).arg("--output").arg(&output);
    let text = refused(command.args(SIZES).args(["--lut2", "4,353"]), "group");
    assert!(text.contains("error[A0118]") && text.contains("the largest group is 352"), "{text}");
    assert!(!output.exists());
}
