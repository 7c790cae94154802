//! Hubs that misbehave, and caches that are traps: no panic, nothing outside of the cache, an
//! error of the right kind, and few requests for what cannot mend itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use anemll_hub::{ErrorKind, Limits, Need, Progress, Watch};
use common::{COMMIT, Hub, INDEX, Reply, Request, SHARD, Way, entry, git, sha256};
use std::path::Path;
use std::time::{Duration, Instant};

/// A download that fails; most requests that it may take.
#[track_caller]
fn fails(what: &str, hub: &Hub, kind: ErrorKind, most: usize) -> anemll_hub::HubError {
    let error = match hub.get("org/tiny", Need::Weights) {
        Err(error) => error,
        Ok(path) => panic!("{what}: {}", path.display()),
    };
    assert_eq!(error.kind(), kind, "{what}: {error:?}");
    // Whether the model gives vectors is asked of every one.
    let mut requests = hub.requests();
    requests.retain(|request| !request.is_for("/modules.json"));
    assert!(requests.len() <= most, "{what}: {} requests {requests:?}", requests.len());
    assert_eq!(hub.outside(), Vec::<std::path::PathBuf>::new(), "{what}");
    assert!(!hub.snapshot().join(SHARD).exists(), "{what}");
    error
}

/// A hub that answers requests of one kind otherwise.
fn on(end: &'static str, change: impl Fn(&Request, Reply) -> Reply + Send + 'static) -> Hub {
    Hub::with(move |request, reply| {
        // Not tokenizer_config.json.
        let is = request.path.ends_with(&format!("/{end}"));
        if is { change(request, reply) } else { reply }
    })
}

fn on_tree(change: impl Fn(Reply) -> Reply + Send + 'static) -> Hub {
    Hub::with(move |request, reply| if request.is_tree() { change(reply) } else { reply })
}

/// On what the store of large files gives.
fn on_store(change: impl Fn(&Request, Reply) -> Reply + Send + 'static) -> Hub {
    Hub::with(move |request, reply| {
        let is = request.path == format!("/cdn/{SHARD}");
        if is { change(request, reply) } else { reply }
    })
}

fn on_weights(change: impl Fn(Reply) -> Reply + Send + 'static) -> Hub {
    on(SHARD, move |request, reply| match request.path.starts_with("/org") {
        true => change(reply),
        false => reply,
    })
}

#[test]
fn refusals_are_final() {
    let hub = Hub::new();
    hub.edit(|state| state.gated = true);
    let error = fails("gated, no token", &hub, ErrorKind::Refused, 1);
    assert!(error.hint().unwrap().contains("set HF_TOKEN to a token"), "{error:?}");
    let hub = Hub { token: Some("hf_wrong".to_owned()), ..Hub::new() };
    hub.edit(|state| state.gated = true);
    let error = fails("gated, wrong token", &hub, ErrorKind::Refused, 2);
    assert!(error.hint().unwrap().contains("to another one"), "{error:?}");
    assert!(!format!("{error:?}").contains("hf_wrong"));
    let hub = Hub::with(|_, _| {
        Reply::new(403, "").with("X-Error-Message", &format!("Ask\tus {}", "x".repeat(1000)))
    });
    let error = fails("403", &hub, ErrorKind::Refused, 1);
    let told = &error.causes()[0];
    assert!(told.contains("the hub says: Ask us") && told.len() < 300, "{error:?}");
    // It knows the token, and says it: in a message, cut or not, and in an address.
    let with_token = |hub: Hub| Hub { token: Some(common::TOKEN.to_owned()), ..hub };
    for shift in [0, 184, 190, 197] {
        let hub = with_token(Hub::with(move |request, _| match request.token.is_empty() {
            true => Reply::new(401, ""),
            false => Reply::new(403, "")
                .with("X-Error-Message", &format!("{}{}", "x".repeat(shift), request.token)),
        }));
        let error = fails("the token in a message", &hub, ErrorKind::Refused, 2);
        assert!(error.causes()[0].contains("the hub says"), "{error:?}");
        assert!(!format!("{error:?}").contains("hf_"), "{error:?}");
    }
    let hub = with_token(Hub::with(|request, _| match request.token.is_empty() {
        true => Reply::new(401, ""),
        false => Reply::to(&format!("/x/{}/y", common::TOKEN)),
    }));
    let error = fails("the token in an address", &hub, ErrorKind::Answer, 9);
    assert!(!format!("{error:?}").contains("hf_"), "{error:?}");
    let hub = on(SHARD, |_, _| Reply::new(403, ""));
    fails("403 for the weights", &hub, ErrorKind::Refused, 10);
}

