use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::record::{Split, StepCheck};
use crate::task::{NoCode, PromptFile};
use idiolect_math::Rational;

fn problem(numbers: &[i64], target: i64) -> Problem {
    Problem {
        id: "countdown/train/0".to_owned(),
        task: TaskName::Countdown,
        question: question(numbers, target),
        gold: json!({"numbers": numbers, "target": target}),
        human: None,
        split: Split::Train,
        extra: Map::new(),
    }
}

fn verdict(answer: &str, numbers: &[i64], target: i64) -> (Verdict, String, String) {
    let judged = judge(
        answer,
        &Gold {
            numbers: numbers.to_vec(),
            target,
        },
    );
    (
        judged.verdict,
        judged.extracted.unwrap_or_default(),
        judged.reason,
    )
}

/// Answers to 3, 7, 2 -> 19: verdict, canonical form, a part of the reason.
#[test]
fn answers_are_judged_with_their_reason() {
    use Verdict::{Correct, NoAnswer, Wrong};
    for (answer, expected, canonical, reason) in [
        ("( 3 * 7 ) - 2", Correct, "(3 * 7) - 2", "= 19"),
        ("3*7-2", Correct, "3 * 7 - 2", "each number once"),
        ("3 × 7 − 2", Correct, "3 * 7 - 2", ""),
        (r"3 \times 7 - 2 = 19", Correct, "3 * 7 - 2", ""),
        (r"$\boxed{(3 \cdot 7) - 2}$", Correct, "(3 * 7) - 2", ""),
        (
            r"\(\left(3 \times 7\right) - 2\)",
            Correct,
            "(3 * 7) - 2",
            "",
        ),
        ("**3 * 7 - 2 = 19**", Correct, "3 * 7 - 2", ""),
        ("7 · 3 – 2.", Correct, "7 * 3 - 2", ""),
        ("３ ＊ ７ − ２", Correct, "3 * 7 - 2", ""),
        ("3 x 7 - 2", Correct, "3 * 7 - 2", ""),
        ("[3 * 7] - 2", Correct, "(3 * 7) - 2", ""),
        (
            "3 * 7 - 2 = 20",
            Wrong,
            "3 * 7 - 2",
            "states that it equals 20, not 19",
        ),
        (
            "3 * 7 - 7",
            Wrong,
            "3 * 7 - 7",
            "uses 7 twice, given once; leaves 2 unused; gives 14, not 19",
        ),
        ("3 * 7", Wrong, "3 * 7", "leaves 2 unused; gives 21, not 19"),
        ("3 + 7 + 2", Wrong, "3 + 7 + 2", "gives 12, not 19"),
        ("19", Wrong, "19", "uses 19, which is not given"),
        ("37 - 2", Wrong, "37 - 2", "uses 37, which is not given"),
        (
            "-2 + 3 * 7",
            Wrong,
            "-2 + 3 * 7",
            "a unary minus, which is not allowed",
        ),
        ("3 ** 7 - 2", Wrong, "3 ** 7 - 2", "a power"),
        ("3 ^ 7 - 2", Wrong, "3 ** 7 - 2", "a power"),
        ("7 // 3 - 2", Wrong, "7 // 3 - 2", "`//`"),
        ("3.0 * 7 - 2", Wrong, "3.0 * 7 - 2", "a decimal"),
        (
            "3(7) - 2",
            Wrong,
            "3(7) - 2",
            "a product without an operator",
        ),
        ("03 * 7 - 2", Wrong, "03 * 7 - 2", "a leading zero"),
        (
            "3 / (7 - 7) + 2",
            Wrong,
            "3 / (7 - 7) + 2",
            "a division by zero",
        ),
        ("19 = 3 * 7 - 2", Correct, "3 * 7 - 2", ""),
        (
            "20 = 3 * 7 - 2",
            Wrong,
            "3 * 7 - 2",
            "states that it equals 20, not 19",
        ),
        ("3 * 7 - 2 = 19 = 19 ✓", Correct, "3 * 7 - 2", ""),
        (
            "19 = 3 * 7 - 2 = 20",
            Wrong,
            "3 * 7 - 2",
            "states that it equals 20, not 19",
        ),
        ("19 = 19", Wrong, "19", "uses 19, which is not given"),
        ("result = 3 * 7 - 2", Correct, "3 * 7 - 2", ""),
        ("$x = 3 * 7 - 2 = 19$", Correct, "3 * 7 - 2", ""),
        ("Answer: 3 * 7 - 2", Correct, "3 * 7 - 2", ""),
        ("**Expression:** 3 * 7 - 2", Correct, "3 * 7 - 2", ""),
        ("The expression is (3 * 7) - 2.", Correct, "(3 * 7) - 2", ""),
        (r"$\text{Answer: }3 * 7 - 2$", Correct, "3 * 7 - 2", ""),
        ("\"3 * 7 - 2\"", Correct, "3 * 7 - 2", ""),
        ("```python\n3 * 7 - 2\n```", Correct, "3 * 7 - 2", ""),
        ("```\n3 * 7 - 2\n```", Correct, "3 * 7 - 2", ""),
        ("\nresult = 3 * 7 + 2\n", Wrong, "3 * 7 + 2", "gives 23"),
        ("（３＊７）－２", Correct, "(3 * 7) - 2", ""),
        (
            "Let me solve this step by step:\n\n1.",
            NoAnswer,
            "",
            "not an arithmetic expression",
        ),
        (
            "x + 2 = 3 * 7 - 2",
            NoAnswer,
            "",
            "not an arithmetic expression",
        ),
        (
            "3 * 7 = 21, 21 - 2 = 19",
            NoAnswer,
            "",
            "not an arithmetic expression",
        ),
        (
            "3 * 7 = 21 - 2 = 19",
            NoAnswer,
            "",
            "not an arithmetic expression",
        ),
        ("3 * 7 -", NoAnswer, "", "not an arithmetic expression"),
        ("(3 * 7 - 2", NoAnswer, "", "not an arithmetic expression"),
        ("None", NoAnswer, "", "`None` is not"),
        ("sqrt(3) + 7", NoAnswer, "", "not an arithmetic expression"),
        ("3 * 7 - 2!", NoAnswer, "", "not an arithmetic expression"),
        ("", NoAnswer, "", "empty"),
    ] {
        let (verdict, extracted, why) = verdict(answer, &[3, 7, 2], 19);
        assert_eq!(
            (verdict, extracted.as_str()),
            (expected, canonical),
            "{answer}: {why}"
        );
        assert!(why.contains(reason), "{answer}: {why}");
    }
    let (verdict, extracted, why) = verdict(r"\frac{6 + 2}{4} * 5", &[6, 2, 4, 5], 10);
    assert_eq!(
        (verdict, extracted.as_str()),
        (Verdict::Correct, "((6 + 2) / 4) * 5"),
        "{why}"
    );
}

