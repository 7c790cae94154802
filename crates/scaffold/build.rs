//! Puts the files of the folder `templates` into the program.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=templates");
    let folder = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("templates");
    let mut files = Vec::new();
    collect(&folder, "", &mut files)?;
    files.sort();
    let mut list = "&[\n".to_owned();
    for name in files {
        let path = folder.join(&name);
        writeln!(list, "    ({name:?}, include_bytes!({:?})),", path.display().to_string())?;
    }
    list.push_str("]\n");
    std::fs::write(PathBuf::from(std::env::var("OUT_DIR")?).join("files.rs"), list)?;
    Ok(())
}

/// The files below a folder, by path from `templates` with forward slashes.
fn collect(folder: &Path, inside: &str, files: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let name = if inside.is_empty() { name } else { format!("{inside}/{name}") };
        match entry.path().is_dir() {
            true => collect(&entry.path(), &name, files)?,
            false => files.push(name),
        }
    }
    Ok(())
}
