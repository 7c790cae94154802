//! The primitives of the format: integers of variable length, flags, and bytes.

use crate::error::{Error, Result};

/// Bytes that are put together from primitives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Record(Vec<u8>);

impl Record {
    /// No bytes yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The bytes.
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an unsigned integer in as few bytes as it needs, 1 to 9.
    pub fn varint(&mut self, value: u64) -> &mut Self {
        let bits = (64 - value.leading_zeros()).max(1);
        let extra = bits.div_ceil(7) - 1;
        if extra < 8 {
            // The number of zero bits at the end is the number of bytes that follow the first.
            let word = ((u128::from(value) << 1) | 1) << extra;
            self.0.extend(word.to_le_bytes().iter().take(extra as usize + 1));
        } else {
            self.0.push(0);
            self.0.extend(value.to_le_bytes());
        }
        self
    }

    /// Adds a signed integer: small ones of both signs are short.
    pub fn signed_varint(&mut self, value: i64) -> &mut Self {
        self.varint(((value << 1) ^ (value >> 63)).cast_unsigned())
    }

    /// Adds a value and a flag in one integer.
    pub fn flagged(&mut self, value: u64, flag: bool) -> Result<&mut Self> {
        let shifted = value.checked_mul(2);
        let shifted = shifted.ok_or_else(|| Error::Document(format!("{value} is too large")))?;
        Ok(self.varint(shifted | u64::from(flag)))
    }

    /// Adds a byte.
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    /// Adds bytes as they are.
    pub fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend(bytes);
        self
    }
}

