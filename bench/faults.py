#!/usr/bin/env python3
"""Fail every system call that a command makes on its files, once each, and run the command again.

Each command of `fault_cases.py` is first run undisturbed under strace, which lists its calls on files of its folder. Then,
for each of these calls and each fault, a fresh folder is made, the command is run with that one call disturbed, and the
same command is run again undisturbed. Faults are an error (EIO, ENOSPC, EINTR: the call is not done) and a signal (TERM,
KILL) at the call. Calls of processes that a command starts are not its own. What must hold:

- disturbed: an exit code of the contract, no panic, no hang. After success, the bytes and the printed result of an
  undisturbed run; after failure, an error that names the file; after SIGTERM also 130, "interrupted"
- run again: the exit code and the bytes of an undisturbed run, nothing missing, nothing left over
- both times: inputs have the bytes they had

    cargo build --release
    python3 bench/faults.py                          # everything (hours); --dir DIR keeps results, and continues
    python3 bench/faults.py --short                  # a sample, 20 s
    python3 bench/faults.py --cases 'train,arms'     # some commands
    python3 bench/faults.py --cases run --limit 100  # a run has thousands of calls
    python3 bench/faults.py --only 'arms:rename:out/H.jsonl.tmp:1:EIO' --dir DIR    # one; its folder is kept
    python3 bench/faults.py --check-the-check        # programs with a planted defect each; every one must be caught

A call is named by its system call, the file, and which of the thread's calls on that file it is. strace counts per thread:
where several threads make the call, each is disturbed at its own. The results count calls that were disturbed in several
threads, and calls that were not made again ("not met"). Of many like calls on one file (rows of a journal, chunks of a
weight file; of `run`, on all files of one name) the first, the last and some between are taken, `--most` in all. Needs strace; standard library only.
"""
import argparse
import collections
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time

import fault_cases
from fault_cases import CASES, PROGRAM, Reference, differences, fresh, last_line, ran, tree
from strace_log import calls, watching

ERRORS = ["EIO", "ENOSPC", "EINTR"]
SIGNALS = ["TERM", "KILL"]
SHORT_S = 20

Site = collections.namedtuple("Site", "call path number filters")


def trace(case, reference, ground, folder, log):
    """The calls of an undisturbed run on files of its folder."""
    fresh(case, ground, folder)
    code, _, err = ran(watching(log) + reference.command, folder)
    if code != reference.code:
        sys.exit(f"{case.name}: under strace the exit code is {code}:\n{err}")
    return calls(log)


def sites(found, folder):
    """Each call on a file of the folder: what it is, its file, and which of the thread's it is, as strace counts."""
    own = [call for call in found if is_own(call.path(folder), folder)]
    # strace compares names as they are spelled.
    spelled = collections.defaultdict(set)
    for call in own:
        # An empty name is that of a descriptor, and would filter every program's.
        for name in filter(None, call.names()):
            spelled[os.path.normpath(os.path.join(folder, name))].add(name)
    counts, seen = collections.Counter(), {}
    for call in own:
        for path in call.files(folder):
            counts[call.pid, call.name, path] += 1
        # The folder of a name that begins in an open folder, else the file itself.
        path = call.descriptors[0][1] if call.descriptors else call.path(folder)
        site = Site(call.name, os.path.relpath(call.path(folder), folder), counts[call.pid, call.name, path],
                    tuple(sorted({path} | spelled[path])))
        seen.setdefault(site[:3], site)
    return list(seen.values())


# They keep nothing: servers, texts printed, what others run of a run, and views of a run, which show as not done
# what cannot be read.
NO_CASE = {"serve", "view", "job", "jobs", "status", "schema", "completions", "help"}


def without_case(program):
    """Commands that no case runs."""
    _, out, _ = ran([program, "--help"], None)
    listed = re.findall(r"^  ([a-z]+)  ", out, re.MULTILINE)
    return sorted(set(listed) - NO_CASE - {case.arguments[0] for case in CASES})


def is_own(path, folder):
    return path is not None and (path == folder or path.startswith(folder + os.sep))


