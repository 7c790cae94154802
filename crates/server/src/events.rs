//! Answers as OpenAI's clients read them: whole, or as server-sent events.

use crate::about::now;
use crate::failure::Failure;
use crate::job::{Event, Inlet, Summary};
use crate::likelihood::Likelihood;
use crate::reply::Pieces;
use crate::served::Served;
use anemll_generation::generation::End;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Sleep, sleep};

/// How long nothing is sent before a comment is, so that proxies keep the connection and a client that
/// is gone is noticed.
const SILENCE: Duration = Duration::from_secs(10);

/// What an answer is to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A conversation.
    Chat,
    /// A text.
    Text,
}

/// Writes an answer.
pub(crate) struct Writer {
    kind: Kind,
    id: String,
    created: u64,
    served: Arc<Served>,
    /// Whether probabilities are told.
    likely: bool,
}

impl Writer {
    /// A writer of a new answer.
    pub(crate) fn new(kind: Kind, likely: bool, served: &Arc<Served>) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let prefix = if kind == Kind::Chat { "chatcmpl" } else { "cmpl" };
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let id = format!("{prefix}-{:x}-{number:x}", served.about.created);
        Self { kind, id, created: now(), served: Arc::clone(served), likely }
    }

    fn object(&self, object: &str, choices: Value) -> Map<String, Value> {
        let fields = [
            ("id", Value::from(self.id.as_str())),
            ("object", Value::from(object)),
            ("created", Value::from(self.created)),
            ("model", Value::from(self.served.about.name.as_str())),
            ("choices", choices),
        ];
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// The whole answer.
    ///
    /// # Errors
    /// What the slot says.
    pub(crate) async fn whole(&self, mut inlet: Inlet) -> Result<Value, Failure> {
        let (mut text, mut likelihoods) = (String::new(), Vec::new());
        let summary = loop {
            match inlet.next().await {
                Some(Event::Text(part, of_part)) => {
                    text += &part;
                    likelihoods.extend(of_part);
                }
                Some(Event::End(summary)) => break summary,
                Some(Event::Failed(failure)) => return Err(failure),
                None => return Err(Failure::ending()),
            }
        };
        let likelihoods = self.likelihoods(&likelihoods, 0);
        let reason = finish_reason(summary.end);
        let (object, choice) = match self.kind {
            Kind::Chat => (
                "chat.completion",
                json!({
                    "index": 0,
                    "message": { "role": "assistant", "content": text, "refusal": null },
                    "logprobs": likelihoods,
                    "finish_reason": reason,
                }),
            ),
            Kind::Text => (
                "text_completion",
                json!({
                    "index": 0, "text": text, "logprobs": likelihoods, "finish_reason": reason,
                }),
            ),
        };
        let mut object = self.object(object, json!([choice]));
        object.insert("usage".to_owned(), usage(&summary));
        Ok(Value::Object(object))
    }

    fn chunk(&self, text: Option<&str>, likelihoods: Value, reason: Option<&str>) -> Value {
        let (object, choice) = match self.kind {
            Kind::Chat => {
                let delta = text.map_or_else(|| json!({}), |text| json!({ "content": text }));
                (
                    "chat.completion.chunk",
                    json!({
                        "index": 0, "delta": delta, "logprobs": likelihoods, "finish_reason": reason,
                    }),
                )
            }
            Kind::Text => (
                "text_completion",
                json!({
                    "index": 0,
                    "text": text.unwrap_or_default(),
                    "logprobs": likelihoods,
                    "finish_reason": reason,
                }),
            ),
        };
        Value::Object(self.object(object, json!([choice])))
    }

    /// Probabilities as chats or as texts tell them; a text's tokens begin at character `offset`.
    fn likelihoods(&self, likelihoods: &[Likelihood], offset: usize) -> Value {
        if !self.likely {
            return Value::Null;
        }
        let named = |token: u32, value: f32| {
            let text = self.served.spelled(token);
            // A part of a character has bytes that are not known here.
            let bytes = (!text.contains('\u{fffd}')).then_some(text.as_bytes());
            json!({ "token": text, "logprob": finite(value), "bytes": bytes })
        };
        match self.kind {
            Kind::Chat => {
                let entry = |likelihood: &Likelihood| {
                    let mut entry = named(likelihood.token, likelihood.value);
                    let top = likelihood.top.iter().map(|(token, value)| named(*token, *value));
                    entry["top_logprobs"] = top.collect();
                    entry
                };
                json!({ "content": likelihoods.iter().map(entry).collect::<Vec<_>>(), "refusal": null })
            }
            Kind::Text => {
                let spelled: Vec<String> = likelihoods
                    .iter()
                    .map(|likelihood| self.served.spelled(likelihood.token))
                    .collect();
                let mut at = offset;
                let offsets: Vec<usize> = spelled
                    .iter()
                    .map(|text| {
                        let begin = at;
                        at += text.chars().count();
                        begin
                    })
                    .collect();
                let top = |likelihood: &Likelihood| -> Value {
                    let pairs = likelihood.top.iter().map(|(token, value)| {
                        (self.served.spelled(*token), Value::from(finite(*value)))
                    });
                    Value::Object(pairs.collect())
                };
                json!({
                    "tokens": spelled,
                    "token_logprobs":
                        likelihoods.iter().map(|it| finite(it.value)).collect::<Vec<_>>(),
                    "top_logprobs": likelihoods.iter().map(top).collect::<Vec<_>>(),
                    "text_offset": offsets,
                })
            }
        }
    }
}

