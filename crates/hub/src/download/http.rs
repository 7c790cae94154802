//! Requests to the hub: redirects, tokens, and bounds of everything that an answer has.

use super::Limits;
use super::digest::Sum;
use super::shared::Shared;
use super::url::Url;
use crate::name::is_commit;
use crate::{ErrorKind, HubError};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::HeaderMap;
use ureq::{Agent, BodyReader, Timeout};

const REDIRECTS: usize = 5;
const HEADER_BYTES: usize = 32 << 10;
/// Characters that are shown of a message of the hub.
const SHOWN: usize = 200;

/// What went wrong with one attempt.
#[derive(Debug)]
pub(super) enum Failure {
    /// Trying again is of no use.
    Final(HubError),
    /// It may go better next time, after so long if the hub said so.
    Passing(HubError, Option<Duration>),
    /// No connection, or nothing comes. It may go better if something came before.
    Silent(HubError),
}

impl Failure {
    fn answer(url: &Url, message: impl Into<String>) -> Self {
        Self::Final(
            HubError::new(ErrorKind::Answer, message)
                .with_at(url.shown())
                .with_hint("this is not how a hub answers: check HF_ENDPOINT and the network"),
        )
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Final(error)
    }
}

/// What the hub itself said of a file, while it answered or redirected.
#[derive(Debug, Default, Clone)]
pub(super) struct Head {
    /// The commit that the file is of.
    pub(super) commit: Option<String>,
    /// The hash of its contents, where its tag is one.
    pub(super) sum: Option<Sum>,
    /// Its size, where it lies elsewhere.
    pub(super) size: Option<u64>,
    linked: bool,
}

/// An answer that is no redirect.
pub(super) struct Answer {
    pub(super) url: Url,
    pub(super) status: u16,
    pub(super) head: Head,
    /// Bytes of the body, if told.
    pub(super) length: Option<u64>,
    /// First byte of the body in the file, and the file's size, of an answer with a part.
    pub(super) range: Option<(u64, u64)>,
    /// Seconds to wait.
    pub(super) retry_after: Option<Duration>,
    /// The hub's own word for an error.
    pub(super) error_code: Option<String>,
    /// The hub's own sentence for an error.
    pub(super) error_message: Option<String>,
    /// Address of the next page.
    pub(super) next: Option<String>,
    reader: BodyReader<'static>,
}

/// A client of one endpoint.
pub(super) struct Http {
    shared: Arc<Shared>,
    endpoint: Url,
    token: Option<String>,
    /// Whether the token goes along. It does from the first refusal on: who loads public models
    /// only shows it to nobody.
    authorised: bool,
    agent: Agent,
    limits: Limits,
}

impl Http {
    pub(super) fn new(
        endpoint: Url,
        token: Option<String>,
        limits: Limits,
        shared: Arc<Shared>,
    ) -> Self {
        let agent = agent(&limits);
        shared.set_agent(agent.clone());
        Self { shared, endpoint, token, authorised: false, agent, limits }
    }

    pub(super) fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    /// Asks for a file from byte `range` on, and again with the token when that is refused.
    pub(super) fn get(&mut self, url: &Url, range: Option<&str>) -> Result<Answer, Failure> {
        self.ask(url, range, None)
    }

    /// Asks for something small, and reads it.
    pub(super) fn get_small(
        &mut self,
        url: &Url,
        limit: u64,
    ) -> Result<(Answer, Vec<u8>), Failure> {
        let time = self.limits.answer.saturating_mul(3);
        let mut answer = self.ask(url, None, Some(time))?;
        let mut bytes = Vec::new();
        if answer.status == OK {
            if answer.length.is_some_and(|length| length > limit) {
                return Err(Failure::answer(&answer.url, "the hub's answer is too large"));
            }
            let mut buffer = vec![0; 16 << 10];
            loop {
                match self.read(&mut answer, &mut buffer)? {
                    0 => break,
                    count => bytes.extend_from_slice(&buffer[..count]),
                }
                if bytes.len() as u64 > limit {
                    return Err(Failure::answer(&answer.url, "the hub's answer is too large"));
                }
            }
            if answer.length.is_some_and(|length| length != bytes.len() as u64) {
                let error = self.interrupted(&answer.url, "it ended too early");
                return Err(Failure::Passing(error, None));
            }
        }
        Ok((answer, bytes))
    }

