//! What a calibration that was stopped goes on with.

use crate::collector::{Collector, Kind, Sums};
use crate::file::{self, Lazy, Provenance};
use crate::statistics::Statistics;
use crate::taps::Taps;
use anemll_gptq::ProductSums;
use anemll_plugin_api::Result;
use safetensors::Dtype;
use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The tensor with how many windows are done.
const WINDOWS: &str = "anemll.judge.windows_done";
/// What the names of sums of squares begin with: their bits, float64, as two integers each.
const SQUARES: &str = "anemll.judge.squares.";

/// The file beside the statistics that are made, while they are made: that of the pass `number`,
/// from 1.
pub(crate) fn path(output: &Path, number: usize) -> PathBuf {
    let mut name = OsString::from(output.as_os_str());
    name.push(".partial");
    if number > 1 {
        name.push(format!("-{number}"));
    }
    PathBuf::from(name)
}

/// Keeps the sums of `windows` windows in the file `path`. `provenance` is that of the finished file.
pub(crate) fn write(
    path: &Path,
    provenance: &Provenance,
    collector: &Collector,
    windows: usize,
) -> Result<()> {
    let mut tensors: Vec<(String, Lazy<'_>)> = Vec::new();
    for (name, sums) in collector.sums() {
        tensors.push(raw(name, sums));
    }
    let count = [u32::try_from(windows).unwrap_or(u32::MAX)];
    let bytes: Vec<u8> = bytemuck::cast_slice(&count).to_vec();
    let done = Lazy {
        dtype: Dtype::U32,
        shape: vec![1],
        bytes: Box::new(move || Ok(bytes.clone().into())),
    };
    tensors.push((WINDOWS.to_owned(), done));
    let metadata = HashMap::from([(file::PROVENANCE.to_owned(), file::json(provenance)?)]);
    file::write(path, tensors, metadata)
}

/// Sums that an earlier run kept, or an earlier pass of this one.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The file that they are in.
    pub(crate) path: PathBuf,
    /// How many windows of the text they are of.
    pub(crate) windows: usize,
    /// The values that there are sums of.
    pub(crate) names: BTreeSet<String>,
    file: Statistics,
}

impl Kept {
    /// Opens what a run with the same model, text and kind kept of these values. Whatever else lies
    /// there is left alone, and later written over.
    pub(crate) fn open(path: &Path, provenance: &Provenance, taps: &Taps) -> Option<Self> {
        let file = Statistics::open(path).ok()?;
        let same = file.provenance() == Some(provenance) && file.check_values().is_ok();
        Self::of(file, path, provenance.kind, taps).filter(|_| same)
    }

    /// Opens what was just kept.
    ///
    /// # Errors
    /// The file is not there any more, or cannot be read.
    pub(crate) fn written(path: &Path, kind: Kind, taps: &Taps) -> Result<Self> {
        let file = Statistics::open(path)?;
        let changed = file.invalid("another program has changed the sums that were kept here");
        Self::of(file, path, kind, taps).ok_or(changed)
    }

    fn of(file: Statistics, path: &Path, kind: Kind, taps: &Taps) -> Option<Self> {
        let [windows] = file.integers(WINDOWS).ok()?[..] else { return None };
        let there = |name: &str, inputs: usize| {
            let (tensor, words) = tensor(name, kind, inputs);
            file.shape(&tensor) == Some([words as u64].as_slice())
        };
        let known = taps.values().iter().filter(|(name, tap)| there(name, tap.inputs));
        let names = known.map(|(name, _)| name.clone()).collect();
        Some(Self { path: path.to_owned(), windows: windows as usize, names, file })
    }

    /// The sums of a value with so many inputs.
    ///
    /// # Errors
    /// The file cannot be read, or is damaged.
    pub(crate) fn sums(&self, name: &str, kind: Kind, inputs: usize) -> Result<Sums> {
        let (tensor, words) = tensor(name, kind, inputs);
        let damaged = || self.file.invalid(&format!("the sums of `{name}` are damaged"));
        match kind {
            Kind::Squares => {
                let found = self.file.integers(&tensor)?;
                let pairs = found.as_chunks::<2>().0.iter();
                let sums: Vec<f64> = pairs
                    .map(|[low, high]| f64::from_bits(u64::from(*low) | u64::from(*high) << 32))
                    .collect();
                let sound = found.len() == words && sums.iter().all(|sum| sum.is_finite());
                sound.then_some(Sums::Squares(sums)).ok_or_else(damaged)
            }
            Kind::Products => {
                let sums = self.file.floats(&tensor)?;
                let sound = sums.len() == words;
                sound.then(|| Sums::Products(ProductSums::resume(inputs, sums))).ok_or_else(damaged)
            }
        }
    }

