//! A panic on either side of the boundary is an error on the other, with text, plugin and entry.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod stub;

use std::path::{Path, PathBuf};

use anemll_plugin_api::data::*;
use anemll_plugin_api::*;
use serde_json::{Value, json};
use stub::{load, panicking_host};

/// Every method of every component panics, and so does letting go of it.
struct Panicking;

impl Drop for Panicking {
    fn drop(&mut self) {
        panic!("boom in drop");
    }
}

impl ArchFrontend for Panicking {
    fn accepts(&self, _: &str) -> Result<Verdict> {
        panic!("boom in accepts")
    }

    /// Contexts that let a model be opened: 1, whose description panics, and 2.
    fn open(&self, model: &ModelInput, _: &Host) -> Result<Box<dyn ArchModel>> {
        match model.context {
            0 => panic!("boom in open"),
            context => Ok(Box::new(PanickingModel { context })),
        }
    }
}

struct PanickingModel {
    context: u64,
}

impl Drop for PanickingModel {
    fn drop(&mut self) {
        panic!("boom in drop");
    }
}

impl ArchModel for PanickingModel {
    fn describe(&self) -> ModelDescription {
        match self.context {
            1 => panic!("boom in describe"),
            _ => ModelDescription::default(),
        }
    }

    fn lower(&self, _: &FunctionSpec, _: &Host) -> Result<Vec<u8>> {
        panic!("boom in {}", "lower")
    }
}

impl Quantizer for Panicking {
    fn scheme(&self, _: &Outline) -> Result<Scheme> {
        panic!("boom in scheme")
    }

    fn plan(&self, _: &PlanRequest<'_>, _: &Host) -> Result<Plan> {
        panic!("boom in plan")
    }

    fn encode(
        &self,
        _: TensorView<'_>,
        _: &Value,
        _: Option<TensorView<'_>>,
        _: &mut dyn Sink,
        _: &Host,
    ) -> Result<Encoded> {
        panic!("boom in encode")
    }
}

impl Combiner for Panicking {
    fn layout(&self, _: &ModelDescription, _: &LayoutRequest) -> Result<Layout> {
        panic!("boom in layout")
    }

    fn combine(&self, _: &[NamedFunction<'_>], _: &CombineOptions, _: &Host) -> Result<Vec<u8>> {
        panic!("boom in combine")
    }
}

impl Compiler for Panicking {
    fn check(&self) -> Result<Availability> {
        panic!("boom in check")
    }

    fn compile(&self, _: &Path, _: &Path, _: &Host) -> Result<PathBuf> {
        panic!("boom in compile")
    }
}

impl Runtime for Panicking {
    fn check(&self) -> Result<Availability> {
        panic!("boom in check")
    }

    fn open(&self, package: &Path, _: &Host) -> Result<Box<dyn Session>> {
        match package.to_str() {
            Some("runs") => Ok(Box::new(PanickingSession { describes: true })),
            Some("panics once") => Ok(Box::new(OnceSession)),
            Some("does not describe") => Ok(Box::new(PanickingSession { describes: false })),
            _ => panic!("boom in open"),
        }
    }
}

struct PanickingSession {
    describes: bool,
}

impl Session for PanickingSession {
    fn describe(&self) -> SessionDescription {
        match self.describes {
            true => SessionDescription::default(),
            false => panic!("boom in describe"),
        }
    }

    fn reset(&mut self) -> Result<()> {
        panic!("boom in reset")
    }

    fn run(&mut self, _: &str, _: &[TensorView<'_>], _: &[&str], _: &mut dyn Sink) -> Result<()> {
        panic!("boom in run")
    }
}

/// Panics when it runs certain functions, and never else.
struct OnceSession;

impl Session for OnceSession {
    fn describe(&self) -> SessionDescription {
        SessionDescription::default()
    }

    fn reset(&mut self) -> Result<()> {
        Ok(())
    }

