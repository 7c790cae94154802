//! Small packages made by hand, and what is in the results.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use anemll_mil::{
    Arg, DataType, DescriptionOptions, FunctionBuilder, Opset, TensorType, blob_references,
    function_model, literal, validate_resolved,
};
use anemll_mlpackage::{
    BlobFile, BlobType, BlobWriter, Package, WEIGHT_FILE_NAME, WeightsSource, WriteOptions,
    write_package,
};
use anemll_multifunction::{
    Error, JoinPlan, Options, Output, Report, Sharing, Source, TensorReport,
};
use coreml_proto::{Model, mil};
use half::f16;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Rows and columns of every weight.
pub const WIDTH: u64 = 16;
/// Elements of a weight.
pub const COUNT: usize = 256;

/// How a weight is stored.
#[derive(Clone)]
pub enum Weight {
    Plain(Vec<f16>),
    /// Palettes for groups of rows, each of 2^bits entries, and an index for each element.
    Palettes {
        bits: u32,
        groups: u64,
        table: Vec<f16>,
        indices: Vec<u8>,
    },
}

/// Different numbers for each seed, exact in fp16.
pub fn plain(seed: u16) -> Weight {
    let number = |index: u16| f16::from_f32(f32::from((index * 7 + seed * 31) % 997) / 16.0);
    Weight::Plain((0..COUNT as u16).map(number).collect())
}

/// One palette of 16 distinct entries, and indices that use 12 of them.
pub fn palettes(seed: u16) -> Weight {
    let table = (0..16).map(|entry| f16::from_f32(f32::from(entry * 3 + seed) / 8.0)).collect();
    let index = |index: usize| ((index * 5 + index / 16 + usize::from(seed)) % 12) as u8;
    Weight::Palettes { bits: 4, groups: 1, table, indices: (0..COUNT).map(index).collect() }
}

impl Weight {
    /// The values that it stands for, row-major.
    pub fn values(&self) -> Vec<f16> {
        match self {
            Self::Plain(values) => values.clone(),
            Self::Palettes { bits, groups, table, indices } => {
                let rows = WIDTH / groups;
                let of = |(place, index): (usize, &u8)| {
                    let group = place as u64 / WIDTH / rows;
                    table[((group << bits) + u64::from(*index)) as usize]
                };
                indices.iter().enumerate().map(of).collect()
            }
        }
    }
}

fn bytes(values: &[f16]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn packed(bits: u32, indices: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; (indices.len() * bits as usize).div_ceil(8)];
    for (place, index) in indices.iter().enumerate() {
        for bit in 0..bits as usize {
            let at = place * bits as usize + bit;
            bytes[at / 8] |= (index >> bit & 1) << (at % 8);
        }
    }
    bytes
}

/// What a package is made of.
pub struct Made<'a> {
    pub tokens: u64,
    pub opset: Opset,
    pub weights: &'a [(&'a str, Weight)],
    /// Length of a state named `cache`.
    pub state: Option<u64>,
    pub metadata: &'a [(&'a str, &'a str)],
}

impl Default for Made<'_> {
    fn default() -> Self {
        Self { tokens: 1, opset: Opset::CoreML8, weights: &[], state: None, metadata: &[] }
    }
}

