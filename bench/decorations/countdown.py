"""Rows of Countdown."""

import json
import random
import re
from fractions import Fraction

from decorations import Row
from decorations.passages import AFTER


def expression(numbers, rng):
    """A random expression over the numbers: (text, value, precedence)."""
    parts = [(str(n), Fraction(n), 3) for n in numbers]
    while len(parts) > 1:
        rng.shuffle(parts)
        (x, a, p), (y, b, q) = parts.pop(), parts.pop()
        sign = rng.choice("+-*/" if b and a % b == 0 and b > 1 else "+-*")
        level = 1 if sign in "+-" else 2
        left = f"({x})" if p < level else x
        right = f"({y})" if q < level or q == level and sign in "-/" else y
        value = {"+": a + b, "-": a - b, "*": a * b, "/": a / b if b else a}[sign]
        parts.append((f"{left} {sign} {right}", value, level))
    return parts[0][0], parts[0][1]


def evaluate(text):
    """The exact value, with every integer made a fraction; None for a division by zero."""
    try:
        return eval(
            re.sub(r"\d+", lambda m: f"Fraction({m.group()})", text), {"Fraction": Fraction}
        )  # our own text
    except ZeroDivisionError:
        return None


def puzzle(rng):
    while True:
        numbers = [rng.randrange(1, rng.choice((10, 100))) for _ in range(rng.choice((3, 4, 4)))]
        text, value = expression(numbers, rng)
        if value.denominator == 1 and 2 <= value <= 999 and text.count("/") < 3:
            return sorted(numbers, key=lambda _: rng.random()), int(value), text


def countdown_misses(text, numbers, target, rng):
    out = []
    places = [m.start() for m in re.finditer(r"(?<= )[-+*/](?= )", text)]
    for i in places:
        for sign in "+-*/":
            changed = text[:i] + sign + text[i + 1 :]
            if sign != text[i] and evaluate(changed) != target and evaluate(changed) is not None:
                out.append(changed)
    spans = list(re.finditer(r"\d+", text))
    span = rng.choice(spans)
    out.append(text[: span.start()] + str(int(span.group()) + 1) + text[span.end() :])
    # The right value from other numbers than those given.
    out += [f"{text} + 1 - 1", f"({text}) * 1", str(target), f"{target - 1} + 1"]
    return [o for o in out if evaluate(o) != target or sorted(map(int, re.findall(r"\d+", o))) != sorted(numbers)]


def replace_signs(pairs):
    return lambda e, t, r: "".join(dict(pairs).get(c, c) for c in e)


FULL = {ord(c): ord(c) + 0xFEE0 for c in "0123456789()+-*/"}
EXPRESSIONS = {
    "plain": lambda e, t, r: e,
    "no spaces": lambda e, t, r: e.replace(" ", ""),
    "wide spaces": lambda e, t, r: e.replace(" ", "  "),
    "= target": lambda e, t, r: f"{e} = {t}",
    "target =": lambda e, t, r: f"{t} = {e}",
    "name =": lambda e, t, r: r.choice(("result = ", "x = ", "answer = ", "ans = ", "expression = ")) + e,
    "label:": lambda e, t, r: r.choice(("Answer: ", "Expression: ", "The expression is ", "Solution: ")) + e,
    "fence": lambda e, t, r: f"```{r.choice(('python', '', 'math', 'text'))}\n{e}\n```",
    "code": lambda e, t, r: f"`{e}`",
    "$": lambda e, t, r: f"${e}$",
    "$$": lambda e, t, r: f"$${e}$$",
    "\\( \\)": lambda e, t, r: f"\\({e}\\)",
    "\\[ \\]": lambda e, t, r: f"\\[{e}\\]",
    "× ÷": replace_signs({"*": "×", "/": "÷"}.items()),
    "\\times \\div": replace_signs({"*": "\\times", "/": "\\div"}.items()),
    "\\cdot": replace_signs({"*": "\\cdot"}.items()),
    "· ∕": replace_signs({"*": "·", "/": "∕"}.items()),
    "minus sign": replace_signs({"-": "−"}.items()),
    "en dash": replace_signs({"-": "–"}.items()),
    "\\left( \\right)": replace_signs({"(": "\\left(", ")": "\\right)"}.items()),
    "full width": lambda e, t, r: e.translate(FULL),
    "box": lambda e, t, r: f"\\boxed{{{e}}}",
    "$box$": lambda e, t, r: f"$\\boxed{{{e}}}$",
    "outer parentheses": lambda e, t, r: f"({e})",
    "square brackets": replace_signs({"(": "[", ")": "]"}.items()),
    "quotes": lambda e, t, r: f'"{e}"',
    "stop": lambda e, t, r: e + ".",
    "check": lambda e, t, r: f"{e} = {t} ✓",
    "\\text{} label": lambda e, t, r: f"\\text{{Answer: }}{e}",
    # Two stars around the whole are Markdown's bold, not a power.
    "bold": lambda e, t, r: f"**{e}**",
    "lines": lambda e, t, r: f"\n{e}\n",
    "$= target$": lambda e, t, r: f"${e.replace('*', chr(92) + 'times').replace('/', chr(92) + 'div')} = {t}$",
    "x for times": lambda e, t, r: e.replace("*", "x"),
    "\\frac": lambda e, t, r: re.sub(r"(?<![\d)] )\b(\d+) / (\d+)\b", r"\\frac{\1}{\2}", e, count=1),
    "chain": lambda e, t, r: e + f" = {t} = {t}",
    "name and target": lambda e, t, r: f"result = {e} = {t}",
}


