//! Models lowered: what functions, states and weights become, and what is refused.
// Helpers of tests may unwrap as tests do; clippy knows only the latter.
#![allow(clippy::unwrap_used)]

use anemll_aicode::asset::Asset;
use anemll_aicode::{Attribute, ElementType, TensorType as CoreTensor, Type, verify};
use anemll_coreai::Interface;
use anemll_layout::apple;
use anemll_mil::{
    DataType, DescriptionOptions, FunctionBuilder, Result, TensorType, Var, combine_functions,
    function_model,
};
use anemll_plugin_api::codes;
use anemll_plugin_api::data::Joined;
use coreml_proto::Model;
use std::collections::BTreeMap;
use std::path::Path;

/// The model of one function.
fn model(build: impl FnOnce(&mut FunctionBuilder) -> Result<Var>) -> Model {
    let mut builder = FunctionBuilder::new();
    let output = build(&mut builder).unwrap();
    builder.name_value(output, "y").unwrap();
    let function = builder.finish(&[output]).unwrap();
    function_model(function, &DescriptionOptions::default()).unwrap()
}

fn half(shape: &[u64]) -> TensorType {
    TensorType::new(DataType::Float16, shape)
}

fn compiled(folder: &Path, model: &Model) -> anemll_plugin_api::Result<Asset> {
    let source = folder.join("x.mlmodel");
    std::fs::write(&source, coreml_proto::write(model)).unwrap();
    let path = folder.join("x.aimodel");
    anemll_coreai::compile(&source, &path, "a test", Interface::Asked)?;
    let asset = Asset::open(&path)?;
    verify(&asset.program).unwrap();
    Ok(asset)
}

fn names(asset: &Asset, function: &str) -> Vec<String> {
    let operations = &asset.program.function(function).unwrap().body.operations;
    let names = operations.iter().map(|operation| operation.name.clone());
    names.filter(|name| name != "primitive.constant_v1").collect()
}

/// A product with a table of constants that is large enough for a blob.
fn weighted(builder: &mut FunctionBuilder, tokens: u64) -> Result<Var> {
    let x = builder.input("x", half(&[1, tokens, 32]))?;
    let values: Vec<half::f16> =
        (0..1024_u16).map(|value| half::f16::from_f32(value.into())).collect();
    let weight = builder.table_f16("weight", &[32, 32], &values)?;
    builder.linear(x, weight, None)
}

#[test]
fn functions_share_weights_whatever_shape_they_ask_for() {
    let folder = tempfile::tempdir().unwrap();
    let infer = model(|builder| weighted(builder, 1));
    let prefill = model(|builder| weighted(builder, 4));
    let functions = [("infer", infer), ("prefill", prefill)];
    let both = combine_functions(&functions, "infer", "", &BTreeMap::new()).unwrap();
    let asset = compiled(folder.path(), &both).unwrap();
    let [blob] = asset.program.blobs.as_slice() else { panic!("{:?}", asset.program.blobs) };
    assert_eq!(blob.length, 2048);
    let mut bytes = [0; 4];
    asset.read_blob(blob, 2, &mut bytes).unwrap();
    assert_eq!(bytes, [0x00, 0x3c, 0x00, 0x40], "1 and 2, in the order of the package");
    assert!(names(&asset, "prefill").contains(&"primitive.conv2d_v1".to_owned()));
    let output = &asset.program.function("prefill").unwrap().outputs[0];
    let expected = CoreTensor::new(ElementType::Float16, &[1, 4, 32]);
    assert_eq!((output.name.as_deref(), &output.kind), (Some("y"), &Type::Tensor(expected)));
    let first = std::fs::read(folder.path().join("x.aimodel/main.mlirb")).unwrap();
    compiled(folder.path(), &both).unwrap();
    assert_eq!(first, std::fs::read(folder.path().join("x.aimodel/main.mlirb")).unwrap());
}

