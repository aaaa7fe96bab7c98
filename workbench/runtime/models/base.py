"""What the runner needs of a model."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch

from workbench.core.weights import WeightRow
from workbench_kernels.dispatch import KernelSet
from workbench_kernels.kv_cache import KVCache
from workbench_kernels.metadata import AttentionMetadata


class AttentionShape(NamedTuple):
    """A model's attention: what its KV cache has to hold."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int


class Model(Protocol):
    """A causal language model over a paged KV cache. Holds weights and no state of any request."""

    def forward(
        self,
        token_ids: torch.Tensor,
        meta: AttentionMetadata,
        kv_layers: Sequence[KVCache],
        kernels: KernelSet,
        sample_rows: torch.Tensor | None,
    ) -> torch.Tensor:
        """Run T tokens [T]; write their K and V. Returns logits [rows, vocab] in float32 for the tokens in sample_rows.

        sample_rows None stands for all tokens. Other tokens' logits are never computed.
        """
        ...

    @property
    def num_parameters(self) -> int:
        """Learned numbers; tables computed from the config do not count."""
        ...

    def tensors(self) -> Iterator[torch.Tensor]:
        """Every tensor it holds, each once."""
        ...

    def weights(self) -> Iterator[WeightRow]:
        """How each of its matrices is stored; the rows' bytes add up to those of tensors()."""
        ...