def countdown_next_mini(body, task, rival, rng):
    return body + "\nnums 4 5 -> 9 | " + rival


COUNTDOWN_AFTER = dict(AFTER, **{"next problem (mini)": countdown_next_mini})


def countdown_before(name, body, rival, rng):
    draft = f"Maybe <answer> {rival} </answer>?"
    return {
        "<think>": f"<think>{draft}</think>{body}",
        "<think> lines": f"<think>\n{draft}\n</think>\n\n{body}",
        "only </think>": f"{draft}\n</think>\n{body}",
        "<thinking>": f"<thinking>{draft}</thinking>\n{body}",
        # The later complete tag is the answer (docs: the last one).
        "retracted": f"<answer> {rival} </answer>\nWait, that is not it.\n{body}",
        "tag in prose": f"I will write my reply between <answer> and </answer>.\n{body}",
        "steps": f"3 * 7 = 21\n21 - 2 = 19\n{body}",
        "<|channel|>": f"<|channel|>analysis<|message|>{draft}<|end|><|start|>assistant<|channel|>final<|message|>{body}",
    }[name]


COUNTDOWN_BEFORE = [
    "<think>",
    "<think> lines",
    "only </think>",
    "<thinking>",
    "retracted",
    "tag in prose",
    "steps",
    "<|channel|>",
]
COUNTDOWN_PLACES = {
    "tag": "<answer> {} </answer>",
    "tight tag": "<answer>{}</answer>",
    "tag in sentence": "So my reply is <answer> {} </answer>.",
    "tag in bold": "**<answer> {} </answer>**",
    "tag in code": "`<answer> {} </answer>`",
    "tag and remark": "<answer> {} </answer>\nThis uses every number once.",
    "tag on lines": "<answer>\n{}\n</answer>",
}


def countdown_rows(count, seed):
    rng = random.Random(f"countdown/{seed}")
    seen, made = set(), 0
    while made < count:
        numbers, target, text = puzzle(rng)
        misses = countdown_misses(text, numbers, target, rng)
        miss = rng.choice(misses)
        gold = {"numbers": numbers, "target": target}
        spelled = rng.choice(list(EXPRESSIONS))
        position = rng.choice(list(COUNTDOWN_PLACES))
        before = rng.choice([None, None] + COUNTDOWN_BEFORE)
        after = rng.choice([None, None] + list(COUNTDOWN_AFTER))
        case_seed = rng.random()
        # A fence or display in a sentence is not written.
        if (
            spelled in ("fence", "lines")
            and position != "tight tag"
            or spelled == "bold"
            and position == "tag in bold"
            or spelled == "code"
            and position == "tag in code"
        ):
            continue
        for truth, inner, rival in (("right", text, miss), ("wrong", miss, text)):
            case = random.Random(case_seed)
            form = EXPRESSIONS[spelled](inner, target, case)
            if spelled not in ("plain", "no spaces") and form == inner:
                break
            body = COUNTDOWN_PLACES[position].format(form)
            if after:
                body = COUNTDOWN_AFTER[after](body, "countdown", f"<answer> {rival} </answer>", case)
            if before:
                body = countdown_before(before, body, rival, case)
            key = (json.dumps(gold), body)
            if made < count and key not in seen:
                seen.add(key)
                made += 1
                yield Row(
                    "countdown",
                    truth,
                    "expression",
                    position,
                    tuple(n for n in (spelled, before, after) if n),
                    gold,
                    body,
                )
        if made < count and rng.random() < 0.04:
            made += 1
            yield Row(
                "countdown",
                "none",
                "expression",
                "-",
                ("no answer",),
                gold,
                rng.choice(
                    (
                        f"<think>{text} = {target}</think> no tag",
                        f"<think><answer> {text} </answer>",
                        f"<think>{text}\n<answer> {text} </answer></think>",
                        "I could not find one.",
                        "<answer></answer>",
                        f"<think>\n<answer> {miss} </answer> is not it, {text} is",
                    )
                ),
            )
