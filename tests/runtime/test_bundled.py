"""The bundled model's short way of loading gives what transformers' auto classes give, without their imports."""

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from workbench.runtime.auto_classes import read_config, read_tokenizer
from workbench.runtime.bundled import bundled_config, bundled_tokenizer
from workbench.runtime.models.decoder_config import decoder_config

ELSEWHERE = ("architectures", "model_type", "dtype", "max_position_embeddings", "eos_token_id", "hidden_size")


@pytest.fixture
def folder() -> Path:
    return Path(str(files("workbench").joinpath("embedded", "model")))


def test_config(folder: Path) -> None:
    short, long = bundled_config(folder), read_config(folder, trust_remote_code=False, gguf_file=None)
    assert decoder_config(short) == decoder_config(long)
    for name in ELSEWHERE:
        assert getattr(short, name) == getattr(long, name)


def test_tokenizer(folder: Path) -> None:
    short, long = bundled_tokenizer(folder), read_tokenizer(folder, trust_remote_code=False)
    assert type(short) is type(long)
    assert short.get_vocab() == long.get_vocab()
    assert short.special_tokens_map == long.special_tokens_map
    text = " Once upon a time,\n there was a fox\u2019s caf\u00e9. <|endoftext|>"
    assert short(text)["input_ids"] == long(text)["input_ids"]
    ids = short(text)["input_ids"]
    assert short.decode(ids) == long.decode(ids)


def test_modelling_code_is_not_imported() -> None:
    """It takes half of the time to a first LLM."""
    code = (
        "import sys; from workbench import LLM; LLM().shutdown(); "
        "print([name for name in ('torch._dynamo', 'transformers.modeling_utils') if name in sys.modules])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert run.stdout.strip() == "[]"
