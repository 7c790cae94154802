//! The dialects of the text, which follow the specification version, and the names of opsets.

use crate::error::{Error, Result};
use crate::ops::Opset;

/// How a text spells its program: the version of its first line, and the types of scalars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dialect {
    /// Version of the first line, `(1, 0)` for `program(1.0)`.
    pub version: (u32, u32),
    /// Whether a tensor of rank 0 is spelled by its element type alone: `fp16` instead of
    /// `tensor<fp16, []>`.
    pub bare_scalars: bool,
}

impl Dialect {
    /// `program(1.0)`, for the specification versions 6, 7 and 8.
    pub const V1_0: Self = Self { version: (1, 0), bare_scalars: false };

    /// `program(1.3)`, for the specification version 9 (and 10, which is a guess).
    pub const V1_3: Self = Self { version: (1, 3), bare_scalars: true };

    /// The dialect for a model of this specification version, whatever the opset. Errors: versions
    /// that no ML Program has.
    pub fn of_specification(version: i32) -> Result<Self> {
        match version {
            6..=8 => Ok(Self::V1_0),
            9 | 10 => Ok(Self::V1_3),
            _ => Err(Error::new(format!(
                "specification version {version} is not one of an ML Program's (6 to 10)"
            ))),
        }
    }
}

/// What the text calls the opset of a function: `ios18` for `CoreML8`.
pub(super) const fn opset_tag(opset: Opset) -> &'static str {
    match opset {
        Opset::CoreML5 => "ios15",
        Opset::CoreML6 => "ios16",
        Opset::CoreML7 => "ios17",
        Opset::CoreML8 => "ios18",
        Opset::CoreML9 => "ios26",
    }
}

/// The opset of a tag.
pub(super) fn opset_of_tag(tag: &str) -> Option<Opset> {
    Opset::ALL.iter().copied().find(|opset| opset_tag(*opset) == tag)
}
