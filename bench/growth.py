#!/usr/bin/env python3
"""Time and memory of verify, score, arms and compare as rows and arms grow: each should be linear, none above 1 GiB.

    cargo build --release
    python3 bench/growth.py                              # 10^3 to 10^6 rows, 1 to 64 arms; some 15 minutes, 3 GB of files
    python3 bench/growth.py --largest 100000             # less
    python3 bench/growth.py --only verify,compare

The rows are made up: word problems with one sum, eight traces a problem, half of them right, texts of the length that GSM8K's
have. `score` runs under `fixtures/stories260K`, up to a hundredth of the largest number of rows: its time is the model's. Each
command is a process of its own; memory is its largest resident size. A line is marked where a tenfold number of rows took more
than fifteen times as long (and a second at least), or where memory is above 1 GiB. Standard library only.
"""
import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target" / "release" / "idiolect"
TRACES_PER_PROBLEM = 8
MOST_KIB = 1 << 20
TENFOLD = 15.0
NAMES = ["Ann", "Bo", "Cy", "Di", "Ed", "Flo", "Gus", "Hal"]
THINGS = ["apples", "stamps", "marbles", "cards", "shells", "coins"]


def problem(number, rng):
    a, b, c = rng.randint(10, 99), rng.randint(2, 9), rng.randint(1, 9)
    name, thing = rng.choice(NAMES), rng.choice(THINGS)
    question = (f"{name} has {a} boxes with {b} {thing} in each box and gives {c} {thing} to a friend on every day of a week. "
                f"How many {thing} does {name} have after that week?")
    row = {"id": f"p/{number}", "task": "gsm8k", "question": question, "gold": {"answer": str(a * b - 7 * c)}, "split": "train"}
    return row, (a, b, c, name, thing)


def trace(row, facts, sample, rng):
    a, b, c, name, thing = facts
    slip = 0 if sample % 2 == 0 else rng.randint(1, 9)
    total, given = a * b, 7 * c
    text = (f"Let me think about this step by step. {name} has {a} boxes of {b} {thing}, so there are {a} * {b} = {total} {thing} "
            f"at first. In a week {name} gives away 7 * {c} = {given} {thing} (attempt {sample}). What is left is "
            f"{total} - {given} = {total - given + slip} {thing}.\n#### {total - given + slip}")
    return {"id": f"{row['id']}/{sample}", "problem_id": row["id"], "text": text, "finish": "stop", "origin": {"kind": "sampled", "model": "made-up"}}


def write_rows(folder, rows):
    """problems.jsonl and traces.jsonl with this many traces."""
    rng = random.Random(rows)
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "problems.jsonl", "w") as problems, open(folder / "traces.jsonl", "w") as traces:
        for number in range(max(1, rows // TRACES_PER_PROBLEM)):
            row, facts = problem(number, rng)
            problems.write(json.dumps(row) + "\n")
            for sample in range(TRACES_PER_PROBLEM):
                traces.write(json.dumps(trace(row, facts, sample, rng)) + "\n")


def write_evaluation(path, problems, right, seed):
    rng = random.Random(seed)
    with open(path, "w") as file:
        for number in range(problems):
            verdict = "correct" if rng.random() < right else "wrong"
            file.write(json.dumps({"problem_id": f"p/{number}", "sample": 0, "decoding": "greedy", "text": "x", "finish": "stop",
                                   "verdict": verdict, "extracted": "1", "n_tokens": 1}) + "\n")


def ran(command, folder):
    """Seconds and largest resident size in KiB of a command."""
    began = time.monotonic()
    process = subprocess.Popen([PROGRAM, *command, "-q"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    words = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 3):
        sys.exit(f"{' '.join(command)}: exit {process.returncode}\n{words}")
    return time.monotonic() - began, usage.ru_maxrss


class Table:
    """Figures of a command over sizes; says what is not linear."""

    def __init__(self):
        self.marks = []
        print(f"{'command':10} {'rows':>9} {'arms':>5} {'seconds':>9} {'us/row':>9} {'MiB':>7}")

    def line(self, command, rows, arms, seconds, kib, before):
        mark = ""
        if before and seconds > 1.0 and seconds / before[1] > TENFOLD * (rows * arms) / (10.0 * before[0]):
            mark += "  grows faster than the rows"
        if kib > MOST_KIB:
            mark += "  above 1 GiB"
        print(f"{command:10} {rows:9} {arms:5} {seconds:9.2f} {1e6 * seconds / (rows * arms):9.1f} {kib / 1024:7.0f}{mark}", flush=True)
        if mark:
            self.marks.append(f"{command} at {rows} rows and {arms} arms:{mark}")
        return rows * arms, seconds


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--largest", type=int, default=1_000_000, help="rows of the largest file")
    arguments.add_argument("--only", default="verify,score,arms,compare", help="commands, separated by commas")
    arguments.add_argument("--dir", help="keep the files here")
    given = arguments.parse_args()
    if not PROGRAM.exists():
        sys.exit(f"no program at {PROGRAM}; build first: cargo build --release")
    wanted = given.only.split(",")
    sizes = [n for n in (10**3, 10**4, 10**5, 10**6) if n <= given.largest]
    with tempfile.TemporaryDirectory() as temporary:
        place = pathlib.Path(given.dir or temporary)
        table = Table()
        before = {}
        for rows in sizes:
            folder = place / str(rows)
            write_rows(folder, rows)
            common = ["--problems", "problems.jsonl", "--traces", "traces.jsonl"]
            done = ran(["verify", *common, "-o", "verdicts.jsonl", "--overwrite"], folder)
            if "verify" in wanted:
                before["verify"] = table.line("verify", rows, 1, *done, before.get("verify"))
            if "arms" in wanted:
                done = ran(["arms", *common, "--verdicts", "verdicts.jsonl", "--arm", "G=G", "--arm", "W=W", "-o", "arms", "--overwrite"], folder)
                before["arms"] = table.line("arms", rows, 2, *done, before.get("arms"))
            if "score" in wanted and rows <= given.largest // 100:
                done = ran(["score", "--model", str(ROOT / "fixtures/stories260K"), *common, "-o", "scores.jsonl", "--overwrite"], folder)
                before["score"] = table.line("score", rows, 1, *done, before.get("score"))
        if "compare" in wanted:
            for problems, counts in ((1000, (2, 8, 32, 64)), (given.largest // 100, (2, 8))):
                earlier = None
                for arms in counts:
                    folder = place / f"compare-{problems}"
                    folder.mkdir(parents=True, exist_ok=True)
                    names = ["base"] + [f"A{number}" for number in range(1, arms)]
                    for number, name in enumerate(names):
                        write_evaluation(folder / f"{name}.jsonl", problems, 0.2 + 0.4 * number / arms, number)
                    done = ran(["compare", *[f"{name}={name}.jsonl" for name in names], "--assume-same"], folder)
                    earlier = table.line("compare", problems, arms, *done, earlier)
    if table.marks:
        print("\n" + "\n".join(table.marks))
        sys.exit(1)
    print("\nall linear and below 1 GiB")


if __name__ == "__main__":
    main()
