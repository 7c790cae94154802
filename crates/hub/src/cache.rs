//! The cache of Hugging Face's tools: `models--organization--name` with `refs` (revision to
//! commit), `snapshots` (a folder for each commit) and `blobs`.

use crate::name::{MAIN, Name, is_commit};
use crate::{ErrorKind, HubError, Need, Result};
use anemll_files::Limit;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const WEIGHTS: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// What a tokenizer has beside tokenizer.json, with few exceptions.
pub(crate) const SETTINGS: &str = "tokenizer_config.json";
/// Lists what follows a model that gives the vectors of texts, as sentence-transformers has it.
pub(crate) const MODULES: &str = "modules.json";
/// Texts before texts, and how texts are cut, of a model with [`MODULES`].
#[cfg(feature = "download")]
pub(crate) const TEXTS: [&str; 2] =
    ["config_sentence_transformers.json", "sentence_bert_config.json"];
/// What is in every repository, and brought by tools that bring all of one.
const ATTRIBUTES: &str = ".gitattributes";
/// More modules than any model has.
const MOST_MODULES: usize = 32;
/// The folder in which Hugging Face's tools note, by commit, files that a model does not have.
pub(crate) const ABSENT: &str = ".no_exist";

/// A ref is a commit and a line end.
const REF: Limit = Limit::new("a ref", 4096);

/// What the cache has of a model.
#[derive(Debug, Default)]
pub struct Found {
    /// The snapshot, when it has all that is needed.
    pub complete: Option<PathBuf>,
    /// Else what it lacks, when there is one.
    pub lack: Option<String>,
    /// A file that a snapshot with all that is needed may still lack, as when somebody downloaded
    /// tokenizer.json without its settings: the hub knows.
    pub doubtful: Option<&'static str>,
}

/// Looks a name up.
pub fn find(cache: &Path, name: &Name, need: Need) -> Found {
    let folder = cache.join(name.folder());
    let Some(snapshot) = snapshot(&folder, name.revision()) else { return Found::default() };
    match lacking(&snapshot, need) {
        None => {
            let doubtful = doubtful(&snapshot, need);
            Found { complete: Some(snapshot), lack: None, doubtful }
        }
        Some(lack) => {
            let lack = format!("the snapshot {} lacks {lack}", snapshot.display());
            Found { complete: None, lack: Some(lack), doubtful: None }
        }
    }
}

/// The folder of a revision, which is a ref or a commit.
fn snapshot(folder: &Path, revision: &str) -> Option<PathBuf> {
    let snapshots = folder.join("snapshots");
    let commit = match anemll_files::read_text(&folder.join("refs").join(revision), REF) {
        Ok(commit) => commit.trim().to_owned(),
        Err(_) => revision.to_owned(),
    };
    let plain = !commit.is_empty() && commit.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(snapshots.join(commit)).filter(|path| plain && path.is_dir())
}

/// A directory that was named: the model itself, or a cache's folder of it.
///
/// # Errors
/// [`ErrorKind::Folder`] for a folder of a cache that has no snapshot, or several.
pub fn within(directory: &Path, need: Need) -> Result<PathBuf> {
    let snapshots = directory.join("snapshots");
    if directory.join("config.json").exists() || !snapshots.is_dir() {
        return Ok(directory.to_owned());
    }
    if let Some(main) = snapshot(directory, MAIN) {
        return Ok(main);
    }
    // Without a ref, as when only a commit was asked for: the one snapshot that can be used.
    let mut usable: Vec<PathBuf> = std::fs::read_dir(&snapshots)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_dir() && lacking(path, need).is_none())
        .collect();
    match (usable.pop(), usable.is_empty()) {
        (Some(only), true) => Ok(only),
        (None, _) => Err(HubError::new(
            ErrorKind::Folder,
            "the folder of a cache has no snapshot that can be used",
        )
        .with_at(snapshots.display().to_string())
        .with_hint("download the model again: give its name, such as Qwen/Qwen3-0.6B")),
        (Some(_), false) => Err(HubError::new(
            ErrorKind::Folder,
            "the folder of a cache has several snapshots, and no `refs/main` that says which",
        )
        .with_at(snapshots.display().to_string())
        .with_hint("give the path of one of them")),
    }
}

/// The commit of a snapshot's folder in a cache; none for other directories.
pub fn commit_of(directory: &Path) -> Option<&str> {
    let commit = directory.file_name()?.to_str()?;
    let inside = directory.parent().is_some_and(|parent| parent.ends_with("snapshots"));
    (inside && is_commit(commit)).then_some(commit)
}

