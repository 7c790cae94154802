//! Weights that stay packed compute what decoded ones do: to the last bit where that is asked for, else
//! within what is left of 15 bits.
#![allow(clippy::unwrap_used, reason = "tests")]

use crate::common::{find, floats, integers, run};
use anemll_mil::literal::blob_value;
use anemll_mil::{DataType, DescriptionOptions, FunctionBuilder, TensorType, Var, function_model};
use anemll_mlpackage::{BlobType, BlobWriter, WEIGHT_FILE_NAME};
use anemll_plugin_api::Tensor;
use anemll_plugin_api::{ComponentOptions, Host, Plugin, Result, Session};
use anemll_runtime_cpu::{CpuPlugin, ID};
use coreml_proto::mil::argument::{Binding, binding::Binding as Bound};
use coreml_proto::mil::{Argument, Operation};
use std::path::{Path, PathBuf};

/// Opens a model, whose products of packed weights are exact or not.
fn open_as(path: &Path, exact: bool) -> Result<Box<dyn Session>> {
    let options = ComponentOptions::new().with("exact", exact);
    CpuPlugin::runtime(ID, &options)?.open(path, &Host::quiet())
}

fn open(path: &Path) -> Result<Box<dyn Session>> {
    open_as(path, true)
}

/// More than a function runs with packed weights.
const RUNS: usize = 6;

/// A weight that is a table for each two rows.
struct Weight {
    name: &'static str,
    shape: Vec<u64>,
    bits: u32,
    indices: Vec<u8>,
    entries: Vec<half::f16>,
}

impl Weight {
    fn new(name: &'static str, shape: &[u64], bits: u32) -> Self {
        let count: u64 = shape.iter().product();
        let mut state = u64::from(bits);
        let mut next = || {
            state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
            state >> 40
        };
        let indices = (0..count).map(|_| (next() % (1 << bits)) as u8).collect();
        let entries = (0..(shape[0] / 2) << bits)
            .map(|_| half::f16::from_f32(next() as f32 / (1 << 23) as f32 - 1.0))
            .collect();
        Self { name, shape: shape.to_vec(), bits, indices, entries }
    }

    fn decoded(&self) -> Vec<f32> {
        let run = self.indices.len() / (self.shape[0] as usize / 2);
        let entry = |(at, index): (usize, &u8)| {
            self.entries[((at / run) << self.bits) + usize::from(*index)].to_f32()
        };
        self.indices.iter().enumerate().map(entry).collect()
    }

    /// The operation that makes it, with its parts in the weight file.
    fn store(&self, writer: &mut BlobWriter) -> Operation {
        let (kind, blob) = match self.bits {
            3 => (DataType::UInt3, BlobType::UInt3),
            4 => (DataType::UInt4, BlobType::UInt4),
            _ => (DataType::UInt6, BlobType::UInt6),
        };
        let mut packed = vec![0_u8; (self.indices.len() * self.bits as usize).div_ceil(8)];
        for (at, index) in self.indices.iter().enumerate() {
            for bit in 0..self.bits as usize {
                let to = at * self.bits as usize + bit;
                packed[to / 8] |= (index >> bit & 1) << (to % 8);
            }
        }
        let table: Vec<u8> = self.entries.iter().flat_map(|entry| entry.to_le_bytes()).collect();
        let count = self.indices.len() as u64;
        let indices = writer.append(blob, count, &packed).unwrap().offset;
        let lut =
            writer.append(BlobType::Float16, self.entries.len() as u64, &table).unwrap().offset;
        let mut shape = vec![self.shape[0] / 2];
        shape.resize(self.shape.len(), 1);
        shape.extend([1 << self.bits, 1]);
        let argument =
            |value| Argument { arguments: vec![Binding { binding: Some(Bound::Value(value)) }] };
        let value = |kind, shape: &[u64], offset| {
            argument(blob_value(&TensorType::new(kind, shape), WEIGHT_FILE_NAME, offset))
        };
        let output = TensorType::new(DataType::Float16, &self.shape);
        Operation {
            r#type: "constexpr_lut_to_dense".to_owned(),
            outputs: vec![coreml_proto::mil::NamedValueType {
                name: self.name.to_owned(),
                r#type: Some(anemll_mil::ValueType::Tensor(output).to_proto()),
            }],
            inputs: [
                ("indices".to_owned(), value(kind, &self.shape, indices)),
                ("lut".to_owned(), value(DataType::Float16, &shape, lut)),
            ]
            .into_iter()
            .collect(),
            ..Default::default()
        }
    }
}

