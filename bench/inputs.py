"""What both sides of `run.py` read: models of random weights, a tokenizer, and rows of real GSM8K and MATH text.

The texts come from the folder that IDIOLECT_DATA names and never enter the repository; without it the work on real text
is left out, and the run states so.
"""

import gzip
import json
import os
import pathlib
import random
import shutil
import subprocess

ROWS_PER_STEP = 8
LONGEST = 1024
TRACES_PER_PROBLEM = 8

# Hugging Face configs. The vocabulary of a large shape stays its own, whatever the tokenizer trained here fills of it.
SHAPES = {
    "student": {
        "words": "default experiment's student (Llama, 164k parameters)", "model_type": "llama", "vocab_size": 204, "hidden_size": 64,
        "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 176,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "initializer_range": 0.05,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}, "bos_token_id": 1, "eos_token_id": 2,
    },
    "135m": {
        "words": "SmolLM2-135M shape", "model_type": "llama", "vocab_size": 49152, "hidden_size": 576, "num_hidden_layers": 30,
        "num_attention_heads": 9, "num_key_value_heads": 3, "intermediate_size": 1536, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": True, "initializer_range": 0.041666666666666664,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100000.0}, "bos_token_id": 0, "eos_token_id": 0,
    },
    "0.5b-4": {
        "words": "Qwen2.5-0.5B shape, 4 layers", "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "num_hidden_layers": 4,
        "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "initializer_range": 0.02,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}, "bos_token_id": 0, "eos_token_id": 0,
    },
    "0.5b": {
        "words": "Qwen2.5-0.5B shape, bf16", "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 896, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "intermediate_size": 4864, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "initializer_range": 0.02,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}, "bos_token_id": 0, "eos_token_id": 0,
    },
    "1.5b": {
        "words": "Qwen2.5-1.5B shape, bf16", "model_type": "qwen2", "vocab_size": 151936, "hidden_size": 1536, "num_hidden_layers": 28,
        "num_attention_heads": 12, "num_key_value_heads": 2, "intermediate_size": 8960, "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6, "tie_word_embeddings": True, "initializer_range": 0.02,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1000000.0}, "bos_token_id": 0, "eos_token_id": 0,
    },
}

MAKE_MODEL = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
shape = json.loads(sys.argv[2])
shape.pop("words")
torch.manual_seed(0)
dtype = torch.bfloat16 if sys.argv[3] == "bf16" else torch.float32
torch.set_default_dtype(dtype)
AutoModelForCausalLM.from_config(AutoConfig.for_model(shape.pop("model_type"), **shape), dtype=dtype).save_pretrained(sys.argv[1])
"""


def make_model(python, folder, name, dtype="f32", tokenizer=None):
    """A model directory of random weights, with the tokenizer where there is one; made once."""
    if not (folder / "config.json").exists():
        subprocess.run([python, "-c", MAKE_MODEL, folder, json.dumps(SHAPES[name]), dtype], check=True)
    if tokenizer and tokenizer.exists():
        shutil.copy(tokenizer, folder / "tokenizer.json")
        (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<|endoftext|>", "tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


MAKE_ADAPTER = """
import json, sys, torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
lora = json.loads(sys.argv[3])
torch.manual_seed(0)
config = LoraConfig(r=lora["r"], lora_alpha=lora["alpha"], target_modules="all-linear", task_type="CAUSAL_LM")
get_peft_model(AutoModelForCausalLM.from_pretrained(sys.argv[1]), config).save_pretrained(sys.argv[2])
"""


def make_adapter(python, folder, model, lora):
    """A fresh adapter as PEFT makes it, so that both sides start from the same; made once."""
    if not (folder / "adapter_config.json").exists():
        subprocess.run([python, "-c", MAKE_ADAPTER, model, folder, json.dumps(lora)], check=True)
    return folder


def data_folder():
    folder = os.environ.get("IDIOLECT_DATA")
    return pathlib.Path(folder) if folder else None


def lines(path):
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def prompt_of(question):
    return f"Question: {question}\nAnswer:"


def solutions(data):
    """(prompt, completion) of every human solution of GSM8K's and MATH's training parts."""
    pairs = [(prompt_of(r["question"]), " " + r["answer"]) for r in lines(data / "gsm8k" / "train.jsonl")]
    return pairs + [(prompt_of(r["problem"]), " " + r["solution"]) for r in lines(data / "math" / "train.jsonl.gz")]


def make_tokenizer(path, data):
    """A byte-level BPE of at most 49,152 pieces trained on the training parts; token 0 ends a text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    if path.exists():
        return Tokenizer.from_file(str(path))
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=49152, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator((p + c for p, c in solutions(data)), trainer)
    tokenizer.save(str(path))
    return tokenizer


