"""Judges Python programs one after another; started by the sandbox, never by hand.

One program in several files, joined in this order: common, values, setup_classes, candidate, message,
channel, handle, judge, confine, server.

Three kinds of process, each forked from the one before:

  server     keeps a warm interpreter, reads nothing but that there is a request, forks a judge
  judge      forks a candidate, then reads the request; runs the tests and reports the verdict
  candidate  runs the code under test and answers the judge's calls

A candidate is forked before its judge knows tests or nonce and holds no descriptor but its two
pipes to the judge, so nothing in its memory or its reach can read or forge a verdict. Trust ends at
the bytes of those pipes: `message` parses them into one of four kinds of message, cut to size, and
`values` rebuilds plain data of known types from it. An object that is no plain data stays with the
candidate; the judge holds a `handle`, whose attributes and calls are questions to the candidate and
which fails the test that applies an operator or a protocol of Python to it. So a test compares values
by the judge's own rules, whatever the candidate has done to its interpreter.

Classes of the setup are defined on both sides; their instances cross as their state.
"""
import sys

# A file in the working directory must not stand in for a module.
sys.path[:] = [entry for entry in sys.path if entry]

import _socket, array, ast, bisect, builtins, calendar, cmath, collections, copy, ctypes, datetime, decimal
import enum, errno, fcntl, fractions, functools, gc, heapq, importlib.machinery, inspect, io, itertools, json, math, numbers
import operator, os, random, re, resource, select, signal, statistics, string, struct, textwrap
import time, traceback, types, typing

LINUX = sys.platform.startswith("linux")
REQUESTS, REPORTS, NULL = 5, 6, 7  # descriptors of the server and of judges
CANDIDATE_IN, CANDIDATE_OUT = 10, 11  # a candidate's only ones, beside 0 to 2 on /dev/null
MODULES = {
    "array", "bisect", "calendar", "cmath", "collections", "copy", "datetime", "decimal",
    "fractions", "functools", "heapq", "itertools", "math", "numbers", "operator", "random", "re",
    "statistics", "string", "sys", "textwrap", "time", "typing",
}
# Names of modules that a test means whatever the code calls so. The others are words of programs, or
# what such a module holds under its own name; they mean the module where a test asks for an attribute.
FIRM = MODULES - {
    "array", "bisect", "calendar", "copy", "datetime", "numbers", "operator", "random", "string", "time",
}
ALIASES = {"np": "numpy", "numpy": "numpy"}
GIVEN = [
    "bisect", "collections", "copy", "datetime", "functools", "heapq", "itertools", "math",
    "operator", "random", "re", "string", "sys", "typing",
]
# Names of the library that a test may use without an import, as the reference solution has one.
LIBRARY = {
    "Counter": collections.Counter, "OrderedDict": collections.OrderedDict,
    "defaultdict": collections.defaultdict, "deque": collections.deque,
    "Decimal": decimal.Decimal, "Fraction": fractions.Fraction, "isclose": math.isclose,
    "deepcopy": copy.deepcopy,
}
# Built-in functions that wrap another's result in a test more often than they are what is tested.
WRAPPERS = {
    "abs", "all", "any", "bool", "bytes", "dict", "enumerate", "filter", "float", "frozenset", "int",
    "isinstance", "iter", "len", "list", "map", "next", "range", "repr", "reversed", "round", "set",
    "sorted", "str", "tuple", "type", "zip",
}
# Modules that a program means as a file of its own.
OWN_FILES = {
    "candidate", "code", "helper", "helpers", "main", "module", "my_module", "mymodule", "solution",
    "solutions", "tests", "utils", "your_module", "yourmodule",
}


def known_objects():
    """What both sides have and neither can change: classes, functions and exceptions by their names."""
    classes = [
        bool, bytearray, bytes, complex, dict, float, frozenset, int, list, object, range, set, slice,
        str, tuple, type, enumerate, filter, map, reversed, zip, collections.Counter,
        collections.OrderedDict, collections.defaultdict, collections.deque, datetime.date,
        datetime.datetime, datetime.time, datetime.timedelta, decimal.Decimal, fractions.Fraction,
    ]
    known = {(c.__module__, c.__qualname__): c for c in classes}
    functions = [
        abs, all, any, ascii, bin, callable, chr, divmod, format, hex, isinstance, issubclass, iter, len,
        max, min, next, oct, ord, pow, repr, round, sorted, sum, functools.reduce,
    ]
    known.update({(f.__module__, f.__name__): f for f in functions})
    for name, kind in vars(builtins).items():
        if isinstance(kind, type) and issubclass(kind, BaseException):
            known["builtins", name] = kind
    for module in (itertools, math, operator):
        for name, value in vars(module).items():
            if callable(value) and not name.startswith("_"):
                known[module.__name__, name] = value
    for kind in (bytes, dict, float, int, list, set, str, tuple):
        for name, value in vars(kind).items():
            if callable(value) and not name.startswith("_") and getattr(kind, name) is value:
                known[kind.__name__, name] = value
    return known


KNOWN = known_objects()
NAME_OF = {id(value): name for name, value in KNOWN.items()}


class Stopped(BaseException):
    """The candidate is gone, late or talks nonsense. No `except Exception` of a test holds it."""


class CannotCross(BaseException):
    """A value of a test or of a class of the setup that cannot be rebuilt on the other side."""


class Opaque(BaseException):
    """A test applies an operator or a protocol to an object that stays with the candidate."""


class CandidateFault(Exception):
    """An exception that the candidate raised, in its words."""

    line = missing = None


def words_of(error):
    """What an exception says, where it says anything: its `__str__` may be the candidate's."""
    try:
        return str(error)[:300]
    except BaseException:
        return ""


# ---- descriptors ---------------------------------------------------------------------------------

def read_exactly(fd, n):
    parts = []
    while n:
        part = os.read(fd, min(n, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        n -= len(part)
    return b"".join(parts)


def read_frame(fd):
    return read_exactly(fd, struct.unpack(">I", read_exactly(fd, 4))[0])


def write_frame(fd, message):
    data = json.dumps(message).encode("ascii")
    data = struct.pack(">I", len(data)) + data
    while data:
        data = data[os.write(fd, data):]
