//! Downloads from a hub that behaves.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use anemll_hub::{Environment, ErrorKind, Name, Need, Progress, Watch, find};
use common::{COMMIT, Hub, Reply, SHARD, Way, git, sha256};
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

#[test]
fn a_model_is_downloaded_once_and_then_found() {
    let hub = Hub::new();
    let path = hub.get("org/tiny", Need::Weights).unwrap();
    assert_eq!(path, hub.snapshot());
    let wanted =
        ["config.json", "tokenizer.json", "model-00001-of-00002.safetensors", SHARD, "README.md"];
    for name in wanted {
        assert_eq!(std::fs::read(path.join(name)).unwrap(), hub.file(name), "{name}");
    }
    assert_eq!(std::fs::read_to_string(hub.folder().join("refs/main")).unwrap(), COMMIT);
    let requests = hub.requests();
    for unwanted in ["pytorch_model.bin", "model-00003", "revision"] {
        assert!(!requests.iter().any(|line| line.path.contains(unwanted)), "{requests:?}");
    }
    assert!(requests.iter().all(|request| request.token.is_empty()), "{requests:?}");
    let name = Name::parse("org/tiny").unwrap();
    assert_eq!(find(&hub.cache(), &name, Need::Weights).complete.unwrap(), path);
    // A second time, only what may have changed is asked for.
    let before = hub.requests().len();
    assert_eq!(hub.get("org/tiny", Need::Weights).unwrap(), path);
    assert_eq!(hub.requests().len() - before, 2, "{:?}", hub.requests());
}

/// As huggingface_hub lays it out: contents by hash, and relative links to them.
#[cfg(unix)]
#[test]
fn the_cache_is_laid_out_as_other_tools_do_it() {
    let hub = Hub::new();
    hub.get("org/tiny", Need::Weights).unwrap();
    let link = |name: &str| std::fs::read_link(hub.snapshot().join(name)).unwrap();
    let config = git(&hub.file("config.json"));
    assert_eq!(link("config.json"), Path::new("../../blobs").join(&config));
    assert_eq!(link(SHARD), Path::new("../../blobs").join(sha256(&hub.file(SHARD))));
    let lock = format!(".locks/models--org--tiny/{config}.lock");
    assert!(hub.cache().join(lock).is_file());
    let left: Vec<_> = std::fs::read_dir(hub.folder().join("blobs")).unwrap().collect();
    assert_eq!(left.len(), 6, "one for each content, and nothing half-done: {left:?}");
}

#[test]
fn the_configuration_alone_is_two_requests_and_the_rest_can_follow() {
    let hub = Hub::new();
    let path = hub.get("org/tiny", Need::Config).unwrap();
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    let asked = hub.requests();
    assert!(asked[0].is_for("/config.json") && asked[1].is_for("/modules.json"), "{asked:?}");
    assert_eq!(asked.len(), 2);
    let pinned = format!("org/tiny@{COMMIT}");
    assert_eq!(hub.get(&pinned, Need::Weights).unwrap(), path);
    assert!(path.join(SHARD).is_file());
    let asked = hub.requests();
    let of_config = asked.iter().filter(|request| request.is_for("/config.json")).count();
    assert_eq!(of_config, 1, "{asked:?}");
}

#[test]
fn the_tokenizer_comes_before_the_weights() {
    let hub = Hub::new();
    let path = hub.get("org/tiny", Need::Tokenizer).unwrap();
    assert!(path.join("tokenizer.json").is_file() && path.join("config.json").is_file());
    assert!(!hub.requests().iter().any(|request| request.path.ends_with(".safetensors")));
    let name = Name::parse("org/tiny").unwrap();
    assert!(find(&hub.cache(), &name, Need::Tokenizer).complete.is_some());
    assert!(find(&hub.cache(), &name, Need::Weights).complete.is_none());
    hub.get("org/tiny", Need::Weights).unwrap();
    let asked = hub.requests();
    let twice = asked.iter().filter(|request| request.is_for("/tokenizer.json")).count();
    assert_eq!(twice, 1, "{asked:?}");
}

