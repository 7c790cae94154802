//! Runs into one output directory: killed, refused, failing at any call of the system.

mod forged;

use crate::*;
use anemll_codes as codes;
use anemll_plugin_api::Result;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

const REPORT: &str = "report.json";

fn identity(context: u64) -> Identity {
    Identity::new("source".to_owned(), json!({ "context": context }), Value::Null)
}

fn request<'a>(directory: &'a Path, identity: &'a Identity) -> Request<'a> {
    Request { directory, identity, force: false, model: None }
}

fn open(directory: &Path) -> Store {
    Store::open(&request(directory, &identity(512))).unwrap()
}

fn refused(request: &Request<'_>) -> anemll_plugin_api::Error {
    match Store::open(request) {
        Ok(_) => panic!("it must be refused"),
        Err(error) => error,
    }
}

fn record(number: u32) -> StepRecord {
    StepRecord {
        findings: serde_json::Value::Null,
        number,
        outputs: BTreeMap::new(),
        packages: Value::Null,
        by: String::new(),
        inputs: String::new(),
        done: true,
        message: String::new(),
    }
}

/// Does a step whose outputs have these names: packages are folders with two files.
fn step(store: &mut Store, number: u32, names: &[&str], text: &str) -> Result<()> {
    store.begin(number)?;
    for name in names {
        if name.ends_with(".mlpackage") {
            store.write(&Path::new(name).join("Manifest.json"), text.as_bytes())?;
            store.write(&Path::new(name).join("Data/weight.bin"), text.as_bytes())?;
        } else {
            store.write(Path::new(name), text.as_bytes())?;
        }
    }
    let outputs: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
    store.finish_step(record(number), &outputs)
}

fn publish(store: &mut Store) -> Result<()> {
    let report = Path::new(REPORT);
    store.write(report, b"{}")?;
    store.publish(report)
}

/// A whole conversion of two steps; gives its warnings.
fn convert(
    disk: Arc<dyn Disk>,
    request: &Request<'_>,
    outputs: [&[&str]; 2],
) -> Result<Vec<String>> {
    let mut store = Store::open_on(disk, request)?;
    let text = format!("{:?}", request.identity);
    for (number, names) in (1..).zip(outputs) {
        if store.view().finished(number).is_none() {
            step(&mut store, number, names, &text)?;
        }
    }
    publish(&mut store)?;
    Ok(store.close())
}

fn system() -> Arc<dyn Disk> {
    Failing::new(&[], 0, 0)
}

/// As if the process had been killed: nothing is cleaned up, and the lock is gone.
fn kill(mut store: Store) {
    store.keep();
}

/// Every file of a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut rest = vec![folder.to_owned()];
    while let Some(path) = rest.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            if path.symlink_metadata().unwrap().is_dir() {
                rest.push(path);
            } else {
                found.insert(
                    path.strip_prefix(folder).unwrap().to_owned(),
                    fs::read(&path).unwrap(),
                );
            }
        }
    }
    found
}

/// The files of the conversion itself, without what is being worked on.
fn published(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = files(folder);
    files.retain(|path, _| {
        let own = path.strip_prefix(OWN).ok().and_then(|path| path.iter().next());
        own.and_then(|name| name.to_str()).is_none_or(|name| {
            name != "lock"
                && name != "journal.json"
                && !name.starts_with("staging-")
                && !name.ends_with(".new")
        })
    });
    files
}

#[test]
fn a_killed_run_goes_on_from_its_finished_steps() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = open(folder.path());
    step(&mut first, 1, &["one.json"], "1").unwrap();
    fs::write(first.place(Path::new("half")).unwrap(), "h").unwrap();
    kill(first);
    let mut second = open(folder.path());
    assert!(second.view().finished(1).is_some() && second.view().finished(2).is_none());
    assert!(!second.view().staging().join("half").exists(), "what was half made is gone");
    step(&mut second, 2, &["two.mlpackage"], "2").unwrap();
    publish(&mut second).unwrap();
    assert_eq!(second.close(), [""; 0]);
    assert_eq!(fs::read_to_string(folder.path().join("one.json")).unwrap(), "1");
    assert!(folder.path().join(REPORT).exists());
    let own: Vec<_> = fs::read_dir(folder.path().join(OWN)).unwrap().collect();
    assert_eq!(own.len(), 1, "only the record stays: {own:?}");
    let third = open(folder.path());
    assert!(third.view().finished(1).is_some() && third.view().finished(2).is_some());
}

