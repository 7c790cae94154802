//! A place in a text, and the words that stand there.

use super::ParseError;
use super::string::{needs_escapes, unescape};
use std::borrow::Cow;

#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor<'t> {
    text: &'t str,
    offset: usize,
}

impl<'t> Cursor<'t> {
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, offset: 0 }
    }

    pub(super) const fn offset(&self) -> usize {
        self.offset
    }

    /// An error at a place of the text.
    pub(super) fn error_at(&self, offset: usize, message: impl Into<String>) -> ParseError {
        // Places are always in front of a character, as words are cut at ASCII characters.
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before[line_start..].chars().count() + 1;
        ParseError::new(line, column, message)
    }

    /// An error at the next word.
    pub(super) fn error(&self, message: impl Into<String>) -> ParseError {
        self.error_at(self.offset, message)
    }

    /// "expected …, found …" at the next word.
    pub(super) fn expected(&mut self, what: &str) -> ParseError {
        self.skip_spaces();
        let rest = &self.text[self.offset..];
        let word: String = rest.chars().take_while(|c| is_word(*c)).take(32).collect();
        let found = match (word.is_empty(), rest.chars().next()) {
            (_, None) => "the end of the text".to_owned(),
            (true, Some(c)) => format!("{c:?}"),
            (false, _) => format!("`{word}`"),
        };
        self.error(format!("expected {what}, found {found}"))
    }

    fn bytes(&self) -> &'t [u8] {
        &self.text.as_bytes()[self.offset..]
    }

    pub(super) fn skip_spaces(&mut self) {
        let spaces = self.bytes().iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        self.offset += spaces;
    }

    /// The next byte that is no space.
    pub(super) fn peek(&mut self) -> Option<u8> {
        self.skip_spaces();
        self.bytes().first().copied()
    }

    /// Steps over a sign, if it is the next.
    pub(super) fn eat(&mut self, sign: u8) -> bool {
        let found = self.peek() == Some(sign);
        if found {
            self.offset += 1;
        }
        found
    }

    pub(super) fn expect(&mut self, sign: u8) -> Result<(), ParseError> {
        if self.eat(sign) { Ok(()) } else { Err(self.expected(&format!("`{}`", char::from(sign)))) }
    }

    /// `->`.
    pub(super) fn expect_arrow(&mut self) -> Result<(), ParseError> {
        self.skip_spaces();
        if self.bytes().starts_with(b"->") {
            self.offset += 2;
            Ok(())
        } else {
            Err(self.expected("`->`"))
        }
    }

    /// A name; `what` says what it would be.
    pub(super) fn name(&mut self, what: &str) -> Result<&'t str, ParseError> {
        self.skip_spaces();
        let bytes = self.bytes();
        let is_first = |byte: &u8| byte.is_ascii_alphabetic() || *byte == b'_';
        let is_rest = |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'@');
        if !bytes.first().is_some_and(is_first) {
            return Err(self.expected(what));
        }
        let length = bytes.iter().take_while(is_rest).count();
        let name = &self.text[self.offset..self.offset + length];
        self.offset += length;
        Ok(name)
    }

    pub(super) fn keyword(&mut self, word: &str) -> Result<(), ParseError> {
        let before = *self;
        match self.name("") {
            Ok(found) if found == word => Ok(()),
            _ => {
                *self = before;
                Err(self.expected(&format!("`{word}`")))
            }
        }
    }

    /// The letters, digits, signs and points of a number or a word such as `true`; may be empty.
    pub(super) fn token(&mut self) -> &'t str {
        self.skip_spaces();
        let is_part =
            |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-' | b'_');
        let length = self.bytes().iter().take_while(is_part).count();
        let token = &self.text[self.offset..self.offset + length];
        self.offset += length;
        token
    }

    /// A number without a sign.
    pub(super) fn unsigned(&mut self, what: &str) -> Result<u64, ParseError> {
        let before = *self;
        let token = self.token();
        token.parse().map_err(|_| {
            *self = before;
            self.expected(what)
        })
    }

    /// A string literal: its value, and its spelling where ours would be another.
    pub(super) fn string(&mut self) -> Result<(Cow<'t, str>, Option<&'t str>), ParseError> {
        let start = self.offset;
        self.expect(b'"').map_err(|_| self.expected("a string"))?;
        let first = self.offset;
        let mut value: Option<String> = None;
        let mut copied = first;
        loop {
            let inside = self.bytes().iter().take_while(|byte| !matches!(byte, b'"' | b'\\'));
            self.offset += inside.count();
            match self.bytes() {
                [b'"', ..] => break,
                [b'\\', letter, ..] => {
                    let Some(character) = unescape(*letter) else {
                        return Err(self.error("an escape that is not known"));
                    };
                    let value = value.get_or_insert_default();
                    value.push_str(&self.text[copied..self.offset]);
                    value.push(character);
                    self.offset += 2;
                    copied = self.offset;
                }
                _ => return Err(self.error_at(start, "a string does not end")),
            }
        }
        let spelling = &self.text[first..self.offset];
        let tail = &self.text[copied..self.offset];
        self.offset += 1;
        let value = match value {
            None => Cow::Borrowed(tail),
            Some(mut value) => {
                value.push_str(tail);
                Cow::Owned(value)
            }
        };
        let ours = match &value {
            Cow::Borrowed(text) => !needs_escapes(text),
            Cow::Owned(text) => {
                let mut ours = Vec::new();
                super::string::put_escaped(&mut ours, text);
                ours == spelling.as_bytes()
            }
        };
        Ok((value, (!ours).then_some(spelling)))
    }

    /// What is left of the text.
    pub(super) fn rest(&self) -> &'t str {
        &self.text[self.offset..]
    }
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '@' | '.')
}
