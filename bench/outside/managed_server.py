#!/usr/bin/env python3
"""Servers that idiolect starts (`--server COMMAND`), in every way to fail: a real model, idiolect's own `serve` and llama.cpp's server.

    python3 bench/outside/managed_server.py models/smollm2-135m-instruct                                  # idiolect serve
    python3 bench/outside/managed_server.py DIR --llama-server llama-server [--gguf FILE]                 # and llama.cpp
    python3 bench/outside/managed_server.py DIR --command 'vllm serve {model} --host 127.0.0.1 --port {port}'

Each case ends in words or in whole rows, and leaves no process: every process that inherited a mark of this program's is looked for in /proc
afterwards (Linux). What is not installed is skipped, loudly. Prints a table; exit code 1 where something failed.
"""

import argparse
import json
import math
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[2]
MARK = "IDIOLECT_BENCH_MARK"
# The first start of a wrapped server; later ones are the server alone.
WRAPPER = """echo $$ >> "$PIDS"
case "$FIRST" in
die) echo 'cannot load this' >&2; exit 3 ;;
hang) echo 'loading'; sleep 1000 ;;
port) if [ ! -e "$ONCE" ]; then touch "$ONCE"; set -- "$1" "$TAKEN"; fi ;;
crash) if [ ! -e "$ONCE" ]; then
    touch "$ONCE"
    (serve "$@") & server=$!
    while [ "$(wc -l < "$JOURNAL" 2>/dev/null || echo 0)" -lt 3 ]; do sleep 0.02; done
    kill -9 $server; echo 'CUDA error: an illegal memory access'; exit 7
  fi ;;
esac
serve "$@"
"""


def words(text):
    """The error on one line, without what is the same in all and without folders."""
    text = re.sub(r"`/[^`]*/", "`", text.partition("hint:")[0])
    return " ".join(text.split()).removeprefix("error: ")[:200]


def shell_word(word):
    """A word of a template for the wrapper, whose arguments are the model and the port."""
    places = {"{model}": '"$1"', "{port}": '"$2"'}
    return "".join(places.get(piece) or (shlex.quote(piece) if piece else "") for piece in re.split(r"(\{model\}|\{port\})", word))


class Bench:
    def __init__(self, binary, model, command, work, n):
        self.binary, self.model, self.work, self.n = binary, model, work, n
        self.mark = uuid.uuid4().hex
        filled = " ".join(map(shell_word, shlex.split(command)))
        self.script = work / "server.sh"
        self.script.write_text(f"serve() {{ exec {filled}\n}}\n{WRAPPER}")
        rows = [{"id": f"gsm8k/test/{i}", "task": "gsm8k", "question": f"Tom has {i + 2} boxes of 12 eggs and drops 5. How many are left?", "gold": {"answer": str(12 * (i + 2) - 5)}, "split": "test"} for i in range(n)]
        self.problems = work / "problems.jsonl"
        self.problems.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def environment(self, first, output):
        own = {MARK: self.mark, "FIRST": first, "PIDS": str(output) + ".pids", "ONCE": str(output) + ".once", "JOURNAL": str(output) + ".part"}
        return {**os.environ, **own}

    def arguments(self, output, *flags):
        command = f"sh {shlex.quote(str(self.script))} {{model}} {{port}}"
        fixed = ["--model", self.model, "--problems", self.problems, "--temperature", 0, "--max-tokens", 24, "--in-flight", 1, "-q"]
        return list(map(str, [self.binary, "generate", *fixed, "--server", command, "-o", output, *flags]))

    def start(self, first, output, *flags, **more):
        environment = {**self.environment(first, output), **more}
        return subprocess.Popen(self.arguments(output, *flags), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def run(self, first, output, *flags, **more):
        child = self.start(first, output, *flags, **more)
        _, err = child.communicate()
        return child.returncode, err

    def await_rows(self, output, child, rows=3):
        journal = pathlib.Path(str(output) + ".part")
        while child.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < rows):
            time.sleep(0.01)

    def left(self):
        """Processes that carry the mark, waited for as long as a server has to end."""
        for _ in range(150):
            found = []
            for entry in pathlib.Path("/proc").glob("[0-9]*"):
                try:
                    if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes() and ") Z " not in (entry / "stat").read_text():
                        found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80])
                except OSError:
                    continue
            if not found:
                return []
            time.sleep(0.1)
        return found

    def last_server(self, output):
        return int(pathlib.Path(str(output) + ".pids").read_text().split()[-1])


def rows_of(path):
    return [json.loads(line)["text"] for line in path.read_text().splitlines()]


def cases(bench, whole):
    """Name, what is expected, what came, whether it is right."""
    work = bench.work

    def goes_on(output):
        code, err = bench.run("", output)
        same = code == 0 and rows_of(output) == whole
        return same, "goes on to the same rows" if same else f"does not go on: exit {code} {words(err)}"

    code, err = bench.run("die", work / "die.jsonl")
    yield "dies at its start", code == 1 and "exit code 3 before it was ready" in err and "| cannot load this" in err, err
    code, err = bench.run("hang", work / "hang.jsonl", "--ready-timeout", 2)
    yield "never ready", code == 1 and "not ready within 2 s" in err and "| loading" in err, err

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        output = work / "port.jsonl"
        code, err = bench.run("port", output, TAKEN=str(taken.getsockname()[1]))
        starts = pathlib.Path(str(output) + ".pids").read_text().count("\n")
        right = code == 0 and rows_of(output) == whole and starts == 2
        yield "port taken", right, err

    output = work / "crash.jsonl"
    code, err = bench.run("crash", output)
    right = code == 1 and "exit code 7 while it was at work" in err and "| CUDA error" in err
    on, how = goes_on(output)
    yield "crashes at work", right and on, err + how

    output = work / "killed.jsonl"
    child = bench.start("", output)
    bench.await_rows(output, child)
    os.kill(bench.last_server(output), signal.SIGKILL)
    began = time.perf_counter()
    _, err = child.communicate()
    took = time.perf_counter() - began
    right = child.returncode == 1 and "killed by signal 9" in err
    on, how = goes_on(output)
    yield f"killed by hand (noticed after {took:.1f} s)", right and on, err + how

    for name, sent, code in [("Ctrl-C", signal.SIGINT, 130), ("SIGKILL of idiolect", signal.SIGKILL, -9)]:
        output = work / f"{sent.name}.jsonl"
        child = bench.start("", output)
        bench.await_rows(output, child)
        child.send_signal(sent)
        _, err = child.communicate()
        left = bench.left()
        on, how = goes_on(output)
        yield name, child.returncode == code and not left and on, err + how


