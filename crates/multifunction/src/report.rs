//! What was found and done, for people and programs.

use crate::approximate::{Difference, Tolerance};
use serde::Serialize;

/// How a weight of a function shares its data with weights before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sharing {
    /// It holds data of its own.
    None,
    /// All its data have the type and bytes of earlier ones.
    Exact,
    /// Its palettes and indices were other ones, which decode to the same values.
    Semantic,
    /// Its values were nearly the same.
    Approximate,
}

/// One weight of one function.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorReport {
    /// The function.
    pub function: String,
    /// Name of the value in the program.
    pub name: String,
    /// The operation that gives it, such as `const`.
    pub operation: String,
    /// Element type of the value.
    pub dtype: String,
    /// Shape of the value.
    pub shape: Vec<u64>,
    /// Bytes of its data in the weight file.
    pub bytes: u64,
    /// How it shares them.
    pub sharing: Sharing,
    /// Bytes that need not be stored, because they are shared.
    pub bytes_saved: u64,
    /// The weight that it shares with, as `function/name`; where it shares nothing, the nearest one
    /// that was found too far away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub with: Option<String>,
    /// How far that one is, where the sharing is approximate or was refused.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
}

/// A package that functions were taken from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputReport {
    /// Its path as given.
    pub path: String,
    /// Functions that were taken, by their new names.
    pub functions: Vec<String>,
    /// Bytes of its weight files.
    pub weight_bytes: u64,
}

/// Number of weights and bytes by kind of sharing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Weights with data of their own.
    pub none: u64,
    /// Weights that share exactly.
    pub exact: u64,
    /// Weights that share semantically.
    pub semantic: u64,
    /// Weights that share approximately.
    pub approximate: u64,
    /// Bytes that need not be stored.
    pub bytes_saved: u64,
}

/// What was found, and what the result is like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The packages.
    pub inputs: Vec<InputReport>,
    /// Functions of the result, in order.
    pub functions: Vec<String>,
    /// The function that runs when none is named; none where nothing is joined.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_function: Option<String>,
    /// The tolerance, if one was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tolerance: Option<Tolerance>,
    /// Sums over all weights.
    pub totals: Totals,
    /// Size of the one weight file that all functions need; 0 without weights.
    pub weight_bytes: u64,
    /// What the user should know.
    pub notes: Vec<String>,
    /// Every weight of every function, in the order of the programs.
    pub tensors: Vec<TensorReport>,
}

impl Totals {
    /// Sums over weights.
    pub fn of<'a>(tensors: impl IntoIterator<Item = &'a TensorReport>) -> Self {
        let mut totals = Self::default();
        for tensor in tensors {
            let count = match tensor.sharing {
                Sharing::None => &mut totals.none,
                Sharing::Exact => &mut totals.exact,
                Sharing::Semantic => &mut totals.semantic,
                Sharing::Approximate => &mut totals.approximate,
            };
            *count += 1;
            totals.bytes_saved += tensor.bytes_saved;
        }
        totals
    }
}
