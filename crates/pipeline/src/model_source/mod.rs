//! Where a model is: what `--model` takes, and the directory that it stands for.
//!
//! A directory is taken as it is. A GGUF file gets a view: a folder in the cache of this
//! program that all others read like a model directory. The cache that Hugging Face's tools keep is known: a
//! `models--organization--name` folder stands for the snapshot that its `main` points to, and a hub
//! name (`organization/name`, `organization/name@revision`) is looked up there before it is
//! downloaded into it. [`Source`] gives the configuration first, so that a model which cannot be
//! converted costs no download.

#[cfg(feature = "hub")]
mod download;
mod view;

pub use anemll_hub::{Environment as HubEnvironment, Need};

use crate::event::Event;
use anemll_codes as codes;
use anemll_hub::{HubError, Name};
use anemll_plugin_api::{Error, Result};
use std::path::{Path, PathBuf};

/// The directory that `--model` stands for; `show` hears of a download.
///
/// # Errors
/// [`codes::MODEL_DIRECTORY_UNREADABLE`] when there is no such directory, [`codes::HUB_OFFLINE`],
/// [`codes::DOWNLOAD_FAILED`] and its kin when it is a hub's model that is not available.
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
    match read(model, need)? {
        Reading::Directory(path) => Ok(path),
        Reading::Name(name) => match look(&name, need, environment, show)? {
            Looked::Complete(path) => Ok(path),
            Looked::Lacking(lack) => fetch(&name, need, environment, lack, show),
        },
    }
}

