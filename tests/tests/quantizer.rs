//! A throw-away quantizer goes through the whole pipeline: its plan, a transform that keeps the
//! model's function, and an encoding of which the host knows nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_arch_llama as _;
use anemll_combiner_chunked as _;
use anemll_combiner_monolithic as _;
use anemll_compiler_coremlcompiler as _;
use anemll_host::cli::{Cli, Command};
use anemll_host::plugins::Plugins;
use anemll_plugin_api::data::{
    Axis, Decision, Encoded, EncodedArgument, Plan, PlanRequest, Transform,
};
use anemll_plugin_api::{
    DType, Error, Host, Plugin, Quantizer, Result, Sink, TensorView, Value, codes,
};
use anemll_runtime_cpu as _;
use anemll_tests::{evaluate, golden, model};
use clap::Parser as _;
use half::f16;
use std::collections::BTreeMap;

/// 8-bit integers with one scale for each output row.
struct RowScaled;

impl Quantizer for RowScaled {
    fn plan(&self, request: &PlanRequest<'_>, _: &Host) -> Result<Plan> {
        assert!(!request.programs.is_empty(), "the plan sees the programs");
        if request.options["break"] == "plan" {
            let decision = Decision { encode: true, parameters: Value::Null, note: None };
            return Ok(Plan {
                decisions: BTreeMap::from([("no such weight".to_owned(), decision)]),
                transforms: Vec::new(),
            });
        }
        let mut plan = Plan::default();
        for weight in &request.weights {
            if weight.shape.len() < 2 || weight.role == "embedding" {
                continue;
            }
            let parameters = serde_json::json!({ "break": request.options["break"] });
            let note = Some("8 bits".to_owned());
            plan.decisions.insert(weight.id.clone(), Decision { encode: true, parameters, note });
            // silu(gate) * up is linear in up: twice up and half down is the same model.
            let (axis, factor) = match weight.role.as_str() {
                "mlp.up" => (Axis::Rows, 2.0),
                "mlp.down" => (Axis::Columns, 0.5),
                _ => continue,
            };
            let count = match axis {
                Axis::Rows => weight.shape[0],
                Axis::Columns => weight.shape[1],
            };
            let factors = vec![factor; count as usize];
            plan.transforms.push(Transform { weight: weight.id.clone(), axis, factors });
        }
        Ok(plan)
    }

    fn encode(
        &self,
        tensor: TensorView<'_>,
        decision: &Value,
        _: Option<TensorView<'_>>,
        sink: &mut dyn Sink,
        _: &Host,
    ) -> Result<Encoded> {
        if decision["break"] == "panic" {
            panic!("the quantizer's own mistake");
        }
        let values: Vec<f32> = tensor
            .bytes()
            .chunks_exact(2)
            .map(|bytes| f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
            .collect();
        let rows = tensor.shape()[0] as usize;
        let columns = values.len() / rows;
        let mut data = Vec::new();
        let mut scales = Vec::new();
        for row in values.chunks_exact(columns) {
            let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let scale = f16::from_f32((largest / 127.0).max(1e-4));
            scales.extend(scale.to_le_bytes());
            data.extend(row.iter().map(|value| (value / scale.to_f32()).round() as i8 as u8));
        }
        let mut scale_shape = vec![1; tensor.shape().len()];
        scale_shape[0] = rows as u64;
        let data = sink.tensor("data", DType::INT8, tensor.shape(), &data)?;
        let scale = sink.tensor("scale", DType::FLOAT16, &scale_shape, &scales)?;
        let argument = |dtype: DType, shape: &[u64], blob| EncodedArgument {
            dtype: dtype.name().to_owned(),
            shape: shape.to_vec(),
            blob,
        };
        let data_type = if decision["break"] == "type" { DType::UINT8 } else { DType::INT8 };
        Ok(Encoded {
            op: "constexpr_blockwise_shift_scale".to_owned(),
            arguments: BTreeMap::from([
                ("data".to_owned(), argument(data_type, tensor.shape(), data)),
                ("scale".to_owned(), argument(DType::FLOAT16, &scale_shape, scale)),
            ]),
            error: None,
        })
    }
}

struct TestPlugin;

impl Plugin for TestPlugin {
    const MANIFEST: &'static str = r#"{
        "name": "row-scaled", "version": "0.0.0", "abi": 1, "license": "MIT", "homepage": "",
        "components": [{
            "stage": "quantizer", "id": "row-scaled", "summary": "for this test",
            "options": { "break": { "type": "string", "help": "what to do wrong" } }
        }]
    }"#;

    fn quantizer(id: &str, _: &Value) -> Result<Box<dyn Quantizer>> {
        match id {
            "row-scaled" => Ok(Box::new(RowScaled)),
            _ => Err(Error::new(codes::PLUGIN_NO_SUCH_COMPONENT, id.to_owned())),
        }
    }
}

anemll_plugin_api::register_builtin!(TestPlugin);

fn convert(output: &std::path::Path, options: &[&str]) -> Result<()> {
    let model = model("tiny-llama");
    let mut arguments =
        vec!["anemll", "convert", "--context", "320", "--batch", "32", "--combiner", "chunked"];
    arguments.extend(["--model", model.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    arguments.extend(["--quantizer", "row-scaled"]);
    arguments.extend(options);
    let cli = Cli::try_parse_from(arguments).unwrap();
    let Command::Convert(arguments) = &cli.command else { panic!("convert was typed") };
    let plugins = Plugins::discover(&[])?;
    anemll_host::convert::run(arguments, &plugins, "anemll convert", &|_| {})
}

#[test]
fn encoded_weights_replace_constants_and_the_model_stays_the_same() {
    let output = tempfile::tempdir().unwrap();
    convert(output.path(), &[]).unwrap();
    let result = evaluate(output.path(), &golden("tiny-llama"), "logits.npy", &[]);
    let cosine = result["cosine_min"].as_f64().unwrap();
    assert!(cosine > 0.99, "8 bits keep the logits: {cosine}");
    assert!(result["max_abs_error"].as_f64().unwrap() > 0.0);
    let report = std::fs::read_to_string(output.path().join("anemll-report.json")).unwrap();
    let report: Value = serde_json::from_str(&report).unwrap();
    let weights: Vec<&Value> = report["weight_files"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|file| file["weights"].as_array().unwrap())
        .collect();
    for weight in weights {
        let matrix = weight["shape"].as_array().unwrap().len() > 1 && weight["role"] != "embedding";
        let expected = if matrix { "constexpr_blockwise_shift_scale" } else { "const" };
        assert_eq!(weight["operation"], expected, "{weight}");
    }
}

#[test]
fn a_quantizer_that_answers_wrongly_is_refused() {
    for (option, code) in [
        ("break=plan", codes::PLUGIN_BAD_ANSWER),
        ("break=type", codes::PLUGIN_BAD_ANSWER),
        ("break=panic", codes::PLUGIN_PANICKED),
    ] {
        let output = tempfile::tempdir().unwrap();
        let target = output.path().join("out");
        let error = convert(&target, &["--quantizer-option", option]).unwrap_err();
        assert_eq!(error.code, code, "{option}: {error}");
        assert!(!target.exists(), "{option}: nothing is left behind");
    }
}
