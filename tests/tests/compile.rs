//! `compile`, and the compile step of `convert`, through the program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_mlmodelc::CompiledModel;
use anemll_tests::{anemll, copy_of_converted, files, model, run, succeed};
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The folder of a conversion: embeddings, one chunk, head.
fn converted(compiler: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "--combiner",
        "chunked",
        "--chunk",
        "1",
        "--lut",
        "none",
        "--context",
        "64",
        "--batch",
        "32",
        "--runtime",
        "none",
        "--compiler",
        compiler,
    ];
    copy_of_converted(&model("tiny-llama"), folder.path(), &arguments);
    folder
}

/// Names in a folder, without hidden ones.
fn names(folder: &Path, ending: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.ends_with(ending))
        .collect();
    names.sort();
    names
}

const COMPILED: [&str; 3] =
    ["llama_FFN_PF_chunk_01of01.mlmodelc", "llama_embeddings.mlmodelc", "llama_lm_head.mlmodelc"];

fn compile(arguments: &[&str]) -> Command {
    let mut command = anemll();
    command.arg("compile").args(arguments);
    command
}

/// Runs a command that must fail with `code`.
fn refused(command: &mut Command, code: &str) -> String {
    let output = run(command);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("error[{code}]")), "expected {code}:\n{text}");
    text
}

#[test]
fn convert_compiles_and_so_do_parts() {
    let folder = converted("mlmodelc");
    assert_eq!(names(folder.path(), ".mlmodelc"), COMPILED);
    for name in COMPILED {
        let compiled = CompiledModel::open(folder.path().join(name)).unwrap();
        compiled.check_weights().unwrap();
        let package = folder.path().join(name.replace(".mlmodelc", ".mlpackage"));
        let package = anemll_mlpackage::Package::open(package).unwrap();
        assert_eq!(compiled.model().description, package.model().description, "{name}");
    }
    let input = folder.path().to_str().unwrap();
    let output = tempfile::tempdir().unwrap();
    let into = |part: &str, more: &[&str]| {
        let target = output.path().join(part);
        let mut command = compile(&[part, "--input", input, "--compiler", "mlmodelc"]);
        let printed = succeed(command.arg("--output").arg(&target).args(more));
        let notes = String::from_utf8_lossy(&printed.stderr).into_owned();
        let lines = String::from_utf8_lossy(&printed.stdout).lines().count();
        assert_eq!(lines, names(&target, "").len());
        (target, notes)
    };
    // The forms of ANEMLL's script.
    let (one, notes) = into("1", &["--lut", "4"]);
    assert_eq!(names(&one, ""), COMPILED[1..2]);
    assert_eq!(notes.lines().count(), 1, "{notes}");
    assert!(notes.starts_with("note: ") && notes.contains(" guess"), "{notes}");
    let (two, notes) = into("2", &["--chunk", "1", "--prefix", "llama", "--force-mlprogram", "-v"]);
    assert_eq!(names(&two, ""), COMPILED[..1]);
    assert!(notes.contains("guessed: ") && notes.contains("state"), "{notes}");
    let (three, _) = into("3", &[]);
    assert_eq!(names(&three, ""), COMPILED[2..]);
    let (all, _) = into("all", &["--recursive", "--copy"]);
    let parts = ["llama_FFN_chunk_01of01.mlmodelc", "llama_prefill_chunk_01of01.mlmodelc"];
    let mut every = [&COMPILED[..], &parts].concat();
    every.sort_unstable();
    assert_eq!(names(&all, ""), every);
    for (name, folder) in [(COMPILED[0], &two), (COMPILED[1], &one), (COMPILED[2], &three)] {
        assert!(files(&all.join(name)) == files(&folder.join(name)), "{name}");
    }
    // Two files with the same bytes, or one.
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt as _;
        let number = |folder: &Path| {
            std::fs::metadata(folder.join(COMPILED[2]).join("weights/weight.bin")).unwrap().ino()
        };
        assert_eq!(number(&three), number(folder.path()));
        assert_ne!(number(&all), number(folder.path()));
    }

    let monolithic = refused(&mut compile(&["monolithic", "--input", input]), "A0501");
    assert!(monolithic.contains("llama_monolithic_combined.mlpackage, or llama_monolithic_full"));
    let chunks = refused(&mut compile(&["2", "--chunk", "2", "--input", input]), "A0501");
    assert!(chunks.contains("llama_FFN_PF_chunk_01of02.mlpackage and"), "{chunks}");

    // What is up to date is left alone, shared or not; what is not is kept, and stops nobody else.
    let compiled = folder.path().join(COMPILED[1]);
    let before = std::fs::metadata(&compiled).unwrap().modified().unwrap();
    let notes = |arguments: &[&str]| {
        let output = succeed(&mut compile(arguments));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(notes(&["1", "--input", input, "--compiler", "mlmodelc"]), "1 up to date\n");
    assert_eq!(std::fs::metadata(&compiled).unwrap().modified().unwrap(), before);
    let all_again = ["all", "--input", input, "--compiler", "mlmodelc", "--output"];
    let all = all.to_str().unwrap();
    assert_eq!(notes(&[&all_again[..], &[all]].concat()), "5 up to date\n");
    // A weight file of the same size with another byte, and a summary of another name.
    let weights = Path::new(all).join(COMPILED[2]).join("weights/weight.bin");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    std::fs::write(Path::new(all).join(COMPILED[1]).join("metadata.json"), "[]").unwrap();
    let output = run(&mut compile(&[&all_again[..], &[all]].concat()));
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(told.matches("error[A0805]").count(), 2, "{told}");
    assert!(told.contains("3 up to date, 2 failed") && told.contains("error[A0606]"), "{told}");
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 3);

    std::fs::write(compiled.join("model.mil"), "program").unwrap();
    let there = refused(&mut compile(&["1", "--input", input, "--compiler", "mlmodelc"]), "A0805");
    assert!(there.contains("--force"), "{there}");
    succeed(&mut compile(&["1", "--input", input, "--force"]));
    assert_eq!(names(folder.path(), ".mlmodelc"), COMPILED);
}

