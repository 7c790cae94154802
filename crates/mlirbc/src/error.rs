//! The one error type of this crate: a sentence, and where in the file.

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a file was not read or not written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no MLIR bytecode that can be read.
    #[error("at byte {offset}: {message}")]
    Malformed {
        /// Where in the file.
        offset: u64,
        /// What is wrong there.
        message: String,
    },
    /// A document contradicts itself, so that it cannot be written.
    #[error("{0}")]
    Document(String),
    /// The system refused to read or to write.
    #[error(transparent)]
    System(#[from] std::io::Error),
}
