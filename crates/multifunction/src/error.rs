//! What can go wrong, by what it is about.

use anemll_mlpackage::PackageError;
use std::path::PathBuf;

/// Result of the functions of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why packages could not be joined.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A package cannot be read or written.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// Functions that cannot stand together, or are not there.
    #[error("{message}")]
    Combine {
        /// What is wrong.
        message: String,
        /// The package that it is about, where it is one.
        at: Option<PathBuf>,
        /// What the user can do.
        hint: Option<&'static str>,
    },
    /// A function or the joined model breaks a rule of ML Programs.
    #[error("{message}")]
    Invalid {
        /// Function, operation, and what is wrong.
        message: String,
        /// The package that it is about, where it is one.
        at: Option<PathBuf>,
    },
    /// The work was stopped.
    #[error("stopped")]
    Cancelled,
}

impl Error {
    pub(crate) fn combine(message: impl Into<String>) -> Self {
        Self::Combine { message: message.into(), at: None, hint: None }
    }

    pub(crate) fn hint(self, hint: &'static str) -> Self {
        match self {
            Self::Combine { message, at, .. } => Self::Combine { message, at, hint: Some(hint) },
            other => other,
        }
    }

    pub(crate) fn at(self, path: &std::path::Path) -> Self {
        let at = Some(path.to_owned());
        match self {
            Self::Combine { message, hint, .. } => Self::Combine { message, at, hint },
            Self::Invalid { message, .. } => Self::Invalid { message, at },
            other => other,
        }
    }
}
