//! The work of a download, file by file.

use super::digest::Sum;
use super::http::{
    Answer, FORBIDDEN, Failure, Head, Http, NO_SUCH_FILE, NOT_FOUND, OK, PARTIAL,
    RANGE_NOT_SATISFIABLE, TOO_MANY, UNAUTHORISED,
};
use super::listing::{self, Entry, Info, Listing};
use super::shared::Shared;
use super::shelf::Shelf;
use super::url::Url;
use super::{Limits, Message};
use crate::cache::{self, CONFIG, INDEX, MODULES, SETTINGS, TEXTS, WEIGHTS};
use crate::name::is_commit;
use crate::{Environment, ErrorKind, HubError, Name, Need, Result};
use anemll_files::Limit;
use std::fs::TryLockError;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

/// Tells of an adapter, which has no config.json of its own.
const ADAPTER: &str = "adapter_config.json";

/// Files beside the weights that are wanted; those that begin with `tokenizer` or `chat_template`
/// too.
const SMALL_FILES: [&str; 7] = [
    "generation_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "spiece.model",
];
/// Files that say what may be done with a model; nothing is lost without them.
const CARDS: [&str; 4] = ["README.md", "LICENSE", "LICENSE.txt", "LICENSE.md"];
/// Largest of [`CARDS`] in bytes.
const CARD_BYTES: u64 = 1_000_000;
/// Most pages of a listing.
const PAGES: usize = 20;
/// Bytes after which progress is told again.
const STRIDE: u64 = 1 << 20;
/// An attempt that brought so much was no failure.
const PROGRESS: u64 = 64 << 10;
/// How often a lock that another process holds is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// What is used of an answer with a small body.
struct Small {
    head: Head,
    bytes: Vec<u8>,
}

/// A download.
pub(super) struct DownloadJob {
    name: Name,
    environment: Environment,
    limits: Limits,
    http: Http,
    shelf: Shelf,
    shared: Arc<Shared>,
    sender: Sender<Message>,
    /// What files are asked for by: the commit, or, where a mirror does not know that, the name.
    reference: String,
    /// Bytes of the whole download: those of finished files, and all.
    finished: u64,
    total: u64,
    told: u64,
}

impl DownloadJob {
    pub(super) fn new(
        name: &Name,
        environment: &Environment,
        limits: &Limits,
        shared: Arc<Shared>,
        sender: Sender<Message>,
    ) -> Result<Self> {
        let Some(endpoint) = Url::parse(&environment.endpoint) else {
            return Err(HubError::new(ErrorKind::Unreachable, "HF_ENDPOINT is not a web address")
                .with_at(environment.endpoint.clone())
                .with_hint("set it to an address such as https://huggingface.co, or unset it"));
        };
        let token = environment.token.clone();
        Ok(Self {
            http: Http::new(endpoint, token, limits.clone(), Arc::clone(&shared)),
            shelf: Shelf::new(&environment.cache, name),
            name: name.clone(),
            environment: environment.clone(),
            limits: limits.clone(),
            shared,
            sender,
            reference: name.revision().to_owned(),
            finished: 0,
            total: 0,
            told: 0,
        })
    }

    pub(super) fn run(mut self, need: Need) -> Result<PathBuf> {
        let commit = self.config()?;
        self.reference.clone_from(&commit);
        self.modules(&commit)?;
        let snapshot = self.shelf.snapshot(&commit);
        if need != Need::Config {
            self.rest(&commit, need)?;
        }
        Ok(snapshot)
    }

    /// Brings config.json, and with it the commit that the revision is.
    fn config(&mut self) -> Result<String> {
        let revision = self.name.revision().to_owned();
        if is_commit(&revision) && self.shelf.snapshot(&revision).join(CONFIG).is_file() {
            return Ok(revision);
        }
        match self.small_file(CONFIG, Limit::CONFIG.bytes)? {
            Some(config) => self.keep(CONFIG, config, None),
            None => match self.small_file(ADAPTER, Limit::CONFIG.bytes)? {
                Some(adapter) => self.keep(ADAPTER, adapter, None),
                None => Err(self
                    .failed(ErrorKind::Failed, "the hub's model has no config.json")
                    .with_hint(
                        "take the repository of a transformers model with safetensors weights",
                    )),
            },
        }
    }

