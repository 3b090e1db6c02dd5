//! What a command writes never destroys what it reads or what it did not make. That every command
//! looks is tested over the table of commands, in `command/paths.rs`; here whole commands run.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::kit::{Place, SCRIPT, problems, traces};

/// Command lines with `{name}` for an input, and with the arguments that are outputs.
const LINES: [(&str, &[&str]); 14] = [
    (
        "import gsm8k {rows} -o OUT1 --traces OUT2",
        &["OUT1", "OUT2"],
    ),
    (
        "generate --model scripted:{script} --problems {problems} -o OUT1",
        &["OUT1"],
    ),
    (
        "generate --model http://127.0.0.1:1/v1#m --problems {problems} --batch OUT1 -o OUT2",
        &["OUT1", "OUT2"],
    ),
    (
        "paraphrase --model scripted:{script} --problems {problems} --traces {traces} -o OUT1",
        &["OUT1"],
    ),
    (
        "corrupt --problems {problems} --traces {traces} --dose 0.5 -o OUT1",
        &["OUT1"],
    ),
    (
        "verify --problems {problems} --traces {traces} -o OUT1",
        &["OUT1"],
    ),
    ("verify --task math --pairs {pairs} -o OUT1", &["OUT1"]),
    (
        "score --model {model} --data {data} -o OUT1 --tokens OUT2",
        &["OUT1", "OUT2"],
    ),
    (
        "arms --problems {problems} --traces {traces} --verdicts {verdicts} -o OUT1",
        &["OUT1"],
    ),
    (
        "train --model {model} --data {data} --dev {data2} -o OUT1",
        &["OUT1"],
    ),
    (
        "eval --model scripted:{script} --problems {problems} -o OUT1",
        &["OUT1"],
    ),
    ("compare a={verdicts} b={traces} --report OUT1", &["OUT1"]),
    (
        "inspect --model {model} --data {data} --html OUT1",
        &["OUT1"],
    ),
    ("convert {model} --to merged -o OUT1", &["OUT1"]),
];

/// The files of a folder with what they hold, links with where they lead.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            files.push((name, target.into_os_string().into_encoded_bytes()));
        } else if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.push((name, fs::read(&path).unwrap()));
        }
    }
    files.sort();
    files
}

