//! What is known of a tensor without reading it.

use anemll_plugin_api::DType;
use safetensors::Dtype;
use std::fmt;

/// Element type of a source tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SourceType {
    /// IEEE 754 binary16.
    Float16,
    /// The upper half of a binary32.
    BFloat16,
    /// IEEE 754 binary32.
    Float32,
    /// Any other type of the safetensors format; listed, but not usable as a weight.
    Other(Dtype),
}

impl SourceType {
    pub(crate) fn new(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F16 => Self::Float16,
            Dtype::BF16 => Self::BFloat16,
            Dtype::F32 => Self::Float32,
            other => Self::Other(other),
        }
    }

    /// Name as plugins spell it: `float16`, `bfloat16`, `float32`, and so on. Types that MIL does
    /// not have keep the name of the safetensors format, in lower case.
    pub fn name(self) -> String {
        let known = match self {
            Self::Float16 => DType::FLOAT16,
            Self::BFloat16 => DType::BFLOAT16,
            Self::Float32 => DType::FLOAT32,
            Self::Other(Dtype::BOOL) => DType::BOOL,
            Self::Other(Dtype::U8) => DType::UINT8,
            Self::Other(Dtype::I8) => DType::INT8,
            Self::Other(Dtype::I16) => DType::INT16,
            Self::Other(Dtype::U16) => DType::UINT16,
            Self::Other(Dtype::I32) => DType::INT32,
            Self::Other(Dtype::U32) => DType::UINT32,
            Self::Other(Dtype::I64) => DType::INT64,
            Self::Other(Dtype::U64) => DType::UINT64,
            Self::Other(Dtype::F64) => DType::FLOAT64,
            Self::Other(other) => return other.to_string().to_lowercase(),
        };
        known.name().to_owned()
    }

    /// Bytes of one element of a usable type; `None` for the others.
    pub fn width(self) -> Option<usize> {
        match self {
            Self::Float16 | Self::BFloat16 => Some(2),
            Self::Float32 => Some(4),
            Self::Other(_) => None,
        }
    }
}

impl fmt::Display for SourceType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.name())
    }
}

/// What a directory knows of a tensor without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Element type.
    pub source_type: SourceType,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// Number of the weights file that holds it, in the order of `ModelDirectory::weight_files`.
    pub file: usize,
    /// Where its bytes lie in that file; checked against the file's size.
    pub(crate) range: std::ops::Range<u64>,
}

impl TensorInfo {
    /// Size in bytes.
    pub fn size_in_bytes(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// Number of elements; the shape was checked when the file was opened, so it fits.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}
