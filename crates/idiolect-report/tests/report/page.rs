//! What is on the page and in `report.md`.

use idiolect_core::comparison::{Comparison, Relation};
use idiolect_report::RunView;
use idiolect_report::view::{
    Answers, ArmDescription, Asked, Checkpoint, Example, ExampleToken, FactGroup, Fraction, thin,
};

use crate::{asked, sample};

const HOSTILE: &str = "<script>alert(1)</script>\"'&]]>--><img src=x onerror=alert(2)>\0\u{1b}[31m\u{202e}txt\u{200b}|`*_";

/// The page without its style, data and script, so that a search sees only what is shown without
/// script.
fn shown(view: &RunView) -> String {
    let html = idiolect_report::html(view);
    let (head, rest) = html.split_once("<style>").unwrap();
    let (body, scripts) = rest
        .split_once("</style>")
        .unwrap()
        .1
        .split_once("<script")
        .unwrap();
    assert_eq!(
        scripts.matches("<script").count(),
        1,
        "the data, then the script"
    );
    format!(
        "{head}{body}{}",
        scripts.rsplit_once("</script>").unwrap().1
    )
}

/// Fails with the first place where two texts differ, not with both texts.
fn same(a: &str, b: &str) {
    let at = a
        .bytes()
        .zip(b.bytes())
        .position(|(x, y)| x != y)
        .unwrap_or(a.len().min(b.len()));
    let near = |text: &str| {
        String::from_utf8_lossy(&text.as_bytes()[at.saturating_sub(80)..(at + 80).min(text.len())])
            .into_owned()
    };
    assert!(a == b, "differ at byte {at}:\n{}\n{}", near(a), near(b));
}

#[test]
fn equal_views_give_equal_bytes() {
    let first = sample::miniature(2, 3);
    let copy: RunView = serde_json::from_str(&serde_json::to_string(&first).unwrap()).unwrap();
    assert_eq!(copy, first);
    same(
        &idiolect_report::html(&copy),
        &idiolect_report::html(&first),
    );
    same(
        &idiolect_report::markdown(&copy),
        &idiolect_report::markdown(&first),
    );
    assert_eq!(idiolect_report::csv(&copy), idiolect_report::csv(&first));
}

#[test]
fn the_order_of_arms_in_the_input_does_not_show() {
    let first = sample::miniature(1, 3);
    let mut turned = first.clone();
    turned.comparison.arms.reverse();
    turned.arms.reverse();
    turned.comparison.differences.reverse();
    turned.curves.reverse();
    same(
        &idiolect_report::html(&first),
        &idiolect_report::html(&turned),
    );
    same(
        &idiolect_report::markdown(&first),
        &idiolect_report::markdown(&turned),
    );
}

#[test]
fn every_number_stands_on_page_and_in_markdown() {
    let view = sample::miniature(1, 3);
    let (page, text) = (shown(&view), idiolect_report::markdown(&view));
    for expected in [
        ".171",
        "+.078",
        "600 test problems",
        "3 seeds",
        "F100",
        ".307",
        "5.27",
        "10\u{202f}000",
        "9f2c4e11a07d5b3396c1d0e5f7a8b2c4",
        "14\u{202f}400",
        "countdown@1",
    ] {
        assert!(page.contains(expected), "no `{expected}` on the page");
        assert!(text.contains(expected), "no `{expected}` in report.md");
    }
}

#[test]
fn the_page_opens_with_the_answer_and_its_exceptions() {
    let page = shown(&sample::miniature(1, 3));
    let lead = page
        .split_once("<p class=\"lead\">")
        .unwrap()
        .1
        .split_once("</p>")
        .unwrap()
        .0;
    assert_eq!(
        lead,
        "This student learns most from G (teacher, correct answer): .171 [.145, .199] of 600 problems, against .063 before fine-tuning; \
         P (human, paraphrased) is not distinguished from it. \
         W (teacher, wrong answer), whose answers are all wrong, still gains +.078 [+.051, +.105] over the untrained student. \
         By planned contrasts: a right answer instead of a natural mistake +.012 [−.008, +.032], Holm-adjusted p\u{a0}=\u{a0}.24. \
         Closeness alone does not rank the arms: R (content control) is as near to the student as G and reaches .059."
    );
    for finding in [
        "W, R and F100 (teacher, 100 % of steps flawed) hold wrong answers only. Against the student before fine-tuning, after W it gains (+.078 [+.051, +.105], Holm-adjusted p\u{a0}&lt;\u{202f}.0001); after R it shows no clear change",
        "Fine-tuning on H (human) and F100 leaves the student less accurate than before.",
        "R is as near to the student as G (0.33 against 0.32 nats/token), yet reaches .059 where G reaches .171.",
        "Accuracy falls with every dose of injected flaws, from .171 (G) to .008 (F100, 100\u{202f}% of steps flawed).",
    ] {
        assert!(page.contains(finding), "no `{finding}`");
    }
}

