//! Results of other programs: `fixtures/outside` holds files that those programs wrote, of the same
//! five questions with two answers each: right and right, wrong and right, wrong twice, unreadable
//! twice, right twice.

use serde_json::{Value, json};

use crate::kit::{Place, Ran};

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/outside");
const DATE: &str = "2026-01-01T00-00-00.000000";

fn fixture(name: &str) -> String {
    format!("{FIXTURES}/{}", name.replace("DATE", DATE))
}

const GREEDY: &str = "lm-eval/samples_eggs_greedy_DATE.jsonl";
const SAMPLED: &str = "lm-eval/samples_eggs_sampled_DATE.jsonl";

/// Imports a fixture into problems, traces and an evaluation named after `name`.
fn imported(place: &Place, file: &str, name: &str, more: &[&str]) -> Ran {
    let [problems, traces, evaluation] = ["p", "t", "e"].map(|kind| format!("{kind}-{name}.jsonl"));
    let base = [
        "import",
        "gsm8k",
        file,
        "-o",
        &problems,
        "--traces",
        &traces,
        "--eval",
        &evaluation,
    ];
    place.run(&[&base[..], more].concat())
}

/// Verdicts by problem, in the order of the samples.
fn verdicts(place: &Place, name: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for row in place.lines(name) {
        let problem = row["problem_id"].as_str().unwrap().to_owned();
        let verdict = row["verdict"].as_str().unwrap().to_owned();
        match found.iter_mut().find(|(id, _)| *id == problem) {
            Some((_, verdicts)) => {
                assert_eq!(row["sample"], verdicts.len(), "{row}");
                verdicts.push(verdict);
            }
            None => found.push((problem, vec![verdict])),
        }
    }
    found.sort();
    found
}

fn ids(place: &Place, name: &str) -> Vec<Value> {
    place
        .lines(name)
        .iter()
        .map(|row| row["id"].clone())
        .collect()
}

#[test]
fn files_of_every_program_are_known_by_what_they_hold() {
    let place = Place::new();
    place.done(&[
        "import",
        "gsm8k",
        &fixture("questions.jsonl"),
        "--split",
        "test",
        "-o",
        "q.jsonl",
        "-q",
    ]);
    let asked = ids(&place, "q.jsonl");
    for (name, file, words) in [
        ("lm", SAMPLED, "samples of lm-evaluation-harness"),
        ("inspect", "inspect.json", "a log of inspect_ai"),
        (
            "lighteval",
            "details_eggs-0_DATE.parquet",
            "details of lighteval",
        ),
    ] {
        let ran = imported(&place, &fixture(file), name, &[]);
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        assert!(ran.err.contains(words), "{name}: {}", ran.err);
        assert_eq!(ids(&place, &format!("p-{name}.jsonl")), asked, "{name}");
        let found = verdicts(&place, &format!("e-{name}.jsonl"));
        let right = |n: usize| {
            found[n]
                .1
                .iter()
                .filter(|verdict| *verdict == "correct")
                .count()
        };
        assert_eq!(
            [0, 1, 2, 3, 4].map(right),
            [2, 1, 0, 0, 2],
            "{name}: {found:?}"
        );
        assert!(
            found[3].1.contains(&"no_answer".to_owned()),
            "{name}: {found:?}"
        );
    }
    for (name, file, words) in [
        (
            "batch",
            "openai-batch.jsonl",
            "the output of an OpenAI batch",
        ),
        ("vllm", "vllm.jsonl", "outputs of vLLM"),
    ] {
        let (traces, evaluation) = (format!("t-{name}.jsonl"), format!("e-{name}.jsonl"));
        let file = fixture(file);
        let ran = place.run(&[
            "import",
            "gsm8k",
            &file,
            "--problems",
            "q.jsonl",
            "--traces",
            &traces,
            "--eval",
            &evaluation,
        ]);
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        assert!(ran.err.contains(words), "{name}: {}", ran.err);
        let found = verdicts(&place, &evaluation);
        assert_eq!(found[1].1, ["wrong", "correct"], "{name}");
        assert_eq!(found[4].1, ["correct", "correct"], "{name}");
    }
    // The prompts of vLLM hold another question as an example: the last one is asked.
    assert_eq!(place.lines("t-vllm.jsonl")[9]["problem_id"], "gsm8k/test/4");
    assert_eq!(place.lines("e-vllm.jsonl")[0]["n_tokens"], 5);
    // A request that failed is an answer that could not be judged, not one less.
    let failed = verdicts(&place, "e-batch.jsonl");
    assert_eq!(failed[3].1, ["ungraded"]);
    let row = place
        .lines("e-batch.jsonl")
        .into_iter()
        .find(|row| row["problem_id"] == "gsm8k/test/3")
        .unwrap();
    assert_eq!(row["reason"], "the server answered 429: Rate limit reached");
    assert_eq!(place.count("t-batch.jsonl"), 8);
}

