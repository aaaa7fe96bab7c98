"""How the bundled model's weights are rounded when they are saved."""

from __future__ import annotations

import pytest
import torch

from workbench.embedded.network import keep_mantissa


def test_all_seven_bits_are_bfloat16_itself() -> None:
    weight = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keep_mantissa(weight, 7), weight.bfloat16())


@pytest.mark.parametrize("bits", [2, 4])
def test_fewer_bits_round_to_the_nearest(bits: int) -> None:
    weight = torch.randn(1000, generator=torch.Generator().manual_seed(0)).bfloat16()
    kept = keep_mantissa(weight, bits)
    step = 2.0 ** (torch.frexp(weight.float()).exponent - 1 - bits)
    assert (kept.float() / step).frac().abs().max() == 0
    assert ((kept.float() - weight.float()).abs() <= step / 2).all()
    assert not torch.equal(kept, weight)
