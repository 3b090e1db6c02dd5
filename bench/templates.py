#!/usr/bin/env python3
"""Compares chat templates as the program renders them with transformers' own environment of Jinja2, on generated templates.

    cargo build --release -p idiolect-engine --example render
    .venv/bin/python bench/templates.py target/release/examples/render [--cases 20000] [--seed 0] [--show KIND]

A case is a template put together by chance out of the constructs of fixtures/templates/semantics.py (expressions, filters, tests, methods,
statements) and a value. Kinds of outcome: `same` text or both refuse; `refused` here only; `accepted` here only, where
Python raises an error; `different` texts. The program reads {"template", "values"} a line and answers {"text"} or {"error"}.
"""

import argparse
import collections
import json
import pathlib
import random
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "fixtures/templates"))
import semantics  # noqa: E402

LITERALS = ["1", "0", "-2", "2.5", "'a'", "'a b'", "\"it's\"", "''", "true", "false", "none", "[]", "['a', 'b']", "[1, none]", "{'k': 1}", "{}", "(1, 2)", "('a',)", "y"]
OPERATORS = ["~", "~", "~", "+", "-", "*", "==", "!=", "and", "or", "in", "not in", "//", "%"]
MESSAGES = [{"role": "user", "content": "it's 3 + 4"}, {"role": "assistant", "content": "7"}]


def expression(rng, depth):
    kind = rng.randrange(10 if depth else 3)
    inner = lambda: expression(rng, depth - 1)  # noqa: E731
    if kind < 1:
        return "x"
    if kind < 3:
        return rng.choice(LITERALS)
    if kind < 5:
        return f"{inner()} {rng.choice(OPERATORS)} {inner()}"
    if kind == 5:
        return f"({inner()})" if rng.random() < 0.6 else f"({inner()}, {inner()})"
    if kind == 6:
        return f"({inner()}) | {rng.choice(semantics.FILTERS)}"
    if kind == 7:
        return f"({inner()}).{rng.choice(semantics.METHODS)}"
    if kind == 8:
        negated = rng.choice(["", "not "])
        return f"({inner()}) is {negated}{rng.choice(semantics.TESTS)}"
    return rng.choice([f"[{inner()}, {inner()}]", f"{{'k': {inner()}}}", f"{inner()} if {inner()} else {inner()}", f"({inner()})[{rng.choice(['0', '-1', '1:', ':-1', '::2', '::-1'])}]"])


def template(rng):
    made = lambda: expression(rng, rng.randrange(1, 4))  # noqa: E731
    trim = lambda: rng.choice(["", "", "", "-"])  # noqa: E731
    kind = rng.randrange(8)
    if kind < 4:
        return f"{{{{{trim()} {made()} {trim()}}}}}|"
    if kind == 4:
        return f"{{% if {made()} {trim()}%}} T {{% elif {made()} %}}E{{% else %}}F{{% endif %}}"
    if kind == 5:
        return f"{{%{trim()} for i in {made()} {rng.choice(['', 'if i '])}{trim()}%}}{{{{ i ~ loop.last }}}},{{% endfor %}}"
    if kind == 6:
        return f"{{% set z = {made()} {trim()}%}} {{{{ z }}}}{{% for m in messages %}}{{{{ m.role ~ m }}}}{{% endfor %}}"
    return f"{{% macro f(a, b=1) %}}{{{{ a ~ b }}}}{{% endmacro %}}{{{{ f({made()}, b={made()}) }}}}"


def cases(n, seed):
    rng = random.Random(seed)
    for _ in range(n):
        value = rng.choice(semantics.VALUES)
        values = {"messages": MESSAGES, "y": rng.choice(semantics.VALUES[:-1])}
        yield template(rng), values if value is semantics.ABSENT else values | {"x": value}


def outcome(expected, got):
    if expected == got:
        return "same"
    if got is None:
        return "refused"
    return "accepted" if expected is None else "different"


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("program")
    arguments.add_argument("--cases", type=int, default=20_000)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--show", action="append", default=[], metavar="KIND")
    given = arguments.parse_args()
    tried = list(cases(given.cases, given.seed))
    asked = "".join(json.dumps({"template": source, "values": values | {"tools": None}}) + "\n" for source, values in tried)
    done = subprocess.run([given.program], input=asked, capture_output=True, text=True)
    answers = [json.loads(line) for line in done.stdout.split("\n")[:-1]]
    if done.returncode or len(answers) != len(tried):
        sys.exit(f"{given.program} answered {len(answers)} of {len(tried)} cases\n{done.stderr}")
    counts = collections.Counter()
    for (source, values), answer in zip(tried, answers):
        expected = semantics.render(source, {k: v for k, v in values.items() if k != "messages"}, values["messages"])
        kind = outcome(expected, answer.get("text"))
        counts[kind] += 1
        if kind in given.show:
            print(f"{kind}: {source}\n    x={values.get('x', 'undefined')!r} y={values['y']!r}\n    {expected!r}\n    {answer}")
    print(", ".join(f"{kind} {n}" for kind, n in counts.most_common()))
