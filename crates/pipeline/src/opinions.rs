//! What all frontends say to a configuration.

use crate::plugins::{Entry, Plugins};
use anemll_plugin_api::data::{MatchRank, Refusal, Stage};
use anemll_plugin_api::{ComponentOptions, Error};
use serde::Serialize;

/// What one frontend says.
#[derive(Debug, Serialize)]
pub struct Opinion {
    /// Id of the frontend.
    pub id: String,
    /// `accepts`, `refuses` (it is the architecture's, but something cannot be honoured), or `no`.
    pub verdict: &'static str,
    /// Why.
    pub reason: String,
    /// What would be refused, key by key.
    pub refusals: Vec<Refused>,
}

/// Something that a frontend cannot honour.
#[derive(Debug, Serialize)]
pub struct Refused {
    /// Code of the error.
    pub code: String,
    /// What it is.
    pub message: String,
    /// Where it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        let at = Some(refusal.place());
        Self { code: refusal.code, message: refusal.message, at, hint: refusal.hint }
    }
}

/// What each frontend says to a configuration.
pub fn opinions(plugins: &Plugins, config: &str, only: Option<&str>) -> Vec<Opinion> {
    let mut opinions = Vec::new();
    for (plugin, component) in plugins.components(Stage::Arch) {
        if only.is_none_or(|id| id == component.id) {
            opinions.push(opinion(plugin, &component.id, config));
        }
    }
    opinions
}

fn opinion(plugin: &Entry, id: &str, config: &str) -> Opinion {
    let id = id.to_owned();
    let frontend = match plugin
        .open()
        .and_then(|plugin| plugin.arch_frontend(&id, &ComponentOptions::new()))
    {
        Ok(frontend) => frontend,
        Err(error) => {
            let (reason, refusals) = (error.message, Vec::new());
            return Opinion { id, verdict: "no", reason, refusals };
        }
    };
    let answer = match frontend.accepts(config) {
        Ok(answer) => answer,
        Err(error) => {
            let Error { code, message, at, hint, .. } = error;
            let reason = message.clone();
            let refusals = vec![Refused { code, message, at, hint }];
            return Opinion { id, verdict: "refuses", reason, refusals };
        }
    };
    let refusals: Vec<Refused> = answer.refusals.into_iter().map(Refused::from).collect();
    let (verdict, reason) = match refusals.first() {
        _ if answer.rank == MatchRank::None => ("no", answer.reason),
        Some(first) => ("refuses", first.message.clone()),
        None => ("accepts", answer.reason),
    };
    Opinion { id, verdict, reason, refusals }
}
