//! The validator, and what reads models after it.

use crate::say;
use anemll_mil::{
    BlobCatalog, BlobInfo, DescriptionOptions, Error, ValueType, blob_references,
    combine_functions, function_model, interface, lint, op_histogram, validate_referenced,
    validate_resolved,
};
use coreml_proto::{Model, mil};
use std::collections::BTreeMap;

/// Gives the function of a model the description that fits it, so that a change does not stop at
/// the description.
pub(crate) fn described(function: &mil::Function, answers: &mut String) {
    let made = function_model(function.clone(), &DescriptionOptions::default());
    if let Some(model) = say(answers, "describe", made) {
        examine(&model, answers);
    }
}

/// Validates a model, and reads it in every way that does not ask for valid ones.
pub(crate) fn examine(model: &Model, answers: &mut String) {
    let interface = say(answers, "interface", interface(model));
    op_histogram(model);
    for finding in lint(model, 0) {
        assert!(!finding.reason.is_empty(), "{}", finding.rule);
        answers.push_str(finding.rule);
        answers.push('\n');
    }
    say(answers, "referenced", validate_referenced(model.clone()));
    let resolved = validate_resolved(model.clone(), &Agreeing::of(model));
    if say(answers, "resolved", resolved).is_some() {
        assert!(interface.is_some(), "a valid model has no interface");
        let parts = [("one", model.clone()), ("two", model.clone())];
        let both = combine_functions(&parts, "two", "", &BTreeMap::new());
        if let Some(both) = say(answers, "combine", both) {
            let checked = validate_resolved(both, &Agreeing::of(model));
            assert!(checked.is_ok(), "valid models combined: {:?}", checked.err());
        }
    }
}

/// A weight file in which every record is what the model takes it for.
struct Agreeing(BTreeMap<(String, u64), BlobInfo>);

impl Agreeing {
    fn of(model: &Model) -> Self {
        let symbols = anemll_mil::Symbols::default();
        let info = |value: &mil::Value| {
            let kind = ValueType::from_proto(value.r#type.as_ref()?, &symbols).ok()?;
            let ValueType::Tensor(tensor) = kind else { return None };
            Some(BlobInfo { data_type: tensor.data_type, size_in_bytes: tensor.byte_size()? })
        };
        let found = blob_references(model).filter_map(|reference| {
            Some(((reference.file_name.to_owned(), reference.offset), info(reference.value)?))
        });
        Self(found.collect())
    }
}

impl BlobCatalog for Agreeing {
    fn blob(&self, file_name: &str, offset: u64) -> Result<BlobInfo, Error> {
        let found = self.0.get(&(file_name.to_owned(), offset));
        found.copied().ok_or_else(|| Error::new("no such record"))
    }
}
