"""The bundled models: what ships is what the card says, and plain transformers opens it."""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from workbench.embedded import draft_path, heldout_text, model_path, starters

END = "<|endoftext|>"
FOLDER = model_path().parent
CARD: dict[str, Any] = json.loads((FOLDER / "card.json").read_text(encoding="utf-8"))
FOLDERS = {"main": model_path(), "draft": draft_path()}
STATED = {"main": CARD["model"], "draft": CARD["draft"]}
MEGABYTE = 1_000_000


def load(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


@pytest.fixture(scope="module")
def model() -> PreTrainedModel:
    return load(model_path())


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(model_path())


@torch.no_grad()
def perplexity(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[float, int]:
    """Perplexity per token on the held-out text, and its tokens, each story and its end token on its own."""
    nats, count = 0.0, 0
    for story in heldout_text().split(END):
        if story.strip():
            ids = torch.tensor([[*tokenizer(story.strip()).input_ids, tokenizer.eos_token_id]])
            nats += model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)
            count += ids.shape[1] - 1
    return math.exp(nats / count), count


@pytest.mark.parametrize("name", FOLDERS)
def test_the_weights_are_the_ones_the_card_describes(name: str) -> None:
    raw = (FOLDERS[name] / "model.safetensors").read_bytes()
    assert hashlib.sha256(raw).hexdigest() == STATED[name]["weights_sha256"]
    assert len(raw) == STATED[name]["weights_bytes"]


@pytest.mark.parametrize("name", FOLDERS)
def test_the_model_reaches_the_stated_perplexity(name: str, tokenizer: PreTrainedTokenizerBase) -> None:
    stated = CARD["heldout"][name]
    reached, tokens = perplexity(load(FOLDERS[name]), tokenizer)
    assert tokens == stated["tokens"]
    assert reached == pytest.approx(stated["perplexity_per_token"], rel=1e-3)


@pytest.mark.parametrize("name", FOLDERS)
def test_it_loads_in_float32_with_the_stated_size(name: str) -> None:
    loaded = load(FOLDERS[name])
    assert loaded.dtype == torch.float32
    assert sum(weight.numel() for weight in loaded.parameters()) == STATED[name]["parameters"]
    assert loaded.config.max_position_embeddings >= 512
    assert loaded.config.num_key_value_heads < loaded.config.num_attention_heads
    assert loaded.config.tie_word_embeddings


def test_the_sizes_stay_small() -> None:
    assert sum(path.stat().st_size for path in model_path().iterdir()) < 8 * MEGABYTE
    assert (draft_path() / "model.safetensors").stat().st_size < MEGABYTE


def test_both_models_share_one_tokenizer() -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (model_path() / name).read_bytes() == (draft_path() / name).read_bytes()


def test_greedy_generation_writes_words(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer("Once upon a time, there was a", return_tensors="pt")
    out = model.generate(**ids, max_new_tokens=40)
    words = set(heldout_text().split())
    written = tokenizer.decode(out[0, ids.input_ids.shape[1] :]).split()[:-1]
    assert len(written) > 10
    assert sum(word in words for word in written) > 0.8 * len(written)


def test_prompts_start_with_the_story_separator(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer("Hello").input_ids[0] == tokenizer.bos_token_id == tokenizer.eos_token_id == 0
    assert tokenizer("Hello", add_special_tokens=False).input_ids == tokenizer("Hello").input_ids[1:]
    assert tokenizer.convert_ids_to_tokens(0) == END


@settings(max_examples=300, deadline=None)
@given(text=st.text())
def test_any_text_comes_back_the_same(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer(text).input_ids
    assert all(0 <= token < 4096 for token in ids)
    assert tokenizer.decode(ids[1:]) == text


@pytest.mark.parametrize("text", ["", " a", "  two  spaces ", "\n\nlines\n", "\t", "naïve 日本語 🙂", "1234567890"])
def test_spaces_lines_and_other_scripts_come_back_the_same(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    assert tokenizer.decode(tokenizer(text).input_ids, skip_special_tokens=True) == text


def test_starters_are_named_and_short(tokenizer: PreTrainedTokenizerBase) -> None:
    found = starters()
    assert len(found) >= 6
    assert len({entry["title"] for entry in found}) == len(found)
    for entry in found:
        assert set(entry) == {"title", "text"}
        assert entry["text"] == entry["text"].strip()
        assert len(tokenizer(entry["text"]).input_ids) < 64


def test_the_held_out_text_is_plain_stories() -> None:
    stories = [part for part in heldout_text().split(END) if part.strip()]
    assert len(stories) > 50
    assert 40_000 < len(heldout_text()) < 80_000
    assert heldout_text().isascii()


def test_the_card_tells_the_main_figures() -> None:
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    score = CARD["scores"]["main"]
    for figure in ("loss_per_token", "perplexity_per_token", "perplexity_per_byte", "bits_per_character"):
        assert str(score[figure]) in readme
    assert f"{CARD['acceptance']['rate']:.1%}" in readme
    assert len(CARD["runs"]) >= 3
