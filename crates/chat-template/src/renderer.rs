//! The template engine, set up as transformers sets up jinja2, with bounds of its own.

use crate::LARGEST_TEXT;
use crate::failure::{Failure, Kind};
use crate::python::text::{ENDLESS, TOO_DEEP};
use crate::python::{More, Outcome, collections, filters, operators, refuse, text};
use crate::rewrite::{CONCATENATE, MODULO, MULTIPLY, SLICE, TOO_COMPLEX, rewrite};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value, ValueKind, ValueOrKwargs};
use minijinja::{
    AutoEscape, Environment, ErrorKind, Output, State, UndefinedBehavior, escape_formatter,
};
use std::collections::BTreeMap;
use std::io;

/// Steps after which a template is taken to be endless; real ones need some hundred a message.
const FUEL: u64 = 2_000_000;

/// What a template calls its refusal of a conversation.
const REFUSED: &str = "raise_exception: ";

/// The name of the one template of an environment.
const NAME: &str = "chat";

/// A compiled template, in this process.
pub(crate) struct Renderer {
    environment: Environment<'static>,
    tokens: BTreeMap<String, String>,
}

impl Renderer {
    /// Compiles a template that knows `tokens` by name.
    pub(crate) fn new(source: &str, tokens: BTreeMap<String, String>) -> Result<Self, Failure> {
        let source = rewrite(source).map_err(|line| Failure {
            kind: Kind::Limit,
            line: Some(line),
            reason: TOO_COMPLEX.to_owned(),
        })?;
        let mut environment = environment().map_err(|error| failure(&error, Kind::Compile))?;
        environment
            .add_template_owned(NAME, source)
            .map_err(|error| failure(&error, Kind::Compile))?;
        Ok(Self { environment, tokens })
    }

    /// The text of a conversation, up to where the next answer begins.
    pub(crate) fn render(
        &self,
        messages: &[serde_json::Value],
        variables: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<String, Failure> {
        let mut context: BTreeMap<&str, Value> = self
            .tokens
            .iter()
            .map(|(name, token)| (name.as_str(), Value::from(token.as_str())))
            .collect();
        context.insert(
            "messages",
            messages.iter().map(|message| Value::from(Serde(message))).collect(),
        );
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        context.insert("add_generation_prompt", Value::from(true));
        for (name, value) in variables {
            context.insert(name, Value::from(Serde(value)));
        }
        let mut text = Limited(Vec::new());
        self.environment
            .get_template(NAME)
            .and_then(|template| template.render_captured_to(Value::from_pairs(context), &mut text))
            .map_err(|error| failure(&error, Kind::Render))?;
        String::from_utf8(text.0).map_err(|error| Failure {
            kind: Kind::Render,
            line: None,
            reason: format!("it writes no text: {error}"),
        })
    }
}

fn environment() -> Outcome<Environment<'static>> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_debug(false);
    environment.set_unknown_method_callback(crate::python::call_method);
    environment.set_formatter(format_as_python);
    environment.remove_global("debug");
    environment.add_function(MODULO, operators::modulo);
    environment.add_function(CONCATENATE, operators::concatenate);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    environment.add_function(MULTIPLY, operators::multiply);
    environment.add_function(SLICE, operators::slice);
    environment.add_function("cycler", cycler);
    environment.add_function("namespace", namespace);
    environment.add_function("joiner", minijinja_contrib::globals::joiner);
    filters::add(&mut environment);
    environment.add_test("sequence", is_sequence);
    environment.add_test("iterable", is_iterable);
    environment.add_test("callable", is_callable);
    Ok(environment)
}

fn failure(error: &minijinja::Error, kind: Kind) -> Failure {
    let line = error.line();
    let innermost = root(error);
    let detail = innermost.detail().unwrap_or_default();
    if let Some(refusal) = detail.strip_prefix(REFUSED) {
        return Failure::new(Kind::Refused, line, refusal);
    }
    let limit = match innermost.kind() {
        ErrorKind::OutOfFuel => Some("it does not come to an end"),
        ErrorKind::WriteFailure => Some("it writes an endless text"),
        _ if detail == ENDLESS || detail == TOO_DEEP => Some(detail),
        _ => None,
    };
    if let Some(reason) = limit {
        return Failure::new(Kind::Limit, line, reason);
    }
    let detail = error.detail().unwrap_or_default();
    let reason = if detail.is_empty() { error.kind().to_string() } else { detail.to_owned() };
    // The engine's own names for operators are nobody's business.
    let reason = reason
        .replace(MODULO, "%")
        .replace(CONCATENATE, "~")
        .replace(MULTIPLY, "*")
        .replace(SLICE, "[:]");
    Failure::new(kind, line, &reason)
}

/// The error that all others were caused by.
fn root(error: &minijinja::Error) -> &minijinja::Error {
    let mut innermost = error;
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(source) = next {
        innermost = source.downcast_ref().unwrap_or(innermost);
        next = source.source();
    }
    innermost
}

/// Writes a value as Python's `str` does.
fn format_as_python(
    output: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> Outcome<()> {
    if !matches!(state.auto_escape(), AutoEscape::None) {
        return escape_formatter(output, state, value);
    }
    if value.kind() == ValueKind::String {
        let text = value.as_str().unwrap_or_default();
        return output.write_str(text).map_err(minijinja::Error::from);
    }
    output.write_str(&text::str(value)?).map_err(minijinja::Error::from)
}

fn cycler(items: minijinja::value::Rest<Value>) -> Outcome {
    minijinja_contrib::globals::cycler(items.0)
}

/// `namespace(mapping, name=value, …)`.
fn namespace(arguments: More) -> Outcome {
    let mut pairs = Vec::new();
    for argument in arguments.into_values() {
        if argument.kind() != ValueKind::Map {
            return Err(refuse("`namespace` needs a mapping or arguments with names"));
        }
        for key in argument.try_iter()?.checked() {
            let key = key?;
            let item = argument.get_item(&key)?;
            pairs.push((key, item));
        }
    }
    minijinja::functions::namespace(Some(ValueOrKwargs::from(Value::from_pairs(pairs))))
}

/// What has a length and items: texts and mappings too.
fn is_sequence(value: &Value) -> bool {
    match value.kind() {
        ValueKind::String | ValueKind::Map | ValueKind::Seq | ValueKind::Undefined => true,
        ValueKind::Iterable => {
            value.len().is_some() && value.downcast_object_ref::<collections::View>().is_none()
        }
        _ => false,
    }
}

fn is_iterable(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::String | ValueKind::Undefined)
        || (!value.is_none() && value.try_iter().is_ok())
}

fn is_callable(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Plain | ValueKind::Undefined)
}

fn raise_exception(message: &Value) -> Outcome {
    Err(refuse(format!("{REFUSED}{}", text::str(message)?)))
}

fn strftime_now(format: String) -> Outcome<String> {
    let now = jiff::Zoned::now();
    jiff::fmt::strtime::format(&format, &now).map_err(|source| refuse(source.to_string()))
}

/// A text that cannot grow without end.
struct Limited(Vec<u8>);

impl io::Write for &mut Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > LARGEST_TEXT {
            return Err(io::Error::other("too much text"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
