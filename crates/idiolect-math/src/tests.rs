use proptest::prelude::*;

use super::*;
use Grade::{Correct, NoAnswer, Ungraded, Wrong};
use answer::Answer;

fn check(cases: &[(&str, &str)], expected: Grade) {
    for (gold, answer) in cases {
        let judged = grade(gold, answer);
        assert_eq!(
            judged.grade, expected,
            "gold {gold}, answer {answer}: {}",
            judged.reason
        );
        assert!(!judged.reason.is_empty());
    }
}

#[test]
fn a_letter_that_is_chosen_against_another_is_the_first() {
    for said in [
        "My reply is A), not the (C) I had before.",
        "My reply is A, not the (C) I had before.",
        "The answer is (A), not (C).",
        "A) not C",
    ] {
        check(&[(r"\text{(A)}", said)], Correct);
        let other = grade(r"\text{(C)}", said);
        assert_ne!(other.grade, Correct, "{said}: {}", other.reason);
    }
}

#[test]
fn numbers_of_things_are_compared_thing_by_thing() {
    let gold = r"37\text{ boys and }33\text{ girls}";
    check(
        &[
            (gold, "37 boys and 33 girls"),
            (gold, r"33\text{ girls and }37\text{ boys}"),
            (gold, "37, 33"),
            (r"1\text{ boy}, 3\text{ girls}", "3 girls and 1 boy"),
            (r"2\text{ boxes and }3\text{ bags}", "3 bags and 2 boxes"),
        ],
        Correct,
    );
    check(
        &[
            (gold, "33 boys and 37 girls"),
            (gold, "37 girls and 33 boys"),
            (gold, "37 boys and 34 girls"),
            (gold, "37 girls, 34 boys"),
            (r"1\text{ boy}, 3\text{ girls}", "3 boys and 1 girl"),
        ],
        Wrong,
    );
    check(
        &[(gold, "33, 37"), ("37, 33", "33 boys and 37 girls")],
        Ungraded,
    );
}

#[test]
fn a_minus_before_a_currency_sign_counts() {
    for number in [
        "-$5", "-\\$5", "−$5", "(-$5)", "- $5", "-€5", "-US$5", "-$ 5",
    ] {
        for around in [
            "{}",
            "**{}**",
            "The answer is {}.",
            "The answer is {} (exactly).",
            "The answer is {}. I hope it is correct.\n\nIt seems plausible, as said above.",
            "<answer>{}</answer>",
            "So he owes {}.",
        ] {
            let answer = around.replace("{}", number);
            check(&[("-5", &answer)], Correct);
            check(&[("5", &answer), (r"\$5", &answer)], Wrong);
        }
    }
    check(&[("5", "He pays 8-$3 = $5.")], Correct);
}

#[test]
fn a_remark_hides_no_unit() {
    for remark in [
        r"\text{ (simplified)}",
        r"\text{ altogether}",
        r"\text{ in total}",
        r"\text{ of rope}",
        r"\text{ (as required)}",
        r"\quad\text{(final answer)}",
        " (exactly)",
    ] {
        let answer = format!(r"104\text{{ minutes}}{remark}");
        check(&[(r"104\text{ minutes}", &answer)], Correct);
        check(&[(r"104\text{ seconds}", &answer)], Wrong);
        let answer = format!(r"8\text{{ hours }}59\text{{ minutes}}{remark}");
        check(&[(r"8\text{ hours }59\text{ minutes}", &answer)], Correct);
        check(&[(r"8\text{ hours }58\text{ minutes}", &answer)], Wrong);
    }
}

#[test]
fn a_letter_that_touches_the_number_is_the_unit_of_the_gold() {
    let gold = r"159\text{ hours}";
    check(
        &[
            (gold, "159h"),
            (gold, "The answer is 159h, since 3 + 4 = 7."),
            (gold, "159H (exactly)"),
            (r"374\text{ seconds}", "374s"),
            (r"279\text{ meters}", "279m"),
        ],
        Correct,
    );
    check(&[(gold, "158h"), (gold, "159m"), (gold, "159s")], Wrong);
}

