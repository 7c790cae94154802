//! Printing programs: functions, blocks, operations, and the names that they define and use.

use super::dialect::opset_tag;
use super::printer::{Printer, wrong};
use super::{MAXIMUM_BLOCK_DEPTH, WriteError};
use crate::error::Error;
use crate::model;
use crate::ops::Opset;
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;
use std::collections::{BTreeMap, HashSet};

type Attributes = BTreeMap<String, mil::Value>;

/// Name and value of an attribute that the compiler adds to a function.
type Added = (&'static str, mil::Value);

/// Columns from the `func` line to its operations, and from an operation to those of its blocks.
const INDENT: usize = 8;

/// Column of `func`.
const FUNCTION_COLUMN: usize = 4;

/// Names that are defined, innermost block last.
struct Scopes<'p>(Vec<HashSet<&'p str>>);

impl<'p> Scopes<'p> {
    fn define(&mut self, name: &'p str) -> Result<(), WriteError> {
        let is_new = self.0.last_mut().is_none_or(|scope| scope.insert(name));
        if is_new { Ok(()) } else { Err(wrong(format!("two values are named `{name}`"))) }
    }

    fn knows(&self, name: &str) -> bool {
        self.0.iter().rev().any(|scope| scope.contains(name))
    }
}

/// Prints a program. `attributes` are the program's with what the compiler adds; `added` gives an
/// attribute of the function of this name that the compiler adds.
pub(super) fn program(
    printer: &mut Printer<'_>,
    program: &mil::Program,
    attributes: &Attributes,
    added: &dyn Fn(&str) -> Result<Option<Added>, Error>,
) -> Result<(), WriteError> {
    let (major, minor) = printer.dialect().version;
    printer.put(&format!("program({major}.{minor})\n"));
    if !attributes.is_empty() {
        self::attributes(printer, attributes.iter())
            .map_err(|error| error.within("attributes of the program"))?;
        printer.put("\n");
    }
    printer.put("{\n");
    for (name, function) in &program.functions {
        let added = added(name).map_err(|error| error.in_function(name))?;
        self::function(printer, name, function, added).map_err(|error| match error {
            WriteError::Model(error) => WriteError::Model(error.in_function(name)),
            output => output,
        })?;
    }
    printer.put("}");
    Ok(())
}

fn function(
    printer: &mut Printer<'_>,
    name: &str,
    function: &mil::Function,
    added: Option<Added>,
) -> Result<(), WriteError> {
    let opset = Opset::from_name(&function.opset)
        .ok_or_else(|| wrong(format!("{:?} is not a known opset", function.opset)))?;
    let block = model::block(function)?;
    if !block.inputs.is_empty() {
        return Err(wrong("the block of the function has inputs of its own"));
    }
    let mut scopes = Scopes(vec![HashSet::new()]);
    printer.spaces(FUNCTION_COLUMN);
    printer.put("func ");
    printer.name(name)?;
    printer.put("<");
    printer.put(opset_tag(opset));
    printer.put(">(");
    let mut inputs: Vec<&mil::NamedValueType> = function.inputs.iter().collect();
    inputs.sort_by(|left, right| left.name.cmp(&right.name));
    values(printer, inputs.into_iter(), &mut scopes)?;
    printer.put(") ");
    let added = added.as_ref().filter(|(key, _)| !function.attributes.contains_key(*key));
    if added.is_some() || !function.attributes.is_empty() {
        let mut all: Vec<(&str, &mil::Value)> =
            function.attributes.iter().map(|(key, value)| (key.as_str(), value)).collect();
        if let Some((key, value)) = added {
            all.push((key, value));
            all.sort_by_key(|(key, _)| *key);
        }
        attributes(printer, all.into_iter())?;
        printer.put(" ");
    }
    body(printer, block, FUNCTION_COLUMN, &mut scopes, 0)?;
    printer.put(";\n");
    printer.drain()?;
    Ok(())
}

