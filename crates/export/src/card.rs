//! The model card: README.md with the front matter that the hub reads.

use crate::license;
use crate::model::Conversion;
use anemll_files::Limit;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::path::Path;

/// Name of the card.
pub(crate) const NAME: &str = "README.md";
/// A card of a model.
const CARD: Limit = Limit::new("a model card", 4_000_000);
/// A licence.
const LICENSE: Limit = Limit::new("a licence", 1_000_000);
/// Names of licence files.
const LICENSES: [&str; 5] = ["LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "LICENCE.txt"];
/// Languages of a card that are taken over.
const MOST_LANGUAGES: usize = 200;

/// What the original model's own card says. What it does not say stays empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCard {
    /// Name on the hub, `ORGANIZATION/NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_model: Option<String>,
    /// Identifier of the licence, such as `apache-2.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// Name of a licence whose identifier is `other`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_name: Option<String>,
    /// Where that licence is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license_link: Option<String>,
    /// Codes of languages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub language: Vec<String>,
}

impl SourceCard {
    /// What of it has the form that it should have: a report may come from anybody.
    pub(crate) fn checked(self) -> Self {
        let identifier = |text: &String| license::is_identifier(text);
        Self {
            base_model: self.base_model.filter(|name| crate::is_repository(name)),
            license: self.license.filter(identifier),
            language: self.language.into_iter().filter(identifier).take(MOST_LANGUAGES).collect(),
            ..self
        }
    }

    /// Reads README.md of a model directory, or else its licence file. A folder of the Hugging Face
    /// cache also tells the model's name. What cannot be read or understood says nothing.
    pub fn read(directory: &Path) -> Self {
        let text = anemll_files::read_text(&directory.join(NAME), CARD).unwrap_or_default();
        let mut card = Self::of_text(&text);
        if card.license.is_none() {
            let texts = LICENSES
                .iter()
                .filter_map(|name| anemll_files::read_text(&directory.join(name), LICENSE).ok());
            card.license =
                texts.filter_map(|text| license::identify(&text)).next().map(str::to_owned);
        }
        card.base_model = name_in_cache(directory);
        card
    }

    /// Reads the front matter of a card.
    fn of_text(text: &str) -> Self {
        let Some(front) = front_matter(text) else { return Self::default() };
        let Ok(front) = serde_yaml_ng::from_str::<Value>(&front) else { return Self::default() };
        let texts = |key: &str| -> Vec<String> {
            match &front[key] {
                Value::String(text) => vec![text.clone()],
                Value::Array(list) => {
                    list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
                }
                _ => Vec::new(),
            }
        };
        let first = |key: &str| {
            let text = texts(key).into_iter().next()?;
            let text = text.trim();
            (!text.is_empty() && text.len() <= 500).then(|| text.to_owned())
        };
        let identifiers = |key: &str| -> Vec<String> {
            texts(key).into_iter().filter(|text| license::is_identifier(text)).collect()
        };
        Self {
            base_model: None,
            license: identifiers("license").into_iter().next().map(|text| text.to_lowercase()),
            license_name: first("license_name"),
            license_link: first("license_link"),
            language: identifiers("language").into_iter().take(MOST_LANGUAGES).collect(),
        }
    }

    /// This card, with what another says in place of what it says itself.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let (license, license_name, license_link) = match self.license {
            Some(license) => (Some(license), self.license_name, self.license_link),
            None => (other.license, other.license_name, other.license_link),
        };
        Self {
            base_model: self.base_model.or(other.base_model),
            license,
            license_name,
            license_link,
            language: if self.language.is_empty() { other.language } else { self.language },
        }
    }
}

/// The lines between the first two lines of three dashes.
fn front_matter(text: &str) -> Option<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = text.lines();
    (lines.next()?.trim_end() == "---").then_some(())?;
    let mut front = String::new();
    for line in lines {
        if line.trim_end() == "---" {
            return Some(front);
        }
        front.push_str(line);
        front.push('\n');
    }
    None
}

/// The name that a folder of the Hugging Face cache stands for.
fn name_in_cache(directory: &Path) -> Option<String> {
    let path = directory.canonicalize().ok()?;
    let parent = path.parent().filter(|parent| parent.ends_with("snapshots"))?;
    let folder = parent.parent()?.file_name()?.to_str()?;
    let (organization, name) = folder.strip_prefix("models--")?.split_once("--")?;
    let name = format!("{organization}/{name}");
    crate::is_repository(&name).then_some(name)
}

