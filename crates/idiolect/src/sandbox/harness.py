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

Classes of the setup are defined on both sides; their instances cross as their state.
"""
import sys

# A file in the working directory must not stand in for a module.
sys.path[:] = [entry for entry in sys.path if entry]

import array, ast, bisect, builtins, calendar, cmath, collections, copy, ctypes, datetime, decimal
import enum, fractions, functools, gc, heapq, importlib.machinery, inspect, io, itertools, json, math, numbers
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
    """A test would let an object of the candidate's decide."""


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


# ---- values --------------------------------------------------------------------------------------

def encode(x, opaque):
    """A value as JSON; `opaque` names what is no plain data."""
    kind = type(x)
    if id(kind) in SHARED.names:
        return SHARED.refer(x)
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
    if id(x) in NAME_OF:
        return {"known": list(NAME_OF[id(x)])}
    if kind is slice:
        return {"slice": several([x.start, x.stop, x.step])}
    if isinstance(x, type):
        return {"class": SHARED.names[id(x)]} if id(x) in SHARED.names else opaque(x)
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
    (tag, content), *more = m.items()
    if more and [name for name, _ in more] != ["maxlen"]:
        raise ValueError
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
        return range(*whole(content))
    if tag == "decimal":
        return decimal.Decimal(content)
    if tag == "fraction":
        return fractions.Fraction(*whole(content))
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
    if tag == "slice":
        return slice(*several())
    if tag == "known":
        return KNOWN[tuple(content)]
    if tag == "class":
        return SHARED.classes[content]
    if tag in ("instance", "member", "flags"):
        return getattr(SHARED, tag)(content)
    return opaque(tag, content)


def whole(content):
    """Integers, and no text that a constructor would read as a number of any size."""
    numbers = [decode(item, None) for item in content]
    if any(type(number) is not int for number in numbers):
        raise ValueError
    return numbers


# ---- classes of the setup ------------------------------------------------------------------------

MAKERS = {"namedtuple", "NamedTuple", "Enum", "IntEnum", "StrEnum", "Flag", "IntFlag", "make_dataclass", "type"}
BASES = (int, float, str, bytes, tuple, list, dict, set, frozenset, BaseException)


def class_statements_of(setup):
    if not setup.strip():
        return []
    try:
        return class_statements(ast.parse(setup))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []  # the judge says so


