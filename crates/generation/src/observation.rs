//! Looking at values inside of a package while it runs.

use anemll_codes as codes;
use anemll_mil::{DataType, Symbols, TensorType, ValueType, model};
use anemll_mlpackage::Package;
use anemll_plugin_api::{DType, Error, MemorySink, Result, Sink, Tensor};
use coreml_proto::mil;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Sees values inside of the packages while they are computed.
pub trait Observer: Send {
    /// Names of the values of a function that it wants to see.
    fn taps(&self, package: &Path, function: &str) -> Vec<String>;

    /// One of these values, of a function of a package.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn see(&mut self, package: &Path, function: &str, value: &Tensor) -> Result<()>;
}

/// Shows the operations of functions of packages, by which an observer knows what there is to see.
///
/// # Errors
/// A package that cannot be read, and those of `visit`.
pub fn each_block(
    functions: &[(PathBuf, String)],
    mut visit: impl FnMut(&Path, &str, &mil::Block) -> Result<()>,
) -> Result<()> {
    let invalid =
        |source: anemll_mil::Error| Error::new(codes::PACKAGE_INVALID, source.to_string());
    for (path, function) in functions {
        let package = Package::open(path)?;
        let program = model::program(package.model()).map_err(invalid)?;
        let Some(body) = program.functions.get(function) else { continue };
        visit(path, function, model::block(body).map_err(invalid)?)?;
    }
    Ok(())
}

/// Whether a value is declared as a float16 tensor, and of which type.
pub fn half_type(output: &mil::NamedValueType) -> Option<TensorType> {
    match ValueType::from_proto(output.r#type.as_ref()?, &Symbols::default()).ok()? {
        ValueType::Tensor(kind) if kind.data_type == DataType::Float16 => Some(kind),
        _ => None,
    }
}

/// Names of the values that an operation reads.
pub(crate) fn reads(operation: &mil::Operation) -> impl Iterator<Item = &str> {
    let bindings = operation.inputs.values().flat_map(|argument| &argument.arguments);
    bindings.filter_map(|binding| match &binding.binding {
        Some(mil::argument::binding::Binding::Name(name)) => Some(name.as_str()),
        _ => None,
    })
}

/// Two observers, each with the values that it asked for.
pub struct Both<'a>(pub &'a mut dyn Observer, pub &'a mut dyn Observer);

impl Observer for Both<'_> {
    fn taps(&self, package: &Path, function: &str) -> Vec<String> {
        let mut taps = self.0.taps(package, function);
        taps.extend(self.1.taps(package, function));
        taps.sort_unstable();
        taps.dedup();
        taps
    }

    /// Observers pass over values that they did not ask for.
    fn see(&mut self, package: &Path, function: &str, value: &Tensor) -> Result<()> {
        self.0.see(package, function, value)?;
        self.1.see(package, function, value)
    }
}

/// Keeps a function's outputs, and shows tapped values to an observer without keeping them.
pub(crate) struct ObservingSink<'o> {
    package: &'o Path,
    function: &'o str,
    observer: &'o mut dyn Observer,
    taps: BTreeSet<&'o str>,
    outputs: BTreeSet<&'o str>,
    /// Tensors that are being written, each with its id in a sink of its own.
    open: BTreeMap<u64, (MemorySink, u64)>,
    begun: u64,
    kept: Vec<Tensor>,
}

impl<'o> ObservingSink<'o> {
    pub(crate) fn new(
        (package, function): (&'o Path, &'o str),
        observer: &'o mut dyn Observer,
        taps: &'o [String],
        outputs: impl Iterator<Item = &'o str>,
    ) -> Self {
        Self {
            package,
            function,
            observer,
            taps: taps.iter().map(String::as_str).collect(),
            outputs: outputs.collect(),
            open: BTreeMap::new(),
            begun: 0,
            kept: Vec::new(),
        }
    }

    /// The function's outputs.
    pub(crate) fn into_outputs(self) -> Vec<Tensor> {
        self.kept
    }
}

fn misused() -> Error {
    Error::new(codes::PLUGIN_SINK_MISUSED, "the runtime wrote to a tensor that is not open")
}

impl Sink for ObservingSink<'_> {
    fn begin(&mut self, name: &str, dtype: DType, shape: &[u64]) -> Result<u64> {
        let mut sink = MemorySink::new();
        let inner = sink.begin(name, dtype, shape)?;
        let id = self.begun;
        self.begun += 1;
        self.open.insert(id, (sink, inner));
        Ok(id)
    }

    fn write(&mut self, id: u64, bytes: &[u8]) -> Result<()> {
        let (sink, inner) = self.open.get_mut(&id).ok_or_else(misused)?;
        sink.write(*inner, bytes)
    }

    fn finish(&mut self, id: u64) -> Result<()> {
        let (mut sink, inner) = self.open.remove(&id).ok_or_else(misused)?;
        sink.finish(inner)?;
        for tensor in sink.into_tensors()? {
            if self.taps.contains(tensor.name.as_str()) {
                self.observer.see(self.package, self.function, &tensor)?;
            }
            if self.outputs.contains(tensor.name.as_str()) {
                self.kept.push(tensor);
            }
        }
        Ok(())
    }
}
