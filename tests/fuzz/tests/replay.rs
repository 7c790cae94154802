//! Every input of the corpus goes through its target, which panics where something is wrong.
#![allow(clippy::unwrap_used)]

use anemll_fuzz::mutate::{Form, MAXIMUM_BYTES, Mutator};
use anemll_fuzz::{TARGETS, Target, archive};
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// Inputs take milliseconds, so this is far from any machine's slowness.
const ENDLESS: Duration = Duration::from_secs(120);

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// The answer, or a failure where there is none in time, so that an endless loop ends the test.
fn answer(target: &'static Target, bytes: &[u8]) -> String {
    let bytes = bytes.to_vec();
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send((target.run)(&bytes)));
    receiver.recv_timeout(ENDLESS).unwrap()
}

#[test]
fn the_corpus_holds() {
    let mut total = 0;
    for target in TARGETS {
        let files = corpus(target.name);
        assert!(files.len() >= 4, "{} has few inputs", target.name);
        let mut whole = 0;
        for (path, bytes) in files {
            // Shown if it fails.
            println!("{}", path.display());
            total += bytes.len();
            let answer = answer(target, &bytes);
            assert_eq!(answer, self::answer(target, &bytes), "the answer is not always the same");
            let steps = ["open: ", "read: ", "walk: ", "parse: ", "resolved: "];
            let mut lines =
                answer.lines().filter(|line| steps.iter().any(|step| line.starts_with(step)));
            whole += usize::from(lines.all(|line| line.ends_with(": ok")));
        }
        // Else the inputs are so wrong that little is tested.
        assert!(whole > 0, "no input of {} is wholly right", target.name);
    }
    assert!(total < 300_000, "{total} bytes of corpus");
}

#[test]
fn what_is_changed_still_holds() {
    for target in TARGETS {
        let files = corpus(target.name);
        let mut mutator = Mutator::new(1);
        for round in 0..100 {
            let (_, one) = &files[mutator.below(files.len())];
            let (_, other) = &files[mutator.below(files.len())];
            let changed = mutator.mutate(target.form, one, other);
            assert!(changed.len() <= MAXIMUM_BYTES);
            println!("{}, round {round}", target.name);
            answer(target, &changed);
        }
    }
}

#[test]
fn changes_depend_on_the_seed_alone() {
    let input: Vec<u8> = (0..200).collect();
    for form in [Form::Bytes, Form::Text, Form::Protobuf, Form::Archive] {
        let changes = |seed: u64| -> Vec<Vec<u8>> {
            let mut mutator = Mutator::new(seed);
            (0..20).map(|_| mutator.mutate(form, &input, b"other: 1 { x }")).collect()
        };
        assert_eq!(changes(3), changes(3));
        assert_ne!(changes(3), changes(4));
        assert!(changes(3).iter().any(|changed| changed != &input));
        // Nothing to change, nothing to take from.
        let mut mutator = Mutator::new(5);
        (0..500).for_each(|_| drop(mutator.mutate(form, b"", b"")));
    }
}

#[test]
fn archives_come_back_and_stay_inside() {
    let entries = vec![
        (b"a/b".to_vec(), b"one".to_vec()),
        (b"../out".to_vec(), b"two".to_vec()),
        (b"/tmp/out".to_vec(), b"three".to_vec()),
        (b">a/link".to_vec(), b"../../..".to_vec()),
        (b">a/link2".to_vec(), b"b".to_vec()),
        (b">out/link".to_vec(), b"b".to_vec()),
    ];
    assert_eq!(archive::unpack(&archive::pack(&entries)), entries);
    // Lengths past the end.
    assert_eq!(archive::unpack(b"\x05a"), [(b"a".to_vec(), Vec::new())]);
    assert_eq!(archive::unpack(b"\x01a\xff\xff\xff\xffxy"), [(b"a".to_vec(), b"xy".to_vec())]);
    let outer = tempfile::tempdir().unwrap();
    let root = outer.path().join("root");
    fs::create_dir(&root).unwrap();
    archive::lay_out(&entries, &root);
    assert_eq!(fs::read(root.join("a/b")).unwrap(), b"one");
    assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1);
    assert!(fs::symlink_metadata(root.join("a/link")).is_err());
    #[cfg(unix)]
    assert_eq!(fs::read(root.join("a/link2")).unwrap(), b"one");
}
