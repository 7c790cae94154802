//! Which guessed parts of the text a model needs.

use super::string::needs_escapes;
use super::{BUILD_INFO, Dialect, MAXIMUM_BLOCK_DEPTH};
use crate::combine::features;
use crate::dtype::DataType;
use crate::model;
use coreml_proto::array_feature_type::ShapeFlexibility;
use coreml_proto::mil::argument::binding::Binding;
use coreml_proto::mil::tensor_value::Value as Field;
use coreml_proto::mil::value::{Value as Storage, immediate_value::Value as Immediate};
use coreml_proto::mil::value_type::Type;
use coreml_proto::{FeatureDescription, Model, feature_type, mil};

/// A part of a model's text that no output of Apple's compiler has shown yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guess {
    /// What is guessed, in one phrase.
    pub what: &'static str,
    /// Where the model needs it first: function, and value or input.
    pub place: String,
    /// What speaks for the guess.
    pub evidence: &'static str,
}

type Kind = (&'static str, &'static str);

const SPECIFICATION: Kind = (
    "dialect of specification version 10",
    "the dialect 1.3 did not change with the opset; no compiled model of this version was seen",
);
const OPSET: Kind = ("opset tag `ios26`", "the other tags name the iOS version of the opset");
const SHAPE_IDS: Kind = (
    "ids of enumerated shapes",
    "the compiler names each shape by 8 hexadecimal digits of an unknown hash, which look like \
     opaque keys; unique ones of ours are written",
);
const SHAPES_TOGETHER: Kind = (
    "enumerated shapes of several inputs",
    "Core ML takes only shapes of equal places in their lists together; each id gets one shape of \
     every input",
);
const UNBOUNDED: Kind = (
    "-1 as the bound of an unbounded size",
    "the package says it so, and other bounds are copied as they are",
);
const FLEXIBLE_1_0: Kind = (
    "flexible shapes in dialect 1.0",
    "seen in dialect 1.3 only; all other types differ between the dialects by the scalars alone",
);
const FLEXIBLE_IMAGE: Kind = (
    "flexible sizes of an image",
    "images stand in programs as tensors of batch, channels, height and width",
);
const OPTIONAL: Kind = (
    "optional inputs",
    "the text has no word for them that was seen; the description beside it tells them and their \
     default values",
);
const STATE: Kind = (
    "states",
    "hand-written texts with `state<tensor<…>>` run, and file sizes of a published stateful model \
     agree",
);
const NO_OUTPUT: Kind =
    ("an operation without outputs", "hand-written texts with a bare `write_state(…)` run");
const BLOCKS: Kind = (
    "layout of nested blocks",
    "the runtime was reported to accept the form; line ends and columns follow those of functions",
);
const ESCAPES: Kind = (
    "escapes in strings",
    "backslashes before quotes and backslashes are what every reader of such literals wants",
);
const BEYOND_ASCII: Kind = (
    "characters beyond ASCII in strings",
    "the text is UTF-8, and the compiler's metadata.json holds such characters as they are",
);
const NOT_A_NUMBER: Kind =
    ("spelling of NaN", "infinities are spelled as C's `%a` does, which gives `nan`");
const NEGATIVE_ZERO: Kind =
    ("spelling of -0", "other numbers are spelled as C's `%a` does, which gives `-0x0p+0`");
const DATA_TYPE: Kind =
    ("name of a data type", "the name is that of coremltools and of hand-written texts that run");
const EMPTY: Kind = (
    "literal of an empty tensor",
    "brackets follow the sizes as in other tensors, with none inside",
);
const COMPOSED: Kind = (
    "lists, tuples and dictionaries of operations",
    "seen in the attributes of programs and functions only",
);
const BLOB_ARGUMENT: Kind = (
    "a weight file value as an argument",
    "a public tool that edits compiled iOS 18 models finds this form in them",
);
const NO_BINDING: Kind =
    ("an argument without values", "arguments of several values stand in parentheses");
const PROGRAM_ATTRIBUTE: Kind =
    ("attributes of the program", "they stand beside buildInfo, sorted as all attributes are");
const FUNCTION_ATTRIBUTE: Kind =
    ("attributes of a function", "they stand where the compiler puts its own");
const DOC_STRING: Kind =
    ("doc strings are left out", "the text has no comments and no place for them that was seen");

/// The guessed parts of the text that [`super::write`] makes of a model, each with its first place.
/// Empty where every form was seen in Apple's output. Parts that cannot be written are left out.
pub fn guesses(model: &Model) -> Vec<Guess> {
    let mut found = Found::default();
    let Ok(program) = model::program(model) else { return found.guesses };
    if model.specification_version > 9 {
        found.add(SPECIFICATION, || "the model".to_owned());
    }
    if !program.doc_string.is_empty() {
        found.add(DOC_STRING, || "the program".to_owned());
    }
    for (name, value) in &program.attributes {
        let place = || format!("program attribute `{name}`");
        if name != BUILD_INFO {
            found.add(PROGRAM_ATTRIBUTE, place);
        }
        found.value(value, &place);
    }
    found.descriptions(model);
    for (name, function) in &program.functions {
        found.function(name, function);
    }
    found.guesses
}

