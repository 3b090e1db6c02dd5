//! A real browser that shows a page as it is, driven over the DevTools protocol's pipe: real mouse and
//! keys, any width, dark or printed, with everything that it logs or asks for on record.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The browser program: `IDIOLECT_BROWSER`, or a Chromium on the PATH.
fn program() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("IDIOLECT_BROWSER") {
        return Some(PathBuf::from(named));
    }
    let names = [
        "chromium",
        "chromium-browser",
        "google-chrome",
        "google-chrome-stable",
    ];
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .flat_map(|dir| names.map(|name| dir.join(name)))
        .find(|file| file.is_file())
}

/// A started browser, or `None` after stating past the capture of a test's output that there is
/// none; with `IDIOLECT_REQUIRE_BROWSER=1` that is a failure.
pub(crate) fn start_or_say(test: &str) -> Option<Browser> {
    let found = program();
    if found.is_none() {
        assert!(
            std::env::var_os("IDIOLECT_REQUIRE_BROWSER").is_none_or(|v| v != "1"),
            "IDIOLECT_REQUIRE_BROWSER=1, but no chromium is on the PATH"
        );
        let _ = writeln!(
            std::io::stderr(),
            "SKIPPED {test}: no chromium on the PATH; install it or set IDIOLECT_BROWSER"
        );
    }
    Some(Browser::start(&found?))
}

/// A running browser with one page.
pub(crate) struct Browser {
    process: Child,
    to: File,
    from: BufReader<File>,
    calls: u64,
    session: Option<String>,
    events: Vec<Value>,
    dir: TempDir,
}

