//! Models of the hub: by name, from the cache that Hugging Face's tools keep, and downloaded into it.
//!
//! [`Name`] is what users type, [`Environment`] what the variables of Hugging Face's tools say,
//! [`find`] and [`within`] look into the cache, [`download`] brings what is missing.
//!
//! What a server says is not believed: names, commits and tags are checked before paths are made of
//! them, every file is checked against the hash of the hub's own listing before it gets its name,
//! every size has a bound, the token goes to the endpoint alone, and no symbolic link inside the
//! cache is followed while writing.

mod cache;
#[cfg(feature = "download")]
mod download;
mod environment;
mod error;
mod name;

pub use cache::{Found, commit_of, find, within};
#[cfg(feature = "download")]
pub use download::{Limits, Progress, Watch, download};
pub use environment::Environment;
pub use error::{ErrorKind, HubError, Result};
pub use name::Name;

/// What of a model is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// config.json, and what modules.json and the configurations that it names say, where there is one.
    Config,
    /// The tokenizer's files too.
    Tokenizer,
    /// The weights too.
    Weights,
    /// The weights, and nothing of a tokenizer.
    WeightsAlone,
}
