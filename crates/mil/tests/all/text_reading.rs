//! Reading text: what people write by hand, what is refused and where, and texts that are spoiled.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use crate::common::programs::*;
use anemll_mil::DataType;
use anemll_mil::text::{self, MAXIMUM_BLOCK_DEPTH, TextOptions, WriteError, parse};
use coreml_proto::mil;
use std::fmt::Write as _;

/// A text with every part of the grammar in it.
const SAMPLE: &str = r#"program(1.3)
[buildInfo = dict<string, string>({{"coremlc-version", "1.0"}, {"note", "a \"b\" é"}})]
{
    func main<ios18>(state<tensor<fp16, [2]>> kv, tensor<fp16, [?, 2]> x) [FlexibleShapeInformation = tuple<tuple<string, dict<string, tensor<int32, [?]>>>, tuple<string, dict<string, list<tensor<int32, [2]>, ?>>>>((("DefaultShapes", {{"x", [1, 2]}}), ("RangeDims", {{"x", [[1, 4], [2, 2]]}})))] {
            bool p = const()[name = string("p"), val = bool(true)];
            tensor<uint4, [2, 2]> u = const()[val = tensor<uint4, [2, 2]>([[1, 2], [3, 15]])];
            tensor<fp16, [2]> r = read_state(input = kv)[name = string("r")];
            write_state(data = r, input = kv);
            tensor<fp32, [4]> w = const()[val = tensor<fp32, [4]>(BLOBFILE(path = string("@model_path/weights/weight.bin"), offset = uint64(64)))];
            tensor<fp16, [?, 2]> y, fp16 z = thing(a = (x, r), b = fp16(-0x1.8p+1), c = list<int32, 2>([1, -2]))
                (tensor<fp16, [2]> i) {
                    tensor<fp16, [2]> j = add(x = i, y = r);
                } -> (j)
                () {
                } -> (p);
        } -> (y, z);
    func other<ios18>(fp32 q) {
        } -> (q);
}"#;

