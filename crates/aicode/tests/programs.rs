//! Programs written, read again, and made wrong on purpose; programs that Apple's package wrote.

use anemll_aicode::asset::{self, Asset, Metadata};
use anemll_aicode::{
    Attribute, Blob, ElementType, Function, Layout, Memory, Port, Program, TensorType, Type, Value,
    block, needed_version, verify,
};
use anemll_mlirbc::{Document, Encoded};
use std::path::Path;

const HALF: ElementType = ElementType::Float16;

fn half(shape: &[i64]) -> TensorType {
    TensorType::new(HALF, shape)
}

/// A function with a weight from a blob, a state and every kind of operation that has a body.
fn program() -> Program {
    let state = Type::State(half(&[4, 8]));
    let x = half(&[2, 8]);
    let mut builder = block(vec![state.clone(), x.clone().into()]);
    let (kept, mut value) = (builder.argument(0), builder.argument(1));
    let (content, token) = builder.read_state(kept);
    let weight = builder.blob(&half(&[8, 8]), 0);
    value = builder.matmul(value, weight);
    for name in ["silu_v1", "sigmoid_v1", "relu_v1"] {
        value = builder.unary(name, value);
    }
    value = builder.softmax(value, 1);
    for name in ["mean", "sum", "max", "min"] {
        let reduced = builder.reduce(name, value, &[1]);
        value = builder.binary("add", value, reduced, HALF);
    }
    let best = builder.argmax(value, 1);
    let zero = builder.signed(&[0, 0]);
    let end = builder.signed(&[2, 8]);
    let step = builder.signed(&[1, 1]);
    let updated = builder.slice_update(content, [zero, end, step], value);
    let token = builder.write_state(kept, updated, token);
    let function = Function {
        name: "main".to_owned(),
        inputs: vec![
            Port { name: Some("kept".to_owned()), kind: state, state: Some("kept".to_owned()) },
            Port::new("x", x.clone()),
        ],
        outputs: vec![
            Port::new("kept", Type::Token),
            Port::new("y", x),
            Port::new("best", TensorType::new(ElementType::UInt32, &[2, 1])),
        ],
        body: builder.finish_function(&[token, value, best]),
        ..Function::default()
    };
    let version = needed_version(std::slice::from_ref(&function));
    let blobs = vec![Blob { key: "weight".to_owned(), length: 128, offset: 0 }];
    Program { version, functions: vec![function], blobs }
}

fn write(folder: &Path, program: &Program) -> Result<Asset, anemll_plugin_api::Error> {
    let path = folder.join("x.aimodel");
    let metadata = Metadata { producer: "a test".to_owned(), ..Metadata::default() };
    asset::write(&path, program, &metadata, true, |_, output| output.write_all(&[7; 128]))?;
    Asset::open(&path)
}

#[test]
fn what_is_written_reads_the_same_and_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let expected = program();
    let found = write(folder.path(), &expected).unwrap();
    let bytes = std::fs::read(folder.path().join("x.aimodel/main.mlirb")).unwrap();
    assert_eq!(found.hash_fits().unwrap(), Some(true));
    let mut data = [0; 128];
    found.read_blob(&found.program.blobs[0], 0, &mut data).unwrap();
    assert_eq!(data, [7; 128]);
    assert!(found.read_blob(&found.program.blobs[0], 1, &mut data).is_err());
    let mut read = found.program.clone();
    read.blobs[0].offset = 0;
    assert_eq!(read, expected);
    assert_eq!(found.metadata["assetVersion"], "2.0");
    write(folder.path(), &expected).unwrap();
    assert_eq!(bytes, std::fs::read(folder.path().join("x.aimodel/main.mlirb")).unwrap());
    std::fs::write(folder.path().join("x.aimodel/main.hash"), [0; 32]).unwrap();
    assert_eq!(found.hash_fits().unwrap(), Some(false));
}

/// The version is that of the newest operation, those in bodies among them.
#[test]
fn a_program_says_the_version_that_it_needs() {
    assert_eq!(program().version, 20_260_317);
    let mut builder = block(vec![half(&[2]).into()]);
    let x = builder.argument(0);
    let sum = builder.binary("add", x, x, HALF);
    let body = builder.finish_function(&[sum]);
    assert_eq!(needed_version(&[Function { body, ..Function::default() }]), 20_250_707);
}

