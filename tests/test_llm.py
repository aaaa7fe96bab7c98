"""LLM as a user meets it, with the bundled model: answers, streams, bad input, life and death."""

import gc
import json
import os
import shutil
import subprocess
import sys
import textwrap
import threading
import time
import weakref

import pytest
from async_thread import run_async
from tqdm import TMonitor

from workbench import LLM, RequestOutput, SamplingParams, simulate
from workbench.core.errors import (
    ConfigError,
    EmptyPromptError,
    EngineClosedError,
    InvalidRequestError,
    KVCacheTooSmallError,
    ModelLoadError,
    PromptTooLongError,
    RequestNeverFitsError,
    SamplingParamsError,
    TokenOutOfVocabularyError,
    UnsafeModelError,
    WorkbenchError,
)
from workbench.embedded import model_path

GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
PROMPT = "Once upon a time, there was a"


@pytest.fixture(scope="module")
def llm():
    with LLM(num_gpu_blocks_override=48) as made:
        yield made


@pytest.fixture(scope="module")
def expected(llm):
    return llm.generate(PROMPT, GREEDY)[0].outputs[0]


def test_prompts_come_in_every_form(llm, expected):
    ids = llm.get_tokenizer().encode(PROMPT)
    forms = [PROMPT, ids, {"prompt": PROMPT}, {"prompt_token_ids": ids}, tuple(ids)]
    outputs = llm.generate(forms, GREEDY)
    assert [o.outputs[0].token_ids for o in outputs] == [expected.token_ids] * 5
    assert [o.prompt for o in outputs] == [PROMPT, None, PROMPT, None, None]
    assert outputs[0].outputs[0].text == expected.text
    assert llm.generate(ids, GREEDY)[0].outputs[0].token_ids == expected.token_ids
    assert all(isinstance(o, RequestOutput) and o.finished for o in outputs)


def test_one_params_or_one_each(llm):
    params = [SamplingParams(temperature=0, max_tokens=n, ignore_eos=True) for n in (3, 5)]
    outputs = llm.generate([PROMPT, PROMPT], params, priority=[0, 1])
    assert [len(o.outputs[0].token_ids) for o in outputs] == [3, 5]
    assert len(llm.generate(PROMPT)[0].outputs[0].token_ids) <= 16


def test_metrics_are_filled_and_ordered(llm):
    metrics = llm.generate(PROMPT, GREEDY)[0].metrics
    moments = [metrics.arrival_time, metrics.first_scheduled_time, metrics.first_token_time, metrics.finished_time]
    assert moments == sorted(moments)


def test_stream_and_astream_give_the_same_text_as_generate(llm, expected):
    assert "".join(map(str, llm.stream(PROMPT, GREEDY))) == expected.text

    async def read():
        return "".join([piece.text async for piece in llm.astream(PROMPT, GREEDY)])

    assert run_async(read()) == expected.text


def test_leaving_a_stream_early_cancels_its_request(llm):
    llm.set_speed(50.0)
    stream = llm.stream(PROMPT, SamplingParams(temperature=0, max_tokens=200, ignore_eos=True))
    next(stream)
    stream.close()
    llm.set_speed(None)
    ended = wait_for(lambda: [f for r in llm.trace.records()[-50:] for f in r.finished if f.finish_reason == "abort"])
    assert len(ended) == 1


def test_submit_returns_at_once_and_results_come_later(llm, expected):
    llm.pause()
    handle = llm.submit(PROMPT, GREEDY, priority=3)
    assert not handle.done()
    records = llm.step(2)
    assert [len(r.sampled) for r in records] == [1, 1]
    llm.resume()
    assert handle.result(30).outputs[0].token_ids == expected.token_ids
    assert "finished" in repr(handle)


def test_seeds_make_a_request_independent_of_its_neighbours(llm):
    params = SamplingParams(temperature=1.0, max_tokens=10, seed=11, ignore_eos=True)
    alone = llm.generate(PROMPT, params)[0].outputs[0].token_ids
    others = SamplingParams(temperature=1.0, max_tokens=14, seed=5, ignore_eos=True)
    crowd = llm.generate([PROMPT, "The cat", PROMPT], [others, others, params])
    assert crowd[2].outputs[0].token_ids == alone
    assert crowd[0].outputs[0].token_ids[:10] != alone


def test_n_completions_share_prompt_blocks_and_differ(llm):
    output = llm.generate(PROMPT * 3, SamplingParams(n=3, max_tokens=12, seed=1, ignore_eos=True))[0]
    assert len({c.token_ids for c in output.outputs}) == 3
    records = llm.trace.records()[-40:]
    kinds = [e.kind for r in records for e in r.block_events if e.request_id.startswith(output.request_id + ".")]
    assert kinds.count("copy") == 2
    seeds = [SamplingParams(max_tokens=12, seed=1 + i, ignore_eos=True) for i in range(3)]
    singles = llm.generate([PROMPT * 3] * 3, seeds)
    assert [s.outputs[0].token_ids for s in singles] == [c.token_ids for c in output.outputs]


