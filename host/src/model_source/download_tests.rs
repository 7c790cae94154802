//! Downloads from a small server on this machine that answers as the hub does.

use crate::model_source::{HubEnvironment, Need, resolve_with};
use anemll_plugin_api::{Result, codes};
use sha2::{Digest as _, Sha256};
use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const SHARD: &str = "model-00002-of-00002.safetensors";

/// How the server answers, and what it was asked.
struct State {
    files: BTreeMap<String, Vec<u8>>,
    /// Without this token nothing is given.
    token: Option<String>,
    /// Bodies are cut after so many bytes, one number for each answer with a part of a large file.
    cuts: VecDeque<usize>,
    /// Whether cut answers say how long they should be.
    announced: bool,
    /// Answers with whole files, whatever range is asked for.
    ignores_ranges: bool,
    /// Replaces tags, commits of files, and the place that answers redirect to.
    etag: Option<String>,
    commit: Option<String>,
    location: Option<String>,
    /// Answers nothing at all.
    silent: bool,
    requests: Vec<String>,
}

struct Hub {
    address: String,
    state: Arc<Mutex<State>>,
    cache: tempfile::TempDir,
}

impl Hub {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let large: Vec<u8> = (0..300_000_u32).map(|number| (number * 7 % 251) as u8).collect();
        let index = format!(
            r#"{{"weight_map": {{"a": "model-00001-of-00002.safetensors", "b": "{SHARD}"}}}}"#
        );
        let files = [
            ("config.json", &b"{\"model_type\": \"llama\"}"[..]),
            ("tokenizer.json", b"{}"),
            ("tokenizer_config.json", b"{}"),
            ("model.safetensors.index.json", index.as_bytes()),
            ("model-00001-of-00002.safetensors", b"first shard"),
            (SHARD, &large),
            ("pytorch_model.bin", b"pickle"),
            ("README.md", b"# A model"),
            ("onnx/model.onnx", b"other"),
        ];
        let state = Arc::new(Mutex::new(State {
            files: files.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into(),
            token: None,
            cuts: VecDeque::new(),
            announced: true,
            ignores_ranges: false,
            etag: None,
            commit: None,
            location: None,
            silent: false,
            requests: Vec::new(),
        }));
        let shared = Arc::clone(&state);
        let own = address.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, own) = (Arc::clone(&shared), own.clone());
                std::thread::spawn(move || serve(stream, &shared, &own));
            }
        });
        Self { address, state, cache: tempfile::tempdir().unwrap() }
    }

    fn with(change: impl FnOnce(&mut State)) -> Self {
        let hub = Self::new();
        change(&mut hub.state.lock().unwrap());
        hub
    }

    fn environment(&self) -> HubEnvironment {
        HubEnvironment {
            cache: self.cache.path().to_owned(),
            endpoint: format!("http://{}", self.address),
            token: Some("hf_right".to_owned()),
            offline: false,
            patience: Duration::from_secs(60),
            pause: Duration::from_millis(1),
        }
    }

    fn get(&self, name: &str, need: Need) -> Result<PathBuf> {
        resolve_with(Path::new(name), need, &self.environment(), &|_| {})
    }

    fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    fn folder(&self) -> PathBuf {
        self.cache.path().join("models--org--tiny")
    }

    fn file(&self, name: &str) -> Vec<u8> {
        self.state.lock().unwrap().files[name].clone()
    }

    /// Where hf-hub keeps the beginning of the large shard.
    fn part(&self) -> PathBuf {
        let blobs = self.folder().join("blobs");
        std::fs::create_dir_all(&blobs).unwrap();
        blobs.join(format!("{}.part", sha256(&self.file(SHARD))))
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serve(mut stream: TcpStream, state: &Mutex<State>, own: &str) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let headers: Vec<String> =
        lines.map_while(|line| line.ok()).take_while(|line| !line.is_empty()).collect();
    let header = |name: &str| {
        headers.iter().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    };
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (range, token) = (header("range").unwrap_or_default(), header("authorization"));
    let mut state = state.lock().unwrap();
    state.requests.push(format!("{path} {range} {}", token.clone().unwrap_or_default()));
    if state.silent {
        drop(state);
        std::thread::sleep(Duration::from_secs(5));
        return;
    }
    let answer = answer(&mut state, &path, &range, token.as_deref(), own);
    drop(state);
    let _ = stream.write_all(&answer);
}

