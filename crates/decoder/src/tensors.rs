//! Checks a specification against the tensors of the weight files, before a weight is read.

use std::collections::{BTreeMap, BTreeSet};

use anemll_plugin_api::data::{ModelInput, TensorInfo, WeightReference};
use anemll_plugin_api::{DType, Error, Result, codes};

use crate::keys::KeyNames;
use crate::names::TensorNames;
use crate::spec::DecoderSpec;
use crate::weights::Weight;

/// Most problems that one error names, and most tensors that one remark names.
const SHOWN: usize = 5;

/// Element types that weights may have.
const DTYPES: [DType; 3] = [DType::FLOAT16, DType::BFLOAT16, DType::FLOAT32];

/// Ends of the names of tensors that a model keeps although the configuration gives them too: tables
/// of the rotation, and of what is masked.
const KEPT: [&str; 4] = [".inv_freq", ".cos_cached", ".sin_cached", ".masked_bias"];

/// What is said of tensors that nothing uses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Remarks {
    /// Of tensors that are not the language model's.
    pub notes: Vec<String>,
    /// Of tensors that would change what the model says, if they were used.
    pub warnings: Vec<String>,
}

/// Names of all tensors that the model reads.
pub(crate) fn tensors_of(spec: &DecoderSpec) -> BTreeSet<String> {
    spec.weights().map(|weight| spec.reference(weight).tensor).collect()
}

