"""Traffic and what-if, as commands of a view: each goes on in a thread of its own, one of a kind for an engine."""

from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from workbench.core.errors import ConfigError
from workbench.engine.client import EngineClient
from workbench.sim import Workload
from workbench.sim.recipe import preview, workload_from_recipe
from workbench.trace import Trace
from workbench.traffic_job import TrafficJob
from workbench.what_if import WhatIfJob


def _workload(client: EngineClient, recipe: Mapping[str, Any]) -> Workload:
    return workload_from_recipe(recipe, client.loop.core.scheduler.config.vocab_size)


def _preview(client: EngineClient, args: Mapping[str, Any]) -> dict[str, Any]:
    return preview(_workload(client, args["recipe"]))


def _start(client: EngineClient, args: Mapping[str, Any]) -> None:
    _only_one(client, "traffic", "traffic is on its way to this engine already; stop it, or wait for its end")
    client.jobs["traffic"] = TrafficJob(client, _workload(client, args["recipe"]))


def _what_if(client: EngineClient, args: Mapping[str, Any]) -> "Future[dict[str, Any]]":
    _only_one(client, "what_if", "a simulation is going on already; stop it, or wait for its end")
    recipe = args.get("recipe")
    job = start_what_if(client.loop.core.trace, args, None if recipe is None else _workload(client, recipe))
    client.jobs["what_if"] = job
    return job.future


def start_what_if(trace: Trace, args: Mapping[str, Any], workload: Workload | None = None) -> WhatIfJob:
    """Begin the simulation that a view asks for, over any trace."""
    return WhatIfJob(trace, args.get("settings", {}), workload)


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
    "what_if": _what_if,
    "what_if_stop": _stop("what_if"),
}
