//! `idiolect run` on the seconds-long recipe: complete, repeatable, continued after kills.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::kit::Place;

/// Every file of a run with what must not differ between equal runs.
fn contents(place: &Place, run: &str) -> BTreeMap<String, Vec<u8>> {
    fn walk(folder: &Path, root: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            // Logs, events and the queue of a cluster.
            if path.ends_with("cluster") {
                continue;
            }
            if path.is_dir() {
                walk(&path, root, found);
                continue;
            }
            let name = path
                .strip_prefix(root)
                .unwrap()
                .to_string_lossy()
                .into_owned();
            if name == "events.jsonl" || name == "manifest.json" {
                continue;
            }
            let mut bytes = std::fs::read(&path).unwrap();
            if name.ends_with("log.jsonl") {
                bytes = without_wall_time(&bytes);
            }
            // Curves with the wall times of the log.
            if name.contains(".tfevents.") {
                bytes = format!("{:?}", crate::kit::curves(&path)).into_bytes();
            }
            found.insert(name, bytes);
        }
    }
    let root = place.path(run);
    let mut found = BTreeMap::new();
    walk(&root, &root, &mut found);
    found
}

fn without_wall_time(bytes: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        assert!(
            row.as_object_mut()
                .unwrap()
                .shift_remove("wall_s")
                .is_some()
        );
        format!("{row}\n")
    };
    text.lines().map(row).collect::<String>().into_bytes()
}

#[test]
fn crossed_arms_hold_copies_of_the_traces_of_g_and_w_that_differ_in_one_thing() {
    let place = Place::new();
    let names = r#"arms.names=["H","G","W","GH","WH","A","R","RR","F0@wrong","F50@right"]"#;
    place.done(&[
        "run", "tiny", "--out", "run", "--set", names, "--until", "arms", "-q",
    ]);
    let arms = |name: &str| place.lines(&format!("run/students/student/r0/arms/{name}.jsonl"));
    let texts = |name: &str| -> Vec<String> {
        let text = |row: &Value| row["completion"].as_str().unwrap().to_owned();
        arms(name).iter().map(text).collect()
    };
    let halves = |text: &str| -> (String, String) {
        let (steps, answer) = text.split_once(" | ans ").unwrap();
        (steps.to_owned(), answer.to_owned())
    };
    let (g, w) = (texts("G"), texts("W"));
    assert!(!g.is_empty() && g.len() == w.len());
    let verdicts: BTreeMap<String, String> = place
        .lines("run/data/r0/verdicts.jsonl")
        .iter()
        .map(|row| {
            let of = |key: &str| row[key].as_str().unwrap().to_owned();
            (of("trace_id"), of("verdict"))
        })
        .collect();
    for (arm, of, verdict) in [
        ("GH", &g, "correct"),
        ("WH", &w, "wrong"),
        ("A", &g, "correct"),
        ("RR", &g, "correct"),
        ("F0@wrong", &g, "wrong"),
        ("F50@right", &g, "correct"),
    ] {
        let rows = arms(arm);
        assert_eq!(rows.len(), g.len(), "{arm}");
        for (row, original) in rows.iter().zip(of) {
            assert_eq!(
                verdicts[row["trace_id"].as_str().unwrap()],
                verdict,
                "{arm}"
            );
            let text = row["completion"].as_str().unwrap();
            let (steps, answer) = halves(text);
            let (own_steps, own_answer) = halves(original);
            match arm {
                "GH" | "WH" => assert!(answer == own_answer && steps.ends_with(" .")),
                "A" => assert!(answer == own_answer && steps.is_empty()),
                "RR" | "F50@right" => assert_eq!(answer, own_answer, "{arm}"),
                _ => assert!(answer != own_answer && steps == own_steps),
            }
        }
    }
    // RR differs from R in its answer alone.
    let steps =
        |name: &str| -> Vec<String> { texts(name).iter().map(|text| halves(text).0).collect() };
    assert_eq!(steps("RR"), steps("R"));
    // What only a generated world can tell is refused where there is none.
    place.write("q.jsonl", &crate::kit::problems(4));
    place.write(
        "files.toml",
        "name = \"files\"\n[data]\ntask = \"gsm8k\"\ntrain = [\"q.jsonl\"]\n[models]\nteacher = \"t\"\nstudents = [\"s\"]\n[arms]\nnames = [\"GH\"]\n",
    );
    let refused = place.run(&["run", "files.toml", "--dry-run"]);
    assert!(
        refused.code != 0 && refused.err.contains("GH or WH"),
        "{}",
        refused.err
    );
}

/// The files in which two runs differ.
pub(crate) fn differing(place: &Place, one: &str, other: &str) -> Vec<String> {
    different(&contents(place, one), &contents(place, other))
}

