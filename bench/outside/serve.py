#!/usr/bin/env python3
"""`idiolect serve` beside its clients: the openai package, lm-eval, and as fast as `idiolect generate`.

    python3 -m venv .venv && .venv/bin/pip install openai 'lm-eval[api]' transformers
    .venv/bin/python bench/outside/serve.py target/release/idiolect MODEL [--clients 32,64] [--samples 1024] [--max-tokens 200]

MODEL is a model directory (fixtures/stories260K, or what models.py writes). Three parts, each skipped with a line where its package is
missing. Speed: the same completions by `generate` and by clients that ask one at a time over connections that they keep; the texts must be
equal. Times hold the start of the program for both.
"""

import argparse
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

OPENINGS = ["Once upon a time", "Tom and Lily went to the park.", "The little dog", "One day, a girl named Sue", "Ben had a red ball.",
            "It was raining, and", "The bird said:", "Mom and Dad were"]


class Server:
    """A server on a free port of this machine."""

    def __init__(self, program, model, *flags):
        self.process = subprocess.Popen([program, "serve", "--model", model, "--port", "0", "--json", "-q", *flags],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        about = json.loads(self.process.stdout.readline())
        self.port, self.url, self.name = about["port"], about["listening"], about["model"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def connection(port):
    return http.client.HTTPConnection("127.0.0.1", port, timeout=600)


def ask(client, path, body):
    client.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    reply = client.getresponse()
    text = reply.read()
    if reply.status != 200:
        sys.exit(f"{path}: {reply.status} {text.decode()}")
    return json.loads(text)


def speed(program, model, clients, samples, max_tokens, folder):
    problems, prompt = folder / "problems.jsonl", folder / "prompt.txt"
    rows = [{"id": f"gsm8k/test/{i}", "task": "gsm8k", "question": text, "gold": {"answer": "1"}, "split": "test"}
            for i, text in enumerate(OPENINGS)]
    problems.write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompt.write_text("{question}")
    each = max(1, samples // len(OPENINGS))
    traces = folder / "traces.jsonl"
    began = time.monotonic()
    subprocess.run([program, "generate", "--model", model, "--template", "raw", "--problems", problems, "--prompt", prompt, "-n", str(each),
                    "--max-tokens", str(max_tokens), "-o", traces, "--overwrite", "-q"], check=True, stdout=subprocess.DEVNULL)
    offline = time.monotonic() - began
    rows = [json.loads(line) for line in traces.read_text().splitlines()]
    work = [{"prompt": OPENINGS[int(row["problem_id"].rsplit("/", 1)[1])], "seed": row["origin"]["sampling"]["seed"], "temperature": 1.0,
             "max_tokens": max_tokens, "text": row["text"]} for row in rows]
    tokens = rate = None
    for n in clients:
        todo, counted, lock = list(reversed(work)), [0, 0], threading.Lock()

        def client(port):
            kept = connection(port)
            while True:
                with lock:
                    if not todo:
                        return
                    one = todo.pop()
                body = {key: value for key, value in one.items() if key != "text"}
                got = ask(kept, "/v1/completions", body)
                with lock:
                    counted[0] += got["usage"]["completion_tokens"]
                    counted[1] += got["choices"][0]["text"] != one["text"]

        began = time.monotonic()
        with Server(program, model, "--template", "raw") as server:
            threads = [threading.Thread(target=client, args=(server.port,)) for _ in range(n)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            online = time.monotonic() - began
        if tokens is None:
            tokens = counted[0]
            # Equal texts of one problem left one row; they were written all the same.
            rate = tokens * each * len(OPENINGS) / len(work) / offline
            print(f"generate: {each * len(OPENINGS)} completions, {len(work)} of them different, in {offline:.1f} s, {rate:.0f} tokens/s")
        print(f"serve, {n} clients: {len(work)} completions, {tokens} tokens in {online:.1f} s, {tokens / online:.0f} tokens/s, "
              f"{tokens / online / rate:.2f} of generate, {counted[1]} texts differ")


def openai_client(program, model):
    try:
        import openai
    except ImportError:
        return print("openai: not installed")
    with Server(program, model) as server:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="none")
        print("openai models:", [entry.id for entry in client.models.list()])
        asked = {"model": server.name, "prompt": OPENINGS[0], "max_tokens": 24, "seed": 1}
        whole = client.completions.create(**asked, logprobs=2)
        pieces = [chunk.choices[0].text for chunk in client.completions.create(**asked, stream=True)]
        print("openai completions:", repr(whole.choices[0].text), whole.usage.completion_tokens, "tokens;",
              len(pieces), "pieces, the same text:", "".join(pieces) == whole.choices[0].text)
        turns = [{"role": "user", "content": "Say hello."}]
        try:
            asked = {"model": server.name, "messages": turns, "max_completion_tokens": 24, "seed": 1}
            whole = client.chat.completions.create(**asked, logprobs=True, top_logprobs=2)
            stream = client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
            chunks = list(stream)
            text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
            print("openai chat:", repr(whole.choices[0].message.content), "finish", whole.choices[0].finish_reason,
                  "the same text in pieces:", text == whole.choices[0].message.content, "usage", chunks[-1].usage.total_tokens)
        except openai.BadRequestError as error:
            print("openai chat:", error.status_code, error.body["message"])
        try:
            client.completions.create(model=server.name, prompt="a", max_tokens=10**6)
        except openai.BadRequestError as error:
            print("openai error:", error.status_code, error.code)


TASKS = {
    "here_choice": {"output_type": "multiple_choice", "doc_to_text": "{{q}}", "doc_to_choice": "{{choices}}", "doc_to_target": "{{gold}}",
                    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}]},
    "here_text": {"output_type": "generate_until", "doc_to_text": "{{q}}", "doc_to_target": "{{choices[gold]}}",
                  "generation_kwargs": {"until": ["."], "max_gen_toks": 24, "temperature": 0.0}, "metric_list": [{"metric": "exact_match"}]},
}


def lm_eval(program, model, folder):
    try:
        import yaml
        import lm_eval as _
    except ImportError:
        return print("lm-eval: not installed")
    rows = [{"q": "Once upon a", "choices": ["time", "dog", "run"], "gold": 0}, {"q": "Tom and Lily went to the", "choices": ["sad", "park"],
            "gold": 1}, {"q": "They played all", "choices": ["day", "red"], "gold": 0}] * 8
    data = folder / "data.json"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in TASKS.items():
        files = {"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": str(data)}}, "test_split": "test"}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **files, **task}))
    with Server(program, model, "--template", "raw") as server:
        arguments = (f"model={server.name},base_url={server.url}/v1/completions,tokenizer_backend=huggingface,tokenizer={model},"
                     "num_concurrent=8,max_length=256")
        out = folder / "lm-eval"
        ran = subprocess.run([sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args", arguments, "--include_path",
                              str(folder), "--tasks", ",".join(TASKS), "--output_path", str(out), "--log_samples"],
                             env={**os.environ, "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    if ran.returncode != 0:
        return print("lm-eval failed:\n" + ran.stderr[-3000:])
    for file in sorted(out.rglob("results_*.json")):
        for name, values in json.loads(file.read_text())["results"].items():
            print("lm-eval", name, {key: value for key, value in values.items() if isinstance(value, float)})
    for file in sorted(out.rglob("samples_here_choice_*.jsonl")):
        print("lm-eval first answers:", json.loads(file.read_text().splitlines()[0])["filtered_resps"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--clients", default="32,64")
    parser.add_argument("--samples", type=int, default=1024)
    parser.add_argument("--max-tokens", type=int, default=200)
    asked = parser.parse_args()
    program, model = os.path.abspath(asked.program), os.path.abspath(asked.model)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        openai_client(program, model)
        lm_eval(program, model, folder)
        clients = [int(n) for n in asked.clients.split(",")]
        speed(program, model, clients, asked.samples, asked.max_tokens, folder)


if __name__ == "__main__":
    main()
