//! Writing a document: every section but that of the blobs is made first, so that all lengths are
//! known before the first byte goes out.

use crate::document::{Block, Document, Encoded, Operation, Region, VERSIONS};
use crate::error::{Error, Result};
use crate::primitives::Record;
use std::io::{self, Write};

/// Bytes at whose multiples the data of blobs begin. Loaders read small files into memory that is
/// aligned no further.
pub const BLOB_ALIGNMENT: u64 = 16;

/// First bytes of a file.
pub(crate) const MAGIC: [u8; 4] = *b"ML\xefR";
/// What fills the space before aligned data.
pub(crate) const PADDING: u8 = 0xcb;

/// Sections by number.
pub(crate) mod section {
    pub(crate) const STRINGS: u8 = 0;
    pub(crate) const DIALECTS: u8 = 1;
    pub(crate) const RECORDS: u8 = 2;
    pub(crate) const RECORD_LENGTHS: u8 = 3;
    pub(crate) const OPERATIONS: u8 = 4;
    pub(crate) const RESOURCES: u8 = 5;
    pub(crate) const RESOURCE_LENGTHS: u8 = 6;
    pub(crate) const DIALECT_VERSION: u8 = 7;
    pub(crate) const PROPERTIES: u8 = 8;
    /// Set in the number of a section whose data are aligned.
    pub(crate) const ALIGNED: u8 = 0x80;
}

/// Mask of the parts that an operation has.
pub(crate) mod part {
    pub(crate) const ATTRIBUTES: u8 = 0x01;
    pub(crate) const RESULTS: u8 = 0x02;
    pub(crate) const OPERANDS: u8 = 0x04;
    pub(crate) const SUCCESSORS: u8 = 0x08;
    pub(crate) const REGIONS: u8 = 0x10;
    pub(crate) const USE_ORDER: u8 = 0x20;
    pub(crate) const PROPERTIES: u8 = 0x40;
}

/// Writes a file. `blob` writes the data of the resource of an index, exactly as many bytes as its
/// length says; it is called once for each, in order. The bytes that are written depend on nothing
/// but the document and the blobs.
///
/// # Errors
/// A document that contradicts itself, a blob of another length, and what the system says.
pub fn write(
    document: &Document,
    mut blob: impl FnMut(usize, &mut dyn Write) -> io::Result<()>,
    output: &mut dyn Write,
) -> Result<()> {
    check(document)?;
    let mut file = Record::new();
    file.bytes(&MAGIC).varint(VERSIONS[1]);
    file.bytes(document.producer.as_bytes()).byte(0);
    section(&mut file, section::DIALECTS, &dialects(document)?);
    let lists = [document.attributes.as_slice(), document.types.as_slice()];
    section(&mut file, section::RECORD_LENGTHS, &record_lengths(lists)?);
    let records: Vec<u8> = lists.into_iter().flatten().flat_map(|e| e.bytes.clone()).collect();
    section(&mut file, section::RECORDS, &records);
    section(&mut file, section::OPERATIONS, &block(&document.body)?);

    let mut lengths = Record::new();
    // No resources of other owners than dialects.
    lengths.varint(0);
    let mut start = 0;
    let frames = Frames::plan(document, &file, |frames| {
        for group in document.resources.chunk_by(|left, right| left.dialect == right.dialect) {
            lengths.varint(group[0].dialect.into()).varint(group.len() as u64);
            for (resource, frame) in group.iter().zip(&frames[start..]) {
                lengths.varint(resource.key.into()).varint(frame.length()).byte(0);
            }
            start += group.len();
        }
        std::mem::take(&mut lengths)
    })?;
    output.write_all(&frames.before)?;
    for (index, (resource, frame)) in document.resources.iter().zip(&frames.frames).enumerate() {
        output.write_all(&frame.head)?;
        let mut counted = Counted { output: &mut *output, count: 0 };
        blob(index, &mut counted)?;
        if counted.count != resource.length {
            return Err(Error::Document(format!(
                "blob {index} has {} bytes, not {} as it was announced",
                counted.count, resource.length
            )));
        }
    }

    let mut rest = Record::new();
    section(&mut rest, section::STRINGS, &strings(&document.strings));
    let mut properties = Record::new();
    properties.varint(document.properties.len() as u64);
    for record in &document.properties {
        properties.varint(record.len() as u64).bytes(record);
    }
    section(&mut rest, section::PROPERTIES, &properties.into_bytes());
    output.write_all(&rest.into_bytes())?;
    Ok(())
}

