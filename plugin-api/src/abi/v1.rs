//! The types of ABI epoch 1, which is frozen.
//!
//! A method added to one of these traits, or a field to the module, makes every plugin that was
//! built before it unloadable (the layout check is strict in that direction). So these types do not
//! change any more: `tests/abi/v1` has a copy of this file, and a test compares the two. What needs
//! other types is a new epoch, which stands beside this one.
//!
//! JSON goes in as `RStr` and comes out as `RString`; the structs are those of [`crate::data`].
//! Paths are bytes: as they are on Unix, UTF-8 elsewhere.

use abi_stable::{
    StableAbi,
    library::RootModule,
    package_version_strings, sabi_trait,
    sabi_types::{RMut, RRef, VersionStrings},
    std_types::{RBox, ROption, RResult, RSlice, RStr, RString, RVec},
};

/// The number of this epoch.
pub const EPOCH: u32 = 1;

/// [`crate::Error`].
#[repr(C)]
#[derive(StableAbi)]
pub struct PluginError {
    pub code: RString,
    pub message: RString,
    pub hint: ROption<RString>,
    pub at: ROption<RString>,
    pub causes: RVec<RString>,
}

/// What every fallible entry returns.
pub type Abi<T> = RResult<T, PluginError>;

/// [`crate::TensorView`]: borrowed for one call; the bytes are never copied on the way.
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct AbiTensor<'a> {
    pub name: RStr<'a>,
    /// [`crate::DType`].
    pub dtype: u32,
    pub shape: RSlice<'a, u64>,
    pub bytes: RSlice<'a, u8>,
}

/// [`crate::data::NamedFunction`].
#[repr(C)]
#[derive(StableAbi, Clone, Copy)]
pub struct AbiNamedBytes<'a> {
    pub name: RStr<'a>,
    pub bytes: RSlice<'a, u8>,
}

/// Bytes in a named format.
#[repr(C)]
#[derive(StableAbi)]
pub struct Blob {
    pub format: RString,
    pub bytes: RVec<u8>,
}

/// The format of a serialized `CoreML.Specification.Model`.
pub const FORMAT_COREML_MODEL: &str = "application/x-coreml-model+protobuf";

/// One task of [`AbiHostServices::parallel`].
#[sabi_trait]
pub trait AbiTask: Sync {
    #[sabi(last_prefix_field)]
    fn run(&self, index: u64);
}
pub type TaskRef<'a> = AbiTask_TO<'a, RRef<'a, ()>>;

