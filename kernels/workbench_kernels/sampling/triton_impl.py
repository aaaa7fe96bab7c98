"""Draws in Triton without a sort: where top_k, top_p and the drawn number cut a row is found by bisection.

Positive float32 numbers are ordered as their bit patterns are. So the smallest probability that is kept, and the one
that is drawn, are found by halving a range of whole numbers 31 times; each time, the row is summed up above the middle.
A row stays in the multiprocessor's fast memory meanwhile, while a sort would write it many times over. Searching for a
threshold in place of sorting is an idea of FlashInfer's sampling kernels (Ye et al., 2025).
"""

import torch
import triton
import triton.language as tl

from workbench_kernels.sampling import torch_impl
from workbench_kernels.triton_support import kernel

apply_penalties = torch_impl.apply_penalties

_BLOCK = 4096
# The largest float32 below 1: a number that rounds to 1 would lie above the sum of all.
_MOST = 1 - 2**-24


@triton.jit
def _finite(x):
    """NaN and infinity as -inf: such a row is reported by the caller, its arithmetic must only come to an end."""
    return tl.where(x < float("inf"), x, float("-inf"))


@triton.jit
def _above(probs, vocab, bits, BLOCK: tl.constexpr):
    """Number and sum of the probabilities [vocab] whose bit pattern is larger than bits."""
    counts = tl.zeros((BLOCK,), tl.int32)
    sums = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, vocab, BLOCK):
        token = start + tl.arange(0, BLOCK)
        p = tl.load(probs + token, mask=token < vocab, other=0.0)
        larger = p.to(tl.int32, bitcast=True) > bits
        counts += larger.to(tl.int32)
        sums += tl.where(larger, p, 0.0)
    return tl.sum(counts), tl.sum(sums)


@triton.jit
def _place(probs, vocab, bits, number, BLOCK: tl.constexpr):
    """Id of the number-th (from 0) of the tokens whose probability has just this bit pattern; the last if too few."""
    seen = 0
    found = vocab
    last = 0
    for start in range(0, vocab, BLOCK):
        token = start + tl.arange(0, BLOCK)
        p = tl.load(probs + token, mask=token < vocab, other=0.0)
        equal = (p.to(tl.int32, bitcast=True) == bits) & (token < vocab)
        rank = seen + tl.cumsum(equal.to(tl.int32), 0) - 1
        found = tl.minimum(found, tl.min(tl.where(equal & (rank == number), token, vocab)))
        last = tl.maximum(last, tl.max(tl.where(equal, token, 0)))
        seen += tl.sum(equal.to(tl.int32))
    return tl.where(found < vocab, found, last)


