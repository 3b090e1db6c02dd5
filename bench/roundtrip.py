#!/usr/bin/env python3
"""Model and adapter directories to and fro: what transformers and PEFT write loads here, and what is written here loads there.

    cargo build --release
    .venv/bin/python bench/roundtrip.py            # the environment of fixtures/parity (with peft), and pyarrow

For each family, tied and untied, whole and in shards, in f32, bf16 and f16: transformers saves a random model with
a tokenizer; `idiolect score` gives each completion token's log-prob, which must be transformers' own; `idiolect train`
writes a fine-tuned directory, and the two must agree on that too. The same with adapters: one that PEFT saved, one that
`idiolect train --lora` wrote (read by PEFT), and what `idiolect convert --to merged` and PEFT's own merge make of them.
Prints one line a case and exits 1 where one fails.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import pyarrow.parquet
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

ROOT = pathlib.Path(__file__).resolve().parent.parent
LIMIT = 1e-4
ROWS = [
    ("Question: Tom has 3 apples and buys 4 more. How many?\n", "3 + 4 = 7. The answer is 7."),
    ("Question: A train goes 60 km in 2 hours. How fast?\n", "60 / 2 = 30, so it goes 30 km an hour."),
    ("Write a line.\n", "Naïve café — déjà vu!"),
]
SHAPE = {
    "vocab_size": 320,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 12,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "initializer_range": 0.2,
}
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500.0, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]


def cases():
    """Name, config, dtype, largest shard."""
    t = transformers
    llama3 = LLAMA3 | {"original_max_position_embeddings": 32}
    yield "llama, untied", t.LlamaConfig(**SHAPE, rope_parameters=llama3), "float32", None
    yield "llama, tied, bf16, shards", t.LlamaConfig(**SHAPE, tie_word_embeddings=True), "bfloat16", "20KB"
    yield "mistral, f16", t.MistralConfig(**SHAPE, sliding_window=7), "float16", None
    yield "qwen2, shards", t.Qwen2Config(**SHAPE, use_sliding_window=True, sliding_window=9, max_window_layers=1), "float32", "30KB"
    yield "qwen3, tied, bf16", t.Qwen3Config(**SHAPE, tie_word_embeddings=True), "bfloat16", None
    yield "gemma2, shards", t.Gemma2Config(**SHAPE, sliding_window=8, query_pre_attn_scalar=20), "float32", "30KB"
    gemma3 = t.Gemma3TextConfig(**SHAPE, sliding_window=8, layer_types=LAYERS, query_pre_attn_scalar=20)
    yield "gemma3, bf16", gemma3, "bfloat16", None
    yield "olmo2, shards", t.Olmo2Config(**SHAPE), "float32", "30KB"


def tokenizer():
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    made.train_from_iterator([a + b for a, b in ROWS], trainer)
    made.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def idiolect(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"idiolect {' '.join(map(str, arguments))}: exit {done.returncode}\n{done.stderr}")


def theirs(directory, adapter=None):
    """Transformers' log-probs of each row's completion and end token, in f32 arithmetic; with an adapter PEFT's."""
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    # Gemma's embedding scale is rounded to the type that the weights were stored in.
    stored = getattr(torch, json.loads((directory / "config.json").read_text())["dtype"])
    scale = getattr(model.model.embed_tokens, "embed_scale", None)
    if scale is not None:
        scale.copy_(scale.to(stored))
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).eval()
    tokens = PreTrainedTokenizerFast.from_pretrained(directory)
    out = []
    for prompt, completion in ROWS:
        encoded = tokens(prompt + completion, return_offsets_mapping=True)
        first = next(i for i, (start, _) in enumerate(encoded.offset_mapping) if start >= len(prompt))
        ids = torch.tensor(encoded.input_ids + [tokens.eos_token_id])
        with torch.no_grad():
            logp = torch.log_softmax(model(input_ids=ids[None], use_cache=False).logits[0], -1)
        out.append((ids[first:].tolist(), logp[torch.arange(first - 1, len(ids) - 1), ids[first:]].tolist()))
    return out


