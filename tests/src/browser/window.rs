//! A window of the browser that is told what to do, by the DevTools protocol over a pipe.

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use tempfile::TempDir;

/// An open page.
pub struct Window {
    process: Child,
    commands: ChildStdin,
    answers: BufReader<ChildStdout>,
    session: Value,
    last: u64,
    /// What the page complained of: exceptions, and what its policy forbids.
    pub complaints: Vec<String>,
    _profile: TempDir,
}

impl Window {
    /// Opens an address in a window of this size.
    ///
    /// # Panics
    /// The browser fails.
    pub fn open(browser: &Path, address: &str, width: u32, height: u32, dark: bool) -> Self {
        let profile = tempfile::tempdir().unwrap();
        // The protocol's pipes are the files 3 and 4.
        let mut process = Command::new("sh")
            .args(["-c", "exec \"$0\" \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null"])
            .arg(browser)
            .args(super::ARGUMENTS)
            .arg("--remote-debugging-pipe")
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        let mut window = Self {
            process,
            commands,
            answers,
            session: Value::Null,
            last: 0,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = window.command("Target.createTarget", json!({ "url": "about:blank" }));
        let target = json!({ "targetId": target["targetId"], "flatten": true });
        window.session = window.command("Target.attachToTarget", target)["sessionId"].clone();
        window.command("Runtime.enable", json!({}));
        window.command("Log.enable", json!({}));
        window.command("Page.enable", json!({}));
        window.command(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false }),
        );
        let scheme = if dark { "dark" } else { "light" };
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        window.command("Emulation.setEmulatedMedia", json!({ "features": feature }));
        window.command("Page.navigate", json!({ "url": address }));
        window.wait_for("document.readyState === 'complete' && location.href !== 'about:blank'");
        window
    }

    /// The value of an expression of JavaScript, of a promise when it is kept.
    ///
    /// # Panics
    /// It throws.
    #[track_caller]
    pub fn value(&mut self, expression: &str) -> Value {
        let parameters =
            json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.command("Runtime.evaluate", parameters);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    ///
    /// # Panics
    /// It is not within 20 seconds.
    #[track_caller]
    pub fn wait_for(&mut self, expression: &str) {
        let promise = format!(
            "new Promise((done, fail) => {{ let left = 400; const look = () => {{
                if ({expression}) done(true);
                else if (--left) setTimeout(look, 50);
                else done(false); }}; look(); }})"
        );
        assert_eq!(self.value(&promise), true, "{expression}; {:?}", self.complaints);
    }

    /// Presses and lets go of a key, in what has the focus.
    pub fn press(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            self.command("Input.dispatchKeyEvent", event);
        }
    }

    /// Types a text into what has the focus.
    pub fn write(&mut self, text: &str) {
        self.command("Input.insertText", json!({ "text": text }));
    }

    /// The window as a PNG, in base64.
    ///
    /// # Panics
    /// There is none.
    pub fn picture(&mut self) -> String {
        let answer = self.command("Page.captureScreenshot", json!({ "format": "png" }));
        answer["data"].as_str().unwrap().to_owned()
    }

    fn command(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut message = json!({ "id": self.last, "method": method, "params": parameters });
        if !self.session.is_null() {
            message["sessionId"] = self.session.clone();
        }
        self.commands.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let mut bytes = Vec::new();
            self.answers.read_until(0, &mut bytes).unwrap();
            assert_eq!(bytes.pop(), Some(0), "the browser ended at {method}");
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            if answer["id"] == self.last {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
            let entry = &answer["params"]["entry"];
            match answer["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(answer.to_string()),
                Some("Log.entryAdded") if entry["level"] == "error" => {
                    self.complaints.push(entry.to_string());
                }
                _ => {}
            }
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
