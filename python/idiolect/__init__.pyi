import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, TypedDict, overload

import pandas

__version__: str

_Path = str | os.PathLike[str]
_Files = Mapping[str, _Path | Sequence[_Path]] | Iterable[tuple[str, _Path]]

class Verdict(TypedDict):
    verdict: Literal["correct", "wrong", "no_answer", "ungraded"]
    correct: bool
    extracted: str | None
    reason: str

_Task = Literal["math", "gsm8k", "countdown"]
_Gold = str | int | float | Mapping[str, Any]

def verify(gold: _Gold, answer: str, *, task: _Task = "math", accept_rounded: bool = False) -> Verdict: ...
@overload
def verify_many(
    pairs: Iterable[tuple[_Gold, str]], *, task: _Task = "math", accept_rounded: bool = False, threads: int | None = None,
    as_frame: Literal[False] = False,
) -> list[Verdict]: ...
@overload
def verify_many(
    pairs: Iterable[tuple[_Gold, str]], *, task: _Task = "math", accept_rounded: bool = False, threads: int | None = None,
    as_frame: Literal[True],
) -> pandas.DataFrame: ...
@overload
def score(
    model: _Path, rows: Iterable[Mapping[str, Any]], *, compute: Literal["f32", "bf16"] = "f32", threads: int | None = None,
    tokens: bool = False, as_frame: Literal[False] = False,
) -> list[dict[str, Any]]: ...
@overload
def score(
    model: _Path, rows: Iterable[Mapping[str, Any]], *, compute: Literal["f32", "bf16"] = "f32", threads: int | None = None,
    tokens: bool = False, as_frame: Literal[True],
) -> pandas.DataFrame: ...
@overload
def compare(
    evaluations: _Files, *, baseline: str | None = None, assume_same: bool = False, seed: int = 0, as_frame: Literal[False] = False,
) -> dict[str, Any]: ...
@overload
def compare(
    evaluations: _Files, *, baseline: str | None = None, assume_same: bool = False, seed: int = 0, as_frame: Literal[True],
) -> pandas.DataFrame: ...