#[test]
fn an_output_that_changed_is_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    step(&mut store, 1, &["one.json"], "one").unwrap();
    publish(&mut store).unwrap();
    drop(store);
    let path = folder.path().join("one.json");
    fs::write(&path, "eno").unwrap();
    assert!(open(folder.path()).view().finished(1).is_none(), "equal size, other bytes");
    fs::remove_file(&path).unwrap();
    assert!(open(folder.path()).view().finished(1).is_none());
}

#[test]
fn an_error_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(&folder.path().join("new/output"));
    step(&mut store, 1, &["one.json"], "1").unwrap();
    drop(store);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn two_runs_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let identity = identity(512);
    let error = refused(&Request { force: true, ..request(folder.path(), &identity) });
    assert_eq!(error.code, codes::OUTPUT_EXISTS);
    assert!(first.view().staging().is_dir(), "the refused run touched nothing");
}

#[test]
fn another_conversion_is_replaced_only_when_asked_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (old, new) = (identity(512), identity(1024));
    convert(system(), &request(folder.path(), &old), [&["one.json"], &["of_512.json"]]).unwrap();
    let asked = request(folder.path(), &new);
    for error in [refused(&asked), View::look(&asked).unwrap_err()] {
        assert_eq!(error.code, codes::OUTPUT_EXISTS);
        assert!(error.message.contains("context 512 there, 1024 now"), "{}", error.message);
    }
    let mut store = Store::open(&Request { force: true, ..asked }).unwrap();
    assert!(store.view().finished(1).is_none());
    step(&mut store, 1, &["one.json"], "1").unwrap();
    step(&mut store, 2, &["of_1024.json"], "2").unwrap();
    assert!(folder.path().join("of_512.json").exists(), "until the new one is complete");
    publish(&mut store).unwrap();
    drop(store);
    assert!(folder.path().join("of_1024.json").exists());
    assert!(!folder.path().join("of_512.json").exists(), "nothing of the old one stays");
}

#[test]
fn what_changed_since_it_was_made_is_not_removed_unasked() {
    let folder = tempfile::tempdir().unwrap();
    let (old, identity) = (folder.path().join("old.json"), identity(512));
    let asked = request(folder.path(), &identity);
    convert(system(), &asked, [&["one.json"], &["old.json"]]).unwrap();
    fs::write(&old, "mine").unwrap();
    let warnings = convert(system(), &asked, [&["one.json"], &["two.json"]]).unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("old.json") && warnings[0].contains("left alone"), "{warnings:?}");
    assert_eq!(fs::read_to_string(&old).unwrap(), "mine");
}

/// A disk on which calls fail, from one on. It does not wait for the real one, so that thousands
/// of runs are quick.
#[derive(Debug)]
struct Failing {
    /// Changes so far.
    calls: AtomicU32,
    /// The first that fails.
    first: u32,
    /// How many fail.
    count: u32,
    /// Which calls count.
    kinds: &'static [&'static str],
}

const CHANGES: &[&str] = &[
    "rename",
    "create_folder",
    "remove_file",
    "remove_folder",
    "link",
    "write_new",
    "sync",
    "list",
];

/// Those that change what is on disk.
const SEEN: &[&str] = &["rename", "create_folder", "remove_file", "remove_folder", "write_new"];

impl Failing {
    fn new(kinds: &'static [&'static str], first: u32, count: u32) -> Arc<Self> {
        Arc::new(Self { calls: AtomicU32::new(0), first, count, kinds })
    }

    fn call(&self, kind: &str) -> io::Result<()> {
        if !self.kinds.contains(&kind) {
            return Ok(());
        }
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        if (self.first..self.first.saturating_add(self.count)).contains(&call) {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        Ok(())
    }

    fn has_failed(&self) -> bool {
        self.calls.load(Ordering::Relaxed) > self.first
    }
}

