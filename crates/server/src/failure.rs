//! What a client is told when its request cannot be answered: a status, and the error as OpenAI's
//! clients read it.

use crate::reply::{Reply, json};
use anemll_codes as codes;
use anemll_plugin_api::Error;
use hyper::header::{ALLOW, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

/// A request that is refused, or an answer that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    status: StatusCode,
    /// In a box, as results are small where all is well.
    error: Box<Error>,
    /// The key of the request that is to blame.
    parameter: Option<String>,
    /// Seconds after which another attempt is worth it.
    retry_after: Option<u64>,
    /// Methods that there are instead.
    allowed: Option<&'static str>,
}

impl Failure {
    /// A failure with a code of ours.
    pub(crate) fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self {
            status,
            error: Box::new(Error::new(code, message)),
            parameter: None,
            retry_after: None,
            allowed: None,
        }
    }

    /// A request that cannot be understood, with the key that is to blame.
    pub(crate) fn invalid(parameter: &str, reason: impl std::fmt::Display) -> Self {
        let message = format!("`{parameter}` {reason}");
        let failure = Self::new(StatusCode::BAD_REQUEST, codes::REQUEST_INVALID, message);
        Self { parameter: Some(parameter.to_owned()), ..failure }
    }

    /// The server ends.
    pub(crate) fn ending() -> Self {
        let message = "the server is about to end and begins no more answers";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, codes::SERVER_BUSY, message)
    }

    /// The client left more than `bytes` of its answer unread.
    pub(crate) fn unread(bytes: usize) -> Self {
        let message = format!("the answer was cut: {} MB of it were not read", bytes >> 20);
        Self::new(StatusCode::REQUEST_TIMEOUT, codes::REQUEST_SLOW, message)
            .with_hint("read answers as they come, or ask for shorter ones")
    }

    /// There are more requests than are let in.
    pub(crate) fn busy(message: impl Into<String>, retry_after: u64) -> Self {
        let failure = Self::new(StatusCode::TOO_MANY_REQUESTS, codes::SERVER_BUSY, message);
        Self { retry_after: Some(retry_after), ..failure }
    }

    /// A panic, which is a bug of ours; what it says is for the log alone.
    pub(crate) fn bug() -> Self {
        let message = "this is a bug in anemll; the other requests are not touched by it";
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, codes::PANICKED, message)
    }

    /// No such method; there are `allowed` ones.
    pub(crate) fn method(allowed: &'static str) -> Self {
        let message = format!("this address takes {allowed} alone");
        let failure = Self::new(StatusCode::METHOD_NOT_ALLOWED, codes::REQUEST_INVALID, message);
        Self { allowed: Some(allowed), ..failure }
    }

    /// What to do about it.
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.error = Box::new(self.error.with_hint(hint));
        self
    }

    /// With the key of the request that is to blame, unless that is known better.
    pub(crate) fn with_parameter(mut self, parameter: &str) -> Self {
        self.parameter.get_or_insert_with(|| parameter.to_owned());
        self
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The error for the log: with places and causes, which are nobody's business outside.
    pub(crate) fn error(&self) -> &Error {
        &self.error
    }

    /// The error as clients read it.
    pub(crate) fn body(&self) -> Value {
        let Error { message, hint, code, .. } = &*self.error;
        let message = match hint {
            Some(hint) => format!("{message}: {hint}"),
            None => message.clone(),
        };
        let kind = match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_client_error() => "invalid_request_error",
            _ => "server_error",
        };
        json!({ "error": {
            "message": message, "type": kind, "param": self.parameter, "code": code,
        } })
    }

    /// The whole answer.
    pub(crate) fn response(&self) -> Response<Reply> {
        let mut response = json(self.status, &self.body());
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(allowed) = self.allowed {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        response
    }
}

impl From<Error> for Failure {
    /// Errors of prompts are the client's, all others ours.
    fn from(error: Error) -> Self {
        let clients = [
            codes::PROMPT_INVALID,
            codes::TOKENIZER_INVALID,
            codes::TEMPLATE_INVALID,
            codes::TEMPLATE_LIMIT,
        ];
        let status = match error.code.as_str() {
            code if clients.contains(&code) => StatusCode::BAD_REQUEST,
            _ if error.is_cancelled() => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, error: Box::new(error), parameter: None, retry_after: None, allowed: None }
    }
}
