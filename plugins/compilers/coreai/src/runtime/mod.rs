//! Runtime that lowers packages to Core AI assets and has Apple's package for Python run them: a second opinion on
//! both. It is slow; a token of a model of 135 million parameters takes seconds.

mod child;

use crate::PRODUCER;
use anemll_coreai::Interface;
use anemll_mil::Port;
use anemll_mlpackage::Package;
use anemll_plugin_api::data::{Availability, FunctionSignature, SessionDescription, ValueInfo};
use anemll_plugin_api::{
    DType, Error, Host, Level, Result, Runtime, Session, Sink, TensorView, codes,
};
use child::{Asked, Head, Runner, Shared};
use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The runtime's id.
pub(crate) const ID: &str = "coreai-python";

/// Names the Python that has Apple's package, where the option does not.
pub(crate) const VARIABLE: &str = "ANEMLL_COREAI_PYTHON";

/// The Python that is tried where nothing names one: there are builds for this version alone.
const USUAL: &str = "python3.11";

const HINT: &str = "coreai-core 1.0.0b3 needs Python 3.11, on Linux or a Mac: make a virtual environment, install it there, and \
                    name its Python in ANEMLL_COREAI_PYTHON";

/// Longest version that is read.
const LONGEST_VERSION: u64 = 100;

/// Says how many seconds an answer may take, where the option does not.
pub(crate) const TIMEOUT: &str = "ANEMLL_COREAI_TIMEOUT";

/// Names the unit that assets run on, where the option does not.
const UNIT: &str = "ANEMLL_COREAI_UNIT";

/// Units that can be named.
const UNITS: [&str; 3] = ["cpu", "gpu", "neural-engine"];

/// How long an answer may take where nothing is said, in seconds.
const PATIENCE: u64 = 600;

/// How long a Python may take to say which package it has.
const GREETING: Duration = Duration::from_secs(60);

/// The seconds that [`TIMEOUT`] says.
fn seconds_of(said: &str) -> Result<u64> {
    let seconds = said.trim().parse().ok().filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| {
        let text = format!("{TIMEOUT} must be a number of seconds from 1 on, not {said:?}");
        Error::new(codes::PLUGIN_OPTION_INVALID, text).with_at(TIMEOUT)
    })
}

/// The runtime.
#[derive(Debug, Clone)]
pub struct PythonRuntime {
    python: String,
    limit: Duration,
    unit: Option<String>,
}

impl PythonRuntime {
    /// The runtime with this Python, or that of the environment; an answer may take so many seconds, or
    /// as many as the environment says. On a Mac a unit may be named: `cpu`, `gpu` or `neural-engine`.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] where the environment says no number of seconds, or another unit.
    pub fn new(python: Option<&str>, seconds: Option<u64>, unit: Option<&str>) -> Result<Self> {
        let named = python.filter(|python| !python.is_empty()).map(str::to_owned);
        let python = named.or_else(|| std::env::var(VARIABLE).ok()).unwrap_or_else(|| USUAL.into());
        let seconds = match (seconds, std::env::var(TIMEOUT)) {
            (Some(seconds), _) => seconds,
            (None, Ok(said)) => seconds_of(&said)?,
            (None, Err(_)) => PATIENCE,
        };
        let unit = unit.map(str::to_owned).or_else(|| std::env::var(UNIT).ok());
        if let Some(unknown) = unit.as_deref().filter(|unit| !UNITS.contains(unit)) {
            let text = format!("{UNIT} must be one of {}, not {unknown:?}", UNITS.join(", "));
            return Err(Error::new(codes::PLUGIN_OPTION_INVALID, text).with_at(UNIT));
        }
        Ok(Self { python, limit: Duration::from_secs(seconds), unit })
    }

