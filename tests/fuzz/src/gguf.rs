//! The reader of GGUF files.

use crate::say;
use anemll_gguf::{Container, Summary, config, tokenizer, weights};

/// Largest weight that is read whole.
const LARGEST: u64 = 1 << 16;

/// Reads the bytes as a GGUF file: its header, its values, and what it is in transformers' terms.
pub fn gguf(data: &[u8]) -> String {
    let mut answers = String::new();
    let Some(file) = say(&mut answers, "header", Container::read(data, data.len() as u64)) else {
        return answers;
    };
    assert!(!Summary::of(&file).line().is_empty());
    let inside =
        file.tensors().iter().all(|tensor| tensor.start + tensor.bytes <= data.len() as u64);
    assert!(inside, "a tensor lies beyond the file");
    say(&mut answers, "config", config(&file, data));
    say(&mut answers, "tokenizer", tokenizer::files(&file));
    for weight in say(&mut answers, "weights", weights(&file)).into_iter().flatten() {
        let elements = weight.elements().min(LARGEST) as usize;
        let mut whole = vec![0; elements * weight.format.width()];
        let read = weight.read(data, 0, &mut whole);
        assert!(read.is_ok(), "a weight that is in the file cannot be read: {read:?}");
        // A part is the same wherever it begins.
        let first = elements / 3;
        let mut part = vec![0; whole.len() - first * weight.format.width()];
        let read = weight.read(data, first as u64, &mut part);
        assert!(read.is_ok() && whole.ends_with(&part), "a part is not what the whole is");
    }
    answers
}
