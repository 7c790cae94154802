//! Operations of MIL programs: what each does, apart from the plan that orders them.
//!
//! Every operation is one entry of a family's list, and every family one line in [`ALL`]. An
//! entry's `prepare` reads constant arguments once and gives the step that runs.

mod binary;
mod cast;
mod convolution;
pub(crate) mod elementwise;
mod gather;
mod linear;
mod lstm;
pub(crate) mod math;
pub(crate) mod matmul;
mod matrix;
pub(crate) mod normalization;
mod reduce;
pub(crate) mod rows;
mod select;
mod shape;
mod slice;
mod state;
mod top;
mod unary;

use crate::element::Element;
use crate::failure::{Outcome, invalid};
use crate::layout::Layout;
use crate::packed::Packed;
use crate::storage::{Buffer, Pool};
use crate::tensor::Tensor;
use crate::workers::Team;
use smallvec::{SmallVec, smallvec};
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// The families of operations.
pub(crate) const ALL: &[&[Definition]] = &[
    binary::ALL,
    cast::ALL,
    convolution::ALL,
    gather::ALL,
    linear::ALL,
    lstm::ALL,
    matmul::ALL,
    normalization::ALL,
    reduce::ALL,
    select::ALL,
    shape::ALL,
    slice::ALL,
    state::ALL,
    top::ALL,
    unary::ALL,
];

/// An operation type and how it is prepared.
pub(crate) struct Definition {
    pub(crate) name: &'static str,
    pub(crate) prepare: fn(&Call<'_>) -> Outcome<Step>,
}

impl Definition {
    pub(crate) const fn new(name: &'static str, prepare: fn(&Call<'_>) -> Outcome<Step>) -> Self {
        Self { name, prepare }
    }
}

/// The definition of an operation type.
pub(crate) fn find(name: &str) -> Option<&'static Definition> {
    ALL.iter().flat_map(|family| family.iter()).find(|definition| definition.name == name)
}

/// Outputs of an operation: nearly all have one.
pub(crate) type Results = SmallVec<[Tensor; 1]>;

/// What runs for one operation: reads its inputs from the frame and gives its outputs.
pub(crate) type Step = Box<dyn Fn(&mut Frame<'_>) -> Outcome<Results> + Send + Sync>;

/// A step with one output.
pub(crate) fn step(
    run: impl Fn(&mut Frame<'_>) -> Outcome<Tensor> + Send + Sync + 'static,
) -> Outcome<Step> {
    Ok(Box::new(move |frame| Ok(smallvec![run(frame)?])))
}

/// A step whose result depends on `x` and on constants. Where it is a view, a layout comes of a layout, which
/// is the same run after run: it is found once.
pub(crate) fn view_step(
    x: Input,
    run: impl Fn(&Frame<'_>, &Tensor) -> Outcome<Tensor> + Send + Sync + 'static,
) -> Outcome<Step> {
    let found = OnceLock::<(Layout, Layout)>::new();
    step(move |frame| {
        let x = x.get(frame)?;
        if let Some((from, to)) = found.get()
            && *from == x.layout
        {
            return Ok(x.viewed(to.clone()));
        }
        let made = run(frame, x)?;
        if made.storage.is_shared_with(&x.storage) {
            // Another layout that was there first stays.
            let _ = found.set((x.layout.clone(), made.layout.clone()));
        }
        Ok(made)
    })
}

/// A tensor argument: known when the function is planned, or a slot of the frame.
#[derive(Clone, Debug)]
pub(crate) enum Input {
    Constant(Tensor),
    Slot(usize),
}

impl Input {
    /// The value, where it is the same in every run.
    pub(crate) fn constant(&self) -> Option<&Tensor> {
        match self {
            Self::Constant(tensor) => Some(tensor),
            Self::Slot(_) => None,
        }
    }

    /// The value in this run.
    pub(crate) fn get<'f>(&'f self, frame: &'f Frame<'_>) -> Outcome<&'f Tensor> {
        match self {
            Self::Constant(tensor) => Ok(tensor),
            Self::Slot(slot) => match frame.slots.get(*slot) {
                Some(Some(tensor)) => Ok(tensor),
                _ => invalid("an input has no value yet"),
            },
        }
    }
}

/// A weight: a tensor, or one that is decoded as it is read.
#[derive(Clone, Debug)]
pub(crate) enum Weight {
    Tensor(Input),
    Packed(Arc<Packed>),
}

/// Arguments whose kernels take weights that are packed, by operation.
const PACKED: &[(&str, &str)] = &[("conv", "weight"), ("gather", "x"), ("linear", "weight")];

/// Whether an operation takes a packed weight for this argument.
pub(crate) fn takes_packed(operation: &str, argument: &str) -> bool {
    PACKED.contains(&(operation, argument))
}

/// One binding of an argument.
#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Tensor(Input),
    Packed(Arc<Packed>),
    State(usize),
    Text(String),
}

