//! Combiner: the whole model in one package, with the functions `one`, for a token at a time, and
//! `many`, for batches into the state.

use anemll_plugin_api::data::{
    CombineOptions, FunctionSpec, LayerRange, Layout, LayoutRequest, ModelDescription,
    NamedFunction, PackageKind, PackageSpec, Purpose, RunOrder, Stage, WeightFile,
};
use anemll_plugin_api::{Combiner, ComponentOptions, Host, Plugin, Result, no_such_component};

struct MyPlugin;

/// The steps that make packages, as `--restart` counts them.
const PARTS: u32 = 1;
const JOIN: u32 = 2;

/// The id of the only weight file.
const WEIGHTS: &str = "weights";

impl Combiner for MyPlugin {
    fn layout(&self, model: &ModelDescription, request: &LayoutRequest) -> Result<Layout> {
        let prefix = request.prefix.as_ref().unwrap_or(&model.default_prefix);
        let package = |name: &str, kind: PackageKind, step: u32| {
            PackageSpec::new(format!("{prefix}-{name}"), kind, step, WEIGHTS)
                .with_short_description(format!("{}, {name}", model.architecture))
                .with_metadata(request.metadata.clone())
        };
        let function = |id: &str, purpose: Purpose| {
            FunctionSpec::new(id, purpose)
                .with_embedding(true)
                .with_layers(LayerRange::new(0, model.layers))
                .with_head(purpose != Purpose::Prefill)
        };
        let one = package("one", PackageKind::Part, PARTS).with_function("one", "main");
        let many = package("many", PackageKind::Part, PARTS).with_function("many", "main");
        let both = package("model", PackageKind::Combined, JOIN)
            .with_function("one", "one")
            .with_function("many", "many")
            .with_default_function("one");
        // What the host's test runs, to compare the logits of all tokens.
        let check = package("check", PackageKind::Evaluate, 0)
            .with_directory(".anemll/evaluate")
            .with_function("check", "main");
        let run = RunOrder::default()
            .with_infer(vec![both.call("one")])
            .with_prefill(vec![both.call("many")])
            .with_evaluate(vec![check.call("main")]);
        Ok(Layout::new("my-plugin", prefix.clone())
            .with_steps(["parts", "join"])
            .with_functions(vec![
                function("one", Purpose::Infer),
                function("many", Purpose::Prefill),
                function("check", Purpose::Evaluate),
            ])
            .with_weight_files(vec![WeightFile::new(WEIGHTS, ["one", "many", "check"])])
            .with_packages(vec![one, many, both, check])
            .with_run(run))
    }

    fn combine(
        &self,
        functions: &[NamedFunction<'_>],
        options: &CombineOptions,
        host: &Host,
    ) -> Result<Vec<u8>> {
        anemll_layout::combine(functions, options, host)
    }
}

/// The plugin `my-plugin`.
pub struct MyPluginPlugin;

impl Plugin for MyPluginPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn combiner(id: &str, _: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        match id {
            "my-plugin" => Ok(Box::new(MyPlugin)),
            _ => Err(no_such_component(Stage::Combiner, id)),
        }
    }
}
