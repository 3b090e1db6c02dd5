#!/usr/bin/env python3
"""The engine against a plain PyTorch loop, on the same rows, in turns.

    python bench/run.py                       # with a Python that has fixtures/parity/requirements.txt
    python bench/run.py --venv .venv          # makes that Python first
    python bench/run.py --rounds 9 -o bench/RESULTS.md

Builds the `bench` example of the engine, makes one student (the default experiment's shape, weights from a seed) and one
set of rows, checks that both sides do the same work (losses of the first steps and all scores agree within 1e-4), finds
PyTorch's fastest way ({hand-written, transformers} x {1, 2} threads), then lets both sides work in turns, round by round,
and writes the median of the rounds' ratios. Only meaningful on a machine that does nothing else.
"""

import argparse
import json
import os
import pathlib
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "fixtures" / "parity" / "requirements.txt"

SHAPE = {"vocab": 204, "hidden": 64, "layers": 3, "heads": 4, "intermediate": 176}
SETTINGS = {"lr": 4e-3, "betas": [0.9, 0.95], "epsilon": 1e-8, "weight_decay": 0.05, "clip": 1.0}
WORK = {
    "pretrain": {"job": "train", "batches": "pretrain", "steps": 30, "warmup": 3},
    "finetune": {"job": "train", "batches": "finetune", "steps": 30, "warmup": 3},
    "score": {"job": "score", "batches": "finetune", "passes": 3, "with_scores": False},
}
WORDS = {
    "pretrain": "training step, 8 rows of 128 tokens, every token a target",
    "finetune": "training step, 32 rows of 26 to 36 tokens, loss on the response",
    "score": "log-probability, rank and entropy of each response token, rows as above",
}
TOLERANCE = 1e-4
CHECKED_STEPS = 8


def make_rows(seed):
    """Token rows as both sides read them: `batches[name]` is a list of batches of {ids, first_target}."""
    rng = random.Random(seed)

    def row(length, first_target):
        return {"ids": [rng.randrange(SHAPE["vocab"]) for _ in range(length)], "first_target": first_target}

    return {
        "pretrain": [[row(128, 1) for _ in range(8)] for _ in range(10)],
        "finetune": [[row(rng.randint(26, 36), 7) for _ in range(32)] for _ in range(10)],
    }


MAKE_MODEL = """
import sys, json, torch
from transformers import LlamaConfig, LlamaForCausalLM
shape = json.loads(sys.argv[2])
torch.manual_seed(0)
LlamaForCausalLM(LlamaConfig(
    vocab_size=shape["vocab"], hidden_size=shape["hidden"], num_hidden_layers=shape["layers"],
    num_attention_heads=shape["heads"], num_key_value_heads=shape["heads"], intermediate_size=shape["intermediate"],
    max_position_embeddings=256, rms_norm_eps=1e-5, tie_word_embeddings=True, initializer_range=0.05,
    rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, bos_token_id=1, eos_token_id=2,
)).save_pretrained(sys.argv[1])
"""


