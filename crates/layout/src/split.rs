//! Which layers each chunk has.

use anemll_plugin_api::data::LayerRange;
use anemll_plugin_api::{Error, Result, codes};

/// Cuts `layers` layers into `chunks` ranges in order: all equally long, but the first
/// `layers mod chunks` have one layer more. ANEMLL splits like this.
///
/// # Errors
/// [`codes::LAYOUT_OPTION_INVALID`] unless there is at least one chunk, and a layer for each.
pub fn layer_ranges(layers: u32, chunks: u32) -> Result<Vec<LayerRange>> {
    if chunks == 0 {
        return Err(Error::new(
            codes::LAYOUT_OPTION_INVALID,
            "the layers cannot be cut into 0 chunks",
        )
        .with_at("--chunk")
        .with_hint("give a number of chunks from 1 on"));
    }
    if chunks > layers {
        return Err(Error::new(
            codes::LAYOUT_OPTION_INVALID,
            format!("the model has {layers} layers, too few for {chunks} chunks"),
        )
        .with_at("--chunk")
        .with_hint(format!("give a number of chunks from 1 to {layers}")));
    }
    let (base, rest) = (layers / chunks, layers % chunks);
    let mut ranges = Vec::new();
    let mut first = 0;
    for index in 0..chunks {
        let end = first + base + u32::from(index < rest);
        ranges.push(LayerRange::new(first, end));
        first = end;
    }
    Ok(ranges)
}

/// Layers in words, counted from 0 as the names of weights count them: `layers 0 to 14 of 30`,
/// `layer 3 of 4`.
pub fn layers_text(range: LayerRange, layers: u32) -> String {
    let first = range.first;
    match range.end.saturating_sub(1) {
        last if last > first => format!("layers {first} to {last} of {layers}"),
        _ => format!("layer {first} of {layers}"),
    }
}

/// Names as a sentence has them: `infer, prefill and verify_8`.
pub fn in_words(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_counted_from_0() {
        assert_eq!(layers_text(LayerRange::new(15, 30), 30), "layers 15 to 29 of 30");
        assert_eq!(layers_text(LayerRange::new(0, 1), 4), "layer 0 of 4");
    }

    #[test]
    fn ranges_cover_all_layers_in_order_with_the_longer_ones_first() {
        for layers in 1..=130 {
            for chunks in 1..=layers {
                let ranges = layer_ranges(layers, chunks).unwrap();
                assert_eq!(ranges.len(), chunks as usize);
                assert_eq!(ranges[0].first, 0);
                assert_eq!(ranges.last().unwrap().end, layers);
                for pair in ranges.windows(2) {
                    assert_eq!(pair[0].end, pair[1].first);
                }
                let lengths: Vec<u32> =
                    ranges.iter().map(|range| range.end - range.first).collect();
                assert!(lengths.windows(2).all(|pair| pair[0] >= pair[1]), "{lengths:?}");
                assert!(lengths[0] - lengths[lengths.len() - 1] <= 1, "{lengths:?}");
            }
        }
    }

    #[test]
    fn thirty_layers_in_four_chunks() {
        let ends: Vec<u32> = layer_ranges(30, 4).unwrap().iter().map(|range| range.end).collect();
        assert_eq!(ends, [8, 16, 23, 30]);
    }

    #[test]
    fn impossible_splits_are_refused() {
        for (layers, chunks) in [(4, 0), (4, 5), (0, 1), (0, 0), (1, u32::MAX)] {
            let error = layer_ranges(layers, chunks).unwrap_err();
            assert_eq!(error.code, codes::LAYOUT_OPTION_INVALID, "{layers} {chunks}");
            assert_eq!(error.at.as_deref(), Some("--chunk"));
        }
    }
}
