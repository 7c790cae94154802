//! What functions take, give and keep, from the model's description; and which shapes are allowed.

use crate::constant;
use crate::element::Element;
use crate::failure::Failure;
use anemll_mil::{FunctionInterface, Port};
use anemll_plugin_api::data::{FunctionSignature, SessionDescription, ValueInfo};
use anemll_plugin_api::{DType, Error, Result, codes};
use coreml_proto::array_feature_type::ShapeFlexibility;
use coreml_proto::{FeatureDescription, Model, ModelDescription, feature_type};

/// Shapes that an input may have.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Allowed {
    /// One of these.
    Shapes(Vec<Vec<u64>>),
    /// Any within these bounds, both included; no upper bound is `None`.
    Ranges(Vec<(u64, Option<u64>)>),
}

/// An input of a function.
#[derive(Debug, Clone)]
pub(crate) struct InputPort {
    pub(crate) name: String,
    pub(crate) element: Element,
    pub(crate) allowed: Allowed,
}

impl Allowed {
    /// True if the shape may be used.
    pub(crate) fn accepts(&self, shape: &[u64]) -> bool {
        match self {
            Self::Shapes(shapes) => shapes.iter().any(|allowed| allowed == shape),
            Self::Ranges(ranges) => {
                ranges.len() == shape.len()
                    && ranges.iter().zip(shape).all(|((low, high), size)| {
                        size >= low && high.is_none_or(|high| *size <= high)
                    })
            }
        }
    }

    /// For messages: `[1, 1] or [1, 64]`, `[1, 4..8]`.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Shapes(shapes) => {
                let texts: Vec<String> = shapes.iter().map(|shape| format!("{shape:?}")).collect();
                texts.join(" or ")
            }
            Self::Ranges(ranges) => {
                let texts: Vec<String> = ranges
                    .iter()
                    .map(|(low, high)| match high {
                        Some(high) if high == low => low.to_string(),
                        Some(high) => format!("{low}..{high}"),
                        None => format!("{low} or more"),
                    })
                    .collect();
                format!("[{}]", texts.join(", "))
            }
        }
    }
}

/// The functions of a model: their interfaces and the allowed shapes of their inputs.
pub(crate) fn functions(model: &Model) -> Result<Vec<(FunctionInterface, Vec<InputPort>)>> {
    let invalid = |reason: String| Error::new(codes::GRAPH_INTERFACE, reason);
    let interfaces = anemll_mil::interface(model).map_err(|error| invalid(error.to_string()))?;
    let description = model.description.clone().unwrap_or_default();
    interfaces
        .into_iter()
        .map(|interface| {
            let ports = interface
                .inputs
                .iter()
                .map(|port| input_port(port, features(&description, &interface.name)))
                .collect::<Result<_>>()
                .map_err(|error| error.with_at(format!("function `{}`", interface.name)))?;
            Ok((interface, ports))
        })
        .collect()
}

fn features<'d>(description: &'d ModelDescription, function: &str) -> &'d [FeatureDescription] {
    let own = description.functions.iter().find(|candidate| candidate.name == function);
    own.map_or(&description.input, |own| &own.input)
}

fn input_port(port: &Port, features: &[FeatureDescription]) -> Result<InputPort> {
    let kind = anemll_mil::TensorType::with_shape(port.data_type, port.shape.clone());
    let element = constant::element(&kind).map_err(|failure| match failure {
        Failure::Host(error) => error,
        other => {
            Error::new(codes::OPERATION_UNSUPPORTED, format!("input `{}`: {other}", port.name))
        }
    })?;
    let feature = features.iter().find(|feature| feature.name == port.name);
    let array = feature.and_then(|feature| match feature.r#type.as_ref()?.r#type.as_ref()? {
        feature_type::Type::MultiArrayType(array) => array.shape_flexibility.as_ref(),
        _ => None,
    });
    let allowed = match array {
        Some(ShapeFlexibility::ShapeRange(range)) => {
            let bounds = range
                .size_ranges
                .iter()
                .map(|range| (range.lower_bound, u64::try_from(range.upper_bound).ok()));
            Allowed::Ranges(bounds.collect())
        }
        _ => Allowed::Shapes(port.shapes.clone()),
    };
    Ok(InputPort { name: port.name.clone(), element, allowed })
}

/// The description that a session gives of itself.
pub(crate) fn describe(model: &Model, interfaces: &[FunctionInterface]) -> SessionDescription {
    let value = |port: &Port| {
        ValueInfo::new(
            port.name.clone(),
            u32::try_from(port.data_type.to_proto())
                .map_or_else(|_| DType::named("unknown"), DType),
            port.shapes.clone(),
        )
    };
    let description = model.description.clone().unwrap_or_default();
    let default = if description.functions.is_empty() {
        interfaces.first().map(|interface| interface.name.clone())
    } else {
        Some(description.default_function_name.clone()).filter(|name| !name.is_empty())
    };
    let metadata = description.metadata.unwrap_or_default();
    SessionDescription::default()
        .with_functions(
            interfaces
                .iter()
                .map(|interface| {
                    FunctionSignature::new(interface.name.clone())
                        .with_inputs(interface.inputs.iter().map(value).collect())
                        .with_outputs(interface.outputs.iter().map(value).collect())
                        .with_states(interface.states.iter().map(value).collect())
                })
                .collect(),
        )
        .with_default_function(default)
        .with_metadata(metadata.user_defined.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_ranges_are_checked_and_told() {
        let listed = Allowed::Shapes(vec![vec![1, 1], vec![1, 64]]);
        assert!(listed.accepts(&[1, 64]) && !listed.accepts(&[1, 2]) && !listed.accepts(&[1]));
        assert_eq!(listed.text(), "[1, 1] or [1, 64]");
        let ranges = Allowed::Ranges(vec![(1, Some(1)), (4, Some(8)), (2, None)]);
        assert!(ranges.accepts(&[1, 8, 999]) && !ranges.accepts(&[1, 9, 2]));
        assert!(!ranges.accepts(&[1, 4]));
        assert_eq!(ranges.text(), "[1, 4..8, 2 or more]");
    }
}
