"""A kernel that the caller wrote, in the place of the engine's own, behind a check of what it returns."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from workbench.core.errors import ConfigError, KernelFailedError
from workbench_kernels.check import unlike
from workbench_kernels.dispatch import Choice, KernelSet

GivenKernels = Mapping[str, Callable[..., torch.Tensor]]
# The operations that can be given. The others write in place, or draw tokens, where a result cannot be checked.
REPLACEABLE = ("paged_attention",)


def check_given(op: str, function: object) -> None:
    """Raise ConfigError for an operation that cannot be given, or for something that cannot be called."""
    if op not in REPLACEABLE:
        raise ConfigError(f"kernels can be given for {', '.join(REPLACEABLE)}, not for {op!r}")
    if not callable(function):
        raise ConfigError(f"the kernel given for {op} must be a function, not {function!r}")


def kernel_name(function: Callable[..., torch.Tensor]) -> str:
    """What to call it in tables and messages."""
    return str(getattr(function, "__name__", type(function).__name__))


def with_given(kernels: KernelSet, given: GivenKernels) -> KernelSet:
    """The same set with the caller's kernels in it. Steps are then laid out without tiles, and never recorded."""
    if not given:
        return kernels
    choices = tuple(
        Choice(choice.op, "yours", f"given by the caller: {kernel_name(given[choice.op])}")
        if choice.op in given
        else choice
        for choice in kernels.choices
    )
    return replace(kernels, choices=choices, query_tile=0, paged_attention=_checked(given["paged_attention"]))


def _checked(function: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """paged_attention that raises KernelFailedError where the function raises or gives anything but rows like q's."""
    name = kernel_name(function)

    @functools.wraps(function)
    def paged_attention(q: torch.Tensor, *arguments: object) -> torch.Tensor:
        try:
            out = function(q, *arguments)
        except Exception as error:
            raised = f"the given paged_attention ({name}) raised {type(error).__name__}: {error}"
            raise KernelFailedError(raised) from error
        if problem := unlike(q, out):
            raise KernelFailedError(f"the given paged_attention ({name}): {problem}")
        return out.contiguous()

    return paged_attention
