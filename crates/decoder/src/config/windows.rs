//! Sliding windows as Qwen's configurations have them: keys that mean nothing while they are off.

use anemll_plugin_api::Result;

use super::{Config, Key};
use crate::error::{key_invalid, key_unsupported};

const OFF: &str = "`use_sliding_window` is not true";

const KEYS: &[Key] = &[
    Key::used("layer_types"),
    Key::ignored("max_window_layers", OFF),
    Key::ignored("sliding_window", OFF),
    Key::used("use_sliding_window"),
];

/// Rules for the keys of windows, in a family where `use_sliding_window` (absent means false)
/// decides whether they act, and `layer_types` says so layer by layer.
///
/// # Errors
/// Windows that act, by key; `layer_types` that do not suit the number of layers.
pub fn unused_windows(config: &Config<'_>) -> Result<&'static [Key]> {
    const REASON: &str = "attention is over the whole context here";
    if config.boolean("use_sliding_window")? == Some(true) {
        return Err(key_unsupported("use_sliding_window", format!("= true: {REASON}")));
    }
    let types = config.texts("layer_types")?;
    if let Some(other) = types.iter().find(|kind| **kind != "full_attention") {
        return Err(key_unsupported("layer_types", format!("has \"{other}\": {REASON}")));
    }
    let layers = config.size("num_hidden_layers")?;
    match layers {
        Some(layers) if config.get("layer_types").is_some() && types.len() as u64 != layers => {
            Err(key_invalid(
                "layer_types",
                format!("has {} entries, but `num_hidden_layers` is {layers}", types.len()),
            ))
        }
        _ => Ok(KEYS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::codes;
    use serde_json::{Value, json};

    fn code(value: &Value) -> Option<String> {
        let config = Config::new(value).unwrap();
        unused_windows(&config).err().map(|error| error.code)
    }

    #[test]
    fn windows_that_act_are_refused() {
        let full = json!(["full_attention", "full_attention"]);
        for passes in [
            json!({}),
            json!({"use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 1}),
            json!({"use_sliding_window": null, "layer_types": null}),
            json!({"num_hidden_layers": 2, "layer_types": full}),
        ] {
            assert_eq!(code(&passes), None, "{passes}");
        }
        for (refused, wanted) in [
            (json!({"use_sliding_window": true}), codes::CONFIG_KEY_UNSUPPORTED),
            (
                json!({"layer_types": ["full_attention", "sliding_attention"]}),
                codes::CONFIG_KEY_UNSUPPORTED,
            ),
            (json!({"num_hidden_layers": 3, "layer_types": full}), codes::CONFIG_KEY_INVALID),
            (json!({"num_hidden_layers": 3, "layer_types": []}), codes::CONFIG_KEY_INVALID),
            (json!({"layer_types": "full_attention"}), codes::CONFIG_KEY_INVALID),
            (json!({"use_sliding_window": "no"}), codes::CONFIG_KEY_INVALID),
        ] {
            assert_eq!(code(&refused).as_deref(), Some(wanted), "{refused}");
        }
    }
}
