//! What a file of statistics is made from.

use crate::checkpoint::Kept;
use crate::collector::{Kind, Sums};
use crate::file::{Lazy, PROVENANCE, Provenance, Said, json, write};
use crate::judge::Judge;
use crate::taps::Taps;
use anemll_plugin_api::Result;
use safetensors::Dtype;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What a file of statistics is made from.
pub(crate) struct Saved<'a> {
    /// What they are of.
    pub(crate) provenance: &'a Provenance,
    /// The values that there are sums of.
    pub(crate) taps: &'a Taps,
    /// Where the sums of each value are, by its name.
    pub(crate) sums: BTreeMap<&'a str, Place<'a>>,
    /// How conversions are judged.
    pub(crate) judge: Option<&'a Judge>,
}

/// Where the sums of a value are.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// In memory.
    Here(&'a Sums),
    /// In what a pass kept.
    Kept(&'a Kept),
}

impl Saved<'_> {
    /// Writes the file: under its name only when it is whole.
    ///
    /// # Errors
    /// It cannot be written, or what was kept cannot be read.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        let mut same = BTreeMap::new();
        let mut tensors: Vec<(String, Lazy<'_>)> = Vec::new();
        for (value, place) in &self.sums {
            let Some(tap) = self.taps.values().get(*value) else { continue };
            let mut names = tap.tensors.iter();
            let Some(first) = names.next() else { continue };
            same.extend(names.map(|other| (other.clone(), first.clone())));
            tensors.push((first.clone(), self.means(value, *place, tap.inputs)));
        }
        tensors.extend(self.judge.into_iter().flat_map(Judge::tensors));
        let said = Said { provenance: self.provenance.clone(), same };
        let metadata = HashMap::from([(PROVENANCE.to_owned(), json(&said)?)]);
        write(path, tensors, metadata)
    }

    /// Means of a value's sums over all tokens.
    fn means<'b>(&self, value: &'b str, place: Place<'b>, inputs: usize) -> Lazy<'b> {
        let Provenance { kind, tokens, .. } = *self.provenance;
        let means = move || {
            Ok(match place {
                Place::Here(sums) => sums.means(tokens),
                Place::Kept(kept) => kept.sums(value, kind, inputs)?.means(tokens),
            })
        };
        let bytes = move || means().map(|means| Cow::Owned(bytemuck::cast_slice(&means).to_vec()));
        let shape = match kind {
            Kind::Squares => vec![inputs],
            Kind::Products => vec![inputs; 2],
        };
        Lazy { dtype: Dtype::F32, shape, bytes: Box::new(bytes) }
    }
}
