//! Packages on disk, written and read.
//! One program: linking each file by itself takes longer than running it.

mod blob;
mod package;
mod validated;
