//! What is changed in a template's source before it is compiled.
//!
//! Rust's Jinja has no `%` for texts, repeats and slices less than Python, writes numbers otherwise
//! in `~`, and knows no `{% generation %}`. So `a % b`, `a * b`, `a ~ b ~ c` and `a[b:c]` become
//! calls of functions, and the tags of generation an `if` that is always true. Line numbers stay.
//! On the way the source is measured: what is nested or chained without end is refused before a
//! parser that calls itself sees it.

use std::borrow::Cow;
use std::ops::Range;

/// The function that stands for `%`.
pub(crate) const MODULO: &str = "__modulo__";
/// The function that stands for `*`.
pub(crate) const MULTIPLY: &str = "__multiply__";
/// The function that stands for `~`.
pub(crate) const CONCATENATE: &str = "__concatenate__";
/// The function that stands for `[:]`.
pub(crate) const SLICE: &str = "__slice__";

/// Brackets within brackets, at most.
const DEEPEST: usize = 120;
/// Words and signs between two commas, at most: each can be a level of the parsed tree.
const LONGEST_CHAIN: usize = 4000;
/// Signs and `not` in a row, at most.
const MOST_SIGNS: usize = 100;
/// Blocks within blocks, at most.
const DEEPEST_BLOCK: usize = 120;
/// `elif` in a template, at most.
const MOST_ELIFS: usize = 1000;

/// Why a source is refused.
pub(crate) const TOO_COMPLEX: &str = "it is nested or chained without end";

/// The source as Rust's Jinja understands it.
///
/// # Errors
/// The line of what is nested or chained without end.
pub(crate) fn rewrite(source: &str) -> Result<String, usize> {
    // As jinja2 does, which knows one kind of line break only.
    let source = &source.replace("\r\n", "\n").replace('\r', "\n");
    let mut rewriter = Rewriter { source, written: String::with_capacity(source.len()), from: 0 };
    let mut depth = 0_usize;
    let mut elifs = 0_usize;
    let mut at = 0;
    while let Some(start) = next_tag(source, at) {
        let failed = || source[..start].matches('\n').count() + 1;
        match source.as_bytes()[start + 1] {
            b'#' => {
                at = source[start + 2..].find("#}").map_or(source.len(), |end| start + 2 + end + 2);
            }
            kind => {
                let Some(tag) = Tag::read(source, start, kind == b'%') else {
                    // What does not end is the parser's to explain.
                    break;
                };
                at = tag.end;
                if kind == b'%' {
                    match tag.word(0) {
                        "raw" => {
                            at = end_of_raw(source, at);
                            continue;
                        }
                        "if" | "for" | "macro" | "call" | "filter" | "with" | "block"
                        | "autoescape" | "generation" => depth += 1,
                        "set" if !tag.has("=") => depth += 1,
                        "elif" => elifs += 1,
                        word if word.starts_with("end") => depth = depth.saturating_sub(1),
                        _ => {}
                    }
                    if depth > DEEPEST_BLOCK || elifs > MOST_ELIFS {
                        return Err(failed());
                    }
                }
                rewriter.tag(&tag).ok_or_else(failed)?;
            }
        }
    }
    rewriter.written.push_str(&source[rewriter.from..]);
    Ok(rewriter.written)
}

/// Where the next tag or comment begins.
fn next_tag(source: &str, from: usize) -> Option<usize> {
    let bytes = source.as_bytes();
    let mut at = from;
    while let Some(brace) = source.get(at..)?.find('{') {
        at += brace;
        if matches!(bytes.get(at + 1), Some(b'{' | b'%' | b'#')) {
            return Some(at);
        }
        at += 1;
    }
    None
}

/// Where a raw block that begins before `from` is over.
fn end_of_raw(source: &str, from: usize) -> usize {
    let mut at = from;
    while let Some(start) = source[at..].find("{%") {
        at += start;
        let inner = source[at + 2..].trim_start_matches(['-', '+']).trim_start();
        if let Some(rest) = inner.strip_prefix("endraw") {
            let after = rest.trim_start().trim_start_matches(['-', '+']);
            if after.starts_with("%}") {
                return source.len() - after.len() + 2;
            }
        }
        at += 2;
    }
    source.len()
}

/// The words and signs of a tag.
struct Tag<'a> {
    source: &'a str,
    tokens: Vec<Range<usize>>,
    /// Behind the closing sign.
    end: usize,
    is_statement: bool,
}