/// The first file that a snapshot lacks.
pub(crate) fn lacking(snapshot: &Path, need: Need) -> Option<String> {
    // Through symbolic links: one to a blob that was deleted is no file.
    let has = |name: &str| snapshot.join(name).is_file();
    if !has(CONFIG) {
        return Some(CONFIG.to_owned());
    }
    let of_modules = module_files(snapshot, need);
    if let Some(file) = of_modules.into_iter().find(|name| !has(name) && !is_absent(snapshot, name))
    {
        return Some(file);
    }
    if need == Need::Config {
        return None;
    }
    if matches!(need, Need::Weights | Need::WeightsAlone) && !has(WEIGHTS) {
        match anemll_files::read_text(&snapshot.join(INDEX), Limit::INDEX) {
            Ok(index) => match shards(&index) {
                Some(shards) => {
                    if let Some(shard) = shards.into_iter().find(|shard| !has(shard)) {
                        return Some(shard);
                    }
                }
                None => return Some(format!("a readable {INDEX}")),
            },
            Err(_) if only_weights(snapshot) => {}
            Err(_) => return Some("weights".to_owned()),
        }
    }
    if need == Need::WeightsAlone {
        return None;
    }
    let tokenizer = ["tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model"];
    (!tokenizer.into_iter().any(has)).then(|| "a tokenizer".to_owned())
}

/// A file that a snapshot may lack, which only the hub can tell: nothing says that the model has no
/// such file.
fn doubtful(snapshot: &Path, need: Need) -> Option<&'static str> {
    let unknown = |name: &str| !snapshot.join(name).is_file() && !is_absent(snapshot, name);
    let asked = matches!(need, Need::Tokenizer | Need::Weights);
    if asked && unknown(SETTINGS) {
        return Some(SETTINGS);
    }
    (unknown(MODULES) && !snapshot.join(ATTRIBUTES).is_file()).then_some(MODULES)
}

/// Whether it is known that a model has no file of this name.
pub(crate) fn is_absent(snapshot: &Path, name: &str) -> bool {
    let (commit, folder) = (snapshot.file_name(), snapshot.ancestors().nth(2));
    let note = folder.zip(commit).map(|(folder, commit)| folder.join(ABSENT).join(commit));
    note.is_some_and(|note| note.join(name).is_file())
}

/// The files of the modules that the modules.json of a snapshot names: configurations, and values if
/// weights are needed. What is no name of a folder in the snapshot is left out: whoever reads
/// modules.json refuses it.
pub(crate) fn module_files(snapshot: &Path, need: Need) -> BTreeSet<String> {
    let text = anemll_files::read_text(&snapshot.join(MODULES), Limit::CONFIG);
    let modules: Value =
        text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let with_weights = matches!(need, Need::Weights | Need::WeightsAlone);
    let mut files = BTreeSet::new();
    for module in modules.as_array().into_iter().flatten().take(MOST_MODULES) {
        let text = |key: &str| module.get(key).and_then(Value::as_str).unwrap_or_default();
        let (folder, kind) = (text("path"), text("type").rsplit('.').next().unwrap_or_default());
        // Of what normalizes there is nothing but the name.
        if !is_plain(folder) || kind == "Normalize" {
            continue;
        }
        files.insert(format!("{folder}/{CONFIG}"));
        if with_weights && kind == "Dense" {
            files.insert(format!("{folder}/{WEIGHTS}"));
        }
    }
    files
}

/// Whether there is one `.safetensors` file, of whatever name.
fn only_weights(snapshot: &Path) -> bool {
    let files = std::fs::read_dir(snapshot).into_iter().flatten().flatten();
    files.filter(|entry| entry.path().extension().is_some_and(|end| end == "safetensors")).count()
        == 1
}

/// File names of an index; none when it is no index, or a name is no plain one.
pub(crate) fn shards(index: &str) -> Option<BTreeSet<String>> {
    let index: Value = serde_json::from_str(index).ok()?;
    let names: Option<BTreeSet<String>> = index
        .get("weight_map")?
        .as_object()?
        .values()
        .map(|name| name.as_str().map(|name| name.strip_prefix("./").unwrap_or(name)))
        .map(|name| name.filter(|name| is_plain(name)).map(str::to_owned))
        .collect();
    names.filter(|names| !names.is_empty())
}

