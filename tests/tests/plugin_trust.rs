//! Plugins that did not come with the program: where they are found, and which of them are loaded.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

use anemll_plugin_store::{Search, Status, Store};
use anemll_tests::{PLUGINS, example, json, library, model, program, refusal, run, succeed};
use serde_json::Value;
use sha2::Digest as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A program with its own folder of plugins, a user with a folder for data, and folders of others.
struct Machine(tempfile::TempDir);

impl Machine {
    fn new(shipped: &[&str]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir_all(machine.path("bin/plugins")).unwrap();
        machine.put(&program(), "bin/anemll");
        for name in shipped {
            machine.put(&library(name), &format!("bin/plugins/lib{name}.so"));
        }
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(name)
    }

    /// Puts a copy there: what is hard-linked could not be changed.
    fn put(&self, from: &Path, to: &str) -> PathBuf {
        let to = self.path(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, &to).unwrap();
        to
    }

    fn anemll(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(self.path("bin/anemll"));
        command.args(arguments).env("NO_COLOR", "1").env_remove("COLUMNS");
        command.env_remove("ANEMLL_PLUGIN_PATH").env("ANEMLL_DATA", self.path("data"));
        command.current_dir(self.0.path());
        command
    }

    /// The program that also looks into the folder `others`.
    fn with_path(&self, arguments: &[&str]) -> Command {
        let mut command = self.anemll(arguments);
        command.env("ANEMLL_PLUGIN_PATH", self.path("others"));
        command
    }

    /// The rows of a plugin in a list.
    fn rows(&self, command: &mut Command, plugin: &str) -> Vec<Value> {
        let rows = json(command).as_array().unwrap().clone();
        rows.into_iter().filter(|row| row["plugin"] == plugin).collect()
    }

    fn convert(&self, command: &mut Command, quantizer: &str) -> Output {
        let output = tempfile::tempdir().unwrap();
        command.args(["convert", "--no-tokenizer", "--combiner", "monolithic", "--context", "64"]);
        command.args(["--batch", "8", "--runtime", "none", "--compiler", "none"]);
        command.args(["--quantizer", quantizer]).arg("--model").arg(model("tiny-llama"));
        run(command.arg("--output").arg(output.path().join("out")))
    }

