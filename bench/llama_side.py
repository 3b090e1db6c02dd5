"""The llama.cpp half of `run.py`'s sampling work, through llama-cpp-python's low-level interface.

The prompt of a problem is computed once and its cells are shared by the problem's sequences (`seq_cp`); sequences of many
problems are decoded in one batch a step. Writes the GGUF itself, from the same safetensors, with the `gguf` package.
"""

import ctypes
import json
import pathlib
import sys
import time

import llama_cpp
import numpy as np


def write_gguf(directory, path, kind):
    """A Llama directory as GGUF: q and k rows permuted for interleaved rotary, as llama.cpp's own converter does.
    Matrices in `kind`: f32, f16 or bf16."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((pathlib.Path(directory) / "config.json").read_text())
    tensors = load_file(pathlib.Path(directory) / "model.safetensors")
    heads, kv = config["num_attention_heads"], config["num_key_value_heads"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(config["hidden_size"] // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_file_type({"f32": 0, "f16": 1, "bf16": 32}[kind])
    writer.add_tokenizer_model("none")
    names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }

    def put(name, array):
        if kind == "bf16" and array.ndim == 2:
            dtype = gguf.GGMLQuantizationType.BF16
            return writer.add_tensor(name, gguf.quants.quantize(array.astype(np.float32), dtype), raw_dtype=dtype)
        writer.add_tensor(name, array.astype(np.float16 if kind == "f16" and array.ndim == 2 else np.float32))

    def permute(array, n):
        rows, columns = array.shape
        return array.reshape(n, 2, rows // n // 2, columns).swapaxes(1, 2).reshape(rows, columns)

    put("token_embd.weight", tensors["model.embed_tokens.weight"])
    put("output_norm.weight", tensors["model.norm.weight"])
    for layer in range(config["num_hidden_layers"]):
        for theirs, ours in names.items():
            array = tensors[f"model.layers.{layer}.{theirs}.weight"]
            if theirs.endswith("q_proj"):
                array = permute(array, heads)
            if theirs.endswith("k_proj"):
                array = permute(array, kv)
            put(f"blk.{layer}.{ours}.weight", array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Context:
    def __init__(self, path, sequences, cells, threads):
        parameters = llama_cpp.llama_model_default_params()
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        assert self.model, path
        settings = llama_cpp.llama_context_default_params()
        settings.n_ctx = cells
        settings.n_batch = settings.n_ubatch = max(512, sequences)
        settings.n_seq_max = sequences
        settings.n_threads = settings.n_threads_batch = threads
        settings.kv_unified = True
        self.context = llama_cpp.llama_init_from_model(self.model, settings)
        assert self.context
        self.batch = llama_cpp.llama_batch_init(settings.n_batch, 0, sequences)
        self.vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def decode(self, entries):
        """entries: (token, position, sequences, wants logits)."""
        batch = self.batch
        batch.n_tokens = len(entries)
        for i, (token, position, sequences, wants) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, len(sequences), wants
            for j, sequence in enumerate(sequences):
                batch.seq_id[i][j] = sequence
        code = llama_cpp.llama_decode(self.context, batch)
        if code:
            sys.exit(f"error: llama_decode answered {code}")


def sampler(seed):
    chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
    llama_cpp.llama_sampler_chain_add(chain, llama_cpp.llama_sampler_init_dist(seed))
    return chain


def generate(job, data):
    prompts = [p["ids"] for p in data["prompts"][job["prompts"]]]
    samples, new = job["samples"], job["new_tokens"]
    sequences = job["batch_size"]
    problems = max(1, sequences // samples)
    longest = max(map(len, prompts))
    context = Context(job["gguf"], sequences, problems * longest + sequences * new, job["threads"])
    memory = llama_cpp.llama_get_memory(context.context)
    chains = [sampler(i) for i in range(sequences)]
    tokens, started = 0, time.perf_counter()
    for at in range(0, len(prompts), problems):
        group = prompts[at : at + problems]
        llama_cpp.llama_memory_clear(memory, True)
        last = []
        for p, prompt in enumerate(group):
            own = list(range(p * samples, (p + 1) * samples))
            context.decode([(t, i, own, i + 1 == len(prompt)) for i, t in enumerate(prompt)])
            last += [(s, llama_cpp.llama_sampler_sample(chains[s], context.context, len(prompt) - 1), len(prompt)) for s in own]
        tokens += len(last)
        for step in range(1, new):
            context.decode([(token, position, [s], True) for s, token, position in last])
            last = [(s, llama_cpp.llama_sampler_sample(chains[s], context.context, i), position + 1) for i, (s, _, position) in enumerate(last)]
            tokens += len(last)
    print(json.dumps({"wall_s": time.perf_counter() - started, "tokens": tokens}), flush=True)
    llama_cpp.llama_free(context.context)
    llama_cpp.llama_model_free(context.model)


def logits(job, data):
    """Log-probabilities of a row's targets, to show that the GGUF is the same model."""
    row = data["batches"][job["batches"]][0][0]
    context = Context(job["gguf"], 1, 2048, job["threads"])
    ids = row["ids"][:512]
    context.decode([(t, i, [0], True) for i, t in enumerate(ids)])
    out = []
    for i in range(row["completion_start"] - 1, len(ids) - 1):
        values = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context.context, i), (context.vocab,)).astype(np.float64)
        out.append(float(values[ids[i + 1]] - values.max() - np.log(np.exp(values - values.max()).sum())))
    print(json.dumps({"scores": out}), flush=True)


def main():
    quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    with open(sys.argv[1], encoding="utf-8") as file:
        data = json.load(file)
    print(json.dumps({"llama-cpp-python": llama_cpp.__version__}), flush=True)
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        {"generate": generate, "logits": logits}[job["job"]](job, data)


if __name__ == "__main__":
    main()
