#!/usr/bin/env python3
"""Trains with TRL through idiolect beside the native engine: the same 20 steps, full and LoRA, by one
process, by two (torchrun) and by two that share one model (FSDP 2); killed and continued; and a
launch that silently runs one process instead of two.

    python3 -m venv .venv && .venv/bin/pip install torch transformers trl peft accelerate datasets
    cargo build --release
    .venv/bin/python bench/outside/models.py --only smollm2-135m-instruct     # optional
    python3 bench/outside/trl_backend.py --python .venv/bin/python
    python3 bench/outside/trl_backend.py --python .venv/bin/python --model models/real/smollm2-135m-instruct --batch-size 4

Fails where a loss differs by more than --bound, and says what it skips where the packages are not
installed.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
FSDP = """compute_environment: LOCAL_MACHINE
distributed_type: FSDP
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_state_dict_type: FULL_STATE_DICT
  fsdp_reshard_after_forward: true
  fsdp_cpu_ram_efficient_loading: false
mixed_precision: 'no'
num_machines: 1
num_processes: 2
use_cpu: true
"""
# Runs one process, whatever it states, on a machine without a GPU.
TRAP = """compute_environment: LOCAL_MACHINE
distributed_type: MULTI_CPU
mixed_precision: 'no'
num_machines: 1
num_processes: 2
use_cpu: true
"""
NAMES = ["Anna", "Ben", "Carl", "Dora", "Emil"]
THINGS = ["apples", "stones", "coins", "pens"]


def rows(n, weighted):
    """Small sums in words, of different lengths, the same each time."""
    rng = random.Random(7)
    for i in range(n):
        name, thing = rng.choice(NAMES), rng.choice(THINGS)
        parts = [rng.randrange(2, 60) for _ in range(2 + i % 4)]
        asked = f"{name} has {' and '.join(str(part) for part in parts)} {thing}. How many are that?"
        told = f" {' + '.join(str(part) for part in parts)} = {sum(parts)}, so {sum(parts)} {thing}."
        row = {"prompt": asked, "completion": told}
        if weighted:
            row["weight"] = [0.25, 1.0, 3.0][i % 3]
        yield row


class Bench:
    def __init__(self, arguments, place):
        self.arguments, self.place = arguments, place
        self.failed = []
        for name, text in (("fsdp.yaml", FSDP), ("trap.yaml", TRAP)):
            (place / name).write_text(text)
        for name, weighted in (("rows", False), ("weighted", True)):
            count = 5 * arguments.batch_size - 3
            text = "".join(json.dumps(row) + "\n" for row in rows(count, weighted))
            (place / f"{name}.jsonl").write_text(text)
        (place / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in list(rows(60, False))[-6:]))

    def command(self, model, out, *more, data="rows", trl=True, rate=None):
        words = [str(self.arguments.program), "train", "--model", str(model), "--data", str(self.place / f"{data}.jsonl")]
        words += ["--dev", str(self.place / "dev.jsonl"), "--epochs", "4", "--batch-size", str(self.arguments.batch_size)]
        words += ["--lr", rate or self.arguments.lr, "--schedule", "cosine", "--warmup-steps", "4", "--seed", "3", "-q"]
        words += ["-o", str(self.place / out), *more]
        return words + (["--backend", "trl", "--python", self.arguments.python] if trl else [])

    def train(self, *arguments, **named):
        begun = time.monotonic()
        done = subprocess.run(self.command(*arguments, **named), capture_output=True, text=True)
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            sys.exit(f"`{arguments[1]}` ended with exit code {done.returncode}")
        return time.monotonic() - begun

    def log(self, out):
        events = [json.loads(line) for line in (self.place / out / "log.jsonl").open()]
        steps = {event["step"]: event for event in events if event["event"] == "step"}
        dev = {event["step"]: event["loss"] for event in events if event["event"] == "dev"}
        return steps, dev

    def compare(self, what, native, other, took):
        (a, a_dev), (b, b_dev) = self.log(native), self.log(other)
        same = list(a) == list(b) == list(range(1, 21)) and list(a_dev) == list(b_dev)
        same = same and all(a[i]["target_tokens"] == b[i]["target_tokens"] and a[i]["lr"] == b[i]["lr"] for i in a)
        loss = max(abs(a[i]["loss"] - b[i]["loss"]) for i in a) if same else float("inf")
        dev = max(abs(a_dev[i] - b_dev[i]) for i in a_dev) if same else float("inf")
        norm = max(abs(a[i]["gradient_norm"] / b[i]["gradient_norm"] - 1) for i in a) if same else float("inf")
        held = same and max(loss, dev) <= self.arguments.bound
        print(
            f"  {what:28} {len(b)} steps, loss {b[1]['loss']:.4f} -> {b[20]['loss']:.4f}; from native at most {loss:.1e} "
            f"(dev {dev:.1e}, gradient norm {norm:.1e} of it); {took:.0f} s{'' if held else '   FAILED'}",
            flush=True,
        )
        if not held:
            self.failed.append(what)

    def killed(self, model):
        """Kills idiolect itself without warning, between two checkpoints, and runs it again."""
        command = self.command(model, "killed", "--checkpoint-every", "4")
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        log = self.place / "killed" / "log.jsonl"
        while running.poll() is None and not (log.exists() and log.read_text().count('"event":"step"') >= 10):
            time.sleep(0.05)
        running.send_signal(signal.SIGKILL)
        running.wait()
        stopped = log.read_text().count('"event":"step"')
        deadline = time.monotonic() + 60
        while (left := self.running(self.place / "killed")) and time.monotonic() < deadline:
            time.sleep(0.2)
        if left:
            self.failed.append("killed")
            print(f"  processes left after the kill: {left}")
        if not (self.place / "killed" / "checkpoint-8" / "idiolect.json").exists():
            self.failed.append("killed")
            print("  killed before its second checkpoint")
        took = self.train(model, "killed", "--checkpoint-every", "4")
        again = json.loads(subprocess.run([*command, "--json"], capture_output=True, text=True).stdout)
        print(f"  killed after step {stopped}, continued; a third run finds it finished with {again['rows']} rows")
        self.compare("killed and continued", "native", "killed", took)

    @staticmethod
    def running(folder):
        """Processes whose command line names a folder."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if str(folder) in words and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        return found

    def trap(self, model):
        launch = f"accelerate launch --config_file {self.place / 'trap.yaml'}"
        done = subprocess.run(self.command(model, "trap", "--launch", launch), capture_output=True, text=True)
        caught = done.returncode == 1 and "runs 1 process and 2 were to run" in done.stderr
        print(f"  one process instead of two   {'caught' if caught else 'NOT CAUGHT'}")
        if not caught:
            self.failed.append("trap")
            print(done.stderr, file=sys.stderr)

    def all(self, model):
        print(f"{model.name}:", flush=True)
        fsdp = f"accelerate launch --config_file {self.place / 'fsdp.yaml'}"
        lora = ["--lora", "r=8,alpha=16"]
        took = self.train(model, "native", trl=False)
        print(f"  native: {took:.0f} s", flush=True)
        self.train(model, "native-lora", *lora, trl=False, rate=self.arguments.lora_lr)
        self.compare("one process", "native", "one", self.train(model, "one"))
        self.compare("FSDP x 2", "native", "fsdp", self.train(model, "fsdp", "--launch", fsdp))
        self.compare("LoRA, one process", "native-lora", "lora", self.train(model, "lora", *lora, rate=self.arguments.lora_lr))
        took = self.train(model, "lora-fsdp", *lora, "--launch", fsdp, rate=self.arguments.lora_lr)
        self.compare("LoRA, FSDP x 2", "native-lora", "lora-fsdp", took)
        if not self.arguments.short:
            took = self.train(model, "ddp", "--launch", "torchrun --nproc_per_node 2")
            self.compare("torchrun x 2", "native", "ddp", took)
            self.train(model, "native-weighted", data="weighted", trl=False)
            took = self.train(model, "weighted", "--per-device-batch-size", "2", data="weighted")
            self.compare("row weights 0.25, 1 and 3", "native-weighted", "weighted", took)
        self.killed(model)
        self.trap(model)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=ROOT / "target/release/idiolect", type=pathlib.Path)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment with TRL")
    parser.add_argument("--model", default=ROOT / "fixtures/stories260K", type=pathlib.Path)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--lr", default="1e-4")
    parser.add_argument("--lora-lr", default="1e-3")
    parser.add_argument("--bound", type=float, default=1e-3, help="largest difference of a loss, nats per token")
    parser.add_argument("--short", action="store_true", help="leave out torchrun and row weights")
    arguments = parser.parse_args()
    # No link is followed: that of an environment leads out of it.
    arguments.python = os.path.abspath(shutil.which(arguments.python) or arguments.python)
    probe = subprocess.run([arguments.python, "-c", "import trl, peft, accelerate"], capture_output=True)
    if probe.returncode != 0:
        print(f"SKIPPED: `{arguments.python}` has no trl, peft and accelerate (pip install torch transformers trl peft accelerate datasets)")
        return
    with tempfile.TemporaryDirectory(prefix="trl-backend-") as place:
        bench = Bench(arguments, pathlib.Path(place))
        bench.all(arguments.model)
    if bench.failed:
        sys.exit(f"failed: {', '.join(bench.failed)}")


if __name__ == "__main__":
    main()
