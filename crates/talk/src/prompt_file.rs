//! Prompts that are in a file.

use anemll_codes as codes;
use anemll_plugin_api::{Error, Result};
use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

/// Bytes of a prompt that are read; the context of no model holds as many.
pub(crate) const LARGEST: u64 = 64_000_000;

/// All of a file, or for `-` of standard input, without the end of its last line, which editors put
/// there.
///
/// # Errors
/// [`codes::PROMPT_INVALID`]: it cannot be read, is too large, or is not UTF-8.
pub fn prompt_of(path: &Path) -> Result<String> {
    let text = if path == Path::new("-") {
        read(&mut stdin().lock())
    } else {
        File::open(path).map_err(|source| source.to_string()).and_then(|mut file| read(&mut file))
    };
    text.map_err(|reason| {
        Error::new(codes::PROMPT_INVALID, format!("the prompt cannot be read: {reason}"))
            .with_at(path.display().to_string())
            .with_hint("give --prompt-file a text in UTF-8, or - for standard input")
    })
}

fn read(input: &mut impl Read) -> std::result::Result<String, String> {
    let mut bytes = Vec::new();
    input.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|source| source.to_string())?;
    if bytes.len() as u64 > LARGEST {
        return Err(format!("it has more than {} MB", LARGEST / 1_000_000));
    }
    let text = String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    Ok(without_end(&text).to_owned())
}

/// A text without the end of its last line.
pub(crate) fn without_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_of_line_goes_and_what_is_no_text_is_told() {
        let text = |bytes: &[u8]| read(&mut &*bytes);
        assert_eq!(text(b"a\nb\n\n").unwrap(), "a\nb\n");
        assert_eq!(text(b"a\r\n").unwrap(), "a");
        assert_eq!(text(b"").unwrap(), "");
        assert!(text(b"\xff").unwrap_err().contains("UTF-8"));
        let error = prompt_of(Path::new("/nowhere/at/all")).unwrap_err();
        assert_eq!(error.code, codes::PROMPT_INVALID);
        assert!(error.at.unwrap().contains("/nowhere"));
    }
}
