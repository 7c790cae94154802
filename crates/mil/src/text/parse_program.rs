//! Reading programs: functions, blocks, operations, and the names that they define and use.

use super::dialect::opset_of_tag;
use super::parse_value::Parser;
use super::{Dialect, Document, MAXIMUM_BLOCK_DEPTH, ParseError};
use coreml_proto::mil;
use coreml_proto::mil::argument::binding::Binding;
use std::collections::{BTreeMap, HashSet};

type Attributes = BTreeMap<String, mil::Value>;

/// Names that are defined, innermost block last.
type Scopes<'t> = Vec<HashSet<&'t str>>;

impl<'t> Parser<'t> {
    pub(super) fn document(mut self) -> Result<Document, ParseError> {
        self.cursor.keyword("program")?;
        self.cursor.expect(b'(')?;
        let version = self.version()?;
        self.cursor.expect(b')')?;
        let attributes =
            if self.cursor.peek() == Some(b'[') { self.attributes()? } else { Attributes::new() };
        self.cursor.expect(b'{')?;
        let mut functions = BTreeMap::new();
        while !self.cursor.eat(b'}') {
            self.cursor.skip_spaces();
            let start = self.cursor.offset();
            let (name, function) = self.function()?;
            if functions.insert(name.to_owned(), function).is_some() {
                let message = format!("two functions are named `{name}`");
                return Err(self.cursor.error_at(start, message));
            }
        }
        let ending = self.cursor.rest();
        if self.cursor.peek().is_some() {
            return Err(self.cursor.expected("the end of the text"));
        }
        let newer = version >= Dialect::V1_3.version;
        let dialect = Dialect { version, bare_scalars: self.bare_scalars.unwrap_or(newer) };
        let program = mil::Program { version: 1, functions, doc_string: String::new(), attributes };
        Ok(Document { dialect, program, ending: ending.to_owned(), spellings: self.spellings })
    }

