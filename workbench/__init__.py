"""An LLM inference engine that lives in your notebook, and views that show what it does and why.

torch is imported when a model is loaded, not when this package is.
"""

from workbench.core.policy import Policy
from workbench.core.sampling_params import SamplingParams
from workbench.engine.outputs import CompletionOutput, RequestOutput, StreamOutput
from workbench.llm import LLM
from workbench.quality.outputs import OutputComparison, compare_outputs
from workbench.show import show
from workbench.sim import CostModel, Workload
from workbench.simulate import compare, simulate
from workbench.trace import Trace
from workbench.traffic import drive

__version__ = "0.1.0"

__all__ = [
    "LLM",
    "CompletionOutput",
    "CostModel",
    "OutputComparison",
    "Policy",
    "RequestOutput",
    "SamplingParams",
    "StreamOutput",
    "Trace",
    "Workload",
    "__version__",
    "compare",
    "compare_outputs",
    "drive",
    "show",
    "simulate",
]
