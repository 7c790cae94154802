//! The manifest: what a plugin says about itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{ComponentOptions, Error, Result, codes, limits};

/// The stages of a conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Arch frontends.
    Arch,
    /// Quantizers.
    Quantizer,
    /// Combiners.
    Combiner,
    /// Compiler backends.
    Compiler,
    /// Runtimes.
    Runtime,
    /// One that this version does not know. Such a component cannot be used; the others of its
    /// plugin can.
    #[serde(other)]
    Unknown,
}

impl Stage {
    /// All known stages in the order of a conversion.
    pub const ALL: [Self; 5] =
        [Self::Arch, Self::Quantizer, Self::Combiner, Self::Compiler, Self::Runtime];

    /// The name as it stands in the manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Arch => "arch",
            Self::Quantizer => "quantizer",
            Self::Combiner => "combiner",
            Self::Compiler => "compiler",
            Self::Runtime => "runtime",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The type of an option's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OptionType {
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// A text.
    String,
    /// A type that this version does not know: such an option keeps its default.
    #[serde(other)]
    Unknown,
}

/// One option of a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct OptionSpec {
    /// The type of the value.
    #[serde(rename = "type")]
    pub kind: OptionType,
    /// The value when none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<Value>,
    /// The least value, for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimum: Option<f64>,
    /// The greatest value, for numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum: Option<f64>,
    /// The values that are allowed, if only some are.
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "enum")]
    pub values: Option<Vec<Value>>,
    /// One line for `--help`.
    #[serde(default)]
    pub help: String,
}

/// One component of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ComponentManifest {
    /// The stage that it implements.
    pub stage: Stage,
    /// Its id, unique within the stage: lower-case letters, digits, `_` and `-`, a letter first.
    pub id: String,
    /// For arch frontends: values of `model_type`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub model_types: Vec<String>,
    /// For arch frontends: values of `architectures`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub architectures: Vec<String>,
    /// One line that says what it does.
    #[serde(default)]
    pub summary: String,
    /// For combiners: the place among those that `--combiner auto` tries, smallest first; the first
    /// whose packages a device can load is taken. One without a place is taken only when it is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preference: Option<u32>,
    /// For compilers: the ending of what it makes of a package, without the point, if that is not
    /// `mlmodelc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub produces: Option<String>,
    /// For compilers: the boolean option that has all packages of a conversion become one model. Where it is true, the
    /// compiler is given the path of a [`Joined`](super::Joined) in place of a package's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub joins: Option<String>,
    /// The options that it takes, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, OptionSpec>,
}

/// What a plugin says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Manifest {
    /// The plugin's name, in the form of a component's id.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The ABI epoch that it was built for.
    pub abi: u32,
    /// Its licence, an SPDX expression.
    #[serde(default)]
    pub license: String,
    /// Where to find it and to report mistakes.
    #[serde(default)]
    pub homepage: String,
    /// Its components.
    pub components: Vec<ComponentManifest>,
}

