//! What a calibration that was stopped goes on with.

use crate::collector::{Collector, Sums};
use crate::file::{self, Lazy, Provenance};
use crate::statistics::Statistics;
use anemll_gptq::ProductSums;
use anemll_plugin_api::Result;
use safetensors::Dtype;
use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The tensor with how many windows are done.
const WINDOWS: &str = "anemll.judge.windows_done";
/// What the names of sums of squares begin with: their bits, float64, as two integers each.
const SQUARES: &str = "anemll.judge.squares.";

/// The file beside the statistics that are made, while they are made.
pub(crate) fn path(output: &Path) -> PathBuf {
    let mut name = OsString::from(output.as_os_str());
    name.push(".partial");
    PathBuf::from(name)
}

/// Keeps the sums of `windows` windows. `provenance` is that of the finished file.
pub(crate) fn write(
    output: &Path,
    provenance: &Provenance,
    collector: &Collector,
    windows: u32,
) -> Result<()> {
    let mut tensors: Vec<(String, Lazy<'_>)> = Vec::new();
    for (name, sums) in collector.sums() {
        tensors.push(raw(name, sums));
    }
    let count = [windows];
    let bytes: Vec<u8> = bytemuck::cast_slice(&count).to_vec();
    let done =
        Lazy { dtype: Dtype::U32, shape: vec![1], bytes: Box::new(move || bytes.clone().into()) };
    tensors.push((WINDOWS.to_owned(), done));
    let metadata = HashMap::from([(file::PROVENANCE.to_owned(), file::json(provenance)?)]);
    file::write(&path(output), tensors, metadata)
}

/// Takes up the sums of an earlier run with the same model, text and kind, and says how many windows
/// they are of. Whatever else lies there is left alone, and later written over.
pub(crate) fn resume(output: &Path, provenance: &Provenance, collector: &mut Collector) -> u32 {
    let Ok(kept) = Statistics::open(&path(output)) else { return 0 };
    if kept.provenance() != Some(provenance) || kept.check_values().is_err() {
        return 0;
    }
    let Ok(count) = kept.integers(WINDOWS) else { return 0 };
    let [windows] = count[..] else { return 0 };
    let mut found = HashMap::new();
    for (name, sums) in collector.sums() {
        let same = match sums {
            Sums::Squares(sums) => {
                let Ok(words) = kept.integers(&format!("{SQUARES}{name}")) else { return 0 };
                let values: Vec<f64> = words
                    .as_chunks::<2>()
                    .0
                    .iter()
                    .map(|[low, high]| f64::from_bits(u64::from(*low) | u64::from(*high) << 32))
                    .collect();
                if values.len() != sums.len() || values.iter().any(|value| !value.is_finite()) {
                    return 0;
                }
                Sums::Squares(values)
            }
            Sums::Products(sums) => {
                let Ok(values) = kept.floats(name) else { return 0 };
                if values.len() != sums.as_slice().len() {
                    return 0;
                }
                Sums::Products(ProductSums::resume(sums.inputs(), values))
            }
        };
        found.insert(name.clone(), same);
    }
    collector.sums_mut().extend(found);
    windows
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
                bytes: Box::new(move || Cow::Owned(bits())),
            };
            (format!("{SQUARES}{name}"), tensor)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collector::Kind;
    use crate::taps::Taps;

    fn provenance(kind: Kind) -> Provenance {
        Provenance {
            schema: file::SCHEMA,
            source_sha256: "a".to_owned(),
            texts_sha256: "b".to_owned(),
            tokens: 7,
            kind,
        }
    }

    fn collector(kind: Kind) -> Collector {
        let taps = Taps::invented(&[("x", 3), ("y", 2)]);
        let names = taps.values().keys().cloned().collect();
        Collector::new(&taps, &names, kind)
    }

    #[test]
    fn what_was_added_up_comes_back_to_the_last_bit() {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("a.safetensors");
        for kind in [Kind::Squares, Kind::Products] {
            let mut first = collector(kind);
            for (name, sums) in first.sums_mut() {
                let inputs = sums.shape()[0];
                let values: Vec<f32> = (0..inputs * 5).map(|at| 0.1 + at as f32 / 3.0).collect();
                sums.add(&values, 5, 5);
                assert!(sums.means(1).iter().all(|value| *value > 0.0), "{name}");
            }
            write(&output, &provenance(kind), &first, 4).unwrap();
            let mut second = collector(kind);
            assert_eq!(resume(&output, &provenance(kind), &mut second), 4);
            assert_eq!(second.sums(), first.sums());

            // Another model or text, or a file that was cut off: from the beginning.
            let mut third = collector(kind);
            let other = Provenance { texts_sha256: "c".to_owned(), ..provenance(kind) };
            assert_eq!(resume(&output, &other, &mut third), 0);
            let whole = std::fs::read(path(&output)).unwrap();
            for length in [0, 8, 100, whole.len() - 1] {
                std::fs::write(path(&output), &whole[..length]).unwrap();
                assert_eq!(resume(&output, &provenance(kind), &mut third), 0, "{length}");
            }
            assert_eq!(third.sums(), collector(kind).sums());
        }
    }
}