#[test]
fn what_is_not_there_is_said_at_once() {
    let hub = Hub::with(|_, _| Reply::new(404, ""));
    let error = fails("404", &hub, ErrorKind::NotFound, 2);
    assert!(error.causes()[0].contains("has no model `org/tiny`"), "{error:?}");
    let hub = Hub::with(|_, _| Reply::new(401, "").with("X-Error-Code", "RepoNotFound"));
    fails("no such model", &hub, ErrorKind::NotFound, 1);
    let hub = Hub::with(|_, _| Reply::new(404, "").with("X-Error-Code", "RevisionNotFound"));
    fails("no such revision", &hub, ErrorKind::NotFound, 1);
    let hub = Hub::new();
    hub.edit(|state| drop(state.files.remove("config.json")));
    let error = fails("no config.json", &hub, ErrorKind::Failed, 2);
    assert!(error.message().contains("no config.json"), "{error:?}");
    let hub = Hub::new();
    hub.edit(|state| state.files.retain(|name, _| !name.contains("safetensors")));
    let error = fails("no weights", &hub, ErrorKind::Failed, 2);
    assert!(error.message().contains("no safetensors"), "{error:?}");
    let hub = Hub::new();
    hub.edit(|state| drop(state.files.remove(INDEX)));
    fails("no index", &hub, ErrorKind::Failed, 2);
    let hub = Hub::new();
    hub.edit(|state| drop(state.files.remove(SHARD)));
    let error = fails("no shard", &hub, ErrorKind::Failed, 3);
    assert!(error.message().contains(SHARD), "{error:?}");
    let hub = Hub::with(|_, _| Reply::new(418, ""));
    fails("418", &hub, ErrorKind::Failed, 1);
    // A file that the listing has and the hub has not.
    let hub = on(SHARD, |_, _| Reply::new(404, ""));
    fails("listed only", &hub, ErrorKind::Failed, 10);
}

