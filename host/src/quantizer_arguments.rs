//! What the command line says of the quantizer: `--quantizer`, its options, and ANEMLL's `--lut`
//! flags. The latter are short for options of the quantizer `lut`, which knows what they mean.

use crate::component_options::{self, TypedOption};
use crate::plugins::Plugins;
use anemll_plugin_api::data::Stage;
use anemll_plugin_api::{ComponentOptions, Error, Quantizer, Result, codes};
use clap::Args;

/// The quantizer of the `--lut` flags, and where none is named.
const LUT: &str = "lut";
/// What `--quantizer` is to leave all weights as they are.
const NONE: &str = "none";
/// Heading of the flags in `--help`.
pub const HEADING: &str = "Palettization";

/// ANEMLL's flags.
#[derive(Debug, Clone, Default, Args)]
pub struct LutArguments {
    /// BITS or BITS,GROUP of layers and head (monolithic: of all parts), such as 4, 6,16, 4,tensor;
    /// none for 16-bit floats. Without a --lut flag: embeddings and head 8, layers 6, or 4 from 3 B
    /// parameters on. With one, the others are ANEMLL's: layers 4, head 6 (monolithic: 4 for all).
    #[arg(long, value_name = "LUT", help_heading = HEADING)]
    pub lut: Option<String>,
    /// Palettization of the embeddings.
    #[arg(long, value_name = "LUT", help_heading = HEADING, visible_alias = "lut-embeddings")]
    pub lut1: Option<String>,
    /// Palettization of the layers.
    #[arg(long, value_name = "LUT", help_heading = HEADING)]
    pub lut2: Option<String>,
    /// Palettization of the head.
    #[arg(long, value_name = "LUT", help_heading = HEADING, visible_alias = "lut-lmhead")]
    pub lut3: Option<String>,
}

impl LutArguments {
    /// The flags that were typed: each with the option that it stands for, and its value.
    fn typed(&self) -> impl Iterator<Item = (&'static str, &'static str, &str)> {
        let flags = [
            ("--lut", "all", &self.lut),
            ("--lut1", "embeddings", &self.lut1),
            ("--lut2", "layers", &self.lut2),
            ("--lut3", "head", &self.lut3),
        ];
        flags.into_iter().filter_map(|(flag, option, text)| Some((flag, option, text.as_deref()?)))
    }
}

/// The quantizer and its options.
#[derive(Debug, Clone, Default, Args)]
pub struct QuantizerArguments {
    /// The flags of `lut`.
    #[command(flatten)]
    pub luts: LutArguments,
    /// Quantizer plugin to use, or none for 16-bit floats; default: lut.
    #[arg(long, value_name = "ID", help_heading = HEADING)]
    pub quantizer: Option<String>,
    /// Option of the quantizer as NAME=VALUE, or of any component as COMPONENT.NAME=VALUE; may be
    /// given several times. `anemll plugin list --options` shows them.
    #[arg(
        short = 'O',
        long = "option",
        value_name = "NAME=VALUE",
        help_heading = HEADING,
        visible_alias = "quantizer-option"
    )]
    pub options: Vec<TypedOption>,
}

/// A quantizer with the id of its component.
pub type Chosen = (String, Box<dyn Quantizer>);

impl QuantizerArguments {
    /// The quantizer that was chosen, made with its options; none for 16-bit floats.
    ///
    /// # Errors
    /// Flags that do not go together, and those of the plugin, in the words of the flags.
    pub fn choose(&self, plugins: &Plugins) -> Result<Option<Chosen>> {
        let id = self.quantizer.as_deref().unwrap_or(LUT);
        if id == NONE {
            return match self.luts.typed().next() {
                None => Ok(None),
                Some((flag, ..)) => Err(Error::new(
                    codes::USAGE,
                    format!("{flag} asks for tables, and --quantizer none for none"),
                )
                .with_hint("leave one of them out")),
            };
        }
        let mut options = self.lut_options(plugins, id)?;
        component_options::add(&mut options, &self.options, plugins, (Stage::Quantizer, id));
        let quantizer = plugins.quantizer(id, &options).map_err(|error| {
            if self.luts.typed().next().is_some() || self.quantizer.is_some() {
                return self.in_words_of_flags(error);
            }
            error.with_hint(
                "weights are palettized by default: name the quantizer's library with --plugin \
                 PATH, or convert to 16-bit floats with --quantizer none",
            )
        })?;
        Ok(Some((id.to_owned(), quantizer)))
    }