/// How good a conversion is, as far as it was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
pub struct Quality {
    /// Tokens that were scored.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// Mean Kullback-Leibler divergence from the original, in nats.
    #[serde(default)]
    pub kl_mean: Option<f64>,
    /// Share of tokens for which both have the same winner.
    #[serde(default)]
    pub top1_agreement: Option<f64>,
    /// Perplexity of the conversion.
    #[serde(default)]
    pub perplexity: Option<f64>,
    /// Perplexity of the original.
    #[serde(default)]
    pub reference_perplexity: Option<f64>,
}

impl Quality {
    /// What a report says, if anything.
    fn of_report(report: &Value) -> Option<Self> {
        let quality: Self = serde_json::from_value(report.get("quality")?.clone()).ok()?;
        (quality != Self::default()).then_some(quality)
    }

    fn rows(self) -> Vec<(&'static str, String)> {
        let mut rows = Vec::new();
        if let Some(value) = self.kl_mean.filter(|value| value.is_finite()) {
            rows.push(("mean KL divergence from the original", format!("{value:.4} nats")));
        }
        if let Some(value) = self.top1_agreement.filter(|value| value.is_finite()) {
            rows.push(("same most likely token", format!("{:.1} %", 100.0 * value)));
        }
        if let Some(value) = self.perplexity.filter(|value| value.is_finite()) {
            rows.push(("perplexity", format!("{value:.2}")));
        }
        if let Some(value) = self.reference_perplexity.filter(|value| value.is_finite()) {
            rows.push(("perplexity of the original", format!("{value:.2}")));
        }
        if let Some(tokens) = self.tokens.filter(|_| !rows.is_empty()) {
            rows.push(("tokens", tokens.to_string()));
        }
        rows
    }
}

/// What a card is written from.
#[derive(Debug)]
pub struct Card {
    name: String,
    source: SourceCard,
    /// `llama`, `qwen3`.
    architecture: Option<String>,
    /// What a reader wants to know first, name and value.
    facts: Vec<(&'static str, String)>,
    quality: Option<Quality>,
    converted_by: String,
}

/// A form as the card tells it: name, files of the models with their bytes, bytes of all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FormFacts {
    pub(crate) name: &'static str,
    pub(crate) models: Vec<(String, u64)>,
    pub(crate) bytes: u64,
}

impl Card {
    pub(crate) fn new(conversion: &Conversion, source: SourceCard, converted_by: String) -> Self {
        let mut facts = Vec::new();
        let parameters = &conversion.info["parameters"];
        let number = |key: &str| parameters[key].as_u64().map(|number| number.to_string());
        if let Some(count) = conversion.report["model"]["parameters"].as_u64() {
            facts.push(("parameters", count_text(count)));
        }
        if let Some(context) = number("context_length") {
            facts.push(("context", format!("{context} tokens")));
        }
        if let Some(batch) = number("batch_size") {
            facts.push(("prefill batch", format!("{batch} tokens")));
        }
        facts.push(("weights", bits(parameters)));
        let chunks = parameters["num_chunks"].as_u64();
        let layout = match (parameters["monolithic_model"].as_str(), chunks) {
            (Some(_), _) => "one model".to_owned(),
            (None, Some(1)) => "embeddings, layers, head".to_owned(),
            (None, Some(chunks)) => format!("embeddings, layers in {chunks} chunks, head"),
            (None, None) => "embeddings, layers, head".to_owned(),
        };
        facts.push(("layout", layout));
        if parameters["argmax_in_model"] == Value::Bool(true) {
            facts
                .push(("output", "the most likely token of each piece, not the logits".to_owned()));
        }
        Self {
            name: conversion.name(),
            source,
            architecture: conversion.info_text("architecture"),
            facts,
            quality: Quality::of_report(&conversion.report),
            converted_by,
        }
    }