    fn run(
        &mut self,
        function: &str,
        _: &[TensorView<'_>],
        _: &[&str],
        _: &mut dyn Sink,
    ) -> Result<()> {
        match function {
            "panics" => panic!("boom in run"),
            "in a task" => Host::quiet().parallel(2, &|_| panic!("boom in a task")),
            _ => Err(Error::new(codes::RUN_FAILED, "it fails")),
        }
    }
}

struct StubPlugin;

impl Plugin for StubPlugin {
    const MANIFEST: &'static str = stub_manifest!("stub");

    fn arch_frontend(_: &str, _: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        Ok(Box::new(Panicking))
    }

    fn quantizer(_: &str, _: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        Ok(Box::new(Panicking))
    }

    fn combiner(_: &str, _: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        Ok(Box::new(Panicking))
    }

    fn compiler(_: &str, _: &ComponentOptions) -> Result<Box<dyn Compiler>> {
        Ok(Box::new(Panicking))
    }

    fn runtime(_: &str, _: &ComponentOptions) -> Result<Box<dyn Runtime>> {
        Ok(Box::new(Panicking))
    }
}

/// A payload that panics when it is dropped.
struct Grenade;

impl Drop for Grenade {
    fn drop(&mut self) {
        panic!("boom in the payload");
    }
}

/// Every constructor panics, each with another kind of payload.
struct PanickingConstructors;

impl Plugin for PanickingConstructors {
    const MANIFEST: &'static str = stub_manifest!("constructors");

    fn arch_frontend(_: &str, _: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        panic!("boom in new_arch")
    }

    fn quantizer(_: &str, _: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        let empty: &[u8] = std::hint::black_box(&[]);
        panic!("boom in new_quantizer, {}", empty[0])
    }

    fn combiner(_: &str, _: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        std::panic::panic_any(7)
    }

    fn compiler(_: &str, _: &ComponentOptions) -> Result<Box<dyn Compiler>> {
        std::panic::panic_any(Grenade)
    }

