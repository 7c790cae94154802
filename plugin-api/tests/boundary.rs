//! What crosses the boundary arrives whole, uncopied where it is large, and is refused where it does
//! not fit.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use anemll_plugin_api::data::*;
use anemll_plugin_api::testing::{TestHost, check_plugin};
use anemll_plugin_api::*;
use serde_json::{Value, json};

#[derive(Default)]
struct Stub {
    options: ComponentOptions,
}

fn numbered(index: usize) -> Error {
    Error::new(codes::RUN_FAILED, format!("call {index}"))
}

impl ArchFrontend for Stub {
    fn accepts(&self, config_json: &str) -> Result<Verdict> {
        match config_json {
            "{\"model_type\":\"stub\"}" => {
                Ok(Verdict::new(MatchRank::ModelType, self.options.to_string())
                    .with_refusals(vec![Refusal::new("A0205", "a.b", "no").with_hint("yes")]))
            }
            "endless" => {
                let mut error = Error::new("no code", "x".repeat(100_000));
                error.causes = vec!["y\u{1b}]0;".repeat(2_000); 1_000];
                Err(error.with_hint("z\n".repeat(10_000)))
            }
            _ => Ok(Verdict::none("another model")),
        }
    }

    fn open(&self, model: &ModelInput, _: &Host) -> Result<Box<dyn ArchModel>> {
        OPENED.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(StubModel(model.clone())))
    }
}

/// Models that were opened, and descriptions that were made: what of a model crossed.
static OPENED: AtomicUsize = AtomicUsize::new(0);
static DESCRIBED: AtomicUsize = AtomicUsize::new(0);

struct StubModel(ModelInput);

impl ArchModel for StubModel {
    fn describe(&self) -> ModelDescription {
        DESCRIBED.fetch_add(1, Ordering::SeqCst);
        ModelDescription::default()
            .with_context(self.0.context)
            .with_notes(vec![self.0.config.to_string()])
    }

    /// Works in parallel as the function's id says.
    fn lower(&self, function: &FunctionSpec, host: &Host) -> Result<Vec<u8>> {
        let calls = AtomicUsize::new(0);
        let sum = AtomicUsize::new(0);
        host.parallel(100, &|index| {
            calls.fetch_add(1, Ordering::SeqCst);
            sum.fetch_add(index, Ordering::SeqCst);
            match (function.id.as_str(), index) {
                ("fails", 20 | 21 | 80) => Err(numbered(index)),
                ("panics", 20 | 21 | 80) => panic!("call {index}"),
                ("is cancelled", _) => host.check_cancelled(),
                _ => Ok(()),
            }
        })?;
        let answer = format!("{calls:?} {sum:?} {}", host.threads());
        host.log(Level::Warn, "stub", &format!("done\u{7} {answer}"));
        host.progress("work", 100, 100)?;
        Ok(answer.into_bytes())
    }
}

impl Quantizer for Stub {
    fn scheme(&self, outline: &Outline) -> Result<Scheme> {
        Ok(Scheme::default().with_summary(format!("{} layers", outline.layers)))
    }

    /// Says where the programs and the statistics lie.
    fn plan(&self, request: &PlanRequest<'_>, _: &Host) -> Result<Plan> {
        let mut plan = Plan::default();
        for (weight, program) in request.weights.iter().zip(&request.programs) {
            let statistics = request.statistics.iter().find(|view| view.name() == weight.id);
            let place = statistics.map_or(0, |view| view.bytes().as_ptr() as usize);
            let parameters = json!([program.as_ptr() as usize, place]);
            let decision = Decision::default().with_parameters(parameters);
            plan.decisions.insert(weight.id.clone(), decision);
        }
        Ok(plan)
    }

