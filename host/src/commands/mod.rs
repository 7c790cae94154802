//! One file for each command.

pub mod bench;
pub mod calibrate;
pub mod chat;
pub mod check;
pub mod combine;
pub mod compile;
pub mod completions;
pub mod convert;
pub mod dedup;
pub mod diff;
pub mod doctor;
pub mod embed;
pub mod eval;
pub mod explain;
pub mod export;
pub mod generate;
pub mod inspect;
pub mod plan;
pub mod plugin;
pub mod preflight;
pub mod serve;
pub mod split;
pub mod sweep;
pub mod verify;

use anemll_codes as codes;
use anemll_conversion::{Conversion, META, locate};
use anemll_plugin_api::{Error, Result};
use std::io::Write as _;
use std::path::Path;

/// The conversion that a path means: its directory, or the meta.yaml in it.
fn conversion_at(path: &Path) -> Result<Option<Conversion>> {
    let meta = locate(path);
    let is_one = meta.file_name().is_some_and(|name| name == META) && meta.is_file();
    if is_one { Conversion::read(&meta).map(Some) } else { Ok(None) }
}

/// Writes to standard output, nothing that steers a terminal; a reader that went away ends the
/// command without an error.
pub fn print(text: &str) -> Result<()> {
    let text = anemll_terminal::output(text);
    let mut output = anemll_terminal::stdout();
    output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush())
        .map_err(|source| unprintable(&source))
}

/// Why standard output could not be written.
pub fn unprintable(source: &std::io::Error) -> Error {
    match source.kind() {
        std::io::ErrorKind::BrokenPipe => crate::error::reader_left(),
        _ => Error::new(codes::OUTPUT_UNWRITABLE, format!("standard output: {source}")),
    }
}

/// A line for the user on standard error, unless `--quiet` was given.
pub fn say(line: &str) {
    anemll_terminal::tell(line);
}

/// Writes a page, and says so.
fn write_page(path: &Path, page: &str) -> Result<()> {
    anemll_report::page::write_page(path, page)?;
    say(&format!(
        "wrote {} ({})",
        anemll_terminal::plain(&path.display().to_string()),
        anemll_terminal::size(page.len() as u64)
    ));
    Ok(())
}

/// Prints a value as one line of JSON.
pub fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    let text = serde_json::to_string(value)
        .map_err(|source| Error::new(codes::INTERNAL, format!("no JSON: {source}")))?;
    print(&format!("{text}\n"))
}
