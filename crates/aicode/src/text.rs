//! The text of a program, for people and for tests: one operation a line, small constants spelled out.

use crate::attribute::Attribute;
use crate::element::ElementType;
use crate::program::{Function, Operation, Port, Program, frame};
use crate::types::{Layout, Memory, TensorType, Type};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;

/// Elements of a constant that are spelled out; of more, the first ones.
const SPELLED: usize = 16;

/// The text of a program, or of its function of this name alone. Values are numbered as the file
/// numbers them; bodies, which say the same as the operation's name, are left out. Constants of which not all is spelled out
/// have the first 8 bytes of their SHA-256.
pub fn text(program: &Program, function: Option<&str>) -> String {
    let mut text = format!("version {}\n", program.version);
    let wanted = |one: &&Function| function.is_none_or(|name| one.name == name);
    for function in program.functions.iter().filter(wanted) {
        write_function(&mut text, program, function);
    }
    text
}

fn write_function(text: &mut String, program: &Program, function: &Function) {
    let words = [(function.private, "private "), (function.no_inline, "no-inline ")];
    let words: String = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
    let _ = writeln!(text, "\n{words}function {:?}", function.name);
    for (place, port) in function.inputs.iter().enumerate() {
        let _ = writeln!(text, "  input %{place} {}", port_text(port));
    }
    for port in &function.outputs {
        let _ = writeln!(text, "  output {}", port_text(port));
    }
    let mut next = function.body.arguments.len();
    for operation in &function.body.operations {
        let line = operation_text(program, operation, next);
        let _ = writeln!(text, "  {line}");
        next += operation.results.len();
    }
}

fn port_text(port: &Port) -> String {
    let name =
        port.name.as_deref().map_or_else(|| "unnamed".to_owned(), |name| format!("{name:?}"));
    let state = match &port.state {
        Some(state) if port.name.as_ref() != Some(state) => format!(" of state {state:?}"),
        _ => String::new(),
    };
    format!("{name}{state} : {}", kind_text(&port.kind))
}

/// A type with its layout, which the shorter name of a type leaves out.
fn kind_text(kind: &Type) -> String {
    let (Type::Tensor(TensorType { layout: Some(layout), .. })
    | Type::State(TensorType { layout: Some(layout), .. })) = kind
    else {
        return kind.to_string();
    };
    let Layout { alignments, interleave, memory } = layout;
    let memory = match memory {
        Memory::IoSurface => "IOSurface",
        Memory::Metal => "MTLBuffer",
        Memory::Heap => "heap",
    };
    format!("{kind} in {memory}, alignments {alignments:?}, interleave {interleave:?}")
}

/// An operation whose first result has this number.
fn operation_text(program: &Program, operation: &Operation, first: usize) -> String {
    let mut text = String::new();
    if !operation.results.is_empty() {
        let results = first..first + operation.results.len();
        let names: Vec<String> = results.map(|place| format!("%{place}")).collect();
        let _ = write!(text, "{} = ", names.join(", "));
    }
    text += &operation.name;
    let operands: Vec<String> =
        operation.operands.iter().map(|value| format!("%{value}")).collect();
    let separator = if operands.is_empty() { "" } else { " " };
    let _ = write!(text, "{separator}{}", operands.join(", "));
    for attribute in operation.properties.iter().flatten() {
        let _ = match (attribute, operation.results.first()) {
            (Attribute::Blob(index), _) => match program.blobs.get(*index as usize) {
                Some(blob) => write!(text, " blob {:?} of {} bytes", blob.key, blob.length),
                None => write!(text, " blob {index}, which is not there"),
            },
            (Attribute::Dense { splat, bytes }, Some(Type::Tensor(kind))) => {
                write!(text, " {}", constant_text(kind, *splat, bytes))
            }
            (Attribute::Choice(what, choice), _) => write!(text, " {what}={choice}"),
            (other, _) => write!(text, " {other:?}"),
        };
    }
    let kinds: Vec<String> = operation.results.iter().map(kind_text).collect();
    if !kinds.is_empty() {
        let _ = write!(text, " : {}", kinds.join(", "));
    }
    if !operation.regions.is_empty() && operation.name != frame::CONSTANT {
        text += " {…}";
    }
    text
}

fn constant_text(kind: &TensorType, splat: bool, bytes: &[u8]) -> String {
    let width = usize::try_from(kind.element.bits()).unwrap_or(0) / 8;
    if width == 0 {
        return format!("{} packed bytes {}", bytes.len(), hash(bytes));
    }
    let elements: Vec<String> =
        bytes.chunks(width).take(SPELLED).map(|bytes| element_text(kind.element, bytes)).collect();
    let cut = match bytes.len() / width > SPELLED {
        true => format!(", …] {}", hash(bytes)),
        false => "]".to_owned(),
    };
    match (splat, kind.shape.is_empty()) {
        (true, false) => format!("all {}", elements.join("")),
        (_, true) => elements.join(""),
        (false, false) => format!("[{}{cut}", elements.join(", ")),
    }
}

fn hash(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash[..8].iter().fold("sha256 ".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

fn element_text(element: ElementType, bytes: &[u8]) -> String {
    let mut whole = [0; 8];
    whole[..bytes.len().min(8)].copy_from_slice(&bytes[..bytes.len().min(8)]);
    let unsigned = u64::from_le_bytes(whole);
    let unused = 64 - 8 * bytes.len().min(8) as u32;
    match element {
        ElementType::Bool => (unsigned != 0).to_string(),
        ElementType::Float16 => half::f16::from_bits(unsigned as u16).to_string(),
        ElementType::BFloat16 => half::bf16::from_bits(unsigned as u16).to_string(),
        ElementType::Float32 => f32::from_bits(unsigned as u32).to_string(),
        ElementType::Float64 => f64::from_bits(unsigned).to_string(),
        ElementType::Int8 | ElementType::Int16 | ElementType::Int32 | ElementType::Int64 => {
            ((unsigned << unused).cast_signed() >> unused).to_string()
        }
        _ => unsigned.to_string(),
    }
}
