//! Names of models on the hub.

use std::fmt;

/// Where a name's revision is not given.
pub(crate) const MAIN: &str = "main";

/// `organization/name`, or `organization/name@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    repository: String,
    revision: String,
}

impl Name {
    /// The parts, of texts that have the form of a name on the hub.
    pub fn parse(text: &str) -> Option<Self> {
        let (repository, revision) = text.split_once('@').unwrap_or((text, MAIN));
        let (organization, name) = repository.split_once('/')?;
        let legal = |part: &str, more: &[u8]| {
            let inside = |byte: u8| byte.is_ascii_alphanumeric() || more.contains(&byte);
            !part.is_empty()
                && part.len() <= 128
                && part.bytes().all(inside)
                && !part.starts_with(['.', '-', '/'])
                && !part.ends_with(['.', '-', '/'])
                && !part.contains("..")
                && !part.contains("//")
        };
        // Two dashes stand for the slash in the cache.
        let both = [organization, name];
        let names = both.iter().all(|part| legal(part, b"-_.") && !part.contains("--"));
        (names && legal(revision, b"-_./"))
            .then(|| Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }

    /// `organization/name`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// A branch, a tag or a commit; `main` where none was given.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The same model at another revision; `None` where that is none.
    pub fn at(&self, revision: &str) -> Option<Self> {
        Self::parse(&format!("{}@{revision}", self.repository))
    }

    /// Name of its folder in a cache.
    pub(crate) fn folder(&self) -> String {
        format!("models--{}", self.repository.replace('/', "--"))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.repository)?;
        if self.revision != MAIN {
            write!(formatter, "@{}", self.revision)?;
        }
        Ok(())
    }
}

/// Whether a text is a whole commit id: 40 lower-case hexadecimal digits.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub_are_told_from_paths() {
        let name = Name::parse("Qwen/Qwen3-0.6B").unwrap();
        assert_eq!((name.repository(), name.revision()), ("Qwen/Qwen3-0.6B", "main"));
        assert_eq!(name.folder(), "models--Qwen--Qwen3-0.6B");
        assert_eq!(name.at("v1").unwrap().to_string(), "Qwen/Qwen3-0.6B@v1");
        assert_eq!(Name::parse("a/b@refs/pr/1").unwrap().to_string(), "a/b@refs/pr/1");
        for text in [
            "", "/", "gpt2", "a/", "/b", "a/b/c", "./a/b", "../b", "a/..", "a/b@", "a/b@../c",
            "a/b c", "~/models", "a\\b/c", "C:/b", "a/b--c", "a/b@/c", "a/-b", "a/b\n", "ü/b",
            "a/b@c//d", "a/b@c@d",
        ] {
            assert_eq!(Name::parse(text), None, "{text:?}");
        }
        assert_eq!(Name::parse(&format!("a/{}", "b".repeat(200))), None);
    }

    #[test]
    fn commits_have_forty_digits() {
        assert!(is_commit("0123456789abcdef0123456789abcdef01234567"));
        for text in ["", "main", "0123456", "../../etc", &"A".repeat(40), &"0".repeat(41)] {
            assert!(!is_commit(text), "{text}");
        }
    }
}
