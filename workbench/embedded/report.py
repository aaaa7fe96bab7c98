"""Measure the finished models and write the measured part of the model card.

    python -m workbench.embedded.report --data DIR --curves main=curve.json --curves small=curve.json

Loads the shipped folders with plain transformers, fills card.json, draws curve.svg and replaces the part of README.md
between its two markers. ``--also NAME=FOLDER`` scores a candidate that was not kept.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from workbench.embedded import draft_path, heldout_text, model_path, starters
from workbench.embedded.chart import line_chart
from workbench.embedded.data import END, END_ID, encode_stories, load_corpus
from workbench.embedded.score import Score, total_loss

HERE = Path(__file__).parent
BEGIN_MARK = "<!-- measured by report.py: begin -->"
END_MARK = "<!-- measured by report.py: end -->"
LENGTH = 200
TEMPERATURE = 0.8
MORE_PROMPTS = ("Lily and Tom were playing with a ball when", "The little bird looked at the moon and")
ACCEPTANCE_PROMPTS = 40
ACCEPTANCE_PROMPT_TOKENS = 20
DRAFTED = 4


def load(folder: Path) -> PreTrainedModel:
    """A model folder as plain transformers opens it, in float32."""
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder)
    model.train(False)
    return model


def score(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, stories: list[str]) -> Score:
    """The loss of a model on whole stories."""
    ids = encode_stories(tokenizer.backend_tokenizer, stories)
    nats, tokens = total_loss(lambda rows: model(rows).logits, ids)
    return Score(nats, tokens, sum(map(len, stories)), sum(len(story.encode()) for story in stories))


@torch.no_grad()
def continue_ids(model: PreTrainedModel, prompt: list[int], temperature: float, seed: int) -> list[int]:
    """Up to LENGTH new token ids, the end token left out; temperature 0 takes the likeliest token each time."""
    generator = torch.Generator().manual_seed(seed)
    new: list[int] = []
    ids, past = torch.tensor([prompt]), None
    while len(new) < LENGTH:
        out = model(ids, past_key_values=past, use_cache=True)
        past, scores = out.past_key_values, out.logits[0, -1]
        if temperature > 0:
            chosen = int(torch.multinomial(torch.softmax(scores / temperature, -1), 1, generator=generator))
        else:
            chosen = int(scores.argmax())
        if chosen == END_ID:
            break
        new.append(chosen)
        ids = torch.tensor([[chosen]])
    return new


def repeated_share(texts: list[list[int]], n: int = 4) -> float:
    """Of all runs of n tokens, the share that already occurred earlier in the same text."""
    total = repeated = 0
    for ids in texts:
        runs = list(zip(*(ids[i:] for i in range(n)), strict=False))
        total += len(runs)
        repeated += len(runs) - len(set(runs))
    return repeated / max(1, total)


@torch.no_grad()
def agreement(main: PreTrainedModel, draft: PreTrainedModel, prompts: list[list[int]]) -> list[list[bool]]:
    """For each prompt, whether the draft's likeliest token equals each token of the main model's greedy text."""
    found = []
    for prompt in tqdm(prompts, desc="acceptance", unit="prompt"):
        new = continue_ids(main, prompt, temperature=0.0, seed=0)
        if new:
            guesses: Tensor = draft(torch.tensor([prompt + new])).logits[0, len(prompt) - 1 : -1].argmax(-1)
            found.append((guesses == torch.tensor(new)).tolist())
    return found


def tokens_per_step(matches: list[list[bool]], drafted: int) -> float:
    """Mean tokens a verification yields when ``drafted`` tokens are proposed: those accepted, and one more."""
    steps = tokens = 0
    for row in matches:
        at = 0
        while at < len(row):
            run = 0
            while run < drafted and at + run < len(row) and row[at + run]:
                run += 1
            gained = min(run + 1, len(row) - at)
            steps, tokens, at = steps + 1, tokens + gained, at + gained
    return tokens / steps


def describe(folder: Path) -> dict[str, Any]:
    """What identifies a shipped folder: hash and size of its weights, parameters, configuration."""
    raw = (folder / "model.safetensors").read_bytes()
    config = json.loads((folder / "config.json").read_text())
    keys = ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size")
    return {
        "weights_sha256": hashlib.sha256(raw).hexdigest(),
        "weights_bytes": len(raw),
        "parameters": sum(weight.numel() for weight in load(folder).parameters()),
        **{key: config[key] for key in keys},
        "max_position_embeddings": config["max_position_embeddings"],
        "vocab_size": config["vocab_size"],
    }


def quote(prompt: str, text: str) -> str:
    """A sample as a Markdown quotation with the prompt in bold."""
    return "> " + "\\\n> ".join(f"<b>{prompt}</b>{text}".split("\n"))


def measured_section(card: dict[str, Any], samples: list[dict[str, Any]]) -> str:
    """The generated part of README.md."""
    rows = [
        "| | parameters | nats per token | perplexity per token | perplexity per byte | bits per character |",
        "|---|---|---|---|---|---|",
    ]
    for name, entry in card["scores"].items():
        rows.append(
            f"| {name} | {entry['parameters']:,} | {entry['loss_per_token']} | {entry['perplexity_per_token']} "
            f"| {entry['perplexity_per_byte']} | {entry['bits_per_character']} |"
        )
    runs = [
        "| run | steps | tokens | epochs | minutes | tokens/s | learning rate | seed | validation loss |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, run in card["runs"].items():
        recipe = run["recipe"]
        runs.append(
            f"| {name} | {recipe['steps']} | {recipe['steps'] * recipe['tokens_per_step']:,} | {run['epochs']} "
            f"| {run['wall_seconds'] / 60:.1f} | {run['tokens_per_second']:.0f} | {recipe['lr']} | {recipe['seed']} "
            f"| {run['validation_loss']} |"
        )
    curve = [
        "| run | step | tokens | minutes | learning rate | training loss | validation loss |",
        "|---|---|---|---|---|---|---|",
    ]
    curve += [
        f"| {name} | {entry['step']} | {entry['tokens']:,} | {entry['minutes']} | {entry['lr']} "
        f"| {entry['train_loss']} | {entry['validation_loss']} |"
        for name, run in card["runs"].items()
        for entry in [*run["curve"][:-1:2], run["curve"][-1]]
    ]
    repeats, draft = card["repeated_4_grams"], card["acceptance"]
    repetition = (
        "Of all runs of 4 tokens in a text, the share that already occurred earlier in that text: "
        f"{repeats['greedy']:.1%} in the ten greedy samples below, {repeats['sampled']:.1%} in the ten at temperature "
        f"{TEMPERATURE}, {repeats['validation']:.1%} in the validation stories cut to the same {LENGTH} tokens."
    )
    acceptance = (
        f"{draft['rate']:.1%}: of the {draft['positions']:,} tokens in the main model's greedy continuations (up to "
        f"{LENGTH} tokens) of the first {ACCEPTANCE_PROMPT_TOKENS} tokens of {draft['prompts']} validation stories, "
        "the share that is also the draft's likeliest token after the same text. With "
        f"{DRAFTED} tokens drafted at a time, one pass of the main model then yields "
        f"{draft['tokens_per_step']} tokens on average."
    )
    parts = [
        "## Figures",
        "All 300 validation stories, each on its own:",
        "\n".join(rows),
        "## Runs",
        "\n".join(runs),
        "![validation loss against tokens trained on](curve.svg)",
        "Training loss is a running mean. Validation loss is on every fifth story, in a run's last row on all:",
        "\n".join(curve),
        "## Repetition",
        repetition,
        "## Acceptance of the draft model",
        acceptance,
        "## Ten greedy samples",
        f"Unedited; the prompt in bold; at most {LENGTH} new tokens, fewer where the model ended the story.",
        *(quote(s["prompt"], s["text"]) for s in samples if s["temperature"] == 0),
        f"## Ten samples at temperature {TEMPERATURE}",
        "Unedited, no other filter; `torch.Generator` seeds 0 to 9 in this order.",
        *(quote(s["prompt"], s["text"]) for s in samples if s["temperature"] > 0),
    ]
    return "\n\n".join(parts)


def lines(runs: dict[str, Any]) -> dict[str, list[tuple[float, float]]]:
    """Validation loss against millions of tokens, for the chart; a run goes on where the one it started from ended.

    The last point of each run is left out: it is on all stories, the others on every fifth, which are a little easier.
    """
    found: dict[str, list[tuple[float, float]]] = {}
    before = 0
    for name, run in runs.items():
        before = before if run.get("started_from") else 0
        found[name] = [((before + entry["tokens"]) / 1e6, entry["validation_loss"]) for entry in run["curve"][:-1]]
        before += run["curve"][-1]["tokens"]
    return found


def measure(data: Path, curves: dict[str, Path], also: dict[str, Path]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Every figure of card.json, and the samples."""
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    main, draft = load(model_path()), load(draft_path())
    validation = list(load_corpus(data).validation)
    held_out = [part.strip() for part in heldout_text().split(END) if part.strip()]
    models = {"main": main, "draft": draft, **{name: load(folder) for name, folder in also.items()}}
    scores = {
        name: {
            "parameters": sum(w.numel() for w in model.parameters()),
            **score(model, tokenizer, validation).figures(),
        }
        for name, model in models.items()
    }
    prompts = [*(entry["text"] for entry in starters()), *MORE_PROMPTS]
    samples = []
    texts: dict[str, list[list[int]]] = {"greedy": [], "sampled": []}
    for kind, temperature in (("greedy", 0.0), ("sampled", TEMPERATURE)):
        for seed, prompt in enumerate(tqdm(prompts, desc=kind, unit="sample")):
            new = continue_ids(main, tokenizer(prompt).input_ids, temperature, seed)
            texts[kind].append(new)
            text = tokenizer.decode(new)
            samples.append(
                {"prompt": prompt, "temperature": temperature, "seed": seed, "tokens": len(new), "text": text}
            )
    own = [tokenizer(story).input_ids[1 : LENGTH + 1] for story in validation]
    heads = [tokenizer(story).input_ids[: ACCEPTANCE_PROMPT_TOKENS + 1] for story in validation[:ACCEPTANCE_PROMPTS]]
    matches = agreement(main, draft, heads)
    positions = sum(map(len, matches))
    card = {
        "model": describe(model_path()),
        "draft": describe(draft_path()),
        "scores": scores,
        "heldout": {name: score(models[name], tokenizer, held_out).figures() for name in ("main", "draft")},
        "acceptance": {
            "rate": round(sum(map(sum, matches)) / positions, 4),
            "positions": positions,
            "prompts": len(matches),
            "tokens_per_step": round(tokens_per_step(matches, DRAFTED), 3),
        },
        "repeated_4_grams": {
            **{kind: round(repeated_share(found), 4) for kind, found in texts.items()},
            "validation": round(repeated_share(own), 4),
        },
        "runs": {name: json.loads(path.read_text()) for name, path in curves.items()},
    }
    return card, samples


def pairs(values: list[str]) -> dict[str, Path]:
    """NAME=PATH arguments as a mapping, in order."""
    return {name: Path(path) for name, _, path in (value.partition("=") for value in values)}


def main() -> None:
    """Read the command line, measure, write."""
    parser = argparse.ArgumentParser(description="Measure the bundled models and fill the model card.")
    parser.add_argument("--data", type=Path, required=True, help="folder with the gzip'd stories")
    parser.add_argument("--curves", action="append", default=[], metavar="NAME=FILE", help="main first")
    parser.add_argument("--also", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    card, samples = measure(args.data, pairs(args.curves), pairs(args.also))
    (HERE / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    chart = line_chart(lines(card["runs"]), "million tokens trained on", "validation loss, nats per token")
    (HERE / "curve.svg").write_text(chart, encoding="utf-8")
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    before, rest = readme.split(BEGIN_MARK)
    after = rest.split(END_MARK)[1]
    section = measured_section(card, samples)
    (HERE / "README.md").write_text(f"{before}{BEGIN_MARK}\n\n{section}\n\n{END_MARK}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