    fn lock(&self) -> Value {
        let text = std::fs::read(self.path("data/plugins.lock.json")).unwrap();
        serde_json::from_slice(&text).unwrap()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn sha256(path: &Path) -> String {
    let digest = sha2::Sha256::digest(std::fs::read(path).unwrap());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Other bytes, of which the library is made nonetheless.
fn change(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes.push(0);
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_trusted_plugin_that_changes_before_it_is_loaded_is_not_loaded() {
    let machine = Machine::new(&[]);
    let uniform = machine.put(&example("uniform"), "data/plugins/libuniform.so");
    let data = Some(machine.path("data"));
    let search = Search { data: data.clone(), ..Search::default() };
    Store::new(data).unwrap().trust(&uniform, &search.run().unwrap()).unwrap();
    let found = search.run().unwrap();
    // Beside it are plugins that are linked in.
    let entry = found.entries().iter().find(|entry| entry.path.as_ref() == Some(&uniform));
    let entry = entry.unwrap_or_else(|| panic!("{found:?}"));
    assert_eq!(found.status(entry), Status::Ok);
    change(&uniform);
    let error = entry.open().map(|_| ()).unwrap_err();
    assert_eq!(error.code, "A0127", "{error:?}");
    assert!(error.hint.unwrap().contains("anemll plugin trust"));
}

const SHIPPED: [&str; 3] = ["llama", "lut", "monolithic"];

#[test]
fn a_plugin_of_the_path_is_used_once_it_is_trusted_and_until_it_changes() {
    let machine = Machine::new(&SHIPPED);
    let uniform = machine.put(&example("uniform"), "others/libuniform.so");
    let list = ["plugin", "list", "--json"];

    let rows = machine.rows(&mut machine.with_path(&list), "uniform");
    assert_eq!((&rows[0]["status"], &rows[0]["code"]), (&"untrusted".into(), &"A0126".into()));
    let output = machine.convert(&mut machine.with_path(&[]), "uniform");
    let text = stderr(&output);
    assert!(text.contains("error[A0122]") && text.contains("[A0126]"), "{text}");
    // It does not stand in the way of anything else.
    let output = machine.convert(&mut machine.with_path(&[]), "lut");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("warning: ").count(), 1, "{}", stderr(&output));

    let output = succeed(&mut machine.with_path(&["plugin", "trust", "uniform"]));
    let version = rows[0]["version"].as_str().unwrap();
    let told = format!("trusted uniform {version}: {}", uniform.display());
    assert!(stderr(&output).contains(&told), "{}", stderr(&output));
    let listed = &machine.lock()["plugins"][0];
    assert_eq!(listed["sha256"], sha256(&uniform));
    assert_eq!(listed["path"], uniform.to_str().unwrap());
    let rows = machine.rows(&mut machine.with_path(&list), "uniform");
    assert_eq!((&rows[0]["status"], &rows[0]["origin"]), (&"ok".into(), &"plugin path".into()));
    assert_eq!(rows[0]["sha256"], sha256(&uniform));
    let output = machine.convert(&mut machine.with_path(&[]), "uniform");
    assert!(output.status.success(), "{}", stderr(&output));

    change(&uniform);
    let rows = machine.rows(&mut machine.with_path(&list), "uniform");
    assert_eq!((&rows[0]["status"], &rows[0]["code"]), (&"stale".into(), &"A0127".into()));
    let text = stderr(&machine.convert(&mut machine.with_path(&[]), "uniform"));
    assert!(text.contains("error[A0122]") && text.contains("[A0127]"), "{text}");
    // By its path this time.
    succeed(machine.with_path(&["plugin", "trust"]).arg(&uniform));
    assert_eq!(machine.lock()["plugins"].as_array().unwrap().len(), 1);
    let output = machine.convert(&mut machine.with_path(&[]), "uniform");
    assert!(output.status.success(), "{}", stderr(&output));

    let output = succeed(&mut machine.with_path(&["plugin", "remove", "uniform"]));
    assert!(stderr(&output).contains("still there") && uniform.exists());
    let rows = machine.rows(&mut machine.with_path(&list), "uniform");
    assert_eq!(rows[0]["status"], "untrusted");
    let text = refusal(&mut machine.with_path(&["plugin", "remove", "uniform"]));
    assert!(text.contains("error[A0122]"), "{text}");
}

#[test]
fn an_added_plugin_is_found_and_goes_away_again() {
    let machine = Machine::new(&SHIPPED);
    let uniform = machine.put(&example("uniform"), "downloads/libx.so");
    let told = stderr(&succeed(machine.anemll(&["plugin", "add"]).arg(&uniform)));
    let added = machine.path("data/plugins/libuniform.so");
    assert!(told.contains(added.to_str().unwrap()) && told.contains(&sha256(&uniform)), "{told}");
    for (folder, mode) in [("data", 0o700), ("data/plugins", 0o700)] {
        let found = std::fs::metadata(machine.path(folder)).unwrap().permissions().mode();
        assert_eq!(found & 0o777, mode, "{folder}");
    }
    std::fs::remove_file(&uniform).unwrap();
    let output = machine.convert(&mut machine.anemll(&[]), "uniform");
    assert!(output.status.success(), "{}", stderr(&output));
    // A newer one takes its place.
    let newer = machine.put(&example("uniform"), "downloads/liby.so");
    change(&newer);
    succeed(machine.anemll(&["plugin", "add"]).arg(&newer));
    let rows = machine.rows(&mut machine.anemll(&["plugin", "list", "--json"]), "uniform");
    assert_eq!((rows.len(), &rows[0]["sha256"]), (1, &sha256(&newer).into()));
    let told = stderr(&succeed(&mut machine.anemll(&["plugin", "remove", "uniform"])));
    assert!(told.contains("removed") && !added.exists(), "{told}");
    assert!(machine.rows(&mut machine.anemll(&["plugin", "list", "--json"]), "uniform").is_empty());
    // A folder that anyone may write to is not added to: nothing in it would be loaded.
    let folder = machine.path("data/plugins");
    let allow = |mode| {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    allow(0o777);
    let output = machine.anemll(&["plugin", "add"]).arg(&newer).output().unwrap();
    assert!(!output.status.success() && stderr(&output).contains("[A0130]"), "{}", stderr(&output));
    allow(0o700);
    // What was copied there by hand is not loaded.
    machine.put(&example("uniform"), "data/plugins/libuniform.so");
    let rows = machine.rows(&mut machine.anemll(&["plugin", "list", "--json"]), "uniform");
    assert_eq!(rows[0]["status"], "untrusted");
    // What is no plugin is neither copied nor listed.
    let text = machine.path("downloads/libtext.so");
    std::fs::write(&text, "no library").unwrap();
    assert!(refusal(machine.anemll(&["plugin", "add"]).arg(&text)).contains("error[A0102]"));
    assert!(!machine.path("data/plugins/libtext.so").exists());
}

#[test]
fn the_first_of_a_name_is_used_and_two_at_one_place_are_none() {
    let machine = Machine::new(&PLUGINS);
    let list = ["plugin", "list", "--json"];
    machine.put(&library("llama"), "others/libmine.so");
    succeed(&mut machine.with_path(&["plugin", "trust", "./others/libmine.so"]));
    let statuses = |command: &mut Command| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rows = machine.rows(command, "llama");
        rows.iter().map(|row| (text(&row["origin"]), text(&row["status"]))).collect()
    };
    let said = |list: &[(&str, &str)]| -> Vec<(String, String)> {
        list.iter().map(|(one, other)| ((*one).to_owned(), (*other).to_owned())).collect()
    };
    let found = statuses(&mut machine.with_path(&list));
    assert_eq!(found, said(&[("plugin path", "ok"), ("installed", "shadowed")]));
    let output = machine.convert(&mut machine.with_path(&[]), "lut");
    assert!(stderr(&output).contains("note: plugin `llama` "), "{}", stderr(&output));
    // A plugin that is named goes before all others, and says so.
    let named = machine.put(&library("llama"), "downloads/libllama.so");
    let with_named = |machine: &Machine, arguments: &[&str]| {
        let mut command = machine.with_path(arguments);
        command.arg("--plugin").arg(&named);
        command
    };
    let found = statuses(&mut with_named(&machine, &list));
    assert_eq!(
        found,
        said(&[("--plugin", "ok"), ("plugin path", "shadowed"), ("installed", "shadowed")])
    );
    let output = machine.convert(&mut with_named(&machine, &[]), "lut");
    let told = format!("note: plugin `llama` 0.1.0 (--plugin, {}) takes", named.display());
    assert!(output.status.success() && stderr(&output).contains(&told), "{}", stderr(&output));
    // The shipped file itself takes nobody's place.
    let shipped = machine.path("bin/plugins/libllama.so");
    let mut command = machine.anemll(&["--plugin"]);
    let output = machine.convert(command.arg(&shipped), "lut");
    assert!(output.status.success() && !stderr(&output).contains("takes"), "{}", stderr(&output));
    // What the user has added never does, which is said.
    let told = stderr(&succeed(machine.anemll(&["plugin", "add"]).arg(&named)));
    assert!(told.contains("it is not used while") && told.contains("(installed)"), "{told}");
    let found = statuses(&mut machine.anemll(&list));
    assert_eq!(found, said(&[("installed", "ok"), ("user", "shadowed")]));
    // Two at one place: an error for who asks for one, and nobody else.
    machine.put(&library("llama"), "others/libtwin.so");
    succeed(&mut machine.with_path(&["plugin", "trust", "./others/libtwin.so"]));
    let found = statuses(&mut machine.with_path(&list));
    assert_eq!(found[..2], said(&[("plugin path", "ambiguous"); 2]));
    let text = stderr(&machine.convert(&mut machine.with_path(&[]), "lut"));
    assert!(text.contains("error[A0123]") && text.contains("libtwin.so"), "{text}");
    let conversion = model("tiny-qwen3");
    let check = ["check", "--model", conversion.to_str().unwrap()];
    succeed(&mut machine.with_path(&check));
}

#[test]
fn folders_that_depend_on_where_one_is_or_are_open_to_all_are_not_used() {
    let machine = Machine::new(&SHIPPED);
    machine.put(&example("uniform"), "others/libuniform.so");
    let list = ["plugin", "list", "--json"];
    let mut relative = machine.anemll(&list);
    relative.env("ANEMLL_PLUGIN_PATH", "others");
    let text = refusal(&mut relative);
    assert!(text.contains("error[A0129]") && text.contains("`others`"), "{text}");
    // Empty parts of the variable name no folder.
    let mut empty = machine.anemll(&list);
    empty.env("ANEMLL_PLUGIN_PATH", format!(":{}:", machine.path("others").display()));
    assert_eq!(machine.rows(&mut empty, "uniform").len(), 1);
    // Neither the current directory, nor what lies beside a model.
    machine.put(&example("uniform"), "libuniform.so");
    machine.put(&example("uniform"), "plugins/libuniform.so");
    assert!(machine.rows(&mut machine.anemll(&list), "uniform").is_empty());

    succeed(&mut machine.with_path(&["plugin", "trust", "uniform"]));
    let allow = |name: &str, mode| {
        std::fs::set_permissions(machine.path(name), std::fs::Permissions::from_mode(mode))
            .unwrap();
    };
    allow("others/libuniform.so", 0o666);
    let rows = machine.rows(&mut machine.with_path(&list), "uniform");
    assert_eq!((&rows[0]["status"], &rows[0]["code"]), (&"refused".into(), &"A0130".into()));
    allow("others/libuniform.so", 0o644);
    allow("others", 0o777);
    assert!(machine.rows(&mut machine.with_path(&list), "uniform").is_empty());
    let output = machine.convert(&mut machine.with_path(&[]), "lut");
    let told = format!("warning: plugins in {} are not loaded", machine.path("others").display());
    assert!(output.status.success() && stderr(&output).contains(&told), "{}", stderr(&output));
    let health = json(&mut machine.with_path(&["plugin", "doctor", "--json"]));
    let folders: Vec<&Value> = health
        .as_array()
        .unwrap()
        .iter()
        .filter(|line| line["topic"] == "folder" && line["status"] == "warn")
        .collect();
    assert_eq!(folders.len(), 1, "{health}");
    assert!(folders[0]["hint"].as_str().unwrap().starts_with("chmod o-w "), "{health}");
    allow("others", 0o755);
    // A lock file that anyone may write to says nothing.
    allow("data/plugins.lock.json", 0o666);
    let rows = machine.rows(&mut machine.with_path(&list), "uniform");
    assert_eq!((&rows[0]["status"], &rows[0]["code"]), (&"refused".into(), &"A0128".into()));
    let output = machine.convert(&mut machine.with_path(&[]), "lut");
    assert!(output.status.success(), "{}", stderr(&output));
    assert_eq!(stderr(&output).matches("A0128").count(), 1, "{}", stderr(&output));
    let text = refusal(&mut machine.with_path(&["plugin", "trust", "uniform"]));
    assert!(text.contains("error[A0128]"), "{text}");
}

#[test]
fn locked_loads_nothing_that_is_not_listed() {
    let machine = Machine::new(&SHIPPED);
    let uniform = machine.put(&example("uniform"), "downloads/libuniform.so");
    let named = |arguments: &[&str]| {
        let mut command = machine.anemll(&["--locked", "--plugin"]);
        command.arg(&uniform).args(arguments);
        command
    };
    let text = refusal(&mut named(&["plugin", "list"]));
    assert!(text.contains("error[A0126]") && text.contains("libuniform.so"), "{text}");
    let output = machine.convert(&mut machine.anemll(&["--locked"]), "lut");
    assert!(stderr(&output).contains("[A0126]"), "{}", stderr(&output));
    assert_eq!(output.status.code(), Some(1));
    succeed(machine.anemll(&["plugin", "trust", "llama", "lut", "monolithic"]).arg(&uniform));
    for name in ["lut", "uniform"] {
        let output = machine.convert(&mut named(&[]), name);
        assert!(output.status.success(), "{}", stderr(&output));
        assert!(!stderr(&output).contains("A0126"), "{}", stderr(&output));
    }
    change(&uniform);
    assert!(refusal(&mut named(&["plugin", "list"])).contains("error[A0127]"));
}

#[test]
fn a_program_without_plugins_says_which_folders_it_looked_into() {
    let machine = Machine::new(&[]);
    std::fs::remove_dir(machine.path("bin/plugins")).unwrap();
    let text = stderr(&machine.convert(&mut machine.with_path(&[]), "lut"));
    assert!(text.contains("this program has no plugin folder"), "{text}");
    for folder in ["others", "bin/plugins", "lib/anemll/plugins", "data/plugins"] {
        assert!(text.contains(folder), "{folder}: {text}");
    }
    let list = succeed(&mut machine.anemll(&["plugin", "list"]));
    let told = String::from_utf8_lossy(&list.stdout).into_owned();
    assert!(told.contains("this program has no plugin folder"), "{told}");
    // Package managers have it elsewhere.
    machine.put(&library("llama"), "lib/anemll/plugins/libllama.so");
    let rows = machine.rows(&mut machine.anemll(&["plugin", "list", "--json"]), "llama");
    assert!(rows.iter().all(|row| row["status"] == "ok" && row["origin"] == "installed"));
    let text = stderr(&run(machine.anemll(&["plugin", "doctor"]).env("COLUMNS", "200")));
    assert!(text.contains("of the checks failed"), "{text}");
}

#[test]
fn a_library_that_is_in_use_is_told_of_as_it_is_found() {
    let machine = Machine::new(&SHIPPED);
    let shipped = machine.path("bin/plugins/liblut.so");
    let output = succeed(machine.anemll(&["plugin", "info", "--json"]).arg(&shipped));
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told[0]["status"], &told[0]["origin"]), (&"ok".into(), &"installed".into()));
}

#[test]
fn a_plugin_is_shown_at_length_and_not_run() {
    let machine = Machine::new(&SHIPPED);
    let told =
        |command: &mut Command| String::from_utf8_lossy(&succeed(command).stdout).into_owned();
    let text = told(&mut machine.anemll(&["plugin", "info", "lut"]));
    for part in ["lut 0.1.0, ABI 1", "quantizer lut", "-O ", "sha256", "status   ok"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A library that nobody trusts, by its path; its sum can be compared with what its author says.
    let uniform = machine.put(&example("uniform"), "downloads/libuniform.so");
    let shown = json(machine.anemll(&["plugin", "info", "--json"]).arg(&uniform));
    assert_eq!(shown[0]["sha256"], sha256(&uniform));
    assert_eq!((&shown[0]["status"], &shown[0]["code"]), (&"untrusted".into(), &"A0126".into()));
    assert_eq!(shown[0]["components"][0]["id"], "uniform");
    let text = refusal(&mut machine.anemll(&["plugin", "info", "nobody"]));
    assert!(text.contains("error[A0122]") && text.contains("nobody"), "{text}");
    // What is said for scripts is described.
    let page = anemll_tests::workspace().join("docs/reference/plugins.md");
    let page = std::fs::read_to_string(page).unwrap();
    let list = json(&mut machine.anemll(&["plugin", "list", "--json"]));
    let health = json(&mut machine.anemll(&["plugin", "doctor", "--json"]));
    for object in [&list[0], &shown[0], &health[0]] {
        for key in object.as_object().unwrap().keys() {
            assert!(page.contains(&format!("`{key}`")), "{key} is not described");
        }
    }
    // Only a stage, with what cannot be read.
    std::fs::write(machine.path("bin/plugins/libtext.so"), "no library").unwrap();
    let rows = json(&mut machine.anemll(&["plugin", "list", "--stage", "arch", "--json"]));
    let stages: Vec<&Value> = rows.as_array().unwrap().iter().map(|row| &row["stage"]).collect();
    assert_eq!(stages, [&Value::from("arch"), &Value::Null]);
    assert_eq!((&rows[1]["status"], &rows[1]["code"]), (&"refused".into(), &"A0102".into()));
    assert!(
        refusal(&mut machine.anemll(&["plugin", "list", "--stage", "x"])).contains("quantizer")
    );
}
