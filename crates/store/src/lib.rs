//! The output directory of a conversion: what is finished, where it is made, and how it gets its
//! final name.
//!
//! A run makes its files in a staging folder inside the output directory. Each finished step leaves
//! a record there, so that a run which was killed is picked up where it was. The last act of a run
//! gives everything its final name, all or nothing: a journal, written before the first file moves,
//! lets the same run or the next one take back what was moved, until the new record of the
//! conversion, `.anemll/conversion.json`, takes the place of the old one.
//!
//! An output directory may come from anybody. So names in records are [`OutputName`]s, which cannot
//! leave the directory; no symbolic link is followed below it; records are small regular files or
//! none; and what no record lists is neither replaced nor removed, unless the user forces it. The
//! model is never touched at all.

mod disk;
mod error;
mod fingerprint;
mod identity;
mod name;
mod publish;
mod record;
mod source;
mod store;
mod view;

#[cfg(test)]
mod tests;

pub use disk::{Disk, System};
pub use error::io_error;
pub use fingerprint::{FileRecord, Fingerprints, sha256};
pub use identity::Identity;
pub use name::{OutputName, TOKENIZER};
pub use record::StepRecord;
pub use store::Store;
pub use view::{Request, View, is_begun, refuse_conflict};

/// The folder of our own files inside an output directory.
pub const OWN: &str = ".anemll";
