//! Combiner: embeddings, transformer chunks and head as packages of their own.
