//! What the environment says of the hub: the variables of Hugging Face's own tools.

use anemll_files::Limit;
use std::path::PathBuf;

/// Where the cache is, and how the hub is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct Environment {
    /// The cache's folder: `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE`, or `hub` in `HF_HOME`, which is
    /// `huggingface` in `XDG_CACHE_HOME` or `~/.cache` when it is not set.
    pub cache: PathBuf,
    /// `HF_ENDPOINT`, without a slash at its end.
    pub endpoint: String,
    /// `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, or what the file `token` in `HF_HOME` (or
    /// `HF_TOKEN_PATH`) holds.
    pub token: Option<String>,
    /// `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`: the hub is not asked.
    pub offline: bool,
}

const ENDPOINT: &str = "https://huggingface.co";
/// A token is some dozens of bytes; who points elsewhere by mistake gets none.
const TOKEN: Limit = Limit::new("a token", 4096);
/// Bytes of the shortest text that is kept out of messages as a token.
const SHORTEST_SECRET: usize = 6;

impl Environment {
    /// The environment of this process.
    pub fn read() -> Self {
        Self::from(|name| std::env::var(name).ok(), std::env::home_dir())
    }

    /// The environment of these variables.
    pub fn from(variable: impl Fn(&str) -> Option<String>, home: Option<PathBuf>) -> Self {
        let set = |name: &str| variable(name).map(|text| text.trim().to_owned());
        let set = |name: &str| set(name).filter(|text| !text.is_empty());
        let path = |name: &str| set(name).map(|text| expand(&text, home.as_ref()));
        let huggingface = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME")
                .unwrap_or_else(|| home.clone().unwrap_or_default().join(".cache"))
                .join("huggingface")
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| huggingface.join("hub"));
        let token_file = path("HF_TOKEN_PATH").unwrap_or_else(|| huggingface.join("token"));
        let stored = || {
            let text = anemll_files::read_text(&token_file, TOKEN).ok()?;
            Some(text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        // A token goes into a header: what cannot stand there is none.
        let token = set("HF_TOKEN")
            .or_else(|| set("HUGGING_FACE_HUB_TOKEN"))
            .or_else(stored)
            .filter(|token| token.bytes().all(|byte| byte.is_ascii_graphic()));
        let yes = |name: &str| {
            set(name).is_some_and(|text| {
                matches!(text.to_ascii_lowercase().as_str(), "1" | "true" | "yes" | "on")
            })
        };
        let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        Self {
            cache: std::path::absolute(&cache).unwrap_or(cache),
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            token,
            offline: yes("HF_HUB_OFFLINE") || yes("TRANSFORMERS_OFFLINE"),
        }
    }
}

impl Environment {
    /// The endpoint without the name and the password that it may have, for people.
    pub fn shown_endpoint(&self) -> String {
        self.without_secrets(&self.endpoint)
    }

    /// A text without the token, and without the name and the password of the endpoint: a hub knows
    /// both, and may say them in its answers.
    pub(crate) fn without_secrets(&self, text: &str) -> String {
        let secret = |text: &&str| text.len() >= SHORTEST_SECRET;
        let text = match self.token.as_deref().filter(secret) {
            Some(token) => text.replace(token, "…"),
            None => text.to_owned(),
        };
        let after_scheme = self.endpoint.split_once("://").map_or("", |(_, rest)| rest);
        let authority = after_scheme.split('/').next().unwrap_or_default();
        match authority.rsplit_once('@') {
            Some((account, _)) => text.replace(&format!("{account}@"), ""),
            None => text,
        }
    }
}

/// A token is nobody's business, also not a log's.
impl std::fmt::Debug for Environment {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Environment")
            .field("cache", &self.cache)
            .field("endpoint", &self.shown_endpoint())
            .field("token", &self.token.as_ref().map(|_| "…"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

/// `~` is the shell's; in a variable it stays as it is typed.
fn expand(text: &str, home: Option<&PathBuf>) -> PathBuf {
    match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => home.join(rest),
        _ => PathBuf::from(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    fn of(variables: &[(&str, &str)]) -> Environment {
        let get = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        Environment::from(get, Some(PathBuf::from("/home/u")))
    }

    #[cfg(unix)]
    #[test]
    fn the_cache_is_where_the_variables_say() {
        let cache = |variables: &[(&str, &str)]| of(variables).cache;
        assert_eq!(cache(&[]), Path::new("/home/u/.cache/huggingface/hub"));
        assert_eq!(cache(&[("XDG_CACHE_HOME", "/x")]), Path::new("/x/huggingface/hub"));
        assert_eq!(cache(&[("HF_HOME", "/h"), ("XDG_CACHE_HOME", "/x")]), Path::new("/h/hub"));
        assert_eq!(cache(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]), Path::new("/c"));
        assert_eq!(cache(&[("HF_HUB_CACHE", " "), ("HF_HOME", "~/h")]), Path::new("/home/u/h/hub"));
    }

    #[test]
    fn endpoint_and_offline() {
        let plain = of(&[]);
        assert_eq!((plain.endpoint.as_str(), plain.offline), (ENDPOINT, false));
        assert_eq!(of(&[("HF_ENDPOINT", "http://mirror/")]).endpoint, "http://mirror");
        for yes in ["1", "true", "YES", "on"] {
            assert!(of(&[("HF_HUB_OFFLINE", yes)]).offline, "{yes}");
        }
        assert!(of(&[("TRANSFORMERS_OFFLINE", "1")]).offline);
        assert!(!of(&[("HF_HUB_OFFLINE", "0")]).offline);
    }

    #[test]
    fn tokens_come_from_variables_and_the_file_and_are_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        assert_eq!(of(&[("HF_HOME", home)]).token, None);
        std::fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(of(&[("HF_HOME", home)]).token.as_deref(), Some("hf_file"));
        let both = of(&[("HF_HOME", home), ("HF_TOKEN", "hf_secret")]);
        assert_eq!(both.token.as_deref(), Some("hf_secret"));
        assert!(!format!("{both:?}").contains("hf_secret"));
        let old = of(&[("HUGGING_FACE_HUB_TOKEN", "hf_old")]);
        assert_eq!(old.token.as_deref(), Some("hf_old"));
        assert_eq!(of(&[("HF_TOKEN", "a\nb")]).token, None);
        let mirror = of(&[("HF_ENDPOINT", "https://me:pass@mirror/x"), ("HF_TOKEN", "hf_secret")]);
        assert_eq!(mirror.shown_endpoint(), "https://mirror/x");
        assert!(!format!("{mirror:?}").contains("pass"));
        let text = "at https://me:pass@mirror/y with hf_secret";
        assert_eq!(mirror.without_secrets(text), "at https://mirror/y with …");
    }
}
