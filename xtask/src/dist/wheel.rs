//! A Python wheel with the program inside, so that `uvx anemll` and `pip install anemll` will do.
//!
//! The program is installed as a script, and the plugins go to `lib/anemll/plugins`, where the
//! program looks for them from there.

use super::archive::{self, Effort};
use super::files::Entry;
use crate::Result;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// What a wheel is made from.
pub(crate) struct Wheel<'a> {
    /// Version of the program, as cargo has it.
    pub(crate) version: &'a str,
    /// Python's name for the machines that it runs on.
    pub(crate) platform: &'a str,
    pub(crate) summary: &'a str,
    pub(crate) license: &'a str,
    /// Text of README.md.
    pub(crate) readme: &'a str,
    pub(crate) program: &'a Path,
    pub(crate) plugins: &'a [PathBuf],
    /// Licences and the list of dependencies.
    pub(crate) licenses: &'a [Entry],
}

impl Wheel<'_> {
    /// Writes the wheel into a folder.
    pub(crate) fn write(&self, folder: &Path, effort: Effort) -> Result<PathBuf> {
        let version = python_version(self.version)?;
        let stem = format!("anemll-{version}");
        let tag = format!("py3-none-{}", self.platform);
        let (data, info) = (format!("{stem}.data"), format!("{stem}.dist-info"));
        let mut entries =
            vec![Entry::program(format!("{data}/scripts/{}", name(self.program)?), self.program)];
        for plugin in self.plugins {
            let to = format!("{data}/data/lib/anemll/plugins/{}", name(plugin)?);
            entries.push(Entry::program(to, plugin));
        }
        let mut metadata = format!(
            "Metadata-Version: 2.4\nName: anemll\nVersion: {version}\nSummary: {}\n\
             License-Expression: {}\n",
            self.summary, self.license
        );
        for license in self.licenses {
            let _ = writeln!(metadata, "License-File: {}", license.name);
            let to = format!("{info}/licenses/{}", license.name);
            entries.push(license.renamed(to));
        }
        let _ = write!(
            metadata,
            "Requires-Python: >=3.8\nDescription-Content-Type: text/markdown\n\n{}",
            self.readme
        );
        entries.push(Entry::text(format!("{info}/METADATA"), metadata));
        let wheel = format!(
            "Wheel-Version: 1.0\nGenerator: anemll-dist ({})\nRoot-Is-Purelib: false\nTag: {tag}\n",
            self.version
        );
        entries.push(Entry::text(format!("{info}/WHEEL"), wheel));
        entries.sort_by(|first, second| first.name.cmp(&second.name));
        let record = format!("{info}/RECORD");
        let mut lines = String::new();
        for entry in &entries {
            use sha2::Digest as _;
            let bytes = entry.read()?;
            let digest: [u8; 32] = sha2::Sha256::digest(&bytes).into();
            let _ =
                writeln!(lines, "{},sha256={},{}", entry.name, base64_url(&digest), bytes.len());
        }
        let _ = writeln!(lines, "{record},,");
        // The list of files stands last, as installers recommend.
        entries.push(Entry::text(record, lines));
        let path = folder.join(format!("{stem}-{tag}.whl"));
        archive::zip(&path, None, &entries, effort)?;
        Ok(path)
    }
}

fn name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).ok_or_else(|| "a file has no name".to_owned())
}

/// A version of cargo as Python has it: `1.2.3-beta.4` is `1.2.3b4`.
pub(crate) fn python_version(version: &str) -> Result<String> {
    let refused = || format!("Python has no form for the version {version}");
    let (release, early) = match version.split_once('-') {
        Some((release, early)) => (release, Some(early)),
        None => (version, None),
    };
    let numbers = |text: &str| {
        text.split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    if !numbers(release) {
        return Err(refused());
    }
    let Some(early) = early else { return Ok(release.to_owned()) };
    let (kind, number) = early.split_once('.').unwrap_or((early, "0"));
    let kind = match kind {
        "alpha" => "a",
        "beta" => "b",
        "rc" => "rc",
        _ => return Err(refused()),
    };
    if !numbers(number) || number.contains('.') {
        return Err(refused());
    }
    Ok(format!("{release}{kind}{number}"))
}

/// Base64 for URLs without padding, RFC 4648 section 5, as RECORD has it.
fn base64_url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    let (mut bits, mut count) = (0_u32, 0);
    for byte in bytes {
        bits = (bits << 8) | u32::from(*byte);
        count += 8;
        while count >= 6 {
            count -= 6;
            text.push(char::from(DIGITS[(bits >> count) as usize & 63]));
        }
    }
    if count > 0 {
        text.push(char::from(DIGITS[(bits << (6 - count)) as usize & 63]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_the_standard() {
        // RFC 4648 section 10, and the two digits that differ from the other alphabet.
        for (plain, text) in [("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")] {
            assert_eq!(base64_url(plain.as_bytes()), text);
        }
        assert_eq!(base64_url(&[0xfb, 0xff]), "-_8");
    }

    #[test]
    fn versions_become_pythons() {
        assert_eq!(python_version("0.1.0").unwrap(), "0.1.0");
        assert_eq!(python_version("1.0.0-rc.1").unwrap(), "1.0.0rc1");
        assert_eq!(python_version("1.0.0-alpha").unwrap(), "1.0.0a0");
        for version in ["", "1.0.0-nightly.1", "1.x", "1.0.0-rc.1.2"] {
            assert!(python_version(version).is_err(), "{version}");
        }
    }
}
