//! Arms hold what the student is trained on, and what they leave out they state.

use serde_json::{Value, json};

use crate::kit::Place;

/// The trained model of the repository: 512 positions.
const STUDENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/stories260K");

/// Different enough from one another that no question nearly repeats another.
const THINGS: [&str; 12] = [
    "apples", "pears", "books", "cups", "pens", "bikes", "dogs", "stones", "rings", "kites",
    "lamps", "drums",
];

/// Raw rows with a right and a wrong response each; every fourth right one is longer than the
/// student's positions. `model` and `finish` are columns where wanted.
fn samples(model: bool, finish: bool) -> String {
    let row = |n: usize, answer: usize| {
        let sum = n + 3;
        let words = if n.is_multiple_of(4) && answer == sum {
            format!("{} ", THINGS[n]).repeat(600)
        } else {
            format!("{} are counted. ", THINGS[n])
        };
        let mut row = json!({
            "id": format!("s/{n}"),
            "question": format!("Tom has {n} {} and gets 3 more. How many {0} has he now?", THINGS[n]),
            "answer": format!("He has {n}+3=<<{n}+3={sum}>>{sum}.\n#### {sum}"),
            "response": format!("{words}\n#### {answer}"),
        });
        if model {
            row["model"] = json!("teacher");
        }
        if finish {
            row["finish"] = json!("stop");
        }
        format!("{row}\n")
    };
    (0..12)
        .map(|n| row(n, n + 3) + &row(n, n + 40))
        .collect::<String>()
}

fn imported(model: bool, finish: bool, more: &[&str]) -> Place {
    let place = Place::new();
    place.write("raw.jsonl", &samples(model, finish));
    let import = [
        "import",
        "gsm8k",
        "raw.jsonl",
        "-o",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "-q",
    ];
    place.done(&[&import[..], more].concat());
    place.done(&[
        "verify",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "-o",
        "v.jsonl",
        "-q",
    ]);
    place
}

const ARMS: [&str; 10] = [
    "arms",
    "--problems",
    "p.jsonl",
    "--traces",
    "t.jsonl",
    "--verdicts",
    "v.jsonl",
    "-o",
    "arms",
    "-q",
];

fn summary(place: &Place) -> Value {
    serde_json::from_str(&place.text("arms/arms.json")).unwrap()
}

#[test]
fn what_the_student_cannot_take_enters_no_arm_and_all_train_on_as_many_rows() {
    let place = imported(true, true, &[]);
    let shown = place.done(&[&ARMS[..], &["--model", STUDENT]].concat());
    let arms = summary(&place);
    for arm in ["H", "G", "W"] {
        assert_eq!(arms["arms"][arm]["rows"], 9, "{arms}");
    }
    let left = &arms["coverage"]["student"];
    assert_eq!(left["problems"], 3, "{left}");
    assert_eq!(left["traces"]["longer than the student's limit"], 3);
    assert_eq!(
        arms["coverage"]["arms"]["G"]["excluded"]["longer than the student's limit"],
        3
    );
    assert!(
        shown.contains("G leaves out 12 not correct, 3 longer than the student's limit"),
        "{shown}"
    );
    assert!(
        shown.contains("3 problems are left out of every arm"),
        "{shown}"
    );
    for arm in ["H", "G", "W"] {
        let data = format!("arms/{arm}.jsonl");
        let train = ["train", "--model", STUDENT, "--data", &data];
        let dry = place.done(&[&train[..], &["--dry-run", "--json"]].concat());
        let dry: Value = serde_json::from_str(&dry).unwrap();
        assert_eq!((&dry["rows"], &dry["steps"]), (&json!(9), &json!(1)));
        place.done(&[&train[..], &["-o", arm, "-q"]].concat());
        let meta: Value = serde_json::from_str(&place.text(&format!("{arm}.meta.json"))).unwrap();
        assert_eq!(meta["rows"], 9);
        place.done(&[
            "eval",
            "--model",
            arm,
            "--problems",
            "p.jsonl",
            "--max-tokens",
            "2",
            "-q",
            "-o",
            &format!("{arm}.eval.jsonl"),
        ]);
    }
    let compared = place.done(&["compare", "H=H.eval.jsonl", "G=G.eval.jsonl"]);
    let heads = compared.lines().next().unwrap();
    assert!(heads.contains("rows trained"), "{compared}");
    let row = compared.lines().find(|line| line.starts_with('G')).unwrap();
    assert!(row.split_whitespace().any(|cell| cell == "9"), "{compared}");
}

