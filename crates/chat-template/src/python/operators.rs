//! The operators `%`, `*`, `~` and `[:]`, and methods of numbers.

use super::arguments::Arguments;
use super::text::{Text, repr, str, write_str};
use super::{Outcome, refuse};
use minijinja::formatting::{FormatStyle, format};
use minijinja::value::{Rest, Tuple, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Digits of a width or precision in a format, at most: a width such as that of `%9999999s` is no
/// layout.
pub(crate) const LARGEST_WIDTH: usize = 4;

/// Items of a list that is repeated, at most.
const LONGEST_LIST: usize = 1_000_000;

/// `a ~ b ~ …`.
pub(crate) fn concatenate(values: Rest<Value>) -> Outcome<String> {
    let mut text = Text::default();
    for value in values.iter() {
        write_str(value, &mut text)?;
    }
    Ok(text.finish())
}

/// `left % right`: formats a text, else the remainder, which has the sign of the divisor.
pub(crate) fn modulo(left: &Value, right: &Value) -> Outcome {
    if let Some(pattern) = left.as_str() {
        return percent(pattern, right).map(Value::from);
    }
    if let (Some(a), Some(b)) = (integral(left), integral(right)) {
        let remainder = a.checked_rem(b).ok_or_else(|| refuse("division by zero"))?;
        let floor =
            if remainder != 0 && (remainder < 0) != (b < 0) { remainder + b } else { remainder };
        return Ok(from_integer(floor));
    }
    match (real(left), real(right)) {
        (Some(_), Some(0.0)) => Err(refuse("division by zero")),
        (Some(a), Some(b)) => {
            let remainder = a % b;
            let floor = if remainder != 0.0 && (remainder < 0.0) != (b < 0.0) {
                remainder + b
            } else {
                remainder
            };
            Ok(Value::from(floor))
        }
        _ => Err(refuse(format!("`%` cannot work on {} and {}", left.kind(), right.kind()))),
    }
}

/// `left * right`: repeats a text, list or tuple, else the product.
pub(crate) fn multiply(left: &Value, right: &Value) -> Outcome {
    let repeated = |value: &Value| {
        matches!(value.kind(), ValueKind::String | ValueKind::Seq | ValueKind::Iterable)
    };
    let (items, count) = if repeated(left) { (left, right) } else { (right, left) };
    if repeated(items) {
        let count = integral(count).ok_or_else(|| refuse("`*` repeats by integers only"))?;
        return repeat(items, usize::try_from(count.max(0)).unwrap_or(usize::MAX));
    }
    if let (Some(a), Some(b)) = (integral(left), integral(right)) {
        let product =
            a.checked_mul(b).ok_or_else(|| refuse("`*` gives a number that is too large"))?;
        return Ok(from_integer(product));
    }
    match (real(left), real(right)) {
        (Some(a), Some(b)) => Ok(Value::from(a * b)),
        _ => Err(refuse(format!("`*` cannot work on {} and {}", left.kind(), right.kind()))),
    }
}

fn repeat(value: &Value, count: usize) -> Outcome {
    let within = |length: usize, most: usize| {
        if length.checked_mul(count).is_none_or(|length| length > most) {
            return Err(super::text::endless());
        }
        Ok(())
    };
    if value.kind() == ValueKind::String {
        let text = value.as_str().unwrap_or_default();
        within(text.len(), crate::LARGEST_TEXT)?;
        return Ok(Value::from(text.repeat(count)));
    }
    let items: Vec<Value> = value.try_iter()?.checked().collect::<Outcome<_>>()?;
    within(items.len(), LONGEST_LIST)?;
    let repeated: Vec<Value> = std::iter::repeat_n(items, count).flatten().collect();
    Ok(if value.is_tuple() { Value::from(Tuple::from(repeated)) } else { Value::from(repeated) })
}

/// `value[start:end:step]`, of which each may be none.
pub(crate) fn slice(value: &Value, bounds: Rest<Value>) -> Outcome {
    let bound = |index: usize| match bounds.get(index) {
        None => Ok(None),
        Some(bound) if bound.is_none() => Ok(None),
        Some(bound) => match integral(bound) {
            Some(bound) => Ok(Some(bound.clamp(i64::MIN.into(), i64::MAX.into()) as i64)),
            None => Err(refuse("a slice needs integers")),
        },
    };
    let (start, end, step) = (bound(0)?, bound(1)?, bound(2)?.unwrap_or(1));
    if step == 0 {
        return Err(refuse("a slice cannot have a step of 0"));
    }
    match value.kind() {
        ValueKind::String => {
            let text = value.as_str().unwrap_or_default();
            let characters: Vec<char> = text.chars().collect();
            let picked = positions(start, end, step, characters.len());
            Ok(Value::from(picked.map(|index| characters[index]).collect::<String>()))
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter()?.checked().collect::<Outcome<_>>()?;
            let picked = positions(start, end, step, items.len());
            let picked: Vec<Value> = picked.map(|index| items[index].clone()).collect();
            Ok(if value.is_tuple() {
                Value::from(Tuple::from(picked))
            } else {
                Value::from(picked)
            })
        }
        ValueKind::Undefined => Err(refuse("what is sliced is not defined")),
        // As jinja2, which takes it for an entry that is not there.
        _ => Ok(Value::UNDEFINED),
    }
}

/// The positions of a slice, as Python's `slice.indices` has them.
fn positions(
    start: Option<i64>,
    end: Option<i64>,
    step: i64,
    length: usize,
) -> impl Iterator<Item = usize> {
    let length = i128::try_from(length).unwrap_or(0);
    let (first, last) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let clip = |bound: i64| {
        let bound = i128::from(bound);
        (if bound < 0 { bound + length } else { bound }).clamp(first, last)
    };
    let start = start.map_or(if step > 0 { first } else { last }, clip);
    let end = end.map_or(if step > 0 { last } else { first }, clip);
    let step = i128::from(step);
    let count = ((end - start + step - step.signum()) / step).max(0);
    (0..count).filter_map(move |index| usize::try_from(start + index * step).ok())
}

fn integral(value: &Value) -> Option<i128> {
    match value.kind() {
        ValueKind::Bool => Some(i128::from(value.is_true())),
        ValueKind::Number if value.is_integer() => i128::try_from(value.clone()).ok(),
        _ => None,
    }
}

fn real(value: &Value) -> Option<f64> {
    match value.kind() {
        ValueKind::Bool => Some(if value.is_true() { 1.0 } else { 0.0 }),
        ValueKind::Number => f64::try_from(value.clone()).ok(),
        _ => None,
    }
}

fn from_integer(number: i128) -> Value {
    i64::try_from(number).map_or_else(|_| Value::from(number), Value::from)
}

/// `pattern % right`.
pub(crate) fn percent(pattern: &str, right: &Value) -> Outcome<String> {
    let mut items: Option<std::vec::IntoIter<Value>> = None;
    if right.is_tuple() {
        items = Some(right.try_iter()?.checked().collect::<Outcome<Vec<_>>>()?.into_iter());
    }
    let mut single = (!right.is_tuple()).then(|| right.clone());
    let mut next = || match (&mut items, &mut single) {
        (Some(items), _) => items.next(),
        (None, single) => single.take(),
    };
    let few = || refuse("`%` has not enough values for its format");
    let mut text = Text::default();
    let mut rest = pattern;
    let mut by_name = false;
    while let Some(start) = rest.find('%') {
        text.push(&rest[..start])?;
        let mut field = Field::read(&rest[start + 1..])?;
        rest = field.rest;
        if field.kind == '%' {
            text.push("%")?;
            continue;
        }
        let value = match field.key {
            Some(key) => {
                by_name = true;
                if right.kind() != ValueKind::Map {
                    return Err(refuse("`%` needs a mapping for a format with names"));
                }
                let value = right.get_item(&Value::from(key))?;
                if value.is_undefined() {
                    return Err(refuse(format!("`%`: there is no `{key}`")));
                }
                value
            }
            None => {
                if field.star_width {
                    field.take_width(&next().ok_or_else(few)?)?;
                }
                if field.star_precision {
                    field.take_precision(&next().ok_or_else(few)?)?;
                }
                next().ok_or_else(few)?
            }
        };
        text.push(&field.write(&value)?)?;
    }
    text.push(rest)?;
    let left_over = next().is_some_and(|value| right.is_tuple() || value.kind() != ValueKind::Map);
    if left_over && !by_name {
        return Err(refuse("`%` has more values than its format"));
    }
    Ok(text.finish())
}

/// One `%` of a format.
struct Field<'a> {
    key: Option<&'a str>,
    flags: &'a str,
    width: Option<usize>,
    star_width: bool,
    left: bool,
    precision: Option<usize>,
    star_precision: bool,
    kind: char,
    rest: &'a str,
}