#[test]
fn values_are_exact_rationals() {
    assert_eq!(verdict("(1 / 3) * 3", &[1, 3, 3], 1).0, Verdict::Correct);
    assert_eq!(
        verdict("8 / (3 - 8 / 3)", &[8, 3, 8, 3], 24).0,
        Verdict::Correct
    );
    let big = 999_999_999_999_999_999;
    let near = format!("{big} * {big} / {big} + 1 - 1");
    assert_eq!(
        verdict(&near, &[big, big, big, 1, 1], big).0,
        Verdict::Correct
    );
    let off = format!("({big} * {big} + 1) / {big}");
    assert_eq!(verdict(&off, &[big, big, 1, big], big).0, Verdict::Wrong);
}

#[test]
fn the_last_complete_tag_counts_and_else_a_final_ans() {
    let extract = |text| answer::extract(text, Finish::Stop);
    assert_eq!(
        extract("<answer>1</answer> or <answer> 2 </answer> done"),
        Some(" 2 ")
    );
    assert_eq!(extract("<answer>\n1\n</answer>\n| ans 2"), Some("\n1\n"));
    assert_eq!(
        extract("x | ans 1 | ans ( 3 * 7 ) - 2 \n"),
        Some("( 3 * 7 ) - 2")
    );
    assert_eq!(extract("x | ans 1 | so"), None);
    assert_eq!(extract("x | answer 1"), None);
    assert_eq!(extract("ans 1"), None);
    assert_eq!(extract("<answer>1"), None);
    assert_eq!(extract("</answer><answer>"), None);
}

