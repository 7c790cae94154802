//! What the user asks for: bits and groups of each part, in the words of the options.

use anemll_palettize::BITS;
use anemll_plugin_api::{ComponentOptions, Error, Result, codes};
use serde::{Deserialize, Serialize};

/// In place of bits: they are chosen by what they do to the model.
const AUTO: &str = "auto";

/// Output channels that an entry of a table of vectors is for.
pub(crate) const VECTOR: u32 = 2;

/// Numbers that the Neural Engine takes in a table of vectors.
const VECTOR_TABLE: u32 = 256;

/// Output channels that share a table when no number is given.
pub(crate) const DEFAULT_GROUP: u64 = 8;

/// Tables of one part, as an option says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lut {
    /// Bits of an index: 1, 2, 3, 4, 6 or 8.
    pub bits: u32,
    /// Output channels that share a table; none is one table for the whole tensor.
    pub group: Option<u64>,
    /// Whether each output channel has a factor, by which its products are multiplied.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scale: bool,
    /// Whether an index stands for two neighbouring output channels, and has twice as many bits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vector: bool,
}

/// An option as it was given: nothing where it was not, and an inner nothing for `none`, 16-bit
/// floats.
pub type Given = Option<Option<Lut>>;

/// The options as they were given; what they come to is in `parts.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// Whether bits that are not named are chosen by what they do to the model.
    pub auto: bool,
    /// Layers and head; in the monolithic layout the embedding, too.
    pub all: Given,
    /// The embedding.
    pub embeddings: Given,
    /// The matrices of attention and MLP.
    pub layers: Given,
    /// The head.
    pub head: Given,
}

impl Options {
    /// Reads `all`, `embeddings`, `layers` and `head`: `BITS`, `BITS,GROUP`, `BITS,tensor` (or
    /// `BITS,0`), `BITS,scale`, `BITS,vector`, or `none`.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] with the option's name.
    pub fn parse(options: &ComponentOptions) -> Result<Self> {
        let part =
            |name: &str| options.string(name)?.map(|text| Lut::parse(name, text)).transpose();
        let auto = options.string("all")?.is_some_and(|text| text.trim() == AUTO);
        Ok(Self {
            auto,
            all: if auto { None } else { part("all")? },
            embeddings: part("embeddings")?,
            layers: part("layers")?,
            head: part("head")?,
        })
    }
}

impl Options {
    /// Whether tables of vectors are asked for.
    pub(crate) fn have_vectors(&self) -> bool {
        let given = [self.all, self.embeddings, self.layers, self.head];
        given.into_iter().flatten().flatten().any(|lut| lut.vector)
    }
}

impl Lut {
    /// Tables of so many bits for the usual group.
    pub(crate) fn of_bits(bits: u32) -> Option<Self> {
        Some(Self { bits, group: Some(DEFAULT_GROUP), scale: false, vector: false })
    }

    fn parse(name: &str, text: &str) -> Result<Option<Self>> {
        if text.trim() == "none" {
            return Ok(None);
        }
        let refuse = |reason: &str| refuse(name, text, reason);
        let (bits, group) = match text.split_once(',') {
            Some((bits, group)) => (bits.trim(), Some(group.trim())),
            None => (text.trim(), None),
        };
        let bits: u32 = whole(bits).ok_or_else(|| refuse("the bits are not a number"))?;
        if !BITS.contains(&bits) {
            return Err(refuse("no table has this number of bits"));
        }
        let vector = group == Some("vector");
        if vector && !fits_vectors(bits) {
            return Err(refuse(&format!(
                "`vector` takes 1, 2 or 3 bits: with {bits}, the table has more than the {VECTOR_TABLE} \
                 numbers that the Neural Engine takes"
            )));
        }
        let scale = vector || group == Some("scale");
        let group = match group {
            None => Some(DEFAULT_GROUP),
            Some("") => return Err(refuse("the group is missing")),
            Some("tensor" | "scale" | "vector" | "0") => None,
            Some(group) => Some(whole(group).filter(|group| *group > 0).ok_or_else(|| {
                refuse(
                    "what follows the comma is not a number of output channels, `tensor`, `scale` or `vector`",
                )
            })?),
        };
        Ok(Some(Self { bits, group, scale, vector }))
    }

