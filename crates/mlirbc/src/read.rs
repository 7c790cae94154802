//! Reading a file: sections in any order, every length and index checked.

use crate::document::{Dialect, Document, Encoded, OperationName, Resource, VERSIONS};
use crate::error::{Error, Result};
use crate::primitives::Reader;
use crate::read_operations::Operations;
use crate::source::Source;
use crate::write::{MAGIC, section};
use std::collections::BTreeMap;

/// Largest section that is read into memory, in bytes: those of models with some hundred layers
/// have a few megabytes. Blobs are not read.
const MAXIMUM_SECTION: u64 = 256 << 20;
/// Longest header of a file or section, in bytes.
const MAXIMUM_HEADER: u64 = 4096;
/// Largest alignment that data may have, in bytes.
const MAXIMUM_ALIGNMENT: u64 = 1 << 16;
/// Sections that there are.
const SECTIONS: u8 = 9;
/// Form of a resource that is a blob; others, truth values and texts, are of no use here.
const BLOB: u8 = 0;

/// A section: where its data begin in the file, and the data.
struct Section {
    start: u64,
    length: u64,
    data: Vec<u8>,
}

impl Section {
    fn reader(&self) -> Reader<'_> {
        Reader::new(&self.data, self.start)
    }
}

/// Reads a file. Blobs stay where they are; of each is told where.
///
/// # Errors
/// [`Error::Malformed`] says what is wrong and where.
pub fn read(source: &(impl Source + ?Sized)) -> Result<Document> {
    let size = source.size()?;
    let (producer, sections) = sections(source, size)?;
    let find = |number: u8, what: &str| {
        sections.get(&number).ok_or_else(|| Error::Malformed {
            offset: size,
            message: format!("the file has no section {number} ({what})"),
        })
    };
    let strings = strings(find(section::STRINGS, "strings")?)?;
    let (dialects, operation_names) = dialects(find(section::DIALECTS, "dialects")?, &strings)?;
    let lengths = find(section::RECORD_LENGTHS, "lengths of attributes and types")?;
    let records = find(section::RECORDS, "attributes and types")?;
    let [attributes, types] = encoded(lengths, records, dialects.len())?;
    let properties = match sections.get(&section::PROPERTIES) {
        Some(section) => properties(section)?,
        None => Vec::new(),
    };
    let resources = match sections.get(&section::RESOURCE_LENGTHS) {
        Some(lengths) => {
            let data = find(section::RESOURCES, "blobs")?;
            resources(source, lengths, data, &strings, dialects.len())?
        }
        None => Vec::new(),
    };
    let operations = find(section::OPERATIONS, "operations")?;
    let counts = Operations {
        names: operation_names.len(),
        attributes: attributes.len(),
        types: types.len(),
        properties: properties.len(),
    };
    let mut reader = operations.reader();
    let body = counts.module(&mut reader)?;
    reader.end("the operations")?;
    Ok(Document {
        producer,
        strings,
        dialects,
        operation_names,
        attributes,
        types,
        properties,
        resources,
        body,
    })
}

/// The producer, and every section by number. Those of blobs have no data.
fn sections(source: &(impl Source + ?Sized), size: u64) -> Result<(String, BTreeMap<u8, Section>)> {
    let head = piece(source, size, 0, MAXIMUM_HEADER)?;
    let mut reader = Reader::new(&head, 0);
    let magic = reader.bytes(4).unwrap_or_default();
    if magic != MAGIC {
        return Err(Error::Malformed {
            offset: 0,
            message: "the file does not begin as MLIR bytecode does".to_owned(),
        });
    }
    let version = reader.varint()?;
    if !VERSIONS.contains(&version) {
        return Err(reader.error(format!(
            "the bytecode has version {version}; {} and {} can be read",
            VERSIONS[0], VERSIONS[1]
        )));
    }
    let producer = reader.text()?.to_owned();
    let mut place = reader.offset();
    let mut sections = BTreeMap::new();
    while place < size {
        let head = piece(source, size, place, MAXIMUM_HEADER)?;
        let mut reader = Reader::new(&head, place);
        let number = reader.byte()?;
        let length = reader.varint()?;
        let start = aligned(&mut reader, number & section::ALIGNED != 0)?;
        let number = number & !section::ALIGNED;
        if number >= SECTIONS || number == section::DIALECT_VERSION {
            return Err(reader.error(format!("a section has the number {number}")));
        }
        let end = start.checked_add(length).filter(|end| *end <= size).ok_or_else(|| {
            reader.error(format!(
                "section {number} has {length} bytes, but only {} are left: the file is cut short",
                size.saturating_sub(start)
            ))
        })?;
        let data = if number == section::RESOURCES {
            Vec::new()
        } else if length > MAXIMUM_SECTION {
            return Err(reader.error(format!(
                "section {number} has {length} bytes; more than {MAXIMUM_SECTION} are not read"
            )));
        } else {
            piece(source, size, start, length)?
        };
        if sections.insert(number, Section { start, length, data }).is_some() {
            return Err(reader.error(format!("there are two sections {number}")));
        }
        place = end;
    }
    Ok((producer, sections))
}

