//! `export` and `verify`: what apps load and nothing else, whole or not at all, and known by its sums.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{
    anemll, convert, copy_of_converted, evaluate, files, golden, model, run, succeed,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Output;

/// Chunked, palettized, compiled.
fn conversion(folder: &Path) -> PathBuf {
    let output = folder.join("out");
    let flags = ["--chunk", "2", "--context", "512", "--lut", "4", "--compiler", "mlmodelc"];
    copy_of_converted(&model("tiny-llama"), &output, &flags);
    output
}

fn export(conversion: &Path, target: &Path, flags: &[&str]) -> Output {
    let mut command = anemll();
    command.arg("export").arg(conversion).arg("--to").arg(target).args(flags);
    run(&mut command)
}

fn exported(conversion: &Path, target: &Path, flags: &[&str]) -> String {
    let output = export(conversion, target, flags);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// Exports, which must fail with this code and leave nothing behind.
fn refused(conversion: &Path, target: &Path, flags: &[&str], code: &str) -> String {
    let parent = target.parent().unwrap();
    let before = names(parent);
    let output = export(conversion, target, flags);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.starts_with(&format!("error[{code}]")), "{told}");
    assert_eq!(names(parent), before, "{told}");
    told
}

fn verify(folder: &Path) -> (Option<i32>, Value, String) {
    let output = run(anemll().arg("verify").arg(folder).arg("--json"));
    let value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), value, text(&output.stderr))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn names(folder: &Path) -> BTreeSet<String> {
    files(folder).into_iter().map(|(path, _)| path.to_string_lossy().replace('\\', "/")).collect()
}

fn release(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("release.json")).unwrap()).unwrap()
}

#[cfg(unix)]
fn inode(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).unwrap().ino()
}

const EMBEDDINGS: &str = "llama_embeddings";
const MODELS: [&str; 4] = [
    EMBEDDINGS,
    "llama_FFN_PF_lut4_chunk_01of02",
    "llama_FFN_PF_lut4_chunk_02of02",
    "llama_lm_head_lut4",
];