#[test]
fn arms_of_no_rows_are_refused() {
    let place = Place::new();
    let ran = place.run(&[&ARMS[..], &["--rows", "0"]].concat());
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("at least 1"), "{}", ran.err);
}

#[test]
fn a_limit_on_tokens_is_one_on_whole_rows() {
    let place = imported(true, true, &[]);
    let build = |most: &str| {
        let more = ["--model", STUDENT, "--max-tokens", most, "--overwrite"];
        place.run(&[&ARMS[..], &more].concat())
    };
    assert_eq!(build("512").code, 0);
    let whole = summary(&place)["arms"]["W"]["rows"].as_u64();
    let ran = build("5");
    assert_eq!(ran.code, 1, "{}", ran.out);
    assert!(
        ran.err.contains("the traces support no arm")
            && ran.err.contains("12 longer than the student's limit")
            && ran.err.contains("--max-tokens"),
        "{}",
        ran.err
    );
    assert_eq!(whole, Some(9));
}

#[test]
fn training_refuses_rows_before_its_first_step_and_names_them() {
    let place = imported(true, true, &[]);
    place.done(&ARMS);
    assert_eq!(summary(&place)["arms"]["G"]["rows"], 12);
    let train = ["train", "--model", STUDENT, "--data", "arms/G.jsonl"];
    let named = place.lines("arms/G.jsonl");
    let long = named
        .iter()
        .position(|row| row["problem_id"] == "s/0")
        .unwrap();
    let words = format!(
        "G.jsonl, line {}: trace `{}`: the row needs ",
        long + 1,
        named[long]["trace_id"].as_str().unwrap()
    );
    let ran = place.run(&[&train[..], &["-o", "m"]].concat());
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("3 of 12 rows were refused"), "{}", ran.err);
    assert!(ran.err.contains(&words), "{words}\n{}", ran.err);
    assert!(ran.err.contains("idiolect arms --model"), "{}", ran.err);
    assert_eq!(place.count("m/log.jsonl"), 0);
    assert!(!place.path("m/model.safetensors").exists());
    assert_eq!(place.count("m.rejects.jsonl"), 3);

    let dry = place.run(&[&train[..], &["--dry-run"]].concat());
    assert_eq!(dry.code, 1);
    assert!(
        dry.out.contains("9 rows of ") && dry.out.contains(&words),
        "{}",
        dry.out
    );
    let allowed = place.run(&[&train[..], &["-o", "m", "-q", "--max-rejects", "0.5"]].concat());
    assert_eq!(allowed.code, 3, "{}", allowed.err);
    let meta: Value = serde_json::from_str(&place.text("m.meta.json")).unwrap();
    assert_eq!(
        (&meta["rows"], &meta["rejected"], &meta["seen"]),
        (&json!(9), &json!(3), &json!(12))
    );
}

#[test]
fn a_compared_difference_in_rows_trained_is_reported() {
    let place = imported(true, true, &[]);
    place.done(&ARMS);
    let few: String = place
        .text("arms/H.jsonl")
        .lines()
        .take(4)
        .map(|l| format!("{l}\n"))
        .collect();
    place.write("few.jsonl", &few);
    for (name, data) in [("a", "arms/H.jsonl"), ("b", "few.jsonl")] {
        place.done(&[
            "train", "--model", STUDENT, "--data", data, "-o", name, "-q",
        ]);
        place.done(&[
            "eval",
            "--model",
            name,
            "--problems",
            "p.jsonl",
            "--max-tokens",
            "2",
            "-q",
            "-o",
            &format!("{name}.jsonl"),
        ]);
    }
    let said = place.done(&["compare", "a=a.jsonl", "b=b.jsonl"]);
    assert!(
        said.contains("not trained on as many rows each: a 12, b 4"),
        "{said}"
    );
}

#[test]
fn an_arm_that_is_left_out_is_told_with_its_reason_and_the_flag() {
    // Nothing states how the responses ended.
    let place = imported(true, false, &[]);
    let shown = place.done(&ARMS);
    assert!(
        shown.contains("W (teacher, wrong answer) is left out: ")
            && shown.contains("12 not known to be finished")
            && shown.contains("--unknown-finish-is-stop"),
        "{shown}"
    );
    let arms = summary(&place);
    let why = &arms["left_out"]["W"];
    assert_eq!(why["reasons"]["not known to be finished"], 12);
    assert!(
        why["remedies"][0]
            .as_str()
            .unwrap()
            .contains("--unknown-finish-is-stop")
    );
    assert!(arms["arms"]["G"].is_object() && arms["left_out"]["G"].is_null());
    let shown = place.done(&[&ARMS[..], &["--overwrite", "--unknown-finish-is-stop"]].concat());
    assert!(summary(&place)["left_out"].is_null(), "{shown}");

    // Nothing states who wrote them.
    let place = imported(false, true, &[]);
    let shown = place.done(&ARMS);
    for arm in ["G", "W"] {
        let why = &summary(&place)["left_out"][arm];
        assert_eq!(
            why["reasons"]["not known to be sampled by a model"], 24,
            "{why}"
        );
        assert!(
            why["remedies"][0]
                .as_str()
                .unwrap()
                .contains("--model NAME")
        );
    }
    assert!(
        shown.contains("G (teacher, correct answer) is left out"),
        "{shown}"
    );

    // What the flags of import state holds for every row.
    let place = imported(false, false, &["--model", "mine", "--finish", "stop"]);
    place.done(&ARMS);
    let arms = summary(&place);
    assert!(arms["left_out"].is_null(), "{arms}");
    assert_eq!(arms["arms"]["W"]["rows"], 12);
}

