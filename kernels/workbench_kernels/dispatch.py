"""Which implementation runs for a model, and why: decided once, and said out loud in KernelSet.choices."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch

from workbench_kernels.activation import cpu as activation_cpu
from workbench_kernels.activation import torch_impl as activation_torch
from workbench_kernels.paged_attention import cpu as attention_cpu
from workbench_kernels.paged_attention import torch_impl as attention_torch
from workbench_kernels.rms_norm import cpu as norm_cpu
from workbench_kernels.rms_norm import torch_impl as norm_torch
from workbench_kernels.rope_kv import cpu as rope_cpu
from workbench_kernels.rope_kv import torch_impl as rope_torch
from workbench_kernels.sampling import cpu as sampling_cpu
from workbench_kernels.sampling import torch_impl as sampling_torch
from workbench_kernels.simd import LANES


class Choice(NamedTuple):
    """One operation's backend ("numba" or "torch"), and the reason in plain words."""

    op: str
    backend: str
    reason: str


@dataclass(frozen=True, slots=True)
class KernelSet:
    """The operations a decoder layer calls, bound to one device and dtype. Signatures are those of each reference.py.

    paged_attention also takes this step's k and v, after q.
    """

    choices: tuple[Choice, ...]
    paged_attention: Callable[..., torch.Tensor]
    rope_and_write_kv: Callable[..., None]
    write_kv: Callable[..., None]
    rms_norm: Callable[..., torch.Tensor]
    add_rms_norm: Callable[..., torch.Tensor]
    silu_and_mul: Callable[..., torch.Tensor]
    gelu_tanh_and_mul: Callable[..., torch.Tensor]
    apply_penalties: Callable[..., None]
    draw: Callable[..., list[int]]


def choose(op: str, device: torch.device, dtype: torch.dtype, head_size: int) -> Choice:
    """The backend of one operation for tensors of this device, dtype and head size."""
    if device.type != "cpu":
        return Choice(op, "torch", f"numba kernels run on a CPU only, this is {device.type}")
    if op == "sampling":  # logits are float32 whatever the model's dtype
        return Choice(op, "numba", "sorts only the part of the vocabulary that decides")
    if dtype not in (torch.float32, torch.bfloat16):
        return Choice(op, "torch", f"numba kernels read float32 and bfloat16, not {str(dtype).removeprefix('torch.')}")
    if op == "paged_attention" and head_size % LANES:
        return Choice(op, "torch", f"the numba kernel takes head sizes that are multiples of {LANES}, not {head_size}")
    reasons = {
        "paged_attention": "walks block tables in place; long prefill chunks go to torch's SDPA",
        "rope_kv": "one pass over the projections",
        "rms_norm": "less overhead than torch for few rows",
        "activation": "no copies of the two halves",
    }
    return Choice(op, "numba", reasons[op])


def select_kernels(
    device: torch.device,
    dtype: torch.dtype,
    head_size: int,
    pool: ThreadPoolExecutor | None = None,
    workers: int = 1,
) -> KernelSet:
    """Bind every operation for a model. pool: threads that attention may use besides the caller's, workers in all."""
    ops = ("paged_attention", "rope_kv", "rms_norm", "activation", "sampling")
    choices = tuple(choose(op, device, dtype, head_size) for op in ops)
    attention, rope, norm, activation, sampling = (choice.backend == "numba" for choice in choices)
    return KernelSet(
        choices=choices,
        paged_attention=(
            partial(attention_cpu.paged_attention, pool=pool, workers=workers)
            if attention
            else attention_torch.paged_attention
        ),
        rope_and_write_kv=rope_cpu.rope_and_write_kv if rope else rope_torch.rope_and_write_kv,
        write_kv=rope_torch.write_kv,
        rms_norm=norm_cpu.rms_norm if norm else norm_torch.rms_norm,
        add_rms_norm=norm_cpu.add_rms_norm if norm else norm_torch.add_rms_norm,
        silu_and_mul=activation_cpu.silu_and_mul if activation else activation_torch.silu_and_mul,
        apply_penalties=sampling_cpu.apply_penalties if sampling else sampling_torch.apply_penalties,
        draw=sampling_cpu.draw if sampling else sampling_torch.draw,
        gelu_tanh_and_mul=activation_cpu.gelu_tanh_and_mul if activation else activation_torch.gelu_tanh_and_mul,
    )
