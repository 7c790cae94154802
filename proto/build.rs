//! Compiles the schema with protox (no protoc needed) into prost types and a descriptor set.

use prost::Message as _;
use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=schema");
    let descriptors = protox::compile(["model.proto"], ["schema"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    let mut config = prost_build::Config::new();
    // Maps in key order make the bytes that we write a function of their content alone.
    config.btree_map(["."]);
    config.compile_fds(descriptors)?;
    Ok(())
}
