//! Tables beside those of independent programs.
//! One program: linking each file by itself takes longer than running it.

mod common;
mod exact;
mod palettes;
mod vectors;
