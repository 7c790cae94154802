//! The chat template of a model: a Jinja template that writes a conversation as one text.
//!
//! Rendered as `apply_chat_template` of transformers renders it: blocks trimmed, `tojson` as
//! Python's `json.dumps` writes, the functions `raise_exception` and `strftime_now`, methods of
//! Python's strings, and `{% generation %}`, which marks answers for training and is left out here.

use crate::tokenizer::Tokenizer;
use anemll_plugin_api::{Error, Result, codes};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Value, ValueKind};
use minijinja::{
    Environment, ErrorKind, Output, State, UndefinedBehavior, escape_formatter, filters,
};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Steps after which a template is taken to be endless; real ones need some hundred a message.
const FUEL: u64 = 2_000_000;

/// Bytes after which a template's output is taken to be endless; far beyond any context.
const LARGEST_TEXT: usize = 16 << 20;

/// Spaces of one level of indentation, at most.
const LARGEST_INDENT: i64 = 64;

/// The file that newer models keep their template in.
const FILE: &str = "chat_template.jinja";

/// What a template calls its refusal of a conversation.
const REFUSED: &str = "raise_exception: ";

/// Tokens that templates know by name.
const NAMED_TOKENS: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token"];

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// `system`, `user` or `assistant`.
    pub role: &'static str,
    /// The text.
    pub content: String,
}

impl Message {
    fn value(&self) -> Value {
        Value::from_pairs([("role", self.role), ("content", self.content.as_str())])
    }
}

/// A compiled template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: BTreeMap<String, String>,
    source: String,
    at: String,
}

impl ChatTemplate {
    /// The template beside a conversion: chat_template.jinja, else `chat_template` in
    /// tokenizer_config.json (a text, or a list of {name, template} with one named `default`).
    ///
    /// # Errors
    /// There is a template, and it cannot be read or does not compile.
    pub fn open(tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let tokens = NAMED_TOKENS
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), tokenizer.named_token(name)?.to_owned())))
            .collect();
        let Some((source, at)) = find(tokenizer)? else { return Ok(None) };
        Self::new(&source, tokens, &at).map(Some)
    }

    /// Compiles a template. `at` says in errors where it is from.
    ///
    /// # Errors
    /// The template does not compile.
    pub fn new(source: &str, tokens: BTreeMap<String, String>, at: &Path) -> Result<Self> {
        let at = at.display().to_string();
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| Error::new(codes::INTERNAL, error.to_string()))?;
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::Lenient);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_unknown_method_callback(call_method);
        environment.set_formatter(format_as_python);
        environment.add_filter("tojson", to_json);
        add_checked_filters(&mut environment);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment
            .add_template_owned("chat", without_generation_tags(source))
            .map_err(|error| compile_error(&error, &at))?;
        Ok(Self { environment, tokens, source: source.to_owned(), at })
    }

    /// Whether the template's text has a name, such as `enable_thinking`.
    pub fn mentions(&self, name: &str) -> bool {
        self.source.contains(name)
    }

    /// The text of a conversation, up to where the next answer begins.
    ///
    /// # Errors
    /// The template refuses the conversation, fails, or does not end.
    pub fn render(&self, messages: &[Message], variables: &BTreeMap<&str, bool>) -> Result<String> {
        let mut context: BTreeMap<&str, Value> = self
            .tokens
            .iter()
            .map(|(name, token)| (name.as_str(), Value::from(token.as_str())))
            .collect();
        context.insert("messages", messages.iter().map(Message::value).collect());
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        context.insert("add_generation_prompt", Value::from(true));
        for (name, value) in variables {
            context.insert(name, Value::from(*value));
        }
        let mut text = Limited(Vec::new());
        self.environment
            .get_template("chat")
            .and_then(|template| template.render_captured_to(Value::from_pairs(context), &mut text))
            .map_err(|error| self.render_error(&error))?;
        String::from_utf8(text.0)
            .map_err(|source| Error::new(codes::INTERNAL, format!("no text: {source}")))
    }

    fn render_error(&self, error: &minijinja::Error) -> Error {
        let mut detail = error.detail().unwrap_or_default();
        if let Some(refusal) = root(error).detail().and_then(|text| text.strip_prefix(REFUSED)) {
            return Error::new(
                codes::PROMPT_INVALID,
                format!("the model's chat template refuses the conversation: {refusal}"),
            )
            .with_at(self.at.clone())
            .with_hint("--no-template runs the text as it is");
        }
        if error.kind() == ErrorKind::OutOfFuel {
            detail = "it does not come to an end";
        } else if error.kind() == ErrorKind::WriteFailure {
            detail = "it writes an endless text";
        }
        template_error("fails", error, detail, &self.at)
    }
}