    /// Reads of an answer's body; nothing is its end.
    pub(super) fn read(
        &mut self,
        answer: &mut Answer,
        buffer: &mut [u8],
    ) -> Result<usize, Failure> {
        let count = self.shared.read(&mut answer.reader, buffer);
        if self.shared.is_stopped() {
            return Err(Failure::Final(HubError::new(ErrorKind::Cancelled, "interrupted")));
        }
        if self.shared.is_stalled() {
            let error = self.silent(&answer.url);
            self.renew();
            return Err(Failure::Silent(error));
        }
        count.map_err(|source| match source.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => {
                Failure::Silent(self.silent(&answer.url))
            }
            io::ErrorKind::InvalidData | io::ErrorKind::Other if !is_network(&source) => {
                Failure::answer(&answer.url, format!("the hub's answer is damaged: {source}"))
            }
            _ => Failure::Passing(self.interrupted(&answer.url, &source.to_string()), None),
        })
    }

    fn renew(&mut self) {
        self.agent = agent(&self.limits);
        self.shared.set_agent(self.agent.clone());
    }

    fn ask(
        &mut self,
        url: &Url,
        range: Option<&str>,
        time: Option<Duration>,
    ) -> Result<Answer, Failure> {
        let answer = self.follow(url, range, time)?;
        // Who says that a file is not there shows the model to everybody.
        let absent = answer.error_code.as_deref() == Some(NO_SUCH_FILE);
        let refused = matches!(answer.status, UNAUTHORISED | FORBIDDEN | NOT_FOUND | TOO_MANY)
            && !absent
            && answer.url.has_origin_of(&self.endpoint);
        if refused && !self.authorised && self.token.is_some() {
            self.authorised = true;
            return self.follow(url, range, time);
        }
        Ok(answer)
    }

    fn follow(
        &self,
        url: &Url,
        range: Option<&str>,
        time: Option<Duration>,
    ) -> Result<Answer, Failure> {
        let mut url = url.clone();
        let mut head = Head::default();
        for _ in 0..=REDIRECTS {
            if self.shared.is_stopped() {
                return Err(Failure::Final(HubError::new(ErrorKind::Cancelled, "interrupted")));
            }
            let ours = url.has_origin_of(&self.endpoint);
            let mut request = self.agent.get(url.text());
            if let Some(range) = range {
                request = request.header("range", range);
            }
            if let (true, true, Some(token)) = (ours, self.authorised, &self.token) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let request = request.config().timeout_recv_body(time).build();
            let response = request.call().map_err(|source| self.failure(&url, source))?;
            let headers = response.headers();
            if ours {
                head.take(&url, headers)?;
            }
            let status = response.status().as_u16();
            if !matches!(status, 301 | 302 | 303 | 307 | 308) {
                return answer(url, head, response, self.token.as_deref());
            }
            url = next_hop(&self.endpoint, &url, text(headers, "location"))?;
        }
        let message = format!("the hub redirects more than {REDIRECTS} times");
        Err(Failure::answer(&url, message))
    }

    fn silent(&self, url: &Url) -> HubError {
        let seconds = self.limits.stall.as_secs_f64();
        let rate = self.limits.bytes_per_second;
        HubError::new(
            ErrorKind::Failed,
            format!("the hub sent fewer than {rate} bytes a second for {seconds} s"),
        )
        .with_at(url.shown())
    }

    fn interrupted(&self, url: &Url, why: &str) -> HubError {
        HubError::new(ErrorKind::Failed, format!("the connection to the hub broke off: {why}"))
            .with_at(url.shown())
    }

    fn failure(&self, url: &Url, source: ureq::Error) -> Failure {
        use io::ErrorKind as Kind;
        if self.shared.is_stopped() {
            return Failure::Final(HubError::new(ErrorKind::Cancelled, "interrupted"));
        }
        let unreachable = |why: String| {
            let error = HubError::new(ErrorKind::Unreachable, "the hub cannot be reached")
                .with_at(url.shown())
                .with_cause(why);
            Failure::Silent(error)
        };
        match source {
            ureq::Error::Timeout(Timeout::Resolve | Timeout::Connect) => {
                let seconds = self.limits.connect.as_secs_f64();
                unreachable(format!("no connection within {seconds} s"))
            }
            ureq::Error::Timeout(_) => {
                let seconds = self.limits.answer.as_secs_f64();
                let error = HubError::new(
                    ErrorKind::Failed,
                    format!("the hub gave no answer within {seconds} s"),
                );
                Failure::Silent(error.with_at(url.shown()))
            }
            ureq::Error::Io(source) => match source.kind() {
                Kind::ConnectionReset
                | Kind::ConnectionAborted
                | Kind::BrokenPipe
                | Kind::UnexpectedEof
                | Kind::Interrupted => {
                    Failure::Passing(self.interrupted(url, &source.to_string()), None)
                }
                _ => unreachable(source.to_string()),
            },
            ureq::Error::HostNotFound
            | ureq::Error::ConnectionFailed
            | ureq::Error::Tls(_)
            | ureq::Error::Rustls(_) => unreachable(source.to_string()),
            ureq::Error::LargeResponseHeader(..) => {
                Failure::answer(url, "the headers of the hub's answer are too large")
            }
            other => {
                Failure::answer(url, format!("the hub's answer cannot be understood: {other}"))
            }
        }
    }
}