#[test]
fn nothing_is_claimed_that_no_test_supports() {
    let mut view = sample::miniature(1, 3);
    for d in &mut view.comparison.differences {
        d.relation = Relation::Unresolved;
    }
    let others = view
        .comparison
        .arms
        .iter()
        .map(|arm| arm.arm.clone())
        .filter(|arm| arm != "G")
        .collect();
    view.comparison
        .best
        .as_mut()
        .unwrap()
        .not_distinguished_from = others;
    let page = shown(&view);
    assert!(page.contains(
        "No arm is shown to teach this student anything: G (teacher, correct answer), the most accurate, reaches .171"
    ));
    assert!(page.contains("Nothing about which arm teaches more"));
    assert!(!page.contains("still gains") && !page.contains("less accurate than before"));
    view.comparison.best.as_mut().unwrap().arm = "base".to_owned();
    assert!(shown(&view).contains("No arm makes this student more accurate than it was before fine-tuning (.063 [.046, .081] of 600 problems)."));
}

#[test]
fn what_the_real_statistics_say_reads_as_a_whole() {
    let rates = [
        ("base", 0.1, 0.0),
        ("H", 0.1, 5.0),
        ("G", 0.6, 0.3),
        ("W", 0.4, 0.6),
        ("F25", 0.3, 1.0),
        ("R", 0.1, 0.3),
    ];
    let page = shown(&RunView::new(
        "compared",
        sample::compared(&rates, 300, 1, 3),
    ));
    assert!(
        page.contains("This student learns most from G (teacher, correct answer): ."),
        "{}",
        &page[..3000]
    );
    assert!(page.contains("R (content control) is as near to the student as G"));
    assert!(page.contains(
        "G (teacher, correct answer), W (teacher, wrong answer) and F25 (teacher, 25 % of steps flawed) are more accurate than base (untrained student)"
    ));
    assert!(
        page.contains(
            "over 5 arms; positive: nearer arms taught more. Two-sided exact permutation p"
        )
    );
    let one = shown(&RunView::new(
        "compared",
        sample::compared(&rates, 300, 1, 1),
    ));
    assert!(one.contains("In this one run the student learns most from G"));
    assert!(one.contains("bootstrap intervals over problems alone"));
    assert!(one.contains("Arm H (likewise G, W, F25 and R) is one training run"));
    let replicates = shown(&RunView::new(
        "compared",
        sample::compared(&rates, 60, 2, 2),
    ));
    assert!(
        replicates.contains("bootstrap intervals over problems, fine-tuning seeds and replicates")
    );
    assert!(replicates.contains("2 replicates × 2 seeds"));
    let none: Vec<(&str, f64, f64)> = rates
        .iter()
        .map(|(arm, _, nats)| (*arm, 0.0, *nats))
        .collect();
    let zero = shown(&RunView::new(
        "compared",
        sample::compared(&none, 300, 1, 1),
    ));
    assert!(zero.contains(
        "Accuracy cannot rank the arms here: no answer to any of 300 problems is right."
    ));
    assert!(zero.contains(".000 [.000, .013]"));
    for page in [&page, &one, &replicates, &zero] {
        assert!(!page.contains("NaN") && !page.contains(">inf"));
    }
}

#[test]
fn one_seed_says_one_run() {
    let page = shown(&sample::miniature(1, 1));
    assert!(page.contains("In this one run the student learns most from G"));
    assert!(page.contains("read “this checkpoint”, not “this arm”"));
    assert!(!shown(&sample::miniature(1, 3)).contains("one run"));
}

#[test]
fn replicates_are_shown_apart() {
    let page = shown(&sample::miniature(3, 3));
    assert!(page.contains("3 replicates × 3 seeds"));
    assert!(page.contains("Greedy accuracy in each replicate"));
    assert!(page.contains("triangle replicate 3"));
    assert!(!shown(&sample::miniature(1, 3)).contains("in each replicate"));
}

