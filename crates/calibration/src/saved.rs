//! What a file of statistics is made from.

use crate::collector::Sums;
use crate::file::{Lazy, PROVENANCE, Provenance, Said, json, write};
use crate::judge::Judge;
use anemll_plugin_api::Result;
use safetensors::Dtype;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// What a file of statistics is made from.
pub struct Saved<'a> {
    /// What they are of.
    pub provenance: &'a Provenance,
    /// Sums of each value, and the tensors that it is the input of.
    pub(crate) sums: Vec<(&'a Sums, Vec<&'a str>)>,
    /// How conversions are judged.
    pub judge: Option<&'a Judge>,
}

impl Saved<'_> {
    /// Writes the file: under its name only when it is whole.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut same = BTreeMap::new();
        let mut tensors: Vec<(String, Lazy<'_>)> = Vec::new();
        for (sums, names) in &self.sums {
            let Some((first, others)) = names.split_first() else { continue };
            same.extend(others.iter().map(|other| ((*other).to_owned(), (*first).to_owned())));
            tensors.push(((*first).to_owned(), means(sums, self.provenance.tokens)));
        }
        tensors.extend(self.judge.into_iter().flat_map(Judge::tensors));
        let said = Said { provenance: self.provenance.clone(), same };
        let metadata = HashMap::from([(PROVENANCE.to_owned(), json(&said)?)]);
        write(path, tensors, metadata)
    }
}

/// Means of sums over so many tokens.
fn means(sums: &Sums, tokens: u64) -> Lazy<'_> {
    let bytes = move || Cow::Owned(bytemuck::cast_slice(&sums.means(tokens)).to_vec());
    Lazy { dtype: Dtype::F32, shape: sums.shape(), bytes: Box::new(bytes) }
}
