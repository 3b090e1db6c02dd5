//! The page in a real browser, as it is written: how it looks at any width, what can be done with it,
//! and that nothing of it reaches out. Without a browser each test states loudly that it was skipped.

use std::path::Path;

use idiolect_report::RunView;
use serde_json::{Value, json};

use crate::chromium::{Browser, start_or_say};
use crate::{asked, sample};

/// What a page measures of itself: whatever reaches beyond the window or beyond its drawing.
const PROBE: &str = r#"(() => {
  const root = document.documentElement;
  const inside = e => { for (let p = e.parentElement; p; p = p.parentElement) if (getComputedStyle(p).overflowX === 'auto') return true; return false; };
  const wide = [...document.body.querySelectorAll('*')]
    .filter(e => e.getBoundingClientRect().right > root.clientWidth + 1 && !inside(e) && !e.closest('.unseen'))
    .map(e => e.tagName + '.' + (e.getAttribute('class') || ''));
  const drawn = [...document.querySelectorAll('figure svg')].filter(e => e.getBoundingClientRect().width > 0);
  const out = drawn.flatMap(svg => [...svg.querySelectorAll('text')]).filter(t => {
    const box = t.getBoundingClientRect(), svg = t.closest('svg').getBoundingClientRect();
    return box.width > 0 && (box.left < svg.left - 1 || box.right > svg.right + 1 || box.top < svg.top - 1 || box.bottom > svg.bottom + 1);
  }).map(t => t.textContent);
  const over = drawn.flatMap(svg => {
    const boxes = [...svg.querySelectorAll('text.number, text.small, text.name')].filter(t => t.textContent).map(t => [t.textContent, t.getBoundingClientRect()]);
    return boxes.flatMap(([a, x], i) => boxes.slice(i + 1)
      .filter(([, y]) => Math.min(x.right, y.right) - Math.max(x.left, y.left) > 2 && Math.min(x.bottom, y.bottom) - Math.max(x.top, y.top) > 6)
      .map(([b]) => a + ' on ' + b));
  });
  const scrolled = drawn.filter(inside).length;
  const smallest = Math.min(...drawn.flatMap(svg => [...svg.querySelectorAll('text')]).map(t => parseFloat(getComputedStyle(t).fontSize) * t.closest('svg').getBoundingClientRect().width / t.closest('svg').viewBox.baseVal.width));
  return { overflow: root.scrollWidth - root.clientWidth, wide, out, over, scrolled, smallest,
    width: root.clientWidth, figures: drawn.length, tables: document.querySelectorAll('figure.table').length,
    scripts: document.scripts.length, images: document.images.length, background: getComputedStyle(root).backgroundColor };
})()"#;

fn opened(test: &str, view: &RunView, width: usize) -> Option<Browser> {
    let mut browser = start_or_say(test)?;
    browser.open(&idiolect_report::html(view), width);
    Some(browser)
}

fn assert_whole(probe: &Value, width: usize) {
    assert_eq!(probe["width"], width, "{probe}");
    assert_eq!(probe["overflow"], 0, "at {width}: {probe}");
    assert_eq!(probe["scrolled"], 0, "a figure scrolls at {width}: {probe}");
    for empty in ["wide", "out"] {
        assert_eq!(probe[empty], json!([]), "`{empty}` at {width}: {probe}");
    }
}

#[test]
fn a_browser_shows_the_whole_page_at_every_width() {
    let test = "a_browser_shows_the_whole_page_at_every_width";
    let Some(mut browser) = start_or_say(test) else {
        return;
    };
    let pages: [(_, usize, &[&str]); 4] = [
        (
            asked::view(200, 30),
            4,
            &[".171", "+.078", "9f2c4e11a07d5b3396c1d0e5f7a8b2c4"],
        ),
        (sample::miniature(1, 3), 4, &[".171"]),
        (sample::miniature(3, 3), 4, &["3 replicates × 3 seeds"]),
        (sample::near_zero(), 3, &["3.020", "3.910"]),
    ];
    for (view, figures, expected) in pages {
        let page = idiolect_report::html(&view);
        for width in [360, 500, 640, 768, 1200, 1920] {
            browser.open(&page, width);
            let probe = browser.eval(PROBE);
            assert_whole(&probe, width);
            assert_eq!(
                probe["over"],
                json!([]),
                "texts lie on each other at {width}"
            );
            assert!(probe["smallest"].as_f64().unwrap() > 8.5, "{probe}");
            assert_eq!(probe["figures"], figures);
            assert_eq!(browser.wrongs(), [""; 0]);
        }
        let text = browser.text("document.body.innerText");
        assert!(text.contains("What cannot"), "the page is cut short");
        for number in expected {
            assert!(text.contains(number), "no `{number}` on the page");
        }
    }
}

