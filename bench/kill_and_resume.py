#!/usr/bin/env python3
"""Kill a run again and again; the resumed run must end in the same bytes.

Runs one recipe uninterrupted, then once more, killed with SIGKILL at random moments and resumed
each time, and compares every file of the two run directories byte for byte (wall times, dates and
host facts aside: events.jsonl, manifest.json, `wall_s` of log.jsonl, and the wall times of the event
file that is made from it).

    cargo build --release
    python3 bench/kill_and_resume.py [--recipe FILE] [--kills N] [--dir DIR] [--seed N]

Every stage is hit at least once where N allows; the other kills go to the stages in proportion to
the time that they took uninterrupted. Standard library only.
"""
import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PROGRAM = os.path.join(ROOT, "target", "release", "idiolect")
NOT_COMPARED = {"events.jsonl", "manifest.json"}


def events(run):
    try:
        with open(os.path.join(run, "events.jsonl")) as file:
            lines = file.read().split("\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines]


def job_seconds(run):
    """Seconds of each job of an uninterrupted run, in order of beginning."""
    began, seconds = {}, {}
    for event in events(run):
        key = event["job"]
        if event["event"] == "begin":
            began[key] = event["at_unix_s"]
        else:
            seconds[key] = event["at_unix_s"] - began[key]
    return seconds


def plan(seconds, stage_of, kills, rng):
    """The jobs that are hit, in order, each with its number of kills: one of each stage, the rest by time."""
    jobs = list(seconds)
    chosen = dict.fromkeys(jobs, 0)
    stages = list(dict.fromkeys(stage_of[job] for job in jobs))
    for stage in rng.sample(stages, min(kills, len(stages))):
        chosen[rng.choice([job for job in jobs if stage_of[job] == stage])] += 1
    weights = [max(seconds[job], 1e-3) for job in jobs]
    for job in rng.choices(jobs, weights, k=max(0, kills - len(stages))):
        chosen[job] += 1
    return [(job, chosen[job]) for job in jobs if chosen[job]]


def start(given, out):
    command = [given.program, "run", given.recipe, "--out", out, "-q"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def kill_in(job, wait_s, given, out):
    """Starts the run, waits until it is in `job` for `wait_s`, kills it. False: it ended first."""
    process = start(given, out)
    seen = len(events(out))
    at = None
    while process.poll() is None:
        fresh = events(out)[seen:]
        if at is None and any(e["job"] == job and e["event"] == "begin" for e in fresh):
            at = time.monotonic() + wait_s
        if at is not None and time.monotonic() >= at:
            process.send_signal(signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.001)
    if process.returncode != 0:
        sys.exit(f"a resumed run failed ({process.returncode}):\n{process.stderr.read().decode()}")
    return False


def content_hash(path):
    """Of a file, but for the wall times of a training's log and curves."""
    with open(path, "rb") as file:
        content = file.read()
    if os.path.basename(path) == "log.jsonl":
        content = re.sub(rb'"wall_s":[-0-9.e+]+', b"", content)
    if ".tfevents." in os.path.basename(path):
        content = b"".join(without_wall_time(content))
    return hashlib.sha256(content).hexdigest()


def without_wall_time(content):
    """The messages of an event file after their first field, the wall time; what follows the last whole one."""
    while len(content) >= 16 + int.from_bytes(content[:8], "little"):
        length = int.from_bytes(content[:8], "little")
        yield content[12 + 9:12 + length]
        content = content[16 + length:]
    yield content


def hashes(run):
    found = {}
    for folder, _, names in os.walk(run):
        for name in names:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, run)
            if relative in NOT_COMPARED:
                continue
            found[relative] = content_hash(path)
    return found


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--recipe", default="miniature", help="a recipe file or a built-in recipe")
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--dir", help="keep the two run directories here")
    arguments.add_argument("--seed", type=int, default=0, help="decides the moments")
    arguments.add_argument("--program", default=PROGRAM)
    given = arguments.parse_args()
    if not os.path.exists(given.program):
        sys.exit(f"no program at {given.program}; build first: cargo build --release")
    rng = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as temporary:
        place = given.dir or temporary
        whole, killed = os.path.join(place, "whole"), os.path.join(place, "killed")
        began = time.monotonic()
        process = start(given, whole)
        errors = process.communicate()[1]
        if process.returncode != 0:
            sys.exit(f"the uninterrupted run failed:\n{errors.decode()}")
        print(f"uninterrupted: {time.monotonic() - began:.1f} s", flush=True)
        seconds = job_seconds(whole)
        stage_of = {event["job"]: event["stage"] for event in events(whole)}
        done = 0
        for job, count in plan(seconds, stage_of, given.kills, rng):
            for _ in range(count):
                # A resumed job is shorter than a whole one, so a miss is tried again sooner.
                for share in (0.7, 0.3, 0.1):
                    wait_s = rng.uniform(0, share * seconds[job] / count)
                    if kill_in(job, wait_s, given, killed):
                        done += 1
                        print(f"kill {done}: {job}, {wait_s:.3f} s in", flush=True)
                        break
                    print(f"the run ended before its kill in {job}", flush=True)
        process = start(given, killed)
        errors = process.communicate()[1]
        if process.returncode != 0:
            sys.exit(f"the last resumption failed:\n{errors.decode()}")
        one, other = hashes(whole), hashes(killed)
        different = sorted(k for k in one.keys() | other.keys() if one.get(k) != other.get(k))
        if different:
            sys.exit(f"DIFFERENT after {done} kills: " + ", ".join(different[:40]))
        print(f"same bytes in all {len(one)} files after {done} kills")
        if done == 0:
            sys.exit("no kill hit: nothing was shown")


if __name__ == "__main__":
    main()
