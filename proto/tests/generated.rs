//! What is generated from the schema is what the schema gives today.
//!
//! `ANEMLL_UPDATE_GENERATED=1 cargo nextest run -p coreml-proto` writes it anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::path::Path;

#[test]
fn generated_files_are_those_of_the_schema() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let descriptors = protox::compile(["model.proto"], [root.join("schema")]).unwrap();
    let fields = fields(&descriptors);
    let made = tempfile::tempdir().unwrap();
    let mut config = prost_build::Config::new();
    // Maps in key order make the bytes that we write a function of their content alone.
    config.btree_map(["."]).out_dir(made.path());
    config.compile_fds(descriptors).unwrap();
    std::fs::write(made.path().join("fields.rs"), fields).unwrap();
    let folder = root.join("src/generated");
    for name in ["coreml.rs", "coreml.mil.rs", "fields.rs"] {
        let text = std::fs::read_to_string(made.path().join(name)).unwrap();
        if std::env::var_os("ANEMLL_UPDATE_GENERATED").is_some() {
            std::fs::write(folder.join(name), &text).unwrap();
        }
        let committed = std::fs::read_to_string(folder.join(name)).unwrap();
        assert!(
            committed == text,
            "src/generated/{name} is not that of schema/; set ANEMLL_UPDATE_GENERATED=1 and run again"
        );
    }
}

/// The table of fields, as a Rust expression.
fn fields(descriptors: &protox::prost_reflect::prost_types::FileDescriptorSet) -> String {
    let pool = protox::prost_reflect::DescriptorPool::from_file_descriptor_set(descriptors.clone())
        .unwrap();
    let messages: Vec<_> = pool.all_messages().collect();
    let place = |name: &str| messages.iter().position(|message| message.full_name() == name);
    let mut text = String::from("[\n");
    for message in &messages {
        writeln!(text, "    Message {{ name: {:?}, fields: &[", message.full_name()).unwrap();
        for field in message.fields() {
            let shape = match (field.is_map(), field.is_list()) {
                (true, _) => "Map",
                (_, true) => "List",
                _ => "One",
            };
            let kind = field.kind();
            let inner = kind.as_message().and_then(|inner| place(inner.full_name()));
            let (number, name) = (field.number(), field.name());
            writeln!(text, "        field({number}, {name:?}, Shape::{shape}, {inner:?}),")
                .unwrap();
        }
        text.push_str("    ] },\n");
    }
    text.push_str("]\n");
    text
}