/// What stands before the data of one blob in its section.
struct Frame {
    head: Vec<u8>,
    data: u64,
}

impl Frame {
    fn length(&self) -> u64 {
        self.head.len() as u64 + self.data
    }
}

/// All that comes before the data of the first blob, and the frames of all.
struct Frames {
    before: Vec<u8>,
    frames: Vec<Frame>,
}

impl Frames {
    /// Blobs are aligned in the file, not in their section; but where the section's data begin is
    /// a multiple of the alignment, so places can be reckoned from there before it is known.
    fn plan(
        document: &Document,
        file: &Record,
        lengths: impl FnOnce(&[Frame]) -> Record,
    ) -> Result<Self> {
        let mut frames = Vec::with_capacity(document.resources.len());
        let mut place = 0_u64;
        for resource in &document.resources {
            let mut head = Record::new();
            head.varint(BLOB_ALIGNMENT).varint(resource.length);
            let start = place + head.len() as u64;
            pad(&mut head, start);
            let frame = Frame { head: head.into_bytes(), data: resource.length };
            let end = frame.data.checked_add(frame.head.len() as u64 + place);
            place = end.filter(|end| *end <= i64::MAX.cast_unsigned()).ok_or_else(|| {
                Error::Document("the blobs together are larger than a file can be".to_owned())
            })?;
            frames.push(frame);
        }
        let lengths = lengths(&frames).into_bytes();
        let mut before = file.clone();
        section(&mut before, section::RESOURCE_LENGTHS, &lengths);
        if frames.is_empty() {
            section(&mut before, section::RESOURCES, &[]);
        } else {
            before.byte(section::RESOURCES | section::ALIGNED).varint(place);
            before.varint(BLOB_ALIGNMENT);
            let start = before.len() as u64;
            pad(&mut before, start);
        }
        Ok(Self { before: before.into_bytes(), frames })
    }
}

/// Fills up to the next multiple of the alignment, where the end of `record` lies at `place`.
fn pad(record: &mut Record, place: u64) {
    for _ in place..place.next_multiple_of(BLOB_ALIGNMENT) {
        record.byte(PADDING);
    }
}

/// Counts what goes through.
struct Counted<'a> {
    output: &'a mut dyn Write,
    count: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.count += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

fn section(file: &mut Record, number: u8, data: &[u8]) {
    file.byte(number).varint(data.len() as u64).bytes(data);
}

fn dialects(document: &Document) -> Result<Vec<u8>> {
    let mut data = Record::new();
    data.varint(document.dialects.len() as u64);
    for dialect in &document.dialects {
        data.flagged(dialect.name.into(), dialect.version.is_some())?;
        if let Some(version) = &dialect.version {
            section(&mut data, section::DIALECT_VERSION, version);
        }
    }
    data.varint(document.operation_names.len() as u64);
    for group in document.operation_names.chunk_by(|left, right| left.dialect == right.dialect) {
        data.varint(group[0].dialect.into()).varint(group.len() as u64);
        for name in group {
            data.flagged(name.name.into(), name.registered)?;
        }
    }
    Ok(data.into_bytes())
}

fn record_lengths(lists: [&[Encoded]; 2]) -> Result<Vec<u8>> {
    let mut data = Record::new();
    for list in lists {
        data.varint(list.len() as u64);
    }
    for list in lists {
        for group in list.chunk_by(|left, right| left.dialect == right.dialect) {
            data.varint(group[0].dialect.into()).varint(group.len() as u64);
            for entry in group {
                data.flagged(entry.bytes.len() as u64, entry.binary)?;
            }
        }
    }
    Ok(data.into_bytes())
}

