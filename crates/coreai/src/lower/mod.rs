//! Lowering: one operation of MIL after another, each to the operations of Core AI that say the same.

mod elementwise;
mod linear;
mod movement;
mod normalization;
mod outputs;
mod places;
mod slices;
mod weights;

use crate::blobs::Blobs;
use crate::face::{self, Face};
use crate::failure::{Failure, Lowered};
use crate::reading::{self, Bound, Entries, Entry, Known};
use anemll_aicode::{Block, BlockBuilder, Port, TensorType, Type, Value};
use anemll_mil::ops::Opset;
use anemll_mil::types::{Symbols, ValueType};
use anemll_mil::{Literal, TensorType as MilTensor};
use coreml_proto::mil;
use std::collections::BTreeMap;
use std::collections::HashMap;

/// Shapes of inputs by name.
pub(crate) type Shapes = BTreeMap<String, Vec<u64>>;

/// A function that is being lowered.
pub(crate) struct Lowering<'a, 'b> {
    builder: BlockBuilder,
    entries: Entries<'a>,
    /// What has been made of stored values.
    made: HashMap<&'a str, Value>,
    states: Vec<State<'a>>,
    inputs: Vec<Port>,
    face: Face,
    blobs: &'b mut Blobs<'a>,
    opset: Opset,
}

/// What a lowered function takes, does and gives.
pub(crate) struct Whole {
    pub(crate) inputs: Vec<Port>,
    pub(crate) outputs: Vec<Port>,
    pub(crate) body: Block,
}

/// A state: read once, at its first use, and written once, at the end. Writes in between only
/// replace the value that later reads see.
struct State<'a> {
    name: &'a str,
    handle: Value,
    /// The token after the read, and the present content.
    content: Option<(Value, Value)>,
    changed: bool,
}

/// An operation, with the types of what it gives.
struct Job<'a> {
    operation: &'a mil::Operation,
    kinds: Vec<TensorType>,
}

impl<'a> Job<'a> {
    fn kind(&self) -> Lowered<&TensorType> {
        self.kinds.first().ok_or_else(|| "it gives nothing".into())
    }
}

impl<'a, 'b> Lowering<'a, 'b> {
    /// Begins a function: its states, then its inputs with the given shapes, as the face has them.
    pub(crate) fn begin(
        function: &'a mil::Function,
        shapes: &Shapes,
        face: Face,
        blobs: &'b mut Blobs<'a>,
    ) -> Lowered<Self> {
        let opset = opset_of(function)?;
        let mut states = Vec::new();
        let mut tensors = Vec::new();
        for input in &function.inputs {
            let kind = input.r#type.as_ref().ok_or("an input has no type")?;
            match ValueType::from_proto(kind, &Symbols::default())? {
                ValueType::State(tensor) => states.push((input.name.as_str(), tensor)),
                ValueType::Tensor(tensor) => {
                    let tensor = match shapes.get(&input.name) {
                        Some(shape) => MilTensor::new(tensor.data_type, shape),
                        None => tensor,
                    };
                    tensors.push((input.name.as_str(), tensor));
                }
                other => return Err(format!("input `{}` is {other}", input.name).into()),
            }
        }
        let mut ports = Vec::new();
        for (name, tensor) in &states {
            let (name, kind) = face.state(name, reading::tensor(tensor)?)?;
            let (name, kind) = (Some(name), Type::State(kind));
            ports.push(Port { name: name.clone(), kind, state: name });
        }
        let mut inputs = Vec::new();
        for (name, tensor) in &tensors {
            let input = face.input(name, reading::tensor(tensor)?)?;
            ports.push(input.port.clone());
            inputs.push(input);
        }
        let table = if face.takes_table() { Some(face::table(function)?) } else { None };
        ports.extend(table.iter().map(|(_, kind)| face::table_port(kind)));
        let builder = anemll_aicode::block(ports.iter().map(|port| port.kind.clone()).collect());
        let (entries, made) = (Entries::new(), HashMap::new());
        let mut lowering =
            Self { builder, entries, made, states: Vec::new(), inputs: ports, face, blobs, opset };
        let first = states.len();
        for (place, (name, tensor)) in states.into_iter().enumerate() {
            let handle = lowering.builder.argument(place);
            lowering.states.push(State { name, handle, content: None, changed: false });
            let kind = ValueType::State(tensor);
            lowering.entries.insert(name, Entry { kind, known: Known::State });
        }
        let last = first + tensors.len();
        for ((place, (name, tensor)), input) in (first..).zip(tensors).zip(&inputs) {
            let given = lowering.builder.argument(place);
            let known = Known::Computed(input.inside(&mut lowering.builder, given));
            lowering.entries.insert(name, Entry { kind: tensor.into(), known });
        }
        if let Some((name, kind)) = table {
            let given = lowering.builder.argument(last);
            let plain = lowering.builder.without_layout(given);
            let rows = lowering.builder.reshape(plain, &kind.shape);
            lowering.made.insert(name, rows);
        }
        Ok(lowering)
    }