/// A state of the session: zero until it is written.
#[derive(Debug)]
pub(crate) struct StateValue {
    pub(crate) element: Element,
    pub(crate) shape: Vec<usize>,
    /// Shared with values that were read from the state; writing copies it only then.
    pub(crate) buffer: Arc<Buffer>,
}

/// What a step may touch during a run.
pub(crate) struct Frame<'a> {
    pub(crate) slots: Vec<Option<Tensor>>,
    pub(crate) states: &'a mut [StateValue],
    pub(crate) pool: &'a Pool,
    pub(crate) team: &'a Team<'a>,
}

/// An operation as its `prepare` sees it.
pub(crate) struct Call<'a> {
    /// Operation type.
    pub(crate) operation: &'a str,
    pub(crate) arguments: BTreeMap<&'a str, Vec<Operand>>,
    /// Declared element type and shape of every output (`None`: unknown size).
    pub(crate) outputs: Vec<(Element, Vec<Option<usize>>)>,
    /// Slots that no later operation reads.
    pub(crate) last_uses: Vec<usize>,
    /// For slice_update: the state that its result is written to next, which it may change in
    /// place.
    pub(crate) in_place: Option<usize>,
}

impl Call<'_> {
    fn single(&self, name: &str) -> Outcome<Option<&Operand>> {
        match self.arguments.get(name).map(Vec::as_slice) {
            None | Some([]) => Ok(None),
            Some([operand]) => Ok(Some(operand)),
            Some(_) => invalid(format!("argument `{name}` has several values")),
        }
    }

    fn required<T>(&self, name: &str, value: Option<T>) -> Outcome<T> {
        match value {
            Some(value) => Ok(value),
            None => invalid(format!("argument `{name}` is missing")),
        }
    }

    /// A tensor argument that may be left out.
    pub(crate) fn optional(&self, name: &str) -> Outcome<Option<Input>> {
        match self.single(name)? {
            None => Ok(None),
            Some(Operand::Tensor(input)) => Ok(Some(input.clone())),
            Some(_) => invalid(format!("argument `{name}` is not a tensor")),
        }
    }

    /// A tensor argument.
    pub(crate) fn tensor(&self, name: &str) -> Outcome<Input> {
        self.required(name, self.optional(name)?)
    }

    /// A tensor argument that may be packed.
    pub(crate) fn weight(&self, name: &str) -> Outcome<Weight> {
        match self.single(name)? {
            Some(Operand::Packed(packed)) => Ok(Weight::Packed(Arc::clone(packed))),
            _ => self.tensor(name).map(Weight::Tensor),
        }
    }

    /// An argument that is a list of tensors.
    pub(crate) fn tensors(&self, name: &str) -> Outcome<Vec<Input>> {
        let operands = self.required(name, self.arguments.get(name))?;
        operands
            .iter()
            .map(|operand| match operand {
                Operand::Tensor(input) => Ok(input.clone()),
                _ => invalid(format!("argument `{name}` holds something that is not a tensor")),
            })
            .collect()
    }

    /// The state that an argument names.
    pub(crate) fn state(&self, name: &str) -> Outcome<usize> {
        match self.single(name)? {
            Some(Operand::State(index)) => Ok(*index),
            _ => invalid(format!("argument `{name}` is not a state")),
        }
    }

    /// A constant string, when given.
    pub(crate) fn text(&self, name: &str) -> Outcome<Option<&str>> {
        match self.single(name)? {
            None => Ok(None),
            Some(Operand::Text(text)) => Ok(Some(text)),
            Some(_) => invalid(format!("argument `{name}` is not a constant string")),
        }
    }

    /// A constant tensor, when given.
    pub(crate) fn constant(&self, name: &str) -> Outcome<Option<Tensor>> {
        match self.optional(name)? {
            None => Ok(None),
            Some(Input::Constant(tensor)) => Ok(Some(tensor)),
            Some(Input::Slot(_)) => invalid(format!("argument `{name}` must be a constant")),
        }
    }

    /// Constant integers, when given.
    pub(crate) fn integers(&self, name: &str) -> Outcome<Option<Vec<i64>>> {
        self.constant(name)?.map(|tensor| tensor.integers()).transpose()
    }

    /// A constant integer, when given.
    pub(crate) fn integer(&self, name: &str) -> Outcome<Option<i64>> {
        match self.integers(name)?.as_deref() {
            None => Ok(None),
            Some([value]) => Ok(Some(*value)),
            Some(_) => invalid(format!("argument `{name}` must have one element")),
        }
    }

    /// A constant number, when given.
    pub(crate) fn float(&self, name: &str) -> Outcome<Option<f32>> {
        self.constant(name)?.map(|tensor| tensor.scalar()).transpose()
    }

    /// A constant truth value, or `default`.
    pub(crate) fn boolean(&self, name: &str, default: bool) -> Outcome<bool> {
        Ok(self.integer(name)?.map_or(default, |value| value != 0))
    }

    /// Constant truth values, when given.
    pub(crate) fn booleans(&self, name: &str) -> Outcome<Option<Vec<bool>>> {
        let values = self.integers(name)?;
        Ok(values.map(|values| values.into_iter().map(|value| value != 0).collect()))
    }

    /// Declared element type of the first output.
    pub(crate) fn element(&self) -> Outcome<Element> {
        match self.outputs.first() {
            Some((element, _)) => Ok(*element),
            None => invalid("the operation has no output"),
        }
    }
}

