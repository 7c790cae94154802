//! `convert` calibrates by itself, says how far the result is from the original, and keeps what it
//! made for the next conversion.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_codes as codes;
use anemll_tests::{anemll, files, model, refusal, succeed};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with a cache of its own.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The conversion of a tiny model into a folder of this name; what it says of itself is the same
    /// whatever this name is.
    fn command(&self, model: &Path, name: &str, arguments: &[&str]) -> Command {
        std::fs::create_dir_all(self.path(name)).unwrap();
        let mut command = anemll();
        command.arg("convert").arg(model).args(["-o", "out", "--context", "256"]).args(arguments);
        command.current_dir(self.path(name)).env("ANEMLL_CACHE", self.path("cache"));
        command
    }

    /// Standard output and standard error.
    fn convert(&self, name: &str, arguments: &[&str]) -> (String, String) {
        let output = succeed(&mut self.command(&model("tiny-llama"), name, arguments));
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr))
    }

    fn report(&self, name: &str) -> Value {
        let path = self.path(name).join("out/anemll-report.json");
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    }

    /// Files of calibrations that are kept.
    fn kept(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.path("cache")).into_iter().flatten().flatten();
        let mut kept: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        kept.sort();
        kept
    }

    /// The weight files of a conversion.
    fn weights(&self, name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let mut found = files(&self.path(name).join("out"));
        found.retain(|(path, _)| path.ends_with("weight.bin"));
        assert!(!found.is_empty());
        found
    }
}

/// The events of a kind among lines of JSON.
fn events<'a>(lines: &'a str, kind: &'a str) -> impl Iterator<Item = Value> + 'a {
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    events.filter(move |event| event["event"] == kind)
}

#[test]
fn a_conversion_says_how_far_it_is_from_the_original() {
    let place = Place::new();
    let (_, told) = place.convert("four", &["--lut", "4"]);
    let quality = told.lines().find(|line| line.starts_with("quality: KL 0.")).unwrap();
    assert!(quality.contains("perplexity") && quality.contains("(16 bits: "), "{quality}");
    assert!(!told.contains("warning"), "{told}");
    let four = &place.report("four")["test"]["quality"];
    assert!(four["tokens"].as_u64().unwrap() > 100, "{four}");
    let number = |quality: &Value, key: &str| quality[key].as_f64().unwrap();
    let kl = number(four, "kl");
    assert!(kl > 0.0 && kl < 0.3, "{four}");

    // Whoever reads meta.yaml learns it, too.
    let meta = || std::fs::read_to_string(place.path("four").join("out/meta.yaml")).unwrap();
    let comment = format!("\n# {quality}\n");
    assert!(meta().ends_with(&comment), "{}", meta());

    // Fewer bits are farther away, so far that it is said.
    let (lines, told) = place.convert("two", &["--lut", "2", "--quantizer", "lut", "--json"]);
    let two = &place.report("two")["test"]["quality"];
    assert!(number(two, "kl") > 0.3 && number(two, "top1") < number(four, "top1"), "{two}");
    assert_eq!(number(two, "original_perplexity"), number(four, "original_perplexity"));
    assert!(number(two, "perplexity") > number(four, "perplexity"), "{two} {four}");
    let event = events(&lines, "quality").next().unwrap();
    assert_eq!(number(&event, "kl"), number(two, "kl"));
    let warning = events(&lines, "warning").next().unwrap();
    let text = warning["text"].as_str().unwrap();
    assert!(text.contains("far from the original") && text.contains("--lut 6"), "{text}");
    let judged = events(&lines, "measure").last().unwrap();
    assert_eq!((&judged["what"], &judged["done"]), (&"judging".into(), &judged["total"]));
    assert_eq!(told, "", "JSON is all that is told");

    // What was measured is known when everything is finished, and so is the warning.
    let before = place.report("two");
    let (lines, _) = place.convert("two", &["--lut", "2", "--quantizer", "lut", "--json"]);
    assert_eq!(place.report("two"), before);
    assert_eq!(events(&lines, "warning").next().unwrap(), warning);
    assert_eq!(events(&lines, "measure").count(), 0, "nothing is run again");

    // Another tokenizer file makes the small files again, and the measure stands.
    std::fs::remove_file(place.path("four").join("out/meta.yaml")).unwrap();
    let (_, told) = place.convert("four", &["--lut", "4"]);
    assert!(!told.contains("judging") && meta().ends_with(&comment), "{told} {}", meta());
}