impl Manifest {
    /// Reads and checks a manifest.
    ///
    /// # Errors
    /// [`codes::PLUGIN_MANIFEST_INVALID`] for texts that are no manifest,
    /// [`codes::PLUGIN_DUPLICATE_ID`] and [`codes::PLUGIN_OPTIONS_SCHEMA`] for manifests that
    /// contradict themselves. The ABI epoch is not compared.
    pub fn parse(json: &str) -> Result<Self> {
        if json.len() > limits::MANIFEST {
            return Err(invalid(format!(
                "the manifest has {} bytes, more than {}",
                json.len(),
                limits::MANIFEST
            )));
        }
        let manifest: Self = serde_json::from_str(json)
            .map_err(|error| invalid(format!("the manifest cannot be read: {error}")))?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The component with this stage and id.
    pub fn component(&self, stage: Stage, id: &str) -> Option<&ComponentManifest> {
        self.components.iter().find(|component| component.stage == stage && component.id == id)
    }

    /// The components of a stage.
    pub fn components_of(&self, stage: Stage) -> impl Iterator<Item = &ComponentManifest> {
        self.components.iter().filter(move |component| component.stage == stage)
    }

    fn check(&self) -> Result<()> {
        if !is_legal_id(&self.name) {
            return Err(
                invalid(format!("the name {:?} is not an id", self.name)).with_hint(ID_HINT)
            );
        }
        if self.version.is_empty() || self.version.contains(char::is_whitespace) {
            return Err(invalid(format!("the version {:?} is not a version", self.version)));
        }
        for (key, text) in
            [("version", &self.version), ("license", &self.license), ("homepage", &self.homepage)]
        {
            check_line(key, text)?;
        }
        if self.components.is_empty() {
            return Err(
                invalid("the manifest lists no components".to_owned()).with_at("components")
            );
        }
        let mut seen = BTreeSet::new();
        for component in &self.components {
            // Of stages that are not known, it is not known either whether they are the same.
            let known = component.stage != Stage::Unknown;
            if known && !seen.insert((component.stage, &component.id)) {
                return Err(Error::new(
                    codes::PLUGIN_DUPLICATE_ID,
                    format!(
                        "two {} components have the id {:?}",
                        component.stage.name(),
                        component.id
                    ),
                )
                .with_at("components"));
            }
            component.check()?;
        }
        Ok(())
    }
}

impl ComponentManifest {
    /// The options that the component is made with: those given, checked against the schema, and the
    /// default of every option that is not given.
    ///
    /// # Errors
    /// [`codes::PLUGIN_OPTION_INVALID`] for unknown options and for values that do not suit.
    pub fn complete_options(&self, given: &ComponentOptions) -> Result<ComponentOptions> {
        let refuse = |name: &str, why: String| {
            Err(Error::new(codes::PLUGIN_OPTION_INVALID, why).with_at(name))
        };
        for (name, value) in given.iter() {
            let Some(option) = self.options.get(name) else {
                let known: Vec<&str> = self.options.keys().map(String::as_str).collect();
                let why = format!("{} `{}` has no option {name:?}", self.stage.name(), self.id);
                let hint = match known.is_empty() {
                    true => "it takes no options".to_owned(),
                    false => format!("its options: {}", known.join(", ")),
                };
                return refuse(name, why).map_err(|error| error.with_hint(hint));
            };
            if option.kind == OptionType::Unknown {
                let why = format!(
                    "option {name:?} of `{}` has a type that this version does not know",
                    self.id
                );
                return refuse(name, why)
                    .map_err(|error| error.with_hint("leave it out, or update anemll"));
            }
            if let Err(why) = option.check_value(value) {
                return refuse(name, format!("option {name:?} of `{}` {why}", self.id));
            }
        }
        let mut complete = ComponentOptions::new();
        for (name, option) in &self.options {
            if let Some(value) = given.get(name).or(option.default.as_ref()) {
                complete.insert(name.clone(), value.clone());
            }
        }
        Ok(complete)
    }

    /// Whether the component, made with these options, makes one model of all packages of a conversion.
    pub fn does_join(&self, given: &ComponentOptions) -> bool {
        let Some(name) = &self.joins else { return false };
        let default = || self.options.get(name).and_then(|option| option.default.as_ref());
        given.get(name).or_else(default).and_then(Value::as_bool).unwrap_or(false)
    }

    fn check(&self) -> Result<()> {
        if !is_legal_id(&self.id) {
            return Err(invalid(format!("{:?} is not an id", self.id))
                .with_at("components")
                .with_hint(ID_HINT));
        }
        check_line("summary", &self.summary)?;
        for name in self.model_types.iter().chain(&self.architectures) {
            check_line("model_types or architectures", name)?;
        }
        if let Some(name) = &self.joins {
            let option = self.options.get(name);
            if option.is_none_or(|option| option.kind != OptionType::Boolean) {
                let why = format!("`joins` must name a boolean option, and {name:?} is not one");
                return Err(Error::new(codes::PLUGIN_OPTIONS_SCHEMA, why).with_at(&*self.id));
            }
        }
        for (name, option) in &self.options {
            let at = format!("{}.options.{}", self.id, name.escape_debug());
            let refuse = |why: String| {
                Err(Error::new(codes::PLUGIN_OPTIONS_SCHEMA, why).with_at(at.clone()))
            };
            if !is_legal_id(name) {
                return refuse(format!("{name:?} is not an option name"))
                    .map_err(|error| error.with_hint(ID_HINT));
            }
            check_line(&at, &option.help)?;
            if let Err(why) = option.check() {
                return refuse(format!("option {name:?} {why}"));
            }
        }
        Ok(())
    }
}

impl OptionSpec {
    /// Whether `value` suits the type, the bounds and the list of values; the error completes a
    /// sentence that begins with the option.
    fn check_value(&self, value: &Value) -> std::result::Result<(), String> {
        let (suits, expected) = match self.kind {
            OptionType::Integer => (value.is_i64() || value.is_u64(), "a whole number"),
            OptionType::Number => (value.is_number(), "a number"),
            OptionType::Boolean => (value.is_boolean(), "true or false"),
            OptionType::String => (value.is_string(), "a text"),
            OptionType::Unknown => return Ok(()),
        };
        if !suits {
            return Err(format!("must be {expected}, not {value}"));
        }
        if let Some(number) = value.as_f64() {
            match (self.minimum, self.maximum) {
                (Some(minimum), _) if number < minimum => {
                    return Err(format!("must be at least {minimum}, not {value}"));
                }
                (_, Some(maximum)) if number > maximum => {
                    return Err(format!("must be at most {maximum}, not {value}"));
                }
                _ => {}
            }
        }
        match &self.values {
            Some(values) if !values.contains(value) => {
                let values: Vec<String> = values.iter().map(Value::to_string).collect();
                Err(format!("must be one of {}, not {value}", values.join(", ")))
            }
            _ => Ok(()),
        }
    }

