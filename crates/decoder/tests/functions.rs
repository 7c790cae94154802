//! Every kind of function over models that differ in every flag: valid programs, the interface that
//! the apps expect, the same weights wherever they are used.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use anemll_decoder::{DecoderSpec, GLOBAL_STATE_NAME, STATE_NAME, WINDOW_STATE_NAME, lower};

use anemll_plugin_api::codes;
use anemll_plugin_api::data::{FunctionSpec, LayerRange, Purpose, StateInfo};
use coreml_proto::{Model, array_feature_type, feature_type};

use common::{feature, function, functions, models, operations, references, tiny};

const FLOAT16: i32 = 65552;
const INT32: i32 = 131104;

fn lowered(spec: &DecoderSpec, function: &FunctionSpec) -> Model {
    lower(spec, function).unwrap_or_else(|error| panic!("{}: {error}", function.id))
}

#[test]
fn every_function_of_every_model_is_valid() {
    for (name, spec) in models() {
        for function in functions(&spec) {
            let model = lowered(&spec, &function);
            if let Err(error) = anemll_mil::validate_referenced(model) {
                panic!("{name}, {}: {error}", function.id);
            }
        }
    }
}

#[test]
fn interfaces_are_those_of_the_apps() {
    for (name, spec) in models() {
        let sizes = |list: &[u64]| list.iter().map(|size| *size as i64).collect::<Vec<i64>>();
        for function in functions(&spec) {
            let model = lowered(&spec, &function);
            assert_eq!(model.specification_version, 9);
            let description = model.description.as_ref().unwrap();
            let place = format!("{name}, {}", function.id);
            let tokens = if function.purpose == Purpose::Infer { 1 } else { spec.batch };
            let alone = function.layers.is_none() && !function.head;

            let mut inputs = Vec::new();
            if function.embedding {
                let length = if alone { 1 } else { tokens };
                inputs.push(("input_ids".to_owned(), INT32, sizes(&[1, length])));
            } else {
                inputs.push((
                    "hidden_states".to_owned(),
                    FLOAT16,
                    sizes(&[1, tokens, spec.hidden_size]),
                ));
            }
            let mut states: Vec<(String, i32, Vec<i64>)> = Vec::new();
            if function.layers.is_some() {
                let mask = sizes(&[1, 1, tokens, spec.context]);
                inputs.push(("position_ids".to_owned(), INT32, sizes(&[tokens])));
                inputs.push(("causal_mask".to_owned(), FLOAT16, mask));
                inputs.push(("current_pos".to_owned(), INT32, vec![1]));
                let state = |state: &StateInfo| (state.name.clone(), FLOAT16, sizes(&state.shape));
                states = spec.states().iter().map(state).collect();
                let known = [STATE_NAME, GLOBAL_STATE_NAME, WINDOW_STATE_NAME];
                assert!(known.contains(&&*states[0].0), "{place}");
            }
            let found: Vec<_> = description.input.iter().map(feature).collect();
            assert_eq!(found, inputs, "{place}");
            let found: Vec<_> = description.state.iter().map(feature).collect();
            assert_eq!(found, states, "{place}");

            let pieces = spec.head_splits.len() as u64;
            let outputs: Vec<_> = if function.argmax {
                vec![
                    ("argmax_idx".to_owned(), INT32, sizes(&[pieces])),
                    ("argmax_val".to_owned(), FLOAT16, sizes(&[pieces])),
                ]
            } else if function.head {
                let piece = |(place, rows): (usize, &u64)| {
                    (format!("logits{}", place + 1), FLOAT16, sizes(&[1, tokens, *rows]))
                };
                spec.head_splits.iter().enumerate().map(piece).collect()
            } else if alone {
                // A shape that depends on the input is not described, as coremltools does.
                let shape =
                    if spec.batch == 1 { sizes(&[1, 1, spec.hidden_size]) } else { Vec::new() };
                vec![("hidden_states".to_owned(), FLOAT16, shape)]
            } else {
                let ends = function.layers.unwrap().end == spec.layers();
                let rows = if ends && function.purpose == Purpose::Prefill { 1 } else { tokens };
                let shape = sizes(&[1, rows, spec.hidden_size]);
                vec![("output_hidden_states".to_owned(), FLOAT16, shape)]
            };
            let found: Vec<_> = description.output.iter().map(feature).collect();
            assert_eq!(found, outputs, "{place}");
        }
    }
}

#[test]
fn the_embedding_takes_one_token_or_a_batch() {
    let spec = tiny();
    let model = lowered(&spec, &function("e", true, None, false, Purpose::Infer));
    let input = &model.description.as_ref().unwrap().input[0];
    let Some(feature_type::Type::MultiArrayType(array)) = &input.r#type.as_ref().unwrap().r#type
    else {
        panic!("not an array")
    };
    let Some(array_feature_type::ShapeFlexibility::EnumeratedShapes(shapes)) =
        &array.shape_flexibility
    else {
        panic!("not enumerated")
    };
    let shapes: Vec<_> = shapes.shapes.iter().map(|shape| shape.shape.clone()).collect();
    assert_eq!(shapes, [[1, 1], [1, 64]]);
}

