//! Generated documents are up to date: `ANEMLL_UPDATE_DOCS=1 cargo xtask test --test documents`
//! writes them anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::workspace;

fn check(path: &str, expected: &str) {
    let path = workspace().join(path);
    if std::env::var_os("ANEMLL_UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(found == expected, "{} is out of date; see this test's head", path.display());
}

#[test]
fn error_codes() {
    check("docs/reference/errors.md", &anemll_host::commands::explain::errors_page());
}

#[test]
fn lint_rules() {
    check("docs/reference/lint.md", &anemll_host::commands::explain::lint_page());
}

#[test]
fn every_option_of_convert_is_in_the_guide() {
    let guide = std::fs::read_to_string(workspace().join("docs/guide/convert.md")).unwrap();
    let command = anemll_host::cli::command();
    let convert = command.find_subcommand("convert").unwrap();
    for argument in convert.get_arguments() {
        let Some(name) = argument.get_long() else { continue };
        assert!(guide.contains(&format!("--{name}")), "docs/guide/convert.md lacks --{name}");
    }
}
