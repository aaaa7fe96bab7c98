"""The engine without a model: a runner that costs nothing and forgets nothing."""

from workbench.sim.fake_runner import FakeRunner, expected_tokens

__all__ = ["FakeRunner", "expected_tokens"]
