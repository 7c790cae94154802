//! What the tests share: opening, running, and small generated inputs.
#![allow(dead_code, reason = "not every test file uses all of it")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use anemll_plugin_api::data::SessionDescription;
use anemll_plugin_api::{
    DType, Host, HostServices, Level, MemorySink, Result, Runtime, Session, Tensor,
};
use anemll_runtime_cpu::CpuRuntime;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens a package with the cpu runtime on the calling thread.
pub(crate) fn open(path: &Path) -> Result<Box<dyn Session>> {
    CpuRuntime::default().open(path, &Host::quiet())
}

/// Opens a package with a host that runs the calls of one operation on several threads.
pub(crate) fn open_threaded(path: &Path, threads: usize) -> Result<Box<dyn Session>> {
    CpuRuntime::default().open(path, &Host::new(Arc::new(Threads(threads))))
}

struct Threads(usize);

impl HostServices for Threads {
    fn log(&self, _: Level, _: &str, _: &str) {}

    fn progress(&self, _: &str, _: u64, _: u64) -> bool {
        true
    }

    fn cancelled(&self) -> bool {
        false
    }

    fn threads(&self) -> usize {
        self.0
    }

    fn parallel(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            for index in 0..count {
                scope.spawn(move || task(index));
            }
        });
    }

    fn scratch_directory(&self) -> Result<PathBuf> {
        Ok(std::env::temp_dir())
    }
}

/// Runs a function and returns what it wrote.
pub(crate) fn run(
    session: &mut dyn Session,
    function: &str,
    inputs: &[Tensor],
    taps: &[&str],
) -> Result<Vec<Tensor>> {
    let views: Vec<_> = inputs.iter().map(|input| input.view().unwrap()).collect();
    let mut sink = MemorySink::new();
    session.run(function, &views, taps, &mut sink)?;
    sink.into_tensors()
}

/// A tensor of halves.
pub(crate) fn halves(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> =
        values.iter().flat_map(|value| half::f16::from_f32(*value).to_le_bytes()).collect();
    Tensor::new(name, DType::FLOAT16, shape, bytes).unwrap()
}

/// A tensor of int32.
pub(crate) fn integers(name: &str, shape: &[u64], values: &[i32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new(name, DType::INT32, shape, bytes).unwrap()
}

/// The elements of a float tensor.
pub(crate) fn floats(tensor: &Tensor) -> Vec<f32> {
    match tensor.dtype {
        DType::FLOAT16 => {
            let pairs = tensor.bytes.chunks_exact(2);
            pairs.map(|pair| half::f16::from_le_bytes([pair[0], pair[1]]).to_f32()).collect()
        }
        DType::FLOAT32 => {
            let words = tensor.bytes.chunks_exact(4);
            words.map(|word| f32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
        }
        other => panic!("{other} is not a float type that is used here"),
    }
}

/// The output of a name.
pub(crate) fn find<'t>(tensors: &'t [Tensor], name: &str) -> &'t Tensor {
    tensors.iter().find(|tensor| tensor.name == name).unwrap()
}

/// Small deterministic inputs of the shape number `variant` for every input of a function: a
/// causal mask where the name says so, positions from 0, other numbers in [-1, 1).
pub(crate) fn generated(
    description: &SessionDescription,
    function: &str,
    variant: usize,
    position: i32,
) -> Vec<Tensor> {
    let signature = description.functions.iter().find(|f| f.name == function).unwrap();
    signature
        .inputs
        .iter()
        .map(|input| {
            let shape = &input.shapes[variant.min(input.shapes.len() - 1)];
            let count: u64 = shape.iter().product();
            match (input.name.as_str(), input.dtype.name()) {
                ("causal_mask", _) => {
                    let (rows, columns) = (shape[2] as i32, shape[3] as i32);
                    let values: Vec<f32> = (0..rows)
                        .flat_map(|row| {
                            (0..columns).map(move |column| {
                                if column <= position + row { 0.0 } else { f32::NEG_INFINITY }
                            })
                        })
                        .collect();
                    halves(&input.name, shape, &values)
                }
                (_, "int32") => {
                    let values: Vec<i32> = (0..count as i32).map(|i| position + i).collect();
                    integers(&input.name, shape, &values)
                }
                (_, "float16") => halves(&input.name, shape, &wave(count)),
                (_, "float32") => {
                    let bytes: Vec<u8> =
                        wave(count).iter().flat_map(|value| value.to_le_bytes()).collect();
                    Tensor::new(&*input.name, DType::FLOAT32, shape.clone(), bytes).unwrap()
                }
                (name, dtype) => panic!("input {name} of type {dtype}"),
            }
        })
        .collect()
}

fn wave(count: u64) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 % 1009) as f32 / 504.5) - 1.0).collect()
}

/// A folder beside the workspace, if it is there.
pub(crate) fn shared(inner: &str) -> Option<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = here.ancestors().find(|folder| folder.join("Cargo.lock").exists())?;
    let folder = workspace.parent()?.join("shared").join(inner);
    folder.exists().then_some(folder)
}

/// All packages and bare models below a folder, sorted.
pub(crate) fn packages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![folder.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("mlpackage" | "mlmodel") => found.push(path),
                Some("mlmodelc") => {}
                _ if path.is_dir() => open.push(path),
                _ => {}
            }
        }
    }
    found.sort();
    found
}
