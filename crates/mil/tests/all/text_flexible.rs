//! Flexible shapes of inputs in the text, by hand.

use crate::common::programs::*;
use anemll_mil::DataType;
use anemll_mil::text::{self, guesses};
use coreml_proto::array_feature_type::{EnumeratedShapes, Shape, ShapeFlexibility, ShapeRange};
use coreml_proto::{
    ArrayFeatureType, FeatureDescription, FeatureType, FunctionDescription, Model,
    ModelDescription, SizeRange, feature_type,
};

fn feature(name: &str, shape: &[i64], flexibility: Option<ShapeFlexibility>) -> FeatureDescription {
    let array = ArrayFeatureType {
        shape: shape.to_vec(),
        shape_flexibility: flexibility,
        ..ArrayFeatureType::default()
    };
    FeatureDescription {
        name: name.to_owned(),
        short_description: String::new(),
        r#type: Some(FeatureType {
            is_optional: false,
            r#type: Some(feature_type::Type::MultiArrayType(array)),
        }),
    }
}

fn ranges(bounds: &[(u64, i64)]) -> Option<ShapeFlexibility> {
    let size_ranges = bounds
        .iter()
        .map(|(lower_bound, upper_bound)| SizeRange {
            lower_bound: *lower_bound,
            upper_bound: *upper_bound,
        })
        .collect();
    Some(ShapeFlexibility::ShapeRange(ShapeRange { size_ranges }))
}

fn shapes(shapes: &[&[i64]]) -> Option<ShapeFlexibility> {
    let shapes = shapes.iter().map(|shape| Shape { shape: shape.to_vec() }).collect();
    Some(ShapeFlexibility::EnumeratedShapes(EnumeratedShapes { shapes }))
}

fn flexible(version: i32, inputs: Vec<FeatureDescription>) -> Model {
    let kind = || unknown(DataType::Float32, &[None, None]);
    let parameters = inputs.iter().map(|input| named(&input.name, kind())).collect();
    let first = inputs[0].name.clone();
    let mut model =
        model(version, vec![("main", function("CoreML7", parameters, vec![], &[&first]))]);
    model.description = Some(ModelDescription { input: inputs, ..ModelDescription::default() });
    model
}

fn function_line(model: &Model) -> String {
    let text = text_of(model);
    text.lines().nth(3).unwrap().trim().to_owned()
}

#[test]
fn ranges_of_sizes() {
    let model = flexible(
        9,
        vec![
            feature("z", &[1, 4], ranges(&[(1, 8), (4, -1)])),
            feature("fixed", &[2, 2], None),
            feature("a", &[2, 2], ranges(&[(2, 2), (0, 2)])),
        ],
    );
    assert_eq!(
        function_line(&model),
        "func main<ios17>(tensor<fp32, [?, ?]> a, tensor<fp32, [?, ?]> fixed, \
         tensor<fp32, [?, ?]> z) [FlexibleShapeInformation = \
         tuple<tuple<string, dict<string, tensor<int32, [?]>>>, \
         tuple<string, dict<string, list<tensor<int32, [2]>, ?>>>>\
         (((\"DefaultShapes\", {{\"a\", [2, 2]}, {\"z\", [1, 4]}}), \
         (\"RangeDims\", {{\"a\", [[2, 2], [0, 2]]}, {\"z\", [[1, 8], [4, -1]]}})))] {"
    );
    let older = function_line(&flexible(8, vec![feature("x", &[1, 4], ranges(&[(1, 8), (4, 4)]))]));
    assert!(
        older.contains(
            "[FlexibleShapeInformation = \
             tuple<tuple<tensor<string, []>, dict<tensor<string, []>, tensor<int32, [?]>>>, \
             tuple<tensor<string, []>, dict<tensor<string, []>, list<tensor<int32, [2]>, ?>>>>("
        ),
        "{older}"
    );
}

