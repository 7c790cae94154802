//! What else is known about operations than their types: how they treat elements, and where devices
//! run them. Each fact stands beside the operation in its family's list; here is what the facts mean,
//! and those of operations that are not modelled.

use super::ALL;

/// What becomes of the elements of an operation's operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Movement {
    /// New ones are computed, or picked by indices that are data.
    None,
    /// All stay, in another shape, order of axes or type.
    Whole,
    /// They are cut, joined, repeated, or go to and come from a state.
    Parts,
}

/// What is known about an operation beside its parameters and types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether it only moves elements.
    pub movement: Movement,
    /// Whether the Neural Engine has no such operation, so that a device runs it on its CPU.
    pub on_cpu: bool,
    /// Whether it computes, compares or joins, and has no form for int32 on the Neural Engine.
    pub arithmetic: bool,
}

impl Facts {
    /// Those of an operation of which nothing in particular is known.
    pub(super) const NONE: Self =
        Self { movement: Movement::None, on_cpu: false, arithmetic: false };

    /// Whether elements are only moved, whole or in parts.
    pub fn moves(&self) -> bool {
        self.movement != Movement::None
    }
}

/// Operations that are not modelled, but which devices are known to run on their CPU.
const ON_CPU: &[&str] = &[
    "crop_resize",
    "non_zero",
    "random_bernoulli",
    "random_categorical",
    "random_normal",
    "random_uniform",
    "sliding_windows",
];

/// The facts about an operation, whether it is modelled or not.
pub fn facts(name: &str) -> Facts {
    let modelled = ALL.iter().flat_map(|family| family.iter()).find(|form| form.name == name);
    modelled.map_or(Facts { on_cpu: ON_CPU.contains(&name), ..Facts::NONE }, |definition| {
        definition.facts
    })
}

/// Whether an operation makes weights from stored data, which is done once, when a model is loaded.
pub fn is_constexpr(name: &str) -> bool {
    name.starts_with("constexpr_")
}

/// Whether what an operation gives is the same in each run: it stores a value or decodes one.
pub fn is_constant(name: &str) -> bool {
    name == "const" || is_constexpr(name)
}
