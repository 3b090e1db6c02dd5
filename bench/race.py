#!/usr/bin/env python3
"""How well a race finds what finished runs found: regret, rank correlation, cost and P(best).

    cargo build --release
    for seed in 5 6 7 8; do target/release/idiolect run --set seed=$seed --out runs/s$seed; done
    python3 bench/race.py runs/s5 runs/s6 runs/s7 runs/s8 --dir /tmp/races    # --dir keeps the races, and continues

Every arm of each run is raced with the run's own training settings, the race's defaults for all else, and no prior. What the run
found (mean greedy accuracy over its seeds, on test problems that no race asks) is taken as the truth; it has an error of its own.
Beside the race: a pilot that trains every arm for a sixth of the passes and takes the best reading, which is the race's first rung.
Standard library only.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target" / "release" / "idiolect"


def raced(run, arms, folder, given):
    """What `idiolect race` says of the arms of a run."""
    command = [PROGRAM, "race", *[f"{arm}={run}/students/student/r0/arms/{arm}.jsonl" for arm in arms], "--model", f"{run}/models/r0/student",
               "--template", "raw", "--problems", f"{run}/data/r0/problems.jsonl", "--prompt", "mini", "--max-tokens", "48",
               "--epochs", str(given.epochs), "--lr", str(given.lr), "--batch-size", str(given.batch_size), "--ask", str(given.ask),
               "--budget", str(given.budget), "-q", "--json", "-o", folder]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def ranks(values):
    """From the smallest, ties shared."""
    return [sum(other < value for other in values) + (sum(other == value for other in values) + 1) / 2 for value in values]


def spearman(xs, ys):
    return statistics.correlation(ranks(xs), ranks(ys))


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("runs", type=pathlib.Path, nargs="+", help="finished runs")
    arguments.add_argument("--epochs", type=int, default=10)
    arguments.add_argument("--lr", type=float, default=1e-3)
    arguments.add_argument("--batch-size", type=int, default=32)
    arguments.add_argument("--ask", type=int, default=600)
    arguments.add_argument("--budget", type=float, default=0.2)
    arguments.add_argument("--dir", help="keep the races here, and continue from them")
    given = arguments.parse_args()
    lines = []
    with tempfile.TemporaryDirectory() as temporary:
        place = pathlib.Path(given.dir or temporary)
        place.mkdir(parents=True, exist_ok=True)
        for run in given.runs:
            comparison = json.loads((run / "comparison.json").read_text())
            truth = {arm["arm"]: arm["greedy"]["mean"] for arm in comparison["arms"] if arm["arm"] != "base"}
            found = raced(run, sorted(truth), place / run.name, given)
            arms = {arm["arm"]: arm for arm in found["arms"]}
            names = sorted(truth)
            best = max(truth.values())
            pilot = {name: arms[name]["rungs"][0]["accuracy"] for name in names}
            pilot_pick = max(names, key=pilot.get)
            of_first = sum(arms[name]["rungs"][0]["tokens"] for name in names) / found["full_tokens"]
            line = {
                "run": run.name, "pick": found["pick"], "p_best": found["p_best"], "was_best": truth[found["pick"]] == best,
                "regret": best - truth[found["pick"]], "rho": spearman([-arms[n]["behind"] for n in names], [truth[n] for n in names]),
                "cost": found["spent_fraction"], "pilot": pilot_pick, "pilot_regret": best - truth[pilot_pick],
                "pilot_rho": spearman([pilot[n] for n in names], [truth[n] for n in names]), "pilot_cost": of_first,
            }
            lines.append(line)
            print(json.dumps({key: round(value, 3) if isinstance(value, float) else value for key, value in line.items()}), flush=True)
    mean = lambda key: statistics.fmean(line[key] for line in lines)
    print(f"race: mean regret {100 * mean('regret'):.2f} points, rho {mean('rho'):.2f}, cost {100 * mean('cost'):.1f} %, mean P(best) of the pick "
          f"{mean('p_best'):.2f}, best in {sum(line['was_best'] for line in lines)} of {len(lines)}")
    print(f"pilot of a sixth: mean regret {100 * mean('pilot_regret'):.2f} points, rho {mean('pilot_rho'):.2f}, cost {100 * mean('pilot_cost'):.1f} %")


if __name__ == "__main__":
    main()
