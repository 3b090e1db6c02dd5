# ---- objects that stay with the candidate --------------------------------------------------------

class Held:
    """An object of a kind that does not cross. A test may ask for its attributes, call what can be called,
    step through Python's own iterators and hand it back to the code: the answers are values again. Any
    operator or protocol of Python's fails the test, since the object itself would decide it."""

    __slots__ = ("channel", "number")

    def __init__(self, channel, number):
        object.__setattr__(self, "channel", channel)
        object.__setattr__(self, "number", number)

    def __getattribute__(self, name):
        if name == "__mro_entries__":
            raise CannotCross("builds on a class of the code")
        if name.startswith("__") and name.endswith("__") and name not in ("__name__", "__doc__"):
            raise refusal(self, name)
        return asked(self, "getattr", name)

    def __setattr__(self, name, value):
        asked(self, "setattr", name, value)

    def __delattr__(self, name):
        asked(self, "delattr", name)


class Handle(Held):
    """An object of the code's own."""

    __slots__ = ()


class CallableHandle(Handle):
    """A function, a class, or an object that can be called."""

    __slots__ = ()

    def __call__(self, *args, **named):
        return object.__getattribute__(self, "channel").operate("call", self, *args, **named)


class IteratorHandle(Held):
    """A generator or another iterator of Python's own."""

    __slots__ = ()

    def __iter__(self):
        return self

    def __next__(self):
        try:
            return asked(self, "next")
        except CandidateFault as error:
            if type(error).__name__ == "StopIteration":
                raise StopIteration from None
            raise


class MatchHandle(Handle):
    """What `re` found. It is true whatever it holds, so that is not asked."""

    __slots__ = ()

    def __bool__(self):
        return True


HANDLES = {"object": Handle, "callable": CallableHandle, "iterator": IteratorHandle, "match": MatchHandle}


def asked(handle, operation, *args):
    return object.__getattribute__(handle, "channel").operate(operation, handle, *args)


def refusal(handle, name):
    """What to raise where a test would let the object decide."""
    error = Opaque(f"applies `{name.strip('_')}` to an object of the code's own, whose answer proves nothing")
    return object.__getattribute__(handle, "channel").over(error)


OPERATORS = """
    abs add and bool bytes ceil complex contains delitem dir divmod enter eq exit float floor floordiv format fspath
    ge getitem getstate gt hash iadd iand ifloordiv ilshift imatmul imod imul index instancecheck int invert ior
    ipow irshift isub iter itruediv ixor le len length_hint lshift lt matmul missing mod mul ne neg next or pos pow
    radd rand rdivmod reduce reduce_ex repr reversed rfloordiv rlshift rmatmul rmod rmul ror round rpow rrshift
    rshift rsub rtruediv rxor setitem sizeof str sub subclasscheck truediv trunc xor
    aenter aexit aiter anext await buffer
"""


# What an iterator of Python's does not have either; iteration asks for some of it.
NOT_OF_ITERATORS = {"iter", "next", "len", "length_hint", "contains"}


def refuse(kind, name):
    def operator(self, *args):
        raise refusal(self, name)
    setattr(kind, name, operator)


for name in OPERATORS.split():
    refuse(Handle, f"__{name}__")
    if name not in NOT_OF_ITERATORS:
        refuse(IteratorHandle, f"__{name}__")