fn refused(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

/// The error of a body of one function, whose first line is line 3.
fn body(body: &str) -> String {
    refused(&format!("program(1.3)\n{{ func main<ios18>(fp16 x) {{\n{body}\n}} -> (x); }}"))
}

#[test]
fn the_sample_comes_back() {
    let document = parse(SAMPLE).unwrap();
    assert_eq!(document.to_text().unwrap(), SAMPLE);
    assert_eq!(document.build_info()["note"], "a \"b\" é");
    assert_eq!(document.program.functions.len(), 2);
    let main = &document.program.functions["main"];
    assert_eq!((main.opset.as_str(), main.inputs.len()), ("CoreML8", 2));
    let operations = &main.block_specializations["CoreML8"].operations;
    assert_eq!(operations[5].blocks.len(), 2);
    assert_eq!(operations[5].outputs.len(), 2);
    // The same program from protobuf bytes, whose reader counts how deep messages nest.
    let bytes = coreml_proto::write(&document.program);
    assert_eq!(coreml_proto::read_program(&bytes).unwrap(), document.program);
}

#[test]
fn texts_by_hand_are_read() {
    let hand = "program ( 1.3 )\r\n{func main<ios18>\n(tensor<fp16,[1,2]>x)\n{\tfp16 c=const()[name=\
                string(\"c\"),val=fp16(0.5)];tensor<fp16,[1,2]>y=mul(y=c,x=(x))[name=string(\"y\")]\n;}->(y)\n;}\n";
    assert_eq!(
        parse(hand).unwrap().to_text().unwrap(),
        "program(1.3)\n{\n    func main<ios18>(tensor<fp16, [1, 2]> x) {\n            \
         fp16 c = const()[name = string(\"c\"), val = fp16(0x1p-1)];\n            \
         tensor<fp16, [1, 2]> y = mul(x = x, y = c)[name = string(\"y\")];\n        \
         } -> (y);\n}\n"
    );
    // Words of the text may be names, as what follows tells them apart.
    let words = "program(1.0)\n{\n    func func<ios15>(tensor<fp16, [1]> tensor) {\n            \
                 tensor<fp16, [1]> fp16 = relu(x = tensor);\n        } -> (fp16);\n}";
    assert_eq!(parse(words).unwrap().to_text().unwrap(), words);
    let older =
        "program(1.0)\n{\n    func main<ios15>(tensor<fp16, []> x) {\n        } -> (x);\n}\n\n";
    assert_eq!(parse(older).unwrap().to_text().unwrap(), older);
    assert!(!parse(older).unwrap().dialect.bare_scalars);
}

/// Escapes that we would not write come back as they were.
#[test]
fn other_escapes_are_kept() {
    let text = "program(1.3)\n[buildInfo = dict<string, string>({{\"a\", \"it\\'s\"}, \
                {\"b\", \"a\ttab\"}, {\"c\", \"\\0\"}})]\n{\n}";
    let document = parse(text).unwrap();
    assert_eq!(document.build_info()["a"], "it's");
    assert_eq!(document.build_info()["c"], "\0");
    assert_eq!(document.to_text().unwrap(), text);
}

#[test]
fn errors_say_where() {
    for (text, error) in [
        ("", "line 1, column 1: expected `program`, found the end of the text"),
        ("program", "line 1, column 8: expected `(`, found the end of the text"),
        ("program(1)", "line 1, column 9: expected a version such as `1.3`, found `1`"),
        ("program(1.3)\n  [x", "line 2, column 5: expected `=`, found the end of the text"),
        ("program(1.3)\n{\n} é", "line 3, column 3: expected the end of the text, found `é`"),
        ("program(1.3)\n{ fun", "line 2, column 3: expected `func`, found `fun`"),
        ("program(1.3)\n{ func m<ios9>", "line 2, column 10: `ios9` is not a known opset"),
        (
            "program(1.3)\n{ func m<ios18>() {} -> (); func m<ios18>() {} -> (); }",
            "line 2, column 29: two functions are named `m`",
        ),
        (
            "program(1.3)[a = string(\"x\"), a = string(\"\")]{}",
            "line 1, column 31: two attributes are named `a`",
        ),
    ] {
        assert_eq!(refused(text), error, "{text}");
    }
    for (line, error) in [
        ("fp17 y = relu(x = x);", "line 3, column 1: expected a type, found `fp17`"),
        (
            "tensor<int5, [1]> y = relu(x = x);",
            "line 3, column 8: expected an element type, found `int5`",
        ),
        ("fp16 x = relu(x = x);", "line 3, column 6: two values are named `x`"),
        ("fp16 y = relu(x = y);", "line 3, column 19: `y` is not defined before it is used"),
        ("fp16 y = relu(x = (x, z));", "line 3, column 23: `z` is not defined before it is used"),
        ("fp16 y = relu(x = x, x = x);", "line 3, column 22: two arguments are named `x`"),
        ("fp16 y = relu(x = x)", "line 4, column 1: expected `;`, found '}'"),
        ("fp16 y = relu(x x);", "line 3, column 17: expected `=`, found `x`"),
        ("fp16 y = relu(x = x;", "line 3, column 20: expected `,` or `)`, found ';'"),
        ("f(v = bool(1));", "line 3, column 12: expected `true` or `false`, found `1`"),
        ("f(v = bool());", "line 3, column 12: expected a value of type bool, found ')'"),
        ("f(v = int8(128));", "line 3, column 12: `128` does not fit int8"),
        ("f(v = int8(1.0));", "line 3, column 12: expected a number of type int8, found `1.0`"),
        ("f(v = fp16(0x1p+16));", "line 3, column 12: `0x1p+16` does not fit fp16"),
        ("f(v = string(1));", "line 3, column 14: expected a string, found `1`"),
        ("f(v = string(\"1));", "line 3, column 14: a string does not end"),
        ("f(v = string(\"é\\q\"));", "line 3, column 16: an escape that is not known"),
        ("f(v = tensor<int8, [2]>([1]));", "line 3, column 25: 1 elements where the type has 2"),
        (
            "f(v = tensor<int8, [2, 2]>([[1, 2], [3]]));",
            "line 3, column 37: 1 elements where the type has 2",
        ),
        (
            "f(v = tensor<int8, [?, ?]>([[1]]));",
            "line 3, column 28: a value whose sizes are not known",
        ),
        ("f(v = list<int8, 2>([1]));", "line 3, column 21: a list of another length has 1 values"),
        ("f(v = tuple<int8, int8>((1)));", "line 3, column 25: 1 values for 2 types"),
        ("f(v = state<fp16>(1));", "line 3, column 19: a state cannot be written as a value"),
        (
            "f(v = tensor<int8, [1]>(BLOBFILE(path = int8(1))));",
            "line 3, column 41: expected the type string, found `int8`",
        ),
        (
            "f(v = tensor<int8, [99999999999999999999]>([]));",
            "line 3, column 21: expected a size or `?`, found `99999999999999999999`",
        ),
    ] {
        assert_eq!(body(line), error, "{line}");
    }
    // A name of a block is not known outside of it, and a block's own names come first.
    let nested = "fp16 y = f() (fp16 i) { } -> (i); g(a = i);";
    assert_eq!(body(nested), "line 3, column 41: `i` is not defined before it is used");
    assert_eq!(
        body("fp16 y = f() () { } -> (y);"),
        "line 3, column 25: `y` is not defined before it is used"
    );
}

/// Deeply nested texts are errors, not overflows of the stack.
#[test]
fn depth_is_limited() {
    let nested = |depth: usize| {
        let mut text = "program(1.3)\n{ func main<ios18>(fp16 x) {\n".to_owned();
        for level in 0..depth {
            write!(text, "fp16 y{level} = f() () {{ ").unwrap();
        }
        text.push_str(&"} -> (x);".repeat(depth));
        text + "} -> (x); }"
    };
    let deepest = parse(&nested(MAXIMUM_BLOCK_DEPTH)).unwrap();
    let written = deepest.to_text().unwrap();
    assert_eq!(parse(&written).unwrap(), deepest);
    let bytes = coreml_proto::write(&deepest.program);
    assert_eq!(coreml_proto::read_program(&bytes).unwrap(), deepest.program);
    for depth in [MAXIMUM_BLOCK_DEPTH + 1, 10_000] {
        assert!(refused(&nested(depth)).contains("blocks nest deeper than 40"));
    }
    let types = format!("f(v = {}int8{}(1));", "tuple<".repeat(10_000), ">".repeat(10_000));
    assert!(body(&types).contains("a type nests deeper than 16"));
    let brackets = format!("f(v = tensor<int8, [1]>({}));", "[".repeat(10_000));
    assert!(
        body(&brackets).contains("expected a number of type int8")
            || body(&brackets).contains("expected a value of type int8")
    );
    let rank = format!("f(v = tensor<int8, [{}1]>([]));", "1, ".repeat(10_000));
    assert!(body(&rank).contains("a rank above 32"));
}

#[test]
fn programs_without_a_text_are_refused() {
    let kind = || tensor(DataType::Float16, &[1]);
    let input = || vec![named("x", kind())];
    let unary = |x: &str, y: &str| operation("relu", &[("x", names(&[x]))], &[(y, kind())], &[]);
    let error = |operations: Vec<mil::Operation>, outputs: &[&str]| {
        let model = model(9, vec![("main", function("CoreML8", input(), operations, outputs))]);
        let error = text::to_text(&model, &TextOptions::default()).unwrap_err();
        assert!(matches!(error, WriteError::Model(_)));
        error.to_string()
    };
    assert_eq!(
        error(vec![unary("y", "y")], &["y"]),
        "function `main`, operation `y` (relu): `x`: uses `y`, which is not defined before it"
    );
    // Two operations that need each other.
    assert!(error(vec![unary("b", "a"), unary("a", "b")], &["a"]).contains("uses `b`"));
    assert!(error(vec![unary("x", "x")], &["x"]).contains("two values are named `x`"));
    assert!(error(vec![unary("x", "y.0")], &["x"]).contains("the name \"y.0\" cannot stand"));
    assert!(error(vec![], &["z"]).contains("the output `z` is not defined"));
    let mut deep = unary("x", "y");
    for _ in 0..100 {
        let block = mil::Block { operations: vec![deep], ..mil::Block::default() };
        deep = mil::Operation { blocks: vec![block], ..unary("x", "y") };
    }
    assert!(error(vec![deep], &["x"]).contains("blocks nest deeper than 40"));
    let value =
        |value: mil::Value| error(vec![operation("f", &[], &[], &[("val", value)])], &["x"]);
    let mut short = field(
        tensor(DataType::Float16, &[3]),
        mil::tensor_value::Value::Bytes(mil::tensor_value::RepeatedBytes { values: vec![0; 5] }),
    );
    assert!(
        value(short.clone()).contains("`val`: a value of type fp16 takes 6 bytes, but holds 5")
    );
    short.r#type = None;
    assert!(value(short).contains("declares no type"));
    // A shape that is empty, but has more places than anyone wants to read.
    let hollow = field(
        tensor(DataType::Int32, &[1 << 40, 0]),
        mil::tensor_value::Value::Ints(mil::tensor_value::RepeatedInts::default()),
    );
    assert!(value(hollow).contains("is too large"));
    let huge = field(
        tensor(DataType::Int32, &[u64::MAX, u64::MAX]),
        mil::tensor_value::Value::Ints(mil::tensor_value::RepeatedInts::default()),
    );
    assert!(value(huge).contains("takes too many elements"));
    let wrong = field(
        tensor(DataType::Int32, &[1]),
        mil::tensor_value::Value::Floats(mil::tensor_value::RepeatedFloats { values: vec![1.0] }),
    );
    assert!(value(wrong).contains("stand in a field of another type"));
    let mut none = model(9, vec![]);
    assert!(text::to_text(&none, &TextOptions::default()).is_err());
    none.specification_version = 5;
    assert!(text::to_text(&none, &TextOptions::default()).unwrap_err().to_string().contains("5"));
}

/// An output that takes no more bytes is an error, not a silent loss.
#[test]
fn an_output_that_fails_is_an_error() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let error = parse(SAMPLE).unwrap().write(&mut Full).unwrap_err();
    assert!(matches!(error, WriteError::Output(_)), "{error}");
}

