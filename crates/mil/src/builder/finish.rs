//! The end of a function: checks of its outputs, and the protobuf message.

use super::{Bound, Draft, FunctionBuilder, Var};
use crate::error::{Error, Result};
use crate::literal::Literal;
use coreml_proto::mil;
use coreml_proto::mil::argument::{Binding, binding::Binding as BindingKind};
use std::collections::{BTreeMap, HashSet};

impl FunctionBuilder {
    /// Ends the function, which returns these values in this order.
    ///
    /// Errors: no output, one given twice, an output that is an input or a state, and an output
    /// that is the very tensor written to a state (some loaders crash on it).
    pub fn finish(self, outputs: &[Var]) -> Result<mil::Function> {
        if outputs.is_empty() {
            return Err(Error::new("a function must return at least one value"));
        }
        let written: HashSet<Var> = self
            .operations
            .iter()
            .filter(|draft| draft.kind == "write_state")
            .filter_map(|draft| match draft.inputs.get("data")?.as_slice() {
                [Bound::Var(var)] => Some(*var),
                _ => None,
            })
            .collect();
        for (place, var) in outputs.iter().enumerate() {
            let slot = self.slot(*var)?;
            let name = &slot.name;
            if slot.is_input {
                return Err(Error::new(format!("the output `{name}` is an input; make a copy")));
            }
            if outputs[..place].contains(var) {
                return Err(Error::new(format!("the output `{name}` is returned twice")));
            }
            if written.contains(var) {
                return Err(Error::new(format!(
                    "the output `{name}` is the tensor that is written to a state; return a copy"
                )));
            }
        }
        Ok(self.function(outputs))
    }

    fn function(self, outputs: &[Var]) -> mil::Function {
        let named = |var: &Var| mil::NamedValueType {
            name: self.name_of(*var).to_owned(),
            r#type: Some(self.type_of(*var).to_proto()),
        };
        let used: HashSet<Var> = self
            .operations
            .iter()
            .flat_map(|draft| draft.inputs.values().flatten())
            .filter_map(|bound| match bound {
                Bound::Var(var) => Some(*var),
                Bound::Value(_) => None,
            })
            .chain(outputs.iter().copied())
            .collect();
        let unused = |draft: &Draft| {
            draft.kind == "const" && !draft.outputs.iter().any(|var| used.contains(var))
        };
        let inputs = self.inputs.iter().map(named).collect();
        let mut operations = Vec::with_capacity(self.operations.len());
        for draft in self.operations.iter().filter(|draft| !unused(draft)) {
            let argument = |bound: &Vec<Bound>| mil::Argument {
                arguments: bound
                    .iter()
                    .map(|bound| Binding {
                        binding: Some(match bound {
                            Bound::Var(var) => BindingKind::Name(self.name_of(*var).to_owned()),
                            Bound::Value(value) => BindingKind::Value((**value).clone()),
                        }),
                    })
                    .collect(),
            };
            // An operation of one value is called what the value is called in the end.
            let name = match draft.outputs.as_slice() {
                [var] => self.name_of(*var),
                _ => &draft.name,
            };
            let mut attributes = draft.attributes.clone();
            if let Ok(value) = Literal::string(name).to_value() {
                attributes.insert("name".to_owned(), value);
            }
            operations.push(mil::Operation {
                r#type: draft.kind.clone(),
                inputs: draft
                    .inputs
                    .iter()
                    .map(|(k, bound)| (k.clone(), argument(bound)))
                    .collect(),
                outputs: draft.outputs.iter().map(named).collect(),
                blocks: Vec::new(),
                attributes,
            });
        }
        let block = mil::Block {
            inputs: Vec::new(),
            outputs: outputs.iter().map(|var| self.name_of(*var).to_owned()).collect(),
            operations,
            attributes: BTreeMap::new(),
        };
        let opset = self.opset.name().to_owned();
        mil::Function {
            inputs,
            block_specializations: BTreeMap::from([(opset.clone(), block)]),
            opset,
            attributes: BTreeMap::new(),
        }
    }
}