#[test]
fn json_tells_of_every_package() {
    let folder = converted("none");
    let input = folder.path().to_str().unwrap();
    let told = |output: &std::process::Output| -> serde_json::Value {
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let all = ["all", "--input", input, "--compiler", "mlmodelc", "--json"];
    let value = told(&succeed(&mut compile(&all)));
    assert_eq!(value["compiler"], "mlmodelc");
    let packages = value["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 5);
    for package in packages {
        assert_eq!(package["outcome"], "compiled", "{package}");
        assert!(Path::new(package["compiled"].as_str().unwrap()).is_dir());
        let is_head = package["package"].as_str().unwrap().contains("lm_head");
        assert_eq!(package["guesses"].as_array().unwrap().is_empty(), is_head, "{package}");
        assert!(package.get("error").is_none() && package.get("differing").is_none());
    }
    let head = folder.path().join("llama_lm_head.mlpackage/Manifest.json");
    std::fs::remove_file(head).unwrap();
    let output = run(&mut compile(&all));
    assert_eq!(output.status.code(), Some(1));
    let value = told(&output);
    let of = |outcome: &str| {
        let packages = value["packages"].as_array().unwrap().iter();
        packages.filter(|package| package["outcome"] == outcome).cloned().collect::<Vec<_>>()
    };
    assert_eq!((of("up_to_date").len(), of("failed").len()), (4, 1), "{value}");
    assert_eq!(of("failed")[0]["error"]["code"], "A0501", "{value}");
    assert!(of("failed")[0].get("compiled").is_none());
}

#[test]
fn what_cannot_be_compiled_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    for name in ["a/x.mlpackage", "b/x.mlpackage", "c"] {
        std::fs::create_dir_all(path(name)).unwrap();
    }
    std::fs::write(path("net.mlmodel"), [0x08, 4, 0xa2, 0x1f, 0]).unwrap();
    let before = files(folder.path());
    let out = path("out");
    let refuse = |arguments: &[&str], code: &str| refused(&mut compile(arguments), code);
    let two =
        refuse(&[&path("a/x.mlpackage"), &path("b/x.mlpackage"), "--output-dir", &out], "A0801");
    assert!(two.contains("both become"), "{two}");
    refuse(&[&path("none.mlpackage"), "--output-dir", &out], "A0501");
    refuse(&[&path("a/x.mlpackage"), "--chunk", "2"], "A0801");
    refuse(&["2", "--split-rotate"], "A0806");
    refuse(&["2", "--recursive"], "A0801");
    refuse(&["2", "--chunk", "0"], "A0801");
    refuse(&["3", "--lut", "seventeen"], "A0801");
    refuse(&["all", "--input", &path("c")], "A0501");
    refuse(&["all", "--input", &path("none")], "A0501");
    assert!(!Path::new(&out).exists());
    let network = ["--compiler", "mlmodelc", "--output-dir", &out];
    let network = refuse(&[&[path("net.mlmodel").as_str()][..], &network].concat(), "A0603");
    assert!(network.contains("neuralNetwork"), "{network}");
    // Something else with the name of a compiled model stays.
    std::fs::create_dir_all(path("net.mlmodelc/precious")).unwrap();
    refuse(&[&path("net.mlmodel"), "--force"], "A0805");
    std::fs::remove_dir_all(path("net.mlmodelc")).unwrap();
    std::fs::remove_dir_all(&out).unwrap();
    assert!(files(folder.path()) == before);
}

#[cfg(unix)]
mod with_a_stand_in_for_xcrun {
    //! `xcrun` as a script that "compiles" by copying a folder.

    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    struct Xcrun {
        folder: TempDir,
    }

    impl Xcrun {
        fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let script = "#!/bin/sh\nset -eu\n[ \"$1\" = --find ] && exit 0\n\
                          name=$(basename \"$3\" .mlpackage)\n\
                          shift 3\necho \"$*\" >> \"$(dirname \"$0\")/calls\"\n\
                          cp -R \"$(dirname \"$0\")/$name.mlmodelc\" \"$1/\"\n";
            let path = folder.path().join("xcrun");
            std::fs::write(&path, script).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
            Self { folder }
        }

        /// What it makes of the package with this name.
        fn makes(&self, compiled: &Path) -> PathBuf {
            let target = self.folder.path().join(compiled.file_name().unwrap());
            succeed(Command::new("cp").arg("-R").arg(compiled).arg(&target));
            target
        }

        fn in_path(&self, command: &mut Command) {
            let path = std::env::var_os("PATH").unwrap_or_default();
            let all =
                std::iter::once(self.folder.path().to_owned()).chain(std::env::split_paths(&path));
            command.env("PATH", std::env::join_paths(all).unwrap());
        }
    }

    #[test]
    fn verify_says_where_the_compilers_differ() {
        let folder = converted("mlmodelc");
        let xcrun = Xcrun::new();
        let theirs = xcrun.makes(&folder.path().join(COMPILED[2]));
        let package = folder.path().join("llama_lm_head.mlpackage");
        let output = tempfile::tempdir().unwrap();
        let verify = |more: &[&str]| {
            let mut command = compile(&["--verify", "--force", "--output-dir"]);
            command.arg(output.path()).arg(&package).args(more);
            xcrun.in_path(&mut command);
            command
        };
        // Other versions and another order of the summary are allowed.
        let edit = |name: &str, from: &str, to: &str| {
            let text = std::fs::read_to_string(theirs.join(name)).unwrap();
            assert!(text.contains(from), "{name} has no {from}");
            std::fs::write(theirs.join(name), text.replace(from, to)).unwrap();
        };
        let version = format!("anemll-{}", env!("CARGO_PKG_VERSION"));
        edit("model.mil", &version, "3520.4.1");
        edit("metadata.json", "\n", " \n");
        let told = |more: &[&str]| {
            let printed = succeed(&mut verify(more)).stdout;
            String::from_utf8_lossy(&printed).into_owned()
        };
        for first in ["mlmodelc", "coremlcompiler", "auto"] {
            let told = told(&["--compiler", first]);
            assert!(told.contains("model.mil: equal but for"), "{told}");
            assert!(told.contains("metadata.json: equal but for"), "{told}");
            assert!(told.contains("coremldata.bin: equal\n"), "{told}");
            assert!(told.contains("weight.bin: equal\n"), "{told}");
            // What is kept is the work of the first.
            let kept = std::fs::read_to_string(output.path().join(COMPILED[2]).join("model.mil"));
            assert_eq!(kept.unwrap().contains("3520.4.1"), first != "mlmodelc");
            assert_eq!(std::fs::read_dir(output.path()).unwrap().count(), 1);
        }
        edit("metadata.json", "\"method\" : \"predict\"", "\"method\" : \"guess\"");
        edit("model.mil", "func main", "func other");
        let printed = run(&mut verify(&[]));
        assert_eq!(printed.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&printed.stderr).contains("error[A0605]"));
        let told = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert!(told.contains("/0/method"), "{told}");
        assert!(told.contains("coremlcompiler: \"guess\""), "{told}");
        assert!(told.contains("mlmodelc: \"predict\""), "{told}");
        assert!(told.contains("line 4"), "{told}");
    }

    #[test]
    fn a_package_that_cannot_be_compared_does_not_stop_the_others() {
        let folder = converted("mlmodelc");
        let xcrun = Xcrun::new();
        // Of the first it makes nothing.
        for name in &COMPILED[1..] {
            xcrun.makes(&folder.path().join(name));
        }
        let output = tempfile::tempdir().unwrap();
        let verify = |more: &[&str]| {
            let mut command = compile(&["--verify", "--compiler", "mlmodelc", "--force"]);
            command.arg("--output-dir").arg(output.path()).args(more);
            for name in COMPILED {
                command.arg(folder.path().join(name.replace(".mlmodelc", ".mlpackage")));
            }
            xcrun.in_path(&mut command);
            run(&mut command)
        };
        let printed = verify(&[]);
        let told = String::from_utf8_lossy(&printed.stderr).into_owned();
        assert_eq!(printed.status.code(), Some(1), "{told}");
        assert_eq!(told.matches("error[A06").count(), 2, "{told}");
        let lines = String::from_utf8_lossy(&printed.stdout).into_owned();
        assert!(COMPILED.iter().all(|name| lines.contains(name)), "{lines}");
        assert_eq!(lines.matches("model.mil: equal").count(), 2, "{lines}");
        let value: serde_json::Value = serde_json::from_slice(&verify(&["--json"]).stdout).unwrap();
        let packages = value["packages"].as_array().unwrap();
        assert!(packages.iter().all(|package| package["outcome"] == "compiled"), "{value}");
        assert_eq!(packages.iter().filter(|p| p.get("error").is_some()).count(), 1, "{value}");
        assert_eq!(packages.iter().filter(|p| p.get("differing").is_some()).count(), 2, "{value}");
    }

    #[test]
    fn auto_takes_coremlcompiler_where_it_can_run() {
        let folder = converted("auto");
        assert_eq!(names(folder.path(), ".mlmodelc"), COMPILED);
        let xcrun = Xcrun::new();
        xcrun.makes(&folder.path().join(COMPILED[1]));
        let mut command = compile(&["1", "--force", "--force-mlprogram", "--input"]);
        command.arg(folder.path());
        xcrun.in_path(&mut command);
        succeed(&mut command);
        let calls = std::fs::read_to_string(xcrun.folder.path().join("calls")).unwrap();
        assert!(calls.contains("--add-mlprogram-if-eligible force"), "{calls}");

        let mut command = compile(&["1", "--force", "--compiler", "coremlcompiler", "--input"]);
        command.arg(folder.path()).env("PATH", "/nonexistent");
        let text = refused(&mut command, "A0601");
        assert!(text.contains("--compiler mlmodelc"), "{text}");
        let mut command = compile(&["1", "--force", "--verify", "--input"]);
        command.arg(folder.path()).env("PATH", "/nonexistent");
        assert!(refused(&mut command, "A0601").contains("--verify needs both"));
    }
}