    fn version(&mut self) -> Result<(u32, u32), ParseError> {
        let mut before = self.cursor;
        let token = self.cursor.token();
        let parts = token.split_once('.');
        match parts.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?))) {
            // Other spellings of the same numbers would come back changed.
            Some((major, minor)) if format!("{major}.{minor}") == token => Ok((major, minor)),
            _ => Err(before.expected("a version such as `1.3`")),
        }
    }

    /// `[name = value, …]`.
    fn attributes(&mut self) -> Result<Attributes, ParseError> {
        self.cursor.expect(b'[')?;
        let mut attributes = Attributes::new();
        self.items(b']', |parser| {
            parser.cursor.skip_spaces();
            let start = parser.cursor.offset();
            let name = parser.cursor.name("the name of an attribute")?;
            parser.cursor.expect(b'=')?;
            let value = parser.value()?;
            match attributes.insert(name.to_owned(), value) {
                None => Ok(()),
                Some(_) => {
                    Err(parser.cursor.error_at(start, format!("two attributes are named `{name}`")))
                }
            }
        })?;
        Ok(attributes)
    }

    fn function(&mut self) -> Result<(&'t str, mil::Function), ParseError> {
        self.cursor.keyword("func")?;
        let name = self.cursor.name("the name of a function")?;
        self.cursor.expect(b'<')?;
        self.cursor.skip_spaces();
        let start = self.cursor.offset();
        let tag = self.cursor.name("an opset such as `ios18`")?;
        let opset = opset_of_tag(tag)
            .ok_or_else(|| self.cursor.error_at(start, format!("`{tag}` is not a known opset")))?;
        self.cursor.expect(b'>')?;
        let mut scopes = Scopes::new();
        let inputs = self.parameters(&mut scopes)?;
        let attributes =
            if self.cursor.peek() == Some(b'[') { self.attributes()? } else { Attributes::new() };
        let (operations, outputs) = self.body(&mut scopes)?;
        self.cursor.expect(b';')?;
        let block = mil::Block { outputs, operations, ..mil::Block::default() };
        let function = mil::Function {
            inputs,
            opset: opset.name().to_owned(),
            block_specializations: BTreeMap::from([(opset.name().to_owned(), block)]),
            attributes,
        };
        Ok((name, function))
    }

    /// `(TYPE name, …)`, which opens a scope.
    fn parameters(
        &mut self,
        scopes: &mut Scopes<'t>,
    ) -> Result<Vec<mil::NamedValueType>, ParseError> {
        scopes.push(HashSet::new());
        self.cursor.expect(b'(')?;
        let mut parameters = Vec::new();
        self.items(b')', |parser| {
            let kind = parser.value_type()?;
            let name = parser.new_name(scopes)?;
            parameters.push(mil::NamedValueType { name: name.to_owned(), r#type: Some(kind) });
            define(scopes, name);
            Ok(())
        })?;
        Ok(parameters)
    }

    /// A name that the innermost block has not defined yet.
    fn new_name(&mut self, scopes: &Scopes<'t>) -> Result<&'t str, ParseError> {
        self.cursor.skip_spaces();
        let start = self.cursor.offset();
        let name = self.cursor.name("a name")?;
        if scopes.last().is_some_and(|scope| scope.contains(name)) {
            return Err(self.cursor.error_at(start, format!("two values are named `{name}`")));
        }
        Ok(name)
    }

    /// A name that was defined before.
    fn known_name(&mut self, scopes: &Scopes<'t>) -> Result<&'t str, ParseError> {
        self.cursor.skip_spaces();
        let start = self.cursor.offset();
        let name = self.cursor.name("a name or a value")?;
        if scopes.iter().rev().any(|scope| scope.contains(name)) {
            return Ok(name);
        }
        Err(self.cursor.error_at(start, format!("`{name}` is not defined before it is used")))
    }

    /// `{`, operations, `} -> (name, …)`, which closes the scope.
    fn body(
        &mut self,
        scopes: &mut Scopes<'t>,
    ) -> Result<(Vec<mil::Operation>, Vec<String>), ParseError> {
        self.cursor.expect(b'{')?;
        let mut operations = Vec::new();
        while !self.cursor.eat(b'}') {
            operations.push(self.operation(scopes)?);
        }
        self.cursor.expect_arrow()?;
        self.cursor.expect(b'(')?;
        let mut outputs = Vec::new();
        self.items(b')', |parser| {
            outputs.push(parser.known_name(scopes)?.to_owned());
            Ok(())
        })?;
        scopes.pop();
        Ok((operations, outputs))
    }

    fn operation(&mut self, scopes: &mut Scopes<'t>) -> Result<mil::Operation, ParseError> {
        let mut operation = mil::Operation::default();
        let mut names: HashSet<&'t str> = HashSet::new();
        let before = self.cursor;
        self.cursor.name("an operation or `}`")?;
        // An operation that gives nothing begins with its own name.
        if self.cursor.peek() != Some(b'(') {
            self.cursor = before;
            loop {
                let kind = self.value_type()?;
                let name = self.new_name(scopes)?;
                if !names.insert(name) {
                    return Err(self.cursor.error(format!("two values are named `{name}`")));
                }
                operation
                    .outputs
                    .push(mil::NamedValueType { name: name.to_owned(), r#type: Some(kind) });
                if !self.cursor.eat(b',') {
                    break;
                }
            }
            self.cursor.expect(b'=')?;
        } else {
            self.cursor = before;
        }
        operation.r#type = self.cursor.name("an operation")?.to_owned();
        self.cursor.expect(b'(')?;
        self.items(b')', |parser| {
            parser.cursor.skip_spaces();
            let start = parser.cursor.offset();
            let name = parser.cursor.name("the name of an argument")?;
            parser.cursor.expect(b'=')?;
            let argument = parser.argument(scopes)?;
            match operation.inputs.insert(name.to_owned(), argument) {
                None => Ok(()),
                Some(_) => {
                    Err(parser.cursor.error_at(start, format!("two arguments are named `{name}`")))
                }
            }
        })?;
        if self.cursor.peek() == Some(b'[') {
            operation.attributes = self.attributes()?;
        }
        while self.cursor.peek() == Some(b'(') {
            // The function's own body is the first scope.
            if scopes.len() > MAXIMUM_BLOCK_DEPTH {
                let message = format!("blocks nest deeper than {MAXIMUM_BLOCK_DEPTH}");
                return Err(self.cursor.error(message));
            }
            let inputs = self.parameters(scopes)?;
            let (operations, outputs) = self.body(scopes)?;
            operation.blocks.push(mil::Block {
                inputs,
                outputs,
                operations,
                ..mil::Block::default()
            });
        }
        self.cursor.expect(b';')?;
        names.into_iter().for_each(|name| define(scopes, name));
        Ok(operation)
    }

    /// A binding, or several in parentheses.
    fn argument(&mut self, scopes: &Scopes<'t>) -> Result<mil::Argument, ParseError> {
        let mut arguments = Vec::new();
        if self.cursor.eat(b'(') {
            self.items(b')', |parser| {
                arguments.push(parser.binding(scopes)?);
                Ok(())
            })?;
        } else {
            arguments.push(self.binding(scopes)?);
        }
        Ok(mil::Argument { arguments })
    }

    fn binding(&mut self, scopes: &Scopes<'t>) -> Result<mil::argument::Binding, ParseError> {
        let before = self.cursor;
        self.cursor.name("a name or a value")?;
        let is_value = matches!(self.cursor.peek(), Some(b'<' | b'('));
        self.cursor = before;
        let binding = if is_value {
            Binding::Value(self.value()?)
        } else {
            Binding::Name(self.known_name(scopes)?.to_owned())
        };
        Ok(mil::argument::Binding { binding: Some(binding) })
    }
}

fn define<'t>(scopes: &mut Scopes<'t>, name: &'t str) {
    if let Some(scope) = scopes.last_mut() {
        scope.insert(name);
    }
}
