//! The plugin's side: safe trait objects behind the ABI's, every entry guarded.

use std::marker::PhantomData;
use std::path::PathBuf;

use abi_stable::prefix_type::WithMetadata;
use abi_stable::sabi_trait::TD_Opaque;
use abi_stable::std_types::{RBox, ROption, RSlice, RStr, RString, RVec};
use serde_json::Value;

use super::convert::{
    coreml_blob, path_from_bytes, path_to_bytes, request, tensor_from_abi, to_abi, to_json,
};
use super::guard::{QuietDrop, catch_in_plugin};
use super::services::{BorrowedSink, borrow_host};
use super::v1::{
    Abi, AbiArchFrontend, AbiArchFrontend_TO, AbiArchModel, AbiArchModel_TO, AbiCombiner,
    AbiCombiner_TO, AbiCompiler, AbiCompiler_TO, AbiNamedBytes, AbiQuantizer, AbiQuantizer_TO,
    AbiRuntime, AbiRuntime_TO, AbiSession, AbiSession_TO, AbiTensor, ArchFrontendBox, ArchModelBox,
    Blob, CombinerBox, CompilerBox, HostBox, PluginModule, PluginModule_Ref, QuantizerBox,
    RuntimeBox, SessionBox, SinkMut,
};
use crate::data::{NamedFunction, PlanRequest};
use crate::{
    ArchFrontend, ArchModel, Combiner, Compiler, ComponentOptions, Error, Plugin, Quantizer,
    Result, Runtime, Session, TensorView, codes,
};

/// A component of a plugin as the host gets it.
struct Guarded<T> {
    component: QuietDrop<T>,
    manifest: &'static str,
    /// The panic of an entry that changes the component. Whatever it left half done is then never
    /// looked at again: every later call fails.
    panicked: Option<Error>,
}

impl<T> Guarded<T> {
    fn new(component: T, manifest: &'static str) -> RBox<Self> {
        RBox::new(Self { component: QuietDrop::new(component), manifest, panicked: None })
    }

    fn call<R>(&self, entry: &str, function: impl FnOnce(&T) -> Result<R>) -> Abi<R> {
        to_abi(self.usable().and_then(|()| {
            catch_in_plugin(self.manifest, entry, || function(self.component.get()))
        }))
    }

    fn call_mut<R>(&mut self, entry: &str, function: impl FnOnce(&mut T) -> Result<R>) -> Abi<R> {
        let result = self.usable().and_then(|()| {
            catch_in_plugin(self.manifest, entry, || function(self.component.get_mut()))
        });
        if let Err(error) = &result
            && error.code == codes::PLUGIN_PANICKED
        {
            self.panicked.get_or_insert_with(|| error.clone());
        }
        to_abi(result)
    }

    fn usable(&self) -> Result<()> {
        match &self.panicked {
            None => Ok(()),
            Some(first) => {
                let message = format!("it cannot be used after an earlier call: {}", first.message);
                Err(Error { message, ..first.clone() })
            }
        }
    }
}

fn json<T: serde::Serialize>(entry: &str, value: &T) -> Result<RString> {
    to_json(entry, value).map(RString::from)
}

impl AbiArchFrontend for Guarded<Box<dyn ArchFrontend>> {
    fn accepts(&self, config: RStr<'_>) -> Abi<RString> {
        let entry = "arch.accepts";
        self.call(entry, |frontend| json(entry, &frontend.accepts(config.as_str())?))
    }

    fn open(&self, model: RStr<'_>, host: HostBox) -> Abi<ArchModelBox> {
        let entry = "arch.open";
        self.call(entry, |frontend| {
            let model = frontend.open(&request(entry, model)?, &borrow_host(host))?;
            Ok(AbiArchModel_TO::from_ptr(Guarded::new(model, self.manifest), TD_Opaque))
        })
    }
}

impl AbiArchModel for Guarded<Box<dyn ArchModel>> {
    fn describe(&self) -> Abi<RString> {
        let entry = "model.describe";
        self.call(entry, |model| json(entry, &model.describe()))
    }

    fn lower(&self, function: RStr<'_>, host: HostBox) -> Abi<Blob> {
        let entry = "model.lower";
        self.call(entry, |model| {
            model.lower(&request(entry, function)?, &borrow_host(host)).map(coreml_blob)
        })
    }
}

