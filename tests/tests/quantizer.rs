//! A throw-away quantizer goes through the whole pipeline: its plan, with transforms that keep the
//! model's function and come from statistics, and an encoding of which the host knows nothing.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_codes as codes;
use anemll_host::cli::{Cli, Command};
use anemll_pipeline::plugins::Plugins;
use anemll_plugin_api::data::{
    Axis, Decision, Encoded, Encoding, Outline, Plan, PlanRequest, Scheme, Transform, WeightInfo,
};
use anemll_plugin_api::{
    ComponentOptions, DType, Error, Host, Plugin, Quantizer, Result, Sink, TensorView, Value,
};
use anemll_shipped as _;
use anemll_tests::{evaluate, golden, model};
use clap::Parser as _;
use half::f16;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// A tensor's shape and values.
type Matrix = (Vec<u64>, Vec<f32>);

/// What the quantizer was given by tensor name, for the one test that gives statistics.
static PLANNED: Mutex<BTreeMap<String, Matrix>> = Mutex::new(BTreeMap::new());
static ENCODED: Mutex<BTreeMap<String, Matrix>> = Mutex::new(BTreeMap::new());
static WEIGHTS: Mutex<BTreeMap<String, Matrix>> = Mutex::new(BTreeMap::new());

fn matrix(view: &TensorView<'_>) -> Matrix {
    let values = match view.dtype() {
        DType::FLOAT16 => halves(view.bytes()),
        DType::FLOAT32 => {
            let words = view.bytes().as_chunks::<4>().0;
            words.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
        }
        other => panic!("{other} is neither a weight nor a statistic"),
    };
    (view.shape().to_vec(), values)
}

fn halves(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
}

/// The mean square of each input.
fn diagonal((shape, values): &Matrix) -> Vec<f32> {
    match shape[..] {
        [_] => values.clone(),
        [size, _] => values.iter().step_by(size as usize + 1).copied().collect(),
        _ => panic!("statistics of shape {shape:?}"),
    }
}

/// 8-bit integers with one scale for each output row, which is the largest value's without
/// statistics, and the best of some with them.
struct RowScaled {
    /// What to do wrong, or null.
    broken: Value,
}

/// How much each input of `mlp.down` is made smaller, so that its large inputs lose less: powers of
/// two, which change no digit of a weight.
fn factors(statistics: Option<&Matrix>, count: u64) -> Vec<f32> {
    let Some(statistics) = statistics else { return vec![2.0; count as usize] };
    let squares = diagonal(statistics);
    let mean = squares.iter().sum::<f32>() / squares.len() as f32;
    squares.iter().map(|square| if *square > mean { 2.0 } else { 0.5 }).collect()
}

/// Integers of the weight's shape, and a scale for each row.
fn encoding(shape: &[u64]) -> Encoding {
    let mut scale = vec![1; shape.len()];
    scale[0] = shape[0];
    Encoding::new("constexpr_blockwise_shift_scale")
        .with_argument("data", DType::INT8, shape)
        .with_argument("scale", DType::FLOAT16, scale)
}

impl Quantizer for RowScaled {
    fn scheme(&self, _: &Outline) -> Result<Scheme> {
        let rotated = self.broken == "nothing, rotated" || self.broken == "rotated";
        Ok(Scheme::default().with_rotation(rotated.then_some(3)))
    }

