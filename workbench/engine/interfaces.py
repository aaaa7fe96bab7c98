"""What the engine needs from outside: something that runs plans, and something that turns tokens into text."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from workbench.core.config import EngineArgs, ModelSpec, PoolShape
from workbench.core.machine import MachineLimits
from workbench.core.memory import DeviceReading, MemoryRow
from workbench.core.scheduler_output import BlockCopy, RunnerOutput, SchedulerOutput
from workbench.core.work import WorkSizes


class ModelRunner(Protocol):
    """Runs plans on a model. All calls but `close` come from the engine's thread."""

    @property
    def spec(self) -> ModelSpec:
        """What it runs."""
        ...

    def execute(self, plan: SchedulerOutput) -> RunnerOutput:
        """Run a plan; on any exception the plan's requests are failed and the engine goes on."""
        ...

    def plan_pool(self, args: EngineArgs, turned: Collection[str]) -> PoolShape:
        """The KV pool that args ask for; turned: the settings that change. KVCacheTooSmallError if not one block."""
        ...

    def check_room(self, pool: PoolShape) -> None:
        """Raise DoesNotFitError where there is no memory for such a pool."""
        ...

    def free_bytes(self) -> int:
        """Memory of the device that can still be allocated."""
        ...

    def change_pool(self, pool: PoolShape, copies: Sequence[BlockCopy]) -> None:
        """Copy blocks, then make the pool that size; one of another kind begins empty. ConfigError leaves the old."""
        ...

    def predict_weight_bytes(self, weight_format: str | None) -> int:
        """Bytes that the weights would take, stored that way."""
        ...

    def check_weights(self, weight_format: str | None) -> None:
        """Raise DoesNotFitError where the weights cannot be stored that way here, or not beside those in force."""
        ...

    def load_weights(self, weight_format: str | None) -> object:
        """Weights stored that way, for use_weights. Changes nothing; any thread may call it. Raises ConfigError."""
        ...

    def use_weights(self, weights: object) -> None:
        """Compute with these from now on, and let go of the others. Every KV of the others has become useless."""
        ...

    def device(self) -> DeviceReading:
        """What the device says of itself. Any thread may ask; the engine's does not, as it takes its time."""
        ...

    def memory(self, reading: DeviceReading | None = None) -> Sequence[MemoryRow]:
        """The bytes it holds, by purpose, held against the reading where there is one."""
        ...

    def work(self) -> WorkSizes | None:
        """The sizes that a step's bytes and operations follow from; None without a model. Any thread may ask."""
        ...

    def measure_limits(self, progress: Callable[[int, int], None] | None = None) -> MachineLimits:
        """What the machine can do; takes a second or two on the caller's thread, which may be any.

        progress: called with rounds done, of how many, in place of a progress bar; what it raises ends the measurement.
        """
        ...

    def close(self) -> None:
        """Free everything."""
        ...


class Detokenizer(Protocol):
    """Turns one sequence's tokens into text as they come."""

    def step(self, token_id: int) -> str:
        """The text that this token completes; empty while a character is unfinished."""
        ...


class Tokenizer(Protocol):
    """Text to token ids and back."""

    def encode(self, text: str) -> list[int]:
        """Token ids of a prompt."""
        ...

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, special ones left out."""
        ...

    def detokenizer(self, prompt_token_ids: Sequence[int], skip_special_tokens: bool) -> Detokenizer:
        """A detokenizer for what follows the prompt."""
        ...

    def apply_chat_template(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids of a conversation, ready for the answer; ConfigError if the model has no template."""
        ...

    def token_text(self, token_id: int) -> str:
        """One token on its own, for views."""
        ...
