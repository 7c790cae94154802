//! File names of packages, without their ending: `llama_FFN_PF_lut4_chunk_01of02`.

/// The part with the embedding.
pub const EMBEDDINGS: &str = "embeddings";
/// The part with the head.
pub const HEAD: &str = "lm_head";
/// A chunk that takes one token.
pub const INFER: &str = "FFN";
/// A chunk that takes a batch of tokens.
pub const PREFILL: &str = "prefill";
/// A chunk with both functions.
pub const COMBINED: &str = "FFN_PF";
/// A whole model that takes one token.
pub const WHOLE: &str = "monolithic";
/// A whole model that takes a batch of tokens.
pub const WHOLE_PREFILL: &str = "monolithic_prefill";
/// A whole model with both functions, as `convert_monolith.sh` combines it.
pub const WHOLE_COMBINED: &str = "monolithic_combined";
/// A whole model with both functions, as ANEMLL publishes it.
pub const WHOLE_FULL: &str = "monolithic_full";

/// The parts that [`Stem::read`] tells apart, longer endings before those that they end in.
const PARTS: [&str; 9] =
    [COMBINED, INFER, WHOLE_PREFILL, WHOLE_COMBINED, WHOLE_FULL, WHOLE, PREFILL, EMBEDDINGS, HEAD];
/// Stands between a stem and the number of its chunk.
const CHUNK: &str = "_chunk_";

/// `_lut4` for 4 bits, nothing for float16.
pub fn lut_suffix(bits: Option<u32>) -> String {
    bits.map_or_else(String::new, |bits| format!("_lut{bits}"))
}

/// The stem of a part: `llama_lm_head_lut6`, or `llama_FFN_lut4_chunk_01of02` for the first of two
/// chunks, which are counted from 1.
pub fn stem(prefix: &str, part: &str, bits: Option<u32>, chunk: Option<(u32, u32)>) -> String {
    let mut stem = format!("{prefix}_{part}{}", lut_suffix(bits));
    if let Some((number, count)) = chunk {
        stem += &format!("{CHUNK}{number:02}of{count:02}");
    }
    stem
}

/// The second file of a chunk, in conversions whose caches rotate.
pub fn rotating(stem: &str) -> Option<String> {
    stem.contains("_FFN").then(|| format!("{stem}_rot"))
}

/// A stem taken apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stem {
    /// The first part, such as `llama`.
    pub prefix: String,
    /// One of the parts above, such as [`INFER`].
    pub part: &'static str,
    /// Bits of the lookup tables, where the name says so.
    pub bits: Option<u32>,
    /// Number, from 1, and count.
    pub chunk: Option<(u32, u32)>,
}

impl Stem {
    /// Takes a stem apart; `None` for names of another form.
    pub fn read(stem: &str) -> Option<Self> {
        let (front, chunk) = match stem.rsplit_once(CHUNK) {
            Some((front, numbers)) => {
                let (number, count) = numbers.split_once("of")?;
                (front, Some((digits(number)?, digits(count)?)))
            }
            None => (stem, None),
        };
        let (front, bits) = match front.rsplit_once("_lut") {
            Some((rest, bits)) if digits(bits).is_some() => (rest, digits(bits)),
            _ => (front, None),
        };
        let found = PARTS
            .into_iter()
            .find_map(|part| Some((front.strip_suffix(part)?.strip_suffix('_')?, part)));
        let (prefix, part) = found.filter(|(prefix, _)| !prefix.is_empty())?;
        Some(Self { prefix: prefix.to_owned(), part, bits, chunk })
    }

    /// The stems of all chunks, of which `first` names the first; that alone, where it names none.
    pub(super) fn of_chunks(first: &str, count: u32) -> Vec<String> {
        match first.rsplit_once(CHUNK) {
            Some((front, _)) => {
                (1..=count).map(|number| format!("{front}{CHUNK}{number:02}of{count:02}")).collect()
            }
            None => vec![first.to_owned()],
        }
    }
}

fn digits(text: &str) -> Option<u32> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_are_read_as_they_are_written() {
        for part in PARTS {
            for bits in [None, Some(4)] {
                for chunk in [None, Some((1, 2)), Some((12, 126))] {
                    let text = stem("my_lut_x", part, bits, chunk);
                    let read = Stem::read(&text).unwrap();
                    let expected = Stem { prefix: "my_lut_x".to_owned(), part, bits, chunk };
                    assert_eq!(read, expected, "{text}");
                }
            }
        }
        assert_eq!(stem("llama", INFER, Some(4), Some((1, 2))), "llama_FFN_lut4_chunk_01of02");
        assert_eq!(lut_suffix(None), "");
    }

    #[test]
    fn other_names_are_not_read() {
        for name in [
            "llama",
            "_FFN_chunk_01of02",
            "llama_FFN_chunk_01",
            "llama_FFN_chunk_1xof2",
            "llama_FFN_chunk_01of99999999999",
            "llama_pair_1",
            "",
        ] {
            assert_eq!(Stem::read(name), None, "{name}");
        }
    }
}
