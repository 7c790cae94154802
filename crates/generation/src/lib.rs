//! Conversions run: the functions of their packages called as apps call them, text generated, numbers
//! compared.

pub mod arrays;
pub mod chat_template;
mod continuity;
pub mod conversation;
pub mod distance;
pub mod drafting;
pub mod embedder;
pub mod engine;
pub mod evaluation;
pub mod findings;
pub mod generation;
mod head;
mod npy_header;
pub mod observation;
pub mod opening;
pub mod peaks;
pub mod penalties;
pub mod perplexity;
pub mod range;
pub mod reference_run;
pub mod sampling;
pub mod settings;
pub mod shown;
pub mod sources;
pub mod speed;
mod stop_texts;
pub mod streams;
mod thought;
pub mod transcript;
