//! What must hold of a model description before packages are laid out.

use anemll_plugin_api::data::{LayoutOptions, ModelDescription};
use anemll_plugin_api::{Error, Result, codes};

/// Checks what names, metadata and `meta.yaml` will say of the model: a frontend of a third party
/// may be mistaken, and the apps add up `lm_head_chunk_sizes` to find tokens.
///
/// # Errors
/// [`codes::PLUGIN_BAD_ANSWER`] for a description that contradicts itself,
/// [`codes::LAYOUT_OPTION_INVALID`] for bits that no lookup table has.
pub fn check_model(model: &ModelDescription, options: &LayoutOptions) -> Result<()> {
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
    let bits = options.bits;
    for (part, bits) in
        [("embeddings", bits.embeddings), ("layers", bits.layers), ("head", bits.head)]
    {
        if bits.is_some_and(|bits| !(1..=8).contains(&bits)) {
            return Err(Error::new(
                codes::LAYOUT_OPTION_INVALID,
                "bits per weight must be from 1 to 8",
            )
            .with_at(part));
        }
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
    use anemll_plugin_api::data::BitsPerPart;

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
        check_model(&model(), &LayoutOptions::default()).unwrap();
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
            let error = check_model(&model, &LayoutOptions::default()).unwrap_err();
            assert_eq!(error.code, codes::PLUGIN_BAD_ANSWER, "{model:?}");
        }
    }

    #[test]
    fn impossible_bits_are_refused() {
        for bits in [0, 9, u32::MAX] {
            let bits = BitsPerPart { head: Some(bits), ..Default::default() };
            let options = LayoutOptions { bits, ..Default::default() };
            let error = check_model(&model(), &options).unwrap_err();
            assert_eq!(error.at.as_deref(), Some("head"));
        }
    }
}