impl<'a> Field<'a> {
    /// Reads what follows a `%`.
    fn read(text: &'a str) -> Outcome<Self> {
        let incomplete = || refuse("`%`: the format is incomplete");
        let mut rest = text;
        let mut key = None;
        if let Some(named) = rest.strip_prefix('(') {
            let mut depth = 1_usize;
            let end = named.find(|character| {
                match character {
                    '(' => depth += 1,
                    ')' => depth -= 1,
                    _ => {}
                }
                depth == 0
            });
            let end = end.ok_or_else(incomplete)?;
            key = Some(&named[..end]);
            rest = &named[end + 1..];
        }
        let count = rest.find(|flag: char| !"-+ #0".contains(flag)).ok_or_else(incomplete)?;
        let (flags, after) = rest.split_at(count);
        rest = after;
        let (width, star_width) = read_number(&mut rest)?;
        let (mut precision, mut star_precision) = (None, false);
        if let Some(after) = rest.strip_prefix('.') {
            rest = after;
            (precision, star_precision) = read_number(&mut rest)?;
            if !star_precision {
                precision = Some(precision.unwrap_or(0));
            }
        }
        rest = rest.trim_start_matches(['h', 'l', 'L']);
        let kind = rest.chars().next().ok_or_else(incomplete)?;
        rest = &rest[kind.len_utf8()..];
        let left = flags.contains('-');
        Ok(Self { key, flags, width, star_width, left, precision, star_precision, kind, rest })
    }

