"""Judges Python programs one after another; started by the sandbox, never by hand.

Three kinds of process, each forked from the one before:

  server     keeps a warm interpreter, reads nothing but that there is a request, forks a judge
  judge      forks a candidate, then reads the request; runs the tests and reports the verdict
  candidate  runs the code under test and answers the judge's calls

A candidate is forked before its judge knows tests or nonce and holds no descriptor but its two
pipes to the judge, so nothing in its memory or its reach can tell or forge a verdict. What it
returns crosses as plain data, rebuilt by the judge; an object that is no plain data stays with the
candidate, and the judge holds a handle that equals nothing but itself. So a test compares values by
the judge's own rules, whatever the candidate has done to its interpreter.
"""
import sys

# A file in the working directory must not stand in for a module.
sys.path[:] = [entry for entry in sys.path if entry]

import array, ast, bisect, builtins, calendar, cmath, collections, copy, ctypes, datetime, decimal
import fractions, functools, gc, heapq, importlib, inspect, io, itertools, json, math, numbers
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
GIVEN = [
    "bisect", "collections", "copy", "datetime", "functools", "heapq", "itertools", "math",
    "operator", "random", "re", "string", "sys", "typing",
]
CLASSES = {
    (c.__module__, c.__qualname__): c
    for c in [
        bool, bytearray, bytes, complex, dict, float, frozenset, int, list, object, range, set, str,
        tuple, type, collections.Counter, collections.OrderedDict, collections.defaultdict,
        collections.deque, datetime.date, datetime.datetime, datetime.time, datetime.timedelta,
        decimal.Decimal, fractions.Fraction,
    ]
}


class Stopped(BaseException):
    """The candidate is gone, late or talks nonsense. No `except Exception` of a test holds it."""


class CandidateFault(Exception):
    """An exception that the candidate raised, in its words."""

    line = None


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


# ---- values --------------------------------------------------------------------------------------

def encode(x, opaque):
    """A value as JSON; `opaque` names what is no plain data."""
    kind = type(x)
    if x is None or kind is bool or kind is str or kind is float:
        return x
    if kind is int:
        return x if -(1 << 62) < x < 1 << 62 else {"int": hex(x)}
    several = lambda items: [encode(item, opaque) for item in items]
    if kind is list:
        return several(x)
    if kind is tuple:
        return {"tuple": several(x)}
    if kind is dict:
        return {"dict": [[encode(k, opaque), encode(v, opaque)] for k, v in dict.items(x)]}
    if kind is set or kind is frozenset:
        return {kind.__name__: several(x)}
    if kind is bytes or kind is bytearray:
        return {kind.__name__: x.decode("latin-1")}
    if kind is Remote:
        return opaque(x)
    if kind is complex:
        return {"complex": [x.real, x.imag]}
    if kind is range:
        return {"range": several([x.start, x.stop, x.step])}
    if kind is decimal.Decimal:
        return {"decimal": str(x)}
    if kind is fractions.Fraction:
        return {"fraction": several([x.numerator, x.denominator])}
    if kind is collections.Counter or kind is collections.OrderedDict or kind is collections.defaultdict:
        return {kind.__name__: [[encode(k, opaque), encode(v, opaque)] for k, v in dict.items(x)]}
    if kind is collections.deque:
        return {"deque": several(x), "maxlen": x.maxlen}
    if kind is datetime.timedelta:
        return {"timedelta": [x.days, x.seconds, x.microseconds]}
    if kind is datetime.datetime and x.tzinfo is None:
        return {"datetime": [x.year, x.month, x.day, x.hour, x.minute, x.second, x.microsecond]}
    if kind is datetime.date:
        return {"date": [x.year, x.month, x.day]}
    if kind is datetime.time and x.tzinfo is None:
        return {"time": [x.hour, x.minute, x.second, x.microsecond]}
    if kind is type({}.keys()) or kind is type({}.values()):
        return {kind.__name__: several(x)}
    if kind is type({}.items()):
        return {"dict_items": [[encode(k, opaque), encode(v, opaque)] for k, v in x]}
    if isinstance(x, type):
        name = (x.__module__, x.__qualname__)
        if CLASSES.get(name) is x:
            return {"class": list(name)}
        return opaque(x)
    # A class of the candidate's own that is a kind of value counts as that value: what it overrides
    # is no business of the tests.
    if isinstance(x, int):
        return encode(int.__index__(x), opaque)
    if isinstance(x, float):
        return float.__float__(x)
    if isinstance(x, str):
        return str.__str__(x)
    for base in (tuple, list, set, frozenset):
        if isinstance(x, base):
            return encode(base(base.__iter__(x)), opaque)
    if isinstance(x, dict):
        return {"dict": [[encode(k, opaque), encode(v, opaque)] for k, v in dict.items(x)]}
    return opaque(x)


