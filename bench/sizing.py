#!/usr/bin/env python3
"""Computes docs/sizing.md: hours and bytes of a large run, stage by stage, from unit costs measured here.

    cargo build --release
    python3 bench/sizing.py [--traces 20000] [--write docs/sizing.md]

What runs on a processor core (importing, verifying, joining, arms, putting shards together) is measured with this program on rows of
the size that is asked for, in one thread, and taken as linear in rows. What runs on a GPU follows the cost model of
`idiolect run --dry-run` (2 operations a parameter and token in reading and writing, 6 in training) at its rates. Standard library only.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROGRAM = ROOT / "target" / "release" / "idiolect"
STUDENT = ROOT / "fixtures" / "stories260K"

# The run that the page is about.
GPUS = 100
TRACES = 10_000_000
SAMPLES = 16
TEACHER, LEARNER = 27e9, 9e9
PROMPT, COMPLETION = 150, 300  # tokens
ARMS, SEEDS, EPOCHS, ROWS = 4, 2, 3, 100_000
TEST, ANSWERS = 5_000, 5  # greedy and four samples
ROWS_PER_SHARD = 100_000


def rows(traces, rng):
    """Problems with SAMPLES traces each, two thirds of them right, of about COMPLETION tokens."""
    problems, answers = [], []
    for index in range(traces // SAMPLES):
        a, b = rng.randrange(2, 90), rng.randrange(2, 90)
        question = f"Tom packs {a} boxes, and each box holds {b} pencils. A friend brings {index % 7} more boxes of the same size. How many pencils are there? " + "He counts them twice. " * 16
        problems.append({"question": question, "answer": f"{a} boxes.\n#### {(a + index % 7) * b}"})
        for sample in range(SAMPLES):
            steps = "".join(f"Step {n}: {a + n} boxes hold {a + n} * {b} = <<{a + n}*{b}={(a + n) * b}>>{(a + n) * b} pencils, so we go on.\n" for n in range(9))
            wrong = sample % 3 == 2
            answers.append({"problem_id": f"gsm8k/train/{index}", "model": "teacher", "response": f"{steps}Sample {sample}. #### {(a + index % 7) * b + wrong}"})
    return problems, answers


def write(path, found):
    path.write_text("".join(json.dumps(row) + "\n" for row in found))


def measure(program, traces, work):
    """Core seconds in one thread and bytes for a trace, by stage, of a run up to `arms`, and peak memory in bytes of jobs that hold all rows."""
    work.mkdir()
    problems, answers = rows(traces, random.Random(0))
    write(work / "train.jsonl", problems)
    write(work / "traces.jsonl", answers)
    # The small model of the repository, which cuts texts into many tokens, with room for them.
    shutil.copytree(STUDENT, work / STUDENT.name)
    config = json.loads((STUDENT / "config.json").read_text())
    (work / STUDENT.name / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 8192}))
    shards = 4
    recipe = f"""
