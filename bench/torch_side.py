"""The PyTorch half of `run.py`: reads one JSON job a line from standard input, answers with one JSON line.

Not a strawman: rows of one length are batched without a mask, others are padded on the right (which causal attention
needs no mask for); attention is PyTorch's fused one; AdamW is its fused one; the hand-written decoder computes logits
only where there is a target. It makes the loss of `idiolect`'s design: summed over targets, divided once.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import AutoModelForCausalLM


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        c, f = config.hidden_size, config.intermediate_size
        self.heads = config.num_attention_heads
        self.eps = config.rms_norm_eps
        self.before_attention, self.before_mlp = nn.Parameter(torch.ones(c)), nn.Parameter(torch.ones(c))
        self.qkv, self.o = nn.Linear(c, 3 * c, bias=False), nn.Linear(c, c, bias=False)
        self.gate_up, self.down = nn.Linear(c, 2 * f, bias=False), nn.Linear(f, c, bias=False)

    def forward(self, x, cos, sin):
        b, t, c = x.shape
        qkv = self.qkv(F.rms_norm(x, (c,), self.before_attention, self.eps)).view(b, t, 3, self.heads, -1)
        q, k = rotate(qkv[:, :, :2], cos, sin).unbind(2)
        q, k, v = (y.transpose(1, 2) for y in (q, k, qkv[:, :, 2]))
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(attended.transpose(1, 2).reshape(b, t, c))
        gate, up = self.gate_up(F.rms_norm(x, (c,), self.before_mlp, self.eps)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


def rotate(x, cos, sin):
    """Half-rotation form; x is (B, T, 2, H, D), cos and sin (T, 1, 1, D/2)."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class Plain(nn.Module):
    """The same Llama by hand: fused q-k-v and gate-up, rotary tables made once, tied head."""

    def __init__(self, source):
        super().__init__()
        config = source.config
        assert config.num_key_value_heads == config.num_attention_heads and config.tie_word_embeddings
        self.eps = config.rms_norm_eps
        self.embed = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = nn.Parameter(torch.ones(config.hidden_size))
        width = config.hidden_size // config.num_attention_heads
        inverse = config.rope_parameters["rope_theta"] ** (-torch.arange(0, width, 2).float() / width)
        angles = torch.arange(config.max_position_embeddings).float()[:, None, None, None] * inverse
        self.cos, self.sin = angles.cos(), angles.sin()
        self.copy_from(source)

    @torch.no_grad()
    def copy_from(self, source):
        self.embed.weight.copy_(source.model.embed_tokens.weight)
        self.norm.copy_(source.model.norm.weight)
        for mine, theirs in zip(self.layers, source.model.layers):
            a, m = theirs.self_attn, theirs.mlp
            mine.qkv.weight.copy_(torch.cat([a.q_proj.weight, a.k_proj.weight, a.v_proj.weight]))
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
        return self.model(input_ids=ids, use_cache=False).logits[where]


def load(directory, implementation):
    source = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa")
    return {"plain": Plain, "transformers": Transformers}[implementation](source)


def batch_of(rows):
    """Ids (B, T), the positions whose next token is a target (B, T), and those targets in row order."""
    longest = max(len(row["ids"]) for row in rows)
    ids = torch.tensor([row["ids"] + [0] * (longest - len(row["ids"])) for row in rows])
    at = torch.arange(longest)
    first = torch.tensor([[row["first_target"]] for row in rows])
    length = torch.tensor([[len(row["ids"])] for row in rows])
    where = (at >= first - 1) & (at < length - 1)
    targets = torch.tensor([t for row in rows for t in row["ids"][row["first_target"] :]])
    return ids[:, :-1], where[:, :-1], targets  # nothing is predicted from a last token


def optimizer_of(model, s):
    groups = [
        {"params": [p for p in model.parameters() if p.dim() == 2], "weight_decay": s["weight_decay"]},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=s["lr"], betas=s["betas"], eps=s["epsilon"], fused=True)


def train(job, data):
    """Steps over the batches in turn; the first `warmup` are not timed."""
    model, settings = load(data["model"], job["implementation"]), data["settings"]
    optimizer = optimizer_of(model, settings)
    batches, losses, started = data["batches"][job["batches"]], [], None
    for step in range(job["warmup"] + job["steps"]):
        if step == job["warmup"]:
            started = time.perf_counter()
        ids, where, targets = batch_of(batches[step % len(batches)])
        loss = F.cross_entropy(model.logits_at(ids, where), targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip"])
        optimizer.step()
        losses.append(loss.item())
    return {"wall_s": time.perf_counter() - started, "losses": losses}


@torch.no_grad()
def score(job, data):
    """Log-probability, rank and entropy of every target, batch by batch; the first pass is not timed."""
    model = load(data["model"], job["implementation"])
    batches = data["batches"][job["batches"]]
    for timed in range(job["passes"] + 1):
        if timed == 1:
            started = time.perf_counter()
        out = []
        for rows in batches:
            ids, where, targets = batch_of(rows)
            logits = model.logits_at(ids, where)
            logp = torch.log_softmax(logits, dim=-1)
            own = logits.gather(1, targets[:, None])
            rank = 1 + (logits > own).sum(-1)
            entropy = -(logp.exp() * logp).sum(-1)
            out.append(torch.stack([logp.gather(1, targets[:, None])[:, 0], rank.float(), entropy], dim=1))
        scores = torch.cat(out).numpy()
    return {"wall_s": time.perf_counter() - started, "scores": scores.tolist() if job["with_scores"] else []}


def peak(job, _data):
    """Best time of an f32 product of two 1024 x 1024 matrices."""
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    times = []
    for _ in range(20):
        started = time.perf_counter()
        a @ b
        times.append(time.perf_counter() - started)
    return {"gflops": 2 * 1024**3 / min(times) / 1e9}


def main():
    transformers.utils.logging.disable_progress_bar()
    directory, rows = sys.argv[1:]
    with open(rows, encoding="utf-8") as file:
        data = json.load(file) | {"model": directory}
    print(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__}), flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        torch.set_num_threads(job["threads"])
        answer = {"train": train, "score": score, "peak": peak}[job["job"]](job, data)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
