//! A conversion served over HTTP, as OpenAI's clients ask for answers: `/v1/chat/completions`,
//! `/v1/completions`, `/v1/embeddings`, `/v1/models`; a page to chat on at `/`; `/health` and `/metrics`.
//!
//! One thread has all connections ([`Server`]). Answers are made on the threads of slots, each with an
//! engine of its own over the weights that all share; a request gets the free slot whose cache has
//! most of its prompt, or waits in a line that has an end. No slot waits for a client: what a client
//! does not read is kept up to a bound, and a client that leaves ends its answer.

mod about;
mod answering;
mod app;
mod body;
mod connection;
mod events;
mod failure;
mod guard;
mod job;
mod keys;
mod likelihood;
mod metrics;
mod model;
mod page;
mod place;
mod reply;
mod request;
mod served;
mod server;
mod slots;
mod vectors;

pub use keys::Keys;
pub use server::{Options, Server};