fn find(tokenizer: &Tokenizer) -> Result<Option<(String, std::path::PathBuf)>> {
    let path = tokenizer.directory().join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => return Ok(Some((text, path))),
        Err(source) if source.kind() == io::ErrorKind::NotFound => {}
        Err(source) => {
            return Err(Error::new(
                codes::TOKENIZER_INVALID,
                format!("the chat template cannot be read: {source}"),
            )
            .with_at(path.display().to_string()));
        }
    }
    let path = tokenizer.directory().join("tokenizer_config.json");
    let invalid = |message: String| {
        Error::new(codes::TOKENIZER_INVALID, message)
            .with_at(path.display().to_string())
            .with_hint("--no-template does without a chat template")
    };
    match tokenizer.settings().get("chat_template") {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some((text.clone(), path))),
        Some(serde_json::Value::Array(list)) => {
            let default = list
                .iter()
                .find(|entry| entry.get("name").is_some_and(|name| name == "default"))
                .and_then(|entry| entry.get("template")?.as_str());
            match default {
                Some(text) => Ok(Some((text.to_owned(), path))),
                None => Err(invalid("no chat template in the list is named `default`".to_owned())),
            }
        }
        Some(_) => Err(invalid("`chat_template` is neither a text nor a list".to_owned())),
    }
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

fn compile_error(error: &minijinja::Error, at: &str) -> Error {
    template_error("does not compile", error, error.detail().unwrap_or_default(), at)
}

fn template_error(what: &str, error: &minijinja::Error, detail: &str, at: &str) -> Error {
    let line = error.line().map_or_else(String::new, |line| format!(" at its line {line}"));
    let kind = error.kind();
    let reason = if detail.is_empty() { kind.to_string() } else { detail.to_owned() };
    Error::new(codes::TOKENIZER_INVALID, format!("the chat template {what}{line}: {reason}"))
        .with_at(at.to_owned())
        .with_hint("--no-template does without a chat template")
}

/// Python writes True, False and None.
fn format_as_python(
    output: &mut Output<'_>,
    state: &mut State<'_, '_>,
    value: &Value,
) -> std::result::Result<(), minijinja::Error> {
    let text = match value.kind() {
        ValueKind::Bool if value.is_true() => "True",
        ValueKind::Bool => "False",
        ValueKind::None => "None",
        _ => return escape_formatter(output, state, value),
    };
    output.write_str(text).map_err(minijinja::Error::from)
}

/// Registers filters that can make a long text of a short one, to run behind [`check_length`].
fn add_checked_filters(environment: &mut Environment<'_>) {
    environment.add_filter("unchecked_indent", filters::indent);
    environment.add_filter("unchecked_replace", filters::replace);
    environment.add_filter("unchecked_join", filters::join);
    environment.add_filter("unchecked_format", filters::format);
    for (name, original) in [
        ("indent", "unchecked_indent"),
        ("replace", "unchecked_replace"),
        ("join", "unchecked_join"),
        ("format", "unchecked_format"),
    ] {
        let filter = move |state: &mut State<'_, '_>, arguments: Rest<Value>| {
            if let Some((value, arguments)) = arguments.split_first() {
                check_length(name, value, arguments)?;
            }
            state.apply_filter(original, &arguments)
        };
        environment.add_filter(name, filter);
    }
}

/// Methods of Python's strings, lists and dictionaries.
fn call_method(
    state: &mut State<'_, '_>,
    value: &Value,
    method: &str,
    arguments: &[Value],
) -> std::result::Result<Value, minijinja::Error> {
    match (method, arguments) {
        // In Python the text between is the object, and the items are the argument.
        ("join", [items, ..]) => check_length("join", items, std::slice::from_ref(value))?,
        _ => check_length(method, value, arguments)?,
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, method, arguments)
}

