//! `--lut` and its kin: how many bits each part of the model gets.
//!
//! Without a flag, embeddings and head take 8 bits and layers 6, or 4 where the model is large.
//!
//! The flags are ANEMLL's: in the chunked layout `--lut1`, `--lut2` and `--lut3` are for embeddings,
//! layers and head, and `--lut` stands for the latter two; in the monolithic layout `--lut` stands
//! for all, with `--lut-embeddings` and `--lut-lmhead` for exceptions.

use anemll_layout::Parts;
use anemll_plugin_api::{Error, Result, codes};
use serde_json::{Map, Value, json};

/// Bits that a LUT's indices can have.
const BITS: [u32; 6] = [1, 2, 3, 4, 6, 8];
/// Output channels that share a LUT when no number is given.
const DEFAULT_GROUP: u32 = 8;
/// From this many parameters on, layers take 4 bits by default: a large model loses less by it, and
/// its size matters more.
const LARGE: u64 = 3_000_000_000;

/// The flags as they were typed; see docs/guide/flags.md.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LutFlags {
    /// Of layers and head, or of all parts.
    pub lut: Option<String>,
    /// Of the embeddings.
    pub lut1: Option<String>,
    /// Of the layers.
    pub lut2: Option<String>,
    /// Of the head.
    pub lut3: Option<String>,
}

impl LutFlags {
    /// Whether any of them was typed.
    pub fn is_typed(&self) -> bool {
        self.lut.is_some() || self.lut1.is_some() || self.lut2.is_some() || self.lut3.is_some()
    }
}

/// Palettization of one part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lut {
    /// Bits of an index.
    pub bits: u32,
    /// Output channels that share a LUT; none is one LUT for the whole tensor.
    pub group: Option<u32>,
}

/// Palettization of each part; none is float16.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Luts {
    /// The token embeddings.
    pub embeddings: Option<Lut>,
    /// The transformer layers.
    pub layers: Option<Lut>,
    /// The output head.
    pub head: Option<Lut>,
}

