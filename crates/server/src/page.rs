//! The page to chat on: one file, which loads nothing.

use crate::reply::{Reply, text};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY};
use hyper::{Response, StatusCode};
use sha2::{Digest as _, Sha256};
use std::sync::LazyLock;

/// The page.
const PAGE: &str = include_str!("page.html");

/// What the page may do: run the script and take the style that are in it, by their sums, and ask this
/// server.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let sum = |tag: &str| {
        let inside = PAGE.split_once(&format!("<{tag}>")).map_or("", |(_, rest)| rest);
        let inside = inside.split_once(&format!("</{tag}>")).map_or("", |(inside, _)| inside);
        BASE64_STANDARD.encode(Sha256::digest(inside))
    };
    format!(
        "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        sum("script"),
        sum("style")
    )
});

/// The page as an answer.
pub(crate) fn page() -> Response<Reply> {
    let mut response = text(StatusCode::OK, "text/html; charset=utf-8", PAGE.to_owned());
    let headers = response.headers_mut();
    if let Ok(policy) = HeaderValue::from_str(&POLICY) {
        headers.insert(CONTENT_SECURITY_POLICY, policy);
    }
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}