/// JSON has no infinity; OpenAI writes -9999 for what is practically impossible.
fn finite(value: f32) -> f32 {
    if value.is_finite() { value } else { -9999.0 }
}

fn finish_reason(end: End) -> &'static str {
    match end {
        End::Stop => "stop",
        // Cut short, by whomever.
        End::Count | End::Context | End::Interrupted => "length",
    }
}

fn usage(summary: &Summary) -> Value {
    json!({
        "prompt_tokens": summary.prompt,
        "completion_tokens": summary.generated,
        "total_tokens": summary.prompt + summary.generated,
        "prompt_tokens_details": { "cached_tokens": summary.reused },
    })
}

/// An answer as server-sent events.
pub(crate) struct EventStream {
    writer: Writer,
    inlet: Inlet,
    include_usage: bool,
    ready: VecDeque<Bytes>,
    /// Characters so far.
    offset: usize,
    done: bool,
    silence: Pin<Box<Sleep>>,
}

impl EventStream {
    /// The events of an answer.
    pub(crate) fn new(writer: Writer, inlet: Inlet, include_usage: bool) -> Self {
        let mut ready = VecDeque::new();
        if writer.kind == Kind::Chat {
            let mut first = writer.chunk(Some(""), Value::Null, None);
            first["choices"][0]["delta"] = json!({ "role": "assistant", "content": "" });
            ready.push_back(event(first, include_usage));
        }
        let silence = Box::pin(sleep(SILENCE));
        Self { writer, inlet, include_usage, ready, offset: 0, done: false, silence }
    }

    fn take(&mut self, taken: Option<Event>) {
        match taken {
            Some(Event::Text(text, likelihoods)) => {
                let likelihoods = self.writer.likelihoods(&likelihoods, self.offset);
                self.offset += text.chars().count();
                let chunk = self.writer.chunk(Some(&text), likelihoods, None);
                self.ready.push_back(event(chunk, self.include_usage));
            }
            Some(Event::End(summary)) => {
                let reason = finish_reason(summary.end);
                let chunk = self.writer.chunk(None, Value::Null, Some(reason));
                self.ready.push_back(event(chunk, self.include_usage));
                if self.include_usage {
                    let mut last = self.writer.chunk(None, Value::Null, None);
                    last["choices"] = json!([]);
                    last["usage"] = usage(&summary);
                    self.ready.push_back(event(last, false));
                }
                self.end();
            }
            Some(Event::Failed(failure)) => {
                self.ready.push_back(event(failure.body(), false));
                self.end();
            }
            None => {
                self.ready.push_back(event(Failure::ending().body(), false));
                self.end();
            }
        }
    }

    fn end(&mut self) {
        self.ready.push_back(Bytes::from_static(b"data: [DONE]\n\n"));
        self.done = true;
    }
}

impl Pieces for EventStream {
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                self.silence.set(sleep(SILENCE));
                return Poll::Ready(Some(Ok(bytes)));
            }
            if self.done {
                return Poll::Ready(None);
            }
            match self.inlet.poll_next(context) {
                Poll::Ready(event) => self.take(event),
                Poll::Pending => {
                    if self.silence.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    self.ready.push_back(Bytes::from_static(b": waiting\n\n"));
                }
            }
        }
    }
}

/// A chunk as an event. Where the last one tells the usage, the others say that they do not.
fn event(mut chunk: Value, usage_follows: bool) -> Bytes {
    if usage_follows && let Value::Object(fields) = &mut chunk {
        fields.insert("usage".to_owned(), Value::Null);
    }
    Bytes::from(format!("data: {chunk}\n\n"))
}
