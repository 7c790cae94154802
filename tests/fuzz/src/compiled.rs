//! The reader and the writer of compiled models.

use crate::{archive, examine, say, scratch};
use anemll_mlmodelc::{Analytics, CompiledModel, CoremlData, Options, compile};
use std::path::Path;

/// Lays the bytes out as a compiled model ([`archive`]) and opens it.
pub fn compiled(data: &[u8]) -> String {
    let folder = scratch();
    let root = folder.path().join("model.mlmodelc");
    let mut answers = String::new();
    if std::fs::create_dir(&root).is_ok() {
        archive::lay_out(&archive::unpack(data), &root);
        if let Some(opened) = say(&mut answers, "open", CompiledModel::open(&root)) {
            say(&mut answers, "weights", opened.check_weights());
            // Compared as bytes: a description without metadata gets empty ones.
            let bytes = opened.data().to_bytes();
            let again = CoremlData::from_bytes(&bytes).map(|data| data.to_bytes());
            assert!(again.as_ref() == Ok(&bytes), "{again:?}");
            if let Some(analytics) = opened.analytics() {
                let again = Analytics::from_bytes(&analytics.to_bytes());
                assert!(again.as_ref() == Ok(analytics), "{again:?}");
            }
            examine::examine(opened.model(), &mut answers);
        }
    }
    answers.replace(&*folder.path().to_string_lossy(), "")
}

/// Compiles a package, which must then open.
pub(crate) fn compiles(source: &Path, folder: &Path, answers: &mut String) {
    let path = folder.join("made.mlmodelc");
    let options = Options { replace: true, ..Options::default() };
    if say(answers, "compile", compile(source, &path, &options)).is_some() {
        let opened = CompiledModel::open(&path);
        let checked = opened.as_ref().map(CompiledModel::check_weights);
        assert!(matches!(checked, Ok(Ok(()))), "{checked:?}");
    }
}
