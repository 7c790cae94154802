//! Prints tokens per second of `infer` and `prefill`: of the package that is named, or of a
//! generated model of the shape of SmolLM2-135M with random weights. With a number of threads only
//! with so many, and with the name of a function only of that one.
//!
//! `cargo run --release -p anemll-runtime-cpu --example runtime_speed [PACKAGE [THREADS [FUNCTION]]]`
#![allow(clippy::print_stdout, missing_docs, reason = "a program, not a library")]

mod threads;

use anemll_mil::{
    DataType, DescriptionOptions, FunctionBuilder, TensorType, Var, combine_functions,
    function_model, validate_resolved,
};
use anemll_mlpackage::{
    BlobFile, BlobType, BlobWriter, WEIGHT_FILE_NAME, WeightsSource, WriteOptions, write_package,
};
use anemll_plugin_api::data::FunctionSignature;
use anemll_plugin_api::{DType, MemorySink, Runtime, Session, Tensor};
use anemll_runtime_cpu::CpuRuntime;
use coreml_proto::mil::value::Value as Place;
use half::f16;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

const HIDDEN: u64 = 576;
const INTERMEDIATE: u64 = 1536;
const LAYERS: u64 = 30;
const HEADS: u64 = 9;
const GROUPS: u64 = 3;
const HEAD: u64 = 64;
const VOCABULARY: u64 = 49152;
const SPLITS: u64 = 8;
const CONTEXT: u64 = 512;
const BATCH: u64 = 64;

type Outcome<T> = Result<T, Box<dyn Error>>;

/// Weights that are written the first time they are asked for.
struct Weights {
    writer: BlobWriter,
    known: std::collections::HashMap<String, u64>,
    seed: u64,
}

impl Weights {
    /// The offset of a weight of this name, with random values of the given deviation.
    fn offset(&mut self, name: &str, count: u64, deviation: f32) -> Outcome<u64> {
        if let Some(offset) = self.known.get(name) {
            return Ok(*offset);
        }
        let mut bytes = Vec::with_capacity(count as usize * 2);
        for _ in 0..count {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            let unit = (self.seed >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
            bytes.extend(f16::from_f32(unit * deviation).to_le_bytes());
        }
        let offset = self.writer.append(BlobType::Float16, count, &bytes)?.offset;
        self.known.insert(name.to_owned(), offset);
        Ok(offset)
    }
}

/// One function being built: the graph that ANEMLL's llama converter makes.
struct Graph<'a> {
    builder: FunctionBuilder,
    weights: &'a mut Weights,
    tokens: u64,
}

