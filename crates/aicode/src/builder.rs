//! Making operations: the types of what they give, constants once each, bodies where they need one.

use crate::attribute::{Attribute, choice};
use crate::element::ElementType;
use crate::operations;
use crate::program::{Block, Operation, frame};
use crate::types::{Layout, TensorType, Type};
use std::collections::HashMap;

/// A value of a block that is being built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value(u64);

/// Makes the body of an operation by its name, from the types of what it takes and gives.
pub(crate) type BodyOf = fn(&str, Vec<Type>, &[Type]) -> Block;

/// Builds a block, which [`crate::block`] begins. Shapes are known, and callers give operands that fit:
/// [`crate::verify`] is what finds those that do not.
#[derive(Debug)]
pub struct BlockBuilder {
    block: Block,
    /// What makes bodies, of which those of bodies are made, too.
    body_of: BodyOf,
    kinds: Vec<Type>,
    constants: HashMap<(TensorType, Vec<u8>), Value>,
    splats: HashMap<(TensorType, Vec<u8>), Value>,
    blobs: HashMap<(TensorType, u32), Value>,
}

impl BlockBuilder {
    /// A block with these arguments, in which bodies are made by `body_of`.
    pub(crate) fn begin(arguments: Vec<Type>, body_of: BodyOf) -> Self {
        let kinds = arguments.clone();
        let block = Block { arguments, operations: Vec::new() };
        let (constants, splats, blobs) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { block, body_of, kinds, constants, splats, blobs }
    }

    /// The argument of a place.
    pub const fn argument(&self, place: usize) -> Value {
        Value(place as u64)
    }

    /// Whether a value is an argument of the block.
    pub const fn is_argument(&self, value: Value) -> bool {
        value.0 < self.block.arguments.len() as u64
    }

    /// The type of a value.
    pub fn kind(&self, value: Value) -> &Type {
        // Values are made here alone.
        &self.kinds[value.0 as usize]
    }

    /// The tensor type of a value; that of a state is its tensor's.
    pub fn tensor(&self, value: Value) -> TensorType {
        match self.kind(value) {
            Type::Tensor(tensor) | Type::State(tensor) => tensor.clone(),
            _ => TensorType::new(ElementType::Bool, &[]),
        }
    }

    /// The shape of a value.
    pub fn shape(&self, value: Value) -> Vec<i64> {
        self.tensor(value).shape
    }

    /// The block, ended by an operation that takes these values.
    pub fn finish(mut self, ending: &str, values: &[Value]) -> Block {
        self.emit(ending, values, Vec::new());
        self.block
    }

    /// A function's block with its outputs.
    pub fn finish_function(self, outputs: &[Value]) -> Block {
        self.finish(frame::OUTPUT, outputs)
    }

    /// A body's block with what it gives.
    pub fn finish_body(self, values: &[Value]) -> Block {
        self.finish("dataflow.yield_v1", values)
    }

    /// An operation with results of these types. One that needs a body gets it.
    pub fn emit(&mut self, name: &str, operands: &[Value], results: Vec<Type>) -> Vec<Value> {
        self.emit_with(name, Vec::new(), operands, results)
    }

    /// An operation with one result that is a tensor.
    pub fn emit_one(&mut self, name: &str, operands: &[Value], result: TensorType) -> Value {
        self.one(name, Vec::new(), operands, result)
    }

    /// An operation of another block again, with other operands, and results of other types; one that needs a body
    /// gets a new one.
    pub fn again(
        &mut self,
        operation: &Operation,
        operands: &[Value],
        results: Vec<Type>,
    ) -> Vec<Value> {
        self.emit_with(&operation.name, operation.properties.clone(), operands, results)
    }

    fn one(
        &mut self,
        name: &str,
        properties: Vec<Option<Attribute>>,
        operands: &[Value],
        result: TensorType,
    ) -> Value {
        let place = self.kinds.len() as u64;
        self.emit_with(name, properties, operands, vec![result.into()]);
        Value(place)
    }

