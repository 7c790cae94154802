//! Joining functions: what is kept, and what is refused.

use crate::common::base::{self, Catalog};
use anemll_mil::{
    FunctionSource, combine_functions, combine_sources, extract_function, interface,
    validate_resolved,
};
use coreml_proto::Model;
use std::collections::BTreeMap;

fn combine(functions: &[(&str, Model)], default: &str) -> Result<Model, String> {
    combine_functions(functions, default, "text", &BTreeMap::new()).map_err(|e| e.to_string())
}

#[test]
fn functions_keep_their_order_and_their_interfaces() {
    let (infer, prefill) = (base::resolved(1), base::resolved(base::TOKENS));
    let single = interface(&prefill).unwrap().remove(0);
    let metadata = BTreeMap::from([("com.example.key".to_owned(), "value".to_owned())]);
    let functions = [("prefill", prefill), ("infer", infer)];
    let model = combine_functions(&functions, "infer", "both of them", &metadata).unwrap();
    let description = model.description.as_ref().unwrap();
    assert!(description.input.is_empty() && description.output.is_empty());
    assert!(description.state.is_empty());
    assert_eq!(description.default_function_name, "infer");
    let written = description.metadata.as_ref().unwrap();
    assert_eq!(written.short_description, "both of them");
    assert_eq!(written.user_defined, metadata);
    let interfaces = interface(&model).unwrap();
    assert_eq!(interfaces[0].name, "prefill");
    assert_eq!(interfaces[0].inputs, single.inputs);
    assert_eq!(interfaces[0].states, single.states);
    assert_eq!(interfaces[1].inputs[0].shapes, [[1, 1, 64]]);
    validate_resolved(model, &Catalog).unwrap();
}

#[test]
fn functions_of_models_with_several_are_taken_by_name() {
    let several = base::combined();
    let source = |name, function| FunctionSource { name, model: &several, function };
    let sources = [source("short", Some("infer")), source("prefill", None)];
    let model = combine_sources(&sources, "prefill", "text", &BTreeMap::new()).unwrap();
    let names: Vec<String> = interface(&model).unwrap().into_iter().map(|f| f.name).collect();
    assert_eq!(names, ["short", "prefill"]);
    validate_resolved(model, &Catalog).unwrap();
    let missing = [source("a", Some("decode"))];
    let error = combine_sources(&missing, "a", "", &BTreeMap::new()).unwrap_err().to_string();
    assert!(error.contains("no function `decode`, only `infer`, `prefill`"), "{error}");
}

#[test]
fn an_older_model_gets_the_version_that_knows_functions() {
    let mut newer = base::resolved(1);
    newer.specification_version = 10;
    let functions = [("a", base::resolved(1)), ("b", newer)];
    assert_eq!(combine(&functions, "a").unwrap().specification_version, 10);
    let mut older = base::resolved(1);
    older.specification_version = 8;
    assert_eq!(combine(&[("a", older)], "a").unwrap().specification_version, 9);
}

#[test]
fn a_function_taken_out_is_what_it_was() {
    let mut single = base::resolved(base::TOKENS);
    let out = extract_function(&base::combined(), "prefill").unwrap();
    // The metadata are those of the combined model.
    single.description.as_mut().unwrap().metadata =
        out.description.as_ref().unwrap().metadata.clone();
    assert_eq!(out, single);
    validate_resolved(out, &Catalog).unwrap();
    assert!(extract_function(&single, "prefill").is_err());
}

#[test]
fn what_does_not_fit_is_refused() {
    let model = || base::resolved(1);
    let refused = |functions: &[(&str, Model)], default: &str, expected: &str| {
        let error = combine(functions, default).unwrap_err();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    };
    refused(&[], "infer", "no function");
    refused(&[("infer", model())], "prefill", "`prefill` is not among them");
    refused(&[("infer", model()), ("infer", model())], "infer", "two functions are named");
    refused(&[("in fer", model())], "in fer", "not a legal name");
    refused(
        &[("a", model()), ("b", base::combined())],
        "a",
        "has 2 functions, `infer`, `prefill`: say which one",
    );
    let mut trained = model();
    trained.is_updatable = true;
    refused(&[("a", trained)], "a", "can be trained");
    let mut opset = model();
    base::function(&mut opset, "main").opset = "CoreML7".to_owned();
    let copy = base::block(&mut opset, "main").clone();
    let blocks = &mut base::function(&mut opset, "main").block_specializations;
    blocks.insert("CoreML7".to_owned(), copy);
    refused(&[("a", model()), ("b", opset)], "a", "`a` has CoreML8, `b` has CoreML7");
    let mut state = model();
    let feature = &mut state.description.as_mut().unwrap().state[0];
    let kind = feature.r#type.as_mut().unwrap().r#type.as_mut().unwrap();
    let coreml_proto::feature_type::Type::StateType(kind) = kind else { panic!("no state") };
    let Some(coreml_proto::state_feature_type::Type::ArrayType(array)) = &mut kind.r#type else {
        panic!("no array")
    };
    array.shape[2] = 64;
    refused(
        &[("a", model()), ("b", state)],
        "a",
        "state `cache` is fp16 [2, 1, 32, 64] in `a`, but fp16 [2, 1, 64, 64] in `b`",
    );
}