#[test]
fn folders_and_zips_hold_what_apps_load_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let out = conversion(folder.path());
    let first = folder.path().join("first");
    exported(&out, &first, &["--ios", "--zip", "--package"]);
    let found = names(&first);
    let mut top: BTreeSet<String> = BTreeSet::new();
    for path in &found {
        top.insert(path.split('/').take(2).collect::<Vec<_>>().join("/"));
    }
    let small = [
        "README.md",
        "anemll-run.json",
        "config.json",
        "generation_config.json",
        "meta.yaml",
        "release.json",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    let mut expected: BTreeSet<String> = ["README.md", "release.json"].map(str::to_owned).into();
    for form in ["ios", "standard"] {
        expected.extend(small.map(|name| format!("{form}/{name}")));
    }
    for name in MODELS {
        expected.extend(["mlmodelc", "mlpackage"].map(|end| format!("ios/{name}.{end}")));
        expected.extend(["mlmodelc", "mlpackage"].map(|end| format!("standard/{name}.{end}.zip")));
    }
    assert_eq!(top, expected);
    // What is in a zip is what is in the folder.
    for name in MODELS {
        let zip = fs::File::open(first.join(format!("standard/{name}.mlmodelc.zip"))).unwrap();
        let mut archive = zip::ZipArchive::new(zip).unwrap();
        let mut inside = BTreeSet::new();
        for index in 0..archive.len() {
            let mut entry = archive.by_index(index).unwrap();
            if entry.is_dir() {
                continue;
            }
            let path = entry.name().unwrap().into_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            assert!(bytes == fs::read(first.join("ios").join(&path)).unwrap(), "{path}");
            inside.insert(format!("ios/{path}"));
        }
        let prefix = format!("ios/{name}.mlmodelc/");
        let there: BTreeSet<String> =
            found.iter().filter(|path| path.starts_with(&prefix)).cloned().collect();
        assert_eq!(inside, there);
    }
    #[cfg(unix)]
    {
        // One file in the conversion, in the compiled model and in the package.
        let weights = format!("{EMBEDDINGS}.mlmodelc/weights/weight.bin");
        let package = format!("{EMBEDDINGS}.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
        let expected = inode(&out.join(&weights));
        assert_eq!(inode(&first.join("ios").join(&weights)), expected);
        assert_eq!(inode(&first.join("ios").join(package)), expected);
    }
    // The same again, copied: the same bytes, and names of one file stay names of one file.
    let second = folder.path().join("second");
    exported(&out, &second, &["--ios", "--zip", "--package", "--copy"]);
    assert!(files(&first) == files(&second), "two exports differ");
    #[cfg(unix)]
    {
        let weights = format!("ios/{EMBEDDINGS}.mlmodelc/weights/weight.bin");
        let package =
            format!("ios/{EMBEDDINGS}.mlpackage/Data/com.apple.CoreML/weights/weight.bin");
        assert_ne!(inode(&second.join(&weights)), inode(&first.join(&weights)));
        assert_eq!(inode(&second.join(weights)), inode(&second.join(package)));
    }
    for place in ["", "ios", "standard"] {
        let (status, answer, told) = verify(&first.join(place));
        assert_eq!((status, &answer["ok"]), (Some(0), &json!(true)), "{told}");
    }
    // Deflated, there is the same inside.
    let third = folder.path().join("third");
    exported(&out, &third, &["--zip", "--deflate"]);
    assert!(!third.join("ios").exists());
    let size = |folder: &Path| {
        fs::metadata(folder.join(format!("standard/{EMBEDDINGS}.mlmodelc.zip"))).unwrap().len()
    };
    assert!(size(&third) < size(&first));
    let contents = |folder: &Path| {
        let release = release(&folder.join("standard"));
        let files = release["files"].as_array().unwrap().clone();
        files.into_iter().find(|file| file["path"] == format!("{EMBEDDINGS}.mlmodelc.zip")).unwrap()
            ["contents"]
            .clone()
    };
    assert_eq!(contents(&third), contents(&first));
    assert_eq!(verify(&third).0, Some(0));
}

#[test]
fn an_export_runs_and_names_no_paths_of_the_machine_that_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = conversion(folder.path());
    let target = folder.path().join("release");
    let told = exported(&out, &target, &["--upload", "me/tiny"]);
    let ios = target.canonicalize().unwrap().join("ios");
    assert!(told.ends_with(&format!("hf upload me/tiny {} .\n", ios.display())), "{told}");
    // No packages are there: the compiled models run, and give what the packages give.
    let arguments = ["--path", "infer"];
    let ours = evaluate(&ios, &golden("tiny-llama"), "logits.npy", &arguments);
    assert_eq!(ours, evaluate(&out, &golden("tiny-llama"), "logits.npy", &arguments));
    for (path, bytes) in files(&target) {
        let text = text(&bytes);
        let place = folder.path().to_string_lossy().into_owned();
        assert!(!text.contains(&place), "{} names {place}", path.display());
    }
    let recipe = &release(&ios)["recipe"];
    assert!(recipe["tool"].as_str().unwrap().starts_with("anemll "), "{recipe}");
    assert_eq!(recipe["source_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(recipe["options"]["context"], 512);
    assert!(recipe["plugins"].as_array().unwrap().len() >= 4, "{recipe}");
    let config: Value =
        serde_json::from_slice(&fs::read(ios.join("config.json")).unwrap()).unwrap();
    assert_eq!(config["model_type"], "llama");
    assert!(config["tokenizer_class"].is_string(), "{config}");
    assert!(config.get("hidden_size").is_none(), "only what a tokenizer needs: {config}");
}

#[test]
fn what_is_not_finished_or_not_compiled_is_not_exported() {
    let folder = tempfile::tempdir().unwrap();
    let out = conversion(folder.path());
    let target = folder.path().join("release");
    let compiled = out.join(format!("{}.mlmodelc", MODELS[1]));
    let aside = out.join("aside");
    fs::rename(&compiled, &aside).unwrap();
    let told = refused(&out, &target, &[], "A0831");
    assert!(told.contains("anemll compile") && told.contains(MODELS[1]), "{told}");
    fs::rename(&aside, &compiled).unwrap();
    // Compiled from another package than the one that is there now.
    let package = out.join(format!("{}.mlpackage/Data/com.apple.CoreML/model.mlmodel", MODELS[1]));
    let other = out.join(format!("{}.mlpackage/Data/com.apple.CoreML/model.mlmodel", MODELS[2]));
    let bytes = fs::read(&package).unwrap();
    fs::write(&package, fs::read(other).unwrap()).unwrap();
    let told = refused(&out, &target, &[], "A0831");
    assert!(told.contains("--force"), "{told}");
    fs::write(&package, bytes).unwrap();
    let mil = compiled.join("model.mil");
    let text = fs::read(&mil).unwrap();
    fs::write(&mil, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n").unwrap();
    let told = refused(&out, &target, &[], "A0830");
    assert!(told.contains("Git LFS"), "{told}");
    fs::write(&mil, text).unwrap();
    #[cfg(unix)]
    {
        let weights = compiled.join("weights/weight.bin");
        let elsewhere = out.join("weight.bin");
        fs::rename(&weights, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &weights).unwrap();
        let told = refused(&out, &target, &[], "A0830");
        assert!(told.contains("symbolic link"), "{told}");
        fs::remove_file(&weights).unwrap();
        fs::rename(&elsewhere, &weights).unwrap();
    }
    fs::rename(out.join("meta.yaml"), &aside).unwrap();
    refused(&out, &target, &[], "A0830");
    fs::rename(&aside, out.join("meta.yaml")).unwrap();
    exported(&out, &target, &[]);
}

#[test]
fn nothing_of_others_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let around = folder.path().join("around");
    fs::create_dir(&around).unwrap();
    let out = conversion(&around);
    refused(&out, &out.join("release"), &[], "A0832");
    refused(&out, &around, &["--force"], "A0832");
    let target = folder.path().join("place/release");
    fs::create_dir_all(&target).unwrap();
    fs::write(target.join("mine.txt"), "mine").unwrap();
    refused(&out, &target, &[], "A0805");
    refused(&out, &target, &["--force"], "A0805");
    fs::remove_file(target.join("mine.txt")).unwrap();
    // An empty directory is as good as none.
    exported(&out, &target, &["--zip"]);
    let told = refused(&out, &target, &[], "A0805");
    assert!(told.contains("--force"), "{told}");
    // What is not of the export stays, and what is no longer of it goes.
    fs::create_dir(target.join("ios")).unwrap();
    fs::write(target.join("ios/mine.txt"), "mine").unwrap();
    exported(&out, &target, &["--force"]);
    assert!(!target.join("standard").exists());
    assert_eq!(fs::read(target.join("ios/mine.txt")).unwrap(), b"mine");
    let (status, answer, _) = verify(&target);
    assert_eq!(status, Some(1));
    let extra: Vec<&Value> =
        answer["files"].as_array().unwrap().iter().filter(|file| file["status"] != "ok").collect();
    assert_eq!(extra.len(), 1, "{extra:?}");
    assert_eq!(extra[0]["path"], "ios/mine.txt");
    // A file of others in the way of a new one.
    fs::create_dir(target.join("standard")).unwrap();
    fs::write(target.join("standard/meta.yaml"), "mine").unwrap();
    let told = refused(&out, &target, &["--zip", "--force"], "A0805");
    assert!(told.contains("meta.yaml"), "{told}");
    #[cfg(unix)]
    {
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        refused(&out, &link, &["--force"], "A0832");
    }
}

/// Changes an export, verifies it, and gives the path and status of what is not ok.
fn findings(target: &Path, change: impl FnOnce(&Path)) -> Vec<(String, String)> {
    change(target);
    let (status, answer, told) = verify(target);
    assert_eq!(status, Some(1), "{told}");
    assert!(told.starts_with("error[A0834]"), "{told}");
    assert_eq!(answer["ok"], false);
    let list = answer["files"].as_array().unwrap();
    let wrong = list.iter().filter(|file| file["status"] != "ok");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    wrong.map(|file| (text(&file["path"]), text(&file["status"]))).collect()
}

#[test]
fn verify_finds_whatever_is_not_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let out = conversion(folder.path());
    let whole = folder.path().join("whole");
    exported(&out, &whole, &["--ios", "--zip", "--copy"]);
    let mut count = 0;
    let mut copy = || {
        count += 1;
        let target = folder.path().join(format!("copy{count}"));
        for (path, bytes) in files(&whole) {
            fs::create_dir_all(target.join(&path).parent().unwrap()).unwrap();
            fs::write(target.join(path), bytes).unwrap();
        }
        target
    };
    let weights = format!("ios/{EMBEDDINGS}.mlmodelc/weights/weight.bin");
    let zip = format!("standard/{EMBEDDINGS}.mlmodelc.zip");
    let one = |path: &str, status: &str| vec![(path.to_owned(), status.to_owned())];

    let found = findings(&copy(), |target| {
        let mut bytes = fs::read(target.join(&weights)).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(target.join(&weights), bytes).unwrap();
    });
    assert_eq!(found, one(&weights, "changed"));
    let found = findings(&copy(), |target| {
        let bytes = fs::read(target.join(&weights)).unwrap();
        fs::write(target.join(&weights), &bytes[..bytes.len() - 1]).unwrap();
    });
    assert_eq!(found, one(&weights, "size"));
    let found = findings(&copy(), |target| fs::remove_file(target.join(&weights)).unwrap());
    assert_eq!(found, one(&weights, "missing"));
    let found = findings(&copy(), |target| fs::write(target.join("ios/more.bin"), "x").unwrap());
    assert_eq!(found, one("ios/more.bin", "extra"));
    #[cfg(unix)]
    {
        let found = findings(&copy(), |target| {
            fs::rename(target.join(&weights), folder.path().join("weights")).unwrap();
            let elsewhere = folder.path().join("weights");
            std::os::unix::fs::symlink(elsewhere, target.join(&weights)).unwrap();
        });
        assert_eq!(found, one(&weights, "link"));
    }
    // What the hub adds to a download is none of the export's, and no fault of it.
    let downloaded = copy();
    fs::write(downloaded.join(".gitattributes"), "*.bin filter=lfs").unwrap();
    fs::create_dir_all(downloaded.join(".cache/huggingface")).unwrap();
    fs::write(downloaded.join(".cache/huggingface/x.metadata"), "x").unwrap();
    assert_eq!(verify(&downloaded).0, Some(0));
    // A repository of the hub: one form at the top, the other below.
    let uploaded = folder.path().join("uploaded");
    fs::rename(copy().join("ios"), &uploaded).unwrap();
    fs::rename(copy().join("standard"), uploaded.join("standard")).unwrap();
    let (status, answer, told) = verify(&uploaded);
    assert_eq!(status, Some(0), "{told}");
    assert!(answer["files"].as_array().unwrap().iter().any(|file| file["path"] == zip.as_str()));

    // The zip is whole, but release.json says of its inside something else.
    for (key, value) in
        [("sha256", json!("0".repeat(64))), ("bytes", json!(1)), ("path", json!("a/b"))]
    {
        let target = copy();
        edit(&target, &zip, |file| file["contents"][0][key] = value.clone());
        let found = findings(&target, |_| {});
        assert_eq!(found, one(&zip, "zip"), "{key}");
    }
    // Another zip with a right sum: a name that leaves the folder.
    let target = copy();
    let mut made = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    made.start_file("../evil", zip::write::SimpleFileOptions::default()).unwrap();
    let bytes = made.finish().unwrap().into_inner();
    fs::write(target.join(&zip), &bytes).unwrap();
    edit(&target, &zip, |file| {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(&bytes);
        let sum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        file["bytes"] = json!(bytes.len());
        file["sha256"] = json!(sum);
    });
    assert_eq!(findings(&target, |_| {}), one(&zip, "zip"));
    assert!(!folder.path().join("evil").exists());
}

/// Changes what release.json says of a file.
fn edit(target: &Path, path: &str, change: impl FnOnce(&mut Value)) {
    let mut release = release(target);
    let files = release["files"].as_array_mut().unwrap();
    change(files.iter_mut().find(|file| file["path"] == path).unwrap());
    fs::write(target.join("release.json"), release.to_string()).unwrap();
}

#[test]
fn a_release_json_that_is_none_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path();
    let file = |path: &str| json!({ "path": path, "bytes": 0, "sha256": "" });
    let of = |files: Value| {
        json!({
            "schema": 1, "anemll": "", "name": "", "forms": [], "models": [], "recipe": {},
            "files": files,
        })
    };
    let mut cases: Vec<(String, &str)> = vec![
        (of(json!([file("a"), file("a")])).to_string(), "twice"),
        (of(json!([file("release.json")])).to_string(), "twice"),
        ("{".to_owned(), "no JSON"),
        ("{}".to_owned(), "not a release.json"),
        (json!({ "schema": 2 }).to_string(), "schema"),
        (json!({ "schema": 1 }).to_string(), "not as it should be"),
    ];
    for path in ["../a", "/a", "a/../b", "a//b", ".", "", "a\\b", "c:/x"] {
        cases.push((of(json!([file(path)])).to_string(), "leaves the folder"));
    }
    for (text, reason) in cases {
        fs::write(target.join("release.json"), &text).unwrap();
        let (status, _, told) = verify(target);
        assert_eq!(status, Some(1), "{text}");
        assert!(told.starts_with("error[A0833]") && told.contains(reason), "{text}: {told}");
    }
    fs::remove_file(target.join("release.json")).unwrap();
    let (_, _, told) = verify(target);
    assert!(told.contains("anemll export"), "{told}");
}