    /// Bits of an index.
    pub(crate) fn index_bits(self) -> u32 {
        if self.vector { self.bits * VECTOR } else { self.bits }
    }

    /// As an option says it.
    pub(crate) fn text(lut: Option<Self>) -> String {
        match lut {
            None => "none".to_owned(),
            Some(Self { bits, vector: true, .. }) => format!("{bits},vector"),
            Some(Self { bits, scale: true, .. }) => format!("{bits},scale"),
            Some(Self { bits, group: None, .. }) => format!("{bits},tensor"),
            Some(Self { bits, group: Some(group), .. }) => format!("{bits},{group}"),
        }
    }
}

/// Whether the table of vectors with so many bits a weight is small enough for the Neural Engine.
pub(crate) fn fits_vectors(bits: u32) -> bool {
    bits * VECTOR <= 8 && VECTOR << (bits * VECTOR) <= VECTOR_TABLE
}

/// A number in digits; a sign is none.
fn whole<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn refuse(name: &str, text: &str, reason: &str) -> Error {
    Error::new(codes::PLUGIN_OPTION_INVALID, format!("option {name:?}: {text:?}: {reason}"))
        .with_at(name)
        .with_hint(
            "take BITS or BITS,GROUP with 1, 2, 3, 4, 6 or 8 bits and a group of output channels, \
             such as 4, 4,16, 4,tensor, 4,scale (one table, and a factor for each output channel) or \
             2,vector (the same with one index for every two output channels); or none",
        )
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::testing::options;
    use serde_json::json;

    #[test]
    fn the_forms_of_an_option() {
        let lut = |bits, group| Some(Lut { bits, group, scale: false, vector: false });
        for (text, expected) in [
            ("none", None),
            (" none ", None),
            ("4", lut(4, Some(8))),
            ("6,16", lut(6, Some(16))),
            (" 6 , 16 ", lut(6, Some(16))),
            ("8,tensor", lut(8, None)),
            ("2,0", lut(2, None)),
            (" 4, scale", Some(Lut { bits: 4, group: None, scale: true, vector: false })),
            ("2,vector", Some(Lut { bits: 2, group: None, scale: true, vector: true })),
            ("3,vector", Some(Lut { bits: 3, group: None, scale: true, vector: true })),
            ("3,1", lut(3, Some(1))),
            ("1,18446744073709551615", lut(1, Some(u64::MAX))),
        ] {
            let read = Lut::parse("layers", text).unwrap();
            assert_eq!(read, expected, "{text}");
            assert_eq!(Lut::parse("layers", &Lut::text(read)).unwrap(), read);
        }
        assert_eq!(Options::parse(&ComponentOptions::new()).unwrap(), Options::default());
        let given = options(json!({"layers": "4", "head": "6,tensor", "embeddings": "none"}));
        assert_eq!(
            Options::parse(&given).unwrap(),
            Options {
                auto: false,
                all: None,
                embeddings: Some(None),
                layers: Some(lut(4, Some(8))),
                head: Some(lut(6, None))
            }
        );
    }

    #[test]
    fn what_is_no_option_is_refused_by_name() {
        for text in [
            "",
            "5",
            "0",
            "7",
            "16",
            "-4",
            "+4",
            "four",
            "4,",
            "4,x",
            "4,-8",
            "4,+8",
            "4,8,8",
            ",8",
            "None",
            "4,Tensor",
            "4,Scale",
            "4,8,scale",
            "4,vector",
            "8,vector",
            "2,Vector",
            "2,8,vector",
            "4.0",
            "4,8.5",
            "4;8",
            "99999999999",
            "4,18446744073709551616",
            "4,00",
            "\u{1b}[2J",
        ] {
            let error = Options::parse(&options(json!({ "head": text }))).unwrap_err();
            assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID, "{text}");
            assert_eq!(error.at.as_deref(), Some("head"));
            assert!(error.message.contains("\"head\""), "{error}");
            assert!(error.hint.as_deref().unwrap().contains("1, 2, 3, 4, 6 or 8"));
            assert!(!error.message.contains(char::is_control));
        }
        for value in [json!(4), json!({"bits": 4}), json!(true), json!(["4"])] {
            let error = Options::parse(&options(json!({ "layers": value }))).unwrap_err();
            assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
        }
    }
}
