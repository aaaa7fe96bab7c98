"""Train the bundled model, or its small sibling, with one command.

    python -m workbench.embedded.train --data DIR --out DIR --recipe main --steps 1800

DIR after --data holds the gzip'd stories named in data.py. The folder after --out becomes a Hugging Face model folder
(config, tokenizer, bfloat16 safetensors) with curve.json beside it. Nothing in the workbench imports this module.

The learning rate warms up, stays flat and then falls in a straight line to zero. Rows are short while it is flat,
because most stories are, and short rows train faster; they reach the full context while it falls. With --minutes the
fall starts early enough to end in time; the number of steps that gave is recorded, and the same number after --steps
runs the same schedule again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from tqdm import tqdm

from workbench.embedded import data
from workbench.embedded.network import Decoder, Shape, load, save
from workbench.embedded.optim import Optimiser
from workbench.embedded.repetition import repeated_rows, repetition_loss
from workbench.embedded.score import total_loss

SHAPES = {
    "main": Shape(hidden=192, layers=6, heads=6, kv_heads=2, intermediate=512),
    "small": Shape(hidden=128, layers=6, heads=4, kv_heads=2, intermediate=384),
    "draft": Shape(hidden=64, layers=2, heads=2, kv_heads=1, intermediate=192),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, besides the text and the shape.

    Steps are optimiser steps of ``tokens_per_step`` tokens; ``decay_steps`` of them, at the end, take the learning
    rate to zero. ``minutes`` (None for no limit) can shorten the flat part. While the rate falls, ``repeat_rows`` rows
    of ``flat_length`` tokens a step teach the model to leave loops (repetition.py), their loss weighted by
    ``repeat_weight``. ``mantissa_bits`` of bfloat16's 7 are kept in the weights that are saved.
    """

    steps: int
    decay_steps: int
    minutes: float | None
    seed: int
    lr: float = 6e-3
    warmup_steps: int = 50
    tokens_per_step: int = 4096
    flat_length: int = 256
    weight_decay: float = 0.1
    dropout: float = 0.0
    gutenberg_share: float = 0.0
    repeat_rows: int = 0
    repeat_weight: float = 0.5
    mantissa_bits: int = 7

    @property
    def decay_start(self) -> int:
        """The first step with a falling learning rate."""
        return self.steps - self.decay_steps

    def lr_at(self, step: int) -> float:
        """Learning rate of a step, counted from 0."""
        left = (self.steps - step) / max(1, self.decay_steps)
        return self.lr * min(1.0, (step + 1) / self.warmup_steps, left)

    def length_at(self, step: int) -> int:
        """Row length of a step: short, then twice that, then the whole context in the last third of the fall."""
        if step < self.decay_start:
            return self.flat_length
        return 2 * self.flat_length if step < self.steps - self.decay_steps // 3 else data.CONTEXT


def story_loss(model: Decoder, stories: list[np.ndarray]) -> float:
    """Mean loss in nats per token, with dropout off."""
    model.eval()
    nats, count = total_loss(model.logits, stories)
    model.train()
    return nats / count


def fits(recipe: Recipe, step: int, elapsed: float, seconds_per_step: float) -> bool:
    """Whether another flat step leaves time for the fall; longer rows are slower and compile anew, hence the margin."""
    if recipe.minutes is None:
        return True
    reserve = recipe.decay_steps * seconds_per_step * 1.25 + 60
    return elapsed + reserve < recipe.minutes * 60 or step >= recipe.decay_start


