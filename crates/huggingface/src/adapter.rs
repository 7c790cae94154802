//! Adapters (LoRA and its kin): directories and files that hold changes to a model, and no model.

use crate::error::{ErrorKind, HuggingFaceError};
use anemll_files::Limit;
use serde_json::Value;
use std::path::Path;

const CONFIG: &str = "adapter_config.json";

/// Files that hold the weights of an adapter.
const WEIGHTS: [&str; 4] =
    ["adapter_model.safetensors", "adapter_model.bin", "adapters.safetensors", "adapters.npz"];

/// Parts of the names of tensors that are an adapter's.
const TENSORS: [&str; 6] =
    [".lora_A.", ".lora_B.", ".lora_a", ".lora_b", ".lora_embedding_", ".lora_magnitude_vector"];

/// An adapter that a directory holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Adapter {
    /// The model that it changes, as adapter_config.json names it.
    base: Option<String>,
    /// What kind it is, such as `LORA`.
    kind: Option<String>,
}

/// The adapter of a directory, if it holds one, alone or beside a model.
pub(crate) fn find(directory: &Path) -> Option<Adapter> {
    let there = |name: &&str| directory.join(name).is_file();
    if !there(&CONFIG) && !WEIGHTS.iter().any(there) {
        return None;
    }
    let config: Value = anemll_files::read_text(&directory.join(CONFIG), Limit::CONFIG)
        .ok()
        .and_then(|text| serde_json::from_str(&crate::json::for_strict_readers(&text)).ok())
        .unwrap_or(Value::Null);
    let text = |keys: &[&str]| {
        keys.iter()
            .find_map(|key| config.get(key)?.as_str())
            .filter(|text| !text.is_empty())
            .map(str::to_owned)
    };
    Some(Adapter {
        base: text(&["base_model_name_or_path", "model"]),
        kind: text(&["peft_type", "fine_tune_type"]),
    })
}

/// Whether a file of this name holds an adapter.
pub(crate) fn is_weights(file: &str) -> bool {
    WEIGHTS.contains(&file)
}

/// Whether a tensor of this name belongs to an adapter.
pub(crate) fn is_tensor(name: &str) -> bool {
    TENSORS.iter().any(|part| name.contains(part))
}

impl Adapter {
    /// `a LoRA adapter of X`, for a sentence.
    pub(crate) fn describe(&self) -> String {
        let kind = match self.kind.as_deref() {
            Some("LORA" | "lora") | None => "a LoRA adapter".to_owned(),
            Some(other) => format!("an adapter ({other})"),
        };
        match &self.base {
            Some(base) => format!("{kind} of {base}"),
            None => format!("{kind}, whose base model it does not name"),
        }
    }

    /// The error for a directory that holds nothing else.
    pub(crate) fn refusal(&self, directory: &Path) -> HuggingFaceError {
        let reason = format!("this is {}, not a model", self.describe());
        HuggingFaceError::new(ErrorKind::Adapter, directory, reason).with_hint(self.hint())
    }

    fn hint(&self) -> String {
        let base = self.base.as_deref().unwrap_or("its base model");
        format!(
            "convert {base} with it: --model MODEL --adapter DIR; or merge the two in Python: \
             AutoPeftModelForCausalLM.from_pretrained(DIR).merge_and_unload()\
             .save_pretrained(MERGED)"
        )
    }
}

/// The error for weights that hold an adapter's tensors, with the name of one.
pub(crate) fn unmerged(file: &Path, tensor: &str, adapter: Option<&Adapter>) -> HuggingFaceError {
    let what = adapter.map_or_else(|| "a LoRA adapter".to_owned(), Adapter::describe);
    HuggingFaceError::new(
        ErrorKind::Adapter,
        file,
        format!("the weights hold {what} that is not merged"),
    )
    .with_key(tensor)
    .with_hint(adapter.map_or_else(
        || {
            "merge it first: in Python, load the model with peft and call \
             merge_and_unload().save_pretrained(MERGED)"
                .to_owned()
        },
        Adapter::hint,
    ))
}
