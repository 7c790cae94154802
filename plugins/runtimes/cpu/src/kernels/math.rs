//! Functions of one number that the standard library lacks or that must vectorise.

/// e^x, branch-free so that loops over it vectorise; within 2 units in the last place of f32.
///
/// exp(-inf) is 0, exp(inf) is inf, NaN stays NaN.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits.
    const ROUNDER: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    // Comparisons (not min and max), so that NaN passes through.
    let x = if x > 130.0 { 130.0 } else { x };
    let x = if x < -150.0 { -150.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let whole = shifted - ROUNDER;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);
    let r = (x - whole * LN2_HIGH) - whole * LN2_LOW;
    // e^r on [-ln2/2, ln2/2]: Taylor coefficients up to r^7.
    let mut sum = 1.0 / 5040.0;
    sum = sum * r + 1.0 / 720.0;
    sum = sum * r + 1.0 / 120.0;
    sum = sum * r + 1.0 / 24.0;
    sum = sum * r + 1.0 / 6.0;
    sum = sum * r + 0.5;
    sum = sum * r + 1.0;
    sum = sum * r + 1.0;
    // 2^n in two factors, so that results down to the smallest subnormal come out.
    let half = n >> 1;
    let power = |exponent: i32| f32::from_bits((exponent.wrapping_add(127) as u32) << 23);
    sum * power(half) * power(n.wrapping_sub(half))
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub(crate) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// Complementary error function, in f64.
pub(crate) fn erfc(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let a = x.abs();
    let upper = if a < 2.5 {
        1.0 - erf_series(a)
    } else if a > 27.5 {
        0.0
    } else {
        // Continued fraction: erfc(a) = e^(-a^2) / (sqrt(pi) * (a + (1/2)/(a + (2/2)/(a + ...)))).
        let mut tail = a;
        for k in (1..=60).rev() {
            tail = a + f64::from(k) / 2.0 / tail;
        }
        (-a * a).exp() / (std::f64::consts::PI.sqrt() * tail)
    };
    if x < 0.0 { 2.0 - upper } else { upper }
}

/// Error function, in f64.
pub(crate) fn erf(x: f64) -> f64 {
    if x.abs() < 2.5 { erf_series(x) } else { 1.0 - erfc(x) }
}

fn erf_series(x: f64) -> f64 {
    // erf(x) = 2/sqrt(pi) * e^(-x^2) * sum of 2^n x^(2n+1) / (1*3*...*(2n+1)): no cancellation.
    let mut term = x;
    let mut sum = x;
    for n in 1..80 {
        term *= 2.0 * x * x / f64::from(2 * n + 1);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_to_the_exact_value() {
        for i in -20_000..18_000 {
            let x = i as f32 / 200.0;
            let exact = f64::from(x).exp();
            let ours = f64::from(exp(x));
            if exact > f64::from(f32::MAX) {
                assert!(ours.is_infinite(), "{x}");
            } else if exact > 1.2e-38 {
                assert!((ours / exact - 1.0).abs() < 2.5e-7, "{x}: {ours} {exact}");
            } else {
                assert!((ours - exact).abs() <= 1.5e-45, "{x}: {ours} {exact}");
            }
        }
        assert_eq!(exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp(f32::INFINITY), f32::INFINITY);
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn erf_has_its_known_values() {
        for (x, value) in [
            (0.0, 0.0),
            (0.5, 0.520_499_877_813_046_5),
            (1.0, 0.842_700_792_949_714_9),
            (2.0, 0.995_322_265_018_952_7),
            (-1.0, -0.842_700_792_949_714_9),
        ] {
            assert!((erf(x) - value).abs() < 1e-14, "{x}");
        }
        assert!((erfc(3.0) / 2.209_049_699_858_544e-5 - 1.0).abs() < 1e-10);
        assert!((erfc(5.0) / 1.537_459_794_428_035e-12 - 1.0).abs() < 1e-10);
        assert!((erfc(2.5) / 4.069_520_174_449_587e-4 - 1.0).abs() < 1e-10);
        assert_eq!(erfc(f64::INFINITY), 0.0);
        assert_eq!(erfc(f64::NEG_INFINITY), 2.0);
    }
}