@kernel
def _draw(logits, probs, uniforms, temperatures, top_ks, top_ps, min_ps, tokens, vocab, BLOCK: tl.constexpr):
    """One row: probabilities relative to the likeliest are written to probs, and the drawn token to tokens."""
    row = tl.program_id(0)
    logits += row.to(tl.int64) * vocab
    probs += row.to(tl.int64) * vocab
    uniform = tl.load(uniforms + row)
    top_k = tl.load(top_ks + row)
    top_p = tl.load(top_ps + row)
    min_p = tl.load(min_ps + row)
    inverse = 1.0 / tl.load(temperatures + row)

    tops = tl.full((BLOCK,), float("-inf"), tl.float32)
    for start in range(0, vocab, BLOCK):
        token = start + tl.arange(0, BLOCK)
        tops = tl.maximum(tops, _finite(tl.load(logits + token, mask=token < vocab, other=float("-inf"))))
    top = tl.max(tops)
    top = tl.where(top == float("-inf"), 0.0, top)
    sums = tl.zeros((BLOCK,), tl.float32)
    for start in range(0, vocab, BLOCK):
        token = start + tl.arange(0, BLOCK)
        x = _finite(tl.load(logits + token, mask=token < vocab, other=float("-inf")))
        p = tl.exp((x - top) * inverse)
        p = tl.where(p >= min_p, p, 0.0)
        tl.store(probs + token, p, mask=token < vocab)
        sums += p
    total = tl.sum(sums)
    tl.debug_barrier()  # other threads of this program read what was just written

    one = 0x3F800000  # the bit pattern of 1.0, which the likeliest token has
    if ((top_k > 0) & (top_k < vocab)) | (top_p < 1.0):
        # Kept are the tokens above `cut`, and the first `ties` of those equal to it.
        cut = 0
        ties = 0
        if (top_k > 0) & (top_k < vocab):
            low = -1  # invariant: at least top_k tokens above low (or low is -1), fewer above high
            high = one
            while high - low > 1:
                middle = (low + high) // 2
                count, mass = _above(probs, vocab, middle, BLOCK)
                if count >= top_k:
                    low = middle
                else:
                    high = middle
            count, mass = _above(probs, vocab, high, BLOCK)
            cut = high
            ties = top_k - count
            total = mass + ties * cut.to(tl.float32, bitcast=True)
        if top_p < 1.0:
            goal = top_p * total
            low = tl.maximum(cut - 1, 0)  # invariant: the tokens above low reach the goal, those above high do not
            high = one
            while high - low > 1:
                middle = (low + high) // 2
                count, mass = _above(probs, vocab, middle, BLOCK)
                if mass >= goal:
                    low = middle
                else:
                    high = middle
            count, mass = _above(probs, vocab, high, BLOCK)
            each = high.to(tl.float32, bitcast=True)
            needed = tl.maximum(tl.ceil((goal - mass) / each), 1.0).to(tl.int32)
            ties = tl.where((high == cut) & (ties > 0), tl.minimum(needed, ties), needed)
            cut = high
            total = mass + ties * each
        # The drawn token: the tokens above it do not exceed the target, together with those equal to it they do.
        target = uniform * total
        low = tl.maximum(cut - 1, 0)
        high = one
        while high - low > 1:
            middle = (low + high) // 2
            count, mass = _above(probs, vocab, middle, BLOCK)
            if mass > target:
                low = middle
            else:
                high = middle
        count, mass = _above(probs, vocab, high, BLOCK)
        number = tl.maximum(tl.floor((target - mass) / high.to(tl.float32, bitcast=True)), 0.0).to(tl.int32)
        number = tl.where((high == cut) & (ties > 0), tl.minimum(number, ties - 1), number)
        tl.store(tokens + row, _place(probs, vocab, high, number, BLOCK))
    else:
        target = uniform * total
        running = 0.0
        found = vocab
        last = 0
        for start in range(0, vocab, BLOCK):
            token = start + tl.arange(0, BLOCK)
            p = tl.load(probs + token, mask=token < vocab, other=0.0)
            exceeded = (running + tl.cumsum(p, 0) > target) & (p > 0.0)
            found = tl.minimum(found, tl.min(tl.where(exceeded, token, vocab)))
            last = tl.maximum(last, tl.max(tl.where(p > 0.0, token, 0)))
            running += tl.sum(p)
        tl.store(tokens + row, tl.where(found < vocab, found, last))


def draw(
    logits: torch.Tensor,
    uniform: list[float],
    temperature: list[float],
    top_k: list[int],
    top_p: list[float],
    min_p: list[float],
) -> list[int]:
    """As reference.draw, for each row of contiguous logits [rows, vocab] float32. A row that is not finite gives some
    token of the vocabulary; the caller reports such rows. Waits for the device, once."""
    rows, vocab = logits.shape
    numbers = torch.tensor([[min(u, _MOST) for u in uniform], temperature, top_p, min_p], dtype=torch.float32)
    counts = torch.tensor(top_k, dtype=torch.int32)
    if logits.is_cuda:
        numbers, counts = (x.pin_memory().to(logits.device, non_blocking=True) for x in (numbers, counts))
    tokens = torch.empty(rows, dtype=torch.int32, device=logits.device)
    _draw[(rows,)](
        logits,
        torch.empty_like(logits),
        numbers[0],
        numbers[1],
        counts,
        numbers[2],
        numbers[3],
        tokens,
        vocab,
        BLOCK=min(_BLOCK, triton.next_power_of_2(vocab)),
        num_warps=8,
    )
    return tokens.tolist()  # type: ignore[no-any-return]
