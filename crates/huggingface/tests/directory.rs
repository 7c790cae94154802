//! Model directories, good and bad, built file by file.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use anemll_huggingface::{ErrorKind, HuggingFaceError, ModelDirectory, SourceType, to_fp16};
use std::fs;
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
    assert_eq!((row.shape(), row.bytes().len()), (vec![1, 2], 8));
    assert_eq!(row.rows(0, 1).unwrap().bytes(), row.bytes());
    assert_eq!(tensor.rows(1, 3).unwrap_err().kind(), ErrorKind::Shape);
    let names = |model: &ModelDirectory| {
        let files = model.tokenizer_files();
        files
            .iter()
            .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&model), ["config.json", "vocab.json"]);
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
    assert_eq!(model.tensor("c").unwrap().bytes()[..4], 4.0_f32.to_le_bytes());

    fs::remove_file(folder.path().join("2.safetensors")).unwrap();
    let error = refused(&folder);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("1 of 2 shards are missing: 2.safetensors"), "{error}");

    fs::write(folder.path().join("2.safetensors"), shard(&["x"])).unwrap();
    let error = refused(&folder);
    assert_eq!((error.kind(), error.key()), (ErrorKind::Index, Some("b")));
    assert!(error.reason().contains("2.safetensors"), "{error}");

    // The tensor exists, but in the other shard.
    fs::write(folder.path().join("2.safetensors"), shard(&["b", "a"])).unwrap();
    let error = refused(&folder);
    assert_eq!((error.kind(), error.key()), (ErrorKind::Shard, Some("a")));
    assert!(error.reason().contains("also stands in"), "{error}");
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
        ("", "not a valid index"),
        ("[]", "not a valid index"),
        (r#"{"metadata":{}}"#, "missing"),
        (r#"{"weight_map":{}}"#, "names no tensor"),
        (r#"{"weight_map":{"a":1}}"#, "not a valid index"),
        (r#"{"weight_map":{"a":"1.safetensors","a":"2.safetensors"}}"#, "stands twice"),
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
    for text in ["", "{", "[]", "null", "{\"a\": NaN}"] {
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
        assert!(!model.tokenizer_files().is_empty());
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
                    assert_eq!(tensor.bytes().len() as u64, info.size_in_bytes());
                }
            }
        }
    }
}
