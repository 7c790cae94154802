//! From a function of a program to steps in order, with values numbered and their last uses known.
//!
//! A plan holds for every input shape: steps take their sizes from their inputs at run time.

use crate::chains;
use crate::constant;
use crate::element::Element;
use crate::failure::{Failure, Outcome, invalid, unsupported};
use crate::kernels::{self, Call, Frame, Input, Operand, Step};
use crate::packed::Packed;
use crate::same;
use crate::shelf::Shelf;
use crate::source::Source;
use crate::tensor::Tensor;
use crate::wide;
use anemll_mil::{Symbols, TensorType, ValueType, ops};
use anemll_plugin_api::{Error, codes};
use anemll_weights::Decoder;
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;
use coreml_proto::prost::Message as _;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

/// Steps between two questions to the host whether to go on.
const STEPS_PER_CHECK: usize = 64;

/// A function, ready to run.
pub(crate) struct FunctionPlan {
    function: String,
    steps: Vec<PlannedStep>,
    /// Slot of each input tensor, by name.
    inputs: BTreeMap<String, usize>,
    /// Where each output comes from, in the order of the function.
    outputs: Vec<(String, Input)>,
    /// All values by name, for taps.
    values: HashMap<String, Input>,
    /// The weights that stay packed.
    packed: HashMap<String, Arc<Packed>>,
    /// Whether decoding some of them would make later runs faster.
    slow: bool,
    slots: usize,
    wide: bool,
    /// Whether chains of operations became one.
    chains: bool,
}

struct PlannedStep {
    run: Step,
    operation: String,
    /// Name of the first output, or of the operation.
    name: String,
    outputs: Vec<PlannedOutput>,
    /// Slots that no later step reads.
    releases: Vec<usize>,
}

struct PlannedOutput {
    slot: usize,
    element: Element,
    shape: Vec<Option<usize>>,
}

/// Decoded constants by what they were decoded from, shared by the functions of a package.
pub(crate) type ConstantCache = HashMap<Vec<u8>, Tensor>;

/// What planning needs to know about the model.
pub(crate) struct Planner<'a> {
    pub(crate) model: &'a Source,
    pub(crate) shelf: &'a Shelf,
    /// Index of each state of the session.
    pub(crate) states: &'a BTreeMap<String, usize>,
    pub(crate) cache: &'a mut ConstantCache,
    /// Whether values declared as float16 are kept in f32.
    pub(crate) wide: bool,
    /// Whether products of packed weights are those of decoded ones, to the bit; always where `wide`.
    pub(crate) exact: bool,
    /// What becomes of weights that their kernels can read packed.
    pub(crate) packed: Keep,
    /// Whether chains of operations become one, so that values inside of them cannot be shown, and what is
    /// computed several times is computed once.
    pub(crate) chains: bool,
}

/// What becomes of weights that their kernels can read packed.
pub(crate) enum Keep {
    /// They stay so.
    Packed,
    /// Those whose products need no decoding stay so. The others are rounded or decoded: from those that
    /// an earlier plan has, else from the file.
    Fast(HashMap<String, Arc<Packed>>),
    /// All are decoded, likewise.
    Decoded(HashMap<String, Arc<Packed>>),
}

/// An error about one operation of a function.
fn located(failure: Failure, function: &str, operation: &str, name: &str, planned: bool) -> Error {
    let (code, reason) = match failure {
        Failure::Host(error) => return error,
        Failure::Unsupported(reason) => (codes::OPERATION_UNSUPPORTED, reason),
        Failure::Invalid(reason) if planned => (codes::GRAPH_INVALID, reason),
        Failure::Invalid(reason) => (codes::RUN_FAILED, reason),
    };
    Error::new(code, format!("operation `{operation}` cannot be executed: {reason}"))
        .with_at(format!("function `{function}`, `{name}`"))
}

