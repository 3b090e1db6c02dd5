"""The installed package `idiolect`: its module and its program. Standard library only.

    python3 -m venv env && env/bin/pip install target/wheels/idiolect-*.whl
    env/bin/python python/tests/test_module.py
"""
import doctest
import json
import pathlib
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import idiolect

ROOT = pathlib.Path(__file__).resolve().parents[2]
STUDENT = ROOT / "fixtures" / "stories260K"
PROGRAM = pathlib.Path(sys.executable).parent / "idiolect"
PAIRS = [
    ("18", "<think>Is it 20?</think> She makes $18 every day."),
    ("18", "She makes 17."),
    ("18", "I do not know."),
    ("1/3", "#### 0.333"),
    ("3", "\x1b[31m<script>alert(1)</script> \u202e 3 #### 3"),
    ("7", "a line of 100 kB " + "x" * 100_000),
]


def run(*words):
    return subprocess.run([PROGRAM, *map(str, words)], capture_output=True, text=True)


class Module(unittest.TestCase):
    def test_the_examples_of_the_docstrings(self):
        self.assertEqual(doctest.testmod(idiolect).failed, 0)

    def test_verdicts_are_those_of_the_program(self):
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            for task in ["gsm8k", "math"]:
                lines = [json.dumps({"id": i, "gold": gold, "answer": answer}) for i, (gold, answer) in enumerate(PAIRS)]
                (folder / "pairs.jsonl").write_text("\n".join(lines) + "\n")
                out = folder / f"{task}.jsonl"
                done = run("verify", "--task", task, "--pairs", folder / "pairs.jsonl", "-o", out, "-q")
                self.assertEqual(done.returncode, 0, done.stderr)
                rows = [json.loads(line) for line in out.read_text().splitlines()]
                for (gold, answer), row in zip(PAIRS, rows, strict=True):
                    found = idiolect.verify(gold, answer, task=task)
                    self.assertEqual((found["verdict"], found["extracted"], found["reason"]), (row["verdict"], row["extracted"], row["reason"]))
                    self.assertEqual(found["correct"], row["verdict"] == "correct")

    def test_numbers_and_objects_are_golds_too(self):
        self.assertTrue(idiolect.verify(18, "18", task="gsm8k")["correct"])
        self.assertTrue(idiolect.verify({"numbers": [1, 2, 3], "target": 9}, "(1 + 2) * 3", task="countdown")["correct"])
        self.assertFalse(idiolect.verify({"numbers": [1, 2, 3], "target": 9}, "3 * 3", task="countdown")["correct"])

    def test_threads_give_what_one_gives_and_run_beside_each_other(self):
        pairs = PAIRS * 300
        alone = idiolect.verify_many(pairs, task="gsm8k", threads=1)
        self.assertEqual(idiolect.verify_many(pairs, task="gsm8k", threads=8), alone)
        found = [None] * 8
        def work(at):
            found[at] = [idiolect.verify(gold, answer, task="gsm8k") for gold, answer in pairs]
        threads = [threading.Thread(target=work, args=[at]) for at in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(found, [alone] * 8)

    def test_the_interpreter_goes_on_while_work_is_done(self):
        ticks, ended = 0, threading.Event()
        def work():
            idiolect.verify_many(PAIRS * 3000, threads=1)
            ended.set()
        thread = threading.Thread(target=work)
        thread.start()
        while not ended.is_set():
            ticks += 1
            time.sleep(0.001)
        thread.join()
        self.assertGreater(ticks, 3)

    def test_scores_are_those_of_the_program(self):
        rows = [{"prompt": "Once", "completion": " upon a time"}, {"messages": [{"role": "user", "content": "a"}]}]
        with self.assertRaisesRegex(ValueError, r"rows\[1\]"):
            idiolect.score(STUDENT, rows)
        rows = [rows[0], {"prompt": "x" * 5000, "completion": "y" * 5000}]
        found = idiolect.score(STUDENT, rows, tokens=True, threads=2)
        self.assertIn("error", found[1])
        tokens = found[0].pop("tokens")
        self.assertEqual(len(tokens), found[0]["n_tokens"] + 1)
        self.assertAlmostEqual(-sum(t["logprob"] for t in tokens[:-1]), found[0]["nll_nats"], places=9)
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            (folder / "rows.jsonl").write_text(json.dumps(rows[0]) + "\n")
            done = run("score", "--model", STUDENT, "--data", folder / "rows.jsonl", "-o", folder / "scores.jsonl", "-q")
            self.assertEqual(done.returncode, 0, done.stderr)
            row = json.loads((folder / "scores.jsonl").read_text())
        for name in ["n_tokens", "n_bytes", "nll_nats", "entropy_nats", "rank_sum", "end_nll_nats", "model"]:
            self.assertEqual(found[0][name], row[name], name)

    def test_comparisons_are_those_of_the_program(self):
        with tempfile.TemporaryDirectory() as folder:
            files = {}
            for name, every in [("base", 4), ("W", 2)]:
                files[name] = pathlib.Path(folder) / f"{name}.jsonl"
                row = lambda i: {"problem_id": f"p/{i}", "sample": 0, "decoding": "greedy", "text": "", "finish": "stop",
                                 "verdict": "correct" if i % every == 0 else "wrong", "extracted": None, "n_tokens": 1}
                files[name].write_text("".join(json.dumps(row(i)) + "\n" for i in range(200)))
            with self.assertRaises((ValueError, RuntimeError)):
                idiolect.compare(files, baseline="none")
            found = idiolect.compare(files, assume_same=True)
            done = run("compare", *(f"{name}={path}" for name, path in files.items()), "--assume-same", "--json")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(found["differences"], json.loads(done.stdout)["differences"])
            self.assertAlmostEqual(found["differences"][0]["difference"], 0.25)

    def test_frames_where_pandas_is_installed(self):
        try:
            import pandas
        except ImportError:
            with self.assertRaisesRegex(ImportError, "pip install pandas"):
                idiolect.verify_many(PAIRS, as_frame=True)
            self.skipTest("pandas is not installed: no frame was made")
        frame = idiolect.verify_many(PAIRS, task="gsm8k", as_frame=True)
        self.assertIsInstance(frame, pandas.DataFrame)
        self.assertEqual(list(frame["verdict"][:2]), ["correct", "wrong"])

    def test_what_is_wrong_is_said(self):
        for call, words in [
            (lambda: idiolect.verify("1", "1", task="mbpp"), "idiolect verify"),
            (lambda: idiolect.verify("1", "1", task="poetry"), "gsm8k, math or countdown"),
            (lambda: idiolect.score(STUDENT, [], compute="f8"), "bf16"),
            (lambda: idiolect.score("no/such", [{"prompt": "a", "completion": "b"}]), "no model directory"),
        ]:
            with self.assertRaisesRegex((ValueError, RuntimeError), words):
                call()

    def test_the_program_is_installed_with_it(self):
        self.assertIn(idiolect.__version__, run("--version").stdout)


if __name__ == "__main__":
    unittest.main()