/// Assets of one operation each, as coreai-core 1.0.0b3 writes them: all are read, found right, and
/// the same after they were written and read again.
#[test]
fn programs_that_apples_package_wrote_are_read() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/written_by_apple");
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("x.aimodel");
    std::fs::create_dir(&path).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap().path();
        let name = entry.file_stem().unwrap().to_string_lossy().into_owned();
        std::fs::copy(&entry, path.join("main.mlirb")).unwrap();
        let found = Asset::open(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        verify(&found.program).unwrap_or_else(|error| panic!("{name}: {error}"));
        let shown = format!("{:?}", found.program.functions[0].body);
        // Operations and types are all known.
        assert!(!shown.contains("Other("), "{name}: {shown}");
        let again = scratch.path().join("again.aimodel");
        let blob = |index: usize, output: &mut dyn std::io::Write| {
            let blob = &found.program.blobs[index];
            let mut data = vec![0; blob.length as usize];
            found.read_blob(blob, 0, &mut data)?;
            output.write_all(&data)
        };
        asset::write(&again, &found.program, &Metadata::default(), true, blob).unwrap();
        let again = Asset::open(&again).unwrap().program;
        assert_eq!(again.functions, found.program.functions, "{name}");
        assert_eq!(found.program.version, again.version);
        // What they say that they need is what we reckon.
        let needed = needed_version(&again.functions);
        assert!(needed <= again.version, "{name}: {needed} for {}", again.version);
        count += 1;
    }
    assert!(count >= 30, "{count}");
}

fn refused(change: impl FnOnce(&mut Program)) -> String {
    let mut program = program();
    change(&mut program);
    verify(&program).expect_err("the program is refused").to_string()
}

#[test]
fn what_loaders_crash_on_is_refused() {
    verify(&program()).unwrap();
    assert!(refused(|p| p.blobs[0].length = 127).contains("takes 128 bytes, but has 127"));
    assert!(refused(|p| p.functions.push(p.functions[0].clone())).contains("two of this name"));
    assert!(refused(|p| p.functions[0].inputs[1].name = None).contains("input 1 has no name"));
    assert!(refused(|p| p.version = 1).contains("it says version 1"));
    let error = refused(|p| {
        p.functions[0].outputs.remove(0);
    });
    assert!(error.contains("1 states, but 0 tokens"), "{error}");
    let error = refused(|p| p.functions[0].body.operations[3].operands = vec![999, 0]);
    assert!(error.contains("value 999 is used before it is made"), "{error}");
    let error = refused(|p| p.functions[0].body.operations[3].operands.push(0));
    assert!(error.contains("operation 3 (primitive.batch_matmul_v1): it takes 3"), "{error}");
    let error = refused(|p| p.functions[0].body.operations[4].name = "gelu_v9".to_owned());
    assert!(error.contains("(gelu_v9): the dialect has no such operation"), "{error}");
    let error = refused(|p| p.functions[0].body.operations[4].regions.clear());
    assert!(error.contains("regions are not those of the dialect"), "{error}");
    let error = refused(|p| {
        let layout =
            Layout { alignments: vec![1; 3], interleave: vec![9, 1], memory: Memory::Heap };
        if let Type::Tensor(tensor) = &mut p.functions[0].inputs[1].kind {
            tensor.layout = Some(layout);
        }
    });
    assert!(error.contains("the layout of tensor<2x8xf16> does not fit"), "{error}");
    let error = refused(|p| p.functions[0].inputs[1].kind = half(&[1 << 40, 1 << 40]).into());
    assert!(error.contains("has more bytes than can be counted"), "{error}");
    let error = refused(|p| {
        let short = Attribute::Dense { splat: false, bytes: vec![0; 3] };
        p.functions[0].body.operations[2].properties = vec![Some(short)];
    });
    assert!(error.contains("takes 128 bytes, but has 3"), "{error}");
}

/// Why the program is refused after a change of its file.
fn damaged(change: impl FnOnce(&mut Document)) -> String {
    let folder = tempfile::tempdir().expect("it can be written and read");
    write(folder.path(), &program()).expect("it can be written and read");
    let path = folder.path().join("x.aimodel");
    let bytes = std::fs::read(path.join("main.mlirb")).expect("it can be written and read");
    let mut document = anemll_mlirbc::read(bytes.as_slice()).expect("it can be written and read");
    change(&mut document);
    let mut output = Vec::new();
    let blob = |_: usize, output: &mut dyn std::io::Write| output.write_all(&[7; 128]);
    anemll_mlirbc::write(&document, blob, &mut output).expect("it can be written and read");
    std::fs::write(path.join("main.mlirb"), output).expect("it can be written and read");
    Asset::open(&path).expect_err("it is refused").to_string()
}

/// The place of the first record of a code that has more than `length` bytes.
fn first(list: &[Encoded], code: u8, length: usize) -> usize {
    let fits = |entry: &Encoded| entry.bytes[0] == code && entry.bytes.len() > length;
    list.iter().position(fits).expect("there is one")
}

/// A number below 128 as the format has it.
fn varint(value: usize) -> u8 {
    u8::try_from(value << 1 | 1).expect("it is small")
}