#[test]
fn mirrors_without_listings_or_commits_will_do() {
    let hub = Hub::new();
    hub.edit(|state| state.has_tree = false);
    let path = hub.get("org/tiny", Need::Weights).unwrap();
    assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), hub.file(SHARD));
    let hub = Hub::with(|request, reply| match request.path.contains(&format!("e/{COMMIT}/")) {
        true => Reply::new(404, ""),
        false => reply,
    });
    hub.edit(|state| state.has_tree = false);
    let path = hub.get("org/tiny", Need::Weights).unwrap();
    assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), hub.file(SHARD));
    // Tags of their own and no commits, but a listing.
    let hub = Hub::with(|_, reply| match reply.status {
        200 | 206 => reply.with("ETag", "W/\"5f3-62\"").without("X-Repo-Commit"),
        _ => reply,
    });
    let path = hub.get("org/tiny", Need::Weights).unwrap();
    assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), hub.file(SHARD));
}

#[test]
fn one_file_of_weights_or_a_file_of_any_name_needs_no_index() {
    for name in ["model.safetensors", "other.safetensors"] {
        let hub = Hub::new();
        hub.edit(|state| {
            state.files.retain(|name, _| !name.contains("safetensors"));
            state.files.insert(name.to_owned(), b"weights".to_vec());
        });
        let path = hub.get("org/tiny", Need::Weights).unwrap();
        assert_eq!(std::fs::read(path.join(name)).unwrap(), b"weights");
    }
}

#[test]
fn an_empty_file_is_a_file() {
    for has_tree in [true, false] {
        let hub = Hub::new();
        hub.edit(|state| {
            state.has_tree = has_tree;
            state.files.insert("merges.txt".to_owned(), Vec::new());
        });
        let path = hub.get("org/tiny", Need::Weights).unwrap();
        assert_eq!(std::fs::read(path.join("merges.txt")).unwrap(), b"", "{has_tree}");
    }
}

#[test]
fn an_adapter_comes_without_its_weights() {
    let hub = Hub::new();
    hub.edit(|state| {
        state.files.clear();
        state.files.insert("adapter_config.json".to_owned(), b"{}".to_vec());
        state.files.insert("adapter_model.safetensors".to_owned(), b"x".to_vec());
    });
    let path = hub.get("org/tiny", Need::Weights).unwrap();
    assert!(path.join("adapter_config.json").is_file());
    assert!(!path.join("adapter_model.safetensors").exists());
}

const MODULES: &str = r#"[
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
    {"path": "3_Normalize", "type": "sentence_transformers.models.Normalize"}
]"#;

/// A hub with a model that gives vectors; `modules` is its modules.json.
fn embedder(modules: &str) -> Hub {
    let hub = Hub::new();
    hub.edit(|state| {
        for (name, bytes) in [
            ("modules.json", modules),
            ("config_sentence_transformers.json", "{}"),
            ("1_Pooling/config.json", r#"{"pooling_mode_mean_tokens": true}"#),
            ("2_Dense/config.json", r#"{"in_features": 8}"#),
            ("2_Dense/model.safetensors", "values of a layer"),
            ("2_Dense/pytorch_model.bin", "pickle"),
            ("onnx/model.onnx", "onnx"),
        ] {
            state.files.insert(name.to_owned(), bytes.as_bytes().to_vec());
        }
    });
    hub
}

/// What a snapshot holds, with the files of its folders.
fn held(snapshot: &Path) -> Vec<String> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(snapshot).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if !entry.file_type().unwrap().is_dir() {
            names.push(name);
            continue;
        }
        for file in std::fs::read_dir(entry.path()).unwrap() {
            names.push(format!("{name}/{}", file.unwrap().file_name().to_string_lossy()));
        }
    }
    names.sort();
    names
}

