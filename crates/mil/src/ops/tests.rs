//! Inference, family by family: what is given, and what is refused.

use super::*;
use crate::types::{Dimension, TensorType};
use crate::{Arg, FunctionBuilder, Literal, Result, Var};

#[test]
fn names_are_unique_per_opset_and_parameters_within_an_op() {
    let forms: Vec<_> = ALL.iter().flat_map(|family| family.iter()).collect();
    for (index, form) in forms.iter().enumerate() {
        let twin = forms[..index]
            .iter()
            .any(|other| other.name == form.name && other.minimum_opset == form.minimum_opset);
        assert!(!twin, "{} stands twice", form.name);
        for (place, parameter) in form.parameters.iter().enumerate() {
            let earlier = &form.parameters[..place];
            assert!(earlier.iter().all(|other| other.name != parameter.name), "{}", form.name);
        }
    }
}

#[test]
fn facts_are_those_of_all_forms_and_of_what_is_not_modelled() {
    for form in ALL.iter().flat_map(|family| family.iter()) {
        assert_eq!(form.facts, facts(form.name), "{}", form.name);
        assert!(!(form.is_constexpr() && form.facts.moves()), "{}", form.name);
    }
    assert_eq!(facts("transpose").movement, Movement::Whole);
    assert_eq!(facts("concat").movement, Movement::Parts);
    assert!(facts("concat").arithmetic && !facts("concat").on_cpu);
    assert!(facts("lstm").on_cpu && facts("random_normal").on_cpu);
    assert_eq!(facts("frobnicate"), Facts::NONE);
    assert!(is_constant("const") && is_constant("constexpr_cast") && !is_constexpr("const"));
}

#[test]
fn forms_follow_the_opset() {
    let old = find("constexpr_lut_to_dense", Opset::CoreML7).unwrap();
    assert_eq!(old.placement, Placement::Attributes);
    let new = find("constexpr_lut_to_dense", Opset::CoreML8).unwrap();
    assert_eq!(new.placement, Placement::ConstantInputs);
    assert!(find("slice_update", Opset::CoreML7).unwrap_err().contains("needs opset CoreML8"));
    assert!(find("frobnicate", Opset::CoreML8).unwrap_err().contains("not an operation"));
}

/// A builder with some inputs, and shorthands.
struct Bench {
    builder: FunctionBuilder,
    count: usize,
}

impl Bench {
    fn new() -> Self {
        Self { builder: FunctionBuilder::new(), count: 0 }
    }

    fn kind(&mut self, data_type: DataType, shape: &[u64]) -> Var {
        self.count += 1;
        let name = format!("x{}", self.count);
        self.builder.input(&name, TensorType::new(data_type, shape)).unwrap()
    }

    fn half(&mut self, shape: &[u64]) -> Var {
        self.kind(DataType::Float16, shape)
    }

    fn ints(&mut self, values: &[i32]) -> Arg {
        self.builder.vector_i32(values).unwrap().into()
    }

    fn int(&mut self, value: i32) -> Arg {
        self.builder.scalar_i32(value).unwrap().into()
    }

    fn bools(&mut self, values: &[bool]) -> Arg {
        self.builder.vector_bool(values).unwrap().into()
    }

    fn text(&mut self, value: &str) -> Arg {
        self.builder.string(value).unwrap().into()
    }

    fn types(&mut self, kind: &str, arguments: Vec<(&str, Arg)>) -> Result<Vec<String>> {
        let vars = self.builder.op(kind, arguments)?;
        Ok(vars.iter().map(|var| self.builder.type_of(*var).to_string()).collect())
    }

    /// The shape of the one result, such as `[1, ?]`.
    fn shape(&mut self, kind: &str, arguments: Vec<(&str, Arg)>) -> Result<String> {
        let types = self.types(kind, arguments)?;
        assert_eq!(types.len(), 1);
        let inner = types[0].trim_start_matches("tensor<").trim_end_matches('>');
        Ok(inner.split_once(", ").unwrap().1.to_owned())
    }
}