    /// Gives a collector the sums that it goes on with, and says how many windows they are of: none,
    /// where they are not those of all its values.
    pub(crate) fn resume(&self, collector: &mut Collector) -> usize {
        let mut found = Vec::new();
        for (name, sums) in collector.sums() {
            let inputs = sums.shape()[0];
            let kind = match sums {
                Sums::Squares(_) => Kind::Squares,
                Sums::Products(_) => Kind::Products,
            };
            let Ok(same) = self.sums(name, kind, inputs) else { return 0 };
            found.push((name.clone(), same));
        }
        collector.sums_mut().extend(found);
        self.windows
    }
}

/// The tensor with the sums of a value, and its elements of four bytes.
fn tensor(name: &str, kind: Kind, inputs: usize) -> (String, usize) {
    match kind {
        Kind::Squares => (format!("{SQUARES}{name}"), inputs * 2),
        Kind::Products => (name.to_owned(), inputs * inputs),
    }
}

/// The sums with all of their bits: what goes on with them comes to the same.
fn raw<'a>(name: &str, sums: &'a Sums) -> (String, Lazy<'a>) {
    match sums {
        Sums::Products(products) => {
            let sums = products.as_slice();
            (name.to_owned(), Lazy::floats(&[sums.len()], sums))
        }
        Sums::Squares(squares) => {
            let bits = || -> Vec<u8> {
                let words = squares.iter().map(|sum| sum.to_bits());
                words
                    .flat_map(|bits| [bits as u32, (bits >> 32) as u32])
                    .flat_map(u32::to_le_bytes)
                    .collect()
            };
            let tensor = Lazy {
                dtype: Dtype::U32,
                shape: vec![squares.len() * 2],
                bytes: Box::new(move || Ok(Cow::Owned(bits()))),
            };
            (format!("{SQUARES}{name}"), tensor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provenance(kind: Kind) -> Provenance {
        Provenance {
            schema: file::SCHEMA,
            source_sha256: "a".to_owned(),
            texts_sha256: "b".to_owned(),
            tokens: 7,
            kind,
        }
    }

    fn taps() -> Taps {
        Taps::invented(&[("x", 3), ("y", 2)])
    }

    fn collector(kind: Kind) -> Collector {
        let names = taps().values().keys().cloned().collect();
        Collector::new(&taps(), &names, kind)
    }

    /// What a collector goes on with.
    fn resume(path: &Path, provenance: &Provenance, collector: &mut Collector) -> usize {
        Kept::open(path, provenance, &taps()).map_or(0, |kept| kept.resume(collector))
    }

    #[test]
    fn what_was_added_up_comes_back_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder.path().join("a.safetensors"), 1);
        for kind in [Kind::Squares, Kind::Products] {
            let mut first = collector(kind);
            for (name, sums) in first.sums_mut() {
                let inputs = sums.shape()[0];
                let values: Vec<f32> = (0..inputs * 5).map(|at| 0.1 + at as f32 / 3.0).collect();
                sums.add(&values, 5, 5);
                assert!(sums.means(1).iter().all(|value| *value > 0.0), "{name}");
            }
            write(&path, &provenance(kind), &first, 4).unwrap();
            let mut second = collector(kind);
            assert_eq!(resume(&path, &provenance(kind), &mut second), 4);
            assert_eq!(second.sums(), first.sums());

            // Another model or text, or a file that was cut off: from the beginning.
            let mut third = collector(kind);
            let other = Provenance { texts_sha256: "c".to_owned(), ..provenance(kind) };
            assert_eq!(resume(&path, &other, &mut third), 0);
            let whole = std::fs::read(&path).unwrap();
            for length in [0, 8, 100, whole.len() - 1] {
                std::fs::write(&path, &whole[..length]).unwrap();
                assert_eq!(resume(&path, &provenance(kind), &mut third), 0, "{length}");
            }
            assert_eq!(third.sums(), collector(kind).sums());
        }
    }
}