#[test]
fn packages_become_one_asset_with_each_weight_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let one = model(|builder| weighted(builder, 1));
    let many = model(|builder| weighted(builder, 4));
    let both = [("infer", one.clone()), ("prefill", many)];
    let metadata = |chunk: &str| {
        let pairs = [("com.anemll.context_length", "64"), ("com.anemll.chunk_no", chunk)];
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    };
    let both = combine_functions(&both, "infer", "", &metadata("1")).unwrap();
    let alone = combine_functions(&[("infer", one)], "infer", "", &metadata("2")).unwrap();
    for (name, model) in [("a.mlmodel", &both), ("b.mlmodel", &alone)] {
        std::fs::write(path(name), coreml_proto::write(model)).unwrap();
    }
    let joined = Joined::new("x")
        .with_function("infer_1", path("a.mlmodel"), "infer")
        .with_function("infer_2", path("b.mlmodel"), "infer")
        .with_function("prefill_1", path("a.mlmodel"), "prefill");
    let destination = folder.path().join("x.aimodel");
    let made = anemll_coreai::compile_joined(&joined, &destination, "a test").unwrap();
    assert_eq!(made.functions, ["infer_1", "infer_2", "prefill_1"]);
    assert_eq!((made.weights, made.bytes), (1, 2048));
    let asset = Asset::open(&destination).unwrap();
    verify(&asset.program).unwrap();
    let said = asset.metadata["creatorDefinedMetadata"].as_object().unwrap();
    let said: Vec<_> = said.iter().map(|(key, value)| (&**key, value.as_str().unwrap())).collect();
    let expected = [
        ("com.anemll.context_length", "64"),
        ("com.anemll.functions", "infer_1,infer_2,prefill_1"),
    ];
    assert_eq!(said, expected, "what the packages say differently is left out");
    let other = |joined: &Joined| {
        anemll_coreai::compile_joined(joined, &destination, "a test").map(drop).unwrap_err()
    };
    let missing = other(&joined.clone().with_function("y", path("b.mlmodel"), "prefill"));
    assert_eq!(missing.code, codes::FUNCTION_UNKNOWN);
    let apps = for_apps(&[("gather_embeddings_8", model(gathers))]);
    std::fs::write(path("c.mlmodel"), coreml_proto::write(&apps)).unwrap();
    let refused = joined.with_function("y", path("c.mlmodel"), "gather_embeddings_8");
    assert!(other(&refused).message.contains("an asset of its own"));
}

#[test]
fn a_state_is_read_once_and_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let asset = compiled(
        folder.path(),
        &model(|builder| {
            let x = builder.input("x", half(&[4, 8]))?;
            let state = builder.state("kept", half(&[4, 8]))?;
            let mut value = x;
            for _ in 0..3 {
                let content = builder.read_state(state)?;
                let sum = builder.add(content, value)?;
                builder.write_state(state, sum)?;
                value = builder.read_state(state)?;
            }
            builder.mul(value, x)
        }),
    );
    let asset = asset.unwrap();
    let names = names(&asset, "main");
    let count = |wanted: &str| names.iter().filter(|name| name.contains(wanted)).count();
    assert_eq!((count("read_handle"), count("write_handle"), count(".add_v1")), (1, 1, 3));
    let function = asset.program.function("main").unwrap();
    assert_eq!(function.inputs[0].state.as_deref(), Some("kept"));
    assert_eq!(function.outputs[0].kind, Type::Token);
}

#[test]
fn bounds_and_masks_of_slices_are_worked_in() {
    let folder = tempfile::tempdir().unwrap();
    let asset = compiled(
        folder.path(),
        &model(|builder| {
            let x = builder.input("x", half(&[4, 8]))?;
            builder.slice_by_index(x, &[-2, 3], &[100, 0], &[], &[false, true])
        }),
    );
    let asset = asset.unwrap();
    // From (2, 3) to (4, 8).
    let slice = "primitive.slice_v1 (x, [2, 3], [4, 8], all 1) : tensor<2x5xf16>";
    assert_eq!(calls(&asset, "main")[0], slice);
}

