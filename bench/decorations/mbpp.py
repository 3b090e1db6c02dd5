"""Rows of MBPP."""

import json
import random
import re

from decorations import Row
from decorations.passages import MARKERS

# (tests, setup, right code, wrong codes). Written for this file.
FUNCTIONS = [
    (
        ["assert tri(3)==6", "assert tri(4)==10"],
        "",
        "def tri(n):\n    return n*(n+1)//2\n",
        ["def tri(n):\n    return n*(n-1)//2\n", "def tri(n):\n    return 6\n"],
    ),
    (
        ["assert count_vowels('banana')==3", "assert count_vowels('xyz')==0"],
        "",
        "def count_vowels(s):\n    total = 0\n    for c in s:\n        if c in 'aeiou':\n            total += 1\n    return total\n",
        [
            "def count_vowels(s):\n    total = 0\n    for c in s:\n        if c in 'aeio':\n            total += 2\n    return total\n"
        ],
    ),
    (
        ["assert flat([[1],[2,3]])==[1,2,3]", "assert flat([])==[]"],
        "",
        "def flat(rows):\n    return [x for row in rows for x in row]\n",
        ["def flat(rows):\n    return [row for row in rows]\n"],
    ),
    (
        ["assert apart((1,2,3))==[(1,2),(2,3)]"],
        "",
        "from typing import List, Tuple\n\ndef apart(t) -> List[Tuple[int, int]]:\n    return list(zip(t, t[1:]))\n",
        ["def apart(t):\n    return list(zip(t, t[:1]))\n"],
    ),
    (
        ["assert middle([3,1,2])==2", "assert middle([5])==5"],
        "",
        "import statistics\n\ndef middle(xs):\n    return statistics.median(xs)\n",
        ["def middle(xs):\n    return max(xs)\n", "def middle(xs):\n    return xs[len(xs) // 2 - 1]\n"],
    ),
    (
        ["assert fold(sum,[1,2,3])==6", "assert fold(max,[1,5])==5"],
        "",
        "def fold(f, xs):\n    return f(xs)\n",
        ["def fold(f, xs):\n    return min(xs)\n"],
    ),
    (
        ["assert area(Box(2,3))==6"],
        "from collections import namedtuple\nBox = namedtuple('Box', 'w h')\n",
        "def area(b):\n    return b.w * b.h\n",
        ["def area(b):\n    return b.w + b.h\n"],
    ),
    (
        ["assert depth(Node(Node(None)))==2", "assert depth(None)==0"],
        "class Node:\n    def __init__(self, child):\n        self.child = child\n",
        "def depth(node):\n    if node is None:\n        return 0\n    return 1 + depth(node.child)\n",
        ["def depth(node):\n    if node is None:\n        return 0\n    return depth(node.child)\n"],
    ),
    (
        ["assert list(evens(5))==[0,2,4]"],
        "",
        "def evens(n):\n    for i in range(0, n, 2):\n        yield i\n",
        ["def evens(n):\n    for i in range(1, n, 2):\n        yield i\n"],
    ),
    (
        ["assert abs(mean([1,2])-1.5)<1e-9"],
        "",
        "def mean(xs):\n    return sum(xs)/len(xs)\n",
        ["def mean(xs):\n    return sum(xs)/(len(xs)+1)\n"],
    ),
    (
        ["assert swap('a b')=='b a'", "assert swap('x')=='x'"],
        "",
        "swap = lambda s: ' '.join(reversed(s.split()))\n",
        ["swap = lambda s: s\n"],
    ),
    (
        ["assert power(2,10)==1024", "assert power(5,0)==1"],
        "",
        "def power(a, b):\n    result = 1\n    while b:\n        result *= a\n        b -= 1\n    return result\n",
        [
            "def power(a, b):\n    result = 1\n    while b > 1:\n        result *= a\n        b -= 1\n    return result\n"
        ],
    ),
    (
        ["assert max(3,9)==9", "assert max(-1,-5)==-1"],
        "",
        "def max(a, b):\n    return a if a > b else b\n",
        ["def max(a, b):\n    return a if a < b else b\n"],
    ),
    (
        ["assert square_all([1,2,3])==[1,4,9]"],
        "",
        "def square(x):\n    return x * x\n\ndef square_all(xs):\n    return list(map(square, xs))\n",
        ["def square(x):\n    return x + x\n\ndef square_all(xs):\n    return list(map(square, xs))\n"],
    ),
]


