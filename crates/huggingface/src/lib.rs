//! Hugging Face model directories: config, memory-mapped safetensors shards, tokenizer files.
