//! A combiner as strangers write it: two layers a package, with names of its own for packages and
//! functions. The host knows nothing of it; tests open it as a library.

use anemll_plugin_api::data::{
    CombineOptions, FunctionSpec, LayerRange, Layout, LayoutRequest, ModelDescription,
    NamedFunction, PackageFunction, PackageKind, PackageSpec, Purpose, RunOrder, RunStep, Stage,
    Step, WeightFile,
};
use anemll_plugin_api::{
    Combiner, ComponentOptions, Host, Plugin, Result, export_plugin, no_such_component,
};
use std::collections::BTreeMap;

struct Pairs;

/// One token, a batch into the state, a batch to all logits: id and purpose.
const PURPOSES: [(&str, Purpose); 3] =
    [("step", Purpose::Infer), ("fill", Purpose::Prefill), ("check", Purpose::Evaluate)];

impl Combiner for Pairs {
    fn layout(&self, model: &ModelDescription, request: &LayoutRequest) -> Result<Layout> {
        let prefix = request.prefix.as_ref().unwrap_or(&model.default_prefix);
        let bits = request
            .labels
            .get("bits.layers")
            .map_or_else(String::new, |bits| format!("-{bits}bit"));
        let names = Names { prefix, bits: &bits, request };
        let mut layout = Layout {
            combiner: "pairs".to_owned(),
            prefix: prefix.clone(),
            steps: ["ends", "pairs", "join"].iter().zip(1..).map(step).collect(),
            run: RunOrder {
                feeds: BTreeMap::from([(
                    "output_hidden_states".to_owned(),
                    "hidden_states".to_owned(),
                )]),
                ..RunOrder::default()
            },
            ..Layout::default()
        };
        let start = names.package("start", PackageKind::Part, 1, &[("main", "start")]);
        let end = names.package("end", PackageKind::Part, 1, &[("main", "end")]);
        let end_check =
            names.package("end-check", PackageKind::Evaluate, 0, &[("main", "end-check")]);
        layout.functions = vec![
            function("start", None, Purpose::Infer, true),
            function("end", None, Purpose::Infer, false),
            function("end-check", None, Purpose::Evaluate, false),
        ];
        layout.weight_files = vec![file("start", &["start"]), file("end", &["end", "end-check"])];
        layout.run.infer.push(call(&start, "main"));
        layout.run.prefill.push(call(&start, "main"));
        layout.run.evaluate.push(call(&start, "main"));
        let mut joined = Vec::new();
        for first in (0..model.layers).step_by(2) {
            let pair = format!("pair{}", first / 2);
            let layers = LayerRange { first, end: model.layers.min(first + 2) };
            let ids = PURPOSES.map(|(name, _)| format!("{pair}-{name}"));
            for (id, (name, purpose)) in ids.iter().zip(PURPOSES) {
                layout.functions.push(function(id, Some(layers), purpose, false));
                if purpose != Purpose::Evaluate {
                    let stem = format!("{pair}-{name}");
                    let part = names.package(&stem, PackageKind::Part, 2, &[("main", id)]);
                    layout.packages.push(PackageSpec { weight_file: pair.clone(), ..part });
                }
            }
            layout.weight_files.push(file(&pair, &[&ids[0], &ids[1], &ids[2]]));
            let both = [("step", ids[0].as_str()), ("fill", ids[1].as_str())];
            let both = names.package(&pair, PackageKind::Combined, 3, &both);
            let check = [("main", ids[2].as_str())];
            let check = names.package(&format!("{pair}-check"), PackageKind::Evaluate, 0, &check);
            let check = PackageSpec { weight_file: pair.clone(), ..check };
            layout.run.infer.push(call(&both, "step"));
            layout.run.prefill.push(call(&both, "fill"));
            layout.run.evaluate.push(call(&check, "main"));
            joined.extend([both, check]);
        }
        layout.run.infer.push(call(&end, "main"));
        layout.run.evaluate.push(call(&end_check, "main"));
        let end_check = PackageSpec { weight_file: "end".to_owned(), ..end_check };
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
    bits: &'a str,
    request: &'a LayoutRequest,
}

impl Names<'_> {
    /// A package whose weight file has its own name; functions are given by name and id.
    fn package(
        &self,
        name: &str,
        kind: PackageKind,
        step: u32,
        functions: &[(&str, &str)],
    ) -> PackageSpec {
        let functions = functions
            .iter()
            .map(|(name, id)| PackageFunction { id: (*id).to_owned(), name: (*name).to_owned() });
        let directory = if kind == PackageKind::Evaluate { ".anemll/evaluate" } else { "" };
        PackageSpec {
            stem: format!("{}.{name}{}", self.prefix, self.bits),
            directory: directory.to_owned(),
            kind,
            step,
            weight_file: name.to_owned(),
            functions: functions.collect(),
            default_function: (kind == PackageKind::Combined).then(|| "step".to_owned()),
            short_description: name.to_owned(),
            metadata: self.request.metadata.clone(),
        }
    }
}

fn step((title, number): (&&str, u32)) -> Step {
    Step { number, title: (*title).to_owned() }
}

fn file(id: &str, functions: &[&str]) -> WeightFile {
    let functions = functions.iter().map(|function| (*function).to_owned()).collect();
    WeightFile { id: id.to_owned(), functions }
}

fn function(
    id: &str,
    layers: Option<LayerRange>,
    purpose: Purpose,
    embedding: bool,
) -> FunctionSpec {
    let head = layers.is_none() && !embedding;
    FunctionSpec { id: id.to_owned(), embedding, layers, head, purpose, argmax: false }
}

fn call(package: &PackageSpec, function: &str) -> RunStep {
    let package = match package.directory.as_str() {
        "" => package.stem.clone(),
        directory => format!("{directory}/{}", package.stem),
    };
    RunStep { package, function: function.to_owned() }
}

struct PairsPlugin;

impl Plugin for PairsPlugin {
    const MANIFEST: &'static str = r#"{
        "name": "pairs", "version": "0.0.0", "abi": 1, "license": "MIT",
        "components": [{
            "stage": "combiner", "id": "pairs", "summary": "two layers a package",
            "preference": 30
        }]
    }"#;

    fn combiner(id: &str, _: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        match id {
            "pairs" => Ok(Box::new(Pairs)),
            other => Err(no_such_component(Stage::Combiner, other)),
        }
    }
}

export_plugin!(PairsPlugin);
