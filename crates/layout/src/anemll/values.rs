//! Names of the values that go into functions and come out of them.

use std::collections::BTreeMap;

/// Token ids, (1, tokens).
pub const INPUT_TOKENS: &str = "input_ids";
/// The position of each token, (tokens).
pub const INPUT_POSITIONS: &str = "position_ids";
/// The position of the first token, (1).
pub const INPUT_POSITION: &str = "current_pos";
/// Which positions a token sees, (1, 1, tokens, context).
pub const INPUT_MASK: &str = "causal_mask";
/// What the names of states that hold keys and values begin with.
const CACHE: &str = "model_model_kv_cache_";
/// What those of them end in that do not hold the whole context.
const WINDOW: &str = "_local";
/// The index of the largest logit of each piece of the head, from the piece's first row on.
pub const LARGEST_INDEX: &str = "argmax_idx";
/// The largest logit of each piece of the head.
pub const LARGEST_VALUE: &str = "argmax_val";

/// How much each token of a batch counts in the vector of its text, (1, 1, tokens).
pub const POOLING_WEIGHTS: &str = "pooling_weights";
/// What the earlier batches of a text have come to, (1, 1, hidden); zeros for the first.
pub const POOLED: &str = "pooled";
/// The same with this batch, as it comes out.
pub const POOLED_OUTPUT: &str = "output_pooled";
/// The vector of what there is of a text, (1, 1, dimension).
pub const EMBEDDING: &str = "embedding";

/// What the residual stream is called where it goes in, and where it comes out.
const HIDDEN: &str = "hidden_states";
const HIDDEN_OUTPUT: &str = "output_hidden_states";
/// A head in one piece, and, with a number from 1 behind it, one of several.
const LOGITS: &str = "logits";

/// Which input takes which output of an earlier function: one part's residual stream is the next
/// part's.
pub fn feeds() -> BTreeMap<String, String> {
    BTreeMap::from([(HIDDEN_OUTPUT.to_owned(), HIDDEN.to_owned())])
}

/// Those of the outputs that are logits, each once, in the order of the vocabulary.
pub fn logits<'a>(outputs: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut found: Vec<(u32, &str)> = outputs
        .into_iter()
        .filter_map(|name| match name.strip_prefix(LOGITS)? {
            "" => Some((0, name)),
            number => Some((number.parse().ok()?, name)),
        })
        .collect();
    found.sort_unstable();
    found.dedup();
    found.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// The rows of each piece, as [`HEAD_SIZES`](super::HEAD_SIZES) lists them.
pub fn head_sizes(text: &str) -> Vec<u64> {
    text.split(',').filter_map(|size| size.trim().parse().ok()).collect()
}

/// Whether a state holds the keys and values of the whole context, by its name.
pub fn is_cache(state: &str) -> bool {
    state.starts_with(CACHE) && !state.ends_with(WINDOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_come_in_the_order_of_their_numbers() {
        let names = ["logits10", "argmax_idx", "logits2", "logits1", "logits_x", "logits2"];
        assert_eq!(logits(names), ["logits1", "logits2", "logits10"]);
        assert_eq!(logits(["logits"]), ["logits"]);
        assert_eq!(head_sizes("8, 8,4"), [8, 8, 4]);
    }

    #[test]
    fn caches_of_windows_are_told_from_whole_ones() {
        let caches = ["0", "global", "local"].map(|end| is_cache(&format!("{CACHE}{end}")));
        assert_eq!(caches, [true, true, false]);
        assert!(!is_cache("model_model_conv_cache_0"));
    }
}
