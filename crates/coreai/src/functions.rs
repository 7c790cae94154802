//! Functions of a package: which shapes each has, what it takes and gives.

use crate::blobs::Blobs;
use crate::dynamic;
use crate::face::Face;
use crate::failure::Failure;
use crate::interface::Interface;
use crate::lower::{Lowering, Shapes, Whole};
use anemll_aicode::Function;
use anemll_layout::apple::{self, Role, Sample};
use anemll_mil::{FunctionInterface, interface, model};
use anemll_plugin_api::data::JoinedFunction;
use anemll_plugin_api::{Error, Result, codes};
use coreml_proto::{Model, mil};
use std::collections::BTreeSet;

/// An error about a program, as users see it.
pub(crate) fn refusal(error: &anemll_mil::Error) -> Error {
    Error::new(codes::COMPILE_FAILED, error.to_string())
        .with_hint("`anemll inspect` lists the operations; Core ML may run what Core AI lacks")
}

/// Every function of a model, in the order of its description, with the names and types that the
/// interface asks for.
pub(crate) fn all<'a>(
    model: &'a Model,
    wanted: Interface,
    blobs: &mut Blobs<'a>,
) -> Result<Vec<Function>> {
    let program = model::program(model).map_err(|error| refusal(&error))?;
    let interfaces = interface(model).map_err(|error| refusal(&error))?;
    let asked = wanted_by(model, wanted);
    if asked == Some(apple::DYNAMIC) {
        return for_any_tokens(program, &interfaces, blobs);
    }
    let largest = asked.map(|_| largest_context(&interfaces));
    let mut functions = Vec::new();
    for described in &interfaces {
        let function = program.functions.get(&described.name).ok_or_else(|| {
            let text = format!("the program has no function `{}`", described.name);
            refusal(&anemll_mil::Error::new(text))
        })?;
        if let Some(largest) = largest {
            let has_table =
                functions.iter().any(|one: &Function| one.name == apple::LOAD_EMBEDDINGS);
            functions.extend(for_apps(function, described, largest, has_table, blobs)?);
            continue;
        }
        for (name, shapes) in variants(described)? {
            functions.push(one(function, described, (&name, Face::Package), &shapes, blobs)?);
        }
    }
    if largest.is_some() {
        check_static(&functions)?;
    }
    Ok(functions)
}

/// A function of a model under another name, once for each shape that it takes. It has the names and types of the
/// package, which must not ask for others: those would tell functions apart by their names.
pub(crate) fn renamed<'a>(
    model: &'a Model,
    wanted: &JoinedFunction,
    blobs: &mut Blobs<'a>,
) -> Result<Vec<Function>> {
    if wanted_by(model, Interface::Asked).is_some() {
        let text = "the package asks for the functions of Apple's apps, and is an asset of its own";
        return Err(refusal(&anemll_mil::Error::new(text)));
    }
    let program = model::program(model).map_err(|error| refusal(&error))?;
    let interfaces = interface(model).map_err(|error| refusal(&error))?;
    let described = interfaces.iter().find(|described| described.name == wanted.function);
    let (Some(described), Some(function)) = (described, program.functions.get(&wanted.function))
    else {
        let known: Vec<&str> = interfaces.iter().map(|known| known.name.as_str()).collect();
        let text = format!("the package has no function `{}`", wanted.function);
        return Err(Error::new(codes::FUNCTION_UNKNOWN, text)
            .with_hint(format!("its functions are {}", known.join(", "))));
    };
    let mut functions = Vec::new();
    for (name, shapes) in variants(described)? {
        let name = name.replacen(&described.name, &wanted.name, 1);
        functions.push(one(function, described, (&name, Face::Package), &shapes, blobs)?);
    }
    Ok(functions)
}

/// Which interface of Apple's apps a package asks for, and gets.
fn wanted_by(model: &Model, wanted: Interface) -> Option<&'static str> {
    let description = model.description.as_ref();
    let metadata = description.and_then(|description| description.metadata.as_ref());
    let asked = metadata.and_then(|metadata| metadata.user_defined.get(apple::INTERFACE));
    let known = [apple::STATIC, apple::DYNAMIC]
        .into_iter()
        .find(|known| asked.is_some_and(|asked| asked == known));
    known.filter(|_| wanted == Interface::Asked)
}

