"""The test bench for a reader's kernel passes what is right and names what is wrong, with the place."""

import pytest
import torch
from own_kernels import plain_attention

from workbench_kernels.check import AttentionUse, check_attention, time_attention


def problems(function, use=None):
    return [result.problem for result in check_attention(function, use) if result.problem]


@pytest.mark.parametrize(
    "use",
    [
        AttentionUse(),
        AttentionUse(group=1, head_size=48, block_size=16, dtype=torch.bfloat16),
        AttentionUse(block_size=1, dtype=torch.float16, calls=((0, 0.0), (4096, 0.0), (0, 50.0))),
    ],
    ids=["float32", "bfloat16", "windows and a cap"],
)
def test_a_right_kernel_passes(use):
    results = check_attention(plain_attention, use)
    assert [result.problem for result in results] == [""] * len(results)
    assert len(results) == 5 + 2 * len(use.calls)
    assert all(result.error <= result.allowed for result in results)


def test_the_first_wrong_place_is_named():
    def mistaken(q, k, v, kv_cache, meta, scale, *_):
        out = plain_attention(q, k, v, kv_cache, meta, scale)
        out[meta.device.positions == 4, 5] += 0.25
        return out

    results = check_attention(mistaken, AttentionUse(group=3, block_size=4))
    assert [result.name.split(",")[0] for result in results if result.problem] == [
        "decode around a block's end",
        "chunks after a prefix",
        "mixed",
        "longer chunk",
    ]
    first = next(result for result in results if result.problem)
    assert first.problem.startswith(
        "1 of 24 (token, head) pairs differ, heads 5 only; the first is request 2's position 4 (block 1 of its table, "
        "offset 0), head 5: element "
    )
    assert [row[5] > first.allowed for row in first.errors] == [False, False, True, False]
    assert first.places[2] == (2, 4)


def ignores_the_block_table(q, k, v, kv_cache, meta, scale, *_):
    tables = meta.block_tables.copy()
    meta.block_tables.sort(1)
    try:
        return plain_attention(q, k, v, kv_cache, meta, scale)
    finally:
        meta.block_tables[:] = tables


def forgets_a_head(q, k, v, kv_cache, meta, scale, *_):
    out = torch.empty_like(q)
    out[:, 1:] = plain_attention(q, k, v, kv_cache, meta, scale)[:, 1:]
    return out


def mixes_up_the_heads(q, k, v, kv_cache, meta, scale, *_):
    order = torch.arange(q.shape[1]).view(-1, kv_cache.shape[3]).T.flatten()
    return plain_attention(q[:, order], k, v, kv_cache, meta, scale)[:, order.argsort()]


def has_its_own_scale(q, k, v, kv_cache, meta, scale, *_):
    return plain_attention(q, k, v, kv_cache, meta, q.shape[2] ** -0.5)


def writes_into_the_cache(q, k, v, kv_cache, meta, scale, *_):
    out = plain_attention(q, k, v, kv_cache, meta, scale)
    kv_cache[0, -1] = 0.0
    return out


def raises(*_):
    raise IndexError("out of bounds")


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (ignores_the_block_table, "pairs differ"),
        (forgets_a_head, "heads 0 only"),
        (mixes_up_the_heads, "pairs differ"),
        (has_its_own_scale, "pairs differ, every head"),
        (writes_into_the_cache, "it wrote into kv_cache"),
        (raises, "it raised IndexError: out of bounds"),
        (lambda q, *_: None, "it must return a tensor like q, float32 [1, 6, 16] on cpu; it returned NoneType"),
        (lambda q, *_: q[:, :1], "it returned float32 [1, 1, 16] on cpu"),
        (lambda q, *_: q.double(), "it returned float64 [1, 6, 16] on cpu"),
    ],
)
def test_mistakes_are_found(function, words):
    found = problems(function)
    assert found
    assert words in found[0]


def test_a_window_that_is_ignored_is_found_only_where_the_model_has_one():
    def without(q, k, v, kv_cache, meta, scale, *_):
        return plain_attention(q, k, v, kv_cache, meta, scale)

    assert not problems(without)
    assert problems(without, AttentionUse(calls=((0, 0.0), (512, 0.0))))


def test_both_are_timed():
    timing = time_attention({"one": plain_attention, "other": plain_attention}, AttentionUse(), {}, rounds=1)
    assert set(timing.seconds) == {"one", "other"}
    assert all(seconds > 0 for seconds in timing.seconds.values())
