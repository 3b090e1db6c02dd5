"""Answers of math and gsm8k that look like the gold and are not."""

import random
import re
from fractions import Fraction

from decorations import Row

# Always wrong: the answer's letters and digits, or its first number, are the gold's, and its value is not.


def hard_math(rng):
    n = rng.choice(
        (rng.randrange(11, 100), rng.randrange(11, 100), rng.randrange(100, 1000), rng.randrange(2, 10))
    )
    s = str(n)
    m = rng.choice([k for k in range(2, 60) if k != n])
    i = rng.randrange(1, len(s)) if len(s) > 1 else 0
    a, b = s[:i], s[i:]
    out = []
    if a and a != "0" and int(b) > 1 and b[0] != "0":
        # Two numbers are not their digits written together.
        for mark in (
            " ",
            "$ $",
            "\\ ",
            "\\quad ",
            "~",
            "\\;",
            "\\text{ }",
            "\\text{ and }",
            ", ",
            "\\text{ or }",
            ";",
            "|",
            ":",
            "\\parallel ",
            "\\,\\|\\,",
            "\\mid ",
            "\\cdot ",
            "\\times ",
            "/",
            "+",
            "-",
            "^",
            "\\div ",
            "\\ast ",
            "\\star ",
            "\\circ ",
            "\\to ",
            "\\text{ to }",
            "\\text{ out of }",
            "\\text{ plus }",
            "\\text{ minus }",
            "\\text{ times }",
            "\\text{, }",
            "\\text{ over }",
            "\\&",
            "\\text{ by }",
            "=",
            "\\ne ",
            "<",
            "\\oplus ",
            "\\pm ",
        ):
            if mark == "$ $":
                out.append(("two numbers", s, f"${a}$ ${b}$"))
            else:
                out.append(("two numbers", s, a + mark + b))
        out += [
            ("two numbers", s, f"\\frac{{{a}}}{{{b}}}"),
            ("two numbers", s, f"\\binom{{{a}}}{{{b}}}"),
            ("two numbers", s, f"{a}_{{{b}}}"),
            ("two numbers", s, f"{a}\\sqrt{{{b}}}"),
            ("two numbers", s, f"({a},{b})"),
            ("two numbers", s, f"\\begin{{pmatrix}} {a} \\\\ {b} \\end{{pmatrix}}"),
            ("two numbers", s, f"\\{{{a},{b}\\}}"),
            ("two numbers", s, f"[{a}, {b}]"),
            ("two numbers", s, f"\\text{{{a}/{b}}}"),
            ("two numbers", s, f"\\mbox{{{a}-{b}}}"),
            ("two numbers", s, f"\\text{{{a} {b}}}"),
            ("two numbers", s, f"\\text{{{a}.{b}}}"),
            ("two numbers", s, f"{a}\\text{{ and }}{b}"),
            ("two numbers", s, f"\\mathrm{{{a}}}/\\mathrm{{{b}}}"),
            ("two numbers", s, f"{a}'{b}''"),
            ("two numbers", s, f"{a}\\%{b}"),
        ]
        for behind in (
            "\\,\\checkmark",
            "\\,\\square",
            "\\text{ cm}",
            "\\ \\mathrm{m/s}",
            "\\quad\\blacksquare",
            "\\text{ (exactly)}",
            "\\text{ dollars}",
            "^\\circ",
            "\\dagger",
            "\\text{ units}",
        ):
            out.append(("point under a mark", s, f"{a}.{b}{behind}"))
            out.append(("slash under a mark", s, f"{a}/{b}{behind}"))
    # A sign, function, power or scale word that changes the value.
    for text in (
        "\\text{-%s}",
        "\\mbox{-%s}",
        "\\approx -%s",
        "\\sim -%s",
        "\\text{minus %s}",
        "\\text{negative %s}",
        "\\texttt{-%s}",
        "\\underline{-%s}",
        "\\textcolor{red}{-%s}",
        "\\mathbf{-%s}",
        "-\\underline{%s}",
        "\\text{−%s}",
        "\\text{–%s}",
        "-\\,%s\\text{ cm}",
        "\\text{-%s apples}",
        "\\color{red}{-%s}",
        "= -%s",
        "\\therefore -%s",
    ):
        out.append(("sign", s, text % s))
    for text in (
        "%s!",
        "\\sqrt{%s}",
        "%s^2",
        "%s^{-1}",
        "\\frac{1}{%s}",
        "1/%s",
        "%s\\text{ million}",
        "%s\\text{ thousand}",
        "%s\\text{ billion}",
        "\\text{half of }%s",
        "\\text{twice }%s",
        "\\text{not }%s",
        "\\ne %s",
        "\\neq %s",
        "\\pm %s",
        "%sx",
        "%s\\pi",
        "%si",
        "%s\\text{ squared}",
        "%s\\text{ cubed}",
        "0.%s",
        ".%s",
        "\\text{0.%s}",
        "%s\\frac{1}{2}",
        "%s½",
        "\\log %s",
        "\\sin %s",
        "\\text{%s million}",
        "\\text{1/%s}",
        "\\text{%s squared}",
        "\\text{half of %s}",
        "\\text{one half of %s}",
        "%se2",
        "%s\\times 10^3",
        "10^{%s}",
        "%s\\text{ times }2",
        "\\text{%s plus 3}",
        "\\text{%s minus 1}",
        "\\text{double }%s",
        "\\text{the square root of }%s",
        "\\text{log of }%s",
        "%s\\text{ factorial}",
        "\\text{%s or 3}" if n != 3 else "\\text{%s or 4}",
    ):
        if n > 2:  # 2! is 2
            out.append(("value changed", s, text % s))
    for text in (
        "%s\\text{ or }%s",
        "%s\\text{ to }%s",
        "%s\\text{ and }%s",
        "\\text{between }%s\\text{ and }%s",
        "%s\\text{ out of }%s",
        "%s,%s",
        "%s;%s",
        "%s:%s",
        "%s\\pm %s",
        "\\text{%s or %s}",
        "\\text{%s to %s}",
        "%s\\text{ hours }%s\\text{ minutes}",
        "%s\\text{ plus }%s",
        "%s\\text{ minus }%s",
        "%s+%s",
        "%s-%s",
        "%s\\cdot %s",
        "%s^{%s}",
        "%s\\text{ feet }%s\\text{ inches}",
        "%s\\text{ boys and }%s\\text{ girls}",
    ):
        out.append(("a second number", s, text % (s, m)))
    out += [
        ("repeating", f"0.{n % 9 or 4}", f"0.\\overline{{{n % 9 or 4}}}"),
        ("repeating", f"0.{n % 9 or 4}", f"0.\\overline{n % 9 or 4}"),
        ("repeating", f"0.{s}", f"0.\\overline{{{s}}}") if set(s) != {"9"} else ("value changed", s, f"-{s}"),
        ("repeating", f"0.{n % 9 or 4}", f"0.{n % 9 or 4}\\ldots"),
        ("thousand", f"{n}", f"{n},000"),
        ("thousand", f"{n * 1000}", f"{n}"),
        ("million", f"{n * 10**6}", f"{n}"),
        ("million", f"{n * 10**6}", f"{n}\\text{{ billion}}"),
        ("million", f"{n}\\text{{ million}}", f"{n}"),
    ]
    # A unit that a remark follows, a currency's smaller unit, a minus before a country's dollar.
    out += [
        ("another unit", f"{n}\\text{{ seconds}}", f"{n}\\text{{ minutes}}\\text{{ (simplified)}}"),
        ("another unit", f"{n}\\text{{ meters}}", f"{n}\\text{{ feet in all}}"),
        ("another unit", f"\\${n}", f"{n}\\text{{ cents}}"),
        ("value changed", s, f"-US\\${s}"),
        ("value changed", s, f"-\\text{{EUR }}{s}"),
    ]
    # More letters than one are no choice.
    out += [
        ("several letters", "\\text{(B)}", "B\\text{ and }C"),
        ("several letters", "\\text{(B)}", "\\text{B or C}"),
        ("several letters", "\\text{(B)}", "\\text{A,B,C,D}"),
    ]
    # Words beside different numbers.
    for pattern in (
        "%d\\text{ hours }%d\\text{ minutes}",
        "%d\\text{ to }%d",
        "%d\\text{ out of }%d",
        "%d\\text{ boys and }%d\\text{ girls}",
        "\\text{row %d, seat %d}",
        "\\text{%d feet %d inches}",
        "%d:%d",
        "%d\\!:\\!%d",
        "%d\\text{ R }%d",
        "\\text{from %d to %d}",
        "%d\\text{ miles }%d\\text{ yards}",
        "%d\\text{ years and }%d\\text{ months}",
        "%d^\\circ %d'",
        "\\text{%d dollars and %d cents}",
        "%d\\text{ plus }%d",
        "\\text{%d or %d}",
        "%d \\bowtie %d",
        "f(%d)\\bowtie g(%d)",
    ):
        x, y = rng.sample(range(11, 59), 2)
        out.append(("words beside numbers", pattern % (x, y), pattern % (x, y + 1)))
        out.append(("words beside numbers", pattern % (x, y), pattern % (x + 1, y)))
        if pattern not in ("%d\\text{ plus }%d", "\\text{%d or %d}"):
            out.append(("words beside numbers", pattern % (x, y), pattern % (y, x)))
    h = rng.randrange(1, 12)
    out += [
        ("clock", f"{h:02}\\!:\\!00", f"{h + 1:02}\\!:\\!00"),
        ("clock", f"{h}:30", f"{h}:45"),
        ("clock", f"{h}:30\\text{{ p.m.}}", f"{h}:30\\text{{ a.m.}}"),
        ("clock", f"{h:02}:00", f"{h}"),
        ("clock", f"{h}\\text{{ p.m.}}", f"{h + 1}\\text{{ p.m.}}"),
        ("clock", f"\\text{{{h}:15 pm}}", f"\\text{{{h}:51 pm}}"),
        ("clock", f"{h}:00\\text{{ am}}", f"{h}:00\\text{{ pm}}"),
        ("factorial", f"\\frac{{1}}{{{1990 + h}!}}", f"\\frac{{1}}{{{1991 + h}!}}"),
        ("plus or minus", f"\\pm {n}", s),
        ("plus or minus", f"\\pm {n}", f"-{n}"),
        ("sequence", "1, 2, \\ldots, n", f"1, {h + 2}, \\ldots, n"),
        ("sequence", "2, 4, 6, \\ldots", "2, 4, 8, \\ldots"),
        ("brackets", f"[{h},{n + 12}]", f"({h},{n + 12})"),
        ("brackets", f"({h},{n + 12}]", f"[{h},{n + 12})"),
        ("one of two", f"{n}\\text{{ and }}{m}", s),
        ("one of two", f"{n}, {m}", f"{m}"),
        ("one of two", f"{n}\\text{{ or }}{m}", f"{n}"),
        ("another letter", "\\text{(B)}", "\\text{(D)}"),
        ("another letter", "x+y", "x+z"),
        ("another letter", "\\text{A and B}", "\\text{A and C}"),
        ("another letter", "AB", "AC"),
        ("another word", "\\text{odd}", "\\text{even}"),
        ("another word", "\\text{true}", "\\text{false}"),
        ("another word", "\\text{increasing}", "\\text{decreasing}"),
        ("another word", "\\text{yes}", "\\text{no}"),
        ("another word", "\\text{red and blue}", "\\text{red and green}"),
        ("another word", "\\text{not a square}", "\\text{a square}"),
        ("another word", "\\text{no solution}", "0"),
        ("another unit", f"{n}\\text{{ minutes}}", f"{n}\\text{{ hours}}"),
        ("another unit", f"{n}\\text{{ cm}}", f"{n}\\text{{ m}}"),
        ("another unit", f"{n}\\text{{ kg}}", f"{n}\\text{{ g}}"),
        ("another unit", f"{n}\\text{{ feet}}", f"{n}\\text{{ inches}}"),
        ("another operator", f"{n}x+{m}", f"{n}x-{m}"),
        ("another operator", f"{n}\\cdot {m}", f"{n}+{m}") if n * m != n + m else ("value changed", s, f"-{s}"),
        ("another operator", f"\\sqrt{{{n}}}", s) if n > 1 else ("value changed", s, f"-{s}"),
        ("another operator", f"{n}^{m}", f"{n}_{m}"),
        ("another operator", f"x^{h + 1}", f"x_{h + 1}"),
        ("another operator", f"\\frac{{x}}{{{n}}}", f"x{n}"),
        ("another operator", f"{n}a-{m}b", f"{n}a+{m}b"),
        ("another operator", f"x={n}", f"x\\ne {n}"),
        ("another operator", f"x>{n}", f"x<{n}"),
        ("another operator", f"x\\ge {n}", f"x>{n}"),
        ("another operator", f"x\\le {n}", f"x={n}"),
        ("another operator", f"f(x)\\bowtie {n}", f"f(x)\\bowtie {n + 1}"),
        ("another operator", f"a\\otimes {n}", f"a\\oplus {n}"),
        ("another operator", "p\\wedge q", "p\\vee q"),
        ("another operator", "A\\cup B", "A\\cap B"),
        ("another operator", f"\\lfloor x\\rfloor + {h}", f"\\lceil x\\rceil + {h}"),
        ("another operator", "\\overline{AB}", "\\overline{AC}"),
        ("another operator", f"\\angle A = {n}", f"\\angle A = {n + 1}"),
    ]
    return [o for o in out if o[1] != o[2]]