#[test]
fn labels_countries_and_choices_in_words_say_nothing_of_the_value() {
    check(
        &[
            ("30", "US$30"),
            ("471", "The answer is A$471, so 3 fewer than before."),
            ("9", "Rs.9"),
            ("9487", "Rs.09487"),
            ("7000000", "EUR 7 000 000"),
            (r"\text{(B)}", "Option B"),
            (r"\text{(E)}", "choice (E)"),
            (r"\text{(A)}", "Final Answer: A (see above)"),
            (r"\text{Alice}", r"\boxed{\text{Ans: }\mbox{Alice}}"),
            (r"7\frac{2}{3}", r"\boxed{\text{Total: }+7\frac{2}{3}}"),
            ("1-3i", r"The answer is $\text{The answer is }1-3i$."),
            (
                "5:2",
                r"The answer is $\text{The answer is }5:2$ instead of 6:2.",
            ),
            ("9", r"**Answer:** $\text{Answer} = 9$ (nine)"),
            (r"\text{(C)}", r"\boxed{\textbf{Answer: }C}"),
            ("(-4,-5)", r"\underline{(-4, -5)\quad\text{(final answer)}}"),
            (
                r"\{15,19\}",
                r"\(\underline{\{15,19\}\quad\text{(final answer)}}\) (exactly)",
            ),
            ("2", "**Answer:** Two"),
            (
                "343",
                "The answer is “three hundred and forty-three”, because 36 + 48 = 84.",
            ),
        ],
        Correct,
    );
    check(
        &[
            (
                "5:2",
                r"The answer is $\text{The answer is }6:2$ instead of 5:2.",
            ),
            ("30", "US$31"),
            (r"\text{(B)}", "Option C"),
            (r"\text{Alice}", r"\boxed{\text{Ans: }\mbox{Bob}}"),
            (
                r"12\!:\!00\text{ p.m.}",
                "The answer is 12:00 a.m. I hope it is correct.",
            ),
        ],
        Wrong,
    );
    check(&[(r"6:45\text{ a.m.}", "6:45")], Ungraded);
    check(
        &[(r"4:30 \text{ p.m.}", "4:30p"), ("4:30p.m.", "4:30p..")],
        Ungraded,
    );
}

#[test]
fn digit_groups_stand_behind_names_and_in_brackets() {
    for answer in [
        "A = 9,45,40,847",
        r"\quad 9,45,40,847",
        r"\text{Total} = 9,45,40,847 per day",
        "N = 94’540’847",
        "x = 94\u{202f}540\u{202f}847",
        r"\left(94\,540\,847\right)",
        "\\left( 94\u{a0}540\u{a0}847 \\right)",
        "\\$94\u{a0}540\u{a0}847",
        r"\underline{\,94 540 847}",
        "\\Large 94\u{2009}540\u{2009}847",
        "f(3) = 94540847 (= 94540846 + 1)",
    ] {
        check(&[("94540847", answer)], Correct);
        let other = answer.replace("847", "874");
        check(&[("94540847", &other)], Wrong);
    }
    check(
        &[
            ("402", "42+360=402 (four hundred and two)"),
            ("958", "k = 958 (nine hundred and fifty-eight)"),
        ],
        Correct,
    );
    check(
        &[
            ("(51,0)", "(51 000)"),
            ("402", "42+360=403 (four hundred and three)"),
        ],
        Wrong,
    );
}

#[test]
fn clauses_behind_dashes_and_semicolons_are_cut_off() {
    check(
        &[
            ("36", "The answer is 36; this follows from 2 + 2 = 4."),
            ("36", "The answer is 36 – as 2 + 2 = 4."),
            ("36", "The answer is 36 — done."),
            ("36", "THE ANSWER IS 36."),
            ("36", "Answer - 36"),
            (r"\text{Alice, Carla}", "The answer is Carla and Alice."),
            (r"\$12", "1200 cents"),
            (r"12\text{ cents}", r"\$0.12"),
        ],
        Correct,
    );
    check(
        &[
            ("-36", "Answer - 36"),
            (r"\text{Alice, Carla}", "The answer is Farid and Alice."),
            (r"\$12", "12 cents"),
            (r"12\text{ cents}", r"\$12"),
        ],
        Wrong,
    );
}