impl Disk for Failing {
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("rename")?;
        System.rename(from, to)
    }
    fn create_folder(&self, path: &Path) -> io::Result<()> {
        self.call("create_folder")?;
        System.create_folder(path)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call("remove_file")?;
        System.remove_file(path)
    }
    fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.call("remove_folder")?;
        System.remove_folder(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.call("list")?;
        System.list(path)
    }
    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call("link")?;
        System.link(from, to)
    }
    fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.call("write_new")?;
        use std::io::Write as _;
        fs::File::create_new(path)?.write_all(bytes)
    }
    fn sync(&self, _path: &Path) -> io::Result<()> {
        self.call("sync")
    }
}

const OLD: [&[&str]; 2] =
    [&["a.mlpackage", "b.mlpackage"], &["tokenizer.json", "added_tokens.json"]];
const NEW: [&[&str]; 2] = [&["a.mlpackage", ".anemll/evaluate/c.mlpackage"], &["tokenizer.json"]];

/// Lets a run fail at every call. After a single failure the directory has the old conversion or
/// the new one, whole; after a kill, or a disk that fails for good, the next run sees to that,
/// whichever conversion it is.
fn fail_everywhere(first: Option<(u64, [&[&str]; 2])>, force: bool) {
    let new_identity = identity(1024);
    let prepare = |folder: &Path| {
        if let Some((context, outputs)) = first {
            let old = identity(context);
            convert(system(), &request(folder, &old), outputs).unwrap();
        }
        fs::write(folder.join("mine.txt"), "not of a conversion").unwrap();
    };
    let run = |folder: &Path, disk: Arc<dyn Disk>, force| {
        convert(disk, &Request { force, ..request(folder, &new_identity) }, NEW)
    };
    let whole = tempfile::tempdir().unwrap();
    prepare(whole.path());
    let old = published(whole.path());
    assert_eq!(run(whole.path(), system(), force).unwrap(), [""; 0]);
    let new = published(whole.path());
    assert_ne!(old, new);
    let mut ends = [0, 0];
    for call in 0.. {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        prepare(folder);
        let disk = Failing::new(CHANGES, call, 1);
        let result = run(folder, disk.clone(), force);
        let (there, failed) = (published(folder), disk.has_failed());
        match result {
            Ok(_) => assert!(there == new, "call {call}: not the new one, whole"),
            Err(error) => {
                assert!(there == old, "call {call}: not the old one, whole: {error}");
                assert_eq!(error.code, codes::OUTPUT_UNWRITABLE, "call {call}: {error}");
            }
        }
        ends[usize::from(there == new)] += 1;
        assert_eq!(run(folder, system(), force).unwrap(), [""; 0], "call {call}");
        assert!(files(folder) == new, "call {call}: the next run completes it, and cleans up");
        if !failed {
            break;
        }
    }
    // A disk that is gone, or a process that is killed, before any change that can be seen.
    for next_is_new in [true, false] {
        for call in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let folder = folder.path();
            prepare(folder);
            let disk = Failing::new(SEEN, call, u32::MAX);
            let _ = run(folder, disk.clone(), force);
            if !disk.has_failed() {
                break;
            }
            if next_is_new {
                run(folder, system(), force).unwrap();
                assert!(files(folder) == new, "killed at {call}: the next run completes it");
            } else {
                // A run that is then refused, or not, sets things right all the same.
                let other = identity(77);
                drop(Store::open(&request(folder, &other)));
                let there = published(folder);
                assert!(there == old || there == new, "killed at {call}: mixed");
            }
        }
    }
    assert!(ends[0] > 20 && ends[1] > 5, "{ends:?}");
}

#[test]
fn a_first_conversion_is_there_whole_or_not_at_all_whatever_call_fails() {
    fail_everywhere(None, false);
}

#[test]
fn a_replaced_conversion_comes_back_whatever_call_fails() {
    fail_everywhere(Some((512, OLD)), true);
}

/// As after an update of the program or a plugin, when nothing has to be forced.
#[test]
fn an_updated_conversion_comes_back_whatever_call_fails() {
    fail_everywhere(Some((1024, OLD)), true);
}

