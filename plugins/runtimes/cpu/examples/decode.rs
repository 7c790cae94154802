//! Writes what the runtime makes of constexpr operations: `decode PACKAGES OUTPUT`.
//!
//! For every .mlpackage below PACKAGES, every function, and every output of an operation
//! `constexpr_…`, the value that a run sees goes to `OUTPUT/PACKAGE/FUNCTION/NAME.npy`, byte by byte.
//! `tests/witness/palettes.py` compares these with its own decoding.

use anemll_mil::DataType;
use anemll_mlpackage::Package;
use anemll_plugin_api::{Host, MemorySink, Runtime, Tensor};
use anemll_runtime_cpu::CpuRuntime;
use std::error::Error;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [packages, output] = &arguments[..] else {
        return Err("usage: decode PACKAGES OUTPUT".into());
    };
    let mut found = Vec::new();
    find(packages, &mut found)?;
    for package in &found {
        let name = package.strip_prefix(packages)?;
        decode(package, &output.join(name))
            .map_err(|error| format!("{}: {error}", package.display()))?;
    }
    Ok(())
}

/// All packages below a folder.
fn find(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "mlpackage") {
            found.push(path);
        } else if path.is_dir() {
            find(&path, found)?;
        }
    }
    Ok(())
}

fn decode(path: &Path, output: &Path) -> Result<(), Box<dyn Error>> {
    let package = Package::open(path)?;
    let program = anemll_mil::model::program(package.model())?;
    let mut session = CpuRuntime::default().open(path, &Host::quiet())?;
    for function in session.describe().functions {
        let Some(block) = program
            .functions
            .get(&function.name)
            .and_then(|found| found.block_specializations.get(&found.opset))
        else {
            return Err(format!("no function `{}`", function.name).into());
        };
        let taps: Vec<&str> = block
            .operations
            .iter()
            .filter(|operation| anemll_mil::ops::is_constexpr(&operation.r#type))
            .flat_map(|operation| operation.outputs.iter().map(|value| value.name.as_str()))
            .collect();
        // Zeros are inputs as good as any: constants do not depend on them.
        let inputs: Vec<Tensor> = function
            .inputs
            .iter()
            .map(|input| {
                let dtype = input.dtype;
                let shape = input.shapes.first().ok_or("an input without a shape")?.clone();
                let bits = u64::from(dtype.bits().ok_or("an input of text")?);
                let bytes = usize::try_from(shape.iter().product::<u64>() * bits / 8)?;
                Ok(Tensor::new(&*input.name, dtype, shape, vec![0; bytes])?)
            })
            .collect::<Result<_, Box<dyn Error>>>()?;
        let views = inputs.iter().map(Tensor::view).collect::<Result<Vec<_>, _>>()?;
        let mut sink = MemorySink::new();
        session.run(&function.name, &views, &taps, &mut sink)?;
        let folder = output.join(&function.name);
        std::fs::create_dir_all(&folder)?;
        for tensor in sink.into_tensors()?.iter().filter(|tensor| taps.contains(&&*tensor.name)) {
            std::fs::write(folder.join(format!("{}.npy", tensor.name)), npy(tensor)?)?;
        }
    }
    Ok(())
}

/// A tensor in numpy's format, version 1.
fn npy(tensor: &Tensor) -> Result<Vec<u8>, Box<dyn Error>> {
    let number = i32::try_from(tensor.dtype.0)?;
    let kind = match DataType::from_proto(number) {
        Ok(DataType::Float16) => "<f2",
        Ok(DataType::Float32) => "<f4",
        _ => return Err(format!("`{}` is {}", tensor.name, tensor.dtype.name()).into()),
    };
    let shape: String = tensor.shape.iter().map(|size| format!("{size},")).collect();
    let mut header =
        format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}").into_bytes();
    // The data begin at a multiple of 64.
    header.resize((header.len() + 11).next_multiple_of(64) - 11, b' ');
    header.push(b'\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(header.len())?.to_le_bytes());
    file.extend(header);
    file.extend(&tensor.bytes);
    Ok(file)
}
