//! Convolutions and pooling over one to three spatial axes.

use super::arguments::{Arguments, one};
use super::{OpDefinition, Parameter, domains};
use crate::types::{Dimension, TensorType, ValueType};

const CONV: &[Parameter] = &[
    Parameter::tensor("x", domains::FLOAT),
    Parameter::tensor("weight", domains::FLOAT),
    Parameter::optional("bias", domains::FLOAT),
    Parameter::setting("strides", domains::INT32),
    Parameter::setting("pad_type", domains::STRING),
    Parameter::setting("pad", domains::INT32),
    Parameter::setting("dilations", domains::INT32),
    Parameter::setting("groups", domains::INT32),
];
const POOL: &[Parameter] = &[
    Parameter::tensor("x", domains::FLOAT),
    Parameter::constant("kernel_sizes", domains::INT32),
    Parameter::setting("strides", domains::INT32),
    Parameter::constant("pad_type", domains::STRING),
    Parameter::setting("pad", domains::INT32),
    Parameter::setting("ceil_mode", domains::BOOL),
];
const AVERAGE_POOL: &[Parameter] = &[
    Parameter::tensor("x", domains::FLOAT),
    Parameter::constant("kernel_sizes", domains::INT32),
    Parameter::setting("strides", domains::INT32),
    Parameter::constant("pad_type", domains::STRING),
    Parameter::setting("pad", domains::INT32),
    Parameter::setting("ceil_mode", domains::BOOL),
    Parameter::setting("exclude_padding_from_average", domains::BOOL),
];

/// How a window moves over the spatial axes.
struct Window {
    kernel: Vec<Dimension>,
    strides: Vec<u64>,
    dilations: Vec<u64>,
    pad: Vec<u64>,
    pad_type: String,
    round_up: bool,
}

impl Window {
    fn read(arguments: &Arguments<'_>, kernel: Vec<Dimension>) -> Result<Self, String> {
        let axes = kernel.len();
        let positive = |name: &str, length: usize, default: u64, low: i64| {
            if !arguments.has(name) {
                return Ok(vec![default; length]);
            }
            let values = arguments.known_integers(name)?;
            if values.len() != length || values.iter().any(|value| *value < low) {
                return Err(format!("`{name}` is {values:?}, but needs {length} entries >= {low}"));
            }
            // No value is below zero here.
            Ok(values.into_iter().map(i64::unsigned_abs).collect())
        };
        let pad_type = arguments.text("pad_type", "valid")?;
        if !["valid", "custom", "same", "same_lower"].contains(&pad_type.as_str()) {
            return Err(format!("{pad_type:?} is not a pad_type"));
        }
        Ok(Self {
            kernel,
            strides: positive("strides", axes, 1, 1)?,
            dilations: positive("dilations", axes, 1, 1)?,
            // Only custom padding is read, the others may carry zeros of any use.
            pad: if pad_type == "custom" {
                positive("pad", 2 * axes, 0, 0)?
            } else {
                vec![0; 2 * axes]
            },
            pad_type,
            round_up: arguments.boolean("ceil_mode", false)?,
        })
    }

    fn apply(&self, sizes: &[Dimension], fresh: &dyn Fn() -> Dimension) -> Spatial {
        let mut result = Vec::with_capacity(sizes.len());
        for (axis, size) in sizes.iter().enumerate() {
            let stride = self.strides[axis];
            result.push(match (size, self.kernel[axis]) {
                (Dimension::Fixed(size), _) if self.pad_type.starts_with("same") => {
                    Dimension::Fixed(size.div_ceil(stride))
                }
                (Dimension::Fixed(size), Dimension::Fixed(kernel)) => {
                    let reach = kernel
                        .checked_sub(1)
                        .and_then(|steps| steps.checked_mul(self.dilations[axis]))
                        .and_then(|steps| steps.checked_add(1));
                    let padded = size
                        .checked_add(self.pad[2 * axis])
                        .and_then(|size| size.checked_add(self.pad[2 * axis + 1]));
                    let steps = match (reach, padded) {
                        (Some(reach), Some(padded)) => padded.checked_sub(reach),
                        _ => None,
                    };
                    let steps = steps.ok_or_else(|| {
                        format!(
                            "the window of size {kernel} does not fit axis {axis} of size {size}"
                        )
                    })?;
                    let steps = if self.round_up { steps.div_ceil(stride) } else { steps / stride };
                    Dimension::Fixed(steps.checked_add(1).ok_or("the result is too large")?)
                }
                // A window of one element at stride one keeps even an unknown size.
                (symbol, Dimension::Fixed(1))
                    if stride == 1 && self.pad.iter().all(|p| *p == 0) =>
                {
                    *symbol
                }
                _ => fresh(),
            });
        }
        Ok(result)
    }
}

