//! Sliding windows: attention that looks back on the last tokens only.
//!
//! A window of at least the context, or one that no layer has, changes nothing. Any other cannot be
//! expressed: attention is over the whole context here.

use anemll_plugin_api::Result;

use super::{Config, Key};
use crate::error::{key_invalid, key_unsupported};
use crate::refusals::Refusals;

const WINDOW: &str = "sliding_window";
const SWITCH: &str = "use_sliding_window";
const TYPES: &str = "layer_types";
const FIRST: &str = "max_window_layers";

const OFF: &str = "`use_sliding_window` is not true";
const WHOLE: &str = "attention is over the whole context here";

/// The keys of windows that were looked at.
const ACTING: &[Key] = &[Key::used(TYPES), Key::used(FIRST), Key::used(WINDOW), Key::used(SWITCH)];

/// The keys of windows that are switched off.
const SWITCHED_OFF: &[Key] =
    &[Key::used(TYPES), Key::ignored(FIRST, OFF), Key::ignored(WINDOW, OFF), Key::used(SWITCH)];

/// The keys of a window that all layers have.
const EVERYWHERE: &[Key] = &[Key::used(WINDOW), Key::used(SWITCH)];

/// How a family's configuration says which layers have a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRules {
    /// Whether windows are on where `use_sliding_window` is not given.
    pub on: bool,
    /// `sliding_window` where it is not given.
    pub window: Option<u64>,
    /// `max_window_layers` where it is not given: the first layer with a window.
    pub first_layer: u64,
}

/// Windows that change nothing within the context.
#[derive(Debug, Clone, PartialEq)]
pub struct IdleWindows {
    /// Rules for the keys of windows.
    pub keys: &'static [Key],
    /// Remarks for the report.
    pub notes: Vec<String>,
}

/// The windows of a family where `use_sliding_window` decides whether there are any, and
/// `layer_types`, or else `max_window_layers`, in which layers.
///
/// Refused are windows shorter than the context, by key, with the context that suits them, and
/// `layer_types` that do not suit the number of layers or the other keys.
///
/// # Errors
/// None: every refusal is about a key.
pub fn windows_of_layers(
    config: &Config<'_>,
    rules: WindowRules,
    context: u64,
    refusals: &mut Refusals,
) -> Result<IdleWindows> {
    let windows = refusals.take(read_windows(config, rules, context))?;
    Ok(windows.unwrap_or(IdleWindows { keys: ACTING, notes: Vec::new() }))
}

fn read_windows(config: &Config<'_>, rules: WindowRules, context: u64) -> Result<IdleWindows> {
    let types = config.texts(TYPES)?;
    let typed = config.get(TYPES).is_some();
    if let Some(other) =
        types.iter().find(|kind| !["full_attention", "sliding_attention"].contains(*kind))
    {
        return Err(key_unsupported(TYPES, format!("has \"{other}\": {WHOLE}")));
    }
    let layers = config.size("num_hidden_layers")?;
    if let Some(layers) = layers
        && typed
        && types.len() as u64 != layers
    {
        return Err(key_invalid(
            TYPES,
            format!("has {} entries, but `num_hidden_layers` is {layers}", types.len()),
        ));
    }
    let sliding = types.contains(&"sliding_attention");
    let idle = |notes: Vec<String>| Ok(IdleWindows { keys: ACTING, notes });
    if !config.boolean(SWITCH)?.unwrap_or(rules.on) {
        if sliding {
            return Err(key_unsupported(
                TYPES,
                format!("has \"sliding_attention\", but {OFF}, which transformers cannot load"),
            ));
        }
        return Ok(IdleWindows { keys: SWITCHED_OFF, notes: Vec::new() });
    }
    let window = match config.size(WINDOW)? {
        None if config.is_null(WINDOW) => None,
        window => window.or(rules.window),
    };
    let Some(window) = window else {
        if sliding {
            return Err(key_unsupported(
                TYPES,
                "has \"sliding_attention\", but there is no `sliding_window`",
            ));
        }
        return idle(Vec::new());
    };
    let acts = if typed {
        sliding
    } else {
        let first = match config.get(FIRST) {
            None => rules.first_layer,
            Some(value) => value
                .as_u64()
                .ok_or_else(|| key_invalid(FIRST, format!("is {value}, not a number of layers")))?,
        };
        layers.is_none_or(|layers| first < layers)
    };
    if !acts {
        return idle(vec![format!("config.json: `{WINDOW}` = {window} is in no layer")]);
    }
    idle(vec![idle_within(config, window, context)?])
}

/// The window of a family where all layers have it: `sliding_window`, or `default` where it is not
/// given; null is none. Refused is a window shorter than the context, with the context that suits it.
///
/// # Errors
/// None: every refusal is about a key.
pub fn window_everywhere(
    config: &Config<'_>,
    default: u64,
    context: u64,
    refusals: &mut Refusals,
) -> Result<IdleWindows> {
    let remark = match refusals.take(config.size(WINDOW))? {
        None => None,
        Some(None) if config.is_null(WINDOW) => None,
        Some(window) => refusals.take(idle_within(config, window.unwrap_or(default), context))?,
    };
    Ok(IdleWindows { keys: EVERYWHERE, notes: remark.into_iter().collect() })
}

