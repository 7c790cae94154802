//! The options of components, as they are typed.

use anemll_plugin_api::Value;
use anemll_plugin_api::data::{ComponentManifest, OptionSpec, OptionType, Stage};
use anemll_plugin_store::Found;
use anemll_terminal::{Column, Table};

/// The options of all components that are used and take any.
pub fn options_text(found: &Found, stage: Option<Stage>, width: Option<usize>) -> String {
    let mut text = String::new();
    for of in Stage::ALL.into_iter().filter(|of| stage.is_none_or(|stage| stage == *of)) {
        for (_, component) in found.components(of) {
            if component.options.is_empty() {
                continue;
            }
            let mut table = Table::new(&[Column::Left, Column::Left, Column::Text]);
            option_rows(component, &mut table);
            let head = format!("\n{} {}:\n", of.name(), component.id);
            text += &(head + &table.render(width));
        }
    }
    text
}

/// A row for each option: how it is typed, what it can be, what it does.
pub fn option_rows(component: &ComponentManifest, table: &mut Table) {
    for (name, option) in &component.options {
        let path = match component.stage {
            Stage::Quantizer => name.clone(),
            _ => format!("{}.{name}", component.id),
        };
        table.row([format!("-O {path}="), values(option), option.help.clone()]);
    }
}

/// What an option can be.
fn values(option: &OptionSpec) -> String {
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let kind = match (&option.values, option.kind) {
        (Some(values), _) => values.iter().map(plain).collect::<Vec<_>>().join("|"),
        (None, OptionType::Integer) => "whole number".to_owned(),
        (None, OptionType::Number) => "number".to_owned(),
        (None, OptionType::Boolean) => "true|false".to_owned(),
        (None, OptionType::String) => "text".to_owned(),
        (None, _) => "value".to_owned(),
    };
    match &option.default {
        Some(default) => format!("{kind} (default {})", plain(default)),
        None => kind,
    }
}
