//! Pages in headless Chromium.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod window;

pub use window::Window;

use crate::succeed;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the browser is always told: a page alone, and no requests of its own.
const ARGUMENTS: &[&str] = &[
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--hide-scrollbars",
];

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
/// The browser; where there is none, the test says that it is skipped.
pub fn chromium() -> Option<PathBuf> {
    let names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
    let folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    let found = names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|path| path.is_file());
    if found.is_none() {
        println!("skipped: there is no Chromium on this machine");
    }
    found
}

/// What the browser did with a page.
pub struct Seen {
    /// The document after scripts ran.
    pub document: String,
    /// What it said on the console.
    pub console: Vec<String>,
    /// Requests that it made.
    pub requests: usize,
    /// Red, green and blue of the first pixel, the page's background.
    pub corner: [u8; 3],
}

/// Opens a page in a window of this width.
///
/// # Panics
/// The browser fails.
pub fn look(browser: &Path, page: &Path, dark: bool, width: u32) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("net.json");
    let picture = folder.path().join("page.png");
    let command = |what: &str| {
        let mut command = Command::new(browser);
        command
            .args(ARGUMENTS)
            .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"])
            .arg("--virtual-time-budget=3000")
            .arg(format!("--blink-settings=preferredColorScheme={}", u8::from(!dark)))
            .arg(format!("--window-size={width},900"))
            .arg(format!("--user-data-dir={}", folder.path().join("profile").display()))
            .arg(format!("--log-net-log={}", log.display()))
            .arg(what)
            .arg(format!("file://{}", page.display()));
        succeed(&mut command)
    };
    let output = command("--dump-dom");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let console: Vec<String> =
        text.lines().filter(|line| line.contains(":CONSOLE")).map(str::to_owned).collect();
    // Requests of the browser itself have "not an origin"; those of a page from a file, "null".
    let requests = std::fs::read_to_string(&log).unwrap().matches(r#""initiator":"null""#).count();
    command(&format!("--screenshot={}", picture.display()));
    Seen {
        document: String::from_utf8_lossy(&output.stdout).into_owned(),
        console,
        requests,
        corner: corner(&std::fs::read(&picture).unwrap()),
    }
}

/// The first pixel of a PNG of 8 bits for each channel: whatever the filter of the first line is,
/// it leaves the first pixel as it is.
fn corner(png: &[u8]) -> [u8; 3] {
    let mut data = Vec::new();
    let mut at = 8;
    while let Some(head) = png.get(at..at + 8) {
        let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
        if &head[4..] == b"IDAT" {
            data.extend(&png[at + 8..at + 8 + length]);
        }
        at += length + 12;
    }
    let mut line = [0; 4];
    flate2::read::ZlibDecoder::new(&data[..]).read_exact(&mut line).unwrap();
    [line[1], line[2], line[3]]
}