    /// The text. `here` is the form whose folder it is for, or none for the folder above.
    pub(crate) fn text(&self, forms: &[FormFacts], here: Option<&str>) -> String {
        let mut text = String::from("---\n");
        text += &serde_yaml_ng::to_string(&self.front()).unwrap_or_default();
        text += "---\n\n";
        let _ = writeln!(text, "# {}\n", inline(&self.name));
        let of = match &self.source.base_model {
            Some(name) => {
                format!("[{}](https://huggingface.co/{name})", inline(name))
            }
            None => "A language model".to_owned(),
        };
        let _ = writeln!(
            text,
            "{of} for Apple's Neural Engine, as Core ML models. Converted by {}.\n",
            inline(&self.converted_by)
        );
        text += "| | |\n|---|---|\n";
        for (name, value) in &self.facts {
            let _ = writeln!(text, "| {name} | {} |", inline(value));
        }
        for form in forms.iter().filter(|form| here.is_none_or(|name| name == form.name)) {
            let size = anemll_files::size(form.bytes);
            match here {
                None => writeln!(text, "| size of `{}` | {size} |", form.name),
                Some(_) => writeln!(text, "| size | {size} |"),
            }
            .unwrap_or_default();
        }
        let quality = self.quality.map(Quality::rows).unwrap_or_default();
        if !quality.is_empty() {
            text += "\n## Quality\n\n| measured against the original model | |\n|---|---|\n";
            for (name, value) in quality {
                let _ = writeln!(text, "| {name} | {value} |");
            }
        }
        text += "\n## Files\n\n";
        if here.is_none() {
            for form in forms {
                let what = match form.name {
                    "ios" => "the models as folders, for apps on iPhone, iPad and Mac",
                    _ => "the same models, each in a zip",
                };
                let _ = writeln!(text, "- `{}/`: {what}", form.name);
            }
            text.push('\n');
        }
        text += "| model | size |\n|---|---|\n";
        let shown = forms.iter().find(|form| here.is_none_or(|name| name == form.name));
        for (name, bytes) in shown.iter().flat_map(|form| &form.models) {
            let _ = writeln!(text, "| {} | {} |", code(name), anemll_files::size(*bytes));
        }
        text += "\n`meta.yaml` names the models and their parameters; `release.json` has the size and \
                 SHA-256 of every file, and how the conversion was made.\n";
        text += &self.usage(forms, here);
        text += &self.terms();
        text
    }

    fn usage(&self, forms: &[FormFacts], here: Option<&str>) -> String {
        let form = here.or_else(|| forms.first().map(|form| form.name)).unwrap_or_default();
        let place = if here.is_some() { "." } else { form };
        let mut text = String::from("\n## How to run\n\n");
        if form == "standard" {
            let _ = writeln!(
                text,
                "Unpack the models first:\n\n    (cd {place} && for zip in *.zip; do unzip -q \
                 \"$zip\"; done)\n"
            );
        }
        let _ = writeln!(
            text,
            "With `anemll`, on any system:\n\n    anemll verify .\n    anemll chat {place}\n"
        );
        text += "On iPhone, iPad and Mac, ANEMLL's apps load the folder with `meta.yaml`; ANEMLL Chat \
                 also loads a repository of the hub by its name. iOS 18 or macOS 15 is needed.\n";
        text
    }

    fn terms(&self) -> String {
        let source = &self.source;
        let name = source.license_name.as_ref().or(source.license.as_ref());
        let Some(name) = name else {
            return "\n## Licence\n\nThe terms of the original model apply.\n".to_owned();
        };
        let mut text = format!("\n## Licence\n\n{}", inline(name));
        // Only what is an address becomes one.
        if let Some(link) = source.license_link.as_ref().filter(|link| is_address(link)) {
            let _ = write!(text, " (<{link}>)");
        }
        text + ", that of the original model.\n"
    }

    /// What the hub reads.
    fn front(&self) -> Value {
        let mut front = Map::new();
        let source = &self.source;
        let mut put = |key: &str, value: Option<&String>| {
            if let Some(value) = value {
                front.insert(key.to_owned(), Value::from(value.as_str()));
            }
        };
        put("license", source.license.as_ref());
        put("license_name", source.license_name.as_ref());
        put("license_link", source.license_link.as_ref());
        put("base_model", source.base_model.as_ref());
        if source.base_model.is_some() {
            front.insert("base_model_relation".to_owned(), json!("quantized"));
        }
        if !source.language.is_empty() {
            front.insert("language".to_owned(), json!(source.language));
        }
        front.insert("library_name".to_owned(), json!("coreml"));
        front.insert("pipeline_tag".to_owned(), json!("text-generation"));
        let mut tags: Vec<&str> = vec!["coreml", "anemll", "apple-neural-engine", "ane"];
        tags.extend(self.architecture.as_deref().filter(|name| license::is_identifier(name)));
        front.insert("tags".to_owned(), json!(tags));
        Value::Object(front)
    }
}