/// Lengths stand last to first, texts first to last.
fn strings(strings: &[String]) -> Vec<u8> {
    let mut data = Record::new();
    data.varint(strings.len() as u64);
    for text in strings.iter().rev() {
        data.varint(text.len() as u64 + 1);
    }
    for text in strings {
        data.bytes(text.as_bytes()).byte(0);
    }
    data.into_bytes()
}

fn block(block: &Block) -> Result<Vec<u8>> {
    let mut data = Record::new();
    add_block(&mut data, block)?;
    Ok(data.into_bytes())
}

fn add_block(data: &mut Record, block: &Block) -> Result<()> {
    data.flagged(block.operations.len() as u64, !block.arguments.is_empty())?;
    if !block.arguments.is_empty() {
        data.varint(block.arguments.len() as u64);
        for (kind, location) in &block.arguments {
            data.flagged((*kind).into(), true)?.varint((*location).into());
        }
        // The order of uses is that of the operations.
        data.byte(0);
    }
    block.operations.iter().try_for_each(|operation| add_operation(data, operation))
}

fn add_operation(data: &mut Record, operation: &Operation) -> Result<()> {
    let parts = [
        (part::ATTRIBUTES, operation.attributes.is_some()),
        (part::PROPERTIES, operation.properties.is_some()),
        (part::RESULTS, !operation.results.is_empty()),
        (part::OPERANDS, !operation.operands.is_empty()),
        (part::SUCCESSORS, !operation.successors.is_empty()),
        (part::REGIONS, !operation.regions.is_empty()),
    ];
    let mask = parts.iter().filter(|(_, there)| *there).map(|(bit, _)| bit).sum();
    data.varint(operation.name.into()).byte(mask).varint(operation.location.into());
    for index in operation.attributes.iter().chain(&operation.properties) {
        data.varint((*index).into());
    }
    let results: Vec<u64> = operation.results.iter().copied().map(u64::from).collect();
    for list in [&results, &operation.operands, &operation.successors] {
        if !list.is_empty() {
            data.varint(list.len() as u64);
            for entry in list {
                data.varint(*entry);
            }
        }
    }
    let Some(first) = operation.regions.first() else { return Ok(()) };
    if operation.regions.iter().any(|region| region.isolated != first.isolated) {
        return Err(Error::Document(
            "an operation has regions of which only some are isolated".to_owned(),
        ));
    }
    data.flagged(operation.regions.len() as u64, first.isolated)?;
    for region in &operation.regions {
        if region.isolated {
            let mut inner = Record::new();
            add_region(&mut inner, region)?;
            section(data, section::OPERATIONS, &inner.into_bytes());
        } else {
            add_region(data, region)?;
        }
    }
    Ok(())
}

fn add_region(data: &mut Record, region: &Region) -> Result<()> {
    data.varint(region.blocks.len() as u64);
    if !region.blocks.is_empty() {
        data.varint(region.values());
    }
    region.blocks.iter().try_for_each(|block| add_block(data, block))
}

/// What would be read back as something else.
fn check(document: &Document) -> Result<()> {
    let wrong = |message: String| Err(Error::Document(message));
    if document.producer.contains('\0') {
        return wrong("the producer holds a NUL".to_owned());
    }
    for (place, text) in document.strings.iter().enumerate() {
        if text.contains('\0') {
            return wrong(format!("string {place} holds a NUL"));
        }
    }
    let below = |index: u32, count: usize, what: &str| match (index as usize) < count {
        true => Ok(()),
        false => wrong(format!("{what} {index} is named, but there are {count}")),
    };
    let (strings, dialects) = (document.strings.len(), document.dialects.len());
    for dialect in &document.dialects {
        below(dialect.name, strings, "string")?;
    }
    for name in &document.operation_names {
        below(name.name, strings, "string")?;
        below(name.dialect, dialects, "dialect")?;
    }
    for entry in document.attributes.iter().chain(&document.types) {
        below(entry.dialect, dialects, "dialect")?;
        if !entry.binary && entry.bytes.last() != Some(&0) {
            return wrong("an attribute or type as text does not end in NUL".to_owned());
        }
    }
    for resource in &document.resources {
        below(resource.key, strings, "string")?;
        below(resource.dialect, dialects, "dialect")?;
    }
    Ok(())
}
