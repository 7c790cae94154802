//! Sizes up to which devices load a function.

/// Layers that a function may have before some devices fail to load it.
pub const LAYERS_PER_FUNCTION: u32 = 20;

/// Bytes of a chunk that phones load with certainty, the compiler's additions included.
pub const CHUNK_BYTES: u64 = 950_000_000;

/// What a device needs beyond the weight file, as a share of it: a tenth.
const OVERHEAD_TENTHS: u128 = 11;

/// Largest weight file of a function whose chunk is to stay within `chunk_bytes`, additions of the
/// compiler included.
pub fn weight_file_limit(chunk_bytes: u64) -> u64 {
    u64::try_from(u128::from(chunk_bytes) * 10 / OVERHEAD_TENTHS).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_is_left_for_the_compiler() {
        assert_eq!(weight_file_limit(CHUNK_BYTES), 863_636_363);
    }
}