def test_stop_strings_and_logprobs(llm, expected):
    word = expected.text.split()[2]
    stopped = llm.generate(PROMPT, SamplingParams(temperature=0, max_tokens=50, stop=word, logprobs=2))[0].outputs[0]
    assert stopped.finish_reason == "stop"
    assert stopped.stop_reason == word
    assert expected.text.startswith(stopped.text)
    assert word not in stopped.text
    for token, found in zip(stopped.token_ids, stopped.logprobs, strict=True):
        assert next(iter(found)) == token
        assert found[token].rank == 1
        assert len(found) == 2
        assert found[token].logprob == max(entry.logprob for entry in found.values())
    assert stopped.cumulative_logprob == pytest.approx(
        sum(f[t].logprob for t, f in zip(stopped.token_ids, stopped.logprobs, strict=True))
    )


def test_chat_goes_through_the_models_template(llm, tmp_path):
    folder = tmp_path / "chatty"
    shutil.copytree(model_path(), folder)
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    (folder / "chat_template.jinja").write_text(template)
    talk = [{"role": "user", "content": "Tell me of a fox."}]
    expected = llm.get_tokenizer().encode("user: Tell me of a fox.\nassistant:")[1:]  # the template adds no first token
    with LLM(folder, num_gpu_blocks_override=48) as chatty:
        one = chatty.chat(talk, GREEDY)
        assert list(one[0].prompt_token_ids) == expected
        two = chatty.chat([talk, talk], GREEDY)
        assert [o.outputs[0].token_ids for o in two] == [one[0].outputs[0].token_ids] * 2


def test_the_trace_and_the_client_agree_on_the_time_to_first_token(llm):
    output = llm.generate(PROMPT, GREEDY)[0]
    told = sum(segment.seconds for segment in llm.why(output).waterfall)
    # The client's clock stops when the token is handed over, the step's when its record is written: one step's end.
    assert told == pytest.approx(output.metrics.time_to_first_token, abs=0.05)


def test_waiting_for_a_pause(llm):
    llm.break_on("first_token")
    handle = llm.submit(PROMPT, GREEDY)
    status = llm.wait_until_paused(timeout=30)
    assert status.state == "paused"
    assert status.stopped_by == f"first_token: {handle.request_id} got its first token"
    llm.clear_breakpoints()
    assert llm.breakpoints == ()
    llm.resume()
    assert handle.result(30).finished
    assert llm.wait_until_paused(timeout=30).state == "idle"


BAD_REQUESTS = [
    ("", {}, EmptyPromptError, "no tokens"),
    ([], {}, InvalidRequestError, ""),
    ([[]], {}, EmptyPromptError, "no tokens"),
    ([[1, 10**9]], {}, TokenOutOfVocabularyError, "vocabulary"),
    ([[1, -1]], {}, TokenOutOfVocabularyError, "-1"),
    ([[1] * 2000], {}, PromptTooLongError, "max_model_len=1024"),
    ([[1] * 900], {"max_tokens": 200}, RequestNeverFitsError, "whole pool has 48"),
    ({"text": "x"}, {}, InvalidRequestError, "prompt_token_ids"),
    ({"prompt": "x", "images": []}, {}, InvalidRequestError, "images"),
    ([{"prompt_token_ids": "abc"}], {}, InvalidRequestError, "whole numbers"),
    (17, {}, InvalidRequestError, "prompts must be"),
    (None, {}, InvalidRequestError, "prompts must be"),
]


@pytest.mark.parametrize(("prompts", "params", "error", "text"), BAD_REQUESTS)
def test_bad_prompts_are_refused_and_nothing_is_lost(llm, expected, prompts, params, error, text):
    before = llm.snapshot()
    if prompts == []:
        assert llm.generate([]) == []
        return
    with pytest.raises(error, match=text):
        llm.generate(prompts, SamplingParams(**params))
    assert llm.snapshot() == before
    assert llm.generate(PROMPT, GREEDY)[0].outputs[0].token_ids == expected.token_ids


def test_one_bad_prompt_among_good_ones_leaves_none_behind(llm):
    before = llm.snapshot()
    with pytest.raises(EmptyPromptError):
        llm.generate([PROMPT, "", PROMPT])
    assert llm.snapshot() == before


