//! Which sums are added up together, where all of them take more memory than they may: the text is
//! run several times, each time for as many of them as fit.

use crate::checkpoint::{self, Kept};
use crate::collector::{Kind, Sums};
use crate::file::Provenance;
use crate::taps::Taps;
use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What is still to be done, and what earlier runs have done of it.
#[derive(Debug)]
pub(crate) struct Passes {
    /// Sums of the whole text.
    pub(crate) finished: Vec<Kept>,
    pub(crate) left: Vec<Pass>,
}

/// A run of the text, for the sums of some values.
#[derive(Debug)]
pub(crate) struct Pass {
    pub(crate) names: BTreeSet<String>,
    /// Where its sums are kept.
    pub(crate) path: PathBuf,
    /// What it goes on with.
    pub(crate) begun: Option<Kept>,
}

/// Bytes of memory that sums over all values take.
pub fn needed(taps: &Taps, kind: Kind) -> u64 {
    taps.values().values().map(|tap| Sums::bytes(kind, tap.inputs)).sum()
}

/// How often a text is run for sums that may take so many bytes of memory at once.
///
/// # Errors
/// [`codes::CALIBRATION_INPUT`] where those of one value alone take more.
pub fn passes(taps: &Taps, kind: Kind, memory: u64) -> Result<usize> {
    let all = taps.values().keys().map(String::as_str);
    split(taps, kind, memory, all).map(|passes| passes.len())
}

/// Bytes of disk that earlier passes for this file take: later ones write over them or go on with
/// them.
pub fn kept(output: &Path) -> u64 {
    existing(output).filter_map(|path| path.metadata().ok()).map(|file| file.len()).sum()
}

impl Passes {
    /// The passes for all values of `taps`, those that are finished left out.
    ///
    /// # Errors
    /// As [`passes`].
    pub(crate) fn plan(
        output: &Path,
        provenance: &Provenance,
        taps: &Taps,
        windows: usize,
        memory: u64,
    ) -> Result<Self> {
        let kind = provenance.kind;
        let mut done = BTreeSet::new();
        let (mut finished, mut begun) = (Vec::new(), None);
        for path in existing(output) {
            let Some(kept) = Kept::open(&path, provenance, taps) else { continue };
            if kept.windows < windows {
                begun = begun.or(Some(kept));
            } else if kept.names.is_disjoint(&done) {
                done.extend(kept.names.iter().cloned());
                finished.push(kept);
            }
        }
        // What was begun is gone on with, as far as it still fits.
        let begun = begun.filter(|kept| {
            bytes(taps, kind, &kept.names) <= memory && kept.names.is_disjoint(&done)
        });
        let others = |name: &&str| {
            !done.contains(*name) && begun.as_ref().is_none_or(|kept| !kept.names.contains(*name))
        };
        let names = taps.values().keys().map(String::as_str).filter(others);
        let fresh = split(taps, kind, memory, names)?;
        let taken: BTreeSet<PathBuf> =
            finished.iter().chain(&begun).map(|kept| kept.path.clone()).collect();
        let free = (1..).map(|number| checkpoint::path(output, number));
        let free = free.filter(|path| !taken.contains(path));
        let mut left = Vec::new();
        left.extend(begun.map(|kept| Pass {
            names: kept.names.clone(),
            path: kept.path.clone(),
            begun: Some(kept),
        }));
        left.extend(free.zip(fresh).map(|(path, names)| Pass { names, path, begun: None }));
        Ok(Self { finished, left })
    }
}

/// Removes what passes kept. What cannot be removed is in nobody's way.
pub(crate) fn remove(output: &Path) {
    for path in existing(output).collect::<Vec<_>>() {
        let _ = std::fs::remove_file(path);
    }
}

/// The files of passes that are there.
fn existing(output: &Path) -> impl Iterator<Item = PathBuf> {
    let all = (1..).map(|number| checkpoint::path(output, number));
    all.take_while(|path| path.is_file())
}

fn bytes(taps: &Taps, kind: Kind, names: &BTreeSet<String>) -> u64 {
    let known = names.iter().filter_map(|name| taps.values().get(name));
    known.map(|tap| Sums::bytes(kind, tap.inputs)).sum()
}

