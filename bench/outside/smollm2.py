#!/usr/bin/env python3
"""Tries the program on SmolLM2-135M-Instruct: doctor, generation and scores beside transformers, ten steps of fine-tuning beside torch.

    .venv/bin/pip install torch transformers gguf pyarrow
    .venv/bin/python bench/outside/models.py --only smollm2-135m-instruct
    .venv/bin/python bench/outside/smollm2.py models/real/smollm2-135m-instruct --program target/release/idiolect
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

QUESTIONS = [
    ("What is 17 + 25?", "17 + 25 = 42. The answer is 42."),
    ("Name a colour of the rainbow.", "Green."),
    ("Tom has 3 boxes of 12 eggs and drops 5 eggs. How many are left?", "3 * 12 = 36 eggs. 36 - 5 = 31. #### 31"),
    ("Write 'Häuser' in capitals.", "HÄUSER"),
    ("Say nothing but a list of two animals.", "- cat\n- dog\n"),
    ("What is 6 times 7?", "6 times 7 is 42, because 7 + 7 + 7 + 7 + 7 + 7 = 42."),
    ("A train leaves at 5:40 and arrives at 7:05. How long does it take?", "From 5:40 to 7:05 is 1 hour and 25 minutes."),
    ("Is 91 prime?", "No: 91 = 7 * 13."),
]


def rows(tokens):
    """Ids of a conversation up to its end of turn, and where the answer begins."""
    for question, answer in QUESTIONS:
        asked = [{"role": "user", "content": question}]
        given = asked + [{"role": "assistant", "content": answer}]
        before = tokens.apply_chat_template(asked, add_generation_prompt=True, return_dict=True)["input_ids"]
        ids = tokens.apply_chat_template(given, return_dict=True)["input_ids"]
        assert ids[: len(before)] == before
        end = len(before) + ids[len(before) :].index(tokens.eos_token_id) + 1
        yield ids[:end], len(before)


def write_rows(path):
    lines = (json.dumps({"prompt": q, "completion": a}, ensure_ascii=False) + "\n" for q, a in QUESTIONS)
    path.write_text("".join(lines), "utf-8")


def program(binary, *arguments):
    done = subprocess.run([binary, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def scores(model, ids, first):
    """Log-probability and rank (1 = first choice) of each id from `first` on, and the ranks that logits within 1e-4 of it leave open."""
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, first - 1 : -1].double()
    targets = torch.tensor(ids[first:])
    own = logits.gather(1, targets[:, None])
    logprobs = own[:, 0] - torch.logsumexp(logits, 1)
    def rank(border):
        return ((logits > border).sum(1) + 1).tolist()

    return logprobs.tolist(), rank(own), list(zip(rank(own + 1e-4), rank(own - 1e-4)))


def check_scores(binary, out, model, tokens, work):
    import pyarrow.parquet as parquet

    program(binary, "score", "--model", out, "--data", work / "rows.jsonl", "-o", work / "scores.jsonl", "--tokens", work / "tokens.parquet", "-q")
    worst, n, ranks_differ, unexplained = 0.0, 0, 0, 0
    for row, (ids, first) in zip(parquet.read_table(work / "tokens.parquet").to_pylist(), rows(tokens), strict=True):
        assert row["token_id"] == ids[first:], (row["token_id"], ids[first:])
        logprobs, ranks, open_ranks = scores(model, ids, first)
        worst = max([worst] + [abs(a - b) for a, b in zip(row["logprob"], logprobs, strict=True)])
        ranks_differ += sum(a != b for a, b in zip(row["rank"], ranks, strict=True))
        unexplained += sum(not low <= a <= high for a, (low, high) in zip(row["rank"], open_ranks, strict=True))
        n += len(ranks)
    print(
        f"score: {n} tokens of {len(QUESTIONS)} rows, largest difference of a log-probability {worst:.1e}, "
        f"ranks that differ {ranks_differ}, of them without a tie within 1e-4 {unexplained}"
    )
    return worst <= 1e-4 and unexplained == 0


def check_training(binary, out, tokens, work):
    """Ten full-batch steps of AdamW, beside the same in torch."""
    program(
        binary, "train", "--model", out, "--data", work / "rows.jsonl", "-o", work / "trained", "--epochs", 10, "--lr", "1e-5",
        "--batch-size", len(QUESTIONS), "--schedule", "constant", "-q",
    )
    events = [json.loads(line) for line in (work / "trained" / "log.jsonl").read_text().splitlines()]
    ours = [event["loss"] for event in events if event["event"] == "step"]
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0)
    batch = list(rows(tokens))
    n_targets = sum(len(ids) - first for ids, first in batch)
    theirs = []
    for _ in range(10):
        optimizer.zero_grad()
        total = 0.0
        for ids, first in batch:
            logits = model(torch.tensor([ids])).logits[0, first - 1 : -1]
            loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[first:]), reduction="sum") / n_targets
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        theirs.append(total)
    worst = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    print(f"train: loss {ours[0]:.4f} to {ours[-1]:.4f} in {len(ours)} steps, largest difference to torch {worst:.1e}")
    program(binary, "doctor", "--model", work / "trained")
    return ours[-1] < ours[0] and worst < 1e-3


def check_generation(binary, out, model, tokens, work):
    """Greedy completions beside those of transformers."""
    problems = work / "problems.jsonl"
    problems.write_text(
        "".join(
            json.dumps({"id": f"p/{i}", "task": "gsm8k", "question": q, "gold": {"answer": "1"}, "split": "test"}) + "\n"
            for i, (q, _) in enumerate(QUESTIONS)
        ),
        "utf-8",
    )
    (work / "prompt.txt").write_text("{question}", "utf-8")
    program(
        binary, "generate", "--model", out, "--problems", problems, "-n", 1, "--temperature", 0, "--max-tokens", 24, "--prompt", work / "prompt.txt",
        "-o", work / "traces.jsonl", "-q",
    )
    texts = {trace["problem_id"]: trace["text"] for trace in map(json.loads, (work / "traces.jsonl").read_text("utf-8").splitlines())}
    same = 0
    for i, (question, _) in enumerate(QUESTIONS):
        asked = [{"role": "user", "content": question}]
        ids = tokens.apply_chat_template(asked, add_generation_prompt=True, return_dict=True, return_tensors="pt")
        made = model.generate(**ids, max_new_tokens=24, do_sample=False)[0, ids["input_ids"].shape[1] :]
        same += tokens.decode(made, skip_special_tokens=True) == texts[f"p/{i}"]
    print(f"generate: {same} of {len(QUESTIONS)} greedy completions are those of transformers")
    print(f"    {texts['p/0']!r}")
    return same == len(QUESTIONS)


def check(binary, out):
    report = json.loads(program(binary, "doctor", "--model", out, "--json"))
    print(f"doctor: {report['errors']} errors, {report['warnings']} warnings, {report['notes']} notes")
    for finding in report["findings"]:
        if finding["severity"] != "note":
            print(f"    {finding['severity']}: {finding['about']}: {finding['what']}")
    model = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()
    tokens = AutoTokenizer.from_pretrained(out)
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        write_rows(work / "rows.jsonl")
        passed = [
            report["errors"] == 0,
            check_scores(binary, out, model, tokens, work),
            check_generation(binary, out, model, tokens, work),
            check_training(binary, out, tokens, work),
        ]
    return all(passed)


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("model", type=pathlib.Path, metavar="DIR", help="directory that models.py wrote")
    arguments.add_argument("--program", default="target/release/idiolect", help="the idiolect to try")
    given = arguments.parse_args()
    if not check(given.program, given.model):
        sys.exit(1)