#[test]
fn what_follows_a_model_comes_with_it() {
    const SMALL: [&str; 5] = [
        "1_Pooling/config.json",
        "2_Dense/config.json",
        "config.json",
        "config_sentence_transformers.json",
        "modules.json",
    ];
    for (has_tree, knows_commits) in [(true, true), (false, true), (false, false)] {
        let hub = embedder(MODULES);
        hub.edit(|state| {
            state.has_tree = has_tree;
            state.change = Box::new(move |request, reply| {
                let of_commit = request.path.contains(&format!("resolve/{COMMIT}/"));
                if of_commit && !knows_commits { Reply::new(404, "") } else { reply }
            });
        });
        let path = hub.get("org/tiny", Need::Config).unwrap();
        assert_eq!(held(&path), SMALL, "{has_tree}");
        let name = Name::parse("org/tiny").unwrap();
        assert!(find(&hub.cache(), &name, Need::Config).complete.is_some());
        hub.get("org/tiny", Need::Weights).unwrap();
        for file in ["2_Dense/model.safetensors", "2_Dense/config.json", "1_Pooling/config.json"] {
            assert_eq!(std::fs::read(path.join(file)).unwrap(), hub.file(file), "{file}");
        }
        assert!(!held(&path).iter().any(|name| name.ends_with(".bin") || name.contains("onnx")));
        let found = find(&hub.cache(), &name, Need::Weights);
        assert!(found.complete.is_some() && found.doubtful.is_none(), "{found:?}");
        // Once is enough.
        let before = hub.requests().len();
        let pinned = format!("org/tiny@{COMMIT}");
        hub.get(&pinned, Need::Config).unwrap();
        assert_eq!(hub.requests().len(), before);
    }
}

#[test]
fn layers_without_safetensors_are_known_to_have_none() {
    let hub = embedder(MODULES);
    hub.edit(|state| drop(state.files.remove("2_Dense/model.safetensors")));
    let path = hub.get("org/tiny", Need::Weights).unwrap();
    assert!(!path.join("2_Dense/model.safetensors").exists());
    let name = Name::parse("org/tiny").unwrap();
    assert!(find(&hub.cache(), &name, Need::Weights).complete.is_some());
}

