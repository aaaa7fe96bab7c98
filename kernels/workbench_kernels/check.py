"""Is somebody's paged attention right? Run it beside the reference where paging goes wrong, and say where it differs.

Block sizes, lengths and shared blocks are odd, as in the project's own tests. What a kernel allocates and does not
write is NaN here, as is every slot of the cache that no token owns, so that an element forgotten or read from the wrong
place shows.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from workbench_kernels.metadata import AttentionMetadata
from workbench_kernels.paged_attention import reference
from workbench_kernels.paged_attention.cases import Batch, Inputs, make_inputs
from workbench_kernels.tolerances import TOLERANCES

# function(q, k, v, kv_cache, meta, scale, sliding_window, soft_cap) -> a tensor like q; see check_attention.
Attention = Callable[..., torch.Tensor]
OP = "paged_attention"
_KV_HEADS = 2
ENOUGH_SECONDS = 0.1
_WINDOW, _SOFT_CAP = 9, 1.5  # small enough to matter for the short contexts here


class AttentionUse(NamedTuple):
    """How a model calls paged attention. group: query heads for each KV head. calls: (sliding window, soft cap)."""

    group: int = 3
    head_size: int = 16
    block_size: int = 4
    dtype: torch.dtype = torch.float32
    device: str = "cpu"
    calls: tuple[tuple[int, float], ...] = ((0, 0.0),)


class Place(NamedTuple):
    """A token of a batch: the request it belongs to, counted from 0, and its position there."""

    request: int
    position: int


@dataclass(frozen=True, slots=True)
class CaseResult:
    """One batch. error: the largest difference by the reference's largest value, NaN where there is none to compare.

    problem: what is wrong, in words; empty where nothing is. errors [T][heads] and places [T]: the same by token and
    head. seconds: of the kernel and of the reference.
    """

    name: str
    error: float
    allowed: float
    problem: str
    errors: tuple[tuple[float, ...], ...]
    places: tuple[Place, ...]
    seconds: float
    reference_seconds: float


class Timing(NamedTuple):
    """Median seconds of a call, by name, for `what`."""

    what: str
    seconds: Mapping[str, float]


class _FreshIsNaN(TorchFunctionMode):
    """In this thread, what torch allocates without a value is NaN."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = func(*args, **(kwargs or {}))
        fresh = (torch.empty, torch.empty_like, torch.empty_strided, torch.Tensor.new_empty)
        return made.fill_(float("nan")) if func in fresh and made.is_floating_point() else made


def check_attention(
    function: Attention, use: AttentionUse | None = None, progress: Callable[[list[Any]], Iterable[Any]] = iter
) -> tuple[CaseResult, ...]:
    """Run function(q, k, v, kv_cache, meta, scale, sliding_window, soft_cap) on odd batches; one result each.

    It must return a tensor like q with what `paged_attention.reference` gives for the same arguments, and write to
    nothing else. k and v are in the cache already. A function that raises is a result too. use: the model's sizes;
    only those, with other block sizes, are tried. progress: goes over the cases, tqdm for one.
    """
    use = use or AttentionUse()
    return tuple(_run(function, case, use) for case in progress(list(_cases(use))))


class _Case(NamedTuple):
    batch: Batch
    block_size: int
    window: int
    soft_cap: float

    @property
    def name(self) -> str:
        words = f"{self.batch.name}, blocks of {self.block_size}"
        if self.window:
            words += f", window of {self.window}"
        return words + (f", soft cap {self.soft_cap}" if self.soft_cap else "")


def _cases(use: AttentionUse) -> Iterator[_Case]:
    """Few tokens each: a kernel that runs through an interpreter takes tens of milliseconds for every program."""
    b = use.block_size
    around_a_block_s_end = Batch("decode around a block's end", (1, 1, 1, 1), (b - 1 or 1, b, b + 1, 3 * b))
    mixed = Batch("mixed", (1, 5), (11, 7))
    for count, (window, cap) in enumerate(sorted({(min(w, _WINDOW), min(c, _SOFT_CAP)) for w, c in use.calls})):
        if count:  # the same kernel with another window or cap
            yield _Case(around_a_block_s_end, b, window, cap)
            yield _Case(mixed, 3, window, cap)
            continue
        yield _Case(Batch("one token, no prefix", (1,), (1,)), b, window, cap)
        yield _Case(around_a_block_s_end, b, window, cap)
        yield _Case(Batch("chunks after a prefix", (3, 1), (b + 2, b + 1)), b, window, cap)
        yield _Case(Batch("shared prefix", (1, 1, 2), (2 * b + 1, 2 * b + 4, 2 * b + 3), shared=2), b, window, cap)
        yield _Case(Batch("chunks without a prefix", (2, 3, 4), (2, 3, 4)), 3, window, cap)
        yield _Case(mixed, 1, window, cap)
        yield _Case(Batch("longer chunk", (19,), (23,)), b, window, cap)


