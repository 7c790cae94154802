//! Sliding windows: attention that looks back on the last tokens only.

use anemll_plugin_api::{Result, Value};

use super::{Config, Key, LARGEST_LAYERS, brief};
use crate::error::{entries, key_invalid, key_unsupported};
use crate::layers::{LayerForm, LayerRotation, Layers};
use crate::refusals::Refusals;

const WINDOW: &str = "sliding_window";
const SWITCH: &str = "use_sliding_window";
const TYPES: &str = "layer_types";
const FIRST: &str = "max_window_layers";
const FULL: &str = "full_attention";
const SLIDING: &str = "sliding_attention";

const OFF: &str = "`use_sliding_window` is not true";
const UNREAD: &str = "transformers does not read it for this architecture";

/// The keys of windows that were looked at.
const ACTING: &[Key] = &[Key::used(TYPES), Key::used(FIRST), Key::used(WINDOW), Key::used(SWITCH)];

/// The keys of windows that are switched off.
const SWITCHED_OFF: &[Key] =
    &[Key::used(TYPES), Key::ignored(FIRST, OFF), Key::ignored(WINDOW, OFF), Key::used(SWITCH)];

/// The keys of a window that all layers have.
const EVERYWHERE: &[Key] = &[Key::used(WINDOW), Key::ignored(SWITCH, UNREAD)];

/// The keys of windows that follow a pattern.
const PATTERN: &[Key] = &[Key::used(TYPES), Key::used(WINDOW)];

/// How a family's configuration says which layers have a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowRules {
    /// Whether windows are on where `use_sliding_window` is not given.
    pub on: bool,
    /// `sliding_window` where it is not given.
    pub window: Option<u64>,
    /// `max_window_layers` where it is not given: the first layer with a window.
    pub first_layer: u64,
    /// Whether transformers has windows in this family. Where not, one that would act is refused.
    pub honoured: bool,
}

/// The windows of a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Windows {
    /// Rules for the keys of windows.
    pub keys: &'static [Key],
    /// Which layers have windows.
    pub layers: Layers,
    /// Whether each layer slides by its kind, whatever the window is; empty where that is not said.
    pub sliding: Vec<bool>,
    /// Remarks for the report.
    pub notes: Vec<String>,
}

impl Windows {
    fn none(keys: &'static [Key]) -> Self {
        Self { keys, layers: Layers::default(), sliding: Vec::new(), notes: Vec::new() }
    }

    /// The same windows, where layers that slide have the family's local rotation.
    #[must_use]
    pub fn with_local_rotation(mut self) -> Self {
        self.layers = self.layers.map(|layer, own| match self.sliding.get(layer) {
            Some(true) => LayerForm { rotation: LayerRotation::Local, ..own },
            _ => own,
        });
        self
    }

    /// The same windows, where layers that do not slide know no positions.
    #[must_use]
    pub fn with_rotation_in_windows_alone(mut self) -> Self {
        self.layers = self.layers.map(|layer, own| match self.sliding.get(layer) {
            Some(false) => LayerForm { rotation: LayerRotation::None, ..own },
            _ => own,
        });
        self
    }
}

/// The windows of a family where `use_sliding_window` decides whether there are any, and
/// `layer_types`, or else `max_window_layers`, in which layers.
///
/// Refused are `layer_types` that do not suit the number of layers or the other keys.
///
/// # Errors
/// None: every refusal is about a key.
pub fn windows_of_layers(
    config: &Config<'_>,
    rules: WindowRules,
    context: u64,
    refusals: &mut Refusals,
) -> Result<Windows> {
    let windows = refusals.take(read_windows(config, rules, None, context))?;
    Ok(windows.unwrap_or_else(|| Windows::none(ACTING)))
}

/// As [`windows_of_layers`], for a family that does not have `max_window_layers`: where `layer_types`
/// is not given, the layers that `unlisted` marks have the window.
///
/// # Errors
/// None: every refusal is about a key.
pub fn windows_of_these_layers(
    config: &Config<'_>,
    rules: WindowRules,
    unlisted: Vec<bool>,
    context: u64,
    refusals: &mut Refusals,
) -> Result<Windows> {
    let windows = refusals.take(read_windows(config, rules, Some(unlisted), context))?;
    Ok(windows.unwrap_or_else(|| Windows::none(ACTING)))
}

