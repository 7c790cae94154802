//! What stands in a file where something else should: what downloads leave behind that went wrong.

/// What a file is instead of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Instead {
    /// No bytes at all, or nothing but white space.
    Nothing,
    /// The few lines that Git LFS leaves where a file was not fetched.
    LfsPointer,
    /// A page of a server: an error, or a request to log in.
    WebPage,
    /// Bytes that are no text, where a text belongs.
    Binary,
}

impl Instead {
    /// What is there instead of a file of any kind; `None` for what may be the file itself.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let bytes = bytes.trim_ascii_start();
        let begins = |words: &[u8]| {
            bytes.get(..words.len()).is_some_and(|start| start.eq_ignore_ascii_case(words))
        };
        if bytes.is_empty() {
            Some(Self::Nothing)
        } else if anemll_files::is_lfs_pointer(bytes) {
            Some(Self::LfsPointer)
        } else if [&b"<!doctype html"[..], b"<html", b"<head", b"<?xml"].into_iter().any(begins) {
            Some(Self::WebPage)
        } else {
            None
        }
    }

    /// The text in UTF-8 that a file is, or what is there instead.
    pub fn text(bytes: &[u8]) -> Result<&str, Self> {
        if let Some(found) = Self::of(bytes) {
            return Err(found);
        }
        match std::str::from_utf8(bytes) {
            Ok(text) if !bytes.contains(&0) => Ok(text),
            _ => Err(Self::Binary),
        }
    }

    /// What it is, for an error.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Nothing => "the file is empty",
            Self::LfsPointer => "this is a Git LFS pointer, not the file itself",
            Self::WebPage => "this is a web page, not the file itself",
            Self::Binary => "this is not UTF-8 text",
        }
    }

    /// What to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::LfsPointer => "fetch the files with `git lfs pull`, or download the model again",
            Self::WebPage => {
                "the server answered with a page instead: log in or accept the model's terms, \
                 then download the file again"
            }
            Self::Nothing | Self::Binary => "download the file again",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_downloads_leave_behind_is_known() {
        for (bytes, instead) in [
            (&b""[..], Some(Instead::Nothing)),
            (b" \r\n\xEF\xBB\xBF", None),
            (b"\xEF\xBB\xBF \n", Some(Instead::Nothing)),
            (
                b"version https://git-lfs.github.com/spec/v1\noid sha256:ab",
                Some(Instead::LfsPointer),
            ),
            (b"version https://hawser.github.com/spec/v1\n", Some(Instead::LfsPointer)),
            (b"\n <!DOCTYPE HTML><html>", Some(Instead::WebPage)),
            (b"<html lang=en>", Some(Instead::WebPage)),
            (b"<?xml version='1.0'?><Error>", Some(Instead::WebPage)),
            (b"{}", None),
            (b"version 1", None),
            (b"\x0a\x0e\x0a\x05<unk>\0", None),
        ] {
            assert_eq!(Instead::of(bytes), instead, "{}", bytes.escape_ascii());
        }
        assert_eq!(Instead::text(b"{\"a\": \"\0\"}"), Err(Instead::Binary));
        assert_eq!(Instead::text(&[0x7B, 0xFF]), Err(Instead::Binary));
        assert_eq!(Instead::text("é".as_bytes()), Ok("é"));
        assert_eq!(Instead::text(b""), Err(Instead::Nothing));
    }
}
