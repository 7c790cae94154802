//! Strings as the text spells them.

/// Appends the inside of a string literal: quotes, backslashes, line ends and tabs escaped.
pub(super) fn put_escaped(buffer: &mut Vec<u8>, text: &str) {
    for byte in text.bytes() {
        match escape(byte) {
            Some(letter) => buffer.extend_from_slice(&[b'\\', letter]),
            None => buffer.push(byte),
        }
    }
}

/// Whether a string has a character that is escaped.
pub(super) fn needs_escapes(text: &str) -> bool {
    text.bytes().any(|byte| escape(byte).is_some())
}

const fn escape(byte: u8) -> Option<u8> {
    match byte {
        b'"' | b'\\' => Some(byte),
        b'\n' => Some(b'n'),
        b'\t' => Some(b't'),
        b'\r' => Some(b'r'),
        _ => None,
    }
}

/// The character that a backslash and this one stand for.
pub(super) const fn unescape(byte: u8) -> Option<char> {
    Some(match byte {
        b'"' | b'\\' | b'\'' => byte as char,
        b'n' => '\n',
        b't' => '\t',
        b'r' => '\r',
        b'0' => '\0',
        _ => return None,
    })
}
