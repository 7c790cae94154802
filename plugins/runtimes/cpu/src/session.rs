//! An open model: checks what comes in, keeps the states, hands out results.

use crate::element::Element;
use crate::interface::{self, InputPort};
use crate::kernels::{Frame, Input, StateValue};
use crate::layout::element_count;
use crate::plan::{ConstantCache, FunctionPlan, Keep, Planner, check_operations};
use crate::shelf::Shelf;
use crate::source::Source;
use crate::storage::{Buffer, Pool};
use crate::tensor::Tensor;
use crate::workers::{Crew, Team};
use anemll_mil::model::{block, program};
use anemll_mil::{DataType, FunctionInterface};
use anemll_plugin_api::data::SessionDescription;
use anemll_plugin_api::{DType, Error, Host, Result, Session, Sink, TensorView, codes};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

/// Bytes of tapped values that are held before they are handed out; in tests a run pauses for each.
const MOST_TAPPED: usize = if cfg!(test) { 1 } else { 1 << 24 };

/// Largest state in bytes; a package that declares more is damaged or hostile.
const LARGEST_STATE: usize = 1 << 38;

/// An open package or compiled model of the cpu runtime.
pub(crate) struct CpuSession {
    source: Arc<Source>,
    shelf: Arc<Shelf>,
    host: Host,
    description: SessionDescription,
    functions: BTreeMap<String, Function>,
    states: Vec<StateValue>,
    state_indices: BTreeMap<String, usize>,
    cache: ConstantCache,
    pool: Pool,
    arithmetic: Arithmetic,
}

/// How values are computed and kept.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Arithmetic {
    /// Whether values declared as float16 are kept in f32.
    pub(crate) wide: bool,
    /// Whether products of packed weights are those of decoded ones, to the bit.
    pub(crate) exact: bool,
}

struct Function {
    interface: FunctionInterface,
    inputs: Vec<InputPort>,
    /// Made at the first run, and again when its weights are decoded.
    plan: Option<FunctionPlan>,
    /// Runs with packed weights that are left.
    packed_runs: u32,
    /// Whether chains of operations run as one: until a value is asked for that is inside of one.
    chains: bool,
}

/// Runs of a function with all weights as they are stored. What is run more often than this, as in a
/// chat, gains more by decoding weights than it takes, where their products need decoded rows.
const PACKED_RUNS: u32 = 4;

fn graph_error(error: &dyn std::fmt::Display) -> Error {
    Error::new(codes::GRAPH_INVALID, error.to_string())
}

impl CpuSession {
    /// Opens a package or a compiled model, and checks that every operation of its functions is
    /// known.
    pub(crate) fn open(
        path: &Path,
        arithmetic: Arithmetic,
        shelf: &Arc<Shelf>,
        host: &Host,
    ) -> Result<Self> {
        let wide = arithmetic.wide;
        let source = shelf.source(path)?;
        let model = source.model();
        let mut functions = BTreeMap::new();
        let mut states: Vec<StateValue> = Vec::new();
        let mut state_indices = BTreeMap::new();
        let known = interface::functions(model)?;
        let interfaces: Vec<FunctionInterface> =
            known.iter().map(|(interface, _)| interface.clone()).collect();
        let mut description = interface::describe(model, &interfaces);
        if wide {
            widen_description(&mut description);
        }
        for (interface, inputs) in known {
            let program = program(model).map_err(|error| graph_error(&error))?;
            let Some(function) = program.functions.get(&interface.name) else {
                return Err(graph_error(&format!("no function `{}`", interface.name)));
            };
            let block = block(function).map_err(|error| graph_error(&error))?;
            check_operations(&interface.name, block)?;
            for port in &interface.states {
                let state = zero_state(port, wide)?;
                match state_indices.get(&port.name) {
                    None => {
                        state_indices.insert(port.name.clone(), states.len());
                        states.push(state);
                    }
                    Some(&index) => {
                        let other: &StateValue = &states[index];
                        if other.element != state.element || other.shape != state.shape {
                            return Err(Error::new(
                                codes::GRAPH_INTERFACE,
                                format!(
                                    "state `{}` is {:?} in one function and {:?} in another",
                                    port.name, other.shape, state.shape
                                ),
                            )
                            .with_at(format!("function `{}`", interface.name)));
                        }
                    }
                }
            }
            let name = interface.name.clone();
            let packed_runs = PACKED_RUNS;
            // What chains compute is rounded to float16 inside of them.
            let chains = !wide;
            functions.insert(name, Function { interface, inputs, plan: None, packed_runs, chains });
        }
        Ok(Self {
            source,
            shelf: Arc::clone(shelf),
            host: host.clone(),
            description,
            functions,
            states,
            state_indices,
            cache: ConstantCache::new(),
            pool: Pool::default(),
            arithmetic,
        })
    }