#[derive(Default)]
struct Found {
    guesses: Vec<Guess>,
}

impl Found {
    fn add(&mut self, (what, evidence): Kind, place: impl FnOnce() -> String) {
        if !self.guesses.iter().any(|guess| guess.what == what) {
            self.guesses.push(Guess { what, place: place(), evidence });
        }
    }

    fn descriptions(&mut self, model: &Model) {
        let Some(description) = &model.description else { return };
        let bare_scalars = Dialect::of_specification(model.specification_version)
            .is_ok_and(|dialect| dialect.bare_scalars);
        for lists in features(description) {
            let mut enumerated = 0;
            for input in lists.inputs {
                let place = || format!("function `{}`, input `{}`", lists.name, input.name);
                let flexibility = self.input(input, &place);
                if flexibility != Flexibility::None && !bare_scalars {
                    self.add(FLEXIBLE_1_0, place);
                }
                enumerated += u32::from(flexibility == Flexibility::Enumerated);
                if enumerated == 2 {
                    self.add(SHAPES_TOGETHER, place);
                }
            }
        }
    }

    fn input(&mut self, input: &FeatureDescription, place: &dyn Fn() -> String) -> Flexibility {
        if input.r#type.as_ref().is_some_and(|kind| kind.is_optional) {
            self.add(OPTIONAL, place);
        }
        let unbounded = |range: &coreml_proto::SizeRange| range.upper_bound < 0;
        match input.r#type.as_ref().and_then(|kind| kind.r#type.as_ref()) {
            Some(feature_type::Type::MultiArrayType(array)) => match &array.shape_flexibility {
                None => Flexibility::None,
                Some(ShapeFlexibility::EnumeratedShapes(_)) => {
                    self.add(SHAPE_IDS, place);
                    Flexibility::Enumerated
                }
                Some(ShapeFlexibility::ShapeRange(range)) => {
                    if range.size_ranges.iter().any(unbounded) {
                        self.add(UNBOUNDED, place);
                    }
                    Flexibility::Ranges
                }
            },
            Some(feature_type::Type::ImageType(image)) => {
                use coreml_proto::image_feature_type::SizeFlexibility;
                let Some(flexibility) = &image.size_flexibility else { return Flexibility::None };
                self.add(FLEXIBLE_IMAGE, place);
                match flexibility {
                    SizeFlexibility::EnumeratedSizes(_) => {
                        self.add(SHAPE_IDS, place);
                        Flexibility::Enumerated
                    }
                    SizeFlexibility::ImageSizeRange(range) => {
                        let sides = [&range.width_range, &range.height_range];
                        if sides.into_iter().flatten().any(unbounded) {
                            self.add(UNBOUNDED, place);
                        }
                        Flexibility::Ranges
                    }
                }
            }
            _ => Flexibility::None,
        }
    }

    fn function(&mut self, name: &str, function: &mil::Function) {
        let of_function = || format!("function `{name}`");
        if function.opset == "CoreML9" {
            self.add(OPSET, of_function);
        }
        for (key, value) in &function.attributes {
            self.add(FUNCTION_ATTRIBUTE, || format!("function `{name}`, attribute `{key}`"));
            self.value(value, &of_function);
        }
        for input in &function.inputs {
            let place = || format!("function `{name}`, input `{}`", input.name);
            self.value_type(input.r#type.as_ref(), &place, 0);
        }
        if let Ok(block) = model::block(function) {
            self.block(name, block, 0);
        }
    }

    fn block(&mut self, function: &str, block: &mil::Block, depth: usize) {
        for operation in &block.operations {
            self.operation(function, operation, depth);
        }
    }

    fn operation(&mut self, function: &str, operation: &mil::Operation, depth: usize) {
        let place = || {
            let name = operation.outputs.first().map_or("", |output| output.name.as_str());
            format!("function `{function}`, operation `{name}` ({})", operation.r#type)
        };
        if operation.outputs.is_empty() {
            self.add(NO_OUTPUT, place);
        }
        for output in &operation.outputs {
            self.value_type(output.r#type.as_ref(), &place, 0);
        }
        for argument in operation.inputs.values() {
            if argument.arguments.is_empty() {
                self.add(NO_BINDING, place);
            }
            for binding in &argument.arguments {
                if let Some(Binding::Value(value)) = &binding.binding {
                    if matches!(value.value, Some(Storage::BlobFileValue(_))) {
                        self.add(BLOB_ARGUMENT, place);
                    }
                    self.value_type(value.r#type.as_ref(), &place, 0);
                    self.value(value, &place);
                }
            }
        }
        for value in operation.attributes.values() {
            self.value_type(value.r#type.as_ref(), &place, 0);
            self.value(value, &place);
        }
        if operation.blocks.is_empty() || depth >= MAXIMUM_BLOCK_DEPTH {
            return;
        }
        self.add(BLOCKS, place);
        for block in &operation.blocks {
            for input in &block.inputs {
                self.value_type(input.r#type.as_ref(), &place, 0);
            }
            self.block(function, block, depth + 1);
        }
    }

    fn value_type(
        &mut self,
        kind: Option<&mil::ValueType>,
        place: &dyn Fn() -> String,
        depth: usize,
    ) {
        if depth > super::printer::MAXIMUM_TYPE_DEPTH {
            return;
        }
        let Some(kind) = kind.and_then(|kind| kind.r#type.as_ref()) else { return };
        if !matches!(kind, Type::TensorType(_) | Type::StateType(_)) {
            self.add(COMPOSED, place);
        }
        match kind {
            Type::TensorType(tensor) => {
                if let Ok(kind) = DataType::from_proto(tensor.data_type)
                    && !was_seen(kind)
                {
                    self.add(DATA_TYPE, || format!("{}: {kind}", place()));
                }
            }
            Type::StateType(state) => {
                self.add(STATE, place);
                self.value_type(state.wrapped_type.as_deref(), place, depth + 1);
            }
            Type::ListType(list) => self.value_type(list.r#type.as_deref(), place, depth + 1),
            Type::TupleType(tuple) => {
                for kind in &tuple.types {
                    self.value_type(Some(kind), place, depth + 1);
                }
            }
            Type::DictionaryType(dictionary) => {
                self.value_type(dictionary.key_type.as_deref(), place, depth + 1);
                self.value_type(dictionary.value_type.as_deref(), place, depth + 1);
            }
        }
    }

    fn value(&mut self, value: &mil::Value, place: &dyn Fn() -> String) {
        self.nested_value(value, place, 0);
    }

    fn nested_value(&mut self, value: &mil::Value, place: &dyn Fn() -> String, depth: usize) {
        if depth > super::printer::MAXIMUM_TYPE_DEPTH {
            return;
        }
        if !value.doc_string.is_empty() {
            self.add(DOC_STRING, place);
        }
        match &value.value {
            Some(Storage::BlobFileValue(blob)) => self.text(&blob.file_name, place),
            Some(Storage::ImmediateValue(immediate)) => match &immediate.value {
                Some(Immediate::Tensor(tensor)) => self.tensor(value, tensor, place),
                Some(Immediate::List(list)) => {
                    for value in &list.values {
                        self.nested_value(value, place, depth + 1);
                    }
                }
                Some(Immediate::Tuple(tuple)) => {
                    for value in &tuple.values {
                        self.nested_value(value, place, depth + 1);
                    }
                }
                Some(Immediate::Dictionary(dictionary)) => {
                    for pair in &dictionary.values {
                        for value in pair.key.iter().chain(&pair.value) {
                            self.nested_value(value, place, depth + 1);
                        }
                    }
                }
                None => {}
            },
            None => {}
        }
    }

    fn tensor(
        &mut self,
        value: &mil::Value,
        tensor: &mil::TensorValue,
        place: &dyn Fn() -> String,
    ) {
        let kind = match value.r#type.as_ref().and_then(|kind| kind.r#type.as_ref()) {
            Some(Type::TensorType(kind)) => kind,
            _ => return,
        };
        if kind.dimensions.iter().any(|size| super::parse_value::fixed(size) == Some(0)) {
            self.add(EMPTY, place);
        }
        match &tensor.value {
            Some(Field::Strings(texts)) => {
                for text in &texts.values {
                    self.text(text, place);
                }
            }
            Some(Field::Floats(values)) => {
                self.numbers(values.values.iter().map(|value| f64::from(*value)), place);
            }
            Some(Field::Doubles(values)) => self.numbers(values.values.iter().copied(), place),
            Some(Field::Bytes(bytes)) if kind.data_type == DataType::Float16.to_proto() => {
                let numbers = bytes.values.as_chunks::<2>().0.iter();
                self.numbers(numbers.map(|bytes| half::f16::from_le_bytes(*bytes).to_f64()), place);
            }
            _ => {}
        }
    }

    fn numbers(&mut self, numbers: impl Iterator<Item = f64>, place: &dyn Fn() -> String) {
        for number in numbers {
            if number.is_nan() {
                self.add(NOT_A_NUMBER, place);
            } else if number == 0.0 && number.is_sign_negative() {
                self.add(NEGATIVE_ZERO, place);
            }
        }
    }

    fn text(&mut self, text: &str, place: &dyn Fn() -> String) {
        if needs_escapes(text) {
            self.add(ESCAPES, place);
        }
        if !text.is_ascii() {
            self.add(BEYOND_ASCII, place);
        }
    }
}

/// How an input's shape changes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flexibility {
    None,
    Ranges,
    Enumerated,
}

/// Whether Apple's compiler was seen to write this type.
const fn was_seen(kind: DataType) -> bool {
    matches!(
        kind,
        DataType::Bool
            | DataType::String
            | DataType::Float16
            | DataType::Float32
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
    )
}
