"""What is around the value: typefaces, colours, units, currencies, labels, marks."""

import re

from decorations import Form
from decorations.values import NUMERIC, words_of

# Each takes (form, value, other value, generator) and gives a form or None.


def wrap_math(left, right, only=None, simple=False):
    """Typeface, colour, size or a rule: none changes what is read."""

    def wrap(form, value, other, rng):
        if form.math is None or only and value.kind not in only:
            return None
        if simple and not re.fullmatch(r"[-+\d.,/ ]+", form.math):
            return None
        return Form(left + form.math + right, None)

    return wrap


UNITS = [
    ("\\text{ cm}", " cm"),
    ("\\text{ inches}", " inches"),
    ("\\text{ meters}", " meters"),
    ("\\text{ apples}", " apples"),
    ("\\text{ km}", " km"),
    ("\\text{ square units}", " square units"),
    ("\\text{ cm}^2", " cm²"),
    ("\\text{ cubic feet}", " cubic feet"),
    ("\\text{ students}", " students"),
    ("\\text{ cm}^3", " cm^3"),
    ("\\text{ hours}", " hours"),
    ("\\text{ days}", " days"),
    ("\\text{ mph}", " mph"),
    ("\\text{ miles per hour}", " miles per hour"),
]
ROMAN_UNITS = [
    "\\ \\mathrm{m/s}",
    "\\,\\mathrm{cm}",
    "\\ \\mathrm{N\\cdot m}",
    "\\;\\mathrm{kg}",
    "\\mathrm{cm}^2",
    "\\ \\mathrm{m/s^2}",
    "\\,\\mathrm{km/h}",
    "~\\mathrm{J}",
    "\\ \\mathrm{cm^3}",
    "\\,\\rm{cm}",
    "\\ \\textrm{cm}",
    "\\ \\mathrm{ft}",
    "\\ \\mathrm{kg\\cdot m^2}",
    "\\ \\operatorname{cm}",
    "\\ \\mathrm{units}",
    "\\ \\mathrm{mol}",
]


def unit(form, value, other, rng):
    # A gold without a unit, an answer with one: the problem asks for it ("how many cm").
    if value.kind not in NUMERIC:
        return None
    math_unit, text_unit = rng.choice(UNITS)
    return Form(form.math and form.math + math_unit, form.text and form.text + text_unit)


def roman_unit(form, value, other, rng):
    if value.kind not in NUMERIC or form.math is None:
        return None
    return Form(form.math + rng.choice(ROMAN_UNITS), None)


def unit_inside_text(form, value, other, rng):
    if (
        value.kind not in ("integer", "large", "decimal")
        or form.math is None
        or not re.fullmatch(r"[-+\d., ]+", form.math)
    ):
        return None
    return Form(
        f"\\{rng.choice(('text', 'mbox', 'textrm', 'textbf'))}{{{form.math}{rng.choice(UNITS[:6])[1]}}}", None
    )


def celsius(form, value, other, rng):
    if value.kind not in ("integer", "decimal") or form.math is None:
        return None
    return Form(
        form.math + rng.choice(("^\\circ\\mathrm{C}", "^{\\circ}\\text{C}", "^\\circ\\text{ F}", "^\\circ C")),
        form.text and form.text + rng.choice(("°C", " °F")),
    )


def degrees(form, value, other, rng):
    if value.kind != "integer" or form.math is None:
        return None
    return Form(
        form.math + rng.choice(("^\\circ", "^{\\circ}", "\\text{ degrees}")),
        form.text and form.text + rng.choice(("°", " degrees")),
    )


def ordinal(form, value, other, rng):
    # "the 12th term": the number asked for is 12.
    if value.kind != "integer" or value.data < 4 or form.math != str(value.data):
        return None
    n = value.data
    end = "th" if 10 <= n % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return Form(f"{n}^{{\\text{{{end}}}}}" if rng.random() < 0.5 else f"{n}\\text{{{end}}}", f"{n}{end}")