#[test]
fn the_card_says_what_is_known_and_nothing_in_it_is_markup() {
    let folder = tempfile::tempdir().unwrap();
    // A model in the cache, with a card of its own.
    let source = folder.path().join("models--maker--Tiny-1/snapshots/0123");
    fs::create_dir_all(&source).unwrap();
    for (path, bytes) in files(&model("tiny-llama")) {
        if path.components().count() == 1 {
            fs::write(source.join(path), bytes).unwrap();
        }
    }
    let card = "---\nlanguage: [en, de]\nlicense: other\nlicense_name: \"tiny: #1\\n- x\"\n\
                license_link: https://example.org/terms\n---\n# Tiny\n";
    fs::write(source.join("README.md"), card).unwrap();
    let out = folder.path().join("out");
    convert(
        &source,
        &out,
        &["--combiner", "monolithic", "--context", "256", "--compiler", "mlmodelc"],
    );
    let target = folder.path().join("release");
    exported(&out, &target, &[]);
    let (front, body) = card_of(&target.join("ios"));
    assert_eq!(front["base_model"], "maker/Tiny-1");
    assert_eq!(front["license"], "other");
    assert_eq!(front["license_name"], "tiny: #1\n- x");
    assert_eq!(front["language"], json!(["en", "de"]));
    assert!(front["tags"].as_array().unwrap().contains(&json!("coreml")), "{front}");
    assert_eq!(front["library_name"], "coreml");
    assert!(body.contains("| context | 256 tokens |"), "{body}");
    assert!(body.contains("| weights | 16-bit floats |"), "{body}");
    assert!(!body.contains("## Quality"), "nothing was measured: {body}");
    // Figures of the report, and a name that would be markup.
    let mut report: Value =
        serde_json::from_slice(&fs::read(out.join("anemll-report.json")).unwrap()).unwrap();
    report["quality"] = json!({ "kl_mean": 0.01234, "top1_agreement": 0.975, "tokens": 4096 });
    fs::write(out.join("anemll-report.json"), report.to_string()).unwrap();
    let meta = fs::read_to_string(out.join("meta.yaml")).unwrap();
    let hostile = "name: \"<b>x</b> | y\\n---\\nlicense: mit\"";
    let named = meta.lines().find(|line| line.trim().starts_with("name: ")).unwrap().trim();
    fs::write(out.join("meta.yaml"), meta.replace(named, hostile)).unwrap();
    exported(&out, &target, &["--force", "--license", "MIT"]);
    let (front, body) = card_of(&target.join("ios"));
    assert_eq!((&front["license"], front.get("license_name")), (&json!("mit"), None));
    assert!(body.contains("| mean KL divergence from the original | 0.0123 nats |"), "{body}");
    assert!(body.contains("| same most likely token | 97.5 % |"), "{body}");
    assert!(!body.contains("<b>") && !body.contains("\n---\nlicense"), "{body}");
}

