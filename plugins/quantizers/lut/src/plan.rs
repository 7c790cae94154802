//! Which weights get tables.

use crate::options::{DEFAULT_GROUP, Lut, Options, VECTOR};
use crate::parts::{Parts, is_open};
use anemll_plugin_api::data::{Decision, Encoding, Plan, WeightInfo};
use anemll_plugin_api::{DType, Error, Result, Value, codes};
use serde_json::json;
use std::collections::BTreeMap;

/// Weights with this many elements or fewer stay float16, as in coremltools, whose
/// `weight_threshold` this is.
const SMALL: u64 = 2048;

/// Bits that are tried where measures decide. With two, what an error does is not foretold by small
/// ones any more.
const CHOICES: [u32; 4] = [3, 4, 6, 8];

/// Elements for each bit of a table, where measures decide: tables take at most a sixteenth of a bit of each.
const LEAN: u64 = 16;

/// A decision for every weight of a part that has tables.
///
/// # Errors
/// The group of a part is larger than the channels of each of its weights.
pub(crate) fn plan(parts: &Parts, weights: &[WeightInfo]) -> Result<Plan> {
    check_groups(parts, weights)?;
    let mut plan = Plan::default();
    for weight in weights {
        if let Some(lut) = part(parts, weight) {
            plan.decisions.insert(weight.id.clone(), decide(lut, weight)?);
        }
    }
    Ok(plan)
}

/// What could become of each weight whose bits are not named.
///
/// # Errors
/// None that a plan would not have.
pub(crate) fn choices(
    options: &Options,
    weights: &[WeightInfo],
) -> Result<BTreeMap<String, Vec<Decision>>> {
    let mut choices = BTreeMap::new();
    for weight in weights {
        let Some(part) = part_name(weight).filter(|_| !is_small(weight)) else { continue };
        if is_open(options, part) {
            let luts = CHOICES.into_iter().map(|bits| lean(bits, &weight.shape));
            let decided = luts.map(|lut| decide(lut, weight)).collect::<Result<Vec<_>>>()?;
            choices.insert(weight.id.clone(), decided);
        }
    }
    Ok(choices)
}

/// Tables of so many bits that take little beside the indices: the usual group, doubled until they do.
/// With 6 bits and few columns tables of the usual groups take 0.2 bits of each element, with 8 bits
/// 0.9, and errors of so many bits are small whatever the group.
fn lean(bits: u32, shape: &[u64]) -> Lut {
    let channels = shape.first().copied().unwrap_or(1);
    let columns = shape.iter().skip(1).fold(1_u64, |product, size| product.saturating_mul(*size));
    let enough = (16 << bits) * LEAN;
    let mut group = DEFAULT_GROUP;
    while group < channels && group.saturating_mul(columns) < enough {
        group *= 2;
    }
    Lut { bits, group: Some(largest_divisor(channels, group)), scale: false, vector: false }
}

/// A group that suits no weight of its part can only be a mistake.
fn check_groups(parts: &Parts, weights: &[WeightInfo]) -> Result<()> {
    for (name, lut) in parts.named() {
        let Some(group) = lut.and_then(|lut| lut.group) else { continue };
        let of_part = |weight: &&WeightInfo| part_name(weight) == Some(name) && !is_small(weight);
        let channels = weights.iter().filter(of_part).map(|weight| weight.shape[0]);
        if let Some(most) = channels.max().filter(|most| group > *most) {
            return Err(Error::new(
                codes::PLUGIN_OPTION_INVALID,
                format!(
                    "option \"{name}\" of the quantizer asks for groups of {group} output channels, but no \
                     weight of that part has more than {most}"
                ),
            )
            .with_at(name)
            .with_hint(format!(
                "the largest group is {most}; `tensor` is one table for each weight"
            )));
        }
    }
    Ok(())
}

/// The tables of the part that a weight belongs to.
fn part(parts: &Parts, weight: &WeightInfo) -> Option<Lut> {
    let name = part_name(weight)?;
    parts.named().into_iter().find(|(part, _)| *part == name)?.1
}

