//! Downloading a model from the hub into the cache, with the crate `hf-hub`.
//!
//! That crate trusts what the hub says and what comes over the line. Here names are checked before
//! it makes paths of them, sizes and hashes after it has written; and since it cannot be
//! interrupted, it works on a thread of its own. A part that was loaded stays for the next attempt.

use super::cache::{self, INDEX, WEIGHTS, is_plain};
use super::{HubEnvironment, HubName, Need};
use crate::progress::Event;
use crate::services::check_cancelled;
use anemll_plugin_api::{Error, Result, codes};
use hf_hub::api::Progress;
use hf_hub::api::sync::{Api, ApiBuilder, ApiError, ApiRepo, Metadata};
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest as _, Sha256};
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Attempts at one file.
const ATTEMPTS: u32 = 5;
/// Bytes after which progress is told again.
const STRIDE: u64 = 1 << 20;

/// Files beside the weights that are wanted; those that begin with `tokenizer` or `chat_template`
/// too.
const SMALL_FILES: [&str; 8] = [
    "config.json",
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
];

enum Message {
    /// A remark.
    Note(String),
    /// So many bytes of a file are there.
    Bytes { file: String, done: u64, total: u64 },
    /// Work goes on.
    Alive,
    /// The end.
    Done(Result<PathBuf>),
}

/// Downloads what of a model is not in the cache yet, and gives its snapshot.
pub(super) fn download(
    name: &HubName,
    need: Need,
    environment: &HubEnvironment,
    show: &dyn Fn(&Event<'_>),
) -> Result<PathBuf> {
    let (sender, receiver) = channel();
    let result = sender.clone();
    let job = Job {
        name: name.clone(),
        need,
        environment: environment.clone(),
        sender,
        authorised: false,
    };
    std::thread::Builder::new()
        .name("download".to_owned())
        .spawn(move || {
            let mut job = job;
            // hf-hub takes some answers of a server for granted.
            let done = catch_unwind(AssertUnwindSafe(|| job.run())).unwrap_or_else(|_| {
                Err(job.failed("the hub gave an answer that cannot be understood"))
            });
            let _ = result.send(Message::Done(done));
        })
        .map_err(|source| Error::new(codes::INTERNAL, format!("no thread: {source}")))?;
    let mut last = Instant::now();
    loop {
        check_cancelled()?;
        match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(Message::Done(result)) => return result,
            Ok(Message::Note(text)) => show(&Event::Note { text: &text }),
            Ok(Message::Bytes { file, done, total }) => {
                show(&Event::Download { file: &file, done, total });
            }
            Ok(Message::Alive) => {}
            Err(RecvTimeoutError::Timeout) if last.elapsed() < environment.patience => continue,
            Err(_) => {
                let seconds = environment.patience.as_secs();
                return Err(Error::new(
                    codes::DOWNLOAD_FAILED,
                    format!("the hub sent nothing for {seconds} s"),
                )
                .with_at(format!("{}/{name}", environment.endpoint))
                .with_hint("run the same command again: it goes on where this one ended"));
            }
        }
        last = Instant::now();
    }
}

struct Job {
    name: HubName,
    need: Need,
    environment: HubEnvironment,
    sender: Sender<Message>,
    /// Whether the token goes along. It does from the first refusal on: who loads public models
    /// only shows it to nobody.
    authorised: bool,
}

/// What went wrong with one attempt.
enum Failure {
    /// Trying again is of no use.
    Final(Error),
    /// It may go better next time.
    Passing(Error),
}

