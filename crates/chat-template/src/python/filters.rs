//! Filters that are otherwise in jinja2, or that could make a long text of a short one.

use super::arguments::Arguments;
use super::operators::percent;
use super::text::{self, Text, endless, write_str};
use super::{More, Outcome, json, refuse, strings};
use minijinja::value::{Tuple, ValueKind};
use minijinja::{Environment, Value};

/// Spaces of one level of indentation, at most.
const LARGEST_INDENT: usize = 64;

/// Adds the filters.
pub(crate) fn add(environment: &mut Environment<'_>) {
    environment.add_filter("attr", attr);
    environment.add_filter("center", center);
    environment.add_filter("e", escape);
    environment.add_filter("escape", escape);
    environment.add_filter("filesizeformat", file_size);
    environment.add_filter("float", float);
    environment.add_filter("forceescape", escape);
    environment.add_filter("format", format);
    environment.add_filter("indent", indent);
    environment.add_filter("int", int);
    environment.add_filter("join", join);
    environment.add_filter("count", length);
    environment.add_filter("length", length);
    environment.add_filter("pprint", text::repr);
    environment.add_filter("replace", replace);
    environment.add_filter("string", text::str);
    environment.add_filter("striptags", minijinja_contrib::filters::striptags);
    environment.add_filter("tojson", json::to_json);
    environment.add_filter("truncate", truncate);
    environment.add_filter("urlencode", url_encode);
    environment.add_filter("wordcount", word_count);
}

/// `attr(name)`: an attribute, which an entry of a mapping is not.
fn attr(value: &Value, name: &str) -> Outcome {
    if value.kind() == ValueKind::Map {
        return Ok(Value::UNDEFINED);
    }
    value.get_attr(name)
}

/// `center(width=80)`.
fn center(value: &Value, arguments: More) -> Outcome {
    let arguments = arguments.into_values();
    let mut arguments = Arguments::new("center", &arguments)?;
    let width = arguments.integer("width")?.unwrap_or(80);
    arguments.finish()?;
    strings::call(&Value::from(text::str(value)?), "center", &[Value::from(width)])
}

/// `escape`: for HTML.
fn escape(value: &Value) -> Outcome {
    if value.is_safe() {
        return Ok(value.clone());
    }
    let mut escaped = Text::default();
    for character in text::str(value)?.chars() {
        match character {
            '&' => escaped.push("&amp;")?,
            '<' => escaped.push("&lt;")?,
            '>' => escaped.push("&gt;")?,
            '"' => escaped.push("&#34;")?,
            '\'' => escaped.push("&#39;")?,
            _ => escaped.push(character.encode_utf8(&mut [0; 4]))?,
        }
    }
    Ok(Value::from_safe_string(escaped.finish()))
}

/// `filesizeformat(binary=false)`.
fn file_size(value: &Value, arguments: More) -> Outcome<String> {
    let arguments = arguments.into_values();
    let mut arguments = Arguments::new("filesizeformat", &arguments)?;
    let binary = arguments.flag("binary")?;
    arguments.finish()?;
    let bytes = number(value).ok_or_else(|| refuse("`filesizeformat` needs a number"))?;
    let base: f64 = if binary { 1024.0 } else { 1000.0 };
    if bytes == 1.0 {
        return Ok("1 Byte".to_owned());
    }
    if bytes < base {
        return Ok(format!("{bytes:.0} Bytes"));
    }
    let units = if binary {
        ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"]
    } else {
        ["kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"]
    };
    let mut size = bytes / base;
    let mut unit = units[0];
    for larger in &units[1..] {
        if size < base {
            break;
        }
        size /= base;
        unit = larger;
    }
    Ok(format!("{size:.1} {unit}"))
}

fn number(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(if value.is_true() { 1.0 } else { 0.0 }),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        ValueKind::String => parse_float(value.as_str().unwrap_or_default()),
        _ => None,
    }
}

/// A float as Python reads it: with spaces around it, and underscores between its digits.
fn parse_float(text: &str) -> Option<f64> {
    text.trim_matches(strings::is_space).replace('_', "").parse().ok()
}

/// `float(default=0.0)`.
fn float(value: &Value, arguments: More) -> Outcome {
    let arguments = arguments.into_values();
    let mut arguments = Arguments::new("float", &arguments)?;
    let default = arguments.take("default")?;
    arguments.finish()?;
    Ok(number(value).map(Value::from).or(default).unwrap_or_else(|| Value::from(0.0)))
}