#[test]
fn accuracies_near_zero_put_gold_solutions_first_and_say_what_cannot_be_concluded() {
    let page = shown(&sample::near_zero());
    assert!(page.contains(
        "Accuracy cannot rank the arms here: none answers more than .002 of 600 problems."
    ));
    assert!(
        page.contains(
            "best after H (human), with 3.020 nats per token, against 3.910 for the untrained student"
        ),
        "{page}"
    );
    assert!(page.contains("Nothing about which arm teaches more"));
    assert!(!page.contains("id=\"dose\""), "there are no flawed arms");
    assert!(
        page.contains(".000 [.000, .006]") && page.contains("such an interval also holds Wilson's"),
        "none right of 600 is not known to be none"
    );
    let place = |id: &str| page.find(&format!("<section id=\"{id}\"")).unwrap();
    assert!(place("gold") < place("closeness"));
}

#[test]
fn missing_pieces_leave_a_line_that_says_so() {
    let mut empty = sample::comparison(1, 3);
    empty.arms.clear();
    empty.differences.clear();
    empty.metrics.clear();
    empty.correlations.clear();
    empty.dose_curve.clear();
    empty.baselines.clear();
    empty.best = None;
    let view = RunView::new("", empty);
    let page = shown(&view);
    for line in [
        "it answers nothing",
        "no accuracy to show",
        "not scored under the untrained student",
        "no paired differences",
        "No training losses",
        "No example traces",
    ] {
        assert!(page.contains(line), "no line with `{line}`");
        assert!(
            idiolect_report::markdown(&view).contains(line),
            "no line with `{line}` in report.md"
        );
    }
    assert!(!page.contains("<svg") && !page.contains("NaN") && !page.contains("inf"));
    for (name, text) in idiolect_report::csv(&view) {
        assert_eq!(text.lines().count(), 1, "{name}");
    }
}

#[test]
fn values_that_are_not_numbers_are_not_shown_as_numbers() {
    let mut view = sample::miniature(1, 3);
    let arm = &mut view.comparison.arms[3];
    arm.greedy.as_mut().unwrap().mean = f64::NAN;
    arm.closeness.get_mut("nll_per_token").unwrap().value = f64::INFINITY;
    view.comparison.correlations[0].p_spearman = f64::NAN;
    view.curves[0].points[3].1 = f64::NAN;
    let page = shown(&view);
    assert!(!page.contains("NaN") && !page.contains(">inf"));
}

pub(crate) fn hostile() -> RunView {
    let h = || HOSTILE.to_owned();
    let mut view = sample::miniature(2, 3);
    view.title = h();
    view.setting = h();
    view.comparison.answer = h();
    rename(&mut view.comparison, "W", HOSTILE);
    view.comparison.baselines.push(h());
    view.comparison.metrics[0].definition = h();
    view.comparison.metrics[1].unit = h();
    view.comparison.metrics[2].source = h();
    view.comparison.warnings.push(h());
    view.comparison.differences[0].method = h();
    view.replicates = vec![h(), h()];
    view.arms.push(ArmDescription {
        name: h(),
        about: h(),
        ..ArmDescription::default()
    });
    view.curves[0].arm = h();
    view.dev[0].arm = h();
    view.coverage.push(Fraction {
        label: h(),
        n: 1,
        of: 0,
    });
    view.coverage_notes.push(h());
    view.limits.push(h());
    view.commands.push(h());
    view.provenance.push(FactGroup {
        title: h(),
        facts: vec![(h(), h())],
    });
    let token = |byte_start| ExampleToken {
        byte_start,
        surprisal_nats: 3.0,
        rank: Some(2),
    };
    view.examples.push(Example {
        arm: h(),
        problem_id: h(),
        prompt: h(),
        verdict: h(),
        reason: h(),
        text: h() + "\n```\n# heading",
        tokens: (0..HOSTILE.len() + 9).map(token).collect(),
        ..Example::default()
    });
    // A line of 100 kB, and the same in the trace that is shown first.
    view.examples[0].text = h() + &"x<b>".repeat(25_000);
    view.examples[1].problem_id = h();
    view.answers = vec![Answers {
        replicate: 0,
        problems: vec![Asked {
            id: h(),
            question: h(),
            gold: h(),
        }],
        checkpoints: ["base", HOSTILE].map(answered).to_vec(),
    }];
    view
}

/// A checkpoint whose one answer is hostile and long.
fn answered(arm: &str) -> Checkpoint {
    let row = serde_json::json!({
        "problem_id": HOSTILE, "sample": 0, "decoding": "greedy", "finish": "stop", "verdict": "wrong",
        "text": HOSTILE.to_owned() + &"y".repeat(100_000), "reason": HOSTILE, "extracted": HOSTILE, "n_tokens": 3,
    });
    Checkpoint {
        arm: arm.to_owned(),
        seed: 0,
        rows: vec![serde_json::from_value(row).unwrap()],
    }
}

