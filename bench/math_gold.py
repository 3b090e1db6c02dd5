#!/usr/bin/env python3
"""The gold answers of MATH against each other: ours, and Math-Verify's word on it.

    python3 bench/math_gold.py DATA_DIR [--pairs 1000000] [--others 20000]

DATA_DIR holds math/train.jsonl.gz and math/test.jsonl.gz. Pairs of different problems' answers are drawn
with a fixed seed and judged by our verifier on one thread. Math-Verify (in this Python) then judges
every pair that we call equal although its texts differ, and `--others` further ones. Each conflict is
printed with our reason. Needs `cargo build --release -p idiolect-core --example verify_pairs`.
"""
import argparse
import gzip
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def last_box(text):
    at = text.rfind("\\boxed")
    rest = text[at + 6:].lstrip(" ")
    if at < 0:
        raise ValueError(text)
    if not rest.startswith("{"):
        return rest.split("$")[0].split()[0].rstrip(".")
    depth = 0
    for i, c in enumerate(rest):
        depth += (c == "{") - (c == "}")
        if depth == 0:
            return rest[1:i]
    raise ValueError(text)


def ours(binary, pairs):
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file:
        for i, (gold, answer) in enumerate(pairs):
            file.write(json.dumps({"id": i, "gold": {"answer": gold}, "answer": answer}) + "\n")
        file.flush()
        done = subprocess.run([binary, "math", file.name], capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def respelled(answer, rng):
    """The same answer in another spelling."""
    tight = answer if re.search(r"\\text|\\mbox|\\ |\\[a-z]+ [a-z]", answer) else answer.replace(" ", "")
    forms = {answer.replace("\\frac", "\\dfrac"), tight, " " + answer + " ",
             "$" + answer + "$", answer + ".", answer.replace("\\left", "").replace("\\right", ""),
             answer.replace("(", "( ").replace(",", ", ") if not re.search(r"\{,\}|,[\\! ]*\d{3}", answer) else answer}
    if re.fullmatch(r"-?\d+", answer):
        forms.add(answer + ".0")
    elif re.fullmatch(r"-?\d*\.\d+", answer):
        forms.add(answer + "0")
    parts = [p.strip() for p in answer.split(",")]
    plain = all(p.lstrip("-").isdigit() for p in parts) and not any(len(p) == 3 for p in parts[1:])
    if len(parts) > 1 and plain:
        shuffled = parts[:]
        rng.shuffle(shuffled)
        forms.add(", ".join(shuffled))
    return sorted(forms)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    arguments.add_argument("data", type=Path)
    arguments.add_argument("--pairs", type=int, default=1_000_000)
    arguments.add_argument("--others", type=int, default=20_000)
    arguments = arguments.parse_args()
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    binary = str(target / "release/examples/verify_pairs")
    golds = []
    for split in ["train", "test"]:
        with gzip.open(arguments.data / "math" / f"{split}.jsonl.gz", "rt") as rows:
            golds += [last_box(json.loads(row)["solution"]) for row in rows]
    rng = random.Random(0)

    own = [(g, g) for g in golds]
    own += [(g, form) for g in golds for form in respelled(g, rng)]
    missed = [(pair, row) for pair, row in zip(own, ours(binary, own)) if row["verdict"] != "correct"]
    print(f"{len(golds)} gold answers; {len(own)} spellings of themselves, {len(missed)} not called equal")
    for pair, row in missed[:40]:
        print("  ", *pair, "|", row["verdict"], row["reason"])

    distinct = sorted(set(golds))
    pairs = []
    while len(pairs) < arguments.pairs:
        gold, answer = rng.choice(golds), rng.choice(distinct)
        if gold != answer:
            pairs.append((gold, answer))
    rows = ours(binary, pairs)
    verdicts = [row["verdict"] for row in rows]
    print(f"{len(pairs)} pairs of different texts:", {v: verdicts.count(v) for v in sorted(set(verdicts))})
    equal = sorted({pair for pair, v in zip(pairs, verdicts) if v == "correct"})
    print(f"{len(equal)} distinct pairs are called equal")
    for pair in sorted({pair for pair, v in zip(pairs, verdicts) if v == "ungraded"})[:40]:
        print("   ungraded:", *pair)

    from math_verify import parse, verify

    def theirs(gold, answer):
        try:
            return verify(parse(f"${gold}$"), parse(f"${answer}$"))
        except Exception as error:  # its own failures are no verdict
            return f"{type(error).__name__}"

    others = [p for p, v in zip(pairs, verdicts) if v != "correct"][: arguments.others]
    conflicts = 0
    for (gold, answer), ours_equal in [(p, True) for p in equal] + [(p, False) for p in others]:
        said = theirs(gold, answer)
        if said is not ours_equal:
            conflicts += 1
            print(f"   conflict: ours {'equal' if ours_equal else 'different'}, Math-Verify {said}:  {gold}   |   {answer}")
            sys.stdout.flush()
    print(f"Math-Verify judged {len(equal)} pairs that we call equal and {len(others)} others: {conflicts} conflicts")


if __name__ == "__main__":
    main()