impl Lut {
    /// `4`, `4,16`, `4,tensor` or `4,0`; `none` is float16.
    ///
    /// # Errors
    /// [`codes::USAGE`] for another text.
    pub fn parse(flag: &str, text: &str) -> Result<Option<Self>> {
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
        let bits: u32 = bits.trim().parse().map_err(|_| refuse("the bits are not a number"))?;
        if !BITS.contains(&bits) {
            return Err(refuse("no such number of bits"));
        }
        let group = match group.trim() {
            "" if text.contains(',') => return Err(refuse("the group is missing")),
            "" => Some(DEFAULT_GROUP),
            "tensor" | "0" => None,
            group => Some(group.parse().map_err(|_| refuse("the group is not a number"))?),
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
    /// What is taken when no flag is typed, for a model of so many parameters.
    pub fn usual(parameters: u64) -> Self {
        let bits = |bits| Some(Lut { bits, group: Some(DEFAULT_GROUP) });
        let layers = if parameters < LARGE { bits(6) } else { bits(4) };
        Self { embeddings: bits(8), layers, head: bits(8) }
    }

    /// What the flags mean for a model of so many parameters; `whole` for a layout in which `--lut`
    /// stands for the embeddings too.
    ///
    /// One flag is enough to mean ANEMLL's bits for the other parts: 4 for all in the monolithic
    /// layout; 4 for the layers, 6 for the head and none for the embeddings in the chunked one.
    ///
    /// # Errors
    /// [`codes::USAGE`] for a flag that cannot be understood.
    pub fn new(arguments: &LutFlags, whole: bool, parameters: u64) -> Result<Self> {
        if !arguments.is_typed() {
            return Ok(Self::usual(parameters));
        }
        let parse = |flag: &str, text: &Option<String>| {
            text.as_deref().map(|text| Lut::parse(flag, text)).transpose()
        };
        let all = parse("--lut", &arguments.lut)?;
        let bits = |bits| Some(Lut { bits, group: Some(DEFAULT_GROUP) });
        let defaults = if whole {
            let all = all.unwrap_or(bits(4));
            Self { embeddings: all, layers: all, head: all }
        } else {
            Self { embeddings: None, layers: all.unwrap_or(bits(4)), head: all.unwrap_or(bits(6)) }
        };
        Ok(Self {
            embeddings: parse("--lut1", &arguments.lut1)?.unwrap_or(defaults.embeddings),
            layers: parse("--lut2", &arguments.lut2)?.unwrap_or(defaults.layers),
            head: parse("--lut3", &arguments.lut3)?.unwrap_or(defaults.head),
        })
    }

    /// The flags that give the bits of ANEMLL's scripts.
    pub(super) fn flags_of_scripts(whole: bool) -> &'static str {
        if whole { "--lut 4" } else { "--lut2 4 --lut3 6" }
    }

    /// One line for users, such as `layers 4 bits, head 6 bits`.
    pub(super) fn summary(&self) -> String {
        let parts = [("embeddings", self.embeddings), ("layers", self.layers), ("head", self.head)];
        let said: Vec<String> = parts
            .into_iter()
            .filter_map(|(part, lut)| Some(format!("{part} {} bits", lut?.bits)))
            .collect();
        if said.is_empty() { "16-bit floats".to_owned() } else { said.join(", ") }
    }

    /// Whether every part stays float16.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// For file names and metadata.
    pub fn bits(&self) -> Parts<Option<u32>> {
        let bits = |lut: Option<Lut>| lut.map(|lut| lut.bits);
        Parts {
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

    /// What the combiner is told, for names and metadata.
    pub(super) fn labels(&self) -> Map<String, Value> {
        let parts = [("embeddings", self.embeddings), ("layers", self.layers), ("head", self.head)];
        let of = |(part, lut): (&str, Option<Lut>)| {
            let Lut { bits, group } = lut?;
            let bits = (format!("bits.{part}"), json!(bits));
            Some([bits, (format!("group.{part}"), json!(group.unwrap_or(0)))])
        };
        parts.into_iter().filter_map(of).flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(lut: &str) -> LutFlags {
        LutFlags { lut: Some(lut.to_owned()), ..LutFlags::default() }
    }

    /// What typed flags mean, which does not depend on the model.
    fn typed(arguments: &LutFlags, whole: bool) -> Result<Luts> {
        let luts = Luts::new(arguments, whole, 0);
        if let Ok(luts) = &luts {
            assert_eq!(Luts::new(arguments, whole, u64::MAX).unwrap(), *luts);
        }
        luts
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
        let chunked = typed(&arguments("4"), false).unwrap();
        assert_eq!(
            chunked.options(),
            json!({"embeddings": "none", "layers": "4,8", "head": "4,8"})
        );
        let whole = typed(&arguments("4,16"), true).unwrap();
        assert_eq!(whole.bits().embeddings, Some(4));
        assert_eq!(whole.labels()["group.head"], 16);
        let apart = LutFlags { lut3: Some("6".to_owned()), ..arguments("none") };
        let apart = typed(&apart, false).unwrap();
        assert_eq!((apart.bits().layers, apart.bits().head), (None, Some(6)));
        assert!(typed(&arguments("none"), true).unwrap().is_none());
    }

    #[test]
    fn without_a_flag_the_bits_are_by_size() {
        let bits = |parameters| {
            [false, true].map(|whole| {
                let luts = Luts::new(&LutFlags::default(), whole, parameters).unwrap();
                let bits = luts.bits();
                [bits.embeddings, bits.layers, bits.head]
            })
        };
        assert_eq!(bits(2_999_999_999), [[Some(8), Some(6), Some(8)]; 2]);
        assert_eq!(bits(3_000_000_000), [[Some(8), Some(4), Some(8)]; 2]);
    }

    #[test]
    fn the_flags_of_the_scripts_give_their_bits() {
        let bits = |line: &str, whole| {
            let mut words = line.split(' ');
            let mut flags = LutFlags::default();
            while let (Some(flag), Some(value)) = (words.next(), words.next()) {
                let value = Some(value.to_owned());
                match flag {
                    "--lut" => flags.lut = value,
                    "--lut2" => flags.lut2 = value,
                    _ => flags.lut3 = value,
                }
            }
            let bits = typed(&flags, whole).unwrap().bits();
            [bits.embeddings, bits.layers, bits.head]
        };
        assert_eq!(bits(Luts::flags_of_scripts(false), false), [None, Some(4), Some(6)]);
        assert_eq!(bits(Luts::flags_of_scripts(true), true), [Some(4); 3]);
        let head = LutFlags { lut3: Some("none".to_owned()), ..LutFlags::default() };
        assert_eq!(typed(&head, true).unwrap().bits().layers, Some(4));
        assert_eq!(typed(&head, true).unwrap().bits().head, None);
        assert_eq!(typed(&head, false).unwrap().summary(), "layers 4 bits");
    }
}
