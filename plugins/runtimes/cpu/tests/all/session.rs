//! A session from outside: states, several functions, shapes, taps, and what is refused.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use crate::common::{find, floats, generated, halves, integers, open, run, shared};
use anemll_mil::{
    DataType, DescriptionOptions, Dimension, FunctionBuilder, TensorType, combine_functions,
    function_model,
};
use anemll_plugin_api::{Session, Tensor, codes};
use coreml_proto::Model;
use std::collections::BTreeMap;

/// A temporary folder with the model in it, open.
fn session(model: &Model) -> (tempfile::TempDir, Box<dyn Session>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.mlmodel");
    std::fs::write(&path, coreml_proto::write(model)).unwrap();
    let session = open(&path).unwrap();
    (folder, session)
}

fn half(shape: &[u64]) -> TensorType {
    TensorType::new(DataType::Float16, shape)
}

/// `write`: puts `update` at row `position` of the state (4, 2); gives the state before (`before`)
/// and after (`after`). `read`: twice the state.
fn stateful() -> Model {
    let mut writer = FunctionBuilder::new();
    let update = writer.input("update", half(&[1, 2])).unwrap();
    let position = writer.input("position", TensorType::new(DataType::Int32, &[1])).unwrap();
    let state = writer.state("memory", half(&[4, 2])).unwrap();
    let before = writer.read_state(state).unwrap();
    let zero = writer.vector_i32(&[0]).unwrap();
    let one = writer.vector_i32(&[1]).unwrap();
    let next = writer.add(position, one).unwrap();
    let begin = writer.concat(&[position, zero], 0).unwrap();
    let end = writer.concat(&[next, zero], 0).unwrap();
    let current = writer.read_state(state).unwrap();
    let changed =
        writer.slice_update(current, update, begin, end, &[false, false], &[false, true]).unwrap();
    writer.write_state(state, changed).unwrap();
    let after = writer.read_state(state).unwrap();
    // Read only after the write, so that an early change of the buffer would show.
    let factor = writer.scalar_f16(1.0).unwrap();
    let before = writer.mul(before, factor).unwrap();
    let after = writer.mul(after, factor).unwrap();
    writer.name_value(before, "before").unwrap();
    writer.name_value(after, "after").unwrap();
    let writer = writer.finish(&[before, after]).unwrap();

    let mut reader = FunctionBuilder::new();
    let factor = reader.input("factor", half(&[1])).unwrap();
    let state = reader.state("memory", half(&[4, 2])).unwrap();
    let value = reader.read_state(state).unwrap();
    let scaled = reader.mul(value, factor).unwrap();
    reader.name_value(scaled, "scaled").unwrap();
    let reader = reader.finish(&[scaled]).unwrap();

    let options = DescriptionOptions::default();
    let functions = [
        ("write", function_model(writer, &options).unwrap()),
        ("read", function_model(reader, &options).unwrap()),
    ];
    combine_functions(&functions, "write", "test", &BTreeMap::new()).unwrap()
}

fn write_inputs(position: i32, values: [f32; 2]) -> Vec<Tensor> {
    vec![halves("update", &[1, 2], &values), integers("position", &[1], &[position])]
}

#[test]
fn states_last_are_shared_and_reset() {
    let (_folder, mut session) = session(&stateful());
    let first = run(&mut *session, "write", &write_inputs(1, [3.0, 4.0]), &[]).unwrap();
    assert_eq!(floats(find(&first, "before")), [0.0; 8]);
    assert_eq!(floats(find(&first, "after")), [0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0]);
    let second = run(&mut *session, "write", &write_inputs(3, [5.0, 6.0]), &[]).unwrap();
    assert_eq!(floats(find(&second, "before")), floats(find(&first, "after")));
    assert_eq!(floats(find(&second, "after")), [0.0, 0.0, 3.0, 4.0, 0.0, 0.0, 5.0, 6.0]);
    let factor = [halves("factor", &[1], &[2.0])];
    let read = run(&mut *session, "read", &factor, &[]).unwrap();
    assert_eq!(floats(find(&read, "scaled")), [0.0, 0.0, 6.0, 8.0, 0.0, 0.0, 10.0, 12.0]);
    session.reset().unwrap();
    let read = run(&mut *session, "read", &factor, &[]).unwrap();
    assert_eq!(floats(find(&read, "scaled")), [0.0; 8]);
}