/// Name of an operation in messages: its first output, or its `name`.
fn operation_name(operation: &mil::Operation) -> String {
    if let Some(output) = operation.outputs.first() {
        return output.name.clone();
    }
    let name = operation.attributes.get("name");
    let literal = name.and_then(|value| anemll_mil::Literal::from_value(value).ok());
    literal.as_ref().and_then(|literal| literal.text()).unwrap_or(&operation.r#type).to_owned()
}

/// Checks that every operation of a function is one that the runtime has.
pub(crate) fn check_operations(name: &str, block: &mil::Block) -> Result<(), Error> {
    for operation in &block.operations {
        let kind = operation.r#type.as_str();
        if kind != "const" && !is_constexpr(operation) && kernels::find(kind).is_none() {
            let value = operation_name(operation);
            return Err(Error::new(
                codes::OPERATION_UNSUPPORTED,
                format!("the cpu runtime does not have the operation `{kind}`"),
            )
            .with_at(format!("function `{name}`, `{value}`"))
            .with_hint("run the package on a Mac, or convert the model without this operation"));
        }
    }
    Ok(())
}

/// Whether an operation makes a weight of stored data, which is done once, before any run.
fn is_constexpr(operation: &mil::Operation) -> bool {
    ops::is_constexpr(&operation.r#type)
}

/// Names of the values that an operation reads.
fn reads(operation: &mil::Operation) -> impl Iterator<Item = &str> {
    named_arguments(operation).map(|(_, value)| value)
}

/// Names of the values that an operation reads, each behind the argument that it is given as.
fn named_arguments(operation: &mil::Operation) -> impl Iterator<Item = (&str, &str)> {
    let bindings = operation.inputs.iter().flat_map(|(argument, bound)| {
        bound.arguments.iter().map(move |binding| (argument.as_str(), binding))
    });
    bindings.filter_map(|(argument, binding)| match &binding.binding {
        Some(Binding::Name(name)) => Some((argument, name.as_str())),
        _ => None,
    })
}

impl Planner<'_> {
    /// Plans a function.
    pub(crate) fn plan(
        &mut self,
        name: &str,
        function: &mil::Function,
        block: &mil::Block,
    ) -> Result<FunctionPlan, Error> {
        let model = self.model;
        let (operations, equals) = match self.chains {
            true => {
                let (operations, equals) =
                    same::merge(chains::join(function, block), &block.outputs);
                (Cow::Owned(operations), equals)
            }
            false => (Cow::Borrowed(block.operations.as_slice()), HashMap::new()),
        };
        let mut building = Building {
            planner: self,
            decoder: Decoder::new(block, model.weight_files()),
            decoded: HashSet::new(),
            unpacked: HashSet::new(),
            picked: HashSet::new(),
            operands: HashMap::new(),
            last_uses: HashMap::new(),
            slots: 0,
        };
        for (index, operation) in operations.iter().enumerate() {
            for value in reads(operation) {
                building.last_uses.insert(value.to_owned(), index);
                if !is_constexpr(operation) {
                    building.decoded.insert(value.to_owned());
                }
            }
            for (argument, value) in named_arguments(operation) {
                if !kernels::takes_packed(&operation.r#type, argument) {
                    building.unpacked.insert(value.to_owned());
                }
                if operation.r#type == "gather" {
                    building.picked.insert(value.to_owned());
                }
            }
        }
        for output in &block.outputs {
            building.last_uses.insert(output.clone(), usize::MAX);
            building.decoded.insert(output.clone());
            building.unpacked.insert(output.clone());
        }
        let at = |failure| located(failure, name, "inputs", "inputs", true);
        let inputs = building.inputs(function).map_err(at)?;
        let mut steps = Vec::new();
        for (index, operation) in operations.iter().enumerate() {
            let own = operation_name(operation);
            let planned = building
                .operation(index, operation, &operations)
                .map_err(|failure| located(failure, name, &operation.r#type, &own, true))?;
            if let Some((run, outputs, releases)) = planned {
                let operation = operation.r#type.clone();
                steps.push(PlannedStep { run, operation, name: own, outputs, releases });
            }
        }
        let mut outputs = Vec::new();
        for output in &block.outputs {
            match building.operands.get(output) {
                Some(Operand::Tensor(input)) => outputs.push((output.clone(), input.clone())),
                _ => {
                    return Err(Error::new(
                        codes::GRAPH_INVALID,
                        format!("function `{name}` has no tensor for its output `{output}`"),
                    ));
                }
            }
        }
        let (mut values, mut packed) = (HashMap::new(), HashMap::new());
        for (name, operand) in building.operands {
            match operand {
                Operand::Tensor(input) => {
                    values.insert(name, input);
                }
                Operand::Packed(weight) => {
                    packed.insert(name, weight);
                }
                _ => {}
            }
        }
        for (name, first) in equals {
            if let Some(input) = values.get(&first).cloned() {
                values.insert(name, input);
            }
        }
        let slots = building.slots;
        let slow = packed.values().any(|one| !one.is_fast());
        let (function, wide, chains) = (name.to_owned(), self.wide, self.chains);
        let plan = FunctionPlan {
            function,
            steps,
            inputs,
            outputs,
            values,
            packed,
            slow,
            slots,
            wide,
            chains,
        };
        Ok(plan)
    }
}

/// A function on the way to its plan.
struct Building<'p, 'a> {
    planner: &'p mut Planner<'a>,
    decoder: Decoder<'p>,
    /// Values that other than constexpr operations read. What only feeds constexpr operations is
    /// read while they are decoded, and has no value of its own.
    decoded: HashSet<String>,
    /// Values that are read by what cannot read them packed.
    unpacked: HashSet<String>,
    /// Values whose elements are given out as they are.
    picked: HashSet<String>,
    operands: HashMap<String, Operand>,
    /// Index of the last operation that reads a value; `usize::MAX` for outputs.
    last_uses: HashMap<String, usize>,
    slots: usize,
}

type Planned = Option<(Step, Vec<PlannedOutput>, Vec<usize>)>;

impl Building<'_, '_> {
    fn inputs(&mut self, function: &mil::Function) -> Outcome<BTreeMap<String, usize>> {
        let mut inputs = BTreeMap::new();
        for input in &function.inputs {
            let operand = match value_type(input)? {
                ValueType::State(_) => match self.planner.states.get(&input.name) {
                    Some(&index) => Operand::State(index),
                    None => return invalid(format!("state `{}` is not described", input.name)),
                },
                ValueType::Tensor(_) => {
                    inputs.insert(input.name.clone(), self.slots);
                    Operand::Tensor(Input::Slot(self.slot()))
                }
                other => return unsupported(format!("input `{}` of type {other}", input.name)),
            };
            self.define(&input.name, operand)?;
        }
        Ok(inputs)
    }

    fn slot(&mut self) -> usize {
        self.slots += 1;
        self.slots - 1
    }

    fn define(&mut self, name: &str, operand: Operand) -> Outcome<()> {
        match self.operands.insert(name.to_owned(), operand) {
            None => Ok(()),
            Some(_) => invalid(format!("two values are named `{name}`")),
        }
    }

    /// Prepares one operation; nothing comes of constants.
    fn operation(
        &mut self,
        index: usize,
        operation: &mil::Operation,
        all: &[mil::Operation],
    ) -> Outcome<Planned> {
        let kind = operation.r#type.as_str();
        if !operation.blocks.is_empty() {
            return unsupported("nested blocks");
        }
        if is_constexpr(operation) {
            self.weight(operation)?;
            return Ok(None);
        }
        if kind == "const" {
            let (Some(value), [output]) =
                (operation.attributes.get("val"), operation.outputs.as_slice())
            else {
                return invalid("a constant needs `val` and one output");
            };
            if self.is_part(operation) {
                return Ok(None);
            }
            let operand = constant::operand(value, self.planner.model, self.planner.shelf)?;
            self.define(&output.name, operand)?;
            return Ok(None);
        }
        let Some(definition) = kernels::find(kind).or_else(|| chains::kernel(kind)) else {
            return unsupported("the runtime does not have it");
        };
        let mut arguments = self.arguments(operation)?;
        let wide = self.planner.wide;
        if wide {
            wide::arguments(kind, &mut arguments)?;
        }
        let outputs = operation
            .outputs
            .iter()
            .map(|output| match value_type(output)? {
                ValueType::Tensor(kind) => {
                    let element = constant::element(&kind)?;
                    let element = if wide { element.widened() } else { element };
                    Ok((element, constant::open_shape(&kind)?))
                }
                other => unsupported(format!("a result of type {other}")),
            })
            .collect::<Outcome<Vec<_>>>()?;
        let last_uses = self.releases(index, operation);
        let in_place = (kind == "slice_update")
            .then(|| self.state_written_next(index, operation, all))
            .flatten();
        let call =
            Call { operation: kind, arguments, outputs: outputs.clone(), last_uses, in_place };
        let run = (definition.prepare)(&call)?;
        let run = if wide { wide::step(run) } else { run };
        let mut releases = call.last_uses;
        let mut planned = Vec::with_capacity(outputs.len());
        for (output, (element, shape)) in operation.outputs.iter().zip(outputs) {
            let slot = self.slot();
            self.define(&output.name, Operand::Tensor(Input::Slot(slot)))?;
            if !self.last_uses.contains_key(&output.name) {
                releases.push(slot);
            }
            planned.push(PlannedOutput { slot, element, shape });
        }
        Ok(Some((run, planned, releases)))
    }

    /// Whether only constexpr operations read what an operation makes: then it is part of a weight.
    fn is_part(&self, operation: &mil::Operation) -> bool {
        let uses = |name: &str| (self.last_uses.contains_key(name), self.decoded.contains(name));
        let mut outputs = operation.outputs.iter().map(|output| uses(&output.name)).peekable();
        // Of the sparse forms' two results one may be read by nothing.
        outputs.clone().any(|(read, _)| read) && outputs.all(|(_, decoded)| !decoded)
    }

    /// Whether a weight stays packed that all its readers can read so.
    fn stays_packed(&self, packed: &Packed) -> bool {
        match self.planner.packed {
            Keep::Packed => true,
            Keep::Fast(_) => packed.is_fast(),
            Keep::Decoded(_) => false,
        }
    }

    /// Whether a weight that has no fast products as it is gets them by being rounded: where products
    /// alone read it, and need not be those of decoded weights.
    fn is_rounded(&self, name: &str) -> bool {
        matches!(self.planner.packed, Keep::Fast(_))
            && !self.planner.exact
            && !self.picked.contains(name)
    }

    /// A weight, rounded; what another function or session made of it is taken from there.
    fn rounded(&self, packed: &Packed, key: Option<&[u8]>) -> Outcome<Option<Arc<Packed>>> {
        let make = || packed.rounded();
        let rounded = match key {
            Some(key) => self.planner.shelf.rounded(self.planner.model.weight_files(), key, make),
            None => make(),
        };
        Ok(rounded?.map(|rounded| Arc::new(packed.with(rounded))))
    }

    /// The weight of this name in its packed form, from an earlier plan or the file; none where it has
    /// none, or where something cannot read it so.
    fn packed(&self, name: &str, kind: &TensorType) -> Outcome<Option<Arc<Packed>>> {
        match &self.planner.packed {
            Keep::Packed => {}
            Keep::Fast(known) => return Ok(known.get(name).cloned()),
            // What was rounded has to be read again.
            Keep::Decoded(known) => {
                return Ok(known.get(name).filter(|packed| packed.is_stored()).cloned());
            }
        }
        if self.unpacked.contains(name) || constant::element(kind)? != Element::F16 {
            return Ok(None);
        }
        let packed =
            Packed::new(&self.decoder.values(name)?, self.planner.shelf, self.planner.exact)?;
        Ok(packed.map(Arc::new).filter(|packed| {
            kind.fixed_shape().is_some_and(|shape| {
                shape.into_iter().eq(packed.shape().iter().map(|size| *size as u64))
            })
        }))
    }

    /// Decodes a weight, unless it stays packed or is only part of another.
    fn weight(&mut self, operation: &mil::Operation) -> Outcome<()> {
        if self.is_part(operation) {
            return Ok(());
        }
        let [output] = operation.outputs.as_slice() else {
            return unsupported("its results are read by other than constexpr operations");
        };
        let ValueType::Tensor(kind) = value_type(output)? else {
            return invalid("its result is not a tensor");
        };
        let key = cache_key(operation);
        let known = key.as_ref().and_then(|key| self.planner.cache.get(key)).cloned();
        let packed = match known {
            None => self.packed(&output.name, &kind)?,
            Some(_) => None,
        };
        if let Some(packed) = packed.as_ref().filter(|packed| self.stays_packed(packed)) {
            return self.define(&output.name, Operand::Packed(Arc::clone(packed)));
        }
        if let Some(packed) = packed.as_ref().filter(|_| self.is_rounded(&output.name))
            && let Some(rounded) = self.rounded(packed, key.as_deref())?
        {
            return self.define(&output.name, Operand::Packed(rounded));
        }
        let decode = || match packed {
            Some(packed) => packed.decoded(),
            None => constant::decoded(&self.decoder, &output.name),
        };
        let tensor = match (known, &key) {
            (Some(tensor), _) => tensor,
            (None, None) => decode()?,
            (None, Some(key)) => {
                self.planner.shelf.decoded(self.planner.model.weight_files(), key, decode)?
            }
        };
        let declared = (constant::element(&kind)?, constant::open_shape(&kind)?);
        check_outputs(
            std::slice::from_ref(&tensor),
            std::iter::once((declared.0, declared.1.as_slice())),
        )?;
        if let Some(key) = key {
            self.planner.cache.insert(key, tensor.clone());
        }
        self.define(&output.name, Operand::Tensor(Input::Constant(tensor)))
    }

    fn arguments<'o>(
        &self,
        operation: &'o mil::Operation,
    ) -> Outcome<BTreeMap<&'o str, Vec<Operand>>> {
        let mut arguments = BTreeMap::new();
        for (name, argument) in &operation.inputs {
            let operands = argument.arguments.iter().map(|binding| match &binding.binding {
                Some(Binding::Name(value)) => match self.operands.get(value) {
                    Some(operand) => Ok(operand.clone()),
                    None => invalid(format!("`{value}` is read before it is defined")),
                },
                Some(Binding::Value(value)) => {
                    constant::operand(value, self.planner.model, self.planner.shelf)
                }
                None => invalid(format!("argument `{name}` is empty")),
            });
            arguments.insert(name.as_str(), operands.collect::<Outcome<Vec<_>>>()?);
        }
        Ok(arguments)
    }

    /// Slots that are read for the last time by this operation.
    fn releases(&self, index: usize, operation: &mil::Operation) -> Vec<usize> {
        let mut slots: Vec<usize> = reads(operation)
            .filter(|name| self.last_uses.get(*name) == Some(&index))
            .filter_map(|name| match self.operands.get(name) {
                Some(Operand::Tensor(Input::Slot(slot))) => Some(*slot),
                _ => None,
            })
            .collect();
        slots.sort_unstable();
        slots.dedup();
        slots
    }

    /// The state that the result of this operation is written to, if nothing reads or writes that
    /// state in between: then no one can tell whether it is changed early.
    fn state_written_next(
        &self,
        index: usize,
        operation: &mil::Operation,
        all: &[mil::Operation],
    ) -> Option<usize> {
        let result = &operation.outputs.first()?.name;
        let named = |operation: &mil::Operation, argument: &str| -> Option<String> {
            match &operation.inputs.get(argument)?.arguments.first()?.binding {
                Some(Binding::Name(name)) => Some(name.clone()),
                _ => None,
            }
        };
        let is_state_operation = |operation: &&mil::Operation| {
            matches!(operation.r#type.as_str(), "read_state" | "write_state")
        };
        let write = all[index + 1..].iter().filter(is_state_operation).find(|operation| {
            operation.r#type == "write_state" && named(operation, "data").as_ref() == Some(result)
        })?;
        let state = named(write, "input")?;
        let first = all[index + 1..]
            .iter()
            .filter(is_state_operation)
            .find(|operation| named(operation, "input").as_ref() == Some(&state))?;
        match self.operands.get(&state) {
            Some(Operand::State(index)) if std::ptr::eq(first, write) => Some(*index),
            _ => None,
        }
    }
}

fn value_type(value: &mil::NamedValueType) -> Outcome<ValueType> {
    let Some(kind) = &value.r#type else {
        return invalid(format!("`{}` has no type", value.name));
    };
    ValueType::from_proto(kind, &Symbols::default()).map_err(Failure::Invalid)
}

