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
    except CannotCross as error:
        return "unjudged", str(error), None
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
        verdict = run_block(name, text, tree, space, channel, request)
        if verdict:
            return verdict
        if name == "the setup":
            for statement in class_statements(tree):
                for name in bound(statement):
                    SHARED.add(name, space.get(name))
    return "passed", "", None


def run_block(name, text, tree, space, channel, request):
    error = None
    try:
        exec(compile(tree, "test", "exec", dont_inherit=True), space)
    except BaseException as raised:
        error = raised
    # What ended the exchange counts, whatever the test made of it.
    error = channel.ended or error
    if error is None:
        return None
    if isinstance(error, Stopped):
        raise error
    if isinstance(error, CandidateFault):
        return failed(f"{name} raises {error.words}", error, request)
    if isinstance(error, Opaque):
        return "failed", f"{name} {error}", None
    if isinstance(error, AssertionError):
        return "failed", f"{name} fails: {words_of(error)[:200] or first_line(text)}", None
    if isinstance(error, MemoryError):
        return "failed", f"{name} needs too much memory", None
    if isinstance(error, ImportError):
        return "unjudged", f"{name} needs a module: {words_of(error)}", None
    if isinstance(error, CannotCross):
        return "unjudged", f"{name}: {error}", None
    if isinstance(error, Exception):
        return "failed", f"{name} raises {type(error).__name__}: {words_of(error)}"[:300], None
    return "unjudged", f"{name} raises {type(error).__name__}", None


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
    # `math.isclose` is the library's, whatever the code calls `math`; so is `getattr(math, "isclose")`.
    functions = {node.func.id for node in calls}
    of_module = (of_module & MODULES | (used & FIRM) - functions | used & ALIASES.keys()) - own
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
    names = channel.request(["names", sorted(wanted | {node.id for node in handed})]).value
    if type(names) is not dict:
        raise channel.stop("sent what is no answer")
    for name in sorted(wanted):
        meaning = names.get(name)
        if type(meaning) is dict and "value" in meaning:
            space[name] = channel.decode(meaning["value"])
        elif type(meaning) is dict and type(meaning.get("module")) is str and meaning["module"] in MODULES:
            space[name] = importlib.import_module(meaning["module"])
        elif meaning is None and name in MODULES:
            # A test that leans on an import of the reference solution.
            space[name] = importlib.import_module(name)
    if of_module & ALIASES.keys():
        stand_in_for_numpy()
    for name in of_module:
        space[name] = importlib.import_module(ALIASES.get(name, name))
    for name in LIBRARY.keys() & used - space.keys():
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
    counter, to_counter = _socket.socketpair() if config["protected"] else (None, None)
    pid = os.fork()
    if pid == 0:
        try:
            run_candidate(config, to_read, from_write, to_counter)
        finally:
            os._exit(1)
    os.close(to_read)
    os.close(from_write)
    if to_counter:
        to_counter.close()
    hide()
    # It lives for one program; its garbage goes with it.
    gc.disable()
    request = json.loads(read_frame(REQUESTS))
    # Twice what the candidate has, and the kernel's warning comes before its end: so the server can say
    # whose limit it was.
    limit(resource.RLIMIT_AS, 2 * config["memory_bytes"])
    limit(resource.RLIMIT_CPU, 2 * config["cpu_s"], 2 * config["cpu_s"] + 5)
    channel = Channel(from_read, to_write, counter, config, pid)
    try:
        verdict, reason, line = judge(request, channel)
    except Stopped as stop:
        reason, reaped = why_stopped(config, pid, str(stop))
        verdict, line = "failed", None
        pid = None if reaped else pid
    except Opaque as error:
        verdict, reason, line = "failed", f"its code {error}", None
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
        return f"did not answer and used less than a tenth of a second of CPU time in {config['idle_s']} s", False
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
        # A program that outlives the warning is killed; the clock of the limit is coarser than this one.
        killed = os.WTERMSIG(status) == signal.SIGKILL and usage.ru_utime + usage.ru_stime > config["cpu_s"] / 2
        if late or killed:
            return f"used more than {config['cpu_s']} s of CPU time", True
        return f"its process died of signal {os.WTERMSIG(status)}", True
    return f"ended its process with status {os.WEXITSTATUS(status)}", True

