#!/usr/bin/env python3
"""Take the power away at every moment of a command, lose what was not synced, and run the command again.

Each command of `fault_cases.py` is run once under strace, with all that it writes. From the log this script rebuilds, after
each call that changes a file or folder, what a disk may hold if the power goes then, and starts the same command on that.
It must end in the bytes of an undisturbed run, or fail in words; data that is torn must never pass as whole.

What may be lost (as POSIX has it; a file system may promise more):

- content since the last fsync of the file: as it was then, as it is now, half of what was added, or zeros in its place,
  all of it or its first half
- names since the last fsync of their folder: none, all, or the first so many changes in their order. A rename within a
  folder is one change

At each moment: all lost; names kept with each of the contents; contents kept without the names; and mixtures in which each
file and folder draws its own. States that were there before are passed over.

    cargo build --release
    python3 bench/power_loss.py                      # every command, all moments
    python3 bench/power_loss.py --short              # a sample, 12 s
    python3 bench/power_loss.py --cases 'train,arms' [--keep DIR]   # keeps the folder of each wrong end

Needs strace; standard library only.
"""
import argparse
import collections
import hashlib
import os
import random
import re
import shutil
import sys
import tempfile
import time

import fault_cases
from fault_cases import CASES, PROGRAM, Reference, differences, fresh, last_line, ran, tree
from faults import faults_of_any, inputs_changed, is_own
from strace_log import calls, unescaped, watching

MOST = 400
MIXTURES = 3
SHORT_S = 12

# They change nothing, and no place in a file.
FOLLOWED_NOT = {"clone", "clone3", "statx", "newfstatat", "flock", "getdents64", "pread64"}

Row = collections.namedtuple("Row", "case moment variant code wrong said")


class File:
    def __init__(self, content=b""):
        self.now, self.durable = bytearray(content), bytes(content)

    def put(self, at, data):
        self.now.extend(bytes(max(0, at - len(self.now))))
        self.now[at:at + len(data)] = data

    def contents(self):
        """What a disk may hold, by name."""
        now, old = bytes(self.now), self.durable
        kept = len(old) if now.startswith(old) else 0
        middle = (kept + len(now)) // 2
        return {
            "lost": old,
            "kept": now,
            "half": now[:middle],
            "zeros": now[:kept] + bytes(len(now) - kept),
            "zeros before the rest": now[:kept] + bytes(middle - kept) + now[middle:],
        }


class Folder:
    def __init__(self):
        self.now, self.durable, self.changes = {}, {}, []

    def change(self, gone, name=None, node=None):
        """Takes a name away, gives one, or both at once."""
        apply(self.now, (gone, name, node))
        self.changes.append((gone, name, node))

    def sync(self):
        self.durable, self.changes = dict(self.now), []

    def names_after(self, count):
        names = dict(self.durable)
        for change in self.changes[:count]:
            apply(names, change)
        return names


def apply(names, change):
    gone, name, node = change
    names.pop(gone, None)
    if name is not None:
        names[name] = node


