
# ---- the candidate -------------------------------------------------------------------------------

# All that a judge ever asks of an object: it applies no operator to one.
OPERATIONS = {
    "call": lambda f, *args, **named: f(*args, **named),
    "getattr": getattr, "setattr": setattr, "delattr": delattr, "next": next,
}
# Iterators of Python's own. Their items cross one by one.
ITERATORS = {
    type(x) for x in (
        (_ for _ in ()), iter([]), iter(()), iter(""), iter(b""), iter(bytearray()), iter({}), iter({}.values()),
        iter({}.items()), iter(set()), iter(range(0)), iter(range(1 << 70)), iter(int, 0), iter(collections.deque()),
        iter(memoryview(b"")), reversed([]), reversed({}), reversed({}.values()), reversed({}.items()),
        reversed(collections.deque()), re.finditer("", ""), iter(collections.OrderedDict()), itertools.tee(())[0],
        next(itertools.groupby("a"))[1],
    )
} | {enumerate, filter, map, reversed, zip} | {
    kind for kind in vars(itertools).values() if isinstance(kind, type) and hasattr(kind, "__next__")
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
            return {self.kind(x): self.handles[id(x)]}
        return SHARED.encode(x, handle)

    def kind(self, x):
        if type(x) in ITERATORS:
            return "iterator"
        if type(x) is re.Match:
            return "match"
        return "callable" if callable(x) else "object"

    def decode(self, m):
        def known(tag, content):
            if tag == "object":
                return self.objects[content]
            if tag == "stream":
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


def run_candidate(config, inward, outward, counter):
    """Gives up everything but two pipes, then serves. Through the socket `counter` the judge gets the
    descriptor by which it counts the candidate's threads."""
    if config["protected"]:
        hand_over_threads(config, counter)
    for fd in (0, 1, 2):
        os.dup2(NULL, fd)
    os.dup2(inward, CANDIDATE_IN)
    os.dup2(outward, CANDIDATE_OUT)
    close_from(3, CANDIDATE_IN - 1)
    close_from(CANDIDATE_OUT + 1)
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