#[test]
fn commits_and_tags_are_no_paths() {
    let of = |name: &'static str, value: &'static str| {
        on("config.json", move |_, reply| reply.with(name, value))
    };
    for commit in
        ["../../../outside", "ffff", "", "main", "0123456789ABCDEF0123456789ABCDEF01234567"]
    {
        fails(commit, &of("X-Repo-Commit", commit), ErrorKind::Answer, 1);
    }
    for tag in ["../../../outside", "\"../../../outside\"", "", "\"\"", "a/b", "a\\b", ".."] {
        fails(tag, &of("ETag", tag), ErrorKind::Answer, 1);
    }
    let long = on("config.json", |_, reply| reply.with("ETag", &"a".repeat(10_000)));
    fails("a long tag", &long, ErrorKind::Answer, 1);
    // The description, where files tell no commit.
    let hub = Hub::with(|request, reply| match request.path.contains("/revision/") {
        true => Reply::new(200, r#"{"sha": "../../../outside", "siblings": []}"#),
        false => reply.without("X-Repo-Commit"),
    });
    fails("a commit of dots", &hub, ErrorKind::Answer, 2);
    let hub = on_weights(|reply| reply.with("X-Repo-Commit", &"f".repeat(40)));
    fails("another commit", &hub, ErrorKind::Answer, 10);
}

#[test]
fn later_answers_must_agree_with_the_listing() {
    let hub = on_weights(|reply| reply.with("X-Linked-ETag", &"0".repeat(64)));
    fails("another hash", &hub, ErrorKind::Answer, 10);
    let hub = on_weights(|reply| reply.with("X-Linked-ETag", "../../../../outside"));
    fails("a hash of dots", &hub, ErrorKind::Answer, 10);
    let hub = on_weights(|reply| reply.with("X-Linked-Size", "5"));
    fails("another size", &hub, ErrorKind::Answer, 10);
    let hub = on_weights(|reply| reply.with("X-Linked-Size", "-5"));
    fails("a size that is none", &hub, ErrorKind::Answer, 10);
    // Without a listing, what the file's own answers say is held against its content.
    let hub = on_weights(|reply| reply.with("X-Linked-ETag", &"0".repeat(64)));
    hub.edit(|state| state.has_tree = false);
    fails("a wrong hash", &hub, ErrorKind::Damaged, 20);
    let hub = on_weights(|reply| reply.with("X-Linked-ETag", "tag"));
    hub.edit(|state| state.has_tree = false);
    fails("no hash", &hub, ErrorKind::Answer, 20);
}

#[test]
fn listings_are_checked() {
    let page = |text: String| on_tree(move |_| Reply::new(200, text.clone()));
    fails("HTML", &page("<html>Sign in</html>".to_owned()), ErrorKind::Answer, 2);
    fails("nothing", &page(String::new()), ErrorKind::Answer, 2);
    fails("deep", &page("[".repeat(90_000)), ErrorKind::Answer, 2);
    let hash =
        |oid: &str| format!(r#"[{{"type": "file", "path": "a", "oid": "{oid}", "size": 1}}]"#);
    fails("a hash of dots", &page(hash("../../../outside")), ErrorKind::Answer, 2);
    fails("a short hash", &page(hash("12")), ErrorKind::Answer, 2);
    fails("too large", &page(" ".repeat(100_001)), ErrorKind::Answer, 2);
    let endless = on_tree(|reply| reply.sent(Way::Endless));
    fails("endless", &endless, ErrorKind::Answer, 2);
    let pages = on_tree(|reply| {
        reply.with("Link", &format!("</api/models/org/tiny/tree/{COMMIT}>; rel=\"next\""))
    });
    fails("pages without end", &pages, ErrorKind::Answer, 30);
    let away = on_tree(|reply| reply.with("Link", "<http://127.0.0.2:1/x>; rel=\"next\""));
    fails("a page elsewhere", &away, ErrorKind::Answer, 2);
    // Names that lead elsewhere are not those of wanted files.
    for name in ["../../outside.safetensors", "/outside", "a\\\\..\\\\b", ".git", "a/b", "\\u0000"]
    {
        let hub = on_tree(move |reply| {
            let body = String::from_utf8(reply.body).unwrap();
            let more = entry("NAME", b"x").replace("NAME", name);
            Reply::new(200, format!("[{more}, {}", &body[1..]))
        });
        hub.get("org/tiny", Need::Weights).unwrap();
        assert!(hub.outside().is_empty());
        let names = std::fs::read_dir(hub.snapshot()).unwrap().count();
        assert_eq!(names, 7, "{name}");
    }
}

#[test]
fn indexes_name_plain_files() {
    for index in [
        r#"{"weight_map": {"a": "../../x.safetensors"}}"#,
        r#"{"weight_map": {"a": "/etc/passwd"}}"#,
        r#"{"weight_map": {"a": 1}}"#,
        r#"{"weight_map": {}}"#,
        "<html>",
    ] {
        let hub = Hub::new();
        hub.edit(|state| drop(state.files.insert(INDEX.to_owned(), index.as_bytes().to_vec())));
        fails(index, &hub, ErrorKind::Failed, 3);
    }
}

#[test]
fn bodies_are_bounded_and_not_compressed() {
    let hub = on("config.json", |_, reply| reply.with("Content-Encoding", "gzip"));
    let error = fails("gzip", &hub, ErrorKind::Answer, 1);
    assert!(error.message().contains("compressed"), "{error:?}");
    let hub = on("config.json", |_, reply| reply.with("X-Filler", &"x".repeat(60_000)));
    fails("headers", &hub, ErrorKind::Answer, 1);
    let hub = on("config.json", |_, reply| {
        let length = "Content-Length: 99999999999\r\n";
        let commit = format!("X-Repo-Commit: {COMMIT}\r\nETag: \"{}\"\r\n", git(&reply.body));
        Reply::raw(&format!("HTTP/1.1 200 OK\r\n{length}{commit}\r\n{{"))
    });
    fails("a configuration of 100 GB", &hub, ErrorKind::Answer, 1);
    for text in [
        "",
        "HTTP/9.9 hello",
        "SSH-2.0-OpenSSH\r\n",
        "HTTP/1.1 200 OK\r\nbroken\r\n\r\n",
        "\0\0\0\0",
    ] {
        let hub = Hub::with(move |_, _| Reply::raw(text));
        let error = hub.get("org/tiny", Need::Weights).unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Answer | ErrorKind::Failed), "{text}: {error:?}");
        assert!(hub.requests().len() <= 4, "{text}");
    }
    // A network that wants a login answers everything with a page.
    let hub = Hub::with(|_, _| Reply::new(200, "<html>Sign in</html>"));
    let error = fails("a login page", &hub, ErrorKind::Answer, 2);
    assert!(error.hint().unwrap().contains("the network"), "{error:?}");
}