impl Graph<'_> {
    fn weight(&mut self, name: &str, shape: &[u64], deviation: f32) -> Outcome<Var> {
        let offset = self.weights.offset(name, shape.iter().product(), deviation)?;
        let kind = TensorType::new(DataType::Float16, shape);
        let value = anemll_mil::literal::blob_value(&kind, WEIGHT_FILE_NAME, offset);
        debug_assert!(matches!(value.value, Some(Place::BlobFileValue(_))));
        Ok(self.builder.constant(Some(name), value)?)
    }

    fn project(&mut self, x: Var, name: &str, outputs: u64, inputs: u64) -> Outcome<Var> {
        let deviation = 1.7 / (inputs as f32).sqrt();
        let weight = self.weight(name, &[outputs, inputs, 1, 1], deviation)?;
        Ok(self.builder.conv1x1(x, weight, None)?)
    }

    /// (1, T, H) to (1, H, 1, T).
    fn channels_of(&mut self, x: Var) -> Outcome<Var> {
        let turned = self.builder.transpose(x, &[0, 2, 1])?;
        Ok(self.builder.expand_dims(turned, &[2])?)
    }

    /// (1, H, 1, T) to (1, T, H).
    fn tokens_of(&mut self, x: Var) -> Outcome<Var> {
        let flat = self.builder.squeeze(x, &[2])?;
        Ok(self.builder.transpose(flat, &[0, 2, 1])?)
    }

    fn norm(&mut self, x: Var, name: &str) -> Outcome<Var> {
        let minus = self.builder.scalar_f16(-1.0)?;
        let negative = self.builder.mul(x, minus)?;
        let both = self.builder.concat(&[x, negative], -1)?;
        let normed = self.builder.layer_norm(both, &[-1], 1e-5)?;
        let tokens = self.tokens as i32;
        let half = self.builder.slice_by_index(
            normed,
            &[0, 0, 0],
            &[1, tokens, HIDDEN as i32],
            &[false; 3],
            &[true, true, false],
        )?;
        let gain = self.weight(name, &[HIDDEN], 1.0)?;
        Ok(self.builder.mul(half, gain)?)
    }

    fn rotate(&mut self, x: Var, heads: u64, cos: Var, sin: Var) -> Outcome<Var> {
        let (heads, tokens) = (heads as i32, self.tokens as i32);
        let (half, whole) = ((HEAD / 2) as i32, HEAD as i32);
        let builder = &mut self.builder;
        let open = [true, true, true, false];
        let low =
            builder.slice_by_index(x, &[0; 4], &[1, heads, tokens, half], &[false; 4], &open)?;
        let high = builder.slice_by_index(
            x,
            &[0, 0, 0, half],
            &[1, heads, tokens, whole],
            &[false; 4],
            &[true; 4],
        )?;
        let a = builder.mul(low, cos)?;
        let b = builder.mul(high, sin)?;
        let c = builder.mul(high, cos)?;
        let d = builder.mul(low, sin)?;
        let first = builder.sub(a, b)?;
        let second = builder.add(c, d)?;
        Ok(builder.concat(&[first, second], -1)?)
    }

    /// (1, heads * D, 1, T) to (1, heads, T, D).
    fn split_heads(&mut self, x: Var, heads: u64) -> Outcome<Var> {
        let (heads, head, tokens) = (heads as i64, HEAD as i64, self.tokens as i64);
        let split = self.builder.reshape(x, &[1, heads, head, tokens])?;
        Ok(self.builder.transpose(split, &[0, 1, 3, 2])?)
    }

    fn store(&mut self, state: Var, row: u64, value: Var, position: Var) -> Outcome<()> {
        let builder = &mut self.builder;
        let cache = builder.read_state(state)?;
        let count = builder.vector_i32(&[self.tokens as i32])?;
        let end = builder.add(position, count)?;
        let (zero, first) = (builder.vector_i32(&[0])?, builder.vector_i32(&[row as i32])?);
        let next = builder.vector_i32(&[row as i32 + 1])?;
        let begin = builder.concat(&[first, zero, position, zero], 0)?;
        let end = builder.concat(&[next, zero, end, zero], 0)?;
        let mask = [false, true, false, true];
        let updated = builder.slice_update(cache, value, begin, end, &[false; 4], &mask)?;
        builder.write_state(state, updated)?;
        Ok(())
    }

    /// The cache of one row, a copy per query head: (1, heads, C, D).
    fn load(&mut self, cache: Var, row: u64) -> Outcome<Var> {
        let builder = &mut self.builder;
        let (groups, context, head) = (GROUPS as i32, CONTEXT as i32, HEAD as i32);
        let row = row as i32;
        let own = builder.slice_by_index(
            cache,
            &[row, 0, 0, 0],
            &[row + 1, groups, context, head],
            &[false; 4],
            &[false, true, true, true],
        )?;
        let own = builder.squeeze(own, &[0])?;
        let own = builder.expand_dims(own, &[1])?;
        let copies = builder.tile(own, &[1, (HEADS / GROUPS) as i32, 1, 1])?;
        Ok(builder.reshape(copies, &[1, HEADS as i64, CONTEXT as i64, HEAD as i64])?)
    }

    fn attention(&mut self, x: Var, layer: u64, shared: &Shared) -> Outcome<Var> {
        let name = |part: &str| format!("layer_{layer}_{part}");
        let channels = self.channels_of(x)?;
        let query = self.project(channels, &name("q"), HEADS * HEAD, HIDDEN)?;
        let key = self.project(channels, &name("k"), GROUPS * HEAD, HIDDEN)?;
        let value = self.project(channels, &name("v"), GROUPS * HEAD, HIDDEN)?;
        let query = self.split_heads(query, HEADS)?;
        let key = self.split_heads(key, GROUPS)?;
        let value = self.split_heads(value, GROUPS)?;
        let query = self.rotate(query, HEADS, shared.cos, shared.sin)?;
        let key = self.rotate(key, GROUPS, shared.cos, shared.sin)?;
        self.store(shared.state, layer, key, shared.position)?;
        self.store(shared.state, layer + LAYERS, value, shared.position)?;
        let cache = self.builder.read_state(shared.state)?;
        let keys = self.load(cache, layer)?;
        let values = self.load(cache, layer + LAYERS)?;
        let builder = &mut self.builder;
        let scores = builder.matmul(query, keys, false, true)?;
        let scale = builder.scalar_f16(0.125)?;
        let scores = builder.mul(scores, scale)?;
        let scores = builder.add(scores, shared.mask)?;
        let largest = builder.reduce_max(scores, &[-1], true)?;
        let scores = builder.sub(scores, largest)?;
        let scores = builder.exp(scores)?;
        let total = builder.reduce_sum(scores, &[-1], true)?;
        let scores = builder.real_div(scores, total)?;
        let mixed = builder.matmul(scores, values, false, false)?;
        let mixed = builder.transpose(mixed, &[0, 2, 1, 3])?;
        let mixed = builder.reshape(mixed, &[1, self.tokens as i64, HIDDEN as i64])?;
        let weight = self.weight(&name("o"), &[HIDDEN, HIDDEN], 0.07)?;
        Ok(self.builder.linear(mixed, weight, None)?)
    }

    fn mlp(&mut self, x: Var, layer: u64) -> Outcome<Var> {
        let name = |part: &str| format!("layer_{layer}_{part}");
        let channels = self.channels_of(x)?;
        let gate = self.project(channels, &name("gate"), INTERMEDIATE, HIDDEN)?;
        let up = self.project(channels, &name("up"), INTERMEDIATE, HIDDEN)?;
        let gate = self.builder.silu(gate)?;
        let product = self.builder.mul(gate, up)?;
        let down = self.project(product, &name("down"), HIDDEN, INTERMEDIATE)?;
        self.tokens_of(down)
    }

    fn rope(&mut self, name: &str, positions: Var) -> Outcome<Var> {
        let table = self.weight(name, &[1, CONTEXT, HEAD / 2], 1.0)?;
        let rows = self.builder.gather(table, positions, 1)?;
        let shape = [1, 1, self.tokens as i64, (HEAD / 2) as i64];
        Ok(self.builder.reshape(rows, &shape)?)
    }
}

