//! The quantizer through its traits and through the plugin boundary.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_palettize::{BITS, unpack};
use anemll_plugin_api::data::{ArgumentType, Encoded, Knowledge, Outline, PlanRequest, WeightInfo};
use anemll_plugin_api::testing::{TestHost, check_plugin, options};
use anemll_plugin_api::{
    ComponentOptions, DType, Error, Host, LoadedPlugin, MemorySink, Plugin as _, Quantizer, Result,
    Tensor, Value, codes,
};
use anemll_quantizer_lut::LutPlugin;
use half::f16;
use serde_json::{Map, json};

/// The quantizer itself, and the same one behind the boundary.
fn both(options: &ComponentOptions) -> [Box<dyn Quantizer>; 2] {
    let loaded = LoadedPlugin::of::<LutPlugin>().unwrap();
    [LutPlugin::quantizer("lut", options).unwrap(), loaded.quantizer("lut", options).unwrap()]
}

fn values(count: usize, seed: u64) -> Vec<f16> {
    let mut state = seed;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1_u64 << 53) as f64 - 0.5
    };
    (0..count).map(|_| f16::from_f64((next() + next() + next()) * 0.2)).collect()
}

fn tensor(shape: &[u64], values: &[f16]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new("layer.weight", DType::FLOAT16, shape, bytes).unwrap()
}

fn floats(shape: &[u64], values: &[f32]) -> Tensor {
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    Tensor::new("statistics", DType::FLOAT32, shape, bytes).unwrap()
}

fn encode(
    quantizer: &dyn Quantizer,
    tensor: &Tensor,
    decision: &Value,
    statistics: Option<&Tensor>,
    host: &Host,
) -> Result<(Encoded, Vec<Tensor>)> {
    let mut sink = MemorySink::new();
    let statistics = statistics.map(|statistics| statistics.view().unwrap());
    let encoded =
        quantizer.encode(tensor.view().unwrap(), decision, statistics, &mut sink, host)?;
    Ok((encoded, sink.into_tensors()?))
}

fn refused(tensor: &Tensor, decision: &Value, statistics: Option<&Tensor>) -> Error {
    let [direct, loaded] = both(&ComponentOptions::new())
        .map(|it| encode(&*it, tensor, decision, statistics, &Host::quiet()).unwrap_err());
    assert_eq!(direct, loaded);
    direct
}

fn halves(tensor: &Tensor) -> Vec<f16> {
    tensor.bytes.as_chunks::<2>().0.iter().map(|bytes| f16::from_le_bytes(*bytes)).collect()
}

fn find<'a>(tensors: &'a [Tensor], name: &str) -> &'a Tensor {
    tensors.iter().find(|tensor| tensor.name == name).unwrap()
}

/// Weights as the operation gives them back: rows of a group share a table.
fn decode(tensors: &[Tensor]) -> Vec<f16> {
    let (indices, lut) = (find(tensors, "indices"), find(tensors, "lut"));
    let count = indices.shape.iter().product::<u64>() as usize;
    let bits = indices.dtype.bits().unwrap();
    let group = count / lut.shape[0] as usize;
    let entries = halves(lut);
    let unpacked = unpack(&indices.bytes, bits, count).unwrap();
    let entry = |at: usize| entries[at / group * (1 << bits) + usize::from(unpacked[at])];
    (0..count).map(entry).collect()
}

/// The least sum of squared errors with `count` entries, by trying all splits.
fn least_error(values: &[f16], count: usize) -> f64 {
    let mut sorted: Vec<f64> = values.iter().map(|value| value.to_f64()).collect();
    sorted.sort_by(f64::total_cmp);
    let cost = |start: usize, end: usize| {
        let part = &sorted[start..end];
        let mean = part.iter().sum::<f64>() / part.len() as f64;
        part.iter().map(|value| (value - mean).powi(2)).sum::<f64>()
    };
    let mut best: Vec<f64> =
        (0..=sorted.len()).map(|end| if end == 0 { 0.0 } else { cost(0, end) }).collect();
    for _ in 1..count {
        best = (0..=sorted.len())
            .map(|end| (0..end).map(|at| best[at] + cost(at, end)).fold(best[end], f64::min))
            .collect();
    }
    best[sorted.len()]
}

#[test]
fn the_plugin_keeps_the_rules() {
    check_plugin(&LoadedPlugin::of::<LutPlugin>().unwrap()).unwrap();
}