    fn emit_with(
        &mut self,
        name: &str,
        properties: Vec<Option<Attribute>>,
        operands: &[Value],
        results: Vec<Type>,
    ) -> Vec<Value> {
        let mut regions = Vec::new();
        if operations::find(name).is_some_and(operations::OperationDefinition::has_body) {
            let taken: Vec<Type> = operands.iter().map(|value| self.kind(*value).clone()).collect();
            regions.push((self.body_of)(name, taken, &results));
        }
        self.push(name, properties, operands, results, regions)
    }

    /// An operation with regions of its own.
    pub(crate) fn push(
        &mut self,
        name: &str,
        properties: Vec<Option<Attribute>>,
        operands: &[Value],
        results: Vec<Type>,
        regions: Vec<Block>,
    ) -> Vec<Value> {
        let first = self.kinds.len() as u64;
        self.kinds.extend(results.iter().cloned());
        let operands = operands.iter().map(|value| value.0).collect();
        let name = name.to_owned();
        self.block.operations.push(Operation { name, properties, operands, results, regions });
        (first..self.kinds.len() as u64).map(Value).collect()
    }

    /// A constant that stands in the program, from stored bytes. The same one is made once.
    pub fn constant(&mut self, kind: &TensorType, bytes: &[u8]) -> Value {
        let key = (kind.clone(), bytes.to_vec());
        if let Some(known) = self.constants.get(&key) {
            return *known;
        }
        // That all elements are the same shows only where one is stored for all.
        let element = usize::try_from(kind.element.bits()).unwrap_or(0) / 8;
        let first = bytes.get(..element).filter(|first| !first.is_empty());
        let same = first.filter(|first| bytes.chunks(element).all(|other| other == *first));
        let made = match same {
            Some(first) => self.splat(kind, first),
            None => self.dense(kind, false, bytes),
        };
        self.constants.insert(key, made);
        made
    }

    /// A constant all of whose elements are this one, its bits in whole bytes.
    fn splat(&mut self, kind: &TensorType, element: &[u8]) -> Value {
        let key = (kind.clone(), element.to_vec());
        if let Some(known) = self.splats.get(&key) {
            return *known;
        }
        let made = self.dense(kind, true, element);
        self.splats.insert(key, made);
        made
    }

    fn dense(&mut self, kind: &TensorType, splat: bool, bytes: &[u8]) -> Value {
        let dense = Attribute::Dense { splat, bytes: bytes.to_vec() };
        self.one(frame::CONSTANT, vec![Some(dense)], &[], kind.clone())
    }

    /// A constant with a value that another block stores, if that is one. The same one is made once.
    pub fn stored(&mut self, kind: &TensorType, value: &Attribute) -> Option<Value> {
        match value {
            Attribute::Dense { splat: true, bytes } => Some(self.splat(kind, bytes)),
            Attribute::Dense { splat: false, bytes } => Some(self.constant(kind, bytes)),
            Attribute::Blob(blob) => Some(self.blob(kind, *blob)),
            _ => None,
        }
    }

    /// A constant whose elements stand in a blob of the program.
    pub fn blob(&mut self, kind: &TensorType, blob: u32) -> Value {
        if let Some(known) = self.blobs.get(&(kind.clone(), blob)) {
            return *known;
        }
        let value = vec![Some(Attribute::Blob(blob))];
        let made = self.one(frame::CONSTANT, value, &[], kind.clone());
        self.blobs.insert((kind.clone(), blob), made);
        made
    }

    /// A vector of `si32`.
    pub fn signed(&mut self, values: &[i64]) -> Value {
        self.vector(ElementType::Int32, values)
    }

    /// A vector of `ui32`.
    pub fn unsigned(&mut self, values: &[i64]) -> Value {
        self.vector(ElementType::UInt32, values)
    }