#[test]
fn a_browser_follows_the_colour_scheme_and_prints_the_page_without_its_controls() {
    let test = "a_browser_follows_the_colour_scheme_and_prints_the_page_without_its_controls";
    let Some(mut browser) = opened(test, &asked::view(50, 5), 800) else {
        return;
    };
    let background = |browser: &mut Browser| browser.eval(PROBE)["background"].clone();
    browser.media("screen", "light");
    assert_eq!(background(&mut browser), "rgb(255, 255, 255)");
    browser.media("screen", "dark");
    assert_eq!(background(&mut browser), "rgb(21, 23, 26)");
    browser.media("print", "dark");
    assert_eq!(background(&mut browser), "rgb(255, 255, 255)");
    let seen = |browser: &mut Browser, selector: &str| {
        let count = "filter(e => e.getBoundingClientRect().height > 0).length";
        browser.eval(&format!(
            "[...document.querySelectorAll('{selector}')].{count}"
        ))
    };
    assert_eq!(
        seen(
            &mut browser,
            "button:not(.sort, .open), input, select, .tool, nav, #answers"
        ),
        0
    );
    assert_eq!(seen(&mut browser, ".example"), 3);
    let paper = browser.call("Page.printToPDF", json!({}));
    assert!(paper["data"].as_str().unwrap().len() > 50_000);
    browser.media("screen", "light");
    assert_eq!(seen(&mut browser, ".example"), 0);
    assert_eq!(browser.wrongs(), [""; 0]);
}

#[test]
fn without_script_the_page_shows_all_numbers_and_no_controls() {
    let test = "without_script_the_page_shows_all_numbers_and_no_controls";
    let Some(mut browser) = start_or_say(test) else {
        return;
    };
    browser.call(
        "Emulation.setScriptExecutionDisabled",
        json!({ "value": true }),
    );
    browser.open(&idiolect_report::html(&asked::view(50, 5)), 800);
    let text = browser.text("document.body.innerText");
    for shown in ["What each arm taught", ".171", "3 * 7", "verdict: wrong"] {
        assert!(text.contains(shown), "no {shown}");
    }
    assert!(!text.contains("problem by problem") && !text.contains("Show more"));
    assert_eq!(browser.wrongs(), [""; 0]);
}

/// JavaScript: the texts of all places that a selector names, without what the page adds to them.
const OWN_TEXT: &str = "place => [...document.querySelectorAll(place)].map(e => { const copy = e.cloneNode(true); copy.querySelectorAll('rt, .mark').forEach(added => added.remove()); return copy.textContent; }).join(' ')";

/// JavaScript: chooses an option of a control; opens everything, and waits until it is filled.
const OPENED: &str = "function choose(id, value) { const s = document.getElementById(id); s.value = value; s.dispatchEvent(new Event('change')); } async function opened() { document.querySelectorAll('details').forEach(d => d.open = true); await new Promise(done => setTimeout(done, 100)); }";

/// Asserts that the hostile text of the page is there, as text.
fn assert_foreign(text: &str, place: &str) {
    for shown in [
        "<script>alert(1)</script>",
        "<img src=x",
        "⟨U+202E⟩",
        "␛[31m",
    ] {
        assert!(text.contains(shown), "no {shown} in {place}");
    }
    for hidden in ['\u{1b}', '\u{202e}', '\u{200b}', '\0'] {
        assert!(!text.contains(hidden), "{hidden:?} in {place}");
    }
}

