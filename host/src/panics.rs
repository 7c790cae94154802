//! A panic is a bug of ours, and is told as one: an error with a code, and a file for the report.

use crate::error::write_log;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use std::any::Any;
use std::backtrace::Backtrace;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Mutex;

/// The last panics of any thread, which the report has. More would not help.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// How many of them are kept: the first of them is the cause of the others.
const KEPT: usize = 4;

/// Does the work; a panic in it, or one that it throws on from a thread, becomes an error.
///
/// # Errors
/// [`codes::PANICKED`], with the name of a file that has all that is known.
pub fn caught<R>(work: impl FnOnce() -> R) -> Result<R> {
    std::panic::set_hook(Box::new(note));
    // Nothing of what the work has left half done is looked at again: the program ends.
    catch_unwind(AssertUnwindSafe(work)).map_err(|payload| error(text(&*payload)))
}

/// Keeps what a panic says. It is not printed: where a panic is expected, as around plugins, it is no
/// news, and else it is told at the end.
fn note(info: &PanicHookInfo<'_>) {
    let place = info.location().map_or_else(String::new, |location| format!(" at {location}"));
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("without a name");
    tracing::debug!("panic{place}: {}", text(info.payload()));
    let told = format!(
        "panic{place}, thread {name}: {}\n{}\n",
        text(info.payload()),
        Backtrace::force_capture()
    );
    if let Ok(mut seen) = SEEN.lock()
        && seen.len() < KEPT
    {
        seen.push(told);
    }
}

fn text(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without text")
}

fn error(message: &str) -> Error {
    let seen = SEEN.lock().map(|seen| seen.join("\n")).unwrap_or_default();
    let words: Vec<String> =
        std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    let report = format!(
        "anemll {} on {} {}\n{words:?}\n\n{seen}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::OS,
        std::env::consts::ARCH
    );
    let error = Error::new(codes::PANICKED, format!("this is a bug in anemll: {message}"));
    match write_log(&report) {
        Ok(path) => error.with_hint(format!("please report it, with the file {}", path.display())),
        Err(_) => error.with_hint("please report it, with the command that you typed"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_error_with_a_file() {
        assert_eq!(caught(|| 7).unwrap(), 7);
        let error = caught(|| {
            rayon::scope(|scope| scope.spawn(|_| panic!("no such {}", "luck")));
        });
        let error = error.unwrap_err();
        assert_eq!(error.code, codes::PANICKED);
        assert!(error.message.contains("a bug in anemll: no such luck"), "{error:?}");
        let hint = error.hint.unwrap();
        let path = hint.rsplit(' ').next().unwrap();
        let report = std::fs::read_to_string(path).unwrap();
        assert!(report.contains("no such luck") && report.contains("panics.rs"), "{report}");
        std::fs::remove_file(path).unwrap();
    }
}