/// [`crate::HostServices`]: owned by the plugin for as long as it likes.
#[sabi_trait]
pub trait AbiHostServices: Send + Sync {
    fn log(&self, level: u32, target: RStr<'_>, message: RStr<'_>);
    fn progress(&self, task: RStr<'_>, done: u64, total: u64) -> Abi<bool>;
    fn cancelled(&self) -> Abi<bool>;
    fn threads(&self) -> u64;
    fn parallel(&self, count: u64, task: TaskRef<'_>) -> Abi<()>;
    #[sabi(last_prefix_field)]
    fn scratch_directory(&self) -> Abi<RVec<u8>>;
}
pub type HostBox = AbiHostServices_TO<'static, RBox<()>>;

/// [`crate::Sink`]: lent for one call.
#[sabi_trait]
pub trait AbiSink: Send {
    fn begin(&mut self, name: RStr<'_>, dtype: u32, shape: RSlice<'_, u64>) -> Abi<u64>;
    fn write(&mut self, id: u64, bytes: RSlice<'_, u8>) -> Abi<()>;
    #[sabi(last_prefix_field)]
    fn finish(&mut self, id: u64) -> Abi<()>;
}
pub type SinkMut<'a> = AbiSink_TO<'a, RMut<'a, ()>>;

/// [`crate::ArchFrontend`].
#[sabi_trait]
pub trait AbiArchFrontend: Send + Sync {
    fn accepts(&self, config: RStr<'_>) -> Abi<RString>;
    #[sabi(last_prefix_field)]
    fn open(&self, model: RStr<'_>, host: HostBox) -> Abi<ArchModelBox>;
}
pub type ArchFrontendBox = AbiArchFrontend_TO<'static, RBox<()>>;

/// [`crate::ArchModel`].
#[sabi_trait]
pub trait AbiArchModel: Send + Sync {
    fn describe(&self) -> Abi<RString>;
    #[sabi(last_prefix_field)]
    fn lower(&self, function: RStr<'_>, host: HostBox) -> Abi<Blob>;
}
pub type ArchModelBox = AbiArchModel_TO<'static, RBox<()>>;

/// [`crate::Quantizer`].
#[sabi_trait]
pub trait AbiQuantizer: Send + Sync {
    fn scheme(&self, outline: RStr<'_>) -> Abi<RString>;
    fn plan(
        &self,
        outline: RStr<'_>,
        weights: RStr<'_>,
        programs: RSlice<'_, RSlice<'_, u8>>,
        statistics: RSlice<'_, AbiTensor<'_>>,
        host: HostBox,
    ) -> Abi<RString>;
    #[sabi(last_prefix_field)]
    fn encode(
        &self,
        tensor: AbiTensor<'_>,
        parameters: RStr<'_>,
        statistics: ROption<AbiTensor<'_>>,
        sink: SinkMut<'_>,
        host: HostBox,
    ) -> Abi<RString>;
}
pub type QuantizerBox = AbiQuantizer_TO<'static, RBox<()>>;

/// [`crate::Combiner`].
#[sabi_trait]
pub trait AbiCombiner: Send + Sync {
    fn layout(&self, model: RStr<'_>, options: RStr<'_>) -> Abi<RString>;
    #[sabi(last_prefix_field)]
    fn combine(
        &self,
        functions: RSlice<'_, AbiNamedBytes<'_>>,
        options: RStr<'_>,
        host: HostBox,
    ) -> Abi<Blob>;
}
pub type CombinerBox = AbiCombiner_TO<'static, RBox<()>>;

/// [`crate::Compiler`].
#[sabi_trait]
pub trait AbiCompiler: Send + Sync {
    fn check(&self) -> Abi<RString>;
    #[sabi(last_prefix_field)]
    fn compile(
        &self,
        package: RSlice<'_, u8>,
        output_directory: RSlice<'_, u8>,
        host: HostBox,
    ) -> Abi<RVec<u8>>;
}
pub type CompilerBox = AbiCompiler_TO<'static, RBox<()>>;

/// [`crate::Runtime`].
#[sabi_trait]
pub trait AbiRuntime: Send + Sync {
    fn check(&self) -> Abi<RString>;
    #[sabi(last_prefix_field)]
    fn open(&self, package: RSlice<'_, u8>, host: HostBox) -> Abi<SessionBox>;
}
pub type RuntimeBox = AbiRuntime_TO<'static, RBox<()>>;

/// [`crate::Session`].
#[sabi_trait]
pub trait AbiSession: Send {
    fn describe(&self) -> Abi<RString>;
    fn reset(&mut self) -> Abi<()>;
    #[sabi(last_prefix_field)]
    fn run(
        &mut self,
        function: RStr<'_>,
        inputs: RSlice<'_, AbiTensor<'_>>,
        taps: RSlice<'_, RStr<'_>>,
        outputs: SinkMut<'_>,
    ) -> Abi<()>;
}
pub type SessionBox = AbiSession_TO<'static, RBox<()>>;

/// The root module of a plugin: its manifest, and a constructor per stage, each given an id and
/// options as JSON. A stage that the plugin lacks answers
/// [`crate::codes::PLUGIN_NO_SUCH_COMPONENT`].
#[repr(C)]
#[derive(StableAbi)]
#[sabi(kind(Prefix(prefix_ref = PluginModule_Ref)))]
#[sabi(missing_field(panic))]
pub struct PluginModule {
    pub manifest: extern "C" fn() -> RStr<'static>,
    pub new_arch: for<'a, 'b> extern "C" fn(RStr<'a>, RStr<'b>) -> Abi<ArchFrontendBox>,
    pub new_quantizer: for<'a, 'b> extern "C" fn(RStr<'a>, RStr<'b>) -> Abi<QuantizerBox>,
    pub new_combiner: for<'a, 'b> extern "C" fn(RStr<'a>, RStr<'b>) -> Abi<CombinerBox>,
    pub new_compiler: for<'a, 'b> extern "C" fn(RStr<'a>, RStr<'b>) -> Abi<CompilerBox>,
    #[sabi(last_prefix_field)]
    pub new_runtime: for<'a, 'b> extern "C" fn(RStr<'a>, RStr<'b>) -> Abi<RuntimeBox>,
}

impl RootModule for PluginModule_Ref {
    abi_stable::declare_root_module_statics! {PluginModule_Ref}
    const BASE_NAME: &'static str = "anemll_plugin";
    const NAME: &'static str = "anemll_plugin";
    const VERSION_STRINGS: VersionStrings = package_version_strings!();
}
