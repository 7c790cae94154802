//! Element types: what tensors hold, and by which code a record names it.

macro_rules! element_types {
    ($($variant:ident = $code:literal, $bits:literal, $name:literal, $minimum:literal;)*) => {
        /// Element type of a tensor.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum ElementType {
            $(#[doc = concat!("`", $name, "`.")] $variant,)*
        }

        impl ElementType {
            /// Every element type, by code.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Code of its record.
            pub const fn code(self) -> u64 {
                match self { $(Self::$variant => $code,)* }
            }

            /// Bits of a stored element.
            pub const fn bits(self) -> u64 {
                match self { $(Self::$variant => $bits,)* }
            }

            /// Name, as MLIR spells it.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// First version of the dialect that has it.
            pub const fn minimum(self) -> u32 {
                match self { $(Self::$variant => $minimum,)* }
            }
        }
    };
}

element_types! {
    Bool = 4, 8, "bool", 20250707;
    Float64 = 5, 64, "f64", 20250707;
    Float32 = 6, 32, "f32", 20250707;
    Float16 = 7, 16, "f16", 20250707;
    BFloat16 = 8, 16, "bf16", 20250707;
    Float8E5M2 = 9, 8, "f8E5M2", 20250707;
    Float8E4M3FN = 10, 8, "f8E4M3FN", 20250707;
    Int64 = 17, 64, "si64", 20250707;
    Int32 = 18, 32, "si32", 20250707;
    Int16 = 19, 16, "si16", 20250707;
    Int8 = 20, 8, "si8", 20250707;
    Int4 = 21, 4, "si4", 20250707;
    Int2 = 22, 2, "si2", 20250707;
    UInt64 = 23, 64, "ui64", 20250707;
    UInt32 = 24, 32, "ui32", 20250707;
    UInt16 = 25, 16, "ui16", 20250707;
    UInt8 = 26, 8, "ui8", 20250707;
    UInt4 = 27, 4, "ui4", 20250707;
    UInt2 = 28, 2, "ui2", 20250707;
    UInt1 = 29, 1, "ui1", 20250707;
    UInt6 = 36, 6, "ui6", 20251003;
    UInt3 = 37, 3, "ui3", 20251003;
}

impl ElementType {
    /// The element type of a record's code.
    pub fn from_code(code: u64) -> Option<Self> {
        Self::ALL.iter().copied().find(|element| element.code() == code)
    }

    /// Whether it is a floating point type.
    pub const fn is_float(self) -> bool {
        self.code() >= 5 && self.code() <= 10
    }
}