#[test]
fn attributes_and_types_that_hold_themselves_are_refused() {
    const ARRAY: u8 = 0x0b;
    let circle = "perhaps one holds itself";
    let error = damaged(|document| {
        let array = first(&document.attributes, ARRAY, 2);
        document.attributes[array].bytes = vec![ARRAY, varint(1), varint(array)];
    });
    assert!(error.contains(circle), "{error}");
    // A state of itself; a function that takes itself; a tensor whose elements are it.
    for code in [0x3f, 0x3d, 0x05_u8] {
        let error = damaged(|document| {
            let kind = first(&document.types, code, 1);
            document.types[kind].bytes = match code {
                0x3f => vec![code, varint(kind)],
                0x3d => vec![code, varint(0), varint(1), varint(kind)],
                _ => vec![code, varint(1), varint(2), varint(kind)],
            };
        });
        assert!(error.contains(circle), "{code}: {error}");
    }
    // None holds itself, but each holds the one before it twice.
    let error = damaged(|document| {
        let array = first(&document.attributes, ARRAY, 2);
        let before = document.attributes.len();
        document
            .attributes
            .push(Encoded { bytes: vec![ARRAY, varint(0)], ..document.attributes[array].clone() });
        for last in before..before + 30 {
            let bytes = vec![ARRAY, varint(2), varint(last), varint(last)];
            document.attributes.push(Encoded { bytes, ..document.attributes[array].clone() });
        }
        document.attributes[array].bytes = vec![ARRAY, varint(1), varint(before + 30)];
    });
    assert!(error.contains("name each other so often"), "{error}");
    let error = damaged(|document| {
        let array = first(&document.attributes, ARRAY, 2);
        document.attributes[array].bytes = vec![ARRAY, varint(1), varint(127)];
    });
    assert!(error.contains("attribute or type 127 is named, but there are"), "{error}");
}

#[test]
fn other_dialects_and_encodings_are_refused() {
    let error = damaged(|document| document.dialects[0].version = Some(vec![varint(3)]));
    assert!(
        error.contains("the dialect's encoding is 3; 2 is the one that can be read"),
        "{error}"
    );
    let error = damaged(|document| document.dialects[0].version = None);
    assert!(error.contains("the dialect's encoding is none"), "{error}");
    let error = damaged(|document| {
        let name = document.dialects[0].name as usize;
        document.strings[name] = "coreai".to_owned();
    });
    assert!(error.contains("in the dialect `coreai`; assets are of `aicode`"), "{error}");
}

#[test]
fn layouts_tables_and_calls_survive() {
    let layout =
        Layout { alignments: vec![1, 1, 64], interleave: vec![2, 1], memory: Memory::IoSurface };
    let laid = TensorType { layout: Some(layout), ..half(&[4, 8]) };
    let mut builder = block(vec![laid.clone().into()]);
    let x: Value = builder.argument(0);
    let plain = builder.emit_one("ax.copy_discarding_constraints_v1", &[x], half(&[4, 8]));
    let indices =
        builder.constant(&TensorType::new(ElementType::UInt3, &[4, 8]), &[0b0101_1010; 12]);
    let table = builder.constant(&half(&[2, 1, 8, 1]), &[1; 32]);
    let dense = builder.lut_to_dense(indices, table, None);
    let sum = builder.binary("add", plain, dense, HALF);
    let function = Function {
        name: "Größe 1".to_owned(),
        inputs: vec![Port::new("x", laid)],
        outputs: vec![Port::new("y", half(&[4, 8]))],
        composite: Some(Attribute::Named("c".to_owned(), vec![Attribute::Dictionary(vec![])])),
        no_inline: true,
        body: builder.finish_function(&[sum]),
        ..Function::default()
    };
    let version = needed_version(std::slice::from_ref(&function));
    let expected = Program { version, functions: vec![function], blobs: Vec::new() };
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(write(folder.path(), &expected).unwrap().program, expected);
}

#[test]
fn descriptions_that_loaders_refuse_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &program()).unwrap();
    let path = folder.path().join("x.aimodel");
    let cases = [
        ("{\"assetVersion\":\"3.0\"}", "the asset has version 3.0"),
        ("{}", "has no assetVersion"),
        ("[]", "does not hold an object"),
        ("{", "is not JSON"),
    ];
    for (text, reason) in cases {
        std::fs::write(path.join("metadata.json"), text).unwrap();
        let error = Asset::open(&path).unwrap_err().message;
        assert!(error.contains(reason), "{error}");
    }
    std::fs::remove_file(path.join("metadata.json")).unwrap();
    Asset::open(&path).unwrap();
    std::fs::write(path.join("main.mlirb"), "module {}").unwrap();
    let error = Asset::open(&path).unwrap_err();
    assert!(error.message.contains("does not begin as MLIR bytecode"), "{error}");
}
