//! What a file holds, for people.

use crate::container::Container;
use std::collections::BTreeMap;

/// What a file holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// Version of the format.
    pub version: u32,
    /// Architecture, as the file names it.
    pub architecture: Option<String>,
    /// Name of the model.
    pub name: Option<String>,
    /// Types of tensors, those of most elements first.
    pub types: Vec<Share>,
    /// Bits that an element takes on average.
    pub bits: f64,
    /// Kind of the tokenizer, and how it cuts texts.
    pub tokenizer: Option<String>,
    /// Tokens of the tokenizer.
    pub tokens: usize,
    /// Whether there is a chat template.
    pub has_chat_template: bool,
}

/// The tensors of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Name of the type.
    pub kind: &'static str,
    /// Number of tensors.
    pub tensors: usize,
    /// Their elements.
    pub elements: u64,
}

impl Summary {
    /// Of a file.
    pub fn of(container: &Container) -> Self {
        let mut shares: BTreeMap<&str, Share> = BTreeMap::new();
        let (mut elements, mut bytes) = (0_u64, 0_u64);
        for tensor in container.tensors() {
            let kind = tensor.kind.name();
            let share = shares.entry(kind).or_insert(Share { kind, tensors: 0, elements: 0 });
            share.tensors += 1;
            share.elements = share.elements.saturating_add(tensor.elements());
            elements = elements.saturating_add(tensor.elements());
            bytes = bytes.saturating_add(tensor.bytes);
        }
        let mut types: Vec<Share> = shares.into_values().collect();
        types.sort_by_key(|share| std::cmp::Reverse(share.elements));
        let text = |key: &str| container.get(key)?.text().map(str::to_owned);
        let tokens = container.get("tokenizer.ggml.tokens").and_then(|value| value.texts());
        Self {
            version: container.version(),
            architecture: text("general.architecture"),
            name: text("general.name"),
            types,
            bits: bytes as f64 * 8.0 / elements.max(1) as f64,
            tokenizer: text("tokenizer.ggml.model").map(|model| match text("tokenizer.ggml.pre") {
                Some(pre) => format!("{model} ({pre})"),
                None => model,
            }),
            tokens: tokens.map_or(0, <[String]>::len),
            has_chat_template: container.get("tokenizer.chat_template").is_some(),
        }
    }

    /// One line.
    pub fn line(&self) -> String {
        let unnamed = || "without a name".to_owned();
        let types: Vec<String> = self
            .types
            .iter()
            .map(|share| {
                let plural = if share.tensors == 1 { "" } else { "s" };
                format!("{} in {} tensor{plural}", share.kind, share.tensors)
            })
            .collect();
        let tokenizer = match &self.tokenizer {
            Some(kind) => format!("tokenizer {kind} of {} tokens", self.tokens),
            None => "no tokenizer".to_owned(),
        };
        let template = if self.has_chat_template { "a" } else { "no" };
        format!(
            "GGUF version {}, architecture {}, {:.1} bits a weight: {}; {tokenizer}, {template} chat \
             template",
            self.version,
            self.architecture.clone().unwrap_or_else(unnamed),
            self.bits,
            types.join(", "),
        )
    }
}