impl Browser {
    fn start(program: &Path) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pipe = |name: &str| {
            let path = dir.path().join(name);
            let made = Command::new("mkfifo").arg(&path).status().unwrap();
            assert!(made.success(), "mkfifo {}", path.display());
            path
        };
        let (to, from) = (pipe("to"), pipe("from"));
        let process = Command::new("sh")
            .args([
                "-c",
                r#"to=$1 from=$2; shift 2; exec "$@" 3<"$to" 4>"$from""#,
                "sh",
            ])
            .args([&to, &from])
            .arg(program)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-dev-shm-usage",
                "--hide-scrollbars",
                "--remote-debugging-pipe",
            ])
            .arg(format!(
                "--user-data-dir={}",
                dir.path().join("profile").display()
            ))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let mut browser = Self {
            process,
            to: File::options().write(true).open(to).unwrap(),
            from: BufReader::new(File::open(from).unwrap()),
            calls: 0,
            session: None,
            events: Vec::new(),
            dir,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attached = browser.call(
            "Target.attachToTarget",
            json!({ "targetId": target["targetId"], "flatten": true }),
        );
        browser.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}));
        }
        let saved = browser.dir.path().join("saved");
        let behaviour = json!({ "behavior": "allow", "downloadPath": saved });
        browser.call("Page.setDownloadBehavior", behaviour);
        browser
    }

    /// Calls a method of the protocol.
    pub(crate) fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.calls += 1;
        let mut message = json!({ "id": self.calls, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = json!(session);
        }
        self.to
            .write_all(format!("{message}\0").as_bytes())
            .unwrap();
        loop {
            let message = self.receive();
            if message["id"] == self.calls {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
            self.events.push(message);
        }
    }

    fn receive(&mut self) -> Value {
        let mut bytes = Vec::new();
        self.from.read_until(0, &mut bytes).unwrap();
        assert_eq!(bytes.pop(), Some(0), "the browser ended");
        serde_json::from_slice(&bytes).unwrap()
    }

    /// Waits for an event.
    fn wait(&mut self, method: &str) {
        while !self.events.iter().any(|event| event["method"] == method) {
            let message = self.receive();
            self.events.push(message);
        }
    }

    /// Loads a page out of its file, as a user would, at a width of CSS pixels.
    pub(crate) fn open(&mut self, page: &str, width: usize) {
        let file = self.dir.path().join("report.html");
        std::fs::write(&file, page).unwrap();
        self.open_address(&format!("file://{}", file.display()), width);
    }

    /// Loads the page at an address.
    pub(crate) fn open_address(&mut self, address: &str, width: usize) {
        self.width(width);
        self.events.clear();
        self.call("Page.navigate", json!({ "url": address }));
        self.wait("Page.loadEventFired");
    }

    /// Sets the width of the page.
    pub(crate) fn width(&mut self, width: usize) {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false }),
        );
    }

    /// Emulates `screen` or `print`, light or dark.
    pub(crate) fn media(&mut self, media: &str, scheme: &str) {
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "media": media, "features": features }),
        );
    }

    /// Evaluates JavaScript in the page.
    pub(crate) fn eval(&mut self, expression: &str) -> Value {
        let result = self.call(
            "Runtime.evaluate",
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true, "userGesture": true }),
        );
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    /// Evaluates JavaScript that gives a text.
    pub(crate) fn text(&mut self, expression: &str) -> String {
        let value = self.eval(expression);
        value
            .as_str()
            .unwrap_or_else(|| panic!("{expression} gives {value}, no text"))
            .to_owned()
    }

    /// The text of an element.
    pub(crate) fn text_of(&mut self, selector: &str) -> String {
        self.text(&format!(
            "document.querySelector({}).textContent",
            json!(selector)
        ))
    }

    /// Points the mouse at the middle of what an expression gives and clicks there.
    pub(crate) fn click(&mut self, element: &str) {
        let (x, y) = self.point(element);
        for kind in ["mousePressed", "mouseReleased"] {
            self.call(
                "Input.dispatchMouseEvent",
                json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 }),
            );
        }
    }

    /// Points the mouse at the middle of what an expression gives.
    pub(crate) fn point(&mut self, element: &str) -> (f64, f64) {
        let at = self.eval(&format!(
            "(() => {{ const e = {element}; e.scrollIntoView({{ block: 'center' }}); const b = e.getBoundingClientRect();
              const x = b.left + b.width / 2, y = b.top + b.height / 2; const hit = document.elementFromPoint(x, y);
              if (!hit || !(e.contains(hit) || hit.contains(e))) throw new Error('covered by ' + hit?.outerHTML.slice(0, 200)); return [x, y]; }})()"
        ));
        let (x, y) = (at[0].as_f64().unwrap(), at[1].as_f64().unwrap());
        self.call(
            "Input.dispatchMouseEvent",
            json!({ "type": "mouseMoved", "x": x, "y": y }),
        );
        (x, y)
    }

    /// Presses a key.
    pub(crate) fn key(&mut self, key: &str) {
        let text = match key {
            "Enter" => "\r",
            " " => " ",
            _ => "",
        };
        let code = match key {
            "Enter" => 13,
            " " => 32,
            "Tab" => 9,
            "ArrowRight" => 39,
            "ArrowLeft" => 37,
            "Escape" => 27,
            _ => 0,
        };
        for kind in ["keyDown", "keyUp"] {
            let text = if kind == "keyDown" { text } else { "" };
            self.call(
                "Input.dispatchKeyEvent",
                json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code, "text": text }),
            );
        }
    }

    /// Types text into what has the focus.
    pub(crate) fn write(&mut self, text: &str) {
        self.call("Input.insertText", json!({ "text": text }));
    }

    /// A file that the page saved, once it is whole.
    pub(crate) fn saved(&mut self, name: &str) -> Vec<u8> {
        loop {
            let done = self.events.iter().any(|event| {
                event["method"] == "Page.downloadProgress"
                    && event["params"]["state"] == "completed"
            });
            if done {
                break;
            }
            let message = self.receive();
            self.events.push(message);
        }
        self.events
            .retain(|event| event["method"] != "Page.downloadProgress");
        let mut bytes = Vec::new();
        let path = self.dir.path().join("saved").join(name);
        File::open(&path)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()))
            .read_to_end(&mut bytes)
            .unwrap();
        bytes
    }

    /// A picture of the whole page as PNG.
    pub(crate) fn picture(&mut self, whole: bool) -> Vec<u8> {
        use base64::Engine as _;
        let shot = self.call(
            "Page.captureScreenshot",
            json!({ "captureBeyondViewport": whole }),
        );
        let data = shot["data"].as_str().unwrap();
        base64::engine::general_purpose::STANDARD
            .decode(data)
            .unwrap()
    }

    /// Everything that went wrong since the page was opened: exceptions, errors on the console
    /// (a breach of the page's policy is one), and requests beyond the file.
    pub(crate) fn wrongs(&mut self) -> Vec<String> {
        std::thread::sleep(std::time::Duration::from_millis(50));
        self.call("Runtime.evaluate", json!({ "expression": "0" }));
        let wrong = |event: &Value| match event["method"].as_str()? {
            "Runtime.exceptionThrown" => Some(event["params"].to_string()),
            "Runtime.consoleAPICalled" | "Log.entryAdded" => Some(event["params"].to_string()),
            "Network.requestWillBeSent" => {
                let address = event["params"]["request"]["url"].as_str()?;
                let inside = address.starts_with("file://") && address.ends_with(".html");
                let made_here = address.starts_with("data:") || address.starts_with("blob:");
                (!inside && !made_here).then(|| address.to_owned())
            }
            _ => None,
        };
        self.events.iter().filter_map(wrong).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self
            .to
            .write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        let _ = self.process.wait();
    }
}
