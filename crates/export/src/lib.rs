//! Conversions as they are handed over: what apps load and nothing else, with a model card, and with
//! sums of every file by which a copy is known to be whole.
//!
//! [`export()`] lays a conversion out as ANEMLL's `prepare_hf.sh` does: `ios/` with compiled models as
//! folders, `standard/` with each of them in a zip. Both hold all that an app needs, so that each can
//! be a repository of its own. [`verify()`] checks an export by its `release.json`, whose schema
//! `docs/reference/release.md` describes. Everything here is deterministic: the same conversion gives
//! the same bytes, whenever and wherever.

mod card;
mod error;
mod export;
mod license;
mod model;
mod place;
mod redact;
mod release;
mod sums;
mod swap;
mod text_files;
mod tree;
mod unpack;
mod upload;
mod verify;
mod zip_folder;

pub use card::{Card, Quality, SourceCard};
pub use error::{ErrorKind, ExportError, Result};
pub use export::{Exported, FormSummary, Forms, Request, export};
pub use release::{Content, FileEntry, NAME as RELEASE, Recipe, Release, SCHEMA};
pub use unpack::unpack;
pub use upload::{is_repository, shell_word, upload_commands};
pub use verify::{Finding, Status, Verification, verify};
pub use zip_folder::Compression;

/// Called with the bytes that were read since the last call; false stops the work.
pub type Progress<'a> = &'a mut dyn FnMut(u64) -> bool;