#[test]
fn a_cut_response_counts_only_a_complete_answer() {
    let p = problem(&[3, 7, 2], 19);
    let judged = |text, finish| Countdown.verify(&p, text, finish, &NoCode).verdict;
    assert_eq!(
        judged("<answer>3 * 7 - 2</answer> and", Finish::Length),
        Verdict::Correct
    );
    assert_eq!(
        judged("3 * 7 = 21 | ans 3 * 7 - 2", Finish::Length),
        Verdict::NoAnswer
    );
    assert_eq!(
        judged("3 * 7 = 21 | ans 3 * 7 - 2", Finish::Stop),
        Verdict::Correct
    );
    assert_eq!(
        judged(" 3 * 7 = 21 | ans 3 * 7 - 2 and", Finish::Stop),
        Verdict::NoAnswer
    );
    assert_eq!(judged("", Finish::Stop), Verdict::NoAnswer);
}

#[test]
fn pairs_take_bare_answers_responses_and_gold_texts() {
    let judged = |gold: Value, answer| Countdown.verify_pair(&gold, answer, &NoCode).verdict;
    let gold = json!({"numbers": [3, 7, 2], "target": 19});
    assert_eq!(judged(gold.clone(), "3*7-2"), Verdict::Correct);
    assert_eq!(
        judged(gold.clone(), "So <answer>3*7-2</answer>"),
        Verdict::Correct
    );
    assert_eq!(judged(gold.clone(), "3*7-1"), Verdict::Wrong);
    assert_eq!(judged(gold, "no idea"), Verdict::NoAnswer);
    assert_eq!(judged(json!("(3*7)-2"), "7*3-2"), Verdict::Correct);
    assert_eq!(judged(json!("… | ans 3 * 7 - 2"), "7+3+2"), Verdict::Wrong);
    for bad in [
        json!("?"),
        json!({"numbers": [1]}),
        json!({"numbers": [1, 3], "target": 0.33333}),
        json!({"numbers": [1, 2], "target": "3"}),
        json!(7),
        json!({"numbers": [], "target": 1}),
    ] {
        assert_eq!(judged(bad.clone(), "1 / 3"), Verdict::Ungraded, "{bad}");
    }
}

fn checks(text: &str) -> String {
    let steps = Countdown.steps(&problem(&[3, 7, 2], 19), text);
    let shown = steps.iter().map(|s| {
        let mark = match s.check {
            StepCheck::Valid => '+',
            StepCheck::Invalid => '!',
            StepCheck::Unchecked => '?',
        };
        format!("{mark}{}", &text[s.start..s.end])
    });
    shown.collect::<Vec<_>>().join("§")
}

#[test]
fn equations_are_recomputed_where_the_text_is_plain() {
    for (text, expected) in [
        (
            " 3 * 7 = 21 ; 21 - 2 = 18 | ans ( 3 * 7 ) - 2",
            "+3 * 7 = 21§!21 - 2 = 18",
        ),
        (
            "three times seven is twenty-one . | ans 3 * 7 - 2",
            "?three times seven is twenty-one .",
        ),
        (
            "Try:  \n**(60 − 17) − 79**  \n= **43 − 79**  \n= **−36** → Not helpful\n<answer>3*7-2</answer>",
            "?Try:§+**(60 − 17) − 79**  \n= **43 − 79**  \n= **−36** → Not helpful",
        ),
        (
            "1. (95 - 45) / 2 = 50 / 2 = 25. So good!",
            "+1. (95 - 45) / 2 = 50 / 2 = 25.§?So good!",
        ),
        ("62 ÷ 3.529 = 17.57 → no", "+62 ÷ 3.529 = 17.57 → no"),
        (
            "Now 79 - 60 = 19, 19 + 17 = 35",
            "!Now 79 - 60 = 19, 19 + 17 = 35",
        ),
        (
            "x + 2 = 5 and 60 / 17 ≈ 3.5",
            "?x + 2 = 5 and 60 / 17 ≈ 3.5",
        ),
        ("half of 10 + 2 = 7", "?half of 10 + 2 = 7"),
        ("1 / 0 = 5", "?1 / 0 = 5"),
        ("---\n\n🙂", ""),
    ] {
        assert_eq!(checks(text), expected, "{text}");
    }
}

