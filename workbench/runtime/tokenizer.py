"""Text to token ids and back, over a Hugging Face tokenizer."""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenizers.decoders import DecodeStream

from workbench.core.errors import ConfigError


def _byte_alphabet() -> dict[str, int]:
    """Which byte each letter of byte-level BPE stands for.

    As in GPT-2: a byte that is a visible Latin-1 character stands for itself, the others for U+0100, U+0101, ...
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    hidden = (byte for byte in range(256) if byte not in visible)
    return {chr(byte): byte for byte in visible} | {chr(0x100 + n): byte for n, byte in enumerate(hidden)}


class Detokenizer:
    """Text of one sequence, token by token; holds back bytes of an unfinished character."""

    def __init__(self, tokenizer: Any, prompt_token_ids: Sequence[int], skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._stream = DecodeStream(ids=list(prompt_token_ids), skip_special_tokens=skip_special_tokens)

    def step(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        return self._stream.step(self._tokenizer, token_id) or ""


class Tokenizer:
    """What the engine uses of a Hugging Face tokenizer."""

    def __init__(self, tokenizer: Any) -> None:
        self.hf = tokenizer
        self._backend = tokenizer.backend_tokenizer
        self._byte_of = _byte_alphabet()

    @property
    def vocab_size(self) -> int:
        """Number of tokens, added ones included."""
        return len(self.hf)

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt, with the special tokens that the model expects around it."""
        return list(self.hf(text, verbose=False)["input_ids"])  # the engine itself says what is too long

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""
        return str(self.hf.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def detokenizer(self, prompt_token_ids: Sequence[int] = (), skip_special_tokens: bool = True) -> Detokenizer:
        """A detokenizer for what follows the prompt."""
        return Detokenizer(self._backend, prompt_token_ids, skip_special_tokens)

    def token_text(self, token_id: int) -> str:
        """One token on its own, for views: bytes of an unfinished character as <0xE2>, special tokens by name."""
        text = str(self._backend.decode([token_id], skip_special_tokens=False))
        if text and "\ufffd" not in text:
            return self._leading_space(token_id) + text
        piece = str(self._backend.id_to_token(token_id) or f"<{token_id}>")
        if not all(character in self._byte_of for character in piece) or piece.startswith("<0x"):
            return piece.replace("\u2581", " ")
        data = bytes(self._byte_of[character] for character in piece).decode("utf-8", "surrogateescape")
        return "".join(f"<0x{ord(c) - 0xDC00:02X}>" if 0xDC80 <= ord(c) <= 0xDCFF else c for c in data)

    def _leading_space(self, token_id: int) -> str:
        # Sentencepiece decoders drop the space at the start of a text, which a token on its own always is.
        piece = self._backend.id_to_token(token_id) or ""
        return " " if piece.startswith("\u2581") else ""

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a conversation with the cue for an answer. Raises ConfigError where there is no template."""
        if not self.hf.chat_template:
            raise ConfigError(
                "this model's tokenizer has no chat template, so it was not made for chat; use generate() with plain "
                "text"
            )
        ids = self.hf.apply_chat_template(list(messages), add_generation_prompt=True, tokenize=True, return_dict=False)
        return list(ids)