    /// Brings what says that a model gives the vectors of texts, and how: modules.json, and where there
    /// is one, the configurations of the modules that it names.
    fn modules(&mut self, commit: &str) -> Result<()> {
        if !self.optional(MODULES, commit)? {
            return Ok(());
        }
        for name in TEXTS {
            self.optional(name, commit)?;
        }
        for name in cache::module_files(&self.shelf.snapshot(commit), Need::Config) {
            self.optional(&name, commit)?;
        }
        Ok(())
    }

    /// Brings a small file that a model may have, and notes where it has none; whether it has.
    fn optional(&mut self, name: &str, commit: &str) -> Result<bool> {
        let snapshot = self.shelf.snapshot(commit);
        if snapshot.join(name).is_file() || cache::is_absent(&snapshot, name) {
            return Ok(snapshot.join(name).is_file());
        }
        let revision = self.name.revision().to_owned();
        let mut found = self.ask_small(commit, name, Limit::CONFIG.bytes)?;
        if matches!(found, Err(None)) && revision != commit {
            // A mirror that knows names, but no commits.
            found = self.ask_small(&revision, name, Limit::CONFIG.bytes)?;
        }
        match found {
            Ok(small) => self.keep(name, small, Some(commit)).map(|_| true),
            Err(Some(code)) if code != NO_SUCH_FILE => Err(self.unknown()),
            Err(_) => {
                self.shelf.prepare()?;
                self.shelf.note_absence(commit, name).map(|()| false)
            }
        }
    }

    /// A small file of the revision that was asked for; none where the model has none.
    fn small_file(&mut self, name: &str, limit: u64) -> Result<Option<Small>> {
        let revision = self.name.revision().to_owned();
        match self.ask_small(&revision, name, limit)? {
            Ok(small) => Ok(Some(small)),
            Err(Some(code)) if code == NO_SUCH_FILE => Ok(None),
            Err(Some(_)) => Err(self.unknown()),
            // The hub does not say what it is that is not there.
            Err(None) => self.info().map(|_| None),
        }
    }

    /// A small file of a revision, or the hub's word for what it is that is not there.
    fn ask_small(
        &mut self,
        revision: &str,
        name: &str,
        limit: u64,
    ) -> Result<std::result::Result<Small, Option<String>>> {
        let url = self.resolve(revision, name)?;
        self.attempts(|job| {
            let (answer, bytes) = job.http.get_small(&url, limit)?;
            match answer.status {
                OK => Ok(Ok(Small { head: answer.head, bytes })),
                NOT_FOUND => Ok(Err(answer.error_code)),
                _ => Err(job.refusal(&answer, name)),
            }
        })
    }

    /// Checks a small file, and puts it into the cache: of the commit that is `known`, or of the one that
    /// the hub names.
    fn keep(&mut self, name: &str, small: Small, known: Option<&str>) -> Result<String> {
        let Small { head, bytes } = small;
        let commit = match (head.commit, known) {
            (Some(commit), Some(known)) if commit != known => return Err(self.changed()),
            (Some(commit), _) => commit,
            (None, Some(known)) => known.to_owned(),
            (None, None) => self.info()?.sha,
        };
        if is_commit(self.name.revision()) && commit != self.name.revision() {
            return Err(self.answer("the hub sends a file of a different commit"));
        }
        let sum = match head.sum {
            Some(sum) => sum,
            // A mirror with tags of its own.
            None => match self.listing(&commit, folder_of(name))?.remove(name).flatten() {
                Some(entry) => entry.sum,
                None => return Err(self.answer(&format!("the hub gives no hash for {name}"))),
            },
        };
        if !sum.is_of(&bytes) {
            return Err(self.damaged(name, &sum));
        }
        self.shelf.prepare()?;
        let size = bytes.len() as u64;
        if !self.shelf.has(&commit, name, &sum, size)? {
            let _lock = self.lock(name, &sum)?;
            if !self.shelf.has(&commit, name, &sum, size)? {
                let mut part = self.shelf.part(&sum)?;
                part.clear()?;
                part.write(&bytes)?;
                self.shelf.finish(part, &commit, name, &sum)?;
            }
        }
        self.shelf.set_ref(self.name.revision(), &commit)?;
        Ok(commit)
    }

