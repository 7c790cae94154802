//! The description against the program.

use super::function::Signature;
use crate::combine::{Features, array_feature, features_by_name};
use crate::error::{Error, Result};
use crate::model::MAIN;
use crate::types::{Dimension, TensorType};
use coreml_proto::array_feature_type::{ArrayDataType, ShapeFlexibility};
use coreml_proto::{
    ArrayFeatureType, FeatureDescription, Model, ModelDescription, feature_type, mil,
};
use std::collections::{HashMap, HashSet};

/// Specification versions of models that hold an ML Program.
const VERSIONS: std::ops::RangeInclusive<i32> = 6..=10;

/// First specification version that knows several functions and states.
const FUNCTIONS_AND_STATES: i32 = 9;

fn description(model: &Model) -> Result<&ModelDescription> {
    model.description.as_ref().ok_or_else(|| Error::new("the model has no description"))
}

/// Checks what concerns the model as a whole.
pub(super) fn check_model(model: &Model, program: &mil::Program) -> Result<()> {
    let version = model.specification_version;
    if !VERSIONS.contains(&version) {
        return Err(Error::new(format!(
            "specification version {version} is not one of an ML Program's (6 to 10)"
        )));
    }
    if model.is_updatable {
        return Err(Error::new("an ML Program cannot be updatable"));
    }
    let description = description(model)?;
    if !description.training_input.is_empty() {
        return Err(Error::new("an ML Program has no training inputs"));
    }
    for name in program.functions.keys() {
        if !crate::identifier::is_legal(name) {
            return Err(Error::new(format!("{name:?} is not a legal name for a function")));
        }
    }
    let default = &description.default_function_name;
    if description.functions.is_empty() {
        if program.functions.len() != 1 {
            return Err(Error::new(format!(
                "the program has {} functions, but the description lists none",
                program.functions.len()
            )));
        }
        if !program.functions.contains_key(MAIN) {
            return Err(Error::new("the only function must be named `main`"));
        }
        if !default.is_empty() && default != MAIN {
            return Err(Error::new(format!("the default function `{default}` does not exist")));
        }
        return Ok(());
    }
    if version < FUNCTIONS_AND_STATES {
        return Err(Error::new(format!(
            "functions are listed, which needs specification version 9, not {version}"
        )));
    }
    let top = [&description.input, &description.output, &description.state];
    if top.iter().any(|list| !list.is_empty()) {
        return Err(Error::new(
            "functions are listed, so the top-level inputs, outputs and states must be empty",
        ));
    }
    let mut seen = HashSet::new();
    for function in &description.functions {
        if !seen.insert(&function.name) {
            return Err(Error::new(format!("function `{}` is described twice", function.name)));
        }
        if !program.functions.contains_key(&function.name) {
            return Err(Error::new(format!(
                "function `{}` is described, but the program lacks it",
                function.name
            )));
        }
    }
    if let Some(name) = program.functions.keys().find(|name| !seen.contains(name)) {
        return Err(Error::new(format!("function `{name}` is not described")));
    }
    if !seen.contains(default) {
        return Err(Error::new(format!("the default function `{default}` does not exist")));
    }
    Ok(())
}

/// The lists of every function.
pub(super) fn lists(model: &Model) -> Result<HashMap<&str, Features<'_>>> {
    Ok(features_by_name(description(model)?))
}

/// Checks one function's lists against what the program says.
pub(super) fn check_function(
    model: &Model,
    lists: Option<&Features<'_>>,
    signature: &Signature,
) -> Result<()> {
    let lists = lists.ok_or_else(|| Error::new("the function is not described"))?;
    check_inputs(lists, signature)?;
    check_outputs(lists, signature)?;
    check_states(model, lists, signature)
}

/// The names of a list and of the program are the same, none twice.
fn check_names<'a>(
    what: &str,
    list: &[FeatureDescription],
    names: impl Iterator<Item = &'a String>,
) -> Result<()> {
    let mut described = HashSet::new();
    for feature in list {
        if !described.insert(feature.name.as_str()) {
            return Err(Error::new(format!("{what} `{}` is described twice", feature.name)));
        }
    }
    let mut known = HashSet::new();
    for name in names {
        known.insert(name.as_str());
        if !described.contains(name.as_str()) {
            return Err(Error::new(format!("{what} `{name}` of the program is not described")));
        }
    }
    match list.iter().find(|feature| !known.contains(feature.name.as_str())) {
        Some(feature) => Err(Error::new(format!(
            "{what} `{}` is described, but the program lacks it",
            feature.name
        ))),
        None => Ok(()),
    }
}

fn array<'a>(what: &str, feature: &'a FeatureDescription) -> Result<&'a ArrayFeatureType> {
    let kind = feature.r#type.as_ref().and_then(|kind| kind.r#type.as_ref());
    let is_state = matches!(kind, Some(feature_type::Type::StateType(_)));
    if is_state != (what == "state") {
        return Err(Error::new(format!(
            "{what} `{}` is described as something else",
            feature.name
        )));
    }
    array_feature(feature)
}