#[test]
fn broadcasting() {
    let mut b = Bench::new();
    let (x, y) = (b.half(&[2, 1, 4]), b.half(&[3, 1]));
    assert_eq!(b.shape("mul", vec![("x", x.into()), ("y", y.into())]).unwrap(), "[2, 3, 4]");
    let types = b.types("greater", vec![("x", x.into()), ("y", y.into())]).unwrap();
    assert_eq!(types, ["tensor<bool, [2, 3, 4]>"]);
    let i = b.kind(DataType::Int32, &[4]);
    let error = b.shape("add", vec![("x", x.into()), ("y", i.into())]).unwrap_err();
    assert!(error.message.contains("element types differ"), "{error}");
    let unknown = b.builder.symbol();
    let kind = TensorType::with_shape(DataType::Float16, vec![unknown, Dimension::Fixed(4)]);
    let s = b.builder.input("s", kind).unwrap();
    let four = b.half(&[7, 4]);
    assert_eq!(b.shape("add", vec![("x", s.into()), ("y", four.into())]).unwrap(), "[7, 4]");
    let one = b.half(&[1, 4]);
    assert_eq!(b.shape("add", vec![("x", s.into()), ("y", one.into())]).unwrap(), "[?, 4]");
    let mask = b.kind(DataType::Bool, &[7, 1]);
    let select = vec![("cond", mask.into()), ("a", one.into()), ("b", four.into())];
    assert_eq!(b.shape("select", select).unwrap(), "[7, 4]");
}

#[test]
fn reshaping() {
    let mut b = Bench::new();
    let x = b.half(&[2, 3, 4]);
    let mut reshape = |shape: &[i32]| {
        let shape = b.ints(shape);
        b.shape("reshape", vec![("x", x.into()), ("shape", shape)])
    };
    assert_eq!(reshape(&[4, 6]).unwrap(), "[4, 6]");
    assert_eq!(reshape(&[0, -1]).unwrap(), "[2, 12]");
    assert!(reshape(&[5, -1]).is_err());
    assert!(reshape(&[-1, -1]).is_err());
    assert!(reshape(&[-2, 12]).is_err());
    assert!(reshape(&[2, 3, 4, 0]).is_err());
    assert!(reshape(&[i32::MAX, i32::MAX, i32::MAX]).is_err());
    let shape: Arg = b.kind(DataType::Int32, &[2]).into();
    assert_eq!(b.shape("reshape", vec![("x", x.into()), ("shape", shape)]).unwrap(), "[?, ?]");
    let perm = b.ints(&[2, 0, -2]);
    assert_eq!(b.shape("transpose", vec![("x", x.into()), ("perm", perm)]).unwrap(), "[4, 2, 3]");
    for bad in [&[0, 1][..], &[0, 1, 1], &[0, 1, 3]] {
        let perm = b.ints(bad);
        assert!(b.shape("transpose", vec![("x", x.into()), ("perm", perm)]).is_err(), "{bad:?}");
    }
    let axes = b.ints(&[0, -1]);
    let wide = b.shape("expand_dims", vec![("x", x.into()), ("axes", axes)]).unwrap();
    assert_eq!(wide, "[1, 2, 3, 4, 1]");
    let y = b.half(&[1, 3, 1]);
    let axes = b.ints(&[-1]);
    assert_eq!(b.shape("squeeze", vec![("x", y.into()), ("axes", axes)]).unwrap(), "[1, 3]");
    assert_eq!(b.shape("squeeze", vec![("x", y.into())]).unwrap(), "[3]");
    let axes = b.ints(&[1]);
    assert!(b.shape("squeeze", vec![("x", y.into()), ("axes", axes)]).is_err());
}