def decode(m, opaque):
    """The value of some JSON; `opaque` gives what stands for a handle."""
    if type(m) is list:
        return [decode(item, opaque) for item in m]
    if type(m) is not dict:
        return m
    tag, content = next(iter(m.items()))
    several = lambda: [decode(item, opaque) for item in content]
    pairs = lambda: [(decode(k, opaque), decode(v, opaque)) for k, v in content]
    if tag == "int":
        return int(content, 16)
    if tag == "tuple":
        return tuple(several())
    if tag == "dict":
        return dict(pairs())
    if tag == "set":
        return set(several())
    if tag == "frozenset":
        return frozenset(several())
    if tag == "bytes":
        return content.encode("latin-1")
    if tag == "bytearray":
        return bytearray(content.encode("latin-1"))
    if tag == "complex":
        return complex(*[float(part) for part in content])
    if tag == "range":
        return range(*several())
    if tag == "decimal":
        return decimal.Decimal(content)
    if tag == "fraction":
        return fractions.Fraction(*several())
    if tag == "Counter":
        return collections.Counter(dict(pairs()))
    if tag == "OrderedDict":
        return collections.OrderedDict(pairs())
    if tag == "defaultdict":
        return collections.defaultdict(None, pairs())
    if tag == "deque":
        return collections.deque(several(), m.get("maxlen"))
    if tag in ("timedelta", "datetime", "date", "time"):
        return getattr(datetime, tag)(*[int(part) for part in content])
    if tag == "dict_keys":
        return dict.fromkeys(several()).keys()
    if tag == "dict_values":
        return dict(enumerate(several())).values()
    if tag == "dict_items":
        return dict(pairs()).items()
    if tag == "class":
        return CLASSES[tuple(content)]
    return opaque(tag, content)


# ---- the candidate -------------------------------------------------------------------------------

OPERATIONS = {
    "call": lambda f, *args, **named: f(*args, **named),
    "getattr": getattr, "setattr": setattr, "delattr": delattr, "len": len, "bool": bool,
    "str": str, "repr": repr, "iter": iter, "next": next, "hash": hash, "int": int, "float": float,
    "abs": operator.abs, "neg": operator.neg, "contains": operator.contains,
    "getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem,
    "eq": operator.eq, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "pow": operator.pow,
    "and": operator.and_, "or": operator.or_, "xor": operator.xor,
}
MUTABLE = (list, dict, set, bytearray, collections.deque)


class Candidate:
    """The code under test and the objects that the judge holds handles of."""

    def __init__(self):
        self.module = types.ModuleType("candidate")
        # Imports that a prompt shows above the code, or that its writer took for granted.
        self.module.__dict__.update({name: getattr(typing, name) for name in typing.__all__})
        self.module.__dict__.update({name: sys.modules[name] for name in GIVEN})
        self.objects = []
        sys.modules["candidate"] = self.module

    def send(self, message):
        write_frame(CANDIDATE_OUT, message)

    def receive(self):
        return json.loads(read_frame(CANDIDATE_IN))

    def encode(self, x):
        def handle(x):
            self.objects.append(x)
            return {"object": len(self.objects) - 1}
        return encode(x, handle)

    def decode(self, m):
        def known(tag, content):
            if tag == "object":
                return self.objects[content]
            return lambda *args, **named: self.call_back(content, args, named)
        return decode(m, known)

    def call_back(self, function, args, named):
        """Calls a function of the judge's, and meanwhile answers the judge."""
        self.send(["back", function, self.encode(list(args)), self.encode(named)])
        while True:
            message = self.receive()
            if message[0] == "ok":
                return self.decode(message[1])
            if message[0] == "error":
                raise RuntimeError(message[1])
            self.answer(message)

    def serve(self):
        while True:
            self.answer(self.receive())

    def answer(self, message):
        try:
            reply = self.carry_out(*message)
        except BaseException as error:
            reply = described(error)
        self.send(reply)

    def carry_out(self, what, *message):
        if what == "load":
            code = compile(message[0], "candidate.py", "exec", dont_inherit=True)
            exec(code, self.module.__dict__)
            return ["ok", None, []]
        if what == "names":
            return ["ok", {name: self.named(name) for name in message[0]}, []]
        name, args, named = message
        args, named = self.decode(args), self.decode(named)
        before = [self.encode(arg) if type(arg) in MUTABLE else None for arg in args]
        result = self.encode(OPERATIONS[name](*args, **named))
        changed = []
        for index, (arg, old) in enumerate(zip(args, before)):
            new = self.encode(arg) if old is not None else None
            if new != old:
                changed.append([index, new])
        return ["ok", result, changed]

    def named(self, name):
        """What a name of the code's outermost level stands for."""
        if name not in self.module.__dict__:
            return None
        value = self.module.__dict__[name]
        if isinstance(value, types.ModuleType):
            return {"module": value.__name__}
        return {"value": self.encode(value)}