def test_bad_arguments_of_calls(llm):
    with pytest.raises(ConfigError, match="2 entries for 1 prompts"):
        llm.generate(PROMPT, [GREEDY, GREEDY])
    with pytest.raises(ConfigError, match="SamplingParams"):
        llm.generate(PROMPT, {"temperature": 0})
    with pytest.raises(SamplingParamsError, match="finite"):
        SamplingParams(temperature=float("nan"))
    with pytest.raises(ConfigError, match="chat template"):
        llm.chat([{"role": "user", "content": "hello"}])
    with pytest.raises(InvalidRequestError, match="empty"):
        llm.chat([])
    with pytest.raises(ConfigError, match="max_model_len"):
        llm.configure(max_model_len=32)
    with pytest.raises(ConfigError, match="dashboard"):
        llm.view("nonsense")


def own_threads() -> set[threading.Thread]:
    """All but the one that tqdm keeps for its bars, from the first bar of the process on."""
    return {thread for thread in threading.enumerate() if not isinstance(thread, TMonitor)}


@pytest.mark.parametrize(
    ("settings", "error", "text"),
    [
        ({"max_num_seq": 3}, ConfigError, "max_num_seqs"),
        ({"gpu_memory_utilization": 1.5}, ConfigError, "at most 1"),
        ({"scheduling_policy": "random"}, ConfigError, "fcfs"),
        ({"max_model_len": 10**6}, ConfigError, "max_model_len"),
        ({"device": "tpu"}, ConfigError, "device"),
        ({"kv_cache_memory_bytes": 10}, KVCacheTooSmallError, "block"),
        ({"model": "/nowhere/at/all"}, ModelLoadError, "nowhere"),
    ],
)
def test_bad_settings_are_refused(settings, error, text):
    threads = own_threads()
    with pytest.raises(error, match=text):
        LLM(**settings)
    assert own_threads() == threads


def test_bad_model_folders_are_refused(tmp_path):
    with pytest.raises(ModelLoadError, match=r"config\.json"):
        LLM(tmp_path)
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(ModelLoadError, match="cannot be read"):
        LLM(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "no-such-model"}))
    with pytest.raises(ModelLoadError, match="transformers cannot read"):
        LLM(tmp_path)
    config = json.loads((model_path() / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "auto_map": {"AutoModelForCausalLM": "evil.Model"}}))
    (tmp_path / "evil.py").write_text("raise SystemExit('ran code from a model folder')")
    with pytest.raises(UnsafeModelError, match="trust_remote_code"):
        LLM(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(UnsafeModelError, match="safetensors"):
        LLM(tmp_path)


def test_settings_show_what_was_asked_for_and_what_is_in_force(llm):
    assert llm.settings["max_num_batched_tokens"] == (None, 512)
    assert llm.settings["dtype"] == ("auto", "float32")
    assert "max_num_seqs" in repr(llm.settings)
    assert "<table>" in llm.settings._repr_html_()
    llm.configure(max_num_seqs=9)
    assert llm.settings["max_num_seqs"] == (9, 9)
    llm.configure(max_num_seqs=64)


def test_the_trace_equals_the_engine_after_real_work(llm):
    llm.generate([PROMPT] * 4, GREEDY)
    assert llm.trace.at() == llm.snapshot()


def test_memory_rows_name_the_weights_and_the_pool(llm):
    ledger = llm.memory()
    rows = ledger.by_kind()
    assert rows["weights"] == llm.model.weight_bytes > 0
    kv = rows["kv_used"] + rows["kv_cached"] + rows["kv_free"]
    assert kv == 48 * 16 * llm.model.kv_bytes_per_token
    assert ledger.total == sum(row.bytes for row in ledger) == ledger.device.own_bytes
    assert "rest of this process" in repr(ledger)


def engine_threads():
    return [t for t in threading.enumerate() if t.name.startswith("workbench")]


def test_after_a_shutdown_everything_is_given_back_and_use_is_refused():
    before = len(engine_threads())
    for _ in range(2):
        llm = LLM(num_gpu_blocks_override=32)
        pool = weakref.ref(llm._loop.core.runner._kv)
        model = weakref.ref(llm._loop.core.runner._model)
        llm.generate(PROMPT, GREEDY)
        llm.shutdown()
        llm.shutdown()
        gc.collect()
        assert pool() is None
        assert model() is None
        assert len(engine_threads()) == before
        for use in (lambda llm=llm: llm.generate(PROMPT), lambda llm=llm: llm.submit(PROMPT), llm.pause, llm.dashboard):
            with pytest.raises(EngineClosedError, match="make a new LLM"):
                use()
        assert llm.status().state == "closed"
        assert len(llm.trace) >= 12  # what happened can still be looked at


def test_an_engine_nobody_refers_to_ends_by_itself():
    before = len(engine_threads())
    llm = LLM(num_gpu_blocks_override=32)
    view = llm.dashboard()
    core = weakref.ref(llm._loop.core)
    llm.generate(PROMPT, GREEDY)
    llm = None
    gc.collect()
    wait_for(lambda: core() is None)
    assert len(engine_threads()) == before
    view.close()


def test_a_handle_keeps_its_engine():
    handle = LLM(num_gpu_blocks_override=32).submit(PROMPT, GREEDY)
    gc.collect()
    assert len(handle.result(60).outputs[0].token_ids) == 12


def test_two_engines_side_by_side_do_not_mix(llm, expected):
    with LLM(num_gpu_blocks_override=32, max_num_batched_tokens=16) as other:
        assert other.engine_id != llm.engine_id
        threads = [
            threading.Thread(target=lambda e=e, i=i: found.__setitem__(i, e.generate([PROMPT] * 3, GREEDY)))
            for i, e in enumerate((llm, other))
        ]
        found = {}
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    for outputs in found.values():
        assert [o.outputs[0].token_ids for o in outputs] == [expected.token_ids] * 3


def test_interrupting_a_cell_cancels_its_requests_and_the_engine_goes_on():
    script = """
    import os, signal, threading
    from workbench import LLM, SamplingParams
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job is started with interrupts ignored
    llm = LLM(num_gpu_blocks_override=64)
    greedy = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
    expected = llm.generate("Once upon a time", greedy)[0].outputs[0].token_ids
    for trial in range(20):
        timer = threading.Timer(0.01 + 0.005 * trial, lambda: os.kill(os.getpid(), signal.SIGINT))
        llm.set_speed(100.0)
        timer.start()
        try:
            llm.generate(["The dog ran"] * 8, SamplingParams(max_tokens=400, ignore_eos=True), use_tqdm=False)
            raise SystemExit("was not interrupted")
        except KeyboardInterrupt:
            pass
        llm.set_speed(None)
        assert llm.generate("Once upon a time", greedy, use_tqdm=False)[0].outputs[0].token_ids == expected
    llm._loop.call(llm._loop.core.scheduler.check_invariants)
    assert llm.snapshot().requests == {}, llm.snapshot()
    print("clean")
    """
    assert run_script(script) == "clean"


def test_leaving_python_with_an_engine_at_work_is_clean():
    script = """
    from workbench import LLM, SamplingParams
    llm = LLM(num_gpu_blocks_override=64)
    llm.submit("Once upon a time", SamplingParams(max_tokens=900, ignore_eos=True))
    print("end")
    """
    assert run_script(script) == "end"


def test_every_error_of_ours_is_named():
    for error in (EmptyPromptError, ConfigError, UnsafeModelError, EngineClosedError):
        assert issubclass(error, WorkbenchError)


def run_script(script):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "PYTHONFAULTHANDLER": "1"},
        cwd=os.path.expanduser("~"),
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip().splitlines()[-1]


