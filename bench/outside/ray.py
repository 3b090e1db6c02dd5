#!/usr/bin/env python3
"""Runs the recipe `tiny` on a real Ray cluster of a head and two workers, and kills workers, the submitter and the head.

    cargo build --release
    python3 -m venv /tmp/ray && /tmp/ray/bin/pip install "ray[default]"
    sudo /tmp/ray/bin/python bench/outside/ray.py

Ray and everything that it starts live in a corner of their own (clusters.py) and end with this script. After each kill the same
command must end in the bytes of a local run, with no job done twice.
"""

import argparse
import glob
import importlib.util
import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import urllib.request

# This file's own name is that of the package.
sys.path = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]
HAS_RAY = importlib.util.find_spec("ray") is not None and importlib.util.find_spec("ray.dashboard") is not None
sys.path.append(os.path.dirname(os.path.abspath(__file__)))
import clusters  # noqa: E402

DASHBOARD = "127.0.0.1:8265"


class Ray:
    def __init__(self, work):
        self.work = work
        self.program = pathlib.Path(sys.executable).parent / "ray"
        self.start()

    def ray(self, *words):
        small = ["--object-store-memory=80000000"]
        environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
        done = subprocess.run([str(self.program), "start", *words, *small], capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            sys.exit(f"ray start failed:\n{done.stdout}{done.stderr}")

    def start(self):
        self.ray("--head", "--port=6379", "--dashboard-host=127.0.0.1", "--dashboard-port=8265", "--num-cpus=0", f"--temp-dir={self.work}")
        for _ in range(2):
            self.ray("--address=127.0.0.1:6379", "--num-cpus=1")
        clusters.wait_until("the dashboard answers", 120, lambda: self.version() is not None)

    def version(self):
        try:
            with urllib.request.urlopen(f"http://{DASHBOARD}/api/version", timeout=5) as reply:
                return json.load(reply)["ray_version"]
        except OSError:
            return None

    def kill(self, of):
        """Kills Ray's processes, in this corner, whose command line holds one of these words; their number."""
        found = 0
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            pid = int(path.split("/")[2])
            try:
                words = pathlib.Path(path).read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if pid != os.getpid() and any(word in words for word in of):
                os.kill(pid, signal.SIGKILL)
                found += 1
        return found

    def stop(self):
        """Ends head and workers."""
        self.kill(["/ray/core/src/", "ray/dashboard", "ray/_private", "ray/autoscaler", "ray::"])
        time.sleep(2)

    def dashboard_away(self):
        if self.kill(["ray/dashboard/dashboard.py"]) == 0:
            sys.exit("FAILED: no dashboard was found")

    def dashboard_back(self):
        """Nothing restarts a dashboard alone: the whole head is started again, and knows no job."""
        self.stop()
        self.start()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=clusters.PROGRAM)
    parser.add_argument("--short", action="store_true", help="the whole run alone")
    given = parser.parse_args()
    if not HAS_RAY:
        clusters.skip(f"{sys.executable} has no Ray (pip install \"ray[default]\")")
    if not os.path.exists(given.program):
        sys.exit(f"no program at {given.program}; build first: cargo build --release")
    clusters.seal()
    bench = clusters.Bench(given.program, f"ray://{DASHBOARD}")
    ray = Ray(bench.work / "ray")
    bench.local()
    bench.whole()
    if not given.short:
        bench.worker_killed()
        bench.submitter_killed()
        bench.too_large("no node has that", ["--set", "execute.resources.default.cpus=64"])
        bench.away("dashboard killed, then head and workers started anew", ray.dashboard_away, ray.dashboard_back)
    version = ray.version()
    ray.stop()
    bench.end(f"Ray {version}")


if __name__ == "__main__":
    main()
