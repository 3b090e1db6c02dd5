//! A recipe over a user's own files, with models that exist: every task runs to a report.

use serde_json::{Value, json};

use crate::kit::Place;

/// A row of problems with column names of its own, a right and a wrong answer to it.
pub(crate) type Case = (Value, String, String);

fn gsm8k(n: usize) -> Case {
    let sum = n + n + 2;
    let q = format!(
        "Ann has {n} pens and buys {} more. How many has she?",
        n + 2
    );
    let solution = format!("{n} + {} = {sum}\n#### {sum}", n + 2);
    (
        json!({"q": q, "solution_text": solution}),
        format!("So she has {sum}.\n#### {sum}"),
        format!("Perhaps.\n#### {}", sum + 1),
    )
}

fn math(n: usize) -> Case {
    let q = format!("Find $x$ if $x - {n} = 3$.");
    let solution = format!("$x = {n} + 3 = \\boxed{{{}}}$.", n + 3);
    (
        json!({"q": q, "solution_text": solution}),
        format!("It is $\\boxed{{{}}}$.", n + 3),
        format!("It is $\\boxed{{{}}}$.", n + 4),
    )
}

fn countdown(n: usize) -> Case {
    let (a, b, c) = (n + 1, n + 3, 2);
    let right = format!("<answer>{a} + {b} + {c}</answer>");
    (
        json!({"q": format!("Case {n}: make {} of {a}, {b} and {c}.", a + b + c), "pool": [a, b, c], "goal": a + b + c, "solution_text": right}),
        format!("Add them. {right}"),
        format!("<answer>{a} + {b} - {c}</answer>"),
    )
}

fn mbpp(n: usize) -> Case {
    let q = format!("Write a function f{n} that adds {n} to a number.");
    let code = format!("def f{n}(x):\n    return x + {n}");
    let wrong = format!("def f{n}(x):\n    return x - {n} - 1");
    (
        json!({"q": q, "solution_text": code, "checks": [format!("assert f{n}(1) == {}", n + 1)]}),
        format!("```python\n{code}\n```"),
        format!("```python\n{wrong}\n```"),
    )
}

/// Three files of a task, two student directories and a scripted teacher, with a recipe.
pub(crate) fn place(task: &str, case: fn(usize) -> Case, columns: &str) -> Place {
    let place = Place::new();
    let mut script = String::new();
    for (file, range) in [("train", 0..24), ("dev", 24..28), ("test", 28..36)] {
        let mut rows = String::new();
        for n in range {
            let (row, right, wrong) = case(n);
            let asked = row["q"].as_str().unwrap();
            script += &format!(
                "{}\n",
                json!({"contains": asked, "completions": [right, wrong]})
            );
            rows += &format!("{row}\n");
        }
        place.write(&format!("mine/{file}.jsonl"), &rows);
    }
    script += &format!("{}\n", json!({"completions": ["no idea"]}));
    place.write("mine/answers.jsonl", &script);
    for student in ["small", "other"] {
        place.copy_student(&format!("mine/{student}"));
    }
    place.write(
        "mine/recipe.toml",
        &format!(
            r#"name = "mine"
data = {{ task = "{task}", train = "train.jsonl", dev = "dev.jsonl", test = "test.jsonl", columns = {{ {columns} }} }}
models = {{ teacher = "scripted:answers.jsonl", students = ["small", "other"] }}
generate = {{ n = 6, max_tokens = 64 }}
arms = {{ names = ["H", "G", "W"], baselines = ["base", "H"] }}
train = {{ seeds = 1, lr = 1e-4 }}
eval = {{ max_tokens = 4 }}
"#
        ),
    );
    place
}

/// A task's name, its cases, and the columns of its recipe.
pub(crate) type Sample = (&'static str, fn(usize) -> Case, &'static str);