    fn take_width(&mut self, value: &Value) -> Outcome<()> {
        let width = value.as_i64().ok_or_else(|| refuse("`%`: `*` wants an integer"))?;
        self.left |= width < 0;
        self.width = Some(check_width(width.unsigned_abs())?);
        Ok(())
    }

    fn take_precision(&mut self, value: &Value) -> Outcome<()> {
        let precision = value.as_i64().ok_or_else(|| refuse("`%`: `*` wants an integer"))?;
        self.precision = Some(check_width(u64::try_from(precision).unwrap_or(0))?);
        Ok(())
    }

    fn write(&self, value: &Value) -> Outcome<String> {
        let (mut body, number) = match self.kind {
            's' => (self.cut(str(value)?), false),
            'r' => (self.cut(repr(value)?), false),
            'a' => {
                let quoted = repr(value)?;
                let escaped: String = quoted.chars().map(ascii).collect();
                (self.cut(escaped), false)
            }
            'c' => (self.character(value)?, false),
            'd' | 'i' | 'u' => (self.digits(&integer(value, self.kind, true)?, ""), true),
            'x' | 'X' | 'o' => {
                let number = integer(value, self.kind, false)?;
                let wide: i128 =
                    number.parse().map_err(|_| refuse("`%`: a number is too large"))?;
                let sign = if wide < 0 { "-" } else { "" };
                let (digits, prefix) = match self.kind {
                    'o' => (format!("{:o}", wide.unsigned_abs()), "0o"),
                    'x' => (format!("{:x}", wide.unsigned_abs()), "0x"),
                    _ => (format!("{:X}", wide.unsigned_abs()), "0X"),
                };
                let prefix = if self.flags.contains('#') { prefix } else { "" };
                (self.digits(&format!("{sign}{digits}"), prefix), true)
            }
            'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
                let number = match value.kind() {
                    ValueKind::Bool => f64::from(u8::from(value.is_true())),
                    ValueKind::Number => f64::try_from(value.clone())?,
                    kind => {
                        return Err(refuse(format!("`%{}` needs a number, not {kind}", self.kind)));
                    }
                };
                (self.float(number)?, true)
            }
            kind => return Err(refuse(format!("`%{kind}` is not supported"))),
        };
        let length = body.chars().count();
        let missing = self.width.unwrap_or(0).saturating_sub(length);
        if self.left {
            body += &" ".repeat(missing);
        } else if number && self.flags.contains('0') {
            let sign = body.len() - body.trim_start_matches(['-', '+', ' ']).len();
            let prefix = match body.get(sign..sign + 2) {
                Some("0x" | "0X" | "0o") => sign + 2,
                _ => sign,
            };
            body.insert_str(prefix, &"0".repeat(missing));
        } else {
            body.insert_str(0, &" ".repeat(missing));
        }
        Ok(body)
    }

    fn cut(&self, text: String) -> String {
        match self.precision {
            Some(most) => text.chars().take(most).collect(),
            None => text,
        }
    }

    fn character(&self, value: &Value) -> Outcome<String> {
        let code =
            value.as_i64().and_then(|code| u32::try_from(code).ok()).and_then(char::from_u32);
        match (value.as_str(), code) {
            (Some(text), _) if text.chars().count() == 1 => Ok(text.to_owned()),
            (None, Some(character)) => Ok(character.to_string()),
            _ => Err(refuse("`%c` needs one character")),
        }
    }

    /// Signs, prefix and precision of an integer's digits.
    fn digits(&self, number: &str, prefix: &str) -> String {
        let (sign, digits) = match number.strip_prefix('-') {
            Some(digits) => ("-", digits),
            None => (self.plus(), number),
        };
        let zeros = self.precision.unwrap_or(0).saturating_sub(digits.len());
        format!("{sign}{prefix}{}{digits}", "0".repeat(zeros))
    }

    fn plus(&self) -> &'static str {
        match (self.flags.contains('+'), self.flags.contains(' ')) {
            (true, _) => "+",
            (false, true) => " ",
            (false, false) => "",
        }
    }

    fn float(&self, number: f64) -> Outcome<String> {
        // What jinja2's engine in Rust has: digits of a number with a sign of their own.
        let alternate = if self.flags.contains('#') { "#" } else { "" };
        let precision = self.precision.unwrap_or(6);
        let pattern = format!("%{alternate}.{precision}{}", self.kind);
        let body = if number.is_finite() {
            format(FormatStyle::Printf, &pattern, &[Value::from(number.abs())])?
        } else {
            let name = if number.is_nan() { "nan" } else { "inf" };
            if self.kind.is_uppercase() { name.to_uppercase() } else { name.to_owned() }
        };
        let sign = if number.is_sign_negative() && !number.is_nan() { "-" } else { self.plus() };
        Ok(format!("{sign}{body}"))
    }
}