/// Writes `NAME.mlpackage` with one function, `main`: a linear layer for each weight.
pub fn package(folder: &Path, name: &str, made: &Made<'_>) -> PathBuf {
    let half = |shape: &[u64]| TensorType::new(DataType::Float16, shape);
    let weights_path = folder.join(format!("{name}.bin"));
    let mut writer = BlobWriter::create(&weights_path).unwrap();
    let mut builder = FunctionBuilder::with_opset(made.opset);
    let mut x = builder.input("x", half(&[made.tokens, WIDTH])).unwrap();
    let state = made.state.map(|length| builder.state("cache", half(&[length, WIDTH])).unwrap());
    for (hint, weight) in made.weights {
        let mut blob = |kind: &TensorType, data_type: DataType, count: u64, bytes: &[u8]| {
            let blob_type = BlobType::from_data_type(data_type).unwrap();
            let offset = writer.append(blob_type, count, bytes).unwrap().offset;
            literal::blob_value(kind, WEIGHT_FILE_NAME, offset)
        };
        let weight = match weight {
            Weight::Plain(values) => {
                let kind = half(&[WIDTH, WIDTH]);
                let value = blob(&kind, DataType::Float16, COUNT as u64, &bytes(values));
                builder.constant(Some(hint), value).unwrap()
            }
            Weight::Palettes { bits, groups, table, indices } => {
                let index_bytes = packed(*bits, indices);
                let entries = 1 << bits;
                let table_bytes = bytes(table);
                let arguments = if made.opset >= Opset::CoreML8 {
                    let integers = match bits {
                        2 => DataType::UInt2,
                        3 => DataType::UInt3,
                        4 => DataType::UInt4,
                        _ => panic!("{bits} bits"),
                    };
                    let kind = TensorType::new(integers, &[WIDTH, WIDTH]);
                    let lut = half(&[*groups, 1, entries, 1]);
                    let count = table.len() as u64;
                    vec![
                        ("indices", Arg::from(blob(&kind, integers, COUNT as u64, &index_bytes))),
                        ("lut", Arg::from(blob(&lut, DataType::Float16, count, &table_bytes))),
                    ]
                } else {
                    let count = index_bytes.len() as u64;
                    let kind = TensorType::new(DataType::UInt8, &[count]);
                    let shape = TensorType::new(DataType::UInt32, &[2]);
                    let size = [WIDTH as u32, WIDTH as u32];
                    let size = size.iter().flat_map(|size| size.to_le_bytes()).collect();
                    let lut = half(&[entries]);
                    vec![
                        ("indices", Arg::from(blob(&kind, DataType::UInt8, count, &index_bytes))),
                        ("lut", Arg::from(blob(&lut, DataType::Float16, entries, &table_bytes))),
                        ("shape", Arg::from(literal::value_from_bytes(&shape, size).unwrap())),
                    ]
                };
                let made = builder.op1("constexpr_lut_to_dense", arguments).unwrap();
                builder.name_value(made, hint).unwrap();
                made
            }
        };
        x = builder.linear(x, weight, None).unwrap();
    }
    if let Some(state) = state {
        let old = builder.read_state(state).unwrap();
        let new = builder.add(old, old).unwrap();
        builder.write_state(state, new).unwrap();
        let row = builder.reduce_max(old, &[0], true).unwrap();
        x = builder.add(x, row).unwrap();
    }
    let y = builder.add(x, x).unwrap();
    builder.name_value(y, "y").unwrap();
    let function = builder.finish(&[y]).unwrap();
    let user_defined =
        made.metadata.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let options = DescriptionOptions {
        short_description: format!("made by hand, {} tokens", made.tokens),
        user_defined,
        ..DescriptionOptions::default()
    };
    let model = function_model(function, &options).unwrap();
    let path = folder.join(format!("{name}.mlpackage"));
    let has_weights = writer.finish().unwrap().records > 0;
    let checked = if has_weights {
        validate_resolved(model, &BlobFile::open(&weights_path).unwrap()).unwrap()
    } else {
        struct NoRecords;
        impl anemll_mil::BlobCatalog for NoRecords {
            fn blob(&self, _: &str, _: u64) -> anemll_mil::Result<anemll_mil::BlobInfo> {
                Err(anemll_mil::Error::new("none"))
            }
        }
        validate_resolved(model, &NoRecords).unwrap()
    };
    let source = if has_weights { WeightsSource::Copy(&weights_path) } else { WeightsSource::None };
    write_package(&path, &checked, source, &WriteOptions::default()).unwrap();
    std::fs::remove_file(&weights_path).unwrap();
    path
}

