//! Conversion between element types.

use super::elementwise::from_integers;
use super::{Call, Definition, Step, step};
use crate::element::Element;
use crate::failure::{Outcome, invalid};
use crate::simd;
use crate::tensor::{Data, Tensor};
use half::f16;

pub(super) const ALL: &[Definition] = &[Definition::new("cast", prepare)];

/// `cast`: floats to integers are cut towards zero and stay within the type's range (NaN gives
/// 0); integers to narrower ones wrap; anything but zero is true.
fn prepare(call: &Call<'_>) -> Outcome<Step> {
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
    match (x.data(), target) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Given, evaluate, f32s, i32s};

    fn cast_to(x: Tensor, dtype: &'static str) -> Outcome<Tensor> {
        let element = Element::from_cast_name(dtype).unwrap_or(Element::F32);
        evaluate("cast", vec![("x", x.into()), ("dtype", Given::Text(dtype))], element)
    }

    #[test]
    fn floats_are_cut_and_kept_in_range() {
        let x = || f32s(&[6], &[1.9, -1.9, 70000.0, -70000.0, f32::NAN, 3e9]);
        let list = |dtype| cast_to(x(), dtype).unwrap().integers().unwrap();
        assert_eq!(list("int32"), [1, -1, 70000, -70000, 0, 2_147_483_647]);
        assert_eq!(list("int16"), [1, -1, 32767, -32768, 0, 32767]);
        assert_eq!(list("uint16"), [1, 0, 65535, 0, 0, 65535]);
        assert_eq!(list("bool"), [1, 1, 1, 1, 1, 1]);
        let halves = cast_to(x(), "fp16").unwrap().floats().unwrap();
        assert_eq!(halves[2], f32::INFINITY);
        assert_eq!(halves[0], f16::from_f32(1.9).to_f32());
        assert!(cast_to(x(), "nonsense").is_err());
    }

    #[test]
    fn integers_wrap_and_become_floats() {
        let x = || i32s(&[3], &[65537, -1, 300]);
        assert_eq!(cast_to(x(), "uint16").unwrap().integers().unwrap(), [1, 65535, 300]);
        assert_eq!(cast_to(x(), "int8").unwrap().integers().unwrap(), [1, -1, 44]);
        assert_eq!(cast_to(x(), "fp32").unwrap().floats().unwrap(), [65537.0, -1.0, 300.0]);
    }
}
