//! One function for any number of tokens and any context, of functions for some of each.
//!
//! Four functions that differ in nothing but sizes are compared, value by value: two numbers of tokens, two contexts.
//! A size that is the same in all stays as it is. Any other is `base + tokens * T + context * C` with whole numbers,
//! which three of the four give and the fourth must confirm, and base not below zero; as part of a type it becomes unknown, as
//! part of a stored vector it is computed. What differs in another way is refused, so that nothing is guessed.

use crate::failure::Lowered;
use anemll_aicode::{
    Attribute, Block, BlockBuilder, DYNAMIC, ElementType, Function, Operation, TensorType, Type,
    Value,
};
use anemll_layout::apple::Sample;
use std::collections::HashMap;

/// The number of functions.
const COUNT: usize = 4;

/// Functions for both numbers of tokens and both contexts: (T, C), (T', C), (T, C'), (T', C').
pub(crate) struct Samples<'a> {
    sizes: [Sample; COUNT],
    functions: [&'a Function; COUNT],
}

/// A size, of tokens and context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Linear {
    base: i64,
    tokens: i64,
    context: i64,
}

impl Linear {
    fn is_fixed(self) -> bool {
        self.tokens == 0 && self.context == 0
    }
}

/// Numbers of tokens and of positions, `si32` (1), in the function that is made.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) tokens: Value,
    pub(crate) context: Value,
}

/// What becomes of operations that read a state: the content and the token, where it was read before.
pub(crate) type Read = HashMap<u64, (Value, Value)>;

