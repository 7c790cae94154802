//! Plugins of this machine as users see them: a list, one at length, what is wrong with any.

mod doctor;
mod fate;
mod info;
mod list;
mod options;

pub use doctor::{doctor, plugin_lines};
pub use fate::Fate;
pub use info::{Info, info, info_text};
pub use list::{Row, list, list_text};
pub use options::{option_rows, options_text};