impl AbiQuantizer for Guarded<Box<dyn Quantizer>> {
    fn scheme(&self, outline: RStr<'_>) -> Abi<RString> {
        let entry = "quantizer.scheme";
        self.call(entry, |quantizer| json(entry, &quantizer.scheme(&request(entry, outline)?)?))
    }

    fn plan(
        &self,
        outline: RStr<'_>,
        weights: RStr<'_>,
        programs: RSlice<'_, RSlice<'_, u8>>,
        statistics: RSlice<'_, AbiTensor<'_>>,
        host: HostBox,
    ) -> Abi<RString> {
        let entry = "quantizer.plan";
        self.call(entry, |quantizer| {
            let plan_request = PlanRequest {
                outline: request(entry, outline)?,
                weights: request(entry, weights)?,
                programs: programs.iter().map(RSlice::as_slice).collect(),
                statistics: statistics
                    .iter()
                    .map(|statistics| tensor_from_abi(*statistics))
                    .collect::<Result<_>>()?,
            };
            json(entry, &quantizer.plan(&plan_request, &borrow_host(host))?)
        })
    }

    fn encode(
        &self,
        tensor: AbiTensor<'_>,
        parameters: RStr<'_>,
        statistics: ROption<AbiTensor<'_>>,
        sink: SinkMut<'_>,
        host: HostBox,
    ) -> Abi<RString> {
        let entry = "quantizer.encode";
        self.call(entry, |quantizer| {
            let tensor = tensor_from_abi(tensor)?;
            let parameters: Value = request(entry, parameters)?;
            let statistics = statistics.into_option().map(tensor_from_abi).transpose()?;
            let mut sink = BorrowedSink(sink);
            let host = borrow_host(host);
            json(entry, &quantizer.encode(tensor, &parameters, statistics, &mut sink, &host)?)
        })
    }
}

impl AbiCombiner for Guarded<Box<dyn Combiner>> {
    fn layout(&self, model: RStr<'_>, options: RStr<'_>) -> Abi<RString> {
        let entry = "combiner.layout";
        self.call(entry, |combiner| {
            json(entry, &combiner.layout(&request(entry, model)?, &request(entry, options)?)?)
        })
    }

    fn combine(
        &self,
        functions: RSlice<'_, AbiNamedBytes<'_>>,
        options: RStr<'_>,
        host: HostBox,
    ) -> Abi<Blob> {
        let entry = "combiner.combine";
        self.call(entry, |combiner| {
            let functions: Vec<NamedFunction<'_>> = functions
                .iter()
                .map(|function| NamedFunction {
                    name: function.name.as_str(),
                    model: function.bytes.as_slice(),
                })
                .collect();
            let options = request(entry, options)?;
            combiner.combine(&functions, &options, &borrow_host(host)).map(coreml_blob)
        })
    }
}

impl AbiCompiler for Guarded<Box<dyn Compiler>> {
    fn check(&self) -> Abi<RString> {
        let entry = "compiler.check";
        self.call(entry, |compiler| json(entry, &compiler.check()?))
    }

    fn compile(
        &self,
        package: RSlice<'_, u8>,
        output_directory: RSlice<'_, u8>,
        host: HostBox,
    ) -> Abi<RVec<u8>> {
        let entry = "compiler.compile";
        self.call(entry, |compiler| {
            let package: PathBuf = path_from_bytes(package.as_slice())?;
            let output = path_from_bytes(output_directory.as_slice())?;
            let made = compiler.compile(&package, &output, &borrow_host(host))?;
            Ok(path_to_bytes(&made)?.to_vec().into())
        })
    }
}

impl AbiRuntime for Guarded<Box<dyn Runtime>> {
    fn check(&self) -> Abi<RString> {
        let entry = "runtime.check";
        self.call(entry, |runtime| json(entry, &runtime.check()?))
    }

    fn open(&self, package: RSlice<'_, u8>, host: HostBox) -> Abi<SessionBox> {
        let entry = "runtime.open";
        self.call(entry, |runtime| {
            let package = path_from_bytes(package.as_slice())?;
            let session = runtime.open(&package, &borrow_host(host))?;
            Ok(AbiSession_TO::from_ptr(Guarded::new(session, self.manifest), TD_Opaque))
        })
    }
}