#[test]
fn a_browser_runs_nothing_that_foreign_text_brings() {
    let test = "a_browser_runs_nothing_that_foreign_text_brings";
    let Some(mut browser) = opened(test, &crate::page::hostile(), 800) else {
        return;
    };
    // Every arm's rows, opened: an item is filled after the event that opens it.
    let traces = browser.text(&format!(
        "(async () => {{ let found = ''; for (const of of [...document.getElementById('rows-arm').options]) {{ choose('rows-arm', of.value); await opened(); found += ({OWN_TEXT})('#rows-tool .trace'); }} return found; {OPENED} }})()"
    ));
    assert_foreign(&traces, "#rows-tool .trace");
    browser.eval("document.querySelectorAll('[data-cell=neither]').forEach(b => b.click())");
    browser.eval(&format!("(async () => {{ await opened(); {OPENED} }})()"));
    for width in [360, 800] {
        browser.width(width);
        let probe = browser.eval(PROBE);
        assert_eq!(probe["scripts"], 2, "the data and the page's own: {probe}");
        assert_eq!(probe["images"], 0, "{probe}");
        assert_whole(&probe, width);
    }
    for place in ["#answers-tool", "#rows-tool", "#answers-tool .answer"] {
        let text = browser.text(&format!("({OWN_TEXT})('{place}')"));
        assert_foreign(&text, place);
    }
    assert!(
        browser.text_of("body").contains("more bytes"),
        "the 100 kB line is not cut"
    );
    assert_eq!(browser.wrongs(), [""; 0]);
}

#[test]
fn tables_sort_filter_and_copy() {
    let Some(mut browser) = opened("tables_sort_filter_and_copy", &asked::view(50, 5), 1200) else {
        return;
    };
    let firsts = "[...document.querySelectorAll('#arms figure.table')[0].querySelectorAll('tbody tr')].filter(r => !r.hidden).map(r => r.cells[0].textContent.split(' ')[0])";
    let head = |n: usize| {
        format!(
            "document.querySelectorAll('#arms figure.table')[0].querySelectorAll('thead th')[{n}].querySelector('button')"
        )
    };
    let as_drawn = browser.eval(firsts);
    assert_eq!(as_drawn[0], "G");
    // Closeness: largest first, then smallest; what has no number stays last.
    browser.click(&head(1));
    let far = browser.eval(firsts);
    assert_eq!((&far[0], &far[10]), (&json!("HD"), &json!("base")));
    browser.click(&head(1));
    let near = browser.eval(firsts);
    assert_eq!(near[10], "base", "{near}");
    assert!(near[0] == "G" || near[0] == "P", "{near}");
    let sorted = browser.text("document.querySelectorAll('#arms figure.table')[0].querySelectorAll('thead th')[1].getAttribute('aria-sort')");
    assert_eq!(sorted, "ascending");
    browser.click(&head(1));
    assert_eq!(browser.eval(firsts), as_drawn);
    // By keyboard and by name.
    browser.eval(&format!("{}.focus()", head(0)));
    browser.key("Enter");
    assert_eq!(browser.eval(firsts)[0], "base");
    browser.click("document.querySelectorAll('#arms figure.table')[0].querySelector('input')");
    browser.write("flawed");
    assert_eq!(browser.eval(firsts), json!(["F25", "F50", "F75", "F100"]));
    let count = browser.text("document.querySelectorAll('#arms figure.table')[0].querySelector('.tools [role=status]').textContent");
    assert_eq!(count, "4 of 11");
    browser.eval("navigator.clipboard.writeText = text => { window.copied = text; return Promise.resolve(); }");
    browser
        .click("document.querySelectorAll('#arms figure.table')[0].querySelector('.tools button')");
    let copied = browser.text("window.copied");
    let lines: Vec<&str> = copied.lines().collect();
    assert_eq!(lines.len(), 5, "{copied}");
    assert!(
        lines[0].starts_with("arm,NLL per token,greedy,[95\u{202f}%],"),
        "{copied}"
    );
    assert!(
        lines[1].starts_with("\"F25 (teacher, 25 % of steps flawed)\",1.07,.117,\"["),
        "{copied}"
    );
    assert_eq!(browser.wrongs(), [""; 0]);
}

