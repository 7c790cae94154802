//! A small server on this machine that answers as the hub does, or as it never should.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part")]

use anemll_hub::{Environment, HubError, Limits, Name, Need, Progress, Watch, download};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub const SHARD: &str = "model-00002-of-00002.safetensors";
pub const INDEX: &str = "model.safetensors.index.json";
pub const TOKEN: &str = "hf_right";

/// One request.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub range: String,
    pub token: String,
}

impl Request {
    pub fn is_for(&self, end: &str) -> bool {
        self.path.ends_with(end)
    }

    /// The listing, the description, or a file.
    pub fn is_tree(&self) -> bool {
        self.path.contains("/tree/")
    }
}

/// How a body is sent.
#[derive(Debug, Clone)]
pub enum Way {
    Whole,
    /// So many bytes, then the connection ends.
    Cut(usize),
    /// A byte now and then, headers too.
    Drip,
    /// The headers, then a byte now and then.
    DripBody,
    /// Nothing, for a while.
    Silent,
    /// Zeros without end.
    Endless,
    /// What is there is the whole answer, headers included.
    Raw,
}

#[derive(Debug, Clone)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// Whether the length is told.
    pub length: bool,
    pub way: Way,
}

impl Reply {
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        let headers = Vec::new();
        Self { status, headers, body: body.into(), length: true, way: Way::Whole }
    }

    pub fn raw(text: &str) -> Self {
        Self { way: Way::Raw, ..Self::new(0, text) }
    }

    pub fn to(location: &str) -> Self {
        Self::new(302, "").with("Location", location)
    }

    /// With a header, in place of one of this name.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(known, _)| known != name);
        self
    }

    #[must_use]
    pub fn sent(mut self, way: Way) -> Self {
        self.way = way;
        self
    }

    #[must_use]
    pub fn without_length(mut self) -> Self {
        self.length = false;
        self
    }
}

/// Changes an answer: gets the request, how many came before, and the right answer.
type Change = Box<dyn FnMut(&Request, Reply) -> Reply + Send>;

pub struct State {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Without this token nothing is given.
    pub gated: bool,
    /// Whether there is a listing, or only the description of a model.
    pub has_tree: bool,
    pub change: Change,
    pub requests: Vec<Request>,
    pub sent: usize,
}

pub struct Hub {
    pub address: String,
    pub state: Arc<Mutex<State>>,
    pub root: tempfile::TempDir,
    pub limits: Limits,
    pub token: Option<String>,
}

impl Hub {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let large: Vec<u8> = (0..300_000_u32).map(|number| (number * 7 % 251) as u8).collect();
        let index = format!(
            r#"{{"weight_map": {{"a": "model-00001-of-00002.safetensors", "b": "./{SHARD}"}}}}"#
        );
        let files = [
            ("config.json", &b"{\"model_type\": \"llama\"}"[..]),
            ("tokenizer.json", b"{}"),
            ("tokenizer_config.json", b"{}"),
            (INDEX, index.as_bytes()),
            ("model-00001-of-00002.safetensors", b"first shard"),
            ("model-00003-of-00003.safetensors", b"of another index"),
            (SHARD, &large),
            ("pytorch_model.bin", b"pickle"),
            ("README.md", b"# A model"),
        ];
        let state = Arc::new(Mutex::new(State {
            files: files.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into(),
            gated: false,
            has_tree: true,
            change: Box::new(|_, reply| reply),
            requests: Vec::new(),
            sent: 0,
        }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        // Long times, so that a busy machine is no failure; short pauses.
        let limits = Limits {
            pause: Duration::from_millis(1),
            longest_pause: Duration::from_millis(20),
            listing: 100_000,
            ..Limits::default()
        };
        let root = tempfile::tempdir().unwrap();
        Self { address, state, root, limits, token: None }
    }

    /// A hub that answers otherwise.
    pub fn with(change: impl FnMut(&Request, Reply) -> Reply + Send + 'static) -> Self {
        let hub = Self::new();
        hub.state.lock().unwrap().change = Box::new(change);
        hub
    }

    /// Times that are soon over.
    #[must_use]
    pub fn impatient(mut self) -> Self {
        self.limits.answer = Duration::from_millis(300);
        self.limits.stall = Duration::from_millis(300);
        self
    }

    pub fn edit(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state.lock().unwrap());
    }

    pub fn cache(&self) -> PathBuf {
        self.root.path().join("cache")
    }

    pub fn environment(&self) -> Environment {
        let mut environment = Environment::from(|_| None, None);
        environment.cache = self.cache();
        environment.endpoint = format!("http://{}", self.address);
        environment.token.clone_from(&self.token);
        environment
    }

    pub fn get(&self, name: &str, need: Need) -> Result<PathBuf, HubError> {
        self.watched(name, need, &Silent)
    }

