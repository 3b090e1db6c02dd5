//! The page in a real browser. Without one the test states loudly that it was skipped; with
//! `IDIOLECT_REQUIRE_BROWSER=1` that is a failure. `IDIOLECT_BROWSER` names the program to use.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use idiolect_report::RunView;

use crate::sample;

/// Measures itself once loaded and writes what it finds into an attribute of the root element.
/// Added to the test's copy of the page only, with its policy lifted.
const PROBE: &str = r#"<script>
const errors = [];
addEventListener('error', e => errors.push(e.message));
addEventListener('load', () => {
  const root = document.documentElement;
  const inside = e => { for (let p = e.parentElement; p; p = p.parentElement) if (getComputedStyle(p).overflowX === 'auto') return true; return false; };
  const wide = [...document.body.querySelectorAll('*')]
    .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1 && !inside(e) && !e.closest('.unseen'))
    .map(e => e.tagName + '.' + (e.getAttribute('class') || ''));
  const out = [...document.querySelectorAll('svg text')].filter(t => {
    const box = t.getBoundingClientRect(), svg = t.closest('svg').getBoundingClientRect();
    return box.width > 0 && (box.left < svg.left - 1 || box.right > svg.right + 1 || box.top < svg.top - 1 || box.bottom > svg.bottom + 1);
  }).map(t => t.textContent);
  root.setAttribute('data-probe', JSON.stringify({ overflow: root.scrollWidth - root.clientWidth, wide, out, errors,
    width: root.clientWidth, figures: document.querySelectorAll('figure svg').length, tables: document.querySelectorAll('table').length,
    scripts: document.scripts.length, images: document.images.length, background: getComputedStyle(root).backgroundColor }));
});
</script>"#;

fn browser() -> Option<PathBuf> {
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

/// The browser, or `None` after stating so, past the capture of a test's output.
fn browser_or_say(test: &str) -> Option<PathBuf> {
    let found = browser();
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
    found
}

fn open(browser: &Path, dir: &Path, page: &Path, width: usize, more: &[&str]) -> Output {
    let profile = dir.join("profile");
    let output = Command::new(browser)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("--window-size={width},1200"))
        .args(more)
        .arg(format!("file://{}", page.display()))
        .output()
        .expect("the browser that was found starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// Writes a page beside a probed copy and gives the document after loading it.
fn document(
    browser: &Path,
    view: &RunView,
    width: usize,
    more: &[&str],
) -> (String, serde_json::Value) {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("report.html");
    let html = idiolect_report::html(view).replacen(
        "style-src 'unsafe-inline'",
        "style-src 'unsafe-inline'; script-src 'unsafe-inline'",
        1,
    );
    std::fs::write(
        &page,
        html.replacen("</head>", &format!("{PROBE}</head>"), 1),
    )
    .unwrap();
    let output = open(
        browser,
        dir.path(),
        &page,
        width,
        &[&["--dump-dom"], more].concat(),
    );
    let dom = String::from_utf8(output.stdout).unwrap();
    let probe = dom
        .split_once("data-probe=\"")
        .expect("the probe ran")
        .1
        .split_once('"')
        .unwrap()
        .0;
    let probe = serde_json::from_str(
        &probe
            .replace("&quot;", "\"")
            .replace("&amp;", "&")
            .replace("&lt;", "<")
            .replace("&gt;", ">"),
    )
    .unwrap();
    (dom, probe)
}

#[test]
fn a_browser_shows_the_whole_page_without_overflow_or_errors() {
    let Some(browser) = browser_or_say("a_browser_shows_the_whole_page_without_overflow_or_errors")
    else {
        return;
    };
    let pages: [(_, usize, &[usize], &[&str]); 3] = [
        (
            sample::miniature(1, 3),
            4,
            &[1200, 800, 500],
            &[".171", "+.078", "9f2c4e11a07d5b3396c1d0e5f7a8b2c4"],
        ),
        (
            sample::miniature(3, 3),
            4,
            &[800],
            &["3 replicates × 3 seeds"],
        ),
        (sample::near_zero(), 3, &[500], &["3.020", "3.910"]),
    ];
    for (view, figures, widths, expected) in pages {
        for width in widths {
            let (dom, probe) = document(&browser, &view, *width, &[]);
            assert_eq!(probe["width"], *width, "{probe}");
            assert_eq!(probe["overflow"], 0, "at {width}: {probe}");
            for empty in ["wide", "out", "errors"] {
                assert_eq!(
                    probe[empty],
                    serde_json::json!([]),
                    "`{empty}` at {width}: {probe}"
                );
            }
            assert_eq!(probe["figures"], figures);
            assert!(
                dom.contains("</footer>") && dom.contains("What cannot"),
                "the page is cut short"
            );
            for number in expected {
                assert!(dom.contains(number), "no `{number}` in the document");
            }
        }
    }
}

#[test]
fn a_browser_follows_the_colour_scheme() {
    let Some(browser) = browser_or_say("a_browser_follows_the_colour_scheme") else {
        return;
    };
    let background =
        |more: &[&str]| document(&browser, &sample::near_zero(), 800, more).1["background"].clone();
    assert_eq!(background(&[]), "rgb(255, 255, 255)");
    assert_eq!(
        background(&["--blink-settings=preferredColorScheme=0"]),
        "rgb(21, 23, 26)"
    );
}

#[test]
fn a_browser_runs_nothing_that_foreign_text_brings() {
    let Some(browser) = browser_or_say("a_browser_runs_nothing_that_foreign_text_brings") else {
        return;
    };
    let (_, probe) = document(&browser, &crate::page::hostile(), 800, &[]);
    assert_eq!(probe["scripts"], 1, "only the probe itself: {probe}");
    assert_eq!(probe["images"], 0, "{probe}");
    assert_eq!(probe["overflow"], 0, "{probe}");
}

/// Leaves the sample pages where a person can look at them.
#[test]
fn sample_pages_are_written_for_looking_at() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for (name, view) in [
        ("miniature", sample::miniature(1, 3)),
        ("replicates", sample::miniature(3, 3)),
        ("near-zero", sample::near_zero()),
        ("hostile", crate::page::hostile()),
    ] {
        std::fs::write(
            dir.join(format!("{name}.html")),
            idiolect_report::html(&view),
        )
        .unwrap();
        std::fs::write(
            dir.join(format!("{name}.md")),
            idiolect_report::markdown(&view),
        )
        .unwrap();
        assert!(dir.join(format!("{name}.html")).metadata().unwrap().len() > 10_000);
    }
}
