//! `FlexibleShapeInformation`: the function attribute that the compiler makes of a description.

use super::build::{dictionary, dictionary_type, integers, list, list_type, string, string_type};
use super::build::{tensor_type, tuple};
use crate::combine::Features;
use crate::error::{Error, Result};
use coreml_proto::array_feature_type::ShapeFlexibility;
use coreml_proto::image_feature_type::{ColorSpace, SizeFlexibility};
use coreml_proto::{
    ArrayFeatureType, FeatureDescription, ImageFeatureType, SizeRange, feature_type, mil,
};
use std::collections::BTreeMap;

/// Name of the attribute.
pub(super) const ATTRIBUTE: &str = "FlexibleShapeInformation";

/// The shapes that one input takes, as 32-bit integers, the type that the text gives them.
struct Flexible {
    default: Vec<i32>,
    shapes: Shapes,
}

enum Shapes {
    /// Lower and upper bound of every dimension; the upper is -1 where there is none.
    Ranges(Vec<[i32; 2]>),
    Enumerated(Vec<Vec<i32>>),
}

/// The attribute of a function with these descriptions, if any input of it is flexible.
///
/// Errors: sizes beyond 32 bits; ranges in one input and enumerated shapes in another (which Core
/// ML refuses); inputs with different numbers of enumerated shapes, as the shapes of all inputs
/// change together.
pub(super) fn attribute(lists: Option<&Features<'_>>) -> Result<Option<mil::Value>> {
    let Some(lists) = lists else { return Ok(None) };
    let inputs = flexible_inputs(lists)?;
    if inputs.is_empty() {
        return Ok(None);
    }
    let shape_type = || tensor_type(mil::DataType::Int32, &[None]);
    let default = inputs.iter().map(|(name, input)| (*name, integers(&input.default)));
    let default = tuple(vec![string("DefaultShapes"), dictionary(shape_type(), default)]);
    let ranges = inputs.values().filter(|input| matches!(input.shapes, Shapes::Ranges(_))).count();
    let shapes = if ranges == inputs.len() {
        let bounds_type = || tensor_type(mil::DataType::Int32, &[Some(2)]);
        let entries = inputs.iter().map(|(name, input)| {
            let bounds = match &input.shapes {
                Shapes::Ranges(ranges) => ranges.iter().map(|range| integers(range)).collect(),
                Shapes::Enumerated(_) => Vec::new(),
            };
            (*name, list(bounds_type(), bounds))
        });
        tuple(vec![string("RangeDims"), dictionary(list_type(bounds_type()), entries)])
    } else if ranges == 0 {
        let entries = enumerated(&inputs)?;
        let entries = entries.iter().map(|(id, shapes)| {
            let shapes = shapes.iter().map(|(name, shape)| (*name, integers(shape)));
            (id.as_str(), dictionary(shape_type(), shapes))
        });
        let by_input = dictionary_type(string_type(), shape_type());
        tuple(vec![string("EnumeratedShapes"), dictionary(by_input, entries)])
    } else {
        return Err(Error::new(
            "some inputs have ranges of sizes and others enumerated shapes, which Core ML does not \
             allow in one model",
        ));
    };
    Ok(Some(tuple(vec![default, shapes])))
}

fn flexible_inputs<'a>(lists: &Features<'a>) -> Result<BTreeMap<&'a str, Flexible>> {
    let mut inputs = BTreeMap::new();
    for feature in lists.inputs {
        let flexible = flexible(feature)
            .map_err(|error| Error::new(format!("input `{}`: {error}", feature.name)))?;
        if let Some(flexible) = flexible {
            inputs.insert(feature.name.as_str(), flexible);
        }
    }
    Ok(inputs)
}

fn flexible(feature: &FeatureDescription) -> Result<Option<Flexible>, String> {
    match feature.r#type.as_ref().and_then(|kind| kind.r#type.as_ref()) {
        Some(feature_type::Type::MultiArrayType(array)) => flexible_array(array),
        Some(feature_type::Type::ImageType(image)) => flexible_image(image),
        _ => Ok(None),
    }
}

