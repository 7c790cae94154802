//! Methods of texts, and of bytes as far as `encode` makes them.

use super::arguments::Arguments;
use super::characters::{is_decimal, is_digit, is_numeric, is_spacing_mark};
use super::collections::clip;
use super::operators::LARGEST_WIDTH;
use super::text::{Text, endless, is_printable};
use super::{Outcome, refuse};
use crate::LARGEST_TEXT;
use minijinja::formatting::{FormatStyle, format};
use minijinja::value::Tuple;
use minijinja::{Error, ErrorKind, Value};

/// A method of a text.
pub(crate) fn call(value: &Value, method: &str, values: &[Value]) -> Outcome {
    let text = value.as_str().ok_or_else(|| Error::from(ErrorKind::UnknownMethod))?;
    if matches!(method, "format" | "format_map") {
        return format_braces(text, method, values);
    }
    let mut arguments = Arguments::new(method, values)?;
    let result = match method {
        "upper" => Value::from(text.to_uppercase()),
        "lower" => Value::from(text.to_lowercase()),
        "casefold" => Value::from(unicase::UniCase::unicode(text).to_folded_case()),
        "swapcase" => Value::from(swap_case(text)),
        "title" => Value::from(title(text)),
        "capitalize" => Value::from(capitalize(text)),
        "strip" | "lstrip" | "rstrip" => {
            let characters = arguments.text("chars")?;
            let stripped = |character: char| match &characters {
                Some(characters) => characters.contains(character),
                None => is_space(character),
            };
            Value::from(match method {
                "strip" => text.trim_matches(stripped),
                "lstrip" => text.trim_start_matches(stripped),
                _ => text.trim_end_matches(stripped),
            })
        }
        "removeprefix" => {
            let prefix = arguments.need_text("prefix")?;
            Value::from(text.strip_prefix(prefix.as_str()).unwrap_or(text))
        }
        "removesuffix" => {
            let suffix = arguments.need_text("suffix")?;
            Value::from(text.strip_suffix(suffix.as_str()).unwrap_or(text))
        }
        "replace" => {
            let (old, new) = (arguments.need_text("old")?, arguments.need_text("new")?);
            let count = arguments.integer("count")?.unwrap_or(-1);
            Value::from(replace(text, &old, &new, count)?)
        }
        "split" | "rsplit" => {
            let separator = arguments.text("sep")?;
            let most = arguments.integer("maxsplit")?.unwrap_or(-1);
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            split(text, separator.as_deref(), most, method == "rsplit")?
        }
        "splitlines" => {
            let keep = arguments.flag("keepends")?;
            split_lines(text, keep).into_iter().map(Value::from).collect()
        }
        "partition" | "rpartition" => {
            let separator = arguments.need_text("sep")?;
            let parts = match (separator.is_empty(), method) {
                (true, _) => return Err(refuse(format!("`{method}` needs a separator"))),
                (_, "partition") => text
                    .split_once(&separator)
                    .map_or((text, "", ""), |(before, after)| (before, &separator, after)),
                _ => text
                    .rsplit_once(&separator)
                    .map_or(("", "", text), |(before, after)| (before, &separator, after)),
            };
            Value::from(Tuple::from([parts.0, parts.1, parts.2].map(Value::from)))
        }
        "find" | "rfind" | "index" | "rindex" => {
            let wanted = arguments.need_text("sub")?;
            let found = window(text, &mut arguments)?.and_then(|(start, part)| {
                let at =
                    if method.starts_with('r') { part.rfind(&wanted) } else { part.find(&wanted) };
                at.map(|at| start + part[..at].chars().count())
            });
            match found {
                Some(position) => Value::from(position),
                None if method.ends_with("find") => Value::from(-1),
                None => return Err(refuse(format!("`{method}`: the text is not there"))),
            }
        }
        "count" => {
            let wanted = arguments.need_text("sub")?;
            let part = window(text, &mut arguments)?;
            Value::from(part.map_or(0, |(_, part)| part.matches(&wanted).count()))
        }
        "startswith" | "endswith" => {
            let wanted = arguments.need("prefix")?;
            let part = window(text, &mut arguments)?.map(|(_, part)| part);
            let fits = |wanted: &Value| match wanted.as_str() {
                Some(wanted) if method == "startswith" => {
                    Ok(part.is_some_and(|part| part.starts_with(wanted)))
                }
                Some(wanted) => Ok(part.is_some_and(|part| part.ends_with(wanted))),
                None => Err(refuse(format!("`{method}` needs a text or a tuple of texts"))),
            };
            if wanted.is_tuple() {
                let mut any = false;
                for wanted in wanted.try_iter()?.checked() {
                    any |= fits(&wanted?)?;
                }
                Value::from(any)
            } else {
                Value::from(fits(&wanted)?)
            }
        }
        "join" => Value::from(join(text, &arguments.need("iterable")?)?),
        "ljust" | "rjust" | "center" => {
            let width = arguments.need_integer("width")?;
            let fill = arguments.text("fillchar")?.unwrap_or_else(|| " ".to_owned());
            if fill.chars().count() != 1 {
                return Err(refuse(format!("`{method}` fills with one character")));
            }
            Value::from(justify(text, width, &fill, method)?)
        }
        "zfill" => {
            let width = arguments.need_integer("width")?;
            let sign = usize::from(text.starts_with(['+', '-']));
            let (sign, digits) = text.split_at(sign);
            let width = width.saturating_sub(i64::from(!sign.is_empty()));
            Value::from(format!("{sign}{}", justify(digits, width, "0", "rjust")?))
        }
        "expandtabs" => {
            let width = arguments.integer("tabsize")?.unwrap_or(8);
            Value::from(expand_tabs(text, usize::try_from(width).unwrap_or(0))?)
        }
        "translate" => Value::from(translate(text, &arguments.need("table")?)?),
        "encode" => {
            let encoding = arguments.text("encoding")?.unwrap_or_else(|| "utf-8".to_owned());
            check_encoding(&encoding)?;
            Value::from_bytes(text.as_bytes().to_vec())
        }
        _ => Value::from(is_method(text, method)?),
    };
    arguments.finish()?;
    Ok(result)
}

