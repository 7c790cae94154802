//! The tensors as transformers has them: names, order of rows, values.

use crate::architectures::{Architecture, Layout};
use crate::container::{Container, Tensor};
use crate::error::{Error, ErrorKind, Result};
use crate::order::{Change, Order};
use crate::source::Source;
use std::collections::BTreeSet;

/// Elements that are decoded at once, a multiple of every block.
const STEP: u64 = 8192;

/// How the elements of a weight are handed out, little endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// IEEE 754 binary16.
    Float16,
    /// The upper half of a binary32.
    BFloat16,
    /// IEEE 754 binary32: everything that is stored in blocks, too.
    Float32,
}

impl Format {
    /// Bytes of an element.
    pub fn width(self) -> usize {
        match self {
            Self::Float16 | Self::BFloat16 => 2,
            Self::Float32 => 4,
        }
    }
}

/// A tensor of the file under the name, in the row order and with the values that transformers has.
#[derive(Debug, Clone, PartialEq)]
pub struct Weight {
    /// transformers' name, such as `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// Dimensions, outermost first.
    pub shape: Vec<u64>,
    /// How elements are handed out.
    pub format: Format,
    tensor: Tensor,
    order: Order,
    change: Change,
}

/// The weights of a file.
///
/// # Errors
/// An architecture that is not known, tensors that have no place in it, and tensors whose type cannot
/// be read.
pub fn weights(container: &Container) -> Result<Vec<Weight>> {
    let architecture = Architecture::of(container)?;
    let layout = architecture.layout(container)?;
    let mut weights = Vec::new();
    let mut names = BTreeSet::new();
    for tensor in container.tensors() {
        if architecture.is_no_weight(&tensor.name, &layout) {
            continue;
        }
        let weight = weight(tensor, architecture, &layout)?;
        if !names.insert(weight.name.clone()) {
            return Err(Error::invalid(format!("two tensors stand for `{}`", weight.name))
                .with_key(&tensor.name));
        }
        weights.push(weight);
    }
    Ok(weights)
}

fn weight(tensor: &Tensor, architecture: &Architecture, layout: &Layout) -> Result<Weight> {
    let Some(name) = architecture.name_of(&tensor.name) else {
        return Err(Error::unsupported(format!(
            "the tensor has no place in the architecture `{}`",
            architecture.name
        ))
        .with_key(&tensor.name));
    };
    if !tensor.kind.is_readable() {
        return Err(Error::unsupported(format!(
            "tensors of type {} cannot be read",
            tensor.kind.name()
        ))
        .with_key(&tensor.name)
        .with_hint("take the model in another type, such as Q4_K_M, Q8_0 or F16"));
    }
    let order = architecture.order(tensor, layout)?;
    let tiles = match order {
        Order::TiledRows(tiles) => Some((tiles, tensor.shape[0])),
        Order::TiledColumns(tiles) => Some((tiles, tensor.columns())),
        _ => None,
    };
    if let Some((tiles, found)) = tiles
        && tiles.len() != Some(found)
    {
        return Err(Error::invalid(format!(
            "its size of {found} is not that of all heads of keys and values"
        ))
        .with_key(&tensor.name));
    }
    let change = architecture.change(&tensor.name);
    let format = match tensor.kind.name() {
        "F16" if change == Change::None => Format::Float16,
        "BF16" if change == Change::None => Format::BFloat16,
        _ => Format::Float32,
    };
    let shape = architecture.shape_of(&tensor.name, &tensor.shape);
    Ok(Weight { name, shape, format, tensor: tensor.clone(), order, change })
}

impl Weight {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        self.tensor.elements()
    }

    /// First byte of what is stored of it.
    pub fn start(&self) -> u64 {
        self.tensor.start
    }

    /// Fills `buffer`, whole elements of [`Self::format`], from the element `first` on.
    ///
    /// # Errors
    /// A file that cannot be read or was cut short, and elements that are not there.
    pub fn read(
        &self,
        source: &(impl Source + ?Sized),
        first: u64,
        buffer: &mut [u8],
    ) -> Result<()> {
        let width = self.format.width();
        let end = first.checked_add((buffer.len() / width) as u64);
        if end.is_none_or(|end| end > self.elements()) {
            return Err(Error {
                kind: ErrorKind::Invalid,
                key: Some(self.name.clone()),
                reason: format!("{} elements asked for beyond the last", buffer.len() / width),
                hint: None,
            });
        }
        let columns = match (self.order, self.tensor.shape.len()) {
            (Order::Same, _) => return self.read_stored(source, first, buffer),
            // Each element is a row: all are read together, which are few.
            (_, 1) => return self.read_vector(source, first, buffer),
            _ => self.tensor.columns(),
        };
        let (mut at, mut rest) = (first, buffer);
        while !rest.is_empty() {
            let (row, column) = (at / columns, at % columns);
            let run = match self.order {
                Order::TiledColumns(tiles) => tiles.run(column),
                _ => columns - column,
            };
            let count = run.min((rest.len() / width) as u64);
            let (part, left) = rest.split_at_mut(count as usize * width);
            let [row, column] = match self.order {
                Order::TiledColumns(tiles) => [row, tiles.stored(column)],
                order => [order.stored_row(row), column],
            };
            self.read_stored(source, row * columns + column, part)?;
            at += count;
            rest = left;
        }
        Ok(())
    }

    fn read_vector(
        &self,
        source: &(impl Source + ?Sized),
        first: u64,
        buffer: &mut [u8],
    ) -> Result<()> {
        let width = self.format.width();
        let mut all = vec![0; self.elements() as usize * width];
        self.read_stored(source, 0, &mut all)?;
        for (index, element) in buffer.chunks_exact_mut(width).enumerate() {
            let from = self.order.stored_row(first + index as u64) as usize * width;
            element.copy_from_slice(&all[from..from + width]);
        }
        Ok(())
    }

    /// The same, in the order of the file.
    fn read_stored(
        &self,
        source: &(impl Source + ?Sized),
        first: u64,
        buffer: &mut [u8],
    ) -> Result<()> {
        let kind = self.tensor.kind;
        if self.change == Change::None && kind.block_elements() == 1 {
            return Ok(source.read(buffer, self.tensor.start + first * kind.block_bytes())?);
        }
        let Some(decode) = kind.decoder() else {
            return Err(Error::unsupported(format!("type {} cannot be read", kind.name())));
        };
        let end = first + (buffer.len() / 4) as u64;
        let (mut packed, mut values) = (Vec::new(), Vec::new());
        let mut at = first;
        let mut rest = buffer;
        while at < end {
            // From the beginning of a block to the end of one.
            let block = kind.block_elements();
            let begin = at / block;
            let until = end.min(begin * block + STEP);
            let blocks = until.div_ceil(block) - begin;
            packed.resize((blocks * kind.block_bytes()) as usize, 0);
            values.resize((blocks * block) as usize, 0.0);
            source.read(&mut packed, self.tensor.start + begin * kind.block_bytes())?;
            decode(&packed, &mut values);
            let skip = (at - begin * block) as usize;
            let count = (until - at) as usize;
            let (part, left) = rest.split_at_mut(4 * count);
            for (bytes, value) in part.as_chunks_mut::<4>().0.iter_mut().zip(&values[skip..]) {
                *bytes = self.change.of(*value).to_le_bytes();
            }
            at = until;
            rest = left;
        }
        Ok(())
    }
}