#[test]
fn a_calibration_is_made_once_and_again_when_its_file_is_damaged() {
    let place = Place::new();
    let (lines, _) = place.convert("first", &["--lut", "4", "--json"]);
    let calibrated = |lines: &str| {
        events(lines, "measure").filter(|event| event["what"] == "calibrating").count()
    };
    assert!(calibrated(&lines) > 1);
    let kept = place.kept();
    let [path] = &kept[..] else { panic!("one file is kept: {kept:?}") };
    let whole = std::fs::read(path).unwrap();

    // Other bits are another conversion of the same model: what is known of it serves again.
    let (lines, _) = place.convert("other", &["--lut", "6", "--json"]);
    assert_eq!(calibrated(&lines), 0);
    std::fs::write(path, &whole[..whole.len() / 2]).unwrap();
    let (lines, _) = place.convert("second", &["--lut", "4", "--json"]);
    assert!(calibrated(&lines) > 1);
    assert!(std::fs::read(path).unwrap() == whole, "the file is whole again");
    assert!(place.weights("first") == place.weights("second"));
    assert_eq!(place.kept().len(), 1);
}

#[test]
fn where_nothing_can_be_kept_a_conversion_calibrates_all_the_same() {
    let place = Place::new();
    let file = place.path("file");
    std::fs::write(&file, "").unwrap();
    let mut convert = place.command(&model("tiny-llama"), "out", &["--lut", "4"]);
    let told = succeed(convert.env("ANEMLL_CACHE", file.join("cache"))).stderr;
    assert!(String::from_utf8(told).unwrap().contains("quality: KL 0."));
    place.convert("kept", &["--lut", "4"]);
    assert!(place.weights("out") == place.weights("kept"));
}

/// What an earlier run has measured is not said of weights that are made anew.
#[test]
fn a_quality_that_is_not_measured_again_is_forgotten() {
    let place = Place::new();
    let meta = || std::fs::read_to_string(place.path("out/out/meta.yaml")).unwrap();
    let flags = ["--lut", "4"];
    place.convert("out", &flags);
    assert!(meta().contains("\n# quality: KL"), "{}", meta());
    let mut again = place.command(&model("tiny-llama"), "out", &flags);
    succeed(again.args(["--restart", "1", "--skip-quality"]));
    assert!(!meta().contains("# quality:"), "{}", meta());
}

#[test]
fn what_is_left_out_is_not_done() {
    let place = Place::new();
    let (_, told) = place.convert("plain", &["--lut", "4", "--quantizer", "lut", "--skip-quality"]);
    assert!(!told.contains("quality"), "{told}");
    assert!(place.report("plain")["test"].get("quality").is_none());
    assert!(place.kept().is_empty(), "{:?}", place.kept());

    // Without statistics the default quantizer is `lut`.
    let none = ["--lut", "4", "--calibration", "none", "--skip-quality"];
    place.convert("none", &none);
    assert!(place.weights("none") == place.weights("plain"));
    assert!(place.kept().is_empty(), "{:?}", place.kept());

    // Sixteen bits are the original.
    let (_, told) = place.convert("sixteen", &["--lut", "none"]);
    assert!(!told.contains("quality") && place.kept().is_empty(), "{told}");

    let (_, told) = place.convert("calibrated", &["--lut", "4", "--skip-quality"]);
    assert!(!told.contains("quality"), "{told}");
    assert!(place.weights("calibrated") != place.weights("plain"));
    assert_eq!(place.kept().len(), 1);

    let method = ["--lut", "4", "--calibration", "none", "-O", "method=gptq"];
    let told = refusal(&mut place.command(&model("tiny-llama"), "demanded", &method));
    assert!(told.contains(codes::USAGE) && told.contains("--calibration STATS"), "{told}");
}