def class_statements(tree):
    """The statements of a setup that make its classes, its imports, and what those use. The rest of a
    setup is the tests' alone."""
    def makes(node):
        call = getattr(node, "value", None)
        name = getattr(call, "func", None)
        return isinstance(call, ast.Call) and getattr(name, "id", getattr(name, "attr", None)) in MAKERS
    statements = tree.body
    kept = {n for n in statements if isinstance(n, (ast.Import, ast.ImportFrom, ast.ClassDef)) or makes(n)}
    kept.update(n for n in statements if isinstance(n, (ast.Try, ast.If)) and imports(n))
    needs = list(kept)
    while needs:
        used = {n.id for n in ast.walk(needs.pop()) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        for node in statements:
            if node not in kept and used.intersection(bound(node)):
                kept.add(node)
                needs.append(node)
    return [node for node in statements if node in kept]


def bound(node):
    """The names that a definition or an assignment binds."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def imports(node):
    """Whether a compound statement does nothing but import, or bind a name where it cannot."""
    return all(
        isinstance(n, (ast.Import, ast.ImportFrom, ast.Assign, ast.Pass))
        for part in ("body", "orelse", "finalbody") for n in getattr(node, part, [])
    )


class Shared:
    """The classes of the setup. An instance crosses as its state; one that has crossed before is the
    same object again, with the state that the other side gave it."""

    def __init__(self):
        self.classes, self.names, self.kept = {}, {}, []
        self.objects, self.references = {}, {}
        # Each side numbers what it sends first: one from 1 upwards, one from -1 downwards.
        self.step, self.queue, self.queued = 1, [], set()

    def add(self, name, kind):
        if not isinstance(kind, type) or id(kind) in NAME_OF:
            return
        self.classes[name] = kind
        self.names[id(kind)] = name
        self.kept.append(kind)  # its `id` stays its own
        for inner, value in list(vars(kind).items()):
            if isinstance(value, type) and value.__qualname__.startswith(kind.__qualname__ + "."):
                self.add(f"{name}.{inner}", value)

    def refer(self, x):
        """What stands for an instance; its state follows in the table of the message."""
        name = self.names[id(type(x))]
        if isinstance(x, enum.Enum):
            if type(x).__members__.get(x._name_) is x:
                return {"member": [name, x._name_]}
            # Several flags at once.
            return {"flags": [name, int(x._value_)]}
        if id(x) not in self.references:
            if plain_value(x)[0] is None:
                try:
                    object.__new__(type(x))
                except TypeError:
                    raise CannotCross(f"an object of class {name} cannot be copied")
            self.keep(self.step * (len(self.objects) + 1), x)
        reference = self.references[id(x)]
        if reference not in self.queued:
            self.queued.add(reference)
            self.queue.append(x)
        return {"instance": reference}

    def keep(self, reference, x):
        self.objects[reference] = x
        self.references[id(x)] = reference

    def encode(self, x, opaque):
        """A value, and the state of each instance in it."""
        self.queue, self.queued = [], set()
        value = encode(x, opaque)
        table = []
        for instance in self.queue:
            state = [[name, encode(value, opaque)] for name, value in state_of(instance).items()]
            basis, plain = plain_value(instance)
            table.append([
                self.references[id(instance)], self.names[id(type(instance))],
                [basis, encode(plain, opaque)], state,
            ])
        return {"value": value, "instances": table} if table else value

    def decode(self, m, opaque):
        if type(m) is not dict or "instances" not in m:
            return decode(m, opaque)
        self.opaque = opaque
        self.table = {reference: row for reference, *row in m["instances"] if type(reference) is int}
        for reference in self.table:
            self.instance(reference)
        # An instance has its state before a set or a key asks for its hash.
        hashes = lambda row: any(tag in repr(row) for tag in ("'set'", "'frozenset'", "'dict'"))
        for reference, (_, (basis, content), state) in sorted(self.table.items(), key=hashes):
            x = self.objects[reference]
            if basis in ("list", "dict", "set"):
                replace_items(x, decode(content, opaque))
            set_state(x, {name: decode(value, opaque) for name, value in state})
        return decode(m["value"], opaque)

    def instance(self, reference):
        if reference not in self.objects:
            if reference * self.step >= 0:
                raise ValueError
            name, (basis, content), _ = self.table[reference]
            self.keep(reference, self.blank(self.classes[name], basis, content))
        elif reference in self.table and self.names[id(type(self.objects[reference]))] != self.table[reference][0]:
            raise ValueError
        return self.objects[reference]

    def blank(self, kind, basis, content):
        if basis in ("list", "dict", "set", None):
            base = {"list": list, "dict": dict, "set": set, None: object}[basis]
            return base.__new__(kind)
        base = {base.__name__: base for base in BASES}[basis]
        plain = decode(content, self.opaque)
        if base is BaseException:
            x = kind.__new__(kind, *plain)
            x.args = plain
            return x
        return base.__new__(kind, plain)

    def member(self, content):
        return self.enumeration(content[0])[content[1]]

    def flags(self, content):
        return self.enumeration(content[0])(*whole(content[1:]))

    def enumeration(self, name):
        if not issubclass(self.classes[name], enum.Enum):
            raise ValueError
        return self.classes[name]


def plain_value(x):
    """The name of the type of plain data that an instance is a kind of, and its value as such."""
    for base in BASES:
        if isinstance(x, base):
            break
    else:
        return None, None
    if base is int:
        return "int", int.__index__(x)
    if base is float:
        return "float", float.__float__(x)
    if base is str:
        return "str", str.__str__(x)
    if base is bytes:
        return "bytes", bytes(memoryview(x))
    if base is dict:
        return "dict", dict(dict.items(x))
    if base is BaseException:
        return "BaseException", x.args
    return base.__name__, base(base.__iter__(x))


def slots_of(kind):
    for base in kind.__mro__:
        for name, value in vars(base).items():
            if type(value) is types.MemberDescriptorType and value.__objclass__ is base and base.__module__ != "builtins":
                yield name, value


def state_of(x):
    try:
        found = dict(object.__getattribute__(x, "__dict__"))
    except AttributeError:
        found = {}
    for name, slot in slots_of(type(x)):
        try:
            found[name] = slot.__get__(x)
        except AttributeError:
            pass
    return found


def set_state(x, state):
    """Gives an instance its attributes; from a candidate none that would stand for a method."""
    slots = dict(slots_of(type(x)))
    for name in slots:
        try:
            slots[name].__delete__(x)
        except AttributeError:
            pass
    try:
        own = object.__getattribute__(x, "__dict__")
    except AttributeError:
        own = {}
    expected = {*own, *getattr(type(x), "__dataclass_fields__", ())}
    own.clear()
    for name, value in state.items():
        if type(name) is not str:
            raise ValueError
        if name in slots:
            slots[name].__set__(x, value)
            continue
        meant = inspect.getattr_static(type(x), name, None)
        is_method = callable(meant) or isinstance(meant, (classmethod, staticmethod))
        if SHARED.step > 0 and is_method and name not in expected:
            raise ValueError
        own[name] = value


def replace_items(x, items):
    if isinstance(x, list):
        list.__setitem__(x, slice(None), items)
        return
    base = dict if isinstance(x, dict) else set
    base.clear(x)
    base.update(x, items)


SHARED = Shared()


# ---- the candidate -------------------------------------------------------------------------------

OPERATIONS = {
    "call": lambda f, *args, **named: f(*args, **named),
    "getattr": getattr, "setattr": setattr, "delattr": delattr, "len": len, "bool": bool,
    "str": str, "repr": repr, "iter": iter, "next": next, "hash": hash, "int": int, "float": float,
    "abs": operator.abs, "neg": operator.neg,
    "getitem": operator.getitem, "setitem": operator.setitem, "delitem": operator.delitem,
    "eq": operator.eq, "lt": operator.lt, "le": operator.le, "gt": operator.gt, "ge": operator.ge,
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "truediv": operator.truediv,
    "floordiv": operator.floordiv, "mod": operator.mod, "pow": operator.pow,
    "and": operator.and_, "or": operator.or_, "xor": operator.xor,
}
# Operators whose other operand is a test's: an object could answer them without knowing anything.
BINARY = {
    "lt", "le", "gt", "ge", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor",
}
MUTABLE = (list, dict, set, bytearray, collections.deque)


class Candidate:
    """The code under test and the objects that the judge holds handles of."""

    def __init__(self):
        self.module = types.ModuleType("candidate")
        # Imports that a prompt shows above the code, or that its writer took for granted.
        self.module.__dict__.update({name: getattr(typing, name) for name in typing.__all__})
        self.module.__dict__.update({name: sys.modules[name] for name in GIVEN})
        self.objects, self.handles, self.functions = [], {}, {}
        sys.modules["candidate"] = self.module
        SHARED.step = -1

    def send(self, message):
        write_frame(CANDIDATE_OUT, message)

    def receive(self):
        return json.loads(read_frame(CANDIDATE_IN))

    def encode(self, x):
        def handle(x):
            if id(x) in self.functions:
                return {"function": self.functions[id(x)][0]}
            if id(x) not in self.handles:
                self.handles[id(x)] = len(self.objects)
                self.objects.append(x)
            return {"object": self.handles[id(x)]}
        return SHARED.encode(x, handle)

    def decode(self, m):
        def known(tag, content):
            if tag == "object":
                return self.objects[content]
            if tag == "iterator":
                return self.stream(content)
            for index, function in self.functions.values():
                if index == content:
                    return function
            function = lambda *args, **named: self.call_back(content, args, named)
            self.functions[id(function)] = (content, function)
            return function
        return SHARED.decode(m, known)

    def stream(self, function):
        """The items of an iterator of the judge's, each fetched when it is asked for."""
        while True:
            item = self.call_back(function, (), {})
            if not item:
                return
            yield item[0]

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
            left = self.define_classes(class_statements_of(message[1]))
            code = compile(message[0], "candidate.py", "exec", dont_inherit=True)
            exec(code, self.module.__dict__)
            # What builds on a class of the code; and the code may have one of the same name.
            self.define_classes(left)
            for name in list(SHARED.classes):
                SHARED.add(name, self.module.__dict__.get(name))
            return ["ok", None, []]
        if what == "names":
            return ["ok", {name: self.named(name) for name in message[0]}, []]
        name, args, named = message
        try:
            args, named = self.decode(args), self.decode(named)
        except Exception as error:
            raise CannotCross(f"{type(error).__name__}: {words_of(error)}")
        kinds = (*MUTABLE, tuple) if SHARED.classes else MUTABLE
        all_args = [*args, *named.values()]
        watched = [type(arg) in kinds or id(type(arg)) in SHARED.names for arg in all_args]
        before = [self.encode(arg) if is_watched else None for arg, is_watched in zip(all_args, watched)]
        result = self.encode(OPERATIONS[name](*args, **named))
        changed = []
        for index, (arg, old) in enumerate(zip(all_args, before)):
            new = self.encode(arg) if old is not None else None
            if new != old:
                changed.append([index, new])
        return ["ok", result, changed]

    def define_classes(self, statements):
        """Defines the classes of a setup; what is left are the statements that raised."""
        left = []
        for statement in statements:
            try:
                tree = ast.Module([statement], [])
                exec(compile(tree, "setup.py", "exec", dont_inherit=True), self.module.__dict__)
            except Exception:
                left.append(statement)
                continue
            for name in bound(statement):
                SHARED.add(name, self.module.__dict__.get(name))
        return left

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
        text = words_of(error)
    missing = error.name if type(error) is ModuleNotFoundError else None
    if isinstance(error, CannotCross):
        return ["opaque", text]
    return ["error", SHARED.names.get(id(type(error)), type(error).__name__), text, line, missing]


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
        self.functions, self.lines = [], 0
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
            if kind not in ("ok", "error", "back", "opaque"):
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
                raise self.fault(answer)
            if answer[0] == "opaque":
                raise CannotCross("what the code returns cannot cross")
            if len(answer) != 3:
                raise Stopped("sent what is no answer")
            return answer[1], answer[2]

    def call(self, message):
        try:
            _, function, args, named = message
            function, args, named = self.function(function), self.decode(args), self.decode(named)
        except (ValueError, TypeError, IndexError):
            raise Stopped("sent what is no answer")
        try:
            answer = ["ok", self.encode(function(*args, **named))]
        except Exception as error:
            answer = ["error", f"{type(error).__name__}: {words_of(error)}"]
        self.send(answer)

    def operate(self, name, *args, **named):
        result, changed = self.request(["do", name, self.encode(list(args)), self.encode(named)])
        result = self.decode(result)
        all_args = [*args, *named.values()]
        try:
            for index, new in changed:
                if type(index) is not int or index < 0:
                    raise ValueError
                replace(all_args[index], self.decode(new))
        except (ValueError, TypeError, IndexError):
            raise Stopped("sent what is no answer")
        return result

    def fault(self, answer):
        """The candidate's exception, of the kind that it names if that is Python's or the setup's, for
        tests that expect one."""
        try:
            _, name, text, line, missing = answer
        except ValueError:
            raise Stopped("sent what is no answer")
        if type(name) is not str or type(text) is not str:
            raise Stopped("sent what is no answer")
        name, text = name[:100], text[:300]
        kind = SHARED.classes.get(name) or getattr(builtins, name, None)
        bases = (CandidateFault,)
        if isinstance(kind, type) and issubclass(kind, BaseException):
            if kind not in (BaseException, Exception) and not issubclass(kind, (SystemExit, KeyboardInterrupt, GeneratorExit)):
                bases = (CandidateFault, kind)
        try:
            kind = type(name, bases, {})
            error = kind.__new__(kind, text) if name in SHARED.classes else kind(text)
            error.args = (text,)
        except Exception:
            error = CandidateFault(text)
        if type(line) is int and 1 <= line <= self.lines:
            error.line = line
        if type(missing) is str:
            error.missing = missing
        error.words = f"{name}: {text}" if text else name
        return error

    def function(self, index):
        if type(index) is not int or index < 0:
            raise ValueError
        return self.functions[index]

    def number(self, function):
        """The number by which the candidate calls a function of the tests."""
        for index, known in enumerate(self.functions):
            if known is function:
                return index
        self.functions.append(function)
        return len(self.functions) - 1

    def encode(self, x):
        def foreign(x):
            if type(x) is Remote:
                return {"object": object.__getattribute__(x, "handle")}
            if hasattr(type(x), "__next__"):
                return {"iterator": self.number(lambda: next(([item] for item in x), []))}
            if callable(x):
                return {"function": self.number(x)}
            raise CannotCross(f"hands over an object of class {type(x).__name__}, which only the tests know")
        return SHARED.encode(x, foreign)

    def decode(self, m):
        def handle(tag, content):
            if tag == "function":
                return self.function(content)
            if tag != "object" or type(content) is not int:
                raise ValueError
            return Remote(self, content)
        try:
            return SHARED.decode(m, handle)
        except MemoryError:
            raise Stopped("sent values that need too much memory")
        except Exception:
            raise Stopped("sent what is no value")


def replace(old, new):
    """Makes an argument what the candidate made of its copy."""
    if old is new:
        return
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
        if name == "__mro_entries__":
            raise CannotCross("builds on a class of the code")
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

    def __contains__(self, item):
        # Each item is compared by the judge's rules; the object's own word does not count.
        return any(mine is item or mine == item for mine in self)


def operated(remote, name, *args):
    return object.__getattribute__(remote, "channel").operate(name, remote, *args)


def forward(name):
    def operator(self, *args):
        if name in BINARY and type(args[0]) is not Remote:
            raise Opaque(f"computes with an object of the code's own class ({name})")
        return operated(self, name, *args)
    setattr(Remote, f"__{name}__", operator)


for name in OPERATIONS:
    if f"__{name}__" not in Remote.__dict__ and name not in ("call", "getattr", "setattr", "delattr"):
        forward(name)


def judge(request, channel):
    """The verdict, why, and the line of the code that failed."""
    code = request["code"]
    channel.lines = code.count("\n") + 1
    blocks = [("the setup", request["setup"])] if request["setup"].strip() else []
    total = len(request["tests"])
    for index, test in enumerate(request["tests"]):
        blocks.append(("its test" if total == 1 else f"test {index + 1} of {total}", test))
    try:
        channel.request(["load", code, request["setup"]])
    except CandidateFault as error:
        return failed(f"its code raises {error.words}", error, request)
    trees = []
    for name, text in blocks:
        try:
            trees.append(ast.parse(text))
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return "unjudged", f"{name} is no Python: {error}", None
    if any("numpy" in text for _, text in blocks):
        stand_in_for_numpy()
    # A module, since classes look theirs up.
    tests = sys.modules["tests"] = types.ModuleType("tests")
    space = tests.__dict__
    space["__builtins__"] = builtins
    try:
        bind(channel, request, trees, space)
    except CandidateFault as error:
        return failed(f"raises {error.words}", error, request)
    for (name, text), tree in zip(blocks, trees):
        verdict = run_block(name, text, tree, space, request)
        if verdict:
            return verdict
        if name == "the setup":
            for statement in class_statements(tree):
                for name in bound(statement):
                    SHARED.add(name, space.get(name))
    return "passed", "", None


def run_block(name, text, tree, space, request):
    try:
        exec(compile(tree, "test", "exec", dont_inherit=True), space)
    except CandidateFault as error:
        return failed(f"{name} raises {error.words}", error, request)
    except AssertionError as error:
        return "failed", f"{name} fails: {words_of(error)[:200] or first_line(text)}", None
    except ImportError as error:
        return "unjudged", f"{name} needs a module: {words_of(error)}", None
    except MemoryError:
        return "failed", f"{name} needs too much memory", None
    except Exception as error:
        return "failed", f"{name} raises {type(error).__name__}: {words_of(error)}"[:300], None
    except Opaque as error:
        return "failed", f"{name} {error}", None
    except CannotCross as error:
        return "unjudged", f"{name}: {error}", None
    except (SystemExit, KeyboardInterrupt) as error:
        return "unjudged", f"{name} raises {type(error).__name__}", None
    return None


def failed(reason, error, request):
    """The verdict for an exception of the candidate's: not its fault where a module is missing here."""
    name = (error.missing or "").split(".")[0]
    # `_tkinter` is what `import tkinter` lacks.
    module = name.lstrip("_")
    if module.isidentifier() and imports_module(request, module) and is_absent(name):
        return "unjudged", f"its code imports `{module}`, which is not installed here", error.line
    return "failed", reason, error.line


def imports_module(request, module):
    """Whether the text of the code imports it, whatever the candidate says of that, and it is no file
    of the program's own: those have usual names, or the name of what the tests call."""
    statement = rf"^[ \t]*(?:from[ \t]+{module}\b|import\b[^\n#]*\b{module}\b)"
    call = rf"import(?:_module|__)[ \t]*\([ \t]*['\"]{module}\b"
    if module in OWN_FILES or not re.search(f"{statement}|{call}", request["code"], re.M):
        return False
    return not any(re.search(rf"(?<![\w.]){module}[ \t]*\(", test) for test in request["tests"])


def is_absent(module):
    try:
        return module not in sys.builtin_module_names and not importlib.machinery.PathFinder.find_spec(module)
    except (ImportError, ValueError):
        return False


def first_line(text):
    return text.strip().split("\n", 1)[0]


def bind(channel, request, trees, space):
    """Gives the tests the names that they use and the code defines. Names of Python and its library
    stay theirs, unless a test calls nothing else."""
    is_pythons = lambda name: hasattr(builtins, name) or name in LIBRARY
    used, own, calls, of_module = set(), set(), [], set()
    for tree in trees:
        for node in ast.walk(tree):
            if isinstance(node, ast.Name):
                (used if isinstance(node.ctx, ast.Load) else own).add(node.id)
            elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                own.add(node.name)
            elif isinstance(node, ast.alias):
                own.add((node.asname or node.name).split(".")[0])
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                calls.append(node)
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                of_module.add(node.value.id)
    classes = set()
    if len(trees) > len(request["tests"]):
        # The setup's classes are made on this side too.
        classes.update(name for statement in class_statements(trees[0]) for name in bound(statement))
    # `math.isclose` is the library's, whatever the code calls `math`.
    of_module &= MODULES - own
    wanted = {name for name in used if not is_pythons(name)} - of_module - classes
    called = {node.func.id for node in calls} - own
    if called and all(map(is_pythons, called)):
        meant = {name for name in used - own if is_pythons(name)} - WRAPPERS
        if len(meant) == 1:
            wanted |= meant
        else:
            innermost = lambda node: not any(n in calls for n in ast.walk(node) if n is not node)
            wanted.update(node.func.id for node in calls[:50] if innermost(node))
    # A function of the code may be handed one that the code calls `sum`.
    handed = [
        node for call in calls if call.func.id in wanted - own
        for argument in [*call.args, *[keyword.value for keyword in call.keywords]]
        for node in ast.walk(argument)
        if isinstance(node, ast.Name) and hasattr(builtins, node.id) and not in_call(node, argument)
    ]
    names, _ = channel.request(["names", sorted(wanted | {node.id for node in handed})])
    if type(names) is not dict:
        raise Stopped("sent what is no answer")
    for name in sorted(wanted):
        meaning = names.get(name)
        if type(meaning) is dict and "value" in meaning:
            space[name] = channel.decode(meaning["value"])
        elif type(meaning) is dict and str(meaning.get("module")) in MODULES:
            space[name] = importlib.import_module(meaning["module"])
        elif meaning is None and name in MODULES:
            # A test that leans on an import of the reference solution.
            space[name] = importlib.import_module(name)
    for name in of_module:
        space[name] = importlib.import_module(name)
    for name in LIBRARY.keys() & used - wanted:
        space[name] = LIBRARY[name]
    for node in handed:
        meaning = names.get(node.id)
        if node.id not in wanted and type(meaning) is dict and "value" in meaning:
            own_name = f"{node.id} of the code"
            space[own_name] = channel.decode(meaning["value"])
            node.id = own_name


def in_call(node, argument):
    """Whether a name stands inside a call within an argument, or is what that calls."""
    return any(
        isinstance(call, ast.Call) and any(n is node for n in ast.walk(call)) for call in ast.walk(argument)
    )


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
        verdict, reason, line = judge(request, channel)
    except Stopped as stop:
        reason, reaped = why_stopped(config, pid, str(stop))
        verdict, line = "failed", None
        pid = None if reaped else pid
    except MemoryError:
        verdict, reason, line = "failed", "what it returns needs too much memory", None
    except RecursionError:
        verdict, reason, line = "failed", "what it returns is nested too deeply", None
    except CannotCross as error:
        verdict, reason, line = "unjudged", str(error), None
    except BaseException as error:
        # A fault of this file, perhaps of the candidate's making: no verdict, and none for the others.
        verdict, reason, line = "unjudged", f"the code runner met {type(error).__name__}", None
    if pid:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    reason = re.sub(r"0x[0-9a-f]{6,}", "0x…", reason)[:1000].encode("utf-8", "replace").decode()
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