    /// Writes as the parameters say, and says where the tensor and the statistics lie.
    fn encode(
        &self,
        tensor: TensorView<'_>,
        parameters: &Value,
        statistics: Option<TensorView<'_>>,
        sink: &mut dyn Sink,
        _: &Host,
    ) -> Result<Encoded> {
        let place = tensor.bytes().as_ptr() as usize;
        let statistics = statistics.map_or(0, |view| view.bytes().as_ptr() as usize);
        match parameters.as_str().unwrap_or_default() {
            "right" => {
                let id = sink.begin("indices", DType::UINT4, &[3])?;
                sink.write(id, &[1])?;
                sink.write(id, &[2])?;
                sink.finish(id)?;
            }
            "past the end" => {
                let id = sink.begin("indices", DType::UINT8, &[3])?;
                sink.write(id, &[0; 2])?;
                sink.write(id, &[0; 2])?;
            }
            "past the end, unnoticed" => {
                let id = sink.begin("indices", DType::UINT8, &[3])?;
                let _ = sink.write(id, &[0; 4]);
                let _ = sink.write(id, &[0; 3]);
                let _ = sink.finish(id);
            }
            "unknown id" => sink.write(12, &[0])?,
            "not finished" => {
                let id = sink.begin("indices", DType::UINT8, &[3])?;
                sink.write(id, &[0; 3])?;
            }
            "not full" => {
                let id = sink.begin("indices", DType::UINT8, &[3])?;
                sink.finish(id)?;
            }
            "too large" => drop(sink.begin("indices", DType::UINT8, &[u64::MAX, 2])?),
            "no such type" => drop(sink.begin("indices", DType(77), &[1])?),
            other => panic!("unknown decision {other}"),
        }
        let (mean_squared, max_absolute) = (place as f64, statistics as f64);
        Ok(Encoded::default().with_error(EncodingError::new(mean_squared, max_absolute)))
    }
}

impl Combiner for Stub {
    fn layout(&self, _: &ModelDescription, request: &LayoutRequest) -> Result<Layout> {
        Ok(Layout::new("stub", request.labels["bits.layers"].to_string()))
    }

    fn combine(
        &self,
        functions: &[NamedFunction<'_>],
        _: &CombineOptions,
        _: &Host,
    ) -> Result<Vec<u8>> {
        let places: Vec<String> = functions
            .iter()
            .map(|function| format!("{} {}", function.name, function.model.as_ptr() as usize))
            .collect();
        Ok(places.join(",").into_bytes())
    }
}

impl Compiler for Stub {
    fn check(&self) -> Result<Availability> {
        Ok(Availability::no("never"))
    }

    fn compile(&self, package: &Path, output: &Path, _: &Host) -> Result<PathBuf> {
        Ok(output.join(package))
    }
}

impl Runtime for Stub {
    fn check(&self) -> Result<Availability> {
        Ok(Availability::yes(String::new()))
    }

    fn open(&self, _: &Path, host: &Host) -> Result<Box<dyn Session>> {
        Ok(Box::new(StubSession { host: host.clone(), runs: 0 }))
    }
}

struct StubSession {
    host: Host,
    runs: u8,
}

impl Session for StubSession {
    fn describe(&self) -> SessionDescription {
        let output = ValueInfo::new("y", DType::UINT8, vec![vec![1]]);
        let function = |name: &str| FunctionSignature::new(name).with_outputs(vec![output.clone()]);
        SessionDescription::default()
            .with_functions(["right", "lacks", "invents", "mistypes"].map(function).into())
    }

    fn reset(&mut self) -> Result<()> {
        self.runs = 0;
        Ok(())
    }

    fn run(
        &mut self,
        function: &str,
        inputs: &[TensorView<'_>],
        taps: &[&str],
        outputs: &mut dyn Sink,
    ) -> Result<()> {
        self.host.check_cancelled()?;
        self.runs += 1;
        if function != "lacks" {
            let dtype = if function == "mistypes" { DType::INT8 } else { DType::UINT8 };
            outputs.tensor("y", dtype, &[1], &[self.runs])?;
        }
        if function == "invents" {
            outputs.tensor("z", DType::UINT8, &[0], &[])?;
        }
        for tap in taps.iter().filter(|tap| **tap != "never there") {
            let place = inputs[0].bytes().as_ptr() as u64;
            outputs.tensor(tap, DType::UINT64, &[1], &place.to_le_bytes())?;
        }
        Ok(())
    }
}

struct StubPlugin;

impl Plugin for StubPlugin {
    const MANIFEST: &'static str = r#"{
        "name": "stub", "version": "0.1.0", "abi": 1,
        "components": [
            {"stage": "arch", "id": "stub", "model_types": ["stub"],
             "options": {"mode": {"type": "string", "default": "plain"}}},
            {"stage": "quantizer", "id": "stub"}, {"stage": "combiner", "id": "stub"},
            {"stage": "compiler", "id": "stub"}, {"stage": "runtime", "id": "stub"}]}"#;

