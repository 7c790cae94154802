//! How often a program uses each operation, under the names of the summary.
//!
//! A name has the opset in which Apple last changed the operation as a prefix, where that is not
//! later than the function's own. Which opset changed what is not published: the table is read off
//! summaries of compiled models, and off the names that compute plans of Core ML show, which are
//! the same.

use super::{Guesses, visit};
use coreml_proto::mil;
use std::collections::BTreeMap;

/// Operations, and the opsets (of iOS) that changed them.
const CHANGES: &[(&[u32], &str)] = &[
    (
        &[16, 17, 18],
        "add cast clip conv conv_transpose equal floor_div gather gather_nd greater greater_equal \
         inverse layer_norm batch_norm instance_norm l2_norm local_response_norm leaky_relu less \
         less_equal linear linear_activation log lstm matmul maximum minimum mod mul not_equal \
         pow prelu real_div reshape rsqrt scaled_tanh sub topk elu thresholded_relu clamped_relu \
         sigmoid_hard softplus_parametric",
    ),
    (
        &[17, 18],
        "abs ceil concat crop_resize expand_dims floor gather_along_axis logical_and logical_not \
         logical_or logical_xor non_maximum_suppression resample resize reverse reverse_sequence \
         round scatter scatter_along_axis scatter_nd sign slice_by_index slice_by_size \
         sliding_windows squeeze transpose",
    ),
    (
        &[16, 18],
        "acos asin atan atanh cos cosh erf exp exp2 gelu gru relu relu6 rnn sigmoid silu sin sinh \
         softmax softplus softsign sqrt square tan tanh constexpr_lut_to_dense \
         constexpr_sparse_to_dense",
    ),
    (&[16, 17], "reduce_argmax reduce_argmin"),
    (
        &[16],
        "avg_pool constexpr_affine_dequantize constexpr_cast einsum fill_like l2_pool max_pool \
         pixel_unshuffle reduce_l1_norm reduce_l2_norm reduce_log_sum reduce_log_sum_exp \
         reduce_max reduce_mean reduce_min reduce_prod reduce_sum reduce_sum_square reshape_like \
         upsample_bilinear upsample_nearest_neighbor",
    ),
    (&[17], "dequantize quantize"),
    (
        &[18],
        "constexpr_blockwise_shift_scale constexpr_lut_to_sparse \
         constexpr_sparse_blockwise_shift_scale read_state scaled_dot_product_attention \
         slice_update write_state",
    ),
    (
        &[],
        "argsort band_part cond cumsum depth_to_space fill flatten2d identity list_gather \
         list_length list_read list_scatter list_write make_list non_zero one_hot pad \
         pixel_shuffle range_1d select shape space_to_depth split stack tile while_loop",
    ),
];

/// What was seen, for functions of each opset.
const SEEN: &[(u32, &str)] = &[
    (
        16,
        "add cast clip concat constexpr_affine_dequantize constexpr_lut_to_dense \
         constexpr_sparse_to_dense conv einsum expand_dims leaky_relu log lstm mul pad pow \
         reduce_argmax reduce_max reduce_mean relu reshape sigmoid slice_by_index sqrt square \
         squeeze sub tile transpose",
    ),
    (
        17,
        "add cast clip concat constexpr_affine_dequantize constexpr_lut_to_dense conv \
         expand_dims floor floor_div gather gather_along_axis greater_equal identity \
         instance_norm layer_norm less linear log logical_and logical_not lstm matmul maximum \
         minimum mul pad pow range_1d reduce_argmax reduce_sum relu reshape select shape sigmoid \
         silu slice_by_index softmax split squeeze stack sub tile topk transpose",
    ),
    (
        18,
        "add cast concat constexpr_blockwise_shift_scale constexpr_lut_to_dense conv equal \
         expand_dims fill gather gelu greater_equal layer_norm linear matmul mul pad pow \
         range_1d read_state real_div reduce_mean reduce_sum relu reshape rsqrt \
         scaled_dot_product_attention select shape sigmoid silu sin slice_by_index slice_update \
         softmax split squeeze sub tanh tile topk transpose upsample_bilinear write_state",
    ),
];

/// The opset of iOS that a function's opset stands for.
fn opset_of(name: &str) -> Option<u32> {
    match name {
        "CoreML5" => Some(15),
        "CoreML6" => Some(16),
        "CoreML7" => Some(17),
        "CoreML8" => Some(18),
        _ => None,
    }
}

/// How often each operation stands in a function, constants left out, by the summary's name.
pub(super) fn histogram(
    function: &mil::Function,
    guesses: &mut Guesses,
) -> Result<BTreeMap<String, u64>, String> {
    let block = anemll_mil::model::block(function).map_err(|error| error.to_string())?;
    let opset = opset_of(&function.opset)
        .ok_or_else(|| format!("the opset {:?} is not known", function.opset))?;
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    visit(block, &mut |operation| {
        if operation.r#type != "const" {
            *counts.entry(&operation.r#type).or_default() += 1;
        }
    });
    let mut histogram = BTreeMap::new();
    for (operation, count) in counts {
        let seen = SEEN.iter().find(|(known, _)| *known == opset);
        // The first opset changed nothing, so there is nothing to guess.
        if opset > 15 && !seen.is_some_and(|(_, list)| names(list, operation)) {
            guesses.add(
                "metadata.json: the prefix of an operation in the histogram",
                operation,
                "operations of its kind have this prefix",
            );
        }
        *histogram.entry(told(operation, opset)).or_default() += count;
    }
    Ok(histogram)
}

fn names(list: &str, operation: &str) -> bool {
    list.split(' ').any(|name| name == operation)
}

/// `Ios16.reduceMean`, or `SliceByIndex` where no opset changed the operation.
fn told(operation: &str, opset: u32) -> String {
    let changes = CHANGES.iter().find(|(_, list)| names(list, operation)).map(|row| row.0);
    let changed = changes.unwrap_or_default().iter().rfind(|change| **change <= opset);
    let mut text = changed.map(|change| format!("Ios{change}.")).unwrap_or_default();
    for (index, word) in operation.split('_').enumerate() {
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if index > 0 || changed.is_none() => text.extend(first.to_uppercase()),
            first => text.extend(first),
        }
        text.push_str(letters.as_str());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_published_summaries() {
        for (operation, opset, name) in [
            ("slice_by_index", 15, "SliceByIndex"),
            ("reduce_mean", 15, "ReduceMean"),
            ("slice_by_index", 16, "SliceByIndex"),
            ("constexpr_lut_to_dense", 16, "Ios16.constexprLutToDense"),
            ("sqrt", 16, "Ios16.sqrt"),
            ("expand_dims", 17, "Ios17.expandDims"),
            ("gather_along_axis", 17, "Ios17.gatherAlongAxis"),
            ("relu", 17, "Ios16.relu"),
            ("reduce_sum", 17, "Ios16.reduceSum"),
            ("range_1d", 17, "Range1d"),
            ("relu", 18, "Ios18.relu"),
            ("reduce_mean", 18, "Ios16.reduceMean"),
            ("read_state", 18, "Ios18.readState"),
            ("split", 18, "Split"),
            ("never_seen", 18, "NeverSeen"),
        ] {
            assert_eq!(told(operation, opset), name);
        }
    }

    #[test]
    fn no_operation_stands_in_two_rows() {
        let mut all: Vec<&str> = CHANGES.iter().flat_map(|row| row.1.split(' ')).collect();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        for (_, list) in SEEN {
            for operation in list.split(' ') {
                assert!(all.binary_search(&operation).is_ok(), "{operation}");
            }
        }
    }
}
