"""Which implementation runs for a model, and why: decided once, and said out loud in KernelSet.choices."""

import importlib
import importlib.util
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import NamedTuple

import torch

from workbench_kernels.activation import cpu as activation_cpu
from workbench_kernels.activation import torch_impl as activation_torch
from workbench_kernels.paged_attention import cpu as attention_cpu
from workbench_kernels.paged_attention import torch_impl as attention_torch
from workbench_kernels.quant_matmul import cpu as quant_cpu
from workbench_kernels.quant_matmul import torch_impl as quant_torch
from workbench_kernels.quant_matmul.packing import QuantizedWeight
from workbench_kernels.rms_norm import cpu as norm_cpu
from workbench_kernels.rms_norm import torch_impl as norm_torch
from workbench_kernels.rope_kv import cpu as rope_cpu
from workbench_kernels.rope_kv import torch_impl as rope_torch
from workbench_kernels.sampling import cpu as sampling_cpu
from workbench_kernels.sampling import torch_impl as sampling_torch
from workbench_kernels.simd import LANES

BACKENDS = ("auto", "numba", "torch", "triton")
# Tokens in a step from which on a GPU computes for longer than it reads weights.
TRITON_ROWS = 64
OPS = ("paged_attention", "rope_kv", "rms_norm", "activation", "sampling", "quant_matmul")


class BackendUnavailable(ValueError):
    """The backend that was asked for cannot run here; the message says what is missing."""


class Choice(NamedTuple):
    """One operation's backend ("numba", "torch" or "triton"), and the reason in plain words."""

    op: str
    backend: str
    reason: str


