//! What bits by measured damage have to keep to.

/// What a plan has to keep to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// The smallest whose divergence from the original is at most this, in nats a token.
    Divergence(f64),
    /// The best of at most so many bits a weight.
    Bits(f64),
    /// The best of at most so many bytes of weights.
    Bytes(u64),
}

impl std::fmt::Display for Goal {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Divergence(most) => write!(formatter, "KL of at most {most}"),
            Self::Bits(bits) => write!(formatter, "{bits} bits a weight"),
            Self::Bytes(bytes) => write!(formatter, "{bytes} bytes"),
        }
    }
}
