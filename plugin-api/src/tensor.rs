//! Tensors: borrowed views and owned values.

use crate::{DType, Error, Result, codes, limits};

/// A tensor that someone else holds: a name, an element type, a shape and packed little-endian
/// bytes in row-major order.
///
/// The number of bytes always suits shape and type. The bytes need not be aligned to the element.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TensorView<'a> {
    name: &'a str,
    dtype: DType,
    shape: &'a [u64],
    bytes: &'a [u8],
}

impl<'a> TensorView<'a> {
    /// A view of `bytes` as a tensor.
    ///
    /// # Errors
    /// [`codes::TENSOR_SIZE`] when the bytes do not suit shape and type, the type has no fixed
    /// width, or there are more than [`limits::RANK`] dimensions.
    pub fn new(name: &'a str, dtype: DType, shape: &'a [u64], bytes: &'a [u8]) -> Result<Self> {
        let expected = byte_length(name, dtype, shape)?;
        if expected != bytes.len() as u64 {
            return Err(Error::new(
                codes::TENSOR_SIZE,
                format!(
                    "{dtype} of shape {shape:?} takes {expected} bytes, but there are {}",
                    bytes.len()
                ),
            )
            .with_at(name));
        }
        Ok(Self { name, dtype, shape, bytes })
    }

    /// The name: of a weight, an input, or an output.
    pub fn name(&self) -> &'a str {
        self.name
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The shape, outermost dimension first.
    pub fn shape(&self) -> &'a [u64] {
        self.shape
    }

    /// The elements, little endian, row major; narrow ones are packed from the low bits up.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The number of elements.
    pub fn element_count(&self) -> u64 {
        // `new` has multiplied these without overflow, or there is a zero among them.
        if self.shape.contains(&0) { 0 } else { self.shape.iter().product() }
    }

    /// A copy that owns its parts.
    pub fn to_tensor(&self) -> Tensor {
        Tensor {
            name: self.name.to_owned(),
            dtype: self.dtype,
            shape: self.shape.to_vec(),
            bytes: self.bytes.to_vec(),
        }
    }
}

impl std::fmt::Debug for TensorView<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "TensorView({:?}, {:?}, {:?}, {} bytes)",
            self.name,
            self.dtype,
            self.shape,
            self.bytes.len()
        )
    }
}

/// A tensor that owns its bytes; the layout is that of [`TensorView`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    /// The name: of a weight, an input, or an output.
    pub name: String,
    /// The element type.
    pub dtype: DType,
    /// The shape, outermost dimension first.
    pub shape: Vec<u64>,
    /// The elements, little endian, row major.
    pub bytes: Vec<u8>,
}

impl Tensor {
    /// A tensor of these parts.
    ///
    /// # Errors
    /// As [`TensorView::new`].
    pub fn new(
        name: impl Into<String>,
        dtype: DType,
        shape: impl Into<Vec<u64>>,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<Self> {
        let tensor = Self { name: name.into(), dtype, shape: shape.into(), bytes: bytes.into() };
        tensor.view()?;
        Ok(tensor)
    }

    /// A view of the whole tensor.
    ///
    /// # Errors
    /// As [`TensorView::new`], when the public fields were set to parts that do not fit together.
    pub fn view(&self) -> Result<TensorView<'_>> {
        TensorView::new(&self.name, self.dtype, &self.shape, &self.bytes)
    }
}

/// Bytes of a tensor with this type and shape.
///
/// # Errors
/// [`codes::TENSOR_SIZE`] when the type has no fixed width, the size does not fit, or there are
/// more than [`limits::RANK`] dimensions.
pub(crate) fn byte_length(name: &str, dtype: DType, shape: &[u64]) -> Result<u64> {
    let refuse = |why: String| Err(Error::new(codes::TENSOR_SIZE, why).with_at(name));
    if shape.len() > limits::RANK {
        return refuse(format!("{} dimensions are more than {}", shape.len(), limits::RANK));
    }
    if dtype.bits().is_none() {
        return refuse(format!("elements of type {dtype:?} have no fixed width"));
    }
    match dtype.byte_length(shape) {
        Some(length) => Ok(length),
        None => refuse(format!("{dtype} of shape {shape:?} is too large to address")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_must_suit_the_shape() {
        assert!(TensorView::new("w", DType::FLOAT16, &[2, 2], &[0; 8]).is_ok());
        for length in [0, 7, 9, 16] {
            let bytes = vec![0; length];
            let error = TensorView::new("w", DType::FLOAT16, &[2, 2], &bytes).unwrap_err();
            assert_eq!(error.code, codes::TENSOR_SIZE);
            assert_eq!(error.at.as_deref(), Some("w"));
        }
        assert!(TensorView::new("w", DType::FLOAT16, &[u64::MAX, 3], &[]).is_err());
        assert!(TensorView::new("w", DType::STRING, &[1], &[0]).is_err());
        assert!(TensorView::new("w", DType(77), &[1], &[0]).is_err());
        assert!(TensorView::new("w", DType::UINT8, &[1; 17], &[0]).is_err());
    }

    #[test]
    fn an_empty_tensor_has_no_elements() {
        let shape = [u64::MAX, 2, 0];
        let view = TensorView::new("w", DType::UINT8, &shape, &[]).unwrap();
        assert_eq!(view.element_count(), 0);
    }
}