@dataclass(frozen=True, slots=True)
class KernelSet:
    """The operations a decoder layer calls, bound to one device and dtype. Signatures are those of each reference.py.

    paged_attention also takes this step's k and v, after q. query_tile: what make_metadata needs to know for it.
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
    quant_matmul: Callable[..., torch.Tensor]
    query_tile: int = 0


def choose(
    op: str,
    device: torch.device,
    dtype: torch.dtype,
    head_size: int,
    backend: str = "auto",
    kv_dtype: torch.dtype | None = None,
) -> Choice:
    """The backend of one operation for tensors of this device, dtype and head size. kv_dtype: of a quantized KV cache.

    backend: one of BACKENDS; "auto" is Triton on a GPU and numba on a CPU. "numba" still leaves to torch what its
    kernels do not cover. Raises BackendUnavailable where the one asked for cannot run.
    """
    if backend == "torch":
        return Choice(op, "torch", "asked for")
    if kv_dtype is not None and op == "rope_kv":
        return Choice(op, "torch", f"quantizes K and V to {_short(kv_dtype)}, which no kernel does while it rotates")
    if kv_dtype is not None and op == "paged_attention" and (device.type != "cpu" or backend == "triton"):
        why = f"the Triton kernel reads no {_short(kv_dtype)} cache: K and V are gathered and written out each step"
        return Choice(op, "torch", f"{why}, which saves memory and no time")
    if backend == "triton":
        _check_triton(device)
        how = "asked for" if device.type == "cuda" else "asked for; Triton's interpreter runs it on this CPU, slowly"
        return Choice(op, "triton", how)
    if device.type != "cpu":
        if backend == "numba":
            raise BackendUnavailable(f"numba kernels run on a CPU only, this is {device.type}")
        if importlib.util.find_spec("triton") is None:
            return Choice(op, "torch", "Triton is not installed (pip install 'inference-workbench[gpu]')")
        return Choice(op, "triton", _TRITON_REASONS[op])
    if op == "sampling":  # logits are float32 whatever the model's dtype
        return Choice(op, "numba", "sorts only the part of the vocabulary that decides")
    if dtype not in (torch.float32, torch.bfloat16):
        return Choice(op, "torch", f"numba kernels read float32 and bfloat16, not {str(dtype).removeprefix('torch.')}")
    if op == "paged_attention" and head_size % LANES:
        return Choice(op, "torch", f"the numba kernel takes head sizes that are multiples of {LANES}, not {head_size}")
    return Choice(op, "numba", _NUMBA_REASONS[op])


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


_NUMBA_REASONS = {
    "paged_attention": "walks block tables in place; long prefill chunks go to torch's SDPA",
    "rope_kv": "one pass over the projections",
    "rms_norm": "less overhead than torch for few rows",
    "activation": "no copies of the two halves",
    "quant_matmul": (
        f"reads packed weights for up to {quant_cpu.MANY_ROWS - 1} tokens at once; for more it writes them out in "
        "float32, a part at a time, and torch multiplies"
    ),
}
_TRITON_REASONS = {
    "paged_attention": "walks block tables in place, and splits long contexts over the GPU",
    "rope_kv": "one launch for norm, rotation and KV write",
    "rms_norm": "one launch with the residual sum, which stays in registers",
    "activation": "one launch, no copies of the two halves",
    "sampling": "finds the cut by bisection instead of sorting the vocabulary",
    "quant_matmul": (
        f"reads packed weights for up to {TRITON_ROWS} tokens at once; for more, and for nf4, torch writes them out "
        "and multiplies"
    ),
}


def _check_triton(device: torch.device) -> None:
    if importlib.util.find_spec("triton") is None:
        raise BackendUnavailable(
            "Triton is not installed (pip install 'inference-workbench[gpu]', Linux only); any other backend runs "
            "without it"
        )
    if device.type == "cpu" and not _triton("triton_support").INTERPRETED.value:
        raise BackendUnavailable(
            "Triton's kernels run on a CPU through its interpreter only, which must be chosen before Triton is first "
            "imported: set TRITON_INTERPRET=1 in the environment and start Python (or the notebook's kernel) again"
        )


def _triton(name: str) -> ModuleType:
    # By name, at the moment when it is wanted: Triton takes a second to import and half of all machines have no use
    # for it.
    return importlib.import_module(f"workbench_kernels.{name}")


def select_kernels(
    device: torch.device,
    dtype: torch.dtype,
    head_size: int,
    pool: ThreadPoolExecutor | None = None,
    workers: int = 1,
    backend: str = "auto",
    kv_dtype: torch.dtype | None = None,
) -> KernelSet:
    """Bind every operation for a model. pool: threads that attention may use besides the caller's, workers in all.

    backend, kv_dtype: see choose. Raises BackendUnavailable.
    """
    choices = tuple(choose(op, device, dtype, head_size, backend, kv_dtype) for op in OPS)
    made = {
        op: {"numba": numba, "torch": other}.get(choice.backend) or _triton(f"{op}.triton_impl")
        for op, choice, (numba, other) in zip(OPS, choices, _IMPLEMENTATIONS, strict=True)
    }
    attention, query_tile = made["paged_attention"].paged_attention, 0
    if choices[0].backend == "numba":
        attention = partial(attention, pool=pool, workers=workers)
    elif choices[0].backend == "triton":
        query_tile = made["paged_attention"].QUERY_TILE
        if device.type == "cuda":
            processors = torch.cuda.get_device_properties(device).multi_processor_count
            attention = partial(attention, programs=_PROGRAMS_PER_PROCESSOR * processors)
    quant = made["quant_matmul"].quant_matmul
    quant_backend = choices[OPS.index("quant_matmul")].backend
    if quant_backend == "numba":
        quant = _where(quant_cpu.supports, partial(quant, pool=pool, workers=workers))
    elif quant_backend == "triton":
        quant = _where(lambda x, weight: weight.format != "nf4" and x.shape[0] <= TRITON_ROWS, quant)
    return KernelSet(
        choices=choices,
        paged_attention=attention,
        rope_and_write_kv=made["rope_kv"].rope_and_write_kv,
        write_kv=rope_torch.write_kv,
        rms_norm=made["rms_norm"].rms_norm,
        add_rms_norm=made["rms_norm"].add_rms_norm,
        silu_and_mul=made["activation"].silu_and_mul,
        gelu_tanh_and_mul=made["activation"].gelu_tanh_and_mul,
        apply_penalties=made["sampling"].apply_penalties,
        draw=made["sampling"].draw,
        quant_matmul=quant,
        query_tile=query_tile,
    )


def _where(
    supported: Callable[[torch.Tensor, QuantizedWeight], bool], run: Callable[..., torch.Tensor]
) -> Callable[..., torch.Tensor]:
    """A product with quantized weights that goes to torch where it is not supported."""

    def quant_matmul(x: torch.Tensor, weight: QuantizedWeight, bias: torch.Tensor | None = None) -> torch.Tensor:
        return (run if supported(x, weight) else quant_torch.quant_matmul)(x, weight, bias)

    return quant_matmul


# Of each operation, in the order of OPS: numba's and torch's.
_IMPLEMENTATIONS: tuple[tuple[ModuleType, ModuleType], ...] = (
    (attention_cpu, attention_torch),
    (rope_cpu, rope_torch),
    (norm_cpu, norm_torch),
    (activation_cpu, activation_torch),
    (sampling_cpu, sampling_torch),
    (quant_cpu, quant_torch),
)
# Attention programs wanted for each multiprocessor of a GPU: several run on one at once, and ends are ragged.
_PROGRAMS_PER_PROCESSOR = 8