#[test]
fn redirects_are_few_and_lead_to_web_addresses() {
    let hub = on("config.json", |request, _| Reply::to(&request.path));
    fails("a loop", &hub, ErrorKind::Answer, 6);
    for status in [301, 302, 303, 307, 308] {
        let hub = Hub::with(move |_, _| Reply::new(status, ""));
        fails("no location", &hub, ErrorKind::Answer, 1);
    }
    for place in
        ["", "http://[", "file:///etc/passwd", "ftp://127.0.0.1/", "http://", "http://127.0.0.1:x/"]
    {
        let hub = Hub::with(move |_, _| Reply::to(place));
        fails(place, &hub, ErrorKind::Answer, 1);
    }
    let hub = on("config.json", |_, _| Reply::to("http://127.0.0.1:1@127.0.0.1:2/config.json"));
    fails("an account", &hub, ErrorKind::Answer, 1);
    let hub = on_weights(|_| Reply::to("http://127.0.0.1:1/nothing-listens-here"));
    fails("a store that is away", &hub, ErrorKind::Unreachable, 10);
    let hub = Hub::with(|request, reply| match request.path.strip_prefix("/org/old/") {
        Some(rest) => Reply::new(307, "").with("Location", &format!("/org/tiny/{rest}")),
        None => reply,
    });
    hub.get("org/old", Need::Config).unwrap();
}

#[test]
fn contents_are_what_the_hub_says() {
    let hub = on("config.json", |_, reply| Reply {
        body: b"{\"model_type\": \"qwen3\"}".to_vec(),
        ..reply
    });
    let error = fails("a small file", &hub, ErrorKind::Damaged, 1);
    assert!(error.message().contains("git SHA-1"), "{error:?}");
    assert!(!hub.snapshot().exists());
    let hub = on("tokenizer.json", |_, reply| Reply { body: b"[]".to_vec(), ..reply });
    fails("another small file", &hub, ErrorKind::Damaged, 6);
    assert!(!hub.snapshot().join("tokenizer.json").exists());
    let hub = on_store(|_, mut reply| {
        reply.body[200_000] ^= 1;
        reply
    });
    let error = fails("the weights", &hub, ErrorKind::Damaged, 10);
    assert!(error.message().contains("SHA-256"), "{error:?}");
    assert!(!hub.folder().join("blobs").join(sha256(&hub.file(SHARD))).exists());
    assert_eq!(hub.part().metadata().unwrap().len(), 0);
}

#[test]
fn sizes_are_what_the_hub_says() {
    let longer = |length: bool| {
        on_store(move |_, mut reply| {
            reply.body.extend([0; 100]);
            if length { reply } else { reply.without_length() }
        })
    };
    fails("longer, and said", &longer(true), ErrorKind::Damaged, 10);
    fails("longer", &longer(false), ErrorKind::Damaged, 10);
    fails("without end", &on_store(|_, reply| reply.sent(Way::Endless)), ErrorKind::Damaged, 10);
    let shorter = on_store(|_, mut reply| {
        reply.body.truncate(10);
        reply
    });
    fails("shorter, and said", &shorter, ErrorKind::Damaged, 10);
    let cut = on_store(|_, reply| reply.sent(Way::Cut(0)));
    fails("cut off always", &cut, ErrorKind::Failed, 14);
    let part = on_store(|_, reply| {
        Reply { status: 206, ..reply }.with("Content-Range", "bytes 5-9/300000")
    });
    fails("a part that was not asked for", &part, ErrorKind::Answer, 10);
    let hub = on_store(|request, reply| match request.range.is_empty() {
        true => reply,
        false => reply.with("Content-Range", "bytes 5-9/300000"),
    });
    std::fs::write(hub.part(), &hub.file(SHARD)[..1000]).unwrap();
    fails("another part", &hub, ErrorKind::Answer, 10);
    let hub = on_store(|_, _| Reply::new(416, ""));
    std::fs::write(hub.part(), &hub.file(SHARD)[..1000]).unwrap();
    fails("no part", &hub, ErrorKind::Failed, 10);
}

#[test]
fn what_can_pass_is_tried_again_a_few_times() {
    for status in [500, 502, 503, 504, 408, 429] {
        let hub = Hub::with(move |_, _| Reply::new(status, "").with("Retry-After", "86400"));
        fails("always", &hub, ErrorKind::Failed, 4);
        assert_eq!(hub.requests().len(), 4);
        let mut left = 2;
        let hub = Hub::with(move |request, reply| {
            if request.is_tree() && left > 0 {
                left -= 1;
                return Reply::new(status, "").with("Retry-After", "0");
            }
            reply
        });
        hub.get("org/tiny", Need::Weights).unwrap();
    }
    let mut first = true;
    let hub = Hub::with(
        move |_, reply| {
            if std::mem::replace(&mut first, false) { Reply::raw("") } else { reply }
        },
    );
    hub.get("org/tiny", Need::Config).unwrap();
}

