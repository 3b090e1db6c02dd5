#!/usr/bin/env python3
"""The engine against its peers, on the same rows, in turns, in one run.

    IDIOLECT_DATA=DIR python bench/run.py --venv .venv             # installs the peers there first; about two hours
    python bench/run.py --only student,dense --rounds 9            # some of the work
    python bench/run.py --list                                     # what work there is

Builds the `peers` benchmark of the engine, makes models of random weights and rows of real text (`inputs.py`), and for each kind of
work: finds the peer's fastest setting in a trial, checks that both sides do the same work (losses, scores), lets both work in turns, and
writes the median of the rounds' ratios. Only meaningful on a machine that does nothing else.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import venv

import inputs

ROOT = pathlib.Path(__file__).resolve().parent.parent
REQUIREMENTS = ROOT / "bench" / "requirements.txt"
SETTINGS = {"lr": 1e-4, "betas": [0.9, 0.95], "epsilon": 1e-8, "weight_decay": 0.05, "clip": 1.0}
LORA = {"r": 16, "alpha": 32}
TOLERANCE = 1e-4
# Of losses and mean log-probabilities whose products are of bf16 factors, relative to those in f32.
BF16_TOLERANCE = 2e-2
TARGETS_MIB = {("1.5b", "score"): 4.5 * 1024, ("1.5b", "LoRA"): 4 * 1024}


class Side:
    """A process that answers JSON lines with JSON lines."""

    def __init__(self, command):
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.about = self.read()

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"error: {self.process.args[0]} ended early (exit code {self.process.wait()})")
        return json.loads(line)

    def send(self, job):
        self.process.stdin.write((job if isinstance(job, str) else json.dumps(job)) + "\n")
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

    def close(self):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()


class Bench:
    def __init__(self, python, folder, data, rounds, peers):
        self.python, self.folder, self.data, self.rounds, self.peers = python, folder, data, rounds, peers
        self.rows = folder / "rows.json"
        self.cores = os.cpu_count() or 1
        self.types = ("f32", "bf16") if "avx512_bf16" in cpu_flags() else ("f32",)

    def ours(self):
        return Side([self.peers, self.rows])

    def torch(self):
        return Side([self.python, ROOT / "bench" / "torch_side.py", self.rows])

    def llama(self):
        return Side([self.python, ROOT / "bench" / "llama_side.py", self.rows])

    def model(self, name, dtype="f32"):
        return str(inputs.make_model(self.python, self.folder / f"{name}-{dtype}", name, dtype, self.folder / "tokenizer.json"))

    def lora(self, model, dtype="f32"):
        folder = self.folder / f"{model}-{dtype}-adapter"
        return LORA | {"from": str(inputs.make_adapter(self.python, folder, self.model(model, dtype), LORA))}

    def threads(self):
        return sorted({1, min(2, self.cores)})


def log(*words):
    print(*words, file=sys.stderr, flush=True)


# ---- training: both sides take a step at a time, in turns

def paced(side, job):
    """Starts a training that does a step each time it is asked."""
    side.send(job)
    return lambda: side.ask("step")


def trial(bench, variants, warm=1, timed=1):
    """Seconds a step of every way of the peer's, each in a process of its own. Batch sizes ascend: where a size is much slower than a
    smaller one of the same way, the larger ones, which pad more, are not tried. Those near the fastest of their type are timed again,
    so that no moment in which the machine was busy decides between them."""
    def timing(variant):
        side = bench.torch()
        step = paced(side, variant)
        for _ in range(warm):
            step()
        wall = min(step()["wall_s"] for _ in range(timed))
        side.close()
        log("  trial", describe(variant), f"{wall:.3f} s a step")
        return wall

    times = []
    for variant in variants:
        same = [t for t, v in zip(times, variants) if {**v, "batch_size": 0} == {**variant, "batch_size": 0}]
        slower = len(same) > 1 and same[-1] > 1.3 * min(same)
        times.append(float("inf") if slower else timing(variant))
    for compute in bench.types:
        near = 1.2 * min(t for t, v in zip(times, variants) if v["compute"] == compute)
        close = [i for i, v in enumerate(variants) if v["compute"] == compute and times[i] <= near]
        for i in close if len(close) > 1 else []:
            times[i] = min(times[i], timing(variants[i]))
    return times


def train_work(bench, words, model, batches, variants, mine, goal, rounds=None, warm=1, turn=1):
    """`turn` steps of each side before it is the others' turn: where a step takes milliseconds, a side's idle threads still spin in
    the next one's first. Ours in f32 meets the peer's fastest f32, ours in bf16 the fastest that the peer has."""
    log(words)
    shared = {"job": "train", "model": bench.model(model), "batches": batches, "tokenizer": str(bench.folder / "tokenizer.json")}
    variants = [shared | v | {"compute": c} for c in bench.types for v in variants]
    times = trial(bench, variants, warm=warm, timed=1 if model != "student" else 5)
    best = {c: min((t, i) for i, (t, v) in enumerate(zip(times, variants)) if v["compute"] == c)[1] for c in bench.types}
    jobs = [(bench.ours, shared | mine | {"compute": c}) for c in bench.types] + [(bench.torch, variants[best[c]]) for c in bench.types]
    sides = [start() for start, _ in jobs]
    steps = [paced(side, job) for side, (_, job) in zip(sides, jobs)]
    found = [[step() for _ in range(warm)] for step in steps]
    for _ in range(rounds or bench.rounds):
        for step, own in zip(steps, found):
            own.extend(step() for _ in range(turn))
    n = len(bench.types)
    difference = check_losses(words, [[s["loss"] for s in own] for own in found], n)
    used = [bench.data["batches"][batches][(warm + i) % len(bench.data["batches"][batches])] for i in range(len(found[0]) - warm)]
    turns = range(0, len(used), turn)
    tokens = [sum(len(r["ids"]) for b in used[i : i + turn] for r in b) for i in turns]
    flops = [sum(train_flops(inputs.SHAPES[model], b) for b in used[i : i + turn]) / 1e9 for i in turns]
    walls = [[sum(s["wall_s"] for s in own[warm:][i : i + turn]) for i in turns] for own in found]
    results = rows_of(bench, words, goal, walls, tokens, [describe(v) for _, v in jobs[n:]], [side.peak_mib() for side in sides])
    for side in sides:
        side.close()
    for result, wall in zip(results, walls):
        result |= {
            "difference": difference[result["compute"]], "threads": mine["threads"],
            "gflops": None if "lora" in mine else statistics.median(f / w for f, w in zip(flops, wall)),
        }
    results[0]["trial"] = {describe(v): t for v, t in zip(variants, times) if t < float("inf")}
    return results


def check_losses(words, losses, n):
    """Largest difference of a step's loss: of the two sides in f32, and of either side in bf16 from itself in f32."""
    apart = lambda ours, theirs: max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(ours, theirs))
    found = {"f32": apart(losses[0], losses[n])}
    if n > 1:
        found["bf16"] = max(apart(losses[1], losses[0]), apart(losses[n + 1], losses[n]))
    if found["f32"] > TOLERANCE or found.get("bf16", 0.0) > BF16_TOLERANCE:
        sys.exit(f"error: {words}: losses differ by {found}: the sides do different work\n{losses}")
    return found


