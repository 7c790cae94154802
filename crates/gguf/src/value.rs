//! Values of the metadata.

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A whole number, of any of the eight types.
    Integer(i128),
    /// A number; one of 32 bits as the shortest decimal that means it, `1e-05` and not
    /// `9.999999747378752e-06`.
    Float(f64),
    /// True or false.
    Bool(bool),
    /// A text.
    Text(String),
    /// Values of one type.
    List(List),
}

/// Values of one type, none of them lists.
#[derive(Debug, Clone, PartialEq)]
pub enum List {
    /// Whole numbers, numbers or truth values, as they lie in the file.
    Plain(Plain),
    /// Texts.
    Texts(Vec<String>),
}

/// Values of a fixed width, kept as the bytes of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Plain {
    pub(crate) kind: Kind,
    pub(crate) bytes: Vec<u8>,
}

/// Types of values, numbered as in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Uint8,
    Int8,
    Uint16,
    Int16,
    Uint32,
    Int32,
    Float32,
    Bool,
    Text,
    List,
    Uint64,
    Int64,
    Float64,
}

impl Kind {
    const ALL: [Self; 13] = [
        Self::Uint8,
        Self::Int8,
        Self::Uint16,
        Self::Int16,
        Self::Uint32,
        Self::Int32,
        Self::Float32,
        Self::Bool,
        Self::Text,
        Self::List,
        Self::Uint64,
        Self::Int64,
        Self::Float64,
    ];

    pub(crate) fn of(number: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Bytes of a value; none for texts and lists.
    pub(crate) fn width(self) -> Option<usize> {
        Some(match self {
            Self::Uint8 | Self::Int8 | Self::Bool => 1,
            Self::Uint16 | Self::Int16 => 2,
            Self::Uint32 | Self::Int32 | Self::Float32 => 4,
            Self::Uint64 | Self::Int64 | Self::Float64 => 8,
            Self::Text | Self::List => return None,
        })
    }

    /// The value of these bytes, as many as [`Self::width`] says.
    pub(crate) fn value(self, bytes: &[u8]) -> Value {
        let mut wide = [0; 8];
        let count = bytes.len().min(8);
        wide[..count].copy_from_slice(&bytes[..count]);
        let bits = u64::from_le_bytes(wide);
        match self {
            Self::Bool => Value::Bool(bits != 0),
            Self::Float32 => Value::Float(shortest(f32::from_bits(bits as u32))),
            Self::Float64 => Value::Float(f64::from_bits(bits)),
            Self::Int8 => Value::Integer(i128::from(bits as i8)),
            Self::Int16 => Value::Integer(i128::from(bits as i16)),
            Self::Int32 => Value::Integer(i128::from(bits as i32)),
            Self::Int64 => Value::Integer(i128::from(bits as i64)),
            _ => Value::Integer(i128::from(bits)),
        }
    }
}

/// The shortest decimal that means a number.
pub(crate) fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| f64::from(number))
}

impl List {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Plain(plain) => plain.bytes.len() / plain.kind.width().unwrap_or(1),
            Self::Texts(texts) => texts.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The values one after another; none of texts.
    pub fn values(&self) -> impl Iterator<Item = Value> + '_ {
        let plain = match self {
            Self::Plain(plain) => Some(plain),
            Self::Texts(_) => None,
        };
        plain.into_iter().flat_map(|plain| {
            let width = plain.kind.width().unwrap_or(1);
            plain.bytes.chunks_exact(width).map(|bytes| plain.kind.value(bytes))
        })
    }
}

impl Value {
    /// The whole number, if it is one that is not negative.
    pub fn size(&self) -> Option<u64> {
        match self {
            Self::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// The number.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            _ => None,
        }
    }

    /// The truth value.
    pub fn boolean(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The text.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, for a sentence.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Integer(number) => number.to_string(),
            Self::Float(number) => format!("{number:?}"),
            Self::Bool(value) => value.to_string(),
            Self::Text(_) => "a text".to_owned(),
            Self::List(list) => match list.len() {
                1 => "a list of 1 value".to_owned(),
                count => format!("a list of {count} values"),
            },
        }
    }

    /// The texts of a list.
    pub fn texts(&self) -> Option<&[String]> {
        match self {
            Self::List(List::Texts(texts)) => Some(texts),
            _ => None,
        }
    }
}
