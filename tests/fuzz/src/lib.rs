//! Fuzz targets: each takes any bytes, and must neither panic, nor loop, nor take memory without
//! bound.
//!
//! The same functions serve the harness for stable Rust (`src/main.rs`), cargo-fuzz (`fuzz/` at the
//! root) and the replay of the corpus in the tests. See `docs/guide/fuzzing.md`.

pub mod archive;
pub mod asset;
pub mod blob;
pub mod compiled;
mod examine;
pub mod gguf;
pub mod model;
pub mod mutate;
pub mod package;
pub mod text;

/// A target: what it is called, and what it does with bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Name, also of its folder of the corpus.
    pub name: &'static str,
    /// What the bytes are, which tells the harness how to change them.
    pub form: mutate::Form,
    /// Feeds the bytes to the code, and says what it answered: its errors, one a line. The harness
    /// keeps inputs that give new answers.
    pub run: fn(&[u8]) -> String,
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target { name: "package", form: mutate::Form::Archive, run: package::package },
    Target { name: "compiled", form: mutate::Form::Archive, run: compiled::compiled },
    Target { name: "manifest", form: mutate::Form::Text, run: package::manifest },
    Target { name: "blob", form: mutate::Form::Bytes, run: blob::blob },
    Target { name: "gguf", form: mutate::Form::Bytes, run: gguf::gguf },
    Target { name: "asset", form: mutate::Form::Bytes, run: asset::asset },
    Target { name: "model", form: mutate::Form::Protobuf, run: model::model },
    Target { name: "mil_text", form: mutate::Form::Text, run: text::mil_text },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// A line of an answer: what was done, and the error if there was one.
pub(crate) fn say<T, E: std::fmt::Display>(
    answers: &mut String,
    step: &str,
    result: Result<T, E>,
) -> Option<T> {
    let (value, text) = match result {
        Ok(value) => (Some(value), "ok".to_owned()),
        // Names of the input may hold line ends.
        Err(error) => (None, error.to_string().replace(['\n', '\r'], " ")),
    };
    answers.extend([step, ": ", &text, "\n"]);
    value
}

/// A new folder, in memory where the system has such a place.
pub(crate) fn scratch() -> tempfile::TempDir {
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    // Without a place to write there is nothing to test.
    folder.unwrap_or_else(|error| panic!("cannot make a temporary folder: {error}"))
}