def train(
    shape: Shape, recipe: Recipe, folder: Path, tokenizer: Tokenizer, corpus: data.Corpus, start: Path | None = None
) -> dict[str, object]:
    """Run the recipe, saving weights to ``folder`` at every evaluation; returns what curve.json holds.

    ``start`` is a safetensors file of the same shape to go on from, None for fresh weights.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    stories = data.encode_stories(tokenizer, corpus.train)
    held_out = data.encode_stories(tokenizer, corpus.validation)
    model = Decoder(shape, recipe.dropout)
    if start is not None:
        load(model, start)
    optimiser = Optimiser(model, recipe.weight_decay)
    compiled = torch.compile(model, dynamic=False)
    curve: list[dict[str, float]] = []
    length, source, epochs, recent, pace = 0, None, 0.0, 0.0, 0.0
    started = mark = time.monotonic()
    step = 0
    with tqdm(total=recipe.steps, unit="step", mininterval=5) as bar:
        while step < recipe.steps:
            # A running mean, since the machine may have other work too; the first steps compile and do not count.
            now = time.monotonic()
            if step > 10:
                pace = now - mark if step == 11 else 0.97 * pace + 0.03 * (now - mark)
            mark = now
            if step > 30 and not fits(recipe, step, now - started, pace):
                recipe = replace(recipe, steps=step + recipe.decay_steps)
                bar.total = recipe.steps
            if recipe.length_at(step) != length:
                length = recipe.length_at(step)
                base = epochs
                source = data.batches(stories, recipe.tokens_per_step // length, length, rng)
            assert source is not None
            rows, read = next(source)
            epochs = base + read
            block = torch.from_numpy(rows)
            loss = compiled(block[:, :-1], block[:, 1:])
            loss.backward()
            if recipe.repeat_rows and step >= recipe.decay_start:
                repeats = repeated_rows(stories, recipe.repeat_rows, recipe.flat_length, rng)
                (recipe.repeat_weight * repetition_loss(model.logits(repeats.ids[:, :-1]), repeats)).backward()
            optimiser.step(recipe.lr_at(step))
            recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
            step += 1
            bar.update()
            bar.set_postfix(loss=f"{recent:.3f}", epochs=f"{epochs:.2f}", length=length, refresh=False)
            if step % 100 == 0 or step == recipe.steps:
                # A fifth of the stories is enough to follow the curve; the last figure takes all of them.
                part = held_out if step == recipe.steps else held_out[::5]
                entry = {
                    "step": step,
                    "tokens": step * recipe.tokens_per_step,
                    "minutes": round((time.monotonic() - started) / 60, 2),
                    "lr": round(recipe.lr_at(step - 1), 6),
                    "train_loss": round(recent, 4),
                    "validation_loss": round(story_loss(model, part), 4),
                }
                curve.append(entry)
                tqdm.write(json.dumps(entry))
                save(model, folder, recipe.mantissa_bits)
                mark = time.monotonic()
    seconds = time.monotonic() - started
    return {
        "shape": asdict(shape),
        "parameters": model.parameter_count(),
        "recipe": asdict(recipe),
        "started_from": None if start is None else hashlib.sha256(start.read_bytes()).hexdigest(),
        "epochs": round(epochs, 3),
        "train_tokens": sum(map(len, stories)),
        "validation_tokens": sum(map(len, held_out)),
        "validation_loss": curve[-1]["validation_loss"],
        "wall_seconds": round(seconds, 1),
        "tokens_per_second": round(step * recipe.tokens_per_step / seconds, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "data_sha256": corpus.sha256,
        "stories": {"train": len(corpus.train), "validation": len(corpus.validation), "dropped": corpus.dropped},
        "curve": curve,
    }


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the gzip'd stories")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write")
    parser.add_argument("--recipe", choices=sorted(SHAPES), default="main")
    parser.add_argument("--steps", type=int, default=1800)
    parser.add_argument("--decay-steps", type=int, default=None, help="default: a third of the steps")
    parser.add_argument("--minutes", type=float, default=None, help="start the fall early enough to end in time")
    parser.add_argument("--start", type=Path, default=None, help="model.safetensors to go on from")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--lr", type=float, default=6e-3)
    parser.add_argument("--dropout", type=float, default=0.0)
    parser.add_argument("--repeat-rows", type=int, default=0, help="rows a step that teach the model to leave loops")
    parser.add_argument("--repeat-weight", type=float, default=0.5)
    parser.add_argument("--mantissa-bits", type=int, default=7, help="kept when saving; fewer compress better")
    parser.add_argument("--gutenberg-share", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    corpus = data.load_corpus(args.data, args.gutenberg_share)
    if (args.out / "tokenizer.json").exists():
        tokenizer = Tokenizer.from_file(str(args.out / "tokenizer.json"))
    else:
        tokenizer = data.train_tokenizer(corpus.train)
        data.save_tokenizer(tokenizer, args.out)
    recipe = Recipe(
        steps=args.steps,
        decay_steps=args.steps // 3 if args.decay_steps is None else args.decay_steps,
        minutes=args.minutes,
        seed=args.seed,
        lr=args.lr,
        dropout=args.dropout,
        gutenberg_share=args.gutenberg_share,
        repeat_rows=args.repeat_rows,
        repeat_weight=args.repeat_weight,
        mantissa_bits=args.mantissa_bits,
    )
    report = train(SHAPES[args.recipe], recipe, args.out, tokenizer, corpus, args.start)
    (args.out / "curve.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
