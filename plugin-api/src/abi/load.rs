//! From the header that a library exports to a plugin whose layout is ours; for `anemll-plugin-host`.

pub use abi_stable::library::AbiHeaderRef;
use abi_stable::library::{LibHeader, LibraryError, ROOT_MODULE_LOADER_NAME};

use super::layout_sum::LayoutSum;
use super::v1::PluginModule_Ref;
use crate::{LoadedPlugin, Result};

/// The name of the symbol that is an [`AbiHeaderRef`].
pub const LIBRARY_HEADER: &str = ROOT_MODULE_LOADER_NAME;

/// Why a library's root module cannot be used.
#[derive(Debug)]
pub struct ModuleFailure {
    /// In a few words.
    pub reason: String,
    /// At length: up to thousands of lines.
    pub report: String,
}

/// A root module whose layout is ours.
#[derive(Clone, Copy)]
pub struct RootModule(PluginModule_Ref);

impl RootModule {
    /// The root module behind a library's header. Its layout is compared type by type unless the
    /// library's sum, where it has one, is that of this build.
    ///
    /// # Errors
    /// Another layout, or another major version of this crate.
    pub fn of(
        header: AbiHeaderRef,
        sum: Option<&LayoutSum>,
    ) -> std::result::Result<Self, ModuleFailure> {
        let header = header.upgrade().map_err(|error| failure(&error))?;
        match sum.is_some_and(LayoutSum::is_own) {
            true => module_of_own_layout(header),
            false => checked_module(header),
        }
        .map(Self)
    }

    /// The manifest, as JSON.
    pub fn manifest(self) -> &'static str {
        self.0.manifest()().as_str()
    }

    /// The plugin.
    ///
    /// # Errors
    /// As [`LoadedPlugin::builtin`].
    pub fn into_plugin(self) -> Result<LoadedPlugin> {
        LoadedPlugin::from_module(self.0)
    }
}

/// The layout of all types of the epoch.
pub fn layout() -> &'static abi_stable::type_layout::TypeLayout {
    <PluginModule_Ref as abi_stable::StableAbi>::LAYOUT
}

fn checked_module(
    header: &'static LibHeader,
) -> std::result::Result<PluginModule_Ref, ModuleFailure> {
    header.init_root_module::<PluginModule_Ref>().map_err(|error| failure(&error))
}

#[allow(unsafe_code)]
fn module_of_own_layout(
    header: &'static LibHeader,
) -> std::result::Result<PluginModule_Ref, ModuleFailure> {
    // SAFETY: the types were made from the same source by the same compiler for the same target, with
    // the same version of `abi_stable`, so they are laid out alike.
    unsafe { header.init_root_module_with_unchecked_layout::<PluginModule_Ref>() }
        .map_err(|error| failure(&error))
}

fn failure(error: &LibraryError) -> ModuleFailure {
    let own = crate::VERSION;
    let reason = match error {
        LibraryError::IncompatibleVersionNumber { actual_version, .. } => {
            format!("it was built with anemll-plugin-api {actual_version}, this program with {own}")
        }
        LibraryError::InvalidAbiHeader(_) => {
            "it was built with another version of abi_stable".to_owned()
        }
        LibraryError::AbiInstability(_) => "its types are laid out differently".to_owned(),
        _ => "its root module cannot be made".to_owned(),
    };
    ModuleFailure { reason, report: error.to_string() }
}

#[cfg(test)]
#[allow(non_camel_case_types, dead_code)]
mod tests {
    use abi_stable::library::RootModule;
    use abi_stable::prefix_type::PrefixTypeTrait;
    use abi_stable::sabi_types::VersionStrings;
    use abi_stable::std_types::RStr;
    use abi_stable::{StableAbi, package_version_strings};

    use super::*;

    #[repr(C)]
    #[derive(StableAbi)]
    #[sabi(kind(Prefix(prefix_ref = OtherModule_Ref)))]
    #[sabi(missing_field(panic))]
    struct OtherModule {
        #[sabi(last_prefix_field)]
        manifest: extern "C" fn() -> RStr<'static>,
    }

    impl RootModule for OtherModule_Ref {
        abi_stable::declare_root_module_statics! {OtherModule_Ref}
        const BASE_NAME: &'static str = "anemll_plugin";
        const NAME: &'static str = "anemll_plugin";
        const VERSION_STRINGS: VersionStrings = package_version_strings!();
    }

    extern "C" fn manifest() -> RStr<'static> {
        RStr::from_str("{}")
    }

    #[test]
    fn a_module_of_another_layout_is_refused_with_a_reason_and_a_report() {
        let module = OtherModule { manifest }.leak_into_prefix();
        let header = Box::leak(Box::new(LibHeader::from_module(module)));
        let failure = checked_module(header).err().expect("the layouts differ");
        assert!(!failure.reason.contains('\n'), "{}", failure.reason);
        assert!(failure.report.lines().count() > 10, "{}", failure.report);
    }
}