fn plain(status: &str, more: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("HTTP/1.1 {status}\r\n{more}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}

fn answer(state: &mut State, path: &str, range: &str, token: Option<&str>, own: &str) -> Vec<u8> {
    let right = state.token.as_ref().map(|token| format!("Bearer {token}"));
    if right.is_some() && token != right.as_deref() && !path.starts_with("/cdn/") {
        return plain("401 Unauthorized", "", b"");
    }
    if path == "/api/models/org/tiny/revision/main" {
        let names: Vec<String> =
            state.files.keys().map(|name| format!(r#"{{"rfilename": "{name}"}}"#)).collect();
        let info = format!(r#"{{"sha": "{COMMIT}", "siblings": [{}]}}"#, names.join(", "));
        return plain("200 OK", "Content-Type: application/json\r\n", info.as_bytes());
    }
    let on_hub = path.strip_prefix("/org/tiny/resolve/main/");
    let Some(name) = on_hub.or_else(|| path.strip_prefix("/cdn/")) else {
        return plain("404 Not Found", "", b"");
    };
    let Some(bytes) = state.files.get(name).cloned() else {
        return plain("404 Not Found", "", b"");
    };
    let commit = state.commit.clone().unwrap_or_else(|| COMMIT.to_owned());
    let large = name.ends_with(".safetensors");
    let tag = state.etag.clone().unwrap_or_else(|| match large {
        true => sha256(&bytes),
        false => sha256(&bytes)[..40].to_owned(),
    });
    let common = format!("X-Repo-Commit: {commit}\r\nETag: \"{tag}\"\r\n");
    if large && on_hub.is_some() {
        // As the hub does it for files that lie elsewhere.
        let place = state.location.clone();
        let place = place.unwrap_or_else(|| format!("Location: http://{own}/cdn/{name}\r\n"));
        let linked = format!("{common}X-Linked-ETag: \"{tag}\"\r\n{place}");
        return plain("302 Found", &linked, b"");
    }
    part(state, &bytes, range, &common)
}

/// A part of a file, or the whole of it.
fn part(state: &mut State, bytes: &[u8], range: &str, common: &str) -> Vec<u8> {
    let size = bytes.len();
    let mut bounds = range.trim_start_matches("bytes=").split('-');
    let start: usize = bounds.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let end = bounds.next().and_then(|text| text.parse().ok()).unwrap_or(size - 1).min(size - 1);
    if start >= size {
        return plain("416 Range Not Satisfiable", "", b"");
    }
    let probe = range == "bytes=0-0";
    let (start, end) = if state.ignores_ranges && !probe { (0, size - 1) } else { (start, end) };
    let body = &bytes[start..=end];
    let more = format!("{common}Content-Range: bytes {start}-{end}/{size}\r\n");
    let cut = if size > 1000 && !probe { state.cuts.pop_front() } else { None };
    let Some(cut) = cut else { return plain("206 Partial Content", &more, body) };
    let length = body.len();
    let announced =
        if state.announced { format!("Content-Length: {length}\r\n") } else { String::new() };
    let head =
        format!("HTTP/1.1 206 Partial Content\r\n{more}{announced}Connection: close\r\n\r\n");
    [head.as_bytes(), &body[..cut]].concat()
}

#[test]
fn a_model_is_downloaded_once_and_then_found() {
    let hub = Hub::new();
    let path = hub.get("org/tiny", Need::Weights).unwrap();
    assert_eq!(path, hub.folder().join("snapshots").join(COMMIT));
    for name in ["config.json", "tokenizer.json", "model-00001-of-00002.safetensors", SHARD] {
        assert_eq!(std::fs::read(path.join(name)).unwrap(), hub.file(name), "{name}");
    }
    assert_eq!(std::fs::read_to_string(hub.folder().join("refs/main")).unwrap(), COMMIT);
    let requests = hub.requests();
    for unwanted in ["README", "pytorch_model.bin", "onnx", "Bearer"] {
        assert!(!requests.iter().any(|line| line.contains(unwanted)), "{unwanted}: {requests:?}");
    }
    let offline = HubEnvironment { offline: true, ..hub.environment() };
    let again = resolve_with(Path::new("org/tiny"), Need::Weights, &offline, &|_| {}).unwrap();
    assert_eq!(again, path);
    assert_eq!(hub.requests().len(), requests.len());
}

#[test]
fn the_configuration_alone_is_one_file_and_the_rest_can_follow() {
    let hub = Hub::new();
    let path = hub.get("org/tiny", Need::Config).unwrap();
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    assert!(!hub.requests().iter().any(|line| line.contains("safetensors")));
    hub.get("org/tiny", Need::Weights).unwrap();
    assert!(path.join(SHARD).is_file());
}

#[test]
fn what_was_cut_off_is_gone_on_with() {
    for announced in [true, false] {
        let hub = Hub::with(|state| {
            state.cuts = VecDeque::from([100_000, 50_000, 0]);
            state.announced = announced;
        });
        let path = hub.get("org/tiny", Need::Weights).unwrap();
        assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), hub.file(SHARD));
        let requests = hub.requests();
        for range in ["bytes=100000-", "bytes=150000-"] {
            assert!(requests.iter().any(|line| line.contains(range)), "{range}: {requests:?}");
        }
    }
}

#[test]
fn a_download_that_fails_keeps_what_it_has_for_the_next() {
    let hub = Hub::with(|state| state.cuts = VecDeque::from([100_000, 0, 0, 0, 0]));
    let error = hub.get("org/tiny", Need::Weights).unwrap_err();
    assert_eq!(error.code, codes::DOWNLOAD_FAILED);
    assert!(error.hint.as_deref().unwrap().contains("goes on"), "{error}");
    assert_eq!(hub.part().metadata().unwrap().len(), 100_000);
    let offline = HubEnvironment { offline: true, ..hub.environment() };
    let error = resolve_with(Path::new("org/tiny"), Need::Weights, &offline, &|_| {}).unwrap_err();
    assert_eq!(error.code, codes::HUB_OFFLINE);
    assert!(error.causes.iter().any(|cause| cause.contains(SHARD)), "{error:?}");
    let path = hub.get("org/tiny", Need::Weights).unwrap();
    assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), hub.file(SHARD));
}

#[test]
fn parts_of_any_size_become_the_file() {
    for (length, ignores_ranges) in [(300_000, false), (400_000, false), (1000, true)] {
        let hub = Hub::with(|state| state.ignores_ranges = ignores_ranges);
        let mut part = hub.file(SHARD);
        part.resize(length, 0);
        std::fs::write(hub.part(), part).unwrap();
        let path = hub.get("org/tiny", Need::Weights).unwrap();
        assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), hub.file(SHARD), "{length}");
    }
}

