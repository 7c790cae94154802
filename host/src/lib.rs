//! Converts language models to Core ML packages for Apple's Neural Engine.
