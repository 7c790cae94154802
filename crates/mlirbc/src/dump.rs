//! A file as text, to be read by people and compared in tests.

use crate::document::{Block, Document, Encoded, Operation, Region};
use std::fmt::Write as _;

/// Everything in a document but the data of its blobs: tables first, then the operations with their
/// values numbered as in the file.
pub fn dump(document: &Document) -> String {
    let mut text = format!("producer {:?}\n", document.producer);
    let string = |index: u32| document.strings.get(index as usize).map_or("?", String::as_str);
    for (place, dialect) in document.dialects.iter().enumerate() {
        let version = dialect.version.as_deref().map_or("none".to_owned(), hexadecimal);
        line(&mut text, 0, &format!("dialect {place} {} version {version}", string(dialect.name)));
    }
    let lists = [("attribute", &document.attributes), ("type", &document.types)];
    for (what, list) in lists {
        for (place, entry) in list.iter().enumerate() {
            line(&mut text, 0, &format!("{what} {place} {}", encoded(entry)));
        }
    }
    for (place, record) in document.properties.iter().enumerate() {
        line(&mut text, 0, &format!("properties {place} {}", hexadecimal(record)));
    }
    for (place, resource) in document.resources.iter().enumerate() {
        let key = string(resource.key);
        line(&mut text, 0, &format!("blob {place} {key:?} {} bytes", resource.length));
    }
    let mut names = Vec::with_capacity(document.operation_names.len());
    for name in &document.operation_names {
        let dialect = document.dialects.get(name.dialect as usize);
        let dialect = dialect.map_or("?", |dialect| string(dialect.name));
        names.push(format!("{dialect}.{}", string(name.name)));
    }
    block(&mut text, &document.body, &names, 0, &mut 0);
    text
}

fn line(text: &mut String, depth: usize, content: &str) {
    let _infallible = writeln!(text, "{:width$}{content}", "", width = 2 * depth);
}

fn encoded(entry: &Encoded) -> String {
    match (entry.binary, std::str::from_utf8(&entry.bytes)) {
        (false, Ok(content)) => format!("{:?}", content.trim_end_matches('\0')),
        _ => hexadecimal(&entry.bytes),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

/// `next` is the number of the next value.
fn block(text: &mut String, block: &Block, names: &[String], depth: usize, next: &mut u64) {
    for (kind, location) in &block.arguments {
        line(text, depth, &format!("%{next}: type {kind} at {location}"));
        *next += 1;
    }
    for entry in &block.operations {
        operation(text, entry, names, depth, next);
    }
}

fn operation(
    text: &mut String,
    operation: &Operation,
    names: &[String],
    depth: usize,
    next: &mut u64,
) {
    let mut content = String::new();
    for kind in &operation.results {
        let _infallible = write!(content, "%{next}: type {kind} ");
        *next += 1;
    }
    if !operation.results.is_empty() {
        content.push_str("= ");
    }
    content.push_str(names.get(operation.name as usize).map_or("?", String::as_str));
    for operand in &operation.operands {
        let _infallible = write!(content, " %{operand}");
    }
    if let Some(attributes) = operation.attributes {
        let _infallible = write!(content, " attributes {attributes}");
    }
    if let Some(properties) = operation.properties {
        let _infallible = write!(content, " properties {properties}");
    }
    for successor in &operation.successors {
        let _infallible = write!(content, " to ^{successor}");
    }
    let _infallible = write!(content, " at {}", operation.location);
    line(text, depth, &content);
    for region in &operation.regions {
        self::region(text, region, names, depth + 1, next);
    }
}

fn region(text: &mut String, region: &Region, names: &[String], depth: usize, next: &mut u64) {
    for (place, entry) in region.blocks.iter().enumerate() {
        line(text, depth, &format!("^{place}"));
        if region.isolated {
            block(text, entry, names, depth, &mut 0);
        } else {
            block(text, entry, names, depth, next);
        }
    }
}
