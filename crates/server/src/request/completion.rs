//! A request for the continuation of a text.

use crate::failure::Failure;
use crate::request::fields::Fields;
use crate::request::prompt::Prompt;
use crate::request::settings::Settings;
use serde_json::{Value, json};

/// Tokens of a continuation where nothing is said, as OpenAI has it.
const USUAL_TOKENS: u64 = 16;
/// Likely tokens of each position, at most, as OpenAI has it for texts.
const MOST_LIKELY: u64 = 5;

/// A text that is to be continued.
#[derive(Debug)]
pub(crate) struct CompletionRequest {
    /// The text.
    pub(crate) prompt: Prompt,
    /// How the continuation is made.
    pub(crate) settings: Settings,
}

impl CompletionRequest {
    /// Reads a request.
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, Failure> {
        for (key, neutral) in [("echo", vec![json!(false)]), ("suffix", vec![json!("")])] {
            fields.only(key, &neutral)?;
        }
        let mut settings = Settings::read(fields)?;
        settings.most = Some(fields.count("max_tokens", u64::MAX)?.unwrap_or(USUAL_TOKENS));
        settings.likely = fields.count("logprobs", MOST_LIKELY)?.map(|count| count as usize);
        let prompt = match fields.get("prompt") {
            None => return Err(Failure::invalid("prompt", "is missing")),
            Some(Value::Array(list)) if list.len() == 1 && !list[0].is_number() => &list[0],
            Some(value) => value,
        };
        Ok(Self { prompt: one_text(prompt)?, settings })
    }
}

/// The one text of a request.
fn one_text(value: &Value) -> Result<Prompt, Failure> {
    match value {
        Value::Array(list) if list.len() > 1 && !list.iter().all(Value::is_number) => {
            Err(Failure::invalid("prompt", "has several texts")
                .with_hint("send a request for each"))
        }
        value => Prompt::read("prompt", value),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn read(value: Value) -> Result<CompletionRequest, Failure> {
        let Value::Object(fields) = value else { panic!("an object") };
        CompletionRequest::read(&Fields(&fields))
    }

    #[test]
    fn prompts_are_texts_or_tokens() {
        for (prompt, expected) in [
            (json!("a"), Prompt::Text("a".to_owned())),
            (json!(["a"]), Prompt::Text("a".to_owned())),
            (json!([1, 2]), Prompt::Tokens(vec![1, 2])),
            (json!([1]), Prompt::Tokens(vec![1])),
            (json!([[1, 2]]), Prompt::Tokens(vec![1, 2])),
        ] {
            assert_eq!(read(json!({ "prompt": prompt })).unwrap().prompt, expected);
        }
        for prompt in [json!(["a", "b"]), json!([-1]), json!([[1], [2]]), json!({}), json!(null)] {
            assert!(read(json!({ "prompt": prompt })).is_err(), "{prompt}");
        }
        let request = read(json!({ "prompt": "a", "logprobs": 0 })).unwrap();
        assert_eq!((request.settings.most, request.settings.likely), (Some(16), Some(0)));
        assert!(read(json!({ "prompt": "a", "echo": true })).is_err());
        assert!(read(json!({ "prompt": "a", "logprobs": 6 })).is_err());
    }
}
