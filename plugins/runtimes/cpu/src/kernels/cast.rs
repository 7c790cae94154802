//! Conversion between element types.

use super::elementwise::from_integers;
use super::{Call, Definition, Prepared, step};
use crate::element::Element;
use crate::failure::{Outcome, invalid};
use crate::simd;
use crate::tensor::{Data, Tensor};
use half::f16;

pub(super) const ALL: &[Definition] = &[Definition::new("cast", prepare)];

/// `cast`: floats to integers are cut towards zero and stay within the type's range (NaN gives
/// 0); integers to narrower ones wrap; anything but zero is true.
fn prepare(call: &Call<'_>) -> Outcome<Prepared> {
    let name = call.text("dtype")?.unwrap_or_default();
    let Some(target) = Element::from_cast_name(name) else {
        return invalid(format!("unknown dtype `{name}`"));
    };
    let x = call.tensor("x")?;
    step(move |frame| {
        let x = x.get(frame)?;
        if x.element == target { Ok(x.clone()) } else { cast(x, target) }
    })
}

fn cast(x: &Tensor, target: Element) -> Outcome<Tensor> {
    let shape = x.shape();
    match (x.data()?, target) {
        (Data::F64(_), Element::F64) => Ok(x.clone()),
        (_, Element::F16) => {
            let wide = x.floats()?;
            let mut halves = vec![f16::ZERO; wide.len()];
            simd::narrow(&wide, &mut halves);
            Ok(Tensor::from_slice(target, shape, &halves))
        }
        (_, Element::F32) => Ok(Tensor::from_slice(target, shape, &x.floats()?)),
        (_, Element::F64) => {
            let doubles: Vec<f64> = x.floats()?.into_iter().map(f64::from).collect();
            Ok(Tensor::from_slice(target, shape, &doubles))
        }
        (Data::F16(_) | Data::F32(_) | Data::F64(_), Element::Bool) => {
            let flags: Vec<u8> = x.floats()?.into_iter().map(|v| u8::from(v != 0.0)).collect();
            Ok(Tensor::from_slice(target, shape, &flags))
        }
        (Data::F16(_) | Data::F32(_) | Data::F64(_), _) => {
            // `as` saturates and turns NaN into 0; the second step clamps to the narrower type.
            let (low, high) = range(target);
            let integers: Vec<i64> =
                x.floats()?.into_iter().map(|value| (value as i64).clamp(low, high)).collect();
            from_integers(target, shape, &integers)
        }
        _ => from_integers(target, shape, &x.integers()?),
    }
}

fn range(element: Element) -> (i64, i64) {
    match element {
        Element::I8 => (i8::MIN.into(), i8::MAX.into()),
        Element::I16 => (i16::MIN.into(), i16::MAX.into()),
        Element::I32 => (i32::MIN.into(), i32::MAX.into()),
        Element::U8 => (0, u8::MAX.into()),
        Element::U16 => (0, u16::MAX.into()),
        Element::U32 => (0, u32::MAX.into()),
        Element::U64 => (0, i64::MAX),
        _ => (i64::MIN, i64::MAX),
    }
}
