//! Values of every stored form, worked out by hand.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_mil::literal::{blob_value, value_from_bytes};
use anemll_mil::{DataType, Literal, TensorType, ValueType};
use anemll_weights::{Comparison, Decoder, Statistics, TableUse, WeightFiles, list};
use coreml_proto::mil::argument::{Binding, binding};
use coreml_proto::{Model, mil, model};
use half::f16;

fn stored(data_type: DataType, shape: &[u64], bytes: &[u8]) -> mil::Value {
    value_from_bytes(&TensorType::new(data_type, shape), bytes.to_vec()).unwrap()
}

fn halves(shape: &[u64], values: &[f32]) -> mil::Value {
    let bytes: Vec<u8> =
        values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
    stored(DataType::Float16, shape, &bytes)
}

fn named(name: &str) -> mil::Argument {
    let binding = Some(binding::Binding::Name(name.to_owned()));
    mil::Argument { arguments: vec![Binding { binding }] }
}

fn operation(
    kind: &str,
    outputs: &[(&str, DataType, &[u64])],
    values: Vec<(&str, mil::Value)>,
    names: &[(&str, &str)],
) -> mil::Operation {
    let argument = |value| mil::Argument {
        arguments: vec![Binding { binding: Some(binding::Binding::Value(value)) }],
    };
    let (attributes, inputs): (Vec<_>, Vec<_>) =
        values.into_iter().partition(|(name, _)| *name == "val" || *name == "name");
    mil::Operation {
        r#type: kind.to_owned(),
        outputs: outputs
            .iter()
            .map(|(name, data_type, shape)| mil::NamedValueType {
                name: (*name).to_owned(),
                r#type: Some(ValueType::Tensor(TensorType::new(*data_type, shape)).to_proto()),
            })
            .collect(),
        attributes: attributes.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        inputs: inputs
            .into_iter()
            .map(|(name, value)| (name.to_owned(), argument(value)))
            .chain(names.iter().map(|(name, value)| ((*name).to_owned(), named(value))))
            .collect(),
        ..Default::default()
    }
}

fn block(operations: Vec<mil::Operation>, output: &str) -> mil::Block {
    mil::Block { operations, outputs: vec![output.to_owned()], ..Default::default() }
}

fn decode(block: &mil::Block, name: &str) -> Result<Vec<f32>, String> {
    let files = WeightFiles::new();
    let values = Decoder::new(block, &files).values(name).map_err(|error| error.to_string())?;
    let mut whole = vec![0.0; values.count()];
    values.fill(0, &mut whole).unwrap();
    // Any range gives what the whole has there.
    for start in 0..whole.len() {
        let mut part = vec![0.0; whole.len() - start];
        values.fill(start, &mut part).unwrap();
        assert_eq!(part, whole[start..]);
    }
    Ok(whole)
}

const F16: DataType = DataType::Float16;

#[test]
fn a_plain_constant() {
    let constant = operation(
        "const",
        &[("w", F16, &[3])],
        vec![("val", halves(&[3], &[1.0, -2.0, 0.5]))],
        &[],
    );
    assert_eq!(decode(&block(vec![constant], "w"), "w").unwrap(), [1.0, -2.0, 0.5]);
}

#[test]
fn tables_by_group_and_their_use() {
    // Two groups of two; four entries each. Indices 0 1 | 3 3, low bits first.
    let lut = halves(&[2, 1, 4, 1], &[1.0, 2.0, 3.0, 4.0, 10.0, 20.0, 30.0, 40.0]);
    let indices = stored(DataType::UInt2, &[2, 2], &[0b1111_0100]);
    let values = vec![("indices", indices), ("lut", lut)];
    let lookup = operation("constexpr_lut_to_dense", &[("w", F16, &[2, 2])], values, &[]);
    let block = block(vec![lookup], "w");
    assert_eq!(decode(&block, "w").unwrap(), [1.0, 2.0, 40.0, 40.0]);
    let files = WeightFiles::new();
    let values = Decoder::new(&block, &files).values("w").unwrap();
    let tables = TableUse::of(&values).unwrap().unwrap();
    assert_eq!((tables.tables, tables.entries, tables.used), (2, 4, 3));
    assert_eq!((tables.fewest_used, tables.most_used), (1, 2));
    assert_eq!((tables.smallest, tables.largest), (1.0, 40.0));
    // One bit for each index of the first group, none for the second.
    assert!((tables.entropy - 0.5).abs() < 1e-12);
}