#[test]
fn several_letters_are_no_choice() {
    check(
        &[
            (r"\text{(B)}", "B and C"),
            (r"\text{(B)}", "The answer is B or C."),
            (r"\text{(B)}", r"\text{A,B,C,D}"),
            ("C", r"\text{C, F, H}"),
        ],
        Wrong,
    );
    check(
        &[
            (r"\text{(B)}", "I think it is B and not C"),
            ("D", "The answer is for sure D, it can't be A or B"),
        ],
        Correct,
    );
}

#[test]
fn a_decimal_comma_may_have_a_remark_in_brackets_behind_it() {
    check(
        &[
            ("0.27", r"0,27\quad\text{(final answer)}"),
            ("431.23", "Answer: 431,23 km (exactly)"),
        ],
        Correct,
    );
    check(&[("0.27", "(0,27)"), ("1.2", "(1,2)")], Wrong);
}

#[test]
fn numbers_are_compared_exactly_in_every_notation() {
    check(
        &[
            (r"\frac{1}{2}", "0.5"),
            (r"\frac12", r"\dfrac{1}{2}"),
            ("1234", "1,234"),
            (r"12{,}345", "12345"),
            (r"2,\!598,\!960", "2598960"),
            ("1000", "1 000"),
            (r"1\frac{4}{5}", "1.8"),
            ("1.5", "1 1/2"),
            (r"0.\overline{3}", "1/3"),
            (r"1.5 \times 10^3", "1500"),
            ("3.54e-07", r"3.54*10^{-7}"),
            (r"28\%", "28 percent"),
            ("0.335", r"33.5\%"),
            (r"\$10", "10"),
            ("€77", "77"),
            (r"60^\circ", "60"),
            (r"\frac{\pi}{2}", r"90^\circ"),
            ("10", r"10\text{ cm}^2"),
            ("10", "10 square units"),
            (r"1 \text{ m}", "100 cm"),
            ("1011_2", r"1011_{2}"),
            ("664_7", "664"),
            (r"\binom{5}{2}", "10"),
            ("315", r"\frac{7!}{16}"),
            (r"\log_2 8", "3"),
            (r"\tan 45^\circ", "1"),
            (r"\sqrt{14}", r"\sqrt{5-\sqrt{21}}+\sqrt{\sqrt{21}+5}"),
            (r"|{-3}|", "3"),
            (r"\lfloor 3.7 \rfloor", "3"),
            (r"\gcd(12, 18)", "6"),
            (r"-97\mod 7", "1"),
            (r"\sum_{k=1}^{10} k^2", "385"),
            (r"\sqrt[3]{-8}", "-2"),
            ("１８", "18"),
            ("½", "0.5"),
            ("x²", "x^2"),
            (r"\frac{1}{12}", "0.0833333333333333"),
            (r"\sqrt{65}", "8.062258"),
        ],
        Correct,
    );
    check(
        &[
            ("100000000000", "99999999999"),
            ("3.15", "3.14159"),
            ("1011_2", "11"),
            ("664_7", "664_8"),
            ("10", "10m"),
            ("10", r"10,\!010"),
            ("100", "100,100"),
            ("10001_2", r"17^\circ"),
            (r"5 \text{ m}", "5 kg"),
            ("12:00", "1:00"),
        ],
        Wrong,
    );
}

#[test]
fn expressions_are_compared_as_identities() {
    check(
        &[
            ("(x+1)^2", "x^2+2x+1"),
            (r"\sin^2 x", r"1 - \cos^2 x"),
            (r"\frac{e^{2t}+1}{2e^t}", r"\cosh(t)"),
            (r"2 \sin b \cos a", r"\sin(a+b)-\sin(a-b)"),
            (r"100p^{\frac{1}{2}}", r"100\sqrt{p}"),
            ("4/3-7x/6", r"\frac{8-7x}{6}"),
            (r"y = 2x+3", "3+2x"),
            ("2x+4y-3=0", r"y=-\frac{1}{2}x+\frac{3}{4}"),
            ("x < 1", "-x > -1"),
            (r"x_{1}", "x_1"),
            (r"\frac{4A}{3+3i}", r"\frac{2A}{3}(1-i)"),
            ("1/2x", r"\frac{1}{2}x"),
            ("1/2x", r"\frac{1}{2x}"),
            (r"\int x^2\,dx", r"\int x\cdot x \, dx"),
            ("f(x+1)", "f(1+x)"),
            ("n!", "n(n-1)!"),
        ],
        Correct,
    );
    check(
        &[
            ("x^2+2x+1", "x^3+2x+1"),
            (r"\sqrt{x^2}", "x"),
            ("7 = 11a+c", "11a+c"),
            ("2x + z = 1", "1"),
            (r"\cos(x)=\frac{42}{59}", r"\sin(x)=\frac{42}{59}"),
            ("x > 5", "x < 5"),
            ("C", "c"),
            ("f(x)", "f(x+1)"),
            ("x_1", "x_2"),
        ],
        Wrong,
    );
}

