//! Chains of operations that run as one step, with the results of the single ones: for a few tokens to the
//! bit. Attention of many sums as that of one does, and not as a product of matrices.
//!
//! An operation of one token takes a microsecond or less, and as long again to be called, with a result
//! of its own. So what a decoder repeats in every layer is found in the program when a function is
//! planned, and becomes one operation. Values inside of a chain have no names any more: who wants to see
//! one has the function planned without chains.
//!
//! To add a chain: one file, and one line in [`ALL`].

mod attention;
mod gate;
mod norm;
mod rotary;

use crate::kernels::Definition;
use anemll_mil::{DataType, Literal, Symbols, ValueType};
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;
use std::collections::HashMap;

/// What finds a chain: the type of its last operation, and whether one ends at an operation.
struct Pattern {
    last: &'static str,
    find: fn(&Graph<'_>, usize) -> Option<Chain>,
    kernel: Definition,
}

/// The chains that are known. Of several that end at one operation the first is taken.
const ALL: &[&Pattern] = &[&attention::PATTERN, &norm::PATTERN, &rotary::PATTERN, &gate::PATTERN];

/// The kernel of a chain's operation, as [`join`] names it.
pub(crate) fn kernel(name: &str) -> Option<&'static Definition> {
    ALL.iter().map(|pattern| &pattern.kernel).find(|kernel| kernel.name == name)
}

/// Operations that become one: the one that stands for them, in the place of the last, and those before.
struct Chain {
    operation: mil::Operation,
    absorbed: Vec<usize>,
}

/// The operations of a function with its chains joined, in order.
pub(crate) fn join(function: &mil::Function, block: &mil::Block) -> Vec<mil::Operation> {
    let graph = Graph::new(function, block);
    let mut joined: Vec<Option<mil::Operation>> =
        block.operations.iter().map(|operation| Some(operation.clone())).collect();
    let mut taken = vec![false; joined.len()];
    for at in 0..joined.len() {
        let kind = block.operations[at].r#type.as_str();
        let patterns = ALL.iter().filter(|pattern| pattern.last == kind);
        let Some(chain) = patterns.filter_map(|pattern| (pattern.find)(&graph, at)).next() else {
            continue;
        };
        if taken[at] || chain.absorbed.iter().any(|index| taken[*index]) {
            continue;
        }
        for index in chain.absorbed {
            (taken[index], joined[index]) = (true, None);
        }
        (taken[at], joined[at]) = (true, Some(chain.operation));
    }
    joined.into_iter().flatten().collect()
}

/// The operations of a function, by what they make, and how often that is read.
struct Graph<'a> {
    operations: &'a [mil::Operation],
    makers: HashMap<&'a str, usize>,
    reads: HashMap<&'a str, usize>,
    /// Sizes of the float16 values whose sizes are all known.
    shapes: HashMap<&'a str, Vec<usize>>,
}