def described(error):
    line = None
    if isinstance(error, SyntaxError) and error.filename == "candidate.py":
        line = error.lineno
        text = error.msg
    else:
        for frame, at in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename == "candidate.py":
                line = at
        try:
            text = str(error)[:300]
        except BaseException:
            text = ""
    return ["error", type(error).__name__[:100], text, line]


def run_candidate(config, inward, outward):
    """Gives up everything but two pipes, then serves."""
    for fd in (0, 1, 2):
        os.dup2(NULL, fd)
    os.dup2(inward, CANDIDATE_IN)
    os.dup2(outward, CANDIDATE_OUT)
    os.closerange(3, CANDIDATE_IN)
    os.closerange(CANDIDATE_OUT + 1, 1024)
    os.environ.clear()
    sys.argv[:] = ["candidate.py"]
    die_with_parent()
    limit(resource.RLIMIT_AS, config["memory_bytes"])
    resource.setrlimit(resource.RLIMIT_CPU, (config["cpu_s"], config["cpu_s"] + 1))
    limit(resource.RLIMIT_FSIZE, 0)
    limit(resource.RLIMIT_NOFILE, 64)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    filter_calls(config["candidate_filters"])
    Candidate().serve()


# ---- the judge -----------------------------------------------------------------------------------

class Channel:
    """A judge's side of the pipes: nothing blocks for good, nothing grows past the limit."""

    def __init__(self, inward, outward, config, pid):
        self.inward, self.outward = inward, outward
        self.patience_s, self.left = config["idle_s"], config["output_bytes"]
        self.pid, self.cpu_s = pid, 0.0
        self.deadline = time.monotonic() + self.patience_s
        self.functions = []
        os.set_blocking(inward, False)
        os.set_blocking(outward, False)

    def wait(self, fd, event):
        poller = select.poll()
        poller.register(fd, event)
        while not poller.poll(max(0.0, self.deadline - time.monotonic()) * 1000):
            # On a busy machine a candidate may wait its turn; one that computes is stopped by its
            # limit of CPU time.
            cpu_s = cpu_time(self.pid)
            if cpu_s < self.cpu_s + 0.5:
                raise Stopped("idle")
            self.cpu_s, self.deadline = cpu_s, time.monotonic() + self.patience_s

    def read(self, n):
        parts = []
        while n:
            try:
                part = os.read(self.inward, min(n, 1 << 20))
            except BlockingIOError:
                self.wait(self.inward, select.POLLIN)
                continue
            if not part:
                raise Stopped("gone")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def send(self, message):
        data = json.dumps(message).encode("ascii")
        data = struct.pack(">I", len(data)) + data
        while data:
            try:
                data = data[os.write(self.outward, data):]
            except BlockingIOError:
                self.wait(self.outward, select.POLLOUT)
            except OSError:
                raise Stopped("gone")

    def receive(self):
        size = struct.unpack(">I", self.read(4))[0]
        self.left -= size
        if self.left < 0:
            raise Stopped("sent more than the limit")
        try:
            message = json.loads(self.read(size))
            kind = message[0]
            if kind not in ("ok", "error", "back"):
                raise ValueError
            return message
        except (ValueError, RecursionError, IndexError, KeyError, TypeError):
            raise Stopped("sent what is no answer")

    def request(self, message):
        """The answer to a message; meanwhile the candidate may call functions of the tests."""
        self.send(message)
        while True:
            answer = self.receive()
            if answer[0] == "back":
                self.call(answer)
                continue
            if answer[0] == "error":
                raise fault(answer)
            if len(answer) != 3:
                raise Stopped("sent what is no answer")
            return answer[1], answer[2]

    def call(self, message):
        try:
            _, function, args, named = message
            function, args, named = self.functions[function], self.decode(args), self.decode(named)
        except (ValueError, TypeError, IndexError):
            raise Stopped("sent what is no answer")
        try:
            answer = ["ok", self.encode(function(*args, **named))]
        except Exception as error:
            answer = ["error", f"{type(error).__name__}: {error}"[:300]]
        self.send(answer)

    def operate(self, name, *args, **named):
        result, changed = self.request(["do", name, self.encode(list(args)), self.encode(named)])
        result = self.decode(result)
        try:
            for index, new in changed:
                replace(args[index], self.decode(new))
        except (ValueError, TypeError, IndexError):
            raise Stopped("sent what is no answer")
        return result

    def encode(self, x):
        def foreign(x):
            if type(x) is Remote:
                return {"object": object.__getattribute__(x, "handle")}
            if callable(x):
                self.functions.append(x)
                return {"function": len(self.functions) - 1}
            raise TypeError(f"a test hands over a {type(x).__name__}, which cannot cross")
        return encode(x, foreign)

    def decode(self, m):
        def handle(tag, content):
            if tag != "object" or type(content) is not int:
                raise ValueError
            return Remote(self, content)
        try:
            return decode(m, handle)
        except MemoryError:
            raise Stopped("sent values that need too much memory")
        except Exception:
            raise Stopped("sent what is no value")


