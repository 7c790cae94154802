//! Lowering: one operation of MIL after another, each to the operations of Core AI that say the same.

mod elementwise;
mod linear;
mod movement;
mod normalization;
mod places;
mod slices;
mod weights;

use crate::blobs::Blobs;
use crate::failure::Failure;
use crate::reading::{self, Bound, Entries, Entry, Known};
use anemll_aicode::{Block, BlockBuilder, Port, TensorType, Type, Value};
use anemll_mil::ops::Opset;
use anemll_mil::types::{Symbols, ValueType};
use anemll_mil::{Literal, TensorType as MilTensor};
use coreml_proto::mil;
use std::collections::BTreeMap;
use std::collections::HashMap;

pub(crate) type Lowered<T = Value> = Result<T, Failure>;

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
    blobs: &'b mut Blobs<'a>,
    opset: Opset,
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
    /// Begins a function: its states, then its inputs with the given shapes.
    pub(crate) fn begin(
        function: &'a mil::Function,
        shapes: &Shapes,
        blobs: &'b mut Blobs<'a>,
    ) -> Lowered<Self> {
        let opset = Opset::from_name(&function.opset);
        let opset = opset.ok_or_else(|| format!("{:?} is not an opset", function.opset))?;
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
            let kind = Type::State(reading::tensor(tensor)?);
            let name = Some((*name).to_owned());
            ports.push(Port { name: name.clone(), kind, state: name });
        }
        for (name, tensor) in &tensors {
            ports.push(Port::new(name, reading::tensor(tensor)?));
        }
        let builder = anemll_aicode::block(ports.iter().map(|port| port.kind.clone()).collect());
        let mut entries = Entries::new();
        let mut kept = Vec::new();
        for (place, (name, tensor)) in states.iter().enumerate() {
            let handle = builder.argument(place);
            kept.push(State { name, handle, content: None, changed: false });
            let kind = ValueType::State(tensor.clone());
            entries.insert(name, Entry { kind, known: Known::State });
        }
        for (place, (name, tensor)) in tensors.into_iter().enumerate() {
            let known = Known::Computed(builder.argument(states.len() + place));
            entries.insert(name, Entry { kind: tensor.into(), known });
        }
        let made = HashMap::new();
        Ok(Self { builder, entries, made, states: kept, inputs: ports, blobs, opset })
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
        let state = self.state(operation)?;
        if let Some((_, content)) = self.states[state].content {
            return Ok(content);
        }
        let (content, token) = self.builder.read_state(self.states[state].handle);
        self.states[state].content = Some((token, content));
        Ok(content)
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

    /// Ends the function: writes states, gives ports, block and the types of the outputs.
    pub(crate) fn finish(
        mut self,
        outputs: &'a [String],
    ) -> Lowered<(Vec<Port>, Block, Vec<Type>)> {
        let mut given = Vec::new();
        for state in std::mem::take(&mut self.states) {
            let (token, content) = match state.content {
                Some(content) => content,
                None => {
                    let (content, token) = self.builder.read_state(state.handle);
                    (token, content)
                }
            };
            given.push(match state.changed {
                true => self.builder.write_state(state.handle, content, token),
                false => token,
            });
        }
        let mut kinds = Vec::new();
        for name in outputs {
            let mut value = self.value(Bound::Name(name))?;
            // A function's input must not be its output.
            if self.builder.is_argument(value) {
                value = self.builder.reshape_copy(value);
            }
            kinds.push(self.builder.kind(value).clone());
            given.push(value);
        }
        Ok((self.inputs, self.builder.finish_function(&given), kinds))
    }
}

/// An axis counted from the front; negative ones count from the end.
fn place(axis: i64, rank: usize) -> Option<usize> {
    let axis = if axis < 0 { axis.checked_add(i64::try_from(rank).ok()?)? } else { axis };
    usize::try_from(axis).ok().filter(|axis| *axis < rank)
}