    /// The function that gives the table of embeddings from which another one gathers.
    pub(crate) fn load_table(
        function: &'a mil::Function,
        blobs: &'b mut Blobs<'a>,
    ) -> Lowered<Whole> {
        let opset = opset_of(function)?;
        let (name, kind) = face::table(function)?;
        let builder = anemll_aicode::block(Vec::new());
        let (entries, made) = (Entries::new(), HashMap::new());
        let (states, inputs, face) = (Vec::new(), Vec::new(), Face::Package);
        let mut lowering = Self { builder, entries, made, states, inputs, face, blobs, opset };
        let stored = |operation: &&mil::Operation| {
            operation.r#type == "const" || operation.r#type.starts_with("constexpr_")
        };
        for operation in anemll_mil::model::block(function)?.operations.iter().filter(stored) {
            lowering.operation(operation)?;
        }
        let port = face::table_port(&kind);
        let rows = lowering.named(name)?;
        let TensorType { shape, layout, .. } =
            port.kind.tensor().ok_or("the table is not a tensor")?.clone();
        let rows = lowering.builder.reshape(rows, &shape);
        let rows = match layout {
            Some(layout) => lowering.builder.with_layout(rows, layout),
            None => rows,
        };
        let body = lowering.builder.finish_function(&[rows]);
        Ok(Whole { inputs: Vec::new(), outputs: vec![port], body })
    }

    /// What makes operations.
    pub(crate) fn builder(&mut self) -> &mut BlockBuilder {
        &mut self.builder
    }

    /// The value of a name.
    pub(crate) fn named(&mut self, name: &'a str) -> Lowered {
        self.value(Bound::Name(name))
    }

    /// The sum of one element of each state.
    pub(crate) fn one_of_states(&mut self) -> Lowered {
        let mut sum = None;
        for place in 0..self.states.len() {
            let content = self.content(place);
            let rank = self.builder.shape(content).len();
            let [first, after] = [0, 1].map(|bound| self.builder.signed(&vec![bound; rank]));
            let one = self.builder.slice(content, [first, after, after], &vec![1; rank]);
            let one = self.builder.reshape(one, &[1]);
            let element = self.builder.tensor(one).element;
            sum = Some(match sum {
                None => one,
                Some(sum) => self.builder.binary("add", sum, one, element),
            });
        }
        sum.ok_or_else(|| "it has no states".into())
    }

    /// Lowers an operation.
    pub(crate) fn operation(&mut self, operation: &'a mil::Operation) -> Lowered<()> {
        self.lower(operation).map_err(|failure| match failure {
            Failure::Program(error) => {
                let name = operation.outputs.first().map_or("", |output| &output.name);
                Failure::Program(error.at_operation(name, &operation.r#type))
            }
            other => other,
        })
    }

    fn lower(&mut self, operation: &'a mil::Operation) -> Lowered<()> {
        match operation.r#type.as_str() {
            "const" => {
                let value = operation.attributes.get("val").ok_or("it holds no value")?;
                let kind = anemll_mil::literal::tensor_type(value)?;
                self.know(operation, 0, kind, Known::Constant(value));
                return Ok(());
            }
            "write_state" => return self.write_state(operation),
            name if name.starts_with("constexpr_") => {
                if operation.inputs.is_empty() {
                    return Err("weights in the form of iOS 17 and earlier are not lowered; \
                                convert the model for iOS 18"
                        .into());
                }
                let kinds = reading::infer(&self.entries, operation, self.opset)?;
                let kind = kinds.into_iter().next().ok_or("it gives nothing")?;
                self.know(operation, 0, kind, Known::Constexpr(operation));
                return Ok(());
            }
            _ => {}
        }
        let inferred = reading::infer(&self.entries, operation, self.opset)?;
        let kinds = inferred.iter().map(reading::tensor).collect::<Result<_, _>>()?;
        let values = self.values_of(&Job { operation, kinds })?;
        for (place, (kind, value)) in inferred.into_iter().zip(values).enumerate() {
            let expected = reading::tensor(&kind)?;
            let found = self.builder.tensor(value);
            if found != expected {
                return Err(format!("it was lowered to {found}, but gives {expected}").into());
            }
            self.know(operation, place, kind, Known::Computed(value));
        }
        Ok(())
    }

    fn know(
        &mut self,
        operation: &'a mil::Operation,
        place: usize,
        kind: MilTensor,
        known: Known<'a>,
    ) {
        if let Some(output) = operation.outputs.get(place) {
            self.entries.insert(&output.name, Entry { kind: kind.into(), known });
        }
    }

    /// What an operation gives.
    fn values_of(&mut self, job: &Job<'a>) -> Lowered<Vec<Value>> {
        let found = match job.operation.r#type.as_str() {
            "read_state" => vec![self.read_state(job.operation)?],
            "split" => return self.split(job),
            "topk" => return self.topk(job),
            _ => {
                let families = [
                    Self::elementwise,
                    Self::normalization,
                    Self::movement,
                    Self::slices,
                    Self::places,
                    Self::linear_algebra,
                ];
                let mut found = None;
                for family in families {
                    if found.is_none() {
                        found = family(self, job)?;
                    }
                }
                vec![found.ok_or("Core AI has no operation for it that is known here")?]
            }
        };
        Ok(found)
    }

