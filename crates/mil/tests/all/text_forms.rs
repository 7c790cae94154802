//! The text of functions and operations by hand: what must stand there for a program, and back.
//!
//! The expected texts were written by hand after the rules of docs/reference/mil-text.md; none is
//! our own output.

use crate::common::programs::*;
use anemll_mil::DataType;
use anemll_mil::text::{self, Dialect, Document, guesses};
use anemll_mil::types::{TensorType, ValueType};
use coreml_proto::mil;
use coreml_proto::mil::value::immediate_value::Value as Immediate;
use std::collections::BTreeMap;

#[test]
fn dialects_and_layout() {
    let kind = || tensor(DataType::Float16, &[1, 10]);
    let main = |opset: &str| {
        let mul = operation(
            "mul",
            &[("y", names(&["y"])), ("x", names(&["x"]))],
            &[("var_3", kind())],
            &[("name", strings(&[], &["op_3_cast_fp16"]))],
        );
        // Parameters are sorted whatever their order in the package.
        function(opset, vec![named("y", kind()), named("x", kind())], vec![mul], &["var_3"])
    };
    assert_eq!(
        text_of(&model(7, vec![("main", main("CoreML6"))])),
        "program(1.0)\n\
         [buildInfo = dict<tensor<string, []>, tensor<string, []>>({{\"v\", \"1\"}})]\n\
         {\n\
         \x20   func main<ios16>(tensor<fp16, [1, 10]> x, tensor<fp16, [1, 10]> y) {\n\
         \x20           tensor<fp16, [1, 10]> var_3 = mul(x = x, y = y)\
         [name = tensor<string, []>(\"op_3_cast_fp16\")];\n\
         \x20       } -> (var_3);\n\
         }"
    );
    // The opset has no say in the dialect; functions are sorted by name.
    let two = model(9, vec![("prefill", main("CoreML7")), ("infer", main("CoreML7"))]);
    let one = "(tensor<fp16, [1, 10]> x, tensor<fp16, [1, 10]> y) {\n\
         \x20           tensor<fp16, [1, 10]> var_3 = mul(x = x, y = y)\
         [name = string(\"op_3_cast_fp16\")];\n\
         \x20       } -> (var_3);\n";
    let head = "program(1.3)\n[buildInfo = dict<string, string>({{\"v\", \"1\"}})]\n{\n";
    assert_eq!(
        text_of(&two),
        format!("{head}    func infer<ios17>{one}    func prefill<ios17>{one}}}")
    );
    for (version, opset, tag) in [
        (6, "CoreML5", "(1.0)|ios15"),
        (7, "CoreML6", "(1.0)|ios16"),
        (8, "CoreML7", "(1.0)|ios17"),
        (9, "CoreML8", "(1.3)|ios18"),
        (10, "CoreML9", "(1.3)|ios26"),
    ] {
        let text = text_of(&model(version, vec![("main", main(opset))]));
        let (program, tag) = tag.split_once('|').unwrap();
        assert!(text.starts_with(&format!("program{program}\n")), "{text}");
        assert!(text.contains(&format!("    func main<{tag}>(")), "{text}");
    }
}

#[test]
fn build_info_is_merged_and_sorted() {
    let dictionary = |pairs: &[(&str, &str)]| {
        let values = pairs.iter().map(|(key, value)| mil::dictionary_value::KeyValuePair {
            key: Some(strings(&[], &[key])),
            value: Some(strings(&[], &[value])),
        });
        let values = values.collect();
        let text = ValueType::Tensor(TensorType::scalar(DataType::String));
        let kind = ValueType::Dictionary { key: Box::new(text.clone()), value: Box::new(text) };
        immediate(kind.to_proto(), Immediate::Dictionary(mil::DictionaryValue { values }))
    };
    let input = named("x", tensor(DataType::Float16, &[1]));
    let mut model = model(9, vec![("main", function("CoreML8", vec![input], vec![], &["x"]))]);
    let program = anemll_mil::model::program_mut(&mut model).unwrap();
    let info = dictionary(&[("w", "8"), ("v", "old"), ("a-b", "x")]);
    program.attributes.insert("buildInfo".to_owned(), info);
    let text = text_of(&model);
    let line = text.lines().nth(1).unwrap();
    assert_eq!(
        line,
        "[buildInfo = dict<string, string>({{\"a-b\", \"x\"}, {\"v\", \"1\"}, {\"w\", \"8\"}})]"
    );
    let document = text::parse(&text).unwrap();
    assert_eq!(document.build_info()["a-b"], "x");
    let program = anemll_mil::model::program_mut(&mut model).unwrap();
    program.attributes.insert("buildInfo".to_owned(), strings(&[], &["no dictionary"]));
    assert!(text::to_text(&model, &plain()).unwrap_err().to_string().contains("buildInfo"));
}

