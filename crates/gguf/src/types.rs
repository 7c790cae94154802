//! The types that tensors have.

/// A type: its number in the file, its name, the elements and the bytes of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TensorType(&'static Entry);

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    number: u32,
    name: &'static str,
    elements: u64,
    bytes: u64,
}

const fn entry(number: u32, name: &'static str, elements: u64, bytes: u64) -> Entry {
    Entry { number, name, elements, bytes }
}

/// All types that files have today.
static TYPES: [Entry; 34] = [
    entry(0, "F32", 1, 4),
    entry(1, "F16", 1, 2),
    entry(2, "Q4_0", 32, 18),
    entry(3, "Q4_1", 32, 20),
    entry(6, "Q5_0", 32, 22),
    entry(7, "Q5_1", 32, 24),
    entry(8, "Q8_0", 32, 34),
    entry(9, "Q8_1", 32, 40),
    entry(10, "Q2_K", 256, 84),
    entry(11, "Q3_K", 256, 110),
    entry(12, "Q4_K", 256, 144),
    entry(13, "Q5_K", 256, 176),
    entry(14, "Q6_K", 256, 210),
    entry(15, "Q8_K", 256, 292),
    entry(16, "IQ2_XXS", 256, 66),
    entry(17, "IQ2_XS", 256, 74),
    entry(18, "IQ3_XXS", 256, 98),
    entry(19, "IQ1_S", 256, 50),
    entry(20, "IQ4_NL", 32, 18),
    entry(21, "IQ3_S", 256, 110),
    entry(22, "IQ2_S", 256, 82),
    entry(23, "IQ4_XS", 256, 136),
    entry(24, "I8", 1, 1),
    entry(25, "I16", 1, 2),
    entry(26, "I32", 1, 4),
    entry(27, "I64", 1, 8),
    entry(28, "F64", 1, 8),
    entry(29, "IQ1_M", 256, 56),
    entry(30, "BF16", 1, 2),
    entry(34, "TQ1_0", 256, 58),
    entry(35, "TQ2_0", 256, 66),
    entry(39, "MXFP4", 32, 17),
    entry(40, "NVFP4", 64, 36),
    entry(41, "Q1_0", 128, 18),
];

impl TensorType {
    /// The type of a number of the file.
    pub fn of(number: u32) -> Option<Self> {
        TYPES.iter().find(|entry| entry.number == number).map(Self)
    }

    /// Name, such as `Q4_K`.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Elements of a block.
    pub fn block_elements(self) -> u64 {
        self.0.elements
    }

    /// Bytes of a block.
    pub fn block_bytes(self) -> u64 {
        self.0.bytes
    }
}
