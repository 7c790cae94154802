//! The form for computers: one function for any number of tokens, with caches that grow.

use super::Findings;
use super::folder::Language;
use super::ports::{Looked, Size};
use anemll_aicode::{ElementType, Function};

/// Looks at the function.
pub(super) fn check(
    asset: &str,
    functions: &[&Function],
    language: &Language,
    found: &mut Findings,
) {
    let main = functions.iter().find(|function| function.name == language.main);
    let Some(function) = main else { return };
    let mut looked = Looked::new(asset, function, found);
    let inputs = looked.inputs();
    let names: Vec<&str> =
        inputs.iter().map(|port| port.name.as_deref().unwrap_or_default()).collect();
    if names != ["input_ids", "position_ids"] {
        let names = names.join(", ");
        looked.wrong(&format!(
            "takes {names}; apps give `input_ids` and `position_ids`, in this order"
        ));
    }
    for port in inputs {
        looked.compare(port, ElementType::Int32, &[Size::Is(1), Size::Open]);
    }
    let states = looked.states();
    if !(2..=4).contains(&states.len()) {
        looked.wrong(&format!("has {} states; apps take 2 to 4", states.len()));
    }
    let caches = ["keyCache", "valueCache"];
    for name in caches {
        match states.iter().find(|(state, _)| *state == name) {
            None => looked.wrong(&format!("has no state `{name}`")),
            Some((_, kind)) => {
                let shape = [Size::Any, Size::Is(1), Size::Any, Size::Open, Size::Any];
                looked.compare_tensor(name, kind, ElementType::Float16, &shape);
            }
        }
    }
    for (name, _) in states.iter().filter(|(name, _)| !caches.contains(name)) {
        if !language.states.contains_key(*name) {
            looked
                .wrong(&format!("has the state `{name}`, of which `language.states` says nothing"));
        }
    }
    match looked.outputs().first() {
        None => looked.wrong("gives no logits"),
        Some(port) => {
            let vocabulary = language.vocabulary.map_or(Size::Any, Size::Is);
            looked.compare(port, ElementType::Float16, &[Size::Is(1), Size::Open, vocabulary]);
        }
    }
}