/// Inputs of the matrices of most tests.
const INPUTS: u64 = 36;

fn weights(inputs: u64) -> [Weight; 3] {
    [
        Weight::new("table", &[50, inputs], 6),
        Weight::new("linear", &[202, inputs], 4),
        Weight::new("conv", &[30, inputs, 1, 1], 3),
    ]
}

/// A model that looks `count` rows of a table up, and multiplies them with two matrices of so many
/// inputs.
fn model(folder: &Path, count: u64, inputs: u64) -> PathBuf {
    let files = folder.join("weights");
    std::fs::create_dir(&files).unwrap();
    let mut writer = BlobWriter::create(files.join("weight.bin")).unwrap();
    let mut builder = FunctionBuilder::new();
    let ids = builder.input("ids", TensorType::new(DataType::Int32, &[count])).unwrap();
    // Their place is taken by the operations that make them.
    let vars: Vec<Var> = weights(inputs)
        .iter()
        .map(|weight| {
            let kind = TensorType::new(DataType::Float16, &weight.shape);
            let value = blob_value(&kind, WEIGHT_FILE_NAME, 64);
            builder.constant(Some(weight.name), value).unwrap()
        })
        .collect();
    let [table, linear, conv] = vars[..] else { panic!("three weights") };
    let rows = builder.gather(table, ids, 0).unwrap();
    builder.name_value(rows, "rows").unwrap();
    let first = builder.linear(rows, linear, None).unwrap();
    builder.name_value(first, "first").unwrap();
    let turned = builder.transpose(rows, &[1, 0]).unwrap();
    let channels = builder.expand_dims(turned, &[0, 2]).unwrap();
    let second = builder.conv1x1(channels, conv, None).unwrap();
    builder.name_value(second, "second").unwrap();
    let function = builder.finish(&[rows, first, second]).unwrap();
    let mut model = function_model(function, &DescriptionOptions::default()).unwrap();
    let Some(coreml_proto::model::Type::MlProgram(program)) = &mut model.r#type else {
        panic!("no program");
    };
    let function = program.functions.get_mut("main").unwrap();
    let block = function.block_specializations.values_mut().next().unwrap();
    for weight in weights(inputs) {
        let made = |one: &Operation| one.outputs.iter().any(|output| output.name == weight.name);
        *block.operations.iter_mut().find(|one| made(one)).unwrap() = weight.store(&mut writer);
    }
    writer.finish().unwrap();
    let path = folder.join("model.mlmodel");
    std::fs::write(&path, coreml_proto::write(&model)).unwrap();
    path
}

#[test]
fn packed_and_decoded_weights_give_the_same_bits() {
    let [table, linear, conv] = weights(INPUTS).map(|weight| weight.decoded());
    for count in [1, 2, 7] {
        let folder = tempfile::tempdir().unwrap();
        let mut session = open(&model(folder.path(), count, INPUTS)).unwrap();
        let ids: Vec<i32> = (0..count as i32).map(|at| (at * 29 + 3) % 50).collect();
        let inputs = [integers("ids", &[count], &ids)];
        let all: Vec<Vec<Tensor>> =
            (0..RUNS).map(|_| run(&mut *session, "main", &inputs, &[]).unwrap()).collect();
        for name in ["rows", "first", "second"] {
            let first = find(&all[0], name);
            assert!(all.iter().all(|run| find(run, name).bytes == first.bytes), "{name}");
        }
        let [rows, first, second] =
            ["rows", "first", "second"].map(|name| floats(find(&all[0], name)));
        for (at, id) in ids.iter().enumerate() {
            let row = &table[*id as usize * 36..][..36];
            assert_eq!(rows[at * 36..][..36], *row);
            let product = |matrix: &[f32], output: usize| -> f32 {
                matrix[output * 36..][..36].iter().zip(row).map(|(a, b)| a * b).sum()
            };
            for output in 0..202 {
                let (found, expected) = (first[at * 202 + output], product(&linear, output));
                assert!((found - expected).abs() < 0.02, "{found} {expected}");
            }
            for output in 0..30 {
                let found = second[output * count as usize + at];
                let expected = product(&conv, output);
                assert!((found - expected).abs() < 0.02, "{found} {expected}");
            }
        }
    }
}