/// The bit string of integers, low bits first.
fn packed(values: &[u8], bits: usize) -> Vec<u8> {
    let mut bytes = vec![0; (values.len() * bits).div_ceil(8)];
    for (number, value) in values.iter().enumerate() {
        for bit in 0..bits {
            let at = number * bits + bit;
            bytes[at / 8] |= (value >> bit & 1) << (at % 8);
        }
    }
    bytes
}

#[test]
fn every_index_width_looks_up_its_table() {
    let widths = [
        (1, DataType::UInt1),
        (2, DataType::UInt2),
        (3, DataType::UInt3),
        (4, DataType::UInt4),
        (6, DataType::UInt6),
        (8, DataType::UInt8),
    ];
    for (bits, data_type) in widths {
        let entries = 1_usize << bits;
        // Three tables, of 26 indices each.
        let indices: Vec<u8> = (0..78).map(|i| (i * 37 % entries) as u8).collect();
        let table: Vec<f32> = (0..3 * entries).map(|i| i as f32 / 4.0).collect();
        let bytes = packed(&indices, bits);
        let lookup = operation(
            "constexpr_lut_to_dense",
            &[("w", F16, &[6, 13])],
            vec![
                ("indices", stored(data_type, &[6, 13], &bytes)),
                ("lut", halves(&[3, 1, entries as u64, 1], &table)),
            ],
            &[],
        );
        let named = |i: usize| table[i / 26 * entries + usize::from(indices[i])];
        let expected: Vec<f32> = (0..78).map(named).collect();
        assert_eq!(decode(&block(vec![lookup], "w"), "w").unwrap(), expected, "{bits} bits");
        // The older form: flat bytes and a shape.
        let shape = stored(DataType::UInt32, &[2], &[6, 0, 0, 0, 13, 0, 0, 0]);
        let lookup = operation(
            "constexpr_lut_to_dense",
            &[("w", F16, &[6, 13])],
            vec![
                ("indices", stored(DataType::UInt8, &[bytes.len() as u64], &bytes)),
                ("lut", halves(&[entries as u64], &table[..entries])),
                ("shape", shape),
            ],
            &[],
        );
        let expected: Vec<f32> = indices.iter().map(|index| table[usize::from(*index)]).collect();
        assert_eq!(decode(&block(vec![lookup], "w"), "w").unwrap(), expected, "{bits} bits");
    }
}

#[test]
fn a_cast_rounds_where_its_type_does() {
    let cast = |name: Option<&str>| {
        let mut values =
            vec![("source_val", stored(DataType::Float32, &[1], &1.0002_f32.to_le_bytes()))];
        values.extend(name.map(|name| ("output_dtype", Literal::string(name).to_value().unwrap())));
        operation("constexpr_cast", &[("w", F16, &[1])], values, &[])
    };
    let decoded = |name| decode(&block(vec![cast(name)], "w"), "w");
    assert_eq!(decoded(None).unwrap(), [1.0002]);
    assert_eq!(decoded(Some("fp16")).unwrap(), [1.0]);
    assert!(decoded(Some("int8")).unwrap_err().contains("output_dtype"));
}

