//! The form of a file of statistics, and writing one.
//!
//! It is a safetensors file. A weight's tensor has the name of the weight in the model's files:
//! float32 `[inputs]`, the mean of each input's square, or `[inputs, inputs]`, the mean of the
//! products of every two. `anemll.statistics` in the metadata says what the statistics are of, and which
//! tensors have those of another one, since they have the same input. It is the only entry: several
//! would be written in any order, and the same statistics would not always be the same file.
//! Tensors `anemll.judge.…` are a [`Judge`](crate::Judge).

use crate::collector::Kind;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use safetensors::{Dtype, View};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// Schema of the file.
pub(crate) const SCHEMA: u32 = 3;
/// Metadata: what the statistics are of, in JSON.
pub(crate) const PROVENANCE: &str = "anemll.statistics";

/// What the names of a judge's tensors begin with.
pub(crate) const JUDGE: &str = "anemll.judge.";

/// What statistics are of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provenance {
    /// Schema of the file.
    pub schema: u32,
    /// SHA-256 of the model's configuration and weights.
    pub source_sha256: String,
    /// SHA-256 of the tokens.
    pub texts_sha256: String,
    /// Tokens that were seen.
    pub tokens: u64,
    /// What was added up.
    pub kind: Kind,
}

/// What the metadata says.
#[derive(Serialize, Deserialize)]
pub(crate) struct Said {
    #[serde(flatten)]
    pub(crate) provenance: Provenance,
    /// Tensors with the statistics of another one, and its name.
    #[serde(default)]
    pub(crate) same: BTreeMap<String, String>,
}

/// A tensor to be written, whose bytes are made when they are needed.
pub(crate) struct Lazy<'a> {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Box<dyn Fn() -> Result<Cow<'a, [u8]>> + 'a>,
}

/// A tensor that is written, and the error of the first whose bytes could not be made.
struct Writing<'a, 'e> {
    tensor: Lazy<'a>,
    error: &'e RefCell<Option<Error>>,
}

impl View for Writing<'_, '_> {
    fn dtype(&self) -> Dtype {
        self.tensor.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.tensor.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        (self.tensor.bytes)().unwrap_or_else(|error| {
            self.error.borrow_mut().get_or_insert(error);
            Cow::Borrowed(&[])
        })
    }

    fn data_len(&self) -> usize {
        // Both types that are written have four bytes.
        self.tensor.shape.iter().product::<usize>() * 4
    }
}

impl<'a> Lazy<'a> {
    /// float32 elements that are there.
    pub(crate) fn floats(shape: &[usize], values: &'a [f32]) -> Self {
        let bytes = bytemuck::cast_slice(values);
        Self {
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            bytes: Box::new(move || Ok(Cow::Borrowed(bytes))),
        }
    }

    /// uint32 elements that are there.
    pub(crate) fn integers(shape: &[usize], values: &'a [u32]) -> Self {
        let bytes = bytemuck::cast_slice(values);
        Self {
            dtype: Dtype::U32,
            shape: shape.to_vec(),
            bytes: Box::new(move || Ok(Cow::Borrowed(bytes))),
        }
    }
}

/// A value of a metadata entry.
pub(crate) fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|source| Error::new(codes::INTERNAL, format!("no JSON: {source}")))
}

/// Writes tensors into a safetensors file, which stands under its name only when it is whole.
pub(crate) fn write(
    path: &Path,
    tensors: Vec<(String, Lazy<'_>)>,
    metadata: HashMap<String, String>,
) -> Result<()> {
    let failed = |reason: String| {
        Error::new(codes::OUTPUT_UNWRITABLE, format!("the statistics cannot be written: {reason}"))
            .with_at(path.display().to_string())
    };
    let io = |source: std::io::Error| failed(source.to_string());
    let mut builder = tempfile::Builder::new();
    builder.prefix(".anemll-");
    // As any other file that is made, not for the user alone.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let staged = builder.tempfile_in(folder(path)).map_err(io)?;
    let permissions = staged.as_file().metadata().map_err(io)?.permissions();
    let error = RefCell::new(None);
    let tensors =
        tensors.into_iter().map(|(name, tensor)| (name, Writing { tensor, error: &error }));
    // This puts a file of its own in place, with permissions of its own.
    let written = safetensors::serialize_to_file(tensors, Some(metadata), staged.path());
    if let Some(error) = error.take() {
        return Err(error);
    }
    written.map_err(|source| failed(source.to_string()))?;
    std::fs::set_permissions(staged.path(), permissions).map_err(io)?;
    staged.persist(path).map_err(|source| failed(source.error.to_string()))?;
    Ok(())
}

/// The folder that a file is in.
fn folder(path: &Path) -> &Path {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Refuses a place where no file can be made, before work is spent on what would be in it.
///
/// # Errors
/// [`codes::OUTPUT_UNWRITABLE`].
pub fn refuse_unwritable(path: &Path) -> Result<()> {
    let failed = |reason: String| {
        Error::new(codes::OUTPUT_UNWRITABLE, format!("the statistics cannot be written: {reason}"))
            .with_at(path.display().to_string())
            .with_hint("name a file in a folder that is there and can be written to")
    };
    if path.is_dir() {
        return Err(failed("this is a folder".to_owned()));
    }
    let folder = folder(path);
    if !folder.is_dir() {
        return Err(failed(format!("the folder {} does not exist", folder.display())));
    }
    tempfile::tempfile_in(folder).map(drop).map_err(|source| failed(source.to_string()))
}
