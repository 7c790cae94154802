//! The host's side: the ABI's objects behind safe traits, every answer checked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use abi_stable::std_types::{ROption, RSlice, RStr};
use serde_json::Value;

use super::convert::{
    answer, answered, bad_answer, coreml_model, path_from_bytes, path_to_bytes, tensor_to_abi,
    to_json,
};
use super::services::{Failure, inner, lend_host, lend_sink};
use super::sink_check::LentSink;
use super::v1::{
    AbiNamedBytes, AbiTensor, ArchFrontendBox, ArchModelBox, CombinerBox, CompilerBox,
    PluginModule_Ref, QuantizerBox, RuntimeBox, SessionBox,
};
use crate::data::{
    Availability, CombineOptions, Encoded, FunctionSpec, Layout, LayoutRequest, ModelDescription,
    ModelInput, NamedFunction, Outline, Plan, PlanRequest, Scheme, SessionDescription, Verdict,
};
use crate::{
    ArchFrontend, ArchModel, Combiner, Compiler, ComponentOptions, Host, Quantizer, Result,
    Runtime, Session, Sink, TensorView,
};

/// A plugin's root module, and the plugin's name for error messages.
#[derive(Clone)]
pub(crate) struct RemotePlugin {
    module: PluginModule_Ref,
    name: Arc<str>,
}

/// A component of a plugin.
struct Remote<T> {
    object: T,
    plugin: Arc<str>,
}

impl RemotePlugin {
    pub(crate) fn new(module: PluginModule_Ref, name: &str) -> Self {
        Self { module, name: name.into() }
    }

    fn remote<T>(&self, object: T) -> Remote<T> {
        Remote { object, plugin: self.name.clone() }
    }

    pub(crate) fn arch_frontend(
        &self,
        id: &str,
        options: &ComponentOptions,
    ) -> Result<Box<dyn ArchFrontend>> {
        let object = answered(
            &self.name,
            "new_arch",
            self.module.new_arch()(id.into(), options.to_string().as_str().into()),
        )?;
        Ok(Box::new(self.remote(object)))
    }

    pub(crate) fn quantizer(
        &self,
        id: &str,
        options: &ComponentOptions,
    ) -> Result<Box<dyn Quantizer>> {
        let object = answered(
            &self.name,
            "new_quantizer",
            self.module.new_quantizer()(id.into(), options.to_string().as_str().into()),
        )?;
        Ok(Box::new(self.remote(object)))
    }

    pub(crate) fn combiner(
        &self,
        id: &str,
        options: &ComponentOptions,
    ) -> Result<Box<dyn Combiner>> {
        let object = answered(
            &self.name,
            "new_combiner",
            self.module.new_combiner()(id.into(), options.to_string().as_str().into()),
        )?;
        Ok(Box::new(self.remote(object)))
    }

    pub(crate) fn compiler(
        &self,
        id: &str,
        options: &ComponentOptions,
    ) -> Result<Box<dyn Compiler>> {
        let object = answered(
            &self.name,
            "new_compiler",
            self.module.new_compiler()(id.into(), options.to_string().as_str().into()),
        )?;
        Ok(Box::new(self.remote(object)))
    }

    pub(crate) fn runtime(&self, id: &str, options: &ComponentOptions) -> Result<Box<dyn Runtime>> {
        let object = answered(
            &self.name,
            "new_runtime",
            self.module.new_runtime()(id.into(), options.to_string().as_str().into()),
        )?;
        Ok(Box::new(self.remote(object)))
    }
}

impl ArchFrontend for Remote<ArchFrontendBox> {
    fn accepts(&self, config_json: &str) -> Result<Verdict> {
        let verdict =
            answered(&self.plugin, "arch.accepts", self.object.accepts(config_json.into()))?;
        answer(&self.plugin, "arch.accepts", &verdict)
    }

    fn open(&self, model: &ModelInput, host: &Host) -> Result<Box<dyn ArchModel>> {
        let model = to_json("arch.open", model)?;
        let (lent, failure) = lend_host(host);
        let object = failure.settle(answered(
            &self.plugin,
            "arch.open",
            self.object.open(model.as_str().into(), lent),
        ))?;
        let description = answered(&self.plugin, "model.describe", object.describe())?;
        Ok(Box::new(RemoteModel {
            description: answer(&self.plugin, "model.describe", &description)?,
            object,
            plugin: self.plugin.clone(),
        }))
    }
}