def rows_of(bench, words, goal, walls, tokens, peers, mib):
    """A row for each type of ours, given seconds of each round: of ours in each type, then of the peer's best in each."""
    n, rows = len(bench.types), []
    for i, compute in enumerate(bench.types):
        rival = min(range(i + 1), key=lambda j: statistics.median(walls[n + j]))
        own, their = walls[i], walls[n + rival]
        row = {
            "words": words, "compute": compute, "goal": goal if i + 1 == n else "–", "peer": peers[rival], "gflops": None, "difference": None,
            "rate": statistics.median(t / w for t, w in zip(tokens, own)), "their_rate": statistics.median(t / w for t, w in zip(tokens, their)),
            "ratios": [b / a for a, b in zip(own, their)], "mib": (mib[i], mib[n + rival]), "over_f32": [a / b for a, b in zip(walls[0], own)],
        }
        log(f"  ours in {compute} {row['rate']:,.0f} tokens/s, {row['peer']} {row['their_rate']:,.0f}; ratio {statistics.median(row['ratios']):.2f}")
        rows.append(row)
    return rows


def train_flops(shape, batch):
    """Matrix-product operations of one full training step: three times the forward, the head at targets only, attention's causal half."""
    c, f, layers = shape["hidden_size"], shape["intermediate_size"], shape["num_hidden_layers"]
    width = c // shape["num_attention_heads"]
    body = layers * (2 * c * c + 2 * c * shape["num_key_value_heads"] * width + 3 * c * f)
    tokens = sum(len(r["ids"]) - 1 for r in batch)
    targets = sum(len(r["ids"]) - r["completion_start"] for r in batch)
    attention = sum(2 * c * (len(r["ids"]) - 1) ** 2 for r in batch) * layers
    return 3 * (2 * body * tokens + 2 * c * shape["vocab_size"] * targets + attention)


