"""Loading: what is refused, with which words, and what is decided for the user."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from random_models import RandomModel

from workbench.core.config import EngineArgs
from workbench.core.errors import ConfigError, ModelLoadError, UnsafeModelError
from workbench.runtime import loader
from workbench.runtime.loader import load_model

GetModel = Callable[[str], RandomModel]
TINY = {"vocab_size": 99, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}


@pytest.fixture
def folder(random_model: GetModel, tmp_path: Path) -> Path:
    """A copy to spoil."""
    return Path(shutil.copytree(random_model("llama").folder, tmp_path / "model"))


def edit_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def load(folder: Path, **settings: Any) -> Any:
    return load_model(EngineArgs(model=str(folder), **settings))


def test_spec_of_a_random_model(random_model: GetModel) -> None:
    loaded = load(random_model("llama").folder)
    spec = loaded.spec
    assert (spec.architecture, spec.backend, spec.device, spec.dtype) == (
        "LlamaForCausalLM",
        "decoder",
        "cpu",
        "float32",
    )
    assert (spec.num_layers, spec.num_heads, spec.num_kv_heads, spec.head_size, spec.hidden_size) == (3, 4, 2, 16, 64)
    assert (spec.vocab_size, spec.max_model_len, spec.eos_token_ids) == (257, 128, (2,))
    assert spec.kv_bytes_per_token == 3 * 2 * 2 * 16 * 4
    reference = transformers.AutoModelForCausalLM.from_pretrained(random_model("llama").folder)
    assert spec.num_parameters == reference.num_parameters()
    assert spec.weight_bytes == 4 * (spec.num_parameters + 128 * 16)  # and the rope table
    assert loaded.tokenizer is None
    assert loaded.notes == ()


def test_the_bundled_model_is_the_default() -> None:
    loaded = load_model(EngineArgs())
    assert loaded.spec.name == "bundled"
    assert loaded.spec.backend == "decoder"
    assert loaded.tokenizer is not None


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="there is no folder"):
        load(tmp_path / "nothing")


def test_an_unknown_hub_id() -> None:
    with pytest.raises(ModelLoadError, match="hub"):
        load_model(EngineArgs(model="no-such-owner/no-such-model"))


def test_a_file_instead_of_a_folder(folder: Path) -> None:
    with pytest.raises(ModelLoadError, match="is a file"):
        load(folder / "config.json")


def test_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()
    with pytest.raises(ModelLoadError, match=r"no config\.json"):
        load(folder)


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"model_type": "no_such_type"}'])
def test_an_unreadable_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelLoadError, match=r"cannot read|cannot be read"):
        load(folder)


def test_pickled_weights_are_refused(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"anything")
    with pytest.raises(UnsafeModelError, match="safetensors"):
        load(folder)


def test_no_weights_at_all(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match="no weights"):
        load(folder)


def test_damaged_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"\x00" * 50)
    with pytest.raises(ModelLoadError, match="not a readable safetensors file"):
        load(folder)


def test_a_tensor_is_missing(folder: Path) -> None:
    edit_config(folder, num_hidden_layers=4)
    with pytest.raises(ModelLoadError, match=r"no tensor 'model\.layers\.3"):
        load(folder)


def test_a_tensor_of_another_shape(folder: Path) -> None:
    edit_config(folder, intermediate_size=80)
    with pytest.raises(ModelLoadError, match="shape"):
        load(folder)


def test_code_in_the_folder_is_refused(folder: Path) -> None:
    edit_config(folder, auto_map={"AutoModelForCausalLM": "modeling.Model"})
    (folder / "modeling.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(UnsafeModelError, match="trust_remote_code=True"):
        load(folder)


@pytest.mark.parametrize("config", [transformers.BertConfig(), transformers.T5Config()], ids=["bert", "t5"])
def test_other_kinds_of_models(tmp_path: Path, config: Any) -> None:
    config.architectures = {"bert": ["BertForMaskedLM"], "t5": ["T5ForConditionalGeneration"]}[config.model_type]
    config.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelLoadError, match="not a causal language model"):
        load(tmp_path)


@pytest.mark.parametrize(
    "config",
    [
        transformers.BloomConfig(vocab_size=99, hidden_size=16, n_layer=2, n_head=2),
        transformers.MambaConfig(vocab_size=99, hidden_size=16, num_hidden_layers=2, state_size=4),
        transformers.GptOssConfig(
            **TINY, num_key_value_heads=1, head_dim=8, intermediate_size=16, num_local_experts=4, eos_token_id=1
        ),
    ],
    ids=["bloom", "mamba", "gpt_oss"],
)
def test_models_without_paged_attention_are_refused(tmp_path: Path, config: Any) -> None:
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ModelLoadError, match="cannot run on a paged KV cache"):
        load(tmp_path, max_model_len=64)


def test_yarn_goes_through_transformers(tmp_path: Path) -> None:
    rope = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 2.0, "original_max_position_embeddings": 64}
    config = transformers.LlamaConfig(
        **TINY, intermediate_size=24, max_position_embeddings=128, rope_parameters=rope, eos_token_id=1
    )
    transformers.AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    loaded = load(tmp_path)
    assert loaded.spec.backend == "transformers"
    assert "rope type 'yarn'" in loaded.notes[0]


def test_max_model_len(folder: Path) -> None:
    assert load(folder, max_model_len=50).spec.max_model_len == 50
    with pytest.raises(ConfigError, match="128"):
        load(folder, max_model_len=129)


def test_dtype(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_config(folder, dtype="float16")
    loaded = load(folder)
    assert loaded.spec.dtype == "float32"
    assert "float16" in loaded.notes[0]
    edit_config(folder, dtype="bfloat16")
    for able, wanted in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(loader, "cpu_computes_bfloat16", lambda able=able: able)
        loaded = load(folder)
        assert loaded.spec.dtype == wanted
        assert bool(loaded.notes) == (not able)
    assert load(folder, dtype="bfloat16").dtype is torch.bfloat16


@pytest.mark.parametrize("device", ["tpu", "mps", "cuda:99"])
def test_devices(folder: Path, device: str) -> None:
    if device.startswith("cuda") and torch.cuda.is_available():
        device = "meta"
    with pytest.raises(ConfigError, match="device"):
        load(folder, device=device)


def test_end_of_sequence_tokens(folder: Path) -> None:
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [5, 7]}))
    assert load(folder).spec.eos_token_ids == (5, 7)


def test_sharded_weights(random_model: GetModel, tmp_path: Path) -> None:
    whole = random_model("llama")
    model = transformers.AutoModelForCausalLM.from_pretrained(whole.folder)
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    shards = sorted(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    ours = {t.shape: t for t in load(tmp_path).model.tensors()}
    assert all(torch.equal(ours[t.shape], t) for t in {t.shape: t for t in load(whole.folder).model.tensors()}.values())
    shards[0].unlink()
    with pytest.raises(ModelLoadError, match="not there"):
        load(tmp_path)


def test_a_tokenizer_of_its_own(folder: Path, tmp_path: Path) -> None:
    from workbench.embedded import model_path

    assert load(folder, tokenizer=str(model_path())).tokenizer.encode("Once")
    with pytest.raises(ModelLoadError, match="no tokenizer files"):
        load(folder, tokenizer=str(folder))
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(ModelLoadError, match="tokenizer"):
        load(folder)
