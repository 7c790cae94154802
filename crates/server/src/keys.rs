//! The keys that clients show.

use anemll_codes as codes;
use anemll_files::Limit;
use anemll_plugin_api::{Error, Result};
use std::path::Path;
use subtle::{Choice, ConstantTimeEq as _};

/// Characters of a key, at least: shorter ones can be guessed.
const SHORTEST: usize = 16;

/// Keys, one of which has to be shown.
pub struct Keys(Vec<String>);

impl std::fmt::Debug for Keys {
    /// Without the keys: they shall be in no log.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} keys", self.0.len())
    }
}

impl Keys {
    /// Reads a file with a key in each line.
    ///
    /// # Errors
    /// [`codes::SERVER_KEY`]: the file cannot be read, has no key, or has one that is too short.
    pub fn read(path: &Path) -> Result<Self> {
        let invalid = |reason: String| {
            Error::new(codes::SERVER_KEY, format!("the file with the API keys {reason}"))
                .with_at(path.display().to_string())
                .with_hint("make a key with `openssl rand -hex 24 > FILE`")
        };
        let text = anemll_files::read_text(path, Limit::RECORD)
            .map_err(|source| invalid(format!("cannot be read: {source}")))?;
        let keys: Vec<String> =
            text.lines().map(str::trim).filter(|key| !key.is_empty()).map(str::to_owned).collect();
        if keys.is_empty() {
            return Err(invalid("has no key".to_owned()));
        }
        if keys.iter().any(|key| key.len() < SHORTEST) {
            return Err(invalid(format!("has a key of fewer than {SHORTEST} characters")));
        }
        // What a header cannot carry could never be shown.
        if keys.iter().any(|key| !key.bytes().all(|byte| byte.is_ascii_graphic())) {
            return Err(invalid("has a key with spaces or characters beyond ASCII".to_owned()));
        }
        Ok(Self(keys))
    }

    /// Whether a header `Authorization` shows one of the keys. It takes as long whichever characters
    /// are wrong.
    pub(crate) fn accept(&self, authorization: Option<&[u8]>) -> bool {
        let Some((scheme, shown)) = authorization.and_then(|value| value.split_at_checked(7))
        else {
            return false;
        };
        if !scheme.eq_ignore_ascii_case(b"bearer ") {
            return false;
        }
        let shown = shown.trim_ascii();
        let accepted =
            self.0.iter().fold(Choice::from(0), |found, key| found | key.as_bytes().ct_eq(shown));
        accepted.into()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn keys(text: &str) -> Result<Keys> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, text).unwrap();
        Keys::read(&path)
    }

    #[test]
    fn one_of_the_keys_has_to_be_shown_whole() {
        let keys = keys("0123456789abcdef\n\n  fedcba9876543210  \n").unwrap();
        for shown in ["Bearer 0123456789abcdef", "bearer fedcba9876543210"] {
            assert!(keys.accept(Some(shown.as_bytes())), "{shown}");
        }
        let wrong = ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Basic 0123456789abcdef"];
        for shown in wrong {
            assert!(!keys.accept(Some(shown.as_bytes())), "{shown}");
        }
        assert!(!keys.accept(None));
        assert!(!format!("{keys:?}").contains("0123"));
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for text in ["", "\n \n", "short", "0123456789 abcdef", "0123456789abcdefé"] {
            assert_eq!(keys(text).unwrap_err().code, codes::SERVER_KEY, "{text}");
        }
        assert!(Keys::read(Path::new("/nowhere")).is_err());
    }
}
