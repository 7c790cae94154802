//! What one module says of others: what it declares, what it imports, and the paths in its code.
//!
//! The text is taken apart into tokens, not parsed: that is enough to find paths, finds those inside
//! of macros too, and needs a small library only. What is compiled for tests alone is left out.

use std::collections::BTreeSet;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A module's own text, without that of the modules in it.
#[derive(Debug, Default)]
pub(super) struct Source {
    /// Names of the functions, types, constants and macros that it defines.
    pub items: BTreeSet<String>,
    /// Macros that stand at the crate's root, wherever they are defined.
    pub exported_macros: BTreeSet<String>,
    pub imports: Vec<Import>,
    /// Paths of two and more names in its code.
    pub paths: BTreeSet<Vec<String>>,
    /// Names in its code that no path holds, and the first names of paths.
    pub words: BTreeSet<String>,
    pub modules: Vec<Declared>,
}

/// A name that a `use` brings in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Import {
    pub path: Vec<String>,
    /// The name that it has here; none for `*`.
    pub name: Option<String>,
    /// Whether others may take it from here.
    pub public: bool,
}

/// A `mod` in a module.
#[derive(Debug)]
pub(super) struct Declared {
    pub name: String,
    /// The file that `#[path]` names.
    pub path: Option<String>,
    /// What stands between its braces; none for a module in a file of its own.
    pub inline: Option<Source>,
}

impl Source {
    /// Reads the text of a file.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let tokens: TokenStream = text.parse().map_err(|error| format!("{error}"))?;
        Ok(Self::of(tokens))
    }

    fn of(tokens: TokenStream) -> Self {
        let mut source = Self::default();
        source.walk(tokens, true);
        source
    }

    /// Reads tokens: those of a module, or those of the code inside of its items.
    fn walk(&mut self, tokens: TokenStream, items: bool) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        let mut attributes = Attributes::default();
        let mut public = false;
        while at < tokens.len() {
            let next = at + 1;
            match &tokens[at] {
                TokenTree::Punct(mark) if mark.as_char() == '#' => {
                    let inner = next + usize::from(is_mark(tokens.get(next), '!'));
                    if let Some(TokenTree::Group(group)) = tokens.get(inner) {
                        attributes.read(&group.stream());
                        at = inner + 1;
                    } else {
                        at = next;
                    }
                    if attributes.only_tests {
                        at = after_item(&tokens, at, items);
                        attributes = Attributes::default();
                    }
                    continue;
                }
                TokenTree::Group(group) => {
                    self.walk(group.stream(), false);
                    (attributes, public) = (Attributes::default(), false);
                    at = next;
                }
                TokenTree::Ident(ident) => {
                    let word = ident.to_string();
                    match word.as_str() {
                        "pub" => {
                            public = true;
                            let scope = matches!(tokens.get(next), Some(TokenTree::Group(group))
                                if group.delimiter() == Delimiter::Parenthesis);
                            at = next + usize::from(scope);
                        }
                        "use" => {
                            let end = end_of_statement(&tokens, next);
                            let mut reader = Imports { public, found: &mut self.imports };
                            reader.read(&tokens[next..end], &[]);
                            public = false;
                            at = end + 1;
                        }
                        "mod" if items => {
                            at = self.module(&tokens, next, attributes.path.take());
                            (attributes, public) = (Attributes::default(), false);
                        }
                        "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const"
                        | "static" | "macro_rules"
                            if items =>
                        {
                            at = self.definition(&tokens, next, attributes.exported_macro);
                        }
                        _ => at = self.path(&tokens, at),
                    }
                }
                TokenTree::Punct(mark) => {
                    if mark.as_char() == ';' {
                        (attributes, public) = (Attributes::default(), false);
                    }
                    at = next;
                }
                TokenTree::Literal(_) => at = next,
            }
        }
    }

    /// Reads what follows on `mod`; where it ends.
    fn module(&mut self, tokens: &[TokenTree], at: usize, path: Option<String>) -> usize {
        let Some(TokenTree::Ident(name)) = tokens.get(at) else { return at };
        let inline = match tokens.get(at + 1) {
            Some(TokenTree::Group(group)) => Some(Self::of(group.stream())),
            _ => None,
        };
        self.modules.push(Declared { name: plain(&name.to_string()), path, inline });
        at + 2
    }

    /// Notes the name of an item; the rest of the item is read as code.
    fn definition(&mut self, tokens: &[TokenTree], at: usize, exported: bool) -> usize {
        let at = at + usize::from(is_mark(tokens.get(at), '!'));
        let Some(TokenTree::Ident(name)) = tokens.get(at) else { return at };
        let name = plain(&name.to_string());
        // `const fn`, `const unsafe fn`: the name is still to come.
        if matches!(name.as_str(), "fn" | "unsafe" | "extern" | "async" | "mut") {
            return at + usize::from(name == "mut");
        }
        if exported {
            self.exported_macros.insert(name.clone());
        }
        self.items.insert(name);
        at + 1
    }

    /// Reads a path that begins here; where it ends.
    fn path(&mut self, tokens: &[TokenTree], start: usize) -> usize {
        let (names, at) = names(tokens, start);
        let of_value = start > 0 && is_mark(tokens.get(start - 1), '.');
        // `::name` begins at another crate.
        let of_crates = start > 0 && is_mark(tokens.get(start - 1), ':') && {
            start > 1 && is_mark(tokens.get(start - 2), ':')
        };
        if of_value || of_crates || names.is_empty() {
            return at;
        }
        self.words.insert(names[0].clone());
        if names.len() > 1 {
            self.paths.insert(names);
        }
        at
    }
}

