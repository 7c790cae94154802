//! Conversion to float16 against a slow independent reckoning.
#![allow(clippy::unwrap_used)]

use anemll_huggingface::{ErrorKind, Fp16Options, Fp16Report, SourceType, TensorData, to_fp16};

fn float32(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn bits(values: &[f32], options: &Fp16Options) -> (Vec<u16>, Fp16Report) {
    let bytes = float32(values);
    let shape = [values.len() as u64];
    let tensor = TensorData::new("t", SourceType::Float32, &shape, &bytes).unwrap();
    let (halves, report) = to_fp16(&tensor, options).unwrap();
    (halves.iter().map(|half| half.to_bits()).collect(), report)
}

/// Value of a float16 bit pattern, from the definition of the format.
fn value_of(half: u16) -> f64 {
    let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(half >> 10 & 0x1F);
    let fraction = f64::from(half & 0x3FF) / 1024.0;
    if exponent == 0 {
        sign * fraction * 2.0_f64.powi(-14)
    } else {
        sign * (1.0 + fraction) * 2.0_f64.powi(exponent - 15)
    }
}

#[test]
fn every_float16_survives() {
    // 63488 finite values: more than one chunk, and not a multiple of one.
    let finite: Vec<u16> = (0..=u16::MAX).filter(|half| half & 0x7C00 != 0x7C00).collect();
    let bytes: Vec<u8> = finite.iter().flat_map(|half| half.to_le_bytes()).collect();
    let shape = [finite.len() as u64];
    let tensor = TensorData::new("t", SourceType::Float16, &shape, &bytes).unwrap();
    let (halves, report) = to_fp16(&tensor, &Fp16Options::default()).unwrap();
    assert!(halves.iter().map(|half| half.to_bits()).eq(finite.iter().copied()));
    assert_eq!(report.subnormal, 2 * 1023);
    assert_eq!((report.clamped, report.underflow_to_zero), (0, 0));
    assert_eq!(report.max_absolute, 65504.0);

    let values: Vec<f32> = finite.iter().map(|half| value_of(*half) as f32).collect();
    let (again, _) = bits(&values, &Fp16Options::default());
    // The sign of zero is in the bits, not in the value.
    assert!(again.iter().zip(&finite).all(|(new, old)| new == old || old & 0x7FFF == 0));
}

#[test]
fn ties_go_to_even() {
    for low in [0x0000_u16, 0x0001, 0x03FF, 0x3C00, 0x3C01, 0x7BFD, 0x7BFE] {
        let middle = (value_of(low) + value_of(low + 1)) / 2.0;
        let even = if low % 2 == 0 { low } else { low + 1 };
        let above = f32::from_bits((middle as f32).to_bits() + 1);
        let below = f32::from_bits((middle as f32).to_bits() - 1);
        let (halves, _) = bits(&[middle as f32, above, below], &Fp16Options::default());
        assert_eq!(halves, [even, low + 1, low], "{low:#06x}");
    }
}

#[test]
fn bfloat16_is_the_upper_half() {
    let values = [1.0_f32, -2.5, 0.15625, 3.0e-6];
    let bytes: Vec<u8> =
        values.iter().flat_map(|v| ((v.to_bits() >> 16) as u16).to_le_bytes()).collect();
    let tensor = TensorData::new("t", SourceType::BFloat16, &[4], &bytes).unwrap();
    let (halves, report) = to_fp16(&tensor, &Fp16Options::default()).unwrap();
    assert_eq!(halves[..3].iter().map(|half| half.to_f32()).collect::<Vec<_>>(), values[..3]);
    assert_eq!(report.subnormal, 1);
}

#[test]
fn unaligned_bytes_are_read() {
    let mut bytes = vec![0];
    bytes.extend_from_slice(&float32(&[1.5, -3.0]));
    let tensor = TensorData::new("t", SourceType::Float32, &[2], &bytes[1..]).unwrap();
    let (halves, _) = to_fp16(&tensor, &Fp16Options::default()).unwrap();
    assert_eq!(halves.iter().map(|half| half.to_f32()).collect::<Vec<_>>(), [1.5, -3.0]);
}

#[test]
fn counts_of_small_values() {
    let smallest = 2.0_f32.powi(-24);
    let values = [0.0, -0.0, smallest, smallest / 2.0, -smallest / 2.0, smallest * 0.51, 1e-30];
    let (halves, report) = bits(&values, &Fp16Options::default());
    assert_eq!(halves, [0, 0x8000, 1, 0, 0x8000, 1, 0]);
    assert_eq!((report.underflow_to_zero, report.subnormal), (3, 2));
}

#[test]
fn values_that_are_not_finite() {
    for (bad, text) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        let mut values = vec![1.0; 6 * 500];
        values[5 * 500 + 37] = bad;
        let bytes = float32(&values);
        let tensor = TensorData::new("w", SourceType::Float32, &[6, 500], &bytes).unwrap();
        for clamp in [false, true] {
            let options = Fp16Options { clamp, ..Default::default() };
            let error = to_fp16(&tensor, &options).unwrap_err();
            assert_eq!((error.kind(), error.key()), (ErrorKind::NotFinite, Some("w")));
            assert!(error.reason().contains(&format!("[5, 37] is {text}")), "{error}");
            // Rows keep their number in the whole tensor.
            let error = to_fp16(&tensor.rows(2, 6).unwrap(), &options).unwrap_err();
            assert!(error.reason().contains("[5, 37]"), "{error}");
        }
        assert!(to_fp16(&tensor.rows(0, 5).unwrap(), &Fp16Options::default()).is_ok());
    }
    let half = 0x7C00_u16.to_le_bytes();
    let tensor = TensorData::new("w", SourceType::Float16, &[], &half).unwrap();
    let error = to_fp16(&tensor, &Fp16Options::default()).unwrap_err();
    assert!(error.reason().contains("[] is inf"), "{error}");
}

