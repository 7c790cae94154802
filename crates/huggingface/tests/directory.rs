//! Model directories, good and bad, built file by file.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use anemll_huggingface::{
    Companion, ErrorKind, Fp16Options, HuggingFaceError, ModelDirectory, SourceType, to_f32,
    to_fp16,
};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use tempfile::TempDir;

/// A safetensors file made by hand: length, header, data.
fn safetensors(header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// A file of float32 tensors `[2, 2]` with these names.
fn shard(names: &[&str]) -> Vec<u8> {
    let entries: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let (start, end) = (index * 16, index * 16 + 16);
            format!(r#""{name}":{{"dtype":"F32","shape":[2,2],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    let values = (0..names.len() * 4).flat_map(|value| (value as f32).to_le_bytes());
    safetensors(&format!("{{{}}}", entries.join(",")), &values.collect::<Vec<_>>())
}

fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), r#"{"model_type":"llama"}"#).unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

fn refused(folder: &TempDir) -> HuggingFaceError {
    ModelDirectory::open(folder.path()).unwrap_err()
}

const INDEX: &str = "model.safetensors.index.json";

#[test]
fn a_single_file() {
    let folder = directory(&[("model.safetensors", &shard(&["a", "b"])), ("vocab.json", b"{}")]);
    let model = ModelDirectory::open(folder.path()).unwrap();
    assert_eq!(model.config()["model_type"], "llama");
    assert_eq!(model.config_text(), r#"{"model_type":"llama"}"#);
    assert_eq!(model.tensors().keys().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(model.tensors()["b"].source_type, SourceType::Float32);
    assert_eq!(model.tensors()["b"].elements(), 4);
    let tensor = model.tensor("b").unwrap();
    assert_eq!(tensor.shape(), [2, 2]);
    let (values, report) = to_fp16(&tensor, &Default::default()).unwrap();
    assert_eq!(values.iter().map(|value| value.to_f32()).collect::<Vec<_>>(), [4.0, 5.0, 6.0, 7.0]);
    assert_eq!(report.max_absolute, 7.0);
    let row = tensor.rows(1, 2).unwrap();
    assert_eq!((row.shape(), row.size_in_bytes()), (vec![1, 2], 8));
    assert_eq!(row.read().unwrap(), [6.0_f32, 7.0].map(f32::to_le_bytes).concat());
    assert_eq!(row.rows(0, 1).unwrap().read().unwrap(), row.read().unwrap());
    assert_eq!(tensor.rows(1, 3).unwrap_err().kind(), ErrorKind::Shape);
    let names: Vec<_> = model.companions().iter().map(Companion::name).collect();
    assert_eq!(names, ["config.json", "vocab.json"]);
}

#[test]
fn shards_of_an_index() {
    let index = br#"{"metadata":{"total_size":48},"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"}}"#;
    let folder = directory(&[
        (INDEX, index),
        ("1.safetensors", &shard(&["a", "c"])),
        ("2.safetensors", &shard(&["b"])),
        ("unrelated.safetensors", b"rubbish"),
    ]);
    let model = ModelDirectory::open(folder.path()).unwrap();
    assert_eq!(model.tensors().len(), 3);
    assert_eq!(model.weight_files().len(), 2);
    assert_eq!(model.tensor("c").unwrap().read().unwrap()[..4], 4.0_f32.to_le_bytes());
    assert!(model.notes().is_empty());

    // What is missing is an error when it is asked for: nobody may need it.
    fs::remove_file(folder.path().join("2.safetensors")).unwrap();
    let model = ModelDirectory::open(folder.path()).unwrap();
    assert_eq!(model.tensors().keys().collect::<Vec<_>>(), ["a", "c"]);
    assert_eq!(model.notes(), ["the index names what no file holds: `b`"]);
    assert!(model.tensor("a").is_ok() && model.absence("a").is_none());
    let error = model.tensor("b").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("1 of 2 shards are missing: 2.safetensors"), "{error}");

    fs::write(folder.path().join("2.safetensors"), shard(&["x"])).unwrap();
    let model = ModelDirectory::open(folder.path()).unwrap();
    let error = model.tensor("b").unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Index, Some("b")));
    assert!(error.reason().contains("2.safetensors"), "{error}");
    assert!(model.tensor("x").is_ok());

    for file in ["1.safetensors", "2.safetensors"] {
        fs::remove_file(folder.path().join(file)).unwrap();
    }
    let error = refused(&folder);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("2 of 2 shards are missing"), "{error}");
}

