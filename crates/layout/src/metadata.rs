//! The `userDefined` metadata of packages, under `com.anemll.`.

use crate::{LayoutOptions, anemll};
use anemll_plugin_api::data::ModelDescription;
use std::collections::BTreeMap;

/// Collects the metadata of one package. ANEMLL's apps read these keys to know what a package is.
#[derive(Debug, Clone)]
pub struct PartMetadata<'a> {
    model: &'a ModelDescription,
    options: &'a LayoutOptions,
    facts: BTreeMap<String, String>,
}

impl<'a> PartMetadata<'a> {
    /// What every package says: `context_length`.
    pub fn new(model: &'a ModelDescription, options: &'a LayoutOptions) -> Self {
        Self { model, options, facts: BTreeMap::new() }
            .with("context_length", model.context.to_string())
    }

    fn with(mut self, key: &str, value: String) -> Self {
        self.facts.insert(format!("{}{key}", anemll::KEYS), value);
        self
    }

    /// `chunk_no`, counted from 1, and `num_chunks`.
    #[must_use]
    pub fn chunk(self, number: u32, chunks: u32) -> Self {
        self.with("chunk_no", number.to_string()).with("num_chunks", chunks.to_string())
    }

    /// `batch_size`, for packages with a function that takes a batch of tokens.
    #[must_use]
    pub fn batch(self) -> Self {
        let batch = self.model.batch.to_string();
        self.with("batch_size", batch)
    }

    /// `lut_bits`, where weights are palettized.
    #[must_use]
    pub fn bits(self, bits: Option<u32>) -> Self {
        match bits {
            Some(bits) => self.with("lut_bits", bits.to_string()),
            None => self,
        }
    }

    /// `vocab_size` and `lm_head_chunk_sizes`, for packages with the head; `argmax_in_model` where
    /// `argmax` says that the head gives the largest logits only.
    #[must_use]
    pub fn head(self, argmax: bool) -> Self {
        let sizes: Vec<String> = self.model.head_splits.iter().map(u64::to_string).collect();
        let vocabulary = self.model.vocabulary_size.to_string();
        let with_head =
            self.with("vocab_size", vocabulary).with("lm_head_chunk_sizes", sizes.join(","));
        if argmax { with_head.with("argmax_in_model", "true".to_owned()) } else { with_head }
    }

    /// `functions`, for packages with several.
    #[must_use]
    pub fn functions(self, names: &[&str]) -> Self {
        self.with("functions", names.join(","))
    }

    /// All of it, with what the user adds to every package. The facts above cannot be overruled;
    /// `com.anemll.info`, which says what made the package, can.
    pub fn finish(self) -> BTreeMap<String, String> {
        let made_by = concat!("Converted with anemll ", env!("CARGO_PKG_VERSION"));
        let mut all = BTreeMap::from([("com.anemll.info".to_owned(), made_by.to_owned())]);
        all.extend(self.options.metadata.clone());
        all.extend(self.facts);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_its_place() {
        let model = ModelDescription::default()
            .with_context(512)
            .with_batch(64)
            .with_vocabulary_size(20)
            .with_head_splits([8, 8, 4]);
        let options = LayoutOptions::default();
        let metadata = PartMetadata::new(&model, &options)
            .chunk(1, 2)
            .batch()
            .bits(Some(4))
            .head(true)
            .functions(&["infer", "prefill"])
            .finish();
        let pairs: Vec<(&str, &str)> =
            metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let info = concat!("Converted with anemll ", env!("CARGO_PKG_VERSION"));
        // What made the package, and what is in it, may differ between parts.
        let shared = pairs.iter().map(|(key, _)| *key);
        let shared: Vec<&str> =
            shared.filter(|key| !key.ends_with(".info") && *key != anemll::FUNCTIONS).collect();
        assert!(shared.iter().all(|key| anemll::SHARED.contains(key)));
        assert_eq!(shared.len() + 1, anemll::SHARED.len(), "the source is added elsewhere");
        assert_eq!(
            pairs,
            [
                ("com.anemll.argmax_in_model", "true"),
                ("com.anemll.batch_size", "64"),
                ("com.anemll.chunk_no", "1"),
                ("com.anemll.context_length", "512"),
                ("com.anemll.functions", "infer,prefill"),
                ("com.anemll.info", info),
                ("com.anemll.lm_head_chunk_sizes", "8,8,4"),
                ("com.anemll.lut_bits", "4"),
                ("com.anemll.num_chunks", "2"),
                ("com.anemll.vocab_size", "20"),
            ]
        );
    }

    #[test]
    fn added_metadata_cannot_overrule_facts() {
        let model = ModelDescription::default().with_context(512);
        let added = [("com.anemll.context_length", "9"), ("com.anemll.info", "mine"), ("x", "y")];
        let metadata =
            added.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let options = LayoutOptions { metadata, ..Default::default() };
        let metadata = PartMetadata::new(&model, &options).bits(None).head(false).finish();
        assert_eq!(metadata["com.anemll.context_length"], "512");
        assert_eq!(metadata["com.anemll.info"], "mine");
        assert_eq!(metadata["x"], "y");
        assert!(!metadata.contains_key("com.anemll.lut_bits"));
        assert!(!metadata.contains_key("com.anemll.argmax_in_model"));
    }
}