def chosen(case, found, most, rng):
    """At most so many of like calls on one file: the first, the last, and some between."""
    by_file = collections.defaultdict(list)
    for site in found:
        by_file[site.call, os.path.basename(site.path) if case.like_by_name else site.path].append(site)
    taken = []
    for like in by_file.values():
        if most and len(like) > most:
            between = rng.sample(like[1:-1], max(0, most - 2))
            like = [like[0], *sorted(between, key=like.index), like[-1]][:most]
        taken += like
    return taken


def disturbed(site, fault, command, folder, log):
    """Runs a command with one call disturbed: its exit code, what it printed, and how often the fault struck."""
    how = f"signal={fault}" if fault in SIGNALS else f"error={fault}"
    strace = ["strace", "-f", "-y", "-s", "0", "-o", log, "-e", f"trace={site.call}"]
    if fault not in SIGNALS:
        # Faster; but a signal that begins at a filtered call is lost.
        strace.insert(2, "--seccomp-bpf")
    for path in site.filters:
        strace += ["-P", path]
    strace += ["-e", f"inject={site.call}:{how}:when={site.number}"]
    code, out, err = ran(strace + command, folder)
    with open(log, errors="replace") as file:
        text = file.read()
    if fault == "KILL":
        # Every thread ends.
        struck = int("killed by SIGKILL" in text)
    elif fault in SIGNALS:
        struck = text.count(f"--- SIG{fault} ")
    else:
        struck = text.count("(INJECTED)")
    words = "".join(line for line in err.splitlines(True) if not line.startswith("strace: "))
    return code, out, words, struck


def named(path, words):
    """Whether an error names a file, or the output that the file belongs to."""
    name = os.path.basename(path)
    for ending in (".tmp", ".part", ".meta.json", ".rejects.jsonl"):
        name = name.removesuffix(ending)
    folder = os.path.basename(os.path.dirname(path))
    return name in words or bool(folder) and folder in words


def judged(site, fault, first, reference, folder):
    """What is wrong with the disturbed run, in words; empty where nothing is."""
    code, out, words, _ = first
    # `doctor` prints what is wrong as its result.
    words += out if code == 1 else ""
    wrong = faults_of_any(code, words)
    if code in (0, 3) or code == reference.code == 1 and last_line(words) == reference.words:
        changed = differences(reference.tree, tree(folder))
        if changed:
            wrong.append(f"it says that it is done ({code}), but {changed}")
        elif code != reference.code:
            wrong.append(f"exit {code}, without the fault {reference.code}")
        elif out != reference.out:
            wrong.append("it says that it is done, but prints another result")
    elif fault == "KILL" and code == -signal.SIGKILL:
        pass
    elif fault == "TERM" and code == 130:
        if "interrupted" not in words:
            wrong.append("exit 130 without `interrupted`")
    elif code == 1:
        if "error" not in words:
            wrong.append("it fails without an error in words")
        elif not named(site.path, words):
            wrong.append(f"the error does not name {site.path}")
    elif code is not None:
        wrong.append(f"exit {code} is none that fits")
    return wrong + inputs_changed(reference, folder)


def faults_of_any(code, words):
    wrong = []
    if code is None:
        wrong.append(f"it hangs: no end within {fault_cases.TIMEOUT_S} s")
    if "panicked" in words or code in (101, -signal.SIGABRT, -signal.SIGSEGV):
        wrong.append("it panics")
    return wrong


def inputs_changed(reference, folder):
    now = tree(folder)
    changed = [name for name, value in reference.inputs.items() if now.get(name) != value]
    return [f"the input {name} is changed" for name in changed[:3]]


def again(reference, folder):
    """The same command undisturbed: what is wrong then."""
    code, _, words = ran(reference.command, folder)
    wrong = faults_of_any(code, words)
    changed = differences(reference.tree, tree(folder))
    if code is not None and code not in reference.codes:
        wrong.append(f"exit {code}: {last_line(words)}")
    if changed:
        wrong.append(changed)
    return ["run again: " + text for text in wrong + inputs_changed(reference, folder)]