/// Many small values of a large type, and many brackets of nothing, take time and memory of the text
/// alone.
#[test]
fn large_types_are_not_copied() {
    let types = vec!["int8"; 20_000].join(", ");
    let values = vec!["[]"; 20_000].join(", ");
    let text = format!(
        "program(1.3)\n{{ func m<ios18>() {{ f(v = list<list<tuple<{types}>, ?>, ?>([{values}])); }} -> (); }}"
    );
    let document = parse(&text).unwrap();
    assert!(coreml_proto::write(&document.program).len() < 2 * text.len());
    assert!(document.to_text().unwrap().len() < 2 * text.len());
}

/// A number from the one before it, for spoiling texts in the same way every time.
fn next(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state >> 33) as usize
}

/// Spoiled texts are read or refused, never more; what is read can be written and read again.
#[test]
fn spoiled_texts_do_no_harm() {
    let mut texts = vec![SAMPLE.to_owned()];
    match crate::common::shared() {
        Some(shared) => {
            let pair = shared.join("mlmodelc-pairs/flexible-gather/expected.mlmodelc/model.mil");
            texts.push(std::fs::read_to_string(pair).unwrap());
        }
        None => println!("skipped for texts of the compiler: no shared folder"),
    }
    let pieces: [&[u8]; 24] = [
        b"(",
        b")",
        b"[",
        b"]",
        b"{",
        b"}",
        b"<",
        b">",
        b",",
        b";",
        b"=",
        b"\"",
        b"\\",
        b"?",
        b"-",
        b"->",
        b"0",
        b"x",
        b"tensor",
        b"()",
        b" ",
        b"\n",
        "é".as_bytes(),
        b"\xff",
    ];
    let (mut state, mut read) = (0x9e37_79b9_7f4a_7c15_u64, 0);
    for text in &texts {
        for end in (0..text.len()).filter(|end| text.is_char_boundary(*end)) {
            assert!(parse(&text[..end]).is_err(), "{end}");
        }
        for _ in 0..4000 {
            let mut bytes = text.clone().into_bytes();
            for _ in 0..1 + next(&mut state) % 3 {
                let place = next(&mut state) % bytes.len();
                let piece = pieces[next(&mut state) % pieces.len()];
                let cut = (place + next(&mut state) % 4).min(bytes.len());
                bytes.splice(place..cut, piece.iter().copied());
            }
            let Ok(document) = parse(&String::from_utf8_lossy(&bytes)) else { continue };
            read += 1;
            let written = document.to_text().unwrap();
            assert_eq!(parse(&written).unwrap().to_text().unwrap(), written);
        }
    }
    assert!(read > 20, "only {read} spoiled texts were read");
}
