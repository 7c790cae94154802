//! Decoder-only transformers as MIL functions for the Neural Engine.
