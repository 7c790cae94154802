//! Names every plugin on which this crate depends: a crate that nothing names is not linked.

use std::fmt::Write as _;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=Cargo.toml");
    let manifest = std::fs::read_to_string("Cargo.toml")?;
    let list = manifest.split("\n[").find_map(|table| table.strip_prefix("dependencies]\n"));
    let mut names = String::new();
    for line in list.ok_or("Cargo.toml has no dependencies")?.lines() {
        if let Some((name, _)) = line.split_once(" = ") {
            writeln!(names, "use {} as _;", name.replace('-', "_"))?;
        }
    }
    std::fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("plugins.rs"), names)?;
    Ok(())
}