#[test]
fn modules_lie_in_folders_of_the_model_and_nowhere_else() {
    for path in [
        "../2_Dense",
        "/2_Dense",
        "a/../../x",
        "a\\\\x",
        "C:x",
        ".git",
        "a/b",
        "..",
        ".",
        "x\\u0000y",
    ] {
        let modules = format!(r#"[{{"path": "{path}", "type": "x.Dense"}}]"#);
        let hub = embedder(&modules);
        let snapshot = hub.get("org/tiny", Need::Weights).unwrap();
        assert!(snapshot.join("modules.json").is_file());
        let asked = hub.requests();
        let odd = |line: &common::Request| {
            let files = line.path.rsplit_once(&format!("{COMMIT}/"));
            files.is_some_and(|(_, name)| name.contains('/'))
        };
        assert!(!asked.iter().any(odd), "{path}: {asked:?}");
        assert!(hub.outside().is_empty(), "{path}: {:?}", hub.outside());
    }
    // No list, or one without end, names nothing.
    let many = format!("[{}]", vec![r#"{"path": "x", "type": "x.Dense"}"#; 1000].join(","));
    for (modules, most) in [("{", 0), ("{}", 0), ("null", 0), (&many, 3)] {
        let hub = embedder(modules);
        hub.get("org/tiny", Need::Weights).unwrap();
        let of_modules = hub.requests().iter().filter(|line| line.path.contains("/x")).count();
        assert!(of_modules <= most, "{modules:.20}: {of_modules}");
    }
}

#[test]
fn files_of_modules_are_checked_as_all_others() {
    let damaged = |end: &'static str| {
        let hub = embedder(MODULES);
        hub.edit(|state| {
            state.change = Box::new(move |request, mut reply| {
                if request.is_for(end) && !reply.body.is_empty() {
                    reply.body[0] ^= 1;
                }
                reply
            });
        });
        hub.get("org/tiny", Need::Weights).unwrap_err().kind()
    };
    for end in ["/modules.json", "1_Pooling/config.json", "2_Dense/model.safetensors"] {
        assert_eq!(damaged(end), ErrorKind::Damaged, "{end}");
    }
    let hub = embedder(MODULES);
    hub.edit(|state| {
        state.change = Box::new(|request, reply| match request.is_for("1_Pooling/config.json") {
            true => reply.with("X-Repo-Commit", &"1".repeat(40)),
            false => reply,
        });
    });
    let error = hub.get("org/tiny", Need::Config).unwrap_err();
    assert!(error.message().contains("changed on the hub"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_folder_of_a_module_that_is_a_link_is_not_followed() {
    let hub = embedder(MODULES);
    let elsewhere = hub.root.path().join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::create_dir_all(hub.snapshot()).unwrap();
    std::os::unix::fs::symlink(&elsewhere, hub.snapshot().join("1_Pooling")).unwrap();
    let error = hub.get("org/tiny", Need::Config).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache);
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn what_was_cut_off_is_gone_on_with() {
    for length in [true, false] {
        let mut cuts = vec![50_000, 100_000];
        let hub = Hub::with(move |request, reply| {
            let cut = if request.is_for(SHARD) && reply.body.len() > 9 { cuts.pop() } else { None };
            let reply = if length { reply } else { reply.without_length() };
            match cut {
                Some(count) => reply.sent(Way::Cut(count)),
                None => reply,
            }
        });
        let path = hub.get("org/tiny", Need::Weights).unwrap();
        assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), hub.file(SHARD));
        let ranges: Vec<String> = hub.requests().into_iter().map(|request| request.range).collect();
        for range in ["bytes=100000-", "bytes=150000-"] {
            assert!(ranges.iter().any(|other| other == range), "{range}: {ranges:?}");
        }
    }
}

#[test]
fn a_download_that_fails_keeps_what_it_has_for_the_next() {
    let hub = Hub::with(|request, reply| match request.is_for(SHARD) && !reply.body.is_empty() {
        true if request.range.is_empty() => reply.sent(Way::Cut(100_000)),
        true => reply.sent(Way::Cut(0)),
        false => reply,
    });
    let error = hub.get("org/tiny", Need::Weights).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed);
    assert!(error.hint().unwrap().contains("goes on"), "{error:?}");
    assert_eq!(hub.part().metadata().unwrap().len(), 100_000);
    let name = Name::parse("org/tiny").unwrap();
    let found = find(&hub.cache(), &name, Need::Weights);
    assert!(found.lack.unwrap().contains(SHARD));
    hub.edit(|state| state.change = Box::new(|_, reply| reply));
    let before = hub.requests().len();
    let path = hub.get("org/tiny", Need::Weights).unwrap();
    assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), hub.file(SHARD));
    let ranges: Vec<_> = hub.requests().split_off(before);
    assert!(ranges.iter().any(|request| request.range == "bytes=100000-"), "{ranges:?}");
}

#[test]
fn parts_of_any_size_and_content_become_the_file() {
    for (length, ignores_ranges, damaged) in [
        (300_000, false, false),
        (400_000, false, false),
        (1000, true, false),
        (1000, false, true),
        (300_000, false, true),
    ] {
        let hub = Hub::new();
        let whole = hub.file(SHARD);
        if ignores_ranges {
            let body = whole.clone();
            hub.edit(|state| {
                state.change = Box::new(move |_, reply| match reply.status {
                    206 => Reply::new(200, body.clone()),
                    _ => reply,
                });
            });
        }
        let mut part = whole.clone();
        part.resize(length, 0);
        if damaged {
            part[5] ^= 1;
        }
        std::fs::write(hub.part(), part).unwrap();
        let path = hub.get("org/tiny", Need::Weights).unwrap();
        assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), whole, "{length}");
    }
}

#[test]
fn the_token_is_shown_only_where_it_is_needed() {
    let hub = Hub { token: Some(common::TOKEN.to_owned()), ..Hub::new() };
    hub.get("org/tiny", Need::Config).unwrap();
    assert!(hub.requests().iter().all(|request| request.token.is_empty()));
    let hub = Hub { token: Some(common::TOKEN.to_owned()), ..Hub::new() };
    hub.edit(|state| state.gated = true);
    hub.get("org/tiny", Need::Weights).unwrap();
    assert!(hub.requests()[1].token.ends_with(common::TOKEN));
}

