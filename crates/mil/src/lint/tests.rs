//! Every rule has a model that breaks it and one, as close as possible, that does not.

use super::*;
use crate::{
    DataType, DescriptionOptions, Dimension, FunctionBuilder, TensorType, ValueType, Var,
    function_model, literal,
};
use coreml_proto::mil;

fn half(shape: &[u64]) -> TensorType {
    TensorType::new(DataType::Float16, shape)
}

fn build(make: impl FnOnce(&mut FunctionBuilder) -> Var) -> Model {
    let mut builder = FunctionBuilder::new();
    let output = make(&mut builder);
    let function = builder.finish(&[output]).unwrap();
    // Sizes that only lint sees need no description that agrees; unknown ones need shapes.
    let enumerated_shapes = [("flexible".to_owned(), vec![vec![1, 64], vec![1, 128]])].into();
    let flexible = function.inputs.iter().any(|input| input.name == "flexible");
    let with_shapes = DescriptionOptions { enumerated_shapes, ..Default::default() };
    let options = if flexible { with_shapes } else { DescriptionOptions::default() };
    function_model(function, &options).unwrap()
}

/// One input, and what is made of it.
fn unary(shape: &[u64], make: impl FnOnce(&mut FunctionBuilder, Var) -> Var) -> Model {
    build(|b| {
        let x = b.input("x", half(shape)).unwrap();
        make(b, x)
    })
}

fn copy(shape: &[u64]) -> Model {
    unary(shape, |b, x| b.relu(x).unwrap())
}

/// A value by reference, of any type and shape.
fn stored(kind: DataType, shape: &[u64], offset: u64) -> mil::Value {
    literal::blob_value(&TensorType::new(kind, shape), "weight.bin", offset)
}

fn dense(b: &mut FunctionBuilder, name: &str, shape: &[u64]) -> Var {
    b.constant(Some(name), stored(DataType::Float16, shape, 64)).unwrap()
}

fn palette(b: &mut FunctionBuilder, shape: &[u64], lut: (DataType, &[u64])) -> Var {
    b.op1(
        "constexpr_lut_to_dense",
        vec![
            ("indices", stored(DataType::UInt4, shape, 64).into()),
            ("lut", stored(lut.0, lut.1, 128).into()),
        ],
    )
    .unwrap()
}

/// A linear layer over a palettized weight (64, 64).
fn palettized(lut: (DataType, &[u64])) -> Model {
    unary(&[1, 64], |b, x| {
        let weight = palette(b, &[64, 64], lut);
        match lut.0 {
            DataType::Float16 => b.linear(x, weight, None).unwrap(),
            // A table of another type makes no fp16 weight: the weight itself is the result.
            _ => {
                let half = b.cast(weight, DataType::Float16).unwrap();
                b.linear(x, half, None).unwrap_err();
                half
            }
        }
    })
}

/// A linear layer over a weight (64, 64) of vectors.
fn vectors(lut: &[u64], axis: i32) -> Model {
    let mut indices = [64_u64, 64];
    indices[axis as usize] /= lut[lut.len() - 1];
    unary(&[1, 64], |b, x| {
        let axis = b.scalar_i32(axis).unwrap();
        let arguments = vec![
            ("indices", stored(DataType::UInt4, &indices, 64).into()),
            ("lut", stored(DataType::Float16, lut, 128).into()),
            ("vector_axis", axis.into()),
        ];
        let weight = b.op1("constexpr_lut_to_dense", arguments).unwrap();
        b.linear(x, weight, None).unwrap()
    })
}

fn scaled(data: (DataType, &[u64]), scale: &[u64]) -> Model {
    unary(&[1, 64], |b, x| {
        let weight = b
            .op1(
                "constexpr_blockwise_shift_scale",
                vec![
                    ("data", stored(data.0, data.1, 64).into()),
                    ("scale", stored(DataType::Float16, scale, 128).into()),
                ],
            )
            .unwrap();
        b.linear(x, weight, None).unwrap()
    })
}

/// How a fixture treats its state.
#[derive(Clone, Copy, PartialEq)]
enum Update {
    Canonical,
    Reshaped,
    Stale,
    Reused,
    NoSlice,
}

