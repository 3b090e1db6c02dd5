#!/usr/bin/env python3
"""Recomputes Countdown verdicts independently of idiolect and reports every disagreement.

    python bench/check_verdicts.py RUN_DIR
    python bench/check_verdicts.py problems.jsonl traces.jsonl verdicts.jsonl

Plain Python: the expression is parsed by Python's own parser (`ast`) and evaluated with
`fractions`; no code or table is shared with the program. The rules checked are those of the task:
the answer is the content of the last complete <answer>...</answer>, else what follows a final
`| ans` that ends a text which was not cut; only + - * / ( ) and the given integers, each exactly
once; exact value. `correct` and `wrong` must match exactly, and nothing else may be `correct` or
`wrong`. Prints counts, then each disagreement; exits 1 where there is any, 2 where nothing could be
checked.
"""

import ast
import collections
import fractions
import json
import pathlib
import re
import sys

SIGNS = {
    "−": "-", "–": "-", "‐": "-", "‑": "-", "×": "*", "·": "*", "⋅": "*", "∗": "*", "÷": "/", "∕": "/",
    "\\times": "*", "\\cdot": "*", "\\div": "/", "\\left": "", "\\right": "",
    "[": "(", "]": ")", "$": "", "\\(": "", "\\)": "", "\\[": "", "\\]": "",
}  # fmt: skip


def answer_text(text: str, finish: str) -> str | None:
    """The answer as written, or None."""
    end = text.rfind("</answer>")
    if end >= 0:
        start = text.rfind("<answer>", 0, end)
        if start >= 0:
            return text[start + len("<answer>") : end]
    if finish == "length":
        return None
    final = re.search(r"\|\s*ans(?=[ \t(])([^|]*)\Z", text)
    return final.group(1) if final else None


def normal(answer: str) -> str:
    """Notation as ASCII; emphasis around the whole answer dropped."""
    for written, sign in sorted(SIGNS.items(), key=lambda item: -len(item[0])):
        answer = answer.replace(written, sign)
    return answer.strip().strip("`").removeprefix("**").removesuffix("**").rstrip(".").strip()


class NotAllowed(Exception):
    """An expression, but not one the task allows."""


def value(node: ast.expr, numbers: list[int]) -> fractions.Fraction:
    """Exact value; collects the integers used."""
    match node:
        case ast.Constant(value=int() as n) if not isinstance(n, bool):
            numbers.append(n)
            return fractions.Fraction(n)
        case ast.BinOp(left=left, op=op, right=right):
            a, b = value(left, numbers), value(right, numbers)
            match op:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div() if b != 0:
                    return a / b
    raise NotAllowed(ast.dump(node)[:80])


def verdict(problem: dict, trace: dict) -> str:
    """correct, wrong or no_answer."""
    written = answer_text(trace["text"], trace["finish"])
    if written is None:
        return "no_answer"
    answer, target = normal(written), problem["gold"]["target"]
    stated = re.fullmatch(r"([^=]*)=\s*(-?\d+)", answer, re.DOTALL)
    if stated:
        answer = stated.group(1).strip()
    try:
        tree = ast.parse(" ".join(answer.split()), mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return "no_answer"
    numbers: list[int] = []
    try:
        reached = value(tree.body, numbers)
    except NotAllowed:
        # What Python reads but the task does not allow is wrong only if it is arithmetic at all.
        arithmetic = re.fullmatch(r"[\d+\-*/().\s]+", answer)
        return "wrong" if arithmetic else "no_answer"
    once = collections.Counter(numbers) == collections.Counter(problem["gold"]["numbers"])
    said = stated is None or int(stated.group(2)) == target
    return "correct" if once and reached == target and said else "wrong"


def rows(path: pathlib.Path) -> list[dict]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines if line.strip()]


def main(arguments: list[str]) -> int:
    if len(arguments) == 1:
        folder = pathlib.Path(arguments[0])
        paths = [folder / f"{name}.jsonl" for name in ("problems", "traces", "verdicts")]
    elif len(arguments) == 3:
        paths = [pathlib.Path(argument) for argument in arguments]
    else:
        print(__doc__, file=sys.stderr)
        return 2
    problems = {row["id"]: row for row in rows(paths[0])}
    # Traces of one id share one text, so any of them serves; a cut one is judged more strictly.
    traces = collections.defaultdict(list)
    for row in rows(paths[1]):
        traces[row["id"]].append(row)
    counts, disagreements = collections.Counter(), []
    for row in rows(paths[2]):
        problem = problems.get(row["problem_id"])
        if problem is None or problem["task"] != "countdown":
            counts["not countdown"] += 1
            continue
        if row["trace_id"] not in traces:
            disagreements.append((row["trace_id"], row["verdict"], "no such trace", ""))
            continue
        expected = {verdict(problem, trace) for trace in traces[row["trace_id"]]}
        counts[row["verdict"]] += 1
        if row["verdict"] not in expected:
            shown = traces[row["trace_id"]][0]["text"][-120:]
            disagreements.append((row["trace_id"], row["verdict"], "/".join(sorted(expected)), shown))
    judged = {row["trace_id"] for row in rows(paths[2])}
    missing = sorted(set(traces) - judged)
    for trace_id in missing:
        disagreements.append((trace_id, "no verdict", "", ""))
    checked = sum(counts.values()) - counts["not countdown"]
    print(f"{checked} verdicts recomputed: {dict(sorted(counts.items()))}; {len(disagreements)} disagree")
    for trace_id, ours, expected, shown in disagreements:
        print(f"{trace_id}: verdict {ours}, recomputed {expected}: ...{shown!r}")
    if disagreements:
        return 1
    return 0 if checked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
