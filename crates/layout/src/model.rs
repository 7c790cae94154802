//! What must hold of a model description before packages are laid out.

use anemll_plugin_api::data::ModelDescription;
use anemll_plugin_api::{Error, Result, codes};

/// Checks what names, metadata and `meta.yaml` will say of the model: a frontend of a third party
/// may be mistaken, and the apps add up `lm_head_chunk_sizes` to find tokens.
///
/// # Errors
/// [`codes::PLUGIN_BAD_ANSWER`] for a description that contradicts itself.
pub fn check_model(model: &ModelDescription) -> Result<()> {
    if model.layers == 0 {
        return Err(contradiction("the model has no layers", "layers"));
    }
    if model.context == 0 || model.batch == 0 {
        return Err(contradiction("context and batch must be at least 1", "context, batch"));
    }
    let rows = model
        .head_splits
        .iter()
        .try_fold(0u64, |sum, rows| if *rows == 0 { None } else { sum.checked_add(*rows) });
    if rows != Some(model.vocabulary_size) || model.vocabulary_size == 0 {
        return Err(contradiction(
            &format!(
                "the head's {} pieces do not add up to the vocabulary of {}",
                model.head_splits.len(),
                model.vocabulary_size
            ),
            "head_splits",
        ));
    }
    Ok(())
}

fn contradiction(message: &str, at: &str) -> Error {
    Error::new(
        codes::PLUGIN_BAD_ANSWER,
        format!("the arch frontend's description of the model is wrong: {message}"),
    )
    .with_at(at)
    .with_hint("this is a mistake in the arch frontend's plugin; tell its author")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> ModelDescription {
        ModelDescription {
            layers: 2,
            vocabulary_size: 20,
            head_splits: vec![8, 8, 4],
            context: 512,
            batch: 64,
            ..Default::default()
        }
    }

    #[test]
    fn a_sound_description_passes() {
        check_model(&model()).unwrap();
    }

    #[test]
    fn contradictions_are_refused() {
        let wrong = [
            ModelDescription { layers: 0, ..model() },
            ModelDescription { context: 0, ..model() },
            ModelDescription { batch: 0, ..model() },
            ModelDescription { head_splits: vec![], ..model() },
            ModelDescription { head_splits: vec![8, 8], ..model() },
            ModelDescription { head_splits: vec![20, 0], ..model() },
            ModelDescription { head_splits: vec![u64::MAX, 21], ..model() },
            ModelDescription { head_splits: vec![], vocabulary_size: 0, ..model() },
        ];
        for model in wrong {
            let error = check_model(&model).unwrap_err();
            assert_eq!(error.code, codes::PLUGIN_BAD_ANSWER, "{model:?}");
        }
    }
}