def replace(old, new):
    """Makes an argument what the candidate made of its copy."""
    if type(old) is not type(new):
        raise TypeError
    if type(old) is list or type(old) is bytearray:
        old[:] = new
    elif type(old) is dict or type(old) is set:
        old.clear()
        old.update(new)
    elif type(old) is collections.deque:
        old.clear()
        old.extend(new)


def cpu_time(pid):
    """Seconds of CPU time that a living process has used, by the kernel's clock of that process."""
    try:
        return time.clock_gettime((~pid << 3) | 2) if LINUX else 0.0
    except OSError:
        return 0.0


class Remote:
    """A handle of an object that stays with the candidate."""

    __slots__ = ("channel", "handle")

    def __init__(self, channel, handle):
        object.__setattr__(self, "channel", channel)
        object.__setattr__(self, "handle", handle)

    def __eq__(self, other):
        # Two of the candidate's objects compare as it says; none equals a value of the tests.
        return type(other) is Remote and bool(operated(self, "eq", other))

    def __ne__(self, other):
        return not self == other

    def __hash__(self):
        return operated(self, "hash")

    def __getattribute__(self, name):
        if name == "__class__":
            return Remote
        return operated(self, "getattr", name)

    def __setattr__(self, name, value):
        operated(self, "setattr", name, value)

    def __delattr__(self, name):
        operated(self, "delattr", name)

    def __call__(self, *args, **named):
        return object.__getattribute__(self, "channel").operate("call", self, *args, **named)

    def __next__(self):
        try:
            return operated(self, "next")
        except CandidateFault as error:
            if type(error).__name__ == "StopIteration":
                raise StopIteration from None
            raise

    def __iter__(self):
        return operated(self, "iter")


def operated(remote, name, *args):
    return object.__getattribute__(remote, "channel").operate(name, remote, *args)


def forward(name):
    setattr(Remote, f"__{name}__", lambda self, *args: operated(self, name, *args))


for name in OPERATIONS:
    if f"__{name}__" not in Remote.__dict__ and name not in ("call", "getattr", "setattr", "delattr"):
        forward(name)


def fault(answer):
    """The candidate's exception, also of the built-in kind that it names, for tests that expect one."""
    try:
        _, name, text, line = answer
        name, text = str(name), str(text)
        line = line if type(line) is int else None
    except (ValueError, TypeError):
        raise Stopped("sent what is no answer")
    kind = getattr(builtins, name, None)
    bases = (CandidateFault,)
    if isinstance(kind, type) and issubclass(kind, Exception) and kind not in (Exception, CandidateFault):
        bases = (CandidateFault, kind)
    try:
        error = type(name, bases, {})(text)
    except Exception:
        error = CandidateFault(text)
    error.line = line
    error.words = f"{name}: {text}" if text else name
    return error