def describe(job):
    parts = [job["implementation"], {"bf16": "bf16 autocast"}.get(job["compute"], job["compute"])]
    if job.get("lora"):
        parts.append("PEFT")
    if job.get("batch_size"):
        parts.append(f"{job['batch_size']} rows at a time")
    return ", ".join(parts + [f"{job['threads']} thread{'s' * (job['threads'] > 1)}"])


def full_real(bench):
    variants = [{"implementation": "trl", "batch_size": b, "threads": bench.cores} for b in (1, 2, 4, 8)]
    return train_work(bench, "full fine-tuning, SmolLM2-135M shape, real rows", "135m", "real", variants, {"threads": bench.cores}, "≥ 3.0")


def lora_real(bench):
    variants = [{"implementation": "trl", "batch_size": b, "threads": bench.cores, "lora": bench.lora("135m")} for b in (1, 2, 4, 8)]
    return train_work(bench, "LoRA r = 16, SmolLM2-135M shape, real rows", "135m", "real", variants, {"threads": bench.cores, "lora": bench.lora("135m")}, "≥ 3.0")


def dense(bench):
    variants = [{"implementation": i, "batch_size": b, "threads": bench.cores} for i, b in (("plain", 2), ("plain", 4), ("plain", 8), ("transformers", 4))]
    return train_work(bench, "full fine-tuning, SmolLM2-135M shape, 8 dense rows of 256, against a bare loop", "135m", "dense", variants, {"threads": bench.cores}, "≥ 1.3")


def qwen(bench):
    variants = [{"implementation": i, "batch_size": b, "threads": bench.cores} for i, b in (("plain", 2), ("plain", 8), ("trl", 4))]
    return train_work(bench, "full fine-tuning, Qwen2.5-0.5B shape with 4 layers, real rows", "0.5b-4", "real", variants, {"threads": bench.cores}, "–")


def student(bench):
    work = "full fine-tuning, default experiment's student, 32 rows of 26 to 36 tokens"
    rounds = max(15, 3 * bench.rounds)
    trl = [{"implementation": "trl", "batch_size": b, "threads": t} for b in (16, 32) for t in bench.threads()]
    bare = [{"implementation": i, "threads": t} for i in ("plain", "transformers") for t in bench.threads()]
    return [
        *train_work(bench, work + ", against TRL", "student", "student", trl, {"threads": bench.cores}, "–", rounds, warm=5, turn=8),
        *train_work(bench, work + ", against a bare loop", "student", "student", bare, {"threads": bench.cores}, "–", rounds, warm=5, turn=8),
    ]


# ---- scoring and sampling: whole passes, in turns

def passes(bench, words, goal, rounds, mine, start_theirs, best, count):
    """Whole passes in turns: ours in each type, the peer's best in each."""
    jobs = [(bench.ours, mine | {"compute": c}) for c in bench.types] + [(start_theirs, best[c]) for c in bench.types]
    sides = [start() for start, _ in jobs]
    walls = [[] for _ in jobs]
    for _ in range(rounds):
        for side, (_, job), own in zip(sides, jobs, walls):
            own.append(side.ask(job)["wall_s"])
    peers = [describe(job) for _, job in jobs[len(bench.types) :]]
    results = rows_of(bench, words, goal, walls, [count] * rounds, peers, [side.peak_mib() for side in sides])
    for side, result in zip(sides, results):
        result["threads"] = mine["threads"]
    for side in sides:
        side.close()
    return results


def best_of(bench, start, variants):
    """The fastest variant in f32, and the fastest in any other type; and all times."""
    times = []
    for variant in variants:
        side = start()
        times.append(side.ask(variant)["wall_s"])
        log("  trial", describe(variant), f"{times[-1]:.2f} s, {side.peak_mib():,.0f} MiB")
        side.close()
    fastest = lambda wanted: min((t, i) for i, (t, v) in enumerate(zip(times, variants)) if (v["compute"] == "f32") == wanted)[1]
    best = {c: variants[fastest(c == "f32")] for c in bench.types}
    return best, {describe(v): t for v, t in zip(variants, times)}


