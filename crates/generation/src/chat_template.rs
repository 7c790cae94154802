//! The chat template beside a conversion: where it is found.

use anemll_codes as codes;
use anemll_files::Limit;
use anemll_plugin_api::{Error, Result};
use anemll_tokenizer::Tokenizer;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

pub use anemll_chat_template::{ChatTemplate, Message, check};

/// The file that newer models keep their template in.
const FILE: &str = "chat_template.jinja";

/// The folder with the templates that such models have beside it, for tools for example.
pub const FOLDER: &str = "additional_chat_templates";

/// The name of the template for plain conversations.
const DEFAULT: &str = "default";

/// Tokens that templates know by name.
const NAMED_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/// Compiles the template beside a conversion, if it has one; see [`find`].
///
/// # Errors
/// There is a template, and it cannot be read or does not compile.
pub fn open(tokenizer: &Tokenizer) -> Result<Option<ChatTemplate>> {
    let Some((source, at)) = find(tokenizer.directory(), tokenizer.settings())? else {
        return Ok(None);
    };
    let tokens: BTreeMap<String, String> = NAMED_TOKENS
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), tokenizer.named_token(name)?.to_owned())))
        .collect();
    ChatTemplate::new(&source, tokens, &at).map(Some)
}

/// The source of the template of a model in `directory`, and the file that has it: as in
/// transformers the template `default` in the folder additional_chat_templates, else
/// chat_template.jinja, else `chat_template` in `settings`, which are those of
/// tokenizer_config.json: a text, or a list of {name, template} with one named `default`.
///
/// # Errors
/// There are templates, and none can be read or is named `default`.
pub fn find(directory: &Path, settings: &serde_json::Value) -> Result<Option<(String, PathBuf)>> {
    let folder = directory.join(FOLDER);
    for path in [folder.join(format!("{DEFAULT}.jinja")), directory.join(FILE)] {
        match anemll_files::read(&path, Limit::TEMPLATE) {
            Ok(bytes) => {
                return match String::from_utf8(bytes) {
                    Ok(text) => Ok(Some((text, path))),
                    Err(_) => {
                        let reason =
                            "it is not text in UTF-8, so the file is damaged; fetch it again";
                        Err(invalid(&path, reason.to_owned()))
                    }
                };
            }
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(invalid(&path, format!("it cannot be read: {source}"))),
        }
    }
    let path = directory.join("tokenizer_config.json");
    match settings.get("chat_template") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some((text.clone(), path))),
        Some(serde_json::Value::Array(list)) => {
            let default = list
                .iter()
                .find(|entry| entry.get("name").is_some_and(|name| name == DEFAULT))
                .and_then(|entry| entry.get("template")?.as_str());
            match default {
                Some(text) => Ok(Some((text.to_owned(), path))),
                None => Err(invalid(&path, format!("its list has no template named `{DEFAULT}`"))),
            }
        }
        Some(_) => Err(invalid(&path, "`chat_template` is neither a text nor a list".to_owned())),
    }
}

fn invalid(path: &Path, reason: String) -> Error {
    Error::new(codes::TEMPLATE_INVALID, format!("the chat template cannot be used: {reason}"))
        .with_at(path.display().to_string())
        .with_hint("--no-template does without a chat template")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn templates_are_found_in_the_order_of_transformers() {
        let folder = tempfile::tempdir().unwrap();
        let found = |settings: serde_json::Value| {
            let found = find(folder.path(), &settings).unwrap();
            found.map(|(source, path)| (source, path.file_name().unwrap().to_owned()))
        };
        assert_eq!(found(json!({})), None);
        assert_eq!(found(json!({ "chat_template": null })), None);
        let settings = json!({ "chat_template": [
            { "name": "tool_use", "template": "tools" },
            { "name": "default", "template": "listed" },
        ] });
        let file = |source: &str, name: &str| Some((source.to_owned(), name.into()));
        assert_eq!(found(settings.clone()), file("listed", "tokenizer_config.json"));
        std::fs::create_dir(folder.path().join(FOLDER)).unwrap();
        std::fs::write(folder.path().join(FOLDER).join("tool_use.jinja"), "x").unwrap();
        assert_eq!(found(settings.clone()), file("listed", "tokenizer_config.json"));
        std::fs::write(folder.path().join(FILE), "own").unwrap();
        assert_eq!(found(settings.clone()), file("own", FILE));
        std::fs::write(folder.path().join(FOLDER).join("default.jinja"), "additional").unwrap();
        assert_eq!(found(settings), file("additional", "default.jinja"));
    }

    #[test]
    fn what_is_no_template_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        for settings in [json!({ "chat_template": 7 }), json!({ "chat_template": [] })] {
            let error = find(folder.path(), &settings).unwrap_err();
            assert_eq!(error.code, codes::TEMPLATE_INVALID);
        }
        let long = "x".repeat(2_000_000);
        std::fs::write(folder.path().join(FILE), long).unwrap();
        let error = find(folder.path(), &json!({})).unwrap_err();
        assert!(error.message.contains("too large"), "{error}");
    }
}