/// Front matter and text of a card.
fn card_of(folder: &Path) -> (Value, String) {
    let text = fs::read_to_string(folder.join("README.md")).unwrap();
    let (front, body) = text.strip_prefix("---\n").unwrap().split_once("\n---\n").unwrap();
    (serde_yaml_ng::from_str(front).unwrap(), body.to_owned())
}

#[test]
fn conversions_of_another_tool_are_exported_too() {
    let folder = tempfile::tempdir().unwrap();
    let out = conversion(folder.path());
    fs::remove_dir_all(out.join(".anemll")).unwrap();
    for name in ["anemll-report.json", "config.json"] {
        fs::remove_file(out.join(name)).unwrap();
    }
    // As a template file of its own, which the apps do not read.
    let mut settings: Value =
        serde_json::from_slice(&fs::read(out.join("tokenizer_config.json")).unwrap()).unwrap();
    let object = settings.as_object_mut().unwrap();
    object.remove("chat_template");
    object.remove("tokenizer_class");
    fs::write(out.join("tokenizer_config.json"), settings.to_string()).unwrap();
    fs::write(out.join("chat_template.jinja"), "{{ messages[0].content }}").unwrap();
    fs::write(
        out.join("meta.yaml"),
        "model_info:\n  name: anemll-Tiny-ctx256\n  version: 0.3.5\n  description: |\n    Demo\n  \
         license: MIT\n  architecture: qwen3\n  parameters:\n    context_length: 256\n    \
         batch_size: 64\n    lut_embeddings: none\n    lut_ffn: 4\n    lut_lmhead: 4\n    \
         num_chunks: 2\n    model_prefix: llama\n    embeddings: llama_embeddings.mlmodelc\n    \
         lm_head: llama_lm_head_lut4.mlmodelc\n    ffn: llama_FFN_PF_lut4_chunk_01of02.mlmodelc\n\n\
         # model_path: /Users/me/Models/Tiny\n# anemll_version: \"0.3.5\"\n",
    )
    .unwrap();
    let target = folder.path().join("release");
    exported(&out, &target, &["--model", "maker/Tiny"]);
    let ios = target.join("ios");
    for name in MODELS {
        assert!(ios.join(format!("{name}.mlmodelc/model.mil")).is_file(), "{name}");
    }
    let read = |name: &str| -> Value {
        serde_json::from_slice(&fs::read(ios.join(name)).unwrap()).unwrap()
    };
    assert_eq!(
        read("config.json"),
        json!({ "tokenizer_class": "Qwen2Tokenizer", "model_type": "qwen3" })
    );
    assert_eq!(read("tokenizer_config.json")["chat_template"], "{{ messages[0].content }}");
    assert_eq!(read("release.json")["recipe"]["tool"], "ANEMLL 0.3.5");
    let meta = fs::read_to_string(ios.join("meta.yaml")).unwrap();
    assert!(meta.contains("# model_path: Tiny\n"), "{meta}");
    let (front, body) = card_of(&ios);
    assert_eq!(front["base_model"], "maker/Tiny");
    assert!(body.contains("embeddings 16-bit floats, layers 4 bits, head 4 bits"), "{body}");
    assert_eq!(verify(&target).0, Some(0));
}

