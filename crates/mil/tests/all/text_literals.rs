//! Literals of every type by hand, in both dialects, and back.

use crate::common::programs::*;
use anemll_mil::DataType;
use anemll_mil::Elements;
use anemll_mil::types::{Dimension, TensorType, ValueType};
use coreml_proto::mil;
use coreml_proto::mil::tensor_value::{
    RepeatedBytes, RepeatedInts, RepeatedLongInts, Value as Field,
};
use coreml_proto::mil::value::immediate_value::Value as Immediate;

/// The line of a const that holds the value, in the dialect of a specification version.
fn line_of(version: i32, value: mil::Value) -> String {
    let kind = value.r#type.clone().unwrap();
    let input = named("x", tensor(DataType::Float16, &[1]));
    let operations = vec![operation("const", &[], &[("c", kind)], &[("val", value.clone())])];
    let model =
        model(version, vec![("main", function("CoreML5", vec![input], operations, &["x"]))]);
    let text = text_of(&model);
    let line = text.lines().find(|line| line.contains("const()")).unwrap();
    line.trim().strip_suffix("];").unwrap().split_once("val = ").unwrap().1.to_owned()
}

/// The literal as both dialects spell it; the newer one first.
#[track_caller]
fn spelled(value: mil::Value, newer: &str, older: &str) {
    assert_eq!(line_of(9, value.clone()), newer);
    assert_eq!(line_of(8, value), older);
}

#[track_caller]
fn same(value: mil::Value, both: &str) {
    spelled(value, both, both);
}

#[test]
fn scalars_of_every_type() {
    spelled(floats(DataType::Float16, &[], &[1.0]), "fp16(0x1p+0)", "tensor<fp16, []>(0x1p+0)");
    spelled(strings(&[], &["a"]), "string(\"a\")", "tensor<string, []>(\"a\")");
    let truth = literal(DataType::Bool, &[], Elements::Bools(vec![true]));
    spelled(truth, "bool(true)", "tensor<bool, []>(true)");
    for (kind, value, text) in [
        (DataType::Int4, -8, "int4(-8)"),
        (DataType::Int8, -128, "int8(-128)"),
        (DataType::Int16, -32768, "int16(-32768)"),
        (DataType::Int32, i64::from(i32::MIN), "int32(-2147483648)"),
        (DataType::Int64, i64::MIN, "int64(-9223372036854775808)"),
        (DataType::UInt1, 1, "uint1(1)"),
        (DataType::UInt2, 3, "uint2(3)"),
        (DataType::UInt3, 7, "uint3(7)"),
        (DataType::UInt4, 15, "uint4(15)"),
        (DataType::UInt6, 63, "uint6(63)"),
        (DataType::UInt8, 255, "uint8(255)"),
        (DataType::UInt16, 65535, "uint16(65535)"),
        (DataType::UInt32, 4_294_967_295, "uint32(4294967295)"),
        (DataType::UInt64, i64::MAX, "uint64(9223372036854775807)"),
    ] {
        assert_eq!(line_of(9, integers(kind, &[], &[value])), text);
    }
    // The upper half of uint64 stands in a signed field.
    let long = RepeatedLongInts { values: vec![-1] };
    let largest = field(tensor(DataType::UInt64, &[]), Field::LongInts(long));
    assert_eq!(line_of(9, largest), "uint64(18446744073709551615)");
    let ints = |values: Vec<i32>| Field::Ints(RepeatedInts { values });
    let half = field(tensor(DataType::UInt32, &[1]), ints(vec![-1]));
    assert_eq!(line_of(9, half), "tensor<uint32, [1]>([4294967295])");
    assert_eq!(
        line_of(9, field(tensor(DataType::Int8, &[1]), ints(vec![-3]))),
        "tensor<int8, [1]>([-3])"
    );
}

#[test]
fn floating_point_literals() {
    same(
        floats(DataType::Float16, &[5], &[0.1, 65504.0, f64::INFINITY, f64::NEG_INFINITY, -0.0]),
        "tensor<fp16, [5]>([0x1.998p-4, 0x1.ffcp+15, inf, -inf, -0x0p+0])",
    );
    same(
        floats(DataType::Float16, &[2], &[2_f64.powi(-24), f64::NAN]),
        "tensor<fp16, [2]>([0x1p-24, nan])",
    );
    same(
        floats(DataType::Float32, &[3], &[f64::from(0.1_f32), 1e5, f64::from(f32::MIN_POSITIVE)]),
        "tensor<fp32, [3]>([0x1.99999ap-4, 0x1.86ap+16, 0x1p-126])",
    );
    same(floats(DataType::Float64, &[1], &[0.1]), "tensor<fp64, [1]>([0x1.999999999999ap-4])");
    same(floats(DataType::BFloat16, &[1], &[1.5]), "tensor<bf16, [1]>([0x1.8p+0])");
    let bytes = |kind, values: &[u8]| {
        let shape = [values.len() as u64];
        field(tensor(kind, &shape), Field::Bytes(RepeatedBytes { values: values.to_vec() }))
    };
    same(bytes(DataType::Float8E4M3FN, &[0x38, 0x01]), "tensor<fp8e4m3fn, [2]>([0x1p+0, 0x1p-9])");
    same(bytes(DataType::Float8E5M2, &[0x3c, 0x7c]), "tensor<fp8e5m2, [2]>([0x1p+0, inf])");
}

