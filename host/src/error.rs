//! How an error is shown, and which exit code it gives.

use anemll_codes as codes;
use anemll_plugin_api::Error;
use std::fmt::Write as _;

pub use anemll_store::io_error as io;

/// Exit code of a command that failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of a command line that could not be understood.
pub const EXIT_USAGE: u8 = 2;
/// Exit code of a bug in the program, as Rust's own for a panic.
pub const EXIT_BUG: u8 = 101;
pub use anemll_services::EXIT_INTERRUPTED;

/// Not a code for users: whoever read standard output has had enough.
const READER_LEFT: &str = "reader-left";

/// The end of a command whose output nobody reads any more.
pub fn reader_left() -> Error {
    Error::new(READER_LEFT, "the reader of standard output went away")
}

/// Whether an error is that of [`reader_left`], which is not shown and is no failure.
pub fn is_reader_left(error: &Error) -> bool {
    error.code == READER_LEFT
}

/// Not a code for users, either: two models differ, which is an answer and no failure.
const DIFFERENT: &str = "different";

/// The end of a comparison that found differences and has shown them.
pub fn different() -> Error {
    Error::new(DIFFERENT, "the two differ")
}

/// Whether an error is that of [`different`], which is not shown but gives exit code 1.
pub fn is_different(error: &Error) -> bool {
    error.code == DIFFERENT
}

/// The exit code for an error.
pub fn exit_code(error: &Error) -> u8 {
    if error.is_cancelled() { EXIT_INTERRUPTED } else { EXIT_FAILED }
}

/// Bytes of a message, place or cause that are shown; the rest is for a file.
const SHOWN: usize = 500;
/// Causes that are shown.
const SHOWN_CAUSES: usize = 6;

/// [`render`] with what is too long for a terminal cut, and all of it in a file that a note names.
pub fn render_short(error: &Error) -> String {
    let too_long = |text: &String| text.len() > SHOWN || text.contains('\n');
    let texts = [Some(&error.message), error.at.as_ref(), error.hint.as_ref()];
    if error.causes.len() <= SHOWN_CAUSES
        && !texts.into_iter().flatten().chain(&error.causes).any(too_long)
    {
        return render(error);
    }
    let cut = |text: &String| {
        let line = text.lines().next().unwrap_or_default();
        let end = (0..=SHOWN.min(line.len())).rev().find(|end| line.is_char_boundary(*end));
        let shown = &line[..end.unwrap_or(0)];
        if shown.len() < text.len() { format!("{shown} …") } else { shown.to_owned() }
    };
    let mut short = Error::new(error.code.clone(), cut(&error.message));
    short.hint = error.hint.as_ref().map(cut);
    short.at = error.at.as_ref().map(cut);
    short.causes = error.causes.iter().take(SHOWN_CAUSES).map(cut).collect();
    let note = match write_log(&render(error)) {
        Ok(path) => format!("note: the whole text: {}", path.display()),
        Err(source) => format!("note: the whole text could not be written: {source}"),
    };
    format!("{}\n{note}", render(&short))
}

/// A new file in the folder for temporary files: one that is there already may be a trap.
pub fn write_log(text: &str) -> std::io::Result<std::path::PathBuf> {
    let mut file = tempfile::Builder::new().prefix("anemll-error-").suffix(".txt").tempfile()?;
    std::io::Write::write_all(&mut file, text.as_bytes())?;
    let (_, path) = file.keep().map_err(|error| error.error)?;
    Ok(path)
}

/// The text of an error: what, where, why, and what to do.
///
/// ```text
/// error[A0203]: config.json has no key `hidden_size`
///   --> model/config.json
///   cause: …
/// hint: …
/// ```
pub fn render(error: &Error) -> String {
    let mut text = if error.is_cancelled() {
        "interrupted".to_owned()
    } else {
        format!("error[{}]: {}", error.code, error.message)
    };
    if let Some(at) = &error.at {
        let _ = write!(text, "\n  --> {at}");
    }
    for cause in &error.causes {
        let _ = write!(text, "\n  cause: {}", cause.replace('\n', "\n         "));
    }
    if let Some(hint) = &error.hint {
        let _ = write!(text, "\nhint: {hint}");
    }
    // Names and paths come from files of others.
    anemll_terminal::plain_lines(&text)
}

/// An error about an export.
pub fn from_export(source: anemll_export::ExportError) -> Error {
    use anemll_export::ErrorKind as Kind;
    let code = match source.kind() {
        Kind::Cancelled => return Error::cancelled(),
        Kind::Unfinished => codes::EXPORT_UNFINISHED,
        Kind::NotCompiled => codes::EXPORT_NOT_COMPILED,
        Kind::Target => codes::EXPORT_TARGET,
        Kind::Exists => codes::OUTPUT_EXISTS,
        Kind::Release => codes::RELEASE_INVALID,
        Kind::Read => codes::PACKAGE_UNREADABLE,
        Kind::Write => codes::OUTPUT_UNWRITABLE,
    };
    let error = Error::new(code, source.reason()).with_at(source.path().display().to_string());
    match source.hint() {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

/// An error about packages that are being joined.
pub fn from_multifunction(source: anemll_multifunction::Error) -> Error {
    use anemll_multifunction::Error as Joining;
    match source {
        Joining::Package(source) => Error::from(source),
        Joining::Cancelled => Error::cancelled(),
        Joining::Combine { message, at, hint } => {
            let mut error = Error::new(codes::GRAPH_COMBINE, message);
            error.at = at.map(|path| path.display().to_string());
            error.hint = hint.map(str::to_owned);
            error
        }
        Joining::Invalid { message, at } => {
            let mut error = Error::new(codes::PACKAGE_INVALID, message);
            error.at = at.map(|path| path.display().to_string());
            error
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_where_why_and_what_to_do() {
        let error = Error::new("A0203", "config.json has no key `hidden_size`")
            .with_at("model/config.json")
            .with_cause("it was empty")
            .with_hint("take the config.json of the model's repository");
        assert_eq!(
            render(&error),
            "error[A0203]: config.json has no key `hidden_size`\n  --> model/config.json\n  \
             cause: it was empty\nhint: take the config.json of the model's repository"
        );
        assert_eq!(render_short(&error), render(&error));
        assert_eq!(exit_code(&error), EXIT_FAILED);
        assert_eq!(exit_code(&Error::cancelled()), EXIT_INTERRUPTED);
    }

    #[test]
    fn a_long_error_goes_to_a_file() {
        let stack = "call stack:\n".to_owned() + &"  frame\n".repeat(100);
        let mut many = Error::new("A0113", "plugin `x` failed");
        many.causes = (0..16).map(|number| format!("cause {number}")).collect();
        for error in [
            Error::new("A0113", "plugin `x` panicked").with_cause(stack),
            Error::new("A0113", "é".repeat(2000)),
            many,
        ] {
            let text = render_short(&error);
            assert!(
                text.starts_with("error[A0113]: ") && text.lines().count() <= SHOWN_CAUSES + 2,
                "{text}"
            );
            assert!(text.len() < 1000, "{text}");
            let path = text.split("the whole text: ").nth(1).unwrap();
            assert_eq!(std::fs::read_to_string(path).unwrap(), render(&error));
            std::fs::remove_file(path).unwrap();
        }
    }
}
