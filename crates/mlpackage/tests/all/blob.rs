//! Weight files, byte by byte.

use anemll_mlpackage::{BlobFile, BlobType, BlobWriter, ErrorKind};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;

/// A record's metadata.
fn metadata(code: u32, size: u64, data: u64, padding: u64) -> Vec<u8> {
    let mut bytes = 0xDEAD_BEEF_u32.to_le_bytes().to_vec();
    bytes.extend_from_slice(&code.to_le_bytes());
    for word in [size, data, padding] {
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.resize(64, 0);
    bytes
}

fn header(count: u32, version: u32) -> Vec<u8> {
    let mut bytes = count.to_le_bytes().to_vec();
    bytes.extend_from_slice(&version.to_le_bytes());
    bytes.resize(64, 0);
    bytes
}

fn file(bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weight.bin");
    fs::write(&path, bytes).unwrap();
    (folder, path)
}

/// 1.0, -2.0 and 0.5 in float16, then 1, 2, 3, 4 and 15 in 4 bits, as the format text says.
const GOLDEN: &str = "\
    0200000002000000 0000000000000000 0000000000000000 0000000000000000
    0000000000000000 0000000000000000 0000000000000000 0000000000000000
    efbeadde01000000 0600000000000000 8000000000000000 0000000000000000
    0000000000000000 0000000000000000 0000000000000000 0000000000000000
    003c00c000380000 0000000000000000 0000000000000000 0000000000000000
    0000000000000000 0000000000000000 0000000000000000 0000000000000000
    efbeadde0b000000 0300000000000000 0001000000000000 0400000000000000
    0000000000000000 0000000000000000 0000000000000000 0000000000000000
    21430f";

fn golden() -> Vec<u8> {
    let digits: Vec<u8> = GOLDEN.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

#[test]
fn the_writer_makes_the_golden_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weight.bin");
    let mut writer = BlobWriter::create(&path).unwrap();
    let halves = [0x00, 0x3C, 0x00, 0xC0, 0x00, 0x38];
    assert_eq!(writer.append(BlobType::Float16, 3, &halves).unwrap().offset, 64);
    // The second in pieces.
    let mut record = writer.begin(BlobType::UInt4, 5).unwrap();
    record.write(&[0x21]).unwrap();
    record.write(&[]).unwrap();
    assert_eq!(record.remaining(), 2);
    record.write(&[0x43, 0x0F]).unwrap();
    assert_eq!(record.finish().unwrap().offset, 192);
    let summary = writer.finish().unwrap();
    assert_eq!((summary.records, summary.bytes, summary.deduplicated_bytes), (2, 259, 0));
    assert_eq!(fs::read(&path).unwrap(), golden());
}

#[test]
fn the_reader_reads_the_golden_bytes() {
    let (_folder, path) = file(&golden());
    let file = BlobFile::open(&path).unwrap();
    let records: Vec<_> = file.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 2);
    assert_eq!(file.record(192).unwrap(), records[1]);
    let first = &records[0];
    assert_eq!((first.blob_type(), first.elements()), (BlobType::Float16, 3));
    let halves: Vec<f32> = file
        .read(first)
        .unwrap()
        .chunks(2)
        .map(|bytes| half::f16::from_le_bytes([bytes[0], bytes[1]]).to_f32())
        .collect();
    assert_eq!(halves, [1.0, -2.0, 0.5]);
    let second = &records[1];
    assert_eq!((second.offset(), second.data_offset()), (192, 256));
    assert_eq!((second.elements(), second.padding_bits()), (5, 4));
    assert_eq!(file.read(second).unwrap(), [0x21, 0x43, 0x0F]);
}