/// A state of this shape, `tokens` of which are written.
fn stateful(shape: &[u64], tokens: u64, update: Update) -> Model {
    build(|b| {
        let state = b.state("cache", half(shape)).unwrap();
        let mut part = shape.to_vec();
        let place = part.len() - 2;
        part[place] = tokens;
        let x = b.input("x", half(&part)).unwrap();
        let old = b.read_state(state).unwrap();
        let base = match update {
            Update::Reshaped => {
                let sizes: Vec<i64> = shape.iter().map(|size| *size as i64).collect();
                b.reshape(old, &sizes).unwrap()
            }
            _ => old,
        };
        let begin = b.vector_i32(&vec![0; shape.len()]).unwrap();
        let end: Vec<i32> = part.iter().map(|size| *size as i32).collect();
        let end = b.vector_i32(&end).unwrap();
        let new = match update {
            Update::NoSlice => b.relu(old).unwrap(),
            _ => b.slice_update(base, x, begin, end, &[], &[]).unwrap(),
        };
        b.write_state(state, new).unwrap();
        let read = b.read_state(state).unwrap();
        match update {
            Update::Stale => b.add(read, old).unwrap(),
            Update::Reused => b.add(read, new).unwrap(),
            _ => b.relu(read).unwrap(),
        }
    })
}

const CACHE: &[u64] = &[2, 1, 128, 64];

fn good_state() -> Model {
    stateful(CACHE, 4, Update::Canonical)
}

fn states(count: usize) -> Model {
    unary(&[1, 64], |b, x| {
        let mut sum = x;
        for index in 0..count {
            let state = b.state(&format!("s{index}"), half(&[1, 64])).unwrap();
            let read = b.read_state(state).unwrap();
            sum = b.add(sum, read).unwrap();
        }
        sum
    })
}

fn softmaxes(count: usize) -> Model {
    unary(&[1, 64], |b, x| (0..count).fold(x, |x, _| b.softmax(x, -1).unwrap()))
}

fn masked(value: f32, softmax: bool) -> Model {
    unary(&[1, 64], |b, x| {
        let mask = b.scalar_f16(value).unwrap();
        let sum = b.add(x, mask).unwrap();
        if softmax { b.softmax(sum, -1).unwrap() } else { sum }
    })
}

fn convolution(outputs: u64, inputs: u64) -> Model {
    unary(&[1, inputs, 1, 32], |b, x| {
        let weight = dense(b, "w", &[outputs, inputs, 1, 1]);
        b.conv1x1(x, weight, None).unwrap()
    })
}

fn mixed(compress_both: bool) -> Model {
    unary(&[1, 64], |b, x| {
        let first = palette(b, &[64, 64], (DataType::Float16, &[8, 1, 16, 1]));
        let second = if compress_both {
            palette(b, &[64, 64], (DataType::Float16, &[8, 1, 16, 1]))
        } else {
            dense(b, "w", &[64, 64])
        };
        let x = b.linear(x, first, None).unwrap();
        b.linear(x, second, None).unwrap()
    })
}

fn rotary(attention: bool) -> Model {
    build(|b| {
        let table = dense(b, "cos", &[512, 64]);
        let position = b.input("position", TensorType::new(DataType::Int32, &[1])).unwrap();
        let row = b.gather(table, position, 0).unwrap();
        if attention { b.softmax(row, -1).unwrap() } else { b.relu(row).unwrap() }
    })
}

/// Two functions whose weights stand at these offsets, and whose states have these lengths.
fn pair(offsets: [u64; 2], lengths: [u64; 2]) -> Model {
    let one = |offset: u64, length: u64| {
        unary(&[1, 64], |b, x| {
            let state = b.state("cache", half(&[1, length, 64])).unwrap();
            let value = stored(DataType::Float16, &[64, 64], offset);
            let weight = b.constant(Some("w"), value).unwrap();
            let y = b.linear(x, weight, None).unwrap();
            let read = b.read_state(state).unwrap();
            b.add(read, y).unwrap()
        })
    };
    let mut first = one(offsets[0], lengths[0]);
    let mut second = one(offsets[1], lengths[1]);
    let function = crate::model::program_mut(&mut second).unwrap().functions.remove("main");
    let functions = &mut crate::model::program_mut(&mut first).unwrap().functions;
    functions.insert("other".to_owned(), function.unwrap());
    first
}

