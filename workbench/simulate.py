"""What if? The same arrivals under other settings, with the engine's own scheduler and a clock that costs nothing."""

import html
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.compare import Comparison, Side
from workbench.core.config import SchedulerConfig
from workbench.core.errors import ConfigError
from workbench.core.policy import POLICIES, Policy, make_policy
from workbench.sim import CostModel, Simulator, Workload, features_of
from workbench.sim.batching import make_batching
from workbench.sim.memory_account import MemoryAccount, MemorySample
from workbench.sim.rerun import Rerun
from workbench.sim.settings import SETTINGS, changed_config, recorded_config, stated_config
from workbench.tables import html_table, text_table, time_cell
from workbench.trace import Trace
from workbench.trace.metrics import PERCENTILES, SequenceMetrics, measure, summarize

STEP_TIMES = ("model", "recorded")


class Simulation:
    """A run that was simulated. Views, `trace.why`, `trace.save` and `trace.to_html` take `trace` like any other.

    metrics: sequence id -> what it got. memory: KV slots held in each step, in blocks and had they been reserved in one
    piece. cost_model: None when the step times are recorded ones. refused: request id -> why the scheduler did not take
    it. messages: what else a reader should know.
    """

    def __init__(
        self,
        name: str,
        trace: Trace,
        memory: MemoryAccount,
        *,
        config: SchedulerConfig,
        cost_model: CostModel | None,
        refused: Mapping[str, str],
        messages: Sequence[str],
    ) -> None:
        self.name = name
        self.trace = trace
        self.config = config
        self.cost_model = cost_model
        self.refused = dict(refused)
        self.messages = tuple(messages)
        self.metrics: dict[str, SequenceMetrics] = measure(trace)
        self.kv_waste = memory.waste()
        self.memory: tuple[MemorySample, ...] = tuple(memory.samples)
        waste = {f"kv_waste_{scheme}": share for scheme, share in self.kv_waste.items()}
        self._summary = {**summarize(trace.records(), self.metrics), **waste}

    def summary(self) -> dict[str, float]:
        """The run in numbers: seconds, tokens a second, percentiles named ttft_p50 and so on, shares of waste."""
        return dict(self._summary)

    def compare(self, other: "Simulation | Trace") -> Comparison:
        """Which request gained in `other` against this run, which lost, and why."""
        return compare(self, other)

    def __repr__(self) -> str:
        return "\n".join([self._headline(), text_table(*self._table()), *self._notes()])

    def _repr_html_(self) -> str:
        notes = "".join(f"<div>{html.escape(note)}</div>" for note in self._notes())
        return f"<b>{html.escape(self._headline())}</b>{html_table(*self._table())}{notes}"

    def _headline(self) -> str:
        s = self.summary()
        return (
            f"Simulation({self.name}): {len(self.metrics)} requests, {len(self.trace)} steps, {s['seconds']:.3g} s, "
            f"{s['output_tokens_per_second']:.0f} output tokens/s, {s['preemptions']:.0f} preemptions"
        )

    def _table(self) -> tuple[list[str], list[list[str]]]:
        s = self.summary()
        names = {"ttft": "time to first token", "itl": "between tokens", "e2e": "end to end", "queue": "in the queue"}
        rows = [[label, *(time_cell(s[f"{key}_p{q}"]) for q in PERCENTILES)] for key, label in names.items()]
        return ["", *(f"p{q}" for q in PERCENTILES)], rows

    def _notes(self) -> list[str]:
        labels = {
            "paged": "in blocks",
            "contiguous_exact": "reserved for the true length",
            "contiguous_pow2": "for the next power of two",
            "contiguous_max": "for max_model_len",
        }
        told = ", ".join(f"{self.kv_waste[scheme]:.1%} {label}" for scheme, label in labels.items())
        return [f"KV memory held and not used: {told}.", *self.messages]