/// A method of bytes.
pub(crate) fn call_bytes(value: &Value, method: &str, values: &[Value]) -> Outcome {
    let bytes = value.as_bytes().unwrap_or_default();
    let mut arguments = Arguments::new(method, values)?;
    let result = match method {
        "decode" => {
            let encoding = arguments.text("encoding")?.unwrap_or_else(|| "utf-8".to_owned());
            check_encoding(&encoding)?;
            let text = std::str::from_utf8(bytes)
                .map_err(|_| refuse("`decode`: the bytes are not valid UTF-8"))?;
            Value::from(text)
        }
        "hex" => Value::from(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    };
    arguments.finish()?;
    Ok(result)
}

/// Whether Python takes a character for a space.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// `text.isalpha()` and its kin.
fn is_method(text: &str, method: &str) -> Outcome<bool> {
    let all = |test: fn(char) -> bool| !text.is_empty() && text.chars().all(test);
    let any = |test: fn(char) -> bool| text.chars().any(test);
    Ok(match method {
        "isalpha" => all(is_letter),
        "isalnum" => all(|character| is_letter(character) || is_numeric(character)),
        "isdecimal" => all(is_decimal),
        "isdigit" => all(is_digit),
        "isnumeric" => all(is_numeric),
        "isspace" => all(is_space),
        "isascii" => text.is_ascii(),
        "isprintable" => text.chars().all(is_printable),
        "islower" => any(char::is_lowercase) && !any(|c| c.is_uppercase() || is_title_case(c)),
        "isupper" => any(char::is_uppercase) && !any(|c| c.is_lowercase() || is_title_case(c)),
        "istitle" => is_title(text),
        "isidentifier" => {
            let mut characters = text.chars();
            characters.next().is_some_and(|first| first == '_' || is_letter(first))
                && characters.all(|next| {
                    matches!(next, '_' | '\u{b7}')
                        || next.is_alphabetic()
                        || is_decimal(next)
                        || is_mark(next)
                })
        }
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    })
}

/// A letter by category, which leaves out marks and numerals that Rust counts as alphabetic.
fn is_letter(character: char) -> bool {
    // Letters that are numbers, such as Ⅷ, are alphabetic and no letters.
    let is_letter_number = character.is_numeric();
    let combines = character.is_alphabetic() && is_mark(character);
    character.is_alphabetic() && !is_letter_number && !combines
}

/// A mark that is alphabetic in Unicode's wider sense, or a circled letter.
fn is_mark(character: char) -> bool {
    // Alone at the beginning of a text a mark is escaped, after a letter it is not.
    let first = character.escape_debug().count() > 1;
    let circled = ('\u{24b6}'..='\u{24e9}').contains(&character)
        || ('\u{1f130}'..='\u{1f189}').contains(&character);
    (first && is_printable(character)) || is_spacing_mark(character) || circled
}

fn is_title_case(character: char) -> bool {
    matches!(u32::from(character),
        0x1c5 | 0x1c8 | 0x1cb | 0x1f2 | 0x1f88..=0x1f8f | 0x1f98..=0x1f9f | 0x1fa8..=0x1faf
        | 0x1fbc | 0x1fcc | 0x1ffc)
}

fn is_cased(character: char) -> bool {
    character.is_lowercase() || character.is_uppercase() || is_title_case(character)
}

fn is_title(text: &str) -> bool {
    let (mut within, mut any) = (false, false);
    for character in text.chars() {
        if character.is_uppercase() || is_title_case(character) {
            if within {
                return false;
            }
            (within, any) = (true, true);
        } else if character.is_lowercase() {
            if !within {
                return false;
            }
            any = true;
        } else {
            within = false;
        }
    }
    any
}

fn swap_case(text: &str) -> String {
    let mut swapped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_uppercase() {
            swapped.extend(character.to_lowercase());
        } else if character.is_lowercase() {
            swapped.extend(character.to_uppercase());
        } else {
            swapped.push(character);
        }
    }
    swapped
}