/// Values of a tensor of [`shard`].
fn values(model: &ModelDirectory, name: &str) -> Vec<f32> {
    to_f32(&model.tensor(name).unwrap()).unwrap()
}

#[test]
fn the_index_chooses_between_copies() {
    // `a` is 0, 1, 2, 3 in the first file, and 4, 5, 6, 7 in the second.
    for (chosen, wanted) in [("1.safetensors", 0.0), ("./2.safetensors", 4.0)] {
        let map = format!(
            r#"{{"weight_map":{{"a":"{chosen}","b":"./1.safetensors","c":"2.safetensors"}}}}"#
        );
        let folder = directory(&[
            (INDEX, map.as_bytes()),
            ("1.safetensors", &shard(&["a", "b"])),
            ("2.safetensors", &shard(&["c", "a"])),
        ]);
        let model = ModelDirectory::open(folder.path()).unwrap();
        assert_eq!(values(&model, "a")[0], wanted);
        assert_eq!(model.notes(), ["in several weight files, the index says which counts: `a`"]);
    }
    // Of a tensor that the index does not name, no copy is better than the other.
    let folder = directory(&[
        (INDEX, br#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}"#),
        ("1.safetensors", &shard(&["a", "c"])),
        ("2.safetensors", &shard(&["b", "c"])),
    ]);
    let error = refused(&folder);
    assert_eq!((error.kind(), error.key()), (ErrorKind::Shard, Some("c")));
    assert!(error.reason().contains("also stands in"), "{error}");
    // What the index says to be in one file is not taken from another.
    let folder = directory(&[
        (INDEX, br#"{"weight_map":{"a":"2.safetensors","b":"1.safetensors"}}"#),
        ("1.safetensors", &shard(&["a", "b"])),
        ("2.safetensors", &shard(&["c"])),
    ]);
    let model = ModelDirectory::open(folder.path()).unwrap();
    assert_eq!(model.tensor("a").unwrap_err().kind(), ErrorKind::Index);
}

#[test]
fn an_index_as_python_reads_it() {
    let text = "\u{feff}{\"metadata\":{\"total_size\":NaN},\"weight_map\":{\"a\":\"2.safetensors\",\"a\":\"1.safetensors\"}}";
    let folder = directory(&[(INDEX, text.as_bytes()), ("1.safetensors", &shard(&["a"]))]);
    let model = ModelDirectory::open(folder.path()).unwrap();
    assert_eq!(values(&model, "a")[3], 3.0);
    assert_eq!(model.notes(), ["the index names `a` twice; the last counts, as in transformers"]);
}

#[test]
fn one_file_comes_before_an_index() {
    let folder = directory(&[
        (INDEX, br#"{"weight_map":{"a":"gone.safetensors"}}"#),
        ("model.safetensors", &shard(&["a"])),
    ]);
    let model = ModelDirectory::open(folder.path()).unwrap();
    assert_eq!(
        model.notes(),
        ["model.safetensors was taken, not the shards of model.safetensors.index.json"]
    );
}

const ADAPTER: &[u8] =
    br#"{"peft_type":"LORA","base_model_name_or_path":"meta-llama/Llama-3.2-1B","r":4}"#;
const LORA: &str = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";

#[test]
fn an_adapter_is_no_model() {
    let adapter: &[(&str, &[u8])] =
        &[("adapter_config.json", ADAPTER), ("adapter_model.safetensors", &shard(&[LORA]))];
    let folder = directory(adapter);
    let error = refused(&folder);
    assert_eq!(error.kind(), ErrorKind::Adapter);
    assert_eq!(error.reason(), "this is a LoRA adapter of meta-llama/Llama-3.2-1B, not a model");
    assert!(error.hint().unwrap().contains("merge_and_unload"), "{error}");
    // Most such directories have no config.json.
    fs::remove_file(folder.path().join("config.json")).unwrap();
    assert_eq!(refused(&folder).reason(), error.reason());
    let error = refused(&directory(&adapter[1..]));
    assert!(error.reason().contains("does not name"), "{error}");
    let other = directory(&[
        ("adapter_config.json", br#"{"peft_type":"IA3","base_model_name_or_path":"a/b"}"#),
        ("adapter_model.bin", b"x"),
    ]);
    assert_eq!(refused(&other).reason(), "this is an adapter (IA3) of a/b, not a model");

    // Beside a model it is left alone, and told of.
    let mut both = adapter.to_vec();
    let weights = shard(&["model.norm.weight"]);
    both.push(("model.safetensors", &weights));
    let model = directory(&both);
    let model = ModelDirectory::open(model.path()).unwrap();
    assert_eq!(model.tensors().len(), 1);
    assert!(model.notes()[0].contains("adapter of meta-llama/Llama-3.2-1B, which was not used"));
    // Whatever the file is called.
    let named = directory(&[("model.safetensors", &shard(&["model.norm.weight", LORA]))]);
    let error = refused(&named);
    assert_eq!((error.kind(), error.key()), (ErrorKind::Adapter, Some(LORA)));
    assert!(error.reason().contains("not merged"), "{error}");
}

#[test]
fn a_file_that_changes_while_it_is_read() {
    let bytes = shard(&["a", "b"]);
    let folder = directory(&[("model.safetensors", &bytes)]);
    let path = folder.path().join("model.safetensors");
    let open = || {
        fs::write(&path, &bytes).unwrap();
        ModelDirectory::open(folder.path()).unwrap()
    };
    let changed = |error: HuggingFaceError, how: &str| {
        assert_eq!(error.kind(), ErrorKind::Changed, "{error}");
        assert!(
            error.file().ends_with("model.safetensors") && error.reason().contains(how),
            "{error}"
        );
    };
    let model = open();
    model.check_unchanged().unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(60).unwrap();
    changed(
        to_fp16(&model.tensor("b").unwrap(), &Fp16Options::default()).unwrap_err(),
        "cut short",
    );
    changed(model.source_sha256(|_, _| true).unwrap_err(), "cut short");
    changed(model.check_unchanged().unwrap_err(), "and has 60");

    let model = open();
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    changed(model.check_unchanged().unwrap_err(), "written to");
    changed(model.source_sha256(|_, _| true).unwrap_err(), "written to");

    // As programs do that copy: other bytes, and the time of before.
    let model = open();
    let before = path.metadata().unwrap().modified().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let file = fs::File::options().write(true).open(&path).unwrap();
    (&file).write_all(b"x").unwrap();
    file.set_modified(before).unwrap();
    #[cfg(unix)]
    changed(model.check_unchanged().unwrap_err(), "written to");

    let model = open();
    fs::write(folder.path().join("new"), &bytes).unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    #[cfg(unix)]
    changed(model.check_unchanged().unwrap_err(), "took its place");
    let model = open();
    fs::remove_file(&path).unwrap();
    changed(model.check_unchanged().unwrap_err(), "gone");
}

#[cfg(unix)]
#[test]
fn pipes_are_no_model_files() {
    for name in ["config.json", "model.safetensors", INDEX, "tokenizer.json"] {
        let folder = directory(&[("model.safetensors", &shard(&["a"]))]);
        let path = folder.path().join(name);
        let _ = fs::remove_file(&path);
        if name == INDEX {
            fs::remove_file(folder.path().join("model.safetensors")).unwrap();
        }
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        let error = match ModelDirectory::open(folder.path()) {
            Err(error) => error,
            Ok(model) => {
                let broken = model.companions().into_iter().find_map(|file| file.read().err());
                broken.unwrap()
            }
        };
        assert!(error.reason().contains("it is a pipe, not a regular file"), "{error}");
        assert!(error.file().ends_with(name), "{error}");
    }
}

#[test]
fn companions_are_read_and_checked() {
    const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n";
    let read = |name: &str, bytes: &[u8]| {
        let folder = directory(&[("model.safetensors", &shard(&["a"])), (name, bytes)]);
        let model = ModelDirectory::open(folder.path()).unwrap();
        let file = model.companions().into_iter().find(|file| file.name() == name).unwrap();
        file.read().map_err(|error| {
            assert_eq!(error.kind(), ErrorKind::Companion, "{error}");
            assert!(error.hint().is_some() && error.file().ends_with(name), "{error}");
            error.reason().to_owned()
        })
    };
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
        "chat_template.jinja",
        "merges.txt",
        "tokenizer.model",
    ] {
        assert!(read(name, POINTER).unwrap_err().contains("Git LFS pointer"), "{name}");
        assert!(read(name, b"").unwrap_err().contains("empty"), "{name}");
        assert!(read(name, b"<!DOCTYPE html><p>").unwrap_err().contains("web page"), "{name}");
        let binary = read(name, b"\x0a\x0e\x0a\x05\0\xff");
        assert_eq!(binary.is_ok(), name == "tokenizer.model", "{name}");
        let broken = read(name, b"{\"a\": ");
        assert_eq!(broken.is_err(), name.ends_with(".json"), "{name}");
    }
    for text in ["{}", "{\"model\":null}", "{\"model\":{\"type\":\"BPE\"}}"] {
        let reason = read("tokenizer.json", text.as_bytes()).unwrap_err();
        assert!(reason.contains("no model with a vocabulary"), "{reason}");
    }
    assert!(read("tokenizer.json", b"{\"model\":{\"vocab\":{}}}").is_ok());
    assert!(read("generation_config.json", b"[]").unwrap_err().contains("not a JSON object"));
    let large = vec![b' '; 1_000_001];
    assert!(read("chat_template.jinja", &large).unwrap_err().contains("too large"));
    let found =
        read("tokenizer_config.json", "\u{feff}{\"model_max_length\": Infinity}".as_bytes());
    let found = found.unwrap();
    assert_eq!(found.bytes, b"{\"model_max_length\": null}");
    assert_eq!(found.notes.len(), 2);
}

#[test]
fn tensors_are_compared_by_their_values() {
    // More than one piece, in two types.
    let values: Vec<f32> = (0..200_000).map(|number| (number % 1000) as f32 - 500.0).collect();
    let float: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let halves: Vec<u8> =
        values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect();
    let mut other = halves.clone();
    let last = other.len() - 1;
    other[last] ^= 0x80;
    let size = [float.len(), float.len() + halves.len(), float.len() + 2 * halves.len()];
    let header = format!(
        r#"{{"a":{{"dtype":"F32","shape":[400,500],"data_offsets":[0,{}]}},"b":{{"dtype":"F16","shape":[400,500],"data_offsets":[{},{}]}},"c":{{"dtype":"F16","shape":[400,500],"data_offsets":[{},{}]}}}}"#,
        size[0], size[0], size[1], size[1], size[2]
    );
    let folder = directory(&[(
        "model.safetensors",
        &safetensors(&header, &[float, halves, other].concat()),
    )]);
    let model = ModelDirectory::open(folder.path()).unwrap();
    let [a, b, c] = ["a", "b", "c"].map(|name| model.tensor(name).unwrap());
    for (left, right, equal) in
        [(a, a, true), (a, b, true), (b, a, true), (b, b, true), (b, c, false), (c, a, false)]
    {
        assert_eq!(left.has_values_of(&right).unwrap(), equal, "{} {}", left.name(), right.name());
    }
    let rows = (a.rows(1, 2).unwrap(), b.rows(1, 2).unwrap(), b.rows(0, 2).unwrap());
    assert!(rows.0.has_values_of(&rows.1).unwrap() && !rows.0.has_values_of(&rows.2).unwrap());
    assert_eq!(to_f32(&a).unwrap(), values);
    let (converted, _) = to_fp16(&a, &Fp16Options::default()).unwrap();
    assert!(converted.iter().map(|half| half.to_f32()).eq(values.iter().copied()));
}

#[test]
fn names_that_leave_the_directory() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("o.safetensors"), shard(&["a"])).unwrap();
    let absolute = outside.path().join("o.safetensors");
    for name in ["../o.safetensors", "x/../../o.safetensors", "", absolute.to_str().unwrap()] {
        let index = serde_json::json!({"weight_map": {"a": name}}).to_string();
        let error = refused(&directory(&[(INDEX, index.as_bytes())]));
        assert_eq!((error.kind(), error.key()), (ErrorKind::Index, Some("weight_map.a")));
        assert!(error.reason().contains("not inside the directory"), "{error}");
    }
}

#[test]
fn a_hub_cache_of_symbolic_links() {
    #[cfg(unix)]
    {
        let blobs = tempfile::tempdir().unwrap();
        fs::write(blobs.path().join("blob"), shard(&["a"])).unwrap();
        let folder = directory(&[]);
        let link = folder.path().join("model.safetensors");
        std::os::unix::fs::symlink(blobs.path().join("blob"), link).unwrap();
        assert!(ModelDirectory::open(folder.path()).unwrap().tensor("a").is_ok());
    }
}

#[test]
fn malformed_indexes() {
    for (text, reason) in [
        ("", "empty"),
        ("version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        ("[]", "not a valid index"),
        (r#"{"metadata":{}}"#, "missing"),
        (r#"{"weight_map":{}}"#, "names no tensor"),
        (r#"{"weight_map":{"a":1}}"#, "not a valid index"),
        (r#"{"weight_map":{"a":"."}}"#, "not inside"),
    ] {
        let error = refused(&directory(&[(INDEX, text.as_bytes())]));
        assert_eq!(error.kind(), ErrorKind::Index);
        assert!(error.reason().contains(reason), "{error} for {text}");
    }
}

#[test]
fn damaged_shards() {
    let good = shard(&["a", "b"]);
    let tensor = |rest: &str| safetensors(&format!(r#"{{"a":{rest}}}"#), &[0; 16]);
    let twice = r#"{"a":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"a":{"dtype":"I32","shape":[4],"data_offsets":[0,16]}}"#;
    let mut long = good.clone();
    long.push(0);
    for (bytes, reason) in [
        (vec![], "truncated: 0 bytes"),
        (vec![1, 2, 3], "truncated: 3 bytes"),
        (good[..good.len() - 1].to_vec(), "truncated"),
        (good[..20].to_vec(), "truncated"),
        (long, "too long"),
        (u64::MAX.to_le_bytes().to_vec(), "not a safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "Git LFS"),
        (b"PK\x03\x04 a zip archive is no safetensors".to_vec(), "not a safetensors file"),
        (safetensors("{", &[]), "malformed"),
        (safetensors("[]", &[]), "malformed"),
        (safetensors("\u{0}", &[]), "malformed"),
        (tensor(r#"{"dtype":"F33","shape":[4],"data_offsets":[0,16]}"#), "malformed"),
        (tensor(r#"{"dtype":"F32","shape":[5],"data_offsets":[0,16]}"#), "malformed"),
        (tensor(r#"{"dtype":"F32","shape":[4],"data_offsets":[16,0]}"#), "malformed"),
        (tensor(r#"{"dtype":"F32","shape":[4],"data_offsets":[4,20]}"#), "malformed"),
        (tensor(r#"{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}"#), "malformed"),
        (tensor(r#"{"dtype":"F32","shape":[8],"data_offsets":[0,32]}"#), "truncated"),
        (
            tensor(r#"{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}"#),
            "malformed",
        ),
        (
            tensor(
                r#"{"dtype":"BOOL","shape":[2305843009213693951],"data_offsets":[0,2305843009213693951]}"#,
            ),
            "truncated",
        ),
        (safetensors(twice, &[0; 16]), "stands twice"),
    ] {
        let error = refused(&directory(&[("model.safetensors", &bytes)]));
        assert_eq!(error.kind(), ErrorKind::Shard, "{error}");
        assert!(error.file().ends_with("model.safetensors"));
        assert!(error.reason().contains(reason), "{error} for {reason}");
    }
}

#[test]
fn offsets_at_the_end_of_the_address_space() {
    // Eight tensors of 2^61 bytes end just where adding the header's size overflows.
    let size = 1_u64 << 61;
    let entries: Vec<String> = (0..8)
        .map(|index: u64| {
            let start = index * size;
            let length = if index == 7 { size - 1 } else { size };
            let end = start + length;
            format!(
                r#""t{index}":{{"dtype":"BOOL","shape":[{length}],"data_offsets":[{start},{end}]}}"#
            )
        })
        .collect();
    let bytes = safetensors(&format!("{{{}}}", entries.join(",")), &[]);
    let error = refused(&directory(&[("model.safetensors", &bytes)]));
    assert_eq!(error.kind(), ErrorKind::Shard, "{error}");
}

#[test]
fn directories_without_what_is_needed() {
    let kind = |path: &Path| ModelDirectory::open(path).unwrap_err().kind();
    let empty = tempfile::tempdir().unwrap();
    assert_eq!(kind(&empty.path().join("absent")), ErrorKind::NotFound);
    assert_eq!(kind(empty.path()), ErrorKind::Config);
    let file = empty.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_eq!(kind(&file), ErrorKind::NotADirectory);
    for text in ["", "{", "[]", "null", "{\"a\": NaNa}", "<html>"] {
        fs::write(empty.path().join("config.json"), text).unwrap();
        assert_eq!(kind(empty.path()), ErrorKind::Config, "{text}");
    }
    fs::write(empty.path().join("config.json"), [0xFF, 0xFE]).unwrap();
    assert_eq!(kind(empty.path()), ErrorKind::Config);
    fs::remove_file(empty.path().join("config.json")).unwrap();
    fs::create_dir(empty.path().join("config.json")).unwrap();
    assert_eq!(kind(empty.path()), ErrorKind::Io);
}

#[test]
fn other_weight_files() {
    let pickled = refused(&directory(&[("pytorch_model.bin", b"x")]));
    assert_eq!(pickled.kind(), ErrorKind::NoWeights);
    assert!(pickled.hint().unwrap().contains("save_pretrained"));
    assert!(refused(&directory(&[("m.gguf", b"x")])).hint().unwrap().contains("GGUF"));
    assert_eq!(refused(&directory(&[])).kind(), ErrorKind::NoWeights);
    let one = directory(&[("weights.safetensors", &shard(&["a"]))]);
    assert!(ModelDirectory::open(one.path()).is_ok());
    let two = directory(&[("1.safetensors", &shard(&["a"])), ("2.safetensors", &shard(&["b"]))]);
    let error = refused(&two);
    assert!(error.reason().contains("1.safetensors, 2.safetensors"), "{error}");
}

#[test]
fn weights_are_checked_against_the_config() {
    let names = ["model.layers.0.q.weight", "model.norm.weight", "x.qweight"];
    let folder = directory(&[("model.safetensors", &shard(&names))]);
    let model = ModelDirectory::open(folder.path()).unwrap();
    let keys = ["num_attention_heads*head_dim", "hidden_size"];
    assert!(model.weight(names[0], &[2, 2], &keys).is_ok());
    let error = model.weight(names[0], &[2, 3], &keys).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    assert!(error.reason().contains("dimension 1 is 2, but hidden_size"), "{error}");
    assert!(!error.reason().contains("head_dim"), "{error}");
    let error = model.weight(names[0], &[4], &keys).unwrap_err();
    assert!(error.reason().contains("[2, 2], expected [4]"), "{error}");

    let missing = |name: &str| model.tensor(name).unwrap_err();
    assert_eq!(missing("lm_head.weight").kind(), ErrorKind::MissingTensor);
    assert_eq!(missing("lm_head.weight").hint(), None);
    assert!(missing("layers.0.q.weight").hint().unwrap().contains(names[0]));
    assert!(missing("text.norm.weight").hint().unwrap().contains(names[1]));
    assert!(missing("x.weight").hint().unwrap().contains("quantized"));
}

#[test]
fn other_types_are_listed_but_not_read() {
    let header = r#"{"a":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"b":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[16,20]}}"#;
    let folder = directory(&[("model.safetensors", &safetensors(header, &[0; 20]))]);
    let model = ModelDirectory::open(folder.path()).unwrap();
    assert_eq!(model.tensors()["a"].source_type.name(), "int64");
    assert_eq!(model.tensors()["b"].source_type.name(), "f8_e4m3");
    for name in ["a", "b"] {
        let error = model.tensor(name).unwrap_err();
        assert_eq!((error.kind(), error.key()), (ErrorKind::Type, Some(name)));
    }
}

#[test]
fn the_source_hash() {
    let bytes = shard(&["a", "b"]);
    let folder = directory(&[("model.safetensors", &bytes)]);
    let model = ModelDirectory::open(folder.path()).unwrap();
    let mut last = (0, 0);
    let hash = model
        .source_sha256(|done, total| {
            last = (done, total);
            true
        })
        .unwrap();
    assert_eq!(hash.len(), 64);
    assert_eq!(last.0, last.1);
    assert_eq!(last.1, 22 + bytes.len() as u64);
    assert_eq!(hash, model.source_sha256(|_, _| true).unwrap());
    let error = model.source_sha256(|_, _| false).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);

    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    let changed = directory(&[("model.safetensors", &other)]);
    let changed = ModelDirectory::open(changed.path()).unwrap();
    assert_ne!(hash, changed.source_sha256(|_, _| true).unwrap());
}

#[test]
fn the_reference_models() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/reference/models");
    let Ok(entries) = fs::read_dir(&models) else {
        println!("skipped: {} is absent", models.display());
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        let model = ModelDirectory::open(&path).unwrap();
        assert!(model.companions().iter().all(|file| file.read().is_ok()));
        for (name, info) in model.tensors() {
            let (values, report) =
                to_fp16(&model.tensor(name).unwrap(), &Default::default()).unwrap();
            assert_eq!(values.len() as u64, info.elements());
            assert!(report.max_absolute > 0.0, "{name}");
        }
    }
}

#[test]
fn no_changed_byte_is_trusted() {
    // Whatever a byte of the header becomes: an error, or tensors that lie inside the file.
    let good = shard(&["a", "b"]);
    let header = good.len() - 32;
    let folder = directory(&[]);
    for position in 0..header {
        for value in *b"\x00\x019\"{}[]-,e\xFF" {
            let mut bytes = good.clone();
            bytes[position] = value;
            fs::write(folder.path().join("model.safetensors"), &bytes).unwrap();
            let Ok(model) = ModelDirectory::open(folder.path()) else { continue };
            for (name, info) in model.tensors() {
                if let Ok(tensor) = model.tensor(name) {
                    assert_eq!(tensor.read().unwrap().len() as u64, info.size_in_bytes());
                }
            }
        }
    }
}
