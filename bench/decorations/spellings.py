"""How the value itself is written."""

import re
from fractions import Fraction

from decorations import Form
from decorations.values import (
    COMPOUNDS,
    COUNTABLE,
    DAYS,
    QUANTITIES,
    latex_fraction,
    listed,
    number,
    plain,
    polynomial,
    words_of,
    write,
    write_mixed,
)

# Each takes a value and a generator and gives a form, or None where the spelling does not exist for it.
# The same value by the rules of writing numbers, unless the comment says more.


def grouped(digits, mark, indian=False):
    head, rest = digits[:-3], digits[-3:]
    size = 2 if indian else 3
    groups = [rest]
    while head:
        groups.insert(0, head[-size:])
        head = head[:-size]
    return mark.join(groups)


def group_with(math_mark, text_mark, indian=False):
    def spell(value, rng):
        if value.kind not in ("integer", "large") or abs(value.data) < 1000:
            return None
        sign = "-" if value.data < 0 else ""
        s = str(abs(value.data))
        return Form(
            math_mark and sign + grouped(s, math_mark, indian), text_mark and sign + grouped(s, text_mark, indian)
        )

    return spell


def signed(math_mark, text_mark):
    """A sign written another way, for a negative number."""

    def spell(value, rng):
        form = write(value)
        if value.kind not in COUNTABLE or not form.text.startswith("-"):
            return None
        return Form(math_mark and math_mark + form.math[1:], text_mark and text_mark + form.text[1:])

    return spell


def plus(value, rng):
    form = write(value)
    if value.kind not in COUNTABLE or form.text.startswith("-") or form.text == "0":
        return None
    return Form("+" + form.math, "+" + form.text)


def leading_zeros(value, rng):
    # A count is not read in octal, and a problem that asks for the last digits gets them like this.
    if value.kind not in ("integer", "large") or value.data < 0:
        return None
    return plain("0" * rng.choice((1, 2)) + str(value.data))


def trailing_zeros(value, rng):
    if value.kind in ("integer", "large"):
        return plain(f"{value.data}.{'0' * rng.choice((1, 2))}")
    return plain(value.data + "0" * rng.choice((1, 2))) if value.kind == "decimal" else None


def no_leading_zero(value, rng):
    if value.kind != "decimal" or not value.data.lstrip("-").startswith("0."):
        return None
    return plain(value.data.replace("0.", ".", 1))


def decimal_comma(value, rng):
    # After a zero, or before one or two digits with a unit behind it, a comma groups nothing and lists
    # nothing.
    if value.kind != "decimal":
        return None
    whole, part = value.data.lstrip("-").split(".")
    if len(part) > 2 or float(value.data) == 0:
        return None
    text = value.data.replace(".", ",")
    if whole == "0":
        return Form(rng.choice((text, text.replace(",", "{,}"))), text)
    return Form(text.replace(",", "{,}") + "\\text{ km}", text + " km")


def dots_group(value, rng):
    # Two dots leave no other reading than groups.
    if value.kind not in ("integer", "large") or abs(value.data) < 10**6:
        return None
    return plain(("-" if value.data < 0 else "") + grouped(str(abs(value.data)), "."))


def in_words(value, rng):
    if value.kind != "integer" or value.data < 0:
        return None
    words = words_of(value.data)
    if words is None:
        return None
    words = rng.choice((words, words, words.capitalize()))
    return Form(f"\\text{{{words}}}", words)


def scale_word(value, rng):
    # "3 million" is the number 3,000,000.
    if value.kind not in ("integer", "large") or value.data <= 0:
        return None
    for size, word in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        short = Fraction(value.data, size)
        if short >= 1 and (short * 10).denominator == 1:
            text = str(short.numerator) if short.denominator == 1 else str(float(short))
            return Form(f"{text}\\text{{ {word}}}", f"{text} {word}")
    return None


def unreduced(value, rng):
    # gsm8k and math ask for a value; a fraction that is not in lowest terms has it.
    if value.kind != "fraction":
        return None
    k = rng.randrange(2, 5)
    p, q = value.data
    return Form(latex_fraction(p * k, q * k), f"{p * k}/{q * k}")


def fraction_of_decimal(value, rng):
    if value.kind != "decimal":
        return None
    exact = Fraction(value.data)
    if exact.denominator == 1 or exact.denominator > 100:
        return None
    return Form(latex_fraction(exact.numerator, exact.denominator), f"{exact.numerator}/{exact.denominator}")