#[test]
fn collections_are_compared_by_their_structure() {
    check(
        &[
            ("1, 3, 2", "1, 2, 3"),
            (r"\{1,2,3\}", r"\{3,2,1\}"),
            (r"3 \pm 2\sqrt{2}", r"3-2\sqrt2, 3+2\sqrt2"),
            (r"\pm 2021", "{-2021, 2021}"),
            (r"x=1 \text{ or } x=2", "2, 1"),
            ("(1,2)", "(1, 2)"),
            ("p=5,q=2;p=7,q=2", "(5,2),(7,2)"),
            (r"(-\infty,3)\cup(3,\infty)", r"x \ne 3"),
            (r"[1/2, \infty)", r"x \in [0.5, \infty)"),
            ("0<x<1", "(0,1)"),
            (
                r"1\leq|z|\leq \frac{3}{2}",
                r"[-\frac{3}{2}, -1]\cup[1,\frac{3}{2}]",
            ),
            ("[0,1] ∪ [1,2]", "[0,2]"),
            (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1, 2)"),
            (
                r"\begin{pmatrix} 1 & 0.5 \\ 1/3 & 4 \end{pmatrix}",
                r"\left[\begin{array}{cc} 1 & 1/2 \\ \frac13 & 4\end{array}\right]",
            ),
            (
                r"2\begin{pmatrix} 1 \\ 2 \end{pmatrix}",
                r"\begin{pmatrix} 2 \\ 4 \end{pmatrix}",
            ),
            ("1:2", "2:4"),
            (
                r"(x,y) = (5, 8) \quad \text{and} \quad (8, 5)",
                "(8,5), (5,8)",
            ),
            (r"\emptyset", r"\{\}"),
        ],
        Correct,
    );
    check(
        &[
            ("(1,2)", "(2,1)"),
            ("(6,2)", "f(2) < f(1) < f(4)"),
            ("[0,1)", "[0,1]"),
            ("(1, 3, 2)", "[1, 2, 3]"),
            ("12", "(1,2)"),
            (r"\sqrt{67},-\sqrt{85}", r"\sqrt{67}"),
            (r"\pm 2021", "2021"),
            ("1:2", "2:1"),
            (
                r"\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}",
                r"\begin{pmatrix} 1 & 3 \\ 2 & 4 \end{pmatrix}",
            ),
        ],
        Wrong,
    );
}

#[test]
fn words_letters_times_and_dates_are_answers() {
    check(
        &[
            (r"\text{odd}", "odd"),
            (r"\text{Sunday}", "sunday"),
            (r"\text{(C)}", "C"),
            ("(D) Alina", "D"),
            ("B", "I think it's B"),
            ("20:34", r"8:34 \text{ p.m.}"),
            ("20:34:00", "20:34"),
            (r"\text{October 30}", "30th October"),
            (r"\text{A,C,F}", "A, C, F"),
            (r"\text{the ellipse}", "ellipse"),
        ],
        Correct,
    );
    check(
        &[
            (r"\text{odd}", "even"),
            ("(A) Cecile", "C"),
            (r"\text{October 30}", "October 31"),
            (r"\text{CBAD}", "ABCD"),
        ],
        Wrong,
    );
}

#[test]
fn what_cannot_be_decided_is_not_called_wrong() {
    check(
        &[
            (r"\int x^2 dx", r"\frac{x^3}{3}"),
            (r"\lim_{x \to 0} \frac{\sin x}{x}", "1"),
            (r"\frac{d}{dx} x^2", "2x"),
            ("9^{9^{9^9}}", "9^{9^{9^8}}"),
            ("", "5"),
            (r"\frac{", "5"),
        ],
        Ungraded,
    );
    check(
        &[("5", ""), ("5", "  $ $ "), ("5", "I cannot say")],
        NoAnswer,
    );
}

