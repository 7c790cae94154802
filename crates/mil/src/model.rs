//! Models as a whole: the program inside, and a description made from a function.

use crate::dtype::DataType;
use crate::error::{Error, Result};
use crate::ops::Opset;
use crate::types::{Dimension, Symbols, TensorType, ValueType};
use coreml_proto::array_feature_type::{EnumeratedShapes, Shape, ShapeFlexibility};
use coreml_proto::{
    ArrayFeatureType, FeatureDescription, FeatureType, Metadata, Model, ModelDescription,
    StateFeatureType, feature_type, mil, model, state_feature_type,
};
use std::collections::{BTreeMap, HashMap};

/// Name of the function of a model that has only one.
pub const MAIN: &str = "main";

/// What a description says beside the function's own types.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DescriptionOptions {
    /// What the model is, in one line.
    pub short_description: String,
    /// Version of the model or of the tool that made it.
    pub version: String,
    /// Author.
    pub author: String,
    /// License.
    pub license: String,
    /// Metadata by key, such as `com.anemll.context_length`.
    pub user_defined: BTreeMap<String, String>,
    /// All shapes that an input takes, by input; the first is the default. Every input with an
    /// unknown dimension needs an entry.
    pub enumerated_shapes: BTreeMap<String, Vec<Vec<u64>>>,
}

/// A model with the function as `main`; its specification version is the lowest that the
/// function's opset allows (9 for `CoreML8`).
///
/// Errors: an input or output of a type that models do not take (fp16, fp32, int32 only), an input
/// of unknown shape without enumerated shapes, enumerated shapes of no input or of another rank.
pub fn function_model(function: mil::Function, options: &DescriptionOptions) -> Result<Model> {
    let opset = Opset::from_name(&function.opset)
        .ok_or_else(|| Error::new(format!("{:?} is not an opset", function.opset)))?;
    let block = block(&function)?;
    let symbols = Symbols::default();
    let mut description = ModelDescription::default();
    for input in &function.inputs {
        let kind = value_type(input, &symbols)?;
        let shapes = options.enumerated_shapes.get(&input.name).map(Vec::as_slice);
        match &kind {
            ValueType::State(tensor) => {
                description.state.push(state_feature(&input.name, tensor)?);
            }
            ValueType::Tensor(tensor) => {
                description.input.push(input_feature(&input.name, tensor, shapes)?);
            }
            other => return Err(Error::new(format!("input `{}` is {other}", input.name))),
        }
    }
    for name in options.enumerated_shapes.keys() {
        if !description.input.iter().any(|input| &input.name == name) {
            return Err(Error::new(format!(
                "shapes are given for `{name}`, which is not an input"
            )));
        }
    }
    let made = block.operations.iter().flat_map(|operation| &operation.outputs);
    let made: HashMap<&str, &mil::NamedValueType> =
        made.map(|output| (output.name.as_str(), output)).collect();
    for name in &block.outputs {
        let output = made
            .get(name.as_str())
            .ok_or_else(|| Error::new(format!("no operation makes the output `{name}`")))?;
        match value_type(output, &symbols)? {
            ValueType::Tensor(tensor) => description.output.push(output_feature(name, &tensor)?),
            other => return Err(Error::new(format!("output `{name}` is {other}"))),
        }
    }
    description.metadata = Some(Metadata {
        short_description: options.short_description.clone(),
        version_string: options.version.clone(),
        author: options.author.clone(),
        license: options.license.clone(),
        user_defined: options.user_defined.clone(),
    });
    let program = mil::Program {
        version: 1,
        functions: BTreeMap::from([(MAIN.to_owned(), function)]),
        doc_string: String::new(),
        attributes: BTreeMap::new(),
    };
    Ok(Model {
        specification_version: opset.specification_version(),
        description: Some(description),
        is_updatable: false,
        r#type: Some(model::Type::MlProgram(program)),
    })
}

/// The program of a model; an error if it has none.
pub fn program(model: &Model) -> Result<&mil::Program> {
    match &model.r#type {
        Some(model::Type::MlProgram(program)) => Ok(program),
        None => Err(Error::new("the model holds no ML Program")),
    }
}

/// The program of a model, to be changed; an error if it has none.
pub fn program_mut(model: &mut Model) -> Result<&mut mil::Program> {
    match &mut model.r#type {
        Some(model::Type::MlProgram(program)) => Ok(program),
        None => Err(Error::new("the model holds no ML Program")),
    }
}

/// The block that a function's opset names; an error if it is missing.
pub fn block(function: &mil::Function) -> Result<&mil::Block> {
    function.block_specializations.get(&function.opset).ok_or_else(|| {
        Error::new(format!("the function has no block for its opset {:?}", function.opset))
    })
}

