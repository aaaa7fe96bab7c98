"""Dispatch says which implementation runs, and it is the one that runs."""

import pytest
import torch

from workbench_kernels.dispatch import choose, select_kernels
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
        ("cuda", torch.float32, 32, "torch", "cuda"),
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
    }
    assert kernels.paged_attention is torch_impl.paged_attention
    assert kernels.rms_norm is norm_cpu.rms_norm
