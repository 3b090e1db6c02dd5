#!/usr/bin/env python3
"""How good and how fast the math verifier is, beside Math-Verify on the same cases.

    python3 bench/verifier.py DATA_DIR [--write docs/verifier.md] [--rounds 3] [--solutions 1000]

DATA_DIR holds grader-cases/*.jsonl (public graders' own test cases and stored verdicts) and
traces/openai-gsm8k__*.jsonl.gz. Prints, per source, the share of expected verdicts of both; where at least
four fifths of two or more graders agree with the label, ours apart; agreement with Math-Verify of our
verdict and of our port of it (`--compat math-verify`); and speed, one thread each, in turns. With
--write the page that lists every remaining difference with its reason is written too.

Needs `cargo build --release -p idiolect-core --example verify_pairs`, and math-verify 0.9 in this Python.
"""
import argparse
import collections
import glob
import gzip
import json
import os
import re
import subprocess
import tempfile
import time
from pathlib import Path

from math_verify import parse, verify

ROOT = Path(__file__).resolve().parent.parent
BINARY = str(Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/examples/verify_pairs")


def ours(task, pairs):
    """Rows out, and the seconds of the judging alone (the faster of two passes)."""
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for i, (gold, answer) in enumerate(pairs):
            file.write(json.dumps({"id": i, "gold": gold, "answer": answer}) + "\n")
        file.flush()
        done = subprocess.run([BINARY, task, file.name, "2"], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()], min(map(float, done.stderr.split()))


def theirs(pairs):
    verdicts, start = [], time.perf_counter()
    for gold, answer in pairs:
        try:
            verdicts.append(bool(verify(parse(gold), parse(answer))))
        except Exception:  # it counts as not equal, as its users count it
            verdicts.append(False)
    return verdicts, time.perf_counter() - start


def cases(data):
    rows = []
    for name in sorted(glob.glob(str(data / "grader-cases/*.jsonl"))):
        for line in open(name):
            row = json.loads(line)
            texts = row["gold_type"] == row["answer_type"] == "str"
            if texts and not row.get("conflicts_with"):
                rows.append(row)
    return rows


def solutions(data, limit):
    gold = {}
    for split in ["train", "test"]:
        for index, line in enumerate(open(data / f"gsm8k/{split}.jsonl")):
            gold[f"gsm8k/{split}/{index}"] = json.loads(line)["answer"]
    rows = []
    for name in sorted(glob.glob(str(data / "traces/openai-gsm8k__*.jsonl.gz"))):
        for line in gzip.open(name, "rt"):
            row = json.loads(line)
            if row["problem_id"] in gold:
                rows.append((gold[row["problem_id"]], row["response"]))
    return rows[:: max(1, len(rows) // limit)][:limit]


def why(row, said):
    """Our reason for a difference from the label, by its kind."""
    gold, answer, reason = row["gold"], row["answer"], said["reason"]
    decimal = re.compile(r"\d?\.\d")
    if reason.startswith("equal only when rounded"):
        return "equal only when rounded to the digits given: ungraded, and correct with --accept-rounded"
    if said["verdict"] == "ungraded":
        return "not decided: " + reason
    if row["expected_equal"]:
        if re.search(r"gcd|lcm", answer) and row["source"] == "latex2sympy2_extended":
            return "upstream takes gcd and lcm of symbols as those of polynomials; here they are of numbers"
        if row["source"] == "reasoning-gym":
            return "upstream accepts a tolerance; numbers are exact here"
        if " is not " in reason and (decimal.search(answer) or decimal.search(gold)):
            return "a decimal that is not the exact value, nor the exact value rounded"
        if "is no relation" in reason or "named values" in reason:
            return "an equation of several variables is not its right side"
        if "lacks a member" in reason and not decimal.search(answer):
            return "the members differ: the label is at fault"
        if " is not " in reason:
            return "two different numbers: the label is at fault, or follows its own percentage rule"
        return reason
    if re.search(r"\de[-+]?\d", gold) or re.search(r"\de[-+]?\d", answer):
        return "scientific notation and a power of ten are one number: the label is at fault"
    if reason.startswith("the same members"):
        return "answers beside each other have no order here"
    if "the same set of numbers" in reason:
        return "an inequality and its interval are one set of numbers"
    if reason.startswith("equal at"):
        return "equal as identities: the label is at fault, or wants the name of the function too"
    if "exactly" in reason:
        return "equal exactly, in another notation or with a unit"
    return reason


def table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--write", type=Path)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--solutions", type=int, default=1000)
    arguments = arguments.parse_args()
    rows = cases(arguments.data)
    pairs = [(row["gold"], row["answer"]) for row in rows]
    said, _ = ours("math", pairs)

    # Speed: the same cases in turns, in as many parts as rounds.
    speed = collections.defaultdict(list)
    mv = []
    for part in range(arguments.rounds):
        size = -(-len(pairs) // arguments.rounds)
        share = pairs[part * size : (part + 1) * size]
        speed["cases ours"].append(ours("math", share)[1] / len(share))
        # Its documented use: LaTeX stands between dollars.
        wrap = lambda row: row["source"] == "latex2sympy2_extended"
        marked = [(f"${g}$", f"${a}$") if wrap(row) else (g, a)
                  for (g, a), row in zip(share, rows[part * size : (part + 1) * size])]
        verdicts, seconds = theirs(marked)
        mv += verdicts
        speed["cases theirs"].append(seconds / len(share))
    texts = solutions(arguments.data, arguments.solutions)
    for part in range(arguments.rounds):
        size = -(-len(texts) // arguments.rounds)
        share = texts[part * size : (part + 1) * size]
        speed["solutions ours"].append(ours("gsm8k", share)[1] / len(share))
        speed["solutions theirs"].append(theirs(share)[1] / len(share))

    sources = collections.defaultdict(lambda: [0, 0, 0])
    consensus, different = [0, 0], []
    agree, agree_compat, compat_differs = 0, 0, []
    for row, one, their in zip(rows, said, mv):
        equal = one["verdict"] == "correct"
        expected = row["expected_equal"]
        stored = row["peer_verdicts"].get("math_verify09")
        theirs_equal = stored if stored is not None else their
        count = sources[row["source"]]
        count[0] += 1
        count[1] += equal == expected
        count[2] += theirs_equal == expected
        peers = row["peer_verdicts"].values()
        with_label = sum(v == expected for v in peers)
        if len(peers) >= 2 and 5 * with_label >= 4 * len(peers):
            consensus[0] += 1
            consensus[1] += equal == expected
        agree += equal == theirs_equal
        compat = bool(one["compat"])
        agree_compat += compat == theirs_equal
        if compat != theirs_equal:
            compat_differs.append((row, compat, theirs_equal, one))
        if equal != expected:
            different.append((row, one))
    total = [sum(c[i] for c in sources.values()) for i in range(3)]
    percent = lambda a, b: f"{100 * a / b:.1f} %"
    lines = ["## Share of expected verdicts", ""]
    lines += table(
        ["source", "cases", "idiolect", "Math-Verify 0.9"],
        [(s, c[0], f"{c[1]} ({percent(c[1], c[0])})", f"{c[2]} ({percent(c[2], c[0])})") for s, c in sorted(sources.items())]
        + [("**all**", total[0], f"**{total[1]} ({percent(total[1], total[0])})**", f"{total[2]} ({percent(total[2], total[0])})")],
    )
    lines += ["", f"Cases on which at least four fifths of two or more public graders give the expected verdict: {consensus[1]} of {consensus[0]} ({percent(consensus[1], consensus[0])}).",
              f"Our verdict agrees with Math-Verify's on {percent(agree, len(rows))} of all cases, our port of it (`--compat math-verify`) on {percent(agree_compat, len(rows))}.", "",
              "## Speed, one thread, same cases, in turns", ""]
    best = {name: min(values) for name, values in speed.items()}
    lines += table(
        ["what", "idiolect", "Math-Verify 0.9", "ratio"],
        [(label, f"{1 / best[key + ' ours']:,.0f} /s", f"{1 / best[key + ' theirs']:,.0f} /s", f"{best[key + ' theirs'] / best[key + ' ours']:,.0f}×")
         for key, label in [("cases", "grader cases, task `math`"), ("solutions", "GSM8K model solutions, task `gsm8k`")]],
    )
    print("\n".join(lines))
    kinds = collections.defaultdict(list)
    for row, one in different:
        kinds[why(row, one)].append((row, one))
    page = ["", "## Every remaining difference from a label, by our reason", ""]
    for reason, found in sorted(kinds.items(), key=lambda item: -len(item[1])):
        page += [f"**{reason}** ({len(found)})", ""]
        for row, one in found:
            expected = "equal" if row["expected_equal"] else "different"
            if row["asserted"]:
                clip = lambda t: (t if len(t) <= 90 else t[:40] + " … " + t[-40:]).replace("\n", " ").replace("`", "'").replace("|", "¦")
                page.append(f"- {row['source']}: `{clip(row['gold'])}` and `{clip(row['answer'])}`, label {expected}, ours {one['verdict']}")
            else:
                page.append(f"- {row['source']} {row['id']}, label {expected}, ours {one['verdict']}")
        page.append("")
    page += ["## Where our port of Math-Verify differs from it", ""]
    groups = collections.Counter((row["source"], "equal" if compat else "different") for row, compat, _, _ in compat_differs)
    page += table(["source", "the port says", "cases"], [(s, v, n) for (s, v), n in sorted(groups.items())])
    page += ["", "Kinds: it does not evaluate what cannot be proved by its algebra system in time (complex quotients, some identities), rejects units that ran into the number, reads letters of choice only under its own configuration, and reads thinking text."]
    if arguments.write:
        text = arguments.write.read_text() if arguments.write.exists() else ""
        head = text.split("<!-- below: bench/verifier.py -->")[0].rstrip() or "# Math verification"
        body = "\n".join(lines + page).rstrip()
        arguments.write.write_text(f"{head}\n\n<!-- below: bench/verifier.py -->\n\n{body}\n")
    else:
        print("\n".join(page))


if __name__ == "__main__":
    main()
