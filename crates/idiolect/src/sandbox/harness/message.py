# ---- messages of a candidate: the boundary -------------------------------------------------------
#
# Whatever a candidate writes becomes one of these, or the candidate is stopped. Values in them are JSON
# still; `Channel.decode` rebuilds them. Texts are cut to what a verdict shows.

class Returned(typing.NamedTuple):
    """The result of what the judge asked for, and what became of the arguments."""

    value: object
    changed: list  # [index of the argument, its new value]


class Raised(typing.NamedTuple):
    """An exception of the candidate's."""

    name: str
    text: str
    line: "int | None"  # of the code, from 1
    missing: "str | None"  # the module that an import did not find


class Called(typing.NamedTuple):
    """A call of a function of the tests."""

    function: int
    args: object
    named: object


class Uncrossable(typing.NamedTuple):
    """What the judge sent could not be rebuilt."""

    text: str


def parse_message(data, lines):
    """One of the four. `lines` is how many the code has.

    Raises ValueError, TypeError, LookupError or RecursionError for anything else."""
    kind, *parts = expect(list, json.loads(data))
    if kind == "ok":
        value, changed = parts
        for index, _ in expect(list, changed):
            if expect(int, index) < 0:
                raise ValueError
        return Returned(value, changed)
    if kind == "error":
        name, text, line, missing = parts
        line = line if type(line) is int and 1 <= line <= lines else None
        missing = missing[:100] if type(missing) is str else None
        return Raised(expect(str, name)[:100], expect(str, text)[:300], line, missing)
    if kind == "back":
        function, args, named = parts
        if expect(int, function) < 0:
            raise ValueError
        return Called(function, args, named)
    if kind == "opaque":
        text, = parts
        return Uncrossable(expect(str, text)[:300])
    raise ValueError
