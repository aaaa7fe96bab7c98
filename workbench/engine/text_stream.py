"""A sequence's text as it grows, and where a stop string ends it."""

from workbench.engine.interfaces import Detokenizer


class TextStream:
    """Feeds tokens to a detokenizer and looks for stop strings.

    `push` returns text that can no longer become part of a stop string; the rest is held back until it is decided.
    After a stop, `text` ends before the stop string, or after it if include_stop.
    """

    def __init__(self, detokenizer: Detokenizer, stop: tuple[str, ...], include_stop: bool) -> None:
        self._detokenizer = detokenizer
        self._stop = stop
        self._include_stop = include_stop
        self._longest = max(map(len, stop), default=0)
        self.text = ""
        self._given = 0
        self.stopped_by: str | None = None

    def push(self, token_id: int, may_stop: bool) -> str:
        """Add a token and return the text that is now certain. may_stop is False before min_tokens."""
        searched = max(0, len(self.text) - self._longest + 1)
        self.text += self._detokenizer.step(token_id)
        if may_stop and self._stop:
            self._find_stop(searched)
        return self._take(len(self.text) if self.stopped_by else len(self.text) - self._held())

    def finish(self) -> str:
        """The text that was held back."""
        return self._take(len(self.text))

    def _find_stop(self, start: int) -> None:
        hits = [(self.text.find(stop, start), stop) for stop in self._stop]
        found = [(at, stop) for at, stop in hits if at >= 0]
        if found:
            at, self.stopped_by = min(found, key=lambda hit: (hit[0], -len(hit[1])))
            self.text = self.text[: at + len(self.stopped_by) if self._include_stop else at]

    def _held(self) -> int:
        """Length of the longest ending that begins a stop string."""
        for size in range(min(self._longest - 1, len(self.text)), 0, -1):
            if any(stop.startswith(self.text[-size:]) for stop in self._stop):
                return size
        return 0

    def _take(self, end: int) -> str:
        new = self.text[self._given : end]
        self._given = max(self._given, end)
        return new
