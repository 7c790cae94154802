//! MIL as text: the `model.mil` of compiled models, written from a model and read back.
//!
//! [`write()`] prints a model's program as Apple's compiler does; [`parse`] reads such a text into a
//! [`Document`], which prints the same bytes again. The format and what of it is guessed stand in
//! `docs/reference/mil-text.md`; [`guesses`] says which guessed parts a model needs.

mod build;
mod cursor;
mod dialect;
mod elements;
mod error;
mod flexible;
mod guess;
mod number;
mod parse_program;
mod parse_value;
mod print_program;
mod print_value;
mod printer;
mod string;

pub use dialect::Dialect;
pub use error::{ParseError, WriteError};
pub use guess::{Guess, guesses};

use crate::combine::features_by_name;
use crate::error::{Error, Result};
use crate::model;
use coreml_proto::{Model, mil};
use cursor::Cursor;
use parse_value::Parser;
use printer::Printer;
use std::collections::BTreeMap;
use std::io;

/// Program attribute with the versions of the tools that made the program.
const BUILD_INFO: &str = "buildInfo";

/// How deep the blocks of operations may nest. What is less deep also passes the protobuf reader,
/// which stops at 100 messages in each other.
pub const MAXIMUM_BLOCK_DEPTH: usize = 40;

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
/// specification version gives the [`Dialect`]. Writing is streamed in pieces of about 64 KiB, so
/// memory does not grow with the size of values.
///
/// The program's names are checked (legal, defined before use, not defined twice in a block), and so
/// is every value against its type; nothing else of the program is. Doc strings of programs and
/// values have no place in the text and are left out. Errors leave a part of the text behind in
/// `output`.
///
/// Errors: no program, no function, a specification version that is none of an ML Program (6 to
/// 10), unknown opsets, names and values as above, blocks nested too deeply, shapes of inputs that
/// the text cannot say, and what `output` says.
pub fn write(
    model: &Model,
    options: &TextOptions,
    output: &mut dyn io::Write,
) -> Result<(), WriteError> {
    let dialect = Dialect::of_specification(model.specification_version)?;
    let program = model::program(model)?;
    if program.functions.is_empty() {
        return Err(Error::new("the program has no function").into());
    }
    let mut attributes = program.attributes.clone();
    let mut entries = match attributes.get(BUILD_INFO) {
        Some(value) => build_info_entries(value)?,
        None => BTreeMap::new(),
    };
    let added = options.build_info.iter();
    entries.extend(added.map(|(key, value)| (key.clone(), value.clone())));
    let entries = entries.iter().map(|(key, value)| (key.as_str(), build::string(value)));
    let build_info = build::dictionary(build::string_type(), entries);
    attributes.insert(BUILD_INFO.to_owned(), build_info);
    let spellings = BTreeMap::new();
    let mut printer = Printer::new(output, dialect, &spellings);
    let lists = model.description.as_ref().map(features_by_name).unwrap_or_default();
    print_program::program(&mut printer, program, &attributes, &|function| {
        Ok(flexible::attribute(lists.get(function))?.map(|value| (flexible::ATTRIBUTE, value)))
    })?;
    Ok(printer.finish()?)
}

/// The text of [`write()`] as a string.
pub fn to_text(model: &Model, options: &TextOptions) -> Result<String, WriteError> {
    let mut bytes = Vec::new();
    write(model, options, &mut bytes)?;
    Ok(into_text(bytes))
}

fn build_info_entries(value: &mil::Value) -> Result<BTreeMap<String, String>> {
    let entries = build::entries(value)
        .ok_or_else(|| Error::new("the program's buildInfo does not map strings to strings"))?;
    Ok(entries.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// Everything that is printed is UTF-8: names are ASCII, and strings come from protobuf or text.
fn into_text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// A MIL text that was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// How the text spells the program.
    pub dialect: Dialect,
    /// The program. `buildInfo` stands in its attributes, and the compiler's
    /// `FlexibleShapeInformation` in those of functions.
    pub program: mil::Program,
    /// Spaces and line ends after the program.
    ending: String,
    /// Strings whose escapes are not those that we would write, with their spelling.
    spellings: BTreeMap<String, String>,
}

/// Reads a MIL text.
///
/// Spaces and line ends may stand anywhere between words, as in texts written by hand; names must be
/// defined before they are used. Takes time and memory linear in the text.
///
/// Errors: the line, the column and what was expected there.
pub fn parse(text: &str) -> Result<Document, ParseError> {
    let cursor = Cursor::new(text);
    Parser { cursor, bare_scalars: None, spellings: BTreeMap::new() }.document()
}

impl Document {
    /// A document of a program, spelled in a dialect.
    pub const fn new(dialect: Dialect, program: mil::Program) -> Self {
        Self { dialect, program, ending: String::new(), spellings: BTreeMap::new() }
    }

    /// Writes the text. What [`parse`] read from a text of a compiler comes back byte for byte;
    /// other texts come back in the compiler's form (arguments sorted, spaces set anew).
    ///
    /// Errors: as those of [`write()`], but a program may be without functions.
    pub fn write(&self, output: &mut dyn io::Write) -> Result<(), WriteError> {
        let mut printer = Printer::new(output, self.dialect, &self.spellings);
        let attributes = &self.program.attributes;
        print_program::program(&mut printer, &self.program, attributes, &|_| Ok(None))?;
        printer.put(&self.ending);
        Ok(printer.finish()?)
    }

    /// The text as a string.
    pub fn to_text(&self) -> Result<String, WriteError> {
        let mut bytes = Vec::new();
        self.write(&mut bytes)?;
        Ok(into_text(bytes))
    }

    /// The entries of `buildInfo`; empty where there are none, or something else stands there.
    pub fn build_info(&self) -> BTreeMap<String, String> {
        let value = self.program.attributes.get(BUILD_INFO);
        value.and_then(|value| build_info_entries(value).ok()).unwrap_or_default()
    }
}
