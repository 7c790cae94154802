//! Quantizer: look-up tables with the least squared error, one per tensor or group of output
//! channels.
//!
//! A weight becomes a `constexpr_lut_to_dense` of iOS 18: an index of a few bits per element, and
//! 16-bit tables. It takes the weights that ANEMLL takes: the embedding, the matrices of attention
//! and MLP, and the head, each with options of its own. Gains of norms, biases and tables stay
//! float16.
//!
//! The component `lut-aware` writes the same forms, but chooses tables and indices by what the
//! weights do to the inputs that a calibration saw; see `aware.rs`.

mod aware;
mod encode;
mod options;
mod parts;
mod plan;
mod scale;

use anemll_plugin_api::data::{Encoded, Knowledge, Outline, Plan, PlanRequest, Scheme, Stage};
use anemll_plugin_api::no_such_component;
use anemll_plugin_api::{
    ComponentOptions, Error, Host, Plugin, Quantizer, Result, Sink, TensorView, Value, codes,
};

pub use aware::Aware;
pub use options::{Given, Lut, Options};
use parts::Parts;

/// The id of the quantizer with the least squared error of weights.
pub const ID: &str = "lut";
/// The id of the quantizer with the least error of the weights' products.
pub const AWARE_ID: &str = "lut-aware";

/// The quantizers.
#[derive(Debug, Clone, Copy, Default)]
pub struct LutQuantizer {
    options: Options,
    aware: Option<Aware>,
}

impl LutQuantizer {
    /// `lut` with these options.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, aware: None }
    }

    /// `lut-aware` with these options.
    #[must_use]
    pub fn aware(options: Options, aware: Aware) -> Self {
        Self { options, aware: Some(aware) }
    }
}

impl LutQuantizer {
    /// Whether bits are left to measures: where that is asked for, and where nothing is of a model
    /// that can be measured in a short time.
    fn is_open(&self, outline: &Outline) -> bool {
        let asked_for_nothing = self.aware.is_some() && self.options == Options::default();
        self.options.auto || (asked_for_nothing && !parts::is_large(outline))
    }
}

impl Quantizer for LutQuantizer {
    fn scheme(&self, outline: &Outline) -> Result<Scheme> {
        let statistics = self.aware.map_or(Knowledge::Nothing, |aware| aware.wants());
        let needs_statistics = self.aware.is_some_and(|aware| aware.demanded);
        let mut scheme = parts::scheme(&self.options, outline, self.is_open(outline));
        scheme.statistics = statistics;
        scheme.needs_statistics = needs_statistics;
        scheme.rotation = self.aware.filter(|aware| aware.rotate).map(|_| aware::ROTATION);
        Ok(scheme)
    }

    fn plan(&self, request: &PlanRequest<'_>, _: &Host) -> Result<Plan> {
        let parts = Parts::new(&self.options, &request.outline);
        let mut plan = plan::plan(&parts, &request.weights)?;
        if request.outline.choices && self.is_open(&request.outline) {
            plan.choices = plan::choices(&self.options, &request.weights)?;
        }
        if self.aware.is_some_and(|aware| aware.method.is_some() && aware.damping.is_none()) {
            damp(&mut plan, request);
        }
        Ok(plan)
    }

    fn encode(
        &self,
        tensor: TensorView<'_>,
        parameters: &Value,
        statistics: Option<TensorView<'_>>,
        sink: &mut dyn Sink,
        host: &Host,
    ) -> Result<Encoded> {
        encode::encode(tensor, parameters, statistics, self.aware.as_ref(), sink, host)
    }
}

/// Says in every decision how far mean products are to be trusted, where it is known of how many tokens
/// they are. Mean squares are not damped, whatever the decision says.
fn damp(plan: &mut Plan, request: &PlanRequest<'_>) {
    let tokens = request.outline.tokens;
    if tokens == 0 {
        return;
    }
    for weight in request.weights.iter().filter(|weight| weight.has_statistics) {
        let inputs = weight.shape.iter().skip(1).product();
        let choices = plan.choices.get_mut(&weight.id).into_iter().flatten();
        for decision in choices.chain(plan.decisions.get_mut(&weight.id)) {
            if decision.encoding.is_some() {
                decision.parameters["damping"] = aware::damping(inputs, tokens).into();
            }
        }
    }
}

/// The plugin with this quantizer.
#[derive(Debug, Clone, Copy, Default)]
pub struct LutPlugin;

impl Plugin for LutPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn quantizer(id: &str, options: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        match id {
            ID => Ok(Box::new(LutQuantizer::new(Options::parse(options)?))),
            AWARE_ID => {
                let (options, aware) = (Options::parse(options)?, Aware::parse(options)?);
                // Without being asked, vectors do with the errors passed on.
                let turns = aware.demanded && aware.method.is_some_and(|method| method.rounds > 0);
                if turns && options.have_vectors() {
                    return Err(Error::new(
                        codes::PLUGIN_OPTION_INVALID,
                        "`vector` cannot be combined with the method `lnq`",
                    )
                    .with_at("method")
                    .with_hint("take the method gptq, or BITS,scale"));
                }
                Ok(Box::new(LutQuantizer::aware(options, aware)))
            }
            _ => Err(no_such_component(Stage::Quantizer, id)),
        }
    }
}

#[cfg(feature = "builtin")]
anemll_plugin_api::register_builtin!(LutPlugin);
