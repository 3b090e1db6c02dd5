"""Rows of math and gsm8k."""

import random
import re

from decorations import Form, Row, Value
from decorations.around import AROUND, OUTER
from decorations.passages import (
    AFTER,
    BEFORE,
    FOLLOW,
    NEED_STATEMENT,
    POSITIONS,
    POSITIONS_OF,
    place,
    stated,
    steps,
)
from decorations.spellings import SPELLINGS, grouped
from decorations.values import KINDS, KINDS_OF, SQUARE_FREE, differ, draw_fraction, latex_fraction, write


def pick(weights, rng):
    return rng.choices(list(weights), weights=list(weights.values()))[0]


def written_gold(task, form, rng):
    """A gold as a bare answer, or within the data set's own kind of solution."""
    if re.fullmatch(r"\d{4,}", form.text or "") and rng.random() < 0.3:  # as both data sets group theirs
        form = Form(grouped(form.math, ",\\!"), grouped(form.text, ","))
    if task == "gsm8k":
        return (
            form.text if rng.random() < 0.8 else f"They have 3 + 4 = <<3+4=7>>7 to begin with.\n#### {form.text}"
        )
    return form.math if rng.random() < 0.8 else f"We solve for it, which gives $\\boxed{{{form.math}}}$."


def decorated(task, value, other, names, position, seed, rival):
    """The answer that states `value` under the named decorations, or None where they do not go together.
    `seed` makes every choice, so that a near miss is decorated as the value is."""
    rng = random.Random(seed)
    form = write(value)
    for name in names["spelling"]:
        form = SPELLINGS[name](value, rng)
        if not form:
            return None
    for name in names["around"]:
        form = AROUND[name](form, value, other, rng)
        if not form or form == Form(None, None):
            return None
    body = place(task, position, form, value, other, (names["follow"] or [None])[0], rng)
    if body is None:
        return None
    for name in names["after"]:
        body = AFTER[name](body, task, rival, rng)
    for name in names["before"]:
        body = BEFORE[name](body, value, other, rng)
    return body


def choose(task, value, position, rng):
    """Up to three decorations, by layer."""
    names = {"spelling": [], "around": [], "follow": [], "after": [], "before": []}
    layers = ["spelling", "spelling", "around", "around", "around", "after", "before"]
    if "{f}" in POSITIONS[position][1]:
        layers += ["follow", "follow"]
    for layer in rng.sample(layers, rng.choice((1, 1, 2, 2, 3))):
        if layer == "around" and names["around"]:
            names[layer].append(rng.choice(OUTER))
        elif layer == "around":
            names[layer].append(rng.choice(list(AROUND)))
        elif layer == "follow":
            names[layer] = [rng.choice(list(FOLLOW))]
        elif layer == "spelling":
            fitting = [n for n in SPELLINGS if SPELLINGS[n](value, random.Random(0))]
            names[layer] = [rng.choice(fitting)] if fitting else []
        else:
            source = AFTER if layer == "after" else BEFORE
            names[layer] = [rng.choice(list(source))]
    return names


# What does not go together, since the reading would be open or nobody writes it.
def clash(task, value, names, position):
    flat = [n for layer in names.values() for n in layer]
    spelling, around = names["spelling"], names["around"]
    # A unit behind a unit, a currency with a unit, words with a unit that is a percentage, and so on.
    if (
        len(
            [
                n
                for n in around
                if n in ("unit", "roman unit", "unit in \\text", "celsius", "degrees", "ordinal", "currency")
            ]
        )
        > 1
    ):
        return True
    if "in total" in names["follow"] and any(n in around for n in ("unit", "celsius", "degrees", "ordinal")):
        return True
    if any(n in spelling for n in ("sum", "chain", "quotient", "product")):
        # "3 + 4 cm" is not 7 cm, "x = 3 + 4 = 7" is fine but "7 (3 + 4 = 7)" says it twice. A sum that is
        # stated, "Answer: 3 + 4", may be meant as a form of its own only in math.
        if around and not set(around) <= {
            "\\textcolor",
            "\\underline",
            "$ in box",
            "space before",
            "**bold**",
            "\\mathbf",
        }:
            return True
        if "(sum)" in names["follow"] or "not other" in names["follow"]:
            return True
        if task == "math" and any(n in spelling for n in ("sum", "product")) and POSITIONS[position][0] != "math":
            return True
    # "-5 degrees" is fine; "1/2th", "007th", "three cm^2" and "$three" are not written.
    if any(n in spelling for n in ("number word",)) and any(
        n in around for n in ("currency", "degrees", "celsius", "ordinal", "name =", "roman unit", "parentheses")
    ):
        return True
    if (
        any(n in spelling for n in ("number word", "decimal comma", "scale word", "negative", "minus word"))
        and "ordinal" in around
    ):
        return True
    # It carries a unit already; a number of millions of Celsius, or a tick behind its word, is not in doubt
    # but is not written either.
    if "decimal comma" in spelling and any(
        n in around for n in ("unit", "roman unit", "unit in \\text", "celsius", "currency", "degrees")
    ):
        return True
    # A surd or a list in a bare sentence before "in total" is not written.
    if value.kind in ("tuple", "set", "interval", "matrix") and "(sum)" in names["follow"]:
        return True
    # "3,7 km" in a list context; "1 600 (four)" and "3 1/2 (…)" are fine.
    if (
        position in ("tag", "tag lines")
        and names["before"]
        and names["before"][0] in NEED_STATEMENT
        and task == "gsm8k"
    ):
        return True
    if names["before"] and names["before"][0] in NEED_STATEMENT and not POSITIONS[position][2]:
        return True
    # A dash, a space and a number at the start of a line may be a bullet.
    if (
        "spaced minus" in spelling
        and re.search(r"(^|\n)(<answer>)?([-*•] )?\{v\}", POSITIONS[position][1])
        and POSITIONS[position][0] != "math"
    ):
        return True
    # A last sentence states a number, not a sum.
    if position.startswith("last") and (
        "ordinal" in around or any(n in spelling for n in ("sum", "product", "quotient"))
    ):
        return True
    # A left-open box can only be the end of the text; what follows would be inside it.
    if position == "box left open" and names["after"]:
        return True
    if position in ("alone", "alone in dollars") and names["after"] and names["after"][0] == "polite ending":
        return True
    # GSM8K's last sentence states a number in passing: a dressed one in a longer text has other numbers.
    if position.startswith("last") and (set(names["follow"]) & {"because", "compared", "(sum)", "not other"}):
        return True
    # The rival of a marker's junk and the like needs no check; a choice letter beside "A:" does.
    if value.kind == "choice" and any(n.startswith("next problem (common") for n in flat):
        return True
    if value.kind in ("choice", "word") and ("name =" in around or "\\therefore" in around):
        return True
    return False


