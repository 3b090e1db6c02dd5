use serde_json::json;

use super::code::{called, extract};
use super::*;

/// Says what it was told, and keeps what it was given.
struct Scripted(Execution, std::sync::Mutex<Vec<String>>);

impl Scripted {
    fn saying(execution: Execution) -> Self {
        Self(execution, std::sync::Mutex::default())
    }
}

impl Execute for Scripted {
    fn execute(&self, program: &Program<'_>) -> Execution {
        self.1.lock().unwrap().push(program.code.to_owned());
        self.0.clone()
    }
}

fn code(text: &str, finish: Finish) -> Option<&str> {
    let found = extract(text, finish, &["f".to_owned()])?;
    assert_eq!(
        &text[found.start..found.start + found.code.len()],
        found.code
    );
    Some(found.code)
}

const F: &str = "def f(x):\n    return x";

#[test]
fn code_is_found_wherever_it_stands() {
    for text in [
        F.to_owned(),
        format!("\n\n{F}\n\n"),
        format!("Here it is:\n```python\n{F}\n```\nIt returns x."),
        format!("```\n{F}\n```"),
        format!("```Python3\n{F}"),
        format!("[BEGIN]\n{F}\n[DONE]\n\nYou are an expert"),
        format!("{F}\n[DONE]\nmore words"),
        format!("[BEGIN]\n```python\n{F}\n```\n[DONE]"),
        format!("The function is:\n\n{F}\n\nIt returns its argument."),
        format!("{F}\n\nProblem:\nWrite a function"),
        format!("{F}\n\nExplanation: x is given back."),
        format!("{F}\n1. It takes x\n2. It returns x"),
        // The last block that defines what the tests call.
        format!(
            "```python\ndef f(x):\n    return 0\n```\nBetter:\n```python\n{F}\n```\nUse:\n```python\nprint(f(1))\n```\n```bash\npython f.py\n```"
        ),
        format!("```python\n{F}\n```\n```python\ndef test_f():\n    assert f(1) == 1\n```"),
    ] {
        assert_eq!(code(&text, Finish::Stop), Some(F), "{text}");
    }
}

#[test]
fn bare_code_ends_where_prose_begins_and_nowhere_else() {
    let whole = "from typing import List\n\nX: int = 3\ntable = {\n'a': 1,\nb: 2,\n}\n@cache\ndef f(x):\n    \"\"\"Words that\nstand at the margin of a text.\n\"\"\"\n    s = '# \" not a text'\n    return x\n# A comment as prose\nf.cache = {}\nfor i in X:\n    pass\nx = 1\nprint(f(1))\nassert f(1) == 1";
    assert_eq!(code(whole, Finish::Stop), Some(whole));
    for constants in [
        "R = 3\nC = 3",
        "words = {\n  'a': 1,\nplain text: 2}",
        "R = 3\n\n# why",
    ] {
        let whole = format!("{constants}\n{F}");
        assert_eq!(code(&whole, Finish::Stop), Some(&*whole));
        assert_eq!(
            code(&format!("Take x = 3.\n{whole}"), Finish::Stop),
            Some(&*whole)
        );
    }
    assert_eq!(
        code("f = lambda x: x", Finish::Stop),
        Some("f = lambda x: x")
    );
    assert_eq!(code("x = 3, so x + 1 = 4", Finish::Stop), None);
    assert_eq!(code("I cannot do this.", Finish::Stop), None);
    assert_eq!(code("from here on we import nothing", Finish::Stop), None);
    assert_eq!(code("class struggle explains it", Finish::Stop), None);
    assert_eq!(code("", Finish::Stop), None);
    assert_eq!(code("```bash\nls\n```", Finish::Stop), None);
}

#[test]
fn a_response_that_was_cut_counts_complete_code_only() {
    assert_eq!(code(F, Finish::Length), None);
    assert_eq!(code(&format!("```python\n{F}"), Finish::Length), None);
    assert_eq!(code(&format!("[BEGIN]\n{F}"), Finish::Length), None);
    for complete in [
        format!("```python\n{F}\n```\nThis func"),
        format!("[BEGIN]\n{F}\n[DONE]\nYou are"),
        format!("{F}\n\nProblem:\nWrite a func"),
    ] {
        assert_eq!(code(&complete, Finish::Length), Some(F), "{complete}");
    }
}

#[test]
fn tests_name_what_they_call() {
    let names = |tests: &[&str]| called(&tests.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>());
    assert_eq!(
        names(&["assert set(f((1, 2))) == set((1,))", "assert f(g(1)).h(2)"]),
        ["f", "g"]
    );
    assert_eq!(names(&["assert sum(10,15) == 6"]), ["sum"]);
    assert!(names(&["assert x == (1)"]).is_empty());
}

