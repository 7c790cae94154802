//! The quantizer of a conversion, what it is given, and its plan.

use super::references::{Item, Weight};
use super::statistics::Statistics;
use anemll_huggingface::ModelDirectory;
use anemll_plugin_api::data::{Plan, PlanRequest, WeightInfo};
use anemll_plugin_api::{Error, Host, Quantizer, Result, codes};
use coreml_proto::Model;
use std::path::Path;

/// A quantizer and the statistics that it is given.
pub(super) struct Quantization {
    /// Its id.
    pub(super) id: String,
    /// The plugin.
    pub(super) quantizer: Box<dyn Quantizer>,
    /// Statistics of the weights' inputs, if the user gave any.
    pub(super) statistics: Option<Statistics>,
}

/// Gives a conversion's quantizer the statistics of the file, if one was named. Without a directory
/// of weights, the names in it are not checked.
///
/// # Errors
/// There is no quantizer to use them, or the file cannot be used.
pub(super) fn attach(
    quantization: Option<Quantization>,
    path: Option<&Path>,
    directory: Option<&ModelDirectory>,
) -> Result<Option<Quantization>> {
    match (quantization, path) {
        (Some(quantization), Some(path)) => {
            let statistics = Some(Statistics::read(path, directory)?);
            Ok(Some(Quantization { statistics, ..quantization }))
        }
        (None, Some(_)) => Err(Error::new(codes::USAGE, "--statistics needs a quantizer")
            .with_hint("give bits with --lut, or a quantizer with --quantizer")),
        (quantization, None) => Ok(quantization),
    }
}

impl Quantization {
    /// sha256 of the statistics file in hexadecimal: other statistics make another conversion.
    pub(super) fn statistics_sha256(&self) -> Option<&str> {
        self.statistics.as_ref().map(Statistics::sha256)
    }

    /// What is to happen to the weights of some functions.
    ///
    /// # Errors
    /// Those of the quantizer, statistics that do not suit, and answers that make no sense.
    pub(super) fn plan(
        &self,
        items: &[(String, Item)],
        functions: &[(&str, &Model)],
        host: &Host,
    ) -> Result<Plan> {
        let members: Vec<&Weight> = items
            .iter()
            .filter_map(|(_, item)| match item {
                Item::Weight(weight) => Some(&**weight),
                Item::Table { .. } => None,
            })
            .collect();
        let mut weights = Vec::new();
        let mut statistics = Vec::new();
        for weight in &members {
            let known = match &self.statistics {
                Some(statistics) => statistics.of(weight, &weight.id)?,
                None => None,
            };
            statistics.extend(known);
            weights.push(WeightInfo {
                id: weight.id.clone(),
                tensor: weight.reference.tensor.clone(),
                role: weight.reference.role.clone(),
                layer: weight.reference.layer,
                shape: weight.shape.clone(),
                functions: weight.functions.clone(),
                reads: weight.reference.reads.clone(),
                writes: weight.reference.writes.clone(),
                has_statistics: known.is_some(),
            });
        }
        let programs: Vec<Vec<u8>> =
            functions.iter().map(|(_, model)| coreml_proto::write(*model)).collect();
        let request = PlanRequest {
            weights,
            programs: programs.iter().map(Vec::as_slice).collect(),
            statistics,
        };
        let plan = self.quantizer.plan(&request, host)?;
        let known = |id: &String| request.weights.iter().any(|weight| weight.id == *id);
        let unknown = plan
            .decisions
            .keys()
            .chain(plan.transforms.iter().map(|transform| &transform.weight))
            .find(|id| !known(id));
        match unknown {
            Some(id) => Err(Error::new(
                codes::PLUGIN_BAD_ANSWER,
                format!("the quantizer's plan names the weight `{id}`, which does not exist"),
            )
            .with_hint("this is an error of the quantizer plugin")),
            None => {
                if let Some(statistics) = &self.statistics {
                    statistics.check_complete(&members, &plan)?;
                }
                Ok(plan)
            }
        }
    }
}
