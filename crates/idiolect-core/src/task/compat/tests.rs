#![expect(clippy::float_cmp, reason = "scores are four constants")]

use super::*;

#[test]
fn the_papers_scorer_is_reproduced_on_all_its_vectors() {
    let vectors = include_str!("../../../../../fixtures/countdown/official-vectors.jsonl");
    let mut rows = 0;
    for line in vectors.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let nums: Vec<i64> = row["nums"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_i64().unwrap())
            .collect();
        let score = countdown_paper(row["output"].as_str().unwrap(), &nums, &row["target"]);
        assert_eq!(
            Some(score),
            row["official_score"].as_f64(),
            "{}",
            row["name"]
        );
        rows += 1;
    }
    assert_eq!(rows, 25);
}

#[test]
fn hostile_expressions_end() {
    let score = |answer: &str, nums: &[i64]| {
        countdown_paper(&format!("<answer>{answer}</answer>"), nums, &Value::from(1))
    };
    assert_eq!(score("9**9**9**9", &[9, 9, 9, 9]), 0.0);
    assert_eq!(score("1**9**9", &[1, 9, 9]), 1.0);
    assert_eq!(
        score(
            &format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000)),
            &[1]
        ),
        0.1
    );
    assert_eq!(score(&"-".repeat(100_000), &[]), 0.1);
}

#[test]
fn python_arithmetic_is_followed() {
    let value = |text| match python::evaluate(text) {
        Ok(Number::Int(n)) => n.to_string(),
        Ok(Number::Float(f)) => format!("{f:?}"),
        Ok(Number::Complex) => "complex".to_owned(),
        Err(failure) => format!("{failure:?}"),
    };
    // Each checked against CPython 3.11.
    for (text, expected) in [
        ("-7 // 2", "-4"),
        ("7 // -2", "-4"),
        ("-2 ** 2", "-4"),
        ("2 ** 3 ** 2", "512"),
        ("2 ** -1", "0.5"),
        ("0 ** -1", "Raises"),
        ("(-8) ** (1/3)", "complex"),
        ("1 / 3 * 3", "1.0"),
        ("7.5 // 2", "3.0"),
        ("00 + 1", "1"),
        ("01 + 1", "Raises"),
        (".5 + 5.", "5.5"),
        ("1..2", "Raises"),
        ("2(3)", "Raises"),
        ("2 * * 3", "Raises"),
        ("+-+3", "-3"),
        ("10 ** 400 / 3", "Raises"),
        ("10 ** 400 / 10 ** 399", "10.0"),
        ("()", "Raises"),
        ("", "Raises"),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
}

#[test]
fn gsm8k_exact_match_compares_texts() {
    let gold = "… <<48+24=72>>72 clips.\n#### 1,072";
    assert_eq!(gsm8k_em(gold, "so\n#### 1072"), Some(true));
    assert_eq!(gsm8k_em(gold, "#### 1072.0"), Some(false));
    assert_eq!(gsm8k_em(gold, "####1072"), Some(false));
    assert_eq!(gsm8k_em(gold, "#### $1072 #### 1072"), Some(true));
    assert_eq!(gsm8k_em("72", "#### 72"), None);
}
