"""Text in, token streams out: reading, cleaning and packing the stories the bundled model is trained on.

Needs numpy and the tokenizers library, no torch. Stories are separated by a line ``<|endoftext|>``; in token form every
story is followed by token 0, so a packed stream always shows token 0 just before a story starts. That is why prompts
get the same token in front (see ``train_tokenizer``).
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

END = "<|endoftext|>"
END_ID = 0
VOCAB_SIZE = 4096
CONTEXT = 1024

STORIES = "stories_train.txt.gz"
VALIDATION = "stories_val.txt.gz"
CCBY = "ccby_stories.txt.gz"
GUTENBERG = "gutenberg_children.txt.gz"

# A training story is dropped when it shares this many runs of this many words with the validation stories.
LEAK_WORDS = 12
LEAK_RUNS = 3


@dataclass(frozen=True)
class Corpus:
    """Cleaned stories, with what went in and what fell out.

    ``sha256`` maps each file's name to the hash of its uncompressed bytes; ``dropped`` counts stories by reason.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...]
    sha256: dict[str, str]
    dropped: dict[str, int]


def read_stories(path: Path) -> tuple[list[str], str]:
    """The stories of one gzip'd file in order, and the sha256 of its uncompressed bytes."""
    raw = gzip.decompress(path.read_bytes())
    stories = [clean(part) for part in raw.decode("utf-8").split(END)]
    return [story for story in stories if story], hashlib.sha256(raw).hexdigest()


def clean(story: str) -> str:
    """One story with plain line ends, no blank lines and no spaces at either end of a line."""
    lines = (" ".join(line.split()) for line in story.replace("\r", "\n").split("\n"))
    return "\n".join(line for line in lines if line)


def fingerprint(story: str) -> str:
    """What two copies of a story have in common: the first 160 letters and digits, lower case."""
    return "".join(ch for ch in story.lower() if ch.isalnum())[:160]


def word_runs(story: str) -> set[tuple[str, ...]]:
    """Every run of LEAK_WORDS consecutive words of a story."""
    words = story.lower().split()
    return {tuple(words[i : i + LEAK_WORDS]) for i in range(len(words) - LEAK_WORDS + 1)}


def load_corpus(folder: Path, gutenberg_share: float = 0.0) -> Corpus:
    """Read and clean everything under ``folder``.

    ``gutenberg_share`` is the wanted share of Gutenberg characters in the training text, from 0 to below 1; whole
    passages are taken from the start of every n-th one until the share is met.
    """
    hashes: dict[str, str] = {}
    dropped = {"duplicate": 0, "shared with validation": 0, "too short": 0}
    validation, hashes[VALIDATION] = read_stories(folder / VALIDATION)
    candidates, hashes[STORIES] = read_stories(folder / STORIES)
    more, hashes[CCBY] = read_stories(folder / CCBY)
    candidates += more
    if gutenberg_share > 0:
        passages, hashes[GUTENBERG] = read_stories(folder / GUTENBERG)
        wanted = gutenberg_share / (1 - gutenberg_share) * sum(map(len, candidates))
        stride = max(1, int(sum(map(len, passages)) / wanted))
        candidates += passages[::stride]
    seen = {fingerprint(story) for story in validation}
    held_out = set().union(*map(word_runs, validation))
    train = []
    for story in candidates:
        key = fingerprint(story)
        if len(story) < 40:
            dropped["too short"] += 1
        elif key in seen:
            dropped["duplicate"] += 1
        elif len(word_runs(story) & held_out) >= LEAK_RUNS:
            dropped["shared with validation"] += 1
        else:
            seen.add(key)
            train.append(story)
    return Corpus(tuple(train), tuple(validation), hashes, dropped)


def train_tokenizer(stories: Iterable[str], vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """A byte-level BPE tokenizer; every byte is in the vocabulary, so any text can be encoded and comes back the same.

    Encoding with special tokens puts token 0 in front, because a story's start is what the model has seen after it.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(stories, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{END} $A", pair=f"{END} $A {END} $B", special_tokens=[(END, END_ID)]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and the few lines transformers needs beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "model_max_length": CONTEXT,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n")


def encode_stories(tokenizer: Tokenizer, stories: Iterable[str]) -> list[np.ndarray]:
    """Each story as uint16 token ids with the end token after it."""
    encoded = tokenizer.encode_batch(list(stories), add_special_tokens=False)
    return [np.array([*item.ids, END_ID], dtype=np.uint16) for item in encoded]


def batches(
    stories: list[np.ndarray], rows: int, length: int, rng: np.random.Generator
) -> Iterator[tuple[np.ndarray, float]]:
    """Endless packed batches: int64 [rows, length + 1], with the number of epochs read so far.

    Every epoch shuffles the stories and packs them anew, so no two epochs cut the text at the same places.
    """
    need = rows * (length + 1)
    total = sum(map(len, stories))
    epoch = 0
    rest = np.array([END_ID], dtype=np.uint16)
    while True:
        order = rng.permutation(len(stories))
        stream = np.concatenate([rest, *(stories[i] for i in order)])
        count = len(stream) // need
        for i in range(count):
            window = stream[i * need : (i + 1) * need]
            yield window.reshape(rows, length + 1).astype(np.int64), epoch + min(1.0, (i + 1) * need / total)
        rest = stream[count * need :]
        epoch += 1
