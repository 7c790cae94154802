//! Core ML packages on disk: manifest, model, and the weight file (blob storage v2).