/// The store of large files is another host: the token does not go there.
#[test]
fn the_token_does_not_follow_to_another_host() {
    let store = Hub::new();
    let place = store.address.clone();
    let hub = Hub::with(move |_, reply| match reply.status {
        302 => {
            let path = reply.headers.iter().find(|(name, _)| name == "Location").unwrap().1.clone();
            reply.with("Location", &format!("http://{place}{path}"))
        }
        _ => reply,
    });
    hub.edit(|state| state.gated = true);
    let hub = Hub { token: Some(common::TOKEN.to_owned()), ..hub };
    let path = hub.get("org/tiny", Need::Weights).unwrap();
    assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), hub.file(SHARD));
    let (asked, stored) = (hub.requests(), store.requests());
    assert!(asked.iter().any(|request| !request.token.is_empty()));
    assert_eq!(stored.len(), 2);
    assert!(stored.iter().all(|request| request.token.is_empty()), "{stored:?}");
}

/// What a watcher hears.
#[derive(Default)]
struct Heard(Mutex<Vec<(u64, u64)>>);

impl Watch for Heard {
    fn tell(&self, progress: &Progress<'_>) {
        if let Progress::Bytes { done, total, .. } = progress {
            self.0.lock().unwrap().push((*done, *total));
        }
    }

    fn goes_on(&self) -> bool {
        true
    }
}

#[test]
fn progress_counts_the_whole_download() {
    let hub = Hub::new();
    std::fs::write(hub.part(), &hub.file(SHARD)[..100_000]).unwrap();
    let heard = Heard::default();
    hub.watched("org/tiny", Need::Weights, &heard).unwrap();
    let heard = heard.0.into_inner().unwrap();
    let wanted = ["tokenizer.json", "tokenizer_config.json", "model-00001-of-00002.safetensors"];
    let total: usize = wanted.into_iter().chain([SHARD]).map(|name| hub.file(name).len()).sum();
    assert!(heard.iter().all(|(_, all)| *all == total as u64), "{heard:?}");
    assert!(heard.windows(2).all(|pair| pair[0].0 <= pair[1].0), "{heard:?}");
    assert_eq!(heard.last().unwrap().0, total as u64);
}

#[test]
fn two_processes_load_a_file_once() {
    let hub = Hub::with(|request, reply| {
        if request.path.contains("/cdn/") {
            std::thread::sleep(Duration::from_millis(100));
        }
        reply
    });
    std::thread::scope(|scope| {
        let jobs = [0, 1].map(|_| scope.spawn(|| hub.get("org/tiny", Need::Weights)));
        for job in jobs {
            let path = job.join().unwrap().unwrap();
            assert_eq!(std::fs::read(path.join(SHARD)).unwrap(), hub.file(SHARD));
        }
    });
    let loads = hub.requests().into_iter().filter(|request| request.path.contains("/cdn/"));
    assert_eq!(loads.count(), 2, "one for each shard");
}

#[test]
fn a_revision_with_slashes_has_its_ref() {
    let hub = Hub::with(|request, _| {
        let file = b"{}";
        if request.is_for("/modules.json") {
            return Reply::new(404, "").with("X-Error-Code", "EntryNotFound");
        }
        assert!(request.path.contains("/resolve/refs%2Fpr%2F1/"), "{request:?}");
        Reply::new(200, file).with("X-Repo-Commit", COMMIT).with("ETag", &git(file))
    });
    hub.get("org/tiny@refs/pr/1", Need::Config).unwrap();
    let reference = hub.folder().join("refs/refs/pr/1");
    assert_eq!(std::fs::read_to_string(reference).unwrap(), COMMIT);
}

#[test]
fn an_endpoint_that_is_none_is_said() {
    let hub = Hub::new();
    for endpoint in ["", "hub", "ftp://hub", "http://"] {
        let environment = Environment { endpoint: endpoint.to_owned(), ..hub.environment() };
        let name = Name::parse("org/tiny").unwrap();
        let error =
            anemll_hub::download(&name, Need::Config, &environment, &hub.limits, &common::Silent)
                .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{endpoint}");
        assert!(error.message().contains("HF_ENDPOINT"), "{error}");
    }
}
