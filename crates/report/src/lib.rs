//! What is in packages and compiled models, and how two of them differ: as data, as text, as a page.

pub mod diff;
pub mod inspect;
pub mod sharing;