fn single_state(kind: DataType) -> Model {
    let mut model = good_state();
    let program = crate::model::program_mut(&mut model).unwrap();
    let inputs = &mut program.functions.get_mut("main").unwrap().inputs;
    let kind = ValueType::State(TensorType::new(kind, CACHE));
    inputs.iter_mut().find(|input| input.name == "cache").unwrap().r#type = Some(kind.to_proto());
    model
}

fn scores(x: &[u64], y: &[u64]) -> Model {
    build(|b| {
        let x = b.input("x", half(x)).unwrap();
        let y = b.input("y", half(y)).unwrap();
        b.matmul(x, y, false, false).unwrap()
    })
}

fn norm(plain: bool) -> Model {
    unary(&[1, 64], |b, x| {
        if !plain {
            return b.layer_norm(x, &[-1], 1e-5).unwrap();
        }
        let square = b.square(x).unwrap();
        let mean = b.reduce_mean(square, &[-1], true).unwrap();
        let epsilon = b.scalar_f16(1e-5).unwrap();
        let sum = b.add(mean, epsilon).unwrap();
        let root = b.rsqrt(sum, 1e-5).unwrap();
        b.mul(x, root).unwrap()
    })
}

fn repeated(from_state: bool) -> Model {
    build(|b| {
        let state = b.state("cache", half(&[1, 1, 32, 64])).unwrap();
        let x = b.input("x", half(&[1, 1, 32, 64])).unwrap();
        let read = b.read_state(state).unwrap();
        let source = if from_state { read } else { x };
        let tiled = b.tile(source, &[1, 3, 1, 1]).unwrap();
        b.add(tiled, read).unwrap()
    })
}

fn scaled_scores(by_constant: bool) -> Model {
    build(|b| {
        let x = b.input("x", half(&[1, 32, 32])).unwrap();
        let product = b.matmul(x, x, false, false).unwrap();
        let scale = if by_constant { b.scalar_f16(0.125).unwrap() } else { x };
        b.mul(product, scale).unwrap()
    })
}

fn integers(compute: bool) -> Model {
    build(|b| {
        let x = b.input("x", TensorType::new(DataType::Int32, &[4])).unwrap();
        let one = b.scalar_i32(1).unwrap();
        if compute { b.add(x, one).unwrap() } else { b.reshape(x, &[2, 2]).unwrap() }
    })
}

fn casted(from: DataType, to: DataType) -> Model {
    build(|b| {
        let x = b.input("x", TensorType::new(from, &[64])).unwrap();
        let y = b.cast(x, to).unwrap();
        // Models give fp16, fp32 and int32 only.
        if matches!(to, DataType::Int16) { b.cast(y, DataType::Int32).unwrap() } else { y }
    })
}

fn flexible(unknown: bool) -> Model {
    build(|b| {
        let length = if unknown { b.symbol() } else { Dimension::Fixed(64) };
        let kind = TensorType::with_shape(DataType::Float16, vec![Dimension::Fixed(1), length]);
        let name = if unknown { "flexible" } else { "x" };
        let x = b.input(name, kind).unwrap();
        b.relu(x).unwrap()
    })
}

fn long(inner: u64) -> Model {
    unary(&[1, inner], |b, x| {
        let weight = dense(b, "w", &[4, inner]);
        b.linear(x, weight, None).unwrap()
    })
}

fn high_rank(shape: &[i64]) -> Model {
    unary(&[64, 64], |b, x| {
        let high = b.reshape(x, shape).unwrap();
        let high = b.relu(high).unwrap();
        b.reshape(high, &[64, 64]).unwrap()
    })
}

fn epsilon(value: f32) -> Model {
    unary(&[64], |b, x| b.rsqrt(x, value).unwrap())
}

