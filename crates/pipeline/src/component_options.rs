//! `-O NAME=VALUE` and `-O COMPONENT.NAME=VALUE`: options of components, as their manifests list
//! them.

use crate::plugins::Plugins;
use anemll_codes as codes;
use anemll_plugin_api::data::{OptionType, Stage};
use anemll_plugin_api::{ComponentOptions, Error, Result, Value};
use std::fmt;
use std::str::FromStr;

/// The option of plugins that read models which says what the caches of layers with a window hold.
pub const WINDOW_CACHE: &str = "window_cache";
/// Its value for caches of the whole context, which is what they hold where nothing is said.
pub const FULL: &str = "full";

/// An option as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypedOption {
    /// The component's id, or its stage; the quantizer where it is left out.
    pub component: Option<String>,
    /// The option's name in the component's manifest.
    pub name: String,
    /// Its value; what type it has, the manifest knows.
    pub value: String,
    /// The flag of the command line that stands for it, where one was typed.
    pub flag: Option<&'static str>,
}

impl FromStr for TypedOption {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let wrong = || "take NAME=VALUE or COMPONENT.NAME=VALUE".to_owned();
        let (path, value) = text.split_once('=').ok_or_else(wrong)?;
        let (component, name) = match path.split_once('.') {
            Some((component, name)) => (Some(component), name),
            None => (None, path),
        };
        if name.is_empty() || component.is_some_and(str::is_empty) {
            return Err(wrong());
        }
        Ok(Self {
            component: component.map(str::to_owned),
            name: name.to_owned(),
            value: value.to_owned(),
            flag: None,
        })
    }
}

impl fmt::Display for TypedOption {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(component) = &self.component {
            write!(formatter, "{component}.")?;
        }
        write!(formatter, "{}={}", self.name, self.value)
    }
}

impl TypedOption {
    /// An option of the quantizer that a flag stands for.
    pub fn of_flag(flag: &'static str, name: &str, value: impl Into<String>) -> Self {
        Self { component: None, name: name.to_owned(), value: value.into(), flag: Some(flag) }
    }

    /// An option of the plugin that reads the model.
    pub fn of_arch(name: &str, value: impl Into<String>) -> Self {
        let component = Some(Stage::Arch.name().to_owned());
        Self { component, name: name.to_owned(), value: value.into(), flag: None }
    }

    /// Whether it is an option of this component.
    pub fn is_of(&self, stage: Stage, id: &str) -> bool {
        match self.component.as_deref() {
            None => stage == Stage::Quantizer,
            Some(component) => component == id || component == stage.name(),
        }
    }

    /// `NAME=VALUE`, whatever component was named.
    pub fn plain(&self) -> String {
        format!("{}={}", self.name, self.value)
    }

    /// The value, of the type that the manifest says. What has another type stays a text, and is
    /// refused with the others that the manifest does not allow.
    fn read(&self, kind: Option<OptionType>) -> Value {
        let text = self.value.as_str();
        let read = match kind {
            None | Some(OptionType::String) => None,
            Some(_) => serde_json::from_str(text).ok(),
        };
        read.unwrap_or_else(|| Value::from(text))
    }
}

/// Adds what was typed for a component to what flags say of it; what was typed last wins.
pub fn add(
    options: &mut ComponentOptions,
    typed: &[TypedOption],
    plugins: &Plugins,
    (stage, id): (Stage, &str),
) {
    let components = plugins.components(stage);
    let manifest = components.iter().find(|(_, component)| component.id == id);
    for option in typed.iter().filter(|option| option.is_of(stage, id)) {
        let spec = manifest.and_then(|(_, component)| component.options.get(&option.name));
        options.insert(option.name.clone(), option.read(spec.map(|spec| spec.kind)));
    }
}

/// Refuses an option of a component that does not take part.
///
/// # Errors
/// [`codes::USAGE`], with the components that do.
pub fn refuse_others(typed: &[TypedOption], chain: &[(Stage, &str)]) -> Result<()> {
    let is_foreign =
        |option: &&TypedOption| !chain.iter().any(|(stage, id)| option.is_of(*stage, id));
    let Some(option) = typed.iter().find(is_foreign) else { return Ok(()) };
    let known: Vec<String> =
        chain.iter().map(|(stage, id)| format!("{id} ({})", stage.name())).collect();
    let what = match &option.component {
        Some(component) => format!("no component `{component}` takes part in it"),
        None => "the conversion has no quantizer".to_owned(),
    };
    Err(Error::new(codes::USAGE, format!("-O {option}: {what}"))
        .with_hint(format!("the components are: {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str) -> TypedOption {
        text.parse().unwrap()
    }

    #[test]
    fn options_are_taken_apart_and_put_together() {
        let plain = typed("layers=4,16");
        assert_eq!((plain.component.as_deref(), plain.name.as_str()), (None, "layers"));
        assert_eq!(plain.value, "4,16");
        let path = typed("cpu.file=a.b=c");
        assert_eq!((path.component.as_deref(), path.name.as_str()), (Some("cpu"), "file"));
        assert_eq!(path.value, "a.b=c");
        for text in ["layers=4,16", "cpu.file=a.b=c", "x="] {
            assert_eq!(typed(text).to_string(), text);
        }
        for text in ["", "layers", "=4", ".layers=4", "lut.=4"] {
            assert!(text.parse::<TypedOption>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_component_is_named_by_id_or_stage_and_is_else_the_quantizer() {
        let quantizer = (Stage::Quantizer, "lut");
        for (text, of_quantizer, of_runtime) in [
            ("x=1", true, false),
            ("lut.x=1", true, false),
            ("quantizer.x=1", true, false),
            ("cpu.x=1", false, true),
            ("runtime.x=1", false, true),
            ("mps.x=1", false, false),
        ] {
            let option = typed(text);
            assert_eq!(option.is_of(quantizer.0, quantizer.1), of_quantizer, "{text}");
            assert_eq!(option.is_of(Stage::Runtime, "cpu"), of_runtime, "{text}");
            let chain = [quantizer, (Stage::Runtime, "cpu")];
            assert_eq!(refuse_others(&[option], &chain).is_ok(), of_quantizer || of_runtime);
        }
        let error = refuse_others(&[typed("mps.x=1")], &[quantizer]).unwrap_err();
        assert!(error.message.contains("`mps`"), "{error}");
        assert!(error.hint.unwrap().contains("lut (quantizer)"));
    }

    #[test]
    fn values_have_the_type_of_the_manifest() {
        let read = |text: &str, kind| typed(&format!("x={text}")).read(kind);
        assert_eq!(read("4", Some(OptionType::Integer)), Value::from(4));
        assert_eq!(read("4", Some(OptionType::String)), Value::from("4"));
        assert_eq!(read("0.5", Some(OptionType::Number)), Value::from(0.5));
        assert_eq!(read("true", Some(OptionType::Boolean)), Value::from(true));
        assert_eq!(read("true", None), Value::from("true"));
        assert_eq!(read("many", Some(OptionType::Integer)), Value::from("many"));
    }
}
