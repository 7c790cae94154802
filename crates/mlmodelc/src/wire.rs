//! Bytes in and out: little-endian numbers, strings with a length, and protobuf fields as they
//! stand, for what the message types do not keep.

use coreml_proto::prost::encoding::{decode_varint, encode_varint};

/// Appends a number.
pub(crate) fn put_u32(bytes: &mut Vec<u8>, number: u32) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

/// Appends a length as 64 bits, and the content.
pub(crate) fn put_counted(bytes: &mut Vec<u8>, content: &[u8]) {
    // A usize is at most 64 bits wide on every system that Rust knows.
    bytes.extend_from_slice(&(content.len() as u64).to_le_bytes());
    bytes.extend_from_slice(content);
}

/// Reads from the front of a slice. An error says where in the file it was.
pub(crate) struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    pub(crate) fn left(&self) -> usize {
        self.bytes.len() - self.offset
    }

    pub(crate) fn take(&mut self, count: u64, what: &str) -> Result<&'a [u8], String> {
        let end = usize::try_from(count).ok().and_then(|count| self.offset.checked_add(count));
        let taken = end.and_then(|end| self.bytes.get(self.offset..end));
        let taken = taken.ok_or_else(|| {
            format!(
                "truncated: {what} takes {count} bytes from offset {}, the file has {}",
                self.offset,
                self.bytes.len()
            )
        })?;
        self.offset += taken.len();
        Ok(taken)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, String> {
        let mut word = [0; 4];
        word.copy_from_slice(self.take(4, what)?);
        Ok(u32::from_le_bytes(word))
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, String> {
        let mut word = [0; 8];
        word.copy_from_slice(self.take(8, what)?);
        Ok(u64::from_le_bytes(word))
    }

    /// A length as 64 bits, and that many bytes.
    pub(crate) fn counted(&mut self, what: &str) -> Result<&'a [u8], String> {
        let count = self.u64(what)?;
        self.take(count, what)
    }

    pub(crate) fn text(&mut self, what: &str) -> Result<&'a str, String> {
        let offset = self.offset;
        std::str::from_utf8(self.counted(what)?)
            .map_err(|error| format!("{what} at offset {offset} is not valid UTF-8: {error}"))
    }
}

/// Appends a protobuf field of bytes: tag, length, content.
pub(crate) fn put_field(bytes: &mut Vec<u8>, number: u32, content: &[u8]) {
    encode_varint(u64::from(number) << 3 | 2, bytes);
    encode_varint(content.len() as u64, bytes);
    bytes.extend_from_slice(content);
}

/// A field of a protobuf message as it stands in the bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Field<'a> {
    /// Field number.
    pub number: u32,
    /// The whole field with its tag.
    pub raw: &'a [u8],
    /// What follows the tag and, where it has one, the length.
    pub content: &'a [u8],
}

/// The fields of a message in their order; `None` where the bytes are no message.
pub(crate) fn fields(bytes: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut found = Vec::new();
    let mut left = bytes;
    while !left.is_empty() {
        let start = left;
        let tag = decode_varint(&mut left).ok()?;
        let (skip, length) = match tag & 7 {
            0 => {
                let before = left.len();
                let mut ahead = left;
                decode_varint(&mut ahead).ok()?;
                (0, before - ahead.len())
            }
            1 => (0, 8),
            2 => {
                let mut ahead = left;
                let length = usize::try_from(decode_varint(&mut ahead).ok()?).ok()?;
                (left.len() - ahead.len(), length)
            }
            5 => (0, 4),
            _ => return None,
        };
        let content = left.get(skip..)?.get(..length)?;
        left = &left[skip + length..];
        let raw = &start[..start.len() - left.len()];
        found.push(Field { number: u32::try_from(tag >> 3).ok()?, raw, content });
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_with_their_bytes() {
        // 1: varint 300; 2: "ab"; 3: fixed 32 bits.
        let bytes = [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d, 1, 2, 3, 4];
        let found = fields(&bytes).unwrap();
        let seen: Vec<_> =
            found.iter().map(|field| (field.number, field.raw.len(), field.content)).collect();
        let expected: [(u32, usize, &[u8]); 3] =
            [(1, 3, &[0xac, 2]), (2, 4, b"ab"), (3, 5, &[1, 2, 3, 4])];
        assert_eq!(seen, expected);
        for length in [1, 2, 4, 5, 6, 8, 11] {
            assert!(fields(&bytes[..length]).is_none(), "{length}");
        }
        assert!(fields(&[0xff; 11]).is_none());
        assert!(fields(&[0x0b]).is_none());
    }

    #[test]
    fn what_is_put_is_read_again() {
        let mut bytes = Vec::new();
        put_field(&mut bytes, 100, &[7; 300]);
        assert_eq!(bytes[..4], [0xa2, 0x06, 0xac, 0x02]);
        assert_eq!(fields(&bytes).unwrap()[0].content, [7; 300]);
        let mut bytes = Vec::new();
        put_u32(&mut bytes, 502);
        put_counted(&mut bytes, b"generic");
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u32("number"), Ok(502));
        assert_eq!(reader.text("name"), Ok("generic"));
        assert_eq!(reader.left(), 0);
        assert!(reader.u64("more").unwrap_err().contains("more"));
        let mut reader = Reader::new(&[0xff; 8]);
        assert!(reader.counted("blob").unwrap_err().contains("truncated"));
    }
}