#[test]
fn shapes_dtypes_and_values_of_every_width_and_grouping() {
    let (rows, columns) = (24, 10);
    let values = values(rows * columns, 3);
    for bits in BITS {
        for (group, groups) in [(json!(8), 3), (json!(1), 24), (json!(24), 1), (Value::Null, 1)] {
            for shape in [vec![24, 10], vec![24, 10, 1, 1], vec![24, 5, 2]] {
                let tensor = tensor(&shape, &values);
                let decision = json!({"bits": bits, "group": group});
                let answers = both(&ComponentOptions::new())
                    .map(|it| encode(&*it, &tensor, &decision, None, &Host::quiet()).unwrap());
                assert_eq!(answers[0], answers[1]);
                let (encoded, tensors) = &answers[0];
                let written: Vec<_> = tensors.iter().map(|tensor| &*tensor.name).collect();
                assert_eq!(written, ["indices", "lut"]);
                assert_eq!(tensors[0].dtype.name(), format!("uint{bits}"));
                assert_eq!(tensors[0].shape, shape);
                assert_eq!(tensors[1].dtype, DType::FLOAT16);
                let mut expected = vec![1; shape.len() + 2];
                expected[0] = groups;
                expected[shape.len()] = 1 << bits;
                assert_eq!(tensors[1].shape, expected);

                let decoded = decode(tensors);
                let distance = |at: usize| (values[at].to_f64() - decoded[at].to_f64()).abs();
                let error = encoded.error.unwrap();
                let squared: f64 = (0..values.len()).map(|at| distance(at).powi(2)).sum();
                assert!((error.mean_squared - squared / 240.0).abs() < 1e-12);
                let largest = (0..values.len()).map(distance).fold(0.0, f64::max);
                assert_eq!(error.max_absolute, largest);
            }
        }
    }
}

#[test]
fn the_error_is_the_least_one() {
    let values = values(16 * 12, 17);
    let [quantizer, _] = both(&ComponentOptions::new());
    for (bits, group) in [(1, 4), (2, 8), (3, 16), (4, 8)] {
        let decision = json!({"bits": bits, "group": group});
        let tensor = tensor(&[16, 12], &values);
        let (encoded, _) = encode(&*quantizer, &tensor, &decision, None, &Host::quiet()).unwrap();
        let least: f64 =
            values.chunks(group * 12).map(|group| least_error(group, 1 << bits)).sum::<f64>();
        let found = encoded.error.unwrap().mean_squared * 192.0;
        // Entries are rounded to 16-bit floats below 0.5.
        let rounding = 192.0 * (0.5_f64 / 4096.0).powi(2);
        assert!(found >= least * (1.0 - 1e-9) && found <= least + rounding, "{found} {least}");
    }
}

#[test]
fn large_weights_are_the_same_for_any_threads() {
    // Several tasks, the last one smaller, and groups that are no whole bytes of indices.
    let (rows, columns) = (3 * 205, 1003);
    let values = values(rows * columns, 23);
    let tensor = tensor(&[rows as u64, columns as u64], &values);
    let decision = json!({"bits": 3, "group": 3});
    let [quantizer, loaded] = both(&ComponentOptions::new());
    let (_, threads) = TestHost::new();
    let one = encode(&*quantizer, &tensor, &decision, None, &Host::quiet()).unwrap();
    assert_eq!(one, encode(&*loaded, &tensor, &decision, None, &threads).unwrap());
    let palette = anemll_palettize::palettize(&values, columns, 3, 3, None).unwrap();
    assert_eq!(decode(&one.1), palette.decode(columns));
}

#[test]
fn equal_and_few_values_stay_as_they_are() {
    let [quantizer, _] = both(&ComponentOptions::new());
    for bits in BITS {
        let decision = json!({"bits": bits, "group": 8});
        let equal = vec![f16::from_f32(-0.7); 64];
        let (encoded, tensors) =
            encode(&*quantizer, &tensor(&[8, 8], &equal), &decision, None, &Host::quiet()).unwrap();
        assert_eq!(decode(&tensors), equal);
        assert!(halves(find(&tensors, "lut")).iter().all(|entry| *entry == equal[0]));
        assert_eq!(encoded.error.unwrap().max_absolute, 0.0);
        let two: Vec<f16> = (0..64).map(|at| f16::from_f32((at % 2) as f32)).collect();
        let (_, tensors) =
            encode(&*quantizer, &tensor(&[8, 8], &two), &decision, None, &Host::quiet()).unwrap();
        assert_eq!(decode(&tensors), two);
    }
}