impl<'a> Samples<'a> {
    /// The four of all functions of these sizes.
    pub(crate) fn new(all: &[(Sample, &'a Function)]) -> Lowered<Self> {
        let (first, _) = all.first().ok_or("the package has no function such as `main_512_64`")?;
        let differs = |of: fn(&Sample) -> u64| {
            let other = all.iter().map(|(sample, _)| of(sample)).find(|size| *size != of(first));
            other.ok_or("the package needs functions for two contexts and two numbers of tokens")
        };
        let (tokens, context) = (differs(|one| one.tokens)?, differs(|one| one.context)?);
        let sizes = [
            *first,
            Sample { tokens, ..*first },
            Sample { context, ..*first },
            Sample { tokens, context },
        ];
        let find = |wanted: &Sample| {
            let found = all.iter().find(|(sample, _)| sample == wanted);
            found
                .map(|(_, function)| *function)
                .ok_or_else(|| format!("the package has no function `{}`", wanted.name()))
        };
        let [a, b, c, d] = &sizes;
        let functions = [find(a)?, find(b)?, find(c)?, find(d)?];
        Ok(Self { sizes, functions })
    }

    /// The first of them, whose names all have.
    pub(crate) fn first(&self) -> &'a Function {
        self.functions[0]
    }

    /// What a number is in all of them.
    fn linear(&self, values: [i64; COUNT]) -> Lowered<Linear> {
        let [first, other, wider, last] = values;
        let per = |difference: i64, of: fn(&Sample) -> u64, place: usize| {
            let steps = i64::try_from(of(&self.sizes[place])).ok()?
                - i64::try_from(of(&self.sizes[0])).ok()?;
            (difference % steps == 0).then(|| difference / steps)
        };
        let number = |size: u64| i64::try_from(size).unwrap_or(i64::MAX);
        let found = || {
            let tokens = per(other.checked_sub(first)?, |one| one.tokens, 1)?;
            let context = per(wider.checked_sub(first)?, |one| one.context, 2)?;
            let at = |sample: &Sample| {
                let tokens = tokens.checked_mul(number(sample.tokens))?;
                tokens.checked_add(context.checked_mul(number(sample.context))?)
            };
            let base = first.checked_sub(at(&self.sizes[0])?)?;
            (base.checked_add(at(&self.sizes[3])?)? == last).then_some(Linear {
                base,
                tokens,
                context,
            })
        };
        let found = found().ok_or_else(|| {
            format!("sizes {values:?} do not grow with the number of tokens and the context")
        })?;
        // Such as a window that is cut out of the context.
        if !found.is_fixed() && found.base < 0 {
            let least = found.base.unsigned_abs();
            return Err(format!(
                "it is right only for {least} tokens or more, and caches of apps may hold fewer (layers with a \
                 window are like that)"
            )
            .into());
        }
        Ok(found)
    }

    /// A type whose sizes are unknown where they differ.
    pub(crate) fn kind(&self, kinds: [&Type; COUNT]) -> Lowered<Type> {
        let tensor = |kind: &Type| match kind {
            Type::Tensor(tensor) | Type::State(tensor) => Some(tensor.clone()),
            _ => None,
        };
        let [Some(a), Some(b), Some(c), Some(d)] = kinds.map(tensor) else {
            return match kinds.iter().all(|kind| *kind == kinds[0]) {
                true => Ok(kinds[0].clone()),
                false => Err(format!("{} and {} differ", kinds[0], kinds[3]).into()),
            };
        };
        let same =
            |other: &TensorType| other.element == a.element && other.shape.len() == a.shape.len();
        if ![&b, &c, &d].into_iter().all(same) {
            return Err(format!("{a} and {d} differ").into());
        }
        let mut shape = Vec::new();
        for axis in 0..a.shape.len() {
            let size = self.linear([&a, &b, &c, &d].map(|kind| kind.shape[axis]))?;
            shape.push(if size.is_fixed() { size.base } else { DYNAMIC });
        }
        let kind = TensorType { shape, ..a };
        Ok(match kinds[0] {
            Type::State(_) => Type::State(kind),
            _ => Type::Tensor(kind),
        })
    }

    /// Makes all operations but the last in a builder, in which the functions' arguments are `arguments`; gives
    /// what the last one takes.
    pub(crate) fn make(
        &self,
        builder: &mut BlockBuilder,
        arguments: Vec<Value>,
        sizes: Sizes,
        read: &Read,
    ) -> Lowered<Vec<Value>> {
        let flat = self.functions.map(|function| Flat::new(&function.body));
        if flat.iter().any(|one| one.operations.len() != flat[0].operations.len()) {
            return Err(
                "functions for other numbers of tokens or contexts have other operations".into()
            );
        }
        let values = arguments.into_iter().map(Some).collect();
        let mut made = Made { values, sizes, vectors: HashMap::new() };
        let count = flat[0].operations.len().saturating_sub(1);
        for place in 0..count {
            self.operation(builder, (&flat, place), read, &mut made).map_err(|failure| {
                failure.at(&format!("operation {place} ({})", flat[0].operations[place].name))
            })?;
        }
        self.operands(builder, (&flat, count), &mut made)
    }

    fn operation(
        &self,
        builder: &mut BlockBuilder,
        (flat, place): (&[Flat<'_>; COUNT], usize),
        read: &Read,
        made: &mut Made,
    ) -> Lowered<()> {
        let operations = [0, 1, 2, 3].map(|one| flat[one].operations[place]);
        let [first, others @ ..] = operations;
        let alike = |other: &&Operation| {
            other.name == first.name
                && other.operands.len() == first.operands.len()
                && other.results.len() == first.results.len()
                && other.properties == first.properties
        };
        if !others.iter().all(alike) {
            return Err(
                "functions for other numbers of tokens or contexts have another one here".into()
            );
        }
        match (first.name.as_str(), flat[0].source(first, 0)) {
            // The token from which a read begins is made with the read.
            ("dataflow.create_token_v1", _) => made.values.push(None),
            ("dataflow.read_handle_v1", Some(Source::Made(state))) => {
                let known = read.get(&state).ok_or("it reads a state that is not an argument")?;
                made.values.extend([Some(known.0), Some(known.1)]);
            }
            _ => {
                let mut kinds = Vec::new();
                for result in 0..first.results.len() {
                    kinds.push(self.kind(operations.map(|operation| &operation.results[result]))?);
                }
                let operands = self.operands(builder, (flat, place), made)?;
                made.values.extend(builder.again(first, &operands, kinds).into_iter().map(Some));
            }
        }
        Ok(())
    }

    /// What the operations of a place take.
    fn operands(
        &self,
        builder: &mut BlockBuilder,
        (flat, place): (&[Flat<'_>; COUNT], usize),
        made: &mut Made,
    ) -> Lowered<Vec<Value>> {
        let operations = [0, 1, 2, 3].map(|one| flat[one].operations[place]);
        let mut operands = Vec::new();
        for operand in 0..operations[0].operands.len() {
            let sources = [0, 1, 2, 3].map(|one| flat[one].source(operations[one], operand));
            operands.push(match sources {
                [
                    Some(Source::Constant(a)),
                    Some(Source::Constant(b)),
                    Some(Source::Constant(c)),
                    Some(Source::Constant(d)),
                ] => self.constant(builder, [a, b, c, d], made)?,
                [Some(Source::Made(number)), ..]
                    if sources.iter().all(|one| *one == sources[0]) =>
                {
                    made.value(number)?
                }
                _ => {
                    return Err(
                        "functions for other numbers of tokens or contexts take other values here"
                            .into(),
                    );
                }
            });
        }
        Ok(operands)
    }

    /// A stored value; where it differs, whole numbers are computed, and one number for all elements is spread.
    fn constant(
        &self,
        builder: &mut BlockBuilder,
        operations: [&Operation; COUNT],
        made: &mut Made,
    ) -> Lowered {
        let refused = || "a stored value depends on the number of tokens or on the context in a way of its own";
        let kinds = operations.map(|operation| operation.results[0].tensor());
        let [Some(a), Some(b), Some(c), Some(d)] = kinds else { return Err(refused().into()) };
        let kinds = [a, b, c, d];
        let values =
            operations.map(|operation| operation.properties.first().and_then(Option::as_ref));
        let same =
            kinds.iter().all(|kind| *kind == a) && values.iter().all(|value| *value == values[0]);
        if let (true, Some(value)) = (same, values[0]) {
            return builder.stored(a, value).ok_or_else(|| refused().into());
        }
        let stored = operations.map(|operation| match operation.properties.first() {
            Some(Some(Attribute::Dense { splat, bytes })) => Some((*splat, bytes.as_slice())),
            _ => None,
        });
        let [Some(a), Some(b), Some(c), Some(d)] = stored else { return Err(refused().into()) };
        let stored = [a, b, c, d];
        let is_index = matches!(kinds[0].element, ElementType::Int32 | ElementType::UInt32);
        if is_index && kinds[0].shape.len() < 2 && kinds.iter().all(|kind| *kind == kinds[0]) {
            let [a, b, c, d] = [0, 1, 2, 3].map(|place| integers(stored[place], kinds[place]));
            let mut numbers = Vec::new();
            for place in 0..a.len() {
                let values = [&a, &b, &c, &d].map(|list| list.get(place).copied().unwrap_or(0));
                numbers.push(self.linear(values)?);
            }
            return Ok(made.vector(builder, &numbers, kinds[0]));
        }
        if stored.iter().any(|one| !one.0 || one.1 != stored[0].1) {
            return Err(refused().into());
        }
        let mut shape = Vec::new();
        for axis in 0..kinds[0].shape.len() {
            shape.push(self.linear(kinds.map(|kind| kind.shape.get(axis).copied().unwrap_or(0)))?);
        }
        let Type::Tensor(kind) = self.kind(operations.map(|operation| &operation.results[0]))?
        else {
            return Err(refused().into());
        };
        let one = builder.constant(&kind.shaped(&vec![1; shape.len()]), stored[0].1);
        let sizes = TensorType::new(ElementType::UInt32, &[shape.len() as i64]);
        let sizes = made.vector(builder, &shape, &sizes);
        Ok(builder.emit_one("primitive.broadcast_to_v1", &[one, sizes], kind))
    }
}

/// A function without its constants, which builders make once each: two that are equal for some sizes differ for others.
struct Flat<'a> {
    operations: Vec<&'a Operation>,
    /// What each value of the function is.
    sources: Vec<Source<'a>>,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Source<'a> {
    /// An argument, or what an operation gives: numbered without the constants.
    Made(u64),
    Constant(&'a Operation),
}

impl<'a> Flat<'a> {
    fn new(block: &'a Block) -> Self {
        let mut sources: Vec<Source<'a>> = Vec::new();
        let (mut operations, mut next) = (Vec::new(), 0);
        let mut number = || {
            next += 1;
            Source::Made(next - 1)
        };
        sources.extend(block.arguments.iter().map(|_| number()));
        for operation in &block.operations {
            if operation.name == "primitive.constant_v1" {
                sources.push(Source::Constant(operation));
                continue;
            }
            sources.extend(operation.results.iter().map(|_| number()));
            operations.push(operation);
        }
        Self { operations, sources }
    }

    /// What an operation takes in a place.
    fn source(&self, operation: &Operation, operand: usize) -> Option<Source<'a>> {
        let value = usize::try_from(*operation.operands.get(operand)?).ok()?;
        self.sources.get(value).copied()
    }
}

/// What has been made.
struct Made {
    /// By the numbers of the functions' values without their constants; nothing where a value is made with another.
    values: Vec<Option<Value>>,
    sizes: Sizes,
    vectors: HashMap<(Vec<Linear>, TensorType), Value>,
}

impl Made {
    fn value(&self, number: u64) -> Lowered {
        let found = usize::try_from(number)
            .ok()
            .and_then(|place| self.values.get(place).copied().flatten());
        found.ok_or_else(|| format!("value {number} is not there").into())
    }

    /// A vector of whole numbers, or one of them, computed: `base + tokens * T + context * C`.
    fn vector(
        &mut self,
        builder: &mut BlockBuilder,
        numbers: &[Linear],
        kind: &TensorType,
    ) -> Value {
        let key = (numbers.to_vec(), kind.clone());
        if let Some(known) = self.vectors.get(&key) {
            return *known;
        }
        let column = |of: fn(&Linear) -> i64| numbers.iter().map(of).collect::<Vec<_>>();
        let mut sum = builder.signed(&column(|one| one.base));
        let tokens = (column(|one| one.tokens), self.sizes.tokens);
        let context = (column(|one| one.context), self.sizes.context);
        for (factors, size) in [tokens, context] {
            if factors.iter().any(|factor| *factor != 0) {
                let factors = builder.signed(&factors);
                let part = builder.binary("mul", factors, size, ElementType::Int32);
                sum = builder.binary("add", sum, part, ElementType::Int32);
            }
        }
        let sum = builder.reshape(sum, &kind.shape);
        let value = builder.cast(sum, kind.element);
        self.vectors.insert(key, value);
        value
    }
}

/// Stored whole numbers of 32 bits.
fn integers((splat, bytes): (bool, &[u8]), kind: &TensorType) -> Vec<i64> {
    let number = |bytes: &[u8]| {
        let bits: [u8; 4] = bytes.try_into().unwrap_or_default();
        match kind.element {
            ElementType::UInt32 => u32::from_le_bytes(bits).into(),
            _ => i32::from_le_bytes(bits).into(),
        }
    };
    let found: Vec<i64> = bytes.chunks(4).map(number).collect();
    let count = kind.element_count().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    match (splat, found.as_slice()) {
        (true, [one]) => vec![*one; count],
        _ => found,
    }
}
