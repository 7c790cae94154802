//! A request for the vectors of texts.

use crate::failure::Failure;
use crate::request::fields::{Fields, short};
use crate::request::prompt::Prompt;
use serde_json::Value;

/// Texts of a request, at most, as OpenAI has it.
const MOST_TEXTS: usize = 2048;

/// Texts whose vectors are wanted.
#[derive(Debug)]
pub(crate) struct EmbeddingRequest {
    /// The texts, and whether they came as a list.
    pub(crate) texts: Vec<Prompt>,
    /// The model's prompt that goes before each text.
    pub(crate) kind: Option<String>,
    /// Elements of each vector, where it is to be cut.
    pub(crate) dimensions: Option<usize>,
    /// Whether vectors are written as base64 of their bytes instead of as numbers.
    pub(crate) base64: bool,
}

impl EmbeddingRequest {
    /// Reads a request.
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, Failure> {
        let base64 = match fields.text("encoding_format")? {
            None | Some("float") => false,
            Some("base64") => true,
            Some(other) => {
                let reason = format!("is float or base64, not {}", short(&Value::from(other)));
                return Err(Failure::invalid("encoding_format", reason));
            }
        };
        let dimensions = match fields.count("dimensions", u64::from(u32::MAX))? {
            Some(0) => return Err(Failure::invalid("dimensions", "must be at least 1")),
            dimensions => dimensions.map(|count| count as usize),
        };
        let kind = fields.text("prompt_name")?.map(str::to_owned);
        Ok(Self { texts: texts(fields)?, kind, dimensions, base64 })
    }
}

/// A text, a list of texts, the tokens of a text, or a list of those.
fn texts(fields: &Fields<'_>) -> Result<Vec<Prompt>, Failure> {
    let input = fields.get("input").ok_or_else(|| Failure::invalid("input", "is missing"))?;
    let list = match input {
        Value::Array(list) if list.is_empty() => {
            return Err(Failure::invalid("input", "is empty"));
        }
        Value::Array(list) if !list.iter().all(Value::is_number) => list,
        one => return Ok(vec![text("input", one)?]),
    };
    if list.len() > MOST_TEXTS {
        let reason = format!("has {} texts, and a request has {MOST_TEXTS} at most", list.len());
        return Err(Failure::invalid("input", reason).with_hint("send several requests"));
    }
    let named = |(index, value)| text(&format!("input[{index}]"), value);
    list.iter().enumerate().map(named).collect()
}

/// A text, which has something in it.
fn text(key: &str, value: &Value) -> Result<Prompt, Failure> {
    match Prompt::read(key, value)? {
        Prompt::Tokens(tokens) if tokens.is_empty() => Err(Failure::invalid(key, "is empty")),
        prompt => Ok(prompt),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(value: Value) -> Result<EmbeddingRequest, String> {
        let Value::Object(fields) = value else { panic!("an object") };
        EmbeddingRequest::read(&Fields(&fields))
            .map_err(|failure| failure.body()["error"]["param"].to_string())
    }

    #[test]
    fn texts_and_tokens_alone_or_in_lists() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        for (input, texts) in [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([1, 2]), vec![Prompt::Tokens(vec![1, 2])]),
            (json!([[1, 2], [3]]), vec![Prompt::Tokens(vec![1, 2]), Prompt::Tokens(vec![3])]),
            (json!(["a", [3]]), vec![text("a"), Prompt::Tokens(vec![3])]),
        ] {
            assert_eq!(read(json!({ "input": input })).unwrap().texts, texts, "{input}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_name() {
        for (key, value, at) in [
            ("input", json!(null), "input"),
            ("input", json!([]), "input"),
            ("input", json!({}), "input"),
            ("input", json!(["a", 7]), "input[1]"),
            ("input", json!([[1.5]]), "input[0]"),
            ("input", json!([[]]), "input[0]"),
            ("input", json!(vec!["a"; 2049]), "input"),
            ("dimensions", json!(0), "dimensions"),
            ("dimensions", json!("8"), "dimensions"),
            ("encoding_format", json!("hex"), "encoding_format"),
            ("prompt_name", json!(1), "prompt_name"),
        ] {
            let mut request = json!({ "input": "a" });
            request[key] = value.clone();
            assert_eq!(read(request).unwrap_err(), format!("\"{at}\""), "{key} {value}");
        }
    }
}
