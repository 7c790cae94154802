//! Functions of a package: which shapes each has, what it takes and gives.

use crate::blobs::Blobs;
use crate::failure::Failure;
use crate::lower::{Lowering, Shapes};
use anemll_aicode::{Function, Port, Type};
use anemll_mil::{FunctionInterface, interface, model};
use anemll_plugin_api::{Error, Result, codes};
use coreml_proto::{Model, mil};

/// An error about a program, as users see it.
pub(crate) fn refusal(error: &anemll_mil::Error) -> Error {
    Error::new(codes::COMPILE_FAILED, error.to_string())
        .with_hint("`anemll inspect` lists the operations; Core ML may run what Core AI lacks")
}

/// Every function of a model, in the order of its description.
pub(crate) fn all<'a>(model: &'a Model, blobs: &mut Blobs<'a>) -> Result<Vec<Function>> {
    let program = model::program(model).map_err(|error| refusal(&error))?;
    let interfaces = interface(model).map_err(|error| refusal(&error))?;
    let mut functions = Vec::new();
    for described in &interfaces {
        let function = program.functions.get(&described.name).ok_or_else(|| {
            let text = format!("the program has no function `{}`", described.name);
            refusal(&anemll_mil::Error::new(text))
        })?;
        for (name, shapes) in variants(described)? {
            functions.push(one(function, described, &name, &shapes, blobs)?);
        }
    }
    Ok(functions)
}

/// The names and shapes that a function gets: its own name for the default shapes, and one that
/// says the shape for every other shape of the one input that has several.
fn variants(described: &FunctionInterface) -> Result<Vec<(String, Shapes)>> {
    let refused =
        |text: String| Err(refusal(&anemll_mil::Error::new(text).in_function(&described.name)));
    let first = |port: &anemll_mil::combine::Port| {
        port.shapes.first().map(|shape| (port.name.clone(), shape.clone()))
    };
    let default: Shapes = described.inputs.iter().filter_map(first).collect();
    let mut variants = vec![(described.name.clone(), default.clone())];
    let is_flexible = |port: &&anemll_mil::combine::Port| {
        port.shapes.len() > 1 || port.shape.iter().any(|size| size.fixed().is_none())
    };
    let flexible: Vec<_> = described.inputs.iter().filter(is_flexible).collect();
    match flexible.as_slice() {
        [] => {}
        [port] if port.shapes.len() > 1 => {
            for shape in &port.shapes[1..] {
                let sizes: Vec<String> = shape.iter().map(u64::to_string).collect();
                let mut shapes = default.clone();
                shapes.insert(port.name.clone(), shape.clone());
                variants.push((format!("{}_{}", described.name, sizes.join("x")), shapes));
            }
        }
        [port] => {
            return refused(format!(
                "the input `{}` has a range of shapes, and Core AI needs a list of them",
                port.name
            ));
        }
        [one, other, ..] => {
            return refused(format!(
                "the inputs `{}` and `{}` both have several shapes, and nothing says which go together",
                one.name, other.name
            ));
        }
    }
    Ok(variants)
}

fn one<'a>(
    function: &'a mil::Function,
    described: &FunctionInterface,
    name: &str,
    shapes: &Shapes,
    blobs: &mut Blobs<'a>,
) -> Result<Function> {
    let block = model::block(function).map_err(|error| refusal(&error))?;
    let place = |error: Failure| match error {
        Failure::Program(error) => refusal(&error.in_function(&described.name)),
        Failure::Reading(error) => error,
    };
    let mut lowering = Lowering::begin(function, shapes, blobs).map_err(place)?;
    for operation in &block.operations {
        lowering.operation(operation).map_err(place)?;
    }
    let (inputs, body, kinds) = lowering.finish(&block.outputs).map_err(place)?;
    let states = inputs.iter().filter(|port| matches!(port.kind, Type::State(_)));
    let tokens = states.filter_map(|port| Some(Port::new(port.name.as_ref()?, Type::Token)));
    let outputs = block.outputs.iter().zip(kinds).map(|(name, kind)| Port::new(name, kind));
    let outputs = tokens.chain(outputs).collect();
    Ok(Function { name: name.to_owned(), inputs, outputs, body, ..Function::default() })
}
