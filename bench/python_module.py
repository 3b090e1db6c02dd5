#!/usr/bin/env python3
"""`idiolect.verify` beside Math-Verify on public graders' cases, both in one Python process, one thread each, in turns.

    python/wheel.sh && pip install target/wheels/idiolect-*.whl math-verify
    IDIOLECT_DATA=DIR python3 bench/python_module.py [--rounds 3]

Prints calls a second of both, the median ratio, and whether eight threads give the verdicts of one. Math-Verify's time-outs by
signal are off, which is its fastest mode.
"""
import argparse
import glob
import json
import logging
import os
import statistics
import sys
import time

import idiolect
from math_verify import parse, verify


def theirs(gold, answer):
    try:
        return verify(parse(gold, parsing_timeout=None), parse(answer, parsing_timeout=None), timeout_seconds=None)
    except Exception:  # as its users count it
        return False


def timed(judge, pairs):
    start = time.perf_counter()
    for gold, answer in pairs:
        judge(gold, answer)
    return time.perf_counter() - start


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments = arguments.parse_args()
    data = os.environ.get("IDIOLECT_DATA")
    if not data:
        sys.exit("SKIPPED: IDIOLECT_DATA does not name the folder of grader-cases")
    logging.disable(logging.CRITICAL)
    rows = [json.loads(line) for name in sorted(glob.glob(f"{data}/grader-cases/*.jsonl")) for line in open(name)]
    pairs = [(row["gold"], row["answer"]) for row in rows if row["gold_type"] == row["answer_type"] == "str"]
    # Math-Verify takes minutes for single cases without its time-outs: those are left out of both.
    pairs = [pair for pair in pairs if max(map(len, pair)) < 2000]
    ratios = []
    for number in range(arguments.rounds):
        both = pairs[number::arguments.rounds]
        own, peer = timed(idiolect.verify, both), timed(theirs, both)
        ratios.append(peer / own)
        print(f"{len(both)} cases: idiolect {len(both) / own:,.0f} a second, Math-Verify {len(both) / peer:,.0f}, ratio {peer / own:.0f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.0f}")
    one, eight = (idiolect.verify_many(pairs, threads=n) for n in (1, 8))
    print(f"8 threads: {'the same verdicts' if one == eight else 'OTHER VERDICTS'} on {len(pairs)} cases")
    sys.exit(one != eight)


if __name__ == "__main__":
    main()
