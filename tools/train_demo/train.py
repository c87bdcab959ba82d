"""The training loop: fresh dialogues at every step, loss on the assistant's words, warm-up, plateau, decay.

Two processes of one thread each share the weights, each with its own dialogues: they meet twice a step, where threads
of one product would meet thousands of times, which a busy machine makes twenty times slower (measured). Every step is
a function of (seed, step, worker), so a resumed run goes on as if it had not stopped.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from itertools import islice, pairwise
from pathlib import Path

import torch
import torch.multiprocessing as mp
from torch import Tensor

from tools.train_demo.corpus import training, training_seed
from tools.train_demo.model import DemoModel
from tools.train_demo.optim import Slot, make_slots, shares, update
from tools.train_demo.recipe import DemoConfig, Recipe, shares_at
from tools.train_demo.tokenizer import Example, encode, load_tokenizer


@dataclass
class Shared:
    """What the worker processes have in common; all tensors are in shared memory."""

    model: DemoModel  # float32 weights
    slots: list[Slot]
    grads: Tensor  # [W, P], sums over the worker's taught tokens
    totals: Tensor  # [W, 3]: summed loss, taught tokens, tokens read
    clock: Tensor  # [2]: step, seconds


def new_shared(recipe: Recipe, cfg: DemoConfig) -> Shared:
    """Fresh weights and zero state."""
    torch.manual_seed(recipe.seed)
    model = DemoModel(cfg).share_memory()
    slots = make_slots({n: p.data for n, p in model.named_parameters()})
    size = sum(s.numel for s in slots)
    return Shared(
        model,
        slots,
        torch.zeros(recipe.workers, size).share_memory_(),
        torch.zeros(recipe.workers, 3, dtype=torch.float64).share_memory_(),
        torch.zeros(2, dtype=torch.float64).share_memory_(),
    )


def rate(recipe: Recipe, step: int) -> float:
    """Share of the peak learning rate at a step, by the recipe's schedule."""
    for (a, low), (b, high) in pairwise(recipe.schedule):
        if step < b:
            return low + (high - low) * (step + 1 - a) / (b - a)
    return recipe.schedule[-1][1]