#[test]
fn slicing() {
    let mut b = Bench::new();
    let x = b.half(&[2, 8, 4]);
    let mut slice = |begin: &[i32], end: &[i32], extra: Vec<(&'static str, Arg)>| {
        let mut arguments = vec![("x", x.into()), ("begin", b.ints(begin)), ("end", b.ints(end))];
        arguments.extend(extra);
        b.shape("slice_by_index", arguments)
    };
    assert_eq!(slice(&[0, 2, 0], &[1, 5, 4], vec![]).unwrap(), "[1, 3, 4]");
    assert_eq!(slice(&[-1, -3, 0], &[2, 8, 100], vec![]).unwrap(), "[1, 3, 4]");
    assert!(slice(&[0, 5, 0], &[1, 2, 4], vec![]).is_err());
    assert!(slice(&[0, 0], &[1, 1], vec![]).is_err());
    let mut b = Bench::new();
    let x = b.half(&[2, 8, 4]);
    let (begin, end) = (b.ints(&[1, 0, 0]), b.ints(&[0, 0, 0]));
    let arguments = vec![
        ("x", x.into()),
        ("begin", begin),
        ("end", end),
        ("stride", b.ints(&[1, -2, 1])),
        ("begin_mask", b.bools(&[false, true, false])),
        ("end_mask", b.bools(&[false, true, true])),
        ("squeeze_mask", b.bools(&[true, false, false])),
    ];
    assert_eq!(b.shape("slice_by_index", arguments).unwrap(), "[4, 4]");
    let runtime: Arg = b.kind(DataType::Int32, &[3]).into();
    let arguments = vec![
        ("x", x.into()),
        ("begin", runtime.clone()),
        ("end", runtime.clone()),
        ("begin_mask", b.bools(&[true, false, true])),
        ("end_mask", b.bools(&[true, false, true])),
    ];
    assert_eq!(b.shape("slice_by_index", arguments.clone()).unwrap(), "[2, ?, 4]");
    let update = b.half(&[2, 3, 4]);
    let mut with_update = arguments.clone();
    with_update.push(("update", update.into()));
    assert_eq!(b.shape("slice_update", with_update).unwrap(), "[2, 8, 4]");
    for bad in [&[2, 3, 5][..], &[2, 9, 4], &[2, 3], &[]] {
        let update = b.half(bad);
        let mut arguments = arguments.clone();
        arguments.push(("update", update.into()));
        assert!(b.shape("slice_update", arguments).is_err(), "{bad:?}");
    }
    let (begin, size) = (b.ints(&[0, 6, 1]), b.ints(&[2, 2, -1]));
    let arguments = vec![("x", x.into()), ("begin", begin.clone()), ("size", size)];
    assert_eq!(b.shape("slice_by_size", arguments).unwrap(), "[2, 2, 3]");
    let size = b.ints(&[2, 3, -1]);
    assert!(
        b.shape("slice_by_size", vec![("x", x.into()), ("begin", begin), ("size", size)]).is_err()
    );
    let (sizes, axis) = (b.ints(&[3, 5]), b.int(1));
    let split = vec![("x", x.into()), ("split_sizes", sizes), ("axis", axis.clone())];
    assert_eq!(b.types("split", split).unwrap().len(), 2);
    let sizes = b.ints(&[3, 4]);
    assert!(
        b.types("split", vec![("x", x.into()), ("split_sizes", sizes), ("axis", axis)]).is_err()
    );
}

#[test]
fn products() {
    let mut b = Bench::new();
    let (x, y) = (b.half(&[2, 1, 4, 8]), b.half(&[3, 16, 8]));
    let yes = b.builder.scalar_bool(true).unwrap();
    let arguments = vec![("x", x.into()), ("y", y.into()), ("transpose_y", yes.into())];
    assert_eq!(b.shape("matmul", arguments).unwrap(), "[2, 3, 4, 16]");
    assert!(b.shape("matmul", vec![("x", x.into()), ("y", y.into())]).is_err());
    let table = Literal::float16s(&[3, 8], &[half::f16::ONE; 24]);
    let weight = b.builder.literal(&table).unwrap();
    assert_eq!(
        b.shape("linear", vec![("x", x.into()), ("weight", weight.into())]).unwrap(),
        "[2, 1, 4, 3]"
    );
    let error = b.shape("linear", vec![("x", x.into()), ("weight", y.into())]).unwrap_err();
    assert!(error.message.contains("must be constant"), "{error}");
    let bias = b.builder.vector_f16(&[0.0; 4]).unwrap();
    let arguments = vec![("x", x.into()), ("weight", weight.into()), ("bias", bias.into())];
    assert!(b.shape("linear", arguments).unwrap_err().message.contains("3 rows"));
    let (q, k) = (b.half(&[4, 8]), b.half(&[5, 8]));
    let equation = b.text("nk,mk->nm");
    let values: Arg = [q, k][..].into();
    assert_eq!(
        b.shape("einsum", vec![("values", values), ("equation", equation)]).unwrap(),
        "[4, 5]"
    );
}