impl AbiSession for Guarded<Box<dyn Session>> {
    fn describe(&self) -> Abi<RString> {
        let entry = "session.describe";
        self.call(entry, |session| json(entry, &session.describe()))
    }

    fn reset(&mut self) -> Abi<()> {
        self.call_mut("session.reset", |session| session.reset())
    }

    fn run(
        &mut self,
        function: RStr<'_>,
        inputs: RSlice<'_, AbiTensor<'_>>,
        taps: RSlice<'_, RStr<'_>>,
        outputs: SinkMut<'_>,
    ) -> Abi<()> {
        self.call_mut("session.run", |session| {
            let inputs: Vec<TensorView<'_>> =
                inputs.iter().map(|input| tensor_from_abi(*input)).collect::<Result<_>>()?;
            let taps: Vec<&str> = taps.iter().map(RStr::as_str).collect();
            session.run(function.as_str(), &inputs, &taps, &mut BorrowedSink(outputs))
        })
    }
}

/// The root module of a plugin.
pub(crate) struct Exported<P>(PhantomData<P>);

impl<P: Plugin> Exported<P> {
    abi_stable::staticref! {
        const VALUE: WithMetadata<PluginModule> = WithMetadata::new(PluginModule {
            manifest: Self::manifest,
            new_arch: Self::new_arch,
            new_quantizer: Self::new_quantizer,
            new_combiner: Self::new_combiner,
            new_compiler: Self::new_compiler,
            new_runtime: Self::new_runtime,
        });
    }

    /// The module.
    pub(crate) const MODULE: PluginModule_Ref = PluginModule_Ref(Self::VALUE.as_prefix());

    extern "C" fn manifest() -> RStr<'static> {
        RStr::from_str(P::MANIFEST)
    }

    extern "C" fn new_arch(id: RStr<'_>, options: RStr<'_>) -> Abi<ArchFrontendBox> {
        construct::<P, _, _>("new_arch", options, |options| {
            let component = P::arch_frontend(id.as_str(), options)?;
            Ok(AbiArchFrontend_TO::from_ptr(Guarded::new(component, P::MANIFEST), TD_Opaque))
        })
    }

    extern "C" fn new_quantizer(id: RStr<'_>, options: RStr<'_>) -> Abi<QuantizerBox> {
        construct::<P, _, _>("new_quantizer", options, |options| {
            let component = P::quantizer(id.as_str(), options)?;
            Ok(AbiQuantizer_TO::from_ptr(Guarded::new(component, P::MANIFEST), TD_Opaque))
        })
    }

    extern "C" fn new_combiner(id: RStr<'_>, options: RStr<'_>) -> Abi<CombinerBox> {
        construct::<P, _, _>("new_combiner", options, |options| {
            let component = P::combiner(id.as_str(), options)?;
            Ok(AbiCombiner_TO::from_ptr(Guarded::new(component, P::MANIFEST), TD_Opaque))
        })
    }

    extern "C" fn new_compiler(id: RStr<'_>, options: RStr<'_>) -> Abi<CompilerBox> {
        construct::<P, _, _>("new_compiler", options, |options| {
            let component = P::compiler(id.as_str(), options)?;
            Ok(AbiCompiler_TO::from_ptr(Guarded::new(component, P::MANIFEST), TD_Opaque))
        })
    }

    extern "C" fn new_runtime(id: RStr<'_>, options: RStr<'_>) -> Abi<RuntimeBox> {
        construct::<P, _, _>("new_runtime", options, |options| {
            let component = P::runtime(id.as_str(), options)?;
            Ok(AbiRuntime_TO::from_ptr(Guarded::new(component, P::MANIFEST), TD_Opaque))
        })
    }
}

fn construct<P: Plugin, R, F: FnOnce(&ComponentOptions) -> Result<R>>(
    entry: &str,
    options: RStr<'_>,
    make: F,
) -> Abi<R> {
    to_abi(catch_in_plugin(P::MANIFEST, entry, || make(&request(entry, options)?)))
}
