//! Changes to inputs: of bytes, of words of a text, of fields of a protobuf message, of files of an
//! archive. The same seed gives the same changes.

use crate::archive;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

/// What the bytes of a target are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Anything.
    Bytes,
    /// Words and signs.
    Text,
    /// A protobuf message.
    Protobuf,
    /// Files, as [`crate::archive`] packs them.
    Archive,
}

/// Inputs never become larger than this many bytes.
pub const MAXIMUM_BYTES: usize = 128 << 10;

/// Numbers at which code breaks.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    63,
    64,
    0x7f,
    0xff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    u64::MAX,
];

/// The same for texts.
const WORDS: [&str; 16] = [
    "0",
    "1",
    "-1",
    "2147483648",
    "-2147483649",
    "18446744073709551616",
    "0x1p+0",
    "0x1p-1074",
    "1e400",
    "nan",
    "inf",
    "null",
    "\"\"",
    "\"\\u0000\"",
    "[]",
    "?",
];

/// Makes changes.
#[derive(Debug)]
pub struct Mutator {
    random: ChaCha8Rng,
}

impl Mutator {
    /// Changes that depend on the seed alone.
    pub fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// A number below `limit`, 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        // The bias of the remainder does not matter here.
        let number = self.random.next_u64() % (limit.max(1) as u64);
        number as usize
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        // Short ranges are much more frequent than long ones.
        let limit = 1 << self.below(12);
        start..length.min(start + self.below(limit) + 1)
    }

    /// A changed `input`; parts of `other` may come in.
    pub fn mutate(&mut self, form: Form, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..1 << self.below(4) {
            bytes = match form {
                _ if self.below(4) == 0 => self.bytes(&bytes, other),
                Form::Bytes => self.bytes(&bytes, other),
                Form::Text => self.text(&bytes, other),
                Form::Protobuf => self.message(&bytes, other, 0),
                Form::Archive => self.archive(&bytes, other),
            };
            bytes.truncate(MAXIMUM_BYTES);
        }
        bytes
    }

    fn bytes(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut bytes = input.to_vec();
        let at = self.below(bytes.len());
        let range = self.range(bytes.len());
        match self.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
            1 if !bytes.is_empty() => bytes[at] = self.random.next_u32() as u8,
            2 => drop(bytes.drain(range)),
            3 => {
                let copy = bytes[range].to_vec();
                bytes.splice(at..at, copy);
            }
            4 => {
                let taken = self.range(other.len());
                bytes.splice(range, other[taken].iter().copied());
            }
            5 => {
                // The front of one, the end of the other.
                bytes.truncate(at);
                bytes.extend_from_slice(&other[self.below(other.len() + 1)..]);
            }
            kind => {
                // A word of 1, 2, 4 or 8 bytes becomes another, or a little more or less.
                let width = 1 << self.below(4);
                // Words mostly stand at multiples of their size.
                let at = if kind == 6 { at / width * width } else { at };
                if let Some(word) = bytes.get_mut(at..at + width) {
                    let mut number = [0; 8];
                    number[..width].copy_from_slice(word);
                    let number = if kind == 7 {
                        NUMBERS[self.below(NUMBERS.len())]
                    } else {
                        let step = self.below(35) as u64;
                        u64::from_le_bytes(number).wrapping_add(step).wrapping_sub(17)
                    };
                    word.copy_from_slice(&number.to_le_bytes()[..width]);
                } else {
                    bytes.push(self.random.next_u32() as u8);
                }
            }
        }
        bytes
    }

    fn text(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut words = words(input);
        let others = words_or_default(other);
        let at = self.below(words.len());
        let range = at..words.len().min(at + 1 + self.below(8));
        let from = self.below(others.len());
        let taken = &others[from..others.len().min(from + 1 + self.below(24))];
        match self.below(7) {
            0 => drop(words.drain(range)),
            1 => {
                let copy = words[range].to_vec();
                words.splice(at..at, copy);
            }
            2 => {
                let second = self.below(words.len());
                if !words.is_empty() {
                    words.swap(at, second);
                }
            }
            3 => drop(words.splice(range, taken.iter().copied())),
            // One word for another of its kind: a name, a number, a sign.
            4 if !words.is_empty() => {
                let kind = kind(words[at]);
                let same = |word: &&&[u8]| self::kind(word) == kind;
                let count = others.iter().filter(same).count();
                if let Some(word) = others.iter().filter(same).nth(self.below(count)) {
                    words[at] = word;
                }
            }
            _ => {
                let word = WORDS[self.below(WORDS.len())].as_bytes();
                words.splice(at..(at + 1).min(words.len()), [word]);
            }
        }
        words.concat()
    }

    /// Changes a field of the message, or of one inside it.
    fn message(&mut self, input: &[u8], other: &[u8], depth: usize) -> Vec<u8> {
        let Some(mut fields) = fields(input).filter(|fields| !fields.is_empty()) else {
            return self.bytes(input, other);
        };
        let at = self.below(fields.len());
        let others = fields_or_default(other);
        let same: Vec<_> = others.iter().filter(|field| field.key == fields[at].key).collect();
        let peer = same.get(self.below(same.len())).map(|field| (*field).clone());
        let long = fields[at].key & 7 == LENGTH && !fields[at].content.is_empty();
        if long && depth < 40 && self.below(8) != 0 {
            let inner = peer.as_ref().map_or(&[][..], |field| &field.content);
            fields[at].content = self.message(&fields[at].content, inner, depth + 1);
        } else {
            match self.below(6) {
                0 => drop(fields.remove(at)),
                1 => {
                    let second = self.below(fields.len());
                    fields.insert(second, fields[at].clone());
                }
                2 => {
                    let second = self.below(fields.len());
                    fields.swap(at, second);
                }
                3 => fields[at].key = fields[self.below(fields.len())].key,
                4 if peer.is_some() => fields.extend(peer),
                _ if fields[at].key & 7 == 0 => {
                    let number = NUMBERS[self.below(NUMBERS.len())];
                    fields[at].content = varint(number >> self.below(3));
                }
                _ => fields[at].content = self.bytes(&fields[at].content, other),
            }
        }
        let mut bytes = Vec::new();
        for field in &fields {
            bytes.extend(varint(field.key));
            if field.key & 7 == LENGTH {
                bytes.extend(varint(field.content.len() as u64));
            }
            bytes.extend_from_slice(&field.content);
        }
        bytes
    }

    fn archive(&mut self, input: &[u8], other: &[u8]) -> Vec<u8> {
        let mut entries = archive::unpack(input);
        let others = archive::unpack(other);
        let at = self.below(entries.len());
        match (entries.get_mut(at), others.get(self.below(others.len()))) {
            (Some((name, data)), Some((_, second))) => match self.below(20) {
                0 => drop(entries.remove(at)),
                1 => *name = self.bytes(name, other),
                2 => second.clone_into(data),
                3 => entries.extend(others),
                _ => {
                    let second = others.iter().find(|entry| entry.0 == *name);
                    let second = second.map_or(&[][..], |(_, data)| data);
                    *data = match name.rsplit(|byte| *byte == b'.').next() {
                        Some(b"json") => self.text(data, second),
                        Some(b"mlmodel") => self.message(data, second, 0),
                        _ => self.bytes(data, second),
                    };
                }
            },
            _ => return self.bytes(input, other),
        }
        archive::pack(&entries)
    }
}

