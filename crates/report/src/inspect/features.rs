//! Inputs, outputs and states of functions, as the description and the program tell them.

use anemll_mil::types::{Symbols, ValueType};
use anemll_mil::{DataType, TensorType, model};
use anemll_terminal as terminal;
use coreml_proto::array_feature_type::ShapeFlexibility;
use coreml_proto::image_feature_type::{ColorSpace, SizeFlexibility};
use coreml_proto::{
    ArrayFeatureType, FeatureDescription, ImageFeatureType, Model, feature_type, mil,
    state_feature_type,
};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};

/// One function.
#[derive(Debug, Serialize)]
pub struct FunctionInspection {
    /// Name.
    pub name: String,
    /// Opset of the block that is used.
    pub opset: String,
    /// Inputs in the order of the description.
    pub inputs: Vec<Feature>,
    /// Outputs in the order of the description.
    pub outputs: Vec<Feature>,
    /// States in the order of the description.
    pub states: Vec<Feature>,
    /// How often each operation type stands in it; constants are not counted.
    pub operations: BTreeMap<String, u64>,
}

/// An input, output or state.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Feature {
    /// Name.
    pub name: String,
    /// Element type, or what else it is, such as `image rgb`.
    pub dtype: String,
    /// Shape, the default one where several are allowed; empty where it depends on the inputs.
    pub shape: Vec<u64>,
    /// All allowed shapes, where they are enumerated.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enumerated_shapes: Vec<Vec<u64>>,
    /// Smallest and largest size of each axis, where ranges are allowed; no largest: no limit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<(u64, Option<u64>)>,
    /// Whether it may be left out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// What the author says about it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
}

impl FunctionInspection {
    /// Operations that are no constants.
    pub fn operation_count(&self) -> u64 {
        self.operations.values().sum()
    }
}

/// The functions in the order of the description; those that it leaves out follow by name.
///
/// Nothing here fails: what cannot be read of a feature is left out of it.
pub fn functions(model: &Model) -> Vec<FunctionInspection> {
    let Ok(program) = model::program(model) else { return Vec::new() };
    let empty = coreml_proto::ModelDescription::default();
    let description = model.description.as_ref().unwrap_or(&empty);
    let mut described: Vec<(&str, [&[FeatureDescription]; 3])> = description
        .functions
        .iter()
        .map(|f| (f.name.as_str(), [&f.input[..], &f.output[..], &f.state[..]]))
        .collect();
    if described.is_empty() {
        let features = [&description.input[..], &description.output[..], &description.state[..]];
        described.push((model::MAIN, features));
    }
    let rest: Vec<&str> = program
        .functions
        .keys()
        .map(String::as_str)
        .filter(|name| !described.iter().any(|(known, _)| known == name))
        .collect();
    described.extend(rest.into_iter().map(|name| (name, [&[][..], &[], &[]])));
    let mut histograms = model::op_histogram(model);
    described
        .into_iter()
        .filter_map(|(name, [inputs, outputs, states])| {
            let function = program.functions.get(name)?;
            let types = types(function);
            let read = |list: &[FeatureDescription]| -> Vec<Feature> {
                list.iter().map(|feature| self::feature(feature, &types)).collect()
            };
            Some(FunctionInspection {
                name: name.to_owned(),
                opset: function.opset.clone(),
                inputs: read(inputs),
                outputs: read(outputs),
                states: read(states),
                operations: histograms.remove(name).unwrap_or_default(),
            })
        })
        .collect()
}

