"""Two engines compared for a page: rows are what both engines wrote, and every way in which it can end."""

import gc
import threading
import weakref
from dataclasses import replace

import pytest

from tests.engine.helpers import VOCAB, Engine, wait_until
from tests.widgets.test_engine_widget import Page
from workbench import LLM, SamplingParams, lockstep_job
from workbench.core.errors import ConfigError, EngineClosedError
from workbench.core.scheduler_output import SampledToken
from workbench.engine.client import EngineClient
from workbench.quality.outputs import comparison
from workbench.sim.fake_runner import expected_tokens
from workbench.widgets.engine_widget import EngineWidget

PROMPTS = ["abcde", "fgh"]
PARTS = 4  # the place of the first prompt's answer at which the other engine takes another token


class Compared:
    """Two engines without a model, of which the second takes another token at one place, and a page of the first."""

    def __init__(self, first: Engine, second: Engine) -> None:
        self.engines = (first, second)
        self.clients = [EngineClient(engine.loop, engine.tokenizer) for engine in self.engines]
        first.core.trace.info["engine_id"], second.core.trace.info["engine_id"] = "first", "second"
        for engine, wrong in zip(self.engines, (False, True), strict=True):
            engine.runner.execute = self.execute(engine.runner.execute, wrong)
        self.clients[0].offer(self.clients[1])
        self.widget = EngineWidget(self.clients[0], "playground")
        self.page = Page(self.widget)

    def execute(self, execute, wrong):
        """The runner's tokens with probabilities; a wrong one takes another token at PARTS of the first prompt."""
        seen = {}

        def run(plan):
            output = execute(plan)
            sampled = {}
            for name, (token, *_) in output.sampled.items():
                place = seen[name] = seen.get(name, -1) + 1
                shares = ((token, -0.5), ((token + 1) % VOCAB, -1.5))
                if wrong and name == "r1" and place == PARTS:
                    shares = shares[::-1]
                sampled[name] = SampledToken(shares[0][0], shares[0][1], shares)
            return replace(output, sampled=sampled)

        return run

    def start(self, **changes):
        args = {"prompts": PROMPTS, "max_tokens": 12, "against": {"engine": "second"}, **changes}
        return self.page.command("lockstep", **args)

    @property
    def job(self):
        return self.clients[0].jobs["lockstep"]


@pytest.fixture
def compared():
    with Engine() as first, Engine() as second:
        yield Compared(first, second)


def received(page):
    """The newest comparison as a page has it after its frames."""
    head, rows = None, []
    for _, payload in list(page.frames):
        if (found := payload.get("lockstep")) is not None:
            if found["start"] == 0:
                head, rows = found["head"], []
            assert found["start"] == len(rows), "no row is missing or comes twice"
            rows += found["rows"]
    return head, rows


def tokens_on(engine, name):
    return [token.token_id for record in engine.core.trace for who, token in rows_of(record) if who == name]


def rows_of(record):
    return [(sampled.request_id, sampled) for sampled in record.sampled]


def test_a_page_gets_every_place_of_both_engines_once(compared):
    compared.page.tell(type="subscribe")
    assert compared.start()["ok"]
    wait_until(lambda: not compared.job.running)
    wait_until(lambda: len(received(compared.page)[1]) == 2 * 13)  # 12 places and the end, of both prompts
    head, rows = received(compared.page)
    assert head["prompts"] == [["abcde", "r1"], ["fgh", "r2"]]
    assert [side["kind"] for side in head["sides"]] == ["this", "other"]
    for side, engine in enumerate(compared.engines):
        for prompt, name in enumerate(("r1", "r2")):
            shown = [row[1 + side] for row in rows if row[0] == prompt]
            assert shown.pop() == "length"
            assert [token for token, _, _ in shown] == tokens_on(engine, name)
            assert all(alternatives[0][1] == logprob == -0.5 or logprob == -1.5 for _, logprob, alternatives in shown)
    a, b = ([row[1 + side][0] for row in rows if row[0] == 0 and row[1] != "length"] for side in (0, 1))
    assert a == expected_tokens([0, 1, 2, 3, 4], 12, VOCAB)
    assert a[:PARTS] == b[:PARTS]
    assert a[PARTS] != b[PARTS]
    (pair, other) = compared.job.result().pairs
    assert pair.diverges_at == PARTS
    assert [chosen.probability for chosen in pair.parting] == pytest.approx([0.6065, 0.2231], abs=1e-4)
    assert pair.parting[0].of_other == pytest.approx(0.2231, abs=1e-4)
    assert pair.summary == (
        f"equal for 4 of 12 tokens; first differs at token 5: '{chr(97 + a[4])}' 0.61 against '{chr(97 + b[4])}' 0.22"
    )
    assert other.summary == "equal in all 12 tokens"
    late = Page(compared.widget)
    late.tell(type="subscribe")
    wait_until(lambda: received(late)[1] == rows)
    assert compared.widget.answer() == compared.job.result()._repr_html_()
    texts = set(map(int, late.texts))
    assert {token for row in rows for side in row[1:] if side != "length" for token, _ in side[2]} <= texts


