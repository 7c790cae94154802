//! Integers below 8 bits: a little-endian bit string, low bits of a byte first.

/// The integers of `bits` bits (1 to 8) from number `start` on, as many as `output` holds. Missing
/// bytes read as zero.
pub fn unpack_into(bytes: &[u8], bits: u8, start: usize, output: &mut [u8]) {
    match bits {
        1 => unpack_by_eight::<1>(bytes, start, output),
        2 => unpack_by_eight::<2>(bytes, start, output),
        3 => unpack_by_eight::<3>(bytes, start, output),
        4 => unpack_by_eight::<4>(bytes, start, output),
        6 => unpack_by_eight::<6>(bytes, start, output),
        0..8 => unpack_each(bytes, usize::from(bits), start, output),
        8.. => {
            let stored = bytes.get(start..).unwrap_or_default();
            let there = stored.len().min(output.len());
            output[..there].copy_from_slice(&stored[..there]);
            output[there..].fill(0);
        }
    }
}

/// Eight integers fill as many bytes as they have bits; those take one step.
fn unpack_by_eight<const BITS: usize>(bytes: &[u8], start: usize, output: &mut [u8]) {
    let before = (start.next_multiple_of(8) - start).min(output.len());
    let (first, rest) = output.split_at_mut(before);
    unpack_each(bytes, BITS, start, first);
    // Files are far below 2^60 bytes: no product overflows.
    let aligned = bytes.get((start + before) / 8 * BITS..).unwrap_or_default();
    let (stored, _) = aligned.as_chunks::<BITS>();
    let (eights, _) = rest.as_chunks_mut::<8>();
    let whole = eights.len().min(stored.len());
    for (slots, stored) in eights.iter_mut().zip(stored) {
        let mut word = [0; 8];
        word[..BITS].copy_from_slice(stored);
        let word = u64::from_le_bytes(word);
        for (place, slot) in slots.iter_mut().enumerate() {
            *slot = (word >> (place * BITS)) as u8 & ((1 << BITS) - 1);
        }
    }
    unpack_each(bytes, BITS, start + before + whole * 8, &mut rest[whole * 8..]);
}

fn unpack_each(bytes: &[u8], bits: usize, start: usize, output: &mut [u8]) {
    let mask = (1_u16 << bits) - 1;
    let byte = |index: usize| u16::from(bytes.get(index).copied().unwrap_or(0));
    for (index, slot) in output.iter_mut().enumerate() {
        let at = (start + index) * bits;
        let window = byte(at / 8) | byte(at / 8 + 1) << 8;
        *slot = ((window >> (at % 8)) & mask) as u8;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unpack(bytes: &[u8], bits: u8, count: usize) -> Vec<u8> {
        let mut values = vec![9; count];
        unpack_into(bytes, bits, 0, &mut values);
        values
    }

    #[test]
    fn three_bit_integers_straddle_bytes() {
        // 5 | 3 << 3 | 6 << 6
        assert_eq!(unpack(&[0b1001_1101, 0b1], 3, 3), [5, 3, 6]);
        assert_eq!(unpack(&[0xff], 3, 4), [7, 7, 3, 0], "missing bits are zero");
    }

    #[test]
    fn ranges_are_parts_of_the_whole() {
        let bytes: Vec<u8> = (0..60_u8).map(|byte| byte.wrapping_mul(37)).collect();
        for bits in 1..=8_u8 {
            let whole = unpack(&bytes, bits, 50);
            let mut slowly = vec![9; 500];
            unpack_each(&bytes, usize::from(bits), 0, &mut slowly);
            assert_eq!(unpack(&bytes, bits, 500), slowly, "{bits} bits to beyond the end");
            for start in [0, 1, 7, 13] {
                let mut part = [9_u8; 11];
                unpack_into(&bytes, bits, start, &mut part);
                assert_eq!(part, whole[start..start + 11], "{bits} bits from {start}");
            }
        }
    }
}
