//! What compilers and runtimes answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::DType;

/// Whether a component can run on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Availability {
    /// Whether it can.
    pub available: bool,
    /// Why not; or what it found.
    pub reason: String,
}

/// An input, output or state of a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ValueInfo {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shapes that it may have, several when they are enumerated; the first is the default.
    pub shapes: Vec<Vec<u64>>,
}

/// The interface of a function.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FunctionSignature {
    /// The function's name.
    pub name: String,
    /// The inputs.
    pub inputs: Vec<ValueInfo>,
    /// The outputs.
    pub outputs: Vec<ValueInfo>,
    /// The states.
    #[serde(default)]
    pub states: Vec<ValueInfo>,
    /// Metadata of the function, if the format has any.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// What an open package holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SessionDescription {
    /// The functions.
    pub functions: Vec<FunctionSignature>,
    /// The function that is used when none is named.
    #[serde(default)]
    pub default_function: Option<String>,
    /// The package's `userDefined` metadata.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}