#[test]
fn convolutions() {
    let mut b = Bench::new();
    let (x, w) = (b.half(&[1, 6, 9, 9]), b.half(&[4, 3, 3, 3]));
    let groups = b.int(2);
    let base = vec![("x", Arg::from(x)), ("weight", w.into()), ("groups", groups)];
    assert_eq!(b.shape("conv", base.clone()).unwrap(), "[1, 4, 7, 7]");
    let mut more = base.clone();
    more.push(("pad_type", b.text("custom")));
    more.push(("pad", b.ints(&[1, 1, 0, 2])));
    more.push(("strides", b.ints(&[2, 3])));
    more.push(("dilations", b.ints(&[2, 1])));
    assert_eq!(b.shape("conv", more).unwrap(), "[1, 4, 4, 3]");
    let mut same = base.clone();
    same.push(("pad_type", b.text("same")));
    same.push(("strides", b.ints(&[2, 2])));
    assert_eq!(b.shape("conv", same).unwrap(), "[1, 4, 5, 5]");
    assert!(b.shape("conv", vec![("x", x.into()), ("weight", w.into())]).is_err());
    let mut bad = base;
    bad.push(("strides", b.ints(&[0, 1])));
    assert!(b.shape("conv", bad).is_err());
    let small = b.half(&[1, 3, 2, 2]);
    let error = b.shape("conv", vec![("x", small.into()), ("weight", w.into())]).unwrap_err();
    assert!(error.message.contains("does not fit"), "{error}");
}

#[test]
fn joining_and_repeating() {
    let mut b = Bench::new();
    let (x, y) = (b.half(&[2, 3]), b.half(&[2, 5]));
    let values: Arg = [x, y][..].into();
    let axis = b.int(-1);
    let join = vec![("values", values.clone()), ("axis", axis)];
    assert_eq!(b.shape("concat", join).unwrap(), "[2, 8]");
    let axis = b.int(0);
    assert!(b.shape("concat", vec![("values", values.clone()), ("axis", axis.clone())]).is_err());
    assert!(b.shape("stack", vec![("values", values), ("axis", axis.clone())]).is_err());
    let pair: Arg = [x, x, x][..].into();
    assert_eq!(b.shape("stack", vec![("values", pair), ("axis", axis)]).unwrap(), "[3, 2, 3]");
    let reps = b.ints(&[1, 4]);
    assert_eq!(b.shape("tile", vec![("x", x.into()), ("reps", reps)]).unwrap(), "[2, 12]");
    for bad in [&[1][..], &[0, 1], &[-1, 1]] {
        let reps = b.ints(bad);
        assert!(b.shape("tile", vec![("x", x.into()), ("reps", reps)]).is_err(), "{bad:?}");
    }
    let pad = b.ints(&[1, 2]);
    assert_eq!(b.shape("pad", vec![("x", x.into()), ("pad", pad)]).unwrap(), "[2, 6]");
    let pad = b.ints(&[1, -2]);
    assert!(b.shape("pad", vec![("x", x.into()), ("pad", pad)]).is_err());
    let (start, end, step) = (b.int(2), b.int(9), b.int(3));
    let range = vec![("start", start.clone()), ("end", end.clone()), ("step", step)];
    assert_eq!(b.shape("range_1d", range).unwrap(), "[3]");
    let step = b.int(0);
    assert!(b.shape("range_1d", vec![("start", start), ("end", end), ("step", step)]).is_err());
    let shape = b.ints(&[3, 4]);
    assert_eq!(b.types("fill", vec![("shape", shape)]).unwrap(), ["tensor<fp32, [3, 4]>"]);
    assert_eq!(b.types("shape", vec![("x", x.into())]).unwrap(), ["tensor<int32, [2]>"]);
    assert_eq!(b.shape("band_part", vec![("x", x.into())]).unwrap(), "[2, 3]");
}

