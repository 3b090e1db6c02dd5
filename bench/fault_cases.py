"""The commands that `faults.py` and `power_loss.py` disturb, on files of a few rows, and how their folders are compared.

A case is one command line, run in a folder that holds its inputs alone. Everything is made from `fixtures/` and by the
program itself. Standard library only.
"""
import json
import os
import shutil
import signal
import subprocess
import sys

from kill_and_resume import NOT_COMPARED, PROGRAM, ROOT, content_hash

TIMEOUT_S = 60

PROBLEMS = 5
SCRIPT = [
    {"contains": "0 apples", "completions": ["It is #### 1", "It is #### 8"]},
    {"completions": ["#### 1", "First 2 + 2 = 4. #### 5", "no idea", "half of 2 = 1\n#### 1"]},
]
CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 512, "hidden_size": 8,
    "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "intermediate_size": 16,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "initializer_range": 0.05,
    "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "bos_token_id": 1, "eos_token_id": 2,
}
RECIPE = """name = "small"
data = { task = "gsm8k", train = "raw.jsonl", test = "held.jsonl" }
models = { teacher = "scripted:s.jsonl", students = ["student"] }
generate = { n = 2, max_tokens = 16 }
paraphrase = { max_tokens = 16 }
flaws = { doses = [0.5] }
arms = { names = ["H", "W", "F50"], baselines = ["base", "H"] }
train = { seeds = 1, lr = 1e-3, batch_size = 2 }
eval = { max_tokens = 4 }
"""


def question(n):
    return f"{n} apples and how many are one?"


def problem(n, split="train"):
    return {"id": f"gsm8k/{split}/{n}", "task": "gsm8k", "question": question(n), "gold": {"answer": "1"},
            "human": f"{n} - {n - 1} = 1\nOne is 1.\n#### 1", "split": split}


def raw(n):
    return {"question": question(n), "answer": f"{n} - {n - 1} = <<{n}-{n - 1}=1>>1\n#### 1"}


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def programs():
    rows = [{"id": str(n), "gold": {"tests": [f"assert f(1) == {n}"], "setup": ""}, "answer": f"def f(x):\n    return x + {n % 2}"}
            for n in (1, 2)]
    return lines(rows)


class Case:
    """A command with its inputs: names of the ground, or (name of the ground, name in the folder).

    - `old`: inputs that the command may change, such as an output of other settings
    - `again`: exit codes of the same command after it ended, beside that of the uninterrupted one
    - `code`: what it ends with where that is not 0 or 3
    - `threads`: whether it takes --threads
    - `like_by_name`: whether it does the same to files of one name in many folders
    """

    def __init__(self, name, command, inputs, old=(), again=(), code=None, threads=True, like_by_name=False):
        self.name = name
        self.arguments = command.split() + (["--threads", "1"] if threads else [])
        self.inputs = [pair if isinstance(pair, tuple) else (pair, pair) for pair in inputs]
        self.old = [pair if isinstance(pair, tuple) else (pair, pair) for pair in old]
        self.again = set(again)
        self.code = code
        self.like_by_name = like_by_name


# What is made once, in order; each is an input of later commands.
GROUND = [
    "pretrain --config config.json --tokenizer tokenizer.json --data texts.jsonl -o student --epochs 1 --batch-size 2 --lr 1e-2",
    "import gsm8k questions.jsonl --split test -o q.jsonl",
    "generate --model scripted:s.jsonl --problems p.jsonl -n 2 -o t.jsonl",
    "verify --problems p.jsonl --traces t.jsonl -o v.jsonl",
    "corrupt --problems p.jsonl --traces t.jsonl --answer-only -o a.jsonl",
    "verify --problems p.jsonl --traces a.jsonl -o av.jsonl",
    "score --model student --problems p.jsonl --traces t.jsonl -o scores.jsonl",
    "arms --problems p.jsonl --traces t.jsonl --verdicts v.jsonl -o arms",
    "train --model student --data arms/W.jsonl -o lora --lora r=2,alpha=4 --batch-size 2 --lr 1e-2",
    "eval --model scripted:s.jsonl --problems p.jsonl -o e1.jsonl",
    "eval --model scripted:s2.jsonl --problems p.jsonl -o e2.jsonl",
    "run recipe.toml --out finished",
]

