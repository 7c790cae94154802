//! What tensors are called in the weight files: the usual names, or the usual names behind a prefix.

use std::collections::BTreeMap;

use anemll_plugin_api::data::TensorInfo;

const EMBEDDING: &str = "embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
/// What usually stands before the names of all tensors but the head.
const USUAL: &str = "model.";

/// Prefixes that wrappers put before a language model's names, with what is inside of them the
/// usual names or those of the base model: models of more than text, peft, parallel and compiled
/// modules.
const WRAPPERS: [&str; 10] = [
    "language_model.",
    "model.language_model.",
    "text_model.",
    "model.text_model.",
    "llm.",
    "model.llm.",
    "base_model.model.",
    "module.",
    "_orig_mod.",
    "model.model.",
];

/// Most prefixes that are named.
const SHOWN: usize = 3;

/// How the weight files name the tensors of the language model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorNames {
    /// What stands before `embed_tokens.weight`: `model.`, nothing in checkpoints of the base model,
    /// or a wrapper's prefix.
    pub prefix: String,
    /// The head's weight, where it has one of its own.
    pub head: String,
    /// Prefixes that were found and not taken: unknown ones, or more than one.
    pub others: Vec<String>,
}

impl TensorNames {
    /// The names in these weight files; the usual ones where nothing else is there. A wrapper's
    /// prefix is taken if it is the only one.
    pub fn find(tensors: &BTreeMap<String, TensorInfo>) -> Self {
        let has = |prefix: &str| tensors.contains_key(&format!("{prefix}{EMBEDDING}"));
        if has(USUAL) {
            return Self::with_prefix(USUAL, tensors);
        }
        if has("") {
            return Self::with_prefix("", tensors);
        }
        let found: Vec<&str> = tensors
            .keys()
            .filter_map(|name| name.strip_suffix(EMBEDDING))
            .filter(|prefix| prefix.ends_with('.'))
            .collect();
        match found.as_slice() {
            [prefix] if is_wrapper(prefix) => Self::with_prefix(prefix, tensors),
            _ => Self {
                others: found.iter().take(SHOWN).map(|&prefix| prefix.to_owned()).collect(),
                ..Self::with_prefix(USUAL, tensors)
            },
        }
    }

    /// The head stands beside the base model, or inside of it, or outside of all wrappers.
    fn with_prefix(prefix: &str, tensors: &BTreeMap<String, TensorInfo>) -> Self {
        let places = [outside(prefix), prefix, ""].map(|place| format!("{place}{HEAD}"));
        let head = places.iter().find(|name| tensors.contains_key(*name)).unwrap_or(&places[0]);
        Self { prefix: prefix.to_owned(), head: head.clone(), others: Vec::new() }
    }

    /// A remark where the names are behind a wrapper's prefix.
    pub(crate) fn note(&self) -> Option<String> {
        let usual = [USUAL, ""].contains(&self.prefix.as_str());
        (!usual).then(|| {
            format!(
                "names of tensors begin with `{}`; what stands behind it was taken for the model",
                self.prefix
            )
        })
    }

    /// What to say of a weight that is missing, where there are other prefixes.
    pub(crate) fn hint(&self) -> Option<String> {
        if self.others.is_empty() {
            return None;
        }
        let list = self.others.join("`, `");
        Some(format!(
            "names of tensors begin with `{list}` instead of `{USUAL}`: rename them, or save the \
             language model alone"
        ))
    }
}

/// Whether a prefix is one of [`WRAPPERS`], with the base model's `model.` behind it or without.
fn is_wrapper(prefix: &str) -> bool {
    WRAPPERS.contains(&prefix) || WRAPPERS.contains(&outside(prefix))
}

/// What stands before the base model's `model.`; the whole prefix where it does not end so.
fn outside(prefix: &str) -> &str {
    let outside = prefix.strip_suffix(USUAL).unwrap_or(prefix);
    // `language_model.` only ends with the same letters.
    if outside.is_empty() || outside.ends_with('.') { outside } else { prefix }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(names: &[&str]) -> TensorNames {
        let info = TensorInfo::new(anemll_plugin_api::DType::FLOAT32, [1]);
        TensorNames::find(&names.iter().map(|name| ((*name).to_owned(), info.clone())).collect())
    }

    #[test]
    fn usual_names_come_first() {
        for (names, prefix) in [
            (&[][..], "model."),
            (&["model.embed_tokens.weight"], "model."),
            (&["embed_tokens.weight"], ""),
            (&["model.embed_tokens.weight", "embed_tokens.weight"], "model."),
            (&["model.embed_tokens.weight", "language_model.model.embed_tokens.weight"], "model."),
            (&["xembed_tokens.weight"], "model."),
        ] {
            let found = find(names);
            assert_eq!((found.prefix.as_str(), found.head.as_str()), (prefix, HEAD), "{names:?}");
            assert!(found.note().is_none() && found.hint().is_none());
        }
    }

    #[test]
    fn prefixes_of_wrappers_are_taken() {
        for (names, prefix, head) in [
            (
                &["language_model.model.embed_tokens.weight", "language_model.lm_head.weight"][..],
                "language_model.model.",
                "language_model.lm_head.weight",
            ),
            (
                &["model.language_model.embed_tokens.weight", "lm_head.weight"],
                "model.language_model.",
                "lm_head.weight",
            ),
            (
                &["language_model.embed_tokens.weight"],
                "language_model.",
                "language_model.lm_head.weight",
            ),
            (
                &["base_model.model.model.embed_tokens.weight", "base_model.model.lm_head.weight"],
                "base_model.model.model.",
                "base_model.model.lm_head.weight",
            ),
            (
                &["module.model.embed_tokens.weight", "lm_head.weight"],
                "module.model.",
                "lm_head.weight",
            ),
        ] {
            let found = find(names);
            assert_eq!((found.prefix.as_str(), found.head.as_str()), (prefix, head));
            assert!(found.note().unwrap().contains(prefix) && found.hint().is_none());
        }
    }

    #[test]
    fn other_prefixes_are_named() {
        let found = find(&["student.model.embed_tokens.weight"]);
        assert_eq!(found.prefix, "model.");
        assert!(found.hint().unwrap().contains("`student.model.`"));
        let found =
            find(&["language_model.embed_tokens.weight", "module.model.embed_tokens.weight"]);
        assert_eq!(found.others, ["language_model.", "module.model."]);
        assert_eq!(found.prefix, "model.");
    }
}