impl Job {
    fn run(&mut self) -> Result<PathBuf> {
        let info = match self.ask(|_, repository| repository.info()) {
            Ok(info) => info,
            Err(source) => return Err(self.unknown(&source)),
        };
        if info.sha.is_empty() || !info.sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(self.failed("the hub names no commit of the model"));
        }
        let commit = info.sha;
        let files: Vec<String> = info
            .siblings
            .into_iter()
            .map(|file| file.rfilename)
            .filter(|name| is_plain(name))
            .collect();
        if !files.iter().any(|name| name == "config.json") {
            return Err(self.failed("the hub's model has no config.json").with_hint(
                "take the repository of a transformers model with safetensors weights",
            ));
        }
        let snapshot = self.folder().join("snapshots").join(&commit);
        if self.need == Need::Config {
            self.files(&["config.json".to_owned()], &commit)?;
            return Ok(snapshot);
        }
        let has = |name: &str| files.iter().any(|file| file == name);
        let weights: Vec<&String> =
            files.iter().filter(|name| name.ends_with(".safetensors")).collect();
        if weights.is_empty() {
            return Err(self
                .failed("the hub's model has no safetensors weights")
                .with_hint("take the original repository, not a GGUF or MLX version of it"));
        }
        let _ = self.sender.send(Message::Note(format!(
            "downloading {} from {} to {}",
            self.name,
            self.environment.endpoint,
            snapshot.display()
        )));
        let mut small: Vec<String> = files.iter().filter(|name| is_small(name)).cloned().collect();
        let sharded = !has(WEIGHTS) && has(INDEX);
        if sharded {
            small.push(INDEX.to_owned());
        }
        self.files(&small, &commit)?;
        let wanted = if has(WEIGHTS) {
            vec![WEIGHTS.to_owned()]
        } else if sharded {
            let index = std::fs::read_to_string(snapshot.join(INDEX)).unwrap_or_default();
            let Some(shards) = cache::shards(&index) else {
                return Err(self.failed(&format!("the model's {INDEX} cannot be read")));
            };
            shards.into_iter().collect()
        } else if let [only] = weights.as_slice() {
            vec![(*only).clone()]
        } else {
            return Err(self.failed(&format!("the hub's model has no {INDEX}")));
        };
        if let Some(missing) = wanted.iter().find(|name| !has(name)) {
            return Err(self.failed(&format!("the hub's model lacks the shard {missing}")));
        }
        self.files(&wanted, &commit)?;
        Ok(snapshot)
    }

    /// Brings files into the snapshot, those that are there already excepted.
    fn files(&mut self, names: &[String], commit: &str) -> Result<()> {
        let blobs = self.folder().join("blobs");
        std::fs::create_dir_all(&blobs).map_err(|source| self.unwritable(&source))?;
        let mut missing = 0_u64;
        for name in names {
            let metadata = self.attempts(|job| job.metadata(name, commit))?;
            if !self.present(name, commit, &metadata) {
                let part = blobs.join(metadata.etag()).with_extension("part");
                let there = part.metadata().map_or(0, |part| part.len());
                missing = missing.saturating_add((metadata.size() as u64).saturating_sub(there));
            }
        }
        if let Ok(free) = fs4::available_space(&blobs)
            && missing > free
        {
            return Err(self
                .failed(&format!(
                    "{} are still to be downloaded, but only {} are free",
                    megabytes(missing),
                    megabytes(free)
                ))
                .with_at(blobs.display().to_string())
                .with_hint("free some space, or set HF_HUB_CACHE to a folder on another disk"));
        }
        for name in names {
            self.attempts(|job| job.file(name, commit))?;
        }
        Ok(())
    }

    fn attempts<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        let mut pause = self.environment.pause;
        for number in 1.. {
            match attempt(self) {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Passing(error)) if number >= ATTEMPTS => {
                    return Err(error
                        .with_hint("run the same command again: it goes on where this one ended"));
                }
                Err(Failure::Passing(error)) => {
                    tracing::info!("{error}; once more");
                    let _ = self.sender.send(Message::Alive);
                    std::thread::sleep(pause);
                    pause = pause.saturating_mul(2);
                }
            }
        }
        Err(self.failed("the attempts are used up"))
    }

    /// Size, hash and commit of a file, checked: the cache's paths are made of them.
    fn metadata(&mut self, name: &str, commit: &str) -> std::result::Result<Metadata, Failure> {
        let metadata = self
            .ask(|api, repository| api.metadata(&repository.url(name)))
            .map_err(|source| self.failure(name, &source))?;
        let etag = metadata.etag();
        let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        if etag.is_empty() || etag.len() > 128 || !etag.bytes().all(inside) {
            let reason = format!("the hub's tag of {name} cannot be a file name");
            return Err(Failure::Final(self.failed(&reason)));
        }
        if metadata.commit_hash() != commit {
            let reason = "the model was changed on the hub while it was downloaded";
            return Err(Failure::Final(
                self.failed(reason).with_hint("run the same command again"),
            ));
        }
        let _ = self.sender.send(Message::Alive);
        Ok(metadata)
    }

    /// Whether a file is in the snapshot. A blob that another snapshot brought is linked.
    fn present(&self, name: &str, commit: &str, metadata: &Metadata) -> bool {
        let whole = |path: &Path| {
            path.metadata().is_ok_and(|file| file.is_file() && file.len() == metadata.size() as u64)
        };
        let pointer = self.pointer(name, commit);
        if whole(&pointer) {
            return true;
        }
        // What lies there is not the file: a broken link, or a part of it.
        let _ = std::fs::remove_file(&pointer);
        let blob = self.folder().join("blobs").join(metadata.etag());
        whole(&blob) && link(&blob, &pointer).is_ok()
    }

    fn file(&mut self, name: &str, commit: &str) -> std::result::Result<(), Failure> {
        let metadata = self.metadata(name, commit)?;
        let size = metadata.size() as u64;
        if self.present(name, commit, &metadata) {
            return Ok(());
        }
        let blob = self.folder().join("blobs").join(metadata.etag());
        let part = blob.with_extension("part");
        self.trim(&part, size).map_err(|source| Failure::Final(self.unwritable(&source)))?;
        let sender = self.sender.clone();
        let loaded = self.ask(|_, repository| {
            let meter =
                Meter { sender: sender.clone(), file: name.to_owned(), done: 0, told: 0, total: 0 };
            repository.download_with_progress(name, meter)
        });
        if let Err(source) = loaded {
            let out_of_range = matches!(&source, ApiError::InvalidResume)
                || status(&source) == Some(RANGE_NOT_SATISFIABLE);
            if out_of_range {
                let _ = std::fs::remove_file(&part);
            }
            return Err(self.failure(name, &source));
        }
        self.verify(name, &self.pointer(name, commit), &blob, &metadata)
    }

    /// hf-hub asks for what follows a part; nothing follows a whole one, so one byte is taken off.
    fn trim(&self, part: &Path, size: u64) -> std::io::Result<()> {
        match part.metadata() {
            Ok(file) if file.len() == size && size > 0 => {
                std::fs::OpenOptions::new().write(true).open(part)?.set_len(size - 1)
            }
            Ok(file) if file.len() > size => std::fs::remove_file(part),
            _ => Ok(()),
        }
    }

    /// The size, and for large files the hash, which is then the tag.
    fn verify(
        &self,
        name: &str,
        pointer: &Path,
        blob: &Path,
        metadata: &Metadata,
    ) -> std::result::Result<(), Failure> {
        let size = metadata.size() as u64;
        let found = pointer.metadata().map_or(0, |file| file.len());
        let reason = if found < size {
            // On a system without links the snapshot holds the file itself.
            let _ = std::fs::rename(blob, blob.with_extension("part"))
                .or_else(|_| std::fs::rename(pointer, blob.with_extension("part")));
            let _ = std::fs::remove_file(pointer);
            format!("the connection ended after {found} of the {size} bytes of {name}")
        } else if found > size {
            self.discard(pointer, blob);
            format!("{name} has {found} bytes, not {size}: the hub does not resume downloads")
        } else if !self.hash_agrees(pointer, metadata.etag()) {
            self.discard(pointer, blob);
            format!("{name} arrived damaged: its SHA-256 is not {}", metadata.etag())
        } else {
            return Ok(());
        };
        Err(Failure::Passing(self.failed(&reason)))
    }

    fn discard(&self, pointer: &Path, blob: &Path) {
        let _ = std::fs::remove_file(pointer);
        let _ = std::fs::remove_file(blob);
    }

    fn hash_agrees(&self, path: &Path, etag: &str) -> bool {
        if etag.len() != 64 || !etag.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return true;
        }
        let Ok(mut file) = std::fs::File::open(path) else { return false };
        let mut hash = Sha256::new();
        let mut buffer = vec![0; 1 << 20];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => hash.update(&buffer[..count]),
                Err(_) => return false,
            }
            let _ = self.sender.send(Message::Alive);
        }
        let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        digits.eq_ignore_ascii_case(etag)
    }

    /// Makes a request; when it is refused, and there is a token, once more with it.
    fn ask<T>(
        &mut self,
        request: impl Fn(&Api, &ApiRepo) -> std::result::Result<T, ApiError>,
    ) -> std::result::Result<T, ApiError> {
        let answer = self.once(&request);
        let refused = matches!(&answer, Err(source)
            if matches!(status(source), Some(UNAUTHORISED | FORBIDDEN | NOT_FOUND)));
        if refused && !self.authorised && self.environment.token.is_some() {
            self.authorised = true;
            return self.once(&request);
        }
        answer
    }

    fn once<T>(
        &self,
        request: &impl Fn(&Api, &ApiRepo) -> std::result::Result<T, ApiError>,
    ) -> std::result::Result<T, ApiError> {
        let token = if self.authorised { self.environment.token.clone() } else { None };
        let api = ApiBuilder::from_cache(Cache::new(self.environment.cache.clone()))
            .with_endpoint(self.environment.endpoint.clone())
            .with_token(token)
            .with_progress(false)
            .with_user_agent("anemll", env!("CARGO_PKG_VERSION"))
            .build()?;
        let repository = Repo::with_revision(
            self.name.repository.clone(),
            RepoType::Model,
            self.name.revision.clone(),
        );
        request(&api, &api.repo(repository))
    }

    fn folder(&self) -> PathBuf {
        self.environment.cache.join(self.name.folder())
    }

    fn pointer(&self, name: &str, commit: &str) -> PathBuf {
        self.folder().join("snapshots").join(commit).join(name)
    }

    fn failed(&self, reason: &str) -> Error {
        Error::new(codes::DOWNLOAD_FAILED, reason)
            .with_at(format!("{}/{}", self.environment.endpoint, self.name.repository))
    }

    fn unwritable(&self, source: &std::io::Error) -> Error {
        crate::error::io(
            codes::DOWNLOAD_FAILED,
            "cannot write to the cache",
            &self.folder(),
            source,
        )
        .with_hint("check the folder, or set HF_HUB_CACHE to another one")
    }

    /// Why the model itself cannot be had.
    fn unknown(&self, source: &ApiError) -> Error {
        let HubEnvironment { endpoint, cache, .. } = &self.environment;
        let name = &self.name;
        match status(source) {
            Some(NOT_FOUND) => {
                Error::new(codes::MODEL_DIRECTORY_UNREADABLE, "Model directory does not exist")
                    .with_at(name.to_string())
                    .with_cause(format!("the hub at {endpoint} has no model `{name}` either"))
                    .with_hint("check the name, or give the path of a directory")
            }
            Some(UNAUTHORISED | FORBIDDEN) => self.refused(),
            Some(status) => self
                .failed(&format!("the hub answers with HTTP status {status}"))
                .with_hint("try again later, or check HF_ENDPOINT"),
            None => Error::new(
                codes::HUB_OFFLINE,
                "Model directory does not exist, and the hub cannot be asked for it",
            )
            .with_at(name.to_string())
            .with_cause(format!("{endpoint}: {source}"))
            .with_cause(format!("`{name}` is not in the cache {}", cache.display()))
            .with_hint(
                "check the network and HF_ENDPOINT, or give the path of a directory with the model",
            ),
        }
    }

    fn refused(&self) -> Error {
        let HubEnvironment { endpoint, token, .. } = &self.environment;
        let repository = &self.name.repository;
        let hint = match token {
            Some(_) => format!(
                "accept the model's licence at {endpoint}/{repository} with the account of the \
                 token that was sent, or set HF_TOKEN to another one"
            ),
            None => format!(
                "accept the model's licence at {endpoint}/{repository}, and set HF_TOKEN to a \
                 token of that account"
            ),
        };
        self.failed("the model is gated or private, or there is none of this name").with_hint(hint)
    }

    /// What an error of hf-hub means for a file.
    fn failure(&self, file: &str, source: &ApiError) -> Failure {
        use std::io::ErrorKind as Kind;
        match (status(source), source) {
            (Some(UNAUTHORISED | FORBIDDEN), _) => Failure::Final(self.refused()),
            (Some(status), _) => {
                let error = self.failed(&format!("{file}: HTTP status {status}"));
                let passing = status >= 500 || [408, 416, 429].contains(&status);
                if passing { Failure::Passing(error) } else { Failure::Final(error) }
            }
            (None, ApiError::IoError(source))
                if matches!(
                    source.kind(),
                    Kind::StorageFull
                        | Kind::QuotaExceeded
                        | Kind::PermissionDenied
                        | Kind::ReadOnlyFilesystem
                ) =>
            {
                Failure::Final(self.unwritable(source))
            }
            (None, ApiError::LockAcquisition(path)) => Failure::Final(
                self.failed(&format!("{file} is being downloaded by another process"))
                    .with_cause(format!("{} is locked", path.display()))
                    .with_hint("wait for it to end"),
            ),
            (None, ApiError::MissingHeader(_) | ApiError::InvalidHeader(_)) => Failure::Final(
                self.failed(&format!("{file}: {source}"))
                    .with_hint("this endpoint does not answer like a hub: check HF_ENDPOINT"),
            ),
            (None, _) => Failure::Passing(self.failed(&format!("{file}: {source}"))),
        }
    }
}