CASES = [
    Case("import", "import gsm8k raw.jsonl -o out.jsonl --traces traces.jsonl", ["raw.jsonl"]),
    Case("import csv", "import gsm8k raw.csv -o out.jsonl", ["raw.csv"]),
    Case("import with refused rows", "import gsm8k bad.jsonl -o out.jsonl --traces traces.jsonl --max-rejects 0.9", ["bad.jsonl"]),
    Case("import drawn", "import countdown --generate 4 -o out.jsonl", []),
    Case("import of lm-eval", "import gsm8k samples_x.jsonl -o out.jsonl --traces traces.jsonl --eval eval.jsonl", ["samples_x.jsonl"]),
    Case("import of a batch", "import gsm8k batch.jsonl --problems q.jsonl --traces traces.jsonl --eval eval.jsonl",
         ["batch.jsonl", "q.jsonl"]),
    Case("generate", "generate --model scripted:s.jsonl --problems p.jsonl -n 2 -o out.jsonl", ["s.jsonl", "p.jsonl"]),
    Case("generate gzip", "generate --model scripted:s.jsonl --problems p.jsonl -o deep/er/out.jsonl.gz", ["s.jsonl", "p.jsonl"]),
    Case("generate with a model", "generate --model student --problems p.jsonl -n 2 --max-tokens 4 -o out.jsonl", ["student", "p.jsonl"]),
    Case("generate with refused rows", "generate --model scripted:s3.jsonl --problems p.jsonl -n 2 -o out.jsonl --max-rejects 0.9",
         ["s3.jsonl", "p.jsonl"]),
    Case("generate over an output of other settings", "generate --model scripted:s.jsonl --problems p.jsonl -o out.jsonl --overwrite",
         ["s.jsonl", "p.jsonl"], old=[("t.jsonl", "out.jsonl"), ("t.jsonl.meta.json", "out.jsonl.meta.json")]),
    Case("generate in batches", "generate --model http://127.0.0.1:9/v1#none --problems p.jsonl -n 2 --batch batch -o out.jsonl", ["p.jsonl"],
         code=1),
    Case("paraphrase", "paraphrase --model scripted:s.jsonl --problems p.jsonl --traces t.jsonl -o out.jsonl",
         ["s.jsonl", "p.jsonl", "t.jsonl"]),
    Case("corrupt", "corrupt --problems p.jsonl --traces t.jsonl --dose 0.5 -o out.jsonl", ["p.jsonl", "t.jsonl"]),
    Case("corrupt control", "corrupt --problems p.jsonl --traces t.jsonl --control -o out.jsonl", ["p.jsonl", "t.jsonl"]),
    Case("verify", "verify --problems p.jsonl --traces t.jsonl -o out.jsonl", ["p.jsonl", "t.jsonl"]),
    Case("verify pairs", "verify --task gsm8k --pairs pairs.jsonl -o out.jsonl", ["pairs.jsonl"]),
    Case("verify programs", "verify --task mbpp --pairs programs.jsonl -o out.jsonl", ["programs.jsonl"]),
    Case("audit", "audit --problems p.jsonl --traces t.jsonl --verdicts v.jsonl --json", ["p.jsonl", "t.jsonl", "v.jsonl"]),
    Case("score", "score --model student --problems p.jsonl --traces t.jsonl -o out.jsonl --tokens out.parquet",
         ["student", "p.jsonl", "t.jsonl"]),
    Case("arms", "arms --problems p.jsonl --traces t.jsonl --verdicts v.jsonl --scores scores.jsonl --model student -o out",
         ["p.jsonl", "t.jsonl", "v.jsonl", "scores.jsonl", "student"]),
    Case("arms that cross style with correctness", "arms --problems p.jsonl --traces t.jsonl --traces a.jsonl "
         "--verdicts v.jsonl --verdicts av.jsonl --arm A --arm W --arm M=W:0.5+G:0.5 -o out",
         ["p.jsonl", "t.jsonl", "v.jsonl", "a.jsonl", "av.jsonl"]),
    Case("corrupt but the answer", "corrupt --problems p.jsonl --traces t.jsonl --answer-only -o out.jsonl", ["p.jsonl", "t.jsonl"]),
    Case("score rows", "score --model student --data arms/W.jsonl -o out.jsonl", ["student", "arms"]),
    Case("train", "train --model student --data arms/W.jsonl --dev arms/H.jsonl --dev-every 2 --checkpoint-every 1 --batch-size 2 "
         "--lr 1e-2 -o out", ["student", "arms"]),
    Case("train an adapter", "train --model student --data arms/W.jsonl --lora r=2,alpha=4 --checkpoint-every 1 --batch-size 2 "
         "--lr 1e-2 -o out", ["student", "arms"]),
    Case("pretrain", "pretrain --config config.json --tokenizer tokenizer.json --data texts.jsonl --batch-size 2 -o out",
         ["config.json", "tokenizer.json", "texts.jsonl"]),
    Case("convert", "convert lora -o out --to merged", ["lora", "student"]),
    Case("convert to GGUF", "convert student -o out.gguf --to gguf", ["student"]),
    Case("convert rows", "convert arms/W.jsonl -o deep/out.jsonl --to llama-factory", ["arms"]),
    Case("convert to a table", "convert arms/W.jsonl -o out.parquet --to parquet", ["arms"]),
    Case("convert an evaluation", "convert e1.jsonl -o out --to lm-eval --problems p.jsonl", ["e1.jsonl", "e1.jsonl.meta.json", "p.jsonl"]),
    Case("eval", "eval --model student --problems p.jsonl --max-tokens 4 -o out.jsonl", ["student", "p.jsonl"]),
    Case("compare", "compare a=e1.jsonl b=e2.jsonl --baseline a --report out.html --json",
         ["e1.jsonl", "e1.jsonl.meta.json", "e2.jsonl", "e2.jsonl.meta.json"]),
    Case("advise", "advise --model student --problems p.jsonl W=arms/W.jsonl H=arms/H.jsonl --rows 4 --ask 2 --samples 2 --max-tokens 4 --json",
         ["student", "p.jsonl", "arms"]),
    Case("race", "race --model student --problems p.jsonl W=arms/W.jsonl H=arms/H.jsonl --ask 2 --max-tokens 4 --epochs 2 --batch-size 2 "
         "--lr 1e-2 --budget 1 --tolerance 0 -o out --json", ["student", "p.jsonl", "arms"]),
    Case("inspect", "inspect --model student --data arms/W.jsonl --html out.html", ["student", "arms"], threads=False),
    Case("doctor", "doctor --model student --json", ["student"], threads=False),
    Case("init", "init math -o out.toml", [], again=[2], threads=False),
    Case("man", "man pages", [], threads=False),
    Case("report", "report finished -o out.html", ["finished"]),
    Case("report of evaluations", "report --eval a=e1.jsonl --eval b=e2.jsonl --problems p.jsonl -o out.html",
         ["e1.jsonl", "e1.jsonl.meta.json", "e2.jsonl", "e2.jsonl.meta.json", "p.jsonl"]),
    Case("run", "run recipe.toml --out out -q", ["recipe.toml", "raw.jsonl", "held.jsonl", "s.jsonl", "student"], like_by_name=True),
]


