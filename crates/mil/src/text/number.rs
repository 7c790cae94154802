//! Floating point numbers as the text spells them: hexadecimal, exact, shortest.

use crate::dtype::DataType;
use crate::literal::e4m3;
use half::{bf16, f16};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends a number as C's `%a` does where it normalises: `0x1.8p+1`, `-0x0p+0`, `inf`, `nan`.
/// A number below the normal range of its type is spelled like any other, with its first bit in
/// front of the point.
pub(super) fn put_float(buffer: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        buffer.extend_from_slice(b"nan");
        return;
    }
    if value.is_sign_negative() {
        buffer.push(b'-');
    }
    if value.is_infinite() {
        buffer.extend_from_slice(b"inf");
        return;
    }
    if value == 0.0 {
        buffer.extend_from_slice(b"0x0p+0");
        return;
    }
    let bits = value.to_bits();
    let (mut exponent, mut mantissa) =
        ((bits >> 52 & 0x7ff) as i32 - 1023, bits & (u64::MAX >> 12));
    if exponent == -1023 {
        let shift = mantissa.leading_zeros() - 11;
        exponent = -1022 - shift as i32;
        mantissa = mantissa << shift & (u64::MAX >> 12);
    }
    buffer.extend_from_slice(b"0x1");
    if mantissa != 0 {
        buffer.push(b'.');
        // The 52 bits stand in the top 13 hexadecimal digits.
        let mut rest = mantissa << 12;
        while rest != 0 {
            buffer.push(DIGITS[(rest >> 60) as usize]);
            rest <<= 4;
        }
    }
    buffer.push(b'p');
    buffer.push(if exponent < 0 { b'-' } else { b'+' });
    put_integer(buffer, u64::from(exponent.unsigned_abs()));
}

