//! Arch frontend for Llama models.
//!
//! The configuration is transformers' `LlamaConfig`, the graph is the shared decoder's in the form
//! that ANEMLL gives Llama: output projection as `linear`, softmax spelled out, head in 8 pieces.

mod config;

use anemll_decoder::check_input;
use anemll_plugin_api::data::{
    FunctionSpec, MatchRank, ModelDescription, ModelInput, Stage, Verdict,
};
use anemll_plugin_api::{
    ArchFrontend, Error, Host, Level, Plugin, Result, Value, codes, no_such_component,
};

use config::Llama;

/// Value of `model_type`.
const MODEL_TYPE: &str = "llama";
/// Value in `architectures`.
const ARCHITECTURE: &str = "LlamaForCausalLM";
/// What package names begin with, as the apps expect it.
const PREFIX: &str = "llama";
/// The option that says how many pieces the head has.
const SPLIT: &str = "split_lm_head";
/// Pieces when the option is not given, as the apps expect them.
const DEFAULT_SPLIT: u64 = 8;
/// Most pieces.
const LARGEST_SPLIT: u64 = 64;

/// The plugin `llama`.
pub struct LlamaPlugin;

impl Plugin for LlamaPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, options: &Value) -> Result<Box<dyn ArchFrontend>> {
        if id != MODEL_TYPE {
            return Err(no_such_component(Stage::Arch, id));
        }
        let head_pieces = head_pieces(options)?.unwrap_or(DEFAULT_SPLIT);
        Ok(Box::new(LlamaFrontend { head_pieces }))
    }
}

/// The frontend for `model_type` `llama`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LlamaFrontend {
    head_pieces: u64,
}

impl Default for LlamaFrontend {
    fn default() -> Self {
        Self { head_pieces: DEFAULT_SPLIT }
    }
}

impl LlamaFrontend {
    /// Reads the configuration and checks the tensors, if they are known.
    fn read(&self, model: &ModelInput) -> Result<Llama> {
        let pieces = head_pieces(&model.options)?.unwrap_or(self.head_pieces);
        let mut llama = config::read(model, pieces)?;
        llama.notes.extend(check_input(&llama.spec, model)?);
        Ok(llama)
    }
}

impl ArchFrontend for LlamaFrontend {
    fn accepts(&self, config_json: &str) -> Result<Verdict> {
        let config: Value = serde_json::from_str(config_json).map_err(|error| {
            Error::new(codes::CONFIG_UNREADABLE, "the configuration is not valid JSON")
                .with_at("config.json")
                .with_cause(error.to_string())
        })?;
        let has_architecture = || {
            let names = config.get("architectures").and_then(Value::as_array);
            names.is_some_and(|names| names.iter().any(|name| name.as_str() == Some(ARCHITECTURE)))
        };
        // As transformers has it, `model_type` decides; `architectures` stands in where it is absent.
        let (rank, reason) = match config.get("model_type") {
            Some(Value::String(name)) if name == MODEL_TYPE => {
                (MatchRank::ModelType, format!("`model_type` is \"{MODEL_TYPE}\""))
            }
            None | Some(Value::Null) if has_architecture() => {
                (MatchRank::Architecture, format!("`architectures` has \"{ARCHITECTURE}\""))
            }
            _ => {
                let reason = format!(
                    "`model_type` is not \"{MODEL_TYPE}\", nor is it absent with \
                     `architectures` having \"{ARCHITECTURE}\""
                );
                return Ok(Verdict { rank: MatchRank::None, reason });
            }
        };
        // One token asks for nothing that depends on the context.
        let model = ModelInput { config, context: 1, batch: 1, ..ModelInput::default() };
        self.read(&model)?;
        Ok(Verdict { rank, reason })
    }

    fn describe(&self, model: &ModelInput) -> Result<ModelDescription> {
        let llama = self.read(model)?;
        Ok(ModelDescription {
            architecture: llama.architecture,
            model_type: llama.model_type,
            default_prefix: PREFIX.to_owned(),
            max_position_embeddings: llama.max_position_embeddings,
            notes: llama.notes,
            ..llama.spec.describe()
        })
    }

    fn lower(&self, model: &ModelInput, function: &FunctionSpec, host: &Host) -> Result<Vec<u8>> {
        host.check_cancelled()?;
        let llama = self.read(model)?;
        let lowered = anemll_decoder::lower(&llama.spec, function)?;
        host.log(Level::Debug, "llama", &format!("lowered `{}`", function.id));
        Ok(coreml_proto::write(&lowered))
    }
}

/// The option `split_lm_head`, if it is given.
fn head_pieces(options: &Value) -> Result<Option<u64>> {
    match options.get(SPLIT) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64() {
            Some(pieces) if (1..=LARGEST_SPLIT).contains(&pieces) => Ok(Some(pieces)),
            _ => Err(Error::new(
                codes::PLUGIN_OPTION_INVALID,
                format!("`{SPLIT}` is {value}, not a whole number from 1 to {LARGEST_SPLIT}"),
            )
            .with_at(SPLIT)),
        },
    }
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(LlamaPlugin);