/// A character as the first of a word.
fn push_title_case(text: &mut String, character: char) {
    match u32::from(character) {
        // Digraphs, whose second letter stays small.
        0x1c4..=0x1c6 => text.push('\u{1c5}'),
        0x1c7..=0x1c9 => text.push('\u{1c8}'),
        0x1ca..=0x1cc => text.push('\u{1cb}'),
        0x1f1..=0x1f3 => text.push('\u{1f2}'),
        // Greek vowels with an iota below, whose capitals keep it.
        code @ 0x1f80..=0x1faf => text.extend(char::from_u32(code | 8)),
        0x1fb3 | 0x1fbc => text.push('\u{1fbc}'),
        0x1fc3 | 0x1fcc => text.push('\u{1fcc}'),
        0x1ff3 | 0x1ffc => text.push('\u{1ffc}'),
        // Georgian has capitals, and writes no word with only the first as one.
        0x10d0..=0x10ff => text.push(character),
        _ => {
            let mut upper = character.to_uppercase();
            text.extend(upper.next());
            text.extend(upper.flat_map(char::to_lowercase));
        }
    }
}

fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut within = false;
    for character in text.chars() {
        if within {
            titled.extend(character.to_lowercase());
        } else {
            push_title_case(&mut titled, character);
        }
        within = is_cased(character);
    }
    titled
}

fn capitalize(text: &str) -> String {
    let mut capitalized = String::with_capacity(text.len());
    let mut characters = text.chars();
    if let Some(first) = characters.next() {
        push_title_case(&mut capitalized, first);
        capitalized += &characters.as_str().to_lowercase();
    }
    capitalized
}

/// Replaces up to `count` times; always where that is negative.
pub(crate) fn replace(text: &str, old: &str, new: &str, count: i64) -> Outcome<String> {
    let most = usize::try_from(count).unwrap_or(usize::MAX);
    let found = text.matches(old).count().min(most);
    let length = found.checked_mul(new.len()).and_then(|added| added.checked_add(text.len()));
    if length.is_none_or(|length| length > LARGEST_TEXT) {
        return Err(endless());
    }
    Ok(text.replacen(old, new, most))
}

/// `separator.join(items)`.
fn join(separator: &str, items: &Value) -> Outcome<String> {
    let mut text = Text::default();
    for (index, item) in items.try_iter()?.checked().enumerate() {
        if index > 0 {
            text.push(separator)?;
        }
        let item = item?;
        let Some(item) = item.as_str() else {
            return Err(refuse(format!("`join` needs texts, not {}", item.kind())));
        };
        text.push(item)?;
    }
    Ok(text.finish())
}

