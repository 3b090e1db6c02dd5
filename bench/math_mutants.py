#!/usr/bin/env python3
"""Changed copies of MATH's gold answers: how many of them the math verifier takes for the answer.

    python3 bench/math_mutants.py DATA_DIR [--seed 0] [--binary PROGRAM]

DATA_DIR (or IDIOLECT_DATA) holds math/train.jsonl.gz and math/test.jsonl.gz. Every distinct gold answer is
changed in one place in several ways: a digit, a sign, an operator, a bracket, a relation; a part dropped or
two parts exchanged; a space, point, slash, comma or colon put between two digits; a unit, a scale or a
percent sign added; a word or letter exchanged. A change that keeps the value by arithmetic alone (0 and -0,
a + b and b + a) is not made. The rest are judged with the gold beside them, and all that are called equal are
printed with the reason. Needs `cargo build --release -p idiolect-core --example verify_pairs`.
"""
import argparse
import collections
import gzip
import json
import os
import random
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import math_gold

ROOT = Path(__file__).resolve().parent.parent


def pick(pattern, text, rng):
    found = list(re.finditer(pattern, text))
    return rng.choice(found) if found else None


def replaced(text, match, by):
    return text[: match.start()] + by + text[match.end() :]


def digit(text, rng):
    match = pick(r"(?<![\d.,])[1-9]|(?<=[1-9])\d", text, rng)
    return match and replaced(text, match, rng.choice([d for d in "123456789" if d != match.group()]))


def digit_more(text, rng):
    match = pick(r"(?:(?<=[\d.])\d|[1-9])(?![\d.,}]*\.\d)(?=\D|$)", text, rng)
    decimal = match and re.search(r"\.\d*$", text[: match.end()])
    return match and replaced(text, match, match.group() + (rng.choice("123456789") if decimal else "0"))


def digit_less(text, rng):
    match = pick(r"(?<![\d.,])[1-9]\d(?![\d.,])", text, rng)
    return match and replaced(text, match, match.group()[:1])


def negated(text, rng):
    if re.match(r"-\s*[^0\s]", text):
        return text[1:].lstrip()
    if re.match(r"[1-9]|0?\.\d|\\frac|\\sqrt|\\\$", text) and not re.search(r"\\pm|[<>=]|\\[lg]e", text):
        return "-" + text
    return None


def sign(text, rng):
    match = pick(r"(?<=[\w})])\s*([+-])\s*(?=[\w\\(])", text, rng)
    if not match or re.match(r"\s*0\b", text[match.end() :]):
        return None
    return replaced(text, match, "-" if match.group(1) == "+" else "+")


def operator(text, rng):
    match = pick(r"\\cdot|\\times|(?<=[\w})])\+(?=[\w\\(])|(?<=\d)/(?=\d)", text, rng)
    if not match:
        return None
    return replaced(text, match, {"+": r"\cdot ", "/": r"\cdot "}.get(match.group(), "+"))


def upside_down(text, rng):
    match = pick(r"\\d?frac\{([^{}]+)\}\{([^{}]+)\}|\\d?frac(\d)(\d)", text, rng)
    if not match:
        return None
    above, below = match.group(1) or match.group(3), match.group(2) or match.group(4)
    return replaced(text, match, f"\\frac{{{below}}}{{{above}}}") if above != below else None


def root_gone(text, rng):
    match = pick(r"\\sqrt\{([^{}]+)\}|\\sqrt(\d)", text, rng)
    inside = match and (match.group(1) or match.group(2))
    return replaced(text, match, f"({inside})") if match and inside not in "01" else None


def power(text, rng):
    match = pick(r"\^\{?(\d+)\}?", text, rng)
    return match and replaced(text, match, f"^{{{int(match.group(1)) + 1}}}")


def bracket(text, rng):
    # An infinite end is open either way, and of three numbers no bracket is an interval's.
    match = pick(r"(?<!\\)[\[(](?!\s*-?\s*\\infty)(?=[^(),\[\]]*,[^(),\[\]]*[\])])", text, rng)
    return match and replaced(text, match, "[" if match.group() == "(" else "(")