#[test]
fn equal_records_are_stored_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weight.bin");
    let mut writer = BlobWriter::create(&path).unwrap();
    let bytes: Vec<u8> = (0..=255).cycle().take(3 << 20).collect();
    let count = bytes.len() as u64;
    let first = writer.append(BlobType::UInt8, count, &bytes).unwrap();
    let again = writer.append(BlobType::UInt8, count, &bytes).unwrap();
    assert_eq!((again.offset, again.shared, first.shared), (first.offset, true, false));
    // In pieces, larger than the buffer, so that the record had reached the disk.
    let mut record = writer.begin(BlobType::UInt8, count).unwrap();
    bytes.chunks(1_000_000).for_each(|piece| record.write(piece).unwrap());
    assert_eq!(record.finish().unwrap(), again);
    // Another type, or another count of the same bytes, is another record.
    let signed = writer.append(BlobType::Int8, count, &bytes).unwrap();
    assert!(!signed.shared);
    let seven = writer.append(BlobType::UInt1, 7, &[0x55]).unwrap();
    let eight = writer.append(BlobType::UInt1, 8, &[0x55]).unwrap();
    assert_ne!(seven.offset, eight.offset);
    let summary = writer.finish().unwrap();
    assert_eq!((summary.records, summary.deduplicated_records), (4, 2));
    assert_eq!(summary.deduplicated_bytes, 2 * count);
    let file = BlobFile::open(&path).unwrap();
    assert_eq!(file.size_in_bytes(), summary.bytes);
    let records: Vec<_> = file.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), 4);
    assert_eq!(records[0].offset(), first.offset);
    assert_eq!(file.read(&records[1]).unwrap(), bytes);
    assert_eq!(records[3].elements(), 8);
}

#[test]
fn unfinished_work_disappears() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weight.bin");
    let mut writer = BlobWriter::create(&path).unwrap();
    assert_eq!(BlobWriter::create(&path).unwrap_err().kind(), ErrorKind::Exists);
    writer.append(BlobType::UInt8, 1, &[1]).unwrap();
    let mut record = writer.begin(BlobType::UInt8, 100).unwrap();
    record.write(&[1; 99]).unwrap();
    drop(record);
    let mut record = writer.begin(BlobType::UInt8, 10).unwrap();
    record.write(&[1; 9]).unwrap();
    assert_eq!(record.write(&[1; 2]).unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(record.finish().unwrap_err().kind(), ErrorKind::Usage);
    assert_eq!(writer.append(BlobType::UInt8, 1, &[2]).unwrap().offset, 192);
    assert_eq!(writer.finish().unwrap().bytes, 257);
    assert_eq!(BlobFile::open(&path).unwrap().records().filter(Result::is_ok).count(), 2);
    fs::remove_file(&path).unwrap();
    drop(BlobWriter::create(&path).unwrap());
    assert!(!path.exists());
}

#[test]
fn bytes_that_do_not_fit_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = BlobWriter::create(folder.path().join("weight.bin")).unwrap();
    for (blob_type, elements, bytes) in [
        (BlobType::Float16, 2, &[0; 3][..]),
        (BlobType::UInt3, 3, &[0]),
        (BlobType::UInt4, 3, &[0, 0x10]),
        (BlobType::UInt6, 1, &[0x40]),
        (BlobType::UInt8, 0, &[]),
    ] {
        let error = writer.append(blob_type, elements, bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
        if let Ok(mut record) = writer.begin(blob_type, elements) {
            let outcome = record.write(bytes).and_then(|()| record.finish());
            assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Usage);
        }
    }
    let summary = writer.finish().unwrap();
    assert_eq!((summary.records, summary.bytes), (0, 64));
}