def ran(command, folder):
    """Runs a command; the exit code is None where it had to be ended."""
    # The interpreter itself, and no script that looks for one.
    environment = {**os.environ, "IDIOLECT_PYTHON": sys.executable}
    process = subprocess.Popen(command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True)
    try:
        out, err = process.communicate(timeout=TIMEOUT_S)
        code = process.returncode
    except subprocess.TimeoutExpired:
        # strace and what it watches.
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        code = None
    return code, out.decode(errors="replace"), err.decode(errors="replace")


def make_ground(folder, program):
    """Makes every input of the cases."""
    os.makedirs(folder)
    written = {
        "p.jsonl": lines(problem(n) for n in range(PROBLEMS)),
        "raw.jsonl": lines(raw(n) for n in range(6)),
        "held.jsonl": lines(raw(n) for n in range(10, 12)),
        "bad.jsonl": lines([raw(0), {"question": "no answer"}, raw(1)]) + "no JSON\n",
        "raw.csv": "question,answer\n" + "".join(f'"{question(n)}","It is 1. #### 1"\n' for n in range(3)),
        "s.jsonl": lines(SCRIPT),
        "s2.jsonl": lines([{"completions": ["#### 1"]}]),
        "s3.jsonl": lines([{"contains": "2 apples", "completions": ["#### 2", "#### 1"]}]),
        "pairs.jsonl": lines({"id": str(n), "gold": "1", "answer": f"#### {n}"} for n in range(3)),
        "programs.jsonl": programs(),
        "texts.jsonl": lines({"text": question(n)} for n in range(4)),
        "config.json": json.dumps(CONFIG),
        "recipe.toml": RECIPE,
    }
    for name, text in written.items():
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
    shutil.copy(os.path.join(ROOT, "fixtures", "stories260K", "tokenizer.json"), folder)
    outside = os.path.join(ROOT, "fixtures", "outside")
    shutil.copy(os.path.join(outside, "lm-eval", "samples_eggs_sampled_2026-01-01T00-00-00.000000.jsonl"), os.path.join(folder, "samples_x.jsonl"))
    shutil.copy(os.path.join(outside, "openai-batch.jsonl"), os.path.join(folder, "batch.jsonl"))
    shutil.copy(os.path.join(outside, "questions.jsonl"), os.path.join(folder, "questions.jsonl"))
    for command in GROUND:
        code, _, err = ran([program, *command.split(), "--threads", "1"], folder)
        if code != 0:
            raise SystemExit(f"cannot make the inputs: idiolect {command}\nexit {code}\n{err}")


