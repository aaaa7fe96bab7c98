"""Dispatch says which implementation runs, and it is the one that runs."""

import subprocess
import sys

import pytest
import torch

from workbench_kernels import dispatch
from workbench_kernels.dispatch import BackendUnavailable, choose, select_kernels
from workbench_kernels.paged_attention import torch_impl
from workbench_kernels.rms_norm import cpu as norm_cpu

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("device", "dtype", "head_size", "backend", "reason"),
    [
        ("cpu", torch.float32, 32, "numba", "block tables"),
        ("cpu", torch.bfloat16, 32, "numba", "block tables"),
        ("cpu", torch.float16, 32, "torch", "float16"),
        ("cpu", torch.float32, 20, "torch", "multiples of 8"),
    ],
)
def test_choice_and_reason(device: str, dtype: torch.dtype, head_size: int, backend: str, reason: str) -> None:
    choice = choose("paged_attention", torch.device(device), dtype, head_size)
    assert choice.backend == backend
    assert reason in choice.reason


def test_the_set_holds_what_it_says() -> None:
    kernels = select_kernels(CPU, torch.float32, 20)
    backends = {choice.op: choice.backend for choice in kernels.choices}
    assert backends == {
        "paged_attention": "torch",
        "rope_kv": "numba",
        "rms_norm": "numba",
        "activation": "numba",
        "sampling": "numba",
        "quant_matmul": "numba",
    }
    assert kernels.paged_attention is torch_impl.paged_attention
    assert kernels.rms_norm is norm_cpu.rms_norm


def test_a_gpu_gets_triton_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for found, backend, reason in ((object(), "triton", "block tables"), (None, "torch", "not installed")):
        monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda _, found=found: found)
        choice = choose("paged_attention", torch.device("cuda"), torch.bfloat16, 128)
        assert choice.backend == backend
        assert reason in choice.reason


def test_what_is_asked_for_and_cannot_run_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BackendUnavailable, match="CPU only"):
        choose("rms_norm", torch.device("cuda"), torch.float32, 32, "numba")
    monkeypatch.setattr(dispatch.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(BackendUnavailable, match="pip install"):
        select_kernels(CPU, torch.float32, 32, backend="triton")


def test_torch_on_request() -> None:
    kernels = select_kernels(CPU, torch.float32, 32, backend="torch")
    assert {(choice.backend, choice.reason) for choice in kernels.choices} == {("torch", "asked for")}
    assert kernels.paged_attention is torch_impl.paged_attention


def test_without_a_gpu_triton_is_not_imported() -> None:
    code = (
        "import sys, torch; from workbench_kernels.dispatch import select_kernels; "
        "select_kernels(torch.device('cpu'), torch.float32, 32); print('triton' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