#[test]
fn raw_rows_of_all_forms_are_problems() {
    let at = |split| ImportRow {
        index: 0,
        split,
        set: "mbpp".to_owned(),
    };
    let import = |row: Value| Mbpp.import(row.as_object().unwrap(), &at(None));
    let full = import(
        json!({"text": "Write f.", "code": "def f(x):\r\n  return x", "task_id": 602,
        "test_setup_code": "", "test_list": ["assert f(1) == 1"], "challenge_test_list": []}),
    )
    .unwrap();
    assert_eq!(full.problem.id, "mbpp/602");
    assert_eq!(full.problem.split, Split::Train);
    assert_eq!(
        full.problem.gold,
        json!({"tests": ["assert f(1) == 1"], "setup": ""})
    );
    assert_eq!(full.traces[0].text, "def f(x):\n  return x");
    assert_eq!(
        full.problem.extra.keys().collect::<Vec<_>>(),
        ["challenge_test_list"]
    );
    // What was imported imports again.
    let again = import(
        serde_json::to_value(&full.problem)
            .unwrap()
            .as_object()
            .unwrap()
            .clone()
            .into(),
    );
    assert_eq!(again.unwrap().problem, full.problem);

    let sanitized = import(json!({"prompt": "Write f.", "code": F, "task_id": 11,
        "test_imports": ["import math"], "test_list": ["assert f(1) == 1"]}))
    .unwrap();
    assert_eq!(
        (sanitized.problem.split, &sanitized.problem.gold["setup"]),
        (Split::Test, &json!("import math"))
    );
    let plus = import(json!({"prompt": "Write f.", "code": F, "task_id": 3,
        "test_imports": [], "test_list": ["assert f(1) == 1"], "test": "for x in [1]:\n    assert f(x) == x"}))
    .unwrap();
    assert_eq!(plus.problem.split, Split::Teacher);
    assert_eq!(plus.problem.gold["tests"].as_array().unwrap().len(), 2);

    for (row, word) in [
        (json!({"code": F, "test_list": ["assert 1"]}), "question"),
        (json!({"text": "q", "code": F}), "test_list"),
        (json!({"text": "q", "test_list": []}), "test_list"),
        (json!({"text": "q", "test_list": [3]}), "a number"),
        (json!({"text": " ", "test_list": ["assert 1"]}), "empty"),
    ] {
        let reason = import(row).unwrap_err();
        assert!(reason.contains(word), "{reason}");
    }
}

fn problem() -> Problem {
    let row = json!({"text": "Write f.", "task_id": 11, "test_list": ["assert f(1) == 1", "assert f(2) == 2"]});
    let at = ImportRow {
        index: 0,
        split: None,
        set: "mbpp".to_owned(),
    };
    Mbpp.import(row.as_object().unwrap(), &at).unwrap().problem
}

#[test]
fn the_verdict_is_what_running_says_and_the_code_is_extracted() {
    let response = format!("So:\n```python\n{F}\n```");
    let passes = Scripted::saying(Execution::Passed);
    let judged = Mbpp.verify(&problem(), &response, Finish::Stop, &passes);
    assert_eq!(
        (judged.verdict, judged.extracted.as_deref()),
        (Verdict::Correct, Some(F))
    );
    assert_eq!(*passes.1.lock().unwrap(), [F]);

    let fails = Scripted::saying(Execution::Failed {
        reason: "test 1 fails".to_owned(),
        line: Some(2),
    });
    let judged = Mbpp.verify(&problem(), &response, Finish::Stop, &fails);
    assert_eq!(
        (judged.verdict, judged.reason.as_str()),
        (Verdict::Wrong, "test 1 fails")
    );
    let steps: Vec<_> = judged
        .steps
        .iter()
        .map(|s| (&response[s.start..s.end], s.check))
        .collect();
    assert_eq!(
        steps,
        [
            ("So:", StepCheck::Unchecked),
            ("def f(x):", StepCheck::Unchecked),
            ("return x", StepCheck::Invalid),
        ]
    );

    let judged = Mbpp.verify_pair(&problem().gold, F, &super::super::NoCode);
    assert_eq!(judged.verdict, Verdict::Ungraded);
}

#[test]
fn nothing_runs_without_code_or_tests() {
    let never = Scripted::saying(Execution::Passed);
    let verdict = |gold: Value, answer: &str| Mbpp.verify_pair(&gold, answer, &never).verdict;
    let gold = problem().gold;
    assert_eq!(verdict(gold.clone(), ""), Verdict::NoAnswer);
    assert_eq!(
        verdict(gold, "There is no such function."),
        Verdict::NoAnswer
    );
    for gold in [
        json!({"tests": []}),
        json!({"tests": [""]}),
        json!("x == 1"),
        json!(null),
        json!({}),
    ] {
        assert_eq!(verdict(gold, F), Verdict::Ungraded);
    }
    assert!(never.1.lock().unwrap().is_empty());
    assert_eq!(verdict(json!("assert f(1) == 1"), F), Verdict::Correct);
}

#[test]
fn prompts_show_the_first_test_or_all() {
    let p = problem();
    for (name, _) in Mbpp.prompt_files() {
        let prompt = Mbpp.prompt_file(name).unwrap();
        let text = Mbpp.paraphrase_prompt(&p, "SOLUTION", &prompt).unwrap();
        assert!(
            text.contains("Write f.") && text.contains("assert f(1) == 1"),
            "{text}"
        );
        assert_eq!(text.contains("assert f(2) == 2"), *name == "few-shot");
    }
    let few = Mbpp
        .prompt(&p, &Mbpp.prompt_file("few-shot").unwrap())
        .unwrap();
    assert!(few.ends_with("assert f(2) == 2\n[BEGIN]\n"));
}

proptest::proptest! {
    #[test]
    fn any_text_is_extracted_without_panic(text in "(?s)(```|\\[BEGIN\\]|\\[DONE\\]|def f\\(x\\):|\"\"\"|\n| |[a-z(){}'\"#\\\\é]){0,40}") {
        for finish in [Finish::Stop, Finish::Length] {
            if let Some(found) = extract(&text, finish, &["f".to_owned()]) {
                assert_eq!(&text[found.start..found.start + found.code.len()], found.code);
            }
        }
        Mbpp.steps(&problem(), &text);
        called(&[text]);
    }
}
