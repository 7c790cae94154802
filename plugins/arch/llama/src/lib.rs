//! Arch frontend for Llama models.
