//! `inspect`: what is in a package.

use crate::cli::InspectArguments;
use crate::error::from_package;
use anemll_mil::references::{blob_of, values};
use anemll_mil::{FunctionInterface, Port, literal, model, op_histogram};
use anemll_mlpackage::Package;
use anemll_plugin_api::{Error, Result, codes};
use coreml_proto::Model;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What is shown of a package.
#[derive(Debug, Serialize)]
pub struct Inspection {
    /// The path as given.
    pub path: String,
    /// Core ML specification version.
    pub specification_version: i32,
    /// The oldest systems that load it.
    pub minimum_system: &'static str,
    /// The function that runs when none is named.
    pub default_function: Option<String>,
    /// Functions in the order of the description.
    pub functions: Vec<FunctionInspection>,
    /// Records of the weight file that the program names, once each.
    pub weights: Vec<WeightInspection>,
    /// Bytes of all weight files.
    pub weight_file_bytes: u64,
    /// Bytes of model.mlmodel.
    pub model_bytes: u64,
    /// Description, author, version.
    pub short_description: String,
    /// Metadata of the model's author.
    pub metadata: BTreeMap<String, String>,
}

/// One function.
#[derive(Debug, Serialize)]
pub struct FunctionInspection {
    /// Name.
    pub name: String,
    /// Opset of the block that is used.
    pub opset: String,
    /// Name and type of each input.
    pub inputs: Vec<Feature>,
    /// Name and type of each output.
    pub outputs: Vec<Feature>,
    /// Name and type of each state.
    pub states: Vec<Feature>,
    /// How often each operation type stands in it; constants are not counted.
    pub operations: BTreeMap<String, u64>,
}

/// An input, output or state.
#[derive(Debug, Serialize)]
pub struct Feature {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: &'static str,
    /// Shape, the default one where several are allowed; empty where it depends on the inputs.
    pub shape: Vec<u64>,
    /// All allowed shapes, where they are enumerated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enumerated_shapes: Vec<Vec<u64>>,
}

/// A record of the weight file.
#[derive(Debug, Serialize)]
pub struct WeightInspection {
    /// Name of the value that it gives, in the first function that uses it.
    pub name: String,
    /// The operation or the argument that holds it, such as `const` or
    /// `constexpr_lut_to_dense.indices`.
    pub holder: String,
    /// Element type.
    pub dtype: &'static str,
    /// Shape.
    pub shape: Vec<u64>,
    /// Bytes.
    pub bytes: u64,
    /// Offset in the weight file.
    pub offset: u64,
    /// Functions that use it.
    pub functions: Vec<String>,
}

/// Runs the command.
pub fn run(arguments: &InspectArguments) -> Result<()> {
    let package = Package::open(&arguments.path).map_err(from_package)?;
    let inspection = inspect(&package, arguments.path.display().to_string())?;
    if arguments.json {
        return super::print_json(&inspection);
    }
    super::print(&inspection.to_text())
}

/// Looks at a package.
pub fn inspect(package: &Package, path: String) -> Result<Inspection> {
    let model = package.model();
    let interfaces = anemll_mil::interface(model).map_err(|source| {
        Error::new(codes::PACKAGE_INVALID, source.to_string()).with_at(path.clone())
    })?;
    let description = model.description.clone().unwrap_or_default();
    let metadata = description.metadata.unwrap_or_default();
    let mut operations = op_histogram(model);
    let names: Vec<String> = interfaces.iter().map(|function| function.name.clone()).collect();
    let functions = interfaces
        .into_iter()
        .map(|function| {
            let operations = operations.remove(&function.name).unwrap_or_default();
            FunctionInspection::new(model, function, operations)
        })
        .collect();
    Ok(Inspection {
        path,
        specification_version: model.specification_version,
        minimum_system: minimum_system(model.specification_version),
        default_function: Some(description.default_function_name).filter(|name| !name.is_empty()),
        functions,
        weights: weights(model, &names),
        weight_file_bytes: package.weight_files().values().map(|file| file.size_in_bytes()).sum(),
        model_bytes: package.model_size(),
        short_description: metadata.short_description,
        metadata: metadata.user_defined,
    })
}

impl FunctionInspection {
    fn new(model: &Model, function: FunctionInterface, operations: BTreeMap<String, u64>) -> Self {
        let features = |ports: Vec<Port>| ports.into_iter().map(Feature::from).collect();
        let opset = model::program(model)
            .ok()
            .and_then(|program| program.functions.get(&function.name))
            .map(|body| body.opset.clone());
        Self {
            name: function.name,
            opset: opset.unwrap_or_default(),
            inputs: features(function.inputs),
            outputs: features(function.outputs),
            states: features(function.states),
            operations,
        }
    }
}

