//! A file as data: its tables, and the operations that name their entries by index.

/// Versions of the format that are read; the last one is written.
pub const VERSIONS: [u64; 2] = [5, 6];

/// All of a file but its blobs. Indices count from 0 into the list that they are about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Document {
    /// Who wrote the file, as free text without NUL.
    pub producer: String,
    /// Texts that are named by index, also from inside attributes.
    pub strings: Vec<String>,
    /// Dialects.
    pub dialects: Vec<Dialect>,
    /// Names of operations.
    pub operation_names: Vec<OperationName>,
    /// Attributes, each as its dialect encodes it.
    pub attributes: Vec<Encoded>,
    /// Types, each as its dialect encodes it.
    pub types: Vec<Encoded>,
    /// Properties of operations, each as the operation's dialect encodes it.
    pub properties: Vec<Vec<u8>>,
    /// Blobs.
    pub resources: Vec<Resource>,
    /// Operations of the module that the file is.
    pub body: Block,
}

/// A dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialect {
    /// Name, a string.
    pub name: u32,
    /// Version, as the dialect encodes it.
    pub version: Option<Vec<u8>>,
}

/// Name of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OperationName {
    /// Its dialect.
    pub dialect: u32,
    /// The name without the dialect's, a string.
    pub name: u32,
    /// Whether the dialect declared the operation.
    pub registered: bool,
}

/// An attribute or a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoded {
    /// Its dialect.
    pub dialect: u32,
    /// Whether the bytes are the dialect's binary form; else they are text that ends in NUL.
    pub binary: bool,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// A blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// The dialect that it belongs to.
    pub dialect: u32,
    /// Its key, a string.
    pub key: u32,
    /// Bytes of data.
    pub length: u64,
    /// Where the data begin in the file; set by [`crate::read()`], not looked at by
    /// [`crate::write()`].
    pub offset: u64,
}

/// A block: arguments, then operations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Block {
    /// Type and location of each argument.
    pub arguments: Vec<(u32, u32)>,
    /// Operations in order.
    pub operations: Vec<Operation>,
}

impl Block {
    /// Values that the block defines outside of isolated regions: arguments and results.
    pub fn values(&self) -> u64 {
        let results = self.operations.iter().map(|operation| {
            let inner = operation.regions.iter().filter(|region| !region.isolated);
            operation.results.len() as u64 + inner.map(Region::values).sum::<u64>()
        });
        self.arguments.len() as u64 + results.sum::<u64>()
    }
}

/// A region: blocks that an operation holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Region {
    /// Whether values from outside cannot be named inside; numbers of values then start at 0.
    pub isolated: bool,
    /// Blocks in order.
    pub blocks: Vec<Block>,
}

impl Region {
    /// An isolated region of one block.
    pub fn isolated(block: Block) -> Self {
        Self { isolated: true, blocks: vec![block] }
    }

    /// Values that the region defines outside of isolated regions in it.
    pub fn values(&self) -> u64 {
        self.blocks.iter().map(Block::values).sum()
    }
}

/// An operation. Values are numbered through the innermost isolated region: block arguments first,
/// then results in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Operation {
    /// Its name, of [`Document::operation_names`].
    pub name: u32,
    /// Its location, an attribute.
    pub location: u32,
    /// A dictionary of further attributes, an attribute itself.
    pub attributes: Option<u32>,
    /// Its properties.
    pub properties: Option<u32>,
    /// Types of its results.
    pub results: Vec<u32>,
    /// Values that it takes.
    pub operands: Vec<u64>,
    /// Blocks that may come next.
    pub successors: Vec<u64>,
    /// Regions that it holds; either all are isolated or none is.
    pub regions: Vec<Region>,
}
