//! Layouts that are bundles: which compiler they need, and what must not be left out.

use crate::request::{ConvertRequest, NONE};
use anemll_codes as codes;
use anemll_plugin_api::data::Layout;
use anemll_plugin_api::{Error, Result};

/// The id of the compiler that is asked for: by the user, or else by the layout.
///
/// # Errors
/// [`codes::USAGE`] for a compiler whose output the bundle's apps do not load, and for a bundle
/// without its tokenizer.
pub(crate) fn compiler<'a>(
    arguments: &'a ConvertRequest,
    layout: &'a Layout,
) -> Result<Option<&'a str>> {
    let asked = arguments.compiler.as_deref();
    let Some(bundle) = &layout.bundle else { return Ok(asked) };
    let combiner = &layout.combiner;
    match asked {
        Some(NONE) => Ok(asked),
        _ if arguments.no_tokenizer => {
            let text = format!("the bundles of `{combiner}` have the tokenizer in them");
            Err(Error::new(codes::USAGE, text)
                .with_at("--no-tokenizer")
                .with_hint("leave it out, or make the package alone: --compiler none"))
        }
        Some(id) if id != bundle.compiler => {
            let text = format!(
                "the bundles of `{combiner}` hold what `{}` makes, not `{id}`",
                bundle.compiler
            );
            Err(Error::new(codes::USAGE, text)
                .with_at("--compiler")
                .with_hint("leave it out, or make the package alone: --compiler none"))
        }
        _ => Ok(Some(&bundle.compiler)),
    }
}
