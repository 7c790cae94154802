//! Models by name: what is asked of a hub on this machine, and in which order a conversion is
//! refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, files, model, run, succeed};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What is asked for where the configuration is enough: the model has no modules.json.
const CONFIGURATION: [&str; 2] = ["config.json", "modules.json"];

/// What was asked for, and how many bytes were sent.
#[derive(Default)]
struct Asked {
    paths: Vec<String>,
    bytes: usize,
}

/// A hub with one model, `org/tiny`, and a folder to work in.
struct Hub {
    address: String,
    asked: Arc<Mutex<Asked>>,
    folder: tempfile::TempDir,
}

impl Hub {
    /// With the files of a model directory, and others.
    fn new(directory: &Path, others: &[(&str, &[u8])], without: &str) -> Self {
        let mut contents: BTreeMap<String, Vec<u8>> = files(directory)
            .into_iter()
            .map(|(path, bytes)| (path.to_string_lossy().replace('\\', "/"), bytes))
            .filter(|(name, _)| !name.starts_with("golden/"))
            .collect();
        contents.extend(others.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())));
        contents.remove(without);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Asked::default()));
        let shared = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &contents, &shared);
            }
        });
        Self { address, asked, folder: tempfile::tempdir().unwrap() }
    }

    fn of(name: &str) -> Self {
        Self::new(&model(name), &[], "")
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn command(&self, command: &str, flags: &[&str]) -> Command {
        self.command_for(Path::new("org/tiny"), command, flags)
    }

    fn command_for(&self, model: &Path, command: &str, flags: &[&str]) -> Command {
        let mut typed = anemll();
        typed.args([command, "--model"]).arg(model).args(flags);
        if command == "convert" {
            typed.args(["--output", "out", "--context", "256"]);
        }
        typed.current_dir(self.folder.path());
        typed.env("HF_ENDPOINT", format!("http://{}", self.address));
        typed.env("HF_HOME", self.folder.path().join("huggingface"));
        for name in ["HF_TOKEN", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
            typed.env_remove(name);
        }
        typed
    }

    fn told(&self, flags: &[&str]) -> (String, String) {
        let output = succeed(&mut self.command("convert", flags));
        (String::from_utf8_lossy(&output.stdout).into_owned(), stderr(&output))
    }

    fn refused(&self, flags: &[&str]) -> String {
        let output = run(&mut self.command("convert", flags));
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        stderr(&output)
    }

    /// Files that were asked for since the last time, and bytes that were sent.
    fn asked(&self) -> (Vec<String>, usize) {
        let Asked { paths, bytes } = std::mem::take(&mut *self.asked.lock().unwrap());
        (paths, bytes)
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn serve(mut stream: TcpStream, contents: &BTreeMap<String, Vec<u8>>, asked: &Mutex<Asked>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else { return };
    let _: Vec<_> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let path = first.split(' ').nth(1).unwrap_or_default();
    // The name of a file in the model, whatever the revision; else what a request is for.
    let file = path.strip_prefix("/org/tiny/resolve/").and_then(|rest| rest.split_once('/'));
    let name = file.map_or(path.rsplit('/').next().unwrap_or_default(), |(_, name)| name);
    let listing = |folder: &str| {
        let here = contents.iter().filter_map(|(name, bytes)| {
            let rest = name.strip_prefix(folder)?.trim_start_matches('/');
            (!rest.contains('/')).then_some((name, bytes))
        });
        let entry = |(name, bytes): (&String, &Vec<u8>)| {
            let (oid, size) = (sha256(bytes), bytes.len());
            format!(r#"{{"type": "file", "path": "{name}", "oid": "{oid}", "size": {size}}}"#)
        };
        format!("[{}]", here.map(entry).collect::<Vec<_>>().join(",")).into_bytes()
    };
    let tree = format!("/api/models/org/tiny/tree/{COMMIT}");
    let (status, body) = match (file, path.strip_prefix(&tree)) {
        (Some((_, name)), _) => match contents.get(name) {
            Some(bytes) => (200, bytes.clone()),
            None => (404, Vec::new()),
        },
        (None, Some(folder)) => (200, listing(folder.trim_start_matches('/'))),
        (None, None) => (404, Vec::new()),
    };
    let mut head = format!("HTTP/1.1 {status} Status\r\nConnection: close\r\n");
    head += &format!("Content-Length: {}\r\nX-Repo-Commit: {COMMIT}\r\n", body.len());
    match status {
        200 => head += &format!("ETag: \"{}\"\r\n", sha256(&body)),
        _ => head += "X-Error-Code: EntryNotFound\r\n",
    }
    let whole = [head.as_bytes(), b"\r\n", &body].concat();
    {
        let mut asked = asked.lock().unwrap();
        asked.paths.push(name.to_owned());
        asked.bytes += whole.len();
    }
    let _ = stream.write_all(&whole);
}

#[test]
fn a_dry_run_asks_for_the_configuration_alone() {
    let hub = Hub::of("tiny-llama");
    let (text, _) = hub.told(&["--dry-run", "--no-tokenizer"]);
    let (paths, bytes) = hub.asked();
    assert_eq!(paths, CONFIGURATION);
    assert!(bytes < 1500, "{bytes} bytes for a configuration");
    assert!(
        text.contains("note: the weights are not here; the conversion downloads them"),
        "{text}"
    );
    assert!(text.contains("packages in out:"), "{text}");
    assert!(!hub.output().exists());
    // Sizes are those of a dry run with the weights.
    let sizes = |text: &str| {
        let lines = text.lines().filter(|line| line.contains(" MB"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let tiny = model("tiny-llama");
    let local = succeed(&mut hub.command_for(&tiny, "convert", &["--dry-run", "--no-tokenizer"]));
    assert_eq!(sizes(&text), sizes(&String::from_utf8_lossy(&local.stdout)));
    // Again, nothing at all.
    hub.told(&["--dry-run", "--no-tokenizer"]);
    assert_eq!(hub.asked().1, 0);
}

#[test]
fn what_cannot_be_is_refused_before_the_weights_are_asked_for() {
    let unknown =
        Hub::new(&model("tiny-llama"), &[("config.json", b"{\"model_type\": \"gpt2\"}")], "");
    let text = unknown.refused(&[]);
    assert!(text.contains("gpt2"), "{text}");
    assert_eq!(unknown.asked().0, CONFIGURATION);
    let hub = Hub::of("tiny-llama");
    for flags in [
        &["--combiner", "chunked", "--chunk", "1000"][..],
        &["--lut", "5"],
        &["--quantizer", "none-of-this-name"],
    ] {
        hub.refused(flags);
    }
    let all = hub.asked().0;
    assert!(all.is_empty() || all == CONFIGURATION, "{all:?}");
    // An output directory that is none, or holds something else.
    std::fs::write(hub.output(), "a file").unwrap();
    assert!(hub.refused(&[]).contains("the output is not a directory"));
    std::fs::remove_file(hub.output()).unwrap();
}

#[test]
fn a_missing_tokenizer_is_found_before_the_weights_are_asked_for() {
    let hub = Hub::new(&model("tiny-llama"), &[], "tokenizer.json");
    let text = hub.refused(&[]);
    assert!(text.contains("has no tokenizer.json"), "{text}");
    let asked = hub.asked().0;
    assert!(asked.iter().any(|name| name == "tokenizer_config.json"), "{asked:?}");
    assert!(!asked.iter().any(|name| name.ends_with(".safetensors")), "{asked:?}");
}

#[test]
fn a_name_is_converted_and_a_dry_run_tells_what_is_finished() {
    let hub = Hub::new(&model("tiny-llama"), &[("README.md", b"---\nlicense: mit\n---\n")], "");
    let flags = ["--combiner", "chunked", "--lut", "none"];
    let (_, text) = hub.told(&flags);
    assert_eq!(text.matches("note: downloading org/tiny: 1.").count(), 1, "{text}");
    let asked = hub.asked().0;
    for name in ["config.json", "tokenizer.json", "model.safetensors", "README.md"] {
        assert_eq!(asked.iter().filter(|other| *other == name).count(), 1, "{name}: {asked:?}");
    }
    let before = files(&hub.output());
    let (text, _) = hub.told(&[&flags[..], &["--dry-run"]].concat());
    assert_eq!(text.matches(": is finished").count(), 8, "{text}");
    // As the conversion itself says it.
    let (_, again) = hub.told(&flags);
    for line in again.lines().filter(|line| line.ends_with(": is finished")) {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let damaged = hub.output().join("llama_lm_head.mlpackage/Manifest.json");
    std::fs::remove_file(damaged).unwrap();
    let (text, _) = hub.told(&[&flags[..], &["--dry-run"]].concat());
    assert_eq!(text.matches(": is finished").count(), 1, "{text}");
    assert!(text.contains("step 1: embeddings: is finished"), "{text}");
    let other = hub.refused(&["--combiner", "chunked", "--lut", "6", "--dry-run"]);
    assert!(other.contains("holds a conversion with other options"), "{other}");
    assert_eq!(other, hub.refused(&["--combiner", "chunked", "--lut", "6"]));
    hub.told(&["--combiner", "chunked", "--lut", "6", "--dry-run", "--force"]);
    assert_eq!(files(&hub.output()).len(), before.len() - 1, "nothing was touched");
    assert_eq!(hub.asked().1, 0, "all was in the cache");
}

/// The cache of a hub, as if somebody had downloaded only some of the files.
fn forget(hub: &Hub, name: &str) {
    let snapshot = hub.folder.path().join("huggingface/hub/models--org--tiny/snapshots");
    let pointer = snapshot.join(COMMIT).join(name);
    let blob = pointer.canonicalize().unwrap();
    std::fs::remove_file(pointer).unwrap();
    std::fs::remove_file(blob).unwrap();
}

#[test]
fn a_cache_with_a_part_of_the_tokenizer_gets_the_rest() {
    let hub = Hub::of("tiny-llama");
    let flags = ["--combiner", "chunked", "--lut", "none"];
    hub.told(&flags);
    hub.asked();
    forget(&hub, "tokenizer_config.json");
    hub.told(&[&flags[..], &["--force"]].concat());
    let asked = hub.asked().0;
    assert_eq!(asked, [COMMIT, "tokenizer_config.json"], "the listing, and what is missing");
    assert!(hub.output().join("tokenizer_config.json").exists());
    // Where the hub cannot be asked, what is there will do.
    forget(&hub, "tokenizer_config.json");
    let mut command = hub.command("convert", &[&flags[..], &["--force"]].concat());
    succeed(command.env("HF_HUB_OFFLINE", "1"));
    let mut command = hub.command("convert", &[&flags[..], &["--force"]].concat());
    let text = stderr(&succeed(command.env("HF_ENDPOINT", "http://127.0.0.1:1")));
    assert!(text.contains("note: the cache has no tokenizer_config.json of org/tiny"), "{text}");
}

#[test]
fn a_model_without_settings_or_without_a_tokenizer_is_asked_for_once() {
    let hub = Hub::new(&model("tiny-llama"), &[], "tokenizer_config.json");
    let flags = ["--combiner", "chunked", "--lut", "none"];
    hub.told(&flags);
    hub.asked();
    hub.told(&flags);
    assert_eq!(hub.asked().1, 0, "it is known that there are none");

    let hub = Hub::new(&model("tiny-llama"), &[], "tokenizer.json");
    let flags = [&flags[..], &["--no-tokenizer"]].concat();
    hub.told(&flags);
    hub.asked();
    hub.told(&flags);
    assert_eq!(hub.asked().1, 0, "no tokenizer was asked for");
}

#[test]
fn a_warning_comes_before_the_weights_and_once() {
    let settings = br#"{"chat_template": "{% if %}"}"#;
    let hub = Hub::new(&model("tiny-llama"), &[("tokenizer_config.json", settings)], "");
    let (_, text) = hub.told(&["--combiner", "chunked", "--lut", "none"]);
    let words = "warning: chat will not work";
    assert_eq!(text.matches(words).count(), 1, "{text}");
    assert!(text.find(words) < text.find("note: downloading"), "{text}");
}

#[test]
fn another_conversion_is_in_the_way_before_anything_is_downloaded() {
    let hub = Hub::of("tiny-llama");
    hub.told(&["--combiner", "chunked", "--lut", "none", "--runtime", "none"]);
    std::fs::remove_dir_all(hub.folder.path().join("huggingface")).unwrap();
    hub.asked();
    for flags in
        [&["--combiner", "chunked", "--lut", "6"][..], &["--combiner", "chunked", "--dry-run"]]
    {
        let text = hub.refused(flags);
        assert!(text.contains("holds a conversion with other options"), "{text}");
    }
    assert_eq!(hub.asked().0, CONFIGURATION, "for both");
    // The same options may go on; which steps are finished depends on the weights.
    let flags = ["--combiner", "chunked", "--lut", "none", "--dry-run"];
    let (text, _) = hub.told(&flags);
    assert!(text.contains("depends on the weights"), "{text}");
}

#[test]
fn check_and_plan_ask_for_the_configuration_alone() {
    for command in ["check", "plan"] {
        let hub = Hub::of("tiny-llama");
        succeed(&mut hub.command(command, &[]));
        assert_eq!(hub.asked().0, CONFIGURATION, "{command}");
    }
}

#[test]
fn a_model_that_gives_vectors_is_known_by_its_name() {
    let model = crate::embedders::with_tokenizer();
    let hub = Hub::new(model.path(), &[], "");
    // The configurations alone say what it is for.
    let (text, told) = hub.told(&["--dry-run", "--no-tokenizer"]);
    assert!(text.contains("qwen_embed.mlpackage"), "{text}");
    assert!(told.contains("--task embed is taken"), "{told}");
    let asked = hub.asked().0;
    assert!(asked.iter().all(|name| name.ends_with(".json")), "{asked:?}");
    let told = succeed(&mut hub.command("check", &[]));
    assert!(String::from_utf8_lossy(&told.stdout).contains("--task embed is taken"));
    let flags = ["--lut", "none", "--batch", "32"];
    hub.told(&flags);
    let asked = hub.asked().0;
    assert!(asked.iter().any(|name| name == "model.safetensors"), "{asked:?}");
    let vector = |directory: &Path| {
        let told = succeed(anemll().args(["embed", "a text", "--meta"]).arg(directory));
        String::from_utf8(told.stdout).unwrap()
    };
    let local = hub.folder.path().join("local");
    let mut command = anemll();
    command.arg("convert").arg(model.path()).arg("--output").arg(&local);
    succeed(command.args(["--context", "256"]).args(flags));
    assert_eq!(vector(&hub.output()), vector(&local));
    // A repository whose modules.json leads out of it is refused, before its weights are asked for.
    let hostile =
        br#"[{"path": "", "type": "a.Transformer"}, {"path": "../x", "type": "a.Pooling"}]"#;
    let hub = Hub::new(model.path(), &[("modules.json", hostile)], "");
    let text = hub.refused(&[]);
    assert!(text.contains("not the name of a folder"), "{text}");
    assert_eq!(hub.asked().0[..2], CONFIGURATION);
}