const UNAUTHORISED: u16 = 401;
const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;
const RANGE_NOT_SATISFIABLE: u16 = 416;

/// The HTTP status of an answer that was a refusal.
fn status(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(source) => match **source {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        _ => None,
    }
}

fn is_small(name: &str) -> bool {
    SMALL_FILES.contains(&name)
        || name.starts_with("chat_template")
        || (name.starts_with("tokenizer") && !name.ends_with(".safetensors"))
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / f64::from(1 << 20))
}

/// A link as hf-hub makes it, relative so that the cache can be moved.
fn link(blob: &Path, pointer: &Path) -> std::io::Result<()> {
    if let Some(folder) = pointer.parent() {
        std::fs::create_dir_all(folder)?;
    }
    #[cfg(unix)]
    if let Some(name) = blob.file_name() {
        return std::os::unix::fs::symlink(Path::new("../../blobs").join(name), pointer);
    }
    std::fs::hard_link(blob, pointer)
}

/// Tells how much of a file is there.
struct Meter {
    sender: Sender<Message>,
    file: String,
    done: u64,
    told: u64,
    total: u64,
}

impl Meter {
    fn tell(&mut self) {
        self.told = self.done;
        let (file, done, total) = (self.file.clone(), self.done, self.total);
        let _ = self.sender.send(Message::Bytes { file, done, total });
    }
}

impl Progress for Meter {
    fn init(&mut self, size: usize, _: &str) {
        (self.done, self.told, self.total) = (0, 0, size as u64);
        self.tell();
    }

    fn update(&mut self, size: usize) {
        self.done = self.done.saturating_add(size as u64);
        if self.done - self.told >= STRIDE {
            self.tell();
        }
    }

    fn finish(&mut self) {
        self.tell();
    }
}

#[cfg(test)]
#[path = "download_tests.rs"]
mod tests;
