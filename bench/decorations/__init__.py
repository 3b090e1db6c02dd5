"""The parts that bench/decorated.py makes its rows from: values and near misses, how a value is written,
what is around it, where it is stated, and the same for Countdown and MBPP."""

import collections

Value = collections.namedtuple("Value", "kind data")
# A value as it is written in LaTeX and in plain text; None where it cannot be.
Form = collections.namedtuple("Form", "math text")
Row = collections.namedtuple("Row", "task truth kind position decorations gold answer")