#[test]
fn enumerated_shapes() {
    let model = flexible(
        9,
        vec![
            feature("x", &[1, 4], shapes(&[&[1, 4], &[1, 8], &[1, 4]])),
            feature("y", &[2, 4], shapes(&[&[2, 4], &[2, 8], &[2, 4]])),
        ],
    );
    let line = function_line(&model);
    let head = "tuple<string, dict<string, dict<string, tensor<int32, [?]>>>>>\
                (((\"DefaultShapes\", {{\"x\", [1, 4]}, {\"y\", [2, 4]}}), (\"EnumeratedShapes\", {";
    let entries = line.split_once(head).unwrap().1.strip_suffix("})))] {").unwrap();
    let mut entries: Vec<(&str, &str)> = entries
        .split("}}}")
        .map(|entry| entry.trim_start_matches(", "))
        .filter(|e| !e.is_empty())
        .map(|entry| entry.strip_prefix("{\"").unwrap().split_once("\", {").unwrap())
        .collect();
    // Equal shapes are one entry, ids are eight hexadecimal digits and sorted.
    assert!(entries.is_sorted_by(|left, right| left.0 < right.0), "{entries:?}");
    assert!(entries.iter().all(|(id, _)| id.len() == 8 && u32::from_str_radix(id, 16).is_ok()));
    entries.sort_by_key(|entry| entry.1);
    let shapes: Vec<&str> = entries.iter().map(|entry| entry.1).collect();
    assert_eq!(shapes, ["{\"x\", [1, 4]}, {\"y\", [2, 4]", "{\"x\", [1, 8]}, {\"y\", [2, 8]"]);
    let whats =
        |model: &Model| -> Vec<&str> { guesses(model).iter().map(|guess| guess.what).collect() };
    assert_eq!(whats(&model), ["ids of enumerated shapes", "enumerated shapes of several inputs"]);
    let mut optional = feature("x", &[1, 4], ranges(&[(1, 1), (1, -1)]));
    optional.r#type.as_mut().unwrap().is_optional = true;
    assert_eq!(
        whats(&flexible(8, vec![optional])),
        [
            "optional inputs",
            "-1 as the bound of an unbounded size",
            "flexible shapes in dialect 1.0"
        ]
    );
}

#[test]
fn flexible_shapes_that_cannot_be_said() {
    let error = |inputs| text::to_text(&flexible(9, inputs), &plain()).unwrap_err().to_string();
    let mixed = vec![
        feature("x", &[1, 4], shapes(&[&[1, 4]])),
        feature("y", &[1, 4], ranges(&[(1, 1), (1, 4)])),
    ];
    assert!(error(mixed).contains("function `main`: some inputs have ranges"));
    let uneven = vec![
        feature("x", &[1, 4], shapes(&[&[1, 4]])),
        feature("y", &[1, 4], shapes(&[&[1, 4], &[1, 8]])),
    ];
    assert!(error(uneven).contains("`x` has 1 enumerated shapes, but `y` has 2"));
    let large = vec![feature("x", &[1, 4], ranges(&[(1, 1 << 31), (1, 4)]))];
    assert!(error(large).contains("input `x`: the size 2147483648 does not fit 32 bits"));
}

/// Each function has the shapes of its own description.
#[test]
fn flexible_functions() {
    let kind = || unknown(DataType::Float32, &[None]);
    let part = || function("CoreML8", vec![named("x", kind())], vec![], &["x"]);
    let mut model = model(9, vec![("a", part()), ("b", part())]);
    let described = |name: &str, input| FunctionDescription {
        name: name.to_owned(),
        input: vec![input],
        ..FunctionDescription::default()
    };
    model.description = Some(ModelDescription {
        functions: vec![
            described("b", feature("x", &[7], ranges(&[(1, 7)]))),
            described("a", feature("x", &[3], None)),
        ],
        ..ModelDescription::default()
    });
    let text = text_of(&model);
    let lines: Vec<&str> = text.lines().filter(|line| line.contains("func ")).collect();
    assert_eq!(lines[0], "    func a<ios18>(tensor<fp32, [?]> x) {");
    assert!(lines[1].contains("{{\"x\", [7]}}") && lines[1].contains("{{\"x\", [[1, 7]]}}"));
}
