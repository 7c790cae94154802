use super::*;
use crate::convert::report::StepReport;
use serde_json::json;

fn identity(context: u64) -> Identity {
    Identity::new("source".to_owned(), json!({ "context": context }), Value::Null)
}

fn open(folder: &Path) -> Store {
    Store::open(folder, identity(512), false).unwrap()
}

/// Does a step whose output is the file `name`.
fn step(store: &mut Store, number: u32, name: &str) {
    store.begin(number);
    let path = store.place(Path::new(name)).unwrap();
    fs::write(&path, name).unwrap();
    let outcome = StepReport { done: true, message: String::new() };
    store.finish_step(number, &[PathBuf::from(name)], Vec::new(), "", outcome).unwrap();
}

fn publish(store: &mut Store) {
    let report = Path::new("report.json");
    fs::write(store.place(report).unwrap(), "{}").unwrap();
    store.publish(report).unwrap();
}

/// As if the process had been killed: nothing is cleaned up, and the lock is gone.
fn kill(mut store: Store) {
    store.keep();
}

#[test]
fn a_killed_run_goes_on_from_its_finished_steps() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = open(folder.path());
    step(&mut first, 1, "one");
    fs::write(first.place(Path::new("half")).unwrap(), "h").unwrap();
    kill(first);
    let mut second = open(folder.path());
    assert!(second.finished(1).is_some() && second.finished(2).is_none());
    assert!(!second.staging().join("half").exists(), "what was half made is gone");
    step(&mut second, 2, "two");
    publish(&mut second);
    drop(second);
    assert_eq!(fs::read_to_string(folder.path().join("one")).unwrap(), "one");
    assert!(folder.path().join("report.json").exists());
    let own: Vec<_> = fs::read_dir(folder.path().join(OWN)).unwrap().collect();
    assert_eq!(own.len(), 1, "only the record stays: {own:?}");
    let third = open(folder.path());
    assert!(third.finished(1).is_some() && third.finished(2).is_some());
}

#[test]
fn an_output_that_changed_is_not_finished() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    step(&mut store, 1, "one");
    publish(&mut store);
    drop(store);
    fs::write(folder.path().join("one"), "eno").unwrap();
    assert!(open(folder.path()).finished(1).is_none(), "equal size, other bytes");
    fs::remove_file(folder.path().join("one")).unwrap();
    assert!(open(folder.path()).finished(1).is_none());
}

#[test]
fn an_error_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("new/output");
    let mut store = open(&target);
    step(&mut store, 1, "one");
    drop(store);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_look_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("new/output");
    let look = |context, force| Store::look(&target, identity(context), force);
    assert!(look(512, false).unwrap().finished(1).is_none());
    assert!(!folder.path().join("new").exists());
    let mut first = open(&target);
    step(&mut first, 1, "one");
    let options = |context: u64| json!({ "context": context });
    let busy = refuse_conflict(&target, &options(512), false).unwrap_err();
    assert!(busy.message.contains("another conversion is writing"), "{busy}");
    kill(first);
    fs::write(target.join(OWN).join("staging-of-another"), "").unwrap();
    let seen = look(512, false).unwrap();
    assert!(seen.finished(1).is_some() && seen.finished(2).is_none());
    drop(seen);
    assert!(look(512, true).unwrap().finished(1).is_none(), "all is done again");
    assert!(target.join(OWN).join("staging-of-another").exists());
    let mut second = open(&target);
    assert!(second.finished(1).is_some());
    publish(&mut second);
    drop(second);
    let error = look(1024, false).map(drop).unwrap_err();
    assert_eq!(error.code, codes::OUTPUT_EXISTS);
    let early = refuse_conflict(&target, &options(1024), false).unwrap_err();
    assert_eq!(early.message, error.message);
    assert!(look(1024, true).is_ok() && refuse_conflict(&target, &options(1024), true).is_ok());
    assert!(refuse_conflict(&target, &options(512), false).is_ok());
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(refuse_conflict(&file, &options(512), false).is_err());
    assert!(refuse_unwritable(&file.join("below")).is_err());
    assert!(refuse_unwritable(&folder.path().join("not/there")).is_ok());
    assert!(!folder.path().join("not").exists());
}

#[test]
fn two_runs_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let first = open(folder.path());
    let Err(error) = Store::open(folder.path(), identity(512), true) else { panic!("locked") };
    assert_eq!(error.code, codes::OUTPUT_EXISTS);
    assert!(first.staging().is_dir(), "the refused run touched nothing");
}

#[test]
fn another_conversion_is_replaced_only_when_asked_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    step(&mut store, 1, "one");
    step(&mut store, 2, "of_512");
    publish(&mut store);
    drop(store);
    let Err(error) = Store::open(folder.path(), identity(1024), false) else { panic!("refused") };
    assert_eq!(error.code, codes::OUTPUT_EXISTS);
    assert!(error.message.contains("context 512 there, 1024 now"), "{}", error.message);
    let mut store = Store::open(folder.path(), identity(1024), true).unwrap();
    assert!(store.finished(1).is_none());
    step(&mut store, 1, "one");
    step(&mut store, 2, "of_1024");
    assert!(folder.path().join("of_512").exists(), "until the new one is complete");
    publish(&mut store);
    drop(store);
    assert!(folder.path().join("of_1024").exists());
    assert!(!folder.path().join("of_512").exists(), "no package of the old one stays");
}

#[test]
fn a_run_that_is_killed_while_it_publishes_is_completed_by_the_next() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = open(folder.path());
    step(&mut store, 1, "one");
    step(&mut store, 2, "two");
    // The record is written, and one of two files has its final name.
    let conversion = Conversion {
        identity: identity(512),
        steps: store.finished.clone(),
        replaced: BTreeSet::from(["old".to_owned()]),
    };
    fs::write(folder.path().join("old"), "").unwrap();
    write_json(&folder.path().join(CONVERSION), &conversion).unwrap();
    store.publish_one(Path::new("one")).unwrap();
    kill(store);
    let mut store = open(folder.path());
    assert!(store.finished(1).is_some() && store.finished(2).is_some());
    publish(&mut store);
    drop(store);
    assert!(folder.path().join("two").exists());
    assert!(!folder.path().join("old").exists());
}