/// What the attributes before an item say.
#[derive(Default)]
struct Attributes {
    only_tests: bool,
    exported_macro: bool,
    path: Option<String>,
}

impl Attributes {
    fn read(&mut self, tokens: &TokenStream) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        let Some(TokenTree::Ident(name)) = tokens.first() else { return };
        match (name.to_string().as_str(), tokens.last()) {
            ("cfg", Some(TokenTree::Group(group))) => {
                self.only_tests |= needs_tests(group.stream());
            }
            ("macro_export", _) => self.exported_macro = true,
            ("path", Some(TokenTree::Literal(literal))) => {
                self.path = Some(literal.to_string().trim_matches('"').to_owned());
            }
            _ => {}
        }
    }
}

/// Whether a condition holds in tests alone: `test`, or `all(…)` of it and more.
fn needs_tests(condition: TokenStream) -> bool {
    let tokens: Vec<TokenTree> = condition.into_iter().collect();
    match tokens.as_slice() {
        [TokenTree::Ident(name), TokenTree::Group(group)] if *name == "all" => {
            let parts: Vec<TokenTree> = group.stream().into_iter().collect();
            parts
                .split(|token| is_mark(Some(token), ','))
                .any(|part| matches!(part, [TokenTree::Ident(name)] if *name == "test"))
        }
        [TokenTree::Ident(name)] => *name == "test",
        _ => false,
    }
}

/// Where the item that begins here ends: behind its braces or its `;`, in code also before a `,`.
fn after_item(tokens: &[TokenTree], start: usize, items: bool) -> usize {
    let mut at = start;
    while let Some(token) = tokens.get(at) {
        at += 1;
        match token {
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
            token if is_mark(Some(token), ';') => break,
            token if is_mark(Some(token), ',') && !items => break,
            _ => {}
        }
    }
    at
}

fn end_of_statement(tokens: &[TokenTree], start: usize) -> usize {
    let found = tokens[start..].iter().position(|token| is_mark(Some(token), ';'));
    found.map_or(tokens.len(), |length| start + length)
}

/// The names of a path, and where it ends.
fn names(tokens: &[TokenTree], start: usize) -> (Vec<String>, usize) {
    let (mut names, mut at) = (Vec::new(), start);
    while let Some(TokenTree::Ident(name)) = tokens.get(at) {
        names.push(plain(&name.to_string()));
        at += 1;
        let colons = is_mark(tokens.get(at), ':') && is_mark(tokens.get(at + 1), ':');
        if !colons || !matches!(tokens.get(at + 2), Some(TokenTree::Ident(_))) {
            break;
        }
        at += 2;
    }
    (names, at)
}