    fn plan(&self, request: &PlanRequest<'_>, _: &Host) -> Result<Plan> {
        assert!(!request.programs.is_empty(), "the plan sees the programs");
        if self.broken == "plan" {
            let decision = Decision::default();
            return Ok(Plan::default()
                .with_decisions(BTreeMap::from([("no such weight".to_owned(), decision)])));
        }
        let mut plan = Plan::default();
        if self.broken == "nothing, rotated" {
            return Ok(plan);
        }
        let mut statistics: BTreeMap<&str, Matrix> = BTreeMap::new();
        for view in &request.statistics {
            let weight = request.weights.iter().find(|weight| weight.id == view.name()).unwrap();
            assert!(weight.has_statistics, "{weight:?}");
            statistics.insert(view.name(), matrix(view));
            PLANNED.lock().unwrap().insert(weight.tensor.clone(), matrix(view));
        }
        for weight in &request.weights {
            assert_eq!(weight.has_statistics, statistics.contains_key(&*weight.id), "{weight:?}");
            let looked_up = weight.role == "embedding";
            if weight.shape.len() < 2 || looked_up && self.broken != "scale" {
                continue;
            }
            let parameters = serde_json::json!({ "break": self.broken });
            let note = Some("8 bits".to_owned());
            let mut encoding = encoding(&weight.shape);
            if self.broken == "operation" {
                encoding.op = "constexpr_lut_to_dense".to_owned();
            }
            let encoding = Some(encoding);
            plan.decisions.insert(weight.id.clone(), {
                // Rows that are looked up are not multiplied by anything.
                let output_scale = looked_up;
                Decision::default()
                    .with_encoding(encoding)
                    .with_parameters(parameters)
                    .with_output_scale(output_scale)
                    .with_note(note)
            });
            // silu(gate) * up is linear in up: what multiplies columns of down can divide rows of up.
            if weight.role == "mlp.down" {
                let is_up =
                    |other: &&WeightInfo| other.role == "mlp.up" && other.layer == weight.layer;
                let up = request.weights.iter().find(is_up).unwrap();
                let factors = factors(statistics.get(&*weight.id), weight.shape[1]);
                let divided = factors.iter().map(|factor| 1.0 / factor).collect();
                plan.transforms.extend([
                    Transform::new(weight.id.clone(), Axis::Columns, factors),
                    Transform::new(up.id.clone(), Axis::Rows, divided),
                ]);
            }
        }
        Ok(plan)
    }