type Spatial = Result<Vec<Dimension>, String>;

/// `x` (batch, in, …), `weight` (out, in / groups, …), `bias` (out).
fn conv(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let (x, weight) = (arguments.tensor("x")?, arguments.tensor("weight")?);
    let [batch, channels, sizes @ ..] = x.shape.as_slice() else {
        return Err(format!("x is {x}, but needs batch, channels and spatial axes"));
    };
    let [outputs, inputs, kernel @ ..] = weight.shape.as_slice() else {
        return Err(format!("weight is {weight}, but needs outputs, inputs and spatial axes"));
    };
    if !(1..=3).contains(&sizes.len()) || sizes.len() != kernel.len() {
        return Err(format!("x ({x}) and weight ({weight}) do not have the same spatial axes"));
    }
    let groups = arguments.integer("groups", 1)?;
    let groups = u64::try_from(groups).ok().filter(|groups| *groups > 0);
    let groups = groups.ok_or("`groups` must be positive")?;
    if let (Some(channels), Some(inputs)) = (channels.fixed(), inputs.fixed())
        && inputs.checked_mul(groups) != Some(channels)
    {
        return Err(format!(
            "x has {channels} channels, but weight takes {inputs} in each of {groups} groups"
        ));
    }
    if outputs.fixed().is_some_and(|outputs| outputs % groups != 0) {
        return Err(format!("{outputs} outputs do not split in {groups} groups"));
    }
    if let Some(bias) = arguments.optional_tensor("bias")?
        && !matches!(bias.shape[..], [size] if size.could_equal(*outputs))
    {
        return Err(format!("bias is {bias}, but weight has {outputs} outputs"));
    }
    let window = Window::read(arguments, kernel.to_vec())?;
    let mut shape = vec![*batch, *outputs];
    shape.extend(window.apply(sizes, &|| arguments.fresh())?);
    one(TensorType::with_shape(x.data_type, shape))
}

fn pool(arguments: &Arguments<'_>) -> Result<Vec<ValueType>, String> {
    let x = arguments.tensor("x")?;
    let [batch, channels, sizes @ ..] = x.shape.as_slice() else {
        return Err(format!("x is {x}, but needs batch, channels and spatial axes"));
    };
    let kernel = arguments
        .known_integers("kernel_sizes")?
        .into_iter()
        .map(|size| u64::try_from(size).map(Dimension::Fixed))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "`kernel_sizes` holds a negative size")?;
    if kernel.len() != sizes.len() {
        return Err(format!("kernel of {} axes does not fit {x}", kernel.len()));
    }
    let window = Window::read(arguments, kernel)?;
    let mut shape = vec![*batch, *channels];
    shape.extend(window.apply(sizes, &|| arguments.fresh())?);
    one(TensorType::with_shape(x.data_type, shape))
}

pub(super) const OPS: &[OpDefinition] = &[
    OpDefinition::new("avg_pool", AVERAGE_POOL, pool),
    OpDefinition::new("conv", CONV, conv),
    OpDefinition::new("l2_pool", POOL, pool),
    OpDefinition::new("max_pool", POOL, pool),
];