fn is_mark(token: Option<&TokenTree>, mark: char) -> bool {
    matches!(token, Some(TokenTree::Punct(found)) if found.as_char() == mark)
}

fn plain(name: &str) -> String {
    name.strip_prefix("r#").unwrap_or(name).to_owned()
}

/// Takes a `use` apart.
struct Imports<'a> {
    public: bool,
    found: &'a mut Vec<Import>,
}

impl Imports<'_> {
    fn read(&mut self, tokens: &[TokenTree], before: &[String]) {
        // `use ::name` begins at another crate, as `use name` does.
        let start = tokens.iter().take_while(|token| is_mark(Some(token), ':')).count();
        let (own, mut at) = names(tokens, start);
        let path = [before, &own].concat();
        while is_mark(tokens.get(at), ':') {
            at += 1;
        }
        match tokens.get(at) {
            Some(TokenTree::Group(group)) => {
                let inside: Vec<TokenTree> = group.stream().into_iter().collect();
                for part in inside.split(|token| is_mark(Some(token), ',')) {
                    if !part.is_empty() {
                        self.read(part, &path);
                    }
                }
            }
            Some(TokenTree::Punct(mark)) if mark.as_char() == '*' => self.push(path, None),
            Some(TokenTree::Ident(word)) if *word == "as" => {
                let name = tokens.get(at + 1).map(|name| plain(&name.to_string()));
                self.push(path, Some(name.unwrap_or_default()));
            }
            _ => {
                let name = path.iter().rev().find(|name| *name != "self").cloned();
                self.push(path, Some(name.unwrap_or_default()));
            }
        }
    }

    fn push(&mut self, mut path: Vec<String>, name: Option<String>) {
        // `a::{self}` is `a`.
        if path.len() > 1 && path.last().is_some_and(|name| name == "self") {
            path.pop();
        }
        self.found.push(Import { path, name, public: self.public });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &[&str]) -> Vec<String> {
        text.iter().map(|&word| word.to_owned()).collect()
    }

    #[test]
    fn imports_are_taken_apart() {
        let text = "use a::{self, b::{C, d as D}, e::*}; pub(crate) use super::f; use ::g::h;";
        let found = Source::read(text).unwrap().imports;
        let shown: Vec<String> = found
            .iter()
            .map(|import| {
                let name = import.name.as_deref().unwrap_or("*");
                format!("{} {name} {}", import.path.join("::"), import.public)
            })
            .collect();
        assert_eq!(
            shown,
            [
                "a a false",
                "a::b::C C false",
                "a::b::d D false",
                "a::e * false",
                "super::f f true",
                "g::h h false"
            ]
        );
    }

    #[test]
    fn items_and_paths_are_found_also_in_macros() {
        let source = Source::read(
            "const fn one() -> x::Y { vec![p::q::<u8>(r.s::<t>())] }\n\
             pub struct Two { field: crate::z::Z }\n\
             macro_rules! three { () => { $crate::w::call() } }\n\
             impl Two { fn inner() {} }\n\
             // a::comment\n\
             static FOUR: &str = \"a::text\";",
        )
        .unwrap();
        let items: Vec<&str> = source.items.iter().map(String::as_str).collect();
        assert_eq!(items, ["FOUR", "Two", "one", "three"]);
        let paths: Vec<String> = source.paths.iter().map(|path| path.join("::")).collect();
        assert_eq!(paths, ["crate::w::call", "crate::z::Z", "p::q", "x::Y"]);
    }

    #[test]
    fn what_only_tests_see_is_left_out() {
        let source = Source::read(
            "#[cfg(test)] mod tests { use super::a; }\n\
             #[cfg(all(test, unix))] use b::{c, d};\n\
             fn f() { #[cfg(test)] e::g(); h::i(); }\n\
             #[cfg(not(test))] fn j() {}\n\
             #[path = \"other.rs\"] mod k;",
        )
        .unwrap();
        assert!(source.imports.is_empty(), "{:?}", source.imports);
        assert_eq!(source.paths.into_iter().collect::<Vec<_>>(), [words(&["h", "i"])]);
        assert_eq!(source.modules.len(), 1);
        assert_eq!(source.modules[0].path.as_deref(), Some("other.rs"));
        assert!(source.items.contains("j"));
    }
}
