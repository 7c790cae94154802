//! What a release hands out works where it lands: archive and wheel, installed into empty places,
//! convert a model.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{build_folder, model, succeed, workspace};
use sha2::Digest as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A program without what this test run tells others.
fn program(path: &Path) -> Command {
    let mut command = Command::new(path);
    command.env_clear();
    for name in ["PATH", "HOME", "TMPDIR", "SystemRoot", "TEMP"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// Converts with nothing but the installed program, which finds its plugins by itself.
fn converts(anemll: &Path, output: &Path) {
    let listed = succeed(program(anemll).args(["plugin", "list"]));
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let families = fs::read_dir(workspace().join("plugins/arch")).unwrap();
    let families = families.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let others = ["lut", "chunked", "monolithic", "mlmodelc", "cpu"].map(str::to_owned);
    for id in families.chain(others) {
        assert!(listed.contains(&id), "{id}: {listed}");
    }
    succeed(
        program(anemll)
            .arg("convert")
            .arg("--model")
            .arg(model("tiny-llama"))
            .arg("--output")
            .arg(output)
            .args(["--context", "256", "--lut", "4"]),
    );
    assert!(output.join("meta.yaml").is_file());
}

fn sha256(path: &Path) -> String {
    let digest = sha2::Sha256::digest(fs::read(path).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn archive_and_wheel_convert_where_they_land() {
    let folder = tempfile::tempdir().unwrap();
    let dist = folder.path().join("dist");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(workspace()).args(["run", "--quiet", "--package", "xtask", "--", "dist"]);
    command.args(["--profile", "dev", "--archive", "--url", "https://example.org/releases/v1"]);
    command.arg("--built").arg(build_folder()).arg("--output").arg(&dist);
    succeed(&mut command);
    let release = dist.join("release");
    let mut names: Vec<String> = fs::read_dir(&release)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let find = |end: &str| -> PathBuf {
        let name = names.iter().find(|name| name.ends_with(end));
        release.join(name.unwrap_or_else(|| panic!("no {end} in {names:?}")))
    };
    // Sums are those of the files.
    let sums = fs::read_to_string(release.join("SHA256SUMS")).unwrap();
    assert_eq!(sums.lines().count(), 2, "{sums}");
    for line in sums.lines() {
        let (sum, name) = line.split_once("  ").unwrap();
        assert_eq!(sha256(&release.join(name)), sum, "{name}");
    }
    let archive = find(if cfg!(windows) { ".zip" } else { ".tar.gz" });
    #[cfg(unix)]
    {
        let formula = fs::read_to_string(release.join("anemll.rb")).unwrap();
        let name = archive.file_name().unwrap().to_str().unwrap();
        assert!(
            formula.contains(&format!("url \"https://example.org/releases/v1/{name}\"")),
            "{formula}"
        );
        assert!(formula.contains(&sha256(&archive)), "{formula}");
    }
    let unpacked = folder.path().join("unpacked");
    if cfg!(windows) {
        zip::ZipArchive::new(fs::File::open(&archive).unwrap())
            .unwrap()
            .extract(&unpacked)
            .unwrap();
    } else {
        let gzip = flate2::read::GzDecoder::new(fs::File::open(&archive).unwrap());
        tar::Archive::new(gzip).unpack(&unpacked).unwrap();
    }
    let top = fs::read_dir(&unpacked).unwrap().next().unwrap().unwrap().path();
    for name in [
        "README.md",
        "CHANGELOG.md",
        "LICENSE-MIT",
        "LICENSE-APACHE",
        "completions/anemll.bash",
        "man/anemll.1",
        "sdk/sdk.json",
        "sdk/anemll-plugin-api/Cargo.toml",
        "sdk/anemll-decoder/src/lib.rs",
    ] {
        assert!(top.join(name).is_file(), "{name}");
    }
    let third = fs::read_to_string(top.join("THIRD-PARTY.md")).unwrap();
    for name in ["| abi_stable ", "| tokenizers ", "| clap "] {
        assert!(third.contains(name), "{name}");
    }
    // What only builds or tests is not linked, and is not named.
    for name in ["| insta ", "| protox "] {
        assert!(!third.contains(name), "{name}");
    }
    let program = format!("anemll{}", std::env::consts::EXE_SUFFIX);
    converts(&top.join(&program), &folder.path().join("from-archive"));

    let venv = folder.path().join("venv");
    let made = Command::new("python3").arg("-m").arg("venv").arg(&venv).output();
    if !made.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: there is no python3 with venv, so the wheel is not installed");
        return;
    }
    let scripts = venv.join(if cfg!(windows) { "Scripts" } else { "bin" });
    let mut pip = Command::new(scripts.join("python"));
    pip.args(["-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]);
    succeed(pip.arg("--disable-pip-version-check").arg(find(".whl")));
    converts(&scripts.join(&program), &folder.path().join("from-wheel"));
    // Everything that was installed is listed, so that it goes away again.
    let mut pip = Command::new(scripts.join("python"));
    succeed(pip.args(["-m", "pip", "uninstall", "--yes", "--quiet", "anemll"]));
    assert!(!scripts.join(&program).exists());
    assert!(!venv.join("lib/anemll/plugins").exists());
}