fn split(text: &str, separator: Option<&str>, most: usize, from_right: bool) -> Outcome {
    let pieces = most.saturating_add(1);
    let parts: Vec<&str> = match separator {
        Some("") => return Err(refuse("`split` needs a separator")),
        Some(separator) if from_right => {
            let mut parts: Vec<&str> = text.rsplitn(pieces, separator).collect();
            parts.reverse();
            parts
        }
        Some(separator) => text.splitn(pieces, separator).collect(),
        None => split_spaces(text, most, from_right),
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

fn split_spaces(text: &str, most: usize, from_right: bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = if from_right {
        text.trim_end_matches(is_space)
    } else {
        text.trim_start_matches(is_space)
    };
    while !rest.is_empty() {
        if parts.len() == most {
            // The last part keeps its spaces, but for those at the outer end.
            parts.push(rest);
            break;
        }
        if from_right {
            let start = rest
                .char_indices()
                .rfind(|(_, character)| is_space(*character))
                .map_or(0, |(at, character)| at + character.len_utf8());
            parts.push(&rest[start..]);
            rest = rest[..start].trim_end_matches(is_space);
        } else {
            let end = rest.find(is_space).unwrap_or(rest.len());
            parts.push(&rest[..end]);
            rest = rest[end..].trim_start_matches(is_space);
        }
    }
    if from_right {
        parts.reverse();
    }
    parts
}

fn split_lines(text: &str, keep: bool) -> Vec<&str> {
    let ends = [
        '\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}',
        '\u{2029}',
    ];
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (end, next) = match rest.char_indices().find(|(_, character)| ends.contains(character))
        {
            Some((at, _)) if rest[at..].starts_with("\r\n") => (at, at + 2),
            Some((at, character)) => (at, at + character.len_utf8()),
            None => (rest.len(), rest.len()),
        };
        lines.push(&rest[..if keep { next } else { end }]);
        rest = &rest[next..];
    }
    lines
}

/// The part of a text from `start` to `end` with its first position, counted in characters;
/// nothing where the start lies behind the text.
fn window<'a>(text: &'a str, arguments: &mut Arguments<'_>) -> Outcome<Option<(usize, &'a str)>> {
    let (start, end) = (arguments.integer("start")?, arguments.integer("end")?);
    if start.is_none() && end.is_none() {
        return Ok(Some((0, text)));
    }
    let length = text.chars().count();
    if start.is_some_and(|start| usize::try_from(start).is_ok_and(|start| start > length)) {
        return Ok(None);
    }
    let (start, end) = clip(start, end, length);
    let offset =
        |position: usize| text.char_indices().nth(position).map_or(text.len(), |(at, _)| at);
    Ok(Some((start, &text[offset(start)..offset(end)])))
}

fn justify(text: &str, width: i64, fill: &str, method: &str) -> Outcome<String> {
    let width = usize::try_from(width).unwrap_or(0);
    if width > LARGEST_TEXT / fill.len() {
        return Err(endless());
    }
    let missing = width.saturating_sub(text.chars().count());
    let left = match method {
        "ljust" => 0,
        "rjust" => missing,
        // Where the sides differ, CPython decides by whether the width is odd.
        _ => missing / 2 + (missing & width & 1),
    };
    Ok(format!("{}{text}{}", fill.repeat(left), fill.repeat(missing - left)))
}

