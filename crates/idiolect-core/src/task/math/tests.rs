use serde_json::json;

use super::*;
use crate::record::Split;

fn judged(gold: &str, answer: &str) -> Judgement {
    Math.verify_pair(&json!(gold), answer, &crate::task::NoCode)
}

fn check(cases: &[(&str, &str)], expected: Verdict) {
    for (gold, answer) in cases {
        let judged = judged(gold, answer);
        assert_eq!(
            judged.verdict, expected,
            "gold {gold}, answer {answer}: {}",
            judged.reason
        );
        assert!(!judged.reason.is_empty());
    }
}

#[test]
fn a_thinking_block_is_no_part_of_the_answer() {
    let text = "<think> maybe \\boxed{3} </think> It is $4$.";
    assert_eq!(extract_answer(text, Finish::Stop).as_deref(), Some("4"));
}

#[test]
fn who_takes_rounded_answers_for_right_takes_no_others() {
    let rounded = judged(r"\frac{1}{3}", "0.333");
    assert_eq!(rounded.verdict, Verdict::Ungraded);
    assert_eq!(rounded.accepting_rounded().verdict, Verdict::Correct);
    let undecided = judged(r"p\wedge q", r"p\vee q").accepting_rounded();
    assert_eq!(undecided.verdict, Verdict::Ungraded);
}

#[test]
fn an_answer_in_words_counts_behind_a_boxed_step_and_before_a_next_problem() {
    let step = "The small crate holds \\boxed{10} of them.\n\n";
    for statement in [
        r"The answer is $\text{Carla}$.",
        "The answer is:\n- $\\text{Carla}$",
        "The answer is:\n\nCarla",
        "Final answer:\n• $\\color{red} \\text{Carla}$\n\nI hope this helps!",
    ] {
        let answer = format!("{step}{statement}");
        check(&[(r"\text{Carla}", &answer)], Verdict::Correct);
        check(&[(r"\text{Bob}", &answer)], Verdict::Wrong);
    }
    let next = "\n\nProblem:\nFind $x$ if $x + 3 = 10$.\n\nSolution:\n**Answer:** Bob";
    for name in ["Carla", r"\mbox{Carla}", "<b>Carla</b>", "“Carla”"] {
        let answer = format!("{name}{next}");
        check(&[(r"\text{Carla}", &answer)], Verdict::Correct);
        check(&[(r"\text{Bob}", &answer)], Verdict::Wrong);
        let cut = format!("{name}\n\nProblem:\nFind $x$ if $x + 3 = 10");
        check(&[(r"\text{Carla}", &cut)], Verdict::Ungraded);
    }
    check(
        &[("10", &format!("{step}The answer is correct."))],
        Verdict::Correct,
    );
}

#[test]
fn a_bare_choice_is_an_answer_before_a_next_problem() {
    let next = "\n\nProblem:\nFind x.\n\nSolution:\nSo the answer is (B).";
    check(
        &[(r"\text{(A)}", &format!("\\text{{(A)}}{next}{next}"))],
        Verdict::Correct,
    );
    check(
        &[(r"\text{(B)}", &format!("\\text{{(A)}}{next}{next}"))],
        Verdict::Wrong,
    );
}

fn raw(value: Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

#[test]
fn published_rows_import() {
    let at = ImportRow {
        index: 3,
        split: Some(Split::Train),
        set: "math".to_owned(),
    };
    let imported = Math
        .import(
            &raw(json!({
                "problem": "What is $1+1$?", "level": "Level 1", "type": "Algebra",
                "solution": r"It is $\boxed{\dfrac{4}{2}}$."
            })),
            &at,
        )
        .unwrap();
    assert_eq!(imported.problem.id, "math/train/3");
    assert_eq!(imported.problem.gold, json!({"answer": r"\dfrac{4}{2}"}));
    assert_eq!(imported.problem.extra["type"], "Algebra");
    assert_eq!(imported.traces.len(), 1);
    let five_hundred = Math
        .import(
            &raw(json!({
                "problem": "What is $1+1$?", "solution": "It is two.", "answer": "2",
                "subject": "Algebra", "level": 1, "unique_id": "test/algebra/7.json"
            })),
            &at,
        )
        .unwrap();
    assert_eq!(five_hundred.problem.id, "math/test/algebra/7.json");
    assert_eq!(five_hundred.problem.gold, json!({"answer": "2"}));
    let judged = Math.verify(
        &five_hundred.problem,
        r"So it is $\boxed{2}$.",
        Finish::Stop,
        &crate::task::NoCode,
    );
    assert_eq!(judged.verdict, Verdict::Correct);
    for (row, word) in [
        (json!({"problem": "x", "solution": "no box"}), "boxed"),
        (
            json!({"problem": "x", "solution": r"\boxed{}"}),
            "no answer",
        ),
        (json!({"solution": r"\boxed{1}"}), "`problem`"),
        (json!({"problem": "x", "answer": [1]}), "a list"),
    ] {
        let error = Math.import(&raw(row), &at).unwrap_err();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn prompts_end_where_the_solution_begins() {
    let problem = Problem {
        id: "p".to_owned(),
        task: TaskName::Math,
        question: r"What is $\frac{1}{2}+\frac{1}{2}$?".to_owned(),
        gold: json!({"answer": "1"}),
        human: None,
        split: Split::Test,
        extra: Map::new(),
    };
    for name in ["zero-shot", "few-shot", "paper"] {
        let prompt = Math
            .prompt(&problem, &Math.prompt_file(name).unwrap())
            .unwrap();
        let end = "Problem:\nWhat is $\\frac{1}{2}+\\frac{1}{2}$?\n\nSolution:";
        assert!(prompt.ends_with(end), "{prompt}");
        assert!(prompt.contains("I hope it is correct."));
    }
    let boxed = Math
        .prompt(&problem, &Math.prompt_file("boxed").unwrap())
        .unwrap();
    assert!(boxed.ends_with(r"\boxed{}."), "{boxed}");
}

/// The content of the last `\boxed{…}`, by its braces.
fn last_box(text: &str) -> String {
    let inside = text.rsplit("\\boxed{").next().unwrap();
    let mut depth = 1;
    let closes = |c: char| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        depth == 0
    };
    inside[..inside.find(closes).unwrap()].to_owned()
}

#[test]
fn every_exemplar_answers_its_own_problem() {
    let few_shot = include_str!("../../../prompts/math/few-shot.txt");
    let solutions: Vec<&str> = few_shot
        .split("Solution:")
        .skip(1)
        .filter(|s| s.contains("boxed"))
        .map(|s| s.split("Problem:").next().unwrap())
        .collect();
    assert_eq!(solutions.len(), 4);
    for solution in solutions {
        let boxed = last_box(solution);
        let extracted = extract_answer(solution, Finish::Stop).unwrap();
        assert_eq!(
            judged(&boxed, &extracted).verdict,
            Verdict::Correct,
            "{solution}"
        );
    }
}