#[test]
fn an_update_outside_the_state_is_an_error() {
    let (_folder, mut session) = session(&stateful());
    for position in [4, 100, i32::MAX] {
        let inputs = write_inputs(position, [1.0, 1.0]);
        let error = run(&mut *session, "write", &inputs, &[]).unwrap_err();
        assert_eq!(error.code, codes::RUN_FAILED, "{error}");
        assert!(error.message.contains("slice_update"), "{error}");
    }
}

#[test]
fn wrong_inputs_are_named() {
    let (_folder, mut session) = session(&stateful());
    let update = halves("update", &[1, 2], &[1.0, 2.0]);
    let position = integers("position", &[1], &[0]);
    let cases = [
        (vec![update.clone()], "position"),
        (vec![update.clone(), position.clone(), halves("extra", &[1], &[0.0])], "extra"),
        (vec![update.clone(), update.clone(), position.clone()], "twice"),
        (vec![update.clone(), halves("position", &[1], &[0.0])], "int32"),
        (vec![halves("update", &[2, 1], &[0.0; 2]), position], "[1, 2]"),
    ];
    for (inputs, expected) in cases {
        let error = run(&mut *session, "write", &inputs, &[]).unwrap_err();
        assert_eq!(error.code, codes::INPUT_INVALID);
        assert!(error.message.contains(expected), "{error}");
    }
    let error = run(&mut *session, "forget", &[], &[]).unwrap_err();
    assert_eq!(error.code, codes::FUNCTION_UNKNOWN);
    assert!(error.hint.is_some_and(|hint| hint.contains("read, write")));
}

#[test]
fn one_plan_serves_all_enumerated_shapes() {
    let mut builder = FunctionBuilder::new();
    let length = builder.symbol();
    let shape = vec![Dimension::Fixed(1), length];
    let kind = TensorType::with_shape(DataType::Int32, shape);
    let identifiers = builder.input("input_ids", kind).unwrap();
    let values: Vec<half::f16> = (0..6).map(|i| half::f16::from_f32(i as f32)).collect();
    let table = builder.table_f16("table", &[3, 2], &values).unwrap();
    let rows = builder.gather(table, identifiers, 0).unwrap();
    builder.name_value(rows, "hidden_states").unwrap();
    let function = builder.finish(&[rows]).unwrap();
    let mut options = DescriptionOptions::default();
    let shapes = vec![vec![1, 1], vec![1, 4]];
    options.enumerated_shapes.insert("input_ids".to_owned(), shapes);
    let (_folder, mut session) = session(&function_model(function, &options).unwrap());
    for list in [vec![2], vec![0, 1, 2, 0], vec![1]] {
        let inputs = [integers("input_ids", &[1, list.len() as u64], &list)];
        let outputs = run(&mut *session, "main", &inputs, &[]).unwrap();
        let hidden = find(&outputs, "hidden_states");
        assert_eq!(hidden.shape, [1, list.len() as u64, 2]);
        let expected: Vec<f32> =
            list.iter().flat_map(|&i| [2.0 * i as f32, 2.0 * i as f32 + 1.0]).collect();
        assert_eq!(floats(hidden), expected);
    }
    let inputs = [integers("input_ids", &[1, 2], &[0, 1])];
    let error = run(&mut *session, "main", &inputs, &[]).unwrap_err();
    assert!(error.message.contains("[1, 1] or [1, 4]"), "{error}");
    let inputs = [integers("input_ids", &[1, 1], &[3])];
    let error = run(&mut *session, "main", &inputs, &[]).unwrap_err();
    assert_eq!(error.code, codes::RUN_FAILED);
    assert!(error.message.contains("index 3"), "{error}");
}

