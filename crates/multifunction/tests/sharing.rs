//! Which weights are the same, and that every function keeps its values.
#![allow(clippy::unwrap_used)]

mod common;

use anemll_mil::Opset;
use anemll_multifunction::{JoinPlan, Options, Output, Sharing, Source, Tolerance, compare};
use common::{
    COUNT, Made, Weight, combine, decoded, listing, model, package, palettes, plain, sharing,
    tensor, weight_file,
};
use half::f16;
use std::path::Path;

fn made<'a>(tokens: u64, weights: &'a [(&'a str, Weight)]) -> Made<'a> {
    Made { tokens, weights, ..Made::default() }
}

/// Joins two functions of these weights; checks that each decodes to its own values in the result.
fn joined(
    opset: Opset,
    infer: &[(&str, Weight)],
    prefill: &[(&str, Weight)],
) -> anemll_multifunction::Report {
    let folder = tempfile::tempdir().unwrap();
    let made = |tokens, weights| Made { tokens, opset, weights, ..Made::default() };
    let a = package(folder.path(), "a", &made(1, infer));
    let b = package(folder.path(), "b", &made(4, prefill));
    let list: [(&str, &Path); 2] = [("infer", &a), ("prefill", &b)];
    let (path, report) = combine(folder.path(), &list, &Options::default()).unwrap();
    let found = decoded(&path);
    for (function, weights) in [("infer", infer), ("prefill", prefill)] {
        for (name, weight) in weights {
            let values = &found[&(function.to_owned(), (*name).to_owned())];
            let bits = |values: &[f16]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(values), bits(&weight.values()), "{function}/{name}");
        }
    }
    assert_eq!(report.weight_bytes, std::fs::metadata(weight_file(&path)).unwrap().len());
    report
}

#[test]
fn equal_bytes_are_stored_once_whatever_their_name() {
    let infer = [("q", plain(1)), ("k", plain(2)), ("norm", plain(3))];
    let prefill = [("renamed", plain(2)), ("q", plain(1)), ("own", plain(4))];
    let report = joined(Opset::CoreML8, &infer, &prefill);
    assert_eq!(sharing(&report, "infer"), [Sharing::None; 3]);
    assert_eq!(sharing(&report, "prefill"), [Sharing::Exact, Sharing::Exact, Sharing::None]);
    assert_eq!(tensor(&report, "prefill", "renamed").with.as_deref(), Some("infer/k"));
    assert_eq!(report.totals.bytes_saved, 2 * 512);
    // Four records of 64 + 512 bytes behind the header.
    assert_eq!(report.weight_bytes, 64 + 4 * 576);
}

/// Records of one size that differ in one byte only, where no sample looks.
#[test]
fn one_byte_makes_another_weight() {
    let Weight::Plain(mut values) = plain(1) else { panic!() };
    values.truncate(COUNT);
    for place in [0, 1, 100, 255] {
        let mut other = values.clone();
        other[place] = f16::from_bits(other[place].to_bits() ^ 1);
        let report = joined(
            Opset::CoreML8,
            &[("w", Weight::Plain(values.clone()))],
            &[("w", Weight::Plain(other))],
        );
        assert_eq!(sharing(&report, "prefill"), [Sharing::None], "{place}");
    }
}

/// The same values from other palettes: permuted, with entries twice, with other unused entries.
fn disguises() -> Vec<(&'static str, Weight)> {
    let Weight::Palettes { bits, groups, table, indices } = palettes(1) else { panic!() };
    let of = |table: Vec<f16>, index: &dyn Fn(usize, u8) -> u8| Weight::Palettes {
        bits,
        groups,
        table,
        indices: indices.iter().enumerate().map(|(place, i)| index(place, *i)).collect(),
    };
    let permuted: Vec<f16> = (0..16).map(|entry| table[entry * 7 % 16]).collect();
    let back = |index: u8| (0..16).find(|entry| entry * 7 % 16 == index).unwrap();
    let mut twice = table.clone();
    twice[13] = twice[2];
    let mut unused = table.clone();
    unused[14] = f16::NAN;
    let two_groups = Weight::Palettes {
        bits,
        groups: 2,
        table: permuted.iter().chain(&table).copied().collect(),
        indices: indices
            .iter()
            .enumerate()
            .map(|(place, index)| if place < COUNT / 2 { back(*index) } else { *index })
            .collect(),
    };
    vec![
        ("permuted", of(permuted, &|_, index| back(index))),
        ("twice", of(twice, &|place, index| if index == 2 && place % 2 == 0 { 13 } else { index })),
        ("unused", of(unused, &|_, index| index)),
        ("groups", two_groups),
    ]
}

#[test]
fn palettes_that_decode_to_the_same_values_are_the_same() {
    for opset in [Opset::CoreML6, Opset::CoreML8] {
        for (name, disguised) in disguises() {
            if name == "groups" && opset == Opset::CoreML6 {
                continue; // This form has one palette.
            }
            let report = joined(opset, &[("w", palettes(1))], &[("w", disguised)]);
            assert_eq!(sharing(&report, "prefill"), [Sharing::Semantic], "{name} {opset:?}");
            let shared = tensor(&report, "prefill", "w");
            assert_eq!(shared.with.as_deref(), Some("infer/w"));
            assert_eq!(shared.bytes_saved, shared.bytes, "{name}");
            assert_eq!(report.weight_bytes, 64 + 64 + 128 + 64 + 32);
        }
    }
}

#[test]
fn other_bit_widths_of_the_same_values_are_the_same() {
    let table = [0.5_f32, -1.0, 2.0, 4.0].map(f16::from_f32).to_vec();
    let indices: Vec<u8> = (0..COUNT).map(|place| (place % 4) as u8).collect();
    let narrow = Weight::Palettes { bits: 2, groups: 1, table: table.clone(), indices };
    let wide_table = (0..8).map(|entry| table[entry / 2]).collect();
    let indices = (0..COUNT).map(|place| (place % 4 * 2 + place / 8 % 2) as u8).collect();
    let wide = Weight::Palettes { bits: 3, groups: 1, table: wide_table, indices };
    let report = joined(Opset::CoreML8, &[("w", wide)], &[("w", narrow)]);
    assert_eq!(sharing(&report, "prefill"), [Sharing::Semantic]);
}

#[test]
fn palettes_that_differ_in_one_value_stay_apart() {
    let Weight::Palettes { bits, groups, table, indices } = palettes(1) else { panic!() };
    for place in [0, 17, COUNT - 1] {
        let mut indices = indices.clone();
        indices[place] = (indices[place] + 1) % 12;
        let table = table.clone();
        let other = Weight::Palettes { bits, groups, table, indices };
        let report = joined(Opset::CoreML8, &[("w", palettes(1))], &[("w", other)]);
        assert_eq!(sharing(&report, "prefill"), [Sharing::None], "{place}");
        // Its palette is shared all the same.
        assert_eq!(tensor(&report, "prefill", "w").bytes_saved, 32);
    }
    // The values are equal as numbers, the bits are not.
    let mut zero = table.clone();
    zero[0] = f16::ZERO;
    let mut negative = zero.clone();
    negative[0] = f16::NEG_ZERO;
    let of = |table| Weight::Palettes { bits, groups, table, indices: indices.clone() };
    let report = joined(Opset::CoreML8, &[("w", of(zero))], &[("w", of(negative))]);
    assert_eq!(sharing(&report, "prefill"), [Sharing::None]);
}

/// A palette whose entries are all off by one part in 2048.
fn nudged(seed: u16) -> Weight {
    let Weight::Palettes { bits, groups, mut table, indices } = palettes(seed) else { panic!() };
    table.iter_mut().for_each(|entry| *entry = f16::from_bits(entry.to_bits() + 1));
    Weight::Palettes { bits, groups, table, indices }
}

#[test]
fn a_tolerance_takes_nearly_equal_palettes_as_one() {
    let folder = tempfile::tempdir().unwrap();
    let a = package(folder.path(), "a", &made(1, &[("w_0", palettes(1)), ("v", palettes(9))]));
    let tolerance: Tolerance = "cos=0.9999,mae=0.01".parse().unwrap();
    // By name without its number; by name; by order; and one that is too far.
    for (weights, expected) in [
        ([("w_7", nudged(1)), ("v", nudged(9))], [Sharing::Approximate; 2]),
        ([("s", nudged(1)), ("t", nudged(9))], [Sharing::Approximate; 2]),
        ([("w_0", palettes(5)), ("v", nudged(9))], [Sharing::None, Sharing::Approximate]),
    ] {
        let b = package(folder.path(), "b", &made(4, &weights));
        let list: [(&str, &Path); 2] = [("infer", &a), ("prefill", &b)];
        let (_, apart) = combine(folder.path(), &list, &Options::default()).unwrap();
        assert_eq!(apart.totals.approximate, 0, "it is off by default");

        let options = Options { tolerance: Some(tolerance), ..Options::default() };
        let (path, report) = combine(folder.path(), &list, &options).unwrap();
        assert_eq!(sharing(&report, "prefill"), expected);
        let found = decoded(&path);
        let names = ["w_0", "v"];
        for ((name, weight), anchor) in weights.iter().zip(names) {
            let told = tensor(&report, "prefill", name);
            let anchor_values = &found[&("infer".to_owned(), anchor.to_owned())];
            let values = &found[&("prefill".to_owned(), (*name).to_owned())];
            let difference = told.difference.unwrap();
            let errors: Vec<f64> = weight
                .values()
                .iter()
                .zip(anchor_values)
                .map(|(a, b)| (f64::from(*a) - f64::from(*b)).abs())
                .collect();
            let mean = errors.iter().sum::<f64>() / COUNT as f64;
            assert!((difference.mean_error - mean).abs() < 1e-12, "{difference:?} {mean}");
            let largest = errors.iter().copied().fold(0.0, f64::max);
            assert_eq!(difference.largest_error, largest);
            match told.sharing {
                Sharing::Approximate => assert_eq!(values, anchor_values),
                _ => assert_eq!(*values, weight.values()),
            }
            assert_eq!(told.with.as_deref(), Some(format!("infer/{anchor}").as_str()));
        }
        std::fs::remove_dir_all(&b).unwrap();
    }
}

#[test]
fn three_functions_cost_no_more_than_one() {
    let folder = tempfile::tempdir().unwrap();
    let weights = [("q", plain(1)), ("w", palettes(3))];
    let made = |tokens| Made { tokens, weights: &weights, ..Made::default() };
    let paths: Vec<_> =
        (1..4).map(|tokens| package(folder.path(), &format!("p{tokens}"), &made(tokens))).collect();
    let list: Vec<(&str, &Path)> =
        ["infer", "prefill", "infer_ctx1024"].into_iter().zip(paths.iter().map(|p| &**p)).collect();
    let (path, report) = combine(folder.path(), &list, &Options::default()).unwrap();
    let size = |path: &Path| std::fs::metadata(weight_file(path)).unwrap().len();
    assert_eq!(size(&path), size(&paths[0]));
    assert_eq!(report.totals.exact, 4);
    assert_eq!(report.default_function.as_deref(), Some("infer"));
    let description = model(&path).description.unwrap();
    let names: Vec<&str> = description.functions.iter().map(|f| f.name.as_str()).collect();
    assert_eq!(names, ["infer", "prefill", "infer_ctx1024"]);

    // Out again: each is what it was.
    for (name, original) in &list {
        let out = folder.path().join("out.mlpackage");
        let plan = JoinPlan::split(&path, name, &|| false).unwrap();
        plan.write(Output { path: &out, replace: true, copy: false }, &|| false).unwrap();
        let (mut mine, theirs) = (model(&out), model(original));
        let metadata = theirs.description.as_ref().unwrap().metadata.clone();
        mine.description.as_mut().unwrap().metadata = metadata;
        assert_eq!(mine, theirs, "{name}");
        let bytes = |path: &Path| std::fs::read(weight_file(path)).unwrap();
        assert!(bytes(&out) == bytes(original));
    }
}

#[test]
fn functions_of_packages_with_several_are_taken_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let a = package(folder.path(), "a", &made(1, &[("q", plain(1))]));
    let b = package(folder.path(), "b", &made(2, &[("q", plain(1)), ("k", plain(2))]));
    let list: [(&str, &Path); 2] = [("one", &a), ("two", &b)];
    let (first, _) = combine(folder.path(), &list, &Options::default()).unwrap();
    let both = folder.path().join("both.mlpackage");
    std::fs::rename(first, &both).unwrap();
    let source = |name: &str, function: Option<&str>| Source {
        name: name.to_owned(),
        path: both.clone(),
        function: function.map(str::to_owned),
    };
    let sources = [source("two", None), source("uno", Some("one"))];
    let plan = JoinPlan::combine(&sources, &Options::default(), &|| false).unwrap();
    assert_eq!(plan.report().functions, ["two", "uno"]);
    assert_eq!(plan.report().inputs.len(), 1, "it is opened once");
    for (source, expected) in [
        (source("three", None), "has the functions `one`, `two`, none of them named `three`"),
        (source("three", Some("four")), "has no function `four`, only `one`, `two`"),
    ] {
        let error = JoinPlan::combine(&[source], &Options::default(), &|| false).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let report = compare(&[both, a], None, &|| false).unwrap();
    assert_eq!(report.functions, ["both:one", "both:two", "a"]);
    assert_eq!(report.totals.exact, 2);
}

#[test]
fn the_weight_file_of_an_input_is_taken_whole_where_it_has_everything() {
    let folder = tempfile::tempdir().unwrap();
    let weights = [("q", plain(1)), ("k", plain(2))];
    let a = package(folder.path(), "a", &made(1, &weights));
    let b = package(folder.path(), "b", &made(2, &weights[1..]));
    let path = folder.path().join("result.mlpackage");
    let mut results = Vec::new();
    for copy in [false, true] {
        let list = common::sources(&[("infer", &*a), ("prefill", &*b)]);
        let plan = JoinPlan::combine(&list, &Options::default(), &|| false).unwrap();
        let done = plan.write(Output { path: &path, replace: true, copy }, &|| false).unwrap();
        results.push((std::fs::read(common::model_file(&path)).unwrap(), {
            std::fs::read(weight_file(&path)).unwrap()
        }));
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt as _;
            let node = |path: &Path| std::fs::metadata(weight_file(path)).unwrap().ino();
            assert_eq!(node(&path) == node(&a), !copy, "{:?}", done.written.weights);
        }
        assert_eq!(done.report.weight_bytes, 64 + 2 * 576);
    }
    assert!(results[0] == results[1]);
    // A part of the file is not taken whole.
    let plan = JoinPlan::split(&path, "prefill", &|| false).unwrap();
    assert_eq!(plan.report().weight_bytes, 64 + 576);
}

