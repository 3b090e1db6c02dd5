use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::record::Split;
use crate::task::NoCode;
use idiolect_math::Rational;

fn problem(answer: &str) -> Problem {
    Problem {
        id: "gsm8k/test/0".to_owned(),
        task: TaskName::Gsm8k,
        question: "How many?".to_owned(),
        gold: json!({"answer": answer}),
        human: None,
        split: Split::Test,
        extra: Map::new(),
    }
}

#[test]
fn bare_answers_are_read_in_every_notation() {
    for (text, expected) in [
        ("18", "18"),
        ("$1,234.50", "1234.5"),
        ("-$5", "-5"),
        ("$-5", "-5"),
        ("−7", "-7"),
        ("18.", "18"),
        ("18.00", "18"),
        ("25%", "25"),
        ("25\\%", "25"),
        ("1/2", "0.5"),
        ("5 1/2", "5.5"),
        ("\\frac{1}{3}", "1/3"),
        ("5\\frac{1}{2}", "5.5"),
        ("1.5e3", "1500"),
        ("1.5 × 10^3", "1500"),
        ("2 \\times 10^{-2}", "0.02"),
        ("18 dollars", "18"),
        ("18 dollars and 50 cents", "18.5"),
        ("€ 20", "20"),
        ("12cm", "12"),
        ("5 million", "5000000"),
        ("\\boxed{24}", "24"),
        ("2:00 pm", "2"),
        ("１８", "18"),
        ("10{,}000", "10000"),
    ] {
        let found = read_number(text);
        assert_eq!(
            found.map(|f| f.to_string()).as_deref(),
            Some(expected),
            "{text}"
        );
    }
    for text in [
        "",
        "none",
        "x = ?",
        "7:30",
        "3 4",
        "3 + 4",
        &"9".repeat(300),
    ] {
        assert_eq!(read_number(text), None, "{text}");
    }
}

#[test]
fn the_final_answer_is_found_by_priority() {
    for (text, expected, form) in [
        ("It is 5.\n#### 18\n", "18", "after ####"),
        (
            "#### Step 1\n2 + 3 = 5\nThe answer is 5.",
            "5",
            "after \"answer is\"",
        ),
        (
            "#### 2. Add the three numbers up\nso \\boxed{6}",
            "6",
            "in \\boxed",
        ),
        (
            "The answer is 4. No: the final answer is $7$. I hope it is correct.",
            "7",
            "after \"answer is\"",
        ),
        (
            "The answer is 4. So \\boxed{3 + 5 = 8} eggs.",
            "8",
            "in \\boxed",
        ),
        ("**Final Answer:**\n\n$1,200", "1200", "after \"answer is\""),
        ("Answer: 3 * 4 = 12 eggs", "12", "after \"answer is\""),
        (
            "So the answer to this question is it takes 9 minutes for 459 blinks.",
            "9",
            "after \"answer is\"",
        ),
        ("<answer>\n\\boxed{3} </answer>", "3", "in <answer>"),
        ("2 + 3 = <<2+3=5>>5 eggs\nA: 5", "5", "after A:"),
        ("A: 5\nA: 6.0 eggs", "6", "after A:"),
        ("He pays 3 * 4 = $12.50 in all.", "12.5", "the last number"),
        ("from 10-3", "3", "the last number"),
        ("so it is -3", "-3", "the last number"),
        ("\\boxed{1 + {2}} is open: \\boxed{7", "3", "in \\boxed"),
    ] {
        let found = extract(text, Finish::Stop).unwrap();
        assert_eq!(
            (found.to_string().as_str(), found.form),
            (expected, form),
            "{text}"
        );
    }
    assert_eq!(extract("no numbers here", Finish::Stop), None);
}

