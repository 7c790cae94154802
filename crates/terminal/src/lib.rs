//! Text for a terminal: names from files made harmless, numbers for people, colours, tables, bars.

mod bars;
mod keys;
mod output;
mod progress;
mod stream;
mod table;
mod text;
mod wrap;

pub use bars::{LogWriter, beside_bars};
pub use keys::{KeptKeys, restore_keys};
pub use output::{Output, keep_output, release_output, stdout, with_process_output};
pub use progress::{Bar, Unit, encoded, set_current};
pub use stream::*;
pub use table::{Cell, Column, Table};
pub use text::*;
pub use wrap::Wrap;