    /// The version of Apple's package that the Python has; nothing where it does not say.
    fn version(&self, limit: Duration) -> Option<String> {
        let mut child = Command::new(&self.python)
            .args(["-c", "from importlib.metadata import version; print(version('coreai-core'))"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let says = child.stdout.take()?;
        let child = Shared::new(child);
        let mut said = String::new();
        let (read, late) =
            child.within(limit, || says.take(LONGEST_VERSION).read_to_string(&mut said));
        child.end();
        let said = said.trim();
        (read.is_ok() && !late && !said.is_empty()).then(|| said.to_owned())
    }
}

impl Runtime for PythonRuntime {
    fn check(&self) -> Result<Availability> {
        Ok(match self.version(GREETING) {
            Some(version) => Availability::yes(format!("coreai-core {version} of {}", self.python)),
            None => Availability::no(format!("{} has no coreai-core; {HINT}", self.python)),
        })
    }

    fn open(&self, package: &Path, host: &Host) -> Result<Box<dyn Session>> {
        let available = self.check()?;
        if !available.available {
            let text = format!("{} has no coreai-core", self.python);
            return Err(Error::new(codes::RUNTIME_UNAVAILABLE, text).with_hint(HINT));
        }
        Ok(Box::new(PythonSession::open(self, package, host)?))
    }
}

/// A folder that goes when it is not needed any more.
struct Folder(PathBuf);

impl Folder {
    fn new(host: &Host) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("coreai-{}-{number}", std::process::id());
        let path = host.scratch_directory()?.join(name);
        std::fs::create_dir_all(&path).map_err(|error| {
            Error::new(codes::SCRATCH_DIRECTORY, "a scratch folder cannot be made")
                .with_at(path.display().to_string())
                .with_source(&error)
        })?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Only a scratch folder, which goes with the program at the latest.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// An open package.
struct PythonSession {
    description: SessionDescription,
    runner: Runner,
    /// Goes after the process that reads from it.
    _folder: Folder,
}

impl PythonSession {
    fn open(runtime: &PythonRuntime, package: &Path, host: &Host) -> Result<Self> {
        let folder = Folder::new(host)?;
        let asset = folder.0.join("package.aimodel");
        let description = describe(package)?;
        let made = anemll_coreai::compile(package, &asset, PRODUCER, Interface::Package)?;
        host.log(
            Level::Debug,
            ID,
            &format!("{}: {}", package.display(), made.functions.join(", ")),
        );
        let what = (asset.as_path(), runtime.unit.as_deref());
        let runner = Runner::start(&runtime.python, what, &folder.0, runtime.limit)?;
        Ok(Self { description, runner, _folder: folder })
    }
}

fn describe(package: &Path) -> Result<SessionDescription> {
    let package = Package::open(package)?;
    let interfaces = anemll_mil::interface(package.model())
        .map_err(|error| Error::new(codes::GRAPH_INTERFACE, error.to_string()))?;
    let value = |port: &Port| {
        let dtype = DType::from_name(port.data_type.name()).unwrap_or(DType::named("unknown"));
        ValueInfo::new(port.name.clone(), dtype, port.shapes.clone())
    };
    let values = |ports: &[Port]| ports.iter().map(value).collect::<Vec<_>>();
    let functions = interfaces.iter().map(|one| {
        FunctionSignature::new(one.name.clone())
            .with_inputs(values(&one.inputs))
            .with_outputs(values(&one.outputs))
            .with_states(values(&one.states))
    });
    let description = package.model().description.clone().unwrap_or_default();
    let default = match description.functions.as_slice() {
        [] => interfaces.first().map(|one| one.name.clone()),
        _ => Some(description.default_function_name).filter(|name| !name.is_empty()),
    };
    let metadata = description.metadata.unwrap_or_default().user_defined.into_iter().collect();
    Ok(SessionDescription::default()
        .with_functions(functions.collect())
        .with_default_function(default)
        .with_metadata(metadata))
}

/// Checks the inputs, since a wrong one would end the process; gives the name of the asset's function, which says
/// the shape of an input that has another than its default one.
fn function_for(function: &FunctionSignature, inputs: &[TensorView<'_>]) -> Result<String> {
    let refuse = |name: &str, reason: String| {
        Err(Error::new(codes::INPUT_INVALID, format!("input `{name}` {reason}"))
            .with_at(format!("function `{}`", function.name)))
    };
    let mut name = function.name.clone();
    let mut given = BTreeSet::new();
    for input in inputs {
        let Some(port) = function.inputs.iter().find(|port| port.name == input.name()) else {
            return refuse(input.name(), "is unknown".to_owned());
        };
        if !given.insert(input.name()) {
            return refuse(input.name(), "is given twice".to_owned());
        }
        if input.dtype() != port.dtype {
            return refuse(input.name(), format!("is {}, not {}", input.dtype(), port.dtype));
        }
        match port.shapes.iter().position(|shape| shape == input.shape()) {
            Some(0) => {}
            Some(_) => {
                let sizes: Vec<String> = input.shape().iter().map(u64::to_string).collect();
                name = format!("{name}_{}", sizes.join("x"));
            }
            None => {
                let (shape, allowed) = (input.shape(), &port.shapes);
                return refuse(input.name(), format!("has the shape {shape:?}, not {allowed:?}"));
            }
        }
    }
    match function.inputs.iter().find(|port| !given.contains(port.name.as_str())) {
        Some(port) => refuse(&port.name, "is missing".to_owned()),
        None => Ok(name),
    }
}

impl Session for PythonSession {
    fn describe(&self) -> SessionDescription {
        self.description.clone()
    }

    fn reset(&mut self) -> Result<()> {
        self.runner.ask(&Asked { reset: true, ..Asked::default() }, &[]).map(drop)
    }

    fn run(
        &mut self,
        function: &str,
        inputs: &[TensorView<'_>],
        taps: &[&str],
        outputs: &mut dyn Sink,
    ) -> Result<()> {
        let functions = &self.description.functions;
        let Some(signature) = functions.iter().find(|known| known.name == function) else {
            let known: Vec<&str> = functions.iter().map(|known| known.name.as_str()).collect();
            let text = format!("the model has no function `{function}`");
            return Err(Error::new(codes::FUNCTION_UNKNOWN, text)
                .with_hint(format!("its functions are {}", known.join(", "))));
        };
        if let Some(tap) = taps.first() {
            let text = format!("the runtime `{ID}` shows no inner values such as `{tap}`");
            return Err(
                Error::new(codes::VALUE_UNKNOWN, text).with_hint("--runtime cpu shows them")
            );
        }
        let name = function_for(signature, inputs)?;
        let heads = inputs.iter().map(|input| Head {
            name: input.name().to_owned(),
            dtype: input.dtype().name().to_owned(),
            shape: input.shape().to_vec(),
            bytes: input.bytes().len(),
        });
        let asked = Asked { reset: false, function: &name, inputs: heads.collect() };
        let parts: Vec<&[u8]> = inputs.iter().map(TensorView::bytes).collect();
        for (head, bytes) in self.runner.ask(&asked, &parts)? {
            let dtype = DType::from_name(&head.dtype).ok_or_else(|| {
                let text = format!("output `{}` is of the type {}", head.name, head.dtype);
                Error::new(codes::RUN_FAILED, text)
            })?;
            outputs.tensor(&head.name, dtype, &head.shape, &bytes)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature() -> FunctionSignature {
        let ids = ValueInfo::new("input_ids", DType::INT32, vec![vec![1, 1], vec![1, 4]]);
        FunctionSignature::new("main").with_inputs(vec![ids])
    }

    #[test]
    fn shapes_choose_the_function_and_what_does_not_fit_is_refused() {
        let bytes = [0; 16];
        let view = |name: &'static str, dtype, shape: &'static [u64]| {
            let count: u64 = shape.iter().product();
            TensorView::new(name, dtype, shape, &bytes[..count as usize * 4]).unwrap()
        };
        let called = |input| function_for(&signature(), &[input]);
        assert_eq!(called(view("input_ids", DType::INT32, &[1, 1])).unwrap(), "main");
        assert_eq!(called(view("input_ids", DType::INT32, &[1, 4])).unwrap(), "main_1x4");
        for wrong in [
            view("input_ids", DType::INT32, &[1, 2]),
            view("input_ids", DType::INT32, &[4]),
            view("input_ids", DType::FLOAT32, &[1, 1]),
            view("other", DType::INT32, &[1, 1]),
        ] {
            assert_eq!(called(wrong).unwrap_err().code, codes::INPUT_INVALID);
        }
        assert_eq!(function_for(&signature(), &[]).unwrap_err().code, codes::INPUT_INVALID);
    }

    #[test]
    fn seconds_are_a_number_from_one_on() {
        assert_eq!(seconds_of(" 90 ").unwrap(), 90);
        for other in ["", "0", "-1", "1.5", "ten"] {
            assert_eq!(
                seconds_of(other).unwrap_err().code,
                codes::PLUGIN_OPTION_INVALID,
                "{other}"
            );
        }
    }

    #[test]
    fn a_python_without_the_package_is_not_available() {
        let missing =
            PythonRuntime::new(Some("no-such-python"), None, None).unwrap().check().unwrap();
        assert!(!missing.available && missing.reason.contains(VARIABLE), "{missing:?}");
    }
}