#[test]
fn statistics_are_importances() {
    let values = values(8 * 16, 5);
    let tensor = tensor(&[8, 16, 1, 1], &values);
    let decision = json!({"bits": 2, "group": 8});
    let importance: Vec<f32> = (0..16).map(|at| if at < 4 { 100.0 } else { 0.01 }).collect();
    let mut square = vec![7.0; 256];
    for (at, value) in importance.iter().enumerate() {
        square[at * 17] = *value;
    }
    let [quantizer, loaded] = both(&ComponentOptions::new());
    let host = Host::quiet();
    let diagonal = floats(&[16], &importance);
    let full = floats(&[16, 16], &square);
    let plain = encode(&*quantizer, &tensor, &decision, None, &host).unwrap();
    let weighted = encode(&*quantizer, &tensor, &decision, Some(&diagonal), &host).unwrap();
    assert_eq!(weighted, encode(&*loaded, &tensor, &decision, Some(&full), &host).unwrap());
    let error = |(_, tensors): &(Encoded, Vec<Tensor>)| -> f64 {
        let decoded = decode(tensors);
        let each = |at: usize| (values[at].to_f64() - decoded[at].to_f64()).powi(2);
        (0..values.len()).map(|at| f64::from(importance[at % 16]) * each(at)).sum()
    };
    assert!(error(&weighted) < error(&plain) * 0.8, "{} {}", error(&weighted), error(&plain));

    for wrong in [floats(&[15], &importance[..15]), floats(&[256], &square)] {
        let error = refused(&tensor, &decision, Some(&wrong));
        assert_eq!(error.code, codes::PLUGIN_BAD_REQUEST);
        assert!(error.message.contains("layer.weight"), "{error}");
    }
    let mut negative = importance.clone();
    negative[3] = -1.0;
    let error = refused(&tensor, &decision, Some(&floats(&[16], &negative)));
    assert!(error.message.contains("column 3 is -1"), "{error}");
    let halves = Tensor::new("statistics", DType::FLOAT16, [16], vec![0; 32]).unwrap();
    let error = refused(&tensor, &decision, Some(&halves));
    assert!(error.message.contains("float16, not float32"), "{error}");
}

#[test]
fn values_that_are_not_finite_are_named_with_their_place() {
    for (value, name) in [(f16::NAN, "NaN"), (f16::INFINITY, "inf"), (f16::NEG_INFINITY, "-inf")] {
        let mut values = values(16 * 6, 5);
        values[11 * 6 + 4] = value;
        for (shape, place) in [
            (vec![16, 6], "[11, 4]"),
            (vec![16, 6, 1, 1], "[11, 4, 0, 0]"),
            (vec![16, 3, 2], "[11, 2, 0]"),
        ] {
            for group in [json!(4), Value::Null] {
                let tensor = tensor(&shape, &values);
                let error = refused(&tensor, &json!({"bits": 4, "group": group}), None);
                assert_eq!(error.code, codes::WEIGHT_NOT_FINITE);
                assert_eq!(
                    error.message,
                    format!("`layer.weight` has the value {name} at {place}")
                );
            }
        }
    }
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    let good = tensor(&[8, 6], &values(48, 5));
    for decision in [
        Value::Null,
        json!({}),
        json!("4"),
        json!({"bits": 5, "group": 8}),
        json!({"bits": 0, "group": 8}),
        json!({"bits": -4, "group": 8}),
        json!({"bits": 4, "group": 0}),
        json!({"bits": 4, "group": 3}),
        json!({"bits": 4, "group": 16}),
        json!({"bits": 4, "group": u64::MAX}),
    ] {
        let error = refused(&good, &decision, None);
        assert_eq!(error.code, codes::PLUGIN_BAD_REQUEST, "{decision}");
        assert!(error.message.contains("`layer.weight`"), "{error}");
    }
    let decision = json!({"bits": 4, "group": null});
    for other in [
        tensor(&[48], &values(48, 5)),
        tensor(&[], &values(1, 5)),
        tensor(&[0, 6], &[]),
        tensor(&[8, 0], &[]),
        floats(&[2, 2], &[1.0; 4]),
    ] {
        assert_eq!(refused(&other, &decision, None).code, codes::PLUGIN_BAD_REQUEST);
    }
}