#[test]
fn rows_of_the_published_sets_import() {
    let at = ImportRow {
        index: 4,
        split: Some(Split::Train),
        set: "countdown".to_owned(),
    };
    let import = |row: Value| Countdown.import(row.as_object().unwrap(), &at);
    let plain = import(json!({"nums": [79, 17, 60], "target": 36})).unwrap();
    assert_eq!(plain.problem.id, "countdown/train/4");
    assert_eq!(
        plain.problem.gold,
        json!({"numbers": [79, 17, 60], "target": 36})
    );
    assert!(plain.problem.question.contains("[79, 17, 60]") && plain.traces.is_empty());
    let solved = json!({"id": "test-000001", "numbers": [79, 17, 60], "target": 36, "gold_expr": "(79+(17-60))", "split": "test"});
    let solved = import(solved).unwrap().problem;
    assert_eq!(
        (solved.id.as_str(), solved.split),
        ("countdown/test-000001", Split::Test)
    );
    assert_eq!(solved.extra["gold_expr"], "(79+(17-60))");
    let again = import(serde_json::to_value(&solved).unwrap()).unwrap();
    assert_eq!(again.problem, solved);
    for (bad, why) in [
        (json!({"target": 1}), "no field `numbers`"),
        (json!({"nums": [1.5], "target": 1}), "1.5"),
        (json!({"nums": [-1, 2], "target": 1}), "-1"),
        (json!({"nums": [1], "target": "x"}), "target"),
        (
            json!({"nums": [1, 2], "target": 3, "gold_expr": "1-2"}),
            "gives -1, not 3",
        ),
        (
            json!({"nums": [1, 2], "target": 3, "task": "gsm8k"}),
            "gsm8k",
        ),
    ] {
        let error = import(bad).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn the_mini_prompt_is_the_styles() {
    let p = problem(&[3, 7, 2], 19);
    let mini = Countdown.prompt_file("mini").unwrap();
    assert_eq!(Countdown.prompt(&p, &mini).unwrap(), "nums 3 7 2 -> 19 |");
    let rewrite = Countdown.prompt_file("mini-paraphrase").unwrap();
    assert_eq!(
        Countdown
            .paraphrase_prompt(&p, " so so ", &rewrite)
            .unwrap(),
        "rewrite so so ->"
    );
    assert!(Countdown.prompt(&p, &rewrite).is_err());
    assert!(
        Countdown
            .prompt(&p, &Countdown.default_prompt())
            .unwrap()
            .ends_with("Solution:")
    );
    let own = PromptFile::new("own", "{list} {target}");
    assert_eq!(Countdown.prompt(&p, &own).unwrap(), "[3, 7, 2] 19");
}

/// Every expression tree over the numbers in every order, by brute force: the solver's reference.
fn brute_force(values: &[Rational]) -> Vec<Rational> {
    let [only] = values else {
        let mut found = Vec::new();
        for i in 0..values.len() {
            for j in 0..values.len() {
                if i == j {
                    continue;
                }
                let rest = (0..values.len())
                    .filter(|k| *k != i && *k != j)
                    .map(|k| values[k].clone());
                let rest: Vec<Rational> = rest.collect();
                for operator in Operator::ALL {
                    if let Some(value) = operator.apply(&values[i], &values[j]) {
                        found.extend(brute_force(&[rest.clone(), vec![value]].concat()));
                    }
                }
            }
        }
        return found;
    };
    vec![only.clone()]
}

#[test]
fn the_solver_reaches_exactly_what_brute_force_reaches() {
    for numbers in [[3, 7, 2, 5], [1, 1, 4, 6], [0, 0, 3, 9], [8, 3, 8, 3]] {
        let values: Vec<Rational> = numbers.iter().map(|n| Rational::integer(*n)).collect();
        let reached: std::collections::BTreeSet<Rational> =
            brute_force(&values).into_iter().collect();
        for target in -20..60 {
            let expected = reached.contains(&Rational::integer(target));
            assert_eq!(
                reachable(&numbers, target),
                Some(expected),
                "{numbers:?} -> {target}"
            );
        }
    }
}

#[test]
fn every_solution_verifies_and_differs() {
    let solutions = solve(&[3, 7, 2], 19, 100).unwrap();
    assert_eq!(
        solutions
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>(),
        ["3 * 7 - 2"]
    );
    for expression in solve(&[1, 2, 3, 4], 24, 1000).unwrap() {
        let text = expression.to_string();
        assert_eq!(
            verdict(&text, &[1, 2, 3, 4], 24).0,
            Verdict::Correct,
            "{text}"
        );
    }
    assert_eq!(reachable(&[1, 1, 1], 50), Some(false));
    assert_eq!(solve(&[1; 7], 7, 1), None);
    assert_eq!(solve(&[1, 2, 3, 4], 24, 2).unwrap().len(), 2);
}

fn expression(numbers: Vec<i64>, choices: &[(usize, usize)]) -> Expression {
    let mut parts: Vec<Expression> = numbers.into_iter().map(Expression::Number).collect();
    for (place, operator) in choices {
        if parts.len() < 2 {
            break;
        }
        let left = parts.remove(place % parts.len());
        let right = parts.remove((place / 7) % parts.len());
        parts.push(Expression::binary(left, Operator::ALL[operator % 4], right));
    }
    parts.swap_remove(0)
}

proptest! {
    #[test]
    fn generated_expressions_verify_and_mutated_ones_do_not(
        numbers in prop::collection::vec(1i64..100, 2..6),
        choices in prop::collection::vec((0usize..1000, 0usize..4), 5),
        place in 0usize..1000,
    ) {
        let made = expression(numbers.clone(), &choices);
        let Some(target) = made.value().and_then(|v| v.to_i64()) else { return Ok(()) };
        let text = made.to_string();
        let (found, extracted, reason) = verdict(&text, &numbers, target);
        prop_assert_eq!(found, Verdict::Correct, "{}: {}", text, reason);
        prop_assert_eq!(&extracted, &text, "canonical text is its own canonical form");
        prop_assert_eq!(verdict(&extracted, &numbers, target).1, extracted);
        // Another number in one place is another answer, unless the two happen to be equal.
        let mut other = numbers.clone();
        let place = place % other.len();
        other[place] += 100;
        prop_assert_eq!(verdict(&expression(other, &choices).to_string(), &numbers, target).0, Verdict::Wrong);
        prop_assert_eq!(verdict(&text, &numbers, target + 1).0, Verdict::Wrong);
        prop_assert_eq!(verdict(&format!("{text} + {}", numbers[0]), &numbers, target).0, Verdict::Wrong);
    }

    #[test]
    fn any_text_is_judged_without_panic(text in any::<String>(), numbers in prop::collection::vec(0i64..20, 1..5)) {
        let p = problem(&numbers, 7);
        for finish in [Finish::Stop, Finish::Length] {
            let judged = Countdown.verify(&p, &text, finish, &NoCode);
            for s in &judged.steps {
                prop_assert!(s.start < s.end && text.get(s.start..s.end).is_some());
            }
        }
        judge(&text, &Gold { numbers, target: 7 });
    }

    #[test]
    fn any_arithmetic_soup_is_judged_without_panic(text in "[-0-9 +*/().=^%$\\\\{}|ansx<>\\[\\]×−÷،٣\u{202e}\u{0}\n]{0,80}") {
        let p = problem(&[3, 7, 2], 19);
        Countdown.verify(&p, &text, Finish::Stop, &NoCode);
        Countdown.verify(&p, &format!("<answer>{text}</answer>"), Finish::Stop, &NoCode);
        crate::task::compat::countdown_paper(&format!("<answer>{text}</answer>"), &[3, 7, 2], &json!(19));
        if let Some(first) = answer::read(&text) {
            let again = answer::read(&first.canonical).map(|a| (a.canonical, a.value));
            prop_assert_eq!(again, Some((first.canonical, first.value)), "normalising twice changes nothing");
        }
    }
}

#[test]
fn hostile_text_is_judged_in_bounded_time() {
    let p = problem(&[3, 7, 2], 19);
    for piece in [
        "(",
        ")",
        "{",
        "=",
        "<<",
        "<answer>",
        "</answer>",
        "| ans ",
        "1=",
        "9*",
        "9^",
        "-",
        "**",
        "x",
        "1.",
        "\u{202e}",
        "\0",
        "é",
        "\\frac{",
        "3 ",
        ". ",
        "\n=",
    ] {
        let text = piece.repeat(1_000_000 / piece.len());
        Countdown.verify(&p, &text, Finish::Stop, &NoCode);
        Countdown.verify(
            &p,
            &format!("<answer>{text}</answer>"),
            Finish::Stop,
            &NoCode,
        );
        Countdown.verify_pair(&json!(text), &text, &NoCode);
        super::super::compat::countdown_paper(&format!("<answer>{text}</answer>"), &[9], &json!(1));
    }
}
