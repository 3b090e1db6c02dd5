"""Trains one model with TRL as idiolect planned it: `python train.py JOB.json`, by itself or once in
each process of a launcher (accelerate, torchrun).

idiolect chose, rendered and tokenized the rows, put them into the order of the steps, and set the
learning rate of each step; this file hands all of that to TRL's SFTTrainer and reports what became
of it, one JSON object a line, in the job's `events` file.
"""

import json
import math
import os
import sys

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer

IGNORED = -100
# Positions whose logits are held in f32 at once where losses of rows are computed.
POSITIONS = 1024
# A checkpoint with this file is whole: it is written last.
MARK = "idiolect.json"


def padded(rows, fill):
    longest = max(len(row) for row in rows)
    return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])


def collate_weighted(examples):
    """Rows of different weights in the loss; TRL's own collator knows none."""
    ids = [example["input_ids"] for example in examples]
    return {
        "input_ids": padded(ids, ids[0][0]),
        "attention_mask": padded([[1] * len(row) for row in ids], 0),
        "labels": padded([example["labels"] for example in examples], IGNORED),
        "weight": torch.tensor([example["weight"] for example in examples]),
    }


def surprisals(logits, labels):
    """Of each label given the logits before it, nats, in f32; 0 where a label is ignored."""
    logits, labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    parts = [
        torch.nn.functional.cross_entropy(
            logits[at : at + POSITIONS].float(),
            labels[at : at + POSITIONS],
            ignore_index=IGNORED,
            reduction="none",
        )
        for at in range(0, len(labels), POSITIONS)
    ]
    return torch.cat(parts)


class Events:
    """What idiolect follows; the first process alone writes."""

    def __init__(self, path, writes):
        self.file = open(path, "a", encoding="utf-8") if writes else None

    def put(self, event, **fields):
        if self.file is None:
            return
        # JSON has no other numbers.
        finite = {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in fields.items()
        }
        self.file.write(json.dumps({"event": event, **finite}) + "\n")
        self.file.flush()