def relation(text, rng):
    match = pick(r"\\leq?(?![a-z])|\\geq?(?![a-z])|<|>|\\cup|\\cap", text, rng)
    other = {"<": ">", ">": "<", "\\cup": "\\cap", "\\cap": "\\cup"}
    return match and replaced(text, match, other.get(match.group(), "\\ge " if "l" in match.group() else "\\le "))


def parts(text):
    """The text cut at its commas outside brackets, or None."""
    inner = text.strip().replace("\\,", " ")
    if re.search(r"\d,(\\!)?\s?\d{3}(?!\d)|\{,\}", inner):
        return None
    depth, cut, found = 0, 0, []
    for i, c in enumerate(inner):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth == 0:
            found.append(inner[cut:i])
            cut = i + 1
    found.append(inner[cut:])
    return found if len(found) > 1 and all(p.strip() for p in found) else None


def part_dropped(text, rng):
    found = parts(text)
    if not found or len(set(found)) < len(found):
        return None
    del found[rng.randrange(len(found))]
    return ",".join(found).strip()


def part_more(text, rng):
    found = parts(text)
    return found and ",".join(found) + ", 9173"


def exchanged(text, rng):
    plain = text.strip().replace("\\left", "").replace("\\right", "")
    match = re.fullmatch(r"([(\[])([^,()\[\]]+),([^,()\[\]]+)([)\]])", plain)
    if not match or match.group(2).strip() == match.group(3).strip():
        return None
    return f"{match.group(1)}{match.group(3)},{match.group(2)}{match.group(4)}"


def between_digits(mark):
    def change(text, rng):
        match = pick(r"(?<![\d.,:])\d{2,}(?![\d.,:])", text, rng)
        # The two digits of `\frac12` are two numbers as it is.
        if not match or re.search(r",|\\!", text) or re.search(r"frac\s*\d?$", text[: match.start()]):
            return None
        number = match.group()
        at = rng.randrange(1, len(number))
        # Three digits after a space or comma would be thousands; zeros after a point nothing.
        if len(number) - at == 3 and mark in " ,":
            return None
        if mark == "." and not number[at:].strip("0"):
            return None
        return replaced(text, match, number[:at] + mark + number[at:])

    return change


def whole(pattern):
    return lambda text: re.fullmatch(pattern, text.strip())


def added(tail, only=r"-?\d+|-?\\frac\{\d+\}\{\d+\}"):
    return lambda text, rng: text + tail if whole(only)(text) and text.strip() != "0" else None


def in_text(change):
    def outer(text, rng):
        if not whole(r"-?[\d.]+")(text):
            return None
        inner = change(text, rng)
        return inner and f"\\text{{{inner}}}"

    return outer


UNITS = [("feet", "inches"), ("inches", "feet"), ("cm", "km"), ("miles", "yards"), ("meters", "miles"), ("hours", "minutes"),
         ("days", "hours"), ("minutes", "hours"), ("dollars", "cents"), ("cents", "dollars"), ("pounds", "ounces"),
         ("square", "cubic"), ("cubic", "square"), ("mph", "km/h"), ("degrees", "radians"), ("a.m.", "p.m."), ("p.m.", "a.m."),
         ("PM", "AM"), ("^2", "^3"), ("min", "hours"), ("ft", "in"), ("gallons", "liters")]


def unit(text, rng):
    if not re.search(r"\\(text|mbox)", text):
        return None
    fits = [(a, b) for a, b in UNITS if re.search(rf"(?<![a-z]){re.escape(a)}(?![a-z])", text)]
    return fits and (lambda pair: re.sub(rf"(?<![a-z]){re.escape(pair[0])}(?![a-z])", lambda _: pair[1], text, count=1))(rng.choice(fits))


def word(text, rng):
    match = whole(r"\\(?:text|mbox)\{\(?([A-Za-z]+)\)?\}|\(?([A-H])\)?")(text)
    if not match:
        return None
    old = match.group(1) or match.group(2)
    new = rng.choice([w for w in (list("ABCDEFGH") if len(old) == 1 else ["Tuesday", "even", "odd", "Evelyn", "circle", "east", "no"]) if w.lower() != old.lower()])
    return text.replace(old, new)


