//! How tokens are chosen: what was asked for, and for the rest what the model suggests in its
//! generation_config.json.

use crate::sampling::Sampling;
use serde_json::{Value, json};

/// What was asked for; the model's suggestion, or what changes nothing, stands in for the rest. The
/// fields are those of [`Sampling`].
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[expect(missing_docs, reason = "they are those of Sampling")]
pub struct Wanted {
    pub temperature: Option<f32>,
    pub top_k: Option<usize>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repetition_penalty: Option<f32>,
    pub presence_penalty: Option<f32>,
    pub frequency_penalty: Option<f32>,
}

impl Wanted {
    /// What was asked for, and for the rest `default`. Settings that filter mean that something is
    /// drawn: they make the temperature 1 where it would be 0 and none was asked for.
    pub fn over(&self, default: Sampling) -> Sampling {
        let filters = self.top_k.is_some() || self.top_p.is_some() || self.min_p.is_some();
        let usual = if default.is_greedy() && filters { 1.0 } else { default.temperature };
        Sampling {
            temperature: self.temperature.unwrap_or(usual),
            top_k: self.top_k.unwrap_or(default.top_k),
            top_p: self.top_p.unwrap_or(default.top_p),
            min_p: self.min_p.unwrap_or(default.min_p),
            repetition_penalty: self.repetition_penalty.unwrap_or(default.repetition_penalty),
            presence_penalty: self.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(default.frequency_penalty),
            no_repeat_ngram: default.no_repeat_ngram,
        }
    }

    /// Whether something was asked for that needs all logits.
    pub fn needs_logits(&self) -> bool {
        self.temperature.is_some_and(|value| value > 0.0)
            || self.top_k.is_some()
            || self.top_p.is_some()
            || self.min_p.is_some()
            || self.repetition_penalty.is_some_and(|penalty| penalty != 1.0)
            || self.presence_penalty.is_some_and(|penalty| penalty != 0.0)
            || self.frequency_penalty.is_some_and(|penalty| penalty != 0.0)
    }
}

/// What a model suggests.
#[derive(Debug, Clone, PartialEq)]
pub struct Suggestion {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Texts that end an answer.
    pub stop: Vec<String>,
    /// What of it cannot be used, or has no effect: sentences for the user.
    pub notes: Vec<String>,
}

impl Suggestion {
    /// Of generation_config.json, for a conversation: greedy, unless `do_sample` is true. Values that
    /// cannot be are left out.
    pub fn for_chat(config: &Value) -> Self {
        let mut suggestion = Self::for_continuation(config);
        if config.get("do_sample").and_then(Value::as_bool) != Some(true) {
            return suggestion;
        }
        let notes = &mut suggestion.notes;
        suggestion.sampling = Sampling {
            temperature: number(config, "temperature", 0.0, 1000.0, notes).unwrap_or(1.0),
            top_k: number(config, "top_k", 0.0, 1e9, notes).map_or(0, |value| value as usize),
            top_p: number(config, "top_p", 0.0, 1.0, notes).unwrap_or(1.0),
            min_p: number(config, "min_p", 0.0, 1.0, notes).unwrap_or(0.0),
            ..suggestion.sampling
        };
        suggestion
    }

    /// Of generation_config.json, for a text that is continued: what counts whether or not tokens are
    /// drawn.
    pub fn for_continuation(config: &Value) -> Self {
        let mut notes: Vec<String> = ignored(config).into_iter().collect();
        let penalty = number(config, "repetition_penalty", 1e-3, 1e3, &mut notes);
        let sequence = number(config, "no_repeat_ngram_size", 0.0, 1e6, &mut notes);
        let sampling = Sampling {
            repetition_penalty: penalty.unwrap_or(1.0),
            no_repeat_ngram: sequence.map_or(0, |value| value as usize),
            ..Sampling::GREEDY
        };
        Self { sampling, stop: stop_texts(config, &mut notes), notes }
    }
}

fn number(
    config: &Value,
    key: &str,
    least: f64,
    most: f64,
    notes: &mut Vec<String>,
) -> Option<f32> {
    let value = config.get(key).filter(|value| !value.is_null())?;
    let number = value.as_f64().filter(|number| (least..=most).contains(number));
    if number.is_none() {
        notes.push(unusable(key, value));
    }
    number.map(|number| number as f32)
}

