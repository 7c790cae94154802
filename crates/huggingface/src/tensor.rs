//! A tensor of the source model: its type, its shape, and its bytes in the mapped file.

use crate::error::{ErrorKind, HuggingFaceError, Result};
use safetensors::Dtype;
use std::fmt;
use std::path::Path;

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
        let Self::Other(dtype) = self else {
            return match self {
                Self::Float16 => "float16",
                Self::BFloat16 => "bfloat16",
                _ => "float32",
            }
            .to_owned();
        };
        match dtype {
            Dtype::BOOL => "bool".to_owned(),
            Dtype::U8 => "uint8".to_owned(),
            Dtype::I8 => "int8".to_owned(),
            Dtype::I16 => "int16".to_owned(),
            Dtype::U16 => "uint16".to_owned(),
            Dtype::I32 => "int32".to_owned(),
            Dtype::U32 => "uint32".to_owned(),
            Dtype::I64 => "int64".to_owned(),
            Dtype::U64 => "uint64".to_owned(),
            Dtype::F64 => "float64".to_owned(),
            other => other.to_string().to_lowercase(),
        }
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
    pub(crate) range: std::ops::Range<usize>,
}

impl TensorInfo {
    /// Size in bytes.
    pub fn size_in_bytes(&self) -> u64 {
        self.range.len() as u64
    }

    /// Number of elements; the shape was checked when the file was opened, so it fits.
    pub fn elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// A tensor of a usable type, or some rows of one, in the mapped file. The bytes are little
/// endian, row-major, and need not be aligned.
#[derive(Debug, Clone, Copy)]
pub struct TensorData<'a> {
    pub(crate) file: &'a Path,
    pub(crate) name: &'a str,
    pub(crate) source_type: SourceType,
    /// Shape of the whole tensor.
    pub(crate) full_shape: &'a [u64],
    pub(crate) first_row: u64,
    pub(crate) rows: Option<u64>,
    pub(crate) bytes: &'a [u8],
}

impl<'a> TensorData<'a> {
    /// A tensor that does not come from a file; `name` stands in error messages. The bytes must
    /// be as many as type and shape say.
    pub fn new(
        name: &'a str,
        source_type: SourceType,
        shape: &'a [u64],
        bytes: &'a [u8],
    ) -> Result<Self> {
        let tensor = Self {
            file: Path::new("(memory)"),
            name,
            source_type,
            full_shape: shape,
            first_row: 0,
            rows: shape.first().copied(),
            bytes,
        };
        let Some(width) = source_type.width() else {
            return Err(tensor.unusable());
        };
        let size = shape.iter().try_fold(width as u64, |size, side| size.checked_mul(*side));
        if size != Some(bytes.len() as u64) {
            return Err(tensor.error(
                ErrorKind::Usage,
                format!("{} bytes do not make a {source_type} tensor {shape:?}", bytes.len()),
            ));
        }
        Ok(tensor)
    }

    /// Name of the tensor.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// Element type.
    pub fn source_type(&self) -> SourceType {
        self.source_type
    }

    /// Dimensions, outermost first; the first is the number of chosen rows.
    pub fn shape(&self) -> Vec<u64> {
        let mut shape = self.full_shape.to_vec();
        if let (Some(first), Some(rows)) = (shape.first_mut(), self.rows) {
            *first = rows;
        }
        shape
    }

    /// Little-endian elements in row-major order.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.source_type.width().unwrap_or(1)
    }

    /// The rows `first..end` of axis 0, counted from the first row of `self`.
    pub fn rows(&self, first: u64, end: u64) -> Result<Self> {
        let count = self.rows.unwrap_or(0);
        if first > end || end > count {
            return Err(self.error(
                ErrorKind::Shape,
                format!("rows {first}..{end} asked for, but there are {count}"),
            ));
        }
        // Rows are equally long, and `end <= count` keeps the products inside the bytes.
        let row = (self.bytes.len() as u64).checked_div(count).unwrap_or(0);
        let range = usize::try_from(first * row).ok().zip(usize::try_from(end * row).ok());
        let bytes = range.and_then(|(start, stop)| self.bytes.get(start..stop)).unwrap_or_default();
        Ok(Self { first_row: self.first_row + first, rows: Some(end - first), bytes, ..*self })
    }

    /// The index, in the whole tensor, of the element `flat` of this view.
    pub(crate) fn index_of(&self, flat: usize) -> Vec<u64> {
        let mut rest = flat as u64;
        let mut index = vec![0; self.full_shape.len()];
        for (axis, side) in self.full_shape.iter().enumerate().rev() {
            if axis == 0 {
                index[axis] = rest + self.first_row;
            } else {
                index[axis] = rest % (*side).max(1);
                rest /= (*side).max(1);
            }
        }
        index
    }

    pub(crate) fn error(&self, kind: ErrorKind, reason: impl Into<String>) -> HuggingFaceError {
        HuggingFaceError::new(kind, self.file, reason).with_key(self.name)
    }

    pub(crate) fn unusable(&self) -> HuggingFaceError {
        self.error(
            ErrorKind::Type,
            format!("elements are {}, which cannot be weights", self.source_type),
        )
        .with_hint(
            "save the model as float16, bfloat16 or float32; quantized checkpoints cannot be read",
        )
    }
}
