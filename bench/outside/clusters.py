"""What slurm.py and ray.py have in common: a sealed corner of this machine, the runs, and what must hold after each.

Everything is started in a PID and a network namespace of its own: nothing listens but on the loopback of that corner, and whatever
was started ends with it.
"""

import collections
import glob
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "bench"))
from kill_and_resume import hashes  # noqa: E402

PROGRAM = ROOT / "target" / "release" / "idiolect"
INSIDE = "IDIOLECT_BENCH_INSIDE"
# 3 shards of the samples, 4 arms, 2 seeds; trainings long enough to be killed within.
SETTINGS = ["arms.names=[\"H\",\"G\",\"W\",\"P\"]", "train.seeds=2", "train.epochs=40", "execute.rows_per_shard=130", "execute.poll_s=0.5", "execute.resources.default.memory=500M"]


def skip(why):
    print(f"SKIPPED {pathlib.Path(sys.argv[0]).name}: {why}", file=sys.stderr)
    sys.exit(0)


def seal():
    """Runs this script again in namespaces of its own."""
    if os.environ.get(INSIDE):
        import fcntl
        import socket
        import struct

        with socket.socket() as probe:
            fcntl.ioctl(probe, 0x8914, struct.pack("16sh14s", b"lo", 0x41, b""))  # SIOCSIFFLAGS: up
            # The C library looks for IPv4 addresses where the system has one beside 127.0.0.1 only.
            address = struct.pack("hH4s8s", socket.AF_INET, 0, socket.inet_aton("127.0.0.2"), b"")
            fcntl.ioctl(probe, 0x8916, struct.pack("16s16s", b"lo:1", address))  # SIOCSIFADDR
        return
    if not shutil.which("unshare"):
        skip("needs `unshare` (util-linux)")
    words = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if os.geteuid() != 0:
        words[1:1] = ["--user", "--map-root-user"]
    if subprocess.run([*words, "true"], capture_output=True).returncode != 0:
        skip("this system lets you open no namespaces (as root it would)")
    os.environ[INSIDE] = "1"
    sys.exit(subprocess.run([*words, sys.executable, *sys.argv]).returncode)


def wait_until(what, patience, condition):
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"FAILED: {what} within {patience} s")
        time.sleep(0.005)