class Disk:
    """A folder of files as calls change it: what programs see, and what is durable."""

    def __init__(self, folder):
        self.folder = folder
        self.root = self.read(folder)
        self.open = {}
        # Each content once, however many states hold it.
        self.pool = {}

    def read(self, path):
        node = Folder()
        for entry in os.scandir(path):
            if entry.is_dir():
                node.now[entry.name] = self.read(entry.path)
            else:
                with open(entry.path, "rb") as file:
                    node.now[entry.name] = File(file.read())
        node.sync()
        return node

    def at(self, path):
        node = self.root
        parts = os.path.relpath(path, self.folder).split(os.sep)
        for part in parts if parts != ["."] else []:
            node = node.now.get(part)
            if node is None:
                return None
        return node

    def parent(self, path):
        return self.at(os.path.dirname(path)), os.path.basename(path)

    def after(self, call):
        """Follows a call that succeeded; whether it changed something, or made it durable."""
        path = call.path(self.folder)
        if call.value < 0 or call.name in FOLLOWED_NOT or not is_own(path, self.folder):
            return False
        if call.name in ("openat", "open"):
            return self.opened(call, path)
        if call.name in ("rename", "renameat", "renameat2"):
            (old, gone), (new, name) = (self.parent(os.path.normpath(os.path.join(self.folder, n))) for n in call.names())
            node = old.now[gone]
            if old is new:
                old.change(gone, name, node)
            else:
                old.change(gone)
                new.change(None, name, node)
        elif call.name in ("unlink", "unlinkat", "rmdir"):
            folder, name = self.parent(path)
            folder.change(name)
        elif call.name in ("mkdir", "mkdirat"):
            folder, name = self.parent(path)
            folder.change(None, name, Folder())
        elif call.name in ("fsync", "fdatasync"):
            node = self.open[call.descriptors[0][0]][0]
            if isinstance(node, Folder):
                node.sync()
            else:
                node.durable = bytes(node.now)
        else:
            return self.moved(call)
        return True

    def opened(self, call, path):
        node = self.at(path)
        if node is None:
            folder, name = self.parent(path)
            node = File()
            folder.change(None, name, node)
            changed = True
        else:
            changed = "O_TRUNC" in call.arguments and bool(node.now)
            if changed:
                node.now.clear()
        self.open[call.value] = [node, 0, "O_APPEND" in call.arguments]
        return changed

    def moved(self, call):
        """Reads, writes and seeks, which move the place in the file."""
        opened = self.open[call.descriptors[0][0]]
        node, at, appends = opened
        if call.name == "lseek":
            opened[1] = call.value
        elif call.name == "read":
            opened[1] += call.value
        elif "F_DUPFD" in call.arguments or call.name.startswith("dup"):
            # Both share one place in the file.
            self.open[call.value] = opened
        elif call.name == "write":
            at = len(node.now) if appends else at
            node.put(at, unescaped(call.strings[0])[: call.value])
            opened[1] = at + call.value
            return True
        elif call.name == "pwrite64":
            node.put(int(call.arguments.rsplit(",", 1)[1]), unescaped(call.strings[0])[: call.value])
            return True
        elif call.name == "ftruncate":
            length = int(call.arguments.rsplit(",", 1)[1])
            del node.now[length:]
            node.put(length, b"")
            return True
        elif call.name in ("copy_file_range", "writev"):
            sys.exit(f"{call.name}: this script does not follow it")
        return False

    def left(self, names_of, content_of):
        """What is there after the loss: paths with their bytes, folders with none."""
        found = {}

        def walk(node, path):
            for name, child in sorted(names_of(node).items()):
                below = os.path.join(path, name)
                if isinstance(child, Folder):
                    found[below] = None
                    walk(child, below)
                else:
                    content = content_of(child)
                    found[below] = self.pool.setdefault(content, content)

        walk(self.root, "")
        return found


def variants(disk, rng):
    """What a disk may hold now, by name."""
    for content in ("lost", "half", "zeros", "zeros before the rest"):
        yield f"names kept, content {content}", disk.left(lambda f: f.now, lambda f: f.contents()[content])
    yield "all lost", disk.left(lambda f: f.durable, lambda f: f.durable)
    yield "names lost, content kept", disk.left(lambda f: f.durable, lambda f: bytes(f.now))
    for number in range(MIXTURES):
        names = lambda f: f.names_after(rng.randint(0, len(f.changes)))
        yield f"mixture {number}", disk.left(names, lambda f: rng.choice(list(f.contents().values())))


def make(left, folder):
    if os.path.exists(folder):
        shutil.rmtree(folder)
    os.makedirs(folder)
    for path, content in left.items():
        path = os.path.join(folder, path)
        if content is None:
            os.makedirs(path)
        else:
            with open(path, "wb") as file:
                file.write(content)


def digest(left):
    whole = hashlib.sha256()
    for path, content in left.items():
        whole.update(repr((path, content is None, len(content or b""))).encode() + (content or b""))
    return whole.digest()


def judged(reference, folder):
    """The command on what the loss left: its exit code, what is wrong, and the words in which it refuses to continue."""
    code, _, words = ran(reference.command, folder)
    wrong = faults_of_any(code, words) + inputs_changed(reference, folder)
    changed = differences(reference.tree, tree(folder))
    refused = code == 1 and last_line(words) != reference.words
    if code in reference.codes and not refused:
        if changed:
            wrong.append(f"it says that it is done ({code}), but {changed}")
    elif refused:
        if "error: " not in words:
            wrong.append("it fails without an error in words")
    elif code is not None:
        wrong.append(f"exit {code} is none that fits: {last_line(words)}")
    return code, wrong, last_line(words) if refused else ""


