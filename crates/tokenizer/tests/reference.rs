//! Ids against those of transformers, and streams against the library's own decoding.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tokenizer::{TextStream, Tokenizer};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests")
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn base(name: &str) -> PathBuf {
    match name {
        "spm" => tests().join("reference/tokenizers/spm.json"),
        model => tests().join("models").join(model).join("tokenizer.json"),
    }
}

/// A case of make_tokenizer_goldens.py as a directory.
fn directory(case: &Value) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut tokenizer = json(&base(case["base"].as_str().unwrap()));
    for (key, value) in case["keys"].as_object().unwrap() {
        tokenizer[key] = value.clone();
    }
    std::fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
    for (name, content) in case["files"].as_object().unwrap() {
        std::fs::write(folder.path().join(name), content.to_string()).unwrap();
    }
    if case["sentencepiece"] == true {
        std::fs::write(folder.path().join("tokenizer.model"), "").unwrap();
    }
    folder
}

fn ids(value: &Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// Compares every case that is not refused and that `counts`; gives their number.
fn compare(file: &str, counts: impl Fn(&str) -> bool) -> usize {
    let golden = json(&tests().join("reference/tokenizers").join(file));
    let texts: Vec<&str> =
        golden["texts"].as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect();
    let mut count = 0;
    for case in golden["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let folder = directory(case);
        // What transformers refuses is opened all the same.
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        if case.get("refused").is_some() || !counts(name) {
            continue;
        }
        assert_eq!(case["ids"].as_array().unwrap().len(), texts.len(), "{name}");
        for (text, expected) in texts.iter().zip(case["ids"].as_array().unwrap()) {
            for (special, expected) in [(true, &expected[0]), (false, &expected[1])] {
                let found = tokenizer.encode(text, special).unwrap();
                assert_eq!(found, ids(expected), "{name}: {text:?}, special {special}");
            }
        }
        for token in ["bos_token", "eos_token", "unk_token", "pad_token"] {
            let expected = case["tokens"].get(token).and_then(Value::as_str);
            assert_eq!(tokenizer.named_token(token), expected, "{name}: {token}");
        }
        count += 1;
    }
    count
}

#[test]
fn ids_are_those_of_transformers() {
    assert!(compare("ids-4.json", |_| true) > 130);
    // The class that only transformers 5 knows.
    assert_eq!(compare("ids-5.json", |name| name.starts_with("TokenizersBackend")), 12);
}

/// The library's decoding of prompt and answer, without the prompt's beginning.
fn whole(library: &tokenizers::Tokenizer, prompt: &[u32], answer: &[u32]) -> String {
    let before = library.decode(prompt, true).unwrap();
    let all = library.decode(&[prompt, answer].concat(), true).unwrap();
    let same = all.chars().zip(before.chars()).take_while(|(left, right)| left == right);
    all[same.map(|(character, _)| character.len_utf8()).sum::<usize>()..].to_owned()
}

#[test]
fn a_stream_is_the_text_of_all_tokens() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for name in ["tiny-llama", "tiny-qwen2", "tiny-qwen3", "spm"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(base(name), folder.path().join("tokenizer.json")).unwrap();
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let library = tokenizers::Tokenizer::from_file(base(name)).unwrap();
        let size = library.get_vocab_size(true) as u32;
        // Byte tokens of spm are where the first ids are.
        for round in 0..1500 {
            let range = if round % 2 == 0 { size + 2 } else { 270.min(size) };
            let mut draw = |most: u32| -> Vec<u32> {
                (0..random.next_u32() % most).map(|_| random.next_u32() % range).collect()
            };
            let (prompt, answer) = (draw(6), draw(40));
            let mut stream = TextStream::new(&tokenizer, &prompt).unwrap();
            let mut text = String::new();
            for token in &answer {
                text += &stream.push(*token).unwrap();
            }
            text += &stream.finish().unwrap();
            assert_eq!(text, whole(&library, &prompt, &answer), "{name}: {prompt:?} {answer:?}");
            let alone = library.decode(&answer, true).unwrap();
            assert_eq!(tokenizer.decode(&answer).unwrap(), alone, "{name}: {answer:?}");
        }
    }
}

#[test]
fn a_stream_shows_whole_characters_as_they_come() {
    let tokenizer = Tokenizer::open(&tests().join("models/tiny-llama")).unwrap();
    for text in ["Naïve café: 日本語, 🙂🙃!", "  two  spaces\n\nand lines\n"] {
        let tokens = tokenizer.encode(text, false).unwrap();
        let mut stream =
            TextStream::new(&tokenizer, &tokenizer.encode("So", true).unwrap()).unwrap();
        let mut parts: Vec<String> =
            tokens.iter().map(|token| stream.push(*token).unwrap()).collect();
        parts.push(stream.finish().unwrap());
        assert!(parts.iter().all(|part| !part.contains('\u{fffd}')), "{parts:?}");
        assert_eq!(parts.concat(), text);
    }
    let tokens = tokenizer.encode("🙂", false).unwrap();
    assert!(tokens.len() > 1, "the test needs a character of several tokens");
    let mut stream = TextStream::new(&tokenizer, &[]).unwrap();
    assert_eq!(stream.push(tokens[0]).unwrap(), "");
    assert!(stream.finish().unwrap().contains('\u{fffd}'));
}