def indented(code, by="    "):
    return "".join(by + line if line.strip() else line for line in code.splitlines(keepends=True))


def fence(open_, close="```"):
    return lambda code, rng: f"{open_}\n{code}{close}"


def docstring(body):
    """A docstring put below the first `def`, which changes nothing that runs."""

    def put(code, rng):
        match = re.search(r"^def .*:\n", code, re.M)
        if not match:
            return None
        return "```python\n" + code[: match.end()] + indented('"""' + body + '"""\n') + code[match.end() :] + "```"

    return put


def helper_apart(code, rng):
    # A helper that the second block calls: both are needed.
    head = re.match(r"def (\w+)\((\w+)\):\n", code)
    if not head or "\ndef " in code:
        return None
    name, argument = head.groups()
    return f"First a helper:\n```python\n{code.replace(f'def {name}(', 'def do_it(', 1).replace(f' {name}(', ' do_it(')}```\nThen the solution:\n```python\ndef {name}({argument}):\n    return do_it({argument})\n```"


FENCES = {
    "plain": lambda c, r: c,
    "```python": fence("```python"),
    "```py": fence("```py"),
    "```Python": fence("```Python"),
    "```python3": fence("```python3"),
    "```": fence("```"),
    "```{python}": fence("```{python}"),
    "```ipython": fence("```ipython"),
    "```ipython3": fence("```ipython3"),
    "```{.python}": fence("```{.python}"),
    "```text": fence("```text"),
    "``` python": fence("``` python"),
    "info string": fence('```python title="solution.py"'),
    "info string {}": fence("```python {linenos=true}"),
    "```PYTHON": fence("```PYTHON"),
    "~~~": fence("~~~", "~~~"),
    "~~~python": fence("~~~python", "~~~"),
    "````": fence("````python", "````"),
    "`````": fence("`````", "`````"),
    "closes only": lambda c, r: c + "```",
    "closes only, remark": lambda c, r: c + "```\nThis works.",
    "opens only": lambda c, r: "```python\n" + c,
    "indented fence": lambda c, r: "1. Here it is:\n\n" + indented("```python\n" + c + "```\n"),
    "fence in a bullet": lambda c, r: "- The function:\n" + indented("```python\n" + c + "```\n", "  "),
    "tab fence": lambda c, r: "Here:\n\n" + indented("```python\n" + c + "```\n", "\t"),
    "all indented": lambda c, r: indented(c),
    "[PYTHON]": lambda c, r: f"[PYTHON]\n{c}[/PYTHON]",
    "[BEGIN]": lambda c, r: f"[BEGIN]\n{c}[DONE]",
    "[DONE]": lambda c, r: f"{c}[DONE]",
    "CRLF": lambda c, r: f"```python\n{c}```".replace("\n", "\r\n"),
    "tag": lambda c, r: f"<answer>\n```python\n{c}```\n</answer>",
    "prose around": lambda c, r: (
        f"Here is the function you asked for:\n\n```python\n{c}```\n\nIt runs in linear time."
    ),
    "usage behind": lambda c, r: (
        f"```python\n{c}```\nUsage:\n```python\nprint('example')\n```\nOutput:\n```\nexample\n```"
    ),
    "main behind": lambda c, r: f"```python\n{c}\nif __name__ == '__main__':\n    print(input())\n```",
    "docstring with fence": docstring("Does it.\n\nExample:\n```\n1\n```\n"),
    "docstring with markers": docstring("From [BEGIN] to [DONE]."),
    "docstring with >>>": docstring("Doctest.\n\n>>> 1 + 1\n2\n"),
    "helper apart": helper_apart,
    "blank lines": lambda c, r: "\n\n\n```python\n\n" + c + "\n```\n\n",
    "byte order mark": lambda c, r: "\ufeff" + c,
    "comment first": lambda c, r: "```python\n# solution.py\n# Written by hand\n" + c + "```",
    "name above": lambda c, r: "**solution.py**\n```python\n" + c + "```",
    "install block": lambda c, r: "First:\n```bash\npip install nothing\n```\nThen:\n```python\n" + c + "```",
    "future": lambda c, r: "```python\nfrom __future__ import annotations\n" + c + "```",
    "shebang": lambda c, r: "```python\n#!/usr/bin/env python3\n# -*- coding: utf-8 -*-\n" + c + "```",
    "<code>": None,
    "tests repeated": None,
}
FENCES = {name: put for name, put in FENCES.items() if put}
MBPP_NEXT = [
    "\n\nYou are an expert Python programmer, and here is your task: Write a function to add. Your code should pass these tests:\n\nassert add(1,2)==3\n[BEGIN]\n{}[DONE]\n",
    "\n\nProblem:\nWrite a function to add two numbers.\nassert add(1,2)==3\n\nSolution:\n{}",
]


