#!/usr/bin/env python3
"""Decorated answers with a known verdict, judged by `idiolect verify --pairs`.

    python3 bench/decorated.py [--cases 24000] [--seed 1] [--task gsm8k|math|countdown|mbpp]
                               [--binary target/release/idiolect] [--write-fails FILE] [--write-cases FILE]

A row is a known value, up to three decorations and a position. Its truth is one of

    right   the answer states the gold's value: `correct` is expected, `wrong` is a false wrong
    wrong   the answer states a near miss under the same decorations: `correct` is a false right
    none    nothing is answered, or the answer is the gold only when rounded: `correct` is a false right,
            `wrong` is a false wrong

`ungraded` and `no_answer` are never a fault; they are counted, since a verifier that judges nothing would
have no fault. A row whose reading is open to a careful reader must not be here: the comment beside each
decoration states why it keeps the value.

Prints a table per task, and exits with 1 where there is a false right or where more than 0.5 % of the rows
that cannot be wrong are judged wrong. `--write-fails` writes the faults grouped by the part of the row that
fails most often, the shortest rows first. The rows are the same for the same seed, Python version aside.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from decorations.answers import number_rows, rounded_rows, unanswered_rows
from decorations.countdown import countdown_rows
from decorations.mbpp import mbpp_rows
from decorations.other_numbers import hard_rows

ROOT = Path(__file__).resolve().parent.parent
SHARES = {"math": 0.5, "gsm8k": 0.28, "countdown": 0.16, "mbpp": 0.06}


def rows_of(task, count, seed):
    if task == "countdown":
        return list(countdown_rows(count, seed))
    if task == "mbpp":
        return list(mbpp_rows(count, seed))
    hard, none = count // 6, count // 40
    rounded = none if task == "math" else 0
    return (
        list(number_rows(task, count - hard - none - rounded, seed))
        + list(hard_rows(task, hard, seed))
        + list(unanswered_rows(task, none, seed))
        + list(rounded_rows(task, rounded, seed))
    )


def judge(binary, task, rows):
    with tempfile.TemporaryDirectory() as folder:
        pairs, out = Path(folder) / "pairs.jsonl", Path(folder) / "results.jsonl"
        with pairs.open("w") as file:
            for i, row in enumerate(rows):
                file.write(json.dumps({"id": str(i), "gold": row.gold, "answer": row.answer}) + "\n")
        done = subprocess.run(
            [binary, "verify", "--task", task, "--pairs", str(pairs), "-o", str(out)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            sys.exit(f"{binary} verify --task {task}: exit code {done.returncode}\n{done.stderr}")
        results = [json.loads(line) for line in out.open()]
    if [r["id"] for r in results] != [str(i) for i in range(len(rows))]:
        sys.exit(f"{task}: {len(results)} results for {len(rows)} rows, or not in their order")
    return results


def fault_of(row, verdict):
    if verdict == "correct" and row.truth != "right":
        return "false right"
    if verdict == "wrong" and row.truth != "wrong":
        return "false wrong"
    return None


VERDICTS = ("correct", "wrong", "ungraded", "no_answer")


def table(task, rows, results):
    counts = collections.defaultdict(collections.Counter)
    for row, result in zip(rows, results):
        for name in row.decorations + (f"[{row.position}]", f"({row.kind})"):
            counts[name]["wrong rows" if row.truth == "wrong" else row.truth] += 1
            counts[name][result["verdict"]] += 1
            counts[name][fault_of(row, result["verdict"])] += 1
            counts[name]["right not judged"] += row.truth == "right" and result["verdict"] in (
                "ungraded",
                "no_answer",
            )
    print(f"\n{task}: decorations, [positions] and (kinds); a row counts for each of its parts")
    heads = ("right", "wrong rows", "none") + VERDICTS + ("right not judged", "false right", "false wrong")
    print(f"{'':32}" + "".join(f"{h.replace('right not judged', 'unjudged'):>12}" for h in heads))
    for name, c in sorted(counts.items(), key=lambda p: (p[0][0] in "[(", p[0])):
        print(f"{name[:31]:32}" + "".join(f"{c[h]:12}" for h in heads))


def faults_by_blame(task, rows, results, examples=8):
    """Faults grouped by the part of the row that fails most often, beside rows that were not judged."""
    parts = [row.decorations + (f"[{row.position}]", f"({row.kind})") for row in rows]
    found = collections.defaultdict(list)
    for wanted in ("false right", "false wrong", "right not judged"):
        hits = [
            wanted
            == (
                fault_of(row, r["verdict"])
                or (
                    "right not judged"
                    if row.truth == "right" and r["verdict"] in ("ungraded", "no_answer")
                    else None
                )
            )
            for row, r in zip(rows, results)
        ]
        seen, failed = collections.Counter(), collections.Counter()
        for names, hit in zip(parts, hits):
            seen.update(names)
            failed.update(names if hit else ())
        for row, result, names, hit in zip(rows, results, parts, hits):
            if hit:
                blame = max(names, key=lambda n: (failed[n] / seen[n], n))
                found[wanted, blame].append((len(row.decorations), len(row.answer), row, result))
    for (wanted, blame), items in sorted(found.items(), key=lambda p: (p[0][0], -len(p[1]))):
        items.sort(key=lambda i: i[:2])
        yield {
            "task": task,
            "fault": wanted,
            "decoration": blame,
            "count": len(items),
            "examples": [
                {
                    "truth": row.truth,
                    "gold": row.gold,
                    "answer": row.answer,
                    "expected": {"right": "correct", "wrong": "wrong", "none": "no_answer or ungraded"}[row.truth],
                    "got": result["verdict"],
                    "extracted": result.get("extracted"),
                    "reason": result.get("reason"),
                    "decorations": row.decorations,
                    "position": row.position,
                    "kind": row.kind,
                }
                for _, _, row, result in items[:examples]
            ],
        }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/release/idiolect"))
    parser.add_argument("--cases", type=int, default=24000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--task", action="append", choices=sorted(SHARES), help="repeatable; default: all four, sharing the cases"
    )
    parser.add_argument("--write-fails", metavar="FILE")
    parser.add_argument("--write-cases", metavar="FILE", help="the rows with their truth, to read")
    parser.add_argument("--quiet", action="store_true", help="no tables, the totals only")
    args = parser.parse_args()
    tasks = args.task or list(SHARES)
    whole = sum(SHARES[t] for t in tasks)
    total, groups, cases = collections.Counter(), [], []
    lines = []
    for task in tasks:
        rows = rows_of(task, round(args.cases * SHARES[task] / whole), args.seed)
        results = judge(args.binary, task, rows)
        mine = collections.Counter()
        for row, result in zip(rows, results):
            mine["rows"] += 1
            mine["right" if row.truth == "right" else "none" if row.truth == "none" else "wrong rows"] += 1
            mine[fault_of(row, result["verdict"])] += 1
            mine["unjudged"] += row.truth == "right" and result["verdict"] in ("ungraded", "no_answer")
        total.update(mine)
        lines.append((task, mine))
        groups += faults_by_blame(task, rows, results)
        cases += [
            dict(row._asdict(), got=r["verdict"], reason=r.get("reason"), extracted=r.get("extracted"))
            for row, r in zip(rows, results)
        ]
        if not args.quiet:
            table(task, rows, results)
    for path, items in ((args.write_fails, groups), (args.write_cases, cases)):
        if path:
            Path(path).write_text("".join(json.dumps(i, ensure_ascii=False) + "\n" for i in items))
    print()
    for task, c in lines + [("all", total)]:
        judged_wrong = c["right"] + c["none"]
        print(
            f"{task:10} {c['rows']:6} rows: {c['right']} right, {c['wrong rows']} wrong, {c['none']} without an answer; {c['false right']} false right, "
            f"{c['false wrong']} false wrong ({100 * c['false wrong'] / max(judged_wrong, 1):.2f} %), {c['unjudged']} right ones not judged ({100 * c['unjudged'] / max(c['right'], 1):.2f} %)"
        )
    failed = total["false right"] > 0 or total["false wrong"] > 0.005 * (total["right"] + total["none"])
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
