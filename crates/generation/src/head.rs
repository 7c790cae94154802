//! What the head of a conversion gives: logits in pieces, or the largest of each.

use anemll_codes as codes;
use anemll_layout::anemll;
use anemll_plugin_api::{DType, Error, Result, Tensor};
use half::f16;
use std::collections::BTreeMap;

/// What the head gives for one token.
#[derive(Debug, Clone)]
pub enum Head {
    /// Logits of the whole vocabulary.
    Logits(Vec<f32>),
    /// The largest logit, with `--argmax`: token and value.
    Largest(u32, f32),
}

impl Head {
    /// Whether a value is NaN, which no working model gives.
    pub fn has_not_a_number(&self) -> bool {
        match self {
            Self::Logits(values) => values.iter().any(|value| value.is_nan()),
            Self::Largest(_, value) => value.is_nan(),
        }
    }

    /// The logits.
    ///
    /// # Errors
    /// [`codes::EVALUATION_INPUT`]: the conversion gives the largest one alone.
    pub fn into_logits(self) -> Result<Vec<f32>> {
        match self {
            Self::Logits(logits) => Ok(logits),
            Self::Largest(..) => Err(Error::new(
                codes::EVALUATION_INPUT,
                "this conversion gives only the token with the largest logit (--argmax), so its \
                 logits cannot be compared",
            )
            .with_hint("use --path evaluate: these functions give all logits")),
        }
    }

    /// The token with the largest logit, the first of equals.
    pub fn best(&self) -> u32 {
        match self {
            Self::Largest(token, _) => *token,
            Self::Logits(values) => crate::evaluation::argmax(values) as u32,
        }
    }
}

/// The pieces of the logits put together row by row.
pub(crate) fn head_rows(
    values: &BTreeMap<String, Tensor>,
    width: u64,
    names: &[String],
) -> Result<Vec<Head>> {
    let pieces = names.iter().map(|name| values.get(name).ok_or_else(no_rows)?.floats());
    let pieces = pieces.collect::<Result<Vec<_>>>()?;
    if pieces.is_empty() {
        return Err(no_rows());
    }
    let rows = width as usize;
    Ok((0..rows)
        .map(|row| {
            let mut logits = Vec::new();
            for piece in &pieces {
                let columns = piece.len() / rows;
                logits.extend_from_slice(&piece[row * columns..(row + 1) * columns]);
            }
            Head::Logits(logits)
        })
        .collect())
}

/// The index of a piece counts from the piece's first row.
pub(crate) fn largest_of_pieces(indices: &Tensor, largest: &Tensor, sizes: &[u64]) -> Result<Head> {
    let indices = indices.integers()?;
    let largest = largest.floats()?;
    if sizes.len() != indices.len() || largest.len() != indices.len() {
        return Err(Error::new(
            codes::META_INVALID,
            format!(
                "the head gives {} indices, but its metadata has the sizes of {} pieces",
                indices.len(),
                sizes.len()
            ),
        )
        .with_at(anemll::HEAD_SIZES));
    }
    let mut best: Option<(u32, f32)> = None;
    let mut offset = 0;
    for ((index, value), size) in indices.iter().zip(&largest).zip(sizes) {
        let token = u64::try_from(*index).ok().filter(|index| index < size);
        let token = token.and_then(|index| u32::try_from(index.checked_add(offset)?).ok());
        let Some(token) = token else {
            return Err(Error::new(
                codes::META_INVALID,
                format!("the head gives the index {index} in a piece of {size} tokens"),
            )
            .with_at(anemll::HEAD_SIZES));
        };
        if best.is_none_or(|(_, known)| *value > known) {
            best = Some((token, *value));
        }
        offset = offset.saturating_add(*size);
    }
    best.map(|(token, value)| Head::Largest(token, value)).ok_or_else(no_rows)
}

/// Reading a tensor's elements.
pub(crate) trait Elements {
    fn floats(&self) -> Result<Vec<f32>>;
    fn integers(&self) -> Result<Vec<i64>>;
}

impl Elements for Tensor {
    fn floats(&self) -> Result<Vec<f32>> {
        match self.dtype {
            DType::FLOAT16 => Ok(self
                .bytes
                .chunks_exact(2)
                .map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
                .collect()),
            DType::FLOAT32 => Ok(self
                .bytes
                .chunks_exact(4)
                .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                .collect()),
            other => Err(wrong_type(self, other)),
        }
    }

    fn integers(&self) -> Result<Vec<i64>> {
        match self.dtype {
            DType::INT32 => Ok(self
                .bytes
                .chunks_exact(4)
                .map(|bytes| {
                    i64::from(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
                })
                .collect()),
            other => Err(wrong_type(self, other)),
        }
    }
}

fn wrong_type(tensor: &Tensor, dtype: DType) -> Error {
    Error::new(
        codes::RUN_FAILED,
        format!("the output `{}` has the unexpected type {}", tensor.name, dtype.name()),
    )
}

/// The error of a head that gives nothing.
pub(crate) fn no_rows() -> Error {
    Error::new(codes::META_INVALID, "the last function of the conversion gives no logits")
        .with_hint("`anemll inspect` shows the outputs of a package; the head's are `logits1`, …")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_the_head_are_put_together_in_order() {
        let piece = |name: &str, values: &[f32]| {
            let bytes: Vec<u8> =
                values.iter().flat_map(|value| f16::from_f32(*value).to_le_bytes()).collect();
            let shape = vec![1, 2, values.len() as u64 / 2];
            (name.to_owned(), Tensor { name: name.to_owned(), dtype: DType::FLOAT16, shape, bytes })
        };
        let values = BTreeMap::from([
            piece("logits1", &[1.0, 2.0, 3.0, 4.0]),
            piece("logits2", &[5.0, 6.0]),
        ]);
        let rows = head_rows(&values, 2, &["logits1".to_owned(), "logits2".to_owned()]).unwrap();
        let Head::Logits(second) = &rows[1] else { panic!("logits are expected") };
        assert_eq!(second, &[3.0, 4.0, 6.0]);
    }

    #[test]
    fn an_index_outside_of_its_piece_is_an_error() {
        for index in [-1_i32, 10, i32::MIN] {
            let tensor = |name: &str, dtype, bytes: &[u8]| Tensor {
                name: name.to_owned(),
                dtype,
                shape: vec![1],
                bytes: bytes.to_vec(),
            };
            let indices = tensor("argmax_idx", DType::INT32, &index.to_le_bytes());
            let largest = tensor("argmax_val", DType::FLOAT16, &f16::ONE.to_le_bytes());
            assert!(largest_of_pieces(&indices, &largest, &[10]).is_err(), "{index}");
            assert!(largest_of_pieces(&indices, &largest, &[u64::MAX]).is_ok() == (index == 10));
        }
    }

    #[test]
    fn the_winner_of_a_later_piece_counts_from_its_first_row() {
        let indices = Tensor {
            name: "argmax_idx".to_owned(),
            dtype: DType::INT32,
            shape: vec![2],
            bytes: [3_i32, 1].iter().flat_map(|value| value.to_le_bytes()).collect(),
        };
        let largest = Tensor {
            name: "argmax_val".to_owned(),
            dtype: DType::FLOAT16,
            shape: vec![2],
            bytes: [1.0, 2.0]
                .iter()
                .flat_map(|value| f16::from_f32(*value).to_le_bytes())
                .collect(),
        };
        assert_eq!(largest_of_pieces(&indices, &largest, &[10, 6]).unwrap().best(), 11);
        assert!(largest_of_pieces(&indices, &largest, &[16]).is_err());
    }
}
