//! Samples in rows of one's own, to problems that are known or are not; graders of one's own.

use serde_json::{Value, json};

use crate::kit::{Place, Ran, SCRIPT, problems};
use crate::server::{MODEL, Server};

/// Data of three questions as a data set publishes them.
fn train(place: &Place) {
    let rows: String = (1..=3)
        .map(|n| {
            let row = json!({"question": format!("What is {n} and {n}?"),
                "answer": format!("{n} + {n} = {0}\n#### {0}", 2 * n)});
            format!("{row}\n")
        })
        .collect();
    place.write("train.jsonl", &rows);
    place.done(&[
        "import",
        "gsm8k",
        "train.jsonl",
        "-o",
        "problems.jsonl",
        "--traces",
        "human.jsonl",
        "-q",
    ]);
}

/// Two samples of the last question, one of the first, in columns of one's own.
fn mine(place: &Place) {
    let row = |question: u32, answer: u32| {
        let row = json!({"q": format!("What is {question} and {question}?"),
            "completion": format!("It is {answer}.\n#### {answer}"), "gt": 2 * question, "run": 7});
        format!("{row}\n")
    };
    place.write("mine.jsonl", &[row(3, 6), row(3, 5), row(1, 2)].concat());
}

fn imported(place: &Place, more: &[&str]) -> Ran {
    let base = [
        "import",
        "gsm8k",
        "mine.jsonl",
        "--map",
        "question=q",
        "--map",
        "response=completion",
        "--model",
        "t",
        "--finish",
        "stop",
        "--traces",
        "sampled.jsonl",
    ];
    place.run(&[&base[..], more].concat())
}