/// `format(…)`: as `%`, with several values or with names.
fn format(pattern: &Value, arguments: More) -> Outcome<String> {
    let arguments = arguments.into_values();
    let pattern = text::str(pattern)?;
    match arguments.as_slice() {
        [named] if named.is_kwargs() => percent(&pattern, named),
        [.., last] if last.is_kwargs() => {
            Err(refuse("`format` takes values by position or by name, not both"))
        }
        _ => percent(&pattern, &Value::from(Tuple::from(arguments))),
    }
}

/// `indent(width=4, first=false, blank=false)`.
fn indent(value: &Value, arguments: More) -> Outcome<String> {
    let arguments = arguments.into_values();
    let mut arguments = Arguments::new("indent", &arguments)?;
    let width = arguments.take_some("width")?.unwrap_or_else(|| Value::from(4));
    let (first, blank) = (arguments.flag("first")?, arguments.flag("blank")?);
    arguments.finish()?;
    let space = match (width.as_str(), width.as_i64()) {
        (Some(space), _) => space.to_owned(),
        (None, Some(width)) => match usize::try_from(width).unwrap_or(0) {
            width if width > LARGEST_INDENT => return Err(endless()),
            width => " ".repeat(width),
        },
        _ => return Err(refuse("`indent` needs a width")),
    };
    let mut indented = Text::default();
    // A line break at the end begins another line, an empty one.
    for (index, line) in text::str(value)?.split('\n').enumerate() {
        if index > 0 {
            indented.push("\n")?;
        }
        if if index == 0 { first } else { blank || !line.is_empty() } {
            indented.push(&space)?;
        }
        indented.push(line.strip_suffix('\r').unwrap_or(line))?;
    }
    Ok(indented.finish())
}

/// `int(default=0, base=10)`.
fn int(value: &Value, arguments: More) -> Outcome {
    let arguments = arguments.into_values();
    let mut arguments = Arguments::new("int", &arguments)?;
    let default = arguments.take("default")?.unwrap_or_else(|| Value::from(0));
    let base = arguments.integer("base")?.unwrap_or(10);
    arguments.finish()?;
    let whole = |number: f64| {
        // As far as 128 bits go.
        (number.is_finite() && number.abs() < 1e38).then(|| Value::from(number.trunc() as i128))
    };
    let number = match value.kind() {
        ValueKind::Number if value.is_integer() => Some(value.clone()),
        ValueKind::Bool => Some(Value::from(i64::from(value.is_true()))),
        ValueKind::Number => f64::try_from(value.clone()).ok().and_then(whole),
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            parse_integer(text, base).map(Value::from).or_else(|| parse_float(text).and_then(whole))
        }
        _ => None,
    };
    Ok(number.unwrap_or(default))
}

fn parse_integer(text: &str, base: i64) -> Option<i128> {
    let text = text.trim_matches(strings::is_space).replace('_', "").to_lowercase();
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(&text)),
    };
    let prefixes = [("0x", 16), ("0o", 8), ("0b", 2)];
    let prefixed = prefixes.into_iter().find_map(|(prefix, of)| {
        let digits = digits.strip_prefix(prefix)?;
        (base == of || base == 0).then_some((digits, of))
    });
    let (digits, base) = prefixed.unwrap_or((digits, if base == 0 { 10 } else { base }));
    let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base))?;
    if digits.starts_with(['+', '-']) {
        return None;
    }
    i128::from_str_radix(&format!("{sign}{digits}"), base).ok()
}

/// `join(d='', attribute=none)`.
fn join(value: &Value, arguments: More) -> Outcome<String> {
    let arguments = arguments.into_values();
    let mut arguments = Arguments::new("join", &arguments)?;
    let joiner =
        arguments.take("d")?.map_or_else(|| Ok(String::new()), |value| text::str(&value))?;
    let attribute = arguments.take_some("attribute")?;
    arguments.finish()?;
    let mut joined = Text::default();
    for (index, item) in value.try_iter()?.checked().enumerate() {
        let mut item = item?;
        if index > 0 {
            joined.push(&joiner)?;
        }
        match &attribute {
            Some(path) if path.as_str().is_some() => {
                for part in path.as_str().unwrap_or_default().split('.') {
                    let key = part.parse::<usize>().map_or_else(|_| Value::from(part), Value::from);
                    item = item.get_item(&key)?;
                }
            }
            Some(key) => item = item.get_item(key)?,
            None => {}
        }
        write_str(&item, &mut joined)?;
    }
    Ok(joined.finish())
}

