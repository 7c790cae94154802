//! The operations of the dialect, as its first public versions have them: a newer version of one is
//! a line here.

/// An operation of the dialect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationDefinition {
    /// Its name without the dialect's, with its version.
    pub name: &'static str,
    /// What it takes, in order. Of one whose name ends in `...` there may be any number.
    pub operands: &'static [&'static str],
    /// Its attributes in the order of its record. One whose name ends in `?` may be left out.
    pub properties: &'static [&'static str],
    /// How many regions it has.
    pub regions: usize,
    /// The first version of the dialect that has it, a date; 0 where that is not known.
    pub minimum: u32,
}

impl OperationDefinition {
    /// Whether it holds, in a region, what it means for those who do not know it.
    pub fn has_body(&self) -> bool {
        self.regions == 1 && !self.name.contains('.')
    }

    /// How many operands it takes at least, and at most where that is bounded.
    pub fn operand_count(&self) -> (usize, Option<usize>) {
        let fixed = self.operands.iter().filter(|name| !name.ends_with("...")).count();
        (fixed, (fixed == self.operands.len()).then_some(fixed))
    }
}

/// The operation of a name; `None` if it is none that is known here.
pub fn find(name: &str) -> Option<&'static OperationDefinition> {
    OPERATIONS
        .binary_search_by(|definition| definition.name.cmp(name))
        .ok()
        .map(|place| &OPERATIONS[place])
}

const fn op(
    name: &'static str,
    operands: &'static [&'static str],
    properties: &'static [&'static str],
    regions: usize,
    minimum: u32,
) -> OperationDefinition {
    OperationDefinition { name, operands, properties, regions, minimum }
}

