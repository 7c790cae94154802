//! `dist`: the program and its plugins as users get them.
//!
//! `dist/anemll` beside `dist/plugins/`, where the program looks for plugins by itself, and
//! `dist/sdk/`, against which others build theirs, with `dist/completions/` for shells and
//! `dist/man/`. With `--archive` also what a release needs, in
//! `dist/release/`: an archive and a wheel for this platform, `SHA256SUMS`, a Homebrew formula, and
//! metadata for cargo-binstall. Archives of other platforms that are put there are counted in.

mod archive;
mod files;
mod platform;
mod templates;
mod third_party;
mod wheel;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;
use crate::command::workspace_root;
use crate::{artifacts, sdk};
use archive::Effort;
use files::Entry;
use serde_json::Value;

const USAGE: &str = "usage: cargo xtask dist [--profile NAME] [--archive [--single] [--url URL]] \
                     [--built DIR] [--output DIR]";

/// What was typed.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    profile: String,
    /// Make a release's files.
    archive: bool,
    /// Also the program with the plugins inside.
    single: bool,
    /// Where the files of a release will be.
    url: Option<String>,
    /// Take the program and the plugins from this folder instead of building them.
    built: Option<PathBuf>,
    /// The folder to fill, instead of `dist`.
    output: Option<PathBuf>,
}

impl Options {
    fn parse(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            profile: "release".to_owned(),
            archive: false,
            single: false,
            url: None,
            built: None,
            output: None,
        };
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let (flag, value) = match word.split_once('=') {
                Some((flag, value)) => (flag, Some(value.to_owned())),
                None => (word.as_str(), None),
            };
            let mut value = || {
                value.clone().or_else(|| words.next().cloned()).ok_or(format!("{flag}: {USAGE}"))
            };
            match flag {
                "--profile" => options.profile = value()?,
                "--url" => options.url = Some(value()?),
                "--built" => options.built = Some(PathBuf::from(value()?)),
                "--output" => options.output = Some(PathBuf::from(value()?)),
                "--archive" => options.archive = true,
                "--single" => options.single = true,
                _ => return Err(format!("`dist` does not know `{word}`; {USAGE}")),
            }
        }
        if options.single && !options.archive {
            return Err(format!("--single belongs to --archive; {USAGE}"));
        }
        Ok(options)
    }
}

/// Runs the task.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    let options = Options::parse(arguments)?;
    let output = match &options.output {
        Some(path) => path.clone(),
        None => workspace_root()?.join("dist"),
    };
    let built = match &options.built {
        Some(folder) => artifacts::in_folder(folder)?,
        None => artifacts::build(&options.profile)?,
    };
    let dist = fill(&built, &output)?;
    texts(&dist.host)?;
    sdk::write(&output.join("sdk"))?;
    println!("program: {}", dist.host.display());
    println!("SDK:     {}", output.join("sdk").display());
    for plugin in &dist.plugins {
        println!("plugin:  {}", plugin.display());
    }
    if options.archive {
        release(&options, &dist, &output)?;
    }
    Ok(())
}

/// Makes the files of a release.
fn release(options: &Options, dist: &artifacts::Artifacts, output: &Path) -> Result<()> {
    let folder = output.join("release");
    fs::create_dir_all(&folder).map_err(|error| failed("make", &folder, &error))?;
    let root = workspace_root()?;
    let package = program_package()?;
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    let (version, summary, license) = (text("version"), text("description"), text("license"));
    let target = platform::target()?;
    let effort = if options.profile == "release" { Effort::Best } else { Effort::None };
    let third_party = third_party::text(&target, &artifacts::packages()?)?;
    let licenses = [
        Entry::file("LICENSE-APACHE", &root.join("LICENSE-APACHE")),
        Entry::file("LICENSE-MIT", &root.join("LICENSE-MIT")),
        Entry::text("THIRD-PARTY.md", third_party),
    ];
    let documents = ["CHANGELOG.md", "README.md"].map(|name| Entry::file(name, &root.join(name)));
    let mut texts: Vec<Entry> = licenses.iter().chain(&documents).cloned().collect();
    texts.extend(files::folder("completions", &output.join("completions"))?);
    texts.extend(files::folder("man", &output.join("man"))?);
    let program = Entry::program(file_name(&dist.host)?, &dist.host);
    let mut entries = texts.clone();
    for name in sdk::files()?.keys() {
        entries.push(Entry::file(format!("sdk/{name}"), &output.join("sdk").join(name)));
    }
    entries.push(program);
    for plugin in &dist.plugins {
        entries.push(Entry::program(format!("plugins/{}", file_name(plugin)?), plugin));
    }
    let mut made = vec![pack(&folder, &format!("anemll-{version}-{target}"), entries, effort)?];
    let readme = fs::read_to_string(root.join("README.md"))
        .map_err(|error| failed("read", &root.join("README.md"), &error))?;
    let binaries: Vec<&Path> =
        dist.plugins.iter().chain([&dist.host]).map(PathBuf::as_path).collect();
    let wheel = wheel::Wheel {
        version: &version,
        platform: &platform::wheel_tag(&target, &binaries)?,
        summary: &summary,
        license: &license,
        readme: &readme,
        program: &dist.host,
        plugins: &dist.plugins,
        licenses: &licenses,
    };
    made.push(wheel.write(&folder, effort)?);
    if options.single {
        let program = artifacts::build_single(&options.profile)?;
        let mut entries = texts;
        entries.push(Entry::program(file_name(&program)?, &program));
        made.push(pack(&folder, &format!("anemll-single-{version}-{target}"), entries, effort)?);
    }
    let url = match &options.url {
        Some(url) => url.clone(),
        None => {
            // A place that holds: the files can be installed from where they are.
            let folder = folder.canonicalize().map_err(|error| failed("find", &folder, &error))?;
            eprintln!(
                "note: without --url, the formula takes the archives from {}",
                folder.display()
            );
            format!("file://{}", folder.display())
        }
    };
    templates::write(&folder, &version, &summary, &url)?;
    for path in made {
        println!("release: {}", path.display());
    }
    Ok(())
}