def computed(text):
    """The value of two numbers with a sign between them, as arithmetic; None for any other text."""
    found = re.fullmatch(r"(\d+)\s*([-+x/:])\s*(\d+)", text)
    if not found:
        return None
    a, sign, b = int(found[1]), found[2], int(found[3])
    if sign in "/:":
        return Fraction(a, b) if b else None
    return {"-": a - b, "+": a + b, "x": a * b}[sign]


def hard_gsm8k(rng):
    n = rng.choice((rng.randrange(11, 100), rng.randrange(100, 1000), rng.randrange(2, 10)))
    s = str(n)
    m = rng.choice([k for k in range(2, 60) if k != n])
    out = []
    i = rng.randrange(1, len(s)) if len(s) > 1 else 0
    a, b = s[:i], s[i:]
    if a and int(b) > 1 and b[0] != "0":
        for mark in (
            " ",
            ".",
            "/",
            "-",
            "+",
            " + ",
            " / ",
            " and ",
            ", ",
            " or ",
            ":",
            ";",
            " * ",
            "^",
            "\t",
            " to ",
        ):
            out.append(("two numbers", s, a + mark + b))
    for text in (
        "-{}",
        "- {}",
        "−{}",
        "–{}",
        "negative {}",
        "minus {}",
        "-${}",
        "$-{}",
        "{} million",
        "{} thousand",
        "{} billion",
        "1/{}",
        "0.{}",
        ".{}",
        "{}½",
        "{} 1/2",
        "{}k",
        "{}^2",
        "{}!",
        "half of {}",
        "{} + 1",
        "{} - 1",
        "{} * 2",
        "{}/2",
        "{}.5",
        "{}e3",
        "-{} dollars",
        "{}M",
        "not {}",
        "-{}.00",
        "(-{})",
    ):
        if n > 2:  # 2! is 2
            out.append(("value changed", s, text.format(s)))
    for text in (
        "{} or {}",
        "{} to {}",
        "{}-{}",
        "{} and {}",
        "between {} and {}",
        "{}, {}",
        "{}; {}",
        "${} or ${}",
        "{} hours {} minutes",
        "{} or {} apples",
        "{}/{}",
        "either {} or {}",
        "{} + {}",
        "{} x {}",
        "{}:{}",
        "{} feet {} inches",
    ):
        written = [text.format(s, m)]
        if text not in ("{} + {}", "{} x {}"):
            written.append(text.format(m, s))
        # `4-2` is the gold 2.
        out += [("a second number", s, t) for t in written if computed(t) != n]
    out += [
        ("thousand", s, f"{n},000"),
        ("thousand", s, f"{n}.000.000"),
        ("thousand", str(n * 1000), s),
        ("thousand", f"{n * 1000 + 600}", f"{n},60"),
        ("thousand", f"{n}", f"{n}'000"),
        ("thousand", f"{n}", f"{n} 000"),
        ("million", str(n * 10**6), s),
        ("leading zeros", s, f"0{n + 1}"),
        ("decimal comma", s, f"{n},5"),
        ("decimal comma", f"{n}.5", f"{n}5"),
        ("decimal comma", f"0.{n}", s),
        ("decimal comma", s, f"0,{n}"),
        ("word", "3", "four"),
        ("word", "12", "twenty"),
        ("word", "20", "twelve"),
        ("word", "-3", "three"),
        ("word", "3", "negative three"),
        ("word", "21", "twenty two"),
        ("word", "300", "three"),
        ("word", "3", "three hundred"),
    ]
    return out


