//! Which weight records a model refers to.

use crate::blob::BlobFile;
use crate::error::{ErrorKind, PackageError, Result};
use coreml_proto::mil::{self, argument, value};
use coreml_proto::{Model, model};
use std::path::Path;

/// One value of a program that lies in a weight file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference<'a> {
    pub(crate) file_name: &'a str,
    pub(crate) offset: u64,
    pub(crate) value_type: Option<&'a mil::ValueType>,
}

impl Reference<'_> {
    /// Checks that `file` has the record, of the type and size that the program declares.
    /// `program` is for error messages.
    pub(crate) fn check(&self, file: &BlobFile, program: &Path) -> Result<()> {
        let record = file.record(self.offset)?;
        let declared = self
            .value_type
            .and_then(|kind| {
                anemll_mil::ValueType::from_proto(kind, &anemll_mil::Symbols::default()).ok()
            })
            .and_then(|kind| {
                let tensor = kind.tensor()?;
                Some((tensor.data_type, tensor.byte_size()?))
            });
        let stored = (record.blob_type().data_type(), record.size_in_bytes());
        if declared == Some(stored) {
            return Ok(());
        }
        let declared = match declared {
            Some((kind, size)) => format!("{size} bytes of {kind}"),
            None => "no tensor of known size".to_owned(),
        };
        Err(PackageError::new(
            ErrorKind::Reference,
            program,
            format!(
                "the weight at offset {} is {} bytes of {}, which is not what the program \
                 declares: {declared}",
                self.offset, stored.1, stored.0
            ),
        )
        .with_hint("the weight file is damaged, or belongs to another model"))
    }
}

/// Every reference of the model, in program order within each function. The nesting of a decoded
/// message is bounded (by the decoder's recursion limit), and so is the recursion here.
pub(crate) fn references(model: &Model) -> Vec<Reference<'_>> {
    let mut found = Vec::new();
    let Some(model::Type::MlProgram(program)) = &model.r#type else { return found };
    found_in_values(program.attributes.values(), &mut found);
    for function in program.functions.values() {
        found_in_values(function.attributes.values(), &mut found);
        for block in function.block_specializations.values() {
            found_in_block(block, &mut found);
        }
    }
    found
}

fn found_in_block<'a>(block: &'a mil::Block, found: &mut Vec<Reference<'a>>) {
    found_in_values(block.attributes.values(), found);
    for operation in &block.operations {
        let bindings = operation.inputs.values().flat_map(|argument| &argument.arguments);
        found_in_values(
            bindings.filter_map(|binding| match &binding.binding {
                Some(argument::binding::Binding::Value(value)) => Some(value),
                _ => None,
            }),
            found,
        );
        found_in_values(operation.attributes.values(), found);
        for inner in &operation.blocks {
            found_in_block(inner, found);
        }
    }
}

fn found_in_values<'a>(
    values: impl Iterator<Item = &'a mil::Value>,
    found: &mut Vec<Reference<'a>>,
) {
    values.for_each(|value| found_in_value(value, found));
}

fn found_in_value<'a>(value: &'a mil::Value, found: &mut Vec<Reference<'a>>) {
    use value::immediate_value::Value as Immediate;
    match &value.value {
        Some(value::Value::BlobFileValue(blob)) => found.push(Reference {
            file_name: &blob.file_name,
            offset: blob.offset,
            value_type: value.r#type.as_ref(),
        }),
        Some(value::Value::ImmediateValue(immediate)) => {
            let mut inner = |value: &'a mil::Value| found_in_value(value, found);
            match &immediate.value {
                Some(Immediate::Tuple(tuple)) => tuple.values.iter().for_each(inner),
                Some(Immediate::List(list)) => list.values.iter().for_each(inner),
                Some(Immediate::Dictionary(dictionary)) => {
                    for pair in &dictionary.values {
                        pair.key.iter().chain(&pair.value).for_each(&mut inner);
                    }
                }
                _ => {}
            }
        }
        None => {}
    }
}
