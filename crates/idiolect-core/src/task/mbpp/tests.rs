use serde_json::json;

use super::code::extract;
use super::python::called;
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

fn code(text: &str, finish: Finish) -> Option<String> {
    let found = extract(text, finish, &["f".to_owned()])?;
    let lines: Vec<&str> = found.lines.iter().map(|line| &text[line.clone()]).collect();
    assert_eq!(lines.join("\n"), found.text);
    Some(found.text)
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
        assert_eq!(code(&text, Finish::Stop).as_deref(), Some(F), "{text}");
    }
}

#[test]
fn bare_code_ends_where_prose_begins_and_nowhere_else() {
    let whole = "from typing import List\n\nX: int = 3\ntable = {\n'a': 1,\nb: 2,\n}\n@cache\ndef f(x):\n    \"\"\"Words that\nstand at the margin of a text.\n\"\"\"\n    s = '# \" not a text'\n    return x\n# A comment as prose\nf.cache = {}\nfor i in X:\n    pass\nx = 1\nprint(f(1))\nassert f(1) == 1";
    assert_eq!(code(whole, Finish::Stop).as_deref(), Some(whole));
    for constants in [
        "R = 3\nC = 3",
        "words = {\n  'a': 1,\nplain text: 2}",
        "R = 3\n\n# why",
    ] {
        let whole = format!("{constants}\n{F}");
        assert_eq!(code(&whole, Finish::Stop), Some(whole.clone()));
        assert_eq!(
            code(&format!("Take x = 3.\n{whole}"), Finish::Stop),
            Some(whole)
        );
    }
    assert_eq!(
        code("f = lambda x: x", Finish::Stop).as_deref(),
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
        assert_eq!(
            code(&complete, Finish::Length).as_deref(),
            Some(F),
            "{complete}"
        );
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

#[test]
fn fences_of_all_forms_hold_code() {
    let fenced =
        |open: &str, close: &str| format!("Here it is:\n{open}\n{F}\n{close}\nIt returns x.");
    let mut texts = Vec::new();
    for tag in [
        "{python}",
        "{.python}",
        "{ .python .numberLines }",
        "{python, echo=TRUE}",
        "ipython",
        "ipython3",
        "py",
        "py3",
        "python3",
        "python3.11",
        "Python 3",
        "PYTHON",
        "python title=\"f.py\"",
        "python:f.py",
        "f.py",
        "text",
        "txt",
        "plaintext",
        "code",
        "tool_code",
        "solution",
        "",
    ] {
        texts.push(fenced(&format!("```{tag}"), "```"));
    }
    texts.extend([
        fenced("````python", "````"),
        fenced("~~~python", "~~~"),
        fenced("~~~~", "~~~~"),
        fenced("``` python", "``` "),
        fenced("````markdown\n# Answer\n```python", "```\n````"),
        fenced("````\n```python", "```\n````"),
        fenced("~~~text\n```", "```\n~~~"),
        // The prompt has opened the fence, or a stop string taken its end away.
        format!("{F}\n```"),
        format!("{F}\n```\nThis works."),
        format!("\n{F}\n```\nUse:\n```python\nprint(f(1))\n```"),
        format!("{F}\n```\n\n```\n6\n```\n"),
        format!("```python\n{F}"),
        // A fence in or beside a line of its own.
        format!("```python\n{F}```"),
        format!("The function: ```python\n{F}\n```"),
        format!("[PYTHON]\n{F}\n[/PYTHON]"),
        format!("{F}\n[/PYTHON]\nIt returns x."),
        format!("[CODE]\n{F}\n[/CODE]"),
        format!("[BEGIN]\nThe function is:\n\n{F}\n[DONE]"),
        format!("[BEGIN]\n{F}\n\nIt returns x.\n[DONE]"),
        format!("[PYTHON]\n```python\n{F}\n```\n[/PYTHON]"),
        format!("[BEGIN]\n```python\n{F}\n[DONE]"),
        // Bare code beside fences that hold none.
        format!("{F}\n\nFor example:\n```\n>>> f(1)\n1\n```"),
        format!("```\nf(1) is 1\n```\nTherefore:\n\n{F}\n"),
        format!("```bash\npip install x\n```\n```text\nwords\n```\n```python\n{F}\n```\n```json\n{{}}\n```"),
    ]);
    for text in texts {
        assert_eq!(code(&text, Finish::Stop).as_deref(), Some(F), "{text}");
    }
    assert_eq!(
        code("```python f = abs```", Finish::Stop).as_deref(),
        Some("f = abs")
    );
    for other in ["ruby", "js", "c++", "{.java}", "diff"] {
        assert_eq!(
            code(&fenced(&format!("```{other}"), "```"), Finish::Stop),
            None,
            "{other}"
        );
    }
}

#[test]
fn indentation_that_lines_share_is_no_part_of_the_code() {
    let by = |prefix: &str, text: &str| {
        let lines: Vec<String> = text.lines().map(|line| format!("{prefix}{line}")).collect();
        lines.join("\n")
    };
    let block = format!("```python\n{F}\n```");
    for text in [
        format!("1. Here it is:\n\n{}\n", by("    ", &block)),
        format!("- So:\n{}\n- Done.", by("  ", &block)),
        format!("\t{}", by("\t", &block)),
        format!("1. ```python\n{}\n   ```", by("   ", F)),
        format!("- ```python\n{}\n  ```", by("  ", F)),
        format!("```python\n{}\n```", by("    ", F)),
        format!("```python\n# why\n{}\n```", by("    ", F)).replace("# why\n", ""),
        by("> ", &block),
        by("   ", F),
        format!("As follows:\n\n{}\n\nIt returns x.", by("    ", F)),
    ] {
        assert_eq!(code(&text, Finish::Stop).as_deref(), Some(F), "{text}");
    }
    let nested = "def f(x):\n    if x:\n\n        return 1\n    return 2";
    let text = format!("* a\n\n{}", by("      ", &format!("```\n{nested}\n```")));
    assert_eq!(code(&text, Finish::Stop).as_deref(), Some(nested));
}

#[test]
fn fences_and_markers_inside_strings_are_text() {
    for doc in [
        "Example:\n    ```\n    f(3)\n    ```\n    ",
        "```python\nf(3)\n```\n",
        "\n~~~\nf(3)\n~~~\n",
        "From [BEGIN] to [DONE]",
        "\n[BEGIN]\n[DONE]\n",
    ] {
        for quotes in ["\"\"\"", "'''"] {
            let whole = format!("def f(x):\n    {quotes}{doc}{quotes}\n    return x");
            for text in [
                format!("So:\n```python\n{whole}\n```\nIt's done."),
                format!("```\n{whole}\n```"),
            ] {
                assert_eq!(
                    code(&text, Finish::Stop).as_deref(),
                    Some(&*whole),
                    "{text}"
                );
            }
        }
    }
    let bare = "def f(x):\n    \"\"\"\n    ```\n    f(3)\n    ```\n    \"\"\"\n    return x";
    assert_eq!(code(bare, Finish::Stop).as_deref(), Some(bare));
    // A string that never ends hides no fence.
    let open = format!("```\nsay ''' here\n```\n```python\n{F}\n```");
    assert_eq!(code(&open, Finish::Stop).as_deref(), Some(F));
}

#[test]
fn blocks_that_hold_what_the_code_needs_join_it() {
    let fence = |code: &str| format!("```python\n{code}\n```\n");
    let helper = "def g(x):\n    return x";
    let main = "def f(x):\n    return g(x)";
    for (text, parts) in [
        (
            format!("A helper:\n{}And:\n{}", fence(helper), fence(main)),
            vec![helper, main],
        ),
        // The helper follows, at some distance.
        (
            format!(
                "{}With:\n{}Use:\n{}",
                fence(main),
                fence(helper),
                fence("print(f(1))")
            ),
            vec![main, helper],
        ),
        // A later definition wins, so both stay.
        (
            format!(
                "{}Better:\n{}",
                fence(&format!("{helper}\n{main}")),
                fence("def g(x):\n    return x + 0")
            ),
            vec![helper, main, "def g(x):\n    return x + 0"],
        ),
        // Imports and constants in blocks of their own.
        (
            format!(
                "{}{}{}",
                fence("import math\nfrom itertools import chain as g"),
                fence("LIMIT = 3"),
                fence("def f(x):\n    return g(x, LIMIT)")
            ),
            vec![
                "import math\nfrom itertools import chain as g",
                "LIMIT = 3",
                "def f(x):\n    return g(x, LIMIT)",
            ],
        ),
        (
            format!("{}{}", fence("from math import *"), fence(F)),
            vec!["from math import *", F],
        ),
        // A helper of the helper; a name inside an f-string.
        (
            format!(
                "{}{}{}",
                fence("def h():\n    pass"),
                fence("def g(x):\n    return f\"{h()}\""),
                fence(main)
            ),
            vec![
                "def h():\n    pass",
                "def g(x):\n    return f\"{h()}\"",
                main,
            ],
        ),
        // A decorator that is put on afterwards.
        (
            format!("{}{}", fence(F), fence("f = cached(f)")),
            vec![F, "f = cached(f)"],
        ),
        // Classes, without fences.
        (
            "class A:\n    pass\n\nThen the function:\n\ndef f(x):\n    return A()\n\nThat is all."
                .to_owned(),
            vec!["class A:\n    pass", "def f(x):\n    return A()"],
        ),
        // Imports from the future come first.
        (
            format!(
                "{}{}",
                fence(helper),
                fence("from __future__ import annotations\ndef f(x):\n    return g(x)")
            ),
            vec!["from __future__ import annotations", helper, main],
        ),
    ] {
        assert_eq!(code_of_lines(&text), parts.join("\n"), "{text}");
    }
}

fn code_of_lines(text: &str) -> String {
    extract(text, Finish::Stop, &["f".to_owned()]).unwrap().text
}

#[test]
fn demonstrations_outputs_and_drafts_stay_out() {
    let fence = |code: &str| format!("```python\n{code}\n```\n");
    for other in [
        "print(f(3))",
        "x = int(input())\nprint(f(x))",
        "result = f(3)\nassert result == 4",
        "import unittest\nclass TestF(unittest.TestCase):\n    def test(self): self.fail()\nunittest.main()",
        "from solution import f\nprint(f(3))",
        "def main():\n    print(f(int(input())))\n\nmain()",
        "for x in range(3):\n    raise SystemExit",
        "6",
        ">>> f(3)\n3",
    ] {
        for text in [
            format!("{}Use:\n{}", fence(F), fence(other)),
            format!("{}Then:\n{}", fence(other), fence(F)),
        ] {
            assert_eq!(code(&text, Finish::Stop).as_deref(), Some(F), "{text}");
        }
    }
    // Of two drafts the last counts, and what only the first used stays out.
    let draft = "def g(x):\n    return 0\ndef f(x):\n    return g(x)";
    let text = format!("{}Better:\n{}", fence(draft), fence(F));
    assert_eq!(code(&text, Finish::Stop).as_deref(), Some(F));
}

#[test]
fn steps_lie_in_the_response_wherever_its_code_stands() {
    let text = "A helper, 1 + 1 = 2:\n```python\ndef g(x):\n    return x\n```\nIt serves here:\n  ~~~Python 3\n  def f(x):\n      return g(x)\n  ~~~\n";
    let row = json!({"text": "Write f.", "task_id": 11, "test_list": ["assert f(1) == 2"]});
    let at = ImportRow {
        index: 0,
        split: None,
        set: "mbpp".to_owned(),
    };
    let problem = Mbpp.import(row.as_object().unwrap(), &at).unwrap().problem;
    let fails = Scripted::saying(Execution::Failed {
        reason: String::new(),
        line: Some(4),
    });
    let judged = Mbpp.verify(&problem, text, Finish::Stop, &fails);
    let steps: Vec<_> = judged
        .steps
        .iter()
        .map(|s| (&text[s.start..s.end], s.check))
        .collect();
    assert_eq!(
        steps,
        [
            ("A helper, 1 + 1 = 2:", StepCheck::Valid),
            ("def g(x):", StepCheck::Unchecked),
            ("return x", StepCheck::Unchecked),
            ("It serves here:", StepCheck::Unchecked),
            ("def f(x):", StepCheck::Unchecked),
            ("return g(x)", StepCheck::Invalid),
        ]
    );
}

#[test]
fn names_are_told_apart_by_what_binds_them() {
    use super::python::Names;
    let names = Names::of(
        "import a.b, c as d\nfrom e import (f as g,\n  h)\nX, y = 1, 'z # not'\nW: int = {'k': V}\nif T: U = 1\nN.o[p] = q\nasync def r(s, *t, u=1, **v):\n    w = [i for i, j in k]\n    with l as m: n(aa=1)\n    return lambda bb: bb.cc + dd\nclass E(F):\n    '''not_here'''\n    def method(self): pass",
    );
    let list =
        |set: &std::collections::BTreeSet<&str>| set.iter().copied().collect::<Vec<_>>().join(" ");
    assert_eq!(list(&names.defined), "E r");
    assert_eq!(list(&names.imported), "a d g h");
    assert_eq!(list(&names.assigned), "U W X y");
    for inner in [
        "s", "t", "u", "v", "w", "i", "j", "m", "bb", "method", "self",
    ] {
        assert!(names.inner.contains(inner), "{inner}: {:?}", names.inner);
    }
    for used in ["V", "T", "N", "p", "q", "k", "l", "n", "dd", "F"] {
        assert!(names.used.contains(used), "{used}: {:?}", names.used);
    }
    for absent in ["aa", "cc", "not", "not_here", "o"] {
        assert!(!names.used.contains(absent), "{absent}");
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
        let text = match prompt.holds("solution") {
            true => Mbpp.paraphrase_prompt(&p, "SOLUTION", &prompt),
            false => Mbpp.prompt(&p, &prompt),
        };
        let text = text.unwrap();
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
                let lines: Vec<&str> = found.lines.iter().map(|line| &text[line.clone()]).collect();
                assert_eq!(lines.join("\n"), found.text);
            }
        }
        Mbpp.steps(&problem(), &text);
        called(&[text]);
    }
}
