#!/usr/bin/env python3
"""lm-eval and inspect_ai against `idiolect serve`, beside `idiolect score` and `idiolect eval` of the same model.

    .venv/bin/pip install 'lm-eval[api]' transformers inspect_ai openai pyyaml
    .venv/bin/python bench/outside/harnesses.py models/real/smollm2-135m-instruct

lm-eval: the log-likelihood of each choice against the sum that `score` writes, and greedy texts against those of `eval`, one by one.
inspect_ai: one task of the same problems, its answers against those of `eval` with the chat template.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile

PROBLEMS = [("Tom has 3 boxes of 12 eggs and drops 5 eggs. How many eggs are left?", "31"), ("Ann has 17 pens and buys 25 more. How many pens has she?", "42"),
            ("A book has 90 pages. Ben reads a third of it. How many pages are left?", "60"), ("What is 6 times 7?", "42")]
CHOICES = [("The capital of France is", [" Paris", " London", " a small dog"]), ("2 + 2 =", [" 4", " 5"]), ("Once upon a", [" time", " table"])]
SHAPE = "Question: {question}\nAnswer:"
MOST = 64


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def program(binary, *arguments):
    done = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{arguments}: {done.stderr}")


class Server:
    """`idiolect serve` on a free port."""

    def __init__(self, binary, model, template):
        self.child = subprocess.Popen([binary, "serve", "--model", str(model), "--port", "0", "--json", "-q", "--template", template],
                                      stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        about = json.loads(self.child.stdout.readline())
        self.url, self.name = about["listening"] + "/v1", about["model"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.child.send_signal(signal.SIGTERM)
        self.child.wait()


def evaluated(binary, model, work, template):
    """The greedy text that `idiolect eval` gets for each problem."""
    (work / "prompt.txt").write_text(SHAPE)
    write(work / "problems.jsonl", [{"id": f"p/{i}", "task": "gsm8k", "question": q, "gold": {"answer": a}, "split": "test"} for i, (q, a) in enumerate(PROBLEMS)])
    output = work / f"eval-{template}.jsonl"
    program(binary, "eval", "--model", model, "--template", template, "--problems", work / "problems.jsonl", "--prompt", work / "prompt.txt",
            "--max-tokens", MOST, "--stop", "Question:", "-o", output, "-q")
    return {row["problem_id"]: row["text"] for row in read(output)}


def scored(binary, model, work):
    """The log-likelihood that `idiolect score` gives each choice."""
    rows = [{"prompt": context, "completion": choice} for context, choices in CHOICES for choice in choices]
    write(work / "rows.jsonl", rows)
    program(binary, "score", "--model", model, "--template", "raw", "--data", work / "rows.jsonl", "-o", work / "scores.jsonl", "-q")
    return [-row["nll_nats"] for row in read(work / "scores.jsonl")]


def lm_eval(binary, model, work):
    import yaml

    write(work / "choices.json", [{"q": context, "choices": choices, "gold": 0} for context, choices in CHOICES])
    write(work / "generate.json", [{"q": SHAPE.replace("{question}", q), "a": a} for q, a in PROBLEMS])
    common = {"dataset_path": "json", "test_split": "test", "doc_to_text": "{{q}}"}
    tasks = {
        "our_choices": {"output_type": "multiple_choice", "doc_to_choice": "choices", "doc_to_target": "gold", "target_delimiter": "",
                        "dataset_kwargs": {"data_files": {"test": str(work / "choices.json")}}},
        "our_generate": {"output_type": "generate_until", "doc_to_target": "a", "generation_kwargs": {"until": ["Question:"], "max_gen_toks": MOST, "temperature": 0},
                         "dataset_kwargs": {"data_files": {"test": str(work / "generate.json")}}},
    }
    for name, task in tasks.items():
        (work / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **common, **task}))
    with Server(binary, model, "raw") as server:
        arguments = f"model={server.name},base_url={server.url}/completions,tokenizer_backend=huggingface,tokenizer={model},num_concurrent=4,max_length=512"
        ran = subprocess.run([sys.executable, "-m", "lm_eval", "--model", "local-completions", "--model_args", arguments, "--include_path", str(work),
                              "--tasks", ",".join(tasks), "--output_path", str(work / "out"), "--log_samples"],
                             env={**os.environ, "HF_DATASETS_OFFLINE": "1", "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit("lm-eval failed:\n" + ran.stderr[-3000:])
    theirs = []
    for row in sorted(read(next((work / "out").rglob("samples_our_choices_*.jsonl"))), key=lambda row: row["doc_id"]):
        theirs += [float(answer[0][0]) for answer in row["resps"]]
    ours = scored(binary, model, work)
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    print(f"lm-eval: {len(ours)} log-likelihoods, largest difference to `idiolect score` {worst:.1e} nats")
    texts = evaluated(binary, model, work, "raw")
    made = {f"p/{row['doc_id']}": row["resps"][0][0] for row in read(next((work / "out").rglob("samples_our_generate_*.jsonl")))}
    same = sum(made[key] == text for key, text in texts.items())
    print(f"lm-eval: {same} of {len(texts)} greedy texts are those of `idiolect eval`")
    return worst < 1e-3 and same == len(texts)


def inspect(binary, model, work):
    task = work / "task.py"
    task.write_text(
        "from inspect_ai import Task, task\nfrom inspect_ai.dataset import Sample\nfrom inspect_ai.scorer import includes\nfrom inspect_ai.solver import generate\n"
        f"ROWS = {[(SHAPE.replace('{question}', q), a) for q, a in PROBLEMS]!r}\n"
        "@task\ndef ours():\n    return Task(dataset=[Sample(input=q, target=a) for q, a in ROWS], solver=generate(), scorer=includes())\n"
    )
    with Server(binary, model, "chat") as server:
        ran = subprocess.run([str(pathlib.Path(sys.executable).parent / "inspect"), "eval", task.name, "--model", f"openai-api/ours/{server.name}", "--temperature", "0",
                              "--max-tokens", str(MOST), "--stop-seqs", "Question:", "--log-dir", str(work / "logs"), "--log-format", "json", "--display", "none"],
                             env={**os.environ, "OURS_API_KEY": "none", "OURS_BASE_URL": server.url}, capture_output=True, text=True, cwd=work)
    if ran.returncode != 0:
        sys.exit("inspect_ai failed:\n" + (ran.stdout + ran.stderr)[-3000:])
    log = json.loads(next((work / "logs").glob("*.json")).read_text())
    made = {f"p/{int(sample['id']) - 1}": sample["output"]["choices"][0]["message"]["content"] for sample in log["samples"]}
    texts = evaluated(binary, model, work, "chat")
    same = sum(made[key] == text for key, text in texts.items())
    print(f"inspect_ai: status {log['status']}, {same} of {len(texts)} answers are those of `idiolect eval`")
    return log["status"] == "success" and same == len(texts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=lambda text: pathlib.Path(text).absolute(), metavar="DIR")
    parser.add_argument("--program", type=os.path.abspath, default="target/release/idiolect")
    given = parser.parse_args()
    passed = True
    for harness in (lm_eval, inspect):
        with tempfile.TemporaryDirectory() as folder:
            passed &= harness(given.program, given.model, pathlib.Path(folder))
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
