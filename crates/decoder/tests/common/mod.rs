//! Models, function lists and readers that the tests share.
#![allow(dead_code)]

use std::collections::BTreeMap;

use anemll_decoder::rope::{RopeScaling, frequencies};
use anemll_decoder::{
    Activation, Attention, BlockSpec, DecoderSpec, DeltaNet, Fusion, KeyNames, Mixer, Norm,
    NormPlacement, OutputProjection, QueryKeyNorm, ShortConvolution, SiluForm, SoftmaxForm,
    WindowCache, split_head,
};
use anemll_plugin_api::data::{FunctionSpec, LayerRange, Purpose, WeightReference};
use coreml_proto::{FeatureDescription, Model, feature_type, mil, model, state_feature_type};

/// The sizes of the reference model `tiny-llama-v2048`.
pub(crate) fn tiny() -> DecoderSpec {
    DecoderSpec {
        blocks: vec![BlockSpec::llama(64, 512); 4],
        hidden_size: 256,
        attention_heads: 4,
        key_value_heads: 2,
        head_dimension: 64,
        vocabulary_size: 2048,
        norm: Norm::RMS,
        norm_epsilon: 1e-5,
        embedding_scale: 1.0,
        stream_scale: 1.0,
        logit_scale: 1.0,
        logit_cap: None,
        tied_embeddings: false,
        rotations: vec![frequencies(500_000.0, 64, &RopeScaling::None).unwrap()],
        head_splits: split_head(2048, 8),
        context: 256,
        batch: 64,
        tensor_prefix: "model.".to_owned(),
        head_tensor: "lm_head.weight".to_owned(),
        fusion: Fusion::None,
        interleaved_rotation: false,
        modules: &[],
        key_names: KeyNames::default(),
        output_projection: OutputProjection::Linear,
        softmax: SoftmaxForm::Spelled,
        silu: SiluForm::Operation,
        window_cache: WindowCache::Full,
        embedder: None,
    }
}

/// The same model with these layers changed.
fn with_blocks(mut spec: DecoderSpec, change: impl Fn(usize, &mut BlockSpec)) -> DecoderSpec {
    spec.blocks.iter_mut().enumerate().for_each(|(layer, block)| change(layer, block));
    spec
}

fn attention(block: &mut BlockSpec) -> &mut Attention {
    match &mut block.mixer {
        Mixer::Attention(attention) => attention,
        _ => panic!("attention is all there is"),
    }
}