    /// The value that is bound to a parameter.
    fn operand(&mut self, job: &Job<'a>, parameter: &str) -> Lowered {
        let bound = reading::bound(job.operation, parameter);
        let bound = bound.first().ok_or_else(|| format!("`{parameter}` is missing"))?;
        self.value(*bound)
    }

    /// The value of a parameter, if it is given.
    fn optional(&mut self, job: &Job<'a>, parameter: &str) -> Lowered<Option<Value>> {
        match reading::bound(job.operation, parameter).first() {
            Some(bound) => self.value(*bound).map(Some),
            None => Ok(None),
        }
    }

    fn operands(&mut self, job: &Job<'a>, parameter: &str) -> Lowered<Vec<Value>> {
        reading::bound(job.operation, parameter)
            .into_iter()
            .map(|bound| self.value(bound))
            .collect()
    }

    fn value(&mut self, bound: Bound<'a>) -> Lowered {
        let name = match bound {
            Bound::Value(value) => return self.stored(value, None),
            Bound::Name(name) => name,
        };
        if let Some(made) = self.made.get(name) {
            return Ok(*made);
        }
        let entry = self.entries.get(name).ok_or_else(|| format!("`{name}` is not defined"))?;
        let value = match entry.known {
            Known::Computed(value) => return Ok(value),
            Known::State => return Err(format!("`{name}` is a state").into()),
            Known::Constant(value) => self.stored(value, None)?,
            Known::Constexpr(operation) => {
                let kind = entry.kind.clone();
                self.decoded(operation, &kind, 0)?
            }
        };
        self.made.insert(name, value);
        Ok(value)
    }

    fn literal(&self, job: &Job<'a>, parameter: &str) -> Lowered<Option<Literal>> {
        Ok(reading::literal(&self.entries, job.operation, parameter)?)
    }

    /// What a parameter says; none where it is not given. One that says something else is refused.
    fn given<T>(
        &self,
        job: &Job<'a>,
        parameter: &str,
        what: &str,
        read: impl FnOnce(&Literal) -> Option<T>,
    ) -> Lowered<Option<T>> {
        let Some(literal) = self.literal(job, parameter)? else { return Ok(None) };
        let found = read(&literal).ok_or_else(|| format!("`{parameter}` does not hold {what}"))?;
        Ok(Some(found))
    }

    fn integers(&self, job: &Job<'a>, parameter: &str) -> Lowered<Option<Vec<i64>>> {
        self.given(job, parameter, "integers", |literal| literal.integers().map(<[i64]>::to_vec))
    }

    fn integer(&self, job: &Job<'a>, parameter: &str, default: i64) -> Lowered<i64> {
        let integers = self.integers(job, parameter)?;
        Ok(integers.and_then(|values| values.first().copied()).unwrap_or(default))
    }

    fn flags(&self, job: &Job<'a>, parameter: &str, count: usize) -> Lowered<Vec<bool>> {
        let read = |literal: &Literal| literal.bools().map(<[bool]>::to_vec);
        let flags = self.given(job, parameter, "truth values", read)?;
        let flags = flags.unwrap_or_else(|| vec![false; count]);
        if flags.len() != count {
            return Err(format!("`{parameter}` has {} values, not {count}", flags.len()).into());
        }
        Ok(flags)
    }

