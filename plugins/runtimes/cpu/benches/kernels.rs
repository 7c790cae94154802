//! How fast weights of every form are multiplied with a token, and with a batch, beside how fast this
//! machine reads memory: `cargo bench -p anemll-runtime-cpu`.
//!
//! One matrix of 4096 x 4096 for each form, on one thread and on two; medians of nine runs. Bytes are
//! those that are stored: what is decoded for the run counts as it lies in the file.
#![allow(clippy::print_stdout, missing_docs, reason = "a program, not a library")]

#[path = "../examples/threads/mod.rs"]
mod threads;

use anemll_mil::literal::blob_value;
use anemll_mil::{
    DataType, DescriptionOptions, FunctionBuilder, TensorType, ValueType, function_model,
};
use anemll_mlpackage::{BlobType, BlobWriter, WEIGHT_FILE_NAME};
use anemll_plugin_api::{DType, MemorySink, Runtime, Session, Tensor};
use anemll_runtime_cpu::CpuRuntime;
use coreml_proto::mil::argument::{Binding, binding::Binding as Bound};
use coreml_proto::mil::{Argument, NamedValueType, Operation};
use half::f16;
use std::error::Error;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Instant;

const SIZE: u64 = 4096;
/// Output channels that share a table.
const GROUP: u64 = 8;
const BATCH: u64 = 64;
const RUNS: usize = 9;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Random words.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32
    }

    fn halves(&mut self, count: u64) -> Vec<u8> {
        let unit = |word: u32| f16::from_f32(word as f32 / (1_u64 << 31) as f32 - 1.0);
        (0..count).flat_map(|_| unit(self.next()).to_le_bytes()).collect()
    }

    fn bytes(&mut self, count: u64) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// The weight as an operation of its own, where it has tables.
fn palette(writer: &mut BlobWriter, bits: u32, random: &mut Random) -> Outcome<(Operation, u64)> {
    let (kind, blob) = match bits {
        1 => (DataType::UInt1, BlobType::UInt1),
        2 => (DataType::UInt2, BlobType::UInt2),
        3 => (DataType::UInt3, BlobType::UInt3),
        4 => (DataType::UInt4, BlobType::UInt4),
        6 => (DataType::UInt6, BlobType::UInt6),
        _ => (DataType::UInt8, BlobType::UInt8),
    };
    let count = SIZE * SIZE;
    let (indices, entries) = (count * u64::from(bits) / 8, (SIZE / GROUP) << bits);
    let places = [
        writer.append(blob, count, &random.bytes(indices))?.offset,
        writer.append(BlobType::Float16, entries, &random.halves(entries))?.offset,
    ];
    let shapes = [
        TensorType::new(kind, &[SIZE, SIZE]),
        TensorType::new(DataType::Float16, &[SIZE / GROUP, 1, 1 << bits, 1]),
    ];
    let arguments =
        ["indices", "lut"].into_iter().zip(shapes).zip(places).map(|((name, kind), at)| {
            let value = Bound::Value(blob_value(&kind, WEIGHT_FILE_NAME, at));
            (name.to_owned(), Argument { arguments: vec![Binding { binding: Some(value) }] })
        });
    let output = ValueType::Tensor(TensorType::new(DataType::Float16, &[SIZE, SIZE]));
    let operation = Operation {
        r#type: "constexpr_lut_to_dense".to_owned(),
        outputs: vec![NamedValueType { name: "w".to_owned(), r#type: Some(output.to_proto()) }],
        inputs: arguments.collect(),
        ..Default::default()
    };
    Ok((operation, indices + 2 * entries))
}

/// A model that multiplies `x` with one matrix, and the bytes of that; no bits: 16-bit floats.
fn model(folder: &Path, bits: Option<u32>, tokens: u64) -> Outcome<(PathBuf, u64)> {
    let weights = folder.join("weights");
    std::fs::create_dir_all(&weights)?;
    let mut writer = BlobWriter::create(weights.join("weight.bin"))?;
    let mut random = Random(0x5EED_1234_5678_9ABC);
    let mut graph = FunctionBuilder::new();
    let x = graph.input("x", TensorType::new(DataType::Float16, &[1, tokens, SIZE]))?;
    let dense = writer.append(BlobType::Float16, SIZE * SIZE, &random.halves(SIZE * SIZE))?.offset;
    let kind = TensorType::new(DataType::Float16, &[SIZE, SIZE]);
    let w = graph.constant(Some("w"), blob_value(&kind, WEIGHT_FILE_NAME, dense))?;
    let y = graph.linear(x, w, None)?;
    let mut function = function_model(graph.finish(&[y])?, &DescriptionOptions::default())?;
    let mut bytes = 2 * SIZE * SIZE;
    if let Some(bits) = bits {
        let (made, stored) = palette(&mut writer, bits, &mut random)?;
        let Some(coreml_proto::model::Type::MlProgram(program)) = &mut function.r#type else {
            return Err("the generated model has no program".into());
        };
        let blocks =
            program.functions.values_mut().flat_map(|f| f.block_specializations.values_mut());
        for operation in blocks.flat_map(|block| &mut block.operations) {
            if operation.outputs.first().is_some_and(|output| output.name == "w") {
                *operation = made.clone();
            }
        }
        bytes = stored;
    }
    writer.finish()?;
    let path = folder.join("model.mlmodel");
    std::fs::write(&path, coreml_proto::write(&function))?;
    Ok((path, bytes))
}

/// Median seconds of a run.
fn seconds(session: &mut dyn Session, tokens: u64) -> Outcome<f64> {
    let bytes = Random(7).halves(tokens * SIZE);
    let x = Tensor::new("x", DType::FLOAT16, [1, tokens, SIZE], bytes)?;
    let mut times = Vec::new();
    // The first runs plan, and decode what is not multiplied as it is stored.
    for run in 0..RUNS + 6 {
        let start = Instant::now();
        session.run("main", &[x.view()?], &[], &mut MemorySink::new())?;
        if run >= 6 {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    times.sort_by(f64::total_cmp);
    Ok(times[RUNS / 2])
}

/// Bytes that one thread reads in a second.
fn bandwidth() -> f64 {
    let words = vec![1_u64; 1 << 25];
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            black_box(words.iter().fold(0_u64, |sum, word| sum.wrapping_add(*word)));
            start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    size_of_val(&*words) as f64 / times[RUNS / 2]
}

fn main() -> Outcome<()> {
    let read = bandwidth();
    println!("this machine reads {:.1} GB/s on one thread", read / 1e9);
    for threads in [1, 2] {
        let host = threads::host(threads)?;
        for tokens in [1, BATCH] {
            println!(
                "\n{threads} threads, {tokens} tokens   10^9 products/s   GB/s stored   of reading"
            );
            for bits in [None, Some(1), Some(2), Some(3), Some(4), Some(6), Some(8)] {
                let folder = tempfile::tempdir()?;
                let (path, bytes) = model(folder.path(), bits, tokens)?;
                let time = seconds(&mut *CpuRuntime::default().open(&path, &host)?, tokens)?;
                let products = (SIZE * SIZE * tokens) as f64 / time;
                let stored = bytes as f64 / time;
                let name = bits.map_or("fp16".to_owned(), |bits| format!("{bits} bits"));
                println!(
                    "{name:>20} {:17.2} {:13.2} {:11.0} %",
                    products / 1e9,
                    stored / 1e9,
                    100.0 * stored / read
                );
            }
        }
    }
    Ok(())
}