#[test]
fn rows_of_two_filters_are_one_answer_with_both_scores() {
    let place = Place::new();
    let ran = imported(&place, &fixture(GREEDY), "lm", &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.err
            .contains("5 rows are of the same answers under another filter"),
        "{}",
        ran.err
    );
    assert!(
        ran.out
            .contains("as exact_match,strict-match      5 of 5 answers have the same grade"),
        "{}",
        ran.out
    );
    let rows = place.lines("e-lm.jsonl");
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[1]["decoding"], "greedy");
    assert_eq!(
        rows[1]["theirs"],
        json!({"program": "lm-eval", "scores": {"exact_match,strict-match": 0.0, "exact_match,flexible-extract": 0.0}})
    );
    // What the row format does not know is absent.
    assert!(rows[1].get("n_tokens").is_none());
    let traces = place.lines("t-lm.jsonl");
    let sampled: Vec<&Value> = traces
        .iter()
        .filter(|row| row["origin"]["kind"] == "sampled")
        .collect();
    assert_eq!(sampled.len(), 5);
    // The model's name stands in the results file beside the samples.
    assert_eq!(sampled[0]["origin"]["model"], "example/listed");
    assert_eq!(
        sampled[0]["origin"]["sampling"],
        json!({"max_tokens": 64, "temperature": 0.0})
    );
    assert_eq!(sampled[0]["finish"], "unknown");
    assert_eq!(place.lines("p-lm.jsonl")[0]["split"], "test");
}

