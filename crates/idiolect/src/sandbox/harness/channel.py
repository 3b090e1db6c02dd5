
# ---- the judge -----------------------------------------------------------------------------------

class Channel:
    """A judge's side of the pipes: nothing blocks for good, nothing grows past the limit.

    What ended the exchange, or failed a test for good, is kept in `ended`: it counts whatever a test
    makes of the exception."""

    def __init__(self, inward, outward, counter, config, pid):
        self.inward, self.outward, self.threads = inward, outward, Threads(counter)
        self.idle_s, self.wall_s, self.left = config["idle_s"], config["wall_s"], config["output_bytes"]
        self.pid, self.cpu_s = pid, 0.0
        self.start = time.monotonic()
        self.deadline, self.end = self.start + self.idle_s, self.start + self.wall_s
        self.functions, self.lines, self.ended = [], 0, None
        os.set_blocking(inward, False)
        os.set_blocking(outward, False)

    def stop(self, why):
        """What to raise where the candidate is not to be asked anything more."""
        return self.over(Stopped(why))

    def over(self, error):
        self.ended = self.ended or error
        return error

    def check_time(self, now):
        """Stops a candidate that takes long in all. One that computes gets twenty seconds more for each
        second of CPU time: so little of a processor may be left on a busy machine."""
        if now >= self.end:
            self.end = self.start + self.wall_s + 20 * cpu_time(self.pid)
            if now >= self.end:
                raise self.stop("took too long for the little that it computed")

    def wait(self, fd, event):
        poller = select.poll()
        poller.register(fd, event)
        self.threads.register(poller)
        while True:
            now = time.monotonic()
            self.check_time(now)
            ready = dict(poller.poll(max(0.0, min(self.deadline, self.end) - now) * 1000))
            self.threads.answer(ready, poller)
            if fd in ready:
                return
            # On a busy machine a candidate may wait its turn; one that computes is stopped by its
            # limit of CPU time.
            if time.monotonic() >= self.deadline:
                cpu_s = cpu_time(self.pid)
                if cpu_s < self.cpu_s + 0.1:
                    raise self.stop("idle")
                self.cpu_s, self.deadline = cpu_s, time.monotonic() + self.idle_s

    def read(self, n):
        parts = []
        while n:
            try:
                part = os.read(self.inward, min(n, 1 << 20))
            except BlockingIOError:
                self.wait(self.inward, select.POLLIN)
                continue
            if not part:
                raise self.stop("gone")
            parts.append(part)
            n -= len(part)
        return b"".join(parts)

    def send(self, message):
        if self.ended:
            raise self.ended
        data = json.dumps(message).encode("ascii")
        data = struct.pack(">I", len(data)) + data
        while data:
            try:
                data = data[os.write(self.outward, data):]
            except BlockingIOError:
                self.wait(self.outward, select.POLLOUT)
            except OSError:
                raise self.stop("gone")

    def receive(self):
        self.check_time(time.monotonic())
        size = struct.unpack(">I", self.read(4))[0]
        self.left -= size
        if self.left < 0:
            raise self.stop("sent more than the limit")
        data = self.read(size)
        try:
            return parse_message(data, self.lines)
        except MemoryError:
            raise self.stop("sent values that need too much memory")
        except (ValueError, TypeError, LookupError, RecursionError):
            raise self.stop("sent what is no answer")

    def request(self, message):
        """The answer to a message; meanwhile the candidate may call functions of the tests."""
        self.send(message)
        while True:
            answer = self.receive()
            if type(answer) is Returned:
                return answer
            if type(answer) is Raised:
                raise self.fault(answer)
            if type(answer) is Uncrossable:
                raise self.over(CannotCross("what the code returns cannot cross"))
            self.call(answer)

    def call(self, message):
        if message.function >= len(self.functions):
            raise self.stop("sent what is no answer")
        function, args, named = self.functions[message.function], self.decode(message.args), self.decode(message.named)
        if type(args) is not list or type(named) is not dict or any(type(name) is not str for name in named):
            raise self.stop("sent what is no answer")
        try:
            answer = ["ok", self.encode(function(*args, **named))]
        except Exception as error:
            answer = ["error", f"{type(error).__name__}: {words_of(error)}"]
        self.send(answer)

    def operate(self, name, *args, **named):
        answer = self.request(["do", name, self.encode(list(args)), self.encode(named)])
        result = self.decode(answer.value)
        all_args = [*args, *named.values()]
        changed = [(index, self.decode(new)) for index, new in answer.changed]
        try:
            for index, new in changed:
                replace(all_args[index], new)
        except (ValueError, TypeError, LookupError):
            raise self.stop("sent what is no answer")
        return result

    def fault(self, raised):
        """The candidate's exception, of the kind that it names if that is Python's or the setup's, for
        tests that expect one."""
        name, text = raised.name, raised.text
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
        error.line, error.missing = raised.line, raised.missing
        error.words = f"{name}: {text}" if text else name
        return error

    def number(self, function):
        """The number by which the candidate calls a function of the tests."""
        for index, known in enumerate(self.functions):
            if known is function:
                return index
        self.functions.append(function)
        return len(self.functions) - 1

    def encode(self, x):
        def foreign(x):
            if issubclass(type(x), Held):
                return {"object": object.__getattribute__(x, "number")}
            if hasattr(type(x), "__next__"):
                return {"stream": self.number(lambda: next(([item] for item in x), []))}
            if callable(x):
                return {"function": self.number(x)}
            raise CannotCross(f"hands over an object of class {type(x).__name__}, which only the tests know")
        return SHARED.encode(x, foreign)

    def decode(self, m):
        def handle(tag, content):
            if tag == "function":
                if not 0 <= expect(int, content) < len(self.functions):
                    raise ValueError
                return self.functions[content]
            return HANDLES[tag](self, expect(int, content))
        try:
            return SHARED.decode(m, handle)
        except MemoryError:
            raise self.stop("sent values that need too much memory")
        except Exception:
            raise self.stop("sent what is no value")


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