/// Refuses a filter or method whose text would be longer than the largest.
fn check_length(
    name: &str,
    value: &Value,
    arguments: &[Value],
) -> std::result::Result<(), minijinja::Error> {
    let argument = |index: usize| arguments.get(index).map(ToString::to_string).unwrap_or_default();
    let length = match name {
        "indent" => {
            let width = |value: &Value| {
                let named = value.get_attr("width").ok().and_then(|width| width.as_i64());
                value.as_i64().or(named)
            };
            let wide = arguments.iter().filter_map(width).any(|width| width > LARGEST_INDENT);
            if wide { None } else { Some(0) }
        }
        "replace" => {
            let (text, to) = (value.to_string(), argument(1));
            let count = text.matches(&argument(0)).count();
            count.checked_mul(to.len()).and_then(|added| added.checked_add(text.len()))
        }
        "join" => {
            let joiner = argument(0).len();
            let mut length = Some(0_usize);
            for item in value.try_iter()? {
                let item = item.as_str().map_or(1, str::len);
                length = length.and_then(|length| length.checked_add(item + joiner));
                if length.is_none_or(|length| length > LARGEST_TEXT) {
                    break;
                }
            }
            length
        }
        // A width such as that of `%9999999s` is no layout.
        "format" => {
            let text = value.to_string();
            let numbers = text.split(|character: char| !character.is_ascii_digit());
            if numbers.map(str::len).any(|digits| digits > 4) { None } else { Some(0) }
        }
        _ => Some(0),
    };
    match length {
        Some(length) if length <= LARGEST_TEXT => Ok(()),
        _ => Err(minijinja::Error::new(ErrorKind::InvalidOperation, "it makes an endless text")),
    }
}

fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, format!("{REFUSED}{message}")))
}

fn strftime_now(format: String) -> std::result::Result<String, minijinja::Error> {
    let now = jiff::Zoned::now();
    jiff::fmt::strtime::format(&format, &now)
        .map_err(|source| minijinja::Error::new(ErrorKind::InvalidOperation, source.to_string()))
}

/// `json.dumps(value, ensure_ascii=False, …)`.
fn to_json(value: &Value, options: Kwargs) -> std::result::Result<String, minijinja::Error> {
    let refuse = |reason: String| minijinja::Error::new(ErrorKind::BadSerialization, reason);
    if options.get::<Option<bool>>("ensure_ascii")? == Some(true) {
        return Err(refuse("tojson(ensure_ascii=true) is not supported".to_owned()));
    }
    let indent: Option<usize> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sorted = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(refuse("tojson takes two separators".to_owned())),
        None if indent.is_some() => (",".to_owned(), ": ".to_owned()),
        None => (", ".to_owned(), ": ".to_owned()),
    };
    let mut json =
        serde_json::to_value(value).map_err(|source| refuse(format!("tojson: {source}")))?;
    if sorted {
        json.sort_all_objects();
    }
    let mut bytes = Vec::new();
    let style = PythonStyle { item, key, indent, depth: 0, empty: true };
    json.serialize(&mut serde_json::Serializer::with_formatter(&mut bytes, style))
        .map_err(|source| refuse(format!("tojson: {source}")))?;
    String::from_utf8(bytes).map_err(|source| refuse(source.to_string()))
}

/// The spaces and line breaks of `json.dumps`.
struct PythonStyle {
    item: String,
    key: String,
    indent: Option<usize>,
    depth: usize,
    /// Whether the container that is open has nothing in it yet.
    empty: bool,
}

impl PythonStyle {
    fn open<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.empty = true;
        writer.write_all(bracket)
    }

    fn close<W: ?Sized + io::Write>(&mut self, writer: &mut W, bracket: &[u8]) -> io::Result<()> {
        self.depth -= 1;
        if !self.empty {
            self.line(writer)?;
        }
        self.empty = false;
        writer.write_all(bracket)
    }

    fn next<W: ?Sized + io::Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.empty = false;
        if !first {
            writer.write_all(self.item.as_bytes())?;
        }
        self.line(writer)
    }

    fn line<W: ?Sized + io::Write>(&self, writer: &mut W) -> io::Result<()> {
        match self.indent {
            Some(indent) => {
                writer.write_all(b"\n")?;
                // One space at a time: a hostile indent must not allocate.
                (0..indent.min(LARGEST_INDENT as usize) * self.depth)
                    .try_for_each(|_| writer.write_all(b" "))
            }
            None => Ok(()),
        }
    }
}

impl serde_json::ser::Formatter for PythonStyle {
    fn begin_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"[")
    }

    fn end_array<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"]")
    }

    fn begin_array_value<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.open(writer, b"{")
    }

    fn end_object<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.close(writer, b"}")
    }

    fn begin_object_key<W: ?Sized + io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.next(writer, first)
    }

    fn begin_object_value<W: ?Sized + io::Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(self.key.as_bytes())
    }
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