/// One text or a list of texts.
fn stop_texts(config: &Value, notes: &mut Vec<String>) -> Vec<String> {
    const KEY: &str = "stop_strings";
    let Some(value) = config.get(KEY).filter(|value| !value.is_null()) else { return Vec::new() };
    let list = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    let texts = list.iter().map(|text| text.as_str().filter(|text| !text.is_empty()));
    let texts: Option<Vec<String>> = texts.map(|text| text.map(str::to_owned)).collect();
    texts.unwrap_or_else(|| {
        notes.push(unusable(KEY, value));
        Vec::new()
    })
}

fn unusable(key: &str, value: &Value) -> String {
    format!("`{key}` in generation_config.json is {value}, which cannot be used")
}

/// Names what generation_config.json says that changes which tokens are chosen, and does not here.
fn ignored(config: &Value) -> Option<String> {
    // Keys with the values that change nothing.
    let neutral = [
        ("num_beams", json!(1)),
        ("num_beam_groups", json!(1)),
        ("penalty_alpha", json!(0)),
        ("typical_p", json!(1)),
        ("epsilon_cutoff", json!(0)),
        ("eta_cutoff", json!(0)),
        ("encoder_repetition_penalty", json!(1)),
        ("encoder_no_repeat_ngram_size", json!(0)),
        ("min_length", json!(0)),
        ("min_new_tokens", json!(0)),
        ("guidance_scale", json!(1)),
        ("bad_words_ids", json!([])),
        ("suppress_tokens", json!([])),
        ("begin_suppress_tokens", json!([])),
        ("forced_bos_token_id", json!(null)),
        ("forced_eos_token_id", json!(null)),
        ("sequence_bias", json!({})),
        ("exponential_decay_length_penalty", json!(null)),
    ];
    let counts = |key: &str, neutral: &Value| {
        config.get(key).is_some_and(|value| {
            !value.is_null()
                && value != neutral
                && (value.as_f64().is_none() || value.as_f64() != neutral.as_f64())
        })
    };
    let keys: Vec<String> = neutral
        .iter()
        .filter(|(key, value)| counts(key, value))
        .map(|(key, _)| format!("`{key}`"))
        .collect();
    let names = keys.join(", ");
    (!keys.is_empty())
        .then(|| format!("what generation_config.json says about {names} has no effect here"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_goes_before_the_models_suggestions() {
        let suggestion = Sampling { temperature: 0.6, top_k: 20, top_p: 0.95, ..Sampling::GREEDY };
        let none = Wanted::default();
        assert_eq!(none.over(suggestion), suggestion);
        assert_eq!(none.over(Sampling::GREEDY), Sampling::GREEDY);
        let cold = Wanted { temperature: Some(0.0), ..none };
        assert!(cold.over(suggestion).is_greedy());
        let filter = Wanted { top_k: Some(5), ..none };
        assert_eq!(filter.over(suggestion).temperature, 0.6);
        assert_eq!(filter.over(Sampling::GREEDY).temperature, 1.0);
        let presence = Wanted { presence_penalty: Some(0.5), ..none };
        assert!(presence.over(Sampling::GREEDY).looks_back() && presence.needs_logits());
        let neutral = Wanted {
            temperature: Some(0.0),
            repetition_penalty: Some(1.0),
            frequency_penalty: Some(0.0),
            ..none
        };
        assert!(!neutral.needs_logits());
    }

    #[test]
    fn suggestions_are_read_and_what_cannot_be_is_told() {
        let config = json!({
            "do_sample": true, "temperature": 0.7, "top_p": 7, "repetition_penalty": 1.05,
            "stop_strings": ["END", "###"], "num_beams": 4, "typical_p": 1.0
        });
        let chat = Suggestion::for_chat(&config);
        assert_eq!((chat.sampling.temperature, chat.sampling.top_p), (0.7, 1.0));
        assert_eq!(chat.sampling.repetition_penalty, 1.05);
        assert_eq!(chat.stop, ["END", "###"]);
        assert_eq!(chat.notes.len(), 2, "{:?}", chat.notes);
        assert!(chat.notes[0].contains("about `num_beams` has no effect"), "{:?}", chat.notes);
        assert!(chat.notes[1].contains("`top_p`") && chat.notes[1].contains('7'));
        let text = Suggestion::for_continuation(&config);
        assert!(text.sampling.is_greedy() && text.sampling.repetition_penalty == 1.05);
        let one = Suggestion::for_chat(&json!({ "stop_strings": "END" }));
        assert_eq!(
            (one.stop.as_slice(), one.sampling),
            (&["END".to_owned()][..], Sampling::GREEDY)
        );
        let bad = Suggestion::for_chat(&json!({ "stop_strings": ["", 7] }));
        assert!(bad.stop.is_empty() && bad.notes[0].contains("cannot be used"));
    }
}
