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
        ModelDescription::default()
            .with_layers(2)
            .with_vocabulary_size(20)
            .with_head_splits([8, 8, 4])
            .with_context(512)
            .with_batch(64)
    }

    #[test]
    fn a_sound_description_passes() {
        check_model(&model()).unwrap();
    }

    #[test]
    fn contradictions_are_refused() {
        let wrong = [
            model().with_layers(0),
            model().with_context(0),
            model().with_batch(0),
            model().with_head_splits([]),
            model().with_head_splits([8, 8]),
            model().with_head_splits([20, 0]),
            model().with_head_splits([u64::MAX, 21]),
            model().with_head_splits([]).with_vocabulary_size(0),
        ];
        for model in wrong {
            let error = check_model(&model).unwrap_err();
            assert_eq!(error.code, codes::PLUGIN_BAD_ANSWER, "{model:?}");
        }
    }
}