/// What roles of matrices of layers begin with.
const LAYERS: [&str; 4] = ["attention.", "mlp.", "convolution.", "delta."];

/// The option that a weight's tables come from, if it can have any.
fn part_name(weight: &WeightInfo) -> Option<&'static str> {
    let role = weight.role.as_str();
    if weight.shape.len() < 2 || role.ends_with(".bias") {
        return None;
    }
    match role {
        "embedding" => Some("embeddings"),
        "head" => Some("head"),
        // Few taps for each channel, and not a matrix.
        "convolution.kernel" => None,
        // A row for each head, whose error every later token would feel.
        "delta.beta" | "delta.decay" | "delta.rate" => None,
        _ if LAYERS.iter().any(|kind| role.starts_with(kind)) => Some("layers"),
        _ => None,
    }
}

fn is_small(weight: &WeightInfo) -> bool {
    let elements = weight.shape.iter().try_fold(1_u64, |product, size| product.checked_mul(*size));
    elements.is_some_and(|elements| elements <= SMALL)
}

fn decide(lut: Lut, weight: &WeightInfo) -> Result<Decision> {
    if is_small(weight) {
        return Ok(Decision::default()
            .with_parameters(Value::Null)
            .with_note(format!("stays float16, since it has no more than {SMALL} elements")));
    }
    let channels = weight.shape[0];
    let looked_up = lut.scale && part_name(weight) == Some("embeddings");
    let lut = if looked_up {
        Lut { group: Some(DEFAULT_GROUP), scale: false, vector: false, ..lut }
    } else {
        lut
    };
    let odd = lut.vector && !channels.is_multiple_of(VECTOR.into());
    let lut = if odd { Lut { vector: false, ..lut } } else { lut };
    let group = lut.group.map(|group| largest_divisor(channels, group));
    let note = match (lut.group, group) {
        (Some(asked), Some(taken)) if taken != asked => Some(if asked > channels {
            format!("groups of {taken} output channels, not {asked}: there are no more")
        } else {
            format!("groups of {taken} output channels, not {asked}: {channels} is not a multiple")
        }),
        _ if looked_up => Some(format!(
            "groups of {} output channels without factors: rows are looked up, not multiplied",
            group.unwrap_or(channels)
        )),
        _ if odd => {
            Some(format!("one index for each output channel: {channels} channels make no pairs"))
        }
        _ => None,
    };
    let mut parameters = json!({ "bits": lut.bits, "group": group });
    for (name, is_so) in [("scale", lut.scale), ("vector", lut.vector)] {
        if is_so {
            parameters[name] = true.into();
        }
    }
    let own = (group == Some(1)).then(|| own_tables(lut.bits, &weight.shape));
    let note = match (note, own) {
        (Some(note), Some(own)) => Some(format!("{note}; {own}")),
        (note, own) => note.or(own),
    };
    let groups = group.map_or(1, |group| channels / group.max(1));
    Ok(Decision::default()
        .with_encoding(encoding(&weight.shape, lut, groups)?)
        .with_parameters(parameters)
        .with_output_scale(lut.scale)
        .with_note(note))
}

/// What a table for each output channel costs.
fn own_tables(bits: u32, shape: &[u64]) -> String {
    let columns: f64 = shape.iter().skip(1).map(|size| *size as f64).product();
    let added = f64::from(16_u32 << bits) / columns;
    format!(
        "each output channel has a table of its own, which adds {added:.2} bits to the {bits} of each \
         element"
    )
}

/// Indices and tables of these shapes; vectors go along the output channels.
fn encoding(shape: &[u64], lut: Lut, groups: u64) -> Result<Encoding> {
    let encoding = Encoding::new("constexpr_lut_to_dense")
        .with_argument("indices", index_type(lut.index_bits())?, indices_shape(shape, lut))
        .with_argument("lut", DType::FLOAT16, lut_shape(shape, lut, groups));
    Ok(if lut.vector { encoding.with_setting("vector_axis", 0) } else { encoding })
}