    pub fn watched(&self, name: &str, need: Need, watch: &dyn Watch) -> Result<PathBuf, HubError> {
        let name = Name::parse(name).unwrap();
        download(&name, need, &self.environment(), &self.limits, watch)
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    pub fn folder(&self) -> PathBuf {
        self.cache().join("models--org--tiny")
    }

    pub fn snapshot(&self) -> PathBuf {
        self.folder().join("snapshots").join(COMMIT)
    }

    pub fn file(&self, name: &str) -> Vec<u8> {
        self.state.lock().unwrap().files[name].clone()
    }

    /// Where the beginning of the large shard is kept.
    pub fn part(&self) -> PathBuf {
        let blobs = self.folder().join("blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        blobs.join(format!("{}.incomplete", sha256(&self.file(SHARD))))
    }

    /// Everything in the temporary folder but the cache.
    pub fn outside(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.root.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| *path != self.cache()).collect()
    }
}

/// Nobody watches.
pub struct Silent;

impl Watch for Silent {
    fn tell(&self, _: &Progress<'_>) {}

    fn goes_on(&self) -> bool {
        true
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

pub fn git(bytes: &[u8]) -> String {
    let mut hash = Sha1::new();
    hash.update(format!("blob {}\0", bytes.len()));
    hash.update(bytes);
    hex::encode(hash.finalize())
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let headers: Vec<String> =
        lines.map_while(|line| line.ok()).take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        let of = |line: &String| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        };
        headers.iter().find_map(of).unwrap_or_default()
    };
    let request = Request {
        path: first.split(' ').nth(1).unwrap_or_default().to_owned(),
        range: header("range"),
        token: header("authorization"),
    };
    let reply = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        let right = answer(&state, &request);
        (state.change)(&request, right)
    };
    let count = send(&mut stream, &reply);
    state.lock().unwrap().sent += count;
}

fn send(stream: &mut TcpStream, reply: &Reply) -> usize {
    let Reply { status, headers, body, length, way } = reply;
    let mut head = format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if *length && !matches!(way, Way::Endless) {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    let whole = [head.as_bytes(), body].concat();
    let mut drip = |bytes: &[u8]| {
        for byte in bytes {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    match way {
        Way::Whole => drop(stream.write_all(&whole)),
        Way::Cut(count) => drop(stream.write_all(&whole[..head.len() + count])),
        Way::Drip => drip(&whole[..whole.len().min(2000)]),
        Way::DripBody => {
            let _ = stream.write_all(head.as_bytes());
            let mut drip = |bytes: &[u8]| {
                for byte in bytes {
                    if stream.write_all(&[*byte]).is_err() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            };
            drip(&body[..body.len().min(2000)]);
        }
        Way::Silent => std::thread::sleep(Duration::from_secs(5)),
        Way::Endless => {
            let _ = stream.write_all(head.as_bytes());
            while stream.write_all(&[b' '; 4096]).is_ok() {}
        }
        Way::Raw => drop(stream.write_all(body)),
    }
    whole.len()
}

/// The right answer.
fn answer(state: &State, request: &Request) -> Reply {
    let path = request.path.as_str();
    let on_cdn = path.strip_prefix("/cdn/");
    if state.gated && request.token != format!("Bearer {TOKEN}") && on_cdn.is_none() {
        return Reply::new(401, "").with("X-Error-Code", "GatedRepo");
    }
    let files = &state.files;
    if let Some(folder) = path.strip_prefix(&format!("/api/models/org/tiny/tree/{COMMIT}"))
        && state.has_tree
    {
        // As the hub does it: what lies in the folder itself, by its whole name.
        let folder = folder.strip_prefix('/').map(|name| format!("{name}/")).unwrap_or_default();
        let inside =
            |name: &str| name.strip_prefix(&folder).is_some_and(|rest| !rest.contains('/'));
        let listed = files.iter().filter(|(name, _)| inside(name));
        let entries: Vec<String> = listed.map(|(name, bytes)| entry(name, bytes)).collect();
        return Reply::new(200, format!("[{}]", entries.join(", ")));
    }
    if path == "/api/models/org/tiny/revision/main" {
        let names: Vec<String> =
            files.keys().map(|name| format!(r#"{{"rfilename": "{name}"}}"#)).collect();
        let info = format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, names.join(", "));
        return Reply::new(200, info);
    }
    let of = |revision: &str| path.strip_prefix(&format!("/org/tiny/resolve/{revision}/"));
    let on_hub = of("main").or_else(|| of(COMMIT));
    let Some(name) = on_hub.or(on_cdn) else { return Reply::new(404, "") };
    let Some(bytes) = files.get(name) else {
        return Reply::new(404, "").with("X-Error-Code", "EntryNotFound");
    };
    if !name.ends_with(".safetensors") {
        return part(bytes, &request.range)
            .with("X-Repo-Commit", COMMIT)
            .with("ETag", &format!("\"{}\"", git(bytes)));
    }
    if on_hub.is_some() {
        // As the hub does it for files that lie elsewhere.
        return Reply::to(&format!("/cdn/{name}"))
            .with("X-Repo-Commit", COMMIT)
            .with("X-Linked-Size", &bytes.len().to_string())
            .with("X-Linked-ETag", &format!("\"{}\"", sha256(bytes)));
    }
    part(bytes, &request.range).with("ETag", "\"a-tag-of-the-store\"")
}

pub fn entry(name: &str, bytes: &[u8]) -> String {
    let size = bytes.len();
    let lfs = match name.ends_with(".safetensors") {
        true => format!(r#", "lfs": {{"oid": "{}", "size": {size}}}"#, sha256(bytes)),
        false => String::new(),
    };
    let oid = git(bytes);
    format!(r#"{{"type": "file", "path": "{name}", "oid": "{oid}", "size": {size}{lfs}}}"#)
}

/// A part of a file, or the whole of it.
fn part(bytes: &[u8], range: &str) -> Reply {
    let Some(range) = range.strip_prefix("bytes=") else { return Reply::new(200, bytes) };
    let (first, last) = range.split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    if first >= bytes.len() {
        return Reply::new(416, "");
    }
    let last = last.parse().unwrap_or(bytes.len() - 1).min(bytes.len() - 1);
    Reply::new(206, &bytes[first..=last])
        .with("Content-Range", &format!("bytes {first}-{last}/{}", bytes.len()))
}