#[test]
fn operations_of_every_shape() {
    let kind = || tensor(DataType::Float32, &[2]);
    let input = |name: &str| named(name, kind());
    let state = ValueType::State(TensorType::new(DataType::Float16, &[1, 8, 512, 128])).to_proto();
    let blob = |kind: DataType, shape: &[u64], offset: u64| {
        anemll_mil::literal::blob_value(
            &TensorType::new(kind, shape),
            "@model_path/weights/weight.bin",
            offset,
        )
    };
    let label = |text: &str| ("name", strings(&[], &[text]));
    let operations = vec![
        operation(
            "const",
            &[],
            &[("axis", tensor(DataType::Int32, &[]))],
            &[("val", integers(DataType::Int32, &[], &[0])), label("axis")],
        ),
        // Several bindings stand in parentheses in their own order, one does not.
        operation(
            "concat",
            &[("values", names(&["b", "a"])), ("axis", names(&["axis"]))],
            &[("c", tensor(DataType::Float32, &[4]))],
            &[],
        ),
        operation("concat", &[("values", names(&["c"]))], &[("d", kind())], &[]),
        operation("split", &[("x", names(&["d"]))], &[("e", kind()), ("f", kind())], &[]),
        operation(
            "cast",
            &[("x", names(&["e"])), ("dtype", bound(strings(&[], &["fp16"])))],
            &[("g", tensor(DataType::Float16, &[2]))],
            &[],
        ),
        operation(
            "read_state",
            &[("input", names(&["kv"]))],
            &[("r", tensor(DataType::Float16, &[1, 8, 512, 128]))],
            &[label("r")],
        ),
        operation(
            "write_state",
            &[("input", names(&["kv"])), ("data", names(&["r"]))],
            &[],
            &[label("w")],
        ),
        // The constexpr operations of iOS 16 hold their values in attributes, those of iOS 18 in
        // arguments.
        operation(
            "constexpr_lut_to_dense",
            &[],
            &[("p", tensor(DataType::Float16, &[4, 2]))],
            &[
                ("indices", blob(DataType::UInt8, &[4], 64)),
                ("lut", floats(DataType::Float16, &[4], &[0.0, 1.0, 2.0, -0.5])),
                ("shape", integers(DataType::UInt32, &[2], &[4, 2])),
                label("p"),
            ],
        ),
        operation(
            "constexpr_lut_to_dense",
            &[
                ("lut", bound(blob(DataType::Float16, &[1, 1, 16, 1], 256))),
                ("indices", bound(blob(DataType::UInt4, &[8, 4], 128))),
            ],
            &[("q", tensor(DataType::Float16, &[8, 4]))],
            &[label("q")],
        ),
        operation("nothing", &[("none", names(&[]))], &[("n", kind())], &[]),
    ];
    let inputs = vec![named("kv", state), input("b"), input("a")];
    let function = function("CoreML8", inputs, operations, &["g", "f"]);
    let text = text_of(&model(9, vec![("main", function)]));
    let body: Vec<&str> = text.lines().skip(3).collect();
    let path = "path = string(\"@model_path/weights/weight.bin\")";
    assert_eq!(
        body,
        [
            "    func main<ios18>(tensor<fp32, [2]> a, tensor<fp32, [2]> b, \
             state<tensor<fp16, [1, 8, 512, 128]>> kv) {",
            "            int32 axis = const()[name = string(\"axis\"), val = int32(0)];",
            "            tensor<fp32, [4]> c = concat(axis = axis, values = (b, a));",
            "            tensor<fp32, [2]> d = concat(values = c);",
            "            tensor<fp32, [2]> e, tensor<fp32, [2]> f = split(x = d);",
            "            tensor<fp16, [2]> g = cast(dtype = string(\"fp16\"), x = e);",
            "            tensor<fp16, [1, 8, 512, 128]> r = read_state(input = kv)\
             [name = string(\"r\")];",
            "            write_state(data = r, input = kv)[name = string(\"w\")];",
            &format!(
                "            tensor<fp16, [4, 2]> p = constexpr_lut_to_dense()[indices = \
                 tensor<uint8, [4]>(BLOBFILE({path}, offset = uint64(64))), lut = \
                 tensor<fp16, [4]>([0x0p+0, 0x1p+0, 0x1p+1, -0x1p-1]), name = string(\"p\"), \
                 shape = tensor<uint32, [2]>([4, 2])];"
            ),
            &format!(
                "            tensor<fp16, [8, 4]> q = constexpr_lut_to_dense(indices = \
                 tensor<uint4, [8, 4]>(BLOBFILE({path}, offset = uint64(128))), lut = \
                 tensor<fp16, [1, 1, 16, 1]>(BLOBFILE({path}, offset = uint64(256))))\
                 [name = string(\"q\")];"
            ),
            "            tensor<fp32, [2]> n = nothing(none = ());",
            "        } -> (g, f);",
            "}",
        ]
    );
}

