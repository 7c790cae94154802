//! Every check of the validator: a good model, broken in one way, and the error that says so.

use crate::common::base::{self, Catalog, block, by_name, by_value, function, operation, program};
use anemll_mil::{
    DataType, Dimension, Literal, TensorType, ValueType, validate_referenced, validate_resolved,
};
use coreml_proto::array_feature_type::{EnumeratedShapes, Shape, ShapeFlexibility, ShapeRange};
use coreml_proto::{ArrayFeatureType, Model, ModelDescription, SizeRange, feature_type, mil};

/// Spoils the resolved model, and expects an error that holds `expected`.
fn refused(expected: &str, spoil: impl FnOnce(&mut Model)) {
    check(base::resolved(base::TOKENS), expected, spoil);
}

/// The same for the model of two functions.
fn combined_refused(expected: &str, spoil: impl FnOnce(&mut Model)) {
    check(base::combined(), expected, spoil);
}

fn check(mut model: Model, expected: &str, spoil: impl FnOnce(&mut Model)) {
    validate_resolved(model.clone(), &Catalog).expect("good before it is spoilt");
    spoil(&mut model);
    let error = validate_resolved(model, &Catalog).expect_err(expected).to_string();
    assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    assert!(!error.contains('\n'), "{error}");
}

fn description(model: &mut Model) -> &mut ModelDescription {
    model.description.as_mut().unwrap()
}

fn array(kind: &mut Option<coreml_proto::FeatureType>) -> &mut ArrayFeatureType {
    match kind.as_mut().unwrap().r#type.as_mut().unwrap() {
        feature_type::Type::MultiArrayType(array) => array,
        feature_type::Type::StateType(state) => match state.r#type.as_mut().unwrap() {
            coreml_proto::state_feature_type::Type::ArrayType(array) => array,
        },
        _ => panic!("no array"),
    }
}

fn half(shape: &[u64]) -> mil::ValueType {
    ValueType::Tensor(TensorType::new(DataType::Float16, shape)).to_proto()
}

fn state(data_type: DataType, shape: Vec<Dimension>) -> mil::ValueType {
    ValueType::State(TensorType::with_shape(data_type, shape)).to_proto()
}

fn int32(value: i32) -> mil::Value {
    Literal::int32(value).to_value().unwrap()
}

#[test]
fn the_good_models_pass() {
    validate_referenced(base::referenced(1)).unwrap();
    validate_resolved(base::resolved(1), &Catalog).unwrap();
    validate_resolved(base::combined(), &Catalog).unwrap();
}

