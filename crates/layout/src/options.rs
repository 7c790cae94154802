//! What our layouts are made from: the host's request and the combiner's own options, read.

use anemll_plugin_api::data::LayoutRequest;
use anemll_plugin_api::{ComponentOptions, Error, Result, Value, codes};
use serde_json::Map;
use std::collections::BTreeMap;

/// Something for each part of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Parts<T> {
    /// Of the embedding.
    pub embeddings: T,
    /// Of the layers.
    pub layers: T,
    /// Of the head.
    pub head: T,
}

/// How a model is to be laid out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LayoutOptions {
    /// Into how many pieces the layers are cut; the combiner's own default when absent.
    pub chunks: Option<u32>,
    /// The prefix of package names; the model's own when absent.
    pub prefix: Option<String>,
    /// Whether the head gives indices and values in place of logits.
    pub argmax: bool,
    /// Tokens of the function that verifies guesses, where one is wanted.
    pub verify: Option<u64>,
    /// Bits per weight; `None` is float16.
    pub bits: Parts<Option<u32>>,
    /// Rows that share one table, 0 for all of them; `None` where there are no tables.
    pub groups: Parts<Option<u32>>,
    /// Metadata that is added to every package.
    pub metadata: BTreeMap<String, String>,
}

impl LayoutOptions {
    /// The options `chunks`, `argmax` and `verify` of a combiner, and the labels of which names and metadata
    /// speak; others are left alone.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] for options of another type than the manifest says,
    /// [`codes::LAYOUT_OPTION_INVALID`] for bits that no lookup table has.
    pub fn new(options: &ComponentOptions, request: &LayoutRequest) -> Result<Self> {
        let bits = label(&request.labels, "bits")?;
        for (part, bits) in
            [("embeddings", bits.embeddings), ("layers", bits.layers), ("head", bits.head)]
        {
            if bits.is_some_and(|bits: u32| !(1..=8).contains(&bits)) {
                return Err(invalid("bits per weight must be from 1 to 8", part));
            }
        }
        let chunks = options.integer("chunks")?.map(u32::try_from).transpose();
        Ok(Self {
            chunks: chunks.map_err(|_| options.refuse("chunks", "a smaller number"))?,
            prefix: request.prefix.clone(),
            argmax: options.boolean("argmax")?.unwrap_or(false),
            verify: options.integer("verify")?,
            bits,
            groups: label(&request.labels, "group")?,
            metadata: request.metadata.clone(),
        })
    }
}

fn label(labels: &Map<String, Value>, name: &str) -> Result<Parts<Option<u32>>> {
    let of = |part: &str| {
        let key = format!("{name}.{part}");
        let value = labels.get(&key).unwrap_or(&Value::Null);
        number(value).map_err(|()| {
            invalid(&format!("the quantizer's label is {value}, not a whole number"), &key)
        })
    };
    Ok(Parts { embeddings: of("embeddings")?, layers: of("layers")?, head: of("head")? })
}

/// A number, or nothing.
fn number(value: &Value) -> std::result::Result<Option<u32>, ()> {
    match value {
        Value::Null => Ok(None),
        value => value.as_u64().and_then(|value| value.try_into().ok()).map(Some).ok_or(()),
    }
}

fn invalid(message: &str, at: &str) -> Error {
    Error::new(codes::LAYOUT_OPTION_INVALID, message).with_at(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(labels: Value) -> Result<LayoutOptions> {
        let Value::Object(labels) = labels else { panic!("labels are an object") };
        let request = LayoutRequest::default().with_labels(labels);
        LayoutOptions::new(
            &ComponentOptions::new().with("chunks", 3).with("argmax", true).with("verify", 8),
            &request,
        )
    }

    #[test]
    fn options_and_labels_come_together() {
        let found = options(json!({ "bits.head": 6, "group.head": 0, "scheme": "x" })).unwrap();
        assert_eq!((found.chunks, found.argmax, found.verify), (Some(3), true, Some(8)));
        assert_eq!(found.bits, Parts { head: Some(6), ..Parts::default() });
        assert_eq!(found.groups.head, Some(0));
        let nothing =
            LayoutOptions::new(&ComponentOptions::new(), &LayoutRequest::default()).unwrap();
        assert_eq!(nothing, LayoutOptions::default());
    }

    #[test]
    fn impossible_bits_are_refused() {
        for bits in [json!(0), json!(9), json!(u64::MAX), json!(-1), json!("4"), json!(4.5)] {
            let error = options(json!({ "bits.head": bits })).unwrap_err();
            assert_eq!(error.code, codes::LAYOUT_OPTION_INVALID);
            assert!(error.at.unwrap().ends_with("head"));
        }
    }
}
