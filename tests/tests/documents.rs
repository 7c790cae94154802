//! Generated documents are up to date: `ANEMLL_UPDATE_DOCS=1 cargo xtask test documents`
//! writes them anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_plugin_api::Value;
use anemll_plugin_api::data::Manifest;
use anemll_tests::measures::{Cell, check_row};
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

/// What the manifests of the shipped plugins say of their options.
fn options_page() -> String {
    let mut page = "# Options of the plugins\n\n\
        `anemll convert -O NAME=VALUE` gives the quantizer an option, `-O ID.NAME=VALUE` any plugin of the\n\
        conversion. `anemll plugin list --options` lists those of installed plugins. This page is made from\n\
        the manifests in `plugins`.\n"
        .to_owned();
    let plugins = workspace().join("plugins");
    let mut manifests = Vec::new();
    for stage in std::fs::read_dir(plugins).unwrap() {
        for plugin in std::fs::read_dir(stage.unwrap().path()).unwrap() {
            let path = plugin.unwrap().path().join("anemll-plugin.json");
            let Ok(text) = std::fs::read_to_string(path) else { continue };
            manifests.push(Manifest::parse(&text).unwrap());
        }
    }
    let mut components: Vec<_> =
        manifests.into_iter().flat_map(|manifest| manifest.components).collect();
    components.sort_by_key(|component| (component.stage, component.id.clone()));
    for component in components.iter().filter(|component| !component.options.is_empty()) {
        page += &format!("\n## {} `{}`\n\n", component.stage.name(), component.id);
        page += &format!(
            "{}.\n\n| option | values | default | |\n|---|---|---|---|\n",
            component.summary
        );
        for (name, option) in &component.options {
            let code = |value: &Value| match value {
                Value::String(text) => format!("`{text}`"),
                other => format!("`{other}`"),
            };
            let values = match &option.values {
                Some(values) => values.iter().map(code).collect::<Vec<_>>().join(", "),
                None => serde_json::to_value(option.kind).unwrap().as_str().unwrap().to_owned(),
            };
            let default = option.default.as_ref().map(code).unwrap_or_default();
            let help = option.help.replace('|', "\\|");
            page += &format!("| `{name}` | {values} | {default} | {help} |\n");
        }
    }
    page
}

#[test]
fn options_of_plugins() {
    check("docs/reference/options.md", &options_page());
}

/// Lines of the file that says what a family's configuration means.
#[test]
fn lines_of_families() {
    let folder = workspace().join("plugins/arch");
    for plugin in std::fs::read_dir(folder).unwrap() {
        let plugin = plugin.unwrap().path();
        let name = plugin.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(plugin.join("src/config.rs")).unwrap();
        let manifest = std::fs::read_to_string(plugin.join("anemll-plugin.json")).unwrap();
        let manifest = Manifest::parse(&manifest).unwrap();
        let types: Vec<String> =
            manifest.components[0].model_types.iter().map(|kind| format!("`{kind}`")).collect();
        let cells = [Cell::Text(types.join(", ")), Cell::Lines(text.lines().count())];
        check_row("## Families", &format!("`{name}`"), &cells);
    }
}

#[test]
fn every_option_of_convert_and_calibrate_is_in_their_guides() {
    let program = anemll_host::cli::command();
    for name in ["convert", "calibrate"] {
        let page = format!("docs/guide/{name}.md");
        let guide = std::fs::read_to_string(workspace().join(&page)).unwrap();
        for argument in program.find_subcommand(name).unwrap().get_arguments() {
            let Some(option) = argument.get_long() else { continue };
            assert!(guide.contains(&format!("`--{option}`")), "{page} lacks --{option}");
        }
    }
}