def copy(source, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    (shutil.copytree if os.path.isdir(source) else shutil.copy)(source, target)


def fresh(case, ground, folder):
    """The folder of a case before its command."""
    if os.path.exists(folder):
        shutil.rmtree(folder)
    os.makedirs(folder)
    for source, name in case.inputs + case.old:
        copy(os.path.join(ground, source), os.path.join(folder, name))


def tree(folder):
    """Every file by its path with the hash of its bytes, and every empty folder."""
    found = {}
    for at, folders, names in os.walk(folder):
        if not folders and not names:
            found[os.path.relpath(at, folder) + "/"] = ""
        for name in names:
            path = os.path.join(at, name)
            if name in NOT_COMPARED:
                continue
            found[os.path.relpath(path, folder)] = content_hash(path)
    return found


def differences(expected, found):
    """In words, at most a few; empty where the folders are the same."""
    words = [f"{path} is missing" for path in sorted(expected.keys() - found.keys())]
    words += [f"{path} should not be there" for path in sorted(found.keys() - expected.keys())]
    words += [f"{path} has other bytes" for path in sorted(expected.keys() & found.keys()) if expected[path] != found[path]]
    return "; ".join(words[:4]) + (f"; {len(words) - 4} more" if len(words) > 4 else "")


class Reference:
    """What the uninterrupted command leaves and says. It is run three times: twice afresh, to see that it is the same each
    time, and once more over what it left, which must change nothing."""

    def __init__(self, case, program, ground, folder):
        self.command = [program, *case.arguments]
        seen = []
        for _ in range(2):
            fresh(case, ground, folder)
            self.inputs = {name: value for name, value in tree(folder).items() if value and not is_old(case, name)}
            code, out, err = ran(self.command, folder)
            seen.append((code, out, tree(folder)))
        # Words of an undisturbed command that ends with an error.
        self.words = last_line(err) if code == 1 else None
        if code not in ((0, 3) if case.code is None else (case.code,)):
            raise SystemExit(f"{case.name}: the uninterrupted command fails ({code}):\n{err}")
        if seen[0] != seen[1]:
            raise SystemExit(f"{case.name}: two uninterrupted runs differ: {differences(seen[0][2], seen[1][2]) or 'in what they print'}")
        self.code, self.out, self.tree = code, out, seen[0][2]
        self.codes = {code} | case.again
        code, _, err = ran(self.command, folder)
        changed = differences(self.tree, tree(folder))
        if code not in self.codes or changed:
            raise SystemExit(f"{case.name}: the command over its own output: exit {code}; {changed}\n{err}")


def last_line(words):
    """The error that a command ended with, or else its last words."""
    kept = [line for line in words.splitlines() if line.startswith("error")] or words.splitlines()[-1:]
    return kept[0] if kept else "no words"


def is_old(case, name):
    return any(name == old or name.startswith(old + os.sep) for _, old in case.old)
