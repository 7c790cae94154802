//! Answers and requests that no well-behaved side would send.

use std::sync::atomic::{AtomicUsize, Ordering};

use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RBox, RResult, RString, RVec};

use super::super::export::Exported;
use super::super::v1::{
    Abi, AbiArchFrontend, AbiArchFrontend_TO, AbiArchModel, AbiArchModel_TO, AbiCombiner,
    AbiCombiner_TO, AbiCompiler, AbiCompiler_TO, AbiQuantizer, AbiQuantizer_TO, AbiRuntime,
    AbiRuntime_TO, AbiSession, AbiSession_TO, Blob, FORMAT_COREML_MODEL, HostBox, PluginError,
    SinkMut,
};
use super::*;
use crate::abi::convert::from_abi;
use crate::data::Purpose;
use crate::{DType, Error, Plugin, codes};

/// Texts that are no answer to anything.
const GARBAGE: [&str; 7] = ["", "{", "[]", "null", "\u{0}\u{1b}[2J", "{\"rank\": 5}", "NaN"];

/// Answers every call with the same text.
#[derive(Clone, Copy)]
struct Garbage(&'static str);

impl Garbage {
    fn text(self) -> Abi<RString> {
        RResult::ROk(self.0.into())
    }

    fn blob(self) -> Abi<Blob> {
        RResult::ROk(Blob { format: self.0.into(), bytes: RVec::new() })
    }
}

impl AbiArchFrontend for Garbage {
    fn accepts(&self, _: RStr<'_>) -> Abi<RString> {
        self.text()
    }

    fn open(&self, _: RStr<'_>, _: HostBox) -> Abi<ArchModelBox> {
        RResult::ROk(AbiArchModel_TO::from_ptr(RBox::new(*self), TD_Opaque))
    }
}

impl AbiArchModel for Garbage {
    fn describe(&self) -> Abi<RString> {
        self.text()
    }

    fn lower(&self, _: RStr<'_>, _: HostBox) -> Abi<Blob> {
        self.blob()
    }
}

impl AbiQuantizer for Garbage {
    fn scheme(&self, _: RStr<'_>) -> Abi<RString> {
        self.text()
    }

    fn plan(
        &self,
        _: RStr<'_>,
        _: RStr<'_>,
        _: RSlice<'_, RSlice<'_, u8>>,
        _: RSlice<'_, AbiTensor<'_>>,
        _: HostBox,
    ) -> Abi<RString> {
        self.text()
    }

    fn encode(
        &self,
        _: AbiTensor<'_>,
        _: RStr<'_>,
        _: ROption<AbiTensor<'_>>,
        _: SinkMut<'_>,
        _: HostBox,
    ) -> Abi<RString> {
        self.text()
    }
}

impl AbiCombiner for Garbage {
    fn layout(&self, _: RStr<'_>, _: RStr<'_>) -> Abi<RString> {
        self.text()
    }

    fn combine(&self, _: RSlice<'_, AbiNamedBytes<'_>>, _: RStr<'_>, _: HostBox) -> Abi<Blob> {
        self.blob()
    }
}

impl AbiCompiler for Garbage {
    fn check(&self) -> Abi<RString> {
        self.text()
    }

    fn compile(&self, _: RSlice<'_, u8>, _: RSlice<'_, u8>, _: HostBox) -> Abi<RVec<u8>> {
        // An error without end, with a code that is none.
        RResult::RErr(PluginError {
            code: "\u{1b}".into(),
            message: "x\n".repeat(1 << 16).into(),
            hint: ROption::RNone,
            at: ROption::RSome("y".repeat(1 << 16).into()),
            causes: vec![RString::from("z"); 1 << 16].into(),
        })
    }
}

impl AbiRuntime for Garbage {
    fn check(&self) -> Abi<RString> {
        self.text()
    }

    fn open(&self, _: RSlice<'_, u8>, _: HostBox) -> Abi<SessionBox> {
        RResult::ROk(AbiSession_TO::from_ptr(RBox::new(*self), TD_Opaque))
    }
}

impl AbiSession for Garbage {
    fn describe(&self) -> Abi<RString> {
        self.text()
    }

    fn reset(&mut self) -> Abi<()> {
        RResult::ROk(())
    }

    fn run(
        &mut self,
        _: RStr<'_>,
        _: RSlice<'_, AbiTensor<'_>>,
        _: RSlice<'_, RStr<'_>>,
        _: SinkMut<'_>,
    ) -> Abi<()> {
        RResult::ROk(())
    }
}

fn remote<T>(object: T) -> Remote<T> {
    Remote { object, plugin: "stub".into() }
}

#[track_caller]
fn refused<T>(result: Result<T>, entry: &str) {
    let Err(error) = result else { panic!("garbage was taken from {entry}") };
    assert_eq!(error.code, codes::PLUGIN_BAD_ANSWER);
    let start = format!("the answer of plugin `stub` to `{entry}` cannot be used: ");
    assert!(error.message.starts_with(&start), "{error}");
    assert!(!error.message.chars().any(char::is_control), "{error:?}");
}

fn function() -> FunctionSpec {
    FunctionSpec::new("f", Purpose::Infer).with_embedding(true)
}

#[test]
fn garbage_from_a_plugin_is_refused_with_its_name_and_the_entry() {
    let host = Host::quiet();
    let tensor = TensorView::new("w", DType::FLOAT16, &[1], &[0, 0]).unwrap();
    for text in GARBAGE {
        let garbage = Garbage(text);
        let frontend = remote(AbiArchFrontend_TO::from_ptr(RBox::new(garbage), TD_Opaque));
        refused(frontend.accepts("{}"), "arch.accepts");
        refused(frontend.open(&ModelInput::default(), &host), "model.describe");
        let model = RemoteModel {
            object: AbiArchModel_TO::from_ptr(RBox::new(garbage), TD_Opaque),
            plugin: "stub".into(),
            description: ModelDescription::default(),
        };
        refused(model.lower(&function(), &host), "model.lower");

        let quantizer = remote(AbiQuantizer_TO::from_ptr(RBox::new(garbage), TD_Opaque));
        // Every key of a scheme and of a plan has a default, and so any object is one.
        if !text.starts_with("{\"") && text != "[]" {
            refused(quantizer.scheme(&Outline::default()), "quantizer.scheme");
            refused(quantizer.plan(&PlanRequest::default(), &host), "quantizer.plan");
        }
        let mut sink = crate::MemorySink::new();
        if !text.starts_with("{\"") && text != "[]" {
            let encoded = quantizer.encode(tensor, &Value::Null, None, &mut sink, &host);
            refused(encoded, "quantizer.encode");
        }

        let combiner = remote(AbiCombiner_TO::from_ptr(RBox::new(garbage), TD_Opaque));
        let (model, options) = (ModelDescription::default(), LayoutRequest::default());
        refused(combiner.layout(&model, &options), "combiner.layout");
        refused(combiner.combine(&[], &CombineOptions::default(), &host), "combiner.combine");

        let compiler = remote(AbiCompiler_TO::from_ptr(RBox::new(garbage), TD_Opaque));
        refused(compiler.check(), "compiler.check");

        let runtime = remote(AbiRuntime_TO::from_ptr(RBox::new(garbage), TD_Opaque));
        refused(runtime.check(), "runtime.check");
        refused(runtime.open(Path::new("x"), &host), "session.describe");
    }
}

#[test]
fn nesting_without_end_is_refused() {
    let deep: &'static str = Box::leak("[".repeat(1 << 20).into_boxed_str());
    let frontend = remote(AbiArchFrontend_TO::from_ptr(RBox::new(Garbage(deep)), TD_Opaque));
    refused(frontend.accepts("{}"), "arch.accepts");
}

#[test]
fn an_error_without_end_is_cut() {
    let compiler = remote(AbiCompiler_TO::from_ptr(RBox::new(Garbage("")), TD_Opaque));
    let (package, output) = (Path::new("a"), Path::new("b"));
    let error = compiler.compile(package, output, &Host::quiet()).unwrap_err();
    assert_eq!(error.code, codes::PLUGIN_BAD_ANSWER);
    assert_eq!(error.causes.len(), crate::limits::CAUSES);
    assert_eq!(error.causes[0], "the error came with the code `\u{fffd}`");
    assert!(error.message.len() < crate::limits::TEXT + 8 && !error.message.contains('\n'));
    assert!(error.at.unwrap().len() < crate::limits::TEXT + 8);
}

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Counts the calls that reach it.
struct Counting;

impl ArchFrontend for Counting {
    fn accepts(&self, _: &str) -> Result<Verdict> {
        Err(Error::cancelled())
    }

    fn open(&self, model: &ModelInput, _: &Host) -> Result<Box<dyn ArchModel>> {
        if model.context == 0 {
            return Ok(Box::new(Self));
        }
        CALLS.fetch_add(1, Ordering::SeqCst);
        Err(Error::cancelled())
    }
}

impl ArchModel for Counting {
    fn describe(&self) -> ModelDescription {
        ModelDescription::default()
    }

    fn lower(&self, _: &FunctionSpec, _: &Host) -> Result<Vec<u8>> {
        CALLS.fetch_add(1, Ordering::SeqCst);
        Ok(Vec::new())
    }
}

impl Quantizer for Counting {
    fn plan(&self, _: &PlanRequest<'_>, _: &Host) -> Result<Plan> {
        CALLS.fetch_add(1, Ordering::SeqCst);
        Ok(Plan::default())
    }

    fn encode(
        &self,
        _: TensorView<'_>,
        _: &Value,
        _: Option<TensorView<'_>>,
        _: &mut dyn Sink,
        _: &Host,
    ) -> Result<Encoded> {
        CALLS.fetch_add(1, Ordering::SeqCst);
        Err(Error::cancelled())
    }
}

struct CountingPlugin;

impl Plugin for CountingPlugin {
    const MANIFEST: &'static str = "{\"name\": \"counting\"}";

    fn arch_frontend(_: &str, _: &ComponentOptions) -> Result<Box<dyn ArchFrontend>> {
        Ok(Box::new(Counting))
    }

    fn quantizer(_: &str, _: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        Ok(Box::new(Counting))
    }
}

#[test]
fn garbage_from_a_host_does_not_reach_the_component() {
    let module = Exported::<CountingPlugin>::MODULE;
    let code = |error: Error| error.code;
    let host = || lend_host(&Host::quiet()).0;

    let error = from_abi(module.new_arch()("x".into(), "{".into())).err().unwrap();
    assert_eq!(code(error), codes::PLUGIN_BAD_REQUEST);
    let frontend = from_abi(module.new_arch()("x".into(), "{}".into())).unwrap();
    let model = to_json("arch.open", &ModelInput::default()).unwrap();
    let model = from_abi(frontend.open(model.as_str().into(), host())).unwrap();
    for text in GARBAGE {
        let error = from_abi(frontend.open(text.into(), host())).err().unwrap();
        assert_eq!(code(error), codes::PLUGIN_BAD_REQUEST);
        let error = from_abi(model.lower(text.into(), host())).err().unwrap();
        assert_eq!(code(error), codes::PLUGIN_BAD_REQUEST);
    }

    let quantizer = from_abi(module.new_quantizer()("x".into(), "{}".into())).unwrap();
    let short = AbiTensor {
        name: "w".into(),
        dtype: DType::FLOAT16.0,
        shape: RSlice::from_slice(&[1 << 40, 1 << 40]),
        bytes: RSlice::from_slice(&[0, 0]),
    };
    let mut sink = crate::MemorySink::new();
    let mut sink = Mutex::new(LentSink::new(&mut sink));
    let answer = quantizer.encode(short, "{}".into(), ROption::RNone, lend_sink(&mut sink), host());
    assert_eq!(code(from_abi(answer).unwrap_err()), codes::TENSOR_SIZE);
    assert_eq!(CALLS.load(Ordering::SeqCst), 0);
}

#[test]
fn the_format_of_programs_is_checked() {
    let blob = |format: &str| Blob { format: format.into(), bytes: vec![1].into() };
    assert_eq!(coreml_model("stub", "model.lower", blob(FORMAT_COREML_MODEL)).unwrap(), [1]);
    refused(coreml_model("stub", "model.lower", blob("text/plain")), "model.lower");
}
