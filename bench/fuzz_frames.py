#!/usr/bin/env python3
"""Send the judge and the candidate frames that no honest side sends.

The harness of `crates/idiolect/src/sandbox/harness/` is loaded as it runs, the judge's channel put on a pipe, and frames
written into it: honest messages, then mutated in their structure and in their bytes, and messages drawn from all tags that
values have. What must hold:

- judge: an operation returns, or raises one of what ends an exchange (Stopped, CannotCross, Opaque, CandidateFault). What it returns
  is plain data of the types of `values.py`, or a handle
- candidate: whatever a frame holds is answered with a message that the judge can read
- both: within a second of processor time, and within 1 GiB of memory

    python3 bench/fuzz_frames.py [--seconds 60] [--seed N]
    python3 bench/fuzz_frames.py --frame 'FRAME AS JSON'     # one frame to the judge, with what became of it
    python3 bench/fuzz_frames.py --check-the-check           # a planted defect must be found

Standard library only.
"""
import argparse
import json
import os
import random
import resource
import signal
import struct
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HARNESS = os.path.join(ROOT, "crates", "idiolect", "src", "sandbox", "harness")
PARTS = ["common", "values", "setup_classes", "candidate", "message", "channel", "handle", "judge", "confine"]
LIMIT_S = 1
CONFIG = {"idle_s": 5, "wall_s": 10, "output_bytes": 16 << 20}
# What ends an exchange, each with a verdict on this candidate alone.
ENDS = ["Stopped", "CannotCross", "Opaque", "CandidateFault"]
PLAIN = ["NoneType", "bool", "int", "float", "str", "list", "tuple", "dict", "set", "frozenset", "bytes", "bytearray", "complex", "range",
         "Decimal", "Fraction", "Counter", "OrderedDict", "defaultdict", "deque", "array", "timedelta", "datetime", "date", "time",
         "dict_keys", "dict_values", "dict_items", "slice"]
TAGS = ["tuple", "dict", "int", "set", "frozenset", "bytes", "bytearray", "complex", "range", "decimal", "fraction", "Counter",
        "OrderedDict", "defaultdict", "deque", "array", "timedelta", "datetime", "date", "time", "dict_keys", "dict_values", "dict_items",
        "slice", "known", "class", "instance", "member", "flags", "object", "callable", "iterator", "match", "function", "stream",
        "instances", "value", "maxlen", "typecode", ""]
SCALARS = [None, True, False, 0, 1, -1, 2, 1 << 31, 1 << 62, 1 << 70, -(1 << 63), 1e308, float("nan"), float("inf"), -0.0, "", "a", "\ud800",
           "\0", "0x" + "f" * 300, "-0x1", "1e999999", "9" * 400, "u", "w", "q", "builtins", "math", "pi", "a" * 3000]
HONEST = [
    None, [1, 2.5, "text", True], (1, (2, ())), {"a": [1], 2: {3}}, {1, 2}, frozenset("ab"), b"\0\xff", bytearray(b"x"), 1 << 100, 2 + 3j,
    range(3, 9, 2), slice(1, None, 2),
]


class TooSlow(BaseException):
    pass


def load():
    """The harness as one module, without the server's loop."""
    text = "".join(open(os.path.join(HARNESS, part + ".py")).read() for part in PARTS)
    space = {"__name__": "harness"}
    exec(compile(text, "harness", "exec"), space)
    return space


def allowed(x, harness, functions, depth=0):
    """Whether a value is plain data through and through, or a handle, a name that both sides have, or a function of the tests."""
    kind = type(x)
    if issubclass(kind, harness["Held"]) or id(x) in harness["NAME_OF"] or any(x is function for function in functions):
        return True
    if kind.__name__ not in PLAIN or kind.__module__ not in ("builtins", "decimal", "fractions", "collections", "array", "datetime"):
        return False
    if depth > 200 or kind in (str, bytes, bytearray, range, int):
        return True
    if isinstance(x, dict):
        return all(allowed(part, harness, functions, depth + 1) for pair in dict.items(x) for part in pair)
    if kind.__name__ in ("list", "tuple", "set", "frozenset", "deque", "dict_keys", "dict_values", "dict_items"):
        return all(allowed(part, harness, functions, depth + 1) for part in x)
    return True


def framed(data):
    return struct.pack(">I", len(data)) + data


def to_judge(harness, frames):
    """What becomes of an operation that these bytes answer: a word for it, or an error of the harness in words."""
    inward, candidate_out = os.pipe()
    candidate_in, outward = os.pipe()
    data = b"".join(frames)
    os.set_blocking(candidate_out, False)
    try:
        os.write(candidate_out, data)
    except BlockingIOError:
        pass
    os.close(candidate_out)
    channel = harness["Channel"](inward, outward, None, CONFIG, os.getpid())
    channel.lines = 3
    channel.functions = [len, lambda *args, **named: list(args)]
    try:
        result = channel.operate("call", [1], {"a": 1}, 3)
        return "returned" if allowed(result, harness, channel.functions) else f"WRONG: it returned a {type(result).__module__}.{type(result).__name__}"
    except tuple(harness[name] for name in ENDS) as error:
        return next(name for name in ENDS if isinstance(error, harness[name]))
    except TooSlow:
        return f"WRONG: more than {LIMIT_S} s of processor time"
    except BaseException as error:
        return f"WRONG: {type(error).__name__}: {str(error)[:100]}"
    finally:
        for fd in (inward, candidate_in, outward):
            os.close(fd)