fn expand_tabs(text: &str, width: usize) -> Outcome<String> {
    let mut expanded = Text::default();
    let mut column = 0;
    for character in text.chars() {
        match character {
            '\t' if width > 0 => {
                let spaces = width - column % width;
                if spaces > LARGEST_TEXT {
                    return Err(endless());
                }
                expanded.push(&" ".repeat(spaces))?;
                column += spaces;
            }
            '\t' => {}
            _ => {
                expanded.push(character.encode_utf8(&mut [0; 4]))?;
                column = if matches!(character, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    Ok(expanded.finish())
}

fn translate(text: &str, table: &Value) -> Outcome<String> {
    let mut translated = Text::default();
    for character in text.chars() {
        let entry = match table.as_object() {
            Some(object) => object.get_value(&Value::from(u32::from(character))),
            None => return Err(refuse("`translate` needs a table")),
        };
        match entry {
            None => translated.push(character.encode_utf8(&mut [0; 4]))?,
            Some(entry) if entry.is_none() => {}
            Some(entry) => match (entry.as_str(), entry.as_i64()) {
                (Some(text), _) => translated.push(text)?,
                (None, Some(code)) => {
                    let character = u32::try_from(code).ok().and_then(char::from_u32);
                    let character = character.ok_or_else(|| refuse("`translate`: no character"))?;
                    translated.push(character.encode_utf8(&mut [0; 4]))?;
                }
                _ => return Err(refuse("`translate`: an entry of the table is not text")),
            },
        }
    }
    Ok(translated.finish())
}

/// `text.format(…)` and `text.format_map(…)`.
fn format_braces(text: &str, method: &str, values: &[Value]) -> Outcome {
    let (positional, named) = match values.split_last() {
        _ if method == "format_map" => (&values[..0], values.first()),
        Some((last, before)) if last.is_kwargs() => (before, Some(last)),
        _ => (values, None),
    };
    let mut formatted = Text::default();
    let mut next = 0;
    write_braces(text, &mut next, positional, named, &mut formatted, 0)?;
    Ok(Value::from(formatted.finish()))
}

/// Writes a text with its fields filled in. A format within a field may have fields itself.
fn write_braces(
    text: &str,
    next: &mut usize,
    positional: &[Value],
    named: Option<&Value>,
    formatted: &mut Text,
    depth: usize,
) -> Outcome<()> {
    if depth > 2 {
        return Err(refuse("`format`: fields are nested too deeply"));
    }
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        formatted.push(&rest[..at])?;
        let brace = &rest[at..at + 1];
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix(brace) {
            formatted.push(brace)?;
            rest = after;
            continue;
        }
        if brace == "}" {
            return Err(refuse("`format`: a `}` without its `{`"));
        }
        let mut open = 1_usize;
        let end = rest.find(|character| {
            match character {
                '{' => open += 1,
                '}' => open -= 1,
                _ => {}
            }
            open == 0
        });
        let end = end.ok_or_else(|| refuse("`format`: a `{` without its `}`"))?;
        let (field, after) = (&rest[..end], &rest[end + 1..]);
        rest = after;
        let (target, layout) = field.split_once(':').unwrap_or((field, ""));
        let (name, conversion) = target.split_once('!').unwrap_or((target, ""));
        let value = find_field(name, next, positional, named)?;
        let mut spec = Text::default();
        write_braces(layout, next, positional, named, &mut spec, depth + 1)?;
        let spec = spec.finish();
        let mut numbers = spec.split(|character: char| !character.is_ascii_digit());
        if numbers.any(|digits| digits.len() > LARGEST_WIDTH) {
            return Err(endless());
        }
        let value = match conversion {
            "" => value,
            "s" => Value::from(super::text::str(&value)?),
            "r" => Value::from(super::text::repr(&value)?),
            other => return Err(refuse(format!("`format` does not know `!{other}`"))),
        };
        if spec.is_empty() {
            super::text::write_str(&value, formatted)?;
        } else {
            formatted.push(&format(FormatStyle::StrFormat, &format!("{{:{spec}}}"), &[value])?)?;
        }
    }
    formatted.push(rest)
}

/// The value that a field names, such as `0`, `name`, `name.attribute` or `0[key]`.
fn find_field(
    name: &str,
    next: &mut usize,
    positional: &[Value],
    named: Option<&Value>,
) -> Outcome {
    let missing = || refuse(format!("`format`: there is no `{name}`"));
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut path) = name.split_at(end);
    let value = if first.is_empty() {
        *next += 1;
        positional.get(*next - 1).cloned()
    } else if let Ok(index) = first.parse::<usize>() {
        positional.get(index).cloned()
    } else {
        named.map(|named| named.get_item(&Value::from(first))).transpose()?
    };
    let mut value = value.filter(|value| !value.is_undefined()).ok_or_else(missing)?;
    while !path.is_empty() {
        let (key, after) = if let Some(inner) = path.strip_prefix('[') {
            inner.split_once(']').ok_or_else(missing)?
        } else {
            let inner = path.strip_prefix('.').ok_or_else(missing)?;
            inner.split_at(inner.find(['.', '[']).unwrap_or(inner.len()))
        };
        let key = key.parse::<usize>().map_or_else(|_| Value::from(key), Value::from);
        value = value.get_item(&key)?;
        path = after;
    }
    Ok(value)
}

fn check_encoding(encoding: &str) -> Outcome<()> {
    let plain: String = encoding.chars().filter(char::is_ascii_alphanumeric).collect();
    if plain.eq_ignore_ascii_case("utf8") {
        return Ok(());
    }
    Err(refuse(format!("the encoding `{encoding}` is not supported, only UTF-8")))
}