#[test]
fn given_statistics_take_the_place_of_a_calibration_and_must_be_of_the_model() {
    let place = Place::new();
    let statistics = place.path("statistics.safetensors");
    let mut calibrate = anemll();
    calibrate.arg("calibrate").arg(model("tiny-llama")).arg("-o").arg(&statistics);
    succeed(calibrate.args(["--context", "256", "--tokens", "4096", "--hessian"]));
    let path = statistics.to_str().unwrap();
    let given = ["--lut", "4", "--calibration", path, "--json"];
    let (lines, _) = place.convert("given", &given);
    let what: Vec<Value> = events(&lines, "measure").map(|event| event["what"].clone()).collect();
    assert!(!what.is_empty() && what.iter().all(|what| what == "judging"), "{what:?}");
    assert!(place.kept().is_empty(), "its judge is used, too");
    // Tokens count otherwise in it than in what a conversion makes itself.
    place.convert("own", &["--lut", "4"]);
    assert!(place.weights("given") != place.weights("own"));

    // Of a model whose numbers mean something else.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(model("tiny-llama")).unwrap().flatten() {
        if entry.path().is_file() {
            std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
        }
    }
    let config = copy.path().join("config.json");
    let changed = std::fs::read_to_string(&config).unwrap().replace("1e-05", "1e-04");
    std::fs::write(&config, changed).unwrap();
    let told = refusal(&mut place.command(copy.path(), "changed", &given[..4]));
    assert!(told.contains(codes::STATISTICS_INVALID), "{told}");
    assert!(told.contains("are of another model") && told.contains("anemll calibrate"), "{told}");
    assert!(!place.path("changed").join("out").exists(), "nothing is left behind");
}

/// A model that is never multiplied with anything has no errors that matter, and converts.
#[test]
fn statistics_of_zeros_are_statistics() {
    let place = Place::new();
    let path = place.path("zeros.safetensors");
    let directory = anemll_huggingface::ModelDirectory::open(model("tiny-llama")).unwrap();
    for products in [false, true] {
        let sizes: Vec<(String, Vec<usize>)> = directory
            .tensors()
            .iter()
            .filter_map(|(name, info)| match info.shape[..] {
                [_, inputs] if products => Some((name.clone(), vec![inputs as usize; 2])),
                [_, inputs] => Some((name.clone(), vec![inputs as usize])),
                _ => None,
            })
            .collect();
        let zeros = vec![0_u8; 4 * 352 * 352];
        let views = sizes.iter().map(|(name, shape)| {
            let bytes = &zeros[..4 * shape.iter().product::<usize>()];
            let dtype = safetensors::Dtype::F32;
            let view = safetensors::tensor::TensorView::new(dtype, shape.clone(), bytes).unwrap();
            (name.clone(), view)
        });
        safetensors::serialize_to_file(views, None, &path).unwrap();
        let name = if products { "products" } else { "squares" };
        place.convert(name, &["--lut", "4", "--calibration", path.to_str().unwrap()]);
        let quality = &place.report(name)["test"]["quality"];
        assert!(quality["kl"].as_f64().unwrap() < 1.0, "{quality}");
    }
}

/// Weights that were rotated do not go with others that are not: a run that goes on with a conversion
/// must not know less than the one before.
#[test]
fn a_rotation_is_not_changed_halfway() {
    let place = Place::new();
    let flags = ["--lut2", "4", "--lut3", "4", "--combiner", "chunked", "--skip-quality"];
    let run = |more: &[&str]| place.command(&model("tiny-llama"), "one", &[&flags, more].concat());
    succeed(&mut run(&[]));
    let kept = place.kept();
    let [path] = &kept[..] else { panic!("one file is kept: {kept:?}") };
    // Of the same model, but without products.
    let mut squares = anemll();
    squares.args(["calibrate", "--context", "256", "--tokens", "512", "-o"]).arg(path);
    succeed(squares.arg(model("tiny-llama")));
    let before = files(&place.path("one/out"));
    let told = refusal(&mut run(&["--restart", "3"]));
    assert!(told.contains(&format!("error[{}]", codes::STEP_INPUT_MISSING)), "{told}");
    assert!(told.contains("another rotation") && told.contains("--restart 1"), "{told}");
    assert_eq!(files(&place.path("one/out")), before);
    succeed(&mut run(&["--restart", "1"]));
}
