"""Small programs with one planted defect each, which `faults.py` and `power_loss.py` must catch, and a careful one, which they
must not blame. `python3 bench/faults.py --check-the-check` runs them. Standard library only.
"""
import os
import sys
import tempfile

import fault_cases
import faults
import power_loss
from fault_cases import Case, Reference, fresh

# Reads in.txt, writes out.txt.
FRAME = """
import os, signal, sys
def end(words, code):
    os.write(2, words.encode()); os._exit(code)
def stop(*_):
    {stopped}
signal.signal(signal.SIGTERM, stop)
def put(name, how):
    file = os.open(name, how | os.O_CREAT | os.O_WRONLY)
    for half in (text[:3], text[3:]):
        os.write(file, half.encode())
    {sync}
    os.close(file)
try:
    with open("in.txt") as file:
        text = file.read()
    {work}
except OSError as error:
    {failed}
print("done")
"""
CAREFUL = {
    "stopped": 'end("interrupted", 130)',
    "sync": "os.fsync(file)",
    "work": 'put("out.tmp", os.O_TRUNC); os.rename("out.tmp", "out.txt")',
    "failed": 'end("error: out.txt from in.txt: " + str(error), 1)',
}
# What differs from the careful program, and the words in which it must be blamed.
PLANTS = {
    "takes a torn output for a whole one": ({"work": 'os.path.exists("out.txt") or put("out.txt", 0)'}, "run again: out.txt has other bytes"),
    "passes over errors": ({"failed": "pass"}, "it says that it is done (0), but out.txt is missing"),
    "fails without words": ({"failed": 'end("", 1)'}, "without an error in words"),
    "does not name the file": ({"failed": 'end("error: no", 1)'}, "the error does not name"),
    "aborts": ({"failed": "os.abort()"}, "it panics"),
    "hangs": ({"failed": "signal.pause()"}, "it hangs"),
    "ends with a code of its own": ({"failed": "os._exit(7)"}, "exit 7 is none that fits"),
    "is silent about a signal": ({"stopped": "os._exit(130)"}, "exit 130 without `interrupted`"),
    "spoils its input": ({"failed": 'os.truncate("in.txt", 1); ' + CAREFUL["failed"]}, "the input in.txt is changed"),
    "leaves a temporary": ({"work": 'name = "other.tmp" if os.path.exists("out.tmp") else "out.tmp"; put(name, os.O_TRUNC); '
                                    'os.rename(name, "out.txt")'}, "run again: out.tmp should not be there"),
    "leaves a lock": ({"work": 'os.close(os.open("lock", os.O_CREAT | os.O_EXCL)); ' + CAREFUL["work"] + '; os.unlink("lock")'},
                      "run again: exit 1"),
    "prints what it could not read": ({"work": CAREFUL["work"] + '\n    try: print(len(os.listdir()))\n    except OSError: print(0)'},
                                      "it says that it is done, but prints another result"),
}
# The same for a power loss. Each takes what lies there for done.
AT_A_LOSS = {
    "does not sync before it renames": {"sync": "", "work": 'os.path.exists("out.txt") or (' + CAREFUL["work"].replace("; ", ", ") + ")"},
    "writes in place": {"work": 'os.path.exists("out.txt") or put("out.txt", 0)'},
}


def case_of(changes):
    case = Case("plant", "", ["in.txt"], threads=False)
    case.arguments = ["-I", "-S", "-c", FRAME.format(**{**CAREFUL, **changes})]
    return case


def found_by_faults(case, ground, place, expected):
    """What `faults.py` says of a program, over its calls and faults, until it says what is expected."""
    work, log = os.path.join(place, "work"), os.path.join(place, "log")
    reference = Reference(case, sys.executable, ground, work)
    words = []
    for site in faults.sites(faults.trace(case, reference, ground, work, log), work):
        for fault in faults.ERRORS + faults.SIGNALS:
            fresh(case, ground, work)
            first = faults.disturbed(site, fault, reference.command, work, log)
            words += faults.judged(site, fault, first, reference, work) + faults.again(reference, work)
            if expected and any(expected in text for text in words):
                return words
    return words


def check():
    """Runs all plants; the exit code."""
    fault_cases.TIMEOUT_S = 2
    missed = []
    with tempfile.TemporaryDirectory() as place:
        place = os.path.realpath(place)
        ground = os.path.join(place, "ground")
        os.makedirs(ground)
        with open(os.path.join(ground, "in.txt"), "w") as file:
            file.write("some text\n")
        for name, (changes, expected) in [("is careful", ({}, None)), *PLANTS.items()]:
            words = found_by_faults(case_of(changes), ground, place, expected)
            caught = any(expected in text for text in words) if expected else not words
            print(f"faults: a program that {name}: {'as it must be' if caught else f'NOT caught, only {words}'}", flush=True)
            missed += [] if caught else [name]
        for name, changes in [("is careful", {}), *AT_A_LOSS.items()]:
            rows = power_loss.losses(case_of(changes), sys.executable, ground, place, power_loss.MOST, seed=0)
            wrong = [row for row in rows if row.wrong]
            caught = bool(wrong) == bool(changes)
            print(f"power loss: a program that {name}: {'as it must be' if caught else 'NOT as it must be'} "
                  f"({len(wrong)} of {len(rows)} states)", flush=True)
            missed += [] if caught else [name]
    return 1 if missed else 0
