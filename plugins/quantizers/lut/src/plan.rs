//! Which weights get tables.

use crate::options::{Lut, Options};
use anemll_plugin_api::Value;
use anemll_plugin_api::data::{Decision, Plan, WeightInfo};
use serde_json::json;

/// Weights with this many elements or fewer stay float16, as in coremltools, whose
/// `weight_threshold` this is.
const SMALL: u64 = 2048;

/// A decision for every weight of a part that has tables.
pub(crate) fn plan(options: &Options, weights: &[WeightInfo]) -> Plan {
    let mut plan = Plan::default();
    for weight in weights {
        if let Some(lut) = part(options, weight) {
            plan.decisions.insert(weight.id.clone(), decide(lut, weight));
        }
    }
    plan
}

/// The tables of the part that a weight belongs to.
fn part(options: &Options, weight: &WeightInfo) -> Option<Lut> {
    let role = weight.role.as_str();
    if weight.shape.len() < 2 || role.ends_with(".bias") {
        return None;
    }
    match role {
        "embedding" => options.embeddings,
        "head" => options.head,
        _ if role.starts_with("attention.") || role.starts_with("mlp.") => options.layers,
        _ => None,
    }
}

fn decide(lut: Lut, weight: &WeightInfo) -> Decision {
    let elements = weight.shape.iter().try_fold(1_u64, |product, size| product.checked_mul(*size));
    if elements.is_some_and(|elements| elements <= SMALL) {
        return Decision {
            encode: false,
            parameters: Value::Null,
            note: Some(format!("stays float16, since it has no more than {SMALL} elements")),
        };
    }
    let channels = weight.shape[0];
    let group = lut.group.map(|group| largest_divisor(channels, group));
    let note = match (lut.group, group) {
        (Some(asked), Some(taken)) if taken != asked => Some(if asked > channels {
            format!("groups of {taken} output channels, not {asked}: there are no more")
        } else {
            format!("groups of {taken} output channels, not {asked}: {channels} is no multiple")
        }),
        _ => None,
    };
    Decision { encode: true, parameters: json!({ "bits": lut.bits, "group": group }), note }
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
