//! A plugin that is ready for use, wherever it comes from.

use crate::abi::export::Exported;
use crate::abi::remote::RemotePlugin;
use crate::abi::v1::{EPOCH, PluginModule_Ref};
use crate::data::{Manifest, Stage};
use crate::{
    ArchFrontend, Combiner, Compiler, ComponentOptions, Error, Plugin, Quantizer, Result, Runtime,
    codes,
};

/// The ABI epoch that this crate offers to plugins, and that plugins built with it need.
pub const ABI_EPOCH: u32 = EPOCH;

/// A plugin that is linked into the program; see [`crate::register_builtin!`].
pub struct Builtin {
    module: PluginModule_Ref,
}

impl Builtin {
    /// The registration of a plugin.
    pub const fn of<P: Plugin>() -> Self {
        Self { module: Exported::<P>::MODULE }
    }

    /// The manifest, as JSON.
    pub fn manifest(&self) -> &'static str {
        self.module.manifest()().as_str()
    }
}

inventory::collect!(Builtin);

/// A plugin that is ready for use.
///
/// Loaded libraries and built-in plugins pass the same boundary, with the same checks.
#[derive(Clone)]
pub struct LoadedPlugin {
    manifest: Manifest,
    remote: RemotePlugin,
}

impl std::fmt::Debug for LoadedPlugin {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "LoadedPlugin({} {})", self.manifest.name, self.manifest.version)
    }
}

impl LoadedPlugin {
    /// A plugin that is linked into the program.
    ///
    /// # Errors
    /// Those of [`Manifest::parse`], and [`codes::PLUGIN_OTHER_EPOCH`].
    pub fn builtin(builtin: &Builtin) -> Result<Self> {
        Self::from_module(builtin.module)
    }

    /// A plugin of this crate or program, without registration; for tests.
    ///
    /// # Errors
    /// As [`Self::builtin`].
    pub fn of<P: Plugin>() -> Result<Self> {
        Self::builtin(&Builtin::of::<P>())
    }

    pub(crate) fn from_module(module: PluginModule_Ref) -> Result<Self> {
        let manifest = Manifest::parse(module.manifest()().as_str())?;
        if manifest.abi != ABI_EPOCH {
            return Err(other_epoch(&manifest.name, manifest.abi));
        }
        let remote = RemotePlugin::new(module, &manifest.name);
        Ok(Self { manifest, remote })
    }

    /// What the plugin says about itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Makes an arch frontend. The options are checked and completed by
    /// [`ComponentManifest::complete_options`](crate::data::ComponentManifest::complete_options).
    ///
    /// # Errors
    /// [`codes::PLUGIN_NO_SUCH_COMPONENT`], [`codes::PLUGIN_OPTION_INVALID`], those of the plugin.
    pub fn arch_frontend(
        &self,
        id: &str,
        options: &ComponentOptions,
    ) -> Result<Box<dyn ArchFrontend>> {
        self.remote.arch_frontend(id, &self.options(Stage::Arch, id, options)?)
    }

    /// Makes a quantizer.
    ///
    /// # Errors
    /// As [`Self::arch_frontend`].
    pub fn quantizer(&self, id: &str, options: &ComponentOptions) -> Result<Box<dyn Quantizer>> {
        self.remote.quantizer(id, &self.options(Stage::Quantizer, id, options)?)
    }

    /// Makes a combiner.
    ///
    /// # Errors
    /// As [`Self::arch_frontend`].
    pub fn combiner(&self, id: &str, options: &ComponentOptions) -> Result<Box<dyn Combiner>> {
        self.remote.combiner(id, &self.options(Stage::Combiner, id, options)?)
    }

    /// Makes a compiler backend.
    ///
    /// # Errors
    /// As [`Self::arch_frontend`].
    pub fn compiler(&self, id: &str, options: &ComponentOptions) -> Result<Box<dyn Compiler>> {
        self.remote.compiler(id, &self.options(Stage::Compiler, id, options)?)
    }

    /// Makes a runtime.
    ///
    /// # Errors
    /// As [`Self::arch_frontend`].
    pub fn runtime(&self, id: &str, options: &ComponentOptions) -> Result<Box<dyn Runtime>> {
        self.remote.runtime(id, &self.options(Stage::Runtime, id, options)?)
    }

    /// The plugin without the check against its manifest.
    pub(crate) fn remote(&self) -> &RemotePlugin {
        &self.remote
    }

    fn options(
        &self,
        stage: Stage,
        id: &str,
        given: &ComponentOptions,
    ) -> Result<ComponentOptions> {
        match self.manifest.component(stage, id) {
            Some(component) => component.complete_options(given),
            None => {
                let ids: Vec<&str> = self
                    .manifest
                    .components_of(stage)
                    .map(|component| component.id.as_str())
                    .collect();
                let has = match ids.is_empty() {
                    true => format!("it has no {stage} components"),
                    false => format!("its {stage} components: {}", ids.join(", ")),
                };
                Err(Error::new(
                    codes::PLUGIN_NO_SUCH_COMPONENT,
                    format!("plugin `{}` has no {stage} component {id:?}", self.manifest.name),
                )
                .with_hint(has))
            }
        }
    }
}

/// The error of a plugin that was built for another epoch.
pub fn other_epoch(name: &str, epoch: u32) -> Error {
    let hint = match epoch > ABI_EPOCH {
        true => format!("update anemll, or use a build of `{name}` for plugin ABI {ABI_EPOCH}"),
        false => format!("use a build of `{name}` for plugin ABI {ABI_EPOCH}"),
    };
    Error::new(
        codes::PLUGIN_OTHER_EPOCH,
        format!("plugin `{name}` needs plugin ABI {epoch}; this program offers ABI {ABI_EPOCH}"),
    )
    .with_hint(hint)
}