def peer_types(bench):
    """What PyTorch can compute a pass in."""
    return ("f32", "bf16", "pure bf16") if len(bench.types) > 1 else ("f32",)


def score(bench):
    words = "score 8 traces per problem (log-probability, rank, entropy), SmolLM2-135M shape"
    log(words)
    mine = {"job": "score", "model": bench.model("135m"), "threads": bench.cores, "batches": "problems"}
    few = mine | {"implementation": "transformers", "batches": "problems-few"}
    best, tried = best_of(bench, bench.torch, [few | {"batch_size": b, "compute": c} for c in peer_types(bench) for b in (2, 4, 8)])
    differences = check_scores(bench, words, mine, best)
    tokens = sum(len(r["ids"]) for g in bench.data["batches"]["problems"] for r in g)
    best = {c: job | {"batches": "problems"} for c, job in best.items()}
    results = passes(bench, words, "≥ 3", min(3, bench.rounds), mine, bench.torch, best, tokens)
    for result in results:
        result["difference"] = differences[result["compute"]]
    results[0]["trial"] = tried
    return results


def check_scores(bench, words, mine, best):
    """Largest difference of a token's score between the sides in f32; in bf16 the mean
    relative one of log-probabilities from f32's."""
    jobs = [(bench.ours, mine | {"compute": c}) for c in bench.types] + [(bench.torch, best[c]) for c in bench.types]
    found = []
    for start, job in jobs:
        side = start()
        found.append(side.ask(job | {"batches": "problems-few", "with_scores": True})["scores"])
        side.close()
    n = len(bench.types)
    differences = {"f32": max(abs(x[c] - y[c]) for x, y in zip(found[0], found[n], strict=True) for c in (0, 2))}
    # Under random weights thousands of logits lie within a rounding error of each other, so a rank of tens of thousands moves by a few.
    moved = max(abs(x[1] - y[1]) for x, y in zip(found[0], found[n])) / inputs.SHAPES["135m"]["vocab_size"]
    if n > 1:
        apart = lambda a, b: statistics.fmean(abs(x[0] - y[0]) / max(1.0, abs(y[0])) for x, y in zip(a, b, strict=True))
        differences["bf16"] = max(apart(found[1], found[0]), apart(found[n + 1], found[n]))
    if differences["f32"] > TOLERANCE or moved > 1e-3 or differences.get("bf16", 0.0) > BF16_TOLERANCE:
        sys.exit(f"error: {words}: scores differ by {differences}, ranks by {moved:.1e} of the vocabulary: the sides do different work")
    return differences


def linear(bench):
    """Tokens a second and memory at ten times the rows."""
    log("cost at ten times the rows")
    job = {"job": "score", "model": bench.model("135m"), "threads": bench.cores}
    found = []
    for name in ("problems-few", "problems-tenfold"):
        side = bench.ours()
        side.ask(job | {"batches": "problems-few"})
        tokens = sum(len(r["ids"]) for g in bench.data["batches"][name] for r in g)
        found.append((name, tokens, tokens / side.ask(job | {"batches": name})["wall_s"], side.peak_mib()))
        log("  ", found[-1])
        side.close()
    return {"linear": found}


def sampling(bench):
    """The words, the job and the new tokens of sampling work."""
    shared = {"job": "generate", "model": bench.model("135m"), "samples": 8, "new_tokens": 128, "threads": bench.cores}
    return "sample 8 per problem, 64 problems, 128 new tokens, SmolLM2-135M shape", shared, len(bench.data["prompts"]["all"]) * 8 * 128


def generate(bench):
    words, shared, count = sampling(bench)
    log(words, "against transformers")
    few = shared | {"prompts": "few", "implementation": "transformers"}
    best, tried = best_of(bench, bench.torch, [few | {"batch_size": b, "compute": c} for c in peer_types(bench) for b in (64, 128)])
    best = {c: job | {"prompts": "all"} for c, job in best.items()}
    results = passes(bench, words + ", against transformers", "≥ 4", 1, shared | {"prompts": "all"}, bench.torch, best, count)
    results[0]["trial"] = tried
    return results


