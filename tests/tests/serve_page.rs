//! The page of `serve` in headless Chromium: it sends, shows what comes, stops, asks again, keeps to a
//! narrow window, and its policy forbids nothing that it does. Skipped, saying so, where there is no
//! Chromium.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use anemll_tests::browser::{Window, chromium};
use anemll_tests::server::Server;
use anemll_tests::{copy_of_converted, model};

const ENTER: (&str, u32) = ("Enter", 13);
const ESCAPE: (&str, u32) = ("Escape", 27);
/// No answer is being made.
const IDLE: &str = "document.getElementById('send').textContent === 'Send'";

#[test]
fn a_conversation_on_the_page() {
    let Some(browser) = chromium() else { return };
    let folder = tempfile::tempdir().unwrap();
    copy_of_converted(&model("tiny-llama"), folder.path(), &["--context", "512", "--batch", "8"]);
    let server = Server::start(folder.path(), &["--name", "tiny"]);
    let address = format!("http://127.0.0.1:{}/", server.port);
    for (width, dark) in [(360, false), (1280, true)] {
        let mut window = Window::open(&browser, &address, width, 800, dark);
        window.wait_for("document.getElementById('model').textContent === 'tiny'");
        window.value("document.getElementById('max_tokens').value = '6'");
        window.value("document.getElementById('temperature').value = '0'");
        window.value("document.getElementById('ask').focus()");
        window.write("Once **upon** a time");
        window.press(ENTER.0, ENTER.1);
        let articles = |kind: &str| format!("document.querySelectorAll('article.{kind}')");
        let answers = articles("assistant");
        window.wait_for(&format!("{answers}.length === 1 && {IDLE}"));
        let text = window.value(&format!("{answers}[0].querySelector('.text').textContent"));
        assert!(!text.as_str().unwrap().trim().is_empty());
        let speed = window.value(&format!("{answers}[0].querySelector('.speed').textContent"));
        assert!(speed.as_str().unwrap().starts_with("6 tokens · "), "{speed}");
        // What was typed is shown as it was typed.
        let own = window.value(&format!("{}[0].textContent", articles("user")));
        assert_eq!(own, "Once **upon** a time");

        // Greedy answers are the same again, and there is still one.
        window.value(&format!("{answers}[0].querySelector('.again').click()"));
        window.wait_for(&format!("{answers}.length === 1 && {IDLE}"));
        let again = window.value(&format!("{answers}[0].querySelector('.text').textContent"));
        assert_eq!(again, text);

        // A long answer ends with Escape, and says so.
        window.value("document.getElementById('max_tokens').value = ''");
        window.value("document.getElementById('ask').focus()");
        window.write("And then?");
        window.press(ENTER.0, ENTER.1);
        window.wait_for(&format!("{answers}[1] && {answers}[1].textContent.length > 3"));
        window.press(ESCAPE.0, ESCAPE.1);
        window.wait_for(IDLE);
        let speed = window.value(&format!("{answers}[1].querySelector('.speed').textContent"));
        let ends = ["stopped", "ended by its length"];
        assert!(ends.iter().any(|end| speed.as_str().unwrap().ends_with(end)), "{speed}");

        let overflow =
            "document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(window.value(overflow), 0, "at {width} px");
        assert!(window.picture().len() > 1000);
        // The server says why it refuses, and the page shows it.
        window.value("document.getElementById('temperature').value = '-1'");
        window.value("document.getElementById('ask').focus()");
        window.write("x");
        window.press(ENTER.0, ENTER.1);
        window.wait_for(&format!("{}.length === 1 && {IDLE}", articles("error")));
        let error = window.value(&format!("{}[0].textContent", articles("error")));
        assert!(error.as_str().unwrap().contains("temperature"), "{error}");
        let complaints: Vec<&String> =
            window.complaints.iter().filter(|it| !it.contains("status of 400")).collect();
        assert!(complaints.is_empty(), "{complaints:?}");
    }
}