#[test]
fn who_says_nothing_or_drips_is_given_up() {
    let started = Instant::now();
    let silent = |way: Way| Hub::with(move |_, reply| reply.sent(way.clone())).impatient();
    fails("silent", &silent(Way::Silent), ErrorKind::Failed, 1);
    fails("dripping headers", &silent(Way::Drip), ErrorKind::Failed, 1);
    let hub = on_tree(|reply| reply.sent(Way::DripBody)).impatient();
    fails("a dripping listing", &hub, ErrorKind::Failed, 2);
    let hub = on_store(|_, reply| reply.sent(Way::DripBody)).impatient();
    let error = fails("dripping weights", &hub, ErrorKind::Failed, 10);
    assert!(error.message().contains("bytes a second"), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(60), "a watchdog");
    // A connection that was good stands still once, and is gone on with.
    let mut first = true;
    let hub = Hub::with(move |request, reply| {
        let large = request.path == format!("/cdn/{SHARD}");
        if large && std::mem::replace(&mut first, false) {
            let body = reply.body.clone();
            let half = Reply { body: body[..150_000].to_vec(), ..reply };
            // The length is that of the whole, so the client waits for the rest.
            let half = half.without_length().with("Content-Length", &body.len().to_string());
            return half.sent(Way::Whole);
        }
        reply
    });
    hub.get("org/tiny", Need::Weights).unwrap();
}

#[test]
fn nobody_is_there() {
    let hub = Hub::new();
    // A port that nothing listens on.
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let hub = Hub { address: closed.to_string(), ..hub };
    let error = fails("closed", &hub, ErrorKind::Unreachable, 0);
    assert!(error.at().unwrap().contains(&closed.to_string()), "{error:?}");
    assert!(error.hint().unwrap().contains("HF_ENDPOINT"), "{error:?}");
    let hub = Hub { address: "no-such-host.invalid".to_owned(), ..Hub::new() };
    fails("no such host", &hub, ErrorKind::Unreachable, 0);
}

/// Ends a download as soon as something came.
struct Hasty(std::sync::atomic::AtomicBool);

impl Watch for Hasty {
    fn tell(&self, progress: &Progress<'_>) {
        if matches!(progress, Progress::Bytes { .. }) {
            self.0.store(true, std::sync::atomic::Ordering::SeqCst);
        }
    }

    fn goes_on(&self) -> bool {
        !self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

#[test]
fn who_watches_can_end_it() {
    let hub = on_store(|_, reply| reply.sent(Way::DripBody));
    let started = Instant::now();
    let watch = Hasty(false.into());
    let error = hub.watched("org/tiny", Need::Weights, &watch).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(10), "a watchdog");
}

#[test]
fn a_full_disk_is_noticed_first() {
    let hub = Hub::new();
    let limits = Limits { free_space: |_| Some(1000), ..hub.limits.clone() };
    let hub = Hub { limits, ..hub };
    let error = fails("full", &hub, ErrorKind::Cache, 3);
    assert!(error.message().contains("300 kB are still"), "{error:?}");
    assert!(!hub.requests().iter().any(|request| request.path.contains("/cdn/")));
}

#[test]
fn a_cache_that_cannot_be_written_is_said() {
    let hub = Hub::new();
    std::fs::write(hub.cache(), "a file").unwrap();
    let error = hub.get("org/tiny", Need::Weights).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache);
    assert!(error.hint().unwrap().contains("HF_HUB_CACHE"), "{error:?}");
    let hub = Hub::new();
    std::fs::create_dir_all(hub.part()).unwrap();
    let error = hub.get("org/tiny", Need::Weights).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cache);
}

#[cfg(unix)]
mod links {
    use super::*;
    use std::fs::{create_dir_all, read, write};
    use std::os::unix::fs::symlink;

    /// Something that a link in the cache leads to.
    fn target(hub: &Hub) -> std::path::PathBuf {
        let path = hub.root.path().join("target");
        write(&path, "precious").unwrap();
        path
    }