def encode(tokenizer, prompt, completion):
    """{ids, completion_start} of prompt + completion + end; None when it is too long."""
    before = tokenizer.encode(prompt).ids
    ids = before + tokenizer.encode(completion).ids + [0]
    return {"ids": ids, "completion_start": len(before)} if len(ids) <= LONGEST else None


def real_batches(tokenizer, data, steps):
    """Optimiser steps of ROWS_PER_STEP rows, half of them GSM8K's and half MATH's; shortest row first, which suits padding."""
    rng = random.Random(0)
    pairs = solutions(data)
    border = len(lines(data / "gsm8k" / "train.jsonl"))
    batches = []
    for _ in range(steps):
        rows = []
        while len(rows) < ROWS_PER_STEP:
            low, high = (0, border) if len(rows) % 2 == 0 else (border, len(pairs))
            row = encode(tokenizer, *pairs[rng.randrange(low, high)])
            rows += [row] if row else []
        batches.append(sorted(rows, key=lambda r: len(r["ids"])))
    return batches


def dense_batches(vocab, rows, length, steps):
    """Rows of one length, every token a target."""
    rng = random.Random(1)
    return [[{"ids": [rng.randrange(vocab) for _ in range(length)], "completion_start": 1} for _ in range(rows)] for _ in range(steps)]


def student_batches(steps):
    """32 rows of 26 to 36 tokens of the default experiment's vocabulary, loss on the response."""
    rng = random.Random(2)
    row = lambda: {"ids": [rng.randrange(204) for _ in range(rng.randint(26, 36))], "completion_start": 7}
    return [sorted((row() for _ in range(32)), key=lambda r: len(r["ids"])) for _ in range(steps)]


def problem_groups(tokenizer, data, problems):
    """For each of `problems` GSM8K test problems, the rows of TRACES_PER_PROBLEM published traces of real models."""
    questions = [r["question"] for r in lines(data / "gsm8k" / "test.jsonl")]
    traces = {}
    for path in sorted((data / "traces").glob("*gsm8k__*.jsonl.gz")):
        for row in lines(path):
            name, split, number = row["problem_id"].split("/")
            if (name, split) == ("gsm8k", "test"):
                traces.setdefault(int(number), {})[row["response"]] = None
    groups = []
    for number in sorted(traces):
        rows = [encode(tokenizer, prompt_of(questions[number]), " " + text) for text in traces[number]]
        rows = [r for r in rows if r][:TRACES_PER_PROBLEM]
        if len(rows) == TRACES_PER_PROBLEM:
            groups.append(rows)
        if len(groups) == problems:
            return groups
    raise SystemExit(f"error: only {len(groups)} problems have {TRACES_PER_PROBLEM} traces in {data / 'traces'}, expected {problems}")


def generation_prompts(tokenizer, data, problems):
    """Text and token ids of the prompts of the first GSM8K test problems."""
    texts = [prompt_of(r["question"]) for r in lines(data / "gsm8k" / "test.jsonl")[:problems]]
    return [{"text": text, "ids": tokenizer.encode(text).ids} for text in texts]