/// Every operation, by name.
#[rustfmt::skip]
pub const OPERATIONS: &[OperationDefinition] = &[
    op("all_v1", &["input", "axes"], &[], 1, 20251017),
    op("any_v1", &["input", "axes"], &[], 1, 20251017),
    op("argmax_v1", &["input", "axis"], &[], 1, 20251028),
    op("asymmetric_quantization_statistics_v1", &["input", "range", "axis"], &[], 1, 0),
    op("ax.copy_discarding_constraints_v1", &["source"], &[], 0, 20250906),
    op("ax.copy_with_constraints_v1", &["source"], &[], 0, 20250903),
    op("broadcasting_add_v1", &["input", "other"], &[], 1, 20250827),
    op("broadcasting_batch_matmul_v1", &["x", "y"], &[], 1, 20251202),
    op("broadcasting_bitwise_and_v1", &["input", "other"], &[], 1, 20250930),
    op("broadcasting_bitwise_or_v1", &["input", "other"], &[], 1, 20250930),
    op("broadcasting_bitwise_xor_v1", &["input", "other"], &[], 1, 20250930),
    op("broadcasting_divide_v1", &["input", "other"], &[], 1, 20250827),
    op("broadcasting_equal_v1", &["input", "other"], &[], 1, 20250923),
    op("broadcasting_floor_divide_v1", &["input", "other"], &[], 1, 20250930),
    op("broadcasting_greater_v1", &["input", "other"], &[], 1, 20251105),
    op("broadcasting_logical_and_v1", &["input", "other"], &[], 1, 20251202),
    op("broadcasting_logical_or_v1", &["input", "other"], &[], 1, 20251105),
    op("broadcasting_logical_xor_v1", &["input", "other"], &[], 1, 20251203),
    op("broadcasting_maximum_v1", &["input", "other"], &[], 1, 20250930),
    op("broadcasting_minimum_v1", &["input", "other"], &[], 1, 20250930),
    op("broadcasting_modulo_v1", &["input", "other"], &[], 1, 20250930),
    op("broadcasting_mul_v1", &["input", "other"], &[], 1, 20250827),
    op("broadcasting_not_equal_v1", &["input", "other"], &[], 1, 20260112),
    op("broadcasting_pow_v1", &["input", "other"], &[], 1, 20250930),
    op("broadcasting_sub_v1", &["input", "other"], &[], 1, 20250827),
    op("broadcasting_where_v1", &["condition", "a", "b"], &[], 1, 20251024),
    op("controlflow.condition_v1", &["condition", "args..."], &[], 0, 0),
    op("controlflow.if_v1", &["condition"], &[], 2, 0),
    op("controlflow.while_v1", &["inits..."], &[], 2, 0),
    op("dataflow.create_token_v1", &[], &[], 0, 20250819),
    op("dataflow.graph_v1", &[], &["argAttrs", "compositeDecl?", "externalize", "functionType", "isPrivate", "name", "noInline", "paramDecls", "resAttrs"], 1, 20250707),
    op("dataflow.invoke_v1", &["operands..."], &["arg_attrs", "callee", "res_attrs"], 0, 20250909),
    op("dataflow.join_token_v1", &["in_token", "rest_tokens..."], &[], 0, 0),
    op("dataflow.output_v1", &["operands..."], &[], 0, 20250707),
    op("dataflow.read_handle_v1", &["handle", "in_token"], &[], 0, 20250819),
    op("dataflow.write_handle_v1", &["handle", "data", "in_token"], &[], 0, 20250819),
    op("dataflow.yield_v1", &["args..."], &[], 0, 20250417),
    op("dequantize_v2", &["input", "scale", "offset1", "offset2", "axis"], &[], 1, 20260204),
    op("primitive.abs_v1", &["x"], &[], 0, 20250814),
    op("primitive.acos_v1", &["x"], &[], 0, 20250928),
    op("primitive.acosh_v1", &["x"], &[], 0, 20250928),
    op("primitive.add_v1", &["x", "y"], &[], 0, 20250429),
    op("primitive.argsort_v1", &["input", "dim", "descending", "stable"], &[], 0, 20251028),
    op("primitive.asin_v1", &["x"], &[], 0, 20250928),
    op("primitive.asinh_v1", &["x"], &[], 0, 20250928),
    op("primitive.atan_v1", &["x"], &[], 0, 20250928),
    op("primitive.atanh_v1", &["x"], &[], 0, 20250928),
    op("primitive.batch_matmul_v1", &["x", "y"], &[], 0, 20250723),
    op("primitive.bitwise_and_v1", &["x", "y"], &[], 0, 20250928),
    op("primitive.bitwise_or_v1", &["x", "y"], &[], 0, 20250928),
    op("primitive.bitwise_xor_v1", &["x", "y"], &[], 0, 20250928),
    op("primitive.blockwise_shift_scale_v2", &["data", "scale", "offset1", "offset2"], &[], 0, 20260202),
    op("primitive.broadcast_in_dims_v1", &["input", "dim_sizes", "axes"], &[], 0, 20250826),
    op("primitive.broadcast_shapes_v1", &["shape_1", "shape_2"], &[], 0, 20250911),
    op("primitive.broadcast_to_v1", &["input", "shape"], &[], 0, 20251024),
    op("primitive.build_sparse_with_bitmask_v1", &["values", "bitmask"], &[], 0, 0),
    op("primitive.cast_v1", &["input"], &[], 0, 20250723),
    op("primitive.concat_v1", &["dimension", "inputs..."], &[], 0, 20250903),
    op("primitive.constant_v1", &[], &["value"], 0, 20250410),
    op("primitive.conv2d_v1", &["input", "weight", "stride", "dilation", "groups"], &[], 0, 20250905),
    op("primitive.conv3d_v1", &["input", "weight", "stride", "dilation", "groups"], &[], 0, 20251023),
    op("primitive.conv_transpose2d_v1", &["input", "weight", "stride", "padding", "dilation", "output_pad", "groups"], &[], 0, 20251031),
    op("primitive.conv_transpose3d_v1", &["input", "weight", "stride", "padding", "dilation", "output_pad", "groups"], &[], 0, 0),
    op("primitive.cos_v1", &["x"], &[], 0, 20250928),
    op("primitive.cosh_v1", &["x"], &[], 0, 20250928),
    op("primitive.create_complex_v1", &["real", "imaginary"], &[], 0, 0),
    op("primitive.divide_v1", &["x", "y"], &[], 0, 20250717),
    op("primitive.equal_v1", &["input", "other"], &[], 0, 20250923),
    op("primitive.erf_v1", &["x"], &[], 0, 20250928),
    op("primitive.exp_v1", &["x"], &[], 0, 20250819),
    op("primitive.expand_dims_v1", &["input", "axes"], &[], 0, 20250924),
    op("primitive.floor_divide_v1", &["x", "y"], &[], 0, 20250928),
    op("primitive.gather_along_axis_v1", &["input", "indices", "axis"], &[], 0, 20251028),
    op("primitive.gather_nd_v1", &["input", "indices"], &[], 0, 20250723),
    op("primitive.gelu_v1", &["input"], &["approximate"], 0, 20251024),
    op("primitive.get_shape_v2", &["input"], &[], 0, 20260317),
    op("primitive.greater_v1", &["input", "other"], &[], 0, 20251013),
    op("primitive.image_to_tensor_v1", &["source"], &[], 0, 0),
    op("primitive.imaginary_part_v1", &["input"], &[], 0, 0),
    op("primitive.interpolate_coordinates_v1", &["input", "coords"], &["interpolation_mode"], 0, 0),
    op("primitive.interpolate_v1", &["input", "output_shape", "scale", "offset"], &["interpolation_mode"], 0, 0),
    op("primitive.log_v1", &["x"], &[], 0, 20250928),
    op("primitive.logical_and_v1", &["x", "y"], &[], 0, 20251013),
    op("primitive.logical_or_v1", &["x", "y"], &[], 0, 20251013),
    op("primitive.logical_xor_v1", &["x", "y"], &[], 0, 20251013),
    op("primitive.lut_to_dense_v1", &["indices", "lut", "axis"], &[], 0, 20251003),
    op("primitive.lut_to_sparse_with_bitmask_v1", &["indices", "lut", "axis"], &[], 0, 0),
    op("primitive.max_pool_2d_v1", &["input", "kernel_size", "stride", "dilation", "ceil_mode"], &[], 0, 20251023),
    op("primitive.max_pool_3d_v1", &["input", "kernel_size", "stride", "dilation", "ceil_mode"], &[], 0, 0),
    op("primitive.maximum_v1", &["x", "y"], &[], 0, 20250928),
    op("primitive.minimum_v1", &["x", "y"], &[], 0, 20250928),
    op("primitive.modulo_v1", &["x", "y"], &[], 0, 20250928),
    op("primitive.mul_v1", &["x", "y"], &[], 0, 20250717),
    op("primitive.non_zero_v1", &["input"], &[], 0, 20251031),
    op("primitive.not_equal_v1", &["input", "other"], &[], 0, 20251003),
    op("primitive.not_v1", &["x"], &[], 0, 20250923),
    op("primitive.pad_v1", &["input", "padding", "padding_value"], &["padding_mode"], 0, 20250924),
    op("primitive.pow_v1", &["x", "y"], &[], 0, 20250928),
    op("primitive.range_v1", &["start", "stop", "step"], &[], 0, 20251017),
    op("primitive.real_part_v1", &["input"], &[], 0, 0),
    op("primitive.reduce_index_v1", &["input", "axis", "init_value", "init_index"], &[], 1, 20251028),
    op("primitive.reduce_v1", &["input", "axes", "init_value"], &[], 1, 20250926),
    op("primitive.reshape_v2", &["input", "new_shape"], &[], 0, 20260204),
    op("primitive.reverse_v1", &["input", "dims"], &[], 0, 20251101),
    op("primitive.round_v1", &["x"], &[], 0, 20251001),
    op("primitive.rsqrt_v1", &["x"], &[], 0, 20250928),
    op("primitive.scan_v1", &["input", "axis", "reverse"], &["combiner"], 0, 20251114),
    op("primitive.scatter_along_axis_v1", &["input", "indices", "updates", "axis"], &["scatter_mode"], 0, 20251030),
    op("primitive.scatter_nd_v1", &["input", "indices", "updates"], &[], 1, 20251027),
    op("primitive.shrink_dims_v1", &["input", "axes"], &[], 0, 0),
    op("primitive.sin_v1", &["x"], &[], 0, 20250928),
    op("primitive.sinh_v1", &["x"], &[], 0, 20250928),
    op("primitive.slice_update_v1", &["input", "start_indices", "end_indices", "strides", "update"], &[], 0, 20250922),
    op("primitive.slice_v1", &["input", "start_indices", "end_indices", "strides"], &[], 0, 20250922),
    op("primitive.sparse_with_bitmask_to_dense_v1", &["input"], &[], 0, 0),
    op("primitive.split_v1", &["input", "split_size_or_sections", "dim"], &[], 0, 20250904),
    op("primitive.sqrt_v1", &["x"], &[], 0, 20250717),
    op("primitive.sub_v1", &["x", "y"], &[], 0, 20250717),
    op("primitive.sum_pool_2d_v1", &["input", "kernel_size", "strides", "dilation"], &[], 0, 0),
    op("primitive.sum_pool_3d_v1", &["input", "kernel_size", "strides", "dilation"], &[], 0, 0),
    op("primitive.tan_v1", &["x"], &[], 0, 20250928),
    op("primitive.tanh_v1", &["x"], &[], 0, 20250928),
    op("primitive.tensor_to_image_v1", &["source"], &[], 0, 0),
    op("primitive.transpose_v1", &["input", "permutation"], &[], 0, 20250811),
    op("primitive.where_v1", &["condition", "a", "b"], &[], 0, 20251023),
    op("quantize_v2", &["input", "scale", "offset1", "offset2", "axis"], &[], 1, 20260204),
    op("reduce_max_v1", &["input", "axes"], &[], 1, 20251023),
    op("reduce_mean_v1", &["input", "axes"], &[], 1, 20260317),
    op("reduce_min_v1", &["input", "axes"], &[], 1, 20251023),
    op("reduce_product_v1", &["input", "axes"], &[], 1, 20250926),
    op("reduce_sum_v1", &["input", "axes"], &[], 1, 20250926),
    op("relu_v1", &["input"], &[], 1, 20260204),
    op("serialization.asset", &[], &["name?", "version?"], 1, 0),
    op("sigmoid_v1", &["input"], &[], 1, 20260204),
    op("silu_v1", &["input"], &[], 1, 20260204),
    op("softmax_v1", &["input", "axis"], &[], 1, 20260204),
    op("sort_v1", &["input", "dim", "descending", "stable"], &[], 1, 20251101),
    op("symmetric_quantization_statistics_v1", &["input", "range", "axis"], &[], 1, 0),
    op("tile_v2", &["input", "dims"], &[], 1, 20260219),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_is_found_by_its_name() {
        for definition in OPERATIONS {
            assert_eq!(find(definition.name), Some(definition));
            let sorted = definition.properties.is_sorted();
            assert!(sorted, "{}: records have their attributes by name", definition.name);
        }
        assert_eq!(find("softmax_v2"), None);
        let concat = find("primitive.concat_v1").expect("it is in the table");
        assert_eq!(concat.operand_count(), (1, None));
        assert!(find("softmax_v1").is_some_and(OperationDefinition::has_body));
        assert!(!concat.has_body());
    }
}