impl<'a> Tag<'a> {
    /// Reads the tag that begins at `start`; nothing where it does not end.
    fn read(source: &'a str, start: usize, is_statement: bool) -> Option<Self> {
        let bytes = source.as_bytes();
        let close = if is_statement { "%}" } else { "}}" };
        let mut tokens = Vec::new();
        let mut depth = 0_usize;
        let mut at = start + 2;
        if matches!(bytes.get(at), Some(b'-' | b'+')) {
            at += 1;
        }
        loop {
            let rest = source.get(at..)?;
            let first = rest.chars().next()?;
            if depth == 0 {
                let closed = rest.strip_prefix(['-', '+']).unwrap_or(rest);
                if rest.starts_with(close) {
                    return Some(Self { source, tokens, end: at + 2, is_statement });
                }
                if closed.starts_with(close) {
                    return Some(Self { source, tokens, end: at + 3, is_statement });
                }
            }
            let length = match first {
                _ if first.is_whitespace() => {
                    at += first.len_utf8();
                    continue;
                }
                '"' | '\'' => string_length(rest, first)?,
                _ if first == '_' || first.is_alphanumeric() => {
                    word_length(rest, first.is_ascii_digit())
                }
                _ => {
                    match first {
                        '(' | '[' | '{' => depth += 1,
                        ')' | ']' | '}' => depth = depth.checked_sub(1)?,
                        _ => {}
                    }
                    let two = ["**", "//", "==", "!=", "<=", ">="];
                    if two.iter().any(|sign| rest.starts_with(sign)) { 2 } else { first.len_utf8() }
                }
            };
            tokens.push(at..at + length);
            at += length;
        }
    }

    fn word(&self, index: usize) -> &'a str {
        self.tokens.get(index).map_or("", |token| &self.source[token.clone()])
    }

    fn has(&self, word: &str) -> bool {
        self.tokens.iter().any(|token| &self.source[token.clone()] == word)
    }
}

fn string_length(rest: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    for (at, character) in rest.char_indices().skip(1) {
        match character {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if character == quote => return Some(at + 1),
            _ => {}
        }
    }
    None
}

fn word_length(rest: &str, is_number: bool) -> usize {
    let mut previous = ' ';
    let end = rest.char_indices().find(|(at, character)| {
        let within = *character == '_'
            || character.is_alphanumeric()
            // A point belongs to a number when a digit follows, a sign after its e.
            || (is_number && *character == '.' && rest[at + 1..].starts_with(|next: char| next.is_ascii_digit()))
            || (is_number && matches!(character, '+' | '-') && matches!(previous, 'e' | 'E')
                && !rest.starts_with("0x"));
        previous = *character;
        !within
    });
    end.map_or(rest.len(), |(at, _)| at)
}

/// Where the operands of the operators of one bracket begin, and which calls are open.
struct Level {
    /// The first word of the value that an attribute, a call or a subscript follows.
    value: usize,
    factor: usize,
    text: usize,
    in_factor: bool,
    in_concatenation: bool,
    /// The word before which a subscript's value begins, and where its bracket opens.
    subscript: Option<(usize, usize)>,
    /// Colons of a subscript.
    colons: usize,
    /// Words and signs since the last comma.
    chain: usize,
}

impl Level {
    fn new(from: usize) -> Self {
        Self {
            value: from,
            factor: from,
            text: from,
            in_factor: false,
            in_concatenation: false,
            subscript: None,
            colons: 0,
            chain: 0,
        }
    }
}

struct Rewriter<'a> {
    source: &'a str,
    written: String,
    /// Where the source that is not yet written begins.
    from: usize,
}

/// What stands before, instead of and behind a token.
#[derive(Default, Clone)]
struct Change {
    before: String,
    instead: Option<Cow<'static, str>>,
    after: String,
}