/// Whether a name is that of a file in a folder, on every system.
pub(crate) fn is_plain(name: &str) -> bool {
    let inside = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !name.is_empty() && name.len() <= 200 && name.bytes().all(inside) && !name.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn write(path: &Path, text: &str) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    #[test]
    fn snapshots_are_found_when_nothing_is_missing() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("models--o--m");
        let snapshot = folder.join("snapshots").join(COMMIT);
        let lack = |need| find(cache.path(), &name("o/m"), need).lack.unwrap_or_default();
        assert!(find(cache.path(), &name("o/m"), Need::Config).lack.is_none());
        write(&folder.join("refs/main"), COMMIT);
        write(&snapshot.join("tokenizer.json"), "{}");
        assert!(lack(Need::Config).ends_with("lacks config.json"));
        write(&snapshot.join("config.json"), "{}");
        assert_eq!(find(cache.path(), &name("o/m"), Need::Config).complete.unwrap(), snapshot);
        assert!(lack(Need::Weights).ends_with("lacks weights"));
        let index = r#"{"weight_map": {"x": "a.safetensors", "y": "b.safetensors"}}"#;
        write(&snapshot.join(INDEX), index);
        write(&snapshot.join("a.safetensors"), "");
        assert!(lack(Need::Weights).ends_with("lacks b.safetensors"));
        write(&snapshot.join("b.safetensors"), "");
        for text in ["o/m", &format!("o/m@{COMMIT}")] {
            let found = find(cache.path(), &name(text), Need::Weights).complete;
            assert_eq!(found.unwrap(), snapshot, "{text}");
        }
        assert!(find(cache.path(), &name("o/m@other"), Need::Config).complete.is_none());
        let doubtful = |need| find(cache.path(), &name("o/m"), need).doubtful;
        for (need, file) in [
            (Need::Weights, SETTINGS),
            (Need::Tokenizer, SETTINGS),
            (Need::WeightsAlone, MODULES),
            (Need::Config, MODULES),
        ] {
            assert_eq!(doubtful(need), Some(file), "{need:?}");
        }
        write(&folder.join(ABSENT).join(COMMIT).join(SETTINGS), "");
        assert_eq!(doubtful(Need::Weights), Some(MODULES));
        write(&folder.join(ABSENT).join(COMMIT).join(MODULES), "");
        assert_eq!(doubtful(Need::Weights), None, "it is known that there is none");
        std::fs::remove_file(snapshot.join("tokenizer.json")).unwrap();
        assert!(lack(Need::Weights).ends_with("lacks a tokenizer"));
        assert!(lack(Need::WeightsAlone).is_empty());
        assert_eq!(within(&folder, Need::Weights).unwrap(), snapshot);
        assert_eq!(within(&snapshot, Need::Weights).unwrap(), snapshot);
        assert_eq!(commit_of(&snapshot), Some(COMMIT));
        assert_eq!(commit_of(&folder), None);
    }

    #[test]
    fn what_modules_name_is_needed_too() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("models--o--m");
        let snapshot = folder.join("snapshots").join(COMMIT);
        write(&folder.join("refs/main"), COMMIT);
        for name in ["config.json", WEIGHTS, "tokenizer.json", SETTINGS, ATTRIBUTES] {
            write(&snapshot.join(name), "{}");
        }
        let found = |need| find(cache.path(), &name("o/m"), need);
        let lack = |need| found(need).lack.unwrap_or_default();
        // Where all of a repository was brought, a file that is not there is none of the model's.
        assert!(found(Need::Weights).complete.is_some() && found(Need::Weights).doubtful.is_none());
        let module =
            |kind: &str, path: &str| json!({"type": format!("x.models.{kind}"), "path": path});
        let modules = json!([
            module("Transformer", ""),
            module("Pooling", "1_P"),
            module("Dense", "2_D"),
            module("Normalize", "3_N"),
            module("Dense", "../x"),
            module("Dense", "a/b"),
            module("Dense", ".git"),
            {"type": 1, "path": 1},
            2
        ]);
        write(&snapshot.join(MODULES), &modules.to_string());
        assert!(lack(Need::Config).ends_with("lacks 1_P/config.json"));
        write(&snapshot.join("1_P/config.json"), "{}");
        assert!(lack(Need::Config).ends_with("lacks 2_D/config.json"));
        write(&snapshot.join("2_D/config.json"), "{}");
        assert!(found(Need::Config).complete.is_some());
        assert!(lack(Need::WeightsAlone).ends_with("lacks 2_D/model.safetensors"));
        write(&folder.join(ABSENT).join(COMMIT).join("2_D/model.safetensors"), "");
        assert!(found(Need::Weights).complete.is_some(), "it is known that there is none");
        for text in ["", "{", "{}", "[", "1"] {
            write(&snapshot.join(MODULES), text);
            assert!(found(Need::Weights).complete.is_some(), "{text}: not for the cache to judge");
        }
    }

    #[test]
    fn a_folder_without_refs_has_to_be_unambiguous() {
        let cache = tempfile::tempdir().unwrap();
        let folder = cache.path().join("models--o--m");
        std::fs::create_dir_all(folder.join("snapshots")).unwrap();
        assert!(within(&folder, Need::Config).is_err());
        write(&folder.join("snapshots/aa/config.json"), "{}");
        assert!(within(&folder, Need::Config).unwrap().ends_with("aa"));
        write(&folder.join("snapshots/bb/config.json"), "{}");
        let error = within(&folder, Need::Config).unwrap_err();
        assert!(error.message().contains("several"), "{error}");
        // A ref that leads out of the cache is none.
        write(&folder.join("refs/main"), "../../..");
        assert!(within(&folder, Need::Config).is_err());
    }

    #[test]
    fn indexes_name_plain_files() {
        assert!(shards(r#"{"weight_map": {"x": "../a.safetensors"}}"#).is_none());
        assert!(shards(r#"{"weight_map": {"x": 1}}"#).is_none());
        assert!(shards(r#"{"weight_map": {}}"#).is_none());
        assert!(shards("{").is_none());
        let dotted = shards(r#"{"weight_map": {"x": "./a.safetensors"}}"#).unwrap();
        assert_eq!(dotted.into_iter().collect::<Vec<_>>(), ["a.safetensors"]);
    }
}