/// Tensor types of a function's inputs and of what its operations make.
fn types(function: &mil::Function) -> HashMap<&str, TensorType> {
    let made = model::block(function).into_iter().flat_map(|block| &block.operations);
    let values = function.inputs.iter().chain(made.flat_map(|operation| &operation.outputs));
    let symbols = Symbols::default();
    values
        .filter_map(|value| {
            let kind = ValueType::from_proto(value.r#type.as_ref()?, &symbols).ok()?;
            match kind {
                ValueType::Tensor(tensor) | ValueType::State(tensor) => {
                    Some((value.name.as_str(), tensor))
                }
                _ => None,
            }
        })
        .collect()
}

fn feature(feature: &FeatureDescription, types: &HashMap<&str, TensorType>) -> Feature {
    use feature_type::Type;
    let mut found = Feature {
        name: feature.name.clone(),
        description: feature.short_description.clone(),
        ..Feature::default()
    };
    let Some(kind) = &feature.r#type else { return found };
    found.optional = kind.is_optional;
    let program = types.get(feature.name.as_str());
    match &kind.r#type {
        Some(Type::MultiArrayType(array)) => read_array(&mut found, array, program),
        Some(Type::StateType(state)) => {
            if let Some(state_feature_type::Type::ArrayType(array)) = &state.r#type {
                read_array(&mut found, array, program);
            }
        }
        Some(Type::ImageType(image)) => read_image(&mut found, image),
        Some(Type::Int64Type(_)) => found.dtype = "int64".to_owned(),
        Some(Type::DoubleType(_)) => found.dtype = "double".to_owned(),
        Some(Type::StringType(_)) => found.dtype = "string".to_owned(),
        Some(Type::DictionaryType(_)) => found.dtype = "dictionary".to_owned(),
        Some(Type::SequenceType(_)) => found.dtype = "sequence".to_owned(),
        None => {}
    }
    found
}

fn unsigned(sizes: &[i64]) -> Vec<u64> {
    sizes.iter().map(|size| u64::try_from(*size).unwrap_or(0)).collect()
}

fn read_array(found: &mut Feature, array: &ArrayFeatureType, program: Option<&TensorType>) {
    let declared = DataType::from_array_type(array.data_type);
    let data_type = declared.or_else(|| program.map(|tensor| tensor.data_type));
    found.dtype = data_type.map_or("unknown", DataType::name).to_owned();
    found.shape = unsigned(&array.shape);
    if found.shape.is_empty()
        && let Some(shape) = program.and_then(TensorType::fixed_shape)
    {
        found.shape = shape;
    }
    match &array.shape_flexibility {
        Some(ShapeFlexibility::EnumeratedShapes(list)) => {
            found.enumerated_shapes =
                list.shapes.iter().map(|shape| unsigned(&shape.shape)).collect();
        }
        Some(ShapeFlexibility::ShapeRange(list)) => {
            let limit = |upper: i64| u64::try_from(upper).ok();
            found.ranges =
                list.size_ranges.iter().map(|r| (r.lower_bound, limit(r.upper_bound))).collect();
        }
        None => {}
    }
}

fn read_image(found: &mut Feature, image: &ImageFeatureType) {
    let colors = match ColorSpace::try_from(image.color_space) {
        Ok(ColorSpace::Grayscale) => "image grayscale",
        Ok(ColorSpace::Rgb) => "image rgb",
        Ok(ColorSpace::Bgr) => "image bgr",
        Ok(ColorSpace::GrayscaleFloat16) => "image grayscale float16",
        _ => "image",
    };
    found.dtype = colors.to_owned();
    found.shape = unsigned(&[image.height, image.width]);
    match &image.size_flexibility {
        Some(SizeFlexibility::EnumeratedSizes(list)) => {
            found.enumerated_shapes =
                list.sizes.iter().map(|size| vec![size.height, size.width]).collect();
        }
        Some(SizeFlexibility::ImageSizeRange(range)) => {
            let limit = |upper: i64| u64::try_from(upper).ok();
            found.ranges = [&range.height_range, &range.width_range]
                .into_iter()
                .flatten()
                .map(|r| (r.lower_bound, limit(r.upper_bound)))
                .collect();
        }
        None => {}
    }
}

impl Feature {
    /// Shape and what else is allowed, for people.
    pub fn shape_text(&self) -> String {
        let mut text = match self.shape.is_empty() {
            true => "depends on the inputs".to_owned(),
            false => terminal::shape(&self.shape),
        };
        if !self.enumerated_shapes.is_empty() {
            let all: Vec<String> =
                self.enumerated_shapes.iter().map(|shape| terminal::shape(shape)).collect();
            text = format!("{text}; one of {}", all.join(" | "));
        }
        if !self.ranges.is_empty() {
            let range = |(low, high): &(u64, Option<u64>)| match high {
                Some(high) if high == low => low.to_string(),
                Some(high) => format!("{low}…{high}"),
                None => format!("{low}…"),
            };
            let all: Vec<String> = self.ranges.iter().map(range).collect();
            text = format!("{text}; from {}", all.join(" × "));
        }
        if self.optional {
            text.push_str(", optional");
        }
        text
    }
}
