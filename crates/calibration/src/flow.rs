//! What becomes of the values of a block: where errors in them are felt.

use anemll_generation::observation::half_type;
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;
use std::collections::{BTreeSet, HashMap};

/// The operations of a block by what they make and read.
pub(crate) struct Flow<'a> {
    block: &'a mil::Block,
    makers: HashMap<&'a str, usize>,
    /// For each value the operations that read it, and as which argument.
    readers: HashMap<&'a str, Vec<(usize, &'a str)>>,
    /// Values of the residual stream that are normalized, each with the operation that begins to.
    residuals: Vec<(usize, &'a str)>,
    /// Weights of attention, each with the operation that sums values up by them.
    attentions: Vec<(usize, &'a str)>,
}

impl<'a> Flow<'a> {
    pub(crate) fn new(block: &'a mil::Block) -> Self {
        let (mut makers, mut readers) = (HashMap::new(), HashMap::<_, Vec<_>>::new());
        for (at, operation) in block.operations.iter().enumerate() {
            makers.extend(operation.outputs.iter().map(|output| (output.name.as_str(), at)));
            for (argument, name) in arguments(operation) {
                readers.entry(name).or_default().push((at, argument));
            }
        }
        let mut flow =
            Self { block, makers, readers, residuals: Vec::new(), attentions: Vec::new() };
        for (at, operation) in block.operations.iter().enumerate() {
            match operation.r#type.as_str() {
                "layer_norm" => {
                    flow.residuals.extend(flow.residual(operation).map(|name| (at, name)))
                }
                "matmul" => {
                    flow.attentions.extend(flow.attention(operation).map(|name| (at, name)))
                }
                _ => {}
            }
        }
        // What leaves the block is the residual stream, too, where it is a sum.
        if let [output] = block.outputs.as_slice()
            && flow.made_by(output, &["add"]).is_some()
        {
            flow.residuals.push((block.operations.len(), output));
        }
        flow
    }

    /// The value that an operation reads as the only one of an argument.
    fn read(&self, operation: &'a mil::Operation, argument: &str) -> Option<&'a str> {
        let mut found = arguments(operation).filter(|(name, _)| *name == argument);
        found.next().map(|(_, value)| value).filter(|_| found.next().is_none())
    }

    /// The operation that makes a value, where it is of these types, and the value one of float16.
    fn made_by(&self, name: &str, kinds: &[&str]) -> Option<&'a mil::Operation> {
        let operation = &self.block.operations[*self.makers.get(name)?];
        let output = operation.outputs.iter().find(|output| output.name == name)?;
        half_type(output)?;
        kinds.contains(&operation.r#type.as_str()).then_some(operation)
    }

    /// The sum that a norm normalizes, by itself or beside its negative.
    fn residual(&self, norm: &'a mil::Operation) -> Option<&'a str> {
        let x = self.read(norm, "x")?;
        let x = match self.made_by(x, &["concat"]) {
            Some(concat) => arguments(concat).find(|(name, _)| *name == "values")?.1,
            None => x,
        };
        self.made_by(x, &["add"]).map(|_| x)
    }

    /// The weights of attention that a product of matrices sums values up by: (1, heads, tokens, positions).
    fn attention(&self, product: &'a mil::Operation) -> Option<&'a str> {
        let weights = self.read(product, "x")?;
        let maker = self.made_by(weights, &["real_div", "softmax"])?;
        let shape = half_type(maker.outputs.first()?)?.fixed_shape()?;
        matches!(shape.as_slice(), [1, _, _, _]).then_some(weights)
    }

    /// The residual stream as it is normalized next after an operation.
    pub(crate) fn residual_after(&self, at: usize) -> Option<&'a str> {
        self.residuals.iter().find(|(norm, _)| *norm > at).map(|(_, name)| *name)
    }

    /// The weights of attention that say how much positions are looked at whose keys or values an
    /// operation makes; none for what makes something else.
    pub(crate) fn attention_to(&self, at: usize) -> Option<&'a str> {
        let (product, weights) = *self.attentions.iter().find(|(product, _)| *product > at)?;
        let next = self.residuals.iter().find(|(norm, _)| *norm > at).map(|(norm, _)| *norm);
        let own = next.is_none_or(|norm| product < norm);
        (own && self.is_looked_at(at)).then_some(weights)
    }

    /// Whether what an operation makes goes into a cache, or is the right side of a product of matrices,
    /// without being multiplied with weights before.
    fn is_looked_at(&self, at: usize) -> bool {
        let mut seen = BTreeSet::from([at]);
        let mut open = vec![at];
        while let Some(at) = open.pop() {
            let outputs = self.block.operations[at].outputs.iter();
            let readers = outputs.filter_map(|output| self.readers.get(output.name.as_str()));
            for (reader, argument) in readers.flatten() {
                match (self.block.operations[*reader].r#type.as_str(), *argument) {
                    ("slice_update", "update") | ("matmul", "y") => return true,
                    // Sums are the residual stream, or parts of what is turned by its position.
                    ("conv" | "linear" | "matmul" | "write_state", _) => {}
                    _ if seen.insert(*reader) => open.push(*reader),
                    _ => {}
                }
            }
        }
        false
    }
}

/// The values that an operation reads, each behind the argument that it is given as.
fn arguments(operation: &mil::Operation) -> impl Iterator<Item = (&str, &str)> {
    operation.inputs.iter().flat_map(|(argument, bound)| {
        bound.arguments.iter().filter_map(|binding| match &binding.binding {
            Some(Binding::Name(name)) => Some((argument.as_str(), name.as_str())),
            _ => None,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_mil::{
        DataType, DescriptionOptions, FunctionBuilder, TensorType, Var, function_model, model,
    };

    /// A layer over a cache of 8 positions: what its matrices make has their names.
    fn layer() -> coreml_proto::Model {
        let half = |shape: &[u64]| TensorType::new(DataType::Float16, shape);
        let mut graph = FunctionBuilder::new();
        let x = graph.input("x", half(&[1, 4, 6])).unwrap();
        let mask = graph.input("mask", half(&[1, 1, 4, 8])).unwrap();
        let cache = graph.state("cache", half(&[2, 1, 8, 6])).unwrap();
        let weight = |graph: &mut FunctionBuilder, rows: u64, columns: u64| {
            let kind = half(&[rows, columns]);
            let value = anemll_mil::literal::blob_value(&kind, "weight.bin", 64);
            graph.constant(None, value).unwrap()
        };
        let project = |graph: &mut FunctionBuilder, x: Var, rows, columns, name: &str| {
            let weight = weight(graph, rows, columns);
            let made = graph.linear(x, weight, None).unwrap();
            graph.name_value(made, name).unwrap();
            made
        };
        let norm = |graph: &mut FunctionBuilder, x: Var| {
            let minus = graph.scalar_f16(-1.0).unwrap();
            let negative = graph.mul(x, minus).unwrap();
            let both = graph.concat(&[x, negative], -1).unwrap();
            let normed = graph.layer_norm(both, &[-1], 1e-5).unwrap();
            let open = [true, true, false];
            graph.slice_by_index(normed, &[0; 3], &[1, 4, 6], &[false; 3], &open).unwrap()
        };
        let normed = norm(&mut graph, x);
        let heads = |graph: &mut FunctionBuilder, x| graph.expand_dims(x, &[1]).unwrap();
        let q = project(&mut graph, normed, 6, 6, "q");
        let q = heads(&mut graph, q);
        for (row, name) in ["k", "v"].into_iter().enumerate() {
            let made = project(&mut graph, normed, 6, 6, name);
            let made = heads(&mut graph, made);
            let before = graph.read_state(cache).unwrap();
            let begin = graph.vector_i32(&[row as i32, 0, 0, 0]).unwrap();
            let end = graph.vector_i32(&[row as i32 + 1, 1, 4, 6]).unwrap();
            let flags = [false; 4];
            let after = graph.slice_update(before, made, begin, end, &flags, &flags).unwrap();
            graph.write_state(cache, after).unwrap();
        }
        let read = graph.read_state(cache).unwrap();
        let mut line = |row: i32| {
            let (begin, end) = ([row, 0, 0, 0], [row + 1, 1, 8, 6]);
            graph.slice_by_index(read, &begin, &end, &[false; 4], &[false; 4]).unwrap()
        };
        let (keys, values) = (line(0), line(1));
        let scores = graph.matmul(q, keys, false, true).unwrap();
        let scores = graph.add(scores, mask).unwrap();
        let weights = graph.softmax(scores, -1).unwrap();
        graph.name_value(weights, "weights").unwrap();
        let mixed = graph.matmul(weights, values, false, false).unwrap();
        let mixed = graph.squeeze(mixed, &[1]).unwrap();
        let made = project(&mut graph, mixed, 6, 6, "o");
        let middle = graph.add(x, made).unwrap();
        graph.name_value(middle, "middle").unwrap();
        let normed = norm(&mut graph, middle);
        let up = project(&mut graph, normed, 9, 6, "up");
        let up = graph.silu(up).unwrap();
        let down = project(&mut graph, up, 6, 9, "down");
        let last = graph.add(middle, down).unwrap();
        graph.name_value(last, "last").unwrap();
        let function = graph.finish(&[last]).unwrap();
        function_model(function, &DescriptionOptions::default()).unwrap()
    }

    #[test]
    fn errors_are_felt_where_values_go() {
        let layer = layer();
        let function = &model::program(&layer).unwrap().functions["main"];
        let block = model::block(function).unwrap();
        let flow = Flow::new(block);
        let at = |name: &str| flow.makers[name];
        let found = ["q", "k", "v", "o", "up", "down"]
            .map(|name| (flow.attention_to(at(name)), flow.residual_after(at(name))));
        let (middle, last, weights) = (Some("middle"), Some("last"), Some("weights"));
        let expected = [
            (None, middle),
            (weights, middle),
            (weights, middle),
            (None, middle),
            (None, last),
            (None, last),
        ];
        assert_eq!(found, expected);
    }
}