#[test]
fn models_without_weights_and_with_states() {
    let folder = tempfile::tempdir().unwrap();
    let made = |tokens| Made { tokens, state: Some(32), ..Made::default() };
    let a = package(folder.path(), "a", &made(1));
    let b = package(folder.path(), "b", &made(4));
    let list: [(&str, &Path); 2] = [("infer", &a), ("prefill", &b)];
    let (path, report) = combine(folder.path(), &list, &Options::default()).unwrap();
    assert_eq!(report.weight_bytes, 0);
    assert!(!weight_file(&path).exists());
    assert_eq!(model(&path).description.unwrap().functions[1].state[0].name, "cache");
}

#[test]
fn work_that_is_stopped_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let weights = [("w", palettes(1))];
    let a = package(folder.path(), "a", &Made { weights: &weights, ..Made::default() });
    let before = listing(folder.path());
    let list = common::sources(&[("infer", &*a)]);
    assert!(JoinPlan::combine(&list, &Options::default(), &|| true).is_err());
    let plan = JoinPlan::combine(&list, &Options::default(), &|| false).unwrap();
    let path = folder.path().join("result.mlpackage");
    let output = Output { path: &path, replace: false, copy: false };
    assert!(plan.write(output, &|| true).is_err());
    assert_eq!(listing(folder.path()), before);
}
