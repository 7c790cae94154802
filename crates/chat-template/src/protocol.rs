//! What a program and the process that renders for it say to each other: JSON, each message behind
//! its length, in four bytes with the lowest first.

use crate::failure::Failure;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read, Write};

/// The first argument of a program that is to render.
pub(crate) const ARGUMENT: &str = "render-chat-template-for-parent-process";

/// Bytes of a message, at most: a text of the largest size, all of it escaped.
const LARGEST_MESSAGE: u32 = 112 << 20;

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request<'a> {
    /// Compile a template; every process gets one only, first of all.
    Compile {
        /// The source.
        source: Cow<'a, str>,
        /// Special tokens by name.
        tokens: Cow<'a, BTreeMap<String, String>>,
        /// Milliseconds that each request may take.
        time: u64,
        /// Bytes that may be allocated.
        memory: u64,
    },
    /// Render a conversation.
    Render {
        /// The conversation.
        messages: Cow<'a, [Value]>,
        /// Further variables.
        variables: Cow<'a, Map<String, Value>>,
    },
}

/// The answer: a text, which is empty when a template was compiled.
pub(crate) type Reply = Result<String, Failure>;

/// The bytes of a message, with its length before it.
pub(crate) fn encode(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = u32::try_from(bytes.len() - 4).ok().filter(|length| *length <= LARGEST_MESSAGE);
    let length = length.ok_or_else(|| io::Error::other("a message is too long"))?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    Ok(bytes)
}

/// Writes a message.
pub(crate) fn write(writer: &mut impl Write, message: &impl Serialize) -> io::Result<()> {
    writer.write_all(&encode(message)?)?;
    writer.flush()
}

/// Reads the bytes of a message; nothing at the end of the input.
pub(crate) fn read_bytes(reader: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match reader.read(&mut length[filled..]) {
            Ok(0) if filled == 0 => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let length = u32::from_le_bytes(length);
    if length > LARGEST_MESSAGE {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is too long"));
    }
    let mut bytes = Vec::new();
    reader.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes))
}

/// Reads a message; nothing at the end of the input.
pub(crate) fn read<T: DeserializeOwned>(reader: &mut impl Read) -> io::Result<Option<T>> {
    let Some(bytes) = read_bytes(reader)? else { return Ok(None) };
    Ok(Some(serde_json::from_slice(&bytes)?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_and_garbage_does_not() {
        let mut bytes = Vec::new();
        let reply: Reply = Ok("é\u{1}".to_owned());
        write(&mut bytes, &reply).unwrap();
        write(&mut bytes, &reply).unwrap();
        let mut reader = bytes.as_slice();
        assert_eq!(read::<Reply>(&mut reader).unwrap(), Some(reply.clone()));
        assert_eq!(read::<Reply>(&mut reader).unwrap(), Some(reply));
        assert_eq!(read::<Reply>(&mut reader).unwrap(), None);
        for garbage in
            ["running 0 tests\n".as_bytes(), &[9, 0, 0, 0, b'{'], &[1, 0], &[1, 0, 0, 0, b'x']]
        {
            assert!(read::<Reply>(&mut &*garbage).is_err(), "{garbage:?}");
        }
    }
}