    fn vector(&mut self, element: ElementType, values: &[i64]) -> Value {
        let bytes: Vec<u8> =
            values.iter().flat_map(|value| value.to_le_bytes()[..4].to_vec()).collect();
        self.constant(&TensorType::new(element, &[values.len() as i64]), &bytes)
    }

    /// A scalar of an integer type or truth value.
    pub fn scalar(&mut self, element: ElementType, value: i64) -> Value {
        let length = element.bits().div_ceil(8) as usize;
        let bytes = value.to_le_bytes()[..length.min(8)].to_vec();
        self.constant(&TensorType::new(element, &[]), &bytes)
    }

    /// An operation of one operand that keeps the type.
    pub fn unary(&mut self, name: &str, x: Value) -> Value {
        let kind = self.tensor(x);
        self.emit_one(name, &[x], kind)
    }

    /// An elementwise operation of two operands, `add` for one: the primitive where shapes agree,
    /// else the form that broadcasts them. `result` is the element type.
    pub fn binary(&mut self, name: &str, x: Value, y: Value, result: ElementType) -> Value {
        let shapes = [self.shape(x), self.shape(y)];
        let shape = broadcast(&shapes[0], &shapes[1]);
        let family = if shapes[0] == shapes[1] { "primitive." } else { "broadcasting_" };
        self.emit_one(&format!("{family}{name}_v1"), &[x, y], TensorType::new(result, &shape))
    }

    /// Elements of `a` where `condition` holds, else of `b`; shapes broadcast.
    pub fn select(&mut self, condition: Value, a: Value, b: Value) -> Value {
        let shapes = [self.shape(condition), self.shape(a), self.shape(b)];
        let shape = broadcast(&broadcast(&shapes[0], &shapes[1]), &shapes[2]);
        let same = shapes.iter().all(|other| *other == shape);
        let name = if same { "primitive.where_v1" } else { "broadcasting_where_v1" };
        let kind = self.tensor(a).shaped(&shape);
        self.emit_one(name, &[condition, a, b], kind)
    }

    /// Another element type.
    pub fn cast(&mut self, x: Value, element: ElementType) -> Value {
        let kind = self.tensor(x);
        if kind.element == element {
            return x;
        }
        self.emit_one("primitive.cast_v1", &[x], kind.of(element))
    }

    /// Another shape of the same elements.
    pub fn reshape(&mut self, x: Value, shape: &[i64]) -> Value {
        let kind = self.tensor(x);
        if kind.shape == shape {
            return x;
        }
        let sizes = self.unsigned(shape);
        self.emit_one("primitive.reshape_v2", &[x, sizes], kind.shaped(shape))
    }

    /// The same tensor as a value of its own.
    pub fn reshape_copy(&mut self, x: Value) -> Value {
        let kind = self.tensor(x);
        let sizes = self.unsigned(&kind.shape.clone());
        self.emit_one("primitive.reshape_v2", &[x, sizes], kind)
    }

    /// Axes in another order.
    pub fn transpose(&mut self, x: Value, permutation: &[usize]) -> Value {
        let kind = self.tensor(x);
        if permutation.is_sorted() {
            return x;
        }
        let shape: Vec<i64> = permutation.iter().map(|axis| kind.shape[*axis]).collect();
        let order: Vec<i64> = permutation.iter().map(|axis| *axis as i64).collect();
        let order = self.unsigned(&order);
        self.emit_one("primitive.transpose_v1", &[x, order], kind.shaped(&shape))
    }

    /// A part of `x`: vectors of `si32` say where it begins, ends and how far its elements are apart.
    pub fn slice(&mut self, x: Value, bounds: [Value; 3], shape: &[i64]) -> Value {
        let kind = self.tensor(x).shaped(shape);
        self.emit_one("primitive.slice_v1", &[x, bounds[0], bounds[1], bounds[2]], kind)
    }

