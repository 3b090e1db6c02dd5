#!/usr/bin/env python3
"""Trains the small fixture model, kills one training and continues it, and reads the curves with TensorBoard's own reader.

    cargo build --release
    python3 -m venv .venv && .venv/bin/pip install tensorboard        # and if wanted: 'trackio[tensorboard]' wandb
    .venv/bin/python bench/outside/curves.py [--program target/release/idiolect]

Every point must be one of `log.jsonl`, to the 32 bits that an event file keeps, in order and once. Where trackio is
installed, its importer reads the same folder; where wandb is, the lines of docs/other-tools.md write an offline run. Both stay
on this machine.
"""
import argparse
import importlib.util
import json
import os
import pathlib
import re
import signal
import struct
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
NAMES = {"loss": "train/loss", "gradient_norm": "train/grad_norm", "lr": "train/learning_rate"}


def f32(value):
    return struct.unpack("<f", struct.pack("<f", value))[0]


def logged(folder):
    """Points of `log.jsonl` by tag."""
    curves = {}
    for line in (folder / "log.jsonl").read_text().splitlines():
        row = json.loads(line)
        values = {NAMES[k]: row[k] for k in NAMES} if row["event"] == "step" else {"eval/loss": row["loss"]}
        for tag, value in values.items():
            curves.setdefault(tag, []).append((row["step"], f32(value)))
    return curves


def read(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def count(path):
    return path.read_bytes().count(b"\n") if path.exists() else 0


def imported(command, folder, found):
    """Runs an importer in a folder of its own and looks for what it leaves; it is told to send nothing."""
    with tempfile.TemporaryDirectory() as home:
        alone = os.environ | {"TRACKIO_DIR": home, "WANDB_DIR": home, "WANDB_MODE": "offline", "HF_HUB_OFFLINE": "1"}
        ran = subprocess.run([sys.executable, "-c", *command], cwd=folder.parent, env=alone, capture_output=True, text=True)
        if ran.returncode != 0:
            sys.exit(f"the importer failed:\n{ran.stderr}")
        if not any(pathlib.Path(home).rglob(found)):
            sys.exit(f"the importer left no {found}")


def importers(folder):
    book = (ROOT / "docs" / "other-tools.md").read_text()
    trackio, wandb = f"import trackio; trackio.import_tf_events(log_dir='{folder.name}', project='idiolect')", re.search(
        r"```python\n(.*?)```", book, re.DOTALL
    ).group(1)
    for name, needed, command, found in [
        ("trackio", ["trackio", "tbparse"], [trackio], "*.db"),
        ("wandb", ["wandb"], [wandb, folder.name], "*.wandb"),
    ]:
        if all(importlib.util.find_spec(package) for package in needed):
            imported(command, folder, found)
            print(f"{name} took the training")
        else:
            print(f"NOT CHECKED: {name} is not installed ({' '.join(needed)})")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--program", default=ROOT / "target" / "release" / "idiolect")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as place:
        place = pathlib.Path(place)
        rows = [{"prompt": f"{n} and {n} are", "completion": f" {2 * n}, and once more {3 * n}."} for n in range(200)]
        (place / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (place / "dev.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:5]))
        command = [
            given.program, "train", "--model", ROOT / "fixtures" / "stories260K", "--data", place / "rows.jsonl",
            "--dev", place / "dev.jsonl", "--dev-every", "20", "--batch-size", "2", "--checkpoint-every", "7", "-q",
        ]
        subprocess.run([*command, "-o", place / "whole"], check=True, stdout=subprocess.DEVNULL)
        whole, killed = place / "whole", place / "killed"
        for steps in (20, 60):
            process = subprocess.Popen([*command, "-o", killed], stdout=subprocess.DEVNULL)
            while count(killed / "log.jsonl") < steps and process.poll() is None:
                time.sleep(0.001)
            process.send_signal(signal.SIGKILL)
            process.wait()
        subprocess.run([*command, "-o", killed], check=True, stdout=subprocess.DEVNULL)
        for folder in (whole, killed):
            found, wanted = read(folder), logged(folder)
            if found != wanted:
                sys.exit(f"{folder.name}: TensorBoard reads other points than log.jsonl has: {found} and {wanted}")
            print(f"{folder.name}: " + ", ".join(f"{tag} {len(points)} points" for tag, points in sorted(found.items())))
        if read(whole) != read(killed):
            sys.exit("the killed training has other curves than the whole one")
        print("the same curves after two kills")
        importers(whole)


if __name__ == "__main__":
    main()