fn read_windows(
    config: &Config<'_>,
    rules: WindowRules,
    unlisted: Option<Vec<bool>>,
    context: u64,
) -> Result<Windows> {
    let types = layer_types(config)?;
    let slides = types.iter().flatten().any(|sliding| *sliding);
    if !config.boolean(SWITCH)?.unwrap_or(rules.on) {
        if slides {
            let switch = config.path(SWITCH);
            return Err(key_unsupported(
                &config.path(TYPES),
                format!("has \"{SLIDING}\", but `{switch}` is not true"),
            ));
        }
        return Ok(Windows::none(SWITCHED_OFF));
    }
    let window = match config.size(WINDOW)? {
        None if config.is_null(WINDOW) => None,
        window => window.or(rules.window),
    };
    let Some(window) = window else {
        if slides {
            return Err(key_unsupported(
                &config.path(TYPES),
                format!("has \"{SLIDING}\", but there is no `{}`", config.path(WINDOW)),
            ));
        }
        return Ok(Windows::none(ACTING));
    };
    let sliding = match types.or(unlisted) {
        Some(sliding) => sliding,
        None => {
            let first = match config.get(FIRST) {
                None => rules.first_layer,
                Some(value) => value.as_u64().ok_or_else(|| {
                    key_invalid(&config.path(FIRST), format!("is {value}, not a number of layers"))
                })?,
            };
            (0..layer_count(config)).map(|layer| layer >= first).collect()
        }
    };
    if !sliding.contains(&true) {
        let note = format!("config.json: `{}` = {window} is in no layer", config.path(WINDOW));
        return Ok(Windows { notes: vec![note], ..Windows::none(ACTING) });
    }
    if window < context && !rules.honoured {
        return Err(key_unsupported(
            &config.path(WINDOW),
            format!(
                "= {window} is shorter than the context of {context} tokens, and models of this \
                 architecture have no windows"
            ),
        )
        .with_hint(format!(
            "within --context {window} the window does not act: use that or less"
        )));
    }
    Ok(of_kinds(config, sliding, window, context, ACTING))
}

/// The window of a family where all layers have it: `sliding_window`, or `default` where it is not
/// given; null is none.
///
/// # Errors
/// None: every refusal is about a key.
pub fn window_everywhere(
    config: &Config<'_>,
    default: Option<u64>,
    context: u64,
    refusals: &mut Refusals,
) -> Result<Windows> {
    let none = Windows::none(EVERYWHERE);
    let window = match refusals.take(config.size(WINDOW))? {
        None => return Ok(none),
        Some(None) if config.is_null(WINDOW) => return Ok(none),
        Some(window) => window.or(default),
    };
    let Some(window) = window else { return Ok(none) };
    if window >= context {
        return Ok(Windows { notes: vec![idle(config, window, context)], ..none });
    }
    let layer = LayerForm { window: Some(window), ..LayerForm::default() };
    let off = config.get(SWITCH).and_then(Value::as_bool) == Some(false);
    let note = off.then(|| {
        format!(
            "config.json: `{}` = {window} acts in spite of `{}` = false, which transformers does not \
             read for this architecture",
            config.path(WINDOW),
            config.path(SWITCH)
        )
    });
    Ok(Windows { layers: Layers::Same(layer), notes: note.into_iter().collect(), ..none })
}

/// The windows of a family where `layer_types` says which layers have one, or else all but every
/// `pattern`th (1 or more) have. `default` is `sliding_window` where it is not given.
///
/// # Errors
/// None: every refusal is about a key.
pub fn windows_by_pattern(
    config: &Config<'_>,
    pattern: u64,
    default: u64,
    context: u64,
    refusals: &mut Refusals,
) -> Result<Windows> {
    let read = || {
        let kinds = match layer_types(config)? {
            Some(types) => types,
            None => (1..=layer_count(config)).map(|layer| layer % pattern != 0).collect(),
        };
        if config.is_null(WINDOW) && kinds.contains(&true) {
            let reason = "is null, but there are layers with a window";
            return Err(key_invalid(&config.path(WINDOW), reason));
        }
        let window = config.size(WINDOW)?.unwrap_or(default);
        Ok(of_kinds(config, kinds, window, context, PATTERN))
    };
    Ok(refusals.take(read())?.unwrap_or_else(|| Windows::none(PATTERN)))
}

/// Windows in the layers that slide, or a remark where the window cannot act.
fn of_kinds(
    config: &Config<'_>,
    sliding: Vec<bool>,
    window: u64,
    context: u64,
    keys: &'static [Key],
) -> Windows {
    let acts = window < context;
    let layer = |slides: &bool| LayerForm {
        window: Some(window).filter(|_| *slides && acts),
        ..LayerForm::default()
    };
    let layers = Layers::Each(sliding.iter().map(layer).collect());
    let idle = (!acts && sliding.contains(&true)).then(|| idle(config, window, context));
    Windows { keys, layers, sliding, notes: idle.into_iter().collect() }
}

