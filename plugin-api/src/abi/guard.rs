//! Panics become errors, and are not printed.
//!
//! A panic must not reach `abi_stable`'s generated functions: they end the process. So every entry,
//! in both directions, runs inside [`catch`]. A panic hook, installed once per library, keeps the
//! text and the place of a panic inside a guard instead of printing it, and hands every other panic
//! to the hook that was there before.

use std::any::Any;
use std::backtrace::{Backtrace, BacktraceStatus};
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Once;

use serde_json::Value;

use crate::{Error, Result, codes};

/// What is known about a panic.
#[derive(Debug)]
pub(crate) struct Panic {
    /// Its text.
    pub(crate) message: String,
    /// File, line and column, where the hook could see them.
    pub(crate) location: Option<String>,
    /// The call stack, where the environment asks for it (`RUST_BACKTRACE`).
    pub(crate) backtrace: Option<String>,
}

impl Panic {
    /// `error` with the place and the call stack of the panic.
    fn describe(self, mut error: Error) -> Error {
        error.at = self.location;
        error.causes.extend(self.backtrace);
        error
    }

    /// The error of a parallel call that panicked.
    pub(crate) fn in_parallel_call(self, index: usize) -> Error {
        let message = format!("parallel call {index} panicked: {}", self.message);
        self.describe(Error::new(codes::PLUGIN_PANICKED, message))
    }

    /// The error that a host's service gives to a plugin.
    pub(crate) fn in_host(self, entry: &str) -> Error {
        let message = format!("the host panicked in `{entry}`: {}", self.message);
        self.describe(Error::new(codes::HOST_PANICKED, message))
            .with_hint("this is a bug in anemll, not in the plugin")
    }

    /// The error that a plugin's entry gives to the host; the manifest says whose it is.
    fn in_plugin(self, manifest: &str, entry: &str) -> Error {
        let error = Error::new(codes::PLUGIN_PANICKED, self.message.clone());
        name_plugin(self.describe(error), manifest, entry)
    }
}

/// The error of a panic with the plugin, the entry, and where to report it.
fn name_plugin(mut error: Error, manifest: &str, entry: &str) -> Error {
    let manifest: Value = serde_json::from_str(manifest).unwrap_or_default();
    let name = manifest["name"].as_str().unwrap_or("unknown");
    error.message = format!("plugin `{name}` panicked in `{entry}`: {}", error.message);
    error.with_hint(match manifest["homepage"].as_str() {
        Some(page) if !page.is_empty() => {
            format!("this is a bug in the plugin; please report it at {page}")
        }
        _ => "this is a bug in the plugin; please report it to its author".to_owned(),
    })
}

/// Calls a plugin's entry; its own panics, and those in its parallel calls, carry its name.
pub(crate) fn catch_in_plugin<R>(
    manifest: &str,
    entry: &str,
    function: impl FnOnce() -> Result<R>,
) -> Result<R> {
    match catch(function) {
        Err(panic) => Err(panic.in_plugin(manifest, entry)),
        Ok(Err(error)) if error.code == codes::PLUGIN_PANICKED && error.hint.is_none() => {
            Err(name_plugin(error, manifest, entry))
        }
        Ok(result) => result,
    }
}

thread_local! {
    /// How many guards this thread is inside of.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    /// The last panic inside a guard on this thread.
    static LAST: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// Calls `function`; a panic in it is given back as a value, and not printed.
pub(crate) fn catch<R>(function: impl FnOnce() -> R) -> std::result::Result<R, Panic> {
    install_hook();
    DEPTH.set(DEPTH.get() + 1);
    // What a panic leaves half done behind a mutable reference is refused afterwards: sinks, hosts
    // and components then fail every later call.
    let result = catch_unwind(AssertUnwindSafe(function));
    DEPTH.set(DEPTH.get() - 1);
    result.map_err(|payload| {
        let message = payload_text(&*payload);
        discard(payload);
        let seen = LAST.with(|last| last.try_borrow_mut().ok()?.take());
        match seen {
            // A payload that was thrown on from another thread does not pass the hook of this one.
            Some(seen) if seen.message == message => seen,
            _ => Panic { message, location: None, backtrace: None },
        }
    })
}

/// [`catch`] for calls that give a [`Result`]; `describe` makes the error of a panic.
pub(crate) fn catch_result<R>(
    describe: impl FnOnce(Panic) -> Error,
    function: impl FnOnce() -> Result<R>,
) -> Result<R> {
    catch(function).unwrap_or_else(|panic| Err(describe(panic)))
}

/// The text of a panic.
pub(crate) fn payload_text(payload: &(dyn Any + Send)) -> String {
    if let Some(text) = payload.downcast_ref::<&'static str>() {
        (*text).to_owned()
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text.clone()
    } else {
        "a panic without text".to_owned()
    }
}

/// Drops a panic's payload, which may panic in turn.
fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(move || drop(payload))) {
        std::mem::forget(again);
    }
}

fn install_hook() {
    static INSTALLED: Once = Once::new();
    // The hook cannot be replaced while this thread unwinds; the next guard does it then.
    if INSTALLED.is_completed() || std::thread::panicking() {
        return;
    }
    INSTALLED.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let guarded = DEPTH.try_with(|depth| depth.get() > 0).unwrap_or(false);
            match guarded {
                true => remember(info),
                false => previous(info),
            }
        }));
    });
}

fn remember(info: &PanicHookInfo<'_>) {
    let backtrace = Backtrace::capture();
    let panic = Panic {
        message: payload_text(info.payload()),
        location: info.location().map(|location| location.to_string()),
        backtrace: match backtrace.status() {
            BacktraceStatus::Captured => Some(format!("call stack:\n{backtrace}")),
            _ => None,
        },
    };
    let _ = LAST.try_with(|last| {
        if let Ok(mut last) = last.try_borrow_mut() {
            *last = Some(panic);
        }
    });
}

/// A value whose drop cannot unwind.
pub(crate) struct QuietDrop<T>(Option<T>);

impl<T> QuietDrop<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Some(value))
    }

    pub(crate) fn get(&self) -> &T {
        match &self.0 {
            Some(value) => value,
            None => unreachable!("the value is there until the drop"),
        }
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        match &mut self.0 {
            Some(value) => value,
            None => unreachable!("the value is there until the drop"),
        }
    }
}

impl<T> Drop for QuietDrop<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        // There is no one to tell: the other side only lets go. What a panic here leaves behind is
        // at worst a leak.
        let _ = catch(move || drop(value));
    }
}