name = "sizing"
[data]
task = "gsm8k"
train = "train.jsonl"
traces = "traces.jsonl"
finish = "stop"
dev_fraction = 0.0
test_fraction = 0.05
[models]
students = ["{STUDENT.name}"]
[arms]
names = ["H", "G", "W"]
[execute]
rows_per_shard = {max(1, traces // shards)}
"""
    (work / "recipe.toml").write_text(recipe)
    # A command for each of the jobs that hold all rows, so that its peak memory is its own.
    busy, peaks = 0.0, {}
    for until in ("verify", "traces", "score", "arms"):
        words = [program, "run", "recipe.toml", "--out", "run", "--until", until, "--threads", "1", "-q"]
        child = subprocess.Popen(list(map(str, words)), cwd=work, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        if status != 0:
            sys.exit("the measured run failed")
        busy += usage.ru_utime + usage.ru_stime
        peaks[until] = usage.ru_maxrss * 1024
    begun, seconds = {}, {}
    for line in (work / "run" / "events.jsonl").read_text().splitlines():
        event = json.loads(line)
        if event["event"] == "begin":
            begun[event["job"]] = event["at_unix_s"]
        elif event["event"] == "end":
            seconds[event["job"]] = event["at_unix_s"] - begun[event["job"]]
    # On a machine that does other work too, the share of a core that the run had.
    share = busy / sum(seconds.values())
    of = lambda match: share * sum(s for job, s in seconds.items() if match(job))
    shard = lambda job: "/shard-" in job
    given = lambda job: "verify/given" in job
    run = work / "run"
    bytes_of = lambda *paths: sum((run / path).stat().st_size for path in paths)
    student = run / "students" / STUDENT.name / "r0"
    tokens = sum(json.loads(line)["n_tokens"] for line in (student / "scores.jsonl").read_text().splitlines())
    return {
        "data_s": of(lambda job: job.endswith("/data")) / traces,
        "verify_s": of(lambda job: given(job) and shard(job)) / traces,
        "join_verdicts_s": of(lambda job: given(job) and not shard(job)) / traces,
        "traces_s": of(lambda job: job.endswith("/traces")) / traces,
        "join_scores_s": of(lambda job: job.endswith("/score")) / tokens * COMPLETION,
        "arms_s": of(lambda job: job.endswith("/arms")) / traces,
        "trace_bytes": bytes_of("data/r0/parts/given.jsonl") / traces,
        "verdict_bytes": bytes_of("data/r0/parts/given.verdicts.jsonl") / traces,
        "score_bytes": (student / "scores.jsonl").stat().st_size / traces,
        "token_bytes": (student / "tokens.parquet").stat().st_size / tokens,
        "peaks": peaks,
        "tokens": tokens / traces,
    }


def gpu_rates(program):
    """Operations a second of the dry run's GPU, in reading rows and in writing them."""
    done = subprocess.run([str(program), "run", "miniature", "--dry-run", "--json", "-q"], capture_output=True, text=True, check=True, cwd=tempfile.gettempdir())
    stages = {stage["stage"]: stage for stage in json.loads(done.stdout)["stages"]}
    rate = lambda name: stages[name]["tera_operations"] * 1e12 / (stages[name]["gpu_hours"] * 3600)
    return rate("score"), rate("generate")


def size(n):
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n >= scale:
            return f"{n / scale:.1f} {unit}"
    return f"{n:.0f} B"


def time(seconds):
    for unit, scale in (("h", 3600), ("min", 60)):
        if seconds >= scale:
            return f"{seconds / scale:.1f} {unit}"
    return f"{seconds:.0f} s"


def page(cost, reads, writes, traces):
    length = PROMPT + COMPLETION
    shards = -(-TRACES // ROWS_PER_SHARD)
    per_token = COMPLETION  # tokens of a trace whose scores are kept
    trainings = ARMS * SEEDS
    # Stage, GPU seconds, core seconds that can be split, core seconds of one process, bytes.
    gpu = lambda operations, rate: operations / rate
    answers = (trainings + 1) * TEST * ANSWERS
    table = [
        ("data", 0, 0, cost["data_s"] * TRACES / SAMPLES, 0),
        ("generate", gpu(2 * TEACHER * length * TRACES, writes), 0, cost["join_verdicts_s"] * TRACES, cost["trace_bytes"] * TRACES),
        ("verify", 0, cost["verify_s"] * TRACES, cost["join_verdicts_s"] * TRACES, cost["verdict_bytes"] * TRACES),
        ("traces", 0, 0, cost["traces_s"] * TRACES, (cost["trace_bytes"] + cost["verdict_bytes"]) * TRACES),
        ("score", gpu(2 * LEARNER * length * TRACES, reads), 0, cost["join_scores_s"] * TRACES, (cost["score_bytes"] + cost["token_bytes"] * per_token) * TRACES),
        ("arms", 0, 0, cost["arms_s"] * TRACES, cost["trace_bytes"] * ROWS * ARMS),
        ("train", gpu(6 * LEARNER * length * ROWS * EPOCHS * trainings, reads), 0, 0, 4 * LEARNER * trainings),
        ("eval", gpu(2 * LEARNER * length * answers, writes), 0, 0, cost["trace_bytes"] * answers),
    ]
    lines = [
        "# Sizing: 10 million traces, a 9B student, 100 GPUs",
        "",
        f"Computed by `python3 bench/sizing.py --traces {traces} --write docs/sizing.md`, which states at its top how: what runs on a core was measured on {traces:,} traces in one thread, what runs on a GPU is the cost model of `idiolect run --dry-run`, an estimate. Change the constants there for your own run.",
        "",
        f"The run: {TRACES // SAMPLES:,} problems × {SAMPLES} samples of a {TEACHER / 1e9:.0f}B teacher, {PROMPT} tokens of prompt and {COMPLETION} of completion; one {LEARNER / 1e9:.0f}B student scores all of them; {ARMS} arms of {ROWS:,} rows, {SEEDS} seeds, {EPOCHS} epochs; {TEST:,} test problems answered {ANSWERS} times by {trainings + 1} models.",
        "",
        f"| stage | GPU hours | on {GPUS} GPUs | core hours, split | one process | disk |",
        "|---|---|---|---|---|---|",
    ]
    for name, on_gpu, split, single, disk in table:
        at_once = min(GPUS, trainings) if name == "train" else GPUS
        cells = [
            f"{on_gpu / 3600:.0f}" if on_gpu else "–",
            time(on_gpu / at_once) if on_gpu else "–",
            f"{split / 3600:.1f}" if split else "–",
            time(single) if single else "–",
            size(disk) if disk else "–",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    total = sum(row[1] for row in table)
    wall = sum(row[1] / (min(GPUS, trainings) if row[0] == "train" else GPUS) + row[3] for row in table) + sum(row[2] for row in table) / GPUS
    lines += [
        f"| **all** | {total / 3600:.0f} | {time(wall)} with what one process does | | | {size(sum(row[4] for row in table))} |",
        "",
        f"A training of a {LEARNER / 1e9:.0f}B model takes more than one GPU (16 bytes a parameter are {size(16 * LEARNER)}): the hours are the same, `[execute.resources.train] gpus` states how many. {trainings} trainings side by side on one GPU's worth each is what the third column counts.",
        "",
        "## Unit costs",
        "",
        "| what | cost | source |",
        "|---|---|---|",
        f"| verify a trace (GSM8K) | {cost['verify_s'] * 1e6:.0f} µs | shards of `verify/given`, `events.jsonl` of the measured run |",
        f"| put shards of verdicts together, a trace | {cost['join_verdicts_s'] * 1e6:.0f} µs | the same |",
        f"| join traces and verdicts, a trace | {cost['traces_s'] * 1e6:.0f} µs | job `traces` |",
        f"| put shards of scores together with `tokens.parquet`, a trace of {COMPLETION} tokens | {cost['join_scores_s'] * 1e6:.0f} µs | job `score` after its shards |",
        f"| build arms, a trace | {cost['arms_s'] * 1e6:.0f} µs | job `arms` |",
        f"| a trace, a verdict, a row of scores | {cost['trace_bytes']:.0f}, {cost['verdict_bytes']:.0f}, {cost['score_bytes']:.0f} bytes | files of the measured run |",
        f"| a token in `tokens.parquet` | {cost['token_bytes']:.1f} bytes | the same ({cost['tokens']:.0f} tokens a trace there) |",
        f"| memory of `traces` or `arms`, the larger, a trace | {cost['memory_bytes'] / 1e3:.1f} kB | peaks of these jobs, and of those of a run a quarter as large |",
        f"| a GPU that reads, that writes | {reads:.0e}, {writes:.0e} operations a second | `idiolect run miniature --dry-run --json`: two fifths and a tenth of an H100's dense bf16 peak; measure your own servers |",
        "",
        "## Where shards should be",
        "",
        f"- `[execute] rows_per_shard = {ROWS_PER_SHARD:,}` gives {shards} shards of generate, verify and score: one for each GPU. A shard of generate takes {time(gpu(2 * TEACHER * length * ROWS_PER_SHARD, writes))}, one of score {time(gpu(2 * LEARNER * length * ROWS_PER_SHARD, reads))}. A quarter of that, {ROWS_PER_SHARD // 4:,}, evens out slow nodes and loses less to a short time limit; a worker that is lost loses the rows in flight only, whatever the size.",
        f"- Every shard of verify and score reads the whole file of traces ({size(cost['trace_bytes'] * TRACES)}) and keeps its own: {shards} shards read {size(cost['trace_bytes'] * TRACES * shards)} in all. Many small shards are worse than few large ones.",
        "- `tasks = 100`: one task a GPU; with more shards than that, a task does several.",
        "",
        "## What to watch",
        "",
        f"- **Memory of joining and of arms**: one process holds all rows, about {size(cost['memory_bytes'] * TRACES)} here. `[execute.resources.traces]` and `.arms` need such a node; or split the data into several runs.",
        f"- **Disk**: `tokens.parquet` is the largest file of a student ({size(cost['token_bytes'] * per_token * TRACES)}), and checkpoints in f32 are {size(4 * LEARNER)} each; shards stand beside the file that is made of them until it is whole, so allow twice the largest.",
        "- **The queue**: stages wait for each other, so the time in the queue comes once for each of about ten groups (`--dry-run` lists them). Partitions with a short wait are for the light ones.",
        "- **The teacher** is nearly all of the GPU hours: sample fewer, and `idiolect run --dry-run` states what the test set can show.",
        "",
    ]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, default=PROGRAM)
    parser.add_argument("--traces", type=int, default=20_000, help="traces of the measured run")
    parser.add_argument("--write", type=pathlib.Path, help="the page; standard output without it")
    given = parser.parse_args()
    if not given.program.exists():
        sys.exit(f"no program at {given.program}; build first: cargo build --release")
    work = pathlib.Path(tempfile.mkdtemp(prefix="idiolect-sizing-"))
    try:
        program, few = given.program.resolve(), given.traces // 4
        cost, of_few = measure(program, given.traces, work / "many"), measure(program, few, work / "few")
        grown = {job: cost["peaks"][job] - of_few["peaks"][job] for job in ("traces", "arms")}
        cost["memory_bytes"] = max(grown.values()) / (given.traces - few)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    text = page(cost, *gpu_rates(program), given.traces)
    if given.write:
        given.write.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
