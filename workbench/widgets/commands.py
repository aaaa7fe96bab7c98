"""What a view may ask of an engine. Commands are posted, never waited for, so that a page's thread stays free."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any

from workbench.core.errors import ConfigError, InvalidRequestError, WorkbenchError
from workbench.core.sampling_params import SamplingParams
from workbench.engine.breakpoints import make_breakpoint
from workbench.engine.change import Change
from workbench.engine.client import EngineClient
from workbench.engine.knobs import WEIGHTS
from workbench.widgets.traffic_commands import TRAFFIC, start_what_if

Reply = Callable[[dict[str, Any]], None]

MAX_PROMPTS = 64


def run_command(
    client: EngineClient, name: str, args: Mapping[str, Any], reply: Reply, gone: Callable[[], bool]
) -> None:
    """Run a view's command; reply gets {"ok": True, "result": ...} or {"ok": False, "error": ...}, maybe later.

    gone: whether the view has gone, for what would only go on for its sake.
    """
    if name == "what_if":
        answer_command(lambda: start_what_if(client, args, gone), reply)
    else:
        answer_command(lambda: _dispatch(client, name, args), reply)


def answer_command(run: Callable[[], Any], reply: Reply) -> None:
    """Reply with what `run` returns or raises; with what comes of a future when it comes."""
    try:
        result = run()
    except Exception as error:
        reply(_failure(error))
        return
    if not isinstance(result, Future):
        reply({"ok": True, "result": result})
        return

    def finish(future: "Future[Any]") -> None:
        error = future.exception()
        if error is not None:
            reply(_failure(error))
            return
        result = future.result()
        reply({"ok": True, "result": result.to_json() if isinstance(result, Change) else result})

    result.add_done_callback(finish)


def _dispatch(client: EngineClient, name: str, args: Mapping[str, Any]) -> Any:
    loop = client.loop
    if name == "pause":
        return loop.submit(loop.pause_now)
    if name == "resume":
        return loop.submit(loop.resume_now)
    if name == "step":
        loop.step(args.get("n", 1))
        return None
    if name == "set_speed":
        return loop.submit(loop.speed_change(args["steps_per_second"]))
    if name == "configure":
        return _configure(client, dict(args))
    if name == "predict":
        changes = dict(args)
        return loop.submit(lambda: loop.core.predict(changes))
    if name == "submit":
        return {"request_ids": _submit(client, args)}
    if name == "cancel":
        client.cancel(args["request_id"])
        return None
    if name == "break_on":
        point = make_breakpoint(**_only(args, "event", "request", "free_blocks_under", "step_longer_than"))
        return loop.submit(lambda: loop.add_breakpoint_now(point))
    if name == "clear_breakpoints":
        return loop.submit(loop.clear_breakpoints_now)
    if name == "set_priority":
        return loop.submit(lambda: loop.core.set_priority(args["request_id"], args["priority"]))
    if name == "move_to_front":
        return loop.submit(lambda: loop.core.move_to_front(args["request_id"]))
    if name == "why":
        return loop.core.trace.why(args["request_id"]).to_json()
    if name in TRAFFIC:
        return TRAFFIC[name](client, args)
    if name == "abort_all":
        return loop.submit(loop.core.abort_all)
    raise ConfigError(f"there is no command {name!r}")


def _configure(client: EngineClient, changes: dict[str, Any]) -> "Future[Change]":
    """New weights take their time to read: steps go on meanwhile, and so does the page's thread."""
    if not any(name in changes for name in WEIGHTS):
        return client.loop.submit(lambda: client.loop.core.configure(changes))
    done: Future[Change] = Future()

    def run() -> None:
        try:
            done.set_result(client.configure(changes))
        except Exception as error:
            done.set_exception(error)

    threading.Thread(target=run, name="workbench-configure", daemon=True).start()
    return done


def _only(args: Mapping[str, Any], *names: str) -> dict[str, Any]:
    unknown = sorted(set(args) - set(names))
    if unknown:
        raise ConfigError(f"unknown arguments {unknown}; known ones are {', '.join(names)}")
    return dict(args)


def _submit(client: EngineClient, args: Mapping[str, Any]) -> list[str]:
    prompts, priority = args.get("prompts"), args.get("priority", 0)
    if not isinstance(prompts, list) or not 0 < len(prompts) <= MAX_PROMPTS:
        raise InvalidRequestError(f"give 1 to {MAX_PROMPTS} prompts")
    if not all(isinstance(prompt, str) or _is_token_ids(prompt) for prompt in prompts):
        raise InvalidRequestError("a prompt from a view is a text or {prompt_token_ids: [whole numbers]}")
    params = SamplingParams.from_dict(args.get("params", {}))
    streams = client.submit(prompts, [params] * len(prompts), [priority] * len(prompts))
    return [stream.request_id for stream in streams]


def _is_token_ids(prompt: Any) -> bool:
    if not isinstance(prompt, dict) or set(prompt) != {"prompt_token_ids"}:
        return False
    ids = prompt["prompt_token_ids"]
    return isinstance(ids, list) and all(isinstance(i, int) and not isinstance(i, bool) for i in ids)


def _failure(error: BaseException) -> dict[str, Any]:
    """Errors made for people are shown as they are; anything else also tells its kind."""
    message = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
    return {"ok": False, "error": {"kind": type(error).__name__, "message": message}}
