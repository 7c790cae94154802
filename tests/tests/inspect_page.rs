//! The page of `inspect --html` in headless Chromium: it draws, in light and dark, says nothing on
//! the console, and asks for nothing. Skipped, saying so, where there is no Chromium.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::{anemll, convert, model, succeed};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Command;

#[expect(clippy::print_stdout, reason = "a skipped test says so")]
fn chromium() -> Option<PathBuf> {
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
struct Seen {
    document: String,
    console: Vec<String>,
    requests: usize,
    /// Red, green and blue of the first pixel, the page's background.
    corner: [u8; 3],
}

fn look(browser: &Path, page: &Path, dark: bool, width: u32) -> Seen {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("net.json");
    let picture = folder.path().join("page.png");
    let command = |what: &str| {
        let mut command = Command::new(browser);
        command
            .args(["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run"])
            .args(["--disable-background-networking", "--disable-component-update"])
            .args(["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr"])
            .args(["--virtual-time-budget=3000", "--hide-scrollbars"])
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

#[test]
fn the_page_draws_in_light_and_dark_and_asks_for_nothing() {
    let Some(browser) = chromium() else { return };
    let output = tempfile::tempdir().unwrap();
    let arguments = ["--combiner", "chunked", "--chunk", "1", "--lut", "4"];
    convert(&model("tiny-llama"), output.path(), &arguments);
    let package = output.path().join("llama_FFN_PF_lut4_chunk_01of01.mlpackage");
    let page = output.path().join("page.html");
    succeed(anemll().arg("inspect").arg(&package).arg("--html").arg(&page));
    let printed = succeed(anemll().arg("inspect").arg(&package).arg("--json")).stdout;
    let found: serde_json::Value = serde_json::from_slice(&printed).unwrap();
    let weights = found["weights"].as_array().unwrap().len();
    assert!(weights > 30);
    for (dark, width) in [(false, 1280), (true, 1280), (false, 500)] {
        let seen = look(&browser, &page, dark, width);
        assert_eq!(seen.console, [""; 0], "dark {dark}, width {width}");
        assert_eq!(seen.requests, 0, "dark {dark}, width {width}");
        // A tile for each weight, and one for the program.
        let tiles = seen.document.matches(r#"class="tile"#).count();
        assert!(tiles > weights, "{tiles} tiles for {weights} weights");
        assert_eq!(seen.document.matches(r#"<tr class="row""#).count(), weights);
        assert!(seen.document.contains(r#"aria-label="Sizes of all weights"#));
        let light = seen.corner.iter().all(|channel| *channel > 200);
        let black = seen.corner.iter().all(|channel| *channel < 50);
        assert!(if dark { black } else { light }, "dark {dark}: background {:?}", seen.corner);
    }
    let bytes = std::fs::metadata(&page).unwrap().len();
    assert!(bytes < 400_000, "{bytes} bytes for {weights} weights");
}

/// What the checks above look for is found where it is.
#[test]
fn a_page_that_errs_and_asks_is_noticed() {
    let Some(browser) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.html");
    let text = "<body style=\"background: #fff\"><img src=\"http://example.invalid/x.png\">\
                <script>undefined.x</script>";
    std::fs::write(&page, text).unwrap();
    let seen = look(&browser, &page, false, 800);
    assert!(!seen.console.is_empty() && seen.requests > 0);
}
