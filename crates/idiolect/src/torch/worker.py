"""Scores rows of token ids with torch and transformers for idiolect: `python worker.py JOB.json`.

The job names a model and a folder. idiolect puts requests into it (`<n>.request.jsonl`, complete when
it has that name), this file answers each with `<n>.reply.jsonl`, one line a row as it is done. It
ends when it finds the file `end`, or when idiolect ends it.
"""

import json
import os
import sys
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from transformers import AutoModelForCausalLM

# Values of logits that are held in f32 at once: with what is made of them, five times as many bytes
# as these have.
LOGITS = 1 << 25
# Largest difference that is rounding, between logits of the whole model and of its last layer alone.
SAME = 1e-3


def softcapped(config):
    """What the model does to its logits, as far as this file knows: a scale, and a soft cap."""
    text = config.get_text_config()
    scale = getattr(text, "logit_scale", None)
    scale = 1.0 if scale is None else scale
    if getattr(text, "logits_scaling", None):
        scale = scale / text.logits_scaling
    return scale, getattr(text, "final_logit_softcapping", None)


class Scorer:
    def __init__(self, job):
        self.budget = job["batch_tokens"]
        self.device = torch.device(job["device"] or best_device())
        dtype = torch.bfloat16 if job["compute"] == "bf16" else torch.float32
        torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.allow_tf32 = False
        kwargs = {}
        config = transformers.AutoConfig.from_pretrained(job["model"])
        # Other implementations of attention leave its soft cap out.
        if getattr(config.get_text_config(), "attn_logit_softcapping", None):
            kwargs["attn_implementation"] = "eager"
        model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype, **kwargs)
        if job["adapter"]:
            from peft import PeftModel

            model = PeftModel.from_pretrained(model, job["adapter"]).merge_and_unload()
        self.model = model.to(self.device).eval()
        self.head = self.model.get_output_embeddings()
        self.vocabulary = self.model.config.get_text_config().vocab_size
        self.scale, self.cap = softcapped(self.model.config)
        self.apart = self.head is not None and self.can_be_taken_apart()

    def can_be_taken_apart(self):
        """Whether the last layer on the hidden states gives what the whole model gives."""
        ids = torch.arange(1, 9, device=self.device)[None] % self.vocabulary
        try:
            with torch.no_grad():
                whole = self.model(input_ids=ids, use_cache=False).logits[0].float()
                apart = self.logits(self.hidden(ids, torch.ones_like(ids))[0])
            return bool((whole - apart).abs().max() <= SAME * (1 + whole.abs().max()))
        except (AttributeError, RuntimeError, TypeError):
            return False

    def hidden(self, ids, mask):
        return self.model.base_model(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state

    def logits(self, hidden):
        logits = self.head(hidden).float() * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)

    def batches(self, rows):
        """Rows of nearly one length together, as many as the budget of tokens holds."""
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]["ids"]), reverse=True)
        batch = []
        for i in order:
            # The last token predicts nothing.
            longest = len(rows[batch[0] if batch else i]["ids"]) - 1
            if batch and (len(batch) + 1) * longest > self.budget:
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    def score(self, rows, done):
        for batch in self.batches(rows):
            self.score_batch(rows, batch, done)

    def score_batch(self, rows, batch, done):
        try:
            columns = self.columns([rows[i] for i in batch])
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            columns = None
        if columns is None:
            # Less at once, outside the handler that keeps the failed attempt's memory.
            torch.cuda.empty_cache()
            self.budget = max(1, self.budget // 2)
            middle = len(batch) // 2
            self.score_batch(rows, batch[:middle], done)
            self.score_batch(rows, batch[middle:], done)
            return
        at = 0
        for i in batch:
            n = len(rows[i]["ids"]) - rows[i]["from"]
            done(i, {name: values[at : at + n] for name, values in columns.items()})
            at += n

    @torch.no_grad()
    def columns(self, rows):
        """The scores of all targets of the rows, those of one row after those of another."""
        longest = max(len(row["ids"]) for row in rows) - 1
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        places, targets = [], []
        for at, row in enumerate(rows):
            n = len(row["ids"]) - 1
            ids[at, :n] = torch.tensor(row["ids"][:-1])
            mask[at, :n] = 1
            places += [(at, position - 1) for position in range(row["from"], n + 1)]
            targets += row["ids"][row["from"] :]
        ids, mask = ids.to(self.device), mask.to(self.device)
        at, position = torch.tensor(places, device=self.device).unbind(dim=1)
        targets = torch.tensor(targets, device=self.device)
        if self.apart:
            hidden = self.hidden(ids, mask)[at, position]
            logits = self.logits
        else:
            hidden = self.model(input_ids=ids, attention_mask=mask, use_cache=False).logits[at, position]
            logits = torch.Tensor.float
        step = max(1, LOGITS // self.vocabulary)
        parts = [
            of_distributions(logits(hidden[i : i + step]), targets[i : i + step]) for i in range(0, len(targets), step)
        ]
        return {name: torch.cat([part[name] for part in parts]).tolist() for name in parts[0]}


def of_distributions(logits, targets):
    """What is asked of each token's distribution, in f32; logits has a row for each."""
    target = logits.gather(1, targets[:, None])
    rank = 1 + (logits > target).sum(dim=1)
    logp = torch.log_softmax(logits, dim=1)
    p = logp.exp()
    # A token that cannot come adds nothing.
    finite = torch.where(p > 0, logp, torch.zeros_like(logp))
    entropy = -(p * finite).sum(dim=1)
    varentropy = (p * (finite + entropy[:, None]).square()).sum(dim=1)
    return {
        "logprob": logp.gather(1, targets[:, None])[:, 0],
        "rank": rank,
        "entropy": entropy,
        "varentropy": varentropy,
        "sum_p2": p.square().sum(dim=1),
    }


def best_device():
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return "cpu" if accelerator is None else accelerator.type


def put(path, text):
    """A file that is whole as soon as it has its name."""
    with open(path + ".part", "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(path + ".part", path)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    folder = job["folder"]
    scorer = Scorer(job)
    hello = {"device": scorer.device.type, "vocabulary": scorer.vocabulary, "apart": scorer.apart}
    put(os.path.join(folder, "ready.json"), json.dumps(hello))
    number = 0
    while not os.path.exists(os.path.join(folder, "end")):
        request = os.path.join(folder, f"{number}.request.jsonl")
        if not os.path.exists(request):
            time.sleep(0.01)
            continue
        with open(request, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        with open(os.path.join(folder, f"{number}.reply.jsonl"), "w", encoding="utf-8") as file:

            def done(row, columns):
                file.write(json.dumps({"row": row, **columns}, allow_nan=False) + "\n")
                file.flush()

            scorer.score(rows, done)
        number += 1


if __name__ == "__main__":
    main()