class Bench:
    """The folders of the work, and the results so far."""

    def __init__(self, given, place):
        self.given = given
        self.ground, self.work, self.log = (os.path.join(place, name) for name in ("ground", "work", "strace.log"))
        self.results = os.path.join(place, "results.jsonl")
        with open(given.program, "rb") as file:
            self.program_hash = hashlib.sha256(file.read()).hexdigest()
        self.done = self.earlier()
        self.rng = random.Random(given.seed)

    def earlier(self):
        """Results of this same program that an earlier process left."""
        try:
            with open(self.results) as file:
                rows = [json.loads(line) for line in file if line.endswith("\n")]
        except FileNotFoundError:
            return {}
        kept = {row["id"]: row for row in rows if row["program"] == self.program_hash}
        if len(kept) < len(rows):
            print(f"{len(rows) - len(kept)} results are of another program, or doubled, and do not count", flush=True)
        return kept

    def make_ground(self):
        if os.path.exists(self.ground):
            shutil.rmtree(self.ground)
        fault_cases.make_ground(self.ground, self.given.program)

    def try_one(self, case, reference, site, fault):
        name = f"{case.name}:{site.call}:{site.path}:{site.number}:{fault}"
        if name in self.done:
            return self.done[name]
        fresh(case, self.ground, self.work)
        first = disturbed(site, fault, reference.command, self.work, self.log)
        code, _, words, struck = first
        wrong = []
        if struck:
            wrong = judged(site, fault, first, reference, self.work) + again(reference, self.work)
        row = {"id": name, "case": case.name, "call": site.call, "fault": fault, "exit": code, "struck": struck, "wrong": wrong,
               "program": self.program_hash}
        if wrong:
            row["said"] = words[-400:]
            print(f"WRONG {name}\n" + "".join(f"    {text}\n" for text in wrong) + f"    it said: {last_line(words)}", flush=True)
        with open(self.results, "a") as file:
            file.write(json.dumps(row) + "\n")
        self.done[name] = row
        return row


def trials(site):
    return [(site, fault) for fault in ERRORS + SIGNALS]


def whole(bench, cases):
    rows = []
    for case in cases:
        reference = Reference(case, bench.given.program, bench.ground, bench.work)
        found = sites(trace(case, reference, bench.ground, bench.work, bench.log), bench.work)
        taken = chosen(case, found, bench.given.most, bench.rng)
        began = time.monotonic()
        drawn = [trial for site in taken for trial in trials(site)]
        if bench.given.limit and len(drawn) > bench.given.limit:
            drawn = bench.rng.sample(drawn, bench.given.limit)
        of_case = [bench.try_one(case, reference, *trial) for trial in drawn]
        rows += of_case
        print(f"{case.name}: {len(found)} calls, {len(taken)} taken, {len(of_case)} faults, "
              f"{sum(bool(row['wrong']) for row in of_case)} wrong, {time.monotonic() - began:.0f} s", flush=True)
    return rows


def sample(bench, cases, until):
    """Faults drawn from each command in turn, two and then one at a time, for as long as there is time."""
    rows, drawn = [], []
    for case in bench.rng.sample(cases, len(cases)):
        if time.monotonic() > until:
            print(f"no time for {case.name}", flush=True)
            continue
        reference = Reference(case, bench.given.program, bench.ground, bench.work)
        found = sites(trace(case, reference, bench.ground, bench.work, bench.log), bench.work)
        every = [trial for site in found for trial in trials(site)]
        rest = iter(bench.rng.sample(every, len(every)))
        rows += [bench.try_one(case, reference, *trial) for _, trial in zip(range(2), rest)]
        drawn.append((case, reference, rest))
    while drawn and time.monotonic() < until:
        case, reference, rest = drawn.pop(0)
        trial = next(rest, None)
        if trial is not None:
            rows.append(bench.try_one(case, reference, *trial))
            drawn.append((case, reference, rest))
    return rows