#[test]
fn an_export_is_compared_with_its_original() {
    let folder = tempfile::tempdir().unwrap();
    let out = conversion(folder.path());
    let target = folder.path().join("release");
    exported(&out, &target, &["--zip"]);
    let compare = |source: &str, flags: &[&str]| {
        let mut command = anemll();
        command.arg("verify").arg(&target).arg("--source").arg(model(source));
        command.args(["--json", "--max-tokens", "40"]).args(flags);
        let output = run(&mut command);
        let value: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), value["source"].clone(), text(&output.stderr))
    };
    let (status, source, told) = compare("tiny-llama", &[]);
    assert_eq!(status, Some(0), "{told}");
    let kl = source["kl_mean"].as_f64().unwrap();
    assert!(kl > 0.0 && source["tokens"] == 40, "{source}");
    let (status, _, told) = compare("tiny-llama", &["--max-kl", &(kl / 2.0).to_string()]);
    assert_eq!(status, Some(1));
    assert!(told.contains("error[A0835]"), "{told}");
    // Another model is further away than the bits are.
    let (status, other, told) = compare("tiny-qwen3", &["--max-kl", &(kl * 1.5).to_string()]);
    assert_eq!(status, Some(1), "{other} {told}");
    // Without logits, winners are counted.
    let winners = folder.path().join("winners");
    let flags = ["--context", "256", "--compiler", "mlmodelc", "--argmax"];
    convert(&model("tiny-llama"), &winners, &flags);
    let target = folder.path().join("winners-release");
    exported(&winners, &target, &[]);
    for (source, expected) in [("tiny-llama", 0), ("tiny-qwen3", 1)] {
        let mut command = anemll();
        command.arg("verify").arg(&target).arg("--source").arg(model(source));
        let output = run(command.args(["--max-tokens", "40"]));
        assert_eq!(output.status.code(), Some(expected), "{source}: {}", text(&output.stderr));
    }
    // A whole conversion without loss is as near as the arithmetic allows.
    let exact = folder.path().join("exact");
    convert(&model("tiny-llama"), &exact, &["--context", "256", "--compiler", "mlmodelc"]);
    let target = folder.path().join("exact-release");
    exported(&exact, &target, &[]);
    let mut command = anemll();
    command.arg("verify").arg(&target).arg("--source").arg(model("tiny-llama"));
    let told = succeed(command.args(["--max-tokens", "40", "--max-kl", "0.0001"]));
    assert!(text(&told.stdout).contains("top-1 agreement  100.0 %"), "{}", text(&told.stdout));
}
