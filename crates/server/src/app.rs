//! What there is at which address.

use crate::about::About;
use crate::body::{self, Budget};
use crate::events::{EventStream, Kind, Writer};
use crate::failure::Failure;
use crate::guard;
use crate::job;
use crate::keys::Keys;
use crate::metrics::Metrics;
use crate::model::Model;
use crate::page;
use crate::reply::{Reply, json, text, typed};
use crate::request::chat::ChatRequest;
use crate::request::completion::CompletionRequest;
use crate::request::embedding::EmbeddingRequest;
use crate::request::fields::{Fields, parse};
use anemll_codes as codes;
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde_json::{Map, Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// Everything that answers to requests need.
pub(crate) struct App {
    pub(crate) about: About,
    pub(crate) model: Model,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) keys: Option<Keys>,
    pub(crate) budget: Budget,
}

/// A request in a form that is either of the two.
enum Asked {
    Chat(ChatRequest),
    Text(CompletionRequest),
}

impl App {
    /// Answers a request; a panic becomes an answer, too.
    pub(crate) async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Reply> {
        let path = request.uri().path().trim_end_matches('/').to_owned();
        let method = request.method().clone();
        let metrics = Arc::clone(&self.metrics);
        let mut work = pin!(self.route(&path, request));
        let result = std::future::poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(context))) {
                Ok(polled) => polled,
                Err(_) => Poll::Ready(Err(Failure::bug())),
            }
        });
        let response = result.await.unwrap_or_else(|failure| {
            if failure.status().is_server_error() {
                tracing::error!("{method} {path}: {}", failure.error());
            } else {
                tracing::info!("{method} {path}: {}", failure.error());
            }
            failure.response()
        });
        tracing::info!("{method} {path}: {}", response.status());
        metrics.count(endpoint(&path), response.status().as_u16());
        response
    }

    async fn route(
        &self,
        path: &str,
        request: Request<Incoming>,
    ) -> Result<Response<Reply>, Failure> {
        let method = request.method();
        let reads = method == Method::GET || method == Method::HEAD;
        let writes = method == Method::POST;
        let allowed = match endpoint(path) {
            "other" => return Err(unknown(path)),
            "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" => "POST",
            _ => "GET",
        };
        if (allowed == "GET" && !reads) || (allowed == "POST" && !writes) {
            return Err(Failure::method(allowed));
        }
        guard::check_origin(request.headers(), self.keys.is_some())?;
        // These say nothing of anyone.
        match path {
            "" => return Ok(self.front()),
            "/health" => return Ok(json(StatusCode::OK, &json!({ "status": "ok" }))),
            _ => guard::check_key(request.headers(), self.keys.as_ref())?,
        }
        match path {
            "/v1/chat/completions" => {
                self.complete(request, |fields| ChatRequest::read(fields).map(Asked::Chat)).await
            }
            "/v1/completions" => {
                self.complete(request, |fields| CompletionRequest::read(fields).map(Asked::Text))
                    .await
            }
            "/v1/embeddings" => {
                let vectors = self.model.vectors()?;
                let asked = self.read(request, EmbeddingRequest::read).await?;
                Ok(json(StatusCode::OK, &vectors.answer(asked).await?))
            }
            "/metrics" => {
                let (running, waiting) = self.model.load();
                let kind = "text/plain; version=0.0.4; charset=utf-8";
                Ok(text(StatusCode::OK, kind, self.metrics.text(running, waiting)))
            }
            "/v1/models" => {
                let list = json!({ "object": "list", "data": [self.about.listed()] });
                Ok(json(StatusCode::OK, &list))
            }
            _ => {
                self.check_model(path.strip_prefix("/v1/models/").unwrap_or_default())?;
                Ok(json(StatusCode::OK, &self.about.listed()))
            }
        }
    }

    fn check_model(&self, name: &str) -> Result<(), Failure> {
        if name == self.about.name {
            return Ok(());
        }
        let named: String = name.chars().take(100).collect();
        Err(Failure::new(
            StatusCode::NOT_FOUND,
            codes::MODEL_NOT_SERVED,
            format!("the model {} is not served here", Value::from(named)),
        )
        .with_hint(format!("this server has \"{}\"", self.about.name))
        .with_parameter("model"))
    }

    /// The page to chat on, or what there is instead.
    fn front(&self) -> Response<Reply> {
        match &self.model {
            Model::Text(..) => page::page(),
            Model::Vectors(_) => {
                let kind = "text/plain; charset=utf-8";
                let about = "This server gives vectors of texts: POST /v1/embeddings\n";
                text(StatusCode::OK, kind, about.to_owned())
            }
        }
    }

    /// What `read` makes of a request to this model.
    async fn read<T>(
        &self,
        request: Request<Incoming>,
        read: impl FnOnce(&Fields<'_>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        body::read(request.into_body(), &self.budget, |bytes| {
            let fields: Map<String, Value> = parse(bytes)?;
            let fields = Fields(&fields);
            if let Some(model) = fields.text("model")? {
                self.check_model(model)?;
            }
            read(&fields)
        })
        .await
    }

    /// Answers by the model.
    async fn complete(
        &self,
        request: Request<Incoming>,
        read: impl FnOnce(&Fields<'_>) -> Result<Asked, Failure>,
    ) -> Result<Response<Reply>, Failure> {
        let (served, slots) = self.model.text()?;
        let asked = self.read(request, read).await?;
        let place = slots.enter()?;
        let (kind, settings) = match &asked {
            Asked::Chat(request) => (Kind::Chat, &request.settings),
            Asked::Text(request) => (Kind::Text, &request.settings),
        };
        let (stream, include_usage) = (settings.stream, settings.include_usage);
        let writer = Writer::new(kind, settings.likely.is_some(), served);
        let (outlet, inlet) = job::channel();
        let served = Arc::clone(served);
        // Templates and tokenizers take their time.
        let job = tokio::task::spawn_blocking(move || match asked {
            Asked::Chat(request) => served.chat_job(request, outlet, place),
            Asked::Text(request) => served.completion_job(request, outlet, place),
        });
        slots.submit(job.await.map_err(|_| Failure::bug())??);
        if stream {
            let events = EventStream::new(writer, inlet, include_usage);
            return Ok(typed(StatusCode::OK, "text/event-stream", Reply::Events(Box::new(events))));
        }
        Ok(json(StatusCode::OK, &writer.whole(inlet).await?))
    }
}

/// The endpoint of a path, by the name that it has in the metrics.
fn endpoint(path: &str) -> &'static str {
    match path {
        "" => "/",
        "/health" => "/health",
        "/metrics" => "/metrics",
        "/v1/models" => "/v1/models",
        "/v1/chat/completions" => "/v1/chat/completions",
        "/v1/completions" => "/v1/completions",
        "/v1/embeddings" => "/v1/embeddings",
        path if path.starts_with("/v1/models/") => "/v1/models/{model}",
        _ => "other",
    }
}

fn unknown(path: &str) -> Failure {
    let path: String = path.chars().take(100).collect();
    let message = format!("there is nothing at {path}");
    Failure::new(StatusCode::NOT_FOUND, codes::REQUEST_INVALID, message)
        .with_hint("there are /v1/chat/completions, /v1/completions, /v1/embeddings, /v1/models, /health, /metrics, and a page at /")
}