/// The shape of a weight's indices: its own, or half the rows where an index is for two.
pub(crate) fn indices_shape(shape: &[u64], lut: Lut) -> Vec<u64> {
    let mut shape = shape.to_vec();
    if let Some(rows) = shape.first_mut().filter(|_| lut.vector) {
        *rows /= u64::from(VECTOR);
    }
    shape
}

/// The type of an index of so many bits.
pub(crate) fn index_type(bits: u32) -> Result<DType> {
    DType::from_name(&format!("uint{bits}")).ok_or_else(|| {
        Error::new(codes::INTERNAL, format!("indices of {bits} bits have no integer type"))
    })
}

/// The shape of the tables of a weight: `[groups, 1, .., entries, numbers of an entry]`.
pub(crate) fn lut_shape(shape: &[u64], lut: Lut, groups: u64) -> Vec<u64> {
    let mut sizes = vec![1; shape.len() + 2];
    sizes[0] = groups;
    sizes[shape.len()] = 1 << lut.index_bits();
    if lut.vector {
        sizes[shape.len() + 1] = VECTOR.into();
    }
    sizes
}

/// The largest divisor of `number` that is at most `limit`; one for numbers and limits of zero.
fn largest_divisor(number: u64, limit: u64) -> u64 {
    let mut best = 1;
    let mut small = 1;
    while small <= number / small {
        if number.is_multiple_of(small) {
            for divisor in [small, number / small] {
                if divisor <= limit && divisor > best {
                    best = divisor;
                }
            }
        }
        small += 1;
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_one_channel_say_what_they_cost() {
        let note = |bits, group, shape: &[u64]| {
            let weight = WeightInfo::new("", "", "", shape);
            decide(Lut { bits, group: Some(group), scale: false, vector: false }, &weight)
                .unwrap()
                .note
        };
        // 16 entries of 16 bits for 576 elements of 4 bits.
        let own = "each output channel has a table of its own, which adds 0.44 bits to the 4 of each \
                   element";
        assert_eq!(note(4, 1, &[192, 576]).as_deref(), Some(own));
        assert_eq!(note(4, 8, &[192, 576]), None);
        let prime = note(4, 8, &[191, 576, 1, 1]).unwrap();
        assert!(prime.starts_with("groups of 1 output channels, not 8"), "{prime}");
        assert!(prime.ends_with(own), "{prime}");
    }

    #[test]
    fn tables_that_are_left_to_measures_take_little() {
        let group = |bits, shape: &[u64]| lean(bits, shape).group.unwrap();
        assert_eq!([3, 4, 6, 8].map(|bits| group(bits, &[1536, 576])), [8, 8, 32, 128]);
        assert_eq!([3, 4, 6, 8].map(|bits| group(bits, &[576, 1536, 1, 1])), [8, 8, 16, 64]);
        assert_eq!([4, 6, 8].map(|bits| group(bits, &[4096, 4096])), [8, 8, 16]);
        // No more channels than there are, and whole groups.
        assert_eq!(
            [group(8, &[192, 64]), group(8, &[72, 576]), group(4, &[3, 1000])],
            [192, 72, 3]
        );
        for (bits, shape) in [(6, [1536, 576]), (8, [1536, 576]), (4, [512, 300])] {
            let group = group(bits, &shape);
            assert!((16 << bits) as f64 / (group * shape[1]) as f64 <= 1.0 / 16.0);
        }
    }

    #[test]
    fn divisors() {
        for number in 1..300 {
            for limit in 1..310 {
                let best = (1..=number.min(limit)).rev().find(|size| number % size == 0).unwrap();
                assert_eq!(largest_divisor(number, limit), best, "{number} {limit}");
            }
        }
        assert_eq!(largest_divisor(0, 8), 1);
        assert_eq!(largest_divisor(49152, u64::MAX), 49152);
        assert_eq!(largest_divisor(50257, 8), 1);
    }
}