/// One token, several at once and many: all near what exact products give, every run the same.
#[test]
fn products_in_whole_numbers_are_near_exact_ones() {
    for (count, inputs) in [(1, 36), (1, 9000), (2, 36), (7, 136), (16, 36), (17, 36)] {
        let folder = tempfile::tempdir().unwrap();
        let path = model(folder.path(), count, inputs);
        let ids: Vec<i32> = (0..count as i32).map(|at| (at * 29 + 3) % 50).collect();
        let given = [integers("ids", &[count], &ids)];
        let [exact, fast, again] = [true, false, false].map(|exact| {
            let mut session = open_as(&path, exact).unwrap();
            let runs = (0..RUNS).map(|_| run(&mut *session, "main", &given, &[]).unwrap());
            runs.last().unwrap()
        });
        for name in ["rows", "first", "second"] {
            assert_eq!(find(&fast, name), find(&again, name), "{name}");
            let [exact, fast] = [&exact, &fast].map(|run| floats(find(run, name)));
            // Results are rounded to float16, half a unit of the last place to either side.
            let largest = exact.iter().fold(0.0, |most: f32, value| most.max(value.abs()));
            for (a, b) in exact.iter().zip(&fast) {
                assert!((a - b).abs() <= largest / 1024.0, "{name}: {a} {b}");
            }
        }
    }
}

/// Rows that are longer than what is decoded at once for one token.
#[test]
fn long_rows_are_packed_and_decoded_alike() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = open(&model(folder.path(), 1, 9000)).unwrap();
    let inputs = [integers("ids", &[1], &[4])];
    let mut next = || run(&mut *session, "main", &inputs, &[]).unwrap();
    let packed = next();
    let decoded = (1..RUNS).map(|_| next()).last().unwrap();
    for name in ["rows", "first", "second"] {
        assert_eq!(find(&packed, name), find(&decoded, name), "{name}");
    }
}

/// Who asks for a weight gets its elements, whenever that is.
#[test]
fn packed_weights_can_be_seen() {
    let folder = tempfile::tempdir().unwrap();
    let path = model(folder.path(), 1, INPUTS);
    let mut session = open(&path).unwrap();
    let inputs = [integers("ids", &[1], &[4])];
    let before = run(&mut *session, "main", &inputs, &[]).unwrap();
    for weight in weights(INPUTS) {
        let seen = run(&mut *session, "main", &inputs, &[weight.name]).unwrap();
        assert_eq!(floats(find(&seen, weight.name)), weight.decoded());
        assert_eq!(find(&seen, "first").bytes, find(&before, "first").bytes);
        let mut other = open(&path).unwrap();
        let at_once = run(&mut *other, "main", &inputs, &[weight.name]).unwrap();
        assert_eq!(find(&at_once, weight.name), find(&seen, weight.name));
    }
}

/// Weights that were read are not read again when they are decoded.
#[test]
fn a_weight_file_that_is_cut_short_does_no_harm_once_it_was_read() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = open(&model(folder.path(), 1, INPUTS)).unwrap();
    let inputs = [integers("ids", &[1], &[4])];
    let before = run(&mut *session, "main", &inputs, &[]).unwrap();
    let weights = folder.path().join("weights/weight.bin");
    std::fs::OpenOptions::new().write(true).open(weights).unwrap().set_len(200).unwrap();
    for _ in 0..RUNS {
        let again = run(&mut *session, "main", &inputs, &[]).unwrap();
        assert_eq!(find(&again, "first").bytes, find(&before, "first").bytes);
    }
}
