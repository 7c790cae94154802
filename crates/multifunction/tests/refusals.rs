//! What cannot be joined is refused with a reason, and nothing is written.
#![allow(clippy::unwrap_used)]

mod common;

use anemll_mil::Opset;
use anemll_multifunction::{Error, JoinPlan, Options, PartsCheck, compare};
use common::{Made, combine, listing, model, model_file, package, palettes, plain, weight_file};
use coreml_proto::{Model, mil};
use std::fs;
use std::path::{Path, PathBuf};

/// Joins `infer=a prefill=b`, which must fail, say this, and leave the folder as it was.
fn refused(folder: &Path, list: &[(&str, &Path)], options: &Options, expected: &str) -> Error {
    let before = listing(folder);
    let error = combine(folder, list, options).unwrap_err();
    assert!(error.to_string().contains(expected), "expected {expected:?} in {error}");
    assert_eq!(listing(folder), before, "something was written before {error}");
    error
}

fn state(folder: &Path, name: &str, tokens: u64, length: u64) -> PathBuf {
    let weights = [("q", plain(1))];
    package(
        folder,
        name,
        &Made { tokens, weights: &weights, state: Some(length), ..Made::default() },
    )
}

#[test]
fn functions_that_cannot_stand_together() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (a, b) = (state(folder, "a", 1, 32), state(folder, "b", 4, 64));
    let weights = [("q", plain(1))];
    let older = Made { opset: Opset::CoreML7, weights: &weights, ..Made::default() };
    let older = package(folder, "older", &older);
    let options = Options::default();
    let check = |list: &[(&str, &Path)], expected: &str| refused(folder, list, &options, expected);
    check(&[], "no function to combine");
    check(
        &[("infer", &a), ("prefill", &b)],
        "state `cache` is fp16 [32, 16] in `infer`, but fp16 [64, 16] in `prefill`",
    );
    check(&[("a", &a), ("b", &older)], "opsets differ: `a` has CoreML8, `b` has CoreML7");
    check(&[("a", &a), ("a", &a)], "two functions are named `a`");
    for name in ["", "in fer", "9a", "a:b", "ü", "a\0"] {
        check(&[(name, &a)], "not a legal name");
    }
    let other = Options { default: Some("decode".to_owned()), ..Options::default() };
    refused(folder, &[("infer", &a)], &other, "`decode` is not among `infer`");
    // One alone is fine, of any opset: it gets the version that knows functions.
    let (path, report) = combine(folder, &[("infer", &older)], &options).unwrap();
    assert_eq!(model(&path).specification_version, 9);
    assert!(report.notes[0].contains("version 8 becomes 9"), "{:?}", report.notes);
}

#[test]
fn parts_of_other_conversions() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let weights = [("q", plain(1))];
    let part = |name: &str, tokens, metadata: &[(&str, &str)]| {
        let made = Made { tokens, weights: &weights, metadata, ..Made::default() };
        package(folder, name, &made)
    };
    let infer = part(
        "infer",
        1,
        &[("com.anemll.context_length", "256"), ("com.anemll.chunk_no", "1"), ("other", "x")],
    );
    let same = part("same", 4, &[("com.anemll.context_length", "256"), ("other", "y")]);
    let context = part("context", 4, &[("com.anemll.context_length", "512")]);
    let chunk = part("chunk", 4, &[("com.anemll.chunk_no", "2")]);
    let expecting = |pairs: &[(&str, &str)]| Options {
        parts: Some(PartsCheck {
            expected: pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        }),
        ..Options::default()
    };
    let options = expecting(&[("chunk_no", "1")]);
    let error = refused(
        folder,
        &[("infer", &infer), ("prefill", &context)],
        &options,
        "com.anemll.context_length is 256 in one, 512 in the other",
    );
    assert!(matches!(error, Error::Combine { at: Some(_), hint: Some(_), .. }), "{error:?}");
    refused(
        folder,
        &[("infer", &infer), ("prefill", &chunk)],
        &options,
        "the part says chunk_no 2, but 1 is asked for",
    );
    let (long, short) = (state(folder, "long", 4, 64), state(folder, "short", 1, 32));
    let other = part("other", 1, &[]);
    let none = expecting(&[]);
    for (list, expected) in [
        ([("infer", &short), ("prefill", &long)], "state `cache` is fp16 [32, 16] in `infer`"),
        ([("infer", &other), ("prefill", &long)], "state `cache` of `prefill` is not in `infer`"),
        ([("infer", &same), ("prefill", &part("three", 3, &[]))], "input `x` is fp16 [4, 16]"),
    ] {
        let list: Vec<(&str, &Path)> = list.iter().map(|(name, p)| (*name, p.as_path())).collect();
        refused(folder, &list, &none, expected);
    }
    let one = part("one", 1, &[("com.anemll.source_sha256", "11")]);
    let two = part("two", 4, &[("com.anemll.source_sha256", "22")]);
    let list: [(&str, &Path); 2] = [("infer", &one), ("prefill", &two)];
    refused(folder, &list, &none, "made from different models");
    // Named one by one they may be of different models, which is told.
    let (_, report) = combine(folder, &list, &Options::default()).unwrap();
    assert_eq!(report.notes, ["infer and prefill were made from different models"]);
    combine(folder, &[("infer", &infer), ("prefill", &same)], &options).unwrap();
}

