//! How an answer is made: the keys that chats and texts have in common.

use crate::failure::Failure;
use crate::request::fields::{Fields, short};
use anemll_generation::settings::Wanted;
use serde_json::{Value, json};

/// Texts that may end an answer, at most.
const MOST_STOPS: usize = 16;
/// Likely tokens that are told of each position, at most.
pub(crate) const MOST_LIKELY: u64 = 20;

/// How an answer is made.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Settings {
    /// How tokens are chosen.
    pub(crate) wanted: Wanted,
    /// Decides what is drawn.
    pub(crate) seed: Option<u64>,
    /// Texts that end the answer.
    pub(crate) stop: Vec<String>,
    /// Tokens of the answer, at most.
    pub(crate) most: Option<u64>,
    /// Whether probabilities are told, and of how many likely tokens besides the chosen one.
    pub(crate) likely: Option<usize>,
    /// Whether the answer comes in pieces.
    pub(crate) stream: bool,
    /// Whether the last piece tells the usage.
    pub(crate) include_usage: bool,
}

impl Settings {
    /// Reads them, but for probabilities and the largest number of tokens, which chats and texts name
    /// each in their own way.
    pub(crate) fn read(fields: &Fields<'_>) -> Result<Self, Failure> {
        for (key, neutral) in [
            ("n", vec![json!(1)]),
            ("best_of", vec![json!(1)]),
            ("logit_bias", vec![json!({})]),
            ("response_format", vec![json!({ "type": "text" })]),
        ] {
            fields.only(key, &neutral)?;
        }
        let stream = fields.flag("stream")?;
        let options = fields.object("stream_options")?;
        if options.is_some() && !stream {
            return Err(Failure::invalid("stream_options", "needs `stream`"));
        }
        let include_usage =
            options.map(|options| Fields(options).flag("include_usage")).transpose()?;
        // What is drawn from all tokens, some programs write as -1.
        let top_k = match fields.get("top_k") {
            Some(value) if value.as_i64() == Some(-1) => Some(0),
            _ => fields.count("top_k", u64::MAX)?,
        };
        Ok(Self {
            wanted: Wanted {
                temperature: fields.number("temperature", 0.0, 100.0)?,
                top_k: top_k.map(|count| usize::try_from(count).unwrap_or(usize::MAX)),
                top_p: fields.number("top_p", 0.0, 1.0)?,
                min_p: fields.number("min_p", 0.0, 1.0)?,
                repetition_penalty: fields.number("repetition_penalty", 0.001, 1000.0)?,
                presence_penalty: fields.number("presence_penalty", -2.0, 2.0)?,
                frequency_penalty: fields.number("frequency_penalty", -2.0, 2.0)?,
            },
            seed: seed(fields)?,
            stop: stop(fields)?,
            most: None,
            likely: None,
            stream,
            include_usage: include_usage.unwrap_or(false),
        })
    }
}

/// Any whole number, also below 0.
fn seed(fields: &Fields<'_>) -> Result<Option<u64>, Failure> {
    let Some(value) = fields.get("seed") else { return Ok(None) };
    let seed = value.as_u64().or_else(|| value.as_i64().map(i64::cast_unsigned));
    match seed {
        Some(seed) => Ok(Some(seed)),
        None => {
            Err(Failure::invalid("seed", format!("must be a whole number, not {}", short(value))))
        }
    }
}

/// One text or a list of texts.
fn stop(fields: &Fields<'_>) -> Result<Vec<String>, Failure> {
    let Some(value) = fields.get("stop") else { return Ok(Vec::new()) };
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let texts = list.iter().map(Value::as_str).collect::<Option<Vec<_>>>();
    let texts = texts.filter(|texts| texts.len() <= MOST_STOPS && !texts.contains(&""));
    texts.map(|texts| texts.into_iter().map(str::to_owned).collect()).ok_or_else(|| {
        Failure::invalid(
            "stop",
            format!("must be a text or a list of up to {MOST_STOPS} texts, none empty"),
        )
    })
}