def score(bench, model):
    """The largest difference of summed surprisal a token between server and engine, over a few traces."""
    traces = bench.work / "traces.jsonl"
    rows = [json.loads(line) for line in bench.problems.read_text().splitlines()[:8]]
    traces.write_text("".join(json.dumps({"id": f"t{i}", "problem_id": row["id"], "text": f"12 boxes hold 12 * 12 eggs.\n#### {i}", "finish": "stop", "origin": {"kind": "imported"}}) + "\n" for i, row in enumerate(rows)))
    found = []
    for name, server in [("server", True), ("native", False)]:
        output = bench.work / f"score-{name}.jsonl"
        arguments = [bench.binary, "score", "--model", model, "--problems", bench.problems, "--traces", traces, "-o", output, "-q"]
        if server:
            arguments += ["--server", f"sh {shlex.quote(str(bench.script))} {{model}} {{port}}"]
        done = subprocess.run(list(map(str, arguments)), env=bench.environment("", output), capture_output=True, text=True)
        if done.returncode:
            return None, words(done.stderr)
        found.append([json.loads(line) for line in output.read_text().splitlines()])
    return max(abs(a["nll_nats"] - b["nll_nats"]) / a["n_tokens"] for a, b in zip(*found, strict=True)), ""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--binary", default=str(ROOT / "target/release/idiolect"))
    parser.add_argument("--llama-server", help="the program of llama.cpp, by name or path")
    parser.add_argument("--gguf", type=pathlib.Path, help="the model for llama.cpp; made by `idiolect convert --to gguf` without it")
    parser.add_argument("--command", help="another server's command, with {model} and {port}")
    parser.add_argument("-n", type=int, default=40, help="problems")
    arguments = parser.parse_args()
    model = arguments.model.resolve()
    failed = 0
    with tempfile.TemporaryDirectory(prefix="managed-server-") as folder:
        folder = pathlib.Path(folder)
        servers = [("idiolect serve", model, f"{shlex.quote(arguments.binary)} serve --model {{model}} --port {{port}} -q")]
        llama = arguments.llama_server and shutil.which(arguments.llama_server)
        if llama:
            copy = folder / model.name
            copy.mkdir()
            for file in model.iterdir():
                (copy / file.name).symlink_to(file)
            if arguments.gguf:
                (copy / "model.gguf").symlink_to(arguments.gguf.resolve())
            else:
                subprocess.run([arguments.binary, "convert", str(model), "-o", str(copy / "model.gguf"), "--to", "gguf", "-q"], check=True)
            f32 = "--cache-type-k f32 --cache-type-v f32 --flash-attn off"
            servers.append(("llama.cpp", copy, f"{shlex.quote(llama)} -m {{model}}/model.gguf --host 127.0.0.1 --port {{port}} -c 4096 -np 1 {f32}"))
        else:
            print("SKIPPED: llama.cpp's server is not there (give it with --llama-server)", file=sys.stderr)
        if arguments.command:
            servers.append((shlex.split(arguments.command)[0], model, arguments.command))
        print(f"{'server':<16}{'case':<40}{'result':<9}what it said")
        for name, directory, command in servers:
            work = folder / name.replace(" ", "-")
            work.mkdir()
            bench = Bench(arguments.binary, directory, command, work, arguments.n)

            def line(case, right, said):
                nonlocal failed
                left = bench.left()
                failed += not right or bool(left)
                verdict = "ok" if right and not left else "FAILED"
                print(f"{name:<16}{case:<40}{verdict:<9}{words(said)}{' LEFT: ' + '; '.join(left) if left else ''}", flush=True)

            began = time.perf_counter()
            output = work / "whole.jsonl"
            code, err = bench.run("", output)
            line(f"start, work, stop ({time.perf_counter() - began:.1f} s)", code == 0, err)
            if code:
                continue
            whole = rows_of(output)
            native = work / "native.jsonl"
            plain = [a for a in bench.arguments(native)]
            for flag in ("--server", "--in-flight"):
                at = plain.index(flag)
                del plain[at : at + 2]
            subprocess.run(plain, check=True, stdout=subprocess.DEVNULL)
            equal = sum(a == b for a, b in zip(whole, rows_of(native), strict=False))
            line(f"greedy rows equal to native: {equal} of {len(whole)}", name != "idiolect serve" or equal == len(whole) == len(rows_of(native)), "")
            worst, why = score(bench, directory)
            line("scores" if worst is None else f"scores, worst {worst:.1e} nats a token", worst is not None and worst < 1e-2 and math.isfinite(worst), why)
            for case, right, said in cases(bench, whole):
                line(case, right, said)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