impl Rewriter<'_> {
    /// Writes up to the end of a tag; nothing where it is nested or chained without end.
    fn tag(&mut self, tag: &Tag<'_>) -> Option<()> {
        let mut changes = vec![Change::default(); tag.tokens.len()];
        let mut first = 0;
        if tag.is_statement && !tag.tokens.is_empty() {
            first = 1;
            match tag.word(0) {
                "generation" if tag.tokens.len() == 1 => {
                    changes[0].instead = Some("if true".into())
                }
                "endgeneration" if tag.tokens.len() == 1 => {
                    changes[0].instead = Some("endif".into())
                }
                _ => {}
            }
        }
        let mut levels = vec![Level::new(first)];
        let mut signs = 0_usize;
        for index in first..tag.tokens.len() {
            let word = tag.word(index);
            let before = if index > first { tag.word(index - 1) } else { "" };
            let earlier =
                |count: usize| if index >= first + count { tag.word(index - count) } else { "" };
            let after_is = before == "is" || (before == "not" && earlier(2) == "is");
            let after_test = (earlier(2) == "is" && before != "not")
                || (earlier(2) == "not" && earlier(3) == "is");
            let level = levels.last_mut()?;
            level.chain += 1;
            if level.chain > LONGEST_CHAIN {
                return None;
            }
            signs = if matches!(word, "-" | "+" | "not") { signs + 1 } else { 0 };
            if signs > MOST_SIGNS {
                return None;
            }
            // A value begins where none ends, and not behind a point, which leads to an attribute.
            let follows = ends_operand(before);
            if (!follows || after_test) && !matches!(before, "." | "|") && !after_is {
                level.value = index;
            }
            match word {
                // An attribute may have any name.
                _ if before == "." && word.starts_with(char::is_alphabetic) => {}
                "(" | "[" | "{" => {
                    let value = level.value;
                    let subscript = (word == "[" && follows).then_some((value, index));
                    levels.push(Level { subscript, ..Level::new(index + 1) });
                    if levels.len() > DEEPEST {
                        return None;
                    }
                }
                ")" | "]" | "}" => {
                    close(level, index, &mut changes);
                    if let Some((value, open)) = level.subscript.filter(|_| level.colons > 0) {
                        if matches!(before, "[" | ":") {
                            changes[index].before.insert_str(0, "none");
                        }
                        changes[value].before.insert_str(0, &format!("{SLICE}("));
                        changes[open].instead = Some(",".into());
                        changes[index].instead = Some(")".into());
                    }
                    levels.pop();
                }
                "*" | "/" | "//" | "%" => {
                    close_factor(level, index, &mut changes);
                    let function = if word == "%" { MODULO } else { MULTIPLY };
                    if matches!(word, "%" | "*") && level.factor < index {
                        changes[level.factor].before.insert_str(0, &format!("{function}("));
                        changes[index].instead = Some(",".into());
                        level.in_factor = true;
                    }
                }
                "~" => {
                    close_factor(level, index, &mut changes);
                    if !level.in_concatenation && level.text < index {
                        changes[level.text].before.insert_str(0, &format!("{CONCATENATE}("));
                        level.in_concatenation = true;
                    }
                    changes[index].instead = Some(",".into());
                    level.factor = index + 1;
                }
                // Before a value, a plus changes nothing.
                "+" if !follows => changes[index].instead = Some("".into()),
                "-" if !follows => {}
                ":" if level.subscript.is_some() => {
                    close(level, index, &mut changes);
                    if matches!(before, "[" | ":") {
                        changes[index].before.push_str("none");
                    }
                    changes[index].instead = Some(",".into());
                    let (subscript, colons) = (level.subscript, level.colons + 1);
                    *level = Level { subscript, colons, ..Level::new(index + 1) };
                }
                "," | ":" | "=" | "==" | "!=" | "<" | ">" | "<=" | ">=" | "+" | "-" | "and"
                | "or" | "if" | "else" => {
                    close(level, index, &mut changes);
                    let chain = if matches!(word, "," | ":") { 0 } else { level.chain };
                    let (subscript, colons) = (level.subscript, level.colons);
                    *level = Level { subscript, colons, chain, ..Level::new(index + 1) };
                }
                "in" | "not" if !after_is => {
                    close(level, index, &mut changes);
                    let Level { subscript, colons, chain, .. } = *level;
                    *level = Level { subscript, colons, chain, ..Level::new(index + 1) };
                }
                "recursive" if tag.word(0) == "for" => close(level, index, &mut changes),
                _ if word.starts_with(['"', '\'']) => {
                    changes[index].instead = long_escapes(word).map(Cow::Owned);
                }
                _ => {}
            }
        }
        if let [level] = levels.as_mut_slice() {
            close(level, tag.tokens.len(), &mut changes);
        }
        for (token, change) in tag.tokens.iter().zip(changes) {
            self.written.push_str(&self.source[self.from..token.start]);
            self.written.push_str(&change.before);
            self.written.push_str(change.instead.as_deref().unwrap_or(&self.source[token.clone()]));
            self.written.push_str(&change.after);
            self.from = token.end;
        }
        self.written.push_str(&self.source[self.from..tag.end]);
        self.from = tag.end;
        Some(())
    }
}

fn close_factor(level: &mut Level, index: usize, changes: &mut [Change]) {
    if std::mem::take(&mut level.in_factor) {
        changes[index - 1].after.push(')');
    }
}

fn close(level: &mut Level, index: usize, changes: &mut [Change]) {
    close_factor(level, index, changes);
    if std::mem::take(&mut level.in_concatenation) {
        changes[index - 1].after.push(')');
    }
}

