//! A program as data: functions, and the operations in them.

use crate::attribute::Attribute;
use crate::types::Type;

/// A program: what the bytecode of an asset holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Program {
    /// Version of the dialect that it needs, a date as a number such as 20260204.
    pub version: u32,
    /// Functions in order.
    pub functions: Vec<Function>,
    /// Elements of large constants. Constants of several functions may name the same one.
    pub blobs: Vec<Blob>,
}

impl Program {
    /// The function of a name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| function.name == name)
    }
}

/// Elements of a constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// Its name, free text; no two are the same.
    pub key: String,
    /// Bytes.
    pub length: u64,
    /// Where it begins in the file it was read from.
    pub offset: u64,
}

/// A function.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// What it takes: the arguments of its block.
    pub inputs: Vec<Port>,
    /// What it gives: the operands of its last operation.
    pub outputs: Vec<Port>,
    /// Whether callers from outside do not see it.
    pub private: bool,
    /// Whether it stays a function of its own where it is called.
    pub no_inline: bool,
    /// What it is, for those who have an operation of their own for it.
    pub composite: Option<Attribute>,
    /// Its operations, the last of which gives the outputs.
    pub body: Block,
}

/// Something that a function takes or gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    /// Its name; callers can give and take nothing without one.
    pub name: Option<String>,
    /// Its type.
    pub kind: Type,
    /// The state that it is, which calls change.
    pub state: Option<String>,
}

impl Port {
    /// A tensor with a name.
    pub fn new(name: &str, kind: impl Into<Type>) -> Self {
        Self { name: Some(name.to_owned()), kind: kind.into(), state: None }
    }
}

/// Operations with what they take from outside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// Types of the first values.
    pub arguments: Vec<Type>,
    /// Operations in order.
    pub operations: Vec<Operation>,
}

impl Block {
    /// Types of all values: arguments, then results in order.
    pub fn types(&self) -> Vec<&Type> {
        let results = self.operations.iter().flat_map(|operation| &operation.results);
        self.arguments.iter().chain(results).collect()
    }
}

/// An operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operation {
    /// Its name without the dialect's, with its version.
    pub name: String,
    /// Its attributes, as many and in the order as [`crate::OperationDefinition::properties`] has
    /// them.
    pub properties: Vec<Option<Attribute>>,
    /// Values that it takes.
    pub operands: Vec<u64>,
    /// Types of what it gives.
    pub results: Vec<Type>,
    /// Its regions, each of one block.
    pub regions: Vec<Block>,
}

/// Names of the operations that a program consists of on its outside.
pub(crate) mod frame {
    pub(crate) const ASSET: &str = "serialization.asset";
    pub(crate) const FUNCTION: &str = "dataflow.graph_v1";
    pub(crate) const OUTPUT: &str = "dataflow.output_v1";
    pub(crate) const CONSTANT: &str = "primitive.constant_v1";
    /// Key of a port's name.
    pub(crate) const NAME: &str = "aicode.name";
    /// Key of the state that an argument is.
    pub(crate) const STATE: &str = "MutableBuffers.buffer_mutation";
    /// The dialect.
    pub(crate) const DIALECT: &str = "aicode";
}