/// Rule, severity of its finding, a model that breaks it, one that does not, bytes of both.
type Case = (&'static str, Severity, Model, Model, [u64; 2]);

fn cases() -> Vec<Case> {
    use Severity::{Error, Note, Performance, Warning};
    let case = |rule, severity, bad, good| (rule, severity, bad, good, [0, 0]);
    let lut = |shape| palettized((DataType::Float16, shape));
    vec![
        case("ANE-001", Error, high_rank(&[2, 2, 2, 2, 4, 64]), high_rank(&[2, 2, 4, 4, 64])),
        case("ANE-003", Performance, copy(&[1, 48]), copy(&[1, 64])),
        case("ANE-003", Warning, copy(&[64, 16]), copy(&[16, 64])),
        case("ANE-005", Error, copy(&[1, 1, 1, 20_480]), copy(&[1, 20_480, 1, 32])),
        case("ANE-007", Warning, long(20_480), long(2048)),
        case("ANE-010", Warning, flexible(true), flexible(false)),
        case("ANE-013", Performance, copy(&[1, 2048, 1, 1]), copy(&[1, 2048, 1, 32])),
        case(
            "ANE-014",
            Performance,
            scores(&[1, 1, 64, 32], &[1, 1, 32, 1]),
            scores(&[1, 1, 1, 32], &[1, 1, 32, 64]),
        ),
        case("ANE-015", Warning, casted(DataType::Float16, DataType::Float32), copy(&[64])),
        case("ANE-016", Performance, casted(DataType::Float16, DataType::Float32), copy(&[64])),
        case("ANE-017", Warning, integers(true), integers(false)),
        case(
            "ANE-020",
            Note,
            casted(DataType::Int32, DataType::Float16),
            casted(DataType::Int32, DataType::Int16),
        ),
        case(
            "ANE-025",
            Warning,
            unary(&[64], |b, x| {
                let axis = b.scalar_i32(0).unwrap();
                b.op1("cumsum", vec![("x", x.into()), ("axis", axis.into())]).unwrap()
            }),
            copy(&[64]),
        ),
        case("ANE-025", Warning, rotary(false), copy(&[64])),
        case(
            "ANE-027",
            Warning,
            unary(&[4, 64], |b, x| {
                let begin = b.vector_i32(&[0, 0]).unwrap();
                let end = b.vector_i32(&[4, 64]).unwrap();
                b.slice_update(x, x, begin, end, &[], &[]).unwrap()
            }),
            good_state(),
        ),
        case("ANE-028", Performance, repeated(true), repeated(false)),
        case("ANE-036", Performance, scaled_scores(true), scaled_scores(false)),
        case("ANE-040", Warning, stateful(&[2, 128, 64], 4, Update::Canonical), good_state()),
        case("ANE-041", Error, stateful(&[2, 1, 64, 48], 4, Update::Canonical), good_state()),
        case("ANE-042", Error, stateful(CACHE, 4, Update::NoSlice), good_state()),
        case("ANE-042", Error, stateful(CACHE, 4, Update::Stale), good_state()),
        case("ANE-042", Error, stateful(CACHE, 128, Update::Reused), good_state()),
        case("ANE-043", Error, stateful(CACHE, 4, Update::Reshaped), good_state()),
        case("ANE-045", Error, single_state(DataType::Int8), single_state(DataType::Float16)),
        case("ANE-046", Warning, states(2), states(1)),
        case("ANE-046", Error, states(3), states(1)),
        // Whole rows are no tokens.
        case(
            "ANE-047",
            Warning,
            stateful(&[2, 1, 256, 64], 128, Update::Canonical),
            stateful(CACHE, 128, Update::Canonical),
        ),
        case("ANE-053", Error, norm(true), norm(false)),
        case("ANE-055", Error, masked(f32::NEG_INFINITY, true), masked(-1e4, true)),
        case(
            "ANE-060",
            Error,
            palettized((DataType::Float32, &[8, 1, 16, 1])),
            lut(&[8, 1, 16, 1]),
        ),
        case("ANE-060", Warning, vectors(&[1, 1, 16, 2], 0), lut(&[1, 1, 16, 1])),
        case("ANE-060", Error, vectors(&[2, 1, 16, 2], 0), lut(&[1, 1, 16, 1])),
        case("ANE-060", Error, vectors(&[1, 1, 16, 2], 1), lut(&[1, 1, 16, 1])),
        case("ANE-060", Error, vectors(&[1, 1, 16, 32], 0), lut(&[1, 1, 16, 1])),
        case("ANE-061", Error, lut(&[32, 1, 16, 1]), lut(&[8, 1, 16, 1])),
        case("ANE-061", Performance, lut(&[16, 1, 16, 1]), lut(&[1, 1, 16, 1])),
        case("ANE-062", Error, lut(&[1, 2, 16, 1]), lut(&[8, 1, 16, 1])),
        case(
            "ANE-063",
            Error,
            scaled((DataType::Int8, &[64, 64]), &[64, 2]),
            scaled((DataType::Int8, &[64, 64]), &[64, 1]),
        ),
        case(
            "ANE-066",
            Error,
            scaled((DataType::Float16, &[64, 64]), &[64, 1]),
            scaled((DataType::Int8, &[64, 64]), &[64, 1]),
        ),
        case("ANE-068", Note, mixed(false), mixed(true)),
        ("ANE-071", Error, copy(&[64]), copy(&[64]), [1 << 31, 1_000_000]),
        ("ANE-071", Warning, copy(&[64]), copy(&[64]), [960_000_000, 949_000_000]),
        case("ANE-080", Warning, softmaxes(21), softmaxes(20)),
        case("ANE-080", Error, softmaxes(29), softmaxes(2)),
        ("ANE-081", Performance, copy(&[64]), copy(&[64]), [900_000_000, 800_000_000]),
        case("ANE-081", Performance, softmaxes(21), softmaxes(20)),
        case("ANE-085", Error, pair([64, 128], [32, 32]), pair([64, 64], [32, 32])),
        case("ANE-086", Error, pair([64, 64], [32, 64]), pair([64, 64], [32, 32])),
        case("ANE-094", Error, masked(f32::INFINITY, false), masked(65_504.0, false)),
        case("ANE-094", Error, epsilon(1e-9), epsilon(1e-7)),
        case("ANE-096", Performance, rotary(true), rotary(false)),
        case("ANE-099", Performance, convolution(2048, 4096), convolution(2016, 4096)),
    ]
}

#[test]
fn every_rule_finds_what_breaks_it_and_nothing_else() {
    let mut covered = Vec::new();
    for (place, (rule, severity, bad, good, bytes)) in cases().into_iter().enumerate() {
        let found = lint(&bad, bytes[0]);
        let matching: Vec<_> = found.iter().filter(|finding| finding.rule == rule).collect();
        assert!(!matching.is_empty(), "case {place}: {rule} finds nothing");
        assert!(
            matching.iter().all(|finding| finding.severity == severity),
            "case {place}: {matching:?}"
        );
        assert!(matching.iter().all(|f| !f.reason.is_empty() && !f.evidence.is_empty()));
        let wrong: Vec<_> =
            lint(&good, bytes[1]).into_iter().filter(|finding| finding.rule == rule).collect();
        assert!(wrong.is_empty(), "case {place}: {wrong:?}");
        covered.push(rule);
    }
    for rule in RULES {
        assert!(covered.contains(&rule.id), "{} has no test", rule.id);
    }
}

#[test]
fn ids_are_sorted_and_titles_given() {
    assert!(RULES.is_sorted_by(|left, right| left.id < right.id));
    assert!(RULES.iter().all(|rule| !rule.title.is_empty() && !rule.evidence.is_empty()));
}

#[test]
fn newer_chips_have_wider_limits() {
    let model = copy(&[1, 1, 1, 20_480]);
    let options = LintOptions { floor: ChipFloor::A17Pro, ..LintOptions::default() };
    assert!(lint_with(&model, &options).iter().all(|finding| finding.rule != "ANE-005"));
    let model = copy(&[1, 1, 1, 131_072]);
    assert!(lint_with(&model, &options).iter().any(|finding| finding.rule == "ANE-005"));
}

#[test]
fn findings_name_function_and_place() {
    let finding = &lint(&integers(true), 0)[0];
    assert_eq!((finding.rule, finding.function.as_str()), ("ANE-016", "main"));
    let findings = lint(&integers(true), 0);
    let finding = findings.iter().find(|finding| finding.rule == "ANE-017").unwrap();
    assert_eq!(finding.place, "add (add) for output");
}

#[test]
fn compressed_weights_of_other_bits_move_the_notch() {
    // 4-bit weights stream a quarter of the bytes: (8192, 4096) lies on 1 MiB, (2048, 4096) not.
    let model = |rows: u64| {
        unary(&[1, 4096], |b, x| {
            let weight = palette(b, &[rows, 4096], (DataType::Float16, &[1, 1, 16, 1]));
            b.linear(x, weight, None).unwrap()
        })
    };
    let notches = |rows| {
        lint(&model(rows), 0).into_iter().filter(|finding| finding.rule == "ANE-099").count()
    };
    assert_eq!((notches(8192), notches(2048)), (1, 0));
}

#[test]
fn constants_and_tables_are_exempt_from_shape_rules() {
    // A table of a huge vocabulary and a LUT of rank 6 are no tensors of the engine.
    let model = build(|b| {
        let table = dense(b, "embed", &[151_936, 64]);
        let ids = b.input("ids", TensorType::new(DataType::Int32, &[1, 1])).unwrap();
        let x = b.gather(table, ids, 0).unwrap();
        let x = b.reshape(x, &[1, 64, 1, 1]).unwrap();
        let weight = palette(b, &[64, 64, 1, 1], (DataType::Float16, &[8, 1, 1, 1, 16, 1]));
        let y = b.conv1x1(x, weight, None).unwrap();
        b.reshape(y, &[1, 64]).unwrap()
    });
    let shapes = ["ANE-001", "ANE-005", "ANE-007"];
    assert!(lint(&model, 0).iter().all(|finding| !shapes.contains(&finding.rule)));
}

#[test]
fn a_stale_read_is_reported_once() {
    let model = build(|b| {
        let state = b.state("cache", half(CACHE)).unwrap();
        let x = b.input("x", half(&[2, 1, 4, 64])).unwrap();
        let begin = b.vector_i32(&[0; 4]).unwrap();
        let end = b.vector_i32(&[2, 1, 4, 64]).unwrap();
        let old = b.read_state(state).unwrap();
        let mut read = old;
        for _ in 0..2 {
            let new = b.slice_update(read, x, begin, end, &[], &[]).unwrap();
            b.write_state(state, new).unwrap();
            read = b.read_state(state).unwrap();
        }
        b.add(read, old).unwrap()
    });
    let findings = lint(&model, 0);
    let stale = findings.iter().filter(|finding| finding.reason.contains("before a write"));
    assert_eq!(stale.count(), 1, "{findings:?}");
}

/// Such programs are not valid, but the rules also look at what nobody has validated.
#[test]
fn programs_with_cycles_have_an_end() {
    let operation = |kind: &str, output: &str, sources: &[(&str, &str)]| {
        let binding = |name: &str| mil::argument::Binding {
            binding: Some(mil::argument::binding::Binding::Name(name.to_owned())),
        };
        let named = |name: &str| mil::NamedValueType {
            name: name.to_owned(),
            r#type: Some(crate::ValueType::Tensor(half(&[4])).to_proto()),
        };
        mil::Operation {
            r#type: kind.to_owned(),
            inputs: sources
                .iter()
                .map(|(parameter, name)| {
                    let arguments = vec![binding(name)];
                    ((*parameter).to_owned(), mil::Argument { arguments })
                })
                .collect(),
            outputs: vec![named(output)],
            ..mil::Operation::default()
        }
    };
    let many = operation("add", "many", &[("x", "many"), ("y", "infinite")]);
    for operations in [
        vec![
            operation("reshape", "c", &[("x", "c")]),
            operation("slice_update", "u", &[("x", "c")]),
        ],
        vec![
            operation("add", "c", &[("x", "c"), ("y", "c")]),
            operation("sqrt", "r", &[("x", "c")]),
        ],
        vec![many; 100],
    ] {
        let mut model = build(|b| {
            let infinite = b.vector_f16(&[f32::INFINITY; 4]).unwrap();
            b.name_value(infinite, "infinite").unwrap();
            let x = b.input("x", half(&[4])).unwrap();
            b.add(x, infinite).unwrap()
        });
        let program = crate::model::program_mut(&mut model).unwrap();
        for function in program.functions.values_mut() {
            for block in function.block_specializations.values_mut() {
                block.operations.extend(operations.clone());
            }
        }
        assert!(lint(&model, 0).iter().all(|finding| !finding.reason.contains("mask")));
    }
}