#[test]
fn taps_show_inner_values_as_they_were() {
    let (_folder, mut session) = session(&stateful());
    let names: Vec<String> = {
        let error = run(&mut *session, "write", &write_inputs(0, [1.0, 2.0]), &["slice_updat"]);
        let error = error.unwrap_err();
        assert_eq!(error.code, codes::VALUE_UNKNOWN);
        let hint = error.hint.unwrap();
        hint.trim_start_matches("near names: ").split(", ").map(str::to_owned).collect()
    };
    let update = names.iter().find(|name| name.contains("slice_update")).unwrap();
    let inputs = write_inputs(2, [1.0, 2.0]);
    let taps = [update.as_str(), "update", "after"];
    let outputs = run(&mut *session, "write", &inputs, &taps).unwrap();
    assert_eq!(outputs.len(), 4, "two outputs, two taps that are not outputs");
    assert_eq!(floats(find(&outputs, update)), [0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0]);
    assert_eq!(floats(find(&outputs, "update")), [1.0, 2.0]);
    // A tap does not change what the state holds.
    let outputs = run(&mut *session, "write", &write_inputs(0, [7.0, 8.0]), &taps).unwrap();
    assert_eq!(floats(find(&outputs, "after")), [7.0, 8.0, 0.0, 0.0, 1.0, 2.0, 0.0, 0.0]);
}

#[test]
fn an_operation_that_is_not_there_is_named_at_opening() {
    let mut model = stateful();
    let program = anemll_mil::model::program_mut(&mut model).unwrap();
    let function = program.functions.get_mut("read").unwrap();
    let block = function.block_specializations.values_mut().next().unwrap();
    for operation in &mut block.operations {
        if operation.r#type == "mul" {
            operation.r#type = "custom_thing".to_owned();
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.mlmodel");
    std::fs::write(&path, coreml_proto::write(&model)).unwrap();
    let error = open(&path).err().unwrap();
    assert_eq!(error.code, codes::OPERATION_UNSUPPORTED);
    assert!(error.message.contains("custom_thing"), "{error}");
    assert!(error.at.is_some_and(|at| at.contains("read") && at.contains("scaled")));
}

#[test]
fn a_result_that_is_not_as_declared_is_an_error() {
    let mut model = stateful();
    let program = anemll_mil::model::program_mut(&mut model).unwrap();
    let function = program.functions.get_mut("read").unwrap();
    let block = function.block_specializations.values_mut().next().unwrap();
    for operation in &mut block.operations {
        if operation.r#type == "mul" {
            let kind = anemll_mil::ValueType::Tensor(half(&[2, 4]));
            operation.outputs[0].r#type = Some(kind.to_proto());
        }
    }
    let (_folder, mut session) = session(&model);
    let error = run(&mut *session, "read", &[halves("factor", &[1], &[1.0])], &[]).unwrap_err();
    assert!(error.message.contains("declared is float16 [2, 4]"), "{error}");
}

#[test]
fn files_that_are_no_packages_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let missing = open(&folder.path().join("missing.mlpackage")).err().unwrap();
    assert_eq!(missing.code, codes::PACKAGE_UNREADABLE);
    let compiled = folder.path().join("model.mlmodelc");
    std::fs::create_dir(&compiled).unwrap();
    std::fs::write(compiled.join("coremldata.bin"), b"x").unwrap();
    let error = open(&compiled).err().unwrap();
    assert_eq!(error.code, codes::COMPILED_INVALID, "{error}");
    let text = folder.path().join("text.mlmodel");
    std::fs::write(&text, b"this is not a model").unwrap();
    assert_eq!(open(&text).err().unwrap().code, codes::PACKAGE_INVALID);
}