def to_candidate(harness, candidate, message):
    """What the candidate answers: a word for it, or what is wrong."""
    sent = []
    candidate.send = lambda reply: sent.append(json.dumps(reply).encode("ascii"))
    candidate.receive = lambda: (_ for _ in ()).throw(EOFError())
    try:
        candidate.answer(message)
        return type(harness["parse_message"](sent[-1], 3)).__name__
    except TooSlow:
        return f"WRONG: more than {LIMIT_S} s of processor time"
    except BaseException as error:
        return f"WRONG: {type(error).__name__}: {str(error)[:100]}"


def drawn(rng, depth=0):
    """Some JSON in the shape of values."""
    if depth > 4 or rng.random() < 0.35:
        return rng.choice(SCALARS)
    several = [drawn(rng, depth + 1) for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 7]))]
    if rng.random() < 0.3:
        return several
    value = {rng.choice(TAGS): several if rng.random() < 0.8 else drawn(rng, depth + 1)}
    if rng.random() < 0.2:
        value[rng.choice(["maxlen", "typecode", "instances", "value"])] = drawn(rng, depth + 1)
    return value


def places(value, found):
    """Every list and object in some JSON with each of its keys."""
    if isinstance(value, (list, dict)):
        for key in range(len(value)) if isinstance(value, list) else list(value):
            found.append((value, key))
            places(value[key], found)
    return found


def mutated(value, rng):
    value = json.loads(json.dumps([value]))
    for _ in range(rng.choice([1, 1, 2, 4])):
        inside, key = rng.choice(places(value, []))
        how = rng.randrange(5)
        if how == 0:
            inside[key] = drawn(rng)
        elif how == 1:
            inside[key] = rng.choice(SCALARS)
        elif how == 2:
            inside[key] = [inside[key]] * rng.choice([0, 1, 2, 50])
        elif how == 3:
            inside[key] = {rng.choice(TAGS): inside[key]}
        else:
            other, name = rng.choice(places(value, []))
            inside[key] = json.loads(json.dumps(other[name]))
    return value[0]


def mutated_bytes(data, rng):
    data = bytearray(data)
    for _ in range(rng.choice([1, 2, 8])):
        at = rng.randrange(len(data) + 1)
        data[at:at + rng.choice([0, 1, 4])] = rng.choice([b"", b"\0", b"[", b"]", b'"', b"\xff", b"9" * 5000, b"[" * 3000, b"NaN", b"1e400"])
    return bytes(data)


def messages(harness):
    """Honest answers of a candidate, and honest questions of a judge."""
    plain = [harness["encode"](x, None) for x in HONEST]
    answers = [["ok", x, [[0, [2]]]] for x in plain] + [["ok", None, []], ["error", "ValueError", "no", 1, None], ["opaque", "no"],
              ["error", "ModuleNotFoundError", "no", None, "numpy"], ["back", 0, [[1]], {"dict": []}], ["back", 1, [1, 2], {"dict": []}],
              ["ok", {"object": 0}, []], ["ok", {"callable": 1}, []], ["ok", {"iterator": 2}, []]]
    questions = [["do", "call", [{"object": 0}, x], {"dict": []}] for x in plain] + [["do", name, [{"object": 0}, "a"], {"dict": []}]
                 for name in ("getattr", "delattr", "next")] + [["names", ["f"]], ["load", "def f(x):\n    return x", ""]]
    return answers, questions


def fuzz(harness, seconds, seed):
    rng, counts, wrong = random.Random(seed), {}, []
    answers, questions = messages(harness)
    candidate = harness["Candidate"]()
    candidate.objects.append(lambda *args, **named: args)
    began = time.monotonic()
    tries = 0
    while time.monotonic() < began + seconds and len(wrong) < 20:
        tries += 1
        signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT_S)
        if rng.random() < 0.75:
            frames = []
            for _ in range(rng.choice([1, 1, 2, 3])):
                message = mutated(rng.choice(answers), rng) if rng.random() < 0.8 else ["ok", drawn(rng), drawn(rng)]
                data = json.dumps(message).encode()
                frames.append(framed(mutated_bytes(data, rng) if rng.random() < 0.2 else data))
            side, what, end = "judge", frames, to_judge(harness, frames)
        else:
            message = mutated(rng.choice(questions), rng)
            side, what, end = "candidate", message, to_candidate(harness, candidate, message)
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        if end.startswith("WRONG"):
            wrong.append((side, end, what))
            print(f"{side}: {end}\n    {what!r:.600}", flush=True)
        key = side, end.split(":")[0]
        counts[key] = counts.get(key, 0) + 1
    for (side, end), count in sorted(counts.items()):
        print(f"{side:10} {end:16} {count:8}")
    print(f"{tries} tries in {time.monotonic() - began:.0f} s, {len(wrong)} wrong")
    if tries == 0 or len(counts) < 5:
        print("too little came to pass: nothing was shown")
        return 1
    return 1 if wrong else 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--frame", help="one frame to the judge, as JSON")
    arguments.add_argument("--check-the-check", action="store_true", help="a planted defect must be found")
    given = arguments.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))

    def slow(*_):
        raise TooSlow

    signal.signal(signal.SIGVTALRM, slow)
    harness = load()
    if given.frame:
        print(to_judge(harness, [framed(given.frame.encode())]))
        return 0
    if given.check_the_check:
        # Without its checks, the parser lets through what is no message.
        harness["expect"] = lambda kind, x: x
        found = fuzz(harness, 5, given.seed) == 1
        print("the planted defect is found" if found else "the planted defect is NOT found")
        return 0 if found else 1
    return fuzz(harness, given.seconds, given.seed)


if __name__ == "__main__":
    sys.exit(main())
