//! How long one compile takes: `cargo run --release -p anemll-mlmodelc --example compile_speed -- PACKAGE`.
//! Peak memory is for the system's `time` to say.

#![allow(clippy::print_stdout, reason = "an example prints")]

use anemll_mlmodelc::{Options, compile};
use std::path::PathBuf;
use std::time::Instant;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let package = PathBuf::from(std::env::args_os().nth(1).ok_or("give a package")?);
    let destination = package.with_extension("mlmodelc");
    let started = Instant::now();
    let options = Options { replace: true, ..Options::default() };
    let compiled = compile(&package, &destination, &options)?;
    println!("{:.3} s, {:?}", started.elapsed().as_secs_f64(), compiled.weights);
    Ok(())
}