#[test]
fn reasoning_ends_and_settings_of_inspect_are_kept() {
    let place = Place::new();
    let ran = imported(&place, &fixture("inspect.json"), "i", &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(
        ran.out
            .contains("as match  10 of 10 answers have the same grade"),
        "{}",
        ran.out
    );
    let traces = place.lines("t-i.jsonl");
    assert!(
        traces[0]["text"]
            .as_str()
            .unwrap()
            .starts_with("<think>\nEggs: 3*12=36.\n</think>\n\n3*12")
    );
    assert_eq!(
        traces[0]["origin"]["sampling"],
        json!({"temperature": 0.7, "max_tokens": 64})
    );
    let cut: Vec<&Value> = traces
        .iter()
        .filter(|row| row["finish"] == "length")
        .collect();
    assert_eq!(cut.len(), 1, "{traces:?}");
    assert_eq!(cut[0]["text"], "Six times seven is a lot.");
}

#[test]
fn imported_evaluations_are_compared_and_others_than_alike_are_refused() {
    let place = Place::new();
    for (name, model) in [("a", "one"), ("b", "two")] {
        let ran = imported(&place, &fixture(SAMPLED), name, &["--model", model]);
        assert_eq!(ran.code, 0, "{}", ran.err);
    }
    let text = place.done(&["compare", "a=e-a.jsonl", "b=e-b.jsonl"]);
    assert!(
        text.contains("5 test problems") && text.contains("avg@2"),
        "{text}"
    );
    // Names that are no arms' are not said to teach anything.
    place.done(&[
        "compare",
        "a=e-a.jsonl",
        "b=e-b.jsonl",
        "--report",
        "m.md",
        "-q",
    ]);
    let page = place.text("m.md");
    assert!(
        page.contains("**The most accurate is ") && !page.contains("learns most"),
        "{page}"
    );
    let ran = imported(&place, &fixture("inspect.json"), "i", &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = place.run(&["compare", "a=e-a.jsonl", "i=e-i.jsonl"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("not made alike") && ran.err.contains("imported_from"),
        "{}",
        ran.err
    );
    // What is not imported yet is told how.
    for (file, words) in [
        (SAMPLED, "samples of lm-evaluation-harness"),
        ("inspect.json", "a log of inspect_ai"),
    ] {
        let named = format!("b={}", fixture(file));
        let ran = place.run(&["compare", "a=e-a.jsonl", &named]);
        assert_eq!(ran.code, 1);
        assert!(
            ran.err.contains(words) && ran.err.contains("--eval EVAL.jsonl"),
            "{}",
            ran.err
        );
    }
    // The same questions in two models' files of one command are no evaluation.
    let ran = place.run(&[
        "import",
        "gsm8k",
        &fixture(SAMPLED),
        &fixture("inspect.json"),
        "-o",
        "p.jsonl",
        "--eval",
        "e.jsonl",
    ]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(
        ran.err
            .contains("several models (\"example/listed\", \"mockllm/listed\")"),
        "{}",
        ran.err
    );
}

#[test]
fn what_cannot_be_read_is_refused_by_file_line_and_field() {
    let place = Place::new();
    let good = place_row(0, json!([["It is 3. #### 3"]]));
    let rows = [
        good.clone(),
        place_row(1, json!("text")),
        json!({"doc_id": 2, "doc": [1], "resps": [["a"]], "filter": "none"}),
        json!({"doc_id": 3, "doc": {"question": "q", "answer": "3"}, "resps": [[["-1.0", "True"]]], "filter": "none"}),
        json!({"doc_id": 4, "doc": {"query": "q"}, "resps": [["a"]], "filter": "none"}),
        good,
        // Escapes and marks of direction in a name that is shown.
        json!({"doc_id": 6, "doc": {"question": "q", "answer": "3"}, "resps": [["\u{1b}[31mred\u{202e}"]], "filter": "none", "metrics": ["\u{1b}[2Jm"], "\u{1b}[2Jm": 0}),
    ];
    let text: String = rows.iter().map(|row| format!("{row}\n")).collect();
    place.write(
        "samples_x.jsonl",
        &format!("{text}{{\"doc_id\": 7, \"doc\"\n"),
    );
    let ran = imported(&place, "samples_x.jsonl", "x", &["--max-rejects", "1"]);
    assert_eq!(ran.code, 3, "{}", ran.err);
    let refused: Vec<(u64, String)> = place
        .lines("p-x.jsonl.rejects.jsonl")
        .iter()
        .map(|row| {
            (
                row["line"].as_u64().unwrap(),
                row["reason"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let expected = [
        (2, "`resps` is text, not a list"),
        (3, "`doc` is a list, not an object"),
        (4, "log-likelihoods of choices"),
        (5, "no field `question`"),
        (6, "has filter `none` twice"),
        (8, "not JSON"),
    ];
    assert_eq!(refused.len(), expected.len(), "{refused:?}");
    for ((line, reason), (expected_line, words)) in refused.iter().zip(expected) {
        assert_eq!(*line, expected_line, "{reason}");
        assert!(reason.contains(words), "{reason}");
    }
    assert_eq!(place.count("e-x.jsonl"), 2);
    assert!(
        !ran.out.contains('\u{1b}') && !ran.err.contains('\u{1b}'),
        "{:?} {:?}",
        ran.out,
        ran.err
    );
    // Without leave for it the command fails and leaves nothing but the reasons.
    let ran = imported(&place, "samples_x.jsonl", "y", &[]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("6 of 8 rows were refused") && ran.err.contains("samples_x.jsonl, line 2"),
        "{}",
        ran.err
    );
    assert!(!place.path("p-y.jsonl").exists() && !place.path("e-y.jsonl").exists());
}

/// A row of lm-eval's samples.
fn place_row(doc_id: usize, resps: Value) -> Value {
    json!({"doc_id": doc_id, "doc": {"question": format!("How many are {doc_id} and 3?"), "answer": "3"},
        "resps": resps, "filter": "none", "metrics": [], "arguments": {}})
}

#[test]
fn wrong_files_and_flags_say_what_to_do() {
    let place = Place::new();
    place.write("log.eval", "PK\u{3}\u{4}rest");
    place.write(
        "plain.jsonl",
        "{\"question\": \"How many are 1 and 1?\", \"answer\": \"2\"}\n",
    );
    place.write(
        "header.json",
        "{\n  \"version\": 2,\n  \"status\": \"started\",\n  \"eval\": {\"task\": \"t\"}\n}\n",
    );
    let vllm = fixture("vllm.jsonl");
    let cases: [(&[&str], i32, &str); 7] = [
        (&["log.eval", "-o", "p.jsonl"], 1, "inspect log convert"),
        (
            &["header.json", "-o", "p.jsonl"],
            1,
            "the log holds no samples",
        ),
        (
            &["plain.jsonl", "-o", "p.jsonl", "--format", "vllm"],
            1,
            "no field `outputs`; rows of `vllm` are outputs of vLLM",
        ),
        (
            &["plain.jsonl", "-o", "p.jsonl", "--eval", "e.jsonl"],
            2,
            "--format states whose they are",
        ),
        (
            &["plain.jsonl", &vllm, "-o", "p.jsonl"],
            2,
            "results of another program",
        ),
        (
            &[&vllm, "--problems", "plain.jsonl"],
            2,
            "--traces FILE, --eval FILE or both",
        ),
        (
            &[&vllm, "-o", "p.jsonl"],
            1,
            "--problems FILE takes question and gold",
        ),
    ];
    for (arguments, code, words) in cases {
        let ran = place.run(&[&["import", "gsm8k"], arguments].concat());
        assert_eq!(ran.code, code, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(words), "{arguments:?}: {}", ran.err);
    }
    assert!(!place.path("p.jsonl").exists());
    // Rows that only look like another program's are rows where the user says so.
    let row = json!({"doc_id": 0, "doc": {}, "resps": [], "question": "How many are 1 and 1?", "answer": "2"});
    place.write("like.jsonl", &format!("{row}\n"));
    place.done(&[
        "import",
        "gsm8k",
        "like.jsonl",
        "-o",
        "p.jsonl",
        "--format",
        "rows",
        "-q",
    ]);
    assert_eq!(place.count("p.jsonl"), 1);
}

#[test]
fn the_same_command_has_nothing_to_do_and_another_says_what_differs() {
    let place = Place::new();
    let first = imported(&place, &fixture(SAMPLED), "a", &[]);
    assert_eq!(first.code, 0, "{}", first.err);
    let bytes = place.bytes("e-a.jsonl");
    let again = imported(&place, &fixture(SAMPLED), "a", &["--threads", "1"]);
    assert!(again.out.contains("complete before"), "{}", again.out);
    let other = imported(&place, &fixture(SAMPLED), "a", &["--finish", "stop"]);
    assert_eq!(other.code, 1);
    assert!(other.err.contains("finish"), "{}", other.err);
    let over = imported(
        &place,
        &fixture(SAMPLED),
        "a",
        &["--finish", "stop", "--overwrite"],
    );
    assert_eq!(over.code, 0, "{}", over.err);
    assert_ne!(place.bytes("e-a.jsonl"), bytes);
    assert_eq!(place.lines("t-a.jsonl")[1]["finish"], "stop");
}

/// A run on the five questions whose traces are another program's file.
fn run_over(place: &Place, traces: &str, more: &[&str]) -> Ran {
    let questions = std::fs::read_to_string(fixture("questions.jsonl")).unwrap();
    place.write("train.jsonl", &questions);
    // The same numbers, other questions.
    let held = [
        (
            "A train leaves at 8 and arrives 5 hours later. When does it arrive?",
            13,
        ),
        (
            "Nine friends share 72 cherries evenly. How many does each of them get?",
            8,
        ),
        ("Double the number 35, then take 6 away.", 64),
        (
            "Two dozen roses and three more stand in a vase. Count them.",
            27,
        ),
        ("How much is left of 100 crowns after a fare of 45?", 55),
    ];
    let held = held.map(|(question, answer)| {
        let row = json!({"question": question, "answer": format!("#### {answer}")});
        format!("{row}\n")
    });
    place.write("test.jsonl", &held.concat());
    let student = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/stories260K");
    place.write(
        "theirs.toml",
        &format!(
            r#"name = "theirs"
data = {{ task = "gsm8k", train = "train.jsonl", test = "test.jsonl", traces = "{traces}" }}
models = {{ students = ["{student}"] }}
arms = {{ names = ["G"], baselines = ["base"] }}
train = {{ seeds = 1, epochs = 1 }}
eval = {{ max_tokens = 2 }}
"#
        ),
    );
    place.run(&[&["run", "theirs.toml", "--out", "r"], more].concat())
}

#[test]
fn a_recipe_takes_the_files_of_other_programs_as_traces() {
    for (file, words) in [
        (SAMPLED, "samples of lm-evaluation-harness"),
        ("inspect.json", "a log of inspect_ai"),
    ] {
        let place = Place::new();
        for name in [file, "lm-eval/results_DATE.json"] {
            let from = fixture(name);
            std::fs::copy(&from, place.path(from.rsplit('/').next().unwrap())).unwrap();
        }
        let name = file.rsplit('/').next().unwrap().replace("DATE", DATE);
        let ran = run_over(&place, &name, &[]);
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        assert!(ran.err.contains(words), "{name}: {}", ran.err);
        let given = place.lines("r/data/r0/parts/given.jsonl");
        assert_eq!(given.len(), 10, "{name}");
        let is_theirs = |row: &Value| {
            row["origin"]["kind"] == "sampled"
                && row["theirs"]["program"].is_string()
                && row["problem_id"]
                    .as_str()
                    .unwrap()
                    .starts_with("gsm8k/train/")
        };
        assert!(given.iter().all(is_theirs), "{name}: {given:?}");
    }
}

#[test]
fn an_answer_to_no_problem_of_the_recipe_is_refused_by_line() {
    let place = Place::new();
    let theirs = std::fs::read_to_string(fixture("inspect.json")).unwrap();
    place.write(
        "log.json",
        &theirs.replace("What is 6 times 7?", "What is 6 times 8?"),
    );
    let ran = run_over(&place, "log.json", &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    for words in ["log.json", "line ", "question"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    let ran = run_over(&place, "log.json", &["--max-rejects", "0.5"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let told = "2 rows of data.traces were refused: `r/data/r0/parts/given.jsonl.rejects.jsonl`";
    assert!(ran.err.contains(told), "{}", ran.err);
    assert_eq!(place.count("r/data/r0/parts/given.jsonl"), 8);
}

/// A row of lm-eval's samples with the settings that it was asked with.
fn asked_row(doc_id: usize, resps: Value, settings: Value) -> Value {
    let mut row = place_row(doc_id, resps);
    row["arguments"] = json!([[row["doc"]["question"], settings]]);
    row
}

fn lines_of(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

#[test]
fn filters_are_joined_in_an_array_of_one_line_and_without_names() {
    let place = Place::new();
    let row = |doc_id: usize, filter: Option<&str>, score: f64| {
        let mut row = asked_row(doc_id, json!([["#### 3"]]), json!({"until": ["Q:"]}));
        let fields = row.as_object_mut().unwrap();
        fields.shift_remove("metrics");
        fields.shift_remove("filter");
        row["exact_match"] = json!(score);
        if let Some(filter) = filter {
            row["filter"] = json!(filter);
        }
        row
    };
    for (name, filters, second) in [
        ("named", [Some("a"), Some("b")], "exact_match,b"),
        ("unnamed", [None, None], "exact_match,2"),
    ] {
        let rows: Vec<Value> = [0, 1]
            .iter()
            .flat_map(|filter| [0, 1].map(|doc| row(doc, filters[*filter], *filter as f64)))
            .collect();
        let file = format!("samples_{name}.json");
        place.write(&file, &Value::from(rows).to_string());
        let ran = imported(&place, &file, name, &[]);
        assert_eq!(ran.code, 0, "{name}: {}", ran.err);
        let rows = place.lines(&format!("e-{name}.jsonl"));
        assert_eq!(rows.len(), 2, "{name}: {rows:?}");
        assert_eq!(rows[1]["decoding"], "greedy", "{name}");
        let scores = rows[1]["theirs"]["scores"].as_object().unwrap();
        assert_eq!(
            (scores.len(), scores.get(second)),
            (2, Some(&json!(1.0))),
            "{name}: {scores:?}"
        );
    }
}

#[test]
fn an_answer_that_failed_is_ungraded_or_refused_alone() {
    let place = Place::new();
    let rows = [
        place_row(0, json!([["#### 3", null, "#### 4"]])),
        place_row(1, json!([[null, "a", "b"]])),
    ];
    place.write("samples_x.jsonl", &lines_of(&rows));
    let ran = imported(&place, "samples_x.jsonl", "x", &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let found = verdicts(&place, "e-x.jsonl");
    assert_eq!(found[0].1, ["correct", "ungraded", "wrong"]);
    assert_eq!(found[1].1[0], "ungraded");
    let import = ["import", "gsm8k", "samples_x.jsonl", "-o", "p.jsonl"];
    let traces = ["--traces", "t.jsonl", "--max-rejects", "0.4"];
    let ran = place.run(&[&import[..], &traces].concat());
    assert_eq!(ran.code, 3, "{}", ran.err);
    let refused = place.lines("p.jsonl.rejects.jsonl");
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!(
        refused[0]["reason"],
        "`resps.0.1` is null: nothing was answered"
    );
    let texts: Vec<Value> = place
        .lines("t.jsonl")
        .iter()
        .filter(|row| row["origin"]["kind"] != "human")
        .map(|row| row["text"].clone())
        .collect();
    assert_eq!(texts, ["#### 3", "#### 4", "a", "b"]);
}

#[test]
fn greedy_and_sampled_answers_are_two_evaluations() {
    let place = Place::new();
    let rows = [
        asked_row(0, json!([["#### 3"]]), json!({"do_sample": false})),
        asked_row(1, json!([["#### 3"]]), json!({"temperature": 0.7})),
    ];
    place.write("samples_x.jsonl", &lines_of(&rows));
    let ran = imported(&place, "samples_x.jsonl", "x", &[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("greedy and others sampled"), "{}", ran.err);
    let ran = imported(&place, "samples_x.jsonl", "x", &["--decoding", "sampled"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn sampled_answers_stay_sampled_in_the_shape_of_lm_eval() {
    let place = Place::new();
    for (name, settings, stated) in [
        (
            "t",
            json!({"temperature": 0.7}),
            json!({"temperature": 0.7, "do_sample": true}),
        ),
        ("s", json!({"do_sample": true}), json!({"do_sample": true})),
        (
            "g",
            json!({}),
            json!({"temperature": 0.0, "do_sample": false}),
        ),
    ] {
        let row = asked_row(0, json!([["#### 3"]]), settings);
        place.write(&format!("samples_{name}.jsonl"), &lines_of(&[row]));
        let ran = imported(&place, &format!("samples_{name}.jsonl"), name, &[]);
        assert_eq!(ran.code, 0, "{}", ran.err);
        let (evaluation, problems) = (format!("e-{name}.jsonl"), format!("p-{name}.jsonl"));
        let convert = [
            "convert",
            &evaluation,
            "-o",
            name,
            "--to",
            "lm-eval",
            "--problems",
            &problems,
        ];
        place.done(&convert);
        let samples = format!("{name}/samples_gsm8k_1970-01-01T00-00-00.000000.jsonl");
        let asked = &place.lines(&samples)[0]["arguments"]["gen_args_0"]["arg_1"];
        assert_eq!(*asked, stated, "{name}");
        let again = format!("again-{name}.jsonl");
        place.done(&[
            "import",
            "gsm8k",
            &samples,
            "--problems",
            &problems,
            "--eval",
            &again,
        ]);
        assert_eq!(
            place.lines(&again)[0]["decoding"],
            place.lines(&evaluation)[0]["decoding"]
        );
    }
    let twice = place.text("e-t.jsonl").repeat(2);
    place.write("twice.jsonl", &twice);
    let ran = place.run(&[
        "convert",
        "twice.jsonl",
        "-o",
        "w",
        "--to",
        "lm-eval",
        "--problems",
        "p-t.jsonl",
    ]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("sample 0 of problem"), "{}", ran.err);
}

#[test]
fn files_that_cannot_be_read_say_why_and_numbers_are_found() {
    let place = Place::new();
    place.write(
        "deep.jsonl",
        &format!("{{\"doc_id\": {}0{}}}\n", "[".repeat(500), "]".repeat(500)),
    );
    let ran = imported(&place, "deep.jsonl", "d", &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("recursion limit"), "{}", ran.err);
    // A log that was cancelled, of samples counted from 0, with a text that is none.
    let sample = |id: usize, input: Value| {
        json!({"id": id, "epoch": 1, "input": input, "target": "3",
            "output": {"choices": [{"message": {"content": "#### 3"}, "stop_reason": "stop"}]},
            "scores": {"\u{202e}m": {"value": "C"}}})
    };
    let samples = [
        sample(0, json!("How many are 0 and 3?")),
        sample(1, json!(["?"])),
    ];
    let log = json!({"version": 2, "status": "cancelled",
        "eval": {"task": "t", "model": "m", "dataset": {"samples": 9}}, "samples": samples});
    place.write("log.json", &log.to_string());
    let more = ["--max-rejects", "1"];
    let ran = imported(&place, "log.json", "l", &more);
    assert_eq!(ran.code, 3, "{}", ran.err);
    for words in [
        "the log was cancelled: 2 samples are in it, of 9 that were planned",
        "sample 1, epoch 1: `input` has no turn of the user",
    ] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    assert!(ran.out.contains("as \\u{202e}m  1 of 1"), "{}", ran.out);
    assert_eq!(ids(&place, "p-l.jsonl"), ["gsm8k/test/0"]);
    let ran = imported(&place, "log.json", "l", &["--max-rejects", "1", "--json"]);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(
        document["agreement"],
        json!({"\u{202e}m": {"graded": 1, "same": 1}})
    );
    // A batch counts its requests; the problems are of one split.
    let body = json!({"choices": [{"message": {"content": "#### 3"}}]});
    let row = json!({"custom_id": "0", "response": {"status_code": 200, "body": body}});
    place.write("batch.jsonl", &lines_of(&[row]));
    place.done(&[
        "import",
        "gsm8k",
        "batch.jsonl",
        "--problems",
        "p-l.jsonl",
        "--traces",
        "t.jsonl",
    ]);
    assert_eq!(place.lines("t.jsonl")[0]["problem_id"], "gsm8k/test/0");
}