def test_an_engine_that_is_stepped_holds_the_comparison_at_its_own_pace(compared):
    compared.engines[0].loop.pause()
    compared.start()
    wait_until(lambda: compared.job.progress()["paused"] == 0)
    assert compared.job.rows == []
    for steps in (1, 2, 3):
        compared.engines[0].loop.step(1).result()
        wait_until(lambda steps=steps: len(compared.job.rows) == 2 * steps)
    assert compared.job.progress()["state"] == "running"
    compared.page.command("lockstep_stop")
    wait_until(lambda: not compared.job.running)
    assert compared.job.progress()["state"] == "stopped"
    assert len(compared.job.rows) == 6, "what was compared stays"
    compared.engines[0].loop.resume()
    wait_until(lambda: not compared.engines[0].core.has_work())
    assert {f.finish_reason for record in compared.engines[0].core.trace for f in record.finished} == {"abort"}
    assert compared.start()["ok"], "and another one may begin"
    wait_until(lambda: not compared.job.running)
    assert compared.job.progress()["state"] == "done"

    # A request that somebody else cancels ends it too, and it says which.
    compared.engines[0].loop.pause()
    compared.start()
    wait_until(lambda: compared.job.progress()["paused"] == 0)
    name = compared.job.head["prompts"][1][1]
    compared.clients[0].cancel(name)
    compared.engines[0].loop.resume()
    wait_until(lambda: not compared.job.running)
    assert compared.job.progress()["state"] == "stopped"
    assert compared.job.progress()["message"] == f"{name} was cancelled"


def test_one_comparison_at_a_time_and_it_ends_with_either_engine(compared):
    compared.engines[0].loop.pause()
    compared.start()
    again = compared.start()
    assert "being compared already" in again["error"]["message"]
    compared.page.command("lockstep_stop")
    wait_until(lambda: not compared.job.running)

    compared.engines[1].loop.pause()
    compared.start()
    wait_until(lambda: compared.job.progress()["paused"] == 0)
    compared.engines[1].loop.shutdown()
    wait_until(lambda: not compared.job.running)
    assert compared.job.progress()["state"] == "failed"
    assert "was shut down" in compared.job.progress()["message"]
    gone = compared.start()
    assert gone["error"]["kind"] == "EngineClosedError"
    assert compared.clients[0].others == []