def workers(stage):
    """Process ids of the workers of a stage's tasks."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            words = pathlib.Path(path).read_bytes().split(b"\0")
        except OSError:
            continue
        if b"job" in words and b"--task" in words and any(f"-{stage}-".encode() in word for word in words):
            found.append(int(path.split("/")[2]))
    return found


class Bench:
    """Runs of the recipe `tiny` on one cluster, each in a directory of its own, beside one that was done locally."""

    def __init__(self, program, place):
        self.program, self.place = pathlib.Path(program).resolve(), place
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="idiolect-clusters-"))
        self.rows = []

    def words(self, name, place, more=()):
        sets = [word for setting in SETTINGS for word in ("--set", setting)]
        return [str(self.program), "run", "tiny", "--out", str(self.work / name), "--on", place, *sets, *more]

    def local(self):
        began = time.monotonic()
        subprocess.run([*self.words("local", "local"), "-q"], check=True, stdout=subprocess.DEVNULL)
        self.rows.append(("local, for comparison", f"{time.monotonic() - began:.1f} s", ""))

    def start(self, name, more=()):
        log = open(self.work / f"{name}.stderr", "ab")
        return subprocess.Popen(self.words(name, self.place, more), stdout=subprocess.DEVNULL, stderr=log)

    def told(self, name):
        return (self.work / f"{name}.stderr").read_text()

    def ask(self, *words):
        done = subprocess.run([str(self.program), *words], capture_output=True, text=True)
        return json.loads(done.stdout)

    def events(self, name):
        paths = [self.work / name / "events.jsonl", *(self.work / name / "cluster" / "events").glob("*.jsonl")]
        return [json.loads(line) for path in paths if path.exists() for line in path.read_text().splitlines()]

    def finish(self, name, child, what, began):
        """Waits for a run and holds it against the local one."""
        if child.wait() != 0:
            sys.exit(f"FAILED: {what}: exit code {child.returncode}\n{self.told(name)}")
        took = time.monotonic() - began
        inside = lambda run: {path: hash for path, hash in hashes(self.work / run).items() if not path.startswith("cluster/")}
        one, other = inside("local"), inside(name)
        different = sorted(path for path in one.keys() | other.keys() if one.get(path) != other.get(path))
        if different:
            sys.exit(f"FAILED: {what}: other bytes in {', '.join(different[:20])}")
        ended = collections.Counter(event["job"] for event in self.events(name) if event["event"] == "end")
        twice = [job for job, times in ended.items() if times > 1]
        if twice:
            sys.exit(f"FAILED: {what}: done twice: {', '.join(twice)}")
        begun = collections.Counter(event["job"] for event in self.events(name) if event["event"] == "begin")
        again = sum(times - 1 for times in begun.values())
        self.rows.append((what, f"{took:.1f} s", f"same bytes in {len(one)} files; {len(ended)} jobs each done once, {again} begun again"))
        print("  ".join(self.rows[-1]), flush=True)

    def whole(self):
        began = time.monotonic()
        self.finish("whole", self.start("whole"), "whole run", began)

    def worker_killed(self, times=3):
        began = time.monotonic()
        child = self.start("worker")
        hit = set()
        while len(hit) < times and child.poll() is None:
            for pid in workers("train"):
                if pid not in hit and len(hit) < times:
                    time.sleep(0.2)
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        continue
                    hit.add(pid)
            time.sleep(0.005)
        if len(hit) < times:
            sys.exit(f"FAILED: only {len(hit)} workers could be killed")
        self.finish("worker", child, f"{times} workers killed while they train", began)
        if "was lost" not in self.told("worker"):
            sys.exit("FAILED: a lost worker was not reported")

    def submitter_killed(self, times=5):
        began = time.monotonic()
        for attempt in range(times):
            child = self.start("submitter")
            done = lambda: sum(event["event"] == "end" for event in self.events("submitter"))
            before = done()
            wait_until("the run goes on", 300, lambda: child.poll() is not None or done() >= before + 4)
            if child.poll() is not None:
                sys.exit(f"FAILED: the run ended before its kill\n{self.told('submitter')}")
            child.kill()
            child.wait()
        status = self.ask("status", str(self.work / "submitter"), "--json")
        print(f"after kill {times}: {status['done']} done, {len(status['running'])} running, {len(status['submitted'])} submitted", flush=True)
        self.finish("submitter", self.start("submitter"), f"submitter killed {times} times", began)

    def away(self, what, stop, start):
        """The cluster's head is away for a while."""
        began = time.monotonic()
        child = self.start("away")
        wait_until("a training runs", 300, lambda: workers("train"))
        stop()
        wait_until("it is noticed", 300, lambda: "does not answer" in self.told("away"))
        start()
        self.finish("away", child, what, began)

    def too_large(self, words, more):
        began = time.monotonic()
        child = self.start("large", more)
        wait_until("it is stated that a job is too large", 120, lambda: child.poll() is not None or words in self.told("large"))
        if words not in self.told("large"):
            sys.exit(f"FAILED: {words!r} is not stated\n{self.told('large')}")
        if child.poll() is None:
            child.send_signal(signal.SIGINT)
        code = child.wait()
        self.rows.append(("a job that no node can take", f"{time.monotonic() - began:.1f} s", f"stated, exit code {code}"))
        self.finish("large", self.start("large"), "the same run with smaller jobs", began)

    def end(self, version):
        shutil.rmtree(self.work, ignore_errors=True)
        print(f"\n| {version} | time | |\n|---|---|---|")
        for row in self.rows:
            print(f"| {' | '.join(row)} |")