fn check_data_type(
    what: &str,
    name: &str,
    array: &ArrayFeatureType,
    tensor: &TensorType,
) -> Result<()> {
    let expected = tensor.data_type.array_type().ok_or_else(|| {
        Error::new(format!("{what} `{name}` is {tensor}, a type that models do not take or give"))
    })?;
    if ArrayDataType::try_from(array.data_type) == Ok(expected) {
        return Ok(());
    }
    let described = match ArrayDataType::try_from(array.data_type) {
        Ok(kind) => kind.as_str_name().to_owned(),
        Err(_) => array.data_type.to_string(),
    };
    Err(Error::new(format!("{what} `{name}` is described as {described}, but is {tensor}")))
}

/// Whether a described shape is one that the tensor can have.
fn fits(shape: &[i64], tensor: &TensorType) -> bool {
    shape.len() == tensor.rank()
        && shape.iter().zip(&tensor.shape).all(|(size, dimension)| {
            u64::try_from(*size).is_ok_and(|size| dimension.could_equal(Dimension::Fixed(size)))
        })
}

fn check_inputs(lists: &Features<'_>, signature: &Signature) -> Result<()> {
    check_names("input", lists.inputs, signature.inputs.keys())?;
    for feature in lists.inputs {
        let name = &feature.name;
        let array = array("input", feature)?;
        let Some(tensor) = signature.inputs.get(name) else { continue };
        check_data_type("input", name, array, tensor)?;
        let shape_error = |shape: &[i64]| {
            Error::new(format!("input `{name}` is described with shape {shape:?}, but is {tensor}"))
        };
        if !fits(&array.shape, tensor) {
            return Err(shape_error(&array.shape));
        }
        match &array.shape_flexibility {
            None => {
                if tensor.fixed_shape().is_none() {
                    return Err(Error::new(format!(
                        "input `{name}` is {tensor}, but its description gives only one shape"
                    )));
                }
            }
            Some(ShapeFlexibility::EnumeratedShapes(list)) => {
                let wrong = list.shapes.iter().find(|shape| !fits(&shape.shape, tensor));
                if let Some(shape) = wrong {
                    return Err(shape_error(&shape.shape));
                }
                if !list.shapes.iter().any(|shape| shape.shape == array.shape) {
                    return Err(Error::new(format!(
                        "the default shape {:?} of input `{name}` is not among its shapes",
                        array.shape
                    )));
                }
            }
            Some(ShapeFlexibility::ShapeRange(range)) => {
                check_ranges(name, &range.size_ranges, &array.shape, tensor)?;
            }
        }
    }
    Ok(())
}

/// A known size is its own range; an unknown one has a range that holds the default.
fn check_ranges(
    name: &str,
    ranges: &[coreml_proto::SizeRange],
    default: &[i64],
    tensor: &TensorType,
) -> Result<()> {
    if ranges.len() != tensor.rank() {
        return Err(Error::new(format!(
            "input `{name}` has {} size ranges, but is {tensor}",
            ranges.len()
        )));
    }
    for (axis, range) in ranges.iter().enumerate() {
        // A negative upper bound means none.
        let upper = u64::try_from(range.upper_bound).ok();
        let inside =
            |size: u64| range.lower_bound <= size && upper.is_none_or(|upper| size <= upper);
        let holds = match tensor.shape[axis] {
            Dimension::Fixed(size) => range.lower_bound == size && upper == Some(size),
            Dimension::Symbol(_) => u64::try_from(default[axis]).is_ok_and(inside),
        };
        if !holds {
            return Err(Error::new(format!(
                "the range {} to {} of axis {axis} does not fit input `{name}`, {tensor}",
                range.lower_bound, range.upper_bound
            )));
        }
    }
    Ok(())
}

fn check_outputs(lists: &Features<'_>, signature: &Signature) -> Result<()> {
    check_names("output", lists.outputs, signature.outputs.iter().map(|(name, _)| name))?;
    let tensors: HashMap<&str, &TensorType> =
        signature.outputs.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    for feature in lists.outputs {
        let name = &feature.name;
        let array = array("output", feature)?;
        let Some(tensor) = tensors.get(name.as_str()).copied() else { continue };
        check_data_type("output", name, array, tensor)?;
        // Writers may leave the shape of an output out.
        if !array.shape.is_empty() && !fits(&array.shape, tensor) {
            return Err(Error::new(format!(
                "output `{name}` is described with shape {:?}, but is {tensor}",
                array.shape
            )));
        }
    }
    Ok(())
}

fn check_states(model: &Model, lists: &Features<'_>, signature: &Signature) -> Result<()> {
    check_names("state", lists.states, signature.states.keys())?;
    if !lists.states.is_empty() && model.specification_version < FUNCTIONS_AND_STATES {
        return Err(Error::new(format!(
            "states need specification version 9, not {}",
            model.specification_version
        )));
    }
    for feature in lists.states {
        let name = &feature.name;
        let array = array("state", feature)?;
        let Some(tensor) = signature.states.get(name) else { continue };
        check_data_type("state", name, array, tensor)?;
        if array.shape_flexibility.is_some() || !fits(&array.shape, tensor) {
            return Err(Error::new(format!(
                "state `{name}` is described with shape {:?}, but is {tensor}",
                array.shape
            )));
        }
    }
    Ok(())
}