/// Operations with what they take, constants spelled out: `name (x, [1, 2]) : type`. Inputs have their names,
/// what operations give is their place among these lines.
fn calls(asset: &Asset, function: &str) -> Vec<String> {
    let text = anemll_aicode::text(&asset.program, Some(function));
    let (mut names, mut calls) = (BTreeMap::new(), Vec::new());
    for line in text.lines().map(str::trim) {
        if let Some(input) = line.strip_prefix("input ") {
            let (value, rest) = input.split_once(' ').unwrap();
            names.insert(value.to_owned(), rest.split('"').nth(1).unwrap().to_owned());
        }
        let (results, call) = match line.split_once(" = ") {
            Some((results, call)) => (results, call),
            None if line.starts_with("dataflow.output") => ("", line),
            None => continue,
        };
        let (call, kind) = call.split_once(" : ").unwrap_or((call, ""));
        if let Some(value) = call.strip_prefix("primitive.constant_v1 ") {
            let value = value.split_once(' ').filter(|(word, _)| *word == "blob");
            let blob =
                value.map(|(_, blob)| format!("blob of {}", blob.split(" of ").nth(1).unwrap()));
            let spelled = call.trim_start_matches("primitive.constant_v1 ").to_owned();
            names.insert(results.to_owned(), blob.unwrap_or(spelled));
            continue;
        }
        let (name, rest) = call.split_once(' ').unwrap_or((call, ""));
        let mut taken = Vec::new();
        let mut attributes = String::new();
        for word in rest.split_whitespace() {
            match names.get(word.trim_end_matches(',')) {
                Some(known) => taken.push(known.clone()),
                None => attributes = format!(" {word}"),
            }
        }
        for (place, result) in results.split(", ").enumerate() {
            let suffix = if place == 0 { String::new() } else { format!(".{place}") };
            names.insert(result.to_owned(), format!("#{}{suffix}", calls.len()));
        }
        let kind = if kind.is_empty() { String::new() } else { format!(" : {kind}") };
        calls.push(format!(
            "{name} ({}){attributes}{}",
            taken.join(", "),
            kind.trim_end_matches(" {…}")
        ));
    }
    calls
}

/// Constants and attributes of operations, not their shapes alone.
#[test]
fn operations_get_the_constants_that_the_program_says() {
    let folder = tempfile::tempdir().unwrap();
    let asset = compiled(
        folder.path(),
        &model(|builder| {
            let x = builder.input("x", half(&[2, 4, 8]))?;
            let turned = builder.transpose(x, &[2, 0, 1])?;
            let shaped = builder.reshape(turned, &[4, -1])?;
            let indices = builder.vector_i32(&[1, -1])?;
            let rows = builder.gather(shaped, indices, 0)?;
            let clipped = builder.clip(rows, -2.0, 0.5)?;
            let pieces = builder.split(clipped, &[6, 10], 1)?;
            let joined = builder.concat(&[pieces[1], pieces[0]], 1)?;
            let activated = builder.gelu(joined, "TANH_APPROXIMATION")?;
            builder.softmax(activated, -1)
        }),
    );
    let expected = [
        "primitive.transpose_v1 (x, [2, 0, 1]) : tensor<8x2x4xf16>",
        "primitive.reshape_v2 (#0, [4, 16]) : tensor<4x16xf16>",
        "primitive.reshape_v2 ([1, -1], [2, 1]) : tensor<2x1xsi32>",
        "primitive.gather_nd_v1 (#1, #2) : tensor<2x16xf16>",
        "broadcasting_maximum_v1 (#3, -2) : tensor<2x16xf16>",
        "broadcasting_minimum_v1 (#4, 0.5) : tensor<2x16xf16>",
        "primitive.split_v1 (#5, [6, 10], 1) : tensor<2x6xf16>, tensor<2x10xf16>",
        "primitive.concat_v1 (1, #6.1, #6) : tensor<2x16xf16>",
        "primitive.gelu_v1 (#7) approximate=1 : tensor<2x16xf16>",
        "softmax_v1 (#8, 1) : tensor<2x16xf16>",
        "dataflow.output_v1 (#9)",
    ];
    assert_eq!(calls(&asset.unwrap(), "main"), expected);
}

