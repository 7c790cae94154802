//! How many bits each part of the model gets.

use anemll_palettize::BITS;
use anemll_plugin_api::{ComponentOptions, Error, Result, codes};
use serde::{Deserialize, Serialize};

/// Output channels that share a table when no number is given.
const DEFAULT_GROUP: u64 = 8;

/// Tables of one part, as an option says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lut {
    /// Bits of an index: 1, 2, 3, 4, 6 or 8.
    pub bits: u32,
    /// Output channels that share a table; none is one table for the whole tensor.
    pub group: Option<u64>,
}

/// Tables of each part; none is float16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Options {
    /// The embedding.
    pub embeddings: Option<Lut>,
    /// The matrices of attention and MLP.
    pub layers: Option<Lut>,
    /// The head.
    pub head: Option<Lut>,
}

impl Options {
    /// Reads `embeddings`, `layers` and `head`: `BITS`, `BITS,GROUP`, `BITS,tensor` (or `BITS,0`),
    /// or `none`. What is not there is `none`.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] with the option's name.
    pub fn parse(options: &ComponentOptions) -> Result<Self> {
        let part = |name: &str| match options.string(name)? {
            None => Ok(None),
            Some(text) => Lut::parse(name, text),
        };
        Ok(Self { embeddings: part("embeddings")?, layers: part("layers")?, head: part("head")? })
    }
}

impl Lut {
    fn parse(name: &str, text: &str) -> Result<Option<Self>> {
        if text.trim() == "none" {
            return Ok(None);
        }
        let refuse = |reason: &str| refuse(name, text, reason);
        let (bits, group) = match text.split_once(',') {
            Some((bits, group)) => (bits.trim(), Some(group.trim())),
            None => (text.trim(), None),
        };
        let bits: u32 =
            whole(bits).ok_or_else(|| refuse("does not begin with a number of bits"))?;
        if !BITS.contains(&bits) {
            return Err(refuse("has a number of bits that tables cannot have"));
        }
        let group = match group {
            None => Some(DEFAULT_GROUP),
            Some("tensor" | "0") => None,
            Some(group) => Some(whole(group).filter(|group| *group > 0).ok_or_else(|| {
                refuse("has a group that is neither a number of channels nor `tensor`")
            })?),
        };
        Ok(Some(Self { bits, group }))
    }
}

/// A number in digits; a sign is none.
fn whole<T: std::str::FromStr>(text: &str) -> Option<T> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn refuse(name: &str, text: &str, reason: &str) -> Error {
    Error::new(
        codes::PLUGIN_OPTION_INVALID,
        format!("option {name:?} of the quantizer {reason}: {:?}", text),
    )
    .with_at(name)
    .with_hint(
        "BITS or BITS,GROUP with 1, 2, 3, 4, 6 or 8 bits and a group of output channels, such as \
         4, 4,16 or 4,tensor; or none",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::testing::options;
    use serde_json::json;

    #[test]
    fn the_forms_of_an_option() {
        let lut = |bits, group| Some(Lut { bits, group });
        for (text, expected) in [
            ("none", None),
            (" none ", None),
            ("4", lut(4, Some(8))),
            ("6,16", lut(6, Some(16))),
            (" 6 , 16 ", lut(6, Some(16))),
            ("8,tensor", lut(8, None)),
            ("2,0", lut(2, None)),
            ("3,1", lut(3, Some(1))),
            ("1,18446744073709551615", lut(1, Some(u64::MAX))),
        ] {
            assert_eq!(Lut::parse("layers", text).unwrap(), expected, "{text}");
        }
        assert_eq!(Options::parse(&ComponentOptions::new()).unwrap(), Options::default());
        let options = Options::parse(&options(json!({"layers": "4", "head": "6,tensor"}))).unwrap();
        assert_eq!(
            options,
            Options { embeddings: None, layers: lut(4, Some(8)), head: lut(6, None) }
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
