//! Names of functions and values: `[A-Za-z_][A-Za-z0-9_@]*`, and no word of MIL's text form.

/// Words that MIL's text form uses itself; a value of such a name would not parse.
const RESERVED: &[&str] = &[
    "any", "bf16", "bool", "dict", "false", "fp16", "fp32", "fp64", "func", "int16", "int32",
    "int4", "int64", "int8", "list", "program", "state", "string", "tensor", "true", "tuple",
    "uint1", "uint16", "uint2", "uint3", "uint32", "uint4", "uint6", "uint64", "uint8",
];

/// Whether a reader accepts the name.
pub fn is_legal(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'@')
}

/// Whether the name is a word of MIL's text form.
pub fn is_reserved(name: &str) -> bool {
    RESERVED.contains(&name)
}

/// The nearest legal name: other characters become `_`, a leading digit gets one in front.
pub fn legal(hint: &str) -> String {
    let mut name: String = hint
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '@' { c } else { '_' })
        .collect();
    if !is_legal(&name) || is_reserved(&name) {
        name.insert(0, '_');
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn legal_names() {
        for name in ["a", "_", "model_0@x", "A9"] {
            assert!(is_legal(name), "{name}");
            assert_eq!(legal(name), name);
        }
        for name in ["", "9a", "a b", "a.b", "@a", "ä"] {
            assert!(!is_legal(name), "{name}");
            assert!(is_legal(&legal(name)), "{name}");
        }
        assert_eq!(legal("model.layers.0"), "model_layers_0");
        assert_eq!(legal("state"), "_state");
    }
}