def llama(bench):
    words, shared, count = sampling(bench)
    log(words, "against llama.cpp")
    try:
        files = {f: bench.folder / f"135m-{f}.gguf" for f in ("f32", "f16", "bf16")}
        for f, path in files.items():
            if not path.exists():
                code = f"import sys; sys.path.insert(0, {str(ROOT / 'bench')!r}); import llama_side; llama_side.write_gguf({shared['model']!r}, {str(path)!r}, {f!r})"
                subprocess.run([bench.python, "-c", code], check=True)
        check_gguf(bench, shared["model"], files["f32"])
    except (subprocess.CalledProcessError, OSError) as fault:
        log(f"  llama.cpp left out: {fault}")
        return []
    few = shared | {"prompts": "few", "implementation": "llama.cpp"}
    best, tried = best_of(bench, bench.llama, [few | {"compute": f, "gguf": str(p), "batch_size": b} for f, p in files.items() for b in (64, 128)])
    best = {c: job | {"prompts": "all"} for c, job in best.items()}
    results = passes(bench, words + ", against llama.cpp", "≥ 5", 1, shared | {"prompts": "all"}, bench.llama, best, count)
    results[0]["trial"] = tried
    return results


def check_gguf(bench, model, path):
    """llama.cpp's log-probabilities of one row are ours: it runs the same model."""
    sides = bench.ours(), bench.llama()
    ours = sides[0].ask({"job": "score", "model": model, "batches": "one", "with_scores": True, "threads": 1})["scores"]
    theirs = sides[1].ask({"job": "logits", "gguf": str(path), "batches": "one", "threads": bench.cores})["scores"]
    difference = max(abs(a[0] - b) for a, b in zip(ours, theirs))
    log(f"  the GGUF's log-probabilities differ by {difference:.1e}")
    if difference > 1e-2:
        sys.exit("error: the GGUF is another model")
    for side in sides:
        side.close()


def memory(bench):
    """Peak memory of scoring, and of steps of 1,024 tokens, on shapes stored in bf16: adapters and all weights, with and without
    gradient checkpointing."""
    found = []
    for shape in ("0.5b", "1.5b"):
        log(f"memory of the {shape} shape")
        model = bench.model(shape, "bf16")
        lora = {"lora": bench.lora(shape, "bf16")}
        jobs = {"score": None, "LoRA": lora, "LoRA, gradient checkpointing": lora | {"gradient_checkpointing": True}}
        # All weights of the larger one take 16 bytes each: 25 GiB.
        jobs |= {"full": {}, "full, gradient checkpointing": {"gradient_checkpointing": True}} if shape == "0.5b" else {}
        for name, train in jobs.items():
            side = bench.ours()
            job = {"model": model, "threads": bench.cores, "batches": "long"}
            if train is None:
                wall = side.ask({"job": "score"} | job)["wall_s"]
            else:
                wall = paced(side, {"job": "train"} | job | train)()["wall_s"]
            found.append((shape, name, side.peak_mib(), wall))
            side.close()
            log("  ", found[-1])
    return {"memory": found}


WORK = {
    "student": student, "full": full_real, "lora": lora_real, "dense": dense, "qwen": qwen, "score": score, "linear": linear, "generate": generate,
    "llama": llama, "memory": memory,
}
ON_REAL_TEXT = {"full", "lora", "qwen", "score", "linear", "generate", "llama", "memory"}


def peaks(bench):
    """GFLOP/s of 1024-cubed products, best seen; of bf16 also of its instruction on registers alone."""
    ours, theirs = bench.ours(), bench.torch()
    found = {
        "gemm crate, one core": ours.ask({"job": "peak", "threads": 1})["gflops"],
        f"gemm crate, one product per core, {bench.cores} side by side": ours.ask({"job": "peak", "threads": bench.cores})["gflops"],
        "PyTorch, one thread": theirs.ask({"job": "peak", "threads": 1})["gflops"],
        f"PyTorch, {bench.cores} threads": theirs.ask({"job": "peak", "threads": bench.cores})["gflops"],
    }
    if len(bench.types) > 1:
        bf16 = {"job": "peak", "compute": "bf16"}
        found |= {
            f"bf16: vdpbf16ps on registers, {bench.cores} side by side": ours.ask(bf16 | {"threads": bench.cores})["gflops"],
            f"bf16: PyTorch, {bench.cores} threads": theirs.ask(bf16 | {"threads": bench.cores})["gflops"],
        }
    ours.close(), theirs.close()
    return found