#[test]
fn a_cut_response_counts_only_what_was_complete() {
    let cut = |text| extract(text, Finish::Length).map(|f| f.to_string());
    assert_eq!(cut("#### 18"), None);
    assert_eq!(cut("#### 18\n"), Some("18".to_owned()));
    assert_eq!(cut("The answer is 18"), None);
    assert_eq!(cut("The answer is 18 eggs"), Some("18".to_owned()));
    assert_eq!(cut("so \\boxed{18} and"), Some("18".to_owned()));
    assert_eq!(cut("so \\boxed{18"), None);
    assert_eq!(cut("3 + 4 = 7 and then"), None);
    assert_eq!(cut("A: 25"), None);
}

#[test]
fn answers_are_equal_exactly_or_not() {
    let verdict =
        |gold: &str, answer: &str| Gsm8k.verify_pair(&json!(gold), answer, &NoCode).verdict;
    for (gold, answer) in [
        ("18", "$18.00"),
        ("1,000", "1000"),
        ("1/3", "\\frac{2}{6}"),
        ("0.5", "1/2"),
        ("5000000", "5 million"),
        ("… #### 72", "72 clips"),
    ] {
        assert_eq!(verdict(gold, answer), Verdict::Correct, "{gold} {answer}");
        assert_eq!(verdict(answer, gold), Verdict::Correct, "{answer} {gold}");
    }
    // A gold answer may count in millions.
    assert_eq!(verdict("5", "5 million"), Verdict::Ungraded);
    assert_eq!(verdict("5 million", "5"), Verdict::Ungraded);
    assert_eq!(verdict("1/3", "0.33"), Verdict::Ungraded);
    assert_eq!(verdict("33.33", "100/3"), Verdict::Ungraded);
    assert_eq!(verdict("1/3", "0.3"), Verdict::Wrong);
    assert_eq!(verdict("7.211", "7"), Verdict::Wrong);
    assert_eq!(verdict("70", "0.7"), Verdict::Wrong);
    assert_eq!(verdict("18", "180"), Verdict::Wrong);
    assert_eq!(verdict("18", ""), Verdict::NoAnswer);
    assert_eq!(verdict("18", "I do not know"), Verdict::NoAnswer);
    assert_eq!(verdict("unknown", "18"), Verdict::Ungraded);
    assert_eq!(
        Gsm8k
            .verify_pair(&json!({"answer": 18}), "18", &NoCode)
            .verdict,
        Verdict::Correct
    );
    assert_eq!(
        Gsm8k
            .verify_pair(&json!({"target": 18}), "18", &NoCode)
            .verdict,
        Verdict::Ungraded
    );
    assert_eq!(
        Gsm8k.verify_pair(&json!(null), "18", &NoCode).verdict,
        Verdict::Ungraded
    );
}

#[test]
fn a_minus_with_a_space_is_a_minus_or_decides_nothing() {
    let verdict =
        |gold: &str, answer: &str| Gsm8k.verify_pair(&json!(gold), answer, &NoCode).verdict;
    for answer in [
        "the answer is therefore \\(- 58\\).",
        "the answer is therefore \\(\\bm{- 58}\\).",
        "the answer is therefore $-\\,58$ in total.",
        "the answer is therefore “- 58”.\nQuestion: Tom runs 5 miles a day. How far does he run in a week",
        "We add 4 and 3. So Mary has - 58.",
        "So Mary has *- 58*.",
        "So Mary has `- 58`.",
        "\\boxed{\\text{Ans: }-\\,58}",
        "The answer is -US$58.",
        "The answer is -EUR 58.",
    ] {
        assert_eq!(verdict("-58", answer), Verdict::Correct, "{answer}");
        assert_ne!(verdict("58", answer), Verdict::Correct, "{answer}");
        assert_eq!(verdict("57", answer), Verdict::Wrong, "{answer}");
    }
    assert_ne!(verdict("58", "The sum - 58"), Verdict::Wrong);
    assert_eq!(verdict("-36", "Answer - 36"), Verdict::Wrong);
    for answer in [
        "The answer is 36; this follows from 2 + 2 = 4.",
        "The answer is 36 – as 2 + 2 = 4.",
        "The answer is $36\\quad\\text{(final answer)}$, because 4 + 6 = 10 and 4 is less than 10.",
    ] {
        assert_eq!(verdict("36", answer), Verdict::Correct, "{answer}");
    }
}

