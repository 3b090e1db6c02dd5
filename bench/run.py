#!/usr/bin/env python3
"""The engine against its peers, on the same rows, in turns, in one run.

    IDIOLECT_DATA=DIR python bench/run.py --venv .venv             # installs the peers there first; about half an hour
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
TARGETS_MIB = {"score": 4.5 * 1024, "lora": 10 * 1024}


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
    smaller one of the same way, the larger ones, which pad more, are not tried."""
    times = []
    for variant in variants:
        same = [t for t, v in zip(times, variants) if {**v, "batch_size": 0} == {**variant, "batch_size": 0}]
        if len(same) > 1 and same[-1] > 1.3 * min(same):
            times.append(float("inf"))
            continue
        side = bench.torch()
        step = paced(side, variant)
        for _ in range(warm):
            step()
        times.append(min(step()["wall_s"] for _ in range(timed)))
        side.close()
        log("  trial", {k: variant[k] for k in ("implementation", "threads", "batch_size") if k in variant}, f"{times[-1]:.3f} s a step")
    return times


def train_work(bench, words, model, batches, variants, mine, goal, rounds=None, warm=1, turn=1):
    """`turn` steps of each side before it is the other's turn: where a step takes milliseconds, a side's idle threads still spin in
    the other's first one."""
    log(words)
    shared = {"job": "train", "model": bench.model(model), "batches": batches, "tokenizer": str(bench.folder / "tokenizer.json")}
    variants = [shared | v for v in variants]
    times = trial(bench, variants, warm=warm, timed=1 if model != "student" else 5)
    best = variants[times.index(min(times))]
    ours, theirs = bench.ours(), bench.torch()
    steps = paced(ours, shared | mine), paced(theirs, best)
    found = [[step()] for step in steps]
    for _ in range(warm - 1):
        for step, own in zip(steps, found):
            own.append(step())
    skipped = len(found[0])
    for _ in range(rounds or bench.rounds):
        for step, own in zip(steps, found):
            own.extend(step() for _ in range(turn))
    losses = [[s["loss"] for s in own] for own in found]
    difference = max(abs(a - b) / max(1.0, abs(b)) for a, b in zip(*losses))
    if not difference <= TOLERANCE:
        sys.exit(f"error: {words}: losses differ by {difference:.2e}, more than {TOLERANCE}: the two sides do different work\n{losses}")
    used = [bench.data["batches"][batches][(skipped + i) % len(bench.data["batches"][batches])] for i in range(len(found[0]) - skipped)]
    turns = range(0, len(used), turn)
    tokens = [sum(len(r["ids"]) for b in used[i : i + turn] for r in b) for i in turns]
    walls = [[sum(s["wall_s"] for s in own[skipped:][i : i + turn]) for i in turns] for own in found]
    result = {
        "words": words, "goal": goal, "peer": describe(best), "difference": difference,
        "rate": statistics.median(t / w for t, w in zip(tokens, walls[0])), "their_rate": statistics.median(t / w for t, w in zip(tokens, walls[1])),
        "ratios": [b / a for a, b in zip(*walls)], "mib": (ours.peak_mib(), theirs.peak_mib()), "threads": mine["threads"],
        "gflops": statistics.median(
            sum(train_flops(inputs.SHAPES[model], b) for b in used[i : i + turn]) / w / 1e9 for i, w in zip(turns, walls[0])
        ) if "lora" not in mine else None,
        "trial": {describe(v): t for v, t in zip(variants, times) if t < float("inf")},
    }
    ours.close(), theirs.close()
    log(f"  ours {result['rate']:,.0f} tokens/s, {result['peer']} {result['their_rate']:,.0f}; ratio {statistics.median(result['ratios']):.2f}")
    return result


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
    parts = [job["implementation"]]
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
        train_work(bench, work + ", against TRL", "student", "student", trl, {"threads": bench.cores}, "≥ 6", rounds, warm=5, turn=8),
        train_work(bench, work + ", against a bare loop", "student", "student", bare, {"threads": bench.cores}, "≥ 2.0", rounds, warm=5, turn=8),
    ]


# ---- scoring and sampling: whole passes, in turns

def passes(words, goal, rounds, mine, best, ours, theirs, count):
    found = [], []
    for _ in range(rounds):
        found[1].append(theirs.ask(best))
        found[0].append(ours.ask(mine))
    walls = [[p["wall_s"] for p in own] for own in found]
    result = {
        "words": words, "goal": goal, "peer": describe(best), "difference": None, "threads": mine["threads"], "gflops": None,
        "rate": count / statistics.median(walls[0]), "their_rate": count / statistics.median(walls[1]),
        "ratios": [b / a for a, b in zip(*walls)], "mib": (ours.peak_mib(), theirs.peak_mib()),
    }
    log(f"  ours {result['rate']:,.0f} tokens/s, {result['peer']} {result['their_rate']:,.0f}; ratio {statistics.median(result['ratios']):.2f}")
    return result