def cpu_flags():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
    return next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), [])


def cpu_name():
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    facts = dict(line.split(":", 1) for line in lines if ":" in line)
    facts = {k.strip(): v.strip() for k, v in facts.items()}
    flags = cpu_flags()
    vector = "AVX-512 with bf16" if "avx512_bf16" in flags else "AVX-512" if "avx512f" in flags else "AVX2" if "avx2" in flags else "no AVX2"
    return f"{facts.get('model name', platform.machine())}, {vector}"


def report(results, peak, versions, cores, rounds, command, skipped):
    one = peak["gemm crate, one core"]
    both = next(v for k, v in peak.items() if "gemm" in k and "side by side" in k)
    in_bf16 = next((v for k, v in peak.items() if "vdpbf16ps" in k), None)
    out = ["# The engine against its peers", "", f"`{command}`, {rounds} rounds in turns (training: a round is an optimiser step, of the student eight).", ""]
    out += [f"- Machine: {cpu_name()}, {cores} cores, {platform.system()}", f"- Versions: {versions}"]
    out += [f"- {name}: {shape['words']}" for name, shape in inputs.SHAPES.items()]
    out += [f"- AdamW {json.dumps(SETTINGS)}; rows a step {inputs.ROWS_PER_STEP}; LoRA {json.dumps(LORA)} on every linear layer of attention and MLP"]
    if skipped:
        out += [f"- **Left out**, for IDIOLECT_DATA is not set: {', '.join(skipped)}"]
    out += ["", "Tokens per second, median of the rounds (all tokens of the rows count, padding does not; of sampling, the new tokens). The ratio is ours",
            "over the peer's within a round: median, smallest and largest. Ours in f32 meets the peer's fastest way in f32, ours in bf16 (`--compute bf16`)",
            "the fastest of all its ways. Share of peak: matrix-product operations of the step over the peak, in f32 of `gemm` products side by side",
            "(one thread: of one product), in bf16 of the bare instruction on registers. Largest difference: of the sides' losses or scores in f32; in",
            "bf16 of either side from itself in f32 (of scores the mean). Over f32: ours in f32 over ours in bf16, seconds.", ""]
    out += ["| work | ours in | tokens/s | peer at its fastest | tokens/s | ratio | goal | over f32 | share of peak | peak MiB, ours / peer | largest difference |", "|---|---|---|---|---|---|---|---|---|---|---|"]
    for r in (r for r in results if "ratios" in r):
        limit = in_bf16 if r["compute"] == "bf16" else one if r["threads"] == 1 else both
        share = "–" if r["gflops"] is None else f"{r['gflops'] / limit:.0%}"
        over = f"{statistics.median(r['over_f32']):.2f}" if r["compute"] == "bf16" else "–"
        mib = " / ".join("–" if m is None else f"{m:,.0f}" for m in r["mib"])
        difference = "–" if r["difference"] is None else f"{r['difference']:.1e}"
        out.append(
            f"| {r['words']} | {r['compute']} | {r['rate']:,.0f} | {r['peer']} | {r['their_rate']:,.0f} "
            f"| **{statistics.median(r['ratios']):.2f}** ({min(r['ratios']):.2f} to {max(r['ratios']):.2f}) | {r['goal']} | {over} | {share} | {mib} | {difference} |"
        )
    for r in results:
        if "linear" in r:
            out += ["", "Scoring at ten times the rows:", "", "| rows | tokens | tokens/s | peak MiB |", "|---|---|---|---|"]
            out += [f"| {name} | {tokens:,} | {rate:,.0f} | {mib:,.0f} |" for name, tokens, rate, mib in r["linear"]]
        if "memory" in r:
            out += ["", "Peak memory on shapes stored in bf16, one row of 1,024 tokens, in f32:", "", "| shape | work | peak MiB | goal MiB | seconds |", "|---|---|---|---|---|"]
            goal = lambda *key: f"{TARGETS_MIB[key]:,.0f}" if key in TARGETS_MIB else "–"
            out += [f"| {shape} | {name} | {mib:,.0f} | {goal(shape, name)} | {wall:.1f} |" for shape, name, mib, wall in r["memory"]]
    out += ["", "The peers' ways in a trial before the rounds, seconds (a step; a pass over fewer rows):", ""]
    for r in (r for r in results if r.get("trial")):
        out.append(f"- {r['words']}: " + "; ".join(f"{name} {t:.3g}" for name, t in r["trial"].items()))
    out += ["", "Peaks, GFLOP/s, of products of 1024 x 1024 matrices (in f32 where no other type is named):", "", "| by | GFLOP/s |", "|---|---|"]
    out += [f"| {name} | {value:,.0f} |" for name, value in peak.items()]
    return "\n".join(out) + "\n"