def currency(form, value, other, rng):
    if value.kind not in ("integer", "large", "decimal") or (form.text or form.math).lstrip()[0] in "-−–+nm.":
        return None
    math, text = rng.choice(
        [
            ("\\${}", "${}"),
            ("\\${}", "US${}"),
            ("\\text{{\\$}}{}", "$ {}"),
            ("€{}", "€{}"),
            ("£{}", "£{}"),
            ("\\pounds {}", "£ {}"),
            ("\\text{{Rs. }}{}", "Rs.{}"),
            ("₹{}", "Rs. {}"),
            ("\\text{{USD }}{}", "USD {}"),
            ("{}\\text{{ dollars}}", "{} dollars"),
            ("{}\\text{{ euros}}", "{} €"),
            ("\\text{{EUR }}{}", "EUR {}"),
            ("¥{}", "¥{}"),
            ("{}\\text{{ USD}}", "{} USD"),
            ("\\mathrm{{\\$}}{}", "A${}"),
        ]
    )
    return Form(form.math and math.format(form.math), form.text and text.format(form.text))


def label(form, value, other, rng):
    # Words that name what follows.
    if form.math is None:
        return None
    labels = [
        "\\text{The answer is }",
        "\\text{Answer: }",
        "\\text{The final answer is }",
        "\\text{Ans: }",
        "\\textbf{Answer: }",
        "\\text{Final answer: }",
    ]
    if value.kind in NUMERIC:  # "Answer = y = 2x" and "answer: 3:2" are not written
        labels += [
            "\\text{Answer} = ",
            "\\text{Total: }",
            "\\text{Area} = ",
            "\\text{Total} = ",
            "\\text{answer}: ",
        ]
    return Form(rng.choice(labels) + form.math, None)


def named(form, value, other, rng):
    if value.kind not in NUMERIC + ("percent", "money"):
        return None
    name = rng.choice(("x", "n", "N", "A", "k", "a_5", "S", "f(3)", "P(A)"))
    return Form(form.math and f"{name} = {form.math}", form.text and f"{name} = {form.text}")


def boxed_words(form, value, other, rng):
    """The same number in words in parentheses behind it."""
    if value.kind != "integer" or value.data < 0 or words_of(value.data) is None:
        return None
    words = words_of(value.data)
    return Form(form.math and form.math + f"\\text{{ ({words})}}", form.text and f"{form.text} ({words})")


def boxed_remark(form, value, other, rng):
    if form.math is None or value.kind in ("choice", "word"):
        return None
    return Form(
        form.math
        + rng.choice(
            (
                "\\text{ (exactly)}",
                "\\text{ (as required)}",
                "\\text{ (in total)}",
                "\\quad\\text{(final answer)}",
                "\\text{ in total}",
                "\\text{ altogether}",
                "\\text{ (simplified)}",
            )
        ),
        None,
    )


def mark_behind(form, value, other, rng):
    # An end-of-proof sign or a tick.
    if form.math is None:
        return None
    return Form(
        form.math
        + rng.choice(
            (
                "\\,\\checkmark",
                "\\quad\\blacksquare",
                "\\ \\square",
                "\\ \\blacksquare",
                "\\checkmark",
                " ✓",
                "\\quad\\square",
                "\\qquad\\blacksquare",
            )
        ),
        None,
    )


def stop_inside(form, value, other, rng):
    if form.math is None or form.math.endswith("."):
        return None
    return Form(form.math + rng.choice((".", "\\,", "\\ ", " ", "\\;", "~", "\\!", ".\\ ")), None)


def space_before(form, value, other, rng):
    return form.math and Form(rng.choice(("\\ ", "\\,", " ", "~", "\\quad ", "\\!")) + form.math, None)


def parens(form, value, other, rng):
    if value.kind not in ("integer", "large", "fraction", "surd") or form.math is None:
        return None
    return Form(rng.choice(("({})", "\\left({}\\right)", "{{{}}}", "\\left( {} \\right)")).format(form.math), None)