def best_of(bench, start, variants):
    times, memory = [], []
    for variant in variants:
        side = start()
        times.append(side.ask(variant)["wall_s"])
        memory.append(side.peak_mib())
        side.close()
        log("  trial", describe(variant), f"{times[-1]:.2f} s, {memory[-1]:,.0f} MiB")
    return variants[times.index(min(times))], {describe(v): t for v, t in zip(variants, times)}


def score(bench):
    words = "score 8 traces per problem (log-probability, rank, entropy), SmolLM2-135M shape"
    log(words)
    shared = {"job": "score", "model": bench.model("135m"), "threads": bench.cores, "implementation": "transformers"}
    variants = [shared | {"batches": "problems-few", "batch_size": b} for b in (2, 4, 8, 16)]
    best, tried = best_of(bench, bench.torch, variants)
    best = best | {"batches": "problems"}
    mine = {k: v for k, v in shared.items() if k != "implementation"} | {"batches": "problems"}
    ours, theirs = bench.ours(), bench.torch()
    a, b = (s.ask(j | {"batches": "problems-few", "with_scores": True})["scores"] for s, j in ((ours, mine), (theirs, best)))
    differences = [max(abs(x[c] - y[c]) for x, y in zip(a, b, strict=True)) for c in (0, 2)]
    # Under random weights thousands of logits lie within a rounding error of each other, so a rank of tens of thousands moves by a few.
    moved = max(abs(x[1] - y[1]) for x, y in zip(a, b)) / inputs.SHAPES["135m"]["vocab_size"]
    if max(differences) > TOLERANCE or moved > 1e-3:
        sys.exit(f"error: scores differ by {differences}, ranks by {moved:.1e} of the vocabulary: the two sides do different work")
    tokens = sum(len(r["ids"]) for g in bench.data["batches"]["problems"] for r in g)
    result = passes(words, "≥ 3", min(3, bench.rounds), mine, best, ours, theirs, tokens)
    ours.close(), theirs.close()
    return result | {"difference": max(differences), "trial": tried}


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
    variants = [shared | {"prompts": "few", "implementation": "transformers", "batch_size": b} for b in (64, 128)]
    best, tried = best_of(bench, bench.torch, variants)
    ours, theirs = bench.ours(), bench.torch()
    result = passes(words + ", against transformers", "≥ 4", 1, shared | {"prompts": "all"}, best | {"prompts": "all"}, ours, theirs, count)
    ours.close(), theirs.close()
    return result | {"trial": tried}


def llama(bench):
    words, shared, count = sampling(bench)
    log(words, "against llama.cpp")
    try:
        files = {f: bench.folder / f"135m-{f}.gguf" for f in ("f32", "f16")}
        for f, path in files.items():
            if not path.exists():
                code = f"import sys; sys.path.insert(0, {str(ROOT / 'bench')!r}); import llama_side; llama_side.write_gguf({shared['model']!r}, {str(path)!r}, {f == 'f16'})"
                subprocess.run([bench.python, "-c", code], check=True)
        check_gguf(bench, shared["model"], files["f32"])
    except (subprocess.CalledProcessError, OSError) as fault:
        log(f"  llama.cpp left out: {fault}")
        return []
    variants = [shared | {"prompts": "few", "implementation": f"llama.cpp, {f}", "gguf": str(p), "batch_size": b} for f, p in files.items() for b in (64, 128)]
    best, tried = best_of(bench, bench.llama, variants)
    ours, theirs = bench.ours(), bench.llama()
    result = passes(words + ", against llama.cpp", "≥ 1.3", 1, shared | {"prompts": "all"}, best | {"prompts": "all"}, ours, theirs, count)
    ours.close(), theirs.close()
    return result | {"trial": tried}


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
    """Peak memory of scoring, and of a LoRA step of 1,024 tokens, on a 1.5B shape stored in bf16."""
    log("memory of a 1.5B shape")
    model, found = bench.model("1.5b", "bf16"), {}
    for name, job in {"score": {"job": "score", "batches": "long"}, "lora": {"job": "train", "batches": "long", "lora": bench.lora("1.5b", "bf16")}}.items():
        side = bench.ours()
        job = job | {"model": model, "threads": bench.cores}
        if name == "lora":
            wall = paced(side, job)()["wall_s"]
        else:
            wall = side.ask(job)["wall_s"]
        found[name] = (side.peak_mib(), wall)
        side.close()
        log("  ", name, found[name])
    return {"memory": found}