/// A character as `ascii()` writes it.
fn ascii(character: char) -> String {
    match u32::from(character) {
        0..=0x7f => character.to_string(),
        code @ 0x80..=0xff => format!("\\x{code:02x}"),
        code @ 0x100..=0xffff => format!("\\u{code:04x}"),
        code => format!("\\U{code:08x}"),
    }
}

/// Takes a width or precision off a text: digits, or a star.
fn read_number(rest: &mut &str) -> Outcome<(Option<usize>, bool)> {
    if let Some(after) = rest.strip_prefix('*') {
        *rest = after;
        return Ok((None, true));
    }
    let count = rest.find(|digit: char| !digit.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(count);
    *rest = after;
    if digits.is_empty() {
        return Ok((None, false));
    }
    if digits.len() > LARGEST_WIDTH {
        return Err(super::text::endless());
    }
    Ok((digits.parse().ok(), false))
}

fn check_width(width: u64) -> Outcome<usize> {
    usize::try_from(width)
        .ok()
        .filter(|width| width.to_string().len() <= LARGEST_WIDTH)
        .ok_or_else(super::text::endless)
}

/// The digits of an integer; of a float where `truncate` allows it.
fn integer(value: &Value, kind: char, truncate: bool) -> Outcome<String> {
    match value.kind() {
        ValueKind::Bool => Ok(u8::from(value.is_true()).to_string()),
        ValueKind::Number if value.is_integer() => Ok(value.to_string()),
        ValueKind::Number if truncate => {
            let number = f64::try_from(value.clone())?;
            if number.is_finite() {
                Ok(format!("{:.0}", number.trunc()).replace("-0", "0"))
            } else {
                Err(refuse(format!("`%{kind}` needs a finite number")))
            }
        }
        other => Err(refuse(format!("`%{kind}` needs an integer, not {other}"))),
    }
}

/// Methods of integers and floats.
pub(crate) fn call_number(value: &Value, method: &str, arguments: &[Value]) -> Outcome {
    let arguments = Arguments::new(method, arguments)?;
    let result = match method {
        "bit_length" if value.is_integer() => {
            let bits = i128::try_from(value.clone())?.unsigned_abs();
            Value::from(u128::BITS - bits.leading_zeros())
        }
        "is_integer" if value.is_integer() => Value::from(true),
        "is_integer" => {
            let number = f64::try_from(value.clone())?;
            Value::from(number.is_finite() && number.fract() == 0.0)
        }
        "conjugate" => value.clone(),
        _ => return Err(Error::from(ErrorKind::UnknownMethod)),
    };
    arguments.finish()?;
    Ok(result)
}