/// Which layers have a window, as `layer_types` says; nothing where it is absent.
fn layer_types(config: &Config<'_>) -> Result<Option<Vec<bool>>> {
    if config.get(TYPES).is_none() {
        return Ok(None);
    }
    let kinds = layer_kinds(config, TYPES, &[FULL, SLIDING])?;
    Ok(Some(kinds.iter().map(|kind| *kind == SLIDING).collect()))
}

/// The kinds of all layers, each one of those that are `known`.
///
/// # Errors
/// Another kind, and another length than `num_hidden_layers`, where that is given.
pub fn layer_kinds<'a>(config: &Config<'a>, key: &str, known: &[&str]) -> Result<Vec<&'a str>> {
    let kinds = config.texts(key)?;
    if let Some(other) = kinds.iter().find(|kind| !known.contains(*kind)) {
        let reason =
            format!("has {}; known here: {}", brief(&Value::from(*other)), known.join(", "));
        return Err(key_unsupported(&config.path(key), reason));
    }
    check_length(config, key, kinds.len())?;
    Ok(kinds)
}

/// Checks the length of a list that has an entry for each layer.
///
/// # Errors
/// Another length than `num_hidden_layers`, where that is given.
pub fn check_length(config: &Config<'_>, key: &str, length: usize) -> Result<()> {
    match config.size("num_hidden_layers")? {
        Some(layers) if layers != length as u64 => Err(key_invalid(
            &config.path(key),
            format!(
                "has {}, but `{}` is {layers}",
                entries(length),
                config.path("num_hidden_layers")
            ),
        )),
        _ => Ok(()),
    }
}

/// `num_hidden_layers`, or none where it is not given or will be refused.
pub fn layer_count(config: &Config<'_>) -> u64 {
    let count = config.size("num_hidden_layers").ok().flatten().unwrap_or_default();
    if count > u64::from(LARGEST_LAYERS) { 0 } else { count }
}