    fn flag(&self, job: &Job<'a>, parameter: &str) -> Lowered<bool> {
        Ok(self.flags(job, parameter, 1)?[0])
    }

    fn text(&self, job: &Job<'a>, parameter: &str, default: &str) -> Lowered<String> {
        let read = |literal: &Literal| literal.text().map(str::to_owned);
        Ok(self.given(job, parameter, "a text", read)?.unwrap_or_else(|| default.to_owned()))
    }

    /// An axis of a tensor of this rank.
    fn axis(&self, job: &Job<'a>, default: i64, rank: usize) -> Lowered<usize> {
        let axis = self.integer(job, "axis", default)?;
        place(axis, rank).ok_or_else(|| format!("there is no axis {axis}").into())
    }

    /// Axes of a tensor of this rank; all where none are given.
    fn axes(&self, job: &Job<'a>, rank: usize) -> Lowered<Vec<usize>> {
        let Some(axes) = self.integers(job, "axes")? else { return Ok((0..rank).collect()) };
        let places = axes.into_iter().map(|axis| place(axis, rank)).collect::<Option<_>>();
        places.ok_or_else(|| "`axes` names one that is not there".into())
    }

    fn read_state(&mut self, operation: &'a mil::Operation) -> Lowered {
        let place = self.state(operation)?;
        Ok(self.content(place))
    }

    /// The present content of a state, which is read where it was not yet.
    fn content(&mut self, place: usize) -> Value {
        if let Some((_, content)) = self.states[place].content {
            return content;
        }
        let (content, token) = self.builder.read_state(self.states[place].handle);
        let content = self.builder.without_layout(content);
        self.states[place].content = Some((token, content));
        content
    }

    fn write_state(&mut self, operation: &'a mil::Operation) -> Lowered<()> {
        let data = self.operand(&Job { operation, kinds: Vec::new() }, "data")?;
        let state = self.state(operation)?;
        let token = match self.states[state].content {
            Some((token, _)) => token,
            // Never read before: the token that the write needs comes from a read all the same.
            None => self.builder.read_state(self.states[state].handle).1,
        };
        self.states[state].content = Some((token, data));
        self.states[state].changed = true;
        Ok(())
    }

    fn state(&self, operation: &'a mil::Operation) -> Lowered<usize> {
        let name = match reading::bound(operation, "input").first() {
            Some(Bound::Name(name)) => *name,
            _ => return Err("`input` is not a state".into()),
        };
        let found = self.states.iter().position(|state| state.name == name);
        found.ok_or_else(|| format!("`{name}` is not a state").into())
    }

    /// Ends the function: gives outputs as the face has them, and writes states.
    pub(crate) fn finish(mut self, names: &'a [String]) -> Lowered<Whole> {
        let named = match self.face {
            Face::Apple { role, .. } => self.outputs_for_apps(role, names)?,
            Face::Package => {
                let value = |name: &'a String| Ok((name.clone(), self.named(name)?));
                names.iter().map(value).collect::<Lowered<_>>()?
            }
        };
        let mut outputs = Vec::new();
        let mut given = Vec::new();
        let states: Vec<_> = std::mem::take(&mut self.states);
        for (state, port) in states.into_iter().zip(&self.inputs) {
            let (token, content) = match state.content {
                Some(content) => content,
                None => {
                    let (content, token) = self.builder.read_state(state.handle);
                    (token, content)
                }
            };
            given.push(match (state.changed, self.builder.tensor(state.handle).layout) {
                (false, _) => token,
                (true, None) => self.builder.write_state(state.handle, content, token),
                (true, Some(layout)) => {
                    let content = self.builder.with_layout(content, layout);
                    self.builder.write_state(state.handle, content, token)
                }
            });
            outputs.extend(port.name.as_ref().map(|name| Port::new(name, Type::Token)));
        }
        for (name, mut value) in named {
            // A function's input must not be its output.
            if self.builder.is_argument(value) {
                value = self.builder.reshape_copy(value);
            }
            outputs.push(Port::new(&name, self.builder.kind(value).clone()));
            given.push(value);
        }
        Ok(Whole { inputs: self.inputs, outputs, body: self.builder.finish_function(&given) })
    }
}

fn opset_of(function: &mil::Function) -> Lowered<Opset> {
    let opset = Opset::from_name(&function.opset);
    opset.ok_or_else(|| format!("{:?} is not an opset", function.opset).into())
}

/// An axis counted from the front; negative ones count from the end.
fn place(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add(i64::try_from(rank).ok()?)? } else { axis };
    usize::try_from(axis).ok().filter(|axis| *axis < rank)
}
