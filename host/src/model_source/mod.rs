//! Where a model is: what `--model` takes, and the directory that it stands for.
//!
//! A directory is taken as it is. The cache that Hugging Face's tools keep is known: a
//! `models--organization--name` folder stands for the snapshot that its `main` points to, and a hub
//! name (`organization/name`, `organization/name@revision`) is looked up there before it is
//! downloaded into it.

mod cache;
#[cfg(feature = "hub")]
mod download;
mod environment;

pub use environment::HubEnvironment;

use crate::progress::Event;
use anemll_plugin_api::{Error, Result, codes};
use std::path::{Path, PathBuf};

/// What of a model is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// config.json alone.
    Config,
    /// The weights too, and the tokenizer's files.
    Weights,
}

/// The directory that `--model` stands for; `show` hears of a download.
///
/// # Errors
/// [`codes::MODEL_DIRECTORY_UNREADABLE`] when there is no such directory, [`codes::HUB_OFFLINE`]
/// and [`codes::DOWNLOAD_FAILED`] when it is a hub's model that cannot be had.
pub fn resolve(model: &Path, need: Need, show: &dyn Fn(&Event<'_>)) -> Result<PathBuf> {
    resolve_with(model, need, &HubEnvironment::read(), show)
}

/// As [`resolve`], with an environment that is given.
///
/// # Errors
/// As [`resolve`].
pub fn resolve_with(
    model: &Path,
    need: Need,
    environment: &HubEnvironment,
    show: &dyn Fn(&Event<'_>),
) -> Result<PathBuf> {
    if model.is_dir() {
        return cache::within(model, need);
    }
    if model.file_name().is_some_and(|name| name == "config.json") && model.is_file() {
        return Ok(model.parent().unwrap_or(Path::new("")).to_owned());
    }
    let missing = || {
        Error::new(codes::MODEL_DIRECTORY_UNREADABLE, "Model directory does not exist")
            .with_at(model.display().to_string())
    };
    if model.exists() {
        return Err(Error::new(codes::MODEL_DIRECTORY_UNREADABLE, "this is not a directory")
            .with_at(model.display().to_string())
            .with_hint("give the folder that holds config.json and the weights"));
    }
    let Some(name) = model.to_str().and_then(HubName::parse) else {
        return Err(missing().with_hint(
            "check the --model path; a model of the hub is named like Qwen/Qwen3-0.6B",
        ));
    };
    let found = cache::find(&environment.cache, &name, need);
    if let Some(path) = found.complete {
        return Ok(path);
    }
    if environment.offline {
        let cause = format!("`{name}` is not in the cache {}", environment.cache.display());
        let mut error = Error::new(
            codes::HUB_OFFLINE,
            "Model directory does not exist, and HF_HUB_OFFLINE forbids to download it",
        )
        .with_at(model.display().to_string())
        .with_cause(cause);
        if let Some(lack) = found.lack {
            error = error.with_cause(lack);
        }
        return Err(error.with_hint(format!(
            "unset HF_HUB_OFFLINE to download from {}, or give a directory",
            environment.endpoint
        )));
    }
    fetch(&name, need, environment, show)
}

#[cfg(feature = "hub")]
fn fetch(
    name: &HubName,
    need: Need,
    environment: &HubEnvironment,
    show: &dyn Fn(&Event<'_>),
) -> Result<PathBuf> {
    download::download(name, need, environment, show)
}

#[cfg(not(feature = "hub"))]
fn fetch(
    name: &HubName,
    _: Need,
    environment: &HubEnvironment,
    _: &dyn Fn(&Event<'_>),
) -> Result<PathBuf> {
    Err(Error::new(codes::HUB_OFFLINE, "Model directory does not exist, and this build has no hub")
        .with_at(name.to_string())
        .with_cause(format!("`{name}` is not in the cache {}", environment.cache.display()))
        .with_hint("download the model by other means, and give its directory"))
}

/// The name of a model for people and file names: of a snapshot in a cache it is the model's name
/// on the hub, else that of the directory.
pub fn model_name(directory: &Path) -> String {
    let path = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let text = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
    let hub = path.parent().filter(|parent| parent.ends_with("snapshots")).and_then(|parent| {
        let folder = text(parent.parent()?)?;
        let name = folder.strip_prefix("models--")?;
        Some(name.split_once("--").map_or(name, |(_, name)| name).to_owned())
    });
    hub.or_else(|| text(&path)).unwrap_or_else(|| "model".to_owned())
}

/// `organization/name`, or `organization/name@revision`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HubName {
    repository: String,
    revision: String,
}

/// Where a name's revision is not given.
const MAIN: &str = "main";

impl HubName {
    /// The parts, of texts that have the form of a name on the hub.
    pub(crate) fn parse(text: &str) -> Option<Self> {
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
        };
        // Two dashes stand for the slash in the cache.
        let both = [organization, name];
        let names = both.iter().all(|part| legal(part, b"-_.") && !part.contains("--"));
        (names && legal(revision, b"-_./"))
            .then(|| Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }

    /// Name of its folder in a cache.
    fn folder(&self) -> String {
        format!("models--{}", self.repository.replace('/', "--"))
    }
}

impl std::fmt::Display for HubName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.repository)?;
        if self.revision != MAIN {
            write!(formatter, "@{}", self.revision)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_hub_are_told_from_paths() {
        let name = HubName::parse("Qwen/Qwen3-0.6B").unwrap();
        assert_eq!((name.repository.as_str(), name.revision.as_str()), ("Qwen/Qwen3-0.6B", "main"));
        assert_eq!(name.folder(), "models--Qwen--Qwen3-0.6B");
        assert_eq!(HubName::parse("a/b@refs/pr/1").unwrap().to_string(), "a/b@refs/pr/1");
        for text in [
            "", "/", "gpt2", "a/", "/b", "a/b/c", "./a/b", "../b", "a/..", "a/b@", "a/b@../c",
            "a/b c", "~/models", "a\\b/c", "C:/b", "a/b--c", "a/b@/c", "a/-b", "a/b\n", "ü/b",
        ] {
            assert_eq!(HubName::parse(text), None, "{text:?}");
        }
        assert_eq!(HubName::parse(&format!("a/{}", "b".repeat(200))), None);
    }

    #[test]
    fn a_snapshot_has_the_models_name() {
        for (path, name) in [
            ("/x/models--Qwen--Qwen3-0.6B/snapshots/0123abc", "Qwen3-0.6B"),
            ("/x/models--gpt2/snapshots/0123abc", "gpt2"),
            ("/x/SmolLM2-135M", "SmolLM2-135M"),
            ("/x/other/snapshots/1", "1"),
            ("/", "model"),
        ] {
            assert_eq!(model_name(Path::new(path)), name, "{path}");
        }
    }
}