fn rename(comparison: &mut Comparison, from: &str, to: &str) {
    comparison
        .arms
        .iter_mut()
        .filter(|arm| arm.arm == from)
        .for_each(|arm| arm.arm = to.to_owned());
    comparison
        .differences
        .iter_mut()
        .filter(|d| d.arm == from)
        .for_each(|d| d.arm = to.to_owned());
    comparison.correlations[0].nearest = to.to_owned();
    comparison.dose_curve[1].arm = to.to_owned();
    comparison
        .best
        .as_mut()
        .unwrap()
        .not_distinguished_from
        .push(to.to_owned());
}

#[test]
fn foreign_text_cannot_become_markup_or_hide() {
    let page = shown(&hostile());
    assert!(page.contains("&lt;script&gt;") && page.contains("␀") && page.contains("⟨U+202E⟩"));
    let text = idiolect_report::markdown(&hostile());
    for bad in ["<script", "<img", "\0", "\u{1b}", "\u{202e}", "\u{200b}"] {
        assert!(!page.contains(bad), "{bad:?} on the page");
        assert!(!outside_fences(&text).contains(bad), "{bad:?} in report.md");
    }
    assert!(!idiolect_report::arms_table(&hostile().comparison, None).contains('\u{1b}'));
}

/// Markdown outside fenced blocks, where HTML would be taken as such.
fn outside_fences(text: &str) -> String {
    let mut fence: Option<String> = None;
    let mut out = String::new();
    for line in text.lines() {
        let ticks: String = line.chars().take_while(|c| *c == '`').collect();
        match &fence {
            None if ticks.len() >= 3 => fence = Some(ticks),
            None => out += &format!("{line}\n"),
            Some(open) if ticks.len() >= open.len() && line.trim_end() == ticks => fence = None,
            Some(_) => {}
        }
    }
    assert!(fence.is_none(), "a fence stays open");
    out
}

#[test]
fn the_page_asks_for_nothing_outside_itself() {
    let page = idiolect_report::html(&asked::view(50, 5));
    for outside in [
        "<script src",
        "<link",
        "@import",
        "url(",
        "src=",
        "http-equiv=\"refresh\"",
    ] {
        assert!(!page.contains(outside), "`{outside}` on the page");
    }
    let addresses: Vec<&str> = page
        .match_indices("http")
        .map(|(i, _)| &page[i..(i + 30).min(page.len())])
        .collect();
    assert!(
        addresses
            .iter()
            .all(|a| a.starts_with("http-equiv") || a.starts_with("http://www.w3.org/2000/svg")),
        "{addresses:?}"
    );
}

#[test]
fn the_terminal_table_is_aligned() {
    let table = idiolect_report::arms_table(&sample::comparison(1, 3), None);
    let lines: Vec<&str> = table.lines().collect();
    assert!(
        lines[0].starts_with("arm ") && lines[0].contains("  NLL per token  greedy"),
        "{table}"
    );
    assert!(
        lines[1].starts_with("G (teacher, correct answer) "),
        "{table}"
    );
    assert!(
        lines
            .iter()
            .any(|line| line.starts_with("W (teacher, wrong answer) ") && line.contains("+.078")),
        "{table}"
    );
    let rows = |name: &str| lines.iter().find(|line| line.starts_with(name)).unwrap();
    assert!(lines[0].contains("rows trained"), "{table}");
    assert!(
        rows("W ").contains(" 1000 ") && !rows("base ").contains("1000"),
        "{table}"
    );
    assert!(
        table.ends_with("600 test problems, 3 seeds, 95\u{202f}% intervals\n"),
        "{table}"
    );
}