/// Turns `{% generation %}` … `{% endgeneration %}` into a block that changes nothing.
fn without_generation_tags(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(start) = rest.find("{%") {
        let (before, tag) = rest.split_at(start);
        text.push_str(before);
        let end = tag.find("%}").map_or(tag.len(), |end| end + 2);
        let (tag, after) = tag.split_at(end);
        let inner = tag.trim_start_matches("{%").trim_end_matches("%}");
        let name = inner.trim_matches(['-', '+']).trim();
        match name {
            "generation" => text.push_str(&tag.replacen(name, "if true", 1)),
            "endgeneration" => text.push_str(&tag.replacen(name, "endif", 1)),
            _ => text.push_str(tag),
        }
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn template(source: &str) -> Result<ChatTemplate> {
        ChatTemplate::new(source, BTreeMap::new(), Path::new("tokenizer_config.json"))
    }

    fn render(source: &str) -> Result<String> {
        let messages = [Message { role: "user", content: "Hi <b>".to_owned() }];
        template(source)?.render(&messages, &BTreeMap::new())
    }

    #[test]
    fn a_template_that_does_not_compile_names_the_line() {
        let error = render("one\n{% for x in %}\n").unwrap_err();
        assert_eq!(error.code, codes::TOKENIZER_INVALID);
        assert!(error.message.contains("does not compile at its line 2"), "{error}");
    }

    #[test]
    fn a_template_without_end_is_an_error() {
        let endless =
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
        let error = render(endless).unwrap_err();
        assert!(error.message.contains("does not come to an end"), "{error}");
        let error = render("{% macro m() %}{{ m() }}{% endmacro %}\n{{ m() }}").unwrap_err();
        assert_eq!(error.code, codes::TOKENIZER_INVALID, "{error}");
        for memory in [
            "{{ 'x' * 9999999999 }}",
            "{{ [1] * 9999999999 }}",
            "{{ range(9999999999)|list }}",
            "{{ 'a'|indent(9999999999) }}",
            "{{ 'a'|indent(width=9999999999, first=true) }}",
            "{{ '%9999999999s'|format('a') }}",
            "{{ '{:9999999999}'.format('a') }}",
            "{% set a = 'x' * 99999 %}{{ a|replace('x', a) }}",
            "{% set a = 'x' * 99999 %}{{ a.replace('', a) }}",
            "{% set a = 'x' * 99999 %}{{ a|join(a) }}",
            "{% set a = 'x' * 99999 %}{{ a.join(a) }}",
        ] {
            let error = render(memory).unwrap_err();
            assert_eq!(error.code, codes::TOKENIZER_INVALID, "{memory}: {error}");
        }
        let text = "{{ ('a\nb'|indent(2, true)) ~ 'xy'.replace('x', 'z') ~ '-'.join(['1', '2']) \
                    ~ '%s!'|format(3) ~ [4, 5]|join(',') ~ 'ab'|replace('a', 'c') }}";
        assert_eq!(render(text).unwrap(), "  a\n  bzy1-23!4,5cb");
        let long = "{% for a in range(9999) %}{{ 'x' * 9999 }}{% endfor %}";
        let error = render(long).unwrap_err();
        assert!(error.message.contains("endless text"), "{error}");
    }

    #[test]
    fn a_refusal_is_the_templates_own_message() {
        let source =
            "{% macro m() %}{{ raise_exception('no ' ~ messages[0].role) }}{% endmacro %}{{ m() }}";
        let error = render(source).unwrap_err();
        assert_eq!(error.code, codes::PROMPT_INVALID);
        assert!(error.message.ends_with("refuses the conversation: no user"), "{error}");
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        let text =
            render("{{ true }} {{ none }} {{ missing }}{{ {'a': [1, '<é\"'], 'b': {}}|tojson }}");
        assert_eq!(text.unwrap(), "True None {\"a\": [1, \"<é\\\"\"], \"b\": {}}");
        let text = render("{{ {'b': [1, 2], 'a': []}|tojson(indent=2, sort_keys=true) }}");
        assert_eq!(text.unwrap(), "{\n  \"a\": [],\n  \"b\": [\n    1,\n    2\n  ]\n}");
        let text = render("{{ [1, {'a': none}]|tojson(separators=(',', ':')) }}");
        assert_eq!(text.unwrap(), "[1,{\"a\":null}]");
    }

    #[test]
    fn generation_tags_change_nothing() {
        let source = "{%- generation -%}\n {{ messages[0].content }} {% endgeneration %}\nend";
        assert_eq!(render(source).unwrap(), "Hi <b> end");
    }

    #[test]
    fn the_date_is_todays() {
        let year = render("{{ strftime_now('%Y') }}").unwrap();
        assert!(year.parse::<u32>().unwrap() >= 2025, "{year}");
        assert!(render("{{ strftime_now('%!') }}").is_err());
    }
}
