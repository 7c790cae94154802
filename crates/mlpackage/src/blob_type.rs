//! Element types of a weight file and how many bits each takes.

use anemll_mil::DataType;
use std::fmt;

/// Element type of a blob record. The discriminants are the codes of blob storage version 2, which
/// differ from the numbers of the MIL `DataType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum BlobType {
    /// IEEE 754 binary16.
    Float16 = 1,
    /// IEEE 754 binary32.
    Float32 = 2,
    /// Unsigned, 8 bits.
    UInt8 = 3,
    /// Signed, 8 bits.
    Int8 = 4,
    /// The upper half of a binary32.
    BFloat16 = 5,
    /// Signed, 16 bits.
    Int16 = 6,
    /// Unsigned, 16 bits.
    UInt16 = 7,
    /// Signed, 4 bits, two's complement.
    Int4 = 8,
    /// Unsigned, 1 bit.
    UInt1 = 9,
    /// Unsigned, 2 bits.
    UInt2 = 10,
    /// Unsigned, 4 bits.
    UInt4 = 11,
    /// Unsigned, 3 bits; elements straddle bytes.
    UInt3 = 12,
    /// Unsigned, 6 bits; elements straddle bytes.
    UInt6 = 13,
    /// Signed, 32 bits.
    Int32 = 14,
    /// Unsigned, 32 bits.
    UInt32 = 15,
    /// 8-bit float with 4 exponent bits, finite values and NaN only.
    Float8E4M3FN = 16,
    /// 8-bit float with 5 exponent bits.
    Float8E5M2 = 17,
}

/// Every type with its counterpart in MIL, which has the width and the name.
const TABLE: [(BlobType, DataType); 17] = [
    (BlobType::Float16, DataType::Float16),
    (BlobType::Float32, DataType::Float32),
    (BlobType::UInt8, DataType::UInt8),
    (BlobType::Int8, DataType::Int8),
    (BlobType::BFloat16, DataType::BFloat16),
    (BlobType::Int16, DataType::Int16),
    (BlobType::UInt16, DataType::UInt16),
    (BlobType::Int4, DataType::Int4),
    (BlobType::UInt1, DataType::UInt1),
    (BlobType::UInt2, DataType::UInt2),
    (BlobType::UInt4, DataType::UInt4),
    (BlobType::UInt3, DataType::UInt3),
    (BlobType::UInt6, DataType::UInt6),
    (BlobType::Int32, DataType::Int32),
    (BlobType::UInt32, DataType::UInt32),
    (BlobType::Float8E4M3FN, DataType::Float8E4M3FN),
    (BlobType::Float8E5M2, DataType::Float8E5M2),
];

impl BlobType {
    /// All types, in the order of their codes.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// The type of a code as it stands in a record; `None` for an unknown code.
    pub fn from_code(code: u32) -> Option<Self> {
        let index = usize::try_from(code).ok()?.checked_sub(1)?;
        TABLE.get(index).map(|row| row.0)
    }

    /// The code as it stands in a record.
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The type that stores this MIL type; `None` for those which are always immediate (bool,
    /// string) or which the format does not have (64-bit types).
    pub fn from_data_type(data_type: DataType) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == data_type).map(|row| row.0)
    }

    /// The MIL type that this type stores.
    pub fn data_type(self) -> DataType {
        // The codes are 1..=17 without gaps, in the order of the table (checked by a test).
        TABLE[self as usize - 1].1
    }

    /// Width of one element in bits: 1, 2, 3, 4, 6, 8, 16 or 32.
    pub fn bits(self) -> u32 {
        // Strings alone have no width, and no record stores them.
        self.data_type().bits().unwrap_or_default()
    }

    /// Lower-case name as in MIL text, such as `uint4`.
    pub fn name(self) -> &'static str {
        self.data_type().name()
    }

    /// Bytes that `elements` take: ceil(elements * bits / 8). `None` when that overflows.
    pub fn size_in_bytes(self, elements: u64) -> Option<u64> {
        Some(elements.checked_mul(u64::from(self.bits()))?.div_ceil(8))
    }

    /// Unused high bits of the last byte of `elements`; 0 for types of whole bytes.
    pub fn padding_bits(self, elements: u64) -> u64 {
        // Taken modulo 8 first, so that no element count can overflow.
        (8 - (elements % 8) * u64::from(self.bits()) % 8) % 8
    }
}

impl fmt::Display for BlobType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_rows_of_the_table() {
        for (index, blob_type) in BlobType::all().enumerate() {
            assert_eq!(blob_type.code() as usize, index + 1);
            assert_eq!(BlobType::from_code(blob_type.code()), Some(blob_type));
            assert_eq!(BlobType::from_data_type(blob_type.data_type()), Some(blob_type));
        }
        assert_eq!(BlobType::from_code(0), None);
        assert_eq!(BlobType::from_code(18), None);
        assert_eq!(BlobType::from_code(u32::MAX), None);
        assert_eq!(BlobType::from_data_type(DataType::Bool), None);
        assert_eq!(BlobType::from_data_type(DataType::Int64), None);
    }

    #[test]
    fn sizes_and_padding() {
        assert_eq!(BlobType::UInt3.size_in_bytes(3), Some(2));
        assert_eq!(BlobType::UInt3.padding_bits(3), 7);
        assert_eq!(BlobType::UInt6.size_in_bytes(4), Some(3));
        assert_eq!(BlobType::UInt6.padding_bits(4), 0);
        assert_eq!(BlobType::Int4.padding_bits(5), 4);
        assert_eq!(BlobType::Float32.padding_bits(u64::MAX), 0);
        assert_eq!(BlobType::Float32.size_in_bytes(u64::MAX), None);
    }
}