def hard_rows(task, count, seed):
    rng = random.Random(f"hard/{task}/{seed}")
    seen, made = set(), 0
    places = {
        "math": (
            "Working it out.\n\n\\boxed{{{}}}",
            "{}",
            "The answer is ${}$.",
            "Final Answer: The final answer is ${}$. I hope it is correct.",
            "**Answer:** ${}$",
            "So it is $\\boxed{{{}}}$.",
        ),
        "gsm8k": (
            "First we add.\n#### {}",
            "{}",
            "The answer is {}.",
            "**Answer:** {}",
            "Final Answer: {}",
            "Final Answer: The final answer is ${}$. I hope it is correct.",
            "\\boxed{{{}}}",
        ),
    }[task]
    while made < count:
        for name, gold, text in (hard_math if task == "math" else hard_gsm8k)(rng):
            place_ = rng.choice(places)
            if (
                "$" in text
                and ("$" in place_ or "boxed" in place_ and "$ $" not in text)
                or task == "gsm8k"
                and "boxed" in place_
                and re.search("[$^\t]", text)
            ):
                place_ = places[0] if task == "gsm8k" or "$" not in places[0] else places[1]
            answer = place_.format(text)
            if made < count and (gold, answer) not in seen:
                seen.add((gold, answer))
                made += 1
                yield Row(task, "wrong", "text", "-", ("hard: " + name,), gold, answer)