#[test]
fn what_cannot_be_removed_is_told_and_removed_by_the_next_run() {
    let identity = identity(512);
    for kinds in [&["remove_file"][..], &["remove_folder"], &["list"]] {
        let mut told = 0;
        for call in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let asked = request(folder.path(), &identity);
            let disk = Failing::new(kinds, call, 1);
            let result = convert(disk.clone(), &asked, OLD);
            if !disk.has_failed() {
                break;
            }
            let Ok(warnings) = result else { continue };
            let staging = |path: &Path| {
                let own = fs::read_dir(path.join(OWN)).unwrap();
                own.filter(|entry| entry.as_ref().unwrap().file_name() != "conversion.json").count()
            };
            if staging(folder.path()) > 0 {
                assert_eq!(warnings.len(), 1, "{kinds:?} {call}: {warnings:?}");
                assert!(warnings[0].contains(OWN) && warnings[0].contains("cannot be removed"));
                told += 1;
            }
            assert_eq!(convert(system(), &asked, OLD).unwrap(), [""; 0]);
            assert_eq!(staging(folder.path()), 0);
        }
        assert!(told > 0, "{kinds:?}");
    }
}

#[test]
fn files_are_copied_where_links_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity(512);
    let asked = request(folder.path(), &identity);
    convert(system(), &asked, OLD).unwrap();
    let mut all = Vec::new();
    for disk in [system(), Failing::new(&["link"], 0, u32::MAX)] {
        let store = Store::open_on(disk, &asked).unwrap();
        store.gather(Path::new("a.mlpackage")).unwrap();
        all.push(files(&store.view().staging().join("a.mlpackage")));
    }
    assert_eq!(all[0].len(), 2);
    assert_eq!(all[0], all[1]);
}

#[test]
fn foreign_files_are_replaced_only_by_force() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity(512);
    let asked = request(folder.path(), &identity);
    fs::write(folder.path().join("tokenizer.json"), "mine").unwrap();
    let store = Store::open(&asked).unwrap();
    let error = store.refuse_foreign(&["tokenizer.json".into(), "a.mlpackage".into()]).unwrap_err();
    assert_eq!(error.code, codes::OUTPUT_NOT_OURS);
    assert!(error.message.contains("tokenizer.json") && !error.message.contains("a.mlpackage"));
    store.refuse_foreign(&["a.mlpackage".into()]).unwrap();
    drop(store);
    let error = convert(system(), &asked, OLD).unwrap_err();
    assert_eq!(error.code, codes::OUTPUT_NOT_OURS);
    let there = published(folder.path());
    assert_eq!(there.len(), 1);
    assert_eq!(there[Path::new("tokenizer.json")], b"mine");
    convert(system(), &Request { force: true, ..asked }, OLD).unwrap();
    assert_ne!(fs::read(folder.path().join("tokenizer.json")).unwrap(), b"mine");
}

#[test]
fn outputs_of_a_step_that_was_done_are_ours_whatever_its_record_lists() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity(512);
    let asked = request(folder.path(), &identity);
    convert(system(), &asked, [&["one.json"], &["two.json"]]).unwrap();
    edit(folder.path(), "two.json", "three.json");
    let outputs = ["two.json".into()];
    let mut store = Store::open(&asked).unwrap();
    assert_eq!(store.refuse_foreign(&outputs).unwrap_err().code, codes::OUTPUT_NOT_OURS);
    store.adopt(3, &outputs).unwrap();
    assert!(store.refuse_foreign(&outputs).is_err(), "no step 3 was done");
    store.adopt(2, &outputs).unwrap();
    store.refuse_foreign(&outputs).unwrap();
}

#[test]
fn the_model_is_never_touched() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    fs::create_dir_all(model.join("sub")).unwrap();
    fs::write(model.join("tokenizer.json"), "model").unwrap();
    fs::write(model.join("sub/tokenizer.json"), "model").unwrap();
    let before = files(&model);
    let identity = identity(512);
    let forced =
        |directory| Request { directory, identity: &identity, force: true, model: Some(&model) };
    let (dotted, sub, new) = (model.join("sub/.."), model.join("sub"), model.join("sub/out"));
    for output in [&model, &dotted] {
        assert_eq!(refused(&forced(output)).code, codes::OUTPUT_IS_MODEL);
    }
    // Below the model's directory: a new folder will do, one with files of the model will not.
    let error = convert(system(), &forced(&sub), OLD).unwrap_err();
    assert_eq!(error.code, codes::OUTPUT_IS_MODEL);
    convert(system(), &forced(&new), OLD).unwrap();
    convert(system(), &forced(&new), NEW).unwrap();
    fs::remove_dir_all(&new).unwrap();
    // Around it: only names of outputs are ever replaced, and the model's has none.
    convert(system(), &forced(folder.path()), OLD).unwrap();
    let inside = folder.path().join("b.mlpackage");
    fs::remove_dir_all(&inside).unwrap();
    fs::rename(&model, &inside).unwrap();
    let error = convert(system(), &Request { model: Some(&inside), ..forced(folder.path()) }, OLD);
    assert_eq!(error.unwrap_err().code, codes::OUTPUT_IS_MODEL);
    let mut after = files(&inside);
    // What the refused runs made waits beside it.
    after.retain(|path, _| !path.iter().any(|part| part == OWN));
    assert_eq!(after, before);
}

