//! What clients know of the model that is served.

use serde_json::{Value, json};
use std::time::SystemTime;

/// The model as clients know it.
#[derive(Debug, Clone)]
pub(crate) struct About {
    /// Its name.
    pub(crate) name: String,
    /// When the server began, in seconds since 1970.
    pub(crate) created: u64,
    /// Tokens that a request may have, the answer's included.
    pub(crate) context: usize,
}

impl About {
    /// A model that is served from now on.
    pub(crate) fn new(name: String, context: usize) -> Self {
        Self { name, created: now(), context }
    }

    /// The model as `/v1/models` lists it.
    pub(crate) fn listed(&self) -> Value {
        json!({
            "id": self.name, "object": "model", "created": self.created, "owned_by": "anemll",
            // As other servers name it.
            "max_model_len": self.context,
        })
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs())
}