#[test]
fn words_beside_a_number_decide_nothing_that_they_change() {
    check(
        &[
            ("48", r"\text{-48}"),
            ("34", r"\mbox{3/4}"),
            ("75", r"\text{7.5}"),
            ("75", r"\approx -75"),
            ("38", r"3.8\,\checkmark"),
            ("94", r"9.4 ✓"),
            ("0.7", r"0.\overline7"),
            ("34", r"3 \parallel 4"),
            ("57", "5 7"),
            ("57", "$5$ $7$"),
            (
                r"3\text{ hours }20\text{ minutes}",
                r"3\text{ hours }25\text{ minutes}",
            ),
            (
                r"6\text{ feet }2\text{ inches}",
                r"6\text{ feet }3\text{ inches}",
            ),
            (r"7\text{ to }4", r"7\text{ to }9"),
            (r"2\text{ out of }9", r"2\text{ out of }7"),
            ("15", r"15\text{ plus }4"),
            ("15", "15 minus 4"),
            ("8", r"8\text{ thousand}"),
            ("8", r"8\text{ dozen}"),
            (r"07\!:\!00", r"08\!:\!00"),
            ("9:00 a.m.", "9:00 p.m."),
            (r"12^\circ\mathrm{C}", r"12^\circ\mathrm{F}"),
            (r"5\text{ cm}^2", r"5\text{ cm}^3"),
            (r"20\text{ square units}", r"20\text{ cubic units}"),
            (r"30\text{ degrees}", r"30\text{ radians}"),
            ("34^\\circ 56'", "56^\\circ 34'"),
            (r"9\text{ pints}^2", r"8\text{ pints}^2"),
        ],
        Wrong,
    );
    check(
        &[
            ("6", "half of 12"),
            ("12", "half of 12"),
            ("7", r"7\text{ less than } n"),
            ("14", r"\text{twice 7}"),
            (r"p\wedge q", r"p\vee q"),
            (r"2\text{ hours }30\text{ minutes}", "150"),
            ("5:00 p.m.", "5:00"),
            ("0.2", r"0.2\ldots"),
            ("0", "none"),
            ("3,5", "3.5"),
        ],
        Ungraded,
    );
}

#[test]
fn values_are_read_through_words_units_and_decoration() {
    check(
        &[
            (r"3\text{ hours }20\text{ minutes}", r"200\text{ minutes}"),
            ("2 hours 30 minutes", "2 hours and 30 minutes"),
            (r"9\text{ minutes }45\text{ seconds}", "9min 45s"),
            (r"\$3.25", r"3\text{ dollars }25\text{ cents}"),
            ("2500000", r"2.5\text{ million}"),
            ("36", "three dozen"),
            ("3:5", r"3\text{ to }5"),
            (r"\frac{2}{9}", "2 out of 9"),
            ("48", r"48\ \mathrm{km/h}"),
            ("7", r"7\ \mathrm{J}"),
            ("7", r"7\,\mathrm{m}\,\mathrm{s}^{-2}"),
            ("21", r"21^\circ\mathrm{F}"),
            ("21", r"21^{\text{st}}"),
            ("21", "21st"),
            ("5", r"\text{5 gallons}"),
            ("900", r"\textbf{900 euros}"),
            ("8", r"\underline{8}"),
            ("8", r"\textcolor{blue}{8}"),
            ("8", r"{\color{red}8}"),
            ("8", r"\fcolorbox{red}{white}{8}"),
            ("8", r"\mathtt{8}"),
            ("x+5", r"\text{Final answer: }x+5"),
            ("8", r"\text{The total is }8"),
            ("8", "008"),
            ("8", "8 (eight)"),
            ("8", "8 (that is, 3+5)"),
            ("x+5", "x+5 (exactly)"),
            ("8", r"8\quad\text{(final answer)}"),
            ("8", "<b>8</b>"),
            ("8", "“8”"),
            ("25", r"\text{twenty-five}"),
            ("140", "one hundred and forty"),
            (r"\frac{2}{3}", "two thirds"),
            ("1.5", "one and a half"),
            ("-5", r"\text{negative }5"),
            (r"\emptyset", r"\text{no real solutions}"),
            (r"-\infty", r"\text{negative infinity}"),
            (r"\mathbb{R}", r"\text{all real numbers}"),
            (r"\frac{4}{11}", r"0.363636\ldots"),
            (r"\frac{1}{3}", "0.333..."),
            (r"\frac{1}{6}", r"0.1\dot{6}"),
            (r"\frac{1}{3}", "0.(3)"),
            (r"\frac{7}{12}", "0.58333..."),
            ("3.5", "3,5"),
            ("0.125", "0,125"),
            ("1234.5", "1.234,5"),
            ("2.5", "2{,}5"),
            ("2000000", "20,00,000"),
            ("8450", "8 450 km"),
            ("8450123", "8_450_123"),
            ("8450123", "8.450.123"),
            ("40", "40 pct"),
            ("40\\%", r"40\text{ per cent}"),
            ("(1,2),(3,4)", "(1;2);(3;4)"),
            ("((1,2),(3,4))", "(1,2;3,4)"),
            (r"\frac{3}{4}", r"{3 \over 4}"),
            (r"\frac{3}{4}", r"\frac{3}{4"),
            ("4", "4}"),
            ("-4", "{-}4"),
            (r"101_2", r"101\text{ base two}"),
            ("15:30", r"3\!:\!30\ \mathrm{p.m.}"),
            (r"9\text{ a.m.}", "9:00 AM"),
            ("4", "My reply is 4"),
            (r"\text{Monday}", "The day is Monday."),
            (r"45 \text{ units}^2", "45"),
            (r"\text{A,C}", "C and A"),
            ("117.20", "USD 117.20"),
        ],
        Correct,
    );
}

