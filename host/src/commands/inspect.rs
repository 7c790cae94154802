//! `inspect`: what is in a package.

use crate::cli::InspectArguments;
use crate::error::from_package;
use anemll_mil::literal;
use anemll_mlpackage::Package;
use anemll_plugin_api::Result;
use coreml_proto::array_feature_type::{ArrayDataType, ShapeFlexibility};
use coreml_proto::{FeatureDescription, Model, feature_type, mil, model, state_feature_type};
use serde::Serialize;
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
    /// How often each operation type stands in it, constants included.
    pub operations: BTreeMap<String, u64>,
}

/// An input, output or state.
#[derive(Debug, Serialize)]
pub struct Feature {
    /// Name.
    pub name: String,
    /// Element type.
    pub dtype: String,
    /// Shape, the default one where several are allowed.
    pub shape: Vec<i64>,
    /// All allowed shapes, where they are enumerated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enumerated_shapes: Vec<Vec<i64>>,
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
    pub dtype: String,
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
    let inspection = inspect(&package, arguments.path.display().to_string());
    if arguments.json {
        return super::print_json(&inspection);
    }
    super::print(&inspection.to_text())
}

/// Looks at a package.
pub fn inspect(package: &Package, path: String) -> Inspection {
    let model = package.model();
    let description = model.description.clone().unwrap_or_default();
    let metadata = description.metadata.clone().unwrap_or_default();
    let names: Vec<String> = if description.functions.is_empty() {
        program(model).into_iter().flat_map(|program| program.functions.keys().cloned()).collect()
    } else {
        description.functions.iter().map(|function| function.name.clone()).collect()
    };
    let functions = names.iter().map(|name| function(model, name)).collect();
    Inspection {
        path,
        specification_version: model.specification_version,
        minimum_system: minimum_system(model.specification_version),
        default_function: Some(description.default_function_name.clone())
            .filter(|name| !name.is_empty()),
        functions,
        weights: weights(model, &names),
        weight_file_bytes: package.weight_files().values().map(|file| file.size_in_bytes()).sum(),
        model_bytes: package.model_size(),
        short_description: metadata.short_description,
        metadata: metadata.user_defined.into_iter().collect(),
    }
}

fn program(model: &Model) -> Option<&mil::Program> {
    model.r#type.as_ref().map(|model::Type::MlProgram(program)| program)
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

/// Operation types of each function, constants included, and how often each stands there.
pub fn operation_types(model: &Model) -> BTreeMap<String, BTreeMap<String, u64>> {
    let functions = program(model).into_iter().flat_map(|program| &program.functions);
    functions.map(|(name, body)| (name.clone(), count_types(body))).collect()
}

fn count_types(function: &mil::Function) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for operation in operations_of(function) {
        *counts.entry(operation.r#type.clone()).or_default() += 1;
    }
    counts
}

fn function(model: &Model, name: &str) -> FunctionInspection {
    let description = model.description.clone().unwrap_or_default();
    let (inputs, outputs, states) =
        match description.functions.iter().find(|function| function.name == name) {
            Some(function) => {
                (function.input.clone(), function.output.clone(), function.state.clone())
            }
            None => (description.input, description.output, description.state),
        };
    let features = |list: Vec<FeatureDescription>| list.iter().map(feature).collect();
    let body = program(model).and_then(|program| program.functions.get(name));
    FunctionInspection {
        name: name.to_owned(),
        opset: body.map(|function| function.opset.clone()).unwrap_or_default(),
        inputs: features(inputs),
        outputs: features(outputs),
        states: features(states),
        operations: body.map(count_types).unwrap_or_default(),
    }
}

/// All operations, those of nested blocks too.
fn operations_of(function: &mil::Function) -> Vec<&mil::Operation> {
    let mut found = Vec::new();
    let mut blocks: Vec<&mil::Block> = function.block_specializations.values().collect();
    while let Some(block) = blocks.pop() {
        for operation in &block.operations {
            found.push(operation);
            blocks.extend(&operation.blocks);
        }
    }
    found
}

fn feature(description: &FeatureDescription) -> Feature {
    let kind = description.r#type.as_ref().and_then(|kind| kind.r#type.as_ref());
    let array = match kind {
        Some(feature_type::Type::MultiArrayType(array)) => Some(array),
        Some(feature_type::Type::StateType(state)) => {
            state.r#type.as_ref().map(|state_feature_type::Type::ArrayType(array)| array)
        }
        _ => None,
    };
    let name = description.name.clone();
    let Some(array) = array else {
        let dtype = "not an array".to_owned();
        return Feature { name, dtype, shape: Vec::new(), enumerated_shapes: Vec::new() };
    };
    let dtype = match array.data_type() {
        ArrayDataType::Float16 => "float16",
        ArrayDataType::Float32 => "float32",
        ArrayDataType::Double => "float64",
        ArrayDataType::Int8 => "int8",
        ArrayDataType::Int32 => "int32",
        ArrayDataType::InvalidArrayDataType => "invalid",
    };
    let enumerated_shapes = match &array.shape_flexibility {
        Some(ShapeFlexibility::EnumeratedShapes(shapes)) => {
            shapes.shapes.iter().map(|shape| shape.shape.clone()).collect()
        }
        _ => Vec::new(),
    };
    Feature { name, dtype: dtype.to_owned(), shape: array.shape.clone(), enumerated_shapes }
}

fn weights(model: &Model, names: &[String]) -> Vec<WeightInspection> {
    let mut found: BTreeMap<(String, u64), WeightInspection> = BTreeMap::new();
    for name in names {
        let Some(function) = program(model).and_then(|program| program.functions.get(name)) else {
            continue;
        };
        for operation in operations_of(function) {
            for (part, value) in values_of(operation) {
                let Some(mil::value::Value::BlobFileValue(blob)) = &value.value else { continue };
                let Ok(kind) = literal::tensor_type(value) else { continue };
                let output = operation.outputs.first().map(|output| output.name.clone());
                let entry =
                    found.entry((blob.file_name.clone(), blob.offset)).or_insert_with(|| {
                        WeightInspection {
                            name: output.unwrap_or_default(),
                            holder: match part {
                                "val" => operation.r#type.clone(),
                                part => format!("{}.{part}", operation.r#type),
                            },
                            dtype: kind.data_type.name().to_owned(),
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

fn values_of(operation: &mil::Operation) -> impl Iterator<Item = (&str, &mil::Value)> {
    let attributes = operation.attributes.iter().map(|(name, value)| (name.as_str(), value));
    let inputs = operation.inputs.iter().flat_map(|(name, argument)| {
        argument.arguments.iter().filter_map(move |binding| match &binding.binding {
            Some(mil::argument::binding::Binding::Value(value)) => Some((name.as_str(), value)),
            _ => None,
        })
    });
    attributes.chain(inputs)
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
            let mut operations: Vec<(&String, &u64)> =
                function.operations.iter().filter(|(name, _)| *name != "const").collect();
            operations.sort_by_key(|(name, count)| (std::cmp::Reverse(**count), (*name).clone()));
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