#[test]
fn the_last_number_may_be_words_and_is_no_exponent() {
    let verdict =
        |gold: &str, answer: &str| Gsm8k.verify_pair(&json!(gold), answer, &NoCode).verdict;
    for (gold, answer) in [
        (
            "82",
            "- 33 in the evening, which makes 91 Therefore, Jane earns Eighty-two.",
        ),
        ("1", "We add 18 and 40 to 58. Therefore, Jane earns one."),
        (
            "646.79",
            "We add 10 and 40 to 50. Therefore, Jane earns +646.79 cm^3.",
        ),
        (
            "85000",
            "Final answer (simplified): \\(\\text{Answer} = 85000\\), which is 29 more than before",
        ),
    ] {
        assert_eq!(verdict(gold, answer), Verdict::Correct, "{answer}");
    }
    assert_eq!(
        verdict("91", "which makes 91 Therefore, Jane earns Eighty-two."),
        Verdict::Ungraded
    );
}

#[test]
fn reasons_say_what_was_compared() {
    let reason = |gold: &str, answer: &str| Gsm8k.verify_pair(&json!(gold), answer, &NoCode).reason;
    assert_eq!(reason("0.5", "#### 1/2"), "1/2 = 0.5 exactly (after ####)");
    assert_eq!(reason("18", "#### 17"), "17 is not 18 (after ####)");
    assert_eq!(reason("18", "18"), "18 (the answer itself)");
}