pub fn weight_file(package: &Path) -> PathBuf {
    package.join("Data/com.apple.CoreML/weights/weight.bin")
}

pub fn model_file(package: &Path) -> PathBuf {
    package.join("Data/com.apple.CoreML/model.mlmodel")
}

pub fn model(package: &Path) -> Model {
    coreml_proto::read_model(&std::fs::read(model_file(package)).unwrap()).unwrap()
}

/// `name=path` or `name=path:function`.
pub fn sources(list: &[(&str, &Path)]) -> Vec<Source> {
    list.iter()
        .map(|(name, path)| Source {
            name: (*name).to_owned(),
            path: (*path).to_owned(),
            function: None,
        })
        .collect()
}

/// Joins packages into `result.mlpackage` of the folder.
pub fn combine(
    folder: &Path,
    list: &[(&str, &Path)],
    options: &Options,
) -> Result<(PathBuf, Report), Error> {
    let path = folder.join("result.mlpackage");
    let plan = JoinPlan::combine(&sources(list), options, &|| false)?;
    let output = Output { path: &path, replace: true, copy: false };
    let done = plan.write(output, &|| false)?;
    Ok((path, done.report))
}

/// The report of a weight.
pub fn tensor<'a>(report: &'a Report, function: &str, name: &str) -> &'a TensorReport {
    report
        .tensors
        .iter()
        .find(|tensor| tensor.function == function && tensor.name == name)
        .unwrap_or_else(|| panic!("{function}/{name} is not in {:?}", report.tensors))
}

/// How each weight of a function is shared.
pub fn sharing(report: &Report, function: &str) -> Vec<Sharing> {
    report
        .tensors
        .iter()
        .filter(|tensor| tensor.function == function)
        .map(|tensor| tensor.sharing)
        .collect()
}

/// The values of every weight of a package, decoded by the rules of the format, by function and
/// name. The package is opened anew and validated first.
pub fn decoded(path: &Path) -> BTreeMap<(String, String), Vec<f16>> {
    let package = Package::open(path).unwrap();
    validate_resolved(package.model().clone(), &package).unwrap();
    let data = |value: &mil::Value| -> Vec<u8> {
        match anemll_mil::references::blob_of(value) {
            Some(blob) => {
                let file = package.weight_file(&blob.file_name).unwrap();
                file.read(&file.record(blob.offset).unwrap()).unwrap()
            }
            None => literal::tensor_bytes(value).unwrap().1.into_owned(),
        }
    };
    let mut found = BTreeMap::new();
    for reference in blob_references(package.model()) {
        let name = reference.operation.outputs[0].name.clone();
        let key = (reference.function.to_owned(), name);
        let operand = |name: &str| -> mil::Value {
            anemll_mil::references::values(reference.operation)
                .find(|(parameter, _)| *parameter == name)
                .unwrap()
                .1
                .clone()
        };
        let values = |bytes: Vec<u8>| -> Vec<f16> {
            bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect()
        };
        if reference.operation.r#type == "const" {
            found.insert(key, values(data(&operand("val"))));
            continue;
        }
        let (indices, lut) = (operand("indices"), operand("lut"));
        let table = values(data(&lut));
        let shape = literal::tensor_type(&lut).unwrap().fixed_shape().unwrap();
        let (groups, entries) = match shape[..] {
            [entries] => (1, entries),
            [groups, 1, entries, 1] => (groups, entries),
            _ => panic!("{shape:?}"),
        };
        let bytes = data(&indices);
        let bits = entries.ilog2() as usize;
        let rows = WIDTH / groups;
        let element = |place: usize| {
            let index = (0..bits).fold(0, |index, bit| {
                let at = place * bits + bit;
                index | usize::from(bytes[at / 8] >> (at % 8) & 1) << bit
            });
            table[(place as u64 / WIDTH / rows * entries) as usize + index]
        };
        found.insert(key, (0..COUNT).map(element).collect());
    }
    found
}

/// Every file below a folder.
pub fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found.sort();
    found
}
