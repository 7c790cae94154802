//! What compilers and runtimes answer.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::DType;

/// Whether a component can run on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Availability {
    /// Whether it can.
    pub available: bool,
    /// Why not; or what it found.
    pub reason: String,
}

impl Availability {
    /// The component can run: what it found.
    pub fn yes(reason: impl Into<String>) -> Self {
        Self { available: true, reason: reason.into() }
    }

    /// The component cannot run, for this reason.
    pub fn no(reason: impl Into<String>) -> Self {
        Self { available: false, reason: reason.into() }
    }
}

/// An input, output or state of a function.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ValueInfo {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shapes that it may have, several when they are enumerated; the first is the default.
    pub shapes: Vec<Vec<u64>>,
}

impl ValueInfo {
    /// A value that may have these shapes, the first of them by default.
    pub fn new(name: impl Into<String>, dtype: DType, shapes: Vec<Vec<u64>>) -> Self {
        Self { name: name.into(), dtype, shapes }
    }
}

/// The interface of a function.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
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

impl FunctionSignature {
    /// A function of this name, which takes and gives nothing yet.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }
}

builders! {
    impl FunctionSignature {
        with_inputs(inputs: Vec<ValueInfo>);
        with_outputs(outputs: Vec<ValueInfo>);
        with_states(states: Vec<ValueInfo>);
        with_metadata(metadata: BTreeMap<String, String>);
    }
}

/// What an open package holds.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
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

builders! {
    impl SessionDescription {
        with_functions(functions: Vec<FunctionSignature>);
        with_default_function(default_function: impl Into<Option<String>>);
        with_metadata(metadata: BTreeMap<String, String>);
    }
}