def simulate(
    what: Trace | Workload,
    *,
    cost_model: CostModel | None = None,
    like: Trace | None = None,
    batching: str = "continuous",
    step_times: str = "model",
    on_progress: Callable[[int], None] | None = None,
    **settings: Any,
) -> Simulation:
    """Run the arrivals of a trace, or a workload, through the engine's scheduler under other settings.

    settings, by vLLM's names: max_num_seqs, max_num_batched_tokens, max_model_len, block_size,
    num_gpu_blocks_override, enable_prefix_caching, enable_chunked_prefill, scheduling_policy (a name or a Policy).
    Those left out are the trace's, as they stood at its end; a policy of the reader's own must be passed again, as a
    trace only holds its name.
    like: the trace that gives settings and step times to a workload. cost_model: fitted to the trace if left out.
    batching: "static" lets a batch start together and admits nobody until all of it have ended.
    step_times="recorded" repeats a recorded run instead, with its own step times, settings, cancellations and tokens:
    the decisions come out as they were recorded. on_progress: called with the number of sequences that have ended, in
    place of a progress bar; what it raises ends the simulation.

    Raises ConfigError for an unknown setting, for too few recorded steps to fit a cost model to, and where a workload
    comes without settings.
    """
    if step_times not in STEP_TIMES:
        raise ConfigError(f"step_times must be one of {', '.join(STEP_TIMES)}, not {step_times!r}")
    source = what if isinstance(what, Trace) else like
    if step_times == "recorded":
        if not isinstance(what, Trace):
            raise ConfigError("step_times='recorded' repeats a recorded run; give its trace")
        if settings or cost_model is not None or like is not None or batching != "continuous":
            raise ConfigError("recorded step times belong to the recorded settings; leave the other settings out")
        return _rerun(what)
    policy = make_policy(settings.pop("scheduling_policy", None) or _known_policy(source, at_end=True))
    workload = Workload.from_trace(what) if isinstance(what, Trace) else what
    if source is None:
        config = stated_config(workload, settings)
    else:
        config = changed_config(_recorded_config(source, step=-1), settings)
    if cost_model is None:
        cost_model = _fitted(source)
    simulator = Simulator(
        workload,
        config,
        policy,
        lambda plan: cost_model.predict(features_of(plan.decisions)),
        gap=cost_model.gap,
        static=make_batching(batching, config.max_num_seqs),
    )
    how = f"simulated, {batching} batching"
    trace = _trace_of(simulator, config, policy, source, how, len(workload), on_progress)
    messages = []
    if workload.num_left_out:
        messages.append(f"{workload.num_left_out} recorded requests without any token or without arrival are left out.")
    if simulator.refused:
        name, reason = next(iter(simulator.refused.items()))
        messages.append(f"{len(simulator.refused)} requests were refused, as the engine would; {name}: {reason}")
    if (failure := simulator.scheduler.guard.failure) is not None:
        messages.append(failure)
    return Simulation(
        _name(workload.name, policy, batching, settings),
        trace,
        simulator.memory,
        config=config,
        cost_model=cost_model,
        refused=simulator.refused,
        messages=messages,
    )


def compare(first: Simulation | Trace, second: Simulation | Trace) -> Comparison:
    """Which request gained in the second run, which lost, and why. Runs are simulated or recorded; ids must match."""
    sides = (_side(first), _side(second))
    return Comparison((sides[0], sides[1]))


def _side(run: Simulation | Trace) -> Side:
    if isinstance(run, Simulation):
        settings = _settings_of(run.config, str(run.trace.info["settings"]["scheduling_policy"][1]))
        error = None if run.cost_model is None else run.cost_model.fit_error
        return Side(run.name, run.trace.records(), True, settings, error, run.messages)
    records = run.records()
    settings = _settings_of(_recorded_config(run, step=-1), _recorded_policy(run, at_end=True)) if records else {}
    return Side("the recorded run", records, False, settings)


def _settings_of(config: SchedulerConfig, policy: str) -> dict[str, str]:
    return {name: str(getattr(config, field)) for name, field in SETTINGS.items()} | {"scheduling_policy": policy}


