"""Verify answers, score traces under a model, and compare evaluations, as the program `idiolect` does.

Everything returns plain dicts and lists, or pandas frames with ``as_frame=True``. Work is done without the interpreter lock, so
that threads of Python run beside each other. The whole program comes with this package: ``idiolect --help``.
"""
import os
from collections.abc import Mapping

from . import _idiolect

__version__ = _idiolect.__version__
__all__ = ["compare", "score", "verify", "verify_many"]


def verify(gold, answer, *, task="math", accept_rounded=False):
    """Judge one answer or whole response against a gold answer.

    Args:
        gold: the right answer, or a whole worked solution that ends with it.
        answer: an answer, or the whole text of a model: what counts is found first (no thinking, no next problem).
        task: "math", "gsm8k" or "countdown"; of countdown, gold is ``{"numbers": [...], "target": n}``.
        accept_rounded: whether an answer that equals the gold only when rounded is correct instead of ungraded.

    Returns:
        dict: ``verdict`` ("correct", "wrong", "no_answer" or "ungraded"), ``correct``, ``extracted``, ``reason``.

    >>> verify(r"\\frac{1}{2}", "So it is 0.5.")["correct"]
    True
    """
    return _idiolect.verify(gold, answer, task, accept_rounded)


def verify_many(pairs, *, task="math", accept_rounded=False, threads=None, as_frame=False):
    """Judge pairs of gold and answer in parallel; one dict of `verify` for each, in order.

    >>> [row["verdict"] for row in verify_many([("18", "She has 18."), ("18", "She has 17.")], task="gsm8k")]
    ['correct', 'wrong']
    """
    rows = _idiolect.verify_many([tuple(pair) for pair in pairs], task, accept_rounded, _threads(threads))
    return _frame(rows) if as_frame else rows


def score(model, rows, *, compute="f32", threads=None, tokens=False, as_frame=False):
    """Score the completion of each row, token by token, under a model.

    Args:
        model: a model directory in Hugging Face layout, an adapter directory, or "hf:OWNER/NAME".
        rows: dicts with ``prompt`` and ``completion`` (texts or message lists), or ``messages`` whose last is the assistant's.
        compute: "f32", or "bf16" for products of bf16 inputs.
        tokens: whether each result holds its tokens too: id, log-probability in nats, rank, entropy, first byte.

    Returns:
        list of dict: the sums of each row as in ``scores.jsonl``: ``n_tokens``, ``nll_nats``, ``entropy_nats``, ``rank_sum`` and
        others, the end token apart; ``{"error": ...}`` for a row that the model cannot take.
    """
    found = _idiolect.score(os.fspath(model), list(rows), compute, _threads(threads), tokens)
    return _frame(found) if as_frame else found


def compare(evaluations, *, baseline=None, assume_same=False, seed=0, as_frame=False):
    """Compare evaluations of one set of problems, paired by problem.

    Args:
        evaluations: a mapping from names to files that ``idiolect eval`` wrote, or to lists of files (seeds, decodings).
        baseline: the name that the others are compared with; default ``base`` and ``H`` where they are there, else the first.
        assume_same: compare files whose provenance is not known or differs.
        seed: of the bootstrap.

    Returns:
        dict: what ``idiolect compare --json`` prints; with ``as_frame`` its ``differences`` as a frame.
    """
    files = []
    for name, paths in evaluations.items() if isinstance(evaluations, Mapping) else evaluations:
        many = paths if isinstance(paths, (list, tuple)) else [paths]
        files.extend((name, os.fspath(path)) for path in many)
    found = _idiolect.compare(files, baseline, assume_same, seed)
    return _frame(found["differences"]) if as_frame else found


def _threads(threads):
    return threads if threads is not None else os.cpu_count() or 1


def _frame(rows):
    try:
        import pandas
    except ImportError as missing:
        raise ImportError("as_frame=True needs pandas: pip install pandas") from missing
    return pandas.DataFrame(rows)
