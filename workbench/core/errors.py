"""Named errors. Each message says what was needed, what there is, and which setting to change."""

from collections.abc import Mapping
from typing import Any


class WorkbenchError(Exception):
    """Base of every error that the workbench raises on purpose."""


class ConfigError(WorkbenchError, ValueError):
    """A setting is unknown, out of range, or contradicts another one."""


class SamplingParamsError(WorkbenchError, ValueError):
    """A sampling parameter is unknown, out of range, or contradicts another one."""


class InvalidRequestError(WorkbenchError, ValueError):
    """A request was refused when it was submitted. The engine is as it was before."""


class EmptyPromptError(InvalidRequestError):
    """The prompt has no tokens."""


class PromptTooLongError(InvalidRequestError):
    """The prompt leaves no room for one new token under max_model_len."""


class TokenOutOfVocabularyError(InvalidRequestError):
    """A prompt token id is negative or not below the vocabulary size."""


class RequestNeverFitsError(InvalidRequestError):
    """The request would need more KV blocks than the whole pool has."""


class DoesNotFitError(ConfigError):
    """Something would not fit. A running engine is as it was.

    need, have: in the unit of the message (blocks or bytes). change: the smallest change that would fit, in words;
    instead: the same as settings, empty where no setting of this kind would do.
    """

    def __init__(
        self, message: str, need: int = 0, have: int = 0, change: str = "", instead: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(f"{message}; {change}" if change else message)
        self.need = need
        self.have = have
        self.change = change
        self.instead = dict(instead or {})


class KVCacheTooSmallError(DoesNotFitError):
    """The KV pool has no room for a single block, or the device none for the pool."""


class ModelLoadError(WorkbenchError):
    """A model directory is missing, cannot be read, or is of a kind that cannot run here."""


class UnsafeModelError(ModelLoadError):
    """A model needs code or pickled data from its directory to load, and nobody allowed that."""


class WrongKernelError(ConfigError):
    """A kernel was refused, as it does not compute what the reference does. The one before it is still in force.

    report: the KernelCheck that found it, to print or draw.
    """

    def __init__(self, message: str, report: object = None) -> None:
        super().__init__(message)
        self.report = report


class KernelFailedError(WorkbenchError):
    """A kernel that the caller gave raised, or returned something else than it must; its requests end with this."""


class EngineClosedError(WorkbenchError):
    """The engine was shut down; make a new LLM."""


class ResultTimeoutError(WorkbenchError, TimeoutError):
    """A result was not ready in the time given. The request goes on."""


class MissingPackageError(WorkbenchError, ImportError):
    """An optional library that this needs is not installed; the message names the extra that brings it."""
