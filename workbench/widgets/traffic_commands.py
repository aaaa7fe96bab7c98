"""What goes on beside an engine for a view, as commands: traffic, what-if, comparing, measuring; one of each kind."""

import weakref
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from workbench.core.errors import ConfigError
from workbench.core.policy import POLICIES
from workbench.engine.client import EngineClient
from workbench.limits_job import LimitsJob
from workbench.lockstep_job import LockstepJob
from workbench.sim import Workload
from workbench.sim.recipe import preview, workload_from_recipe
from workbench.traffic_job import TrafficJob
from workbench.what_if import WhatIfJob, policy_copy

SIMULATING = "a simulation is going on already; stop it, or wait for its end"


def _workload(client: EngineClient, recipe: Mapping[str, Any]) -> Workload:
    return workload_from_recipe(recipe, client.loop.core.scheduler.config.vocab_size)


def _preview(client: EngineClient, args: Mapping[str, Any]) -> dict[str, Any]:
    return preview(_workload(client, args["recipe"]))


def _start(client: EngineClient, args: Mapping[str, Any]) -> None:
    _only_one(client, "traffic", "traffic is on its way to this engine already; stop it, or wait for its end")
    client.jobs["traffic"] = TrafficJob(client, _workload(client, args["recipe"]))


def start_what_if(client: EngineClient, args: Mapping[str, Any], gone: Callable[[], bool]) -> "Future[dict[str, Any]]":
    """Begin the simulation that a view asks for; it ends with the engine, and when `gone` says that the view went.

    A policy of the reader's own is simulated with by its name, or where it is in force and no other is asked for.
    """
    _only_one(client, "what_if", SIMULATING)
    core, owner = client.loop.core, weakref.ref(client)
    in_force = core.scheduler.policy
    recipe, settings = args.get("recipe"), dict(args.get("settings", {}))
    wanted = settings.get("scheduling_policy")
    if isinstance(wanted, str) and wanted in core.own_policies:
        settings["scheduling_policy"] = policy_copy(core.own_policies[wanted])
    job = WhatIfJob(
        core.trace,
        settings,
        None if recipe is None else _workload(client, recipe),
        policy=None if POLICIES.get(in_force.name) is type(in_force) else in_force,
        gone=lambda: gone() or _closed(owner()),
    )
    client.jobs["what_if"] = job
    job.future.add_done_callback(lambda _: core.hooks.emit_rest())
    return job.future


def _closed(client: EngineClient | None) -> bool:
    return client is None or client.loop.status().state == "closed"


def _measure(client: EngineClient, args: Mapping[str, Any]) -> None:
    _only_one(client, "limits", "the machine is being measured already; wait for its end, or stop it")
    client.jobs["limits"] = LimitsJob(client)


def _compare(client: EngineClient, args: Mapping[str, Any]) -> dict[str, Any]:
    _only_one(client, "lockstep", "two engines are being compared already; stop that, or wait for its end")
    prompts, max_tokens, against = args.get("prompts"), args.get("max_tokens"), args.get("against")
    if not isinstance(prompts, list) or not isinstance(max_tokens, int) or not isinstance(against, Mapping):
        raise ConfigError("lockstep takes prompts, a list; max_tokens, a whole number; and against, a mapping")
    job = LockstepJob(client, prompts, max_tokens, against)
    client.jobs["lockstep"] = job
    return {"run": job.run}


def _stop(kind: str) -> Callable[[EngineClient, Mapping[str, Any]], None]:
    def stop(client: EngineClient, args: Mapping[str, Any]) -> None:
        if kind in client.jobs:
            client.jobs[kind].stop()

    return stop


def _only_one(client: EngineClient, kind: str, message: str) -> None:
    if kind in client.jobs and client.jobs[kind].running:
        raise ConfigError(message)


TRAFFIC: dict[str, Callable[[EngineClient, Mapping[str, Any]], Any]] = {
    "traffic_preview": _preview,
    "traffic_start": _start,
    "traffic_stop": _stop("traffic"),
    "what_if_stop": _stop("what_if"),
    "lockstep": _compare,
    "lockstep_stop": _stop("lockstep"),
    "measure_machine": _measure,
    "measure_machine_stop": _stop("limits"),
}