/// Reads primitives from bytes that lie somewhere in a file.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    /// Where `bytes` begin in the file.
    start: u64,
    place: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes`, which begin at `start` of the file that errors are about.
    pub const fn new(bytes: &'a [u8], start: u64) -> Self {
        Self { bytes, start, place: 0 }
    }

    /// Where in the file the next byte is.
    pub const fn offset(&self) -> u64 {
        self.start + self.place as u64
    }

    /// Bytes that are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.place
    }

    /// An error at the next byte.
    pub fn error(&self, message: impl Into<String>) -> Error {
        Error::Malformed { offset: self.offset(), message: message.into() }
    }

    /// The next bytes.
    ///
    /// # Errors
    /// Fewer bytes are left.
    pub fn bytes(&mut self, count: u64) -> Result<&'a [u8]> {
        let taken = usize::try_from(count).ok().filter(|count| *count <= self.left());
        let Some(count) = taken else {
            return Err(self.error(format!(
                "the data end too early: of {count} bytes there are {}",
                self.left()
            )));
        };
        let taken = &self.bytes[self.place..self.place + count];
        self.place += count;
        Ok(taken)
    }

    /// The next byte.
    ///
    /// # Errors
    /// None is left.
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.bytes(1)?[0])
    }

    /// A byte that is 0 or 1.
    ///
    /// # Errors
    /// It is neither, or none is left.
    pub fn boolean(&mut self) -> Result<bool> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(format!("{other} stands where 0 or 1 is wanted"))),
        }
    }

    /// An unsigned integer.
    ///
    /// # Errors
    /// It is cut off.
    pub fn varint(&mut self) -> Result<u64> {
        let first = self.byte()?;
        let extra = first.trailing_zeros();
        let mut word = [0; 8];
        if extra == 8 {
            word.copy_from_slice(self.bytes(8)?);
            return Ok(u64::from_le_bytes(word));
        }
        word[0] = first;
        let rest = self.bytes(u64::from(extra))?;
        word[1..=rest.len()].copy_from_slice(rest);
        Ok(u64::from_le_bytes(word) >> (extra + 1))
    }

    /// A signed integer.
    ///
    /// # Errors
    /// It is cut off.
    pub fn signed_varint(&mut self) -> Result<i64> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    /// A value and a flag.
    ///
    /// # Errors
    /// They are cut off.
    pub fn flagged(&mut self) -> Result<(u64, bool)> {
        let value = self.varint()?;
        Ok((value >> 1, value & 1 == 1))
    }

    /// The number of things that follow, each of which takes a byte at least.
    ///
    /// # Errors
    /// So many cannot follow.
    pub fn count(&mut self) -> Result<usize> {
        let count = self.varint()?;
        self.fitting(count)
    }

    /// As [`Self::count`], for a number that was read already.
    ///
    /// # Errors
    /// So many cannot follow.
    pub fn fitting(&self, count: u64) -> Result<usize> {
        usize::try_from(count).ok().filter(|count| *count <= self.left()).ok_or_else(|| {
            self.error(format!("{count} entries are announced, {} bytes are left", self.left()))
        })
    }

    /// An index below `count`, which is the number of `what`.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn index(&mut self, count: usize, what: &str) -> Result<u32> {
        let index = self.varint()?;
        self.below(index, count, what)
    }

    /// As [`Self::index`], for an index that was read already.
    ///
    /// # Errors
    /// There is no such entry.
    pub fn below(&self, index: u64, count: usize, what: &str) -> Result<u32> {
        let found = u32::try_from(index).ok().filter(|index| (*index as usize) < count);
        found.ok_or_else(|| self.error(format!("{what} {index} is named, but there are {count}")))
    }

    /// Text up to a NUL, which is taken, too.
    ///
    /// # Errors
    /// No NUL follows, or the text is not UTF-8.
    pub fn text(&mut self) -> Result<&'a str> {
        let rest = &self.bytes[self.place..];
        let length = rest.iter().position(|byte| *byte == 0);
        let length = length.ok_or_else(|| self.error("a text has no end"))?;
        let text = self.bytes(length as u64)?;
        let text = std::str::from_utf8(text);
        let text = text.map_err(|_| self.error("a text is not valid UTF-8"))?;
        self.place += 1;
        Ok(text)
    }

    /// Checks that nothing is left of `what`.
    ///
    /// # Errors
    /// Bytes are left.
    pub fn end(&self, what: &str) -> Result<()> {
        match self.left() {
            0 => Ok(()),
            left => Err(self.error(format!("{left} bytes are left behind the end of {what}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_have_the_bytes_of_the_format() {
        let one = |value: u64| Record::new().varint(value).clone().into_bytes();
        assert_eq!(one(0), [0x01]);
        assert_eq!(one(6), [0x0d]);
        assert_eq!(one(127), [0xff]);
        assert_eq!(one(128), [0x02, 0x02]);
        assert_eq!(one(u64::MAX), [[0].as_slice(), &[0xff; 8]].concat());
        let signed = |value: i64| Record::new().signed_varint(value).clone().into_bytes();
        assert_eq!(signed(1), [0x05]);
        assert_eq!(signed(-1), [0x03]);
        assert_eq!(signed(64), [0x02, 0x02]);
        // An unknown size of a tensor.
        assert_eq!(signed(i64::MIN), [[0].as_slice(), &[0xff; 8]].concat());
    }

    #[test]
    fn integers_read_as_they_were_written() {
        for shift in 0..64 {
            for value in [1_u64 << shift, (1_u64 << shift) - 1, (1_u64 << shift) | 1] {
                let bytes = Record::new().varint(value).clone().into_bytes();
                let mut reader = Reader::new(&bytes, 0);
                assert_eq!(reader.varint().unwrap(), value);
                assert_eq!(reader.left(), 0);
                for signed in [value.cast_signed(), value.cast_signed().wrapping_neg()] {
                    let bytes = Record::new().signed_varint(signed).clone().into_bytes();
                    assert_eq!(Reader::new(&bytes, 0).signed_varint().unwrap(), signed);
                }
            }
        }
    }

    #[test]
    fn errors_say_where() {
        let mut reader = Reader::new(&[0x02], 100);
        assert_eq!(
            reader.varint().unwrap_err().to_string(),
            "at byte 101: the data end too early: of 1 bytes there are 0"
        );
        let error = Reader::new(&[0xff, 1], 0).count().unwrap_err();
        assert_eq!(error.to_string(), "at byte 1: 127 entries are announced, 1 bytes are left");
    }
}