WORK = {
    "student": student, "full": full_real, "lora": lora_real, "dense": dense, "qwen": qwen, "score": score, "linear": linear, "generate": generate,
    "llama": llama, "memory": memory,
}
ON_REAL_TEXT = {"full", "lora", "qwen", "score", "linear", "generate", "llama", "memory"}


def peaks(bench):
    """GFLOP/s of 1024-cubed f32 products, best seen."""
    ours, theirs = bench.ours(), bench.torch()
    found = {
        "gemm crate, one core": ours.ask({"job": "peak", "threads": 1})["gflops"],
        f"gemm crate, one product per core, {bench.cores} side by side": ours.ask({"job": "peak", "threads": bench.cores})["gflops"],
        "PyTorch, one thread": theirs.ask({"job": "peak", "threads": 1})["gflops"],
        f"PyTorch, {bench.cores} threads": theirs.ask({"job": "peak", "threads": bench.cores})["gflops"],
    }
    ours.close(), theirs.close()
    return found


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


def report(results, peak, versions, cores, rounds, command, skipped):
    one = peak["gemm crate, one core"]
    both = next(v for k, v in peak.items() if "side by side" in k)
    out = ["# The engine against its peers", "", f"`{command}`, {rounds} rounds in turns (training: a round is an optimiser step, of the student eight).", ""]
    out += [f"- Machine: {cpu_name()}, {cores} cores, {platform.system()}", f"- Versions: {versions}"]
    out += [f"- {name}: {shape['words']}" for name, shape in inputs.SHAPES.items()]
    out += [f"- f32, AdamW {json.dumps(SETTINGS)}; rows a step {inputs.ROWS_PER_STEP}; LoRA {json.dumps(LORA)} on every linear layer of attention and MLP"]
    if skipped:
        out += [f"- **Left out**, for IDIOLECT_DATA is not set: {', '.join(skipped)}"]
    out += ["", "Tokens per second, median of the rounds (all tokens of the rows count, padding does not; of sampling, the new tokens). The ratio is ours",
            "over the peer's within a round: median, smallest and largest. Share of peak: matrix-product operations of the step over the peak of",
            "`gemm` products side by side (one thread: of one product).", ""]
    out += ["| work | ours, tokens/s | peer at its fastest | tokens/s | ratio | goal | share of peak | peak MiB, ours / peer | largest difference |", "|---|---|---|---|---|---|---|---|---|"]
    for r in (r for r in results if "ratios" in r):
        share = "–" if r["gflops"] is None else f"{r['gflops'] / (one if r['threads'] == 1 else both):.0%}"
        mib = " / ".join("–" if m is None else f"{m:,.0f}" for m in r["mib"])
        difference = "–" if r["difference"] is None else f"{r['difference']:.1e}"
        out.append(
            f"| {r['words']} | {r['rate']:,.0f} | {r['peer']} | {r['their_rate']:,.0f} "
            f"| **{statistics.median(r['ratios']):.2f}** ({min(r['ratios']):.2f} to {max(r['ratios']):.2f}) | {r['goal']} | {share} | {mib} | {difference} |"
        )
    for r in results:
        if "linear" in r:
            out += ["", "Scoring at ten times the rows:", "", "| rows | tokens | tokens/s | peak MiB |", "|---|---|---|---|"]
            out += [f"| {name} | {tokens:,} | {rate:,.0f} | {mib:,.0f} |" for name, tokens, rate, mib in r["linear"]]
        if "memory" in r:
            out += ["", "Peak memory on the 1.5B shape, weights stored in bf16, one row of 1,024 tokens:", "", "| work | peak MiB | limit MiB | seconds |", "|---|---|---|---|"]
            out += [f"| {name} | {mib:,.0f} | {TARGETS_MIB[name]:,.0f} | {wall:.1f} |" for name, (mib, wall) in r["memory"].items()]
    out += ["", "The peers' ways in a trial before the rounds, seconds (a step; a pass over fewer rows):", ""]
    for r in (r for r in results if r.get("trial")):
        out.append(f"- {r['words']}: " + "; ".join(f"{name} {t:.3g}" for name, t in r["trial"].items()))
    out += ["", "f32 peak, GFLOP/s, products of 1024 x 1024 matrices:", "", "| by | GFLOP/s |", "|---|---|"]
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