/// `length`: of nothing, 0.
fn length(value: &Value) -> Outcome<usize> {
    if value.is_undefined() {
        return Ok(0);
    }
    value.len().ok_or_else(|| refuse(format!("`length` of {}", value.kind())))
}

/// `replace(old, new, count=none)`.
fn replace(value: &Value, arguments: More) -> Outcome<String> {
    let arguments = arguments.into_values();
    let mut arguments = Arguments::new("replace", &arguments)?;
    let (old, new) = (arguments.need("old")?, arguments.need("new")?);
    let count = arguments.integer("count")?.unwrap_or(-1);
    arguments.finish()?;
    strings::replace(&text::str(value)?, &text::str(&old)?, &text::str(&new)?, count)
}

/// `truncate(length=255, killwords=false, end='...', leeway=5)`.
fn truncate(value: &Value, arguments: More) -> Outcome<String> {
    let arguments = arguments.into_values();
    let mut arguments = Arguments::new("truncate", &arguments)?;
    let length = arguments.integer("length")?.unwrap_or(255);
    let kill_words = arguments.flag("killwords")?;
    let end = arguments.text("end")?.unwrap_or_else(|| "...".to_owned());
    let leeway = arguments.integer("leeway")?.unwrap_or(5);
    arguments.finish()?;
    let whole = text::str(value)?;
    let (length, leeway) =
        (usize::try_from(length).unwrap_or(0), usize::try_from(leeway).unwrap_or(0));
    let kept = length.checked_sub(end.chars().count());
    let kept = kept.ok_or_else(|| refuse("`truncate`: the end is longer than the length"))?;
    if whole.chars().count() <= length.saturating_add(leeway) {
        return Ok(whole);
    }
    let cut: String = whole.chars().take(kept).collect();
    if kill_words {
        return Ok(cut + &end);
    }
    Ok(cut.rsplit_once(' ').map_or(cut.as_str(), |(before, _)| before).to_owned() + &end)
}

/// `urlencode`: a text for a path, or a mapping or pairs for a query.
fn url_encode(value: &Value) -> Outcome<String> {
    let mut encoded = Text::default();
    let pairs: Vec<(Value, Value)> = match value.kind() {
        ValueKind::Map => {
            let keys: Vec<Value> = value.try_iter()?.checked().collect::<Outcome<_>>()?;
            let pair = |key: Value| Ok((key.clone(), value.get_item(&key)?));
            keys.into_iter().map(pair).collect::<Outcome<_>>()?
        }
        ValueKind::Seq | ValueKind::Iterable => value
            .try_iter()?
            .checked()
            .map(|pair| {
                let pair = pair?;
                Ok((pair.get_item_by_index(0)?, pair.get_item_by_index(1)?))
            })
            .collect::<Outcome<_>>()?,
        _ => {
            quote(&text::str(value)?, false, &mut encoded)?;
            return Ok(encoded.finish());
        }
    };
    for (index, (key, item)) in pairs.iter().enumerate() {
        encoded.push(if index > 0 { "&" } else { "" })?;
        quote(&text::str(key)?, true, &mut encoded)?;
        encoded.push("=")?;
        quote(&text::str(item)?, true, &mut encoded)?;
    }
    Ok(encoded.finish())
}

fn quote(text: &str, for_query: bool, encoded: &mut Text) -> Outcome<()> {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte).encode_utf8(&mut [0; 4]))?;
            }
            b'/' if !for_query => encoded.push("/")?,
            b' ' if for_query => encoded.push("+")?,
            _ => encoded.push(&format!("%{byte:02X}"))?,
        }
    }
    Ok(())
}

/// `wordcount`: runs of letters, digits and underscores.
fn word_count(value: &Value) -> Outcome<usize> {
    let text = text::str(value)?;
    let words = text.split(|character: char| character != '_' && !character.is_alphanumeric());
    Ok(words.filter(|word| !word.is_empty()).count())
}