class Side:
    """A process that answers JSON lines with JSON lines."""

    def __init__(self, command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: a side ended early (exit code {self.process.wait()})")
        return json.loads(line)

    def send(self, job):
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()

    def ask(self, job):
        self.send(job)
        return self.read()

    def peak_mib(self):
        """Largest memory that the process ever held; None where the system does not tell."""
        try:
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        except OSError:
            return None
        return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def flops(work, batches):
    """Matrix-product operations of one pass over `batches`: the head at targets only, attention's causal half, no last token.

    Training counts three times the forward; what is recomputed does not count.
    """
    c, f = SHAPE["hidden"], SHAPE["intermediate"]
    body = 2 * SHAPE["layers"] * (4 * c * c + 3 * c * f)
    rows = [row for batch in batches for row in batch]
    tokens = sum(len(r["ids"]) - 1 for r in rows)
    targets = sum(len(r["ids"]) - r["first_target"] for r in rows)
    attention = sum(2 * c * (len(r["ids"]) - 1) ** 2 for r in rows) * SHAPE["layers"]
    forward = body * tokens + 2 * c * SHAPE["vocab"] * targets + attention
    return forward * (3 if WORK[work]["job"] == "train" else 1)


def timed_batches(work, data):
    batches = data["batches"][WORK[work]["batches"]]
    if WORK[work]["job"] == "score":
        return batches * WORK[work]["passes"]
    return [batches[(WORK[work]["warmup"] + s) % len(batches)] for s in range(WORK[work]["steps"])]


def largest_difference(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def check_same_work(ours, torch_side, variants):
    """Same losses over the first steps, same scores; says by how much they differ."""
    found = {}
    for implementation in variants:
        for work in ("pretrain", "finetune"):
            job = WORK[work] | {"steps": CHECKED_STEPS, "warmup": 0, "threads": 1, "implementation": implementation}
            a, b = ours.ask(job)["losses"], torch_side.ask(job)["losses"]
            found[f"{work} losses, {implementation}"] = largest_difference(a, b)
        job = WORK["score"] | {"passes": 1, "with_scores": True, "threads": 1, "implementation": implementation}
        a, b = ours.ask(job)["scores"], torch_side.ask(job)["scores"]
        for column, name in ((0, "log-probabilities"), (2, "entropies")):
            found[f"{name}, {implementation}"] = largest_difference([r[column] for r in a], [r[column] for r in b])
        moved = sum(x[1] != y[1] for x, y in zip(a, b))
        if moved > len(a) // 1000:
            sys.exit(f"error: {moved} of {len(a)} ranks differ from {implementation}")
        found[f"share of ranks that differ (ties within rounding), {implementation}"] = moved / len(a)
    for name, difference in found.items():
        if not difference <= TOLERANCE and "share" not in name:
            sys.exit(f"error: {name} differ by {difference}, more than {TOLERANCE}: the two sides do different work")
    return found


def ask_all(sides, job):
    """The same job on several processes at once; the seconds until the last is done."""
    for side in sides:
        side.send(job)
    return max(side.read()["wall_s"] for side in sides)


def best_variant(side, work, variants):
    """The variant with the shortest best time of two tries, and every variant's time."""
    times = [min(side.ask(WORK[work] | v)["wall_s"] for _ in range(2)) for v in variants]
    return variants[times.index(min(times))], times


def measure(ours, theirs, data, rounds, cores):
    """Per kind of work: PyTorch's trial times, and per setting of ours the times of every round.

    Settings: one thread, all cores, and one single-threaded job per core side by side, which is how `idiolect run` works
    through arms and seeds.
    """
    threads = sorted({1, min(2, cores)})
    variants = [{"implementation": i, "threads": t} for i in ("plain", "transformers") for t in threads]
    results = {}
    for work in WORK:
        best, trial = best_variant(theirs[0], work, variants)
        single = min((t, i) for i, t in enumerate(trial) if variants[i]["threads"] == 1)[1]
        settings = [(f"{t} thread{'s' * (t > 1)}", 1, {"threads": t}, best) for t in threads]
        settings += [(f"{cores} jobs side by side", cores, {"threads": 1}, variants[single])]
        rows = [{"name": n, "jobs": j, "cores": max(j, m["threads"]), "best": v, "ours": [], "torch": []} for n, j, m, v in settings]
        for _ in range(rounds):
            for row, (_, jobs, mine, variant) in zip(rows, settings):
                row["torch"].append(ask_all(theirs[:jobs], WORK[work] | variant))
                row["ours"].append(ask_all(ours[:jobs], WORK[work] | mine))
        batches = timed_batches(work, data)
        results[work] = {
            "tokens": sum(len(r["ids"]) for b in batches for r in b),
            "flops": flops(work, batches),
            "trial": {f"{v['implementation']}, {v['threads']}": t for v, t in zip(variants, trial)},
            "rows": rows,
        }
        print(work, json.dumps(results[work]["trial"]), file=sys.stderr)
    return results


def peaks(ours, torch_side, cores):
    """GFLOP/s of 1024-cubed f32 products, best seen."""
    return {
        "gemm crate, one core": ours.ask({"job": "peak", "threads": 1})["gflops"],
        f"gemm crate, one product per core, {cores} side by side": ours.ask({"job": "peak", "threads": cores})["gflops"],
        "PyTorch, one thread": torch_side.ask({"job": "peak", "threads": 1})["gflops"],
        f"PyTorch, {cores} threads": torch_side.ask({"job": "peak", "threads": cores})["gflops"],
    }


def cpu_name():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {k.strip(): v.strip() for k, v in facts.items()}
    flags = facts.get("flags", "").split()
    vector = "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    return f"{facts.get('model name', platform.machine())}, {vector}"


def report(results, checks, peak, memory, versions, cores, rounds, command):
    one = max(v for k, v in peak.items() if "one core" in k or "one thread" in k)
    # Every thread beyond the first cannot do better than another core's own product beside it.
    peak_of = {1: one, cores: max(one, *(v for k, v in peak.items() if "one core" not in k and "one thread" not in k))}
    out = ["# The engine against a plain PyTorch loop", "", f"`{command}`, {rounds} rounds in turns.", ""]
    out += [f"- Machine: {cpu_name()}, {cores} cores, {platform.system()}", f"- Versions: {versions}"]
    shape = ", ".join(f"{k} {v}" for k, v in SHAPE.items())
    out += [f"- Model: Llama, {shape}, tied, f32. AdamW {json.dumps(SETTINGS)}", ""]
    out += ["Tokens per second, median of the rounds (all tokens of the rows count, padding does not). The ratio is ours over",
            "PyTorch's within a round: median, smallest and largest. Share of peak: matrix-product operations per second over",
            "the measured peak of as many cores.", ""]
    out += ["| work | ours | tokens/s | PyTorch at its fastest | ratio | our share of peak |", "|---|---|---|---|---|---|"]
    for work, r in results.items():
        for row in r["rows"]:
            tokens, best = r["tokens"] * row["jobs"], row["best"]
            rate, theirs = (tokens / statistics.median(row[side]) for side in ("ours", "torch"))
            ratios = [t / o for t, o in zip(row["torch"], row["ours"])]
            share = rate / r["tokens"] * r["flops"] / 1e9 / peak_of[row["cores"]]
            out.append(
                f"| {WORDS[work]} | {row['name']} | {rate:,.0f} "
                f"| {theirs:,.0f} ({best['implementation']}, {best['threads']} thread{'s' * (best['threads'] > 1)}) "
                f"| {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) | {share:.0%} |"
            )
    if None not in memory:
        out += ["", f"Largest memory of one process over all of this: ours {memory[0]:,.0f} MiB, PyTorch's {memory[1]:,.0f} MiB."]
    out += ["", "PyTorch's ways, tokens per second in a trial before the rounds:", ""]
    names = list(next(iter(results.values()))["trial"])
    out += ["| work | " + " | ".join(f"{n} thread{'s' * (not n.endswith(' 1'))}" for n in names) + " |", "|---" * (len(names) + 1) + "|"]
    out += [f"| {w} | " + " | ".join(f"{r['tokens'] / t:,.0f}" for t in r["trial"].values()) + " |" for w, r in results.items()]
    out += ["", "f32 peak, GFLOP/s, products of 1024 x 1024 matrices:", "", "| by | GFLOP/s |", "|---|---|"]
    out += [f"| {name} | {value:,.0f} |" for name, value in peak.items()]
    out += ["", f"Same work: largest differences over the first {CHECKED_STEPS} steps and all scores (limit {TOLERANCE}):", ""]
    out += ["| what | difference |", "|---|---|"] + [f"| {name} | {value:.1e} |" for name, value in checks.items()]
    return "\n".join(out) + "\n"


def python_with_torch(directory):
    if directory is None:
        return sys.executable
    python = pathlib.Path(directory) / "bin" / "python"
    if not python.exists():
        venv.create(directory, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", REQUIREMENTS], check=True)
    return str(python)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--venv", help="a virtual environment to use, made if it is not there")
    parser.add_argument("-o", "--out", type=pathlib.Path, default=ROOT / "bench" / "RESULTS.md")
    arguments = parser.parse_args()
    if arguments.rounds < 5:
        parser.error("fewer than 5 rounds say little")
    python = python_with_torch(arguments.venv)
    cores = os.cpu_count() or 1
    build = ["cargo", "build", "--release", "-q", "-p", "idiolect-engine", "--example", "bench"]
    subprocess.run(build, check=True, cwd=ROOT)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        subprocess.run([python, "-c", MAKE_MODEL, folder / "model", json.dumps(SHAPE)], check=True)
        data = {"batches": make_rows(0), "settings": SETTINGS}
        (folder / "rows.json").write_text(json.dumps(data))
        target = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        both = [folder / "model", folder / "rows.json"]
        ours = [Side([target / "release" / "examples" / "bench", *both]) for _ in range(cores)]
        theirs = [Side([python, ROOT / "bench" / "torch_side.py", *both]) for _ in range(cores)]
        checks = check_same_work(ours[0], theirs[0], ("plain", "transformers"))
        peak = peaks(ours[0], theirs[0], cores)
        results = measure(ours, theirs, data, arguments.rounds, cores)
        peak = {name: max(value, after) for (name, value), after in zip(peak.items(), peaks(ours[0], theirs[0], cores).values())}
        rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()[1]
        versions = f"Rust {rust}, Python {platform.python_version()}, " + ", ".join(f"{k} {v}" for k, v in theirs[0].about.items())
        command = "python bench/run.py" + (f" --rounds {arguments.rounds}" if arguments.rounds != 7 else "")
        memory = [side.peak_mib() for side in (ours[0], theirs[0])]
        text = report(results, checks, peak, memory, versions, cores, arguments.rounds, command)
    arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