#[test]
fn a_cancelled_host_is_obeyed() {
    let tensor = tensor(&[8, 6], &values(48, 5));
    let (test, host) = TestHost::new();
    test.cancel();
    for quantizer in both(&ComponentOptions::new()) {
        let decision = json!({"bits": 4, "group": 8});
        let error = encode(&*quantizer, &tensor, &decision, None, &host).unwrap_err();
        assert!(error.is_cancelled(), "{error}");
    }
}

fn weight(id: &str, role: &str, shape: &[u64]) -> WeightInfo {
    WeightInfo::new(id, "", role, shape)
}

#[test]
fn the_plan_takes_the_weights_of_each_part() {
    let weights = vec![
        weight("embedding", "embedding", &[1000, 64]),
        weight("q", "attention.q", &[64, 64, 1, 1]),
        weight("down", "mlp.down", &[64, 128, 1, 1]),
        weight("odd", "mlp.up", &[60, 64]),
        weight("few", "mlp.gate", &[4, 1000, 1, 1]),
        weight("prime", "attention.o", &[61, 64]),
        weight("head", "head", &[125, 64]),
        weight("small", "attention.k", &[32, 64, 1, 1]),
        weight("larger", "attention.v", &[2049, 1]),
        weight("gain", "norm.gain", &[1, 5000, 1, 1]),
        weight("bias", "attention.q.bias", &[5000, 1]),
        weight("vector", "mlp.down", &[5000]),
        weight("unknown", "table", &[5000, 64]),
        weight("convolved", "convolution.input", &[64, 64, 1, 1]),
        weight("taps", "convolution.kernel", &[1, 2048, 1, 3]),
    ];
    let options = options(json!({"embeddings": "8,tensor", "layers": "4", "head": "6,50"}));
    let request = PlanRequest::default().with_weights(weights);
    let [direct, loaded] = both(&options).map(|it| it.plan(&request, &Host::quiet()).unwrap());
    assert_eq!(direct, loaded);
    assert!(direct.transforms.is_empty());
    let mut found = Map::new();
    for (id, decision) in &direct.decisions {
        found.insert(
            id.clone(),
            json!([decision.encoding.is_some(), decision.parameters, decision.note.as_deref()]),
        );
    }
    let lut =
        |bits: u32, group: u64, note: Value| json!([true, {"bits": bits, "group": group}, note]);
    let alone = "groups of 1 output channels, not 8: 61 is not a multiple; each output channel has a \
                 table of its own, which adds 4.00 bits to the 4 of each element";
    assert_eq!(
        Value::Object(found),
        json!({
            "embedding": [true, {"bits": 8, "group": null}, null],
            "q": lut(4, 8, Value::Null),
            "down": lut(4, 8, Value::Null),
            "odd": lut(4, 6, json!("groups of 6 output channels, not 8: 60 is not a multiple")),
            "few": lut(4, 4, json!("groups of 4 output channels, not 8: there are no more")),
            "prime": lut(4, 1, json!(alone)),
            "head": lut(6, 25, json!("groups of 25 output channels, not 50: 125 is not a multiple")),
            "convolved": lut(4, 8, Value::Null),
            "small": [false, null, "stays float16, since it has no more than 2048 elements"],
            "larger": lut(4, 3, json!("groups of 3 output channels, not 8: 2049 is not a multiple")),
        })
    );
    let none = ComponentOptions::new().with("all", "none");
    let [none, _] = both(&none).map(|it| it.plan(&request, &Host::quiet()).unwrap());
    assert!(none.decisions.is_empty(), "the options are those of the constructor");
    // What is left open is decided by the conversion.
    let request = request.with_outline(Outline::new(5_000_000_000, 24));
    let [usual, _] =
        both(&ComponentOptions::new()).map(|it| it.plan(&request, &Host::quiet()).unwrap());
    assert_eq!(usual.decisions["q"].parameters["bits"], 4);
    assert_eq!(usual.decisions["head"].parameters["bits"], 8);
}

/// What is written is what was planned: the host compares, and sizes depend on it.
#[test]
fn the_plan_says_what_is_written() {
    let (rows, columns) = (60, 40);
    let tensor = tensor(&[rows, columns, 1, 1], &values(2400, 7));
    for bits in BITS {
        for group in ["7", "8", "60", "tensor"] {
            let options = options(json!({ "layers": format!("{bits},{group}") }));
            let weights = vec![weight("q", "attention.q", &[rows, columns, 1, 1])];
            let request = PlanRequest::default().with_weights(weights);
            for quantizer in both(&options) {
                let plan = quantizer.plan(&request, &Host::quiet()).unwrap();
                let decision = &plan.decisions["q"];
                let encoding = decision.encoding.as_ref().unwrap();
                assert_eq!(encoding.op, "constexpr_lut_to_dense");
                let (_, tensors) =
                    encode(&*quantizer, &tensor, &decision.parameters, None, &Host::quiet())
                        .unwrap();
                let written = tensors
                    .into_iter()
                    .map(|tensor| (tensor.name, ArgumentType::new(tensor.dtype, tensor.shape)));
                assert!(encoding.arguments.clone().into_iter().eq(written), "{bits} {group}");
            }
        }
    }
}

