#!/usr/bin/env python3
"""How many small changes to the code runner's Python the tests notice.

Each mutant changes one place of `crates/idiolect/src/sandbox/harness/*.py`: a comparison, `and` and `or`, `not`, a number, a
constant, a statement left out. The harness is text inside the program, so that a mutant needs no build: the text in
target/release/idiolect is replaced by one of equal length, and the tests of the code runner are run on that program. The program
is put back at the end, whatever the end is.

    cargo test --release --workspace --no-run
    python3 bench/judge_mutants.py --mutants 60               # drawn by --seed; one to three minutes each
    python3 bench/judge_mutants.py --files judge.py,values.py --mutants 0    # all of two files

Standard library only.
"""
import argparse
import ast
import glob
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HARNESS = ROOT / "crates/idiolect/src/sandbox/harness"
PROGRAM = ROOT / "target/release/idiolect"
TESTS = ["judge::", "code::"]
SWAPS = {
    ast.Eq: "!=", ast.NotEq: "==", ast.Lt: ">=", ast.LtE: ">", ast.Gt: "<=", ast.GtE: "<",
    ast.Is: "is not", ast.IsNot: "is", ast.In: "not in", ast.NotIn: "in",
}


class Text:
    """A source with places in it as byte offsets."""

    def __init__(self, source):
        self.source = source
        self.starts = [0]
        for line in source.splitlines(True):
            self.starts.append(self.starts[-1] + len(line.encode()))
        self.bytes = source.encode()

    def span(self, node):
        return self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset

    def of(self, node):
        low, high = self.span(node)
        return self.bytes[low:high].decode()


def changes(text):
    """(first byte, last byte, new text, what) of every mutant."""
    tree = ast.parse(text.source)
    docstrings = {id(node.body[0]) for node in ast.walk(tree)
                  if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(node, clean=False)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and len(node.ops) == 1:
            low, high = text.span(node)
            new = f"{text.of(node.left)} {SWAPS[type(node.ops[0])]} {text.of(node.comparators[0])}"
            yield low, high, new, "comparison"
        elif isinstance(node, ast.BoolOp):
            word = " or " if isinstance(node.op, ast.And) else " and "
            low, high = text.span(node)
            yield low, high, "(" + word.join(text.of(value) for value in node.values) + ")", "and, or"
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            low, high = text.span(node)
            yield low, high, text.of(node.operand), "not"
        elif isinstance(node, ast.Constant) and isinstance(node.value, bool):
            low, high = text.span(node)
            yield low, high, str(not node.value), "constant"
        elif isinstance(node, ast.Constant) and isinstance(node.value, int) and not isinstance(node.value, bool):
            low, high = text.span(node)
            yield low, high, str(node.value + 1), "number"
        elif isinstance(node, (ast.Expr, ast.Assign, ast.AugAssign, ast.Raise)) and id(node) not in docstrings:
            low, high = text.span(node)
            yield low, high, "pass", "statement left out"
        elif isinstance(node, ast.Return) and node.value is not None:
            low, high = text.span(node)
            yield low, high, "return None", "return"


def fitted(changed, length):
    """The text without as many comments as it takes to be no longer, filled up with an empty line."""
    lines = changed.splitlines(True)
    while len("".join(lines).encode()) > length:
        comment = next((i for i, line in enumerate(lines) if line.strip().startswith("#")), None)
        if comment is None:
            return None
        del lines[comment]
    text = "".join(lines).encode()
    return text + b" " * (length - len(text) - 1) + b"\n" if len(text) < length else text


def mutants(files):
    for path in files:
        text = Text(path.read_text())
        for low, high, new, what in changes(text):
            changed = (text.bytes[:low] + new.encode() + text.bytes[high:]).decode()
            try:
                ast.parse(changed)
            except SyntaxError:
                continue
            whole = fitted(changed, len(text.bytes))
            if whole is not None and new.encode() != text.bytes[low:high]:
                line = text.bytes[:low].count(b"\n") + 1
                yield path.name, line, what, text.bytes[low:high].decode(), new, text.bytes, whole


def test_binary():
    """The command-line tests, as cargo built them last."""
    found = [path for path in glob.glob(str(ROOT / "target/release/deps/cli-*")) if os.access(path, os.X_OK) and "." not in os.path.basename(path)]
    if not found:
        sys.exit("build the tests first: cargo test --release --workspace --no-run")
    return max(found, key=os.path.getmtime)


def passes(binary):
    environment = {**os.environ, "IDIOLECT_REQUIRE_PYTHON": "1", "RUST_TEST_THREADS": "4"}
    try:
        run = subprocess.run([binary, *TESTS], cwd=ROOT / "crates/idiolect", env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=600, text=True)
    except subprocess.TimeoutExpired:
        return False, "no end within 600 s"
    failed = [line for line in run.stdout.splitlines() if line.startswith("test ") and line.endswith("FAILED")]
    return run.returncode == 0, failed[0] if failed else ""


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--mutants", type=int, default=60, help="drawn of all; 0 takes all")
    arguments.add_argument("--files", help="files of the harness, separated by commas; default all")
    arguments.add_argument("--seed", type=int, default=0)
    given = arguments.parse_args()
    names = given.files.split(",") if given.files else sorted(path.name for path in HARNESS.glob("*.py"))
    every = list(mutants([HARNESS / name for name in names]))
    drawn = random.Random(given.seed).sample(every, min(given.mutants or len(every), len(every)))
    program, binary = PROGRAM.read_bytes(), test_binary()
    kept = PROGRAM.with_name("idiolect.whole")
    shutil.copy2(PROGRAM, kept)
    began, alive = time.monotonic(), []
    # An end by `timeout` or a scheduler puts the program back too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        if not passes(binary)[0]:
            sys.exit("the tests fail on the program as it is")
        for number, (name, line, what, old, new, text, changed) in enumerate(drawn, 1):
            if program.count(text) != 1:
                sys.exit(f"{name} is not in the program as it lies here: build again")
            PROGRAM.unlink()
            PROGRAM.write_bytes(program.replace(text, changed))
            PROGRAM.chmod(0o755)
            survived, by = passes(binary)
            shown = f"{name}:{line} {what}: {' '.join(old.split())[:60]} -> {' '.join(new.split())[:60]}"
            print(f"{number}/{len(drawn)} {'ALIVE' if survived else 'noticed'} {shown} {by}", flush=True)
            if survived:
                alive.append(shown)
    finally:
        os.replace(kept, PROGRAM)
    print(f"\n{len(drawn) - len(alive)} of {len(drawn)} mutants noticed (of {len(every)} there are), {time.monotonic() - began:.0f} s")
    for shown in alive:
        print(f"  alive: {shown}")


if __name__ == "__main__":
    main()