#[test]
fn figures_name_their_values_and_are_saved() {
    let test = "figures_name_their_values_and_are_saved";
    let Some(mut browser) = opened(test, &asked::view(50, 5), 1200) else {
        return;
    };
    let hit = "[...document.querySelectorAll('#figure-accuracy svg')].find(s => s.getBoundingClientRect().width > 0).querySelectorAll('.hit')[1]";
    browser.point(hit);
    let tip = browser.text_of(".tip");
    assert!(
        tip.starts_with("P (human, paraphrased): .166 [") && tip.contains("; seed 2 ."),
        "{tip}"
    );
    assert_eq!(browser.eval("document.querySelector('.tip').hidden"), false);
    browser.point("document.querySelector('h1')");
    assert_eq!(browser.eval("document.querySelector('.tip').hidden"), true);
    // In the margin, where no figure comes under the pointer when the focus scrolls the page.
    browser.call(
        "Input.dispatchMouseEvent",
        json!({ "type": "mouseMoved", "x": 1, "y": 1 }),
    );
    // By keyboard: the arrows go through the values.
    browser.eval("document.querySelector('#figure-dose .tools button').focus()");
    browser.key("ArrowRight");
    browser.key("ArrowRight");
    let tip = browser.text_of(".tip");
    assert!(tip.starts_with("F25 (25 percent): .117"), "{tip}");
    browser.key("Escape");
    assert_eq!(browser.eval("document.querySelector('.tip').hidden"), true);
    for figure in ["accuracy", "closeness", "dose", "training"] {
        let tools = format!("document.querySelectorAll('#figure-{figure} .tools button')");
        browser.click(&format!("{tools}[1]"));
        let svg = String::from_utf8(browser.saved(&format!("{figure}.svg"))).unwrap();
        assert!(
            svg.starts_with("<svg") && svg.contains("rgb(29, 90, 150)"),
            "{figure}"
        );
        assert!(
            svg.contains("width=\"640\"") && !svg.contains("class=\"hit\""),
            "{figure}"
        );
        browser.click(&format!("{tools}[2]"));
        let png = browser.saved(&format!("{figure}.png"));
        assert!(png.starts_with(b"\x89PNG"), "{figure}");
        let width = u32::from_be_bytes(png[16..20].try_into().unwrap());
        assert_eq!(width, 1920, "{figure}");
        assert!(
            png.len() > 20_000,
            "{figure}: {} bytes are a blank picture",
            png.len()
        );
    }
    assert_eq!(browser.wrongs(), [""; 0]);
}

#[test]
fn answers_of_two_arms_lead_to_every_arms_answer() {
    let test = "answers_of_two_arms_lead_to_every_arms_answer";
    let view = asked::view(600, 5);
    let Some(mut browser) = opened(test, &view, 1200) else {
        return;
    };
    let right = |arm: &str, seed: u64| -> Vec<bool> {
        let of = |c: &&idiolect_report::view::Checkpoint| c.arm == arm && c.seed == seed;
        let run = view.answers[0].checkpoints.iter().find(of).unwrap();
        let verdicts = run.rows.iter().map(|row| row.verdict);
        verdicts
            .map(|v| v == idiolect_core::record::Verdict::Correct)
            .collect()
    };
    let counted = |a: &[bool], b: &[bool]| {
        let cell = |x: bool, y: bool| {
            a.iter()
                .zip(b)
                .filter(|(p, q)| **p == x && **q == y)
                .count()
        };
        [
            cell(true, true),
            cell(true, false),
            cell(false, true),
            cell(false, false),
        ]
    };
    let shown = |browser: &mut Browser| {
        let cells = browser.eval("['both', 'a', 'b', 'neither'].map(c => Number(document.querySelector(`[data-cell=${c}]`).textContent))");
        [0, 1, 2, 3].map(|i| cells[i].as_u64().unwrap() as usize)
    };
    // The most accurate arm against the untrained student.
    let of = counted(&right("G", 0), &right("base", 0));
    assert_eq!(shown(&mut browser), of);
    let found = browser.text_of("#answers-found");
    assert_eq!(
        found,
        format!(
            "{} problems on which one of the two arms is right.",
            of[1] + of[2]
        )
    );
    // Another pair, another seed; the base has one seed only.
    browser.eval("(() => { const set = (id, v) => { const s = document.getElementById(id); s.value = [...s.options].find(o => o.textContent.startsWith(v)).value; s.dispatchEvent(new Event('change')); }; set('answers-a', 'W ('); set('answers-b', 'H ('); set('answers-run', 'seed 2'); })()");
    assert_eq!(shown(&mut browser), counted(&right("W", 2), &right("H", 2)));
    browser.click("document.querySelector('[data-cell=b]')");
    assert_eq!(
        browser.text("document.querySelector('[data-cell=b]').getAttribute('aria-pressed')"),
        "true"
    );
    assert!(
        browser
            .text_of("#answers-found")
            .contains("that only H gets right")
    );
    let items = browser.eval("document.querySelectorAll('#answers-items details').length");
    assert!(items.as_u64().unwrap() <= 20, "{items}");
    browser.click("document.querySelector('#answers-items summary')");
    let table = browser.text_of("#answers-items details[open] table");
    for expected in [
        "W (teacher, wrong answer) seed 2",
        "base (untrained student)",
        "equals 23, not 19",
        "3 * 7 + 2",
        "F100",
    ] {
        assert!(table.contains(expected), "no {expected} in {table}");
    }
    let rows =
        browser.eval("document.querySelectorAll('#answers-items details[open] tbody tr').length");
    assert_eq!(rows, 31);
    let chosen = browser.eval("[...document.querySelectorAll('#answers-items details[open] tr.chosen th')].map(e => e.textContent)");
    assert_eq!(
        chosen,
        json!(["W (teacher, wrong answer) seed 2", "H (human) seed 2"])
    );
    // The search looks into ids, questions and answers.
    browser.click("document.querySelector('[data-cell=neither]')");
    browser.click("document.getElementById('answers-find')");
    browser.write("nums 17 7");
    let found = browser.text_of("#answers-found");
    assert!(
        found.starts_with("1 problem that neither gets right, with this text")
            || found.starts_with("0 problems that neither"),
        "{found}"
    );
    assert_eq!(browser.wrongs(), [""; 0]);
}