    fn runtime(_: &str, _: &ComponentOptions) -> Result<Box<dyn Runtime>> {
        // Thrown on without a new panic, so that no hook sees it here.
        let panic = std::panic::catch_unwind(|| panic!("boom inside")).unwrap_err();
        std::panic::resume_unwind(panic)
    }
}

#[track_caller]
fn check<T>(result: Result<T>, entry: &str, text: &str) {
    let Err(error) = result else { panic!("`{entry}` must fail") };
    assert_eq!(error.code, codes::PLUGIN_PANICKED, "{error:?}");
    assert_eq!(error.message, format!("plugin `stub` panicked in `{entry}`: {text}"));
    assert!(error.hint.as_ref().unwrap().contains("https://example.org/stub"), "{error:?}");
    let at = error.at.unwrap();
    assert!(at.contains("panics.rs:"), "{at}");
}

fn function() -> FunctionSpec {
    FunctionSpec::new("f", Purpose::Infer)
}

#[test]
fn every_entry_of_every_component_is_guarded() {
    let plugin = load::<StubPlugin>();
    let host = Host::quiet();
    let none = ComponentOptions::new();

    let frontend = plugin.arch_frontend("stub", &none).unwrap();
    check(frontend.accepts("{}"), "arch.accepts", "boom in accepts");
    let model = |context| ModelInput::new(Value::Null, context, 1);
    check(frontend.open(&model(0), &host), "arch.open", "boom in open");
    check(frontend.open(&model(1), &host), "model.describe", "boom in describe");
    let opened = frontend.open(&model(2), &host).unwrap();
    check(opened.lower(&function(), &host), "model.lower", "boom in lower");

    let quantizer = plugin.quantizer("stub", &none).unwrap();
    check(quantizer.scheme(&Outline::default()), "quantizer.scheme", "boom in scheme");
    check(quantizer.plan(&PlanRequest::default(), &host), "quantizer.plan", "boom in plan");
    let tensor = TensorView::new("w", DType::FLOAT16, &[1], &[0, 0]).unwrap();
    let mut sink = MemorySink::new();
    check(
        quantizer.encode(tensor, &Value::Null, Some(tensor), &mut sink, &host),
        "quantizer.encode",
        "boom in encode",
    );

    let combiner = plugin.combiner("stub", &none).unwrap();
    check(
        combiner.layout(&ModelDescription::default(), &LayoutRequest::default()),
        "combiner.layout",
        "boom in layout",
    );
    check(
        combiner.combine(&[], &CombineOptions::default(), &host),
        "combiner.combine",
        "boom in combine",
    );

    let compiler = plugin.compiler("stub", &none).unwrap();
    check(compiler.check(), "compiler.check", "boom in check");
    check(
        compiler.compile(Path::new("a"), Path::new("b"), &host),
        "compiler.compile",
        "boom in compile",
    );

    let runtime = plugin.runtime("stub", &none).unwrap();
    check(runtime.check(), "runtime.check", "boom in check");
    check(runtime.open(Path::new("x"), &host), "runtime.open", "boom in open");
    check(
        runtime.open(Path::new("does not describe"), &host),
        "session.describe",
        "boom in describe",
    );
    let open = || runtime.open(Path::new("runs"), &host).unwrap();
    check(open().reset(), "session.reset", "boom in reset");
    check(open().run("main", &[], &[], &mut sink), "session.run", "boom in run");
    // Here the components are dropped, which panics as well, and is no more than let go.
}

#[test]
fn a_session_that_panicked_fails_every_later_call() {
    let plugin = load::<StubPlugin>();
    let runtime = plugin.runtime("stub", &ComponentOptions::new()).unwrap();
    let mut session = runtime.open(Path::new("panics once"), &Host::quiet()).unwrap();
    let mut sink = MemorySink::new();
    // An error that is no panic leaves it usable.
    let error = session.run("fails", &[], &[], &mut sink).unwrap_err();
    assert_eq!(error.code, codes::RUN_FAILED);
    session.reset().unwrap();
    for function in ["panics", "in a task"] {
        let mut session = runtime.open(Path::new("panics once"), &Host::quiet()).unwrap();
        let first = session.run(function, &[], &[], &mut sink).unwrap_err();
        assert_eq!(first.code, codes::PLUGIN_PANICKED, "{first}");
        for _ in 0..2 {
            let again = [session.reset(), session.run("works", &[], &[], &mut sink)];
            for error in again.map(Result::unwrap_err) {
                assert_eq!(error.code, codes::PLUGIN_PANICKED);
                assert_eq!(
                    error.message,
                    format!("it cannot be used after an earlier call: {}", first.message)
                );
                assert_eq!((&error.at, &error.hint), (&first.at, &first.hint));
            }
        }
        assert!(runtime.open(Path::new("panics once"), &Host::quiet()).unwrap().reset().is_ok());
    }
}

#[test]
fn constructors_are_guarded_whatever_they_throw() {
    let plugin = load::<PanickingConstructors>();
    let none = ComponentOptions::new();
    let errors = [
        (plugin.arch_frontend("stub", &none).err(), "`new_arch`: boom in new_arch"),
        (
            plugin.quantizer("stub", &none).err(),
            "`new_quantizer`: index out of bounds: the len is 0 but the index is 0",
        ),
        (plugin.combiner("stub", &none).err(), "`new_combiner`: a panic without text"),
        (plugin.compiler("stub", &none).err(), "`new_compiler`: a panic without text"),
        (plugin.runtime("stub", &none).err(), "`new_runtime`: boom inside"),
    ];
    for (error, text) in errors {
        let error = error.unwrap();
        assert_eq!(error.code, codes::PLUGIN_PANICKED);
        assert_eq!(error.message, format!("plugin `constructors` panicked in {text}"));
    }
}

/// Uses the service of the host that its options or the decision name; fails as the host does, or
/// looks away.
struct Caller {
    options: ComponentOptions,
}

impl Quantizer for Caller {
    fn plan(&self, _: &PlanRequest<'_>, host: &Host) -> Result<Plan> {
        let service = self.options.string("service")?.unwrap_or_default();
        let result = match service {
            "log" => {
                host.log(Level::Info, "stub", "hello");
                host.check_cancelled()
            }
            "threads" => {
                assert_eq!(host.threads(), 1);
                host.check_cancelled()
            }
            "cancelled" => {
                assert!(host.cancelled(), "a host that panics must stop the plugin");
                host.check_cancelled()
            }
            "progress" => host.progress("work", 1, 2),
            "parallel" => host.parallel(3, &|_| Ok(())),
            "scratch_directory" => host.scratch_directory().map(drop),
            other => panic!("unknown service {other}"),
        };
        let error = result.expect_err("the host's panic must reach the plugin");
        assert_eq!(error.code, codes::HOST_PANICKED);
        match self.options.boolean("look-away")? {
            Some(true) => Ok(Plan::default()),
            _ => Err(Error::new(codes::PLUGIN_BAD_REQUEST, "the plugin's own words")),
        }
    }

