//! Files written, read, and made wrong on purpose.

use anemll_mlirbc::{
    Block, Dialect, Document, Encoded, Error, Operation, OperationName, Region, Resource, dump,
    read, write,
};

fn encoded(bytes: &[u8]) -> Encoded {
    Encoded { dialect: 0, binary: true, bytes: bytes.to_vec() }
}

/// A document with all that can occur: blobs, properties, regions of both kinds, text.
fn document() -> Document {
    let inner = Block {
        arguments: vec![(0, 0), (1, 0)],
        operations: vec![
            Operation { name: 1, results: vec![0], operands: vec![0, 1], ..Operation::default() },
            Operation {
                name: 1,
                regions: vec![Region {
                    isolated: false,
                    blocks: vec![Block {
                        arguments: vec![(1, 1)],
                        operations: vec![Operation {
                            name: 0,
                            operands: vec![2, 3],
                            ..Operation::default()
                        }],
                    }],
                }],
                ..Operation::default()
            },
        ],
    };
    let outer = Operation {
        name: 0,
        properties: Some(1),
        attributes: Some(1),
        regions: vec![Region::isolated(inner)],
        ..Operation::default()
    };
    Document {
        producer: "a test".to_owned(),
        strings: ["dialect", "first", "second", "key", "Schlüssel"].map(str::to_owned).to_vec(),
        dialects: vec![Dialect { name: 0, version: Some(vec![5]) }],
        operation_names: vec![
            OperationName { dialect: 0, name: 1, registered: true },
            OperationName { dialect: 0, name: 2, registered: false },
        ],
        attributes: vec![
            encoded(&[1, 2, 3]),
            Encoded { dialect: 0, binary: false, bytes: b"#text\0".to_vec() },
        ],
        types: vec![encoded(&[]), encoded(&[9])],
        properties: vec![vec![], vec![7, 8]],
        resources: vec![
            Resource { dialect: 0, key: 3, length: 5, offset: 0 },
            Resource { dialect: 0, key: 4, length: 33, offset: 0 },
            Resource { dialect: 0, key: 1, length: 0, offset: 0 },
        ],
        body: Block { arguments: Vec::new(), operations: vec![outer] },
    }
}

fn written(document: &Document) -> Vec<u8> {
    let mut bytes = Vec::new();
    let blob = |index: usize, output: &mut dyn std::io::Write| {
        output.write_all(&vec![index as u8; document.resources[index].length as usize])
    };
    write(document, blob, &mut bytes).expect("the document is whole");
    bytes
}

#[test]
fn what_is_written_reads_the_same_and_blobs_are_aligned() {
    let expected = document();
    let bytes = written(&expected);
    assert_eq!(bytes, written(&expected));
    let mut found = read(bytes.as_slice()).unwrap();
    for (index, resource) in found.resources.iter_mut().enumerate() {
        let start = resource.offset as usize;
        assert_eq!(start % 16, 0);
        let data = &bytes[start..start + resource.length as usize];
        assert!(data.iter().all(|byte| *byte == index as u8));
        resource.offset = 0;
    }
    assert_eq!(found, expected);
}

#[test]
fn a_dump_shows_all() {
    assert_eq!(
        dump(&document()),
        "producer \"a test\"\n\
         dialect 0 dialect version 05\n\
         attribute 0 010203\n\
         attribute 1 \"#text\"\n\
         type 0 \n\
         type 1 09\n\
         properties 0 \n\
         properties 1 0708\n\
         blob 0 \"key\" 5 bytes\n\
         blob 1 \"Schlüssel\" 33 bytes\n\
         blob 2 \"first\" 0 bytes\n\
         dialect.first attributes 1 properties 1 at 0\n\
         \x20 ^0\n\
         \x20 %0: type 0 at 0\n\
         \x20 %1: type 1 at 0\n\
         \x20 %2: type 0 = dialect.second %0 %1 at 0\n\
         \x20 dialect.second at 0\n\
         \x20   ^0\n\
         \x20   %3: type 1 at 1\n\
         \x20   dialect.first %2 %3 at 0\n"
    );
}

#[test]
fn every_shorter_file_is_refused() {
    let bytes = written(&document());
    for length in 0..bytes.len() {
        let error = read(&bytes[..length]).unwrap_err();
        assert!(matches!(error, Error::Malformed { .. }), "{length}: {error}");
    }
}

#[test]
fn no_changed_byte_does_harm() {
    let bytes = written(&document());
    for place in 0..bytes.len() {
        for value in [0, 1, 2, 0x7f, 0x80, 0xff, bytes[place] ^ 1, bytes[place] ^ 0x10] {
            let mut changed = bytes.clone();
            changed[place] = value;
            if let Ok(found) = read(changed.as_slice()) {
                drop(dump(&found));
            }
        }
    }
}