#[test]
fn an_answer_that_is_equal_when_rounded_is_ungraded_with_that_reason() {
    for (gold, answer) in [
        (r"\frac{1}{3}", "0.3333"),
        (r"\frac{1}{3}", "0.33"),
        (r"\frac{1}{3}", r"33.3\%"),
        (r"\frac{2}{3}", "0.66"),
        (r"\frac{10}{11}", "0.9091"),
        (r"2\sqrt{13}", "7.211"),
        (r"\sqrt{2}", "1.4142"),
        ("33.33", r"\frac{100}{3}"),
        ("0.38", "0.3803"),
        (r"(\frac{1}{3}, 2)", "(0.333, 2)"),
        (r"\frac{1}{3}, 2", "2, 0.333"),
        (r"x = \frac{1}{3}", "x = 0.333"),
        (r"\frac{1}{3}\text{ km}", "0.333 km"),
        (
            r"\begin{pmatrix} 1/3 \\ 1 \end{pmatrix}",
            r"\begin{pmatrix} 0.33 \\ 1 \end{pmatrix}",
        ),
        ("3486784401", "3.49 billion"),
        (r"\pi", r"3.14159\ldots"),
    ] {
        let judged = grade(gold, answer);
        assert_eq!(judged.grade, Ungraded, "{gold} {answer} {}", judged.reason);
        assert!(judged.reason.starts_with(ROUNDED), "{}", judged.reason);
    }
    check(
        &[
            (r"2\sqrt{13}", "7"),
            (r"\frac{1}{3}", "0.3"),
            (r"\frac{1}{3}", "0.334"),
            (r"2\sqrt{13}", "7.212"),
            (r"(\frac{1}{3}, 2)", "(0.333, 3)"),
        ],
        Wrong,
    );
    let undecided = grade(r"p\wedge q", r"p\vee q");
    assert_eq!(undecided.grade, Ungraded);
    assert!(!undecided.reason.starts_with(ROUNDED));
}

