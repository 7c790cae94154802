//! Keys of the metadata of packages.

/// What the keys begin with.
pub const KEYS: &str = "com.anemll.";
/// The functions of a package, with commas between.
pub const FUNCTIONS: &str = "com.anemll.functions";
/// The SHA-256 of the model that a package was made from.
pub const SOURCE: &str = "com.anemll.source_sha256";
/// The options of the conversion that made a package.
pub const OPTIONS: &str = "com.anemll.options";
/// The rows of each piece of the head, from its first row on.
pub const HEAD_SIZES: &str = "com.anemll.lm_head_chunk_sizes";

/// Keys on which the parts of one package agree, such as those for one token and for many, as far
/// as they have them.
pub const SHARED: [&str; 9] = [
    SOURCE,
    "com.anemll.context_length",
    "com.anemll.num_chunks",
    "com.anemll.chunk_no",
    "com.anemll.lut_bits",
    "com.anemll.batch_size",
    "com.anemll.vocab_size",
    HEAD_SIZES,
    "com.anemll.argmax_in_model",
];