/// Offsets that are not given are zeros of which one is stored, of packed types too: loaders read packed elements
/// that stand in the program wrongly.
#[test]
fn zeros_are_stored_once_however_many_there_are() {
    let kind = CoreTensor::new(ElementType::Int4, &[8, 32]);
    let mut builder = anemll_aicode::block(vec![kind.into()]);
    let scale = builder.blob(&CoreTensor::new(ElementType::Float16, &[8, 2]), 0);
    let made = builder.blockwise(builder.argument(0), scale, None);
    let body = builder.finish_function(&[made]);
    let zeros: Vec<_> = body.operations[1..3].iter().map(|zero| &zero.properties[0]).collect();
    let splat = |length| Some(Attribute::Dense { splat: true, bytes: vec![0; length] });
    assert_eq!(zeros, [&splat(1), &splat(2)]);
}

#[test]
fn what_core_ai_lacks_is_refused_by_function_and_operation() {
    let folder = tempfile::tempdir().unwrap();
    let lacking = model(|builder| {
        let x = builder.input("x", half(&[4, 8]))?;
        builder.op1("floor", vec![("x", x.into())])
    });
    let error = compiled(folder.path(), &lacking).unwrap_err();
    assert_eq!(error.code, anemll_plugin_api::codes::COMPILE_FAILED);
    let expected = "function `main`, operation `y` (floor): \
                    Core AI has no operation for it that is known here";
    assert_eq!(error.message, expected);
    assert!(!folder.path().join("x.aimodel").exists());
}

#[test]
fn every_simple_operation_is_lowered_to_what_verifies() {
    let folder = tempfile::tempdir().unwrap();
    let asset = compiled(
        folder.path(),
        &model(|builder| {
            let x = builder.input("x", half(&[2, 4, 8]))?;
            let mut value = builder.layer_norm(x, &[-1], 1e-5)?;
            for step in [
                FunctionBuilder::silu,
                FunctionBuilder::sigmoid,
                FunctionBuilder::relu,
                FunctionBuilder::tanh,
                FunctionBuilder::square,
                FunctionBuilder::identity,
            ] {
                value = step(builder, value)?;
            }
            value = builder.gelu(value, "TANH_APPROXIMATION")?;
            value = builder.rsqrt(value, 1e-3)?;
            value = builder.clip(value, -1.0, 1.0)?;
            value = builder.softmax(value, -1)?;
            let other = builder.tile(value, &[1, 2, 1])?;
            let product = builder.matmul(other, value, false, true)?;
            let best = builder.reduce_argmax(product, -1, false)?;
            let best = builder.cast(best, DataType::Float16)?;
            let above = builder.greater_equal(best, best)?;
            let chosen = builder.select(above, best, best)?;
            let pieces = builder.split(chosen, &[4, 4], 1)?;
            let stacked = builder.stack(&pieces, 0)?;
            let turned = builder.transpose(stacked, &[2, 0, 1])?;
            let summed = builder.reduce_sum(turned, &[0], false)?;
            let indices = builder.vector_i32(&[1, 0, 1])?;
            let gathered = builder.gather(summed, indices, 1)?;
            builder.concat(&[gathered, gathered], -1)
        }),
    );
    let output = &asset.unwrap().program.functions[0].outputs[0];
    assert_eq!(output.kind, Type::Tensor(CoreTensor::new(ElementType::Float16, &[2, 6])));
}

/// Functions of a package that asks for the interface of Apple's apps.
fn for_apps(functions: &[(&str, Model)]) -> Model {
    let asks = [(apple::INTERFACE.to_owned(), apple::STATIC.to_owned())];
    combine_functions(functions, functions[0].0, "", &BTreeMap::from(asks)).unwrap()
}

fn gathers(builder: &mut FunctionBuilder) -> Result<Var> {
    let ids = builder.input("input_ids", TensorType::new(DataType::Int32, &[1, 8]))?;
    let values = vec![half::f16::ONE; 512];
    let table = builder.table_f16("table", &[32, 16], &values)?;
    builder.gather(table, ids, 0)
}

