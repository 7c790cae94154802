//! Inputs, outputs and states as objects of the summary.

use super::{Guesses, flag};
use anemll_mil::DataType;
use coreml_proto::array_feature_type::{ArrayDataType, ShapeFlexibility};
use coreml_proto::image_feature_type::{ColorSpace, SizeFlexibility};
use coreml_proto::{
    ArrayFeatureType, DictionaryFeatureType, FeatureDescription, ImageFeatureType,
    SequenceFeatureType, SizeRange, dictionary_feature_type, feature_type, sequence_feature_type,
    state_feature_type,
};
use serde_json::{Map, Value, json};

const VIEWER: &str = "the form that Xcode's viewer shows; no published pair has one";

/// The list of a function's inputs, outputs or states.
pub(super) fn schema(
    features: &[FeatureDescription],
    guesses: &mut Guesses,
) -> Result<Value, String> {
    let list: Result<Vec<Value>, String> =
        features.iter().map(|feature| object(feature, guesses)).collect();
    Ok(list?.into())
}

fn object(feature: &FeatureDescription, guesses: &mut Guesses) -> Result<Value, String> {
    use feature_type::Type;
    let untyped = || format!("the description of {:?} has no type", feature.name);
    let outer = feature.r#type.as_ref().ok_or_else(untyped)?;
    let mut entry = Map::new();
    let mut put = |key: &str, value: Value| {
        entry.insert(key.to_owned(), value);
    };
    match outer.r#type.as_ref().ok_or_else(untyped)? {
        Type::MultiArrayType(array) => {
            put("type", "MultiArray".into());
            put_array(array, "MultiArray", true, &mut put);
            if is_unbounded(array) {
                guesses.add(
                    "metadata.json: an input or output without an upper bound",
                    &feature.name,
                    "bounded ranges are known",
                );
            }
        }
        Type::StateType(state) => {
            guesses.add(
                "metadata.json: the form of a state",
                &feature.name,
                "compiled stateful models of others, seen without their packages",
            );
            let Some(state_feature_type::Type::ArrayType(array)) = &state.r#type else {
                return Err(untyped());
            };
            put("type", "State".into());
            put_array(array, "State", false, &mut put);
        }
        other => {
            guesses.add(
                "metadata.json: a feature that is not an array or state",
                &feature.name,
                VIEWER,
            );
            match other {
                Type::ImageType(image) => put_image(image, &mut put),
                Type::DictionaryType(dictionary) => put_dictionary(dictionary, &mut put),
                Type::SequenceType(sequence) => put_sequence(sequence, &mut put),
                Type::StringType(_) => put_plain("String", &mut put),
                Type::Int64Type(_) => put_plain("Int64", &mut put),
                Type::DoubleType(_) => put_plain("Double", &mut put),
                Type::MultiArrayType(_) | Type::StateType(_) => return Err(untyped()),
            }
        }
    }
    put("name", feature.name.clone().into());
    put("shortDescription", feature.short_description.clone().into());
    put("isOptional", flag(outer.is_optional));
    Ok(entry.into())
}

/// `flexibility`: whether the object says if the shape is flexible.
fn put_array(
    array: &ArrayFeatureType,
    form: &str,
    flexibility: bool,
    put: &mut dyn FnMut(&str, Value),
) {
    let data_type = match array.data_type() {
        ArrayDataType::Double => "Double",
        _ => DataType::from_array_type(array.data_type).map_or("Invalid", DataType::summary_name),
    };
    put("dataType", data_type.into());
    put("shape", bracketed(&array.shape).into());
    let formatted = match array.shape.is_empty() {
        true => format!("{form} ({data_type})"),
        false => format!("{form} ({data_type} {})", crossed(&array.shape)),
    };
    put("formattedType", formatted.into());
    if !flexibility {
        return;
    }
    put("hasShapeFlexibility", flag(array.shape_flexibility.is_some()));
    match &array.shape_flexibility {
        Some(ShapeFlexibility::ShapeRange(range)) => {
            put("shapeFlexibility", ranges(&range.size_ranges).into());
            put("shapeRange", range_pairs(&range.size_ranges).into());
        }
        Some(ShapeFlexibility::EnumeratedShapes(list)) => {
            let shapes: Vec<&[i64]> =
                list.shapes.iter().map(|shape| shape.shape.as_slice()).collect();
            let told: Vec<String> = shapes.iter().map(|shape| crossed(shape)).collect();
            put("shapeFlexibility", told.join(" | ").into());
            let told: Vec<String> = shapes.iter().map(|shape| bracketed(shape)).collect();
            put("enumeratedShapes", format!("[{}]", told.join(", ")).into());
        }
        None => {}
    }
}

