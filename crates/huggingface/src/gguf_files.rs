//! The GGUF files of a model, opened: one, or several with names such as `X-00001-of-00003.gguf`.

use crate::error::{ErrorKind, HuggingFaceError, Result};
use crate::shard::Shard;
use anemll_gguf::{Container, Parts};
use std::path::Path;
use std::sync::Arc;

/// The files with their header.
pub(crate) struct GgufFiles {
    pub(crate) container: Container,
    pub(crate) parts: Parts<Arc<Shard>>,
    /// The files in their order.
    pub(crate) shards: Vec<Arc<Shard>>,
}

impl GgufFiles {
    /// Opens the file, and the others of the model, where it is one of several.
    ///
    /// # Errors
    /// A file that is damaged, that lacks, or that is not of this model.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let failed = |error| HuggingFaceError::gguf(path, error);
        let (first, container) = open(path)?;
        let (shards, container) = match container.files().map_err(failed)? {
            1 => (vec![first], container),
            count => {
                let (shards, containers) = open_all(path, count)?;
                let sizes = shards.iter().map(|shard| shard.bytes());
                let parts = containers.into_iter().zip(sizes).collect();
                (shards, Container::join(parts).map_err(failed)?)
            }
        };
        let parts = Parts::new(shards.iter().map(|shard| (Arc::clone(shard), shard.bytes())));
        Ok(Self { container, parts, shards })
    }
}

fn open(path: &Path) -> Result<(Arc<Shard>, Container)> {
    let shard = Arc::new(Shard::open_file(path)?);
    let container = Container::read(&*shard, shard.bytes())
        .map_err(|error| HuggingFaceError::gguf(path, error))?;
    Ok((shard, container))
}

/// Opens all files of a model of which one is named.
fn open_all(path: &Path, count: u64) -> Result<(Vec<Arc<Shard>>, Vec<Container>)> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let names = anemll_gguf::parts::names(&name).filter(|names| names.len() as u64 == count);
    let Some(names) = names else {
        let reason = format!("this is one of {count} files of the model");
        return Err(HuggingFaceError::new(ErrorKind::Gguf, path, reason)
            .with_key("split.count")
            .with_hint(format!(
                "the others are found by its name, which has to end in -00001-of-{count:05}.gguf"
            )));
    };
    let open_part = |name: &String| {
        let part = path.with_file_name(name);
        open(&part).map_err(|error| match error.kind() {
            ErrorKind::NotFound => error
                .with_hint(format!("the model has {count} files, which belong into one directory")),
            _ => error,
        })
    };
    let opened = names.iter().map(open_part).collect::<Result<Vec<_>>>()?;
    Ok(opened.into_iter().unzip())
}
