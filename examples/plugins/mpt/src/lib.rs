//! Arch frontend for MPT models: decoders whose attention has no rotation, but a bias that grows with
//! distance, steeper in some heads than in others (ALiBi).
//!
//! The shared decoder does not know that, so the functions are built here, operation by operation.

mod config;
mod graph;
mod weights;

use anemll_plugin_api::data::{
    FunctionSpec, MatchRank, ModelDescription, ModelInput, Stage, StateInfo, Verdict,
};
use anemll_plugin_api::{
    ArchFrontend, ArchModel, ComponentOptions, Error, Host, Plugin, Result, Value, codes,
    no_such_component,
};

use anemll_decoder::{Refusals, STATE_NAME, split_head};
use config::Mpt;

const MODEL_TYPE: &str = "mpt";
const ARCHITECTURE: &str = "MptForCausalLM";

struct Frontend;

struct Model {
    mpt: Mpt,
    notes: Vec<String>,
}

impl ArchFrontend for Frontend {
    fn accepts(&self, config_json: &str) -> Result<Verdict> {
        let config: Value = serde_json::from_str(config_json).map_err(|error| {
            Error::new(codes::CONFIG_UNREADABLE, "the configuration is not valid JSON")
                .with_at("config.json")
                .with_source(&error)
        })?;
        let names = config["architectures"].as_array();
        let named = names.is_some_and(|names| names.iter().any(|name| name == ARCHITECTURE));
        let rank = match config["model_type"].as_str() {
            Some(MODEL_TYPE) => MatchRank::ModelType,
            None if config["model_type"].is_null() && named => MatchRank::Architecture,
            _ => return Ok(Verdict::none("it is no MPT model")),
        };
        let mut refusals = Refusals::new();
        // One token asks for nothing that depends on the context.
        Mpt::read(&ModelInput::new(config, 1, 1), &mut refusals)?;
        Ok(Verdict::new(rank, "it is an MPT model").with_refusals(refusals.into_list()))
    }

    fn open(&self, model: &ModelInput, _: &Host) -> Result<Box<dyn ArchModel>> {
        let mut refusals = Refusals::new();
        let read = Mpt::read(model, &mut refusals)?;
        match (refusals.to_error(), read) {
            (Some(refused), _) => Err(refused),
            (None, Some((mpt, notes))) => {
                mpt.check_tensors(&model.tensors)?;
                Ok(Box::new(Model { mpt, notes }))
            }
            (None, None) => Err(Error::new(codes::INTERNAL, "neither read nor refused")),
        }
    }
}

impl ArchModel for Model {
    fn describe(&self) -> ModelDescription {
        let mpt = &self.mpt;
        ModelDescription::default()
            .with_architecture(ARCHITECTURE)
            .with_model_type(MODEL_TYPE)
            .with_default_prefix(MODEL_TYPE)
            .with_layers(mpt.layers)
            .with_hidden_size(mpt.width)
            .with_vocabulary_size(mpt.vocabulary)
            .with_attention_heads(mpt.heads)
            .with_key_value_heads(mpt.heads)
            .with_head_dimension(mpt.head_width())
            .with_max_position_embeddings(mpt.longest)
            .with_context(mpt.context)
            .with_batch(mpt.batch)
            .with_parameters(mpt.parameters())
            .with_tied_embeddings(true)
            .with_head_splits(split_head(mpt.vocabulary, config::HEAD_PIECES))
            .with_states(vec![StateInfo::new(STATE_NAME, mpt.state_shape())])
            .with_notes(self.notes.clone())
    }

    fn lower(&self, function: &FunctionSpec, host: &Host) -> Result<Vec<u8>> {
        host.check_cancelled()?;
        Ok(coreml_proto::write(&graph::lower(&self.mpt, function)?))
    }
}

/// The plugin `mpt`.
pub struct MptPlugin;

impl Plugin for MptPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn arch_frontend(id: &str, _: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        match id {
            "mpt" => Ok(Box::new(Frontend)),
            _ => Err(no_such_component(Stage::Arch, id)),
        }
    }
}