fn change_model(path: &Path, change: impl FnOnce(&mut Model)) {
    let mut changed = model(path);
    change(&mut changed);
    fs::write(model_file(path), coreml_proto::write(&changed)).unwrap();
}

fn block(model: &mut Model) -> &mut mil::Block {
    let program = anemll_mil::model::program_mut(model).unwrap();
    let function = program.functions.get_mut("main").unwrap();
    function.block_specializations.get_mut("CoreML8").unwrap()
}

fn change_offset(model: &mut Model, change: impl Fn(u64) -> u64) {
    for value in anemll_mil::blob_references_mut(model) {
        if let Some(mil::value::Value::BlobFileValue(blob)) = &mut value.value {
            blob.offset = change(blob.offset);
        }
    }
}

fn change_bytes(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

type Damage = (&'static str, fn(&Path));

/// What may be wrong with a package, and what is said of it.
const DAMAGES: &[Damage] = &[
    ("past the end", |path| change_model(path, |m| change_offset(m, |offset| offset + 6400))),
    ("past the end", |path| change_model(path, |m| change_offset(m, |_| u64::MAX - 63))),
    ("not a multiple of 64", |path| change_model(path, |m| change_offset(m, |o| o + 8))),
    ("file's header", |path| change_model(path, |m| change_offset(m, |_| 0))),
    ("no record starts here", |path| change_bytes(&weight_file(path), |b| b[64] ^= 1)),
    ("unknown element type", |path| change_bytes(&weight_file(path), |b| b[68] = 99)),
    ("end past the file", |path| change_bytes(&weight_file(path), |b| b.truncate(b.len() - 1))),
    ("truncated", |path| change_bytes(&weight_file(path), |b| b.truncate(10))),
    ("padding", |path| change_bytes(&weight_file(path), |b| b[64 + 24] = 3)),
    ("bytes of", |path| {
        // A size that is whole elements, but not those of the program.
        change_bytes(&weight_file(path), |b| {
            b[64 + 8..64 + 16].copy_from_slice(&64_u64.to_le_bytes())
        });
    }),
    ("not a valid `coreml.Model`", |path| {
        change_bytes(&model_file(path), |b| b.truncate(b.len() / 2));
    }),
    ("unknown field 99", |path| {
        change_bytes(&model_file(path), |b| b.extend([0x98, 0x06, 0x01]));
    }),
    ("is missing", |path| fs::write(path.join("Manifest.json"), "{}").unwrap()),
    ("not a plain path", |path| {
        let manifest = path.join("Manifest.json");
        let text = fs::read_to_string(&manifest).unwrap();
        fs::write(manifest, text.replace("com.apple.CoreML/model", "../../../model")).unwrap();
    }),
    ("does not exist in the package", |path| fs::remove_file(model_file(path)).unwrap()),
    ("not a package", |path| fs::remove_file(path.join("Manifest.json")).unwrap()),
    ("not below @model_path", |path| {
        change_model(path, |model| {
            for value in anemll_mil::blob_references_mut(model) {
                if let Some(mil::value::Value::BlobFileValue(blob)) = &mut value.value {
                    blob.file_name = "/etc/passwd".to_owned();
                }
            }
        });
    }),
    ("which is not defined before it", |path| {
        // The last operation first: a value is used before it is there.
        change_model(path, |model| block(model).operations.rotate_right(1));
    }),
    ("which is not defined before it", |path| {
        change_model(path, |model| {
            let last = block(model).operations.last_mut().unwrap();
            let own = last.outputs[0].name.clone();
            let argument = last.inputs.get_mut("x").unwrap();
            argument.arguments[0].binding = Some(mil::argument::binding::Binding::Name(own));
        });
    }),
    ("it has nested blocks", |path| {
        change_model(path, |model| {
            let inner = block(model).clone();
            block(model).operations.last_mut().unwrap().blocks.push(inner);
        });
    }),
    ("`launch` is not an operation", |path| {
        change_model(path, |m| block(m).operations.last_mut().unwrap().r#type = "launch".into());
    }),
    ("can be trained", |path| change_model(path, |model| model.is_updatable = true)),
    ("an attribute of the program or of a function", |path| {
        change_model(path, |model| {
            let value = block(model)
                .operations
                .iter()
                .flat_map(|operation| operation.inputs.values())
                .flat_map(|argument| &argument.arguments)
                .find_map(|binding| match &binding.binding {
                    Some(mil::argument::binding::Binding::Value(value)) => Some(value.clone()),
                    _ => None,
                })
                .unwrap();
            let program = anemll_mil::model::program_mut(model).unwrap();
            program.attributes.insert("a".to_owned(), value);
        });
    }),
];

#[test]
fn damaged_packages() {
    for (number, (expected, damage)) in DAMAGES.iter().enumerate() {
        let folder = tempfile::tempdir().unwrap();
        let weights = [("w", palettes(1)), ("q", plain(1))];
        let made = |tokens| Made { tokens, weights: &weights, ..Made::default() };
        let good = package(folder.path(), "good", &made(1));
        let bad = package(folder.path(), "bad", &made(4));
        damage(&bad);
        let list: [(&str, &Path); 2] = [("infer", &good), ("prefill", &bad)];
        let error = refused(folder.path(), &list, &Options::default(), expected);
        assert!(!matches!(error, Error::Cancelled), "{number}");
        assert!(JoinPlan::split(&bad, "main", &|| false).is_err(), "split takes {expected}");
    }
}

/// As deep as the file says, 10 000 blocks in blocks, and as wide.
#[test]
fn blocks_in_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let weights = [("q", plain(1))];
    let path = package(folder.path(), "deep", &Made { weights: &weights, ..Made::default() });
    // Encoded from the inside out, since no encoder would go so deep either.
    let varint = |mut number: usize| {
        let mut bytes = Vec::new();
        while number >= 0x80 {
            bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        bytes.push(number as u8);
        bytes
    };
    let field = |tag: &[u8], inner: &[u8]| [tag, &varint(inner.len()), inner].concat();
    let mut inner = Vec::new();
    for _ in 0..10_000 {
        inner = field(&[0x1a], &field(&[0x22], &inner)); // Block.operations, Operation.blocks
    }
    let block = [field(&[0x0a], b"CoreML8"), field(&[0x12], &inner)].concat();
    let function = [field(&[0x12], b"CoreML8"), field(&[0x1a], &block)].concat();
    let entry = [field(&[0x0a], b"main"), field(&[0x12], &function)].concat();
    let program = [vec![0x08, 1], field(&[0x12], &entry)].concat();
    let bytes = [vec![0x08, 9], field(&[0xb2, 0x1f], &program)].concat();
    fs::write(model_file(&path), bytes).unwrap();
    refused(folder.path(), &[("infer", &path)], &Options::default(), "not a valid");
}

#[test]
fn dedup_refuses_what_is_no_package() {
    let folder = tempfile::tempdir().unwrap();
    assert!(compare(&[folder.path().join("nowhere.mlpackage")], None, &|| false).is_err());
    assert!(compare(&[folder.path().to_owned()], None, &|| false).is_err());
}
