//! What the command line takes beside one file a flag: patterns, several files, a longest row, and
//! what it writes for shells, manuals and browsers.

use serde_json::json;

use crate::kit::{Place, SCRIPT, problems, traces};

const STUDENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/stories260K");

#[test]
fn completions_and_manual_pages_name_every_command() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = place.done(&["completions", shell]);
        assert!(
            script.contains("paraphrase") && script.contains("batch-tokens"),
            "{shell}"
        );
    }
    let page = place.done(&["man"]);
    assert!(
        page.contains(".TH idiolect 1") && page.contains("paraphrase"),
        "{page}"
    );
    place.done(&["man", "pages/man1"]);
    assert!(place.text("pages/man1/idiolect.1").contains("Exit codes"));
    assert!(
        place
            .text("pages/man1/idiolect-train.1")
            .contains("max\\-grad\\-norm")
    );
    assert_eq!(place.run(&["completions", "tcsh"]).code, 2);
}

#[test]
fn patterns_mean_files_in_order_of_their_names() {
    let place = Place::new();
    let lines = problems(6);
    let rows: Vec<&str> = lines.lines().collect();
    for (name, rows) in [
        ("raw/b", &rows[..2]),
        ("raw/a", &rows[2..4]),
        ("raw/[c]", &rows[4..]),
    ] {
        place.write(&format!("{name}.jsonl"), &(rows.join("\n") + "\n"));
    }
    let import = ["import", "gsm8k", "-q", "-o", "p.jsonl", "--overwrite"];
    place.done(&[&import[..], &["raw/?.jsonl", "raw/[c].jsonl"]].concat());
    let ids: Vec<String> = place
        .lines("p.jsonl")
        .iter()
        .map(|row| row["id"].as_str().unwrap().to_owned())
        .collect();
    // A file of that very name is no pattern.
    let expected = [2, 3, 0, 1, 4, 5].map(|i| format!("gsm8k/test/{i}"));
    assert_eq!(ids, expected);
    let ran = place.run(&[&import[..], &["raw/*.parquet"]].concat());
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("no file matches `raw/*.parquet`"),
        "{}",
        ran.err
    );
}

#[test]
fn traces_of_several_files_are_rewritten_in_one_go() {
    let place = Place::new();
    place.write("p.jsonl", &problems(2));
    place.write("s.jsonl", SCRIPT);
    let all = traces(&[("0", "It is 1. #### 1"), ("1", "One. #### 1")]);
    let (first, second) = all.split_once('\n').unwrap();
    place.write("a.jsonl", &format!("{first}\n"));
    place.write("b.jsonl", second);
    place.write("both.jsonl", &all);
    let base = [
        "paraphrase",
        "--model",
        "scripted:s.jsonl",
        "--problems",
        "p.jsonl",
        "--unchecked",
    ];
    place.done(&[&base[..], &["--traces", "both.jsonl", "-o", "one.jsonl"]].concat());
    place.done(
        &[
            &base[..],
            &[
                "--traces",
                "a.jsonl",
                "--traces",
                "b.jsonl",
                "-o",
                "two.jsonl",
            ],
        ]
        .concat(),
    );
    assert_eq!(place.lines("one.jsonl").len(), 2);
    assert_eq!(place.bytes("one.jsonl"), place.bytes("two.jsonl"));
}

#[test]
fn rows_above_max_tokens_are_refused_before_training() {
    let place = Place::new();
    let row = |text: &str| json!({"prompt": "Tom", "completion": text});
    let long = " had a big red ball and ran to the park with it";
    let rows: String = [" sat.", " ran.", long]
        .iter()
        .map(|text| format!("{}\n", row(text)))
        .collect();
    place.write("d.jsonl", &rows);
    let base = [
        "train",
        "--model",
        STUDENT,
        "--data",
        "d.jsonl",
        "--max-tokens",
        "12",
        "--max-rejects",
        "0.5",
    ];
    let planned = place.run(&[&base[..], &["--dry-run"]].concat());
    let trained = place.run(&[&base[..], &["-o", "t", "-q"]].concat());
    let reason = "more than 12";
    assert!(
        planned.out.contains("2 rows") && planned.out.contains("line 3"),
        "{}",
        planned.out
    );
    assert!(planned.out.contains(reason), "{}", planned.out);
    assert_eq!((planned.code, trained.code), (3, 3), "{}", trained.err);
    let refused = &place.lines("t.rejects.jsonl")[0];
    assert_eq!(refused["line"], 3);
    assert!(
        refused["reason"].as_str().unwrap().contains(reason),
        "{refused}"
    );
    let longer = place.run(&[
        "train", "--model", STUDENT, "--data", "d.jsonl", "-o", "t", "-q",
    ]);
    assert_eq!(longer.code, 1, "other settings");
    assert!(longer.err.contains("max_tokens"), "{}", longer.err);
}

#[test]
fn a_row_is_written_as_a_page_without_running_what_it_holds() {
    let place = Place::new();
    let row = json!({"prompt": "Tom", "completion": " <script>alert(1)</script> & more"});
    place.write("d.jsonl", &format!("{row}\n"));
    let inspect = ["inspect", "--model", STUDENT, "--data", "d.jsonl"];
    place.done(&[&inspect[..], &["--html", "row.html"]].concat());
    let page = place.text("row.html");
    assert!(
        page.contains("class=\"completion\"") && page.contains("&lt;"),
        "{page}"
    );
    assert!(!page.contains("<script"), "{page}");
    // Notes in it are the user's, and a pipe is nobody's page.
    place.write("row.html", &page.replace("</body>", "<p>mine</p></body>"));
    let made = std::process::Command::new("mkfifo")
        .arg(place.path("pipe.html"))
        .status();
    assert!(made.unwrap().success());
    for (page, words) in [
        ("row.html", "it was changed after it was written"),
        ("pipe.html", "it is not a regular file"),
    ] {
        let ran = place.run(&[&inspect[..], &["--html", page]].concat());
        assert_eq!(ran.code, 1, "{page}: {}", ran.err);
        assert!(ran.err.contains(words), "{page}: {}", ran.err);
    }
    assert!(place.text("row.html").contains("<p>mine</p>"));
}

#[test]
fn a_negative_value_is_a_value() {
    let place = Place::new();
    for command in [
        &[
            "train", "--model", "m", "--data", "d", "-o", "o", "--lr", "-1",
        ][..],
        &[
            "corrupt",
            "--problems",
            "p",
            "--traces",
            "t",
            "-o",
            "o",
            "--dose",
            "-0.5",
        ],
    ] {
        let ran = place.run(command);
        assert_eq!(ran.code, 2, "{}", ran.err);
        let [.., flag, value] = command else {
            unreachable!()
        };
        assert!(
            ran.err
                .contains(&format!("invalid value '{value}' for '{flag}")),
            "{}",
            ran.err
        );
    }
}