/// The cache that `prefill` leaves must serve `infer` as the one that single steps leave.
#[test]
fn prefill_and_single_steps_leave_the_same_cache() {
    let inner = "reference/anemll-packages/tiny-llama-c2/llama_FFN_PF_chunk_01of02.mlpackage";
    let Some(path) = shared(inner) else {
        println!("skipped: no {inner}");
        return;
    };
    let mut session = open(&path).unwrap();
    let description = session.describe();
    let prefill = generated(&description, "prefill", 0, 0);
    run(&mut *session, "prefill", &prefill, &[]).unwrap();
    let next = generated(&description, "infer", 0, 64);
    let after_prefill = run(&mut *session, "infer", &next, &[]).unwrap();

    session.reset().unwrap();
    let hidden = find(&prefill, "hidden_states");
    let width = hidden.shape[2] as usize;
    let rows = floats(hidden);
    for position in 0..64 {
        let mut inputs = generated(&description, "infer", 0, position);
        let row = &rows[position as usize * width..][..width];
        for input in &mut inputs {
            if input.name == "hidden_states" {
                *input = halves("hidden_states", &[1, 1, width as u64], row);
            }
        }
        run(&mut *session, "infer", &inputs, &[]).unwrap();
    }
    let after_steps = run(&mut *session, "infer", &next, &[]).unwrap();
    let (left, right) = (floats(&after_prefill[0]), floats(&after_steps[0]));
    let largest = left.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    for (a, b) in left.iter().zip(&right) {
        assert!((a - b).abs() <= 4e-3 * largest, "{a} {b}");
    }
    // and the cache matters at all
    session.reset().unwrap();
    let empty = run(&mut *session, "infer", &next, &[]).unwrap();
    assert!(floats(&empty[0]).iter().zip(&left).any(|(a, b)| (a - b).abs() > 0.02 * largest));
}

/// A bare model `twice.mlmodel` of one linear layer whose weight, 2 on the diagonal, is in a weight
/// file beside it.
fn weighted(folder: &std::path::Path) -> std::path::PathBuf {
    use anemll_mlpackage::{BlobType, BlobWriter, WEIGHT_FILE_NAME};
    let weights = folder.join("weights");
    std::fs::create_dir(&weights).unwrap();
    let mut writer = BlobWriter::create(weights.join("weight.bin")).unwrap();
    let values: Vec<u8> = (0..1024_u32)
        .map(|place| half::f16::from_f32(if place % 33 == 0 { 2.0 } else { 0.0 }))
        .flat_map(half::f16::to_le_bytes)
        .collect();
    let offset = writer.append(BlobType::Float16, 1024, &values).unwrap().offset;
    writer.finish().unwrap();
    let mut builder = FunctionBuilder::new();
    let x = builder.input("x", half(&[1, 32])).unwrap();
    let value = anemll_mil::literal::blob_value(&half(&[32, 32]), WEIGHT_FILE_NAME, offset);
    let weight = builder.constant(Some("weight"), value).unwrap();
    let y = builder.linear(x, weight, None).unwrap();
    builder.name_value(y, "y").unwrap();
    let model =
        function_model(builder.finish(&[y]).unwrap(), &DescriptionOptions::default()).unwrap();
    let path = folder.join("twice.mlmodel");
    std::fs::write(&path, coreml_proto::write(&model)).unwrap();
    path
}

/// An operation that is not what the builder writes.
fn operation(
    kind: &str,
    outputs: &[(&str, DataType, &[u64])],
    values: Vec<(&str, coreml_proto::mil::Value)>,
    names: &[(&str, &str)],
) -> coreml_proto::mil::Operation {
    use coreml_proto::mil::argument::{Binding, binding::Binding as Bound};
    let argument =
        |bound| coreml_proto::mil::Argument { arguments: vec![Binding { binding: Some(bound) }] };
    coreml_proto::mil::Operation {
        r#type: kind.to_owned(),
        outputs: outputs
            .iter()
            .map(|(name, data_type, shape)| coreml_proto::mil::NamedValueType {
                name: (*name).to_owned(),
                r#type: Some(
                    anemll_mil::ValueType::Tensor(TensorType::new(*data_type, shape)).to_proto(),
                ),
            })
            .collect(),
        inputs: values
            .into_iter()
            .map(|(name, value)| (name.to_owned(), argument(Bound::Value(value))))
            .chain(names.iter().map(|(name, value)| {
                ((*name).to_owned(), argument(Bound::Name((*value).to_owned())))
            }))
            .collect(),
        ..Default::default()
    }
}