/// At most `length` bytes from `place` on, fewer at the file's end.
fn piece(source: &(impl Source + ?Sized), size: u64, place: u64, length: u64) -> Result<Vec<u8>> {
    let length = length.min(size.saturating_sub(place));
    let length = usize::try_from(length)
        .map_err(|_| Error::Document("a section is larger than memory can be".to_owned()))?;
    let mut bytes = vec![0; length];
    source.read_at(place, &mut bytes)?;
    Ok(bytes)
}

/// Where data begin after a header that is read up to the alignment, if there is one.
fn aligned(reader: &mut Reader<'_>, has_alignment: bool) -> Result<u64> {
    if !has_alignment {
        return Ok(reader.offset());
    }
    let alignment = alignment(reader)?;
    let place = reader.offset();
    place.checked_next_multiple_of(alignment).ok_or_else(|| reader.error("the file is too large"))
}

fn alignment(reader: &mut Reader<'_>) -> Result<u64> {
    let alignment = reader.varint()?;
    if !alignment.is_power_of_two() || alignment > MAXIMUM_ALIGNMENT {
        return Err(reader.error(format!("data have an alignment of {alignment} bytes")));
    }
    Ok(alignment)
}

fn strings(section: &Section) -> Result<Vec<String>> {
    let mut reader = section.reader();
    let count = reader.count()?;
    let mut lengths = Vec::with_capacity(count);
    for _ in 0..count {
        lengths.push(reader.varint()?);
    }
    let mut strings = Vec::with_capacity(count);
    for length in lengths.into_iter().rev() {
        let Some((0, text)) = reader.bytes(length)?.split_last() else {
            return Err(reader.error("a string does not end in NUL"));
        };
        let text = std::str::from_utf8(text).map_err(|_| reader.error("a string is not UTF-8"))?;
        strings.push(text.to_owned());
    }
    reader.end("the strings")?;
    Ok(strings)
}

fn dialects(section: &Section, strings: &[String]) -> Result<(Vec<Dialect>, Vec<OperationName>)> {
    let mut reader = section.reader();
    let count = reader.count()?;
    let mut dialects = Vec::with_capacity(count);
    for _ in 0..count {
        let (name, versioned) = reader.flagged()?;
        let name = reader.below(name, strings.len(), "string")?;
        let version = if versioned { Some(version(&mut reader)?) } else { None };
        dialects.push(Dialect { name, version });
    }
    let mut names = Vec::new();
    let total = reader.count()?;
    while names.len() < total {
        let dialect = reader.index(dialects.len(), "dialect")?;
        for _ in 0..group(&mut reader, total - names.len())? {
            let (name, registered) = reader.flagged()?;
            let name = reader.below(name, strings.len(), "string")?;
            names.push(OperationName { dialect, name, registered });
        }
    }
    reader.end("the dialects")?;
    Ok((dialects, names))
}

/// The section inside another that holds a dialect's version.
fn version(reader: &mut Reader<'_>) -> Result<Vec<u8>> {
    let number = reader.byte()?;
    let length = reader.varint()?;
    if number != section::DIALECT_VERSION {
        return Err(reader.error(format!("section {number} stands where a version is wanted")));
    }
    reader.bytes(length).map(<[u8]>::to_vec)
}

