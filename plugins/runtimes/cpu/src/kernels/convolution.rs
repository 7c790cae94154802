//! Convolution over any number of spatial axes.

use super::matrix::{Rows, project};
use super::{Call, Definition, Frame, Input, Step, Weight, checked_count, step};
use crate::element::Element;
use crate::failure::{Outcome, invalid, unsupported};
use crate::layout::Layout;
use crate::tensor::{Floats, Tensor, Wide, copy};
use anemll_matrix::Matrix;

pub(super) const ALL: &[Definition] = &[Definition::new("conv", conv)];

/// Constant parameters as given; their defaults need the rank of x.
struct Parameters {
    strides: Option<Vec<i64>>,
    dilations: Option<Vec<i64>>,
    padding: Option<Vec<i64>>,
    padding_type: String,
    groups: usize,
}

/// How one spatial axis is swept.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Axis {
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    /// Zeros before the first element.
    before: usize,
    output: usize,
}

impl Parameters {
    fn axes(&self, input: &[usize], kernel: &[usize]) -> Outcome<Vec<Axis>> {
        let rank = input.len();
        let sizes = |name: &str, values: &Option<Vec<i64>>, count: usize, default: usize| {
            let Some(values) = values else { return Ok(vec![default; count]) };
            let sizes: Vec<usize> =
                values.iter().filter_map(|&value| usize::try_from(value).ok()).collect();
            if values.len() != count || sizes.len() != count {
                return invalid(format!("`{name}` is {values:?} for {rank} spatial axes"));
            }
            Ok(sizes)
        };
        let strides = sizes("strides", &self.strides, rank, 1)?;
        let dilations = sizes("dilations", &self.dilations, rank, 1)?;
        let custom = match self.padding_type.as_str() {
            "custom" => sizes("pad", &self.padding, 2 * rank, 0)?,
            "valid" | "same" | "same_lower" => vec![0; 2 * rank],
            other => return invalid(format!("unknown pad_type `{other}`")),
        };
        let mut axes = Vec::with_capacity(rank);
        for axis in 0..rank {
            let (stride, dilation) = (strides[axis], dilations[axis]);
            if stride == 0 || dilation == 0 || kernel[axis] == 0 {
                return invalid("a stride, dilation or kernel size is 0");
            }
            let Some(reach) = (kernel[axis] - 1).checked_mul(dilation).map(|reach| reach + 1)
            else {
                return invalid("the kernel is too large");
            };
            let (before, after) = match self.padding_type.as_str() {
                "same" | "same_lower" => {
                    let outputs = input[axis].div_ceil(stride);
                    let needed =
                        (outputs.saturating_sub(1) * stride + reach).saturating_sub(input[axis]);
                    let less = needed / 2;
                    if self.padding_type == "same" {
                        (less, needed - less)
                    } else {
                        (needed - less, less)
                    }
                }
                _ => (custom[2 * axis], custom[2 * axis + 1]),
            };
            let padded = input[axis].checked_add(before).and_then(|size| size.checked_add(after));
            let Some(room) = padded.and_then(|size| size.checked_sub(reach)) else {
                return invalid(format!(
                    "a kernel that reaches over {reach} elements does not fit {} with padding",
                    input[axis]
                ));
            };
            axes.push(Axis {
                input: input[axis],
                kernel: kernel[axis],
                stride,
                dilation,
                before,
                output: room / stride + 1,
            });
        }
        Ok(axes)
    }
}

/// `conv`: x (batch, channels, spatial..), weight (outputs, channels / groups, kernel..).
fn conv(call: &Call<'_>) -> Outcome<Step> {
    let (x, weight) = (call.tensor("x")?, call.weight("weight")?);
    let bias = call.optional("bias")?;
    let element = call.element()?;
    let Some(groups) =
        usize::try_from(call.integer("groups")?.unwrap_or(1)).ok().filter(|&g| g > 0)
    else {
        return invalid("`groups` is below 1");
    };
    let parameters = Parameters {
        strides: call.integers("strides")?,
        dilations: call.integers("dilations")?,
        padding: call.integers("pad")?,
        padding_type: call.text("pad_type")?.unwrap_or("valid").to_owned(),
        groups,
    };
    step(move |frame| run(frame, &x, &weight, bias.as_ref(), &parameters, element))
}