    #[track_caller]
    fn refused(hub: &Hub, link: &Path) {
        let error = hub.get("org/tiny", Need::Weights).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cache, "{error:?}");
        assert!(error.message().contains("a symbolic link"), "{error:?}");
        assert_eq!(error.at().unwrap(), link.display().to_string());
        let left = hub.outside();
        for path in left {
            match path.is_dir() {
                true => assert_eq!(std::fs::read_dir(&path).unwrap().count(), 0, "{path:?}"),
                false => assert_eq!(read(&path).unwrap(), b"precious"),
            }
        }
    }

    #[test]
    fn a_part_or_lock_that_is_a_link_is_not_followed() {
        let hub = Hub::new();
        symlink(target(&hub), hub.part()).unwrap();
        refused(&hub, &hub.part());
        let hub = Hub::new();
        let locks = hub.cache().join(".locks/models--org--tiny");
        create_dir_all(&locks).unwrap();
        let lock = locks.join(format!("{}.lock", git(&hub.file("config.json"))));
        symlink(target(&hub), &lock).unwrap();
        refused(&hub, &lock);
        // A link to nothing is not followed either: nothing comes to be there.
        let hub = Hub::new();
        symlink(hub.root.path().join("absent"), hub.part()).unwrap();
        refused(&hub, &hub.part());
    }

    #[test]
    fn a_folder_that_is_a_link_is_not_followed() {
        for folder in [
            "models--org--tiny",
            "models--org--tiny/blobs",
            "models--org--tiny/refs",
            "models--org--tiny/snapshots",
            &format!("models--org--tiny/snapshots/{COMMIT}"),
            ".locks",
            ".locks/models--org--tiny",
        ] {
            let hub = Hub::new();
            let link = hub.cache().join(folder);
            create_dir_all(link.parent().unwrap()).unwrap();
            let elsewhere = hub.root.path().join("elsewhere");
            create_dir_all(&elsewhere).unwrap();
            symlink(&elsewhere, &link).unwrap();
            refused(&hub, &link);
        }
    }

    #[test]
    fn links_where_files_are_made_anew_are_replaced() {
        // The cache itself may be a link; so many have it on another disk.
        let hub = Hub::new();
        let elsewhere = hub.root.path().join("elsewhere");
        create_dir_all(&elsewhere).unwrap();
        symlink(&elsewhere, hub.cache()).unwrap();
        hub.get("org/tiny", Need::Weights).unwrap();
        // Contents, a ref and a file of a snapshot are renamed into place.
        let hub = Hub::new();
        let target = target(&hub);
        let digest = sha256(&hub.file(SHARD));
        create_dir_all(hub.folder().join("refs")).unwrap();
        create_dir_all(hub.folder().join("blobs")).unwrap();
        create_dir_all(hub.snapshot()).unwrap();
        symlink(&target, hub.folder().join("blobs").join(digest)).unwrap();
        symlink(&target, hub.folder().join("refs/main")).unwrap();
        symlink(&target, hub.snapshot().join("tokenizer.json")).unwrap();
        let path = hub.get("org/tiny", Need::Weights).unwrap();
        assert_eq!(read(path.join(SHARD)).unwrap(), hub.file(SHARD));
        assert_eq!(read(path.join("tokenizer.json")).unwrap(), b"{}");
        assert_eq!(read(&target).unwrap(), b"precious");
    }

    #[test]
    fn a_part_with_another_name_is_left_alone() {
        let hub = Hub::new();
        let target = target(&hub);
        std::fs::hard_link(&target, hub.part()).unwrap();
        hub.get("org/tiny", Need::Weights).unwrap();
        assert_eq!(read(&target).unwrap(), b"precious");
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let hub = Hub::new();
        let made = std::process::Command::new("mkfifo").arg(hub.part()).status().unwrap();
        assert!(made.success());
        let error = hub.get("org/tiny", Need::Weights).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cache);
    }

    #[test]
    fn a_lock_that_is_never_given_back_is_said() {
        let hub = Hub::new();
        let limits = Limits { lock: Duration::from_millis(200), ..hub.limits.clone() };
        let hub = Hub { limits, ..hub };
        let locks = hub.cache().join(".locks/models--org--tiny");
        create_dir_all(&locks).unwrap();
        let path = locks.join(format!("{}.lock", git(&hub.file("config.json"))));
        let lock = std::fs::File::create(&path).unwrap();
        lock.lock().unwrap();
        let error = fails("locked", &hub, ErrorKind::Failed, 1);
        assert!(error.causes()[0].contains("is locked"), "{error:?}");
    }
}