    /// The options that the flags stand for, of a quantizer that has them.
    fn lut_options(&self, plugins: &Plugins, id: &str) -> Result<ComponentOptions> {
        let components = plugins.components(Stage::Quantizer);
        let manifest = components.iter().find(|(_, component)| component.id == id);
        let mut options = ComponentOptions::new();
        for (_, option, text) in self.luts.typed() {
            // One that is not installed is refused later, by its id.
            if manifest.is_some_and(|(_, component)| !component.options.contains_key(option)) {
                return Err(Error::new(
                    codes::USAGE,
                    format!("the --lut flags belong to the quantizer `{LUT}`, not `{id}`"),
                )
                .with_hint("leave --quantizer out, or give its own options with -O NAME=VALUE"));
            }
            options.insert(option, text);
        }
        Ok(options)
    }

    /// An error about an option that a flag stands for is an error about the flag.
    fn in_words_of_flags(&self, error: Error) -> Error {
        let mut flags = self.luts.typed();
        let about = |option: &str| error.at.as_deref() == Some(option);
        match flags.find(|(_, option, _)| about(option)) {
            Some((flag, option, _)) if error.code == codes::PLUGIN_OPTION_INVALID => {
                let label = format!("option {option:?}: ");
                let reason = error.message.strip_prefix(&label).unwrap_or(&error.message);
                let told = Error::new(codes::USAGE, format!("{flag} {reason}"));
                match error.hint {
                    Some(hint) => told.with_hint(hint),
                    None => told,
                }
            }
            _ => error,
        }
    }

    /// The same quantizer as ANEMLL's `--lut BITS` has it; none where another one was chosen.
    pub fn with_lut(&self, bits: u32) -> Option<Self> {
        let is_lut = self.quantizer.as_deref().is_none_or(|id| id == LUT);
        let luts = LutArguments { lut: Some(bits.to_string()), ..LutArguments::default() };
        is_lut.then(|| Self { luts, ..Self::default() })
    }

    /// What was typed, in one line; none where nothing was.
    pub fn line(&self) -> Option<String> {
        let quantizer = self.quantizer.iter().map(|id| format!("--quantizer {id}"));
        let flags = self.luts.typed().map(|(flag, _, text)| format!("{flag} {text}"));
        let options = self.options.iter().map(|option| format!("-O {option}"));
        let words: Vec<String> = quantizer.chain(flags).chain(options).collect();
        (!words.is_empty()).then(|| words.join(" "))
    }

    /// Those of the options that are the quantizer's, as they were typed.
    pub fn own_options(&self) -> Vec<String> {
        self.options.iter().filter(|option| self.is_own(option)).map(TypedOption::plain).collect()
    }

    /// Whether an option is the quantizer's.
    pub fn is_own(&self, option: &TypedOption) -> bool {
        option.is_of(Stage::Quantizer, self.quantizer.as_deref().unwrap_or(LUT))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_speak_of_flags_where_flags_were_typed() {
        let luts = LutArguments { lut2: Some("5".to_owned()), ..LutArguments::default() };
        let typed = QuantizerArguments { luts, ..QuantizerArguments::default() };
        let refusal = |name: &str| {
            Error::new(codes::PLUGIN_OPTION_INVALID, format!("option {name:?}: \"5\": why"))
                .with_at(name)
                .with_hint("what to do")
        };
        let told = typed.in_words_of_flags(refusal("layers"));
        assert_eq!(
            (told.code.as_ref(), told.message.as_str()),
            (codes::USAGE, "--lut2 \"5\": why")
        );
        assert_eq!(told.hint.as_deref(), Some("what to do"));
        let other = typed.in_words_of_flags(refusal("head"));
        assert_eq!(other, refusal("head"));
    }

    #[test]
    fn what_was_typed_is_said_as_it_was_typed() {
        assert_eq!(QuantizerArguments::default().line(), None);
        let typed = QuantizerArguments {
            luts: LutArguments { lut: Some("4".to_owned()), ..LutArguments::default() },
            quantizer: Some("lut-aware".to_owned()),
            options: ["method=lnq", "cpu.exact=true"].map(|text| text.parse().unwrap()).into(),
        };
        let line = "--quantizer lut-aware --lut 4 -O method=lnq -O cpu.exact=true";
        assert_eq!(typed.line().as_deref(), Some(line));
        assert_eq!(typed.own_options(), ["method=lnq"]);
        assert!(typed.with_lut(8).is_none());
    }
}
