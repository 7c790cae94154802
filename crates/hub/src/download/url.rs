//! Addresses, as far as redirects and tokens need them.

use ureq::http::Uri;

/// Longest address; signed ones have some thousand bytes.
const LONGEST: usize = 16 << 10;

/// An absolute address of `http` or `https`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Url {
    text: String,
    https: bool,
    host: String,
    port: u16,
    path: String,
    account: bool,
}

impl Url {
    /// An absolute address; none for other schemes, and for what has no host.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let sound = text.len() <= LONGEST && text.bytes().all(|byte| byte.is_ascii_graphic());
        let uri: Uri = if sound { text.parse().ok()? } else { return None };
        let https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let host = uri.host().filter(|host| !host.is_empty())?.to_ascii_lowercase();
        let authority = uri.authority()?.as_str();
        // A port that is there but no number would be taken for none.
        let after_host = authority.rsplit('@').next()?.get(host.len()..)?;
        if !after_host.is_empty() && uri.port_u16().is_none() {
            return None;
        }
        let port = uri.port_u16().unwrap_or(if https { 443 } else { 80 });
        let (path, account) = (uri.path().to_owned(), authority.contains('@'));
        Some(Self { text: text.to_owned(), https, host, port, path, account })
    }

    /// Where a `Location` leads from here.
    pub(super) fn join(&self, location: &str) -> Option<Self> {
        let scheme = if self.https { "https" } else { "http" };
        let origin = self.origin();
        let absolute =
            location.split(['/', '?', '#']).next().is_some_and(|part| part.contains(':'));
        if location.is_empty() {
            None
        } else if absolute {
            Self::parse(location)
        } else if location.starts_with("//") {
            Self::parse(&format!("{scheme}:{location}"))
        } else if location.starts_with('/') {
            Self::parse(&format!("{origin}{location}"))
        } else {
            let folder = self.path.rsplit_once('/').map_or("", |(folder, _)| folder);
            Self::parse(&format!("{origin}{folder}/{location}"))
        }
    }

    /// The whole address.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// The address without what may be signed or secret, for messages.
    pub(super) fn shown(&self) -> String {
        let path: String = self.path.chars().take(200).collect();
        format!("{}{path}", self.origin())
    }

    /// Scheme, host and port; a usual port is left out, as servers compare hosts by text.
    fn origin(&self) -> String {
        let (scheme, usual) = if self.https { ("https", 443) } else { ("http", 80) };
        let port = if self.port == usual { String::new() } else { format!(":{}", self.port) };
        format!("{scheme}://{}{port}", self.host)
    }

    /// Whether the address has a name or a password before its host.
    pub(super) fn has_account(&self) -> bool {
        self.account
    }

    /// Whether the connection is encrypted.
    pub(super) fn is_https(&self) -> bool {
        self.https
    }

    /// Whether scheme, host and port are the same.
    pub(super) fn has_origin_of(&self, other: &Self) -> bool {
        (self.https, &self.host, self.port) == (other.https, &other.host, other.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_lead_where_browsers_go() {
        let base = Url::parse("https://hub.example/a/b?c=1").unwrap();
        for (location, place) in [
            ("https://other.example/x?y", "https://other.example/x?y"),
            ("//other.example/x", "https://other.example/x"),
            ("/x?y=a:b", "https://hub.example/x?y=a:b"),
            ("x", "https://hub.example/a/x"),
        ] {
            assert_eq!(base.join(location).unwrap().text(), place, "{location}");
        }
        for location in ["", "ftp://x/y", "file:///etc/passwd", "https://", "http://[", "a b", "é"]
        {
            assert_eq!(base.join(location), None, "{location}");
        }
    }

    #[test]
    fn origins_differ_by_scheme_host_and_port() {
        let base = Url::parse("https://hub.example/a").unwrap();
        let same = |text: &str| Url::parse(text).unwrap().has_origin_of(&base);
        assert!(same("https://HUB.example:443/other"));
        for other in [
            "http://hub.example/a",
            "https://hub.example:444/a",
            "https://hub.example.evil/a",
            "https://hub.example@evil.example/a",
        ] {
            assert!(!same(other), "{other}");
        }
        assert_eq!(Url::parse("https://hub.example:x/"), None);
        let signed = Url::parse("https://u:p@cdn.example/x?Signature=s").unwrap();
        assert_eq!(signed.shown(), "https://cdn.example/x");
    }
}
