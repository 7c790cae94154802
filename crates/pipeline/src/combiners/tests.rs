//! Choices by layouts that no combiner here makes.

use super::*;
use anemll_layout::{combined, evaluation, part};
use anemll_plugin_api::data::{LayerRange, Purpose, RunOrder, WeightFile};
use std::collections::BTreeMap;

fn function(id: &str, layers: Option<(u32, u32)>, ends: bool) -> FunctionSpec {
    FunctionSpec::new(id, Purpose::Infer)
        .with_embedding(ends)
        .with_layers(layers.map(|(first, end)| LayerRange::new(first, end)))
        .with_head(ends)
}

/// A package for each range of layers; of one range that is all, with embedding and head in it.
fn layout(ranges: &[(u32, u32)], whole: bool) -> CheckedLayout {
    let mut layout = Layout::new("x", "x").with_steps(["make"]);
    for (number, range) in ranges.iter().enumerate() {
        let id = format!("part{number}");
        layout.functions.push(function(&id, Some(*range), whole));
        layout.weight_files.push(WeightFile::new(&id, [&id]));
        let package = part(1, format!("x_{id}"), &id, &id, String::new(), BTreeMap::new());
        layout.run.infer.push(package.call("main"));
        layout.packages.push(package);
    }
    if !whole {
        layout.functions.push(function("ends", None, true));
        layout.weight_files.push(WeightFile::new("ends", ["ends"]));
    }
    CheckedLayout::new(layout).unwrap()
}

/// As many ranges of one layer less each.
fn cut(layers: u32, chunks: u32) -> CheckedLayout {
    let ranges = anemll_layout::layer_ranges(layers, chunks).unwrap();
    let ranges: Vec<(u32, u32)> = ranges.iter().map(|range| (range.first, range.end)).collect();
    layout(&ranges, false)
}

fn sizes() -> PartSizes {
    PartSizes {
        embeddings: 1000,
        layers: vec![100, 100, 100, 200, 100],
        every_chunk: 10,
        last_chunk: 5,
        head: 2000,
    }
}

fn model(parameters: u64, layers: u32) -> ModelDescription {
    ModelDescription::default().with_parameters(parameters).with_layers(layers)
}

#[test]
fn a_file_is_the_sum_of_what_its_functions_have() {
    let sizes = sizes();
    assert_eq!(largest_file(&cut(5, 1), &sizes), 64 + 600 + 10 + 5);
    assert_eq!(largest_file(&cut(5, 2), &sizes), 64 + 300 + 10 + 5);
    assert_eq!(largest_file(&cut(5, 5), &sizes), 64 + 200 + 10);
    assert_eq!(largest_file(&layout(&[(0, 5)], true), &sizes), 64 + 1000 + 600 + 15 + 2000);
    assert_eq!(sizes.file(&[&function("ends", None, true)]), 64 + 3000);
    // Functions of one file share what they have in common.
    let (first, both) = (function("a", Some((0, 2)), false), function("b", Some((1, 4)), false));
    assert_eq!(sizes.file(&[&first, &both]), 64 + 500 + 10);
}

#[test]
fn the_fewest_chunks_that_fit() {
    let sizes = sizes();
    let model = model(1, 5);
    let within = |chunk_bytes: u64, layers: u32| {
        let limits = Limits { chunk_bytes, overhead: 1.0, layers };
        let fitting = Fitting { model: &model, limits: &limits };
        let found = fitting.chunks(&sizes, |chunks| Ok(cut(5, chunks))).unwrap();
        found.map(|(chunks, largest)| {
            assert_eq!(largest, largest_file(&cut(5, chunks), &sizes));
            chunks
        })
    };
    assert_eq!(within(679, 20), Some(1));
    assert_eq!(within(678, 20), Some(2));
    assert_eq!(within(379, 20), Some(2));
    assert_eq!(within(378, 20), Some(3));
    assert_eq!(within(274, 20), Some(4));
    assert_eq!(within(273, 20), None);
    assert_eq!(within(679, 5), Some(1));
    assert_eq!(within(679, 4), Some(2));
    assert_eq!(within(679, 1), Some(5));
}

/// What is chosen here is what the lint accepts: to the byte, and to the layer.
#[test]
fn the_limits_are_those_of_the_lint() {
    let limits = Limits::of_megabytes(950);
    let found = |bytes: u64| anemll_mil::lint(&coreml_proto::Model::default(), bytes).len();
    assert_eq!(found(limits.file_bytes()), 0);
    assert_eq!(found(limits.file_bytes() + 1), 1);
    let why = |model: ModelDescription, bytes: u64, whole: bool| {
        let layers = vec![0; model.layers as usize];
        let every_chunk = bytes - 64;
        let sizes = PartSizes { layers, every_chunk, ..PartSizes::default() };
        let layout = layout(&[(0, model.layers)], whole);
        Fitting { model: &model, limits: &limits }.why_not(&layout, &sizes)
    };
    assert_eq!(why(model(3_000_000_000, 20), limits.file_bytes(), true), None);
    let reason = why(model(134_515_008, 30), 78_800_000, true).unwrap();
    assert_eq!(reason, "30 layers are more than 20 in one function");
    let reason = why(model(1, 20), limits.file_bytes() + 1, true).unwrap();
    assert_eq!(reason, "864 MB of weights in one file would pass --max-chunk-mb 950");
    assert!(why(model(3_100_000_000, 1), 64, true).unwrap().contains("3.1 B parameters"));
    assert_eq!(why(model(3_100_000_000, 1), 64, false), None, "the ends are apart");
}

/// The helpers of our combiners make packages that ship, and others.
#[test]
fn what_ships_is_what_replaces_its_parts() {
    let text = || (String::new(), BTreeMap::new());
    let mut layout = Layout::new("x", "x").with_steps(["make", "join"]);
    layout.functions = ["a", "b"].map(|id| function(id, Some((0, 1)), false)).to_vec();
    layout.weight_files = vec![WeightFile::new("w", ["a", "b"])];
    let one = part(1, "a".to_owned(), "w", "a", text().0, text().1);
    let both =
        combined(2, "both".to_owned(), "w", [("a", "infer"), ("b", "prefill")], text().0, text().1);
    let check = evaluation("e".to_owned(), "w", "b", text().0, text().1);
    layout.run = RunOrder::default().with_infer(vec![both.call("infer")]);
    layout.packages = vec![one, both, check];
    let layout = CheckedLayout::new(layout).unwrap();
    let ships: Vec<&str> =
        anemll_conversion::shipped(&layout).map(|package| package.stem.as_str()).collect();
    assert_eq!(ships, ["both"]);
}
