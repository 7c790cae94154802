//! Integers below 8 bits: a little-endian bit string, low bits of a byte first.

/// The first `count` integers of `bits` bits (1 to 8). Missing bytes read as zero.
pub fn unpack(bytes: &[u8], bits: u8, count: usize) -> Vec<u8> {
    let mut values = vec![0; count];
    unpack_into(bytes, bits, 0, &mut values);
    values
}

/// The integers of `bits` bits (1 to 8) from number `start` on, as many as `output` holds. Missing
/// bytes read as zero.
pub fn unpack_into(bytes: &[u8], bits: u8, start: usize, output: &mut [u8]) {
    if bits >= 8 {
        output.fill(0);
        let stored = bytes.get(start..).unwrap_or_default();
        for (slot, value) in output.iter_mut().zip(stored) {
            *slot = *value;
        }
        return;
    }
    let bits = usize::from(bits);
    let mask = (1_u16 << bits) - 1;
    let byte = |index: usize| u16::from(bytes.get(index).copied().unwrap_or(0));
    for (index, slot) in output.iter_mut().enumerate() {
        // Files are far below 2^60 bytes: no product overflows.
        let at = (start + index) * bits;
        let window = byte(at / 8) | byte(at / 8 + 1) << 8;
        *slot = ((window >> (at % 8)) & mask) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_bit_integers_straddle_bytes() {
        // 5 | 3 << 3 | 6 << 6
        assert_eq!(unpack(&[0b1001_1101, 0b1], 3, 3), [5, 3, 6]);
        assert_eq!(unpack(&[0xff], 3, 4), [7, 7, 3, 0], "missing bits are zero");
    }

    #[test]
    fn ranges_are_parts_of_the_whole() {
        let bytes: Vec<u8> = (0..60_u8).map(|byte| byte.wrapping_mul(37)).collect();
        for bits in [1_u8, 2, 3, 4, 6, 8] {
            let whole = unpack(&bytes, bits, 50);
            for start in [0, 1, 7, 13] {
                let mut part = [9_u8; 11];
                unpack_into(&bytes, bits, start, &mut part);
                assert_eq!(part, whole[start..start + 11], "{bits} bits from {start}");
            }
        }
    }
}