#[test]
fn an_arm_without_human_solutions_or_training_problems_says_so() {
    let place = Place::new();
    let rows: String = samples(true, true)
        .lines()
        .map(|line| {
            let mut row: Value = serde_json::from_str(line).unwrap();
            let gold = row["answer"]
                .as_str()
                .unwrap()
                .rsplit("#### ")
                .next()
                .unwrap()
                .to_owned();
            row["answer"] = json!(gold);
            format!("{row}\n")
        })
        .collect();
    place.write("raw.jsonl", &rows);
    let import = |more: &[&str]| {
        let import = [
            "import",
            "gsm8k",
            "raw.jsonl",
            "-o",
            "p.jsonl",
            "--traces",
            "t.jsonl",
            "-q",
            "--overwrite",
        ];
        place.done(&[&import[..], more].concat());
        place.done(&[
            "verify",
            "--problems",
            "p.jsonl",
            "--traces",
            "t.jsonl",
            "-o",
            "v.jsonl",
            "-q",
            "--overwrite",
        ]);
    };
    import(&[]);
    let shown = place.done(&ARMS);
    let why = &summary(&place)["left_out"]["H"];
    assert_eq!(
        why["reasons"]["problems without a human solution"], 12,
        "{why}"
    );
    assert!(
        shown.contains("H (human) is left out") && shown.contains("--map human=COLUMN"),
        "{shown}"
    );
    import(&["--split", "test"]);
    let ran = place.run(&[&ARMS[..], &["--overwrite"]].concat());
    assert_eq!(ran.code, 1);
    for words in [
        "H (human",
        "G (teacher",
        "W (teacher",
        "24 of problems outside the train split",
        "--split train",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    let ran = place.run(&[&ARMS[..], &["--overwrite", "--arm", "W=W"]].concat());
    assert!(
        ran.code == 1 && ran.err.contains("--split train"),
        "{}",
        ran.err
    );
}

#[test]
fn several_files_of_traces_are_one() {
    let place = imported(true, true, &[]);
    let rows = place.text("t.jsonl");
    let (mut a, mut b) = (String::new(), String::new());
    for (i, line) in rows.lines().enumerate() {
        let part = if i < 11 { &mut a } else { &mut b };
        part.push_str(line);
        part.push('\n');
    }
    place.write("a.jsonl", &a);
    place.write("more/b.jsonl", &(b + "{\"id\": 7}\n"));
    let both = [
        "--problems",
        "p.jsonl",
        "--traces",
        "a.jsonl",
        "--traces",
        "more/b.jsonl",
    ];
    let allow = ["-q", "--max-rejects", "0.1"];
    let verified = place.run(&[&["verify"], &both[..], &["-o", "v2.jsonl"], &allow].concat());
    assert_eq!(verified.code, 3, "{}", verified.err);
    assert_eq!(place.text("v2.jsonl"), place.text("v.jsonl"));
    let bad = &place.lines("v2.jsonl.rejects.jsonl")[0];
    let line = rows.lines().count() - 11 + 1;
    assert_eq!(
        (&bad["file"], &bad["line"]),
        (&json!("b.jsonl"), &json!(line))
    );
    assert!(verified.err.contains("b.jsonl, line"), "{}", verified.err);
    // Nothing is left to do, and nothing is done twice.
    let again = place.run(&[&["verify"], &both[..], &["-o", "v2.jsonl"], &allow].concat());
    assert!(again.out.contains("complete before"), "{}", again.out);

    place.write("script.jsonl", crate::kit::SCRIPT);
    for (traces, output) in [
        (&both[..], "s2.jsonl"),
        (&["--problems", "p.jsonl", "--traces", "t.jsonl"], "s.jsonl"),
    ] {
        let score = ["score", "--model", "scripted:script.jsonl", "-o", output];
        let ran = place.run(&[&score[..], traces, &allow].concat());
        assert!(matches!(ran.code, 0 | 3), "{}", ran.err);
    }
    assert_eq!(place.text("s2.jsonl"), place.text("s.jsonl"));
    place.done(&ARMS);
    let whole = place.text("arms/W.jsonl");
    let arms = ["arms", "--verdicts", "v2.jsonl", "-o", "arms2"];
    let ran = place.run(&[&arms[..], &both, &allow].concat());
    assert_eq!(ran.code, 3, "{}", ran.err);
    assert_eq!(place.text("arms2/W.jsonl"), whole);
    let audit = place.run(
        &[
            &[
                "audit",
                "--verdicts",
                "v2.jsonl",
                "--json",
                "--max-rejects",
                "0.1",
            ],
            &both[..],
        ]
        .concat(),
    );
    let audit: Value = serde_json::from_str(&audit.out).unwrap();
    assert_eq!(audit["groups"]["sampled"]["correct"], 12, "{audit}");
}

/// A folder of data as `gsm8k-real` reads it, with a third of the right traces too long.
fn data(place: &Place) {
    let problem = |n: usize| {
        let thing = THINGS[n % 12];
        let sum = 2 * n + 1;
        let question = format!(
            "Shelf {n} holds {n} {thing} and later {} {thing} more. How many {thing}?",
            n + 1
        );
        (
            question,
            sum,
            format!(
                "{n}+{}=<<{n}+{}={sum}>>{sum} {thing}\n#### {sum}",
                n + 1,
                n + 1
            ),
        )
    };
    let rows: String = (0..60)
        .map(|n| {
            let (question, _, answer) = problem(n);
            format!("{}\n", json!({"question": question, "answer": answer}))
        })
        .collect();
    place.write("data/gsm8k/test.jsonl", &rows);
    place.write("data/gsm8k/train.jsonl", &rows);
    let traces: String = (0..60)
        .flat_map(|n| {
            let (_, sum, _) = problem(n);
            let long = if n % 3 == 0 { format!("{} ", THINGS[n % 12]).repeat(600) } else { "So. ".to_owned() };
            [(format!("{long}\n#### {sum}")), format!("No {n}.\n#### {}", sum + 7)]
                .map(|text| {
                    let row = json!({"problem_id": format!("gsm8k/test/{n}"), "model": "m", "kind": "cot", "response": text});
                    format!("{row}\n")
                })
        })
        .collect();
    place.write("data/traces/mine__gsm8k__m.jsonl", &traces);
}

#[test]
fn a_run_trains_every_arm_on_as_many_rows_as_its_student_can_take() {
    let place = Place::new();
    data(&place);
    let student = format!("models.students={STUDENT}");
    let sets = [
        student.as_str(),
        "arms.names=[\"H\",\"G\",\"W\"]",
        "train.seeds=1",
        "train.epochs=1",
        "eval.max_tokens=2",
    ];
    let mut run = vec!["run", "gsm8k-real", "--out", "r", "-q"];
    run.extend(sets.iter().flat_map(|set| ["--set", set]));
    let ran = place
        .command(&run)
        .env("IDIOLECT_DATA", place.path("data"))
        .output()
        .unwrap();
    assert!(
        ran.status.success(),
        "{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    let shown = String::from_utf8(ran.stdout).unwrap();
    let student = "r/students/stories260K/r0";
    let rows = |arm: &str| -> u64 {
        let meta: Value =
            serde_json::from_str(&place.text(&format!("{student}/train/{arm}/0.meta.json")))
                .unwrap();
        assert_eq!(meta["rejected"], 0);
        meta["rows"].as_u64().unwrap()
    };
    let trained = rows("G");
    assert!(trained > 10, "{trained}");
    assert_eq!([rows("H"), rows("W")], [trained; 2]);
    let comparison: Value = serde_json::from_str(&place.text("r/comparison.json")).unwrap();
    for arm in comparison["arms"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|arm| arm["arm"] != "base")
    {
        assert_eq!(arm["rows"], trained);
    }
    let arms: Value =
        serde_json::from_str(&place.text(&format!("{student}/arms/arms.json"))).unwrap();
    let left = arms["coverage"]["student"]["problems"].as_u64().unwrap();
    assert!(left > 5, "{arms}");
    assert!(shown.contains("rows trained"), "{shown}");
    let report = place.text("r/report.md");
    assert!(
        report.contains("rows trained")
            && report.contains(&format!("{left} problems that every arm would cover")),
        "{report}"
    );
}