#[test]
fn a_statement_comes_down_to_its_value() {
    for (text, expected) in [
        (
            "First 6. The answer is 4 because 2 + 2 = 4 and 17 is odd.",
            "4",
        ),
        ("The answer is 4, not 51.", "4"),
        ("The answer is $4$ rather than $5$.", "$4$"),
        ("the answer is therefore 4", "4"),
        ("Final answer (as an integer): 4", "4"),
        ("The answer is:\n- 4", "4"),
        (
            "The answers are 2.\n\nThe answer is:\n* $x = 1$\n* $x = 2$\n\nDone.",
            "$x = 1$, $x = 2$",
        ),
        ("Final Answer:\n1. 4\n2. 5", "4, 5"),
        ("**Answer:** **4**", "4"),
        (r"So the answer is **\$1,600**.", r"\$1,600"),
        (r"The relation is \boxed{p = 2q}, q = 7.", "p = 2q"),
        (
            "The relation is \\boxed{p = 2q}, q = 7.\n\nAnswer: 14",
            "14",
        ),
        (
            r"\boxed{14} and so on. The answer is in simplest form.",
            "14",
        ),
        (r"\boxed{\frac{1}{2}", r"\frac{1}{2}"),
        (r"We get $\boxed{12$.", "12"),
        ("7 it was. My reply is (4, 7].", "(4, 7]"),
    ] {
        assert_eq!(extracted(text).as_deref(), Some(expected), "{text}");
    }
    for text in [
        r"First guess \boxed{5}. But no: \boxed{",
        r"\boxed{5}, or rather \boxed{}",
    ] {
        assert_eq!(extracted(text), None, "{text}");
        assert_eq!(grade("5", text).grade, NoAnswer, "{text}");
    }
}

#[test]
fn a_formula_that_cannot_be_read_is_not_taken_for_a_part_of_it() {
    check(
        &[
            ("3", r"\ne 3"),
            ("24", r"2.4\dagger"),
            (r"a \bowtie b", r"a \oplus b"),
        ],
        NoAnswer,
    );
    check(&[(r"29 \bowtie 55", "55")], Ungraded);
    check(
        &[(r"f(x)\bowtie g", r"f(x)\bowtie g"), ("^{6}", "^6")],
        Correct,
    );
}

fn extracted(text: &str) -> Option<String> {
    extract(text, false)
}

#[test]
fn answers_are_found_by_priority() {
    for (text, expected) in [
        (
            r"We get $\boxed{25}$. Final Answer: The final answer is $24$. I hope it is correct.",
            "$24$",
        ),
        (r"We get $\boxed{24}$. The final answer is $25$.", "$25$"),
        (r"The final answer is $25$. So $\boxed{24}$", "24"),
        (
            r"$\boxed{1}$ and then more, so $\boxed{\frac{1}{2}}$.",
            r"\frac{1}{2}",
        ),
        (r"\boxed{1} and \boxed{2}", "1, 2"),
        (r"\boxed{10} and then \boxed{42}", "42"),
        ("2 * 12 = 24\n#### 1,234", "1,234"),
        ("So the answer is $x = 5$.", "$x = 5$"),
        ("First $a$, then we find that $x \\lt 3$.", r"x \lt 3"),
        ("It costs $5 each, so 4 of them cost 20 dollars.", "20"),
        ("计划的比例为13/28", "13/28"),
        (
            "Final Answer: The volume of $ABCD$ is 120. I hope it is correct.",
            "120",
        ),
    ] {
        assert_eq!(extracted(text).as_deref(), Some(expected), "{text}");
    }
    assert_eq!(extracted("I cannot solve this"), None);
}

#[test]
fn a_cut_response_counts_only_a_complete_answer() {
    let cut = |text| extract(text, true);
    assert_eq!(cut("so x = 12"), None);
    assert_eq!(cut(r"thus \boxed{12"), None);
    assert_eq!(cut(r"thus \boxed{12} and"), Some("12".to_owned()));
    assert_eq!(cut("The answer is 12"), None);
}

