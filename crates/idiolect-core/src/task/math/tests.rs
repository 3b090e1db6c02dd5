use serde_json::json;

use super::*;

fn verdict(gold: &str, answer: &str) -> Judgement {
    Math.verify_pair(&json!(gold), answer, &crate::task::NoCode)
}

#[test]
fn equal_answers_are_seen_in_every_notation() {
    for (gold, answer) in [
        (r"\frac{1}{2}", "0.5"),
        (r"\frac12", r"\dfrac{1}{2}"),
        ("1234", "1,234"),
        ("x=5", "5"),
        (r"60^\circ", "60"),
        (r"28\%", "28"),
        ("0.335", r"33.5\%"),
        (r"\$10", "10"),
        (r"(-\infty,3)\cup(3,\infty)", r"x \ne 3"),
        ("(x+1)^2", "x^2+2x+1"),
        (r"3 \pm 2\sqrt{2}", r"3-2\sqrt2, 3+2\sqrt2"),
        (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1, 2)"),
        ("1 \\text{ m}", "100 cm"),
        (r"\text{(C)}", "C"),
        ("20:34", r"8:34 \text{ p.m.}"),
        (r"\text{October 30}", "30 October"),
        (r"\binom{5}{2}", "10"),
        (r"\log_2 8", "3"),
        ("1.5 \\times 10^3", "1500"),
    ] {
        let judged = verdict(gold, answer);
        assert_eq!(
            judged.verdict,
            Verdict::Correct,
            "{gold} and {answer}: {}",
            judged.reason
        );
    }
}
