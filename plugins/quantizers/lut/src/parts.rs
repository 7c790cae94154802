//! How many bits each part of a model gets.
//!
//! Without an option, embeddings and head take 8 bits and layers 6, or 4 where the model is large.
//! One option is enough to mean the bits of ANEMLL's scripts for the other parts: 4 for all where the
//! model is one package, for which `all` stands for the embedding, too; else 4 for the layers, 6 for
//! the head and none for the embedding.

use crate::options::{Lut, Options};
use anemll_plugin_api::Value;
use anemll_plugin_api::data::{Outline, Scheme};
use serde_json::{Map, json};

/// From this many parameters on, layers take 4 bits by default: a large model loses less by it, and
/// its size matters more.
const LARGE: u64 = 3_000_000_000;

/// Tables of each part; none is float16.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Parts {
    /// The embedding.
    pub(crate) embeddings: Option<Lut>,
    /// The matrices of attention and MLP.
    pub(crate) layers: Option<Lut>,
    /// The head.
    pub(crate) head: Option<Lut>,
}

impl Parts {
    /// What options come to for a conversion.
    pub(crate) fn new(options: &Options, outline: &Outline) -> Self {
        if options.auto || *options == Options::default() {
            let usual = Self::usual(outline.parameters);
            return Self {
                embeddings: options.embeddings.unwrap_or(usual.embeddings),
                layers: options.layers.unwrap_or(usual.layers),
                head: options.head.unwrap_or(usual.head),
            };
        }
        let (all, bits) = (options.all, Lut::of_bits);
        let defaults = if outline.whole {
            let all = all.unwrap_or(bits(4));
            Self { embeddings: all, layers: all, head: all }
        } else {
            Self { embeddings: None, layers: all.unwrap_or(bits(4)), head: all.unwrap_or(bits(6)) }
        };
        Self {
            embeddings: options.embeddings.unwrap_or(defaults.embeddings),
            layers: options.layers.unwrap_or(defaults.layers),
            head: options.head.unwrap_or(defaults.head),
        }
    }

    /// What is taken when no option is given, for a model of so many parameters.
    fn usual(parameters: u64) -> Self {
        let bits = Lut::of_bits;
        let layers = if parameters < LARGE { bits(6) } else { bits(4) };
        Self { embeddings: bits(8), layers, head: bits(8) }
    }