/// Rows of different sizes share a table by a factor each, which `output_scale` holds.
#[test]
fn factors_of_rows_make_one_table_do() {
    let (rows, columns) = (64_usize, 48_usize);
    let size = |row: usize| 1.3_f64.powi(row as i32 % 16 - 8);
    let values: Vec<f16> = values(rows * columns, 11)
        .iter()
        .enumerate()
        .map(|(at, value)| f16::from_f64(value.to_f64() * size(at / columns)))
        .collect();
    let tensor = tensor(&[rows as u64, columns as u64, 1, 1], &values);
    let weights = vec![
        weight("q", "attention.q", &[rows as u64, columns as u64, 1, 1]),
        weight("embedding", "embedding", &[rows as u64, columns as u64]),
    ];
    let request = PlanRequest::default().with_weights(weights);
    let mut errors = Vec::new();
    for form in ["4,tensor", "4,scale"] {
        let options = options(json!({ "layers": form, "embeddings": form }));
        for quantizer in both(&options) {
            let plan = quantizer.plan(&request, &Host::quiet()).unwrap();
            let decision = &plan.decisions["q"];
            assert_eq!(decision.output_scale, form == "4,scale");
            let (encoded, tensors) =
                encode(&*quantizer, &tensor, &decision.parameters, None, &Host::quiet()).unwrap();
            let find = |name: &str| tensors.iter().find(|tensor| tensor.name == name);
            let halves = |tensor: &Tensor| -> Vec<f64> {
                let bytes = tensor.bytes.as_chunks::<2>().0.iter();
                bytes.map(|bytes| f16::from_le_bytes(*bytes).to_f64()).collect()
            };
            let scales = match find("output_scale") {
                Some(scales) => {
                    assert_eq!((scales.dtype, &*scales.shape), (DType::FLOAT16, &[64][..]));
                    halves(scales)
                }
                None => vec![1.0; rows],
            };
            let (lut, indices) = (halves(find("lut").unwrap()), &find("indices").unwrap().bytes);
            let index = |at: usize| usize::from(indices[at / 2] >> (4 * (at % 2)) & 15);
            let mut squared = 0.0;
            for (at, value) in values.iter().enumerate() {
                squared += (value.to_f64() - lut[index(at)] * scales[at / columns]).powi(2);
            }
            let measured = encoded.error.unwrap().mean_squared * values.len() as f64;
            assert!((measured / squared - 1.0).abs() < 1e-6, "{measured} {squared}");
            errors.push(squared);

            // What is looked up is not multiplied: it has groups instead, and a remark.
            let embedding = &plan.decisions["embedding"];
            assert!(!embedding.output_scale);
            let note = embedding.note.as_deref();
            assert_eq!(note.is_some_and(|note| note.contains("looked up")), form == "4,scale");
        }
    }
    assert!(errors[2] < 0.8 * errors[0], "{errors:?}");
}

/// What vectors give back, of indices of four bits for two rows each.
fn decode_pairs(tensors: &[Tensor], columns: usize) -> Vec<f64> {
    let lut = halves(find(tensors, "lut"));
    let scales = halves(find(tensors, "output_scale"));
    let indices = &find(tensors, "indices").bytes;
    (0..scales.len() * columns)
        .map(|at| {
            let (row, column) = (at / columns, at % columns);
            let place = row / 2 * columns + column;
            let index = usize::from(indices[place / 2] >> (4 * (place % 2)) & 15);
            lut[index * 2 + row % 2].to_f64() * scales[row].to_f64()
        })
        .collect()
}