#[test]
fn refusals_say_why() {
    let bytes = written(&document());
    let refused = |bytes: &[u8]| read(bytes).unwrap_err().to_string();
    assert!(refused(b"PK\x03\x04").contains("does not begin as MLIR bytecode"));
    let mut newer = bytes.clone();
    newer[4] = 0x0f;
    assert_eq!(refused(&newer), "at byte 5: the bytecode has version 7; 5 and 6 can be read");
    let mut longer = bytes;
    longer.extend([0x3, 0x01]);
    assert!(refused(&longer).contains("two sections 3"), "{}", refused(&longer));

    let mut lying = document();
    lying.resources[0].length = 6;
    let mut output = Vec::new();
    let blob = |_: usize, output: &mut dyn std::io::Write| output.write_all(&[0; 5]);
    let error = write(&lying, blob, &mut output).unwrap_err();
    assert_eq!(error.to_string(), "blob 0 has 5 bytes, not 6 as it was announced");
    lying.strings[0].push('\0');
    let error = write(&lying, blob, &mut output).unwrap_err();
    assert_eq!(error.to_string(), "string 0 holds a NUL");
}

/// Where the first blob's data stand in the file, and where its length stands in the table of blobs and in front of it.
fn lengths_of_the_first_blob(bytes: &[u8]) -> [usize; 2] {
    let start = read(bytes).expect("it is there").resources[0].offset as usize;
    // In the table: a key, the length of the whole record, and that it is a blob.
    let record = bytes[..start].iter().rposition(|byte| *byte == 0x0b).expect("it is there");
    let all = start + 5 - (record - 1);
    let entry = [7, (all << 1 | 1) as u8, 0];
    let table = bytes[..start].windows(3).rposition(|window| window == entry).expect("it is there");
    [table + 1, record]
}

#[test]
fn lengths_of_blobs_that_lie_are_told_by_key() {
    let bytes = written(&document());
    let [table, record] = lengths_of_the_first_blob(&bytes);
    let refused = |place: usize, length: u8| {
        let mut changed = bytes.clone();
        changed[place] = length;
        read(changed.as_slice()).unwrap_err().to_string()
    };
    for (place, length, reason) in [
        (record, 0x09, "blob \"key\" says that it has 4 bytes; the table of blobs gives it 5"),
        (record, 0x0d, "blob \"key\" says that it has 6 bytes; the table of blobs gives it 5"),
        (record, 0xff, "blob \"key\" says that it has 127 bytes; the table of blobs gives it 5"),
        (table, 0x01, "blob \"key\": the data end too early"),
        (
            table,
            bytes[table] - 2,
            "blob \"key\" says that it has 5 bytes; the table of blobs gives it 4",
        ),
        (
            table,
            bytes[table] + 2,
            "blob \"key\" says that it has 5 bytes; the table of blobs gives it 6",
        ),
        (table, 0xff, "blob \"key\" takes 127 bytes, but only"),
    ] {
        let error = refused(place, length);
        assert!(error.contains(reason), "{error}, not {reason}");
    }
}

#[test]
fn strings_that_are_no_text_are_refused() {
    let bytes = written(&document());
    let place = bytes.windows(6).position(|window| window == b"second").unwrap();
    let refused = |place: usize, byte: u8| {
        let mut changed = bytes.clone();
        changed[place] = byte;
        read(changed.as_slice()).unwrap_err().to_string()
    };
    assert!(refused(place, 0xff).contains("a string is not UTF-8"), "{}", refused(place, 0xff));
    let error = refused(place + 6, b'x');
    assert!(error.contains("a string does not end in NUL"), "{error}");
}

#[test]
fn regions_nest_only_so_deep() {
    let mut operation = Operation::default();
    for _ in 0..10_000 {
        let block = Block { arguments: Vec::new(), operations: vec![operation] };
        let regions = vec![Region::isolated(block)];
        operation = Operation { regions, ..Operation::default() };
    }
    let mut deep = document();
    deep.body.operations = vec![operation];
    // Writing such a tree recurses as well, so that it is given the room.
    let bytes = std::thread::Builder::new().stack_size(256 << 20);
    let bytes = bytes.spawn(move || {
        let bytes = written(&deep);
        // Dropping it does, too.
        drop(deep);
        bytes
    });
    let bytes = bytes.unwrap().join().unwrap();
    let error = read(bytes.as_slice()).unwrap_err();
    assert!(error.to_string().contains("regions nest deeper than 32"), "{error}");
}

/// The first bytes of a real file, so that numbers of sections and bits are those of the format.
#[test]
fn the_head_is_that_of_real_files() {
    let bytes = written(&Document {
        producer: "MLIR22.0.0git".to_owned(),
        strings: (0..6)
            .map(|n| n.to_string())
            .chain(["aicode", "a", "b", "c", "d"].map(str::to_owned))
            .collect(),
        dialects: vec![Dialect { name: 6, version: Some(vec![5]) }],
        operation_names: (0..4)
            .map(|name| OperationName { dialect: 0, name: 7 + name, registered: true })
            .collect(),
        ..Document::default()
    });
    let head: String = bytes.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
    // Magic, version, producer; then one dialect of version 05 with four operations.
    assert_eq!(head, "4d4cef520d4d4c495232322e302e30676974000119031b0703050901091f2327");
}