#[test]
fn hostile_text_is_judged_in_bounded_work() {
    let long = |part: &str| part.repeat(1_000_000 / part.len());
    let texts = [
        long("{"),
        long("}"),
        long("\\boxed{"),
        long("$"),
        long("(("),
        long("\\frac"),
        long("####"),
        long("answer is "),
        long("final answer "),
        long("\\\\"),
        long("|"),
        long("\u{202e}\u{301}\u{0}"),
        long("1,"),
        long("-"),
        "9^9^9^9".to_owned(),
        "9^".repeat(400) + "9",
        "((((((9!)!)!)!)!)!)!".to_owned(),
        "99999999!".to_owned(),
        r"\sum_{k=1}^{2000} k!".to_owned(),
        r"\binom{999999999}{499999999}".to_owned(),
        r"\prod_{k=1}^{2000} \sum_{j=1}^{2000} \sum_{i=1}^{2000} 1".to_owned(),
        "1,".repeat(600) + "1",
        r"\begin{pmatrix}".to_owned() + &"1 & ".repeat(1200),
        "x".repeat(4000),
        "a m^{".to_owned(),
        r"5\text{ cm}^{2".to_owned(),
        r"\sum_{k=\pm 1}^{\pm 2} \pm k".to_owned(),
        r"\int \pm x dx, \{\pm 1, |\pm 2|\} \cup \{f(\pm 3)\}".to_owned(),
        "(1+".repeat(500) + "1" + &")".repeat(500),
        "\u{0}\u{0}5\u{0}".to_owned(),
    ];
    for text in &texts {
        let short: String = text.chars().take(20).collect();
        for (gold, answer) in [(text.as_str(), "5"), ("5", text.as_str()), (text, text)] {
            let judged = grade(gold, answer);
            assert!(judged.reason.len() < 400, "{short}");
        }
        let boxed = format!("\\boxed{{{text}}}");
        assert!(!grade("7", &boxed).reason.is_empty());
    }
}

#[test]
fn a_wider_unit_of_work_ends_as_too_large_and_not_as_wrong() {
    let judged = grade("((((((9!)!)!)!)!)!)!", "5");
    assert_eq!(judged.grade, Ungraded, "{}", judged.reason);
}

/// Expressions as people write them, at random.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (-50i32..50).prop_map(|n| n.to_string()),
        (1u32..40, 2u32..9).prop_map(|(n, d)| format!(r"\frac{{{n}}}{{{d}}}")),
        (0u32..90, 1u32..99).prop_map(|(n, d)| format!("{n}.{d}")),
        Just("x".to_owned()),
        Just("a_1".to_owned()),
        Just(r"\pi".to_owned()),
        Just("e".to_owned()),
        Just("i".to_owned()),
        Just(r"\infty".to_owned()),
        Just(r"30^\circ".to_owned()),
        Just(r"12\%".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} + {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})({b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!(r"\frac{{{a}}}{{{b}}}")),
            (inner.clone(), 2u32..4).prop_map(|(a, n)| format!("({a})^{n}")),
            inner.clone().prop_map(|a| format!(r"\sqrt{{{a}}}")),
            inner.clone().prop_map(|a| format!(r"\sin({a})")),
            inner.clone().prop_map(|a| format!("|{a}|")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}, {b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!(r"\{{{a}, {b}\}}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}, {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!(r"{a} \le {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} = {b}")),
            (inner.clone(), inner).prop_map(|(a, b)| format!(r"{a} \pm {b}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn every_answer_is_itself(text in expression()) {
        let own = grade(&text, &text);
        prop_assert_eq!(own.grade, Correct, "{}", own.reason);
    }

    #[test]
    fn equivalence_reads_the_same_both_ways(a in expression(), b in expression()) {
        // What cannot be read is `ungraded` as gold and `no_answer` as answer.
        let verdict = |gold: &str, answer: &str| match grade(gold, answer).grade {
            NoAnswer => Ungraded,
            verdict => verdict,
        };
        prop_assert_eq!(verdict(&a, &b), verdict(&b, &a));
    }

    #[test]
    fn spacing_and_size_change_nothing(text in expression()) {
        let own = Answer::of(&text);
        prop_assume!(own.is_readable() && !own.is_text());
        let spelled = format!("$ {} $.", text.replace("\\frac", "\\dfrac").replace('(', "\\left( ").replace(')', " \\right)"));
        let other = grade(&text, &spelled);
        // A half-open bracket is not a pair of \left and \right, but reads the same.
        prop_assert_eq!(other.grade, Correct, "{} {}", spelled, other.reason);
    }

    #[test]
    fn normal_spelling_is_its_own_normal_spelling(text in "[\\PC\\\\${}().,* boxedlft0-9]{0,40}") {
        let once = normal(&text);
        prop_assert_eq!(normal(&once), once);
    }

    #[test]
    fn any_text_is_grade(gold in "\\PC{0,60}", answer in "\\PC{0,60}") {
        grade(&gold, &answer);
        extract(&answer, true);
    }
}