/// One index of four bits for two output channels: two bits a weight that lose less than two bits
/// for each.
#[test]
fn vectors_are_for_two_channels_each() {
    let (rows, columns) = (96_usize, 64_usize);
    let values = values(rows * columns, 31);
    let tensor = tensor(&[rows as u64, columns as u64, 1, 1], &values);
    let full = floats(&[columns as u64; 2], &products(columns));
    let weights = vec![
        weight("q", "attention.q", &[rows as u64, columns as u64, 1, 1]),
        weight("odd", "attention.k", &[95, columns as u64, 1, 1]),
        weight("embedding", "embedding", &[rows as u64, columns as u64]),
    ];
    let request = PlanRequest::default().with_weights(weights);
    let plain = |decoded: &[f64]| -> f64 {
        values.iter().zip(decoded).map(|(a, b)| (a.to_f64() - b).powi(2)).sum()
    };
    let of_products = products(columns);
    let lost_products = |decoded: &[f64]| loss(&values, decoded, &of_products);
    let loaded = LoadedPlugin::of::<LutPlugin>().unwrap();
    let given = options(json!({"layers": "2,vector", "embeddings": "2,vector"}));
    for id in ["lut", "lut-aware"] {
        let direct = LutPlugin::quantizer(id, &given).unwrap();
        let plan = direct.plan(&request, &Host::quiet()).unwrap();
        assert_eq!(
            plan,
            loaded.quantizer(id, &given).unwrap().plan(&request, &Host::quiet()).unwrap()
        );
        let decision = &plan.decisions["q"];
        let encoding = decision.encoding.as_ref().unwrap();
        assert!(decision.output_scale);
        assert_eq!(encoding.settings["vector_axis"], 0);
        let (indices, lut) = (&encoding.arguments["indices"], &encoding.arguments["lut"]);
        assert_eq!((indices.dtype.name(), &*indices.shape), ("uint4", &[48, 64, 1, 1][..]));
        assert_eq!(lut.shape, [1, 1, 1, 1, 16, 2]);
        // Without pairs, and where rows are looked up, there are none.
        let odd = &plan.decisions["odd"];
        assert!(odd.encoding.as_ref().unwrap().settings.is_empty() && odd.output_scale);
        assert!(odd.note.as_ref().unwrap().contains("95 channels make no pairs"));
        let embedding = &plan.decisions["embedding"];
        assert_eq!(embedding.parameters, json!({"bits": 2, "group": 8}));

        let single = json!({"bits": 2, "group": null, "scale": true});
        for statistics in [None, Some(&full)] {
            let of = |parameters: &Value| {
                encode(&*direct, &tensor, parameters, statistics, &Host::quiet()).unwrap()
            };
            let (encoded, tensors) = of(&decision.parameters);
            let squared = plain(&decode_pairs(&tensors, columns));
            let measured = encoded.error.unwrap().mean_squared * values.len() as f64;
            assert!((measured / squared - 1.0).abs() < 1e-6, "{measured} {squared}");
            let alone = of(&single).1;
            let scales = halves(find(&alone, "output_scale"));
            let alone: Vec<f64> = decode(&alone)
                .iter()
                .enumerate()
                .map(|(at, entry)| entry.to_f64() * scales[at / columns].to_f64())
                .collect();
            let lost = |decoded: &[f64]| match (id, statistics) {
                ("lut-aware", Some(_)) => lost_products(decoded),
                _ => plain(decoded),
            };
            let (pairs, single) = (lost(&decode_pairs(&tensors, columns)), lost(&alone));
            assert!(pairs < single, "{id} {}: {pairs} {single}", statistics.is_some());
        }
    }
    let wrong = json!({"bits": 2, "group": null, "scale": true, "vector": true});
    let odd = self::tensor(&[3, 64], &self::values(3 * 64, 1));
    assert!(
        refused(&odd, &wrong, None)
            .message
            .contains("an even number of output channels, and it has 3")
    );
    let grouped = json!({"bits": 2, "group": 8, "scale": true, "vector": true});
    assert!(refused(&tensor, &grouped, None).message.contains("vectors have one table"));
    for (given, refused) in [
        (json!({"layers": "2,vector", "method": "lnq"}), true),
        (json!({"layers": "2,vector", "method": "gptq"}), false),
        (json!({"layers": "2,vector"}), false),
        (json!({"layers": "2,scale", "method": "lnq"}), false),
    ] {
        let made = LutPlugin::quantizer("lut-aware", &options(given));
        let code = made.err().map(|error| error.code);
        assert_eq!(code.as_deref(), refused.then_some(codes::PLUGIN_OPTION_INVALID));
    }
    let wide = json!({"bits": 4, "group": null, "scale": true, "vector": true});
    assert!(refused(&tensor, &wide, None).message.contains("1, 2 or 3 bits, not 4"));
}