/// Models that differ in every flag and proportion.
pub(crate) fn models() -> Vec<(&'static str, DecoderSpec)> {
    let rope = |width| frequencies(10_000.0, width, &RopeScaling::None).unwrap();
    let small = DecoderSpec {
        blocks: vec![BlockSpec::llama(16, 80); 3],
        hidden_size: 48,
        head_dimension: 16,
        vocabulary_size: 130,
        rotations: vec![rope(16)],
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
            with_blocks(small.clone(), |_, block| {
                block.mlp.bias = true;
                attention(block).query_key_value_bias = true;
                attention(block).output_bias = true;
            }),
        ),
        (
            "convolution, softmax, head norms",
            with_blocks(
                DecoderSpec {
                    output_projection: OutputProjection::Convolution,
                    softmax: SoftmaxForm::Operation,
                    ..small.clone()
                },
                |_, block| {
                    attention(block).query_key_norm = Some(QueryKeyNorm::Head);
                    attention(block).query_key_value_bias = true;
                    attention(block).output_bias = true;
                },
            ),
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
        (
            "wide heads",
            DecoderSpec { head_dimension: 6, rotations: vec![rope(6)], ..small.clone() },
        ),
        (
            "rings in some layers",
            with_blocks(
                DecoderSpec { window_cache: WindowCache::Ring, ..small.clone() },
                |layer, block| attention(block).window = (layer % 2 == 1).then_some(9),
            ),
        ),
        (
            "rings alone, and no rotation in one layer",
            with_blocks(
                DecoderSpec { window_cache: WindowCache::Ring, ..small.clone() },
                |layer, block| {
                    attention(block).window = Some(24);
                    attention(block).rotation = (layer != 1).then_some(0);
                },
            ),
        ),
        ("one layer", DecoderSpec { blocks: vec![BlockSpec::llama(16, 80)], ..small.clone() }),
        (
            "norms everywhere, caps, factors, windows and two rotations",
            with_blocks(
                DecoderSpec {
                    norm: Norm::RMS_ONE_PLUS,
                    embedding_scale: 7.0,
                    stream_scale: 0.125,
                    logit_cap: Some(30.0),
                    rotations: vec![rope(16), rope(16)],
                    ..small.clone()
                },
                |layer, block| {
                    block.placement = NormPlacement::Both;
                    block.mlp.activation = Activation::GeluTanh;
                    attention(block).score_cap = Some(50.0);
                    attention(block).rotation = Some(layer % 2);
                    attention(block).window = (layer % 2 == 1).then_some(9);
                },
            ),
        ),
        (
            "norms after, over the width; some layers without positions",
            with_blocks(small.clone(), |layer, block| {
                block.placement = NormPlacement::After;
                attention(block).query_key_norm = Some(QueryKeyNorm::Width);
                attention(block).rotation = (layer == 1).then_some(0);
            }),
        ),
        (
            "layer norms, parallel, without a gate",
            with_blocks(DecoderSpec { norm: Norm::LAYER, ..small.clone() }, |_, block| {
                block.placement = NormPlacement::Parallel;
                block.mlp.gated = false;
                block.mlp.activation = Activation::ReluSquared;
            }),
        ),
        (
            "fused, rotated in part",
            DecoderSpec { fusion: Fusion::All, rotations: vec![rope(12)], ..small.clone() },
        ),
        (
            "a fused MLP, pairs side by side, rotated in part",
            DecoderSpec {
                fusion: Fusion::Mlp,
                interleaved_rotation: true,
                rotations: vec![rope(12)],
                ..small.clone()
            },
        ),
        (
            "linear attention, and a gate behind attention",
            with_blocks(
                DecoderSpec {
                    norm: Norm::RMS_ONE_PLUS,
                    silu: SiluForm::Tanh,
                    output_projection: OutputProjection::Convolution,
                    ..small.clone()
                },
                |layer, block| {
                    attention(block).output_gate = true;
                    if layer != 1 {
                        block.mixer = Mixer::DeltaNet(DeltaNet {
                            key_heads: 2,
                            value_heads: 4,
                            key_width: 8,
                            value_width: 16,
                            taps: 4,
                        });
                    }
                },
            ),
        ),
        (
            "sinks, and windows in some layers",
            with_blocks(small.clone(), |layer, block| {
                attention(block).sinks = layer != 1;
                attention(block).window = (layer == 2).then_some(9);
            }),
        ),
        (
            "short convolutions",
            with_blocks(small.clone(), |layer, block| {
                if layer < 2 {
                    let convolution = ShortConvolution { length: 3, bias: layer == 1 };
                    block.mixer = Mixer::ShortConvolution(convolution);
                }
            }),
        ),
        (
            "a short convolution last, long for a batch, other names",
            with_blocks(
                DecoderSpec {
                    batch: 2,
                    modules: &[("mlp.gate_proj", "feed_forward.w1"), ("norm", "last_norm")],
                    ..small.clone()
                },
                |layer, block| {
                    if layer == 2 {
                        let convolution = ShortConvolution { length: 5, bias: false };
                        block.mixer = Mixer::ShortConvolution(convolution);
                    }
                },
            ),
        ),
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
    let all = Some((0, spec.layers()));
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
    let middle = spec.layers() / 2;
    let chunks = [(0, middle), (middle, spec.layers()), (0, spec.layers())];
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
