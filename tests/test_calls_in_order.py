"""Where settings have to change one after the other, following the calls that are told gets there."""

import pytest

from workbench import LLM
from workbench.core.config import PoolShape
from workbench.core.errors import DoesNotFitError
from workbench.engine.calls import Room, calls_in_order
from workbench.runtime import memory, model_runner

POOL = PoolShape(10, 16, "float32", 100)


def settings(*arguments):
    return [dict(call.settings) for call in calls_in_order(*arguments)]


def test_the_pool_makes_room_and_takes_it_back():
    weights = {"quantization": None}
    assert settings(weights, POOL, POOL, Room(200, 800, 350)) == [
        {"kv_cache_memory_bytes": 500},  # 450 are lacking, and blocks have 100
        weights,
        {"kv_cache_memory_bytes": 700},  # 350 + 500 - 800 + 200 are free then: two blocks and a half
    ]
    assert settings(weights, POOL, POOL, Room(200, 800, 900)) == [], "one call does it"
    assert settings(weights, POOL, POOL, Room(200, 2000, 350)) == [], "all of the pool is not enough"


def test_a_larger_pool_comes_after_the_weights_that_make_room_for_it():
    asked = {"quantization": "int4", "kv_cache_memory_bytes": 2000, "max_num_seqs": 4}
    wanted = PoolShape(20, 16, "float32", 100)
    assert settings(asked, POOL, wanted, Room(900, 200, 350)) == [
        {"quantization": "int4", "max_num_seqs": 4},
        {"kv_cache_memory_bytes": 2000},
    ]
    packed = PoolShape(40, 16, "int8", 50)
    asked = {"quantization": "int4", "kv_cache_memory_bytes": 2000, "kv_cache_dtype": "int8"}
    [_, last] = calls_in_order(asked, POOL, packed, Room(900, 200, 250))
    assert last.settings == {"kv_cache_dtype": "int8", "kv_cache_memory_bytes": 1950}
    assert last.code == "llm.configure(kv_cache_dtype='int8', kv_cache_memory_bytes=1950)"
    assert "the most that fits" in last.why


def test_following_the_calls_works_and_loses_no_request(monkeypatch):
    with LLM(quantization="int4", num_gpu_blocks_override=256) as llm:
        runner = llm.client.loop.core.runner

        def held():
            return runner.spec.weight_bytes + sum(row.bytes for row in runner.memory() if row.kind == "kv")

        # A device with half of the room that the full weights need beside the packed ones.
        total = held() + runner.predict_weight_bytes(None) // 2
        for module in (memory, model_runner):
            monkeypatch.setattr(module, "free_bytes", lambda device: total - held())
        handle = llm.submit("Once upon a time")
        with pytest.raises(DoesNotFitError):
            llm.configure(quantization=None)
        why = llm.why_not(quantization=None)
        told = [line.split("  # ")[0].strip() for line in repr(why).splitlines() if line.startswith("    llm.")]
        assert told == [call.code for call in why.change.calls]
        assert len(told) == 3
        assert told[1] == "llm.configure(quantization=None)"
        assert all(code in why._repr_html_().replace("&#x27;", "'") for code in told)
        assert why.change.to_json()["calls"] == [[call.code, call.why] for call in why.change.calls]
        for code in told:
            eval(code, {"llm": llm})
        assert llm.settings["quantization"].resolved is None
        assert held() <= total
        pool = llm.client.loop.core.scheduler.config.pool
        assert total - held() < pool.bytes_per_block, "the pool took all that is free again"
        assert handle.result(60).finished
        # The other way round: the smaller weights first, then the pool that takes what they leave.
        before = llm.client.loop.core.scheduler.config.pool.num_bytes
        size = before + runner.spec.weight_bytes // 3
        calls = llm.why_not(quantization="int4", kv_cache_memory_bytes=size).change.calls
        assert [list(call.settings) for call in calls][-2:] == [["quantization"], ["kv_cache_memory_bytes"]]
        for call in calls:
            llm.configure(**call.settings)
        assert held() <= total


def test_what_no_order_of_calls_would_do_is_not_told_as_one():
    with LLM(num_gpu_blocks_override=64) as llm:
        assert llm.predict(quantization="fp8").calls == ()
        assert llm.predict(kv_cache_memory_bytes=1).calls == ()
