//! The function that verifies guesses: a few tokens at once, to the logits of all of them.

use crate::{LayoutOptions, meta};
use anemll_plugin_api::data::{ModelDescription, StateKind};
use anemll_plugin_api::{Error, Result, codes};
use serde_json::{Map, Value};

/// A function of this kind, as asked for and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verify {
    /// Tokens of a call.
    pub tokens: u64,
    /// Its name in packages, such as `verify_8`.
    pub name: String,
}

impl Verify {
    /// What the option `verify` asks for; nothing where it is absent.
    ///
    /// # Errors
    /// [`codes::LAYOUT_OPTION_INVALID`] for a model or options that cannot have such a function: the
    /// tokens behind a wrong guess are taken back, which states that each token replaces do not allow.
    pub fn new(model: &ModelDescription, options: &LayoutOptions) -> Result<Option<Self>> {
        let Some(tokens) = options.verify else { return Ok(None) };
        let replaces = model.states.iter().any(|state| state.kind == StateKind::Recurrent);
        let refusal = if model.embedding.is_some() {
            Some("only next tokens can be verified, and this model gives vectors".to_owned())
        } else if options.argmax {
            Some("verifying takes logits, and --argmax leaves them out".to_owned())
        } else if replaces {
            Some(
                "wrong tokens cannot be taken back: this model has states that each token replaces"
                    .to_owned(),
            )
        } else if !(2..=model.batch).contains(&tokens) {
            let batch = model.batch;
            Some(format!(
                "tokens to verify at once must be 2 to {batch}, as many as a batch has; not {tokens}"
            ))
        } else {
            None
        };
        match refusal {
            Some(text) => Err(Error::new(codes::LAYOUT_OPTION_INVALID, text)
                .with_at("--verify")
                .with_hint("leave --verify out, or ask for what suits it")),
            None => Ok(Some(Self { tokens, name: format!("verify_{tokens}") })),
        }
    }

    /// Says in `meta.yaml` what the function is called and how many tokens it takes.
    pub fn meta(&self, keys: &mut Map<String, Value>) {
        keys.insert("verify_function".to_owned(), self.name.clone().into());
        keys.insert("verify_length".to_owned(), self.tokens.into());
        if let Some(Value::Array(functions)) = keys.get_mut(meta::FUNCTIONS) {
            functions.push(self.name.clone().into());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::data::StateInfo;

    fn model() -> ModelDescription {
        ModelDescription::default().with_batch(64)
    }

    fn asked(tokens: u64) -> LayoutOptions {
        LayoutOptions { verify: Some(tokens), ..LayoutOptions::default() }
    }

    #[test]
    fn a_function_has_its_tokens_in_its_name() {
        assert_eq!(Verify::new(&model(), &LayoutOptions::default()).unwrap(), None);
        let found = Verify::new(&model(), &asked(8)).unwrap().unwrap();
        assert_eq!((found.tokens, found.name.as_str()), (8, "verify_8"));
        let mut keys = Map::from_iter([("functions".to_owned(), serde_json::json!(["infer"]))]);
        found.meta(&mut keys);
        assert_eq!(
            Value::Object(keys),
            serde_json::json!({
                "functions": ["infer", "verify_8"], "verify_function": "verify_8", "verify_length": 8,
            })
        );
    }

    #[test]
    fn what_cannot_be_verified_is_refused() {
        let state = StateInfo::new("columns", [1]).with_kind(StateKind::Recurrent);
        let refused = [
            Verify::new(&model(), &asked(0)),
            Verify::new(&model(), &asked(1)),
            Verify::new(&model(), &asked(65)),
            Verify::new(&model().with_batch(1), &asked(2)),
            Verify::new(&model(), &LayoutOptions { argmax: true, ..asked(8) }),
            Verify::new(&model().with_states(vec![state]), &asked(8)),
        ];
        for error in refused {
            let error = error.unwrap_err();
            assert_eq!(
                (error.code.as_str(), error.at.as_deref()),
                (codes::LAYOUT_OPTION_INVALID, Some("--verify"))
            );
        }
    }
}
