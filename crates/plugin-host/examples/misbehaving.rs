//! A plugin library that does what its caller asks for, good or bad: a component of each stage, with
//! the option `misdeed`. `tests/dynamic.rs` loads it, and tests of the program do.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anemll_plugin_api::data::*;
use anemll_plugin_api::*;

/// What a component was asked to do.
#[derive(Clone)]
struct Misdeed(String);

impl Misdeed {
    fn of(options: &ComponentOptions) -> Self {
        Self(options.string("misdeed").ok().flatten().unwrap_or_default().to_owned())
    }

    fn is(&self, text: &str) -> bool {
        self.0 == text
    }

    /// Does it, if it is to be done in this entry: `panic in lower`, say.
    fn act(&self, entry: &str) -> Result<()> {
        match self.0.strip_suffix(entry) {
            Some("panic in ") => panic!("boom in {entry}"),
            Some("fail in ") => Err(endless()),
            Some("stay in ") => {
                let _ = std::io::stderr().write_all(b"staying\n");
                loop {
                    std::thread::sleep(std::time::Duration::from_secs(60));
                }
            }
            Some("print in ") => {
                // Not `print`: what it does is up to the test's own harness.
                let mut output = std::io::stdout();
                let _ = output.write_all(b"\x1b]0;evil\x07printed\nand \x1b[2Jmore");
                let _ = output.flush();
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

/// An error with no end, which would drive a terminal.
fn endless() -> Error {
    let mut error = Error::new("no code", "x\u{1b}]0;evil\u{7}\n".repeat(100_000));
    error.at = Some("\u{1b}[2J".repeat(1000));
    error.hint = Some("z\r".repeat(100_000));
    error.causes = vec!["y\u{9b}2J".repeat(1_000); 1_000];
    error
}

struct Arch(Misdeed);

impl ArchFrontend for Arch {
    fn accepts(&self, config_json: &str) -> Result<Verdict> {
        self.0.act("accepts")?;
        match config_json {
            text if text.contains("panic") => panic!("boom in a library"),
            "index" => {
                let empty: [u8; 0] = std::hint::black_box([]);
                Ok(Verdict::none(empty[config_json.len()].to_string()))
            }
            _ => Ok(Verdict::none("another model")),
        }
    }

    fn open(&self, model: &ModelInput, _: &Host) -> Result<Box<dyn ArchModel>> {
        self.0.act("open")?;
        Ok(Box::new(Model { misdeed: self.0.clone(), context: model.context, batch: model.batch }))
    }
}

struct Model {
    misdeed: Misdeed,
    context: u64,
    batch: u64,
}

impl ArchModel for Model {
    fn describe(&self) -> ModelDescription {
        let _ = self.misdeed.act("describe");
        let name = if self.misdeed.is("control characters") { "\u{1b}]0;evil\u{7}" } else { "bad" };
        ModelDescription::default()
            .with_architecture(name)
            .with_model_type(name)
            .with_default_prefix(name)
            .with_layers(1)
            .with_hidden_size(8)
            .with_vocabulary_size(16)
            .with_attention_heads(1)
            .with_key_value_heads(1)
            .with_head_dimension(8)
            .with_max_position_embeddings(self.context)
            .with_context(self.context)
            .with_batch(self.batch)
            .with_parameters(100)
            .with_head_splits([16])
            .with_states(vec![StateInfo::new("state", [2, 1, self.context, 8])])
    }

    fn lower(&self, function: &FunctionSpec, host: &Host) -> Result<Vec<u8>> {
        self.misdeed.act("lower")?;
        host.log(Level::Info, "misbehaving", "hello from a library");
        host.parallel(10, &|index| match function.id.as_str() {
            "panic" => panic!("boom in call {index}"),
            _ => host.progress("work", index as u64, 10),
        })?;
        // That this is no model is a misdeed, too.
        Ok(function.id.clone().into_bytes())
    }
}

struct Bytes(Misdeed);

impl Quantizer for Bytes {
    fn scheme(&self, _: &Outline) -> Result<Scheme> {
        self.0.act("scheme")?;
        let summary = if self.0.is("control characters") { "\u{1b}[2J\u{7}" } else { "bytes" };
        Ok(Scheme::default().with_summary(summary))
    }

    fn plan(&self, request: &PlanRequest<'_>, _: &Host) -> Result<Plan> {
        self.0.act("plan")?;
        let mut plan = Plan::default();
        for weight in request.weights.iter().filter(|weight| weight.shape.len() > 1) {
            let mut lut = vec![1; weight.shape.len() + 2];
            lut[weight.shape.len()] = 256;
            let operation =
                if self.0.is("wrong operation") { "add" } else { "constexpr_lut_to_dense" };
            let rows = weight.shape.iter().map(|size| match self.0.is("wrong sizes") {
                true => size.saturating_mul(u64::MAX / 3),
                false => *size,
            });
            let encoding = Encoding::new(operation)
                .with_argument("indices", DType::UINT8, rows.collect::<Vec<_>>())
                .with_argument("lut", DType::FLOAT16, lut);
            plan.decisions.insert(weight.id.clone(), Decision::default().with_encoding(encoding));
        }
        Ok(plan)
    }

    fn encode(
        &self,
        tensor: TensorView<'_>,
        _: &Value,
        _: Option<TensorView<'_>>,
        sink: &mut dyn Sink,
        _: &Host,
    ) -> Result<Encoded> {
        self.0.act("encode")?;
        let count = tensor.element_count() as usize;
        let id = sink.begin("indices", DType::UINT8, tensor.shape())?;
        match self.0.0.as_str() {
            "past the end" => sink.write(id, &vec![0; count + 1])?,
            "past the end, unnoticed" => drop(sink.write(id, &vec![0; count + 1])),
            "another tensor" => sink.write(id + 7, &[0])?,
            "too little" => sink.write(id, &[0])?,
            _ => sink.write(id, &vec![0; count])?,
        }
        let _ = sink.finish(id);
        let mut shape = vec![1; tensor.shape().len() + 2];
        shape[tensor.shape().len()] = 256;
        match self.0.0.as_str() {
            "wrong type" => drop(sink.tensor("lut", DType::FLOAT32, &shape, &[0; 1024])?),
            "left out" => {}
            _ => drop(sink.tensor("lut", DType::FLOAT16, &shape, &[0; 512])?),
        }
        Ok(Encoded::default())
    }
}

struct Whole(Misdeed);

impl Combiner for Whole {
    fn layout(&self, model: &ModelDescription, _: &LayoutRequest) -> Result<Layout> {
        self.0.act("layout")?;
        let stem = match self.0.0.as_str() {
            "outside" => "../whole",
            "control characters" => "\u{1b}]0;evil\u{7}",
            _ => "whole",
        };
        let purposes =
            [("infer", Purpose::Infer), ("prefill", Purpose::Prefill), ("all", Purpose::Evaluate)];
        let functions = purposes.map(|(id, purpose)| {
            FunctionSpec::new(id, purpose)
                .with_embedding(true)
                .with_layers(LayerRange::new(0, model.layers))
                .with_head(id != "prefill")
        });
        let package = PackageSpec::new(stem, PackageKind::Combined, 1, "weights")
            .with_function("infer", "infer")
            .with_function("prefill", "prefill")
            .with_default_function("infer");
        let all = PackageSpec::new("all", PackageKind::Evaluate, 0, "weights")
            .with_directory(".anemll/evaluate")
            .with_function("all", "main");
        Ok(Layout::new("misbehaving-combiner", "whole")
            .with_steps(["whole"])
            .with_functions(functions.into())
            .with_weight_files(vec![WeightFile::new("weights", ["infer", "prefill", "all"])])
            .with_run(
                RunOrder::default()
                    .with_infer(vec![package.call("infer")])
                    .with_prefill(vec![package.call("prefill")])
                    .with_evaluate(vec![all.call("main")]),
            )
            .with_packages(vec![package, all]))
    }

    fn combine(&self, _: &[NamedFunction<'_>], _: &CombineOptions, _: &Host) -> Result<Vec<u8>> {
        self.0.act("combine")?;
        // No protobuf: a field of a length that is not there.
        Ok(vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f])
    }
}

struct Nothing(Misdeed);

impl Compiler for Nothing {
    fn check(&self) -> Result<Availability> {
        self.0.act("check")?;
        Ok(Availability::yes(""))
    }

    fn compile(&self, _: &Path, output: &Path, _: &Host) -> Result<PathBuf> {
        self.0.act("compile")?;
        Ok(match self.0.is("elsewhere") {
            true => std::env::temp_dir(),
            false => output.join("nothing.mlmodelc"),
        })
    }
}

impl Runtime for Nothing {
    fn check(&self) -> Result<Availability> {
        self.0.act("check")?;
        Ok(Availability::yes(""))
    }

    fn open(&self, _: &Path, _: &Host) -> Result<Box<dyn Session>> {
        self.0.act("open")?;
        Ok(Box::new(Self(self.0.clone())))
    }
}

/// What a function gives, or should.
fn output(function: &str) -> &'static str {
    if function == "infer" { "logits1" } else { "output_hidden_states" }
}

impl Session for Nothing {
    fn describe(&self) -> SessionDescription {
        let _ = self.0.act("describe");
        // Those of a whole model with a context of 64 and batches of 8.
        let value =
            |name: &str, dtype, shape: &[u64]| ValueInfo::new(name, dtype, vec![shape.to_vec()]);
        let function = |name: &str| {
            let rows = if name == "infer" { 1 } else { 8 };
            let inputs = vec![
                value("input_ids", DType::INT32, &[1, rows]),
                value("position_ids", DType::INT32, &[rows]),
                value("causal_mask", DType::FLOAT16, &[1, 1, rows, 64]),
                value("current_pos", DType::INT32, &[1]),
            ];
            let output = value(output(name), DType::FLOAT16, &[1, 1, 128]);
            FunctionSignature::new(name).with_inputs(inputs).with_outputs(vec![output])
        };
        let functions = match self.0.is("no functions") {
            true => Vec::new(),
            false => ["infer", "prefill", "main"].map(function).into(),
        };
        SessionDescription::default().with_functions(functions)
    }

    fn reset(&mut self) -> Result<()> {
        self.0.act("reset")
    }

    fn run(
        &mut self,
        function: &str,
        _: &[TensorView<'_>],
        _: &[&str],
        outputs: &mut dyn Sink,
    ) -> Result<()> {
        self.0.act("run")?;
        let name = output(function);
        match self.0.0.as_str() {
            "wrong size" => outputs.tensor(name, DType::FLOAT16, &[1, 1, 3], &[0; 6]).map(drop),
            "wrong type" => outputs.tensor(name, DType::INT8, &[1], &[0]).map(drop),
            "huge" => outputs.begin(name, DType::FLOAT16, &[1 << 38]).map(drop),
            _ => Ok(()),
        }
    }
}

struct MisbehavingPlugin;

impl Plugin for MisbehavingPlugin {
    const MANIFEST: &'static str = r#"{
        "name": "misbehaving", "version": "1.2.3", "abi": 1, "license": "MIT",
        "components": [
            {"stage": "arch", "id": "misbehaving", "options": {"misdeed": {"type": "string"}}},
            {"stage": "quantizer", "id": "misbehaving-quantizer",
             "options": {"misdeed": {"type": "string"}}},
            {"stage": "combiner", "id": "misbehaving-combiner",
             "options": {"misdeed": {"type": "string"}}},
            {"stage": "compiler", "id": "misbehaving-compiler",
             "options": {"misdeed": {"type": "string"}}},
            {"stage": "runtime", "id": "misbehaving-runtime",
             "options": {"misdeed": {"type": "string"}}}
        ]
    }"#;

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        Ok(Box::new(Arch(made(Stage::Arch, id, "misbehaving", options)?)))
    }

    fn quantizer(id: &str, options: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        Ok(Box::new(Bytes(made(Stage::Quantizer, id, "misbehaving-quantizer", options)?)))
    }

    fn combiner(id: &str, options: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        Ok(Box::new(Whole(made(Stage::Combiner, id, "misbehaving-combiner", options)?)))
    }

    fn compiler(id: &str, options: &ComponentOptions) -> Result<Box<dyn Compiler>> {
        Ok(Box::new(Nothing(made(Stage::Compiler, id, "misbehaving-compiler", options)?)))
    }

    fn runtime(id: &str, options: &ComponentOptions) -> Result<Box<dyn Runtime>> {
        Ok(Box::new(Nothing(made(Stage::Runtime, id, "misbehaving-runtime", options)?)))
    }
}

fn made(stage: Stage, id: &str, known: &str, options: &ComponentOptions) -> Result<Misdeed> {
    if id != known {
        return Err(no_such_component(stage, id));
    }
    let misdeed = Misdeed::of(options);
    misdeed.act("new")?;
    Ok(misdeed)
}

export_plugin!(MisbehavingPlugin);
