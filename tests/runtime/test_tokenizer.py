"""The tokenizer's wrapper: round trips, incremental text, single tokens, chat."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer as RawTokenizer
from tokenizers import decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from workbench.core.errors import ConfigError
from workbench.embedded import model_path
from workbench.runtime.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def bundled() -> Tokenizer:
    return Tokenizer(AutoTokenizer.from_pretrained(model_path()))


@pytest.fixture(scope="module")
def byte_level() -> Tokenizer:
    """One token per byte, so that most characters take several."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = RawTokenizer(models.BPE(vocab={piece: i for i, piece in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<end>"])
    return Tokenizer(PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<end>"))


@given(text=st.text(max_size=40))
def test_text_comes_back_piece_by_piece(byte_level: Tokenizer, text: str) -> None:
    ids = byte_level.encode(text)
    assert byte_level.decode(ids) == text
    detokenizer = byte_level.detokenizer()
    assert "".join(detokenizer.step(token) for token in ids) == text


def test_a_character_appears_when_it_is_whole(byte_level: Tokenizer) -> None:
    detokenizer = byte_level.detokenizer()
    assert [detokenizer.step(token) for token in byte_level.encode("é€")] == ["", "é", "", "", "€"]


def test_the_prompt_is_not_repeated(bundled: Tokenizer) -> None:
    prompt, rest = "Once upon a time", " there was a little dog."
    ids = bundled.encode(prompt + rest)
    start = len(bundled.encode(prompt))
    detokenizer = bundled.detokenizer(ids[:start])
    assert "".join(detokenizer.step(token) for token in ids[start:]) == bundled.decode(ids)[len(prompt) :]


def test_special_tokens(byte_level: Tokenizer) -> None:
    end = byte_level.vocab_size - 1
    ids = [*byte_level.encode("ab"), end]
    assert byte_level.decode(ids) == "ab"
    for skip, wanted in ((True, "ab"), (False, "ab<end>")):
        detokenizer = byte_level.detokenizer([], skip)
        assert "".join(detokenizer.step(token) for token in ids) == wanted


def test_a_token_on_its_own(byte_level: Tokenizer, bundled: Tokenizer) -> None:
    assert byte_level.token_text(byte_level.vocab_size - 1) == "<end>"
    assert byte_level.token_text(byte_level.encode("a")[0]) == "a"
    assert byte_level.token_text(byte_level.encode(" ")[0]) == " "
    assert [byte_level.token_text(token) for token in byte_level.encode("€")] == ["<0xE2>", "<0x82>", "<0xAC>"]
    text = "Once upon a time, there was a dog."
    ids = bundled.hf(text, add_special_tokens=False)["input_ids"]
    assert "".join(bundled.token_text(token) for token in ids) == text


def test_spaces_of_sentencepiece_are_spaces() -> None:
    pieces = {"\u2581": 0, "\u2581a": 1, "b": 2, "<0xE2>": 3, "<unk>": 4}
    raw = RawTokenizer(models.BPE(vocab=pieces, merges=[], unk_token="<unk>", byte_fallback=True))
    raw.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer = Tokenizer(PreTrainedTokenizerFast(tokenizer_object=raw))
    assert [tokenizer.token_text(token) for token in range(5)] == [" ", " a", "b", "<0xE2>", "<unk>"]


def test_chat_template(bundled: Tokenizer, byte_level: Tokenizer) -> None:
    messages = [{"role": "user", "content": "hi"}]
    with pytest.raises(ConfigError, match="chat template"):
        byte_level.apply_chat_template(messages)
    hf = AutoTokenizer.from_pretrained(model_path())
    hf.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
    with_template = Tokenizer(hf)
    ids = with_template.apply_chat_template(messages)
    assert with_template.decode(ids) == "user: hi\nassistant:"