def mbpp_rows(count, seed):
    rng = random.Random(f"mbpp/{seed}")
    seen, made = set(), 0
    while made < count:
        tests, setup, right, wrongs = rng.choice(FUNCTIONS)
        wrong = rng.choice(wrongs)
        name = rng.choice(list(FENCES))
        before = rng.choice((None, None, None, "<think>", "only </think>", "corrected"))
        after = rng.choice((None, None, None, "end marker", "next problem (own prompt)"))
        # Nothing separates prose from code in front of these.
        if before == "corrected" and name in (
            "opens only",
            "plain",
            "all indented",
            "closes only",
            "closes only, remark",
            "[DONE]",
            "byte order mark",
        ):
            continue
        if name in ("opens only", "all indented") and after and after.startswith("next"):
            continue
        gold = {"tests": tests, "setup": setup}
        case_seed = rng.random()
        for truth, code, rival in (("right", right, wrong), ("wrong", wrong, right)):
            case = random.Random(case_seed)
            body = FENCES[name](code, case)
            if body is None:
                break
            if after == "end marker":
                body = body + case.choice(MARKERS[:13]) + case.choice(("", f"\n```python\n{rival}```"))
            elif after:
                body = body + case.choice(MBPP_NEXT).format("def add(a, b):\n    return a + b\n")
            if before == "<think>":
                body = f"<think>Maybe\n```python\n{rival}```\nno.</think>\n{body}"
            elif before == "only </think>":
                body = f"Maybe\n```python\n{rival}```\nno.\n</think>\n{body}"
            elif before == "corrected":
                # The later definition replaces the earlier one, as it does where both are run.
                body = f"A first try:\n```python\n{rival}```\nThat is wrong. Corrected:\n\n{body}"
            key = (json.dumps(gold), body)
            if made < count and key not in seen:
                seen.add(key)
                made += 1
                yield Row("mbpp", truth, "code", "-", tuple(n for n in (name, before, after) if n), gold, body)
        if made < count and rng.random() < 0.06:
            made += 1
            extra, text = rng.choice(
                (
                    # The code may be right, and this machine need not have the package.
                    (
                        "module missing",
                        f"```python\nimport {rng.choice(('tensorflow', 'sympy', 'cv2', 'torch', 'networkx'))}\n{right}```",
                    ),
                    ("<think> left open", f"<think>Maybe\n```python\n{right}```\nbut"),
                    ("no code", "I cannot solve this."),
                )
            )
            # With the package the first is right, so it is not `none` for a machine that has it.
            yield Row("mbpp", "right" if extra == "module missing" else "none", "code", "-", (extra,), gold, text)