/// Checks that every weight is there with the shape that the configuration gives it and a dtype
/// that can be read. Gives remarks on tensors that nothing uses. No tensors at all means that
/// only the configuration is known, and passes. With `allow_missing`, weights may be missing, which
/// the host then fills with zeros.
///
/// # Errors
/// The first weights that are missing or wrong, with the configuration keys behind their shapes.
pub fn check_input(
    spec: &DecoderSpec,
    model: &ModelInput,
    names: &TensorNames,
    allow_missing: bool,
) -> Result<Remarks> {
    check(spec, &model.tensors, allow_missing).map_err(|error| {
        match names.hint().filter(|_| error.code == codes::WEIGHT_MISSING) {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    })
}

fn check(
    spec: &DecoderSpec,
    tensors: &BTreeMap<String, TensorInfo>,
    allow_missing: bool,
) -> Result<Remarks> {
    if tensors.is_empty() {
        return Ok(Remarks::default());
    }
    let mut used = BTreeSet::new();
    let mut problems = Vec::new();
    for weight in spec.weights() {
        let reference = spec.reference(weight);
        if !used.insert(reference.tensor.clone()) {
            continue;
        }
        let found = tensors.get(&reference.tensor);
        if found.is_none() && allow_missing {
            continue;
        }
        problems.extend(problem(spec.key_names, weight, &reference, found));
        if problems.len() > SHOWN {
            break;
        }
    }
    if let Some(error) = join(problems) {
        return Err(error);
    }
    Ok(remarks(spec, tensors, &used))
}

fn problem(
    names: KeyNames,
    weight: Weight,
    wanted: &WeightReference,
    found: Option<&TensorInfo>,
) -> Option<Error> {
    let name = &wanted.tensor;
    let Some(found) = found else {
        let error = Error::new(codes::WEIGHT_MISSING, format!("the weight files lack `{name}`"));
        let error = error.with_at(name.clone());
        return Some(match weight {
            Weight::Head(_) => error.with_hint(
                "the head is not tied to the embedding, so it needs a weight of its own; \
                 --head tied takes the embedding",
            ),
            _ => error,
        });
    };
    if found.shape != wanted.shape {
        return Some(
            Error::new(
                codes::WEIGHT_SHAPE,
                format!(
                    "`{name}` has the shape {:?}, but ({}) in {} make it {:?}",
                    found.shape,
                    wanted.dimensions.join(", "),
                    names.place(),
                    wanted.shape
                ),
            )
            .with_at(name.clone()),
        );
    }
    if !DTYPES.contains(&found.dtype) {
        return Some(
            Error::new(
                codes::WEIGHT_DTYPE,
                format!(
                    "`{name}` is {}, not one of {}",
                    found.dtype,
                    DTYPES.map(DType::name).join(", ")
                ),
            )
            .with_at(name.clone()),
        );
    }
    None
}

/// The first problem, with the others as its causes.
fn join(problems: Vec<Error>) -> Option<Error> {
    let more = problems.len() > SHOWN;
    let mut problems = problems.into_iter().take(SHOWN);
    let mut first = problems.next()?;
    for other in problems {
        first = first.with_cause(format!("also: {}", other.message));
    }
    if more {
        first = first.with_cause("and more");
    }
    Some(first)
}

fn remarks(
    spec: &DecoderSpec,
    tensors: &BTreeMap<String, TensorInfo>,
    used: &BTreeSet<String>,
) -> Remarks {
    let unused = tensors
        .keys()
        .map(String::as_str)
        .filter(|name| !used.contains(*name))
        // Of a head beside a tied embedding, the description tells.
        .filter(|name| *name != spec.head_tensor)
        .filter(|name| !KEPT.iter().any(|end| name.ends_with(end)));
    let (mut beyond, mut acting, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for name in unused {
        match layer_of(spec, name) {
            Some(layer) if layer >= u64::from(spec.layers()) => beyond.push(name),
            Some(_) => acting.push(name),
            None if is_of_the_model(spec, name) => acting.push(name),
            None => others.push(name),
        }
    }
    let mut remarks = Remarks::default();
    if !beyond.is_empty() {
        remarks.warnings.push(format!(
            "the weights hold layers beyond `{}` = {}, which are left out: {}",
            spec.key_names.path("num_hidden_layers"),
            spec.layers(),
            shown(&beyond)
        ));
    }
    if !acting.is_empty() {
        remarks.warnings.push(format!(
            "the weights hold tensors of the model that config.json does not ask for, and that are \
             left out: {}",
            shown(&acting)
        ));
    }
    if !others.is_empty() {
        remarks.notes.push(format!("tensors that the model does not use: {}", shown(&others)));
    }
    remarks
}

/// The number of the layer that a tensor's name says.
fn layer_of(spec: &DecoderSpec, name: &str) -> Option<u64> {
    let rest = name.strip_prefix(&spec.tensor_prefix)?.strip_prefix("layers.")?;
    rest.split_once('.')?.0.parse().ok()
}

/// Whether a tensor outside of the layers belongs to the embedding, the last norm or the head.
fn is_of_the_model(spec: &DecoderSpec, name: &str) -> bool {
    let inside = name.strip_prefix(&spec.tensor_prefix);
    let head = spec.head_tensor.strip_suffix("weight").unwrap_or(&spec.head_tensor);
    let norm = format!("{}.", spec.stored_module("norm"));
    inside.is_some_and(|name| name.starts_with("embed_tokens.") || name.starts_with(&norm))
        || name.starts_with(head)
}

/// The first few names, and how many there are.
fn shown(names: &[&str]) -> String {
    let first = names[..names.len().min(SHOWN)].join("`, `");
    match names.len().saturating_sub(SHOWN) {
        0 => format!("`{first}`"),
        rest => format!("`{first}` and {rest} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::small;

    fn tensors(spec: &DecoderSpec) -> BTreeMap<String, TensorInfo> {
        spec.weights()
            .map(|weight| spec.reference(weight))
            .map(|wanted| {
                let info = TensorInfo::new(DType::BFLOAT16, wanted.shape);
                (wanted.tensor, info)
            })
            .collect()
    }

    #[test]
    fn what_suits_passes() {
        let spec = small();
        assert_eq!(check(&spec, &tensors(&spec), false).unwrap(), Remarks::default());
        assert_eq!(check(&spec, &BTreeMap::new(), false).unwrap(), Remarks::default());
    }

    #[test]
    fn missing_and_wrong_tensors_are_named() {
        let spec = small();
        let mut found = tensors(&spec);
        found.remove("lm_head.weight");
        let error = check(&spec, &found, false).unwrap_err();
        assert_eq!(error.code, codes::WEIGHT_MISSING);
        assert!(error.hint.unwrap().contains("--head tied"));

        let name = "model.layers.1.mlp.up_proj.weight";
        found.get_mut(name).unwrap().shape = vec![80, 47];
        let error = check(&spec, &found, false).unwrap_err();
        assert_eq!((error.code.as_str(), error.at.as_deref()), (codes::WEIGHT_SHAPE, Some(name)));
        assert!(error.message.contains("(intermediate_size, hidden_size)"), "{}", error.message);
        assert_eq!(error.causes, ["also: the weight files lack `lm_head.weight`"]);

        let mut found = tensors(&spec);
        found.get_mut("model.norm.weight").unwrap().dtype = DType::INT8;
        assert_eq!(check(&spec, &found, false).unwrap_err().code, codes::WEIGHT_DTYPE);
    }

    #[test]
    fn one_error_names_five_at_most() {
        let spec = small();
        let found = BTreeMap::from([("other".to_owned(), TensorInfo::new(DType::FLOAT32, [1]))]);
        let error = check(&spec, &found, false).unwrap_err();
        assert_eq!(error.causes.len(), SHOWN);
        assert_eq!(error.causes.last().unwrap(), "and more");
    }

    #[test]
    fn unused_tensors_are_remarked_on() {
        let mut spec = small();
        let mut found = tensors(&spec);
        let extend = |found: &mut BTreeMap<String, TensorInfo>, names: &[&str]| {
            let info = TensorInfo::new(DType::FLOAT32, [1]);
            found.extend(names.iter().map(|name| ((*name).to_owned(), info.clone())));
        };
        extend(
            &mut found,
            &["model.layers.0.self_attn.rotary_emb.inv_freq", "visual.layers.2.x", "y"],
        );
        let remarks = check(&spec, &found, false).unwrap();
        assert_eq!(
            remarks.notes,
            ["tensors that the model does not use: `visual.layers.2.x`, `y`"]
        );
        assert!(remarks.warnings.is_empty());
        spec.tied_embeddings = true;
        assert_eq!(check(&spec, &found, false).unwrap(), remarks);

        // What would act if it were used.
        extend(
            &mut found,
            &[
                "model.layers.2.mlp.up_proj.weight",
                "model.layers.10.mlp.up_proj.weight",
                "model.layers.0.self_attn.q_proj.bias",
                "model.norm.bias",
                "lm_head.bias",
            ],
        );
        let more = check(&spec, &found, false).unwrap();
        assert_eq!(more.notes, remarks.notes);
        assert_eq!(
            more.warnings,
            [
                "the weights hold layers beyond `num_hidden_layers` = 2, which are left out: \
                 `model.layers.10.mlp.up_proj.weight`, `model.layers.2.mlp.up_proj.weight`",
                "the weights hold tensors of the model that config.json does not ask for, and that \
                 are left out: `lm_head.bias`, `model.layers.0.self_attn.q_proj.bias`, \
                 `model.norm.bias`",
            ]
        );
    }
}