#[test]
fn what_apps_cannot_call_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let gather = || ("gather_embeddings_8", model(gathers));
    let extend = ("extend_64_8", model(|builder| weighted(builder, 8)));
    for (functions, expected) in [
        (vec![("infer", model(gathers))], "no functions such as `extend_512_64`"),
        (vec![gather()], "no functions such as `extend_512_64`"),
        (vec![extend], "apps have nothing for the input `x`"),
        (
            vec![("gather_embeddings_4", model(gathers))],
            "apps have nothing for the input `input_ids`",
        ),
    ] {
        let error = compiled(folder.path(), &for_apps(&functions)).map(drop).unwrap_err();
        assert!(error.message.contains(expected), "{expected}: {}", error.message);
    }
    // One that does not ask keeps its names.
    let plain =
        combine_functions(&[gather()], "gather_embeddings_8", "", &BTreeMap::new()).unwrap();
    let asset = compiled(folder.path(), &plain).unwrap();
    assert_eq!(asset.program.functions[0].inputs[0].name.as_deref(), Some("input_ids"));
}

/// A case of a dynamic model, whose logits are sums over the columns of the mask from `begin` on, behind which there are
/// `behind` more.
fn sample(context: u64, tokens: u64, begin: u64, behind: u64) -> (String, Model) {
    let built = |builder: &mut FunctionBuilder| -> Result<Var> {
        builder.input("input_ids", TensorType::new(DataType::Int32, &[1, tokens]))?;
        let mask = builder.input("causal_mask", half(&[1, 1, tokens, context]))?;
        for cache in ["key_cache", "value_cache"] {
            let state =
                builder.state(&format!("{cache}_{context}"), half(&[1, 1, 2, context, 4]))?;
            let content = builder.read_state(state)?;
            let twice = builder.add(content, content)?;
            builder.write_state(state, twice)?;
        }
        let int = |size: u64| i32::try_from(size).unwrap();
        let mut columns = mask;
        if behind > 0 {
            let bounds = [1, 1, int(tokens), 1];
            let one = builder.slice_by_index(mask, &[0; 4], &bounds, &[], &[false; 4])?;
            let more = builder.tile(one, &[1, 1, 1, int(behind)])?;
            columns = builder.concat(&[mask, more], -1)?;
        }
        let begin = [0, 0, 0, int(begin)];
        let end = [1, 1, int(tokens), int(context + behind)];
        let seen = builder.slice_by_index(columns, &begin, &end, &[], &[true; 4])?;
        let sums = builder.reduce_sum(seen, &[-1], false)?;
        let logits = builder.transpose(sums, &[0, 2, 1])?;
        builder.name_value(logits, "logits")?;
        Ok(logits)
    };
    let mut builder = FunctionBuilder::new();
    let logits = built(&mut builder).unwrap();
    let function = builder.finish(&[logits]).unwrap();
    let model = function_model(function, &DescriptionOptions::default()).unwrap();
    (format!("main_{context}_{tokens}"), model)
}

#[test]
fn sizes_of_a_dynamic_model_are_right_for_every_context() {
    let folder = tempfile::tempdir().unwrap();
    let main = |begin: u64, behind: u64| {
        let samples = [(64, 4), (64, 3), (32, 4), (32, 3)];
        let samples = samples.map(|(context, tokens)| sample(context, tokens, begin, behind));
        let functions: Vec<(&str, Model)> =
            samples.iter().map(|(name, model)| (name.as_str(), model.clone())).collect();
        let asks = [(apple::INTERFACE.to_owned(), apple::DYNAMIC.to_owned())];
        let package =
            combine_functions(&functions, "main_64_4", "", &BTreeMap::from(asks)).unwrap();
        compiled(folder.path(), &package)
    };
    // Caches may hold fewer positions than are cut off.
    let error = main(16, 0).map(drop).unwrap_err();
    assert_eq!(error.code, codes::COMPILE_FAILED);
    assert!(error.message.contains("right only for 16 tokens or more"), "{}", error.message);
    let asset = main(16, 16).unwrap();
    let functions: Vec<&str> =
        asset.program.functions.iter().map(|function| function.name.as_str()).collect();
    assert_eq!(functions, ["main"]);
    let cut = calls(&asset, "main");
    let unknown =
        |call: &&String| call.starts_with("primitive.slice_v1") && call.contains("1x1x?x?");
    assert!(cut.iter().any(|call| unknown(&call)), "{cut:#?}");
}