#[cfg(unix)]
#[test]
fn the_model_is_known_through_links() {
    let folder = tempfile::tempdir().unwrap();
    let (model, link) = (folder.path().join("model"), folder.path().join("link"));
    fs::create_dir(&model).unwrap();
    fs::write(model.join("tokenizer.json"), "model").unwrap();
    std::os::unix::fs::symlink(&model, &link).unwrap();
    let identity = identity(512);
    let request = |directory, model| Request { directory, identity: &identity, force: true, model };
    assert_eq!(refused(&request(&link, Some(&model))).code, codes::OUTPUT_IS_MODEL);
    assert_eq!(refused(&request(&model, Some(&link))).code, codes::OUTPUT_IS_MODEL);
    // A model whose files are links into the output directory, as in a cache.
    let (output, linked) = (folder.path().join("output"), folder.path().join("linked"));
    fs::create_dir(&output).unwrap();
    fs::create_dir(&linked).unwrap();
    fs::write(output.join("tokenizer.json"), "model").unwrap();
    std::os::unix::fs::symlink(output.join("tokenizer.json"), linked.join("tokenizer.json"))
        .unwrap();
    let error = convert(system(), &request(&output, Some(&linked)), OLD).unwrap_err();
    assert_eq!(error.code, codes::OUTPUT_IS_MODEL);
    assert_eq!(fs::read_to_string(linked.join("tokenizer.json")).unwrap(), "model");
}

/// Writes a text into the record of a conversion, in place of another.
fn edit(directory: &Path, old: &str, new: &str) {
    let path = directory.join(OWN).join("conversion.json");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(old), "{text}");
    fs::write(&path, text.replace(old, new)).unwrap();
}

#[test]
fn records_reach_nothing_outside() {
    let identities = [identity(512), identity(1024)];
    for name in ["../victim.json", "a/../../victim.json", "sub/x.json", "model.safetensors"] {
        for absolute in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let victim = folder.path().join("victim.json");
            let output = folder.path().join("output");
            convert(system(), &request(&output, &identities[0]), OLD).unwrap();
            fs::write(&victim, "text").unwrap();
            fs::write(output.join("model.safetensors"), "text").unwrap();
            let name = if absolute { victim.to_str().unwrap() } else { name };
            edit(&output, "added_tokens.json", name);
            for identity in &identities {
                let error = refused(&request(&output, identity));
                assert_eq!(error.code, codes::OUTPUT_RECORD_INVALID, "{name}: {error}");
                assert!(error.message.contains("cannot be the name of an output"), "{error}");
                let _ = convert(system(), &request(&output, identity), NEW);
            }
            convert(system(), &Request { force: true, ..request(&output, &identities[1]) }, NEW)
                .unwrap();
            assert_eq!(fs::read_to_string(&victim).unwrap(), "text");
            assert!(output.join("model.safetensors").exists());
        }
    }
}

#[test]
fn the_list_of_replaced_outputs_of_older_records_reaches_nothing_outside() {
    let folder = tempfile::tempdir().unwrap();
    let (output, victim) = (folder.path().join("output"), folder.path().join("victim.json"));
    let identity = identity(512);
    let asked = request(&output, &identity);
    convert(system(), &asked, OLD).unwrap();
    fs::write(&victim, "text").unwrap();
    edit(&output, "\"steps\":", "\"replaced\": [\"../victim.json\"], \"steps\":");
    assert_eq!(refused(&asked).code, codes::OUTPUT_RECORD_INVALID);
    edit(&output, "../victim.json", "mine.json");
    fs::write(output.join("mine.json"), "text").unwrap();
    let warnings = convert(system(), &asked, OLD).unwrap();
    assert!(warnings[0].contains("mine.json"), "{warnings:?}");
    assert!(victim.exists() && output.join("mine.json").exists());
}