fn run(
    frame: &Frame<'_>,
    x: &Input,
    weight: &Weight,
    bias: Option<&Input>,
    parameters: &Parameters,
    element: Element,
) -> Outcome<Tensor> {
    let x = x.get(frame)?;
    let dense = match weight {
        Weight::Packed(_) => None,
        Weight::Tensor(input) => Some(input.get(frame)?.contiguous(frame.pool)?),
    };
    let (weight_shape, weights) = match (weight, &dense) {
        (Weight::Packed(packed), _) => (packed.shape(), Rows::Packed(packed)),
        (_, Some(dense)) => (dense.shape(), Rows::Dense(Floats::dense(dense)?)),
        (Weight::Tensor(_), None) => return invalid("a weight has no value"),
    };
    let bias = bias.map(|bias| bias.get(frame)?.floats()).transpose()?;
    let ([batch, channels, spatial @ ..], [outputs, depth, kernel @ ..]) =
        (x.shape(), weight_shape)
    else {
        return invalid(format!("weight {weight_shape:?} and x {:?}", x.shape()));
    };
    let groups = parameters.groups;
    let fits = spatial.len() == kernel.len()
        && depth.checked_mul(groups) == Some(*channels)
        && outputs % groups == 0
        && bias.as_ref().is_none_or(|bias| bias.len() == *outputs);
    if !fits {
        return invalid(format!(
            "weight {weight_shape:?} with {groups} groups does not suit x {:?}, or the bias does not",
            x.shape()
        ));
    }
    let axes = parameters.axes(spatial, kernel)?;
    let mut shape = vec![*batch, *outputs];
    shape.extend(axes.iter().map(|axis| axis.output));
    checked_count(&shape)?;
    let pointwise = groups == 1
        && axes
            .iter()
            .all(|axis| axis.kernel == 1 && axis.stride == 1 && axis.output == axis.input);
    if pointwise {
        return one_by_one(frame, x, weights, bias.as_deref(), &shape, element);
    }
    let decoded;
    let weights = match weights {
        Rows::Dense(weights) => weights,
        Rows::Packed(packed) => {
            decoded = packed.decoded()?;
            Floats::dense(&decoded)?
        }
    };
    general(frame, x, weights, bias.as_deref(), &axes, groups, &shape, element)
}

/// A kernel of one element: a matrix product per sample. The result lies position after position
/// (channels last in memory), which makes the transpositions around it views.
fn one_by_one(
    frame: &Frame<'_>,
    x: &Tensor,
    weights: Rows<'_>,
    bias: Option<&[f32]>,
    shape: &[usize],
    element: Element,
) -> Outcome<Tensor> {
    let (batch, depth, rows) = (shape[0], x.shape()[1], shape[1]);
    let columns: usize = shape[2..].iter().product();
    let flat = x.viewed(x.layout.reshaped(&[batch, depth, columns]));
    let (flat, _) = flat.with_strides(frame.pool)?;
    let wide = Wide::new(&flat, frame.pool)?;
    let Some(&[sample, channel, position]) = wide.layout.strides().as_deref() else {
        return invalid("x has no strides");
    };
    let mut whole = None;
    for index in 0..batch {
        let start = (wide.layout.offset() as isize + sample * index as isize) as usize;
        let matrix = Matrix::new(wide.data(), start, [depth, columns], [channel, position])?;
        let one = project(frame, weights, rows, matrix, bias, element)?;
        if batch == 1 {
            whole = Some(one);
            break;
        }
        let bytes = one.bytes().len();
        let all = match &mut whole {
            Some(all) => all,
            None => whole.insert(frame.pool.take_elements(element, batch * rows * columns)?),
        };
        all.bytes_mut()[index * bytes..(index + 1) * bytes].copy_from_slice(one.bytes());
        frame.pool.give(one);
    }
    wide.release(frame.pool);
    let Some(buffer) = whole else {
        let nothing = frame.pool.take_elements(element, 0)?;
        return Ok(Tensor::owned(element, shape, nothing));
    };
    let strides = [(rows * columns) as isize, 1, rows as isize];
    let layout = Layout::strided(&[batch, rows, columns], &strides, 0).reshaped(shape);
    Ok(Tensor::with_layout(element, layout, buffer))
}