impl From<Port> for Feature {
    fn from(port: Port) -> Self {
        let shape = port.shapes.first().cloned().unwrap_or_default();
        let enumerated_shapes = if port.shapes.len() > 1 { port.shapes } else { Vec::new() };
        Self { name: port.name, dtype: port.data_type.name(), shape, enumerated_shapes }
    }
}

/// Of the published table of specification versions.
fn minimum_system(version: i32) -> &'static str {
    match version {
        ..=5 => "iOS 14, macOS 11 or older",
        6 => "iOS 15, macOS 12",
        7 => "iOS 16, macOS 13",
        8 => "iOS 17, macOS 14",
        9 => "iOS 18, macOS 15",
        _ => "newer than iOS 18, macOS 15",
    }
}

/// Records in the order of the file.
fn weights(model: &Model, names: &[String]) -> Vec<WeightInspection> {
    let mut found: BTreeMap<(&str, u64), WeightInspection> = BTreeMap::new();
    let Ok(program) = model::program(model) else { return Vec::new() };
    for name in names {
        let blocks = program.functions.get(name).and_then(|body| model::block(body).ok());
        for operation in blocks.into_iter().flat_map(|block| &block.operations) {
            for (part, value) in values(operation) {
                let Some(blob) = blob_of(value) else { continue };
                let Ok(kind) = literal::tensor_type(value) else { continue };
                let output = operation.outputs.first().map(|output| output.name.clone());
                let entry = found.entry((&blob.file_name, blob.offset)).or_insert_with(|| {
                    WeightInspection {
                        name: output.unwrap_or_default(),
                        holder: match part {
                            "val" => operation.r#type.clone(),
                            part => format!("{}.{part}", operation.r#type),
                        },
                        dtype: kind.data_type.name(),
                        shape: kind.fixed_shape().unwrap_or_default(),
                        bytes: kind.byte_size().unwrap_or_default(),
                        offset: blob.offset,
                        functions: Vec::new(),
                    }
                });
                if !entry.functions.contains(name) {
                    entry.functions.push(name.clone());
                }
            }
        }
    }
    found.into_values().collect()
}

impl Inspection {
    fn to_text(&self) -> String {
        let mut text = format!(
            "{}\n{}\nspecification {} ({}), program {}, weights {}\n",
            self.path,
            self.short_description,
            self.specification_version,
            self.minimum_system,
            size(self.model_bytes),
            size(self.weight_file_bytes)
        );
        for function in &self.functions {
            let default = self.default_function.as_ref() == Some(&function.name);
            let _ = writeln!(
                text,
                "\nfunction {}{} ({})",
                function.name,
                if default { ", default" } else { "" },
                function.opset
            );
            for (kind, features) in [
                ("input", &function.inputs),
                ("output", &function.outputs),
                ("state", &function.states),
            ] {
                for feature in features {
                    let _ = writeln!(text, "  {kind:<7} {feature}");
                }
            }
            let mut operations: Vec<(&String, &u64)> = function.operations.iter().collect();
            operations.sort_by_key(|(name, count)| (Reverse(**count), *name));
            let list: Vec<String> =
                operations.iter().map(|(name, count)| format!("{name} {count}")).collect();
            let _ = writeln!(text, "  operations: {}", list.join(", "));
        }
        if !self.weights.is_empty() {
            let _ = writeln!(text, "\nweights ({})", self.weights.len());
        }
        for weight in &self.weights {
            let _ = writeln!(
                text,
                "  {:>10}  {:<10} {:<22} {} [{}] {}",
                size(weight.bytes),
                weight.dtype,
                format!("{:?}", weight.shape),
                weight.name,
                weight.functions.join(" "),
                if weight.holder == "const" { "" } else { &weight.holder },
            );
        }
        if !self.metadata.is_empty() {
            text.push_str("\nmetadata\n");
        }
        for (key, value) in &self.metadata {
            let _ = writeln!(text, "  {key}: {value}");
        }
        text
    }
}

impl std::fmt::Display for Feature {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} {} {:?}", self.name, self.dtype, self.shape)?;
        if !self.enumerated_shapes.is_empty() {
            write!(formatter, ", one of {:?}", self.enumerated_shapes)?;
        }
        Ok(())
    }
}

/// Bytes for people, in decimal units as stores and file managers show them.
fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