/// What a constexpr operation decodes, as bytes; `None` when an operand is another's result.
fn cache_key(operation: &mil::Operation) -> Option<Vec<u8>> {
    if reads(operation).next().is_some() {
        return None;
    }
    let mut content = operation.clone();
    content.attributes.remove("name");
    for output in &mut content.outputs {
        output.name.clear();
    }
    Some(content.encode_to_vec())
}

/// Checks results against what the program declares.
fn check_outputs<'d>(
    tensors: &[Tensor],
    declared: impl ExactSizeIterator<Item = (Element, &'d [Option<usize>])>,
) -> Outcome<()> {
    if tensors.len() != declared.len() {
        return invalid(format!("{} results, declared are {}", tensors.len(), declared.len()));
    }
    for (tensor, (element, shape)) in tensors.iter().zip(declared) {
        let fits = tensor.element == element
            && tensor.rank() == shape.len()
            && tensor
                .shape()
                .iter()
                .zip(shape)
                .all(|(size, known)| known.is_none_or(|k| k == *size));
        if !fits {
            let sizes: Vec<String> = shape
                .iter()
                .map(|size| size.map_or_else(|| "?".to_owned(), |size| size.to_string()))
                .collect();
            return invalid(format!(
                "the result is {} {:?}, declared is {} [{}]",
                tensor.element.name(),
                tensor.shape(),
                element.name(),
                sizes.join(", ")
            ));
        }
    }
    Ok(())
}

