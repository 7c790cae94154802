//! Bundles made here, whole and damaged, and what is said of them.

use super::{BundleCheck, Form, is_at};
use anemll_aicode::asset::{Metadata, write};
use anemll_aicode::{
    DYNAMIC, ElementType, Function, Port, Program, TensorType, Type, block, needed_version,
};
use anemll_codes as codes;
use serde_json::{Value, json};
use std::path::Path;

const HALF: ElementType = ElementType::Float16;
const WIDTH: i64 = 8;
const VOCABULARY: i64 = 16;

fn kind(element: ElementType, shape: &[i64]) -> TensorType {
    TensorType::new(element, shape)
}

/// A function that gives zeros; states are read alone.
fn function(name: &str, inputs: Vec<Port>, outputs: &[(&str, TensorType)]) -> Function {
    let mut builder = block(inputs.iter().map(|port| port.kind.clone()).collect());
    let (mut ports, mut given) = (Vec::new(), Vec::new());
    for (place, port) in inputs.iter().enumerate() {
        if let (Type::State(_), Some(name)) = (&port.kind, &port.name) {
            let (_, token) = builder.read_state(builder.argument(place));
            ports.push(Port::new(name, Type::Token));
            given.push(token);
        }
    }
    for (name, kind) in outputs {
        ports.push(Port::new(name, kind.clone()));
        let fixed: Vec<i64> = kind.shape.iter().map(|size| (*size).max(1)).collect();
        let known = kind.shaped(&fixed);
        let zeros = builder.constant(&known, &vec![0; known.byte_size().unwrap() as usize]);
        // A constant has a size that is known.
        given.push(match *kind == known {
            true => zeros,
            false => builder.emit_one("primitive.cast_v1", &[zeros], kind.clone()),
        });
    }
    let body = builder.finish_function(&given);
    Function { name: name.to_owned(), inputs, outputs: ports, body, ..Function::default() }
}

fn state(name: &str, shape: &[i64]) -> Port {
    let kind = Type::State(kind(HALF, shape));
    Port { name: Some(name.to_owned()), kind, state: Some(name.to_owned()) }
}

/// Functions for two contexts and two numbers of tokens.
fn static_functions() -> Vec<Function> {
    let table = kind(HALF, &[VOCABULARY, 1, WIDTH]);
    let mut functions =
        vec![function("load_embeddings", Vec::new(), &[("embedding_table", table.clone())])];
    for tokens in [1, 8] {
        let inputs = vec![
            Port::new("in_new_token_ids", kind(ElementType::Int32, &[1, tokens])),
            Port::new("embedding_table", table.clone()),
        ];
        let rows = kind(HALF, &[1, tokens, 1, WIDTH]);
        functions.push(function(&format!("gather_embeddings_{tokens}"), inputs, &[("rows", rows)]));
    }
    for context in [32, 64] {
        for tokens in [1, 8] {
            let inputs = || {
                vec![
                    state("key_cache", &[2, 1, 4, 1, context]),
                    state("value_cache", &[2, 1, 4, 1, context]),
                    Port::new("transformer_input", kind(HALF, &[1, tokens, 1, WIDTH])),
                    Port::new("position_ids", kind(ElementType::UInt16, &[1, tokens])),
                    Port::new("in_step", kind(ElementType::Int32, &[1])),
                    Port::new("causal_mask", kind(HALF, &[1, context, 1, tokens])),
                ]
            };
            let logits = kind(HALF, &[1, 1, tokens, VOCABULARY]);
            let names =
                [format!("extend_{context}_{tokens}"), format!("prompt_opt_{context}_{tokens}")];
            functions.push(function(&names[0], inputs(), &[("out_logits", logits)]));
            functions.push(function(&names[1], inputs(), &[("out_logits", kind(HALF, &[1]))]));
        }
    }
    functions
}

fn dynamic_functions() -> Vec<Function> {
    let ids = |name| Port::new(name, kind(ElementType::Int32, &[1, DYNAMIC]));
    let cache = |name| state(name, &[2, 1, 2, DYNAMIC, 4]);
    let inputs =
        vec![cache("keyCache"), cache("valueCache"), ids("input_ids"), ids("position_ids")];
    vec![function("main", inputs, &[("logits", kind(HALF, &[1, DYNAMIC, VOCABULARY]))])]
}

fn metadata() -> Value {
    json!({
        "metadata_version": "0.2", "kind": "llm", "name": "a model", "assets": {"main": "x.aimodel"},
        "language": {
            "tokenizer": "a model", "vocab_size": VOCABULARY, "max_context_length": 64,
            "states": {"key_cache": "kv_cache", "value_cache": "kv_cache"},
        },
    })
}

fn bundle(folder: &Path, functions: Vec<Function>, metadata: &Value) {
    let program = Program { version: needed_version(&functions), functions, blobs: Vec::new() };
    let said = Metadata { producer: "a test".to_owned(), ..Metadata::default() };
    write(&folder.join("x.aimodel"), &program, &said, true, |_, _| Ok(())).unwrap();
    std::fs::write(folder.join("metadata.json"), metadata.to_string()).unwrap();
    std::fs::create_dir_all(folder.join("tokenizer")).unwrap();
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::write(folder.join("tokenizer").join(name), "{}").unwrap();
    }
}

/// What is said of a bundle, all of it.
fn said(folder: &Path) -> Vec<String> {
    let check = BundleCheck::of(folder);
    let error = check.verdict();
    assert_eq!(error.is_err(), !check.faults.is_empty());
    if let Err(error) = error {
        assert_eq!(error.code, codes::BUNDLE_UNFIT);
    }
    check.faults.into_iter().map(|fault| format!("{}: {}", fault.file, fault.message)).collect()
}

