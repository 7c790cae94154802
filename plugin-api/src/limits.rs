//! Bounds on what one side of the plugin boundary takes from the other.

/// Most causes that an error keeps; the rest is left out, and the last one says so.
pub const CAUSES: usize = 16;
/// Most bytes of a message, hint, place or cause that an error keeps.
pub const TEXT: usize = 4096;
/// Most bytes of a JSON text in an answer.
pub const JSON: usize = 256 << 20;
/// Most bytes of a plugin's manifest.
pub const MANIFEST: usize = 1 << 20;
/// Most dimensions of a tensor.
pub const RANK: usize = 16;