/// How often each function uses each operation, `const` left out, by function.
pub fn op_histogram(model: &Model) -> BTreeMap<String, BTreeMap<String, u64>> {
    let functions = program(model).into_iter().flat_map(|program| &program.functions);
    functions
        .map(|(name, function)| {
            let mut counts: BTreeMap<String, u64> = BTreeMap::new();
            for operation in block(function).into_iter().flat_map(|block| &block.operations) {
                if operation.r#type != "const" {
                    *counts.entry(operation.r#type.clone()).or_default() += 1;
                }
            }
            (name.clone(), counts)
        })
        .collect()
}

pub(crate) fn value_type(value: &mil::NamedValueType, symbols: &Symbols) -> Result<ValueType> {
    let kind = value.r#type.as_ref().ok_or_else(|| "the type is not given".to_owned());
    kind.and_then(|kind| ValueType::from_proto(kind, symbols))
        .map_err(|error| Error::new(format!("`{}`: {error}", value.name)))
}

fn array(
    name: &str,
    kind: &TensorType,
    shape: Vec<i64>,
    shape_flexibility: Option<ShapeFlexibility>,
) -> Result<ArrayFeatureType> {
    let data_type = match kind.data_type {
        DataType::Float16 | DataType::Float32 | DataType::Int32 => kind.data_type.array_type(),
        _ => None,
    };
    let data_type = data_type.ok_or_else(|| {
        Error::new(format!("`{name}` is {kind}, but models take and give fp16, fp32 and int32"))
    })?;
    Ok(ArrayFeatureType {
        shape,
        data_type: data_type.into(),
        shape_flexibility,
        default_optional_value: None,
    })
}

fn sizes(name: &str, shape: &[u64]) -> Result<Vec<i64>> {
    let sizes: Result<Vec<i64>, _> = shape.iter().map(|size| i64::try_from(*size)).collect();
    sizes.map_err(|_| Error::new(format!("`{name}` has a size beyond 63 bits")))
}

fn feature(name: &str, kind: feature_type::Type) -> FeatureDescription {
    FeatureDescription {
        name: name.to_owned(),
        short_description: String::new(),
        r#type: Some(FeatureType { is_optional: false, r#type: Some(kind) }),
    }
}

fn input_feature(
    name: &str,
    kind: &TensorType,
    shapes: Option<&[Vec<u64>]>,
) -> Result<FeatureDescription> {
    if kind.rank() == 0 {
        return Err(Error::new(format!("input `{name}` is a scalar; give it shape (1)")));
    }
    let array = match (shapes, kind.fixed_shape()) {
        (None, Some(shape)) => array(name, kind, sizes(name, &shape)?, None)?,
        (None, None) => {
            return Err(Error::new(format!("input `{name}` is {kind}, but no shapes are given")));
        }
        (Some(shapes), _) => {
            let first = shapes
                .first()
                .ok_or_else(|| Error::new(format!("input `{name}` has an empty list of shapes")))?;
            for shape in shapes {
                let fits =
                    shape.len() == kind.rank()
                        && kind.shape.iter().zip(shape).all(|(dimension, size)| {
                            dimension.could_equal(Dimension::Fixed(*size))
                        });
                if !fits {
                    return Err(Error::new(format!(
                        "shape {shape:?} does not fit `{name}`, {kind}"
                    )));
                }
            }
            let flexibility = ShapeFlexibility::EnumeratedShapes(EnumeratedShapes {
                shapes: shapes
                    .iter()
                    .map(|shape| sizes(name, shape).map(|shape| Shape { shape }))
                    .collect::<Result<_>>()?,
            });
            array(name, kind, sizes(name, first)?, Some(flexibility))?
        }
    };
    Ok(feature(name, feature_type::Type::MultiArrayType(array)))
}

/// Outputs of unknown size have no shape in a description.
fn output_feature(name: &str, kind: &TensorType) -> Result<FeatureDescription> {
    let shape = kind.fixed_shape().unwrap_or_default();
    let array = array(name, kind, sizes(name, &shape)?, None)?;
    Ok(feature(name, feature_type::Type::MultiArrayType(array)))
}

fn state_feature(name: &str, kind: &TensorType) -> Result<FeatureDescription> {
    let shape = kind.fixed_shape().ok_or_else(|| {
        Error::new(format!("state `{name}` is {kind}, but must have a known shape"))
    })?;
    let array = array(name, kind, sizes(name, &shape)?, None)?;
    Ok(feature(
        name,
        feature_type::Type::StateType(StateFeatureType {
            r#type: Some(state_feature_type::Type::ArrayType(array)),
        }),
    ))
}