    fn check(&self) -> std::result::Result<(), String> {
        if self.kind == OptionType::Unknown {
            return Ok(());
        }
        let numeric = matches!(self.kind, OptionType::Integer | OptionType::Number);
        if !numeric && (self.minimum.is_some() || self.maximum.is_some()) {
            return Err("has bounds, but is not a number".to_owned());
        }
        if let (Some(minimum), Some(maximum)) = (self.minimum, self.maximum)
            && minimum > maximum
        {
            return Err(format!("has the minimum {minimum} above the maximum {maximum}"));
        }
        if let Some(values) = &self.values {
            if values.is_empty() {
                return Err("has an empty list of values".to_owned());
            }
            let unlisted = Self { values: None, ..self.clone() };
            for value in values {
                unlisted.check_value(value).map_err(|why| format!("has a value that {why}"))?;
            }
        }
        match &self.default {
            Some(default) => {
                self.check_value(default).map_err(|why| format!("has a default that {why}"))
            }
            None => Ok(()),
        }
    }
}

const ID_HINT: &str =
    "lower-case letters, digits, `_` and `-`, a letter first, at most 64 characters";

/// Whether a text can be an id: of a plugin, a component, an option.
pub fn is_legal_id(text: &str) -> bool {
    text.len() <= 64
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'))
}

/// Refuses texts that would break a line of help or drive a terminal.
fn check_line(key: &str, text: &str) -> Result<()> {
    match text.chars().any(char::is_control) {
        true => {
            Err(invalid("a text has line breaks or other control characters".to_owned())
                .with_at(key))
        }
        false => Ok(()),
    }
}

fn invalid(message: String) -> Error {
    Error::new(codes::PLUGIN_MANIFEST_INVALID, message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::testing;

    fn manifest() -> Value {
        json!({
            "name": "llama", "version": "0.1.0", "abi": 1, "future key": [1],
            "components": [{
                "stage": "arch", "id": "llama", "model_types": ["llama"],
                "options": {
                    "split": {"type": "integer", "default": 8, "minimum": 1, "maximum": 64},
                    "style": {"type": "string", "enum": ["a", "b"]},
                },
            }],
        })
    }

    fn code(manifest: &Value) -> String {
        Manifest::parse(&manifest.to_string()).unwrap_err().code
    }

    #[test]
    fn a_manifest_is_read_and_unknown_keys_are_left_alone() {
        let manifest = Manifest::parse(&manifest().to_string()).unwrap();
        assert_eq!(manifest.components_of(Stage::Arch).count(), 1);
        assert!(manifest.component(Stage::Runtime, "llama").is_none());
    }

    #[test]
    fn what_is_no_manifest_is_refused() {
        for text in ["", "{", "[]", "{}", "null"] {
            assert_eq!(Manifest::parse(text).unwrap_err().code, codes::PLUGIN_MANIFEST_INVALID);
        }
        assert!(Manifest::parse(&" ".repeat(limits::MANIFEST + 1)).is_err());
        let edits: [(&str, Value); 6] = [
            ("/name", json!("Llama")),
            ("/version", json!("")),
            ("/abi", json!(-1)),
            ("/components", json!([])),
            ("/components/0/id", json!("../llama")),
            ("/components/0/stage", json!(3)),
        ];
        for (place, value) in edits {
            let mut manifest = manifest();
            *manifest.pointer_mut(place).unwrap() = value;
            assert_eq!(code(&manifest), codes::PLUGIN_MANIFEST_INVALID, "{place}");
        }
        let mut with_escape = manifest();
        with_escape["components"][0]["summary"] = json!("\u{1b}[2J");
        assert_eq!(code(&with_escape), codes::PLUGIN_MANIFEST_INVALID);
    }

    #[test]
    fn what_a_later_version_brings_is_left_alone() {
        let mut manifest = manifest();
        let later = json!({"stage": "profiler", "id": "llama", "depth": 3});
        manifest["components"].as_array_mut().unwrap().extend([later.clone(), later]);
        manifest["components"][0]["options"]["window"] =
            json!({"type": "duration", "default": "3 s", "minimum": 1, "enum": []});
        let manifest = Manifest::parse(&manifest.to_string()).unwrap();
        assert_eq!(manifest.components_of(Stage::Unknown).count(), 2);
        let component = manifest.component(Stage::Arch, "llama").unwrap();
        let complete = component.complete_options(&ComponentOptions::new()).unwrap();
        assert_eq!(complete, testing::options(json!({"split": 8, "window": "3 s"})));
        let given = ComponentOptions::new().with("window", "4 s");
        let error = component.complete_options(&given).unwrap_err();
        assert_eq!(error.at.as_deref(), Some("window"));
        assert!(error.hint.unwrap().contains("update"));
    }

    #[test]
    fn duplicate_ids_are_refused_within_a_stage_only() {
        let mut manifest = manifest();
        let mut second = manifest["components"][0].clone();
        manifest["components"].as_array_mut().unwrap().push(second.clone());
        assert_eq!(code(&manifest), codes::PLUGIN_DUPLICATE_ID);
        second["stage"] = json!("runtime");
        manifest["components"][1] = second;
        assert!(Manifest::parse(&manifest.to_string()).is_ok());
    }

    #[test]
    fn schemas_that_contradict_themselves_are_refused() {
        let options = [
            json!({"x": {"type": "integer", "default": "8"}}),
            json!({"x": {"type": "integer", "default": 1.5}}),
            json!({"x": {"type": "integer", "minimum": 2, "maximum": 1}}),
            json!({"x": {"type": "integer", "maximum": 7, "default": 8}}),
            json!({"x": {"type": "boolean", "minimum": 0}}),
            json!({"x": {"type": "string", "enum": []}}),
            json!({"x": {"type": "string", "enum": ["a"], "default": "b"}}),
            json!({"x": {"type": "string", "enum": [1]}}),
            json!({"X Y": {"type": "string"}}),
        ];
        for schema in options {
            let mut manifest = manifest();
            manifest["components"][0]["options"] = schema.clone();
            assert_eq!(code(&manifest), codes::PLUGIN_OPTIONS_SCHEMA, "{schema}");
        }
    }

    #[test]
    fn an_option_says_whether_packages_are_joined() {
        let mut manifest = manifest();
        manifest["components"][0]["joins"] = json!("whole");
        assert_eq!(code(&manifest), codes::PLUGIN_OPTIONS_SCHEMA);
        manifest["components"][0]["options"]["whole"] = json!({"type": "boolean", "default": true});
        let manifest = Manifest::parse(&manifest.to_string()).unwrap();
        let component = &manifest.components[0];
        assert!(component.does_join(&ComponentOptions::new()));
        assert!(!component.does_join(&ComponentOptions::new().with("whole", false)));
    }

    #[test]
    fn options_are_checked_and_completed() {
        let manifest = Manifest::parse(&manifest().to_string()).unwrap();
        let component = &manifest.components[0];
        let complete = |given: Value| component.complete_options(&testing::options(given));
        assert_eq!(complete(json!({})).unwrap(), testing::options(json!({"split": 8})));
        assert_eq!(
            complete(json!({"style": "b", "split": 64})).unwrap(),
            testing::options(json!({"split": 64, "style": "b"}))
        );
        for bad in [
            json!({"split": 0}),
            json!({"split": 65}),
            json!({"split": 8.0}),
            json!({"split": null}),
            json!({"style": "c"}),
            json!({"colour": "red"}),
        ] {
            let error = complete(bad.clone()).unwrap_err();
            assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID, "{bad}");
        }
    }
}
