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
        tensors.push((name.clone(), raw(sums)));
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
        let Ok(values) = kept.floats(name) else { return 0 };
        let same = match sums {
            Sums::Squares(sums) if values.len() == sums.len() => {
                Sums::Squares(values.iter().map(|value| f64::from(*value)).collect())
            }
            Sums::Products(sums) if values.len() == sums.as_slice().len() => {
                Sums::Products(ProductSums::resume(sums.inputs(), values))
            }
            _ => return 0,
        };
        found.insert(name.clone(), same);
    }
    collector.sums_mut().extend(found);
    windows
}

/// The sums as they are; squares are rounded to float32, as in the finished file.
fn raw(sums: &Sums) -> Lazy<'_> {
    match sums {
        Sums::Products(products) => Lazy::floats(&[products.as_slice().len()], products.as_slice()),
        Sums::Squares(squares) => Lazy {
            dtype: Dtype::F32,
            shape: vec![squares.len()],
            bytes: Box::new(move || {
                let floats: Vec<f32> = squares.iter().map(|sum| *sum as f32).collect();
                Cow::Owned(bytemuck::cast_slice(&floats).to_vec())
            }),
        },
    }
}
