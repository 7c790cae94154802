//! The macros by which a plugin is exported or registered.

/// Exports a [`Plugin`](crate::Plugin) from a library that hosts can load.
///
/// It stands once, in a wrapper crate of its own with `crate-type = ["cdylib"]`: two exporting
/// crates in one program do not link. The wrapper's library name is the plugin's file name, and
/// differs from that of the crate with the logic.
///
/// The library exports the symbol `ANEMLL_PLUGIN_MANIFEST`, which can be read from the file without
/// running it, the root module, and a sum by which a host of the same build knows the layout of its
/// types. It must be built with `panic = "unwind"`, so that panics can
/// become errors; anything else does not compile.
///
/// ```ignore
/// anemll_plugin_api::export_plugin!(anemll_arch_llama::LlamaPlugin);
/// ```
#[macro_export]
macro_rules! export_plugin {
    ($plugin:ty) => {
        #[cfg(panic = "abort")]
        ::core::compile_error!(
            "a plugin must be built with `panic = \"unwind\"`: with \"abort\" a panic would end the host"
        );

        const _: () = {
            const MANIFEST: &::core::primitive::str = <$plugin as $crate::Plugin>::MANIFEST;
            const LENGTH: ::core::primitive::usize =
                $crate::__private::MANIFEST_HEADER + MANIFEST.len();

            #[used]
            #[unsafe(export_name = "ANEMLL_PLUGIN_MANIFEST")]
            static ANEMLL_PLUGIN_MANIFEST: [::core::primitive::u8; LENGTH] =
                $crate::__private::manifest_symbol::<LENGTH>(MANIFEST);

            #[used]
            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static ANEMLL_PLUGIN_HEADER: $crate::__private::LibHeader =
                $crate::__private::library_header::<$plugin>();

            #[used]
            #[unsafe(export_name = "ANEMLL_PLUGIN_LAYOUT")]
            static ANEMLL_PLUGIN_LAYOUT: $crate::__private::LayoutSum =
                $crate::__private::LayoutSum::OWN;
        };
    };
}

/// Registers a [`Plugin`](crate::Plugin) in every program that the crate is linked into.
///
/// Crates of plugins do this under a feature `builtin`. A program that wants the plugin must name
/// the crate (`use anemll_arch_llama as _;`), or the linker leaves it out.
#[macro_export]
macro_rules! register_builtin {
    ($plugin:ty) => {
        $crate::__private::inventory::submit! {
            $crate::Builtin::of::<$plugin>()
        }
    };
}