def judge(config, request, channel):
    """The verdict, why, and the line of the code that failed."""
    try:
        channel.request(["load", request["code"]])
    except CandidateFault as error:
        return "failed", f"its code raises {error.words}", error.line
    blocks = [("the setup", request["setup"])] if request["setup"].strip() else []
    total = len(request["tests"])
    for index, test in enumerate(request["tests"]):
        blocks.append(("its test" if total == 1 else f"test {index + 1} of {total}", test))
    trees = []
    for name, text in blocks:
        try:
            trees.append(ast.parse(text))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return "unjudged", f"{name} is no Python: {error}", None
    if any("numpy" in text for _, text in blocks):
        stand_in_for_numpy()
    space = {"__name__": "tests", "__builtins__": builtins}
    try:
        bind(channel, trees, space)
        for (name, text), tree in zip(blocks, trees):
            failed = run_block(name, text, tree, space)
            if failed:
                return failed
    except CandidateFault as error:
        return "failed", f"raises {error.words}", error.line
    return "passed", "", None


def run_block(name, text, tree, space):
    try:
        exec(compile(tree, "test", "exec", dont_inherit=True), space)
    except CandidateFault as error:
        return "failed", f"{name} raises {error.words}", error.line
    except AssertionError as error:
        said = str(error) or first_line(text)
        return "failed", f"{name} fails: {said[:200]}", None
    except ImportError as error:
        return "unjudged", f"{name} needs a module: {error}", None
    except MemoryError:
        return "failed", f"{name} needs too much memory", None
    except Exception as error:
        return "failed", f"{name} raises {type(error).__name__}: {error}"[:300], None
    except (SystemExit, KeyboardInterrupt) as error:
        return "unjudged", f"{name} raises {type(error).__name__}", None
    return None


def first_line(text):
    return text.strip().split("\n", 1)[0]


def bind(channel, trees, space):
    """Gives the tests the names that they use and the code defines. Python's own names stay
    Python's, unless a test calls nothing else: then the innermost called is meant."""
    used, own, called = set(), set(), []
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else own).add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                own.add(node.name)
            elif isinstance(node, ast.alias):
                own.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                called.append(node)
    wanted = {name for name in used if not hasattr(builtins, name)}
    if called and all(hasattr(builtins, node.func.id) for node in called if node.func.id not in own):
        innermost = lambda node: not any(n in called for n in ast.walk(node) if n is not node)
        wanted.update(node.func.id for node in called[:50] if innermost(node))
    names, _ = channel.request(["names", sorted(wanted)])
    for name in sorted(wanted):
        meaning = names.get(name) if type(names) is dict else None
        if type(meaning) is dict and "value" in meaning:
            space[name] = channel.decode(meaning["value"])
        elif type(meaning) is dict and meaning.get("module") in MODULES:
            space[name] = importlib.import_module(meaning["module"])
        elif meaning is None and name in MODULES:
            # A test that leans on an import of the reference solution.
            space[name] = importlib.import_module(name)


def stand_in_for_numpy():
    """The few names that the plus set's tests use, for an interpreter without the package."""
    try:
        import numpy
    except ImportError:
        def close(a, b, rtol=1e-05, atol=1e-08):
            if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
                return len(a) == len(b) and all(close(x, y, rtol, atol) for x, y in zip(a, b))
            return a == b or abs(a - b) <= atol + rtol * abs(b)
        module = types.ModuleType("numpy")
        module.allclose = close
        module.ndarray = type("ndarray", (), {})
        module.float64 = module.float32 = float
        module.inf, module.nan = math.inf, math.nan
        sys.modules["numpy"] = module


def run_judge(config):
    """One request: a verdict on one program."""
    die_with_parent()
    to_read, to_write = os.pipe()
    from_read, from_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            run_candidate(config, to_read, from_write)
        finally:
            os._exit(1)
    os.close(to_read)
    os.close(from_write)
    hide()
    request = json.loads(read_frame(REQUESTS))
    limit(resource.RLIMIT_AS, 2 * config["memory_bytes"])
    limit(resource.RLIMIT_CPU, 2 * config["cpu_s"])
    channel = Channel(from_read, to_write, config, pid)
    try:
        verdict, reason, line = judge(config, request, channel)
    except Stopped as stop:
        reason, reaped = why_stopped(config, pid, str(stop))
        verdict, line = "failed", None
        pid = None if reaped else pid
    except MemoryError:
        verdict, reason, line = "failed", "what it returns needs too much memory", None
    except RecursionError:
        verdict, reason, line = "failed", "what it returns is nested too deeply", None
    if pid:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    reason = re.sub(r"0x[0-9a-f]{6,}", "0x…", reason)
    write_frame(REPORTS, {"nonce": request["nonce"], "verdict": verdict, "reason": reason, "line": line})


