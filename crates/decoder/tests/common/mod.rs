//! Models, function lists and readers that the tests share.
#![allow(dead_code)]

use std::collections::BTreeMap;

use anemll_decoder::rope::{RopeScaling, frequencies};
use anemll_decoder::{DecoderSpec, OutputProjection, SoftmaxForm, split_head};
use anemll_plugin_api::data::{FunctionSpec, LayerRange, Purpose, WeightReference};
use coreml_proto::{FeatureDescription, Model, feature_type, mil, model, state_feature_type};

/// The sizes of the reference model `tiny-llama-v2048`.
pub(crate) fn tiny() -> DecoderSpec {
    DecoderSpec {
        layers: 4,
        hidden_size: 256,
        attention_heads: 4,
        key_value_heads: 2,
        head_dimension: 64,
        intermediate_size: 512,
        vocabulary_size: 2048,
        norm_epsilon: 1e-5,
        query_key_value_bias: false,
        output_bias: false,
        mlp_bias: false,
        query_key_norm: false,
        tied_embeddings: false,
        rope: frequencies(500_000.0, 64, &RopeScaling::None).unwrap(),
        head_splits: split_head(2048, 8),
        context: 256,
        batch: 64,
        tensor_prefix: "model.".to_owned(),
        head_tensor: "lm_head.weight".to_owned(),
        output_projection: OutputProjection::Linear,
        softmax: SoftmaxForm::Spelled,
    }
}

/// Models that differ in every flag and proportion.
pub(crate) fn models() -> Vec<(&'static str, DecoderSpec)> {
    let rope = |width| frequencies(10_000.0, width, &RopeScaling::None).unwrap();
    let small = DecoderSpec {
        layers: 3,
        hidden_size: 48,
        head_dimension: 16,
        intermediate_size: 80,
        vocabulary_size: 130,
        rope: rope(16),
        head_splits: split_head(130, 8),
        context: 64,
        batch: 8,
        ..tiny()
    };
    vec![
        ("grouped", small.clone()),
        ("each head its own", DecoderSpec { key_value_heads: 4, ..small.clone() }),
        ("one key head", DecoderSpec { key_value_heads: 1, ..small.clone() }),
        (
            "biases",
            DecoderSpec {
                query_key_value_bias: true,
                output_bias: true,
                mlp_bias: true,
                ..small.clone()
            },
        ),
        (
            "convolution, softmax, head norms",
            DecoderSpec {
                output_projection: OutputProjection::Convolution,
                softmax: SoftmaxForm::Operation,
                query_key_norm: true,
                query_key_value_bias: true,
                output_bias: true,
                ..small.clone()
            },
        ),
        (
            "odd vocabulary",
            DecoderSpec { vocabulary_size: 131, head_splits: split_head(131, 8), ..small.clone() },
        ),
        (
            "one piece, tied",
            DecoderSpec { head_splits: vec![130], tied_embeddings: true, ..small.clone() },
        ),
        (
            "large vocabulary",
            DecoderSpec {
                vocabulary_size: 70_001,
                head_splits: split_head(70_001, 16),
                ..small.clone()
            },
        ),
        ("wide heads", DecoderSpec { head_dimension: 6, rope: rope(6), ..small.clone() }),
        ("one layer", DecoderSpec { layers: 1, ..small.clone() }),
        ("a longer state", DecoderSpec { context: 50, batch: 24, ..small.clone() }),
        ("batches of one", DecoderSpec { batch: 1, ..small.clone() }),
        ("no prefix", DecoderSpec { tensor_prefix: String::new(), ..small }),
    ]
}

/// A function of these pieces.
pub(crate) fn function(
    id: &str,
    embedding: bool,
    layers: Option<(u32, u32)>,
    head: bool,
    purpose: Purpose,
) -> FunctionSpec {
    FunctionSpec::new(id, purpose)
        .with_embedding(embedding)
        .with_layers(layers.map(|(first, end)| LayerRange::new(first, end)))
        .with_head(head)
}

/// Every kind of function that combiners ask for, with `chunks` chunks at most.
pub(crate) fn functions(spec: &DecoderSpec) -> Vec<FunctionSpec> {
    let all = Some((0, spec.layers));
    let argmax = |function: FunctionSpec| function.with_argmax(true);
    let mut list = vec![
        function("embeddings", true, None, false, Purpose::Infer),
        function("lm_head", false, None, true, Purpose::Infer),
        argmax(function("lm_head.argmax", false, None, true, Purpose::Infer)),
        function("lm_head.evaluate", false, None, true, Purpose::Evaluate),
        function("infer", true, all, true, Purpose::Infer),
        argmax(function("infer.argmax", true, all, true, Purpose::Infer)),
        function("prefill", true, all, false, Purpose::Prefill),
        function("evaluate", true, all, true, Purpose::Evaluate),
    ];
    let middle = spec.layers / 2;
    let chunks = [(0, middle), (middle, spec.layers), (0, spec.layers)];
    for (first, end) in chunks.into_iter().filter(|(first, end)| first < end) {
        for (name, purpose) in [
            ("infer", Purpose::Infer),
            ("prefill", Purpose::Prefill),
            ("evaluate", Purpose::Evaluate),
        ] {
            let id = format!("{name}.{first}.{end}");
            list.push(function(&id, false, Some((first, end)), false, purpose));
        }
    }
    list
}

/// The operations of `main`.
pub(crate) fn operations(model: &Model) -> &[mil::Operation] {
    let Some(model::Type::MlProgram(program)) = &model.r#type else { panic!("no program") };
    &program.functions["main"].block_specializations["CoreML8"].operations
}

/// How often each operation stands in `main`; constants are left out.
pub(crate) fn histogram(model: &Model) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for operation in operations(model).iter().filter(|operation| operation.r#type != "const") {
        *counts.entry(operation.r#type.clone()).or_insert(0) += 1;
    }
    counts
}

/// The weight references of `main` by the name of their constant, as file names.
pub(crate) fn references(model: &Model) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for operation in operations(model) {
        let Some(value) = operation.attributes.get("val") else { continue };
        if let Some(mil::value::Value::BlobFileValue(blob)) = &value.value {
            assert_eq!(blob.offset, 0);
            WeightReference::parse_file_name(&blob.file_name).unwrap().unwrap();
            let name = operation.outputs[0].name.clone();
            assert!(found.insert(name, blob.file_name.clone()).is_none());
        }
    }
    found
}

/// Name, dtype and shape of a feature, states included.
pub(crate) fn feature(feature: &FeatureDescription) -> (String, i32, Vec<i64>) {
    let kind = feature.r#type.as_ref().unwrap().r#type.as_ref().unwrap();
    let array = match kind {
        feature_type::Type::MultiArrayType(array) => array,
        feature_type::Type::StateType(state) => {
            let Some(state_feature_type::Type::ArrayType(array)) = &state.r#type else {
                panic!("a state without a type")
            };
            array
        }
        other => panic!("unexpected {other:?}"),
    };
    (feature.name.clone(), array.data_type, array.shape.clone())
}