#[test]
fn functions_share_their_weights_and_use_all_of_them() {
    for (name, spec) in models() {
        let mut all: BTreeMap<String, String> = BTreeMap::new();
        let mut per_function = BTreeMap::new();
        for function in functions(&spec) {
            let found = references(&lowered(&spec, &function));
            for (constant, reference) in &found {
                let known = all.entry(constant.clone()).or_insert_with(|| reference.clone());
                assert_eq!(known, reference, "{name}, {}: {constant}", function.id);
            }
            per_function.insert(function.id, found);
        }
        let wanted: BTreeSet<_> =
            spec.weights().map(|weight| spec.reference(weight).to_file_name()).collect();
        let found: BTreeSet<_> = all.values().cloned().collect();
        assert_eq!(found, wanted, "{name}");
        let whole = |id: &str| per_function[id].values().cloned().collect::<BTreeSet<_>>();
        assert_eq!(whole("infer"), wanted, "{name}");
        assert_eq!(whole("evaluate"), wanted, "{name}");
        assert!(whole("prefill").is_subset(&wanted), "{name}");
    }
}

#[test]
fn prefill_leaves_out_what_only_logits_need() {
    let spec = tiny();
    let found =
        references(&lowered(&spec, &function("p", false, Some((2, 4)), false, Purpose::Prefill)));
    let has = |name: &str| found.keys().any(|key| key.contains(name));
    assert!(has("layers_2_mlp_down") && has("layers_3_self_attn_o_proj"));
    assert!(!has("layers_3_mlp") && !has("layers_3_post_attention") && !has("model_norm"));
    assert!(!has("layers_1"));
}

#[test]
fn the_state_is_read_updated_written_and_read_again() {
    let spec = tiny();
    let model = lowered(&spec, &function("i", false, Some((1, 3)), false, Purpose::Infer));
    let kinds: Vec<_> = operations(&model)
        .iter()
        .map(|operation| operation.r#type.as_str())
        .filter(|kind| ["read_state", "slice_update", "write_state"].contains(kind))
        .collect();
    let mut wanted = vec!["read_state"];
    for _ in 0..4 {
        wanted.extend(["slice_update", "write_state", "read_state"]);
    }
    assert_eq!(kinds, wanted);
}

#[test]
fn short_convolutions_read_update_and_write_their_rows() {
    let (_, spec) = models().into_iter().find(|(name, _)| *name == "short convolutions").unwrap();
    let model = lowered(&spec, &function("i", false, Some((0, 2)), false, Purpose::Infer));
    let kinds: Vec<_> = operations(&model)
        .iter()
        .map(|operation| operation.r#type.as_str())
        .filter(|kind| ["read_state", "slice_update", "write_state", "exp"].contains(kind))
        .collect();
    // Once for all layers, whether the token is the first; the cache is not touched.
    let layer = ["read_state", "slice_update", "write_state"];
    assert_eq!(kinds, [&["exp"][..], &layer, &layer].concat());
    // What the apps give stays an input, though nothing asks for a position.
    let names = ["position_ids_tmp", "current_pos_tmp"];
    let made = operations(&model).iter().flat_map(|operation| &operation.outputs);
    assert_eq!(made.filter(|output| names.contains(&output.name.as_str())).count(), 2);
    let tensors: Vec<String> = spec
        .layer_weights(1)
        .map(|weight| spec.reference(anemll_decoder::Weight::Layer(1, weight)))
        .map(|reference| format!("{} {:?}", reference.tensor, reference.rows))
        .collect();
    assert_eq!(tensors[1], "model.layers.1.conv.in_proj.weight Some([0, 48])");
    assert_eq!(tensors[4], "model.layers.1.conv.in_proj.bias Some([48, 96])");
    assert_eq!(tensors[7], "model.layers.1.conv.conv.weight None");
}

#[test]
fn pieces_that_do_not_go_together_are_refused() {
    let spec = tiny();
    let argmax = |function: FunctionSpec| function.with_argmax(true);
    let cases = [
        function("nothing", false, None, false, Purpose::Infer),
        function("no layers between", true, None, true, Purpose::Infer),
        function("empty range", false, Some((2, 2)), false, Purpose::Infer),
        function("beyond the end", false, Some((0, 5)), false, Purpose::Infer),
        function("late embedding", true, Some((1, 4)), false, Purpose::Infer),
        function("early head", false, Some((0, 3)), true, Purpose::Infer),
        function("prefill head", true, Some((0, 4)), true, Purpose::Prefill),
        argmax(function("no head", false, Some((0, 4)), false, Purpose::Infer)),
        argmax(function("batch", false, None, true, Purpose::Evaluate)),
        function("backwards", false, None, false, Purpose::Infer)
            .with_layers(LayerRange::new(u32::MAX, 0)),
    ];
    for case in cases {
        let error = lower(&spec, &case).expect_err(&case.id);
        assert_eq!(error.code, codes::PLUGIN_BAD_REQUEST);
        assert_eq!(error.at, Some(format!("function `{}`", case.id)));
    }
    let spec = DecoderSpec { batch: 0, ..tiny() };
    let error = lower(&spec, &function("i", true, None, false, Purpose::Infer)).unwrap_err();
    assert_eq!(error.code, codes::SHAPE_INVALID);
}
