//! Records of the same type and bytes.

use crate::error::Result;
use crate::store::{RecordId, RecordStore};
use crate::{Cancelled, PIECE, check};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Bytes that are looked at first, at the beginning, in the middle and at the end.
const SAMPLE: usize = 1 << 10;

/// For each record the first one of the same element type, element count and bytes; itself if
/// there is none before it.
///
/// Records of one size are told apart by a few of their bytes; the others are compared whole, piece
/// by piece, never hashed: equal means equal.
pub(crate) fn first_equal(store: &RecordStore, cancelled: Cancelled<'_>) -> Result<Vec<RecordId>> {
    let mut by_size: BTreeMap<(u32, u64, u64), Vec<RecordId>> = BTreeMap::new();
    for id in 0..store.len() {
        let record = store.record(id);
        let key = (record.blob_type().code(), record.size_in_bytes(), record.padding_bits());
        by_size.entry(key).or_default().push(id);
    }
    let mut alike: BTreeMap<(RecordId, Vec<u8>), Vec<RecordId>> = BTreeMap::new();
    for group in by_size.into_values().filter(|group| group.len() > 1) {
        for id in &group {
            check(cancelled)?;
            alike.entry((group[0], sample(store, *id)?)).or_default().push(*id);
        }
    }
    let alike: Vec<Vec<RecordId>> = alike.into_values().filter(|group| group.len() > 1).collect();
    let found: Vec<Vec<(RecordId, RecordId)>> =
        alike.par_iter().map(|group| equal_in(store, group, cancelled)).collect::<Result<_>>()?;
    let mut first: Vec<RecordId> = (0..store.len()).collect();
    for (id, equal) in found.into_iter().flatten() {
        first[id] = equal;
    }
    Ok(first)
}

fn sample(store: &RecordStore, id: RecordId) -> Result<Vec<u8>> {
    let size = store.record(id).size_in_bytes();
    let whole = usize::try_from(size).unwrap_or(usize::MAX);
    let mut bytes = vec![0; whole.min(3 * SAMPLE)];
    if whole <= 3 * SAMPLE {
        store.read(id, 0, &mut bytes)?;
        return Ok(bytes);
    }
    for (piece, start) in
        bytes.chunks_mut(SAMPLE).zip([0, size / 2 - SAMPLE as u64 / 2, size - SAMPLE as u64])
    {
        store.read(id, start, piece)?;
    }
    Ok(bytes)
}

/// Records of the group that equal an earlier one, with the first such. The group is sorted.
fn equal_in(
    store: &RecordStore,
    group: &[RecordId],
    cancelled: Cancelled<'_>,
) -> Result<Vec<(RecordId, RecordId)>> {
    let mut found = Vec::new();
    let mut distinct: Vec<RecordId> = Vec::new();
    for id in group {
        let mut equal = None;
        for other in &distinct {
            if same_bytes(store, *other, *id, cancelled)? {
                equal = Some(*other);
                break;
            }
        }
        match equal {
            Some(other) => found.push((*id, other)),
            None => distinct.push(*id),
        }
    }
    Ok(found)
}

fn same_bytes(
    store: &RecordStore,
    left: RecordId,
    right: RecordId,
    cancelled: Cancelled<'_>,
) -> Result<bool> {
    let size = store.record(left).size_in_bytes();
    let length = usize::try_from(size).unwrap_or(usize::MAX).min(PIECE);
    let (mut a, mut b) = (vec![0; length], vec![0; length]);
    let mut start = 0;
    while start < size {
        check(cancelled)?;
        // At most the buffers' length.
        let piece = usize::try_from((size - start).min(length as u64)).unwrap_or_default();
        store.read(left, start, &mut a[..piece])?;
        store.read(right, start, &mut b[..piece])?;
        if a[..piece] != b[..piece] {
            return Ok(false);
        }
        start += piece as u64;
    }
    Ok(true)
}