def _rerun(recorded: Trace) -> Simulation:
    config, policy = _recorded_config(recorded, step=0), make_policy(_known_policy(recorded, at_end=False))
    rerun = Rerun(recorded.records(), config, policy)
    trace = _trace_of(rerun, config, policy, recorded, "repeated", 0)
    return Simulation(
        "the recorded run, repeated",
        trace,
        rerun.memory,
        config=config,
        cost_model=None,
        refused={},
        messages=[],
    )


def _trace_of(
    run: Simulator | Rerun,
    config: SchedulerConfig,
    policy: Policy,
    source: Trace | None,
    how: str,
    num_requests: int,
    on_progress: Callable[[int], None] | None = None,
) -> Trace:
    from tqdm.auto import tqdm  # chooses its notebook form by what is running it

    start = run.scheduler.snapshot()
    records = []
    finished = 0
    quiet = on_progress is not None
    total = num_requests or None
    with tqdm(total=total, desc="Simulating", unit="request", delay=1.0, leave=False, disable=quiet) as bar:
        for record in run.run():
            records.append(record)
            bar.update(len(record.finished))
            finished += len(record.finished)
            if on_progress is not None:
                on_progress(finished)
    info = _info(config, policy, source, how)
    trace = Trace(start, max(1, len(records)), info, None if source is None else source.token_text)
    for record in records:
        trace.append(record)
    return trace


def _fitted(source: Trace | None) -> CostModel:
    if source is None:
        raise ConfigError(
            "a workload alone does not say how long a step takes: give like=llm.trace (of an engine that has run "
            "something) or cost_model=CostModel.fit(llm.trace)"
        )
    return CostModel.fit(source)


def _recorded_config(source: Trace, step: int) -> SchedulerConfig:
    base, records = source.held()
    if not records:
        raise ConfigError("the trace holds no steps yet; run something first")
    return recorded_config(source.info, base, records, step)


def _recorded_policy(source: Trace | None, at_end: bool) -> str:
    """The name of the policy at a trace's beginning or end; first come, first served, where none is told."""
    if source is None:
        return "fcfs"
    name = source.info.get("settings", {}).get("scheduling_policy", ["", "fcfs"])[1]
    if at_end:
        for record in source:
            name = next((c.value for c in record.changes if c.name == "scheduling_policy"), name)
    return str(name)


def _known_policy(source: Trace | None, at_end: bool) -> str:
    name = _recorded_policy(source, at_end)
    if name not in POLICIES:
        hint = f"pass that policy as scheduling_policy=..., or choose one of {', '.join(POLICIES)}"
        raise ConfigError(
            f"the recorded run used the policy {name!r}, and a trace holds only its name; "
            + (hint if at_end else "so it cannot be repeated")
        )
    return name


def _name(workload: str, policy: Policy, batching: str, settings: Mapping[str, Any]) -> str:
    told = [batching] if batching != "continuous" else []
    told += [f"{name}={value}" for name, value in settings.items()]
    told += [policy.name] if policy.name != "fcfs" else []
    return f"{workload}: {', '.join(told)}" if told else workload


def _info(config: SchedulerConfig, policy: Policy, source: Trace | None, how: str) -> dict[str, Any]:
    """The engine's info as views read it (extension/PROTOCOL.md), for an engine that never was."""
    info: dict[str, Any] = {
        "model": "no model",
        "architecture": "none",
        "backend": "simulator",
        "device": "none",
        "dtype": "none",
        "num_parameters": 0,
        "num_layers": 0,
        "weight_bytes": 0,
        "settings": {},
        **({} if source is None else source.info),
    }
    in_force = {name: str(getattr(config, field)) for name, field in SETTINGS.items()}
    in_force["scheduling_policy"] = policy.name
    rows = dict(info["settings"])
    rows |= {name: [rows.get(name, [value])[0], value] for name, value in in_force.items()}
    return info | {
        "engine_id": "simulated",
        "model": f"{info['model']} ({how})",
        "max_model_len": config.max_model_len,
        "vocab_size": config.vocab_size,
        "settings": rows,
        "starters": [],
    }