def mixed_of_decimal(value, rng):
    if value.kind != "decimal":
        return None
    exact = Fraction(value.data)
    if exact < 1 or exact.denominator not in (2, 4, 5, 10, 20):
        return None
    return write_mixed(
        (1, exact.numerator // exact.denominator, exact.numerator % exact.denominator, exact.denominator)
    )


def decimal_of_fraction(value, rng):
    exact = number(value) if value.kind in ("fraction", "mixed") else None
    if exact is None or 10**4 % exact.denominator:
        return None
    text = f"{float(exact):.4f}".rstrip("0").rstrip(".")
    return plain(text)


def fraction_command(command):
    def spell(value, rng):
        if value.kind == "fraction":
            return Form(latex_fraction(*value.data, command=command), None)
        if value.kind == "mixed":
            sign, whole, p, q = value.data
            return Form(f"{'-' if sign < 0 else ''}{whole}{command}{{{p}}}{{{q}}}", None)
        return None

    return spell


def fraction_short(value, rng):
    if value.kind not in ("fraction", "mixed"):
        return None
    p, q = value.data[-2:]
    if not (0 < p < 10 and q < 10):
        return None
    head = "" if value.kind == "fraction" else f"{'-' if value.data[0] < 0 else ''}{value.data[1]}"
    return Form(f"{head}\\frac{p}{q}" if rng.random() < 0.5 else f"{head}\\frac {p} {q}", None)


def fraction_over(value, rng):
    if value.kind != "fraction" or value.data[0] < 0:
        return None
    return Form(f"{{{value.data[0]} \\over {value.data[1]}}}", None)


def fraction_slash(value, rng):
    if value.kind != "fraction":
        return None
    p, q = value.data
    return Form(f"{p}/{q}", f"{p} / {q}")


def fraction_minus_inside(value, rng):
    if value.kind != "fraction" or value.data[0] >= 0:
        return None
    return Form(f"\\frac{{{value.data[0]}}}{{{value.data[1]}}}", f"({value.data[0]})/{value.data[1]}")


VULGAR = {
    (1, 2): "½",
    (1, 3): "⅓",
    (2, 3): "⅔",
    (1, 4): "¼",
    (3, 4): "¾",
    (1, 5): "⅕",
    (2, 5): "⅖",
    (1, 8): "⅛",
    (3, 8): "⅜",
}


def vulgar(value, rng):
    exact = number(value) if value.kind in ("fraction", "mixed", "decimal") else None
    if exact is None or exact < 0:
        return None
    whole, rest = divmod(exact, 1)
    sign = VULGAR.get((rest.numerator, rest.denominator))
    return plain((str(whole) if whole else "") + sign) if sign else None


def improper(value, rng):
    if value.kind != "mixed":
        return None
    exact = number(value)
    return Form(latex_fraction(exact.numerator, exact.denominator), f"{exact.numerator}/{exact.denominator}")


def percent_word(value, rng):
    if value.kind != "percent":
        return None
    word = rng.choice((" percent", " per cent", " pct", "pct"))
    return Form(f"{value.data}\\text{{{word}}}", value.data + word)


def percent_spaced(value, rng):
    return Form(f"{value.data}\\,\\%", f"{value.data} %") if value.kind == "percent" else None


def percent_bare(value, rng):
    # The documented convention: a percentage beside a plain number.
    return plain(value.data) if value.kind == "percent" else None


def left_right(value, rng):
    form = write(value)
    if value.kind == "set":
        return Form(form.math.replace("\\{", "\\left\\{").replace("\\}", "\\right\\}"), None)
    if value.kind in ("tuple", "interval"):
        return Form(f"\\left{form.math[0]}{form.math[1:-1]}\\right{form.math[-1]}", None)
    return None


def spaced_commas(value, rng):
    form = write(value)
    if value.kind not in ("tuple", "set", "interval"):
        return None
    return Form(form.math.replace(",", rng.choice((", ", ",\\ ", ",\\,", " , ", ",~"))), None)


def semicolons(value, rng):
    # Semicolons separate coordinates where a comma is the decimal mark; integers leave one reading.
    form = write(value)
    if value.kind != "tuple":
        return None
    return Form(form.math.replace(",", rng.choice((";", "; "))), form.text.replace(",", ";"))


def set_order(value, rng):
    if value.kind != "set":
        return None
    members = list(value.data)
    rng.shuffle(members)
    return listed(members, "{", "}", "\\{", "\\}")


def set_bare(value, rng):
    # The documented convention: answers beside each other are a set.
    if value.kind != "set":
        return None
    items = list(map(str, value.data))
    return Form(
        rng.choice((", ".join(items), ", ".join(items[:-1]) + "\\text{ and }" + items[-1])),
        rng.choice((", ".join(items), ", ".join(items[:-1]) + " and " + items[-1])),
    )


def interval_member(value, rng):
    form = write(value)
    return Form("x \\in " + form.math, "x ∈ " + form.text) if value.kind == "interval" else None


def interval_inequality(value, rng):
    if value.kind != "interval":
        return None
    left, low, high, right = value.data
    less, more = ("\\le" if left == "[" else "<"), ("\\le" if right == "]" else "<")
    if low is None:
        return Form(f"x {more} {high}", None)
    if high is None:
        return Form("x " + ("\\ge" if left == "[" else ">") + f" {low}", None)
    return Form(f"{low} {less} x {more} {high}", None)


def surd_spelled(value, rng):
    if value.kind != "surd":
        return None
    shape, a, b, c = value.data
    if shape == "product":
        return rng.choice(
            (
                Form(f"{a} \\sqrt{{{b}}}", f"{a}*sqrt({b})"),
                Form(f"{a}\\cdot\\sqrt{{{b}}}", f"{a} sqrt({b})"),
                Form(f"\\sqrt{{{a * a * b}}}", f"√{a * a * b}"),
                Form(f"{a}\\sqrt {b}" if b < 10 else f"{a}\\sqrt{{{b}}}", f"{a}√({b})"),
            )
        )
    if shape == "sum":
        sign = "+" if c > 0 else "-"
        return rng.choice(
            (
                Form(f"{a} {sign} \\sqrt{{{b}}}", f"{a} {sign} sqrt({b})"),
                Form(f"\\sqrt{{{b}}}+{a}" if c > 0 else f"-\\sqrt{{{b}}}+{a}", None),
            )
        )
    if shape == "quotient":
        return Form(f"\\frac{{{a}}}{{{c}}}\\sqrt{{{b}}}", f"({a}*sqrt({b}))/{c}")
    return None


def expression_spelled(value, rng):
    if value.kind != "expression":
        return None
    text = polynomial(value.data)
    terms = re.findall(r"[+-]?[^+-]+", text)
    turned = "".join((t if t[0] in "+-" else "+" + t) for t in terms[::-1]).lstrip("+")
    braced = re.sub(r"\^(\d)", r"^{\1}", text)
    spaced = re.sub(r"(?<=.)([+-])", r" \1 ", text)
    starred = re.sub(r"(\d)x", r"\1*x", text)
    return rng.choice(
        (
            plain(turned),
            Form(braced, None),
            plain(spaced),
            plain(starred),
            Form(re.sub(r"(\d)x", r"\1 \\cdot x", text), None),
        )
    )


def equation_spelled(value, rng):
    if value.kind != "equation":
        return None
    a, b = value.data
    right = polynomial((a, b))
    if not a or not b:
        return None
    return rng.choice(
        (plain(f"y = {right}"), plain(f"{right} = y"), plain(f"{polynomial((a, 0))}-y={-b}" if a else right))
    )


def clock_spelled(value, rng):
    if value.kind != "clock":
        return None
    hour, minute, half = value.data
    mark = rng.choice((":", "{:}", "\\text{:}", "\\!:\\!"))
    hours = rng.choice((str(hour), f"{hour:02}"))
    ends = (
        [("", "")]
        if half is None
        else [
            (f"\\text{{ {half}}}", f" {half}"),
            (f"\\text{{ {half[0]}m}}", f" {half[0]}m"),
            (f"\\text{{ {half[0].upper()}M}}", f" {half[0].upper()}M"),
            (f"\\ \\mathrm{{{half}}}", f" {half}"),
        ]
    )
    math_end, text_end = rng.choice(ends)
    return Form(f"{hours}{mark}{minute:02}{math_end}", f"{hours}:{minute:02}{text_end}")


def compound_spelled(value, rng):
    if value.kind != "compound":
        return None
    (large, small), a, b = value.data
    size, short, shorter = COMPOUNDS[large, small]
    total = a * size + b
    return rng.choice(
        (
            Form(f"{a}\\text{{ {large} and }}{b}\\text{{ {small}}}", f"{a} {large} and {b} {small}"),
            Form(f"{a}\\ \\mathrm{{{short}}}\\ {b}\\ \\mathrm{{{shorter}}}", f"{a} {short} {b} {shorter}"),
            Form(f"{a}\\text{{ {short} }}{b}\\text{{ {shorter}}}", f"{a}{short} {b}{shorter}"),
            Form(f"\\text{{{a} {large} {b} {small}}}", f"{a} {large}, {b} {small}"),
            # One unit for both, exactly.
            Form(f"{total}\\text{{ {small}}}", f"{total} {small}"),
        )
    )


def quantity_spelled(value, rng):
    if value.kind != "quantity":
        return None
    n, name = value.data
    short = QUANTITIES[name][0]
    return rng.choice(
        (
            Form(f"\\text{{{n} {name}}}", f"{n} {name}"),
            Form(f"{n}\\ \\mathrm{{{short}}}", f"{n} {short}"),
            Form(f"{n}\\,\\text{{{short}}}", f"{n}{short}"),
            Form(f"{n}\\;\\textrm{{{name}}}", f"{n} {name}"),
        )
    )


def quantity_bare(value, rng):
    # The problem names the unit; the bare number is what it asks for.
    return plain(str(value.data[0])) if value.kind == "quantity" else None


def points_spelled(value, rng):
    # The order of answers beside each other does not count; semicolons keep them apart from coordinates.
    if value.kind != "points":
        return None
    points = list(value.data)
    rng.shuffle(points)
    inner, outer = rng.choice(
        ((",", ";"), (",", "; "), (", ", ", "), (";", ";"), (",", "\\text{ and }"), (",", ",\\ "))
    )
    math = outer.join(f"({a}{inner}{b})" for a, b in points)
    return Form(
        f"\\{{{math}\\}}" if rng.random() < 0.25 and "text" not in outer else math, None if "\\" in outer else math
    )


def ratio_spelled(value, rng):
    if value.kind != "ratio":
        return None
    a, b = value.data
    return rng.choice(
        (
            Form(f"{a} : {b}", f"{a} : {b}"),
            Form(f"{a}\\text{{ to }}{b}", f"{a} to {b}"),
            Form(f"{a}{{:}}{b}", None),
        )
    )


def power_spelled(value, rng):
    if value.kind != "scientific":
        return None
    digits, exponent = value.data
    exact = Fraction(digits) * Fraction(10) ** exponent
    written = [
        Form(
            f"{digits} \\cdot 10^{{{exponent}}}",
            f"{digits}*10^{exponent}" if exponent > 0 else f"{digits}*10^({exponent})",
        ),
        plain(f"{digits}e{exponent}"),
        plain(f"{digits}E{exponent}"),
    ]
    if exact.denominator == 1:
        written.append(plain(str(exact.numerator)))
    return rng.choice(written)


def complex_spelled(value, rng):
    if value.kind != "complex":
        return None
    a, b = value.data
    size = "" if abs(b) == 1 else str(abs(b))
    return rng.choice(
        (
            plain(f"{a} {'+' if b > 0 else '-'} {size}i"),
            plain(f"{'-' if b < 0 else ''}{size}i{'+' if a > 0 else ''}{a}"),
        )
    )


def matrix_spelled(value, rng):
    if value.kind != "matrix":
        return None
    form = write(value)
    tight = form.math.replace(" & ", "&").replace(" \\\\ ", "\\\\").replace("{pmatrix} ", "{pmatrix}")
    return rng.choice(
        (
            Form(tight, None),
            Form(
                "\\left(\\begin{array}{cc}"
                + form.math[len("\\begin{pmatrix}") : -len("\\end{pmatrix}")]
                + "\\end{array}\\right)",
                None,
            ),
        )
    )


def choice_spelled(value, rng):
    if value.kind != "choice":
        return None
    d = value.data
    return rng.choice(
        (
            Form(d, d),
            Form(f"\\text{{{d}}}", f"{d})"),
            Form(f"\\textbf{{({d})}}", f"Option {d}"),
            Form(f"\\mathrm{{({d})}}", f"choice ({d})"),
        )
    )


def word_spelled(value, rng):
    if value.kind != "word":
        return None
    d = value.data
    return rng.choice(
        (
            Form(f"\\textbf{{{d}}}", d),
            Form(f"\\mathrm{{{d}}}", d.lower() if d in DAYS else d),
            Form(f"\\mbox{{{d}}}", d),
            Form(d, d),
        )
    )


def pi_spelled(value, rng):
    if value.kind != "pi":
        return None
    p, q, power = value.data
    if not power or q == 1:
        return Form(f"{p} \\pi", f"{p}*pi") if power and p > 1 else None
    return Form(latex_fraction(p, q) + rng.choice(("\\pi", " \\pi")), f"({p}/{q})π")


def money_spelled(value, rng):
    if value.kind != "money" or value.data.startswith("-"):
        return None
    d = value.data
    return rng.choice(
        (
            plain(d),
            Form(f"{d}\\text{{ dollars}}", f"{d} dollars"),
            Form(f"\\text{{\\${d}}}", f"USD {d}"),
            Form(f"\\text{{{d} dollars}}", f"{d} USD"),
        )
    )


def summed(value, rng):
    # The sum has the value; "fractions, sums" of point 4.
    if value.kind not in ("integer", "large") or value.data < 3:
        return None
    a = rng.randrange(1, value.data)
    return Form(f"{a}+{value.data - a}", f"{a} + {value.data - a}")


def chained(value, rng):
    # The end of a chain of equations is its value, and every link has it.
    if value.kind not in ("integer", "large") or value.data < 3:
        return None
    a = rng.randrange(1, value.data)
    return Form(f"{a}+{value.data - a}={value.data}", f"{a} + {value.data - a} = {value.data}")


def quotient(value, rng):
    if value.kind not in ("integer", "large") or value.data < 2:
        return None
    k = rng.randrange(2, 9)
    return Form(f"\\frac{{{value.data * k}}}{{{k}}}", f"{value.data * k} / {k}")


def product(value, rng):
    if value.kind not in ("integer", "large") or value.data < 4:
        return None
    for k in (2, 3, 5, 7):
        if value.data % k == 0 and value.data > k:
            return Form(f"{k} \\times {value.data // k}", f"{k} * {value.data // k}")
    return None


SPELLINGS = {
    "comma groups": group_with(",", ","),
    "comma groups {,}": group_with("{,}", None),
    "groups \\,": group_with("\\,", None),
    "groups \\ ": group_with("\\ ", None),
    "groups \\!": group_with(",\\!", None),
    "space groups": group_with(None, " "),
    "thin space groups": group_with("\u2009", "\u2009"),
    "no-break space groups": group_with("\u00a0", "\u00a0"),
    "narrow space groups": group_with("\u202f", "\u202f"),
    "apostrophe groups": group_with(None, "'"),
    "curly apostrophe groups": group_with(None, "’"),
    "underscore groups": group_with(None, "_"),
    "Indian groups": group_with(",", ",", indian=True),
    "dot groups": dots_group,
    "minus sign": signed("−", "−"),
    "en dash": signed(None, "–"),
    "spaced minus": signed("- ", "- "),
    "LaTeX minus": signed("{-}", None),
    "minus with space": signed("-\\,", None),
    "negative": signed("\\text{negative }", "negative "),
    "minus word": signed("\\text{minus }", "minus "),
    "plus sign": plus,
    "leading zeros": leading_zeros,
    "trailing zeros": trailing_zeros,
    "no leading zero": no_leading_zero,
    "decimal comma": decimal_comma,
    "number word": in_words,
    "scale word": scale_word,
    "unreduced": unreduced,
    "fraction for decimal": fraction_of_decimal,
    "mixed for decimal": mixed_of_decimal,
    "decimal for fraction": decimal_of_fraction,
    "\\dfrac": fraction_command("\\dfrac"),
    "\\tfrac": fraction_command("\\tfrac"),
    "\\cfrac": fraction_command("\\cfrac"),
    "\\frac12": fraction_short,
    "\\over": fraction_over,
    "slash": fraction_slash,
    "minus inside": fraction_minus_inside,
    "½": vulgar,
    "improper": improper,
    "percent word": percent_word,
    "spaced percent": percent_spaced,
    "percent bare": percent_bare,
    "\\left \\right": left_right,
    "spaced commas": spaced_commas,
    "semicolons": semicolons,
    "set order": set_order,
    "set bare": set_bare,
    "x ∈": interval_member,
    "inequality": interval_inequality,
    "surd spelled": surd_spelled,
    "expression spelled": expression_spelled,
    "equation spelled": equation_spelled,
    "clock spelled": clock_spelled,
    "compound spelled": compound_spelled,
    "quantity spelled": quantity_spelled,
    "quantity bare": quantity_bare,
    "points spelled": points_spelled,
    "ratio spelled": ratio_spelled,
    "power spelled": power_spelled,
    "complex spelled": complex_spelled,
    "matrix spelled": matrix_spelled,
    "choice spelled": choice_spelled,
    "word spelled": word_spelled,
    "pi spelled": pi_spelled,
    "money spelled": money_spelled,
    "sum": summed,
    "chain": chained,
    "quotient": quotient,
    "product": product,
}