/// The words of a text: names and numbers, strings, spaces, single signs.
fn words(text: &[u8]) -> Vec<&[u8]> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.first() {
        let kind = byte_kind(*first);
        let length = match (first, kind) {
            (b'"', _) => {
                rest.iter().skip(1).position(|byte| *byte == b'"').map_or(1, |end| end + 2)
            }
            (_, 3) => 1,
            _ => rest.iter().take_while(|byte| byte_kind(**byte) == kind).count(),
        };
        let (word, after) = rest.split_at(length);
        words.push(word);
        rest = after;
    }
    words
}

fn words_or_default(text: &[u8]) -> Vec<&[u8]> {
    let words = words(text);
    if words.is_empty() { vec![b"x"] } else { words }
}

fn byte_kind(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'@' | b'.' | b'+' | b'-' => 1,
        b' ' | b'\n' | b'\r' | b'\t' => 2,
        _ => 3,
    }
}

fn kind(word: &[u8]) -> u8 {
    match word.first() {
        Some(b'0'..=b'9' | b'-') => 4,
        Some(b'"') => 5,
        first => first.map_or(0, |byte| byte_kind(*byte)),
    }
}

/// Wire type of strings, bytes and messages.
const LENGTH: u64 = 2;

/// A field as it stands in a message.
#[derive(Debug, Clone)]
struct Field {
    key: u64,
    /// Without the length in front.
    content: Vec<u8>,
}

fn fields_or_default(bytes: &[u8]) -> Vec<Field> {
    fields(bytes).unwrap_or_default()
}

/// The fields of a message; `None` for what is none.
fn fields(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = read_varint(&mut bytes)?;
        let length = match key & 7 {
            0 => {
                let mut rest = bytes;
                read_varint(&mut rest)?;
                bytes.len() - rest.len()
            }
            1 => 8,
            LENGTH => usize::try_from(read_varint(&mut bytes)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (content, rest) = bytes.split_at_checked(length)?;
        fields.push(Field { key, content: content.to_vec() });
        bytes = rest;
    }
    Some(fields)
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while number > 0x7f {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}