#[test]
fn the_terminal_table_fits_its_terminal_and_names_what_it_leaves_out() {
    let comparison = sample::comparison(1, 3);
    let whole = idiolect_report::arms_table(&comparison, None);
    let widest = |table: &str| table.lines().map(|line| line.chars().count()).max();
    assert!(widest(&whole).unwrap() > 100, "{whole}");
    assert_eq!(idiolect_report::arms_table(&comparison, Some(1000)), whole);
    for width in [100, 80, 60] {
        let table = idiolect_report::arms_table(&comparison, Some(width));
        let (rows, rest) = table.split_once("\n\n").unwrap();
        assert!(widest(rows).unwrap() <= width, "{width}\n{table}");
        assert_eq!(rows.lines().count(), comparison.arms.len() + 1, "{table}");
        let said = rest.lines().nth(1).unwrap();
        assert!(said.starts_with("not shown for want of width: "), "{table}");
        // What is compared stays: accuracy, interval, difference, p.
        let head = rows.lines().next().unwrap();
        for column in ["greedy", "[95", "vs base", "p Holm"] {
            assert!(head.contains(column), "{column}\n{table}");
        }
    }
    let narrow = idiolect_report::arms_table(&comparison, Some(60));
    assert!(
        narrow.contains("\nW  ") && narrow.contains("what the arms hold"),
        "{narrow}"
    );
}

#[test]
fn the_csv_of_the_dose_curve_is_exact() {
    let files = idiolect_report::csv(&sample::miniature(1, 3));
    let dose = &files
        .iter()
        .find(|(name, _)| *name == "dose.csv")
        .unwrap()
        .1;
    let lines: Vec<&str> = dose.lines().collect();
    assert_eq!(
        lines[0],
        "arm,dose,accuracy,low,high,nll_per_token,valid_steps"
    );
    assert!(
        lines[1].starts_with("G,0,0.171,0.14") && lines[1].ends_with(",0.32,0.97"),
        "{}",
        lines[1]
    );
    assert_eq!(lines.len(), 6);
}

#[test]
fn thinned_curves_keep_their_end_and_their_mean() {
    let points: Vec<(usize, f64)> = (1..=1000).map(|s| (s, s as f64)).collect();
    let thinned = thin(&points, 10);
    assert_eq!(thinned.len(), 10);
    assert_eq!(thinned[9].0, 1000);
    assert!((thinned[0].1 - 50.5).abs() < 1e-12);
    assert_eq!(thin(&points[..3], 10), points[..3]);
}

/// The text of a page from an element's opening to its closing mark, without markup.
fn text_of(page: &str, from: &str, to: &str) -> String {
    let part = page.split_once(from).unwrap().1.split_once(to).unwrap().0;
    let mut text = String::new();
    let mut inside = false;
    for c in part.chars() {
        match c {
            '<' => inside = true,
            '>' => inside = false,
            c if !inside => text.push(c),
            _ => {}
        }
    }
    text
}

#[test]
fn every_arm_is_spelled_out_where_it_is_first_met() {
    let view = sample::miniature(1, 3);
    let page = shown(&view);
    let tables: Vec<&str> = page.split("<figure class=\"table\">").skip(1).collect();
    let figures: Vec<&str> = page.split("<svg").skip(1).collect();
    for (letter, words) in [
        ("base", "untrained student"),
        ("H", "human"),
        ("G", "teacher, correct answer"),
        ("W", "teacher, wrong answer"),
        ("P", "human, paraphrased"),
        ("F25", "teacher, 25 % of steps flawed"),
        ("R", "content control"),
    ] {
        let full = format!("{letter} ({words})");
        // Tables that have the arm as a row, and figures that label it.
        for table in &tables {
            let row = format!("<th scope=\"row\" class=\"l\"><bdi>{letter}</bdi>");
            assert!(!table.contains(&row), "{letter} stands alone in a table");
        }
        assert!(
            tables[0].contains(&full),
            "{full} is not in the first table"
        );
        assert!(
            figures[0].contains(words),
            "{words} is not in the first figure"
        );
        let text = idiolect_report::markdown(&view);
        assert!(text.contains(&full), "{full} is not in report.md");
    }
    let text = idiolect_report::markdown(&view);
    assert!(!text.contains("\n| W |") && text.contains("\n| W (teacher, wrong answer) |"));
    for example in &view.examples {
        let arm = view
            .comparison
            .arms
            .iter()
            .find(|arm| arm.arm == example.arm)
            .unwrap();
        let heading = format!("Arm <bdi>{} ({})</bdi>", arm.arm, arm.description);
        assert!(page.contains(&heading), "no {heading}");
    }
    let caption = text_of(&page, "<figure id=\"figure-closeness\"", "</figcaption>");
    assert!(
        caption.contains("Arms: ") && caption.contains("W (teacher, wrong answer)"),
        "{caption}"
    );
}

