#!/usr/bin/env python3
"""Runs the recipe `tiny` on a real Slurm of one node, and kills workers, the submitter and the controller.

    cargo build --release
    sudo apt-get install slurm-wlm munge       # or --install
    sudo python3 bench/outside/slurm.py

Slurm, munge and everything that they start live in a corner of their own (clusters.py) and end with this script; no file of an
installed Slurm is read or written. After each kill the same command must end in the bytes of a local run, with no job done twice.
"""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import time

import clusters

NEEDED = ["slurmctld", "slurmd", "sbatch", "squeue", "scancel", "munged"]
CONFIGURATION = """\
ClusterName=idiolect
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={work}/munge/socket
StateSaveLocation={work}/state
SlurmdSpoolDir={work}/spool
SlurmctldPidFile={work}/slurmctld.pid
SlurmdPidFile={work}/slurmd.pid
SlurmctldLogFile={work}/slurmctld.log
SlurmdLogFile={work}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


class Slurm:
    def __init__(self, work):
        self.work = work
        for name in ("munge", "state", "spool"):
            (work / name).mkdir(mode=0o755)
        key = work / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        host = socket.gethostname().split(".")[0]
        os.environ["SLURM_CONF"] = str(work / "slurm.conf")
        (work / "slurm.conf").write_text(CONFIGURATION.format(work=work, host=host, cpus=os.cpu_count()))
        munge = [f"--{name}={work}/munge/{name.split('-')[0]}" for name in ("key-file", "socket", "log-file", "pid-file", "seed-file")]
        # munge asks that no folder above its files can be written by others.
        subprocess.run(["munged", "--force", *munge], check=True)
        self.controller()
        subprocess.run(["slurmd"], check=True)
        idle = lambda: "idle" in subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True).stdout
        clusters.wait_until("the node is idle", 60, idle)

    def controller(self):
        subprocess.run(["slurmctld"], check=True)

    def stop_controller(self):
        pid = int((self.work / "slurmctld.pid").read_text())
        os.kill(pid, 9)
        time.sleep(2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=clusters.PROGRAM)
    parser.add_argument("--install", action="store_true", help="install Debian's packages where they are missing")
    parser.add_argument("--short", action="store_true", help="the whole run alone")
    given = parser.parse_args()
    # A system without its sbin folders on the path still has them.
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    missing = [name for name in NEEDED if not shutil.which(name)]
    if missing and given.install:
        subprocess.run(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "slurm-wlm", "munge"], check=True)
        missing = [name for name in NEEDED if not shutil.which(name)]
    if missing:
        clusters.skip(f"not installed: {', '.join(missing)} (Debian: slurm-wlm, munge; or --install)")
    if not os.path.exists(given.program):
        sys.exit(f"no program at {given.program}; build first: cargo build --release")
    clusters.seal()
    bench = clusters.Bench(given.program, "slurm")
    (bench.work / "slurm").mkdir()
    slurm = Slurm(bench.work / "slurm")
    bench.local()
    bench.whole()
    if not given.short:
        bench.worker_killed()
        bench.submitter_killed()
        bench.away("controller killed, and started again after it was missed", slurm.stop_controller, slurm.controller)
        bench.too_large("Requested node configuration is not available", ["--set", "execute.resources.default.memory=4T"])
    version = subprocess.run(["sbatch", "--version"], capture_output=True, text=True).stdout.strip()
    bench.end(version)


if __name__ == "__main__":
    main()