#[test]
fn damaged_files_are_not_kept() {
    let hub = Hub::with(|state| state.etag = Some("0".repeat(64)));
    let error = hub.get("org/tiny", Need::Config).unwrap_err();
    assert!(error.message.contains("SHA-256"), "{error}");
    assert_eq!(error.code, codes::DOWNLOAD_FAILED);
    assert!(!hub.folder().join("snapshots").join(COMMIT).join("config.json").exists());
    // A damaged part, too: the rest comes, the hash does not agree, and all is loaded anew.
    let hub = Hub::new();
    std::fs::write(hub.part(), vec![1; 1000]).unwrap();
    let path = hub.get("org/tiny", Need::Weights).unwrap();
    assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), hub.file(SHARD));
}

#[test]
fn gated_models_need_the_token() {
    let hub = Hub::with(|state| state.token = Some("hf_right".to_owned()));
    let with = |token: Option<&str>| {
        let environment = HubEnvironment { token: token.map(str::to_owned), ..hub.environment() };
        resolve_with(Path::new("org/tiny"), Need::Config, &environment, &|_| {})
    };
    let error = with(None).unwrap_err();
    assert_eq!(error.code, codes::DOWNLOAD_FAILED);
    assert!(error.hint.as_deref().unwrap().contains("set HF_TOKEN to a token"), "{error}");
    let error = with(Some("hf_wrong")).unwrap_err();
    assert!(error.hint.as_deref().unwrap().contains("to another one"), "{error}");
    assert!(!format!("{error:?}").contains("hf_wrong"));
    with(Some("hf_right")).unwrap();
}

