//! The weights: what they are called, how large they are, and what they are for.

use std::collections::BTreeMap;

use anemll_plugin_api::data::{TensorInfo, WeightReference};
use anemll_plugin_api::{Error, Result, codes};

use crate::config::Mpt;

/// A projection of a layer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Matrix {
    Query,
    Key,
    Value,
    Output,
    Up,
    Down,
}

impl Matrix {
    const ALL: [Self; 6] =
        [Self::Query, Self::Key, Self::Value, Self::Output, Self::Up, Self::Down];
}

impl Mpt {
    /// The embedding, which is the head, too.
    pub(crate) fn table(&self, role: &str) -> WeightReference {
        let shape = [self.vocabulary, self.width];
        WeightReference::new("transformer.wte.weight", shape, role)
            .with_dimensions(vec!["vocab_size".to_owned(), "d_model".to_owned()])
    }

    /// The gain of a norm: `norm_f`, or `blocks.N.norm_1`.
    pub(crate) fn gain(&self, module: &str) -> WeightReference {
        WeightReference::new(format!("transformer.{module}.weight"), [self.width], "norm.gain")
            .with_dimensions(vec!["d_model".to_owned()])
    }

    /// A projection, with the sizes of what it gives and reads.
    pub(crate) fn matrix(&self, layer: u32, matrix: Matrix) -> (WeightReference, [u64; 2]) {
        let width = self.width;
        let rows = |place: u64| Some([place * width, (place + 1) * width]);
        let (module, stored, rows, role) = match matrix {
            Matrix::Query => ("attn.Wqkv", [3 * width, width], rows(0), "attention.q"),
            Matrix::Key => ("attn.Wqkv", [3 * width, width], rows(1), "attention.k"),
            Matrix::Value => ("attn.Wqkv", [3 * width, width], rows(2), "attention.v"),
            Matrix::Output => ("attn.out_proj", [width, width], None, "attention.o"),
            Matrix::Up => ("ffn.up_proj", [self.inner(), width], None, "mlp.up"),
            Matrix::Down => ("ffn.down_proj", [width, self.inner()], None, "mlp.down"),
        };
        let name = format!("transformer.blocks.{layer}.{module}.weight");
        let reference = WeightReference::new(name, stored, role).with_rows(rows).with_layer(layer);
        let given = rows.map_or(stored[0], |[first, end]| end - first);
        (reference, [given, stored[1]])
    }

    /// All tensors that the model reads, once each, by name.
    fn tensors(&self) -> BTreeMap<String, Vec<u64>> {
        let mut tensors = BTreeMap::new();
        let mut add = |reference: WeightReference| {
            tensors.insert(reference.tensor, reference.shape);
        };
        add(self.table("embedding"));
        add(self.gain("norm_f"));
        for layer in 0..self.layers {
            for norm in ["norm_1", "norm_2"] {
                add(self.gain(&format!("blocks.{layer}.{norm}")));
            }
            for matrix in Matrix::ALL {
                add(self.matrix(layer, matrix).0);
            }
        }
        tensors
    }

    /// Elements of all tensors.
    pub(crate) fn parameters(&self) -> u64 {
        self.tensors().values().map(|shape| shape.iter().product::<u64>()).sum()
    }

    /// Checks the weight files, if they are known.
    pub(crate) fn check_tensors(&self, found: &BTreeMap<String, TensorInfo>) -> Result<()> {
        if found.is_empty() {
            return Ok(());
        }
        for (name, shape) in self.tensors() {
            match found.get(&name) {
                None => {
                    let text = format!("the weight files have no tensor `{name}`");
                    return Err(Error::new(codes::WEIGHT_MISSING, text).with_at(name));
                }
                Some(tensor) if tensor.shape != shape => {
                    let text = format!("`{name}` has the shape {:?}, not {shape:?}", tensor.shape);
                    return Err(Error::new(codes::WEIGHT_SHAPE, text).with_at(name));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}