impl FunctionPlan {
    /// Slots that a run needs.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Slot of an input.
    pub(crate) fn input(&self, name: &str) -> Option<usize> {
        self.inputs.get(name).copied()
    }

    /// Where a value of this name comes from.
    pub(crate) fn value(&self, name: &str) -> Option<&Input> {
        self.values.get(name)
    }

    /// The weights that stay packed, by name.
    pub(crate) fn packed(&self) -> &HashMap<String, Arc<Packed>> {
        &self.packed
    }

    /// Whether decoding some packed weights would make later runs faster.
    pub(crate) fn is_slow(&self) -> bool {
        self.slow
    }

    /// Names of all values.
    pub(crate) fn value_names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().chain(self.packed.keys()).map(String::as_str)
    }

    /// Whether a value may be inside of a chain of operations, and can be shown without chains alone.
    pub(crate) fn may_hide(&self, name: &str) -> bool {
        self.chains && !self.values.contains_key(name) && !self.packed.contains_key(name)
    }

    /// Whether values declared as float16 are kept in f32.
    pub(crate) fn is_wide(&self) -> bool {
        self.wide
    }

    /// Runs steps on a frame that holds the inputs, from `next` on, until `see` asks for a pause or there are
    /// no more: then it gives the outputs in the order of the function. `see` is shown the value of every
    /// slot as it is made, inputs first.
    pub(crate) fn run(
        &self,
        frame: &mut Frame<'_>,
        next: &mut usize,
        see: &mut dyn FnMut(usize, &Tensor) -> ControlFlow<()>,
    ) -> Result<Option<Vec<(&str, Tensor)>>, Error> {
        if *next == 0 {
            for (slot, value) in frame.slots.iter().enumerate() {
                if let Some(value) = value {
                    // They are there already: a pause would give nothing back.
                    let _ = see(slot, value);
                }
            }
        }
        while let Some(step) = self.steps.get(*next) {
            if next.is_multiple_of(STEPS_PER_CHECK) {
                frame.team.host().check_cancelled()?;
            }
            let results = (step.run)(frame)
                .and_then(|results| {
                    let declared = step.outputs.iter();
                    check_outputs(&results, declared.map(|o| (o.element, o.shape.as_slice())))?;
                    Ok(results)
                })
                .map_err(|failure| {
                    located(failure, &self.function, &step.operation, &step.name, false)
                })?;
            *next += 1;
            let mut pause = false;
            for (output, value) in step.outputs.iter().zip(results) {
                pause |= see(output.slot, &value).is_break();
                frame.slots[output.slot] = Some(value);
            }
            for &slot in &step.releases {
                if let Some(value) = frame.slots[slot].take() {
                    frame.pool.recycle(value.storage);
                }
            }
            if pause {
                return Ok(None);
            }
        }
        let mut outputs = Vec::with_capacity(self.outputs.len());
        for (name, input) in &self.outputs {
            let value = input
                .get(frame)
                .map_err(|failure| located(failure, &self.function, "output", name, false))?;
            outputs.push((name.as_str(), value.clone()));
        }
        Ok(Some(outputs))
    }
}