/// The function of a dynamic model, of those of a package that are cases of it.
fn for_any_tokens<'a>(
    program: &'a mil::Program,
    interfaces: &[FunctionInterface],
    blobs: &mut Blobs<'a>,
) -> Result<Vec<Function>> {
    let mut samples = Vec::new();
    for described in interfaces {
        let Some(sample) = Sample::parse(&described.name) else { continue };
        let Some(function) = program.functions.get(&described.name) else { continue };
        let (name, shapes) = variants(described)?.swap_remove(0);
        samples.push((sample, one(function, described, (&name, Face::Package), &shapes, blobs)?));
    }
    let samples: Vec<(Sample, &Function)> =
        samples.iter().map(|(sample, function)| (*sample, function)).collect();
    match dynamic::main(&samples) {
        Ok(function) => Ok(vec![function]),
        Err(Failure::Reading(error)) => Err(error),
        Err(Failure::Program(error)) => {
            Err(refusal(&anemll_mil::Error::new(format!("for any number of tokens: {error}"))))
        }
    }
}

fn largest_context(interfaces: &[FunctionInterface]) -> u64 {
    let roles = interfaces.iter().filter_map(|described| Role::parse(&described.name));
    roles.filter_map(Role::context).max().unwrap_or(0)
}

/// What becomes of a function for apps: itself, and of one that gathers embeddings also the one that gives
/// their table, if there is none yet; nothing of one that apps do not know.
fn for_apps<'a>(
    function: &'a mil::Function,
    described: &FunctionInterface,
    largest: u64,
    has_table: bool,
    blobs: &mut Blobs<'a>,
) -> Result<Vec<Function>> {
    let Some(role) = Role::parse(&described.name) else { return Ok(Vec::new()) };
    let mut functions = Vec::new();
    if matches!(role, Role::Gather { .. }) && !has_table {
        let whole =
            Lowering::load_table(function, blobs).map_err(|failure| placed(failure, described))?;
        functions.push(named(apple::LOAD_EMBEDDINGS, whole));
    }
    let (_, shapes) = variants(described)?.swap_remove(0);
    let face = Face::Apple { role, largest };
    functions.push(one(function, described, (&described.name, face), &shapes, blobs)?);
    Ok(functions)
}

/// Apps choose functions by the tokens and the context that are left, so there must be one for each.
fn check_static(functions: &[Function]) -> Result<()> {
    let refused = |text: String| {
        let error = anemll_mil::Error::new(format!("for Apple's apps, {text}"));
        Err(refusal(&error))
    };
    let roles: BTreeSet<Role> =
        functions.iter().filter_map(|function| Role::parse(&function.name)).collect();
    let contexts: BTreeSet<u64> = roles.iter().filter_map(|role| role.context()).collect();
    let tokens: BTreeSet<u64> = roles.iter().map(|role| role.tokens()).collect();
    if contexts.is_empty() {
        return refused("the package has no functions such as `extend_512_64`".to_owned());
    }
    let mut needed: Vec<Role> =
        tokens.iter().map(|tokens| Role::Gather { tokens: *tokens }).collect();
    for (context, tokens) in contexts.iter().flat_map(|c| tokens.iter().map(|t| (*c, *t))) {
        needed.extend([Role::Extend { context, tokens }, Role::Prompt { context, tokens }]);
    }
    match needed.iter().find(|role| !roles.contains(role)) {
        Some(role) => refused(format!("the package lacks the function `{}`", role.name())),
        None => Ok(()),
    }
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

fn placed(failure: Failure, described: &FunctionInterface) -> Error {
    match failure {
        Failure::Program(error) => refusal(&error.in_function(&described.name)),
        Failure::Reading(error) => error,
    }
}

fn named(name: &str, whole: Whole) -> Function {
    let Whole { inputs, outputs, body } = whole;
    Function { name: name.to_owned(), inputs, outputs, body, ..Function::default() }
}

fn one<'a>(
    function: &'a mil::Function,
    described: &FunctionInterface,
    (name, face): (&str, Face),
    shapes: &Shapes,
    blobs: &mut Blobs<'a>,
) -> Result<Function> {
    let block = model::block(function).map_err(|error| refusal(&error))?;
    let place = |failure| placed(failure, described);
    let mut lowering = Lowering::begin(function, shapes, face, blobs).map_err(place)?;
    for operation in &block.operations {
        lowering.operation(operation).map_err(place)?;
    }
    lowering.finish(&block.outputs).map(|whole| named(name, whole)).map_err(place)
}