#[test]
fn damaged_headers() {
    for (bytes, reason) in [
        (vec![], "truncated"),
        (vec![0; 63], "truncated"),
        (header(0, 1), "version 1"),
        (header(0, 3), "version 3"),
        (header(1, 2), "announces 1 records"),
        (header(u32::MAX, 2), "announces 4294967295 records"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), "Git LFS"),
    ] {
        let (_folder, path) = file(&bytes);
        let error = BlobFile::open(&path).unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Weights, path.as_path()));
        assert!(error.reason().contains(reason), "{error} for {reason}");
    }
    let (_folder, path) = file(&header(0, 2));
    assert_eq!(BlobFile::open(&path).unwrap().records().count(), 0);
    assert_eq!(BlobFile::open(path.parent().unwrap()).unwrap_err().kind(), ErrorKind::NotAPackage);
    assert_eq!(BlobFile::open(path.join("x")).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn damaged_records() {
    let mut wrong_sentinel = metadata(3, 8, 128, 0);
    wrong_sentinel[0] = 0;
    for (metadata, reason) in [
        (wrong_sentinel, "sentinel"),
        (metadata(0, 8, 128, 0), "unknown element type 0"),
        (metadata(18, 8, 128, 0), "unknown element type 18"),
        (metadata(3, 9, 128, 0), "end past the file"),
        (metadata(3, u64::MAX, 128, 0), "end past the file"),
        (metadata(3, 8, 192, 0), "end past the file"),
        (metadata(3, 8, u64::MAX - 63, 0), "end past the file"),
        (metadata(3, 8, 130, 0), "not a place for data"),
        (metadata(3, 8, 0, 0), "not a place for data"),
        (metadata(3, 8, 64, 0), "covers its own metadata"),
        (metadata(1, 7, 128, 0), "no whole number of float16"),
        (metadata(2, 6, 128, 0), "no whole number of float32"),
        (metadata(3, 8, 128, 4), "no whole number of uint8"),
        (metadata(11, 8, 128, 3), "no whole number of uint4"),
        (metadata(11, 8, 128, 8), "no whole number of uint4"),
        (metadata(11, 8, 128, u64::MAX), "no whole number of uint4"),
        (metadata(13, 8, 128, 0), "no whole number of uint6"),
        (metadata(11, 0, 128, 4), "no whole number of uint4"),
    ] {
        let bytes = [header(1, 2), metadata, vec![0; 8]].concat();
        let (_folder, path) = file(&bytes);
        let file = BlobFile::open(&path).unwrap();
        let error = file.record(64).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Weights);
        assert!(error.reason().contains(reason), "{error} for {reason}");
        assert!(error.reason().contains("offset 64"), "{error}");
        assert_eq!(file.records().map(|record| record.unwrap_err()).collect::<Vec<_>>(), [error]);
    }
}

#[test]
fn offsets_that_are_no_records() {
    let (_folder, path) = file(&golden());
    let file = BlobFile::open(&path).unwrap();
    for (offset, reason) in [
        (0, "header"),
        (1, "multiple of 64"),
        (65, "multiple of 64"),
        (128, "no record starts here"),
        (256, "past the end"),
        (320, "past the end"),
        (1 << 40, "past the end"),
        (u64::MAX - 63, "past the end"),
        (u64::MAX, "multiple of 64"),
    ] {
        let error = file.record(offset).unwrap_err();
        assert!(error.reason().contains(reason), "{error} for {offset}");
    }
}

#[test]
fn a_walk_ends() {
    // The header announces more records than there are; the second lies about its size.
    let mut bytes = golden();
    bytes[0] = 3;
    let (_folder, path) = file(&bytes);
    let walk: Vec<_> = BlobFile::open(&path).unwrap().records().map(|r| r.is_ok()).collect();
    assert_eq!(walk, [true, true, false]);
    // A record may borrow the data of an earlier one, and the walk goes on behind it.
    let bytes = [
        header(3, 2),
        metadata(3, 64, 128, 0),
        vec![7; 64],
        metadata(3, 32, 128, 0),
        metadata(3, 1, 320, 0),
        vec![9],
    ]
    .concat();
    let (_folder, path) = file(&bytes);
    let file = BlobFile::open(&path).unwrap();
    let offsets: Vec<u64> = file.records().map(|record| record.unwrap().offset()).collect();
    assert_eq!(offsets, [64, 192, 256]);
    assert_eq!(file.read(&file.record(192).unwrap()).unwrap(), [7; 32]);
}

#[test]
fn no_changed_byte_is_trusted() {
    // Whatever a header or metadata byte becomes, the walk ends, and every record that it yields
    // lies inside the file.
    let golden = golden();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weight.bin");
    for position in (0..16).chain(64..96).chain(192..224) {
        for value in [0, 1, 0x3F, 0x40, 0x7F, 0x80, 0xFF] {
            let mut bytes = golden.clone();
            bytes[position] = value;
            fs::write(&path, &bytes).unwrap();
            let Ok(file) = BlobFile::open(&path) else { continue };
            for record in file.records().filter_map(Result::ok) {
                assert_eq!(file.read(&record).unwrap().len() as u64, record.size_in_bytes());
            }
        }
    }
}
