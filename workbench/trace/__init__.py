"""Recording, replay and time travel over a run's StepRecords."""

from workbench.trace.files import TraceFileError
from workbench.trace.metrics import Slo
from workbench.trace.replay import Replay
from workbench.trace.trace import Trace, TraceRangeError

__all__ = ["Replay", "Slo", "Trace", "TraceFileError", "TraceRangeError"]