fn flexible_array(array: &ArrayFeatureType) -> Result<Option<Flexible>, String> {
    let shapes = match &array.shape_flexibility {
        None => return Ok(None),
        Some(ShapeFlexibility::EnumeratedShapes(list)) => {
            let shapes = list.shapes.iter().map(|shape| sizes(&shape.shape));
            Shapes::Enumerated(shapes.collect::<Result<_, _>>()?)
        }
        Some(ShapeFlexibility::ShapeRange(range)) => {
            let ranges = range.size_ranges.iter().map(bounds);
            Shapes::Ranges(ranges.collect::<Result<_, _>>()?)
        }
    };
    Ok(Some(Flexible { default: sizes(&array.shape)?, shapes }))
}

/// An image stands in the program as a tensor of one image: batch, channels, height, width.
fn flexible_image(image: &ImageFeatureType) -> Result<Option<Flexible>, String> {
    let channels = match ColorSpace::try_from(image.color_space) {
        Ok(ColorSpace::Rgb | ColorSpace::Bgr) => 3,
        _ => 1,
    };
    let shapes = match &image.size_flexibility {
        None => return Ok(None),
        Some(SizeFlexibility::EnumeratedSizes(list)) => {
            let shape = |height, width| Ok(vec![1, channels, size(height)?, size(width)?]);
            let shapes = list.sizes.iter().map(|image| shape(image.height, image.width));
            Shapes::Enumerated(shapes.collect::<Result<_, String>>()?)
        }
        Some(SizeFlexibility::ImageSizeRange(range)) => {
            let side = |side: &Option<SizeRange>| match side {
                Some(range) => bounds(range),
                None => Err("a range of image sizes lacks a side".to_owned()),
            };
            Shapes::Ranges(vec![
                [1, 1],
                [channels, channels],
                side(&range.height_range)?,
                side(&range.width_range)?,
            ])
        }
    };
    let default = vec![1, channels, size(image.height)?, size(image.width)?];
    Ok(Some(Flexible { default, shapes }))
}

fn size<T: Copy + std::fmt::Display + TryInto<i32>>(size: T) -> Result<i32, String> {
    size.try_into().map_err(|_| format!("the size {size} does not fit 32 bits"))
}

fn sizes(shape: &[i64]) -> Result<Vec<i32>, String> {
    shape.iter().copied().map(size).collect()
}

fn bounds(range: &SizeRange) -> Result<[i32; 2], String> {
    // A negative upper bound means none, which is spelled -1.
    let upper = if range.upper_bound < 0 { -1 } else { size(range.upper_bound)? };
    Ok([size(range.lower_bound)?, upper])
}

type ShapesOfInputs<'a> = Vec<(&'a str, &'a [i32])>;

/// For each combination of shapes an id of ours, and the shape of each input.
fn enumerated<'a>(
    inputs: &'a BTreeMap<&'a str, Flexible>,
) -> Result<BTreeMap<String, ShapesOfInputs<'a>>> {
    let lists: Vec<(&str, &[Vec<i32>])> = inputs
        .iter()
        .map(|(name, input)| match &input.shapes {
            Shapes::Enumerated(shapes) => (*name, shapes.as_slice()),
            Shapes::Ranges(_) => (*name, &[][..]),
        })
        .collect();
    let count = lists.first().map_or(0, |(_, shapes)| shapes.len());
    if let Some((name, shapes)) = lists.iter().find(|(_, shapes)| shapes.len() != count) {
        return Err(Error::new(format!(
            "input `{}` has {count} enumerated shapes, but `{name}` has {}; all inputs change their \
             shapes together",
            lists[0].0,
            shapes.len()
        )));
    }
    let mut entries: BTreeMap<String, ShapesOfInputs<'_>> = BTreeMap::new();
    for index in 0..count {
        let shapes: ShapesOfInputs<'_> =
            lists.iter().map(|(name, shapes)| (*name, shapes[index].as_slice())).collect();
        let mut hash = fnv1a(&shapes);
        // Equal shapes are one entry; other shapes of the same hash get the next free id.
        while let Some(other) = entries.get(&format!("{hash:08x}")) {
            if *other == shapes {
                break;
            }
            hash = hash.wrapping_add(1);
        }
        entries.insert(format!("{hash:08x}"), shapes);
    }
    Ok(entries)
}

/// 32 bits of FNV-1a over the names and sizes: equal shapes get equal ids in every file.
fn fnv1a(shapes: &ShapesOfInputs<'_>) -> u32 {
    let mut hash = 0x811c_9dc5_u32;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
        }
    };
    for (name, shape) in shapes {
        add(name.as_bytes());
        add(&[0]);
        for size in *shape {
            add(&size.to_le_bytes());
        }
        add(&[0xff]);
    }
    hash
}