/// An axis that may count from the end, as an index.
pub(crate) fn axis_index(axis: i64, rank: usize) -> Outcome<usize> {
    let index = if axis < 0 { axis + rank as i64 } else { axis };
    match usize::try_from(index) {
        Ok(index) if index < rank => Ok(index),
        _ => invalid(format!("axis {axis} of a value of rank {rank}")),
    }
}

/// Several axes as indices; no axis twice.
pub(crate) fn axis_indices(axes: &[i64], rank: usize) -> Outcome<Vec<usize>> {
    let mut indices = Vec::with_capacity(axes.len());
    for &axis in axes {
        let index = axis_index(axis, rank)?;
        if indices.contains(&index) {
            return invalid(format!("axis {axis} is named twice"));
        }
        indices.push(index);
    }
    Ok(indices)
}

/// The shape that two shapes broadcast to.
pub(crate) fn broadcast_shape(left: &[usize], right: &[usize]) -> Outcome<Vec<usize>> {
    let rank = left.len().max(right.len());
    let size = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |index| shape[index])
    };
    (0..rank)
        .map(|axis| match (size(left, axis), size(right, axis)) {
            (a, b) if a == b => Ok(a),
            (1, b) => Ok(b),
            (a, 1) => Ok(a),
            _ => invalid(format!("shapes {left:?} and {right:?} do not broadcast")),
        })
        .collect()
}

/// Elements of one value at most: far above any model's, and below what a hostile shape could ask
/// of the memory.
const MOST_ELEMENTS: usize = 1 << 32;

/// Elements of a result shape, checked.
pub(crate) fn checked_count(shape: &[usize]) -> Outcome<usize> {
    match crate::layout::element_count(shape) {
        Some(count) if count <= MOST_ELEMENTS => Ok(count),
        _ => invalid(format!("a result of shape {shape:?} is too large")),
    }
}
