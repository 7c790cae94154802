//! The graph beside ANEMLL's own, which is known to run on the Neural Engine: the same operations
//! as often, but for the differences that are named here.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::PathBuf;

use anemll_decoder::lower;
use anemll_plugin_api::data::Purpose;

use common::{function, histogram, tiny};

/// Counts the operations of a program in ANEMLL's listing; `None` where the listing is absent.
fn anemll(part: &str) -> Option<BTreeMap<String, usize>> {
    let name = format!("tiny-llama-v2048__c1_lut4_lmh6_emb6__{part}__mil_main.txt.gz");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/reference/anemll-packages/mil-text")
        .join(name);
    let Ok(file) = std::fs::File::open(&path) else {
        eprintln!("skipped: {} is absent", path.display());
        return None;
    };
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).unwrap();
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let Some((_, call)) = line.split_once(" = ") else { continue };
        let Some((kind, _)) = call.split_once('(') else { continue };
        if kind != "const" && !kind.starts_with("constexpr") {
            *counts.entry(kind.to_owned()).or_insert(0) += 1;
        }
    }
    assert!(!counts.is_empty());
    Some(counts)
}

/// What ours has more (or less) of than ANEMLL's, by operation.
fn differences(
    ours: &BTreeMap<String, usize>,
    theirs: &BTreeMap<String, usize>,
) -> BTreeMap<String, i64> {
    ours.keys()
        .chain(theirs.keys())
        .map(|kind| {
            let count = |counts: &BTreeMap<String, usize>| {
                counts.get(kind).copied().unwrap_or_default() as i64
            };
            (kind.clone(), count(ours) - count(theirs))
        })
        .filter(|(_, difference)| *difference != 0)
        .collect()
}

fn expect(part: &str, layers: bool, purpose: Purpose, wanted: &[(&str, i64)]) {
    let Some(theirs) = anemll(part) else { return };
    let spec = tiny();
    let function = match layers {
        true => function(part, false, Some((0, spec.layers())), false, purpose),
        false => function(part, false, None, true, purpose),
    };
    let ours = histogram(&lower(&spec, &function).unwrap());
    let wanted = wanted.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect();
    assert_eq!(differences(&ours, &theirs), wanted, "{part}");
}

#[test]
fn infer_is_theirs_without_the_repair_of_negative_positions() {
    expect(
        "llama_FFN_lut4_chunk_01of01",
        true,
        Purpose::Infer,
        &[
            ("add", -2),
            ("cast", -4),
            ("greater_equal", -2),
            ("select", -2),
            // The state is as long as the context here, so keys and values are not cut to it.
            ("slice_by_index", -8),
        ],
    );
}

#[test]
fn prefill_is_theirs_without_repairs_and_detours() {
    expect(
        "llama_prefill_lut4_chunk_01of01",
        true,
        Purpose::Prefill,
        &[
            ("add", -2),
            ("cast", -4),
            ("greater_equal", -2),
            ("select", -2),
            ("slice_by_index", -8),
            // The second product has rank 4 as in infer; theirs goes through rank 3 and back, and
            // skips the reshape of the repeated values.
            ("reshape", -8),
            // Rows of the tables get their rank by one reshape.
            ("transpose", -2),
        ],
    );
}

#[test]
fn the_head_is_theirs() {
    expect("llama_lm_head_lut6", false, Purpose::Infer, &[]);
}