#[test]
fn gathering() {
    let mut b = Bench::new();
    let (x, i) = (b.half(&[5, 6, 7]), b.kind(DataType::Int32, &[2, 3]));
    let axis = b.int(1);
    let gather = vec![("x", x.into()), ("indices", i.into()), ("axis", axis.clone())];
    assert_eq!(b.shape("gather", gather).unwrap(), "[5, 2, 3, 7]");
    let outside = b.ints(&[6]);
    let gather = vec![("x", x.into()), ("indices", outside), ("axis", axis.clone())];
    assert!(b.shape("gather", gather).unwrap_err().message.contains("index 6 is outside"));
    let along = b.kind(DataType::UInt16, &[5, 2, 7]);
    let gather = vec![("x", x.into()), ("indices", along.into()), ("axis", axis)];
    assert_eq!(b.types("gather_along_axis", gather).unwrap(), ["tensor<fp16, [5, 2, 7]>"]);
    let nd = b.kind(DataType::Int32, &[4, 2]);
    assert_eq!(
        b.shape("gather_nd", vec![("x", x.into()), ("indices", nd.into())]).unwrap(),
        "[4, 7]"
    );
    let nd = b.kind(DataType::Int32, &[4, 4]);
    assert!(b.shape("gather_nd", vec![("x", x.into()), ("indices", nd.into())]).is_err());
}

#[test]
fn reductions() {
    let mut b = Bench::new();
    let x = b.half(&[2, 3, 4]);
    let (axes, keep) = (b.ints(&[-1, 0]), b.builder.scalar_bool(true).unwrap());
    let base = vec![("x", Arg::from(x)), ("axes", axes)];
    assert_eq!(b.shape("reduce_sum", base.clone()).unwrap(), "[3]");
    let mut kept = base;
    kept.push(("keep_dims", keep.into()));
    assert_eq!(b.shape("reduce_max", kept).unwrap(), "[1, 3, 1]");
    assert_eq!(b.shape("reduce_mean", vec![("x", x.into())]).unwrap(), "[]");
    let axis = b.int(1);
    let argmax = vec![("x", x.into()), ("axis", axis)];
    assert_eq!(b.types("reduce_argmax", argmax).unwrap(), ["tensor<int32, [2, 4]>"]);
    let k = b.int(2);
    let types = b.types("topk", vec![("x", x.into()), ("k", k)]).unwrap();
    assert_eq!(types, ["tensor<fp16, [2, 3, 2]>", "tensor<int32, [2, 3, 2]>"]);
    let k = b.int(5);
    assert!(b.types("topk", vec![("x", x.into()), ("k", k)]).is_err());
    let axes = b.ints(&[3]);
    assert!(b.shape("reduce_sum", vec![("x", x.into()), ("axes", axes)]).is_err());
    let axis = b.int(3);
    assert!(b.shape("softmax", vec![("x", x.into()), ("axis", axis)]).is_err());
    let gamma: Arg = b.builder.vector_f16(&[1.0; 3]).unwrap().into();
    let axes = b.ints(&[-1]);
    let norm = vec![("x", x.into()), ("axes", axes), ("gamma", gamma)];
    assert!(b.shape("layer_norm", norm).unwrap_err().message.contains("`gamma` is"));
}

#[test]
fn casts_and_modes() {
    let mut b = Bench::new();
    let x = b.half(&[2]);
    let kind = b.text("int32");
    let cast = b.types("cast", vec![("x", x.into()), ("dtype", kind)]).unwrap();
    assert_eq!(cast, ["tensor<int32, [2]>"]);
    let kind = b.text("uint4");
    assert!(b.types("cast", vec![("x", x.into()), ("dtype", kind)]).is_err());
    let mode = b.text("ROUGH");
    assert!(b.types("gelu", vec![("x", x.into()), ("mode", mode)]).is_err());
}