#[test]
fn an_arm_of_its_own_name_carries_its_description_everywhere() {
    let mut view = sample::miniature(1, 3);
    rename(&mut view.comparison, "W", "mine");
    for arm in view
        .comparison
        .arms
        .iter_mut()
        .filter(|arm| arm.arm == "mine")
    {
        arm.description = "50 % teacher, wrong answer; 50 % human".to_owned();
    }
    let page = shown(&view);
    assert!(
        page.contains("mine (50 % teacher, wrong answer; 50 % human)"),
        "{}",
        &page[..3000]
    );
    assert!(idiolect_report::arms_table(&view.comparison, None).contains("mine (50 % teacher"));
}

#[test]
fn a_page_of_one_problem_or_of_all_right_claims_no_certainty() {
    for (n, rates) in [
        (1, [("base", 0.0, 0.0), ("G", 1.0, 0.3), ("W", 1.0, 0.6)]),
        (40, [("base", 1.0, 0.0), ("G", 1.0, 0.3), ("W", 1.0, 0.6)]),
    ] {
        for seeds in [1, 3] {
            let comparison = sample::compared(&rates, n, 1, seeds);
            let view = RunView::new("compared", comparison);
            let page = shown(&view);
            let text = idiolect_report::markdown(&view);
            let section = text
                .split("## Differences")
                .nth(1)
                .unwrap()
                .split("## ")
                .next()
                .unwrap();
            for row in section
                .lines()
                .filter(|line| line.starts_with("| "))
                .skip(1)
            {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                assert_ne!(cells.get(7), Some(&".000"), "{row}");
            }
            for certain in ["[1.000, 1.000]", "[.000, .000]", "[+1.000, +1.000]"] {
                assert!(
                    !page.contains(certain) && !text.contains(certain),
                    "{n} {seeds}: {certain}"
                );
            }
            assert!(!page.contains("below about .000"), "{n} {seeds}");
            if n < 6 {
                assert!(
                    page.contains("none can be detected from 1 problem"),
                    "{seeds}"
                );
                assert!(
                    page.contains("no difference can be detected from 1 problem"),
                    "{seeds}"
                );
            }
        }
    }
}

#[test]
fn the_page_speaks_of_no_teacher_that_it_does_not_know() {
    for seeds in [1, 3] {
        let mut view = RunView::new(
            "compared",
            sample::compared(
                &[("a", 0.2, 1.0), ("b", 0.6, 2.0), ("c", 0.3, 3.0)],
                60,
                1,
                seeds,
            ),
        );
        view.comparison.warnings.clear();
        let page = shown(&view);
        assert!(!page.to_lowercase().contains("teacher"), "{seeds}");
    }
}

#[test]
fn the_policy_names_the_pages_own_script_by_its_hash() {
    use base64::Engine as _;
    use sha2::Digest as _;
    let page = idiolect_report::html(&asked::view(50, 5));
    let script = page.rsplit_once("<script>").unwrap().1;
    let script = script.split_once("</script>").unwrap().0;
    let hash = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(script));
    let policy = page
        .split_once("Content-Security-Policy\" content=\"")
        .unwrap()
        .1;
    let policy = policy.split_once('"').unwrap().0;
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    let source = format!("; script-src 'sha256-{hash}'; ");
    assert!(policy.replace("&#39;", "'").contains(&source), "{policy}");
}

#[test]
fn a_page_over_very_many_rows_stays_small_and_states_what_it_leaves_out() {
    let page = idiolect_report::html(&asked::view(10_000, 33_000));
    assert!(page.len() < 5_000_000, "{} bytes", page.len());
    let data = page.split_once("id=\"data\">").unwrap().1;
    let data = data.split_once("</script>").unwrap().0;
    let data: serde_json::Value = serde_json::from_str(data).unwrap();
    let replicate = &data["answers"]["replicates"][0];
    assert_eq!(replicate["problems"].as_array().unwrap().len(), 10_000);
    let texts = replicate["texts"].as_array().unwrap().len();
    assert!(texts > 100 && texts < 10_000, "{texts}");
    let note = data["answers"]["note"].as_str().unwrap();
    let stated = format!("the texts of {} of 10\u{202f}000 problems", grouped(texts));
    assert!(note.contains(&stated), "{note}");
    let rows = data["rows"]["rows"].as_array().unwrap().len();
    let note = data["rows"]["note"].as_str().unwrap();
    assert!(
        note.contains(&format!("{} of 10\u{202f}000 rows", grouped(rows))),
        "{note}"
    );
}

fn grouped(n: usize) -> String {
    match n {
        0..10_000 => n.to_string(),
        n => format!("{}\u{202f}{:03}", n / 1000, n % 1000),
    }
}