#[test]
fn rows_of_an_arm_open_from_its_name_and_lie_beside_each_other() {
    let test = "rows_of_an_arm_open_from_its_name_and_lie_beside_each_other";
    let Some(mut browser) = opened(test, &asked::view(50, 60), 1200) else {
        return;
    };
    browser.click(
        "[...document.querySelectorAll('#arms .open')].find(b => b.textContent.startsWith('W '))",
    );
    assert_eq!(
        browser.text_of("#rows-found"),
        "60 rows of arm W (teacher, wrong answer)."
    );
    assert_eq!(browser.text("document.activeElement.id"), "rows-arm");
    assert!(
        browser
            .text_of("#rows-note")
            .contains("180 of 10\u{202f}000 rows")
    );
    // By keyboard: the first row.
    browser.eval("document.querySelector('#rows-items summary').focus()");
    browser.key("Enter");
    browser.eval("new Promise(done => setTimeout(done, 50))");
    let panes = browser.eval("[...document.querySelectorAll('#rows-items details[open] .pane h3')].map(e => e.textContent)");
    assert_eq!(
        panes,
        json!([
            "Arm W (teacher, wrong answer)",
            "Arm G (teacher, correct answer)"
        ])
    );
    let open = browser.text_of("#rows-items details[open]");
    for expected in [
        "nums 3 7 2 -> 19 |",
        "evaluates to 23, not 19",
        "verdict: wrong",
        "nats/token",
        "end 0.0",
    ] {
        assert!(open.contains(expected), "no {expected} in {open}");
    }
    let marks = "(pane => [pane.querySelectorAll('.step.valid').length, pane.querySelectorAll('.step.invalid').length, [...pane.querySelectorAll('.masked')].map(e => e.firstChild.firstChild?.data ?? e.textContent).join('')])(document.querySelector('.pane'))";
    assert_eq!(browser.eval(marks), json!([1, 1, "3 * 7 = 21"]));
    assert_eq!(
        browser.text("document.querySelector('.pane .t').title"),
        "0.02 nats, rank 1, not trained on"
    );
    // Another arm beside it.
    browser.eval("(s => { s.value = [...s.options].find(o => o.textContent.startsWith('H ')).value; s.dispatchEvent(new Event('change')); })(document.querySelector('#rows-items details[open] select'))");
    assert!(
        browser
            .text_of("#rows-items details[open] .pane:last-child")
            .contains("twenty")
    );
    browser.click("document.getElementById('rows-more')");
    assert_eq!(
        browser.eval("document.querySelectorAll('#rows-items > details').length"),
        40
    );
    browser.eval("(s => { s.value = 'far'; s.dispatchEvent(new Event('change')); })(document.getElementById('rows-order'))");
    browser.click("document.getElementById('rows-find')");
    browser.write("mini/00007");
    assert_eq!(
        browser.text_of("#rows-found"),
        "1 of 60 rows of arm W (teacher, wrong answer)."
    );
    assert_eq!(browser.wrongs(), [""; 0]);
}