/// Size of a group of entries, of which `left` are still to come.
fn group(reader: &mut Reader<'_>, left: usize) -> Result<usize> {
    let count = reader.count()?;
    match count {
        0 => Err(reader.error("a group has no entries")),
        _ if count > left => {
            Err(reader.error(format!("a group has {count} entries, but {left} are left")))
        }
        _ => Ok(count),
    }
}

/// Attributes and types: how long each is stands in one section, the bytes in another.
fn encoded(lengths: &Section, records: &Section, dialects: usize) -> Result<[Vec<Encoded>; 2]> {
    let (mut lengths, mut records) = (lengths.reader(), records.reader());
    let totals = [lengths.count()?, lengths.count()?];
    let mut lists = [Vec::new(), Vec::new()];
    for (list, total) in lists.iter_mut().zip(totals) {
        while list.len() < total {
            let dialect = lengths.index(dialects, "dialect")?;
            for _ in 0..group(&mut lengths, total - list.len())? {
                let (length, binary) = lengths.flagged()?;
                let bytes = records.bytes(length)?.to_vec();
                list.push(Encoded { dialect, binary, bytes });
            }
        }
    }
    lengths.end("the lengths of attributes and types")?;
    records.end("the attributes and types")?;
    Ok(lists)
}

fn properties(section: &Section) -> Result<Vec<Vec<u8>>> {
    let mut reader = section.reader();
    let count = reader.count()?;
    let mut properties = Vec::with_capacity(count);
    for _ in 0..count {
        let length = reader.varint()?;
        properties.push(reader.bytes(length)?.to_vec());
    }
    reader.end("the properties")?;
    Ok(properties)
}

/// Length and place of the data of a blob whose record has these bounds.
fn blob(source: &(impl Source + ?Sized), place: u64, after: u64, key: &str) -> Result<(u64, u64)> {
    let head = piece(source, after, place, MAXIMUM_HEADER)?;
    let mut head = Reader::new(&head, place);
    let mut lengths = || Ok((alignment(&mut head)?, head.varint()?));
    let (alignment, length) = lengths().map_err(|error| match error {
        Error::Malformed { offset, message } => {
            Error::Malformed { offset, message: format!("blob {key:?}: {message}") }
        }
        other => other,
    })?;
    let offset = head.offset().checked_next_multiple_of(alignment);
    match offset.filter(|offset| offset.checked_add(length) == Some(after)) {
        Some(offset) => Ok((length, offset)),
        None => {
            let left = after.saturating_sub(offset.unwrap_or(after));
            Err(head.error(format!(
                "blob {key:?} says that it has {length} bytes; the table of blobs gives it {left}"
            )))
        }
    }
}

fn resources(
    source: &(impl Source + ?Sized),
    lengths: &Section,
    data: &Section,
    strings: &[String],
    dialects: usize,
) -> Result<Vec<Resource>> {
    let mut reader = lengths.reader();
    if reader.varint()? != 0 {
        return Err(reader.error("the file has resources that belong to no dialect"));
    }
    let mut resources = Vec::new();
    let mut place = data.start;
    let end = data.start + data.length;
    while reader.left() > 0 {
        let dialect = reader.index(dialects, "dialect")?;
        for _ in 0..reader.count()? {
            let key = reader.index(strings.len(), "string")?;
            let length = reader.varint()?;
            if reader.byte()? != BLOB {
                return Err(reader.error("a resource is not a blob"));
            }
            let after = place.checked_add(length).filter(|after| *after <= end);
            let after = after.ok_or_else(|| {
                let left = end - place;
                let key = &strings[key as usize];
                reader.error(format!("blob {key:?} takes {length} bytes, but only {left} are left"))
            })?;
            let (length, offset) = blob(source, place, after, &strings[key as usize])?;
            resources.push(Resource { dialect, key, length, offset });
            place = after;
        }
    }
    if place != end {
        return Err(reader.error(format!("{} bytes of blobs belong to no key", end - place)));
    }
    Ok(resources)
}