/// The directory of a model with an adapter: a view of the two. Without one, the model as it was given.
///
/// # Errors
/// As [`resolve`]; an adapter that cannot be merged, or is of another model.
pub fn adapted(model: &Path, adapter: Option<&Path>, show: &dyn Fn(&Event<'_>)) -> Result<PathBuf> {
    match adapter {
        Some(adapter) => view::of_adapted(&resolve(model, Need::Weights, show)?, adapter),
        None => Ok(model.to_owned()),
    }
}

/// A model whose configuration is there, and whose weights may still have to be downloaded.
#[derive(Debug)]
pub struct Source {
    directory: PathBuf,
    missing: Option<Missing>,
    environment: HubEnvironment,
    need: Need,
}

/// What of a model is still on the hub.
#[derive(Debug)]
struct Missing {
    /// What was asked for.
    name: Name,
    /// The same at the commit of the configuration.
    pinned: Name,
}

impl Source {
    /// Finds a model of which `need` will be needed, and downloads no more than config.json where
    /// that is not here yet; `show` hears of it.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn open(model: &Path, need: Need, show: &dyn Fn(&Event<'_>)) -> Result<Self> {
        Self::open_with(model, need, HubEnvironment::read(), show)
    }

    /// As [`Source::open`], with an environment that is given.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn open_with(
        model: &Path,
        need: Need,
        environment: HubEnvironment,
        show: &dyn Fn(&Event<'_>),
    ) -> Result<Self> {
        let name = match read(model, need)? {
            Reading::Directory(directory) => {
                return Ok(Self { directory, missing: None, environment, need });
            }
            Reading::Name(name) => name,
        };
        let lack = match look(&name, need, &environment, show)? {
            Looked::Complete(directory) => {
                return Ok(Self { directory, missing: None, environment, need });
            }
            Looked::Lacking(lack) => lack,
        };
        let directory = match look(&name, Need::Config, &environment, show)? {
            Looked::Complete(directory) => directory,
            Looked::Lacking(_) => fetch(&name, Need::Config, &environment, lack, show)?,
        };
        let pinned = anemll_hub::commit_of(&directory).and_then(|commit| name.at(commit));
        let missing = Some(Missing { pinned: pinned.unwrap_or_else(|| name.clone()), name });
        Ok(Self { directory, missing, environment, need })
    }

    /// The directory with config.json.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether all that the model has is in the directory.
    pub fn is_whole(&self) -> bool {
        self.missing.is_none()
    }

    /// The directory with all that is needed; see [`Self::with`].
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn whole(&self, show: &dyn Fn(&Event<'_>)) -> Result<PathBuf> {
        self.with(self.need, show)
    }

    /// The directory with more of the model, downloaded if need be: of the commit of config.json,
    /// or, where the hub has that no more, of what took its place.
    ///
    /// # Errors
    /// As [`resolve`].
    pub fn with(&self, need: Need, show: &dyn Fn(&Event<'_>)) -> Result<PathBuf> {
        let Some(Missing { name, pinned }) = &self.missing else {
            return Ok(self.directory.clone());
        };
        let lack = match look(pinned, need, &self.environment, show)? {
            Looked::Complete(directory) => return Ok(directory),
            Looked::Lacking(lack) => lack,
        };
        match fetch(pinned, need, &self.environment, lack, show) {
            Err(error) if error.code == codes::MODEL_DIRECTORY_UNREADABLE && name != pinned => {
                fetch(name, need, &self.environment, None, show)
            }
            result => result,
        }
    }
}

/// What the cache has of a model.
enum Looked {
    Complete(PathBuf),
    /// What it lacks, if it has anything.
    Lacking(Option<String>),
}

/// Looks a name up in the cache. Where what is there may lack a small file, the hub is asked for it, at the
/// same commit; if it cannot be asked, what is there will do.
fn look(
    name: &Name,
    need: Need,
    environment: &HubEnvironment,
    show: &dyn Fn(&Event<'_>),
) -> Result<Looked> {
    let found = anemll_hub::find(&environment.cache, name, need);
    let Some(path) = found.complete else { return Ok(Looked::Lacking(found.lack)) };
    let Some(doubtful) = found.doubtful.filter(|_| !environment.offline) else {
        return Ok(Looked::Complete(path));
    };
    let pinned = anemll_hub::commit_of(&path).and_then(|commit| name.at(commit));
    let Some(pinned) = pinned else { return Ok(Looked::Complete(path)) };
    let small = match need {
        Need::Config | Need::WeightsAlone => Need::Config,
        Need::Tokenizer | Need::Weights => Need::Tokenizer,
    };
    match ask(&pinned, small, environment, show) {
        Ok(path) => Ok(Looked::Complete(path)),
        Err(error) if error.kind() == anemll_hub::ErrorKind::Cancelled => Err(from_hub(error)),
        Err(error) => {
            let text = format!(
                "the cache has no {doubtful} of {name}, and the hub cannot be asked whether there is \
                 one: {}",
                error.message()
            );
            show(&Event::Note { text: &text });
            Ok(Looked::Complete(path))
        }
    }
}

/// How `--model` is understood.
enum Reading {
    Directory(PathBuf),
    Name(Name),
}

/// Reads `--model` as a path, and where there is nothing, as a name on the hub.
fn read(model: &Path, need: Need) -> Result<Reading> {
    let name = model.to_str().and_then(Name::parse);
    if model.is_dir() {
        let empty = |file: &str| !model.join(file).exists();
        if let Some(name) = &name
            && ["config.json", "adapter_config.json", "snapshots"].into_iter().all(empty)
        {
            return Err(Error::new(
                codes::MODEL_DIRECTORY_UNREADABLE,
                "the model directory has no config.json",
            )
            .with_at(model.display().to_string())
            .with_cause(format!(
                "`{name}` is a directory here, so the model of this name was not looked for on the \
                 hub"
            ))
            .with_hint(
                "give the folder that holds config.json; for the model of the hub, run the \
                 command in another folder, or remove this one",
            ));
        }
        return anemll_hub::within(model, need).map(Reading::Directory).map_err(from_hub);
    }
    if model.file_name().is_some_and(|name| name == "config.json") && model.is_file() {
        let folder = model.parent().filter(|folder| !folder.as_os_str().is_empty());
        return Ok(Reading::Directory(folder.unwrap_or(Path::new(".")).to_owned()));
    }
    if view::is_gguf(model) {
        return view::of_gguf(model).map(Reading::Directory);
    }
    if model.exists() {
        return Err(Error::new(codes::MODEL_DIRECTORY_UNREADABLE, "this is not a directory")
            .with_at(model.display().to_string())
            .with_hint("give the folder that holds config.json and the weights, or a GGUF file"));
    }
    name.map(Reading::Name).ok_or_else(|| {
        Error::new(codes::MODEL_DIRECTORY_UNREADABLE, "Model directory does not exist")
            .with_at(model.display().to_string())
            .with_cause(as_a_path(model))
            .with_cause("as a name on the hub: it is not of the form ORGANIZATION/NAME")
            .with_hint("check the --model path; a model of the hub is named like Qwen/Qwen3-0.6B")
    })
}

/// The reading that was tried first.
fn as_a_path(model: &Path) -> String {
    let absolute = std::path::absolute(model);
    let path = absolute.as_deref().unwrap_or(model);
    format!("as a path: {} does not exist", path.display())
}

/// Downloads what of a model the cache has not.
fn fetch(
    name: &Name,
    need: Need,
    environment: &HubEnvironment,
    lack: Option<String>,
    show: &dyn Fn(&Event<'_>),
) -> Result<PathBuf> {
    let path = as_a_path(Path::new(&name.to_string()));
    let cache = format!("as a name: `{name}` is not in the cache {}", environment.cache.display());
    if environment.offline {
        let error = Error::new(
            codes::HUB_OFFLINE,
            "Model directory does not exist, and HF_HUB_OFFLINE forbids to download it",
        );
        let mut error = error.with_at(name.to_string()).with_cause(path).with_cause(cache);
        if let Some(lack) = lack {
            error = error.with_cause(lack);
        }
        return Err(error.with_hint(format!(
            "unset HF_HUB_OFFLINE to download from {}, or give a directory",
            environment.shown_endpoint()
        )));
    }
    ask(name, need, environment, show).map_err(|source| match source.kind() {
        anemll_hub::ErrorKind::NotFound => {
            let mut error =
                Error::new(codes::MODEL_DIRECTORY_UNREADABLE, "Model directory does not exist")
                    .with_at(name.to_string())
                    .with_cause(path);
            for cause in source.causes() {
                error = error.with_cause(format!("as a name: {cause}"));
            }
            error.with_hint("check the name, or give the path of a directory")
        }
        anemll_hub::ErrorKind::Unreachable => {
            let message = "Model directory does not exist, and the hub cannot be asked for it";
            let mut error = Error::new(codes::HUB_OFFLINE, message)
                .with_at(name.to_string())
                .with_cause(path)
                .with_cause(cache);
            let at = source.at().map_or_else(|| environment.shown_endpoint(), str::to_owned);
            error = error.with_cause(format!("{at}: {}", source.message()));
            for cause in source.causes() {
                error = error.with_cause(cause.clone());
            }
            let hint = source.hint().unwrap_or("check the network and HF_ENDPOINT");
            error.with_hint(hint)
        }
        _ => from_hub(source),
    })
}

#[cfg(feature = "hub")]
use download::ask;

#[cfg(not(feature = "hub"))]
fn ask(
    _: &Name,
    _: Need,
    _: &HubEnvironment,
    _: &dyn Fn(&Event<'_>),
) -> anemll_hub::Result<PathBuf> {
    let kind = anemll_hub::ErrorKind::Unreachable;
    Err(HubError::new(kind, "this build has no hub")
        .with_hint("download the model by other means, and give its directory"))
}

/// An error about a model of the hub.
fn from_hub(source: HubError) -> Error {
    use anemll_hub::ErrorKind as Kind;
    let code = match source.kind() {
        Kind::Cancelled => return Error::cancelled(),
        Kind::NotFound | Kind::Folder => codes::MODEL_DIRECTORY_UNREADABLE,
        Kind::Unreachable => codes::HUB_OFFLINE,
        Kind::Refused => codes::HUB_REFUSED,
        Kind::Answer => codes::HUB_ANSWER_INVALID,
        Kind::Damaged => codes::DOWNLOAD_DAMAGED,
        Kind::Cache => codes::HUB_CACHE_UNWRITABLE,
        _ => codes::DOWNLOAD_FAILED,
    };
    let mut error = Error::new(code, source.message());
    error.at = source.at().map(str::to_owned);
    error.causes = source.causes().to_vec();
    error.hint = source.hint().map(str::to_owned);
    error
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

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn an_error_says_which_readings_were_tried() {
        let cache = tempfile::tempdir().unwrap();
        let home = cache.path().to_str().unwrap().to_owned();
        let environment = |offline: &str, endpoint: &str| {
            HubEnvironment::from(
                |name| match name {
                    "HF_HOME" => Some(home.clone()),
                    "HF_HUB_OFFLINE" => Some(offline.to_owned()),
                    "HF_ENDPOINT" => Some(endpoint.to_owned()),
                    _ => None,
                },
                None,
            )
        };
        let refused = |model: &str, environment: HubEnvironment| {
            resolve_with(Path::new(model), Need::Config, &environment, &|_| {}).unwrap_err()
        };
        let has = |error: &Error, text: &str| {
            assert!(error.causes.iter().any(|cause| cause.contains(text)), "{text}: {error:?}");
        };
        let error = refused("./no/such/path", environment("1", "http://hub.invalid"));
        assert_eq!(error.code, codes::MODEL_DIRECTORY_UNREADABLE);
        has(&error, "as a path: /");
        has(&error, "as a name on the hub: it is not");
        let error = refused("no/such", environment("1", "http://hub.invalid"));
        assert_eq!(error.code, codes::HUB_OFFLINE);
        has(&error, "no/such does not exist");
        has(&error, "as a name: `no/such` is not in the cache");
        #[cfg(feature = "hub")]
        {
            // A port that nothing listens on.
            let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
            let error = refused("no/such", environment("0", &format!("http://{closed}")));
            assert_eq!(error.code, codes::HUB_OFFLINE);
            has(&error, "no/such does not exist");
            has(&error, &closed.to_string());
        }
    }
}
