//! Records that somebody wrote to have files removed that no conversion made.

use super::*;

const FORCED: [bool; 2] = [false, true];

#[test]
fn force_removes_nothing_that_is_not_as_its_record_says() {
    for names in [r#"["mine.json"]"#, r#"["mine.mlpackage"]"#] {
        let folder = tempfile::tempdir().unwrap();
        let (old, new) = (identity(512), identity(1024));
        convert(system(), &request(folder.path(), &old), OLD).unwrap();
        edit(folder.path(), "\"steps\":", &format!("\"replaced\": {names}, \"steps\":"));
        fs::write(folder.path().join("mine.json"), "mine").unwrap();
        fs::create_dir(folder.path().join("mine.mlpackage")).unwrap();
        fs::write(folder.path().join("mine.mlpackage/x"), "mine").unwrap();
        let asked = Request { force: true, ..request(folder.path(), &new) };
        let warnings = convert(system(), &asked, NEW).unwrap();
        assert!(warnings.iter().any(|text| text.contains("left alone")), "{names}: {warnings:?}");
        assert_eq!(fs::read_to_string(folder.path().join("mine.json")).unwrap(), "mine");
        assert!(folder.path().join("mine.mlpackage/x").exists());
    }
}

#[test]
fn a_record_of_a_later_version_is_not_understood() {
    let folder = tempfile::tempdir().unwrap();
    convert(system(), &request(folder.path(), &identity(512)), OLD).unwrap();
    edit(folder.path(), "\"schema\": 1", "\"schema\": 2");
    let before = files(folder.path());
    for context in [512, 1024] {
        let identity = identity(context);
        let asked = request(folder.path(), &identity);
        let model = Path::new("model");
        let options = json!({ "context": context });
        let refusals = [
            refused(&asked),
            View::look(&asked).unwrap_err(),
            refuse_conflict(folder.path(), &options, false, model).unwrap_err(),
        ];
        for error in refusals {
            assert_eq!(error.code, codes::OUTPUT_RECORD_INVALID);
            assert!(error.message.contains("later version"), "{error}");
        }
    }
    assert_eq!(files(folder.path()), before);
    let identity = identity(1024);
    let asked = Request { force: true, ..request(folder.path(), &identity) };
    convert(system(), &asked, NEW).unwrap();
    let published = published(folder.path());
    assert!(published.contains_key(Path::new("added_tokens.json")), "what it lists is not ours");
}

#[test]
fn a_forged_journal_moves_nothing_by_force_either() {
    let identity = identity(512);
    for force in FORCED {
        let folder = tempfile::tempdir().unwrap();
        let staging = folder.path().join(".anemll/staging-00");
        fs::create_dir_all(staging.join(".replaced")).unwrap();
        let mine = folder.path().join("mine.json");
        fs::write(&mine, "mine").unwrap();
        let files = json!([{ "path": "", "bytes": 4, "sha256": "00" }]);
        let moves = json!([{ "name": "mine.json", "new": files, "old": false }]);
        let journal =
            json!({ "schema": 1, "staging": "staging-00", "record_sha256": "00", "moves": moves });
        fs::write(folder.path().join(".anemll/journal.json"), journal.to_string()).unwrap();
        let asked = Request { force, ..request(folder.path(), &identity) };
        assert_eq!(convert(system(), &asked, OLD).is_ok(), force);
        assert_eq!(fs::read_to_string(&mine).unwrap(), "mine");
    }
}

#[cfg(unix)]
#[test]
fn templates_are_not_written_through_a_link() {
    const NEW: [&[&str]; 2] = [&["one.json"], &["additional_chat_templates/tools.jinja"]];
    let identity = identity(512);
    for force in FORCED {
        let folder = tempfile::tempdir().unwrap();
        let (output, behind) = (folder.path().join("output"), folder.path().join("behind"));
        fs::create_dir_all(&output).unwrap();
        fs::create_dir(&behind).unwrap();
        fs::write(behind.join("tools.jinja"), "mine").unwrap();
        let link = output.join("additional_chat_templates");
        std::os::unix::fs::symlink(&behind, &link).unwrap();
        let asked = Request { force, ..request(&output, &identity) };
        assert_eq!(convert(system(), &asked, NEW).unwrap_err().code, codes::OUTPUT_LINK);
        assert_eq!(fs::read_to_string(behind.join("tools.jinja")).unwrap(), "mine");
        fs::remove_file(&link).unwrap();
        convert(system(), &asked, NEW).unwrap();
        assert!(link.join("tools.jinja").is_file());
    }
}
