"""The PyTorch half of `run.py`: reads one JSON job a line from standard input, answers with JSON lines.

Not a strawman: rows of one length are batched without a mask, others are sorted by length and padded on the right (which
causal attention needs no mask for); attention is PyTorch's fused one; AdamW is its fused one; the hand-written decoder
computes logits only where there is a target, and so does scoring through transformers. TRL runs without gradient
checkpointing on rows sorted within the step. A job's `compute` is `f32`, `bf16` (autocast over f32 weights), or
`pure bf16` (weights and everything else in bf16). The loss is `idiolect`'s: summed over targets, divided once.

A training answers one line a step and waits for a line before each, so that two sides can take turns.
"""

import json
import os
import sys
import tempfile
import time

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import AutoModelForCausalLM, TrainerCallback

ROWS_AT_A_TIME = 8  # of scoring, when a job states none


def answer(value):
    print(json.dumps(value), file=OUT, flush=True)


def wait():
    """Whether the other end wants another step."""
    return sys.stdin.readline().strip() == "step"


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        c, f = config.hidden_size, config.intermediate_size
        self.heads, self.kv = config.num_attention_heads, config.num_key_value_heads
        self.width = c // self.heads
        self.eps = config.rms_norm_eps
        self.before_attention, self.before_mlp = nn.Parameter(torch.ones(c)), nn.Parameter(torch.ones(c))
        self.qkv = nn.Linear(c, (self.heads + 2 * self.kv) * self.width, bias=config.model_type == "qwen2")
        self.o = nn.Linear(c, c, bias=False)
        self.gate_up, self.down = nn.Linear(c, 2 * f, bias=False), nn.Linear(f, c, bias=False)

    def forward(self, x, cos, sin):
        b, t, c = x.shape
        qkv = self.qkv(F.rms_norm(x, (c,), self.before_attention, self.eps)).view(b, t, self.heads + 2 * self.kv, self.width)
        turned = rotate(qkv[:, :, : self.heads + self.kv], cos, sin)
        q, k, v = (y.transpose(1, 2) for y in (turned[:, :, : self.heads], turned[:, :, self.heads :], qkv[:, :, self.heads + self.kv :]))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=self.kv != self.heads)
        x = x + self.o(attended.transpose(1, 2).reshape(b, t, c))
        gate, up = self.gate_up(F.rms_norm(x, (c,), self.before_mlp, self.eps)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    """Half-rotation form; x is (B, T, H, D), cos and sin (T, 1, D/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Plain(nn.Module):
    """The same Llama or Qwen 2 by hand: fused q-k-v and gate-up, rotary tables made once, tied head."""

    def __init__(self, source):
        super().__init__()
        config = source.config
        assert config.tie_word_embeddings
        self.eps = config.rms_norm_eps
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(config.hidden_size))
        width = config.hidden_size // config.num_attention_heads
        inverse = config.rope_parameters["rope_theta"] ** (-torch.arange(0, width, 2).float() / width)
        angles = torch.arange(min(config.max_position_embeddings, 4096)).float()[:, None, None] * inverse
        self.cos, self.sin = angles.cos(), angles.sin()
        self.copy_from(source)

    @torch.no_grad()
    def copy_from(self, source):
        self.embed.weight.copy_(source.model.embed_tokens.weight)
        self.norm.copy_(source.model.norm.weight)
        for mine, theirs in zip(self.layers, source.model.layers):
            a, m = theirs.self_attn, theirs.mlp
            mine.qkv.weight.copy_(torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight]))
            if mine.qkv.bias is not None:
                mine.qkv.bias.copy_(torch.cat([a.q_proj.bias, a.k_proj.bias, a.v_proj.bias]))
            mine.o.weight.copy_(a.o_proj.weight)
            mine.gate_up.weight.copy_(torch.cat([m.gate_proj.weight, m.up_proj.weight]))
            mine.down.weight.copy_(m.down_proj.weight)
            mine.before_attention.copy_(theirs.input_layernorm.weight)
            mine.before_mlp.copy_(theirs.post_attention_layernorm.weight)

    def logits_at(self, ids, where):
        x, t = self.embed(ids), ids.shape[1]
        for layer in self.layers:
            x = layer(x, self.cos[:t], self.sin[:t])
        return F.linear(F.rms_norm(x[where], x.shape[-1:], self.norm, self.eps), self.embed.weight)


class Transformers(nn.Module):
    def __init__(self, source):
        super().__init__()
        self.model = source

    def logits_at(self, ids, where):
        hidden = self.model.model(input_ids=ids, use_cache=False).last_hidden_state
        return self.model.lm_head(hidden[where])


def from_directory(directory, dtype=torch.float32):
    return AutoModelForCausalLM.from_pretrained(directory, dtype=dtype, attn_implementation="sdpa")


def load(job):
    dtype = torch.bfloat16 if job.get("compute") == "pure bf16" else torch.float32
    return {"plain": Plain, "transformers": Transformers}[job["implementation"]](from_directory(job["model"], dtype))


def mixed(job):
    return torch.autocast("cpu", torch.bfloat16, enabled=job.get("compute") == "bf16")


def batch_of(rows):
    """Ids (B, T), the positions whose next token is a target (B, T), and those targets in row order."""
    longest = max(len(row["ids"]) for row in rows)
    ids = torch.tensor([row["ids"] + [0] * (longest - len(row["ids"])) for row in rows])
    at = torch.arange(longest)
    first = torch.tensor([[row["completion_start"]] for row in rows])
    length = torch.tensor([[len(row["ids"])] for row in rows])
    where = (at >= first - 1) & (at < length - 1)
    targets = torch.tensor([t for row in rows for t in row["ids"][row["completion_start"] :]])
    return ids[:, :-1], where[:, :-1], targets  # nothing is predicted from a last token


def optimizer_of(model, s):
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() == 2], "weight_decay": s["weight_decay"]},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=s["lr"], betas=s["betas"], eps=s["epsilon"], fused=True)


def train(job, data):
    """A bare loop over the batches in turn; rows at a time are `batch_size`, accumulated to a whole batch."""
    if job["implementation"] == "trl":
        return train_trl(job, data)
    model, settings = load(job), data["settings"]
    optimizer = optimizer_of(model, settings)
    batches, step = data["batches"][job["batches"]], 0
    while wait():
        started = time.perf_counter()
        rows = batches[step % len(batches)]
        n_targets = sum(len(r["ids"]) - r["completion_start"] for r in rows)
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        size = job.get("batch_size") or len(rows)
        for at in range(0, len(rows), size):
            ids, where, targets = batch_of(rows[at : at + size])
            with mixed(job):
                loss = F.cross_entropy(model.logits_at(ids, where), targets, reduction="sum") / n_targets
            loss.backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip"])
        optimizer.step()
        step += 1
        answer({"wall_s": time.perf_counter() - started, "loss": total})
    answer({"done": True})


class Paced(TrainerCallback):
    """Waits for a line before each step and answers after it; only the step itself is timed."""

    def on_step_begin(self, args, state, control, **_):
        if not wait():
            control.should_training_stop = True
            raise StopIteration
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **_):
        self.wall_s = time.perf_counter() - self.started

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            answer({"wall_s": self.wall_s, "loss": logs["loss"]})


def train_trl(job, data):
    """TRL's SFTTrainer on the same token rows in the same order, prompts masked; LoRA through PEFT."""
    import datasets
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    datasets.disable_progress_bars()
    batches, settings = data["batches"][job["batches"]], data["settings"]
    rows = [row for batch in batches for row in batch]
    labels = lambda r: [-100] * r["completion_start"] + r["ids"][r["completion_start"] :]
    dataset = datasets.Dataset.from_list([{"input_ids": r["ids"], "labels": labels(r)} for r in rows])
    size, per_step = job["batch_size"], len(batches[0])
    lora = job.get("lora")
    peft = LoraConfig(r=lora["r"], lora_alpha=lora["alpha"], lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM") if lora else None
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder, per_device_train_batch_size=size, gradient_accumulation_steps=per_step // size, max_steps=10**6,
            learning_rate=settings["lr"], lr_scheduler_type="constant", warmup_steps=0, weight_decay=settings["weight_decay"],
            adam_beta1=settings["betas"][0], adam_beta2=settings["betas"][1], adam_epsilon=settings["epsilon"],
            max_grad_norm=settings["clip"], logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, bf16=job.get("compute") == "bf16", fp16=False,
            gradient_checkpointing=False, dataset_kwargs={"skip_prepare_dataset": True}, max_length=None, remove_unused_columns=False,
            train_sampling_strategy="sequential", disable_tqdm=True, dataloader_num_workers=0, dataloader_pin_memory=False,
            eos_token=None, seed=0,
        )
        model = from_directory(job["model"])
        if lora and lora.get("from"):
            from peft import PeftModel
            model, peft = PeftModel.from_pretrained(model, lora["from"], is_trainable=True), None
        trainer = SFTTrainer(model=model, args=config, train_dataset=dataset, peft_config=peft, processing_class=tokenizer_of(job), callbacks=[Paced()])
        try:
            trainer.train()
        except StopIteration:
            pass
    answer({"done": True})


def tokenizer_of(job):
    """Only asked for its pad and end tokens: the rows are token ids already."""
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=job["tokenizer"], eos_token="<|endoftext|>", pad_token="<|endoftext|>")
    return tokenizer


