"""The engine in a terminal: prompts streamed side by side, with its requests and blocks."""

import sys
import time
from collections.abc import Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from workbench.core.errors import WorkbenchError
from workbench.core.reasons import explain
from workbench.core.records import Snapshot
from workbench.core.sampling_params import SamplingParams
from workbench.core.scheduler_output import Decision
from workbench.embedded import starters
from workbench.engine.handle import RequestHandle
from workbench.llm import LLM

COLOURS = ("bright_blue", "bright_yellow", "bright_green", "bright_magenta", "bright_cyan", "orange3", "bright_red")
REFRESH_SECONDS = 0.1
TEXT_LINES = 3
OTHER_COLUMNS = 58


def run_demo(
    prompts: Sequence[str], model: str | None, max_tokens: int, temperature: float, blocks: int, speed: float
) -> int:
    """Run the prompts and draw until they are done; returns the exit status."""
    console = Console()
    texts = list(prompts) or [starter["text"] for starter in starters()[:6]]
    try:
        with console.status("Loading the model ..."):
            llm = LLM(model, num_gpu_blocks_override=blocks, max_num_batched_tokens=64)
        with llm:
            params = SamplingParams(temperature=temperature, max_tokens=max_tokens, seed=1)
            if speed > 0:
                llm.set_speed(speed)
            began = time.monotonic()
            handles = [llm.submit(text, params) for text in texts]
            with Live(console=console, refresh_per_second=1 / REFRESH_SECONDS) as live:
                while True:
                    done = all(handle.done() for handle in handles)
                    live.update(draw(llm, handles, console.width))
                    if done:
                        break
                    time.sleep(REFRESH_SECONDS)
            seconds = time.monotonic() - began
            tokens = sum(len(handle.output().outputs[0].token_ids) for handle in handles)
            preempted = sum(handle.output().num_preemptions for handle in handles)
            limit = f", held to {speed:g} steps/s (--speed 0 lifts that)" if speed > 0 else ""
            console.print(
                f"{tokens} tokens in {len(llm.trace)} steps and {seconds:.1f} s{limit}; {preempted} preemptions. "
                "`make lab` shows the same engine with all its views."
            )
    except WorkbenchError as error:
        print(f"workbench demo: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def draw(llm: LLM, handles: Sequence[RequestHandle], width: int) -> Group:
    """One frame, width columns wide: texts, requests with what the last step decided about each, blocks."""
    state = llm.trace.at()
    room = TEXT_LINES * max(20, width - OTHER_COLUMNS)
    records = llm.trace.records(since=state.step)
    decisions = {d.request_id: d for d in records[-1].decisions} if records else {}
    colours = {handle.request_id: COLOURS[i % len(COLOURS)] for i, handle in enumerate(handles)}
    return Group(_requests(handles, state, decisions, colours, room), _blocks(state, colours))


def _requests(
    handles: Sequence[RequestHandle],
    state: Snapshot,
    decisions: dict[str, Decision],
    colours: dict[str, str],
    room: int,
) -> Table:
    table = Table(expand=True, pad_edge=False)
    for name, width in (("request", 7), ("now", 30), ("tokens", 7), ("blocks", 6)):
        table.add_column(name, width=width, justify="right" if name in ("tokens", "blocks") else "left")
    table.add_column("text", ratio=1)
    for handle in handles:
        output, name = handle.output(), handle.request_id
        completion = output.outputs[0]
        if completion.finish_reason is not None:
            now = f"finished: {completion.finish_reason}"
        else:
            now = explain(decisions[name]) if name in decisions else "arriving"
        shown = " ".join(((output.prompt or "") + completion.text).split())
        text = Text("…" if len(shown) > room else "")
        text.append(shown[-room:], style=None if handle.done() else colours[name])
        table.add_row(
            Text(name, style=colours[name]),
            Text(now),
            str(len(completion.token_ids)),
            str(len(state.block_tables.get(name, ()))),
            text,
        )
    return table


def _blocks(state: Snapshot, colours: dict[str, str]) -> Panel:
    """One character a block: its owner's colour, = if shared, · if free but cached, a blank if empty."""
    owners: dict[int, list[str]] = {}
    for name, table in state.block_tables.items():
        for block in table:
            owners.setdefault(block, []).append(name)
    picture = Text()
    for block in range(state.num_blocks):
        held = owners.get(block)
        if held:
            picture.append("≡" if len(held) > 1 else "■", style=colours.get(held[0].split(".")[0], "white"))
        else:
            picture.append("·" if state.block_hashes[block] else " ")
    used = state.num_blocks - len(state.free_blocks)
    title = f"step {state.step} · KV blocks: {used} of {state.num_blocks} in use (■ one owner, ≡ shared, · cached)"
    return Panel(picture, title=title, title_align="left")