/// Writes the archive that the target's users expect.
fn pack(folder: &Path, name: &str, mut entries: Vec<Entry>, effort: Effort) -> Result<PathBuf> {
    entries.sort_by(|first, second| first.name.cmp(&second.name));
    if name.contains("windows") {
        let path = folder.join(format!("{name}.zip"));
        archive::zip(&path, Some(name), &entries, effort)?;
        return Ok(path);
    }
    let path = folder.join(format!("{name}.tar.gz"));
    archive::tar_gz(&path, name, &entries, effort)?;
    Ok(path)
}

/// What cargo knows of the program's package.
fn program_package() -> Result<Value> {
    let metadata = artifacts::metadata()?;
    let packages = metadata["packages"].as_array().into_iter().flatten();
    packages
        .into_iter()
        .find(|package| package["name"] == "anemll")
        .cloned()
        .ok_or_else(|| "the workspace has no package `anemll`".to_owned())
}

fn file_name(path: &Path) -> Result<&str> {
    path.file_name().and_then(|name| name.to_str()).ok_or_else(|| "a file has no name".to_owned())
}

/// Builds with the profile and fills `dist/`; the paths are those of the copies.
pub(crate) fn make(profile: &str) -> Result<artifacts::Artifacts> {
    fill(&artifacts::build(profile)?, &workspace_root()?.join("dist"))
}

/// Copies what was built into a folder.
pub(crate) fn fill(built: &artifacts::Artifacts, dist: &Path) -> Result<artifacts::Artifacts> {
    let plugins = dist.join("plugins");
    // A library of a plugin that no longer exists would be found and loaded.
    if plugins.exists() {
        fs::remove_dir_all(&plugins).map_err(|error| failed("remove", &plugins, &error))?;
    }
    fs::create_dir_all(&plugins).map_err(|error| failed("make", &plugins, &error))?;
    let host = copy(&built.host, dist)?;
    let plugins =
        built.plugins.iter().map(|plugin| copy(plugin, &plugins)).collect::<Result<_>>()?;
    Ok(artifacts::Artifacts { host, plugins })
}

/// Has the program write its manual and its completions beside itself.
fn texts(program: &Path) -> Result<()> {
    let dist = program.parent().ok_or("the program lies nowhere")?;
    let completions = dist.join("completions");
    fs::create_dir_all(&completions).map_err(|error| failed("make", &completions, &error))?;
    let shells = [
        ("bash", "anemll.bash"),
        ("zsh", "_anemll"),
        ("fish", "anemll.fish"),
        ("powershell", "anemll.ps1"),
        ("elvish", "anemll.elv"),
    ];
    for (shell, name) in shells {
        let script = answer(program, &["completions", shell])?;
        let path = completions.join(name);
        fs::write(&path, script).map_err(|error| failed("write", &path, &error))?;
    }
    let man = dist.join("man");
    // A page of a command that no longer exists would stay.
    if man.exists() {
        fs::remove_dir_all(&man).map_err(|error| failed("remove", &man, &error))?;
    }
    answer(program, &["man", "--output", &man.to_string_lossy()]).map(drop)
}

/// What the program prints.
fn answer(program: &Path, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| failed("start", program, &error))?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(format!(
            "`anemll {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// Copies beside the final name and renames, since a running program's file cannot be written to.
fn copy(from: &Path, directory: &Path) -> Result<PathBuf> {
    let name = from.file_name().ok_or("a built file has no name")?;
    let to = directory.join(name);
    let mut unfinished = name.to_owned();
    unfinished.push(".new");
    let unfinished = directory.join(unfinished);
    fs::copy(from, &unfinished).map_err(|error| failed("write", &unfinished, &error))?;
    fs::rename(&unfinished, &to).map_err(|error| failed("write", &to, &error))?;
    Ok(to)
}

fn failed(what: &str, path: &Path, error: &std::io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_replace_and_leave_nothing_beside() {
        let directory = artifacts::target_directory()
            .unwrap()
            .join(format!("xtask-copy-{}", std::process::id()));
        let out = directory.join("out");
        fs::create_dir_all(&out).unwrap();
        fs::write(directory.join("file"), b"new").unwrap();
        fs::write(out.join("file"), b"old").unwrap();
        let copied = copy(&directory.join("file"), &out).unwrap();
        assert_eq!(fs::read(&copied).unwrap(), b"new");
        assert_eq!(fs::read_dir(&out).unwrap().count(), 1);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn unknown_flags_are_refused_before_anything_is_built() {
        for words in [&["--fast"][..], &["--single"], &["--archive", "--url"]] {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let message = run(&words).unwrap_err();
            assert!(message.contains("usage") && message.contains("--"), "{message}");
        }
    }

    #[test]
    fn flags_take_their_values_in_both_ways() {
        let words = ["--profile=dev", "--archive", "--url", "https://example.org/x=y"];
        let options = Options::parse(&words.map(str::to_owned)).unwrap();
        assert_eq!(
            (options.profile.as_str(), options.archive, options.single),
            ("dev", true, false)
        );
        assert_eq!(options.url.as_deref(), Some("https://example.org/x=y"));
    }
}