struct Shared {
    state: Var,
    position: Var,
    mask: Var,
    cos: Var,
    sin: Var,
}

fn function(weights: &mut Weights, tokens: u64, head: bool) -> Outcome<coreml_proto::Model> {
    let mut graph = Graph { builder: FunctionBuilder::new(), weights, tokens };
    let integers = |shape: &[u64]| TensorType::new(DataType::Int32, shape);
    let halves = |shape: &[u64]| TensorType::new(DataType::Float16, shape);
    let identifiers = graph.builder.input("input_ids", integers(&[1, tokens]))?;
    let positions = graph.builder.input("position_ids", integers(&[tokens]))?;
    let mask = graph.builder.input("causal_mask", halves(&[1, 1, tokens, CONTEXT]))?;
    let position = graph.builder.input("current_pos", integers(&[1]))?;
    let shape = [2 * LAYERS, GROUPS, CONTEXT, HEAD];
    let state = graph.builder.state("model_model_kv_cache_0", halves(&shape))?;
    let (cos, sin) = (graph.rope("cos", positions)?, graph.rope("sin", positions)?);
    let shared = Shared { state, position, mask, cos, sin };
    let table = graph.weight("embedding", &[VOCABULARY, HIDDEN], 1.0)?;
    let mut x = graph.builder.gather(table, identifiers, 0)?;
    for layer in 0..LAYERS {
        let normed = graph.norm(x, &format!("layer_{layer}_first_norm"))?;
        let mixed = graph.attention(normed, layer, &shared)?;
        x = graph.builder.add(x, mixed)?;
        if layer + 1 == LAYERS && !head {
            break;
        }
        let normed = graph.norm(x, &format!("layer_{layer}_second_norm"))?;
        let transformed = graph.mlp(normed, layer)?;
        x = graph.builder.add(x, transformed)?;
    }
    let mut outputs = Vec::new();
    if head {
        let normed = graph.norm(x, "last_norm")?;
        let channels = graph.channels_of(normed)?;
        for split in 0..SPLITS {
            let name = format!("head_{split}");
            let logits = graph.project(channels, &name, VOCABULARY / SPLITS, HIDDEN)?;
            let logits = graph.tokens_of(logits)?;
            graph.builder.name_value(logits, &format!("logits{}", split + 1))?;
            outputs.push(logits);
        }
    } else {
        graph.builder.name_value(x, "output_hidden_states")?;
        outputs.push(x);
    }
    let function = graph.builder.finish(&outputs)?;
    Ok(function_model(function, &DescriptionOptions::default())?)
}

