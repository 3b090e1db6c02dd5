"""Values of known kinds: drawn, written, and their near misses, which are other values."""

from fractions import Fraction

from decorations import Form, Value

# For each kind: draw a value, write it, and near misses, which are other values (checked by `differ`).

UNITS_OF_ONE = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen".split()
)
TENS = "zero ten twenty thirty forty fifty sixty seventy eighty ninety".split()


def words_of(n):
    """An integer from 0 to 999 in English, or None."""
    if not 0 <= n <= 999:
        return None
    if n >= 100:
        rest = words_of(n % 100) if n % 100 else None
        return UNITS_OF_ONE[n // 100] + " hundred" + (" and " + rest if rest else "")
    if n < 20:
        return UNITS_OF_ONE[n]
    return TENS[n // 10] + ("-" + UNITS_OF_ONE[n % 10] if n % 10 else "")


def number(value):
    """The exact rational of a numeric kind, or None."""
    kind, data = value
    if kind in ("integer", "large"):
        return Fraction(data)
    if kind in ("decimal", "money"):
        return Fraction(data)
    if kind == "fraction":
        return Fraction(*data)
    if kind == "mixed":
        sign, whole, p, q = data
        return sign * (whole + Fraction(p, q))
    if kind == "percent":
        return Fraction(data) / 100
    return None


def differ(one, other):
    """Whether two values are different under every convention of the documentation: a percentage may be
    taken as its hundredth, and a comma may group digits or mark the decimals, so that those ratios are
    left out."""
    a, b = number(one), number(other)
    if a is None or b is None:
        return (one.kind, one.data) != (other.kind, other.data)
    if a == b:
        return False
    return not (a and b and a / b in {Fraction(100), Fraction(1, 100), Fraction(1000), Fraction(1, 1000)})


def other_digit(text, rng):
    places = [i for i, c in enumerate(text) if c.isdigit()]
    i = rng.choice(places)
    low = 1 if i == places[0] and len(places) > 1 and text[i] != "0" else 0
    return text[:i] + str(rng.choice([d for d in range(low, 10) if str(d) != text[i]])) + text[i + 1 :]


def number_from(text):
    text = text.rstrip(".")
    if "." in text:
        return Value("decimal", text)
    return Value("large" if abs(int(text)) >= 1000 else "integer", int(text))


def near_integer(n, rng):
    s = str(abs(n))
    sign = "-" if n < 0 else ""
    misses = [
        number_from(sign + other_digit(s, rng)),
        number_from(str(n + rng.choice((1, -1)))),
        number_from(sign + s + str(rng.randrange(10))),
    ]
    if n:
        misses.append(number_from(str(-n)))
    if len(s) > 1:
        i = rng.randrange(1, len(s))
        misses.append(Value("decimal", f"{sign}{s[:i]}.{s[i:]}"))
        if int(s[i:]) > 1:
            misses.append(Value("fraction", (int(sign + s[:i]), int(s[i:]))))
        if s[1] != "0":
            misses.append(number_from(sign + s[1:]))
    return misses


def near_decimal(text, rng):
    digits = text.lstrip("-")
    sign = text[: len(text) - len(digits)]
    whole, part = digits.split(".")
    misses = [
        Value("decimal", sign + other_digit(digits, rng)),
        Value("decimal", ("" if sign else "-") + digits),
        number_from(sign + str(int(whole + part))),
        Value("decimal", f"{sign}{whole}.0{part}"),
        Value("decimal", f"{sign}{whole}{part[0]}.{part[1:] or '0'}".replace("-0", "-").lstrip("0")),
    ]
    return [m if not str(m.data).startswith(".") else Value("decimal", "0" + m.data) for m in misses]


def near_fraction(data, rng):
    p, q = data
    misses = [
        Value("fraction", (-p, q)),
        Value("fraction", (p + rng.choice((1, -1)), q)),
        Value("fraction", (p, q + 1)),
        number_from(f"{p}{q}"),
    ]
    if abs(p) > 1:
        misses.append(Value("fraction", (q if p > 0 else -q, abs(p))))
    return misses


def near_mixed(data, rng):
    sign, whole, p, q = data
    misses = [
        Value("mixed", (-sign, whole, p, q)),
        Value("mixed", (sign, whole + 1, p, q)),
        Value("mixed", (sign, whole, p, q + 1)),
        Value("fraction", (sign * whole * p, q)),
        Value("fraction", (sign * int(f"{whole}{p}"), q)),
    ]
    if p + 1 < q:
        misses.append(Value("mixed", (sign, whole, p + 1, q)))
    return misses


def latex_fraction(p, q, command="\\frac"):
    return f"{'-' if p < 0 else ''}{command}{{{abs(p)}}}{{{q}}}"


def write_mixed(data):
    sign, whole, p, q = data
    minus = "-" if sign < 0 else ""
    return Form(f"{minus}{whole}\\frac{{{p}}}{{{q}}}", f"{minus}{whole} {p}/{q}")


def polynomial(data):
    """Coefficients from the highest power down."""
    out = ""
    for i, c in enumerate(data):
        power = len(data) - 1 - i
        if not c:
            continue
        sign = "-" if c < 0 else "+" if out else ""
        size = "" if abs(c) == 1 and power else str(abs(c))
        out += sign + size + ("" if not power else "x" if power == 1 else f"x^{power}")
    return out or "0"


def near_list(kind, least=2):
    def near(data, rng):
        i = rng.randrange(len(data))
        changed = list(data)
        changed[i] = data[i] + rng.choice((1, -1, 2))
        turned = list(data)
        turned[i] = -data[i]
        misses = [changed, turned, list(data) + [data[-1] + 3]]
        if len(data) > least:
            misses.append(list(data)[:-1])
        if kind in ("tuple", "vector"):
            misses.append(list(data)[::-1])
        if kind == "set":
            misses = [sorted(set(m)) for m in misses]
        return [Value(kind, tuple(m)) for m in misses]

    return near


def draw_interval(rng):
    a = rng.randrange(-9, 9)
    low, high = a, a + rng.randrange(1, 9)
    left, right = rng.choice("[("), rng.choice("])")
    if rng.random() < 0.2:
        low, left = None, "("
    elif rng.random() < 0.2:
        high, right = None, ")"
    return left, low, high, right


def write_interval(data):
    left, low, high, right = data
    ends = "-\\infty" if low is None else low, "\\infty" if high is None else high
    return Form(
        f"{left}{ends[0]},{ends[1]}{right}",
        f"{left}{'-∞' if low is None else low}, {'∞' if high is None else high}{right}",
    )


def near_interval(data, rng):
    left, low, high, right = data
    flip = {"[": "(", "(": "[", "]": ")", ")": "]"}
    misses = []
    if low is not None:
        misses += [(flip[left], low, high, right), (left, low - 1, high, right)]
    if high is not None:
        misses += [(left, low, high, flip[right]), (left, low, high + 1, right)]
    if low is not None and high is not None:
        misses += [(left, -high, -low, right)]
    return [Value("interval", m) for m in misses]


SQUARE_FREE = (2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19)


def write_surd(data):
    shape, a, b, c = data
    if shape == "product":
        return Form(f"{a}\\sqrt{{{b}}}", f"{a}√{b}")
    if shape == "sum":
        return Form(f"{a}{'+' if c > 0 else '-'}\\sqrt{{{b}}}", f"{a}{'+' if c > 0 else '-'}√{b}")
    if shape == "plain":
        return Form(f"{a * b if c else a}", f"{a * b if c else a}")
    return Form(f"\\frac{{{'' if a == 1 else a}\\sqrt{{{b}}}}}{{{c}}}", f"{'' if a == 1 else a}√{b}/{c}")


def draw_surd(rng):
    shape = rng.choice(("product", "sum", "quotient"))
    b = rng.choice(SQUARE_FREE)
    if shape == "sum":
        return shape, rng.randrange(1, 12), b, rng.choice((1, -1))
    if shape == "product":
        return shape, rng.randrange(2, 12), b, 0
    c = rng.randrange(2, 10)
    return shape, rng.choice([a for a in range(1, 9) if Fraction(a, c).denominator == c]), b, c


def near_surd(data, rng):
    shape, a, b, c = data
    other = rng.choice([d for d in SQUARE_FREE if d != b])
    misses = [(shape, a, other, c), (shape, a + 10, b, c)]
    if shape == "product":
        misses += [("plain", a, b, 1), ("sum", a, b, 1), ("quotient", a, b, 1 + a)]
    if shape == "sum":
        misses += [(shape, a, b, -c), ("product", a + 1, b, 0), ("plain", a, b, 0)]
    if shape == "quotient":
        misses += [("product", a + 1, b, 0), (shape, a, b, c + 11)]
    return [Value("surd", m) for m in misses]


def write_clock(data):
    hour, minute, half = data
    return Form(
        f"{hour}\\!:\\!{minute:02}" + (f"\\text{{ {half}}}" if half else ""),
        f"{hour}:{minute:02}" + (f" {half}" if half else ""),
    )


def near_clock(data, rng):
    hour, minute, half = data
    misses = [(hour % 12 + 1, minute, half), (hour, (minute + rng.choice((1, 10, 30))) % 60, half)]
    if minute and minute != hour and minute <= 12:
        misses.append((minute, hour, half))
    if half:
        misses.append((hour, minute, "p.m." if half == "a.m." else "a.m."))
    return [Value("clock", m) for m in misses]


# Two units of one kind, the large one's size in the small one, and how both are abbreviated.
COMPOUNDS = {
    ("hours", "minutes"): (60, "h", "min"),
    ("minutes", "seconds"): (60, "min", "s"),
    ("feet", "inches"): (12, "ft", "in"),
    ("meters", "centimeters"): (100, "m", "cm"),
    ("kilograms", "grams"): (1000, "kg", "g"),
}


def draw_compound(rng):
    pair = rng.choice(sorted(COMPOUNDS))
    size = COMPOUNDS[pair][0]
    return pair, rng.randrange(2, 12), rng.randrange(2, min(size, 60))


def near_compound(data, rng):
    pair, a, b = data
    size = COMPOUNDS[pair][0]
    misses = [(pair, a + 1, b), (pair, a, b + 1 if b + 1 < size else b - 1)]
    if b < size // 2:
        misses.append((pair, a, b + size // 2))
    if a != b and a < size:
        misses.append((pair, b, a))
    return [Value("compound", m) for m in misses]


def write_compound(data):
    (large, small), a, b = data
    return Form(f"{a}\\text{{ {large} }}{b}\\text{{ {small}}}", f"{a} {large} {b} {small}")


# A unit, its abbreviation, and another unit of its kind.
QUANTITIES = {
    "inches": ("in", "feet"),
    "cm": ("cm", "m"),
    "minutes": ("min", "hours"),
    "hours": ("h", "days"),
    "kg": ("kg", "g"),
    "meters": ("m", "kilometers"),
    "seconds": ("s", "minutes"),
}


def near_quantity(data, rng):
    n, name = data
    misses = [Value("quantity", (int(other_digit(str(n), rng)), name)), Value("quantity", (-n, name))]
    other = QUANTITIES[name][1]
    # The same amount of another unit; `m` and `kilometers` have no entry of their own.
    return misses + ([Value("quantity", (n, other))] if other in QUANTITIES else [])


def write_points(data):
    return Form(",".join(f"({a},{b})" for a, b in data), ", ".join(f"({a}, {b})" for a, b in data))


def near_points(data, rng):
    i = rng.randrange(len(data))
    a, b = data[i]
    changed = [data[:i] + (p,) + data[i + 1 :] for p in ((a, b + 1), (b, a), (-a, b))] + [data[:-1]]
    return [Value("points", m) for m in changed if sorted(m) != sorted(data)]


def write_ratio(data):
    return Form(f"{data[0]}:{data[1]}", f"{data[0]}:{data[1]}")


def near_ratio(data, rng):
    a, b = data
    return [Value("ratio", m) for m in ((b, a), (a + 1, b), (a, b + 1)) if Fraction(*m) != Fraction(a, b)]


def write_pi(data):
    p, q, power = data
    top = ("" if p == 1 else "-" if p == -1 else str(p)) + ("\\pi" if power else "")
    top = top if power or abs(p) > 1 else str(p)
    text = top.replace("\\pi", "π")
    return Form(top if q == 1 else f"\\frac{{{top}}}{{{q}}}", text if q == 1 else f"{text}/{q}")


def near_pi(data, rng):
    p, q, power = data
    misses = [(p + 1, q, power), (-p, q, power), (p, q, 0), (p, q + 1, power)]
    return [Value("pi", m) for m in misses if m[0] and Fraction(m[0], m[1]) != Fraction(p, q) or not m[2]]


def draw_equation(rng):
    return rng.randrange(2, 9), rng.choice([n for n in range(-9, 10) if n])


def write_equation(data):
    text = f"y={polynomial(data)}"
    return Form(text, text)


def near_equation(data, rng):
    a, b = data
    return [Value("equation", m) for m in ((a, -b), (-a, b), (a + 1, b), (a, b + 20), (b, a)) if m != data]


def write_based(data):
    digits, base = data
    return Form(f"{digits}_{{{base}}}", None)


def near_based(data, rng):
    digits, base = data
    i = rng.randrange(len(digits))
    low = 1 if i == 0 else 0
    other = [d for d in range(low, base) if str(d) != digits[i]]
    misses = [(digits, base + 1)] if len(digits) > 1 else []
    if other:
        misses.append((digits[:i] + str(rng.choice(other)) + digits[i + 1 :], base))
    misses.append((digits + "1", base))
    return [Value("base", m) for m in misses]


def draw_based(rng):
    base = rng.randrange(2, 9)
    return str(rng.randrange(1, base)) + "".join(
        str(rng.randrange(base)) for _ in range(rng.randrange(1, 5))
    ), base


def write_power(data):
    digits, exponent = data
    return Form(f"{digits}\\times 10^{{{exponent}}}", f"{digits} × 10^{exponent}")


def near_power(data, rng):
    digits, exponent = data
    return [
        Value("scientific", m)
        for m in (
            (digits, exponent + 1),
            (digits, -exponent),
            (other_digit(digits, rng), exponent),
            ("-" + digits, exponent),
        )
        if float(m[0])
    ]


def write_complex(data):
    a, b = data
    size = "" if abs(b) == 1 else str(abs(b))
    text = f"{a}{'+' if b > 0 else '-'}{size}i"
    return Form(text, text)


def near_complex(data, rng):
    a, b = data
    return [Value("complex", m) for m in ((a, -b), (-a, b), (b, a), (a + 1, b), (a, b + 11)) if m != data]


DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
NAMES = "Alice Bob Carla Dmitri Erin Farid Grace".split()
MATRIX = "pmatrix"


def write_matrix(data):
    rows = " \\\\ ".join(" & ".join(map(str, r)) for r in data)
    return Form(f"\\begin{{{MATRIX}}} {rows} \\end{{{MATRIX}}}", None)


def near_matrix(data, rng):
    i, j = rng.randrange(len(data)), rng.randrange(len(data[0]))
    changed = [list(r) for r in data]
    changed[i][j] += rng.choice((1, -1, 3))
    turned = [list(r) for r in data]
    turned[i][j] = -turned[i][j]
    misses = [changed, turned, [list(r) for r in zip(*data)], [list(r)[::-1] for r in data]]
    return [Value("matrix", tuple(map(tuple, m))) for m in misses]


def plain(text):
    return Form(text, text)


def listed(data, left, right, math_left=None, math_right=None):
    body = ", ".join(map(str, data))
    return Form((math_left or left) + ",".join(map(str, data)) + (math_right or right), left + body + right)


def draw_fraction(rng):
    while True:
        p, q = rng.randrange(1, 40), rng.randrange(2, 40)
        if Fraction(p, q).denominator == q:
            return (-p if rng.random() < 0.2 else p), q


def draw_mixed(rng):
    q = rng.randrange(2, 13)
    p = rng.choice([p for p in range(1, q) if Fraction(p, q).denominator == q])
    return rng.choice((1, 1, 1, -1)), rng.randrange(1, 20), p, q


def draw_decimal(rng):
    whole = rng.choice((0, rng.randrange(1, 10), rng.randrange(10, 1000)))
    part = str(rng.randrange(1, 100)).zfill(2).rstrip("0")
    return ("-" if rng.random() < 0.15 else "") + f"{whole}.{part}"


def draw_polynomial(rng):
    data = tuple(
        [rng.choice([1, 2, 3, 5, -2, -4])] + [rng.randrange(-9, 10) for _ in range(rng.choice((1, 2, 2, 3)))]
    )
    return data if data[-1] else data[:-1] + (7,)


def near_polynomial(data, rng):
    i = rng.randrange(len(data))
    changed = data[:i] + (data[i] + (1 if data[i] != -1 else 3),) + data[i + 1 :]
    turned = data[:-1] + (-data[-1],)
    return [
        Value("expression", m)
        for m in (changed, turned, data[:-1] + (data[-1] + 10,), (0,) + data[:-1] if len(data) > 2 else changed)
    ]


# kind: (draw, write, near misses)
KINDS = {
    "integer": (
        lambda r: r.choice(
            (r.randrange(0, 10), r.randrange(10, 100), r.randrange(100, 1000), -r.randrange(1, 100))
        ),
        lambda d: plain(str(d)),
        near_integer,
    ),
    "large": (
        lambda r: r.choice(
            (
                r.randrange(1000, 10000),
                r.randrange(10, 100) * 1000,
                r.randrange(10000, 1000000),
                r.randrange(10**6, 10**8),
                r.randrange(1, 10) * 10**6,
            )
        ),
        lambda d: plain(str(d)),
        near_integer,
    ),
    "decimal": (draw_decimal, plain, near_decimal),
    "money": (
        lambda r: f"{r.randrange(1, 200)}.{r.choice((25, 50, 75, 20, 99, 40))}",
        lambda d: Form(
            f"\\${d}" if not d.startswith("-") else f"-\\${d[1:]}",
            f"${d}" if not d.startswith("-") else f"-${d[1:]}",
        ),
        lambda d, r: [
            Value("money", other_digit(d, r)),
            Value("money", "-" + d),
            Value("money", str(Fraction(d) * 10).split("/")[0] + ".00"),
        ],
    ),
    "fraction": (draw_fraction, lambda d: Form(latex_fraction(*d), f"{d[0]}/{d[1]}"), near_fraction),
    "mixed": (draw_mixed, write_mixed, near_mixed),
    "percent": (
        lambda r: str(r.choice((r.randrange(1, 100), r.randrange(1, 20) * 5))),
        lambda d: Form(f"{d}\\%", f"{d}%"),
        lambda d, r: (
            [Value("percent", other_digit(d, r)), Value("percent", "-" + d), Value("percent", str(int(d) + 1))]
            + ([Value("percent", d[0] + "." + d[1:])] if len(d) == 2 and d[1] != "0" else [])
        ),
    ),
    "tuple": (
        lambda r: tuple(r.randrange(-12, 13) for _ in range(r.choice((2, 2, 3)))),
        lambda d: listed(d, "(", ")"),
        near_list("tuple"),
    ),
    "set": (
        lambda r: tuple(sorted(r.sample(range(-9, 20), r.choice((2, 3, 4))))),
        lambda d: listed(d, "{", "}", "\\{", "\\}"),
        near_list("set"),
    ),
    "interval": (draw_interval, write_interval, near_interval),
    "surd": (draw_surd, write_surd, near_surd),
    "pi": (
        lambda r: r.choice(
            (
                (r.randrange(2, 200), 1, 1),
                (1, r.randrange(2, 13), 1),
                (r.choice((5, 7, 11)), r.choice((3, 4, 6, 12)), 1),
            )
        ),
        write_pi,
        near_pi,
    ),
    "expression": (draw_polynomial, lambda d: plain(polynomial(d)), near_polynomial),
    "equation": (draw_equation, write_equation, near_equation),
    "clock": (
        lambda r: (
            r.randrange(1, 13),
            r.choice((0, 0, 30, 15, 45, r.randrange(60))),
            r.choice((None, "a.m.", "p.m.")),
        ),
        write_clock,
        near_clock,
    ),
    "compound": (draw_compound, write_compound, near_compound),
    "ratio": (
        lambda r: r.choice(
            [(a, b) for a in range(1, 12) for b in range(2, 12) if Fraction(a, b).denominator == b]
        ),
        write_ratio,
        near_ratio,
    ),
    "base": (draw_based, write_based, near_based),
    "scientific": (
        lambda r: (f"{r.randrange(1, 10)}.{r.randrange(1, 10)}", r.choice((3, 4, 5, 7, 9, 12, -2, -4))),
        write_power,
        near_power,
    ),
    "complex": (
        lambda r: (r.choice([n for n in range(-9, 10) if n]), r.choice([n for n in range(-9, 10) if n])),
        write_complex,
        near_complex,
    ),
    "matrix": (
        lambda r: tuple(tuple(r.randrange(-9, 10) for _ in range(2)) for _ in range(r.choice((1, 2)) + 1)),
        write_matrix,
        near_matrix,
    ),
    "quantity": (
        lambda r: (r.randrange(2, 500), r.choice(sorted(QUANTITIES))),
        lambda d: Form(f"{d[0]}\\text{{ {d[1]}}}", f"{d[0]} {d[1]}"),
        near_quantity,
    ),
    "points": (
        lambda r: tuple(
            sorted({(r.randrange(-9, 10), r.randrange(-9, 10)) for _ in range(2)} | {(r.randrange(-9, 10), 11)})
        ),
        write_points,
        near_points,
    ),
    "choice": (
        lambda r: r.choice("ABCDE"),
        lambda d: Form(f"\\text{{({d})}}", f"({d})"),
        lambda d, r: [Value("choice", c) for c in "ABCDE" if c != d],
    ),
    "word": (
        lambda r: r.choice(DAYS + NAMES),
        lambda d: Form(f"\\text{{{d}}}", d),
        lambda d, r: [Value("word", w) for w in (DAYS if d in DAYS else NAMES) if w != d],
    ),
}
KINDS_OF = {
    "math": {
        "integer": 6,
        "large": 3,
        "decimal": 3,
        "fraction": 4,
        "mixed": 2,
        "percent": 2,
        "money": 1,
        "tuple": 2,
        "set": 2,
        "interval": 2,
        "surd": 3,
        "pi": 2,
        "expression": 2,
        "equation": 1,
        "clock": 1,
        "compound": 2,
        "ratio": 1,
        "base": 1,
        "scientific": 1,
        "complex": 1,
        "quantity": 2,
        "points": 1,
        "matrix": 1,
        "choice": 1,
        "word": 1,
    },
    "gsm8k": {"integer": 6, "large": 4, "decimal": 3},
}
COUNTABLE = ("integer", "large", "decimal", "fraction", "mixed")
NUMERIC = COUNTABLE + ("surd", "pi")


def write(value):
    return KINDS[value.kind][1](value.data)