/// A model that a frontend has read; its description crosses once.
struct RemoteModel {
    object: ArchModelBox,
    plugin: Arc<str>,
    description: ModelDescription,
}

impl ArchModel for RemoteModel {
    fn describe(&self) -> ModelDescription {
        self.description.clone()
    }

    fn lower(&self, function: &FunctionSpec, host: &Host) -> Result<Vec<u8>> {
        let entry = "model.lower";
        let function = to_json(entry, function)?;
        let (lent, failure) = lend_host(host);
        let blob = self.object.lower(function.as_str().into(), lent);
        coreml_model(&self.plugin, entry, failure.settle(answered(&self.plugin, entry, blob))?)
    }
}

impl Quantizer for Remote<QuantizerBox> {
    fn scheme(&self, outline: &Outline) -> Result<Scheme> {
        let entry = "quantizer.scheme";
        let outline = to_json(entry, outline)?;
        answer(
            &self.plugin,
            entry,
            &answered(&self.plugin, entry, self.object.scheme(outline.as_str().into()))?,
        )
    }

    fn plan(&self, request: &PlanRequest<'_>, host: &Host) -> Result<Plan> {
        let entry = "quantizer.plan";
        let outline = to_json(entry, &request.outline)?;
        let weights = to_json(entry, &request.weights)?;
        let programs: Vec<RSlice<'_, u8>> =
            request.programs.iter().map(|program| RSlice::from_slice(program)).collect();
        let statistics: Vec<AbiTensor<'_>> =
            request.statistics.iter().map(|statistics| tensor_to_abi(*statistics)).collect();
        let (lent, failure) = lend_host(host);
        let plan = self.object.plan(
            outline.as_str().into(),
            weights.as_str().into(),
            RSlice::from_slice(&programs),
            RSlice::from_slice(&statistics),
            lent,
        );
        answer(&self.plugin, entry, &failure.settle(answered(&self.plugin, entry, plan))?)
    }

    fn encode(
        &self,
        tensor: TensorView<'_>,
        parameters: &Value,
        statistics: Option<TensorView<'_>>,
        sink: &mut dyn Sink,
        host: &Host,
    ) -> Result<Encoded> {
        let entry = "quantizer.encode";
        let parameters = parameters.to_string();
        let (lent, failure) = lend_host(host);
        let mut lent_sink = Mutex::new(LentSink::new(sink));
        let encoded = self.object.encode(
            tensor_to_abi(tensor),
            parameters.as_str().into(),
            statistics.map_or(ROption::RNone, |view| ROption::RSome(tensor_to_abi(view))),
            lend_sink(&mut lent_sink),
            lent,
        );
        let lent_sink = inner(&mut lent_sink);
        let encoded = lent_sink.settle(answered(&self.plugin, entry, encoded));
        answer(&self.plugin, entry, &failure.settle(encoded)?)
    }
}

impl Combiner for Remote<CombinerBox> {
    fn layout(&self, model: &ModelDescription, request: &LayoutRequest) -> Result<Layout> {
        let entry = "combiner.layout";
        let model = to_json(entry, model)?;
        let request = to_json(entry, request)?;
        let layout = self.object.layout(model.as_str().into(), request.as_str().into());
        answer(&self.plugin, entry, &answered(&self.plugin, entry, layout)?)
    }

    fn combine(
        &self,
        functions: &[NamedFunction<'_>],
        options: &CombineOptions,
        host: &Host,
    ) -> Result<Vec<u8>> {
        let entry = "combiner.combine";
        let functions: Vec<AbiNamedBytes<'_>> = functions
            .iter()
            .map(|function| AbiNamedBytes {
                name: RStr::from_str(function.name),
                bytes: RSlice::from_slice(function.model),
            })
            .collect();
        let options = to_json(entry, options)?;
        let (lent, failure) = lend_host(host);
        let blob =
            self.object.combine(RSlice::from_slice(&functions), options.as_str().into(), lent);
        coreml_model(&self.plugin, entry, failure.settle(answered(&self.plugin, entry, blob))?)
    }
}

impl Compiler for Remote<CompilerBox> {
    fn check(&self) -> Result<Availability> {
        answer(
            &self.plugin,
            "compiler.check",
            &answered(&self.plugin, "compiler.check", self.object.check())?,
        )
    }