@torch.no_grad()
def score(job, data):
    """Log-probability, rank and entropy of every target, rows sorted by length; the model is loaded before the clock starts."""
    model = load(job)
    rows = [row for batch in data["batches"][job["batches"]] for row in batch]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]["ids"]))
    size = job.get("batch_size") or ROWS_AT_A_TIME
    scores = [None] * len(rows)
    started = time.perf_counter()
    for at in range(0, len(order), size):
        own = order[at : at + size]
        ids, where, targets = batch_of([rows[i] for i in own])
        with mixed(job):
            logits = model.logits_at(ids, where)
        logits = logits.float()
        logp = torch.log_softmax(logits, dim=-1)
        mine = logits.gather(1, targets[:, None])
        rank = 1 + (logits > mine).sum(-1)
        entropy = -(logp.exp() * logp).sum(-1)
        found = torch.stack([logp.gather(1, targets[:, None])[:, 0], rank.float(), entropy], dim=1)
        for i, part in zip(own, found.split([len(rows[i]["ids"]) - rows[i]["completion_start"] for i in own])):
            scores[i] = part.tolist()
    wall_s = time.perf_counter() - started
    answer({"wall_s": wall_s, "scores": [s for row in scores for s in row] if job.get("with_scores") else []})


@torch.no_grad()
def generate(job, data):
    """`samples` completions of exactly `new_tokens` tokens for every prompt, at temperature 1; left-padded, sorted by length."""
    model = from_directory(job["model"], torch.bfloat16 if job.get("compute") == "pure bf16" else torch.float32)
    prompts = sorted((p["ids"] for p in data["prompts"][job["prompts"]]), key=len)
    size = max(1, job["batch_size"] // job["samples"])
    torch.manual_seed(0)
    tokens, started = 0, time.perf_counter()
    for at in range(0, len(prompts), size):
        group = prompts[at : at + size]
        longest = max(map(len, group))
        ids = torch.tensor([[0] * (longest - len(p)) + p for p in group])
        mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in group])
        with mixed(job):
            out = model.generate(
                ids, attention_mask=mask, do_sample=True, temperature=1.0, top_k=0, top_p=1.0, num_return_sequences=job["samples"],
                max_new_tokens=job["new_tokens"], min_new_tokens=job["new_tokens"], pad_token_id=0,
            )
        tokens += out.shape[0] * (out.shape[1] - longest)
    answer({"wall_s": time.perf_counter() - started, "tokens": tokens})


def peak(job, _data):
    """Best time of a product of two 1024 x 1024 matrices."""
    a, b = (torch.randn(1024, 1024).to(torch.bfloat16 if job.get("compute") == "bf16" else torch.float32) for _ in range(2))
    times = []
    for _ in range(20):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    answer({"gflops": 2 * 1024**3 / min(times) / 1e9})


def main():
    transformers.utils.logging.disable_progress_bar()
    with open(sys.argv[1], encoding="utf-8") as file:
        data = json.load(file)
    answer({"torch": torch.__version__, "transformers": transformers.__version__})
    for line in iter(sys.stdin.readline, ""):
        job = json.loads(line)
        torch.set_num_threads(job["threads"])
        {"train": train, "score": score, "generate": generate, "peak": peak}[job["job"]](job, data)


if __name__ == "__main__":
    # What libraries print must not mix with the answers.
    OUT, sys.stdout = sys.stdout, sys.stderr
    main()