    fn encode(
        &self,
        tensor: TensorView<'_>,
        decision: &Value,
        statistics: Option<TensorView<'_>>,
        sink: &mut dyn Sink,
        _: &Host,
    ) -> Result<Encoded> {
        if decision["break"] == "panic" {
            panic!("the quantizer's own mistake");
        }
        let values = halves(tensor.bytes());
        let rows = tensor.shape()[0] as usize;
        let columns = values.len() / rows;
        let mut importance = vec![1.0; columns];
        let mut candidates = &[1.0][..];
        if let Some(statistics) = statistics {
            let name = tensor.name().to_owned();
            ENCODED.lock().unwrap().insert(name.clone(), matrix(&statistics));
            WEIGHTS.lock().unwrap().insert(name, matrix(&tensor));
            importance = diagonal(&matrix(&statistics));
            candidates = &[1.0, 0.95, 0.9, 0.8];
        }
        let mut data = Vec::new();
        let mut scales = Vec::new();
        for row in values.chunks_exact(columns) {
            let largest = row.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            let rounded = |value: &f32, scale: f16| (value / scale.to_f32()).round() as i8;
            let error = |scale: f16| -> f32 {
                let one = |(value, weight): (&f32, &f32)| {
                    let decoded = f32::from(rounded(value, scale)) * scale.to_f32();
                    weight * (value - decoded).powi(2)
                };
                row.iter().zip(&importance).map(one).sum()
            };
            let scale = |part: &f32| f16::from_f32((part * largest / 127.0).max(1e-4));
            let scales_of_row = candidates.iter().map(scale);
            let scale = scales_of_row.min_by(|a, b| error(*a).total_cmp(&error(*b))).unwrap();
            scales.extend(scale.to_le_bytes());
            data.extend(row.iter().map(|value| rounded(value, scale) as u8));
        }
        let planned = encoding(tensor.shape());
        let (data_type, shape) = (DType::INT8, &planned.arguments["scale"].shape);
        let data_type = if decision["break"] == "type" { DType::UINT8 } else { data_type };
        sink.tensor("data", data_type, tensor.shape(), &data)?;
        let name = if decision["break"] == "name" { "scales" } else { "scale" };
        sink.tensor(name, DType::FLOAT16, shape, &scales)?;
        Ok(Encoded::default())
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

    fn quantizer(id: &str, options: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        let broken = options.get("break").cloned().unwrap_or_default();
        match id {
            "row-scaled" => Ok(Box::new(RowScaled { broken })),
            _ => Err(Error::new(codes::PLUGIN_NO_SUCH_COMPONENT, id.to_owned())),
        }
    }
}

anemll_plugin_api::register_builtin!(TestPlugin);

fn convert(output: &std::path::Path, options: &[&str]) -> Result<()> {
    convert_model("tiny-llama", output, options)
}

fn convert_model(name: &str, output: &std::path::Path, options: &[&str]) -> Result<()> {
    let model = model(name);
    let mut arguments =
        vec!["anemll", "convert", "--context", "320", "--batch", "32", "--combiner", "chunked"];
    arguments.extend(["--model", model.to_str().unwrap(), "--output", output.to_str().unwrap()]);
    arguments.extend(["--quantizer", "row-scaled", "--skip-quality"]);
    arguments.extend(options);
    let cli = Cli::try_parse_from(arguments).unwrap();
    let Command::Convert(arguments) = &cli.command else { panic!("convert was typed") };
    let plugins = Plugins::discover(&[])?;
    anemll_pipeline::run(&(&**arguments).into(), &plugins, "anemll convert", &|_| {})
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

/// In another basis of the residual stream a model computes the same: tied heads and others, biases,
/// norms of heads, projections in one tensor. Where norms of what is added tell one basis from
/// another, the stream keeps its own.
#[test]
fn a_rotation_alone_changes_nothing() {
    for name in [
        "tiny-llama",
        "tiny-qwen2",
        "tiny-qwen3",
        "variants/granite",
        "variants/smollm3",
        "variants/lfm2",
        "variants/qwen3_5",
        "variants/phi3-long-factors",
        "variants/olmo2",
        "variants/gemma3",
        "variants/stablelm",
    ] {
        let output = tempfile::tempdir().unwrap();
        let options = ["--no-tokenizer", "-O", "break=nothing, rotated"];
        convert_model(name, output.path(), &options).unwrap();
        let result = evaluate(output.path(), &golden(name), "logits.npy", &[]);
        let divergence = result["kl_mean"].as_f64().unwrap();
        assert!(divergence < 1e-4, "{name}: {divergence}");
        assert!(result["max_abs_error"].as_f64().unwrap() > 0.0);
    }
}

#[test]
fn a_quantizer_that_answers_wrongly_is_refused() {
    for (option, code) in [
        ("break=plan", codes::PLUGIN_BAD_ANSWER),
        ("break=operation", codes::PLUGIN_BAD_ANSWER),
        ("break=scale", codes::PLUGIN_BAD_ANSWER),
        ("break=type", codes::PLUGIN_BAD_ANSWER),
        ("break=name", codes::PLUGIN_BAD_ANSWER),
        ("break=panic", codes::PLUGIN_PANICKED),
    ] {
        let output = tempfile::tempdir().unwrap();
        let target = output.path().join("out");
        let error = convert(&target, &["--quantizer-option", option]).unwrap_err();
        assert_eq!(error.code, code, "{option}: {error}");
        assert!(!target.exists(), "{option}: nothing is left behind");
    }
}

/// Statistics of every matrix of the model by tensor name: one in full, the others a diagonal.
fn invented_statistics() -> BTreeMap<String, Matrix> {
    let directory = anemll_huggingface::ModelDirectory::open(model("tiny-llama")).unwrap();
    let mut found = BTreeMap::new();
    for (number, (name, info)) in directory.tensors().iter().enumerate() {
        let [_, inputs] = info.shape[..] else { continue };
        let square = |index: u64| ((index * 7919 + number as u64 * 31) % 101 + 1) as f32 / 50.0;
        let full = ["o", "q"].map(|name| format!("layers.1.self_attn.{name}_proj.weight"));
        let full = full.iter().any(|full| name.ends_with(full));
        let shape = if full { vec![inputs, inputs] } else { vec![inputs] };
        let values = match full {
            false => (0..inputs).map(square).collect(),
            true => (0..inputs * inputs)
                .map(|at| if at % (inputs + 1) == 0 { square(at / inputs) } else { 0.25 })
                .collect(),
        };
        found.insert(name.clone(), (shape, values));
    }
    found
}

fn write_statistics(path: &Path, statistics: &BTreeMap<String, Matrix>) {
    use safetensors::tensor::{Dtype, TensorView};
    let bytes: Vec<Vec<u8>> = statistics
        .values()
        .map(|(_, values)| values.iter().flat_map(|value| value.to_le_bytes()).collect())
        .collect();
    let views = statistics.iter().zip(&bytes).map(|((name, (shape, _)), bytes)| {
        let shape = shape.iter().map(|size| *size as usize).collect();
        (name, TensorView::new(Dtype::F32, shape, bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, path).unwrap();
}

#[test]
fn statistics_reach_the_plan_and_the_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.safetensors");
    let statistics = invented_statistics();
    write_statistics(&path, &statistics);
    let output = folder.path().join("out");
    convert(&output, &["--calibration", path.to_str().unwrap()]).unwrap();

    // Each linear weight's: its squares for the plan, all of it for the encoding; the head's are under the name of the embedding, which it shares.
    assert!(statistics.len() > 20 && statistics.contains_key("model.embed_tokens.weight"));
    let squares: BTreeMap<String, Matrix> = statistics
        .iter()
        .map(|(name, (shape, values))| {
            (name.clone(), (shape[..1].to_vec(), diagonal(&(shape.clone(), values.clone()))))
        })
        .collect();
    assert!(*PLANNED.lock().unwrap() == squares, "the plan has other statistics");
    assert!(*ENCODED.lock().unwrap() == statistics, "the encoding has other statistics");

    // The transforms that came from them were applied: large inputs of down are halved in up.
    let directory = anemll_huggingface::ModelDirectory::open(model("tiny-llama")).unwrap();
    let original = |name: &str| {
        let tensor = directory.tensor(name).unwrap();
        let (values, _) = anemll_huggingface::to_fp16(&tensor, &Default::default()).unwrap();
        values.into_iter().map(f16::to_f32).collect::<Vec<f32>>()
    };
    let (down, up) = ("model.layers.2.mlp.down_proj.weight", "model.layers.2.mlp.up_proj.weight");
    let factors = factors(Some(&statistics[down]), 0);
    assert!(factors.contains(&2.0) && factors.contains(&0.5));
    let given = WEIGHTS.lock().unwrap();
    // The smallest step of 16-bit floats: the factors change no digit of larger ones.
    let same = |given: f32, expected: f32| (given - expected).abs() <= 2.0_f32.powi(-24);
    for (at, value) in original(down).iter().enumerate() {
        assert!(same(given[down].1[at], value * factors[at % factors.len()]), "{at}");
    }
    let columns = original(up).len() / factors.len();
    for (at, value) in original(up).iter().enumerate() {
        assert!(same(given[up].1[at], value / factors[at / columns]), "{at}");
    }

    drop(given);

    let result = evaluate(&output, &golden("tiny-llama"), "logits.npy", &[]);
    let cosine = result["cosine_min"].as_f64().unwrap();
    assert!(cosine > 0.99, "8 bits keep the logits: {cosine}");

    // Rotated weights have rotated statistics: what each row makes of its inputs is as large as it was.
    // For that they must all be mean products.
    let statistics: BTreeMap<String, Matrix> = statistics.into_iter().map(whole).collect();
    write_statistics(&path, &statistics);
    let output = folder.path().join("rotated");
    convert(&output, &["--calibration", path.to_str().unwrap(), "-O", "break=rotated"]).unwrap();
    let query = "model.layers.1.self_attn.q_proj.weight";
    let (moments, values) = (ENCODED.lock().unwrap(), WEIGHTS.lock().unwrap());
    assert!(moments[query] != statistics[query]);
    let before = powers(&original(query), &statistics[query].1);
    let after = powers(&values[query].1, &moments[query].1);
    for (before, after) in before.iter().zip(&after) {
        assert!((before - after).abs() < 1e-3 * before.abs(), "{before} {after}");
    }
    let output_weight = "model.layers.1.self_attn.o_proj.weight";
    assert!(moments[output_weight] == statistics[output_weight], "its input is not rotated");
    // Channels of the MLP are sorted by the sizes of the gate's rows, and what reads them with them.
    let gate = &values["model.layers.2.mlp.gate_proj.weight"];
    let columns = gate.0[1] as usize;
    let size = |row: &[f32]| row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>();
    let sizes: Vec<f64> = gate.1.chunks_exact(columns).map(size).collect();
    assert!(sizes.windows(2).all(|pair| pair[0] < 1.002 * pair[1]), "{sizes:?}");
    assert!(sizes[0] < 0.9 * sizes[sizes.len() - 1]);
    let sorted = |matrix: &Matrix| {
        let mut diagonal = diagonal(matrix);
        diagonal.sort_by(f32::total_cmp);
        diagonal
    };
    assert!(moments[down] != statistics[down]);
    assert_eq!(sorted(&moments[down]), sorted(&statistics[down]));
    drop((moments, values));
    let result = evaluate(&output, &golden("tiny-llama"), "logits.npy", &[]);
    let cosine = result["cosine_min"].as_f64().unwrap();
    assert!(cosine > 0.99, "8 bits keep the logits: {cosine}");
}

/// Mean products of inputs that have nothing to do with each other, where only squares are given.
fn whole((name, (shape, values)): (String, Matrix)) -> (String, Matrix) {
    let [size] = shape[..] else { return (name, (shape, values)) };
    let mut full = vec![0.0; values.len() * values.len()];
    full.iter_mut().step_by(values.len() + 1).zip(values).for_each(|(full, value)| *full = value);
    (name, (vec![size, size], full))
}

/// The mean squares of what the rows of a matrix make of inputs with these mean products.
fn powers(values: &[f32], moments: &[f32]) -> Vec<f64> {
    let size = moments.len().isqrt();
    let power = |row: &[f32]| -> f64 {
        (0..size * size)
            .map(|at| {
                let (a, b) = (row[at / size], row[at % size]);
                f64::from(a) * f64::from(b) * f64::from(moments[at])
            })
            .sum()
    };
    values.chunks_exact(size).map(power).collect()
}

#[test]
fn statistics_that_do_not_suit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("statistics.safetensors");
    let name = "model.layers.1.mlp.down_proj.weight";
    type Spoil = fn(&mut BTreeMap<String, Matrix>, &str);
    let cases: [(Spoil, &str); 6] = [
        (
            |all, name| drop(all.remove(name)),
            "have no tensor `model.layers.1.mlp.down_proj.weight`",
        ),
        (|all, name| all.get_mut(name).unwrap().1[5] = f32::NAN, "have the value NaN at 5"),
        (|all, name| all.get_mut(name).unwrap().1[0] = f32::INFINITY, "have the value inf at 0"),
        (|all, name| drop(all.insert(name.into(), (vec![3], vec![1.0; 3]))), "have the shape [3]"),
        (
            |all, name| {
                let (shape, values) = all[name].clone();
                all.insert(name.into(), (vec![1, shape[0]], values));
            },
            "have the shape [1, ",
        ),
        (
            |all, _| drop(all.insert("other".into(), (vec![1], vec![1.0]))),
            "`other`, which is not a weight of this model",
        ),
    ];
    let refused = |path: &PathBuf, quantizer: &[&str]| {
        let target = folder.path().join("out");
        let error =
            convert(&target, &[&["--calibration", path.to_str().unwrap()], quantizer].concat());
        assert!(!target.exists(), "nothing is left behind");
        let error = error.unwrap_err();
        assert_eq!(error.code, codes::STATISTICS_INVALID, "{error}");
        assert_eq!(error.at.as_deref(), path.to_str(), "{error}");
        error.message
    };
    for (spoil, text) in cases {
        let mut statistics = invented_statistics();
        spoil(&mut statistics, name);
        write_statistics(&path, &statistics);
        let message = refused(&path, &[]);
        assert!(message.contains(text), "{message}");
    }
    write_statistics(&path, &invented_statistics());
    let whole = std::fs::read(&path).unwrap();
    for contents in [&b""[..], b"no tensors", &whole[..whole.len() - 1], &whole[..20], &[0xff; 64]]
    {
        std::fs::write(&path, contents).unwrap();
        refused(&path, &[]);
    }
    // Sixteen-bit floats cannot hold squares.
    let halves = safetensors::tensor::TensorView::new(safetensors::Dtype::F16, vec![1], &[0; 2]);
    safetensors::serialize_to_file([(name, halves.unwrap())], None, &path).unwrap();
    assert!(refused(&path, &[]).contains("are F16, not F32"));
    refused(&folder.path().join("missing"), &[]);
    refused(&folder.path().to_owned(), &[]);
}
