//! What the options of a frontend come to.

use anemll_plugin_api::{ComponentOptions, Result};

use crate::family::Component;
use crate::spec::WindowCache;

/// The option that says which weight the head has.
const HEAD: &str = "head";
/// The option that says how many pieces the head has.
const SPLIT: &str = "split_lm_head";
/// The option that lets weights be missing.
const ALLOW_MISSING: &str = "allow_missing_weights";
/// The option that scales the residual stream.
const RESIDUAL_SCALE: &str = "residual_scale";
/// The option that says what caches of layers with a window hold.
pub(crate) const WINDOW_CACHE: &str = "window_cache";
/// Most pieces of the head.
const LARGEST_SPLIT: u64 = 64;
/// The smallest factor of the residual stream: below it, usual values vanish in float16.
const SMALLEST_SCALE: f64 = 1.0 / 1024.0;

/// Which weight the head has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Head {
    /// The embedding's.
    Tied,
    /// One of its own.
    Stored,
}

/// What the options of a frontend come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choices {
    /// Pieces of the head.
    pub(crate) head_pieces: u64,
    /// Which weight the head has, where that is asked for.
    pub(crate) head: Option<Head>,
    /// Whether weights may be missing.
    pub(crate) allow_missing: bool,
    /// Factor of the residual stream, where one is asked for.
    pub(crate) residual_scale: Option<f64>,
    /// What caches of layers with a window hold.
    pub(crate) window_cache: WindowCache,
}

impl Choices {
    /// Without options.
    pub(crate) const fn none(component: &Component) -> Self {
        Self {
            head_pieces: component.head_pieces,
            head: None,
            allow_missing: false,
            residual_scale: None,
            window_cache: WindowCache::Full,
        }
    }

    /// Of these options.
    ///
    /// # Errors
    /// [`anemll_plugin_api::codes::PLUGIN_OPTION_INVALID`] with the option's name.
    pub(crate) fn new(component: &Component, options: &ComponentOptions) -> Result<Self> {
        let head = match options.string(HEAD)? {
            None => None,
            Some("tied") => Some(Head::Tied),
            Some("stored") => Some(Head::Stored),
            Some(_) => return Err(options.refuse(HEAD, "\"tied\" or \"stored\"")),
        };
        let head_pieces = options.integer(SPLIT)?.unwrap_or(component.head_pieces);
        if !(1..=LARGEST_SPLIT).contains(&head_pieces) {
            let expected = format!("a whole number from 1 to {LARGEST_SPLIT}");
            return Err(options.refuse(SPLIT, &expected));
        }
        let allow_missing = options.boolean(ALLOW_MISSING)?.unwrap_or(false);
        let residual_scale = options.number(RESIDUAL_SCALE)?;
        if residual_scale.is_some_and(|scale| !(SMALLEST_SCALE..=1.0).contains(&scale)) {
            let expected = format!("a number from {SMALLEST_SCALE} to 1");
            return Err(options.refuse(RESIDUAL_SCALE, &expected));
        }
        let window_cache = match options.string(WINDOW_CACHE)? {
            None | Some("full") => WindowCache::Full,
            Some("ring") => WindowCache::Ring,
            Some(_) => return Err(options.refuse(WINDOW_CACHE, "\"full\" or \"ring\"")),
        };
        Ok(Self { head_pieces, head, allow_missing, residual_scale, window_cache })
    }
}