def dollars_inside(form, value, other, rng):
    return form.math and Form(f"${form.math}$", None)


def thus_sign(form, value, other, rng):
    return form.math and Form(
        rng.choice(("\\therefore ", "= ", "\\displaystyle ", "\\Large ", "\\large ", "\\therefore\\ "))
        + form.math,
        None,
    )


def wrap_text(left, right):
    """Marks of Markdown, HTML or a quotation around the value."""

    def wrap(form, value, other, rng):
        if form.text is None or left == "*" and "*" in form.text:
            return None
        return Form(None, left + form.text + right)

    return wrap


AROUND = {
    "\\text": wrap_math("\\text{", "}", simple=True),
    "\\mbox": wrap_math("\\mbox{", "}", simple=True),
    "\\texttt": wrap_math("\\texttt{", "}", simple=True),
    "\\textbf": wrap_math("\\textbf{", "}", simple=True),
    "\\textit": wrap_math("\\textit{", "}", simple=True),
    "\\textrm": wrap_math("\\textrm{", "}", simple=True),
    "\\emph": wrap_math("\\emph{", "}", simple=True),
    "\\mathrm": wrap_math("\\mathrm{", "}", only=NUMERIC),
    "\\mathbf": wrap_math("\\mathbf{", "}"),
    "\\boldsymbol": wrap_math("\\boldsymbol{", "}"),
    "\\bm": wrap_math("\\bm{", "}"),
    "\\mathsf": wrap_math("\\mathsf{", "}", only=NUMERIC),
    "\\underline": wrap_math("\\underline{", "}"),
    "\\underline twice": wrap_math("\\underline{\\underline{", "}}"),
    "\\textcolor": wrap_math("\\textcolor{red}{", "}"),
    "\\color{}": wrap_math("\\color{blue}{", "}"),
    "{\\color}": wrap_math("{\\color{red} ", "}"),
    "\\color": wrap_math("\\color{red} ", ""),
    "\\colorbox": wrap_math("\\colorbox{yellow}{$", "$}"),
    "\\bf": wrap_math("{\\bf ", "}", only=NUMERIC),
    "\\rm": wrap_math("{\\rm ", "}", only=NUMERIC),
    "\\fbox": wrap_math("\\fbox{", "}", simple=True),
    "box in box": wrap_math("\\boxed{", "}"),
    "\\mathbf \\underline": wrap_math("\\mathbf{\\underline{", "}}"),
    "$ in box": dollars_inside,
    "unit": unit,
    "roman unit": roman_unit,
    "unit in \\text": unit_inside_text,
    "celsius": celsius,
    "degrees": degrees,
    "ordinal": ordinal,
    "currency": currency,
    "label in box": label,
    "name =": named,
    "(words)": boxed_words,
    "remark in box": boxed_remark,
    "mark behind": mark_behind,
    "stop in box": stop_inside,
    "space before": space_before,
    "parentheses": parens,
    "\\therefore": thus_sign,
    "**bold**": wrap_text("**", "**"),
    "__bold__": wrap_text("__", "__"),
    "*italic*": wrap_text("*", "*"),
    "`code`": wrap_text("`", "`"),
    '"quoted"': wrap_text('"', '"'),
    "“quoted”": wrap_text("“", "”"),
    "<b>": wrap_text("<b>", "</b>"),
    "<u>": wrap_text("<u>", "</u>"),
    "***both***": wrap_text("***", "***"),
    "<strong>": wrap_text("<strong>", "</strong>"),
}
# Typefaces and colours that may go around another of this section.
OUTER = [
    n
    for n in AROUND
    if n.startswith(
        (
            "\\math",
            "\\under",
            "\\textcolor",
            "\\color{}",
            "{\\color}",
            "\\bold",
            "\\bm",
            "box in",
            "$ in",
            "mark",
            "stop",
            "\\there",
            "**",
            "__b",
            "<b",
        )
    )
]