/// Blocks of `cond` and `while_loop`: layout as of functions, one step further in.
#[test]
fn nested_blocks() {
    let kind = || tensor(DataType::Float32, &[2]);
    let flag = || tensor(DataType::Bool, &[]);
    let block = |inputs: Vec<mil::NamedValueType>, operations, outputs: &[&str]| mil::Block {
        inputs,
        operations,
        outputs: outputs.iter().map(|name| (*name).to_owned()).collect(),
        attributes: BTreeMap::new(),
    };
    let unary = |kind_of: &str, x: &str, y: &str| {
        operation(kind_of, &[("x", names(&[x]))], &[(y, kind())], &[])
    };
    let mut inner = operation("cond", &[("pred", names(&["p"]))], &[("m", kind())], &[]);
    inner.blocks =
        vec![block(vec![], vec![unary("relu", "i", "n")], &["n"]), block(vec![], vec![], &["i"])];
    let mut outer = operation(
        "while_loop",
        &[("loop_vars", names(&["x"]))],
        &[("y", kind())],
        &[("name", strings(&[], &["loop"]))],
    );
    outer.blocks = vec![
        block(vec![named("i", kind())], vec![], &["p"]),
        block(vec![named("i", kind())], vec![inner], &["m"]),
    ];
    let inputs = vec![named("p", flag()), named("x", kind())];
    let model = model(9, vec![("main", function("CoreML8", inputs, vec![outer], &["y"]))]);
    let text = text_of(&model);
    let body: Vec<&str> = text.lines().skip(4).collect();
    assert_eq!(
        body,
        [
            "            tensor<fp32, [2]> y = while_loop(loop_vars = x)[name = string(\"loop\")]",
            "                (tensor<fp32, [2]> i) {",
            "                } -> (p)",
            "                (tensor<fp32, [2]> i) {",
            "                    tensor<fp32, [2]> m = cond(pred = p)",
            "                        () {",
            "                            tensor<fp32, [2]> n = relu(x = i);",
            "                        } -> (n)",
            "                        () {",
            "                        } -> (i);",
            "                } -> (m);",
            "        } -> (y);",
            "}",
        ]
    );
    assert!(guesses(&model).iter().any(|guess| guess.what.contains("blocks")));
}

#[test]
fn a_document_of_a_program_is_written() {
    let input = named("x", tensor(DataType::Float16, &[1]));
    let model = model(9, vec![("main", function("CoreML8", vec![input], vec![], &["x"]))]);
    let program = anemll_mil::model::program(&model).unwrap().clone();
    assert_eq!(
        Document::new(Dialect::V1_0, program).to_text().unwrap(),
        "program(1.0)\n{\n    func main<ios18>(tensor<fp16, [1]> x) {\n        } -> (x);\n}"
    );
}

/// Each guessed form is named with its first place, and nothing is named that was seen.
#[test]
fn guesses_name_what_and_where() {
    let kind = || tensor(DataType::Float16, &[2]);
    let plain = vec![operation("relu", &[("x", names(&["x"]))], &[("y", kind())], &[])];
    let seen =
        model(9, vec![("main", function("CoreML8", vec![named("x", kind())], plain, &["y"]))]);
    assert_eq!(guesses(&seen), []);
    let state = ValueType::State(TensorType::new(DataType::Float16, &[2])).to_proto();
    let constant = |name: &str, value: mil::Value| {
        let kind = value.r#type.clone().unwrap();
        operation("const", &[], &[(name, kind)], &[("val", value)])
    };
    let operations = vec![
        operation("write_state", &[("input", names(&["kv"])), ("data", names(&["x"]))], &[], &[]),
        constant("zero", floats(DataType::Float16, &[2], &[0.0, -0.0])),
        constant("nan", floats(DataType::Float32, &[], &[f64::NAN])),
        constant("four", integers(DataType::Int4, &[1], &[1])),
        constant("none", integers(DataType::Int32, &[0], &[])),
        constant("text", strings(&[2], &["\"", "é"])),
        constant("again", strings(&[], &["\\"])),
    ];
    let inputs = vec![named("x", kind()), named("kv", state)];
    let model = model(10, vec![("main", function("CoreML9", inputs, operations, &["x"]))]);
    let found: Vec<(&str, String)> =
        guesses(&model).into_iter().map(|guess| (guess.what, guess.place)).collect();
    let constant = |name: &str| format!("function `main`, operation `{name}` (const)");
    assert_eq!(
        found,
        [
            ("dialect of specification version 10", "the model".to_owned()),
            ("opset tag `ios26`", "function `main`".to_owned()),
            ("states", "function `main`, input `kv`".to_owned()),
            (
                "an operation without outputs",
                "function `main`, operation `` (write_state)".to_owned()
            ),
            ("spelling of -0", constant("zero")),
            ("spelling of NaN", constant("nan")),
            ("name of a data type", format!("{}: int4", constant("four"))),
            ("literal of an empty tensor", constant("none")),
            ("escapes in strings", constant("text")),
            ("characters beyond ASCII in strings", constant("text")),
        ]
    );
}