#[cfg(unix)]
#[test]
fn links_in_place_of_our_folders_are_refused_and_nothing_behind_them_is_touched() {
    use std::os::unix::fs::symlink;
    let identity = identity(512);
    let staging = format!("staging-{}", identity.key());
    let names = ["", "evaluate", "weights", &staging, &format!("{staging}/.steps"), "lock"];
    for name in names {
        for force in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let (output, behind) = (folder.path().join("output"), folder.path().join("behind"));
            fs::create_dir_all(behind.join("sub")).unwrap();
            fs::write(behind.join("text"), "text").unwrap();
            fs::write(behind.join("staging-0"), "text").unwrap();
            let link = if name.is_empty() { output.join(OWN) } else { output.join(OWN).join(name) };
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            let target = if name == "lock" { behind.join("text") } else { behind.clone() };
            symlink(&target, &link).unwrap();
            let before = files(&behind);
            let asked = Request { force, ..request(&output, &identity) };
            let code = refused(&asked).code;
            let right = if name == "lock" { codes::OUTPUT_UNWRITABLE } else { codes::OUTPUT_LINK };
            assert_eq!(code, right, "{name}");
            assert_eq!(files(&behind), before, "{name}");
        }
    }
    // Another staging folder that is a link goes, and what it leads to stays.
    let folder = tempfile::tempdir().unwrap();
    let (output, behind) = (folder.path().join("output"), folder.path().join("behind"));
    fs::create_dir_all(output.join(OWN)).unwrap();
    fs::create_dir_all(behind.join("sub")).unwrap();
    symlink(&behind, output.join(".anemll/staging-0123")).unwrap();
    convert(system(), &request(&output, &identity), OLD).unwrap();
    assert!(!output.join(".anemll/staging-0123").is_symlink());
    assert!(behind.join("sub").exists());
}

#[cfg(unix)]
#[test]
fn records_that_are_no_small_files_are_refused_at_once() {
    let identity = identity(512);
    type Make = fn(&Path);
    let make: [(&str, Make); 4] = [
        ("a pipe", |path| {
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        }),
        ("too large", |path| fs::File::create(path).unwrap().set_len(1 << 36).unwrap()),
        ("a symbolic link", |path| std::os::unix::fs::symlink("/dev/zero", path).unwrap()),
        ("EOF", |path| fs::write(path, "{").unwrap()),
    ];
    for (what, make) in make {
        for name in ["conversion.json", "journal.json"] {
            let folder = tempfile::tempdir().unwrap();
            let asked = request(folder.path(), &identity);
            convert(system(), &asked, OLD).unwrap();
            let path = folder.path().join(OWN).join(name);
            let _ = fs::remove_file(&path);
            make(&path);
            let error = refused(&asked);
            assert_eq!(error.code, codes::OUTPUT_RECORD_INVALID, "{what}: {error}");
            assert!(error.message.contains(what), "{what}: {error}");
            convert(system(), &Request { force: true, ..asked }, OLD).unwrap();
            assert_eq!(convert(system(), &asked, OLD).unwrap(), [""; 0]);
        }
        // Of a step: it is done again.
        let folder = tempfile::tempdir().unwrap();
        let mut store = open(folder.path());
        step(&mut store, 1, &["one.json"], "1").unwrap();
        let path = store.view().staging().join(".steps/01.json");
        kill(store);
        fs::remove_file(&path).unwrap();
        make(&path);
        assert!(open(folder.path()).view().finished(1).is_none(), "{what}");
    }
}

#[test]
fn a_record_of_a_step_counts_only_under_its_own_number() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity(512);
    let mut store = open(folder.path());
    step(&mut store, 1, &["one.json"], "1").unwrap();
    let steps = store.view().staging().join(".steps");
    kill(store);
    fs::rename(steps.join("01.json"), steps.join("02.json")).unwrap();
    let store = open(folder.path());
    assert!(store.view().finished(1).is_none() && store.view().finished(2).is_none());
    drop(store);
    let folder = tempfile::tempdir().unwrap();
    convert(system(), &request(folder.path(), &identity), OLD).unwrap();
    edit(folder.path(), "\"number\": 2", "\"number\": 1");
    let store = open(folder.path());
    assert!(store.view().finished(1).is_some() && store.view().finished(2).is_none());
}