pub(super) const OK: u16 = 200;
pub(super) const PARTIAL: u16 = 206;
pub(super) const UNAUTHORISED: u16 = 401;
pub(super) const FORBIDDEN: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
/// What the hub calls it where a model has no file of a name.
pub(super) const NO_SUCH_FILE: &str = "EntryNotFound";
pub(super) const RANGE_NOT_SATISFIABLE: u16 = 416;
pub(super) const TOO_MANY: u16 = 429;

fn agent(limits: &Limits) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        // Redirects are followed here, where the token and the scheme are looked at.
        .max_redirects(0)
        .accept_encoding("identity")
        .user_agent(concat!("anemll/", env!("CARGO_PKG_VERSION")))
        .max_response_header_size(HEADER_BYTES)
        .timeout_resolve(Some(limits.connect))
        .timeout_connect(Some(limits.connect))
        .timeout_send_request(Some(limits.connect))
        .timeout_recv_response(Some(limits.answer))
        .timeout_per_read(Some(limits.stall))
        .build()
        .into()
}

/// Whether an error came from the network, and not from what was read.
fn is_network(source: &io::Error) -> bool {
    source.raw_os_error().is_some()
}

/// Where a redirect leads; never from an encrypted hub to an address without encryption.
fn next_hop(endpoint: &Url, from: &Url, location: Option<&str>) -> Result<Url, Failure> {
    let Some(location) = location else {
        return Err(Failure::answer(from, "the hub redirects without saying where to"));
    };
    let Some(next) = from.join(location) else {
        return Err(Failure::answer(
            from,
            "the hub redirects to something that is not a web address",
        ));
    };
    if next.has_account() {
        let message = "the hub redirects to an address with a name or a password";
        return Err(Failure::answer(&next, message));
    }
    if endpoint.is_https() && !next.is_https() {
        let message = "the hub redirects to an address without encryption";
        return Err(Failure::answer(&next, message));
    }
    Ok(next)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn answer(
    url: Url,
    head: Head,
    response: ureq::http::Response<ureq::Body>,
    token: Option<&str>,
) -> Result<Answer, Failure> {
    let headers = response.headers();
    if headers.get("content-encoding").is_some_and(|value| value != "identity") {
        return Err(Failure::answer(
            &url,
            "the hub's answer is compressed, which was not asked for",
        ));
    }
    let number = |name: &str| text(headers, name)?.trim().parse::<u64>().ok();
    let short = |name: &str| {
        // Before it is cut, so that no part of the token stays either.
        let whole = text(headers, name)?.replace(token.unwrap_or("\0"), "…");
        let text: String = whole.chars().take(SHOWN).collect();
        Some(text.replace(|letter: char| letter.is_control(), " "))
    };
    Ok(Answer {
        status: response.status().as_u16(),
        length: number("content-length"),
        range: text(headers, "content-range").and_then(parse_range),
        retry_after: number("retry-after").map(Duration::from_secs),
        error_code: short("x-error-code"),
        error_message: short("x-error-message"),
        next: text(headers, "link").and_then(next_page),
        head,
        url,
        reader: response.into_body().into_reader(),
    })
}

/// `bytes FIRST-LAST/SIZE`.
fn parse_range(text: &str) -> Option<(u64, u64)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, size.trim().parse().ok()?))
}

