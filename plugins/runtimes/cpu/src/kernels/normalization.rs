//! Softmax and normalisations.

use super::math::exp;
use super::rows::{Rows, maximum, sum};
use super::{Call, Definition, Step, axis_index, axis_indices, step};
use crate::failure::{Outcome, invalid};
use crate::layout::Layout;
use crate::tensor::Tensor;

pub(super) const ALL: &[Definition] = &[
    Definition::new("batch_norm", batch_norm),
    Definition::new("instance_norm", instance_norm),
    Definition::new("l2_norm", l2_norm),
    Definition::new("layer_norm", layer_norm),
    Definition::new("softmax", softmax),
];

/// `softmax`: e^(x - max) / sum. A row of -inf alone gives NaN, as IEEE arithmetic says.
fn softmax(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let axis = call.integer("axis")?.unwrap_or(-1);
    step(move |frame| {
        let x = x.get(frame)?;
        let axis = axis_index(axis, x.rank())?;
        Rows::new(frame, x, &[axis])?.map(frame, 10, |row| {
            let largest = maximum(row);
            for value in row.iter_mut() {
                *value = exp(*value - largest);
            }
            let total = sum(row);
            for value in row.iter_mut() {
                *value /= total;
            }
        })
    })
}

/// Subtracts the mean and divides by the deviation, both over the row.
#[inline(always)]
pub(crate) fn standardize(row: &mut [f32], epsilon: f32) {
    let count = row.len() as f32;
    let mean = sum(row) / count;
    for value in row.iter_mut() {
        *value -= mean;
    }
    let variance = super::rows::fold_squares(row) / count;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for value in row.iter_mut() {
        *value *= scale;
    }
}

/// The f32 elements of a parameter, which must have as many as a row.
fn parameter(name: &str, tensor: Option<&Tensor>, count: usize) -> Outcome<Option<Vec<f32>>> {
    let Some(tensor) = tensor else { return Ok(None) };
    if tensor.count() != count {
        return invalid(format!("`{name}` has {} elements, not {count}", tensor.count()));
    }
    Ok(Some(tensor.floats()?))
}

/// `layer_norm` over `axes`: (x - mean) / sqrt(variance + epsilon) * gamma + beta.
fn layer_norm(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let axes = call.integers("axes")?;
    let (gamma, beta) = (call.constant("gamma")?, call.constant("beta")?);
    let epsilon = call.float("epsilon")?.unwrap_or(1e-5);
    step(move |frame| {
        let x = x.get(frame)?;
        let axes = match &axes {
            Some(axes) => axis_indices(axes, x.rank())?,
            None => (0..x.rank()).collect(),
        };
        let rows = Rows::new(frame, x, &axes)?;
        let gamma = parameter("gamma", gamma.as_ref(), rows.width)?;
        let beta = parameter("beta", beta.as_ref(), rows.width)?;
        rows.map(frame, 4, |row| {
            standardize(row, epsilon);
            if let Some(gamma) = &gamma {
                row.iter_mut().zip(gamma).for_each(|(value, factor)| *value *= factor);
            }
            if let Some(beta) = &beta {
                row.iter_mut().zip(beta).for_each(|(value, term)| *value += term);
            }
        })
    })
}

/// `l2_norm`: x / sqrt(sum of squares + epsilon), over the last three axes.
fn l2_norm(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let epsilon = call.float("epsilon")?.unwrap_or(1e-6);
    step(move |frame| {
        let x = x.get(frame)?;
        let axes: Vec<usize> = (x.rank().saturating_sub(3)..x.rank()).collect();
        Rows::new(frame, x, &axes)?.map(frame, 4, |row| {
            let scale = 1.0 / (super::rows::fold_squares(row) + epsilon).sqrt();
            row.iter_mut().for_each(|value| *value *= scale);
        })
    })
}

/// Applies a factor and a term per channel (axis 1) to a row-major value.
fn per_channel(
    x: &Tensor,
    factors: &[f32],
    terms: &[f32],
    frame: &super::Frame<'_>,
) -> Outcome<Tensor> {
    let Some(&channels) = x.shape().get(1) else { return invalid("a value without channels") };
    if factors.len() != channels || terms.len() != channels {
        return invalid(format!("parameters do not have {channels} elements"));
    }
    let inner: usize = x.shape()[2..].iter().product();
    let mut values = x.floats()?;
    for (index, piece) in values.chunks_mut(inner.max(1)).enumerate() {
        let channel = index % channels;
        piece.iter_mut().for_each(|value| *value = *value * factors[channel] + terms[channel]);
    }
    let layout = Layout::contiguous(x.shape());
    let wide = crate::storage::Buffer::from_slice(&values);
    crate::tensor::from_wide(x.element, layout, wide, frame.pool)
}

