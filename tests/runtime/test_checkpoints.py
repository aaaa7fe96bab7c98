"""Checkpoints that other quantizers made: loaded through their libraries, equal to transformers, and said plainly."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from quantized_checkpoints import SAVE, declare, make_model
from random_models import NEW_TOKENS, greedy_answers, make_prompts

from workbench import LLM, SamplingParams
from workbench.core.errors import ConfigError, ModelLoadError
from workbench.runtime import checkpoints

# The libraries' own: torch.jit's deprecation (bitsandbytes), float16 casts (its int8), open files (transformers).
pytestmark = pytest.mark.filterwarnings("default")

GREEDY = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True)
LIBRARY = {
    "gguf": "gguf",
    "compressed-tensors": "compressed_tensors",
    "fp8": "accelerate",
    "gptq": "gptqmodel",
    "awq": "gptqmodel",
    "torchao": "torchao",
    "bitsandbytes-4": "bitsandbytes",
    "bitsandbytes-8": "bitsandbytes",
}
# As what the matrices lie in memory, beside float32 for the rest.
RESIDENT = {
    "gptq": {"uint8", "bfloat16", "int32"},
    "awq": {"uint8", "bfloat16"},
    "torchao": {"Int8Tensor"},
    "bitsandbytes-4": {"Params4bit"},
    "bitsandbytes-8": {"Int8Params"},
}
DEQUANTIZED = ("gguf", "compressed-tensors", "fp8")


@pytest.fixture(params=SAVE)
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    name = request.param
    if find_spec(LIBRARY[name]) is None:
        wanted = "gptqmodel optimum" if name in ("gptq", "awq") else "'inference-workbench[quantized]'"
        pytest.skip(f"{LIBRARY[name]} is not installed (pip install {wanted})")
    SAVE[name](tmp_path / "model")
    return name, tmp_path / "model"


def theirs(name: str, folder: Path) -> Any:
    options = {"gguf_file": "model.gguf"} if name == "gguf" else {}
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options).eval()


def test_loads_and_says_what_runs(saved: tuple[str, Path]) -> None:
    name, folder = saved
    kind = name.removesuffix("-4").removesuffix("-8")
    prompts = make_prompts()
    wanted = greedy_answers(theirs(name, folder), prompts, NEW_TOKENS)
    with LLM(str(folder), block_size=4) as llm:
        outputs = llm.generate(prompts, GREEDY, use_tqdm=False)
        found = [list(output.outputs[0].token_ids) for output in outputs]
        setting, notes = llm.settings["quantization"], " ".join(llm.settings.notes)
        kinds = llm.weights().bytes_by_type()
        assert llm.model.weight_bytes == llm.weights().bytes
        with pytest.raises(ConfigError, match="against"):
            llm.quality()
    if name == "bitsandbytes-8":  # its product rounds the activations, together for all rows that run together
        same = sum(a == b for x, y in zip(found, wanted, strict=True) for a, b in zip(x, y, strict=True))
        assert same > 0.5 * sum(map(len, wanted))
    else:
        assert found == wanted
    full = sum(parameter.nbytes for parameter in make_model().parameters())
    if name in DEQUANTIZED:
        assert setting == (None, f"{kind}, dequantized")
        assert "runs dequantized" in notes
        assert set(kinds) - {"int64"} == {"float32"}  # compressed-tensors keeps the shapes as numbers
    else:
        assert setting == (None, kind)
        assert "as it is stored" in notes
        assert set(kinds) - {"float32"} == RESIDENT[name]
        assert sum(kinds.values()) < 0.62 * full


def test_packed_again(saved: tuple[str, Path]) -> None:
    name, folder = saved
    if name not in DEQUANTIZED:
        with pytest.raises(ConfigError, match="cannot be put on top"):
            LLM(str(folder), quantization="int8")
        return
    with LLM(str(folder), quantization="int8") as llm:
        assert llm.settings["quantization"] == ("int8", "int8")
        assert "quantized again as int8" in " ".join(llm.settings.notes)
        assert llm.weights().bytes_by_type()["int8"] > 0


@pytest.mark.parametrize(
    ("method", "library"), [("gptq", "gptqmodel"), ("awq", "gptqmodel"), ("compressed-tensors", "compressed-tensors")]
)
def test_a_missing_library_is_named(method: str, library: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model().save_pretrained(tmp_path)
    declare(tmp_path, {"quant_method": method, "bits": 4, "group_size": 32})
    monkeypatch.setattr(checkpoints, "find_spec", lambda _: None)
    with pytest.raises(ModelLoadError, match=rf"in {method} format.*not installed: pip install .*{library}"):
        LLM(str(tmp_path))


def test_a_missing_gguf_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(checkpoints, "find_spec", lambda _: None)
    with pytest.raises(ModelLoadError, match="pip install gguf"):
        LLM(str(tmp_path))


def test_what_cannot_be_read(tmp_path: Path) -> None:
    make_model().save_pretrained(tmp_path)
    declare(tmp_path, {"quant_method": "someday"})
    with pytest.raises(ModelLoadError, match="someday"):
        LLM(str(tmp_path))


def test_two_gguf_files(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ModelLoadError, match="2 GGUF files"):
        LLM(str(tmp_path))
