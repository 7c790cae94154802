//! The header of a NumPy array: a Python dictionary of three entries, and nothing else.

/// What kind of number the elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A signed integer.
    Int,
    /// An integer from 0 on.
    Uint,
    /// A float.
    Float,
    /// Anything else that has one size.
    Other,
}

/// What a header says of its array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    /// Bytes of an element.
    pub(crate) size: u64,
    /// Whether the highest byte of an element comes first.
    pub(crate) big_endian: bool,
    /// Whether the array lies column by column.
    pub(crate) fortran_order: bool,
    /// Sizes of the axes.
    pub(crate) shape: Vec<u64>,
}

impl Header {
    /// Reads the dictionary; none where it is not that of an array of plain elements.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut rest = Rest(text);
        let (mut element, mut order, mut shape) = (None, None, None);
        rest.take("{")?;
        while rest.take("}").is_none() {
            let key = rest.quoted()?;
            rest.take(":")?;
            match key {
                "descr" if element.is_none() => element = Some(element_of(rest.quoted()?)?),
                "fortran_order" if order.is_none() => {
                    order = Some(rest.take("True").is_some());
                    if order == Some(false) {
                        rest.take("False")?;
                    }
                }
                "shape" if shape.is_none() => shape = Some(rest.tuple()?),
                _ => return None,
            }
            if rest.take(",").is_none() {
                rest.take("}")?;
                break;
            }
        }
        let (kind, size, big_endian) = element?;
        let only_blanks = rest.0.trim_start().is_empty();
        only_blanks.then_some(Self { kind, size, big_endian, fortran_order: order?, shape: shape? })
    }
}

/// What NumPy calls a type, such as `<f4`: byte order, kind, bytes.
fn element_of(name: &str) -> Option<(Kind, u64, bool)> {
    let big = name.starts_with('>') || (name.starts_with('=') && cfg!(target_endian = "big"));
    let name = name.strip_prefix(['<', '>', '=', '|'])?;
    let kind = match name.chars().next()? {
        'i' => Kind::Int,
        'u' => Kind::Uint,
        'f' => Kind::Float,
        letter if letter.is_ascii_alphabetic() => Kind::Other,
        _ => return None,
    };
    // Characters of texts have four bytes.
    let unit = if name.starts_with('U') { 4 } else { 1 };
    Some((kind, number(&name[1..])?.checked_mul(unit)?, big))
}

fn number(digits: &str) -> Option<u64> {
    // `parse` alone takes a sign too.
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// What is left to read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// Goes past this text, if it comes next.
    fn take(&mut self, text: &str) -> Option<()> {
        self.0 = self.0.trim_start().strip_prefix(text)?;
        Some(())
    }

    /// A text in quotes; such headers have no escapes.
    fn quoted(&mut self) -> Option<&'a str> {
        let text = self.0.trim_start();
        let quote = text.chars().next().filter(|quote| ['\'', '"'].contains(quote))?;
        let (inside, rest) = text[1..].split_once(quote)?;
        self.0 = rest;
        Some(inside)
    }

    /// `()`, `(2,)`, `(2, 3)`: sizes of axes.
    fn tuple(&mut self) -> Option<Vec<u64>> {
        self.take("(")?;
        let (inside, rest) = self.0.split_once(')')?;
        self.0 = rest;
        let inside = inside.trim();
        if inside.is_empty() {
            return Some(Vec::new());
        }
        let sizes = inside.strip_suffix(',').unwrap_or(inside).split(',');
        sizes.map(|size| number(size.trim())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<(Kind, u64, bool, bool, Vec<u64>)> {
        let header = Header::parse(text)?;
        let Header { kind, size, big_endian, fortran_order, shape } = header;
        Some((kind, size, big_endian, fortran_order, shape))
    }

    #[test]
    fn headers_are_read_as_numpy_writes_them() {
        let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n";
        assert_eq!(parse(text), Some((Kind::Float, 4, false, false, vec![2, 3])));
        let text = "{\"shape\":(7,),\"fortran_order\":True,\"descr\":\">i8\"}";
        assert_eq!(parse(text), Some((Kind::Int, 8, true, true, vec![7])));
        let text = "{'descr': '|u1', 'fortran_order': False, 'shape': (), }";
        assert_eq!(parse(text), Some((Kind::Uint, 1, false, false, vec![])));
        let text = "{'descr': '<U5', 'fortran_order': False, 'shape': (1,), }";
        assert_eq!(parse(text), Some((Kind::Other, 20, false, false, vec![1])));
    }

    #[test]
    fn other_dictionaries_are_not_headers() {
        let with = |descr: &str, order: &str, shape: &str| {
            format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}")
        };
        assert!(parse(&with("'<f4'", "False", "(1,)")).is_some());
        for text in [
            with("[('a', '<f4')]", "False", "(1,)"),
            with("'f4'", "False", "(1,)"),
            with("'<f'", "False", "(1,)"),
            with("'<f+4'", "False", "(1,)"),
            with("'<f4", "False", "(1,)"),
            with("'<f4'", "None", "(1,)"),
            with("'<f4'", "False", "(-1,)"),
            with("'<f4'", "False", "(1,,)"),
            with("'<f4'", "False", "(99999999999999999999,)"),
            with("'<f4'", "False", "(1,)") + "more",
            with("'<f4'", "False", "(1,), 'shape': (2,)"),
            "{'descr': '<f4', 'shape': (1,), }".to_owned(),
            "{".to_owned(),
            String::new(),
        ] {
            assert_eq!(parse(&text), None, "{text}");
        }
    }
}
