//! The weights of functions, what they share, and the records that a joined file needs.

use crate::approximate::Neighbour;
use crate::report::{Sharing, TensorReport};
use crate::rewrite::{Member, Place, operations, result_name};
use crate::store::{RecordId, RecordStore, record_id};
use anemll_mil::references::values;
use anemll_mil::{Symbols, ValueType};
use coreml_proto::mil;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Bytes of each weight's records, by place, before any is replaced.
pub(crate) fn sizes(store: &RecordStore, members: &[Member]) -> BTreeMap<Place, u64> {
    let mut sizes = BTreeMap::new();
    for member in 0..members.len() {
        for (place, operation) in operations(members, member) {
            let records: BTreeSet<RecordId> = records(operation).collect();
            if !records.is_empty() {
                sizes.insert(place, bytes(store, records));
            }
        }
    }
    sizes
}

/// The records of an operation, in the order of its parameters' names.
fn records(operation: &mil::Operation) -> impl Iterator<Item = RecordId> {
    values(operation).filter_map(|(_, value)| record_id(value))
}

fn bytes(store: &RecordStore, records: impl IntoIterator<Item = RecordId>) -> u64 {
    records.into_iter().map(|id| store.record(id).size_in_bytes()).sum()
}

/// What became of the weights.
pub(crate) struct Inventory {
    /// Every weight, in the order of the programs.
    pub(crate) tensors: Vec<TensorReport>,
    /// The records that are needed, in the order in which they are needed first.
    pub(crate) records: Vec<RecordId>,
}

/// Looks at all weights in order, after replacement. `sizes` are those from before.
pub(crate) fn inventory(
    store: &RecordStore,
    members: &[Member],
    sizes: &BTreeMap<Place, u64>,
    semantic: &BTreeMap<Place, Place>,
    approximate: &BTreeMap<Place, Neighbour>,
) -> Inventory {
    let mut names: BTreeMap<Place, String> = BTreeMap::new();
    let mut owners: HashMap<RecordId, Place> = HashMap::new();
    let mut inventory = Inventory { tensors: Vec::new(), records: Vec::new() };
    for (number, member) in members.iter().enumerate() {
        for (place, operation) in operations(members, number) {
            let Some(bytes_before) = sizes.get(&place).copied() else { continue };
            let needed: Vec<RecordId> = records(operation).collect();
            let known = needed.first().and_then(|id| owners.get(id)).cloned();
            let mut added = Vec::new();
            for id in needed {
                if let std::collections::hash_map::Entry::Vacant(entry) = owners.entry(id) {
                    entry.insert(place.clone());
                    added.push(id);
                }
            }
            let neighbour = approximate.get(&place);
            let (sharing, partner) = match (neighbour, semantic.get(&place)) {
                (Some(found), _) if found.accepted => (Sharing::Approximate, Some(&found.anchor)),
                (_, Some(anchor)) => (Sharing::Semantic, Some(anchor)),
                (found, None) if !added.is_empty() => {
                    (Sharing::None, found.map(|found| &found.anchor))
                }
                _ => (Sharing::Exact, known.as_ref()),
            };
            let (dtype, shape) = result_type(operation);
            let name = result_name(operation).to_owned();
            names.insert(place.clone(), format!("{}/{name}", member.name));
            inventory.tensors.push(TensorReport {
                function: member.name.clone(),
                name,
                operation: operation.r#type.clone(),
                dtype,
                shape,
                bytes: bytes_before,
                sharing,
                bytes_saved: bytes_before.saturating_sub(bytes(store, added.iter().copied())),
                with: partner.and_then(|partner| names.get(partner).cloned()),
                difference: neighbour.map(|found| found.difference),
            });
            inventory.records.extend(added);
        }
    }
    inventory
}

fn result_type(operation: &mil::Operation) -> (String, Vec<u64>) {
    let kind = operation.outputs.first().and_then(|output| output.r#type.as_ref());
    let kind = kind.and_then(|kind| ValueType::from_proto(kind, &Symbols::default()).ok());
    match kind.as_ref().and_then(|kind| kind.tensor()) {
        Some(tensor) => {
            (tensor.data_type.name().to_owned(), tensor.fixed_shape().unwrap_or_default())
        }
        None => (String::new(), Vec::new()),
    }
}