/// The remark on a window that cannot act within the context.
fn idle(config: &Config<'_>, window: u64, context: u64) -> String {
    let what = if config.get(WINDOW).is_some() {
        format!("= {window}")
    } else {
        format!("(not given, so {window})")
    };
    // A token sees itself and the `window - 1` before it.
    let key = config.path(WINDOW);
    format!("config.json: `{key}` {what} does not act within a context of {context} tokens")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anemll_plugin_api::codes;
    use serde_json::{Value, json};

    /// As Qwen2 and Qwen3 have it.
    const QWEN: WindowRules =
        WindowRules { on: false, window: Some(4096), first_layer: 28, honoured: true };

    /// The windows, or the refusals as an error.
    fn read(value: &Value, rules: WindowRules, context: u64) -> Result<Windows> {
        let mut refusals = Refusals::new();
        let config = Config::new(value).unwrap();
        let windows = windows_of_layers(&config, rules, context, &mut refusals).unwrap();
        refusals.to_error().map_or(Ok(windows), Err)
    }

    /// The window of each layer.
    fn lengths(windows: &Windows) -> Vec<Option<u64>> {
        match &windows.layers {
            Layers::Same(layer) => vec![layer.window],
            Layers::Each(layers) => layers.iter().map(|layer| layer.window).collect(),
        }
    }

    #[test]
    fn lists_of_another_length_and_windows_that_cannot_be_are_refused_by_key() {
        let on = |key: &str, given: Value| {
            let mut value = json!({
                "use_sliding_window": true, "sliding_window": 8, "num_hidden_layers": 2,
                "layer_types": ["full_attention", "sliding_attention"],
            });
            value[key] = given;
            read(&value, QWEN, 512).unwrap_err()
        };
        for (kinds, words) in [
            (json!(["full_attention"]), "has 1 entry, but `num_hidden_layers` is 2"),
            (json!([]), "has 0 entries"),
            (json!(["full_attention", "mamba"]), "has \"mamba\"; known here: full_attention, "),
            (json!(["x".repeat(5000), "y"]), "…"),
            (json!("full_attention"), "is a text, not a list"),
        ] {
            let error = on("layer_types", kinds);
            assert_eq!(error.at.unwrap(), "config.json: layer_types");
            assert!(
                error.message.contains(words) && error.message.len() < 200,
                "{}",
                error.message
            );
        }
        let beyond = 1_u64 << 31;
        for window in [json!(0), json!(-1), json!(1.5), json!(beyond), json!(u64::MAX), json!("8")]
        {
            let error = on("sliding_window", window.clone());
            assert_eq!(error.at.unwrap(), "config.json: sliding_window", "{window}");
            assert_eq!(error.code, codes::CONFIG_KEY_INVALID);
        }
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
                json!({"use_sliding_window": true, "max_window_layers": 0, "num_hidden_layers": 3}),
                Some(
                    "config.json: `sliding_window` (not given, so 4096) does not act \
                      within a context of 512 tokens",
                ),
            ),
        ] {
            let wanted: Vec<String> = note.map(str::to_owned).into_iter().collect();
            let windows = read(&value, QWEN, 512).unwrap();
            assert_eq!(windows.notes, wanted, "{value}");
            assert!(lengths(&windows).iter().all(Option::is_none), "{value}");
        }
    }

    #[test]
    fn windows_are_in_the_layers_that_have_them() {
        let mixed = json!(["full_attention", "sliding_attention"]);
        for (value, wanted) in [
            (
                json!({"use_sliding_window": true, "sliding_window": 511, "max_window_layers": 1,
                    "num_hidden_layers": 3}),
                vec![None, Some(511), Some(511)],
            ),
            (
                json!({"use_sliding_window": true, "sliding_window": 8, "layer_types": mixed}),
                vec![None, Some(8)],
            ),
        ] {
            let windows = read(&value, QWEN, 512).unwrap();
            assert_eq!(lengths(&windows), wanted, "{value}");
            assert!(windows.notes.is_empty());
            let error = read(&value, WindowRules { honoured: false, ..QWEN }, 512).unwrap_err();
            assert_eq!(error.at.unwrap(), "config.json: sliding_window");
            assert!(error.hint.unwrap().contains("--context"), "{value}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        let full = json!(["full_attention", "full_attention"]);
        let mixed = json!(["full_attention", "sliding_attention"]);
        for value in [
            json!({"layer_types": mixed}),
            json!({"use_sliding_window": true, "sliding_window": null, "layer_types": mixed}),
            json!({"layer_types": ["full_attention", "chunked_attention"]}),
        ] {
            let error = read(&value, QWEN, 512).unwrap_err();
            assert_eq!(error.code, codes::CONFIG_KEY_UNSUPPORTED, "{value}");
            assert_eq!(error.at.unwrap(), "config.json: layer_types", "{value}");
        }
        for value in [
            json!({"num_hidden_layers": 3, "layer_types": full}),
            json!({"num_hidden_layers": 3, "layer_types": []}),
            json!({"layer_types": "full_attention"}),
            json!({"use_sliding_window": "no"}),
            json!({"use_sliding_window": true, "max_window_layers": -1}),
            json!({"use_sliding_window": true, "sliding_window": 0}),
        ] {
            let error = read(&value, QWEN, 512).unwrap_err();
            assert_eq!(error.code, codes::CONFIG_KEY_INVALID, "{value}");
        }
    }

    #[test]
    fn a_window_of_all_layers() {
        let of = |value: &Value, context| {
            let mut refusals = Refusals::new();
            let config = Config::new(value).unwrap();
            let windows = window_everywhere(&config, Some(4096), context, &mut refusals).unwrap();
            refusals.to_error().map_or(Ok(windows), Err)
        };
        let none = of(&json!({"sliding_window": null}), 9999).unwrap();
        assert!(none.notes.is_empty() && lengths(&none) == [None]);
        assert_eq!(of(&json!({"sliding_window": 9}), 9).unwrap().notes.len(), 1);
        assert!(of(&json!({}), 4096).unwrap().notes[0].contains("(not given, so 4096)"));
        assert_eq!(lengths(&of(&json!({}), 4097).unwrap()), [Some(4096)]);
        assert_eq!(lengths(&of(&json!({"sliding_window": 100}), 101).unwrap()), [Some(100)]);
        let off = json!({"sliding_window": 100, "use_sliding_window": false});
        let windows = of(&off, 101).unwrap();
        assert_eq!(lengths(&windows), [Some(100)]);
        assert!(windows.notes[0].contains("acts in spite of `use_sliding_window` = false"));
        assert!(windows.keys.contains(&Key::ignored(SWITCH, UNREAD)));
        let error = of(&json!({"sliding_window": 0}), 101).unwrap_err();
        assert_eq!(error.at.unwrap(), "config.json: sliding_window");
    }

    #[test]
    fn windows_by_a_pattern() {
        let of = |value: &Value, context| {
            let mut refusals = Refusals::new();
            let config = Config::new(value).unwrap();
            let windows = windows_by_pattern(&config, 3, 64, context, &mut refusals).unwrap();
            refusals.to_error().map_or(Ok(windows), Err)
        };
        let windows = of(&json!({"num_hidden_layers": 4}), 65).unwrap();
        assert_eq!(lengths(&windows), [Some(64), Some(64), None, Some(64)]);
        assert_eq!(windows.sliding, [true, true, false, true]);
        // The pattern is the family's own, whatever other families read.
        let windows = of(&json!({"num_hidden_layers": 4, "sliding_window_pattern": 2}), 64);
        let windows = windows.unwrap();
        assert_eq!(lengths(&windows), [None; 4]);
        assert_eq!(
            (&windows.sliding[..], windows.notes.len()),
            (&[true, true, false, true][..], 1)
        );
        let Layers::Each(layers) = windows.clone().with_rotation_in_windows_alone().layers else {
            panic!("same")
        };
        let turns = layers.iter().map(|layer| layer.rotation == LayerRotation::Global);
        assert_eq!(turns.collect::<Vec<_>>(), [true, true, false, true]);
        let Layers::Each(layers) = windows.with_local_rotation().layers else { panic!("same") };
        let local = layers.iter().map(|layer| layer.rotation == LayerRotation::Local);
        assert_eq!(local.collect::<Vec<_>>(), [true, true, false, true]);
        let typed = json!({"layer_types": ["full_attention", "sliding_attention"],
            "sliding_window": 5});
        assert_eq!(lengths(&of(&typed, 9).unwrap()), [None, Some(5)]);
        for (value, key) in [
            (json!({"num_hidden_layers": 2, "sliding_window": null}), WINDOW),
            (json!({"num_hidden_layers": 2, "sliding_window": 0}), WINDOW),
            (json!({"num_hidden_layers": 2, "layer_types": ["full_attention"]}), TYPES),
            (json!({"num_hidden_layers": 1, "layer_types": ["recurrent"]}), TYPES),
        ] {
            let error = of(&value, 9).unwrap_err();
            assert_eq!(error.at.unwrap(), format!("config.json: {key}"), "{value}");
        }
    }

    #[test]
    fn keys_of_a_section_are_named_with_it() {
        let full = json!(["full_attention"]);
        let mixed = json!(["full_attention", "sliding_attention"]);
        for (inner, key) in [
            (json!({"layer_types": mixed}), TYPES),
            (json!({"num_hidden_layers": 2, "layer_types": full}), TYPES),
            (json!({"layer_types": ["recurrent"]}), TYPES),
            (json!({"use_sliding_window": true, "max_window_layers": "x"}), FIRST),
            (
                json!({"use_sliding_window": true, "sliding_window": 8, "layer_types": mixed}),
                WINDOW,
            ),
        ] {
            let value = json!({ "text_config": inner });
            let config = Config::new(&value).unwrap().section("text_config").unwrap().unwrap();
            let mut refusals = Refusals::new();
            let rules = WindowRules { honoured: false, ..QWEN };
            windows_of_layers(&config, rules, 512, &mut refusals).unwrap();
            let error = refusals.to_error().unwrap();
            assert_eq!(error.at.unwrap(), format!("config.json: text_config.{key}"), "{value}");
            let idle = windows_by_pattern(&config, 1, 512, 512, &mut refusals).unwrap();
            assert!(idle.notes.iter().all(|note| note.contains("`text_config.sliding_window`")));
        }
    }

    #[test]
    fn a_family_may_say_which_layers_have_the_window() {
        let of = |value: &Value| {
            let mut refusals = Refusals::new();
            let config = Config::new(value).unwrap();
            let unlisted = vec![false, true];
            let windows =
                windows_of_these_layers(&config, QWEN, unlisted, 512, &mut refusals).unwrap();
            assert!(refusals.is_empty(), "{value}");
            lengths(&windows)
        };
        let on = json!({"use_sliding_window": true, "sliding_window": 8, "max_window_layers": 0});
        assert_eq!(of(&on), [None, Some(8)]);
        assert_eq!(of(&json!({"sliding_window": 8})), [None]);
        let listed = json!({"use_sliding_window": true, "sliding_window": 8,
            "layer_types": ["sliding_attention", "full_attention"]});
        assert_eq!(of(&listed), [Some(8), None]);
    }
}
