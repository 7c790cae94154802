//! Rotary frequencies and tables against those of transformers, from the configuration on.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use anemll_decoder::config::{Config, RopeRules, read_rope};
use anemll_decoder::rope::{Frequencies, frequencies};
use anemll_plugin_api::Value;

fn golden() -> Value {
    serde_json::from_str(include_str!("golden/rope.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn found(case: &Value) -> Frequencies {
    let config = Config::new(&case["config"]).unwrap();
    let longest = config.size("max_position_embeddings").unwrap().unwrap_or(2048);
    let rope = read_rope(&config, &RopeRules::new(longest, 1)).unwrap();
    frequencies(rope.base, config.required_size("head_dim").unwrap(), &rope.scaling).unwrap()
}

#[test]
fn frequencies_are_those_of_transformers() {
    let golden = golden();
    let cases = golden["cases"].as_array().unwrap();
    assert!(cases.len() >= 15);
    for case in cases {
        let (name, found) = (&case["name"], found(case));
        let wanted = numbers(&case["inverse"]);
        assert_eq!(found.inverse.len(), wanted.len(), "{name}");
        for (pair, (found, wanted)) in found.inverse.iter().zip(&wanted).enumerate() {
            let error = (f64::from(*found) - wanted).abs();
            assert!(error <= 1e-6 * wanted.abs(), "{name}, pair {pair}: {found} for {wanted}");
        }
        let wanted = case["attention_scaling"].as_f64().unwrap();
        assert!((found.attention_scaling - wanted).abs() <= 1e-12 * wanted, "{name}");
    }
}

#[test]
fn tables_are_those_of_transformers() {
    let golden = golden();
    let positions = numbers(&golden["positions"]);
    for case in golden["cases"].as_array().unwrap() {
        let (name, found) = (&case["name"], found(case));
        let tables = found.tables(1024).unwrap();
        let width = 2 * found.inverse.len();
        assert_eq!(tables.shape, [1, 1024, width as u64]);
        for (table, key) in [(&tables.cosine, "cosine"), (&tables.sine, "sine")] {
            let rows = case[key].as_array().unwrap();
            assert_eq!(rows.len(), positions.len());
            for (position, row) in positions.iter().zip(rows) {
                let start = *position as usize * width;
                let wanted = numbers(row);
                for (pair, wanted) in wanted.iter().enumerate() {
                    let values =
                        [start + pair, start + width / 2 + pair].map(|place| table[place].to_f64());
                    // Half a unit of float16, and what a unit of float32 in the frequency turns the
                    // angle by.
                    let bound = 0.000_5 * wanted.abs().max(6.2e-5) + 1.3e-7 * (position + 1.0);
                    for value in values {
                        let error = (value - wanted).abs();
                        assert!(
                            error <= bound,
                            "{name}, {key} of {position}, pair {pair}: {value} for {wanted}"
                        );
                    }
                }
            }
        }
    }
}