def losses(case, program, ground, place, most, seed, until=float("inf"), keep=None):
    """One row for each state that a loss of power may leave."""
    work, log = os.path.join(place, "work"), os.path.join(place, "strace.log")
    reference = Reference(case, program, ground, work)
    fresh(case, ground, work)
    disk = Disk(work)
    code, _, err = ran(watching(log, kept=1 << 26) + reference.command, work)
    if code != reference.code:
        sys.exit(f"{case.name}: under strace the exit code is {code}:\n{err}")
    found = calls(log)
    fresh(case, ground, work)
    moments = [number for number, call in enumerate(found) if disk.after(call)]
    rng, seen, states = random.Random(seed), set(), []
    taken = set(moments if len(moments) <= most else rng.sample(moments, most))
    disk = Disk(work)
    for number, call in enumerate(found):
        disk.after(call)
        for variant, left in variants(disk, rng) if number in taken else ():
            if digest(left) not in seen:
                seen.add(digest(left))
                states.append((f"after call {number}, {call.name} of {os.path.relpath(call.path(work), work)}", variant, left))
    whole = disk.left(lambda f: f.now, lambda f: bytes(f.now))
    check_followed(whole, reference, os.path.join(place, "followed"))
    rows = []
    for moment, variant, left in states if len(states) <= most else rng.sample(states, most):
        if time.monotonic() > until:
            break
        make(left, work)
        rows.append(Row(case.name, moment, variant, *judged(reference, work)))
        if keep and rows[-1].wrong:
            make(left, os.path.join(keep, f"{case.name}-{len(rows)}"))
    return rows


def check_followed(whole, reference, folder):
    """What the calls were followed to is what the command left, or this script misread them."""
    make(whole, folder)
    misread = differences(reference.tree, tree(folder))
    if misread:
        sys.exit(f"the log of system calls was misread: {misread}")


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--short", action="store_true", help=f"a sample of all commands but `run`, within {SHORT_S} s")
    arguments.add_argument("--cases", help="commands, separated by commas; default all")
    arguments.add_argument("--most", type=int, default=MOST, help="states of one command; those beyond are drawn from")
    arguments.add_argument("--keep", metavar="DIR", help="keep here what the loss left where the end was wrong")
    arguments.add_argument("--seed", type=int, default=0, help="decides mixtures and samples")
    arguments.add_argument("--program", default=PROGRAM)
    given = arguments.parse_args()
    if shutil.which("strace") is None:
        sys.exit("strace is not installed")
    if not os.path.exists(given.program):
        sys.exit(f"no program at {given.program}; build first: cargo build --release")
    program = os.path.abspath(given.program)
    until = time.monotonic() + SHORT_S if given.short else float("inf")
    cases = [case for case in CASES if not given.cases or case.name in given.cases.split(",")]
    if given.short:
        # A whole run takes longer than all the others.
        cases = [case for case in cases if not case.like_by_name]
        random.Random(given.seed).shuffle(cases)
    rows = []
    with tempfile.TemporaryDirectory() as place:
        place = os.path.realpath(place)
        ground = os.path.join(place, "ground")
        fault_cases.make_ground(ground, program)
        for case in cases:
            if time.monotonic() > until:
                print(f"no time for {case.name}", flush=True)
                continue
            of_case = losses(case, program, ground, place, 6 if given.short else given.most, given.seed, until, given.keep)
            rows += of_case
            for row in of_case:
                if row.wrong:
                    print(f"WRONG {case.name}: {row.moment}; {row.variant}\n    " + "\n    ".join(row.wrong), flush=True)
            refused = [row for row in of_case if row.said and not row.wrong]
            print(f"{case.name}: {len(of_case)} states, {sum(bool(row.wrong) for row in of_case)} wrong, "
                  f"{len(refused)} refused in words", flush=True)
            for said, count in collections.Counter(re.sub(r"\d+", "N", row.said) for row in refused).most_common(3):
                print(f"    {count} × {said}", flush=True)
    wrong = [row for row in rows if row.wrong]
    print(f"{len(rows)} states, {len(wrong)} wrong")
    if not rows:
        print("no state was tried: nothing was shown")
    sys.exit(1 if wrong or not rows else 0)


if __name__ == "__main__":
    main()