class Trainer(SFTTrainer):
    """SFTTrainer with idiolect's order, learning rates, row weights and dev loss."""

    def __init__(self, *arguments, job, events, dev, **named):
        self.job, self.events, self.dev = job, events, dev
        self.counts = None
        self.dtype_to_save = None
        super().__init__(*arguments, **named)

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)

    def create_scheduler(self, num_training_steps, optimizer=None):
        if self.lr_scheduler is None:
            rates, peak = self.job["rates"], self.args.learning_rate
            part = [rate / peak if peak > 0 else 1.0 for rate in rates] + [0.0]
            self.lr_scheduler = LambdaLR(optimizer or self.optimizer, lambda step: part[min(step, len(rates))])
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_batch_samples(self, epoch_iterator, num_batches, device):
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        count = torch.zeros(3, dtype=torch.float64)
        for batch in batches:
            in_loss = (batch["labels"] != IGNORED).sum(dim=-1).double().cpu()
            mask = batch.get("attention_mask")
            count[0] += (batch["input_ids"].numel() if mask is None else int(mask.sum()))
            count[1] += in_loss.sum()
            if "weight" in batch:
                count[2] += (in_loss * batch["weight"].double().cpu()).sum()
        # As f32 pairs would lose counts: integers of this size are exact in two halves of 24 bits.
        whole = self.accelerator.gather(count[:2].long().to(device)).view(-1, 2).sum(dim=0).tolist()
        self.counts = {"tokens": int(whole[0]), "target_tokens": int(whole[1])}
        if self.job["weighted"]:
            items = self.accelerator.gather(count[2:].float().to(device)).sum()
        return batches, items

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        weight = inputs.pop("weight", None)
        if weight is None:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs.pop("labels")
        loss = surprisals(model(**inputs, use_cache=False).logits, labels).view(len(labels), -1).sum(dim=1)
        loss = (loss * weight.to(loss)).sum() / num_items_in_batch
        # Gradients are averaged over processes, and this is a sum over all of them.
        return loss * self.accelerator.num_processes

    def log(self, logs, start_time=None):
        if self.job["weighted"]:
            self._metrics["train"].clear()
        super().log(logs, start_time)

    def losses(self, rows):
        """Mean surprisal of each row's labels and how many those are, the rows shared out among the
        processes."""
        n, rank = self.accelerator.num_processes, self.accelerator.process_index
        per_process = -(-len(rows) // n)
        # Every process has as many forward passes: under FSDP they are taken together.
        own = [rows[min(rank + i * n, len(rows) - 1)] for i in range(per_process)]
        model, device, found = self.model_wrapped, self.args.device, []
        was_training = model.training
        model.eval()
        with torch.no_grad(), self.compute_loss_context_manager():
            for row in own:
                ids, labels = (torch.tensor([row[name]], device=device) for name in ("input_ids", "labels"))
                logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
                found.append([surprisals(logits, labels).sum().item(), (labels[:, 1:] != IGNORED).sum().item()])
        model.train(was_training)
        mine = torch.tensor(found, device=device, dtype=torch.float32)
        every = self.accelerator.gather(mine).view(n, per_process, 2).tolist()
        return [tuple(every[i % n][i // n]) for i in range(len(rows))]

    def evaluate(self, *_, **__):
        sums = self.losses(self.dev)
        loss = sum(nats for nats, _ in sums) / max(1, sum(count for _, count in sums))
        self.events.put("dev", step=self.state.global_step, loss=loss)
        self.control.should_evaluate = False
        return {}

    def create_model_card(self, *_, **__):
        """idiolect writes the model's card."""

    def _save(self, output_dir=None, state_dict=None):
        if self.dtype_to_save is not None:
            held = self.accelerator.unwrap_model(self.model).state_dict() if state_dict is None else state_dict
            state_dict = {name: value.to(self.dtype_to_save) for name, value in held.items()}
        super()._save(output_dir, state_dict=state_dict)


class Follow(TrainerCallback):
    """Reports what the trainer does, and says when it is to score and to save."""

    def __init__(self, job, events):
        self.job, self.events, self.trainer = job, events, None
        self.rate = None

    def on_train_begin(self, args, state, control, **_):
        self.events.put(
            "started", processes=args.world_size, steps=state.max_steps, done=state.global_step, device=str(args.device)
        )

    def on_pre_optimizer_step(self, args, state, control, optimizer=None, **_):
        self.rate = optimizer.param_groups[0]["lr"]

    def on_step_end(self, args, state, control, **_):
        control.should_log = True
        control.should_evaluate = state.global_step in self.job["dev_after"]
        every = self.job["checkpoint_every"]
        control.should_save = every > 0 and state.global_step % every == 0
        return control

    def on_log(self, args, state, control, logs=None, **_):
        if logs and "loss" in logs:
            norm = logs.get("grad_norm")
            self.events.put(
                "step",
                step=state.global_step,
                loss=float(logs["loss"]),
                gradient_norm=None if norm is None else float(norm),
                lr=float(logs["learning_rate"] if self.rate is None else self.rate),
                **self.trainer.counts,
            )

    def on_save(self, args, state, control, **_):
        folder = os.path.join(args.output_dir, f"checkpoint-{state.global_step}")
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            # Both name paths of this machine, and neither is needed to go on.
            for name in ("training_args.bin", "README.md"):
                if os.path.exists(os.path.join(folder, name)):
                    os.remove(os.path.join(folder, name))
            part = os.path.join(folder, MARK + ".part")
            with open(part, "w", encoding="utf-8") as file:
                json.dump({"step": state.global_step}, file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, os.path.join(folder, MARK))
            self.events.put("checkpoint", step=state.global_step)


def read_rows(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)


def load_model(job, kwargs):
    dtype = kwargs.pop("dtype", "float32")
    dtype = getattr(torch, dtype) if isinstance(dtype, str) and hasattr(torch, dtype) else dtype
    model = AutoModelForCausalLM.from_pretrained(job["model"], dtype=dtype, **kwargs)
    model.config.use_cache = False
    lora = job["lora"]
    if lora is None:
        return model
    from peft import LoraConfig, PeftModel, get_peft_model

    if lora["start"] is not None:
        return PeftModel.from_pretrained(model, lora["start"], is_trainable=True)
    targets = lora["targets"] or "all-linear"
    return get_peft_model(
        model,
        LoraConfig(
            r=lora["r"],
            lora_alpha=lora["alpha"],
            use_rslora=lora["rslora"],
            lora_dropout=lora["dropout"],
            target_modules=targets,
            task_type="CAUSAL_LM",
        ),
    )


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    work = job["work"]
    # A relative path of the user's (of a DeepSpeed config) is one of the folder that idiolect runs in.
    config = dict(job["config"])
    kwargs = config.pop("model_init_kwargs", None) or {}
    # Without this, accelerate brings the processes of a machine without a GPU together as little as
    # it says so.
    if not torch.accelerator.is_available():
        config.setdefault("use_cpu", True)
    args = SFTConfig(output_dir=job["output"], **config)
    events = Events(job["events"], args.process_index == 0)
    if args.world_size != job["processes"]:
        events.put("started", processes=args.world_size, steps=0, done=0, device=str(args.device))
        sys.exit(f"{args.world_size} processes run, and the job is for {job['processes']}")
    if args.gradient_accumulation_steps != job["config"]["gradient_accumulation_steps"]:
        sys.exit("the launcher changed gradient_accumulation_steps; leave it out of its config")
    with args.main_process_first():
        rows = Dataset.from_json(os.path.join(work, "rows.jsonl"), cache_dir=os.path.join(work, "cache"))
    with open(os.path.join(work, "order.json"), encoding="utf-8") as file:
        order = json.load(file)
    dev = list(read_rows(os.path.join(work, "dev.jsonl")))
    check = list(read_rows(os.path.join(work, "check.jsonl")))
    model = load_model(job, kwargs)
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    follow = Follow(job, events)
    trainer = Trainer(
        model=model,
        args=args,
        train_dataset=rows.select(order),
        processing_class=tokenizer,
        data_collator=collate_weighted if job["weighted"] else None,
        callbacks=[follow],
        job=job,
        events=events,
        dev=dev,
    )
    follow.trainer = trainer
    trainer.train(resume_from_checkpoint=job["resume"])
    # The model that is saved is the one whose losses these are; idiolect computes them again.
    losses = [nats / max(1, count) for nats, count in trainer.losses(check)]
    if trainer.is_fsdp_enabled:
        trainer.accelerator.state.fsdp_plugin.set_state_dict_type("FULL_STATE_DICT")
    if job["lora"] is None and job["save_dtype"] != "float32":
        trainer.dtype_to_save = getattr(torch, job["save_dtype"])
    final = os.path.join(work, "final")
    trainer.save_model(final)
    trainer.accelerator.wait_for_everyone()
    events.put("finished", step=trainer.state.global_step, losses=losses)
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main()
