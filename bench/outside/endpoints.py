#!/usr/bin/env python3
"""Tries `--model http://…` on real servers of one model, and compares its scores with the native engine's.

    .venv/bin/python bench/outside/endpoints.py models/real/smollm2-135m-instruct --server idiolect --server transformers
    .venv/bin/python bench/outside/endpoints.py DIR --at http://127.0.0.1:8000/v1      # one that runs already: vLLM, llama.cpp

Of each server: sample traces, paraphrase them, score them; what the server lacks must be refused before work. Scores must lie within
1e-3 of the native engine's, and ranks, where given, be equal. `transformers` needs `pip install "transformers[serving]" torch`.
"""

import argparse
import json
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

QUESTIONS = ["Tom has 3 boxes of 12 eggs and drops 5 eggs. How many are left?", "What is 17 + 25?", "Ann has 4 pens and buys 6 more. How many has she?"]


def program(binary, *arguments):
    return subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start(kind, binary, model):
    """A server's process and its base URL, once it answers."""
    port = free_port()
    commands = {
        "idiolect": [binary, "serve", "--model", model, "--port", str(port), "-q"],
        "transformers": [str(pathlib.Path(sys.executable).parent / "transformers"), "serve", str(model), "--host", "127.0.0.1", "--port", str(port)],
    }
    log = tempfile.TemporaryFile()
    child = subprocess.Popen(list(map(str, commands[kind])), stdout=log, stderr=log)
    for _ in range(240):
        if child.poll() is not None:
            log.seek(0)
            sys.exit(f"{kind} ended: {log.read().decode()[-2000:]}")
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
            return child, f"http://127.0.0.1:{port}/v1"
        except OSError:
            time.sleep(0.5)
    child.kill()
    sys.exit(f"{kind} did not become ready")


def tokens(path):
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path).to_pylist()


def compare(native, remote):
    worst, ranks, n = 0.0, 0, 0
    for a, b in zip(native, remote, strict=True):
        assert a["token_id"] == b["token_id"], "other tokens"
        worst = max([worst] + [abs(x - y) for x, y in zip(a["logprob"], b["logprob"], strict=True)])
        n += len(a["token_id"])
        if "rank" in b:
            ranks += sum(x != y for x, y in zip(a["rank"], b["rank"], strict=True))
    return worst, ranks if "rank" in remote[0] else None, n


def attempt(name, base, binary, model, given, work):
    print(f"{name}:")
    passed = True
    reference = f"{base}#{given.name}" if given.name else base
    asked = [binary, "--model", reference, "--problems", work / "problems.jsonl"]
    began = time.perf_counter()
    done = program(binary, "generate", *asked[1:], "-n", 4, "--temperature", 0.7, "--max-tokens", 48, "-o", work / f"{name}.jsonl", "--json", "-q")
    took = time.perf_counter() - began
    if done.returncode != 0:
        print(f"  generate   FAILED {done.stderr.strip()}")
        return False
    facts = json.loads(done.stdout)
    print(f"  generate   {facts['rows']} traces, {facts['completion_tokens']} tokens in {took:.1f} s, {facts['requests']} requests")
    done = program(binary, "paraphrase", *asked[1:], "--traces", work / f"{name}.jsonl", "--unchecked", "--max-tokens", 48, "-o", work / f"{name}.p.jsonl", "--json", "-q")
    print(f"  paraphrase {json.loads(done.stdout)['rows']} rewritings" if done.returncode == 0 else f"  paraphrase FAILED {done.stderr.strip()}")
    passed &= done.returncode == 0
    # The same traces for every server: the native engine's scores are made once.
    score = ["--problems", work / "problems.jsonl", "--traces", work / "traces.jsonl", "-q"]
    output = work / f"{name}.scores.jsonl"
    done = program(binary, "score", "--model", reference, "--tokenizer", model, *score, "-o", output, "--tokens", work / f"{name}.parquet")
    if done.returncode == 0:
        worst, ranks, n = compare(tokens(work / "native.parquet"), tokens(work / f"{name}.parquet"))
        shown = "no ranks" if ranks is None else f"{ranks} ranks differ"
        print(f"  score      {n} tokens, largest difference to the native engine {worst:.1e}, {shown}")
        passed &= worst <= 1e-3 and not ranks
    else:
        print(f"  score      refused before work: {done.stderr.strip()[:400]}")
        passed &= not output.exists()
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path, metavar="DIR")
    parser.add_argument("--server", action="append", choices=["idiolect", "transformers"], default=[], help="start this one; may be given again")
    parser.add_argument("--at", action="append", default=[], metavar="URL", help="a server of the model that runs already; may be given again")
    parser.add_argument("--name", help="the model's name on the server, where it lists none")
    parser.add_argument("--program", default="target/release/idiolect")
    given = parser.parse_args()
    binary = given.program
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        rows = [{"id": f"p/{i}", "task": "gsm8k", "question": q, "gold": {"answer": "1"}, "split": "test"} for i, q in enumerate(QUESTIONS)]
        (work / "problems.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        texts = ["3 * 12 = 36 eggs. 36 - 5 = 31.\n#### 31", "17 + 25 = 42, so the answer is 42.", "Ann has 4 + 6 = 10 pens.\nNaïve? \"No\"."]
        traces = [{"id": f"t{i}", "problem_id": f"p/{i}", "text": text, "finish": "stop", "origin": {"kind": "imported"}} for i, text in enumerate(texts)]
        (work / "traces.jsonl").write_text("".join(json.dumps(row) + "\n" for row in traces))
        done = program(binary, "score", "--model", given.model, "--problems", work / "problems.jsonl", "--traces", work / "traces.jsonl", "-o", work / "n.jsonl", "--tokens", work / "native.parquet", "-q")
        if done.returncode != 0:
            sys.exit(done.stderr)
        passed = True
        for kind in given.server:
            child, base = start(kind, binary, given.model)
            if kind == "transformers":
                given.name = str(given.model)
            try:
                passed &= attempt(kind, base, binary, given.model, given, work)
            finally:
                child.terminate()
                child.wait()
                given.name = None
        for number, base in enumerate(given.at):
            passed &= attempt(f"at{number}", base, binary, given.model, given, work)
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
