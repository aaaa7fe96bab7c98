"""Every tensor that a kernel allocates starts as NaN here, so that an element it forgets to write shows."""

from collections.abc import Iterator

import pytest
import torch

from workbench_kernels.paged_attention import cpu


@pytest.fixture(autouse=True)
def _fresh_memory_is_nan(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cpu, "LONG_QUERY", 24)  # so that the slow reference can check both ways
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
