//! Attributes: what operations know beside their operands.

use crate::types::{Layout, Type};

/// An attribute.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Attribute {
    /// Text.
    String(String),
    /// An integer.
    Integer {
        /// Bits.
        width: u64,
        /// Whether it has no sign.
        unsigned: bool,
        /// The value; of 64 bits without a sign, its bits.
        value: i64,
    },
    /// A floating point number.
    Float {
        /// Bits.
        width: u64,
        /// Its bits as an integer.
        bits: i64,
    },
    /// A type.
    Type(Type),
    /// A list.
    Array(Vec<Self>),
    /// Elements of a constant.
    Dense {
        /// Whether all are the one that is given.
        splat: bool,
        /// Stored bytes, little-endian.
        bytes: Vec<u8>,
    },
    /// Elements of a constant that stand in a blob, by its place among the blobs.
    Blob(u32),
    /// Something with a name.
    Named(String, Vec<Self>),
    /// A layout.
    Layout(Layout),
    /// The name of a function, outermost part first.
    Symbol(Vec<String>),
    /// A constant of a type that is no tensor: the function that is called.
    Constant(Box<Self>, Type),
    /// One of the choices that an operation has, by the name of its record and its number.
    Choice(&'static str, u64),
    /// Things by name, each a [`Self::Named`] of one item.
    Dictionary(Vec<Self>),
    /// Nothing but that it is there.
    Unit,
    /// The place in a source text from which an operation came; what it was is not read.
    Location,
    /// An attribute that is not known here, by the code of its record.
    Other(u64),
}

impl Attribute {
    /// A truth value as graphs have it: an integer of one bit.
    pub fn flag(value: bool) -> Self {
        Self::Integer { width: 1, unsigned: true, value: value.into() }
    }

    /// Text with a name.
    pub fn named_text(name: &str, text: &str) -> Self {
        Self::Named(name.to_owned(), vec![Self::String(text.to_owned())])
    }

    /// The items of a list; of anything else none.
    pub fn items(&self) -> &[Self] {
        match self {
            Self::Array(items) | Self::Dictionary(items) => items,
            _ => &[],
        }
    }

    /// The text that this list holds under a name.
    pub fn text_named(&self, wanted: &str) -> Option<&str> {
        self.items().iter().find_map(|item| match item {
            Self::Named(name, items) if name == wanted => match items.as_slice() {
                [Self::String(text)] => Some(text.as_str()),
                _ => None,
            },
            _ => None,
        })
    }
}

/// Names of the records that are choices, as [`Attribute::Choice`] has them.
pub mod choice {
    /// How `pad` fills: 0 circular, 1 constant, 2 reflect, 3 replicate, 4 symmetric.
    pub const PADDING_MODE: &str = "padding_mode";
    /// How `gelu` is approximated: 0 not, 1 by tanh.
    pub const APPROXIMATE: &str = "approximate";
    /// What a scatter does with what is there: 0 replaces, 1 adds, 3 multiplies, 5 largest, 6
    /// smallest.
    pub const SCATTER_MODE: &str = "scatter_mode";
    /// What `scan` does: 0 sum, 1 product, 2 smallest, 3 largest.
    pub const COMBINER: &str = "combiner";
    /// How `interpolate` finds values: 0 linear, 1 nearest.
    pub const INTERPOLATION_MODE: &str = "interpolation_mode";
}