/// `<ADDRESS>; rel="next"`.
fn next_page(text: &str) -> Option<String> {
    let link = text.split(',').find(|link| link.contains("rel=\"next\""))?;
    let (_, rest) = link.split_once('<')?;
    Some(rest.split_once('>')?.0.to_owned())
}

impl Head {
    /// Takes what the headers of one more answer say.
    fn take(&mut self, url: &Url, headers: &HeaderMap) -> Result<(), Failure> {
        if let Some(commit) = headers.get("x-repo-commit") {
            match commit.to_str().ok().filter(|commit| is_commit(commit)) {
                Some(commit) => self.commit = Some(commit.to_owned()),
                None => return Err(Failure::answer(url, "the hub names a commit that is not one")),
            }
        }
        if let Some(size) = headers.get("x-linked-size") {
            match size.to_str().ok().and_then(|size| size.trim().parse().ok()) {
                Some(size) => self.size = Some(size),
                None => return Err(Failure::answer(url, "the hub names a size that is not one")),
            }
        }
        let linked = headers.get("x-linked-etag");
        // A place for large files has tags of its own, also when it is the hub's own host.
        if let Some(tag) = linked.or_else(|| headers.get("etag").filter(|_| !self.linked)) {
            let tag = tag.to_str().unwrap_or_default().trim();
            let tag = tag.strip_prefix("W/").unwrap_or(tag).trim_matches('"');
            let sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:+=".contains(&byte);
            if tag.is_empty() || tag.len() > 128 || !tag.bytes().all(sound) || tag.contains("..") {
                return Err(Failure::answer(url, "the hub's tag of a file is not valid"));
            }
            self.sum = Sum::parse(tag);
            self.linked |= linked.is_some();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_redirect_leads_out_of_encryption() {
        let hop = |endpoint: &str, location: &str| {
            let endpoint = Url::parse(endpoint).unwrap();
            next_hop(&endpoint, &endpoint, Some(location)).is_ok()
        };
        assert!(hop("https://hub.example/a", "https://cdn.example/b"));
        assert!(hop("http://127.0.0.1:1/a", "http://127.0.0.1:2/b"));
        assert!(!hop("https://hub.example/a", "http://hub.example/b"));
        assert!(!hop("https://hub.example/a", "http://cdn.example/b"));
        assert!(!hop("https://hub.example/a", "https://hub.example@cdn.example/b"));
        assert!(!hop("https://hub.example/a", "//name:word@hub.example/b"));
    }

    #[test]
    fn headers_are_read() {
        assert_eq!(parse_range("bytes 5-9/10"), Some((5, 10)));
        for text in ["bytes */10", "bytes 5-9/*", "5-9/10", "bytes x-9/10", ""] {
            assert_eq!(parse_range(text), None, "{text}");
        }
        let link = "<https://hub/a?cursor=x>; rel=\"next\"";
        assert_eq!(next_page(link).as_deref(), Some("https://hub/a?cursor=x"));
        assert_eq!(next_page("<https://hub/a>; rel=\"prev\""), None);
    }
}