/// Fewer tokens say less: more is added to the mean squares, unless the user has said how much.
#[test]
fn damping_follows_the_number_of_tokens() {
    let weights = vec![
        weight("q", "attention.q", &[64, 96, 1, 1]).with_statistics(true),
        weight("k", "attention.k", &[64, 96, 1, 1]),
    ];
    let plan = |id: &str, given: Value, tokens: u64| {
        let request = PlanRequest::default()
            .with_outline(Outline::default().with_tokens(tokens))
            .with_weights(weights.clone());
        let quantizer = LutPlugin::quantizer(id, &options(given)).unwrap();
        quantizer.plan(&request, &Host::quiet()).unwrap().decisions
    };
    let plain = json!({"bits": 4, "group": 8});
    let few = plan("lut-aware", json!({"layers": "4"}), 960);
    assert_eq!(few["q"].parameters, json!({"bits": 4, "group": 8, "damping": 0.1}));
    assert_eq!(few["k"].parameters, plain);
    for (id, given, tokens) in [
        ("lut-aware", json!({"layers": "4"}), 0),
        ("lut-aware", json!({"layers": "4", "damping": 0.3}), 960),
        ("lut-aware", json!({"layers": "4", "method": "diagonal"}), 960),
        ("lut", json!({"layers": "4"}), 960),
    ] {
        assert_eq!(plan(id, given, tokens)["q"].parameters, plain);
    }
    // What the plan says is what is done.
    let tensor = tensor(&[64, 96, 1, 1], &values(64 * 96, 77));
    let full = floats(&[96, 96], &products(96));
    let made = |given: Value, parameters: &Value| {
        let quantizer = LutPlugin::quantizer("lut-aware", &options(given)).unwrap();
        encode(&*quantizer, &tensor, parameters, Some(&full), &Host::quiet()).unwrap()
    };
    let by_plan = made(json!({"layers": "4"}), &few["q"].parameters);
    assert_eq!(by_plan, made(json!({"layers": "4", "damping": 0.1}), &plain));
    assert_ne!(by_plan, made(json!({"layers": "4"}), &plain));
}

#[test]
fn a_group_that_suits_no_weight_of_its_part_is_refused() {
    let weights = vec![
        weight("embedding", "embedding", &[1000, 64]),
        weight("q", "attention.q", &[64, 64, 1, 1]),
        weight("k", "attention.k", &[32, 128]),
        // Too small for tables, and so for groups.
        weight("small", "mlp.up", &[512, 4]),
        weight("head", "head", &[125, 64]),
    ];
    let request = PlanRequest::default().with_weights(weights);
    for (tables, name, most) in [
        (json!({"layers": "4,65"}), "layers", "64"),
        (json!({"head": "4,126", "layers": "4"}), "head", "125"),
        (json!({"embeddings": "8,18446744073709551615"}), "embeddings", "1000"),
    ] {
        for quantizer in both(&options(tables)) {
            let error = quantizer.plan(&request, &Host::quiet()).unwrap_err();
            assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
            assert_eq!(error.at.as_deref(), Some(name));
            assert!(error.hint.unwrap().contains(&format!("largest group is {most};")));
        }
    }
    // Some weights have the channels; the others take what they have.
    let [quantizer, _] = both(&options(json!({"layers": "4,64"})));
    let plan = quantizer.plan(&request, &Host::quiet()).unwrap();
    assert_eq!(plan.decisions["k"].parameters["group"], 32);
    assert!(plan.decisions["k"].note.as_ref().unwrap().contains("there are no more"));
}

#[test]
fn options_that_do_not_suit_are_refused() {
    let loaded = LoadedPlugin::of::<LutPlugin>().unwrap();
    for (name, text) in [("layers", "5"), ("head", "4,x"), ("embeddings", "4,-8"), ("layers", "")] {
        let error = loaded.quantizer("lut", &options(json!({ name: text }))).err().unwrap();
        assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
        assert_eq!(error.at.as_deref(), Some(name));
        assert!(error.hint.unwrap().contains("1, 2, 3, 4, 6 or 8"));
    }
    for wrong in [json!({"layers": 4}), json!({"bits": "4"}), json!({"layers": null})] {
        let error = loaded.quantizer("lut", &options(wrong)).err().unwrap();
        assert_eq!(error.code, codes::PLUGIN_OPTION_INVALID);
    }
}