fn different(one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let names: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
    names
        .into_iter()
        .filter(|name| one.get(*name) != other.get(*name))
        .cloned()
        .collect()
}

fn assert_same(one: &BTreeMap<String, Vec<u8>>, other: &BTreeMap<String, Vec<u8>>) {
    let different = different(one, other);
    assert!(different.is_empty(), "these files differ: {different:?}");
}

#[test]
fn a_run_ends_in_a_report_and_the_same_run_is_the_same_bytes_for_any_threads() {
    let place = Place::new();
    let table = place.done(&["run", "tiny", "--out", "a", "--threads", "1"]);
    assert!(
        table.contains("base") && table.contains("report"),
        "{table}"
    );
    for name in [
        "recipe.toml",
        "manifest.json",
        "events.jsonl",
        "plan.json",
        "data/r0/problems.jsonl",
        "data/r0/traces.jsonl",
        "data/r0/verdicts.jsonl",
        "students/student/r0/scores.jsonl",
        "students/student/r0/tokens.parquet",
        "models/r0/student/model.safetensors",
        "models/r0/teacher/config.json",
        "students/student/r0/arms/arms.json",
        "students/student/r0/arms/W.jsonl",
        "students/student/r0/train/W/1/model.safetensors",
        "students/student/r0/train/W/1/log.jsonl",
        "students/student/r0/eval/base/0/greedy.jsonl",
        "students/student/r0/eval/H/1/sampled.jsonl",
        "comparison.json",
        "report.html",
        "report.md",
    ] {
        assert!(place.path("a").join(name).is_file(), "no {name}");
    }
    let report = place.text("a/report.md");
    for arm in [
        "base (untrained student)",
        "W (teacher, wrong answer)",
        "H (human)",
    ] {
        assert!(report.contains(arm), "no {arm} in the report");
        assert!(table.contains(arm), "no {arm} in\n{table}");
    }
    assert!(
        report.contains("The recipe asks for the size tiny"),
        "{report}"
    );
    for foreign in ["official", "GPT-3", "GSM8K", "[.000, .000]", "1.5B"] {
        assert!(
            !report.contains(foreign),
            "{foreign} in the report of a generated world"
        );
    }
    place.done(&["run", "tiny", "--out", "b", "--threads", "3", "-q"]);
    let (a, b) = (contents(&place, "a"), contents(&place, "b"));
    assert_same(&a, &b);

    place.done(&["run", "tiny", "--out", "a", "-q"]);
    assert_same(&a, &contents(&place, "a"));
    place.done(&[
        "run",
        "tiny",
        "--out",
        "b",
        "--set",
        "seed=1",
        "--overwrite",
        "-q",
    ]);
    let problems = "data/r0/problems.jsonl";
    assert_ne!(a[problems], contents(&place, "b")[problems]);

    // What arms are compared with changes the comparison alone.
    let train = "students/student/r0/train/W/0/model.safetensors";
    let other = r#"arms.baselines=["base"]"#;
    place.done(&["run", "tiny", "--out", "a", "--set", other, "-q"]);
    let compared: Value = serde_json::from_str(&place.text("a/comparison.json")).unwrap();
    assert_eq!(compared["baselines"], serde_json::json!(["base"]));
    assert_eq!(a[train], contents(&place, "a")[train]);
}

#[test]
fn arms_hold_train_problems_only_and_w_only_finished_readable_wrong_traces() {
    let place = Place::new();
    place.copy_run("r", &["--until", "arms"]);
    let by = |file: &str, key: &str| -> BTreeMap<String, Value> {
        let rows = place.lines(&format!("r/data/r0/{file}"));
        rows.into_iter()
            .map(|row| (row[key].as_str().unwrap().to_owned(), row))
            .collect()
    };
    let (problems, traces) = (by("problems.jsonl", "id"), by("traces.jsonl", "id"));
    let verdicts = by("verdicts.jsonl", "trace_id");
    let mut sets = Vec::new();
    for arm in ["H", "W"] {
        let rows = place.lines(&format!("r/students/student/r0/arms/{arm}.jsonl"));
        assert!(rows.len() > 3, "{arm} has {} rows", rows.len());
        for row in &rows {
            let (problem, trace) = (
                row["problem_id"].as_str().unwrap(),
                row["trace_id"].as_str().unwrap(),
            );
            assert_eq!(problems[problem]["split"], "train");
            assert_eq!(row["completion"], traces[trace]["text"]);
            if arm == "W" {
                assert_eq!(verdicts[trace]["verdict"], "wrong");
                assert!(verdicts[trace]["extracted"].is_string());
                assert_eq!(traces[trace]["finish"], "stop");
            }
        }
        sets.push(
            rows.iter()
                .map(|row| row["problem_id"].to_string())
                .collect::<BTreeSet<_>>(),
        );
    }
    assert_eq!(sets[0], sets[1], "arms are matched on problems");
    assert!(
        !place.path("r/students/student/r0/train").exists(),
        "--until arms stops before training"
    );
}

