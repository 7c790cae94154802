//! Combiner: two layers a package, with names of its own for packages and functions.

use anemll_plugin_api::data::{
    CombineOptions, FunctionSpec, LayerRange, Layout, LayoutRequest, ModelDescription,
    NamedFunction, PackageKind, PackageSpec, Purpose, RunOrder, Stage, WeightFile,
};
use anemll_plugin_api::{Combiner, ComponentOptions, Host, Plugin, Result, no_such_component};

struct Pairs;

/// The steps that make packages, as `--restart` and `--only` count them.
const ENDS: u32 = 1;
const PAIRS: u32 = 2;
const JOIN: u32 = 3;

impl Combiner for Pairs {
    fn layout(&self, model: &ModelDescription, request: &LayoutRequest) -> Result<Layout> {
        let prefix = request.prefix.as_ref().unwrap_or(&model.default_prefix);
        let names = Names { prefix, request };
        let mut layout = Layout::new("pairs", prefix.clone())
            .with_steps(["ends", "pairs", "join"])
            .with_run(RunOrder::default().with_feed("output_hidden_states", "hidden_states"));
        layout.functions = vec![
            FunctionSpec::new("start", Purpose::Infer).with_embedding(true),
            FunctionSpec::new("end", Purpose::Infer).with_head(true),
            FunctionSpec::new("end-check", Purpose::Evaluate).with_head(true),
        ];
        layout.weight_files =
            vec![WeightFile::new("start", ["start"]), WeightFile::new("end", ["end", "end-check"])];
        let start = names.part("start", "start", ENDS).with_function("start", "main");
        let end = names.part("end", "end", ENDS).with_function("end", "main");
        let end_check = names.check("end-check", "end").with_function("end-check", "main");
        for calls in [&mut layout.run.infer, &mut layout.run.prefill, &mut layout.run.evaluate] {
            calls.push(start.call("main"));
        }
        let mut joined = Vec::new();
        for first in (0..model.layers).step_by(2) {
            let pair = format!("pair{}", first / 2);
            let layers = LayerRange::new(first, model.layers.min(first + 2));
            // One token, a batch into the state, a batch to all logits.
            let [step, fill, check] =
                ["step", "fill", "check"].map(|name| format!("{pair}-{name}"));
            layout.functions.extend([
                FunctionSpec::new(&step, Purpose::Infer).with_layers(layers),
                FunctionSpec::new(&fill, Purpose::Prefill).with_layers(layers),
                FunctionSpec::new(&check, Purpose::Evaluate).with_layers(layers),
            ]);
            layout.weight_files.push(WeightFile::new(&pair, [&step, &fill, &check]));
            for id in [&step, &fill] {
                layout.packages.push(names.part(id, &pair, PAIRS).with_function(id, "main"));
            }
            let both = names
                .package(&pair, PackageKind::Combined, JOIN, &pair)
                .with_function(&step, "step")
                .with_function(&fill, "fill")
                .with_default_function("step");
            let alone = names.check(&check, &pair).with_function(&check, "main");
            layout.run.infer.push(both.call("step"));
            layout.run.prefill.push(both.call("fill"));
            layout.run.evaluate.push(alone.call("main"));
            joined.extend([both, alone]);
        }
        layout.run.infer.push(end.call("main"));
        layout.run.evaluate.push(end_check.call("main"));
        layout.packages.extend([start, end, end_check]);
        layout.packages.extend(joined);
        Ok(layout)
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

/// How packages are named.
struct Names<'a> {
    prefix: &'a str,
    request: &'a LayoutRequest,
}

impl Names<'_> {
    /// A package without functions; its name says how many bits the weights of layers have.
    fn package(&self, name: &str, kind: PackageKind, step: u32, weight_file: &str) -> PackageSpec {
        let bits = self.request.labels.get("bits.layers");
        let bits = bits.map_or_else(String::new, |bits| format!("-{bits}bit"));
        PackageSpec::new(format!("{}.{name}{bits}", self.prefix), kind, step, weight_file)
            .with_short_description(name)
            .with_metadata(self.request.metadata.clone())
    }

    fn part(&self, name: &str, weight_file: &str, step: u32) -> PackageSpec {
        self.package(name, PackageKind::Part, step, weight_file)
    }

    /// A package for evaluation, which the host's test makes.
    fn check(&self, name: &str, weight_file: &str) -> PackageSpec {
        self.package(name, PackageKind::Evaluate, 0, weight_file).with_directory(".anemll/evaluate")
    }
}

/// The plugin `pairs`.
pub struct PairsPlugin;

impl Plugin for PairsPlugin {
    const MANIFEST: &'static str = include_str!("../anemll-plugin.json");

    fn combiner(id: &str, _: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        match id {
            "pairs" => Ok(Box::new(Pairs)),
            other => Err(no_such_component(Stage::Combiner, other)),
        }
    }
}