/// Mean products of inputs of which each depends on the one before it.
fn products(columns: usize) -> Vec<f32> {
    let size = |at: usize| 1.0 + (at % 5) as f32;
    (0..columns * columns)
        .map(|at| {
            let (row, column) = (at / columns, at % columns);
            size(row) * size(column) * 0.8_f32.powi(row.abs_diff(column) as i32)
        })
        .collect()
}

/// What is lost of the products with inputs that have these mean products, two by two.
fn loss(values: &[f16], decoded: &[f64], products: &[f32]) -> f64 {
    let columns = products.len().isqrt();
    let rest: Vec<f64> = values.iter().zip(decoded).map(|(a, b)| a.to_f64() - b).collect();
    let line = |row: &[f64], at: usize| -> f64 {
        let products = &products[at * columns..(at + 1) * columns];
        products.iter().zip(row).map(|(product, rest)| f64::from(*product) * rest).sum()
    };
    let row = |row: &[f64]| -> f64 { (0..columns).map(|at| row[at] * line(row, at)).sum() };
    rest.chunks_exact(columns).map(row).sum()
}

/// Several tasks, so that rows of later pieces count, too.
#[test]
fn moments_lower_the_error_of_products_and_threads_change_nothing() {
    let (rows, columns) = (8 * 500, 96);
    let values = values(rows * columns, 3);
    let tensor = tensor(&[rows as u64, columns as u64, 1, 1], &values);
    let decision = json!({"bits": 3, "group": 8});
    let products = products(columns);
    let full = floats(&[columns as u64; 2], &products);
    let lost = |(_, tensors): &(Encoded, Vec<Tensor>)| {
        let decoded: Vec<f64> = decode(tensors).iter().map(|value| value.to_f64()).collect();
        loss(&values, &decoded, &products)
    };
    let loaded = LoadedPlugin::of::<LutPlugin>().unwrap();
    let (_, threads) = TestHost::new();
    let [plain, _] = both(&ComponentOptions::new());
    let plain = encode(&*plain, &tensor, &decision, Some(&full), &Host::quiet()).unwrap();
    for method in ["gptq", "lnq"] {
        let options = ComponentOptions::new().with("method", method);
        let aware = LutPlugin::quantizer("lut-aware", &options).unwrap();
        let one = encode(&*aware, &tensor, &decision, Some(&full), &Host::quiet()).unwrap();
        let other = loaded.quantizer("lut-aware", &options).unwrap();
        assert_eq!(one, encode(&*other, &tensor, &decision, Some(&full), &threads).unwrap());
        assert!(lost(&one) < 0.7 * lost(&plain), "{method}: {} {}", lost(&one), lost(&plain));
    }
}

#[test]
fn what_statistics_lack_is_said_and_not_done_without() {
    let values = values(8 * 16, 5);
    let tensor = tensor(&[8, 16], &values);
    let decision = json!({"bits": 4, "group": 8});
    let squares = floats(&[16], &[1.0; 16]);
    let host = Host::quiet();
    let of = |given: Value| LutPlugin::quantizer("lut-aware", &options(given)).unwrap();
    let demanding = of(json!({"layers": "4", "method": "gptq"}));
    let error = encode(&*demanding, &tensor, &decision, Some(&squares), &host).unwrap_err();
    assert!(error.message.contains("mean products of every two inputs"), "{error}");
    let scheme = demanding.scheme(&Outline::default()).unwrap();
    assert_eq!((scheme.statistics, scheme.needs_statistics), (Knowledge::Products, true));
    // Through the manifest: no default stands in the way of the method.
    let loaded = LoadedPlugin::of::<LutPlugin>().unwrap();
    let diagonal = loaded.quantizer("lut-aware", &options(json!({"method": "diagonal"}))).unwrap();
    let [lut, _] = both(&ComponentOptions::new());
    assert_eq!(
        encode(&*diagonal, &tensor, &decision, Some(&squares), &host).unwrap(),
        encode(&*lut, &tensor, &decision, Some(&squares), &host).unwrap()
    );
    // Where no method is asked for, it is the best that the statistics allow.
    let any = of(json!({"layers": "4"}));
    let scheme = any.scheme(&Outline::default()).unwrap();
    assert_eq!((scheme.statistics, scheme.needs_statistics), (Knowledge::Products, false));
    for known in [None, Some(&squares)] {
        assert_eq!(
            encode(&*any, &tensor, &decision, known, &host).unwrap(),
            encode(&*lut, &tensor, &decision, known, &host).unwrap()
        );
    }
}