    fn arch_frontend(id: &str, options: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        known(Stage::Arch, id)?;
        Ok(Box::new(Stub { options: options.clone() }))
    }

    fn quantizer(id: &str, _: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        known(Stage::Quantizer, id)?;
        Ok(Box::new(Stub::default()))
    }

    fn combiner(id: &str, _: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        known(Stage::Combiner, id)?;
        Ok(Box::new(Stub::default()))
    }

    fn compiler(id: &str, _: &ComponentOptions) -> Result<Box<dyn Compiler>> {
        known(Stage::Compiler, id)?;
        Ok(Box::new(Stub::default()))
    }

    fn runtime(id: &str, _: &ComponentOptions) -> Result<Box<dyn Runtime>> {
        known(Stage::Runtime, id)?;
        Ok(Box::new(Stub::default()))
    }
}

fn known(stage: Stage, id: &str) -> Result<()> {
    if id == "stub" { Ok(()) } else { Err(no_such_component(stage, id)) }
}

fn plugin() -> LoadedPlugin {
    LoadedPlugin::of::<StubPlugin>().unwrap()
}

fn open(plugin: &LoadedPlugin, host: &Host) -> Box<dyn ArchModel> {
    let frontend = plugin.arch_frontend("stub", &ComponentOptions::new()).unwrap();
    frontend.open(&ModelInput::default(), host).unwrap()
}

fn function(id: &str) -> FunctionSpec {
    FunctionSpec::new(id, Purpose::Prefill).with_layers(LayerRange::new(0, 2))
}

#[test]
fn the_stub_keeps_the_rules_for_all_plugins() {
    check_plugin(&plugin()).unwrap();
}

#[test]
fn unlisted_ids_and_wrong_options_are_refused_before_the_plugin_is_asked() {
    let plugin = plugin();
    let error = plugin.arch_frontend("other", &ComponentOptions::new()).err().unwrap();
    assert_eq!(error.code, codes::PLUGIN_NO_SUCH_COMPONENT);
    assert_eq!(error.hint.unwrap(), "its arch components: stub");
    let error = plugin.arch_frontend("stub", &testing::options(json!({"mode": 3}))).err().unwrap();
    assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
    let error = plugin.runtime("stub", &testing::options(json!({"mode": "x"}))).err().unwrap();
    assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
}

#[test]
fn data_arrives_and_defaults_are_filled_in() {
    let plugin = plugin();
    let frontend = plugin.arch_frontend("stub", &ComponentOptions::new()).unwrap();
    let verdict = frontend.accepts("{\"model_type\":\"stub\"}").unwrap();
    assert_eq!(verdict.rank, MatchRank::ModelType);
    assert_eq!(verdict.reason, r#"{"mode":"plain"}"#);
    let config = json!({"rms_norm_eps": 1e-5, "b": 1, "a": null});
    let model = ModelInput::new(config.clone(), 512, 1);
    let host = Host::quiet();
    let opened = frontend.open(&model, &host).unwrap();
    let description = opened.describe();
    // The order of keys and every digit included.
    assert_eq!(description.notes, [config.to_string()]);
    assert_eq!(description.context, 512);
    let refusals = [Refusal::new("A0205", "a.b", "no").with_hint("yes")];
    assert_eq!(verdict.refusals, refusals);
    // Whatever is asked of a model, it crosses once, and so does its description.
    for _ in 0..3 {
        opened.lower(&function("works"), &host).unwrap();
        assert_eq!(opened.describe(), description);
    }
    assert_eq!([&OPENED, &DESCRIBED].map(|count| count.load(Ordering::SeqCst)), [1, 1]);
    let combiner = plugin.combiner("stub", &ComponentOptions::new()).unwrap();
    let mut request = LayoutRequest::default();
    request.labels.insert("bits.layers".to_owned(), json!(3));
    assert_eq!(combiner.layout(&description, &request).unwrap().prefix, "3");
}

#[test]
fn an_endless_error_is_cut_and_made_printable() {
    let frontend = plugin().arch_frontend("stub", &ComponentOptions::new()).unwrap();
    let error = frontend.accepts("endless").unwrap_err();
    assert_eq!(error.code, codes::PLUGIN_BAD_ANSWER);
    assert_eq!(error.causes[0], "the error came with the code `no code`");
    assert_eq!(error.causes.len(), limits::CAUSES);
    let hint = error.hint.unwrap();
    for text in error.causes.iter().chain([&error.message, &hint]) {
        assert!(text.len() <= 3 * limits::TEXT, "{}", text.len());
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
}

#[test]
fn tensors_and_programs_are_not_copied() {
    let plugin = plugin();
    let host = Host::quiet();
    let quantizer = plugin.quantizer("stub", &ComponentOptions::new()).unwrap();
    // An odd address: nothing may insist on alignment either.
    let buffer = [0u8; 65];
    let bytes = &buffer[1..];
    let tensor = TensorView::new("w", DType::FLOAT16, &[4, 8], bytes).unwrap();
    let statistics_bytes = [0u8; 32];
    let statistics = TensorView::new("s", DType::FLOAT32, &[8], &statistics_bytes).unwrap();
    let mut sink = MemorySink::new();
    let encoded =
        quantizer.encode(tensor, &json!("right"), Some(statistics), &mut sink, &host).unwrap();
    let place = |bytes: &[u8]| bytes.as_ptr() as usize;
    let said = encoded.error.unwrap();
    assert_eq!(said.mean_squared, place(bytes) as f64);
    assert_eq!(said.max_absolute, place(&statistics_bytes) as f64);
    let tensors = sink.into_tensors().unwrap();
    assert_eq!(tensors[0], Tensor::new("indices", DType::UINT4, [3], [1, 2]).unwrap());

    let programs = [vec![1u8; 100], vec![2u8; 100]];
    let weight = |id: &str| WeightInfo::new(id, "", "", []);
    let request = PlanRequest::default()
        .with_outline(Outline::new(0, 3))
        .with_weights(vec![weight("a"), weight("b")])
        .with_programs(programs.iter().map(Vec::as_slice).collect())
        .with_statistics(vec![
            TensorView::new("b", DType::FLOAT32, &[8], &statistics_bytes).unwrap(),
        ]);
    let scheme = quantizer.scheme(&request.outline).unwrap();
    assert_eq!(scheme, Scheme::default().with_summary("3 layers"));
    let plan = quantizer.plan(&request, &host).unwrap();
    assert_eq!(plan.decisions["a"].parameters, json!([place(&programs[0]), 0]));
    let places = [place(&programs[1]), place(&statistics_bytes)];
    assert_eq!(plan.decisions["b"].parameters, json!(places));

    let combiner = plugin.combiner("stub", &ComponentOptions::new()).unwrap();
    let functions = [NamedFunction::new("infer", &programs[0])];
    let combined = combiner.combine(&functions, &CombineOptions::default(), &host).unwrap();
    assert_eq!(combined, format!("infer {}", place(&programs[0])).into_bytes());
}

#[test]
fn what_does_not_fit_a_sink_is_refused_even_if_the_plugin_looks_away() {
    let quantizer = plugin().quantizer("stub", &ComponentOptions::new()).unwrap();
    let tensor = TensorView::new("w", DType::FLOAT16, &[1], &[0, 0]).unwrap();
    let cases = [
        ("past the end", codes::PLUGIN_SINK_MISUSED),
        ("past the end, unnoticed", codes::PLUGIN_SINK_MISUSED),
        ("unknown id", codes::PLUGIN_SINK_MISUSED),
        ("not finished", codes::PLUGIN_SINK_MISUSED),
        ("not full", codes::PLUGIN_SINK_MISUSED),
        ("too large", codes::TENSOR_SIZE),
        ("no such type", codes::TENSOR_SIZE),
    ];
    for (decision, code) in cases {
        let mut sink = MemorySink::new();
        // The id 0 is taken by a tensor that this call did not write.
        sink.tensor("earlier", DType::UINT8, &[3], &[0; 3]).unwrap();
        let error = quantizer
            .encode(tensor, &json!(decision), None, &mut sink, &Host::quiet())
            .unwrap_err();
        assert_eq!(error.code, code, "{decision}: {error:?}");
    }
}

#[test]
fn parallel_calls_run_all_and_the_first_error_wins() {
    let (told, host) = TestHost::new();
    let model = open(&plugin(), &host);
    let answer = model.lower(&function("works"), &host).unwrap();
    assert_eq!(String::from_utf8(answer).unwrap(), "100 4950 2");
    assert_eq!(told.lines(), [(Level::Warn, "done\u{fffd} 100 4950 2".to_owned())]);
    for _ in 0..20 {
        let error = model.lower(&function("fails"), &host).unwrap_err();
        assert_eq!(error, numbered(20));
        let error = model.lower(&function("panics"), &host).unwrap_err();
        assert_eq!(error.code, codes::PLUGIN_PANICKED);
        assert!(error.message.contains("parallel call 20 panicked: call 20"), "{error}");
    }
}

#[test]
fn cancelling_reaches_a_plugin_and_comes_back() {
    let plugin = plugin();
    let (control, host) = TestHost::new();
    let runtime = plugin.runtime("stub", &ComponentOptions::new()).unwrap();
    let mut session = runtime.open(Path::new("x"), &host).unwrap();
    let mut sink = MemorySink::new();
    session.run("right", &[], &[], &mut sink).unwrap();
    control.cancel();
    let model = open(&plugin, &host);
    for id in ["works", "is cancelled"] {
        let error = model.lower(&function(id), &host).unwrap_err();
        assert!(error.is_cancelled(), "{error:?}");
    }
    // A session keeps the host that it was opened with.
    assert!(session.run("right", &[], &[], &mut sink).unwrap_err().is_cancelled());
}

#[test]
fn a_session_keeps_its_state_and_its_outputs_are_checked() {
    let runtime = plugin().runtime("stub", &ComponentOptions::new()).unwrap();
    let mut session = runtime.open(Path::new("x"), &Host::quiet()).unwrap();
    let bytes = [0u8; 4];
    let input = TensorView::new("x", DType::FLOAT16, &[2], &bytes).unwrap();
    for runs in [1, 2] {
        let mut sink = MemorySink::new();
        session.run("right", &[input], &["hidden"], &mut sink).unwrap();
        let tensors = sink.into_tensors().unwrap();
        assert_eq!((tensors[0].name.as_str(), &tensors[0].bytes[..]), ("y", &[runs][..]));
        let place = (bytes.as_ptr() as u64).to_le_bytes();
        assert_eq!((tensors[1].name.as_str(), &tensors[1].bytes[..]), ("hidden", &place[..]));
    }
    session.reset().unwrap();
    let mut sink = MemorySink::new();
    session.run("right", &[input], &[], &mut sink).unwrap();
    assert_eq!(sink.into_tensors().unwrap()[0].bytes, [1]);

    for (function, tap) in [
        ("lacks", "hidden"),
        ("invents", "hidden"),
        ("mistypes", "hidden"),
        ("right", "never there"),
        ("not described", "hidden"),
    ] {
        let mut sink = MemorySink::new();
        let error = session.run(function, &[input], &[tap], &mut sink).unwrap_err();
        assert_eq!(error.code, codes::PLUGIN_BAD_ANSWER, "{function} {tap}: {error:?}");
    }
}

#[test]
fn paths_arrive_byte_by_byte() {
    let compiler = plugin().compiler("stub", &ComponentOptions::new()).unwrap();
    let host = Host::quiet();
    assert!(!compiler.check().unwrap().available);
    #[cfg(unix)]
    let name = {
        use std::os::unix::ffi::OsStrExt;
        PathBuf::from(std::ffi::OsStr::from_bytes(b"mod\xe9le.mlpackage"))
    };
    #[cfg(not(unix))]
    let name = PathBuf::from("modèle.mlpackage");
    let output = Path::new("out");
    assert_eq!(compiler.compile(&name, output, &host).unwrap(), output.join(&name));
}