#[test]
fn a_run_killed_at_many_moments_ends_in_the_bytes_of_an_uninterrupted_one() {
    let place = Place::new();
    let begun = Instant::now();
    place.done(&["run", "tiny", "--out", "whole", "-q"]);
    let whole = begun.elapsed();
    let mut killed = 0;
    for part in 1..=8 {
        let mut child = place
            .command(&["run", "tiny", "--out", "killed", "-q"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // Uneven moments over the whole of a run; what was done before makes later ones reach on.
        std::thread::sleep(whole.mul_f64(f64::from(part) * 0.07) + Duration::from_millis(3));
        killed += usize::from(child.try_wait().unwrap().is_none());
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(killed > 0, "no kill hit");
    place.done(&["run", "tiny", "--out", "killed", "-q"]);
    assert_same(&contents(&place, "whole"), &contents(&place, "killed"));
}

#[test]
fn changed_settings_are_refused_by_name_and_nothing_is_touched() {
    let place = Place::new();
    place.done(&["run", "tiny", "--out", "r", "-q", "--until", "data"]);
    let before = contents(&place, "r");
    let ran = place.run(&["run", "tiny", "--out", "r", "-q", "--set", "train.epochs=3"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.err.contains("train.epochs: 2 -> 3") && ran.err.contains("--overwrite"),
        "{}",
        ran.err
    );
    assert_same(&before, &contents(&place, "r"));

    place.write("mine/notes.txt", "");
    let ran = place.run(&["run", "tiny", "--out", "mine", "-q"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("holds no run"), "{}", ran.err);
}

#[test]
fn what_cannot_be_run_is_reported_before_anything_is_written() {
    let place = Place::new();
    place.write("ask.txt", "Solve it.");
    let wrong: [(&[&str], &str); 9] = [
        (
            &["run", "tiny", "--dry-run", "--set", "data.prompt=ask.txt"],
            "`data.prompt`: the prompt `ask.txt` lacks `{question}`",
        ),
        (&["run", "nowhere.toml"], "built-in recipes"),
        (
            &["run", "tiny", "--set", "train.epoch=3"],
            "the nearest is `epochs`",
        ),
        (&["run", "tiny", "--set", "arms"], "KEY=VALUE"),
        (
            &["run", "tiny", "--dry-run", "--set", "train.epochs=one"],
            "--set train.epochs=one: `train.epochs` is \"one\": expected a whole number",
        ),
        (
            &[
                "run",
                "tiny",
                "--dry-run",
                "--set",
                "arms.baselines=[\"Q\"]",
            ],
            "`arms.baselines` names `Q`, which is not compared: there are base, H, G",
        ),
        (
            &["run", "tiny", "--dry-run", "--set", "arms.rows=0"],
            "`arms.rows` must be at least 1",
        ),
        (&["run", "tiny", "--until", "lunch"], "pretrain"),
        (&["run", "--set", "scale=huge"], "full"),
    ];
    for (arguments, words) in wrong {
        let ran = place.run(arguments);
        assert_eq!(ran.code, 2, "{arguments:?}: {}", ran.err);
        assert!(ran.err.contains(words), "{arguments:?}: {}", ran.err);
    }
    let ran = place
        .command(&["run", "gsm8k-real", "-q"])
        .env_remove("IDIOLECT_DATA")
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(1));
    assert!(words.contains("IDIOLECT_DATA"), "{words}");

    let plan = place.done(&["run", "--dry-run"]);
    assert!(
        plan.contains("600 test problems") && plan.contains("student"),
        "{plan}"
    );
    assert!(!place.path("runs/default").exists());
}

#[test]
fn a_world_of_stories_is_written_by_models_of_other_families_and_judged_as_gsm8k() {
    let place = Place::new();
    let sets = [
        "data.world=stories",
        "models.student.scratch.family=gemma2",
        "models.teacher.scratch.family=qwen2",
        "arms.names=[\"G\",\"W\",\"S\"]",
        "arms.baselines=[\"base\"]",
    ];
    let mut command = vec!["run", "tiny", "--out", "a", "--until", "score", "-q"];
    command.extend(sets.iter().flat_map(|set| ["--set", set]));
    place.done(&command);
    let config = |model: &str| -> Value {
        serde_json::from_slice(
            &std::fs::read(place.path(&format!("a/models/r0/{model}/config.json"))).unwrap(),
        )
        .unwrap()
    };
    assert_eq!(config("student")["model_type"], "gemma2");
    assert_eq!(config("teacher")["model_type"], "qwen2");
    let mut traces = place.lines("a/data/r0/traces.jsonl");
    traces.extend(place.lines("a/students/student/r0/own.jsonl"));
    let models: BTreeSet<&str> = traces
        .iter()
        .filter(|trace| trace["origin"]["kind"] == "sampled")
        .filter_map(|trace| trace["origin"]["model"].as_str())
        .collect();
    assert_eq!(
        models.len(),
        2,
        "the teacher's samples and the student's own: {models:?}"
    );
    let verdicts = place.lines("a/data/r0/verdicts.jsonl");
    assert!(
        verdicts
            .iter()
            .all(|row| row["verifier"].as_str().unwrap().starts_with("gsm8k@"))
    );
    let human: BTreeSet<&str> = traces
        .iter()
        .filter(|trace| trace["origin"]["kind"] == "human")
        .filter_map(|trace| trace["id"].as_str())
        .collect();
    let of_humans = verdicts
        .iter()
        .filter(|row| human.contains(row["trace_id"].as_str().unwrap()));
    assert!(of_humans.clone().count() > 0);
    assert!(of_humans.clone().all(|row| row["verdict"] == "correct"));
}

#[test]
fn an_arm_that_cannot_be_read_is_refused_before_anything_is_done() {
    let place = Place::new();
    let ran = place.run(&["run", "tiny", "--out", "a", "--set", "arms.names=[\"X\"]"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("F1 to F100"), "{}", ran.err);
    assert!(!place.path("a").exists());
}

#[test]
fn a_run_goes_to_the_directory_of_its_recipes_name() {
    let place = Place::new();
    let recipe = include_str!("../../../../recipes/tiny.toml")
        .replace("\"tiny\"\nabout", "\"mine-2.5\"\nabout");
    place.write("other.toml", &recipe);
    for (arguments, dir) in [
        (&["other.toml"][..], "runs/mine-2.5"),
        (&["tiny"], "runs/tiny"),
        (&["tiny", "--set", "name=third"], "runs/third"),
        (&["tiny", "--out", "elsewhere"], "elsewhere"),
    ] {
        let plan = place.done(&[&["run", "--dry-run"], arguments].concat());
        assert!(plan.contains(&format!("would write {dir} ")), "{plan}");
        assert!(!place.path(dir).exists());
        place.done(&[&["run", "--until", "data", "-q"], arguments].concat());
        assert!(place.path(dir).join("recipe.toml").exists(), "{dir}");
    }
    for name in ["a/b", "", ".", "../up"] {
        let set = format!("name={name:?}");
        let ran = place.run(&["run", "tiny", "--set", &set, "--dry-run"]);
        assert_eq!(ran.code, 2, "{}", ran.err);
        assert!(ran.err.contains("is no name of a directory"), "{}", ran.err);
        place.done(&["run", "tiny", "--set", &set, "--dry-run", "--out", "o"]);
    }
}

#[test]
fn a_plan_says_which_inputs_are_missing() {
    let place = Place::new();
    let plan = |more: &[&str]| {
        let command = [&["run", "gsm8k-real"], more].concat();
        let ran = place
            .command(&command)
            .env("IDIOLECT_DATA", place.path("data"))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (ran.status.code(), text(ran.stdout), text(ran.stderr))
    };
    let question = "{\"question\":\"1 + 1?\",\"answer\":\"2\\n#### 2\"}\n";
    place.write("data/gsm8k/test.jsonl", question);
    let (code, out, err) = plan(&["--dry-run", "--set", "models.students=nowhere"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(out.is_empty(), "{out}");
    for words in [
        "models.students: no model directory `nowhere`",
        "data.traces: no file `traces/*__gsm8k__*`",
    ] {
        assert!(err.contains(words), "{words}: {err}");
    }
    assert!(!err.contains("data.train"), "{err}");
    // The run itself stops there too, and leaves nothing behind.
    let (code, _, err) = plan(&["--out", "r"]);
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("models.student.scratch.text: no file `gsm8k/train.jsonl`"),
        "{err}"
    );
    assert!(!place.path("r").exists());

    place.write("data/gsm8k/train.jsonl", question);
    place.write(
        "data/traces/openai__gsm8k__x.jsonl",
        "{\"problem_id\":\"gsm8k/test/0\",\"model\":\"m\",\"kind\":\"cot\",\"response\":\"#### 2\"}\n",
    );
    let sets = [
        "--set",
        "data.test_fraction=0.9",
        "--set",
        "data.dev_fraction=0.0",
    ];
    let (code, out, err) = plan(&[&["--dry-run"][..], &sets].concat());
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("would write runs/gsm8k-real"), "{out}");
    std::fs::create_dir(place.path("empty")).unwrap();
    let (code, _, err) = plan(&["--dry-run", "--set", "models.students=empty"]);
    assert_eq!(code, Some(1));
    assert!(
        err.contains("models.students: ") && err.contains("config.json"),
        "{err}"
    );
}