fn is_unbounded(array: &ArrayFeatureType) -> bool {
    match &array.shape_flexibility {
        Some(ShapeFlexibility::ShapeRange(range)) => {
            range.size_ranges.iter().any(|range| range.upper_bound < 0)
        }
        _ => false,
    }
}

/// `[1, 128]`.
fn bracketed(shape: &[i64]) -> String {
    let sizes: Vec<String> = shape.iter().map(i64::to_string).collect();
    format!("[{}]", sizes.join(", "))
}

/// `1 × 128`.
fn crossed(shape: &[i64]) -> String {
    let sizes: Vec<String> = shape.iter().map(i64::to_string).collect();
    sizes.join(" × ")
}

/// `1 × 1...2048`; a dimension of one size shows it alone.
fn ranges(ranges: &[SizeRange]) -> String {
    let told: Vec<String> = ranges.iter().map(range).collect();
    told.join(" × ")
}

fn range(range: &SizeRange) -> String {
    match u64::try_from(range.upper_bound) {
        Err(_) => format!("{}...", range.lower_bound),
        Ok(upper) if upper == range.lower_bound => upper.to_string(),
        Ok(upper) => format!("{}...{upper}", range.lower_bound),
    }
}

/// `[[1, 1], [1, 2048]]`.
fn range_pairs(ranges: &[SizeRange]) -> String {
    let told: Vec<String> = ranges
        .iter()
        .map(|range| format!("[{}, {}]", range.lower_bound, range.upper_bound))
        .collect();
    format!("[{}]", told.join(", "))
}

fn put_image(image: &ImageFeatureType, put: &mut dyn FnMut(&str, Value)) {
    let gray = matches!(image.color_space(), ColorSpace::Grayscale | ColorSpace::GrayscaleFloat16);
    let (space, kind) = match image.color_space() {
        ColorSpace::Rgb => ("RGB", "Color"),
        ColorSpace::Bgr => ("BGR", "Color"),
        ColorSpace::Grayscale => ("Grayscale", "Grayscale"),
        ColorSpace::GrayscaleFloat16 => ("GrayscaleFloat16", "GrayscaleFloat16"),
        ColorSpace::InvalidColorSpace => ("Invalid", "Color"),
    };
    let formatted = format!("Image ({kind} {} × {})", image.width, image.height);
    put("type", "Image".into());
    put("width", image.width.to_string().into());
    put("height", image.height.to_string().into());
    put("colorspace", space.into());
    put("isColor", flag(!gray));
    put("formattedType", formatted.into());
    put("hasSizeFlexibility", flag(image.size_flexibility.is_some()));
    match &image.size_flexibility {
        Some(SizeFlexibility::ImageSizeRange(sizes)) => {
            let pair = [sizes.width_range, sizes.height_range].map(Option::unwrap_or_default);
            put("sizeFlexibility", ranges(&pair).into());
            put("sizeRange", range_pairs(&pair).into());
        }
        Some(SizeFlexibility::EnumeratedSizes(sizes)) => {
            let told: Vec<String> = sizes
                .sizes
                .iter()
                .map(|size| format!("{} × {}", size.width, size.height))
                .collect();
            put("sizeFlexibility", told.join(" | ").into());
            let told: Vec<String> = sizes
                .sizes
                .iter()
                .map(|size| format!("[{}, {}]", size.width, size.height))
                .collect();
            put("enumeratedSizes", format!("[{}]", told.join(", ")).into());
        }
        None => {}
    }
}

fn put_dictionary(dictionary: &DictionaryFeatureType, put: &mut dyn FnMut(&str, Value)) {
    let key = match &dictionary.key_type {
        Some(dictionary_feature_type::KeyType::Int64KeyType(_)) => "Int64",
        _ => "String",
    };
    put("type", "Dictionary".into());
    put("keyType", key.into());
    put("formattedType", format!("Dictionary ({key} → Double)").into());
}

fn put_sequence(sequence: &SequenceFeatureType, put: &mut dyn FnMut(&str, Value)) {
    let element = match &sequence.r#type {
        Some(sequence_feature_type::Type::Int64Type(_)) => "Int64",
        _ => "String",
    };
    put("type", "Sequence".into());
    put("elementType", element.into());
    put("formattedType", format!("Sequence ({element})").into());
    if let Some(sizes) = &sequence.size_range {
        put("sizeRange", json!(range_pairs(std::slice::from_ref(sizes))));
    }
}

fn put_plain(name: &str, put: &mut dyn FnMut(&str, Value)) {
    put("type", name.into());
    put("formattedType", name.into());
}
