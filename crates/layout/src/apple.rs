//! Names of the language-model bundles that Apple's apps load: what combiner and compiler agree on.

/// Key of a package's metadata that says which interface its functions are to have in an asset.
pub const INTERFACE: &str = "com.anemll.interface";
/// The interface of static language models: [`Role`] says which functions there are.
pub const STATIC: &str = "apple-llm-static";
/// The interface of dynamic language models: one function [`MAIN`] for any number of tokens and any context, which
/// is made of functions that [`Sample`] names.
pub const DYNAMIC: &str = "apple-llm-dynamic";
/// The function of a dynamic model.
pub const MAIN: &str = "main";
/// The states of a dynamic model that hold keys and values.
pub const CACHES: [&str; 2] = ["keyCache", "valueCache"];
/// Version of `metadata.json`.
pub const METADATA_VERSION: &str = "0.2";
/// The file that says what is in a bundle.
pub const METADATA: &str = "metadata.json";
/// The function that gives the table of embeddings; apps know a static model by it.
pub const LOAD_EMBEDDINGS: &str = "load_embeddings";

const GATHER: &str = "gather_embeddings";
const EXTEND: &str = "extend";
const PROMPT: &str = "prompt_opt";

/// What a function of a static bundle does; its name says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Rows of the table of embeddings, for so many tokens.
    Gather {
        /// Tokens of a call.
        tokens: u64,
    },
    /// Tokens to logits, over a context.
    Extend {
        /// Positions of the caches.
        context: u64,
        /// Tokens of a call.
        tokens: u64,
    },
    /// Tokens into the caches alone.
    Prompt {
        /// Positions of the caches.
        context: u64,
        /// Tokens of a call.
        tokens: u64,
    },
}

impl Role {
    /// The function's name.
    pub fn name(self) -> String {
        match self {
            Self::Gather { tokens } => format!("{GATHER}_{tokens}"),
            Self::Extend { context, tokens } => format!("{EXTEND}_{context}_{tokens}"),
            Self::Prompt { context, tokens } => format!("{PROMPT}_{context}_{tokens}"),
        }
    }

    /// What a name says, if it is one of these.
    pub fn parse(name: &str) -> Option<Self> {
        let (rest, tokens) = name.rsplit_once('_')?;
        let tokens = number(tokens)?;
        if rest == GATHER {
            return Some(Self::Gather { tokens });
        }
        let (kind, context) = rest.rsplit_once('_')?;
        let context = number(context)?;
        match kind {
            EXTEND => Some(Self::Extend { context, tokens }),
            PROMPT => Some(Self::Prompt { context, tokens }),
            _ => None,
        }
    }

    /// Positions of the caches, where it has some.
    pub fn context(self) -> Option<u64> {
        match self {
            Self::Gather { .. } => None,
            Self::Extend { context, .. } | Self::Prompt { context, .. } => Some(context),
        }
    }

    /// Tokens of a call.
    pub fn tokens(self) -> u64 {
        match self {
            Self::Gather { tokens } | Self::Extend { tokens, .. } | Self::Prompt { tokens, .. } => {
                tokens
            }
        }
    }
}

/// A function of a package that is one case of a dynamic model's: for so many tokens, over so large a context.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sample {
    /// Positions of the caches.
    pub context: u64,
    /// Tokens of a call.
    pub tokens: u64,
}

impl Sample {
    /// The function's name.
    pub fn name(self) -> String {
        format!("{MAIN}_{}_{}", self.context, self.tokens)
    }

    /// What a name says, if it is one of these.
    pub fn parse(name: &str) -> Option<Self> {
        let (context, tokens) = name.strip_prefix(MAIN)?.strip_prefix('_')?.split_once('_')?;
        Some(Self { context: number(context)?, tokens: number(tokens)? })
    }
}

/// Whether a state of a package is the cache `name` of so many positions: it is called so, or, for a
/// context that is not the model's, with the context behind it.
pub fn is_cache(state: &str, name: &str, positions: u64) -> bool {
    match state.strip_prefix(name) {
        Some("") => true,
        Some(rest) => rest.strip_prefix('_').and_then(number) == Some(positions),
        None => false,
    }
}

/// A number as these names write it: from 1, without zeros before it.
fn number(text: &str) -> Option<u64> {
    let number: u64 = text.parse().ok()?;
    (number > 0 && number.to_string() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caches_of_smaller_contexts_are_named_after_them() {
        assert!(
            is_cache("key_cache", "key_cache", 512) && is_cache("key_cache_512", "key_cache", 512)
        );
        for other in ["key_cache_256", "key_cache_", "key_cache512", "value_cache", "cache"] {
            assert!(!is_cache(other, "key_cache", 512), "{other}");
        }
    }

    #[test]
    fn samples_are_named_by_their_sizes() {
        let sample = Sample { context: 512, tokens: 64 };
        assert_eq!(sample.name(), "main_512_64");
        assert_eq!(Sample::parse("main_512_64"), Some(sample));
        for other in ["main", "main_512", "main_512_64_1", "main_0_1", "main_512_064", "x_512_64"] {
            assert_eq!(Sample::parse(other), None, "{other}");
        }
    }

    #[test]
    fn names_say_what_functions_do() {
        for role in [
            Role::Gather { tokens: 8 },
            Role::Extend { context: 512, tokens: 1 },
            Role::Prompt { context: 2048, tokens: 64 },
        ] {
            assert_eq!(Role::parse(&role.name()), Some(role));
        }
        assert_eq!(Role::Prompt { context: 512, tokens: 64 }.name(), "prompt_opt_512_64");
        for other in [
            "",
            "infer",
            "extend",
            "extend_8",
            "extend_512_0",
            "extend_512_08",
            "x_512_8",
            "gather_embeddings_-1",
        ] {
            assert_eq!(Role::parse(other), None, "{other}");
        }
    }
}
