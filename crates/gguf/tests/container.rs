//! The header and the blocks: real ones, and ones that cannot be.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_gguf::{Container, ErrorKind, Value};
use safetensors::SafeTensors;
use std::path::PathBuf;

fn golden(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/models/gguf");
    std::fs::read(folder.join(name)).unwrap()
}

#[test]
fn values_are_those_of_the_formats_own_library() {
    let file = golden("blocks.gguf");
    let expected = golden("blocks.safetensors");
    let expected = SafeTensors::deserialize(&expected).unwrap();
    let container = Container::read(&file[..], file.len() as u64).unwrap();
    assert_eq!(container.tensors().len(), 13);
    for tensor in container.tensors() {
        let values = tensor.values(&file[..]).unwrap();
        let bits: Vec<u32> = values.iter().map(|value| value.to_bits()).collect();
        let golden: Vec<u32> = expected
            .tensor(&tensor.name)
            .unwrap()
            .data()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|bytes| u32::from_le_bytes(*bytes))
            .collect();
        assert_eq!(tensor.shape, [4, 512]);
        assert!(bits == golden, "{}", tensor.name);
    }
}

/// Writes headers by hand.
#[derive(Default, Clone)]
struct Header(Vec<u8>);

impl Header {
    fn new(tensors: u64, keys: u64) -> Self {
        Self(b"GGUF".to_vec()).u32(3).u64(tensors).u64(keys)
    }
    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }
    fn text(mut self, text: &str) -> Self {
        self = self.u64(text.len() as u64);
        self.0.extend(text.as_bytes());
        self
    }
    fn key(self, name: &str, text: &str) -> Self {
        self.text(name).u32(8).text(text)
    }
    fn tensor(self, name: &str, shape: &[u64], kind: u32, offset: u64) -> Self {
        let named = self.text(name).u32(shape.len() as u32);
        let shaped = shape.iter().fold(named, |header, side| header.u64(*side));
        shaped.u32(kind).u64(offset)
    }
    fn data(mut self, bytes: usize) -> Self {
        let start = self.0.len().next_multiple_of(32);
        self.0.resize(start + bytes, 0);
        self
    }
    fn read(&self) -> Result<Container, anemll_gguf::Error> {
        Container::read(&self.0[..], self.0.len() as u64)
    }
}

#[test]
fn a_file_that_is_sound() {
    let file = Header::new(2, 2)
        .key("general.architecture", "x")
        .text("list")
        .u32(9)
        .u32(4)
        .u64(2)
        .u32(7)
        .u32(8)
        .tensor("a", &[32, 2], 8, 0)
        .tensor("b", &[3], 0, 96)
        .data(96 + 12);
    let container = file.read().unwrap();
    assert_eq!(container.version(), 3);
    assert_eq!(container.tensors()[0].shape, [2, 32]);
    assert_eq!(container.tensors()[0].bytes, 68);
    let Some(Value::List(list)) = container.get("list") else { panic!() };
    assert_eq!(list.values().map(|value| value.size()).collect::<Vec<_>>(), [Some(7), Some(8)]);
}

#[test]
fn what_cannot_be_is_an_error_that_says_what() {
    let tensor =
        |shape: &[u64], kind, offset| Header::new(1, 0).tensor("t", shape, kind, offset).data(128);
    for (file, words) in [
        (Header::default(), "not a GGUF file"),
        (Header(b"GGUFxx".to_vec()), "cut short"),
        (Header::new(0, 1 << 60), "keys, which"),
        (Header::new(u64::MAX, 0), "tensors, which"),
        (Header::new(0, 1).text("k").u32(13).u64(0), "unknown type 13"),
        (Header::new(0, 1).text("k").u32(9).u32(9).u64(1).u32(4).u64(0), "lists within lists"),
        (Header::new(0, 1).text("k").u32(9).u32(4).u64(1 << 62), "a list of"),
        (Header::new(0, 1).text("k").u32(9).u32(8).u64(1 << 40), "a list of"),
        (
            Header::new(0, 1).text("k").u32(9).u32(8).u64((1 << 22) + 1).data(8 << 22).data(64),
            "4194305 texts, more than",
        ),
        (Header::new(0, 2).key("k", "1").key("", "2"), "key 2: the name is empty"),
        (Header::new(0, 1).key("a\x1b[2J", "1"), "key 1: the name has control characters"),
        (Header::new(0, 1).key(&"k".repeat(70_000), "1"), "key 1: the name has more than"),
        (Header::new(1, 0).tensor("", &[4], 0, 0).data(64), "tensor 1: the name is empty"),
        (Header::new(0, 1).key("general.alignment", "0"), "is not an alignment"),
        (Header::new(0, 1).text("general.alignment").u32(4).u32(0).data(64), "is not an alignment"),
        (Header::new(0, 1).text("general.alignment").u32(4).u32(3).data(64), "is not an alignment"),
        (Header::new(0, 1).text("k").u32(8).u64(1 << 40), "cut short"),
        (Header::new(0, 2).key("k", "1").key("k", "2"), "is there twice"),
        (Header::new(0, 1).key("general.alignment", "32"), "not an alignment"),
        (tensor(&[32], 0, 128), "cut short"),
        (tensor(&[1 << 40], 0, 0), "cut short"),
        (tensor(&[1 << 32, 1 << 32], 0, 0), "cannot have the shape"),
        (tensor(&[], 0, 0), "0 dimensions"),
        (tensor(&[0], 0, 0), "cannot have the shape"),
        (tensor(&[1, 1, 1, 1, 1], 0, 0), "5 dimensions"),
        (tensor(&[33], 8, 0), "not a multiple of 32, the block size"),
        (tensor(&[4], 0, 4), "not a multiple of 32"),
        (tensor(&[4], 0, u64::MAX - 31), "cut short"),
        (
            Header::new(2, 0).tensor("t", &[4], 0, 0).tensor("t", &[4], 0, 32).data(64),
            "is there twice",
        ),
        (
            Header::new(2, 0).tensor("t", &[16], 0, 0).tensor("u", &[4], 0, 32).data(64),
            "overlaps `t`",
        ),
    ] {
        let error = file.read().unwrap_err();
        assert!(error.reason.contains(words), "{words}: {error}");
        assert_eq!(error.kind, ErrorKind::Invalid, "{words}");
    }
    for (file, words) in [
        (tensor(&[4], 99, 0), "unknown type 99"),
        (Header(b"GGUF\x01\0\0\0".to_vec()), "version 1"),
        (Header(b"GGUF\x04\0\0\0".to_vec()), "version 4"),
        (Header(b"GGUF\0\0\0\x03".to_vec()), "big-endian"),
    ] {
        let error = file.read().unwrap_err();
        assert!(error.reason.contains(words), "{words}: {error}");
        assert_eq!(error.kind, ErrorKind::Unsupported, "{words}");
    }
}

#[test]
fn every_file_that_is_cut_short_is_an_error() {
    let file = golden("rope-llama3.gguf");
    let whole = file.len();
    for end in (0..whole).step_by(997).chain([whole - 1]) {
        let result = Container::read(&file[..end], end as u64);
        assert!(result.is_err(), "{end} of {whole}");
    }
}