#[test]
fn whole_bundles_of_both_forms_pass() {
    let folder = tempfile::tempdir().unwrap();
    assert!(!is_at(folder.path()));
    for (functions, form) in
        [(static_functions(), Form::Static), (dynamic_functions(), Form::Dynamic)]
    {
        let mut metadata = metadata();
        metadata["language"]["states"] = json!({});
        bundle(folder.path(), functions, &metadata);
        assert_eq!(said(folder.path()), Vec::<String>::new());
        assert_eq!(BundleCheck::of(folder.path()).form, Some(form));
        assert!(is_at(folder.path()));
    }
}

#[test]
fn what_apps_fail_on_in_the_folder_is_named() {
    let cases: [(&str, Value, &str); 14] = [
        ("/metadata_version", json!("0.3"), "apps take \"0.2\""),
        ("/metadata_version", Value::Null, "no `metadata_version`"),
        ("/kind", json!("poem"), "which apps do not know"),
        ("/kind", json!("vlm"), "only language models"),
        ("/name", json!(1), "`name` must be a text"),
        ("/assets", json!([]), "no `assets`"),
        ("/assets/main", json!("../x.aimodel"), "must be the name of a folder"),
        ("/assets/main", json!("y.aimodel"), "y.aimodel: it is not there"),
        ("/language", Value::Null, "no `language`"),
        ("/language/tokenizer", json!(""), "`language.tokenizer` must be a text"),
        ("/language/vocab_size", json!(15), "has `out_logits` as"),
        ("/language/max_context_length", json!(2048), "largest context is 64"),
        (
            "/language/max_context_length",
            json!("64"),
            "`language.max_context_length` must be a number from 1 on",
        ),
        ("/language/states/key_cache", json!("cache"), "which apps do not know"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (place, value, expected) in cases {
        let mut metadata = metadata();
        *metadata.pointer_mut(place).unwrap() = value.clone();
        bundle(folder.path(), static_functions(), &metadata);
        let said = said(folder.path());
        assert!(said.iter().any(|text| text.contains(expected)), "{place} {value}: {said:?}");
    }
    bundle(folder.path(), static_functions(), &metadata());
    let tokenizer = folder.path().join("tokenizer");
    std::fs::write(tokenizer.join("tokenizer_config.json"), "[").unwrap();
    assert!(said(folder.path())[0].contains("tokenizer_config.json: it is not JSON"));
    std::fs::remove_dir_all(&tokenizer).unwrap();
    assert!(said(folder.path())[0].contains("tokenizer/tokenizer.json: it is missing"));
    for text in ["[]", "{", "\u{1b}"] {
        std::fs::write(folder.path().join("metadata.json"), text).unwrap();
        assert_eq!(said(folder.path()).len(), 1);
    }
}

#[test]
fn what_apps_fail_on_in_the_functions_is_named() {
    type Damage = fn(&mut Vec<Function>);
    fn of<'a>(functions: &'a mut [Function], name: &str) -> &'a mut Function {
        functions.iter_mut().find(|function| function.name == name).unwrap()
    }
    fn replace(functions: &mut [Function], name: &str, from: &str, to: Port) {
        let mut inputs = of(functions, name).inputs.clone();
        let place = inputs.iter().position(|port| port.name.as_deref() == Some(from)).unwrap();
        inputs[place] = to;
        let outputs = [("out_logits", kind(HALF, &[1, 1, 1, VOCABULARY]))];
        *of(functions, name) = function(name, inputs, &outputs);
    }
    let cases: [(&str, Damage); 9] = [
        ("no function `prompt_opt_64_8`", |all| all.retain(|one| one.name != "prompt_opt_64_8")),
        ("no function `gather_embeddings_8`", |all| {
            all.retain(|one| one.name != "gather_embeddings_8")
        }),
        ("no function `load_embeddings`", |all| all.retain(|one| one.name != "load_embeddings")),
        ("does not end in a context", |all| of(all, "extend_64_8").name = "extend_64".to_owned()),
        ("apps have ui16 (1, 1)", |all| {
            let port = Port::new("position_ids", kind(ElementType::Int32, &[1, 1]));
            replace(all, "extend_64_1", "position_ids", port);
        }),
        ("takes `other`", |all| {
            replace(
                all,
                "extend_64_1",
                "in_step",
                Port::new("other", kind(ElementType::Int32, &[1])),
            );
        }),
        ("has no input with `step`", |all| {
            replace(
                all,
                "extend_64_1",
                "in_step",
                Port::new("other", kind(ElementType::Int32, &[1])),
            );
        }),
        ("apps would take 128", |all| {
            replace(all, "extend_64_1", "key_cache", state("key_cache", &[2, 1, 128, 1, 64]));
        }),
        ("has the states a, value_cache", |all| {
            replace(all, "extend_64_1", "key_cache", state("a", &[2, 1, 4, 1, 64]));
        }),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (expected, damage) in cases {
        let mut functions = static_functions();
        damage(&mut functions);
        bundle(folder.path(), functions, &metadata());
        let said = said(folder.path());
        assert!(said.iter().any(|text| text.contains(expected)), "{expected}: {said:?}");
    }
    let mut functions = dynamic_functions();
    functions[0].inputs.swap(2, 3);
    functions[0].body.arguments.swap(2, 3);
    bundle(folder.path(), functions, &metadata());
    assert!(said(folder.path())[0].contains("in this order"));
}
