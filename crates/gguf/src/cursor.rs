//! Reading the header from its beginning to its end.

use crate::error::{Error, Result};
use crate::source::Source;
use crate::value::{Kind, List, Plain, Value};

/// Bytes that are read at once.
const STEP: usize = 64 << 10;
/// Largest header. Those of the largest vocabularies have 30 MB.
const LARGEST: u64 = 256 << 20;
/// Longest name of a key or tensor.
const LONGEST_NAME: u64 = 65_535;
/// Most texts of a list. The largest vocabularies have 300,000 tokens and twice as many merges.
const MOST_TEXTS: u64 = 1 << 22;

/// A place in the header.
pub(crate) struct Cursor<'a, S: Source + ?Sized> {
    source: &'a S,
    /// Bytes of the file.
    size: u64,
    /// Where the buffer begins.
    start: u64,
    buffer: Vec<u8>,
    /// The place within the buffer.
    at: usize,
}

impl<'a, S: Source + ?Sized> Cursor<'a, S> {
    pub(crate) fn new(source: &'a S, size: u64) -> Self {
        Self { source, size, start: 0, buffer: Vec::new(), at: 0 }
    }

    /// Bytes from the beginning of the file.
    pub(crate) fn position(&self) -> u64 {
        self.start + self.at as u64
    }

    /// Bytes from here to the end of the file.
    pub(crate) fn left(&self) -> u64 {
        self.size.saturating_sub(self.position())
    }

    /// The next bytes.
    pub(crate) fn take(&mut self, count: u64) -> Result<&[u8]> {
        if count > self.left() {
            return Err(Error::invalid(format!(
                "cut short: {} bytes, but the header goes on",
                self.size
            )));
        }
        if self.position() + count > LARGEST {
            return Err(Error::invalid(format!("the header has more than {LARGEST} bytes")));
        }
        let count = count as usize;
        if self.buffer.len() - self.at < count {
            self.start += self.at as u64;
            self.at = 0;
            let length = (STEP.max(count) as u64).min(self.size - self.start) as usize;
            self.buffer.resize(length, 0);
            self.source.read(&mut self.buffer, self.start)?;
        }
        self.at += count;
        Ok(&self.buffer[self.at - count..self.at])
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    pub(crate) fn text(&mut self) -> Result<String> {
        let length = self.u64()?;
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes);
        text.map(str::to_owned).map_err(|_| Error::invalid("a text is not valid UTF-8"))
    }

    /// A text that names a key or a tensor.
    pub(crate) fn name(&mut self) -> Result<String> {
        let name = self.text()?;
        let wrong = match name.len() as u64 {
            0 => "the name is empty",
            length if length > LONGEST_NAME => "the name has more than 65,535 bytes",
            _ if name.chars().any(char::is_control) => "the name has control characters",
            _ => return Ok(name),
        };
        Err(Error::invalid(wrong))
    }

    /// A value, after its type.
    pub(crate) fn value(&mut self) -> Result<Value> {
        let number = self.u32()?;
        let kind = kind(number)?;
        match (kind, kind.width()) {
            (_, Some(width)) => Ok(kind.value(self.take(width as u64)?)),
            (Kind::Text, None) => self.text().map(Value::Text),
            (_, None) => self.list().map(Value::List),
        }
    }

    fn list(&mut self) -> Result<List> {
        let number = self.u32()?;
        let kind = kind(number)?;
        let count = self.u64()?;
        // A text takes the eight bytes of its length at least.
        let least = kind.width().unwrap_or(8) as u64;
        let bytes = count.checked_mul(least).filter(|bytes| *bytes <= self.left());
        let Some(bytes) = bytes else {
            return Err(Error::invalid(format!(
                "a list of {count} values, which the {} bytes of the file cannot hold",
                self.size
            )));
        };
        match kind {
            Kind::List => Err(Error::invalid("lists within lists are not known")),
            Kind::Text if count > MOST_TEXTS => {
                Err(Error::invalid(format!("a list of {count} texts, more than {MOST_TEXTS}")))
            }
            Kind::Text => {
                let mut texts = Vec::new();
                for _ in 0..count {
                    texts.push(self.text()?);
                }
                Ok(List::Texts(texts))
            }
            kind => Ok(List::Plain(Plain { kind, bytes: self.take(bytes)?.to_vec() })),
        }
    }
}

fn kind(number: u32) -> Result<Kind> {
    Kind::of(number)
        .ok_or_else(|| Error::invalid(format!("the metadata has a value of unknown type {number}")))
}
