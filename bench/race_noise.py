#!/usr/bin/env python3
"""How far the readings of a race can be believed: the standard deviations that `idiolect race` takes for granted.

    cargo build --release
    target/release/idiolect run --out runs/default --until arms
    python3 bench/race_noise.py runs/default --dir /tmp/race          # --dir keeps the trainings, and continues

Every arm of the run is raced through all three rungs with three fine-tuning seeds, whatever the readings are, and asked the same
problems. From the answers:

- seed_sd: standard deviation of a training's accuracy over its seeds. The variance between seeds of an arm's mean score, less what
  single answers that flip would make of it on so few problems; the mean over arms
- drift_sd: standard deviation of an arm's own step from a rung to the next. The variance over arms of the change of accuracy less
  the arms' mean change, less what seeds and problems make of it

Standard library only.
"""
import argparse
import json
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target" / "release" / "idiolect"
SEEDS = (0, 1, 2)
RUNGS = (1, 2, 3)


def race(run, arms, seed, given, folder):
    """The scores of each arm on each problem, by rung: a race that nothing but the last rung ends."""
    command = [PROGRAM, "race", *[f"{arm}={run}/students/student/r0/arms/{arm}.jsonl" for arm in arms], "--model", f"{run}/models/r0/student",
               "--template", "raw", "--problems", f"{run}/data/r0/problems.jsonl", "--prompt", "mini", "--max-tokens", "80",
               "--epochs", str(given.epochs), "--lr", str(given.lr), "--batch-size", str(given.batch_size), "--ask", str(given.ask),
               "--rows", "100000", "--budget", "1", "--stop-at", "1", "--tolerance", "0", "--drop-below", "0", "--seed", str(seed),
               "-q", "-o", folder]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    scores = {}
    for rung in RUNGS:
        for arm in arms:
            rows = [json.loads(line) for line in open(f"{folder}/rung-{rung}/{arm}.eval.jsonl")]
            scores[rung, arm] = [float(row["verdict"] == "correct") for row in sorted(rows, key=lambda row: row["problem_id"])]
    return scores


def seed_variance(by_seed):
    """Variance over seeds of an arm's accuracy, without the flips of single answers."""
    n = len(by_seed[0])
    flips = sum(statistics.variance(scores) for scores in zip(*by_seed)) / n**2
    return statistics.variance([statistics.fmean(scores) for scores in by_seed]) - flips


def drift_variance(before, after, of_seeds):
    """Variance over arms of their own change from a rung to the next; arms × problems, each a mean over seeds."""
    arms, n = len(before), len(before[0])
    changes = [[b - a for a, b in zip(x, y)] for x, y in zip(before, after)]
    common = [statistics.fmean(column) for column in zip(*changes)]
    own = [[c - m for c, m in zip(row, common)] for row in changes]
    noise = statistics.fmean([statistics.variance(row) / n for row in own])
    observed = sum(statistics.fmean(row) ** 2 for row in own) / (arms - 1)
    return observed - noise * arms / (arms - 1) - 2 * of_seeds / len(SEEDS)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("run", type=pathlib.Path, help="a run with arms")
    arguments.add_argument("--epochs", type=int, default=6)
    arguments.add_argument("--lr", type=float, default=1e-3)
    arguments.add_argument("--batch-size", type=int, default=32)
    arguments.add_argument("--ask", type=int, default=600)
    arguments.add_argument("--dir", help="keep the trainings here, and continue from them")
    given = arguments.parse_args()
    arms = sorted(path.stem for path in (given.run / "students/student/r0/arms").glob("*.jsonl"))
    with tempfile.TemporaryDirectory() as temporary:
        place = pathlib.Path(given.dir or temporary)
        place.mkdir(parents=True, exist_ok=True)
        by_seed = [race(given.run, arms, seed, given, place / f"seed{seed}") for seed in SEEDS]
    problems = len(by_seed[0][1, arms[0]])
    print(f"{len(arms)} arms, {len(SEEDS)} seeds, {problems} problems\n{'arm':8}" + "".join(f"{f'rung {rung}':>9}" for rung in RUNGS))
    mean = {key: [statistics.fmean(column) for column in zip(*(scores[key] for scores in by_seed))] for key in by_seed[0]}
    for arm in arms:
        print(f"{arm:8}" + "".join(f"{statistics.fmean(mean[rung, arm]):9.3f}" for rung in RUNGS))
    of_seeds = [statistics.fmean(seed_variance([scores[rung, arm] for scores in by_seed]) for arm in arms) for rung in RUNGS]
    root = lambda variance: math.sqrt(max(0.0, variance))
    for rung, variance in zip(RUNGS, of_seeds):
        print(f"seed_sd, rung {rung}: {root(variance):.4f}")
    for rung in RUNGS[1:]:
        sides = ([mean[rung - 1, arm] for arm in arms], [mean[rung, arm] for arm in arms])
        print(f"drift_sd, rung {rung - 1} to {rung}: {root(drift_variance(*sides, statistics.fmean(of_seeds))):.4f}")


if __name__ == "__main__":
    main()
