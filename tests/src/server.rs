//! A server of the program, and requests to it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use crate::anemll;
use serde_json::Value;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStderr, Stdio};

/// A running `anemll serve`, which ends with this value.
pub struct Server {
    /// The process.
    pub child: Child,
    /// Its port on this machine.
    pub port: u16,
    /// What else it says.
    pub told: BufReader<ChildStderr>,
}

/// What a server answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The lines before the body.
    pub head: String,
    /// The body, put together where it came in pieces.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The data of its events.
    pub fn events(&self) -> Vec<&str> {
        self.body.split("\n\n").filter_map(|event| event.strip_prefix("data: ")).collect()
    }
}

impl Server {
    /// Serves a conversion at any free port.
    ///
    /// # Panics
    /// The server does not begin.
    pub fn start(conversion: &Path, arguments: &[&str]) -> Self {
        let mut command = anemll();
        command.arg("serve").arg(conversion).args(["--port", "0"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut told = BufReader::new(child.stderr.take().unwrap());
        let (mut all, mut line) = (String::new(), String::new());
        while told.read_line(&mut line).unwrap() > 0 {
            if line.starts_with("serving ") {
                let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
                let port = address.rsplit(':').next().unwrap().parse().unwrap();
                return Self { child, port, told };
            }
            all += &std::mem::take(&mut line);
        }
        let _ = child.wait();
        panic!("the server does not begin:\n{all}");
    }

    /// A connection to it.
    ///
    /// # Panics
    /// There is none.
    pub fn connect(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).unwrap()
    }

    /// Sends a request with these bytes and further lines of its head.
    ///
    /// # Panics
    /// The connection breaks off.
    pub fn send(&self, method: &str, path: &str, lines: &str, body: &[u8]) -> Answer {
        let mut stream = self.connect();
        let (port, length) = (self.port, body.len());
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{port}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{lines}\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        answer(stream)
    }

    /// Gets what is at a path.
    pub fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"")
    }

    /// Posts a value.
    pub fn post(&self, path: &str, value: &Value) -> Answer {
        self.send("POST", path, "Content-Type: application/json\r\n", value.to_string().as_bytes())
    }

    /// The value of a metric.
    ///
    /// # Panics
    /// There is no such metric.
    pub fn metric(&self, name: &str) -> f64 {
        let text = self.get("/metrics").body;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{name}:\n{text}"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads an answer to its end.
///
/// # Panics
/// It is none.
pub fn answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, rest) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { joined(rest) } else { rest.to_owned() };
    Answer { status, head: head.to_owned(), body }
}

/// The pieces of a body that came in pieces.
fn joined(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        body += &after[..length];
        rest = after[length..].strip_prefix("\r\n").unwrap_or_default();
    }
    body
}
