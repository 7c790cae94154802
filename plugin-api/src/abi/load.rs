//! From an open library to a root module whose layout is ours.

use abi_stable::library::{AbiHeaderRef, LibHeader, LibraryError, ROOT_MODULE_LOADER_NAME};
use libloading::Library;

use super::v1::PluginModule_Ref;

/// Why a library's root module cannot be used.
#[derive(Debug)]
pub(crate) struct ModuleFailure {
    /// In a few words.
    pub(crate) reason: String,
    /// At length: up to thousands of lines.
    pub(crate) report: String,
}

/// The root module of a library that has a manifest.
#[allow(unsafe_code)]
pub(crate) fn module_of(library: &'static Library) -> Result<PluginModule_Ref, ModuleFailure> {
    // SAFETY: libraries that export this symbol give it this type; it begins with a magic string
    // and versions, which `upgrade` compares before it reads on.
    let header = unsafe { library.get::<AbiHeaderRef>(ROOT_MODULE_LOADER_NAME) };
    match header {
        Ok(header) => checked_module((*header).upgrade().map_err(|error| failure(&error))?),
        Err(error) => Err(ModuleFailure {
            reason: "it has a manifest, but exports no root module".to_owned(),
            report: error.to_string(),
        }),
    }
}

fn checked_module(header: &'static LibHeader) -> Result<PluginModule_Ref, ModuleFailure> {
    header.init_root_module::<PluginModule_Ref>().map_err(|error| failure(&error))
}

fn failure(error: &LibraryError) -> ModuleFailure {
    let own = env!("CARGO_PKG_VERSION");
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
    use abi_stable::abi_stability::abi_checking::check_layout_compatibility;
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
    fn the_epoch_is_compatible_with_itself() {
        let layout = <PluginModule_Ref as StableAbi>::LAYOUT;
        assert!(check_layout_compatibility(layout, layout).is_ok());
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
