"""System calls out of a log of `strace -f -y -o FILE`. Standard library only."""
import os
import re

# Calls by which a program reads, writes and names files.
FILE_CALLS = ["openat", "open", "read", "pread64", "write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "rename", "renameat",
              "renameat2", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "lseek", "flock", "statx", "newfstatat", "getdents64",
              "copy_file_range", "fcntl", "dup", "dup2", "dup3"]
# By which it starts threads and other processes.
STARTS = ["clone", "clone3"]

LINE = re.compile(r"^(\d+) +(.*)$")
RESUMED = re.compile(r"^<\.\.\. \w+ resumed>(.*)$")
CALL = re.compile(r"^(\w+)\((.*)\) += (.+)$", re.S)
# A string, a descriptor with its path, or a folder that relative names begin in.
PART = re.compile(r'"((?:[^"\\]|\\.)*)"(\.\.\.)?|\b(\d+)<((?:[^>\\]|\\.)*)>|AT_FDCWD<((?:[^>\\]|\\.)*)>')


class Call:
    """One call: `strings` and `descriptors` (number, path) as they stand in its arguments, in order."""

    def __init__(self, pid, name, arguments, result):
        self.pid, self.name, self.arguments, self.result = pid, name, arguments, result
        self.strings, self.descriptors, self.cwd = [], [], None
        for part in PART.finditer(arguments):
            text, _, number, path, cwd = part.groups()
            if text is not None:
                self.strings.append(text)
            elif number is not None:
                self.descriptors.append((int(number), unescaped(path).decode(errors="surrogateescape")))
            else:
                self.cwd = unescaped(cwd).decode(errors="surrogateescape")

    @property
    def value(self):
        """What it returned, negative where it failed."""
        found = re.match(r"-?\d+", self.result)
        return int(found.group()) if found else -1

    def path(self, cwd):
        """The absolute path of the file that the call is about; none where it is about none."""
        name = self.names()[0] if self.takes_names() and self.names() else None
        if name is None:
            return self.descriptors[0][1] if self.descriptors else None
        base = self.descriptors[0][1] if self.descriptors else cwd
        return os.path.normpath(os.path.join(base, name)) if name else base

    def takes_names(self):
        return self.name in NAMES

    def names(self):
        return [unescaped(text).decode(errors="surrogateescape") for text in self.strings[:NAMES.get(self.name, 0)]]

    def files(self, cwd):
        """The absolute paths by which `strace -P` would take the call."""
        if self.descriptors:
            return {path for _, path in self.descriptors}
        return {os.path.normpath(os.path.join(cwd, name)) for name in self.names()}


# How many of the strings of a call are names of files.
NAMES = {"openat": 1, "open": 1, "rename": 2, "renameat": 2, "renameat2": 2, "unlink": 1, "unlinkat": 1, "mkdir": 1, "mkdirat": 1,
         "rmdir": 1, "statx": 1, "newfstatat": 1}


def unescaped(text):
    """The bytes of a string as strace writes it."""
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1")


def calls(path):
    """The calls of the program itself, in the order in which they ended; not those of processes that it started."""
    found = list(every_call(path))
    threads = {(call.pid, call.value) for call in found if call.name in STARTS and "CLONE_THREAD" in call.arguments}
    own, more = set(), {found[0].pid} if found else set()
    while more:
        own |= more
        more = {thread for pid, thread in threads if pid in own} - own
    return [call for call in found if call.pid in own]


def every_call(path):
    unfinished = {}
    with open(path, encoding="latin-1") as file:
        for line in file:
            found = LINE.match(line.rstrip("\n"))
            if not found:
                continue
            pid, text = int(found.group(1)), found.group(2)
            if text.endswith("<unfinished ...>"):
                unfinished[pid] = text[: -len("<unfinished ...>")]
                continue
            resumed = RESUMED.match(text)
            if resumed:
                text = unfinished.pop(pid, "") + resumed.group(1)
            call = CALL.match(text)
            if call:
                yield Call(pid, *call.groups())


def watching(log, kept=0):
    """The beginning of a command line that writes such a log, with so many bytes of what is read and written."""
    names = ",".join("?" + name for name in FILE_CALLS + STARTS)  # a machine need not have each
    return ["strace", "-f", "--seccomp-bpf", "-y", "-s", str(kept), "-o", log, "-e", "trace=" + names]