#[test]
fn lookup_tables() {
    fn lut(indices: (DataType, &[u64]), lut: &[u64], vector_axis: Option<i32>) -> Result<String> {
        let mut b = Bench::new();
        let value = |kind: DataType, shape: &[u64]| {
            Arg::from(crate::literal::blob_value(&TensorType::new(kind, shape), "w", 0))
        };
        let mut arguments =
            vec![("indices", value(indices.0, indices.1)), ("lut", value(DataType::Float16, lut))];
        if let Some(axis) = vector_axis {
            arguments.push(("vector_axis", b.int(axis)));
        }
        b.shape("constexpr_lut_to_dense", arguments)
    }
    let four = DataType::UInt4;
    assert_eq!(lut((four, &[16, 6]), &[2, 1, 16, 1], None).unwrap(), "[16, 6]");
    assert_eq!(lut((four, &[16, 6]), &[1, 1, 16, 2], Some(0)).unwrap(), "[32, 6]");
    for (indices, table, axis) in [
        (&[16, 6][..], &[3, 1, 16, 1][..], None),
        (&[16, 6], &[2, 1, 8, 1], None),
        (&[16, 6], &[2, 16, 1], None),
        (&[16, 6], &[1, 1, 16, 2], None),
        (&[16, 6], &[0, 1, 16, 1], None),
        (&[16, 6], &[1, 1, 16, 2], Some(2)),
        (&[u64::MAX, 6], &[1, 1, 16, 4], Some(0)),
    ] {
        assert!(lut((four, indices), table, axis).is_err(), "{indices:?} {table:?} {axis:?}");
    }
    assert!(lut((DataType::Int4, &[16, 6]), &[2, 1, 16, 1], None).is_err());
}

#[test]
fn blockwise_scales() {
    fn scale(
        data: (DataType, &[u64]),
        scale: &[u64],
        offset: Option<(DataType, &[u64])>,
    ) -> Result<String> {
        let mut b = Bench::new();
        let value = |kind: DataType, shape: &[u64]| {
            Arg::from(crate::literal::blob_value(&TensorType::new(kind, shape), "w", 0))
        };
        let mut arguments =
            vec![("data", value(data.0, data.1)), ("scale", value(DataType::Float16, scale))];
        if let Some((kind, shape)) = offset {
            arguments.push(("offset", value(kind, shape)));
        }
        b.shape("constexpr_blockwise_shift_scale", arguments)
    }
    let int8 = DataType::Int8;
    assert_eq!(scale((int8, &[8, 6]), &[8, 2], None).unwrap(), "[8, 6]");
    assert_eq!(scale((int8, &[8, 6]), &[8, 1], Some((int8, &[8, 1]))).unwrap(), "[8, 6]");
    assert!(scale((int8, &[8, 6]), &[8, 4], None).is_err());
    assert!(scale((int8, &[8, 6]), &[8], None).is_err());
    assert!(scale((int8, &[8, 6]), &[8, 1], Some((int8, &[8, 2]))).is_err());
    assert!(scale((int8, &[8, 6]), &[8, 1], Some((DataType::UInt8, &[8, 1]))).is_err());
}

#[test]
fn recurrent_layers() {
    let mut b = Bench::new();
    let x = b.half(&[3, 1, 2]);
    let (h, c) = (b.half(&[1, 2]), b.half(&[1, 2]));
    let weight = Literal::float16s(&[8, 2], &[half::f16::ONE; 16]);
    let weight: Arg = b.builder.literal(&weight).unwrap().into();
    let yes = b.builder.scalar_bool(true).unwrap();
    let base = vec![
        ("x", Arg::from(x)),
        ("initial_h", h.into()),
        ("initial_c", c.into()),
        ("weight_ih", weight.clone()),
        ("weight_hh", weight),
        ("output_sequence", yes.into()),
    ];
    let types = b.types("lstm", base.clone()).unwrap();
    assert_eq!(types, ["tensor<fp16, [3, 1, 2]>", "tensor<fp16, [1, 2]>", "tensor<fp16, [1, 2]>"]);
    let mut both = base;
    both.push(("direction", b.text("bidirectional")));
    assert!(b.types("lstm", both).unwrap_err().message.contains("weight_ih_back"));
}

#[test]
fn attention_fits() {
    let mut b = Bench::new();
    let (q, k) = (b.half(&[1, 4, 2, 8]), b.half(&[1, 4, 6, 8]));
    let v = b.half(&[1, 4, 6, 16]);
    let base = vec![("query", Arg::from(q)), ("key", k.into()), ("value", v.into())];
    let kind = "scaled_dot_product_attention";
    assert_eq!(b.shape(kind, base.clone()).unwrap(), "[1, 4, 2, 16]");
    let mut masked = base;
    masked.push(("attn_mask", b.half(&[2, 5]).into()));
    assert!(b.shape(kind, masked).is_err());
}