/// The remark on a window that cannot act within the context.
fn idle_within(config: &Config<'_>, window: u64, context: u64) -> Result<String> {
    let what = if config.get(WINDOW).is_some() {
        format!("= {window}")
    } else {
        format!("(not given, so {window})")
    };
    // A token sees itself and the `window - 1` before it.
    if window >= context {
        return Ok(format!(
            "config.json: `{WINDOW}` {what} does not act within a context of {context} tokens"
        ));
    }
    Err(key_unsupported(
        WINDOW,
        format!("{what} is shorter than the context of {context} tokens; {WHOLE}"),
    )
    .with_hint(format!("within --context {window} the window does not act: use that or less")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::codes;
    use serde_json::{Value, json};

    /// As Qwen2 and Qwen3 have it.
    const QWEN: WindowRules = WindowRules { on: false, window: Some(4096), first_layer: 28 };

    /// The remarks, or the refusals as an error.
    fn read(value: &Value, context: u64) -> Result<Vec<String>> {
        let mut refusals = Refusals::new();
        let config = Config::new(value).unwrap();
        let windows = windows_of_layers(&config, QWEN, context, &mut refusals).unwrap();
        refusals.to_error().map_or(Ok(windows.notes), Err)
    }

    #[test]
    fn windows_that_cannot_act_pass() {
        let full = json!(["full_attention", "full_attention"]);
        let mixed = json!(["full_attention", "sliding_attention"]);
        for (value, note) in [
            (json!({}), None),
            (
                json!({"use_sliding_window": false, "sliding_window": 8, "max_window_layers": 1}),
                None,
            ),
            (
                json!({"use_sliding_window": false, "sliding_window": 0, "max_window_layers": "x"}),
                None,
            ),
            (json!({"use_sliding_window": null, "layer_types": null}), None),
            (json!({"num_hidden_layers": 2, "layer_types": full}), None),
            (json!({"use_sliding_window": true, "sliding_window": null}), None),
            (
                json!({"use_sliding_window": true, "sliding_window": 8, "num_hidden_layers": 28}),
                Some("config.json: `sliding_window` = 8 is in no layer"),
            ),
            (
                json!({"use_sliding_window": true, "sliding_window": 8, "num_hidden_layers": 2,
                    "max_window_layers": 0, "layer_types": full}),
                Some("config.json: `sliding_window` = 8 is in no layer"),
            ),
            (
                json!({"use_sliding_window": true, "sliding_window": 512, "layer_types": mixed}),
                Some(
                    "config.json: `sliding_window` = 512 does not act within a context of 512 tokens",
                ),
            ),
            (
                json!({"use_sliding_window": true, "max_window_layers": 0}),
                Some(
                    "config.json: `sliding_window` (not given, so 4096) does not act \
                      within a context of 512 tokens",
                ),
            ),
        ] {
            let wanted: Vec<String> = note.map(str::to_owned).into_iter().collect();
            assert_eq!(read(&value, 512).unwrap(), wanted, "{value}");
        }
    }

    #[test]
    fn windows_that_act_are_refused_with_the_context_that_suits() {
        let full = json!(["full_attention", "full_attention"]);
        let mixed = json!(["full_attention", "sliding_attention"]);
        for (value, key, hint) in [
            (
                json!({"use_sliding_window": true, "sliding_window": 511, "max_window_layers": 1,
                    "num_hidden_layers": 2}),
                WINDOW,
                "--context 511",
            ),
            (
                json!({"use_sliding_window": true, "sliding_window": 8, "layer_types": mixed}),
                WINDOW,
                "--context 8",
            ),
            (json!({"layer_types": mixed}), TYPES, ""),
            (
                json!({"use_sliding_window": true, "sliding_window": null, "layer_types": mixed}),
                TYPES,
                "",
            ),
            (json!({"layer_types": ["full_attention", "chunked_attention"]}), TYPES, ""),
        ] {
            let error = read(&value, 512).unwrap_err();
            assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED, "{value}");
            assert_eq!(error.at.unwrap(), format!("config.json: {key}"), "{value}");
            assert!(error.hint.unwrap_or_default().contains(hint), "{value}");
        }
        for value in [
            json!({"num_hidden_layers": 3, "layer_types": full}),
            json!({"num_hidden_layers": 3, "layer_types": []}),
            json!({"layer_types": "full_attention"}),
            json!({"use_sliding_window": "no"}),
            json!({"use_sliding_window": true, "max_window_layers": -1}),
            json!({"use_sliding_window": true, "sliding_window": 0}),
        ] {
            let error = read(&value, 512).unwrap_err();
            assert_eq!(error.code, codes::CONFIG_KEY_INVALID, "{value}");
        }
    }

    #[test]
    fn a_window_of_all_layers() {
        let of = |value: &Value, context| {
            let mut refusals = Refusals::new();
            let config = Config::new(value).unwrap();
            let windows = window_everywhere(&config, 4096, context, &mut refusals).unwrap();
            refusals.to_error().map_or(Ok(windows.notes), Err)
        };
        assert!(of(&json!({"sliding_window": null}), 9999).unwrap().is_empty());
        assert_eq!(of(&json!({"sliding_window": 9}), 9).unwrap().len(), 1);
        assert!(of(&json!({}), 4096).unwrap()[0].contains("(not given, so 4096)"));
        for (value, window) in [(json!({}), 4096), (json!({"sliding_window": 100}), 100)] {
            let error = of(&value, window + 1).unwrap_err();
            assert_eq!(error.at.unwrap(), "config.json: sliding_window");
            assert!(error.hint.unwrap().contains(&format!("--context {window} ")), "{value}");
        }
    }
}