    /// Brings the tokenizer's files, and the weights if they are needed too.
    fn rest(&mut self, commit: &str, need: Need) -> Result<()> {
        self.shelf.prepare()?;
        let listing = self.listing(commit, "")?;
        let has = |name: &str| listing.contains_key(name);
        if !has(CONFIG) && has(ADAPTER) {
            // Its weights are of no use without the model's.
            return Ok(());
        }
        let weights: Vec<&String> =
            listing.keys().filter(|name| name.ends_with(".safetensors")).collect();
        if weights.is_empty() && !has(INDEX) {
            return Err(self
                .failed(ErrorKind::Failed, "the hub's model has no safetensors weights")
                .with_hint("take the original repository, not a GGUF or MLX version of it"));
        }
        let sharded = !has(WEIGHTS) && has(INDEX);
        let wanted: Vec<String> = if has(WEIGHTS) {
            vec![WEIGHTS.to_owned()]
        } else if sharded {
            self.shards(&listing, commit)?
        } else if let [only] = weights.as_slice() {
            vec![(*only).clone()]
        } else {
            let message = format!("the hub's model has several weight files, but no {INDEX}");
            return Err(self.failed(ErrorKind::Failed, &message));
        };
        if let Some(missing) = wanted.iter().find(|name| !has(name)) {
            let message = format!("the hub's model lacks the shard {missing}");
            return Err(self.failed(ErrorKind::Failed, &message));
        }
        if !has(SETTINGS) {
            self.shelf.note_absence(commit, SETTINGS)?;
        }
        let mut entries = Vec::new();
        let small = listing.keys().filter(|name| is_small(name)).cloned();
        for name in small.chain([CONFIG.to_owned()]) {
            // A model without a file of this kind may still be of use; one beyond all measure is
            // none of a tokenizer.
            let Some(entry) = self.entry(&listing, &name)? else { continue };
            if entry.size <= Limit::TOKENIZER.bytes {
                entries.push(entry);
            }
        }
        if need == Need::Tokenizer {
            return self.bring_all(&entries, commit, false);
        }
        for name in wanted {
            entries.extend(self.entry(&listing, &name)?);
        }
        entries.extend(self.values_of_modules(commit)?);
        self.bring_all(&entries, commit, true)?;
        for name in CARDS.into_iter().filter(|name| listing.contains_key(*name)) {
            match self.entry(&listing, name) {
                Ok(Some(card)) if card.size <= CARD_BYTES => match self.bring(&card, commit) {
                    Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                    _ => {}
                },
                Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// The values of the modules behind the model; it is noted where one has none.
    fn values_of_modules(&mut self, commit: &str) -> Result<Vec<Entry>> {
        let snapshot = self.shelf.snapshot(commit);
        let mut files = cache::module_files(&snapshot, Need::Weights);
        files.retain(|name| name.ends_with(WEIGHTS));
        let mut entries = Vec::new();
        for name in files {
            let listing = self.listing(commit, folder_of(&name))?;
            match self.entry(&listing, &name)? {
                Some(entry) => entries.push(entry),
                None => self.shelf.note_absence(commit, &name)?,
            }
        }
        Ok(entries)
    }

    /// Brings the index, and reads the names of the weight files from it.
    fn shards(&mut self, listing: &Listing, commit: &str) -> Result<Vec<String>> {
        let unreadable = |job: &Self| {
            job.failed(ErrorKind::Failed, &format!("the model's {INDEX} cannot be used"))
                .with_hint("its names of weight files must be plain ones of the same folder")
        };
        let Some(index) = self.entry(listing, INDEX)? else { return Err(unreadable(self)) };
        if index.size > Limit::INDEX.bytes {
            return Err(unreadable(self));
        }
        self.bring(&index, commit)?;
        let path = self.shelf.snapshot(commit).join(INDEX);
        let text = anemll_files::read_text(&path, Limit::INDEX).map_err(|_| unreadable(self))?;
        let shards = cache::shards(&text).ok_or_else(|| unreadable(self))?;
        Ok(shards.into_iter().collect())
    }

    /// The files of a commit in one folder, which is "" for the model's own.
    fn listing(&mut self, commit: &str, folder: &str) -> Result<Listing> {
        let mut listing = Listing::new();
        let slash = if folder.is_empty() { "" } else { "/" };
        let path = format!("/api/models/{}/tree/{commit}{slash}{folder}", self.name.repository());
        let mut next = Some(self.url(&path)?);
        let mut pages = 0;
        while let Some(url) = next.take() {
            let page = self.attempts(|job| {
                let (answer, bytes) = job.http.get_small(&url, job.limits.listing)?;
                match answer.status {
                    OK => Ok(Some((answer.next, bytes))),
                    NOT_FOUND | 400 | 405 | 501 => Ok(None),
                    _ => Err(job.refusal(&answer, "the listing of its files")),
                }
            })?;
            let Some((link, bytes)) = page else {
                // A mirror without listings: names from the description, hashes from the files.
                let info = self.info()?;
                if info.sha != commit {
                    return Err(self.changed());
                }
                return Ok(info.listing(folder));
            };
            listing::read_tree(&bytes, folder, &mut listing)
                .map_err(|why| self.answer(&format!("the hub's listing cannot be used: {why}")))?;
            pages += 1;
            if let Some(link) = link {
                next = url.join(&link).filter(|next| next.has_origin_of(self.http.endpoint()));
                if next.is_none() || pages == PAGES {
                    return Err(self.answer("the hub's listing does not end"));
                }
            }
        }
        Ok(listing)
    }

    /// What the hub tells of the revision.
    fn info(&mut self) -> Result<Info> {
        let (repository, revision) = (self.name.repository(), self.name.revision());
        let path = format!("/api/models/{repository}/revision/{}", revision.replace('/', "%2F"));
        let url = self.url(&path)?;
        let bytes = self.attempts(|job| {
            let (answer, bytes) = job.http.get_small(&url, job.limits.listing)?;
            match answer.status {
                OK => Ok(Some(bytes)),
                NOT_FOUND => Ok(None),
                _ => Err(job.refusal(&answer, "the description of the model")),
            }
        })?;
        let Some(bytes) = bytes else { return Err(self.unknown()) };
        let info = Info::read(&bytes)
            .map_err(|why| self.answer(&format!("the hub's answer cannot be used: {why}")))?;
        if !is_commit(&info.sha) {
            return Err(self.answer("the hub names a commit that is not one"));
        }
        Ok(info)
    }

    /// Size and hash of a file of the listing, asked for where the listing has names only.
    fn entry(&mut self, listing: &Listing, name: &str) -> Result<Option<Entry>> {
        match listing.get(name) {
            None => return Ok(None),
            Some(Some(entry)) => return Ok(Some(entry.clone())),
            Some(None) => {}
        }
        self.attempts(|job| {
            let answer = job.file(name, Some("bytes=0-0"))?;
            let size = match (answer.status, answer.range) {
                (PARTIAL, Some((_, size))) => Some(size),
                (OK, _) => answer.length,
                // Of an empty file there is no first byte.
                (RANGE_NOT_SATISFIABLE, _) => Some(0),
                _ => return Err(job.refusal(&answer, name)),
            };
            let (Some(size), Some(sum)) = (answer.head.size.or(size), answer.head.sum) else {
                let message = format!("the hub gives no size or no hash for {name}");
                return Err(job.answer(&message).into());
            };
            Ok(Some(Entry { name: name.to_owned(), size, sum }))
        })
    }

    /// Asks for a file of the commit.
    fn file(&mut self, name: &str, range: Option<&str>) -> std::result::Result<Answer, Failure> {
        let reference = self.reference.clone();
        let url = self.resolve(&reference, name)?;
        let answer = self.http.get(&url, range)?;
        let revision = self.name.revision().to_owned();
        if answer.status == NOT_FOUND && answer.error_code.is_none() && reference != revision {
            // A mirror that knows names, but no commits. What it gives is checked all the same.
            let url = self.resolve(&revision, name)?;
            let answer = self.http.get(&url, range)?;
            if matches!(answer.status, OK | PARTIAL) {
                self.same_commit(&answer, &reference)?;
                self.reference = revision;
            }
            return Ok(answer);
        }
        if is_commit(&reference) {
            self.same_commit(&answer, &reference)?;
        }
        Ok(answer)
    }

    fn same_commit(&self, answer: &Answer, commit: &str) -> Result<()> {
        match &answer.head.commit {
            Some(other) if other != commit => Err(self.changed()),
            _ => Ok(()),
        }
    }

    /// Brings files, those that are there already excepted, after a look at the disk.
    fn bring_all(&mut self, entries: &[Entry], commit: &str, announced: bool) -> Result<()> {
        let mut missing = Vec::new();
        let mut bytes = 0_u64;
        for entry in entries {
            if !self.shelf.has(commit, &entry.name, &entry.sum, entry.size)? {
                let there = self.shelf.part_bytes(&entry.sum).min(entry.size);
                bytes = bytes.saturating_add(entry.size - there);
                self.total = self.total.saturating_add(entry.size);
                missing.push(entry);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let blobs = self.shelf.blobs();
        if let Some(free) = (self.limits.free_space)(&blobs)
            && bytes > free
        {
            return Err(HubError::new(
                ErrorKind::Cache,
                format!(
                    "{} are still to be downloaded, but only {} are free",
                    anemll_files::size(bytes),
                    anemll_files::size(free)
                ),
            )
            .with_at(blobs.display().to_string())
            .with_hint("free some space, or set HF_HUB_CACHE to a folder on another disk"));
        }
        if announced {
            self.note(format!(
                "downloading {}: {} from {} to {}",
                self.name.repository(),
                anemll_files::size(bytes),
                self.environment.endpoint,
                self.shelf.snapshot(commit).display()
            ));
        }
        for entry in missing {
            self.bring(entry, commit)?;
            self.finished = self.finished.saturating_add(entry.size);
        }
        Ok(())
    }

    /// Brings a file into the snapshot, if it is not there already.
    fn bring(&mut self, entry: &Entry, commit: &str) -> Result<()> {
        let Entry { name, size, sum } = entry;
        if self.shelf.has(commit, name, sum, *size)? {
            return Ok(());
        }
        let _lock = self.lock(name, sum)?;
        // Another process may have brought it meanwhile.
        if self.shelf.has(commit, name, sum, *size)? {
            return Ok(());
        }
        self.attempts(|job| job.load(entry, commit))
    }

    /// One attempt at a file, which goes on where the last one ended.
    fn load(&mut self, entry: &Entry, commit: &str) -> std::result::Result<(), Failure> {
        let Entry { name, size, sum } = entry;
        let mut part = self.shelf.part(sum)?;
        let mut hasher = sum.hasher(*size);
        let mut there = part.read_all(|bytes| {
            hasher.update(bytes);
            if self.shared.is_stopped() { Err(cancelled()) } else { Ok(()) }
        })?;
        if there > *size {
            part.clear()?;
            (there, hasher) = (0, sum.hasher(*size));
        }
        let resumed = there > 0;
        self.tell(name, there, true);
        if there < *size {
            let range = format!("bytes={there}-");
            let mut answer = self.file(name, resumed.then_some(range.as_str()))?;
            if answer.status == RANGE_NOT_SATISFIABLE && resumed {
                part.clear()?;
                let message = format!("the hub sends less of {name} than it announced");
                return Err(Failure::Passing(self.answer(&message), None));
            }
            self.agrees(&answer, entry)?;
            match (answer.status, answer.range) {
                (OK, _) => {
                    // It may not know ranges.
                    if resumed {
                        part.clear()?;
                        (there, hasher) = (0, sum.hasher(*size));
                    }
                }
                (PARTIAL, Some((first, all))) if resumed && first == there && all == *size => {}
                (PARTIAL, _) => {
                    let message = format!("the hub sends a part of {name} that was not asked for");
                    return Err(self.answer(&message).into());
                }
                _ => return Err(self.refusal(&answer, name)),
            }
            if answer.length.is_some_and(|length| length != size - there) {
                return Err(self.other_size(name, *size).into());
            }
            let mut buffer = vec![0; 256 << 10];
            loop {
                let count = self.http.read(&mut answer, &mut buffer)?;
                if count == 0 {
                    break;
                }
                there += count as u64;
                if there > *size {
                    part.clear()?;
                    return Err(self.other_size(name, *size).into());
                }
                hasher.update(&buffer[..count]);
                part.write(&buffer[..count])?;
                self.tell(name, there, false);
            }
        }
        if there < *size {
            let message =
                format!("the connection ended after {there} of the {size} bytes of {name}");
            return Err(Failure::Passing(self.failed(ErrorKind::Failed, &message), None));
        }
        if hasher.finish() != *sum {
            part.clear()?;
            let error = self.damaged(name, sum);
            // What was there from an earlier run may have been the damage.
            return Err(if resumed {
                Failure::Passing(error, None)
            } else {
                Failure::Final(error)
            });
        }
        self.tell(name, there, true);
        Ok(self.shelf.finish(part, commit, name, sum)?)
    }

    /// What the hub says of a file while it gives it must be what its listing says.
    fn agrees(&self, answer: &Answer, entry: &Entry) -> std::result::Result<(), Failure> {
        let Head { sum, size, .. } = &answer.head;
        if !matches!(answer.status, OK | PARTIAL) {
            return Ok(());
        }
        if sum.as_ref().is_some_and(|sum| *sum != entry.sum)
            || size.is_some_and(|size| size != entry.size)
        {
            let message = format!("the hub's answers about {} contradict each other", entry.name);
            return Err(self.answer(&message).with_hint("run the same command again").into());
        }
        Ok(())
    }

    /// Locks contents against other processes, and waits for one that brings them.
    fn lock(&mut self, name: &str, sum: &Sum) -> Result<std::fs::File> {
        let (path, lock) = self.shelf.lock_file(sum)?;
        let mut told = false;
        let (mut there, mut since) = (self.shelf.part_bytes(sum), Instant::now());
        loop {
            match lock.try_lock() {
                // A file system without locks: two downloads at once are then the user's affair.
                Ok(()) | Err(TryLockError::Error(_)) => return Ok(lock),
                Err(TryLockError::WouldBlock) => {}
            }
            if !std::mem::replace(&mut told, true) {
                self.note(format!("another process is downloading {name}: waiting for it"));
            }
            let now = self.shelf.part_bytes(sum);
            if now != there {
                (there, since) = (now, Instant::now());
            } else if since.elapsed() > self.limits.lock {
                let message =
                    format!("another process is downloading {name}, but makes no progress");
                return Err(self
                    .failed(ErrorKind::Failed, &message)
                    .with_cause(format!("{} is locked", path.display()))
                    .with_hint("end that process, or wait for it"));
            }
            self.pause(LOOK)?;
        }
    }

    /// Repeats what can pass.
    fn attempts<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> std::result::Result<T, Failure>,
    ) -> Result<T> {
        const AGAIN: &str = "run the same command again: it goes on where this one ended";
        let mut failures = 0;
        let mut pause = self.limits.pause;
        loop {
            let before = self.shared.received();
            let (error, wait, silent) = match attempt(self) {
                Ok(value) => return Ok(value),
                Err(Failure::Final(error)) => return Err(self.explained(error)),
                Err(Failure::Passing(error, wait)) => (error, wait, false),
                Err(Failure::Silent(error)) => (error, None, true),
            };
            let progress = self.shared.received() - before >= PROGRESS;
            if progress {
                (failures, pause) = (0, self.limits.pause);
            }
            failures += 1;
            if failures >= self.limits.attempts || (silent && !progress) {
                let error = self.explained(error);
                let again = error.hint().is_none();
                return Err(if again { error.with_hint(AGAIN) } else { error });
            }
            let time = wait.unwrap_or(pause).max(pause).min(self.limits.longest_pause);
            if wait.is_some() && time > pause {
                let why = error.message();
                self.note(format!("{why}; the next attempt is in {} s", time.as_secs()));
            }
            self.pause(time)?;
            pause = pause.saturating_mul(2);
        }
    }

    /// Waits, unless the download is stopped.
    fn pause(&self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            if self.shared.is_stopped() {
                return Err(cancelled());
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(LOOK));
        }
    }

    fn note(&self, text: String) {
        let _ = self.sender.send(Message::Note(text));
    }

    /// Tells how much of the whole download is there.
    fn tell(&mut self, file: &str, there: u64, now: bool) {
        let done = self.finished.saturating_add(there);
        if self.total > 0 && done <= self.total && (now || done.abs_diff(self.told) >= STRIDE) {
            self.told = done;
            let (file, total) = (file.to_owned(), self.total);
            let _ = self.sender.send(Message::Bytes { file, done, total });
        }
    }

    fn url(&self, path: &str) -> Result<Url> {
        let endpoint = &self.environment.endpoint;
        Url::parse(&format!("{endpoint}{path}"))
            .ok_or_else(|| self.failed(ErrorKind::Unreachable, "HF_ENDPOINT is not a web address"))
    }

    fn resolve(&self, revision: &str, file: &str) -> Result<Url> {
        let (repository, revision) = (self.name.repository(), revision.replace('/', "%2F"));
        self.url(&format!("/{repository}/resolve/{revision}/{file}"))
    }

    fn failed(&self, kind: ErrorKind, reason: &str) -> HubError {
        let Environment { endpoint, .. } = &self.environment;
        HubError::new(kind, reason).with_at(format!("{endpoint}/{}", self.name.repository()))
    }

    fn answer(&self, reason: &str) -> HubError {
        self.failed(ErrorKind::Answer, reason)
            .with_hint("this is not how a hub answers: check HF_ENDPOINT and the network")
    }

    fn changed(&self) -> HubError {
        self.failed(ErrorKind::Answer, "the model was changed on the hub while it was downloaded")
            .with_hint("run the same command again")
    }

    fn damaged(&self, name: &str, sum: &Sum) -> HubError {
        let message = format!(
            "{name} arrived damaged: its {} is not {}, as the hub says",
            sum.kind(),
            sum.digits()
        );
        self.failed(ErrorKind::Damaged, &message)
            .with_hint("run the same command again; if that does not help, check HF_ENDPOINT")
    }

    fn other_size(&self, name: &str, size: u64) -> HubError {
        let message =
            format!("the hub sends {name} in a size that is not the {size} bytes it announced");
        self.failed(ErrorKind::Damaged, &message)
            .with_hint("run the same command again; if that does not help, check HF_ENDPOINT")
    }

    /// There is no such model.
    fn unknown(&self) -> HubError {
        let Environment { endpoint, .. } = &self.environment;
        let name = &self.name;
        HubError::new(ErrorKind::NotFound, format!("the hub has no model `{name}`"))
            .with_at(name.to_string())
            .with_cause(format!("the hub at {endpoint} has no model `{name}`"))
    }

    /// What an answer that is no success means.
    fn refusal(&self, answer: &Answer, what: &str) -> Failure {
        let with_message = |error: HubError| match &answer.error_message {
            Some(message) if !message.trim().is_empty() => {
                error.with_cause(format!("the hub says: {}", message.trim()))
            }
            _ => error,
        };
        match (answer.status, answer.error_code.as_deref()) {
            (UNAUTHORISED | NOT_FOUND, Some("RepoNotFound" | "RevisionNotFound")) => {
                let mut error = self.unknown();
                if self.environment.token.is_none() {
                    error = error.with_cause("a private model needs a token: set HF_TOKEN");
                }
                Failure::Final(error)
            }
            (UNAUTHORISED | FORBIDDEN, _) => Failure::Final(with_message(self.refused())),
            (status, _) => {
                let error = with_message(
                    self.failed(ErrorKind::Failed, &format!("{what}: HTTP status {status}")),
                );
                if status >= 500 || matches!(status, 408 | TOO_MANY) {
                    return Failure::Passing(error, answer.retry_after);
                }
                Failure::Final(error)
            }
        }
    }

    fn refused(&self) -> HubError {
        let Environment { endpoint, token, .. } = &self.environment;
        let repository = self.name.repository();
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
        let reason = "the model is gated or private, or does not exist";
        self.failed(ErrorKind::Refused, reason).with_hint(hint)
    }

    /// With what a user of a name needs to know.
    fn explained(&self, error: HubError) -> HubError {
        if error.kind() == ErrorKind::Unreachable && error.hint().is_none() {
            return error.with_hint(
                "check the network and HF_ENDPOINT, or give the path of a directory with the model",
            );
        }
        error
    }
}

fn cancelled() -> HubError {
    HubError::new(ErrorKind::Cancelled, "interrupted")
}

/// The folder of a file in a model.
fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

fn is_small(name: &str) -> bool {
    SMALL_FILES.contains(&name)
        || name.starts_with("chat_template")
        || (name.starts_with("tokenizer") && !name.ends_with(".safetensors"))
}