    /// Each part by its name.
    pub(crate) fn named(&self) -> [(&'static str, Option<Lut>); 3] {
        [("embeddings", self.embeddings), ("layers", self.layers), ("head", self.head)]
    }
}

/// Whether a model is large.
pub(crate) fn is_large(outline: &Outline) -> bool {
    outline.parameters >= LARGE
}

/// Whether the bits of a part are left to measures.
pub(crate) fn is_open(options: &Options, part: &str) -> bool {
    let given = match part {
        "embeddings" => options.embeddings,
        "layers" => options.layers,
        _ => options.head,
    };
    given.is_none() && options.all.is_none()
}

/// What is said of a conversion before it is planned; `open`: bits that are not named are chosen by
/// measures.
pub(crate) fn scheme(options: &Options, outline: &Outline, open: bool) -> Scheme {
    let parts = Parts::new(options, outline);
    let mut labels = Map::new();
    let mut record = Map::new();
    let mut said = Vec::new();
    for (name, lut) in parts.named() {
        if open && is_open(options, name) {
            record.insert(name.to_owned(), json!("auto"));
            said.push(format!("{name} by measures"));
            continue;
        }
        record.insert(name.to_owned(), json!(Lut::text(lut)));
        if let Some(lut) = lut {
            labels.insert(format!("bits.{name}"), json!(lut.bits));
            labels.insert(format!("group.{name}"), json!(lut.group.unwrap_or(0)));
            said.push(format!("{name} {} bits", lut.bits));
        }
    }
    let idle = said.is_empty();
    let mut summary = if idle { "16-bit floats".to_owned() } else { said.join(", ") };
    if open {
        "the fewest bits that keep the model close to the original".clone_into(&mut summary);
    }
    if *options == Options::default() {
        let scripts = if outline.whole { "--lut 4" } else { "--lut2 4 --lut3 6" };
        summary += &format!(" (ANEMLL's bits: {scripts}; 16-bit floats: --lut none)");
    }
    let record = Map::from_iter([("lut".to_owned(), Value::Object(record))]);
    Scheme::default()
        .with_idle(idle)
        .with_labels(labels)
        .with_record(record)
        .with_summary(summary)
        .with_open(open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::testing;

    fn bits(given: Value, whole: bool, parameters: u64) -> [Option<u32>; 3] {
        let options = Options::parse(&testing::options(given)).unwrap();
        let outline = Outline::new(parameters, 4).with_whole(whole);
        Parts::new(&options, &outline).named().map(|(_, lut)| lut.map(|lut| lut.bits))
    }

    #[test]
    fn one_option_stands_for_what_anemll_has_it_stand_for() {
        for (given, chunked, whole) in [
            (json!({"all": "4"}), [None, Some(4), Some(4)], [Some(4); 3]),
            (json!({"all": "none", "head": "6"}), [None, None, Some(6)], [None, None, Some(6)]),
            (json!({"all": "none"}), [None; 3], [None; 3]),
            (
                json!({"layers": "4", "head": "6"}),
                [None, Some(4), Some(6)],
                [Some(4), Some(4), Some(6)],
            ),
            (json!({"head": "none"}), [None, Some(4), None], [Some(4), Some(4), None]),
            (json!({"embeddings": "8"}), [Some(8), Some(4), Some(6)], [Some(8), Some(4), Some(4)]),
        ] {
            // What is given does not depend on the model.
            for parameters in [0, u64::MAX] {
                assert_eq!(bits(given.clone(), false, parameters), chunked, "{given}");
                assert_eq!(bits(given.clone(), true, parameters), whole, "{given}");
            }
        }
    }

    #[test]
    fn without_an_option_the_bits_are_by_size() {
        for whole in [false, true] {
            assert_eq!(bits(json!({}), whole, 2_999_999_999), [Some(8), Some(6), Some(8)]);
            assert_eq!(bits(json!({}), whole, 3_000_000_000), [Some(8), Some(4), Some(8)]);
        }
    }

    fn scheme_of(given: Value, whole: bool) -> Scheme {
        let options = Options::parse(&testing::options(given)).unwrap();
        scheme(&options, &Outline::default().with_whole(whole), false)
    }

    #[test]
    fn names_metadata_and_users_learn_the_bits() {
        let found = scheme_of(json!({"layers": "4,16", "head": "6,tensor"}), false);
        assert!(!found.idle);
        assert_eq!(
            Value::Object(found.labels),
            json!({"bits.layers": 4, "group.layers": 16, "bits.head": 6, "group.head": 0})
        );
        assert_eq!(
            Value::Object(found.record),
            json!({"lut": {"embeddings": "none", "layers": "4,16", "head": "6,tensor"}})
        );
        assert_eq!(found.summary, "layers 4 bits, head 6 bits");
        let nothing = scheme_of(json!({"all": "none"}), true);
        assert!(nothing.idle && nothing.labels.is_empty());
        assert_eq!(nothing.summary, "16-bit floats");
        assert_eq!(nothing.record["lut"]["head"], "none");
    }

    /// The flags that the line for users names do give ANEMLL's bits.
    #[test]
    fn without_an_option_users_learn_the_flags() {
        let chunked = scheme_of(json!({}), false).summary;
        assert!(chunked.ends_with("(ANEMLL's bits: --lut2 4 --lut3 6; 16-bit floats: --lut none)"));
        let whole = scheme_of(json!({}), true).summary;
        assert!(whole.ends_with("(ANEMLL's bits: --lut 4; 16-bit floats: --lut none)"));
        assert_eq!(bits(json!({"layers": "4", "head": "6"}), false, 1), [None, Some(4), Some(6)]);
        assert_eq!(bits(json!({"all": "4"}), true, 1), [Some(4); 3]);
    }
}
