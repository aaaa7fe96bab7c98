"""A step's decisions and sampled tokens, kept as columns, because a trace holds millions of them.

Nearly every decision of a long run says "decodes one token", and nearly every sampled token comes without
log-probabilities. What differs in those are a few numbers; here these are arrays, the request ids are one tuple that
successive steps share, and a row is made when somebody looks at it. To readers they are sequences of rows.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Generic, TypeVar, overload

from workbench.core.records import Sampled
from workbench.core.scheduler_output import Action, Decision, Reason

Row = TypeVar("Row", Decision, Sampled)

Alternatives = tuple[tuple[int, float], ...]

_new = tuple.__new__  # a named tuple's own constructor takes twice as long


class _Rows(Sequence[Row], Generic[Row]):
    """A row for each request id; equal to any sequence of equal rows."""

    __slots__ = ("request_ids",)

    def __init__(self, request_ids: tuple[str, ...]) -> None:
        self.request_ids = request_ids

    def __len__(self) -> int:
        return len(self.request_ids)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, index: int | slice) -> Row | tuple[Row, ...]:
        places = range(len(self))[index]
        return self._row(places) if isinstance(places, int) else tuple(map(self._row, places))

    def __iter__(self) -> Iterator[Row]:
        return map(self._row, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def _row(self, index: int) -> Row:
        raise NotImplementedError


class Decisions(_Rows[Decision]):
    """One decision for each live request. noted: None for a request that decodes one token, for others their Decision;
    or empty if all decode."""

    __slots__ = ("_noted", "_num_computed")

    def __init__(
        self, request_ids: tuple[str, ...], num_computed: Iterable[int], noted: Sequence[Decision | None] = ()
    ) -> None:
        super().__init__(request_ids)
        self._num_computed = array("i", num_computed)
        self._noted = tuple(noted)

    @property
    def num_bytes(self) -> int:
        """Memory of the columns, about, without the ids; a wait that says the same as the last one is shared too."""
        own = sum(d is not None and d.action is not Action.WAIT for d in self._noted)
        return 4 * len(self) + 8 * len(self._noted) + 200 * own

    def columns(self) -> tuple[tuple[str, ...], list[int], tuple[Decision | None, ...]]:
        """What it was made from: ids, num_computed of each, and what is noted."""
        return self.request_ids, self._num_computed.tolist(), self._noted

    def apart(self) -> tuple[Sequence[int], Sequence[Decision]]:
        """num_computed of every request that decodes one token, and the decisions of the others: quick to add up."""
        if not self._noted:
            return self._num_computed, ()
        computed = [n for n, noted in zip(self._num_computed, self._noted, strict=True) if noted is None]
        return computed, [noted for noted in self._noted if noted is not None]

    def _row(self, index: int) -> Decision:
        noted = self._noted[index] if self._noted else None
        if noted is not None:
            return noted
        return _decodes(self.request_ids[index], self._num_computed[index])

    def __iter__(self) -> Iterator[Decision]:
        return super().__iter__() if self._noted else map(_decodes, self.request_ids, self._num_computed)


class SampledTokens(_Rows[Sampled]):
    """The sampled tokens. logprobs: index -> (logprob, alternatives), for the rows that have them."""

    __slots__ = ("_logprobs", "_positions", "_token_ids")

    def __init__(
        self,
        request_ids: tuple[str, ...],
        token_ids: Iterable[int],
        positions: Iterable[int],
        logprobs: Mapping[int, tuple[float | None, Alternatives]],
    ) -> None:
        super().__init__(request_ids)
        self._token_ids = array("i", token_ids)
        self._positions = array("i", positions)
        self._logprobs = logprobs or _NO_LOGPROBS

    def columns(self) -> tuple[tuple[str, ...], list[int], list[int], Mapping[int, tuple[float | None, Alternatives]]]:
        """What it was made from: ids, token ids, positions, log-probabilities."""
        return self.request_ids, self._token_ids.tolist(), self._positions.tolist(), self._logprobs

    @property
    def token_ids(self) -> Sequence[int]:
        """The token of each row."""
        return self._token_ids

    @property
    def logprobs(self) -> Mapping[int, tuple[float | None, Alternatives]]:
        """Index -> (log-probability, alternatives), for the rows that have them."""
        return self._logprobs

    @property
    def num_bytes(self) -> int:
        """Memory of the columns, about, without the ids."""
        alternatives = sum(len(found) for _, found in self._logprobs.values())
        return 8 * len(self) + 180 * len(self._logprobs) + 120 * alternatives

    def _row(self, index: int) -> Sampled:
        logprob, alternatives = self._logprobs.get(index, (None, ()))
        return Sampled(self.request_ids[index], self._token_ids[index], logprob, alternatives, self._positions[index])

    def __iter__(self) -> Iterator[Sampled]:
        if self._logprobs:
            return super().__iter__()
        return map(_without_logprob, self.request_ids, self._token_ids, self._positions)


def _decodes(request_id: str, num_computed: int) -> Decision:
    return _new(Decision, (request_id, Action.DECODE, Reason.DECODE, 1, num_computed, 0, 0, 0, ""))


def _without_logprob(request_id: str, token_id: int, position: int) -> Sampled:
    return _new(Sampled, (request_id, token_id, None, (), position))


_NO_LOGPROBS: Mapping[int, tuple[float | None, Alternatives]] = MappingProxyType({})
NOTHING_SAMPLED = SampledTokens((), (), (), _NO_LOGPROBS)


def as_decisions(rows: Sequence[Decision]) -> Decisions:
    """These rows as columns, themselves if they are."""
    return rows if isinstance(rows, Decisions) else Packer().decisions(rows)


def as_sampled(rows: Sequence[Sampled]) -> SampledTokens:
    """These rows as columns, themselves if they are."""
    return rows if isinstance(rows, SampledTokens) else Packer().sampled(rows)


class Packer:
    """Packs rows, and lets what it packs share the ids as long as they stay the same."""

    def __init__(self) -> None:
        self._ids: tuple[str, ...] = ()

    def ids(self, request_ids: Iterable[str]) -> tuple[str, ...]:
        """These ids as a tuple, the one returned last if it is equal."""
        found = tuple(request_ids)
        if found != self._ids:
            self._ids = found
        return self._ids

    def decisions(self, rows: Sequence[Decision]) -> Decisions:
        """Decisions with these rows."""
        noted = [None if d.action is Action.DECODE else d for d in rows]
        ids = self.ids(d.request_id for d in rows)
        return Decisions(ids, (d.num_computed for d in rows), noted if any(noted) else ())

    def sampled(self, rows: Sequence[Sampled]) -> SampledTokens:
        """SampledTokens with these rows."""
        logprobs = {i: (s.logprob, s.alternatives) for i, s in enumerate(rows) if s.logprob is not None}
        ids = self.ids(s.request_id for s in rows)
        return SampledTokens(ids, (s.token_id for s in rows), (s.position for s in rows), logprobs)