/// Values in their order, each pass with as many as fit.
fn split<'a>(
    taps: &Taps,
    kind: Kind,
    memory: u64,
    names: impl Iterator<Item = &'a str>,
) -> Result<Vec<BTreeSet<String>>> {
    let mut passes = Vec::new();
    let (mut pass, mut held) = (BTreeSet::new(), 0_u64);
    for name in names {
        let bytes = taps.values().get(name).map_or(0, |tap| Sums::bytes(kind, tap.inputs));
        if bytes > memory {
            return Err(too_large(name, bytes, memory, needed(taps, kind)));
        }
        if held.saturating_add(bytes) > memory {
            passes.push(std::mem::take(&mut pass));
            held = 0;
        }
        held += bytes;
        pass.insert(name.to_owned());
    }
    if !pass.is_empty() {
        passes.push(pass);
    }
    Ok(passes)
}

fn too_large(name: &str, bytes: u64, memory: u64, all: u64) -> Error {
    let size = anemll_files::size;
    Error::new(
        codes::CALIBRATION_INPUT,
        format!(
            "the products of every two inputs of `{name}` alone take {} of memory; the limit is {}",
            size(bytes),
            size(memory)
        ),
    )
    .with_hint(format!(
        "raise the limit with --memory (with {} the text is run only once), or leave --hessian out: \
         squares alone need little memory",
        size(all)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::Collector;
    use crate::file::SCHEMA;

    fn taps() -> Taps {
        Taps::invented(&[("a", 4), ("b", 8), ("c", 4), ("d", 4)])
    }

    fn provenance() -> Provenance {
        Provenance {
            schema: SCHEMA,
            source_sha256: "a".to_owned(),
            texts_sha256: "b".to_owned(),
            tokens: 7,
            kind: Kind::Products,
        }
    }

    fn names(names: &BTreeSet<String>) -> String {
        names.iter().map(String::as_str).collect()
    }

    fn plan(output: &Path, memory: u64) -> (Vec<String>, Vec<(String, bool)>) {
        let passes = Passes::plan(output, &provenance(), &taps(), 5, memory).unwrap();
        let finished = passes.finished.iter().map(|kept| names(&kept.names)).collect();
        let left = passes.left.iter().map(|pass| (names(&pass.names), pass.begun.is_some()));
        (finished, left.collect())
    }

    #[test]
    fn a_pass_has_as_many_sums_as_fit() {
        // 64, 256, 64 and 64 bytes.
        for (memory, expected) in [(448, 1), (447, 2), (320, 2), (319, 3), (256, 3)] {
            assert_eq!(passes(&taps(), Kind::Products, memory).unwrap(), expected, "{memory}");
        }
        let error = passes(&taps(), Kind::Products, 255).unwrap_err();
        assert_eq!(error.code, codes::CALIBRATION_INPUT);
        assert!(error.message.contains("`b` alone take 256 B"), "{error:?}");
        assert!(error.hint.unwrap().contains("with 448 B the text is run only once"));
    }

    #[test]
    fn what_was_kept_is_not_done_again_whatever_memory_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("out");
        let fresh = |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), false)).collect();
        assert_eq!(plan(&output, 320), (vec![], fresh(&["ab", "cd"])));
        let keep = |number: usize, values: &str, windows: usize| {
            let values = values.chars().map(String::from).collect();
            let collector = Collector::new(&taps(), &values, Kind::Products);
            let path = checkpoint::path(&output, number);
            checkpoint::write(&path, &provenance(), &collector, windows).unwrap();
        };
        keep(1, "ab", 5);
        keep(2, "cd", 3);
        assert_eq!(plan(&output, 320), (vec!["ab".to_owned()], vec![("cd".to_owned(), true)]));
        // The begun pass no longer fits: its values are begun anew.
        assert_eq!(plan(&output, 100), (vec!["ab".to_owned()], fresh(&["c", "d"])));
        keep(2, "d", 3);
        let left = vec![("d".to_owned(), true), ("c".to_owned(), false)];
        assert_eq!(plan(&output, 448), (vec!["ab".to_owned()], left));
        let passes = Passes::plan(&output, &provenance(), &taps(), 5, 448).unwrap();
        assert_eq!(passes.left[1].path, checkpoint::path(&output, 3));
        keep(2, "cd", 5);
        assert_eq!(plan(&output, 0), (vec!["ab".to_owned(), "cd".to_owned()], vec![]));
        remove(&output);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
