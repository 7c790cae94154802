//! How a program names a weight that it does not hold.

use serde::{Deserialize, Serialize};

/// What a weight reference's file name begins with; the rest is JSON.
pub const WEIGHT_REFERENCE_PREFIX: &str = "anemll-weight:";

/// A weight by reference.
///
/// It stands as the `fileName` of a `blobFileValue` with offset 0, in the attribute `val` of a
/// `const` operation. The value's type gives the dtype and shape that the program sees: the
/// source tensor, cut to [`rows`](Self::rows), permuted, then reshaped, must have as many elements.
/// Then [`scale`](Self::scale) is multiplied and [`add`](Self::add) added, in float32.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct WeightReference {
    /// The tensor's name in the weight files.
    pub tensor: String,
    /// The shape that the tensor must have there.
    pub shape: Vec<u64>,
    /// What in the configuration gives each dimension of `shape`, for error messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dimensions: Vec<String>,
    /// Rows of the tensor's first axis: the first, and one past the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<[u64; 2]>,
    /// The order of axes after the cut, as in `transpose`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permute: Option<Vec<u32>>,
    /// A constant that is added to each element, after `scale`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<f32>,
    /// A factor of each element.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f32>,
    /// What the weight is for: `embedding`, `head`, `norm.gain`, `attention.q`, `.k`, `.v`, `.o`,
    /// `mlp.gate`, `.up`, `.down`, `convolution.gate`, `.output_gate`, `.input`, `.o` and `.kernel`
    /// (short and not a matrix), of linear attention `delta.qkv`, `.gate`, `.beta`, `.decay`, `.o` and
    /// `.rate` (a number for each head), and these names with `.bias`.
    pub role: String,
    /// The layer, if it belongs to one, counted from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<u32>,
    /// The space that it reads: `residual`, or an inner space such as `attention.q.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reads: Option<String>,
    /// The gain of the norm through which it reads that space, for matrices: whoever changes the basis
    /// of the space makes the gain part of the matrix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gain: Option<Box<Self>>,
    /// The space that it writes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writes: Option<String>,
    /// The matrix by which its rows, after the cut, may be put in another order, where nothing depends on
    /// the one that they have, as in an MLP: all weights that name this matrix here or as
    /// [`column_order`](Self::column_order) are then put in the same order, and the model stays what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub row_order: Option<Box<Self>>,
    /// The same for its columns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column_order: Option<Box<Self>>,
}

impl WeightReference {
    /// The whole tensor of this name and shape, as it is stored, in this role.
    pub fn new(
        tensor: impl Into<String>,
        shape: impl Into<Vec<u64>>,
        role: impl Into<String>,
    ) -> Self {
        Self { tensor: tensor.into(), shape: shape.into(), role: role.into(), ..Self::default() }
    }
}

builders! {
    impl WeightReference {
        with_dimensions(dimensions: Vec<String>);
        with_rows(rows: impl Into<Option<[u64; 2]>>);
        with_permute(permute: impl Into<Option<Vec<u32>>>);
        with_add(add: impl Into<Option<f32>>);
        with_scale(scale: impl Into<Option<f32>>);
        with_layer(layer: impl Into<Option<u32>>);
        with_reads(reads: impl Into<Option<String>>);
        with_writes(writes: impl Into<Option<String>>);
        with_gain(gain: impl Into<Option<Box<Self>>>);
        with_row_order(row_order: impl Into<Option<Box<Self>>>);
        with_column_order(column_order: impl Into<Option<Box<Self>>>);
    }
}

impl WeightReference {
    /// The reference as a `fileName`.
    ///
    /// Equal references give equal names. Constants must be finite: JSON has no others.
    pub fn to_file_name(&self) -> String {
        // Strings, integers, finite floats: none of these can fail to serialize.
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{WEIGHT_REFERENCE_PREFIX}{json}")
    }

    /// The reference in a `fileName`: `None` when it is not one, an error when it cannot be read.
    pub fn parse_file_name(name: &str) -> Option<crate::Result<Self>> {
        let json = name.strip_prefix(WEIGHT_REFERENCE_PREFIX)?;
        Some(serde_json::from_str(json).map_err(|error| {
            crate::Error::new(
                crate::codes::WEIGHT_REFERENCE_INVALID,
                format!("a weight reference cannot be read: {error}"),
            )
            .with_at(json.chars().take(200).collect::<String>())
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_goes_through_a_file_name() {
        let reference = WeightReference {
            tensor: "model.layers.0.self_attn.q_proj.weight".into(),
            shape: vec![576, 576],
            rows: Some([0, 64]),
            scale: Some(0.1),
            role: "attention.q".into(),
            layer: Some(0),
            ..WeightReference::default()
        };
        let name = reference.to_file_name();
        assert!(name.starts_with("anemll-weight:{\"tensor\":"), "{name}");
        assert_eq!(WeightReference::parse_file_name(&name).unwrap().unwrap(), reference);
    }

    #[test]
    fn other_names_and_garbage_are_told_apart() {
        assert!(WeightReference::parse_file_name("@model_path/weights/weight.bin").is_none());
        for json in
            ["", "{", "[]", "{\"tensor\":3}", "{\"tensor\":\"a\",\"shape\":[-1],\"role\":\"\"}"]
        {
            let name = format!("{WEIGHT_REFERENCE_PREFIX}{json}");
            let error = WeightReference::parse_file_name(&name).unwrap().unwrap_err();
            assert_eq!(error.code, crate::codes::WEIGHT_REFERENCE_INVALID);
        }
    }
}
