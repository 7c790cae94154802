//! Who may ask. A page of the web that a user has open can send requests to this machine, and a name
//! of its own can be made to mean this machine: such requests are refused.

use crate::failure::Failure;
use crate::keys::Keys;
use anemll_codes as codes;
use hyper::header::{AUTHORIZATION, HOST, ORIGIN};
use hyper::{HeaderMap, StatusCode};
use std::net::IpAddr;

/// Refuses requests of pages that are not ours.
pub(crate) fn check_origin(headers: &HeaderMap, has_keys: bool) -> Result<(), Failure> {
    let header =
        |name| headers.get(name).and_then(|value: &hyper::header::HeaderValue| value.to_str().ok());
    let host = header(HOST).unwrap_or_default();
    // Without a key only this machine may ask, by its own names.
    if !has_keys && !host.is_empty() && !is_local(host) {
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            codes::REQUEST_FORBIDDEN,
            "this server answers to localhost alone",
        )
        .with_hint("to serve under another name, start it with --api-key-file"));
    }
    let foreign = header(ORIGIN).is_some_and(|origin| {
        let own = origin.split_once("://").is_some_and(|(_, authority)| authority == host);
        !own
    });
    if foreign {
        return Err(Failure::new(
            StatusCode::FORBIDDEN,
            codes::REQUEST_FORBIDDEN,
            "pages of other origins may not ask this server",
        ));
    }
    Ok(())
}

/// Refuses who shows no key, where there are keys.
pub(crate) fn check_key(headers: &HeaderMap, keys: Option<&Keys>) -> Result<(), Failure> {
    let shown = headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    if keys.is_none_or(|keys| keys.accept(shown)) {
        return Ok(());
    }
    let what = if shown.is_some() { "the API key is not known" } else { "an API key is needed" };
    Err(Failure::new(StatusCode::UNAUTHORIZED, codes::KEY_REFUSED, what)
        .with_hint("send the header `Authorization: Bearer KEY`"))
}

/// Whether `host`, of a header, is a name of this machine itself; with or without a port.
fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn allowed(host: &str, origin: Option<&str>, has_keys: bool) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().unwrap());
        }
        check_origin(&headers, has_keys).is_ok()
    }

    #[test]
    fn other_names_and_pages_of_others_are_refused() {
        for host in ["localhost:8080", "127.0.0.1", "[::1]:8080", "LOCALHOST", "a.localhost:1"] {
            assert!(allowed(host, None, false), "{host}");
        }
        for host in ["evil.example:8080", "127.0.0.1.example", "192.168.0.7:8080", "localhost.x"] {
            assert!(!allowed(host, None, false), "{host}");
            assert!(allowed(host, None, true), "{host}");
        }
        assert!(allowed("localhost:8080", Some("http://localhost:8080"), false));
        for origin in ["http://evil.example", "http://localhost:3000", "null"] {
            assert!(!allowed("localhost:8080", Some(origin), false), "{origin}");
            assert!(!allowed("localhost:8080", Some(origin), true), "{origin}");
        }
    }
}