/// Files whose names a forged journal gives are moved only if they are what it says.
#[test]
fn a_forged_journal_moves_nothing_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity(512);
    let asked = request(folder.path(), &identity);
    let staging = folder.path().join(".anemll/staging-00");
    fs::create_dir_all(&staging).unwrap();
    fs::write(folder.path().join("mine.json"), "mine").unwrap();
    let journal = |name: &str, staging: &str| {
        let files = json!([{ "path": "", "bytes": 4, "sha256": "00" }]);
        let moves = json!([{ "name": name, "new": files, "old": false }]);
        let journal =
            json!({ "schema": 1, "staging": staging, "record_sha256": "00", "moves": moves });
        fs::write(folder.path().join(".anemll/journal.json"), journal.to_string()).unwrap();
    };
    for (name, staging) in
        [("mine.json", "staging-00"), ("../x.json", "staging-00"), ("mine.json", "../..")]
    {
        journal(name, staging);
        assert_eq!(refused(&asked).code, codes::OUTPUT_RECORD_INVALID, "{name} {staging}");
        assert_eq!(fs::read_to_string(folder.path().join("mine.json")).unwrap(), "mine");
    }
}

#[cfg(unix)]
#[test]
fn files_have_the_mode_of_others() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let identity = identity(512);
    convert(system(), &request(folder.path(), &identity), OLD).unwrap();
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode();
    let other = folder.path().join("other");
    fs::write(&other, "").unwrap();
    for name in [REPORT, ".anemll/conversion.json", "tokenizer.json"] {
        assert_eq!(mode(&folder.path().join(name)), mode(&other), "{name}");
    }
}

#[test]
fn looking_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let identity = identity(512);
    let output = folder.path().join("output");
    assert!(View::look(&request(&output, &identity)).unwrap().finished(1).is_none());
    assert!(!output.exists());
    convert(system(), &request(&output, &identity), OLD).unwrap();
    let before = files(&output);
    let view = View::look(&request(&output, &identity)).unwrap();
    assert!(view.finished(1).is_some() && view.is_whole(1, "a.mlpackage"));
    assert!(!view.is_whole(2, "a.mlpackage") && !view.is_whole(1, "../output/a.mlpackage"));
    assert_eq!(files(&output), before);
}

#[test]
fn what_is_in_the_way_is_told_without_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let (target, model) = (folder.path().join("new/output"), folder.path().join("model"));
    let early = |context: u64, force| {
        refuse_conflict(&target, &json!({ "context": context }), force, &model)
    };
    let (right, other) = (identity(512), identity(1024));
    assert!(View::look(&request(&target, &right)).unwrap().finished(1).is_none());
    early(512, false).unwrap();
    assert!(!folder.path().join("new").exists() && !is_begun(&target));
    let mut first = open(&target);
    step(&mut first, 1, &["a.mlpackage"], "a").unwrap();
    for busy in [early(512, true), View::look(&request(&target, &right)).map(drop)] {
        assert!(busy.unwrap_err().message.contains("another conversion is writing"));
    }
    kill(first);
    assert!(is_begun(&target));
    let mut second = open(&target);
    publish(&mut second).unwrap();
    second.close();
    let before = files(&target);
    let view = View::look(&request(&target, &right)).unwrap();
    assert!(view.finished(1).is_some() && view.finished(2).is_none());
    let late = View::look(&request(&target, &other)).unwrap_err();
    assert_eq!(early(1024, false).unwrap_err().message, late.message);
    assert_eq!(late.code, codes::OUTPUT_EXISTS);
    early(1024, true).unwrap();
    early(512, false).unwrap();
    fs::write(target.join("config.json"), "mine").unwrap();
    let outputs = [PathBuf::from("a.mlpackage"), PathBuf::from("config.json")];
    let error = view.refuse_foreign(&request(&target, &right), &outputs).unwrap_err();
    assert_eq!(error.code, codes::OUTPUT_NOT_OURS);
    fs::remove_file(target.join("config.json")).unwrap();
    assert_eq!(files(&target), before);
    let same = refuse_conflict(&target, &json!({}), true, &target).unwrap_err();
    assert_eq!(same.code, codes::OUTPUT_IS_MODEL);
}