def python_with_peers(directory):
    if directory is None:
        return sys.executable
    python = pathlib.Path(directory) / "bin" / "python"
    if not python.exists():
        venv.create(directory, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", "-r", REQUIREMENTS], check=True)
    # The rows, too, are made with a package of that environment.
    if pathlib.Path(sys.prefix).resolve() != pathlib.Path(directory).resolve():
        os.execv(python, [python, *sys.argv])
    return str(python)


def make_data(folder):
    data = inputs.data_folder()
    made = {"settings": SETTINGS, "batches": {"dense": inputs.dense_batches(49152, 8, 256, 4), "student": inputs.student_batches(10)}, "prompts": {}}
    if data:
        tokenizer = inputs.make_tokenizer(folder / "tokenizer.json", data)
        groups = inputs.problem_groups(tokenizer, data, 40)
        prompts = inputs.generation_prompts(tokenizer, data, 64)
        long = [max((r for b in inputs.real_batches(tokenizer, data, 12) for r in b), key=lambda r: len(r["ids"]))]
        long = [{"ids": (long[0]["ids"] * 16)[:1025], "completion_start": 1}]
        made["batches"] |= {
            "real": inputs.real_batches(tokenizer, data, 6), "problems": groups[:16], "problems-few": groups[:4], "problems-tenfold": groups, "long": [long],
            "one": [[groups[0][0]]],
        }
        made["prompts"] = {"all": prompts, "few": prompts[:8]}
    (folder / "rows.json").write_text(json.dumps(made))
    return made


def build_peers():
    """Path of the engine's side, built."""
    command = ["cargo", "bench", "-q", "-p", "idiolect-engine", "--bench", "peers", "--no-run", "--message-format=json"]
    lines = subprocess.run(command, check=True, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    built = (json.loads(line) for line in lines if line.startswith("{"))
    [path] = [item["executable"] for item in built if item["reason"] == "compiler-artifact" and item["target"]["kind"] == ["bench"]]
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", help="work, separated by commas; see --list")
    parser.add_argument("--list", action="store_true", help="names the work and ends")
    parser.add_argument("--venv", help="a virtual environment to use, made if it is not there")
    parser.add_argument("--folder", type=pathlib.Path, help="keeps models and rows here between runs")
    parser.add_argument("-o", "--out", type=pathlib.Path, default=ROOT / "bench" / "RESULTS.md")
    arguments = parser.parse_args()
    if arguments.list:
        return print("\n".join(WORK))
    chosen = arguments.only.split(",") if arguments.only else list(WORK)
    if unknown := [name for name in chosen if name not in WORK]:
        parser.error(f"no work {', '.join(unknown)}; there is {', '.join(WORK)}")
    skipped = [] if inputs.data_folder() else [name for name in chosen if name in ON_REAL_TEXT]
    python = python_with_peers(arguments.venv)
    peers = build_peers()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(python, folder, make_data(folder), arguments.rounds, peers)
        rust = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True, cwd=ROOT).stdout.split()[1]
        listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True).stdout
        wanted = ("torch", "transformers", "trl", "peft", "llama_cpp_python", "tokenizers")
        versions = ", ".join([f"Rust {rust}", f"Python {platform.python_version()}"] + [f"{p['name']} {p['version']}" for p in json.loads(listed) if p["name"].replace("-", "_") in wanted])
        command = "python bench/run.py" + "".join(f" {a}" for a in ([f"--only {arguments.only}"] if arguments.only else []) + ([f"--rounds {arguments.rounds}"] if arguments.rounds != 5 else []))
        peak, results = peaks(bench), []
        for name in chosen:
            if name not in skipped:
                found = WORK[name](bench)
                results += found if isinstance(found, list) else [found]
                peak = {name: max(value, after) for (name, value), after in zip(peak.items(), peaks(bench).values())}
            # After each, so that a later fault loses nothing.
            text = report(results, peak, versions, bench.cores, arguments.rounds, command, skipped)
            arguments.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