#[test]
fn values_beyond_the_range() {
    let edge = f32::from_bits(65520.0_f32.to_bits() - 1);
    let (halves, report) = bits(&[edge, -edge], &Fp16Options::default());
    assert_eq!((halves, report.clamped), (vec![0x7BFF, 0xFBFF], 0));

    let bytes = float32(&[1.0, 65520.0, -1e38, 2.0]);
    let tensor = TensorData::new("w", SourceType::Float32, &[2, 2], &bytes).unwrap();
    let error = to_fp16(&tensor, &Fp16Options::default()).unwrap_err();
    assert_eq!((error.kind(), error.key()), (ErrorKind::Overflow, Some("w")));
    assert!(error.reason().contains("[0, 1] is 65520"), "{error}");
    let clamp = Fp16Options { clamp: true, ..Default::default() };
    let (halves, report) = to_fp16(&tensor, &clamp).unwrap();
    let values: Vec<f32> = halves.iter().map(|half| half.to_f32()).collect();
    assert_eq!(values, [1.0, 65504.0, -65504.0, 2.0]);
    assert_eq!((report.clamped, report.max_absolute), (2, 1e38));
}

#[test]
fn scale_and_then_add() {
    let options = Fp16Options { scale: Some(0.5), add: Some(1.0), ..Default::default() };
    let (halves, _) = bits(&[3.0, 131_000.0], &options);
    assert_eq!(value_of(halves[0]), 2.5);
    assert_eq!(value_of(halves[1]), 65504.0);
    let bytes = float32(&[1e38]);
    let tensor = TensorData::new("w", SourceType::Float32, &[1], &bytes).unwrap();
    let options = Fp16Options { scale: Some(1e30), add: Some(-1.0), clamp: true };
    let (halves, report) = to_fp16(&tensor, &options).unwrap();
    assert_eq!((halves[0].to_f32(), report.clamped), (65504.0, 1));
    let options = Fp16Options { scale: Some(f32::NAN), ..Default::default() };
    assert_eq!(to_fp16(&tensor, &options).unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn memory_tensors_are_checked() {
    let new = |kind, shape: &'static [u64], bytes: &'static [u8]| {
        TensorData::new("t", kind, shape, bytes).map(|_| ()).map_err(|error| error.kind())
    };
    assert_eq!(new(SourceType::Float32, &[2], &[0; 8]), Ok(()));
    assert_eq!(new(SourceType::Float32, &[2], &[0; 7]), Err(ErrorKind::Usage));
    assert_eq!(new(SourceType::Float32, &[u64::MAX, 2], &[0; 8]), Err(ErrorKind::Usage));
    assert_eq!(new(SourceType::Float16, &[0], &[]), Ok(()));
}

#[test]
fn reports_add_up() {
    let mut sum = Fp16Report { clamped: 1, underflow_to_zero: 2, subnormal: 3, max_absolute: 4.0 };
    sum.merge(&Fp16Report { clamped: 1, underflow_to_zero: 1, subnormal: 1, max_absolute: 9.0 });
    assert_eq!(
        sum,
        Fp16Report { clamped: 2, underflow_to_zero: 3, subnormal: 4, max_absolute: 9.0 }
    );
}
