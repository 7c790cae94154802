//! A model that gives vectors of texts. Each slot is an engine of its own over the weights that all
//! share; who asks waits for a free one, in a line that has an end.

use crate::about::About;
use crate::failure::Failure;
use crate::metrics::Metrics;
use crate::place::Place;
use crate::request::embedding::EmbeddingRequest;
use crate::request::prompt::Prompt;
use anemll_codes as codes;
use anemll_generation::embedder::Embedder;
use anemll_services::cancellable;
use anemll_tokenizer::Tokenizer;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::StatusCode;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;
use tokio::sync::Semaphore;

/// The model with its engines.
pub(crate) struct Vectors {
    about: About,
    tokenizer: Tokenizer,
    /// Engines that nobody uses.
    free: Mutex<Vec<Embedder>>,
    /// As many permits as there are free engines; closed when the server ends.
    turns: Arc<Semaphore>,
    count: usize,
    inside: Arc<AtomicUsize>,
    most_inside: usize,
    cut: AtomicBool,
    metrics: Arc<Metrics>,
}

/// An engine that comes back to the others, whatever happens.
struct Taken<'a> {
    embedder: Option<Embedder>,
    home: &'a Mutex<Vec<Embedder>>,
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.home.lock().unwrap_or_else(PoisonError::into_inner).extend(self.embedder.take());
    }
}

/// Tells the engine that nobody waits for it any more.
struct Waiting(Arc<AtomicBool>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Vectors {
    /// A model with these engines; `queue` requests may wait beside those that are answered.
    pub(crate) fn new(
        about: About,
        tokenizer: Tokenizer,
        embedders: Vec<Embedder>,
        queue: usize,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let count = embedders.len();
        Self {
            about,
            tokenizer,
            free: Mutex::new(embedders),
            turns: Arc::new(Semaphore::new(count)),
            count,
            inside: Arc::default(),
            most_inside: count.saturating_add(queue),
            cut: AtomicBool::new(false),
            metrics: Arc::clone(metrics),
        }
    }

    /// The vectors of a request's texts, as OpenAI's clients read them.
    ///
    /// # Errors
    /// The line is full, the server ends, a text cannot be run.
    pub(crate) async fn answer(
        self: &Arc<Self>,
        request: EmbeddingRequest,
    ) -> Result<Value, Failure> {
        let place = self.enter()?;
        let waiting = Waiting(Arc::default());
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| Failure::ending())?;
        let (this, cancel) = (Arc::clone(self), Arc::clone(&waiting.0));
        let work = move || {
            let _until_done = (place, turn);
            cancellable(&cancel, || this.make(&request))
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| Failure::bug())?
    }

    fn enter(&self) -> Result<Place, Failure> {
        if self.turns.is_closed() {
            return Err(Failure::ending());
        }
        let mean = self.metrics.answers.mean();
        Place::enter(&self.inside, self.count, self.most_inside, mean)
    }

    fn make(&self, request: &EmbeddingRequest) -> Result<Value, Failure> {
        let started = Instant::now();
        let embedder = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut taken = Taken { embedder, home: &self.free };
        let embedder = taken.embedder.as_mut().ok_or_else(Failure::bug)?;
        let (mut data, mut total) = (Vec::new(), 0);
        for (index, text) in request.texts.iter().enumerate() {
            if self.cut.load(Ordering::Relaxed) {
                return Err(Failure::ending());
            }
            let (tokens, vector) = self.vector(embedder, text, request).map_err(|failure| {
                match request.texts.len() {
                    1 => failure.with_parameter("input"),
                    _ => failure.with_parameter(&format!("input[{index}]")),
                }
            })?;
            total += tokens;
            let embedding = match request.base64 {
                true => {
                    let bytes: Vec<u8> = vector.iter().flat_map(|it| it.to_le_bytes()).collect();
                    Value::from(BASE64_STANDARD.encode(bytes))
                }
                false => vector.into_iter().map(shortest).collect(),
            };
            data.push(json!({ "object": "embedding", "index": index, "embedding": embedding }));
        }
        self.metrics.prompt_tokens.fetch_add(total as u64, Ordering::Relaxed);
        self.metrics.answers.add(started.elapsed());
        Ok(json!({
            "object": "list", "data": data, "model": self.about.name,
            "usage": { "prompt_tokens": total, "total_tokens": total },
        }))
    }

    /// The number of a text's tokens, and its vector.
    fn vector(
        &self,
        embedder: &mut Embedder,
        text: &Prompt,
        request: &EmbeddingRequest,
    ) -> Result<(usize, Vec<f32>), Failure> {
        let tokens = match text {
            Prompt::Text(text) => embedder
                .tokens(&self.tokenizer, text, request.kind.as_deref(), false)
                .map_err(|error| match error.code == codes::USAGE {
                    true => Failure::invalid("prompt_name", "is not one of the model's")
                        .with_hint(error.hint.unwrap_or_default()),
                    false => Failure::from(error),
                })?,
            Prompt::Tokens(tokens) => {
                let vocabulary = embedder.embedding().vocabulary;
                self.tokenizer.check_vocabulary(tokens, vocabulary)?;
                tokens.clone()
            }
        };
        if tokens.is_empty() || tokens.len() > self.about.context {
            let message = format!(
                "the text has {} tokens; texts may have 1 to {} here",
                tokens.len(),
                self.about.context
            );
            return Err(Failure::new(StatusCode::BAD_REQUEST, codes::PROMPT_INVALID, message)
                .with_hint("cut the text, or convert the model with a larger --context"));
        }
        let vector = embedder.vector(&tokens)?;
        match request.dimensions {
            Some(count) => Ok((tokens.len(), shortened(vector, count)?)),
            None => Ok((tokens.len(), vector)),
        }
    }

    /// Begins no more answers: those who wait are told.
    pub(crate) fn end(&self) {
        self.turns.close();
    }

    /// Ends the answers that are being made.
    pub(crate) fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
    }

    /// How many requests are answered, and how many wait, now.
    pub(crate) fn load(&self) -> (usize, usize) {
        let running = self.count.saturating_sub(self.turns.available_permits());
        (running, self.inside.load(Ordering::SeqCst).saturating_sub(running))
    }
}

/// A number with no more digits than it takes to tell it from others of 32 bits.
fn shortest(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

/// The first `count` elements of a vector, with the length 1 again, as OpenAI has it.
fn shortened(mut vector: Vec<f32>, count: usize) -> Result<Vec<f32>, Failure> {
    if count > vector.len() {
        let reason =
            format!("must be at most {}, the length of this model's vectors", vector.len());
        return Err(Failure::invalid("dimensions", reason));
    }
    vector.truncate(count);
    let length = vector.iter().map(|it| f64::from(*it).powi(2)).sum::<f64>().sqrt();
    if length > 0.0 {
        for value in &mut vector {
            *value = (f64::from(*value) / length) as f32;
        }
    }
    Ok(vector)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn shortened_vectors_have_the_length_one() {
        assert_eq!(shortened(vec![3.0, 4.0, 12.0], 2).unwrap(), [0.6, 0.8]);
        assert_eq!(shortened(vec![0.0, 0.0, 1.0], 2).unwrap(), [0.0, 0.0]);
        assert!(shortened(vec![1.0], 2).is_err());
    }
}