#[test]
fn own_rows_answer_known_problems_by_their_questions() {
    let place = Place::new();
    train(&place);
    mine(&place);
    let ran = imported(&place, &["--problems", "problems.jsonl"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let traces = place.lines("sampled.jsonl");
    let ids: Vec<&str> = traces
        .iter()
        .map(|row| row["problem_id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, ["gsm8k/train/2", "gsm8k/train/2", "gsm8k/train/0"]);
    assert_eq!(traces[0]["origin"]["kind"], "sampled");
    assert_eq!(traces[0]["run"], 7);
    place.done(&[
        "verify",
        "--problems",
        "problems.jsonl",
        "--traces",
        "sampled.jsonl",
        "-o",
        "v.jsonl",
        "-q",
    ]);
    let verdicts: Vec<Value> = place
        .lines("v.jsonl")
        .iter()
        .map(|row| row["verdict"].clone())
        .collect();
    assert_eq!(verdicts, ["correct", "wrong", "correct"]);
    // The id of a row that is by chance a problem's does not decide against its question.
    let numbered = place
        .text("mine.jsonl")
        .replacen("{", "{\"id\":\"train/1\",", 1);
    place.write("mine.jsonl", &numbered);
    let ran = imported(&place, &["--problems", "problems.jsonl", "--overwrite"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(
        place.lines("sampled.jsonl")[0]["problem_id"],
        "gsm8k/train/2"
    );
    // An answer to a question that is none of them is refused by its line.
    let other = place
        .text("mine.jsonl")
        .replace("What is 1 and 1?", "What is 1 and 9?");
    place.write("mine.jsonl", &other);
    let ran = imported(&place, &["--problems", "problems.jsonl", "--overwrite"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("line 3"), "{}", ran.err);
}

#[test]
fn samples_of_one_question_are_of_one_problem_where_rows_number_it() {
    let place = Place::new();
    mine(&place);
    let ran = imported(&place, &["--map", "answer=gt", "-o", "p.jsonl"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(place.count("p.jsonl"), 2);
    let traces = place.lines("sampled.jsonl");
    assert_eq!(traces.len(), 3);
    assert_eq!(traces[0]["problem_id"], traces[1]["problem_id"]);
    assert_ne!(traces[0]["id"], traces[1]["id"]);
}

#[test]
fn a_row_number_of_another_file_names_no_problem_of_this_one() {
    let place = Place::new();
    train(&place);
    mine(&place);
    let ran = imported(&place, &["--map", "answer=gt", "-o", "p.jsonl"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    // Both files have a problem gsm8k/train/0: other questions.
    let words = "it answers another question than the problem `gsm8k/train/0`";
    let verify = |problems: &str, traces: &str| {
        place.run(&[
            "verify",
            "--problems",
            problems,
            "--traces",
            traces,
            "-o",
            "v.jsonl",
            "--overwrite",
        ])
    };
    for (problems, traces) in [
        ("p.jsonl", "human.jsonl"),
        ("problems.jsonl", "sampled.jsonl"),
    ] {
        let ran = verify(problems, traces);
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains(words), "{}", ran.err);
    }
    assert_eq!(verify("p.jsonl", "sampled.jsonl").code, 0);
    let ran = place.run(&[
        "arms",
        "--problems",
        "p.jsonl",
        "--traces",
        "sampled.jsonl",
        "--traces",
        "human.jsonl",
        "--verdicts",
        "v.jsonl",
        "-o",
        "arms",
    ]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains(words), "{}", ran.err);
}

#[test]
fn a_grader_of_ones_own_is_compared_on_any_columns() {
    let place = Place::new();
    place.write(
        "graded.csv",
        "question,response,gold,my_grade\n\
         q1,\\boxed{1/2},0.5,false\n\
         q2,\\boxed{3},4,no\n\
         q3,\\boxed{3},3,1\n\
         q4,\\boxed{3},4,true\n\
         q5,\\boxed{3},3,maybe\n",
    );
    let ran = place.run(&[
        "verify",
        "--task",
        "math",
        "--pairs",
        "graded.csv",
        "--map",
        "answer=response",
        "--theirs",
        "my_grade",
        "-o",
        "both.jsonl",
    ]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for words in [
        "2 of 4 answers that are right or wrong here have the same grade in `my_grade`",
        "of 1 it states neither right nor wrong",
        "2: correct here, false there",
        "5: wrong here, true there",
    ] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    let rows = place.lines("both.jsonl");
    assert_eq!(
        (&rows[1]["id"], &rows[1]["theirs"]),
        (&json!(3), &json!("no"))
    );
    let ran = place.run(&[
        "verify",
        "--task",
        "math",
        "--pairs",
        "graded.csv",
        "-o",
        "none.jsonl",
    ]);
    assert!(
        ran.err
            .contains("lacks the field `answer` (--map answer=COLUMN"),
        "{}",
        ran.err
    );
}

#[test]
fn a_split_that_no_problem_is_of_is_an_error() {
    let place = Place::new();
    place.write("p.jsonl", &problems(3));
    place.write("s.jsonl", SCRIPT);
    for command in ["eval", "generate"] {
        let ran = place.run(&[
            command,
            "--model",
            "scripted:s.jsonl",
            "--problems",
            "p.jsonl",
            "--split",
            "dev",
            "-o",
            "out.jsonl",
        ]);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(
            ran.err.contains("no problem of `p.jsonl` is of split dev")
                && ran.err.contains("its problems are of test"),
            "{}",
            ran.err
        );
        assert!(!place.path("out.jsonl").exists());
    }
}

#[test]
fn the_nearest_and_the_farthest_traces_are_shown() {
    let place = Place::new();
    place.copy_student("student");
    place.write("p.jsonl", &problems(2));
    place.write("s.jsonl", SCRIPT);
    place.done(&[
        "generate",
        "--model",
        "scripted:s.jsonl",
        "--problems",
        "p.jsonl",
        "-n",
        "2",
        "-o",
        "t.jsonl",
        "-q",
    ]);
    let out = place.done(&[
        "score",
        "--model",
        "student",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "-o",
        "scores.jsonl",
        "--show",
        "1",
    ]);
    let per_token: Vec<(f64, String)> = place
        .lines("scores.jsonl")
        .iter()
        .map(|row| {
            let nll = row["nll_nats"].as_f64().unwrap() / row["n_tokens"].as_f64().unwrap();
            (nll, row["trace_id"].as_str().unwrap().to_owned())
        })
        .collect();
    let nearest = per_token.iter().min_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    let farthest = per_token.iter().max_by(|a, b| a.0.total_cmp(&b.0)).unwrap();
    let lines: Vec<&str> = out.lines().collect();
    let after = |title: &str| {
        let at = lines
            .iter()
            .position(|line| line.starts_with(title))
            .unwrap();
        lines[at + 1]
    };
    assert!(after("nearest").contains(&nearest.1), "{out}");
    assert!(after("farthest").contains(&farthest.1), "{out}");
    let texts: Vec<String> = place
        .lines("t.jsonl")
        .iter()
        .map(|row| row["text"].as_str().unwrap().to_owned())
        .collect();
    assert!(
        texts.iter().any(|text| after("nearest").ends_with(text)),
        "{out}"
    );
}

#[test]
fn a_run_that_ended_before_its_first_job_takes_a_corrected_recipe() {
    let place = Place::new();
    let row = "{\"question\":\"1 + 1?\",\"answer\":\"2\\n#### 2\"}\n";
    place.write("train.jsonl", row);
    place.write("test.jsonl", &row.replace("1 + 1", "2 + 0"));
    place.copy_student("student");
    let recipe = |port: u16| {
        format!(
            "name = \"own\"\n\
             data = {{ task = \"gsm8k\", train = \"train.jsonl\", test = \"test.jsonl\" }}\n\
             models = {{ teacher = \"http://127.0.0.1:{port}/v1#m\", students = [\"student\"] }}\n\
             arms = {{ names = [\"G\"] }}\n"
        )
    };
    // Port 9 (discard) has no server.
    place.write("own.toml", &recipe(9));
    let ran = place.run(&["run", "own.toml", "--out", "r"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    place.write("own.toml", &recipe(1));
    let ran = place.run(&["run", "own.toml", "--out", "r"]);
    assert!(!ran.err.contains("other settings"), "{}", ran.err);
    assert!(place.text("r/recipe.toml").contains("127.0.0.1:1/"));
    // Once something was made, the recipe is the run's.
    std::fs::create_dir(place.path("r/data")).unwrap();
    place.write("own.toml", &recipe(2));
    let ran = place.run(&["run", "own.toml", "--out", "r"]);
    assert!(ran.err.contains("other settings"), "{}", ran.err);
}

#[test]
fn a_server_without_a_chat_template_can_be_a_recipes_teacher() {
    let place = Place::new();
    let server = Server::start(&place, &["--model", MODEL, "--template", "raw"]);
    let row = "{\"question\":\"1 + 1?\",\"answer\":\"2\\n#### 2\"}\n";
    place.write("train.jsonl", row);
    place.write("test.jsonl", &row.replace("1 + 1", "2 + 0"));
    place.write(
        "own.toml",
        &format!(
            "name = \"own\"\n\
             data = {{ task = \"gsm8k\", train = \"train.jsonl\", test = \"test.jsonl\" }}\n\
             models = {{ teacher = \"{}/v1#stories260K\", students = [\"{MODEL}\"], teacher_template = \"raw\" }}\n\
             generate = {{ n = 2, max_tokens = 4 }}\n\
             arms = {{ names = [\"G\"] }}\n",
            server.url()
        ),
    );
    let ran = place.run(&["run", "own.toml", "--out", "r", "--until", "generate"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert_eq!(place.count("r/data/r0/parts/sampled.jsonl"), 2);
}
