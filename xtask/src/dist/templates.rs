//! Descriptions for package managers, from templates with `{{name}}` in them.

use super::archive;
use super::wheel::python_version;
use crate::Result;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

const FORMULA: &str = include_str!("anemll.rb.template");
const BINSTALL: &str = include_str!("binstall.toml.template");

/// The targets that Homebrew runs on, with the blocks that choose them in a formula.
const BREW: [(&str, &str, &str); 4] = [
    ("aarch64-apple-darwin", "on_macos", "on_arm"),
    ("x86_64-apple-darwin", "on_macos", "on_intel"),
    ("aarch64-unknown-linux-gnu", "on_linux", "on_arm"),
    ("x86_64-unknown-linux-gnu", "on_linux", "on_intel"),
];

/// Writes `SHA256SUMS` over all files of a release's folder, a Homebrew formula for the archives in
/// it, and metadata for cargo-binstall where single programs are in it. `url` is where the files
/// will be.
pub(crate) fn write(folder: &Path, version: &str, summary: &str, url: &str) -> Result<()> {
    let wheel = format!("anemll-{}-", python_version(version)?);
    let mut sums = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(|error| super::failed("read", folder, &error))? {
        let path = entry.map_err(|error| super::failed("read", folder, &error))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let is_archive = [".tar.gz", ".zip", ".whl"].iter().any(|end| name.ends_with(end));
        // Files of other versions may lie there, too.
        let starts =
            [format!("anemll-{version}-"), format!("anemll-single-{version}-"), wheel.clone()];
        if is_archive && starts.iter().any(|start| name.starts_with(start.as_str())) {
            sums.insert(name.to_owned(), archive::sha256(&path)?);
        }
    }
    let put = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| super::failed("write", &path, &error))
    };
    let lines: String = sums.iter().map(|(name, sum)| format!("{sum}  {name}\n")).collect();
    put("SHA256SUMS", &lines)?;
    let url = url.trim_end_matches('/');
    let blocks = brew_blocks(&sums, version, url);
    if !blocks.is_empty() {
        let values = [("version", version), ("summary", summary), ("archives", &blocks)];
        put("anemll.rb", &filled(FORMULA, &values)?)?;
    }
    if sums.keys().any(|name| name.starts_with("anemll-single-")) {
        put("binstall.toml", &filled(BINSTALL, &[("version", version), ("url", url)])?)?;
    }
    Ok(())
}

/// The part of a formula that names the archives.
fn brew_blocks(sums: &BTreeMap<String, String>, version: &str, url: &str) -> String {
    let mut text = String::new();
    for system in ["on_macos", "on_linux"] {
        let mut inner = String::new();
        for (target, on, processor) in BREW {
            let name = format!("anemll-{version}-{target}.tar.gz");
            if let (true, Some(sum)) = (on == system, sums.get(&name)) {
                inner += &format!(
                    "    {processor} do\n      url \"{url}/{name}\"\n      sha256 \"{sum}\"\n    end\n"
                );
            }
        }
        if !inner.is_empty() {
            text += &format!("\n  {system} do\n{inner}  end\n");
        }
    }
    text
}

/// A template with its values; a name without one is an error.
fn filled(template: &str, values: &[(&str, &str)]) -> Result<String> {
    let mut text = template.to_owned();
    for (name, value) in values {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    match text.find("{{") {
        Some(at) => {
            Err(format!("a template has no value for {}", &text[at..text.len().min(at + 30)]))
        }
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_formula_names_the_archives_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "anemll-1.2.3-x86_64-unknown-linux-gnu.tar.gz",
            "anemll-1.2.3-aarch64-apple-darwin.tar.gz",
            "anemll-0.9.0-x86_64-apple-darwin.tar.gz",
            "anemll-single-1.2.3-x86_64-unknown-linux-gnu.tar.gz",
            "anemll-1.2.3-py3-none-manylinux_2_34_x86_64.whl",
            "notes.txt",
        ] {
            fs::write(folder.path().join(name), "abc").unwrap();
        }
        write(folder.path(), "1.2.3", "Converts models", "https://example.org/v1.2.3/").unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let sums = read("SHA256SUMS");
        assert_eq!(sums.lines().count(), 4, "{sums}");
        assert!(sums.lines().all(|line| line.starts_with(&format!("{sum}  anemll-"))), "{sums}");
        let formula = read("anemll.rb");
        assert!(
            formula.contains("version \"1.2.3\"") && formula.matches(sum).count() == 2,
            "{formula}"
        );
        assert!(
            formula.contains(
                "  on_macos do\n    on_arm do\n      url \"https://example.org/v1.2.3/anemll-1.2.3-aarch64-apple-darwin.tar.gz\""
            ),
            "{formula}"
        );
        assert!(!formula.contains("0.9.0"), "{formula}");
        assert!(read("binstall.toml").contains("https://example.org/v1.2.3/anemll-single-"));
    }

    #[test]
    fn a_name_without_a_value_is_an_error() {
        assert!(filled("a {{b}}", &[("c", "d")]).is_err());
        assert_eq!(filled("{{b}}", &[("b", "x")]).unwrap(), "x");
    }
}