def ours(program, directory, rows, work):
    out = work / "tokens.parquet"
    idiolect(program, "score", "--model", directory, "--template", "raw", "--data", rows, "-o", work / "a.jsonl", "--tokens", out, "--overwrite")
    table = pyarrow.parquet.read_table(out).to_pydict()
    return list(zip(table["token_id"], table["logprob"]))


def difference(a, b):
    assert [ids for ids, _ in a] == [ids for ids, _ in b], "other tokens"
    return max(abs(x - y) for (_, p), (_, q) in zip(a, b) for x, y in zip(p, q))


def check_full(program, name, config, dtype, shard, tokens, work):
    """The two differences in log-prob: of a directory that transformers wrote, and of one written here."""
    torch.manual_seed(3)
    written, trained = work / "written", work / "trained"
    model = AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    for parameter_name, parameter in model.named_parameters():
        if "norm" in parameter_name or parameter_name.endswith("bias"):
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    model.save_pretrained(written, **({"max_shard_size": shard} if shard else {}))
    tokens.save_pretrained(written)
    assert (written / "model.safetensors.index.json").exists() == bool(shard), "sharded as asked"
    rows = work / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in ROWS))
    read = difference(ours(program, written, rows, work), theirs(written))
    idiolect(program, "train", "--model", written, "--template", "raw", "--data", rows, "-o", trained, "--lr", "0.003", "--epochs", "3")
    before = theirs(written)
    after = theirs(trained)
    assert difference(before, after) > 0.01, "training changed nothing"
    return read, difference(ours(program, trained, rows, work), after)


def check_adapters(program, config, targets, rslora, work):
    """The differences in log-prob: of an adapter that PEFT saved, of one trained here, and of that one merged here."""
    base, rows = work / "written", work / "rows.jsonl"
    saved, trained, merged = work / "saved", work / "adapter", work / "merged"
    torch.manual_seed(5)
    settings = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, use_rslora=rslora, target_modules=targets)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), settings)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(0, 0.1)
    model.peft_config["default"].base_model_name_or_path = "../written"
    model.save_pretrained(saved)
    before = theirs(base)
    read = theirs(base, saved)
    assert difference(before, read) > 0.01, "the adapter does nothing"
    names = "" if targets == "all-linear" else ",targets=" + ",".join(targets)
    lora = f"r=4,alpha=6,rslora={str(rslora).lower()},dropout=0.1{names}"
    idiolect(program, "train", "--model", base, "--template", "raw", "--data", rows, "-o", trained, "--lora", lora, "--lr", "0.03", "--epochs", "4")
    after = theirs(base, trained)
    assert difference(before, after) > 0.01, "training changed nothing"
    idiolect(program, "convert", trained, "-o", merged, "--to", "merged", "--dtype", "f32")
    # A merged f32 directory says so in its config; Gemma's embedding scale follows that type.
    whole = theirs(merged)
    gemma_in_half = config.model_type.startswith("gemma") and json.loads((base / "config.json").read_text())["dtype"] != "float32"
    return [
        difference(ours(program, saved, rows, work), read),
        difference(ours(program, trained, rows, work), after),
        difference(ours(program, merged, rows, work), whole),
        0.0 if gemma_in_half else difference(whole, after),
    ]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default=ROOT / "target/release/idiolect")
    options = parser.parse_args()
    tokens = tokenizer()
    failed = 0
    heads = ["read here", "read there", "PEFT's", "adapter", "merged", "merged = it"]
    print(f"{'case':<28}" + "".join(f" {head:>11}" for head in heads) + f"   (largest difference in log-prob, limit {LIMIT})")
    for i, (name, config, dtype, shard) in enumerate(cases()):
        with tempfile.TemporaryDirectory() as work:
            found = list(check_full(options.program, name, config, dtype, shard, tokens, pathlib.Path(work)))
            targets = "all-linear" if i % 2 else ["q_proj", "v_proj", "down_proj"]
            found += check_adapters(options.program, config, targets, i % 3 == 0, pathlib.Path(work))
        failed += not max(found) <= LIMIT
        print(f"{name:<28}" + "".join(f" {value:>11.1e}" for value in found), flush=True)
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