def number_rows(task, count, seed):
    rng = random.Random(f"{task}/{seed}")
    seen, made = set(), 0
    positions = {p: POSITIONS[p][3] for p in POSITIONS_OF[task]}
    while made < count:
        kind = pick(KINDS_OF[task], rng)
        gold = Value(kind, KINDS[kind][0](rng))
        position = pick(positions, rng)
        names = choose(task, gold, position, rng)
        if clash(task, gold, names, position) or not any(names.values()):
            continue
        misses = [m for m in KINDS[kind][2](gold.data, rng) if differ(gold, m)]
        if "quantity bare" in names["spelling"]:  # without its unit a miss of the unit is no miss
            misses = [m for m in misses if m.data[0] != gold.data[0]]
        rng.shuffle(misses)
        case_seed = rng.random()
        flat = tuple(n for layer in names.values() for n in layer)
        for miss in misses[:3]:
            rivals = stated(write(gold), random.Random(case_seed)), stated(write(miss), random.Random(case_seed))
            right = decorated(task, gold, miss, names, position, case_seed, rivals[1])
            wrong = decorated(task, miss, gold, names, position, case_seed, rivals[0])
            if right is None:
                break
            gold_text = written_gold(task, write(gold), random.Random(case_seed))
            for truth, answer in (("right", right), ("wrong", wrong)):
                if answer is not None and made < count and (gold_text, answer) not in seen:
                    seen.add((gold_text, answer))
                    made += 1
                    yield Row(task, truth, kind, position, flat, gold_text, answer)
            break


def unanswered_rows(task, count, seed):
    rng = random.Random(f"none/{task}/{seed}")
    made = 0
    while made < count:
        kind = pick(KINDS_OF[task], rng)
        gold = Value(kind, KINDS[kind][0](rng))
        form = write(gold)
        text = stated(form, rng)
        work = steps(rng, gold, gold)
        name, answer = rng.choice(
            (
                # Still thinking: what is there is a draft.
                ("<think> left open", f"<think>{work} {text}"),
                ("<think> left open", f"<think>\n{text} But wait, let me check that again."),
                ("second <think> left open", f"<think>{work}</think>\n<think>{text} Hmm,"),
                # The thinking ended and nothing was said after it.
                ("nothing after </think>", f"<think>{work} {text}</think>"),
                ("nothing after </think>", f"{text}</think>\n\n"),
                ("nothing after </think>", f"<think>{text}</think><|im_end|>"),
                ("empty box", f"{work}\n\n\\boxed{{}}"),
            )
        )
        if name == "empty box" and task == "gsm8k":
            continue
        made += 1
        yield Row(task, "none", kind, "-", (name,), form.text if task == "gsm8k" else form.math, answer)


def rounded_rows(task, count, seed):
    """Answers that equal an irrational or periodic gold only when rounded to the digits given."""
    rng = random.Random(f"rounded/{seed}")
    made = 0
    while made < count:
        if rng.random() < 0.5:
            p, q = draw_fraction(rng)
            if 10**6 % q == 0:
                continue
            exact, gold = p / q, latex_fraction(p, q)
        else:
            a, b = rng.randrange(2, 12), rng.choice(SQUARE_FREE)
            exact, gold = a * b**0.5, f"{a}\\sqrt{{{b}}}"
        text = f"{exact:.{rng.choice((3, 4))}f}"
        if text.endswith("0"):
            continue
        made += 1
        position = rng.choice(
            (
                "\\boxed{{{}}}",
                "The answer is {}.",
                "{}",
                "Final Answer: The final answer is ${}$. I hope it is correct.",
                "The answer is approximately {}.",
            )
        )
        yield Row(task, "none", "rounded", "-", ("rounded",), gold, position.format(text))