def batch(examples: list[Example], pad: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """ids [B, T] padded on the right, flat rows [N] whose next token is taught, targets [N]."""
    longest = max(len(ids) for ids, _ in examples) - 1
    ids = torch.full((len(examples), longest), pad)
    rows, targets = [], []
    for i, (tokens, taught) in enumerate(examples):
        ids[i, : len(tokens) - 1] = torch.tensor(tokens[:-1])
        for j in range(1, len(tokens)):
            if taught[j]:
                rows.append(i * longest + j - 1)
                targets.append(tokens[j])
    return ids, torch.tensor(rows), torch.tensor(targets)


def cut(examples: list[Example], enough: int = 4, stretch: float = 1.4) -> list[list[Example]]:
    """Examples by length in micro-batches, a new one where padding would waste more than starting over costs."""
    out: list[list[Example]] = []
    for example in sorted(examples, key=lambda e: len(e[0])):
        if not out or (len(out[-1]) >= enough and len(example[0]) > stretch * len(out[-1][0][0])):
            out.append([])
        out[-1].append(example)
    return out


def gradients(shared: Shared, rank: int, local: DemoModel, examples: list[Example]) -> None:
    """Gradient sums of one worker's dialogues, by a bfloat16 copy of the weights."""
    with torch.no_grad():
        for mine, slot in zip(local.parameters(), shared.slots, strict=True):
            mine.copy_(slot.param)
            mine.grad = None
    total = count = read = 0.0
    for part in cut(examples):
        ids, rows, targets = batch(part)
        loss = local.loss(ids, rows, targets)
        loss.backward()
        total, count, read = total + loss.item(), count + len(targets), read + ids.numel()
    at = 0
    for mine in local.parameters():
        assert mine.grad is not None
        shared.grads[rank, at : at + mine.numel()].copy_(mine.grad.flatten())
        at += mine.numel()
    shared.totals[rank] = torch.tensor([total, count, read])


def work(rank: int, shared: Shared, recipe: Recipe, out: Path, barrier: mp.Barrier, save_every: int) -> None:
    """One worker process; the first of them reports and saves."""
    torch.set_num_threads(1)
    tok = load_tokenizer(out / "tokenizer.json")
    local = DemoModel(shared.model.cfg).bfloat16()
    mine = shares(shared.slots, recipe.workers)[rank]
    offsets = [0]
    for slot in shared.slots:
        offsets.append(offsets[-1] + slot.numel)
    mark, since, loss_since, read_since = time.monotonic(), 0, 0.0, 0.0
    step = int(shared.clock[0])
    while step < recipe.steps:
        seed = training_seed(recipe.seed, step, rank, recipe.workers)
        gradients(shared, rank, local, encode(tok, list(islice(training(seed, shares_at(step)), recipe.dialogues))))
        barrier.wait()
        loss, count, read = shared.totals.sum(0).tolist()
        grads = [
            (shared.grads[:, offsets[i] : offsets[i + 1]].sum(0) / count).view_as(shared.slots[i].param) for i in mine
        ]
        share = rate(recipe, step)
        update(
            [shared.slots[i] for i in mine],
            grads,
            (recipe.muon_rate * share, recipe.adam_rate * share),
            recipe.weight_decay,
            step,
        )
        barrier.wait()
        step += 1
        since, loss_since, read_since = since + 1, loss_since + loss / count, read_since + read
        if rank == 0 and (step % 20 == 0 or step == recipe.steps):
            spent = time.monotonic() - mark
            shared.clock += torch.tensor([since, spent])
            print(
                f"step {step} loss {loss_since / since:.4f} {read_since / spent:.0f} tokens/s {shared.clock[1]:.0f} s",
                flush=True,
            )
            mark, since, loss_since, read_since = time.monotonic(), 0, 0.0, 0.0
            if step % save_every == 0 or step == recipe.steps:
                save(shared, out / "checkpoint.pt")


def save(shared: Shared, path: Path) -> None:
    """A checkpoint, written beside and renamed, so that a reader never sees half of it."""
    part = path.with_suffix(".part")
    torch.save(
        {
            "model": shared.model.state_dict(),
            "first": [s.first for s in shared.slots],
            "second": [s.second for s in shared.slots],
            "clock": shared.clock,
        },
        part,
    )
    part.replace(path)


def load(shared: Shared, path: Path) -> None:
    """Continue from a checkpoint."""
    saved = torch.load(path, weights_only=True)
    shared.model.load_state_dict(saved["model"])
    shared.clock.copy_(saved["clock"])
    for slot, first, second in zip(shared.slots, saved["first"], saved["second"], strict=True):
        slot.first.copy_(first)
        if slot.second is not None:
            slot.second.copy_(second)


def run(out: Path, recipe: Recipe, cfg: DemoConfig, save_every: int = 100) -> DemoModel:
    """Train to the end of the recipe, from the checkpoint in `out` if there is one."""
    shared = new_shared(recipe, cfg)
    if (out / "checkpoint.pt").exists():
        load(shared, out / "checkpoint.pt")
    (out / "recipe.json").write_text(json.dumps({"recipe": asdict(recipe), "model": asdict(cfg)}, indent=1) + "\n")
    if shared.clock[0] < recipe.steps:
        barrier = mp.get_context("spawn").Barrier(recipe.workers)
        mp.spawn(work, (shared, recipe, out, barrier, save_every), nprocs=recipe.workers)
    return shared.model


def trained_seconds(out: Path) -> float:
    """Seconds that the training in `out` has taken so far."""
    return float(torch.load(out / "checkpoint.pt", weights_only=True)["clock"][1])
