"""Checks of numbers that a user gives; each raises ConfigError with the name and the value."""

import math

from workbench.core.errors import ConfigError


def check_above_zero(name: str, value: float) -> None:
    """A finite number above 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value > 0 and math.isfinite(value)):
        raise ConfigError(f"{name} must be a number above 0, not {value!r}")


def check_seconds(name: str, value: float) -> None:
    """A finite number of at least 0."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value >= 0 and math.isfinite(value)):
        raise ConfigError(f"{name} must be a number of seconds of at least 0, not {value!r}")


def check_share(name: str, value: float) -> None:
    """A number from 0 to 1."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigError(f"{name} must be a share from 0 to 1, not {value!r}")


def check_count(name: str, value: int) -> None:
    """A whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigError(f"{name} must be a whole number of at least 1, not {value!r}")