/// A table under a mask: the links of the chain have no values of their own, the weight has.
#[test]
fn a_sparse_palettized_weight_is_decoded() {
    use anemll_mil::literal::value_from_bytes;
    let stored = |data_type, shape: &[u64], bytes: &[u8]| {
        value_from_bytes(&TensorType::new(data_type, shape), bytes.to_vec()).unwrap()
    };
    let table: Vec<u8> = [1.0_f32, 2.0, 3.0, 4.0]
        .into_iter()
        .flat_map(|value| half::f16::from_f32(value).to_le_bytes())
        .collect();
    let mut builder = FunctionBuilder::new();
    let x = builder.input("x", half(&[2, 2])).unwrap();
    let weight = builder.constant(Some("w"), stored(DataType::Float16, &[2, 2], &[0; 8])).unwrap();
    let y = builder.add(x, weight).unwrap();
    builder.name_value(y, "y").unwrap();
    let mut model =
        function_model(builder.finish(&[y]).unwrap(), &DescriptionOptions::default()).unwrap();
    let Some(coreml_proto::model::Type::MlProgram(program)) = &mut model.r#type else {
        panic!("no program");
    };
    let function = program.functions.get_mut("main").unwrap();
    let block = function.block_specializations.values_mut().next().unwrap();
    // The mask has places 1 and 2; each row has a table of its own.
    let chain = [
        operation(
            "constexpr_lut_to_sparse",
            &[("mask", DataType::UInt1, &[2, 2]), ("nonzero", DataType::Float16, &[2])],
            vec![
                ("indices_mask", stored(DataType::UInt1, &[2, 2], &[0b0110])),
                ("indices_nonzero_data", stored(DataType::UInt1, &[2], &[0b11])),
                ("lut", stored(DataType::Float16, &[2, 1, 2, 1], &table)),
            ],
            &[],
        ),
        operation(
            "constexpr_sparse_to_dense",
            &[("w", DataType::Float16, &[2, 2])],
            vec![],
            &[("nonzero_data", "nonzero"), ("mask", "mask")],
        ),
    ];
    let at = block.operations.iter().position(|one| one.outputs[0].name == "w").unwrap();
    block.operations.splice(at..=at, chain);
    let (_folder, mut session) = session(&model);
    let inputs = [halves("x", &[2, 2], &[10.0, 20.0, 30.0, 40.0])];
    let outputs = run(&mut *session, "main", &inputs, &["w"]).unwrap();
    assert_eq!(floats(find(&outputs, "w")), [0.0, 2.0, 4.0, 0.0]);
    assert_eq!(floats(find(&outputs, "y")), [10.0, 22.0, 34.0, 40.0]);
    let inner = run(&mut *session, "main", &inputs, &["nonzero"]).unwrap_err();
    assert!(inner.message.contains("nonzero"), "{inner:?}");
}

/// Another process cuts the weight file short while the session is open: an error that names the
/// file if its weights were not needed yet, and no harm afterwards.
#[test]
fn a_weight_file_that_becomes_shorter_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = weighted(folder.path());
    let weights = folder.path().join("weights/weight.bin");
    let inputs = [halves("x", &[1, 32], &[1.5; 32])];
    let whole = std::fs::read(&weights).unwrap();
    let cut = || {
        let file = std::fs::OpenOptions::new().write(true).open(&weights).unwrap();
        file.set_len(200).unwrap();
    };

    let mut late = open(&path).unwrap();
    cut();
    let error = run(&mut *late, "main", &inputs, &[]).unwrap_err();
    assert_eq!(error.code, codes::BLOB_INVALID, "{error:?}");
    assert!(error.at.as_deref().unwrap().ends_with("weight.bin"), "{error:?}");
    assert!(error.message.contains("became shorter"), "{}", error.message);

    std::fs::write(&weights, whole).unwrap();
    let mut early = open(&path).unwrap();
    let expected = run(&mut *early, "main", &inputs, &[]).unwrap();
    cut();
    let again = run(&mut *early, "main", &inputs, &[]).unwrap();
    assert_eq!(floats(find(&again, "y")), [3.0; 32]);
    assert_eq!(find(&again, "y").bytes, find(&expected, "y").bytes);
}