    /// `x` with a part replaced; bounds as for [`Self::slice`].
    pub fn slice_update(&mut self, x: Value, bounds: [Value; 3], update: Value) -> Value {
        let kind = self.tensor(x);
        let operands = [x, bounds[0], bounds[1], bounds[2], update];
        self.emit_one("primitive.slice_update_v1", &operands, kind)
    }

    /// Tensors one after another along an axis.
    pub fn concat(&mut self, values: &[Value], axis: usize) -> Value {
        if let [only] = values {
            return *only;
        }
        let mut kind = self.tensor(values[0]);
        kind.shape[axis] = values.iter().map(|value| self.shape(*value)[axis]).sum();
        let axis = self.scalar(ElementType::Int32, axis as i64);
        let operands: Vec<Value> = std::iter::once(axis).chain(values.iter().copied()).collect();
        self.emit_one("primitive.concat_v1", &operands, kind)
    }

    /// Pieces of these sizes along an axis.
    pub fn split(&mut self, x: Value, sizes: &[i64], axis: usize) -> Vec<Value> {
        let kind = self.tensor(x);
        let results = sizes.iter().map(|size| {
            let mut piece = kind.clone();
            piece.shape[axis] = *size;
            piece.into()
        });
        let results = results.collect();
        let sizes = self.unsigned(sizes);
        let axis = self.scalar(ElementType::Int32, axis as i64);
        self.emit("primitive.split_v1", &[x, sizes, axis], results)
    }

    /// Axes of size 1 repeated up to a shape of the same rank.
    pub fn broadcast(&mut self, x: Value, shape: &[i64]) -> Value {
        let kind = self.tensor(x);
        let axes = (0..shape.len()).filter(|axis| kind.shape[*axis] != shape[*axis]);
        let axes: Vec<i64> = axes.map(|axis| axis as i64).collect();
        if axes.is_empty() {
            return x;
        }
        let sizes: Vec<i64> = axes.iter().map(|axis| shape[*axis as usize]).collect();
        let (sizes, axes) = (self.unsigned(&sizes), self.signed(&axes));
        let kind = kind.shaped(shape);
        self.emit_one("primitive.broadcast_in_dims_v1", &[x, sizes, axes], kind)
    }

    /// Any shape that broadcasts, brought to this one.
    pub fn broadcast_to(&mut self, x: Value, shape: &[i64]) -> Value {
        let own = self.shape(x);
        let mut raised = vec![1; shape.len() - own.len()];
        raised.extend(&own);
        let raised = self.reshape(x, &raised);
        self.broadcast(raised, shape)
    }

    /// Rows of `x`: the last axis of `indices`, `si32`, says where along the first axes.
    pub fn gather_nd(&mut self, x: Value, indices: Value) -> Value {
        let (kind, places) = (self.tensor(x), self.shape(indices));
        let (depth, outer) = places.split_last().map_or((0, &[][..]), |(last, rest)| (*last, rest));
        let mut shape = outer.to_vec();
        shape.extend(&kind.shape[(depth as usize).min(kind.shape.len())..]);
        self.emit_one("primitive.gather_nd_v1", &[x, indices], kind.shaped(&shape))
    }

    /// Elements of `x` along an axis, at `indices`, `si32`, of which there is one for each result.
    pub fn gather_along_axis(&mut self, x: Value, indices: Value, axis: usize) -> Value {
        let kind = self.tensor(x).shaped(&self.shape(indices));
        let axis = self.scalar(ElementType::Int32, axis as i64);
        self.emit_one("primitive.gather_along_axis_v1", &[x, indices, axis], kind)
    }