pub(crate) const TASKS: [Sample; 4] = [
    (
        "gsm8k",
        gsm8k,
        r#"question = "q", answer = "solution_text""#,
    ),
    ("math", math, r#"problem = "q", solution = "solution_text""#),
    (
        "countdown",
        countdown,
        r#"question = "q", numbers = "pool", target = "goal", human = "solution_text""#,
    ),
    (
        "mbpp",
        mbpp,
        r#"question = "q", human = "solution_text", tests = "checks""#,
    ),
];

fn jobs(place: &Place, run: &str) -> Vec<Value> {
    let listed: Value = serde_json::from_str(&place.done(&["jobs", run, "--json"])).unwrap();
    listed["jobs"].as_array().unwrap().clone()
}

/// The ids of the jobs that wait.
fn waiting(jobs: &[Value]) -> Vec<&str> {
    let waiting = jobs.iter().filter(|job| job["state"] == "waiting");
    waiting.map(|job| job["id"].as_str().unwrap()).collect()
}

#[test]
fn own_files_of_every_task_and_two_students_end_in_a_report() {
    for (task, case, columns) in TASKS {
        let place = place(task, case, columns);
        let plan = place.done(&["run", "mine/recipe.toml", "--dry-run"]);
        assert!(
            plan.contains("problems: about 24 train, 4 dev, 8 test")
                && plan.contains("student(s) small, other"),
            "{plan}"
        );
        assert!(!place.path("runs").exists());
        let shown = place.done(&["run", "mine/recipe.toml", "-q"]);
        assert!(
            shown.contains("student small") && shown.contains("W (teacher, wrong answer)"),
            "{task}: {shown}"
        );
        let verdicts = place.lines("runs/mine/data/r0/verdicts.jsonl");
        for verdict in ["correct", "wrong"] {
            let n = verdicts
                .iter()
                .filter(|row| row["verdict"] == verdict)
                .count();
            assert!(n >= 16, "{task}: {n} {verdict} of {}", verdicts.len());
        }
        for student in ["small", "other"] {
            let trained = place
                .lines(&format!("runs/mine/students/{student}/r0/arms/W.jsonl"))
                .len();
            assert!(trained >= 12, "{task}: {trained}");
            for file in [
                "scores.jsonl",
                "tokens.parquet",
                "train/G/0/model.safetensors",
                "eval/W/0/greedy.jsonl",
                "eval/base/0/dev.jsonl",
            ] {
                assert!(
                    place
                        .path(&format!("runs/mine/students/{student}/r0/{file}"))
                        .exists(),
                    "{task}: {student} {file}"
                );
            }
            assert!(
                place
                    .path(&format!("runs/mine/students/{student}/report.html"))
                    .exists()
            );
        }
        let overview = place.text("runs/mine/report.html");
        assert!(overview.contains("students/other/report.html"), "{task}");
        let comparison: Value =
            serde_json::from_str(&place.text("runs/mine/comparison.json")).unwrap();
        assert_eq!(comparison["students"].as_object().unwrap().len(), 2);
        assert!(
            jobs(&place, "runs/mine")
                .iter()
                .all(|job| job["state"] == "done")
        );
        let status = place.done(&["status", "runs/mine"]);
        assert!(status.contains("jobs done"), "{status}");
        // Trained in the same way from the same weights: the second student ends where the first does.
        assert_eq!(
            place.bytes("runs/mine/students/small/r0/train/W/0/model.safetensors"),
            place.bytes("runs/mine/students/other/r0/train/W/0/model.safetensors")
        );
    }
}

#[test]
fn jobs_done_one_by_one_in_other_processes_give_the_same_bytes() {
    let place = place(
        "gsm8k",
        gsm8k,
        r#"question = "q", answer = "solution_text""#,
    );
    place.done(&["run", "mine/recipe.toml", "--out", "whole", "-q"]);
    place.done(&[
        "run",
        "mine/recipe.toml",
        "--out",
        "parts",
        "-q",
        "--until",
        "data",
    ]);
    let listed = jobs(&place, "parts");
    let waiting = waiting(&listed);
    assert!(
        waiting.len() > 15 && waiting.len() < listed.len(),
        "{waiting:?}"
    );
    // Too early: what it reads is not there, and it states whose work that is.
    let ran = place.run(&["job", "parts", waiting[waiting.len() - 1]]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("mine/r0/traces"), "{}", ran.err);
    let ran = place.run(&["job", "parts", "mine/r0/lunch"]);
    assert_eq!(ran.code, 2);
    assert!(ran.err.contains("idiolect jobs"), "{}", ran.err);
    for id in &waiting {
        // From another folder: the run remembers where its files lie.
        let ran = place
            .command(&["job", "../parts", id, "-q"])
            .current_dir(place.path("whole"))
            .output()
            .unwrap();
        assert!(
            ran.status.success(),
            "{id}: {}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }
    let again = place.done(&["job", "parts", waiting[3], "-q"]);
    assert!(again.contains("done"), "{again}");
    assert_eq!(
        crate::run::differing(&place, "whole", "parts"),
        Vec::<String>::new()
    );
}

#[test]
fn long_stages_split_into_jobs_by_problem_give_the_same_bytes() {
    let place = place(
        "gsm8k",
        gsm8k,
        r#"question = "q", answer = "solution_text""#,
    );
    // A rewriting that is faithful, or at fault and tried again.
    let rewriting = |n: usize| {
        let sum = format!("{n} + {} = {}", n + 2, n + n + 2);
        let faithful = format!("We add: {sum}.\n#### {}", n + n + 2);
        format!(
            "{}\n",
            json!({"contains": sum, "completions": [faithful, "no idea"]})
        )
    };
    let rewritings: String = (0..24).map(rewriting).collect();
    let script = rewritings + &place.text("mine/answers.jsonl");
    place.write("mine/answers.jsonl", &script);
    let run = |out: &str, more: &[&str]| {
        let sampled = ["--set", "eval.n=2", "--set", "eval.temperature=0.7", "-q"];
        let rewritten = [
            "--set",
            r#"arms.names=["H", "G", "W", "P"]"#,
            "--set",
            "paraphrase.temperature=0.7",
            "--set",
            "paraphrase.retries=1",
        ];
        let mut arguments = vec!["run", "mine/recipe.toml", "--out", out];
        arguments.extend(sampled.iter().chain(&rewritten).chain(more));
        place.done(&arguments);
    };
    run("whole", &[]);
    let split = ["--set", "execute.rows_per_shard=15"];
    run("split", &split);
    run("parts", &[&split[..], &["--until", "data"]].concat());
    let listed = jobs(&place, "parts");
    let waiting = waiting(&listed);
    for stage in [
        "generate",
        "paraphrase",
        "verify/sampled",
        "small/score",
        "small/W/seed0/eval",
    ] {
        let shards = waiting
            .iter()
            .filter(|id| id.contains(&format!("{stage}/shard-")));
        assert!(shards.count() > 1, "{stage} of {waiting:?}");
    }
    for id in &waiting {
        place.done(&["job", "parts", id, "-q"]);
    }
    // They name the settings.
    let may_differ = ["plan.json", "recipe.toml", "report.md", "report.html"];
    for run in ["split", "parts"] {
        let differing = crate::run::differing(&place, "whole", run);
        assert!(
            differing
                .iter()
                .all(|name| may_differ.iter().any(|end| name.ends_with(end))),
            "{run}: {differing:?}"
        );
        // The shards are gone, and their jobs are done.
        let status = place.done(&["status", run]);
        assert!(
            status.starts_with(&format!("{} of {} jobs done", listed.len(), listed.len())),
            "{status}"
        );
    }
}

#[test]
fn a_column_or_a_file_that_is_not_there_is_said_before_anything_is_done() {
    let place = place(
        "gsm8k",
        gsm8k,
        r#"question = "q", answer = "solution_text""#,
    );
    for (set, words) in [
        (
            "data.columns={question=\"query\"}",
            "no file of the recipe has a column `query`",
        ),
        ("data.train=nothing.jsonl", "no file `nothing.jsonl`"),
        ("models.students=[\"gone\"]", "no model directory `gone`"),
        ("models.teacher=scripted:gone.jsonl", "no script"),
        (
            "models.students=[\"http://127.0.0.1:1/v1#m\"]",
            "no weights to train",
        ),
        (
            "data.world=countdown",
            "both a `task` and a generated `world`",
        ),
    ] {
        let ran = place.run(&["run", "mine/recipe.toml", "--set", set]);
        assert!(ran.code == 1 || ran.code == 2, "{set}: {}", ran.code);
        assert!(ran.err.contains(words), "{set}: {}", ran.err);
        assert!(!place.path("runs").exists(), "{set}");
    }
    let without = place.run(&[
        "run",
        "mine/recipe.toml",
        "--set",
        "models.teacher=",
        "--dry-run",
    ]);
    assert_ne!(without.code, 0);
}

#[test]
fn an_arm_without_a_trace_is_told_before_scoring_and_the_run_goes_on_without_it() {
    let (task, case, columns) = TASKS[0];
    let place = place(task, case, columns);
    let always_wrong = json!({"completions": ["Perhaps.\n#### 1000"]});
    place.write("mine/answers.jsonl", &format!("{always_wrong}\n"));

    let ran = place.run(&["run", "mine/recipe.toml"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("arm `G` covers no training problem")
            && ran.err.contains(r#"--set 'arms.names=["H", "W"]'"#),
        "{}",
        ran.err
    );
    let sampled = place.bytes("runs/mine/data/r0/parts/sampled.jsonl");
    assert!(
        !place
            .path("runs/mine/students/small/r0/scores.jsonl")
            .exists()
    );

    let fewer = [
        "run",
        "mine/recipe.toml",
        "--set",
        r#"arms.names=["H", "W"]"#,
    ];
    let shown = place.done(&fewer);
    assert!(
        shown.contains("W (teacher, wrong answer)") && !shown.contains("G (teacher"),
        "{shown}"
    );
    assert_eq!(
        place.bytes("runs/mine/data/r0/parts/sampled.jsonl"),
        sampled
    );

    // What scores and arms were made of is there now, so other arms are another experiment.
    let ran = place.run(&["run", "mine/recipe.toml", "--set", r#"arms.names=["H"]"#]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("arms.names: [\"H\", \"W\"] -> [\"H\"]"),
        "{}",
        ran.err
    );
}

#[test]
fn init_writes_a_recipe_and_no_file_is_written_over() {
    let place = Place::new();
    for task in ["gsm8k", "math", "countdown", "mbpp"] {
        let text = place.done(&["init", task]);
        assert!(text.contains(&format!("task = \"{task}\"")), "{text}");
    }
    place.done(&["init", "mbpp", "-o", "r.toml"]);
    let ran = place.run(&["init", "math", "-o", "r.toml"]);
    assert_eq!(ran.code, 2);
    assert!(place.text("r.toml").contains("mbpp"), "{}", ran.err);
    let ran = place.run(&["run", "r.toml"]);
    assert!(ran.err.contains("train.jsonl"), "{}", ran.err);
}

#[test]
fn copies_of_other_models_are_refused_once_the_traces_to_copy_are_chosen() {
    let (task, case, columns) = TASKS[0];
    let place = place(task, case, columns);
    let with = |arms: &str| {
        let names = format!("arms.names={arms}");
        place.run(&["run", "mine/recipe.toml", "--set", &names])
    };
    let ran = with(r#"["H", "G", "A", "none=W[model=nobody]"]"#);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("covers no training problem"),
        "{}",
        ran.err
    );
    let ran = with(r#"["H", "G", "A=A[model!=other]"]"#);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("arms.names: "), "{}", ran.err);
    // The same copies without the arm that nothing represents.
    let ran = with(r#"["H", "G", "A"]"#);
    assert_eq!(ran.code, 0, "{}", ran.err);
}
