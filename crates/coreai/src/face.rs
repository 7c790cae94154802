//! How a function shows itself in an asset: as in its package, or as Apple's apps expect it of a static
//! language model. The numbers inside are the same; names, shapes and element types differ.

use crate::failure::Lowered;
use crate::reading;
use anemll_aicode::{BlockBuilder, ElementType, Layout, Memory, Port, TensorType, Value};
use anemll_layout::anemll;
use anemll_layout::apple::{self, Role};
use anemll_mil::TensorType as MilTensor;
use anemll_mil::types::{Symbols, ValueType};
use anemll_plugin_api::data::{KEY_CACHE, VALUE_CACHE};
use coreml_proto::mil;

/// Channels of caches, and rows of the table of embeddings, that lie together in memory.
const INTERLEAVE: i64 = 8;
/// What apps give the table of embeddings by.
const TABLE: &str = "embedding_table";

/// How a function shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Face {
    /// With the names and types of the package.
    Package,
    /// As Apple's apps expect it.
    Apple {
        /// What it does.
        role: Role,
        /// Positions of the largest caches: all functions lie in memory that is made for those.
        largest: u64,
    },
}

/// An input in the asset, and how it becomes what the program takes: another order of the axes, then
/// another element type and shape.
pub(crate) struct Input {
    pub(crate) port: Port,
    order: &'static [usize],
    inside: TensorType,
}

impl Face {
    /// A state's name and type: those of the package, and how it lies in memory.
    pub(crate) fn state(self, name: &str, inside: TensorType) -> Lowered<(String, TensorType)> {
        let Self::Apple { role, largest } = self else { return Ok((name.to_owned(), inside)) };
        let [layers, 1, channels, 1, positions] = inside.shape[..] else {
            let wanted = "layers x 1 x channels x 1 x positions";
            return Err(format!("the state `{name}` is {inside}, not {wanted}").into());
        };
        let context = role.context().unwrap_or(0);
        let known = [KEY_CACHE, VALUE_CACHE].into_iter();
        let mut known = known.filter(|cache| apple::is_cache(name, cache, context));
        let cache = known.next().filter(|_| u64::try_from(positions) == Ok(context));
        let cache = cache.ok_or_else(|| {
            format!("apps have no state `{name}` of {positions} positions for it")
        })?;
        // Apps take the largest size of a cache for its context.
        if layers.max(channels) > positions {
            return Err(format!(
                "the state `{name}` has {positions} positions, fewer than its {layers} layers or {channels} \
                 channels: apps would take the larger number for the context"
            )
            .into());
        }
        let row = i64::try_from(largest).unwrap_or(i64::MAX).saturating_mul(INTERLEAVE);
        let layout = Layout {
            alignments: vec![1, 1, 1, 1, row, 1],
            interleave: vec![1, 1, INTERLEAVE.min(channels), 1, 1],
            memory: Memory::IoSurface,
        };
        Ok((cache.to_owned(), TensorType { layout: Some(layout), ..inside }))
    }

    /// An input, by its name and type in the package.
    pub(crate) fn input(self, name: &str, inside: TensorType) -> Lowered<Input> {
        let plain = |port: Port| Input { port, order: &[], inside: inside.clone() };
        let Self::Apple { role, .. } = self else {
            return Ok(plain(Port::new(name, inside.clone())));
        };
        let tokens = i64::try_from(role.tokens()).unwrap_or(i64::MAX);
        let shape = inside.shape.as_slice();
        let (outside, element, shape, order): (_, _, Vec<i64>, &[usize]) = match (role, name, shape)
        {
            (Role::Gather { .. }, anemll::INPUT_TOKENS, [1, count]) if *count == tokens => {
                ("in_new_token_ids", inside.element, vec![1, tokens], &[])
            }
            (Role::Extend { .. } | Role::Prompt { .. }, "hidden_states", [1, count, width])
                if *count == tokens =>
            {
                ("transformer_input", inside.element, vec![1, tokens, 1, *width], &[])
            }
            (Role::Extend { .. } | Role::Prompt { .. }, anemll::INPUT_POSITIONS, [count])
                if *count == tokens =>
            {
                ("position_ids", ElementType::UInt16, vec![1, tokens], &[])
            }
            (Role::Extend { .. } | Role::Prompt { .. }, anemll::INPUT_POSITION, [1]) => {
                ("in_step", inside.element, vec![1], &[])
            }
            (
                Role::Extend { .. } | Role::Prompt { .. },
                anemll::INPUT_MASK,
                [1, 1, count, context],
            ) if *count == tokens => {
                ("causal_mask", inside.element, vec![1, *context, 1, tokens], &[0, 2, 3, 1])
            }
            _ => return Err(format!("apps have nothing for the input `{name}`, {inside}").into()),
        };
        let port = Port::new(outside, TensorType::new(element, &shape));
        Ok(Input { port, order, inside: inside.clone() })
    }

    /// Whether the table of embeddings is an input.
    pub(crate) fn takes_table(self) -> bool {
        matches!(self, Self::Apple { role: Role::Gather { .. }, .. })
    }
}

impl Input {
    /// What the program takes, of what callers give.
    pub(crate) fn inside(&self, builder: &mut BlockBuilder, given: Value) -> Value {
        let ordered = match self.order {
            [] => given,
            order => builder.transpose(given, order),
        };
        let cast = builder.cast(ordered, self.inside.element);
        builder.reshape(cast, &self.inside.shape)
    }
}

/// The table that a function gathers its rows from: its name in the program, and its type (rows, width).
pub(crate) fn table(function: &mil::Function) -> Lowered<(&str, TensorType)> {
    let block = anemll_mil::model::block(function)?;
    let gather = block.operations.iter().find(|operation| operation.r#type == "gather");
    let bound = gather.map(|gather| reading::bound(gather, "x"));
    let Some(reading::Bound::Name(name)) = bound.and_then(|bound| bound.first().copied()) else {
        return Err("it gathers rows, but not of a table".into());
    };
    let outputs = block.operations.iter().flat_map(|operation| &operation.outputs);
    let made = outputs.into_iter().find(|output| output.name == name);
    let kind = made.and_then(|output| output.r#type.as_ref());
    let kind = kind.ok_or_else(|| format!("the table `{name}` is not made in it"))?;
    let ValueType::Tensor(kind) = ValueType::from_proto(kind, &Symbols::default())? else {
        return Err(format!("the table `{name}` is not a tensor").into());
    };
    table_kind(&kind).map(|kind| (name, kind))
}

fn table_kind(kind: &MilTensor) -> Lowered<TensorType> {
    let kind = reading::tensor(kind)?;
    match kind.shape.len() {
        2 => Ok(kind),
        _ => Err(format!("the table of embeddings is {kind}, not rows x width").into()),
    }
}

/// How apps hold a table (rows, width): (rows, 1, width), some rows together.
pub(crate) fn table_port(inside: &TensorType) -> Port {
    let [rows, width] = [inside.shape[0], inside.shape[1]];
    let layout = Layout {
        alignments: vec![1; 4],
        interleave: vec![INTERLEAVE.min(rows), 1, 1],
        memory: Memory::IoSurface,
    };
    let kind = TensorType { layout: Some(layout), ..inside.shaped(&[rows, 1, width]) };
    Port::new(TABLE, kind)
}