def letter(text, rng):
    if re.search(r"\\(text|mbox|begin|boxed)", text):
        return None
    match = pick(r"(?<![A-Za-z\\])[xyzabnkt](?![A-Za-z])", text, rng)
    alike = match and text.count(match.group()) == len(re.findall(rf"(?<![A-Za-z\\]){match.group()}(?![A-Za-z])", text))
    # One name for all of a text's variables says the same of a set.
    several = len(set(re.findall(r"(?<![A-Za-z\\])[a-z](?![A-Za-z])", text))) > 1
    return replaced(text, match, "w") if match and alike and (several or not re.search(r"[<>=]|\\[lg]e", text)) else None


def base(text, rng):
    match = re.search(r"_\{?(\d+)\}?$", text)
    return match and replaced(text, match, f"_{{{int(match.group(1)) + 1}}}")


def constant(text, rng):
    match = pick(r"\\pi|(?<![A-Za-z\\])[ei](?![A-Za-z])", text, rng)
    return replaced(text, match, "3") if match and not re.search(r"\\(text|mbox)", text) else None


CHANGES = {
    "digit": digit, "digit more": digit_more, "digit less": digit_less, "negated": negated, "sign": sign, "operator": operator,
    "upside down": upside_down, "root gone": root_gone, "power": power, "bracket": bracket, "relation": relation,
    "part dropped": part_dropped, "part more": part_more, "exchanged": exchanged, "space": between_digits(" "),
    "point": between_digits("."), "slash": between_digits("/"), "comma": between_digits(","), "colon": between_digits(":"),
    "million": added(r"\text{ million}"), "dozen": added(r"\text{ dozen}"), "plus": added(r"\text{ plus }3"),
    "second number": added(r"\text{ and }17"), "text sign": in_text(negated), "text slash": in_text(between_digits("/")),
    "text point": in_text(between_digits(".")), "factorial": added("!", r"[3-9]|\d\d"), "unit": unit, "word": word, "letter": letter,
    "base": base, "constant": constant,
}  # fmt: skip


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("data", type=Path, nargs="?", default=os.environ.get("IDIOLECT_DATA"))
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--show", default="correct", help="which verdict's answers are printed")
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    arguments.add_argument("--binary", default=str(target / "release/examples/verify_pairs"))
    arguments = arguments.parse_args()
    if arguments.data is None:
        sys.exit("give DATA_DIR or set IDIOLECT_DATA")
    golds = set()
    for split in ["train", "test"]:
        with gzip.open(Path(arguments.data) / "math" / f"{split}.jsonl.gz", "rt") as rows:
            golds |= {math_gold.last_box(json.loads(row)["solution"]).strip() for row in rows}
    rng = random.Random(arguments.seed)
    made = []
    for gold in sorted(golds - {""}):
        for name, change in CHANGES.items():
            mutant = change(gold, rng)
            if mutant and mutant.strip() != gold:
                made.append((name, gold, mutant))
    rows = math_gold.ours(arguments.binary, [(gold, mutant) for _, gold, mutant in made])
    counts = collections.defaultdict(collections.Counter)
    for (name, _, _), row in zip(made, rows):
        counts[name][row["verdict"]] += 1
    kinds = ["correct", "ungraded", "no_answer", "wrong"]
    print(f"{'change':16}" + "".join(f"{kind:>11}" for kind in kinds))
    for name in [*CHANGES, "all"]:
        total = sum(counts.values(), collections.Counter()) if name == "all" else counts[name]
        print(f"{name:16}" + "".join(f"{total[kind]:11}" for kind in kinds))
    equal = [(made[i], row) for i, row in enumerate(rows) if row["verdict"] == arguments.show]
    print(f"\n{len(equal)} of {len(made)} changed answers are called {arguments.show}:")
    for (name, gold, mutant), row in equal:
        print(f"  {name}: {gold}  |  {mutant}  |  {row['reason']}")


if __name__ == "__main__":
    main()