    /// Matrix product of the last two axes; those before them broadcast.
    pub fn matmul(&mut self, x: Value, y: Value) -> Value {
        let (left, right) = (self.shape(x), self.shape(y));
        let batch = |shape: &[i64]| shape[..shape.len() - 2].to_vec();
        let (outer, other) = (batch(&left), batch(&right));
        let mut shape = broadcast(&outer, &other);
        shape.extend([left[left.len() - 2], right[right.len() - 1]]);
        let kind = self.tensor(x).shaped(&shape);
        if outer == other {
            return self.emit_one("primitive.batch_matmul_v1", &[x, y], kind);
        }
        self.emit_one("broadcasting_batch_matmul_v1", &[x, y], kind)
    }

    /// Convolution of (batch, in, height, width) with (out, in / groups, rows, columns), unpadded.
    pub fn conv2d(&mut self, x: Value, weight: Value, window: Window) -> Value {
        let (kind, kernel) = (self.tensor(x), self.shape(weight));
        let size = |axis: usize| {
            let reach = (kernel[axis + 2] - 1) * window.dilations[axis] + 1;
            (kind.shape[axis + 2] - reach) / window.strides[axis] + 1
        };
        let shape = [kind.shape[0], kernel[0], size(0), size(1)];
        let strides = self.unsigned(&window.strides);
        let dilations = self.unsigned(&window.dilations);
        let groups = self.scalar(ElementType::UInt32, window.groups);
        let operands = [x, weight, strides, dilations, groups];
        self.emit_one("primitive.conv2d_v1", &operands, kind.shaped(&shape))
    }

    /// `x` with `value`, a scalar of its type, around it: so many elements before and after on each
    /// axis.
    pub fn pad(&mut self, x: Value, amounts: &[i64], value: Value) -> Value {
        let kind = self.tensor(x);
        let sizes = kind.shape.iter().zip(amounts.chunks(2));
        let shape: Vec<i64> =
            sizes.map(|(size, around)| size + around.iter().sum::<i64>()).collect();
        let amounts = self.unsigned(amounts);
        let mode = vec![Some(Attribute::Choice(choice::PADDING_MODE, 1))];
        self.one("primitive.pad_v1", mode, &[x, amounts, value], kind.shaped(&shape))
    }

    /// Gaussian error linear unit, exact or approximated by tanh.
    pub fn gelu(&mut self, x: Value, by_tanh: bool) -> Value {
        let kind = self.tensor(x);
        let mode = vec![Some(Attribute::Choice(choice::APPROXIMATE, by_tanh.into()))];
        self.one("primitive.gelu_v1", mode, &[x], kind)
    }

    /// Values of an axis that sum to one.
    pub fn softmax(&mut self, x: Value, axis: usize) -> Value {
        let kind = self.tensor(x);
        let axis = self.scalar(ElementType::Int32, axis as i64);
        self.emit_one("softmax_v1", &[x, axis], kind)
    }

    /// A reduction, `sum` for one, over axes, which stay with size 1.
    pub fn reduce(&mut self, name: &str, x: Value, axes: &[usize]) -> Value {
        let mut kind = self.tensor(x);
        axes.iter().for_each(|axis| kind.shape[*axis] = 1);
        let axes: Vec<i64> = axes.iter().map(|axis| *axis as i64).collect();
        let axes = self.signed(&axes);
        self.emit_one(&format!("reduce_{name}_v1"), &[x, axes], kind)
    }

    /// Where the largest element of an axis is, `ui32`; the axis stays with size 1.
    pub fn argmax(&mut self, x: Value, axis: usize) -> Value {
        let mut kind = self.tensor(x).of(ElementType::UInt32);
        kind.shape[axis] = 1;
        let axis = self.scalar(ElementType::Int32, axis as i64);
        self.emit_one("argmax_v1", &[x, axis], kind)
    }

    /// Places of the elements of an axis in order, `si32`.
    pub fn argsort(&mut self, x: Value, axis: usize, descending: bool) -> Value {
        let kind = self.tensor(x).of(ElementType::Int32);
        let axis = self.scalar(ElementType::Int32, axis as i64);
        let descending = self.scalar(ElementType::Bool, descending.into());
        let stable = self.scalar(ElementType::Bool, 1);
        self.emit_one("primitive.argsort_v1", &[x, axis, descending, stable], kind)
    }

