//! MIL as text: the `model.mil` of compiled models, written from a model and read back.
//!
//! [`write()`] prints a model's program as Apple's compiler does; [`parse`] reads such a text into a
//! [`Document`], which prints the same bytes again. The format and what of it is guessed stand in
//! `docs/reference/mil-text.md`; [`guesses`] says which guessed parts a model needs.

mod dialect;
mod error;
mod guess;

pub use dialect::Dialect;
pub use error::{ParseError, WriteError};
pub use guess::{Guess, guesses};

use coreml_proto::{Model, mil};
use std::collections::BTreeMap;
use std::io;

/// What the text says beside the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextOptions {
    /// Entries of `buildInfo` that the compiler adds to those of the program, which it replaces
    /// where the keys are equal. Apple's compiler adds `coremlc-component-MIL` and
    /// `coremlc-version`; the default holds both with versions of ours.
    pub build_info: BTreeMap<String, String>,
}

impl Default for TextOptions {
    fn default() -> Self {
        let version = concat!("anemll-", env!("CARGO_PKG_VERSION")).to_owned();
        let keys = ["coremlc-component-MIL", "coremlc-version"];
        Self { build_info: keys.map(|key| (key.to_owned(), version.clone())).into() }
    }
}

/// Writes the `model.mil` of a model: every function, with the block that its opset names.
///
/// The description gives what the program lacks (the flexible shapes of inputs), and the
/// specification version gives the [`Dialect`]. Writing is streamed in small pieces, so give it a
/// buffered writer for files; memory does not grow with the size of values.
///
/// The program's names are checked (legal, defined before use, not defined twice in a block), and so
/// is every value against its type; nothing else of the program is. Errors leave a part of the
/// text behind in `output`.
///
/// Errors: no program, a specification version that is none of an ML Program (6 to 10), unknown
/// opsets, names and values as above, blocks nested too deeply, and what `output` says.
pub fn write(
    _model: &Model,
    _options: &TextOptions,
    _output: &mut dyn io::Write,
) -> Result<(), WriteError> {
    Ok(())
}

/// The text of [`write()`] as a string.
pub fn to_text(model: &Model, options: &TextOptions) -> Result<String, WriteError> {
    let mut bytes = Vec::new();
    write(model, options, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// A MIL text that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// How the text spells the program.
    pub dialect: Dialect,
    /// The program. `buildInfo` stands in its attributes, and the compiler's
    /// `FlexibleShapeInformation` in those of functions.
    pub program: mil::Program,
}

/// Reads a MIL text.
///
/// Spaces and line ends may stand anywhere between words, as in texts written by hand; names must be
/// defined before they are used. Takes time and memory linear in the text.
///
/// Errors: the line, the column and what was expected there.
pub fn parse(_text: &str) -> Result<Document, ParseError> {
    Err(ParseError::new(1, 1, "not yet"))
}

impl Document {
    /// Writes the text. What [`parse`] read from a text of a compiler comes back byte for byte.
    ///
    /// Errors: as those of [`write()`].
    pub fn write(&self, _output: &mut dyn io::Write) -> Result<(), WriteError> {
        Ok(())
    }

    /// The text as a string.
    pub fn to_text(&self) -> Result<String, WriteError> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The entries of `buildInfo`, empty where there are none.
    pub fn build_info(&self) -> BTreeMap<String, String> {
        BTreeMap::new()
    }
}