def why_stopped(config, pid, stop):
    """Words for a candidate that did not answer, and whether it has died and was reaped."""
    if stop == "idle":
        return f"did not answer and used less than half a second of CPU time in {config['idle_s']} s", False
    if stop != "gone":
        return stop, False
    for _ in range(100):
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        if ended:
            break
        time.sleep(0.01)
    else:
        return "closed its channel", False
    if os.WIFSIGNALED(status):
        late = os.WTERMSIG(status) == signal.SIGXCPU
        if late or usage.ru_utime + usage.ru_stime >= config["cpu_s"]:
            return f"used more than {config['cpu_s']} s of CPU time", True
        return f"its process died of signal {os.WTERMSIG(status)}", True
    return f"ended its process with status {os.WEXITSTATUS(status)}", True


# ---- confinement ---------------------------------------------------------------------------------

LIBC = ctypes.CDLL(None, use_errno=True)


def control(*args):
    if LIBC.prctl(*[ctypes.c_ulong(arg) for arg in args], *[ctypes.c_ulong(0)] * (5 - len(args))) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def die_with_parent():
    if LINUX:
        parent = os.getppid()
        control(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def hide():
    """No other process reads this one's memory."""
    if LINUX:
        control(4, 0)


def limit(which, value):
    try:
        resource.setrlimit(which, (value, value))
    except (ValueError, OSError):
        # A lower limit is in force already, or the system has none of this kind.
        pass


def drop_privileges():
    """No capability, though the user be root."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if LIBC.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def filter_calls(filters):
    """System calls that the filters do not allow fail, for good."""
    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]
    for text in filters:
        code = ctypes.create_string_buffer(bytes.fromhex(text), len(text) // 2)
        program = Program(len(text) // 16, ctypes.addressof(code))
        control(22, 2, ctypes.addressof(program))


# ---- the server ----------------------------------------------------------------------------------

def prepare(config):
    os.dup2(0, REQUESTS)
    os.dup2(1, REPORTS)
    null = os.open(os.devnull, os.O_RDWR)
    if null != NULL:
        os.dup2(null, NULL)
        os.close(null)
    for fd in (0, 1, 2):
        os.dup2(NULL, fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit(resource.RLIMIT_CORE, 0)
    if config["protected"]:
        control(38, 1)
        drop_privileges()
        filter_calls(config["judge_filters"])
    random.seed(0)
    gc.collect()
    gc.freeze()


def serve(config):
    requests = select.poll()
    requests.register(REQUESTS, select.POLLIN)
    while True:
        requests.poll()
        # Nothing to read is the end: a judge would see it too, after a fork.
        if not [1 for _, event in requests.poll(0) if event & select.POLLIN]:
            return
        pid = os.fork()
        if pid == 0:
            try:
                run_judge(config)
            except EOFError:
                os._exit(3)
            except BaseException as error:
                write_frame(REPORTS, {"ended": f"{type(error).__name__}: {error}"})
                os._exit(2)
            os._exit(0)
        status = await_judge(pid)
        if os.WIFSIGNALED(status):
            write_frame(REPORTS, {"signal": os.WTERMSIG(status)})
            return
        if status != 0:
            return


def await_judge(pid):
    """The judge's status; where the program that asks is gone, so is the judge."""
    try:
        judge = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return os.waitpid(pid, 0)[1]
    poller = select.poll()
    poller.register(judge, select.POLLIN)
    poller.register(REQUESTS, 0)
    while True:
        ready = dict(poller.poll())
        if judge in ready:
            os.close(judge)
            return os.waitpid(pid, 0)[1]
        if ready.get(REQUESTS, 0) & (select.POLLHUP | select.POLLERR):
            os._exit(0)


def main():
    config = json.loads(sys.argv[1])
    reports = 1
    try:
        prepare(config)
        reports = REPORTS
        write_frame(reports, {"ready": True})
        serve(config)
    except BaseException as error:
        write_frame(reports, {"cannot": f"{type(error).__name__}: {error}"})
        os._exit(1)
    os._exit(0)


main()
