//! Integers below 8 bits: a little-endian bit string, low bits of a byte first.

/// The first `count` integers of `bits` bits (1 to 8). Missing bytes read as zero.
pub(crate) fn unpack(bytes: &[u8], bits: u8, count: usize) -> Vec<u8> {
    if bits == 8 {
        let mut all = bytes[..count.min(bytes.len())].to_vec();
        all.resize(count, 0);
        return all;
    }
    let bits = bits as usize;
    let mask = (1u16 << bits) - 1;
    let byte = |index: usize| u16::from(bytes.get(index).copied().unwrap_or(0));
    (0..count)
        .map(|index| {
            let at = index * bits;
            let window = byte(at / 8) | byte(at / 8 + 1) << 8;
            ((window >> (at % 8)) & mask) as u8
        })
        .collect()
}

/// The packed form of integers that fit `bits` bits.
#[cfg(test)]
pub(crate) fn pack(values: &[u8], bits: u8) -> Vec<u8> {
    let mut bytes = vec![0u8; (values.len() * bits as usize).div_ceil(8)];
    for (index, value) in values.iter().enumerate() {
        for bit in 0..bits as usize {
            let at = index * bits as usize + bit;
            bytes[at / 8] |= ((value >> bit) & 1) << (at % 8);
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_widths_round_trip() {
        for bits in [1u8, 2, 3, 4, 6, 8] {
            let values: Vec<u8> = (0..37u32).map(|i| (i * 37 % (1 << bits)) as u8).collect();
            let packed = pack(&values, bits);
            assert_eq!(packed.len(), (37 * bits as usize).div_ceil(8));
            assert_eq!(unpack(&packed, bits, 37), values);
        }
        // three-bit values straddle bytes: 5 | 3 << 3 | 6 << 6
        assert_eq!(unpack(&[0b1001_1101, 0b1], 3, 3), [5, 3, 6]);
    }
}
