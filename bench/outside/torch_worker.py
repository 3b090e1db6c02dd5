#!/usr/bin/env python3
"""Scores the same rows with the torch worker and with the native engine: log-probabilities, ranks,
entropies, varentropies and sums of squares of every token.

    python3 -m venv .venv && .venv/bin/pip install torch transformers pyarrow
    cargo build --release
    .venv/bin/python bench/outside/models.py                                  # optional: published models
    .venv/bin/python bench/outside/torch_worker.py --python .venv/bin/python models/real/*

The rows are GSM8K problems with their solutions. Fails where a log-probability differs by more than
--bound, or a rank by more than one in a hundred: far down, neighbours differ by less than rounding.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLUMNS = ["logprob", "entropy", "varentropy", "sum_p2"]


def rows(n):
    for line in (ROOT / "fixtures/gsm8k/train.jsonl").read_text().splitlines():
        row = json.loads(line)
        # As many as a model of 512 positions holds.
        if len(row["question"]) + len(row["answer"]) < 500 and n > 0:
            n -= 1
            yield {"prompt": f"Question: {row['question']}\nAnswer:", "completion": f" {row['answer']}"}


def score(arguments, model, place, name, *more):
    out = place / f"{name}.parquet"
    words = [str(arguments.program), "score", "--model", str(model), "--data", str(place / "rows.jsonl"), "-q", "--overwrite"]
    begun = time.monotonic()
    done = subprocess.run([*words, "-o", str(place / f"{name}.jsonl"), "--tokens", str(out), *more], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{model.name}, {name}: {done.stderr}")
    return out, time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", type=pathlib.Path, default=[ROOT / "fixtures/stories260K"])
    parser.add_argument("--program", default=ROOT / "target/release/idiolect", type=pathlib.Path)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the environment with torch")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--device", help="as torch names it; the best there is if unset")
    parser.add_argument("--bound", type=float, default=1e-4, help="largest difference of a log-probability, nats")
    arguments = parser.parse_args()
    # No link is followed: that of an environment leads out of it.
    arguments.python = os.path.abspath(shutil.which(arguments.python) or arguments.python)
    try:
        import pyarrow.parquet
    except ImportError:
        print("SKIPPED: this interpreter has no pyarrow (pip install pyarrow)")
        return
    if subprocess.run([arguments.python, "-c", "import torch, transformers"], capture_output=True).returncode != 0:
        print(f"SKIPPED: `{arguments.python}` has no torch and transformers (pip install torch transformers)")
        return
    failed = []
    for model in arguments.models:
        with tempfile.TemporaryDirectory(prefix="torch-worker-") as folder:
            place = pathlib.Path(folder)
            (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows(arguments.rows)))
            native, native_s = score(arguments, model, place, "native")
            device = ["--device", arguments.device] if arguments.device else []
            torch, torch_s = score(arguments, model, place, "torch", "--backend", "torch", "--python", arguments.python, *device)
            a, b = (pyarrow.parquet.read_table(path).to_pydict() for path in (native, torch))
            used = json.loads((place / "torch.jsonl.meta.json").read_text())["settings"]["torch.device"]
        same = all(a[name] == b[name] for name in ("trace_id", "token_id", "byte_start", "is_end"))
        off = {
            name: max((abs(x - y) for p, q in zip(a[name], b[name]) for x, y in zip(p, q)), default=0.0) for name in COLUMNS
        }
        ranks = [(x, y) for p, q in zip(a["rank"], b["rank"]) for x, y in zip(p, q)]
        others = [pair for pair in ranks if pair[0] != pair[1]]
        far = [pair for pair in others if abs(pair[0] - pair[1]) > 0.01 * max(pair)]
        held = same and off["logprob"] <= arguments.bound and not far
        shown = ", ".join(f"{name} {value:.1e}" for name, value in off.items())
        print(
            f"{model.name}: {len(ranks)} tokens on {used}; largest differences: {shown}; {len(others)} ranks differ {others[:4]}; "
            f"native {native_s:.1f} s, torch {torch_s:.1f} s, loading included{'' if held else '   FAILED'}",
            flush=True,
        )
        if not held:
            failed.append(model.name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