    /// A table's entries for indices: (…, entries, width of vectors) of as many axes as the indices
    /// and two more. Vectors lie along `axis`.
    pub fn lut_to_dense(&mut self, indices: Value, table: Value, axis: Option<usize>) -> Value {
        let (kind, lut) = (self.tensor(indices), self.tensor(table));
        let mut dense = kind.of(lut.element);
        if let (Some(axis), Some(width)) = (axis, lut.shape.last()) {
            dense.shape[axis] *= width;
        }
        let axis = axis.map_or(-1, |axis| axis as i64);
        let axis = self.scalar(ElementType::Int16, axis);
        self.emit_one("primitive.lut_to_dense_v1", &[indices, table, axis], dense)
    }

    /// A constant all of whose elements are zero, of which one is stored, however many there are.
    pub fn zeros(&mut self, kind: &TensorType) -> Value {
        let element = usize::try_from(kind.element.bits().div_ceil(8)).unwrap_or(0);
        self.splat(kind, &vec![0; element])
    }

    /// `scale (data - offset)` by blocks; without an offset it is zero.
    pub fn blockwise(&mut self, data: Value, scale: Value, offset: Option<Value>) -> Value {
        let (kind, scales) = (self.tensor(data), self.tensor(scale));
        let offset = match offset {
            Some(offset) => offset,
            None => self.zeros(&scales.of(kind.element)),
        };
        let second = self.zeros(&scales);
        let operands = [data, scale, offset, second];
        self.emit_one("primitive.blockwise_shift_scale_v2", &operands, kind.of(scales.element))
    }

    /// The same elements without a layout.
    pub fn without_layout(&mut self, x: Value) -> Value {
        let kind = self.tensor(x);
        match kind.layout {
            None => x,
            Some(_) => {
                let plain = TensorType { layout: None, ..kind };
                self.emit_one("ax.copy_discarding_constraints_v1", &[x], plain)
            }
        }
    }

    /// The same elements in a layout.
    pub fn with_layout(&mut self, x: Value, layout: Layout) -> Value {
        let kind = TensorType { layout: Some(layout), ..self.tensor(x) };
        self.emit_one("ax.copy_with_constraints_v1", &[x], kind)
    }

    /// A state's content and the token after it was read.
    pub fn read_state(&mut self, state: Value) -> (Value, Value) {
        let token = self.emit("dataflow.create_token_v1", &[], vec![Type::Token])[0];
        let kinds = vec![self.tensor(state).into(), Type::Token];
        let read = self.emit("dataflow.read_handle_v1", &[state, token], kinds);
        (read[0], read[1])
    }

    /// Writes a state whole, after the token; gives the token after that.
    pub fn write_state(&mut self, state: Value, data: Value, token: Value) -> Value {
        self.emit("dataflow.write_handle_v1", &[state, data, token], vec![Type::Token])[0]
    }
}

/// How a convolution moves.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    /// Steps along rows and columns.
    pub strides: [i64; 2],
    /// How far elements of the kernel are apart.
    pub dilations: [i64; 2],
    /// Groups of channels.
    pub groups: i64,
}

impl Window {
    /// Every place, one group.
    pub const PLAIN: Self = Self { strides: [1, 1], dilations: [1, 1], groups: 1 };
}

/// The shape that two shapes broadcast to.
pub(crate) fn broadcast(left: &[i64], right: &[i64]) -> Vec<i64> {
    let rank = left.len().max(right.len());
    let at = |shape: &[i64], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |place| shape[place])
    };
    (0..rank)
        .map(|axis| match (at(left, axis), at(right, axis)) {
            (1, other) => other,
            (size, _) => size,
        })
        .collect()
}