    fn compile(&self, package: &Path, output_directory: &Path, host: &Host) -> Result<PathBuf> {
        let (lent, failure) = lend_host(host);
        let made = self.object.compile(
            path_to_bytes(package)?.into(),
            path_to_bytes(output_directory)?.into(),
            lent,
        );
        path_from_bytes(&failure.settle(answered(&self.plugin, "compiler.compile", made))?)
    }
}

impl Runtime for Remote<RuntimeBox> {
    fn check(&self) -> Result<Availability> {
        answer(
            &self.plugin,
            "runtime.check",
            &answered(&self.plugin, "runtime.check", self.object.check())?,
        )
    }

    fn open(&self, package: &Path, host: &Host) -> Result<Box<dyn Session>> {
        let (lent, failure) = lend_host(host);
        let session = self.object.open(path_to_bytes(package)?.into(), lent);
        let object = failure.settle(answered(&self.plugin, "runtime.open", session))?;
        let description = answered(&self.plugin, "session.describe", object.describe())?;
        Ok(Box::new(RemoteSession {
            description: answer(&self.plugin, "session.describe", &description)?,
            object,
            plugin: self.plugin.clone(),
            failure,
        }))
    }
}

/// An open package; it keeps the host that it was opened with.
struct RemoteSession {
    object: SessionBox,
    plugin: Arc<str>,
    /// As it was when the package was opened; a package does not change.
    description: SessionDescription,
    failure: Failure,
}

impl RemoteSession {
    /// Whether the values in the sink are those that were asked for.
    fn check_outputs(&self, function: &str, taps: &[&str], sink: &LentSink<'_>) -> Result<()> {
        let refuse = |why: String| Err(bad_answer(&self.plugin, "session.run", &why));
        let signature =
            self.description.functions.iter().find(|signature| signature.name == function);
        let Some(signature) = signature else {
            return refuse(format!("it ran a function `{function}` that it does not have"));
        };
        // Where inputs may have several shapes, what is described is one of those of the output.
        let fixed = signature.inputs.iter().all(|input| input.shapes.len() == 1);
        let written = sink.tensors().values();
        for output in &signature.outputs {
            match written.clone().find(|tensor| tensor.name == output.name) {
                None => return refuse(format!("it lacks the output `{}`", output.name)),
                Some(tensor) if tensor.dtype != output.dtype => {
                    return refuse(format!(
                        "the output `{}` is {}, and not {} as described",
                        output.name, tensor.dtype, output.dtype
                    ));
                }
                Some(tensor)
                    if fixed
                        && !output.shapes.is_empty()
                        && !output.shapes.contains(&tensor.shape) =>
                {
                    return refuse(format!(
                        "the output `{}` has the shape {:?}, and not {:?} as described",
                        output.name, tensor.shape, output.shapes[0]
                    ));
                }
                Some(_) => {}
            }
        }
        for tap in taps {
            if !written.clone().any(|tensor| tensor.name == *tap) {
                return refuse(format!("it lacks the value `{tap}`"));
            }
        }
        let known = |name: &str| {
            taps.contains(&name) || signature.outputs.iter().any(|output| output.name == name)
        };
        match written.clone().find(|tensor| !known(&tensor.name)) {
            Some(tensor) => refuse(format!("it has an unknown value `{}`", tensor.name)),
            None => Ok(()),
        }
    }
}

impl Session for RemoteSession {
    fn describe(&self) -> SessionDescription {
        self.description.clone()
    }

    fn reset(&mut self) -> Result<()> {
        self.failure.settle(answered(&self.plugin, "session.reset", self.object.reset()))
    }

    fn run(
        &mut self,
        function: &str,
        inputs: &[TensorView<'_>],
        taps: &[&str],
        outputs: &mut dyn Sink,
    ) -> Result<()> {
        let inputs: Vec<AbiTensor<'_>> = inputs.iter().map(|input| tensor_to_abi(*input)).collect();
        let abi_taps: Vec<RStr<'_>> = taps.iter().map(|tap| RStr::from_str(tap)).collect();
        let mut sink = Mutex::new(LentSink::new(outputs));
        let result = self.object.run(
            function.into(),
            RSlice::from_slice(&inputs),
            RSlice::from_slice(&abi_taps),
            lend_sink(&mut sink),
        );
        let sink = inner(&mut sink);
        let result = sink.settle(answered(&self.plugin, "session.run", result));
        self.failure.settle(result)?;
        self.check_outputs(function, taps, sink)
    }
}

#[cfg(test)]
mod tests;
