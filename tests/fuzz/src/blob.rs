//! The reader of weight files.

use crate::{say, scratch};
use anemll_mlpackage::BlobFile;

/// How many offsets of a file are asked for, beside those of its walk.
const PROBES: u64 = 256;

/// Reads the bytes as a weight file: its walk, and a record at every aligned offset.
pub fn blob(data: &[u8]) -> String {
    let folder = scratch();
    let path = folder.path().join("weight.bin");
    if let Err(error) = std::fs::write(&path, data) {
        panic!("cannot write a temporary file: {error}");
    }
    let mut answers = String::new();
    if let Some(file) = say(&mut answers, "open", BlobFile::open(&path)) {
        walk(&file, &mut answers);
    }
    answers.replace(&*folder.path().to_string_lossy(), "")
}

/// Walks over the records of a file, and asks for others.
pub(crate) fn walk(file: &BlobFile, answers: &mut String) {
    let mut walked = 0;
    for record in file.records() {
        walked += 1;
        if let Some(record) = say(answers, "walk", record) {
            examine(file, record, answers);
        }
    }
    assert!(walked <= file.count(), "more records than the header announces");
    let words = first_words(file);
    for probe in 0..PROBES.min(file.size_in_bytes() / 64 + 2) {
        if let Ok(record) = file.record(probe * 64) {
            examine(file, record, answers);
        }
        // Offsets that the file itself holds lead to odd places.
        let at = usize::try_from(probe * 8).unwrap_or_default();
        if let Some(word) = words.get(at..at + 8) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            say(answers, "probe", file.record(u64::from_le_bytes(bytes)));
        }
    }
}

/// The first record's data, as a source of numbers.
fn first_words(file: &BlobFile) -> Vec<u8> {
    file.record(64).and_then(|record| file.read(&record)).unwrap_or_default()
}

fn examine(file: &BlobFile, record: anemll_mlpackage::BlobRecord, answers: &mut String) {
    let Some(bytes) = say(answers, "read", file.read(&record)) else { return };
    assert_eq!(bytes.len() as u64, record.size_in_bytes(), "checked data are not all there");
    let kind = record.blob_type();
    let bits = u128::from(record.elements()) * u128::from(kind.bits());
    let expected = u128::from(record.size_in_bytes()) * 8 - u128::from(record.padding_bits());
    assert_eq!(bits, expected, "elements do not fill the data");
    answers.push_str(kind.name());
    answers.push('\n');
}