/// The name and the sizes of a float16 value, where all are known.
fn shaped(value: &mil::NamedValueType) -> Option<(&str, Vec<usize>)> {
    let kind = ValueType::from_proto(value.r#type.as_ref()?, &Symbols::default()).ok()?;
    let ValueType::Tensor(kind) = kind else { return None };
    let sizes = kind.fixed_shape().filter(|_| kind.data_type == DataType::Float16)?;
    let sizes = sizes.into_iter().map(|size| usize::try_from(size).ok());
    Some((value.name.as_str(), sizes.collect::<Option<_>>()?))
}

impl<'a> Graph<'a> {
    fn new(function: &'a mil::Function, block: &'a mil::Block) -> Self {
        let (mut makers, mut reads) = (HashMap::new(), HashMap::new());
        let made = block.operations.iter().flat_map(|operation| &operation.outputs);
        let shapes = function.inputs.iter().chain(made).filter_map(shaped).collect();
        for (index, operation) in block.operations.iter().enumerate() {
            for bindings in operation.inputs.values() {
                for binding in &bindings.arguments {
                    if let Some(Binding::Name(name)) = &binding.binding {
                        *reads.entry(name.as_str()).or_insert(0) += 1;
                    }
                }
            }
            for output in &operation.outputs {
                makers.insert(output.name.as_str(), index);
            }
        }
        for output in &block.outputs {
            *reads.entry(output.as_str()).or_insert(0) += 1;
        }
        Self { operations: &block.operations, makers, reads, shapes }
    }

    /// The name of the value that an argument is bound to, where it is one.
    fn name(&self, at: usize, argument: &str) -> Option<&'a str> {
        match self.operations[at].inputs.get(argument)?.arguments.as_slice() {
            [mil::argument::Binding { binding: Some(Binding::Name(name)) }] => Some(name),
            _ => None,
        }
    }

    /// The names of the values in a list.
    fn names(&self, at: usize, argument: &str) -> Option<Vec<&'a str>> {
        let bindings = &self.operations[at].inputs.get(argument)?.arguments;
        let names = bindings.iter().map(|binding| match &binding.binding {
            Some(Binding::Name(name)) => Some(name.as_str()),
            _ => None,
        });
        names.collect()
    }

    /// The operation of a type that makes a value, where only so many reads are of it.
    fn maker(&self, name: &str, kind: &str, reads: usize) -> Option<usize> {
        let at = *self.makers.get(name)?;
        let operation = &self.operations[at];
        let suits = operation.r#type == kind
            && operation.outputs.len() == 1
            && self.reads.get(name) == Some(&reads);
        suits.then_some(at)
    }

    /// As [`Graph::maker`] of the value of an argument.
    fn before(&self, at: usize, argument: &str, kind: &str, reads: usize) -> Option<usize> {
        self.maker(self.name(at, argument)?, kind, reads)
    }

    /// The constant of an argument.
    fn literal(&self, at: usize, argument: &str) -> Option<Literal> {
        let value = match self.operations[at].inputs.get(argument)?.arguments.as_slice() {
            [mil::argument::Binding { binding: Some(Binding::Value(value)) }] => value,
            [mil::argument::Binding { binding: Some(Binding::Name(name)) }] => {
                let maker = &self.operations[*self.makers.get(name.as_str())?];
                maker.attributes.get("val").filter(|_| maker.r#type == "const")?
            }
            _ => return None,
        };
        Literal::from_value(value).ok()
    }

    fn integers(&self, at: usize, argument: &str) -> Option<Vec<i64>> {
        Some(self.literal(at, argument)?.integers()?.to_vec())
    }

    fn number(&self, at: usize, argument: &str) -> Option<f64> {
        match self.literal(at, argument)?.floats()? {
            [number] => Some(*number),
            _ => None,
        }
    }

    /// A truth value; one that is not given is false.
    fn flag(&self, at: usize, argument: &str) -> Option<bool> {
        if !self.operations[at].inputs.contains_key(argument) {
            return Some(false);
        }
        match self.literal(at, argument)?.bools()? {
            [flag] => Some(*flag),
            _ => None,
        }
    }

    /// Whether an argument is the last axis alone, of values of this rank.
    fn is_last_axis(&self, at: usize, argument: &str, rank: usize) -> bool {
        self.integers(at, argument).is_some_and(|axes| axes == [-1] || axes == [rank as i64 - 1])
    }

    /// The sizes of a float16 value, where all are known.
    fn shape_of(&self, name: &str) -> Option<&[usize]> {
        self.shapes.get(name).map(Vec::as_slice)
    }

    /// As [`Graph::shape_of`] the first result of an operation.
    fn shape(&self, at: usize) -> Option<&[usize]> {
        self.shape_of(&self.operations[at].outputs.first()?.name)
    }

    /// As [`Graph::shape_of`] the value of an argument.
    fn argument_shape(&self, at: usize, argument: &str) -> Option<&[usize]> {
        self.shape_of(self.name(at, argument)?)
    }

    /// Whether a slice takes, of a value of this shape, all but the last axis, and of that so many
    /// elements from `start` on.
    fn is_part(&self, at: usize, shape: &[usize], start: usize, count: usize) -> bool {
        let mut part = shape.to_vec();
        let Some(last) = part.last_mut() else { return false };
        *last = count;
        let mut begin = vec![0; shape.len()];
        begin[shape.len() - 1] = start as i64;
        let plain = |argument: &str| match self.operations[at].inputs.contains_key(argument) {
            true => self.literal(at, argument).is_some_and(|literal| {
                let ones = literal.integers().is_some_and(|steps| steps.iter().all(|s| *s == 1));
                ones || literal.bools().is_some_and(|flags| !flags.contains(&true))
            }),
            false => true,
        };
        self.integers(at, "begin") == Some(begin)
            && self.shape(at) == Some(&*part)
            && ["stride", "begin_mask", "squeeze_mask"].into_iter().all(plain)
    }

    /// The operation that stands for a chain: arguments that operations of the chain have, each with
    /// the name that the kernel knows it by.
    fn chain(
        &self,
        kernel: &str,
        last: usize,
        arguments: &[(&str, usize, &str)],
        absorbed: &[usize],
    ) -> Option<Chain> {
        let mut operation = self.operations[last].clone();
        kernel.clone_into(&mut operation.r#type);
        operation.inputs.clear();
        for (name, at, argument) in arguments {
            let bound = self.operations[*at].inputs.get(*argument)?.clone();
            operation.inputs.insert((*name).to_owned(), bound);
        }
        Some(Chain { operation, absorbed: absorbed.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuRuntime;
    use crate::testing::Random;
    use anemll_mil::model::{block, program};
    use anemll_mil::{
        DataType, DescriptionOptions, FunctionBuilder, TensorType, Var, function_model,
    };
    use anemll_plugin_api::{DType, Host, MemorySink, Runtime, Tensor};
    use half::f16;

    const HEADS: u64 = 4;
    const SIZE: u64 = 8;
    const WIDTH: u64 = 24;

    /// Tokens up to which single operations multiply matrices vector by vector, as chains do.
    const BY_THEMSELVES: usize = 8;

    type Shapes = Vec<(&'static str, Vec<u64>)>;

    /// Every chain once, for so many tokens over a cache of so many positions that pairs of heads
    /// share. One value inside of each chain has a name.
    fn model(tokens: u64, positions: u64) -> (coreml_proto::Model, Shapes) {
        let shapes = vec![
            ("x", vec![1, tokens, WIDTH]),
            ("q", vec![1, tokens, HEADS, SIZE]),
            ("cos", vec![1, 1, tokens, SIZE / 2]),
            ("sin", vec![1, 1, tokens, SIZE / 2]),
            ("keys", vec![1, HEADS / 2, positions, SIZE]),
            ("values", vec![1, HEADS / 2, positions, SIZE]),
            ("mask", vec![1, 1, tokens, positions]),
            ("up", vec![1, tokens, WIDTH]),
        ];
        let mut graph = FunctionBuilder::new();
        let mut inputs = HashMap::new();
        for (name, shape) in &shapes {
            let kind = TensorType::new(DataType::Float16, shape);
            inputs.insert(*name, graph.input(name, kind).unwrap());
        }
        let x = inputs["x"];
        let minus = graph.scalar_f16(-1.0).unwrap();
        let negative = graph.mul(x, minus).unwrap();
        let both = graph.concat(&[x, negative], -1).unwrap();
        let normed = graph.layer_norm(both, &[-1], 1e-5).unwrap();
        graph.name_value(normed, "inner_norm").unwrap();
        let (width, count) = (WIDTH as i32, tokens as i32);
        let open = [true, true, false];
        let half =
            graph.slice_by_index(normed, &[0; 3], &[1, count, width], &[false; 3], &open).unwrap();
        let gain: Vec<f16> = (0..WIDTH).map(|at| f16::from_f32(0.5 + at as f32 / 7.0)).collect();
        let gain = anemll_mil::Literal::float16s(&[WIDTH], &gain).to_value().unwrap();
        let gain = graph.constant(Some("gain"), gain).unwrap();
        let normed = graph.mul(half, gain).unwrap();
        let gate = graph.silu(normed).unwrap();
        graph.name_value(gate, "inner_gate").unwrap();
        let gated = graph.mul(gate, inputs["up"]).unwrap();

        let q = graph.transpose(inputs["q"], &[0, 2, 1, 3]).unwrap();
        let (heads, size) = (HEADS as i32, SIZE as i32);
        let open = [true, true, true, false];
        let low = graph
            .slice_by_index(q, &[0; 4], &[1, heads, count, size / 2], &[false; 4], &open)
            .unwrap();
        let end = [1, heads, count, size];
        let high =
            graph.slice_by_index(q, &[0, 0, 0, size / 2], &end, &[false; 4], &[true; 4]).unwrap();
        let (cos, sin) = (inputs["cos"], inputs["sin"]);
        let [a, b] = [graph.mul(low, cos).unwrap(), graph.mul(high, sin).unwrap()];
        let [c, d] = [graph.mul(high, cos).unwrap(), graph.mul(low, sin).unwrap()];
        graph.name_value(d, "inner_rotary").unwrap();
        let (first, second) = (graph.sub(a, b).unwrap(), graph.add(c, d).unwrap());
        let q = graph.concat(&[first, second], -1).unwrap();
        graph.name_value(q, "turned").unwrap();

        let mut shared = |cache: Var| {
            let apart = graph.squeeze(cache, &[0]).unwrap();
            let apart = graph.expand_dims(apart, &[1]).unwrap();
            let copies = graph.tile(apart, &[1, 2, 1, 1]).unwrap();
            graph.reshape(copies, &[1, HEADS as i64, positions as i64, SIZE as i64]).unwrap()
        };
        let (keys, values) = (shared(inputs["keys"]), shared(inputs["values"]));
        let scores = graph.matmul(q, keys, false, true).unwrap();
        let scale = graph.scalar_f16(0.354).unwrap();
        let scores = graph.mul(scores, scale).unwrap();
        let scores = graph.add(scores, inputs["mask"]).unwrap();
        let largest = graph.reduce_max(scores, &[-1], true).unwrap();
        let scores = graph.sub(scores, largest).unwrap();
        let scores = graph.exp(scores).unwrap();
        let total = graph.reduce_sum(scores, &[-1], true).unwrap();
        let weights = graph.real_div(scores, total).unwrap();
        graph.name_value(weights, "inner_attention").unwrap();
        let mixed = graph.matmul(weights, values, false, false).unwrap();
        graph.name_value(mixed, "mixed").unwrap();
        graph.name_value(gated, "gated").unwrap();
        let function = graph.finish(&[mixed, gated]).unwrap();
        (function_model(function, &DescriptionOptions::default()).unwrap(), shapes)
    }

    fn kinds(model: &coreml_proto::Model) -> Vec<String> {
        let function = &program(model).unwrap().functions["main"];
        let joined = join(function, block(function).unwrap());
        let mut kinds: Vec<String> = joined
            .into_iter()
            .map(|operation| operation.r#type)
            .filter(|kind| kind.starts_with("chain"))
            .collect();
        kinds.sort();
        kinds
    }

    /// Inputs of these shapes. Of each row of the mask the first few positions are left, but for some
    /// in between.
    fn inputs(shapes: &Shapes, left: usize, random: &mut Random) -> Vec<Tensor> {
        let made = shapes.iter().map(|(name, shape)| {
            let count: u64 = shape.iter().product();
            let columns = shape[shape.len() - 1] as usize;
            let values: Vec<f16> = (0..count as usize)
                .map(|at| match *name {
                    "mask" if at % columns >= left + at / columns || at % 5 == 3 => {
                        f16::NEG_INFINITY
                    }
                    "mask" => f16::ZERO,
                    _ => f16::from_f32(3.0 * random.unit()),
                })
                .collect();
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
            Tensor::new(*name, DType::FLOAT16, shape.clone(), bytes).unwrap()
        });
        made.collect()
    }

    #[test]
    fn chains_are_found_and_give_the_bits_of_single_operations() {
        let mut random = Random::new(31);
        for (tokens, positions) in [(1, 37), (3, 64), (1, 16), (9, 20)] {
            let (model, shapes) = model(tokens, positions);
            let all = ["chain: attention", "chain: gate", "chain: norm", "chain: rotary"];
            assert_eq!(kinds(&model), all);
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("model.mlmodel");
            std::fs::write(&path, coreml_proto::write(&model)).unwrap();
            for left in [0, 1, 2, 15, 16, 17, positions as usize] {
                let given = inputs(&shapes, left, &mut random);
                let views: Vec<_> = given.iter().map(|input| input.view().unwrap()).collect();
                let mut session = CpuRuntime::default().open(&path, &Host::quiet()).unwrap();
                let mut results = |taps: &[&str]| {
                    let mut sink = MemorySink::new();
                    session.run("main", &views, taps, &mut sink).unwrap();
                    let tensors = sink.into_tensors().unwrap();
                    ["mixed", "gated"].map(|name| {
                        tensors.iter().find(|tensor| tensor.name == name).unwrap().bytes.clone()
                    })
                };
                let joined = results(&[]);
                assert_eq!(joined, results(&["turned"]), "a value that has its name still");
                // What is inside of a chain is seen only without chains.
                let inner = ["inner_norm", "inner_gate", "inner_rotary", "inner_attention"];
                let single = results(&inner);
                if tokens as usize <= BY_THEMSELVES {
                    assert_eq!(joined, single, "{tokens} tokens, {left} of {positions} left");
                }
                for (joined, single) in joined.iter().zip(&single) {
                    let halves = joined.as_chunks().0.iter().zip(single.as_chunks().0);
                    for (one, other) in
                        halves.map(|(a, b)| (f16::from_le_bytes(*a), f16::from_le_bytes(*b)))
                    {
                        let (one, other) = (one.to_f32(), other.to_f32());
                        let near = (one - other).abs() <= 0.004 || one.is_nan() && other.is_nan();
                        assert!(near, "{tokens} tokens, {left} of {positions} left: {one} {other}");
                    }
                }
                assert_eq!(joined, results(&[]));
            }
        }
    }

    #[test]
    fn what_is_read_elsewhere_is_no_chain() {
        let (mut model, _) = model(1, 16);
        let kind = |model: &mut coreml_proto::Model| {
            let Some(coreml_proto::model::Type::MlProgram(program)) = &mut model.r#type else {
                unreachable!("a program")
            };
            let function = program.functions.get_mut("main").unwrap();
            let block = function.block_specializations.values_mut().next().unwrap();
            for name in ["inner_norm", "inner_gate", "inner_rotary", "inner_attention"] {
                block.outputs.push(name.to_owned());
            }
        };
        assert_eq!(kinds(&model).len(), 4);
        kind(&mut model);
        assert_eq!(kinds(&model), [""; 0]);
    }
}
