"""The engine without a model: a runner that forgets nothing, traffic, a cost model and a simulator."""

from workbench.sim.cost_model import CostModel, features_of
from workbench.sim.fake_runner import FakeRunner, expected_tokens
from workbench.sim.lengths import LogNormal, Uniform
from workbench.sim.simulator import Simulator
from workbench.sim.workload import Workload, WorkloadRequest

__all__ = [
    "CostModel",
    "FakeRunner",
    "LogNormal",
    "Simulator",
    "Uniform",
    "Workload",
    "WorkloadRequest",
    "expected_tokens",
    "features_of",
]