/// Appends a decimal number.
pub(super) fn put_integer(buffer: &mut Vec<u8>, value: u64) {
    let mut digits = [0_u8; 20];
    let mut first = digits.len();
    let mut rest = value;
    loop {
        first -= 1;
        digits[first] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    buffer.extend_from_slice(&digits[first..]);
}

/// Appends a decimal number with its sign.
pub(super) fn put_signed(buffer: &mut Vec<u8>, value: i64) {
    if value < 0 {
        buffer.push(b'-');
    }
    put_integer(buffer, value.unsigned_abs());
}

/// Reads a number, hexadecimal or decimal; `None` if it is none.
pub(super) fn read_float(text: &str) -> Option<f64> {
    let (negative, magnitude) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if magnitude.starts_with(['-', '+']) {
        return None;
    }
    let value = match magnitude.strip_prefix("0x").or_else(|| magnitude.strip_prefix("0X")) {
        Some(digits) => read_hexadecimal(digits)?,
        None => magnitude.parse().ok()?,
    };
    Some(if negative { -value } else { value })
}

fn read_hexadecimal(text: &str) -> Option<f64> {
    let (digits, exponent) = text.split_once(['p', 'P']).unwrap_or((text, "0"));
    let (mut mantissa, mut places, mut seen, mut point) = (0_u64, 0_i64, false, false);
    for byte in digits.bytes() {
        if byte == b'.' && !point {
            point = true;
            continue;
        }
        let digit = char::from(byte).to_digit(16)?;
        seen = true;
        if mantissa >> 60 == 0 {
            mantissa = mantissa << 4 | u64::from(digit);
            places += i64::from(point) * 4;
        } else {
            // Digits beyond 64 bits count only as "not exactly half".
            mantissa |= u64::from(digit != 0);
            places -= i64::from(!point) * 4;
        }
    }
    if !seen {
        return None;
    }
    let exponent = match exponent.parse::<i64>() {
        Ok(exponent) => exponent,
        Err(_) => {
            // Too long for 64 bits: zero stays zero whatever its exponent.
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            if !is_number || mantissa != 0 {
                return None;
            }
            0
        }
    };
    // Beyond these every number is zero or infinite.
    let exponent = exponent.checked_sub(places)?.clamp(-5000, 5000) as i32;
    Some(scale(mantissa, exponent))
}

/// `mantissa` times 2 to the power of `exponent`, rounded once.
fn scale(mantissa: u64, exponent: i32) -> f64 {
    let mut value = mantissa as f64;
    let mut rest = exponent;
    while rest > 1000 {
        value *= 2_f64.powi(1000);
        rest -= 1000;
    }
    while rest < -1000 {
        value *= 2_f64.powi(-1000);
        rest += 1000;
    }
    value * 2_f64.powi(rest)
}

/// The stored bits of a number in an 8- or 16-bit type, rounded to nearest; `None` if a finite
/// number becomes infinite, or if an 8-bit type does not hold it exactly.
pub(super) fn narrow(kind: DataType, value: f64) -> Option<u16> {
    let (bits, back) = match kind {
        DataType::Float16 => {
            let narrow = f16::from_f64(value);
            (narrow.to_bits(), narrow.to_f64())
        }
        DataType::BFloat16 => {
            let narrow = bf16::from_f64(value);
            (narrow.to_bits(), narrow.to_f64())
        }
        _ => {
            let same = |code: &u8| {
                let other = widen(kind, u16::from(*code));
                other.to_bits() == value.to_bits() || (other.is_nan() && value.is_nan())
            };
            let code = (0..=u8::MAX).find(same)?;
            (u16::from(code), value)
        }
    };
    (back.is_infinite() == value.is_infinite()).then_some(bits)
}

/// The number of the stored bits of an 8- or 16-bit type.
pub(super) fn widen(kind: DataType, bits: u16) -> f64 {
    match kind {
        DataType::BFloat16 => bf16::from_bits(bits).to_f64(),
        // Codes are one byte.
        DataType::Float8E4M3FN => e4m3((bits & 0xff) as u8),
        // The upper byte of an fp16 is exactly this format.
        DataType::Float8E5M2 => f16::from_bits(bits << 8).to_f64(),
        _ => f16::from_bits(bits).to_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(value: f64) -> String {
        let mut buffer = Vec::new();
        put_float(&mut buffer, value);
        String::from_utf8(buffer).unwrap()
    }

    /// The right column is what C's `printf("%a")` gives (the subnormal: what the BSD library does).
    #[test]
    fn numbers_are_spelled_in_hexadecimal() {
        for (value, text) in [
            (1.0, "0x1p+0"),
            (-1.0, "-0x1p+0"),
            (0.0, "0x0p+0"),
            (-0.0, "-0x0p+0"),
            (0.5, "0x1p-1"),
            (3.0, "0x1.8p+1"),
            (10000.0, "0x1.388p+13"),
            (0.1, "0x1.999999999999ap-4"),
            (f64::from(0.1_f32), "0x1.99999ap-4"),
            (f64::from(f16::from_f64(1e-5)), "0x1.5p-17"),
            (f64::from(f16::from_bits(1)), "0x1p-24"),
            (f64::from(f16::from_bits(0x3ff)), "0x1.ff8p-15"),
            (f64::from(f16::MAX), "0x1.ffcp+15"),
            (f64::from(f32::from_bits(1)), "0x1p-149"),
            (f64::from(f32::MAX), "0x1.fffffep+127"),
            (f64::MAX, "0x1.fffffffffffffp+1023"),
            (f64::MIN_POSITIVE, "0x1p-1022"),
            (f64::from_bits(1), "0x1p-1074"),
            (f64::from_bits(3), "0x1.8p-1073"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (-f64::NAN, "nan"),
        ] {
            assert_eq!(spelled(value), text);
            let back = read_float(text).unwrap();
            assert!(back.to_bits() == value.to_bits() || value.is_nan(), "{text}: {back}");
        }
    }

    #[test]
    fn other_spellings_are_read() {
        for (text, value) in [
            ("0x8", 8.0),
            ("0x.8p1", 1.0),
            ("0X1P-2", 0.25),
            ("1.5", 1.5),
            ("-2e3", -2000.0),
            ("0x1.00000000000008p+0", 1.0),
            ("0x1.000000000000080001p+0", 1.0 + f64::EPSILON),
            ("0x10000000000000000000p+0", 2_f64.powi(76)),
            ("0x1p-5000", 0.0),
            ("0x1p+9999999", f64::INFINITY),
            ("0x0p+99999999999999999999", 0.0),
        ] {
            assert_eq!(read_float(text), Some(value), "{text}");
        }
        for text in ["", "-", "--1", "0x", "0x.p1", "0x1p", "0x1.2.3", "0xg", "1p+0", "0x1p+"] {
            assert_eq!(read_float(text), None, "{text}");
        }
    }

    #[test]
    fn every_narrow_code_comes_back() {
        for kind in
            [DataType::Float16, DataType::BFloat16, DataType::Float8E4M3FN, DataType::Float8E5M2]
        {
            let count = if kind.bits() == Some(8) { 0x100_u32 } else { 0x1_0000 };
            for bits in (0..count).map(|bits| bits as u16) {
                let value = widen(kind, bits);
                let text = spelled(value);
                let back = narrow(kind, read_float(&text).unwrap()).unwrap();
                assert!(back == bits || value.is_nan(), "{kind} {bits:#x} {text}");
            }
        }
        assert_eq!(narrow(DataType::Float16, 65520.0), None);
        assert_eq!(narrow(DataType::Float8E4M3FN, 0.3), None);
    }

    #[test]
    fn integers() {
        for value in [0, 1, -1, 10, i64::MIN, i64::MAX] {
            let mut buffer = Vec::new();
            put_signed(&mut buffer, value);
            assert_eq!(String::from_utf8(buffer).unwrap(), value.to_string());
        }
    }
}
