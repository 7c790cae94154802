//! What tells one conversion from another.

use crate::fingerprint::sha256_of;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

/// Version of the records' form; another one is another conversion.
const SCHEMA: u32 = 1;

/// What decides the bytes of a conversion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Identity {
    /// Version of the records' form.
    schema: u32,
    /// Version of the program.
    anemll: String,
    /// sha256 of config.json and the weights.
    source_sha256: String,
    /// The options that decide the output.
    options: Value,
    /// The plugins that take part, with their versions and libraries.
    plugins: Value,
}

impl Identity {
    /// The conversion of a model (`source_sha256` over config.json and the weights) by this version
    /// of the program, with these options (an object) and plugins.
    pub fn new(source_sha256: String, options: Value, plugins: Value) -> Self {
        let anemll = env!("CARGO_PKG_VERSION").to_owned();
        Self { schema: SCHEMA, anemll, source_sha256, options, plugins }
    }

    /// Whether a later version of the program wrote it, in a form that is not known here.
    pub(crate) fn is_of_the_future(&self) -> bool {
        self.schema > SCHEMA
    }

    /// A short name for the staging folder, other for other identities.
    pub(crate) fn key(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        sha256_of(&text)[..16].to_owned()
    }

    /// What a user has to know before this conversion takes the place of `earlier`; none if that
    /// may happen unasked: equal source and options.
    pub fn conflict(&self, earlier: &Self) -> Option<String> {
        if self.source_sha256 != earlier.source_sha256 {
            return Some("the output directory holds a conversion of another model".to_owned());
        }
        earlier.other_options(&self.options)
    }

    /// In what other options differ from those of this conversion; none if in nothing.
    pub(crate) fn other_options(&self, options: &Value) -> Option<String> {
        let (mine, theirs) = (options.as_object()?, self.options.as_object()?);
        let names: BTreeSet<&String> = mine.keys().chain(theirs.keys()).collect();
        let null = Value::Null;
        let changes: Vec<String> = names
            .into_iter()
            .filter_map(|name| {
                let here = mine.get(name).unwrap_or(&null);
                let there = theirs.get(name).unwrap_or(&null);
                (here != there).then(|| format!("{name} {there} there, {here} now"))
            })
            .collect();
        (!changes.is_empty()).then(|| {
            format!(
                "the output directory holds a conversion with other options: {}",
                changes.join("; ")
            )
        })
    }
}