#[test]
fn one_trace_lies_beside_itself_under_another_student() {
    let test = "one_trace_lies_beside_itself_under_another_student";
    let Some(mut browser) = start_or_say(test) else {
        return;
    };
    let mut other = asked::view(50, 5);
    for token in other.examples.iter_mut().flat_map(|row| &mut row.tokens) {
        token.surprisal_nats += 1.0;
    }
    let students = [
        ("small".to_owned(), asked::view(50, 5)),
        ("large".to_owned(), other),
    ];
    browser.open(&idiolect_report::students_html(&students), 1200);
    browser.click("document.querySelector('#rows-items summary')");
    browser.eval("new Promise(done => setTimeout(done, 50))");
    let panes = browser.eval("[...document.querySelectorAll('#rows-items details[open] .pane h3')].map(e => e.textContent)");
    assert_eq!(
        panes,
        json!([
            "Arm G (teacher, correct answer) · small",
            "Arm G (teacher, correct answer) · large"
        ])
    );
    let sums = browser.eval("[...document.querySelectorAll('#rows-items details[open] .pane .about')].map(e => e.textContent.match(/([0-9.]+) nats.token/)[1])");
    let sums: Vec<f64> = sums
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s.as_str().unwrap().parse().unwrap())
        .collect();
    assert!((sums[1] - sums[0] - 1.0).abs() < 0.02, "{sums:?}");
    assert_whole(&browser.eval(PROBE), 1200);
    assert_eq!(browser.wrongs(), [""; 0]);
}

/// The rules of axe-core, where `IDIOLECT_AXE` names its script: `bench/report_a11y.sh` does.
#[test]
fn axe_finds_nothing_serious() {
    let test = "axe_finds_nothing_serious";
    let Some(axe) = std::env::var_os("IDIOLECT_AXE") else {
        eprintln!(
            "SKIPPED {test}: IDIOLECT_AXE names no axe.min.js; bench/report_a11y.sh gets one"
        );
        return;
    };
    let axe = std::fs::read_to_string(&axe).unwrap();
    let Some(mut browser) = start_or_say(test) else {
        return;
    };
    for view in [
        asked::view(100, 10),
        sample::near_zero(),
        crate::page::hostile(),
    ] {
        let page = idiolect_report::html(&view);
        for (width, scheme) in [
            (360, "light"),
            (360, "dark"),
            (1200, "light"),
            (1200, "dark"),
        ] {
            browser.media("screen", scheme);
            browser.open(&page, width);
            browser.eval("document.querySelectorAll('.items').forEach(list => [...list.querySelectorAll('details')].slice(0, 2).forEach(d => d.open = true))");
            browser.eval("new Promise(done => setTimeout(done, 50))");
            browser.eval(&axe);
            let found = browser.eval("axe.run().then(found => found.violations.map(v => [v.impact, v.id, v.nodes.slice(0, 3).map(n => n.html.slice(0, 200) + ' ' + n.failureSummary)]))");
            let serious: Vec<&Value> = found
                .as_array()
                .unwrap()
                .iter()
                .filter(|v| v[0] == "serious" || v[0] == "critical")
                .collect();
            assert!(serious.is_empty(), "{width} {scheme}: {}", json!(serious));
            println!("{width} {scheme}: {found}");
        }
    }
}

/// Leaves the sample pages, and pictures of them where there is a browser, for a person to look at.
#[test]
fn sample_pages_are_written_for_looking_at() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let pages = [
        ("miniature", sample::miniature(1, 3)),
        ("replicates", sample::miniature(3, 3)),
        ("near-zero", sample::near_zero()),
        ("hostile", crate::page::hostile()),
        ("asked", asked::view(600, 60)),
    ];
    for (name, view) in &pages {
        let page = idiolect_report::html(view);
        std::fs::write(dir.join(format!("{name}.html")), &page).unwrap();
        std::fs::write(
            dir.join(format!("{name}.md")),
            idiolect_report::markdown(view),
        )
        .unwrap();
        assert!(page.len() > 10_000);
    }
    let Some(mut browser) = start_or_say("sample_pages_are_written_for_looking_at") else {
        return;
    };
    for (width, scheme) in [(360, "light"), (768, "dark"), (1920, "light")] {
        browser.media("screen", scheme);
        browser.open(&idiolect_report::html(&pages[4].1), width);
        browser.eval("document.querySelectorAll('.items').forEach(list => [...list.querySelectorAll('details')].slice(0, 2).forEach(d => d.open = true))");
        browser.eval("new Promise(done => setTimeout(done, 100))");
        let picture = browser.picture(true);
        assert!(picture.starts_with(b"\x89PNG"));
        std::fs::write(dir.join(format!("asked-{width}-{scheme}.png")), picture).unwrap();
    }
}
