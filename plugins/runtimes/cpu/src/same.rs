//! What a program computes several times over: layers slice the same angles and put together the same
//! places in their caches. Each such value is made once for all.

use anemll_mil::ops;
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;
use coreml_proto::prost::Message as _;
use std::collections::{HashMap, HashSet};

/// Operations that do not depend on their arguments alone, or whose result may take the place of one.
const APART: &[&str] = &["read_state", "write_state", "slice_update"];

/// Constants of more bytes are not compared: weights differ.
const LARGEST: usize = 1024;

/// Leaves out operations that do what an earlier one does, and lets others read that one's results; what
/// is in `outputs` keeps its name. With the operations comes, for each value that is no longer made, the
/// name of the one that it equals.
pub(crate) fn merge(
    operations: Vec<mil::Operation>,
    outputs: &[String],
) -> (Vec<mil::Operation>, HashMap<String, String>) {
    let outputs: HashSet<&str> = outputs.iter().map(String::as_str).collect();
    let (mut known, mut names) = (HashMap::new(), HashMap::<String, String>::new());
    let mut kept = Vec::with_capacity(operations.len());
    for mut operation in operations {
        for argument in operation.inputs.values_mut() {
            for binding in &mut argument.arguments {
                if let Some(Binding::Name(name)) = &mut binding.binding
                    && let Some(first) = names.get(name)
                {
                    String::clone_from(name, first);
                }
            }
        }
        let is_output = operation.outputs.iter().any(|value| outputs.contains(&*value.name));
        if let Some(key) = key(&operation) {
            let made = || operation.outputs.iter().map(|value| value.name.clone());
            match known.get(&key) {
                Some(first) if !is_output => {
                    names.extend(made().zip(Vec::clone(first)));
                    continue;
                }
                Some(_) => {}
                None => drop(known.insert(key, made().collect::<Vec<_>>())),
            }
        }
        kept.push(operation);
    }
    (kept, names)
}

/// What an operation does, without the names of what it makes; none where that is not the same each time
/// or is not compared.
fn key(operation: &mil::Operation) -> Option<Vec<u8>> {
    let kind = operation.r#type.as_str();
    let compared = operation.blocks.is_empty()
        && !APART.contains(&kind)
        && !ops::is_constexpr(kind)
        && operation.encoded_len() <= LARGEST;
    compared.then(|| {
        let mut nameless = operation.clone();
        nameless.attributes.remove("name");
        nameless.outputs.iter_mut().for_each(|value| value.name.clear());
        nameless.encode_to_vec()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CpuRuntime;
    use anemll_mil::model::{block, program};
    use anemll_mil::{
        DataType, DescriptionOptions, FunctionBuilder, Literal, TensorType, Var, function_model,
    };
    use anemll_plugin_api::{DType, Host, MemorySink, Runtime as _, Tensor};

    fn kinds(operations: &[mil::Operation]) -> Vec<&str> {
        let others = operations.iter().map(|operation| operation.r#type.as_str());
        others.filter(|kind| *kind != "const").collect()
    }

    #[test]
    fn equal_operations_on_equal_values_become_one() {
        let mut graph = FunctionBuilder::new();
        let kind = TensorType::new(DataType::Float16, &[1, 4]);
        let x = graph.input("x", kind).unwrap();
        let layer = |graph: &mut FunctionBuilder, x: Var, factor: &str| {
            let two = Literal::float16s(&[1], &[half::f16::from_f32(2.0)]).to_value().unwrap();
            let two = graph.constant(Some(factor), two).unwrap();
            let twice = graph.mul(x, two).unwrap();
            graph.exp(twice).unwrap()
        };
        let (a, b) = (layer(&mut graph, x, "a"), layer(&mut graph, x, "b"));
        let sum = graph.add(a, b).unwrap();
        let c = layer(&mut graph, sum, "c");
        let outputs = [graph.add(sum, c).unwrap(), graph.add(sum, c).unwrap()];
        let function = graph.finish(&outputs).unwrap();
        let model = function_model(function, &DescriptionOptions::default()).unwrap();
        let block = block(&program(&model).unwrap().functions["main"]).unwrap();
        let (merged, _) = merge(block.operations.clone(), &block.outputs);
        // Both outputs stay, and what they are added up of is made once.
        assert_eq!(kinds(&merged), ["mul", "exp", "add", "mul", "exp", "add", "add"]);
        // The same again, with names of its own for everything, constants included.
        let mut again = block.operations.clone();
        let rename = |name: &mut String| {
            if name != "x" {
                name.push_str("_again");
            }
        };
        for operation in &mut again {
            operation.outputs.iter_mut().for_each(|value| rename(&mut value.name));
            for argument in operation.inputs.values_mut() {
                for binding in &mut argument.arguments {
                    if let Some(Binding::Name(name)) = &mut binding.binding {
                        rename(name);
                    }
                }
            }
        }
        let twice = [block.operations.clone(), again].concat();
        let (both, names) = merge(twice, &block.outputs);
        assert_eq!(both.len(), merged.len());
        assert!(names.iter().all(|(name, first)| name.ends_with("_again") || name != first));
        assert!(names.len() >= merged.len());
        let sum = merged.iter().find(|operation| operation.r#type == "add").unwrap();
        assert_eq!(sum.inputs["x"], sum.inputs["y"]);
    }

    #[test]
    fn what_is_computed_once_is_shown_under_each_name() {
        let mut graph = FunctionBuilder::new();
        let x = graph.input("x", TensorType::new(DataType::Float16, &[1, 2])).unwrap();
        let (first, second) = (graph.exp(x).unwrap(), graph.exp(x).unwrap());
        graph.name_value(first, "first").unwrap();
        graph.name_value(second, "second").unwrap();
        let sum = graph.add(first, second).unwrap();
        graph.name_value(sum, "sum").unwrap();
        let function = graph.finish(&[sum]).unwrap();
        let model = function_model(function, &DescriptionOptions::default()).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.mlmodel");
        std::fs::write(&path, coreml_proto::write(&model)).unwrap();
        let mut session = CpuRuntime::default().open(&path, &Host::quiet()).unwrap();
        let bytes: Vec<u8> = [0.0, 1.0].into_iter().flat_map(halves).collect();
        let x = Tensor::new("x", DType::FLOAT16, vec![1, 2], bytes).unwrap();
        let mut sink = MemorySink::new();
        session.run("main", &[x.view().unwrap()], &["first", "second"], &mut sink).unwrap();
        let made = sink.into_tensors().unwrap();
        let bytes = |name: &str| &made.iter().find(|tensor| tensor.name == name).unwrap().bytes;
        let expected: Vec<u8> = [1.0, 1_f32.exp()].into_iter().flat_map(halves).collect();
        assert_eq!((bytes("first"), bytes("second")), (&expected, &expected));
        let sum = half::f16::from_f32(1_f32.exp()).to_f32() * 2.0;
        assert_eq!(bytes("sum")[2..], halves(sum));
    }

    fn halves(value: f32) -> [u8; 2] {
        half::f16::from_f32(value).to_le_bytes()
    }
}
