#!/usr/bin/env python3
"""NLL of the gold solutions after each arm of a run, against another arm's, paired by problem.

    python3 bench/gold_nll.py RUN/students/STUDENT/r0/eval [--baseline base] [--seed 0]

Nats a token over all solutions; the interval is a 95 % percentile bootstrap over problems.
"""

import argparse
import json
import pathlib
import random

DRAWS = 2000


def read(path):
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return {row["problem_id"]: (row["nll_nats"], row["n_tokens"]) for row in rows}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("eval", type=pathlib.Path)
    parser.add_argument("--baseline", default="base")
    parser.add_argument("--seed", default="0", help="of the fine-tuning (0)")
    arguments = parser.parse_args()

    def of(arm):
        return arguments.eval / arm / ("0" if arm == "base" else arguments.seed) / "gold.jsonl"

    baseline = read(of(arguments.baseline))
    for folder in sorted(arguments.eval.iterdir()):
        path = of(folder.name)
        if not path.exists():
            continue
        arm = read(path)
        if arm.keys() != baseline.keys() or any(arm[id][1] != baseline[id][1] for id in arm):
            raise SystemExit(f"{path} and the baseline are not of the same solutions and tokens")
        rows = [(arm[id][0], baseline[id][0], arm[id][1]) for id in sorted(arm)]
        draw, differences = random.Random(0), []
        for _ in range(DRAWS):
            drawn = draw.choices(rows, k=len(rows))
            differences.append(sum(a - b for a, b, _ in drawn) / sum(n for _, _, n in drawn))
        differences.sort()
        tokens = sum(n for _, _, n in rows)
        mean, change = sum(a for a, _, _ in rows) / tokens, sum(a - b for a, b, _ in rows) / tokens
        low, high = differences[int(DRAWS * 0.025)], differences[int(DRAWS * 0.975) - 1]
        print(f"{folder.name:6} {mean:.3f}  {change:+.3f} [{low:+.3f}, {high:+.3f}] against {arguments.baseline}")


if __name__ == "__main__":
    main()