/// Any kernel: the inputs under each position of the kernel become columns of a matrix.
#[expect(clippy::too_many_arguments, reason = "internal, and each is one plain fact")]
fn general(
    frame: &Frame<'_>,
    x: &Tensor,
    weights: Floats<'_>,
    bias: Option<&[f32]>,
    axes: &[Axis],
    groups: usize,
    shape: &[usize],
    element: Element,
) -> Outcome<Tensor> {
    let x = x.contiguous(frame.pool)?;
    if !matches!(x.element, Element::F16 | Element::F32) {
        return unsupported(format!("conv of {} values", x.element.name()));
    }
    let values = x.floats()?;
    let (batch, channels) = (x.shape()[0], x.shape()[1]);
    let inputs: usize = axes.iter().map(|axis| axis.input).product();
    let positions: usize = axes.iter().map(|axis| axis.output).product();
    let taps: usize = axes.iter().map(|axis| axis.kernel).product();
    let (own_channels, own_outputs) = (channels / groups, shape[1] / groups);
    let depth = own_channels * taps;
    let Some(size) = positions.checked_mul(depth) else { return invalid("the input is too large") };
    checked_count(&[size])?;
    let sources = sources(axes, positions, taps);
    let mut buffer = frame.pool.take_elements(element, shape.iter().product())?;
    let whole = Layout::contiguous(&[batch, shape[1], positions]);
    let mut columns = vec![0.0; size];
    for sample in 0..batch {
        for group in 0..groups {
            for (position, column) in columns.chunks_exact_mut(depth.max(1)).enumerate() {
                for (index, value) in column.iter_mut().enumerate() {
                    let channel = group * own_channels + index / taps;
                    *value = match sources[position * taps + index % taps] {
                        Some(at) => values[(sample * channels + channel) * inputs + at],
                        None => 0.0,
                    };
                }
            }
            let first = group * own_outputs;
            let part = project(
                frame,
                Rows::Dense(weights.range(first * depth..(first + own_outputs) * depth)),
                own_outputs,
                Matrix::new(&columns, 0, [depth, positions], [1, depth as isize])?,
                bias.map(|bias| &bias[first..first + own_outputs]),
                element,
            )?;
            let layout =
                Layout::strided(&[1, own_outputs, positions], &[0, 1, own_outputs as isize], 0);
            let part = Tensor::with_layout(element, layout, part);
            match whole.sliced(&[sample, first, 0], &[1; 3], &[1, own_outputs, positions]) {
                Some(target) => copy(&part, &mut buffer, &target)?,
                None => return invalid("a contiguous result has no such part"),
            }
            frame.pool.recycle(part.storage);
        }
    }
    Ok(Tensor::owned(element, shape, buffer))
}