    /// Plans a function unless that is done, for a run that shows these values.
    fn prepare(&mut self, name: &str, taps: &[&str]) -> Result<()> {
        let Some(entry) = self.functions.get_mut(name) else {
            let known: Vec<&str> = self.functions.keys().map(String::as_str).collect();
            return Err(Error::new(
                codes::FUNCTION_UNKNOWN,
                format!("the model has no function `{name}`"),
            )
            .with_at(self.source.path().display().to_string())
            .with_hint(format!("its functions are {}", known.join(", "))));
        };
        let shows = |plan: &FunctionPlan| taps.iter().any(|tap| plan.packed().contains_key(*tap));
        let mut again = false;
        // Twice where a first plan shows that a value which is asked for is packed.
        loop {
            let shown = entry.plan.as_ref().is_some_and(shows);
            if shown {
                entry.packed_runs = 0;
            }
            let packed = entry.plan.as_ref().map(FunctionPlan::packed);
            let slow = entry.plan.as_ref().is_none_or(FunctionPlan::is_slow);
            let hides = |plan: &FunctionPlan| taps.iter().any(|tap| plan.may_hide(tap));
            let hidden = entry.plan.as_ref().is_some_and(hides);
            if packed.is_some() && !shown && !hidden && (entry.packed_runs > 0 || !slow) {
                break;
            }
            entry.chains &= !hidden;
            let source = Arc::clone(&self.source);
            let program = program(source.model()).map_err(|error| graph_error(&error))?;
            let Some(function) = program.functions.get(name) else {
                return Err(graph_error(&format!("no function `{name}`")));
            };
            let block = block(function).map_err(|error| graph_error(&error))?;
            let packed = match entry.packed_runs {
                0 if shown => Keep::Decoded(packed.cloned().unwrap_or_default()),
                0 => Keep::Fast(packed.cloned().unwrap_or_default()),
                _ => Keep::Packed,
            };
            let mut planner = Planner {
                model: &source,
                shelf: &self.shelf,
                states: &self.state_indices,
                cache: &mut self.cache,
                wide: self.arithmetic.wide,
                exact: self.arithmetic.exact,
                packed,
                chains: entry.chains,
            };
            // An earlier plan holds its weights until then: they are not read again.
            match planner.plan(name, function, block) {
                Ok(plan) => again = entry.plan.replace(plan).is_some(),
                // Decoded weights only make it faster: without the memory, or the files that a few of
                // them are read from once more, it goes on as it was.
                Err(_) if entry.plan.is_some() && !shown => entry.packed_runs = u32::MAX,
                Err(error) => return Err(error),
            }
        }
        entry.packed_runs = entry.packed_runs.saturating_sub(1);
        if again {
            // The others take what was decoded, too, so that nothing is kept in both forms.
            let slow =
                |other: &&mut Function| other.plan.as_ref().is_some_and(FunctionPlan::is_slow);
            let others = self.functions.values_mut().filter(slow);
            let names = others.map(|other| {
                other.packed_runs = 0;
                other.interface.name.clone()
            });
            for other in names.collect::<Vec<_>>() {
                self.prepare(&other, &[])?;
            }
        }
        Ok(())
    }
}

/// Outputs and states as they are in f32; inputs may be as the package describes them.
fn widen_description(description: &mut SessionDescription) {
    for function in &mut description.functions {
        for value in function.outputs.iter_mut().chain(&mut function.states) {
            if value.dtype == DType::FLOAT16 {
                value.dtype = DType::FLOAT32;
            }
        }
    }
}

