"""Why a change of settings does not fit, in arithmetic, and the smallest change that would."""

import html
from dataclasses import dataclass
from typing import Any

from workbench.core.units import size_text
from workbench.engine.change import Change


@dataclass(frozen=True)
class WhyNot:
    """The answer to "why does it not fit?". change: what `predict` says of it; free_bytes: of the device, by all."""

    change: Change
    free_bytes: int | None

    @property
    def fits(self) -> bool:
        """True if nothing speaks against it."""
        return self.change.refused is None

    @property
    def instead(self) -> dict[str, Any] | None:
        """What is closest to it and fits, as arguments of `configure`; None where nothing like it does."""
        if self.fits:
            return dict(self.change.requested)
        return None if self.change.instead is None else dict(self.change.instead)

    def lines(self) -> list[str]:
        """The verdict, the arithmetic, and what to do."""
        change = self.change
        now, then = change.before, change.predicted
        free = "" if self.free_bytes is None else f"; {size_text(self.free_bytes)} of the device are free"
        held = f"Held now: {size_text(now.weight_bytes)} of weights and {size_text(now.kv_cache_bytes)} of KV{free}."
        if self.fits:
            asked = (
                f"Asked for: {size_text(then.weight_bytes)} of weights and {size_text(then.kv_cache_bytes)} of KV "
                f"({then.num_blocks:,} blocks of {then.block_size} tokens)."
            )
            return ["It fits.", held, asked]
        lines = ["It does not fit.", held, f"Because {change.refused}."]
        if change.calls:
            lines.append("One after the other it fits; in this order:")
            lines += [f"    {call.code}  # {call.why}" for call in change.calls]
            return lines
        if self.instead is None:
            return [*lines, "No smaller change of these settings would fit."]
        told = ", ".join(f"{name}={value!r}" for name, value in self.instead.items())
        return [*lines, f"The nearest that fits: llm.configure({told})"]

    def __repr__(self) -> str:
        return "\n".join(self.lines())

    def _repr_html_(self) -> str:
        first, *rest = (html.escape(line) for line in self.lines())
        return f"<b>{first}</b>" + "".join(
            f"<pre>{line.strip()}</pre>" if line.startswith(" ") else f"<div>{line}</div>" for line in rest
        )