    fn encode(
        &self,
        _: TensorView<'_>,
        parameters: &Value,
        _: Option<TensorView<'_>>,
        sink: &mut dyn Sink,
        _: &Host,
    ) -> Result<Encoded> {
        let result = sink.tensor("x", DType::UINT8, &[2], &[1, 2]);
        match parameters["look away"].as_bool() {
            Some(true) => Ok(Encoded::default()),
            _ => Err(result.expect_err("the sink's panic must reach the plugin")),
        }
    }
}

struct CallerPlugin;

impl Plugin for CallerPlugin {
    const MANIFEST: &'static str = r#"{"name": "caller", "version": "0.1.0", "abi": 1,
        "components": [{"stage": "quantizer", "id": "stub", "options": {
            "service": {"type": "string"}, "look-away": {"type": "boolean"}}}]}"#;

    fn quantizer(_: &str, options: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        Ok(Box::new(Caller { options: options.clone() }))
    }
}

#[test]
fn a_panic_in_a_service_of_the_host_reaches_plugin_and_host() {
    let plugin = load::<CallerPlugin>();
    let services = ["log", "threads", "cancelled", "progress", "parallel", "scratch_directory"];
    for service in services {
        for look_away in [false, true] {
            let options =
                ComponentOptions::new().with("service", service).with("look-away", look_away);
            let quantizer = plugin.quantizer("stub", &options).unwrap();
            let error = quantizer.plan(&PlanRequest::default(), &panicking_host()).unwrap_err();
            // Whatever the plugin makes of it, the host learns of its own mistake.
            assert_eq!(error.code, codes::HOST_PANICKED, "{error:?}");
            let text = format!("the host panicked in `host.{service}`: boom in {service}");
            assert_eq!(error.message, text);
            assert!(error.at.unwrap().contains("mod.rs:"));
        }
    }
}

struct PanickingSink;

impl Sink for PanickingSink {
    fn begin(&mut self, _: &str, _: DType, _: &[u64]) -> Result<u64> {
        Ok(7)
    }

    fn write(&mut self, _: u64, _: &[u8]) -> Result<()> {
        panic!("boom in write")
    }

    fn finish(&mut self, _: u64) -> Result<()> {
        Ok(())
    }
}

#[test]
fn a_panic_in_the_hosts_sink_reaches_plugin_and_host() {
    let quantizer = load::<CallerPlugin>().quantizer("stub", &ComponentOptions::new()).unwrap();
    let tensor = TensorView::new("w", DType::FLOAT16, &[1], &[0, 0]).unwrap();
    for look_away in [false, true] {
        let decision = json!({"look away": look_away});
        let error = quantizer
            .encode(tensor, &decision, None, &mut PanickingSink, &Host::quiet())
            .unwrap_err();
        assert_eq!(error.code, codes::HOST_PANICKED);
        assert_eq!(error.message, "the host panicked in `sink.write`: boom in write");
    }
}
