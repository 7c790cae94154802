//! The reader of Core AI assets.

use crate::{say, scratch};
use anemll_aicode::asset::{Asset, Metadata, PROGRAM, write};
use anemll_aicode::verify;
use std::io::Write;

/// Largest blob that is written again.
const LARGEST: u64 = 1 << 20;

/// Reads the bytes as the program of an asset. What opens is verified, and shown; what verifies is written, and
/// reads the same again.
pub fn asset(data: &[u8]) -> String {
    let folder = scratch();
    let path = folder.path().join("x.aimodel");
    let mut answers = String::new();
    let made = std::fs::create_dir(&path).and_then(|()| std::fs::write(path.join(PROGRAM), data));
    assert!(made.is_ok(), "cannot write a temporary file");
    let Some(opened) = say(&mut answers, "open", Asset::open(&path)) else {
        return answers.replace(&*folder.path().to_string_lossy(), "");
    };
    assert!(!anemll_aicode::text(&opened.program, None).is_empty());
    for blob in &opened.program.blobs {
        let inside = blob.offset.checked_add(blob.length).is_some_and(|end| end <= opened.size);
        assert!(inside, "a blob lies beyond the file");
    }
    let small = opened.program.blobs.iter().all(|blob| blob.length <= LARGEST);
    if say(&mut answers, "verify", verify(&opened.program)).is_some() && small {
        let again = folder.path().join("again.aimodel");
        let copy = |index: usize, output: &mut dyn Write| {
            let blob = &opened.program.blobs[index];
            let mut bytes = vec![0; blob.length as usize];
            opened.read_blob(blob, 0, &mut bytes)?;
            output.write_all(&bytes)
        };
        let written = write(&again, &opened.program, &Metadata::default(), true, copy);
        if say(&mut answers, "write", written).is_some() {
            let read = Asset::open(&again).map(|asset| asset.program.functions);
            assert_eq!(read.as_ref().ok(), Some(&opened.program.functions), "it reads otherwise");
        }
    }
    answers.replace(&*folder.path().to_string_lossy(), "")
}