#[test]
fn vectors_lie_along_their_axis() {
    // Indices [[1, 0]], entries of two, along axis 0: the result is [2, 2].
    let lut = halves(&[1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let values = vec![
        ("indices", stored(DataType::UInt1, &[1, 2], &[0b01])),
        ("lut", lut),
        ("vector_axis", Literal::int32(0).to_value().unwrap()),
    ];
    let lookup = operation("constexpr_lut_to_dense", &[("w", F16, &[2, 2])], values, &[]);
    assert_eq!(decode(&block(vec![lookup], "w"), "w").unwrap(), [3.0, 1.0, 4.0, 2.0]);
}

#[test]
fn scales_of_blocks_and_offsets() {
    // int4 data 1 -1 7 -8, two blocks of two, scales 2 and 0.5, offsets 1 and -8.
    let values = vec![
        ("data", stored(DataType::Int4, &[4], &[0xf1, 0x87])),
        ("scale", halves(&[2], &[2.0, 0.5])),
        ("offset", stored(DataType::Int4, &[2], &[0x81])),
    ];
    let scaled = operation("constexpr_blockwise_shift_scale", &[("w", F16, &[4])], values, &[]);
    assert_eq!(decode(&block(vec![scaled], "w"), "w").unwrap(), [0.0, -4.0, 7.5, 0.0]);
}

#[test]
fn a_table_of_integers_under_scales_is_one_weight() {
    let lut = stored(DataType::Int8, &[1, 1, 2, 1], &[3, 0xfd]);
    let lookup = operation(
        "constexpr_lut_to_dense",
        &[("inner", DataType::Int8, &[2, 2])],
        vec![("indices", stored(DataType::UInt1, &[2, 2], &[0b0110])), ("lut", lut)],
        &[],
    );
    let scaled = operation(
        "constexpr_blockwise_shift_scale",
        &[("w", F16, &[2, 2])],
        vec![("scale", halves(&[2, 1], &[1.0, 10.0]))],
        &[("data", "inner")],
    );
    let body = block(vec![lookup, scaled], "w");
    assert_eq!(decode(&body, "w").unwrap(), [3.0, -3.0, -30.0, 30.0]);
    let function = mil::Function {
        opset: "CoreML8".to_owned(),
        block_specializations: [("CoreML8".to_owned(), body)].into(),
        ..Default::default()
    };
    let program = mil::Program {
        functions: [("b".to_owned(), function.clone()), ("a".to_owned(), function)].into(),
        ..Default::default()
    };
    let model = Model { r#type: Some(model::Type::MlProgram(program)), ..Default::default() };
    let weights = list(&model);
    assert_eq!(weights.len(), 1);
    assert_eq!((weights[0].name, &weights[0].places[..]), ("w", &[("a", "w"), ("b", "w")][..]));
    assert_eq!(weights[0].functions, ["a", "b"]);
    let holders: Vec<&str> = weights[0].parts.iter().map(|part| part.holder.as_str()).collect();
    assert_eq!(
        holders,
        [
            "constexpr_blockwise_shift_scale.scale",
            "constexpr_blockwise_shift_scale.data/constexpr_lut_to_dense.indices",
            "constexpr_blockwise_shift_scale.data/constexpr_lut_to_dense.lut",
        ]
    );
    // scale 4, indices 1, lut 2
    assert_eq!((weights[0].bytes(), weights[0].elements()), (7, 4));
}

#[test]
fn the_older_forms() {
    let shape = stored(DataType::UInt32, &[2], &[2, 0, 0, 0, 2, 0, 0, 0]);
    let lookup = operation(
        "constexpr_lut_to_dense",
        &[("w", F16, &[2, 2])],
        vec![
            ("indices", stored(DataType::UInt8, &[1], &[0b0011_1001])),
            ("lut", halves(&[4], &[0.0, 1.0, 2.0, 3.0])),
            ("shape", shape.clone()),
        ],
        &[],
    );
    assert_eq!(decode(&block(vec![lookup], "w"), "w").unwrap(), [1.0, 2.0, 3.0, 0.0]);
    let sparse = operation(
        "constexpr_sparse_to_dense",
        &[("w", F16, &[2, 2])],
        vec![
            ("nonzero_data", halves(&[2], &[5.0, 6.0])),
            ("mask", stored(DataType::UInt8, &[1], &[0b0110])),
            ("shape", shape),
        ],
        &[],
    );
    assert_eq!(decode(&block(vec![sparse], "w"), "w").unwrap(), [0.0, 5.0, 6.0, 0.0]);
    let affine = operation(
        "constexpr_affine_dequantize",
        &[("w", F16, &[2, 2])],
        vec![
            ("quantized_data", stored(DataType::UInt8, &[2, 2], &[1, 2, 3, 4])),
            ("scale", halves(&[2], &[1.0, 10.0])),
            ("zero_point", stored(DataType::UInt8, &[], &[1])),
            ("axis", Literal::int32(-1).to_value().unwrap()),
        ],
        &[],
    );
    assert_eq!(decode(&block(vec![affine], "w"), "w").unwrap(), [0.0, 10.0, 2.0, 30.0]);
}

#[test]
fn sparse_tables_are_looked_up_at_their_dense_places() {
    // The mask has places 1 and 2; groups are rows, so place 1 is of table 0, place 2 of table 1.
    let mask = stored(DataType::UInt1, &[2, 2], &[0b0110]);
    let lookup = operation(
        "constexpr_lut_to_sparse",
        &[("mask", DataType::UInt1, &[2, 2]), ("nonzero", F16, &[2])],
        vec![
            ("indices_mask", mask),
            ("indices_nonzero_data", stored(DataType::UInt1, &[2], &[0b11])),
            ("lut", halves(&[2, 1, 2, 1], &[1.0, 2.0, 3.0, 4.0])),
        ],
        &[],
    );
    let dense = operation(
        "constexpr_sparse_to_dense",
        &[("w", F16, &[2, 2])],
        vec![],
        &[("nonzero_data", "nonzero"), ("mask", "mask")],
    );
    let block = block(vec![lookup, dense], "w");
    assert_eq!(decode(&block, "w").unwrap(), [0.0, 2.0, 4.0, 0.0]);
    let files = WeightFiles::new();
    let values = Decoder::new(&block, &files).values("w").unwrap();
    let tables = TableUse::of(&values).unwrap().unwrap();
    assert_eq!((tables.used, tables.most_used), (2, 1), "masked places name no entry");
}

/// A value that lies in a weight file.
fn filed(data_type: DataType, shape: &[u64], offset: u64) -> mil::Value {
    blob_value(&TensorType::new(data_type, shape), "@model_path/weights/weight.bin", offset)
}

/// As coremltools 9 writes weights that are pruned and then quantized or palettized: every link of
/// the chain names the mask, and the mask that a link gives goes nowhere.
#[test]
fn a_chain_is_one_weight() {
    let mask = || filed(DataType::UInt1, &[64, 120], 64);
    let chain = |inner: mil::Operation| {
        let dense = operation(
            "constexpr_sparse_to_dense",
            &[("w", F16, &[64, 120])],
            vec![("mask", mask())],
            &[("nonzero_data", "values")],
        );
        let user = operation("relu", &[("y", F16, &[64, 120])], vec![], &[("x", "w")]);
        let function = mil::Function {
            opset: "CoreML8".to_owned(),
            block_specializations: [("CoreML8".to_owned(), block(vec![inner, dense, user], "y"))]
                .into(),
            ..Default::default()
        };
        let functions = [("main".to_owned(), function)].into();
        let program = mil::Program { functions, ..Default::default() };
        Model { r#type: Some(model::Type::MlProgram(program)), ..Default::default() }
    };
    let outputs: [(&str, DataType, &[u64]); 2] =
        [("again", DataType::UInt1, &[64, 120]), ("values", F16, &[3072])];
    let quantized = chain(operation(
        "constexpr_sparse_blockwise_shift_scale",
        &outputs,
        vec![
            ("data_mask", mask()),
            ("nonzero_data", filed(DataType::Int8, &[3072], 1088)),
            ("scale", halves(&[1, 1], &[0.5])),
        ],
        &[],
    ));
    let palettized = chain(operation(
        "constexpr_lut_to_sparse",
        &outputs,
        vec![
            ("indices_mask", mask()),
            ("indices_nonzero_data", filed(DataType::UInt4, &[3072], 1088)),
            ("lut", halves(&[1, 1, 16, 1], &[0.0; 16])),
        ],
        &[],
    ));
    for (model, bytes) in [(&quantized, 960 + 3072 + 2), (&palettized, 960 + 1536 + 32)] {
        let found = list(model);
        let told: Vec<_> = found.iter().map(|w| (w.name, w.elements(), w.bytes())).collect();
        assert_eq!(told, [("w", 64 * 120, bytes)]);
    }
}

#[test]
fn what_contradicts_itself_is_an_error() {
    let lookup = |lut: mil::Value, bits: &[u8]| {
        operation(
            "constexpr_lut_to_dense",
            &[("w", F16, &[4])],
            vec![("indices", stored(DataType::UInt2, &[4], bits)), ("lut", lut)],
            &[],
        )
    };
    let error = |operation| decode(&block(vec![operation], "w"), "w").unwrap_err();
    assert!(error(lookup(halves(&[3, 4, 1], &[0.0; 12]), &[0])).contains("does not suit"));
    for shape in [&[4][..], &[1, 8, 1], &[1, 2, 1], &[4, 1], &[1, 4, 2], &[0, 4, 1], &[1, 4, 0]] {
        let count = shape.iter().product::<u64>() as usize;
        let text = error(lookup(halves(shape, &vec![0.0; count]), &[0]));
        assert!(text.contains("does not suit"), "{shape:?}: {text}");
    }
    let cycle = operation(
        "constexpr_blockwise_shift_scale",
        &[("w", F16, &[1])],
        vec![("scale", halves(&[1], &[1.0]))],
        &[("data", "w")],
    );
    assert!(error(cycle).contains("in a row"));
    assert!(error(operation("relu", &[("w", F16, &[1])], vec![], &[("x", "x")])).contains("relu"));
    let sparse = operation(
        "constexpr_sparse_to_dense",
        &[("w", F16, &[2])],
        vec![
            ("nonzero_data", halves(&[2], &[5.0, 6.0])),
            ("mask", stored(DataType::UInt1, &[2], &[0b01])),
        ],
        &[],
    );
    assert!(error(sparse).contains("1 ones"));
}

#[test]
fn statistics_leave_out_what_is_no_number() {
    let values = [f32::NAN, f32::INFINITY, 0.0, -0.0, -1.0, 3.0];
    let constant =
        operation("const", &[("w", F16, &[6])], vec![("val", halves(&[6], &values))], &[]);
    let empty = operation("const", &[("e", F16, &[0])], vec![("val", halves(&[0], &[]))], &[]);
    let block = block(vec![constant, empty], "w");
    let files = WeightFiles::new();
    let decoder = Decoder::new(&block, &files);
    let found = Statistics::of(&decoder.values("w").unwrap(), 4).unwrap();
    assert_eq!((found.finite, found.not_a_number, found.infinite, found.zeros), (4, 1, 1, 2));
    assert_eq!((found.smallest, found.largest, found.mean), (-1.0, 3.0, 0.5));
    assert_eq!(found.histogram, [1, 2, 0, 1]);
    let none = Statistics::of(&decoder.values("e").unwrap(), 4).unwrap();
    assert_eq!((none.finite, none.smallest, none.histogram.len()), (0, 0.0, 0));
}

#[test]
fn comparisons_by_hand() {
    let constant = |name: &str, values: &[f32]| {
        let shape = [values.len() as u64];
        operation("const", &[(name, F16, &shape)], vec![("val", halves(&shape, values))], &[])
    };
    let block = block(
        vec![
            constant("a", &[1.0, 0.0, f32::NAN]),
            constant("b", &[0.0, 1.0, f32::NAN]),
            constant("c", &[1.0, 0.0, 2.0]),
            constant("d", &[1.0]),
        ],
        "a",
    );
    let files = WeightFiles::new();
    let decoder = Decoder::new(&block, &files);
    let values = |name| decoder.values(name).unwrap();
    let turned = Comparison::of(&values("a"), &values("b")).unwrap().unwrap();
    assert_eq!((turned.different, turned.not_comparable, turned.cosine), (2, 0, 0.0));
    assert_eq!((turned.largest_error, turned.mean_error), (1.0, 2.0 / 3.0));
    let broken = Comparison::of(&values("a"), &values("c")).unwrap().unwrap();
    assert_eq!((broken.different, broken.not_comparable, broken.cosine), (1, 1, 1.0));
    assert_eq!(Comparison::of(&values("a"), &values("d")).unwrap(), None);
}

/// Rows that were divided by factors, which a `mul` after the product takes back.
#[test]
fn factors_of_output_channels_belong_to_the_weight() {
    let files = WeightFiles::new();
    let weight = || halves(&[2, 3, 1, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let program = |factors: mil::Value, shape: &[u64], with_bias: bool| {
        let mut names = vec![("x", "input"), ("weight", "w")];
        if with_bias {
            names.push(("bias", "b"));
        }
        let product = &[1, 2, 1, 5];
        block(
            vec![
                operation("const", &[("w", F16, &[2, 3, 1, 1])], vec![("val", weight())], &[]),
                operation(
                    "const",
                    &[("b", F16, &[2])],
                    vec![("val", halves(&[2], &[1.0, 1.0]))],
                    &[],
                ),
                operation("conv", &[("y", F16, product)], vec![], &names),
                operation("const", &[("s", F16, shape)], vec![("val", factors)], &[]),
                operation("mul", &[("z", F16, product)], vec![], &[("x", "y"), ("y", "s")]),
            ],
            "z",
        )
    };
    let all = |block: &mil::Block| {
        let mut found = [0.0; 6];
        let decoder = Decoder::new(block, &files);
        decoder.effective_values("w").unwrap().fill(0, &mut found).unwrap();
        found
    };
    let channels: &[u64] = &[1, 2, 1, 1];
    let scaled = program(halves(channels, &[2.0, 0.5]), channels, false);
    assert_eq!(all(&scaled), [2.0, 4.0, 6.0, 2.0, 2.5, 3.0]);
    let plain = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    // A bias before the factors, and factors along another axis.
    assert_eq!(all(&program(halves(channels, &[2.0, 0.5]), channels, true)), plain);
    let other: &[u64] = &[1, 1, 1, 2];
    assert_eq!(all(&program(halves(other, &[2.0, 0.5]), other, false)), plain);
}