/// Bits of the parts: `embeddings 8 bits, layers 6 bits, head 8 bits`.
fn bits(parameters: &Value) -> String {
    let part = |key: &str| match &parameters[key] {
        Value::Number(number) => Some(format!("{number} bits")),
        Value::String(text) if text.parse::<u32>().is_ok() => Some(format!("{text} bits")),
        Value::String(_) => Some("16-bit floats".to_owned()),
        _ => None,
    };
    let whole = part("lut_bits");
    let parts = ["lut_embeddings", "lut_ffn", "lut_lmhead"];
    let names = ["embeddings", "layers", "head"];
    let values = parts.map(|key| part(key).or_else(|| whole.clone()));
    match &values {
        [None, None, None] => "16-bit floats".to_owned(),
        [first, second, third] if first == second && second == third => {
            first.clone().unwrap_or_default()
        }
        _ => names
            .iter()
            .zip(values)
            .filter_map(|(name, value)| Some(format!("{name} {}", value?)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

/// A count for people: 134.5 M.
fn count_text(count: u64) -> String {
    match count {
        0..1_000_000 => count.to_string(),
        1_000_000..1_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        _ => format!("{:.2} B", count as f64 / 1e9),
    }
}

/// A text within a line of Markdown: nothing in it is markup.
fn inline(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            _ if character.is_control() => safe.push(' '),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '&' => safe.push_str("&amp;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '!' | '#' | '~' => {
                safe.push('\\');
                safe.push(character);
            }
            _ => safe.push(character),
        }
    }
    safe
}

/// A file name as code.
fn code(text: &str) -> String {
    if text.contains(['`', '|']) || text.chars().any(char::is_control) {
        inline(text)
    } else {
        format!("`{text}`")
    }
}

fn is_address(text: &str) -> bool {
    text.starts_with("https://")
        && text.bytes().all(|byte| byte.is_ascii_graphic() && !b"<>\"'\\`|".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_matter_of_a_card_is_read() {
        let card = SourceCard::of_text(
            "---\nlanguage:\n- en\n- fr\nlicense: Apache-2.0\nlibrary_name: transformers\n---\n# X\n",
        );
        assert_eq!(card.license.as_deref(), Some("apache-2.0"));
        assert_eq!(card.language, ["en", "fr"]);
        let other = SourceCard::of_text(
            "---\nlicense: other\nlicense_name: qwen-research\nlicense_link: https://x.y/z\n---\n",
        );
        assert_eq!(other.license_name.as_deref(), Some("qwen-research"));
        for text in
            ["", "# X\nlicense: mit\n", "---\nlicense: mit\n", "---\n: [\n---\n", "---\n---"]
        {
            assert_eq!(SourceCard::of_text(text), SourceCard::default(), "{text:?}");
        }
        // What is no identifier could be anything.
        assert_eq!(SourceCard::of_text("---\nlicense: \"a\\nb: c\"\n---\n").license, None);
    }

    #[test]
    fn a_model_in_the_cache_has_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let snapshot = folder.path().join("models--Qwen--Qwen3-0.6B/snapshots/0123");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::write(snapshot.join("LICENSE"), "Apache License\nVersion 2.0, January").unwrap();
        let card = SourceCard::read(&snapshot);
        assert_eq!(card.base_model.as_deref(), Some("Qwen/Qwen3-0.6B"));
        assert_eq!(card.license.as_deref(), Some("apache-2.0"));
        assert_eq!(SourceCard::read(folder.path()), SourceCard::default());
    }

    #[test]
    fn nothing_in_a_text_is_markup() {
        assert_eq!(inline("a|b\n[x](y) <b> `c`"), "a\\|b \\[x\\](y) &lt;b&gt; \\`c\\`");
        assert_eq!(code("x_y"), "`x_y`");
        assert!(
            is_address("https://a.b/c")
                && !is_address("javascript:x")
                && !is_address("https://a b")
        );
    }

    #[test]
    fn bits_are_told_once_where_they_are_equal() {
        let text = |value: Value| bits(&value);
        assert_eq!(text(json!({"lut_bits": 4})), "4 bits");
        assert_eq!(
            text(json!({"lut_embeddings": "none", "lut_ffn": 4, "lut_lmhead": "6"})),
            "embeddings 16-bit floats, layers 4 bits, head 6 bits"
        );
        assert_eq!(
            text(json!({"lut_ffn": "none", "lut_lmhead": "none"})),
            "layers 16-bit floats, head 16-bit floats"
        );
        assert_eq!(text(json!({})), "16-bit floats");
    }
}
