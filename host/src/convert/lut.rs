//! `--lut` and its kin: how many bits each part of the model gets.
//!
//! The flags are ANEMLL's: in the chunked layout `--lut1`, `--lut2` and `--lut3` are for embeddings,
//! layers and head, and `--lut` stands for the latter two; in the monolithic layout `--lut` stands
//! for all, with `--lut-embeddings` and `--lut-lmhead` for exceptions.

use crate::cli::LutArguments;
use anemll_plugin_api::data::BitsPerPart;
use anemll_plugin_api::{Error, Result, codes};
use serde_json::{Map, Value, json};

/// Bits that a LUT's indices can have.
const BITS: [u32; 6] = [1, 2, 3, 4, 6, 8];
/// Output channels that share a LUT when no number is given.
const DEFAULT_GROUP: u32 = 8;

/// Palettization of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lut {
    bits: u32,
    /// Output channels that share a LUT; none is one LUT for the whole tensor.
    group: Option<u32>,
}

/// Palettization of each part; none is float16.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Luts {
    embeddings: Option<Lut>,
    layers: Option<Lut>,
    head: Option<Lut>,
}

impl Lut {
    /// `4`, `4,16`, `4,tensor` or `4,0`; `none` is float16.
    fn parse(flag: &str, text: &str) -> Result<Option<Self>> {
        let refuse = |reason: &str| {
            Error::new(codes::USAGE, format!("{flag} {text}: {reason}")).with_hint(
                "take BITS or BITS,GROUP with 1, 2, 3, 4, 6 or 8 bits, such as 4, 4,16 or \
                 4,tensor; or none",
            )
        };
        if text == "none" {
            return Ok(None);
        }
        let (bits, group) = text.split_once(',').unwrap_or((text, ""));
        let bits: u32 = bits.trim().parse().map_err(|_| refuse("the bits are no number"))?;
        if !BITS.contains(&bits) {
            return Err(refuse("no such number of bits"));
        }
        let group = match group.trim() {
            "" if text.contains(',') => return Err(refuse("the group is missing")),
            "" => Some(DEFAULT_GROUP),
            "tensor" | "0" => None,
            group => Some(group.parse().map_err(|_| refuse("the group is no number"))?),
        };
        Ok(Some(Self { bits, group }))
    }

    /// As the quantizer takes it.
    fn option(lut: Option<Self>) -> String {
        match lut {
            None => "none".to_owned(),
            Some(Self { bits, group: None }) => format!("{bits},tensor"),
            Some(Self { bits, group: Some(group) }) => format!("{bits},{group}"),
        }
    }
}

impl Luts {
    /// What the flags mean; `whole` for a layout in which `--lut` stands for the embeddings too.
    pub(super) fn new(arguments: &LutArguments, whole: bool) -> Result<Self> {
        let parse = |flag: &str, text: &Option<String>| {
            text.as_deref().map(|text| Lut::parse(flag, text)).transpose()
        };
        let all = Lut::parse("--lut", &arguments.lut)?;
        let embeddings = parse("--lut1", &arguments.lut1)?;
        Ok(Self {
            embeddings: embeddings.unwrap_or(if whole { all } else { None }),
            layers: parse("--lut2", &arguments.lut2)?.unwrap_or(all),
            head: parse("--lut3", &arguments.lut3)?.unwrap_or(all),
        })
    }

    /// Whether every part stays float16.
    pub(super) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// For file names and metadata.
    pub(super) fn bits(&self) -> BitsPerPart {
        let bits = |lut: Option<Lut>| lut.map(|lut| lut.bits);
        BitsPerPart {
            embeddings: bits(self.embeddings),
            layers: bits(self.layers),
            head: bits(self.head),
        }
    }

    /// Options of the quantizer `lut`.
    pub(super) fn options(&self) -> Value {
        json!({
            "embeddings": Lut::option(self.embeddings),
            "layers": Lut::option(self.layers),
            "head": Lut::option(self.head),
        })
    }

    /// The keys of meta.yaml beside those with the bits; 0 is one LUT for the whole tensor.
    pub(super) fn group_keys(&self) -> Map<String, Value> {
        let parts = [
            ("lut_embeddings_per_channel", self.embeddings),
            ("lut_ffn_per_channel", self.layers),
            ("lut_lmhead_per_channel", self.head),
        ];
        parts
            .into_iter()
            .filter_map(|(key, lut)| Some((key.to_owned(), json!(lut?.group.unwrap_or(0)))))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(lut: &str) -> LutArguments {
        LutArguments { lut: lut.to_owned(), lut1: None, lut2: None, lut3: None }
    }

    #[test]
    fn the_forms_of_the_flag() {
        let lut = |bits, group| Some(Lut { bits, group });
        for (text, expected) in [
            ("none", None),
            ("4", lut(4, Some(8))),
            ("6,16", lut(6, Some(16))),
            ("8,tensor", lut(8, None)),
            ("2,0", lut(2, None)),
        ] {
            assert_eq!(Lut::parse("--lut", text).unwrap(), expected, "{text}");
        }
        for text in ["5", "0", "-4", "four", "4,", "4,x", "4,-8", ",8", ""] {
            assert_eq!(Lut::parse("--lut", text).unwrap_err().code, codes::USAGE, "{text}");
        }
    }

    #[test]
    fn one_flag_stands_for_what_anemll_has_it_stand_for() {
        let chunked = Luts::new(&arguments("4"), false).unwrap();
        assert_eq!(
            chunked.options(),
            json!({"embeddings": "none", "layers": "4,8", "head": "4,8"})
        );
        let whole = Luts::new(&arguments("4,16"), true).unwrap();
        assert_eq!(whole.bits().embeddings, Some(4));
        assert_eq!(whole.group_keys()["lut_lmhead_per_channel"], 16);
        let apart = LutArguments { lut3: Some("6".to_owned()), ..arguments("none") };
        let apart = Luts::new(&apart, false).unwrap();
        assert_eq!((apart.bits().layers, apart.bits().head), (None, Some(6)));
        assert!(Luts::new(&arguments("none"), true).unwrap().is_none());
    }
}