def wait_for(ready, seconds=30.0):
    end = time.monotonic() + seconds
    while not (found := ready()):
        assert time.monotonic() < end, "waited in vain"
        gc.collect()
        time.sleep(0.01)
    return found


def test_a_real_run_is_repeated_decision_by_decision():
    """With preemptions, shared prefixes, n > 1, a cancelled request, turned knobs and a stop that the model chose."""
    with LLM(num_gpu_blocks_override=16, max_num_batched_tokens=32, max_num_seqs=6) as llm:
        llm.pause()
        long = SamplingParams(temperature=0.8, max_tokens=90, ignore_eos=True, seed=1)
        handles = [llm.submit(PROMPT + " little" * index, long) for index in range(5)]
        handles.append(llm.submit(PROMPT, SamplingParams(temperature=0.9, n=2, max_tokens=30, seed=2)))
        handles.append(llm.submit("The end", SamplingParams(temperature=0, max_tokens=200, stop=["."])))
        llm.step(30)
        handles[4].cancel()
        llm.configure(max_num_seqs=3)
        llm.resume()
        for handle in handles:
            handle.result(60)
        llm.pause()
        recorded = llm.trace.records()
        repeated = simulate(llm.trace, step_times="recorded").trace.records()
    assert any(d.action == "preempt" for r in recorded for d in r.decisions)
    assert any(d.num_cached for r in recorded for d in r.decisions)
    assert {f.finish_reason for r in recorded for f in r.finished} >= {"abort", "length", "stop"}
    assert len(repeated) == len(recorded)
    for ours, theirs in zip(repeated, recorded, strict=True):
        assert ours.decisions == theirs.decisions, ours.step
        assert ours.block_events == theirs.block_events, ours.step
        assert ours.sampled == theirs.sampled, ours.step