#[test]
fn an_output_that_is_an_input_is_refused_and_both_stay() {
    let mut tried = 0;
    for (line, outputs) in LINES {
        let words: Vec<&str> = line.split(' ').collect();
        let inputs: Vec<&str> = words
            .iter()
            .filter_map(|word| word.split_once('{')?.1.strip_suffix('}'))
            .collect();
        for output in outputs {
            let others = outputs.iter().filter(|other| other != &output).copied();
            for other in inputs.iter().copied().chain(others) {
                for kind in ["same", "overwrite", "hard", "soft", "parent", "journal"] {
                    let place = Place::new();
                    for input in &inputs {
                        place.write(&format!("in/{input}"), &format!("{{\"it\":\"{input}\"}}\n"));
                    }
                    // The other path, and what the output is then called.
                    let other_path = match (kind, inputs.contains(&other)) {
                        ("parent", _) => format!("in/sub/{other}"),
                        ("journal", _) => format!("in/{other}.part"),
                        (_, true) => format!("in/{other}"),
                        (_, false) => format!("in/{other}.new"),
                    };
                    if inputs.contains(&other) {
                        place.write(&other_path, "{\"it\":\"other\"}\n");
                    }
                    let is_there = place.path(&other_path).exists();
                    let output_path = match kind {
                        "hard" | "soft" if !is_there => continue,
                        "hard" => {
                            fs::hard_link(place.path(&other_path), place.path("in/hard")).unwrap();
                            "in/hard".to_owned()
                        }
                        "soft" if cfg!(not(unix)) => continue,
                        "soft" => {
                            #[cfg(unix)]
                            std::os::unix::fs::symlink(other, place.path("in/soft")).unwrap();
                            "in/soft".to_owned()
                        }
                        "parent" => "in/sub".to_owned(),
                        "journal" => format!("in/{other}"),
                        _ => other_path.clone(),
                    };
                    let before = contents(&place.path(""));
                    let mut arguments: Vec<String> = words
                        .iter()
                        .map(|word| {
                            let mut word = (*word).to_owned();
                            for input in &inputs {
                                let path = match input == &other {
                                    true => other_path.clone(),
                                    false => format!("in/{input}"),
                                };
                                word = word.replace(&format!("{{{input}}}"), &path);
                            }
                            match word.as_str() {
                                same if same == *output => output_path.clone(),
                                same if same == other => other_path.clone(),
                                free if free.starts_with("OUT") => format!("in/{free}"),
                                _ => word,
                            }
                        })
                        .collect();
                    if kind == "overwrite" && !matches!(words[0], "compare" | "inspect") {
                        arguments.push("--overwrite".to_owned());
                    }
                    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
                    let ran = place.run(&arguments);
                    assert_eq!(ran.code, 2, "{kind} {arguments:?}: {}", ran.err);
                    let named = ran.err.contains(&output_path) || ran.err.contains("symbolic link");
                    assert!(named, "{kind} {arguments:?}: {}", ran.err);
                    assert_eq!(contents(&place.path("")), before, "{kind} {arguments:?}");
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 150, "{tried}");
}

#[test]
fn overwrite_removes_nothing_that_was_not_made_here() {
    let place = Place::new();
    place.write("s.jsonl", SCRIPT);
    place.write("p.jsonl", &problems(2));
    place.write("mine.jsonl", "{\"mine\":1}\n");
    place.write("mine.html", "<p>mine</p>");
    place.write("mine.parquet", "PAR1");
    place.write("model/notes.md", "mine");
    place.write("e.jsonl", &format!("{}\n", json!({"mine": 1})));
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/stories260K");
    place.write(
        "d.jsonl",
        &format!("{}\n", json!({"prompt": "Once", "completion": " upon"})),
    );
    let before = contents(&place.path(""));
    let eval = [
        "eval",
        "--model",
        "scripted:s.jsonl",
        "--problems",
        "p.jsonl",
        "--overwrite",
        "-o",
        "mine.jsonl",
    ];
    let score = [
        "score",
        "--model",
        model,
        "--data",
        "d.jsonl",
        "--overwrite",
        "-o",
        "mine.jsonl",
    ];
    let tokens = [
        "score",
        "--model",
        model,
        "--data",
        "d.jsonl",
        "-o",
        "s2.jsonl",
        "--tokens",
        "mine.parquet",
        "--overwrite",
    ];
    let train = [
        "train",
        "--model",
        model,
        "--data",
        "d.jsonl",
        "--overwrite",
        "-o",
        "model",
    ];
    let inspect = [
        "inspect",
        "--model",
        model,
        "--data",
        "d.jsonl",
        "--html",
        "mine.html",
    ];
    for line in [&eval[..], &score, &tokens, &train, &inspect] {
        let ran = place.run(line);
        assert_eq!(ran.code, 1, "{line:?}: {}", ran.err);
        assert!(
            ran.err.contains("was not made by this program")
                && ran.err.contains("nothing was changed"),
            "{line:?}: {}",
            ran.err
        );
        assert_eq!(contents(&place.path("")), before, "{line:?}");
    }
    // A run in a folder of the user's own, which has a recipe of that name.
    place.write("project/recipe.toml", "name = \"mine\" # my notes\n");
    place.write("project/thesis.tex", "mine");
    let before = contents(&place.path(""));
    for more in [&[][..], &["--overwrite"]] {
        let line = [&["run", "tiny", "--out", "project", "-q"][..], more].concat();
        let ran = place.run(&line);
        assert!(ran.code == 1 || ran.code == 2, "{}", ran.err);
        let unchanged = contents(&place.path(""))
            .into_iter()
            .filter(|(name, _)| !name.ends_with(".lock"));
        assert_eq!(unchanged.collect::<Vec<_>>(), before);
    }
}

#[test]
fn a_flipped_verdict_is_told_before_it_is_used() {
    let place = Place::new();
    place.write("p.jsonl", &problems(4));
    place.write(
        "t.jsonl",
        &traces(&[("0", "#### 1"), ("1", "#### 2"), ("2", "#### 1")]),
    );
    place.done(&[
        "verify",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "-o",
        "v.jsonl",
    ]);
    let flipped = place.text("v.jsonl").replace("wrong", "right");
    place.write("v.jsonl", &flipped);
    let arms = [
        "arms",
        "--problems",
        "p.jsonl",
        "--traces",
        "t.jsonl",
        "--verdicts",
        "v.jsonl",
        "--arm",
        "G=G",
        "-o",
        "arms",
    ];
    let ran = place.run(&arms);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("`v.jsonl` is not what was written")
            && ran.err.contains("v.jsonl.meta.json"),
        "{}",
        ran.err
    );
    // An arm of a finished folder.
    let rows = json!({"prompt": "Once", "completion": " upon a time."});
    place.write("mine.jsonl", &format!("{rows}\n"));
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/stories260K");
    place.done(&[
        "train",
        "--model",
        model,
        "--data",
        "mine.jsonl",
        "-o",
        "m",
        "-q",
    ]);
    let mut weights = place.bytes("m/model.safetensors");
    let last = weights.len() - 3;
    weights[last] ^= 1;
    fs::write(place.path("m/model.safetensors"), weights).unwrap();
    let ran = place.run(&[
        "score",
        "--model",
        "m",
        "--data",
        "mine.jsonl",
        "-o",
        "s.jsonl",
    ]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(
        ran.err.contains("`m` is not what was written"),
        "{}",
        ran.err
    );
}

#[test]
fn nothing_is_left_of_standard_input() {
    use std::io::Write;
    use std::process::Stdio;
    let place = Place::new();
    fs::create_dir(place.path("tmp")).unwrap();
    for killed in [false, true] {
        let mut child = place
            .command(&["import", "gsm8k", "-", "-q", "--overwrite", "-o", "p.jsonl"])
            .env("TMPDIR", place.path("tmp"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(problems(5).as_bytes()).unwrap();
        if killed {
            std::thread::sleep(std::time::Duration::from_millis(300));
            child.kill().unwrap();
        }
        drop(input);
        assert_eq!(child.wait().unwrap().success(), !killed);
        assert_eq!(fs::read_dir(place.path("tmp")).unwrap().count(), 0);
    }
    let meta: Value = serde_json::from_str(&place.text("p.jsonl.meta.json")).unwrap();
    assert_eq!(meta["complete"], json!(true));
}