#[test]
fn models_that_do_not_exist_are_no_directory() {
    let hub = Hub::new();
    let error = hub.get("org/other", Need::Config).unwrap_err();
    assert_eq!(error.code, codes::MODEL_DIRECTORY_UNREADABLE);
    assert_eq!(error.message, "Model directory does not exist");
    assert!(error.causes[0].contains("has no model `org/other`"), "{error:?}");
    let error = hub.get("org/tiny@v9", Need::Config).unwrap_err();
    assert!(error.causes[0].contains("org/tiny@v9"), "{error:?}");
    let error = hub.get("./org/tiny", Need::Config).unwrap_err();
    assert_eq!(error.message, "Model directory does not exist");
    assert!(error.hint.as_deref().unwrap().contains("--model"), "{error:?}");
}

#[test]
fn a_hub_that_cannot_be_reached_is_said_plainly() {
    let hub = Hub::new();
    // A port that nothing listens on.
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let environment = HubEnvironment { endpoint: format!("http://{closed}"), ..hub.environment() };
    let name = Path::new("org/tiny");
    let error = resolve_with(name, Need::Config, &environment, &|_| {}).unwrap_err();
    assert_eq!(error.code, codes::HUB_OFFLINE);
    assert!(error.causes[0].contains(&closed.to_string()), "{error:?}");
    let environment = HubEnvironment { offline: true, ..environment };
    let error = resolve_with(name, Need::Config, &environment, &|_| {}).unwrap_err();
    assert_eq!(error.code, codes::HUB_OFFLINE);
    assert!(error.message.contains("HF_HUB_OFFLINE"), "{error:?}");
}

#[test]
fn a_hub_that_says_nothing_is_given_up() {
    let hub = Hub::with(|state| state.silent = true);
    let environment = HubEnvironment { patience: Duration::from_millis(100), ..hub.environment() };
    let error =
        resolve_with(Path::new("org/tiny"), Need::Config, &environment, &|_| {}).unwrap_err();
    assert_eq!(error.code, codes::DOWNLOAD_FAILED);
    assert!(error.message.contains("sent nothing"), "{error}");
}

/// A server decides no paths, and cannot end the program.
#[test]
fn hostile_answers_are_errors() {
    let etag = |text: &str| Some(text.to_owned());
    let hubs = [
        Hub::with(|state| state.etag = etag("../../../outside")),
        Hub::with(|state| state.etag = etag("")),
        Hub::with(|state| state.commit = etag("../../outside")),
        Hub::with(|state| state.commit = etag("ffff")),
        Hub::with(|state| state.location = Some(String::new())),
        Hub::with(|state| state.location = etag("Location: http://[\r\n")),
        Hub::with(|state| {
            let index = br#"{"weight_map": {"a": "../../x.safetensors"}}"#;
            state.files.insert("model.safetensors.index.json".to_owned(), index.to_vec());
        }),
        Hub::with(|state| {
            let index = br#"{"weight_map": {"a": "absent.safetensors"}}"#;
            state.files.insert("model.safetensors.index.json".to_owned(), index.to_vec());
        }),
        Hub::with(|state| drop(state.files.remove("config.json"))),
        Hub::with(|state| state.files.retain(|name, _| !name.ends_with(".safetensors"))),
        Hub::with(|state| drop(state.files.remove("model.safetensors.index.json"))),
    ];
    for (number, hub) in hubs.iter().enumerate() {
        let error = hub.get("org/tiny", Need::Weights).unwrap_err();
        assert_eq!(error.code, codes::DOWNLOAD_FAILED, "{number}: {error:?}");
        let outside = hub.cache.path().parent().unwrap().join("outside");
        assert!(!outside.exists(), "{number}");
    }
}