def _run(function: Attention, case: _Case, use: AttentionUse) -> CaseResult:
    inputs = make_inputs(
        case.batch, use.group * _KV_HEADS, _KV_HEADS, use.head_size, case.block_size, use.dtype, device=use.device
    )
    inputs.write_fresh()
    q, k, v = inputs.parts
    scale = 1.25 * use.head_size**-0.5  # not the usual one: it is an argument, and some models have another
    began = time.perf_counter()
    wanted = reference.paged_attention(q, inputs.kv_cache, inputs.meta, scale, case.window, case.soft_cap)
    reference_seconds = time.perf_counter() - began
    before = [x.clone() for x in (inputs.qkv, inputs.kv_cache)]
    problem, errors = "", torch.full(q.shape[:2], float("nan"), dtype=torch.float64)
    allowed = TOLERANCES[OP, use.dtype].bound
    began = time.perf_counter()
    try:
        with _FreshIsNaN():
            ours = function(q, k, v, inputs.kv_cache, inputs.meta, scale, case.window, case.soft_cap)
        _wait(use.device)
    except Exception as error:  # a reader's kernel may raise anything
        ours, problem = None, f"it raised {type(error).__name__}: {error}"
    seconds = time.perf_counter() - began
    problem = problem or unlike(q, ours)
    if ours is not None and not problem:
        difference = (ours.double() - wanted.double()).abs().amax(-1) / wanted.double().abs().max()
        errors = difference.cpu()
        problem = _where(errors, allowed, case, inputs, ours, wanted)
    changed = [
        name
        for name, old, new in zip(("q, k or v", "kv_cache"), before, (inputs.qkv, inputs.kv_cache), strict=True)
        if not torch.equal(old.view(torch.uint8), new.view(torch.uint8))
    ]
    if changed:
        problem = "; ".join(filter(None, [problem, f"it wrote into {' and '.join(changed)}"]))
    worst = float(torch.where(errors.isnan(), torch.inf, errors).max()) if not errors.isnan().all() else float("nan")
    return CaseResult(
        case.name,
        worst,
        allowed,
        problem,
        tuple(map(tuple, errors.tolist())),
        tuple(_places(inputs.meta)),
        seconds,
        reference_seconds,
    )


def unlike(q: torch.Tensor, out: object) -> str:
    """What keeps `out` from being a tensor like q, in words; empty if nothing does."""
    if not isinstance(out, torch.Tensor):
        return f"it must return a tensor like q, {_describe(q)}; it returned {type(out).__name__}"
    if (out.shape, out.dtype, out.device) != (q.shape, q.dtype, q.device):
        return f"it must return a tensor like q, {_describe(q)}; it returned {_describe(out)}"
    return ""


def _describe(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} on {tensor.device}"


def _where(
    errors: torch.Tensor, allowed: float, case: _Case, inputs: Inputs, ours: torch.Tensor, wanted: torch.Tensor
) -> str:
    """The first token and head that is wrong, with numbers, and how many are."""
    wrong = ~(errors <= allowed)  # NaN is wrong
    if not wrong.any():
        return ""
    token, head = (int(i) for i in wrong.nonzero()[0])
    request, position = list(_places(inputs.meta))[token]
    off = (ours[token, head].double() - wanted[token, head].double()).abs()
    element = int(torch.where(off.isnan(), torch.inf, off).argmax())
    heads = sorted({int(head) for _, head in wrong.nonzero()})
    which = "every head" if len(heads) == wrong.shape[1] else f"heads {', '.join(map(str, heads))} only"
    return (
        f"{int(wrong.sum())} of {wrong.numel()} (token, head) pairs differ, {which}; the first is request {request}'s "
        f"position {position} (block {position // case.block_size} of its table, offset {position % case.block_size}), "
        f"head {head}: element {element} is {float(ours[token, head, element]):.6g} and must be "
        f"{float(wanted[token, head, element]):.6g}"
    )


def _places(meta: AttentionMetadata) -> Iterator[Place]:
    for request, span in enumerate(meta.spans):
        for token in range(span.start, span.stop):
            yield Place(request, int(meta.positions[token]))


def time_attention(
    functions: Mapping[str, Attention],
    use: AttentionUse,
    query_tiles: Mapping[str, int],
    contexts: Sequence[int] = (100, 40),
    rounds: int = 3,
) -> Timing:
    """Median seconds of a decode step's attention, in alternation after one round that does not count.

    query_tiles: of the functions that want metadata with tiles. There are fewer rounds where one takes ENOUGH_SECONDS,
    as it does through an interpreter.
    """
    batch = Batch("decode", (1,) * len(contexts), tuple(contexts))
    window, cap = max(use.calls)
    calls = {}
    for name, function in functions.items():
        inputs = make_inputs(
            batch, use.group * _KV_HEADS, _KV_HEADS, use.head_size, use.block_size, use.dtype,
            query_tile=query_tiles.get(name, 0), device=use.device,
        )  # fmt: skip
        inputs.write_fresh()
        calls[name] = (function, (*inputs.parts, inputs.kv_cache, inputs.meta, use.head_size**-0.5, window, cap))
    spent: dict[str, list[float]] = {name: [] for name in functions}
    for count in range(rounds + 1):
        for name, (function, arguments) in calls.items():
            began = time.perf_counter()
            function(*arguments)
            _wait(use.device)
            if count:
                spent[name].append(time.perf_counter() - began)
        if sum(map(sum, spent.values())) > ENOUGH_SECONDS:
            break
    what = f"one layer's decode attention, requests of {' and '.join(map(str, contexts))} tokens"
    return Timing(what, {name: statistics.median(seconds) for name, seconds in spent.items()})


def _wait(device: str) -> None:
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
