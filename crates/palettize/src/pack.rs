//! The packing of indices with less than eight bits.
//!
//! Element `i` takes the bits `i * n .. (i + 1) * n` of a little-endian string of bits: the lowest
//! bits of a byte come first, and elements of 3 and 6 bits go across bytes. Bits after the last
//! element are zero. Rows are not padded.

use crate::{BITS, PaletteError};

/// The bytes that `count` indices of `bits` bits take, or none if that is no number of bytes.
#[must_use]
pub fn packed_length(count: usize, bits: u32) -> Option<usize> {
    let bits = usize::try_from(bits).ok()?;
    // Eights of elements take whole bytes; the product of the rest is small.
    let whole = (count / 8).checked_mul(bits)?;
    whole.checked_add((count % 8 * bits).div_ceil(8))
}

/// Packs indices; bits of an index beyond `bits` are ignored.
///
/// # Errors
/// [`PaletteError::Bits`] for another number of bits than [`BITS`]; [`PaletteError::Size`] for more
/// bytes than there can be.
pub fn pack(indices: &[u8], bits: u32) -> Result<Vec<u8>, PaletteError> {
    let length = checked_length(indices.len(), bits)?;
    if bits == 8 {
        return Ok(indices.to_vec());
    }
    let mask = (1_u8 << bits) - 1;
    let mut packed = Vec::with_capacity(length);
    // Eight elements at a time are `bits` bytes.
    let (eights, rest) = indices.as_chunks::<8>();
    let word = |elements: &[u8]| {
        elements.iter().rev().fold(0_u64, |word, element| word << bits | u64::from(element & mask))
    };
    for eight in eights {
        packed.extend_from_slice(&word(eight).to_le_bytes()[..bits as usize]);
    }
    packed.extend_from_slice(&word(rest).to_le_bytes()[..length - packed.len()]);
    Ok(packed)
}

/// The first `count` indices of packed bytes.
///
/// # Errors
/// [`PaletteError::Bits`] for another number of bits than [`BITS`]; [`PaletteError::Size`] for
/// another number of bytes than `count` indices take.
pub fn unpack(packed: &[u8], bits: u32, count: usize) -> Result<Vec<u8>, PaletteError> {
    let length = checked_length(count, bits)?;
    if packed.len() != length {
        return Err(PaletteError::Size(format!(
            "{count} indices of {bits} bits take {length} bytes, not {}",
            packed.len()
        )));
    }
    let mask = u8::MAX >> (8 - bits);
    let mut indices = Vec::with_capacity(count);
    for bytes in packed.chunks(bits as usize) {
        let mut word = [0; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let word = u64::from_le_bytes(word);
        let elements = (count - indices.len()).min(8);
        indices.extend((0..elements as u32).map(|element| (word >> (element * bits)) as u8 & mask));
    }
    Ok(indices)
}

fn checked_length(count: usize, bits: u32) -> Result<usize, PaletteError> {
    if !BITS.contains(&bits) {
        return Err(PaletteError::Bits(bits));
    }
    packed_length(count, bits)
        .ok_or_else(|| PaletteError::Size(format!("{count} indices are too many")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_made_by_hand() {
        let cases: [(u32, &[u8], &[u8]); 8] = [
            (1, &[1, 0, 1, 1, 0, 0, 0, 1, 1], &[0b1000_1101, 0b0000_0001]),
            (2, &[1, 2, 3, 0, 2], &[0b0011_1001, 0b0000_0010]),
            // 101 011 110 001 111 000 010 100 from the last to the first.
            (3, &[4, 2, 0, 7, 1, 6, 3, 5], &[0b0001_0100, 0b0001_1110, 0b1010_1111]),
            (3, &[7, 0, 5], &[0b0100_0111, 0b0000_0001]),
            (4, &[1, 15, 8], &[0xF1, 0x08]),
            (6, &[0b10_0001, 0b11_1110, 0b01_0101, 0b00_1111], &[0xA1, 0x5F, 0b0011_1101]),
            (6, &[63, 32], &[0b0011_1111, 0b0000_1000]),
            (8, &[0, 255, 7], &[0, 255, 7]),
        ];
        for (bits, indices, bytes) in cases {
            assert_eq!(pack(indices, bits).unwrap(), bytes, "{bits} bits");
            assert_eq!(unpack(bytes, bits, indices.len()).unwrap(), indices, "{bits} bits");
        }
    }

    #[test]
    fn every_length_comes_back_bit_by_bit() {
        for bits in BITS {
            for count in 0..40_usize {
                let indices: Vec<u8> =
                    (0..count).map(|at| (at * 37 + 11) as u8 & (u8::MAX >> (8 - bits))).collect();
                let packed = pack(&indices, bits).unwrap();
                assert_eq!(packed.len(), (count * bits as usize).div_ceil(8));
                let bit = |at: usize| packed[at / 8] >> (at % 8) & 1;
                for (at, index) in indices.iter().enumerate() {
                    let read = (0..bits as usize)
                        .fold(0, |read, low| read | bit(at * bits as usize + low) << low);
                    assert_eq!(read, *index);
                }
                let used = count * bits as usize;
                assert!((used..packed.len() * 8).all(|at| bit(at) == 0), "padding is zero");
                assert_eq!(unpack(&packed, bits, count).unwrap(), indices);
            }
        }
    }

    #[test]
    fn other_sizes_are_refused() {
        for bits in [0, 5, 7, 9, 16, u32::MAX] {
            assert_eq!(pack(&[0], bits), Err(PaletteError::Bits(bits)));
            assert_eq!(unpack(&[0], bits, 1), Err(PaletteError::Bits(bits)));
        }
        assert!(matches!(unpack(&[0, 0], 4, 5), Err(PaletteError::Size(_))));
        assert_eq!(packed_length(usize::MAX, 8), Some(usize::MAX));
        assert!(unpack(&[], 6, usize::MAX).is_err());
    }
}