/// A text in quotes with characters in place of escapes such as `\U0001F642`, which Rust's Jinja does
/// not know; nothing where it has none.
fn long_escapes(quoted: &str) -> Option<String> {
    quoted.contains("\\U").then_some(())?;
    let mut text = String::with_capacity(quoted.len());
    let mut rest = quoted;
    while let Some(at) = rest.find('\\') {
        text.push_str(&rest[..at]);
        let code = rest[at..].strip_prefix("\\U").and_then(|code| code.get(..8));
        let character = code
            .and_then(|code| u32::from_str_radix(code, 16).ok())
            .and_then(char::from_u32)
            // What means something in a text in quotes stays escaped.
            .filter(|character| !matches!(character, '\'' | '"' | '\\'));
        let length = match character {
            Some(character) => {
                text.push(character);
                10
            }
            None => {
                let length = 1 + rest[at + 1..].chars().next().map_or(0, char::len_utf8);
                text.push_str(&rest[at..at + length]);
                length
            }
        };
        rest = &rest[at + length..];
    }
    text.push_str(rest);
    Some(text)
}

/// Whether an operand can end with a word, so that a sign behind it has two operands.
fn ends_operand(word: &str) -> bool {
    let operator = ["", "and", "or", "not", "in", "is", "if", "else", "elif"].contains(&word);
    let first = word.chars().next().unwrap_or(' ');
    !operator
        && (matches!(word, ")" | "]" | "}" | "_")
            || first.is_alphanumeric()
            || matches!(first, '_' | '"' | '\''))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn operators_become_calls() {
        for (source, expected) in [
            ("{{ a % b }}", "{{ __modulo__(a , b) }}"),
            ("{{ a*b % c % d+e }}", "{{ __modulo__(__modulo__(__multiply__(a,b) , c) , d)+e }}"),
            ("{{ -a % -b * c }}", "{{ __multiply__(__modulo__(-a , -b) , c) }}"),
            ("{{ a ~ b ~ c + d }}", "{{ __concatenate__(a , b , c) + d }}"),
            ("{{ a ~ b % c }}", "{{ __concatenate__(a , __modulo__(b , c)) }}"),
            ("{{ f(a % 2, [b ~ '%']) }}", "{{ f(__modulo__(a , 2), [__concatenate__(b , '%')]) }}"),
            ("{%- if not x % 2 -%}", "{%- if not __modulo__(x , 2) -%}"),
            (
                "{% for a in b ~ c if d % 2 recursive %}",
                "{% for a in __concatenate__(b , c) if __modulo__(d , 2) recursive %}",
            ),
            ("{{ x is in y ~ z }}", "{{ __concatenate__(x is in y , z) }}"),
            (
                "{# a % b #}{% raw %}{{ a % b }}{% endraw %}{{ '%' }}",
                "{# a % b #}{% raw %}{{ a % b }}{% endraw %}{{ '%' }}",
            ),
            ("{%- generation +%}x{% endgeneration%}", "{%- if true +%}x{% endif%}"),
            (
                "{{ 1e-5 % 2 }}{{ a.0 % b[1 % 2] }}",
                "{{ __modulo__(1e-5 , 2) }}{{ __modulo__(a.0 , b[__modulo__(1 , 2)]) }}",
            ),
            (
                "{{ a.b[1:][::2] ~ f(*c)[:x % 2] }}",
                "{{ __concatenate__(__slice__(__slice__(a.b,1,none),none,none,2) , \
              __slice__(f(*c),none,__modulo__(x , 2))) }}",
            ),
            (
                "{{ -a[1:]|b }}{{ 'x'[:-1] + [1:2] }}",
                "{{ -__slice__(a,1,none)|b }}{{ __slice__('x',none,-1) + [1:2] }}",
            ),
            (r"{{ '\U0001F642\\U0001F642' + 'a' }}", r"{{ '🙂\\U0001F642' + 'a' }}"),
            ("{{ {'a': {}}}}x{{ 'not closed }}", "{{ {'a': {}}}}x{{ 'not closed }}"),
        ] {
            assert_eq!(rewrite(source).unwrap(), expected);
        }
    }

    #[test]
    fn what_has_no_end_is_refused_with_its_line() {
        let chains = [
            format!("{{{{ {}1 }}}}", "-".repeat(200)),
            format!("{{{{ {}1 }}}}", "not ".repeat(200)),
            format!("{{{{ 1{} }}}}", "+1".repeat(9000)),
            format!("{{{{ 1{} }}}}", "|a".repeat(9000)),
            format!("{{{{ {}1{} }}}}", "(".repeat(200), ")".repeat(200)),
            "{% if x %}".repeat(200),
            format!("{{% if x %}}{}", "{% elif y %}".repeat(2000)),
        ];
        for source in &chains {
            assert_eq!(rewrite(&format!("\n\n{source}")), Err(3), "{source:.60}");
        }
        let long = format!("{{{{ [{}] }}}}", "1, ".repeat(20_000));
        assert!(rewrite(&long).is_ok());
    }
}
