//! What is in packages, compiled models and Core AI assets, how two of them differ, how far conversions are from their
//! originals, which plugins there are: as data, as text, as pages.

pub mod asset;
pub mod bundle;
pub mod comparison;
pub mod diff;
pub mod health;
pub mod inspect;
pub mod page;
mod plot;
pub mod plugins;
pub mod sharing;
pub mod sweep;