#[test]
fn the_model_as_a_whole() {
    refused("no ML Program", |model| model.r#type = None);
    refused("version 2, not 1", |model| program(model).version = 2);
    refused("no function", |model| program(model).functions.clear());
    refused("no description", |model| model.description = None);
    refused("updatable", |model| model.is_updatable = true);
    refused("specification version 5", |model| model.specification_version = 5);
    refused("specification version 11", |model| model.specification_version = 11);
    refused("needs specification version 9, the model has 8", |model| {
        model.specification_version = 8;
    });
    refused("training inputs", |model| {
        let input = description(model).input[0].clone();
        description(model).training_input.push(input);
    });
    refused("must be named `main`", |model| {
        let function = program(model).functions.remove("main").unwrap();
        program(model).functions.insert("infer".to_owned(), function);
    });
    refused("default function `infer` does not exist", |model| {
        description(model).default_function_name = "infer".to_owned();
    });
    refused("program attribute `buildInfo`", |model| {
        program(model).attributes.insert("buildInfo".to_owned(), mil::Value::default());
    });
}

#[test]
fn several_functions() {
    combined_refused("the description lists none", |model| {
        description(model).functions.clear();
    });
    combined_refused("top-level inputs, outputs and states must be empty", |model| {
        let input = description(model).functions[0].input.clone();
        description(model).input = input;
    });
    combined_refused("default function `` does not exist", |model| {
        description(model).default_function_name.clear();
    });
    combined_refused("`infer` is described twice", |model| {
        let first = description(model).functions[0].clone();
        description(model).functions.push(first);
    });
    combined_refused("`prefill` is not described", |model| {
        description(model).functions.pop();
    });
    combined_refused("the program lacks it", |model| {
        program(model).functions.remove("prefill");
    });
    combined_refused("needs specification version 9, not 8", |model| {
        model.specification_version = 8;
    });
    combined_refused("is not a legal name for a function", |model| {
        let function = program(model).functions.remove("prefill").unwrap();
        program(model).functions.insert("pre fill".to_owned(), function);
    });
    combined_refused("state `cache` is tensor<fp16, [2, 1, 32, 64]> in `infer`", |model| {
        // The other function keeps 64 positions, described so.
        let shape = [2, 1, 64, 64];
        let other = function(model, "prefill");
        let kind = TensorType::new(DataType::Float16, &shape);
        for input in other.inputs.iter_mut().filter(|input| input.name == "cache") {
            input.r#type = Some(ValueType::State(kind.clone()).to_proto());
        }
        let operations = &mut block(model, "prefill").operations;
        let kinds = ["read_state", "slice_update"];
        for operation in operations.iter_mut().filter(|op| kinds.contains(&op.r#type.as_str())) {
            operation.outputs[0].r#type = Some(half(&shape));
        }
        let resized = [("slice_by_index", [1, 1, 64, 64]), ("softmax", [1, 1, 4, 64])];
        for (name, shape) in resized {
            let operation = operations.iter_mut().find(|op| op.r#type == name).unwrap();
            operation.outputs[0].r#type = Some(half(&shape));
        }
        let scores = operations.iter_mut().find(|op| op.r#type == "matmul").unwrap();
        scores.outputs[0].r#type = Some(half(&[1, 1, 4, 64]));
        array(&mut description(model).functions[1].state[0].r#type).shape =
            shape.map(|s| s as i64).to_vec();
    });
}

#[test]
fn described_inputs() {
    refused("input `current_pos` of the program is not described", |model| {
        description(model).input.pop();
    });
    refused("input `more` is described, but the program lacks it", |model| {
        let mut input = description(model).input[0].clone();
        input.name = "more".to_owned();
        description(model).input.push(input);
    });
    refused("input `hidden_states` is described twice", |model| {
        let input = description(model).input[0].clone();
        description(model).input.push(input);
    });
    refused("described as FLOAT32, but is tensor<fp16", |model| {
        array(&mut description(model).input[0].r#type).data_type = 65568;
    });
    refused("described as 7, but is tensor<fp16", |model| {
        array(&mut description(model).input[0].r#type).data_type = 7;
    });
    refused("described with shape [1, 5, 64]", |model| {
        array(&mut description(model).input[0].r#type).shape = vec![1, 5, 64];
    });
    refused("described with shape [1, -4, 64]", |model| {
        array(&mut description(model).input[0].r#type).shape = vec![1, -4, 64];
    });
    refused("without a type", |model| description(model).input[0].r#type = None);
    refused("as no array", |model| {
        let kind = description(model).input[0].r#type.as_mut().unwrap();
        kind.r#type = Some(feature_type::Type::StringType(coreml_proto::StringFeatureType {}));
    });
    refused("described as something else", |model| {
        let state = description(model).state[0].r#type.clone();
        description(model).input[0].r#type = state;
    });
    refused("described with shape [1, 2, 64]", |model| {
        let shapes = [[1, 4, 64], [1, 2, 64]].map(|shape| Shape { shape: shape.to_vec() });
        array(&mut description(model).input[0].r#type).shape_flexibility =
            Some(ShapeFlexibility::EnumeratedShapes(EnumeratedShapes { shapes: shapes.to_vec() }));
    });
    refused("default shape [1, 4, 64] of input `hidden_states` is not among", |model| {
        array(&mut description(model).input[0].r#type).shape_flexibility =
            Some(ShapeFlexibility::EnumeratedShapes(EnumeratedShapes::default()));
    });
    for (count, lower, expected) in [(3, 1, "range 1 to 4 of axis 1"), (2, 4, "has 2 size ranges")]
    {
        refused(expected, |model| {
            let fixed = |size| SizeRange { lower_bound: size, upper_bound: size as i64 };
            let mut size_ranges =
                vec![fixed(1), SizeRange { lower_bound: lower, upper_bound: 4 }, fixed(64)];
            size_ranges.truncate(count);
            array(&mut description(model).input[0].r#type).shape_flexibility =
                Some(ShapeFlexibility::ShapeRange(ShapeRange { size_ranges }));
        });
    }
    refused("gives only one shape", |model| {
        let kind = TensorType::with_shape(DataType::Int32, vec![Dimension::Symbol(0)]);
        function(model, "main").inputs[1].r#type = Some(ValueType::Tensor(kind).to_proto());
        for operation in &mut block(model, "main").operations {
            let first = operation.outputs.first_mut();
            if let Some(output) =
                first.filter(|output| output.name == "add" || output.name.starts_with("concat"))
            {
                let kind = TensorType::with_shape(DataType::Int32, vec![Dimension::Symbol(0)]);
                output.r#type = Some(ValueType::Tensor(kind).to_proto());
            }
        }
    });
}

#[test]
fn described_outputs_and_states() {
    refused("output `output_hidden_states` of the program is not described", |model| {
        description(model).output.clear();
    });
    refused("output `output_hidden_states` is described with shape [1, 4]", |model| {
        array(&mut description(model).output[0].r#type).shape = vec![1, 4];
    });
    refused("output `output_hidden_states` is described as INT32", |model| {
        array(&mut description(model).output[0].r#type).data_type = 131104;
    });
    refused("state `cache` of the program is not described", |model| {
        description(model).state.clear();
    });
    refused("state `cache` is described with shape [2, 1, 32, 32]", |model| {
        array(&mut description(model).state[0].r#type).shape = vec![2, 1, 32, 32];
    });
    refused("state `cache` is described as FLOAT32", |model| {
        array(&mut description(model).state[0].r#type).data_type = 65568;
    });
}

#[test]
fn blocks_and_names() {
    refused("\"CoreML99\" is not a known opset", |model| {
        function(model, "main").opset = "CoreML99".to_owned();
    });
    refused("there is no block for opset CoreML8", |model| {
        function(model, "main").block_specializations.clear();
    });
    refused("unknown opset \"iOS18\"", |model| {
        let copy = block(model, "main").clone();
        function(model, "main").block_specializations.insert("iOS18".to_owned(), copy);
    });
    refused("inputs of its own", |model| {
        let input = function(model, "main").inputs[0].clone();
        block(model, "main").inputs.push(input);
    });
    refused("attributes, which have no meaning", |model| {
        block(model, "main").attributes.insert("a".to_owned(), int32(1));
    });
    refused("function attribute `a`", |model| {
        function(model, "main").attributes.insert("a".to_owned(), mil::Value::default());
    });
    refused("two inputs are named `hidden_states`", |model| {
        let input = function(model, "main").inputs[0].clone();
        function(model, "main").inputs.push(input);
    });
    refused("\"hidden states\" is not a legal name", |model| {
        function(model, "main").inputs[0].name = "hidden states".to_owned();
    });
    refused("\"1st\" is not a legal name", |model| {
        operation(model, "transpose").outputs[0].name = "1st".to_owned();
    });
    refused("two values are named `hidden_states`", |model| {
        operation(model, "transpose").outputs[0].name = "hidden_states".to_owned();
    });
    refused("uses `conv`, which is not defined before it", |model| {
        operation(model, "transpose").inputs.insert("x".to_owned(), by_name("conv"));
    });
    refused("uses `nowhere`, which is not defined before it", |model| {
        operation(model, "transpose").inputs.insert("x".to_owned(), by_name("nowhere"));
    });
    refused("uses `transpose`, which is not defined before it", |model| {
        // An operation that feeds itself.
        operation(model, "transpose").inputs.insert("x".to_owned(), by_name("transpose"));
    });
    refused("nested blocks", |model| {
        operation(model, "conv").blocks.push(mil::Block::default());
    });
    refused("returns nothing", |model| block(model, "main").outputs.clear());
    refused("the output `nowhere` is not defined", |model| {
        block(model, "main").outputs[0] = "nowhere".to_owned();
    });
    refused("is returned twice", |model| {
        block(model, "main").outputs.push("output_hidden_states".to_owned());
    });
    refused("the output `cache` is state<", |model| {
        block(model, "main").outputs.push("cache".to_owned());
    });
    refused("the very tensor that is written to state `cache`", |model| {
        block(model, "main").outputs.push("slice_update".to_owned());
    });
}

#[test]
fn operations() {
    refused("`frobnicate` is not an operation", |model| {
        operation(model, "conv").r#type = "frobnicate".to_owned();
    });
    refused("parameter `weight` is missing", |model| {
        operation(model, "conv").inputs.remove("weight");
    });
    refused("there is no parameter `color`", |model| {
        operation(model, "conv").inputs.insert("color".to_owned(), by_name("hidden_states"));
    });
    refused("there is no attribute `val`", |model| {
        operation(model, "conv").attributes.insert("val".to_owned(), int32(1));
    });
    refused("parameter `perm` must be constant", |model| {
        operation(model, "transpose").inputs.insert("perm".to_owned(), by_name("current_pos"));
    });
    refused("parameter `x` takes a tensor, but `cache` is state<", |model| {
        operation(model, "transpose").inputs.insert("x".to_owned(), by_name("cache"));
    });
    refused("parameter `input` takes a state", |model| {
        operation(model, "read_state").inputs.insert("input".to_owned(), by_name("hidden_states"));
    });
    refused("bound to 0 values", |model| {
        operation(model, "conv").inputs.insert("x".to_owned(), mil::Argument::default());
    });
    refused("bound to nothing", |model| {
        let empty = mil::Argument { arguments: vec![Default::default()] };
        operation(model, "conv").inputs.insert("x".to_owned(), empty);
    });
    refused("it gives 1 values, but 0 are declared", |model| {
        operation(model, "softmax").outputs.clear();
    });
    refused(
        "operation `softmax` (softmax): `softmax` is declared tensor<fp16, [1, 1, 4, 33]>",
        |model| {
            operation(model, "softmax").outputs[0].r#type = Some(half(&[1, 1, 4, 33]));
        },
    );
    refused("is declared tensor<fp16, [1, 1, 4, ?]>, but is", |model| {
        let mut shape: Vec<Dimension> = [1, 1, 4].map(Dimension::Fixed).to_vec();
        shape.push(Dimension::Symbol(0));
        let kind = TensorType::with_shape(DataType::Float16, shape);
        operation(model, "softmax").outputs[0].r#type = Some(ValueType::Tensor(kind).to_proto());
    });
    refused("is declared tensor<fp32", |model| {
        let kind = TensorType::new(DataType::Float32, &[1, 1, 4, 32]);
        operation(model, "softmax").outputs[0].r#type = Some(ValueType::Tensor(kind).to_proto());
    });
    refused("the type is not given", |model| {
        operation(model, "softmax").outputs[0].r#type = None;
    });
    refused("is declared state<", |model| {
        let kind = [1, 1, 4, 32].map(Dimension::Fixed).to_vec();
        operation(model, "softmax").outputs[0].r#type = Some(state(DataType::Float16, kind));
    });
    refused("`data` is tensor<fp16, [1, 4, 64]>", |model| {
        operation(model, "write_state").inputs.insert("data".to_owned(), by_name("hidden_states"));
    });
}

#[test]
fn values() {
    refused("takes 4 elements but holds 3", |model| {
        let mut value = Literal::int32s(&[1, 2, 3]).to_value().unwrap();
        value.r#type = Some(ValueType::Tensor(TensorType::new(DataType::Int32, &[4])).to_proto());
        operation(model, "conv").inputs.insert("pad".to_owned(), by_value(value));
    });
    refused("a value declares no type", |model| {
        let mut value = int32(1);
        value.r#type = None;
        operation(model, "conv").inputs.insert("groups".to_owned(), by_value(value));
    });
    refused("holds neither data nor", |model| {
        let mut value = int32(1);
        value.value = None;
        operation(model, "conv").inputs.insert("groups".to_owned(), by_value(value));
    });
    refused("`groups` must be positive", |model| {
        operation(model, "conv").inputs.insert("groups".to_owned(), by_value(int32(-1)));
    });
    refused("stored as Floats", |model| {
        let mut value = int32(1);
        let floats = mil::tensor_value::RepeatedFloats { values: vec![1.0] };
        let tensor = mil::TensorValue { value: Some(mil::tensor_value::Value::Floats(floats)) };
        value.value = Some(mil::value::Value::ImmediateValue(mil::value::ImmediateValue {
            value: Some(mil::value::immediate_value::Value::Tensor(tensor)),
        }));
        operation(model, "conv").inputs.insert("groups".to_owned(), by_value(value));
    });
    refused("rank 3 is declared with 4 dimensions", |model| {
        let Some(mil::value_type::Type::TensorType(tensor)) =
            &mut operation(model, "softmax").outputs[0].r#type.as_mut().unwrap().r#type
        else {
            panic!("no tensor")
        };
        tensor.rank = 3;
    });
    refused("99 is not a data type", |model| {
        let Some(mil::value_type::Type::TensorType(tensor)) =
            &mut operation(model, "softmax").outputs[0].r#type.as_mut().unwrap().r#type
        else {
            panic!("no tensor")
        };
        tensor.data_type = 99;
    });
}

#[test]
fn states() {
    let spoil_state = |kind: mil::ValueType| {
        move |model: &mut Model| {
            let inputs = &mut function(model, "main").inputs;
            inputs.iter_mut().find(|input| input.name == "cache").unwrap().r#type = Some(kind);
        }
    };
    let sizes = [2, 1, 32, 64].map(Dimension::Fixed).to_vec();
    refused(
        "tensor<fp32, [2, 1, 32, 64]>, not fp16",
        spoil_state(state(DataType::Float32, sizes.clone())),
    );
    let mut unknown = sizes.clone();
    unknown[2] = Dimension::Symbol(0);
    refused("needs a known shape", spoil_state(state(DataType::Float16, unknown)));
    refused("rank 1 or more", spoil_state(state(DataType::Float16, vec![])));
    let huge = vec![Dimension::Fixed(u64::MAX); 4];
    refused("needs a known shape", spoil_state(state(DataType::Float16, huge)));
    refused("wraps list<", |model| {
        let list = ValueType::List {
            element: Box::new(TensorType::scalar(DataType::Int32).into()),
            length: Dimension::Fixed(1),
        };
        let inputs = &mut function(model, "main").inputs;
        let cache = inputs.iter_mut().find(|input| input.name == "cache").unwrap();
        cache.r#type = Some(mil::ValueType {
            r#type: Some(mil::value_type::Type::StateType(Box::new(mil::StateType {
                wrapped_type: Some(Box::new(list.to_proto())),
            }))),
        });
    });
}
