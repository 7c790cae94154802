//! What is served: a model that writes, or one that gives vectors.

use crate::failure::Failure;
use crate::served::Served;
use crate::slots::Slots;
use crate::vectors::Vectors;
use anemll_codes as codes;
use hyper::StatusCode;
use std::sync::Arc;

/// A model with those who work at its requests.
pub(crate) enum Model {
    /// One that writes.
    Text(Arc<Served>, Arc<Slots>),
    /// One that gives vectors.
    Vectors(Arc<Vectors>),
}

impl Model {
    /// The model, as one that writes.
    ///
    /// # Errors
    /// It gives vectors.
    pub(crate) fn text(&self) -> Result<(&Arc<Served>, &Arc<Slots>), Failure> {
        match self {
            Self::Text(served, slots) => Ok((served, slots)),
            Self::Vectors(_) => {
                Err(other_kind("this model gives vectors, no text", "ask at /v1/embeddings"))
            }
        }
    }

    /// The model, as one that gives vectors.
    ///
    /// # Errors
    /// It writes.
    pub(crate) fn vectors(&self) -> Result<&Arc<Vectors>, Failure> {
        match self {
            Self::Vectors(vectors) => Ok(vectors),
            Self::Text(..) => Err(other_kind(
                "this model writes text and gives no vectors",
                "serve a conversion that was made with --task embed",
            )),
        }
    }

    /// Begins nothing new.
    pub(crate) fn end(&self) {
        match self {
            Self::Text(_, slots) => slots.end(),
            Self::Vectors(vectors) => vectors.end(),
        }
    }

    /// Ends what is being made.
    pub(crate) fn cut(&self) {
        match self {
            Self::Text(_, slots) => slots.cut(),
            Self::Vectors(vectors) => vectors.cut(),
        }
    }

    /// How many requests are worked at, and how many wait, now.
    pub(crate) fn load(&self) -> (usize, usize) {
        match self {
            Self::Text(_, slots) => slots.load(),
            Self::Vectors(vectors) => vectors.load(),
        }
    }
}

fn other_kind(message: &str, hint: &str) -> Failure {
    Failure::new(StatusCode::BAD_REQUEST, codes::CONVERSION_KIND, message).with_hint(hint)
}