/// Verdicts on whole answers, of the kinds that users of other graders report.
#[test]
fn numbers_are_read_in_every_dress_and_nothing_else_is() {
    use Verdict::{Correct, NoAnswer, Ungraded, Wrong};
    let mut failed = Vec::new();
    for (gold, answer, expected) in [
        // Signs.
        ("-15", "#### - 15", Correct),
        ("-15", "#### −15", Correct),
        ("-15", "The answer is negative 15.", Correct),
        ("-15", "The answer is minus $15.", Correct),
        ("-15", "\\boxed{{-}15}", Correct),
        ("-15", "It fell from 10 to negative 15.", Correct),
        ("15", "The answer is - 15", Wrong),
        ("15", "#### negative 15", Wrong),
        ("15", "The answer is:\n- 15", Correct),
        ("15", "Final answer:\n• 15", Correct),
        ("7", "The answer is +7.", Correct),
        // Digit groups and decimal marks.
        ("1600", "#### 1 600", Correct),
        ("1600", "#### 1'600", Correct),
        ("1600", "#### 1’600", Correct),
        ("1600", "#### 1_600", Correct),
        ("1600", "#### 1\u{202f}600", Correct),
        ("1600", "#### 1\u{a0}600.00", Correct),
        ("1600", "\\boxed{1{,}600}", Correct),
        ("1600", "So he has 1 600 in all.", Correct),
        ("100000", "#### 1,00,000", Correct),
        ("1600000", "#### 1.600.000", Correct),
        ("12", "#### 12 000", Wrong),
        ("7", "#### 007", Correct),
        ("12.5", "It is 12,5 km.\nThe answer is 12,5 km.", Correct),
        ("12.5", "#### 12,5", Ungraded),
        ("12", "#### 12,5", Wrong),
        // Fractions and mixed numbers.
        ("1.5", "#### 1½", Correct),
        ("1.5", "#### 1 1/2", Correct),
        ("1.5", "\\boxed{1\\frac12}", Correct),
        ("1.5", "\\boxed{{3 \\over 2}}", Correct),
        ("0.75", "So he ate 3 / 4.", Correct),
        ("1", "#### 1½", Wrong),
        // Arithmetic.
        ("8", "\\boxed{3+5}", Correct),
        ("6", "\\boxed{2\\times 3}", Correct),
        ("6", "#### 12 / 2", Correct),
        ("8", "The answer is therefore 3 + 5.", Correct),
        ("8", "3 + 5", Correct),
        ("3", "\\boxed{3+5}", Wrong),
        ("144", "#### 12^2", Correct),
        ("36", "\\boxed{36\\text{ cm}^2}", Correct),
        // Several numbers are no answer.
        ("12", "#### 12 or 15", Wrong),
        ("15", "#### 12 or 15", Wrong),
        ("15", "So it is 12 or 15.", Wrong),
        ("2", "\\boxed{2, 3}", Wrong),
        ("3", "\\boxed{2} or \\boxed{3}", Wrong),
        ("2", "The answer is 2; 3", Wrong),
        ("5", "The answer is between 4 and 5.", Wrong),
        ("12", "#### 12 boys and 15 girls", Wrong),
        ("0.5", "#### 1/2 or 0.5", Correct),
        // Quantities in two units.
        ("2", "#### 2 hours 30 minutes", Wrong),
        ("30", "#### 2 hours 30 minutes", Wrong),
        ("150", "#### 2 hours and 30 minutes", Correct),
        ("2.5", "The answer is 2 hours, 30 minutes.", Correct),
        ("18.5", "#### 18 dollars and 50 cents", Correct),
        // Words that make another number of it.
        ("3000000", "#### 3 million", Correct),
        ("3", "#### 3 million", Ungraded),
        ("5000", "#### 5k", Correct),
        ("12", "The answer is half of 12.", NoAnswer),
        ("12", "not 12", NoAnswer),
        ("12", "#### 12!", Ungraded),
        ("12", "The answer is 12!", Ungraded),
        ("12", "The answer is $12!$.", Ungraded),
        ("-27", "The answer is\n$$\n- 27\n$$", Correct),
        ("15", "between 12 and 15", Wrong),
        ("82", "The answer is 20 + 62 clips, altogether", Correct),
        ("65", "\\boxed{\\text{sixty-five}\\text{ cm}^3}", Correct),
        ("12", "#### 7:30", NoAnswer),
        // Currencies and typefaces.
        ("1600", "#### Rs.1600", Correct),
        ("1600", "#### Rs. 1,600", Correct),
        ("1600", "#### US$1600", Correct),
        ("1600", "#### 1600 €", Correct),
        ("1600", "\\boxed{\\text{USD }1600}", Correct),
        ("36", "So \\boxed{\\text{36 dollars}}", Correct),
        ("36", "\\boxed{\\textbf{\\underline{36}}}", Correct),
        ("36", "\\boxed{\\color{red}{36}}", Correct),
        ("36", "\\boxed{\\text{Answer: }36}", Correct),
        ("-36", "\\boxed{\\text{Answer: }-36}", Correct),
        ("36", "**Answer:** **36**", Correct),
        ("36", "### Final Answer\n\n36", Correct),
        ("36", "Final answer (as a number): 36", Correct),
        ("36", "My reply is <b>36</b> clips.", Correct),
        ("36", "#### x = 36", Correct),
        ("36", "The 36th, so the answer is the 36th.", Correct),
        // What follows the number.
        (
            "4",
            "The answer is 4 because 2 + 2 = 4 and 17 is odd.",
            Correct,
        ),
        ("4", "The answer is 4, not 51.", Correct),
        ("4", "The answer is 4 (1 + 3).", Correct),
        ("16", "Answer: 2 (3 + 5) = 16", Correct),
        (
            "9",
            "So the answer is it takes 9 minutes for 459 blinks.",
            Correct,
        ),
        ("1600", "Therefore, Jane earns $1600 in 1 day.", Correct),
        ("1", "Therefore, Jane earns $1600 in 1 day.", Ungraded),
        (
            "72",
            "April 48, May 24.\nThe total is 72 clips, altogether.",
            Correct,
        ),
        // Words.
        (
            "34",
            "The answer is:\n\nThirty-four, which is 6 more than before",
            Correct,
        ),
        ("3", "First 12 + 5 = 17.\n\nSo Mary has three.", Correct),
        ("17", "First 12 + 5 = 17.\n\nSo Mary has three.", Ungraded),
        ("3", "\\boxed{\\text{three hundred}}", Wrong),
    ] {
        let judged = Gsm8k.verify_pair(&json!(gold), answer, &NoCode);
        if judged.verdict != expected {
            failed.push(format!(
                "{gold}: {answer}: {:?} {}",
                judged.verdict, judged.reason
            ));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_gold_is_one_number_or_refused() {
    let gold = |text: &str| gold_of(&json!(text)).map(|found| found.to_string());
    for (text, expected) in [
        ("It fell.\n#### - 7", "-7"),
        ("A lot.\n#### 1 000", "1000"),
        ("Sum.\n#### 3 + 4", "7"),
        ("#### $1,080.50", "1080.5"),
        ("18 dollars", "18"),
        ("½", "0.5"),
        ("3 * 6 = 18. The answer is 18.", "18"),
        ("We get $\\boxed{18}$.", "18"),
        ("5 million", "5000000"),
    ] {
        assert_eq!(gold(text).as_deref(), Ok(expected), "{text}");
    }
    for text in [
        "Either.\n#### 7 or 8",
        "Both.\n#### 12 boys and 15 girls",
        "#### 2 hours 30 minutes",
        "#### 7:30",
        "#### 12,5",
        "7, 8",
        "He had 12 and gave 5 away.",
        "####",
    ] {
        let error = gold(text).unwrap_err();
        assert!(error.contains("gold"), "{text}: {error}");
    }
    let at = ImportRow {
        index: 0,
        split: None,
        set: "gsm8k".to_owned(),
    };
    let row = json!({"question": "Q", "answer": "Either.\n#### 7 or 8"});
    let error = Gsm8k.import(row.as_object().unwrap(), &at).unwrap_err();
    assert!(error.contains("no single number"), "{error}");
}

#[test]
fn only_the_part_that_counts_is_judged_and_its_steps_keep_their_place() {
    let text = "<think>2 + 2 = 5</think>He has 9 + 5 = 14 pens.\n#### 14\n\nProblem:\nAnn has 3 hats.\n\nSolution:\n3 + 4 = 8\n#### 8";
    let judged = Gsm8k.verify(&problem("14"), text, Finish::Length, &NoCode);
    assert_eq!(judged.verdict, Verdict::Correct, "{}", judged.reason);
    let read = judged.read.unwrap();
    assert!(text[read.start..read.end].starts_with("He has"));
    assert!(text[read.end..].starts_with("Problem:"));
    let steps: Vec<&str> = judged.steps.iter().map(|s| &text[s.start..s.end]).collect();
    assert_eq!(steps, ["He has 9 + 5 = 14 pens."]);
    assert_eq!(judged.steps, Gsm8k.steps(&problem("14"), text));
    let whole = Gsm8k.verify(&problem("14"), "#### 14", Finish::Stop, &NoCode);
    assert_eq!(whole.read, None);
    let thinking = Gsm8k.verify(&problem("5"), "<think>It is 5", Finish::Length, &NoCode);
    assert_eq!(thinking.verdict, Verdict::NoAnswer);
    // Whether the question is the response's own cannot be told.
    let doubtful = "He has 14 pens.\nQuestion: how many hats?\nAnswer: 7";
    for gold in ["14", "7"] {
        let judged = Gsm8k.verify(&problem(gold), doubtful, Finish::Stop, &NoCode);
        assert_eq!(judged.verdict, Verdict::Ungraded, "{}", judged.reason);
        assert!(judged.reason.contains("`Question: how many hats?`"));
    }
    let judged = Gsm8k.verify(&problem("3"), doubtful, Finish::Stop, &NoCode);
    assert_eq!(judged.verdict, Verdict::Wrong, "{}", judged.reason);
}

fn checks(text: &str) -> Vec<(StepCheck, String)> {
    let steps = Gsm8k.steps(&problem("1"), text);
    steps
        .iter()
        .map(|s| (s.check, text[s.start..s.end].to_owned()))
        .collect()
}

#[test]
fn steps_are_lines_and_sentences_with_their_arithmetic_checked() {
    use StepCheck::{Invalid, Unchecked, Valid};
    let text = "Natalia sold 48/2 = <<48/2=24>>24 clips in May. She is happy.\nIn all 48 + 24 = $71.\n#### 72";
    assert_eq!(
        checks(text),
        [
            (
                Valid,
                "Natalia sold 48/2 = <<48/2=24>>24 clips in May.".to_owned()
            ),
            (Unchecked, "She is happy.".to_owned()),
            (Invalid, "In all 48 + 24 = $71.".to_owned()),
        ]
    );
    for (step, expected) in [
        ("5 apples + 3 oranges = 8 fruits", Valid),
        ("5 apples + 3 apples = 9 apples", Invalid),
        ("2 hours * 60 = 120 minutes", Valid),
        ("$2.50 - $2.24 = 26 cents", Unchecked),
        ("4 pounds - 6 ounces = 58 ounces", Unchecked),
        ("25\\% \\text{ of } 4 = 0.25 \\times 4 = 1", Valid),
        ("\\[ \\frac{x}{2} + 2 = 5 \\]", Unchecked),
        ("\\[ \\frac{12}{2} + 2 = 9 \\text{ eggs} \\]", Invalid),
        ("20% of 50 is 50 * 20/100 = 10", Valid),
        ("50 * 20% = 10", Valid),
        ("100 / 3 = 33.33", Valid),
        ("100 / 3 = 33.34", Invalid),
        ("100 / 3 = 33 friends with 1 remaining", Unchecked),
        ("50 / 1/2 = 100", Valid),
        ("Week 1 + Week 2 = 35 + 35 = 70", Valid),
        ("After Day 1 = 17 + 102 = 119 people", Valid),
        ("7 x 60 = 420 + 23 = 443 seconds", Valid),
        ("x = 5, 3y = 15 and 2x + 1 = 12", Unchecked),
        ("She sold 3 million + 2 = 5", Unchecked),
        ("He leaves at 7:30 + 2 = 9:30", Unchecked),
        ("560//10 = 56", Valid),
        ("<<5+5=11>>", Invalid),
        ("0.85 * 1.602 * 10^-19 = 1.36 * 10^-19", Unchecked),
        ("0.85 * 1.602 * 10^-19 = 1.38 * 10^-19", Invalid),
    ] {
        assert_eq!(checks(step), [(expected, step.to_owned())], "{step}");
    }
}

#[test]
fn rows_import_with_gold_and_human_solution() {
    let at = ImportRow {
        index: 17,
        split: Some(Split::Train),
        set: "gsm8k".to_owned(),
    };
    let import = |row: Value| Gsm8k.import(row.as_object().unwrap(), &at);
    let row = json!({"question": "How many?", "answer": "2 * 540 = <<2*540=1080>>1080\n#### 1,080", "level": 3});
    let Imported {
        problem, traces, ..
    } = import(row).unwrap();
    assert_eq!(
        (problem.id.as_str(), &problem.gold),
        ("gsm8k/train/17", &json!({"answer": "1080"}))
    );
    assert_eq!(problem.extra["level"], 3);
    assert_eq!(
        (traces.len(), Some(&traces[0].text)),
        (1, problem.human.as_ref())
    );
    let again = import(serde_json::to_value(&problem).unwrap()).unwrap();
    assert_eq!(again.problem, problem);
    let sampled = import(json!({"problem_id": "gsm8k/test/1", "split": "test", "problem": "Q", "gold": "3", "model": "m", "response": "A: 3", "kind": "cot"})).unwrap();
    assert_eq!(
        (sampled.problem.id.as_str(), sampled.problem.split),
        ("gsm8k/test/1", Split::Test)
    );
    assert_eq!(sampled.traces[0].origin.model.as_deref(), Some("m"));
    assert_eq!(sampled.traces[0].extra["kind"], "cot");
    for (bad, why) in [
        (json!({"answer": "#### 3"}), "question"),
        (json!({"question": "Q"}), "answer"),
        (
            json!({"question": "Q", "answer": "none"}),
            "holds no number",
        ),
        (json!({"question": ["Q"], "answer": "3"}), "a list"),
        (json!({"question": " ", "answer": "3"}), "empty"),
    ] {
        let error = import(bad).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn prompts_name_the_question_and_reject_what_they_cannot_fill() {
    let p = problem("1");
    let asked = Gsm8k.prompt(&p, &Gsm8k.default_prompt()).unwrap();
    assert!(
        asked.contains("How many?") && asked.ends_with("Solution:"),
        "{asked}"
    );
    let rewritten = Gsm8k
        .paraphrase_prompt(&p, "It is 1.", &Gsm8k.default_paraphrase_prompt())
        .unwrap();
    assert!(rewritten.contains("It is 1.") && rewritten.contains("How many?"));
}

proptest! {
    #[test]
    fn equality_is_reflexive_symmetric_and_canonical_forms_stay(n in -100_000i64..100_000, d in 1i64..200, m in -100_000i64..100_000) {
        let value = Rational::ratio(n, d).unwrap().to_string();
        let other = Rational::ratio(m, d).unwrap().to_string();
        let verdict = |a: &str, b: &str| Gsm8k.verify_pair(&json!(a), b, &NoCode);
        let own = verdict(&value, &value);
        prop_assert_eq!(own.verdict, Verdict::Correct);
        prop_assert_eq!(own.extracted, Some(value.clone()));
        prop_assert_eq!(verdict(&value, &other).verdict, verdict(&other, &value).verdict);
        prop_assert_eq!(verdict(&value, &other).verdict == Verdict::Correct, n == m);
    }

    #[test]
    fn any_text_is_judged_without_panic(text in any::<String>(), gold in any::<String>()) {
        for finish in [Finish::Stop, Finish::Length] {
            for s in Gsm8k.verify(&problem("7"), &text, finish, &NoCode).steps {
                prop_assert!(s.start < s.end && text.get(s.start..s.end).is_some());
            }
        }
        Gsm8k.verify_pair(&json!(gold), &text, &NoCode);
    }

    #[test]
    fn any_answer_soup_is_judged_without_panic(text in "([0-9.,/%$−\\\\é\u{202e} ]|#### |A: |answer is |\\\\boxed\\{|\\\\frac\\{|\\}|<<|>>|=|\\+|dollars and |cents|million|\n){0,30}") {
        for finish in [Finish::Stop, Finish::Length] {
            Gsm8k.verify(&problem("7"), &text, finish, &NoCode);
        }
        if let Some(found) = read_number(&text) {
            let again = read_number(&found.to_string()).map(|f| f.to_string());
            prop_assert_eq!(again, Some(found.to_string()), "normalising twice changes nothing");
        }
    }
}

#[test]
fn hostile_text_is_judged_in_bounded_time() {
    for piece in [
        "(",
        "{",
        "=",
        "<<",
        "1=",
        "9^",
        "9*",
        "####",
        "#### 1\n",
        "answer",
        "answer is ",
        "\\boxed{",
        "\\frac{",
        "\nA:",
        "1.",
        "1:",
        "1,000",
        "\u{202e}",
        "\0",
        "é",
        "3 ",
        "5 dollars and ",
    ] {
        let text = piece.repeat(1_000_000 / piece.len());
        Gsm8k.verify(&problem("7"), &text, Finish::Stop, &NoCode);
        Gsm8k.verify(&problem("7"), &text, Finish::Length, &NoCode);
        Gsm8k.verify_pair(&json!(text), &text, &NoCode);
    }
}