/// `batch_norm` with constant statistics: (x - mean) / sqrt(variance + epsilon) * gamma + beta.
fn batch_norm(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let (Some(mean), Some(variance)) = (call.constant("mean")?, call.constant("variance")?) else {
        return invalid("`mean` or `variance` is missing");
    };
    let (mean, variance) = (mean.floats()?, variance.floats()?);
    let gamma = call.constant("gamma")?.map(|gamma| gamma.floats()).transpose()?;
    let beta = call.constant("beta")?.map(|beta| beta.floats()).transpose()?;
    let epsilon = call.float("epsilon")?.unwrap_or(1e-5);
    let gamma = gamma.unwrap_or_else(|| vec![1.0; mean.len()]);
    let beta = beta.unwrap_or_else(|| vec![0.0; mean.len()]);
    if [variance.len(), gamma.len(), beta.len()] != [mean.len(); 3] {
        return invalid("mean, variance, gamma and beta have different sizes");
    }
    let factors: Vec<f32> =
        gamma.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let terms: Vec<f32> =
        beta.iter().zip(&mean).zip(&factors).map(|((b, m), f)| b - m * f).collect();
    step(move |frame| per_channel(x.get(frame)?, &factors, &terms, frame))
}

/// `instance_norm`: each channel of each sample over its own elements, then gamma and beta.
fn instance_norm(call: &Call<'_>) -> Outcome<Step> {
    let x = call.tensor("x")?;
    let gamma = call.constant("gamma")?.map(|gamma| gamma.floats()).transpose()?;
    let beta = call.constant("beta")?.map(|beta| beta.floats()).transpose()?;
    let epsilon = call.float("epsilon")?.unwrap_or(1e-5);
    step(move |frame| {
        let x = x.get(frame)?;
        let axes: Vec<usize> = (2..x.rank()).collect();
        let normed = Rows::new(frame, x, &axes)?.map(frame, 4, |row| standardize(row, epsilon))?;
        if gamma.is_none() && beta.is_none() {
            return Ok(normed);
        }
        let channels = x.shape().get(1).copied().unwrap_or(0);
        let gamma = gamma.clone().unwrap_or_else(|| vec![1.0; channels]);
        let beta = beta.clone().unwrap_or_else(|| vec![0.0; channels]);
        per_channel(&normed, &gamma, &beta, frame)
    })
}

#[cfg(test)]
mod tests {
    use crate::element::Element;
    use crate::testing::{Random, evaluate, f16s, f32s, i32s};

    #[test]
    fn softmax_is_stable_and_masks_to_zero() {
        let x = f16s(&[2, 3], &[60000.0, 60000.0, f32::NEG_INFINITY, 1.0, 2.0, 3.0]);
        let arguments = vec![("x", x.into()), ("axis", i32s(&[], &[-1]).into())];
        let values = evaluate("softmax", arguments, Element::F16).unwrap().floats().unwrap();
        assert_eq!(values[..3], [0.5, 0.5, 0.0]);
        for (value, exact) in values[3..].iter().zip([0.090_03, 0.244_73, 0.665_24]) {
            assert!((value - exact).abs() < 5e-4);
        }
        let x = f32s(&[2, 2], &[1.0, 5.0, 1.0, 5.0]);
        let arguments = vec![("x", x.into()), ("axis", i32s(&[], &[0]).into())];
        let values = evaluate("softmax", arguments, Element::F32).unwrap().floats().unwrap();
        assert_eq!(values, [0.5; 4]);
    }

    #[test]
    fn layer_norm_over_any_axes_matches_double() {
        let mut random = Random::new(4);
        let x = random.units(2 * 37 * 3);
        let (gamma, beta) = (random.units(37), random.units(37));
        let arguments = vec![
            ("x", f32s(&[2, 37, 3], &x).into()),
            ("axes", i32s(&[1], &[1]).into()),
            ("gamma", f32s(&[37], &gamma).into()),
            ("beta", f32s(&[37], &beta).into()),
            ("epsilon", f32s(&[], &[1e-3]).into()),
        ];
        let values = evaluate("layer_norm", arguments, Element::F32).unwrap().floats().unwrap();
        for outer in 0..2 {
            for inner in 0..3 {
                let at = |i: usize| (outer * 37 + i) * 3 + inner;
                let row: Vec<f64> = (0..37).map(|i| f64::from(x[at(i)])).collect();
                let mean = row.iter().sum::<f64>() / 37.0;
                let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 37.0;
                for i in 0..37 {
                    let exact = (row[i] - mean) / (variance + 1e-3).sqrt() * f64::from(gamma[i])
                        + f64::from(beta[i]);
                    assert!((f64::from(values[at(i)]) - exact).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn parameters_of_another_size_are_refused() {
        let arguments = vec![
            ("x", f32s(&[1, 4], &[0.0; 4]).into()),
            ("axes", i32s(&[1], &[1]).into()),
            ("gamma", f32s(&[3], &[1.0; 3]).into()),
        ];
        assert!(evaluate("layer_norm", arguments, Element::F32).is_err());
    }
}