def only(bench, name):
    case_name, call, rest = name.split(":", 2)
    path, number, fault = rest.rsplit(":", 2)
    case = next((case for case in CASES if case.name == case_name), None)
    if case is None:
        sys.exit(f"no command `{case_name}`; there are: " + ", ".join(case.name for case in CASES))
    reference = Reference(case, bench.given.program, bench.ground, bench.work)
    found = sites(trace(case, reference, bench.ground, bench.work, bench.log), bench.work)
    site = next((site for site in found if site[:3] == (call, path, int(number))), None)
    if site is None:
        sys.exit(f"no such call; on `{path}` there are: " + ", ".join(f"{s.call}:{s.number}" for s in found if s.path == path))
    bench.done.pop(name, None)
    row = bench.try_one(case, reference, site, fault)
    print(json.dumps(row, indent=1))
    return [row]


def table(rows):
    """Faults by command and call: how many struck, and of these how many were wrong."""
    counts = collections.Counter()
    for row in rows:
        if row["struck"]:
            counts[row["case"], row["call"], row["fault"]] += 1
    faults = ERRORS + SIGNALS
    print(f"\n{'command':44} {'call':12} " + " ".join(f"{fault:>7}" for fault in faults))
    for case, call in sorted({key[:2] for key in counts}):
        print(f"{case:44} {call:12} " + " ".join(f"{counts[case, call, fault]:7}" for fault in faults))
    print(f"{'all':44} {'':12} " + " ".join(f"{sum(n for key, n in counts.items() if key[2] == fault):7}" for fault in faults))


def told(rows, given):
    """Prints the counts and the failures; the exit code."""
    table(rows)
    struck = [row for row in rows if row["struck"]]
    wrong = [row for row in struck if row["wrong"]]
    ends = collections.Counter(row["exit"] for row in struck)
    print(f"\n{len(struck)} faults struck; exit codes " + ", ".join(f"{code}: {n}" for code, n in sorted(ends.items(), key=str)))
    print(f"{len(rows) - len(struck)} calls were not met again; {sum(row['struck'] > 1 for row in struck)} struck in several threads")
    for row in wrong:
        print(f"\nWRONG {row['id']}\n" + "\n".join(f"    {text}" for text in row["wrong"])
              + f"\n    again with: python3 bench/faults.py --only '{row['id']}' --dir DIR")
    if not struck:
        print("no fault struck: nothing was shown")
        return 1
    print(f"\n{len(wrong)} of {len(struck)} are wrong" if wrong else "\neach ended as it must")
    return 1 if wrong else 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--short", action="store_true", help=f"a sample of all commands but `run`, within {SHORT_S} s")
    arguments.add_argument("--cases", help="commands to disturb, separated by commas; default all")
    arguments.add_argument("--only", metavar="CASE:CALL:FILE:NUMBER:FAULT", help="one fault, as results name it")
    arguments.add_argument("--check-the-check", action="store_true", help="programs with a planted defect must be caught")
    arguments.add_argument("--most", type=int, default=4, help="of like calls on one file; 0 takes all")
    arguments.add_argument("--limit", type=int, default=0, help="faults of one command, drawn by the seed; 0 takes all")
    arguments.add_argument("--dir", help="keep folders and results here, and continue from them")
    arguments.add_argument("--seed", type=int, default=0, help="decides the sample")
    arguments.add_argument("--program", default=PROGRAM)
    given = arguments.parse_args()
    if shutil.which("strace") is None:
        sys.exit("strace is not installed")
    if not os.path.exists(given.program):
        sys.exit(f"no program at {given.program}; build first: cargo build --release")
    if given.check_the_check:
        import fault_plants
        sys.exit(fault_plants.check())
    given.program = os.path.abspath(given.program)
    missing = without_case(given.program)
    if missing:
        sys.exit(f"fault_cases.py has no case of {', '.join(missing)}")
    cases = CASES if not given.cases else [case for case in CASES if case.name in given.cases.split(",")]
    with tempfile.TemporaryDirectory() as temporary:
        place = os.path.realpath(given.dir or temporary)
        os.makedirs(place, exist_ok=True)
        bench = Bench(given, place)
        bench.make_ground()
        if given.only:
            rows = only(bench, given.only)
        elif given.short:
            # A whole run takes longer than all the others.
            rows = sample(bench, [case for case in cases if not case.like_by_name], time.monotonic() + SHORT_S)
        else:
            rows = whole(bench, cases)
        sys.exit(told(rows, given))


if __name__ == "__main__":
    main()