#[test]
fn nested_packed_and_empty_tensors() {
    same(
        integers(DataType::Int32, &[2, 1, 2], &[1, -2, 3, 4]),
        "tensor<int32, [2, 1, 2]>([[[1, -2]], [[3, 4]]])",
    );
    same(
        literal(DataType::Bool, &[2], Elements::Bools(vec![true, false])),
        "tensor<bool, [2]>([true, false])",
    );
    same(strings(&[2], &["a", "b"]), "tensor<string, [2]>([\"a\", \"b\"])");
    // 0b110_001_101: elements low bits first, the third across two bytes.
    let packed = Field::Bytes(RepeatedBytes { values: vec![0b1000_1101, 0b1] });
    same(field(tensor(DataType::UInt3, &[3]), packed), "tensor<uint3, [3]>([5, 1, 6])");
    same(
        integers(DataType::UInt6, &[5], &[63, 0, 1, 32, 33]),
        "tensor<uint6, [5]>([63, 0, 1, 32, 33])",
    );
    same(integers(DataType::Int4, &[3], &[-8, 7, -1]), "tensor<int4, [3]>([-8, 7, -1])");
    same(integers(DataType::Int32, &[0], &[]), "tensor<int32, [0]>([])");
    same(floats(DataType::Float16, &[2, 0], &[]), "tensor<fp16, [2, 0]>([[], []])");
    same(floats(DataType::Float16, &[0, 2], &[]), "tensor<fp16, [0, 2]>([])");
    // The data decide about one unknown size.
    let ints = Field::Ints(RepeatedInts { values: vec![1, 2, 3, 4] });
    same(
        field(unknown(DataType::Int32, &[None, Some(2)]), ints),
        "tensor<int32, [?, 2]>([[1, 2], [3, 4]])",
    );
}

#[test]
fn strings_are_escaped() {
    let text = "a \"b\" \\ c\nd\te\r'é×'";
    spelled(
        strings(&[], &[text]),
        "string(\"a \\\"b\\\" \\\\ c\\nd\\te\\r'é×'\")",
        "tensor<string, []>(\"a \\\"b\\\" \\\\ c\\nd\\te\\r'é×'\")",
    );
}

#[test]
fn compositions() {
    let text = || ValueType::Tensor(TensorType::scalar(DataType::String));
    let number = || ValueType::Tensor(TensorType::scalar(DataType::Int64));
    let list = ValueType::List { element: Box::new(text()), length: Dimension::Fixed(2) };
    let values = vec![strings(&[], &["tench"]), strings(&[], &["shark"])];
    spelled(
        immediate(list.to_proto(), Immediate::List(mil::ListValue { values })),
        "list<string, 2>([\"tench\", \"shark\"])",
        "list<tensor<string, []>, 2>([\"tench\", \"shark\"])",
    );
    let tuple = ValueType::Tuple(vec![number(), TensorType::new(DataType::Int32, &[2]).into()]);
    let values =
        vec![integers(DataType::Int64, &[], &[7]), integers(DataType::Int32, &[2], &[1, 2])];
    spelled(
        immediate(tuple.to_proto(), Immediate::Tuple(mil::TupleValue { values })),
        "tuple<int64, tensor<int32, [2]>>((7, [1, 2]))",
        "tuple<tensor<int64, []>, tensor<int32, [2]>>((7, [1, 2]))",
    );
    // Keys are sorted: numbers by value, strings by bytes.
    let entries = |pairs: Vec<(mil::Value, mil::Value)>| {
        let values = pairs.into_iter().map(|(key, value)| mil::dictionary_value::KeyValuePair {
            key: Some(key),
            value: Some(value),
        });
        Immediate::Dictionary(mil::DictionaryValue { values: values.collect() })
    };
    let numbers = ValueType::Dictionary { key: Box::new(number()), value: Box::new(text()) };
    let key = |key: i64| integers(DataType::Int64, &[], &[key]);
    let value = |value: &str| strings(&[], &[value]);
    let pairs = vec![(key(10), value("a")), (key(9), value("b")), (key(-1), value("c"))];
    spelled(
        immediate(numbers.to_proto(), entries(pairs)),
        "dict<int64, string>({{-1, \"c\"}, {9, \"b\"}, {10, \"a\"}})",
        "dict<tensor<int64, []>, tensor<string, []>>({{-1, \"c\"}, {9, \"b\"}, {10, \"a\"}})",
    );
    let texts = ValueType::Dictionary { key: Box::new(text()), value: Box::new(text()) };
    let pairs = vec![(value("b"), value("")), (value("Z"), value("")), (value("a_"), value(""))];
    assert_eq!(
        line_of(9, immediate(texts.to_proto(), entries(pairs))),
        "dict<string, string>({{\"Z\", \"\"}, {\"a_\", \"\"}, {\"b\", \"\"}})"
    );
    assert_eq!(
        line_of(9, immediate(texts.to_proto(), entries(vec![]))),
        "dict<string, string>({})"
    );
}