/// Writes the generated model as a package into a folder.
fn generate(folder: &Path) -> Outcome<PathBuf> {
    let weight_path = folder.join("weight.bin");
    let mut weights = Weights {
        writer: BlobWriter::create(&weight_path)?,
        known: Default::default(),
        seed: 0x5EED_1234_5678_9ABC,
    };
    let infer = function(&mut weights, 1, true)?;
    let prefill = function(&mut weights, BATCH, false)?;
    weights.writer.finish()?;
    let functions = [("infer", infer), ("prefill", prefill)];
    let model = combine_functions(&functions, "infer", "speed", &Default::default())?;
    let checked = validate_resolved(model, &BlobFile::open(&weight_path)?)?;
    let path = folder.join("speed.mlpackage");
    let source = WeightsSource::HardLink(&weight_path);
    write_package(&path, &checked, source, &WriteOptions::default())?;
    Ok(path)
}

/// Inputs of the default shapes, at a position of the sequence.
fn inputs(signature: &FunctionSignature, position: i32) -> Outcome<Vec<Tensor>> {
    let mut tensors = Vec::new();
    for input in &signature.inputs {
        let shape = input.shapes.first().cloned().unwrap_or_default();
        let count: u64 = shape.iter().product();
        let dtype = input.dtype;
        let bytes: Vec<u8> = if input.name == "causal_mask" {
            let (rows, columns) = (shape[2] as i32, shape[3] as i32);
            let values = (0..rows).flat_map(|row| {
                (0..columns).map(move |column| {
                    if column <= position + row { f16::ZERO } else { f16::NEG_INFINITY }
                })
            });
            values.flat_map(f16::to_le_bytes).collect()
        } else if dtype == DType::INT32 {
            (0..count as i32).flat_map(|i| (position + i).to_le_bytes()).collect()
        } else {
            (0..count).flat_map(|i| f16::from_f32(i as f32 / count as f32).to_le_bytes()).collect()
        };
        tensors.push(Tensor::new(input.name.clone(), dtype, shape, bytes)?);
    }
    Ok(tensors)
}

fn measure(session: &mut dyn Session, signature: &FunctionSignature) -> Outcome<f64> {
    let tokens = signature
        .inputs
        .iter()
        .find(|input| input.name == "position_ids")
        .and_then(|input| input.shapes.first()?.first().copied())
        .unwrap_or(1);
    let rounds = if tokens == 1 { 60 } else { 20 };
    let mut best = f64::INFINITY;
    // The first run plans the function and touches the weights.
    for batch in 0..4 {
        let start = Instant::now();
        for round in 0..rounds {
            let position = (round * tokens) as i32 % (CONTEXT as i32 - tokens as i32 + 1);
            let given = inputs(signature, position)?;
            let views = given.iter().map(Tensor::view).collect::<Result<Vec<_>, _>>()?;
            session.run(&signature.name, &views, &[], &mut MemorySink::new())?;
        }
        if batch > 0 {
            best = best.min(start.elapsed().as_secs_f64() / rounds as f64);
        }
    }
    Ok(tokens as f64 / best)
}

fn main() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let path = match std::env::args_os().nth(1) {
        Some(path) => PathBuf::from(path),
        None => generate(folder.path())?,
    };
    let threads = match std::env::args().nth(2) {
        Some(threads) => vec![threads.parse()?],
        None => vec![1, 2],
    };
    let only = std::env::args().nth(3);
    for threads in threads {
        let host = threads::host(threads)?;
        let opening = Instant::now();
        let mut session = CpuRuntime::default().open(&path, &host)?;
        println!("{threads} threads: opened in {:.0?}", opening.elapsed());
        let functions = session.describe().functions.into_iter();
        for signature in functions.filter(|f| only.as_ref().is_none_or(|name| *name == f.name)) {
            let rate = measure(&mut *session, &signature)?;
            println!("{threads} threads: {:10} {rate:8.1} tokens/s", signature.name);
        }
    }
    Ok(())
}
