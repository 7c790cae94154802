//! The two hashes by which the hub names contents: SHA-256 of large files, git's SHA-1 of others.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// A hash in lower-case hexadecimal: 40 digits are that of a git blob, 64 a SHA-256. Nothing else
/// can be made, so that it may be the name of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sum(String);

impl Sum {
    /// The hash that a text is, whatever the case of its digits.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("sha256:").unwrap_or(text);
        let hexadecimal = text.bytes().all(|byte| byte.is_ascii_hexdigit());
        (hexadecimal && matches!(text.len(), 40 | 64)).then(|| Self(text.to_ascii_lowercase()))
    }

    /// Its digits.
    pub(super) fn digits(&self) -> &str {
        &self.0
    }

    /// What it is called in messages.
    pub(super) fn kind(&self) -> &'static str {
        if self.0.len() == 64 { "SHA-256" } else { "git SHA-1" }
    }

    /// A hasher of this kind, for contents of `size` bytes.
    pub(super) fn hasher(&self, size: u64) -> Hasher {
        if self.0.len() == 64 {
            return Hasher::Sha256(Sha256::new());
        }
        let mut hash = Sha1::new();
        hash.update(format!("blob {size}\0"));
        Hasher::Git(hash)
    }

    /// Whether this is the hash of `bytes`.
    pub(super) fn is_of(&self, bytes: &[u8]) -> bool {
        let mut hasher = self.hasher(bytes.len() as u64);
        hasher.update(bytes);
        hasher.finish() == *self
    }
}

/// A hash that is being computed.
pub(super) enum Hasher {
    Git(Sha1),
    Sha256(Sha256),
}

impl Hasher {
    pub(super) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Git(hash) => hash.update(bytes),
            Self::Sha256(hash) => hash.update(bytes),
        }
    }

    pub(super) fn finish(self) -> Sum {
        Sum(match self {
            Self::Git(hash) => hex::encode(hash.finalize()),
            Self::Sha256(hash) => hex::encode(hash.finalize()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_those_of_git_and_sha256sum() {
        // `printf 'hello\n' | git hash-object --stdin`, and `sha256sum`.
        let git = Sum::parse("ce013625030ba8dba906f756967f9e9ca394464a").unwrap();
        assert!(git.is_of(b"hello\n"));
        assert!(!git.is_of(b"hello"));
        let large = "5891B5B522D5DF086D0FF0B110FBD9D21BB4FC7163AF34D08286A2E846F6BE03";
        let large = Sum::parse(&format!("sha256:{large}")).unwrap();
        assert!(large.is_of(b"hello\n"));
        assert_eq!((git.kind(), large.kind()), ("git SHA-1", "SHA-256"));
    }

    #[test]
    fn nothing_else_is_a_hash() {
        for text in ["", "..", "../../x", &"0".repeat(41), &"g".repeat(40), &"é".repeat(20)] {
            assert_eq!(Sum::parse(text), None, "{text}");
        }
    }
}
