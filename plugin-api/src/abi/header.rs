//! What the exporting macro puts into a library: the manifest symbol and the header of `abi_stable`.

pub use abi_stable::library::LibHeader;
use abi_stable::library::{CheckTypeLayout, RootModuleResult};
use abi_stable::marker_type::ErasedPrefix;
use abi_stable::prefix_type::PrefixRefTrait;
use abi_stable::std_types::RResult;

use super::export::Exported;
use super::v1::{EPOCH, PluginModule_Ref};
use crate::Plugin;

/// What the manifest symbol begins with.
pub const MANIFEST_MAGIC: [u8; 8] = *b"ANEMLLPM";

/// Bytes before the JSON: the magic, the length of the JSON and the ABI epoch, both `u32` little
/// endian.
pub const MANIFEST_HEADER: usize = 16;

/// The contents of the manifest symbol; `LENGTH` is [`MANIFEST_HEADER`] and the JSON's length.
pub const fn manifest_symbol<const LENGTH: usize>(json: &str) -> [u8; LENGTH] {
    let json = json.as_bytes();
    assert!(LENGTH == MANIFEST_HEADER + json.len(), "the symbol holds header and JSON");
    assert!(json.len() <= crate::limits::MANIFEST, "the manifest is too long");
    let mut symbol = [0; LENGTH];
    let length = (json.len() as u32).to_le_bytes();
    let epoch = EPOCH.to_le_bytes();
    let mut index = 0;
    while index < LENGTH {
        symbol[index] = match index {
            0..8 => MANIFEST_MAGIC[index],
            8..12 => length[index - 8],
            12..16 => epoch[index - 12],
            _ => json[index - MANIFEST_HEADER],
        };
        index += 1;
    }
    symbol
}

/// The header that `abi_stable` looks for in a library.
#[allow(unsafe_code)]
pub const fn library_header<P: Plugin>() -> LibHeader {
    // SAFETY: `root_module` erases a `PluginModule_Ref`, the type that is named here.
    unsafe {
        LibHeader::from_constructor::<PluginModule_Ref>(root_module::<P>, CheckTypeLayout::Yes)
    }
}

#[allow(unsafe_code)]
extern "C" fn root_module<P: Plugin>() -> RootModuleResult {
    let module = Exported::<P>::MODULE.to_prefix_ref();
    // SAFETY: every prefix reference may be erased; the host casts it back to the type whose layout
    // it has checked against the header's.
    RResult::ROk(unsafe { module.cast::<ErasedPrefix>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_symbol_is_header_and_json() {
        let symbol: [u8; 18] = manifest_symbol("{}");
        assert_eq!(&symbol, b"ANEMLLPM\x02\0\0\0\x01\0\0\0{}");
    }

    #[test]
    fn the_macro_exports_the_name_that_abi_stable_looks_for() {
        // The attribute takes a literal only, so `export_plugin!` repeats the name.
        assert!(
            include_str!("../macros.rs").contains(abi_stable::library::ROOT_MODULE_LOADER_NAME),
            "{}",
            abi_stable::library::ROOT_MODULE_LOADER_NAME
        );
    }
}