/// For each output position and kernel tap the index into a channel's plane; `None` in the
/// padding.
fn sources(axes: &[Axis], positions: usize, taps: usize) -> Vec<Option<usize>> {
    let mut all = Vec::with_capacity(positions * taps);
    for position in 0..positions {
        for tap in 0..taps {
            let (mut p, mut t, mut scale) = (position, tap, 1);
            let mut index = Some(0);
            for axis in axes.iter().rev() {
                let at = (p % axis.output) * axis.stride + (t % axis.kernel) * axis.dilation;
                let inside = at.checked_sub(axis.before).filter(|&at| at < axis.input);
                index = index.zip(inside).map(|(index, at)| index + at * scale);
                p /= axis.output;
                t /= axis.kernel;
                scale *= axis.input;
            }
            all.push(index);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Pool;
    use crate::testing::Random;
    use crate::workers::Team;
    use anemll_plugin_api::Host;

    struct Case {
        batch: usize,
        channels: usize,
        outputs: usize,
        groups: usize,
        input: Vec<usize>,
        kernel: Vec<usize>,
        strides: Vec<i64>,
        dilations: Vec<i64>,
        padding: Vec<i64>,
    }

    /// Convolution by its definition in f64 over two spatial axes.
    fn naive(case: &Case, x: &[f32], weight: &[f32], bias: &[f32]) -> (Vec<usize>, Vec<f64>) {
        let size = |axis: usize| {
            let reach = (case.kernel[axis] - 1) * case.dilations[axis] as usize + 1;
            let padded =
                case.input[axis] + (case.padding[2 * axis] + case.padding[2 * axis + 1]) as usize;
            (padded - reach) / case.strides[axis] as usize + 1
        };
        let (height, width) = (size(0), size(1));
        let depth = case.channels / case.groups;
        let mut result = Vec::new();
        for n in 0..case.batch {
            for (o, &term) in bias.iter().enumerate() {
                let group = o / (case.outputs / case.groups);
                for i in 0..height as i64 {
                    for j in 0..width as i64 {
                        let mut sum = f64::from(term);
                        for c in 0..depth {
                            for a in 0..case.kernel[0] {
                                for b in 0..case.kernel[1] {
                                    let row = i * case.strides[0] + a as i64 * case.dilations[0]
                                        - case.padding[0];
                                    let column = j * case.strides[1] + b as i64 * case.dilations[1]
                                        - case.padding[2];
                                    if row < 0
                                        || column < 0
                                        || row >= case.input[0] as i64
                                        || column >= case.input[1] as i64
                                    {
                                        continue;
                                    }
                                    let channel = group * depth + c;
                                    let at = ((n * case.channels + channel) * case.input[0]
                                        + row as usize)
                                        * case.input[1]
                                        + column as usize;
                                    let w =
                                        ((o * depth + c) * case.kernel[0] + a) * case.kernel[1] + b;
                                    sum += f64::from(x[at]) * f64::from(weight[w]);
                                }
                            }
                        }
                        result.push(sum);
                    }
                }
            }
        }
        (vec![case.batch, case.outputs, height, width], result)
    }

    fn check(case: &Case) {
        let mut random = Random::new(case.outputs as u64);
        let (pool, host) = (Pool::default(), Host::quiet());
        let frame =
            Frame { slots: Vec::new(), states: &mut [], pool: &pool, team: &Team::new(&host) };
        let x_shape = [&[case.batch, case.channels][..], &case.input].concat();
        let w_shape = [&[case.outputs, case.channels / case.groups][..], &case.kernel].concat();
        let x = random.units(x_shape.iter().product());
        let weight = random.units(w_shape.iter().product());
        let bias = random.units(case.outputs);
        let constant = |shape: &[usize], values: &[f32]| {
            Input::Constant(Tensor::from_slice(Element::F32, shape, values))
        };
        let parameters = Parameters {
            strides: Some(case.strides.clone()),
            dilations: Some(case.dilations.clone()),
            padding: Some(case.padding.clone()),
            padding_type: "custom".to_owned(),
            groups: case.groups,
        };
        let result = run(
            &frame,
            &constant(&x_shape, &x),
            &Weight::Tensor(constant(&w_shape, &weight)),
            Some(&constant(&[case.outputs], &bias)),
            &parameters,
            Element::F32,
        )
        .unwrap();
        let (shape, expected) = naive(case, &x, &weight, &bias);
        assert_eq!(result.shape(), shape);
        for (value, exact) in result.floats().unwrap().iter().zip(expected) {
            assert!((f64::from(*value) - exact).abs() < 1e-4);
        }
    }

    #[test]
    fn convolutions_match_their_definition() {
        check(&Case {
            batch: 2,
            channels: 3,
            outputs: 4,
            groups: 1,
            input: vec![5, 6],
            kernel: vec![1, 1],
            strides: vec![1, 1],
            dilations: vec![1, 1],
            padding: vec![0; 4],
        });
        check(&Case {
            batch: 1,
            channels: 4,
            outputs: 6,
            groups: 2,
            input: vec![7, 9],
            kernel: vec![3, 2],
            strides: vec![2, 1],
            dilations: vec![1, 3],
            padding: vec![1, 2, 0, 3],
        });
        check(&Case {
            batch: 2,
            channels: 5,
            outputs: 5,
            groups: 5,
            input: vec![1, 11],
            kernel: vec![1, 4],
            strides: vec![1, 3],
            dilations: vec![1, 2],
            padding: vec![0, 0, 2, 1],
        });
        check(&Case {
            batch: 1,
            channels: 2,
            outputs: 3,
            groups: 1,
            input: vec![4, 4],
            kernel: vec![1, 1],
            strides: vec![2, 2],
            dilations: vec![1, 1],
            padding: vec![1, 1, 0, 0],
        });
    }

    #[test]
    fn same_padding_keeps_the_size_and_differs_in_the_odd_zero() {
        let parameters = |padding_type: &str| Parameters {
            strides: Some(vec![2]),
            dilations: None,
            padding: None,
            padding_type: padding_type.to_owned(),
            groups: 1,
        };
        let upper = parameters("same").axes(&[6], &[3]).unwrap();
        let lower = parameters("same_lower").axes(&[6], &[3]).unwrap();
        assert_eq!((upper[0].before, upper[0].output), (0, 3));
        assert_eq!((lower[0].before, lower[0].output), (1, 3));
        assert!(parameters("valid").axes(&[2], &[3]).is_err());
        assert!(parameters("other").axes(&[2], &[1]).is_err());
    }
}