/// `{`, operations, `} -> (…)`, of a function or nested block at this column.
fn body<'p>(
    printer: &mut Printer<'_>,
    block: &'p mil::Block,
    column: usize,
    scopes: &mut Scopes<'p>,
    depth: usize,
) -> Result<(), WriteError> {
    if let Some(name) = block.attributes.keys().next() {
        return Err(wrong(format!("a block has the attribute `{name}`, which text cannot hold")));
    }
    printer.put("{\n");
    let inner = column + if depth == 0 { INDENT } else { INDENT / 2 };
    for operation in &block.operations {
        self::operation(printer, operation, inner, scopes, depth).map_err(|error| match error {
            WriteError::Model(error) => {
                let name = operation.outputs.first().map_or("", |output| &output.name);
                WriteError::Model(error.at_operation(name, &operation.r#type))
            }
            output => output,
        })?;
        printer.drain()?;
    }
    printer.spaces(if depth == 0 { inner - INDENT / 2 } else { column });
    printer.put("} -> (");
    for (index, name) in block.outputs.iter().enumerate() {
        printer.separator(index);
        if !scopes.knows(name) {
            return Err(wrong(format!("the output `{name}` is not defined")));
        }
        printer.name(name)?;
    }
    printer.put(")");
    Ok(())
}

fn operation<'p>(
    printer: &mut Printer<'_>,
    operation: &'p mil::Operation,
    column: usize,
    scopes: &mut Scopes<'p>,
    depth: usize,
) -> Result<(), WriteError> {
    printer.spaces(column);
    // The outputs count from the next operation on, so they are defined last.
    for (index, output) in operation.outputs.iter().enumerate() {
        printer.separator(index);
        typed(printer, output)?;
    }
    if !operation.outputs.is_empty() {
        printer.put(" = ");
    }
    printer.name(&operation.r#type)?;
    printer.put("(");
    for (index, (name, argument)) in operation.inputs.iter().enumerate() {
        printer.separator(index);
        printer.name(name)?;
        printer.put(" = ");
        self::argument(printer, argument, scopes).map_err(|error| error.within(name))?;
    }
    printer.put(")");
    if !operation.attributes.is_empty() {
        attributes(printer, operation.attributes.iter())?;
    }
    if !operation.blocks.is_empty() {
        blocks(printer, operation, column, scopes, depth)?;
    }
    printer.put(";\n");
    operation.outputs.iter().try_for_each(|output| scopes.define(&output.name))
}

fn blocks<'p>(
    printer: &mut Printer<'_>,
    operation: &'p mil::Operation,
    column: usize,
    scopes: &mut Scopes<'p>,
    depth: usize,
) -> Result<(), WriteError> {
    if depth >= MAXIMUM_BLOCK_DEPTH {
        return Err(wrong(format!("blocks nest deeper than {MAXIMUM_BLOCK_DEPTH}")));
    }
    let column = column + INDENT / 2;
    for block in &operation.blocks {
        printer.put("\n");
        printer.spaces(column);
        printer.put("(");
        scopes.0.push(HashSet::new());
        values(printer, block.inputs.iter(), scopes)?;
        printer.put(") ");
        body(printer, block, column, scopes, depth + 1)?;
        scopes.0.pop();
    }
    Ok(())
}

fn argument(
    printer: &mut Printer<'_>,
    argument: &mil::Argument,
    scopes: &Scopes<'_>,
) -> Result<(), WriteError> {
    let several = argument.arguments.len() != 1;
    if several {
        printer.put("(");
    }
    for (index, binding) in argument.arguments.iter().enumerate() {
        printer.separator(index);
        match &binding.binding {
            Some(Binding::Name(name)) if scopes.knows(name) => printer.name(name)?,
            Some(Binding::Name(name)) => {
                return Err(wrong(format!("uses `{name}`, which is not defined before it")));
            }
            Some(Binding::Value(value)) => printer.value(value)?,
            None => return Err(wrong("is bound to nothing")),
        }
    }
    if several {
        printer.put(")");
    }
    Ok(())
}

/// `TYPE name` of each, which are defined.
fn values<'p>(
    printer: &mut Printer<'_>,
    values: impl Iterator<Item = &'p mil::NamedValueType>,
    scopes: &mut Scopes<'p>,
) -> Result<(), WriteError> {
    for (index, value) in values.enumerate() {
        printer.separator(index);
        typed(printer, value)?;
        scopes.define(&value.name)?;
    }
    Ok(())
}

fn typed(printer: &mut Printer<'_>, value: &mil::NamedValueType) -> Result<(), WriteError> {
    printer.value_type(value.r#type.as_ref()).map_err(|error| error.within(&value.name))?;
    printer.put(" ");
    printer.name(&value.name)
}

fn attributes<'v, K: AsRef<str>>(
    printer: &mut Printer<'_>,
    attributes: impl Iterator<Item = (K, &'v mil::Value)>,
) -> Result<(), WriteError> {
    printer.put("[");
    for (index, (name, value)) in attributes.enumerate() {
        printer.separator(index);
        printer.name(name.as_ref())?;
        printer.put(" = ");
        printer.value(value).map_err(|error| error.within(name.as_ref()))?;
    }
    printer.put("]");
    Ok(())
}
