//! Which quantizer a conversion has, and with which options.

use crate::component_options::{self, TypedOption};
use crate::plugins::{NONE, Plugins};
use anemll_codes as codes;
use anemll_plugin_api::data::Stage;
use anemll_plugin_api::{ComponentOptions, Error, Quantizer, Result};
use serde::Serialize;

/// The quantizer where none is named.
pub const QUANTIZER: &str = "lut-aware";

/// The quantizer that is asked for, and the options that were typed for it and other components.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct QuantizerChoice {
    /// Its id, or [`NONE`] for 16-bit floats; [`QUANTIZER`] when absent.
    #[serde(rename = "quantizer")]
    pub id: Option<String>,
    /// Options of any component, those of flags first: what is typed last wins.
    #[serde(skip)]
    pub options: Vec<TypedOption>,
}

/// A quantizer with the id of its component.
pub type Chosen = (String, Box<dyn Quantizer>);

impl QuantizerChoice {
    /// No quantizer: all weights stay 16-bit floats.
    pub fn none() -> Self {
        Self { id: Some(NONE.to_owned()), options: Vec::new() }
    }

    /// The id that was chosen or is usual.
    pub fn id(&self) -> &str {
        self.id.as_deref().unwrap_or(QUANTIZER)
    }

    /// The quantizer, made with its options; none for 16-bit floats.
    ///
    /// # Errors
    /// Flags that do not go together, and those of the plugin, in the words of the flags.
    pub fn choose(&self, plugins: &Plugins) -> Result<Option<Chosen>> {
        let id = self.id();
        if id == NONE {
            return match self.flags().next() {
                None => Ok(None),
                Some((flag, _)) => Err(Error::new(
                    codes::USAGE,
                    format!("{flag} is for a quantizer, and --quantizer none means no quantizer"),
                )
                .with_hint("leave one of them out")),
            };
        }
        self.refuse_flags_of_others(plugins, id)?;
        let mut options = ComponentOptions::new();
        component_options::add(&mut options, &self.options, plugins, (Stage::Quantizer, id));
        let quantizer = plugins.quantizer(id, &options).map_err(|error| {
            if self.flags().next().is_some() || self.id.is_some() {
                return self.in_words_of_flags(error);
            }
            error.with_hint(
                "weights are quantized by default: name the quantizer's library with --plugin PATH, \
                 or convert to 16-bit floats with --quantizer none",
            )
        })?;
        Ok(Some((id.to_owned(), quantizer)))
    }

    /// The flags that were typed, and what they stand for.
    fn flags(&self) -> impl Iterator<Item = (&'static str, &TypedOption)> {
        self.options.iter().filter_map(|option| Some((option.flag?, option)))
    }

    /// A flag stands for an option that the quantizer must have.
    fn refuse_flags_of_others(&self, plugins: &Plugins, id: &str) -> Result<()> {
        let components = plugins.components(Stage::Quantizer);
        // One that is not installed is refused later, by its id.
        let Some((_, manifest)) = components.iter().find(|(_, component)| component.id == id)
        else {
            return Ok(());
        };
        match self.flags().find(|(_, option)| !manifest.options.contains_key(&option.name)) {
            None => Ok(()),
            Some((flag, option)) => Err(Error::new(
                codes::USAGE,
                format!(
                    "{flag} is for quantizers with the option `{}`, and `{id}` has none",
                    option.name
                ),
            )
            .with_at(flag)
            .with_hint("leave --quantizer out, or give its own options with -O NAME=VALUE")),
        }
    }

    /// An error about an option that a flag stands for is an error about the flag.
    fn in_words_of_flags(&self, error: Error) -> Error {
        let about = |option: &TypedOption| error.at.as_deref() == Some(&*option.name);
        match self.flags().find(|(_, option)| about(option)) {
            Some((flag, option)) if error.code == codes::PLUGIN_OPTION_INVALID => {
                let label = format!("option {:?}: ", option.name);
                let reason = error.message.strip_prefix(&label).unwrap_or(&error.message);
                let quoted = format!("{:?}: ", option.value);
                let reason = reason.strip_prefix(&quoted).unwrap_or(reason);
                let told = Error::new(codes::USAGE, format!("{flag} {}: {reason}", option.value));
                match error.hint {
                    Some(hint) => told.with_hint(hint),
                    None => told,
                }
            }
            _ => error,
        }
    }

    /// What was typed, in one line; none where nothing was.
    pub fn line(&self) -> Option<String> {
        let quantizer = self.id.iter().map(|id| format!("--quantizer {id}"));
        let options = self.options.iter().map(|option| match option.flag {
            Some(flag) => format!("{flag} {}", option.value),
            None => format!("-O {option}"),
        });
        let words: Vec<String> = quantizer.chain(options).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// Those of the options that are the quantizer's, as they were typed; not those of flags.
    pub fn own_options(&self) -> Vec<String> {
        let own = self.options.iter().filter(|option| option.flag.is_none() && self.is_own(option));
        own.map(TypedOption::plain).collect()
    }

    /// Whether an option is the quantizer's.
    pub fn is_own(&self, option: &TypedOption) -> bool {
        option.is_of(Stage::Quantizer, self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_speak_of_flags_where_flags_were_typed() {
        let options = vec![TypedOption::of_flag("--lut2", "layers", "5")];
        let typed = QuantizerChoice { options, ..QuantizerChoice::default() };
        let refusal = |name: &str| {
            Error::new(codes::PLUGIN_OPTION_INVALID, format!("option {name:?}: \"5\": why"))
                .with_at(name)
                .with_hint("what to do")
        };
        let told = typed.in_words_of_flags(refusal("layers"));
        assert_eq!((told.code.as_ref(), told.message.as_str()), (codes::USAGE, "--lut2 5: why"));
        assert_eq!(told.hint.as_deref(), Some("what to do"));
        let other = typed.in_words_of_flags(refusal("head"));
        assert_eq!(other, refusal("head"));
    }

    #[test]
    fn what_was_typed_is_said_as_it_was_typed() {
        assert_eq!(QuantizerChoice::default().line(), None);
        let mut options = vec![TypedOption::of_flag("--lut", "all", "4")];
        options.extend(["method=lnq", "cpu.exact=true"].map(|text| text.parse().unwrap()));
        let typed = QuantizerChoice { id: Some("lut-aware".to_owned()), options };
        let line = "--quantizer lut-aware --lut 4 -O method=lnq -O cpu.exact=true";
        assert_eq!(typed.line().as_deref(), Some(line));
        assert_eq!(typed.own_options(), ["method=lnq"]);
    }
}
