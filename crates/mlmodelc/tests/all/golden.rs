//! A small model with its compiled files, written out by hand from the description of the format.
// Helpers of tests may unwrap as tests do; clippy knows only the latter.

use anemll_mlmodelc::{CompiledModel, Options, Weights, compile};
use serde_json::{Value, json};

const BUILD: &str = concat!("anemll-", env!("CARGO_PKG_VERSION"));

/// The text of `infer`, and that of `prefill` but for its name.
fn function(name: &str) -> String {
    let weight = |offset: u32| {
        format!(
            "BLOBFILE(path = string(\"@model_path/weights/weight.bin\"), offset = uint64({offset}))"
        )
    };
    let row = "            tensor<fp16, [1, 4]>";
    [
        format!(
            "    func {name}<ios18>(state<tensor<fp16, [1, 4]>> kv, tensor<fp16, [1, 4]> x) {{"
        ),
        format!(
            "            tensor<fp16, [4, 4]> w = constexpr_lut_to_dense(indices = tensor<uint4, \
             [4, 4]>({}), lut = tensor<fp16, [1, 1, 16, 1]>({}))[name = string(\"w\")];",
            weight(64),
            weight(192)
        ),
        format!("{row} old = read_state(input = kv)[name = string(\"old\")];"),
        format!("{row} y = linear(weight = w, x = x)[name = string(\"y\")];"),
        format!("{row} sum = add(x = old, y = y)[name = string(\"sum\")];"),
        "            write_state(data = sum, input = kv)[name = string(\"store\")];".to_owned(),
        "        } -> (sum);\n".to_owned(),
    ]
    .join("\n")
}

fn feature(name: &str) -> Value {
    json!([{
        "dataType": "Float16", "formattedType": "MultiArray (Float16 1 × 4)",
        "hasShapeFlexibility": "0", "isOptional": "0", "name": name, "shape": "[1, 4]",
        "shortDescription": "", "type": "MultiArray",
    }])
}

#[test]
fn a_stateful_model_of_two_functions() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let package =
        crate::common::package(&path("2 parts-v1.0.mlpackage"), &crate::common::two_functions());
    let compiled = compile(&package, &path("out.mlmodelc"), &Options::default()).unwrap();
    let read = |name: &str| std::fs::read(compiled.path.join(name)).unwrap();

    let program = format!(
        "program(1.3)\n[buildInfo = dict<string, string>({{{{\"coremlc-component-MIL\", \
         \"{BUILD}\"}}, {{\"coremlc-version\", \"{BUILD}\"}}}})]\n{{\n{}{}}}",
        function("infer"),
        function("prefill")
    );
    assert_eq!(String::from_utf8(read("model.mil")).unwrap(), program);

    let state = json!([{
        "dataType": "Float16", "formattedType": "State (Float16 1 × 4)", "isOptional": "0",
        "name": "kv", "shape": "[1, 4]", "shortDescription": "", "type": "State",
    }]);
    let histogram = json!({
        "Ios18.add": 1, "Ios18.constexprLutToDense": 1, "Ios18.linear": 1, "Ios18.readState": 1,
        "Ios18.writeState": 1,
    });
    let function = |name: &str| {
        json!({
            "name": name, "inputSchema": feature("x"), "outputSchema": feature("sum"),
            "stateSchema": state, "computePrecision": "Float16",
            "storagePrecision": "Mixed (Palettized (4 bits), UInt4)",
            "mlProgramOperationTypeHistogram": histogram,
        })
    };
    let expected = json!([{
        "availability": {
            "iOS": "18.0", "macCatalyst": "18.0", "macOS": "15.0", "tvOS": "18.0",
            "visionOS": "2.0", "watchOS": "11.0",
        },
        "computePrecision": "Float16", "defaultFunctionName": "infer",
        "functions": [function("prefill"), function("infer")],
        "generatedClassName": "2_parts_v1_0", "inputSchema": feature("x"), "isUpdatable": "0",
        "metadataOutputVersion": "3.0", "method": "predict",
        "mlProgramOperationTypeHistogram": histogram, "modelParameters": [],
        "modelType": { "name": "MLModelType_mlProgram" }, "outputSchema": feature("sum"),
        "shortDescription": "a/b", "specificationVersion": 9, "stateSchema": state,
        "storagePrecision": "Mixed (Palettized (4 bits), UInt4)",
        "userDefinedMetadata": { "key": "value" },
    }]);
    let metadata = read("metadata.json");
    assert_eq!(serde_json::from_slice::<Value>(&metadata).unwrap(), expected);
    let text = String::from_utf8(metadata).unwrap();
    assert!(text.starts_with("[\n  {\n    \"shortDescription\" : \"a\\/b\",\n"), "{text}");

    let data = read("coremldata.bin");
    assert_eq!(data[..8], [0xf6, 1, 0, 0, 9, 0, 0, 0]);
    assert_eq!(data[data.len() - 32..data.len() - 16], data[data.len() - 16..]);
    assert_eq!(read("analytics/coremldata.bin").len(), 243);
    assert_eq!(read("weights/weight.bin"), crate::common::weights());
    assert_eq!(compiled.weight_bytes, 288);

    let opened = CompiledModel::open(&compiled.path).unwrap();
    opened.check_weights().unwrap();
    // The text has inputs in the order of their names, and says who compiled.
    let mut source = crate::common::two_functions();
    crate::common::program(&mut source).functions.values_mut().for_each(|one| one.inputs.reverse());
    let mut model = opened.model().clone();
    crate::common::program(&mut model).attributes.clear();
    assert!(model == source, "what is read is what was compiled");
    assert_eq!(opened.data().trailers, 2);
    assert_eq!(opened.build_info().len(), 2);
    assert!(compiled.guesses.iter().any(|guess| guess.what.contains("state")));
}

#[cfg(unix)]
#[test]
fn weights_are_shared_or_copied() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let package =
        crate::common::package(&folder.path().join("m.mlpackage"), &crate::common::two_functions());
    let number = |path: &std::path::Path| std::fs::metadata(path).unwrap().ino();
    let inner = "Data/com.apple.CoreML/weights/weight.bin";
    let compile = |copy: bool| {
        let options = Options { copy, replace: true, ..Options::default() };
        compile(&package, &folder.path().join("m.mlmodelc"), &options).unwrap()
    };
    let linked = compile(false);
    assert_eq!(linked.weights, Weights::HardLinked);
    assert_eq!(number(&linked.path.join("weights/weight.bin")), number(&package.join(inner)));
    let copied = compile(true);
    assert_eq!(copied.weights, Weights::Copied { reason: None });
    assert_ne!(number(&copied.path.join("weights/weight.bin")), number(&package.join(inner)));
    assert_eq!(copied.leftover, None);
}

/// What else lies in the folder of weights comes along.
#[test]
fn all_of_the_weights_folder_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let package =
        crate::common::package(&folder.path().join("m.mlpackage"), &crate::common::two_functions());
    let weights = package.join("Data/com.apple.CoreML/weights");
    std::fs::create_dir(weights.join("more")).unwrap();
    std::fs::write(weights.join("more/notes"), "notes").unwrap();
    let made = compile(&package, &folder.path().join("m.mlmodelc"), &Options::default()).unwrap();
    assert_eq!(std::fs::read(made.path.join("weights/more/notes")).unwrap(), b"notes");
    assert_eq!(made.weight_bytes, 288 + 5);
}
