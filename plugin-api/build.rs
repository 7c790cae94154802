//! Sums up what decides, beside `abi_stable`, how the types of the boundary are laid out in this build:
//! their source, the compiler with its flags, and the target.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::process::Command;

const TYPES: &str = "src/abi/v1.rs";
const FLAGS: &str = "CARGO_ENCODED_RUSTFLAGS";

fn main() {
    println!("cargo::rerun-if-changed={TYPES}");
    println!("cargo::rerun-if-env-changed={FLAGS}");
    // A build of which nothing is known has no sum, and is equal to none.
    println!("cargo::rustc-env=ANEMLL_LAYOUT_SUM={}", sum().unwrap_or_default());
}

fn sum() -> Option<String> {
    let compiler = Command::new(std::env::var_os("RUSTC")?).arg("-vV").output().ok()?;
    let types = std::fs::read(TYPES).ok()?;
    let target = std::env::var("TARGET").ok()?;
    let known = (compiler.stdout, types, target, std::env::var(FLAGS).unwrap_or_default());
    let half = |which: u8| {
        let mut hasher = DefaultHasher::new();
        (which, &known).hash(&mut hasher);
        hasher.finish()
    };
    Some(format!("{:016x}{:016x}", half(0), half(1)))
}