fn zero_state(port: &anemll_mil::Port, wide: bool) -> Result<StateValue> {
    let refuse = |reason: &str| {
        Err(Error::new(codes::GRAPH_INTERFACE, format!("state `{}` {reason}", port.name)))
    };
    let Some(element) = Element::of(port.data_type) else {
        return refuse("has an element type that the cpu runtime does not have");
    };
    let element = if wide { element.widened() } else { element };
    let sizes = port.shape.iter().map(|size| usize::try_from(size.fixed()?).ok());
    let Some(shape) = sizes.collect::<Option<Vec<usize>>>() else {
        return refuse("has no fixed shape");
    };
    match element_count(&shape).and_then(|count| element.bytes_of(count)) {
        Some(bytes) if bytes <= LARGEST_STATE => {
            Ok(StateValue { element, shape, buffer: Arc::new(Buffer::zeroed(bytes)?) })
        }
        _ => refuse("is too large"),
    }
}

/// The tensors that a run starts from, checked against the function's inputs.
fn read_inputs(
    function: &str,
    ports: &[InputPort],
    plan: &FunctionPlan,
    inputs: &[TensorView<'_>],
    slots: &mut [Option<Tensor>],
    pool: &Pool,
) -> Result<()> {
    let refuse = |name: &str, reason: String| {
        Err(Error::new(codes::INPUT_INVALID, format!("input `{name}` {reason}"))
            .with_at(format!("function `{function}`")))
    };
    let mut given = BTreeSet::new();
    for input in inputs {
        let name = input.name();
        let Some(port) = ports.iter().find(|port| port.name == name) else {
            let known: Vec<&str> = ports.iter().map(|port| port.name.as_str()).collect();
            return refuse(name, format!("is unknown; the inputs are {}", known.join(", ")));
        };
        if !given.insert(name) {
            return refuse(name, "is given twice".to_owned());
        }
        let given_as = DataType::from_name(input.dtype().name()).and_then(Element::of);
        let widened = if plan.is_wide() { port.element.widened() } else { port.element };
        if given_as != Some(port.element) && given_as != Some(widened) {
            return refuse(name, format!("is {}, not {}", input.dtype(), port.element.name()));
        }
        if !port.allowed.accepts(input.shape()) {
            let (shape, allowed) = (input.shape(), port.allowed.text());
            return refuse(name, format!("has the shape {shape:?}, allowed is {allowed}"));
        }
        let shape: Vec<usize> =
            input.shape().iter().filter_map(|&size| usize::try_from(size).ok()).collect();
        let Some(slot) = plan.input(name) else {
            return refuse(name, "is described but not in the program".to_owned());
        };
        let mut buffer = pool.take(input.bytes().len())?;
        buffer.bytes_mut().copy_from_slice(input.bytes());
        let given_as = given_as.unwrap_or(port.element);
        let tensor = Tensor::owned(given_as, &shape, buffer);
        slots[slot] = Some(if given_as == widened { tensor } else { widen(&tensor)? });
    }
    match ports.iter().find(|port| !given.contains(port.name.as_str())) {
        Some(port) => refuse(&port.name, "is missing".to_owned()),
        None => Ok(()),
    }
}

/// A float16 value as f32.
fn widen(tensor: &Tensor) -> Result<Tensor> {
    tensor
        .widened()
        .map_err(|failure| Error::new(codes::RUN_FAILED, failure.to_string()).with_at("inputs"))
}

/// Writes a value to the sink in row-major order.
fn write(sink: &mut dyn Sink, name: &str, value: &Tensor, pool: &Pool) -> Result<()> {
    let value = value
        .contiguous(pool)
        .map_err(|failure| Error::new(codes::RUN_FAILED, failure.to_string()).with_at(name))?;
    let shape: Vec<u64> = value.shape().iter().map(|&size| size as u64).collect();
    let width = value.element.size();
    let (start, length) = (value.layout.offset() * width, value.count() * width);
    let Some(bytes) = value.storage.bytes().get(start..start + length) else {
        return Err(Error::new(codes::INTERNAL, "a value lies outside its buffer").with_at(name));
    };
    let dtype = DType(value.element.data_type().to_proto().unsigned_abs());
    sink.tensor(name, dtype, &shape, bytes)?;
    Ok(())
}

/// The error for a value that the function does not have, with the nearest names.
fn unknown_value(function: &str, plan: &FunctionPlan, name: &str) -> Error {
    let mut near: Vec<(usize, &str)> =
        plan.value_names().map(|known| (strsim::levenshtein(known, name), known)).collect();
    near.sort_unstable();
    let names: Vec<&str> = near.iter().take(3).map(|(_, name)| *name).collect();
    Error::new(codes::VALUE_UNKNOWN, format!("function `{function}` has no value `{name}`"))
        .with_hint(format!("near names: {}", names.join(", ")))
}

impl Session for CpuSession {
    fn describe(&self) -> SessionDescription {
        self.description.clone()
    }

    fn reset(&mut self) -> Result<()> {
        for state in &mut self.states {
            let bytes = state.buffer.bytes().len();
            match Arc::get_mut(&mut state.buffer) {
                Some(buffer) => buffer.bytes_mut().fill(0),
                None => state.buffer = Arc::new(Buffer::zeroed(bytes)?),
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        function: &str,
        inputs: &[TensorView<'_>],
        taps: &[&str],
        outputs: &mut dyn Sink,
    ) -> Result<()> {
        self.prepare(function, taps)?;
        let Some(Function { interface, inputs: ports, plan: Some(plan), .. }) =
            self.functions.get(function)
        else {
            return Err(Error::new(codes::INTERNAL, "a function is not planned"));
        };
        let mut slots = vec![None; plan.slots()];
        read_inputs(function, ports, plan, inputs, &mut slots, &self.pool)?;
        let tapped: Vec<(&str, &Input)> = taps
            .iter()
            .map(|name| match plan.value(name) {
                Some(input) => Ok((*name, input)),
                None => Err(unknown_value(function, plan, name)),
            })
            .collect::<Result<_>>()?;
        let mut written = BTreeSet::new();
        let mut tap_slots: HashMap<usize, Vec<&str>> = HashMap::new();
        for (name, input) in tapped {
            match input {
                _ if !written.insert(name) => {}
                Input::Constant(tensor) => write(outputs, name, tensor, &self.pool)?,
                Input::Slot(slot) => tap_slots.entry(*slot).or_default().push(name),
            }
        }
        let crew = Crew::default();
        let together = self.host.threads() > 1;
        let team = match together {
            true => Team::with_crew(&self.host, &crew),
            false => Team::new(&self.host),
        };
        let states = &mut self.states;
        let mut frame = Frame { slots, states, pool: &self.pool, team: &team };
        let (mut next, mut tapped) = (0, Vec::new());
        let results = loop {
            // Whoever takes the values may want the host's threads, so that the crew must have gone home;
            // and all at once would take the memory of all.
            let mut bytes = 0;
            let mut see = |slot: usize, value: &Tensor| {
                if tap_slots.contains_key(&slot) {
                    bytes += value.count() * value.element.size();
                    tapped.push((slot, value.clone()));
                }
                if bytes < MOST_TAPPED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            };
            let mut run = || plan.run(&mut frame, &mut next, &mut see);
            let ran = if together { crew.run(&self.host, run).flatten() } else { run() };
            for (slot, value) in tapped.drain(..) {
                let names = tap_slots.get(&slot).map(Vec::as_slice).unwrap_or_default();
                names.iter().try_for_each(|name| write(outputs, name, &value, &self.pool))?;
                self.pool.recycle(value.storage);
            }
            if let Some(results) = ran? {
                break results;
            }
        };
        for (name, value) in &results {
            if interface.outputs.iter().any(|port| port.name == *name) && written.insert(*name) {
                write(outputs, name, value, &self.pool)?;
            }
        }
        drop(results);
        for value in frame.slots.into_iter().flatten() {
            self.pool.recycle(value.storage);
        }
        Ok(())
    }
}