def test_it_ends_with_its_own_engine(compared):
    compared.engines[1].loop.pause()
    compared.start()
    wait_until(lambda: compared.job.progress()["paused"] == 1)
    compared.engines[0].loop.shutdown()
    wait_until(lambda: not compared.job.running)
    assert compared.job.progress()["state"] == "stopped"
    compared.engines[1].loop.resume()
    wait_until(lambda: not compared.engines[1].core.has_work())
    wait_until(lambda: "workbench-lockstep" not in [thread.name for thread in threading.enumerate()])


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"prompts": []}, "InvalidRequestError", "1 to 8 prompts"),
        ({"prompts": ["a"] * 9}, "InvalidRequestError", "1 to 8 prompts"),
        ({"prompts": ["a", ""]}, "InvalidRequestError", "at least one letter"),
        ({"prompts": [[1, 2]]}, "InvalidRequestError", "is a text"),
        ({"prompts": ["a" * 200]}, "PromptTooLongError", "200"),
        ({"max_tokens": 0}, "SamplingParamsError", "max_tokens"),
        ({"max_tokens": "x"}, "ConfigError", "a whole number"),
        ({"against": {"engine": "nobody"}}, "EngineClosedError", "is gone"),
        ({"against": {"quantization": "int3"}}, "ConfigError", "int3"),
        ({"against": {"speed": 2}}, "ConfigError", "speed"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_its_reason(compared, changes, kind, message):
    refused = compared.start(**changes)
    assert refused["error"]["kind"] == kind
    assert message in refused["error"]["message"]
    assert "lockstep" not in compared.clients[0].jobs
    assert not compared.engines[0].core.has_work()


def test_only_another_live_engine_can_be_offered(compared):
    first, second = compared.clients
    with pytest.raises(ConfigError, match="itself"):
        first.offer(first)
    compared.engines[1].loop.shutdown()
    with pytest.raises(EngineClosedError, match="was shut down"):
        first.offer(second)


def test_models_of_other_vocabularies_are_not_offered():
    with Engine() as first, Engine(vocab_size=40) as second:
        compared = Compared(first, second)
        assert "50 and 40 tokens" in compared.start()["error"]["message"]


def assert_weights_may_not_change(llm, full, page, prompts):
    """Where the weights change while two engines are compared, the numbers would be of neither."""
    llm.client.offer(full.client)
    llm.pause()
    assert page.command("lockstep", prompts=prompts, max_tokens=24, against={"engine": full.engine_id})["ok"]
    job = llm.client.jobs["lockstep"]
    wait_until(lambda: job.progress()["paused"] == 0)
    llm.configure(quantization=None)
    wait_until(lambda: not job.running)
    assert job.progress()["state"] == "failed"
    assert "went from int4 to float32" in job.progress()["message"]


def test_a_copy_in_full_precision_is_made_for_the_comparison_and_given_back(monkeypatch):
    made = []

    def make_engine(args):
        engine = lockstep_make(args)
        made.append(weakref.ref(engine))
        return engine

    lockstep_make = lockstep_job.make_engine
    monkeypatch.setattr(lockstep_job, "make_engine", make_engine)
    prompts = ["Once upon a time", "The old bear was"]
    params = SamplingParams(temperature=0, max_tokens=24, logprobs=5)
    with LLM(quantization="int4", num_gpu_blocks_override=32) as llm:
        with pytest.raises(ConfigError, match="takes another LLM, not str"):
            llm.playground(compare_with="int8")
        page = Page(llm.playground())
        page.tell(type="subscribe")
        assert page.command("lockstep", prompts=prompts, max_tokens=24, against={"quantization": None})["ok"]
        job = llm.client.jobs["lockstep"]
        wait_until(lambda: not job.running, 120)
        assert job.progress()["state"] == "done", job.progress()
        assert job.head["sides"][1]["name"] == "float32"
        assert job.head["sides"][0]["name"] == "int4"
        with LLM(num_gpu_blocks_override=32) as full:
            for side, engine in ((1, llm), (2, full)):
                for prompt, output in enumerate(engine.generate(prompts, params, use_tqdm=False)):
                    rows = [row[side] for row in job.rows if row.prompt == prompt]
                    tokens = [row for row in rows if isinstance(row, SampledToken)]
                    completion = output.outputs[0]
                    assert tuple(token.token_id for token in tokens) == completion.token_ids
                    assert rows[-1] == completion.finish_reason
                    for token, known in zip(tokens, completion.logprobs, strict=True):
                        assert token.logprob == pytest.approx(known[token.token_id].logprob, abs=1e-4)
                        assert {id for id, _ in token.alternatives} <= set(known)
            assert_weights_may_not_change(llm, full, page, prompts)
        text = llm.get_tokenizer().token_text
        assert job.result() == comparison(job._names, prompts, job.rows, text)
        gc.collect()
        assert [ref() for ref in made] == [None], "the copy's memory is given back"
